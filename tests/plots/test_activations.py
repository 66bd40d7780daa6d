"""Pictures of activations, similarity and divergence, read back from the artists' data."""

import numpy as np
import pytest
import scipy.sparse
from kit_plots import HOP_S, bright_pixels, cell_centres, data_of, image_of, planted

from smalti import plots
from smalti.plots import _drawing


def test_cells_stand_at_row_and_column_times_hop():
    H = np.zeros((30, 20))
    H[12, 5] = 1
    ax = plots.plot_activations(H, hop_s=HOP_S)
    columns, rows = cell_centres(ax)
    row, column = np.unravel_index(data_of(ax).argmax(), H.shape)
    assert (rows[row], columns[column]) == pytest.approx((12 * HOP_S, 5 * HOP_S))
    x, y = bright_pixels(ax).mean(axis=0)
    assert (y, x) == pytest.approx((12 * HOP_S, 5 * HOP_S), abs=HOP_S / 10)


@pytest.mark.parametrize("dpi", [20, 110])
@pytest.mark.parametrize("grain", [(70_001, 20_002), (99_950, 60), (60, 49_960)])
def test_a_single_grain_of_a_vast_sparse_matrix_is_seen(dpi, grain):
    # Dense, this would be 40 GB.
    H = scipy.sparse.coo_array(([0.3], ([grain[0]], [grain[1]])), shape=(100_000, 50_000))
    ax = plots.plot_activations(H, hop_s=HOP_S)
    assert max(data_of(ax).shape) <= _drawing.MAX_CELLS
    assert (data_of(ax) == 0).sum() == 1
    # The frame hides what lies at the very edge of the smallest picture.
    ax.set(xlim=(-50, 1050), ylim=(-100, 2100), facecolor="black")
    seen = bright_pixels(ax, dpi)
    assert len(seen) >= 1
    # A block of 100 x 50 cells, a pen of 1.5 points and the rounding to pixels.
    pixels = 1.5 * dpi / 72 + 2
    assert abs(seen[:, 0] - grain[1] * HOP_S).max() < 50 * HOP_S + pixels * 1100 / ax.bbox.width
    assert abs(seen[:, 1] - grain[0] * HOP_S).max() < 100 * HOP_S + pixels * 2200 / ax.bbox.height


def test_a_matrix_of_terabytes_is_drawn_if_it_is_sparse():
    H = scipy.sparse.csc_array(([1.0, 0.5], ([5, 999_999], [7, 999_999])), shape=(1_000_000, 1_000_000))
    assert (data_of(plots.plot_activations(H, hop_s=HOP_S)) > -60).sum() == 2
    assert (data_of(plots.plot_similarity(H, hop_s=HOP_S)) > 0).sum() == 2


def test_every_grain_in_range_survives_pooling(rng):
    H = np.zeros((2500, 1300))
    places = rng.choice(50, 40, replace=False) * 50 + 7, rng.choice(26, 40) * 50 + 7
    H[places] = 10 ** rng.uniform(-2.9, 0, 40)
    shown = data_of(plots.plot_activations(H, hop_s=HOP_S))
    assert shown.shape == (834, 650)
    levels = 20 * np.log10(np.sort(H[places]) / H.max())
    np.testing.assert_allclose(np.sort(shown[shown > -60]), levels)


def test_levels_are_db_below_the_largest():
    ax = plots.plot_activations(np.array([[4.0, 0.4], [0.0, 0.004]]), hop_s=HOP_S, db_range=50)
    np.testing.assert_allclose(data_of(ax), [[0, -20], [-50, -50]])
    assert image_of(ax).get_clim() == (-50, 0)


def test_empty_activations_are_dark():
    assert (data_of(plots.plot_activations(np.zeros((3, 4)), hop_s=HOP_S)) == -60).all()
    assert (data_of(plots.plot_activations(scipy.sparse.csc_array((3, 4)), hop_s=HOP_S)) == -60).all()
    assert (data_of(plots.plot_similarity(scipy.sparse.csc_array((3, 4)), hop_s=HOP_S)) == 0).all()


@pytest.mark.parametrize("kind", [scipy.sparse.csc_array, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("plot", [plots.plot_activations, plots.plot_similarity])
@pytest.mark.parametrize("shape", [(60, 40), (1501, 1202)])
def test_sparse_and_dense_give_the_same_picture(rng, kind, plot, shape):
    H = planted(rng, shape)
    dense, sparse = plot(H, hop_s=HOP_S), plot(kind(H), hop_s=HOP_S)
    np.testing.assert_allclose(data_of(sparse), data_of(dense), rtol=1e-12, atol=1e-12)
    assert image_of(sparse).get_extent() == image_of(dense).get_extent()


def test_repeated_entries_of_a_sparse_matrix_count_as_their_sum_and_stay_as_they_are():
    H = scipy.sparse.csc_array(([1.0, 1.0, 1.0], [0, 0, 1], [0, 2, 3]), shape=(2, 2))
    shown = data_of(plots.plot_activations(H, hop_s=HOP_S))
    np.testing.assert_allclose(shown, 20 * np.log10([[1, 0.001], [0.001, 0.5]]))
    assert H.nnz == 3


def test_boundaries_run_between_the_last_row_of_a_file_and_the_first_of_the_next(rng):
    ax = plots.plot_activations(planted(rng), hop_s=0.5, boundaries=np.array([20, 45]))
    (lines,) = ax.collections
    assert [segment[0][1] for segment in lines.get_segments()] == [9.75, 22.25]
    assert ax.get_ylim() == pytest.approx((-0.25, 29.75))


# Similarity


def test_similarity_is_the_product_of_columns(rng):
    H = planted(rng, density=0.3)
    expected = [[H[:, i] @ H[:, j] for j in range(40)] for i in range(40)]
    plain = plots.plot_similarity(H, hop_s=HOP_S, normalize=False)
    np.testing.assert_allclose(data_of(plain), expected)
    assert image_of(plain).get_clim() == pytest.approx((0, np.max(expected)))


def test_normalised_similarity_shows_quiet_columns_and_bears_empty_ones():
    H = np.array([[1.0, 1e-9, 0.0, 3.0], [0.0, 0.0, 0.0, 4.0]], np.float32)
    ax = plots.plot_similarity(H, hop_s=HOP_S)
    expected = [[1, 1, 0, 0.6], [1, 1, 0, 0.6], [0, 0, 0, 0], [0.6, 0.6, 0, 1]]
    np.testing.assert_allclose(data_of(ax), expected, atol=1e-6)
    assert image_of(ax).get_clim() == (0, 1)


def test_long_targets_are_pooled_by_block_sums(rng):
    H = planted(rng, (30, 2501))
    ax = plots.plot_similarity(H, hop_s=HOP_S, normalize=False)
    pooled = np.array([H[:, start : start + 3].sum(axis=1) for start in range(0, 2501, 3)])
    np.testing.assert_allclose(data_of(ax), pooled @ pooled.T)
    assert image_of(ax).get_extent()[1] == pytest.approx((834 * 3 - 0.5) * HOP_S)
    assert ax.get_xlim() == ax.get_ylim() == pytest.approx((-0.5 * HOP_S, 2500.5 * HOP_S))


# Divergence


@pytest.mark.parametrize(
    ("divergences", "scale"), [([9, 5, 1], "linear"), ([11, 5, 1], "log"), ([0, 0], "linear"), ([3], "linear")]
)
def test_divergence_is_logarithmic_beyond_a_decade(divergences, scale):
    ax = plots.plot_divergence(divergences)
    assert ax.get_yscale() == scale
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), [(i + 1, d) for i, d in enumerate(divergences)])
    ax.figure.draw_without_rendering()
    assert all(tick == round(tick) for tick in ax.get_xticks())


def test_runs_are_compared_on_one_scale_with_a_legend():
    ax = plots.plot_divergence([5, 4], label="strict")
    assert ax.get_yscale() == "linear"
    plots.plot_divergence([100, 90], ax=ax, label="free")
    assert ax.get_yscale() == "log"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["strict", "free"]
