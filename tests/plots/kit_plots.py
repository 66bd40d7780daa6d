"""What tests draw, and the values and pixels that they read back."""

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import AxesImage

SR = 22_050


HOP_S = 0.02


def sine(hz, seconds=0.5, sr=SR):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * sr)) / sr)


def image_of(ax) -> AxesImage:
    (image,) = ax.images
    return image


def data_of(ax):
    return np.asarray(image_of(ax).get_array())


def cell_centres(ax):
    """Positions of the picture's columns and rows, in the scale of the axes."""
    left, right, bottom, top = image_of(ax).get_extent()
    n_rows, n_columns = data_of(ax).shape
    return (
        left + (np.arange(n_columns) + 0.5) * (right - left) / n_columns,
        bottom + (np.arange(n_rows) + 0.5) * (top - bottom) / n_rows,
    )


def bright_pixels(ax, dpi=100):
    """Data coordinates (n, 2) of the rendered pixels inside `ax` in the brighter half of the colours."""
    ax.figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3].astype(int)
    x0, y0, x1, y1 = ax.bbox.extents
    # Two pixels of the frame around the axes are lines, not picture.
    inside = pixels[math.ceil(y0) + 2 : math.floor(y1) - 2, math.ceil(x0) + 2 : math.floor(x1) - 2]
    rows, columns = np.nonzero(inside.sum(axis=2) > 450)
    centres = np.column_stack([columns + math.ceil(x0) + 2.5, rows + math.ceil(y0) + 2.5])
    return ax.transData.inverted().transform(centres) if len(centres) else centres


def planted(rng, shape=(60, 40), density=0.05):
    return rng.random(shape) * (rng.random(shape) < density)


# Half a second of A4, a rest, then C5.
MELODY = np.repeat([440.0, 0.0, 523.25], [25, 5, 20])


# Begin, end, pitch, shift: two on A4 at once, and one on C5.
GRAINS = np.array([[0.1, 0.4, 442.0, -7.0], [0.0, 0.3, 440.0, 5.0], [0.6, 1.0, 523.25, 0.0]])


def bars_of(ax):
    (bars,) = ax.collections
    return bars


def three(source_s):
    return [0.5 * sine(300, source_s), sine(440, 1.0), 0.1 * sine(440, 1.1)]
