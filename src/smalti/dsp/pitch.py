"""The fundamental frequency of one voice: tracked, checked, and read as notes. Tracking needs ``smalti[pitch]``.

A track is (N,) frequencies in Hz, one for each frame, and 0 where there is no pitch. Tracking is that of swift-f0, a
small network, which is loaded when first needed; all else here is arithmetic on tracks.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, Integers, ParameterError, ParameterTypeError, check_count, check_rate, check_signal
from smalti.dsp.stft import StftParams, spectra_at, stft
from smalti.errors import require_extra

# Pitches that a track may hold.
LOWEST_HZ, HIGHEST_HZ = 20.0, 20_000.0

# The network hears 47 to 2094 Hz in sound at this rate. It gives a value every 256 samples, each of which depends on 11
# values around it, and is sure of a pitch from this confidence on.
_RATE, _HOP, _SURE, _CONTEXT = 16_000, 256, 0.5, 11
# In sound slowed down to a third it hears 141 to 6281 Hz, and is believed from 200 Hz on. In sound twice as fast it
# hears 23 to 1047 Hz, and is believed below 150 Hz.
_SLOWER, _HIGH_FROM_HZ, _FASTER, _LOW_BELOW_HZ = 3, 200.0, 2, 150.0
# With this confidence, this much evidence, and a pitch this far from the top of its range, the first look needs no
# other.
_CERTAIN, _EXPLAINED, _BELOW_TOP_HZ = 0.8, 0.6, 1000.0

# Evidence is read from spectra of 43 ms, up to 8 kHz, at the highest rate that a sound is tracked at. Harmonics closer
# than six bins run together; such pitches get the evidence of doubtful ones.
HIGHEST_RATE, _N_FFT, _EVIDENCE_TO_HZ, _APART, _DOUBTFUL = _SLOWER * _RATE, 2048, 8_000.0, 6, 0.75
# What a harmonic explains: a main lobe in bins, or a share of its frequency if that is wider, to either side.
_EVIDENCE_BINS, _EVIDENCE_SHARE = 1.6, 0.02
# The least share of the power that a pitch of the second look explains, and that a lone partial holds to be a pitch.
_LEAST_EXPLAINED, _LONE = 0.25, 0.7
# How many harmonics refine a pitch, and by how many octaves at most.
_REFINING, _MOST_MOVED = 6, 40 / 1200
# Harmonics with less than this share of the power of all harmonics count as missing.
_EMPTY = 0.01
# Frames so many dB below a tone at the recording's peak are silent.
_SILENT_DB = 60.0

# Power is harmonic within a Hann window's main lobe of a harmonic, or within 0.6 % of its frequency if that is wider.
_CLEAR_BINS, _CLEAR_SHARE, _CLEAR_FROM_HZ, _CLEAR_BLOCK = 2.2, 0.006, 50.0, 256
# A frame is clear enough with this share of the harmonicity that the clearest tenth of the frames have.
_CLEAR_ENOUGH, _CLEAREST = 0.4, 0.9
# Glides are followed within 15 % of the coarser track, in windows of 12 ms, from where these hold a dozen periods.
_GLIDE_WINDOW_S, _GLIDES_FROM_HZ, _GLIDE_REACH = 256 / 22050, 1000.0, 0.15

# Longer recordings are tracked in blocks of 1875 frames of the network, each with some of the sound around it.
TRACKED_S, _AROUND_S = 30, 2

# Values of the network this many octaves apart belong to two notes, between which there is nothing to interpolate.
_TRACKED_NOTE_OCTAVES = 1 / 6
# Pitch is steady if its steps are under so many octaves, in a stretch of at least so many frames.
_STEADY_STEP, _STEADY_FRAMES = 50 / 1200, 4
# The A that equal temperament is tuned to, and its number.
_A_HZ, _A_NOTE = 440.0, 69


def track_pitch(samples: Floats, sr: int, *, hop: int) -> Floats:
    """The fundamental frequency of a recording of one voice or instrument, 23 to 6281 Hz.

    The network looks at the recording first and, where it is not certain, at the recording slowed down to a third,
    which brings notes above its range into it. If both find a pitch, the one with more confidence times evidence
    counts. Evidence is how much of the spectrum a pitch's harmonics explain beyond chance: a pitch an octave too low
    explains no more but claims more, and one too high leaves every other harmonic unexplained. Where both find none,
    the network looks at the recording sped up, for low notes. What then remains and is a single partial, such as a
    whistle that glides too fast, gets the pitch of that partial.

    Parameters
    ----------
    samples : (L,) float32 or float64, finite, L >= 1; its level does not matter. In chords and mixtures one
        note is found, or none.
    sr : Hz, 1000 to 768000. Pitches are those below half of it.
    hop : samples from one frame to the next.

    Returns
    -------
    (N,) float64, Hz, 0 where there is no pitch; frame n is about sample n * hop, N = 1 + L // hop, as from
    `smalti.dsp.stft`.

    Raises
    ------
    MissingExtraError : if swift-f0 is not installed.
    ValueError, TypeError : if `samples` has several channels or another dtype, or `sr` or `hop` is out of range.

    References
    ----------
    Nieradzik (2025), "SwiftF0: fast and accurate monophonic pitch detection", arXiv 2508.18440, for the network; the
    other looks and the choice among them are ours.
    """
    signal, sr, hop = check_signal("samples", samples), check_rate("sr", sr), check_count("hop", hop, least=1)
    network = _network()
    peak = float(np.abs(signal).max())
    frames = np.zeros(len(signal) * _RATE // (sr * _HOP) + 2)
    if peak > 0:
        per_block, around = TRACKED_S * _RATE // _HOP, _AROUND_S * _RATE // _HOP
        for block in range(-(-len(frames) // per_block)):
            first_s = max(0, block * TRACKED_S - _AROUND_S)
            part = signal[first_s * sr : ((block + 1) * TRACKED_S + _AROUND_S) * sr]
            if len(part):
                found = _tracked(network, part / peak, sr)[around if block else 0 :]
                kept = frames[block * per_block : (block + 1) * per_block]
                kept[: len(found)] = found[: len(kept)]
    return _at_times(_repair_octaves(frames), np.arange(1 + len(signal) // hop) * (hop / sr * _RATE / _HOP))


def check_f0(name: str, f0: ArrayLike, n: int) -> Floats:
    """Return a track as (n,) float64.

    Parameters
    ----------
    name : what messages call it.
    f0 : (n,) numbers, Hz, 0 where there is no pitch, else 20 to 20000.
    n : how many frames there are.

    Raises
    ------
    ValueError, TypeError : if it is anything else.
    """
    track = np.asarray(f0)
    if track.dtype.kind not in "iuf":
        raise ParameterTypeError(
            name, f"has dtype {track.dtype}", "pass frequencies in Hz, and 0 where there is no pitch"
        )
    if track.ndim != 1:
        raise ParameterError(name, f"has shape {track.shape}", f"pass one frequency for each frame, shape ({n},)")
    if len(track) != n:
        raise ParameterError(name, f"has {len(track)} values", f"pass {n}, one for each frame: track with the same hop")
    track = track.astype(np.float64)
    bad = int(n - np.count_nonzero(np.isfinite(track)))
    if bad:
        raise ParameterError(name, f"holds {bad} values that are NaN or infinite", "pass 0 where there is no pitch")
    beyond = track[(track != 0) & ~((track >= LOWEST_HZ) & (track <= HIGHEST_HZ))]
    if len(beyond):
        raise ParameterError(
            name,
            f"holds {beyond[0]:g} Hz",
            f"pass frequencies from {LOWEST_HZ:g} to {HIGHEST_HZ:g} Hz, and pass 0 where there is no pitch",
        )
    return track


def steadiness(f0: Floats, heard: NDArray[np.bool_]) -> float:
    """The share of the heard frames that are steadily pitched: 0 none, 1 all.

    A frame is steadily pitched in a voiced stretch of at least 4 frames with no step of 50 cents or more.

    Parameters
    ----------
    f0 : (N,) float array, Hz, 0 where there is no pitch.
    heard : (N,) bool array. Frames that are not heard do not end a stretch. The share is 0 if none is heard.
    """
    octaves = _octaves(f0)
    # A step from or to a frame without pitch is NaN, and so not steady.
    breaks = np.flatnonzero(~(np.abs(np.diff(octaves)) < _STEADY_STEP)) + 1
    lengths = np.diff(np.r_[0, breaks, len(f0)])
    steady = np.repeat(lengths >= _STEADY_FRAMES, lengths) & (f0 > 0)
    return int(np.count_nonzero(steady & heard)) / max(1, int(np.count_nonzero(heard)))


def harmonicity(magnitudes: Floats, f0: Floats, sr: int) -> Floats:
    """The share of each spectrum's power that lies in harmonics, beyond chance.

    Parameters
    ----------
    magnitudes : (F, K) float array >= 0, spectra of Hann-windowed frames from 0 Hz to half the rate.
    f0 : (K,) Hz, 0 where there is no pitch.
    sr : Hz.

    Returns
    -------
    (K,) float64, at most 1: 1 a harmonic sound, about 0 white noise, 0 where there is no pitch or no sound. It is
        negative if the power lies between the harmonics of a wrong pitch.
    """
    # A block at a time, since running sums take double precision.
    starts = range(0, magnitudes.shape[1], _CLEAR_BLOCK)
    blocks = [slice(start, start + _CLEAR_BLOCK) for start in starts]
    return np.concatenate([np.zeros(0), *(_harmonicity(magnitudes[:, block], f0[block], sr) for block in blocks)])


def _harmonicity(magnitudes: Floats, f0: Floats, sr: int) -> Floats:
    power = np.square(magnitudes, dtype=np.float64)
    n_bins, n_frames = power.shape
    bin_hz = sr / 2 / (n_bins - 1)
    lowest = min(int(_CLEAR_FROM_HZ / bin_hz), n_bins - 1)
    sums = np.concatenate([np.zeros((1, n_frames)), np.cumsum(power, axis=0)])
    total = sums[n_bins] - sums[lowest]
    spacing = np.where(f0 > 0, f0, np.inf) / bin_hz
    explained, covered = np.zeros(n_frames), np.zeros(n_frames)
    # There are no harmonics beyond half the rate, but one just beyond it would still claim bins.
    for _, found, width in _harmonics(sums, spacing, lowest, _CLEAR_BINS, _CLEAR_SHARE, below=n_bins - 1):
        explained += found
        covered += width
    pitched = (f0 > 0) & (total > 0)
    return _beyond_chance(explained, total, covered / (n_bins - lowest), pitched)


def _harmonics(
    sums: Floats, spacing: Floats, lowest: int, lobe: float, share: float, *, below: float = math.inf
) -> Iterator[tuple[int, Floats, Integers]]:
    """Yield the number of each harmonic, the power in it, and the bins that it covers, both (N,).

    Parameters
    ----------
    sums : (F + 1, N), the running sums of power over bins. spacing : (N,) bins from one harmonic to the next.
    lowest : the first bin that counts. below : harmonics from this bin on have nothing.
    lobe, share : a harmonic reaches so many bins to either side, or this share of its frequency if that is more.
    """
    n_bins, columns = len(sums) - 1, np.arange(len(spacing))
    done = np.full(len(spacing), lowest)
    for harmonic in range(1, int(n_bins / spacing.min(initial=n_bins)) + 1):
        centre = harmonic * spacing
        centre = np.where(centre < below, centre, 2.0 * n_bins)
        reach = np.maximum(lobe, share * centre)
        # Bins are counted once, though high harmonics overlap; and none beyond the last.
        start = np.clip(np.rint(centre - reach).astype(int), done, n_bins)
        stop = np.clip(np.rint(centre + reach).astype(int) + 1, start, n_bins)
        yield harmonic, sums[stop, columns] - sums[start, columns], stop - start
        done = stop


def _beyond_chance(explained: Floats, total: Floats, chance: Floats, valid: NDArray[np.bool_]) -> Floats:
    """(N,) the share of `total` power that is explained beyond chance; 0 where not `valid`, or all is covered."""
    share = np.divide(explained, total, out=np.zeros_like(total), where=total > 0)
    beyond: Floats = np.divide(share - chance, 1 - chance, out=np.zeros_like(total), where=valid & (chance < 1))
    return beyond


def clear(clarities: Floats, heard: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which frames of a source are clear enough to carry a melody, by their (K,) `harmonicity`.

    A frame is clear if its harmonicity is at least 0.4 of what the clearest tenth of the `heard` frames, (K,) bools,
    reach. A clean source keeps all but its breaths, and a noisy one keeps its least noisy frames, at least a tenth of
    those heard. If no frame is heard, all are clear.
    """
    if not heard.any():
        return np.ones(len(clarities), dtype=np.bool_)
    clearest = np.quantile(clarities[heard], _CLEAREST)
    # Harmonicity can be negative, and 0.4 times a negative number is larger than the number.
    enough: NDArray[np.bool_] = clarities >= np.minimum(_CLEAR_ENOUGH * clearest, clearest)
    return enough


def refine_f0(samples: Floats, f0: Floats, sr: int, *, hop: int, per_hop: int) -> Floats:
    """A finer track, for whistles that glide: a bird's chirp can move by half an octave between two frames.

    From 1000 Hz on, pitches are those of the strongest partial near the track in windows of 12 ms. Below, such a window
    cannot tell partials apart, and pitches are those of the track itself.

    Parameters
    ----------
    samples : (L,) float32 or float64.
    f0 : (N,) Hz, 0 where there is no pitch; a track of `samples` at `hop`.
    sr : Hz. hop : samples.
    per_hop : values for each of the track's frames, the first at the frame itself.

    Returns
    -------
    (N * per_hop,) float64, Hz, 0 where there is no pitch.
    """
    check_count("hop", hop, least=1)
    check_count("per_hop", per_hop, least=1)
    times = np.arange(len(f0) * per_hop) / per_hop
    out = _at_times(np.append(f0, f0[-1:]), times)
    low = np.minimum(times.astype(int), len(f0) - 1)
    ends = np.stack([f0[low], f0[np.minimum(low + 1, len(f0) - 1)]])
    at = np.flatnonzero(out >= _GLIDES_FROM_HZ)
    if not len(at):
        return out
    n_fft = max(4, 2 * round(_GLIDE_WINDOW_S * sr / 2))
    bin_hz = sr / n_fft
    spectra = spectra_at(samples, np.rint(times[at] * hop).astype(np.intp), n_fft)
    power = np.square(np.abs(spectra), dtype=np.float64)
    # A neighbour without a pitch has no say in where to look.
    lowest = np.where(ends[:, at] > 0, ends[:, at], np.inf).min(axis=0) * (1 - _GLIDE_REACH)
    highest = ends[:, at].max(axis=0) * (1 + _GLIDE_REACH)
    hz = np.arange(len(power))[:, None] * bin_hz
    near = (hz >= lowest - bin_hz / 2) & (hz <= highest + bin_hz / 2)
    near[[0, -1]] = False
    peaks = np.where(near, power, -1).argmax(axis=0)
    inside = (peaks > 0) & (power[peaks, np.arange(len(at))] > 0)
    columns = np.flatnonzero(inside)
    out[at[columns]] = _tops(power, peaks[columns], columns, bin_hz)
    # A wrong peak lasts only a moment, so a median removes it.
    middle = np.median([out[:-2], out[1:-1], out[2:]], axis=0)
    out[1:-1] = np.where((out[:-2] > 0) & (out[1:-1] > 0) & (out[2:] > 0), middle, out[1:-1])
    return out


def fill_gaps(f0: Floats, *, longest: int) -> Floats:
    """A track whose shorter gaps are filled: a third of each, rounded up, by the note before, the rest by the next.

    Parameters
    ----------
    f0 : (N,) float array, Hz, 0 where there is no pitch; not modified.
    longest : frames, 0 or more; longer gaps stay. Before the first note and after the last, up to so many frames next
        to it get that note.

    Returns
    -------
    (N,) array of f0's dtype; pitches stay as they are.
    """
    out, voiced = f0.copy(), np.flatnonzero(f0)
    if not len(voiced):
        return out
    first, last = int(voiced[0]), int(voiced[-1])
    out[max(0, first - longest) : first] = f0[first]
    out[last + 1 : last + 1 + longest] = f0[last]
    gaps = np.diff(voiced) - 1
    short = (gaps > 0) & (gaps <= longest)
    for before, gap in zip(voiced[:-1][short].tolist(), gaps[short].tolist(), strict=True):
        turn, after = before + 1 - (-gap // 3), before + 1 + gap
        out[before + 1 : turn] = f0[before]
        out[turn:after] = f0[after]
    return out


def note_numbers(f0: Floats) -> Floats:
    """MIDI note numbers, (N,) fractional: 69 is 440 Hz, 12 an octave. NaN where there is no pitch."""
    notes: Floats = _A_NOTE + 12 * (_octaves(f0) - math.log2(_A_HZ))
    return notes


def note_frequencies(notes: Floats) -> Floats:
    """The inverse of `note_numbers`: (N,) Hz, 0 where a number is NaN."""
    return np.where(np.isnan(notes), 0.0, _A_HZ * np.exp2((notes - _A_NOTE) / 12))


def check_tracker() -> None:
    """Load the tracker, so that a missing one is found before the work begins.

    Raises
    ------
    MissingExtraError : if swift-f0 is not installed.
    """
    _network()


@cache
def _network() -> Any:
    require_extra("pitch", "following pitch needs swift-f0")
    from swift_f0 import SwiftF0

    # One thread: as fast as two with so small a network, and the order of sums never changes.
    return SwiftF0(threads=1, spin=False)


def _tracked(network: Any, signal: Floats, sr: int) -> Floats:
    """Pitches of up to half a minute with a peak of 1 or less, one every 16 ms."""
    fast, plain, slow = _resampled(signal, sr)
    spectra = stft(slow, StftParams(_N_FFT, _SLOWER * _HOP))
    power = np.square(np.abs(spectra[: _bin(min(_EVIDENCE_TO_HZ, sr / 2))]), dtype=np.float64)
    first = network.detect(plain, _RATE)
    n_frames = len(first.pitch_hz)
    power, f0, confidence = power[:, :n_frames], first.pitch_hz, first.confidence
    level = power.sum(axis=0)
    # The middle bin of a tone at full scale, which is the recording's peak, holds the square of a quarter window.
    sounds = level > (_N_FFT / 4) ** 2 * 10 ** (-_SILENT_DB / 10)
    sure = sounds & (confidence >= _SURE)
    evidence = _harmonic_evidence(power, f0)
    out = np.where(sure, f0, 0.0)
    score = np.where(sure, confidence * np.maximum(evidence, 0.05), 0)
    certain = (confidence >= _CERTAIN) & (evidence >= _EXPLAINED) & (f0 < _BELOW_TOP_HZ)
    high, confidence = _look(network, slow, _SLOWER, sounds & ~certain)
    evidence = _harmonic_evidence(power, high)
    allowed = (high >= _HIGH_FROM_HZ) & (confidence >= _SURE) & (evidence >= _LEAST_EXPLAINED)
    better = allowed & (confidence * evidence > score)
    out[better] = high[better]
    low, confidence = _look(network, fast, 1 / _FASTER, sounds & (out == 0))
    deep = (low < _LOW_BELOW_HZ) & (confidence >= _SURE)
    out[deep] = low[deep]
    lone = _lone_partials(power)
    unpitched = sounds & (out == 0)
    out[unpitched] = lone[unpitched]
    out = _refined(power, out)
    # The network may hear a pitch in ringing that lies above what the recording can hold.
    return np.where(out < sr / 2, out, 0.0)


def _look(network: Any, sound: Floats, slower: float, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Pitches and confidences, (N,) each, of `sound` that is slowed down for the network; 0 where not `chosen`."""
    f0, confidence = np.zeros(len(chosen)), np.zeros(len(chosen))
    for start, stop in _stretches(chosen, round(2 * _CONTEXT / slower)):
        begin, end = max(0, int(start * slower) - _CONTEXT), int(stop * slower) + _CONTEXT
        seen = network.detect(sound[begin * _HOP : end * _HOP], _RATE)
        frames = np.arange(start, stop)[chosen[start:stop]]
        at = np.minimum((frames * slower).astype(int) - begin, len(seen.pitch_hz) - 1)
        f0[frames], confidence[frames] = seen.pitch_hz[at] * slower, seen.confidence[at]
    return f0, confidence


def _resampled(signal: Floats, sr: int) -> list[Floats]:
    """`signal` at half, one and three times the network's rate: float32, and a little more than whole frames."""
    import scipy.fft

    # Whole seconds hold whole numbers of samples at every rate, so transforms of them resample exactly; the silence
    # that is added keeps the end from reaching around to the beginning.
    seconds = -(-(len(signal) + sr // 8) // sr)
    spectrum = scipy.fft.rfft(signal.astype(np.float32), seconds * sr)
    out = []
    for rate in (_RATE // _FASTER, _RATE, HIGHEST_RATE):
        n_bins = seconds * min(rate, sr) // 2
        # The top tenth fades out. A sharp edge would make every beginning and end ring at its frequency.
        fade = np.cos(np.linspace(0, np.pi / 2, n_bins // 10, dtype=np.float32))
        passed = spectrum[:n_bins] * np.float32(rate / sr)
        passed[n_bins - len(fade) :] *= fade
        samples = scipy.fft.irfft(passed, seconds * rate)
        n_frames = len(signal) * _RATE // (sr * _HOP) + 2
        out.append(samples[: n_frames * _HOP * rate // _RATE])
    return out


def _bin(hz: float) -> int:
    return int(hz * _N_FFT / HIGHEST_RATE)


def _harmonic_evidence(power: Floats, f0: Floats) -> Floats:
    """The share of each frame's power (F, N) in the harmonics of its pitch (N,), beyond chance: 1 all, 0 none.

    A harmonic explains a main lobe, or 2 % of its frequency if that is wider, to either side. In white noise all of
    these together explain the share of bins that they cover, so the result is (explained - covered) / (1 - covered).
    """
    n_bins, n_frames = power.shape
    lowest = _bin(50.0)
    sums = np.concatenate([np.zeros((1, n_frames)), np.cumsum(power, axis=0)])
    total = sums[n_bins] - sums[lowest]
    spacing = np.maximum(f0 * (_N_FFT / HIGHEST_RATE), 1.0)
    explained, covered = np.zeros(n_frames), np.zeros(n_frames)
    multiples = {2: np.zeros(n_frames), 3: np.zeros(n_frames)}
    for harmonic, found, width in _harmonics(sums, spacing, lowest, _EVIDENCE_BINS, _EVIDENCE_SHARE):
        explained += found
        for factor, held in multiples.items():
            if harmonic % factor == 0:
                held += found
        covered += width
    beyond = _beyond_chance(explained, total, covered / max(1, n_bins - lowest), np.ones(n_frames, np.bool_))
    # A pitch is an octave or more too low if only every second or third of its harmonics holds power.
    empty = np.maximum(*multiples.values()) > (1 - _EMPTY) * explained
    return np.where(spacing < _APART, _DOUBTFUL, np.where(empty, beyond / 2, beyond))


def _lone_partials(power: Floats) -> Floats:
    """The frequency of a partial that makes up nearly all of a frame's power (F, N), or 0."""
    n_bins, n_frames = power.shape
    out = np.zeros(n_frames)
    if n_bins <= 2 * _APART:
        return out
    peaks = power.argmax(axis=0)
    sums = np.concatenate([np.zeros((1, n_frames)), np.cumsum(power, axis=0)])
    columns = np.arange(n_frames)
    near = sums[np.minimum(peaks + 5, n_bins), columns] - sums[np.maximum(peaks - 4, 0), columns]
    alone = (peaks >= _APART) & (peaks < n_bins - 1) & (near > _LONE * sums[-1])
    at = columns[alone]
    out[alone] = _tops(power, peaks[alone], at)
    return out


def _tops(power: Floats, peaks: Integers, at: Integers, bin_hz: float = HIGHEST_RATE / _N_FFT) -> Floats:
    """The frequencies of peaks, bins 1 to F - 2 of power (F, N), each in the frame `at`."""
    # The top of a parabola through three logarithms; a Hann window's main lobe nearly is one.
    left, middle, right = (np.log(np.maximum(power[peaks + step, at], 1e-300)) for step in (-1, 0, 1))
    bend = np.minimum(left - 2 * middle + right, -1e-9)
    tops: Floats = (peaks + np.clip((left - right) / (2 * bend), -0.5, 0.5)) * bin_hz
    return tops


def _refined(power: Floats, f0: Floats) -> Floats:
    """Pitches (N,) drawn to the peaks of power (F, N) at their first harmonics.

    The network's own are 5 cents off, and 20 at the ends of its range. Pitches whose harmonics run together stay.
    """
    n_bins, spacing = len(power), f0 * (_N_FFT / HIGHEST_RATE)
    moved, weights = np.zeros(len(f0)), np.zeros(len(f0))
    for harmonic in range(1, _REFINING + 1):
        at = np.flatnonzero((spacing >= _APART) & (harmonic * spacing < n_bins - 5))
        expected = np.round(harmonic * spacing[at]).astype(int)
        steps = np.argmax([power[expected + step, at] for step in range(-3, 4)], axis=0) - 3
        # A maximum at the rim belongs to something else.
        inside = np.abs(steps) < 3
        at, peaks = at[inside], (expected + steps)[inside]
        octaves = np.log2(_tops(power, peaks, at) / (harmonic * f0[at]))
        # A higher harmonic shows the pitch more finely.
        weight = power[peaks, at] * harmonic**2 * (np.abs(octaves) < _MOST_MOVED)
        moved[at] += weight * octaves
        weights[at] += weight
    return f0 * np.exp2(np.divide(moved, weights, out=moved, where=weights > 0))


def _stretches(chosen: NDArray[np.bool_], near: int) -> list[tuple[int, int]]:
    """First and one past the last of the runs of True; those no more than `near` frames apart are one."""
    at = np.flatnonzero(chosen)
    if not len(at):
        return []
    breaks = np.flatnonzero(np.diff(at) > near)
    starts, stops = at[np.r_[0, breaks + 1]], at[np.r_[breaks, len(at) - 1]] + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _repair_octaves(f0: Floats) -> Floats:
    """Remove frames that stand alone, and bring one that strays between two of one note in line with these."""
    octaves = _octaves(f0)
    padded, voiced = np.pad(octaves, 1, constant_values=np.nan), np.pad(f0 > 0, 1)
    before, after = padded[:-2], padded[2:]
    out = np.where(voiced[:-2] | voiced[2:], f0, 0.0)
    astray = (np.abs(before - after) < _TRACKED_NOTE_OCTAVES) & ~(
        np.abs(octaves - (before + after) / 2) < 3 * _TRACKED_NOTE_OCTAVES
    )
    out[astray] = 2.0 ** ((before + after) / 2)[astray]
    return out


def _octaves(f0: Floats) -> Floats:
    """Binary logarithms, NaN where there is no pitch."""
    octaves: Floats = np.log2(f0, out=np.full(len(f0), np.nan), where=f0 > 0)
    return octaves


def _at_times(f0: Floats, times: Floats) -> Floats:
    """A track at fractional frames: interpolated in log between two frames of one note, else from the nearer frame."""
    left = np.minimum(times.astype(int), len(f0) - 2)
    share = np.clip(times - left, 0, 1)
    octaves = _octaves(f0)
    one_note = np.abs(octaves[left + 1] - octaves[left]) < _TRACKED_NOTE_OCTAVES
    between = 2.0 ** np.where(one_note, octaves[left] + share * (octaves[left + 1] - octaves[left]), 0)
    return np.where(one_note, between, np.where(share < 0.5, f0[left], f0[left + 1]))


# Nothing is shifted by more than four octaves.
MOST_RATIO = 16.0

# Frames of a track so many octaves apart belong to two notes. Ratios have so many values a frame.
NOTE_OCTAVES, FINENESS = 1 / 12, 8


def pitch_at(f0: Floats, frames: Floats) -> Floats:
    """A track (N,) at fractional frames (P,); beyond its ends, that of the first and last frame.

    Between two frames of one note, pitch is interpolated in log. Between two notes, or a note and a rest, it is that of
    the nearer frame: a slide from one note to the other would have more frames than two.
    """
    at = np.clip(frames, 0, len(f0) - 1)
    left = np.floor(at).astype(np.intp)
    right = np.minimum(left + 1, len(f0) - 1)
    a, b, share = f0[left], f0[right], at - left
    logs = np.log2(np.maximum(np.stack([a, b]), 1e-9))
    one_note = (a > 0) & (b > 0) & (np.abs(logs[1] - logs[0]) < NOTE_OCTAVES)
    return np.where(one_note, 2 ** (logs[0] + share * (logs[1] - logs[0])), np.where(share < 0.5, a, b))


def ratios_to(wanted: Floats, own: Floats) -> Floats:
    """The ratios that take `own` pitches to `wanted` ones, Hz, of one shape; 0 where either is 0 or too far away."""
    ratios = np.divide(wanted, own, out=np.zeros_like(own), where=own > 0)
    return np.where((ratios >= 1 / MOST_RATIO) & (ratios <= MOST_RATIO), ratios, 0)
