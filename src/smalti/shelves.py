"""A corpus as it lies on a disk: its arrays, its tables, and how they are kept in step  (alone imports sqlite3).

NAME.corpus is a folder. Arrays are raw and only ever appended to: ``looks-1.f16`` (R, B), ``keys-1.f16`` (R, D),
``levels-1.f32`` (R, 2), the scale and the level of each frame, and ``samples-1.i16``, the sound; 1 is the generation.
``corpus.sqlite`` says what lies where. What is appended is on the disk before one transaction speaks of it, so that
whatever was going on when a build was killed, what the tables speak of is there; what lies beyond is overwritten by the
next build. What is taken out leaves holes, until they are worth a new generation.

A reader writes nothing and takes no lock that would: a corpus may lie on read-only media.
"""

import errno
import json
import os
import shutil
import sqlite3
import tempfile
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from smalti.corpus import KEY_SIZES, hop_at
from smalti.errors import CorpusError
from smalti.views import n_bands

ENDING = ".corpus"
FORMAT = 2
TABLES, LOCK = "corpus.sqlite", "lock.sqlite"
# What SQLite files are known by: "smlt".
APPLICATION = 0x736D6C74
# How long to wait for another process that is reading or writing the tables; either takes moments.
_BUSY_S = 60.0


@dataclass(frozen=True)
class Kind:
    """One of the arrays: its file's ending, the type of its values, and what counts them in `About`."""

    ending: str
    dtype: str
    counted: str


KINDS = {
    "looks": Kind("f16", "<f2", "rows"),
    "keys": Kind("f16", "<f2", "rows"),
    "levels": Kind("f32", "<f4", "rows"),
    "samples": Kind("i16", "<i2", "samples"),
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
        """Of a corpus that holds nothing."""
        return cls(sr, n_bands(hop_at(sr), sr), sum(KEY_SIZES))

    def width(self, kind: str) -> int:
        """Values in a row of an array."""
        return {"looks": self.bands, "keys": self.keys, "levels": 2, "samples": 1}[kind]

    def extent(self, kind: str) -> int:
        """Rows in an array."""
        extent: int = getattr(self, KINDS[kind].counted)
        return extent

    def name(self, kind: str, generation: int | None = None) -> str:
        """The name of an array's file."""
        return f"{kind}-{generation or self.generation}.{KINDS[kind].ending}"

    @property
    def index_name(self) -> str:
        """The name of the search index's file."""
        return f"index-{self.generation}.bin"


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
        """Whether it is there and of its size."""
        with suppress(OSError):
            return self.path.stat().st_size == self.n_bytes
        return False

    def read(self) -> bytes | None:
        """What `smalti.collecting.build_corpus`'s `index` made, if it is whole, and else None."""
        try:
            data = self.path.read_bytes()
        except OSError:
            return None
        return data if len(data) == self.n_bytes and zlib.crc32(data) == self.crc else None


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
    """Of a row as a whole, as SQLite keeps no checksums."""
    return zlib.crc32(repr(_values(row)).encode())


def _values(row: Row) -> tuple[Any, ...]:
    # What `dataclasses.astuple` gives, without its deep copies: they take ten times as long, of 100 000 files seconds.
    return tuple(vars(row).values())


@dataclass(frozen=True, eq=False)
class Shelves:
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
            return np.zeros(shape, KINDS[kind].dtype)
        with told(self.folder):
            array = np.memmap(self.folder / about.name(kind), KINDS[kind].dtype, "r", shape=shape)
        # As a plain array, of which parts are taken several times as fast.
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
        """Where a file was when it was read, seen from where the corpus is now."""
        return Path(os.path.normpath(self.base / os.fsdecode(file.path)))

    @cached_property
    def base(self) -> Path:
        """The folder that paths are relative to: the corpus's own, links followed."""
        return Path(os.path.realpath(self.folder))


def crc_of(array: NDArray[Any]) -> int:
    """Checksum of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)


def corpus_path(name: str | os.PathLike[str]) -> Path:
    """The folder of a corpus of this name: the ending is added if it is missing."""
    path = Path(name)
    return path if path.suffix.lower() == ENDING else path.with_name(path.name + ENDING)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """What goes wrong with a corpus's files, in a sentence."""
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


def damaged(file: Path, how: str) -> CorpusError:
    return CorpusError(f"{file} is damaged ({how}); restore the corpus from a copy, or delete it and build it again")


# Reading


def read_shelves(name: str | os.PathLike[str]) -> Shelves:
    """A corpus's tables, after checking them: format, structure, checksums, sizes of arrays.

    Raises
    ------
    CorpusError : if there is none, or it is damaged, unfinished, or of another format.
    """
    return read_mapped(name)[0]


def read_mapped(name: str | os.PathLike[str]) -> tuple[Shelves, dict[str, NDArray[Any]]]:
    """A corpus's tables and the arrays that they speak of, see `read_shelves` and `Shelves.mapped`.

    Once they are mapped, arrays stay what they are, even if the corpus is compacted meanwhile.
    """
    folder = corpus_path(name)
    _check_is_corpus(folder)
    while True:
        shelves = _snapshot(folder)
        try:
            _check_sizes(shelves)
            return shelves, {kind: shelves.mapped(kind) for kind in KINDS}
        except CorpusError:
            # A build that comes to an end just now may have put others in the place of the arrays. As that takes
            # longer than this, it will not happen again and again.
            if _snapshot(folder).about.generation == shelves.about.generation:
                raise


def _check_is_corpus(folder: Path) -> None:
    with told(folder):
        if not folder.exists():
            raise CorpusError(f"there is no corpus {folder}; build it with 'smalti corpus build FOLDER -o {folder}'")
        if not folder.is_dir():
            raise CorpusError(f"{folder} is no corpus, but a file; name a folder that 'smalti corpus build' made")
        tables = folder / TABLES
        if not tables.exists():
            if any(file.name.partition("-")[0] in KINDS and file.stat().st_size for file in folder.iterdir()):
                raise damaged(tables, "it is not there")
            raise CorpusError(f"{folder} is no corpus: it has no {TABLES}; build one with 'smalti corpus build'")
        if not tables.stat().st_size:
            raise CorpusError(f"{folder} holds nothing yet: its build was stopped; run the same build again")


def _snapshot(folder: Path) -> Shelves:
    try:
        with closing(_connect(folder / TABLES, "ro")) as tables:
            return _read_tables(folder, tables)
    except sqlite3.OperationalError as error:
        journal = folder / (TABLES + "-journal")
        if not journal.exists():
            with told(folder):
                raise error
    # A build was killed between two states of the tables, and to get back to the first the file must be written to.
    # That is for the next build to do; here it is done to a copy.
    with told(folder), tempfile.TemporaryDirectory() as copy:
        for file in (folder / TABLES, journal):
            shutil.copy(file, copy)
        with closing(_connect(Path(copy) / TABLES, "rw")) as tables:
            return _read_tables(folder, tables)


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    # As a URI, which can say that nothing is to be made or written; in bytes, as names need not be text.
    place = urllib.parse.quote(os.fsencode(file.absolute()))
    return sqlite3.connect(f"file:{place}?mode={mode}", uri=True, isolation_level=None, timeout=_BUSY_S)


def _read_tables(folder: Path, tables: sqlite3.Connection) -> Shelves:
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
    return Shelves(folder, about, files, tuple(segments))


def _check_format(folder: Path, tables: sqlite3.Connection) -> None:
    application = tables.execute("PRAGMA application_id").fetchone()[0]
    version = tables.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        if not tables.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CorpusError(f"{folder} holds nothing yet: its build was stopped; run the same build again")
        raise damaged(folder / TABLES, "it is no table of smalti's")
    if version > FORMAT:
        raise CorpusError(
            f"{folder} was made by a newer smalti (format {version}, this one reads {FORMAT}); update smalti"
        )
    if version < FORMAT:
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


def _check_sizes(shelves: Shelves) -> None:
    folder, about = shelves.folder, shelves.about
    with told(folder):
        for kind in KINDS:
            file = folder / about.name(kind)
            needed = about.extent(kind) * about.width(kind) * np.dtype(KINDS[kind].dtype).itemsize
            if (size := file.stat().st_size) < needed:
                raise damaged(file, f"it has {size} bytes of {needed}")
    for segment in shelves.segments:
        for kind in ("looks", "samples"):
            span = segment.span(kind)
            if not 0 <= span.start <= span.stop <= about.extent(kind):
                raise damaged(folder / TABLES, "a segment lies outside its array")


# Writing


def _create(table: str, kind: type[Row], more: str = "") -> str:
    columns = ", ".join(f'"{field.name}"' for field in fields(kind))
    return f'CREATE TABLE {table} ({columns}, "check" INTEGER{more})'


_SCHEMA = (
    _create("about", About),
    _create("files", FileRow, ", PRIMARY KEY (id), UNIQUE (path)"),
    _create("segments", SegmentRow, ", PRIMARY KEY (file, part)"),
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
)


class WriteLock:
    """Being the only one that writes a corpus; the system lets go of it when this process dies."""

    def __init__(self, folder: Path) -> None:
        """Of a folder, which is made."""
        self.folder = folder
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = _connect(folder / LOCK, "rwc")
            # Short, as no signal is heard while SQLite waits.
            self._file.execute("PRAGMA busy_timeout = 200")

    def acquired(self) -> bool:
        """Try for a moment; whether it is ours."""
        with told(self.folder):
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
        with told(folder):
            self._tables = _connect(folder / TABLES, "rwc") if self._may_begin() else _connect(folder / TABLES, "rw")
        try:
            with told(folder):
                # The first look rolls back what a killed build left half done.
                if not self._tables.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    self._begin(sr or 44100)
            self.shelves = _read_tables(folder, self._tables)
            self._tables.execute("COMMIT")
            self.about = self.shelves.about
            if sr not in (None, self.about.sr):
                raise CorpusError(
                    f"{folder} is at {self.about.sr} Hz; leave --sr out, or build another corpus at {sr} Hz"
                )
            with told(folder):
                self._remove_strays()
                self._arrays = {kind: self._open(kind, self.about) for kind in KINDS}
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
        ours = {LOCK, *(About.at(44100).name(kind) for kind in KINDS)}
        # Empty files of ours are what a build that was killed as it began may leave.
        if strange := sorted(f.name for f in self.folder.iterdir() if f.name not in ours or f.stat().st_size):
            # Were only the tables lost, then to begin anew would throw the arrays away.
            raise CorpusError(f"{self.folder} is no corpus and not empty: it holds {strange[0]}; choose another name")
        return True

    def _begin(self, sr: int) -> None:
        about = About.at(sr)
        for kind in KINDS:
            (self.folder / about.name(kind)).touch()
        _sync_folder(self.folder)
        self._tables.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            self._tables.execute(statement)
        self._tables.execute(*_inserted("about", about))
        self._tables.execute("COMMIT")

    def _remove_strays(self) -> None:
        known = {self.about.name(kind) for kind in KINDS} | {self.about.index_name}
        for file in self.folder.iterdir():
            if file.name.partition("-")[0] in {*KINDS, "index"} and file.name not in known:
                file.unlink()

    def _open(self, kind: str, about: About) -> BinaryIO:
        path = self.folder / about.name(kind)
        file = path.open("r+b")
        size = about.extent(kind) * about.width(kind) * np.dtype(KINDS[kind].dtype).itemsize
        if path.stat().st_size < size:
            file.close()
            raise damaged(path, f"it has {path.stat().st_size} bytes of {size}")
        file.truncate(size)
        file.seek(size)
        return file

    def append(self, kind: str, array: NDArray[Any]) -> int:
        """Write to the end of an array; the row it begins at."""
        with told(self.folder):
            self._arrays[kind].write(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
        self.appended += array.nbytes
        first = self.about.extent(kind)
        if kind in ("looks", "samples"):
            # Looks, keys and levels have their rows in common; looks are the last of them.
            rows = array.size // self.about.width(kind)
            self.about = replace(self.about, **{KINDS[kind].counted: first + rows})
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
        with told(self.folder):
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
        about = replace(self.about, generation=self.about.generation + 1, rows=0, samples=0, **_NO_INDEX)
        old = [self.folder / before.about.name(kind) for kind in KINDS] + [self.folder / before.about.index_name]
        new = {kind: self.folder / about.name(kind) for kind in KINDS}
        mapped, files = {kind: before.mapped(kind) for kind in KINDS}, dict[str, BinaryIO]()
        segments = list[SegmentRow]()
        try:
            with told(self.folder):
                files = {kind: path.open("wb") for kind, path in new.items()}
                for n, segment in enumerate(before.segments):
                    for kind, file in files.items():
                        # What is moved must be what was written; a fault would be given a new checksum of its own.
                        before.check_segment(segment, kind, mapped[kind])
                        file.write(mapped[kind][segment.span(kind)].view(np.uint8).reshape(-1).data)
                    segments.append(replace(segment, row=about.rows, first=about.samples))
                    about = replace(
                        about,
                        rows=about.rows + segment.n_rows,
                        samples=about.samples + segment.length * segment.channels,
                    )
                    yield (n + 1) / len(before.segments)
                for file in files.values():
                    file.flush()
                    os.fsync(file.fileno())
                    file.close()
                _sync_folder(self.folder)
                arrays = {kind: self._open(kind, about) for kind in KINDS}
            was, self.about = (self.about, self._spoken), about
            self._spoken = {"rows": 0, "samples": 0}
            self._said.append(("DELETE FROM segments", ()))
            self.add(*segments)
            try:
                self.commit()
            except BaseException:
                (self.about, self._spoken), self._said = was, []
                for file in arrays.values():
                    file.close()
                raise
        except Exception:
            for file in files.values():
                with suppress(OSError):
                    file.close()
            # Whether a commit that failed was one is for the tables to say. Interrupted, it is left to the next build.
            if self.current().about.generation != about.generation:
                for path in new.values():
                    path.unlink(missing_ok=True)
            raise
        for file in self._arrays.values():
            file.close()
        self._arrays = arrays
        del mapped
        for path in old:
            # Where a file that is mapped cannot be removed, the next build does it.
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def write_index(self, data: bytes | memoryview) -> None:
        """Put a search index of all rows beside the arrays, whole or not at all."""
        part = self.folder / f"index-{self.about.generation}.part"
        with told(self.folder):
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / self.about.index_name)
        rows = self._spoken["rows"]
        self.about = replace(self.about, index_bytes=len(data), index_crc=zlib.crc32(data), index_rows=rows)
        self.commit()

    def current(self) -> Shelves:
        """What is committed."""
        with told(self.folder):
            shelves = _read_tables(self.folder, self._tables)
            self._tables.execute("COMMIT")
            return shelves

    def close(self) -> None:
        for file in self._arrays.values():
            # What is still in its buffer nobody will speak of; a full disk must not be told twice.
            with suppress(OSError):
                file.close()
        self._tables.close()


_NO_INDEX = {"index_bytes": 0, "index_crc": 0, "index_rows": 0}


def _inserted(table: str, row: Row) -> tuple[str, Sequence[Any]]:
    values = (*map(_storable, _values(row)), check_of(row))
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


def as_json(texts: Iterable[str]) -> str:
    """A list of texts as a row holds it; JSON in ASCII, since names of folders need not be text."""
    return json.dumps(list(texts))


def from_json(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))
