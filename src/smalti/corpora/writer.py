"""A corpus on a disk, written: one writer at a time, each change whole or not at all."""

import os
import sqlite3
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import fields, replace
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
    damaged,
    values_of,
)
from smalti.errors import CorpusError

# Writing


def _create(table: str, kind: type[Row], more: str = "") -> str:
    columns = ", ".join(f'"{field.name}"' for field in fields(kind))
    return f'CREATE TABLE {table} ({columns}, "check" INTEGER{more})'


_SCHEMA = (
    _create("about", About),
    _create("files", FileRow, ", PRIMARY KEY (id), UNIQUE (path)"),
    _create("segments", SegmentRow, ", PRIMARY KEY (file, part)"),
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {CORPUS_FORMAT}",
)


class WriteLock:
    """Being the only one that writes a corpus; the system lets go of it when this process dies."""

    def __init__(self, folder: Path) -> None:
        """Make the folder and its tables, or open them."""
        self.folder = folder
        with corpus_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = connect(folder / LOCK, "rwc")
            # Short, as no signal is heard while SQLite waits.
            self._file.execute("PRAGMA busy_timeout = 200")

    def acquired(self) -> bool:
        """Try for a moment; whether it is ours."""
        with corpus_errors(self.folder):
            try:
                # Nothing is ever written to it, and no journal should lie about that says so.
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
    """Changes a corpus; to be used under its `WriteLock`.

    `append` writes to arrays, `commit` makes what was appended and said since part of the corpus.
    """

    def __init__(self, folder: Path, sr: int | None) -> None:
        """Open a corpus, or make one at `sr`, 44100 if None.

        Raises
        ------
        CorpusError : see `read_shelves`; also if it is at another rate, or the folder is something else.
        """
        self.folder = folder
        with corpus_errors(folder):
            self._tables = connect(folder / TABLES, "rwc") if self._may_begin() else connect(folder / TABLES, "rw")
        try:
            with corpus_errors(folder):
                # The first look rolls back what a killed build left half done.
                if not self._tables.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    self._begin(sr or 44100)
            self.shelves = read_tables(folder, self._tables)
            self._tables.execute("COMMIT")
            self.about = self.shelves.about
            if sr not in (None, self.about.sr):
                raise CorpusError(
                    f"{folder} is at {self.about.sr} Hz; leave --sr out, or build another corpus at {sr} Hz"
                )
            with corpus_errors(folder):
                self._remove_strays()
                self._arrays = {kind: self._open(kind, self.about) for kind in ARRAYS}
        except BaseException:
            self._tables.close()
            raise
        self._said: list[tuple[str, Sequence[Any]]] = []
        # Extents as the tables are to have them: to the end of what is spoken of. What else was appended, segments of a
        # file of which not all has come, is truncated should it come to nothing.
        self._spoken = {"rows": self.about.rows, "samples": self.about.samples}
        self.next_id = max(self.shelves.files, default=0) + 1
        self.appended = 0

    def _may_begin(self) -> bool:
        """Whether the folder is one in which a corpus can be made."""
        if (self.folder / TABLES).exists():
            return False
        ours = {LOCK, *(About.at(44100).name(kind) for kind in ARRAYS)}
        # Empty files of ours are what a build that was killed as it began may leave.
        if strange := sorted(f.name for f in self.folder.iterdir() if f.name not in ours or f.stat().st_size):
            # Were only the tables lost, then to begin anew would throw the arrays away.
            raise CorpusError(f"{self.folder} is no corpus and not empty: it holds {strange[0]}; choose another name")
        return True

    def _begin(self, sr: int) -> None:
        about = About.at(sr)
        for kind in ARRAYS:
            (self.folder / about.name(kind)).touch()
        _sync_folder(self.folder)
        self._tables.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            self._tables.execute(statement)
        self._tables.execute(*_inserted("about", about))
        self._tables.execute("COMMIT")

    def _remove_strays(self) -> None:
        known = {self.about.name(kind) for kind in ARRAYS} | {self.about.index_name}
        for file in self.folder.iterdir():
            if file.name.partition("-")[0] in {*ARRAYS, "index"} and file.name not in known:
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
        """Write to the end of an array; the row it begins at."""
        with corpus_errors(self.folder):
            self._arrays[kind].write(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
        self.appended += array.nbytes
        first = self.about.extent(kind)
        if kind in ("looks", "samples"):
            # Looks, keys and levels have their rows in common; looks are the last of them.
            rows = array.size // self.about.width(kind)
            self.about = replace(self.about, **{ARRAYS[kind].counted: first + rows})
        return first

    def add(self, *rows: FileRow | SegmentRow) -> None:
        """Say that rows are so; a file's row replaces the one of its id."""
        self._said += [_inserted(row.table, row) for row in rows]
        for row in rows:
            if isinstance(row, SegmentRow):
                for kind, counted in (("looks", "rows"), ("samples", "samples")):
                    self._spoken[counted] = max(self._spoken[counted], row.span(kind).stop)

    def forget(self, ids: Iterable[int]) -> None:
        """Say that files are not in the corpus."""
        for id_ in ids:
            self._said.append(("DELETE FROM segments WHERE file = ?", (id_,)))
            self._said.append(("DELETE FROM files WHERE id = ?", (id_,)))

    def commit(self) -> None:
        """Make it so, all of it or, if that fails, nothing."""
        with corpus_errors(self.folder):
            for file in self._arrays.values():
                file.flush()
                os.fsync(file.fileno())
            self._tables.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in self._said:
                    self._tables.execute(statement, values)
                self._tables.execute("DELETE FROM about")
                rows, samples = self._spoken["rows"], self._spoken["samples"]
                self._tables.execute(*_inserted("about", replace(self.about, rows=rows, samples=samples)))
                self._tables.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._tables.execute("ROLLBACK")
                raise
        self._said, self.appended = [], 0

    def compact(self) -> Iterator[float]:
        """Write all that is in use to a new generation of arrays, in order; yields how far it is, from 0 to 1."""
        before = self.current()
        generation = self.about.generation + 1
        empty = replace(self.about, generation=generation, rows=0, samples=0, **_NO_INDEX)
        try:
            about, segments = yield from self._copied(before, empty)
            self._swap_in(about, segments)
        except Exception:
            # The tables know whether a commit that failed took place. An interrupted one is left to the next build.
            if self.current().about.generation != generation:
                for kind in ARRAYS:
                    (self.folder / empty.name(kind)).unlink(missing_ok=True)
            raise
        for name in (*map(before.about.name, ARRAYS), before.about.index_name):
            # Some systems cannot remove a file that is mapped; the next build does it then.
            with suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)

    def _copied(self, before: CorpusTables, about: About) -> Generator[float, None, tuple[About, list[SegmentRow]]]:
        """Copy the arrays of all segments to the files of the generation of `about`, which are empty so far.

        Returns what the corpus is then, and where its segments lie.
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
        """Let the tables speak of the arrays of another generation, and write to these from now on."""
        with corpus_errors(self.folder):
            arrays = {kind: self._open(kind, about) for kind in ARRAYS}
        was = self.about, self._spoken
        self.about, self._spoken = about, {"rows": 0, "samples": 0}
        self._said.append(("DELETE FROM segments", ()))
        self.add(*segments)
        try:
            self.commit()
        except BaseException:
            (self.about, self._spoken), self._said = was, []
            for file in arrays.values():
                file.close()
            raise
        for file in self._arrays.values():
            file.close()
        self._arrays = arrays

    def write_index(self, data: bytes | memoryview) -> None:
        """Put a search index of all rows beside the arrays, whole or not at all."""
        part = self.folder / f"index-{self.about.generation}.part"
        with corpus_errors(self.folder):
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / self.about.index_name)
        rows = self._spoken["rows"]
        self.about = replace(self.about, index_bytes=len(data), index_crc=zlib.crc32(data), index_rows=rows)
        self.commit()

    def current(self) -> CorpusTables:
        """The tables as they are committed."""
        with corpus_errors(self.folder):
            shelves = read_tables(self.folder, self._tables)
            self._tables.execute("COMMIT")
            return shelves

    def close(self) -> None:
        for file in self._arrays.values():
            # Unflushed bytes belong to no committed row; a second disk-full error here would hide the first.
            with suppress(OSError):
                file.close()
        self._tables.close()


_NO_INDEX = {"index_bytes": 0, "index_crc": 0, "index_rows": 0}


def _inserted(table: str, row: Row) -> tuple[str, Sequence[Any]]:
    values = (*map(_storable, values_of(row)), check_of(row))
    return f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(values))})", values


def _storable(value: Any) -> Any:
    """Texts that SQLite does not take, since there is the name of a file in them that is no text, as bytes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    return value


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can."""
    with suppress(OSError, AttributeError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
