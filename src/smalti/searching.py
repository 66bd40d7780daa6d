"""The steps of a solver that searches: of hours of source, each moment of the target considers a few dozen frames.

The target's frames are looked up in a corpus, what is still missing is looked up again, and Let it Bee and the choice
of whole grains go on among what was found. Nothing here is as large as source frames times target frames.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TypeVar

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from smalti._checks import Floats, Integers
from smalti.activations import Seed
from smalti.choosing import Limit
from smalti.constraints import PerFrame
from smalti.corpus import Corpus, keys_of
from smalti.divergence import beta_divergence, noise_floor
from smalti.engine import Lists
from smalti.exact import GainFit
from smalti.grains import Runs, places, runs_in, smoothed
from smalti.jobs import Job, chosen_among, may_sound
from smalti.search import EXACT_BELOW, nearest
from smalti.settings import Settings
from smalti.sketching import Sketch
from smalti.steps import Step
from smalti.views import stack, view_gains, views
from smalti.workers import over_blocks

T = TypeVar("T")

# Hits of a query from which stretches are picked.
HITS = 256
# Rounds after which what is missing is looked up.
FIRST_ROUNDS = 10
# Before that, so many layers stand for what will sound.
FIRST_LAYERS = 2
# What is missing counts at most so many times what is there.
MOST_MISSING = 8.0
# Entries that come to less than this share of their frame's largest are dropped.
LEAST = 1e-4
# Frames of a block.
FRAMES = 64
# Keys that are looked at for the groups of frames in which a sketch lets other things sound, as many groups as go in.
SKETCHED_KEYS = 2**25


def _frames_of(indptr: Integers) -> Integers:
    """(E,) the target frame of each entry of lists."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def _indptr_of(kept: NDArray[np.bool_], indptr: Integers) -> Integers:
    """(N + 1,) where each frame's entries begin once those are left that are `kept`, (E,) bools."""
    counted: Integers = np.concatenate([[0], np.cumsum(kept)])[indptr]
    return counted


@dataclass(frozen=True, eq=False)
class Entries:
    """Lists of what may sound, and what is known of each entry.

    Attributes
    ----------
    lists : E entries; see `smalti.compiled`.
    rows, scales : (E,) their rows of the corpus's looks, and what these are to be multiplied by.
    sums, norms : (E,) float32 of the looks, weighed by the gains of the bands, before they are scaled.
    weights : (E,) float32, how much their recordings count, and they themselves by a sketch.
    """

    lists: Lists
    rows: Integers
    scales: Floats
    sums: Floats
    norms: Floats
    weights: Floats

    def loudness(self, rank: str) -> Floats:
        """(E,) what activations are ranked by: as `smalti.constraints.LetItBee` says, times the weights."""
        norms: Floats = self.scales * self.norms
        return self.weights * {"h": np.ones_like(norms), "contribution": norms, "energy": norms**2}[rank]

    def with_values(self, values: Floats) -> "Entries":
        return replace(self, lists=self.lists._replace(values=values))

    def only(self, kept: NDArray[np.bool_]) -> "Entries":
        """Those of (E,) bools."""
        indptr, atoms, values = self.lists
        lists = Lists(_indptr_of(kept, indptr), atoms[kept], values[kept])
        return Entries(lists, self.rows[kept], self.scales[kept], self.sums[kept], self.norms[kept], self.weights[kept])

    @property
    def frames(self) -> Integers:
        """(E,) the target frame of each entry."""
        return _frames_of(self.lists.indptr)

    @property
    def contributions(self) -> Floats:
        """(E,) how much each entry counts: its activation times the norm of its atom, and its weight."""
        return self.lists.values * self.loudness("contribution")


@dataclass(frozen=True, eq=False)
class Comparison:
    """A target and a corpus as they are compared, and the fit of lists to the one.

    Attributes
    ----------
    corpus : the source.
    seen : the target's views. V : (N, B) float32, the same side by side, at their gains.
    gains : (B,) float32, of the bands.
    weights : (R,) float32, how much each recording counts.
    sketch : what may sound when, and how much it counts; None for everything alike.
    """

    corpus: Corpus
    seen: list[Floats]
    V: Floats
    gains: Floats
    weights: Floats
    sketch: Sketch | None = None

    @classmethod
    def of(cls, job: Job, corpus: Corpus) -> "Comparison":
        hop, sr = corpus.params.hop, corpus.sr
        seen = views(job.target, np.arange(job.spectrum.shape[1]) * hop, hop, sr)
        weights = view_gains(seen)
        gains = np.repeat(weights, [len(view) for view in seen]).astype(np.float32)
        V = np.ascontiguousarray(stack(seen, weights).T, np.float32)
        even = np.ones(len(corpus.recordings)) if job.weights is None else job.weights
        return cls(corpus, seen, V, gains, np.asarray(even, np.float32), job.sketch)

    @cached_property
    def floor(self) -> float:
        """Of models, before the gains."""
        return noise_floor(self.V) / max(float(self.gains.max()), float(np.finfo(np.float32).tiny))

    @cached_property
    def bits(self) -> NDArray[np.uint16]:
        """The corpus's looks, for the kernels."""
        return self.corpus.looks.view(np.uint16)

    @cached_property
    def segments(self) -> Integers:
        return self.corpus.segments.astype(np.int32)

    def segments_at(self, atoms: Integers) -> Integers:
        """The recording of each atom, whatever for those that are -1."""
        return self.corpus.segments[np.maximum(atoms, 0)]

    def weights_at(self, atoms: Integers, frames: Integers) -> Floats:
        """How much places count, by their atoms and frames, of one shape; whatever for atoms that are -1."""
        weights: Floats = self.weights[self.segments_at(atoms)]
        return weights if self.sketch is None else weights * self.sketch.at(atoms, frames)

    def queries(self, of: Floats) -> Floats:
        """(N, D) keys of magnitudes (N, B) as `V` has them."""
        looks = np.divide(of, self.gains, out=np.zeros_like(of), where=self.gains > 0)
        keys: Floats = keys_of(looks, [len(view) for view in self.seen]).astype(np.float32)
        return keys

    def entries(self, indptr: Integers, atoms: Integers, values: Floats) -> Entries:
        from smalti import compiled_search

        rows = self.corpus.rows[atoms]
        sums, norms = np.empty(len(atoms), np.float32), np.empty(len(atoms), np.float32)

        def work(e: slice) -> None:
            compiled_search.look_statistics(self.bits, rows[e], self.gains, sums[e], norms[e])

        over_blocks(work, len(atoms), size=4096)
        weights = self.weights_at(atoms, _frames_of(indptr))
        return Entries(Lists(indptr, atoms, values), rows, self.corpus.scales[atoms], sums, norms, weights)

    def update(self, entries: Entries, least: float = LEAST) -> Floats:
        """(E,) what one multiplicative update makes of the activations."""
        from smalti import compiled_search

        values, out = entries.lists.values, np.empty_like(entries.lists.values)

        def work(n: slice) -> None:
            compiled_search.look_update(
                self.V[n],
                self.bits,
                self.gains,
                entries.lists.indptr[n.start : n.stop + 1],
                entries.rows,
                entries.scales,
                entries.sums,
                values,
                self.floor,
                least,
                out,
            )

        over_blocks(work, len(self.V), size=FRAMES)
        return out

    def gains_fit(self, entries: Entries) -> GainFit:
        """What refines the gains of the few entries that were chosen."""
        indptr, atoms, _ = entries.lists
        _, first, places = np.unique(atoms, return_index=True, return_inverse=True)
        columns = self.corpus.looks[entries.rows[first]].astype(np.float32)
        columns *= entries.scales[first, None] * self.gains
        return GainFit.over(self.V, columns, indptr.astype(np.int64), atoms.astype(np.intp), places)

    def by_block(self, entries: Entries, work: Callable[[slice, Floats], T]) -> list[T]:
        """What `work` makes of each block of frames and its models, (n, B)."""
        from smalti import compiled_search

        def of(n: slice) -> T:
            Y = np.empty_like(self.V[n])
            compiled_search.look_model(
                self.bits,
                self.gains,
                entries.lists.indptr[n.start : n.stop + 1],
                entries.rows,
                entries.scales,
                entries.lists.values,
                self.floor,
                Y,
            )
            return work(n, Y)

        return over_blocks(of, len(self.V), size=8 * FRAMES)

    def divergence(self, entries: Entries) -> float:
        return sum(self.by_block(entries, lambda n, Y: beta_divergence(self.V[n], Y)))

    def missing(self, entries: Entries) -> Floats:
        """(N, B): the target, weighed by how many times it is what the model has of it."""
        out = np.empty_like(self.V)

        def work(n: slice, Y: Floats) -> None:
            ratio = np.divide(self.V[n], Y, out=np.zeros_like(Y), where=Y > 0)
            out[n] = self.V[n] * np.minimum(ratio, MOST_MISSING)

        self.by_block(entries, work)
        return out


class SearchedStep(Step):
    """A step whose activations are of what was found: `entries`, and H (K, N) a scipy.sparse CSC."""

    entries: Entries
    comparison: Comparison

    def __init__(self, iteration: int, entries: Entries, comparison: Comparison) -> None:
        # As a frozen dataclass sets its own.
        for name, value in (("iteration", iteration), ("entries", entries), ("comparison", comparison)):
            object.__setattr__(self, name, value)

    @cached_property
    def H(self) -> scipy.sparse.csc_array:
        indptr, atoms, values = self.entries.lists
        return scipy.sparse.csc_array((values, atoms, indptr), shape=(self.comparison.corpus.n_atoms, len(indptr) - 1))

    @cached_property
    def divergence(self) -> float:
        return self.comparison.divergence(self.entries)


# --- what is considered


def found(comparison: Comparison, of: Floats, allowed: NDArray[np.bool_], *, n: int, reach: int) -> Integers:
    """Where stretches of source might lie that are like the target, or like what is missing of it.

    Parameters
    ----------
    of : (N, B) magnitudes to look for. allowed : (K,) bools. n : how many for each frame.
    reach : how many frames before and after count, too, if source and target go on alike.

    Returns
    -------
    (N, n) integers: atoms that lie further apart than `reach`, the best first, -1 where there are no more.
    """
    from smalti import compiled, compiled_search

    hits, scores = sketched_hits(comparison, comparison.queries(of), allowed)
    order = np.argsort(hits, axis=1)
    hits, scores = np.take_along_axis(hits, order, axis=1), np.take_along_axis(scores, order, axis=1)
    there = hits >= 0
    # What counts more is found sooner, too. What is not there has whatever score.
    scores = np.where(there, scores, 0) * comparison.weights_at(hits, np.arange(len(hits))[:, None])
    indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    # What is no hit is worse than all that are; so much better than that is each.
    scores = scores - np.where(there, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    atoms, values = hits[there].astype(np.int32), scores[there].astype(np.float32)
    along, best = np.empty_like(values), np.empty((len(hits), n), np.int64)

    def work(block: slice) -> None:
        at = block.start, block.stop
        compiled.list_continuity(indptr, atoms, values, comparison.segments, *at, reach, along)
        compiled_search.diverse(indptr, atoms, along, *at, reach, best[block])

    over_blocks(work, len(hits), size=FRAMES)
    return best


def sketched_hits(
    comparison: Comparison, queries: Floats, allowed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """`hits_of`, each frame's among what its sketch lets sound."""
    sketch = comparison.sketch
    if sketch is None:
        return hits_of(comparison, queries, allowed)
    hits, scores = np.full((len(queries), HITS), -1, np.int64), np.zeros((len(queries), HITS), np.float32)
    most = max(1, SKETCHED_KEYS // comparison.corpus.n_atoms)
    for frames, may in sketch.by_what_may_sound(most):
        if (pool := allowed & may).any():
            found_, scored = hits_of(comparison, queries[frames], pool)
            hits[frames, : found_.shape[1]], scores[frames, : found_.shape[1]] = found_, scored
    return np.where(sketch.allowed(hits, np.arange(len(hits))[:, None]), hits, -1), scores


def hits_of(
    comparison: Comparison, queries: Floats, allowed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Atoms, (N, m), -1 where there are no more, and how near their keys are to each query."""
    corpus = comparison.corpus
    n_allowed = np.count_nonzero(allowed)
    if corpus.index is None or n_allowed <= EXACT_BELOW:
        return nearest(corpus.keys, queries, HITS, allowed=allowed)
    # What is filed are all frames that the corpus has, whatever is left out today.
    rows = np.zeros(corpus.index.ntotal, bool)
    rows[corpus.rows[allowed]] = True
    atoms = np.full(len(rows), -1, np.int64)
    atoms[corpus.rows] = np.arange(corpus.n_atoms)
    hits, scores = nearest(corpus.keys, queries, HITS, index=corpus.index, allowed=None if rows.all() else rows)
    return np.where(hits >= 0, atoms[hits], -1), scores


def along_diagonals(
    anchors: Integers, segments: Integers, allowed: NDArray[np.bool_], reach: int
) -> tuple[Integers, Integers]:
    """The lists of all that stretches through anchors would hold.

    Parameters
    ----------
    anchors : (N, n) integers, atoms for each frame, or -1. segments : (K,). allowed : (K,) bools.
    reach : frames to either side that a stretch goes on for, within its recording.

    Returns
    -------
    indptr, atoms : see `smalti.compiled`.
    """
    n_frames, n_atoms = len(anchors), len(segments)
    frames, which = np.nonzero(anchors >= 0)
    atoms = anchors[frames, which]
    codes = []
    for step in range(-reach, reach + 1):
        at, of = frames + step, atoms + step
        inside = (at >= 0) & (at < n_frames) & (of >= 0) & (of < n_atoms)
        at, of, own = at[inside], of[inside], atoms[inside]
        kept = (segments[of] == segments[own]) & allowed[of]
        codes.append(code_of(of[kept], at[kept], n_atoms))
    frames, atoms = np.divmod(np.unique(np.concatenate(codes)), n_atoms)
    return np.searchsorted(frames, np.arange(n_frames + 1)), atoms.astype(np.int32)


def restricted(entries: Entries, job: Job, comparison: Comparison, *, layers: int | None, strength: float) -> Floats:
    """(E,) activations after the rules of Let it Bee, as far as the lists reach.

    `layers` stands for the settings' own candidates, if given.
    """
    from smalti import compiled

    indptr, atoms, values = entries.lists
    rules = job.settings.constraints(job.dictionary.hop_s, len(indptr) - 1)
    if rules is None:
        return values
    polyphony, keep, n_frames = layers or rules.polyphony, 1 - strength, len(indptr) - 1
    # Of each entry, not of each of all atoms: to the kernel, its number is its atom.
    numbers, loud = np.arange(len(atoms), dtype=np.int32), entries.loudness(rules.rank)
    thinned, out = values.copy(), values.copy()

    def thin(n: slice) -> None:
        if rules.repetition:
            compiled.list_repetition(indptr, atoms, values, n.start, n.stop, rules.repetition, keep, thinned)
        for first, last, most in _alike(polyphony or 0, n):
            if most:
                compiled.list_polyphony(indptr, numbers, thinned, loud, first, last, most, keep, thinned)

    over_blocks(thin, n_frames, size=8 * FRAMES)
    reach = rules.continuity
    if reach is None:
        return thinned

    def sum_up(n: slice) -> None:
        for first, last, far in _alike(reach, n):
            compiled.list_continuity(indptr, atoms, thinned, comparison.segments, first, last, far, out)

    # Continuity looks into the frames of other blocks, so that all have to be thinned out before.
    over_blocks(sum_up, n_frames, size=8 * FRAMES)
    return out


def _alike(value: PerFrame, block: slice) -> Iterator[tuple[int, int, int]]:
    """The stretches of a block of frames in which a value stays the same: their first frames, their ends, the value."""
    if not isinstance(value, tuple):
        yield block.start, block.stop, value
        return
    first = block.start
    for of, frames in groupby(value[block]):
        last = first + len(list(frames))
        yield first, last, of
        first = last


# --- the steps


def searched_steps(job: Job, corpus: Corpus, *, rng: Seed) -> Iterator[Step]:
    """As `smalti.mosaicing.solve_steps`, of a corpus in which what to consider is looked up."""
    settings = job.settings
    comparison, allowed = Comparison.of(job, corpus), may_sound(corpus, settings)
    allowed &= (comparison.weights > 0)[corpus.segments]
    if not allowed.any():
        raise ValueError("every recording that sounds has weight 0; give one of them more")
    _check_limits(job.limits, np.unique(corpus.segments[allowed]))
    reach, generator = reach_of(job), np.random.default_rng(rng)
    # What is limited must leave something to take its places.
    pools = [allowed, *(allowed & ~limit.recordings[corpus.segments] for limit in job.limits)]
    pools = [pool for pool in (*pools, np.logical_and.reduce(pools))[: None if job.limits else 1] if pool.any()]

    def found_in_all(of: Floats) -> Integers:
        return np.concatenate(
            [found(comparison, of, pool, n=settings.shortlist, reach=reach) for pool in pools], axis=1
        )

    def lists_of(anchors: Integers) -> tuple[Integers, Integers]:
        indptr, atoms = along_diagonals(anchors, corpus.segments, allowed, reach)
        if job.sketch is None:
            return indptr, atoms
        may = job.sketch.allowed(atoms, _frames_of(indptr))
        if not may.any():
            raise ValueError("the sketch forbids everything that sounds; leave something of the source to some moment")
        return _indptr_of(may, indptr), atoms[may]

    anchors = found_in_all(comparison.V)
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
    """Frames to either side of one that a stretch of the wanted length goes on for; where that varies, the most."""
    rules = job.settings.constraints(job.dictionary.hop_s, job.spectrum.shape[1])
    return int(np.max((rules.continuity if rules else None) or 1))


def _within_limits(
    lists: tuple[Integers, Integers], first: Entries, job: Job, comparison: Comparison
) -> tuple[Integers, Integers]:
    """The lists without what is limited, but for as much of it as may sound of what sounds after the `first` rounds.

    Others then form grains in its places from the beginning, rather than leave holes at the end.
    """
    indptr, atoms = lists
    segments = comparison.corpus.segments
    runs = _runs(first, first.contributions, job, comparison)
    kept = runs.only(np.flatnonzero(~beyond_limits(runs, segments, job.limits)))
    limited = np.logical_or.reduce([limit.recordings for limit in job.limits])
    frames = _frames_of(indptr)
    stays = ~limited[segments[atoms]]
    stays |= np.isin(code_of(atoms, frames, len(segments)), code_of(*places(kept), len(segments)))
    return _indptr_of(stays, indptr), atoms[stays]


def _check_limits(limits: Sequence[Limit], recordings: Integers) -> None:
    """Refuse limits that leave a part of the mosaic to nothing at all."""
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
) -> Iterator[Step]:
    """The steps of a solver that considers what is in the lists, `indptr` and `atoms`, and nothing else."""
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
        # What has faded out takes no more time.
        entries = entries.only(entries.lists.values > 0)
    if settings.choose == "grains":
        yield from _grain_steps(step, job)
    elif settings.choose == "frames":
        yield from _frame_steps(step, job)


def _grain_steps(step: SearchedStep, job: Job) -> Iterator[Step]:
    """Whole grains, chosen from `step`; then their gains, refined and smoothed."""
    settings, comparison, done = job.settings, step.comparison, step.iteration
    runs = _chosen(step.entries, job, comparison)
    entries = _kept(step.entries, runs, comparison)
    yield SearchedStep(done + 1, entries, comparison)
    fit = comparison.gains_fit(entries)
    for i in range(settings.refine):
        entries = entries.with_values(fit.improved(entries.lists.values))
        yield SearchedStep(done + 2 + i, entries, comparison)
    reach = round(settings.smooth_gains_s / job.dictionary.hop_s)
    if reach:
        order = np.argsort(code_of(*places(runs), comparison.corpus.n_atoms))
        gains = np.empty_like(entries.lists.values)
        gains[order] = entries.lists.values
        gains = smoothed(gains, runs.lengths, reach=reach)[order]
        yield SearchedStep(done + 2 + settings.refine, entries.with_values(gains), comparison)


def _frame_steps(step: SearchedStep, job: Job) -> Iterator[Step]:
    """The strongest source frames of each moment; then their gains, refined."""
    settings, comparison, done = job.settings, step.comparison, step.iteration
    layers = settings.layers_in(job.spectrum.shape[1], job.dictionary.hop_s) or 1
    entries = step.entries.with_values(_strongest(step.entries, layers))
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


def _strongest(entries: Entries, layers: PerFrame) -> Floats:
    """(E,) activations, 0 but for the `layers` that are heard most of each frame."""
    from smalti import compiled

    out, values = np.empty_like(entries.lists.values), entries.lists.values
    numbers, loud = np.arange(len(values), dtype=np.int32), entries.loudness("contribution")
    n_frames = len(entries.lists.indptr) - 1
    for first, last, most in _alike(layers, slice(0, n_frames)):
        compiled.list_polyphony(entries.lists.indptr, numbers, values, loud, first, last, most, 0.0, out)
    return out


def _chosen(entries: Entries, job: Job, comparison: Comparison) -> Runs:
    """The stretches to sound, of which none takes more than its limit.

    Where one does, its weakest stretches give way, and the choice is made again among what is left.
    """
    segments = comparison.corpus.segments
    codes, heard = code_of(entries.lists.atoms, entries.frames, len(segments)), entries.contributions
    while True:
        runs = _runs(entries, heard, job, comparison)
        dropped = beyond_limits(runs, segments, job.limits)
        if not dropped.any():
            return runs
        gone = code_of(*places(runs.only(np.flatnonzero(dropped))), len(segments))
        heard = np.where(np.isin(codes, gone), 0, heard)


def _runs(entries: Entries, heard: Floats, job: Job, comparison: Comparison) -> Runs:
    """The stretches to sound, of entries that are `heard` so much, whatever the limits."""
    allowed = None if job.sketch is None else job.sketch.allowed
    runs = runs_in(
        entries.lists.atoms.astype(np.intp),
        entries.frames.astype(np.intp),
        heard,
        comparison.corpus.segments,
        len(comparison.V),
        under_frame_db=job.settings.masking_db,
        allowed=allowed,
    )
    return chosen_among(runs, comparison.corpus.segments, job, allowed=allowed)


def beyond_limits(runs: Runs, segments: Integers, limits: Sequence[Limit]) -> NDArray[np.bool_]:
    """(R,) bools: the weakest stretches of each limited source that are too much of it, by time."""
    total, slack = float(runs.lengths.sum()), 1e-9
    dropped = np.zeros(len(runs.lengths), bool)
    if limits and np.logical_or.reduce([limit.recordings for limit in limits]).all():
        # Where each has a share and these fill the whole, none can be met to the frame, but to a grain.
        slack = float(runs.lengths.max(initial=0))
    for limit in limits:
        limited = limit.recordings[segments[runs.atoms]]
        strongest = np.flatnonzero(limited)[np.argsort(-runs.energies[limited], kind="stable")]
        # Of all there is now: what is dropped, others will take the place of, as far as they can.
        dropped[strongest[np.cumsum(runs.lengths[strongest]) > limit.share * total + slack]] = True
    return dropped


def code_of(atoms: Integers, frames: Integers, n_atoms: int) -> NDArray[np.int64]:
    """One number for each place of H, rising as lists do."""
    codes: NDArray[np.int64] = frames * np.int64(n_atoms) + atoms
    return codes


def _kept(entries: Entries, runs: Runs, comparison: Comparison) -> Entries:
    """The entries of the given stretches, and those alone; as `smalti.grains.keep_runs`."""
    n_atoms, indptr = comparison.corpus.n_atoms, entries.lists.indptr
    atoms, frames = places(runs)
    codes = code_of(atoms, frames, n_atoms)
    order = np.argsort(codes)
    atoms, frames, codes = atoms[order], frames[order], codes[order]
    had = code_of(entries.lists.atoms, entries.frames, n_atoms)
    at = np.minimum(np.searchsorted(had, codes), max(0, len(had) - 1))
    values = np.where(had[at] == codes, entries.lists.values[at], 0) if len(had) else np.zeros(0, np.float32)
    loudest = np.zeros(len(indptr) - 1, np.float32)
    np.maximum.at(loudest, entries.frames, entries.lists.values)
    values = np.maximum(values, np.float32(1e-3) * loudest[frames]).astype(np.float32)
    return comparison.entries(np.searchsorted(frames, np.arange(len(indptr))), atoms.astype(np.int32), values)
