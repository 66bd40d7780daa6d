"""All figures of a mosaic, and what the pictures have in common: axes, units, refused arguments."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from kit_plots import GRAINS, HOP_S, MELODY, SR, bars_of, image_of, planted, sine, three
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smalti import plots


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


# Arguments

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
