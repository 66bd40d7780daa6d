"""Activations kept as lists instead of a matrix, if a frame has few: Let it Bee, the model, and the update.

The kernels are compiled and loaded when first needed. They run on blocks of frames, with one thread for each core.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, Integers
from smalti._parallel import over_blocks
from smalti.nmf.let_it_bee import PerFrame

T = TypeVar("T")

# Frames of lists in a block; work that costs less per frame has blocks of eight times as many.
LISTED_AT_ONCE = 64


class Lists(NamedTuple):
    """The activations of all frames as lists, in the layout that `smalti.nmf._kernels` describes."""

    indptr: Integers
    atoms: Integers
    values: Floats


def joined(parts: list[tuple[Integers, Integers, Floats]]) -> Lists:
    """The lists of all frames from those of consecutive blocks."""
    counts = [np.diff(indptr) for indptr, _, _ in parts]
    indptr = np.concatenate([np.zeros(1, np.int64), *counts]).cumsum()
    return Lists(indptr, np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts]))


def entry_frames(indptr: Integers) -> Integers:
    """(E,) the target frame of each entry of lists."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def indptr_of(kept: NDArray[np.bool_], indptr: Integers) -> Integers:
    """(N + 1,) where each frame's entries begin if only the entries that are `kept`, (E,) bools, remain."""
    counted: Integers = np.concatenate([[0], np.cumsum(kept)])[indptr]
    return counted


# --- Let it Bee


def restrict(
    lists: Lists,
    recording_ids: Integers,
    loudness: Floats,
    *,
    repetition: int | None,
    polyphony: PerFrame | None,
    continuity: PerFrame | None,
    strength: float,
) -> Floats:
    """(E,) activations after the rules of Let it Bee, as far as the lists reach.

    Parameters
    ----------
    lists : E entries. recording_ids : (K,) int32, diagonals end where they change.
    loudness : (E,) factors of the activations where `polyphony` ranks them.
    repetition, polyphony, continuity, strength : see `smalti.nmf.let_it_bee.LetItBee`.
    """
    from smalti.nmf import _kernels

    indptr, atoms, values = lists
    keep, n_frames = 1 - strength, len(indptr) - 1
    # The kernel looks `loudness` up by atom, but it belongs to entries: so entry numbers are passed as atoms.
    numbers = np.arange(len(atoms), dtype=np.int32)
    thinned, out = values.copy(), values.copy()

    def thin(n: slice) -> None:
        if repetition:
            _kernels.list_repetition(indptr, atoms, values, n.start, n.stop, repetition, keep, thinned)
        for first, last, most in _stretches(polyphony or 0, n):
            if most:
                _kernels.list_polyphony(indptr, numbers, thinned, loudness, first, last, most, keep, thinned)

    over_blocks(thin, n_frames, size=8 * LISTED_AT_ONCE)
    if continuity is None:
        return thinned

    def sum_up(n: slice) -> None:
        for first, last, reach in _stretches(continuity, n):
            _kernels.list_continuity(indptr, atoms, thinned, recording_ids, first, last, reach, out)

    # Continuity reads the frames of other blocks, so all blocks must be thinned out before.
    over_blocks(sum_up, n_frames, size=8 * LISTED_AT_ONCE)
    return out


def strongest(lists: Lists, loudness: Floats, layers: PerFrame) -> Floats:
    """(E,) activations, of which each frame keeps the `layers` with the largest products with `loudness` (E,)."""
    from smalti.nmf import _kernels

    out, numbers = np.empty_like(lists.values), np.arange(len(lists.values), dtype=np.int32)
    for first, last, most in _stretches(layers, slice(0, len(lists.indptr) - 1)):
        _kernels.list_polyphony(lists.indptr, numbers, lists.values, loudness, first, last, most, 0.0, out)
    return out


def _stretches(value: PerFrame, block: slice) -> Iterator[tuple[int, int, int]]:
    """Yield the stretches of a block of frames in which a value is constant: first frame, end, and value."""
    if not isinstance(value, tuple):
        yield block.start, block.stop, value
        return
    first = block.start
    for constant, frames in groupby(value[block]):
        last = first + len(list(frames))
        yield first, last, constant
        first = last


def best_diagonals(lists: Lists, recording_ids: Integers, *, n: int, reach: int) -> NDArray[np.int64]:
    """(N, n) the atoms of each frame whose diagonals have the largest sums, -1 where there are no more.

    Parameters
    ----------
    lists : entries whose values are summed along diagonals, `reach` frames to either side.
    recording_ids : (K,) int32. n : atoms for each frame; they lie further apart than `reach`.
    """
    from smalti.nmf import _kernels, _kernels_f16

    indptr, atoms, values = lists
    along, best = np.empty_like(values), np.empty((len(indptr) - 1, n), np.int64)

    def work(block: slice) -> None:
        at = block.start, block.stop
        _kernels.list_continuity(indptr, atoms, values, recording_ids, *at, reach, along)
        _kernels_f16.diverse(indptr, atoms, along, *at, reach, best[block])

    over_blocks(work, len(best), size=LISTED_AT_ONCE)
    return best


# --- the model and its update


@dataclass(frozen=True, eq=False)
class HalfAtoms:
    """Atoms in half precision, for activations that are lists.

    Attributes
    ----------
    bits : (R, B) uint16, the bits of float16 magnitudes, a row for each atom.
    gains : (B,) float32, the factor of each band. floor : added to every model, before the gains.
    """

    bits: NDArray[np.uint16]
    gains: Floats
    floor: float

    def statistics(self, rows: Integers) -> tuple[Floats, Floats]:
        """(E,) float32 sums and norms of the rows of entries, weighed by the gains."""
        from smalti.nmf import _kernels_f16

        sums, norms = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)

        def work(e: slice) -> None:
            _kernels_f16.feature_statistics(self.bits, rows[e], self.gains, sums[e], norms[e])

        over_blocks(work, len(rows), size=4096)
        return sums, norms

    def update(self, Vt: Floats, lists: Lists, rows: Integers, scales: Floats, sums: Floats, *, least: float) -> Floats:
        """(E,) activations after one multiplicative update towards Vt (N, B), with beta 1.

        Parameters
        ----------
        Vt : weighed by the gains. rows, scales : (E,) the row of each entry, and the factor of the row.
        sums : from `statistics`. least : entries below this share of the largest in their frame become 0.
        """
        from smalti.nmf import _kernels_f16

        indptr, _, values = lists
        out = np.empty_like(values)

        def work(n: slice) -> None:
            part = indptr[n.start : n.stop + 1]
            _kernels_f16.feature_update(
                Vt[n], self.bits, self.gains, part, rows, scales, sums, values, self.floor, least, out
            )

        over_blocks(work, len(Vt), size=LISTED_AT_ONCE)
        return out

    def over_models(
        self, Vt: Floats, lists: Lists, rows: Integers, scales: Floats, work: Callable[[slice, Floats], T]
    ) -> list[T]:
        """Call `work` on each block of frames of Vt (N, B) and its models, (n, B); return its results in order."""
        from smalti.nmf import _kernels_f16

        def model(n: slice) -> T:
            Y = np.empty_like(Vt[n])
            part = lists.indptr[n.start : n.stop + 1]
            _kernels_f16.feature_model(self.bits, self.gains, part, rows, scales, lists.values, self.floor, Y)
            return work(n, Y)

        return over_blocks(model, len(Vt), size=8 * LISTED_AT_ONCE)
