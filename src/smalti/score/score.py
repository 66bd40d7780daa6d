"""The score: a mosaic as a list of grains, each a stretch of a source that sounds at a moment of the target.

Activations are read along their diagonals, and nothing is lost: `read_grains` and `Score.sounding` are inverse. A score
also holds the settings that made sound of the activations, so that `smalti.score.render.render` makes the same samples
again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from smalti._checks import Floats, Indices
from smalti.dsp.stft import StftParams
from smalti.grains.dictionary import Dictionary
from smalti.grains.shifted import Grains, Shift
from smalti.grains.source import Source
from smalti.settings import Settings


@dataclass(frozen=True)
class Target:
    """What a mosaic re-creates: the recording of that name, from `start_s` to `end_s` (None: to its end)."""

    name: str
    sha256: str = ""
    sr: int = 0
    channels: int = 0
    duration_s: float = 0.0
    start_s: float = 0.0
    end_s: float | None = None


@dataclass(frozen=True, eq=False)
class Grain:
    """A stretch of a source that sounds at a moment of the target.

    Attributes
    ----------
    id : its number, which edits keep.
    start, start_s : where it sounds: the middle of its first window, in samples and seconds of the mosaic.
    duration, duration_s : from there to the middle of its last window, and a hop more.
    source : what it is cut from.
    source_start, source_start_s : the middle of its first window in the source's file, at the mosaic's rate.
    gains : (n,) its gain envelope, a value each hop, on the source as recorded.
    level_db : its level, in dB of full scale (RMS), as added up.
    semitones : how far it is transposed, in the mean; 0 for not at all.
    channel : which channel of the mosaic it sounds in; None for all.
    partners : the ids of those that sound together with it at any time.
    """

    id: int
    start: int
    start_s: float
    duration: int
    duration_s: float
    source: Source
    source_start: int
    source_start_s: float
    gains: Floats
    level_db: float
    semitones: float
    channel: int | None
    partners: tuple[int, ...]


class Sounding(NamedTuple):
    """The grains of one channel as activations, as a solver has them.

    Attributes
    ----------
    sources, centres : (U,) which source, and which sample of it, each atom is centred on; ascending.
    H : (U, N) scipy.sparse CSC, their gains, those of shifted grains left out.
    shifts : those of the shifted grains. shifted : (K', N) scipy.sparse CSC, the gains of their frames.
    """

    sources: Indices
    centres: Indices
    H: scipy.sparse.csc_array
    shifts: tuple[Shift, ...]
    shifted: scipy.sparse.csc_array


@dataclass(frozen=True, eq=False, repr=False)
class Score(Sequence[Grain]):
    """A mosaic as a sequence of `Grain`, by time. The columns below hold what it is made of.

    Attributes
    ----------
    params, sr : the grid on which grains are added up, and its rate in Hz.
    length : samples of the mosaic. channels : their number. n_parts : channels that have grains of their own, or 1.
    dtype : of the samples, "float32" or "float64".
    settings : how sound is made of the grains.
    gain_db : the gain of the whole, before peaks are held.
    melodies : (M, N) Hz, the melodies that voices follow, for `Settings.purity`; M is 0 if there are none.
    target : what it re-creates. sources : what grains are cut from.
    ids : (G,) ints. parts : (G,) ints, the channel. origins : (G,) ints, the source.
    frames : (G,) ints >= 0, the target frame that each grain begins in. lengths : (G,) ints >= 1, frames.
    centres : (G,) ints, the sample of the source at the middle of the grain's first window.
    gains : (E,) one for every frame of every grain, grain after grain.
    levels : (G,) float64, dB of full scale.
    shifts : (G,) how each grain is transposed, or None.
    """

    params: StftParams
    sr: int
    length: int
    channels: int
    n_parts: int
    dtype: str
    settings: Settings
    gain_db: float
    target: Target
    sources: tuple[Source, ...]
    ids: Indices
    parts: Indices
    origins: Indices
    frames: Indices
    lengths: Indices
    centres: Indices
    gains: Floats
    levels: NDArray[np.float64]
    shifts: tuple[Shift | None, ...]
    melodies: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        for name in (*COLUMNS, "shifts"):
            if len(getattr(self, name)) != len(self.ids):
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {len(self.ids)} grains")
        if len(self.gains) != self.lengths.sum():
            raise ValueError(f"gains has {len(self.gains)} entries; the grains have {self.lengths.sum()} frames")
        _check_range("lengths", self.lengths, 1, self.n_frames)
        _check_range("frames", self.frames, 0, self.n_frames - 1)
        _check_range("the last of frames", self.frames + self.lengths - 1, 0, self.n_frames - 1)
        _check_range("origins", self.origins, 0, len(self.sources) - 1)
        _check_range("parts", self.parts, 0, self.n_parts - 1)
        if not (np.isfinite(self.gains).all() and (self.gains >= 0).all()):
            raise ValueError("gains holds values that are negative, NaN or infinite; pass finite gains >= 0")

    @property
    def n_frames(self) -> int:
        """N, the frames of the target."""
        return self.params.n_frames(self.length)

    @property
    def hop_s(self) -> float:
        """Seconds from one value of a gain envelope to the next."""
        return self.params.hop / self.sr

    @cached_property
    def offsets(self) -> Indices:
        """(G,) where in `gains` each grain begins."""
        offsets: Indices = np.cumsum(self.lengths) - self.lengths
        return offsets

    @cached_property
    def owners(self) -> Indices:
        """(E,) the grain that each of `gains` belongs to."""
        return np.repeat(np.arange(len(self.ids)), self.lengths)

    @cached_property
    def steps(self) -> Indices:
        """(E,) how many frames each of `gains` is from the first of its grain."""
        steps: Indices = np.arange(len(self.gains)) - self.offsets[self.owners]
        return steps

    @property
    def at(self) -> Indices:
        """(E,) the target frame of each of `gains`."""
        at: Indices = self.frames[self.owners] + self.steps
        return at

    @cached_property
    def shifted(self) -> NDArray[np.bool_]:
        """(G,) which grains sound at another pitch than they were recorded at."""
        return np.array([shift is not None for shift in self.shifts], bool)

    def __repr__(self) -> str:
        # The arrays would fill screens.
        lasts_s = self.length / self.sr
        return f"<Score of {lasts_s:.2f} s at {self.sr} Hz, grains: {len(self)}, sources: {len(self.sources)}>"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        """One grain; or the score of a slice of them."""
        if isinstance(index, slice):
            return self.only(np.arange(len(self))[index])
        i = range(len(self))[index]
        first, hop, sr = int(self.offsets[i]), self.params.hop, self.sr
        frame, length, source = int(self.frames[i]), int(self.lengths[i]), self.sources[self.origins[i]]
        start, source_start = frame * hop, source.begin + int(self.centres[i])
        shift = self.shifts[i]
        return Grain(
            id=int(self.ids[i]),
            start=start,
            start_s=start / sr,
            duration=length * hop,
            duration_s=length * hop / sr,
            source=source,
            source_start=source_start,
            source_start_s=source_start / sr,
            gains=self.gains[first : first + length],
            level_db=float(self.levels[i]),
            semitones=0.0 if shift is None else shift.semitones,
            channel=int(self.parts[i]) if self.n_parts > 1 else None,
            partners=tuple(self.ids[self.partners(i)].tolist()),
        )

    def __iter__(self) -> Iterator[Grain]:
        return (self[i] for i in range(len(self)))

    @cached_property
    def n_partners(self) -> Indices:
        """(G,) how many other grains sound together with each at any time."""
        ends = self.frames + self.lengths
        begun = np.searchsorted(np.sort(self.frames), ends, side="left")
        over = np.searchsorted(np.sort(ends), self.frames, side="right")
        counts: Indices = begun - over - 1
        return counts

    def partners(self, i: int) -> Indices:
        """The places of the grains that sound together with grain `i` at any time, ascending."""
        order, begins, longest = self._by_time
        first, end = self.frames[i], self.frames[i] + self.lengths[i]
        near = order[slice(*np.searchsorted(begins, [first - longest + 1, end]))]
        together: Indices = np.sort(near[(self.frames[near] + self.lengths[near] > first) & (near != i)])
        return together

    @cached_property
    def _by_time(self) -> tuple[Indices, Indices, int]:
        """The places of the grains by time, the frames they begin in, and how long the longest is."""
        order = np.argsort(self.frames, kind="stable")
        return order, self.frames[order], int(self.lengths.max(initial=0))

    def only(self, grains: NDArray[Any]) -> "Score":
        """The score of some of its grains, by their places or (G,) bools."""
        places = np.arange(len(self))[grains]
        return replace(
            self,
            **{name: getattr(self, name)[places] for name in COLUMNS},
            gains=_entries(self.gains, self.lengths, places),
            shifts=tuple(self.shifts[i] for i in places.tolist()),
        )

    def between(self, begin_s: float, end_s: float) -> "Score":
        """The grains, whole ones, that sound at any time from `begin_s` to `end_s`, in seconds of the mosaic."""
        begin, end = self.frames * self.hop_s, (self.frames + self.lengths) * self.hop_s
        return self.only((begin < end_s) & (end > begin_s))

    def compact(self) -> "Score":
        """The same grains, with only those sources that they are cut from."""
        kept, origins = np.unique(self.origins, return_inverse=True)
        # A score without grains keeps its first source.
        kept = kept if len(kept) else np.zeros(1, np.intp)
        return replace(self, sources=tuple(self.sources[i] for i in kept), origins=origins.astype(np.intp))

    def sorted(self) -> "Score":
        """The same grains by time, and those of one moment by their ids."""
        return self.only(np.lexsort((self.ids, self.frames)))

    def sounding(self, part: int = 0) -> Sounding:
        """The grains of one channel as activations.

        Where grains lie on one another, their gains add up.
        """
        mine = self.parts == part
        plain = mine & ~self.shifted
        entries = plain[self.owners] & (self.gains != 0)
        owners = self.owners[entries]
        sources, centres = self.origins[owners], self.centres[owners] + self.steps[entries] * self.params.hop
        places, rows = np.unique(np.stack([sources, centres]), axis=1, return_inverse=True)
        shape = (places.shape[1], self.n_frames)
        H = scipy.sparse.csc_array((self.gains[entries], (rows.ravel(), self.at[entries])), shape=shape)
        shifted = (mine & ~plain)[self.owners]
        n_shifted = np.count_nonzero(shifted)
        gains = scipy.sparse.csc_array(
            (self.gains[shifted], (np.arange(n_shifted), self.at[shifted])), shape=(n_shifted, self.n_frames)
        )
        gains.eliminate_zeros()
        # An edit may have changed which recording a grain is cut from.
        shifts = tuple(
            replace(shift, recording=origin)
            for shift, origin, own in zip(self.shifts, self.origins.tolist(), mine, strict=True)
            if own and shift is not None
        )
        return Sounding(places[0], places[1], H, shifts, gains)


# The arrays of a score that have an entry for each grain.
COLUMNS = ("ids", "parts", "origins", "frames", "lengths", "centres", "levels")


def _check_range(name: str, values: NDArray[Any], least: int, most: int) -> None:
    out = (values < least) | (values > most)
    if out.any():
        raise ValueError(f"{name} holds {int(values[out][0])}; pass {least} to {most}")


class Columns(NamedTuple):
    """Some grains, in any order; as the columns of `Score`."""

    origins: Indices
    frames: Indices
    lengths: Indices
    centres: Indices
    gains: Floats
    levels: NDArray[np.float64]
    shifts: tuple[Shift | None, ...]


def read_grains(activations: Any, dictionary: Dictionary) -> Columns:
    """Read activations along their diagonals.

    A grain is a run of activations that are not 0, each of the next atom in the next frame. No grain runs from one
    recording into another, or over atoms that are left out.

    Parameters
    ----------
    activations : (K, N) array or scipy.sparse matrix, >= 0. dictionary : its K atoms.

    Returns
    -------
    Columns : by frame, then by atom; `Columns.origins` count the dictionary's recordings.
    """
    H = scipy.sparse.coo_array(activations)
    atoms, frames, gains = (values[H.data != 0] for values in (*H.coords, H.data))
    stretches = dictionary.stretches[atoms]
    order = np.lexsort((frames, frames - atoms.astype(np.intp), stretches))
    atoms, frames, gains, stretches = atoms[order], frames[order], gains[order], stretches[order]
    breaks = (np.diff(atoms) != 1) | (np.diff(frames) != 1) | (np.diff(stretches) != 0)
    firsts = np.flatnonzero(np.concatenate([np.ones(min(1, len(atoms)), bool), breaks]))
    lengths = np.diff(np.append(firsts, len(atoms)))
    loudness = gains * dictionary.norms[atoms]
    by_time = np.lexsort((atoms[firsts], frames[firsts]))
    return _columns(atoms[firsts], frames[firsts], lengths, gains, loudness, dictionary, dictionary.params, by_time)


def read_shifted(activations: scipy.sparse.csc_array, grains: Grains, dictionary: Dictionary) -> Columns:
    """The shifted grains as columns, by frame, including those that turned out silent; see `read_grains`.

    Parameters
    ----------
    activations : (K', N), for the frames of `grains`. dictionary : the source frames that these were made from.
    """
    gains = np.asarray(activations.sum(axis=1)).ravel().astype(activations.dtype)
    lengths = np.array([shift.length for shift in grains.shifts], np.intp)
    firsts = np.cumsum(lengths) - lengths
    loudness = gains * grains.dictionary.norms
    by_time = np.argsort(grains.frames[firsts], kind="stable")
    fields = grains.atoms[firsts], grains.frames[firsts], lengths, gains, loudness, dictionary, grains.dictionary.params
    return _columns(*fields, by_time)._replace(shifts=tuple(grains.shifts[i] for i in by_time.tolist()))


def _columns(
    atoms: Indices,
    frames: Indices,
    lengths: Indices,
    gains: Floats,
    loudness: Floats,
    dictionary: Dictionary,
    params: StftParams,
    order: Indices,
) -> Columns:
    """The grains in a given order, of (G,) first atoms and frames and lengths, and (E,) gains and their loudness."""
    starts = np.cumsum(lengths) - lengths
    energies = np.add.reduceat(np.square(loudness, dtype=np.float64), starts) if len(starts) else np.zeros(0)
    return Columns(
        origins=dictionary.recording_ids[atoms[order]].astype(np.intp),
        frames=frames[order].astype(np.intp),
        lengths=lengths[order].astype(np.intp),
        centres=dictionary.centres[atoms[order]].astype(np.intp),
        gains=_entries(gains, lengths, order),
        levels=_levels((energies / lengths)[order], params),
        shifts=(None,) * len(order),
    )


def _entries(gains: Floats, lengths: Indices, chosen: Indices) -> Floats:
    """The gains of the `chosen` grains, in that order, out of gains (E,) that lie grain after grain."""
    firsts, kept = np.cumsum(lengths) - lengths, lengths[chosen]
    within = np.arange(int(kept.sum())) - np.repeat(np.cumsum(kept) - kept, kept)
    return gains[np.repeat(firsts[chosen], kept) + within]


def _levels(powers: NDArray[np.float64], params: StftParams) -> NDArray[np.float64]:
    """(G,) RMS levels of samples in dB of full scale, from the mean squared lengths of magnitude spectra."""
    # Each bin of a real signal stands for two, but for the first and the last.
    mean_squares = 2 * powers / (params.n_fft * params.window_power)
    return 10 * np.log10(np.maximum(mean_squares, 1e-30))


def joined(parts: Sequence[Columns]) -> dict[str, Any]:
    """The columns of a `Score` for the grains of several channels, by time."""
    counts = [len(part.frames) for part in parts]
    which = np.repeat(np.arange(len(parts)), counts)
    together = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Columns._fields[:-1]}
    shifts = [shift for part in parts for shift in part.shifts]
    order = np.argsort(together["frames"], kind="stable")
    gains = _entries(together.pop("gains"), together["lengths"], order)
    return {
        **{name: values[order] for name, values in together.items()},
        "gains": gains,
        "shifts": tuple(shifts[i] for i in order.tolist()),
        "parts": which[order],
        "ids": np.arange(1, len(order) + 1),
    }
