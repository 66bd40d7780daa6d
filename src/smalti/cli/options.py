"""Options that several commands share, and the options of settings, made from the list of settings."""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from smalti._checks import ParameterError, check_real
from smalti.curves import Curve, as_varying
from smalti.grains.filters import Filters
from smalti.io.sound_write import SUBTYPES
from smalti.knobs import Knob
from smalti.presets import PRESETS
from smalti.settings import GROUPS, KNOBS, MOST_SEMITONES, WAYS


def one_of(names: Iterable[str], help: str) -> Any:
    """An option that takes one of `names`. The help shows them, the shell completes them, the library checks them."""
    return typer.Option(metavar="|".join(names), autocompletion=lambda: list(names), help=help)


Preset = Annotated[str, one_of(PRESETS, "How to build it; see 'smalti presets'.")]
Subtype = Annotated[str | None, one_of(SUBTYPES, "Sample format of WAV and FLAC.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but warnings and errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
StartOfMosaics = Annotated[
    float | None, typer.Option(min=0, metavar="S", help="Start of the target's excerpt that they re-create.")
]
EndOfMosaics = Annotated[float | None, typer.Option(min=0, metavar="S", help="End of that excerpt.")]

ScoreFile = Annotated[Path, typer.Argument(metavar="SCORE.json", help="The score: a file that --score has written.")]
Places = Annotated[
    list[Path] | None,
    typer.Option("--look-in", metavar="PLACE", help="Look for its recordings in this folder, file or corpus, too."),
]
Changed = Annotated[bool, typer.Option("--changed", help="Use recordings that have changed since it was made.")]


# --- which sources


def _choice(*names: str, **kind: Any) -> Any:
    """An option that selects source files; the help shows these options in one group."""
    return typer.Option(*names, rich_help_panel="Which sources, and how much of them", **kind)


Include = Annotated[
    list[str] | None,
    _choice(
        metavar="PATTERN", help="Only files that match PATTERN: a folder's name, '*.flac', tag:NAME. May be repeated."
    ),
]
Exclude = Annotated[
    list[str] | None, _choice(metavar="PATTERN", help="No file that matches PATTERN; may be given again.")
]
Tags = Annotated[
    list[str] | None, _choice("--tag", metavar="NAME", help="Only files with this tag; may be given again.")
]
Shortest = Annotated[float | None, _choice(min=0, metavar="S", help="Only files at least this long.")]
Longest = Annotated[float | None, _choice(min=0, metavar="S", help="Only files at most this long.")]
Quietest = Annotated[float | None, _choice(metavar="LUFS", help="Only files at least this loud, such as -40.")]
Loudest = Annotated[float | None, _choice(metavar="LUFS", help="Only files at most this loud.")]
Weights = Annotated[
    list[str] | None,
    _choice(
        "--weight", metavar="PATTERN=X", help="Files that match PATTERN count X times, such as rain=0.5; 0 bars them."
    ),
]
Limits = Annotated[
    list[str] | None,
    _choice(
        "--limit",
        metavar="PATTERN=PERCENT",
        help="At most this much comes from files that match PATTERN, such as rain=20.",
    ),
]


def filters_from(
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
    shortest: float | None = None,
    longest: float | None = None,
    quietest: float | None = None,
    loudest: float | None = None,
) -> Filters:
    """The `Filters` of the options of these names; errors as for `Filters`."""
    return Filters(
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        tags=tuple(tags or ()),
        shortest_s=0.0 if shortest is None else shortest,
        longest_s=math.inf if longest is None else longest,
        quietest_lufs=-math.inf if quietest is None else quietest,
        loudest_lufs=math.inf if loudest is None else loudest,
    )


def weights_from(texts: Sequence[str] | None) -> dict[str, float]:
    """Read weights by pattern from texts such as ``rain=0.5``."""
    return dict(_pattern_and_number(text, "--weight", "rain=0.5") for text in texts or ())


def limits_from(texts: Sequence[str] | None) -> dict[str, float]:
    """Read shares, from 0 to 1, by pattern from texts such as ``rain=20`` or ``rain=20%``."""
    numbers = [_pattern_and_number(text.removesuffix("%"), "--limit", "rain=20") for text in texts or ()]
    return {pattern: check_real(f"--limit {pattern}", percent, least=0, most=100) / 100 for pattern, percent in numbers}


def _pattern_and_number(text: str, option: str, example: str) -> tuple[str, float]:
    pattern, _, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not pattern or not math.isfinite(number):
        raise ValueError(f"{option} is {text!r}; pass a pattern and a number, such as {example}")
    return pattern, number


# --- the settings


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every setting that has one.

    The command receives a dictionary `knobs` with the settings whose options were given.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "knobs"]
    optioned = [(GROUPS.index(knob.option.group), name) for name, knob in KNOBS.items() if knob.option is not None]
    # The sort is stable, so settings keep their order within a group.
    optional = {_argument(name): name for _, name in sorted(optioned, key=lambda pair: pair[0])}
    added = [
        inspect.Parameter(argument, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(KNOBS[name]))
        for argument, name in optional.items()
    ]

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        knobs = {
            name: setting_value(name, value)
            for argument, name in optional.items()
            if (value := given.pop(argument)) is not None
        }
        command(**given, knobs=knobs)

    # The options of settings come after the positional arguments and the preset, before the rest.
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    at = 1 + [parameter.name for parameter in parameters].index("preset")
    parameters[at:at] = added
    vars(wrapped)["__signature__"] = signature.replace(parameters=parameters)
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def _argument(name: str) -> str:
    option = KNOBS[name].option
    return "" if option is None else option.name.replace("-", "_")


def _annotation(knob: Knob) -> Any:
    """The type and the option of a setting on the command line."""
    option = knob.option
    assert option is not None
    shape: dict[str, Any] = {"help": option.help, "rich_help_panel": option.group}
    names = [f"--{name}" for name in (option.name, *option.aliases)]
    if option.offers:
        shape["autocompletion"] = lambda: list(option.offers)
    if knob.kind == "flag":
        return Annotated[bool | None, typer.Option(f"{names[0]}/--no-{option.name}", **shape)]
    shape["metavar"] = option.metavar or "|".join(option.offers)
    if knob.varies or knob.kind in ("own", "choice"):
        return Annotated[str | None, typer.Option(*names, **shape)]
    for end, value in (("min", knob.least), ("max", knob.most)):
        if math.isfinite(value):
            bound = value / option.scale
            # Whole numbers, so that the help shows "x>=0" rather than "x>=0.0".
            shape[end] = int(bound) if bound.is_integer() else bound
    kind = int if knob.kind in ("count", "rate") else float
    return Annotated[kind | None, typer.Option(*names, **shape)]


def setting_value(name: str, given: Any) -> Any:
    """Convert the value of an option to the value of its setting."""
    knob = KNOBS[name]
    if name == "transpose":
        return _semitones(given)
    if name == "loudness":
        return _number_or_word(given)
    scale = 1.0 if knob.option is None else knob.option.scale
    if scale == 1:
        return given
    if not knob.varies:
        return given * scale
    curve = as_varying(name, given)
    for value in curve.values if isinstance(curve, Curve) else (curve,):
        # An error must show the number before it is scaled.
        check_real(name, value, least=knob.least)
    if isinstance(curve, Curve):
        return replace(curve, values=tuple(value * scale for value in curve.values))
    return float(curve * scale)


def _number_or_word(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _semitones(text: str) -> str | tuple[float, float] | Curve:
    """Read --transpose: one of `WAYS`, a range of semitones (a lone number is both ends), or a curve of them."""
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
        raise ParameterError(
            "transpose",
            f"is {text!r}",
            f"pass one of {', '.join(WAYS)}, or semitones: a number, a range such as -12..12, or a curve such as "
            "'0:0, 8:12'",
        ) from None
    if not dots:
        # A lone number has no ends, so the error must not mention one.
        check_real("transpose", ends[0], least=-MOST_SEMITONES, most=MOST_SEMITONES)
    return ends


def setting_from(text: str) -> tuple[str, Any]:
    """Read a setting's name and value from text such as candidates=8; "none" is None."""
    name, equals, value = text.partition("=")
    if not equals or name not in KNOBS or name == "summary":
        known = ", ".join(knob for knob in KNOBS if knob != "summary")
        raise ValueError(f"--set is {text!r}; pass NAME=VALUE, where NAME is one of {known}")
    knob = KNOBS[name]
    if name == "transpose":
        return name, _semitones(value)
    if knob.varies and ":" in value:
        return name, as_varying(name, value)
    if value == "none":
        return name, None
    if knob.kind == "flag":
        if value not in ("true", "false"):
            raise ValueError(f"--set is {text!r}; pass {name}=true or {name}=false")
        return name, value == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return name, kind(value)
    return name, value


# The options of parameters that are not settings.
_OPTIONS = {
    "start_s": "--start", "end_s": "--end", "n_fft": "--n-fft", "hop": "--hop", "preset": "--preset",
    "weights": "--weight", "limits": "--limit", "sketch": "--sketch", "target_f0": "--target-f0",
    "length_s": "--length", "stems_by": "--stems-by", "shortest_s": "--shortest", "longest_s": "--longest",
    "quietest_lufs": "--quietest", "loudest_lufs": "--loudest", "mute": "--mute", "solo": "--solo", "swaps": "--swap",
    "semitones": "--transpose", "gain_db": "--gain", "shift_s": "--shift", "seconds": "--shift", "percent": "--share",
    "between": "--between", "seed": "--seed",
}  # fmt: skip


def option_of(parameter: str) -> str:
    """The option of a parameter of the library: ``--grain-length`` for ``grain_length_s``."""
    knob = KNOBS.get(parameter)
    if knob is None:
        return _OPTIONS.get(parameter, parameter)
    # A setting without an option of its own is set by --set NAME=VALUE.
    return parameter if knob.option is None else f"--{knob.option.name}"
