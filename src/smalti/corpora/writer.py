"""Write a corpus on disk: one writer at a time, each change made completely or not at all."""

import os
import sqlite3
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from smalti.corpora.store import CorpusTables, connect, corpus_errors, read_tables
from smalti.corpora.tables import (
    APPLICATION,
    ARRAYS,
    CORPUS_FORMAT,
    LOCK,
    TABLES,
    About,
    FileRow,
    Row,
    SegmentRow,
    check_of,
    columns_of,
    damaged,
    is_array,
    is_index,
    values_of,
)
from smalti.errors import CorpusError
from smalti.io.files import is_hidden_part, replace_whole

# A statement in SQL and its values.
_Statement = tuple[str, Sequence[Any]]


def _create(table: str, kind: type[Row], more: str = "") -> str:
    columns = ", ".join(f'"{column}"' for column in columns_of(kind))
    return f'CREATE TABLE {table} ({columns}, "check" INTEGER{more})'


_SCHEMA = (
    _create("about", About),
    _create("files", FileRow, ", PRIMARY KEY (id), UNIQUE (path)"),
    _create("segments", SegmentRow, ", PRIMARY KEY (file, part)"),
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {CORPUS_FORMAT}",
)


class WriteLock:
    """A lock that only one writer of a corpus can hold. The system releases it when this process dies."""

    def __init__(self, folder: Path) -> None:
        """Make `folder` and the lock file in it, or open them. The lock is not taken yet."""
        self.folder = folder
        with corpus_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = connect(folder / LOCK, "rwc")
            # Short, because Python handles no signal while SQLite waits.
            self._file.execute("PRAGMA busy_timeout = 200")

    def acquired(self) -> bool:
        """Try for a moment to take the lock; return whether this process has it now."""
        with corpus_errors(self.folder):
            try:
                # Nothing is ever written to the lock file, so no journal of it should be left on the disk.
                self._file.execute("PRAGMA journal_mode = MEMORY")
                self._file.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    return False
                raise
        return True

    def release(self) -> None:
        self._file.close()


class Writer:
    """Changes a corpus. Hold its `WriteLock` while using it.

    `append` writes to the arrays; `add` and `forget` collect changes to the tables. `commit` makes all of them part of
    the corpus.

    Attributes
    ----------
    folder : the folder of the corpus. tables : its tables as they were when it was opened.
    about : the corpus as a whole, with everything appended so far. next_id : the id for the next new file.
    appended : bytes appended since the last commit.
    """

    def __init__(self, folder: Path, sr: int | None) -> None:
        """Open the corpus in `folder`, or make one at `sr` Hz, 44100 if None.

        Raises
        ------
        CorpusError : see `smalti.corpora.store.load_tables`; also if the corpus has another rate, or the folder holds
            something else.
        """
        self.folder = folder
        with corpus_errors(folder):
            self._database = connect(folder / TABLES, "rwc") if self._may_begin() else connect(folder / TABLES, "rw")
        try:
            with corpus_errors(folder):
                # The first read rolls back the transaction of a build that was killed.
                if not self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    self._begin(sr or 44100)
            self.tables = read_tables(folder, self._database)
            self._database.execute("COMMIT")
            self.about = self.tables.about
            if sr not in (None, self.about.sr):
                raise CorpusError(
                    f"{folder} is at {self.about.sr} Hz; leave --sr out, or build another corpus at {sr} Hz"
                )
            with corpus_errors(folder):
                self._remove_strays()
                self._arrays = {kind: self._open(kind, self.about) for kind in ARRAYS}
        except BaseException:
            self._database.close()
            raise
        self._statements: list[_Statement] = []
        # The lengths of the arrays that the tables will record: up to the end of the last added segment. Segments of
        # incomplete files may lie beyond; if those files are never completed, the next writer truncates them.
        self._extents = {"rows": self.about.rows, "samples": self.about.samples}
        self.next_id = max(self.tables.files, default=0) + 1
        self.appended = 0

    def _may_begin(self) -> bool:
        """True if a new corpus can be made in the folder; False if it holds one. Raises `CorpusError` otherwise."""
        if (self.folder / TABLES).exists():
            return False
        ours = {LOCK, *(About.at(44100).name(kind) for kind in ARRAYS)}
        # A build that was killed as it began may leave empty files of these names.
        if strange := sorted(f.name for f in self.folder.iterdir() if f.name not in ours or f.stat().st_size):
            # The tables alone may be lost: a new corpus in the same folder would then overwrite the arrays.
            raise CorpusError(f"{self.folder} is no corpus and not empty: it holds {strange[0]}; choose another name")
        return True

    def _begin(self, sr: int) -> None:
        about = About.at(sr)
        for kind in ARRAYS:
            (self.folder / about.name(kind)).touch()
        _sync_folder(self.folder)
        self._database.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            self._database.execute(statement)
        self._database.execute(*_inserted("about", about))
        self._database.execute("COMMIT")

    def _remove_strays(self) -> None:
        known = {self.about.name(kind) for kind in ARRAYS} | {self.about.index_name}
        for file in self.folder.iterdir():
            is_stray = (is_array(file) or is_index(file) or is_hidden_part(file)) and file.name not in known
            if is_stray and not file.is_dir():
                file.unlink()

    def _open(self, kind: str, about: About) -> BinaryIO:
        path = self.folder / about.name(kind)
        file = path.open("r+b")
        size = about.extent(kind) * about.width(kind) * np.dtype(ARRAYS[kind].dtype).itemsize
        if path.stat().st_size < size:
            file.close()
            raise damaged(path, f"it has {path.stat().st_size} bytes of {size}")
        file.truncate(size)
        file.seek(size)
        return file

    def append(self, kind: str, array: NDArray[Any]) -> int:
        """Write `array` to the end of an array of the corpus; return the row it begins at."""
        with corpus_errors(self.folder):
            self._arrays[kind].write(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
        self.appended += array.nbytes
        first = self.about.extent(kind)
        if kind in ("features", "samples"):
            # Descriptors, levels and features share their row numbers. Features are written last, so only they count.
            rows = array.size // self.about.width(kind)
            self.about = replace(self.about, **{ARRAYS[kind].counted: first + rows})
        return first

    def add(self, *rows: FileRow | SegmentRow) -> None:
        """Add rows with the next commit. A row replaces the one with the same key."""
        self._statements += [_inserted(row.table, row) for row in rows]
        for row in rows:
            if isinstance(row, SegmentRow):
                for kind, counted in (("features", "rows"), ("samples", "samples")):
                    self._extents[counted] = max(self._extents[counted], row.span(kind).stop)

    def forget(self, ids: Iterable[int]) -> None:
        """Remove the files with these ids, and their segments, with the next commit."""
        for id_ in ids:
            self._statements.append(("DELETE FROM segments WHERE file = ?", (id_,)))
            self._statements.append(("DELETE FROM files WHERE id = ?", (id_,)))

    def commit(self) -> None:
        """Write all changes to the disk in one transaction. If it fails, the tables stay as they were."""
        self._commit(self.about, self._extents, self._statements)

    def _commit(self, about: About, extents: dict[str, int], statements: Sequence[_Statement]) -> None:
        """Write the arrays, `statements`, and `about` with the lengths `extents` to the disk, in one transaction.

        This writer has the new state only once the transaction is complete.
        """
        with corpus_errors(self.folder):
            for file in self._arrays.values():
                file.flush()
                os.fsync(file.fileno())
            self._database.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in statements:
                    self._database.execute(statement, values)
                self._database.execute("DELETE FROM about")
                recorded = replace(about, rows=extents["rows"], samples=extents["samples"])
                self._database.execute(*_inserted("about", recorded))
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise
        self.about, self._extents, self._statements, self.appended = about, extents, [], 0

    def compact(self) -> Iterator[float]:
        """Copy all committed segments, in order, to a new generation of arrays; yields how far it is, 0 to 1.

        There must be no change that is not committed: it would be lost.
        """
        before = self.current()
        generation = self.about.generation + 1
        empty = replace(self.about, generation=generation, rows=0, samples=0, **_NO_INDEX)
        try:
            about, segments = yield from self._copied(before, empty)
            self._swap_in(about, segments)
        except Exception:
            # A commit may raise and still have taken place; the tables tell. An interrupt (no `Exception`) leaves the
            # files to the next build.
            if self.current().about.generation != generation:
                for kind in ARRAYS:
                    (self.folder / empty.name(kind)).unlink(missing_ok=True)
            raise
        for name in (*map(before.about.name, ARRAYS), before.about.index_name):
            # Some systems cannot remove a mapped file. The next build does it there.
            with suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)

    def _copied(self, before: CorpusTables, about: About) -> Generator[float, None, tuple[About, list[SegmentRow]]]:
        """Copy the arrays of all segments to new files, those of the generation of `about`; yields as `compact`.

        Returns the corpus as a whole and its segments as they are in the new files.
        """
        mapped, segments = {kind: before.mapped(kind) for kind in ARRAYS}, list[SegmentRow]()
        with corpus_errors(self.folder), ExitStack() as stack:
            files = {kind: stack.enter_context((self.folder / about.name(kind)).open("wb")) for kind in ARRAYS}
            for n, segment in enumerate(before.segments):
                for kind, file in files.items():
                    # The segment is checked before it is moved: a damaged one would get a new, valid checksum.
                    before.check_segment(segment, kind, mapped[kind])
                    file.write(mapped[kind][segment.span(kind)].view(np.uint8).reshape(-1).data)
                segments.append(replace(segment, row=about.rows, first=about.samples))
                rows, samples = segment.n_rows, segment.length * segment.channels
                about = replace(about, rows=about.rows + rows, samples=about.samples + samples)
                yield (n + 1) / len(before.segments)
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        with corpus_errors(self.folder):
            _sync_folder(self.folder)
        return about, segments

    def _swap_in(self, about: About, segments: Sequence[SegmentRow]) -> None:
        """Make the tables refer to the arrays of a new generation, and append to those from now on."""
        with corpus_errors(self.folder):
            arrays = {kind: self._open(kind, about) for kind in ARRAYS}
        rows = [_inserted(segment.table, segment) for segment in segments]
        extents = {"rows": about.rows, "samples": about.samples}
        try:
            self._commit(about, extents, [("DELETE FROM segments", ()), *rows])
        except BaseException:
            for file in arrays.values():
                file.close()
            raise
        for file in self._arrays.values():
            file.close()
        self._arrays = arrays

    def write_index(self, data: bytes | memoryview) -> None:
        """Write a search index of all rows beside the arrays, completely or not at all."""
        with corpus_errors(self.folder):
            replace_whole(self.folder / self.about.index_name, data)
        rows = self._extents["rows"]
        about = replace(self.about, index_bytes=len(data), index_crc=zlib.crc32(data), index_rows=rows)
        self._commit(about, self._extents, self._statements)

    def current(self) -> CorpusTables:
        """The tables as they were last committed."""
        with corpus_errors(self.folder):
            tables = read_tables(self.folder, self._database)
            self._database.execute("COMMIT")
            return tables

    def close(self) -> None:
        for file in self._arrays.values():
            # Unflushed bytes belong to no committed row; a second disk-full error here would hide the first.
            with suppress(OSError):
                file.close()
        self._database.close()


_NO_INDEX = {"index_bytes": 0, "index_crc": 0, "index_rows": 0}


def _inserted(table: str, row: Row) -> _Statement:
    values = (*map(_storable, values_of(row)), check_of(row))
    return f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(values))})", values


def _storable(value: Any) -> Any:
    """`value`, or its bytes if it is a text that SQLite refuses because a file name in it is not valid text."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    return value


def _sync_folder(folder: Path) -> None:
    """Flush the names of the files in a folder to the disk, where the system can."""
    with suppress(OSError, AttributeError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
