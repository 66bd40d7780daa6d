"""Beta divergences, and the multiplicative update of the activations that lowers them.

Beta 2 is half the squared Euclidean distance, 1 the Kullback-Leibler divergence and 0 the Itakura-Saito divergence;
values between interpolate. V (F, N) is the target, W (F, K) the fixed dictionary, H (K, N) the activations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, check_magnitudes, check_real, check_same_bins


def beta_divergence(V: Floats, Y: Floats, *, beta: float = 1.0) -> float:
    """The divergence of a model `Y` from `V`, summed over all entries.

    Parameters
    ----------
    V, Y : arrays of one shape, >= 0. Where V is 0 the term is its limit: 0 log 0 = 0.
    beta : 0 (Itakura-Saito) to 2 (half the squared Euclidean distance).

    Returns
    -------
    float >= 0, added up in double precision. Infinite if Y is 0 where V is not (beta <= 1), or V is 0 where Y is
    not (beta 0).

    References
    ----------
    Févotte & Idier (2011), "Algorithms for nonnegative matrix factorization with the beta-divergence", eq. 3.
    """
    if beta == 2:
        difference = V - Y
        return 0.5 * float(np.sum(difference * difference, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if beta == 1:
            # Where V is 0, fmax replaces 0 and 0 / 0 by a positive number, whose logarithm is then multiplied by 0.
            terms = V / Y
            np.fmax(terms, np.finfo(Y.dtype).tiny, out=terms)
            np.log(terms, out=terms)
            terms *= V
            terms -= V
            terms += Y
        elif beta == 0:
            ratio = V / Y
            terms = np.where(V == Y, 0, np.where(Y > 0, ratio - np.log(ratio) - 1, np.inf))
        else:
            terms = (V**beta + (beta - 1) * Y**beta - beta * V * Y ** (beta - 1)) / (beta * (beta - 1))
            terms = np.where(V == Y, 0, terms)
    # Rounding can leave a perfect fit slightly below zero. With the sum first, max returns NaN for a sum of NaN.
    return max(float(np.sum(terms, dtype=np.float64)), 0.0)


def multiplicative_update(H: Floats, V: Floats, W: Floats, *, beta: float = 1.0, eps: float = 0.0) -> Floats:
    """One multiplicative update of `H`, after which ``V ≈ W @ H`` is no worse.

    Parameters
    ----------
    H : (K, N) float array, >= 0. Current activations; not modified. Zeros stay zero.
    V : (F, N) float array, >= 0. Target magnitudes (linear, not dB).
    W : (F, K) float array, >= 0. Dictionary.
    beta : 0 to 2.
    eps : >= 0, added to numerator and denominator of the update's ratio. 0 sets the activations of an all-zero atom
        to 0; a positive eps slows the change of all activations and leaves those of an all-zero atom as they are.

    Returns
    -------
    (K, N) array. For beta 1, with no zero in `H` or `W`, each frame of the new ``W @ H`` sums to that frame of `V`,
    if the old ``W @ H`` is far above `noise_floor`.

    Raises
    ------
    ValueError : if shapes disagree or values are negative or not finite.

    References
    ----------
    Lee & Seung (2001), "Algorithms for non-negative matrix factorization", NIPS 13 (beta 1 and 2);
    Févotte & Idier (2011), eq. 30 and its exponent for beta < 1.
    """
    V, W, H = check_magnitudes("V", V), check_magnitudes("W", W), check_magnitudes("H", H, most=np.inf)
    check_same_bins(V, W)
    if H.shape != (W.shape[1], V.shape[1]):
        raise ValueError(
            f"H has shape {H.shape}; {W.shape[1]} atoms and {V.shape[1]} frames need that many rows, columns"
        )
    fit = SpectralFit.of(V, W, beta=beta, eps=check_real("eps", eps, least=0))
    return fit.update(H, fit.product(H))


def noise_floor(V: Floats) -> float:
    """A constant to add to a model of `V` so that no division by it overflows; it is far below anything audible.

    In float32 it is about 208 dB below the largest magnitude, and never so small that dividing by it twice, as
    Itakura-Saito does, overflows. It acts as a fixed component of the model, so updates still lower the divergence.
    """
    limits = np.finfo(V.dtype)
    return max(float(limits.eps**1.5 * V.max()), float(limits.eps * np.sqrt(limits.tiny)))


@dataclass(frozen=True, eq=False)
class SpectralFit:
    """The fit of activations to a target, for any beta.

    Its product is the model spectrogram ``Y = W @ H + floor``, (F, N).
    """

    V: Floats
    W: Floats
    beta: float
    eps: float
    floor: float

    @classmethod
    def of(cls, V: Floats, W: Floats, *, beta: float, eps: float) -> "SpectralFit":
        beta = check_real("beta", beta, least=0, most=2)
        floor = noise_floor(V) if beta < 2 else 0.0
        # Itakura-Saito compares ratios, so a silent bin would be infinitely far from any sound.
        heard = V + V.dtype.type(floor) if beta == 0 else V
        # Matrix products lie in memory with bins as rows, spectra with frames as rows. Dividing one by the other in
        # every iteration would take three times as long as if both lay alike.
        return cls(np.ascontiguousarray(heard), W, beta, eps, floor)

    @cached_property
    def WtV(self) -> Floats:
        WtV: Floats = self.W.T @ self.V
        return WtV

    @cached_property
    def atom_sums(self) -> Floats:
        """(K, 1) the Kullback-Leibler denominator ``W'(Y / Y)``, the same for every frame."""
        sums: Floats = self.W.sum(axis=0)[:, None]
        return sums

    def product(self, H: Floats) -> Floats:
        Y: Floats = self.W @ H
        if self.floor:
            Y += Y.dtype.type(self.floor)
        return Y

    def divergence(self, Y: Floats) -> float:
        return beta_divergence(self.V, Y, beta=self.beta)

    def update(self, H: Floats, Y: Floats) -> Floats:
        V, W, beta = self.V, self.W, self.beta
        if beta == 2:
            return scale_by_ratio(H, self.WtV, W.T @ Y, self.eps)
        if beta == 1:
            correlation = W.T @ (V / Y)
            return scale_by_ratio(H, correlation, self.atom_sums, self.eps, out=correlation)
        # Y ** (beta - 2) would overflow in float32, where the model of a silent bin is squared.
        weights = Y ** (beta - 1)
        return scale_by_ratio(H, W.T @ (V / Y * weights), W.T @ weights, self.eps, power=majorising_power(beta))


class GramProduct(NamedTuple):
    """The product of a `GramFit`: the activations H (K, N), and ``P = W'W @ H`` (K, N). Its divergence needs both."""

    H: Floats
    P: Floats


@dataclass(frozen=True, eq=False)
class GramFit:
    """The Euclidean fit through the Gram matrix: ``W'V`` and ``W'W`` once, then only K x N and K x K arrays.

    It equals `SpectralFit` with beta 2, and is cheaper if the dictionary has fewer atoms than twice its bins. Only the
    divergence is coarser, since it is a difference of energies: in float32 it is good to about 1e-7 of the target's
    energy.
    """

    WtV: Floats
    WtW: Floats
    energy: float
    eps: float

    @classmethod
    def of(cls, V: Floats, W: Floats, *, eps: float) -> "GramFit":
        energy = np.vecdot(V.T, V.T).sum(dtype=np.float64)
        return cls(W.T @ V, W.T @ W, float(energy), eps)

    @cached_property
    def twice_WtV(self) -> Floats:
        twice: Floats = 2 * self.WtV
        return twice

    def product(self, H: Floats) -> GramProduct:
        return GramProduct(H, self.WtW @ H)

    def divergence(self, product: GramProduct) -> float:
        # ||V - WH||² = ||V||² - 2 <H, W'V> + <H, W'W H>: the spectrogram W @ H itself is never formed.
        # Only the sums of rows need double, since these large numbers nearly cancel the energy.
        cross = np.vecdot(product.H, product.P - self.twice_WtV).sum(dtype=np.float64)
        return max(0.5 * (self.energy + float(cross)), 0.0)

    @cached_property
    def numerator(self) -> Floats:
        """``W'V + eps``, the same in every update."""
        shifted: Floats = self.WtV + self.WtV.dtype.type(self.eps)
        return shifted

    def update(self, H: Floats, product: GramProduct) -> Floats:
        P = product.P
        shift = P.dtype.type(self.eps)
        if not shift:
            return scale_by_ratio(H, self.WtV, P, 0.0)
        ratio: Floats = P + shift
        np.divide(self.numerator, ratio, out=ratio)
        ratio *= H
        return without_denormals(ratio)


@dataclass(frozen=True, eq=False)
class Block:
    """The dictionary of some voices in some target frames.

    Attributes
    ----------
    voices, frames : (P,) int arrays, the places where it holds; no frame occurs twice.
    W : (F, K) float array, >= 0, the atoms' magnitudes there.
    """

    voices: NDArray[np.intp]
    frames: NDArray[np.intp]
    W: Floats

    @cached_property
    def atom_sums(self) -> Floats:
        """(K,) the sum of each atom."""
        sums: Floats = self.W.sum(axis=0)
        return sums


@dataclass(frozen=True, eq=False)
class BlockFit:
    """Kullback-Leibler with a dictionary that differs from voice to voice and frame to frame.

    H has K rows for each voice, one voice below the other. ``Y[:, n]`` is the sum of ``W_b @ H[rows of v, n]`` over the
    places (v, n) of all blocks b. With one voice and one block of all frames this is `SpectralFit`. Activations at
    places that are in no block become 0.

    The target and the product are transposed here, so that the frames of a block are contiguous.

    Attributes
    ----------
    Vt : (N, F), the target. blocks : the dictionary of each place.
    eps, floor : as for `SpectralFit`.
    """

    Vt: Floats
    blocks: tuple[Block, ...]
    eps: float
    floor: float

    @classmethod
    def of(cls, V: Floats, blocks: Sequence[Block], *, eps: float = 0.0) -> "BlockFit":
        return cls(np.ascontiguousarray(V.T), tuple(blocks), eps, noise_floor(V))

    def product(self, H: Floats) -> Floats:
        """The model (N, F)."""
        Y = np.full(self.Vt.shape, self.floor, self.Vt.dtype)
        by_voice = self._by_voice(H)
        for block in self.blocks:
            Y[block.frames] += by_voice[block.voices, :, block.frames] @ block.W.T
        return Y

    def divergence(self, Y: Floats) -> float:
        return beta_divergence(self.Vt, Y, beta=1)

    def update(self, H: Floats, Y: Floats) -> Floats:
        ratio, out = self.Vt / Y, np.zeros_like(H)
        by_voice, updated = self._by_voice(H), self._by_voice(out)
        for block in self.blocks:
            correlation = ratio[block.frames] @ block.W
            old = by_voice[block.voices, :, block.frames]
            updated[block.voices, :, block.frames] = scale_by_ratio(old, correlation, block.atom_sums, self.eps)
        return out

    def _by_voice(self, H: Floats) -> Floats:
        return H.reshape(-1, self.blocks[0].W.shape[1], H.shape[1])


def scale_by_ratio(
    H: Floats,
    numerator: Floats,
    denominator: Floats,
    eps: float,
    *,
    power: float = 1.0,
    out: Floats | None = None,
) -> Floats:
    """``H * ((numerator + eps) / (denominator + eps)) ** power``, and 0 where ``denominator + eps`` is 0.

    `out` may be `numerator`, since a new array as large as all activations costs more than the arithmetic.
    """
    ratio: Floats
    # The cast comes first, since a positive Python float may be 0 in float32.
    shift = denominator.dtype.type(eps)
    if shift:
        ratio = np.add(numerator, shift, out=out)
        ratio /= denominator + shift
    else:
        # Atoms that are silent, or have stopped sounding, get 0.
        sounds = denominator >= np.finfo(denominator.dtype).tiny
        reciprocal = np.divide(1, denominator, out=np.zeros_like(denominator), where=sounds)
        ratio = np.multiply(numerator, reciprocal, out=out)
    if power != 1:
        ratio **= power
    ratio *= H
    return without_denormals(ratio)


def without_denormals(H: Floats) -> Floats:
    """Set the smallest values of `H` to 0, in place; return it.

    Activations keep shrinking until they are denormal numbers, which slow every product down tenfold or more. The
    border falls with the largest activation but never rises with it: the huge gain of a nearly silent atom must not
    silence all others.
    """
    if not H.size:
        return H
    # Two plain passes are four times faster than a mask. Rounding hides the subtraction in all but the smallest values.
    H -= H.dtype.type(np.sqrt(np.finfo(H.dtype).tiny) * min(1, H.max()))
    np.maximum(H, 0, out=H)
    return H


def majorising_power(beta: float) -> float:
    """The exponent for which the update provably lowers the divergence (Févotte & Idier 2011, table 2, beta <= 2)."""
    return 1 / (2 - beta) if beta < 1 else 1.0
