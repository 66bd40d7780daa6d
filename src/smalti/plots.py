"""Pictures of a mosaic: spectrograms, activations, similarity, divergence, pitch. Needs the extra ``smalti[plots]``.

Every ``plot_*`` function takes the axes to draw on as `ax`, makes a figure of its own where that is None, and
returns the axes. Such figures do not pass through pyplot, so nothing needs a screen or stays open: keep one
with ``figure_png(ax.figure)`` or ``ax.figure.savefig(file)``, show it in a notebook by ending a cell with
``ax.figure``. Make your own figures with ``layout="constrained"``: colour bars need room that other layouts
do not leave.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, cast

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_count, check_magnitudes, check_rate, check_real, check_signal
from smalti.errors import MissingExtraError
from smalti.pitch import check_f0, note_frequencies, note_numbers
from smalti.score import Score
from smalti.stft import StftParams, stft
from smalti.summing import summary

try:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, MultipleLocator, NullLocator
    from matplotlib.transforms import Affine2D
except ImportError as error:
    raise MissingExtraError("pictures need matplotlib: pip install 'smalti[plots]'") from error

# More cells than any screen has pixels for: what pooling to these takes away, nobody would have seen.
MAX_COLUMNS = 2000
MAX_CELLS = 1000
LOG_ROWS = 512

# Perceptually uniform, and black where there is nothing.
COLOURS = "magma"

# Points: the width matplotlib gives a line.
PEN = 1.5

# Frames transformed at once: bounds the memory of a spectrogram whatever the length of the recording.
BLOCK_FRAMES = 512

# Digital silence has no level; this one is below the rounding errors of any recording that holds a loud
# sample.
SILENCE_DB = -200.0

# From the darkest to the brightest and back: how far down, not at all, how far up.
SHIFT_COLOURS = "coolwarm"
# Lanes of a score at most; how far under its loudest grain one is as thin and pale as can be.
MOST_LANES, LANE_DB = 12, 40.0
# Okabe and Ito's, which are told apart by all eyes, without the palest.
LANE_COLOURS = (
    np.array([[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]]) / 255
)
# Points: the thickness of a grain's bar, and of one under it.
BAR, UNDER = 5.0, 4.0

NOTES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
# Which notes are named where so many semitones are seen: all, the white keys, those of a chord of C, fifths,
# octaves.
NAMED = ((15, range(12)), (26, (0, 2, 4, 5, 7, 9, 11)), (50, (0, 4, 7)), (76, (0, 7)), (math.inf, (0,)))

FINE_FREQUENCY_TICKS = [digit * 10.0**power for power in range(6) for digit in (1, 1.5, 2, 3, 4, 5, 6, 8)]
FREQUENCY_TICKS = [digit * 10.0**power for power in range(6) for digit in (1, 2, 5)]


class _NotebookFigure(Figure):
    """A figure that notebooks can show without pyplot."""

    def _repr_png_(self) -> bytes:
        return figure_png(self, dpi=self.dpi)


class _PeakImage(AxesImage):
    """An image of which every pixel shows the largest of the cells under it.

    Where cells outnumber pixels, drawing the nearest skips most of them and drawing their mean dims them; a
    single grain would vanish either way. The choice is made anew for every size, resolution and zoom. Cells
    smaller than `pen` points grow to that size, since a lone pixel is drawn but hardly seen.
    """

    pen = 0.0

    def make_image(
        self, renderer: RendererBase, magnification: float = 1.0, unsampled: bool = False
    ) -> tuple[Any, float, float, Affine2D]:
        x0, y0, x1, y1 = np.multiply(self.get_window_extent().extents, magnification)
        left, bottom, right, top = np.multiply(self.axes.bbox.extents, magnification)
        cells = np.asarray(self.get_array())
        columns, x = _peaks_per_pixel(cells.T, x0, x1, left, right)
        pixels, y = _peaks_per_pixel(columns.T, y0, y1, bottom, top)
        pen = np.multiply(renderer.points_to_pixels(self.pen), magnification)
        missing = pen - np.abs([y1 - y0, x1 - x0]) / cells.shape
        pixels = scipy.ndimage.maximum_filter(pixels, size=1 + np.maximum(missing, 0).round().astype(int))
        # A backend takes None for an image that was panned out of sight.
        rgba = self.to_rgba(pixels, bytes=True) if pixels.size else None
        return rgba, x / magnification, y / magnification, Affine2D()


def _peaks_per_pixel(
    cells: NDArray[Any], start: float, stop: float, low: float, high: float
) -> tuple[NDArray[Any], int]:
    """Largest of the `cells` (n, m) in each of the pixels from `low` to `high` that they reach.

    The cells stretch from pixel position `start` to `stop`. Returns the maxima, (pixels, m), and the first
    pixel.
    """
    if start > stop:
        cells, start, stop = cells[::-1], stop, start
    first, last = math.floor(max(start, low)), math.ceil(min(stop, high))
    if first >= last:
        return cells[:0], first
    n = len(cells)
    # The nudge keeps rounding errors from moving an edge that falls between two cells back into the former.
    edges = np.clip((np.arange(first, last + 1) - start) / (stop - start) * n + 1e-6, 0, n)
    # `reduceat` takes the maximum from one index to before the next, or the cell at the index where the next
    # is the same: the peak where cells are smaller than pixels, the nearest cell where they are larger.
    indices = np.minimum(edges[:-1].astype(int), n - 1)
    return np.maximum.reduceat(cells[: math.ceil(edges[-1])], indices, axis=0), first


def _draw_cells(
    ax: Axes,
    cells: NDArray[Any],
    *,
    extent: tuple[float, float, float, float],
    limits: tuple[float, float],
    label: str,
    pen: float = 0.0,
) -> None:
    """Add an image and its colour bar; `extent` counts in the scale of the axes, log10 on a log axis."""
    image = _PeakImage(ax, cmap=COLOURS, interpolation="nearest", origin="lower", extent=extent)
    image.pen = pen
    image.set_data(cells)
    image.set_clim(*limits)
    # An image cannot be bent, so it enters after transScale, the bending part of the axes' transforms: rows
    # even in log frequency then sit truly on a logarithmic axis, also when that is panned or zoomed.
    image.set_transform(ax.transLimits + ax.transAxes)
    image.set_clip_path(ax.patch)
    ax.add_image(image)
    ax.figure.colorbar(image, ax=ax, label=label, pad=0.02, aspect=30)


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return _NotebookFigure(figsize=size, layout="constrained").subplots() if ax is None else ax


@dataclass(frozen=True)
class _Levels:
    """A spectrogram on log-frequency rows: dB (rows, columns), the frequencies it spans and its seconds."""

    db: Floats
    f_min: float
    f_max: float
    hop_s: float
    column_s: float
    duration_s: float


def _loudest(*levels: _Levels) -> float:
    """Level of the brightest colour: that of the loudest sound, or full scale where there is none."""
    loudest = max(float(each.db.max()) for each in levels)
    return loudest if loudest > SILENCE_DB else 0.0


def _levels(name: str, samples: ArrayLike, sr: int, *, window_s: float = 0.093, f_min: float = 40.0) -> _Levels:
    signal = check_signal(name, samples)
    check_rate("sr", sr)
    check_real("f_min", f_min, least=1, most=sr / 4)
    check_real("window_s", window_s, least=0.001, most=10)
    n_fft = 2 * scipy.fft.next_fast_len(max(2, round(window_s * sr / 2)))
    hop = int(np.clip(len(signal) // MAX_COLUMNS, max(1, n_fft // 32), n_fft // 2))
    params = StftParams(n_fft=n_fft, hop=hop)
    # A column reaches half a hop to either side of its frame: this many leave no gap at the end.
    n_frames = -(-(2 * len(signal) + hop) // (2 * hop))
    pooled = -(-n_frames // MAX_COLUMNS)
    edges = np.geomspace(f_min, sr / 2, LOG_ROWS + 1) * n_fft / sr

    peaks = np.empty((LOG_ROWS, -(-n_frames // pooled)), np.float32)
    step = max(1, BLOCK_FRAMES // pooled)
    for first in range(0, peaks.shape[1], step):
        frames = range(first * pooled, min((first + step) * pooled, n_frames))
        rows = _log_rows(_magnitudes(signal, params, frames), edges)
        peaks[:, first : first + step] = np.maximum.reduceat(rows, range(0, len(frames), pooled), axis=1)

    # A sine of amplitude 1 reaches half the window's sum, and a Hann window sums to half its length.
    amplitudes = np.maximum(peaks * (4 / n_fft), 1e-30)
    return _Levels(
        db=np.maximum(20 * np.log10(amplitudes), SILENCE_DB),
        f_min=f_min,
        f_max=sr / 2,
        hop_s=hop / sr,
        column_s=pooled * hop / sr,
        duration_s=len(signal) / sr,
    )


def _magnitudes(signal: Floats, params: StftParams, frames: range) -> Floats:
    """Magnitudes (F, len(frames)) of some frames of the signal, float32, without transforming the others."""
    margin = -(-params.n_fft // (2 * params.hop))
    start = max(0, frames.start - margin)
    part = np.zeros((frames.stop + margin - start) * params.hop, np.float32)
    known = signal[start * params.hop :][: len(part)]
    part[: len(known)] = known
    magnitudes: Floats = np.abs(stft(part, params)[:, frames.start - start : frames.stop - start])
    return magnitudes


def _log_rows(magnitudes: Floats, edges: Floats) -> Floats:
    """Redraw bins (F, N) on rows (R, N) bounded by `edges` (R + 1,), which are in bins and end at F - 1.

    A row with bins in it shows the largest, so that no partial falls between rows; a row between two bins, as
    in the bass, is interpolated geometrically: evenly in dB, the scale of the colours.
    """
    first = np.ceil(edges[:-1]).astype(int)
    rows: Floats = np.maximum.reduceat(magnitudes, first, axis=0)
    empty = np.flatnonzero(first >= edges[1:])
    below, between = np.divmod((edges[empty] + edges[empty + 1]) / 2, 1)
    below = below.astype(int)
    weights = between[:, np.newaxis].astype(magnitudes.dtype)
    rows[empty] = magnitudes[below] ** (1 - weights) * magnitudes[below + 1] ** weights
    return rows


def plot_spectrogram(
    samples: ArrayLike,
    sr: int,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    window_s: float = 0.093,
    db_range: float = 80.0,
    vmax_db: float | None = None,
    f_min: float = 40.0,
) -> Axes:
    """Draw the spectrogram of a recording: seconds across, Hz upwards on a logarithmic axis, dB as colour.

    The level is that of a sine: one of amplitude 1 shows at 0 dBFS. Long recordings are pooled by maximum to
    at most 2000 columns, so that short sounds stay visible and memory does not grow with the recording.

    Parameters
    ----------
    samples : (L,) float array in [-1, 1], mono, L >= 1.
    sr : int, 1000 to 768000. Sample rate in Hz.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.
    window_s : float, 0.001 to 10. Length of the analysis window (Hann) in seconds: a longer one tells pitches
        apart, a shorter one moments.
    db_range : float, 1 to 400. Decibels from the darkest to the brightest colour.
    vmax_db : float, -400 to 400. Level of the brightest colour; None takes the loudest of this picture.
    f_min : float, 1 to sr / 4. Lowest frequency shown, in Hz; the highest is sr / 2.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError, TypeError : if the samples are empty, not mono, not finite or not floats, or a value is out of
        range.
    """
    levels = _levels("samples", samples, sr, window_s=window_s, f_min=f_min)
    vmax_db = _loudest(levels) if vmax_db is None else check_real("vmax_db", vmax_db, least=-400, most=400)
    check_real("db_range", db_range, least=1, most=400)
    ax = _axes(ax, (10, 4.5))
    _draw_levels(ax, levels, title=title, db_range=db_range, vmax_db=vmax_db)
    return ax


def _draw_levels(ax: Axes, levels: _Levels, *, title: str | None, db_range: float, vmax_db: float) -> None:
    ax.set_yscale("log")
    # Frame n is centred on n * hop, so the first column begins half a hop before the recording.
    start = -levels.hop_s / 2
    stop = start + levels.db.shape[1] * levels.column_s
    _draw_cells(
        ax,
        levels.db,
        extent=(start, stop, math.log10(levels.f_min), math.log10(levels.f_max)),
        limits=(vmax_db - db_range, vmax_db),
        label="Level (dBFS)",
    )
    ax.set(
        xlim=(0, levels.duration_s),
        ylim=(levels.f_min, levels.f_max),
        xlabel="Time (s)",
        ylabel="Frequency (Hz)",
    )
    ax.yaxis.set_major_locator(FixedLocator(FREQUENCY_TICKS))
    ax.yaxis.set_major_formatter(FuncFormatter(_hertz))
    ax.yaxis.set_minor_locator(NullLocator())
    if title is not None:
        ax.set_title(title)


def _hertz(hz: float, _: int | None) -> str:
    return f"{hz / 1000:g}k" if hz >= 1000 else f"{hz:g}"


def _check_activations(H: Any) -> Any:
    """Return H as a float array or a sparse array without duplicate entries, (K, N), finite and >= 0."""
    if not scipy.sparse.issparse(H):
        return check_magnitudes("H", H)
    H = scipy.sparse.csc_array(H, copy=True)
    H.sum_duplicates()
    if 0 in H.shape:
        raise ValueError(f"H has shape {H.shape}; pass at least one row and one column")
    if H.nnz:
        H.data = check_magnitudes("H", H.data[np.newaxis])[0]
    return H


def plot_activations(
    H: Any,
    *,
    hop_s: float,
    ax: Axes | None = None,
    title: str | None = None,
    db_range: float = 60.0,
    boundaries: Sequence[int] | None = None,
) -> Axes:
    """Draw which moment of the source sounds at which moment of the target.

    A diagonal is a stretch of the source played as it is, a horizontal line a moment repeated, a lone dot a
    single grain. Matrices of more than 1000 rows or columns are pooled by maximum, as is everything that
    shares a pixel, so that the smallest picture still shows every grain within `db_range`.

    Parameters
    ----------
    H : (K, N) array or scipy.sparse array, >= 0. Activations: row k is a moment of the source, column n one
        of the target. A sparse H is never made dense.
    hop_s : float, at least 1e-6. Seconds from one column to the next, and from one row to the next.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.
    db_range : float, 1 to 400. Decibels from the largest activation, the brightest colour, to the darkest.
    boundaries : rows, 0 to K, at which further source files begin; each gets a thin line.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError, TypeError : if H is empty, negative or not finite, or a value is out of range.
    """
    H = _check_activations(H)
    check_real("hop_s", hop_s, least=1e-6)
    check_real("db_range", db_range, least=1, most=400)
    n_rows, n_columns = H.shape
    starts = [check_count("boundaries", row, least=0) for row in ([] if boundaries is None else boundaries)]
    if starts and max(starts) > n_rows:
        raise ValueError(f"boundaries has row {max(starts)} but H has {n_rows} rows; pass rows of H")

    block = (-(-n_rows // MAX_CELLS), -(-n_columns // MAX_CELLS))
    peaks = _block_maxima(H, block)
    amplitudes = np.maximum(peaks / (peaks.max() or 1.0), 10 ** (-db_range / 20))

    ax = _axes(ax, (9, 6))
    # Row and column n stand for the moment n * hop_s and are centred there.
    half = hop_s / 2
    _draw_cells(
        ax,
        20 * np.log10(amplitudes),
        extent=(
            -half,
            peaks.shape[1] * block[1] * hop_s - half,
            -half,
            peaks.shape[0] * block[0] * hop_s - half,
        ),
        limits=(-db_range, 0),
        label="Activation (dB, largest = 0)",
        pen=PEN,
    )
    xlim, ylim = (-half, n_columns * hop_s - half), (-half, n_rows * hop_s - half)
    ax.hlines([row * hop_s - half for row in starts], *xlim, colors="white", linewidths=0.6, alpha=0.5)
    ax.set(xlim=xlim, ylim=ylim, xlabel="Target time (s)", ylabel="Source time (s)")
    if title is not None:
        ax.set_title(title)
    return ax


def _block_maxima(H: Any, block: tuple[int, int]) -> NDArray[np.float64]:
    """Largest entry of every block of H, dense or sparse; the last blocks may be smaller."""
    if not scipy.sparse.issparse(H):
        rows = np.maximum.reduceat(H, range(0, H.shape[0], block[0]), axis=0)
        return np.maximum.reduceat(rows, range(0, H.shape[1], block[1]), axis=1).astype(np.float64)
    entries = H.tocoo()
    peaks = np.zeros((-(-H.shape[0] // block[0]), -(-H.shape[1] // block[1])))
    np.maximum.at(peaks, (entries.row // block[0], entries.col // block[1]), entries.data)
    return peaks


def plot_similarity(
    H: Any, *, hop_s: float, ax: Axes | None = None, title: str | None = None, normalize: bool = True
) -> Axes:
    """Draw which moments of the target are made of the same moments of the source: the matrix ``H' H``.

    A bright spot off the main diagonal is a pair of moments that share their source frames, a bright diagonal
    a passage of the target re-created from the same stretch of the source as another. Targets of more than
    1000 frames are pooled before the product: neighbouring columns of H are summed in blocks of equal length,
    at most 1000 of them, and each moment of the picture stands for a block.

    Parameters
    ----------
    H : (K, N) array or scipy.sparse array, >= 0. Activations. A sparse H is never made dense.
    hop_s : float, at least 1e-6. Seconds from one column to the next.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.
    normalize : True scales every (pooled) column to unit length, so that quiet moments show as well and 1
        means the same mixture of source frames; False draws plain ``H' H``.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError, TypeError : if H is empty, negative or not finite, or a value is out of range.
    """
    H = _check_activations(H)
    check_real("hop_s", hop_s, least=1e-6)
    n_columns = H.shape[1]
    block = -(-n_columns // MAX_CELLS)
    similarity = _similarity(H, block)
    if normalize:
        lengths = np.sqrt(similarity.diagonal())
        lengths = np.where(lengths > 0, lengths, 1.0)
        similarity /= np.outer(lengths, lengths)

    ax = _axes(ax, (6.8, 6))
    half = hop_s / 2
    stop = len(similarity) * block * hop_s - half
    _draw_cells(
        ax,
        similarity,
        extent=(-half, stop, -half, stop),
        limits=(0.0, 1.0 if normalize else similarity.max() or 1.0),
        label="Similarity (cosine)" if normalize else "Similarity (H'H)",
        pen=PEN,
    )
    limits = (-half, n_columns * hop_s - half)
    ax.set(xlim=limits, ylim=limits, xlabel="Target time (s)", ylabel="Target time (s)")
    if title is not None:
        ax.set_title(title)
    return ax


def _similarity(H: Any, block: int) -> NDArray[np.float64]:
    """``P' P`` of the sums P over blocks of H's columns."""
    columns = np.arange(H.shape[1])
    ones = np.ones(len(columns))
    pooled = H @ scipy.sparse.csc_array((ones, (columns, columns // block)))
    product = pooled.T @ pooled
    return np.asarray(product.toarray() if scipy.sparse.issparse(product) else product)


def plot_divergence(
    divergences: ArrayLike, *, ax: Axes | None = None, title: str | None = None, label: str | None = None
) -> Axes:
    """Draw the divergence between target and mosaic over the iterations 1 to n.

    Draw several runs on one `ax` to compare them. The divergence axis is logarithmic once what is on it spans
    more than a factor of ten.

    Parameters
    ----------
    divergences : (n,) array, >= 0, n >= 1. The divergence after each iteration.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.
    label : name of this curve in the legend; None leaves it out.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError, TypeError : if `divergences` is empty, negative or not finite.
    """
    values = np.asarray(divergences)
    if values.ndim != 1:
        raise ValueError(f"divergences has shape {values.shape}; pass one number per iteration, shape (iterations,)")
    values = check_magnitudes("divergences", values[np.newaxis])[0]
    ax = _axes(ax, (7, 4))
    # A run of a few iterations is all points; a dot on each of hundreds would only thicken the line.
    ax.plot(
        np.arange(1, len(values) + 1),
        values,
        marker="o" if len(values) <= 20 else None,
        markersize=4,
        label=label,
    )
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    positive = drawn[drawn > 0]
    if positive.size and positive.max() > 10 * positive.min():
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    ax.grid(visible=True, alpha=0.3)
    ax.set(xlabel="Iteration", ylabel="Divergence")
    if label is not None:
        ax.legend()
    if title is not None:
        ax.set_title(title)
    return ax


def plot_pitch(
    target_f0: ArrayLike,
    grains: ArrayLike,
    *,
    hop_s: float,
    mosaic_f0: ArrayLike | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the notes of a transposed mosaic: the target's as a line, and each grain as a bar on the note it plays.

    Seconds across, pitch upwards: notes on the left, Hz on the right. The colour of a bar says how far the grain was
    shifted. Of bars on one note at once, the one that began earlier lies under the other and is wider.

    Parameters
    ----------
    target_f0 : (N,) Hz, 0 where there is no pitch; or (M, N), a row for each voice of a chord.
    grains : (G, 4) begin and end in seconds, pitch in Hz, shift in semitones; `smalti.reporting.grain_notes` has those
        of a mosaic.
    hop_s : float, at least 1e-6. Seconds from one frame of a track to the next.
    mosaic_f0 : (N,) Hz likewise, drawn as dots: the pitch that was tracked in the mosaic; None leaves it out.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError, TypeError : if an array has another shape, or values that are no such pitches, or `hop_s` is out of
        range.
    """
    tracks = np.atleast_2d(np.asarray(target_f0))
    n_frames = tracks.shape[-1]
    lines = [check_f0("target_f0", track, n_frames) for track in tracks]
    dots = np.zeros(n_frames) if mosaic_f0 is None else check_f0("mosaic_f0", mosaic_f0, n_frames)
    bars = np.asarray(grains, dtype=np.float64).reshape(-1, 4) if np.size(grains) == 0 else np.asarray(grains)
    if bars.ndim != 2 or bars.shape[1] != 4:
        raise ValueError(f"grains has shape {bars.shape}; pass begin, end, pitch and shift of each, shape (grains, 4)")
    if not (np.isfinite(bars).all() and (bars[:, 2] > 0).all()):
        raise ValueError(
            "grains holds values that are NaN or infinite, or pitches that are not above 0; leave them out"
        )
    check_real("hop_s", hop_s, least=1e-6)

    ax = _axes(ax, (10, 5))
    ax.set_yscale("log")
    ax.set(xlim=(0, n_frames * hop_s), xlabel="Time (s)", ylabel="Note")
    _pitch_axis(ax, np.concatenate([*lines, dots, bars[:, 2]]))
    reach = max(1.0, float(np.abs(bars[:, 3]).max(initial=0)))
    drawn = LineCollection([], cmap=SHIFT_COLOURS, clim=(-reach, reach), capstyle="butt", zorder=2)
    bars = bars[np.argsort(bars[:, 0], kind="stable")]
    drawn.set_segments([((begin, hz), (end, hz)) for begin, end, hz, _ in bars])
    drawn.set_array(bars[:, 3])
    drawn.set_linewidth((BAR + UNDER * _covered(bars)).tolist())
    ax.add_collection(drawn, autolim=False)
    times = np.arange(n_frames) * hop_s
    for i, line in enumerate(lines):
        # A step to another note is no glide.
        leaps = 1 + np.flatnonzero(~(np.abs(np.diff(note_numbers(line))) < 1))
        label = "target" if i == 0 else None
        hz = np.insert(np.where(line > 0, line, np.nan), leaps, np.nan)
        ax.plot(np.insert(times, leaps, times[leaps]), hz, color="black", linewidth=1.2, label=label, zorder=3)
    if dots.any():
        heard = dots > 0
        # White with a rim, to be seen on the line as well as on bars of any colour.
        rim: dict[str, Any] = {"markersize": 4.5, "color": "white", "markeredgecolor": "black", "markeredgewidth": 0.6}
        ax.plot(times[heard], dots[heard], ".", **rim, label="mosaic, as tracked", zorder=4)
    bar = ax.figure.colorbar(drawn, ax=ax, label="Grains, shifted by (semitones)", pad=0.02, aspect=30)
    # In octaves, or in what makes few even parts of one.
    bar.locator = MultipleLocator(next(step for step in (1, 2, 3, 6, 12) if reach <= 4 * step or step == 12))
    bar.formatter = FuncFormatter(lambda shift, _: f"{shift:+g}" if shift else "0")
    bar.update_ticks()
    if ax.lines:
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.1)
    if title is not None:
        ax.set_title(title, loc="left")
    return ax


def _covered(bars: Floats) -> NDArray[np.bool_]:
    """(G,) which of the bars (G, 4), in order of time, have a later one on their note."""
    covered = np.zeros(len(bars), bool)
    for i, (_, end, hz, _) in enumerate(bars.tolist()):
        later = bars[i + 1 : int(np.searchsorted(bars[:, 0], end)), 2]
        covered[i] = bool((np.abs(12 * np.log2(later / hz)) < 0.5).any())
    return covered


def _pitch_axis(ax: Axes, hz: Floats) -> None:
    """A logarithmic axis about the pitches of an array, with notes on the left and Hz on the right."""
    numbers = note_numbers(hz[hz > 0])
    low, high = (numbers.min() - 2, numbers.max() + 2) if len(numbers) else (48.0, 72.0)
    missing = max(0.0, 12 - (high - low)) / 2
    low, high = low - missing, high + missing
    ax.set_ylim(*note_frequencies(np.array([low, high])))
    named = next(notes for most, notes in NAMED if high - low <= most)
    shown = [number for number in range(math.ceil(low), math.floor(high) + 1) if number % 12 in named]
    ax.yaxis.set_major_locator(FixedLocator(note_frequencies(np.array(shown, float)).tolist()))
    ax.yaxis.set_major_formatter(
        FuncFormatter(lambda _, i: f"{NOTES[shown[i] % 12]}{shown[i] // 12 - 1}" if i is not None else "")
    )
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(visible=True, axis="y", alpha=0.25)
    ax.set_axisbelow(True)
    right = ax.secondary_yaxis("right")
    right.set_ylabel("Frequency (Hz)")
    right.yaxis.set_major_locator(FixedLocator(FREQUENCY_TICKS if high - low > 40 else FINE_FREQUENCY_TICKS))
    right.yaxis.set_major_formatter(FuncFormatter(_hertz))
    right.yaxis.set_minor_locator(NullLocator())


def plot_score(score: Score, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw a score as a piano roll: seconds across, and a lane for each source, the most heard uppermost.

    A grain is a line in the lane of its source: as high in it as it lies in the source, the beginning below, and the
    thicker and darker the louder it is. Where the source goes on as it is, the line rises.

    Parameters
    ----------
    score : of which sources beyond the twelve most heard share a lane.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.

    Returns
    -------
    The axes.
    """
    lanes = _lanes(score)
    ax = _axes(ax, (10, 1.5 + 0.9 * max(2, len(lanes))))
    loudest = float(score.levels.max(initial=-np.inf))
    for lane, (_, origins) in enumerate(lanes):
        of = np.flatnonzero(np.isin(score.origins, origins))
        if not len(of):
            continue
        begins = np.array([score.sources[i].begin for i in score.origins[of]])
        low, spans = (begins + score.centres[of]) / score.sr, score.lengths[of] * score.hop_s
        # Two seconds of the source and more, lest a single grain stand as upright as a wall.
        first = float(low.min())
        last = max(float((low + spans).max()), first + 2.0)
        # A little of the lane stays free on either side.
        bottom, rise = (0.06 + 0.88 * (part - first) / (last - first) for part in (low, low + spans))
        start = score.frames[of] * score.hop_s
        loud = np.clip(1 + (score.levels[of] - loudest) / LANE_DB, 0.05, 1)
        base = len(lanes) - 1 - lane
        ends = zip(start, base + bottom, start + spans, base + rise, strict=True)
        colours = np.zeros((len(of), 4))
        colours[:, :3] = LANE_COLOURS[lane % len(LANE_COLOURS)]
        colours[:, 3] = 0.15 + 0.85 * loud
        drawn = [((x0, y0), (x1, y1)) for x0, y0, x1, y1 in ends]
        ax.add_collection(LineCollection(drawn, colors=colours, linewidths=1 + BAR * loud), autolim=False)
        ax.axhline(base, color="0.8", linewidth=0.8, zorder=0)
    ax.set(xlim=(0, score.length / score.sr), ylim=(0, max(1, len(lanes))), xlabel="Time (s)")
    ax.set_yticks(np.arange(len(lanes))[::-1] + 0.5, [label for label, _ in lanes])
    ax.tick_params(axis="y", length=0)
    if title is not None:
        ax.set_title(title, loc="left")
    return ax


def _lanes(score: Score) -> list[tuple[str, list[int]]]:
    """What stands beside each lane, and which of the score's sources lie in it."""
    heard = summary(score)
    own = heard if len(heard) <= MOST_LANES else heard[: MOST_LANES - 1]
    lanes = [
        (f"{_short(of.name)}\n{of.time_share:.0%}", [i for i, s in enumerate(score.sources) if s.name == of.name])
        for of in own
    ]
    if rest := heard[len(own) :]:
        names = {of.name for of in rest}
        label = f"{len(rest)} others\n{sum(of.time_share for of in rest):.0%}"
        lanes.append((label, [i for i, source in enumerate(score.sources) if source.name in names]))
    return lanes


def _short(name: str, most: int = 24) -> str:
    """The name of a file without its folders, its middle left out where it is long."""
    last = PurePath(name).name
    return last if len(last) <= most else f"{last[: most - 10]}...{last[-7:]}"


def spectrogram_figure(source: ArrayLike, target: ArrayLike, mosaic: ArrayLike, sr: int) -> Figure:
    """Source, target and mosaic as three spectrograms on one colour scale.

    Target and mosaic share their time axis. The source joins it where its length is within a factor of two of
    theirs, so that a second is equally wide everywhere; a much longer or shorter source keeps its own.

    Parameters
    ----------
    source, target, mosaic : (L,) float arrays in [-1, 1], mono; each of its own length.
    sr : int, 1000 to 768000. Sample rate of all three in Hz.

    Returns
    -------
    The figure; ``figure.axes[:3]`` are the panels from top to bottom.

    Raises
    ------
    ValueError, TypeError : if a recording is empty, not mono, not finite or not made of floats, or `sr` is
        out of range.
    """
    recordings = {"source": source, "target": target, "mosaic": mosaic}
    levels = {name: _levels(name, samples, sr) for name, samples in recordings.items()}
    vmax_db = _loudest(*levels.values())

    figure = _NotebookFigure(figsize=(10, 9), layout="constrained")
    panels = dict(zip(levels, figure.subplots(3), strict=True))
    for name, panel in panels.items():
        _draw_levels(panel, levels[name], title=name.capitalize(), db_range=80.0, vmax_db=vmax_db)

    shared = ["target", "mosaic"]
    longest = max(levels[name].duration_s for name in shared)
    if longest / 2 <= levels["source"].duration_s <= longest * 2:
        shared.insert(0, "source")
    for name in shared[:-1]:
        panels[name].sharex(panels["mosaic"])
        panels[name].tick_params(labelbottom=False)
        panels[name].set_xlabel("")
    panels["mosaic"].set_xlim(0, max(levels[name].duration_s for name in shared))
    return figure


def mosaic_figures(
    *,
    source: ArrayLike,
    target: ArrayLike,
    mosaic: ArrayLike,
    sr: int,
    H: Any,
    hop_s: float,
    divergences: ArrayLike,
    boundaries: Sequence[int] | None = None,
    rows: str = "Source time (s)",
) -> dict[str, Figure]:
    """All pictures of one mosaic.

    Parameters
    ----------
    source, target, mosaic : (L,) float arrays in [-1, 1], mono.
    sr : int, 1000 to 768000. Their sample rate in Hz.
    H : (K, N) array or scipy.sparse array, >= 0. Activations.
    hop_s : float, at least 1e-6. Seconds per row and per column of H.
    divergences : (n,) array, >= 0, n >= 1. The divergence after each iteration.
    boundaries : rows of H at which further source files begin.
    rows : what the rows of H are.

    Returns
    -------
    Figures named "spectrograms", "activations", "similarity" and "divergence".

    Raises
    ------
    ValueError, TypeError : as the single functions do.
    """
    axes = {
        "activations": plot_activations(H, hop_s=hop_s, boundaries=boundaries, title="Activations"),
        "similarity": plot_similarity(H, hop_s=hop_s, title="Target moments that share source moments"),
        "divergence": plot_divergence(divergences, title="Divergence between target and mosaic"),
    }
    axes["activations"].set_ylabel(rows)
    figures = {"spectrograms": spectrogram_figure(source, target, mosaic, sr)}
    return figures | {name: cast(Figure, ax.figure) for name, ax in axes.items()}


def figure_png(figure: Figure, dpi: float = 120) -> bytes:
    """The figure as the bytes of a PNG file; two figures made alike give the same bytes.

    Parameters
    ----------
    figure : any matplotlib figure.
    dpi : pixels per inch.
    """
    file = io.BytesIO()
    # Matplotlib would sign the file with its version, and every upgrade would change it.
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()
