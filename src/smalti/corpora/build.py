"""Build a corpus on disk from folders of recordings; `smalti.corpora.query` opens it for mosaics.

Files are read and analysed on every core by threads, which only ever hold a few segments of two minutes; one writer,
the caller's thread, puts what they made on the shelves. What is stored is what is analysed: the sound in 16 bits, so
that a mosaic takes no decoding of hours, and can never disagree with what was chosen by.
"""

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, check_rate
from smalti.corpora.query import list_files, listed_files
from smalti.corpora.store import DiskFull
from smalti.corpora.tables import FileRow, SegmentRow, as_json, corpus_path, from_json
from smalti.corpora.workers import Failed, FoundFile, Made, Read, Same, SegmentPart, Spoilt, Workers
from smalti.corpora.writer import WriteLock, Writer
from smalti.dsp.loudness import gated_loudness
from smalti.errors import CorpusError
from smalti.grains.corpus import hop_at
from smalti.grains.filters import check_pattern, meets
from smalti.grains.nearest import EXACT_BELOW
from smalti.io.files import StrPath
from smalti.io.sound_read import find_audio

# Results are committed whenever they come to so many bytes or files, which is seconds of work.
COMMIT_BYTES, COMMIT_FILES = 1 << 25, 500
# The arrays are written anew if more than this share of them belongs to files that left the corpus.
MOST_HOLES = 1 / 3
# Makes of the keys (R, D) of a large corpus what it is searched with.
Index = Callable[[NDArray[np.float16]], bytes | memoryview]


# Building


@dataclass(frozen=True)
class Built:
    """The outcome of a build: how many files it analysed, found unchanged, found under another name, took out.

    `unreadable` says why of each file that cannot be used; `seconds` is the sound that was analysed, `warnings` are
    sentences for the user.
    """

    analysed: int = 0
    unchanged: int = 0
    moved: int = 0
    removed: int = 0
    seconds: float = 0.0
    unreadable: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is.

    Attributes
    ----------
    stage : "waiting" for another build, "looking" for files, "analysing", "compacting", "indexing" or "done".
    done_files, total_files, done_bytes, total_bytes : of the files that were found.
    done_s : seconds of sound analysed. total_s : what all that is to be analysed may come to, judging by its size.
    path : the file that was worked on last.
    built : what was done so far; at stage "done", all of it.
    """

    stage: str
    done_files: int = 0
    total_files: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    done_s: float = 0.0
    total_s: float = 0.0
    path: str = ""
    built: Built = Built()


def build_corpus(
    folders: Sequence[StrPath],
    name: StrPath,
    *,
    sr: int | None = None,
    tags: Sequence[str] = (),
    licence: str = "",
    index: Index | None = None,
) -> Generator[BuildProgress, None, None]:
    """Analyse the sound files of `folders` into the corpus `name`, or bring it up to date.

    Files are analysed if they are new or their content has changed; files that are gone from `folders` are taken out of
    the corpus. What was done is kept, whenever it is stopped: run again, it goes on.

    Parameters
    ----------
    folders : folders and files. name : the corpus's folder, made if it is not there; ``.corpus`` is added.
    sr : sample rate in Hz of a new corpus, 44100 if None; of one that is there, its own.
    tags : of every file, beside the names of the folders between those given and it, and its genre.
    licence : of every file that does not say it itself.
    index : makes of the keys (R, D) of a large corpus what it is searched with; None makes nothing.

    Yields
    ------
    BuildProgress, often; the last one is "done". Closing the generator stops the build.

    Raises
    ------
    AudioFileError : if a folder cannot be searched, or holds no sound file: an empty folder may be a disk that is not
        there, and years of work are not taken out for that.
    CorpusError : if the corpus cannot be written, is damaged, or at another rate.
    """
    if isinstance(folders, (str, os.PathLike)):
        raise TypeError(f"folders must be a list of paths, got {os.fspath(folders)!r}; put it in a list")
    folder = corpus_path(name)
    for tag in tags:
        check_pattern("tags", tag)
    if sr is not None:
        check_rate("sr", sr)
    yield BuildProgress("looking")
    found = _found(folders, folder)
    lock = WriteLock(folder)
    try:
        while not lock.acquired():
            yield BuildProgress("waiting", total_files=len(found))
            # By the time it is our turn there may be others.
            found = _found(folders, folder)
        writer = Writer(folder, sr)
        try:
            yield from _Build(writer, found, _roots(folders), tuple(tags), licence, index).steps()
        finally:
            writer.close()
    finally:
        lock.release()


def _roots(folders: Iterable[StrPath]) -> list[str]:
    return [os.path.realpath(folder) for folder in folders]


def _found(folders: Sequence[StrPath], corpus: Path) -> dict[bytes, FoundFile]:
    """The sound files, by the names that the corpus has for them, in order."""
    base = os.path.realpath(corpus)
    found, seen = dict[bytes, FoundFile](), set[str]()
    for folder, root in zip(folders, _roots(folders), strict=True):
        for path in find_audio([folder]):
            inside = path.relative_to(folder)
            # Two names of one file are one file.
            if (real := os.path.realpath(path)) in seen:
                continue
            seen.add(real)
            place = Path(root) / inside
            try:
                status = place.stat()
            except OSError:  # gone since a moment
                continue
            name = _name(str(place), base)
            found[name] = FoundFile(place, name, status.st_size, status.st_mtime_ns, inside.parts[:-1])
    return dict(sorted(found.items()))


def _name(place: str, base: str) -> bytes:
    """The name of a file in a corpus: relative to the corpus's folder if both share one, so that they may move
    together."""
    try:
        shared = Path(os.path.commonpath([place, base]))
    except ValueError:  # two drives
        return os.fsencode(place)
    if shared == shared.parent:
        return os.fsencode(place)
    return os.fsencode(os.path.relpath(place, base).replace(os.sep, "/"))


@dataclass
class _Open:
    """A file some of whose segments have come, by one attempt at reading it."""

    attempt: int
    id: int
    parts: dict[int, SegmentRow] = field(default_factory=dict)
    powers: dict[int, Floats] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    read: Read | None = None


class _Build:
    """One build: what to do with each file, and what to write of it."""

    def __init__(
        self,
        writer: Writer,
        found: dict[bytes, FoundFile],
        roots: Sequence[str],
        tags: tuple[str, ...],
        licence: str,
        index: Index | None,
    ) -> None:
        self._writer, self._found, self._tags, self._licence, self._index = writer, found, tags, licence, index
        files = writer.shelves.files
        self._sr = writer.about.sr
        self._known = {row.path: row for row in files.values()}
        self._gone = {row.id: row for row in files.values() if row.path not in found and self._under(roots, row)}
        self._built = Built()
        self._unreadable = dict[str, str]()
        self._warnings = list[str]()
        self._open = dict[bytes, _Open]()
        self._since_commit = self._todo_bytes = 0
        self._counted = dict[bytes, int]()
        self._progress = BuildProgress(
            "analysing", total_files=len(found), total_bytes=sum(f.size for f in found.values())
        )

    def _under(self, roots: Sequence[str], row: FileRow) -> bool:
        place = str(self._writer.shelves.place(row))
        return any(place == root or place.startswith(root.rstrip(os.sep) + os.sep) for root in roots)

    # --- the writer

    def steps(self) -> Iterator[BuildProgress]:
        """Do it all; see `build_corpus`."""
        todo = list(self._unchanged())
        self._todo_bytes = sum(found.size for found in todo)
        yield self._progress
        workers = Workers(todo, self._sr, self._known, self._gone)
        try:
            for made in workers.results():
                self._take(made)
                if self._writer.appended >= COMMIT_BYTES or self._since_commit >= COMMIT_FILES:
                    self._commit()
                yield self._progress
            self._writer.forget(self._gone)
            self._built = replace(self._built, removed=len(self._gone))
            self._commit()
        except DiskFull as error:
            with suppress(CorpusError):
                self._commit()
            raise self._full() from error
        except BaseException:
            # Ctrl-C, or whoever watches has had enough: what is complete is kept. Were it in the midst of a commit,
            # the same is said again, which changes nothing.
            with suppress(CorpusError):
                self._commit()
            raise
        finally:
            workers.stop()
        for share in compacted(self._writer):
            yield replace(self._progress, stage="compacting", done_bytes=round(share * self._progress.total_bytes))
        if self._index is not None and wants_index(self._writer):
            yield replace(self._progress, stage="indexing", path="")
            write_index(self._writer, self._index)
        built = replace(self._built, unreadable=self._unreadable, warnings=tuple(self._warnings))
        yield replace(self._progress, stage="done", path="", built=built)

    def _unchanged(self) -> Iterator[FoundFile]:
        """Go through what was found; yields what has to be looked into."""
        for found in self._found.values():
            row = self._known.get(found.name)
            if row is None or row.fault or (row.size, row.mtime_ns) != (found.size, found.mtime_ns):
                yield found
                continue
            self._keep(row, found)
            self._built = replace(self._built, unchanged=self._built.unchanged + 1)
            self._done(found)

    def _keep(self, row: FileRow, found: FoundFile) -> None:
        """A file's row is as it was, but for where and when it was found, and for what the user says of it."""
        # Built from a folder within the one it was built from before, a file keeps the tags it had.
        narrower = row.path == found.name and set(found.tags) <= set(from_json(row.tags))
        kept = replace(
            row,
            path=found.name,
            size=found.size,
            mtime_ns=found.mtime_ns,
            tags=row.tags if narrower else as_json(found.tags),
            given=_joined(from_json(row.given), self._tags),
            given_licence=self._licence or row.given_licence,
        )
        if kept != row:
            self._writer.add(kept)

    def _done(self, found: FoundFile) -> None:
        self._count(found, found.size)
        self._progress = replace(self._progress, done_files=self._progress.done_files + 1)

    def _count(self, found: FoundFile, n_bytes: int) -> None:
        """So many bytes of a file are done, or as many as were before."""
        before = self._counted.get(found.name, 0)
        self._counted[found.name] = now = max(before, n_bytes)
        p = self._progress
        self._progress = replace(p, done_bytes=p.done_bytes + now - before, path=str(found.path))

    def _take(self, made: Made) -> None:
        found = made.found
        if isinstance(made, Same):
            self._recognise(made)
        elif str(found.path) in self._unreadable:
            # Segments that were on their way when it failed.
            return
        elif isinstance(made, Failed):
            self._fail(found, made.fault)
        else:
            of = self._opened(found, made.attempt)
            if made.attempt < of.attempt:
                return
            if isinstance(made, Read):
                of.read = made
            elif isinstance(made, Spoilt):
                of.faults.append(made.fault)
            else:
                self._shelve(of, made)
            self._complete(found)

    def _fail(self, found: FoundFile, fault: str) -> None:
        """List a file as unreadable."""
        self._unreadable[str(found.path)] = fault
        self._open.pop(found.name, None)
        known = self._known.get(found.name)
        id_ = known.id if known else self._new_id()
        self._writer.forget([id_])
        self._writer.add(FileRow(id_, found.name, found.size, found.mtime_ns, tags=as_json(found.tags), fault=fault))
        self._finish(found)

    def _new_id(self) -> int:
        self._writer.next_id += 1
        return self._writer.next_id - 1

    def _opened(self, found: FoundFile, attempt: int) -> _Open:
        """The state of a file that is being worked on; a new one if it is read anew."""
        of = self._open.get(found.name)
        if of is None or of.attempt < attempt:
            known = self._known.get(found.name)
            of = self._open[found.name] = _Open(attempt, known.id if known else self._new_id())
        return of

    def _shelve(self, of: _Open, part: SegmentPart) -> None:
        # Keys, levels and looks have their rows in common, and those are counted with the looks.
        kinds = ("keys", "levels", "looks", "samples")
        at = {kind: self._writer.append(kind, part.made.arrays[kind]) for kind in kinds}
        segment = replace(part.made.segment, file=of.id, row=at["looks"], first=at["samples"])
        of.parts[segment.part], of.powers[segment.part] = segment, part.made.powers
        self._count(part.found, round(part.share * part.found.size))
        own_s = segment.n_rows * hop_at(self._sr) / self._sr
        self._progress = replace(self._progress, done_s=self._progress.done_s + own_s, path=str(part.found.path))

    def _complete(self, found: FoundFile) -> None:
        """Make a file part of the corpus if all of it has come."""
        of = self._open[found.name]
        if of.read is None or len(of.parts) + len(of.faults) < of.read.n_parts:
            return
        if of.faults:
            self._fail(found, of.faults[0])
            return
        del self._open[found.name]
        loudness = gated_loudness(np.concatenate([of.powers[n] for n in range(of.read.n_parts)]))
        row = replace(
            of.read.row,
            id=of.id,
            loudness=loudness if math.isfinite(loudness) else None,
            given=_joined((), self._tags),
            given_licence=self._licence,
        )
        self._writer.forget([of.id])
        self._writer.add(row, *of.parts.values())
        self._warnings += [f"{found.path}: {said}" for said in from_json(row.warnings)]
        self._built = replace(
            self._built, analysed=self._built.analysed + 1, seconds=self._built.seconds + row.duration_s
        )
        self._finish(found)

    def _recognise(self, made: Same) -> None:
        replaced = self._known.get(made.found.name)
        if replaced is not None and replaced.id != made.row.id:
            self._writer.forget([replaced.id])
        moved = made.row.path != made.found.name
        self._keep(made.row, made.found)
        self._built = replace(
            self._built,
            moved=self._built.moved + moved,
            unchanged=self._built.unchanged + (not moved),
        )
        self._finish(made.found)

    def _finish(self, found: FoundFile) -> None:
        self._since_commit += 1
        self._done(found)
        p = self._progress
        # The files to come are assumed to hold as much sound a byte as those that are done.
        done = max(1, p.done_bytes - (p.total_bytes - self._todo_bytes))
        self._progress = replace(p, total_s=p.done_s * self._todo_bytes / done)

    def _commit(self) -> None:
        self._writer.commit()
        self._since_commit = 0

    def _full(self) -> CorpusError:
        p, about = self._progress, self._writer.about
        a_second = about.sr / hop_at(about.sr) * (2 * (about.bands + about.keys) + 8) + 4 * about.sr
        needed = f"; what is left may take {_size(a_second * (p.total_s - p.done_s))} more" if p.total_s else ""
        return CorpusError(
            f"cannot go on building {self._writer.folder}: no space left on its disk{needed}; what was analysed so far "
            "is kept: free some and run the same command again"
        )


def _joined(texts: Sequence[str], more: Sequence[str]) -> str:
    return as_json(dict.fromkeys((*texts, *more)))


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{max(1.0, n_bytes / 1e6):.0f} MB"


def compacted(writer: Writer) -> Iterator[float]:
    """Write arrays anew if they are full of holes; yields how far that is. A full disk leaves them as they are."""
    shelves = writer.current()
    about = shelves.about
    rows = sum(segment.n_rows for segment in shelves.segments)
    samples = sum(segment.length * segment.channels for segment in shelves.segments)
    if rows >= (1 - MOST_HOLES) * about.rows and samples >= (1 - MOST_HOLES) * about.samples:
        return
    with suppress(DiskFull):
        yield from writer.compact()


def wants_index(writer: Writer) -> bool:
    """Whether a corpus is so large that it is searched with an index, and has none of all its rows."""
    shelves = writer.current()
    return shelves.about.rows > EXACT_BELOW and not (shelves.index and shelves.index.seems_whole())


def write_index(writer: Writer, index: Index) -> None:
    """Give a corpus the search index that `index` makes of its keys."""
    writer.write_index(index(writer.current().mapped("keys")))


def remove_files(
    name: StrPath,
    patterns: Sequence[str],
    *,
    waiting: Callable[[], None] = lambda: None,
    index: Index | None = None,
) -> list[str]:
    """Take the files out of a corpus that meet one of `patterns`; see `smalti.grains.filters.Filters`.

    Parameters
    ----------
    waiting : called a few times a second while another process writes the corpus; may raise.
    index : see `build_corpus`; what is left is searched with a new one if it is written anew.

    Returns
    -------
    list of the paths that were taken out, as the corpus calls them.

    Raises
    ------
    CorpusError : if there is no such corpus, it is damaged, or nothing in it meets a pattern.
    """
    listed = list_files(name)
    for pattern in patterns:
        check_pattern("patterns", pattern)
        if not any(meets(one, pattern) for one in listed):
            raise CorpusError(f"no file of {corpus_path(name)} meets {pattern!r}; see 'smalti corpus list'")
    folder = corpus_path(name)
    lock = WriteLock(folder)
    try:
        while not lock.acquired():
            waiting()
        writer = Writer(folder, None)
        try:
            out = [one for one in listed_files(writer.shelves) if any(meets(one, pattern) for pattern in patterns)]
            writer.forget([one.id for one in out])
            writer.commit()
            for _ in compacted(writer):
                pass
            if index is not None and wants_index(writer):
                write_index(writer, index)
        finally:
            writer.close()
    finally:
        lock.release()
    return [one.path for one in out]
