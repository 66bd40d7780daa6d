"""Sketches: weights painted over the activations, which say what moments of the source may sound when."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, Integers, ParameterError, ParameterTypeError, check_magnitudes, check_real
from smalti.grains.dictionary import Dictionary
from smalti.grains.filters import Tagged, check_pattern, meets

# The largest weight, as for recordings.
MOST_WEIGHT = 1000.0
# Examples of the form, for error messages.
STROKE_EXAMPLE = "'2..4 10..20=0', '0..3 rain*=0' or '0..3 bees.wav 10..20=4'"


@dataclass(frozen=True, eq=False)
class Sketch:
    """Weights of source frames in target frames: 0 forbids, others multiply the values that are ranked and chosen by.

    They are kept as few rows and columns, each for many frames, since a full (K, N) array for hours of source would not
    fit into memory.

    Attributes
    ----------
    cells : (A, U) float32, 0 to 1000, the weights. rows : (K,) ints, which of the A rows each source frame has.
    columns : (N,) ints, which of the U columns each target frame has.
    """

    cells: NDArray[np.float32]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]

    def at(self, atoms: Integers, frames: Integers) -> NDArray[np.float32]:
        """The weights of places by their source and target frames, ints that broadcast."""
        weights: NDArray[np.float32] = self.cells[self.rows[atoms], self.columns[frames]]
        return weights

    def allowed(self, atoms: Integers, frames: Integers) -> NDArray[np.bool_]:
        """Which places may sound, as bools; arguments as for `at`."""
        return self.at(atoms, frames) > 0

    def whole(self) -> NDArray[np.float32]:
        """(K, N) all weights."""
        return self.at(np.arange(len(self.rows))[:, None], np.arange(len(self.columns)))

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(K, N)"""
        return len(self.rows), len(self.columns)

    def by_what_may_sound(self, most: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
        """Yield groups of target frames, (n,) ints, and the source frames that may sound in each group, (K,) bools.

        The target frames of a group allow the same source frames. If this would make more than `most` groups, there are
        `most` of consecutive frames, and a group allows all that any of its frames does.
        """
        may_sound: NDArray[np.bool_] = self.cells > 0
        kinds, kind_of = np.unique(may_sound, axis=1, return_inverse=True)
        groups = [np.flatnonzero(kind_of.ravel()[self.columns] == i) for i in range(kinds.shape[1])]
        if len(groups) > most:
            groups = np.array_split(np.arange(len(self.columns)), most)
        for frames in groups:
            if len(frames):
                columns = may_sound[:, np.unique(self.columns[frames])]
                yield frames, np.logical_or.reduce(columns, axis=1)[self.rows]

    def times(self, other: "Sketch") -> "Sketch":
        """The sketch whose weights are the products of both, at most `MOST_WEIGHT`."""
        (own_rows, rows), (own_columns, columns) = (
            _pairs(self.rows, other.rows),
            _pairs(self.columns, other.columns),
        )
        cells = self.cells[own_rows[0]][:, own_columns[0]] * other.cells[own_rows[1]][:, own_columns[1]]
        return Sketch(np.minimum(cells, np.float32(MOST_WEIGHT)), rows, columns)


def _pairs(a: NDArray[np.intp], b: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The different pairs (2, P) of the numbers in two arrays (n,), and which pair stands at each place, (n,)."""
    pairs, places = np.unique(np.stack([a, b]), axis=1, return_inverse=True)
    return pairs, places.ravel()


@dataclass(frozen=True)
class Stroke:
    """A rectangle of a sketch.

    Attributes
    ----------
    target_s : start and end in seconds of the target. source_s : those in each recording; None for all of it.
    source : a pattern that recordings match, see `smalti.grains.filters.Filters`; None for all of them.
    weight : 0 to 1000, the weight inside; 0 forbids.

    Raises
    ------
    TypeError, ValueError : for spans that do not end after they begin, and for weights out of range.
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
        """Read a rectangle from a text such as ``2..4 10..20=0``, ``0..3 rain*=0`` or ``0..3 bees.wav 10..20=4``.

        Seconds of the target come first, then a pattern of recordings, or seconds of these, or both, then the weight. A
        span without a second number goes on to the end: ``2..`` is all of the target from 2 s on.

        Raises
        ------
        ValueError : for a text of another form, and for spans and weights out of range.
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
        parts = (_span_text(self.target_s), self.source, None if self.source_s is None else _span_text(self.source_s))
        return f"{' '.join(part for part in parts if part)}={self.weight:g}"


def _read_span(text: str) -> tuple[float, float] | None:
    """The start and end in seconds of a text such as 0..3, or 2.. for no end; None if the text is no span."""
    begin, dots, end = text.partition("..")
    # Three dots are a typing error, not an end such as .5.
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
    check_real(name, begin, least=0, before="the begin of ")
    if end != math.inf:
        check_real(name, end, least=0, before="the end of ")
    if not begin < end:
        raise ParameterError(name, f"goes from {begin:g} to {end:g} s", "pass an end after its begin")
    return float(begin), float(end)


def _span_text(span: tuple[float, float]) -> str:
    begin, end = span
    return f"{begin:g}..{'' if end == math.inf else f'{end:g}'}"


def sketch_of_array(weights: ArrayLike, n_atoms: int, n_frames: int) -> Sketch:
    """A sketch with a weight of its own for every source frame in every target frame.

    Parameters
    ----------
    weights : (K, N) numbers, 0 to 1000. n_atoms, n_frames : K and N.

    Raises
    ------
    ValueError, TypeError : for another shape, for weights out of range or not finite, and for entries that are no
        numbers.
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
    """A sketch from a picture of any size, laid over the plot of the activations.

    The target's time goes from left to right, the source's from bottom to top. Black forbids, white has the weight 1,
    and greys have weights between.

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
        # A frame takes the pixel at the middle of its stretch of the picture.
        (2 * np.arange(n_atoms) + 1) * height // (2 * n_atoms),
        (2 * np.arange(n_frames) + 1) * width // (2 * n_frames),
    )


def sketch_of_strokes(
    strokes: Sequence[Stroke], dictionary: Dictionary, n_frames: int, *, infos: Sequence[Tagged] | None = None
) -> Sketch:
    """A sketch from rectangles. The last one counts where they overlap; the weight is 1 outside all of them.

    Parameters
    ----------
    strokes : the rectangles. dictionary : the source. n_frames : of the target.
    infos : the facts about each recording of the source that patterns match; by default the dictionary's sources.

    Raises
    ------
    ValueError : for a rectangle that begins after the end of the target or of its recordings, and for a pattern that
        matches no recording.
    """
    hop_s = dictionary.hop_s
    infos = infos or dictionary.sources
    # A long file may be split into several recordings: seconds count from the start of the file.
    file_of = dictionary.file_ids[dictionary.recording_ids]
    own_s = (np.arange(len(file_of)) - np.searchsorted(file_of, file_of)) * hop_s
    times_s = np.arange(n_frames) * hop_s
    in_rows, in_columns = [], []
    for stroke in strokes:
        if not (frames := _within(times_s, stroke.target_s)).any():
            raise ValueError(f"the stroke {stroke} begins after the target, which lasts {n_frames * hop_s:.3g} s")
        matching = np.array([stroke.source is None or meets(info, stroke.source) for info in infos], bool)
        if not matching.any():
            raise ValueError(
                f"the stroke {stroke} has {stroke.source!r}, which no recording in use meets; check the name"
            )
        atoms = matching[dictionary.recording_ids]
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
    # The margin makes a span that begins on a frame include it, however that time was rounded.
    return (times_s >= span[0] - 1e-6) & (times_s < span[1] - 1e-6)


def _kinds(inside: Sequence[NDArray[np.bool_]], n: int) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """The different sets of strokes that frames lie in, (A, S) bools, and which set each of `n` frames has, (n,)."""
    if not inside:
        return np.zeros((1, 0), bool), np.zeros(n, np.intp)
    kinds, kind_of = np.unique(np.stack(inside, axis=1), axis=0, return_inverse=True)
    return kinds, kind_of.ravel()
