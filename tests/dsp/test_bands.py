"""Pooling: what the ear tells apart stays apart, and no energy is lost."""

from itertools import pairwise

import numpy as np
import pytest

from smalti.dsp.bands import WIDTH, band_edges, erb_edges, erb_filters, erb_number, pool
from smalti.dsp.stft import StftParams


@pytest.mark.parametrize(("n_fft", "sr"), [(2048, 22050), (4096, 44100), (1024, 22050), (256, 8000), (4096, 22050)])
def test_every_bin_is_in_one_band(n_fft: int, sr: int) -> None:
    params = StftParams(n_fft, n_fft // 4)
    edges = band_edges(params, sr)
    assert edges[0] == 0
    assert edges[-1] == params.n_bins
    assert (np.diff(edges) > 0).all()


def test_bins_below_1_khz_stay_and_bands_above_are_3_per_cent_wide() -> None:
    params, sr = StftParams(2048, 512), 22050
    edges = band_edges(params, sr)
    hz = edges * sr / params.n_fft
    np.testing.assert_array_equal(np.diff(edges[hz <= 1000]), 1)
    high = hz[(hz > 2000) & (hz < 10000)]
    # Edges are whole bins of 10.8 Hz.
    np.testing.assert_allclose(np.diff(high), WIDTH * high[:-1], atol=sr / params.n_fft)
    assert 165 <= len(edges) - 1 <= 180


def test_pooling_is_the_literal_sum_and_keeps_each_frame(rng: np.random.Generator) -> None:
    params = StftParams(256, 64)
    V, edges = rng.random((params.n_bins, 5)), band_edges(StftParams(256, 64), 22050)
    literal = np.array([[V[a:b, n].sum() for n in range(5)] for a, b in pairwise(edges)])
    np.testing.assert_allclose(pool(V, edges), literal, rtol=1e-14)
    np.testing.assert_allclose(pool(V, edges).sum(axis=0), V.sum(axis=0), rtol=1e-14)


# --- critical bands


def test_the_numbers_of_critical_bands_are_the_published_ones() -> None:
    # Glasberg & Moore (1990), eq. 4, 21.4 log10(4.37 F + 1) at F kHz, worked out by hand.
    khz = np.array([0, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16])
    numbers = [0.00, 4.05, 6.86, 10.77, 15.62, 21.16, 27.11, 33.29, 39.61]
    np.testing.assert_allclose(erb_number(1000 * khz), numbers, atol=0.0051)
    # From single-precision frequencies too, and for a single number.
    assert erb_number(np.array([1000], np.float32)).dtype == np.float64
    assert erb_number(np.array(1000.0)).shape == ()


def test_a_critical_band_is_as_wide_as_published() -> None:
    # Eq. 3: 24.7 (4.37 F + 1) Hz at F kHz; 132.6 Hz at 1 kHz. Eq. 4 rounds its factor to 21.4, by 0.3 %.
    hz = np.geomspace(50, 16000, 40)
    widths = 2 / (erb_number(hz + 1) - erb_number(hz - 1))
    np.testing.assert_allclose(widths, 24.7 * (4.37 * hz / 1000 + 1), rtol=0.005)
    at_1_khz = 1 / (erb_number(np.array(1000.5)) - erb_number(np.array(999.5)))
    np.testing.assert_allclose(at_1_khz, 132.6, rtol=0.005)


ERB_GRIDS = pytest.mark.parametrize(
    ("n_fft", "sr"), [(1024, 22050), (2048, 44100), (512, 22050), (24, 1000), (4, 1000), (256, 96000), (4096, 8000)]
)


@ERB_GRIDS
@pytest.mark.parametrize("step", [0.5, 1.0, 0.3])
def test_the_shares_of_every_bin_add_up_to_one(n_fft: int, sr: int, step: float) -> None:
    filters = erb_filters(n_fft, sr, step=step)
    assert filters.dtype == np.float32
    assert filters.shape[1] == n_fft // 2 + 1
    assert (filters >= 0).all()
    # A bin lies between two triangles.
    assert ((filters > 0).sum(axis=0) <= 2).all()
    np.testing.assert_allclose(filters.sum(axis=0), 1, rtol=2 * np.finfo(np.float32).eps)


def test_triangles_stand_a_step_apart_and_reach_to_their_neighbours() -> None:
    filters = erb_filters(8192, 22050, step=0.5)
    number = 21.4 * np.log10(1 + 0.00437 * np.arange(4097) * 22050 / 8192)
    for band in (1, 7, 30, 60):
        literal = [max(0.0, 1 - abs(z - 0.5 * band) / 0.5) for z in number.tolist()]
        np.testing.assert_allclose(filters[band], literal, atol=1e-6)
    # None is missing at the top, and none lies wholly beyond it.
    assert (len(filters) - 2) * 0.5 < number[-1] <= (len(filters) - 1) * 0.5


def test_shared_filters_cannot_be_written_to() -> None:
    assert not erb_filters(256, 8000, step=0.5).flags.writeable


@ERB_GRIDS
@pytest.mark.parametrize("width", [1.8, 1.0, 0.25])
def test_every_bin_is_in_one_critical_band(n_fft: int, sr: int, width: float) -> None:
    edges = erb_edges(n_fft, sr, width=width)
    assert (edges[0], edges[-1]) == (0, n_fft // 2 + 1)
    assert (np.diff(edges) > 0).all()
    # Literally: the bins of one whole number of widths, and no two such numbers in one band.
    number = [int(21.4 * np.log10(1 + 0.00437 * k * sr / n_fft) // width) for k in range(n_fft // 2 + 1)]
    assert [number[a:b] == [number[a]] * (b - a) for a, b in pairwise(edges)] == [True] * (len(edges) - 1)
    assert len({number[a] for a in edges[:-1]}) == len(set(number)) == len(edges) - 1
