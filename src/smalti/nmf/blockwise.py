"""Kullback-Leibler updates and Let it Bee at the speed of their matrix products, for jobs large enough to gain by it.

What `smalti.nmf.multiplicative.steps_of` does with `SpectralFit` and `LetItBee.apply`, to rounding: H lies time-major
(N, K), so that every restriction is a pass over contiguous memory; a thread takes a block of target frames all the way
from the restrictions to the update; and once few activations are left, lists of them replace the matrix.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

import numpy as np

from smalti._checks import Floats, Integers
from smalti._parallel import over_blocks
from smalti.nmf.base import MatrixStep, Step
from smalti.nmf.divergence import SpectralFit, beta_divergence
from smalti.nmf.let_it_bee import LetItBee, segment_slices
from smalti.nmf.lists import Lists, joined

T = TypeVar("T")

# Multiplications in all products of a job. Below, loading the compiled kernels takes longer than they save.
WORTH_IT = 2e10
# Most frames of a block. Every product packs the whole dictionary anew, which costs less the longer a block is.
MOST_BLOCK_FRAMES = 512
# Their number is a multiple of this, so that two cores have equal shares.
SHARES = 2
# Bytes of the largest dictionary that is kept in both orders: products are 3 to 7 % faster where neither is transposed.
TWICE_BELOW = 2**27
# Lists replace the matrix while this share of all activations is left: an entry costs three times as much in a list.
LISTS_BELOW = 0.2
# With restrictions, lists leave out what is 120 dB under the largest of its frame. Plain updates may let anything grow
# again, so that there only zeros are left out.
LISTED_SHARE = 1e-6


def worthwhile(V: Floats, W: Floats, *, n_iter: int) -> bool:
    """Whether a job of this size, V (F, N) and W (F, K), is solved sooner by way of compiled kernels."""
    return bool(2.0 * V.size * W.shape[1] * n_iter >= WORTH_IT)


def block_size(n_frames: int) -> int:
    """Frames of a block, by the job alone: what is rounded within one must not depend on the machine."""
    n_blocks = SHARES * -(-n_frames // (SHARES * MOST_BLOCK_FRAMES))
    return max(1, -(-n_frames // n_blocks))


@dataclass(frozen=True, eq=False)
class BlockwiseFit:
    """`SpectralFit` with beta 1, by blocks of frames on all cores.

    V (N, F) and W (K, F) lie time-major here. Activations and models go in and out as (K, N) and (F, N), as everywhere.
    """

    V: Floats
    W: Floats
    eps: float
    floor: float

    @classmethod
    def of(cls, V: Floats, W: Floats, *, eps: float) -> "BlockwiseFit":
        floor = SpectralFit.of(V, W, beta=1, eps=eps).floor
        return cls(np.ascontiguousarray(V.T), np.ascontiguousarray(W.T), eps, floor)

    @cached_property
    def sums(self) -> Floats:
        """(K,)"""
        sums: Floats = self.W.sum(axis=1)
        return sums

    @cached_property
    def reciprocals(self) -> Floats:
        """(K,): one over what the update divides by, and 0 for silent atoms, which get nothing."""
        below = self.sums + self.sums.dtype.type(self.eps)
        sounds = below >= np.finfo(below.dtype).tiny
        return np.divide(1, below, out=np.zeros_like(below), where=sounds)

    @cached_property
    def Wt(self) -> Floats:
        """(F, K), in C order unless that would take too much memory."""
        return np.ascontiguousarray(self.W.T) if self.W.nbytes < TWICE_BELOW else self.W.T

    def over_frames(self, work: Callable[[slice], T]) -> list[T]:
        return over_blocks(work, len(self.V), size=block_size(len(self.V)))

    def product(self, H: Floats) -> Floats:
        activations, Y = np.ascontiguousarray(H.T), np.empty_like(self.V)

        def work(block: slice) -> None:
            np.matmul(activations[block], self.W, out=Y[block])
            Y[block] += Y.dtype.type(self.floor)

        self.over_frames(work)
        return Y.T

    def divergence(self, H: Floats, product: Floats) -> float:
        return sum(self.over_frames(lambda n: beta_divergence(self.V[n], product.T[n])))

    def update(self, H: Floats, product: Floats) -> Floats:
        return self.iterate(np.ascontiguousarray(H.T), None, 0.0, product)[0].T

    def iterate(
        self, H: Floats, rules: "Rules | None", strength: float, product: Floats | None = None
    ) -> tuple[Floats, int]:
        """Activations (N, K) restricted, then updated; and how many of them matter by `LISTED_SHARE` (or are not 0).

        `product` is that of H, if it is known and nothing is restricted.
        """
        from smalti.nmf import _kernels

        out, least = np.empty_like(H), 0.0 if rules is None else LISTED_SHARE
        # Here, or every thread would work them out for itself the first time.
        Wt, reciprocals, sums = self.Wt, self.reciprocals, self.sums

        def work(n: slice) -> int:
            old = H[n]
            if rules is not None:
                old = np.empty_like(old)
                _kernels.restricted(H, rules.weights, rules.borders, n.start, n.stop, *rules.reaches, 1 - strength, old)
            if product is None:
                ratio = old @ self.W
                _kernels.quotients(self.V[n], self.floor, ratio)
            else:
                ratio = self.V[n] / product.T[n]
            np.matmul(ratio, Wt, out=out[n])
            return int(_kernels.updated(old, out[n], reciprocals, sums, self.eps, least))

        return out, sum(self.over_frames(work))

    # --- lists

    def listed(self, H: Floats, least: float) -> Lists:
        from smalti.nmf import _kernels

        return joined(self.over_frames(lambda n: _kernels.listed(H[n], self.sums, least)))

    def dense(self, lists: Lists) -> Floats:
        from smalti.nmf import _kernels

        H = np.empty((len(self.V), len(self.W)), self.W.dtype)
        self.over_frames(lambda n: _kernels.dense_of(*lists, n.start, n.stop, H))
        return H

    def models(self, lists: Lists) -> Floats:
        """The model, (F, N)."""
        from smalti.nmf import _kernels

        Y = np.empty_like(self.V)

        def work(n: slice) -> None:
            part = lists.indptr[n.start : n.stop + 1]
            _kernels.list_model(self.W, part, lists.atoms, lists.values, self.floor, Y[n])

        self.over_frames(work)
        return Y.T

    def iterate_lists(self, lists: Lists, rules: "Rules | None", strength: float) -> Lists:
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

            # Continuity looks into the frames of other blocks, so that all have to be thinned out before.
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
            _kernels.list_update(self.V[n], self.W, self.sums, part, own, old, self.floor, self.eps, new)
            return part, own, new

        return joined(self.over_frames(work))


@dataclass(frozen=True, eq=False)
class Rules:
    """Let it Bee as the kernels want it.

    Attributes
    ----------
    reaches : repetition, polyphony, continuity; 0 for off.
    weights : (K,) of the dictionary's dtype, what polyphony multiplies activations by; empty for 1.
    borders : (S + 1,) where each run of atoms of one recording begins, and K.
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
        # Rules that vary from frame to frame do not come here: see `smalti.nmf.multiplicative.activation_steps`.
        reaches = constraints.repetition or 0, constraints.polyphony or 0, constraints.continuity or 0
        return cls(
            cast("tuple[int, int, int]", reaches),
            np.empty(0, W.dtype) if weights is None else np.ascontiguousarray(weights[:, 0]),
            np.array([*(run.start for run in runs), n_atoms], np.int64),
            np.repeat(np.arange(len(runs), dtype=np.int32), [run.stop - run.start for run in runs]),
        )


@dataclass(frozen=True, eq=False)
class BlockStep(MatrixStep):
    """A step whose activations are a matrix; `H` is a transposed view of a time-major array.

    Attributes
    ----------
    n_left : how many activations matter by `LISTED_SHARE`, or are not 0.
    """

    fit: BlockwiseFit
    n_left: int

    def as_matrix(self) -> "BlockStep":
        return self

    def as_lists(self, least: float) -> "ListStep":
        return ListStep(self.iteration, self.fit.listed(self.H.T, least), self.fit)

    def advance(self, rules: "Rules | None", strength: float, product: Floats | None) -> "BlockStep":
        """The step after this one; `product` is that of the activations, if it is known and nothing is restricted."""
        H, n_left = self.fit.iterate(self.H.T, rules, strength, product)
        return BlockStep(self.iteration + 1, H.T, self.fit, n_left)


@dataclass(frozen=True, eq=False)
class ListStep:
    """A step whose activations are lists, written out as an array when asked for."""

    iteration: int
    lists: Lists
    fit: BlockwiseFit

    @cached_property
    def H(self) -> Floats:
        return self.fit.dense(self.lists).T

    @cached_property
    def product(self) -> Floats:
        return self.fit.models(self.lists)

    @cached_property
    def divergence(self) -> float:
        return self.fit.divergence(self.lists.values, self.product)

    @property
    def n_left(self) -> int:
        return len(self.lists.values)

    def as_matrix(self) -> BlockStep:
        return BlockStep(self.iteration, self.H, self.fit, self.n_left)

    def as_lists(self, least: float) -> "ListStep":
        return self

    def advance(self, rules: "Rules | None", strength: float, product: Floats | None) -> "ListStep":
        """As `BlockStep.advance`; lists are so short that a known product saves nothing."""
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
) -> Iterator[Step]:
    """`smalti.nmf.multiplicative.activation_steps` with beta 1, of checked arguments.

    Yields
    ------
    Step : H is a transposed view of a time-major array, or comes of lists when it is first asked for. While it is a
        matrix, the steps are the readable path's to rounding; lists agree as far as `LISTED_SHARE` says.
    """
    fit = BlockwiseFit.of(V, W, eps=eps)
    rules = None if constraints is None else Rules.of(constraints, W, segments)
    few = LISTS_BELOW * H.size
    least = 0.0 if rules is None else LISTED_SHARE
    step: BlockStep | ListStep = BlockStep(0, np.ascontiguousarray(H.T).T, fit, int(np.count_nonzero(H)))
    for iteration in range(n_iter):
        now = rules if constraints is not None and iteration % constraints.every == 0 else None
        # The product is there already if the divergence has been read.
        product = None if now else vars(step).get("product")
        step = step.as_lists(least) if step.n_left < few else step.as_matrix()
        step = step.advance(now, (iteration + 1) / n_iter, product)
        yield step
