"""What the ear makes of bins: auditory bands, and how loud it hears each frequency.

Bins are pooled so that spectra are compared at the ear's resolution, at a sixth of the work.

Below 1 kHz every bin stays, since the ear tells partials apart there; above, bands are 3 % wide, about what two
neighbouring tones must differ by to be told apart in a mixture.
"""

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, check_rate
from smalti.stft import StftParams

LINEAR_BELOW_HZ = 1000.0
WIDTH = 0.03


def band_edges(params: StftParams, sr: int) -> NDArray[np.intp]:
    """Where bands begin and end.

    Parameters
    ----------
    params : the grid. sr : sample rate in Hz.

    Returns
    -------
    (B + 1,) int array, increasing from 0 to F: band b holds bins ``edges[b]`` to ``edges[b + 1] - 1``.
    """
    bin_hz = check_rate("sr", sr) / params.n_fft
    n_linear = min(params.n_bins, int(np.ceil(LINEAR_BELOW_HZ / bin_hz)))
    n_curved = max(0, int(np.log(params.n_bins * bin_hz / LINEAR_BELOW_HZ) / np.log1p(WIDTH)))
    curved = np.round(LINEAR_BELOW_HZ * (1 + WIDTH) ** np.arange(n_curved + 1) / bin_hz).astype(np.intp)
    # Where a band would be narrower than a bin, several edges round to one.
    edges = np.unique(np.concatenate([np.arange(n_linear), curved]))
    return np.append(edges[edges < params.n_bins], params.n_bins)


def pool(magnitudes: Floats, edges: NDArray[np.intp]) -> Floats:
    """The sum of each band's bins: (F, N) to (B, N).

    Sums, not means: pooled so, a Kullback-Leibler fit keeps the weight that every bin had.
    """
    return np.add.reduceat(magnitudes, edges[:-1], axis=0)


def a_weights(hz: Floats) -> Floats:
    """Power gains of the A-weighting curve at frequencies `hz`, 1 at 1 kHz.

    References
    ----------
    IEC 61672-1:2013, annex E.
    """
    f2 = np.asarray(hz, dtype=np.float64) ** 2
    gain = 12194.217**2 * f2**2
    gain /= (f2 + 20.598997**2) * (f2 + 12194.217**2) * np.sqrt((f2 + 107.65265**2) * (f2 + 737.86223**2))
    weights: Floats = (gain * 10 ** (2.0 / 20)) ** 2
    return weights
