"""From files to what a mosaic is made of: recordings, corpora, melodies and sketches, read and checked."""

import functools
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from smalti._checks import Floats
from smalti.audio import (
    Recording,
    StrPath,
    find_audio,
    read_audio,
    resample,
    same_file,
)
from smalti.channels import n_channels
from smalti.choosing import Filters, Limit, Told, limits_of, unmet, weights_of
from smalti.cleaning import LOUDEST, QUIETEST
from smalti.corpus import Corpus
from smalti.dictionary import Dictionary
from smalti.errors import AudioFileError, CorpusError, PitchFileError
from smalti.jobs import Job
from smalti.lending import Shelf, open_corpus
from smalti.levels import integrated_loudness
from smalti.mosaicing import output_channels, sketched
from smalti.pictures import Picture, read_picture
from smalti.pitch import HIGHEST_HZ, LOWEST_HZ
from smalti.search import EXACT_BELOW, unpacked
from smalti.settings import Settings
from smalti.shelves import ENDING
from smalti.sketching import Stroke, sketch_of_image, sketch_of_strokes


@dataclass(frozen=True)
class Choice:
    """What of the sources may be used, and how much; see `smalti.choosing`.

    Attributes
    ----------
    filters : which recordings. weights : by pattern, how much those count that meet it.
    limits : by pattern, which share of the mosaic, 0 to 1, these may be.
    """

    filters: Filters = field(default_factory=Filters)
    weights: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


# Everything, as much of it as fits.
NO_CHOICE = Choice()


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
                raise ValueError(
                    f"sketch is {self.picture.path} but {inputs.shelf.folder} is a corpus, whose files have no "
                    "order for a picture to lie over; take --paint, with their names"
                )
            pixels = self.picture.pixels
            job = sketched(job, sketch_of_image(pixels, job.dictionary.n_atoms, job.spectrum.shape[1]))
        if self.strokes:
            told = inputs.told(job.dictionary)
            job = sketched(job, sketch_of_strokes(self.strokes, job.dictionary, job.spectrum.shape[1], told=told))
        return job


def read_painted(picture: Path | None, strokes: Sequence[Stroke] = ()) -> Painted:
    """A sketch of the picture in a file and of strokes over it; errors as for `smalti.pictures.read_picture`."""
    return Painted(None if picture is None else read_picture(picture), tuple(strokes))


NOT_PAINTED = Painted()


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
    choice: Choice = NO_CHOICE
    shelf: Shelf | None = None

    def channels_of(self, settings: Settings) -> int:
        """How many channels a mosaic of them has."""
        sources = [self.shelf.corpus.channels] if self.shelf else list(map(n_channels, self.source_samples))
        return output_channels(settings, n_channels(self.target_samples), sources)

    @property
    def files(self) -> list[Path]:
        """Every file that was named or found, used or not."""
        of_corpus = [one.place for one in self.shelf.files] if self.shelf else []
        return [self.target.path, *(source.path for source in self.sources), *map(Path, self.skipped), *of_corpus]

    def told(self, dictionary: Dictionary) -> Sequence[Told] | None:
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
    choice: Choice = NO_CHOICE,
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


def _chosen(inputs: Inputs, choice: Choice, sources: tuple[Path, ...]) -> Inputs:
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
    target: Path, source: Path, *, start_s: float | None, end_s: float | None, sr: int | None, choice: Choice
) -> Inputs:
    shelf = open_corpus(source, choice.filters, weights=choice.weights, limits=choice.limits)
    rate = shelf.corpus.sr
    if sr not in (None, rate):
        raise ValueError(f"sr is {sr} but {source} was built at {rate} Hz; leave --sr out, or build it at {sr}")
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
        shelf=replace(shelf, corpus=_with_index(shelf)),
    )


def _with_index(shelf: Shelf) -> Corpus:
    """The corpus with its search index, where there is one of all its frames and it is worth reading."""
    # Without faiss, looking at all finds as much, and takes longer.
    if shelf.index is None or shelf.corpus.n_atoms <= EXACT_BELOW or find_spec("faiss") is None:
        return shelf.corpus
    data = shelf.index.read()
    return shelf.corpus if data is None else replace(shelf.corpus, index=unpacked(np.frombuffer(data, np.uint8)))


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


@dataclass(frozen=True, eq=False)
class Melody:
    """A melody that was written down.

    Attributes
    ----------
    path, sha256 : of its file.
    times_s : (P,) float64, never falling, where a pitch begins. hz : (P,) float64, that pitch, and 0 for none.
    """

    path: Path
    sha256: str
    times_s: Floats
    hz: Floats

    def on_grid(self, n_frames: int, hop_s: float, *, start_s: float = 0.0) -> Floats:
        """(n_frames,) Hz: each frame has the pitch that began last; before the first there is none.

        Parameters
        ----------
        n_frames, hop_s : the grid. start_s : the time of its first frame.
        """
        # A pitch that begins on a frame begins with it, however that time was rounded.
        at = start_s + np.arange(n_frames) * hop_s + 1e-6
        began = np.searchsorted(self.times_s, at, side="right")
        return np.concatenate([[0.0], self.hz])[began]


def read_melody(file: Path) -> Melody:
    """Read a melody from a text file with a line for each pitch: seconds and hertz, as pitch trackers write them.

    Between the two stands a comma, a semicolon, a tab or a space; what follows them is left alone. No pitch is 0, less
    than 0, NaN or nothing. A line that begins with # is a comment, the first line may be a heading, and with
    semicolons or tabs numbers may have decimal commas.

    Raises
    ------
    PitchFileError : if it cannot be read, names the line that is no such pair, or one out of order or range.
    """
    try:
        if file.exists() and not file.is_file():
            raise PitchFileError(f"cannot read {file}: it is no file; name a text file of seconds and hertz")
        data = file.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise PitchFileError(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise PitchFileError(f"cannot read {file}: it is no text; save it as CSV, in UTF-8") from error
    times, pitches, headed = list[float](), list[float](), False
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0]
        if not said.strip():
            continue
        fields = _fields(said)
        if not times and not headed and _number(fields[0]) is None:
            headed = True
            continue
        try:
            if (pair := _pair(fields)) is None:
                got = said.strip() if len(said) <= 40 else said.strip()[:40] + "..."
                raise ValueError(f"{got!r} is no pair of seconds and hertz; write them as '0.5, 440'")
            time_s, hz = pair
            if times and time_s < times[-1]:
                raise ValueError(f"{time_s:g} s comes after {times[-1]:g} s; sort the lines by time")
        except ValueError as error:
            raise PitchFileError(f"cannot read {file}: line {number}: {error}") from error
        times.append(time_s)
        pitches.append(hz)
    if not any(pitches):
        raise PitchFileError(f"cannot read {file}: it holds no pitch; write lines of seconds and hertz, as '0.5, 440'")
    return Melody(file, hashlib.sha256(data).hexdigest(), np.array(times), np.array(pitches))


def _fields(line: str) -> list[str]:
    mark = next((mark for mark in ";\t," if mark in line), None)
    fields = [field.strip().strip('"').strip() for field in line.split(mark)]
    return fields if mark == "," else [field.replace(",", ".") for field in fields]


def _number(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


def _pair(fields: list[str]) -> tuple[float, float] | None:
    """Seconds and hertz, 0 for no pitch, of a line; None if it has other things."""
    time_s, hz = _number(fields[0]), None
    if len(fields) > 1:
        hz = _number(fields[1]) if fields[1] else 0.0
    if time_s is None or hz is None:
        return None
    if not (math.isfinite(time_s) and time_s >= 0):
        raise ValueError(f"{time_s:g} is no time; write seconds from the beginning of the target")
    if math.isnan(hz) or hz <= 0:
        return time_s, 0.0
    if not LOWEST_HZ <= hz <= HIGHEST_HZ:
        raise ValueError(f"{hz:g} Hz is out of range; write {LOWEST_HZ:g} to {HIGHEST_HZ:g} Hz, or 0 for no pitch")
    return time_s, hz
