"""One wording per rule: the checks that public doors share.

Each returns what it checked, as the array or number the kernels want. A wrong value raises `ParameterError`, a wrong
kind `ParameterTypeError`: a `ValueError` and a `TypeError` that know which parameter they are about.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

# Squares of magnitudes, summed over a thousand bins, must stay far from the largest float32 (3e38).
LARGEST = 1e15
# A spectrum sums up to half a million samples.
LARGEST_SAMPLE = 1e9
# More are samples and channels confused.
MOST_CHANNELS = 64


class _AboutParameter(Exception):
    """One sentence about a parameter: its name, what was got, and what to do.

    Attributes
    ----------
    name : the parameter, as the library calls it.
    got : what is wrong, beginning with a verb: "is 0".
    remedy : what is allowed and what to do: "pass a whole number of at least 1".
    also : other parameters that `got` and `remedy` speak of.
    """

    def __init__(self, name: str, got: str, remedy: str, *, also: Sequence[str] = ()) -> None:
        super().__init__(f"{name} {got}; {remedy}")
        self.name, self.got, self.remedy, self.also = name, got, remedy, tuple(also)

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is pickled by its arguments, which are one sentence here.
        return _parameter_error, (type(self), self.name, self.got, self.remedy, self.also)

    def worded(self, word: Callable[[str], str]) -> str:
        """The sentence with the parameters as a face calls them: `word` gives ``--layers`` for ``layers``, say."""
        rest = f"{self.got}; {self.remedy}"
        for name in self.also:
            rest = re.sub(rf"(?<![\w.]){name}(?![\w.])", word(name), rest)
        return f"{word(self.name)} {rest}"


def _parameter_error(kind: type[_AboutParameter], name: str, got: str, remedy: str, also: Sequence[str]) -> Exception:
    return kind(name, got, remedy, also=also)


class ParameterError(_AboutParameter, ValueError):
    """A parameter has a value that it may not have."""


class ParameterTypeError(_AboutParameter, TypeError):
    """A parameter is of another kind than it should be."""


def check_signal(name: str, samples: ArrayLike) -> Floats:
    """Return `samples` as a finite mono signal, (L,) float32 or float64, L >= 1."""
    return _check_samples(name, samples, several=False)


def check_sound(name: str, samples: ArrayLike) -> Floats:
    """Return `samples` as a finite sound, float32 or float64: (L,) if it has one channel, else (C, L); L >= 1."""
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
    """Refuse a target (F, N) and a dictionary (F, K) of different grids."""
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


def check_real(name: str, value: float, *, least: float, most: float = math.inf) -> float:
    """Return `value` as a finite float in [least, most]."""
    allowed = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ParameterTypeError(name, f"is {value!r}", f"pass a number {allowed}")
    if not math.isfinite(value) or not least <= value <= most:
        raise ParameterError(name, f"is {value:g}", f"pass a number {allowed}")
    return float(value)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is one of `allowed`."""
    if value not in allowed:
        raise ParameterError(name, f"is {value!r}", f"pass one of {', '.join(allowed)}")
    return value


def check_rate(name: str, sr: int) -> int:
    """Return a sample rate in Hz, 1000 to 768000."""
    rate = check_count(name, sr, least=1)
    if not 1000 <= rate <= 768_000:
        raise ParameterError(name, f"is {rate} Hz", "pass a sample rate from 1000 to 768000 Hz")
    return rate


def _check_finite(name: str, values: Floats, *, most: float) -> None:
    # NaN and infinity survive both extremes, so two reductions replace an array of booleans the size of the input.
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise ParameterError(name, f"holds {bad} values that are NaN or infinite", "repair or cut them out first")
    if max(-low, high) > most:
        raise ParameterError(name, f"holds values as large as {max(-low, high):.3g}", f"scale it to at most {most:g}")
