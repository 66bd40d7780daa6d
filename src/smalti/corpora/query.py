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
from smalti.corpora.store import CorpusTables, StoredIndex, load_tables, read_mapped
from smalti.corpora.tables import CORPUS_FORMAT, SegmentRow, damaged, from_json
from smalti.dsp.stft import StftParams
from smalti.errors import CorpusError, has_extra
from smalti.grains.corpus import Corpus, WhenAsked
from smalti.grains.descriptors import MIDDLE_WINDOW_S
from smalti.grains.filters import Filters, Limit, limits_of, unmet, weights_of
from smalti.grains.nearest import EXACT_BELOW, unpacked
from smalti.grains.source import Source
from smalti.io.files import StrPath
from smalti.settings import HOP_S


@dataclass(frozen=True)
class CorpusFile:
    """A file of a corpus.

    Attributes
    ----------
    id : its number in the corpus. path : its name in the corpus. place : its full path when it was read.
    duration_s : seconds. loudness_lufs : integrated loudness, -inf for silence.
    sr, channels, size, sha256 : its own sample rate in Hz, channel count, bytes, and hex digest.
    tags : its folders, its genre, and the user's tags.
    licence : the licence in its metadata, or else the one the user gave, or "".
    warnings : sentences about anything unexpected in it. fault : why it cannot be used, or "".
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
    """The files of a corpus whose tables have been loaded, in order of their paths."""
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
    """The files of the corpus `name` in order of their paths, including those that cannot be used.

    Raises
    ------
    CorpusError : if there is no such corpus, or it is damaged or of another format.
    """
    return listed_files(load_tables(name))


@dataclass(frozen=True)
class CorpusInfo:
    """Facts about a corpus as a whole.

    Attributes
    ----------
    path : its folder. format : the number of its format. sr : its sample rate in Hz.
    n_files, n_unreadable, n_segments, n_frames : how many usable files, unusable files, segments and frames it has.
    duration_s : the total of the usable files, in seconds.
    quietest_lufs, loudest_lufs : the range of loudness of the files that are not silent; None if all are silent.
    n_bytes : its size on disk. holes : the share, 0 to 1, of its stored frames whose files are no longer in it.
    tags, licences : how many usable files have each.
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
    tables = load_tables(name)
    listed = listed_files(tables)
    usable = [file for file in listed if not file.fault]
    levels = [file.loudness_lufs for file in usable if math.isfinite(file.loudness_lufs)]
    n_frames = sum(segment.n_rows for segment in tables.segments)
    return CorpusInfo(
        path=str(tables.folder),
        format=CORPUS_FORMAT,
        sr=tables.about.sr,
        n_files=len(usable),
        n_unreadable=len(listed) - len(usable),
        n_segments=len(tables.segments),
        n_frames=n_frames,
        duration_s=sum(file.duration_s for file in usable),
        quietest_lufs=min(levels, default=None),
        loudest_lufs=max(levels, default=None),
        n_bytes=sum(map(_size, tables.folder.iterdir())),
        holes=1 - n_frames / tables.about.rows if tables.about.rows else 0.0,
        tags=dict(sorted(Counter(tag for file in usable for tag in file.tags).items())),
        licences=dict(sorted(Counter(file.licence for file in usable).items())),
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:  # A build that ends just now removes the arrays it has replaced.
        return 0


def _recordings(samples: NDArray[np.int16], segments: Sequence[SegmentRow]) -> Sequence[Floats]:
    """The recordings of `segments`, each decoded from the mapped samples when it is needed."""

    def read(i: int) -> Floats:
        segment = segments[i]
        return decoded(samples[segment.span("samples")].reshape(segment.channels, segment.length), segment.step)

    return WhenAsked(len(segments), read)


@dataclass(frozen=True, eq=False)
class OpenCorpus:
    """A corpus opened for mosaics: the recordings that pass the filters, and how much each counts.

    Attributes
    ----------
    folder : the folder of the corpus.
    corpus : the R segments whose files pass. A segment's recording also holds 0.1 s of sound beyond its borders, so
        that frames near a border sound like what was analysed.
    files : the files that pass, in order of their paths. `Corpus.files` holds indices into them.
    weights : (R,) float32, how much each recording counts; 1 unless the caller gave a weight.
    limits : the most that some recordings may take of the mosaic.
    missing, changed : files that have gone, or have changed since they were read. The corpus still holds their sound.
    warnings : sentences about missing and changed files, and about patterns that match no file.
    index : the search index on the disk, or None. It covers all rows of the corpus, not only those that pass; see
        `Corpus.rows`.
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
    """Open the recordings of a corpus that pass the filters, to make mosaics of them.

    Features and sound are mapped from the disk; levels and descriptors are read and checked. The search index is read
    when the corpus is first searched. If there is no index, it is damaged, faiss is not installed, or so few frames
    pass that it would save no time, every descriptor is compared instead.

    Parameters
    ----------
    name : the corpus's folder; ``.corpus`` is added if it is missing.
    filters : which files to use; None for all.
    weights : for each pattern, how much the files that match it count, 0 to 1000.
    limits : for each pattern, the largest share of a mosaic that the files matching it may take, 0 to 1.

    Returns
    -------
    OpenCorpus

    Raises
    ------
    CorpusError : if there is no such corpus, it is damaged or of another format, or nothing in it passes.
    ValueError, TypeError : if a weight or a limit is out of range, or its pattern matches no recording.
    """
    tables, arrays = read_mapped(name)
    listed, filters = listed_files(tables), filters or Filters()
    usable = [file for file in listed if not file.fault]
    used = tuple(file for file in usable if filters.passes(file))
    if not used:
        raise CorpusError(_nothing(tables, usable, filters))
    place = {file.id: n for n, file in enumerate(used)}
    segments = tuple(segment for segment in tables.segments if segment.file in place)
    files = np.array([place[segment.file] for segment in segments])
    if len(set(files)) < len(used):
        raise damaged(tables.folder, "a file has no segments")
    counts = [segment.n_rows for segment in segments]
    rows = np.concatenate([np.arange(segment.row, segment.row + segment.n_rows) for segment in segments])
    for segment in segments:
        for kind in ("levels", "descriptors"):
            tables.check_segment(segment, kind, arrays[kind])
    levels, sr = arrays["levels"][rows], tables.about.sr
    if not np.isfinite(levels).all() or levels.min(initial=0) < 0:
        raise damaged(tables.folder / tables.about.name("levels"), "a level is negative, infinite or not a number")
    params = StftParams.from_seconds(MIDDLE_WINDOW_S, HOP_S, sr)
    owners = [used[i] for i in files]
    about = {file.id: _source_of(file, tables.folder) for file in used}
    missing, changed = _missing_and_changed(tables, used)
    # The rows of the arrays are mostly in another order than the files. Where the order agrees, nothing is copied.
    in_order = len(rows) == tables.about.rows and bool((np.diff(rows) == 1).all())
    return OpenCorpus(
        folder=tables.folder,
        corpus=Corpus(
            recording_ids=np.repeat(np.arange(len(segments)), counts),
            centres=np.concatenate([segment.centre + np.arange(segment.n_rows) * params.hop for segment in segments]),
            cancelled=levels[:, 1] == 0,
            sources=tuple(replace(about[segment.file], begin=segment.begin) for segment in segments),
            params=params,
            sr=sr,
            recordings=_recordings(arrays["samples"], segments),
            features=arrays["features"],
            rows=rows,
            scales=np.ascontiguousarray(levels[:, 0]),
            levels=np.ascontiguousarray(levels[:, 1]),
            descriptors=arrays["descriptors"] if in_order else arrays["descriptors"][rows],
            files=files,
            channels=max(segment.channels for segment in segments),
            read_index=_index_reader(tables.index, len(rows)),
        ),
        files=used,
        weights=weights_of(owners, weights or {}),
        limits=limits_of(owners, limits or {}),
        missing=missing,
        changed=changed,
        warnings=(*unmet(usable, filters), *_warnings(tables, missing, changed)),
        index=tables.index,
    )


def _source_of(file: CorpusFile, folder: Path) -> Source:
    """The provenance of the recordings of a file."""
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
    """A function that reads the search index and remembers it; None if a search of `n_frames` would not use it."""
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
    tags = sorted({tag for file in usable for tag in file.tags})
    there = f"its {len(usable)} files last {min(file.duration_s for file in usable):.1f} to "
    there += f"{max(file.duration_s for file in usable):.1f} s"
    if levels := [file.loudness_lufs for file in usable if math.isfinite(file.loudness_lufs)]:
        there += f", are {min(levels):.1f} to {max(levels):.1f} LUFS loud"
    if tags:
        there += f", and are tagged {', '.join(tags[:10])}{', ...' if len(tags) > 10 else ''}"
    return f"nothing in {tables.folder} passes {filters}: {there}; choose by these"


def _missing_and_changed(tables: CorpusTables, used: Sequence[CorpusFile]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The places of files that are gone, and of those whose size or modification time has changed."""
    missing, changed = [], []
    for file in used:
        row = tables.files[file.id]
        try:
            status = file.place.stat()
        except OSError:
            missing.append(file.place)
            continue
        if (status.st_size, status.st_mtime_ns) != (row.size, row.mtime_ns):
            changed.append(file.place)
    return tuple(missing), tuple(changed)


def _warnings(tables: CorpusTables, missing: Sequence[Path], changed: Sequence[Path]) -> list[str]:
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
    """The result of `verify_corpus`.

    Attributes
    ----------
    path : its folder. damaged : a sentence for each damaged part; empty if the corpus is intact.
    n_bytes : how many bytes of the arrays were checked.
    missing, changed : files that have gone, or have changed since they were read. That is no damage.
    """

    path: str
    damaged: tuple[str, ...]
    n_bytes: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]


def verify_corpus(name: StrPath) -> Verdict:
    """Compare the arrays of the corpus `name` with their checksums, and look for files that have gone or changed.

    Raises
    ------
    CorpusError : if there is no such corpus, it is of another format, or it is too damaged to be opened.
    """
    tables, arrays = read_mapped(name)
    messages, n_bytes = list[str](), 0
    for kind, array in arrays.items():
        for segment in tables.segments:
            n_bytes += array[segment.span(kind)].nbytes
            try:
                tables.check_segment(segment, kind, array)
            except CorpusError as error:
                messages.append(str(error))
        spans = sorted((span.start, span.stop) for span in (segment.span(kind) for segment in tables.segments))
        if any(before[1] > after[0] for before, after in itertools.pairwise(spans)):
            messages.append(str(damaged(tables.folder / tables.about.name(kind), "two segments share a part of it")))
    missing, changed = _missing_and_changed(tables, [file for file in listed_files(tables) if not file.fault])
    return Verdict(str(tables.folder), tuple(messages), n_bytes, tuple(map(str, missing)), tuple(map(str, changed)))
