"""``smalti score``: show, edit, blend and export scores, which list the grains of a mosaic."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer

from smalti.cli import terminal
from smalti.cli.options import Changed, Json, Overwrite, Places, ScoreFile
from smalti.cli.terminal import counted
from smalti.curves import as_varying
from smalti.errors import require_extra
from smalti.io import score_file
from smalti.io.files import check_writable, write_atomic
from smalti.io.score_export import EXPORTS
from smalti.io.score_file import read_score
from smalti.score.daw_items import MOST_ITEMS, Reduction
from smalti.score.edit import Edits, Selection, Swap
from smalti.score.score import Score
from smalti.score.table import records, summary
from smalti.workflows.edit import BlendRequest, Edited, EditRequest, blend_steps, edit_steps
from smalti.workflows.export import Exported, ExportRequest, export_steps
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

# The number of grains that are listed by default.
SHOWN = 20


def _selecting(*names: str, **kind: Any) -> Any:
    """An option that selects the grains of an edit; the help shows these options in one group."""
    return typer.Option(*names, rich_help_panel="Which grains, and which parts of them", **kind)


@app.command()
def show(
    score: ScoreFile,
    grains: Annotated[
        int, typer.Option(min=0, metavar="N", help="List this many grains, the loudest of all; 0 for none.")
    ] = SHOWN,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw it as a piano roll: a lane for each source.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Show which source sounds when, how loud and how long, and its share of the mosaic.

    [bold]Examples[/bold]

    smalti score show score.json

    smalti score show score.json --picture roll.png --grains 200
    """
    if picture is not None:
        require_extra("plots", "pictures need matplotlib")
        refuse_inputs(picture, [score])
        if picture.suffix.lower() != ".png":
            raise ValueError(f"--picture is {picture}; choose a name that ends in .png")
        check_writable(picture, overwrite=overwrite)
    contents = read_score(score)
    if json:
        usages = [asdict(usage) for usage in summary(contents)]
        print(report_json({"sources": usages, "grains": records(contents)}), end="")
    else:
        _show(score, contents, grains)
    if picture is not None:
        from smalti import plots

        ax = plots.plot_score(contents, title=f"{score.name}: {counted(len(contents), 'grain')}")
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
        typer.Option(
            metavar="PATTERN=FILE", help="Cut these sources' grains from FILE, each where FILE is most like it."
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        _selecting(metavar="PATTERN", help="--gain, --shift and --transpose change these sources only."),
    ] = None,
    between: Annotated[
        tuple[float, float] | None, _selecting(metavar="S S", help="Only what sounds from one time to the other.")
    ] = None,
    louder_than: Annotated[float | None, _selecting(metavar="DB", help="Only grains louder than this.")] = None,
    quieter_than: Annotated[float | None, _selecting(metavar="DB", help="Only grains quieter than this.")] = None,
    longer_than: Annotated[float | None, _selecting(metavar="S", help="Only grains longer than this.")] = None,
    shorter_than: Annotated[float | None, _selecting(metavar="S", help="Only grains shorter than this.")] = None,
    grain: Annotated[
        list[int] | None, _selecting(metavar="N", help="Only the grain of this number. May be repeated.")
    ] = None,
    sources: Places = None,
    overwrite: Overwrite = False,
) -> None:
    """Change a score: silence sources, turn them up or down, move, transpose or swap them.

    The options of the second list select what is changed: grains that meet all
    of them. Edits are made in this order: swap, mute, solo, transpose, gain,
    shift.

    [bold]Examples[/bold]

    smalti score edit score.json edited.json --mute "rain*" --gain -6 --between 3.0 4.5

    smalti score edit score.json edited.json --swap one.wav=two.wav --shorter-than 0.2

    smalti score edit score.json edited.json --transpose 12 --grain 7 --grain 9
    """
    selection = Selection(
        sources=tuple(source or ()),
        between=between,
        louder_than_db=-math.inf if louder_than is None else louder_than,
        quieter_than_db=math.inf if quieter_than is None else quieter_than,
        longer_than_s=longer_than or 0.0,
        shorter_than_s=math.inf if shorter_than is None else shorter_than,
        ids=tuple(grain or ()),
    )
    edits = Edits(
        swaps=tuple(map(_swap, swap or ())),
        mute=tuple(mute or ()),
        solo=tuple(solo or ()),
        semitones=transpose or 0.0,
        gain_db=gain or 0.0,
        shift_s=shift or 0.0,
    )
    request = EditRequest(score, output, edits, selection, tuple(sources or ()), overwrite)
    scores: Edited = terminal.watched(edit_steps(request))
    print(terminal.line(f"{output}: {counted(len(scores.after), 'grain')}, of {len(scores.before)} before"))


def _swap(text: str) -> Swap:
    """Read rain=bees.wav: the pattern of sources, and the file that their grains are cut from."""
    pattern, equals, file = text.rpartition("=")
    if not equals or not pattern or not file:
        raise ValueError(f"--swap is {text!r}; pass PATTERN=FILE, such as rain=bees.wav")
    return Swap(pattern, file)


@app.command()
def blend(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="The first score.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another score of the same target.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.json", help="Where to write the blend.")],
    share: Annotated[
        str, typer.Option(metavar="PERCENT|BREAKPOINTS", help="How much of B sounds: 50, or over time '0:0, 8:100'.")
    ] = "50",
    overwrite: Overwrite = False,
) -> None:
    """Blend two mosaics of one target: each grain is taken whole or left out, without fades.

    [bold]Examples[/bold]

    smalti score blend bees.json rain.json -o storm.json --share "0:0, 8:100"
    """
    percent = as_varying("percent", share.replace("%", ""))
    mixture: Score = terminal.watched(blend_steps(BlendRequest(first, second, output, percent, overwrite)))
    shares = ", ".join(f"{usage.time_share:.0%} {Path(usage.name).name}" for usage in summary(mixture)[:4])
    print(terminal.line(f"{output}: {counted(len(mixture), 'grain')}, {shares}"))


@app.command()
def export(
    score: ScoreFile,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT", help="A name ending in .rpp, .csv, .txt or .mid."),
    ],
    most: Annotated[
        int, typer.Option(min=1, metavar="N", help="REAPER: most items; grains of the least energy are left out.")
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


def _reduced(reduction: Reduction) -> str:
    """One sentence on the items: how many there are, and what playing them changes."""
    items = f"{counted(reduction.n_items, 'item')} of {counted(reduction.n_grains, 'grain')}"
    points = f", {reduction.n_points} breakpoints"
    error = "" if reduction.error_db is None else f", {reduction.error_db:.1f} dB from the grains as they are"
    n_transposed = reduction.n_transposed
    pitched = f"; {counted(n_transposed, 'grain')} transposed by REAPER itself" if n_transposed else ""
    return items + points + error + pitched


@app.command()
def schema() -> None:
    """Print the JSON Schema of score files."""
    print(report_json(score_file.schema()), end="")
