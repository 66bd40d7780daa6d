"""One sound through three windows at the same moments: a long one for pitch, one for timbre, short ones for attacks.

No window tells both which note sounds and when it began. A solver that is to choose source frames by both compares
them in all three, as if they were one long spectrum.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.bands import a_weights, band_edges, erb_edges, pool
from smalti.stft import StftParams, spectra_at

LONG_S, MIDDLE_S, SHORT_S = 4096 / 22050, 2048 / 22050, 512 / 22050
# The short window looks at the four quarters of a hop, in bands that it can tell apart.
QUARTERS = (-3 / 8, -1 / 8, 1 / 8, 3 / 8)
SHORT_WIDTH_ERB = 1.8
# Frames transformed at once, which bounds the memory.
_BLOCK = 2048


def views(
    samples: Floats, centres: NDArray[np.intp], hop: int, sr: int, *, ear_weighting: bool = False
) -> list[Floats]:
    """Band magnitudes of a sound around given moments, in three windows.

    Parameters
    ----------
    samples : (L,) float32 or float64, zero outside.
    centres : (N,) int array, samples on which frames are centred; they may lie outside the signal.
    hop : samples from one moment to the next, whose quarters the short windows look at.
    sr : sample rate in Hz.
    ear_weighting : weigh bins with the A curve before they are pooled.

    Returns
    -------
    Three (B, N) arrays >= 0 of the dtype of `samples`, each with a B of its own: sums of bins, pooled as in
        `smalti.bands.band_edges`, in windows of 186 and 93 ms; and in bands of 1.8 ERB in windows of 23 ms centred on
        each quarter of the hop around a moment, the bands of one quarter below those of the one before.

    Raises
    ------
    ValueError, TypeError : if `sr` is no sample rate.

    References
    ----------
    Ours. The bands of the short windows are those of Glasberg & Moore (1990).
    """
    long, middle, short = (
        StftParams.from_seconds(window_s, window_s / 4, sr) for window_s in (LONG_S, MIDDLE_S, SHORT_S)
    )

    def banded(at: NDArray[np.intp], params: StftParams, edges: NDArray[np.intp]) -> Floats:
        hz = np.arange(params.n_bins) * (sr / params.n_fft)
        weights = np.sqrt(a_weights(hz)) if ear_weighting else np.ones(params.n_bins)
        return _banded(samples, at, params.n_fft, edges, weights.astype(samples.dtype)[:, None])

    pooled = [banded(centres, params, band_edges(params, sr)) for params in (long, middle)]
    edges = erb_edges(short.n_fft, sr, width=SHORT_WIDTH_ERB)
    quarters = [banded(centres + round(hop * quarter), short, edges) for quarter in QUARTERS]
    return [*pooled, np.concatenate([quarter.T for quarter in quarters], axis=1).T]


def stacked(target: Sequence[Floats], source: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The V and W of a solver that compares all views at once.

    Parameters
    ----------
    target, source : views (B, N) and (B, K) of each, >= 0, in the same order.

    Returns
    -------
    (sum of B, N) and (sum of B, K) arrays of their dtype: the views one below the other, each at the gain that gives
        the target's the mass (sum) of its first. Kullback-Leibler then weighs all alike. A view that is silent in the
        target is silent in both.
    """
    masses = [float(view.sum(dtype=np.float64)) for view in target]
    gains = [masses[0] / mass if mass > 0 else 0.0 for mass in masses]
    V, W = ([view * view.dtype.type(gain) for view, gain in zip(of, gains, strict=True)] for of in (target, source))
    # Stacked with frames as rows, as they lie in memory.
    return np.concatenate([view.T for view in V], axis=1).T, np.concatenate([view.T for view in W], axis=1).T


def _banded(samples: Floats, centres: NDArray[np.intp], n_fft: int, edges: NDArray[np.intp], weights: Floats) -> Floats:
    """Pooled magnitudes (B, N) of frames centred anywhere, weighed by (F, 1)."""
    out = np.empty((len(centres), len(edges) - 1), samples.dtype)
    for start in range(0, len(centres), _BLOCK):
        at = centres[start : start + _BLOCK]
        out[start : start + _BLOCK] = pool(weights * np.abs(spectra_at(samples, at, n_fft)), edges).T
    return out.T
