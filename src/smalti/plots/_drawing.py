"""Tools of all pictures: axes, cells that keep their peaks, ticks of notes and hertz."""

import io
import math
from pathlib import PurePath
from typing import Any

import numpy as np
import scipy.ndimage
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.dsp.pitch import note_frequencies, note_numbers

# Pictures are pooled to at most this many cells, which is more than any screen has pixels for.
MAX_COLUMNS = 2000
MAX_CELLS = 1000
LOG_ROWS = 512

# Perceptually uniform, and black where there is nothing.
COLOURS = "magma"

# Points: the width matplotlib gives a line.
PEN = 1.5

# Frames transformed at once: bounds the memory of a spectrogram whatever the length of the recording.
DRAWN_AT_ONCE = 512

# Digital silence has no level; this one is below the rounding errors of any recording that holds a loud
# sample.
SILENCE_DB = -200.0
NOTES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
# Which notes are named if at most so many semitones are seen: all, the white keys, a chord of C, fifths, octaves.
NAMED_NOTES = ((15, range(12)), (26, (0, 2, 4, 5, 7, 9, 11)), (50, (0, 4, 7)), (76, (0, 7)), (math.inf, (0,)))
FINE_FREQUENCY_TICKS = [digit * 10.0**power for power in range(6) for digit in (1, 1.5, 2, 3, 4, 5, 6, 8)]
FREQUENCY_TICKS = [digit * 10.0**power for power in range(6) for digit in (1, 2, 5)]


class NotebookFigure(Figure):
    """A figure that notebooks can show without pyplot."""

    def _repr_png_(self) -> bytes:
        return figure_png(self, dpi=self.dpi)


class PeakImage(AxesImage):
    """An image in which every pixel shows the largest of the cells under it.

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


def draw_cells(
    ax: Axes,
    cells: NDArray[Any],
    *,
    extent: tuple[float, float, float, float],
    limits: tuple[float, float],
    label: str,
    pen: float = 0.0,
) -> None:
    """Add an image and its colour bar; `extent` counts in the scale of the axes, log10 on a log axis."""
    image = PeakImage(ax, cmap=COLOURS, interpolation="nearest", origin="lower", extent=extent)
    image.pen = pen
    image.set_data(cells)
    image.set_clim(*limits)
    # An image cannot be bent, so it enters after transScale, the bending part of the axes' transforms: rows
    # even in log frequency then sit truly on a logarithmic axis, also when that is panned or zoomed.
    image.set_transform(ax.transLimits + ax.transAxes)
    image.set_clip_path(ax.patch)
    ax.add_image(image)
    ax.figure.colorbar(image, ax=ax, label=label, pad=0.02, aspect=30)


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return NotebookFigure(figsize=size, layout="constrained").subplots() if ax is None else ax


def hertz(hz: float, _: int | None) -> str:
    return f"{hz / 1000:g}k" if hz >= 1000 else f"{hz:g}"


def covered(bars: Floats) -> NDArray[np.bool_]:
    """(G,) bools: which of the bars (G, 4), in order of time, have a later bar on their note."""
    covered = np.zeros(len(bars), bool)
    for i, (_, end, hz, _) in enumerate(bars.tolist()):
        later = bars[i + 1 : int(np.searchsorted(bars[:, 0], end)), 2]
        covered[i] = bool((np.abs(12 * np.log2(later / hz)) < 0.5).any())
    return covered


def pitch_axis(ax: Axes, hz: Floats) -> None:
    """A logarithmic axis around the pitches of an array, with notes on the left and Hz on the right."""
    numbers = note_numbers(hz[hz > 0])
    low, high = (numbers.min() - 2, numbers.max() + 2) if len(numbers) else (48.0, 72.0)
    missing = max(0.0, 12 - (high - low)) / 2
    low, high = low - missing, high + missing
    ax.set_ylim(*note_frequencies(np.array([low, high])))
    named = next(notes for most, notes in NAMED_NOTES if high - low <= most)
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
    right.yaxis.set_major_formatter(FuncFormatter(hertz))
    right.yaxis.set_minor_locator(NullLocator())


def short(name: str, most: int = 24) -> str:
    """The name of a file without its folders, its middle left out where it is long."""
    last = PurePath(name).name
    return last if len(last) <= most else f"{last[: most - 10]}...{last[-7:]}"


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
