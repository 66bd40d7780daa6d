"""Helpers that tests build from parts of the library."""

import base64
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, check_rate, check_sound
from smalti.dsp.dynamics import CEILING_DB, MARGIN_DB, MOST_LIMITED_DB, _held
from smalti.dsp.loudness import excess_db
from smalti.mosaicing.mosaic import assemble, part_of
from smalti.nmf.divergence import beta_divergence, noise_floor, scale_by_ratio


def finish(job, step, divergences):
    """The mosaic of a job that is solved for one set of activations (`Job.n_solves` is 1)."""
    return assemble(job, [part_of(job, step, divergences)])


def limit_peaks(
    samples: Floats, sr: int, *, ceiling_db: float = CEILING_DB - MARGIN_DB, most_db: float = MOST_LIMITED_DB
) -> tuple[Floats, Floats]:
    """`samples` with their true peaks turned down to a ceiling, each for a few milliseconds.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1.
    sr : sample rate in Hz.
    ceiling_db : the highest true peak, in dB of full scale.
    most_db : the most that is taken off any moment; peaks further above the ceiling stay above it by the rest.

    Returns
    -------
    samples : of the same shape and dtype; the very same array if nothing exceeds the ceiling.
    gains_db : (L,) float64, <= 0, the gain of every sample in all channels; see `limiter_gains`.
    """
    sound, sr = check_sound("samples", samples), check_rate("sr", sr)
    excess = excess_db(sound, sr, ceiling_db)
    highest = float(excess.max())
    if highest <= 0:
        return samples, np.zeros(len(excess))
    return _held(sound, sr, 0.0, excess, ceiling_db, most_db)


def revealed(text: str) -> dict[str, Any]:
    """The key that `hidden` hid."""
    key: dict[str, Any] = json.loads(bytes(byte ^ (7 * i + 91) % 256 for i, byte in enumerate(base64.b64decode(text))))
    return key


@dataclass(frozen=True, eq=False)
class SupportFit:
    """A Kullback-Leibler fit of a few activations; all others stay 0, and cost nothing.

    Updates keep zeros, so the results are those of `SpectralFit` with `W` from the same start.
    """

    V: Floats
    rows: NDArray[np.intp]
    frames: NDArray[np.intp]
    columns: Floats
    eps: float
    floor: float

    @classmethod
    def of(cls, V: Floats, W: Floats, H: Floats, *, eps: float = 0.0) -> "SupportFit":
        """The fit of the activations that are not 0 in `H` (K, N)."""
        frames, rows = np.nonzero(H.T)
        return cls(np.ascontiguousarray(V.T), rows, frames, np.ascontiguousarray(W.T)[rows], eps, noise_floor(V))

    @cached_property
    def sums(self) -> Floats:
        sums: Floats = self.columns.sum(axis=1)
        return sums

    def product(self, H: Floats) -> Floats:
        """Transposed, (N, F), as both V and the atoms lie here."""
        Y = np.full(self.V.shape, self.floor, self.V.dtype)
        if len(self.frames):
            first = np.flatnonzero(np.diff(self.frames, prepend=-1))
            sounding = self.columns * H[self.rows, self.frames][:, None]
            Y[self.frames[first]] += np.add.reduceat(sounding, first, axis=0)
        return Y

    def divergence(self, H: Floats, Y: Floats) -> float:
        return beta_divergence(self.V, Y, beta=1)

    def update(self, H: Floats, Y: Floats) -> Floats:
        ratio, out = self.V / Y, np.zeros_like(H)
        correlation = np.vecdot(self.columns, ratio[self.frames])
        old = H[self.rows, self.frames]
        out[self.rows, self.frames] = scale_by_ratio(old, correlation, self.sums, self.eps)
        return out
