"""One wording per rule: the checks that public doors share.

Each returns what it checked, as the array or number the kernels want, and raises `TypeError` for a wrong kind and
`ValueError` for a wrong value. Every message says what was got, what is allowed and what to do.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

# Squares of magnitudes, summed over a thousand bins, must stay far from the largest float32 (3e38).
LARGEST = 1e15
# A spectrum sums up to half a million samples.
LOUDEST = 1e9
# More are samples and channels confused.
MOST_CHANNELS = 64


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
        raise TypeError(
            f"{name} holds {signal.dtype} samples; pass floats in [-1, 1] "
            f"(for {signal.dtype}, divide by {np.iinfo(signal.dtype).max + 1:.0f})"
        )
    if signal.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} has dtype {signal.dtype}; pass float32 or float64 samples")
    if not several and signal.ndim != 1:
        raise ValueError(f"{name} has shape {signal.shape}; pass one channel, shape (samples,): mix it down first")
    if signal.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {signal.shape}; pass shape (samples,) or (channels, samples)")
    if signal.ndim == 2 and not 1 <= len(signal) <= MOST_CHANNELS:
        raise ValueError(
            f"{name} has shape {signal.shape}, that is {len(signal)} channels; "
            f"pass shape (channels, samples), time last, with 1 to {MOST_CHANNELS} channels"
        )
    if signal.size == 0:
        raise ValueError(f"{name} has 0 samples; pass at least one")
    _check_finite(name, signal, most=LOUDEST)
    return signal


def check_magnitudes(name: str, values: ArrayLike, *, most: float = LARGEST) -> Floats:
    """Return `values` as a finite, non-negative matrix, float32 or float64, at least 1 x 1 and none above `most`."""
    matrix = np.asarray(values)
    if matrix.dtype.kind in "biu" or matrix.dtype == np.float16:
        matrix = matrix.astype(np.float64)
    if matrix.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} has dtype {matrix.dtype}; pass real magnitudes (float32 or float64)")
    if matrix.ndim != 2:
        raise ValueError(f"{name} has shape {matrix.shape}; pass a matrix")
    if matrix.size == 0:
        raise ValueError(f"{name} has shape {matrix.shape}; pass at least one row and one column")
    _check_finite(name, matrix, most=most)
    if matrix.min() < 0:
        raise ValueError(f"{name} holds negative values (smallest {matrix.min():g}); pass magnitudes, >= 0")
    return matrix


def check_same_bins(V: Floats, W: Floats) -> None:
    """Refuse a target (F, N) and a dictionary (F, K) of different grids."""
    if V.shape[0] != W.shape[0]:
        raise ValueError(
            f"W has {W.shape[0]} frequency bins but V has {V.shape[0]}; "
            "build the dictionary and the target with the same StftParams"
        )


def check_count(name: str, value: int, *, least: int) -> int:
    """Return `value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}; pass a whole number of at least {least}")
    if value < least:
        raise ValueError(f"{name} is {value}; pass a whole number of at least {least}")
    return int(value)


def check_real(name: str, value: float, *, least: float, most: float = math.inf) -> float:
    """Return `value` as a finite float in [least, most]."""
    allowed = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} is {value!r}; pass a number {allowed}")
    if not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"{name} is {value:g}; pass a number {allowed}")
    return float(value)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; pass one of {', '.join(allowed)}")
    return value


def check_rate(name: str, sr: int) -> int:
    """Return a sample rate in Hz, 1000 to 768000."""
    rate = check_count(name, sr, least=1)
    if not 1000 <= rate <= 768_000:
        raise ValueError(f"{name} is {rate} Hz; pass a sample rate from 1000 to 768000 Hz")
    return rate


def _check_finite(name: str, values: Floats, *, most: float) -> None:
    # NaN and infinity survive both extremes, so two reductions replace an array of booleans the size of the input.
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise ValueError(f"{name} holds {bad} values that are NaN or infinite; repair or cut them out first")
    if max(-low, high) > most:
        raise ValueError(f"{name} holds values as large as {max(-low, high):.3g}; scale it to at most {most:g}")
