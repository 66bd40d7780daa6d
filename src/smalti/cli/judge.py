"""``smalti judge``: measure how good mosaics are, side by side."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smalti._checks import check_real
from smalti.cli import terminal
from smalti.cli.options import EndOfMosaics, StartOfMosaics
from smalti.cli.terminal import located
from smalti.metrics import MEASURES, Measure
from smalti.workflows.inputs import Excerpt
from smalti.workflows.judge import JudgeRequest, judge_steps
from smalti.workflows.report import report_json


def judge(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The recording that they re-create: a sound file, or example:NAME.")
    ],
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Their material: a sound file, a folder, or example:NAME."),
    ],
    mosaic: Annotated[list[str], typer.Argument(metavar="MOSAIC", help="The mosaics: sound files, from any tool.")],
    also: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE", help="One more source; may be given again.")
    ] = None,
    start: StartOfMosaics = None,
    end: EndOfMosaics = None,
    hop: Annotated[
        float | None,
        typer.Option(
            metavar="MS", help="Their hop, which sets the rate of the buzz to measure; about 23.2 if left out."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON instead of a table.")] = False,
) -> None:
    """Measure how good mosaics are, side by side, whether made with smalti or not.

    docs/measures.md says what each number hears, and how it is fooled.

    [bold]Examples[/bold]

    smalti judge song.wav bees.wav bees_sing.wav

    smalti judge speech.wav rain/ --also wind/ storm_1.wav storm_2.wav
    """
    hop_s = None if hop is None else check_real("hop", hop, least=2, most=1000) / 1000
    request = JudgeRequest(
        target=str(located(target, json)),
        sources=tuple(str(located(name, json)) for name in (source, *(also or ()))),
        mosaics=tuple(str(located(name, json)) for name in mosaic),
        excerpt=Excerpt(start, end),
        hop_s=hop_s,
    )
    report = terminal.watched(judge_steps(request), quiet=json)
    if json:
        print(report_json(report), end="")
    else:
        _show_judged(report)


# Widths of the table: of the columns beside the mosaics (name and unit, better direction, limit, with gaps), and the
# least of a mosaic's column, which holds a number, both its marks and a gap.
_BESIDE_MOSAICS, _LEAST_COLUMN = 29, 10
_LONGEST_SUMMARY = 39
# A pipe has no width; every table is narrower than this.
_NO_WIDTH = 1_000_000


def _show_judged(report: Mapping[str, Any]) -> None:
    """Print the numbers with a column for each mosaic, in several tables if the terminal is too narrow for one."""
    console = Console(width=None if sys.stdout.isatty() else _NO_WIDTH)
    target, sources, mosaics = report["target"], report["sources"], report["mosaics"]
    print(terminal.line(f"target: {target['path']} ({target['duration_s']:.1f} s)"))
    print(terminal.line(f"source: {sources[0]['path'] if len(sources) == 1 else f'{len(sources)} recordings'}"))
    names = _short_names([mosaic["path"] for mosaic in mosaics])
    rows = {
        name: _cells(MEASURES[name], [mosaic["measures"][name] for mosaic in mosaics])
        for name in mosaics[0]["measures"]
    }
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


def _short_names(paths: Sequence[str]) -> list[str]:
    """The shortest names that tell the files apart: without endings, with them, or whole paths."""
    for short in ([Path(path).stem for path in paths], [Path(path).name for path in paths]):
        if len(set(short)) == len(set(paths)):
            return [terminal.line(name) for name in short]
    return [terminal.line(path) for path in paths]


def _judged_table(names: Sequence[str], rows: Mapping[str, Sequence[Text]], width: int) -> Table:
    columns = [max(len(name) + 2, _LEAST_COLUMN) for name in names]
    # A lone name may wrap to make room for the explanations: the user has just typed it.
    room = _LEAST_COLUMN if len(names) == 1 else sum(columns)
    explained = _BESIDE_MOSAICS + room + 2 + _LONGEST_SUMMARY <= width
    table = terminal.table("", "better", "limit")
    for column in table.columns:
        column.no_wrap = True
    for name in names:
        # A long name wraps: cutting it could lose the part by which it differs.
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
    """One row's numbers as text, with * for the best and ! for those beyond the limit."""
    decimals = 1 if about.unit == "dB" else 3
    rounded = [round(value, decimals) + 0.0 for value in values]  # no -0.0
    # A fault's value below 0 is no better than 0.
    rivals = rounded if about.limit is None else [max(0.0, number) for number in rounded]
    best = max(rivals) if about.better == "higher" else min(rivals)
    # Equal values have no best.
    differ = about.better != "" and min(rivals) < max(rivals)
    cells = []
    for value, number, rival in zip(values, rounded, rivals, strict=True):
        is_best, beyond = differ and rival == best, about.limit is not None and value > about.limit
        # A value just above 0 must not be shown as 0 if the limit is 0.
        text = "<0.001" if number == 0 < value and decimals == 3 else f"{number:.{decimals}f}"
        marks = "*" * is_best + "!" * beyond
        cells.append(Text(f"{marks} {text}" if marks else text, "red" if beyond else "green" if is_best else ""))
    return cells
