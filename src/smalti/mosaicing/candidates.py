"""Which source frames each target frame considers, where the source is searched."""

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, Integers
from smalti.grains.nearest import EXACT_BELOW, nearest
from smalti.mosaicing.compare import Comparison
from smalti.nmf.lists import Lists, best_diagonals

# Hits of a query from which stretches are picked.
HITS = 256
# Keys that are looked at for the groups of frames in which a sketch lets other things sound, as many groups as go in.
SKETCHED_KEYS = 2**25


# --- what is considered


def found(comparison: Comparison, of: Floats, allowed: NDArray[np.bool_], *, n: int, reach: int) -> Integers:
    """Candidates: the source frames around which stretches are most like the target, or like the rest of it.

    Parameters
    ----------
    of : (N, B) magnitudes to look for. allowed : (K,) bools. n : how many for each frame.
    reach : how many frames before and after count, too, if source and target go on alike.

    Returns
    -------
    (N, n) integers: atoms that lie further apart than `reach`, the best first, -1 where there are no more.
    """
    hits, scores = sketched_hits(comparison, comparison.queries(of), allowed)
    order = np.argsort(hits, axis=1)
    hits, scores = np.take_along_axis(hits, order, axis=1), np.take_along_axis(scores, order, axis=1)
    there = hits >= 0
    # Weight the scores so that preferred recordings rank higher. Padding entries (-1) are masked below.
    scores = np.where(there, scores, 0) * comparison.weights_at(hits, np.arange(len(hits))[:, None])
    indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    # Shift scores so that each frame's worst real hit is 0.
    scores = scores - np.where(there, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    atoms, values = hits[there].astype(np.int32), scores[there].astype(np.float32)
    return best_diagonals(Lists(indptr, atoms, values), comparison.segments, n=n, reach=reach)


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
    index = None if n_allowed <= EXACT_BELOW else corpus.index
    if index is None:
        return nearest(corpus.descriptors, queries, HITS, allowed=allowed)
    # The index holds all frames of the corpus, also those that the filters leave out.
    rows = np.zeros(index.ntotal, bool)
    rows[corpus.rows[allowed]] = True
    atoms = np.full(len(rows), -1, np.int64)
    atoms[corpus.rows] = np.arange(corpus.n_atoms)
    hits, scores = nearest(corpus.descriptors, queries, HITS, index=index, allowed=None if rows.all() else rows)
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
    indptr, atoms : see `smalti.nmf._kernels`.
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


def code_of(atoms: Integers, frames: Integers, n_atoms: int) -> NDArray[np.int64]:
    """One number for each place of H, rising as lists do."""
    codes: NDArray[np.int64] = frames * np.int64(n_atoms) + atoms
    return codes
