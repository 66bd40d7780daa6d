"""Gains that bring a sound to a loudness, keep its peaks under a ceiling, or make it follow a slow contour.

Sounds are (L,) or (C, L); all channels get the same gain.
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

# The limiter: how long before a peak its gain begins to fall, and how long after the peak it stays down; how fast it is
# released; and the most it takes off, since more would be heard.
LOOK_AHEAD_S, RELEASE_DB_PER_S, MOST_LIMITED_DB = 0.005, 75.0, 6.0
# A limited sound is made louder until it is this near to the loudness it should have, or these rounds are over.
_NEAR_ENOUGH_DB, _ROUNDS = 0.1, 5
MOST_FOLLOWED_DB, SILENT_CONTOUR_DB = 12.0, 60.0


def _held(
    samples: Floats, sr: int, gain_db: float, excess: Floats, ceiling_db: float, most_db: float
) -> tuple[Floats, Floats]:
    """`samples` at a gain and then limited, and the limiter's gains; `excess` is measured at that gain."""
    held, beyond = 0.0, max(0.0, float(excess.max()) - most_db)
    for _ in range(_ROUNDS):
        gains_db = limiter_gains(np.minimum(excess + held, most_db), sr)
        out = amplified(samples, gain_db + gains_db)
        # The curve between samples depends on 24 to either side, over which the gain moves, so peaks can still exceed.
        over = 20 * math.log10(true_peak(out, sr)) - ceiling_db - beyond
        if over <= MARGIN_DB / 2:
            break
        held += over
    return out, gains_db


def limiter_gains(excess: Floats, sr: int) -> Floats:
    """Gains in dB that take off at least `excess` at every sample, smoothly: (L,) float64, <= 0.

    A gain is the largest excess of the 5 ms to either side, released at 75 dB a second, and averaged under a triangle
    5 ms to either side. Each averaged value has the sample within its own 5 ms and takes off at least what the sample
    needs, so their mean does, too. A gain is 0 where nothing within 10 ms exceeds and nothing is still being released.

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
    # The release rises in a straight line, and would miss 0 by its rounding.
    released[released > -1e-9] = 0
    smooth = released
    for side in (0, -1):
        # Two means over reach + 1 samples are a triangle over 2 reach + 1. If even, one leans left and the other right.
        smooth = scipy.ndimage.uniform_filter1d(smooth, reach + 1, mode="nearest", origin=side if reach % 2 else 0)
    # Running sums round. The result may not exceed what is needed, and is 0 where only zeros were averaged.
    smooth = np.minimum(smooth, -np.maximum(excess, 0))
    smooth[scipy.ndimage.minimum_filter1d(released, 2 * reach + 1, mode="nearest") == 0] = 0
    gains: Floats = smooth
    return gains


class Levelled(NamedTuple):
    """A sound at its level; see `match_loudness`."""

    samples: Floats
    gain_db: float  # the gain of the whole
    peak_gain_db: float  # the part of that gain that keeps peaks under the ceiling, 0 or less
    limited_db: float  # the limiter's gain, on top, where it takes off most, 0 or less
    loudness: float  # of the result, in LUFS
    true_peak_db: float  # of the result, in dB of full scale


def match_loudness(samples: Floats, sr: int, loudness: float | None) -> Levelled:
    """Bring `samples` to an integrated loudness, with their true peak below -1 dB of full scale.

    If one gain for the whole would lift peaks above the ceiling, they are limited by 6 dB at most, and the gain makes
    up for the loudness that this takes off. If peaks still exceed the ceiling, the whole is turned down and stays below
    the loudness.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1.
    sr : sample rate in Hz.
    loudness : LUFS. None and ``-inf`` leave the level as it is: nothing is limited, and the whole is turned down if its
        peaks exceed the ceiling. Silence stays silent.

    Returns
    -------
    Levelled : the samples, of the same dtype (the very same array if nothing is to be done); the gain of the whole, the
        part of it that peaks needed, what was limited, and the resulting loudness and true peak.
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
    """Apply a gain to `samples`, with their true peak below -1 dB of full scale.

    `match_loudness` does the same once it has found its gain: at the `Levelled.gain_db` it returned, the same samples
    come out again.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1.
    sr : sample rate in Hz.
    gain_db : the gain in dB.
    limited : True limits peaks beyond the ceiling by 6 dB at most, and turns the whole down only for what is left of
        them. False turns the whole down at once.
    """
    return _at_gain(samples, sr, gain_db, integrated_loudness(samples, sr), true_peak_db(samples, sr), limited=limited)


def _at_gain(samples: Floats, sr: int, gain_db: float, own: float, peak_db: float, *, limited: bool) -> Levelled:
    """`at_gain` for samples whose loudness and peak are known."""
    ceiling_db = CEILING_DB - MARGIN_DB
    excess_of_peak = peak_db + gain_db - CEILING_DB
    if excess_of_peak <= 0 or not limited:
        down = -(excess_of_peak + MARGIN_DB) if excess_of_peak > 0 else 0.0
        if gain_db + down == 0:
            return Levelled(samples, 0.0, down, 0.0, own, peak_db)
        out = amplified(samples, gain_db + down)
        return Levelled(out, gain_db + down, down, 0.0, integrated_loudness(out, sr), peak_db + gain_db + down)
    highest = ceiling_db + MOST_LIMITED_DB - peak_db
    # `_limited_gain` rounds alike, so that a sound at the gain it had before has the same samples again.
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

    The second value is whether 6 dB do not suffice.
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
        # The limiter takes a part of every decibel that is added. The last two rounds tell how large a part.
        if round_ and gain_db != last[0]:
            slope = min(max((got - last[1]) / (gain_db - last[0]), 0.25), 1.0)
        last = (gain_db, got)
        gain_db += (loudness - got) / slope
    return min(gain_db, highest), turned_down


def _loudness_at(samples: Floats, sr: int, gain_db: float) -> float:
    return integrated_loudness(samples * np.float64(10 ** (gain_db / 20)), sr)


def amplified(samples: Floats, gain_db: float | Floats) -> Floats:
    """(L,) or (C, L) `samples` at a gain in dB, one for all or (L,) one for each sample; same dtype."""
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

    The gains are a share of the contours' difference. Its mean over the moments when both sound is taken off first,
    since the contour does not set how loud the whole is. It is then limited to 12 dB either way and averaged over a
    second (Hann). A contour is silent where it lies more than 60 dB below its loudest. Where `own` is silent it is
    never lifted; where only `target` is silent, 12 dB are taken off.
    """
    sounds, wanted = (contour > contour.max() - SILENT_CONTOUR_DB for contour in (own, target))
    both_sound = sounds & wanted
    gains = np.where(sounds, -MOST_FOLLOWED_DB, 0.0)
    if both_sound.any():
        apart = target[both_sound] - own[both_sound]
        gains[both_sound] = np.clip(apart - apart.mean(), -MOST_FOLLOWED_DB, MOST_FOLLOWED_DB)
    else:
        gains[:] = 0
    half = round(CONTOUR_WINDOW_S / CONTOUR_HOP_S / 2)
    window = np.hanning(2 * half + 3)[1:-1]
    weights = np.convolve(np.ones_like(gains), window)[half : half + len(gains)]
    smooth = np.convolve(gains, window)[half : half + len(gains)] / weights
    out: Floats = share * np.where(sounds, smooth, np.minimum(smooth, 0))
    return out
