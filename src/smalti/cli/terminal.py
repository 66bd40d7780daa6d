"""Sentences, tables and progress bars of all commands, and the exceptions that stop a command."""

import re
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from smalti.io.examples import EXAMPLES, example_name, fetch_example
from smalti.workflows import steps
from smalti.workflows.inputs import named_file


class Terminated(BaseException):
    """SIGTERM as an exception, so that half-written temporary files are removed on the way out."""


class Stopped(BaseException):
    """A stop from outside that has a sentence of its own, and the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def warn(sentence: str) -> None:
    print(line(f"smalti: warning: {sentence}"), file=sys.stderr)


def line(sentence: str) -> str:
    """Escape control characters, which the name of a file may hold, so that a sentence stays on one line."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda control: ascii(control[0])[1:-1], sentence)


def peaks_held(limited_db: float, peak_gain_db: float) -> str:
    """The end of a sentence: how peaks were kept safe; "" if the change is inaudible."""
    limited = f", peaks limited by up to {-limited_db:.1f} dB" if limited_db < -0.05 else ""
    return limited + (f", turned down {-peak_gain_db:.1f} dB to keep peaks safe" if peak_gain_db < -0.05 else "")


def bar(quiet: bool, *columns: Any) -> Progress:
    """A progress bar on stderr, shown on a terminal only and gone when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # Rich takes a pipe for a terminal if colours are forced.
        disable=quiet or not sys.stderr.isatty(),
    )


# Stages that the bar shows, and its text in each.
_SHOWN = {"solve": "building", "synthesise": "making the sound", "measure": "judging"}


def watched(events: steps.Events, *columns: Any, quiet: bool = False) -> Any:
    """Run a workflow to its end with warnings, remarks and a progress bar on stderr; return its result.

    The bar is taken away before anything is printed. If `quiet`, nothing but warnings is shown.
    """
    result, activity = None, ""
    with closing(events), ExitStack() as stack:
        shown: tuple[Progress, TaskID] | None = None
        for event in events:
            if isinstance(event, steps.Warned | steps.Remark) or (
                isinstance(event, steps.Stage) and event.name not in _SHOWN
            ):
                stack.close()
                shown = None
            match event:
                case steps.Warned(sentence):
                    warn(sentence)
                case steps.Remark(sentence) if not quiet:
                    print(line(f"smalti: {sentence}"), file=sys.stderr)
                case steps.Stage(name) if name in _SHOWN:
                    activity = _SHOWN[name]
                    if shown is not None:
                        shown[0].update(shown[1], description=activity)
                case steps.Progress(done, total, divergence):
                    if shown is None:
                        progress = stack.enter_context(bar(quiet, *columns))
                        shown = progress, progress.add_task(activity, total=total, divergence="")
                    if divergence is None:
                        shown[0].update(shown[1], completed=done)
                    else:
                        shown[0].update(shown[1], completed=done, divergence=f"{divergence:.4g}")
                case steps.Done(result):
                    pass
    return result


def table(name: str, *columns: str) -> Table:
    """A plain table; its first column never wraps, so that users can copy it."""
    table = Table(box=None, pad_edge=False)
    table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column)
    return table


def show(table: Table) -> None:
    # Lines in a pipe stay whole for the program that reads them. Brackets belong to names and are no markup.
    Console(width=None if sys.stdout.isatty() else 500, markup=False).print(table)


def once(sentence: str) -> Callable[[], None]:
    """A function that prints a sentence on stderr the first time it is called, and nothing after that."""
    printed = list[str]()

    def say() -> None:
        if not printed:
            printed.append(sentence)
            print(line(f"smalti: {sentence}"), file=sys.stderr)

    return say


def located(name: str, quiet: bool = False) -> Path:
    """The file or folder that a name on the command line stands for; an example is fetched if need be."""
    example = example_name(name)
    if example is None:
        return named_file(name)
    with bar(quiet, DownloadColumn()) as shown:
        path = fetch_example(example, progress=_Download(shown, name))
    if not quiet:
        about = EXAMPLES[example]
        print(f"{name}: {about.title} by {about.author}, {about.licence}", file=sys.stderr)
    return path


class _Download:
    """A progress bar with the interface that pooch uses: it sets `total`, then calls `update`."""

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


def counted(n: int, noun: str) -> str:
    """A number with its noun: "1 grain", "3 grains"."""
    return f"{n} {noun}{'s' * (n != 1)}"
