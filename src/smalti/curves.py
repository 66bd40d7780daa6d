"""Settings that change over time: breakpoints, straight lines between them, and jumps."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, ParameterError, ParameterTypeError

# An example of the form, for error messages.
CURVE_EXAMPLE = "seconds and values such as '0:2, 4:8'"


class _CurveError(ValueError):
    """Breakpoints make no curve. It is told without the name of the setting that the curve is for."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(fault, remedy)
        self.fault, self.remedy = fault, remedy

    def __str__(self) -> str:
        return f"{self.fault}; {self.remedy}"


@dataclass(frozen=True)
class Curve:
    """A value that changes over time: linear between breakpoints, constant before the first and after the last.

    Attributes
    ----------
    times_s : finite seconds in rising order. Two points at one time are a jump, and the second one holds at that time.
    values : finite numbers, as many as times.

    Raises
    ------
    TypeError : if a time or a value is no number.
    ValueError : if there is no point, if times are out of order, if three points share a time, or if a number is not
        finite.

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
            raise _CurveError(f"{len(self.times_s)} times have {len(self.values)} values", "pass as many of each")
        if not self.times_s:
            raise _CurveError("a curve has no point", f"pass at least one: {CURVE_EXAMPLE}")
        for before, after in zip(self.times_s, self.times_s[1:], strict=False):
            if after < before:
                raise _CurveError(
                    f"{after:g} s comes after {before:g} s", "pass breakpoints in the order of their times"
                )
        for first, last in zip(self.times_s, self.times_s[2:], strict=False):
            if first == last:
                raise _CurveError(
                    f"three points stand at {first:g} s", "pass two for a jump, from the first to the second"
                )

    @classmethod
    def parse(cls, text: str) -> "Curve":
        """Read a curve from text such as ``0:2, 4:8``, pairs of seconds and a value; else raise `ValueError`."""
        points = []
        for point in text.split(","):
            time_s, colon, value = point.partition(":")
            if not colon or not point.strip():
                raise _CurveError(f"{point.strip()!r} is no breakpoint", f"pass {CURVE_EXAMPLE}")
            points.append((_read(time_s, point), _read(value, point)))
        return cls.through(points)

    @classmethod
    def through(cls, points: Sequence[Sequence[float]] | NDArray[Any]) -> "Curve":
        """The curve through (seconds, value) pairs, which may be the rows of an (N, 2) array; errors as for `Curve`."""
        for point in points:
            if not isinstance(point, list | tuple | np.ndarray) or len(point) != 2:
                raise _CurveError(
                    f"{point!r} is no breakpoint", "pass pairs of seconds and values, such as (0, 2), (4, 8)"
                )
        return cls(tuple(time_s for time_s, _ in points), tuple(value for _, value in points))

    def at(self, times_s: ArrayLike) -> Floats:
        """The values, float64, at times in seconds of any shape, in that shape."""
        at, own, values = np.asarray(times_s, np.float64), np.array(self.times_s), np.array(self.values)
        right = np.searchsorted(own, at, side="right")
        left, right = np.maximum(right - 1, 0), np.minimum(right, len(own) - 1)
        span = own[right] - own[left]
        share = np.divide(at - own[left], span, out=np.zeros_like(at), where=span > 0)
        # Without clipping, rounding could leave the range that was checked, and a constant curve would not be exact.
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
        raise _CurveError(f"{point.strip()!r} is no breakpoint", f"pass {CURVE_EXAMPLE}")
    return number


def as_varying(name: str, value: Any) -> Any:
    """Read the value of a setting that may change over time.

    Parameters
    ----------
    name : name of the setting, for errors.
    value : a number, a `Curve`, a list of (seconds, value) pairs, a mapping of `times_s` and `values`, or a text with a
        number or with ``seconds:value`` pairs. A tuple of two numbers is a range, not a curve.

    Returns
    -------
    A `Curve` for breakpoints in any form, a number for the text of a number, and any other value unchanged.

    Raises
    ------
    TypeError, ValueError : for breakpoints that make no curve, and for texts that are neither breakpoints nor a number.
    """
    try:
        if isinstance(value, str) and ":" in value:
            return Curve.parse(value)
        if isinstance(value, Mapping):
            return Curve(**value)
        if isinstance(value, list | np.ndarray) or (isinstance(value, tuple) and not all(map(np.isscalar, value))):
            return Curve.through(value)
    except _CurveError as error:
        raise ParameterError(name, f"is {_shown(value)}: {error.fault}", error.remedy) from None
    except (ParameterError, ParameterTypeError) as error:
        raise type(error)(name, f"is {_shown(value)}: {error.name} {error.got}", error.remedy) from None
    if isinstance(value, str):
        value, text = _number(value), value
        if isinstance(value, str):
            raise ParameterError(name, f"is {_shown(text)}", f"pass a number, or {CURVE_EXAMPLE}")
    return value


def _number(text: str) -> int | float | str:
    """The number that `text` spells, or `text` itself."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def on_frames(value: float | Curve, n_frames: int, hop_s: float) -> Floats:
    """Evaluate a number or a curve at every frame of a grid of `hop_s` seconds; (n_frames,) float64."""
    return on_times(value, np.arange(n_frames) * hop_s)


def on_times(value: float | Curve, times_s: Floats) -> Floats:
    """Evaluate a number or a curve at times in seconds; float64, in the shape of `times_s`."""
    return value.at(times_s) if isinstance(value, Curve) else np.full_like(times_s, value, np.float64)
