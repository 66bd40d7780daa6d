"""Sketches: which moments of the source may sound when, and how much they count, painted over the activations."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, Integers, ParameterError, ParameterTypeError, check_magnitudes, check_real
from smalti.grains.dictionary import Dictionary
from smalti.grains.filters import Tagged, check_pattern, meets

# No weight is larger; the same holds of recordings.
MOST_WEIGHT = 1000.0
# An example of the form, for error messages.
STROKE_EXAMPLE = "'2..4 10..20=0', '0..3 rain*=0' or '0..3 bees.wav 10..20=4'"


@dataclass(frozen=True, eq=False)
class Sketch:
    """Weights over source frames and target frames: 0 forbids, other numbers multiply what is ranked and chosen by.

    They are kept as few rows and columns, each of which stands for many frames: of hours of source, all of them would
    not fit into memory.

    Attributes
    ----------
    cells : (A, U) float32, 0 to 1000, the weights. rows : (K,) ints, which of the A rows each source frame has.
    columns : (N,) ints, which of the U columns each target frame has.
    """

    cells: NDArray[np.float32]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]

    def at(self, atoms: Integers, frames: Integers) -> NDArray[np.float32]:
        """The weights of places, by their source and target frames: ints of one shape, or that broadcast."""
        weights: NDArray[np.float32] = self.cells[self.rows[atoms], self.columns[frames]]
        return weights

    def allowed(self, atoms: Integers, frames: Integers) -> NDArray[np.bool_]:
        """Which places may sound."""
        return self.at(atoms, frames) > 0

    def whole(self) -> NDArray[np.float32]:
        """(K, N): all weights."""
        return self.at(np.arange(len(self.rows))[:, None], np.arange(len(self.columns)))

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(K, N)"""
        return len(self.rows), len(self.columns)

    def by_what_may_sound(self, most: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
        """Target frames in which the same source frames may sound, (n,) ints, and which these are, (K,) bools.

        Where there would be more than `most` such groups, each is of consecutive frames, and has what may sound in any.
        """
        may: NDArray[np.bool_] = self.cells > 0
        kinds, which = np.unique(may, axis=1, return_inverse=True)
        groups = [np.flatnonzero(which.ravel()[self.columns] == i) for i in range(kinds.shape[1])]
        if len(groups) > most:
            groups = np.array_split(np.arange(len(self.columns)), most)
        for frames in groups:
            if len(frames):
                some = may[:, np.unique(self.columns[frames])]
                yield frames, np.logical_or.reduce(some, axis=1)[self.rows]

    def times(self, other: "Sketch") -> "Sketch":
        """One sketch over another: the products of their weights."""
        (own_rows, rows), (own_columns, columns) = (
            _pairs(self.rows, other.rows),
            _pairs(self.columns, other.columns),
        )
        cells = self.cells[own_rows[0]][:, own_columns[0]] * other.cells[own_rows[1]][:, own_columns[1]]
        return Sketch(np.minimum(cells, np.float32(MOST_WEIGHT)), rows, columns)


def _pairs(a: NDArray[np.intp], b: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pairs that two lists of numbers make, (2, P), and which of them stands where."""
    pairs, which = np.unique(np.stack([a, b]), axis=1, return_inverse=True)
    return pairs, which.ravel()


@dataclass(frozen=True)
class Stroke:
    """A rectangle of a sketch.

    Attributes
    ----------
    target_s : seconds of the target, from and to. source_s : seconds of each recording, or None for all of it.
    source : a pattern that recordings meet, see `smalti.grains.filters.Filters`; None for all of them.
    weight : 0 to 1000, of what lies inside; 0 forbids it.

    Raises
    ------
    TypeError, ValueError : for spans that end before they begin, and for weights out of range.
    """

    target_s: tuple[float, float]
    source_s: tuple[float, float] | None = None
    source: str | None = None
    weight: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_s", _span("target_s", self.target_s))
        if self.source_s is not None:
            object.__setattr__(self, "source_s", _span("source_s", self.source_s))
        if self.source is not None:
            check_pattern("source", self.source)
        check_real("weight", self.weight, least=0, most=MOST_WEIGHT)

    @classmethod
    def parse(cls, text: str) -> "Stroke":
        """The rectangle of a text such as ``2..4 10..20=0``, ``0..3 rain*=0`` or ``0..3 bees.wav 10..20=4``.

        Seconds of the target come first, then a pattern of recordings, or seconds of these, or both, then the weight. A
        span may lack an end, and then has none: ``2..`` goes on to the end of the target.
        """
        places, equals, number = text.rpartition("=")
        if not equals:
            raise ValueError(f"it has no weight; end it with one, such as =0, which forbids: {STROKE_EXAMPLE}")
        first, _, rest = places.strip().partition(" ")
        target_s = _read_span(first)
        if target_s is None:
            raise ValueError(f"{first!r} are no seconds of the target; begin with some, such as 0..3: {STROKE_EXAMPLE}")
        before, space, last = rest.strip().rpartition(" ")
        source_s = _read_span(last)
        pattern = (before if source_s else before + space + last).strip()
        try:
            weight = float(number)
        except ValueError:
            raise ValueError(
                f"{number.strip()!r} is no weight; end it with a number, such as =0: {STROKE_EXAMPLE}"
            ) from None
        return cls(target_s, source_s, pattern or None, weight)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        parts = (_of_span(self.target_s), self.source, None if self.source_s is None else _of_span(self.source_s))
        return f"{' '.join(part for part in parts if part)}={self.weight:g}"


def _read_span(text: str) -> tuple[float, float] | None:
    """Seconds from and to, of a text such as 0..3, or 2.. to no end; None if it is none."""
    begin, dots, end = text.partition("..")
    # Three dots are a slip, not an end of less than a second.
    if not dots or end.startswith("."):
        return None
    try:
        return float(begin or 0), float(end or math.inf)
    except ValueError:
        return None


def _span(name: str, span: tuple[float, float]) -> tuple[float, float]:
    if not isinstance(span, list | tuple) or len(span) != 2:
        raise ParameterTypeError(name, f"is {span!r}", "pass seconds from and to, such as (2, 4)")
    begin, end = span[0], span[1]
    check_real(f"the begin of {name}", begin, least=0)
    if end != math.inf:
        check_real(f"the end of {name}", end, least=0)
    if not begin < end:
        raise ParameterError(name, f"goes from {begin:g} to {end:g} s", "pass an end after its begin")
    return float(begin), float(end)


def _of_span(span: tuple[float, float]) -> str:
    begin, end = span
    return f"{begin:g}..{'' if end == math.inf else f'{end:g}'}"


def sketch_of_array(weights: ArrayLike, n_atoms: int, n_frames: int) -> Sketch:
    """A sketch that has a number of its own for every source frame and target frame.

    Parameters
    ----------
    weights : (K, N) numbers, 0 to 1000. n_atoms, n_frames : K and N.

    Raises
    ------
    ValueError, TypeError : for another shape, and for what is negative, not finite or no number.
    """
    shape = np.shape(weights)
    if shape != (n_atoms, n_frames):
        raise ParameterError(
            "sketch",
            f"has shape {shape}",
            f"pass ({n_atoms}, {n_frames}): a row for each of the {n_atoms} source frames and a column for each of the "
            f"{n_frames} target frames",
        )
    cells = check_magnitudes("sketch", weights, most=MOST_WEIGHT).astype(np.float32)
    return Sketch(cells, np.arange(n_atoms), np.arange(n_frames))


def sketch_of_image(pixels: ArrayLike, n_atoms: int, n_frames: int) -> Sketch:
    """The sketch of a picture that lies over the one of the activations.

    From left to right it is the target's time, from bottom to top the source's, whatever size it has. Black forbids,
    white leaves everything as it is, and grey between makes it count less.

    Parameters
    ----------
    pixels : (h, w) uint8, or floats from 0 to 1; the top row comes first. n_atoms, n_frames : K and N.

    Raises
    ------
    ValueError, TypeError : for another shape, kind or range.
    """
    picture = np.asarray(pixels)
    if picture.ndim != 2 or not picture.size:
        raise ValueError(
            f"pixels have shape {picture.shape}; pass one number a pixel, (height, width), of at least one"
        )
    if picture.dtype == np.uint8:
        picture = picture / np.float32(255)
    elif picture.dtype.kind != "f":
        raise TypeError(f"pixels have dtype {picture.dtype}; pass uint8, or floats from 0 to 1")
    check_magnitudes("pixels", picture, most=1)
    height, width = picture.shape
    return Sketch(
        picture[::-1].astype(np.float32),
        # The pixel that the middle of a frame's place in the picture lies in.
        (2 * np.arange(n_atoms) + 1) * height // (2 * n_atoms),
        (2 * np.arange(n_frames) + 1) * width // (2 * n_frames),
    )


def sketch_of_strokes(
    strokes: Sequence[Stroke], dictionary: Dictionary, n_frames: int, *, infos: Sequence[Tagged] | None = None
) -> Sketch:
    """The sketch of some rectangles: where they lie over each other the last one counts, where there is none, 1.

    Parameters
    ----------
    dictionary : the source. n_frames : of the target.
    infos : what patterns are met by, one for each recording of the source; by default the dictionary's sources.

    Raises
    ------
    ValueError : for a rectangle in which nothing lies: beyond the target's end or the recordings', or in none of them.
    """
    hop_s = dictionary.hop_s
    infos = infos or dictionary.sources
    # The parts of a long file are on one grid.
    file_of = dictionary.file_ids[dictionary.recording_ids]
    own_s = (np.arange(len(file_of)) - np.searchsorted(file_of, file_of)) * hop_s
    times_s = np.arange(n_frames) * hop_s
    in_rows, in_columns = [], []
    for stroke in strokes:
        if not (frames := _within(times_s, stroke.target_s)).any():
            raise ValueError(f"the stroke {stroke} begins after the target, which lasts {n_frames * hop_s:.3g} s")
        of = np.array([stroke.source is None or meets(one, stroke.source) for one in infos], bool)
        if not of.any():
            raise ValueError(
                f"the stroke {stroke} has {stroke.source!r}, which no recording in use meets; check the name"
            )
        atoms = of[dictionary.recording_ids]
        if stroke.source_s is not None:
            longest_s = own_s[atoms].max(initial=0)
            atoms = atoms & _within(own_s, stroke.source_s)
            if not atoms.any():
                raise ValueError(
                    f"the stroke {stroke} begins after its recordings, which last {longest_s:.3g} s at most"
                )
        in_rows.append(atoms)
        in_columns.append(frames)
    row_kinds, rows = _kinds(in_rows, len(file_of))
    column_kinds, columns = _kinds(in_columns, n_frames)
    cells = np.ones((len(row_kinds), len(column_kinds)), np.float32)
    for i, stroke in enumerate(strokes):
        cells[np.ix_(row_kinds[:, i], column_kinds[:, i])] = stroke.weight
    return Sketch(cells, rows, columns)


def _within(times_s: Floats, span: tuple[float, float]) -> NDArray[np.bool_]:
    # A hair early, so that what begins on a frame has it, however that time was rounded.
    return (times_s >= span[0] - 1e-6) & (times_s < span[1] - 1e-6)


def _kinds(inside: Sequence[NDArray[np.bool_]], n: int) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """The ways of lying inside some strokes or not, (A, S), and which of them each of n frames has, (n,)."""
    if not inside:
        return np.zeros((1, 0), bool), np.zeros(n, np.intp)
    kinds, which = np.unique(np.stack(inside, axis=1), axis=0, return_inverse=True)
    return kinds, which.ravel()
