"""The time-frequency grid: centred short-time Fourier transform and its least-squares inverse.

Frame n is centred on sample n * hop, the signal being zero outside itself, as in librosa. Spectra are (F, N), time
last; in memory each frame is contiguous (they are transposed views), which is what the transform and BLAS both like.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from smalti._checks import Floats, ParameterError, check_choice, check_count, check_rate, check_real

Complexes = NDArray[np.complexfloating[Any, Any]]

# Cosine-sum windows: w[n] = a0 - a1 cos(2 pi n / n_fft) + a2 cos(4 pi n / n_fft), periodic.
_COSINE_SUMS = {"hann": (0.5, 0.5, 0.0), "hamming": (0.54, 0.46, 0.0), "blackman": (0.42, 0.5, 0.08)}
WINDOWS = tuple(_COSINE_SUMS)


@dataclass(frozen=True)
class StftParams:
    """The grid on which target and dictionary meet.

    Attributes
    ----------
    n_fft : even int >= 4. Window and transform length in samples; F = n_fft // 2 + 1 bins.
    hop : int, 1 to n_fft // 2. Samples from one frame to the next. A longer hop cannot be inverted: samples between
        two windows would weigh next to nothing.
    window : "hann" (default), "hamming" or "blackman", periodic.

    Raises
    ------
    ValueError, TypeError : if a value is out of these ranges.
    """

    n_fft: int = 2048
    hop: int = 512
    window: str = "hann"

    def __post_init__(self) -> None:
        check_count("n_fft", self.n_fft, least=4)
        check_count("hop", self.hop, least=1)
        check_choice("window", self.window, WINDOWS)
        if self.n_fft % 2:
            raise ParameterError("n_fft", f"is {self.n_fft}", "pass an even number of samples")
        if self.hop > self.n_fft // 2:
            raise ParameterError(
                "hop",
                f"is {self.hop} samples, more than half the window of {self.n_fft}",
                f"it cannot be inverted: pass a hop of at most {self.n_fft // 2}",
            )

    def window_at(self, places: NDArray[np.intp]) -> Floats:
        """The window at some of its samples, 0 to n_fft - 1; 0 outside it."""
        inside = (places >= 0) & (places < self.n_fft)
        values: Floats = np.where(inside, _window(self, "<f8")[np.where(inside, places, 0)], 0.0)
        return values

    @property
    def window_power(self) -> float:
        """The sum of the window's squares."""
        return float(np.square(_window(self, "<f8")).sum())

    @classmethod
    def from_seconds(cls, window_s: float, hop_s: float, sr: int) -> "StftParams":
        """The grid nearest to a window and hop in seconds, with lengths that transform fast.

        The window stays a whole number of hops, so that 2048/512 at 22 050 Hz becomes 4096/1024 at 44 100 Hz.

        Raises
        ------
        ValueError, TypeError : if `window_s` or `hop_s` is under 0.1 ms or `sr` is no sample rate.
        """
        check_real("window_s", window_s, least=1e-4)
        check_real("hop_s", hop_s, least=1e-4)
        check_rate("sr", sr)
        hops = max(2, round(window_s / hop_s))
        # An odd number of hops makes an even window only of even hops.
        unit = 1 + hops % 2
        hop = unit * scipy.fft.next_fast_len(max(1, -(-round(hop_s * sr) // unit)), real=True)
        return cls(n_fft=max(4, hops * hop), hop=hop)

    @property
    def n_bins(self) -> int:
        return self.n_fft // 2 + 1

    def n_frames(self, length: int) -> int:
        """Frames of a signal of `length` samples: 1 + length // hop wherever the hop is at most a quarter window.

        With longer hops one more may be needed: the last samples must not lie where the last window has all but
        ended, since the inverse divides by that window.
        """
        return 1 + max(length // self.hop, -(-(length - self.n_fft // 4) // self.hop))


@functools.lru_cache(maxsize=32)
def _window(params: StftParams, dtype: str) -> Floats:
    a0, a1, a2 = _COSINE_SUMS[params.window]
    phase = 2 * np.pi * np.arange(params.n_fft) / params.n_fft
    window = (a0 - a1 * np.cos(phase) + a2 * np.cos(2 * phase)).astype(dtype)
    window.setflags(write=False)
    return window


def hann(n: int, dtype: str) -> Floats:
    """A periodic Hann window of `n` samples, even and at least 4: (n,) of the dtype, read-only."""
    return _window(StftParams(n, n // 4), dtype)


def stft(samples: Floats, params: StftParams) -> Complexes:
    """Short-time Fourier transform.

    Parameters
    ----------
    samples : (L,) float32 or float64, any L >= 0; zero outside.
    params : the grid.

    Returns
    -------
    (F, N) complex64 for float32, complex128 for float64; N = ``params.n_frames(L)``. Frame n is the transform of the
    windowed samples n * hop - n_fft / 2 to n * hop + n_fft / 2.

    Raises
    ------
    ValueError, TypeError : if `samples` has several channels or another dtype.
    """
    if samples.dtype not in (np.float32, np.float64):
        raise TypeError(f"samples has dtype {samples.dtype}; pass float32 or float64")
    if samples.ndim != 1:
        raise ValueError(f"samples has shape {samples.shape}; pass one channel, shape (samples,): mix it down first")
    frames = _cut(samples, params)
    spectra: Complexes = scipy.fft.rfft(frames * _window(params, samples.dtype.str), axis=1, overwrite_x=True)
    return spectra.T


def spectra_at(samples: Floats, centres: NDArray[np.intp], n_fft: int, *, window: str = "hann") -> Complexes:
    """Transforms of frames of any length, centred anywhere: `stft` off its grid.

    Parameters
    ----------
    samples : (L,) float32 or float64, zero outside.
    centres : (N,) int array, the samples on which the frames are centred; they may lie outside the signal.
    n_fft : even int >= 4, the length of the window. window : see `StftParams`.

    Returns
    -------
    (F, N) complex64 for float32, complex128 for float64, as from `stft`: frame n is the transform of the windowed
    samples ``centres[n]`` - n_fft / 2 to ``centres[n]`` + n_fft / 2. Memory goes with N and with the span of `centres`.
    """
    half = n_fft // 2
    first, last = (int(centres.min()) - half, int(centres.max()) + half) if len(centres) else (0, n_fft)
    # Only the samples around the frames are copied, since callers take a long recording in blocks.
    begin, end = (min(max(0, sample), len(samples)) for sample in (first, last))
    around = np.zeros(last - first, samples.dtype)
    around[begin - first : end - first] = samples[begin:end]
    frames = np.lib.stride_tricks.sliding_window_view(around, n_fft)[centres - (first + half)]
    weights = _window(StftParams(n_fft, n_fft // 4, window), samples.dtype.str)
    # Indexing by an array has made a copy, which may be changed.
    frames *= weights
    spectra: Complexes = scipy.fft.rfft(frames, axis=1, overwrite_x=True)
    return spectra.T


def frame_powers(samples: Floats, params: StftParams) -> Floats:
    """Power of each windowed frame of (L,) `samples`, (N,) float64: the sum of its squared samples."""
    weights = np.square(_window(params, "<f8"))
    hops, rest = divmod(params.n_fft, params.hop)
    if rest:
        powers: Floats = np.square(_cut(samples, params), dtype=np.float64) @ weights
        return powers
    # Frames have hops in common: each is squared once, and weighed by every part of the window that it lies under.
    padded = _padded(samples, params).reshape(-1, params.hop)
    n_frames = len(padded) - hops + 1
    parts = np.square(padded, dtype=np.float64) @ weights.reshape(hops, params.hop).T
    return sum((parts[part : part + n_frames, part] for part in range(hops)), start=np.zeros(n_frames))


def _cut(samples: Floats, params: StftParams) -> Floats:
    """The samples of each frame, (N, n_fft), not windowed: a read-only view of a padded copy."""
    return np.lib.stride_tricks.sliding_window_view(_padded(samples, params), params.n_fft)[:: params.hop]


def _padded(samples: Floats, params: StftParams) -> Floats:
    """`samples` between zeros, from where the first frame begins to where the last one ends."""
    n_frames = params.n_frames(len(samples))
    half = params.n_fft // 2
    padded = np.zeros((n_frames - 1) * params.hop + params.n_fft, samples.dtype)
    padded[half : half + len(samples)] = samples
    return padded


def istft(spectrum: Complexes, params: StftParams, *, length: int) -> Floats:
    """The signal whose STFT is nearest to `spectrum` in the least-squares sense.

    Parameters
    ----------
    spectrum : (F, N) complex64 or complex128; need not be the STFT of anything.
    params : the grid it lives on.
    length : samples wanted; ``params.n_frames(length)`` may be at most N.

    Returns
    -------
    (length,) float32 or float64. ``istft(stft(y, params), params, length=len(y))`` is y.

    Raises
    ------
    ValueError : if `spectrum` has another number of bins, or too few frames for `length`.

    References
    ----------
    Griffin & Lim (1984), "Signal estimation from modified short-time Fourier transform", IEEE TASSP 32(2), eq. 6.
    """
    check_count("length", length, least=0)
    n_bins, n_frames = spectrum.shape
    if n_bins != params.n_bins:
        raise ValueError(f"spectrum has {n_bins} bins but a window of {params.n_fft} has {params.n_bins}")
    if params.n_frames(length) > n_frames:
        raise ValueError(
            f"{length} samples need {params.n_frames(length)} frames at hop {params.hop}, but spectrum has {n_frames}"
        )
    frames: Floats = scipy.fft.irfft(spectrum.T, n=params.n_fft, axis=1)
    window = _window(params, frames.dtype.str)
    frames *= window
    weights = np.broadcast_to(window * window, frames.shape)
    middle = slice(params.n_fft // 2, params.n_fft // 2 + length)
    # Blocks of frames repeat the same sum of squared windows; only its head and tail differ, but an overlap-add of
    # the broadcast squares costs a few per cent of the transforms and needs no cases.
    return overlap_add(frames, params.hop)[middle] / overlap_add(weights, params.hop)[middle]


def overlap_add(frames: Floats, hop: int) -> Floats:
    """Sum frames (N, n), frame i starting at sample i * hop, into one signal of (N - 1) * hop + n samples."""
    n_frames, n = frames.shape
    blocks = -(-n // hop)
    out = np.zeros((n_frames + blocks - 1, hop), frames.dtype)
    # One addition per hop-long slice of all frames at once, instead of one per frame.
    for block in range(blocks):
        part = frames[:, block * hop : (block + 1) * hop]
        out[block : block + n_frames, : part.shape[1]] += part
    return out.reshape(-1)[: (n_frames - 1) * hop + n]
