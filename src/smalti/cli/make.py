"""``smalti make``: a target re-created out of the sounds of a source."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import TextColumn

from smalti._numba import told_of_compiling
from smalti.cli import terminal
from smalti.cli.options import (
    Exclude,
    Include,
    Limits,
    Longest,
    Loudest,
    Overwrite,
    Preset,
    Quiet,
    Quietest,
    Shortest,
    Subtype,
    Tags,
    Weights,
    filters_from,
    limits_from,
    one_of,
    option_of,
    setting_from,
    weights_from,
    with_settings,
)
from smalti.cli.presets import plain_value
from smalti.cli.terminal import located
from smalti.dsp.stft import StftParams
from smalti.io.stem_files import STEMS_BY
from smalti.mosaicing.sketch import Stroke
from smalti.presets import DEFAULT_PRESET, configure
from smalti.settings import Settings
from smalti.workflows.inputs import Excerpt, SourceSelection
from smalti.workflows.make import MakeRequest, make_steps
from smalti.workflows.outputs import Outputs
from smalti.workflows.report import report_json

# Longer windows are no spectra any more, and the first thing they do is to fill the memory.
LONGEST_WINDOW = 2**17
# Settings that mean nothing while nothing is transposed.
_OF_TRANSPOSED = ("keep_formants", "tape", "tune_cents", "voices", "purity")


@with_settings
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
    start: Annotated[float | None, typer.Option(min=0, metavar="S", help="Begin of the target's excerpt.")] = None,
    end: Annotated[float | None, typer.Option(min=0, metavar="S", help="End of the target's excerpt.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of the random start: the same seed gives the same samples.")
    ] = 0,
    subtype: Subtype = None,
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
    stems_by: Annotated[str, one_of(STEMS_BY, "A stem for each source file, or for each folder of them.")] = "file",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report instead of a sentence.")] = False,
    *,
    knobs: dict[str, Any],
) -> None:
    """Re-create TARGET out of the sounds of SOURCE.

    [bold]Examples[/bold]

    smalti make song.wav bees.wav -o bees_sing.wav

    smalti make speech.wav rain/ wind/ -o storm.flac --layers 4 --grain-length 300

    smalti make example:trumpet example:humpback -o whale.wav --figures pictures

    smalti make song.wav oboe.wav -o oboe_sings.wav --preset melodic

    smalti make song.wav nature.corpus -o garden.wav --exclude storms --limit rain=20
    """
    changed = dict(map(setting_from, set_ or ()))
    # Through `configure`, which refuses what the method does not have; None, which means nothing to it, comes after.
    settings = replace(configure(configure(preset, **knobs), **changed), **changed)
    _check_transposing(settings, knobs, target_f0)
    request = MakeRequest(
        target=str(located(target, quiet)),
        sources=tuple(str(located(name, quiet)) for name in source),
        outputs=Outputs(output, subtype, figures, report, overwrite, score=score, stems=stems, stems_by=stems_by),
        settings=settings,
        preset=preset,
        grid=_grid(n_fft, hop),
        excerpt=Excerpt(start, end),
        melody=target_f0,
        selection=SourceSelection(
            filters_from(include, exclude, tag, shortest, longest, quietest, loudest),
            weights_from(weight),
            limits_from(limit),
        ),
        sketch=sketch,
        strokes=tuple(map(_stroke, paint or ())),
        seed=seed,
        measured=json or report is not None,
    )
    made = build(request, quiet=quiet or json)
    if json:
        print(report_json(made), end="")
    elif not quiet:
        print(terminal.line(sentence_of(made)))


def build(request: MakeRequest, *, quiet: bool) -> dict[str, Any]:
    """Make a mosaic with warnings, remarks and a progress bar on stderr; return its report."""
    compiles = terminal.once("compiling what this needs for this machine; it takes some seconds, once")
    with told_of_compiling((lambda: None) if quiet else compiles):
        columns = TextColumn("divergence {task.fields[divergence]}")
        report: dict[str, Any] = terminal.watched(make_steps(request), columns, quiet=quiet)
    return report


def _stroke(text: str) -> Stroke:
    try:
        return Stroke.parse(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"--paint is {text!r}: {error}") from None


def _check_transposing(settings: Settings, knobs: dict[str, Any], target_f0: Path | None) -> None:
    """Refuse options that would not be listened to."""
    given = [option_of(name) for name in _OF_TRANSPOSED if name in knobs]
    given += [] if target_f0 is None else ["--target-f0"]
    if given and settings.transpose == "off":
        means = "means" if len(given) == 1 else "mean"
        raise ValueError(
            f"{' and '.join(given)} {means} nothing while --transpose is off; add --transpose auto, or another way"
        )
    if target_f0 is not None and not isinstance(settings.transpose, str):
        raise ValueError(
            f"--target-f0 means nothing where --transpose is {plain_value(settings.transpose)}; add --transpose follow"
        )


def _grid(n_fft: int | None, hop: int | None) -> StftParams | None:
    """The grid of --n-fft and --hop; where one is left out, four hops a window."""
    if n_fft is None and hop is None:
        return None
    if n_fft is None:
        n_fft = 4 * (hop or 1)
    return StftParams(n_fft=n_fft, hop=hop if hop is not None else max(1, n_fft // 4))


def _width(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def sentence_of(report: dict[str, Any]) -> str:
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
