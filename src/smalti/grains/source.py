"""The provenance of a recording, as stored in dictionaries, scores and reports."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """The provenance of a recording, or part of one, that grains are cut from.

    Attributes
    ----------
    name : the path of its file, or the name the caller gave it.
    sha256 : the hex digest of the file, or "".
    sr, channels, duration_s : its own sample rate in Hz, channel count, and seconds; 0 where unknown.
    tags : the tags that `smalti.grains.filters.Filters` look at.
    corpus : the folder of the corpus it comes from, or "".
    begin : the sample of the file at which it begins, at the dictionary's rate.
    whole : True for a file of a corpus whose parts have been joined.
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
        """The path that patterns of `smalti.grains.filters` are matched with."""
        return self.name


def as_sources(names: Sequence[str | Source]) -> tuple[Source, ...]:
    """`names` with each text turned into a `Source` of that name."""
    return tuple(Source(name) if isinstance(name, str) else name for name in names)


def sources_of(names: Sequence[str | Source] | None, n_recordings: int) -> tuple[Source, ...]:
    """`as_sources`, for one name a recording; None stands for "source 1", "source 2", ...

    Raises
    ------
    ValueError : if the number of names differs from that of recordings.
    """
    if names is None:
        names = [f"source {i + 1}" for i in range(n_recordings)]
    if len(names) != n_recordings:
        raise ValueError(f"names has {len(names)} entries for {n_recordings} recordings; pass one for each")
    return as_sources(names)
