"""Checks of arguments that all public functions share, so that each rule has one wording.

Each check returns its argument as the array or number that the kernels expect. A wrong value raises `ParameterError`
(a `ValueError`), a wrong type `ParameterTypeError` (a `TypeError`). Both know the name of the parameter.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
# Integers that may index an array without a conversion.
Indices = NDArray[np.intp]

# Squares of magnitudes, summed over a thousand bins, must stay far from the largest float32 (3e38).
LARGEST = 1e15
# A spectrum sums up to half a million samples.
LARGEST_SAMPLE = 1e9
# A larger number means that samples and channels were confused.
MOST_CHANNELS = 64
# Sample rates in Hz: no sound is slower, and no converter is faster.
LEAST_RATE, MOST_RATE = 1000, 768_000


class _AboutParameter(Exception):
    """One sentence about a parameter: its name, the fault, and the remedy.

    Attributes
    ----------
    name : the parameter's name in the library.
    got : the fault, beginning with a verb: "is 0".
    remedy : the allowed values and what to do: "pass a whole number of at least 1".
    also : other parameters, which `got` and `remedy` mention in braces: "pass more than {start_s}".
    before, after : words around the name where a part of the value is meant: "the lower end of ", " at its least".
    """

    def __init__(
        self, name: str, got: str, remedy: str, *, also: Sequence[str] = (), before: str = "", after: str = ""
    ) -> None:
        super().__init__(name, got, remedy)
        self.name, self.got, self.remedy, self.also = name, got, remedy, tuple(also)
        self.before, self.after = before, after

    def __str__(self) -> str:
        return self.worded(lambda name: name)

    def worded(self, word: Callable[[str], str]) -> str:
        """The sentence with each parameter named by `word`, which may turn ``layers`` into ``--layers``."""
        rest = f"{self.got}; {self.remedy}"
        for name in self.also:
            rest = rest.replace(f"{{{name}}}", word(name))
        return f"{self.before}{word(self.name)}{self.after} {rest}"


class ParameterError(_AboutParameter, ValueError):
    """A parameter has a value that is not allowed."""


class ParameterTypeError(_AboutParameter, TypeError):
    """A parameter has the wrong type."""


def check_signal(name: str, samples: ArrayLike) -> Floats:
    """Return `samples` as a finite mono signal, (L,) float32 or float64, L >= 1."""
    return _check_samples(name, samples, several=False)


def check_sound(name: str, samples: ArrayLike) -> Floats:
    """Return `samples` as a finite sound, float32 or float64, (L,) for one channel and (C, L) for more; L >= 1."""
    sound = _check_samples(name, samples, several=True)
    return sound[0] if sound.ndim == 2 and len(sound) == 1 else sound


def _check_samples(name: str, samples: ArrayLike, *, several: bool) -> Floats:
    signal = np.asarray(samples)
    if signal.dtype.kind in "iu":
        raise ParameterTypeError(
            name,
            f"holds {signal.dtype} samples",
            f"pass floats in [-1, 1] (for {signal.dtype}, divide by {np.iinfo(signal.dtype).max + 1:.0f})",
        )
    if signal.dtype not in (np.float32, np.float64):
        raise ParameterTypeError(name, f"has dtype {signal.dtype}", "pass float32 or float64 samples")
    if not several and signal.ndim != 1:
        raise ParameterError(name, f"has shape {signal.shape}", "pass one channel, shape (samples,): mix it down first")
    if signal.ndim not in (1, 2):
        raise ParameterError(name, f"has shape {signal.shape}", "pass shape (samples,) or (channels, samples)")
    if signal.ndim == 2 and not 1 <= len(signal) <= MOST_CHANNELS:
        raise ParameterError(
            name,
            f"has shape {signal.shape}, that is {len(signal)} channels",
            f"pass shape (channels, samples), time last, with 1 to {MOST_CHANNELS} channels",
        )
    if signal.size == 0:
        raise ParameterError(name, "has 0 samples", "pass at least one")
    _check_finite(name, signal, most=LARGEST_SAMPLE)
    return signal


def check_magnitudes(name: str, values: ArrayLike, *, most: float = LARGEST) -> Floats:
    """Return `values` as a finite, non-negative matrix, float32 or float64, at least 1 x 1 and none above `most`."""
    matrix = np.asarray(values)
    if matrix.dtype.kind in "biu" or matrix.dtype == np.float16:
        matrix = matrix.astype(np.float64)
    if matrix.dtype not in (np.float32, np.float64):
        raise ParameterTypeError(name, f"has dtype {matrix.dtype}", "pass real magnitudes (float32 or float64)")
    if matrix.ndim != 2:
        raise ParameterError(name, f"has shape {matrix.shape}", "pass a matrix")
    if matrix.size == 0:
        raise ParameterError(name, f"has shape {matrix.shape}", "pass at least one row and one column")
    _check_finite(name, matrix, most=most)
    if matrix.min() < 0:
        raise ParameterError(name, f"holds negative values (smallest {matrix.min():g})", "pass magnitudes, >= 0")
    return matrix


def check_same_bins(V: Floats, W: Floats) -> None:
    """Raise `ParameterError` if a target (F, N) and a dictionary (F, K) differ in their number of bins F."""
    if V.shape[0] != W.shape[0]:
        raise ParameterError(
            "W",
            f"has {W.shape[0]} frequency bins but V has {V.shape[0]}",
            "build the dictionary and the target with the same StftParams",
        )


def check_count(name: str, value: int, *, least: int) -> int:
    """Return `value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ParameterTypeError(name, f"is {value!r}", f"pass a whole number of at least {least}")
    if value < least:
        raise ParameterError(name, f"is {value}", f"pass a whole number of at least {least}")
    return int(value)


def check_real(
    name: str, value: float, *, least: float, most: float = math.inf, before: str = "", after: str = ""
) -> float:
    """Return `value` as a finite float in [least, most]; an error has the words `before` and `after` the name."""
    allowed = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ParameterTypeError(name, f"is {value!r}", f"pass a number {allowed}", before=before, after=after)
    if not math.isfinite(value) or not least <= value <= most:
        raise ParameterError(name, f"is {value:g}", f"pass a number {allowed}", before=before, after=after)
    return float(value)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is one of `allowed`."""
    if value not in allowed:
        raise ParameterError(name, f"is {value!r}", f"pass one of {', '.join(allowed)}")
    return value


def check_rate(name: str, sr: int) -> int:
    """Return a sample rate as an int, in Hz, from 1000 to 768000."""
    rate = check_count(name, sr, least=1)
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise ParameterError(name, f"is {rate} Hz", f"pass a sample rate from {LEAST_RATE} to {MOST_RATE} Hz")
    return rate


def _check_finite(name: str, values: Floats, *, most: float) -> None:
    # NaN and infinity show in the minimum or the maximum, so no array of booleans as large as the input is needed.
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise ParameterError(name, f"holds {bad} values that are NaN or infinite", "repair or cut them out first")
    if max(-low, high) > most:
        raise ParameterError(name, f"holds values as large as {max(-low, high):.3g}", f"scale it to at most {most:g}")
