"""Find a phase for magnitudes (Griffin-Lim, plain and accelerated), or turn a phase part of the way to another."""

from collections.abc import Sequence

import numpy as np

from smalti._checks import Floats, check_count, check_real
from smalti.dsp.stft import Complexes, StftParams, istft, stft


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

    Raises
    ------
    ValueError, TypeError : if the shapes do not fit the grid, or a number is out of range.

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


def shared_griffin_lim(
    magnitudes: Floats,
    channels: Sequence[Complexes],
    params: StftParams,
    *,
    length: int,
    n_iter: int = 30,
    momentum: float = 0.99,
) -> Complexes:
    """One factor for the spectra of all channels that brings their total magnitude near `magnitudes`.

    This is Griffin-Lim with one phase correction for all channels. Each channel alone would take the phase of its own
    consistent spectrum; here all are turned by the one angle that is nearest to those in the least-squares sense. The
    relation between channels stays the same in every bin. For one channel, or C equal ones, this is `griffin_lim`.

    Parameters
    ----------
    magnitudes : (F, N) float array, >= 0: the root of the power that all channels together should have.
    channels : C complex arrays (F, N), the spectra to be multiplied; their phase is the first guess.
    params, length, n_iter, momentum : see `griffin_lim`.

    Returns
    -------
    (F, N) complex array, 0 where all channels are.

    Raises
    ------
    ValueError, TypeError : if `n_iter` or `momentum` is out of range.
    """
    check_count("n_iter", n_iter, least=0)
    check_real("momentum", momentum, least=0, most=1)
    total = np.sqrt(sum((np.square(np.abs(own)) for own in channels), start=np.zeros_like(magnitudes)))
    sounding = total > magnitudes * np.finfo(total.dtype).tiny
    gain = np.divide(magnitudes, total, out=np.zeros_like(total), where=sounding)
    # All spectra together are scaled to unit power, so that squares of loud and quiet ones stay in range.
    scale = np.divide(1, total, out=np.zeros_like(total), where=sounding)
    factor, previous = gain.astype(channels[0].dtype), np.zeros_like(channels[0])
    for iteration in range(n_iter):
        # The sum over the channels of Y G*, Y being the consistent spectra: its angle is the nearest for all.
        nearest = np.zeros_like(factor)
        for own in channels:
            consistent = stft(istft(factor * own, params, length=length), params)
            nearest += consistent * (own.conj() * scale)
        guess = nearest if iteration == 0 else nearest + momentum * (nearest - previous)
        previous = nearest
        factor = with_phase(gain, guess)
    return factor


def with_phase(magnitudes: Floats, spectrum: Complexes) -> Complexes:
    """`magnitudes` (F, N) with the phase of `spectrum`; where that is 0 it has none, and the result is 0."""
    size = np.abs(spectrum)
    # Denormal spectra, as fading recordings leave them, count as 0: their reciprocal would overflow.
    scale = np.divide(magnitudes, size, out=np.zeros_like(size), where=size > magnitudes * np.finfo(size.dtype).tiny)
    turned: Complexes = spectrum * scale
    return turned


def turn_toward(own: Complexes, other: Complexes, share: float) -> Complexes:
    """The factor, of modulus 1, that turns `own` until its phase is that of ``(1 - share) u(own) + share u(other)``.

    ``u(z) = z / |z|``, and 0 for 0. The factor is 1 where that sum is 0: the two are opposite, or one is silent and the
    other has no share.

    Parameters
    ----------
    own, other : (F, N) complex arrays.
    share : 0 (1 everywhere) to 1 (the phase of `other`, wherever both sound).

    Returns
    -------
    (F, N) complex array.
    """
    check_real("share", share, least=0, most=1)
    ones = np.ones(own.shape, own.real.dtype)
    units = with_phase(ones, own)
    wanted = (1 - share) * units + share * with_phase(ones, other)
    # Opposite numbers add up to rounding errors, whose angle means nothing.
    wanted[np.abs(wanted) < 8 * np.finfo(ones.dtype).eps] = 0
    turn = with_phase(ones, wanted * units.conj())
    turn[turn == 0] = 1
    return turn


PHASES = ("source", "target", "griffin-lim")
AIMS = ("amplitude", "geometric")
