"""One grain at another pitch: a stretch of a recording, moved by a ratio that changes over time.

The grain is read at the speed of the ratio, which moves its pitch. Reading jumps by whole periods, so that the grain
keeps its time and every jump is in tune; a search finds the jumps where there is no pitch. Before that, gains set each
partial to the level of the formants. Reading begins anew at attacks, so that none is smeared, doubled or heard early.
"""

import functools
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_count, check_rate
from smalti.dsp.bands import BAND_HZ, ENVELOPE_FLOOR_DB, MOST_GAIN_DB, between, partial_levels
from smalti.dsp.channels import as_channels, to_mono
from smalti.dsp.pitch import MOST_RATIO
from smalti.dsp.stft import StftParams, hann, overlap_add, spectra_at

# The source is filtered in 46 ms windows, or in windows of so many periods where that is longer, up to 93 ms.
WINDOW_S, MOST_WINDOW_S, WINDOW_PERIODS = 1024 / 22050, 2048 / 22050, 4.5
# The pitch is corrected by up to 2 % where sound up to 16 periods apart, without its treble, is at least half alike.
CORRECTED, PERIODS_APART, LEAST_LIKENESS, ROUND_HZ = 0.02, 16, 0.5, 5000.0
# A partial may be lifted if it stands 16 dB above the level halfway to its neighbours, in the mean of five frames, and
# not if it stands only 8 dB above that, as noise does. Partials under six bins apart cannot be judged.
NOISE_OVER_DB, TONE_OVER_DB, STEADY_FRAMES, LEAST_SPACING = 8.0, 16.0, 5, 6.0
# Fast reading would alias, so partials fade out over so many Hz below the limit.
TRANSITION_HZ = 200.0

# The source is read at twice its rate, where ten taps reach 80 dB up to the band's end.
OVERSAMPLING, TAPS, KERNEL_PHASES, KAISER_BETA = 2, 10, 8192, 8.0

# Between two jumps the reading may drift by one period of the source, but at least by 6 ms; segments last 7 to 46 ms.
DRIFT_S, LEAST_SEGMENT_S, MOST_SEGMENT_S = 0.006, 0.007, 0.046
# Seams are scattered about their regular places by up to this share of a segment. At regular intervals, the noise that
# comes with a tone would be read again and again, and get a pitch of its own.
SCATTER, GOLDEN = 0.2, 0.6180339887498949
# Crossfades last two periods of what is heard, at least 4 ms, and never more than this share of a segment.
SEGMENT_FADE_S, FADE_SHARE = 0.004, 0.6
# Without a pitch: longer segments, so that their rate is not heard as a pitch, and a search this far to either side.
UNPITCHED_SEGMENT_S, UNPITCHED_FADE_S, SEARCH_S = 0.030, 0.012, 0.008

# An attack is louder over its next 10 ms than the loudest of the 30 ms before by 10 dB; levels are means over 2 ms.
ATTACK_STEP_S, ATTACK_MEAN_STEPS, ATTACK_AFTER_S, ATTACK_BEFORE_S, ATTACK_RISE_DB = 0.0005, 4, 0.010, 0.030, 10.0
# It counts within 40 dB of the grain's loudest, and starts where it has risen by 1 % of its rise in power.
ATTACK_FLOOR_DB, ATTACK_FOOT = -40.0, 0.01
# Sound before an attack fades out within the last half millisecond before it.
ATTACK_FADE_S = 0.0005

# So much of the recording around a grain is read as well.
MARGIN_S = 0.010


# --- public functions


def shift_grain(
    samples: Floats,
    sr: int,
    *,
    begin: int,
    length: int,
    ratios: ArrayLike,
    f0: ArrayLike,
    hop: int,
    keep_formants: bool = True,
) -> Floats:
    """A stretch of a recording at another pitch, every event where it was.

    Parameters
    ----------
    samples : (L,) or (C, L) float32 or float64, the recording; not modified.
    sr : Hz.
    begin, length : the stretch ``samples[..., begin : begin + length]``; outside the recording there is silence.
    ratios : (K,) floats, 1/16 to 16: ``ratios[i]`` is the factor by which the pitch is raised about sample
        ``begin + i * hop``. In between they are interpolated in log; beyond the last they are held.
    f0 : (K,) floats, the recording's own pitch there in Hz; 0 where there is none. An error of a few per cent costs
        cleanness, not pitch.
    hop : samples.
    keep_formants : True gives each partial the level of the grain's own spectral envelope at its new frequency, within
        24 dB. False keeps its level.

    Returns
    -------
    (length,) or (C, length) array of the dtype of `samples`. Every channel is read at the same places at the same
    gains, found in the mono mix, so the image stays. At a ratio of 1 throughout it is the stretch itself.

    Raises
    ------
    ValueError, TypeError : for ratios, pitches or counts out of range.

    References
    ----------
    Verhelst & Roelands (1993), "An overlap-add technique based on waveform similarity (WSOLA) for high quality
    time-scale modification of speech", ICASSP. Segments are chosen by phase, where there is a pitch, as in Moulines &
    Charpentier (1990), "Pitch-synchronous waveform processing techniques", Speech Communication 9.
    """
    ratios, pitches = _checked(samples, sr, length, ratios, f0, hop)
    margin = round(MARGIN_S * sr)
    if np.all(ratios == 1) or length == 0:
        return _cut(samples, begin, length)
    channels = as_channels(_cut(samples, begin - margin, length + 2 * margin))
    mono = to_mono(channels)
    out = np.zeros((len(channels), length), samples.dtype)
    if mono.any():
        around = np.arange(-margin, length + margin) / hop
        speed = np.exp(np.interp(around, np.arange(len(ratios)), np.log(ratios)))
        own = _interpolated_pitch(pitches, around)
        if pitches.any():
            own *= _correction(mono, own, sr)
        voiced = pitches[np.clip(np.rint(around).astype(np.intp), 0, len(pitches) - 1)] > 0
        course = _Course(speed, own, voiced, sr)
        starts = [attack for attack in _attacks(mono, sr) if margin < attack < margin + length]
        for start, end in zip([None, *starts], [*starts, None], strict=True):
            begins_at, stretch = _between_attacks(channels, mono, course, start, end, margin, keep_formants)
            first = begins_at - margin
            out[:, first : first + stretch.shape[1]] += stretch
    return out if samples.ndim == 2 else out[0]


def tape_grain(samples: Floats, sr: int, *, begin: int, length: int, ratios: ArrayLike, hop: int) -> Floats:
    """A recording read at another speed, as a tape is: pitch and timing change together.

    Parameters
    ----------
    samples, sr : as for `shift_grain`.
    begin : the sample read first. length : samples wanted.
    ratios : (K,) floats, 1/16 to 16: ``ratios[i]`` is the speed at sample ``i * hop`` of what is returned.
    hop : samples.

    Returns
    -------
    (length,) or (C, length) array of the dtype of `samples`; silence beyond the recording.

    Raises
    ------
    ValueError, TypeError : for ratios or counts out of range.
    """
    ratios, _ = _checked(samples, sr, length, ratios, np.zeros(np.size(ratios)), hop)
    if np.all(ratios == 1) or length == 0:
        return _cut(samples, begin, length)
    speed = np.exp(np.interp(np.arange(length) / hop, np.arange(len(ratios)), np.log(ratios)))
    positions = _running(speed)
    margin = round(MARGIN_S * sr)
    span = int(positions[-1]) + 2 * margin + 1
    channels = as_channels(_cut(samples, begin - margin, span))
    out = np.zeros((len(channels), length), samples.dtype)
    for channel, sound in enumerate(channels):
        params = StftParams.from_seconds(WINDOW_S, WINDOW_S / 4, sr)
        centres = _centres(span, params)
        at = np.interp(centres - margin, positions, speed)
        gains = _band_limit(at, params, sr)
        out[channel] = _read(_filtered(sound, centres, gains, params), positions + margin)
    return out if samples.ndim == 2 else out[0]


def _checked(
    samples: Floats, sr: int, length: int, ratios: ArrayLike, f0: ArrayLike, hop: int
) -> tuple[Floats, Floats]:
    """Ratios and pitches as (K,) float64 arrays."""
    if samples.dtype not in (np.float32, np.float64):
        raise TypeError(f"samples has dtype {samples.dtype}; pass float32 or float64")
    check_rate("sr", sr)
    check_count("length", length, least=0)
    check_count("hop", hop, least=1)
    factors, pitches = np.asarray(ratios, dtype=np.float64), np.asarray(f0, dtype=np.float64)
    if factors.ndim != 1 or factors.size == 0 or factors.shape != pitches.shape:
        raise ValueError(f"ratios and f0 have shapes {factors.shape} and {pitches.shape}; pass as many of each, (K,)")
    if not np.all((factors >= 1 / MOST_RATIO) & (factors <= MOST_RATIO)):
        raise ValueError(
            f"ratios go from {factors.min():g} to {factors.max():g}; "
            f"pass ratios from 1/{MOST_RATIO:g} to {MOST_RATIO:g}"
        )
    if not np.all((pitches >= 0) & (pitches <= sr / 2)):
        raise ValueError(f"f0 goes from {pitches.min():g} to {pitches.max():g} Hz; pass 0 to {sr / 2:g} Hz")
    return factors, pitches


def _cut(samples: Floats, begin: int, length: int) -> Floats:
    """A copy of the stretch, silent outside the recording."""
    out = np.zeros((*samples.shape[:-1], length), samples.dtype)
    first, last = (min(max(0, sample), samples.shape[-1]) for sample in (begin, begin + length))
    out[..., first - begin : last - begin] = samples[..., first:last]
    return out


# --- pitch and phase


def _interpolated_pitch(pitches: Floats, at: Floats) -> Floats:
    """Pitch at fractional indices, interpolated in log; where there is none, from the pitches around."""
    known = np.flatnonzero(pitches > 0)
    if len(known) == 0:
        return np.full(len(at), BAND_HZ)
    return np.exp(np.interp(at, known, np.log(pitches[known])))


def _correction(mono: Floats, own: Floats, sr: int) -> Floats:
    """Factors (L,) that correct the pitch to the nearest peaks of the autocorrelation, 0.98 to 1.02.

    A track within a tenth of a semitone is good, but is off by a tenth of the third partial's cycle seven periods on.
    """
    params = StftParams.from_seconds(WINDOW_S, WINDOW_S / 4, sr)
    centres = np.arange(params.hop, max(len(mono) - params.hop, params.hop + 1), params.hop)
    # A Hann window is as wide as two moments so far to either side of its middle.
    sides = np.clip(centres + np.rint(0.18 * params.n_fft * np.array([[-1], [1]])).astype(np.intp), 0, len(mono) - 1)
    periods = sr / np.sqrt(own[sides[0]] * own[sides[1]])
    spectra = spectra_at(mono, centres, params.n_fft).T
    # Without its treble a peak is round enough for a parabola to find its top.
    fall = np.square(np.cos(np.pi / 2 * np.clip(np.arange(params.n_bins) * (sr / params.n_fft / ROUND_HZ), 0, 1)))
    likeness: Floats = scipy.fft.irfft(np.square(np.abs(spectra)) * fall.astype(mono.dtype), axis=1)
    likeness /= _window_likeness(params.n_fft)
    # More periods measure more finely, but neighbouring peaks must stay out of reach, and a third of the window holds.
    counts = np.clip(params.n_fft / 3 // periods, 1, PERIODS_APART)
    apart = counts * periods
    reach = max(2, int(CORRECTED * params.n_fft / 3))
    lags = np.rint(apart).astype(np.intp)[:, None] + np.arange(-reach, reach + 1)
    near = np.abs(lags - apart[:, None]) <= np.maximum(2, CORRECTED * apart)[:, None]
    values = np.take_along_axis(likeness, np.clip(lags, 0, params.n_fft - 1), axis=1)
    best = np.argmax(np.where(near, values, -np.inf), axis=1)[:, None] + np.arange(-1, 2)
    left, top, right = np.take_along_axis(values, np.clip(best, 0, 2 * reach), axis=1).T
    bend = left - 2 * top + right
    found = (apart <= params.n_fft / 2.5) & (bend < 0) & (top > LEAST_LIKENESS * likeness[:, 0])
    offset = np.where(found, np.clip(0.5 * (left - right) / np.where(bend < 0, bend, -1), -0.5, 0.5), 0)
    measured = lags[:, 0] + best[:, 1] + offset
    factors = np.where(found, apart / np.maximum(measured, 1), 1)
    factors[np.abs(factors - 1) > CORRECTED] = 1
    corrections: Floats = np.interp(np.arange(len(mono)), centres, factors)
    return corrections


@functools.lru_cache(maxsize=8)
def _window_likeness(n: int) -> Floats:
    """The circular autocorrelation of a Hann window of `n` samples, 1 at lag 0."""
    likeness: Floats = scipy.fft.irfft(np.square(np.abs(scipy.fft.rfft(hann(n, "<f8")))))
    likeness = (likeness / likeness[0]).astype(np.float32)
    return likeness


def _running(rate: Floats) -> Floats:
    """The running sum of a rate per sample at each sample: 0 at the first."""
    return np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])


# --- one stretch between attacks


@dataclass(frozen=True, eq=False)
class _Course:
    """Each sample (L,) of the padded stretch: its speed of reading, its own pitch in Hz, and whether it has one."""

    speed: Floats
    own: Floats
    voiced: NDArray[np.bool_]
    sr: int


def _between_attacks(
    channels: Floats, mono: Floats, course: _Course, start: int | None, end: int | None, margin: int, keep: bool
) -> tuple[int, Floats]:
    """The sound from one attack to the next, or from and to the grain's ends: its first sample, and (C, N) samples."""
    fade = round(ATTACK_FADE_S * course.sr)
    # The spans, in samples of the padded stretch, that are heard and that may be read.
    first = margin if start is None else max(start - fade, margin)
    last = len(mono) - margin if end is None else end
    reach = 0 if start is None else int(np.ceil((start - first) * course.speed[start]))
    part = slice(0 if start is None else max(0, start - reach), len(mono) if end is None else end)

    at, positions, weight = _places(mono, course, (first, last), part, start)
    if start is not None:
        rise = np.flatnonzero(at < start)
        weight[rise] *= _eased((at[rise] - first + 0.5) / max(1, start - first))
    if end is not None:
        fall = np.flatnonzero(at >= end - fade)
        weight[fall] *= _eased((end - at[fall] - 0.5) / fade)

    params, centres, gains = _gains(mono, course, part, keep)
    heard = np.empty((len(channels), last - first), channels.dtype)
    for channel, sound in enumerate(channels):
        values = _read(_filtered(sound[part], centres, gains, params), positions - part.start)
        heard[channel] = np.bincount(at - first, values * weight, minlength=last - first)[: last - first]
    return first, heard


def _places(
    mono: Floats, course: _Course, heard: tuple[int, int], part: slice, anchor: int | None
) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Where samples are heard, where they are read, and their weights, (N,) each; some moments are heard twice."""
    grid = np.arange(len(mono))
    own_phase = _running(course.own / course.sr)
    phase = _running(course.own * course.speed / course.sr)
    meeting = heard[0] if anchor is None else anchor
    phase += own_phase[meeting] - phase[meeting]
    seams, fades = _seams(course, *heard, part.stop - part.start)
    bounds = (part.start, part.stop - 1)
    cycles, alike = _cycles(mono, own_phase, phase, course, seams, fades, bounds, held=anchor is not None)
    at, segment, weight = _segments(seams, fades, alike)
    return at, np.interp(phase[at] + cycles[segment], own_phase, grid), weight


def _gains(
    mono: Floats, course: _Course, part: slice, keep_formants: bool
) -> tuple[StftParams, NDArray[np.intp], Floats]:
    """The filter for the part that is read: the grid, the frames' centres in it, and (K, F) gains."""
    lowest = float(course.own[part][course.voiced[part]].min(initial=np.inf))
    window_s = min(max(WINDOW_S, WINDOW_PERIODS / lowest), MOST_WINDOW_S)
    params = StftParams.from_seconds(window_s, window_s / 4, course.sr)
    centres = _centres(part.stop - part.start, params)
    inside = np.clip(centres + part.start, part.start, part.stop - 1)
    gains = _band_limit(_most_nearby(course.speed, inside, params.hop), params, course.sr)
    if keep_formants:
        power = np.square(np.abs(spectra_at(mono[part], centres, params.n_fft).T))
        gains *= _formant_gains(
            power, course.own[inside], course.voiced[inside], course.speed[inside], params, course.sr
        )
    return params, centres, gains


def _seams(course: _Course, first: int, last: int, room: int) -> tuple[Floats, Floats]:
    """Where segments meet, J + 1 moments from `first` to `last`, and how long they are crossfaded there, in samples."""
    at = np.unique(np.append(np.arange(first, last, 32), last - 1))
    sr, rate, pitched = course.sr, course.speed[at], course.voiced[at]
    period = sr / course.own[at]
    heard = period / rate
    drift = np.maximum(period, DRIFT_S * sr)
    least = np.where(pitched, np.maximum(LEAST_SEGMENT_S * sr, heard), UNPITCHED_SEGMENT_S * sr)
    longest = MOST_SEGMENT_S * sr
    lengths = np.clip(drift / np.maximum(np.abs(rate - 1), 1e-6), np.minimum(least, longest), longest)
    # Each reading must fit between two attacks.
    lengths = np.clip(lengths, 8, np.maximum(8, 0.6 * room / np.maximum(rate, 1)))
    passed = np.concatenate([[0.0], np.cumsum(np.diff(at) * (1 / lengths[1:] + 1 / lengths[:-1]) / 2)])
    count = max(1, round(passed[-1]))
    numbers = np.arange(count + 1)
    scattered = numbers + SCATTER * (2 * (numbers * GOLDEN % 1) - 1)
    seams = np.interp(scattered * (passed[-1] / count), passed, at.astype(np.float64))
    seams[0], seams[-1] = first, last
    wanted = np.where(pitched, np.maximum(2 * heard, SEGMENT_FADE_S * sr), UNPITCHED_FADE_S * sr)
    fades = np.zeros(count + 1)
    spans = np.diff(seams)
    fades[1:-1] = np.minimum(np.interp(seams[1:-1], at, wanted), FADE_SHARE * np.minimum(spans[1:], spans[:-1]))
    return seams, fades


def _cycles(
    mono: Floats,
    own_phase: Floats,
    phase: Floats,
    course: _Course,
    seams: Floats,
    fades: Floats,
    bounds: tuple[int, int],
    *,
    held: bool,
) -> tuple[Floats, Floats]:
    """How many cycles each segment is read off the phase that is heard, and how alike neighbours are at their seams.

    Segments lie whole cycles apart, so many that each is read nearest to its own time without reading beyond `bounds`.
    Into and within stretches without pitch any distance is allowed: the one at which neighbours are most alike.
    """
    grid = np.arange(len(phase))
    middles, starts, ends = (seams[1:] + seams[:-1]) / 2, seams[:-1] - fades[:-1] / 2, seams[1:] + fades[1:] / 2
    nominal = np.interp(middles, grid, own_phase) - np.interp(middles, grid, phase)
    least = own_phase[bounds[0]] - np.interp(starts, grid, phase)
    most = np.maximum(own_phase[bounds[1]] - np.interp(ends, grid, phase), least)
    alike = np.ones(len(seams))
    places = np.rint(seams).astype(np.intp)
    free = ~course.voiced[places[:-1]]
    free[0] = False
    cycles = _whole_cycles(nominal, least, most, 0.0)
    if held:
        cycles[0] = 0.0
    for segment in np.flatnonzero(free):
        seam, fade = places[segment], fades[segment]
        here = phase[seam]
        low, middle, high = np.interp(
            [least[segment] + here, nominal[segment] + here, most[segment] + here], own_phase, grid
        )
        last = float(np.interp(here + cycles[segment - 1], own_phase, grid))
        reach = SEARCH_S * course.sr
        low, high = min(max(low, middle - reach), high), max(min(high, middle + reach), low)
        place, alike[segment] = _most_alike(mono, last, low, high, max(8, round(fade * course.speed[seam] / 2)))
        cycles[segment] = np.interp(place, grid, own_phase) - here
        after = slice(segment + 1, None)
        cycles[after] = _whole_cycles(nominal[after], least[after], most[after], cycles[segment])
    return cycles, alike


def _whole_cycles(nominal: Floats, least: Floats, most: Floats, offset: float) -> Floats:
    """The values nearest to `nominal` that are whole cycles from `offset`; within the bounds, if any is."""
    # A place that differs from a bound by rounding only counts as that bound.
    lowest, highest = np.ceil(least - offset - 1e-6), np.floor(most - offset + 1e-6)
    cycles: Floats = np.maximum(np.minimum(np.rint(nominal - offset), highest), lowest) + offset
    return cycles


def _most_alike(mono: Floats, last: float, low: float, high: float, half: int) -> tuple[float, float]:
    """The place from `low` to `high` around which `mono` is most like around `last`, and how much so, 0 to 1."""
    fraction = last - np.floor(last)
    first, count = int(np.floor(low)), max(1, int(high - low))
    # The template lies on whole samples; its fraction is carried over to what is found.
    template = _cut(mono, int(np.floor(last)) - half, 2 * half)
    searched = _cut(mono, first - half, 2 * half + count - 1)
    products = np.correlate(searched, template, mode="valid")
    energies = np.concatenate([[0.0], np.cumsum(np.square(searched, dtype=np.float64))])
    energies = energies[2 * half :] - energies[: -2 * half]
    own = float(np.square(template, dtype=np.float64).sum())
    scale = np.sqrt(np.maximum(energies, 1e-6 * energies.max()) * own)
    if own == 0 or energies.max() == 0:
        return (low + high) / 2, 0.0
    likeness = products / scale
    best = int(np.argmax(likeness))
    return first + best + fraction, float(np.clip(likeness[best], 0, 1))


def _segments(seams: Floats, fades: Floats, alike: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """The samples of all segments, one after the other: where each is heard, its segment, and its weight.

    Weights are eased crossfades that add up to 1. Where neighbours are less alike, they are lifted: their powers do.
    """
    firsts = np.ceil(seams[:-1] - fades[:-1] / 2).astype(np.intp)
    lasts = np.ceil(seams[1:] + fades[1:] / 2).astype(np.intp)
    counts = lasts - firsts
    segment = np.repeat(np.arange(len(counts)), counts)
    at = np.arange(len(segment)) + np.repeat(firsts - np.cumsum(counts) + counts, counts)
    rising = _crossfade(at, segment, seams, fades, alike)
    falling = _crossfade(at, segment + 1, seams, fades, alike, fall=True)
    return at, segment, rising * falling


def _crossfade(
    at: NDArray[np.intp], seam: NDArray[np.intp], seams: Floats, fades: Floats, alike: Floats, *, fall: bool = False
) -> Floats:
    rise = _eased((at - seams[seam]) / np.maximum(fades[seam], 1e-9) + 0.5)
    weight: Floats = 1 - rise if fall else rise
    if alike.min() == 1:
        return weight
    # Both sides of a fade share the lift; elsewhere the power is 1.
    weight /= np.sqrt(1 - 2 * (1 - alike[seam]) * rise * (1 - rise))
    return weight


def _eased(share: Floats) -> Floats:
    """A smooth and symmetric step from 0 to 1, level at both ends."""
    inside = np.clip(share, 0, 1)
    eased: Floats = inside * inside * (3 - 2 * inside)
    return eased


# --- attacks


def _attacks(mono: Floats, sr: int) -> list[int]:
    """Samples at which attacks start."""
    step = max(1, round(ATTACK_STEP_S * sr))
    count = len(mono) // step
    if count < 2 * ATTACK_MEAN_STEPS:
        return []
    # The first difference lifts what is high, where attacks stand out.
    slope = np.diff(mono[: count * step], prepend=mono[:1])
    power = np.square(slope, dtype=np.float64).reshape(count, step).mean(axis=1)
    level = scipy.ndimage.uniform_filter1d(power, ATTACK_MEAN_STEPS, mode="constant", origin=-(ATTACK_MEAN_STEPS // 2))
    after_steps, before_steps = round(ATTACK_AFTER_S * sr / step), round(ATTACK_BEFORE_S * sr / step)
    before = _highest(level, -before_steps - ATTACK_MEAN_STEPS, -ATTACK_MEAN_STEPS)
    after = _highest(level, 0, after_steps)
    loud = after > after.max() * 10 ** (ATTACK_FLOOR_DB / 10)
    rise = np.where(loud, after / np.maximum(before, after.max() * 1e-9), 0)
    peaks = rise >= np.maximum(10 ** (ATTACK_RISE_DB / 10), _highest(rise, -before_steps, before_steps))
    found = []
    for peak in np.flatnonzero(peaks & ~np.concatenate([[False], peaks[:-1]])).tolist():
        stretch = power[max(0, peak - before_steps) : peak + after_steps + ATTACK_MEAN_STEPS]
        top = int(np.argmax(stretch))
        quiet = np.flatnonzero(stretch[: top + 1] < before[peak] + ATTACK_FOOT * (stretch[top] - before[peak]))
        foot = max(0, peak - before_steps) + (int(quiet[-1]) + 1 if len(quiet) else 0)
        found.append(foot * step)
    return sorted(set(found))


def _highest(values: Floats, first: int, last: int) -> Floats:
    """The highest of the values from `first` to `last` after each; beyond the ends there are zeros."""
    padded = np.pad(values, (max(0, -first), max(0, last)))
    size = last - first + 1
    start = max(0, first) + size // 2
    most: Floats = scipy.ndimage.maximum_filter1d(padded, size, mode="constant")[start : start + len(values)]
    return most


# --- gains in the source


def _centres(length: int, params: StftParams) -> NDArray[np.intp]:
    """Centres of the frames around all samples, as many around the first and last as around others."""
    return np.arange(-1, -(-length // params.hop) + 2) * params.hop


def _most_nearby(speed: Floats, at: NDArray[np.intp], reach: int) -> Floats:
    """The highest speed within `reach` samples."""
    most: Floats = np.max([speed[np.clip(at + step, 0, len(speed) - 1)] for step in (-reach, 0, reach)], axis=0)
    return most


def _band_limit(speed: Floats, params: StftParams, sr: int) -> Floats:
    """Gains (K, F) that take out what reading at (K,) speeds would fold over."""
    if speed.max() <= 1:
        return np.ones((len(speed), params.n_bins), np.float32)
    hz = np.arange(params.n_bins, dtype=np.float32) * np.float32(sr / params.n_fft)
    limit = np.where(speed > 1, sr / 2 / speed, sr)[:, None].astype(np.float32)
    # Hardly anything folds over at speeds hardly above 1, and hardly anything may then be lost.
    width = np.clip(np.minimum(sr / 2 - limit, 0.2 * limit), 1e-3, TRANSITION_HZ)
    return _eased((limit - hz) / width)


def _formant_gains(
    power: Floats, own: Floats, voiced: NDArray[np.bool_], speed: Floats, params: StftParams, sr: int
) -> Floats:
    """Gains (K, F) that give each partial of the source the envelope's level where it is about to go.

    Gains are interpolated between their values at the source's partials. The envelope over its shifted image would have
    a corner at each partial of both.
    """
    bin_hz = sr / params.n_fft
    spacing = np.where(voiced, own, BAND_HZ)
    levels, counts = partial_levels(power, voiced, spacing / bin_hz)
    numbers = np.arange(1, levels.shape[1] + 1)
    moved = between(levels, counts, numbers * speed[:, None])
    most = MOST_GAIN_DB * np.log(10) / 20
    log_gains = np.clip(moved - levels, -most, most * _standing_out(power, spacing / bin_hz, levels, voiced))
    where = np.arange(params.n_bins, dtype=np.float32) * (bin_hz / spacing[:, None]).astype(np.float32)
    gains: Floats = np.exp(between(log_gains.astype(np.float32), counts, where))
    return gains


def _standing_out(power: Floats, spacing: Floats, levels: Floats, voiced: NDArray[np.bool_]) -> Floats:
    """How clearly (K, H) partials stand out of what lies halfway to their neighbours, 0 (noise) to 1.

    Above a sound's last partial there is only hiss, which would roar if it were lifted to the level of the partials
    where it is moved to. Partials too close to one another to judge, and bands, count as standing out.
    """
    n_bins = power.shape[1]
    halfway = (np.arange(levels.shape[1] + 1) + 0.5) * spacing[:, None]
    bins = np.clip(np.rint(halfway).astype(np.intp), 1, n_bins - 2)
    rows_at = np.arange(len(power))[:, None]
    valleys = power[rows_at, bins] + power[rows_at, bins - 1] + power[rows_at, bins + 1]
    least = np.exp(2 * levels.max(axis=1, keepdims=True)) * 10 ** (ENVELOPE_FLOOR_DB / 10)
    valleys = np.log(np.maximum(valleys, least)) / 2
    over_db = (levels - (valleys[:, 1:] + valleys[:, :-1]) / 2) * (20 / np.log(10))
    over_db = scipy.ndimage.uniform_filter1d(over_db, STEADY_FRAMES, axis=0, mode="nearest")
    share: Floats = np.clip((over_db - NOISE_OVER_DB) / (TONE_OVER_DB - NOISE_OVER_DB), 0, 1)
    share[~voiced | (spacing < LEAST_SPACING)] = 1
    return share


def _filtered(sound: Floats, centres: NDArray[np.intp], gains: Floats, params: StftParams) -> Floats:
    """(L,) `sound` at (K, F) gains, at twice its rate; sample i of it lies at ``TAPS + 2 * i`` of what is returned."""
    spectra = spectra_at(sound, centres, params.n_fft).T
    n = OVERSAMPLING * params.n_fft
    # The bin at half the rate is one line of a real spectrum, but stands for two lines at twice the rate.
    gains = np.concatenate([gains[:, :-1], gains[:, -1:] / 2], axis=1)
    frames: Floats = scipy.fft.irfft(spectra * gains, n=n, axis=1, overwrite_x=True)
    # Squares of Hann windows a quarter window apart add up to 1.5.
    frames *= hann(n, frames.dtype.str) * (OVERSAMPLING / 1.5)
    summed = overlap_add(frames, OVERSAMPLING * params.hop)
    start = OVERSAMPLING * (params.n_fft // 2 - int(centres[0]))
    inside = summed[start : start + OVERSAMPLING * len(sound)]
    padded: Floats = np.pad(inside, TAPS)
    return padded


# --- reading


@functools.lru_cache(maxsize=2)
def _kernel(dtype: str) -> Floats:
    """(KERNEL_PHASES + 1, TAPS): row p weighs the samples around a place p / KERNEL_PHASES of a sample after the middle
    one."""
    offsets = np.arange(TAPS) - (TAPS // 2 - 1) - np.arange(KERNEL_PHASES + 1)[:, None] / KERNEL_PHASES
    window = np.i0(KAISER_BETA * np.sqrt(np.maximum(0, 1 - np.square(offsets / (TAPS / 2)))))
    # Sound ends at a quarter of this rate and its images begin at three quarters: the cutoff lies between.
    taps = np.sinc(offsets) * window
    kernel: Floats = (taps / taps.sum(axis=1, keepdims=True)).astype(dtype)
    kernel.setflags(write=False)
    return kernel


def _read(twice: Floats, positions: Floats) -> Floats:
    """What `_filtered` gave at fractional (N,) positions in samples of the sound; 0 outside it."""
    places = OVERSAMPLING * positions + TAPS
    first = np.floor(places)
    phases = np.rint((places - first) * KERNEL_PHASES).astype(np.intp)
    starts = first.astype(np.intp) - (TAPS // 2 - 1)
    outside = (starts < 0) | (starts > len(twice) - TAPS)
    windows = np.lib.stride_tricks.sliding_window_view(twice, TAPS)[np.where(outside, 0, starts)]
    values: Floats = np.einsum("nt,nt->n", windows, _kernel(twice.dtype.str)[phases])
    values[outside] = 0
    return values
