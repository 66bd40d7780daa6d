"""The solver of a mosaic whose source is brought to the target's pitches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from smalti._checks import Floats, Integers
from smalti.dsp.bands import audible
from smalti.dsp.stft import StftParams
from smalti.grains.descriptors import LONG_WINDOW_S
from smalti.grains.runs import Allowed, Runs, close_gaps, find_runs, keep_runs, smooth_runs
from smalti.grains.shifted import Grains, shifted_grains
from smalti.grains.transposition import Transposition
from smalti.mosaicing.compare import ShiftedComparison
from smalti.mosaicing.job import Job, Solution, chosen_among
from smalti.nmf.base import MatrixStep
from smalti.nmf.divergence import BlockFit
from smalti.nmf.gains import GainFit
from smalti.nmf.multiplicative import Seed, steps_of


@dataclass(frozen=True, eq=False)
class ShiftedStep:
    """A step of a solver that shifts grains.

    Attributes
    ----------
    matrix_step : the activations, of source frames at the pitch of the moment, or of the frames of `grains`.
    grains : the grains that were shifted; None as long as they are not chosen.
    """

    matrix_step: MatrixStep
    grains: Grains | None = None

    @property
    def iteration(self) -> int:
        return self.matrix_step.iteration

    @property
    def H(self) -> Floats:
        return self.matrix_step.H

    @property
    def divergence(self) -> float:
        return self.matrix_step.divergence


@dataclass(frozen=True, eq=False)
class TransposedSolver:
    """The `Solver` of a job whose source is brought to the target's pitches: it chooses grains, then shifts them."""

    job: Job
    transposition: Transposition

    @property
    def n_steps(self) -> int:
        return self.job.n_updates

    def steps(self, rng: Seed = 0) -> Iterator[ShiftedStep]:
        return transposed_steps(self.job, self.transposition, rng=rng)

    def solution(self, step: ShiftedStep) -> Solution:
        if step.grains is None:
            raise ValueError(
                f"step {step.iteration} has no sound yet, as its grains are not shifted; take one after step "
                f"{self.job.settings.iterations}"
            )
        activations = scipy.sparse.csc_array(step.H * self.job.spectrum.any(axis=0))
        return Solution(step.grains.dictionary, activations, step.grains)


def transposed_steps(job: Job, transposition: Transposition, *, rng: Seed) -> Iterator[ShiftedStep]:
    """Yield the steps of a `TransposedSolver`: of source frames at the pitch of the moment, then of shifted grains."""
    settings, dictionary = job.settings, job.dictionary
    # H has rows for the frames that sound and can be shifted, and no others.
    usable = np.flatnonzero(transposition.usable)
    comparison = ShiftedComparison.of(only_atoms(job, usable), transposition.origins[usable])
    V, blocks = comparison.V, transposition.blocks(comparison.at, usable)
    drawn = np.random.default_rng(rng).random((transposition.n_voices * len(usable), V.shape[1]))
    norms = np.zeros(drawn.shape, V.dtype)
    by_voice = norms.reshape(transposition.n_voices, len(usable), -1)
    for block in blocks:
        by_voice[block.voices, :, block.frames] = np.linalg.norm(block.W, axis=0)
    start = np.where(norms > 0, 1 - settings.start_spread * drawn, 0).astype(V.dtype)
    del drawn
    allowed, may_sound = None, None
    if job.sketch is not None:
        # A source frame has the same weight at every pitch.
        weights = np.tile(job.sketch.whole()[usable], (transposition.n_voices, 1))
        may_sound = weights > 0
        norms, start, allowed = norms * weights, start * may_sound, lambda rows, frames: may_sound[rows, frames]
    # A diagonal ends at the end of a recording or a voice, and where unusable frames are left out.
    breaks = (np.diff(usable, prepend=-2) != 1) | (np.diff(dictionary.recording_ids[usable], prepend=-1) != 0)
    stretches = np.cumsum(breaks)
    segments = (stretches + (stretches[-1] + 1) * np.arange(transposition.n_voices)[:, None]).ravel()
    first = MatrixStep(0, start, BlockFit.of(V, blocks, eps=settings.eps))
    rules = settings.constraints(dictionary.hop_s, V.shape[1])
    for step in steps_of(first, settings.iterations, rules, segments, norms, may_sound):
        yield ShiftedStep(step)
    runs = chosen_runs(step.H * norms, segments, job, transposition, allowed)
    runs = _without_gaps(runs, segments, job, transposition, allowed)
    # In order of time, as in a score, so that a rendered score adds the grains up in the same order.
    runs = runs.only(np.argsort(runs.frames, kind="stable"))
    grains, H = _shifted(step.H, runs, job, transposition, usable)
    done = step.iteration
    # These may be large, and only the choice of the grains needed them.
    del step, first, start, blocks, norms, by_voice
    sounds = comparison.of_grains(grains.dictionary)
    fit = GainFit.of(V, sounds, H)
    last = chosen = MatrixStep(done + 1, H, fit)
    yield ShiftedStep(chosen, grains)
    for last in steps_of(chosen, settings.refine):
        yield ShiftedStep(last, grains)
    if job.smoothing_reach:
        firsts = np.searchsorted(grains.runs, np.arange(len(runs.atoms)))
        smooth = smooth_runs(last.H, replace(runs, atoms=firsts), reach=job.smoothing_reach)
        yield ShiftedStep(MatrixStep(last.iteration + 1, smooth, fit), grains)


def chosen_runs(
    loud: Floats,
    segments: NDArray[np.intp],
    job: Job,
    transposition: Transposition,
    allowed: Allowed | None = None,
) -> Runs:
    """The stretches to sound: one layer for each voice of a chord, else the settings' `layers`.

    Parameters
    ----------
    loud : (rows of H, N) contributions. segments : (rows of H,) ints, the number of each row's stretch of source.
    job, transposition : what is solved. allowed : the places that may sound; None for all.
    """
    n_atoms = len(loud) // transposition.n_voices
    groups, layers = [slice(0, len(loud))], None
    if transposition.way == "chords":
        groups, layers = [slice(v * n_atoms, (v + 1) * n_atoms) for v in range(transposition.n_voices)], 1
    chosen = []
    for rows in groups:
        group_allowed = None if allowed is None else partial(_from_row, allowed, rows.start)
        runs = find_runs(loud[rows], segments[rows], under_frame_db=job.settings.masking_db, allowed=group_allowed)
        runs = chosen_among(runs, segments[rows], job, layers=layers, allowed=group_allowed)
        chosen.append(replace(runs, atoms=runs.atoms + rows.start))
    return joined_runs(chosen)


def _from_row(allowed: Allowed, first: int, rows: Integers, frames: Integers) -> NDArray[np.bool_]:
    """`allowed`, for rows that are counted from the row `first`."""
    return allowed(rows + first, frames)


def _without_gaps(
    runs: Runs, segments: NDArray[np.intp], job: Job, transposition: Transposition, allowed: Allowed | None = None
) -> Runs:
    """The stretches, extended to sound wherever the target is heard, and in chords wherever their voice plays.

    Stretches that follow a melody can be extended, since they take its pitch. Shifts and glides leave the source its
    own melody, and more of a stretch might not fit the target.
    """
    heard = audible(np.square(np.abs(job.spectrum), dtype=np.float64).sum(axis=0))
    if transposition.way in ("shifts", "glide"):
        return runs
    if transposition.way == "follow":
        return close_gaps(runs, segments, heard, allowed)
    n_atoms, closed = len(segments) // transposition.n_voices, []
    for voice, melody in enumerate(transposition.melodies):
        voice_runs = runs.only(np.flatnonzero(runs.atoms // n_atoms == voice))
        closed.append(close_gaps(voice_runs, segments, heard & (melody > 0), allowed))
    return joined_runs(closed)


def joined_runs(parts: Sequence[Runs]) -> Runs:
    return Runs(*(np.concatenate([getattr(runs, part.name) for runs in parts]) for part in fields(Runs)))


def only_atoms(job: Job, atoms: NDArray[np.intp]) -> Job:
    """The job with the source frames `atoms` alone, all of which may sound."""
    return replace(job, dictionary=job.dictionary.only(atoms), settings=replace(job.settings, quietest_db=0.0))


def _shifted(
    H: Floats, runs: Runs, job: Job, transposition: Transposition, usable: NDArray[np.intp]
) -> tuple[Grains, Floats]:
    """The shifted grains of the chosen stretches, and activations (K', N) of their frames to start from.

    Parameters
    ----------
    H, runs : of the `usable` source frames, one voice below the other.
    """
    settings, dictionary = job.settings, job.dictionary
    long = StftParams.from_seconds(LONG_WINDOW_S, LONG_WINDOW_S / 4, dictionary.sr).n_fft
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
