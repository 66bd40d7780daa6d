"""Helpers that tests build from parts of the library."""

import base64
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.mosaicing.mosaic import assemble, part_of
from smalti.mosaicing.prepare import prepare
from smalti.mosaicing.search_plan import plan_of
from smalti.mosaicing.solve import solver_of
from smalti.nmf.divergence import beta_divergence, noise_floor, scale_by_ratio


def prepared(target, source, sr, settings, *, params=None, **options):
    """The job of a mosaic, planned as `smalti.mosaic` plans it."""
    weighed = options.get("weights") is not None or bool(options.get("limits"))
    plan = plan_of(source, sr, settings, params=params, weighed=weighed)
    return prepare(target, source, sr, settings, plan=plan, **options)


def finish(job, step, divergences):
    """The mosaic of a job that is solved for one set of activations (`Job.n_solves` is 1)."""
    return assemble(job, [part_of(job, solver_of(job).solution(step), divergences)])


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

    def divergence(self, Y: Floats) -> float:
        return beta_divergence(self.V, Y, beta=1)

    def update(self, H: Floats, Y: Floats) -> Floats:
        ratio, out = self.V / Y, np.zeros_like(H)
        correlation = np.vecdot(self.columns, ratio[self.frames])
        old = H[self.rows, self.frames]
        out[self.rows, self.frames] = scale_by_ratio(old, correlation, self.sums, self.eps)
        return out
