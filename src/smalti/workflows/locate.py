"""Find the recordings of a score: by their hashes, then by their paths.

Files are read and compared, and nothing is written. A score may name any path, so only regular files with the ending of
a sound are opened.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from smalti._checks import Floats
from smalti.corpora.query import OpenCorpus, open_corpus
from smalti.errors import ScoreFileError
from smalti.grains.source import Source
from smalti.io.files import StrPath, file_sha256
from smalti.io.sound_read import AUDIO_ENDINGS, find_audio, read_audio, resample
from smalti.mosaicing.memory import memory_of_score
from smalti.score.score import Score
from smalti.workflows.steps import check_fits


@dataclass(frozen=True, eq=False)
class LocatedScore:
    """A score and its recordings.

    Attributes
    ----------
    score : its sources have the paths where they were found.
    recordings : one for each source, (L,) or (C, L) float32 at the score's rate, as they were given to the mosaic.
    target : (L,) or (C, L) likewise, or None if it was not needed.
    warnings : sentences for the user.
    """

    score: Score
    recordings: tuple[Floats, ...]
    target: Floats | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Places:
    """The places to look in: beside the score, then those that the user named.

    Attributes
    ----------
    beside : the folder of the score. named : files and folders.
    """

    beside: Path
    named: tuple[Path, ...]

    def candidates(self, path: str) -> Iterator[Path]:
        """Yield the places where a file of that path may be."""
        place = Path(path)
        folders = [folder for folder in self.named if folder.is_dir()]
        yield from (place, self.beside / place, *(folder / place.name for folder in (self.beside, *folders)))
        yield from (file for file in self.named if file.name == place.name)

    @cached_property
    def by_content(self) -> dict[str, Path]:
        """Every sound file beside the score and in the named places, by its SHA-256."""
        files = [file for file in self.beside.iterdir() if _is_sound(file)] if self.beside.is_dir() else []
        files += find_audio(self.named) if self.named else []
        return {file_sha256(file): file for file in reversed(files)}

    def find(self, path: str, sha256: str) -> tuple[Path | None, Path | None]:
        """The file with the hash `sha256`, and failing that a file of the same name; None for each that is not found.

        Without a hash, a file of the same name counts as the first.
        """
        there = [place for place in dict.fromkeys(self.candidates(path)) if _is_sound(place)]
        if not sha256:
            return (there[0], None) if there else (None, None)
        same = next((place for place in there if file_sha256(place) == sha256), None) or self.by_content.get(sha256)
        return same, None if same or not there else there[0]


def _is_sound(place: Path) -> bool:
    return place.suffix.lower() in AUDIO_ENDINGS and place.is_file()


def find_recordings(
    score: Score,
    score_file: StrPath,
    *,
    places: Sequence[StrPath] = (),
    target: StrPath | None = None,
    with_target: bool = True,
    changed: bool = False,
    compact: bool = True,
) -> LocatedScore:
    """Find and read the recordings of a score.

    Parameters
    ----------
    score : from `smalti.io.score_file.read_score`. score_file : where it was read from.
    places : more files and folders to look in; a corpus is a folder.
    target : the target's file, or None to look for it. with_target : whether the target is read.
    changed : accept files that have changed since the score was made.
    compact : leave out sources that no grain is cut from.

    Raises
    ------
    ScoreFileError : if recordings are missing or have changed, or the target has another length; it names them.
    AudioFileError, CorpusError : if what was found cannot be read.
    """
    named = tuple(map(Path, places))
    if absent := [place for place in named if not place.exists()]:
        raise ScoreFileError(f"cannot look in {absent[0]}: there is no such file or folder; check the name")
    lookup, score = Places(Path(score_file).absolute().parent, named), score.compact() if compact else score
    files, missing, other = dict[tuple[str, str], Path](), list[str](), list[str]()
    wanted = {(source.name, source.sha256) for source in score.sources if not source.corpus}
    if with_target and target is None:
        wanted.add((score.target.name, score.target.sha256))
    for name, sha256 in sorted(wanted):
        same, different = lookup.find(name, sha256)
        if same is None and different is not None:
            other.append(str(different))
        elif same is None:
            missing.append(name)
        if (place := same or (different if changed else None)) is not None:
            files[name, sha256] = place
    if missing:
        raise ScoreFileError(
            f"cannot find {_listed(missing)}, which {score_file} is made of; name the folder that it is in with "
            "--look-in FOLDER"
        )
    if other and not changed:
        raise ScoreFileError(
            f"{_listed(other)} changed since {score_file} was made: what it holds is something else; bring it back, or "
            "add --changed to take it as it is"
        )
    corpora = {
        source.corpus: _find_corpus(source.corpus, lookup, score_file) for source in score.sources if source.corpus
    }
    recordings = []
    for source in score.sources:
        recordings.append(
            _from_corpus(source, corpora[source.corpus], score.sr)
            if source.corpus
            else _read(files[source.name, source.sha256], score.sr)
        )
    sources = [
        source if source.corpus else replace(source, name=str(files[source.name, source.sha256]))
        for source in score.sources
    ]
    target_samples, about = None, score.target
    if with_target:
        place = Path(target) if target is not None else files[about.name, about.sha256]
        target_samples, about = _target(place, score), replace(about, name=str(place))
    elif (there := next(filter(_is_sound, lookup.candidates(about.name)), None)) is not None:
        # The target is not read, but the score names where it is.
        about = replace(about, name=str(there))
    return LocatedScore(
        score=replace(score, sources=tuple(sources), target=about),
        recordings=tuple(recordings),
        target=target_samples,
        warnings=tuple(f"{name} is not what {score_file} was made of; the sound will be another" for name in other),
    )


def check_score_memory(score: Score) -> None:
    """Raise `SmaltiError` if the sound of a score would need more memory than the machine has."""
    job = f"{len(score)} grains in {score.length / score.sr:.0f} s"
    check_fits(memory_of_score(score), job, "make it of a shorter target")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _read(file: Path, sr: int) -> Floats:
    recording = read_audio(file)
    return resample(recording.samples, recording.sr, sr)


def _target(file: Path, score: Score) -> Floats:
    """The excerpt of the target that the mosaic re-creates."""
    about = score.target
    recording = read_audio(file, start_s=about.start_s or None, end_s=about.end_s)
    samples = resample(recording.samples, recording.sr, score.sr)
    if samples.shape[-1] != score.length:
        raise ScoreFileError(
            f"{file} has {samples.shape[-1] / score.sr:.3f} s from {about.start_s:g} s on and the mosaic "
            f"{score.length / score.sr:.3f} s; name its own target with --target"
        )
    return samples


def _find_corpus(corpus: str, lookup: Places, score_file: StrPath) -> OpenCorpus:
    name = Path(corpus).name
    named = [place for folder in lookup.named for place in (folder, folder / name)]
    # Named places come first, so that they can replace another corpus of that name.
    for place in (*named, Path(corpus), lookup.beside / corpus, lookup.beside / name):
        if place.name == name and place.is_dir():
            return open_corpus(place)
    raise ScoreFileError(
        f"cannot find the corpus {corpus}, which {score_file} is made of; name where it is with --look-in"
    )


def _from_corpus(source: Source, opened: OpenCorpus, sr: int) -> Floats:
    """The samples of a source that lies in a corpus, at the rate `sr` of the score."""
    corpus = opened.corpus
    if corpus.sr != sr:
        raise ScoreFileError(f"{opened.folder} is at {corpus.sr} Hz now and the score at {sr} Hz; build it at {sr}")
    for number, file in enumerate(opened.files):
        if file.sha256 == source.sha256:
            if source.whole:
                return corpus.whole_recording(number)
            for part in np.flatnonzero(corpus.files == number).tolist():
                if corpus.sources[part].begin == source.begin:
                    return corpus.recordings[part]
    raise ScoreFileError(
        f"{source.name} is no longer in {opened.folder} as it was when the score was made; add it to the corpus again"
    )
