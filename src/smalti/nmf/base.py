"""`Step`, which every solver yields after each iteration, and `Fit`, what it minimises."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from smalti._checks import Floats


class Fit(Protocol):
    """The divergence that a solver lowers: see `SpectralFit` and `GramFit`."""

    def product(self, H: Floats) -> Floats: ...
    def divergence(self, H: Floats, product: Floats) -> float: ...
    def update(self, H: Floats, product: Floats) -> Floats: ...


class Step(Protocol):
    """The activations after one iteration, whichever way a solver holds them.

    Attributes
    ----------
    iteration : 1 for the first.
    H : (K, N) activations, >= 0; written out when first asked for, where the solver holds lists.
    divergence : how far ``W @ H`` is from V; computed when first asked for, then remembered. Without restrictions it
        costs a few per cent of an iteration (with a beta other than 1 and 2, a fifth to a third), since the next update
        needs the same product; with them it costs one product more, until few activations are left.
    """

    @property
    def iteration(self) -> int: ...
    @property
    def H(self) -> Floats: ...
    @property
    def divergence(self) -> float: ...


@dataclass(frozen=True, eq=False)
class MatrixStep:
    """A `Step` that holds all activations.

    Attributes
    ----------
    iteration, H : as for `Step`.
    fit : what is minimised, such as `SpectralFit` or `GramFit`.
    """

    iteration: int
    H: Floats
    fit: Fit

    @cached_property
    def product(self) -> Floats:
        """The product that the divergence and the next update both need: ``W @ H``, or ``W'W @ H`` in the Gram form."""
        return self.fit.product(self.H)

    @cached_property
    def divergence(self) -> float:
        return self.fit.divergence(self.H, self.product)
