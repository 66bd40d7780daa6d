"""Targets and sources, read from files and corpora, and checked.

`read_inputs` reads a target and a source. A source consists of sound files (`FileSource`) or lies in a corpus
(`CorpusSource`); `SourceInput` is the interface of both.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse

from smalti._checks import Floats, ParameterError
from smalti.corpora.query import OpenCorpus, open_corpus
from smalti.corpora.tables import ENDING
from smalti.dsp.channels import n_channels, to_mono
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
from smalti.io.sound_read import Recording, find_audio, read_audio, resample
from smalti.mosaicing.mosaic import Mosaic
from smalti.mosaicing.prepare import output_channels
from smalti.mosaicing.search_plan import SearchPlan, grid_of
from smalti.score.score import Target
from smalti.settings import Settings

# The measures compare a mosaic with at most so many seconds of a corpus, from the recordings that sound most in it.
MOST_COMPARED_S = 600.0


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


class SourcePicture(NamedTuple):
    """The data of a source that figures show.

    Attributes
    ----------
    samples : (L,) float array. H : (K, N) scipy.sparse CSC, how loud each source frame sounds in each target frame.
    boundaries : the first frame of every recording but the first. rows : the label of the axis of source frames.
    """

    samples: Floats
    H: scipy.sparse.csc_array
    boundaries: tuple[int, ...]
    rows: str


class SourceInput(Protocol):
    """The source of a mosaic, whether it lies in files or in a corpus."""

    @property
    def channels(self) -> Sequence[int]:
        """The numbers of channels of its recordings, or only the largest."""

    @property
    def files(self) -> list[Path]:
        """Every file that was named or found, used or not: none may be overwritten."""

    @property
    def skipped(self) -> Mapping[str, str]:
        """Files that could not be used, and why."""

    @property
    def in_memory(self) -> bool:
        """Whether its sound and features lie in memory rather than being mapped from a disk."""

    @property
    def weights(self) -> Floats | None:
        """The factors by which recordings count, (R,), or None if all count alike."""

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The largest shares of the mosaic that some recordings may be."""

    @property
    def asks_for_search(self) -> bool:
        """Whether it is to be searched even if it is short."""

    @property
    def material(self) -> list[Floats] | Corpus:
        """The source in the form that `smalti.mosaicing.prepare.prepare` takes."""

    @property
    def provenance(self) -> tuple[Source, ...] | None:
        """The provenance of each recording, in the order of `material`; None if the material holds it."""

    def n_frames(self, params: StftParams) -> int:
        """The number of its frames on a grid."""

    def infos(self, dictionary: Dictionary) -> Sequence[Tagged] | None:
        """For each recording of the dictionary, the names and tags that strokes match; None for the dictionary's."""

    def check_picture(self, picture: Picture) -> None:
        """Raise ValueError if a picture cannot lie over its time."""

    def unsearched(self, plan: SearchPlan, needed: int) -> list[str]:
        """Sentences for the user if all frames are considered, which takes `needed` bytes."""

    def picture(self, mosaic: Mosaic) -> SourcePicture:
        """The data that figures show."""

    def compared_with(self, mosaic: Mosaic) -> list[Floats]:
        """The recordings that the measures compare a mosaic with."""

    def describe(self, mosaic: Mosaic) -> dict[str, Any]:
        """Its entries of the report: "sources" and "corpus"."""


@dataclass(frozen=True, eq=False)
class FileSource:
    """Sound files; see `SourceInput`.

    Attributes
    ----------
    recordings : those that could be read. samples : (L,) or (C, L) float32 each, at the working rate.
    """

    recordings: tuple[Recording, ...]
    samples: tuple[Floats, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    weights: Floats | None = None
    limits: tuple[Limit, ...] = ()
    in_memory = True

    @property
    def channels(self) -> list[int]:
        return list(map(n_channels, self.samples))

    @property
    def files(self) -> list[Path]:
        return [*(recording.path for recording in self.recordings), *map(Path, self.skipped)]

    @property
    def asks_for_search(self) -> bool:
        return self.weights is not None or bool(self.limits)

    @property
    def material(self) -> list[Floats]:
        return list(self.samples)

    @property
    def provenance(self) -> tuple[Source, ...]:
        return tuple(
            Source(str(recording.path), recording.sha256, recording.sr, recording.channels, recording.duration_s)
            for recording in self.recordings
        )

    def n_frames(self, params: StftParams) -> int:
        return sum(params.n_frames(samples.shape[-1]) for samples in self.samples)

    def infos(self, dictionary: Dictionary) -> None:
        return None

    def check_picture(self, picture: Picture) -> None:
        """Accept any picture: files follow each other in the order in which they were named."""

    def unsearched(self, plan: SearchPlan, needed: int) -> list[str]:
        return []

    def picture(self, mosaic: Mosaic) -> SourcePicture:
        samples, rows = np.concatenate(list(map(to_mono, self.samples))), "Source time (s)"
        H, subset, kept = mosaic.contributions, mosaic.dictionary, mosaic.parts[0].recordings
        if kept is None:
            return SourcePicture(samples, H, subset.borders, rows)
        dictionary = mosaic.job.dictionary
        # The files were searched. They are drawn in their own time, since sketches lie over that time too.
        firsts = np.searchsorted(dictionary.recording_ids, kept[subset.recording_ids])
        entries = H.tocoo()
        at = (firsts + subset.centres // subset.params.hop)[entries.row]
        in_time = scipy.sparse.csc_array((entries.data, (at, entries.col)), shape=(dictionary.n_atoms, H.shape[1]))
        return SourcePicture(samples, in_time, dictionary.borders, rows)

    def compared_with(self, mosaic: Mosaic) -> list[Floats]:
        return [*self.samples, *_shifted_grains(mosaic)]

    def describe(self, mosaic: Mosaic) -> dict[str, Any]:
        return {"sources": list(map(describe_recording, self.recordings)), "corpus": None}


@dataclass(frozen=True, eq=False)
class CorpusSource:
    """The recordings of a corpus that pass; see `SourceInput`."""

    opened: OpenCorpus
    weights: Floats | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    in_memory = False
    asks_for_search = True
    provenance = None

    @property
    def material(self) -> Corpus:
        return self.opened.corpus

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self.opened.limits

    @property
    def channels(self) -> list[int]:
        return [self.material.n_channels]

    @property
    def files(self) -> list[Path]:
        return [file.place for file in self.opened.files]

    def n_frames(self, params: StftParams) -> int:
        return self.material.n_atoms * self.material.params.hop // params.hop

    def infos(self, dictionary: Dictionary) -> Sequence[Tagged] | None:
        return [self.opened.files[i] for i in dictionary.files] if isinstance(dictionary, Corpus) else None

    def check_picture(self, picture: Picture) -> None:
        raise ParameterError(
            "sketch",
            f"is {picture.path} but {self.opened.folder} is a corpus, whose files have no order for a picture to lie "
            "over",
            "take --paint, with their names",
        )

    def unsearched(self, plan: SearchPlan, needed: int) -> list[str]:
        if self.weights is not None or self.limits:
            # `prepare` refuses these for the same reason.
            return []
        return [f"all of {self.opened.folder} is considered, which takes {needed / 1e9:.1f} GB, as {plan.reason}"]

    def picture(self, mosaic: Mosaic) -> SourcePicture:
        """The parts of it that sound, in the order of its frames."""
        dictionary = mosaic.dictionary
        half, parts = dictionary.params.hop // 2, []
        for number, recording in enumerate(map(to_mono, dictionary.recordings)):
            atoms = np.flatnonzero(dictionary.recording_ids == number)
            for stretch in np.split(atoms, np.flatnonzero(np.diff(dictionary.stretches[atoms])) + 1):
                first, last = int(dictionary.centres[stretch[0]]), int(dictionary.centres[stretch[-1]])
                parts.append(recording[max(0, first - half) : last + half])
        rows = "What sounds of the source (s)"
        return SourcePicture(np.concatenate(parts), mosaic.contributions, dictionary.borders, rows)

    def compared_with(self, mosaic: Mosaic) -> list[Floats]:
        """The recordings that sound most, up to `MOST_COMPARED_S`; only the shifted grains if there are any."""
        if mosaic.transposition is not None and mosaic.transposition.n_voices:
            return _shifted_grains(mosaic)
        dictionary = mosaic.dictionary
        sounding = np.asarray((mosaic.activations > 0).sum(axis=1)).ravel()
        share = np.bincount(dictionary.recording_ids, weights=sounding, minlength=len(dictionary.recordings))
        out, left = list[Floats](), round(MOST_COMPARED_S * mosaic.sr)
        for number in np.argsort(-share, kind="stable"):
            if left > 0:
                out.append(dictionary.recordings[number][..., :left])
                left -= out[-1].shape[-1]
        return out

    def describe(self, mosaic: Mosaic) -> dict[str, Any]:
        """The corpus, and for how many seconds each of its files sounds, the most first."""
        dictionary, files = mosaic.dictionary, {str(file.place): file for file in self.opened.files}
        gains = np.asarray((mosaic.activations > 0).sum(axis=1)).ravel()
        seconds = dict[str, float]()
        for atom in np.flatnonzero(gains):
            name = dictionary.names[dictionary.recording_ids[atom]]
            seconds[name] = seconds.get(name, 0.0) + float(gains[atom]) * dictionary.hop_s
        used = [
            {
                "path": name,
                "sha256": files[name].sha256,
                "licence": files[name].licence,
                "tags": list(files[name].tags),
                "sounds_s": round(time, 4),
            }
            for name, time in sorted(seconds.items(), key=lambda item: -item[1])
        ]
        about = {
            "path": str(self.opened.folder),
            "sr": self.material.sr,
            "files": len(self.opened.files),
            "frames": self.material.n_atoms,
            "index": self.material.index is not None,
            "used": used,
        }
        return {"sources": [], "corpus": about}


def _shifted_grains(mosaic: Mosaic) -> list[Floats]:
    """The grains of a mosaic as they were shifted, which alone give it its timbre; none without transposition."""
    if mosaic.transposition is None or not mosaic.transposition.n_voices:
        return []
    return [part.grains.dictionary.recordings[0] for part in mosaic.parts if part.grains is not None]


def describe_recording(recording: Recording) -> dict[str, Any]:
    """The provenance of a recording, for reports."""
    return {
        "path": str(recording.path),
        "sha256": recording.sha256,
        "sr": recording.sr,
        "channels": recording.channels,
        "duration_s": recording.duration_s,
    }


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
    """

    target: TargetInput
    source: SourceInput
    sr: int
    warnings: tuple[str, ...] = ()
    choice: SourceSelection = NO_CHOICE

    @property
    def files(self) -> list[Path]:
        """Every file that was named or found, used or not."""
        return [self.target.path, *self.source.files]

    def channels_of(self, settings: Settings) -> int:
        """The number of channels of their mosaic."""
        return output_channels(settings, n_channels(self.target.samples), self.source.channels)

    def plan(self, settings: Settings, params: StftParams | None = None) -> SearchPlan:
        """Whether the source is searched, on the grid of the settings or on `params`."""
        params = params or grid_of(settings, self.sr)
        n_atoms, forced = self.source.n_frames(params), self.source.asks_for_search
        return SearchPlan.of(n_atoms, settings, params, self.sr, forced=forced)


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
        if choice != NO_CHOICE:
            source, unmet_ = _chosen(source, choice, tuple(sources))
            warnings += unmet_
        return Inputs(read, source, sr or read.recording.sr, tuple(warnings), choice)
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
    warnings += _lost_above(rate, recording, readable, chosen=sr is not None)
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


def _chosen(source: FileSource, choice: SourceSelection, named: tuple[Path, ...]) -> tuple[FileSource, Sequence[str]]:
    """The files that pass, and sentences for the user. `named` are the files and folders that the user named."""
    infos = [_ReadFile(recording, named) for recording in source.recordings]
    passing = [i for i, info in enumerate(infos) if choice.filters.passes(info)]
    if not passing:
        raise AudioFileError(f"none of the {len(infos)} source files passes {choice.filters}; leave some of that out")
    used = [infos[i] for i in passing]
    chosen = replace(
        source,
        recordings=tuple(source.recordings[i] for i in passing),
        samples=tuple(source.samples[i] for i in passing),
        weights=weights_of(used, choice.weights) if choice.weights else None,
        limits=limits_of(used, choice.limits),
    )
    return chosen, unmet(infos, choice.filters)


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
    source = CorpusSource(opened, opened.weights if choice.weights else None)
    return Inputs(TargetInput(recording, _at_rate(recording, rate), excerpt), source, rate, tuple(warnings), choice)


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
