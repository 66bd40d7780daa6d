"""`Step`, which every solver yields after each iteration, and `Fit`, the divergence that a solver minimises."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

from smalti._checks import Floats

Product = TypeVar("Product")


class Fit(Protocol[Product]):
    """The divergence of ``W @ H`` from V that a solver lowers, such as `SpectralFit` and `GramFit`.

    H is (K, N) everywhere. The product is costly, so the caller computes it once and hands it to both `divergence` and
    `update`. Only its own fit looks into it, since each has the form that is fastest for it: the model (F, N) or
    (N, F), or ``W'W @ H``.
    """

    def product(self, H: Floats) -> Product: ...
    def divergence(self, product: Product) -> float: ...
    def update(self, H: Floats, product: Product) -> Floats: ...


class Step(Protocol):
    """The activations after one iteration.

    Attributes
    ----------
    iteration : 1 for the first.
    H : (K, N) activations, >= 0. A solver that holds lists fills the array when it is first read.
    divergence : how far ``W @ H`` is from V, computed when first read. Without restrictions it costs a few per cent of
        an iteration (a fifth to a third if beta is neither 1 nor 2), since the next update needs the same product. With
        restrictions it costs one product more, until few activations are left.
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
    fit : the divergence that is minimised, such as `SpectralFit` or `GramFit`.
    """

    iteration: int
    H: Floats
    fit: Fit[Any]

    @cached_property
    def product(self) -> Any:
        """The product that the divergence and the next update both need; see `Fit`."""
        return self.fit.product(self.H)

    @cached_property
    def divergence(self) -> float:
        return self.fit.divergence(self.product)
