"""A mosaic whose source is brought to the target's pitches: which way, and the steps of its solver.

`transposition_of` finds the way; `transposed_steps` chooses grains with every source frame at the pitch of the moment,
has them shifted, and refines their gains as they then sound.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, Integers
from smalti.activations import Seed, solve_activations, steps_of
from smalti.bands import audible, band_edges
from smalti.channels import mixed_down
from smalti.constraints import segment_slices
from smalti.curves import Curve
from smalti.dictionary import Dictionary
from smalti.divergence import BlockFit, SupportFit
from smalti.exact import GainFit
from smalti.grains import Allowed, Runs, close_gaps, find_runs, keep_runs, smooth_runs
from smalti.jobs import Job, chosen_among, compared, hearing, may_sound
from smalti.pitch import bridged, check_f0, clarity, clear, glides, note_frequencies, track_pitch
from smalti.sparse_coding import unit_columns
from smalti.steps import Fit, Step
from smalti.stft import StftParams
from smalti.transposing import (
    BRIDGE_S,
    FINENESS,
    MOST_RATIO,
    Grains,
    Transposition,
    Voicing,
    decide,
    frames_of,
    pitch_at,
    ratios_to,
    shifted_grains,
)
from smalti.views import LONG_S, StretchedBands, stack, view_gains, views
from smalti.voices import as_melodies, sounding_notes, spectral_tuning

# Notes that chords are made of, MIDI numbers: E1 to C8; where the target has something within 40 dB of its loudest.
LOWEST_NOTE, HIGHEST_NOTE, FUNDAMENTAL_DB = 28, 108, 40.0
# They are transcribed with the sum of so many source frames as each note's spectrum, in so many updates.
TEMPLATE_FRAMES, TRANSCRIPTION_ROUNDS = 48, 60


# --- which way


def transposition_of(
    job: Job, *, target_f0: ArrayLike | None = None, source_f0: ArrayLike | Sequence[ArrayLike] | None = None
) -> Transposition:
    """How the source of a job comes to the target's pitches: what its settings ask for, or what suits the material.

    Parameters
    ----------
    job : whose settings have `transpose`. target_f0, source_f0 : as for `smalti.mosaic`.

    Raises
    ------
    ValueError, TypeError : for tracks of another length or with other values, or of the target together with a range
        of semitones; if a melody or chords are asked for and the target has no pitch, or the source none where it
        sounds.
    MissingExtraError : if a track is needed and swift-f0 is not installed.
    """
    settings, dictionary, n_frames = job.settings, job.dictionary, job.spectrum.shape[1]
    if not isinstance(settings.transpose, str) and target_f0 is not None:
        raise ValueError(
            f"target_f0 is given but transpose is {_semitones(settings.transpose)} follows no melody; "
            "pass transpose='follow', or leave target_f0 out"
        )
    own = source_track(dictionary, source_f0)
    if own.max(initial=0) > dictionary.sr / 2:
        raise ValueError(
            f"source_f0 holds {own.max():g} Hz, more than a sample rate of {dictionary.sr} Hz has; pass at most "
            f"{dictionary.sr / 2:g} Hz"
        )
    bridge = round(BRIDGE_S / dictionary.hop_s)
    recordings = segment_slices(dictionary.n_atoms, dictionary.segments)
    origins = np.concatenate([bridged(own[of], longest=bridge) for of in recordings])
    fine = fine_track(dictionary, origins, given=source_f0 is not None)
    heard = may_sound(dictionary, settings)
    if isinstance(settings.transpose, Curve):
        curve = settings.transpose
        glide = Curve(
            tuple(time_s / dictionary.hop_s for time_s in curve.times_s),
            tuple(semitones + settings.tune_cents / 100 for semitones in curve.values),
        )
        return Transposition("glide", "as asked", np.zeros(n_frames), own, origins, fine, heard, glide=glide)
    if isinstance(settings.transpose, tuple):
        low, high = settings.transpose
        # A hair above the upper end, which rounding must not leave out.
        shifts = np.arange(low, high + 1e-9) + settings.tune_cents / 100
        return Transposition("shifts", "as asked", np.zeros(n_frames), own, origins, fine, heard, shifts=shifts)
    given = None if target_f0 is None else _given_melodies(target_f0, n_frames)
    track = _track(job.target, dictionary.sr, dictionary.params, n_frames) if given is None else given[0]
    way, reason = settings.transpose, "as asked"
    if given is not None:
        way, reason = ("follow" if len(given) == 1 else "chords"), "its notes are given"
    elif way == "auto":
        way, reason = decide(_voicing_of_target(job, track), _voicing_of_source(job, own))
    clarities = clarity(dictionary.magnitudes, origins, dictionary.sr)
    usable = heard & (origins > 0) & clear(clarities, heard & (origins > 0))
    plan = Transposition(way, reason, track, own, origins, fine, usable)
    if way == "off":
        return plan
    if not usable.any():
        raise ValueError(
            f"transpose is {settings.transpose!r} but the source has no pitch to start from; pass a range of "
            "semitones, which needs none, or 'off', or its pitch as source_f0"
        )
    melodies = given
    if melodies is None:
        melodies = track[None] if way == "follow" else chord_melodies(job, origins)
    if not melodies.any():
        if given is None and settings.transpose == "auto":
            return replace(plan, way="off", reason="no notes are found in the target")
        raise ValueError(
            f"transpose is {settings.transpose!r} but the target has no pitch to follow; pass 'off', or a melody as "
            "target_f0"
        )
    melodies = without_rests(melodies) * 2 ** (settings.tune_cents / 1200)
    if not _within_reach(melodies, origins[usable]):
        far = "the source is more than four octaves from every note of the target"
        if given is None and settings.transpose == "auto":
            return replace(plan, way="off", reason=far)
        notes, own_notes = melodies[melodies > 0], origins[usable]
        raise ValueError(
            f"transpose is {settings.transpose!r} but {far}: these are {notes.min():.0f} to {notes.max():.0f} Hz and "
            f"it has {own_notes.min():.0f} to {own_notes.max():.0f} Hz; pass others, in Hz"
        )
    return replace(plan, melodies=melodies)


def _semitones(asked: tuple[float, float] | Curve) -> str:
    if isinstance(asked, Curve):
        return f"the curve {asked}, and a curve of semitones"
    return f"({asked[0]:g}, {asked[1]:g}), and a range of semitones"


def _within_reach(melodies: Floats, origins: Floats) -> bool:
    """Whether any note can be reached from any pitch of the source, Hz."""
    notes = melodies[melodies > 0]
    return bool(notes.min() <= origins.max() * MOST_RATIO and notes.max() >= origins.min() / MOST_RATIO)


def without_rests(melodies: Floats) -> Floats:
    """(M, N) Hz with something to play at any time, if there is at all: where all voices rest, the first goes on.

    A consonant or a breath has no pitch, and a pause has what little sounds in it: made of grains at their own pitch,
    they would be out of tune with all around them.
    """
    resting = ~(melodies > 0).any(axis=0)
    # The note of the first voice that has one.
    leading = melodies[(melodies > 0).argmax(axis=0), np.arange(melodies.shape[1])]
    out = melodies.copy()
    out[0, resting] = bridged(leading, longest=len(leading))[resting]
    return out


def _given_melodies(target_f0: ArrayLike, n_frames: int) -> Floats:
    """(M, N) of one track or several."""
    given = np.asarray(target_f0)
    if given.ndim == 2 and len(given):
        return np.stack([check_f0(f"target_f0[{voice}]", of, n_frames) for voice, of in enumerate(given)])
    return check_f0("target_f0", given, n_frames)[None]


def source_track(dictionary: Dictionary, given: ArrayLike | Sequence[ArrayLike] | None = None) -> Floats:
    """(K,) Hz, 0 for none: the pitch of every source frame.

    Parameters
    ----------
    given : None to track it; (K,) for all frames, or a list of tracks, one for each recording.
    """
    frames = segment_slices(dictionary.n_atoms, dictionary.segments)
    if given is None:
        return np.concatenate(
            [
                _track(mixed_down(recording), dictionary.sr, dictionary.params, of.stop - of.start)
                for recording, of in zip(dictionary.recordings, frames, strict=True)
            ]
        )
    if not isinstance(given, list | tuple) or not given or np.isscalar(given[0]):
        return check_f0("source_f0", np.asarray(given), dictionary.n_atoms)
    if len(given) != len(frames):
        raise ValueError(f"source_f0 has {len(given)} tracks for {len(frames)} recordings; pass one for each")
    return np.concatenate(
        [
            check_f0(f"source_f0[{i}]", track, of.stop - of.start)
            for i, (track, of) in enumerate(zip(given, frames, strict=True))
        ]
    )


def fine_track(dictionary: Dictionary, origins: Floats, *, given: bool) -> Floats:
    """(K * FINENESS,) the source's pitch (K,) between its frames, too: as it glides, or straight on if it was given."""
    parts = []
    for recording, of in zip(
        dictionary.recordings, segment_slices(dictionary.n_atoms, dictionary.segments), strict=True
    ):
        track = origins[of]
        if given:
            parts.append(pitch_at(track, np.arange(len(track) * FINENESS) / FINENESS))
        else:
            hop, sr = dictionary.params.hop, dictionary.sr
            parts.append(glides(mixed_down(recording), track, sr, hop=hop, per_hop=FINENESS))
    return np.concatenate(parts)


def _track(samples: Floats, sr: int, params: StftParams, n_frames: int) -> Floats:
    track = track_pitch(samples, sr, hop=params.hop)
    # Where the hop is longer than a quarter window there may be a frame more.
    return np.pad(track, (0, max(0, n_frames - len(track))))[:n_frames]


def _voicing_of_target(job: Job, track: Floats) -> Voicing:
    magnitudes, sr = np.abs(job.spectrum), job.dictionary.sr
    heard = audible(np.square(magnitudes, dtype=np.float64).sum(axis=0))
    return Voicing.of(track, magnitudes, sr, heard, in_tune=spectral_tuning(job.target, sr)[1])


def _voicing_of_source(job: Job, track: Floats) -> Voicing:
    dictionary = job.dictionary
    everything = np.concatenate(list(map(mixed_down, dictionary.recordings)))
    heard = may_sound(dictionary, job.settings)
    return Voicing.of(
        track, dictionary.magnitudes, dictionary.sr, heard, in_tune=spectral_tuning(everything, dictionary.sr)[1]
    )


def chord_melodies(job: Job, source_f0: Floats) -> Floats:
    """(M, N) Hz: the notes of the target that its source is to play, a voice each; see `smalti.voices`.

    A note's spectrum is that of the source itself at its pitch, so that what is found is what the source needs to sound
    like the target. All start alike, and so nothing is drawn at random.
    """
    settings, dictionary = job.settings, job.dictionary
    cents, _ = spectral_tuning(job.target, dictionary.sr)
    hz = note_frequencies(np.arange(LOWEST_NOTE, HIGHEST_NOTE + 1) + cents / 100)
    pitched = np.flatnonzero((source_f0 > 0) & may_sound(dictionary, settings))
    # A few frames of many say what the source is like; those far under the loudest are mostly noise.
    loud = pitched[dictionary.norms[pitched] >= 0.1 * dictionary.norms[pitched].max(initial=0)]
    few = loud[:: max(1, -(-len(loud) // TEMPLATE_FRAMES))]
    if not len(few):
        return np.zeros((settings.voices, job.spectrum.shape[1]))
    comparison = ShiftedComparison.of(_only(job, few), source_f0[few])
    V, ratios = comparison.V, np.stack([ratios_to(np.full(len(few), of), source_f0[few]) for of in hz])
    templates = comparison.at(ratios).sum(axis=2).T
    norms = np.linalg.norm(templates, axis=0)
    start = ((norms > 0)[:, None] & has_fundamental(job, hz)).astype(V.dtype)
    loudness = solve_activations(V, unit_columns(templates, norms), n_iter=TRANSCRIPTION_ROUNDS, init=start).H
    notes = sounding_notes(loudness, most=settings.voices)
    return as_melodies(notes, hz, voices=settings.voices, n_frames=V.shape[1])


def has_fundamental(job: Job, hz: Floats) -> NDArray[np.bool_]:
    """(S, N) bools: in which frames the target has anything where each pitch (S,) has its fundamental.

    A bass note of which only high partials are there would be played by a source that has nothing else of the target.
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


# --- the solver


@dataclass(frozen=True, eq=False)
class ShiftedStep(Step):
    """A step whose activations are of grains that were shifted: H is (K', N) over the frames of `grains`."""

    grains: Grains


def transposed_steps(job: Job, transposition: Transposition, *, rng: Seed) -> Iterator[Step]:
    """As `smalti.mosaicing.solve_steps`: first of all source frames at the pitch of the moment, then of the grains."""
    settings, dictionary = job.settings, job.dictionary
    # What cannot be shifted, or does not sound, is no part of it: H has rows for the rest alone.
    usable = np.flatnonzero(transposition.usable)
    comparison = ShiftedComparison.of(_only(job, usable), transposition.origins[usable])
    V, blocks = comparison.V, transposition.blocks(comparison.at, usable)
    drawn = np.random.default_rng(rng).random((transposition.n_voices * len(usable), V.shape[1]))
    norms = np.zeros(drawn.shape, V.dtype)
    by_voice = norms.reshape(transposition.n_voices, len(usable), -1)
    for block in blocks:
        by_voice[block.voices, :, block.frames] = np.linalg.norm(block.W, axis=0)
    start = np.where(norms > 0, 1 - settings.start_spread * drawn, 0).astype(V.dtype)
    del drawn
    allowed, may = None, None
    if job.sketch is not None:
        # A source frame counts the same whatever it is shifted to.
        weights = np.tile(job.sketch.whole()[usable], (transposition.n_voices, 1))
        may = weights > 0
        norms, start, allowed = norms * weights, start * may, lambda rows, frames: may[rows, frames]
    # A diagonal ends where a recording does, where frames in between are left out, and where a voice does.
    breaks = (np.diff(usable, prepend=-2) != 1) | (np.diff(dictionary.segments[usable], prepend=-1) != 0)
    stretches = np.cumsum(breaks)
    segments = (stretches + (stretches[-1] + 1) * np.arange(transposition.n_voices)[:, None]).ravel()
    first = Step(0, start, BlockFit.of(V, blocks, eps=settings.eps))
    rules = settings.constraints(dictionary.hop_s, V.shape[1])
    for step in steps_of(first, settings.iterations, rules, segments, norms, may):
        yield step
    runs = chosen_runs(step.H * norms, segments, job, transposition, allowed)
    runs = _without_gaps(runs, segments, job, transposition, allowed)
    # By time, as a score has them, so that what is made of that is summed up in the same order.
    runs = runs.only(np.argsort(runs.frames, kind="stable"))
    grains, H = _shifted(step.H, runs, job, transposition, usable)
    done = step.iteration
    # What was needed to choose the grains, and may be much, is not needed to refine their gains.
    del step, first, start, blocks, norms, by_voice
    sounds = comparison.of_grains(grains.dictionary)
    fit: Fit = SupportFit.of(V, sounds, H, eps=settings.eps) if settings.eps else GainFit.of(V, sounds, H)
    step = ShiftedStep(done + 1, H, fit, grains)
    yield step
    for gains in steps_of(step, settings.refine):
        step = ShiftedStep(step.iteration + 1, gains.H, fit, grains)
        yield step
    reach = round(settings.smooth_gains_s / dictionary.hop_s)
    if reach:
        firsts = np.searchsorted(grains.runs, np.arange(len(runs.atoms)))
        smooth = smooth_runs(step.H, replace(runs, atoms=firsts), reach=reach)
        yield ShiftedStep(step.iteration + 1, smooth, fit, grains)


def chosen_runs(
    loud: Floats,
    segments: NDArray[np.intp],
    job: Job,
    transposition: Transposition,
    allowed: Allowed | None = None,
) -> Runs:
    """The stretches to sound, of contributions (rows of H, N): one layer for each voice of a chord, else `layers`."""
    n_atoms = len(loud) // transposition.n_voices
    groups, layers = [slice(0, len(loud))], None
    if transposition.way == "chords":
        groups, layers = [slice(v * n_atoms, (v + 1) * n_atoms) for v in range(transposition.n_voices)], 1
    chosen = []
    for of in groups:
        may = None if allowed is None else partial(_from_row, allowed, of.start)
        runs = find_runs(loud[of], segments[of], under_frame_db=job.settings.masking_db, allowed=may)
        runs = chosen_among(runs, segments[of], job, layers=layers, allowed=may)
        chosen.append(replace(runs, atoms=runs.atoms + of.start))
    return _joined(chosen)


def _from_row(allowed: Allowed, first: int, rows: Integers, frames: Integers) -> NDArray[np.bool_]:
    """What is allowed of rows that are counted from another one."""
    return allowed(rows + first, frames)


def _without_gaps(
    runs: Runs, segments: NDArray[np.intp], job: Job, transposition: Transposition, allowed: Allowed | None = None
) -> Runs:
    """Stretches that sound wherever the target is heard: in chords, wherever their voice plays.

    At a pitch of their own, more of a stretch might not fit; at the pitch of the moment it does.
    """
    heard = audible(np.square(np.abs(job.spectrum), dtype=np.float64).sum(axis=0))
    if transposition.way in ("shifts", "glide"):
        return runs
    if transposition.way == "follow":
        return close_gaps(runs, segments, heard, allowed)
    n_atoms, closed = len(segments) // transposition.n_voices, []
    for voice, melody in enumerate(transposition.melodies):
        of_voice = runs.only(np.flatnonzero(runs.atoms // n_atoms == voice))
        closed.append(close_gaps(of_voice, segments, heard & (melody > 0), allowed))
    return _joined(closed)


def _joined(parts: Sequence[Runs]) -> Runs:
    return Runs(*(np.concatenate([getattr(runs, part.name) for runs in parts]) for part in fields(Runs)))


def _only(job: Job, atoms: NDArray[np.intp]) -> Job:
    """The job with some source frames alone, all of which may sound."""
    return replace(job, dictionary=job.dictionary.only(atoms), settings=replace(job.settings, quietest_db=0.0))


def _shifted(
    H: Floats, runs: Runs, job: Job, transposition: Transposition, usable: NDArray[np.intp]
) -> tuple[Grains, Floats]:
    """The grains of the chosen stretches, and the activations (K', N) they start from.

    Parameters
    ----------
    H, runs : of the `usable` source frames, one voice below the other.
    """
    settings, dictionary = job.settings, job.dictionary
    long = StftParams.from_seconds(LONG_S, LONG_S / 4, dictionary.sr).n_fft
    voices, atoms = np.divmod(runs.atoms, len(usable))
    grains = shifted_grains(
        replace(runs, atoms=usable[atoms] + voices * dictionary.n_atoms),
        transposition,
        dictionary,
        pad=max(dictionary.params.n_fft, long) // 2,
        keep_formants=settings.keep_formants,
        tape=settings.tape,
    )
    kept = keep_runs(H, runs)
    steps = np.arange(len(grains.runs)) - np.searchsorted(grains.runs, grains.runs)
    own = np.zeros((len(grains.runs), H.shape[1]), H.dtype)
    own[np.arange(len(own)), grains.frames] = kept[runs.atoms[grains.runs] + steps, grains.frames]
    return grains, own


@dataclass(frozen=True, eq=False)
class ShiftedComparison:
    """What the solver compares where the source is brought to other pitches.

    Attributes
    ----------
    V : (B, N) of the target, as `smalti.jobs.compared` has it.
    job : whose source is compared. source_f0 : (K,) Hz, 0 for none.
    gains : of the views, if these are compared.
    """

    V: Floats
    job: Job
    source_f0: Floats
    gains: Sequence[float]

    @classmethod
    def of(cls, job: Job, source_f0: Floats) -> "ShiftedComparison":
        settings, dictionary = job.settings, job.dictionary
        if settings.compare != "views":
            return cls(compared(job)[0], job, source_f0, ())
        at = np.arange(job.spectrum.shape[1]) * dictionary.params.hop
        seen = views(job.target, at, dictionary.params.hop, dictionary.sr, ear_weighting=settings.ear_weighting)
        gains = view_gains(seen)
        return cls(stack(seen, gains), job, source_f0, gains)

    def at(self, ratios: Floats) -> Floats:
        """(Q, B, K) of the source frames at ratios (Q, K); silent where one is 0, and where a frame may not sound."""
        settings, dictionary = self.job.settings, self.job.dictionary
        ratios = np.where(may_sound(dictionary, settings), ratios, 0)
        formants = settings.keep_formants and not settings.tape
        if settings.compare == "views":
            return dictionary.shifted_views(
                ratios, self.source_f0, self.gains, keep_formants=formants, ear_weighting=settings.ear_weighting
            )
        params, sr = dictionary.params, dictionary.sr
        edges = band_edges(params, sr) if settings.compare == "bands" else np.arange(params.n_bins + 1)
        weights = hearing(dictionary, self.V)[:, 0] if settings.ear_weighting else np.ones(params.n_bins)
        bands = StretchedBands.of(dictionary.magnitudes, self.source_f0, sr, edges, weights, keep_formants=formants)
        return np.stack([bands.at(of).T.astype(self.V.dtype) for of in ratios]).swapaxes(1, 2)

    def of_grains(self, dictionary: Dictionary) -> Floats:
        """(B, K') of the frames of shifted grains, as they are; see `Grains`."""
        settings = self.job.settings
        if settings.compare == "views":
            return stack(dictionary.views(ear_weighting=settings.ear_weighting), self.gains)
        # On the job's own grid, whatever windows they are added up in.
        here = frames_of(dictionary.recordings[0], dictionary.centres, self.job.dictionary.params, dictionary.sr)
        return compared(replace(self.job, dictionary=here, settings=replace(settings, quietest_db=0.0)))[1]
