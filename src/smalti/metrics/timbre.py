"""How much a mosaic sounds like its source: distances between clouds of frames.

A cloud is (n, D): n frames of D features, order and time forgotten. T is the target's, S the source's, Y the mosaic's.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats

# How many source frames are searched (4 min 39 s), and how many have their own nearest looked up. More would change the
# third digit only.
MOST_POINTS, MOST_QUERIES = 12_000, 1_500


def evenly(n: int, most: int) -> NDArray[np.intp]:
    """At most `most` of the numbers 0 to n - 1, evenly spread, always the same ones."""
    return np.arange(n) if n <= most else np.arange(most) * n // most


def nearest_distances(points: Floats, among: Floats, *, barred: NDArray[np.intp] | None = None) -> Floats:
    """The Euclidean distance from each of `points` (n, D) to the nearest of `among` (m, D), m >= 1: (n,) float64.

    Parameters
    ----------
    barred : (n,) ints, for each point the one of `among` that does not count (itself), or None. With m = 1 nothing is
        left, and the distance is infinite.
    """
    squares = np.einsum("ij,ij->i", among, among)
    nearest = np.empty(len(points))
    for start in range(0, len(points), 256):
        block = points[start : start + 256]
        # |a - b|² = |a|² - 2 a.b + |b|²: one matrix product instead of a difference for every pair.
        squared = squares - 2 * (block @ among.T)
        if barred is not None:
            np.put_along_axis(squared, barred[start : start + 256, None], np.inf, axis=1)
        nearest[start : start + 256] = squared.min(axis=1) + np.einsum("ij,ij->i", block, block)
    return np.sqrt(np.maximum(nearest, 0))


def own_distance(points: Floats, *, queries: int = MOST_QUERIES) -> float:
    """How far a frame of a cloud (n, D) is from the nearest *other* one, in the mean; 0 if there is only one.

    Parameters
    ----------
    queries : at most so many frames, evenly spread, are looked up.
    """
    if len(points) < 2:
        return 0.0
    chosen = evenly(len(points), queries)
    return float(nearest_distances(points[chosen], points, barred=chosen).mean())


def frechet_distance(A: Floats, B: Floats, *, diagonal: bool = False) -> float:
    """The squared Fréchet distance between the Gaussians fitted to two clouds (n, D) and (m, D), n, m >= 1.

    ``|a - b|² + trace(C_a + C_b - 2 (C_a C_b)^½)``; 0 for equal means and covariances.

    Parameters
    ----------
    diagonal : take the features as independent, for clouds of fewer points than dimensions.

    References
    ----------
    Dowson & Landau (1982), J. Multivariate Analysis 12(3); Kilgour et al. (2019), "Fréchet audio distance",
    Interspeech.
    """
    first, second = A.astype(np.float64), B.astype(np.float64)
    shift = float(np.square(first.mean(axis=0) - second.mean(axis=0)).sum())
    if diagonal:
        return shift + float(np.square(first.std(axis=0) - second.std(axis=0)).sum())
    covariances = [np.cov(cloud, rowvar=False, bias=True).reshape(A.shape[1], -1) for cloud in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # (C_a C_b)^½ has the trace of the symmetric (C_a^½ C_b C_a^½)^½, whose eigenvalues are surely real.
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariances[1] @ root), 0)).sum()
    return max(shift + float(np.trace(covariances[0] + covariances[1])) - 2 * float(shared), 0.0)


@dataclass(frozen=True, eq=False)
class Scale:
    """The scale of one kind of feature for all mosaics of a target and a source: computed once, used often.

    Attributes
    ----------
    target, source : clouds T (n, D) and S (m, D), neither empty.
    standardise : divide each feature by its standard deviation over T and S, each weighing half (never over Y, so that
        different mosaics of one pair compare). Not for features that are all in dB: that would make quiet bins loud.
    diagonal : see `frechet_distance`.
    """

    target: Floats
    source: Floats
    standardise: bool = True
    diagonal: bool = False

    @cached_property
    def centre(self) -> Floats:
        centre: Floats = (self.target.mean(axis=0) + self.source.mean(axis=0)) / 2
        return centre

    @cached_property
    def deviation(self) -> Floats:
        """(D,) standard deviation of T and S together."""
        squares = [np.square(cloud - self.centre).mean(axis=0) for cloud in (self.target, self.source)]
        deviation: Floats = np.sqrt((squares[0] + squares[1]) / 2)
        return deviation

    @cached_property
    def unit(self) -> Floats:
        """What counts as 1 of each feature."""
        if not self.standardise:
            return np.ones_like(self.deviation)
        # A feature that never varies tells nothing. Divided by its rounding errors it would outweigh all others.
        still = self.deviation <= np.maximum(1e-5 * np.abs(self.centre), 1e-6 * self.deviation.max())
        return np.where(still, self.deviation.dtype.type(np.inf), self.deviation)

    @cached_property
    def scatter(self) -> float:
        """Root mean square distance of T and S from their centre, in units; the size of everything here."""
        return float(np.linalg.norm(self.deviation / self.unit))

    def scaled(self, points: Floats) -> Floats:
        scaled: Floats = (points - self.centre) / self.unit
        return scaled

    @cached_property
    def searched(self) -> Floats:
        """The source's points, scaled, as many as are searched."""
        return self.scaled(self.source[evenly(len(self.source), MOST_POINTS)])

    def distance(self, points: Floats) -> float:
        """d(Y, S) of any points (n, D), n >= 1: the mean distance to the nearest of the source's."""
        return float(nearest_distances(self.scaled(points), self.searched).mean())

    @cached_property
    def target_distance(self) -> float:
        """d(T, S)"""
        return self.distance(self.target)

    @cached_property
    def source_distance(self) -> float:
        """d(S, S), to the nearest other frame"""
        return own_distance(self.searched)

    def nearness(self, points: Floats) -> float:
        """``tim_nn``, ``tex_nn``, ``fine_nn``: ``(d(T,S) - d(Y,S)) / (d(T,S) - d(S,S))``, cut off at -1 and 1.

        1: every frame is as near to one of the source as the source's own are to each other; 0: only as near as the
        target's are; below 0: like neither. Where the target is hardly further from the source than the source from
        itself, the denominator is kept from vanishing (at least 5 % of `scatter`), and nearly everything is near.

        Parameters
        ----------
        points : (n, D), the mosaic's cloud; an empty one (a silent mosaic) is near to nothing, -1.

        References
        ----------
        Ours. The clouds are made by `smalti.metrics.features.cepstra`, `patches` and `fine_structure`.
        """
        if not len(points):
            return -1.0
        gap = max(self.target_distance - self.source_distance, 0.05 * self.scatter)
        beyond = self.distance(points) - self.source_distance
        return float(np.clip(1 - beyond / gap, -1, 1)) if gap > 0 else float(beyond <= 0)

    def frechet_ratio(self, points: Floats) -> float:
        """``fd``, ``mod``: the Fréchet distance of Y from S over that of T from S, both squared.

        0: distributed as in the source; 1: as far away as the target; more: further. A pair that hardly differs is
        taken to differ by 1/1000 of `scatter` squared.

        Parameters
        ----------
        points : (n, D), the mosaic's cloud; an empty one (a silent mosaic) counts as the target's, 1.

        References
        ----------
        The ratio is ours; Dowson & Landau (1982) and Kilgour et al. (2019), see `frechet_distance`. For
        ``mod``: McDermott & Simoncelli (2011), see `smalti.metrics.features.modulation_spectra`.
        """
        if not len(points):
            return 1.0
        away, most = self._frechet(points), max(self.target_frechet, 1e-3 * self.scatter**2)
        return away / most if most > 0 else float(away > 0)

    @cached_property
    def target_frechet(self) -> float:
        return self._frechet(self.target)

    def _frechet(self, points: Floats) -> float:
        return frechet_distance(self.scaled(points), self.scaled(self.source), diagonal=self.diagonal)
