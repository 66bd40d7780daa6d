"""The three restrictions of Let it Bee, which keep the sound of the source recognisable in a mosaic.

Driedger, Prätzlich & Müller (2015), "Let it Bee: towards NMF-inspired audio mosaicing", ISMIR, section 3. Each function
is one of the paper's steps on activations H (K, N): rows are source frames in time order, columns target frames.
`strength` anneals from nearly 0 to 1: the activations that a restriction weakens are scaled by ``1 - strength``.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from smalti._checks import Floats, Integers, check_choice, check_count

RANKS = ("h", "contribution", "energy")
# A number for all target frames, or one for each.
PerFrame = int | tuple[int, ...]


@dataclass(frozen=True)
class LetItBee:
    """The restrictions, and how far each reaches; None switches one off.

    Attributes
    ----------
    repetition : int >= 1 or None. The paper's r: a source frame stands out at most once in 2r + 1 target frames.
    polyphony : int >= 1 or None. The paper's p: exactly the p strongest source frames of a target frame stand out.
        Continuity comes last and lets their diagonal neighbours in again, so slightly more sound in the end.
        A tuple has a number for each target frame.
    continuity : int >= 1 or None. The paper's c: 2c + 1 diagonal neighbours are summed, so that runs of consecutive
        source frames win. A tuple has a number >= 0 for each target frame.
    every : int >= 1. Only iterations 0, every, 2 every, ... restrict; the update runs in all. The paper has 1, the
        authors' toolbox 5.
    rank : the value that polyphony compares: "h", the activation (the paper); "contribution", h times the atom's norm,
        so that near-silent source frames with huge gains do not win; "energy", h times the squared norm (the authors'
        toolbox).
    """

    repetition: int | None = 3
    polyphony: PerFrame | None = 10
    continuity: PerFrame | None = 3
    every: int = 1
    rank: str = "h"

    def __post_init__(self) -> None:
        for name in ("repetition", "polyphony", "continuity"):
            value = getattr(self, name)
            if isinstance(value, tuple) and name != "repetition":
                for number in set(value):
                    check_count(name, number, least=1 if name == "polyphony" else 0)
            elif value is not None:
                check_count(name, value, least=1)
        check_count("every", self.every, least=1)
        check_choice("rank", self.rank, RANKS)

    @property
    def varies(self) -> bool:
        """Whether a rule changes from frame to frame."""
        return isinstance(self.polyphony, tuple) or isinstance(self.continuity, tuple)

    def weights(self, W: Floats) -> Floats | None:
        """(K, 1) the factors of the activations where polyphony compares them; None if they are all 1."""
        if self.rank == "h":
            return None
        norms: Floats = np.linalg.norm(W, axis=0)[:, None]
        return norms if self.rank == "contribution" else norms**2

    def apply(self, H: Floats, *, strength: float, segments: Integers | None, weights: Floats | None) -> Floats:
        """Apply the restrictions that are on to `H` (K, N), in the paper's order: repetition, polyphony, continuity.

        `segments` is as for `enhance_continuity`, and `weights` as for `limit_polyphony`.
        """
        if self.repetition is not None:
            H = limit_repetition(H, repetition=self.repetition, strength=strength)
        if self.polyphony is not None:
            H = limit_polyphony(H, polyphony=self.polyphony, strength=strength, weights=weights)
        if self.continuity is not None:
            H = enhance_continuity(H, continuity=self.continuity, segments=segments)
        return H


def limit_repetition(H: Floats, *, repetition: int, strength: float) -> Floats:
    """Scale each activation by ``1 - strength`` if its row has a larger one within `repetition` frames.

    Parameters
    ----------
    H : (K, N) float array, >= 0; not modified.
    repetition : int >= 1, the paper's r; the neighbourhood is |t - s| <= r, 2r + 1 frames.
    strength : 0 to 1.

    Returns
    -------
    (K, N) array of H's dtype. Equal largest values all stay.
    """
    return np.where(_running_maximum(H, repetition) > H, H.dtype.type(1 - strength) * H, H)


def _running_maximum(H: Floats, reach: int) -> Floats:
    """The maximum over 2 * reach + 1 columns centred on each column."""
    n = H.shape[1]
    reach = min(reach, n - 1)
    taps = 2 * reach + 1
    # Activations are never negative, so zeros beyond both ends are never the maximum.
    padded = np.zeros((H.shape[0], n + 2 * reach), H.dtype)
    padded[:, reach : reach + n] = H
    # Doubling: two maxima over m columns give one over 2m, so 7 taps cost three passes and 101 cost seven.
    width = 1
    while 2 * width <= taps:
        padded = np.maximum(padded[:, :-width], padded[:, width:])
        width *= 2
    rest = taps - width
    return np.maximum(padded[:, :n], padded[:, rest : rest + n])


def limit_polyphony(H: Floats, *, polyphony: PerFrame, strength: float, weights: Floats | None = None) -> Floats:
    """Scale all but the `polyphony` strongest activations of every frame by ``1 - strength``.

    Parameters
    ----------
    H : (K, N) float array, >= 0; not modified.
    polyphony : int >= 1, the paper's p: exactly p activations survive (all K if K <= p). A tuple has a number for each
        of the N frames.
    strength : 0 to 1.
    weights : (K, 1) or (K, N) float array, or None for 1. The strongest have the largest ``weights * H``.

    Returns
    -------
    (K, N) array of H's dtype.
    """
    scores = H if weights is None else weights * H
    if not isinstance(polyphony, tuple):
        return _limited(H, scores, polyphony, strength)
    out, numbers = np.empty_like(H), np.array(polyphony)
    for number in set(polyphony):
        frames = numbers == number
        out[:, frames] = _limited(H[:, frames], scores[:, frames], number, strength)
    return out


def _limited(H: Floats, scores: Floats, polyphony: int, strength: float) -> Floats:
    if polyphony >= len(H):
        return H.copy()
    # Indices, not a threshold: a threshold keeps every tie, so a uniform start would never thin out.
    # The copy has frames as rows, since selection is fastest along contiguous memory.
    keep = np.argpartition(np.ascontiguousarray(scores.T), -polyphony, axis=1)[:, -polyphony:].T
    out = H.dtype.type(1 - strength) * H
    np.put_along_axis(out, keep, np.take_along_axis(H, keep, axis=0), axis=0)
    return out


def enhance_continuity(H: Floats, *, continuity: PerFrame, segments: Integers | None = None) -> Floats:
    """Sum each activation with its diagonal neighbours: ``out[k, t] = sum of H[k + i, t + i] for i = -c..c``.

    Parameters
    ----------
    H : (K, N) float array, >= 0; not modified.
    continuity : int >= 1, the paper's c; 2c + 1 taps. A tuple has a number >= 0 for each frame t.
    segments : (K,) integers or None. Rows with different numbers come from different recordings (or transpositions of
        one), and a diagonal ends where the number changes. The rows of a segment are consecutive.

    Returns
    -------
    (K, N) array of H's dtype.
    """
    out, reaches = H.copy(), np.array(continuity)
    for rows in segment_slices(len(H), segments):
        inside, total = H[rows], out[rows]
        for i in range(1, min(int(reaches.max()), *(n - 1 for n in inside.shape)) + 1):
            far = reaches >= i
            early, late = (far[:-i], far[i:]) if far.ndim else (True, True)
            np.add(total[:-i, :-i], inside[i:, i:], out=total[:-i, :-i], where=early)
            np.add(total[i:, i:], inside[:-i, :-i], out=total[i:, i:], where=late)
    return out


def segment_slices(n_atoms: int, segments: Integers | None) -> list[slice]:
    """The runs of rows that share a segment number."""
    if segments is None:
        return [slice(0, n_atoms)]
    borders = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), n_atoms]
    return [slice(a, b) for a, b in pairwise(borders)]
