"""Build a corpus on disk from folders of recordings; `smalti.corpora.query` opens it for mosaics.

Threads read and analyse files on every core, holding only a few segments of two minutes at a time. The caller's thread
alone writes their results. The corpus stores the sound in 16 bits, and that sound is what was analysed: a mosaic need
not decode hours of files, and sounds exactly what it was chosen by.
"""

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from smalti._checks import Floats, check_rate
from smalti.corpora.query import list_files, listed_files
from smalti.corpora.store import DiskFull
from smalti.corpora.tables import FileRow, SegmentRow, as_json, corpus_path, from_json
from smalti.corpora.workers import Failed, FoundFile, Made, Read, Same, SegmentPart, Spoilt, Workers
from smalti.corpora.writer import WriteLock, Writer
from smalti.dsp.loudness import gated_loudness
from smalti.errors import CorpusError, has_extra
from smalti.grains.corpus import hop_at
from smalti.grains.filters import check_pattern, meets
from smalti.grains.nearest import EXACT_BELOW, inverted_file, packed
from smalti.io.files import StrPath
from smalti.io.sound_read import find_audio

# Results are committed after this many bytes or files, which is a few seconds of work.
COMMIT_BYTES, COMMIT_FILES = 1 << 25, 500
# The arrays are rewritten if more than this share of them belongs to files no longer in the corpus.
MOST_HOLES = 1 / 3


@dataclass(frozen=True)
class Built:
    """The outcome of a build.

    Attributes
    ----------
    analysed, unchanged, moved, removed : how many files it analysed, found unchanged, found under another name, and
        took out.
    seconds : the duration of the sound it analysed.
    unreadable : for each file that cannot be used, by path, the reason. warnings : sentences for the user.
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
    done_files, total_files, done_bytes, total_bytes : how much of the found files is done, and how much there is.
    done_s : seconds of sound analysed. total_s : an estimate, from file sizes, of the seconds to analyse in all; 0 if
        there is none yet.
    path : the file that was worked on last.
    built : the outcome; empty until the stage is "done".
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
) -> Generator[BuildProgress, None, None]:
    """Analyse the sound files of `folders` into the corpus `name`, or bring it up to date.

    Files are analysed if they are new or their content has changed. Files that are gone from `folders` are taken out of
    the corpus. A build that is stopped keeps what it has done; the next build continues from there.

    A corpus of more than 20 000 frames gets a search index, unless the extra `corpus` is not installed.

    Parameters
    ----------
    folders : paths of folders and files.
    name : the corpus's folder, made if it does not exist; ``.corpus`` is added if it is missing.
    sr : the sample rate of a new corpus in Hz, 44100 if None. An existing corpus must have this rate, unless None.
    tags : tags for every file, beside its genre and the names of the folders between the given folder and it.
    licence : the licence of every file whose metadata has none.

    Yields
    ------
    BuildProgress, often; the last one is "done". Closing the generator stops the build.

    Raises
    ------
    AudioFileError : if a folder cannot be searched, or holds no sound file. An empty folder may be a disk that is not
        mounted, and its files must not be taken out for that.
    CorpusError : if the corpus cannot be written, is damaged, or is at another rate.
    TypeError, ValueError : if `folders` is a single path, a tag is no pattern, or `sr` is no sample rate.
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
            # The folders may have changed by the time the lock is free.
            found = _found(folders, folder)
        writer = Writer(folder, sr)
        try:
            yield from _Build(writer, found, _roots(folders), tuple(tags), licence).steps()
        finally:
            writer.close()
    finally:
        lock.release()


def _roots(folders: Iterable[StrPath]) -> list[str]:
    return [os.path.realpath(folder) for folder in folders]


def _found(folders: Sequence[StrPath], corpus: Path) -> dict[bytes, FoundFile]:
    """The sound files by their names in the corpus, in order of these names."""
    base = os.path.realpath(corpus)
    found, seen = dict[bytes, FoundFile](), set[str]()
    for folder, root in zip(folders, _roots(folders), strict=True):
        for path in find_audio([folder]):
            inside = path.relative_to(folder)
            # Links to the same file count once.
            if (real := os.path.realpath(path)) in seen:
                continue
            seen.add(real)
            place = Path(root) / inside
            try:
                status = place.stat()
            except OSError:  # It was removed a moment ago.
                continue
            name = _name(str(place), base)
            found[name] = FoundFile(place, name, status.st_size, status.st_mtime_ns, inside.parts[:-1])
    return dict(sorted(found.items()))


def _name(place: str, base: str) -> bytes:
    """The name of a file in a corpus.

    It is relative to the corpus's folder if both lie in a common folder below the root, so that they can be moved
    together; else it is absolute.
    """
    try:
        shared = Path(os.path.commonpath([place, base]))
    except ValueError:  # They lie on two drives.
        return os.fsencode(place)
    if shared == shared.parent:
        return os.fsencode(place)
    return os.fsencode(os.path.relpath(place, base).replace(os.sep, "/"))


@dataclass
class _Open:
    """The segments that have arrived so far from one attempt at reading a file."""

    attempt: int
    id: int
    parts: dict[int, SegmentRow] = field(default_factory=dict)
    powers: dict[int, Floats] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    read: Read | None = None


class _Build:
    """One build: it decides what to do with each file, and writes the results."""

    def __init__(
        self,
        writer: Writer,
        found: dict[bytes, FoundFile],
        roots: Sequence[str],
        tags: tuple[str, ...],
        licence: str,
    ) -> None:
        self._writer, self._found, self._tags, self._licence = writer, found, tags, licence
        files = writer.tables.files
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
        place = str(self._writer.tables.place(row))
        return any(place == root or place.startswith(root.rstrip(os.sep) + os.sep) for root in roots)

    def steps(self) -> Iterator[BuildProgress]:
        """Run the build, yielding its progress; see `build_corpus`."""
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
            # Ctrl-C, or the caller closed the generator: complete files are kept. If a commit was interrupted, the same
            # changes are made again, with the same result.
            with suppress(CorpusError):
                self._commit()
            raise
        finally:
            workers.stop()
        for share in compacted(self._writer):
            yield replace(self._progress, stage="compacting", done_bytes=round(share * self._progress.total_bytes))
        if wants_index(self._writer):
            yield replace(self._progress, stage="indexing", path="")
            write_index(self._writer)
        built = replace(self._built, unreadable=self._unreadable, warnings=tuple(self._warnings))
        yield replace(self._progress, stage="done", path="", built=built)

    def _unchanged(self) -> Iterator[FoundFile]:
        """Keep the rows of the found files that have not changed; yields the files that must be read."""
        for found in self._found.values():
            row = self._known.get(found.name)
            if row is None or row.fault or (row.size, row.mtime_ns) != (found.size, found.mtime_ns):
                yield found
                continue
            self._keep(row, found)
            self._built = replace(self._built, unchanged=self._built.unchanged + 1)
            self._done(found)

    def _keep(self, row: FileRow, found: FoundFile) -> None:
        """Keep a file's row, updated with where and when it was found, and with the user's tags and licence."""
        # A build from a subfolder finds fewer folder names; the file keeps the tags it had.
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
        """Record that `n_bytes` of a file are done, or more if more were done before."""
        before = self._counted.get(found.name, 0)
        self._counted[found.name] = now = max(before, n_bytes)
        p = self._progress
        self._progress = replace(p, done_bytes=p.done_bytes + now - before, path=str(found.path))

    def _take(self, made: Made) -> None:
        found = made.found
        if isinstance(made, Same):
            self._recognise(made)
        elif str(found.path) in self._unreadable:
            # The segment was on its way when the file failed.
            return
        elif isinstance(made, Failed):
            self._fail(found, made.fault)
        else:
            pending = self._opened(found, made.attempt)
            if made.attempt < pending.attempt:
                return
            if isinstance(made, Read):
                pending.read = made
            elif isinstance(made, Spoilt):
                pending.faults.append(made.fault)
            else:
                self._append(pending, made)
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
        """The state of a file that is being read; a fresh one for the first part of each attempt."""
        pending = self._open.get(found.name)
        if pending is None or pending.attempt < attempt:
            known = self._known.get(found.name)
            pending = self._open[found.name] = _Open(attempt, known.id if known else self._new_id())
        return pending

    def _append(self, pending: _Open, part: SegmentPart) -> None:
        # Descriptors, levels and features share their row numbers. The writer counts rows with the features, so these
        # come last.
        kinds = ("descriptors", "levels", "features", "samples")
        at = {kind: self._writer.append(kind, part.made.arrays[kind]) for kind in kinds}
        segment = replace(part.made.segment, file=pending.id, row=at["features"], first=at["samples"])
        pending.parts[segment.part], pending.powers[segment.part] = segment, part.made.powers
        self._count(part.found, round(part.share * part.found.size))
        own_s = segment.n_rows * hop_at(self._sr) / self._sr
        self._progress = replace(self._progress, done_s=self._progress.done_s + own_s, path=str(part.found.path))

    def _complete(self, found: FoundFile) -> None:
        """Make a file part of the corpus if all of its segments have arrived."""
        pending = self._open[found.name]
        if pending.read is None or len(pending.parts) + len(pending.faults) < pending.read.n_parts:
            return
        if pending.faults:
            self._fail(found, pending.faults[0])
            return
        del self._open[found.name]
        loudness = gated_loudness(np.concatenate([pending.powers[n] for n in range(pending.read.n_parts)]))
        row = replace(
            pending.read.row,
            id=pending.id,
            loudness=loudness if math.isfinite(loudness) else None,
            given=_joined((), self._tags),
            given_licence=self._licence,
        )
        self._writer.forget([pending.id])
        self._writer.add(row, *pending.parts.values())
        self._warnings += [f"{found.path}: {warning}" for warning in from_json(row.warnings)]
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
        # The remaining files are assumed to hold as much sound per byte as those that are done.
        done = max(1, p.done_bytes - (p.total_bytes - self._todo_bytes))
        self._progress = replace(p, total_s=p.done_s * self._todo_bytes / done)

    def _commit(self) -> None:
        self._writer.commit()
        self._since_commit = 0

    def _full(self) -> CorpusError:
        p, about = self._progress, self._writer.about
        a_second = about.sr / hop_at(about.sr) * (2 * (about.bands + about.descriptor_size) + 8) + 4 * about.sr
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
    """Rewrite the arrays if holes take too much of them; yields how far it is, 0 to 1.

    If the disk is full they stay as they are.
    """
    tables = writer.current()
    about = tables.about
    rows = sum(segment.n_rows for segment in tables.segments)
    samples = sum(segment.length * segment.channels for segment in tables.segments)
    if rows >= (1 - MOST_HOLES) * about.rows and samples >= (1 - MOST_HOLES) * about.samples:
        return
    with suppress(DiskFull):
        yield from writer.compact()


def wants_index(writer: Writer) -> bool:
    """True if a corpus is so large that it is searched with an index, but has no index of all its rows.

    False without the extra `corpus`, which makes indexes.
    """
    tables = writer.current()
    missing = tables.about.rows > EXACT_BELOW and not (tables.index and tables.index.seems_whole())
    return missing and has_extra("corpus")


def write_index(writer: Writer) -> None:
    """Make the search index of the descriptors of a corpus, and write it."""
    writer.write_index(packed(inverted_file(writer.current().mapped("descriptors"))).data)


def remove_files(
    name: StrPath,
    patterns: Sequence[str],
    *,
    waiting: Callable[[], None] = lambda: None,
) -> list[str]:
    """Take the files that match any of `patterns` out of the corpus `name`.

    If the arrays have to be rewritten, the search index is made again; see `build_corpus`.

    Parameters
    ----------
    name : the corpus's folder; ``.corpus`` is added if it is missing.
    patterns : see `smalti.grains.filters.Filters`. Each must match a file.
    waiting : called a few times a second while another process writes the corpus. It may raise to give up.

    Returns
    -------
    list of the paths that were taken out, as the corpus names them.

    Raises
    ------
    CorpusError : if there is no such corpus, it is damaged, or nothing in it matches a pattern.
    ValueError, TypeError : if a pattern is empty or no text.
    """
    listed = list_files(name)
    for pattern in patterns:
        check_pattern("patterns", pattern)
        if not any(meets(file, pattern) for file in listed):
            raise CorpusError(f"no file of {corpus_path(name)} meets {pattern!r}; see 'smalti corpus list'")
    folder = corpus_path(name)
    lock = WriteLock(folder)
    try:
        while not lock.acquired():
            waiting()
        writer = Writer(folder, None)
        try:
            out = [file for file in listed_files(writer.tables) if any(meets(file, pattern) for pattern in patterns)]
            writer.forget([file.id for file in out])
            writer.commit()
            for _ in compacted(writer):
                pass
            if wants_index(writer):
                write_index(writer)
        finally:
            writer.close()
    finally:
        lock.release()
    return [file.path for file in out]
