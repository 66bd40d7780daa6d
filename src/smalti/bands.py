"""What the ear makes of spectra: auditory bands, levels in dB, and how loud it hears each frequency."""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, check_rate
from smalti.stft import StftParams

# Bins are pooled so that spectra are compared at the ear's resolution, at a sixth of the work. Below 1 kHz every bin
# stays, since the ear tells partials apart there; above, bands are 3 % wide, about what two neighbouring tones must
# differ by to be told apart in a mixture.
LINEAR_BELOW_HZ = 1000.0
WIDTH = 0.03

# A frame this far below the loudest is not heard beside it.
AUDIBLE_DB = 50.0

# --- pooled bins


def band_edges(params: StftParams, sr: int) -> NDArray[np.intp]:
    """Where bands begin and end.

    Parameters
    ----------
    params : the grid. sr : sample rate in Hz.

    Returns
    -------
    (B + 1,) int array, increasing from 0 to F: band b holds bins ``edges[b]`` to ``edges[b + 1] - 1``.
    """
    bin_hz = check_rate("sr", sr) / params.n_fft
    n_linear = min(params.n_bins, int(np.ceil(LINEAR_BELOW_HZ / bin_hz)))
    n_curved = max(0, int(np.log(params.n_bins * bin_hz / LINEAR_BELOW_HZ) / np.log1p(WIDTH)))
    curved = np.round(LINEAR_BELOW_HZ * (1 + WIDTH) ** np.arange(n_curved + 1) / bin_hz).astype(np.intp)
    # Where a band would be narrower than a bin, several edges round to one.
    edges = np.unique(np.concatenate([np.arange(n_linear), curved]))
    return np.append(edges[edges < params.n_bins], params.n_bins)


def pool(magnitudes: Floats, edges: NDArray[np.intp]) -> Floats:
    """The sum of each band's bins: (F, N) to (B, N).

    Sums, not means: pooled so, a Kullback-Leibler fit keeps the weight that every bin had.
    """
    return np.add.reduceat(magnitudes, edges[:-1], axis=0)


# --- critical bands


def erb_number(hz: Floats) -> Floats:
    """How many of the ear's critical bands lie below each frequency: 0 at 0 Hz, 15.6 at 1 kHz, 36 at 11 kHz.

    Parameters
    ----------
    hz : array of any shape, >= 0, in Hz.

    Returns
    -------
    float64 array of that shape, in equivalent rectangular bandwidths (ERB).

    References
    ----------
    Glasberg & Moore (1990), "Derivation of auditory filter shapes from notched-noise data", Hearing Research 47, eq. 4.
    """
    number: Floats = 21.4 * np.log10(1 + 0.00437 * np.asarray(hz, dtype=np.float64))
    return number


@functools.lru_cache(maxsize=16)
def erb_filters(n_fft: int, sr: int, *, step: float) -> Floats:
    """Triangles `step` ERB apart that add up to 1 in every bin.

    So they take bins to bands and, transposed, gains of bands back to bins, without a jump between two of them.

    Parameters
    ----------
    n_fft : even int >= 4, F = n_fft // 2 + 1 bins. sr : Hz. step : ERB, > 0.

    Returns
    -------
    (B, F) float32 array, read-only: the share of each bin in each band, 0 to 1. Band b is centred on b * `step` ERB;
    those in the bass may lie between two bins, and hold none.
    """
    number = erb_number(np.arange(n_fft // 2 + 1) * (sr / n_fft))
    centres = step * np.arange(int(np.ceil(number[-1] / step)) + 1)[:, None]
    filters: Floats = np.maximum(0, 1 - np.abs(number - centres) / step).astype(np.float32)
    filters.setflags(write=False)
    return filters


def erb_edges(n_fft: int, sr: int, *, width: float) -> NDArray[np.intp]:
    """Where bands of `width` ERB begin and end.

    Parameters
    ----------
    n_fft : even int >= 4, F = n_fft // 2 + 1 bins. sr : Hz. width : ERB, > 0.

    Returns
    -------
    (B + 1,) int array, increasing from 0 to F, as from `band_edges`. A band holds at least one bin; where bins lie
    further apart than `width`, bands are wider.
    """
    number = erb_number(np.arange(n_fft // 2 + 1) * (sr / n_fft))
    first = np.flatnonzero(np.diff(np.floor(number / width), prepend=-1))
    return np.append(first, len(number))


# --- mel bands


@functools.lru_cache(maxsize=16)
def mel_filters(n_mels: int, n_fft: int, sr: int) -> Floats:
    """Triangles of unit area, equally spaced on the mel scale from 0 to sr / 2: (n_mels, F) float32, read-only.

    References
    ----------
    Slaney (1998), "Auditory Toolbox", Interval Research 1998-010: linear to 1 kHz, 27 steps an octave factor of 6.4
    above. The same numbers as librosa's default.
    """
    top_mel = _mel_from_hz(np.array([sr / 2]))[0]
    edges = _hz_from_mel(np.linspace(0, top_mel, n_mels + 2))[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    hz = np.arange(n_fft // 2 + 1) * (sr / n_fft)
    triangles = np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)))
    filters: Floats = (triangles * (2 / (high - low))).astype(np.float32)
    filters.setflags(write=False)
    return filters


# Slaney's scale: 15 mels to 1 kHz, then 27 for every factor of 6.4.
_KNEE_HZ, _KNEE_MEL, _MELS_PER_NEPER = 1000.0, 15.0, 27 / math.log(6.4)


def _mel_from_hz(hz: Floats) -> Floats:
    above = np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ)
    return np.where(hz < _KNEE_HZ, hz * (_KNEE_MEL / _KNEE_HZ), _KNEE_MEL + _MELS_PER_NEPER * above)


def _hz_from_mel(mel: Floats) -> Floats:
    above = np.exp(np.maximum(mel - _KNEE_MEL, 0) / _MELS_PER_NEPER)
    return np.where(mel < _KNEE_MEL, mel * (_KNEE_HZ / _KNEE_MEL), _KNEE_HZ * above)


# --- levels


def decibels(power: Floats, *, span_db: float, loudest: float | None = None) -> Floats:
    """``10 log10(power)``, cut off `span_db` below `loudest` (by default the largest value); 0 where all is silent."""
    loudest = float(power.max(initial=0.0)) if loudest is None else loudest
    if loudest <= 0:
        return np.zeros_like(power)
    floor = max(loudest * 10 ** (-span_db / 10), float(np.finfo(power.dtype).tiny))
    levels: Floats = 10 * np.log10(np.maximum(power, power.dtype.type(floor)))
    return levels


def audible(energies: Floats, *, span_db: float = AUDIBLE_DB) -> NDArray[np.bool_]:
    """Which entries of (N,) `energies` lie within `span_db` of the largest; none if all are 0."""
    loudest = energies.max(initial=0.0)
    mask: NDArray[np.bool_] = (energies > 0) & (energies >= loudest * 10 ** (-span_db / 10))
    return mask


def a_weights(hz: Floats) -> Floats:
    """Power gains of the A-weighting curve at frequencies `hz`, 1 at 1 kHz.

    References
    ----------
    IEC 61672-1:2013, annex E.
    """
    f2 = np.asarray(hz, dtype=np.float64) ** 2
    gain = 12194.217**2 * f2**2
    gain /= (f2 + 20.598997**2) * (f2 + 12194.217**2) * np.sqrt((f2 + 107.65265**2) * (f2 + 737.86223**2))
    weights: Floats = (gain * 10 ** (2.0 / 20)) ** 2
    return weights
