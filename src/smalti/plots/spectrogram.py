"""Pictures of spectrograms."""

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike

from smalti._checks import Floats, check_rate, check_real, check_signal
from smalti.dsp.stft import StftParams, stft
from smalti.plots._drawing import (
    DRAWN_AT_ONCE,
    FREQUENCY_TICKS,
    LOG_ROWS,
    MAX_COLUMNS,
    SILENCE_DB,
    NotebookFigure,
    axes_or_new,
    draw_cells,
    hertz,
)


@dataclass(frozen=True)
class Levels:
    """A spectrogram on log-frequency rows: dB (rows, columns), the frequencies it spans and its seconds."""

    db: Floats
    f_min: float
    f_max: float
    hop_s: float
    column_s: float
    duration_s: float


def loudest_level(*levels: Levels) -> float:
    """Level of the brightest colour: that of the loudest sound, or full scale where there is none."""
    loudest = max(float(spectrogram.db.max()) for spectrogram in levels)
    return loudest if loudest > SILENCE_DB else 0.0


def levels_of(name: str, samples: ArrayLike, sr: int, *, window_s: float = 0.093, f_min: float = 40.0) -> Levels:
    """The levels of a recording; arguments and errors as for `plot_spectrogram`, which call the samples `name`."""
    signal = check_signal(name, samples)
    check_rate("sr", sr)
    check_real("f_min", f_min, least=1, most=sr / 4)
    check_real("window_s", window_s, least=0.001, most=10)
    n_fft = 2 * scipy.fft.next_fast_len(max(2, round(window_s * sr / 2)))
    hop = int(np.clip(len(signal) // MAX_COLUMNS, max(1, n_fft // 32), n_fft // 2))
    params = StftParams(n_fft=n_fft, hop=hop)
    # A column reaches half a hop to either side of its frame: this many leave no gap at the end.
    n_frames = -(-(2 * len(signal) + hop) // (2 * hop))
    pooled = -(-n_frames // MAX_COLUMNS)
    edges = np.geomspace(f_min, sr / 2, LOG_ROWS + 1) * n_fft / sr

    peaks = np.empty((LOG_ROWS, -(-n_frames // pooled)), np.float32)
    step = max(1, DRAWN_AT_ONCE // pooled)
    for first in range(0, peaks.shape[1], step):
        frames = range(first * pooled, min((first + step) * pooled, n_frames))
        rows = _log_rows(_magnitudes(signal, params, frames), edges)
        peaks[:, first : first + step] = np.maximum.reduceat(rows, range(0, len(frames), pooled), axis=1)

    # A sine of amplitude 1 reaches half the window's sum, and a Hann window sums to half its length.
    amplitudes = np.maximum(peaks * (4 / n_fft), 1e-30)
    return Levels(
        db=np.maximum(20 * np.log10(amplitudes), SILENCE_DB),
        f_min=f_min,
        f_max=sr / 2,
        hop_s=hop / sr,
        column_s=pooled * hop / sr,
        duration_s=len(signal) / sr,
    )


def _magnitudes(signal: Floats, params: StftParams, frames: range) -> Floats:
    """Magnitudes (F, len(frames)) of some frames of the signal, float32, without transforming the others."""
    margin = -(-params.n_fft // (2 * params.hop))
    start = max(0, frames.start - margin)
    part = np.zeros((frames.stop + margin - start) * params.hop, np.float32)
    known = signal[start * params.hop :][: len(part)]
    part[: len(known)] = known
    magnitudes: Floats = np.abs(stft(part, params)[:, frames.start - start : frames.stop - start])
    return magnitudes


def _log_rows(magnitudes: Floats, edges: Floats) -> Floats:
    """Redraw bins (F, N) on rows (R, N) bounded by `edges` (R + 1,), which are in bins and end at F - 1.

    A row with bins in it shows the largest, so that no partial falls between rows; a row between two bins, as
    in the bass, is interpolated geometrically: evenly in dB, the scale of the colours.
    """
    first = np.ceil(edges[:-1]).astype(int)
    rows: Floats = np.maximum.reduceat(magnitudes, first, axis=0)
    empty = np.flatnonzero(first >= edges[1:])
    below, between = np.divmod((edges[empty] + edges[empty + 1]) / 2, 1)
    below = below.astype(int)
    weights = between[:, np.newaxis].astype(magnitudes.dtype)
    rows[empty] = magnitudes[below] ** (1 - weights) * magnitudes[below + 1] ** weights
    return rows


def plot_spectrogram(
    samples: ArrayLike,
    sr: int,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    window_s: float = 0.093,
    db_range: float = 80.0,
    vmax_db: float | None = None,
    f_min: float = 40.0,
) -> Axes:
    """Draw the spectrogram of a recording: seconds across, Hz upwards on a logarithmic axis, dB as colour.

    The level is that of a sine: one of amplitude 1 shows at 0 dBFS. Long recordings are pooled by maximum to
    at most 2000 columns, so that short sounds stay visible and memory does not grow with the recording.

    Parameters
    ----------
    samples : (L,) float array in [-1, 1], mono, L >= 1.
    sr : int, 1000 to 768000. Sample rate in Hz.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.
    window_s : float, 0.001 to 10. Length of the analysis window (Hann) in seconds: a longer one tells pitches
        apart, a shorter one moments.
    db_range : float, 1 to 400. Decibels from the darkest to the brightest colour.
    vmax_db : float, -400 to 400. Level of the brightest colour; None takes the loudest of this picture.
    f_min : float, 1 to sr / 4. Lowest frequency shown, in Hz; the highest is sr / 2.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError, TypeError : if the samples are empty, not mono, not finite or not floats, or a value is out of
        range.
    """
    levels = levels_of("samples", samples, sr, window_s=window_s, f_min=f_min)
    vmax_db = loudest_level(levels) if vmax_db is None else check_real("vmax_db", vmax_db, least=-400, most=400)
    check_real("db_range", db_range, least=1, most=400)
    ax = axes_or_new(ax, (10, 4.5))
    draw_levels(ax, levels, title=title, db_range=db_range, vmax_db=vmax_db)
    return ax


def draw_levels(ax: Axes, levels: Levels, *, title: str | None, db_range: float, vmax_db: float) -> None:
    ax.set_yscale("log")
    # Frame n is centred on n * hop, so the first column begins half a hop before the recording.
    start = -levels.hop_s / 2
    stop = start + levels.db.shape[1] * levels.column_s
    draw_cells(
        ax,
        levels.db,
        extent=(start, stop, math.log10(levels.f_min), math.log10(levels.f_max)),
        limits=(vmax_db - db_range, vmax_db),
        label="Level (dBFS)",
    )
    ax.set(
        xlim=(0, levels.duration_s),
        ylim=(levels.f_min, levels.f_max),
        xlabel="Time (s)",
        ylabel="Frequency (Hz)",
    )
    ax.yaxis.set_major_locator(FixedLocator(FREQUENCY_TICKS))
    ax.yaxis.set_major_formatter(FuncFormatter(hertz))
    ax.yaxis.set_minor_locator(NullLocator())
    if title is not None:
        ax.set_title(title)


def spectrogram_figure(source: ArrayLike, target: ArrayLike, mosaic: ArrayLike, sr: int) -> Figure:
    """Source, target and mosaic as three spectrograms on one colour scale.

    Target and mosaic share their time axis. The source joins it where its length is within a factor of two of
    theirs, so that a second is equally wide everywhere; a much longer or shorter source keeps its own.

    Parameters
    ----------
    source, target, mosaic : (L,) float arrays in [-1, 1], mono; each of its own length.
    sr : int, 1000 to 768000. Sample rate of all three in Hz.

    Returns
    -------
    The figure; ``figure.axes[:3]`` are the panels from top to bottom.

    Raises
    ------
    ValueError, TypeError : if a recording is empty, not mono, not finite or not made of floats, or `sr` is
        out of range.
    """
    recordings = {"source": source, "target": target, "mosaic": mosaic}
    levels = {name: levels_of(name, samples, sr) for name, samples in recordings.items()}
    vmax_db = loudest_level(*levels.values())

    figure = NotebookFigure(figsize=(10, 9), layout="constrained")
    panels = dict(zip(levels, figure.subplots(3), strict=True))
    for name, panel in panels.items():
        draw_levels(panel, levels[name], title=name.capitalize(), db_range=80.0, vmax_db=vmax_db)

    shared = ["target", "mosaic"]
    longest = max(levels[name].duration_s for name in shared)
    if longest / 2 <= levels["source"].duration_s <= longest * 2:
        shared.insert(0, "source")
    for name in shared[:-1]:
        panels[name].sharex(panels["mosaic"])
        panels[name].tick_params(labelbottom=False)
        panels[name].set_xlabel("")
    panels["mosaic"].set_xlim(0, max(levels[name].duration_s for name in shared))
    return figure
