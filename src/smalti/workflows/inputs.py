"""Targets and sources, read from files and corpora, and checked.

`read_inputs` reads a target and a source. A source consists of sound files (`FileSource`) or lies in a corpus
(`CorpusSource`); `SourceInput` is the interface of both.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from smalti._checks import Floats, ParameterError
from smalti.corpora.query import OpenCorpus, open_corpus
from smalti.corpora.tables import ENDING
from smalti.dsp.channels import n_channels
from smalti.dsp.conditioning import LOUDEST_PEAK, QUIETEST
from smalti.dsp.loudness import integrated_loudness
from smalti.dsp.stft import StftParams
from smalti.errors import AudioFileError, CorpusError
from smalti.grains.corpus import Corpus
from smalti.grains.dictionary import Dictionary
from smalti.grains.filters import Filters, Limit, Tagged, limits_of, unmet, weights_of
from smalti.grains.source import Source
from smalti.io.examples import example_name, fetch_example
from smalti.io.files import StrPath, same_file
from smalti.io.image import Picture
from smalti.io.melody import Melody
from smalti.io.sound_read import Recording, find_audio, read_audio, resample
from smalti.mosaicing.prepare import output_channels
from smalti.mosaicing.search_plan import SearchPlan, plan_of
from smalti.score.score import Target
from smalti.settings import Settings


@dataclass(frozen=True)
class SourceSelection:
    """The selection from the sources: which may be used, and how much; see `smalti.grains.filters`.

    Attributes
    ----------
    filters : which recordings may be used.
    weights : for each pattern, the factor by which recordings that meet it count.
    limits : for each pattern, the largest share of the mosaic, 0 to 1, that recordings that meet it may be.
    """

    filters: Filters = field(default_factory=Filters)
    weights: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


# All recordings, unweighted and unlimited.
NO_CHOICE = SourceSelection()


@dataclass(frozen=True)
class Excerpt:
    """A stretch of the target, in seconds of its file; None is the file's beginning or end."""

    start_s: float | None = None
    end_s: float | None = None

    @property
    def begin_s(self) -> float:
        """The beginning in seconds, 0 for None."""
        return self.start_s or 0.0


WHOLE = Excerpt()


@dataclass(frozen=True, eq=False)
class TargetInput:
    """The target as read from its file.

    Attributes
    ----------
    recording : the excerpt at its own rate. samples : (L,) or (C, L) float32, at the working rate.
    excerpt : the stretch of the file that was read.
    """

    recording: Recording
    samples: Floats
    excerpt: Excerpt = WHOLE

    @property
    def path(self) -> Path:
        """The file, as it was named."""
        return self.recording.path

    @property
    def provenance(self) -> Target:
        """The provenance of the target, for scores."""
        recording = self.recording
        return Target(
            str(recording.path),
            recording.sha256,
            recording.sr,
            recording.channels,
            recording.duration_s,
            self.excerpt.begin_s,
            self.excerpt.end_s,
        )


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where the recordings of a source come from.

    Attributes
    ----------
    files : the sound files that were read. skipped : files that could not be used, and why.
    corpora : the corpora that were opened, with the files of each that pass.
    """

    files: tuple[Source, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    corpora: tuple[OpenCorpus, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """Every file that was named or found, used or not: none may be overwritten."""
        in_corpora = [file.place for corpus in self.corpora for file in corpus.files]
        return [*(Path(source.name) for source in self.files), *map(Path, self.skipped), *in_corpora]

    def infos(self, dictionary: Dictionary) -> list[Tagged]:
        """For each recording of a dictionary of the source, the path and tags that patterns match.

        A file of a corpus has the path that it has in the corpus, as for filters.
        """
        listed = {str(file.place): file for corpus in self.corpora for file in corpus.files}
        return [listed[source.name] if source.corpus else source for source in dictionary.sources]


class SourceInput(Protocol):
    """The source of a mosaic, whether it lies in files or in a corpus."""

    @property
    def provenance(self) -> Provenance:
        """Where its recordings come from."""

    @property
    def channels(self) -> Sequence[int]:
        """The numbers of channels of its recordings, or only the largest."""

    @property
    def samples(self) -> Sequence[Floats]:
        """The recordings that lie in memory, as read: (L,) or (C, L) float32 each, at the working rate."""

    @property
    def material(self) -> list[Floats] | Dictionary:
        """What `smalti.mosaicing.prepare.prepare` makes the dictionary of the job of, by the plan of its search."""

    def n_frames(self, params: StftParams) -> int:
        """The number of its frames on a grid."""


@dataclass(frozen=True, eq=False)
class FileSource:
    """Sound files; see `SourceInput`.

    Attributes
    ----------
    recordings : those that could be read. samples : (L,) or (C, L) float32 each, at the working rate.
    skipped : files that could not be used, and why.
    """

    recordings: tuple[Recording, ...]
    samples: tuple[Floats, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def provenance(self) -> Provenance:
        files = (
            Source(str(recording.path), recording.sha256, recording.sr, recording.channels, recording.duration_s)
            for recording in self.recordings
        )
        return Provenance(tuple(files), self.skipped)

    @property
    def channels(self) -> list[int]:
        return list(map(n_channels, self.samples))

    @property
    def material(self) -> list[Floats]:
        return list(self.samples)

    def n_frames(self, params: StftParams) -> int:
        return sum(params.n_frames(samples.shape[-1]) for samples in self.samples)


@dataclass(frozen=True, eq=False)
class CorpusSource:
    """The recordings of a corpus that pass; see `SourceInput`. All of them stay on the disk."""

    opened: OpenCorpus
    samples = ()

    @property
    def provenance(self) -> Provenance:
        return Provenance(corpora=(self.opened,))

    @property
    def channels(self) -> list[int]:
        return [self.opened.corpus.n_channels]

    @property
    def material(self) -> Corpus:
        return self.opened.corpus

    def n_frames(self, params: StftParams) -> int:
        return self.opened.corpus.n_atoms * self.opened.corpus.params.hop // params.hop


def named_file(name: str) -> Path:
    """The file or folder that a name stands for. An example:NAME is fetched first.

    Raises
    ------
    ValueError : for an empty name.
    ExampleError : if an example is unknown, or cannot be fetched.
    """
    if not name:
        # An empty path would stand for the current folder and everything in it.
        raise ValueError("the name of a recording is empty; name a file, a folder or example:NAME")
    example = example_name(name)
    return Path(name) if example is None else fetch_example(example)


@dataclass(frozen=True, eq=False)
class Inputs:
    """The recordings of a job, all at one rate.

    Attributes
    ----------
    target, source : as read from their files.
    sr : working rate in Hz.
    warnings : sentences for the user.
    choice : the selection from the sources.
    weights : (R,) float32, >= 0, how much each recording of the source counts; None if all count alike.
    limits : the largest shares of the mosaic that some recordings may be.
    melody, picture : the melody to follow and the picture over the activations, or None.
    """

    target: TargetInput
    source: SourceInput
    sr: int
    warnings: tuple[str, ...] = ()
    choice: SourceSelection = NO_CHOICE
    weights: Floats | None = None
    limits: tuple[Limit, ...] = ()
    melody: Melody | None = None
    picture: Picture | None = None

    @property
    def files(self) -> list[Path]:
        """Every recording that was named or found, used or not."""
        return [self.target.path, *self.source.provenance.paths]

    @property
    def is_weighed(self) -> bool:
        """Whether some recordings count more than others, or are limited."""
        return self.weights is not None or bool(self.limits)

    def channels_of(self, settings: Settings) -> int:
        """The number of channels of their mosaic."""
        return output_channels(settings, n_channels(self.target.samples), self.source.channels)

    def plan(self, settings: Settings, params: StftParams | None = None) -> SearchPlan:
        """Whether the source is searched, on the grid of the settings or on `params`."""
        return plan_of(self.source.material, self.sr, settings, params=params, weighed=self.is_weighed)


def read_inputs(
    target: Path,
    sources: Sequence[Path],
    *,
    excerpt: Excerpt = WHOLE,
    sr: int | None = None,
    choice: SourceSelection = NO_CHOICE,
) -> Inputs:
    """Read the target (or its excerpt) and every sound file among `sources`, at `sr` or the target's own rate.

    If the only source is a corpus, it is opened instead, and the target is read at its rate.

    Raises
    ------
    AudioFileError : if the target, or every source, cannot be used; if all sources are silent.
    CorpusError : if the corpus cannot be used, or nothing in it passes.
    ValueError : if the excerpt is no stretch of time, a corpus stands beside other sources, or `sr` is not its own.
    """
    # The ending of a corpus may be left out, as in every command that takes one.
    sources = [
        ended if not source.exists() and (ended := source.with_name(source.name + ENDING)).is_dir() else source
        for source in map(Path, sources)
    ]
    corpora = [source for source in sources if is_corpus(source)]
    if not corpora:
        read, source, warnings = read_files(target, sources, excerpt, sr)
        rate = sr or read.recording.sr
        warnings += _lost_above(rate, read.recording, source.recordings, chosen=sr is not None)
        inputs = Inputs(read, source, rate, tuple(warnings))
        return inputs if choice == NO_CHOICE else _chosen(inputs, source, choice, tuple(sources))
    if len(sources) > 1:
        raise ValueError(f"{corpora[0]} is a corpus, and can be the only source; build the others into it")
    return _read_corpus(target, corpora[0], excerpt, sr, choice)


def read_files(
    target: Path, sources: Sequence[Path], excerpt: Excerpt, sr: int | None
) -> tuple[TargetInput, FileSource, list[str]]:
    """Read target and source files; also returns sentences for the user. Errors are those of `read_inputs`."""
    recording = _read_excerpt(target, excerpt)
    rate = sr or recording.sr
    target_input = TargetInput(recording, _at_rate(recording, rate), excerpt)
    source = _read_all(find_audio(sources), rate)
    readable = source.recordings
    if not any(np.abs(samples).max() > QUIETEST for samples in source.samples):
        names = ", ".join(str(file.path) for file in readable[:3]) + (", ..." if len(readable) > 3 else "")
        raise AudioFileError(f"the source is silent: there is no sound in {names}; choose a source that sounds")
    warnings = [f"{read.path}: {sentence}" for read in (recording, *readable) for sentence in read.warnings]
    warnings += [f"skipped: {reason}" for reason in source.skipped.values()]
    if any(same_file(target, file.path) for file in readable):
        warnings.append(f"{target} is target and source at once: the mosaic will be little else than the target")
    return target_input, source, warnings


def _read_excerpt(target: Path, excerpt: Excerpt) -> Recording:
    return read_audio(target, start_s=excerpt.start_s, end_s=excerpt.end_s)


@dataclass(frozen=True, eq=False)
class _ReadFile:
    """A recording as filters see it."""

    recording: Recording
    sources: tuple[Path, ...]

    @property
    def path(self) -> str:
        return self.recording.path.as_posix()

    @property
    def tags(self) -> tuple[str, ...]:
        """The folders between the named folder and the file, as in a corpus."""
        for source in self.sources:
            if self.recording.path.is_relative_to(source):
                return self.recording.path.relative_to(source).parent.parts
        return ()

    @property
    def duration_s(self) -> float:
        return self.recording.duration_s

    @functools.cached_property
    def loudness_lufs(self) -> float:
        return integrated_loudness(self.recording.samples, self.recording.sr)


def _chosen(inputs: Inputs, source: FileSource, choice: SourceSelection, named: tuple[Path, ...]) -> Inputs:
    """The inputs with the files of `source` that pass. `named` are the files and folders that the user named."""
    infos = [_ReadFile(recording, named) for recording in source.recordings]
    passing = [i for i, info in enumerate(infos) if choice.filters.passes(info)]
    if not passing:
        raise AudioFileError(f"none of the {len(infos)} source files passes {choice.filters}; leave some of that out")
    used = [infos[i] for i in passing]
    return replace(
        inputs,
        source=replace(
            source,
            recordings=tuple(source.recordings[i] for i in passing),
            samples=tuple(source.samples[i] for i in passing),
        ),
        warnings=(*inputs.warnings, *unmet(infos, choice.filters)),
        choice=choice,
        weights=weights_of(used, choice.weights) if choice.weights else None,
        limits=limits_of(used, choice.limits),
    )


def is_corpus(path: StrPath) -> bool:
    """Whether a name is that of a corpus, which need not exist."""
    return Path(path).name.lower().endswith(ENDING)


def _read_corpus(target: Path, name: Path, excerpt: Excerpt, sr: int | None, choice: SourceSelection) -> Inputs:
    opened = open_corpus(name, choice.filters, weights=choice.weights, limits=choice.limits)
    rate = opened.corpus.sr
    if sr not in (None, rate):
        raise ParameterError(
            "sr", f"is {sr} but {name} was built at {rate} Hz", f"leave {{sr}} out, or build it at {sr}", also=("sr",)
        )
    if not opened.corpus.levels.any():
        raise CorpusError(f"the source is silent: no recording of {name} that passes has any sound; choose others")
    recording = _read_excerpt(target, excerpt)
    warnings = [f"{recording.path}: {sentence}" for sentence in recording.warnings]
    warnings += opened.warnings
    if any(same_file(target, file.place) for file in opened.files):
        warnings.append(f"{target} is in {name}, too: the mosaic will be little else than the target")
    return Inputs(
        target=TargetInput(recording, _at_rate(recording, rate), excerpt),
        source=CorpusSource(opened),
        sr=rate,
        warnings=tuple(warnings),
        choice=choice,
        weights=opened.weights if choice.weights else None,
        limits=opened.limits,
    )


def _lost_above(sr: int, target: Recording, sources: Sequence[Recording], *, chosen: bool) -> Iterator[str]:
    """Sentences about audible frequencies that the working rate loses."""
    if sr < target.sr:
        yield f"working at {sr} Hz: what {target.path} has above {sr // 2} Hz is lost"
    finest = max(sources, key=lambda source: source.sr)
    # A rate slightly below the source's loses nothing audible: 44.1 kHz instead of 48.
    if not chosen and sr < 0.9 * finest.sr and sr < 32000:
        lost = f"what {finest.path} has above {sr // 2} Hz is lost"
        yield f"at the {sr} Hz of {target.path}, {lost}; --sr {finest.sr} keeps it"


def _read_all(files: Iterable[Path], sr: int) -> FileSource:
    readable, samples, skipped = list[Recording](), list[Floats](), {}
    fault: AudioFileError | None = None
    for file in files:
        try:
            recording = read_audio(file)
            samples.append(_at_rate(recording, sr))
            readable.append(recording)
        except AudioFileError as error:
            fault, skipped[str(file)] = error, str(error)
    if fault and not readable:
        if len(skipped) == 1:
            raise fault
        raise AudioFileError(f"none of the {len(skipped)} source files can be used; the last: {fault}") from fault
    return FileSource(tuple(readable), tuple(samples), skipped)


def _at_rate(recording: Recording, sr: int) -> Floats:
    """The samples of a recording at `sr`, after refusing those too loud or too short for a spectrum."""
    peak = float(np.abs(recording.samples).max())
    if peak > LOUDEST_PEAK:
        raise AudioFileError(
            f"cannot use {recording.path}: it peaks at {peak:.3g} where 1 is full scale; export it again"
        )
    samples = resample(recording.samples, recording.sr, sr)
    if not samples.size:
        raise AudioFileError(
            f"cannot use {recording.path}: its {recording.duration_s:.2g} s are less than one sample at {sr} Hz; "
            "choose a longer recording or a higher --sr"
        )
    return samples
