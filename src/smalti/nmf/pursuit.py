"""Sparse coding: each target frame as a sum of a few source frames, by orthogonal matching pursuit.

Atoms are compared at unit norm, so that a quiet source frame of the right colour beats a loud frame of the wrong
colour. The gains returned are those of the atoms as given. (Some code compares atoms at their own loudness and then
plays them at unit norm, which explains next to nothing of the target.)
"""

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_count, check_magnitudes, check_same_bins
from smalti.nmf.base import MatrixStep, Step
from smalti.nmf.divergence import SpectralFit

# Frames whose least-squares problems are solved together: few enough to keep the gathered atoms to tens of megabytes.
SOLVED_TOGETHER = 256
# A unit atom adds only rounding if its part outside the span of the chosen atoms has less than this energy.
_DEPENDENT = 1e-12


def pursuit_steps(V: ArrayLike, W: ArrayLike, *, n_atoms: int = 1, nonnegative: bool = True) -> Iterator[Step]:
    """Yield activations with at most 1, 2, ... `n_atoms` atoms in every frame.

    Each step adds to every frame the atom that correlates best with the residual, then fits all gains of the frame anew
    by least squares.

    Parameters
    ----------
    V : (F, N) float array, >= 0. Target magnitudes.
    W : (F, K) float array, >= 0. Dictionary; need not have unit norm. All-zero atoms are never chosen.
    n_atoms : int >= 1. Atoms in each frame; at most K are used.
    nonnegative : True (default) takes only atoms of positive correlation and fits gains >= 0, since playing a sound
        cannot take another away; False is the textbook's signed pursuit.

    Yields
    ------
    Step : with `H` (K, N). A frame that is silent, or already explained, gets fewer atoms.

    Raises
    ------
    ValueError, TypeError : at the call, if shapes disagree or values are out of range.

    References
    ----------
    Pati, Rezaiifar & Krishnaprasad (1993), "Orthogonal matching pursuit", Asilomar;
    Bruckstein, Elad & Zibulevsky (2008), "On the uniqueness of nonnegative sparse solutions to underdetermined
    systems of equations", IEEE TIT 54(11) (the non-negative form).
    """
    V, W = check_magnitudes("V", V), check_magnitudes("W", W)
    check_same_bins(V, W)
    dtype = np.result_type(V, W)
    n_atoms = check_count("n_atoms", n_atoms, least=1)
    return _steps(V.astype(dtype, copy=False), W.astype(dtype, copy=False), min(n_atoms, W.shape[1]), nonnegative)


def sparse_code(V: ArrayLike, W: ArrayLike, *, n_atoms: int = 1, nonnegative: bool = True) -> Step:
    """The last step of `pursuit_steps`; same arguments."""
    return deque(pursuit_steps(V, W, n_atoms=n_atoms, nonnegative=nonnegative), maxlen=1).pop()


def _steps(V: Floats, W: Floats, n_atoms: int, nonnegative: bool) -> Iterator[Step]:
    fit = SpectralFit.of(V, W, beta=2.0, eps=0.0)
    norms = np.linalg.norm(W, axis=0)
    unit = unit_columns(W, norms)
    supports = np.zeros((V.shape[1], 0), np.intp)
    residual = V
    for n in range(1, n_atoms + 1):
        supports = np.column_stack([supports, _best_atoms(unit, residual, supports, V, nonnegative)])
        gains, residual = _fit_gains(V, unit, supports, nonnegative)
        yield MatrixStep(n, _scatter(gains, supports, norms), fit)


def unit_columns(W: Floats, norms: Floats) -> Floats:
    """`W` (F, K) with each column divided by its norm, (K,); columns of norm 0 become 0."""
    return np.divide(W, norms, out=np.zeros_like(W), where=norms > 0)


def _best_atoms(
    unit: Floats, residual: Floats, supports: NDArray[np.intp], V: Floats, nonnegative: bool
) -> NDArray[np.intp]:
    """(N,) the atom to add to each frame; -1 if none helps."""
    correlation = unit.T @ residual
    scores = correlation if nonnegative else np.abs(correlation)
    frames, columns = np.nonzero(supports >= 0)
    scores[supports[frames, columns], frames] = -1
    best = scores.argmax(axis=0)
    # A residual below the rounding of the frame itself is not sound.
    least = 4 * np.finfo(V.dtype).eps * np.linalg.norm(V, axis=0)
    found: NDArray[np.intp] = np.where(scores[best, np.arange(len(best))] > least, best, -1)
    return found


def _fit_gains(
    V: Floats, unit: Floats, supports: NDArray[np.intp], nonnegative: bool
) -> tuple[NDArray[np.float64], Floats]:
    """Least-squares gains (N, n) of each frame's atoms, and the residual (F, N).

    Atoms that add nothing become -1 in `supports`, in place.
    """
    n_frames, n = supports.shape
    gains = np.zeros((n_frames, n))
    residual = np.empty_like(V)
    for start in range(0, n_frames, SOLVED_TOGETHER):
        rows = slice(start, start + SOLVED_TOGETHER)
        atoms, targets = _gather(unit, supports[rows]), V[:, rows].T.astype(np.float64)
        gram = atoms.transpose(0, 2, 1) @ atoms
        _drop_dependent(gram, atoms, supports[rows])
        found = np.linalg.solve(gram, (targets[:, None, :] @ atoms).transpose(0, 2, 1))[:, :, 0]
        if nonnegative:
            for frame in np.flatnonzero((found < 0).any(axis=1)):
                found[frame] = _nonnegative_gains(atoms[frame], targets[frame])
                # An atom of gain 0 must leave, or atoms that depend on it could never join.
                supports[start + frame, found[frame] == 0] = -1
        gains[rows] = found
        residual[:, rows] = (targets - (atoms @ found[:, :, None])[:, :, 0]).T
    return gains, residual


def _nonnegative_gains(atoms: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares gains >= 0 of the atoms (F, n) of one frame."""
    # Imported when needed: it would be a quarter of the time that `import smalti` takes.
    from scipy.optimize import nnls

    gains: NDArray[np.float64] = nnls(atoms, target)[0]
    return gains


def _gather(unit: Floats, supports: NDArray[np.intp]) -> NDArray[np.float64]:
    """(frames, F, n) each frame's atoms side by side; zeros for an atom of -1."""
    atoms = unit.T[supports].transpose(0, 2, 1).astype(np.float64)
    atoms *= (supports >= 0)[:, None, :]
    return atoms


def _drop_dependent(gram: NDArray[np.float64], atoms: NDArray[np.float64], supports: NDArray[np.intp]) -> None:
    """Make each Gram matrix invertible, in place: drop the newest atom if it depends linearly on the others.

    Absent atoms are columns of zeros; a 1 on the diagonal gives them the gain 0.
    """
    n = supports.shape[1]
    absent = supports < 0
    gram[absent[:, :, None] & np.eye(n, dtype=bool)] = 1
    if n > 1:
        others, cross = gram[:, :-1, :-1], gram[:, :-1, -1:]
        inside = (cross.transpose(0, 2, 1) @ np.linalg.solve(others, cross))[:, 0, 0]
        dependent = gram[:, -1, -1] - inside < _DEPENDENT
        supports[dependent, -1] = -1
        atoms[dependent, :, -1] = 0
        gram[dependent, -1, :] = 0
        gram[dependent, :, -1] = 0
        gram[dependent, -1, -1] = 1


def _scatter(gains: NDArray[np.float64], supports: NDArray[np.intp], norms: Floats) -> Floats:
    """(K, N) activations of the atoms as given, from the gains (N, n) of atoms at unit norm."""
    H = np.zeros((len(norms), len(supports)), norms.dtype)
    frames, columns = np.nonzero(supports >= 0)
    atoms = supports[frames, columns]
    H[atoms, frames] = gains[frames, columns] / norms[atoms]
    return H
