"""A corpus as it lies on a disk: its arrays, its tables, and how they are kept in step  (alone imports sqlite3).

NAME.corpus is a folder. Arrays are raw and only ever appended to: ``looks-1.f16`` (R, B), ``keys-1.f16`` (R, D),
``levels-1.f32`` (R, 2), the scale and the level of each frame, and ``samples-1.i16``, the sound; 1 is the generation.
``corpus.sqlite`` says what lies where. What is appended is on the disk before one transaction speaks of it, so that
whatever was going on when a build was killed, what the tables speak of is there; what lies beyond is overwritten by the
next build. What is taken out leaves holes, until they are worth a new generation.

A reader writes nothing and takes no lock that would: a corpus may lie on read-only media.
"""

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from smalti.errors import CorpusError
from smalti.grains.corpus import hop_at
from smalti.grains.descriptors import KEY_SIZES, n_bands

ENDING = ".corpus"
CORPUS_FORMAT = 2
TABLES, LOCK = "corpus.sqlite", "lock.sqlite"
# The application id in the SQLite file: "smlt".
APPLICATION = 0x736D6C74


@dataclass(frozen=True)
class ArrayKind:
    """One of the arrays: its file's ending, the type of its values, and what counts them in `About`."""

    ending: str
    dtype: str
    counted: str


ARRAYS = {
    "looks": ArrayKind("f16", "<f2", "rows"),
    "keys": ArrayKind("f16", "<f2", "rows"),
    "levels": ArrayKind("f32", "<f4", "rows"),
    "samples": ArrayKind("i16", "<i2", "samples"),
}


@dataclass(frozen=True)
class About:
    """One row: what the corpus as a whole is.

    Attributes
    ----------
    sr : Hz, of its sound. bands, keys : B and D. generation : of its arrays.
    rows, samples : extents: frames in looks, keys and levels, and values in samples. They never shrink within a
        generation, lest a reader sees what it has mapped being overwritten.
    index_bytes, index_crc, index_rows : of the search index, if there is one: its size, its checksum, and how many rows
        it covers.
    """

    sr: int
    bands: int
    keys: int
    generation: int = 1
    rows: int = 0
    samples: int = 0
    index_bytes: int = 0
    index_crc: int = 0
    index_rows: int = 0

    @classmethod
    def at(cls, sr: int) -> Self:
        """The description of a corpus that holds nothing."""
        return cls(sr, n_bands(hop_at(sr), sr), sum(KEY_SIZES))

    def width(self, kind: str) -> int:
        """Values in a row of an array."""
        return {"looks": self.bands, "keys": self.keys, "levels": 2, "samples": 1}[kind]

    def extent(self, kind: str) -> int:
        """Rows in an array."""
        extent: int = getattr(self, ARRAYS[kind].counted)
        return extent

    def name(self, kind: str, generation: int | None = None) -> str:
        """The name of an array's file."""
        return f"{kind}-{generation or self.generation}.{ARRAYS[kind].ending}"

    @property
    def index_name(self) -> str:
        """The name of the search index's file."""
        return f"index-{self.generation}.bin"


@dataclass(frozen=True)
class FileRow:
    """One file.

    Attributes
    ----------
    id : int. path : as bytes; relative to the corpus's folder or absolute.
    size, mtime_ns : when it was read. sha256 : hex digest, "" if it could not be read.
    sr, channels : its own. duration_s : seconds. loudness : LUFS, None for silence.
    licence, given_licence : as the file says, and as the user says; or "". genre : as the file says, or "".
    tags, given, warnings : JSON lists of texts: tags by folders, tags by the user, what was not as expected.
    fault : why it cannot be used, or "".
    """

    id: int
    path: bytes
    size: int
    mtime_ns: int
    sha256: str = ""
    sr: int = 0
    channels: int = 0
    duration_s: float = 0.0
    loudness: float | None = None
    licence: str = ""
    given_licence: str = ""
    genre: str = ""
    tags: str = "[]"
    given: str = "[]"
    warnings: str = "[]"
    fault: str = ""

    table: ClassVar[str] = "files"


@dataclass(frozen=True)
class SegmentRow:
    """One recording: a file, or a segment of a long one with what lies around it.

    Attributes
    ----------
    file : the id of its `FileRow`. part : 0, 1, ...
    row, n_rows : where its frames are. centre : the sample of the recording on which the first of them is centred.
    first, length, channels : where its sound is, channel after channel, in samples of each.
    begin : the sample of the file at which the recording begins. step : what a code of 1 is in float.
    crc_looks, crc_keys, crc_levels, crc_samples : checksums.
    """

    file: int
    part: int
    row: int
    n_rows: int
    centre: int
    first: int
    length: int
    channels: int
    begin: int
    step: float
    crc_looks: int
    crc_keys: int
    crc_levels: int
    crc_samples: int

    table: ClassVar[str] = "segments"

    def span(self, kind: str) -> slice:
        """Which rows of an array are its own."""
        if kind == "samples":
            return slice(self.first, self.first + self.length * self.channels)
        return slice(self.row, self.row + self.n_rows)

    def crc(self, kind: str) -> int:
        crc: int = getattr(self, f"crc_{kind}")
        return crc


Row = About | FileRow | SegmentRow


def check_of(row: Row) -> int:
    """The checksum of a row, since SQLite keeps none."""
    return zlib.crc32(repr(values_of(row)).encode())


def values_of(row: Row) -> tuple[Any, ...]:
    # Like `dataclasses.astuple`, but without its deep copies, which take seconds for 100 000 files.
    return tuple(vars(row).values())


def crc_of(array: NDArray[Any]) -> int:
    """Checksum of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)


def corpus_path(name: str | os.PathLike[str]) -> Path:
    """The folder of a corpus of this name: the ending is added if it is missing."""
    path = Path(name)
    return path if path.suffix.lower() == ENDING else path.with_name(path.name + ENDING)


def damaged(file: Path, how: str) -> CorpusError:
    return CorpusError(f"{file} is damaged ({how}); restore the corpus from a copy, or delete it and build it again")


def as_json(texts: Iterable[str]) -> str:
    """A list of texts as a row holds it; JSON in ASCII, since names of folders need not be text."""
    return json.dumps(list(texts))


def from_json(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))
