"""Whole grains: diagonals of the activations read as stretches of the source, and the best of them chosen.

The restrictions of Let it Bee favour diagonals entry by entry, and leave crumbs. Here a diagonal stretch is kept or
dropped as a whole, so that what sounds is a piece of the source with its own beginning and end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, Integers, check_count
from smalti.nmf.let_it_bee import PerFrame

# Tells of places, atoms (P,) and frames (P,), which may sound.
Allowed = Callable[[Integers, Integers], NDArray[np.bool_]]

# A grain counts as sounding down to so many dB under the loudest of its frame, and of the whole mosaic.
UNDER_FRAME_DB = 30.0
UNDER_ALL_DB = 60.0
# Frames that a stretch may pause without falling in two.
MOST_GAP = 3


@dataclass(frozen=True, eq=False)
class Runs:
    """Diagonal stretches of activations, one entry each.

    Attributes
    ----------
    atoms, frames : (R,) int arrays. The stretch goes from atom ``atoms[i]`` in frame ``frames[i]`` diagonally down.
    lengths : (R,) int array, frames.
    energies : (R,) float64 array, summed squares of the contributions.
    """

    atoms: NDArray[np.intp]
    frames: NDArray[np.intp]
    lengths: NDArray[np.intp]
    energies: NDArray[np.float64]

    def only(self, chosen: NDArray[np.intp]) -> "Runs":
        """Those of the given indices, in that order."""
        return Runs(self.atoms[chosen], self.frames[chosen], self.lengths[chosen], self.energies[chosen])


def find_runs(
    contributions: Floats,
    segments: NDArray[np.intp] | None = None,
    *,
    under_frame_db: float = UNDER_FRAME_DB,
    allowed: Allowed | None = None,
) -> Runs:
    """Read the diagonals.

    Parameters
    ----------
    contributions : (K, N) float array, >= 0: activations times the norms of their atoms.
    segments : (K,) ints or None, the recording of each atom; no stretch runs from one into the next.
    under_frame_db : what an entry may lie under the largest of its frame.
    allowed : where something may sound; None for everywhere. No stretch passes over a place where nothing may.

    Returns
    -------
    Runs : of entries within `under_frame_db` of their frame's largest and `UNDER_ALL_DB` of the largest of all, gaps of
        up to `MOST_GAP` frames closed.
    """
    atoms, frames = np.nonzero(contributions)
    return runs_in(
        atoms,
        frames,
        contributions[atoms, frames],
        segments,
        contributions.shape[1],
        under_frame_db=under_frame_db,
        allowed=allowed,
    )


def runs_in(
    atoms: NDArray[np.intp],
    frames: NDArray[np.intp],
    contributions: Floats,
    segments: NDArray[np.intp] | None,
    n_frames: int,
    *,
    under_frame_db: float = UNDER_FRAME_DB,
    allowed: Allowed | None = None,
) -> Runs:
    """`find_runs` in a list of contributions, (E,) each: `contributions[i]` > 0 of `atoms[i]` in `frames[i]`."""
    loudest = np.zeros(n_frames, contributions.dtype)
    np.maximum.at(loudest, frames, contributions)
    least = np.maximum(loudest * 10 ** (-under_frame_db / 20), loudest.max(initial=0) * 10 ** (-UNDER_ALL_DB / 20))
    heard = (contributions > 0) & (contributions >= least[frames])
    atoms, frames, contributions = atoms[heard], frames[heard], contributions[heard]
    recordings = np.zeros(len(atoms), np.intp) if segments is None else np.asarray(segments)[atoms]
    diagonals = frames - atoms
    order = np.lexsort((frames, diagonals, recordings))
    atoms, frames, recordings, diagonals = atoms[order], frames[order], recordings[order], diagonals[order]
    pauses = np.diff(frames) - 1
    breaks = (np.diff(diagonals) != 0) | (np.diff(recordings) != 0) | (pauses > MOST_GAP)
    if allowed is not None:
        for step in range(1, MOST_GAP + 1):
            over = np.flatnonzero(~breaks & (pauses >= step))
            breaks[over] = ~allowed(atoms[over] + step, frames[over] + step)
    first = np.flatnonzero(np.concatenate([np.ones(min(1, len(atoms)), bool), breaks]))
    last = np.append(first[1:], len(atoms))[: len(first)] - 1
    energies = contributions[order].astype(np.float64) ** 2
    return Runs(
        atoms=atoms[first],
        frames=frames[first],
        lengths=frames[last] - frames[first] + 1,
        energies=np.add.reduceat(energies, first) if len(first) else np.zeros(0),
    )


def choose_runs(runs: Runs, *, layers: PerFrame, shortest: int = 1, tails: NDArray[np.intp] | None = None) -> Runs:
    """The stretches to keep: the strongest first, each if at least half of its frames still have room.

    Parameters
    ----------
    runs : from `find_runs`, or `drifting`.
    layers : int >= 1, or one for each frame. A frame has room while fewer than so many stretches sound in it.
    shortest : int >= 1. Shorter stretches come last, each if nothing else sounds in at least half of its frames.
    tails : (R,) ints or None: how many frames each goes on for once it is kept, or up to the first without room.

    Returns
    -------
    Runs, in the order they were taken: strongest first, equal ones in their order.
    """
    for number in set(layers) if isinstance(layers, tuple) else (layers,):
        check_count("layers", number, least=1)
    check_count("shortest", shortest, least=1)
    ends = runs.frames + runs.lengths
    longest = ends if tails is None else ends + tails
    sounding = np.zeros(int(longest.max(initial=0)), np.intp)
    room_for = np.array(layers) if isinstance(layers, tuple) else np.full(len(sounding), layers)
    chosen, lengths = list[int](), runs.lengths.copy()
    short = runs.lengths < shortest
    for i in np.lexsort((-runs.energies, short)):
        frames = slice(runs.frames[i], longest[i])
        free = sounding[frames] < (1 if short[i] else room_for[frames])
        if 2 * np.count_nonzero(free[: runs.lengths[i]]) >= runs.lengths[i]:
            # A grain that goes on beyond its own end gives way to a stronger one that is there already.
            lengths[i] += np.argmin(np.append(free[runs.lengths[i] :], False))
            sounding[runs.frames[i] : runs.frames[i] + lengths[i]] += 1
            chosen.append(int(i))
    return replace(runs, lengths=lengths).only(np.array(chosen, np.intp))


def drifting(
    runs: Runs, segments: NDArray[np.intp], reach: Integers, allowed: Allowed | None = None
) -> tuple[Runs, NDArray[np.intp]]:
    """Stretches that may go on as their recordings do, and for how many frames, (R,), the tails of `choose_runs`.

    Those that one going on leads to are one with it, so that no two have the same place.

    Parameters
    ----------
    runs : from `find_runs`. segments : (K,) ints, the recording of each atom. allowed : as for `find_runs`.
    reach : (N,) ints, how many frames a stretch that begins there may go on for.
    """
    order = np.lexsort((runs.frames, runs.frames - runs.atoms))
    runs = runs.only(order)
    ends, last = runs.frames + runs.lengths, runs.atoms + runs.lengths - 1
    tails, going = np.zeros(len(ends), np.intp), np.ones(len(ends), bool)
    for step in range(1, int(reach.max(initial=0)) + 1):
        atoms, frames = last + step, ends - 1 + step
        going &= (step <= reach[runs.frames]) & (atoms < len(segments)) & (frames < len(reach))
        going[going] = segments[atoms[going]] == segments[last[going]]
        if allowed is not None:
            going[going] = allowed(atoms[going], frames[going])
        tails += going
    parted = (np.diff(runs.frames - runs.atoms) != 0) | (runs.frames[1:] >= (ends + tails)[:-1])
    first = np.flatnonzero(np.concatenate([np.ones(min(1, len(ends)), bool), parted]))
    final = np.append(first[1:], len(ends))[: len(first)] - 1
    joined = Runs(
        runs.atoms[first],
        runs.frames[first],
        ends[final] - runs.frames[first],
        np.add.reduceat(runs.energies, first) if len(first) else np.zeros(0),
    )
    return joined, tails[final]


def close_gaps(
    runs: Runs, segments: NDArray[np.intp], wanted: NDArray[np.bool_], allowed: Allowed | None = None
) -> Runs:
    """Stretches made longer where nothing would sound: each gap by the one after it, as far as its recording goes back.

    What is left of a gap then, the stretch before it fills by going on.

    Parameters
    ----------
    runs : from `find_runs`, those chosen. segments : (K,) ints, the recording of each atom.
    wanted : (N,) bools, the frames in which something is to sound. Gaps in others stay.
    allowed : as for `find_runs`.

    Returns
    -------
    Runs, in the same order, with their energies as they were.
    """
    atoms, frames, lengths = runs.atoms.copy(), runs.frames.copy(), runs.lengths.copy()
    covered = np.zeros(len(wanted), bool)
    for first, length in zip(frames, lengths, strict=True):
        covered[first : first + length] = True
    open_ = np.flatnonzero(wanted & ~covered)
    starts = open_[np.flatnonzero(np.diff(open_, prepend=-2) > 1)]
    ends = open_[np.flatnonzero(np.diff(open_, append=len(wanted) + 1) > 1)] + 1
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        for run in np.flatnonzero(frames == end):
            back = _steps_within(segments, int(atoms[run]), -1, end - start)
            back = _steps_allowed(allowed, int(atoms[run]), int(frames[run]), -1, back)
            atoms[run] -= back
            frames[run] -= back
            lengths[run] += back
            end -= back
            break
        for run in np.flatnonzero(frames + lengths == start):
            atom, frame = int(atoms[run] + lengths[run]) - 1, start - 1
            on = _steps_within(segments, atom, 1, end - start)
            lengths[run] += _steps_allowed(allowed, atom, frame, 1, on)
            break
    return Runs(atoms, frames, lengths, runs.energies)


def _steps_within(segments: NDArray[np.intp], atom: int, step: int, most: int) -> int:
    """How many steps of +1 or -1, at most `most`, lead from an atom to others of its recording."""
    along = segments[atom + step :: step][:most] if 0 <= atom + step < len(segments) else segments[:0]
    same = along == segments[atom]
    return len(same) if same.all() else int(np.argmin(same))


def _steps_allowed(allowed: Allowed | None, atom: int, frame: int, step: int, most: int) -> int:
    """How many steps of +1 or -1 along the diagonal, at most `most`, lead from a place to others that may sound."""
    if allowed is None or not most:
        return most
    steps = step * np.arange(1, most + 1)
    return int(np.argmin(np.append(allowed(atom + steps, frame + steps), False)))


def keep_runs(H: Floats, runs: Runs) -> Floats:
    """`H` (K, N) with nothing left but the given stretches.

    Where a stretch pauses it gets a thousandth of its frame's largest activation: updates can lower that or raise it,
    while from 0 they could do neither.
    """
    out = np.zeros_like(H)
    quiet = H.dtype.type(1e-3) * H.max(axis=0)
    atoms, frames = places(runs)
    out[atoms, frames] = np.maximum(H[atoms, frames], quiet[frames])
    return out


def smooth_runs(H: Floats, runs: Runs, *, reach: int) -> Floats:
    """`H` (K, N) with the gains along each stretch averaged over `reach` frames to either side.

    Windows overlap, and no signal has spectra whose gains jump from one to the next. Inside its ends a stretch is
    averaged with triangular weights; at its ends with what is there of them, so that it begins and ends as loud.

    Parameters
    ----------
    H : (K, N) float array, >= 0; not modified. runs : the stretches, none on another's place.
    reach : int >= 0; 0 changes nothing.
    """
    out = H.copy()
    atoms, frames = places(runs)
    out[atoms, frames] = smoothed(H[atoms, frames], runs.lengths, reach=reach)
    return out


def smoothed(gains: Floats, lengths: NDArray[np.intp], *, reach: int) -> Floats:
    """As `smooth_runs`, of gains (E,) in the order of `places`; `lengths` (R,) are those of the stretches."""
    check_count("reach", reach, least=0)
    weights = 1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)
    out, end = gains.copy(), 0
    for length in lengths.tolist():
        along, middle = slice(end, end + length), slice(reach, reach + length)
        out[along] = np.convolve(gains[along], weights)[middle] / np.convolve(np.ones(length), weights)[middle]
        end += length
    return out


def places(runs: Runs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Atoms and frames, (E,) each, of all that the stretches hold, stretch after stretch."""
    starts = np.cumsum(runs.lengths) - runs.lengths
    steps = np.arange(int(runs.lengths.sum())) - np.repeat(starts, runs.lengths)
    return np.repeat(runs.atoms, runs.lengths) + steps, np.repeat(runs.frames, runs.lengths) + steps
