"""Pictures of activations: themselves, their similarity, and the divergence as it falls."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from smalti._checks import check_count, check_magnitudes, check_real
from smalti.plots._drawing import MAX_CELLS, PEN, axes_or_new, draw_cells


def _check_activations(H: Any) -> Any:
    """Return H as a float array or a sparse array without duplicate entries, (K, N), finite and >= 0."""
    if not scipy.sparse.issparse(H):
        return check_magnitudes("H", H)
    H = scipy.sparse.csc_array(H, copy=True)
    H.sum_duplicates()
    if 0 in H.shape:
        raise ValueError(f"H has shape {H.shape}; pass at least one row and one column")
    if H.nnz:
        H.data = check_magnitudes("H", H.data[np.newaxis])[0]
    return H


def plot_activations(
    H: Any,
    *,
    hop_s: float,
    ax: Axes | None = None,
    title: str | None = None,
    db_range: float = 60.0,
    boundaries: Sequence[int] | None = None,
) -> Axes:
    """Draw which moment of the source sounds at which moment of the target.

    A diagonal is a stretch of the source played as it is, a horizontal line a moment repeated, a lone dot a
    single grain. Matrices of more than 1000 rows or columns are pooled by maximum, as is everything that
    shares a pixel, so that the smallest picture still shows every grain within `db_range`.

    Parameters
    ----------
    H : (K, N) array or scipy.sparse array, >= 0. Activations: row k is a moment of the source, column n one
        of the target. A sparse H is never made dense.
    hop_s : float, at least 1e-6. Seconds from one column to the next, and from one row to the next.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.
    db_range : float, 1 to 400. Decibels from the largest activation, the brightest colour, to the darkest.
    boundaries : rows, 0 to K, at which further source files begin; each gets a thin line.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError, TypeError : if H is empty, negative or not finite, or a value is out of range.
    """
    H = _check_activations(H)
    check_real("hop_s", hop_s, least=1e-6)
    check_real("db_range", db_range, least=1, most=400)
    n_rows, n_columns = H.shape
    starts = [check_count("boundaries", row, least=0) for row in ([] if boundaries is None else boundaries)]
    if starts and max(starts) > n_rows:
        raise ValueError(f"boundaries has row {max(starts)} but H has {n_rows} rows; pass rows of H")

    block = (-(-n_rows // MAX_CELLS), -(-n_columns // MAX_CELLS))
    peaks = _block_maxima(H, block)
    amplitudes = np.maximum(peaks / (peaks.max() or 1.0), 10 ** (-db_range / 20))

    ax = axes_or_new(ax, (9, 6))
    # Row and column n stand for the moment n * hop_s and are centred there.
    half = hop_s / 2
    draw_cells(
        ax,
        20 * np.log10(amplitudes),
        extent=(
            -half,
            peaks.shape[1] * block[1] * hop_s - half,
            -half,
            peaks.shape[0] * block[0] * hop_s - half,
        ),
        limits=(-db_range, 0),
        label="Activation (dB, largest = 0)",
        pen=PEN,
    )
    xlim, ylim = (-half, n_columns * hop_s - half), (-half, n_rows * hop_s - half)
    ax.hlines([row * hop_s - half for row in starts], *xlim, colors="white", linewidths=0.6, alpha=0.5)
    ax.set(xlim=xlim, ylim=ylim, xlabel="Target time (s)", ylabel="Source time (s)")
    if title is not None:
        ax.set_title(title)
    return ax


def _block_maxima(H: Any, block: tuple[int, int]) -> NDArray[np.float64]:
    """Largest entry of every block of H, dense or sparse; the last blocks may be smaller."""
    if not scipy.sparse.issparse(H):
        rows = np.maximum.reduceat(H, range(0, H.shape[0], block[0]), axis=0)
        return np.maximum.reduceat(rows, range(0, H.shape[1], block[1]), axis=1).astype(np.float64)
    entries = H.tocoo()
    peaks = np.zeros((-(-H.shape[0] // block[0]), -(-H.shape[1] // block[1])))
    np.maximum.at(peaks, (entries.row // block[0], entries.col // block[1]), entries.data)
    return peaks


def plot_similarity(
    H: Any, *, hop_s: float, ax: Axes | None = None, title: str | None = None, normalize: bool = True
) -> Axes:
    """Draw which moments of the target are made of the same moments of the source: the matrix ``H' H``.

    A bright spot off the main diagonal is a pair of moments that share their source frames, a bright diagonal
    a passage of the target re-created from the same stretch of the source as another. Targets of more than
    1000 frames are pooled before the product: neighbouring columns of H are summed in blocks of equal length,
    at most 1000 of them, and each moment of the picture stands for a block.

    Parameters
    ----------
    H : (K, N) array or scipy.sparse array, >= 0. Activations. A sparse H is never made dense.
    hop_s : float, at least 1e-6. Seconds from one column to the next.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.
    normalize : True scales every (pooled) column to unit length, so that quiet moments show as well and 1
        means the same mixture of source frames; False draws plain ``H' H``.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError, TypeError : if H is empty, negative or not finite, or a value is out of range.
    """
    H = _check_activations(H)
    check_real("hop_s", hop_s, least=1e-6)
    n_columns = H.shape[1]
    block = -(-n_columns // MAX_CELLS)
    similarity = _similarity(H, block)
    if normalize:
        lengths = np.sqrt(similarity.diagonal())
        lengths = np.where(lengths > 0, lengths, 1.0)
        similarity /= np.outer(lengths, lengths)

    ax = axes_or_new(ax, (6.8, 6))
    half = hop_s / 2
    stop = len(similarity) * block * hop_s - half
    draw_cells(
        ax,
        similarity,
        extent=(-half, stop, -half, stop),
        limits=(0.0, 1.0 if normalize else similarity.max() or 1.0),
        label="Similarity (cosine)" if normalize else "Similarity (H'H)",
        pen=PEN,
    )
    limits = (-half, n_columns * hop_s - half)
    ax.set(xlim=limits, ylim=limits, xlabel="Target time (s)", ylabel="Target time (s)")
    if title is not None:
        ax.set_title(title)
    return ax


def _similarity(H: Any, block: int) -> NDArray[np.float64]:
    """``P' P`` of the sums P over blocks of H's columns."""
    columns = np.arange(H.shape[1])
    ones = np.ones(len(columns))
    pooled = H @ scipy.sparse.csc_array((ones, (columns, columns // block)))
    product = pooled.T @ pooled
    return np.asarray(product.toarray() if scipy.sparse.issparse(product) else product)


def plot_divergence(
    divergences: ArrayLike, *, ax: Axes | None = None, title: str | None = None, label: str | None = None
) -> Axes:
    """Draw the divergence between target and mosaic over the iterations 1 to n.

    Draw several runs on one `ax` to compare them. The divergence axis is logarithmic once what is on it spans
    more than a factor of ten.

    Parameters
    ----------
    divergences : (n,) array, >= 0, n >= 1. The divergence after each iteration.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.
    label : name of this curve in the legend; None leaves it out.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError, TypeError : if `divergences` is empty, negative or not finite.
    """
    values = np.asarray(divergences)
    if values.ndim != 1:
        raise ValueError(f"divergences has shape {values.shape}; pass one number per iteration, shape (iterations,)")
    values = check_magnitudes("divergences", values[np.newaxis])[0]
    ax = axes_or_new(ax, (7, 4))
    # A run of a few iterations is all points; a dot on each of hundreds would only thicken the line.
    ax.plot(
        np.arange(1, len(values) + 1),
        values,
        marker="o" if len(values) <= 20 else None,
        markersize=4,
        label=label,
    )
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    positive = drawn[drawn > 0]
    if positive.size and positive.max() > 10 * positive.min():
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    ax.grid(visible=True, alpha=0.3)
    ax.set(xlabel="Iteration", ylabel="Divergence")
    if label is not None:
        ax.legend()
    if title is not None:
        ax.set_title(title)
    return ax
