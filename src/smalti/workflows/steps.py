"""The interface of workflows: a `Request` goes in, events come out, for a progress bar, a page or a log."""

import json
import math
import os
import time
import types
import typing
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Self

from smalti.errors import SmaltiError
from smalti.presets import settings_from
from smalti.settings import Settings


class Request:
    """Base of the frozen dataclasses that tell a workflow what to do. They can be pickled, and written as JSON."""

    def to_json(self) -> str:
        """The request as text. Infinity is written as "inf", since JSON does not know it."""
        assert is_dataclass(self)
        return json.dumps(_plain(asdict(self)), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The request from the text that `to_json` made; missing fields have their defaults.

        Raises
        ------
        ValueError, TypeError : if the text is no JSON, or has an unknown field, lacks one that has no default, or holds
            a value of a wrong kind or out of range.
        """
        request: Self = _revived(f"the {cls.__name__}", cls, json.loads(text))
        return request


def _plain(value: Any) -> Any:
    """The value in types that JSON knows."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, Path) or (isinstance(value, float) and math.isinf(value)):
        return str(value)
    return value


def _revived(name: str, kind: Any, value: Any) -> Any:
    """Undo `_plain`: the value of type `kind`. Errors call it `name`."""
    if kind is Settings:
        return settings_from(value)
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} is {value!r}; pass an object with its fields")
        kinds = typing.get_type_hints(kind)
        if strangers := [field for field in value if field not in kinds]:
            raise ValueError(f"{name} has no {', '.join(map(repr, strangers))}; pass names among {', '.join(kinds)}")
        needed = [field.name for field in fields(kind) if field.default is field.default_factory is MISSING]
        if missing := [field for field in needed if field not in value]:
            raise ValueError(f"{name} lacks {', '.join(map(repr, missing))}; add what has no default")
        return kind(**{field: _revived(field, kinds[field], part) for field, part in value.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        # At most one type of a union is a dataclass, and only that one is written as an object.
        choices = [argument for argument in arguments if argument is not type(None)]
        fitting = [choice for choice in choices if is_dataclass(choice) == isinstance(value, Mapping)]
        return _revived(name, (fitting or choices)[0], value)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError(f"{name} is {value!r}; pass a list")
        kinds_of_parts = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(value) != len(kinds_of_parts):
            raise ValueError(f"{name} has {len(value)} values; pass {len(kinds_of_parts)}")
        return tuple(_revived(name, part_kind, part) for part_kind, part in zip(kinds_of_parts, value, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} is {value!r}; pass an object")
        return {key: _revived(name, arguments[1], part) for key, part in value.items()}
    if kind is float and value in ("inf", "-inf"):
        return float(value)
    accepted: Any = {Path: str, float: (int, float)}.get(kind, kind)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} is {value!r}; pass a value of type {kind.__name__}")
    return Path(value) if kind is Path else value


@dataclass(frozen=True)
class Stage:
    """A stage begins: "read", "analyse", "solve", "synthesise", "edit", "blend", "write" or "measure".

    Attributes
    ----------
    name : of the stage.
    """

    name: str


@dataclass(frozen=True)
class Progress:
    """How far a stage has come.

    Attributes
    ----------
    done, total : steps. divergence : between mosaic and target after this step, or None.
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
    """A sentence about what is being done, for the user."""

    sentence: str


@dataclass(frozen=True)
class Done:
    """The last event.

    Attributes
    ----------
    result : the report, or another result that the workflow documents.
    """

    result: Any


Event = Stage | Progress | Warned | Remark | Done
# The generator that a workflow returns. Its `close()` stops the work, and leaves no file half-written.
Events = Generator[Event, None, None]


class Clock:
    """Seconds spent in each stage, however often it begins.

    Attributes
    ----------
    seconds : by the name of the stage; "total" is the time since the work began.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = self._last = time.perf_counter()
        self._stage = ""

    def begin(self, name: str) -> Stage:
        """End the current stage, and begin this one."""
        self.end()
        self._stage = name
        return Stage(name)

    def end(self) -> None:
        """End the stage, if there is one."""
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] = round(self.seconds.get(self._stage, 0.0) + now - self._last, 4)
            self.seconds["total"] = round(now - self._begin, 4)
        self._stage, self._last = "", now


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Collect the library's warnings as sentences. The list is filled when the block ends.

    Never yield to a caller inside the block: the caller's own warnings would be collected too.
    """
    sentences = list[str]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield sentences
    sentences += [str(warning.message) for warning in caught]


def check_fits(needed: int, job: str, remedy: str) -> None:
    """Refuse a job that would exhaust the machine's memory.

    Parameters
    ----------
    needed : peak memory of the job in bytes. job, remedy : how the error names it, and what to do.

    Raises
    ------
    SmaltiError : if the machine has too little memory. A machine that does not report its memory is trusted.
    """
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system reports its memory
        return
    if needed > 0.9 * available:
        raise SmaltiError(
            f"{job} need about {needed / 1e9:.0f} GB of memory and this machine has {available / 1e9:.0f}; {remedy}"
        )
