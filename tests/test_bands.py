"""Pooling: what the ear tells apart stays apart, and no energy is lost."""

from itertools import pairwise

import numpy as np
import pytest

from smalti.bands import WIDTH, band_edges, pool
from smalti.stft import StftParams


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
