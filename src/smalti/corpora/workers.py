"""Read and analyse files on every core, in threads that hand their results to a writer.

Each reader thread reads one file at a time and passes pieces of its sound to the analysing threads. The queues between
them, and the one to the writer, are short. They bound the memory, however long the files and however slow the disk.
"""

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from smalti._parallel import n_cores
from smalti.corpora.segments import Analysed, Piece, analysed, pieces
from smalti.corpora.tables import FileRow, as_json
from smalti.errors import AudioFileError
from smalti.io.files import file_sha256
from smalti.io.sound_read import AudioStream


class FoundFile(NamedTuple):
    """A sound file to be put into a corpus."""

    path: Path
    name: bytes  # its name in the corpus
    size: int
    mtime_ns: int
    tags: tuple[str, ...]


class SegmentPart(NamedTuple):
    """A segment of a file was analysed."""

    found: FoundFile
    attempt: int
    made: Analysed
    share: float  # of the file read by the end of this segment, 0 to 1; 0 if the file does not say how long it is


class Read(NamedTuple):
    """A file was read to its end."""

    found: FoundFile
    attempt: int
    n_parts: int
    row: FileRow  # complete except for its id and loudness


class Same(NamedTuple):
    """A file's content is already in the corpus, under this name or another."""

    found: FoundFile
    row: FileRow


class Spoilt(NamedTuple):
    """A segment of a file cannot be used."""

    found: FoundFile
    attempt: int
    fault: str


class Failed(NamedTuple):
    """A file cannot be read. Its segments that came before are void."""

    found: FoundFile
    fault: str


# How long to wait for all threads to stop.
_PATIENCE_S = 20.0

Made = SegmentPart | Spoilt | Read | Same | Failed


class _Crashed(NamedTuple):
    error: BaseException


class Workers:
    """Threads that read and analyse files. Each file ends as `Same`, `Failed` or `Read`.

    A file that ends as `Read` also has `n_parts` segments. Each comes as `SegmentPart` or `Spoilt`, before or after the
    `Read`. A file that changes while it is read is read once more: its parts come again, with a higher attempt.
    """

    def __init__(
        self, tasks: Iterable[FoundFile], sr: int, known: Mapping[bytes, FileRow], gone: dict[int, FileRow]
    ) -> None:
        """No thread starts before `results` is called.

        Parameters
        ----------
        tasks : the files. sr : the sample rate in Hz at which to analyse them.
        known : the files that the corpus has, by name.
        gone : the files of the corpus that are no longer where they were, by id. One that is found again under another
            name is removed from this dictionary.
        """
        self._tasks, self._sr, self._known, self._gone = iter(tasks), sr, known, gone
        self._n = self._readers = n_cores()
        self._stop, self._turn = threading.Event(), threading.Lock()
        self._threads = list[threading.Thread]()
        self._pieces = queue.Queue[tuple[FoundFile, int, Piece, float] | None](self._n)
        self._made = queue.Queue[Made | _Crashed | None](2 * self._n)

    def results(self) -> Iterator[Made]:
        """Start the threads, and yield their results in the order they finish, until all files are done.

        An error in a thread is raised here.
        """
        for work in (self._read_all, self._analyse_all):
            for _ in range(self._n):
                thread = threading.Thread(target=work, daemon=True)
                self._threads.append(thread)
                thread.start()
        running = self._n
        while running:
            made = self._made.get()
            if made is None:
                running -= 1
            elif isinstance(made, _Crashed):
                raise made.error
            else:
                yield made

    def stop(self) -> None:
        """Let no thread begin anything more, and wait for each to finish what it is doing.

        If the program ends while a thread is in the middle of a transform, it aborts. A thread that takes much longer,
        such as one reading from a slow disk, is left alone: these threads write nothing.
        """
        self._stop.set()
        until = _PATIENCE_S / max(1, len(self._threads))
        for thread in self._threads:
            thread.join(until)

    def _put(self, into: "queue.Queue[Any]", item: Any) -> None:
        """Put `item` into a queue once it has room; raise `_Stopped` if the build is stopped."""
        while not self._stop.is_set():
            with suppress(queue.Full):
                into.put(item, timeout=0.2)
                return
        raise _Stopped

    def _read_all(self) -> None:
        """Read one file after the other: the work of a reader thread."""
        try:
            while True:
                with self._turn:
                    found = next(self._tasks, None)
                if found is None:
                    break
                try:
                    self._read(found)
                except AudioFileError as error:
                    self._put(self._made, Failed(found, str(error)))
            with self._turn:
                self._readers -= 1
                last = not self._readers
            if last:
                for _ in range(self._n):
                    self._put(self._pieces, None)
        except _Stopped:
            pass
        except BaseException as error:
            self._crash(error)

    def _analyse_all(self) -> None:
        """Analyse one piece after the other: the work of an analysing thread."""
        try:
            while True:
                with suppress(queue.Empty):
                    task = self._pieces.get(timeout=0.2)
                    if task is None:
                        self._put(self._made, None)
                        return
                    found, attempt, piece, share = task
                    try:
                        made: SegmentPart | Spoilt = SegmentPart(found, attempt, analysed(piece, self._sr), share)
                    except ValueError as error:
                        made = Spoilt(found, attempt, f"cannot use {found.path}: {error}")
                    self._put(self._made, made)
                if self._stop.is_set():
                    return
        except _Stopped:
            pass
        except BaseException as error:
            self._crash(error)

    def _crash(self, error: BaseException) -> None:
        with suppress(_Stopped):
            self._put(self._made, _Crashed(error))

    def _read(self, found: FoundFile) -> None:
        """Recognise a file that the corpus has already, or read it to its end."""
        sha256 = ""
        if (row := self._known.get(found.name)) is not None and not row.fault:
            sha256 = file_sha256(found.path)
            if sha256 == row.sha256:
                self._put(self._made, Same(found, row))
                return
        if any(row.size == found.size and not row.fault for row in list(self._gone.values())):
            sha256 = sha256 or file_sha256(found.path)
            with self._turn:
                moved = next((row for row in self._gone.values() if row.sha256 == sha256), None)
                if moved is not None:
                    del self._gone[moved.id]
            if moved is not None:
                self._put(self._made, Same(found, moved))
                return
        for attempt in range(2):
            before = _status(found)
            n_parts = length = 0
            try:
                stream = AudioStream(found.path, sr=self._sr)
                for piece in pieces(stream):
                    n_parts, length = n_parts + 1, piece.begin + piece.samples.shape[1]
                    promised = stream.promised_s * self._sr
                    share = min(1.0, length / promised) if promised else 0.0
                    self._put(self._pieces, (found, attempt, piece, share))
            except AudioFileError:
                # A file that is still being written may not be valid audio yet.
                if _status(found) == before:
                    raise
                continue
            sha256 = file_sha256(found.path)
            if _status(found) == before:
                row = FileRow(
                    0,
                    found.name,
                    *before,
                    sha256=sha256,
                    sr=stream.own_sr,
                    channels=stream.channels,
                    duration_s=length / self._sr,
                    licence=stream.metadata.get("license", "") or stream.metadata.get("copyright", ""),
                    genre=stream.metadata.get("genre", "").strip(),
                    tags=as_json(found.tags),
                    warnings=as_json(stream.warnings),
                )
                self._put(self._made, Read(found, attempt, n_parts, row))
                return
        raise AudioFileError(f"cannot read {found.path}: it changes while it is read; build again when it is finished")


class _Stopped(Exception):
    """The build was stopped while a thread waited to pass on a result."""


def _status(found: FoundFile) -> tuple[int, int]:
    try:
        status = found.path.stat()
    except OSError as error:
        raise AudioFileError(f"cannot read {found.path}: it is gone; build again") from error
    return status.st_size, status.st_mtime_ns
