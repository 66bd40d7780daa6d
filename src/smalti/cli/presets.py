"""``smalti presets`` and ``smalti examples``: list the presets and the example recordings."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from smalti._checks import check_choice
from smalti.cli import terminal
from smalti.io.examples import EXAMPLES
from smalti.presets import DEFAULT_PRESET, PRESETS
from smalti.settings import KNOBS
from smalti.workflows.report import report_json


def examples() -> None:
    """List the real recordings that example:NAME stands for."""
    table = terminal.table("name", "what", "length", "author", "licence")
    for example in EXAMPLES.values():
        table.add_row(
            f"example:{example.name}", example.title, f"{example.seconds:.1f} s", example.author, example.licence
        )
    terminal.show(table)


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
                table.add_row(setting, plain_value(value), KNOBS[setting].help)
        print(terminal.line(f"{name}: {shown[name].summary}"))
        terminal.show(table)


def plain_value(value: Any) -> str:
    """The text of a value as --set takes it, with floats rounded to four digits."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, tuple):
        return "..".join(map(plain_value, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
