"""A phase for magnitudes that come from no signal: Griffin-Lim, plain and accelerated."""

import numpy as np

from smalti._checks import Floats, check_count, check_real
from smalti.stft import Complexes, StftParams, istft, stft


def griffin_lim(
    magnitudes: Floats,
    start: Complexes,
    params: StftParams,
    *,
    length: int,
    n_iter: int = 30,
    momentum: float = 0.99,
) -> Floats:
    """A signal whose STFT magnitudes come near `magnitudes`.

    Parameters
    ----------
    magnitudes : (F, N) float array, >= 0.
    start : (F, N) complex array whose phase is the first guess; its magnitudes are not used.
    params : the grid.
    length : samples wanted.
    n_iter : int >= 0. 0 keeps the phase of `start`.
    momentum : 0 (Griffin & Lim's own, each iteration at least as consistent as the last) to 1; 0.99 gets about as far
        in 10 iterations as 0 in 30.

    Returns
    -------
    (length,) float array.

    References
    ----------
    Griffin & Lim (1984), IEEE TASSP 32(2), eq. 6; Perraudin, Balazs & Søndergaard (2013), "A fast Griffin-Lim
    algorithm", WASPAA, algorithm 2.
    """
    check_count("n_iter", n_iter, least=0)
    check_real("momentum", momentum, least=0, most=1)
    shape = (params.n_bins, params.n_frames(length))
    for name, array in (("magnitudes", magnitudes), ("start", start)):
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}; {length} samples on this grid need {shape}")
    guess = previous = start
    for iteration in range(n_iter):
        consistent = stft(istft(with_phase(magnitudes, guess), params, length=length), params)
        guess = consistent if iteration == 0 else consistent + momentum * (consistent - previous)
        previous = consistent
    return istft(with_phase(magnitudes, guess), params, length=length)


def with_phase(magnitudes: Floats, spectrum: Complexes) -> Complexes:
    """`magnitudes` (F, N) with the phase of `spectrum`; where that is 0 it has none, and the result is 0."""
    size = np.abs(spectrum)
    # Denormal spectra, as fading recordings leave them, count as 0: their reciprocal would overflow.
    scale = np.divide(magnitudes, size, out=np.zeros_like(size), where=size > magnitudes * np.finfo(size.dtype).tiny)
    turned: Complexes = spectrum * scale
    return turned
