"""Find the recordings of a score: by their hashes, then by their paths.

Files are read and compared, and nothing is written. Of what a score names only regular files that are called like sound
are opened.
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
from smalti.score.score import Score


@dataclass(frozen=True, eq=False)
class LocatedScore:
    """A score and its recordings.

    Attributes
    ----------
    score : of the sources that its grains are cut from; they bear the paths where they were found.
    recordings : one a source, (L,) or (C, L) float32 at the score's rate, as they were given to the mosaic.
    target : (L,) or (C, L) likewise, or None if it was not asked for.
    warnings : sentences for the user.
    """

    score: Score
    recordings: tuple[Floats, ...]
    target: Floats | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Places:
    """The places to look in: beside the score, then those that were named.

    Attributes
    ----------
    beside : the folder of the score. named : files and folders.
    """

    beside: Path
    named: tuple[Path, ...]

    def candidates(self, path: str) -> Iterator[Path]:
        """The places where a file of that path may be."""
        place = Path(path)
        folders = [folder for folder in self.named if folder.is_dir()]
        yield from (place, self.beside / place, *(folder / place.name for folder in (self.beside, *folders)))
        yield from (file for file in self.named if file.name == place.name)

    @cached_property
    def by_content(self) -> dict[str, Path]:
        """Every sound file beside the score and in what was named, by its SHA-256."""
        files = [file for file in self.beside.iterdir() if _is_sound(file)] if self.beside.is_dir() else []
        files += find_audio(self.named) if self.named else []
        return {file_sha256(file): file for file in reversed(files)}

    def find(self, path: str, sha256: str) -> tuple[Path | None, Path | None]:
        """The file that holds what it did, and else one that is called as it was."""
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
    """Find and read what a score is made of.

    Parameters
    ----------
    score : from `smalti.io.score_file.read_score`. score_file : where it was read from.
    places : files and folders to look in, too; a corpus is a folder.
    target : the target's file, if it is not to be looked for. with_target : whether it is needed at all.
    changed : take files that are where they were and hold something else.
    compact : leave out sources that no grain is cut from.

    Raises
    ------
    ScoreFileError : naming every file that is missing, or holds something else.
    AudioFileError, CorpusError : if what was found cannot be read.
    """
    named = tuple(map(Path, places))
    if absent := [place for place in named if not place.exists()]:
        raise ScoreFileError(f"cannot look in {absent[0]}: there is no such file or folder; check the name")
    where, score = Places(Path(score_file).absolute().parent, named), score.compact() if compact else score
    files, missing, other = dict[tuple[str, str], Path](), list[str](), list[str]()
    wanted = {(of.name, of.sha256) for of in score.sources if not of.corpus}
    if with_target and target is None:
        wanted.add((score.target.name, score.target.sha256))
    for name, sha256 in sorted(wanted):
        same, different = where.find(name, sha256)
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
    corpora = {of.corpus: _find_corpus(of.corpus, where, score_file) for of in score.sources if of.corpus}
    recordings = []
    for of in score.sources:
        recordings.append(
            _from_corpus(of, corpora[of.corpus], score.sr) if of.corpus else _read(files[of.name, of.sha256], score.sr)
        )
    sources = [of if of.corpus else replace(of, name=str(files[of.name, of.sha256])) for of in score.sources]
    heard, about = None, score.target
    if with_target:
        place = Path(target) if target is not None else files[about.name, about.sha256]
        heard, about = _target(place, score), replace(about, name=str(place))
    elif (there := next(filter(_is_sound, where.candidates(about.name)), None)) is not None:
        # Not to be heard, but to be named.
        about = replace(about, name=str(there))
    return LocatedScore(
        score=replace(score, sources=tuple(sources), target=about),
        recordings=tuple(recordings),
        target=heard,
        warnings=tuple(f"{name} is not what {score_file} was made of; the sound will be another" for name in other),
    )


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


def _find_corpus(corpus: str, where: Places, score_file: StrPath) -> OpenCorpus:
    name = Path(corpus).name
    named = [place for of in where.named for place in (of, of / name)]
    # A place that was named comes first, so that it can replace another of that name.
    for place in (*named, Path(corpus), where.beside / corpus, where.beside / name):
        if place.name == name and place.is_dir():
            return open_corpus(place)
    raise ScoreFileError(
        f"cannot find the corpus {corpus}, which {score_file} is made of; name where it is with --look-in"
    )


def _from_corpus(source: Source, opened: OpenCorpus, sr: int) -> Floats:
    """A source that lies in a corpus, as it was."""
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
