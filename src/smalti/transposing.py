"""A source without the target's pitches: which pitch its frames are to sound at, and the grains that sound so.

No transposed copy of the source's sound is kept. The solver sees the bands of each source frame as they would be
at the pitch of the moment, once for each note (`Transposition.blocks`). What it chooses is then shifted, each grain
once, at the exact and varying ratio (`shifted_grains`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.channels import together
from smalti.curves import Curve
from smalti.dictionary import Dictionary, heard_in
from smalti.divergence import Block
from smalti.grains import Runs
from smalti.pitch import clarity, note_numbers, steadiness
from smalti.stft import StftParams

Ints = NDArray[np.intp]

# Nothing is shifted by more than four octaves.
MOST_RATIO = 16.0

# Frames of a track so many octaves apart belong to two notes; ratios are told so many times a frame.
ONE_NOTE, FINENESS = 1 / 12, 8

# Pitch is carried over gaps of up to so long: a consonant or a breath belongs to the note around it.
BRIDGE_S = 0.25

# Shifted grains are added up in windows no longer than this, 116 ms: all sound at the pitch of the moment, so that a
# longer one would only blur where a note ends and the next begins. In shorter ones their steps are heard as a buzz.
LONGEST_WINDOW_S = 2560 / 22050

# What `decide` goes by. A source or melody is steady if this share of what is heard is in steady pitch, and one voice
# if so much of its power lies in that pitch's partials; of chords the tracker follows this note or that, but all lie in
# one tuning.
STEADY_SOURCE, STEADY_MELODY, STEADY_CHORDS = 0.5, 0.6, 0.3
ONE_VOICE, IN_TUNE = 0.5, 0.2


@dataclass(frozen=True, eq=False)
class Transposition:
    """What pitch every source frame is to sound at in every target frame.

    H has K rows a voice, one voice below the other; a voice is a melody to be followed or a shift.

    Attributes
    ----------
    way : "follow" (one melody), "chords" (several), "shifts", "glide" (one shift that changes over time), or "off".
    reason : why, as a clause.
    target_f0 : (N,) float array, Hz, 0 for none: the target's pitch as it was tracked or given.
    source_f0 : (K,) float array, Hz, 0 for none: the source's pitch as it was tracked or given.
    origins : (K,) float array, Hz: what each source frame is shifted from, `source_f0` with short gaps bridged.
    glides : (K * FINENESS,) float array, Hz: the same between frames, as a bird's chirp glides within one.
    usable : (K,) bool array, which source frames are clear enough to be shifted to a note; for shifts, all.
    melodies : (M, N) float array, Hz: what each voice plays in each target frame, 0 where it rests. M is 0 for shifts.
    shifts : (S,) float array, semitones; empty for the others.
    glide : semitones over target frames, instead of seconds; None for the others.
    """

    way: str
    reason: str
    target_f0: Floats
    source_f0: Floats
    origins: Floats
    glides: Floats
    usable: NDArray[np.bool_]
    melodies: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    shifts: Floats = field(default_factory=lambda: np.zeros(0))
    glide: Curve | None = None

    @property
    def n_voices(self) -> int:
        """How many rows of H each source frame has; 0 if nothing is transposed."""
        return 1 if self.glide else max(len(self.melodies), len(self.shifts))

    def parts(self) -> Iterator[tuple[Ints, Ints, Floats]]:
        """Places where each source frame has one ratio: their voices and target frames, (P,), and the ratios, (K,)."""
        n_atoms, n_frames = len(self.origins), len(self.target_f0)
        for voice, shift in enumerate(self.shifts):
            yield np.full(n_frames, voice), np.arange(n_frames), np.full(n_atoms, 2 ** (shift / 12))
        if self.glide:
            # As notes, semitones share one dictionary, in the middle of where they lie.
            semitones = self.glide.at(np.arange(n_frames))
            names = np.round(semitones)
            for name in np.unique(names):
                frames = np.flatnonzero(names == name)
                yield np.zeros_like(frames), frames, np.full(n_atoms, 2 ** (np.median(semitones[frames]) / 12))
        if not len(self.melodies):
            return
        names = np.full(self.melodies.shape, -np.inf)
        names[self.melodies > 0] = np.round(note_numbers(self.melodies[self.melodies > 0]))
        for name in np.unique(names[np.isfinite(names)]):
            voices, frames = np.nonzero(names == name)
            # Notes of one name share one dictionary, in the middle of where they lie.
            ratios = ratios_to(np.full(n_atoms, np.median(self.melodies[voices, frames])), self.origins)
            # Voices in unison are told apart, as a frame comes but once in a block.
            for of in np.unique(voices) if len(np.unique(frames)) < len(frames) else [slice(None)]:
                which = of if isinstance(of, slice) else voices == of
                yield voices[which], frames[which], ratios

    def blocks(self, shifted: Callable[[Floats], Floats], atoms: Ints) -> list[Block]:
        """The dictionary of every voice and note, for `smalti.divergence.BlockFit`.

        Parameters
        ----------
        shifted : gives the (Q, B, U) magnitudes of some source frames at (Q, U) ratios, silent where a ratio is 0.
        atoms : (U,) int array, which source frames.
        """
        parts = list(self.parts())
        ratios, which = np.unique(np.stack([of[atoms] for _, _, of in parts]), axis=0, return_inverse=True)
        magnitudes = shifted(ratios)
        return [
            Block(voices, frames, magnitudes[i]) for (voices, frames, _), i in zip(parts, which.ravel(), strict=True)
        ]

    def ratios(self, voice: int, frames: Floats, own: Floats) -> Floats:
        """The exact ratio at fractional target frames (P,) of what has the pitches `own` (P,), Hz; 0 for none."""
        if self.glide:
            return 2 ** (self.glide.at(frames) / 12)
        if len(self.shifts):
            return np.full(len(frames), 2 ** (self.shifts[voice] / 12))
        return ratios_to(pitch_at(self.melodies[voice], frames), own)


def pitch_at(f0: Floats, frames: Floats) -> Floats:
    """A track (N,) at fractional frames (P,), beyond its ends that of the first and last.

    Between two frames of one note as far up as along, in the logarithm. Between two notes, or a note and a rest, that
    of the nearer: what slides from one to the other has more frames than two.
    """
    at = np.clip(frames, 0, len(f0) - 1)
    left = np.floor(at).astype(np.intp)
    right = np.minimum(left + 1, len(f0) - 1)
    a, b, share = f0[left], f0[right], at - left
    logs = np.log2(np.maximum(np.stack([a, b]), 1e-9))
    one_note = (a > 0) & (b > 0) & (np.abs(logs[1] - logs[0]) < ONE_NOTE)
    return np.where(one_note, 2 ** (logs[0] + share * (logs[1] - logs[0])), np.where(share < 0.5, a, b))


def ratios_to(wanted: Floats, own: Floats) -> Floats:
    """What takes `own` pitches to `wanted` ones, Hz, of one shape; 0 where either is 0 or the way is too far."""
    ratios = np.divide(wanted, own, out=np.zeros_like(own), where=own > 0)
    return np.where((ratios >= 1 / MOST_RATIO) & (ratios <= MOST_RATIO), ratios, 0)


# --- which way


@dataclass(frozen=True)
class Voicing:
    """What a recording's pitch track says of it.

    Attributes
    ----------
    steady : 0 to 1, how much of what is heard is steadily pitched. one_voice : at most 1, how much of its power lies in
    the partials of that pitch. in_tune : 0 to 1, how closely its partials lie in one tuning.
    """

    steady: float
    one_voice: float
    in_tune: float

    @classmethod
    def of(cls, f0: Floats, magnitudes: Floats, sr: int, heard: NDArray[np.bool_], in_tune: float) -> "Voicing":
        """From a track (N,), the magnitudes (F, N) it belongs to, and which frames are heard."""
        power = np.square(magnitudes, dtype=np.float64).sum(axis=0)
        clear = float(clarity(magnitudes, f0, sr) @ power / power.sum()) if power.sum() else 0.0
        return cls(steadiness(f0, heard), clear, in_tune)


def decide(target: Voicing, source: Voicing) -> tuple[str, str]:
    """The way that suits the material, "off", "follow" or "chords", and why, as a clause."""
    if source.steady < STEADY_SOURCE:
        return "off", f"the source has no steady pitch to start from ({source.steady:.0%} of what sounds)"
    if source.one_voice < ONE_VOICE and source.in_tune >= IN_TUNE:
        return "off", "the source sounds several notes at once"
    if target.steady >= STEADY_MELODY and target.one_voice >= ONE_VOICE:
        return "follow", f"the target is one steady voice ({target.steady:.0%} of what sounds)"
    if target.steady >= STEADY_CHORDS and target.in_tune >= IN_TUNE:
        return "chords", "several notes of the target sound at once"
    return "off", f"the target has no steady pitch to follow ({target.steady:.0%} of what sounds)"


# --- the grains


@dataclass(frozen=True, eq=False)
class Shift:
    """How a stretch of a recording is brought to other pitches, moment by moment.

    Attributes
    ----------
    recording : which one. begin : the sample of it at which reading begins; there is silence beyond both its ends.
    length : frames of the stretch. before : how many more there are in front of its first, and after its last.
    ratios : (P,) float64 array, > 0, `FINENESS` a frame or the hop if that is less, from the first of those before on.
    hz : (P,) float64 array, the pitch of what is read then, 0 for none.
    """

    recording: int
    begin: int
    length: int
    before: int
    ratios: Floats
    hz: Floats

    @property
    def semitones(self) -> float:
        """The mean shift of what sounds."""
        return float(12 * np.log2(self.ratios[self.sounding]).mean())

    @property
    def sounding(self) -> slice:
        """Of `ratios` and `hz`, those between the stretch's first frame and its last."""
        per_frame = len(self.ratios) // (2 * self.before + self.length)
        return slice(self.before * per_frame, (self.before + self.length - 1) * per_frame + 1)


@dataclass(frozen=True, eq=False)
class Grains:
    """Stretches of source, each shifted once.

    Attributes
    ----------
    dictionary : their frames, and as its recording all of them, one after the other.
    atoms : (K',) int array, the source frame that each of its frames was made of.
    frames : (K',) int array, the target frame it sounds in.
    runs : (K',) int array, the stretch it belongs to.
    ratios : (K',) float array, how far it was shifted.
    shifts : one a stretch.
    """

    dictionary: Dictionary
    atoms: Ints
    frames: Ints
    runs: Ints
    ratios: Floats
    shifts: tuple[Shift, ...]

    def in_source(self, activations: scipy.sparse.csc_array, n_atoms: int) -> scipy.sparse.csc_array:
        """(K, N) activations of source frames: what (K', N) of the grains come to, whatever pitch they sound at."""
        origin = scipy.sparse.csc_array(
            (np.ones(len(self.atoms), activations.dtype), (self.atoms, np.arange(len(self.atoms)))),
            shape=(n_atoms, len(self.atoms)),
        )
        return scipy.sparse.csc_array(origin @ activations)


def shifted_grains(
    runs: Runs, transposition: Transposition, dictionary: Dictionary, *, pad: int, keep_formants: bool, tape: bool
) -> Grains:
    """Shift every chosen stretch, at the ratio of every moment.

    Parameters
    ----------
    runs : stretches of H, whose rows are the source frames of one voice below those of the other; may be none.
    transposition : at what ratios. dictionary : the source.
    pad : samples wanted before the middle of a stretch's first frame and after that of its last: half the longest
        window that will look at them.
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
    """How many ratios a `Shift` has."""
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
    """How the stretch from `atom` on is shifted that sounds from target frame `frame` on."""
    hop, of = dictionary.params.hop, int(dictionary.segments[atom])
    first, end = np.searchsorted(dictionary.segments, [of, of + 1]).tolist()
    track = transposition.glides[first * FINENESS : end * FINENESS]
    steps = np.arange(-before, length + before, _step(dictionary.params))
    own = pitch_at(track, (atom - first + steps) * FINENESS)
    at = _without_gaps(transposition.ratios(voice, frame + steps, own), (steps >= 0) & (steps <= length - 1))
    begin = int(dictionary.centres[atom]) - before * hop
    if tape:
        place, at = _tape_reading(transposition, voice, frame + steps, at, track, atom - first - before, before)
        begin = round(place * hop)
    return Shift(of, begin, length, before, at, own)


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
    """Stretches of recordings, each shifted as it is to be, one after the other: the dictionary of their frames.

    Parameters
    ----------
    shifts : may be none. recordings : that they count, (L,) or (C, L) each, at `sr` Hz.
    params : on which they are added up. n_channels : of the sound.
    keep_formants, tape : see `smalti.settings.Settings`.
    """
    # When first needed, as it loads a part of scipy that nothing else does.
    from smalti.shifting import shift_grain, tape_grain

    hop, step = params.hop, ratio_step(params.hop)
    dtype = np.result_type(*(recording.dtype for recording in recordings))
    # A sample of silence first, so that the sound of no grain at all is silence, too.
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
    return frames_of(together(list(np.concatenate(sounds, axis=1))), np.concatenate(centres), params, sr)


def _tape_reading(
    transposition: Transposition, voice: int, frames: Floats, ratios: Floats, track: Floats, first: int, before: int
) -> tuple[float, Floats]:
    """Where a tape begins to read, in frames of its recording, and at what speeds (P,), so that it lands on the notes.

    What is read has the pitch of the place that the tape has come to, not of the moment it is heard in. The middle of
    the grain is heard when it would have been, as far as the recording reaches.

    Parameters
    ----------
    frames : (P,) target frames. ratios : (P,) of a grain that keeps its time. track : the recording's `glides`.
    first : the frame at which that would begin. before : frames in front of the grain's own first, and after its last.
    """
    step = float(frames[1] - frames[0])
    # From the first of the grain's frames to the last there are so many, beside those before and after.
    within = len(frames) * step - 2 * before - 1
    place = first + (1 - float(np.exp(np.log(ratios).mean()))) * (before + within / 2)
    speeds = _speeds(transposition, voice, frames, ratios, track, place, step)
    read = place + step * np.concatenate([[0.0], np.cumsum(speeds)])
    begins, ends = read[round(before / step)], read[round((before + within) / step)]
    # Too long a reading begins where the recording does.
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
    """The grid that shifted grains are added up on: as many frames as on that of their dictionary."""
    n_fft = max(4 * params.hop, 2 * round(LONGEST_WINDOW_S * sr / 2))
    return params if params.n_fft <= n_fft else replace(params, n_fft=n_fft)


def frames_of(recording: Floats, centres: Ints, params: StftParams, sr: int) -> Dictionary:
    """The dictionary of frames of one recording, (L,) or (C, L), centred on samples `centres` (K,)."""
    none = np.zeros(len(centres), np.intp)
    return Dictionary(none, centres, none > 0, ("grains",), params, sr, (recording,))


def _without_gaps(ratios: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Ratios (P,) with that of the nearest place where there is none; all 1 if most of those `inside` have none."""
    known = np.flatnonzero(ratios > 0)
    if 2 * np.count_nonzero(ratios[inside] > 0) < np.count_nonzero(inside) or not len(known):
        return np.ones_like(ratios)
    places = np.arange(len(ratios))
    after = np.clip(np.searchsorted(known, places), 0, len(known) - 1)
    left, right = known[np.maximum(after - 1, 0)], known[after]
    return ratios[np.where(np.abs(left - places) <= np.abs(right - places), left, right)]
