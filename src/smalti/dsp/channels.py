"""Several channels, (C, L), time last; one channel is (L,).

Comparisons, pictures and measures use one signal, the mono mix. The sound that is made keeps its channels.
"""

from collections.abc import Sequence

import numpy as np

from smalti._checks import Floats
from smalti.dsp.stft import Complexes, StftParams, istft, stft

# Channels cancel if their mean keeps less than this share of their mean power.
CANCELLED = 0.01
# The widths of the bands in which coherence is measured: a wide one to bring it near that of a whole recording, and a
# narrower one to bring it back to what it was. Both are a bin wider on either side. Mixing lifts or lowers nothing by
# more than 6 dB.
IMAGE_OCTAVES, KEPT_OCTAVES, MOST_MIXED_DB = 1.0, 0.5, 6.0


def to_mono(samples: Floats) -> Floats:
    """One signal that stands for all channels: their mean.

    If they cancel, so that the mean keeps less than 1 % of their mean power, it is the loudest channel alone; a
    recording with one channel inverted is such a case. Unrelated channels keep 1 / C of their mean power.

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
    """The number of channels C of (L,) or (C, L) samples; 1 for (L,)."""
    return 1 if samples.ndim == 1 else len(samples)


def as_channels(samples: Floats) -> Floats:
    """(L,) or (C, L) samples as a view (C, L)."""
    return samples if samples.ndim == 2 else samples[None]


def stack_channels(channels: list[Floats]) -> Floats:
    """Channels, each (L,), as one sound: (L,) if there is one, else (C, L)."""
    return channels[0] if len(channels) == 1 else np.stack(channels)


def restore_image(
    spectra: Sequence[Complexes], like: Sequence[Complexes], params: StftParams, *, length: int
) -> list[Floats]:
    """The signals of channels whose bins were corrected one by one, with the image they had before.

    One factor a bin for all channels keeps their relation within each bin, but not over time, for two reasons. The bins
    that are lifted most are those in which grains cancel, and there the part that all channels share has cancelled
    most. Spectra that belong to no signal keep only their consistent part in the inverse: most of what the channels
    share and least of what sets them apart. In every bin the channels are therefore mixed by the matrix nearest to the
    identity that gives them the balance and the coherence of `like` over the whole sound, at the power they had.

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

    Nothing else changes. Each channel keeps its power, and the part that channels share keeps its phase: if the frames
    in use hold an instrument on the left, it stays there, even where others in the recording stand on the right.
    Nothing is raised or lowered by more than 6 dB, so the little that nearly equal channels have of their own is not
    blown up. Channels that are one signal are left alone.

    Parameters
    ----------
    got, wanted : (F, C, C) covariances.
    octaves : the band around each bin over which both are taken.
    """
    got, wanted = _over_octaves(got, octaves), _over_octaves(wanted, octaves)
    had, aim = _coherence(got), _coherence(wanted)
    # Channels that share less than they should hardly show which phase the shared part should have.
    raised = np.maximum(np.abs(aim) - np.abs(had), 0) / np.maximum(np.abs(aim), 1e-9)
    phases = np.exp(1j * np.angle(had + raised * aim))
    matrices = _mixing(np.abs(aim) * phases * _amplitude_products(got), got)
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
    """(F, N): one output of mixing C channels (F, N), by its row (F, C) of the mixing matrices."""
    out = np.zeros_like(channels[0])
    for share, own in zip(row.T, channels, strict=True):
        out += share[:, None] * own
    return out


def _coherence(covariances: Complexes) -> Complexes:
    """(F, C, C) complex coherences, of modulus 0 to 1; 0 for silence."""
    size = _amplitude_products(covariances)
    return np.divide(covariances, size, out=np.zeros_like(covariances), where=size > 0)


def _amplitude_products(covariances: Complexes) -> Floats:
    """(F, C, C): for each covariance, the product of the amplitudes (roots of powers) of its two channels."""
    roots = np.sqrt(np.einsum("fcc->fc", covariances).real)
    out: Floats = roots[:, :, None] * roots[:, None]
    return out


def _over_octaves(covariances: Complexes, octaves: float) -> Complexes:
    """Sums over half of `octaves`, and a bin, to either side of each bin."""
    bins, side = np.arange(len(covariances)), 2 ** (octaves / 2)
    first = np.maximum(np.ceil(bins / side).astype(int) - 1, 0)
    stop = np.minimum(np.floor(bins * side).astype(int) + 2, len(covariances))
    # Differences of running sums would be all rounding where quiet bins follow loud ones.
    out: Complexes = np.array([covariances[a:b].sum(axis=0) for a, b in zip(first, stop, strict=True)])
    return out


def covariances(channels: Sequence[Complexes]) -> Complexes:
    """(F, C, C) complex128 of C channels (F, N), over all frames."""
    out = np.empty((len(channels[0]), len(channels), len(channels)), np.complex128)
    for i, channel in enumerate(channels):
        for j, other in enumerate(channels[: i + 1]):
            out[:, i, j] = np.einsum("fn,fn->f", channel, other.conj(), dtype=np.complex128)
            out[:, j, i] = out[:, i, j].conj()
    return out


def _mixing(wanted: Complexes, got: Complexes) -> Complexes:
    """The matrices M (F, C, C) nearest to the identity for which ``M got M*`` is `wanted` at the power of `got`."""
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
