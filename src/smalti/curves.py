"""Settings that change over time: breakpoints, straight lines between them, and jumps."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, ParameterError, ParameterTypeError

# An example of the form, for error messages.
CURVE_EXAMPLE = "seconds and values such as '0:2, 4:8'"


@dataclass(frozen=True)
class Curve:
    """A value that changes over time: linear between breakpoints, constant before the first and after the last.

    Attributes
    ----------
    times_s : seconds, never falling. Two points at the same time are a jump, at which the second one counts.
    values : as many finite numbers.

    Raises
    ------
    TypeError, ValueError : for no point, times out of order, three at one time, or what is no finite number.

    Examples
    --------
    >>> Curve.parse("0:2, 4:8").at(1.0).item()
    3.5
    """

    times_s: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("times_s", "values"):
            numbers = getattr(self, name)
            if not isinstance(numbers, list | tuple | np.ndarray):
                raise ParameterTypeError(name, f"is {numbers!r}", "pass a tuple of numbers")
            object.__setattr__(self, name, tuple(_finite(name, number) for number in numbers))
        if len(self.times_s) != len(self.values):
            raise ValueError(f"{len(self.times_s)} times have {len(self.values)} values; pass as many of each")
        if not self.times_s:
            raise ValueError(f"a curve has no point; pass at least one: {CURVE_EXAMPLE}")
        for before, after in zip(self.times_s, self.times_s[1:], strict=False):
            if after < before:
                raise ValueError(f"{after:g} s comes after {before:g} s; pass breakpoints in the order of their times")
        for first, last in zip(self.times_s, self.times_s[2:], strict=False):
            if first == last:
                raise ValueError(
                    f"three points stand at {first:g} s; pass two for a jump, from the first to the second"
                )

    @classmethod
    def parse(cls, text: str) -> "Curve":
        """The curve of a text such as ``0:2, 4:8``: a time in seconds, a colon and a value, as often as needed."""
        points = []
        for point in text.split(","):
            time_s, colon, value = point.partition(":")
            if not colon or not point.strip():
                raise ValueError(f"{point.strip()!r} is no breakpoint; pass {CURVE_EXAMPLE}")
            points.append((_read(time_s, point), _read(value, point)))
        return cls.through(points)

    @classmethod
    def through(cls, points: Sequence[Sequence[float]] | NDArray[Any]) -> "Curve":
        """The curve through (seconds, value) pairs."""
        for point in points:
            if not isinstance(point, list | tuple | np.ndarray) or len(point) != 2:
                raise TypeError(f"{point!r} is no breakpoint; pass pairs of seconds and values, such as (0, 2), (4, 8)")
        return cls(tuple(time_s for time_s, _ in points), tuple(value for _, value in points))

    def at(self, times_s: ArrayLike) -> Floats:
        """The values at some times in seconds, in their shape, float64."""
        at, own, values = np.asarray(times_s, np.float64), np.array(self.times_s), np.array(self.values)
        right = np.searchsorted(own, at, side="right")
        left, right = np.maximum(right - 1, 0), np.minimum(right, len(own) - 1)
        span = own[right] - own[left]
        share = np.divide(at - own[left], span, out=np.zeros_like(at), where=span > 0)
        # Clipped to its ends: a curve that never moves is exactly its number, and rounding leads to nothing that was
        # not checked.
        return np.asarray(np.clip(values[left] + share * (values[right] - values[left]), self.least, self.most))

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return ", ".join(f"{_plain(t)}:{_plain(v)}" for t, v in zip(self.times_s, self.values, strict=True))


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")


def _finite(name: str, number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float | np.integer | np.floating):
        raise ParameterTypeError(name, f"holds {number!r}", "pass numbers")
    if not math.isfinite(number):
        raise ParameterError(name, f"holds {number:g}", "pass finite numbers")
    return float(number)


def _read(text: str, point: str) -> float:
    number = _number(text)
    if isinstance(number, str) or not math.isfinite(number):
        raise ValueError(f"{point.strip()!r} is no breakpoint; pass {CURVE_EXAMPLE}")
    return number


def as_varying(name: str, value: Any) -> Any:
    """A value of a setting that may change over time: a curve where it is one in any of its forms, else as it came.

    Parameters
    ----------
    name : of the setting, for errors.
    value : a number, a `Curve`, a list of (seconds, value) pairs, or a text with a number or with ``seconds:value``
        pairs. A tuple of two numbers is a range, and no curve.

    Raises
    ------
    TypeError, ValueError : for breakpoints that make no curve, and texts that are neither.
    """
    try:
        if isinstance(value, str) and ":" in value:
            return Curve.parse(value)
        if isinstance(value, list | np.ndarray) or (isinstance(value, tuple) and not all(map(np.isscalar, value))):
            return Curve.through(value)
    except (TypeError, ValueError) as error:
        kind = ParameterTypeError if isinstance(error, TypeError) else ParameterError
        got, _, remedy = str(error).rpartition("; ")
        raise kind(name, f"is {_shown(value)}: {got}", remedy) from None
    if isinstance(value, str):
        value, text = _number(value), value
        if isinstance(value, str):
            raise ParameterError(name, f"is {_shown(text)}", f"pass a number, or {CURVE_EXAMPLE}")
    return value


def _number(text: str) -> int | float | str:
    """The number that a text is, if it is one."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def on_frames(value: float | Curve, n_frames: int, hop_s: float) -> Floats:
    """(n_frames,) a value that may be a curve, at every frame of a grid of `hop_s` seconds."""
    return on_times(value, np.arange(n_frames) * hop_s)


def on_times(value: float | Curve, times_s: Floats) -> Floats:
    """A value that may be a curve, at some times in seconds, in their shape."""
    return value.at(times_s) if isinstance(value, Curve) else np.full_like(times_s, value, np.float64)
