"""What workflows yield while they work: for a progress bar, a page or a log."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """A stage begins: "read", "analyse", "solve", "synthesise", "write", "measure", ..."""

    name: str


@dataclass(frozen=True)
class Progress:
    """How far a stage has come.

    Attributes
    ----------
    done, total : steps. divergence : how far the mosaic is from its target after this one, or None.
    """

    done: int
    total: int
    divergence: float | None = None


@dataclass(frozen=True)
class Warned:
    """A sentence that the user should read."""

    sentence: str


@dataclass(frozen=True)
class Remark:
    """A sentence about what is being done, for those who watch."""

    sentence: str


@dataclass(frozen=True)
class Done:
    """The last of all: what came of it.

    Attributes
    ----------
    result : the report, or what else the workflow says that it gives.
    """

    result: Any


Event = Stage | Progress | Warned | Remark | Done


def recorded(work: Callable[[], T]) -> tuple[T, list[str]]:
    """What `work` returns, and the sentences of the library's warnings meanwhile."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = work()
    return result, [str(warning.message) for warning in caught]
