"""Measures of a mosaic's activations: runs of consecutive source frames, repeats, layers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats

# A source frame sounds if it is within 30 dB of the strongest of its moment and 60 dB of the strongest of all.
FRAME_SPAN_DB, TOTAL_SPAN_DB = 30.0, 60.0
# A grain at least this long is heard as a sound of its own; a source frame that returns within it, as a stutter.
LONG_GRAIN_S = STUTTER_S = 0.150


@dataclass(frozen=True, eq=False)
class HeardGrains:
    """The activations that are heard, one entry each, ordered by diagonal and then by time.

    Attributes
    ----------
    atoms, frames : (M,) ints, rows and columns of H. energies : (M,) float64, squared contribution ``(h ||w||)²``.
    runs : (M,) ints, 0 to R - 1: entries of one run follow each other diagonally without a gap.
    n_frames : frames of H.
    """

    atoms: NDArray[np.intp]
    frames: NDArray[np.intp]
    energies: Floats
    runs: NDArray[np.intp]
    n_frames: int


def sounding(activations: Any, norms: ArrayLike, segments: ArrayLike | None = None) -> HeardGrains:
    """Which source frames sound when, and in which runs.

    Parameters
    ----------
    activations : (K, N) array or scipy.sparse matrix; signs do not matter.
    norms : (K,) Euclidean lengths of the atoms. An activation counts by what it contributes, ``h ||w||``: a large gain
        of a near-silent atom is not heard.
    segments : (K,) ints, the recording each atom comes from; a run ends where a recording does. None: all from one.

    Returns
    -------
    HeardGrains : entries within 30 dB of their frame's strongest and 60 dB of the strongest of all.

    Raises
    ------
    ValueError : if the numbers of atoms disagree.
    """
    H = scipy.sparse.coo_array(scipy.sparse.csc_array(activations))
    lengths = np.asarray(norms, dtype=np.float64)
    labels = np.zeros(H.shape[0], np.intp) if segments is None else np.asarray(segments)
    for name, array in (("norms", lengths), ("segments", labels)):
        if array.shape != (H.shape[0],):
            raise ValueError(f"{name} has shape {array.shape}; pass one number for each of the {H.shape[0]} atoms")
    atoms, frames = H.coords
    energies = (H.data.astype(np.float64) * lengths[atoms]) ** 2
    strongest = np.zeros(H.shape[1])
    np.maximum.at(strongest, frames, energies)
    total = strongest.max(initial=0.0) * 10 ** (-TOTAL_SPAN_DB / 10)
    heard = (energies > 0) & (energies >= strongest[frames] * 10 ** (-FRAME_SPAN_DB / 10)) & (energies >= total)
    atoms, frames, energies = atoms[heard], frames[heard], energies[heard]
    order = np.lexsort((frames, atoms.astype(np.intp) - frames))
    atoms, frames, energies = atoms[order].astype(np.intp), frames[order].astype(np.intp), energies[order]
    goes_on = (np.diff(atoms) == 1) & (np.diff(frames) == 1) & (np.diff(labels[atoms]) == 0)
    runs = np.cumsum(np.concatenate([[False], ~goes_on])) if atoms.size else np.zeros(0, np.intp)
    return HeardGrains(atoms, frames, energies, runs.astype(np.intp), H.shape[1])


def run_lengths(heard: HeardGrains) -> NDArray[np.intp]:
    """Frames in the run that each entry belongs to: (M,)."""
    return np.bincount(heard.runs)[heard.runs] if heard.runs.size else heard.runs


def run_ms(heard: HeardGrains, hop_s: float) -> float:
    """``run_ms``: length of the run that is heard at a typical moment, the energy-weighted mean, in ms.

    From one hop, where no two consecutive source frames follow each other, to the whole mosaic; 0 where nothing sounds.

    References
    ----------
    Ours.
    """
    return 1000 * hop_s * _weighted(run_lengths(heard), heard.energies)


def long_share(heard: HeardGrains, hop_s: float, *, long_s: float = LONG_GRAIN_S) -> float:
    """``long``: share of the energy in runs of at least `long_s`, 0 to 1.

    References
    ----------
    Ours.
    """
    return _weighted(run_lengths(heard) * hop_s >= long_s - 1e-9, heard.energies)


def stutter_share(heard: HeardGrains, hop_s: float, *, within_s: float = STUTTER_S) -> float:
    """``rep``: share of the energy in source frames that sounded at most `within_s` before, 0 to 1; 0 never stutters.

    References
    ----------
    Ours; the repetition rule of Driedger, Prätzlich & Müller (2015), "Let it Bee", ISMIR, prevents such stutter.
    """
    order = np.lexsort((heard.frames, heard.atoms))
    again = (np.diff(heard.atoms[order]) == 0) & (np.diff(heard.frames[order]) * hop_s <= within_s + 1e-9)
    repeats = np.zeros(len(order), bool)
    repeats[order[1:]] = again
    return _weighted(repeats, heard.energies)


def polyphony(heard: HeardGrains) -> float:
    """``poly``: source frames sounding at once, the mean over the target frames in which any does; 0 for silence.

    References
    ----------
    Ours.
    """
    counts = np.bincount(heard.frames, minlength=1)
    return float(counts[counts > 0].mean()) if heard.frames.size else 0.0


def _weighted(values: NDArray[Any], weights: Floats) -> float:
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total > 0 else 0.0
