"""Solve the convex problem without restrictions, and bound how far the solution is from the optimum.

Multiplicative updates come nearer for as long as they run, but do not tell how near they are. Here a few atoms sound in
each frame. All others are priced by how much they would lower the divergence, and those of the highest prices join
(column generation), until the prices prove that it can hardly fall further. `docs/methods.md` derives the bound.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_count, check_magnitudes, check_real, check_same_bins
from smalti._parallel import over_blocks
from smalti.nmf.divergence import noise_floor
from smalti.nmf.gains import FRAMES_AT_ONCE, floor_at, scaled, sizes

# Atoms that may join a frame in one round, and at the start.
_JOIN = 16
# The share of a frame's sum that joining atoms begin with. From 0, Newton's model of a silent bin would be useless.
_GIVEN = 0.01
# The most Newton steps in a round, and the multiplicative updates before them.
_NEWTON, _UPDATES = 1, 3
# A frame's first atoms are fitted until the divergence can fall by no more than this share of the frame's level.
_FIRST_GOAL = 0.05
# Later, a frame's own atoms are fitted to this share of its gap before others join.
_ENOUGH = 0.02
# Rounds in a row in which the gap of a frame may fall by less than a tenth. Rounding then stops progress, and so do we.
_PATIENCE = 5


@dataclass(frozen=True, eq=False)
class ExactStep:
    """The activations after one round, and a bound on how far they are from the best ones.

    Attributes
    ----------
    iteration : 1 for the first.
    H : (K, N) scipy.sparse CSC of V and W's dtype; all entries are > 0.
    divergence : of ``W @ H + floor`` from V (see `smalti.nmf.divergence.noise_floor`; no floor for beta 2), summed over
        all entries in double precision.
    gap : >= 0. It is proven, rounding included, that no activations >= 0 have a divergence below ``divergence - gap``.
    frame_gaps : (N,) float64, the gap of each frame; `gap` is their sum.
    """

    iteration: int
    H: scipy.sparse.csc_array
    divergence: float
    gap: float
    frame_gaps: NDArray[np.float64]

    @property
    def relative_gap(self) -> float:
        """`gap` as a share of ``divergence - gap``, the least possible divergence; infinite if that is not above 0."""
        least = self.divergence - self.gap
        return 0.0 if self.gap == 0 else self.gap / least if least > 0 else np.inf


def exact_steps(
    V: ArrayLike, W: ArrayLike, *, beta: float = 1.0, tolerance: float = 1e-3, n_iter: int = 100
) -> Iterator[ExactStep]:
    """Yield better and better activations, until they are proven to be within `tolerance` of the best.

    Parameters
    ----------
    V : (F, N) float array, >= 0. Target magnitudes.
    W : (F, K) float array, >= 0. Dictionary. An atom so quiet that its gain would overflow counts as silent.
    beta : 1 (Kullback-Leibler) or 2 (Euclidean).
    tolerance : > 0. The relative gap at which to stop.
    n_iter : int >= 1. The most rounds; most problems take 5 to 20. The steps also end if rounding keeps the gap from
        closing, as for a target that the source explains entirely, whose gap is relative to a divergence of 0.

    Yields
    ------
    ExactStep

    Raises
    ------
    ValueError, TypeError : at the call, if shapes disagree or values are out of range.

    References
    ----------
    Hsieh & Dhillon (2011), "Fast coordinate descent methods with variable selection for non-negative matrix
    factorization", KDD; Ndiaye, Fercoq, Gramfort & Salmon (2017), "Gap safe screening rules for sparsity
    enforcing penalties", JMLR 18 (dual points by scaling a residual).
    """
    V, W = check_magnitudes("V", V), check_magnitudes("W", W)
    check_same_bins(V, W)
    beta = check_real("beta", beta, least=1, most=2)
    if beta not in (1, 2):
        raise ValueError(f"beta is {beta:g}; only 1 (Kullback-Leibler) and 2 (Euclidean) have an exact solution here")
    tolerance = check_real("tolerance", tolerance, least=0)
    if not tolerance:
        raise ValueError("tolerance is 0; pass a number above it, such as 1e-3")
    n_iter = check_count("n_iter", n_iter, least=1)
    dtype = np.result_type(V, W)
    # This is no generator function, since that would put the checks above off to the first step.
    return _rounds(
        _Problem.of(V.astype(dtype, copy=False), W.astype(dtype, copy=False), euclidean=beta == 2), tolerance, n_iter
    )


def solve_exact(
    V: ArrayLike, W: ArrayLike, *, beta: float = 1.0, tolerance: float = 1e-3, n_iter: int = 100
) -> ExactStep:
    """The last step of `exact_steps`; same arguments."""
    return deque(exact_steps(V, W, beta=beta, tolerance=tolerance, n_iter=n_iter), maxlen=1).pop()


@dataclass(frozen=True, eq=False)
class _Problem:
    """Target and dictionary, as given and at a level of 1.

    Attributes
    ----------
    Vt : (N, F), Wt : (K, F), target and dictionary as given, but transposed.
    floor : of the model. floors : (N,), the floor beside targets at a level of 1.
    targets : (N, F) and rows : (K, F), each divided by its sum, or by its norm if `euclidean`; 0 if silent.
    levels : (N,) and scales : (K,) float64, the divisors of `targets` and `rows`; 0 if silent.
    sums : (K,) float64, of each atom; 0 if silent.
    euclidean : True for beta 2, False for beta 1.
    """

    Vt: Floats
    Wt: Floats
    floor: float
    floors: Floats
    targets: Floats
    rows: Floats
    levels: NDArray[np.float64]
    scales: NDArray[np.float64]
    sums: NDArray[np.float64]
    euclidean: bool

    @classmethod
    def of(cls, V: Floats, W: Floats, *, euclidean: bool) -> "_Problem":
        # The floor is rounded to the dtype of the model that it is added to.
        floor = 0.0 if euclidean else float(V.dtype.type(noise_floor(V)))
        Vt, Wt = np.ascontiguousarray(V.T), np.ascontiguousarray(W.T)
        levels, scales = sizes(Vt, euclidean), sizes(Wt, euclidean)
        sums = scales if not euclidean else sizes(Wt, False)
        limits = np.finfo(V.dtype)
        sounds = (scales >= limits.tiny) & (scales > levels.max() / (0.25 * float(limits.max)))
        scales, sums = np.where(sounds, scales, 0), np.where(sounds, sums, 0)
        floors = floor_at(floor, levels, V.dtype)
        return cls(Vt, Wt, floor, floors, scaled(Vt, levels), scaled(Wt, scales), levels, scales, sums, euclidean)

    def units(self, frames: NDArray[np.intp]) -> NDArray[np.float64]:
        """(n,) the scale of the divergences of some frames: their levels, or squared levels if `euclidean`."""
        levels = self.levels[frames]
        return levels**2 if self.euclidean else levels


@dataclass(eq=False)
class _Sounding:
    """The atoms that sound in some frames, and their gains; changes in place.

    Attributes
    ----------
    counts : (N,) ints, the number of atoms in each frame.
    atoms, values : (N, room), of which the first `counts` in each row are used. The values are gains for rows and
        targets at a level of 1.
    """

    counts: NDArray[np.int64]
    atoms: NDArray[np.int64]
    values: Floats

    @classmethod
    def nothing(cls, problem: _Problem) -> "_Sounding":
        shape = len(problem.Vt), 4 * _JOIN
        return cls(np.zeros(shape[0], np.int64), np.zeros(shape, np.int64), np.zeros(shape, problem.Vt.dtype))

    def copy(self) -> "_Sounding":
        return _Sounding(self.counts.copy(), self.atoms.copy(), self.values.copy())

    def at(self, frames: slice | NDArray[np.intp]) -> "_Sounding":
        """The atoms of some frames and their gains: a view for a slice, else a copy."""
        return _Sounding(self.counts[frames], self.atoms[frames], self.values[frames])

    def put(self, frames: NDArray[np.intp], changed: "_Sounding") -> None:
        self.counts[frames], self.atoms[frames], self.values[frames] = changed.counts, changed.atoms, changed.values

    def make_room(self) -> None:
        """Make room for `_JOIN` more atoms in every frame."""
        n_frames, room = self.atoms.shape
        if self.counts.max() + _JOIN > room:
            more = max(_JOIN, room // 2)
            self.atoms = np.concatenate([self.atoms, np.zeros((n_frames, more), self.atoms.dtype)], axis=1)
            self.values = np.concatenate([self.values, np.zeros((n_frames, more), self.values.dtype)], axis=1)

    @property
    def firsts(self) -> NDArray[np.int64]:
        """(N,) where each frame's row begins in the flat arrays that the kernels take."""
        firsts: NDArray[np.int64] = np.arange(len(self.counts)) * self.atoms.shape[1]
        return firsts

    def enter(self, prices: Floats, least: NDArray[np.float64], given: NDArray[np.float64]) -> None:
        """Add the atoms whose prices (N, K) are peaks above `least`; see `smalti.nmf._newton.enter`."""
        from smalti.nmf import _newton

        atoms, values = self.atoms.reshape(-1), self.values.reshape(-1)
        _newton.enter(prices, least, self.firsts, self.counts, atoms, values, given, _JOIN)

    def improve(
        self,
        problem: _Problem,
        frames: slice | NDArray[np.intp],
        goals: NDArray[np.float64],
        *,
        n_updates: int,
        n_newton: int,
    ) -> None:
        """Fit the gains until the divergence can fall by at most `goals`, at a level of 1; drop atoms of gain 0."""
        from smalti.nmf import _newton

        firsts, atoms, values = self.firsts, self.atoms.reshape(-1), self.values.reshape(-1)
        _newton.improve(
            problem.rows, problem.targets[frames], problem.floors[frames], firsts, self.counts, atoms, values, goals,
            problem.euclidean, n_updates, n_newton,
        )  # fmt: skip
        _newton.leave(firsts, self.counts, atoms, values)


@dataclass(eq=False)
class _State:
    """The atoms that sound in each frame, and the bounds so far; changes in place.

    Attributes
    ----------
    sounding : the atoms of all frames, and their gains.
    divergences : (N,) float64. bests : (N,) float64, the highest lower bounds so far on the least divergence.
    gaps : (N,) float64, `divergences` less `bests`.
    open : (N,) bools, the frames that are not done. stuck : (N,) ints, rounds in a row without progress.
    """

    sounding: _Sounding
    divergences: NDArray[np.float64]
    bests: NDArray[np.float64]
    gaps: NDArray[np.float64]
    open: NDArray[np.bool_]
    stuck: NDArray[np.int64]

    @classmethod
    def of(cls, problem: _Problem) -> "_State":
        n_frames = len(problem.Vt)
        return cls(
            _Sounding.nothing(problem),
            np.zeros(n_frames),
            np.full(n_frames, -np.inf),
            np.full(n_frames, np.inf),
            np.ones(n_frames, bool),
            np.zeros(n_frames, np.int64),
        )


def _rounds(problem: _Problem, tolerance: float, n_iter: int) -> Iterator[ExactStep]:
    state = _State.of(problem)
    _begin(problem, state.sounding)
    for iteration in range(1, n_iter + 1):
        state.sounding.make_room()
        todo = np.flatnonzero(state.open)
        # The bounds are those of these activations, so these are yielded; open frames go on from them.
        before = state.sounding.copy()
        shared = max(float(state.bests.mean()), 0.0)
        over_blocks(
            lambda block: _advance(problem, state, todo[block], tolerance, shared),  # noqa: B023 - called in this round
            len(todo),
            size=FRAMES_AT_ONCE,
        )
        yield _step(iteration, problem, state, before)
        gap, least = float(state.gaps.sum()), float(state.bests.sum())
        if gap <= tolerance * least or not state.open.any():
            return


def _begin(problem: _Problem, sounding: _Sounding) -> None:
    """Give every frame the atoms most like it, by the Bhattacharyya coefficient (beta 2: by the cosine)."""

    def comparable(rows: Floats) -> Floats:
        return rows if problem.euclidean else np.sqrt(rows)

    rows = comparable(problem.rows)

    def begin(block: slice) -> None:
        own = sounding.at(block)
        n = len(own.counts)
        own.enter(comparable(problem.targets[block]) @ rows.T, np.zeros(n), np.ones(n))
        own.improve(problem, block, np.full(n, _FIRST_GOAL), n_updates=2 * _UPDATES, n_newton=_NEWTON)

    over_blocks(begin, len(problem.Vt), size=FRAMES_AT_ONCE)


def _advance(problem: _Problem, state: _State, frames: NDArray[np.intp], tolerance: float, shared: float) -> None:
    """Price all atoms in some frames, close the frames that are near enough, and improve the others."""
    sounding = state.sounding.at(frames)
    prices, ratios, totals = _price(problem, frames, sounding)
    gaps = _bound(problem, frames, sounding.atoms.shape[1], prices, ratios, totals)
    allowed = _decide(problem, state, frames, totals[:, 0], gaps, tolerance, shared)
    still_open = np.flatnonzero(state.open[frames])
    if len(still_open):
        sounding = sounding.at(still_open)
        _improve(problem, state, frames[still_open], sounding, prices[still_open], allowed[still_open])
        state.sounding.put(frames[still_open], sounding)


def _price(
    problem: _Problem, frames: NDArray[np.intp], sounding: _Sounding
) -> tuple[Floats, NDArray[np.float64], NDArray[np.float64]]:
    """The prices (n, K) of all atoms in some frames, and the ratios and totals of `smalti.nmf._newton.expose`.

    Ratios (n, F) and totals (n, 5) are in double precision; the first total is the divergence.
    """
    from smalti.nmf import _newton

    V = problem.Vt[frames]
    gains = _as_given(problem, frames, sounding)
    ratios, shown, totals = np.empty(V.shape), np.empty_like(V), np.empty((len(V), 5))
    _newton.expose(
        problem.Wt, V, problem.floor, sounding.firsts, sounding.counts, sounding.atoms.reshape(-1), gains.reshape(-1),
        problem.euclidean, ratios, shown, totals,
    )  # fmt: skip
    return shown @ problem.rows.T, ratios, totals


def _bound(
    problem: _Problem,
    frames: NDArray[np.intp],
    room: int,
    prices: Floats,
    ratios: NDArray[np.float64],
    totals: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(n,) upper bounds on how far each frame is from its optimum, with rounding included.

    Parameters
    ----------
    room : the most atoms that sound in a frame. prices, ratios, totals : from `_price`.
    """
    from smalti.nmf import _newton

    V, limits = problem.Vt[frames], np.finfo(problem.Vt.dtype)
    # The relative rounding of a sum of F products of rounded factors in any order (Higham 2002, lemma 3.1).
    terms = (V.shape[1] + 8) * float(limits.eps) / 2
    within, worst = terms / (1 - 2 * terms), np.empty(len(V))
    _newton.worst_price(
        problem.Wt, problem.sums, prices, problem.scales, within, float(limits.tiny), ratios, totals, problem.euclidean,
        worst,
    )  # fmt: skip
    rounding = (V.shape[1] + room + 8) * float(np.finfo(np.float64).eps)
    worst += np.abs(worst) * rounding
    gaps = _euclidean_gaps(V, ratios, totals, worst) if problem.euclidean else _kl_gaps(problem.floor, totals, worst)
    np.maximum(gaps, 0, out=gaps)
    gaps += rounding * totals[:, 4]
    # A silent frame is at its optimum, which is silence.
    gaps[problem.levels[frames] == 0] = 0
    return gaps


def _decide(
    problem: _Problem,
    state: _State,
    frames: NDArray[np.intp],
    divergences: NDArray[np.float64],
    gaps: NDArray[np.float64],
    tolerance: float,
    shared: float,
) -> NDArray[np.float64]:
    """Store the bounds of some frames, and close those near enough; return the gaps (n,) that they may keep."""
    bests = np.maximum(state.bests[frames], divergences - gaps)
    gaps, last = np.maximum(divergences - bests, 0), state.gaps[frames]
    stuck = np.where(gaps > 0.9 * last, state.stuck[frames] + 1, 0)
    least = 4 * float(np.finfo(problem.Vt.dtype).eps) * problem.units(frames)
    allowed: NDArray[np.float64] = np.maximum(0.5 * tolerance * (np.maximum(bests, 0) + shared), least)
    state.divergences[frames], state.bests[frames], state.gaps[frames] = divergences, bests, gaps
    state.stuck[frames], state.open[frames] = stuck, (gaps > allowed) & (stuck < _PATIENCE)
    return allowed


def _improve(
    problem: _Problem,
    state: _State,
    frames: NDArray[np.intp],
    sounding: _Sounding,
    prices: Floats,
    allowed: NDArray[np.float64],
) -> None:
    """Add the atoms of the highest prices to some frames, and fit all gains, in place in `sounding`."""
    gaps, stuck, units = state.gaps[frames], state.stuck[frames], problem.units(frames)
    if problem.euclidean:
        # Prices become relative to the level of the target.
        prices /= problem.levels[frames, None].astype(problem.Vt.dtype)
    # Atoms that would gain next to nothing stay out, or rounding would add the same ones for ever.
    least = (0.0 if problem.euclidean else 1.0) + 0.1 * allowed / units
    given = np.zeros(len(frames)) if problem.euclidean else np.minimum(_GIVEN, gaps / units)
    sounding.enter(prices, least, given)
    # A frame without progress may need its own atoms fitted more closely.
    goals = np.maximum(0.2 * allowed, _ENOUGH * gaps) * 0.1**stuck / units
    n_newton = _NEWTON * (1 + 4 * bool((stuck > 1).any()))
    sounding.improve(problem, frames, goals, n_updates=_UPDATES, n_newton=n_newton)


def _as_given(problem: _Problem, frames: NDArray[np.intp], sounding: _Sounding) -> Floats:
    """(n, room) the gains of the atoms as given, in the dtype of V and W."""
    values, scales = sounding.values, problem.scales[sounding.atoms]
    gains = values * problem.levels[frames, None]
    out = np.divide(gains, scales, out=np.zeros(values.shape), where=scales > 0)
    return out.astype(values.dtype)


def _kl_gaps(floor: float, totals: NDArray[np.float64], worst: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) the divergence less its dual bound at theta = alpha V / Y."""
    mass, heard, seen = totals[:, 1], totals[:, 2], totals[:, 3]
    pull = floor * seen
    # Alpha is as large as is feasible, but not beyond the point at which the bound stops rising.
    most = np.divide(1, worst, out=np.full(len(worst), np.inf), where=worst > 0)
    rises = np.divide(heard, pull, out=np.full(len(worst), np.inf), where=pull > 0)
    alpha = np.minimum(most, rises)
    alpha[~np.isfinite(alpha)] = 1
    gaps: NDArray[np.float64] = mass - heard - heard * np.log(alpha) + alpha * pull
    return gaps


def _euclidean_gaps(
    V: Floats, ratios: NDArray[np.float64], totals: NDArray[np.float64], worst: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) the divergence less its dual bound at rho, the best multiple of V - Y - t.

    The shift t, the largest price, makes rho feasible: no atom has a positive product with it.
    """
    rho = ratios - np.maximum(worst, 0)[:, None]
    energy = np.einsum("nf,nf->n", rho, rho)
    along = np.einsum("nf,nf->n", V.astype(np.float64), rho)
    part = np.divide(along, energy, out=np.zeros(len(rho)), where=energy > 0).clip(0)
    gaps: NDArray[np.float64] = totals[:, 0] - part * along + 0.5 * part * part * energy
    return gaps


def _step(iteration: int, problem: _Problem, state: _State, sounding: _Sounding) -> ExactStep:
    gains = _as_given(problem, np.arange(len(sounding.counts)), sounding)
    sounds = np.arange(gains.shape[1]) < sounding.counts[:, None]
    frames, places = np.nonzero(sounds & (gains > 0))
    H = scipy.sparse.csc_array(
        (gains[frames, places], (sounding.atoms[frames, places], frames)), shape=(len(problem.Wt), len(problem.Vt))
    )
    return ExactStep(iteration, H, float(state.divergences.sum()), float(state.gaps.sum()), state.gaps.copy())
