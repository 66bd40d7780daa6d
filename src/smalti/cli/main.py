"""The command line: parses, calls, reports. Every failure is one sentence on stderr and an exit code.

0 done; 1 the world's fault (a file, a disk, a network); 2 a usage error; 130 Ctrl-C.
"""

import io
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

import smalti
from smalti._checks import check_choice, check_real
from smalti._numba import told_of_compiling
from smalti.cli import terminal
from smalti.cli.corpus import (
    Exclude,
    Include,
    Limits,
    Longest,
    Loudest,
    Quietest,
    Shortest,
    Tags,
    Weights,
    filters_from,
    limits_from,
    weights_from,
)
from smalti.cli.corpus import app as corpus_app
from smalti.cli.score import app as score_app
from smalti.cli.score import render
from smalti.cli.terminal import Stopped, Terminated
from smalti.curves import Curve, as_varying
from smalti.dsp.phase import PHASES
from smalti.dsp.pitch import check_tracker
from smalti.dsp.stft import StftParams
from smalti.errors import SmaltiError
from smalti.grains.transposition import Transposition
from smalti.io.examples import EXAMPLES, example_name, fetch_example
from smalti.io.files import check_writable, make_folder
from smalti.io.melody import read_melody
from smalti.io.sound_write import write_audio
from smalti.io.stem_files import STEMS_BY
from smalti.metrics import MEASURES, Measure
from smalti.mosaicing.mosaic import assemble, part_of
from smalti.mosaicing.prepare import channel_jobs, looked_up, prepare, unsearched
from smalti.mosaicing.sketch import Stroke
from smalti.mosaicing.solve import solve_steps, solver_of
from smalti.presets import DEFAULT_PRESET, PRESETS, configure
from smalti.settings import CHANNELS, KNOBS, LOUDNESSES, MOST_SHIFT, WAYS, Settings
from smalti.workflows.blind import (
    DEFAULT_LENGTH_S,
    DEFAULT_ROUNDS,
    MOST_ROUNDS,
    PAGE,
    SHORTEST_S,
    check_folder,
    draw_rounds,
    key_of,
    read_contest,
    write_listening,
)
from smalti.workflows.inputs import NO_CHOICE, NOT_PAINTED, SourceSelection, read_inputs, read_painted
from smalti.workflows.judge import describe_case, judge_steps, measure_made, read_case
from smalti.workflows.memory import check_memory
from smalti.workflows.outputs import Outputs, check_outputs, figures_of
from smalti.workflows.report import describe, report_json, write_report
from smalti.workflows.write import write_outputs

app = typer.Typer(
    name="smalti",
    help="Audio mosaics: re-create a TARGET recording out of the sounds of a SOURCE.\n\n"
    "Start with:  smalti demo\n\n"
    "Then:  smalti make TARGET SOURCE -o mosaic.wav",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(corpus_app, name="corpus")
app.add_typer(score_app, name="score")
app.command()(render)


def _one_of(names: Iterable[str], help: str) -> Any:
    """An option that takes one of `names`: shown in the help, completed by the shell, checked by the library."""
    return typer.Option(metavar="|".join(names), autocompletion=lambda: list(names), help=help)


SUBTYPES = ("PCM_16", "PCM_24", "FLOAT")
Preset = Annotated[str, _one_of(PRESETS, "How to build it; see 'smalti presets'.")]

# Longer windows are no spectra any more, and the first thing they do is to fill the memory.
LONGEST_WINDOW = 2**17

# Names that open the library's sentences and are options here: start_s is --start. Nothing else in a sentence is
# touched, since a file may be called beta.wav.
_KNOBS = (
    "preset|layers|grain_length_s|drift|no_repeat_s|iterations|beta|phase|target_phase|channels|ear_weighting|loudness"
    "|level_db|level_follow|colour|attacks|transpose|keep_formants|tape|tune_cents|voices|purity|n_fft|hop|sr|weights|limits|sketch|start_s|end_s|length_s"
    "|shortest_s|longest_s|quietest_lufs|loudest_lufs"
)
_KNOB = re.compile(
    rf"^({_KNOBS})(?= )|(?<=^the (?:lower|upper) end of )transpose(?= )|(?<=than )start_s(?=,)"
    r"|(?<=at least )(?:shortest_s|quietest_lufs)(?=,)"
)

# What the library says to pass, and what that is here.
_PASSED = {
    "pass a range of semitones, which needs none, or 'off', or its pitch as source_f0": (
        "take semitones, which need none, such as --transpose=-12..12, or --transpose off"
    ),
    "pass 'off', or a melody as target_f0": "take --transpose off, or write the melody down for --target-f0",
}
_RANGE = re.compile(r"(?<=^transpose is )\((\S+?)(?:\.0)?, (\S+?)(?:\.0)?\)")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, _terminate)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # Closed by whoever called; left at that, what is for a closed stderr would be printed on stdout.
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper):
            # A file name may hold bytes that are no text; saying it must not fail after the work is done.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(args=arguments, prog_name="smalti", standalone_mode=False)
        # Typer catches Ctrl-C itself and, in this version or that, returns or raises.
        if code == 130:
            raise KeyboardInterrupt
    except SmaltiError as error:
        _fail(str(error), 1)
    except (ValueError, TypeError) as error:
        # Arguments reach the checks of the library, whose mistakes are usage errors here.
        _fail(_in_options(str(error)), 2)
    except MemoryError:
        _fail("not enough memory; take a shorter target (--start, --end) or less source", 1)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except Terminated:
        _fail("stopped", 128 + signal.SIGTERM)
    except Stopped as error:
        _fail(str(error), error.code)
    except OSError as error:
        _fail(f"{error.filename or 'the system'}: {error.strerror or error}", 1)
    except Exception as error:
        # Typer's own usage errors know their sentence and code; their classes have moved between its versions.
        if type(error).__name__ == "Abort":
            _fail("stopped", 130)
        if not hasattr(error, "format_message"):
            _fail(f"{type(error).__name__}: {error}; this is a fault of smalti's, please report it", 1)
        code = getattr(error, "exit_code", 2)
        # Without arguments the help has been shown, and there is no more to say.
        if not (sentence := error.format_message().rstrip(".")):
            _exit(code)
        command = getattr(getattr(error, "ctx", None), "command_path", "smalti")
        _fail(f"{sentence}; try '{command} --help'", code)
    _exit(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _exit(code: int) -> NoReturn:
    """Exit once all that was printed is out: later a failure could be neither told nor turned into an exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # What is left would be tried again at the very end, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # One sentence is enough, and of a pipe that was closed at will ("| head") nobody has to be told.
        if not code and not isinstance(error, BrokenPipeError):
            print(f"smalti: cannot print: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        code = code or 1
    sys.exit(code)


def _in_options(sentence: str) -> str:
    """A sentence of the library's in the words of the command line."""
    for passed, taken in _PASSED.items():
        sentence = sentence.replace(passed, taken)
    return _KNOB.sub(_option, _RANGE.sub(r"\1..\2", sentence))


def _option(knob: re.Match[str]) -> str:
    if knob[0] in ("weights", "limits"):
        return "--" + knob[0].removesuffix("s")
    return "--" + knob[0].removesuffix("_s").removesuffix("_cents").removesuffix("_lufs").removesuffix("_db").replace(
        "_", "-"
    )


def _fail(sentence: str, code: int) -> NoReturn:
    print(terminal.line(f"smalti: {sentence}"), file=sys.stderr)
    _exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"smalti {smalti.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def make(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The recording to re-create: a sound file, or example:NAME.")
    ],
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE", help="What to build it from: sound files, folders of them, example:NAME, or NAME.corpus."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT", help="The mosaic: a name ending in .wav, .flac, .ogg or .mp3."),
    ],
    preset: Preset = DEFAULT_PRESET,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="N|CURVE",
            help="Source moments sounding at once. Fewer: purer; more: closer. May change over time, as these may that "
            "take a CURVE: '0:2, 4:8' goes from 2 to 8 in the first 4 seconds.",
        ),
    ] = None,
    grain_length: Annotated[
        str | None,
        typer.Option(metavar="MS|CURVE", help="Length of source stretches kept whole. Longer: more of the source."),
    ] = None,
    drift: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT|CURVE",
            help="Let grains go on as their recordings do, up to 2 s, rather than give way to what fits better.",
        ),
    ] = None,
    no_repeat: Annotated[
        float | None,
        typer.Option(min=0, metavar="MS", help="A source moment stays silent this long before it returns."),
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, metavar="N", help="Rounds of refinement.")] = None,
    beta: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=2,
            metavar="X",
            help="What counts as near: 2 favours the loud, 1 balances, 0 hears the quiet too.",
        ),
    ] = None,
    phase: Annotated[
        str | None, _one_of(PHASES, "source: grains as recorded. griffin-lim: smoother. target: blends the target in.")
    ] = None,
    colour: Annotated[
        float | None,
        typer.Option(
            "--colour",
            "--color",
            min=0,
            max=100,
            metavar="PERCENT",
            help="Draw the tone colour towards the target's. More: clearer melody and words; 0: grains as they are.",
        ),
    ] = None,
    attacks: Annotated[
        float | None,
        typer.Option(min=0, max=100, metavar="PERCENT", help="Make attacks as sharp as the target's. 0: soft."),
    ] = None,
    target_phase: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            metavar="PERCENT",
            help="Turn phases towards the target's. More: smoother and closer, and more of the target itself leaks.",
        ),
    ] = None,
    channels: Annotated[
        str | None,
        _one_of(CHANNELS, "source: the source's, its image kept. apart: the target's, each solved alone. mono: one."),
    ] = None,
    ear_weighting: Annotated[
        bool | None,
        typer.Option("--ear-weighting/--no-ear-weighting", help="Compare sounds as loud as the ear hears them."),
    ] = None,
    loudness: Annotated[
        str | None,
        typer.Option(
            metavar="target|as-is|LUFS",
            autocompletion=lambda: list(LOUDNESSES),
            help="Level of the mosaic: the target's loudness, as it comes, or a number such as -16. Peaks stay safe.",
        ),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(metavar="DB|CURVE", help="So many dB on top of that: '0:0, 8:-12' fades. Peaks stay safe."),
    ] = None,
    level_follow: Annotated[
        float | None,
        typer.Option(
            min=0, max=100, metavar="PERCENT", help="Draw the slow rise and fall of loudness towards the target's."
        ),
    ] = None,
    transpose: Annotated[
        str | None,
        typer.Option(
            metavar="|".join((*WAYS, "LOW..HIGH", "CURVE")),
            autocompletion=lambda: list(WAYS),
            help="Bring the source to the target's pitches: its melody, its chords, or what suits. Or shift by "
            "semitones from LOW to HIGH, as fits; a lone number is that one shift, and '0:0, 4:12' glides.",
        ),
    ] = None,
    keep_formants: Annotated[
        bool | None,
        typer.Option(
            "--keep-formants/--no-keep-formants",
            help="Shift partials only, and leave the source's own colour, or both.",
        ),
    ] = None,
    tape: Annotated[
        bool | None,
        typer.Option("--tape/--no-tape", help="Shift as a tape does: higher is faster. Cleanest, but not in time."),
    ] = None,
    tune: Annotated[
        float | None,
        typer.Option(min=-1200, max=1200, metavar="CENTS", help="Tune the mosaic so far above the target's pitch."),
    ] = None,
    purity: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            metavar="PERCENT",
            help="In tune: turn noise between the partials down, and these up. More: clearer notes; 0: all its breath.",
        ),
    ] = None,
    voices: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Notes that may sound at once where chords are played.")
    ] = None,
    target_f0: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Follow the melody in this text file, lines of 'seconds, hertz' (0: no pitch), not the tracked one.",
        ),
    ] = None,
    include: Include = None,
    exclude: Exclude = None,
    tag: Tags = None,
    shortest: Shortest = None,
    longest: Longest = None,
    quietest: Quietest = None,
    loudest: Loudest = None,
    weight: Weights = None,
    limit: Limits = None,
    sketch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Paint over the activations: target time from left to right, source time from bottom to top. What is "
            "black stays silent, white is free, grey counts less.",
        ),
    ] = None,
    paint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'FROM..TO [FILE] [FROM..TO]=WEIGHT'",
            help="In these seconds of the target, these of the source (of FILE, or a pattern) count so many times, or "
            "not with 0: '2..4 rain* 10..20=0'. May be given again, and the last one counts.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting of 'smalti presets NAME', such as --set candidates=8; may be given again.",
        ),
    ] = None,
    n_fft: Annotated[
        int | None,
        typer.Option(
            "--n-fft", min=4, max=LONGEST_WINDOW, metavar="N", help="Window in samples, instead of the preset's."
        ),
    ] = None,
    hop: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LONGEST_WINDOW // 4,
            metavar="N",
            help="Samples from window to window; a quarter of one if left out.",
        ),
    ] = None,
    sr: Annotated[
        int | None,
        typer.Option(min=1000, max=768000, metavar="HZ", help="Working sample rate; the target's own if left out."),
    ] = None,
    start: Annotated[float | None, typer.Option(min=0, metavar="S", help="Begin of the target's excerpt.")] = None,
    end: Annotated[float | None, typer.Option(min=0, metavar="S", help="End of the target's excerpt.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of the random start: the same seed gives the same samples.")
    ] = 0,
    subtype: Annotated[str | None, _one_of(SUBTYPES, "Sample format of WAV and FLAC.")] = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Draw spectrograms, activations, similarity, divergence and pitch there."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write down what was made, of what, how, and how well.")
    ] = None,
    score: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Write every grain down: to look at, edit, and render again."),
    ] = None,
    stems: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a sound for each source there; together they are OUT.")
    ] = None,
    stems_by: Annotated[str, _one_of(STEMS_BY, "A stem for each source file, or for each folder of them.")] = "file",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but warnings and errors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report instead of a sentence.")] = False,
) -> None:
    """Re-create TARGET out of the sounds of SOURCE.

    [bold]Examples[/bold]

    smalti make song.wav bees.wav -o bees_sing.wav

    smalti make speech.wav rain/ wind/ -o storm.flac --layers 4 --grain-length 300

    smalti make example:trumpet example:humpback -o whale.wav --figures pictures

    smalti make song.wav oboe.wav -o oboe_sings.wav --preset melodic

    smalti make song.wav nature.corpus -o garden.wav --exclude storms --limit rain=20
    """
    settings = configure(
        preset,
        layers=layers,
        grain_length_s=None if grain_length is None else _seconds(grain_length),
        drift=drift,
        no_repeat_s=None if no_repeat is None else no_repeat / 1000,
        iterations=iterations,
        beta=beta,
        phase=phase,
        colour=colour,
        attacks=attacks,
        target_phase=target_phase,
        channels=channels,
        ear_weighting=ear_weighting,
        loudness=None if loudness is None else _loudness(loudness),
        level_db=level,
        level_follow=level_follow,
        transpose=None if transpose is None else _transposing(transpose),
        keep_formants=keep_formants,
        tape=tape,
        tune_cents=tune,
        voices=voices,
        purity=purity,
        sr=sr,
    )
    turned = dict(map(_setting, set_ or ()))
    # Through `configure`, which refuses what the method does not have; None, which means nothing to it, comes after.
    settings = replace(configure(settings, **turned), **turned)
    given = {
        "keep-formants": keep_formants,
        "tape": tape,
        "tune": tune,
        "voices": voices,
        "purity": purity,
        "target-f0": target_f0,
    }
    _check_transposing(settings, [f"--{name}" for name, value in given.items() if value is not None])
    params = _grid(n_fft, hop)
    choice = SourceSelection(
        filters_from(include, exclude, tag, shortest, longest, quietest, loudest),
        weights_from(weight),
        limits_from(limit),
    )
    strokes = list(map(_stroke, paint or ()))
    check_choice("stems-by", stems_by, STEMS_BY)
    outputs = Outputs(output, subtype, figures, report, overwrite, figures_of(settings), score, stems, stems_by)
    made = _make(
        _locate(target, quiet),
        [_locate(name, quiet) for name in source],
        outputs,
        settings=settings,
        preset=preset,
        params=params,
        start_s=start,
        end_s=end,
        melody_file=target_f0,
        choice=choice,
        sketch_file=sketch,
        strokes=strokes,
        seed=seed,
        quiet=quiet or json,
        measured=json or report is not None,
    )
    if json:
        print(report_json(made), end="")
    elif not quiet:
        print(terminal.line(_sentence(made)))


def _setting(text: str) -> tuple[str, Any]:
    """A setting by its name, from text such as candidates=8; "none" is None."""
    name, equals, value = text.partition("=")
    known = {field.name: field.default for field in fields(Settings) if field.name != "summary"}
    if not equals or name not in known:
        raise ValueError(f"--set is {text!r}; pass NAME=VALUE, where NAME is one of {', '.join(known)}")
    if name == "transpose":
        return name, _transposing(value)
    if KNOBS[name].varies and ":" in value:
        return name, as_varying(name, value)
    if value == "none":
        return name, None
    if isinstance(known[name], bool):
        if value not in ("true", "false"):
            raise ValueError(f"--set is {text!r}; pass {name}=true or {name}=false")
        return name, value == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return name, kind(value)
    return name, value


def _loudness(value: str) -> str | float:
    """A number of LUFS where it is one; the library knows which words there are."""
    try:
        return float(value)
    except ValueError:
        return value


def _seconds(text: str) -> float | Curve:
    """What is given in milliseconds, as a number or a curve."""
    of = as_varying("grain_length_s", text)
    for value in of.values if isinstance(of, Curve) else (of,):
        # Before it is another number than what was given.
        check_real("grain_length_s", value, least=0)
    if isinstance(of, Curve):
        return replace(of, values=tuple(value / 1000 for value in of.values))
    return float(of / 1000)


def _stroke(text: str) -> Stroke:
    try:
        return Stroke.parse(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"--paint is {text!r}: {error}") from None


def _transposing(text: str) -> str | tuple[float, float] | Curve:
    """A way, or semitones from the lower end to the upper one; a lone number is both ends. Or a curve of them."""
    if text in WAYS:
        return text
    if ":" in text:
        curve: Curve = as_varying("transpose", text)
        return curve
    low, dots, high = text.partition("..")
    try:
        if high.startswith("."):
            # Three dots are a slip, not a high end of less than a semitone.
            raise ValueError(high)
        ends = float(low), float(high if dots else low)
    except ValueError:
        raise ValueError(
            f"transpose is {text!r}; pass one of {', '.join(WAYS)}, or semitones: a number, a range such as -12..12, "
            "or a curve such as '0:0, 8:12'"
        ) from None
    if not dots:
        # Of one number neither end is to be spoken of.
        check_real("transpose", ends[0], least=-MOST_SHIFT, most=MOST_SHIFT)
    return ends


def _check_transposing(settings: Settings, given: Sequence[str]) -> None:
    """Refuse options `given` that would not be listened to."""
    if given and settings.transpose == "off":
        means = "means" if len(given) == 1 else "mean"
        raise ValueError(
            f"{' and '.join(given)} {means} nothing while --transpose is off; add --transpose auto, or another way"
        )
    if "--target-f0" in given and not isinstance(settings.transpose, str):
        raise ValueError(
            f"--target-f0 means nothing where --transpose is {_plainly(settings.transpose)}; add --transpose follow"
        )


def _grid(n_fft: int | None, hop: int | None) -> StftParams | None:
    """The grid of --n-fft and --hop; where one is left out, four hops a window."""
    if n_fft is None and hop is None:
        return None
    if n_fft is None:
        n_fft = 4 * (hop or 1)
    return StftParams(n_fft=n_fft, hop=hop if hop is not None else max(1, n_fft // 4))


def _locate(name: str, quiet: bool) -> Path:
    """The file or folder that a name on the command line stands for, fetching an example if need be."""
    if not name:
        # As a path it would be the current folder, and all that is in it.
        raise ValueError("the name of a recording is empty; name a file, a folder or example:NAME")
    example = example_name(name)
    if example is None:
        return Path(name)
    with terminal.bar(quiet, DownloadColumn()) as bar:
        path = fetch_example(example, progress=_Download(bar, name))
    if not quiet:
        about = EXAMPLES[example]
        print(f"{name}: {about.title} by {about.author}, {about.licence}", file=sys.stderr)
    return path


class _Download:
    """A bar in the form that pooch turns: it sets `total`, then counts."""

    def __init__(self, bar: Progress, name: str) -> None:
        self._bar, self._task = bar, bar.add_task(f"fetching {name}", total=None, visible=False)
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, n: int) -> None:
        self._total = n
        self._bar.update(self._task, total=n, visible=True)

    def update(self, n: int) -> None:
        self._bar.update(self._task, advance=n)

    def close(self) -> None:
        self._bar.update(self._task, visible=False)


class _Clock:
    """Seconds spent in each named stage, however often it comes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 4)
        self.seconds["total"] = round(now - self._begin, 4)
        self._last = now


@contextmanager
def _collecting(said: list[str]) -> Iterator[None]:
    """Print the library's warnings as sentences, and keep them for the report."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        said.append(str(warning.message))
        terminal.warn(said[-1])


def _make(
    target: Path,
    sources: list[Path],
    outputs: Outputs,
    *,
    settings: Settings,
    preset: str,
    params: StftParams | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    melody_file: Path | None = None,
    choice: SourceSelection = NO_CHOICE,
    sketch_file: Path | None = None,
    strokes: Sequence[Stroke] = (),
    seed: int = 0,
    quiet: bool = False,
    measured: bool = False,
) -> dict[str, Any]:
    """Read, build, write, measure if that is wanted; the report."""
    clock, said = _Clock(), list[str]()
    written = [file for file in (melody_file, sketch_file) if file is not None]
    check_outputs(outputs, [target, *sources, *written])
    melody = None if melody_file is None else read_melody(melody_file)
    painted = read_painted(sketch_file, strokes)
    if settings.transpose != "off":
        check_tracker()
    inputs = read_inputs(target, sources, start_s=start_s, end_s=end_s, sr=settings.sr, choice=choice)
    check_outputs(outputs, [*inputs.files, *written], sr=inputs.sr, channels=inputs.channels_of(settings))
    for sentence in inputs.warnings:
        said.append(sentence)
        terminal.warn(sentence)
    clock.lap("read")
    params = params or StftParams.from_seconds(settings.window_s, settings.hop_s, inputs.sr)
    needed = check_memory(inputs, settings, params, painted=painted != NOT_PAINTED)
    told_apart = inputs.weights is not None or bool(inputs.limits)
    searched = looked_up(0, settings, params, inputs.sr, asked=True)
    # Where weights and limits need it to be searched, `prepare` refuses it for the same reason.
    if inputs.shelf and not searched and not told_apart:
        reason = unsearched(settings, params, inputs.sr)
        said.append(f"all of {inputs.shelf.folder} is considered, which takes {needed / 1e9:.1f} GB, as {reason}")
        terminal.warn(said[-1])
    n_frames, hop_s = params.n_frames(inputs.target_samples.shape[-1]), params.hop / inputs.sr
    with _collecting(said):
        job = prepare(
            inputs.target_samples,
            inputs.source,
            inputs.sr,
            settings,
            params=params,
            names=[str(source.path) for source in inputs.sources],
            weights=inputs.weights,
            limits=inputs.limits,
            target_name=str(inputs.target.path),
            target_f0=None if melody is None else melody.on_grid(n_frames, hop_s, start_s=start_s or 0.0),
        )
    job = painted.onto(job, inputs)
    if job.transposition is not None and not quiet:
        print(f"smalti: {_way(job.transposition, settings)}", file=sys.stderr)
    steps = solver_of(job).n_steps
    parts = []
    clock.lap("analyse")
    compiles = terminal.once("compiling what this needs for this machine; it takes some seconds, once")
    with (
        told_of_compiling((lambda: None) if quiet else compiles),
        terminal.bar(quiet, TextColumn("divergence {task.fields[divergence]}")) as bar,
    ):
        task = bar.add_task("building", total=steps * job.n_solves, divergence="")
        for part in channel_jobs(job):
            divergences = []
            for step in solve_steps(part, rng=seed):
                divergences.append(step.divergence)
                bar.update(task, advance=1, divergence=f"{step.divergence:.4g}")
            clock.lap("solve")
            bar.update(task, description="making the sound")
            parts.append(part_of(part, step, divergences))
            clock.lap("synthesise")
    mosaic = assemble(job, parts)
    loud = settings.loudness
    if not isinstance(loud, str) and settings.level_db == 0 and mosaic.loudness < loud - 1:
        said.append(f"{loud:g} LUFS are more than the peaks allow: it is {mosaic.loudness:.1f} LUFS")
        terminal.warn(said[-1])
    clock.lap("synthesise")
    write_outputs(outputs, inputs, job, mosaic, start_s=start_s, end_s=end_s)
    clock.lap("write")
    measures = None
    if measured:
        measures, sentences = measure_made(inputs, mosaic)
        for sentence in sentences:
            said.append(sentence)
            terminal.warn(sentence)
        clock.lap("measure")
    report = describe(
        inputs,
        outputs,
        mosaic,
        preset=preset,
        seed=seed,
        start_s=start_s,
        end_s=end_s,
        seconds=clock.seconds,
        warnings=said,
        measures=measures,
        melody=melody,
        painted=painted,
    )
    write_report(outputs, report)
    return report


def _way(transposition: Transposition, settings: Settings) -> str:
    """How the source comes to the target's pitches, and why."""
    if transposition.way == "off":
        does = "left at its own pitches"
    elif transposition.way == "follow":
        does = "follows the melody"
    elif transposition.way == "chords":
        voices = int(transposition.melodies.any(axis=1).sum())
        does = f"plays chords ({voices} voice{'s' * (voices != 1)})"
    elif transposition.way == "glide":
        does = f"shifts every grain along {settings.transpose} semitones"
    else:
        low, high = (f"{end - settings.tune_cents / 100:+.4g}" for end in transposition.shifts[[0, -1]])
        does = f"shifts every grain by {low if low == high else f'what fits, {low} to {high}'} semitones"
    tuned = f", tuned by {settings.tune_cents:+g} cents" if settings.tune_cents and transposition.n_voices else ""
    return f"{does}{tuned}: {transposition.reason}"


def _width(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def _sentence(report: dict[str, Any]) -> str:
    """What was made, how long it took, how well it fits."""
    output, sources = report["output"], len(report["sources"])
    of = report["sources"][0]["path"] if sources == 1 else f"{sources} recordings"
    if report["corpus"] is not None:
        used = len(report["corpus"]["used"])
        chosen = any(report["choice"][name] for name in ("include", "exclude", "tags"))
        of = f"{used} of the {report['corpus']['files']} recordings {'chosen from' if chosen else 'in'} "
        of += report["corpus"]["path"]
    loudness, leak = output["loudness_lufs"], report["leak"]
    level = "silent" if loudness is None else f"{loudness:.1f} LUFS"
    lowered = terminal.peaks_held(report["limited_db"], report["peak_gain_db"])
    leaking = "" if leak is None else f", {leak:.0%} of the target itself leaks through"
    return (
        f"{output['path']}: {output['duration_s']:.1f} s of {report['target']['path']} made of {of} "
        f"({report['preset']}) in {report['seconds']['total']:.1f} s, {_width(output['channels'])} at "
        f"{report['sr'] / 1000:g} kHz, spectral overlap {report['fit']:.0%}, {level}{lowered}{leaking}"
    )


@app.command()
def judge(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="What the mosaics re-create: a sound file, or example:NAME.")
    ],
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="What they are made of: a sound file, a folder, or example:NAME.")
    ],
    mosaic: Annotated[list[str], typer.Argument(metavar="MOSAIC", help="The mosaics: sound files, from any tool.")],
    also: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE", help="One more source; once for each that there is.")
    ] = None,
    start: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="Begin of the target's excerpt that they re-create.")
    ] = None,
    end: Annotated[float | None, typer.Option(min=0, metavar="S", help="End of that excerpt.")] = None,
    hop: Annotated[
        float | None,
        typer.Option(metavar="MS", help="Their hop, at whose rate a buzz is listened for; about 23.2 if left out."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON instead of a table.")] = False,
) -> None:
    """Measure how good mosaics are, side by side, made with smalti or not.

    docs/measures.md says what each number hears, and how it is fooled.

    [bold]Examples[/bold]

    smalti judge song.wav bees.wav bees_sing.wav

    smalti judge speech.wav rain/ --also wind/ storm_1.wav storm_2.wav
    """
    hop_s = None if hop is None else check_real("hop", hop, least=2, most=1000) / 1000
    case = read_case(
        _locate(target, json),
        [_locate(name, json) for name in (source, *(also or ()))],
        [_locate(name, json) for name in mosaic],
        start_s=start,
        end_s=end,
    )
    for sentence in case.warnings:
        terminal.warn(sentence)
    with terminal.bar(json) as bar:
        steps = judge_steps(case, hop_s=hop_s)
        judged = list(bar.track(steps, total=len(case.mosaics), description="judging"))
    for sentence in (said for one in judged for said in one.warnings):
        terminal.warn(sentence)
    report = describe_case(case, judged)
    if json:
        print(report_json(report), end="")
    else:
        _show_judged(report)


# Columns of the table: names and units, which way is better, the limit, and their gaps; then each mosaic's, of which
# the least holds a number, both its marks and a gap.
_BESIDE_MOSAICS, _LEAST_COLUMN = 29, 10
_LONGEST_SUMMARY = 39
# A pipe has no width; whatever is in a table is narrower.
_NO_WIDTH = 1_000_000


def _show_judged(report: Mapping[str, Any]) -> None:
    """The numbers, a column a mosaic; on a terminal too narrow for all of them, several tables."""
    console = Console(width=None if sys.stdout.isatty() else _NO_WIDTH)
    target, sources, mosaics = report["target"], report["sources"], report["mosaics"]
    print(terminal.line(f"target: {target['path']} ({target['duration_s']:.1f} s)"))
    print(terminal.line(f"source: {sources[0]['path'] if len(sources) == 1 else f'{len(sources)} recordings'}"))
    names = _told_apart([one["path"] for one in mosaics])
    rows = {name: _cells(MEASURES[name], [one["measures"][name] for one in mosaics]) for name in mosaics[0]["measures"]}
    n_tables = -(-len(mosaics) // max(1, (console.width - _BESIDE_MOSAICS) // _LEAST_COLUMN))
    size = -(-len(mosaics) // n_tables)
    for first in range(0, len(mosaics), size):
        shown = slice(first, first + size)
        print()
        console.print(_judged_table(names[shown], {name: cells[shown] for name, cells in rows.items()}, console.width))
    print()
    print(("* best of its row, " if len(mosaics) > 1 else "") + "! beyond its limit; docs/measures.md explains each.")
    print(
        "Read FID only with leak (a copy has FID too; what is in tune, some leak), TIM only with FID (noise has TIM)."
    )


def _told_apart(paths: Sequence[str]) -> list[str]:
    """What tells the files apart in the least space: names without endings, with them, or the paths."""
    for short in ([Path(path).stem for path in paths], [Path(path).name for path in paths]):
        if len(set(short)) == len(set(paths)):
            return [terminal.line(name) for name in short]
    return [terminal.line(path) for path in paths]


def _judged_table(names: Sequence[str], rows: Mapping[str, Sequence[Text]], width: int) -> Table:
    columns = [max(len(name) + 2, _LEAST_COLUMN) for name in names]
    # One name alone may be broken for the sake of the words: it has been typed just now.
    room = _LEAST_COLUMN if len(names) == 1 else sum(columns)
    explained = _BESIDE_MOSAICS + room + 2 + _LONGEST_SUMMARY <= width
    table = terminal.table("", "better", "limit")
    for column in table.columns:
        column.no_wrap = True
    for name in names:
        # A long name goes on below rather than losing the end by which it differs.
        table.add_column(Text(name), justify="right", overflow="fold", min_width=_LEAST_COLUMN - 2)
    if explained:
        table.add_column("what it hears", no_wrap=True)
    group = ""
    for name, cells in rows.items():
        about = MEASURES[name]
        if about.group != group:
            group = about.group
            table.add_row(Text(group, "bold"))
        unit = f" ({about.unit})" if about.unit else ""
        limit = "" if about.limit is None else f"{about.limit:g}"
        table.add_row(f"  {name}{unit}", about.better, limit, *cells, *([about.summary] if explained else []))
    return table


def _cells(about: Measure, values: Sequence[float]) -> list[Text]:
    """One row's numbers, marked: * the best, ! beyond the limit."""
    decimals = 1 if about.unit == "dB" else 3
    rounded = [round(value, decimals) + 0.0 for value in values]  # no -0.0
    # Less than none of a fault is no better than none of it.
    rivals = rounded if about.limit is None else [max(0.0, number) for number in rounded]
    best = max(rivals) if about.better == "higher" else min(rivals)
    # Of equals none is best.
    differ = about.better != "" and min(rivals) < max(rivals)
    cells = []
    for value, number, rival in zip(values, rounded, rivals, strict=True):
        is_best, beyond = differ and rival == best, about.limit is not None and value > about.limit
        # What is next to nothing is not nothing where the limit is 0.
        text = "<0.001" if number == 0 < value and decimals == 3 else f"{number:.{decimals}f}"
        marks = "*" * is_best + "!" * beyond
        cells.append(Text(f"{marks} {text}" if marks else text, "red" if beyond else "green" if is_best else ""))
    return cells


@app.command()
def blind(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="What the mosaics re-create: a sound file, or example:NAME.")
    ],
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="What they are made of: a sound file, a folder, or example:NAME.")
    ],
    mosaic: Annotated[list[str], typer.Argument(metavar="MOSAIC MOSAIC", help="The mosaics: 2 to 8, from any tool.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder to make.")],
    rounds: Annotated[
        int, typer.Option(min=1, max=MOST_ROUNDS, metavar="N", help="How often to ask. More: surer answers.")
    ] = DEFAULT_ROUNDS,
    length: Annotated[
        float, typer.Option(min=SHORTEST_S, metavar="S", help="Each round plays another stretch, at most so long.")
    ] = DEFAULT_LENGTH_S,
    start: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="Begin of the target's excerpt that they re-create.")
    ] = None,
    end: Annotated[float | None, typer.Option(min=0, metavar="S", help="End of that excerpt.")] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the order behind the letters.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison.")] = False,
) -> None:
    """Compare mosaics by ear, without knowing which is which.

    Makes a folder with a page, listen.html, to open in a browser. Each round
    plays the target, the source and, under letters in a new order, the mosaics,
    all equally loud, and asks: which follows the target better, which sounds
    more like the source, which would you keep? At the end it tells the names,
    counts the answers, and says what so few can tell.

    [bold]Examples[/bold]

    smalti blind song.wav bees.wav one_try.wav another_try.wav -o compare

    smalti blind speech.wav rain/ storm_1.wav storm_2.wav storm_3.wav -o compare --rounds 12
    """
    sound, sources, mosaics = (
        _locate(target, False),
        [_locate(source, False)],
        [_locate(name, False) for name in mosaic],
    )
    check_folder(output, [sound, *sources, *mosaics], overwrite=overwrite)
    contest = read_contest(sound, sources, mosaics, start_s=start, end_s=end)
    for sentence in contest.warnings:
        terminal.warn(sentence)
    drawn, sr = draw_rounds(contest, rounds=rounds, length_s=length, rng=seed)
    write_listening(output, drawn, sr, key_of(contest, drawn, seed=seed), overwrite=overwrite)
    lasts_s = drawn[0].end_s - drawn[0].start_s
    of = f"{rounds} round{'s' * (rounds > 1)} of {lasts_s:.1f} s"
    print(terminal.line(f"{output / PAGE}: {of}, {len(mosaics)} mosaics; open it in a browser"))


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where to put it all.")] = Path(
        "smalti-demo"
    ),
    preset: Preset = DEFAULT_PRESET,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the random start.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but warnings and errors.")] = False,
    plots: Annotated[
        bool | None,
        typer.Option("--plots/--no-plots", help="Draw the figures; if left out, wherever matplotlib is installed."),
    ] = None,
) -> None:
    """Hear a mosaic with nothing to bring: a swarm of bees plays a plucked tune.

    Writes target.wav, source.wav, mosaic.wav, report.json and the folder figures.
    """
    from smalti.workflows.demo import demo_source, demo_target

    settings = configure(preset)
    if plots is None:
        plots = find_spec("matplotlib") is not None
    target, source = output / "target.wav", output / "source.wav"
    outputs = Outputs(
        audio=output / "mosaic.wav",
        figures=output / "figures" if plots else None,
        report=output / "report.json",
        overwrite=overwrite,
    )
    make_folder(output)
    check_outputs(outputs, [target, source])
    for file in (target, source):
        check_writable(file, overwrite=overwrite)
    sr = 22050
    write_audio(target, demo_target(sr), sr, overwrite=overwrite)
    write_audio(source, demo_source(sr), sr, overwrite=overwrite)
    made = _make(target, [source], outputs, settings=settings, preset=preset, seed=seed, quiet=quiet, measured=True)
    if not quiet:
        print(terminal.line(_sentence(made)))
        print(terminal.line(f"listen to {target.name}, {source.name} and {outputs.audio.name} in {output}"))


@app.command()
def examples() -> None:
    """List the real recordings that example:NAME stands for."""
    table = terminal.table("name", "what", "length", "author", "licence")
    for example in EXAMPLES.values():
        table.add_row(
            f"example:{example.name}", example.title, f"{example.seconds:.1f} s", example.author, example.licence
        )
    terminal.show(table)


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show every setting of this one.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print all settings of all presets, or of the one named.")
    ] = False,
) -> None:
    """List the presets: ready ways to build a mosaic; with a NAME, every setting of one."""
    shown = PRESETS if name is None else {check_choice("NAME", name, tuple(PRESETS)): PRESETS[name]}
    if json:
        print(report_json({preset: asdict(settings) for preset, settings in shown.items()}), end="")
    elif name is None:
        table = terminal.table("preset", "what it does")
        for preset, settings in PRESETS.items():
            table.add_row(preset + (" (default)" if preset == DEFAULT_PRESET else ""), settings.summary)
        terminal.show(table)
    else:
        table = terminal.table("setting", "value", "what it does")
        for setting, value in asdict(shown[name]).items():
            if setting != "summary":
                table.add_row(setting, _plainly(value), KNOBS[setting].help)
        print(terminal.line(f"{name}: {shown[name].summary}"))
        terminal.show(table)


def _plainly(value: Any) -> str:
    """A value as --set takes it, but for figures beyond the fourth."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, tuple):
        return "..".join(map(_plainly, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
