"""Draw the mosaic's levels towards the target's: a little everywhere, in narrow bands, and in full around its attacks.

Where a melody is followed, the noise between its partials is turned down, so that it can be heard even in the buzz of a
bee. All this is done by gains over time and frequency alone: the sound is still the source's, and no phase of the
target is used. Gains are found from mono mixes and applied to every channel alike.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import scipy.special
from numpy.typing import ArrayLike

from smalti._checks import Floats, check_count, check_real
from smalti.dsp.bands import erb_filters
from smalti.dsp.stft import StftParams, istft, stft

# Colour: 46 ms windows every 6 ms; two bands to each of the ear's, so that resolved partials get gains of their own.
COLOUR_WINDOW_S, COLOUR_HOP_S, COLOUR_STEP_ERB = 1024 / 22050, 128 / 22050, 0.5
# Both sounds get a floor so far under the target's loudest band. Without it, the noise between a recording's sounds
# would be drawn towards the target's noise, which nobody hears. No gain goes beyond 12 dB.
COLOUR_FLOOR_DB, COLOUR_MOST_DB = -45.0, 12.0

# Fine colour: 186 ms windows every 23 ms, which tell partials 20 Hz apart, in bands of an eighth of a critical band.
FINE_WINDOW_S, FINE_HOP_S, FINE_STEP_ERB = 4096 / 22050, 512 / 22050, 0.12
# Differences broader than two critical bands are tone colour, and left to `colour`.
FINE_BROAD_ERB = 2.0
# Levels differ by 40 dB at most, gains are 18 dB at most, and what is too loud is turned down by three tenths only.
FINE_APART_DB, FINE_MOST_DB, FINE_DOWN_SHARE = 40.0, 18.0, 0.3
# A band counts less the further it lies under the loudest of its moment, and not at all from 20 dB on.
FINE_HEARD_DB = 20.0
# Levels of 9 frames (372 ms) are compared with those of the bands around them. They hold 3.5 independent values of
# noise, and a bin holds two thirds of one. What stands out by up to a quarter more than noise does is noise,
# and what stands out by another 2.5 dB is pitched.
FINE_MEAN_FRAMES, FINE_FRESH_FRAMES, HANN_BINS, FINE_NOISY, FINE_TONAL_DB = 9, 3.5, 1.5, 1.25, 2.5
# Bands of a moment count as at most 50 dB under its loudest, so that what is cut off does not pass for partials.
FINE_FLOOR = 1e-5

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

# Edges: the 25 ms before an attack, but for the last 2 ms, are compared with the 25 ms after it.
EDGE_MEAN_S, EDGE_SPARED_S = 0.025, 0.002
# The mosaic is turned down from 70 ms before an attack, or from 20 ms after the one before it, within 25 ms; it is
# back in the last 1.5 ms. There is no room for that in 6 ms.
EDGE_REACH_S, EDGE_SINCE_S, EDGE_FADE_S, EDGE_BACK_S, EDGE_LEAST_S = 0.070, 0.020, 0.025, 0.0015, 0.006
# It is turned down if it stands more than 2 dB higher before the attack than the target does, and by 60 dB at most.
EDGE_SPARED_DB, EDGE_MOST_DB = 2.0, 60.0
# Of the mean square of the whole: what lies under it counts as silence.
EDGE_FLOOR = 1e-8

# Purity: 93 ms windows, which tell partials 40 Hz apart. Powers are means over three of them, since noise in a single
# window has as many peaks as valleys.
PURITY_WINDOW_S, PURITY_HOP_S, PURITY_STEP_ERB, PURITY_MEAN_FRAMES = 2048 / 22050, 512 / 22050, 1.0, 3
# Partials should stand 16 dB above the noise between them, which is turned down by 12 dB at most.
PURITY_OVER_DB, PURITY_MOST_DB = 16.0, 12.0
# A partial is kept in full within its window's main lobe, 1.6 bins, or 1.2 % of its frequency where that is wider. Bins
# twice as far off lie between partials. Where neighbours are closer than that, no bin does.
PARTIAL_BINS, PARTIAL_SHARE = 1.6, 0.012
# A melody is heard in its first partials. From the third to the sixth the purity fades out, for the noise above is the
# source's own sound.
PURE_PARTIALS = 3
# Bands so far under their frame's loudest are left alone: nobody hears them, pure or not.
PURITY_FLOOR_DB = -50.0
# Added to ratios of powers, so that the logarithm of 0 is finite.
LEAST_STANDING = 1e-12


@dataclass(frozen=True, eq=False)
class Shape:
    """Gains over time and frequency.

    Attributes
    ----------
    db : (B, N) float array, gains of B bands at N moments, in dB.
    bands : (B, F) float32 array, what share each bin has in each band; the shares of a bin add up to 1. None where each
        bin is a band.
    params : the grid, F bins and, for the sound that it was made for, N frames.
    """

    db: Floats
    bands: Floats | None
    params: StftParams

    def apply(self, samples: Floats) -> Floats:
        """The sound at these gains, the same for every channel.

        Parameters
        ----------
        samples : (L,) or (C, L) float32 or float64, as long as the sound that the gains were made for; not modified.

        Returns
        -------
        Array of that shape and dtype. At 0 dB it is `samples`, but for rounding.
        """
        if samples.ndim == 2:
            return np.stack([self.apply(channel) for channel in samples])
        gains = 10 ** ((self.db if self.bands is None else self.bands.T @ self.db) / 20)
        return istft(stft(samples, self.params) * gains.astype(samples.dtype), self.params, length=len(samples))


def colour(samples: Floats, target: Floats, sr: int, *, share: float, most_db: float = COLOUR_MOST_DB) -> Shape:
    """The mosaic's tone colour drawn towards the target's.

    In every half of a critical band, every 6 ms, the level moves by `share` of its difference from the target's in dB,
    and by `most_db` at most. A quarter lets melody, harmony and loudness through; grains and timbre stay the source's.

    Parameters
    ----------
    samples, target : (L,) float32 or float64 each, the mosaic's and the target's mono mix. Their overall levels do not
        matter, as both are brought to one level first.
    sr : Hz.
    share : 0 (nothing) to 1 (the target's spectral envelope, as a vocoder would have it).
    most_db : dB, >= 0. A small one spares sources that are far from the target.

    Returns
    -------
    Shape : gains of -`most_db` to `most_db`; 0 wherever both lie under the floor, and everywhere for a silent target.

    Raises
    ------
    ValueError, TypeError : for a share or `most_db` out of range.

    References
    ----------
    Ours. The bands are those of Glasberg & Moore (1990).
    """
    check_real("share", share, least=0, most=1)
    check_real("most_db", most_db, least=0)
    params = StftParams.from_seconds(COLOUR_WINDOW_S, COLOUR_HOP_S, sr)
    bands = erb_filters(params.n_fft, sr, step=COLOUR_STEP_ERB)
    ours, theirs = (bands @ power for power in _powers(samples, target, params))
    missing = _decibels_apart(ours, theirs, floor_db=COLOUR_FLOOR_DB)
    return Shape(np.clip(share * missing, -most_db, most_db), bands, params)


def fine_colour(samples: Floats, target: Floats, sr: int, *, share: float) -> Shape:
    """The target's partials brought out of the mosaic: turned up where the mosaic has something there.

    In every eighth of one of the ear's critical bands, every 23 ms, the level moves by `share` of what it differs from
    the target's, in dB. Three things limit that. Differences broader than two critical bands are left alone, as they
    are the source's own tone colour. Levels move down by three tenths only, as the source's own partials belong to it.
    And noise moves little, since noise through narrow filters sounds as the filters do.

    Parameters
    ----------
    samples, target, sr : as for `colour`.
    share : 0 (nothing) to 1.

    Returns
    -------
    Shape : gains of -18 to 18 dB; 0 everywhere for a silent target.

    Raises
    ------
    ValueError, TypeError : for a share out of range.

    References
    ----------
    Ours. The bands are those of Glasberg & Moore (1990).
    """
    check_real("share", share, least=0, most=1)
    params = StftParams.from_seconds(FINE_WINDOW_S, FINE_HOP_S, sr)
    bands = erb_filters(params.n_fft, sr, step=FINE_STEP_ERB)
    # Bands in the bass may lie between two bins, and hold none.
    bands = bands[bands.any(axis=1)]
    ours, theirs = (bands @ power for power in _powers(samples, target, params))
    missing = np.clip(_decibels_apart(ours, theirs, floor_db=COLOUR_FLOOR_DB), -FINE_APART_DB, FINE_APART_DB)
    missing = (missing - _broad(missing)) * _heard(np.maximum(ours, theirs)) * _tonality(ours, bands)
    missing = np.where(missing < 0, FINE_DOWN_SHARE * missing, missing)
    return Shape(np.clip(share * missing, -FINE_MOST_DB, FINE_MOST_DB), bands, params)


def _broad(values: Floats) -> Floats:
    """Values (B, N) of narrow bands, smoothed over two critical bands."""
    smooth: Floats = scipy.ndimage.gaussian_filter1d(values, FINE_BROAD_ERB / FINE_STEP_ERB, axis=0, mode="nearest")
    return smooth


def _heard(power: Floats) -> Floats:
    """How much each band of powers (B, N) counts, 0 to 1: fully at its moment's loudest, not at all 20 dB under it."""
    loudest = power.max(axis=0)
    share = np.divide(power, loudest, out=np.zeros_like(power), where=loudest > 0)
    counts: Floats = np.clip(1 + 10 * np.log10(np.maximum(share, LEAST_STANDING)) / FINE_HEARD_DB, 0, 1)
    return counts


def _tonality(power: Floats, bands: Floats) -> Floats:
    """How pitched a sound is around each band of its powers (B, N): 0 for noise, 1 where partials stand out."""
    mean = scipy.ndimage.uniform_filter1d(power, FINE_MEAN_FRAMES, axis=1, mode="nearest")
    floor = np.maximum(FINE_FLOOR * mean.max(axis=0), LEAST_STANDING)
    # A running sum leaves rounding where there should be silence, even less than nothing.
    levels = 10 * np.log10(np.maximum(mean, 0) + floor)
    # The power of noise is a chi-square variable, of two degrees of freedom for each independent value in a mean. Its
    # level in dB then deviates by the root of the trigamma function, times 10 / ln(10).
    n_bins = np.square(bands.sum(axis=1)) / np.square(bands).sum(axis=1)
    n_values = FINE_FRESH_FRAMES * np.maximum(1, n_bins / HANN_BINS)
    of_noise = np.square(10 / np.log(10)) * scipy.special.polygamma(1, n_values)[:, None]
    contrast, noisy = np.sqrt(_broad(np.square(levels - _broad(levels)))), np.sqrt(_broad(of_noise))
    tonality: Floats = np.clip((contrast - FINE_NOISY * noisy) / FINE_TONAL_DB, 0, 1)
    return tonality


def attack_shape(samples: Floats, target: Floats, sr: int, attacks_s: ArrayLike, *, share: float = 1.0) -> Shape:
    """The mosaic's loudness shaped around the target's attacks: turned down just before, up just after.

    A frame chosen for an attack already sounds half a window before it; that smear is taken away. Before an attack
    the mosaic is only turned down and after it only up, and elsewhere it is left alone.

    Parameters
    ----------
    samples, target, sr : as for `colour`.
    attacks_s : (A,) seconds, `smalti.dsp.onsets.onset_times` of the target.
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
    band_of_bin = np.searchsorted(ATTACK_BANDS_HZ, hz, side="right") - 1
    bands = (band_of_bin == np.arange(len(ATTACK_BANDS_HZ))[:, None]).astype(np.float32)
    ours, theirs = (
        scipy.ndimage.uniform_filter1d(bands @ power, ATTACK_MEAN_FRAMES, axis=1, mode="nearest")
        for power in _powers(samples, target, params)
    )
    missing = _decibels_apart(ours, theirs, floor_db=-90)
    missing_in_all = _decibels_apart(ours.sum(axis=0), theirs.sum(axis=0), floor_db=-90)
    before, after = around(attacks_s, np.arange(ours.shape[1]) * (params.hop / sr))
    # If the target as a whole is quieter than the mosaic, a single louder band must not stay up: it would give the
    # attack away.
    down = np.clip(np.minimum(missing, missing_in_all) + SPARED_DB, -MOST_DOWN_DB, 0)
    up = np.clip(missing, 0, MOST_UP_DB)
    reach = round(ATTACK_SMOOTH_S * sr / params.hop)
    db = scipy.ndimage.uniform_filter1d(share * (before * down + after * up), 2 * reach + 1, axis=1, mode="nearest")
    return Shape(db, bands, params)


def edge_gains(samples: Floats, target: Floats, sr: int, attacks_s: ArrayLike, *, share: float = 1.0) -> Floats:
    """Gains that take away what sounds in the mosaic just before the target's attacks, to the sample.

    `attack_shape` sees 12 ms at once, and leaves the last of them before an attack. Here the level just before each
    attack is brought as far under the level just after it as the target has it.

    Parameters
    ----------
    samples, target, sr, attacks_s : as for `attack_shape`.
    share : 0 (nothing) to 1, of the gains in dB.

    Returns
    -------
    (L,) array of the dtype of `samples`: 0.001 to 1, and 1 but for at most 70 ms before each attack. They fall in
        25 ms, or in half the room there is, and rise again in the last 1.5 ms.

    Raises
    ------
    ValueError, TypeError : for a share out of range.

    References
    ----------
    Ours.
    """
    check_real("share", share, least=0, most=1)
    ours, theirs = (np.cumsum(np.square(_at_level_1(sound), dtype=np.float64)) for sound in (samples, target))
    gains, since_s = np.ones(len(samples)), -np.inf
    for attack_s in np.sort(np.asarray(attacks_s, dtype=np.float64)):
        attack = round(attack_s * sr)
        begin = max(0, round(max(attack_s - EDGE_REACH_S, since_s + EDGE_SINCE_S) * sr))
        since_s = attack_s
        over_db = min(_before_db(ours, attack, sr) - _before_db(theirs, attack, sr), EDGE_MOST_DB)
        if over_db > EDGE_SPARED_DB and attack - begin > EDGE_LEAST_S * sr:
            gains[begin:attack] = np.minimum(gains[begin:attack], _dip(share * over_db, attack - begin, sr))
    return gains.astype(samples.dtype)


def _before_db(energy: Floats, attack: int, sr: int) -> float:
    """The level just before a sample over that just after it, in dB, by a sound's running sum of squares."""
    reach, spared = round(EDGE_MEAN_S * sr), round(EDGE_SPARED_S * sr)
    before, after = _mean_power(energy, attack - reach, attack - spared), _mean_power(energy, attack, attack + reach)
    return float(10 * np.log10((before + EDGE_FLOOR) / (after + EDGE_FLOOR)))


def _mean_power(energy: Floats, begin: int, end: int) -> float:
    begin, end = max(0, begin), min(end, len(energy))
    if end <= begin:
        return 0.0
    return float(energy[end - 1] - (energy[begin - 1] if begin else 0.0)) / (end - begin)


def _dip(down_db: float, length: int, sr: int) -> Floats:
    """(length,) gains that fall linearly in dB, stay down, and rise along a raised cosine up to the sample after."""
    fall = min(round(EDGE_FADE_S * sr), length // 2)
    rise = min(round(EDGE_BACK_S * sr), length - fall)
    gains = 10 ** (-down_db / 20 * np.minimum(1, np.arange(length) / max(1, fall)))
    back = 0.5 - 0.5 * np.cos(np.pi * np.arange(rise) / max(1, rise))
    gains[length - rise :] += (1 - gains[length - rise :]) * back
    return gains


def purity(samples: Floats, melodies: Floats, sr: int, *, hop: int, share: float) -> Shape:
    """Gains that turn down the noise beside the partials of the melodies, and the partials up by as much power.

    A shifted bee hums its tune behind a noise that is not shifted, as noise has no pitch. Partials should stand 16 dB
    above that noise. In each critical band the noise is turned down by `share` of what is missing. The band is then
    brought back to the power it had, so that the tone colour stays: power taken from beside a partial goes to the
    partial, and a band that no partial reaches keeps its noise. Bands and their gains overlap, so three bands together
    keep their power, to half a decibel.

    Parameters
    ----------
    samples : (L,) float32 or float64, the mosaic's mono mix. Its level does not matter.
    melodies : (M, N') float array, Hz, 0 where a voice rests: the pitches that the mosaic was made to have. Moments at
        which all voices rest are left alone, as is everything if M is 0. A partial of any voice counts as a partial.
    sr : Hz.
    hop : samples from one frame of `melodies` to the next, the first about sample 0; the last is held.
    share : 0 (nothing) to 1.

    Returns
    -------
    Shape : gains of every bin, -12 to 12 dB. They are 0 where partials stand out by 16 dB already, and where they lie
        too close together to tell (under 35 Hz, and in part under 70).

    Raises
    ------
    ValueError, TypeError : for a share or hop out of range, or melodies without a frame.

    References
    ----------
    Ours; the gains are those of the comb filters of Lim, Oppenheim & Braida (1978), "Evaluation of an adaptive comb
    filtering method for enhancing speech degraded by white noise addition", IEEE Trans. ASSP 26(4), band by band.
    """
    check_real("share", share, least=0, most=1)
    check_count("hop", hop, least=1)
    if melodies.ndim != 2 or not melodies.shape[1]:
        raise ValueError(f"melodies has shape {melodies.shape}; pass one row of frequencies for each voice, (M, N)")
    params = StftParams.from_seconds(PURITY_WINDOW_S, PURITY_HOP_S, sr)
    bands = erb_filters(params.n_fft, sr, step=PURITY_STEP_ERB)
    # Double precision, since the squares of nearly silent samples are too small for single precision.
    power = np.square(np.abs(stft(_at_level_1(samples), params)), dtype=np.float64)
    # A running sum leaves rounding where there should be silence, some of it negative.
    power = np.maximum(scipy.ndimage.uniform_filter1d(power, PURITY_MEAN_FRAMES, axis=1, mode="nearest"), 0)
    at = np.minimum(np.rint(np.arange(power.shape[1]) * (params.hop / hop)).astype(np.intp), melodies.shape[1] - 1)
    kept, pure = _partials(melodies[:, at], params, sr)
    inside, between = bands @ (np.square(kept) * power), bands @ (np.square(1 - kept) * power)
    total = inside + between
    floor = total.max(axis=0) * 10 ** (PURITY_FLOOR_DB / 10)
    # Silent bands are divided by 1, not by their own level of 0.
    standing_db = 10 * np.log10(np.where(total > 0, inside, 1) / np.where(between > 0, between, 1) + LEAST_STANDING)
    lacking = np.where((total > floor) & (between > 0), np.clip(PURITY_OVER_DB - standing_db, 0, None), 0)
    down = bands.T @ np.minimum(share * lacking, PURITY_MOST_DB)
    gains = 1 - pure * (1 - kept) * (1 - 10 ** (-down / 20))
    before, after = bands @ power, bands @ (np.square(gains) * power)
    up = np.minimum(10 * np.log10(np.where(after > 0, before, 1) / np.where(after > 0, after, 1)), PURITY_MOST_DB)
    return Shape(20 * np.log10(gains) + bands.T @ up, None, params)


def _partials(melodies: Floats, params: StftParams, sr: int) -> tuple[Floats, Floats]:
    """How much (F, N) bins belong to a partial of any voice (M, N), and how pure they are to be, each 0 to 1."""
    hz = np.arange(params.n_bins)[:, None] * (sr / params.n_fft)
    reach = np.maximum(PARTIAL_BINS * sr / params.n_fft, PARTIAL_SHARE * hz)
    kept, pure = np.zeros((params.n_bins, melodies.shape[1])), np.zeros((params.n_bins, melodies.shape[1]))
    for f0 in melodies:
        number = hz / np.maximum(f0, 1e-9)
        away = np.abs(number - np.maximum(1, np.rint(number))) * f0
        # Partials too close to tell apart leave no gaps: all bins count as partials, even below the first.
        inside = np.where(f0 < 2 * reach[0], 1, np.clip(2 - away / reach, 0, 1))
        kept = np.maximum(kept, np.where(f0 > 0, inside, 0))
        pure = np.maximum(pure, np.where(f0 > 0, np.clip(2 - number / PURE_PARTIALS, 0, 1), 0))
    return kept, pure


def around(attacks_s: ArrayLike, times_s: Floats) -> tuple[Floats, Floats]:
    """How much each moment counts as before an attack and as after one.

    A moment within 40 ms after one attack and before another fades from the first to the second, so that a roll does
    not swallow itself.

    Parameters
    ----------
    attacks_s : (A,) seconds, in any order. times_s : (N,) seconds, ascending.

    Returns
    -------
    before, after : (N,) float64 arrays, 0 to 1, as is their sum. `before` rises from 0 to 1 from 120 to 60 ms before an
        attack and then stays 1; `after` falls from 1 at the attack to 0 within 40 ms.
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
    # Double precision, since the squares of nearly silent samples are too small for single precision.
    level = np.sqrt(np.square(samples, dtype=np.float64).mean())
    return (samples / level).astype(samples.dtype) if level > 0 else samples


def _decibels_apart(ours: Floats, theirs: Floats, *, floor_db: float) -> Floats:
    """By how many dB `theirs` is louder than `ours`, both on a floor `floor_db` from the loudest of `theirs`."""
    floor = float(theirs.max(initial=0.0)) * 10 ** (floor_db / 10)
    if floor == 0:
        return np.zeros_like(ours)
    return 10 * np.log10((theirs + floor) / (ours + floor))
