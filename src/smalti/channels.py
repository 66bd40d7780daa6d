"""Several channels, (C, L), time last; one channel is (L,).

What is compared, drawn and measured is one signal, the mono mix; what is heard keeps its channels.
"""

from collections.abc import Sequence

import numpy as np

from smalti._checks import Floats
from smalti.stft import Complexes, StftParams, istft, stft

# Below this share of the channels' mean power a mean has lost what the channels held: they cancel.
CANCELLED = 0.01


def mixed_down(samples: Floats) -> Floats:
    """One signal that stands for all channels: their mean.

    Where they cancel, as those of a recording with one channel turned over do, so that the mean keeps less than 1 % of
    their mean power, it is the loudest channel alone. Channels that have nothing to do with each other keep 1 / C.

    Parameters
    ----------
    samples : (L,) or (C, L) float array.

    Returns
    -------
    (L,) array of the same dtype; `samples` itself if it has one channel.
    """
    if samples.ndim == 1:
        return samples
    mean: Floats = samples.mean(axis=0, dtype=np.float64).astype(samples.dtype)
    powers = np.square(samples, dtype=np.float64).mean(axis=1)
    if np.square(mean, dtype=np.float64).mean() < CANCELLED * powers.mean():
        loudest: Floats = samples[int(np.argmax(powers))]
        return loudest
    return mean


def n_channels(samples: Floats) -> int:
    """C, of (L,) or (C, L)."""
    return 1 if samples.ndim == 1 else len(samples)


def rows(samples: Floats) -> Floats:
    """(L,) or (C, L) as (C, L), a view."""
    return samples if samples.ndim == 2 else samples[None]


def together(channels: list[Floats]) -> Floats:
    """Channels, each (L,), as one sound: (L,) if there is one, else (C, L)."""
    return channels[0] if len(channels) == 1 else np.stack(channels)


def imaged(spectra: Sequence[Complexes], like: Sequence[Complexes], params: StftParams, *, length: int) -> list[Floats]:
    """The signals of channels whose bins were corrected one by one, with the image they had before.

    One factor a bin for all channels leaves what lies between them, bin by bin, but not over time. What is lifted most
    are bins in which grains cancel, and there the channels' common part, being in all of them, has cancelled most. And
    spectra of no signal keep in the inverse only what is consistent, most of what the channels have in common and least
    of what sets them apart. So in every bin the channels are mixed by the matrix nearest to 1 that gives them, over
    the whole sound, the balance and the coherence of `like`, at the power they had.

    Parameters
    ----------
    spectra, like : C >= 2 complex arrays (F, N) each.
    params, length : as for `istft`.

    Returns
    -------
    C float arrays (length,). A channel that is silent in `spectra` stays silent.

    References
    ----------
    Vilkamo, Bäckström & Kuntz (2013), "Optimized covariance domain framework for time-frequency processing of spatial
    audio", JAES 61(6).
    """
    got = [stft(istft(own, params, length=length), params) for own in spectra]
    matrices = _mixing(_covariances(like), _covariances(got)).astype(got[0].dtype)
    out = []
    for channel, own in enumerate(spectra):
        mixed = np.zeros_like(own)
        if own.any():
            for other, spectrum in enumerate(got):
                mixed += matrices[:, channel, other, None] * spectrum
        out.append(istft(mixed, params, length=length))
    return out


def _covariances(channels: Sequence[Complexes]) -> Complexes:
    """(F, C, C) complex128, over all frames."""
    out = np.empty((len(channels[0]), len(channels), len(channels)), np.complex128)
    for i, one in enumerate(channels):
        for j, other in enumerate(channels[: i + 1]):
            out[:, i, j] = np.einsum("fn,fn->f", one, other.conj(), dtype=np.complex128)
            out[:, j, i] = out[:, i, j].conj()
    return out


def _mixing(wanted: Complexes, got: Complexes) -> Complexes:
    """The matrices M (F, C, C) nearest to 1 for which ``M got M*`` is `wanted` at the power of `got`."""
    (V, v), (U, u) = _roots(wanted), _roots(got)
    root = (V * v[:, None]) @ V.conj().swapaxes(1, 2)
    # What is not there, but for rounding, is not to be divided by.
    inverse = np.divide(1, u, out=np.zeros_like(u), where=u > 1e-5)
    left, _, right = np.linalg.svd((U * u[:, None]) @ U.conj().swapaxes(1, 2) @ root)
    turn = right.conj().swapaxes(1, 2) @ left.conj().swapaxes(1, 2)
    mixing: Complexes = root @ turn @ (U * inverse[:, None]) @ U.conj().swapaxes(1, 2)
    return mixing


def _roots(covariances: Complexes) -> tuple[Complexes, Floats]:
    """Eigenvectors, and the roots of the eigenvalues, of covariances (F, C, C) brought to power 1; 0 stays 0."""
    powers = np.einsum("fcc->f", covariances).real[:, None, None]
    values, vectors = np.linalg.eigh(np.divide(covariances, powers, out=np.zeros_like(covariances), where=powers > 0))
    return vectors, np.sqrt(np.maximum(values, 0))
