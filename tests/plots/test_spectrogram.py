"""Spectrograms, read back from the artists' data and from rendered pixels."""

import numpy as np
import pytest
from kit_plots import SR, bright_pixels, cell_centres, data_of, image_of, sine, three

from smalti import plots
from smalti.dsp.stft import StftParams, stft
from smalti.plots import _drawing, spectrogram


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
