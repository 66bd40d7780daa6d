"""Knobs: for each setting its help, unit, range, the methods that use it, and its option on the command line."""

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from typing import Any, Literal, cast

from smalti._checks import ParameterTypeError, check_choice, check_count, check_rate, check_real
from smalti.curves import Curve

# The solvers that a setting may matter to: multiplicative updates and orthogonal matching pursuit.
METHODS = ("updates", "pursuit")
# The kind of a value decides how it is checked. `Settings` itself checks values of kind "own".
Kind = Literal["flag", "count", "rate", "real", "choice", "own"]


@dataclass(frozen=True)
class Option:
    """The option of a setting on the command line.

    Attributes
    ----------
    name : the option's name, without dashes. aliases : other spellings.
    help : one or two sentences. metavar : the placeholder for its value in the help.
    group : heading in the help.
    scale : the setting is the option's value times this: 0.001 for an option in milliseconds.
    offers : words that a shell completes.
    """

    name: str
    help: str
    metavar: str = ""
    group: str = ""
    aliases: tuple[str, ...] = ()
    scale: float = 1.0
    offers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Knob:
    """The facts about one setting.

    Attributes
    ----------
    help : the setting's effect. kind : decides how it is checked.
    unit : unit of the value, or "".
    least, most : the range, both ends included. choices : the allowed words of kind "choice".
    methods : the methods that use the setting.
    needs : another setting that must not be "off" for this one to have an effect, or "".
    varies : True if it may be a `Curve` over the target's time.
    optional : True if it may be None.
    option : its option on the command line, or None.
    """

    help: str
    kind: Kind
    unit: str = ""
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    methods: tuple[str, ...] = METHODS
    needs: str = ""
    varies: bool = False
    optional: bool = False
    option: Option | None = None

    def check(self, name: str, value: Any) -> None:
        """Raise `ParameterError` or `ParameterTypeError` if the setting `name` may not have this value."""
        if self.varies and isinstance(value, Curve):
            for number, end in ((value.least, "least"), (value.most, "most")):
                check_real(name, number, least=self.least, most=self.most, after=f" at its {end}")
        elif self.kind == "own" or (self.optional and value is None):
            return
        elif self.kind == "flag":
            if not isinstance(value, bool):
                raise ParameterTypeError(name, f"is {value!r}", "pass True or False")
        elif self.kind == "count":
            check_count(name, value, least=int(self.least))
        elif self.kind == "rate":
            check_rate(name, value)
        elif self.kind == "choice":
            check_choice(name, value, self.choices)
        else:
            check_real(name, value, least=self.least, most=self.most)


def knob_field(default: Any, help: str, kind: Kind, **facts: Any) -> Any:
    """A dataclass field with a `Knob` in its metadata, which `knob_of` returns; `facts` are the knob's other fields."""
    return field(default=default, metadata={"knob": Knob(help, kind, **facts)})


def knob_of(setting: Field[Any]) -> Knob:
    """The knob of a dataclass field that `knob_field` made."""
    return cast(Knob, setting.metadata["knob"])


def documented(head: str, knobs: Mapping[str, Knob]) -> str:
    """The docstring of a class of settings: `head`, then each setting's range, unit and help."""
    varying = ", ".join(f"`{name}`" for name, knob in knobs.items() if knob.varies)
    lines = [head, "", f"A `Curve` over the target's time may be given for {varying}.", "", "Attributes", "-" * 10]
    return "\n    ".join(lines + [f"{name} : {_described(knob)}" for name, knob in knobs.items()]) + "\n"


def _described(knob: Knob) -> str:
    ranged = "" if math.isinf(knob.least) else f"at least {knob.least:g}"
    if not math.isinf(knob.most):
        ranged = f"{knob.least:g} to {knob.most:g}"
    about = " ".join(filter(None, (ranged if knob.kind in ("real", "count", "rate") else "", knob.unit)))
    return f"({about}) {knob.help}" if about else knob.help
