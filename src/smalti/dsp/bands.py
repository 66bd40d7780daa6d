"""Spectra as the ear hears them: auditory bands, levels in dB, A-weighting, and envelopes through partials."""

import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_rate
from smalti.dsp.stft import StftParams

# Bins are pooled so that spectra are compared at the ear's resolution, at a sixth of the work. Below 1 kHz every bin
# stays, since the ear tells partials apart there; above, bands are 3 % wide, about what two neighbouring tones must
# differ by to be told apart in a mixture.
LINEAR_BELOW_HZ = 1000.0
WIDTH = 0.03

# A frame this far below the loudest is not heard beside it.
AUDIBLE_DB = 50.0

# --- pooled bins


def band_edges(params: StftParams, sr: int) -> NDArray[np.intp]:
    """The edges of auditory bands.

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
    # Several edges round to one bin if bands are narrower than a bin.
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

    They sum bins into bands and, transposed, spread the gains of bands over bins without a jump between two bins.

    Parameters
    ----------
    n_fft : even int >= 4, F = n_fft // 2 + 1 bins. sr : Hz. step : ERB, > 0.

    Returns
    -------
    (B, F) float32 array, read-only: the share of each bin in each band, 0 to 1. Band b is centred on b * `step` ERB.
    A band in the bass may lie between two bins and hold none.
    """
    number = erb_number(np.arange(n_fft // 2 + 1) * (sr / n_fft))
    centres = step * np.arange(int(np.ceil(number[-1] / step)) + 1)[:, None]
    filters: Floats = np.maximum(0, 1 - np.abs(number - centres) / step).astype(np.float32)
    filters.setflags(write=False)
    return filters


def erb_edges(n_fft: int, sr: int, *, width: float) -> NDArray[np.intp]:
    """The edges of bands of `width` ERB.

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
    Slaney (1998), "Auditory Toolbox", Interval Research 1998-010: linear to 1 kHz, 27 steps for every factor of
    6.4 above. The same numbers as librosa's default.
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


# A partial is looked for within this share of f0 to either side of its place. Sounds without a pitch are read in bands
# of this width instead.
PEAK_REACH, BAND_HZ = 0.3, 175.0
# Partials count as at least this loud, relative to their frame's loudest. No gain goes beyond 24 dB.
ENVELOPE_FLOOR_DB, MOST_GAIN_DB = -80.0, 24.0


def harmonic_envelope(magnitudes: Floats, f0: ArrayLike, sr: int) -> Floats:
    """Spectral envelopes drawn through partials.

    Nothing is smoothed, so the fundamental of a high note, alone under a wide hill, stays on the envelope.

    Parameters
    ----------
    magnitudes : (F, K) floats >= 0, K spectra of Hann-windowed frames from 0 Hz to half the rate.
    f0 : (K,) Hz; where it is 0 the envelope is drawn through the mean powers of bands 175 Hz wide.
    sr : Hz.

    Returns
    -------
    (F, K) array of the dtype of `magnitudes`, > 0 but for silent frames: at each partial the root of the power of its
    peak (that of three bins), linear in log amplitude between partials, flat below the first and above the last.

    Raises
    ------
    ValueError : if `f0` is not as long as there are frames.
    """
    pitches = np.asarray(f0, dtype=np.float64)
    if pitches.shape != magnitudes.shape[1:]:
        raise ValueError(f"f0 has shape {pitches.shape} but there are {magnitudes.shape[1]} frames; pass one per frame")
    bin_hz = sr / (2 * (len(magnitudes) - 1))
    spacing = np.where(pitches > 0, pitches, BAND_HZ)
    levels, counts = partial_levels(np.square(magnitudes.T), pitches > 0, spacing / bin_hz)
    where = np.arange(len(magnitudes)) * (bin_hz / spacing[:, None])
    envelope = np.exp(between(levels, counts, where))
    envelope[~magnitudes.any(axis=0)] = 0
    return envelope.T.astype(magnitudes.dtype)


def partial_levels(power: Floats, voiced: NDArray[np.bool_], spacing: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Log amplitudes (K, H) of the partials of (K, F) powers, `spacing` bins apart, and how many there are, (K,)."""
    n_bins = power.shape[1]
    power = power.astype(np.float64)
    # The power of three bins says how loud a partial is wherever it lies between them, to 0.1 dB for a Hann window.
    padded = np.pad(power, ((0, 0), (1, 1)))
    power = padded[:, 1:-1] + padded[:, :-2] + padded[:, 2:]
    counts = np.maximum(1, ((n_bins - 1) / spacing - PEAK_REACH).astype(np.intp))
    numbers = np.minimum(np.arange(1, counts.max(initial=1) + 1), counts[:, None])
    levels = np.empty(numbers.shape)
    for kind, reach, reduce in ((voiced, PEAK_REACH, np.maximum), (~voiced, 0.5, np.add)):
        which = np.flatnonzero(kind)
        if len(which) == 0:
            continue
        centres = numbers[which] * spacing[which, None]
        low = np.clip(np.ceil(centres - reach * spacing[which, None]).astype(np.intp), 0, n_bins - 1)
        high = np.clip(np.floor(centres + reach * spacing[which, None]).astype(np.intp) + 1, low + 1, n_bins)
        # One more bin at each frame's end, so that the last band of the last frame may end there.
        flat = np.pad(power[which], ((0, 0), (0, 1))).ravel()
        rows_at = np.arange(len(which))[:, None] * (n_bins + 1)
        borders = np.stack([low + rows_at, high + rows_at], axis=2).ravel()
        found = reduce.reduceat(flat, borders)[::2].reshape(low.shape)
        levels[which] = found if reduce is np.maximum else found / (high - low)
    most = levels.max(axis=1, keepdims=True, initial=0)
    levels = np.maximum(levels, most * 10 ** (ENVELOPE_FLOOR_DB / 10))
    levels[most[:, 0] <= 0] = 1
    logs: Floats = np.log(levels) / 2
    return logs, counts


def between(values: Floats, counts: NDArray[np.intp], where: Floats) -> Floats:
    """Interpolate rows of `values`, the first value at 1, at places `where` (K, P): linear between, flat outside."""
    last = counts.astype(where.dtype)[:, None]
    places = np.clip(where, 1, last)
    lower = np.minimum(places.astype(np.intp), np.maximum(counts - 1, 1)[:, None])
    share = places - lower.astype(where.dtype)
    start = np.arange(len(values))[:, None] * values.shape[1] - 1 + lower
    flat = values.ravel()
    step = np.diff(flat, append=flat[-1:])
    values_there: Floats = flat[start] + share * step[start]
    return values_there
