"""The mosaic's levels drawn towards the target's: a little, everywhere, in narrow bands; in full around its attacks.

Both are gains over time and frequency, and gains only: what sounds is still the source, and no phase of the target
comes near it. They are found from mono mixes and applied to every channel alike.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import ArrayLike

from smalti._checks import Floats, check_real
from smalti.bands import erb_filters
from smalti.stft import StftParams, istft, stft

# Colour: 46 ms windows every 6 ms; two bands to each of the ear's, so that resolved partials get gains of their own.
COLOUR_WINDOW_S, COLOUR_HOP_S, COLOUR_STEP_ERB = 1024 / 22050, 128 / 22050, 0.5
# Both sounds are taken to lie on a floor so far under the target's loudest band, or the noise between a recording's
# sounds would be drawn towards the target's noise, which nobody hears; and no gain goes beyond 12 dB.
COLOUR_FLOOR_DB, COLOUR_MOST_DB = -45.0, 12.0

# Attacks: 12 ms windows every 1.5 ms, as fine as an attack; bass, middle and top have attacks of their own, and
# narrower bands would follow the target's tones.
ATTACK_WINDOW_S, ATTACK_HOP_S, ATTACK_BANDS_HZ = 256 / 22050, 32 / 22050, (0.0, 600.0, 2500.0)
# Levels are compared as means over 5 frames, and gains smoothed over 6 ms to either side.
ATTACK_MEAN_FRAMES, ATTACK_SMOOTH_S = 5, 0.006
# Before an attack: full from 60 ms before it, fading in from 120 ms before it. After it: 40 ms, fading out.
FULL_BEFORE_S, FADE_BEFORE_S, AFTER_S = 0.060, 0.120, 0.040
# Before an attack the mosaic is turned down where it is more than 6 dB louder than the target, by 30 dB at most; after
# it, it is turned up by 6 dB at most.
SPARED_DB, MOST_DOWN_DB, MOST_UP_DB = 6.0, 30.0, 6.0


@dataclass(frozen=True, eq=False)
class Shape:
    """Gains over time and frequency.

    Attributes
    ----------
    db : (B, N) float array, gains of B bands at N moments, in dB.
    bands : (B, F) float32 array, what share each bin has in each band; the shares of a bin add up to 1.
    params : the grid, F bins and, for the sound that it was made for, N frames.
    """

    db: Floats
    bands: Floats
    params: StftParams

    def apply(self, samples: Floats) -> Floats:
        """The sound at these gains, every channel at the same.

        Parameters
        ----------
        samples : (L,) or (C, L) float32 or float64, as long as what the gains were made for; not modified.

        Returns
        -------
        Array of that shape and dtype. At 0 dB it is `samples`, but for rounding.
        """
        if samples.ndim == 2:
            return np.stack([self.apply(channel) for channel in samples])
        gains = 10 ** (self.bands.T @ self.db / 20)
        return istft(stft(samples, self.params) * gains.astype(samples.dtype), self.params, length=len(samples))


def colour(samples: Floats, target: Floats, sr: int, *, share: float) -> Shape:
    """The mosaic's tone colour drawn towards the target's.

    In every half of one of the ear's critical bands, every 6 ms, the level moves by `share` of what it differs from the
    target's, in dB, and by 12 dB at most: a quarter lets melody, harmony and loudness through and leaves grains and
    timbre the source's.

    Parameters
    ----------
    samples, target : (L,) float32 or float64 each, the mosaic's and the target's mono mix. Their overall levels do not
        matter, as both are compared at one.
    sr : Hz.
    share : 0 (nothing) to 1 (the target's spectral envelope, as a vocoder would have it).

    Returns
    -------
    Shape : gains of -12 to 12 dB; 0 wherever both lie under the floor, and everywhere for a silent target.

    Raises
    ------
    ValueError, TypeError : for a share out of range.

    References
    ----------
    Ours. The bands are those of Glasberg & Moore (1990).
    """
    check_real("share", share, least=0, most=1)
    params = StftParams.from_seconds(COLOUR_WINDOW_S, COLOUR_HOP_S, sr)
    bands = erb_filters(params.n_fft, sr, step=COLOUR_STEP_ERB)
    ours, theirs = (bands @ power for power in _powers(samples, target, params))
    missing = _decibels_apart(ours, theirs, floor_db=COLOUR_FLOOR_DB)
    return Shape(np.clip(share * missing, -COLOUR_MOST_DB, COLOUR_MOST_DB), bands, params)


def attack_shape(samples: Floats, target: Floats, sr: int, attacks_s: ArrayLike, *, share: float = 1.0) -> Shape:
    """The mosaic's loudness shaped around the target's attacks: turned down just before, up just after.

    A frame chosen for an attack sounds from half a window before it; that smear is what is taken away. Before an attack
    the mosaic is only turned down and after it only up, and elsewhere it is left alone.

    Parameters
    ----------
    samples, target, sr : as for `colour`.
    attacks_s : (A,) seconds, `smalti.attacks.attack_times` of the target.
    share : 0 (nothing) to 1, of the gains in dB.

    Returns
    -------
    Shape : gains of three bands, -30 to 0 dB before attacks and 0 to 6 dB after them; 0 elsewhere, and everywhere for
        a silent target.

    Raises
    ------
    ValueError, TypeError : for a share out of range.

    References
    ----------
    Ours; what is taken away is the pre-echo of Painter & Spanias (2000), "Perceptual coding of digital audio", Proc.
    IEEE 88(4).
    """
    check_real("share", share, least=0, most=1)
    params = StftParams.from_seconds(ATTACK_WINDOW_S, ATTACK_HOP_S, sr)
    hz = np.arange(params.n_bins) * (sr / params.n_fft)
    which = np.searchsorted(ATTACK_BANDS_HZ, hz, side="right") - 1
    bands = (which == np.arange(len(ATTACK_BANDS_HZ))[:, None]).astype(np.float32)
    ours, theirs = (
        scipy.ndimage.uniform_filter1d(bands @ power, ATTACK_MEAN_FRAMES, axis=1, mode="nearest")
        for power in _powers(samples, target, params)
    )
    missing = _decibels_apart(ours, theirs, floor_db=-90)
    missing_in_all = _decibels_apart(ours.sum(axis=0), theirs.sum(axis=0), floor_db=-90)
    before, after = around(attacks_s, np.arange(ours.shape[1]) * (params.hop / sr))
    # Where the target as a whole is quieter than the mosaic, a band in which it is not must not stay behind and give
    # the attack away.
    down = np.clip(np.minimum(missing, missing_in_all) + SPARED_DB, -MOST_DOWN_DB, 0)
    up = np.clip(missing, 0, MOST_UP_DB)
    reach = round(ATTACK_SMOOTH_S * sr / params.hop)
    db = scipy.ndimage.uniform_filter1d(share * (before * down + after * up), 2 * reach + 1, axis=1, mode="nearest")
    return Shape(db, bands, params)


def around(attacks_s: ArrayLike, times_s: Floats) -> tuple[Floats, Floats]:
    """How much each moment counts as before an attack and as after one.

    What follows one attack within 40 ms and precedes another fades from the first to the second, so that a roll does
    not swallow itself.

    Parameters
    ----------
    attacks_s : (A,) seconds, in any order. times_s : (N,) seconds, ascending.

    Returns
    -------
    before, after : (N,) float64 arrays, 0 to 1, and their sum too. Before an attack 1 from 60 ms before it and rising
        from 120 ms before it; after it, from 1 on it to 0 within 40 ms.
    """
    before, after = np.zeros(len(times_s)), np.zeros(len(times_s))
    for attack_s in np.asarray(attacks_s, dtype=np.float64):
        near = slice(*np.searchsorted(times_s, [attack_s - FADE_BEFORE_S, attack_s + AFTER_S]))
        since = times_s[near] - attack_s
        coming = np.where(since < 0, np.clip((FADE_BEFORE_S + since) / (FADE_BEFORE_S - FULL_BEFORE_S), 0, 1), 0)
        before[near] = np.maximum(before[near], coming)
        after[near] = np.maximum(after[near], np.where(since >= 0, 1 - since / AFTER_S, 0))
    return before * (1 - after), after


def _powers(samples: Floats, target: Floats, params: StftParams) -> tuple[Floats, Floats]:
    """Power spectrograms (F, N) of both, each sound at a root mean square of 1."""
    ours, theirs = (np.square(np.abs(stft(_at_level_1(sound), params))) for sound in (samples, target))
    return ours, theirs


def _at_level_1(samples: Floats) -> Floats:
    """`samples` at a root mean square of 1; silence stays silent."""
    # In double precision: the squares of what has all but faded out are too small for single.
    level = np.sqrt(np.square(samples, dtype=np.float64).mean())
    return (samples / level).astype(samples.dtype) if level > 0 else samples


def _decibels_apart(ours: Floats, theirs: Floats, *, floor_db: float) -> Floats:
    """By how many dB `theirs` is louder than `ours`, both on a floor `floor_db` from the loudest of `theirs`."""
    floor = float(theirs.max(initial=0.0)) * 10 ** (floor_db / 10)
    if floor == 0:
        return np.zeros_like(ours)
    return 10 * np.log10((theirs + floor) / (ours + floor))
