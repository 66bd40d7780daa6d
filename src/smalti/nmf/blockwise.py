"""Kullback-Leibler updates and Let it Bee at the speed of their matrix products, for large jobs.

The result is that of `smalti.nmf.multiplicative.steps_of` with `SpectralFit` and `LetItBee.apply`, apart from rounding.
Three things make it fast. H lies time-major, (N, K), so every restriction is a pass over contiguous memory. A thread
takes a block of target frames all the way from the restrictions to the update. And once few activations are left, lists
of them replace the matrix.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar, cast

import numpy as np

from smalti._checks import Floats, Integers
from smalti._parallel import over_blocks
from smalti.nmf.base import Step
from smalti.nmf.divergence import SpectralFit, beta_divergence
from smalti.nmf.let_it_bee import LetItBee, segment_slices
from smalti.nmf.lists import Lists, joined

T = TypeVar("T")

# Multiplications in all products of a job. With fewer, loading the compiled kernels takes longer than they save.
WORTH_IT = 2e10
# The most frames of a block. Every product packs the whole dictionary anew, which costs less per frame in long blocks.
MOST_BLOCK_FRAMES = 512
# The number of blocks is a multiple of this, so that two cores have equal shares.
SHARES = 2
# Bytes below which a dictionary is kept in both orders: products are 3 to 7 % faster if neither factor is transposed.
TWICE_BELOW = 2**27
# Lists replace the matrix below this share of activations left: an entry costs three times as much in a list.
LISTS_BELOW = 0.2
# With restrictions, lists leave out activations 120 dB below the largest of their frame. Without them any activation
# may grow again, so only zeros are left out.
LISTED_SHARE = 1e-6


def worthwhile(V: Floats, W: Floats, *, n_iter: int) -> bool:
    """Whether compiled kernels solve a job of this size, V (F, N) and W (F, K), faster."""
    return bool(2.0 * V.size * W.shape[1] * n_iter >= WORTH_IT)


def block_size(n_frames: int, most: int = MOST_BLOCK_FRAMES) -> int:
    """Frames of a block. They depend on the job alone, since rounding within a block must not depend on the machine."""
    n_blocks = SHARES * -(-n_frames // (SHARES * most))
    return max(1, -(-n_frames // n_blocks))


@dataclass(frozen=True, eq=False)
class BlockwiseFit:
    """`SpectralFit` with beta 1, by blocks of frames on all cores.

    The product is the model (F, N), as for `SpectralFit`.

    Attributes
    ----------
    Vt : (N, F), the target. Wt : (K, F), the dictionary. A frame and an atom are contiguous.
    eps, floor : as for `SpectralFit`. most_block_frames : the most frames that a thread takes at once.
    """

    Vt: Floats
    Wt: Floats
    eps: float
    floor: float
    most_block_frames: int

    @classmethod
    def of(cls, V: Floats, W: Floats, *, eps: float, most_block_frames: int = MOST_BLOCK_FRAMES) -> "BlockwiseFit":
        floor = SpectralFit.of(V, W, beta=1, eps=eps).floor
        return cls(np.ascontiguousarray(V.T), np.ascontiguousarray(W.T), eps, floor, most_block_frames)

    @cached_property
    def sums(self) -> Floats:
        """(K,) the sum of each atom."""
        sums: Floats = self.Wt.sum(axis=1)
        return sums

    @cached_property
    def reciprocals(self) -> Floats:
        """(K,) the reciprocals of the update's denominators, and 0 for silent atoms, whose activations become 0."""
        denominators = self.sums + self.sums.dtype.type(self.eps)
        sounds = denominators >= np.finfo(denominators.dtype).tiny
        return np.divide(1, denominators, out=np.zeros_like(denominators), where=sounds)

    @cached_property
    def W(self) -> Floats:
        """(F, K) the dictionary, in C order unless that would take too much memory."""
        return np.ascontiguousarray(self.Wt.T) if self.Wt.nbytes < TWICE_BELOW else self.Wt.T

    def over_frames(self, work: Callable[[slice], T]) -> list[T]:
        return over_blocks(work, len(self.Vt), size=block_size(len(self.Vt), self.most_block_frames))

    def product(self, H: Floats) -> Floats:
        activations, Y = np.ascontiguousarray(H.T), np.empty_like(self.Vt)

        def work(block: slice) -> None:
            np.matmul(activations[block], self.Wt, out=Y[block])
            Y[block] += Y.dtype.type(self.floor)

        self.over_frames(work)
        return Y.T

    def divergence(self, product: Floats) -> float:
        return sum(self.over_frames(lambda n: beta_divergence(self.Vt[n], product.T[n])))

    def update(self, H: Floats, product: Floats) -> Floats:
        return self.iterate(np.ascontiguousarray(H.T), None, 0.0, product)[0].T

    def iterate(
        self, H: Floats, rules: "Rules | None", strength: float, product: Floats | None = None
    ) -> tuple[Floats, int]:
        """Restrict, then update the activations `H` (N, K); return the new ones and how many of them matter.

        With rules, those matter that `LISTED_SHARE` would list; without, those that are not 0. `product` is that of H,
        if it is known and nothing is restricted.
        """
        from smalti.nmf import _kernels

        out, least = np.empty_like(H), 0.0 if rules is None else LISTED_SHARE
        # These are read before the threads start, or each thread would compute them for itself the first time.
        W, reciprocals, sums = self.W, self.reciprocals, self.sums

        def work(n: slice) -> int:
            old = H[n]
            if rules is not None:
                old = np.empty_like(old)
                _kernels.restricted(H, rules.weights, rules.borders, n.start, n.stop, *rules.reaches, 1 - strength, old)
            if product is None:
                ratio = old @ self.Wt
                _kernels.quotients(self.Vt[n], self.floor, ratio)
            else:
                ratio = self.Vt[n] / product.T[n]
            np.matmul(ratio, W, out=out[n])
            return int(_kernels.updated(old, out[n], reciprocals, sums, self.eps, least))

        return out, sum(self.over_frames(work))

    # --- lists

    def listed(self, H: Floats, least: float) -> Lists:
        """Lists of the activations of `H` (N, K) that matter; `least` is as for `smalti.nmf._kernels.listed`."""
        from smalti.nmf import _kernels

        return joined(self.over_frames(lambda n: _kernels.listed(H[n], self.sums, least)))

    def dense(self, lists: Lists) -> Floats:
        """(N, K) the activations of lists as an array."""
        from smalti.nmf import _kernels

        H = np.empty((len(self.Vt), len(self.Wt)), self.Wt.dtype)
        self.over_frames(lambda n: _kernels.dense_of(*lists, n.start, n.stop, H))
        return H

    def models(self, lists: Lists) -> Floats:
        """(F, N) the model of the activations in lists."""
        from smalti.nmf import _kernels

        Y = np.empty_like(self.Vt)

        def work(n: slice) -> None:
            part = lists.indptr[n.start : n.stop + 1]
            _kernels.list_model(self.Wt, part, lists.atoms, lists.values, self.floor, Y[n])

        self.over_frames(work)
        return Y.T

    def iterate_lists(self, lists: Lists, rules: "Rules | None", strength: float) -> Lists:
        """`iterate` for activations in lists."""
        from smalti.nmf import _kernels

        indptr, atoms, values = lists
        if rules is not None:
            repetition, polyphony, reach = rules.reaches
            thinned, keep = values.copy(), 1 - strength

            def thin(n: slice) -> None:
                at = n.start, n.stop
                if repetition:
                    _kernels.list_repetition(indptr, atoms, values, *at, repetition, keep, thinned)
                if polyphony:
                    _kernels.list_polyphony(indptr, atoms, thinned, rules.weights, *at, polyphony, keep, thinned)

            # Continuity reads the frames of other blocks, so all blocks must be thinned out before.
            self.over_frames(thin)

        def work(n: slice) -> tuple[Integers, Integers, Floats]:
            if rules is not None:
                part, own, old = _kernels.list_widened(
                    indptr, atoms, thinned, rules.segments, self.sums, n.start, n.stop, reach, LISTED_SHARE
                )
            else:
                start, stop = indptr[n.start], indptr[n.stop]
                part, own, old = indptr[n.start : n.stop + 1] - start, atoms[start:stop], values[start:stop]
            new = np.empty_like(old)
            _kernels.list_update(self.Vt[n], self.Wt, self.sums, part, own, old, self.floor, self.eps, new)
            return part, own, new

        return joined(self.over_frames(work))


@dataclass(frozen=True, eq=False)
class Rules:
    """The restrictions of Let it Bee in the form that the kernels take.

    Attributes
    ----------
    reaches : repetition, polyphony, continuity; 0 for off.
    weights : (K,) of the dictionary's dtype, the factors of the activations where polyphony ranks them; empty for 1.
    borders : (S + 1,) int64, where each of the S runs of atoms of one recording begins, and K.
    segments : (K,) int32, the number of each atom's run.
    """

    reaches: tuple[int, int, int]
    weights: Floats
    borders: Integers
    segments: Integers

    @classmethod
    def of(cls, constraints: LetItBee, W: Floats, segments: Integers | None) -> "Rules":
        n_atoms = W.shape[1]
        runs = segment_slices(n_atoms, segments)
        weights = constraints.weights(W)
        # Rules that vary from frame to frame never reach this: see `smalti.nmf.multiplicative.activation_steps`.
        reaches = constraints.repetition or 0, constraints.polyphony or 0, constraints.continuity or 0
        return cls(
            cast("tuple[int, int, int]", reaches),
            np.empty(0, W.dtype) if weights is None else np.ascontiguousarray(weights[:, 0]),
            np.array([*(run.start for run in runs), n_atoms], np.int64),
            np.repeat(np.arange(len(runs), dtype=np.int32), [run.stop - run.start for run in runs]),
        )


@dataclass(frozen=True, eq=False)
class BlockStep:
    """A step whose activations are a matrix; `H` is a transposed view of a time-major array.

    Attributes
    ----------
    n_left : the number of activations that matter, as for `BlockwiseFit.iterate`.
    known : holds the product as soon as the divergence has been read; empty until then. Without it, the next update
        forms the product block by block, which is faster than to form it beforehand.
    """

    iteration: int
    H: Floats
    fit: BlockwiseFit
    n_left: int
    known: list[Floats] = field(default_factory=list)

    @cached_property
    def divergence(self) -> float:
        if not self.known:
            self.known.append(self.fit.product(self.H))
        return self.fit.divergence(self.known[0])

    def as_matrix(self) -> "BlockStep":
        return self

    def as_lists(self, least: float) -> "ListStep":
        return ListStep(self.iteration, self.fit.listed(self.H.T, least), self.fit)

    def advance(self, rules: "Rules | None", strength: float) -> "BlockStep":
        """The step after this one. The product is that of the next update only if nothing is restricted before."""
        product = self.known[0] if self.known and rules is None else None
        H, n_left = self.fit.iterate(self.H.T, rules, strength, product)
        return BlockStep(self.iteration + 1, H.T, self.fit, n_left)


@dataclass(frozen=True, eq=False)
class ListStep:
    """A step whose activations are lists; `H` is a transposed view of an array that is filled when it is first read.

    `known` is as for `BlockStep`.
    """

    iteration: int
    lists: Lists
    fit: BlockwiseFit
    known: list[Floats] = field(default_factory=list)

    @cached_property
    def H(self) -> Floats:
        return self.fit.dense(self.lists).T

    @cached_property
    def divergence(self) -> float:
        if not self.known:
            self.known.append(self.fit.models(self.lists))
        return self.fit.divergence(self.known[0])

    @property
    def n_left(self) -> int:
        return len(self.lists.values)

    def as_matrix(self) -> BlockStep:
        return BlockStep(self.iteration, self.H, self.fit, self.n_left, self.known)

    def as_lists(self, least: float) -> "ListStep":
        return self

    def advance(self, rules: "Rules | None", strength: float) -> "ListStep":
        """The step after this one. A known product would save nothing for such short lists, so it is not used."""
        return ListStep(self.iteration + 1, self.fit.iterate_lists(self.lists, rules, strength), self.fit)


def engine_steps(
    V: Floats,
    W: Floats,
    H: Floats,
    *,
    n_iter: int,
    eps: float = 0.0,
    constraints: LetItBee | None = None,
    segments: Integers | None = None,
    lists_below: float = LISTS_BELOW,
    most_block_frames: int = MOST_BLOCK_FRAMES,
) -> Iterator[Step]:
    """`smalti.nmf.multiplicative.activation_steps` with beta 1, for arguments that are checked already.

    Parameters
    ----------
    lists_below : lists replace the matrix below this share of activations left; 0 keeps the matrix to the end.
    most_block_frames : >= 1, the most frames that a thread takes at once.

    Yields
    ------
    Step : a `BlockStep` while many activations are left, then a `ListStep`. A `BlockStep` agrees with the readable path
        apart from rounding, and a `ListStep` also apart from what `LISTED_SHARE` leaves out.
    """
    fit = BlockwiseFit.of(V, W, eps=eps, most_block_frames=most_block_frames)
    rules = None if constraints is None else Rules.of(constraints, W, segments)
    few = lists_below * H.size
    least = 0.0 if rules is None else LISTED_SHARE
    step: BlockStep | ListStep = BlockStep(0, np.ascontiguousarray(H.T).T, fit, int(np.count_nonzero(H)))
    for iteration in range(n_iter):
        due = rules if constraints is not None and iteration % constraints.every == 0 else None
        step = step.as_lists(least) if step.n_left < few else step.as_matrix()
        step = step.advance(due, (iteration + 1) / n_iter)
        yield step
