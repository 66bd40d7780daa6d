"""The picture of pitches and grains, read back from the artists' data."""

import numpy as np
import pytest
from kit_plots import GRAINS, HOP_S, MELODY, bars_of

from smalti import plots


def test_every_grain_is_a_bar_on_its_note_in_the_colour_of_its_shift():
    ax = plots.plot_pitch(MELODY, GRAINS, hop_s=HOP_S)
    bars = bars_of(ax)
    order = [1, 0, 2]
    assert [segment.tolist() for segment in bars.get_segments()] == [
        [[begin, hz], [end, hz]] for begin, end, hz, _ in GRAINS[order].tolist()
    ]
    assert bars.get_array().tolist() == GRAINS[order, 3].tolist()
    # A shift of 0 has the middle colour.
    assert bars.get_clim() == (-7, 7)
    # A bar under another is wider, so that both are seen.
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
