"""The provenance of a recording, as dictionaries, scores and reports have it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """The provenance of a recording that grains are cut from, or of a stretch of one.

    Attributes
    ----------
    name : the path of its file, or what it was called.
    sha256 : of the file, or "". sr : its own rate in Hz, channels, duration_s : 0 where they are not known.
    tags : as `smalti.grains.filters.Filters` has them.
    corpus : the corpus it lies in, or "". begin : the sample of the file, at the dictionary's rate, that it begins
        with.
    whole : of a corpus, whether it is all of a file, whose parts are put together.
    """

    name: str
    sha256: str = ""
    sr: int = 0
    channels: int = 0
    duration_s: float = 0.0
    tags: tuple[str, ...] = ()
    corpus: str = ""
    begin: int = 0
    whole: bool = False

    @property
    def path(self) -> str:
        """What patterns of `smalti.grains.filters` are met by."""
        return self.name


def as_sources(names: Sequence[str | Source]) -> tuple[Source, ...]:
    """Names as sources of which nothing else is known; sources as they are."""
    return tuple(Source(name) if isinstance(name, str) else name for name in names)
