"""The pictures tell the truth: what is drawn is read back from the artists' data and from rendered pixels."""

import io
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from smalti import plots
from smalti.dsp.stft import StftParams, stft
from smalti.plots import _drawing, spectrogram

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


# Spectrogram


@pytest.mark.parametrize("hz", [110.0, 1000.0, 7040.0])
def test_a_sine_is_brightest_at_its_frequency(hz):
    ax = plots.plot_spectrogram(sine(hz), SR)
    _, rows = cell_centres(ax)
    loudest = 10 ** rows[data_of(ax).max(axis=1).argmax()]
    # A 93 ms window has a bin every 10.8 Hz, and a row is 1.1 % high.
    assert loudest == pytest.approx(hz, abs=5.4, rel=0.011)


@pytest.mark.parametrize("ylim", [(40, 11_025), (500, 2000)])
def test_the_rendered_line_lies_on_the_frequency_axis(ylim):
    ax = plots.plot_spectrogram(sine(1000), SR, db_range=20)
    ax.set_ylim(ylim)
    hz = bright_pixels(ax)[:, 1]
    assert hz.min() > 970
    assert hz.max() < 1030


def test_an_amplitude_of_one_is_0_dbfs():
    # 1.42 dB is what a Hann window loses between two bins.
    assert -1.43 < data_of(plots.plot_spectrogram(sine(1000), SR)).max() < 0.01


@pytest.mark.parametrize(("seconds", "at"), [(1.0, 0.3), (20.0, 13.37), (400.0, 311.1)])
def test_a_click_stands_at_its_time(seconds, at):
    sr = 8000
    samples = np.zeros(round(seconds * sr), np.float32)
    samples[round(at * sr)] = 1
    ax = plots.plot_spectrogram(samples, sr)
    assert ax.get_xlim() == pytest.approx((0, seconds))
    columns, _ = cell_centres(ax)
    assert len(columns) <= _drawing.MAX_COLUMNS
    left, right, *_ = image_of(ax).get_extent()
    assert left <= 0
    assert right >= seconds
    energies = (10 ** (data_of(ax) / 10)).sum(axis=0)
    assert columns[energies.argmax()] == pytest.approx(at, abs=columns[1] - columns[0])
    seen = bright_pixels(ax)[:, 0]
    pixel = seconds / ax.bbox.width
    assert abs(seen.mean() - at) < 0.01 + 2 * pixel


def test_blocks_of_frames_join_without_a_seam(rng):
    signal = rng.standard_normal(5000).astype(np.float32)
    params = StftParams(n_fft=256, hop=50)
    whole = np.abs(stft(signal, params))
    for frames in (range(0, 7), range(7, 60), range(60, 100)):
        part = spectrogram._magnitudes(signal, params, frames)
        np.testing.assert_allclose(part, whole[:, frames.start : frames.stop], rtol=1e-5, atol=1e-5)


def test_log_rows_are_peaks_where_bins_are_narrow_and_interpolated_where_they_are_wide(rng):
    bins = rng.random((65, 3))
    edges = np.geomspace(1.3, 64, 41)
    rows = spectrogram._log_rows(bins, edges)
    for row, low, high in zip(rows, edges, edges[1:], strict=False):
        within = [k for k in range(65) if low <= k < high]
        for column in range(3):
            middle = np.exp(np.interp((low + high) / 2, range(65), np.log(bins[:, column])))
            # The last row also takes the bin on its upper edge, half the sample rate.
            allowed = [bins[within, column].max() if within else middle]
            if high == edges[-1]:
                allowed.append(bins[[*within, 64], column].max())
            assert row[column] == pytest.approx(allowed[0]) or row[column] == pytest.approx(allowed[-1])


@pytest.mark.parametrize("samples", [np.zeros(SR), np.zeros(1), np.zeros(100, np.float32)])
def test_silence_is_dark_and_warns_of_nothing(samples):
    ax = plots.plot_spectrogram(samples, SR)
    assert image_of(ax).get_clim() == (-80, 0)
    assert len(bright_pixels(ax)) == 0


def test_colours_span_the_range_below_the_loudest_or_the_given_level():
    loudest = data_of(plots.plot_spectrogram(0.1 * sine(1000), SR)).max()
    ax = plots.plot_spectrogram(0.1 * sine(1000), SR, db_range=50)
    assert image_of(ax).get_clim() == pytest.approx((loudest - 50, loudest))
    ax = plots.plot_spectrogram(0.1 * sine(1000), SR, db_range=50, vmax_db=3)
    assert image_of(ax).get_clim() == (-47, 3)


def test_frequency_ticks_are_round_numbers():
    ax = plots.plot_spectrogram(sine(1000), SR)
    low, high = ax.get_ylim()
    ax.figure.draw_without_rendering()
    shown = [tick.label1.get_text() for tick in ax.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert shown == ["50", "100", "200", "500", "1k", "2k", "5k", "10k"]


# The image that keeps its peaks


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


# Activations


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


# Pitch

# Half a second of A4, a rest, then C5.
MELODY = np.repeat([440.0, 0.0, 523.25], [25, 5, 20])
# Begin, end, pitch, shift: two on A4 at once, and one on C5.
GRAINS = np.array([[0.1, 0.4, 442.0, -7.0], [0.0, 0.3, 440.0, 5.0], [0.6, 1.0, 523.25, 0.0]])


def bars_of(ax):
    (bars,) = ax.collections
    return bars


def test_every_grain_is_a_bar_on_its_note_in_the_colour_of_its_shift():
    ax = plots.plot_pitch(MELODY, GRAINS, hop_s=HOP_S)
    bars = bars_of(ax)
    order = [1, 0, 2]
    assert [segment.tolist() for segment in bars.get_segments()] == [
        [[begin, hz], [end, hz]] for begin, end, hz, _ in GRAINS[order].tolist()
    ]
    assert bars.get_array().tolist() == GRAINS[order, 3].tolist()
    # No shift is in the middle of the colours.
    assert bars.get_clim() == (-7, 7)
    # What lies under another is wider, so that both are seen.
    under, over, alone = bars.get_linewidths()
    assert under > over == alone


def test_the_target_is_a_line_that_does_not_slide_from_note_to_note():
    melody = np.array([440.0, 445.0, 523.25, 520.0, 0.0, 440.0])
    (line,) = plots.plot_pitch(melody, [], hop_s=HOP_S).lines
    hz = np.asarray(line.get_ydata())
    # Broken by the leap up, and by the rest.
    assert np.split(hz, np.flatnonzero(np.isnan(hz)))[0].tolist() == [440.0, 445.0]
    assert sorted(set(hz[~np.isnan(hz)])) == sorted(set(melody) - {0})
    times = np.asarray(line.get_xdata())
    assert times[hz == 440].tolist() == pytest.approx([0, 5 * HOP_S])


def test_each_voice_has_a_line_and_all_of_them_one_name():
    ax = plots.plot_pitch(np.stack([MELODY, MELODY / 2]), GRAINS, hop_s=HOP_S)
    assert len(ax.lines) == 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["target"]


def test_the_mosaic_s_pitch_is_a_dot_wherever_it_has_one():
    ax = plots.plot_pitch(MELODY, GRAINS, hop_s=HOP_S, mosaic_f0=np.where(MELODY > 500, MELODY, 0))
    _, dots = ax.lines
    assert dots.get_linestyle() == "None"
    assert np.asarray(dots.get_xdata()).tolist() == pytest.approx(np.arange(30, 50) * HOP_S)
    assert set(dots.get_ydata()) == {523.25}


def tick_names(axis):
    axis.axes.figure.draw_without_rendering()
    low, high = axis.get_view_interval()
    ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    return {label.get_text(): at for at, label in ticks if low <= at <= high}


def test_notes_are_named_on_the_left_and_hertz_on_the_right():
    ax = plots.plot_pitch(MELODY, GRAINS, hop_s=HOP_S)
    named = tick_names(ax.yaxis)
    assert named["A4"] == pytest.approx(440)
    assert named["C5"] == pytest.approx(523.25, abs=0.01)
    assert named["C♯5"] == pytest.approx(554.37, abs=0.01)
    (right,) = ax.child_axes
    assert tick_names(right.yaxis) == {"400": 400, "500": 500, "600": 600}


@pytest.mark.parametrize("octaves", [0, 1, 2, 4, 6, 9])
def test_ticks_neither_crowd_nor_vanish(octaves):
    ax = plots.plot_pitch(np.array([30.0, 30.0 * 2**octaves]), [], hop_s=HOP_S)
    assert 3 <= len(tick_names(ax.yaxis)) <= 16
    assert 2 <= len(tick_names(ax.child_axes[0].yaxis)) <= 18


@pytest.mark.parametrize(("reach", "names"), [(1, "-1 0 +1"), (7, "-6 -4 -2 0 +2 +4 +6"), (31, "-24 -12 0 +12 +24")])
def test_shifts_are_counted_in_even_parts_of_an_octave(reach, names):
    ax = plots.plot_pitch(MELODY, [[0, 1, 440, reach]], hop_s=HOP_S)
    assert list(tick_names(bars_of(ax).colorbar.ax.yaxis)) == names.split()


def test_without_any_pitch_there_is_still_a_picture():
    ax = plots.plot_pitch(np.zeros(10), [], hop_s=HOP_S, mosaic_f0=np.zeros(10))
    assert ax.has_data()
    ax.figure.draw_without_rendering()
    assert {"C4", "C5"} < tick_names(ax.yaxis).keys()


# Whole figures


def three(source_s):
    return [0.5 * sine(300, source_s), sine(440, 1.0), 0.1 * sine(440, 1.1)]


def test_the_three_panels_share_colours():
    figure = plots.spectrogram_figure(*three(1.5), SR)
    panels, bars = figure.axes[:3], figure.axes[3:]
    assert [panel.get_title() for panel in panels] == ["Source", "Target", "Mosaic"]
    assert len({image_of(panel).get_clim() for panel in panels}) == 1
    assert image_of(panels[0]).get_clim()[1] == max(data_of(panel).max() for panel in panels)
    assert len(bars) == 3
    figure.draw_without_rendering()
    for panel, bar in zip(panels, bars, strict=True):
        assert (bar.bbox.y0, bar.bbox.y1) == pytest.approx((panel.bbox.y0, panel.bbox.y1))


@pytest.mark.parametrize(("source_s", "joined"), [(1.5, True), (0.6, True), (3.0, False), (0.2, False)])
def test_panels_share_seconds_where_their_lengths_allow(source_s, joined):
    source, target, mosaic = plots.spectrogram_figure(*three(source_s), SR).axes[:3]
    assert target.get_shared_x_axes().joined(target, mosaic)
    assert source.get_shared_x_axes().joined(source, mosaic) is joined
    assert source.get_xlim() == pytest.approx((0, max(source_s, 1.1) if joined else source_s))
    assert target.get_xlim() == mosaic.get_xlim() == pytest.approx((0, max(source_s, 1.1) if joined else 1.1))


def test_a_silent_recording_beside_sound_takes_the_others_colours():
    figure = plots.spectrogram_figure(np.zeros(SR), *three(1.0)[1:], SR)
    assert -1.5 < image_of(figure.axes[0]).get_clim()[1] < 0.01


def all_figures(rng):
    source, target, mosaic = three(1.5)
    return plots.mosaic_figures(
        source=source,
        target=target,
        mosaic=mosaic,
        sr=SR,
        H=scipy.sparse.csc_array(planted(rng)),
        hop_s=HOP_S,
        divergences=[30.0, 8.0, 2.0],
        boundaries=[25],
    )


def test_all_figures_of_a_mosaic_and_their_bytes_repeat():
    first, second = (all_figures(np.random.default_rng(3)) for _ in range(2))
    assert list(first) == ["spectrograms", "activations", "similarity", "divergence"]
    for name, figure in first.items():
        png = plots.figure_png(figure, dpi=60)
        assert png.startswith(b"\x89PNG")
        assert png == plots.figure_png(second[name], dpi=60), name
        assert b"Software" not in png
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        assert (width, height) == tuple((figure.get_size_inches() * 60).astype(int))


def test_nothing_is_clipped_at_the_figures_edge(rng):
    for figure in [*all_figures(rng).values(), DRAWERS["pitch"](title="Notes").figure]:
        figure.draw_without_rendering()
        tight, size = figure.get_tightbbox(), figure.get_size_inches()
        assert tight.x0 >= 0
        assert tight.y0 >= 0
        assert tight.x1 <= size[0]
        assert tight.y1 <= size[1]


def test_notebooks_show_the_figures(rng):
    figure = plots.plot_activations(planted(rng), hop_s=HOP_S).figure
    assert figure._repr_png_().startswith(b"\x89PNG")


# Doors

DRAWERS = {
    "spectrogram": lambda **options: plots.plot_spectrogram(sine(440), SR, **options),
    "activations": lambda **options: plots.plot_activations(np.eye(4), hop_s=HOP_S, **options),
    "similarity": lambda **options: plots.plot_similarity(np.eye(4), hop_s=HOP_S, **options),
    "divergence": lambda **options: plots.plot_divergence([3, 2, 1], **options),
    "pitch": lambda **options: plots.plot_pitch(MELODY, GRAINS, hop_s=HOP_S, **options),
}


@pytest.mark.parametrize("name", DRAWERS)
def test_axes_are_taken_and_returned(name):
    figure = Figure(layout="constrained")
    other, ax = figure.subplots(1, 2)
    assert DRAWERS[name](ax=ax, title="A title") is ax
    assert "A title" in (ax.get_title(), ax.get_title("left"))
    assert ax.has_data() or ax.images
    assert not other.has_data()
    assert not other.images


@pytest.mark.parametrize("name", DRAWERS)
def test_axes_are_made_where_none_are_given(name):
    ax = DRAWERS[name]()
    assert isinstance(ax, Axes)
    assert ax.get_title() == ""
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_the_colours_of_grains_name_their_unit():
    ax, bar = DRAWERS["pitch"]().figure.axes
    assert bars_of(ax).colorbar.ax is bar
    assert "semitones" in bar.get_ylabel()


@pytest.mark.parametrize(("name", "unit"), [("spectrogram", "dB"), ("activations", "dB"), ("similarity", "cosine")])
def test_colour_bars_name_their_unit(name, unit):
    ax, bar = DRAWERS[name]().figure.axes
    assert image_of(ax).colorbar.ax is bar
    assert unit in bar.get_ylabel()


BAD = sine(440)
BAD[100] = np.nan


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: plots.plot_spectrogram(BAD, SR), "samples holds 1 values that are NaN"),
        (lambda: plots.plot_spectrogram(np.zeros((2, 100)), SR), "samples has shape"),
        (lambda: plots.plot_spectrogram(sine(440), 0), "sr is 0"),
        (lambda: plots.plot_spectrogram(sine(440), SR, f_min=9000), "f_min is 9000"),
        (lambda: plots.plot_spectrogram(sine(440), SR, window_s=0), "window_s is 0"),
        (lambda: plots.plot_spectrogram(sine(440), SR, db_range=0), "db_range is 0"),
        (lambda: plots.plot_spectrogram(sine(440), SR, vmax_db=math.nan), "vmax_db is nan"),
        (lambda: plots.spectrogram_figure(sine(440), BAD, sine(440), SR), "target holds 1 values that are NaN"),
        (lambda: plots.plot_activations(np.full((2, 2), np.nan), hop_s=HOP_S), "H holds 4 values that are NaN"),
        (lambda: plots.plot_activations(scipy.sparse.csc_array([[np.nan]]), hop_s=HOP_S), "H holds 1 values"),
        (lambda: plots.plot_activations(scipy.sparse.csc_array((0, 3)), hop_s=HOP_S), "H has shape"),
        (lambda: plots.plot_activations(-np.eye(2), hop_s=HOP_S), "H holds negative"),
        (lambda: plots.plot_activations(np.eye(2), hop_s=0), "hop_s is 0"),
        (lambda: plots.plot_activations(np.eye(2), hop_s=HOP_S, boundaries=[3]), "boundaries has row 3"),
        (lambda: plots.plot_activations(np.eye(2), hop_s=HOP_S, boundaries=[-1]), "boundaries is -1"),
        (lambda: plots.plot_similarity(np.full((2, 2), np.nan), hop_s=HOP_S), "H holds 4 values that are NaN"),
        (lambda: plots.plot_pitch([440, -1.0], GRAINS, hop_s=HOP_S), "target_f0 holds -1 Hz"),
        (lambda: plots.plot_pitch([[440.0], [5.0]], GRAINS, hop_s=HOP_S), "target_f0 holds 5 Hz"),
        (lambda: plots.plot_pitch(MELODY, GRAINS, hop_s=HOP_S, mosaic_f0=[440.0]), "mosaic_f0 has 1 values"),
        (lambda: plots.plot_pitch(MELODY, [[0, 1, 440]], hop_s=HOP_S), r"grains has shape \(1, 3\)"),
        (lambda: plots.plot_pitch(MELODY, [[0, 1, 0, 2.0]], hop_s=HOP_S), "not above 0"),
        (lambda: plots.plot_pitch(MELODY, [[0, 1, 440, math.nan]], hop_s=HOP_S), "grains holds values that are NaN"),
        (lambda: plots.plot_pitch(MELODY, GRAINS, hop_s=0), "hop_s is 0"),
        (lambda: plots.plot_divergence([1, math.nan]), "divergences holds 1 values that are NaN"),
        (lambda: plots.plot_divergence([]), "divergences has shape"),
        (lambda: plots.plot_divergence([[1, 2]]), "divergences has shape"),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_matplotlib_the_extra_is_named():
    result = run("import sys; sys.modules['matplotlib'] = None; import smalti.plots")
    assert result.returncode != 0
    assert result.stderr.strip().splitlines()[-1] == (
        "smalti.errors.MissingExtraError: pictures need matplotlib: pip install 'smalti[plots]'"
    )


def test_pyplot_and_its_backend_stay_untouched():
    result = run(
        "import sys; from smalti import plots; plots.figure_png(plots.plot_divergence([2, 1]).figure);"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert result.stdout.strip() == "False", result.stderr
