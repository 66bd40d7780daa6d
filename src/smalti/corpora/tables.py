"""The layout of a corpus on disk: its arrays, its tables, and how they are kept in step.

NAME.corpus is a folder. Its arrays are raw and only ever appended to:

- ``looks-1.f16`` (R, B), the features of each frame;
- ``keys-1.f16`` (R, D), its descriptors, by which it is searched;
- ``levels-1.f32`` (R, 2), its scale and its level;
- ``samples-1.i16``, the sound.

The 1 is the generation. ``corpus.sqlite`` says what lies where.

Appended bytes reach the disk before a transaction refers to them. Everything that the tables refer to is therefore
there, whenever a build is killed; the next build overwrites any bytes beyond. Removed files leave holes in the arrays.
Once the holes are large enough, a new generation of arrays is written without them.

A reader writes nothing and takes no lock that would write: a corpus may lie on read-only media.
"""

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from smalti.errors import CorpusError
from smalti.grains.corpus import hop_at
from smalti.grains.descriptors import DESCRIPTOR_SIZES, n_bands

ENDING = ".corpus"
CORPUS_FORMAT = 2
TABLES, LOCK = "corpus.sqlite", "lock.sqlite"
# The application id in the SQLite file: "smlt".
APPLICATION = 0x736D6C74


@dataclass(frozen=True)
class ArrayKind:
    """One of the arrays.

    Attributes
    ----------
    stem, ending : what the name of its file begins and ends with. dtype : of its values.
    counted : the field of `About` that holds its length.
    """

    stem: str
    ending: str
    dtype: str
    counted: str


# Names on the disk are those of format 2, which are not always the names used here.
ARRAYS = {
    "features": ArrayKind("looks", "f16", "<f2", "rows"),
    "descriptors": ArrayKind("keys", "f16", "<f2", "rows"),
    "levels": ArrayKind("levels", "f32", "<f4", "rows"),
    "samples": ArrayKind("samples", "i16", "<i2", "samples"),
}
_COLUMNS = {"descriptor_size": "keys", "crc_features": "crc_looks", "crc_descriptors": "crc_keys"}
_INDEX = "index"


@dataclass(frozen=True)
class About:
    """The corpus as a whole: the only row of its table.

    Attributes
    ----------
    sr : the sample rate of its sound in Hz. bands, descriptor_size : B and D, the widths of features and descriptors.
    generation : the generation of its arrays, from 1.
    rows, samples : the lengths of the arrays: frames in features, descriptors and levels, and values in samples. They
        never shrink within a generation; a shorter array could be overwritten while a reader has it mapped.
    index_bytes, index_crc, index_rows : the size of the search index, its CRC-32, and how many rows it covers; all 0
        if there is none.
    """

    sr: int
    bands: int
    descriptor_size: int
    generation: int = 1
    rows: int = 0
    samples: int = 0
    index_bytes: int = 0
    index_crc: int = 0
    index_rows: int = 0

    @classmethod
    def at(cls, sr: int) -> Self:
        """The description of an empty corpus at `sr` Hz."""
        return cls(sr, n_bands(hop_at(sr), sr), sum(DESCRIPTOR_SIZES))

    def width(self, kind: str) -> int:
        """The number of values in a row of an array."""
        return {"features": self.bands, "descriptors": self.descriptor_size, "levels": 2, "samples": 1}[kind]

    def extent(self, kind: str) -> int:
        """The number of rows in an array."""
        extent: int = getattr(self, ARRAYS[kind].counted)
        return extent

    def name(self, kind: str, generation: int | None = None) -> str:
        """The name of an array's file."""
        return f"{ARRAYS[kind].stem}-{generation or self.generation}.{ARRAYS[kind].ending}"

    @property
    def index_name(self) -> str:
        """The name of the search index's file."""
        return f"{_INDEX}-{self.generation}.bin"


@dataclass(frozen=True)
class FileRow:
    """One file.

    Attributes
    ----------
    id : int. path : bytes, relative to the corpus's folder or absolute.
    size, mtime_ns : its size in bytes and its modification time in ns when it was read.
    sha256 : hex digest, "" if it could not be read.
    sr, channels : its own sample rate in Hz and channel count. duration_s : seconds.
    loudness : integrated, in LUFS; None for silence.
    licence, given_licence : the licence in the file's metadata and the one the user gave, or "".
    genre : the genre in the file's metadata, or "".
    tags, given, warnings : JSON lists of texts: the names of its folders, the user's tags, and sentences about
        anything unexpected in it.
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
    """One recording: a file, or a segment of a long file with a margin of sound around it.

    Attributes
    ----------
    file : the id of its `FileRow`. part : 0, 1, ...
    row, n_rows : its first frame in the arrays, and how many it has.
    centre : the sample of the recording on which its first frame is centred.
    first : the first value of its sound in the array of samples; it is stored channel after channel.
    length, channels : samples in each channel, and the number of channels.
    begin : the sample of the file at which the recording begins. step : the amplitude that a code of 1 stands for.
    crc_features, crc_descriptors, crc_levels, crc_samples : the CRC-32 of its part of each array.
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
    crc_features: int
    crc_descriptors: int
    crc_levels: int
    crc_samples: int

    table: ClassVar[str] = "segments"

    def span(self, kind: str) -> slice:
        """Its rows of an array."""
        if kind == "samples":
            return slice(self.first, self.first + self.length * self.channels)
        return slice(self.row, self.row + self.n_rows)

    def crc(self, kind: str) -> int:
        crc: int = getattr(self, f"crc_{kind}")
        return crc


Row = About | FileRow | SegmentRow


def columns_of(kind: type[Row]) -> list[str]:
    """The columns of a table, in the order of the fields of its rows."""
    return [_COLUMNS.get(field.name, field.name) for field in fields(kind)]


def is_array(file: Path) -> bool:
    """True if a file of a corpus is named as an array of any generation."""
    return file.name.partition("-")[0] in {kind.stem for kind in ARRAYS.values()}


def is_index(file: Path) -> bool:
    """True if a file of a corpus is named as a search index of any generation."""
    return file.name.partition("-")[0] == _INDEX


def check_of(row: Row) -> int:
    """The CRC-32 of a row. SQLite keeps no checksums."""
    return zlib.crc32(repr(values_of(row)).encode())


def values_of(row: Row) -> tuple[Any, ...]:
    # Like `dataclasses.astuple`, but without its deep copies, which take seconds for 100 000 files.
    return tuple(vars(row).values())


def crc_of(array: NDArray[Any]) -> int:
    """The CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)


def corpus_path(name: str | os.PathLike[str]) -> Path:
    """The folder of the corpus `name`: ``.corpus`` is added if it is missing."""
    path = Path(name)
    return path if path.suffix.lower() == ENDING else path.with_name(path.name + ENDING)


def damaged(file: Path, how: str) -> CorpusError:
    return CorpusError(f"{file} is damaged ({how}); restore the corpus from a copy, or delete it and build it again")


def as_json(texts: Iterable[str]) -> str:
    """A list of texts as a row stores it: JSON in ASCII, since a folder's name may not be valid text."""
    return json.dumps(list(texts))


def from_json(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))
