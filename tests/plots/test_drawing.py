"""The image that keeps its peaks however small it is drawn."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit_plots import (
    HOP_S,
    bright_pixels,
    planted,
)

from smalti import plots
from smalti.plots import _drawing


@given(
    n=st.integers(1, 300),
    at=st.floats(0, 1, exclude_max=True),
    start=st.floats(-50, 50),
    size=st.floats(1, 200),
    flipped=st.booleans(),
)
def test_a_lone_cell_survives_at_its_place(n, at, start, size, flipped):
    cell = int(at * n)
    cells = np.zeros((n, 1))
    cells[cell] = 1
    ends = (start + size, start) if flipped else (start, start + size)
    pixels, first = _drawing._peaks_per_pixel(cells, *ends, -1000, 1000)
    lit = first + np.flatnonzero(pixels)
    assert len(lit) >= 1
    low, high = sorted(ends[0] + (ends[1] - ends[0]) * np.array([cell, cell + 1]) / n)
    # Pixel p reaches from p to p + 1; rounding to whole pixels may add one at either side.
    assert lit.min() >= math.floor(low) - 1
    assert lit.max() + 1 <= math.ceil(high) + 1


def test_cells_as_large_as_pixels_are_drawn_one_by_one(rng):
    cells = rng.random((37, 2))
    for start in (0.0, 5.0):
        pixels, first = _drawing._peaks_per_pixel(cells, start, start + 37, -100, 100)
        assert first == start
        np.testing.assert_array_equal(pixels, cells)


@pytest.mark.parametrize("limits", [(-9, -8), (100, 101), (0.8, 0), (0.3, 0.4)])
def test_panned_turned_and_zoomed_axes_are_drawn(rng, limits):
    ax = plots.plot_activations(planted(rng), hop_s=HOP_S)
    ax.set(xlim=limits, ylim=limits)
    seen = bright_pixels(ax)
    low, high = sorted(limits)
    assert ((seen > low) & (seen < high)).all()


@pytest.mark.parametrize("file_format", ["svg", "pdf"])
def test_vector_files_can_be_written(rng, file_format):
    file = io.BytesIO()
    plots.plot_activations(planted(rng), hop_s=HOP_S).figure.savefig(file, format=file_format)
    assert len(file.getvalue()) > 1000
