"""Decide how a source is brought to the target's pitches; `transposition_of` makes the plan.

`smalti.mosaicing.solve_transposed` then chooses grains with every source frame at the pitch of the moment, has them
shifted, and refines the gains of the shifted grains.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, ParameterError
from smalti.curves import Curve
from smalti.dsp.bands import audible
from smalti.dsp.channels import to_mono
from smalti.dsp.pitch import (
    FINENESS,
    MOST_RATIO,
    check_f0,
    clear,
    fill_gaps,
    harmonicity,
    note_frequencies,
    pitch_at,
    ratios_to,
    refine_f0,
    steadiness,
    track_pitch,
)
from smalti.dsp.stft import StftParams
from smalti.dsp.transcription import as_melodies, sounding_notes, spectral_tuning
from smalti.grains.dictionary import Dictionary
from smalti.grains.transposition import Transposition
from smalti.mosaicing.compare import ShiftedComparison, may_sound
from smalti.mosaicing.job import Job
from smalti.mosaicing.solve_transposed import only_atoms
from smalti.nmf.let_it_bee import segment_slices
from smalti.nmf.multiplicative import solve_activations
from smalti.nmf.pursuit import unit_columns
from smalti.settings import Settings, shown

# The longest gap that pitch is carried over: a consonant or a breath belongs to the note around it.
BRIDGE_S = 0.25

# Thresholds of `decide`. A source or melody is steady if this share of its heard frames has a steady pitch. It is one
# voice if at least this share of its power lies in the partials of that pitch. In chords the tracker jumps from note to
# note, but all notes lie in one tuning.
STEADY_SOURCE, STEADY_MELODY, STEADY_CHORDS = 0.5, 0.6, 0.3
ONE_VOICE, IN_TUNE = 0.5, 0.2

# Chords are made of these MIDI notes, E1 to C8, each where the target has its fundamental within 40 dB of the frame's
# loudest bin.
LOWEST_NOTE, HIGHEST_NOTE, FUNDAMENTAL_DB = 28, 108, 40.0
# Source frames whose sum is the spectrum of a note in the transcription, and the updates that it takes.
TEMPLATE_FRAMES, TRANSCRIPTION_ROUNDS = 48, 60


@dataclass(frozen=True)
class PitchProfile:
    """Facts about a recording, from its pitch track and its spectrum.

    Attributes
    ----------
    steady : 0 to 1, the share of the heard frames with a steady pitch.
    one_voice : at most 1, the share of the power that lies in the partials of that pitch.
    in_tune : 0 to 1, how closely the partials lie in one tuning.
    """

    steady: float
    one_voice: float
    in_tune: float

    @classmethod
    def of(cls, f0: Floats, magnitudes: Floats, sr: int, heard: NDArray[np.bool_], in_tune: float) -> "PitchProfile":
        """The profile of magnitudes (F, N) with the pitch track `f0`, (N,) Hz; `heard` (N,) marks audible frames."""
        power = np.square(magnitudes, dtype=np.float64).sum(axis=0)
        clear = float(harmonicity(magnitudes, f0, sr) @ power / power.sum()) if power.sum() else 0.0
        return cls(steadiness(f0, heard), clear, in_tune)


def decide(target: PitchProfile, source: PitchProfile) -> tuple[str, str]:
    """The way that suits the material, "off", "follow" or "chords", and the reason as a clause."""
    if source.steady < STEADY_SOURCE:
        return "off", f"the source has no steady pitch to start from ({source.steady:.0%} of what sounds)"
    if source.one_voice < ONE_VOICE and source.in_tune >= IN_TUNE:
        return "off", "the source sounds several notes at once"
    if target.steady >= STEADY_MELODY and target.one_voice >= ONE_VOICE:
        return "follow", f"the target is one steady voice ({target.steady:.0%} of what sounds)"
    if target.steady >= STEADY_CHORDS and target.in_tune >= IN_TUNE:
        return "chords", "several notes of the target sound at once"
    return "off", f"the target has no steady pitch to follow ({target.steady:.0%} of what sounds)"


def transposition_of(
    job: Job, *, target_f0: ArrayLike | None = None, source_f0: ArrayLike | Sequence[ArrayLike] | None = None
) -> Transposition:
    """How the source of a job is brought to the target's pitches: as its settings say, or as suits the material.

    Parameters
    ----------
    job : its `transpose` setting is not "off". target_f0, source_f0 : as for `smalti.mosaic`.

    Raises
    ------
    ValueError, TypeError : for tracks of a wrong length or with wrong values; for a `target_f0` together with a range
        or a curve of semitones; if a melody or chords are to be followed and the target, or the source where it sounds,
        has no pitch.
    MissingExtraError : if a pitch has to be tracked and swift-f0 is not installed.
    """
    if target_f0 is not None:
        check_melody_wanted(job.settings)
    plan = _source_plan(job, source_f0)
    if not isinstance(job.settings.transpose, str):
        return _shifted(plan, job)
    given = None if target_f0 is None else _given_melodies(target_f0, job.spectrum.shape[1])
    plan = _way_to_go(plan, job, given)
    return plan if plan.way == "off" else _following(plan, job, given)


def check_melody_wanted(settings: Settings) -> None:
    """Raise `ParameterError` if a mosaic with these settings cannot follow a melody that is given."""
    transpose = settings.transpose
    if transpose == "off" or not isinstance(transpose, str):
        raise ParameterError(
            "target_f0",
            f"means nothing while {{transpose}} is {transpose if transpose == 'off' else shown(transpose)}",
            "add {transpose} follow, or leave it out",
            also=("transpose",),
        )


def _source_plan(job: Job, source_f0: ArrayLike | Sequence[ArrayLike] | None) -> Transposition:
    """The source's side of the plan: its pitch, and which of its frames sound. The way is "off" as yet."""
    dictionary = job.dictionary
    tracked = source_track(dictionary, source_f0)
    if tracked.max(initial=0) > dictionary.sr / 2:
        raise ParameterError(
            "source_f0",
            f"holds {tracked.max():g} Hz, more than a sample rate of {dictionary.sr} Hz has",
            f"pass at most {dictionary.sr / 2:g} Hz",
        )
    bridge = round(BRIDGE_S / dictionary.hop_s)
    recordings = segment_slices(dictionary.n_atoms, dictionary.recording_ids)
    origins = np.concatenate([fill_gaps(tracked[frames], longest=bridge) for frames in recordings])
    return Transposition(
        "off",
        "as asked",
        target_f0=np.zeros(job.spectrum.shape[1]),
        source_f0=tracked,
        origins=origins,
        glides=fine_track(dictionary, origins, given=source_f0 is not None),
        usable=may_sound(dictionary, job.settings),
    )


def _shifted(plan: Transposition, job: Job) -> Transposition:
    """The plan with the semitones of the settings, which need no pitch of the target."""
    semitones, tuned = job.settings.transpose, job.settings.tune_cents / 100
    if isinstance(semitones, Curve):
        # The curve counts frames of the target instead of seconds.
        times = tuple(time_s / job.dictionary.hop_s for time_s in semitones.times_s)
        return replace(plan, way="glide", glide=Curve(times, tuple(value + tuned for value in semitones.values)))
    low, high = cast("tuple[float, float]", semitones)
    # The margin keeps rounding from leaving out the upper end.
    return replace(plan, way="shifts", shifts=np.arange(low, high + 1e-9) + tuned)


def _way_to_go(plan: Transposition, job: Job, given: Floats | None) -> Transposition:
    """The plan with the target's pitch, the way to go, and the source frames whose pitch is clear enough to be shifted.

    Parameters
    ----------
    given : (M, N) Hz, the melodies to follow, or None to find them in the target.
    """
    dictionary, heard = job.dictionary, plan.usable
    way, reason = cast("str", job.settings.transpose), "as asked"
    if given is not None:
        track = given[0]
        way, reason = ("follow" if len(given) == 1 else "chords"), "its notes are given"
    else:
        track = _track(job.target, dictionary.sr, dictionary.params, job.spectrum.shape[1])
        if way == "auto":
            way, reason = decide(_target_profile(job, track), _source_profile(job, plan.source_f0))
    pitched = heard & (plan.origins > 0)
    usable = pitched & clear(harmonicity(dictionary.magnitudes, plan.origins, dictionary.sr), pitched)
    return replace(plan, way=way, reason=reason, target_f0=track, usable=usable)


def _following(plan: Transposition, job: Job, given: Floats | None) -> Transposition:
    """The plan with the melodies that it follows: those given, or the target's own."""
    transpose, origins = job.settings.transpose, plan.origins[plan.usable]
    if not len(origins):
        raise ParameterError(
            "transpose",
            f"is {transpose!r} but the source has no pitch to start from",
            "pass a range of semitones, which needs none, or 'off'",
        )
    melodies = given
    if melodies is None:
        melodies = plan.target_f0[None] if plan.way == "follow" else chord_melodies(job, plan.origins)
    if not melodies.any():
        if _may_leave(job, given):
            return replace(plan, way="off", reason="no notes are found in the target")
        raise ParameterError(
            "transpose",
            f"is {transpose!r} but the target has no pitch to follow",
            "pass 'off', or a melody as {target_f0}",
            also=("target_f0",),
        )
    melodies = without_rests(melodies) * 2 ** (job.settings.tune_cents / 1200)
    if not _within_reach(melodies, origins):
        far = "the source is more than four octaves from every note of the target"
        if _may_leave(job, given):
            return replace(plan, way="off", reason=far)
        notes = melodies[melodies > 0]
        raise ParameterError(
            "transpose",
            f"is {transpose!r} but {far}: these are {notes.min():.0f} to {notes.max():.0f} Hz and it has "
            f"{origins.min():.0f} to {origins.max():.0f} Hz",
            "pass others, in Hz",
        )
    return replace(plan, melodies=melodies)


def _may_leave(job: Job, given: Floats | None) -> bool:
    """Whether the source may keep its own pitch if no melody can be followed: only if the user asked for none."""
    return given is None and job.settings.transpose == "auto"


def _within_reach(melodies: Floats, origins: Floats) -> bool:
    """Whether any note of the melodies can be reached from any pitch of the source; both in Hz."""
    notes = melodies[melodies > 0]
    return bool(notes.min() <= origins.max() * MOST_RATIO and notes.max() >= origins.min() / MOST_RATIO)


def without_rests(melodies: Floats) -> Floats:
    """(M, N) Hz, the melodies without common rests: where all voices rest, the first one holds a note.

    A consonant or a breath has no pitch, and a pause is seldom quite silent. Grains there would keep their own pitch
    and be out of tune with the notes around them.
    """
    resting = ~(melodies > 0).any(axis=0)
    # The note of the first voice that has one.
    leading = melodies[(melodies > 0).argmax(axis=0), np.arange(melodies.shape[1])]
    out = melodies.copy()
    out[0, resting] = fill_gaps(leading, longest=len(leading))[resting]
    return out


def _given_melodies(target_f0: ArrayLike, n_frames: int) -> Floats:
    """(M, N) Hz, checked, from one track (N,) or several (M, N)."""
    given = np.asarray(target_f0)
    if given.ndim == 2 and len(given):
        return np.stack([check_f0(f"target_f0[{voice}]", track, n_frames) for voice, track in enumerate(given)])
    return check_f0("target_f0", given, n_frames)[None]


def source_track(dictionary: Dictionary, given: ArrayLike | Sequence[ArrayLike] | None = None) -> Floats:
    """(K,) Hz, 0 for none: the pitch of every source frame.

    Parameters
    ----------
    given : None to track it; (K,) for all frames, or a list of tracks, one for each recording.
    """
    slices = segment_slices(dictionary.n_atoms, dictionary.recording_ids)
    if given is None:
        return np.concatenate(
            [
                _track(to_mono(recording), dictionary.sr, dictionary.params, atoms.stop - atoms.start)
                for recording, atoms in zip(dictionary.recordings, slices, strict=True)
            ]
        )
    if not isinstance(given, list | tuple) or not given or np.isscalar(given[0]):
        return check_f0("source_f0", np.asarray(given), dictionary.n_atoms)
    if len(given) != len(slices):
        raise ParameterError("source_f0", f"has {len(given)} tracks for {len(slices)} recordings", "pass one for each")
    return np.concatenate(
        [
            check_f0(f"source_f0[{i}]", track, atoms.stop - atoms.start)
            for i, (track, atoms) in enumerate(zip(given, slices, strict=True))
        ]
    )


def fine_track(dictionary: Dictionary, origins: Floats, *, given: bool) -> Floats:
    """(K * FINENESS,) Hz, the source's pitch at `FINENESS` points for each frame.

    Parameters
    ----------
    origins : (K,) Hz, the pitch at the frames.
    given : True to interpolate it, False to measure it between the frames, too.
    """
    parts = []
    for recording, atoms in zip(
        dictionary.recordings, segment_slices(dictionary.n_atoms, dictionary.recording_ids), strict=True
    ):
        track = origins[atoms]
        if given:
            parts.append(pitch_at(track, np.arange(len(track) * FINENESS) / FINENESS))
        else:
            hop, sr = dictionary.params.hop, dictionary.sr
            parts.append(refine_f0(to_mono(recording), track, sr, hop=hop, per_hop=FINENESS))
    return np.concatenate(parts)


def _track(samples: Floats, sr: int, params: StftParams, n_frames: int) -> Floats:
    track = track_pitch(samples, sr, hop=params.hop)
    # The STFT may have one frame more than the track if the hop is longer than a quarter window.
    return np.pad(track, (0, max(0, n_frames - len(track))))[:n_frames]


def _target_profile(job: Job, track: Floats) -> PitchProfile:
    magnitudes, sr = np.abs(job.spectrum), job.dictionary.sr
    heard = audible(np.square(magnitudes, dtype=np.float64).sum(axis=0))
    return PitchProfile.of(track, magnitudes, sr, heard, in_tune=spectral_tuning(job.target, sr)[1])


def _source_profile(job: Job, track: Floats) -> PitchProfile:
    dictionary = job.dictionary
    everything = np.concatenate(list(map(to_mono, dictionary.recordings)))
    heard = may_sound(dictionary, job.settings)
    return PitchProfile.of(
        track, dictionary.magnitudes, dictionary.sr, heard, in_tune=spectral_tuning(everything, dictionary.sr)[1]
    )


def chord_melodies(job: Job, source_f0: Floats) -> Floats:
    """(M, N) Hz, the notes of the target for the source to play, a row for each voice; see `smalti.dsp.transcription`.

    The spectrum of a note is that of the source at the note's pitch, so the notes found are those that the source needs
    to sound like the target. The start is uniform, so nothing is drawn at random.

    Parameters
    ----------
    source_f0 : (K,) Hz, 0 for none.
    """
    settings, dictionary = job.settings, job.dictionary
    cents, _ = spectral_tuning(job.target, dictionary.sr)
    hz = note_frequencies(np.arange(LOWEST_NOTE, HIGHEST_NOTE + 1) + cents / 100)
    pitched = np.flatnonzero((source_f0 > 0) & may_sound(dictionary, settings))
    # A few frames show the spectrum of the source; those far below the loudest are mostly noise.
    loud = pitched[dictionary.norms[pitched] >= 0.1 * dictionary.norms[pitched].max(initial=0)]
    few = loud[:: max(1, -(-len(loud) // TEMPLATE_FRAMES))]
    if not len(few):
        return np.zeros((settings.voices, job.spectrum.shape[1]))
    comparison = ShiftedComparison.of(only_atoms(job, few), source_f0[few])
    V, ratios = comparison.V, np.stack([ratios_to(np.full(len(few), note_hz), source_f0[few]) for note_hz in hz])
    templates = comparison.at(ratios).sum(axis=2).T
    norms = np.linalg.norm(templates, axis=0)
    start = ((norms > 0)[:, None] & has_fundamental(job, hz)).astype(V.dtype)
    loudness = solve_activations(V, unit_columns(templates, norms), n_iter=TRANSCRIPTION_ROUNDS, init=start).H
    notes = sounding_notes(loudness, most=settings.voices)
    return as_melodies(notes, hz, voices=settings.voices, n_frames=V.shape[1])


def has_fundamental(job: Job, hz: Floats) -> NDArray[np.bool_]:
    """(S, N) bools: in which frames the target sounds at the fundamental of each pitch (S,).

    Without this check, a bass note whose partials alone are in the target would be played.
    """
    bin_hz = job.dictionary.sr / job.dictionary.params.n_fft
    magnitudes = np.abs(job.spectrum)
    # Half a semitone to either side, and at least the bins around it.
    low = np.maximum(np.floor(hz * 2 ** (-1 / 24) / bin_hz).astype(np.intp), 1)
    high = np.minimum(np.ceil(hz * 2 ** (1 / 24) / bin_hz).astype(np.intp) + 1, len(magnitudes))
    there = np.stack(
        [magnitudes[a:b].max(axis=0) if b > a else np.zeros_like(magnitudes[0]) for a, b in zip(low, high, strict=True)]
    )
    enough: NDArray[np.bool_] = there > magnitudes.max(axis=0) * 10 ** (-FUNDAMENTAL_DB / 20)
    return enough
