"""Shift stretches of the source to other pitches, each stretch once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from smalti._checks import Floats, Indices
from smalti.dsp.channels import stack_channels
from smalti.dsp.pitch import FINENESS, MOST_RATIO, pitch_at
from smalti.dsp.stft import StftParams
from smalti.grains.dictionary import Dictionary, heard_in
from smalti.grains.runs import Runs
from smalti.grains.source import Source
from smalti.grains.transposition import Transposition

# Shifted grains are added up in windows no longer than this, 116 ms. All grains of a moment have the same pitch, so a
# longer window would only blur the change from one note to the next. Shorter windows make the steps audible as a buzz.
LONGEST_WINDOW_S = 2560 / 22050


# --- the grains


@dataclass(frozen=True, eq=False)
class Shift:
    """A stretch of a recording, and the ratios that bring it to other pitches moment by moment.

    Attributes
    ----------
    recording : the index of the recording.
    begin : the sample of it at which reading begins. There is silence beyond both ends of a recording.
    length : the number of frames of the stretch. before : how many margin frames there are before it, and after it.
    ratios : (P,) float64 array, > 0, from the first margin frame on: `FINENESS` ratios a frame, or one a sample if the
        hop is shorter than that.
    hz : (P,) float64 array, the pitch of the sound being read, 0 for none.
    """

    recording: int
    begin: int
    length: int
    before: int
    ratios: Floats
    hz: Floats

    @property
    def semitones(self) -> float:
        """The mean shift of the stretch, without its margins."""
        return float(12 * np.log2(self.ratios[self.sounding]).mean())

    @property
    def sounding(self) -> slice:
        """The entries of `ratios` and `hz` from the first frame of the stretch to its last."""
        per_frame = len(self.ratios) // (2 * self.before + self.length)
        return slice(self.before * per_frame, (self.before + self.length - 1) * per_frame + 1)


@dataclass(frozen=True, eq=False)
class Grains:
    """Stretches of source, each shifted once. They have K' frames in all.

    Attributes
    ----------
    dictionary : their frames. Its only recording is the sound of all stretches, one after the other.
    atoms : (K',) int array, the source frame that each frame was made from.
    frames : (K',) int array, the target frame that each frame sounds in.
    runs : (K',) int array, the stretch that each frame belongs to.
    ratios : (K',) float array, the frequency ratio by which each frame was shifted.
    shifts : the `Shift` of each stretch.
    """

    dictionary: Dictionary
    atoms: Indices
    frames: Indices
    runs: Indices
    ratios: Floats
    shifts: tuple[Shift, ...]

    def in_source(self, activations: scipy.sparse.csc_array, n_atoms: int) -> scipy.sparse.csc_array:
        """Turn activations (K', N) of these grains into activations (K, N) of the source frames they were made from.

        K is `n_atoms`. Grains made from the same source frame are added up, whatever their pitch.
        """
        origin = scipy.sparse.csc_array(
            (np.ones(len(self.atoms), activations.dtype), (self.atoms, np.arange(len(self.atoms)))),
            shape=(n_atoms, len(self.atoms)),
        )
        return scipy.sparse.csc_array(origin @ activations)


def shifted_grains(
    runs: Runs, transposition: Transposition, dictionary: Dictionary, *, pad: int, keep_formants: bool, tape: bool
) -> Grains:
    """Shift every chosen stretch by ratios that vary over time.

    Parameters
    ----------
    runs : stretches of H, which holds the source frames of one voice below those of the other. There may be none.
    transposition : gives the ratios. dictionary : the source.
    pad : samples of margin before the middle of a stretch's first frame and after that of its last: half the longest
        window that will be applied to them.
    keep_formants, tape : see `smalti.settings.Settings`.
    """
    before = -(-pad // dictionary.params.hop)
    shifts = tuple(
        _shift_of(voice, atom, frame, length, transposition, dictionary, before=before, tape=tape)
        for (voice, atom), frame, length in zip(
            (divmod(row, dictionary.n_atoms) for row in runs.atoms.tolist()),
            runs.frames.tolist(),
            runs.lengths.tolist(),
            strict=True,
        )
    )
    starts = np.repeat(np.cumsum(runs.lengths) - runs.lengths, runs.lengths)
    steps = np.arange(len(starts)) - starts
    moments = [np.arange(-shift.before, shift.length + shift.before, _step(dictionary.params)) for shift in shifts]
    ratios = [
        shift.ratios[np.searchsorted(at, np.arange(shift.length) - 1e-9)]
        for shift, at in zip(shifts, moments, strict=True)
    ]
    return Grains(
        dictionary=sound_of_shifts(
            shifts,
            dictionary.recordings,
            grain_params(dictionary.params, dictionary.sr),
            dictionary.sr,
            n_channels=dictionary.n_channels,
            keep_formants=keep_formants,
            tape=tape,
        ),
        atoms=np.repeat(runs.atoms % dictionary.n_atoms, runs.lengths) + steps,
        frames=np.repeat(runs.frames, runs.lengths) + steps,
        runs=np.repeat(np.arange(len(runs.lengths)), runs.lengths),
        ratios=np.concatenate([np.zeros(0), *ratios]),
        shifts=shifts,
    )


def ratio_step(hop: int) -> int:
    """Samples from one ratio of a `Shift` to the next."""
    return max(1, hop // FINENESS)


def n_ratios(before: int, length: int, hop: int) -> int:
    """The number of ratios of a `Shift`."""
    return -(-(2 * before + length) * hop // ratio_step(hop))


def _step(params: StftParams) -> float:
    """Frames from one ratio of a `Shift` to the next."""
    return ratio_step(params.hop) / params.hop


def _shift_of(
    voice: int,
    atom: int,
    frame: int,
    length: int,
    transposition: Transposition,
    dictionary: Dictionary,
    *,
    before: int,
    tape: bool,
) -> Shift:
    """The shift of the stretch that begins at `atom` and sounds from target frame `frame` on."""
    hop, recording = dictionary.params.hop, int(dictionary.recording_ids[atom])
    first, end = np.searchsorted(dictionary.recording_ids, [recording, recording + 1]).tolist()
    track = transposition.glides[first * FINENESS : end * FINENESS]
    steps = np.arange(-before, length + before, _step(dictionary.params))
    own = pitch_at(track, (atom - first + steps) * FINENESS)
    at = _without_gaps(transposition.ratios(voice, frame + steps, own), (steps >= 0) & (steps <= length - 1))
    begin = int(dictionary.centres[atom]) - before * hop
    if tape:
        place, at = _tape_reading(transposition, voice, frame + steps, at, track, atom - first - before, before)
        begin = round(place * hop)
    return Shift(recording, begin, length, before, at, own)


def sound_of_shifts(
    shifts: Sequence[Shift],
    recordings: Sequence[Floats],
    params: StftParams,
    sr: int,
    *,
    n_channels: int,
    keep_formants: bool,
    tape: bool,
) -> Dictionary:
    """Make the sound of shifts, one after the other, and return the dictionary of their frames.

    Parameters
    ----------
    shifts : the shifts; there may be none. recordings : what their `recording` counts, (L,) or (C, L) each, at `sr` Hz.
    params : the grid on which they are added up. n_channels : the number of channels of the sound.
    keep_formants, tape : see `smalti.settings.Settings`.
    """
    # Imported here, because it loads a part of scipy that nothing else needs.
    from smalti.dsp.pitch_shift import shift_grain, tape_grain

    hop, step = params.hop, ratio_step(params.hop)
    dtype = np.result_type(*(recording.dtype for recording in recordings))
    # The sound begins with a sample of silence, so that it is not empty if there are no grains.
    sounds: list[Floats] = [np.zeros((n_channels, 1), dtype)]
    centres, end = [np.zeros(0, np.intp)], 1
    for shift in shifts:
        samples, span = recordings[shift.recording], (2 * shift.before + shift.length - 1) * hop
        reading: dict[str, Any] = {"begin": shift.begin, "length": span, "ratios": shift.ratios, "hop": step}
        if tape:
            sound = tape_grain(samples, sr, **reading)
        else:
            sound = shift_grain(samples, sr, **reading, f0=shift.hz, keep_formants=keep_formants)
        sounds.append(np.stack([heard_in(sound, channel) for channel in range(n_channels)]))
        centres.append(end + (shift.before + np.arange(shift.length)) * hop)
        end += span
    return frames_of(stack_channels(list(np.concatenate(sounds, axis=1))), np.concatenate(centres), params, sr)


def _tape_reading(
    transposition: Transposition, voice: int, frames: Floats, ratios: Floats, track: Floats, first: int, before: int
) -> tuple[float, Floats]:
    """The place and the speeds (P,) at which a tape must read to play the notes; the place in frames of its recording.

    A tape that runs faster or slower leaves its time: its pitch is that of the place it has reached. It begins at a
    place that lets the middle of the grain be heard at its usual time, as far as the recording reaches.

    Parameters
    ----------
    frames : (P,) target frames. ratios : (P,) the ratios of a grain that keeps its time.
    track : the part of `Transposition.glides` that belongs to the recording.
    first : the frame at which a grain that keeps its time would begin. before : margin frames, see `Shift`.
    """
    step = float(frames[1] - frames[0])
    # The number of frames from the grain's first to its last, without the margins.
    within = len(frames) * step - 2 * before - 1
    place = first + (1 - float(np.exp(np.log(ratios).mean()))) * (before + within / 2)
    speeds = _speeds(transposition, voice, frames, ratios, track, place, step)
    read = place + step * np.concatenate([[0.0], np.cumsum(speeds)])
    begins, ends = read[round(before / step)], read[round((before + within) / step)]
    # A reading that would pass the end is moved back, but not beyond the start of the recording.
    place += max(-begins, min(0.0, len(track) / FINENESS - 1 - ends))
    return place, _speeds(transposition, voice, frames, ratios, track, place, step)


def _speeds(
    transposition: Transposition, voice: int, frames: Floats, ratios: Floats, track: Floats, place: float, step: float
) -> Floats:
    if not len(transposition.melodies):
        return ratios
    wanted, out = pitch_at(transposition.melodies[voice], frames), ratios.copy()
    for i, hz in enumerate(wanted):
        own = track[min(max(round(place * FINENESS), 0), len(track) - 1)]
        if hz > 0 and own > 0 and 1 / MOST_RATIO <= hz / own <= MOST_RATIO:
            out[i] = hz / own
        place += out[i] * step
    return out


def grain_params(params: StftParams, sr: int) -> StftParams:
    """The grid on which shifted grains are added up: that of their dictionary, but with a window of limited length."""
    n_fft = max(4 * params.hop, 2 * round(LONGEST_WINDOW_S * sr / 2))
    return params if params.n_fft <= n_fft else replace(params, n_fft=n_fft)


def frames_of(recording: Floats, centres: Indices, params: StftParams, sr: int) -> Dictionary:
    """The dictionary of frames of one recording, (L,) or (C, L), centred on samples `centres` (K,)."""
    zeros = np.zeros(len(centres), np.intp)
    return Dictionary(zeros, centres, zeros > 0, (Source("grains"),), params, sr, (recording,))


def _without_gaps(ratios: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Ratios (P,) in which each 0 is replaced by the nearest other ratio; all 1 if most of those `inside` are 0."""
    known = np.flatnonzero(ratios > 0)
    if 2 * np.count_nonzero(ratios[inside] > 0) < np.count_nonzero(inside) or not len(known):
        return np.ones_like(ratios)
    places = np.arange(len(ratios))
    after = np.clip(np.searchsorted(known, places), 0, len(known) - 1)
    left, right = known[np.maximum(after - 1, 0)], known[after]
    return ratios[np.where(np.abs(left - places) <= np.abs(right - places), left, right)]


def heard_stretches(grains: Grains, activations: scipy.sparse.csc_array) -> Iterator[slice]:
    """Yield, for each stretch of `grains` that any of the activations (K', N) make audible, the slice of its frames."""
    if not len(grains.runs):
        return
    starts = np.flatnonzero(np.diff(grains.runs, prepend=-1))
    heard = np.add.reduceat(np.asarray(activations.sum(axis=1)).ravel(), starts) > 0
    for start, end, sounds in zip(starts, [*starts[1:], len(grains.runs)], heard, strict=True):
        if sounds:
            yield slice(int(start), int(end))
