"""Open, list, inspect and verify a corpus on disk. Read-only.

Nothing here writes, so it works on read-only media too.
"""

import functools
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.corpora.segments import decoded
from smalti.corpora.store import CorpusTables, StoredIndex, read_mapped, read_shelves
from smalti.corpora.tables import CORPUS_FORMAT, SegmentRow, damaged, from_json
from smalti.dsp.stft import StftParams
from smalti.errors import CorpusError, has_extra
from smalti.grains.corpus import HOP_S, Corpus, WhenAsked
from smalti.grains.descriptors import MIDDLE_WINDOW_S
from smalti.grains.filters import Filters, Limit, limits_of, unmet, weights_of
from smalti.grains.nearest import EXACT_BELOW, unpacked
from smalti.grains.source import Source
from smalti.io.files import StrPath


@dataclass(frozen=True)
class CorpusFile:
    """A file of a corpus.

    Attributes
    ----------
    id : the corpus's own number of it. path : as the corpus calls it. place : where it was when it was read.
    duration_s : seconds. loudness_lufs : integrated, -inf for silence. sr, channels, size, sha256 : its own.
    tags : folders, genre, and what the user gave. licence : as the file says or else the user, or "".
    warnings : sentences about what was not as expected. fault : why it cannot be used, or "".
    """

    id: int
    path: str
    place: Path
    duration_s: float
    loudness_lufs: float
    sr: int
    channels: int
    size: int
    sha256: str
    tags: tuple[str, ...]
    licence: str
    warnings: tuple[str, ...]
    fault: str


def listed_files(tables: CorpusTables) -> list[CorpusFile]:
    """The files of a corpus that has been read, in order."""
    return [
        CorpusFile(
            id=row.id,
            path=os.fsdecode(row.path),
            place=tables.place(row),
            duration_s=row.duration_s,
            loudness_lufs=-math.inf if row.loudness is None else row.loudness,
            sr=row.sr,
            channels=row.channels,
            size=row.size,
            sha256=row.sha256,
            tags=tuple(dict.fromkeys(filter(None, (*from_json(row.tags), row.genre, *from_json(row.given))))),
            licence=row.licence or row.given_licence,
            warnings=from_json(row.warnings),
            fault=row.fault,
        )
        for row in tables.files.values()
    ]


def list_files(name: StrPath) -> list[CorpusFile]:
    """The files of the corpus `name`, those that cannot be used included, in order of their paths.

    Raises
    ------
    CorpusError : if there is none, or it is damaged or of another format.
    """
    return listed_files(read_shelves(name))


@dataclass(frozen=True)
class CorpusInfo:
    """Facts about a corpus as a whole.

    Attributes
    ----------
    path : its folder. format : of its files. sr : Hz.
    n_files, n_unreadable, n_segments, n_frames : how many there are of each.
    duration_s : of all files. quietest_lufs, loudest_lufs : of files that sound; None if none does.
    n_bytes : on disk. holes : the share of its frames that is of files no longer in it.
    tags, licences : how many files have each.
    """

    path: str
    format: int
    sr: int
    n_files: int
    n_unreadable: int
    n_segments: int
    n_frames: int
    duration_s: float
    quietest_lufs: float | None
    loudest_lufs: float | None
    n_bytes: int
    holes: float
    tags: Mapping[str, int]
    licences: Mapping[str, int]


def corpus_info(name: StrPath) -> CorpusInfo:
    """Facts about the corpus `name`; errors as for `list_files`."""
    tables = read_shelves(name)
    listed = listed_files(tables)
    usable = [one for one in listed if not one.fault]
    levels = [one.loudness_lufs for one in usable if math.isfinite(one.loudness_lufs)]
    n_frames = sum(segment.n_rows for segment in tables.segments)
    return CorpusInfo(
        path=str(tables.folder),
        format=CORPUS_FORMAT,
        sr=tables.about.sr,
        n_files=len(usable),
        n_unreadable=len(listed) - len(usable),
        n_segments=len(tables.segments),
        n_frames=n_frames,
        duration_s=sum(one.duration_s for one in usable),
        quietest_lufs=min(levels, default=None),
        loudest_lufs=max(levels, default=None),
        n_bytes=sum(map(_size, tables.folder.iterdir())),
        holes=1 - n_frames / tables.about.rows if tables.about.rows else 0.0,
        tags=dict(sorted(Counter(tag for one in usable for tag in one.tags).items())),
        licences=dict(sorted(Counter(one.licence for one in usable).items())),
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:  # a build that comes to an end just now removes what it has replaced
        return 0


def _recordings(samples: NDArray[np.int16], segments: Sequence[SegmentRow]) -> Sequence[Floats]:
    """Recordings on a disk, each read when it is asked for."""

    def read(i: int) -> Floats:
        segment = segments[i]
        return decoded(samples[segment.span("samples")].reshape(segment.channels, segment.length), segment.step)

    return WhenAsked(len(segments), read)


@dataclass(frozen=True, eq=False)
class OpenCorpus:
    """A corpus opened for mosaics: the recordings that pass, and how much each counts.

    Attributes
    ----------
    folder : where it lies.
    corpus : of the R segments whose files pass. A segment's recording holds what lies 0.1 s beyond its borders too, so
        that frames beside them sound as they look.
    files : of which they are, in order. `Corpus.files` counts these.
    weights : (R,) float32, how much each recording counts, 1 if nothing was said.
    limits : how much of the mosaic some of them may be.
    missing, changed : files that are not where they were, or not as they were. Their sound is in the corpus.
    warnings : sentences about that.
    index : what `build_corpus`'s `index` made of all rows of the corpus, whatever passes, or None; see `Corpus.rows`.
    """

    folder: Path
    corpus: Corpus
    files: tuple[CorpusFile, ...]
    weights: NDArray[np.float32]
    limits: tuple[Limit, ...]
    missing: tuple[Path, ...]
    changed: tuple[Path, ...]
    warnings: tuple[str, ...]
    index: StoredIndex | None


def open_corpus(
    name: StrPath,
    filters: Filters | None = None,
    *,
    weights: Mapping[str, float] | None = None,
    limits: Mapping[str, float] | None = None,
) -> OpenCorpus:
    """Open the recordings of a corpus that pass, to make mosaics of them.

    Features and sound are mapped from the disk; levels and descriptors are read, and checked. The search index is read
    when the corpus is first searched. All descriptors are compared instead if there is no index, it is damaged, faiss
    is not installed, or so few frames pass that it would save no time.

    Parameters
    ----------
    name : the corpus's folder; ``.corpus`` is added.
    filters : which files; None for all.
    weights : by pattern, how much files that meet it count.
    limits : by pattern, which share of a mosaic they may be, 0 to 1.

    Returns
    -------
    OpenCorpus

    Raises
    ------
    CorpusError : if there is none, it is damaged or of another format, or nothing in it passes.
    ValueError, TypeError : if weights or limits are out of range, or speak of what is not there.
    """
    tables, arrays = read_mapped(name)
    listed, filters = listed_files(tables), filters or Filters()
    usable = [one for one in listed if not one.fault]
    used = tuple(one for one in usable if filters.passes(one))
    if not used:
        raise CorpusError(_nothing(tables, usable, filters))
    place = {one.id: n for n, one in enumerate(used)}
    segments = tuple(segment for segment in tables.segments if segment.file in place)
    files = np.array([place[segment.file] for segment in segments])
    if len(set(files)) < len(used):
        raise damaged(tables.folder, "a file has no segments")
    counts = [segment.n_rows for segment in segments]
    rows = np.concatenate([np.arange(segment.row, segment.row + segment.n_rows) for segment in segments])
    for segment in segments:
        for kind in ("levels", "keys"):
            tables.check_segment(segment, kind, arrays[kind])
    levels, sr = arrays["levels"][rows], tables.about.sr
    if not np.isfinite(levels).all() or levels.min(initial=0) < 0:
        raise damaged(tables.folder / tables.about.name("levels"), "its levels are no levels")
    params = StftParams.from_seconds(MIDDLE_WINDOW_S, HOP_S, sr)
    told = [used[i] for i in files]
    about = {file.id: _source_of(file, tables.folder) for file in used}
    missing, changed = _looked_after(tables, used)
    # Files in order are mostly not in order on the disk; where they are, nothing is copied.
    in_order = len(rows) == tables.about.rows and bool((np.diff(rows) == 1).all())
    return OpenCorpus(
        folder=tables.folder,
        corpus=Corpus(
            recording_ids=np.repeat(np.arange(len(segments)), counts),
            centres=np.concatenate([of.centre + np.arange(of.n_rows) * params.hop for of in segments]),
            cancelled=levels[:, 1] == 0,
            sources=tuple(replace(about[segment.file], begin=segment.begin) for segment in segments),
            params=params,
            sr=sr,
            recordings=_recordings(arrays["samples"], segments),
            features=arrays["looks"],
            rows=rows,
            scales=np.ascontiguousarray(levels[:, 0]),
            levels=np.ascontiguousarray(levels[:, 1]),
            descriptors=arrays["keys"] if in_order else arrays["keys"][rows],
            files=files,
            channels=max(segment.channels for segment in segments),
            read_index=_index_reader(tables.index, len(rows)),
        ),
        files=used,
        weights=weights_of(told, weights or {}),
        limits=limits_of(told, limits or {}),
        missing=missing,
        changed=changed,
        warnings=(*unmet(usable, filters), *_said(tables, missing, changed)),
        index=tables.index,
    )


def _source_of(file: CorpusFile, folder: Path) -> Source:
    """Where the recordings of a file come from."""
    return Source(
        name=str(file.place),
        sha256=file.sha256,
        sr=file.sr,
        channels=file.channels,
        duration_s=file.duration_s,
        tags=file.tags,
        corpus=str(folder),
    )


def _index_reader(stored: StoredIndex | None, n_frames: int) -> Callable[[], Any] | None:
    """A function that reads the search index of a corpus once; None if searching `n_frames` would not use it."""
    if stored is None or n_frames <= EXACT_BELOW or not has_extra("corpus"):
        return None

    @functools.cache
    def read() -> Any:
        data = stored.read()
        return None if data is None else unpacked(np.frombuffer(data, np.uint8))

    return read


def _nothing(tables: CorpusTables, usable: Sequence[CorpusFile], filters: Filters) -> str:
    if not usable:
        return f"{tables.folder} holds no recording; build it from a folder that does"
    tags = sorted({tag for one in usable for tag in one.tags})
    there = f"its {len(usable)} files last {min(one.duration_s for one in usable):.1f} to "
    there += f"{max(one.duration_s for one in usable):.1f} s"
    if levels := [one.loudness_lufs for one in usable if math.isfinite(one.loudness_lufs)]:
        there += f", are {min(levels):.1f} to {max(levels):.1f} LUFS loud"
    if tags:
        there += f", and are tagged {', '.join(tags[:10])}{', ...' if len(tags) > 10 else ''}"
    return f"nothing in {tables.folder} passes {filters}: {there}; choose by these"


def _looked_after(tables: CorpusTables, used: Sequence[CorpusFile]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    missing, changed = [], []
    for one in used:
        row = tables.files[one.id]
        try:
            status = one.place.stat()
        except OSError:
            missing.append(one.place)
            continue
        if (status.st_size, status.st_mtime_ns) != (row.size, row.mtime_ns):
            changed.append(one.place)
    return tuple(missing), tuple(changed)


def _said(tables: CorpusTables, missing: Sequence[Path], changed: Sequence[Path]) -> list[str]:
    out = []
    for places, how in ((missing, "no longer where it was"), (changed, "no longer as it was")):
        if len(places) == 1:
            out.append(f"{places[0]} is {how}; its sound is kept in {tables.folder}")
        elif places:
            out.append(
                f"{len(places)} files of {tables.folder} are {how.replace('it was', 'they were')}, the first "
                f"{places[0]}; their sound is kept in it"
            )
    return out


@dataclass(frozen=True)
class Verdict:
    """Whether a corpus is whole.

    Attributes
    ----------
    path : its folder. damaged : sentences, none if it is whole. n_bytes : that were checked.
    missing, changed : files that are not where or as they were, which is no damage.
    """

    path: str
    damaged: tuple[str, ...]
    n_bytes: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]


def verify_corpus(name: StrPath) -> Verdict:
    """Compare all that a corpus holds with its checksums, and its files with what they were.

    Raises
    ------
    CorpusError : if there is none, it is of another format, or it is damaged so that it cannot be opened at all.
    """
    tables, arrays = read_mapped(name)
    said, n_bytes = list[str](), 0
    for kind, array in arrays.items():
        for segment in tables.segments:
            n_bytes += array[segment.span(kind)].nbytes
            try:
                tables.check_segment(segment, kind, array)
            except CorpusError as error:
                said.append(str(error))
        spans = sorted((span.start, span.stop) for span in (segment.span(kind) for segment in tables.segments))
        if any(before[1] > after[0] for before, after in itertools.pairwise(spans)):
            said.append(str(damaged(tables.folder / tables.about.name(kind), "two segments share a part of it")))
    missing, changed = _looked_after(tables, [one for one in listed_files(tables) if not one.fault])
    return Verdict(str(tables.folder), tuple(said), n_bytes, tuple(map(str, missing)), tuple(map(str, changed)))
