"""``smalti score``: a mosaic as a list of grains, looked at, edited, blended, exported."""

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer

from smalti._checks import check_real
from smalti.cli import terminal
from smalti.cli.options import Changed, Json, Overwrite, Places, ScoreFile
from smalti.cli.terminal import counted
from smalti.curves import Curve, as_varying
from smalti.grains.source import Source
from smalti.io import score_file
from smalti.io.files import check_writable, same_file, write_atomic
from smalti.io.score_export import EXPORTS
from smalti.io.score_file import read_score, score_json
from smalti.io.sound_read import read_audio, resample
from smalti.score.blend import blended
from smalti.score.daw_items import MOST_ITEMS, Reduction
from smalti.score.edit import Edits, Selection, edited
from smalti.score.score import Score
from smalti.score.swap import swapped
from smalti.score.table import records, summary
from smalti.workflows.export import Exported, ExportRequest, export_steps
from smalti.workflows.locate import find_recordings
from smalti.workflows.memory import check_score_memory
from smalti.workflows.render import refuse_inputs
from smalti.workflows.report import report_json

app = typer.Typer(
    help="Look at a score, edit it, and take it into other tools.\n\n"
    "Start with:  smalti make TARGET SOURCE -o mosaic.wav --score score.json\n\n"
    "Then:  smalti score show score.json\n\n"
    "docs/score.md walks through it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

# Grains that are listed unless it is said how many.
SHOWN = 20


def _meaning(*names: str, **kind: Any) -> Any:
    """One of the options that say what an edit means: in the help they stand together."""
    return typer.Option(*names, rich_help_panel="Which grains, and which parts of them", **kind)


@app.command()
def show(
    score: ScoreFile,
    grains: Annotated[
        int, typer.Option(min=0, metavar="N", help="List so many grains, the loudest of them; 0 for none.")
    ] = SHOWN,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw it as a piano roll: a lane for each source.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Say which source sounds when, how loud and how long, and how much of the mosaic each is.

    [bold]Examples[/bold]

    smalti score show score.json

    smalti score show score.json --picture roll.png --grains 200
    """
    if picture is not None:
        importlib.import_module("smalti.plots")
        refuse_inputs(picture, [score])
        check_writable(picture, overwrite=overwrite)
    of = read_score(score)
    if json:
        print(report_json({"sources": [asdict(usage) for usage in summary(of)], "grains": records(of)}), end="")
    else:
        _show(score, of, grains)
    if picture is not None:
        from smalti import plots

        ax = plots.plot_score(of, title=f"{score.name}: {counted(len(of), 'grain')}")
        write_atomic(picture, plots.figure_png(cast(Any, ax.figure)), overwrite=overwrite)


def _show(file: Path, score: Score, most: int) -> None:
    lasts_s = score.length / score.sr
    print(terminal.line(f"{file}: {lasts_s:.1f} s of {score.target.name}, made of {counted(len(score), 'grain')}"))
    print()
    table = terminal.table("source", "time", "power", "grains", "longest", "from", "to")
    for usage in summary(score):
        table.add_row(
            terminal.line(usage.name), f"{usage.time_share:.0%}", f"{usage.power_share:.0%}", str(usage.n_grains),
            f"{usage.longest_s:.2f} s", f"{usage.first_s:.2f} s", f"{usage.last_s:.2f} s",
        )  # fmt: skip
    terminal.show(table)
    if not most or not len(score):
        return
    loudest = np.sort(np.argsort(-score.levels, kind="stable")[:most])
    print()
    table = terminal.table("grain", "at", "lasts", "level", "pitch", "source", "from")
    for grain in score.only(loudest):
        table.add_row(
            str(grain.id), f"{grain.start_s:.3f} s", f"{grain.duration_s:.3f} s",
            f"{grain.level_db + score.gain_db:.1f} dB", f"{grain.semitones:+.2f}" if grain.semitones else "",
            terminal.line(grain.source.name), f"{grain.source_start_s:.3f} s",
        )  # fmt: skip
    terminal.show(table)
    if len(loudest) < len(score):
        print()
        print(f"the {most} loudest of {len(score)} grains; --grains {len(score)} lists all")


@app.command()
def edit(
    score: ScoreFile,
    output: Annotated[Path, typer.Argument(metavar="OUT.json", help="Where to write the edited score.")],
    mute: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Silence these sources; '*' is all. May be repeated.")
    ] = None,
    solo: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Silence all but these sources. May be repeated.")
    ] = None,
    gain: Annotated[
        float | None, typer.Option(min=-200, max=60, metavar="DB", help="Turn up, or down below 0.")
    ] = None,
    shift: Annotated[float | None, typer.Option(metavar="S", help="Move later, or earlier below 0.")] = None,
    transpose: Annotated[
        float | None, typer.Option(metavar="SEMITONES", help="Sound higher, or lower below 0.")
    ] = None,
    swap: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=FILE", help="Cut these sources' grains from FILE, where that is most like them."),
    ] = None,
    source: Annotated[
        list[str] | None, _meaning(metavar="PATTERN", help="--gain, --shift, --transpose: of these sources alone.")
    ] = None,
    between: Annotated[
        tuple[float, float] | None, _meaning(metavar="S S", help="Only what sounds from one time to the other.")
    ] = None,
    louder_than: Annotated[float | None, _meaning(metavar="DB", help="Only grains louder than this.")] = None,
    quieter_than: Annotated[float | None, _meaning(metavar="DB", help="Only grains quieter than this.")] = None,
    longer_than: Annotated[float | None, _meaning(metavar="S", help="Only grains longer than this.")] = None,
    shorter_than: Annotated[float | None, _meaning(metavar="S", help="Only grains shorter than this.")] = None,
    grain: Annotated[
        list[int] | None, _meaning(metavar="N", help="Only the grain of this number. May be repeated.")
    ] = None,
    sources: Places = None,
    overwrite: Overwrite = False,
) -> None:
    """Change a score: silence sources, turn them up or down, move, transpose or swap them.

    What is changed is said by the options of the second list; all of them have
    to hold. Edits are made in this order: swap, mute, solo, transpose, gain,
    shift.

    [bold]Examples[/bold]

    smalti score edit score.json edited.json --mute "rain*" --gain -6 --between 3.0 4.5

    smalti score edit score.json edited.json --swap one.wav=two.wav --shorter-than 0.2

    smalti score edit score.json edited.json --transpose 12 --grain 7 --grain 9
    """
    if all(asked is None for asked in (mute, solo, gain, shift, transpose, swap)):
        raise ValueError("there is nothing to do; add --mute, --solo, --swap, --transpose, --gain or --shift")
    if source and all(asked is None for asked in (gain, shift, transpose)):
        raise ValueError("--source means nothing to --mute, --solo and --swap, which name sources; leave it out")
    if same_file(score, output):
        raise ValueError(f"{output} is the score that is edited; choose another name, so that it is still there")
    check_writable(output, overwrite=overwrite)
    before = read_score(score)
    check_score_memory(before)
    meant = Selection(
        sources=tuple(source or ()),
        between=between,
        louder_than_db=-math.inf if louder_than is None else louder_than,
        quieter_than_db=math.inf if quieter_than is None else quieter_than,
        longer_than_s=longer_than or 0.0,
        shorter_than_s=math.inf if shorter_than is None else shorter_than,
        ids=tuple(grain or ()),
    )
    edits = Edits(
        swaps=tuple(_swap(text, score, sources or ()) for text in swap or ()),
        mute=tuple(mute or ()),
        solo=tuple(solo or ()),
        semitones=transpose or 0.0,
        gain_db=gain or 0.0,
        shift_s=shift or 0.0,
    )
    of = edited(before, edits, meant)
    data = score_json(of)
    if data == score_json(before):
        terminal.warn("nothing has changed: no grain is all that was asked")
    write_atomic(output, data, overwrite=overwrite)
    print(terminal.line(f"{output}: {counted(len(of), 'grain')}, of {len(before)} before"))


def _swap(text: str, file: Path, places: Sequence[Path]) -> tuple[str, Callable[[Score, Selection], Score]]:
    """The pattern of a text such as rain=bees.wav, and what cuts the grains that it names from that file."""
    pattern, equals, name = text.rpartition("=")
    if not equals or not pattern or not name:
        raise ValueError(f"--swap is {text!r}; pass PATTERN=FILE, such as rain=bees.wav")

    def swap(score: Score, meant: Selection) -> Score:
        found = find_recordings(score, file, places=places, with_target=False, compact=False)
        recording = read_audio(Path(name))
        new = Source(name, recording.sha256, recording.sr, recording.channels, recording.duration_s)
        # By their own names, as whatever edits come next mean them.
        named = replace(found.score, sources=score.sources)
        return swapped(named, meant, new, found.recordings, resample(recording.samples, recording.sr, score.sr))

    return pattern, swap


@app.command()
def blend(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="The score to begin with.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another of the same target.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.json", help="Where to write the blend.")],
    share: Annotated[
        str, typer.Option(metavar="PERCENT|BREAKPOINTS", help="How much of B sounds: 50, or over time '0:0, 8:100'.")
    ] = "50",
    overwrite: Overwrite = False,
) -> None:
    """Blend two mosaics of one target grain by grain, no fade: each grain is taken whole or left.

    [bold]Examples[/bold]

    smalti score blend bees.json rain.json -o storm.json --share "0:0, 8:100"
    """
    for file in (first, second):
        if same_file(file, output):
            raise ValueError(f"{output} is one of the scores that are blended; choose another name")
    check_writable(output, overwrite=overwrite)
    one, other = read_score(first), read_score(second)
    _check_alike(one, other, first)
    of = blended(one, other, _share(share))
    write_atomic(output, score_json(of), overwrite=overwrite)
    told = ", ".join(f"{usage.time_share:.0%} {Path(usage.name).name}" for usage in summary(of)[:4])
    print(terminal.line(f"{output}: {counted(len(of), 'grain')}, {told}"))


def _check_alike(one: Score, other: Score, first: Path) -> None:
    """Refuse scores of other targets; say in whose way the blend is made where theirs differ."""
    stretches = [(of.target.sha256, of.target.start_s, of.target.end_s) for of in (one, other)]
    if stretches[0] != stretches[1]:
        raise ValueError(
            f"the scores are of other targets, {one.target.name} and {other.target.name}, or of other stretches of "
            "one; blend two of the same"
        )
    ways = [asdict(of.settings) for of in (one, other)]
    if differing := [name for name in ways[0] if ways[0][name] != ways[1][name] and name != "summary"]:
        terminal.warn(
            f"the scores were made with other settings ({', '.join(differing)}); the blend sounds in the way of "
            f"{first}, and may be louder or softer than the other was"
        )


def _share(text: str) -> float | Curve:
    """Percentages, one or over time, as shares of 1."""
    percent = as_varying("share", text.replace("%", ""))
    for value in percent.values if isinstance(percent, Curve) else [percent]:
        check_real("share", value, least=0, most=100)
    if isinstance(percent, Curve):
        return Curve(percent.times_s, tuple(value / 100 for value in percent.values))
    return float(percent) / 100


@app.command()
def export(
    score: ScoreFile,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT", help="A name ending in .rpp, .csv, .txt or .mid."),
    ],
    most: Annotated[
        int, typer.Option(min=1, metavar="N", help="REAPER: items at most; the least of the grains are left out.")
    ] = MOST_ITEMS,
    sources: Places = None,
    changed: Changed = False,
    overwrite: Overwrite = False,
) -> None:
    """Take a score into other tools.

    .rpp: a REAPER project with a track for each source and an item for each
    grain. .csv: a table. .txt: a label track for Audacity. .mid: the notes of
    transposed grains.

    [bold]Examples[/bold]

    smalti score export score.json -o mosaic.rpp

    smalti score export score.json -o grains.csv
    """
    request = ExportRequest(score, output, most, tuple(sources or ()), changed, overwrite)
    written: Exported = terminal.watched(export_steps(request))
    if written.reduction is None:
        sentence = f"{EXPORTS[written.ending]}, of {counted(written.n_grains, 'grain')}"
    else:
        sentence = _reduced(written.reduction)
    print(terminal.line(f"{output}: {sentence}"))


def _reduced(told: Reduction) -> str:
    """One sentence on the items: how many there are, and what playing them changes."""
    items = f"{counted(told.n_items, 'item')} of {counted(told.n_grains, 'grain')}, {told.n_points} breakpoints"
    error = "" if told.error_db is None else f", {told.error_db:.1f} dB from the grains as they are"
    pitched = f"; {counted(told.n_transposed, 'grain')} transposed by REAPER itself" if told.n_transposed else ""
    return items + error + pitched


@app.command()
def schema() -> None:
    """Print the form of a score file, as JSON Schema."""
    print(report_json(score_file.schema()), end="")
