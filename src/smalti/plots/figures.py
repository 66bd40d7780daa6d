"""The figures that `smalti make --figures` draws."""

from collections.abc import Sequence
from typing import Any, cast

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from smalti.plots.activations import plot_activations, plot_divergence, plot_similarity
from smalti.plots.spectrogram import spectrogram_figure


def mosaic_figures(
    *,
    source: ArrayLike,
    target: ArrayLike,
    mosaic: ArrayLike,
    sr: int,
    H: Any,
    hop_s: float,
    divergences: ArrayLike,
    boundaries: Sequence[int] | None = None,
    rows: str = "Source time (s)",
) -> dict[str, Figure]:
    """All pictures of one mosaic.

    Parameters
    ----------
    source, target, mosaic : (L,) float arrays in [-1, 1], mono.
    sr : int, 1000 to 768000. Their sample rate in Hz.
    H : (K, N) array or scipy.sparse array, >= 0. Activations.
    hop_s : float, at least 1e-6. Seconds per row and per column of H.
    divergences : (n,) array, >= 0, n >= 1. The divergence after each iteration.
    boundaries : rows of H at which further source files begin.
    rows : what the rows of H are.

    Returns
    -------
    Figures named "spectrograms", "activations", "similarity" and "divergence".

    Raises
    ------
    ValueError, TypeError : as the single functions do.
    """
    axes = {
        "activations": plot_activations(H, hop_s=hop_s, boundaries=boundaries, title="Activations"),
        "similarity": plot_similarity(H, hop_s=hop_s, title="Target moments that share source moments"),
        "divergence": plot_divergence(divergences, title="Divergence between target and mosaic"),
    }
    axes["activations"].set_ylabel(rows)
    figures = {"spectrograms": spectrogram_figure(source, target, mosaic, sr)}
    return figures | {name: cast(Figure, ax.figure) for name, ax in axes.items()}
