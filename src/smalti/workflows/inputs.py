"""From files to what a mosaic is made of: recordings, corpora, melodies and sketches, read and checked."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from smalti._checks import Floats, ParameterError
from smalti.corpora.query import OpenCorpus, open_corpus
from smalti.corpora.tables import ENDING
from smalti.dsp.channels import n_channels
from smalti.dsp.conditioning import LOUDEST, QUIETEST
from smalti.dsp.loudness import integrated_loudness
from smalti.errors import AudioFileError, CorpusError
from smalti.grains.corpus import Corpus
from smalti.grains.dictionary import Dictionary
from smalti.grains.filters import Filters, Limit, RecordingInfo, limits_of, unmet, weights_of
from smalti.io.examples import example_name, fetch_example
from smalti.io.files import StrPath, same_file
from smalti.io.image import Picture, read_picture
from smalti.io.sound_read import Recording, find_audio, read_audio, resample
from smalti.mosaicing.job import Job
from smalti.mosaicing.prepare import output_channels, sketched
from smalti.mosaicing.sketch import Stroke, sketch_of_image, sketch_of_strokes
from smalti.settings import Settings


@dataclass(frozen=True)
class SourceSelection:
    """What of the sources may be used, and how much; see `smalti.grains.filters`.

    Attributes
    ----------
    filters : which recordings. weights : by pattern, how much those count that meet it.
    limits : by pattern, which share of the mosaic, 0 to 1, these may be.
    """

    filters: Filters = field(default_factory=Filters)
    weights: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


# Everything, as much of it as fits.
NO_CHOICE = SourceSelection()


@dataclass(frozen=True)
class Painted:
    """A sketch as it was asked for: a picture, strokes over it, or neither."""

    picture: Picture | None = None
    strokes: tuple[Stroke, ...] = ()

    def onto(self, job: Job, inputs: "Inputs") -> Job:
        """The job with the sketch.

        Raises
        ------
        ValueError : for strokes in which nothing lies, for a picture over a corpus, and where the job's method takes no
            sketch.
        """
        if self.picture is not None:
            if inputs.shelf is not None:
                raise ParameterError(
                    "sketch",
                    f"is {self.picture.path} but {inputs.shelf.folder} is a corpus, whose files have no order for a "
                    f"picture to lie over",
                    "take --paint, with their names",
                )
            pixels = self.picture.pixels
            job = sketched(job, sketch_of_image(pixels, job.dictionary.n_atoms, job.spectrum.shape[1]))
        if self.strokes:
            told = inputs.told(job.dictionary)
            job = sketched(job, sketch_of_strokes(self.strokes, job.dictionary, job.spectrum.shape[1], told=told))
        return job


def read_painted(picture: Path | None, strokes: Sequence[Stroke] = ()) -> Painted:
    """A sketch of the picture in a file and of strokes over it; errors as for `smalti.io.image.read_picture`."""
    return Painted(None if picture is None else read_picture(picture), tuple(strokes))


NOT_PAINTED = Painted()


def named_file(name: str) -> Path:
    """The file or folder that a name stands for, after fetching it if it is example:NAME.

    Raises
    ------
    ValueError : for an empty name.
    ExampleError : if an example is unknown, or cannot be fetched.
    """
    if not name:
        # As a path it would be the current folder, and all that is in it.
        raise ValueError("the name of a recording is empty; name a file, a folder or example:NAME")
    example = example_name(name)
    return Path(name) if example is None else fetch_example(example)


@dataclass(frozen=True, eq=False)
class Inputs:
    """The recordings of a job, all at one rate.

    Attributes
    ----------
    target : as read from its file. sources : those that could be read.
    target_samples, source_samples : (L,) or (C, L) float32, at `sr`.
    sr : working rate in Hz.
    skipped : files that could not be used, and why.
    warnings : sentences for the user.
    weights : how much each source counts, or None for all alike. limits : how much of the mosaic some of them may be.
    choice : what was asked for of that.
    shelf : the corpus that is the source; `sources` and `source_samples` are empty then.
    """

    target: Recording
    sources: tuple[Recording, ...]
    target_samples: Floats
    source_samples: tuple[Floats, ...]
    sr: int
    skipped: Mapping[str, str]
    warnings: tuple[str, ...]
    weights: Floats | None = None
    limits: tuple[Limit, ...] = ()
    choice: SourceSelection = NO_CHOICE
    shelf: OpenCorpus | None = None

    def channels_of(self, settings: Settings) -> int:
        """How many channels a mosaic of them has."""
        sources = [self.shelf.corpus.n_channels] if self.shelf else list(map(n_channels, self.source_samples))
        return output_channels(settings, n_channels(self.target_samples), sources)

    @property
    def files(self) -> list[Path]:
        """Every file that was named or found, used or not."""
        of_corpus = [one.place for one in self.shelf.files] if self.shelf else []
        return [self.target.path, *(source.path for source in self.sources), *map(Path, self.skipped), *of_corpus]

    def told(self, dictionary: Dictionary) -> Sequence[RecordingInfo] | None:
        """What patterns are met by: the files of a corpus, one for each recording; None where names tell all."""
        if self.shelf is None or not isinstance(dictionary, Corpus):
            return None
        return [self.shelf.files[i] for i in dictionary.files]

    @property
    def source(self) -> list[Floats] | Corpus:
        """What `smalti.mosaicing.prepare` takes."""
        return self.shelf.corpus if self.shelf else list(self.source_samples)


def read_inputs(
    target: Path,
    sources: Sequence[Path],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    sr: int | None = None,
    choice: SourceSelection = NO_CHOICE,
) -> Inputs:
    """Read the target (or its excerpt) and every sound file among `sources`, at `sr` or the target's own rate.

    Where the one source is a corpus, it is opened instead, and the target read at its rate.

    Raises
    ------
    AudioFileError : if the target, or every source, cannot be used; if all sources are silent.
    CorpusError : if the corpus cannot be used, or nothing in it passes.
    ValueError : if the excerpt is no stretch of time, a corpus stands beside other sources, or `sr` is not its own.
    """
    # As every command that takes nothing but a corpus has it, the ending may be left out.
    sources = [
        ended if not source.exists() and (ended := source.with_name(source.name + ENDING)).is_dir() else source
        for source in map(Path, sources)
    ]
    corpora = [source for source in sources if is_corpus(source)]
    if corpora:
        if len(sources) > 1:
            raise ValueError(f"{corpora[0]} is a corpus, and can be the only source; build the others into it")
        return _read_corpus(target, corpora[0], start_s=start_s, end_s=end_s, sr=sr, choice=choice)
    recording = read_audio(target, start_s=start_s, end_s=end_s)
    rate = sr or recording.sr
    target_samples = _at_rate(recording, rate)
    readable, source_samples, skipped = _read_all(find_audio(sources), rate)
    if not any(np.abs(samples).max() > QUIETEST for samples in source_samples):
        names = ", ".join(str(source.path) for source in readable[:3]) + (", ..." if len(readable) > 3 else "")
        raise AudioFileError(f"the source is silent: there is no sound in {names}; choose a source that sounds")
    warnings = [f"{read.path}: {said}" for read in (recording, *readable) for said in read.warnings]
    warnings += [f"skipped: {reason}" for reason in skipped.values()]
    warnings += _lost_above(rate, recording, readable, chosen=sr is not None)
    if any(same_file(target, source.path) for source in readable):
        warnings.append(f"{target} is target and source at once: the mosaic will be little else than the target")
    inputs = Inputs(
        target=recording,
        sources=readable,
        target_samples=target_samples,
        source_samples=source_samples,
        sr=rate,
        skipped=skipped,
        warnings=tuple(warnings),
    )
    return inputs if choice == NO_CHOICE else _chosen(inputs, choice, tuple(sources))


@dataclass(frozen=True, eq=False)
class _Told:
    """What filters ask of a recording that was read."""

    recording: Recording
    sources: tuple[Path, ...]

    @property
    def path(self) -> str:
        return self.recording.path.as_posix()

    @property
    def tags(self) -> tuple[str, ...]:
        """The folders between the one that was named and the file, as in a corpus."""
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


def _chosen(inputs: Inputs, choice: SourceSelection, sources: tuple[Path, ...]) -> Inputs:
    """The inputs with those sources alone that pass; `sources` are as they were named."""
    told = [_Told(source, sources) for source in inputs.sources]
    passing = [i for i, one in enumerate(told) if choice.filters.passes(one)]
    if not passing:
        raise AudioFileError(f"none of the {len(told)} source files passes {choice.filters}; leave some of that out")
    used = [told[i] for i in passing]
    return replace(
        inputs,
        sources=tuple(inputs.sources[i] for i in passing),
        source_samples=tuple(inputs.source_samples[i] for i in passing),
        weights=weights_of(used, choice.weights) if choice.weights else None,
        limits=limits_of(used, choice.limits),
        choice=choice,
        warnings=(*inputs.warnings, *unmet(told, choice.filters)),
    )


def refuse_corpora(sources: Iterable[Path]) -> None:
    """Raise ValueError for a corpus where recordings are wanted."""
    for source in sources:
        if is_corpus(source):
            raise ValueError(f"{source} is a corpus; name the recordings or folders that it was built from")


def is_corpus(path: StrPath) -> bool:
    """Whether a source is a corpus: by its name, which may be there or not."""
    return Path(path).name.lower().endswith(ENDING)


def _read_corpus(
    target: Path, source: Path, *, start_s: float | None, end_s: float | None, sr: int | None, choice: SourceSelection
) -> Inputs:
    shelf = open_corpus(source, choice.filters, weights=choice.weights, limits=choice.limits)
    rate = shelf.corpus.sr
    if sr not in (None, rate):
        raise ParameterError(
            "sr", f"is {sr} but {source} was built at {rate} Hz", f"leave --sr out, or build it at {sr}"
        )
    if not shelf.corpus.levels.any():
        raise CorpusError(f"the source is silent: no recording of {source} that passes has any sound; choose others")
    recording = read_audio(target, start_s=start_s, end_s=end_s)
    warnings = [f"{recording.path}: {said}" for said in recording.warnings]
    warnings += shelf.warnings
    if any(same_file(target, one.place) for one in shelf.files):
        warnings.append(f"{target} is in {source}, too: the mosaic will be little else than the target")
    return Inputs(
        target=recording,
        sources=(),
        target_samples=_at_rate(recording, rate),
        source_samples=(),
        sr=rate,
        skipped={},
        warnings=tuple(warnings),
        weights=shelf.weights if choice.weights else None,
        limits=shelf.limits,
        choice=choice,
        shelf=shelf,
    )


def _lost_above(sr: int, target: Recording, sources: Sequence[Recording], *, chosen: bool) -> Iterator[str]:
    """What the working rate leaves out that somebody may miss."""
    if sr < target.sr:
        yield f"working at {sr} Hz: what {target.path} has above {sr // 2} Hz is lost"
    finest = max(sources, key=lambda source: source.sr)
    # A little less than the source has is no loss that is heard: 44.1 kHz of 48.
    if not chosen and sr < 0.9 * finest.sr and sr < 32000:
        lost = f"what {finest.path} has above {sr // 2} Hz is lost"
        yield f"at the {sr} Hz of {target.path}, {lost}; --sr {finest.sr} keeps it"


def _read_all(files: Iterable[Path], sr: int) -> tuple[tuple[Recording, ...], tuple[Floats, ...], dict[str, str]]:
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
    return tuple(readable), tuple(samples), skipped


def _at_rate(recording: Recording, sr: int) -> Floats:
    """The samples of a recording at `sr`, after refusing what has no spectrum."""
    peak = float(np.abs(recording.samples).max())
    if peak > LOUDEST:
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
