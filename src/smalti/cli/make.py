"""``smalti make``: re-create a target out of the sounds of a source."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import TextColumn

from smalti._numba import on_compiling
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
    setting_from,
    weights_from,
    with_settings,
)
from smalti.cli.terminal import located
from smalti.dsp.stft import StftParams
from smalti.io.stem_files import STEMS_BY
from smalti.mosaicing.sketch import Stroke
from smalti.presets import DEFAULT_PRESET, configure
from smalti.workflows.inputs import Excerpt, SourceSelection
from smalti.workflows.make import MakeRequest, make_steps
from smalti.workflows.outputs import Outputs
from smalti.workflows.report import report_json

# Longer windows blur several seconds into one spectrum, and fill the memory.
LONGEST_WINDOW = 2**17


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
            help="Follow the melody in this text file, not the tracked one: lines of 'seconds, hertz' (0: no pitch).",
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
            help="Paint over the activations: target time from left to right, source time from bottom to top. Black "
            "stays silent, white is free, grey counts less.",
        ),
    ] = None,
    paint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'FROM..TO [FILE] [FROM..TO]=WEIGHT'",
            help="In these seconds of the target, these seconds of the source (of FILE, or a pattern) count WEIGHT "
            "times; 0 forbids them: '2..4 rain* 10..20=0'. May be given again, and the last one counts.",
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
            help="Samples from window to window; a quarter of a window if left out.",
        ),
    ] = None,
    start: Annotated[float | None, typer.Option(min=0, metavar="S", help="Begin of the target's excerpt.")] = None,
    end: Annotated[float | None, typer.Option(min=0, metavar="S", help="End of the target's excerpt.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Seed of the random start: the same seed gives the same samples.")
    ] = 0,
    subtype: Subtype = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Draw spectrograms, activations, similarity, divergence and pitch there."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Write a report: what was made, of what, how, and how well."),
    ] = None,
    score: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Write every grain down: to look at, edit, and render again."),
    ] = None,
    stems: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a sound for each source there; they add up to OUT.")
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
    # `configure` refuses settings that the method does not use. It ignores None, which `replace` sets afterwards.
    settings = replace(configure(preset, **(knobs | changed)), **changed)
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
    compiles = terminal.once("compiling for this machine, once for each kind of job; it takes some seconds")
    with on_compiling((lambda: None) if quiet else compiles):
        columns = TextColumn("divergence {task.fields[divergence]}")
        report: dict[str, Any] = terminal.watched(make_steps(request), columns, quiet=quiet)
    return report


def _stroke(text: str) -> Stroke:
    try:
        return Stroke.parse(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"--paint is {text!r}: {error}") from None


def _grid(n_fft: int | None, hop: int | None) -> StftParams | None:
    """The grid of --n-fft and --hop, a window being four hops if one is left out; None if both are."""
    if n_fft is None and hop is None:
        return None
    if n_fft is None:
        n_fft = 4 * (hop or 1)
    return StftParams(n_fft=n_fft, hop=hop if hop is not None else max(1, n_fft // 4))


def _width(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def sentence_of(report: dict[str, Any]) -> str:
    """One sentence on what was made, how long it took and how well it fits."""
    output, n_sources = report["output"], len(report["sources"])
    source = report["sources"][0]["path"] if n_sources == 1 else f"{n_sources} recordings"
    if report["corpus"] is not None:
        used = len(report["corpus"]["used"])
        chosen = any(report["choice"][name] for name in ("include", "exclude", "tags"))
        source = f"{used} of the {report['corpus']['files']} recordings {'chosen from' if chosen else 'in'} "
        source += report["corpus"]["path"]
    loudness, leak = output["loudness_lufs"], report["leak"]
    level = "silent" if loudness is None else f"{loudness:.1f} LUFS"
    lowered = terminal.peaks_held(report["limited_db"], report["peak_gain_db"])
    leaking = "" if leak is None else f", {leak:.0%} of the target itself leaks through"
    return (
        f"{output['path']}: {output['duration_s']:.1f} s of {report['target']['path']} made of {source} "
        f"({report['preset']}) in {report['seconds']['total']:.1f} s, {_width(output['channels'])} at "
        f"{report['sr'] / 1000:g} kHz, spectral overlap {report['fit']:.0%}, {level}{lowered}{leaking}"
    )
