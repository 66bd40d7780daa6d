"""A solver that searches hours of source: each target frame considers only a few dozen source frames.

The target's frames are looked up in a corpus, and after some updates the parts that are still missing are looked up,
too. Let it Bee and the choice of whole grains then work on the candidates that were found. No array here is as large as
source frames times target frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from smalti._checks import Floats, Integers
from smalti.grains.corpus import Corpus
from smalti.grains.filters import Limit
from smalti.grains.runs import Runs, places, runs_in, smoothed
from smalti.mosaicing.candidates import along_diagonals, code_of, found
from smalti.mosaicing.compare import Comparison, Entries, may_sound
from smalti.mosaicing.job import Job, Solution, chosen_among
from smalti.nmf.lists import entry_frames, indptr_of, restrict, strongest
from smalti.nmf.multiplicative import Seed
from smalti.settings import Settings

# Rounds of updates before the missing parts of the target are looked up.
FIRST_ROUNDS = 10
# Layers in these rounds, whatever the settings say.
FIRST_LAYERS = 2


@dataclass(frozen=True, eq=False)
class SearchedStep:
    """A step that holds lists of candidates, `entries`; its H (K, N) is a scipy.sparse CSC."""

    iteration: int
    entries: Entries
    comparison: Comparison

    @cached_property
    def H(self) -> scipy.sparse.csc_array:
        indptr, atoms, values = self.entries.lists
        return scipy.sparse.csc_array((values, atoms, indptr), shape=(self.comparison.corpus.n_atoms, len(indptr) - 1))

    @cached_property
    def divergence(self) -> float:
        return self.comparison.divergence(self.entries)


@dataclass(frozen=True, eq=False)
class SearchedSolver:
    """The `Solver` of a job whose source is a corpus, in which candidates are looked up."""

    job: Job
    corpus: Corpus

    @property
    def n_steps(self) -> int:
        return self.job.n_updates

    def steps(self, rng: Seed = 0) -> Iterator[SearchedStep]:
        return searched_steps(self.job, self.corpus, rng=rng)

    def solution(self, step: SearchedStep) -> Solution:
        """The solution with only those U source frames that sound, since hours of source have too many.

        If none sounds, the first source frame stays: a dictionary cannot be empty.
        """
        H = scipy.sparse.csr_array(step.H * self.job.spectrum.any(axis=0))
        H.eliminate_zeros()
        used = np.flatnonzero(np.diff(H.indptr))
        used = used if len(used) else np.zeros(1, np.intp)
        recordings = np.unique(self.corpus.recording_ids[used])
        return Solution(self.corpus.only(used), scipy.sparse.csc_array(H[used]), recordings=recordings)


def restricted(entries: Entries, job: Job, comparison: Comparison, *, layers: int | None, strength: float) -> Floats:
    """(E,) activations after the rules of Let it Bee, as far as the lists reach.

    `layers`, if given, replaces the polyphony of these rules.
    """
    rules = job.settings.constraints(job.dictionary.hop_s, len(entries.lists.indptr) - 1)
    if rules is None:
        return entries.lists.values
    return restrict(
        entries.lists,
        comparison.segments,
        entries.loudness(rules.rank),
        repetition=rules.repetition,
        polyphony=layers or rules.polyphony,
        continuity=rules.continuity,
        strength=strength,
    )


# --- the steps


def searched_steps(job: Job, corpus: Corpus, *, rng: Seed) -> Iterator[SearchedStep]:
    """The steps of a `SearchedSolver`."""
    settings = job.settings
    comparison, allowed = Comparison.of(job, corpus), may_sound(corpus, settings)
    allowed &= (comparison.weights > 0)[corpus.recording_ids]
    if not allowed.any():
        raise ValueError("every recording that sounds has weight 0; give one of them more")
    _check_limits(job.limits, np.unique(corpus.recording_ids[allowed]))
    reach, generator = reach_of(job), np.random.default_rng(rng)
    # Each limit needs candidates that may fill the places of the recordings that it keeps out.
    pools = [allowed, *(allowed & ~limit.recordings[corpus.recording_ids] for limit in job.limits)]
    pools = [pool for pool in (*pools, np.logical_and.reduce(pools))[: None if job.limits else 1] if pool.any()]

    def found_in_all(magnitudes: Floats) -> Integers:
        return np.concatenate(
            [found(comparison, magnitudes, pool, n=settings.shortlist, reach=reach) for pool in pools], axis=1
        )

    def lists_of(anchors: Integers) -> tuple[Integers, Integers]:
        indptr, atoms = along_diagonals(anchors, corpus.recording_ids, allowed, reach)
        if job.sketch is None:
            return indptr, atoms
        may_sound_here = job.sketch.allowed(atoms, entry_frames(indptr))
        if not may_sound_here.any():
            raise ValueError("the sketch forbids everything that sounds; leave something of the source to some moment")
        return indptr_of(may_sound_here, indptr), atoms[may_sound_here]

    anchors = found_in_all(comparison.Vt)
    entries = _started(comparison, lists_of(anchors), settings, generator)
    for i in range(FIRST_ROUNDS):
        strength = (i + 1) / FIRST_ROUNDS
        entries = entries.with_values(restricted(entries, job, comparison, layers=FIRST_LAYERS, strength=strength))
        entries = entries.with_values(comparison.update(entries))
    anchors = np.concatenate([anchors, found_in_all(comparison.missing(entries))], axis=1)
    lists = lists_of(anchors)
    if job.limits:
        lists = _within_limits(lists, entries, job, comparison)
    yield from listed_steps(job, comparison, lists, rng=generator)


def reach_of(job: Job) -> int:
    """Frames to either side that a stretch of the wanted length extends; the most if the length varies."""
    rules = job.settings.constraints(job.dictionary.hop_s, job.spectrum.shape[1])
    return int(np.max((rules.continuity if rules else None) or 1))


def _within_limits(
    lists: tuple[Integers, Integers], first: Entries, job: Job, comparison: Comparison
) -> tuple[Integers, Integers]:
    """The lists with as much of the limited recordings as may sound, and with all of the others.

    The limited entries that stay are those of the grains that would sound after the `first` rounds. Other recordings
    then form grains in the places of the rest from the beginning, rather than leave holes at the end.
    """
    indptr, atoms = lists
    segments = comparison.corpus.recording_ids
    runs = _runs(first, first.contributions, job, comparison)
    kept = runs.only(np.flatnonzero(~beyond_limits(runs, segments, job.limits)))
    limited = np.logical_or.reduce([limit.recordings for limit in job.limits])
    frames = entry_frames(indptr)
    stays = ~limited[segments[atoms]]
    stays |= np.isin(code_of(atoms, frames, len(segments)), code_of(*places(kept), len(segments)))
    return indptr_of(stays, indptr), atoms[stays]


def _check_limits(limits: Sequence[Limit], recordings: Integers) -> None:
    """Refuse limits that leave a part of the mosaic to no recording at all."""
    limited = np.zeros(len(recordings), bool)
    for limit in limits:
        limited |= limit.recordings[recordings]
    shares = sum(limit.share for limit in limits)
    if limits and limited.all() and shares < 1 - 1e-9:
        named = ", ".join(f"{limit.pattern} to {limit.share:.0%}" for limit in limits)
        raise ValueError(
            f"every recording is limited, {named}, together {shares:.0%}, and nothing may fill the rest; allow more, "
            "or leave a limit out"
        )


def listed_steps(
    job: Job, comparison: Comparison, lists: tuple[Integers, Integers], *, rng: np.random.Generator
) -> Iterator[SearchedStep]:
    """The steps of a solver that considers only the places in the lists, `indptr` and `atoms`."""
    settings = job.settings
    entries = _started(comparison, lists, settings, rng)
    step = SearchedStep(0, entries, comparison)
    for i in range(settings.iterations):
        if i % settings.restrict_every == 0:
            strength = (i + 1) / settings.iterations
            entries = entries.with_values(restricted(entries, job, comparison, layers=None, strength=strength))
        entries = entries.with_values(comparison.update(entries))
        step = SearchedStep(i + 1, entries, comparison)
        yield step
        # Entries that have faded out are dropped, to save time.
        entries = entries.only(entries.lists.values > 0)
    if settings.choose == "grains":
        yield from _grain_steps(step, job)
    elif settings.choose == "frames":
        yield from _frame_steps(step, job)


def _grain_steps(step: SearchedStep, job: Job) -> Iterator[SearchedStep]:
    """Whole grains, chosen from `step`; then their gains, refined and smoothed."""
    settings, comparison, done = job.settings, step.comparison, step.iteration
    runs = _chosen(step.entries, job, comparison)
    entries = _kept(step.entries, runs, comparison)
    yield SearchedStep(done + 1, entries, comparison)
    fit = comparison.gains_fit(entries)
    for i in range(settings.refine):
        entries = entries.with_values(fit.improved(entries.lists.values))
        yield SearchedStep(done + 2 + i, entries, comparison)
    if job.smoothing_reach:
        order = np.argsort(code_of(*places(runs), comparison.corpus.n_atoms))
        gains = np.empty_like(entries.lists.values)
        gains[order] = entries.lists.values
        gains = smoothed(gains, runs.lengths, reach=job.smoothing_reach)[order]
        yield SearchedStep(done + 2 + settings.refine, entries.with_values(gains), comparison)


def _frame_steps(step: SearchedStep, job: Job) -> Iterator[SearchedStep]:
    """The strongest source frames of each moment; then their gains, refined."""
    settings, comparison, done = job.settings, step.comparison, step.iteration
    layers = settings.layers_in(job.spectrum.shape[1], job.dictionary.hop_s) or 1
    entries = step.entries.with_values(strongest(step.entries.lists, step.entries.loudness("contribution"), layers))
    entries = entries.only(entries.lists.values > 0)
    yield SearchedStep(done + 1, entries, comparison)
    for i in range(settings.refine):
        # Single frames sound better short of the optimum: see docs/sound.md.
        entries = entries.with_values(comparison.update(entries, 0.0))
        yield SearchedStep(done + 2 + i, entries, comparison)


def _started(
    comparison: Comparison, lists: tuple[Integers, Integers], settings: Settings, rng: np.random.Generator
) -> Entries:
    indptr, atoms = lists
    return comparison.entries(indptr, atoms, (1 - settings.start_spread * rng.random(len(atoms))).astype(np.float32))


def _chosen(entries: Entries, job: Job, comparison: Comparison) -> Runs:
    """The stretches to sound, chosen so that limited recordings stay within their limits.

    The weakest stretches beyond a limit are dropped, and the choice is made again among what is left.
    """
    segments = comparison.corpus.recording_ids
    codes, heard = code_of(entries.lists.atoms, entries.frames, len(segments)), entries.contributions
    while True:
        runs = _runs(entries, heard, job, comparison)
        dropped = beyond_limits(runs, segments, job.limits)
        if not dropped.any():
            return runs
        dropped_codes = code_of(*places(runs.only(np.flatnonzero(dropped))), len(segments))
        heard = np.where(np.isin(codes, dropped_codes), 0, heard)


def _runs(entries: Entries, heard: Floats, job: Job, comparison: Comparison) -> Runs:
    """The stretches to sound without regard to limits; `heard` is the contribution of each entry."""
    allowed = None if job.sketch is None else job.sketch.allowed
    runs = runs_in(
        entries.lists.atoms.astype(np.intp),
        entries.frames.astype(np.intp),
        heard,
        comparison.corpus.recording_ids,
        len(comparison.Vt),
        under_frame_db=job.settings.masking_db,
        allowed=allowed,
    )
    return chosen_among(runs, comparison.corpus.recording_ids, job, allowed=allowed)


def beyond_limits(runs: Runs, segments: Integers, limits: Sequence[Limit]) -> NDArray[np.bool_]:
    """(R,) bools, the weakest stretches of each limited source, those beyond its share of the total length."""
    total, slack = float(runs.lengths.sum()), 1e-9
    dropped = np.zeros(len(runs.lengths), bool)
    if limits and np.logical_or.reduce([limit.recordings for limit in limits]).all():
        # If every recording is limited, the shares must fill the whole; they can only be met to the length of a grain.
        slack = float(runs.lengths.max(initial=0))
    for limit in limits:
        limited = limit.recordings[segments[runs.atoms]]
        strongest = np.flatnonzero(limited)[np.argsort(-runs.energies[limited], kind="stable")]
        # A share is one of the present total, since other stretches will replace those that are dropped.
        dropped[strongest[np.cumsum(runs.lengths[strongest]) > limit.share * total + slack]] = True
    return dropped


def _kept(entries: Entries, runs: Runs, comparison: Comparison) -> Entries:
    """The entries of the given stretches alone, with the values that `smalti.grains.runs.keep_runs` would give."""
    n_atoms, indptr = comparison.corpus.n_atoms, entries.lists.indptr
    atoms, frames = places(runs)
    codes = code_of(atoms, frames, n_atoms)
    order = np.argsort(codes)
    atoms, frames, codes = atoms[order], frames[order], codes[order]
    known = code_of(entries.lists.atoms, entries.frames, n_atoms)
    at = np.minimum(np.searchsorted(known, codes), max(0, len(known) - 1))
    values = np.where(known[at] == codes, entries.lists.values[at], 0) if len(known) else np.zeros(0, np.float32)
    loudest = np.zeros(len(indptr) - 1, np.float32)
    np.maximum.at(loudest, entries.frames, entries.lists.values)
    values = np.maximum(values, np.float32(1e-3) * loudest[frames]).astype(np.float32)
    return comparison.entries(np.searchsorted(frames, np.arange(len(indptr))), atoms.astype(np.int32), values)
