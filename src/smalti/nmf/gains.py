"""Refine the gains of a few chosen activations while all others stay 0: a convex problem with few unknowns a frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti._parallel import over_blocks
from smalti.nmf.divergence import beta_divergence, noise_floor

# Frames of a block: enough for a fast matrix product, few enough for the prices of all atoms to stay in the cache.
FRAMES_AT_ONCE = 64
# The gains of a frame are final once its divergence can fall by no more than this share of its level.
_CLOSE = 1e-7


def sizes(rows: Floats, euclidean: bool) -> NDArray[np.float64]:
    """(K,) float64, the norm of each row (K, F) if `euclidean`, else its sum."""
    if euclidean:
        norms: NDArray[np.float64] = np.sqrt(np.einsum("kf,kf->k", rows, rows, dtype=np.float64))
        return norms
    sums: NDArray[np.float64] = rows.sum(axis=1, dtype=np.float64)
    return sums


def scaled(rows: Floats, divisors: NDArray[np.float64]) -> Floats:
    """`rows` (K, F), each divided by its divisor, (K,); 0 where that is 0."""
    out = np.zeros_like(rows)
    np.divide(rows, divisors[:, None], out=out, where=divisors[:, None] > 0, casting="same_kind")
    return out


def floor_at(floor: float, levels: NDArray[np.float64], dtype: np.dtype[Any]) -> Floats:
    """(n,) the model's floor beside targets scaled to a level of 1; 0 beside a level that is 1e-30 of it or less."""
    relative = np.divide(floor, levels, out=np.zeros(len(levels)), where=levels > floor * 1e-30)
    return relative.astype(dtype)


@dataclass(frozen=True, eq=False)
class GainFit:
    """The divergence (beta 1 or 2) as a function of P chosen activations; only these cost time, and all others stay 0.

    An update is one multiplicative update and one step of Newton's method in every frame. A few of them do what takes
    hundreds of multiplicative updates alone. The divergence never rises.

    Attributes
    ----------
    Vt : (N, F), the target. targets : (N, F), its frames at a level of 1: each divided by its sum (beta 2: norm).
    floor : the constant in every bin of the model. floors : (N,), the floor in units of each frame's level.
    indptr : (N + 1,) ints, frame n has the activations ``indptr[n]`` to ``indptr[n + 1]`` of P.
    atoms : (P,) ints, their rows in H. places : (P,) ints, their rows in `columns`.
    columns : (Q, F), the atoms that sound, each divided by its sum (beta 2: norm).
    scales : (P,), the sum (norm) of each activation's atom. levels : (N,), the sum (norm) of each frame of the target.
    euclidean : True for beta 2, False for beta 1.
    """

    Vt: Floats
    targets: Floats
    floor: float
    floors: Floats
    indptr: NDArray[np.int64]
    atoms: NDArray[np.intp]
    places: NDArray[np.intp]
    columns: Floats
    scales: Floats
    levels: Floats
    euclidean: bool

    @classmethod
    def of(cls, V: Floats, W: Floats, H: Floats, *, beta: float = 1.0) -> "GainFit":
        """The fit over the activations that are not 0 in `H` (K, N); V (F, N) and W (F, K) as for a `SpectralFit`."""
        frames, atoms = np.nonzero(H.T)
        indptr = np.searchsorted(frames, np.arange(H.shape[1] + 1)).astype(np.int64)
        # An atom has one row in `columns`, even if it sounds in several frames.
        sounding, places = np.unique(atoms, return_inverse=True)
        columns = np.ascontiguousarray(W.T[sounding])
        return cls.over(np.ascontiguousarray(V.T), columns, indptr, atoms, places, beta=beta)

    @classmethod
    def over(
        cls,
        Vt: Floats,
        columns: Floats,
        indptr: NDArray[np.int64],
        atoms: NDArray[np.intp],
        places: NDArray[np.intp],
        *,
        beta: float = 1.0,
    ) -> "GainFit":
        """The fit over given activations: `Vt` (N, F), `columns` (Q, F) not yet scaled; the rest as for the class."""
        euclidean = beta == 2
        floor = 0.0 if euclidean else float(Vt.dtype.type(noise_floor(Vt)))
        scales, levels = sizes(columns, euclidean), sizes(Vt, euclidean)
        floors = floor_at(floor, levels, Vt.dtype)
        return cls(
            Vt, scaled(Vt, levels), floor, floors, indptr, atoms, places, scaled(columns, scales),
            scales.astype(Vt.dtype)[places], levels.astype(Vt.dtype), euclidean,
        )  # fmt: skip

    @property
    def frames(self) -> NDArray[np.intp]:
        """(P,) the frame of each activation."""
        return np.repeat(np.arange(len(self.Vt)), np.diff(self.indptr))

    def product(self, H: Floats) -> Floats:
        """The model (N, F), as the target and the atoms are transposed here."""
        from smalti.nmf import _newton

        Y, values = np.empty_like(self.Vt), H[self.atoms, self.frames] * self.scales
        floors = np.full(len(Y), self.floor, Y.dtype)
        firsts, counts = self.indptr[:-1], np.diff(self.indptr)
        over_blocks(
            lambda block: _newton.add_up(
                self.columns, floors[block], firsts[block], counts[block], self.places, values, Y[block]
            ),
            len(Y),
            size=FRAMES_AT_ONCE,
        )
        return Y

    def divergence(self, Y: Floats) -> float:
        return beta_divergence(self.Vt, Y, beta=2 if self.euclidean else 1)

    def update(self, H: Floats, product: Floats) -> Floats:
        """The activations after one update; `product` is of no use, since Newton's method adds up models of its own."""
        out = np.zeros_like(H)
        out[self.atoms, self.frames] = self.improved(H[self.atoms, self.frames])
        return out

    def improved(self, gains: Floats) -> Floats:
        """(P,) the activations `gains` (P,) after one update, in a new array."""
        from smalti.nmf import _newton

        frames = self.frames
        to_level = np.divide(
            self.scales, self.levels[frames], out=np.zeros_like(self.scales), where=self.levels[frames] > 0
        )
        values = gains * to_level
        firsts, counts = self.indptr[:-1], np.where(self.levels > 0, np.diff(self.indptr), 0)
        goals = np.full(len(self.Vt), _CLOSE)
        over_blocks(
            lambda block: _newton.improve(
                self.columns, self.targets[block], self.floors[block], firsts[block], counts[block], self.places,
                values, goals[block], self.euclidean, 1, 1,
            ),
            len(self.Vt),
            size=FRAMES_AT_ONCE,
        )  # fmt: skip
        # Silent atoms and the atoms of silent frames get a gain of 0.
        return np.divide(values, to_level, out=np.zeros_like(values), where=to_level > 0)
