"""Whole grains: read diagonals of the activations as stretches of the source, and choose the best of them.

The restrictions of Let it Bee favour diagonals entry by entry, and leave fragments. Here a diagonal stretch is kept or
dropped as a whole, so that each grain is a piece of the source with its own beginning and end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, Integers, check_count
from smalti.nmf.let_it_bee import PerFrame

# Takes places, as atoms (P,) and frames (P,), and returns (P,) bools: True where something may sound.
Allowed = Callable[[Integers, Integers], NDArray[np.bool_]]

# An entry counts as sounding down to this many dB under the loudest of its frame, and under the loudest of the mosaic.
UNDER_FRAME_DB = 30.0
UNDER_ALL_DB = 60.0
# A stretch may pause for this many frames without being split in two.
MOST_GAP = 3


@dataclass(frozen=True, eq=False)
class Runs:
    """Diagonal stretches of activations, one entry each.

    Attributes
    ----------
    atoms, frames : (R,) int arrays. The stretch goes from atom ``atoms[i]`` in frame ``frames[i]`` diagonally down.
    lengths : (R,) int array, in frames.
    energies : (R,) float64 array, the sums of the squared contributions.
    """

    atoms: NDArray[np.intp]
    frames: NDArray[np.intp]
    lengths: NDArray[np.intp]
    energies: NDArray[np.float64]

    def only(self, chosen: NDArray[np.intp]) -> "Runs":
        """The stretches with the given indices, in that order."""
        return Runs(self.atoms[chosen], self.frames[chosen], self.lengths[chosen], self.energies[chosen])


def find_runs(
    contributions: Floats,
    segments: NDArray[np.intp] | None = None,
    *,
    under_frame_db: float = UNDER_FRAME_DB,
    allowed: Allowed | None = None,
) -> Runs:
    """Find the diagonal stretches in a matrix.

    Parameters
    ----------
    contributions : (K, N) float array, >= 0: activations times the norms of their atoms.
    segments : (K,) ints or None, the recording of each atom. No stretch runs from one recording into the next.
    under_frame_db : how far in dB an entry may lie under the largest of its frame.
    allowed : where something may sound; None for everywhere. No stretch passes over a place where nothing may sound.

    Returns
    -------
    Runs : the stretches of entries within `under_frame_db` of the largest of their frame, and `UNDER_ALL_DB` of the
        largest of all. Gaps of up to `MOST_GAP` frames are closed.
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
    """`find_runs` for E listed entries: `contributions[i]` >= 0 is that of atom ``atoms[i]`` in frame ``frames[i]``."""
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
    """Choose the stretches to keep: the strongest first, each if at least half of its frames still have room.

    Parameters
    ----------
    runs : from `find_runs`, or `drifting`.
    layers : int >= 1, or one for each frame. A frame has room while fewer stretches than this sound in it.
    shortest : int >= 1, in frames. Shorter stretches come last; each is kept if nothing else sounds in at least half of
        its frames.
    tails : (R,) ints or None: by how many frames each stretch is extended once it is kept. The extension ends early at
        a frame without room.

    Returns
    -------
    Runs, in the order they were chosen: the strongest first, equal ones in their order.

    Raises
    ------
    ValueError, TypeError : if `layers` or `shortest` is no integer >= 1.
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
            # An extension stops where stronger grains have taken the room already.
            lengths[i] += np.argmin(np.append(free[runs.lengths[i] :], False))
            sounding[runs.frames[i] : runs.frames[i] + lengths[i]] += 1
            chosen.append(int(i))
    return replace(runs, lengths=lengths).only(np.array(chosen, np.intp))


def drifting(
    runs: Runs, segments: NDArray[np.intp], reach: Integers, allowed: Allowed | None = None
) -> tuple[Runs, NDArray[np.intp]]:
    """Let stretches go on beyond their ends, along their recordings.

    A stretch is joined with those on its diagonal that it would run into, so that no two cover the same place.

    Parameters
    ----------
    runs : from `find_runs`. segments : (K,) ints, the recording of each atom. allowed : as for `find_runs`.
    reach : (N,) ints, by how many frames a stretch that begins in each frame may go on.

    Returns
    -------
    runs : the R stretches after joining, ordered by diagonal.
    tails : (R,) ints, by how many frames each may go on; the `tails` of `choose_runs`.
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
    """Lengthen stretches into frames where nothing would sound.

    The stretch after a gap is extended back into it, as far as its recording goes. If part of the gap remains, the
    stretch before it is extended forwards.

    Parameters
    ----------
    runs : the chosen stretches. segments : (K,) ints, the recording of each atom.
    wanted : (N,) bools, the frames in which something should sound. Gaps in other frames stay.
    allowed : as for `find_runs`.

    Returns
    -------
    Runs, in the same order and with unchanged energies.
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
    """The number of steps of +1 or -1, at most `most`, that lead from an atom to others of its recording."""
    along = segments[atom + step :: step][:most] if 0 <= atom + step < len(segments) else segments[:0]
    same = along == segments[atom]
    return len(same) if same.all() else int(np.argmin(same))


def _steps_allowed(allowed: Allowed | None, atom: int, frame: int, step: int, most: int) -> int:
    """The number of diagonal steps of +1 or -1, at most `most`, that lead from a place to others that may sound."""
    if allowed is None or not most:
        return most
    steps = step * np.arange(1, most + 1)
    return int(np.argmin(np.append(allowed(atom + steps, frame + steps), False)))


def keep_runs(H: Floats, runs: Runs) -> Floats:
    """`H` (K, N) with every entry outside the given stretches set to 0.

    Entries in the pauses of a stretch get a thousandth of their frame's largest activation, because multiplicative
    updates cannot change a 0.
    """
    out = np.zeros_like(H)
    quiet = H.dtype.type(1e-3) * H.max(axis=0)
    atoms, frames = places(runs)
    out[atoms, frames] = np.maximum(H[atoms, frames], quiet[frames])
    return out


def smooth_runs(H: Floats, runs: Runs, *, reach: int) -> Floats:
    """`H` (K, N) with the gains along each stretch averaged over `reach` frames to either side.

    Windows overlap, so no signal has spectra whose gains jump from one frame to the next. The weights are triangular.
    Near the ends of a stretch only the weights inside it are used, so that it begins and ends as loud as before.

    Parameters
    ----------
    H : (K, N) float array, >= 0; not modified. runs : the stretches; no two may cover the same place.
    reach : int >= 0, in frames; 0 changes nothing.
    """
    out = H.copy()
    atoms, frames = places(runs)
    out[atoms, frames] = smoothed(H[atoms, frames], runs.lengths, reach=reach)
    return out


def smoothed(gains: Floats, lengths: NDArray[np.intp], *, reach: int) -> Floats:
    """`smooth_runs` for the gains (E,) of stretches of the given lengths (R,), in the order of `places`."""
    check_count("reach", reach, least=0)
    weights = 1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)
    out, end = gains.copy(), 0
    for length in lengths.tolist():
        along, middle = slice(end, end + length), slice(reach, reach + length)
        out[along] = np.convolve(gains[along], weights)[middle] / np.convolve(np.ones(length), weights)[middle]
        end += length
    return out


def places(runs: Runs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The atoms and the frames, (E,) each, of all places in the stretches, stretch after stretch."""
    starts = np.cumsum(runs.lengths) - runs.lengths
    steps = np.arange(int(runs.lengths.sum())) - np.repeat(starts, runs.lengths)
    return np.repeat(runs.atoms, runs.lengths) + steps, np.repeat(runs.frames, runs.lengths) + steps
