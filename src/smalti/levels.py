"""How loud a sound is, and gains: to a loudness, under a peak, around peaks, along a slow contour.

Loudness is that of ITU-R BS.1770-4, measured by pyloudnorm, which is loaded when first needed. Sounds are (L,) or
(C, L); a gain is one for all channels.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from smalti._checks import Floats, check_rate, check_real, check_sound
from smalti.channels import rows

# The highest true peak a mosaic may have, in dB of full scale. Lossy coding may still carry peaks 2 dB further.
CEILING_DB = -1.0
# What is turned down goes this far below it: true peaks are estimates, and estimates differ by as much.
MARGIN_DB = 0.05

# The limiter: how far ahead of a peak its gain begins to fall, and for how long after it stays down; how fast it comes
# back; and the most it takes off, since more is heard.
LOOK_AHEAD_S, RELEASE_DB_PER_S, MOST_LIMITED_DB = 0.005, 75.0, 6.0
# A limited sound is made louder until it is as near as this to the loudness it should have, in so many rounds.
_NEAR_ENOUGH_DB, _ROUNDS = 0.1, 5

# A gating block of BS.1770.
_BLOCK_S = 0.4
# Its loudness is so much below the level of its K-weighted power, which weighs channels so: two in front, the centre,
# two surrounds.
_OFFSET_DB, _CHANNEL_WEIGHTS = -0.691, np.array([1.0, 1.0, 1.0, 1.41, 1.41])
# Tenths of a second that are filtered at once, which bounds the memory.
_STEPS_AT_ONCE = 50
# The shelf of the meter, at 1.5 kHz, is bent by slower rates: those sounds are interpolated before it.
_SLOWEST_HZ = 16_000
# The rate from which samples hide no peaks, and the zero crossings to each side of the interpolating sinc.
_DENSE_HZ, _CROSSINGS = 192_000, 24

# Of the slow contour: one value every so many seconds, each over so many; the gain that may follow from it; and how far
# below its loudest a sound counts as silent.
CONTOUR_HOP_S, CONTOUR_WINDOW_S = 0.1, 1.0
MOST_FOLLOWED_DB, SILENT_DB = 12.0, 60.0


def integrated_loudness(samples: Floats, sr: int) -> float:
    """Gated loudness in LUFS (ITU-R BS.1770-4); ``-inf`` for silence.

    Two channels count as left and right, so that one signal in both is 3 LU louder than in one; more are in the order
    of WAV files. Three: left, right, centre. Four: left, right, and two surrounds. Five: left, right, centre, two
    surrounds. From six on the fourth, the bass channel, does not count, nor do those beyond the sixth.

    Two cases the standard leaves open. A sound shorter than its block of 0.4 s is as loud as its K-weighted energy over
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
    block = math.ceil(_BLOCK_S * rate)
    missing = max(0, block - len(counted))
    padded = np.pad(counted, ((0, missing), (0, 0)))
    meter = _meter(rate, _BLOCK_S, 0.75)
    loudness = float(meter.integrated_loudness(padded))
    if loudness == -math.inf:
        loudness = float(meter.integrated_loudness(padded / peak)) + 20 * math.log10(peak)
    return loudness + 10 * math.log10(len(padded) / len(counted))


def step_powers(samples: Floats, sr: int) -> Floats:
    """What the loudness of a long sound is measured by, stretch by stretch, in little memory; see `gated_loudness`.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1: a stretch, or all of it.
    sr : sample rate in Hz.

    Returns
    -------
    (N,) float64: the K-weighted power of each whole tenth of a second, N >= 4; of a stretch shorter than a block of
    0.4 s a single one.
    """
    import scipy.signal

    sound = rows(check_sound("samples", samples))
    step = round(_BLOCK_S / 4 * check_rate("sr", sr))
    if sound.shape[1] < 4 * step:
        return np.array([10 ** ((integrated_loudness(sound, sr) - _OFFSET_DB) / 10)])
    # What has to be interpolated first is, all at once: it is made of few samples.
    at_once = _STEPS_AT_ONCE if sr >= _SLOWEST_HZ else sound.shape[1]
    n_steps, weights = sound.shape[1] // step, _CHANNEL_WEIGHTS
    held, out = None, list[Floats]()
    for first in range(0, n_steps, at_once):
        stop = min(first + at_once, n_steps)
        part, rate = _counted(sound[:, first * step : stop * step], sr)
        # The two filters of K-weighting are one, and what they ring on with goes from block to block.
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
    for of in _meter(rate, _BLOCK_S, 0.75)._filters.values():
        b, a = np.convolve(b, of.passband_gain * of.b), np.convolve(a, of.a)
    return b, a


def gated_loudness(powers: Floats) -> float:
    """Integrated loudness, in LUFS, of a sound whose stretches have these `step_powers`, (N,), one after the other.

    As `integrated_loudness`, to a hundredth of a decibel; ``-inf`` for silence. Of a sound that lies altogether below
    the gate at -70 LUFS, what is 70 dB below its loudest block is left out instead.
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
    are met to 0.05 dB. Never less than the largest sample.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1.
    sr : sample rate in Hz.
    """
    sound = rows(check_sound("samples", samples))
    factor = _density(check_rate("sr", sr))
    highest = float(np.abs(sound).max())
    if factor == 1 or highest == 0:
        return highest
    for _, part in _curve(sound, factor):
        highest = max(highest, _crest(part))
    return highest


def _density(sr: int) -> int:
    """How many points a sample shows the curve between samples."""
    return 1 if sr >= _DENSE_HZ else max(4, math.ceil(_DENSE_HZ / sr))


def _curve(sound: Floats, factor: int) -> Iterator[tuple[int, Floats]]:
    """Blocks of the curve's absolute values, (C, n * factor + 1), and the sample at which each begins."""
    # Blocks of points that stay small however dense they lie.
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
    # A parabola that does not peak between its neighbours is none of a crest.
    peaks = (middle >= left) & (middle >= right) & (bend < 0)
    rise = np.divide(np.square(right - left), -8 * bend, out=np.zeros_like(bend), where=peaks)
    return max(highest, float((middle + rise).max(initial=0.0)))


def limit_peaks(
    samples: Floats, sr: int, *, ceiling_db: float = CEILING_DB - MARGIN_DB, most_db: float = MOST_LIMITED_DB
) -> tuple[Floats, Floats]:
    """`samples` with their true peaks turned down to a ceiling, each for a few milliseconds.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1.
    sr : sample rate in Hz.
    ceiling_db : the highest true peak, in dB of full scale.
    most_db : the most that is taken off any moment; peaks further above the ceiling stay above it by the rest.

    Returns
    -------
    samples : of the same shape and dtype; the very same array if nothing exceeds the ceiling.
    gains_db : (L,) float64, <= 0, the gain of every sample in all channels; see `limiter_gains`.
    """
    sound, sr = check_sound("samples", samples), check_rate("sr", sr)
    excess = excess_db(sound, sr, ceiling_db)
    highest = float(excess.max())
    if highest <= 0:
        return samples, np.zeros(len(excess))
    return _held(sound, sr, 0.0, excess, ceiling_db, most_db)


def _held(
    samples: Floats, sr: int, gain_db: float, excess: Floats, ceiling_db: float, most_db: float
) -> tuple[Floats, Floats]:
    """`samples` at a gain, and then limited; and the limiter's gains. `excess` is that at the gain."""
    held, beyond = 0.0, max(0.0, float(excess.max()) - most_db)
    for _ in range(_ROUNDS):
        gains_db = limiter_gains(np.minimum(excess + held, most_db), sr)
        out = amplified(samples, gain_db + gains_db)
        # The curve between samples is drawn through 24 to either side, over which a gain moves a little: so much more.
        over = 20 * math.log10(true_peak(out, sr)) - ceiling_db - beyond
        if over <= MARGIN_DB / 2:
            break
        held += over
    return out, gains_db


def excess_db(samples: Floats, sr: int, ceiling_db: float) -> Floats:
    """(L,) float64: by how many dB the curve to either side of each sample, in any channel, exceeds a ceiling.

    Below 0 where it does not; the arguments are those of `limit_peaks`.
    """
    sound = rows(samples)
    highest = np.abs(sound).max(axis=0).astype(np.float64)
    factor = _density(sr)
    if factor > 1 and highest.any():
        for start, part in _curve(sound, factor):
            between = part[:, :-1].reshape(len(sound), -1, factor).max(axis=(0, 2))
            stop = start + len(between)
            highest[start:stop] = np.maximum(highest[start:stop], between)
            following = highest[start + 1 : stop + 1]
            np.maximum(following, between[: len(following)], out=following)
    out: Floats = 20 * np.log10(np.maximum(highest, np.finfo(np.float64).tiny)) - ceiling_db
    return out


def limiter_gains(excess: Floats, sr: int) -> Floats:
    """Gains in dB that take off at least `excess` at every sample, smoothly: (L,) float64, <= 0.

    The largest excess of the 5 ms to either side, released at 75 dB a second, and averaged under a triangle 5 ms to
    either side. Every value that is averaged has the sample within its own 5 ms, and so takes off what that one needs:
    a mean of such values does too. It is 0 where nothing within 10 ms, or to be released, exceeds anything.

    Parameters
    ----------
    excess : (L,) float array, dB above the ceiling; below it where negative.
    sr : sample rate in Hz.
    """
    import scipy.ndimage

    reach = max(1, round(LOOK_AHEAD_S * sr))
    needed = -scipy.ndimage.maximum_filter1d(np.maximum(excess, 0), 2 * reach + 1, mode="nearest")
    # min over j <= n of needed[j] + slope (n - j), as a running minimum of what does not depend on n.
    rise = RELEASE_DB_PER_S / sr * np.arange(len(excess))
    released = np.minimum(np.minimum.accumulate(needed - rise) + rise, 0)
    # Rising in a straight line, it arrives at 0 but for rounding.
    released[released > -1e-9] = 0
    smooth = released
    for side in (0, -1):
        # Two means over reach + 1 samples are a triangle over 2 reach + 1; of even lengths one leans to either side.
        smooth = scipy.ndimage.uniform_filter1d(smooth, reach + 1, mode="nearest", origin=side if reach % 2 else 0)
    # Running sums round: never above what is needed, and 0 where only zeros were averaged.
    smooth = np.minimum(smooth, -np.maximum(excess, 0))
    smooth[scipy.ndimage.minimum_filter1d(released, 2 * reach + 1, mode="nearest") == 0] = 0
    gains: Floats = smooth
    return gains


class Levelled(NamedTuple):
    """A sound at its level; see `match_loudness`."""

    samples: Floats
    gain_db: float  # of the whole, in all
    peak_gain_db: float  # what of it keeps peaks safe, 0 or less
    limited_db: float  # what the limiter took off the loudest moment on top, 0 or less
    loudness: float  # LUFS that resulted
    true_peak_db: float  # that resulted


def match_loudness(samples: Floats, sr: int, loudness: float | None) -> Levelled:
    """`samples` at an integrated loudness, and their true peak below -1 dB of full scale.

    Where one gain for all would lead to higher peaks, they are limited by 6 dB at most, and the gain makes up for what
    that takes off the loudness. What then still exceeds the ceiling turns the whole down, short of the loudness.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1.
    sr : sample rate in Hz.
    loudness : LUFS, or None to leave the level as it is: nothing is limited then, and the whole turned down for its
        peaks. Silence stays silence, and ``-inf`` asks for nothing.

    Returns
    -------
    Levelled : the samples, of the same dtype (the very same array if nothing is to be done); the gain in all, the part
        of it that peaks asked for, what was limited, and the loudness and true peak that resulted.
    """
    own, peak_db = integrated_loudness(samples, sr), _true_peak_db(samples, sr)
    if loudness is None or not math.isfinite(loudness) or not math.isfinite(own):
        return _at_gain(samples, sr, 0.0, own, peak_db, limited=False)
    wanted = loudness - own
    # What lies below the absolute gate does not count until the gain lifts it above it: hence once or twice more.
    for _ in range(3):
        missing = loudness - _loudness_at(samples, sr, wanted)
        if not 0.02 < abs(missing) < 60:
            break
        wanted += missing
    if peak_db + wanted <= CEILING_DB:
        return _at_gain(samples, sr, wanted, own, peak_db, limited=True)
    gain_db, turned_down = _limited_gain(samples, sr, loudness, wanted, peak_db)
    level = _at_gain(samples, sr, gain_db, own, peak_db, limited=True)
    return level._replace(peak_gain_db=min(0.0, level.loudness - loudness) if turned_down else 0.0)


def at_gain(samples: Floats, sr: int, gain_db: float, *, limited: bool = True) -> Levelled:
    """`samples` at a gain, and their true peak below -1 dB of full scale.

    What `match_loudness` does once it has found its gain: the same samples at the `Levelled.gain_db` of the one are
    those of the other.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1.
    sr : sample rate in Hz.
    gain_db : the gain.
    limited : whether peaks beyond the ceiling are limited, by 6 dB at most, before the whole is turned down for what is
        left of them; or the whole is turned down at once.
    """
    return _at_gain(samples, sr, gain_db, integrated_loudness(samples, sr), _true_peak_db(samples, sr), limited=limited)


def _at_gain(samples: Floats, sr: int, gain_db: float, own: float, peak_db: float, *, limited: bool) -> Levelled:
    """As `at_gain`, of samples whose loudness and peak are known."""
    ceiling_db = CEILING_DB - MARGIN_DB
    excess_of_peak = peak_db + gain_db - CEILING_DB
    if excess_of_peak <= 0 or not limited:
        down = -(excess_of_peak + MARGIN_DB) if excess_of_peak > 0 else 0.0
        if gain_db + down == 0:
            return Levelled(samples, 0.0, down, 0.0, own, peak_db)
        out = amplified(samples, gain_db + down)
        return Levelled(out, gain_db + down, down, 0.0, integrated_loudness(out, sr), peak_db + gain_db + down)
    highest = ceiling_db + MOST_LIMITED_DB - peak_db
    # Rounded alike, so that at the gain it had before a sound has the same samples again.
    down, gain_db = min(0.0, highest - gain_db), min(gain_db, highest)
    out, gains_db = _held(
        samples, sr, gain_db, excess_db(samples, sr, ceiling_db) + gain_db, ceiling_db, MOST_LIMITED_DB
    )
    limited_db, peak_db = float(gains_db.min()), _true_peak_db(out, sr)
    if peak_db >= CEILING_DB:
        # The rounds of the limiter ended a hair too early.
        over = ceiling_db - peak_db
        out, peak_db, limited_db = amplified(out, over), ceiling_db, limited_db + over
    return Levelled(out, gain_db, down, limited_db, integrated_loudness(out, sr), peak_db)


def _limited_gain(samples: Floats, sr: int, loudness: float, wanted: float, peak_db: float) -> tuple[float, bool]:
    """The gain at which samples, once limited, are at `loudness`, or as near to it as 6 dB of limiting get.

    And whether these do not get there.
    """
    ceiling_db = CEILING_DB - MARGIN_DB
    excess, highest = excess_db(samples, sr, ceiling_db), ceiling_db + MOST_LIMITED_DB - peak_db
    gain_db, slope, last = wanted, 1.0, (0.0, 0.0)
    for round_ in range(_ROUNDS):
        turned_down, gain_db = gain_db > highest, min(gain_db, highest)
        gains_db = limiter_gains(np.minimum(excess + gain_db, MOST_LIMITED_DB), sr)
        got = integrated_loudness(amplified(samples, gain_db + gains_db), sr)
        if turned_down or abs(loudness - got) <= _NEAR_ENOUGH_DB:
            break
        # The limiter takes a part of every decibel that is added: how large a one, the last two rounds tell.
        if round_ and gain_db != last[0]:
            slope = min(max((got - last[1]) / (gain_db - last[0]), 0.25), 1.0)
        last = (gain_db, got)
        gain_db += (loudness - got) / slope
    return min(gain_db, highest), turned_down


def _true_peak_db(samples: Floats, sr: int) -> float:
    peak = true_peak(samples, sr)
    return 20 * math.log10(peak) if peak > 0 else -math.inf


def _loudness_at(samples: Floats, sr: int, gain_db: float) -> float:
    return integrated_loudness(samples * np.float64(10 ** (gain_db / 20)), sr)


def amplified(samples: Floats, gain_db: float | Floats) -> Floats:
    """(L,) or (C, L) `samples` at a gain in dB, one for all or (L,) one for each moment; of their dtype."""
    gain: Floats = 10 ** (np.asarray(gain_db, dtype=np.float64) / 20)
    return (samples * gain).astype(samples.dtype)


def follow_contour(samples: Floats, target: Floats, sr: int, share: float) -> Floats:
    """Draw the slow loudness contour of `samples` towards that of `target`; see `contour_gains`.

    Parameters
    ----------
    samples, target : (L,) or (C, L) float arrays, equally long; they need not have equally many channels.
    sr : sample rate in Hz.
    share : 0 (nothing) to 1 (as far as 12 dB take it).

    Returns
    -------
    An array like `samples`. The gain is one for all channels and changes no faster than its contour, which is a second
    wide, so attacks stay where they are.
    """
    check_real("share", share, least=0, most=1)
    gains_db = contour_gains(loudness_contour(target, sr), loudness_contour(samples, sr), share)
    at = np.arange(samples.shape[-1]) / (CONTOUR_HOP_S * sr)
    return (samples * 10 ** (np.interp(at, np.arange(len(gains_db)), gains_db) / 20)).astype(samples.dtype)


def contour_gains(target: Floats, own: Floats, share: float) -> Floats:
    """Gains in dB, (N,), that draw the contour `own` towards `target`, both (N,) in LUFS.

    A share of their difference, once it is rid of its mean over the moments when both sound (how loud the whole is, is
    not the contour's affair), limited to 12 dB either way and averaged over a second (Hann). What is more than 60 dB
    below its loudest counts as silent: where `own` is, it is never lifted; where `target` is, 12 dB are taken off.
    """
    sounds, wanted = (contour > contour.max() - SILENT_DB for contour in (own, target))
    both = sounds & wanted
    gains = np.where(sounds, -MOST_FOLLOWED_DB, 0.0)
    if both.any():
        apart = target[both] - own[both]
        gains[both] = np.clip(apart - apart.mean(), -MOST_FOLLOWED_DB, MOST_FOLLOWED_DB)
    else:
        gains[:] = 0
    half = round(CONTOUR_WINDOW_S / CONTOUR_HOP_S / 2)
    window = np.hanning(2 * half + 3)[1:-1]
    weights = np.convolve(np.ones_like(gains), window)[half : half + len(gains)]
    smooth = np.convolve(gains, window)[half : half + len(gains)] / weights
    out: Floats = share * np.where(sounds, smooth, np.minimum(smooth, 0))
    return out


def _counted(sound: Floats, sr: int) -> tuple[Floats, int]:
    """The channels that count, (L, C) in the order pyloudnorm weighs them, and a rate that its filters can have."""
    channels: Floats = rows(sound).astype(np.float64)
    if len(channels) == 4:
        channels = np.insert(channels, 2, 0, axis=0)
    elif len(channels) > 5:
        channels = channels[[0, 1, 2, 4, 5]]
    if sr < _SLOWEST_HZ:
        factor = math.ceil(_SLOWEST_HZ / sr)
        channels, sr = _interpolated(channels, factor, 0, channels.shape[1])[:, :-1], sr * factor
    return np.ascontiguousarray(channels.T), sr


def _interpolated(sound: Floats, factor: int, start: int, stop: int) -> Floats:
    """`factor` points a sample, from sample `start` to one before sample `stop`'s place and the one on it: float64.

    (C, L) to (C, (stop - start) * factor + 1). The kernel is a sinc under a Kaiser window: at the samples themselves it
    is 1 at its middle and 0 elsewhere, so they stay; 0.9 of the band passes, images are 80 dB down.
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
