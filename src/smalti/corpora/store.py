"""Read a corpus on disk: its tables, its memory-mapped arrays, and checks for damage."""

import errno
import os
import shutil
import sqlite3
import tempfile
import urllib.parse
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields
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
    columns_of,
    corpus_path,
    crc_of,
    damaged,
    is_array,
)
from smalti.errors import CorpusError
from smalti.io.files import reason_of

# How long to wait for another process that is reading or writing the tables. Both take moments.
_BUSY_S = 60.0


@dataclass(frozen=True)
class StoredIndex:
    """A search index stored beside the arrays. It is a quarter as large as the features, and read only for a search.

    Attributes
    ----------
    path : its file. n_bytes, crc : its size and its CRC-32.
    """

    path: Path
    n_bytes: int
    crc: int

    def seems_whole(self) -> bool:
        """True if the index file exists and has the right size."""
        with suppress(OSError):
            return self.path.stat().st_size == self.n_bytes
        return False

    def read(self) -> bytes | None:
        """The bytes that `smalti.grains.nearest.packed` made of it; None if they are missing or damaged."""
        try:
            data = self.path.read_bytes()
        except OSError:
            return None
        return data if len(data) == self.n_bytes and zlib.crc32(data) == self.crc else None


@dataclass(frozen=True, eq=False)
class CorpusTables:
    """A snapshot of the tables of a corpus. The content of its arrays is not checked.

    Attributes
    ----------
    folder : the folder of the corpus. about : the corpus as a whole.
    files : the files by id, in order of their paths. segments : the segments, file after file in that order.
    """

    folder: Path
    about: About
    files: dict[int, FileRow]
    segments: tuple[SegmentRow, ...]

    def mapped(self, kind: str) -> NDArray[Any]:
        """One of the arrays, memory-mapped and read-only: (rows, width), or (samples,) for the sound."""
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
        """The search index; None if there is none, or if it does not cover all rows."""
        about = self.about
        if not about.index_rows or about.index_rows != about.rows:
            return None
        return StoredIndex(self.folder / about.index_name, about.index_bytes, about.index_crc)

    def check_segment(self, segment: SegmentRow, kind: str, array: NDArray[Any]) -> None:
        """Raise `CorpusError` if a segment's part of an array does not match its checksum."""
        if crc_of(array[segment.span(kind)]) != segment.crc(kind):
            source = os.fsdecode(self.files[segment.file].path)
            raise CorpusError(
                f"{self.folder / self.about.name(kind)} is damaged where it holds {source}; restore the corpus from a "
                "copy, or delete it and build it again"
            )

    def place(self, file: FileRow) -> Path:
        """The full path of a file; a relative path starts from where the corpus is now."""
        return Path(os.path.normpath(self.base / os.fsdecode(file.path)))

    @cached_property
    def base(self) -> Path:
        """The folder that paths are relative to: that of the corpus, with links resolved."""
        return Path(os.path.realpath(self.folder))


@contextmanager
def corpus_errors(folder: Path) -> Iterator[None]:
    """Turn errors from the database or the files of a corpus into `CorpusError`."""
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
            f"cannot use {error.filename or folder}: {reason_of(error)}; check its permissions and disk"
        ) from error


class DiskFull(CorpusError):
    """The disk has no room left for the corpus."""


def full(folder: Path) -> DiskFull:
    return DiskFull(f"cannot write {folder}: no space left on its disk; free some and run the same command again")


def load_tables(name: str | os.PathLike[str]) -> CorpusTables:
    """The tables of the corpus `name`, after checking their format, structure and checksums and the arrays' sizes.

    Raises
    ------
    CorpusError : if there is no such corpus, or it is damaged, unfinished, or of another format.
    """
    return read_mapped(name)[0]


def read_mapped(name: str | os.PathLike[str]) -> tuple[CorpusTables, dict[str, NDArray[Any]]]:
    """The tables and the mapped arrays of the corpus `name`; see `load_tables` and `CorpusTables.mapped`.

    Mapped arrays keep their content, even if the corpus is compacted meanwhile.
    """
    folder = corpus_path(name)
    check_is_corpus(folder)
    while True:
        tables = _snapshot(folder)
        try:
            _check_sizes(tables)
            return tables, {kind: tables.mapped(kind) for kind in ARRAYS}
        except CorpusError:
            # A build may have replaced the arrays just now. Replacing takes longer than reading, so this loop ends.
            if _snapshot(folder).about.generation == tables.about.generation:
                raise


def check_is_corpus(folder: Path) -> None:
    with corpus_errors(folder):
        if not folder.exists():
            raise CorpusError(f"there is no corpus {folder}; build it with 'smalti corpus build FOLDER -o {folder}'")
        if not folder.is_dir():
            raise CorpusError(f"{folder} is no corpus, but a file; name a folder that 'smalti corpus build' made")
        tables = folder / TABLES
        if not tables.exists():
            if any(is_array(file) and file.stat().st_size for file in folder.iterdir()):
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
    # A build was killed in the middle of a transaction, and rolling it back writes to the file. The next build does
    # that; a reader rolls back a copy.
    with corpus_errors(folder), tempfile.TemporaryDirectory() as copy:
        for file in (folder / TABLES, journal):
            shutil.copy(file, copy)
        with closing(connect(Path(copy) / TABLES, "rw")) as tables:
            return read_tables(folder, tables)


def connect(file: Path, mode: str) -> sqlite3.Connection:
    # Only a URI can ask for read-only access. It is made from bytes, since a path may not be valid text.
    place = urllib.parse.quote(os.fsencode(file.absolute()))
    return sqlite3.connect(f"file:{place}?mode={mode}", uri=True, isolation_level=None, timeout=_BUSY_S)


def read_tables(folder: Path, tables: sqlite3.Connection) -> CorpusTables:
    try:
        tables.execute("BEGIN")
        _check_format(folder, tables)
        if (message := tables.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise damaged(folder / TABLES, str(message))
        (about,) = _rows(folder, tables, About, "about", "rowid") or [None]
        if not isinstance(about, About):
            raise damaged(folder / TABLES, "its table about is empty")
        ours = About.at(about.sr)
        if (about.bands, about.descriptor_size) != (ours.bands, ours.descriptor_size):
            raise CorpusError(f"{folder} was made by another version of smalti; delete it and build it again")
        files = {row.id: row for row in _rows(folder, tables, FileRow, "files", "path")}
        place = {id_: n for n, id_ in enumerate(files)}
        segments = _rows(folder, tables, SegmentRow, "segments", "file, part")
    except sqlite3.OperationalError:
        raise
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        # Most damage fails a checksum. A value that does not even form a row fails earlier, with one of these errors.
        raise damaged(folder / TABLES, str(error)) from error
    if any(segment.file not in place for segment in segments):
        raise damaged(folder / TABLES, "it has segments of a file that it does not list")
    segments.sort(key=lambda segment: (place[segment.file], segment.part))
    return CorpusTables(folder, about, files, tuple(segments))


def _check_format(folder: Path, tables: sqlite3.Connection) -> None:
    application = tables.execute("PRAGMA application_id").fetchone()[0]
    version = tables.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        if not tables.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CorpusError(f"{folder} holds nothing yet: its build was stopped; run the same build again")
        raise damaged(folder / TABLES, "it is not a database that smalti made")
    if version > CORPUS_FORMAT:
        raise CorpusError(
            f"{folder} was made by a newer smalti (format {version}, this one reads {CORPUS_FORMAT}); update smalti"
        )
    if version < CORPUS_FORMAT:
        raise CorpusError(f"{folder} is of the old format {version}; delete it and build it again")


def _rows(folder: Path, tables: sqlite3.Connection, kind: type[Any], table: str, order: str) -> list[Any]:
    columns = ", ".join(f'"{column}"' for column in columns_of(kind))
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


def _check_sizes(tables: CorpusTables) -> None:
    folder, about = tables.folder, tables.about
    with corpus_errors(folder):
        for kind in ARRAYS:
            file = folder / about.name(kind)
            needed = about.extent(kind) * about.width(kind) * np.dtype(ARRAYS[kind].dtype).itemsize
            if (size := file.stat().st_size) < needed:
                raise damaged(file, f"it has {size} bytes of {needed}")
    for segment in tables.segments:
        for kind in ("features", "samples"):
            span = segment.span(kind)
            if not 0 <= span.start <= span.stop <= about.extent(kind):
                raise damaged(folder / TABLES, "a segment lies outside its array")
