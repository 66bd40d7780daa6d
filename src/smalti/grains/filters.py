"""Filters, weights and limits: which recordings a mosaic may use, how much each counts, and how much of it they may be.

Recordings in a corpus and plain files provide the same facts, so the same filters apply to both.
"""

import fnmatch
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smalti._checks import ParameterError, ParameterTypeError, check_real

TAG = "tag:"


class Tagged(Protocol):
    """A recording that patterns can be matched with: its path and its tags."""

    @property
    def path(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...


class RecordingInfo(Tagged, Protocol):
    """A recording that filters can be applied to: its path, tags, length and loudness."""

    @property
    def duration_s(self) -> float: ...
    @property
    def loudness_lufs(self) -> float: ...


@dataclass(frozen=True)
class Filters:
    """Which recordings may be used. A filter left at its default excludes nothing.

    A file meets a pattern if the pattern matches its path, or a part of it between slashes, with or without the ending.
    ``rain`` matches rain.wav and every file in a folder named rain; ``*.flac`` and ``rain/light*`` are patterns, too.
    Upper and lower case are the same. ``tag:NAME`` matches files with that tag. A pattern also matches text that is
    literally the same, brackets included.

    Attributes
    ----------
    include : patterns. A file must meet at least one of them, if there are any.
    exclude : patterns. A file must meet none of them.
    tags : tags. A file must have all of them.
    shortest_s, longest_s : the range of lengths in seconds.
    quietest_lufs, loudest_lufs : the range of integrated loudness in LUFS. Silence is quieter than any loudness.

    Raises
    ------
    TypeError, ValueError : if a pattern is no string, a number is out of range, or no length or loudness could pass.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    shortest_s: float = 0.0
    longest_s: float = math.inf
    quietest_lufs: float = -math.inf
    loudest_lufs: float = math.inf

    def __post_init__(self) -> None:
        for name in ("include", "exclude", "tags"):
            patterns = getattr(self, name)
            if isinstance(patterns, str):
                raise ParameterTypeError(name, f"is the single text {patterns!r}", "pass a tuple of them")
            for pattern in patterns:
                check_pattern(name, pattern)
            object.__setattr__(self, name, tuple(patterns))
        for name, least, limit in (
            ("shortest_s", 0, None),
            ("longest_s", 0, math.inf),
            ("quietest_lufs", -200, -math.inf),
            ("loudest_lufs", -200, math.inf),
        ):
            value = getattr(self, name)
            if value != limit:
                check_real(name, value, least=least)
        if self.longest_s < self.shortest_s:
            raise ParameterError(
                "longest_s",
                f"is {self.longest_s:g}",
                f"pass at least {{shortest_s}}, {self.shortest_s:g}",
                also=("shortest_s",),
            )
        if self.loudest_lufs < self.quietest_lufs:
            raise ParameterError(
                "loudest_lufs",
                f"is {self.loudest_lufs:g}",
                f"pass at least {{quietest_lufs}}, {self.quietest_lufs:g}",
                also=("quietest_lufs",),
            )

    def passes(self, recording: RecordingInfo) -> bool:
        """True if a recording may be used."""
        return (
            self.shortest_s <= recording.duration_s <= self.longest_s
            and self.quietest_lufs <= recording.loudness_lufs <= self.loudest_lufs
            and set(map(str.casefold, self.tags)) <= set(map(str.casefold, recording.tags))
            and (not self.include or any(meets(recording, pattern) for pattern in self.include))
            and not any(meets(recording, pattern) for pattern in self.exclude)
        )

    def __str__(self) -> str:
        """The filters that are not at their defaults, as command-line options."""
        options = []
        for field in fields(self):
            value, name = getattr(self, field.name), field.name.rpartition("_")[0] or field.name.removesuffix("s")
            if value != field.default:
                options += [f"--{name} {text}" for text in (value if isinstance(value, tuple) else (f"{value:g}",))]
        return " ".join(options)


def unmet(recordings: Sequence[RecordingInfo], filters: Filters) -> list[str]:
    """Sentences about patterns of `filters` that no recording meets, since a misspelt name would go unnoticed."""
    return [
        f"no recording meets {pattern!r}, which is to be {purpose}"
        for purpose, patterns in (("included", filters.include), ("excluded", filters.exclude))
        for pattern in patterns
        if not any(meets(recording, pattern) for recording in recordings)
    ]


def check_pattern(name: str, pattern: object) -> str:
    """Return `pattern` if it is a text that something could meet.

    Raises
    ------
    TypeError, ValueError : naming the parameter `name`, if `pattern` is no string or is empty.
    """
    if not isinstance(pattern, str):
        raise ParameterTypeError(name, f"holds {pattern!r}", "pass texts such as 'rain', '*.flac' or 'tag:wind'")
    if not pattern.removeprefix(TAG).strip("/"):
        raise ParameterError(name, f"holds {pattern!r}, which nothing meets", "pass texts such as 'rain' or 'tag:wind'")
    return pattern


def meets(recording: Tagged, pattern: str) -> bool:
    """True if a recording meets a pattern; see `Filters`."""
    if pattern.startswith(TAG):
        regex = _regex(pattern.removeprefix(TAG))
        return any(regex.fullmatch(tag) for tag in recording.tags)
    return _regex(pattern.strip("/")).fullmatch(recording.path) is not None


@functools.lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    glob = re.sub(r"\\[zZ]$", "", fnmatch.translate(pattern))
    return re.compile(rf"(?:.*/)?(?:{glob}|{re.escape(pattern)})(?:\.[^./]+)?(?:/.*)?", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Limit:
    """The largest share of a mosaic that some recordings may take.

    Attributes
    ----------
    pattern : the pattern that these recordings meet. share : the largest share of the mosaic, 0 to 1.
    recordings : (R,) bools, True for these recordings.
    """

    pattern: str
    share: float
    recordings: NDArray[np.bool_]


def weights_of(recordings: Sequence[RecordingInfo], weights: Mapping[str, float]) -> NDArray[np.float32]:
    """(R,) how much each recording counts: the product of the weights whose patterns it meets, or 1 if it meets none.

    Raises
    ------
    ValueError, TypeError : if a weight is no number from 0 to 1000, or no recording meets its pattern.
    """
    out = np.ones(len(recordings), np.float32)
    for pattern, weight in weights.items():
        factor = check_real("weights", weight, least=0, most=1000, after=f" of {pattern}")
        out[_met(recordings, "weights", pattern)] *= factor
    return out


def limits_of(recordings: Sequence[RecordingInfo], limits: Mapping[str, float]) -> tuple[Limit, ...]:
    """One `Limit` for each pattern in `limits`, which holds the shares from 0 to 1.

    Raises
    ------
    ValueError, TypeError : if a share is no number from 0 to 1, or no recording meets its pattern.
    """
    return tuple(
        Limit(
            pattern,
            check_real("limits", share, least=0, most=1, after=f" of {pattern}"),
            _met(recordings, "limits", pattern),
        )
        for pattern, share in limits.items()
    )


def _met(recordings: Sequence[RecordingInfo], name: str, pattern: str) -> NDArray[np.bool_]:
    check_pattern(name, pattern)
    met = np.array([meets(recording, pattern) for recording in recordings], bool)
    if not met.any():
        # A misspelt name that silently changed nothing could only be noticed by ear.
        raise ParameterError(name, f"has {pattern!r}, which no recording in use meets", "check the name")
    return met
