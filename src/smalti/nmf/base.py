"""`Step`, which every solver yields after each iteration, and `Fit`, what it minimises."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

from smalti._checks import Floats


class Fit(Protocol):
    """What is minimised: see `SpectralFit` and `GramFit`."""

    def product(self, H: Floats) -> Floats: ...
    def divergence(self, H: Floats, product: Floats) -> float: ...
    def update(self, H: Floats, product: Floats) -> Floats: ...


@dataclass(frozen=True, eq=False)
class Step:
    """The activations after one iteration.

    Attributes
    ----------
    iteration : 1 for the first.
    H : (K, N) activations, >= 0.
    fit : what is minimised, such as `SpectralFit` or `GramFit`.
    divergence : how far ``W @ H`` is from V; computed when first asked for, then remembered. Without restrictions it
        costs a few per cent of an iteration (with a beta other than 1 and 2, a fifth to a third), since the next update
        needs the same product; with them it costs one product more, until few activations are left.
    """

    iteration: int
    H: Floats
    fit: Fit

    @cached_property
    def product(self) -> Floats:
        """What the divergence and the next update both need: ``W @ H``, or ``W'W @ H`` in the Gram form."""
        return self.fit.product(self.H)

    @cached_property
    def divergence(self) -> float:
        return self.fit.divergence(self.H, self.product)

    def numbered(self, iteration: int) -> Self:
        """The same step under another number."""
        step = copy.copy(self)
        object.__setattr__(step, "iteration", iteration)
        return step
