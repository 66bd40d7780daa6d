"""Look up the source frames that each target frame considers, in a source that is searched."""

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, Integers
from smalti.grains.nearest import EXACT_BELOW, nearest
from smalti.mosaicing.compare import Comparison
from smalti.nmf.lists import Lists, best_diagonals

# Hits that each query looks up; the stretches are picked among them. A hit takes so many bytes: its atom and its score,
# and its place in their order.
HITS, HIT_BYTES = 256, 16
# Bytes that the lists of a target frame take: some 250 entries of 32 bytes, with the default settings.
LISTED_BYTES = 8192
# A sketch splits the frames into groups, each of which searches all atoms. This bounds groups times atoms.
SKETCHED_KEYS = 2**25


# --- what is considered


def found(comparison: Comparison, magnitudes: Floats, allowed: NDArray[np.bool_], *, n: int, reach: int) -> Integers:
    """The candidates of each frame: the source frames around which a stretch is most like `magnitudes`.

    Parameters
    ----------
    magnitudes : (N, B) to look for, as `Comparison.Vt` has them: the target, or what is missing of it.
    allowed : (K,) bools, the atoms to choose from. n : candidates for each frame.
    reach : frames before and after that count, too, as far as source and target go on alike.

    Returns
    -------
    (N, n) int64: atoms that lie further apart than `reach`, the best first, -1 where there are no more.
    """
    hits, scores = sketched_hits(comparison, comparison.queries(magnitudes), allowed)
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
    """`hits_of`, but each frame only gets atoms that the sketch allows there."""
    sketch = comparison.sketch
    if sketch is None:
        return hits_of(comparison, queries, allowed)
    hits, scores = np.full((len(queries), HITS), -1, np.int64), np.zeros((len(queries), HITS), np.float32)
    most = max(1, SKETCHED_KEYS // comparison.corpus.n_atoms)
    for frames, may_sound in sketch.by_what_may_sound(most):
        if (pool := allowed & may_sound).any():
            group_hits, group_scores = hits_of(comparison, queries[frames], pool)
            hits[frames, : group_hits.shape[1]], scores[frames, : group_scores.shape[1]] = group_hits, group_scores
    return np.where(sketch.allowed(hits, np.arange(len(hits))[:, None]), hits, -1), scores


def hits_of(
    comparison: Comparison, queries: Floats, allowed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The atoms nearest to each query, (N, m), -1 where there are no more, and how near they are, (N, m) float32."""
    corpus = comparison.corpus
    n_allowed = np.count_nonzero(allowed)
    index = None if n_allowed <= EXACT_BELOW else corpus.index
    if index is None:
        return nearest(corpus.descriptors, queries, HITS, allowed=allowed)
    # The index holds all frames of the corpus, including those that the filters leave out.
    rows = np.zeros(index.ntotal, bool)
    rows[corpus.rows[allowed]] = True
    atoms = np.full(len(rows), -1, np.int64)
    atoms[corpus.rows] = np.arange(corpus.n_atoms)
    hits, scores = nearest(corpus.descriptors, queries, HITS, index=index, allowed=None if rows.all() else rows)
    return np.where(hits >= 0, atoms[hits], -1), scores


def along_diagonals(
    anchors: Integers, segments: Integers, allowed: NDArray[np.bool_], reach: int
) -> tuple[Integers, Integers]:
    """The lists of all atoms in the stretches through some anchors.

    Parameters
    ----------
    anchors : (N, n) integers, the atoms of each frame, or -1. segments : (K,) integers, the recording of each atom.
    allowed : (K,) bools, the atoms that may sound.
    reach : frames that a stretch goes on for to either side, within its recording.

    Returns
    -------
    indptr, atoms : (N + 1,) int64 and (E,) int32; see `smalti.nmf._kernels`.
    """
    n_frames, n_atoms = len(anchors), len(segments)
    frames, columns = np.nonzero(anchors >= 0)
    atoms = anchors[frames, columns]
    codes = []
    for step in range(-reach, reach + 1):
        at, moved = frames + step, atoms + step
        inside = (at >= 0) & (at < n_frames) & (moved >= 0) & (moved < n_atoms)
        at, moved, anchor = at[inside], moved[inside], atoms[inside]
        kept = (segments[moved] == segments[anchor]) & allowed[moved]
        codes.append(code_of(moved[kept], at[kept], n_atoms))
    frames, atoms = np.divmod(np.unique(np.concatenate(codes)), n_atoms)
    return np.searchsorted(frames, np.arange(n_frames + 1)), atoms.astype(np.int32)


def code_of(atoms: Integers, frames: Integers, n_atoms: int) -> NDArray[np.int64]:
    """A number for each place of H, which rises in the order of lists: by frame, then by atom."""
    codes: NDArray[np.int64] = frames * np.int64(n_atoms) + atoms
    return codes
