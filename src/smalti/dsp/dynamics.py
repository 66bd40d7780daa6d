"""Gains: to a loudness, under a ceiling, around peaks, along a slow contour.

Sounds are (L,) or (C, L); every gain is one for all channels.
"""

import math
from typing import NamedTuple

import numpy as np

from smalti._checks import Floats, check_real
from smalti.dsp.loudness import (
    CONTOUR_HOP_S,
    CONTOUR_WINDOW_S,
    excess_db,
    integrated_loudness,
    loudness_contour,
    true_peak,
    true_peak_db,
)

# The highest true peak a mosaic may have, in dB of full scale. Lossy coding may still carry peaks 2 dB further.
CEILING_DB = -1.0
# Gains aim this far below the ceiling: true peaks are estimates, which differ by as much.
MARGIN_DB = 0.05

# The limiter: how far ahead of a peak its gain begins to fall, and for how long after it stays down; how fast it comes
# back; and the most it takes off, since more is heard.
LOOK_AHEAD_S, RELEASE_DB_PER_S, MOST_LIMITED_DB = 0.005, 75.0, 6.0
# A limited sound is made louder until it is as near as this to the loudness it should have, in so many rounds.
_NEAR_ENOUGH_DB, _ROUNDS = 0.1, 5
MOST_FOLLOWED_DB, SILENT_CONTOUR_DB = 12.0, 60.0


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
    own, peak_db = integrated_loudness(samples, sr), true_peak_db(samples, sr)
    if loudness is None or not math.isfinite(loudness) or not math.isfinite(own):
        return _at_gain(samples, sr, 0.0, own, peak_db, limited=False)
    wanted = loudness - own
    # Parts below the absolute gate count only once the gain lifts them above it, hence one or two more rounds.
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
    return _at_gain(samples, sr, gain_db, integrated_loudness(samples, sr), true_peak_db(samples, sr), limited=limited)


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
    limited_db, peak_db = float(gains_db.min()), true_peak_db(out, sr)
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
    sounds, wanted = (contour > contour.max() - SILENT_CONTOUR_DB for contour in (own, target))
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
