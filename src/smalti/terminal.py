"""What all commands print with: sentences, tables, progress bars; and how they are stopped."""

import re
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


class Terminated(BaseException):
    """SIGTERM as an exception, so that files half-written beside their names are removed on the way out."""


class Stopped(BaseException):
    """Stopped from outside, where there is more to say than that; with the code to exit with."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def warn(sentence: str) -> None:
    print(line(f"smalti: warning: {sentence}"), file=sys.stderr)


def line(sentence: str) -> str:
    """One line, whatever control characters the name of a file may hold."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda control: ascii(control[0])[1:-1], sentence)


def bar(quiet: bool, *columns: Any) -> Progress:
    """A progress bar on stderr, shown on a terminal only and gone when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # Rich takes a pipe for a terminal where colours are forced upon it.
        disable=quiet or not sys.stderr.isatty(),
    )


def table(name: str, *columns: str) -> Table:
    """A plain table whose first column, which is there to be copied, is never broken."""
    table = Table(box=None, pad_edge=False)
    table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column)
    return table


def show(table: Table) -> None:
    # In a pipe, lines stay whole for whatever reads them.
    Console(width=None if sys.stdout.isatty() else 500).print(table)
