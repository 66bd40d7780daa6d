"""Knobs: for each setting its help, unit, range, the methods that hear it, and its option on the command line."""

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from typing import Any, cast

from smalti._checks import ParameterTypeError, check_choice, check_count, check_rate, check_real
from smalti.curves import Curve

# The solvers that a setting may matter to: multiplicative updates and orthogonal matching pursuit.
METHODS = ("updates", "pursuit")
# Kinds of values, by which they are checked. Values of kind "own" have a check of their own in `Settings`.
VALUE_KINDS = ("flag", "count", "rate", "real", "choice", "own")


@dataclass(frozen=True)
class Option:
    """A setting as musicians know it.

    Attributes
    ----------
    name : of the option, without dashes. aliases : other spellings.
    help : one or two sentences. metavar : what stands for its value.
    group : which settings it belongs with.
    scale : what its value is multiplied by to become the setting's: .001 where it is in milliseconds.
    offers : words that it may be, for a shell to complete.
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
    help : what it does. kind : see `VALUE_KINDS`.
    unit : of its value, or "".
    least, most : its range, both ends included. choices : what it may be, if it is one of some words.
    methods : those that hear it.
    varies : whether it may be a `Curve` over the target's time.
    optional : whether it may be None.
    option : its option on the command line, or None.
    """

    help: str
    kind: str
    unit: str = ""
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    methods: tuple[str, ...] = METHODS
    varies: bool = False
    optional: bool = False
    option: Option | None = None

    def check(self, name: str, value: Any) -> None:
        """Raise `ParameterError` or `ParameterTypeError` where a setting may not have this value."""
        if self.varies and isinstance(value, Curve):
            for end, what in ((value.least, "least"), (value.most, "most")):
                check_real(f"{name} at its {what}", end, least=self.least, most=self.most)
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


def knob_field(default: Any, help: str, kind: str, **more: Any) -> Any:
    """A dataclass field that carries what is known of it, for `knob_of`."""
    return field(default=default, metadata={"knob": Knob(help, kind, **more)})


def knob_of(of: Field[Any]) -> Knob:
    """The knob of a dataclass field."""
    return cast(Knob, of.metadata["knob"])


def documented(head: str, knobs: Mapping[str, Knob]) -> str:
    """The docstring of a class of settings: `head`, and what is known of each, with its unit and range."""
    varying = ", ".join(f"`{name}`" for name, knob in knobs.items() if knob.varies)
    lines = [head, "", f"A `Curve` over the target's time may be given for {varying}.", "", "Attributes", "-" * 10]
    return "\n    ".join(lines + [f"{name} : {_described(knob)}" for name, knob in knobs.items()]) + "\n"


def _described(knob: Knob) -> str:
    ranged = "" if math.isinf(knob.least) else f"at least {knob.least:g}"
    if not math.isinf(knob.most):
        ranged = f"{knob.least:g} to {knob.most:g}"
    about = " ".join(filter(None, (ranged if knob.kind in ("real", "count", "rate") else "", knob.unit)))
    return f"({about}) {knob.help}" if about else knob.help
