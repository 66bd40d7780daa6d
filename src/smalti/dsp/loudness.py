"""How loud a sound is (ITU-R BS.1770-4) and how high its true peak.

Loudness is measured by pyloudnorm, which is loaded when first needed. Sounds are (L,) or (C, L).
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from smalti._checks import Floats, check_rate, check_sound
from smalti.dsp.channels import as_channels

# A gating block of BS.1770.
_GATING_S = 0.4
# Loudness is the level of the K-weighted power plus this offset. The weights are those of two channels in front, the
# centre, and two surrounds.
_OFFSET_DB, _CHANNEL_WEIGHTS = -0.691, np.array([1.0, 1.0, 1.0, 1.41, 1.41])
# Tenths of a second that are filtered at once, which bounds the memory.
_STEPS_AT_ONCE = 50
# Slower rates bend the shelf of the meter, at 1.5 kHz, so sounds at these are interpolated first.
SLOWEST_HZ = 16_000
# The rate from which no peaks hide between samples, and the zero crossings to each side of the interpolating sinc.
_DENSE_HZ, _CROSSINGS = 192_000, 24

# The slow contour has one value every so many seconds, each measured over so many.
CONTOUR_HOP_S, CONTOUR_WINDOW_S = 0.1, 1.0


def integrated_loudness(samples: Floats, sr: int) -> float:
    """Gated loudness in LUFS (ITU-R BS.1770-4); ``-inf`` for silence.

    Two channels count as left and right, so that one signal in both is 3 LU louder than in one; more are in the order
    of WAV files. Three: left, right, centre. Four: left, right, and two surrounds. Five: left, right, centre, two
    surrounds. From six on the fourth, the bass channel, does not count, nor do those beyond the sixth.

    The standard leaves two cases open. A sound shorter than its block of 0.4 s is as loud as its K-weighted energy over
    its own length. A sound that lies altogether below the gate at -70 LUFS is measured with its peak at full scale, and
    that gain taken off again.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1.
    sr : sample rate in Hz.

    Raises
    ------
    ValueError, TypeError : if the samples are empty, not finite or not floats, or `sr` is no sample rate.
    """
    sound = check_sound("samples", samples)
    counted, rate = _counted(sound, check_rate("sr", sr))
    peak = float(np.abs(counted).max())
    if peak == 0:
        return -math.inf
    block = math.ceil(_GATING_S * rate)
    missing = max(0, block - len(counted))
    padded = np.pad(counted, ((0, missing), (0, 0)))
    meter = _meter(rate, _GATING_S, 0.75)
    loudness = float(meter.integrated_loudness(padded))
    if loudness == -math.inf:
        loudness = float(meter.integrated_loudness(padded / peak)) + 20 * math.log10(peak)
    return loudness + 10 * math.log10(len(padded) / len(counted))


def step_powers(samples: Floats, sr: int) -> Floats:
    """K-weighted powers of a long sound, stretch by stretch in little memory; see `gated_loudness`.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1: a stretch, or all of it.
    sr : sample rate in Hz.

    Returns
    -------
    (N,) float64: the K-weighted power of each whole tenth of a second, N >= 4. A stretch shorter than a block of
    0.4 s has a single value.
    """
    import scipy.signal

    sound = as_channels(check_sound("samples", samples))
    step = round(_GATING_S / 4 * check_rate("sr", sr))
    if sound.shape[1] < 4 * step:
        return np.array([10 ** ((integrated_loudness(sound, sr) - _OFFSET_DB) / 10)])
    # Slow rates are interpolated first, all at once, since they have few samples.
    at_once = _STEPS_AT_ONCE if sr >= SLOWEST_HZ else sound.shape[1]
    n_steps, weights = sound.shape[1] // step, _CHANNEL_WEIGHTS
    held, out = None, list[Floats]()
    for first in range(0, n_steps, at_once):
        stop = min(first + at_once, n_steps)
        part, rate = _counted(sound[:, first * step : stop * step], sr)
        # The filter's state is handed from block to block, so that its ringing goes on.
        b, a = _k_weighting(rate)
        held = np.zeros((len(a) - 1, part.shape[1])) if held is None else held
        heard, held = scipy.signal.lfilter(b, a, part, axis=0, zi=held)
        powers = np.square(heard).reshape(stop - first, -1, part.shape[1]).mean(axis=1)
        out.append(powers @ weights[: part.shape[1]])
    return np.concatenate(out)


@functools.lru_cache(maxsize=8)
def _k_weighting(rate: int) -> tuple[Floats, Floats]:
    """Both filters of K-weighting as one: numerator and denominator."""
    b, a = np.ones(1), np.ones(1)
    for stage in _meter(rate, _GATING_S, 0.75)._filters.values():
        b, a = np.convolve(b, stage.passband_gain * stage.b), np.convolve(a, stage.a)
    return b, a


def gated_loudness(powers: Floats) -> float:
    """Integrated loudness, in LUFS, of a sound whose stretches have these `step_powers`, (N,), one after the other.

    It agrees with `integrated_loudness` to a hundredth of a decibel; ``-inf`` for silence. If the whole sound lies
    below the gate at -70 LUFS, the gate is 70 dB below its loudest block instead.
    """
    blocks = np.lib.stride_tricks.sliding_window_view(powers, min(4, len(powers))).mean(axis=1)
    if not (loudest := float(blocks.max())):
        return -math.inf
    gate = 10 ** ((-70 - _OFFSET_DB) / 10)
    heard = blocks[blocks > (gate if loudest > gate else 1e-7 * loudest)]
    heard = heard[heard > heard.mean() / 10]
    return _OFFSET_DB + 10 * math.log10(float(heard.mean()))


def loudness_contour(samples: Floats, sr: int) -> Floats:
    """The slow contour: K-weighted loudness over 1 s, every 0.1 s, (1 + about 10 a second,) in LUFS, not gated.

    Value j is centred on second j / 10; outside itself the sound is silent. Silence is ``-inf``.
    """
    counted, rate = _counted(check_sound("samples", samples), check_rate("sr", sr))
    half = math.ceil(CONTOUR_WINDOW_S / 2 * rate)
    meter = _meter(rate, CONTOUR_WINDOW_S, 1 - CONTOUR_HOP_S / CONTOUR_WINDOW_S)
    meter.integrated_loudness(np.pad(counted, ((half, half), (0, 0))))
    return np.array(meter.blockwise_loudness, dtype=np.float64)


def true_peak(samples: Floats, sr: int) -> float:
    """The highest point of the curve through the samples, on either side of 0: 1 is full scale.

    Below 192 kHz the samples are interpolated to at least that rate and at least fourfold (BS.1770-4, annex 2, asks for
    fourfold) by a windowed sinc, and a parabola is laid through the highest points. Sines up to 0.4 of the sample rate
    are met to 0.05 dB. The result is never less than the largest sample.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1.
    sr : sample rate in Hz.
    """
    sound = as_channels(check_sound("samples", samples))
    factor = points_per_sample(check_rate("sr", sr))
    highest = float(np.abs(sound).max())
    if factor == 1 or highest == 0:
        return highest
    for _, part in curve_blocks(sound, factor):
        highest = max(highest, _crest(part))
    return highest


def points_per_sample(sr: int) -> int:
    """How many points per sample show the curve between samples."""
    return 1 if sr >= _DENSE_HZ else max(4, math.ceil(_DENSE_HZ / sr))


def curve_blocks(sound: Floats, factor: int) -> Iterator[tuple[int, Floats]]:
    """Blocks of the curve's absolute values, (C, n * factor + 1), and the sample at which each begins."""
    # Blocks stay small however dense their points lie.
    step = max(1, (1 << 15) // factor)
    for start in range(0, sound.shape[1], step):
        part = _interpolated(sound, factor, start, min(start + step, sound.shape[1]))
        yield start, np.abs(part, out=part)


def _crest(curve: Floats) -> float:
    """The largest of (C, n) values >= 0, or of parabolas through three neighbours whose middle is within 2 % of it."""
    highest = float(curve.max())
    channel, place = np.nonzero(curve[:, 1:-1] >= 0.98 * highest)
    left, middle, right = (curve[channel, place + offset] for offset in range(3))
    bend = left - 2 * middle + right
    # A parabola that does not peak between its neighbours shows no crest.
    peaks = (middle >= left) & (middle >= right) & (bend < 0)
    rise = np.divide(np.square(right - left), -8 * bend, out=np.zeros_like(bend), where=peaks)
    return max(highest, float((middle + rise).max(initial=0.0)))


def excess_db(samples: Floats, sr: int, ceiling_db: float) -> Floats:
    """(L,) float64: by how many dB the curve to either side of each sample, in any channel, exceeds a ceiling.

    Below 0 where it does not.

    Parameters
    ----------
    samples : (L,) or (C, L) float array. sr : Hz. ceiling_db : the highest true peak, in dB of full scale.
    """
    sound = as_channels(samples)
    highest = np.abs(sound).max(axis=0).astype(np.float64)
    factor = points_per_sample(sr)
    if factor > 1 and highest.any():
        for start, part in curve_blocks(sound, factor):
            between = part[:, :-1].reshape(len(sound), -1, factor).max(axis=(0, 2))
            stop = start + len(between)
            highest[start:stop] = np.maximum(highest[start:stop], between)
            following = highest[start + 1 : stop + 1]
            np.maximum(following, between[: len(following)], out=following)
    out: Floats = 20 * np.log10(np.maximum(highest, np.finfo(np.float64).tiny)) - ceiling_db
    return out


def true_peak_db(samples: Floats, sr: int) -> float:
    """`true_peak` in dB of full scale; ``-inf`` for silence."""
    peak = true_peak(samples, sr)
    return 20 * math.log10(peak) if peak > 0 else -math.inf


def _counted(sound: Floats, sr: int) -> tuple[Floats, int]:
    """The channels that count, (L, C) in the order pyloudnorm weighs them, and a rate that suits its filters."""
    channels: Floats = as_channels(sound).astype(np.float64)
    if len(channels) == 4:
        channels = np.insert(channels, 2, 0, axis=0)
    elif len(channels) > 5:
        channels = channels[[0, 1, 2, 4, 5]]
    if sr < SLOWEST_HZ:
        factor = math.ceil(SLOWEST_HZ / sr)
        channels, sr = _interpolated(channels, factor, 0, channels.shape[1])[:, :-1], sr * factor
    return np.ascontiguousarray(channels.T), sr


def _interpolated(sound: Floats, factor: int, start: int, stop: int) -> Floats:
    """`factor` points per sample, from sample `start` up to and including the place of sample `stop`: float64.

    (C, L) to (C, (stop - start) * factor + 1). The kernel is a sinc under a Kaiser window. It is 1 at its middle and 0
    at all other samples, so samples keep their values. It passes 0.9 of the band, and images are 80 dB down.
    """
    import scipy.signal

    reach = _CROSSINGS
    taps = np.arange(-reach * factor, reach * factor + 1) / factor
    kernel = np.sinc(taps) * np.kaiser(len(taps), 8.0)
    before, after = max(0, reach - start), max(0, stop + 1 + reach - sound.shape[1])
    part = sound[:, max(0, start - reach) : stop + 1 + reach].astype(np.float64)
    part = np.pad(part, ((0, 0), (before, after)))
    points: Floats = scipy.signal.upfirdn(kernel, part, up=factor, axis=1)
    # The kernel's middle lies `reach` samples in, and the part begins as many before `start`.
    first = 2 * reach * factor
    return points[:, first : first + (stop - start) * factor + 1]


def _meter(rate: int, block_s: float, overlap: float) -> Any:
    import pyloudnorm

    return pyloudnorm.Meter(rate, block_size=block_s, overlap=overlap)
