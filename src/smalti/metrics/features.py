"""Features that the measures compare: mel bands, cepstra, chroma, onsets, loudness, fine structure, modulation.

Spectrograms are (F, N), time last; points of a nearest-neighbour search or a Gaussian are (frames, dimensions).
Every level in dB is cut off at a floor *below the loudest*, never at an absolute one, so that no gain matters.
"""

import functools
import math
from itertools import pairwise

import numpy as np
import scipy.fft
import scipy.ndimage

from smalti._checks import Floats
from smalti.dsp.bands import audible
from smalti.dsp.stft import Complexes, StftParams

# All analysis happens at this rate, so that a measure means the same whatever the recordings' own rate is.
RATE = 22050
GRID = StftParams(2048, 512)
FINE_GRID = StftParams(4096, 512)
SHORT_GRID = StftParams(512, 128)


def euclidean_norm(values: Floats | Complexes) -> float:
    """The root of the sum of all squared magnitudes, added up in double precision."""
    return math.sqrt(float(np.square(np.abs(values), dtype=np.float64).sum()))


def resampled(samples: Floats, sr: int, *, rate: int = RATE) -> Floats:
    """Carry `samples` from `sr` to `rate` by cutting or padding their Fourier series.

    Parameters
    ----------
    samples : (L,) float array. sr, rate : Hz.

    Returns
    -------
    (round(L * rate / sr),) array of the same dtype, at least 1 sample; nothing aliases, and what both rates can hold
    stays as it is, but for a ripple at the very ends.
    """
    if sr == rate:
        return samples
    common = math.gcd(sr, rate)
    # A length that is a whole number of samples at both rates; the margin keeps one end from rippling into the other.
    units = scipy.fft.next_fast_len(-(-(len(samples) + sr // 20) * common // sr), real=True)
    before, after = units * (sr // common), units * (rate // common)
    spectrum = scipy.fft.rfft(samples, before)[: min(before, after) // 2 + 1]
    out: Floats = scipy.fft.irfft(spectrum, after) * samples.dtype.type(after / before)
    return out[: max(1, round(len(samples) * rate / sr))]


# --- mel bands and cepstra


def cepstra(mel_db: Floats, *, first: int = 1, last: int = 13) -> Floats:
    """Mel-frequency cepstral coefficients `first` to `last` of log-mel levels (bands, N): (N, last - first + 1).

    Coefficient 0, the level, is left out by default, so that they tell the timbre alone.

    References
    ----------
    Davis & Mermelstein (1980), IEEE TASSP 28(4); DCT of type II, orthonormal.
    """
    coefficients: Floats = scipy.fft.dct(mel_db, type=2, axis=0, norm="ortho")
    return np.ascontiguousarray(coefficients[first : last + 1].T)


def patches(mel_db: Floats, *, frames: int = 8) -> Floats:
    """Every stretch of `frames` frames of log-mel levels (bands, N) as one point: (N - frames + 1, frames * bands).

    Each is taken relative to its mean level. A shorter spectrogram is continued with its last frame.
    """
    missing = frames - mel_db.shape[1]
    if missing > 0:
        mel_db = np.pad(mel_db, ((0, 0), (0, missing)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(mel_db, frames, axis=1)
    points = windows.transpose(1, 2, 0).reshape(windows.shape[1], -1)
    centred: Floats = points - points.mean(axis=1, keepdims=True)
    return centred


def fine_structure(
    magnitudes: Floats, n_fft: int, sr: int, *, smooth: int = 41, low_hz: float = 107.0, high_hz: float = 4092.0
) -> Floats:
    """Partials and the noise between them, without the envelope: the log magnitudes less their mean over `smooth` bins.

    Parameters
    ----------
    magnitudes : (F, N). n_fft, sr : their grid.
    smooth : odd number of bins. low_hz, high_hz : the bins kept, rounded to the nearest.

    Returns
    -------
    (N, bins) in dB; each frame is cut off 60 dB below its loudest bin.
    """
    loudest = np.maximum(magnitudes.max(axis=0), np.finfo(magnitudes.dtype).tiny)
    levels = 20 * np.log10(np.maximum(magnitudes / loudest, magnitudes.dtype.type(1e-3)))
    rest = levels - scipy.ndimage.uniform_filter1d(levels, smooth, axis=0, mode="nearest")
    low, high = round(low_hz * n_fft / sr), round(high_hz * n_fft / sr)
    return np.ascontiguousarray(rest[low : high + 1].T)


# --- harmony


@functools.lru_cache(maxsize=8)
def chroma_filters(n_fft: int, sr: int) -> Floats:
    """From STFT bins to the twelve pitch classes, C first, A at 440 Hz: (12, F) float32, read-only.

    Every bin is a bump around its own pitch, at least a semitone wide and as wide as the bin where bins are coarser;
    octaves weigh most around 880 Hz. The same numbers as librosa's default without its tuning estimate.

    References
    ----------
    Ellis (2007), "Chroma feature analysis and synthesis".
    """
    hz = np.arange(1, n_fft) * (sr / n_fft)
    pitch = 12 * np.log2(hz / 27.5)
    # 0 Hz has no pitch: half a turn from the first bin's, and so low that it weighs next to nothing.
    pitch = np.concatenate([[pitch[0] - 18], pitch])
    width = np.append(np.maximum(np.diff(pitch), 1.0), 1.0)
    # Distance on the circle of twelve, -6 to 6; class 0 of this scale is A, and C comes three semitones above it.
    away = (pitch - (np.arange(12)[:, None] + 3) + 6) % 12 - 6
    bumps = np.exp(-0.5 * (2 * away / width) ** 2)
    bumps /= np.linalg.norm(bumps, axis=0)
    bumps *= np.exp(-0.5 * ((pitch / 12 - 5) / 2) ** 2)
    filters: Floats = np.ascontiguousarray(bumps[:, : n_fft // 2 + 1], dtype=np.float32)
    filters.setflags(write=False)
    return filters


# --- onsets


def onset_strength(mel_db: Floats, *, delay: int) -> Floats:
    """How much louder each frame is than the last, in dB, mean over the bands that rise: (N,).

    Parameters
    ----------
    mel_db : (bands, N) levels.
    delay : frames of half a window. An attack raises the level as soon as a window reaches it, half a window before
        the frame is centred on it; the envelope is moved back by as much.

    References
    ----------
    Böck & Widmer (2013), "Maximum filter vibrato suppression for onset detection", DAFx, without the filter; the same
    numbers as librosa's default.
    """
    n_frames = mel_db.shape[1]
    rise = np.maximum(0, np.diff(mel_db, axis=1)).mean(axis=0)
    return np.concatenate([np.zeros(1 + delay, mel_db.dtype), rise])[:n_frames]


def pick_onsets(
    envelope: Floats,
    frame_s: float,
    *,
    before_s: float = 0.03,
    average_s: float = 0.1,
    delta: float = 0.07,
    wait_s: float = 0.03,
) -> Floats:
    """Times of the onsets in an onset-strength envelope (N,), in seconds, ascending.

    A frame is an onset if it is the largest of the last `before_s`, exceeds the mean of `average_s` to both sides by
    `delta` of the envelope's range, and comes more than `wait_s` after the last onset.

    References
    ----------
    Böck, Krebs & Schedl (2012), "Evaluating the online capabilities of onset detection methods", ISMIR; librosa's
    settings.
    """
    span = float(np.ptp(envelope)) if envelope.size else 0.0
    if span <= 0:
        return np.zeros(0)
    strength = (envelope - envelope.min()).astype(np.float64) / span
    before, average, wait = (int(seconds / frame_s) for seconds in (before_s, average_s, wait_s))
    sums = np.concatenate([[0], np.cumsum(strength)])
    start = np.maximum(0, np.arange(len(strength)) - average)
    stop = np.minimum(len(strength), np.arange(len(strength)) + average + 1)
    mean = (sums[stop] - sums[start]) / (stop - start)
    padded = np.concatenate([np.zeros(before), strength])
    highest = np.lib.stride_tricks.sliding_window_view(padded, before + 1).max(axis=1)
    picked: list[int] = []
    for frame in np.flatnonzero((strength >= highest) & (strength >= mean + delta)).tolist():
        if not picked or frame > picked[-1] + wait:
            picked.append(frame)
    return np.array(picked, dtype=np.float64) * frame_s


# --- modulation


def modulation_spectra(mel_power: Floats, frame_rate_hz: float) -> Floats:
    """How fast and how deeply each band's envelope moves, second by second.

    Parameters
    ----------
    mel_power : (bands, N) powers. frame_rate_hz : frames a second.

    Returns
    -------
    (stretches, bands * 6) in dB, for every audible stretch of 1 s, one every 0.25 s: the power of each band's envelope
    (root of the power) in six octaves of modulation, 1.5 to 96 Hz as far as the frame rate allows, relative to the
    squared mean of that envelope; cut off at -50 dB.

    References
    ----------
    McDermott & Simoncelli (2011), "Sound texture perception via statistics of the auditory periphery", Neuron 71:
    modulation power of band envelopes, relative to the envelope's mean.
    """
    size, hop = round(frame_rate_hz), max(1, round(frame_rate_hz / 4))
    envelope = np.sqrt(mel_power)
    length = min(size, envelope.shape[1])
    stretches = np.lib.stride_tricks.sliding_window_view(envelope, length, axis=1)[:, ::hop]
    stretches = stretches[:, audible(np.square(stretches).sum(axis=(0, 2)))]
    # A Hann window sampled between its points gives no frame a weight of 0, not even a single one.
    window = np.sin(np.pi * (np.arange(length, dtype=envelope.dtype) + 0.5) / length) ** 2
    window /= window.sum()
    mean = (stretches * window).sum(axis=2, keepdims=True)
    power = np.abs(scipy.fft.rfft((stretches - mean) * window, size, axis=2)) ** 2
    hz = np.arange(power.shape[2]) * (frame_rate_hz / size)
    edges = 1.5 * 2.0 ** np.arange(7)
    bands = [power[:, :, (hz >= low) & (hz < high)].sum(axis=2) for low, high in pairwise(edges)]
    # A band 60 dB under the loudest says nothing: it counts as not moving.
    heard = np.maximum(mean**2, 1e-6 * (mean**2).max(initial=np.finfo(mean.dtype).tiny))
    depth = 10 * np.log10(np.maximum(np.stack(bands, axis=2) / heard, power.dtype.type(1e-5)))
    return np.ascontiguousarray(depth.transpose(1, 0, 2)).reshape(depth.shape[1], len(depth) * len(bands))
