"""A corpus on a disk, read: its database, its mapped arrays, and what is wrong with them."""

import errno
import os
import shutil
import sqlite3
import tempfile
import urllib.parse
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.corpora.tables import (
    APPLICATION,
    ARRAYS,
    CORPUS_FORMAT,
    TABLES,
    About,
    FileRow,
    SegmentRow,
    check_of,
    corpus_path,
    crc_of,
    damaged,
)
from smalti.errors import CorpusError

# How long to wait for another process that is reading or writing the tables; either takes moments.
_BUSY_S = 60.0


@dataclass(frozen=True)
class StoredIndex:
    """A search index that lies beside the arrays, a quarter as large as the looks; for who searches with it to read.

    Attributes
    ----------
    path : of its file. n_bytes, crc : its size and checksum.
    """

    path: Path
    n_bytes: int
    crc: int

    def seems_whole(self) -> bool:
        """True if the index is there and has its size."""
        with suppress(OSError):
            return self.path.stat().st_size == self.n_bytes
        return False

    def read(self) -> bytes | None:
        """The bytes that `index` of `smalti.corpora.build.build_corpus` made, or None if they are damaged."""
        try:
            data = self.path.read_bytes()
        except OSError:
            return None
        return data if len(data) == self.n_bytes and zlib.crc32(data) == self.crc else None


@dataclass(frozen=True, eq=False)
class CorpusTables:
    """A corpus as its tables spoke of it at one moment, checked but for its arrays' content.

    Attributes
    ----------
    folder : of the corpus. files : in order of their paths, by id. segments : file after file in that order.
    """

    folder: Path
    about: About
    files: dict[int, FileRow]
    segments: tuple[SegmentRow, ...]

    def mapped(self, kind: str) -> NDArray[Any]:
        """An array, as a memory map: (rows, width), or (samples,)."""
        about = self.about
        shape = (about.extent(kind),) if kind == "samples" else (about.extent(kind), about.width(kind))
        if not shape[0]:
            # An empty file cannot be mapped.
            return np.zeros(shape, ARRAYS[kind].dtype)
        with corpus_errors(self.folder):
            array = np.memmap(self.folder / about.name(kind), ARRAYS[kind].dtype, "r", shape=shape)
        # A plain array: slicing it is several times as fast as slicing a memory map.
        return array.view(np.ndarray)

    @property
    def index(self) -> StoredIndex | None:
        """The search index, if there is one of all rows."""
        about = self.about
        if not about.index_rows or about.index_rows != about.rows:
            return None
        return StoredIndex(self.folder / about.index_name, about.index_bytes, about.index_crc)

    def check_segment(self, segment: SegmentRow, kind: str, array: NDArray[Any]) -> None:
        """Refuse a segment whose part of an array is not what was written."""
        if crc_of(array[segment.span(kind)]) != segment.crc(kind):
            of = os.fsdecode(self.files[segment.file].path)
            raise CorpusError(
                f"{self.folder / self.about.name(kind)} is damaged where it holds {of}; restore the corpus from a "
                "copy, or delete it and build it again"
            )

    def place(self, file: FileRow) -> Path:
        """The path of a file when it was read, relative to where the corpus is now."""
        return Path(os.path.normpath(self.base / os.fsdecode(file.path)))

    @cached_property
    def base(self) -> Path:
        """The folder that paths are relative to: the corpus's own, links followed."""
        return Path(os.path.realpath(self.folder))


@contextmanager
def corpus_errors(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with a corpus's files into a `CorpusError`."""
    try:
        yield
    except sqlite3.Error as error:
        if "full" in str(error):
            raise full(folder) from error
        if "locked" in str(error):
            raise CorpusError(f"cannot open {folder}: another program holds {folder / TABLES}; try again") from error
        if "readonly" in str(error) or "unable to open" in str(error):
            raise CorpusError(f"cannot open {folder / TABLES}: {error}; check the permissions") from error
        raise damaged(folder / TABLES, str(error)) from error
    except FileNotFoundError as error:
        raise damaged(Path(error.filename or folder), "it is not there") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise full(folder) from error
        raise CorpusError(
            f"cannot use {error.filename or folder}: {(error.strerror or str(error)).lower()}; "
            "check its permissions and disk"
        ) from error


class DiskFull(CorpusError):
    """There is no room for what is to be written."""


def full(folder: Path) -> DiskFull:
    return DiskFull(f"cannot write {folder}: no space left on its disk; free some and run the same command again")


# Reading


def read_shelves(name: str | os.PathLike[str]) -> CorpusTables:
    """A corpus's tables, after checking them: format, structure, checksums, sizes of arrays.

    Raises
    ------
    CorpusError : if there is none, or it is damaged, unfinished, or of another format.
    """
    return read_mapped(name)[0]


def read_mapped(name: str | os.PathLike[str]) -> tuple[CorpusTables, dict[str, NDArray[Any]]]:
    """A corpus's tables and the arrays that they speak of, see `read_shelves` and `Shelves.mapped`.

    Once they are mapped, arrays stay what they are, even if the corpus is compacted meanwhile.
    """
    folder = corpus_path(name)
    check_is_corpus(folder)
    while True:
        shelves = _snapshot(folder)
        try:
            _check_sizes(shelves)
            return shelves, {kind: shelves.mapped(kind) for kind in ARRAYS}
        except CorpusError:
            # A build that comes to an end just now may have put others in the place of the arrays. As that takes
            # longer than this, it will not happen again and again.
            if _snapshot(folder).about.generation == shelves.about.generation:
                raise


def check_is_corpus(folder: Path) -> None:
    with corpus_errors(folder):
        if not folder.exists():
            raise CorpusError(f"there is no corpus {folder}; build it with 'smalti corpus build FOLDER -o {folder}'")
        if not folder.is_dir():
            raise CorpusError(f"{folder} is no corpus, but a file; name a folder that 'smalti corpus build' made")
        tables = folder / TABLES
        if not tables.exists():
            if any(file.name.partition("-")[0] in ARRAYS and file.stat().st_size for file in folder.iterdir()):
                raise damaged(tables, "it is not there")
            raise CorpusError(f"{folder} is no corpus: it has no {TABLES}; build one with 'smalti corpus build'")
        if not tables.stat().st_size:
            raise CorpusError(f"{folder} holds nothing yet: its build was stopped; run the same build again")


def _snapshot(folder: Path) -> CorpusTables:
    try:
        with closing(connect(folder / TABLES, "ro")) as tables:
            return read_tables(folder, tables)
    except sqlite3.OperationalError as error:
        journal = folder / (TABLES + "-journal")
        if not journal.exists():
            with corpus_errors(folder):
                raise error
    # A build was killed between two states of the tables, and to get back to the first the file must be written to.
    # That is for the next build to do; here it is done to a copy.
    with corpus_errors(folder), tempfile.TemporaryDirectory() as copy:
        for file in (folder / TABLES, journal):
            shutil.copy(file, copy)
        with closing(connect(Path(copy) / TABLES, "rw")) as tables:
            return read_tables(folder, tables)


def connect(file: Path, mode: str) -> sqlite3.Connection:
    # A URI can ask for read-only access. It is made from bytes, since a name need not be text.
    place = urllib.parse.quote(os.fsencode(file.absolute()))
    return sqlite3.connect(f"file:{place}?mode={mode}", uri=True, isolation_level=None, timeout=_BUSY_S)


def read_tables(folder: Path, tables: sqlite3.Connection) -> CorpusTables:
    try:
        tables.execute("BEGIN")
        _check_format(folder, tables)
        if (said := tables.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise damaged(folder / TABLES, str(said))
        (about,) = _rows(folder, tables, About, "about", "rowid") or [None]
        if not isinstance(about, About):
            raise damaged(folder / TABLES, "it does not say what it is")
        if about != replace(about, bands=About.at(about.sr).bands, keys=About.at(about.sr).keys):
            raise CorpusError(f"{folder} was made by another version of smalti; delete it and build it again")
        files = {row.id: row for row in _rows(folder, tables, FileRow, "files", "path")}
        place = {id_: n for n, id_ in enumerate(files)}
        segments = _rows(folder, tables, SegmentRow, "segments", "file, part")
    except sqlite3.OperationalError:
        raise
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        # Checksums tell most; what is no row at all fails before they are looked at.
        raise damaged(folder / TABLES, str(error)) from error
    if any(segment.file not in place for segment in segments):
        raise damaged(folder / TABLES, "a file is missing in it")
    segments.sort(key=lambda segment: (place[segment.file], segment.part))
    return CorpusTables(folder, about, files, tuple(segments))


def _check_format(folder: Path, tables: sqlite3.Connection) -> None:
    application = tables.execute("PRAGMA application_id").fetchone()[0]
    version = tables.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        if not tables.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CorpusError(f"{folder} holds nothing yet: its build was stopped; run the same build again")
        raise damaged(folder / TABLES, "it is no table of smalti's")
    if version > CORPUS_FORMAT:
        raise CorpusError(
            f"{folder} was made by a newer smalti (format {version}, this one reads {CORPUS_FORMAT}); update smalti"
        )
    if version < CORPUS_FORMAT:
        raise CorpusError(f"{folder} is of the old format {version}; delete it and build it again")


def _rows(folder: Path, tables: sqlite3.Connection, kind: type[Any], table: str, order: str) -> list[Any]:
    columns = ", ".join(f'"{field.name}"' for field in fields(kind))
    texts = [n for n, field in enumerate(fields(kind)) if field.type is str]
    out = []
    for *values, check in tables.execute(f'SELECT {columns}, "check" FROM {table} ORDER BY {order}'):
        for n in texts:
            if isinstance(values[n], bytes):
                values[n] = values[n].decode("utf-8", "surrogatepass")
        row = kind(*values)
        if check_of(row) != check:
            raise damaged(folder / TABLES, f"a row of {table} is not what was written")
        out.append(row)
    return out


def _check_sizes(shelves: CorpusTables) -> None:
    folder, about = shelves.folder, shelves.about
    with corpus_errors(folder):
        for kind in ARRAYS:
            file = folder / about.name(kind)
            needed = about.extent(kind) * about.width(kind) * np.dtype(ARRAYS[kind].dtype).itemsize
            if (size := file.stat().st_size) < needed:
                raise damaged(file, f"it has {size} bytes of {needed}")
    for segment in shelves.segments:
        for kind in ("looks", "samples"):
            span = segment.span(kind)
            if not 0 <= span.start <= span.stop <= about.extent(kind):
                raise damaged(folder / TABLES, "a segment lies outside its array")
