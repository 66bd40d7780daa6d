"""Several channels, (C, L), time last; one channel is (L,).

What is compared, drawn and measured is one signal, the mono mix; what is heard keeps its channels.
"""

from collections.abc import Sequence

import numpy as np

from smalti._checks import Floats
from smalti.dsp.stft import Complexes, StftParams, istft, stft

# Below this share of the channels' mean power a mean has lost what the channels held: they cancel.
CANCELLED = 0.01
# Coherence is brought near that of a whole recording over so wide a band; back to what it was over a narrower one. Both
# are a bin wider on either side. No more than so much, up or down, is done to anything that the channels hold.
IMAGE_OCTAVES, KEPT_OCTAVES, MOST_MIXED_DB = 1.0, 0.5, 6.0


def to_mono(samples: Floats) -> Floats:
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


def as_channels(samples: Floats) -> Floats:
    """(L,) or (C, L) as (C, L), a view."""
    return samples if samples.ndim == 2 else samples[None]


def stack_channels(channels: list[Floats]) -> Floats:
    """Channels, each (L,), as one sound: (L,) if there is one, else (C, L)."""
    return channels[0] if len(channels) == 1 else np.stack(channels)


def restore_image(
    spectra: Sequence[Complexes], like: Sequence[Complexes], params: StftParams, *, length: int
) -> list[Floats]:
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
    matrices = _mixing(covariances(like), covariances(got)).astype(got[0].dtype)
    out = []
    for channel, own in enumerate(spectra):
        mixed = remixed(got, matrices[:, channel]) if own.any() else np.zeros_like(own)
        out.append(istft(mixed, params, length=length))
    return out


def match_coherence(samples: Floats, like: Floats, params: StftParams) -> Floats:
    """(C, L) `samples` with the coherence between channels of (C, L) `like`; see `toward_coherence`."""
    spectra = [stft(channel, params) for channel in samples]
    wanted = covariances([stft(channel, params) for channel in like])
    matrices = toward_coherence(covariances(spectra), wanted, octaves=KEPT_OCTAVES).astype(spectra[0].dtype)
    length = samples.shape[1]
    return np.stack([istft(remixed(spectra, row), params, length=length) for row in matrices.swapaxes(0, 1)])


def toward_coherence(got: Complexes, wanted: Complexes, *, octaves: float = IMAGE_OCTAVES) -> Complexes:
    """Matrices M (F, C, C) that bring the coherence in `got` to the modulus of that in `wanted`.

    Only that: each channel keeps its power, and what channels have in common keeps its phase, so that an instrument
    that stands on the left in what is used does not move towards the middle of a recording in which others stand on the
    right. And nothing is raised or lowered by more than 6 dB: of channels that hold next to nothing of their own, that
    is not blown up. Channels that are one signal are left alone.

    Parameters
    ----------
    got, wanted : (F, C, C) covariances.
    octaves : the band around each bin over which both are taken.
    """
    got, wanted = _over_octaves(got, octaves), _over_octaves(wanted, octaves)
    had, aim = _coherence(got), _coherence(wanted)
    # Channels that should share more than they do tell little of the phase that the shared part should have.
    raised = np.maximum(np.abs(aim) - np.abs(had), 0) / np.maximum(np.abs(aim), 1e-9)
    phases = np.exp(1j * np.angle(had + raised * aim))
    matrices = _mixing(np.abs(aim) * phases * _both(got), got)
    left, gains, right = np.linalg.svd(matrices)
    most = 10 ** (MOST_MIXED_DB / 20)
    bounded: Complexes = (left * np.clip(gains, 1 / most, most)[:, None]) @ right
    # Silent bins hold nothing but rounding, so they take no part.
    silent = np.einsum("fcc->fc", got).real <= 0
    bounded[silent] = 0
    bounded.swapaxes(1, 2)[silent] = 0
    np.einsum("fcc->fc", bounded)[silent] = 1
    return bounded


def remixed(channels: Sequence[Complexes], row: Complexes) -> Complexes:
    """(F, N): what one output gets of C channels (F, N) by its row (F, C) of mixing matrices."""
    out = np.zeros_like(channels[0])
    for share, own in zip(row.T, channels, strict=True):
        out += share[:, None] * own
    return out


def _coherence(covariances: Complexes) -> Complexes:
    """(F, C, C), of modulus 0 to 1; 0 for silence."""
    size = _both(covariances)
    return np.divide(covariances, size, out=np.zeros_like(covariances), where=size > 0)


def _both(covariances: Complexes) -> Floats:
    """(F, C, C): the root of the powers of the two channels that each covariance is of."""
    roots = np.sqrt(np.einsum("fcc->fc", covariances).real)
    out: Floats = roots[:, :, None] * roots[:, None]
    return out


def _over_octaves(covariances: Complexes, octaves: float) -> Complexes:
    """Sums over half of `octaves`, and a bin, to either side of each bin."""
    bins, side = np.arange(len(covariances)), 2 ** (octaves / 2)
    first = np.maximum(np.ceil(bins / side).astype(int) - 1, 0)
    stop = np.minimum(np.floor(bins * side).astype(int) + 2, len(covariances))
    # Not by differences of running sums, which where little follows much are all rounding.
    out: Complexes = np.array([covariances[a:b].sum(axis=0) for a, b in zip(first, stop, strict=True)])
    return out


def covariances(channels: Sequence[Complexes]) -> Complexes:
    """(F, C, C) complex128 of C channels (F, N), over all frames."""
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
    # Values that are nothing but rounding must not be divided by.
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
