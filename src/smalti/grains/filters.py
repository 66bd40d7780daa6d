"""Which of many recordings a mosaic may be made of, how much each counts, and how much of it there may be.

What is told of a recording is the same whether it lies in a corpus or is a plain file, and so are the filters.
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
    """A recording that patterns can be matched with."""

    @property
    def path(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...


class RecordingInfo(Tagged, Protocol):
    """A recording that filters can be applied to."""

    @property
    def duration_s(self) -> float: ...
    @property
    def loudness_lufs(self) -> float: ...


@dataclass(frozen=True)
class Filters:
    """Which recordings may be used. What is left at its default leaves out nothing.

    A pattern is met by a file's path, or by a part of it between slashes, with its ending or without: ``rain`` by every
    file in a folder of that name and by rain.wav, ``*.flac``, ``rain/light*``; upper and lower case are one.
    ``tag:NAME`` is met by files so tagged. What stands in a path or tag as it is written is met, brackets and all.

    Attributes
    ----------
    include : patterns; of several, one must be met. exclude : patterns, of which none may be met.
    tags : of which a file must have every one.
    shortest_s, longest_s : limits of its length, in seconds.
    quietest_lufs, loudest_lufs : limits of its integrated loudness. Silence is quieter than any.

    Raises
    ------
    TypeError, ValueError : if patterns are no strings, a number is out of range or no length or loudness could pass.
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
                f"pass at least shortest_s, {self.shortest_s:g}",
                also=("shortest_s",),
            )
        if self.loudest_lufs < self.quietest_lufs:
            raise ParameterError(
                "loudest_lufs",
                f"is {self.loudest_lufs:g}",
                f"pass at least quietest_lufs, {self.quietest_lufs:g}",
                also=("quietest_lufs",),
            )

    def passes(self, told: RecordingInfo) -> bool:
        """Whether a recording may be used."""
        return (
            self.shortest_s <= told.duration_s <= self.longest_s
            and self.quietest_lufs <= told.loudness_lufs <= self.loudest_lufs
            and set(map(str.casefold, self.tags)) <= set(map(str.casefold, told.tags))
            and (not self.include or any(meets(told, pattern) for pattern in self.include))
            and not any(meets(told, pattern) for pattern in self.exclude)
        )

    def __str__(self) -> str:
        """The filters that leave out something, as the command line has them."""
        said = []
        for field in fields(self):
            value, name = getattr(self, field.name), field.name.rpartition("_")[0] or field.name.removesuffix("s")
            if value != field.default:
                said += [f"--{name} {one}" for one in (value if isinstance(value, tuple) else (f"{value:g}",))]
        return " ".join(said)


def unmet(told: Sequence[RecordingInfo], filters: Filters) -> list[str]:
    """Sentences about patterns of `filters` that no recording meets: a name misspelt leaves out nothing, unnoticed."""
    return [
        f"no recording meets {pattern!r}, which is to be {what}"
        for what, patterns in (("included", filters.include), ("excluded", filters.exclude))
        for pattern in patterns
        if not any(meets(one, pattern) for one in told)
    ]


def check_pattern(name: str, pattern: object) -> str:
    """Return `pattern` as a text that may be met."""
    if not isinstance(pattern, str):
        raise ParameterTypeError(name, f"holds {pattern!r}", "pass texts such as 'rain', '*.flac' or 'tag:wind'")
    if not pattern.removeprefix(TAG).strip("/"):
        raise ParameterError(name, f"holds {pattern!r}, which nothing meets", "pass texts such as 'rain' or 'tag:wind'")
    return pattern


def meets(told: Tagged, pattern: str) -> bool:
    """Whether a recording meets a pattern; see `Filters`."""
    if pattern.startswith(TAG):
        regex = _regex(pattern.removeprefix(TAG))
        return any(regex.fullmatch(tag) for tag in told.tags)
    return _regex(pattern.strip("/")).fullmatch(told.path) is not None


@functools.lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    whole = re.sub(r"\\[zZ]$", "", fnmatch.translate(pattern))
    return re.compile(rf"(?:.*/)?(?:{whole}|{re.escape(pattern)})(?:\.[^./]+)?(?:/.*)?", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Limit:
    """How much of a mosaic some recordings may be.

    Attributes
    ----------
    pattern : that they meet. share : 0 to 1, of the mosaic, at most.
    recordings : (R,) bools, which they are.
    """

    pattern: str
    share: float
    recordings: NDArray[np.bool_]


def weights_of(told: Sequence[RecordingInfo], weights: Mapping[str, float]) -> NDArray[np.float32]:
    """(R,) how much each recording counts: the product of the weights, >= 0, whose patterns it meets; else 1.

    Raises
    ------
    ValueError, TypeError : if a weight is negative or no number, or nothing meets its pattern.
    """
    out = np.ones(len(told), np.float32)
    for pattern, weight in weights.items():
        out[_met(told, "weights", pattern)] *= check_real(f"the weight of {pattern}", weight, least=0, most=1000)
    return out


def limits_of(told: Sequence[RecordingInfo], limits: Mapping[str, float]) -> tuple[Limit, ...]:
    """The limits of recordings, from shares from 0 to 1 by pattern.

    Raises
    ------
    ValueError, TypeError : if a share is out of range, or nothing meets its pattern.
    """
    return tuple(
        Limit(
            pattern,
            check_real(f"the limit of {pattern}", share, least=0, most=1),
            _met(told, "limits", pattern),
        )
        for pattern, share in limits.items()
    )


def _met(told: Sequence[RecordingInfo], name: str, pattern: str) -> NDArray[np.bool_]:
    check_pattern(name, pattern)
    met = np.array([meets(one, pattern) for one in told], bool)
    if not met.any():
        # A misspelt name that silently weighs nothing would be found by ear, if at all.
        raise ParameterError(name, f"has {pattern!r}, which no recording in use meets", "check the name")
    return met
