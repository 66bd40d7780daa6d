"""Pictures of a mosaic: spectrograms, activations, similarity, divergence, pitch, scores. Needs the extra
``smalti[plots]``.

Every ``plot_*`` function takes the axes to draw on as `ax`, makes a figure of its own where that is None, and
returns the axes. Such figures do not pass through pyplot, so nothing needs a screen or stays open: keep one
with ``figure_png(ax.figure)`` or ``ax.figure.savefig(file)``, show it in a notebook by ending a cell with
``ax.figure``. Make your own figures with ``layout="constrained"``: colour bars need room that other layouts
do not leave.
"""

from smalti.errors import require_extra

try:
    from smalti.plots._drawing import COLOURS, figure_png
except ImportError:
    # One sentence says that matplotlib is missing.
    require_extra("plots", "pictures need matplotlib")
    raise
from smalti.plots.activations import plot_activations, plot_divergence, plot_similarity
from smalti.plots.figures import mosaic_figures
from smalti.plots.notes import plot_pitch, plot_score
from smalti.plots.spectrogram import plot_spectrogram, spectrogram_figure

__all__ = [
    "COLOURS",
    "figure_png",
    "mosaic_figures",
    "plot_activations",
    "plot_divergence",
    "plot_pitch",
    "plot_score",
    "plot_similarity",
    "plot_spectrogram",
    "spectrogram_figure",
]
