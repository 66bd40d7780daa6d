"""From files to files: what `smalti make` does, in parts, so that whoever calls can show progress between them.

`read_inputs` reads and resamples, `read_melody` reads what was written down, `check_outputs` refuses early what could
not be written at the end, `write_outputs` writes sound, pictures and report, each whole or not at all.
"""

import functools
import hashlib
import importlib
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import scipy.sparse

from smalti._checks import Floats
from smalti.audio import (
    Recording,
    StrPath,
    check_format,
    check_writable,
    encode_audio,
    find_audio,
    read_audio,
    resample,
    same_file,
    write_atomic,
)
from smalti.channels import mixed_down, n_channels
from smalti.choosing import Filters, Limit, Told, limits_of, unmet, weights_of
from smalti.cleaning import LOUDEST, QUIETEST
from smalti.constraints import segment_slices
from smalti.corpus import Corpus
from smalti.curves import Curve
from smalti.dictionary import Dictionary
from smalti.errors import AudioFileError, CorpusError, PitchFileError, SmaltiError
from smalti.jobs import Job
from smalti.lending import Shelf, open_corpus
from smalti.levels import integrated_loudness
from smalti.mosaicing import Mosaic, Part, looked_up, output_channels, sketched
from smalti.pictures import Picture, read_picture
from smalti.pitch import HIGHEST_HZ, LOWEST_HZ, track_pitch
from smalti.score import Score, Source, Target
from smalti.scorefile import score_json
from smalti.search import EXACT_BELOW, unpacked
from smalti.settings import Settings
from smalti.shelves import ENDING
from smalti.sketching import Stroke, sketch_of_image, sketch_of_strokes
from smalti.stemfiles import check_stems, write_stems
from smalti.stft import StftParams
from smalti.transposing import Transposition

FIGURES = ("spectrograms", "activations", "similarity", "divergence")
# One more where the source is brought to the target's pitches.
PITCH_FIGURE = "pitch"


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


def figures_of(settings: Settings) -> tuple[str, ...]:
    """The names of the pictures that a mosaic so made may have.

    Whether it has the last one is not known before the work: with transpose "auto" the source may be left as it is.
    """
    return FIGURES if settings.transpose == "off" else (*FIGURES, PITCH_FIGURE)


@dataclass(frozen=True)
class Outputs:
    """Where the results go. `figures` is a folder, made if it is not there; None leaves that result out.

    `drawn` names the pictures that may be drawn, see `figures_of`. `stems` is a folder, too, and `stems_by` says what
    has one; see `smalti.stemfiles`.
    """

    audio: Path
    subtype: str | None = None
    figures: Path | None = None
    report: Path | None = None
    overwrite: bool = False
    drawn: tuple[str, ...] = FIGURES
    score: Path | None = None
    stems: Path | None = None
    stems_by: str = "file"

    def figure(self, name: str) -> Path:
        """The file of one figure."""
        assert self.figures is not None
        return self.figures / f"{name}.png"

    def files(self) -> list[Path]:
        """Every file that will, or may, be written."""
        figures = [self.figure(name) for name in self.drawn] if self.figures else []
        return [self.audio, *figures, *(file for file in (self.report, self.score) if file is not None)]


def check_outputs(outputs: Outputs, inputs: Iterable[Path], *, sr: int = 44100, channels: int = 1) -> None:
    """Refuse, before any work, what could not or must not be written.

    Parameters
    ----------
    outputs : where the results are to go.
    inputs : files that they must not replace.
    sr, channels : sample rate of the sound in Hz, and its channels; until they are known, 44.1 kHz and one, which suit
        every format.

    Raises
    ------
    ValueError : if a result would replace one of `inputs` or another result, or the sound's name has no known ending,
        or its format no such subtype, sample rate or number of channels.
    AudioFileError : if a file exists and may not be overwritten, or its folder is missing or not writable.
    MissingExtraError : if figures are wanted and matplotlib is not installed.
    """
    files = outputs.files()
    check_format(outputs.audio.suffix, sr, subtype=outputs.subtype, channels=channels)
    inputs = list(inputs)
    for i, file in enumerate(files):
        for source in inputs:
            if same_file(file, source):
                raise ValueError(f"{file} is an input of this mosaic and would be overwritten; choose another name")
        if any(same_file(file, other) for other in files[:i]):
            raise ValueError(f"{file} is named for two results; choose another name for one of them")
    if outputs.figures is not None:
        if not outputs.figures.exists():
            # It will be made; nothing but the figures may count on that, as they come last.
            figures = [outputs.figure(name) for name in outputs.drawn]
            files = [outputs.figures, *(file for file in files if file not in figures)]
        elif not outputs.figures.is_dir():
            raise AudioFileError(f"cannot write figures into {outputs.figures}: it is not a folder; name another")
        # Asked for now, so that a missing matplotlib is found before the work and not after it.
        importlib.import_module("smalti.plots")
    if outputs.stems is not None:
        check_stems(outputs.stems, overwrite=outputs.overwrite)
    for file in files:
        check_writable(file, overwrite=outputs.overwrite)


# Rows of the stacked views at most, and how many copies of them there are while they are stacked.
N_VIEW_BANDS, VIEW_COPIES = 620, 5


def memory_needed(
    n_atoms: int,
    n_frames: int,
    settings: Settings,
    params: StftParams,
    *,
    channels: int = 1,
    sr: int = 22050,
    painted: bool = False,
) -> int:
    """Bytes that a job takes where it takes most, estimated from above.

    Parameters
    ----------
    n_atoms, n_frames : source and target frames.
    settings, params : of the job.
    channels, sr : of the mosaic. painted : whether it has a sketch.
    """
    # How many float32 arrays of each shape are alive at once where a job needs most, as measured. Activations that no
    # rule thins out need most at the end, in becoming a sparse matrix that is not sparse.
    frames = 18 if settings.phase == "griffin-lim" else 12
    # The meter works in double precision, and on twice the samples where these are slower than 16 kHz.
    frames = max(frames, 16 if sr < 16000 else 11)
    if settings.leaks:
        # Measured at 22 050 Hz whatever the rate.
        frames = max(frames, 4 + math.ceil(14 * 22050 / sr))
    numbers = params.n_bins * (6 * n_atoms + frames * n_frames)
    if channels > 1:
        # The samples of all channels, their frames, of which those of one stay, and the sums of grains of all.
        numbers += params.n_bins * ((3 + 2 * channels) * n_atoms + (8 + 4 * channels) * n_frames)
    if settings.compare == "views":
        # Views have their own windows, and so as many bands whatever the grid is.
        numbers += VIEW_COPIES * N_VIEW_BANDS * (n_atoms + n_frames)
    if settings.transpose != "off":
        # Pitch is tracked at up to 48 kHz, by way of spectra.
        numbers += 8 * max(1, 48000 // sr) * params.hop * (min(n_atoms, 30 * sr // params.hop) + n_frames)
        # The source at every note, and its activations in every voice. What "auto" will decide is not known yet; most
        # often one melody is followed.
        voices, notes = {"chords": (settings.voices, 36)}.get(str(settings.transpose), (1, 24))
        if isinstance(settings.transpose, Curve):
            notes = int(settings.transpose.most - settings.transpose.least) + 2
        elif isinstance(settings.transpose, tuple):
            voices = notes = int(settings.transpose[1] - settings.transpose[0]) + 1
        numbers += notes * N_VIEW_BANDS * n_atoms
        n_atoms *= voices
    if settings.choose:
        # The start as it was drawn, in double precision, and the contributions that grains are read from.
        numbers += 4 * n_atoms * n_frames
    if settings.method == "pursuit":
        # Blocks of 256 frames are solved together, each with atoms of its own, in double precision.
        numbers += 5 * params.n_bins * min(256, n_frames) * min(settings.constant_layers or n_atoms, n_atoms)
        numbers += 5 * n_atoms * n_frames
    else:
        # A sketch is written out, times the norms of atoms, and as what is forbidden.
        numbers += ((7 if settings.layers else 12) + 3 * painted) * n_atoms * n_frames
    return 4 * numbers


def memory_searched(n_atoms: int, n_frames: int, params: StftParams, *, channels: int = 1, held: bool = True) -> int:
    """Bytes that a job takes where its source is searched, estimated from above.

    Parameters
    ----------
    n_atoms, n_frames : source and target frames. params : of the job. channels : of the mosaic.
    held : whether the source's looks and sound lie in memory, or are mapped from a disk.
    """
    # Keys, levels and what tells which atom is where; the looks, in half precision, and the sound.
    of_source = 300 + (2 * N_VIEW_BANDS + 8 * channels * params.hop if held else 0)
    # The target's looks, what is missing of them, hits and lists; then the spectra of target, grains and mosaic.
    of_target = 6 * 4 * N_VIEW_BANDS + 16 * 256 + 8192 + 4 * params.n_bins * (18 + 8 * channels)
    return n_atoms * of_source + n_frames * of_target


def check_memory(inputs: Inputs, settings: Settings, params: StftParams, *, painted: bool = False) -> int:
    """The bytes that a job takes, after refusing one that cannot fit rather than bring the machine to its knees.

    `painted` is whether it has a sketch.

    Raises
    ------
    SmaltiError : if it would need more memory than the machine has.
    """
    n_frames = params.n_frames(inputs.target_samples.shape[-1])
    n_atoms = sum(params.n_frames(samples.shape[-1]) for samples in inputs.source_samples)
    if inputs.shelf:
        corpus = inputs.shelf.corpus
        n_atoms = corpus.n_atoms * corpus.params.hop // params.hop
    channels = inputs.channels_of(settings)
    told_apart = inputs.weights is not None or bool(inputs.limits)
    if looked_up(n_atoms, settings, params, inputs.sr, asked=told_apart or inputs.shelf is not None):
        needed = memory_searched(n_atoms, n_frames, params, channels=channels, held=inputs.shelf is None)
    else:
        needed = memory_needed(n_atoms, n_frames, settings, params, channels=channels, sr=inputs.sr, painted=painted)
    _check_fits(
        needed,
        f"{n_atoms} source frames by {n_frames} target frames",
        "take a shorter target (--start, --end), less source, or a longer --hop",
    )
    return needed


def check_score_memory(score: Score) -> None:
    """Refuse a score whose sound would need more memory than the machine has; errors as for `check_memory`."""
    needed = memory_searched(len(score.gains), score.n_frames, score.params, channels=score.channels)
    what = f"{len(score)} grains in {score.length / score.sr:.0f} s"
    _check_fits(needed, what, "make it of a shorter target")


def _check_fits(needed: int, what: str, instead: str) -> None:
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return
    if needed > 0.9 * available:
        raise SmaltiError(
            f"{what} need about {needed / 1e9:.0f} GB of memory and this machine has {available / 1e9:.0f}; {instead}"
        )


def score_of_files(inputs: Inputs, mosaic: Mosaic, *, start_s: float | None, end_s: float | None) -> Score:
    """The score of a mosaic that was made of files, which its sources and its target then tell of."""
    target = inputs.target
    if inputs.shelf is None:
        told = [
            replace(of, sha256=source.sha256, sr=source.sr, channels=source.channels, duration_s=source.duration_s)
            for of, source in zip(mosaic.score.sources, inputs.sources, strict=True)
        ]
    else:
        # Parts of a file where the corpus was searched, else all of it.
        whole = not isinstance(mosaic.job.dictionary, Corpus)
        listed = {str(one.place): one for one in inputs.shelf.files}
        told = [
            Source(
                of.name,
                listed[of.name].sha256,
                listed[of.name].sr,
                listed[of.name].channels,
                listed[of.name].duration_s,
                listed[of.name].tags,
                str(inputs.shelf.folder),
                of.begin,
                whole,
            )
            for of in mosaic.score.sources
        ]
    about = Target(
        str(target.path),
        target.sha256,
        target.sr,
        target.channels,
        target.duration_s,
        start_s or 0.0,
        end_s,
    )
    return replace(mosaic.score, sources=tuple(told), target=about)


def write_outputs(
    outputs: Outputs,
    inputs: Inputs,
    job: Job,
    mosaic: Mosaic,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
) -> None:
    """Write the sound, its score and stems, then the figures; `start_s` and `end_s` are those of the target."""
    sound = encode_audio(mosaic.audio, mosaic.sr, ending=outputs.audio.suffix, subtype=outputs.subtype)
    write_atomic(outputs.audio, sound, overwrite=outputs.overwrite)
    if outputs.score is not None or outputs.stems is not None:
        score = score_of_files(inputs, mosaic, start_s=start_s, end_s=end_s)
        if outputs.score is not None:
            write_atomic(outputs.score, score_json(score.compact()), overwrite=outputs.overwrite)
        if outputs.stems is not None:
            write_stems(
                outputs.stems,
                score,
                job.dictionary,
                target=job.recording,
                by=outputs.stems_by,
                overwrite=outputs.overwrite,
            )
    if outputs.figures is not None:
        make_folder(outputs.figures)
        from smalti import plots

        H, borders = _over_source(inputs, mosaic, job)
        figures = plots.mosaic_figures(
            source=_drawn(inputs, mosaic.dictionary),
            target=job.target,
            mosaic=mixed_down(mosaic.audio),
            sr=mosaic.sr,
            H=H,
            hop_s=mosaic.dictionary.hop_s,
            divergences=mosaic.divergences,
            boundaries=borders,
            **({} if inputs.shelf is None else {"rows": "What sounds of the source (s)"}),
        )
        plan = mosaic.transposition
        if plan is not None and plan.n_voices:
            mixed, hop = mixed_down(mosaic.audio), mosaic.dictionary.params.hop
            ax = plots.plot_pitch(
                _wanted(plan, job),
                grain_notes(mosaic),
                hop_s=mosaic.dictionary.hop_s,
                # Of several notes the tracker would follow this or that.
                mosaic_f0=None if plan.way == "chords" else track_pitch(mixed, mosaic.sr, hop=hop),
                title="Notes of the target, and grains that play them",
            )
            figures[PITCH_FIGURE] = cast(Any, ax.figure)
        for name, figure in figures.items():
            write_atomic(outputs.figure(name), plots.figure_png(figure), overwrite=outputs.overwrite)


def _over_source(inputs: Inputs, mosaic: Mosaic, job: Job) -> tuple[scipy.sparse.csc_array, tuple[int, ...]]:
    """What is drawn of the activations, and where further recordings begin: of a corpus, of what sounds alone."""
    H, some, whole, kept = mosaic.contributions, mosaic.dictionary, job.dictionary, mosaic.parts[0].recordings
    if inputs.shelf is not None or kept is None:
        return H, some.borders
    # Of files that were searched, in their own time, as a sketch lies over it.
    firsts = np.searchsorted(whole.segments, kept[some.segments])
    entries = H.tocoo()
    rows = (firsts + some.centres // some.params.hop)[entries.row]
    shape = (whole.n_atoms, H.shape[1])
    return scipy.sparse.csc_array((entries.data, (rows, entries.col)), shape=shape), whole.borders


def _drawn(inputs: Inputs, dictionary: Dictionary) -> Floats:
    """The source as it is drawn: all of it, or of a corpus what sounds, in the order of its frames."""
    if inputs.shelf is None:
        return np.concatenate(list(map(mixed_down, inputs.source_samples)))
    half, parts = dictionary.params.hop // 2, []
    for of, recording in enumerate(map(mixed_down, dictionary.recordings)):
        atoms = np.flatnonzero(dictionary.segments == of)
        for stretch in np.split(atoms, np.flatnonzero(np.diff(dictionary.stretches[atoms])) + 1):
            first, last = int(dictionary.centres[stretch[0]]), int(dictionary.centres[stretch[-1]])
            parts.append(recording[max(0, first - half) : last + half])
    return np.concatenate(parts)


def _wanted(plan: Transposition, job: Job) -> Floats:
    """The target's pitch as it was tracked, (N,) Hz, or the notes that were found in it, (M, N)."""
    if plan.way == "chords":
        return plan.melodies / 2 ** (job.settings.tune_cents / 1200)
    # Where grains are shifted whatever the target plays, it has not been listened to yet.
    hop = job.dictionary.params.hop
    return plan.target_f0 if plan.way == "follow" else track_pitch(job.target, job.dictionary.sr, hop=hop)


def _stretches(part: Part) -> Iterator[slice]:
    """Where in a part's grains each stretch of source lies that is heard."""
    if part.grains is None or not len(part.grains.runs):
        return
    starts = np.flatnonzero(np.diff(part.grains.runs, prepend=-1))
    heard = np.add.reduceat(np.asarray(part.activations.sum(axis=1)).ravel(), starts) > 0
    for start, end, sounds in zip(starts, [*starts[1:], len(part.grains.runs)], heard, strict=True):
        if sounds:
            yield slice(int(start), int(end))


def grain_notes(mosaic: Mosaic) -> Floats:
    """The notes that the grains of a transposed mosaic play, for `smalti.plots.plot_pitch`.

    Returns
    -------
    (G, 4) float64: begin and end in seconds, pitch in Hz, and the shift that led there in semitones. A grain that
    passes through several notes is as many; one without pitch is none.
    """
    notes: list[tuple[float, float, float, float]] = []
    hop_s, plan = mosaic.dictionary.hop_s, mosaic.transposition
    for part in mosaic.parts:
        for of in _stretches(part):
            assert part.grains is not None
            assert plan is not None
            atoms, frames, ratios = part.grains.atoms[of], part.grains.frames[of], part.grains.ratios[of]
            hz = plan.origins[atoms] * ratios
            names = np.round(12 * np.log2(np.where(hz > 0, hz, 1)))
            for piece in np.split(np.arange(len(hz)), np.flatnonzero(np.diff(names)) + 1):
                if hz[piece[0]] > 0:
                    begin, end = frames[piece[0]] - 0.5, frames[piece[-1]] + 0.5
                    shift = 12 * np.log2(ratios[piece]).mean()
                    notes.append((max(0.0, begin * hop_s), end * hop_s, float(np.median(hz[piece])), float(shift)))
    return np.array(notes).reshape(-1, 4)


# For whoever reads the measures of what is in tune.
LEAK_IN_TUNE = (
    "what is in tune with its target has some leak by that alone: judge it beside the source in a loop at the same "
    "pitches, see docs/measures.md"
)


def describe_transposition(mosaic: Mosaic, melody: Melody | None = None) -> dict[str, Any] | None:
    """How the source came to the target's pitches, for the report; None where that was not asked.

    Parameters
    ----------
    mosaic : whose dictionary's recordings bear the names of their files. melody : what was followed, if it was given.
    """
    plan, dictionary, settings = mosaic.transposition, mosaic.dictionary, mosaic.settings
    if plan is None:
        return None
    grains = []
    for i, part in enumerate(mosaic.parts):
        for of in _stretches(part):
            assert part.grains is not None
            atom, frame = int(part.grains.atoms[of.start]), int(part.grains.frames[of.start])
            grains.append(
                {
                    "start_s": _rounded(frame * dictionary.hop_s),
                    "source": dictionary.names[dictionary.segments[atom]],
                    "source_start_s": _rounded(dictionary.centres[atom] / dictionary.sr),
                    "duration_s": _rounded((of.stop - of.start) * dictionary.hop_s),
                    "shift_semitones": round(float(12 * np.log2(part.grains.ratios[of]).mean()), 2),
                    "channel": i if len(mosaic.parts) > 1 else None,
                }
            )
    recordings = segment_slices(dictionary.n_atoms, dictionary.segments)
    return {
        "way": plan.way,
        "reason": plan.reason,
        "melody": None if melody is None else {"path": str(melody.path), "sha256": melody.sha256},
        "tune_cents": settings.tune_cents,
        "n_voices": plan.n_voices,
        "hop_s": dictionary.hop_s,
        "target_f0_hz": plan.target_f0.round(2).tolist(),
        "source_f0_hz": [plan.source_f0[of].round(2).tolist() for of in recordings],
        "melodies_hz": plan.melodies.round(2).tolist(),
        "about_leak": LEAK_IN_TUNE if plan.n_voices else None,
        "grains": sorted(grains, key=lambda grain: (grain["start_s"], grain["source_start_s"])),
    }


def _rounded(seconds: float) -> float:
    return round(float(seconds), 4)


def write_report(outputs: Outputs, report: Mapping[str, Any]) -> None:
    """Write the report, if one is wanted."""
    if outputs.report is not None:
        write_atomic(outputs.report, report_json(report).encode(), overwrite=outputs.overwrite)


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise AudioFileError(
            f"cannot make the folder {folder}: {(error.strerror or str(error)).lower()}; choose another"
        ) from error


def describe(
    inputs: Inputs,
    outputs: Outputs,
    mosaic: Mosaic,
    *,
    preset: str,
    seed: int,
    start_s: float | None,
    end_s: float | None,
    seconds: Mapping[str, float],
    warnings: Sequence[str],
    measures: Mapping[str, float] | None = None,
    melody: Melody | None = None,
    painted: Painted = NOT_PAINTED,
) -> dict[str, Any]:
    """The report: all it takes to know what was made of what, how, and how well; plain types, ready for JSON."""
    params: StftParams = mosaic.dictionary.params
    target = inputs.target
    return {
        "smalti": version("smalti"),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("numba", "numpy", "scipy", "soundfile", "soxr", "pyloudnorm")},
        },
        "preset": preset,
        "settings": asdict(mosaic.settings),
        "seed": seed,
        "sr": mosaic.sr,
        "grid": asdict(params),
        "target": provenance(target)
        | {
            "start_s": start_s or 0.0,
            "end_s": end_s,
            "loudness_lufs": _or_none(integrated_loudness(inputs.target_samples, inputs.sr)),
        },
        "sources": [provenance(source) for source in inputs.sources],
        "corpus": None if inputs.shelf is None else describe_corpus(inputs.shelf, mosaic),
        "choice": describe_choice(inputs.choice),
        "sketch": describe_sketch(painted),
        "skipped": dict(inputs.skipped),
        "output": {
            "path": str(outputs.audio),
            "subtype": check_format(outputs.audio.suffix, mosaic.sr, subtype=outputs.subtype),
            "channels": n_channels(mosaic.audio),
            "samples": mosaic.audio.shape[-1],
            "duration_s": mosaic.audio.shape[-1] / mosaic.sr,
            "loudness_lufs": _or_none(mosaic.loudness),
            "true_peak_db": _or_none(mosaic.true_peak_db),
        },
        "bins": params.n_bins,
        "atoms": mosaic.dictionary.n_atoms,
        "frames": int(mosaic.activations.shape[1]),
        "transposition": describe_transposition(mosaic, melody),
        "divergence": mosaic.divergences.tolist(),
        "fit": mosaic.fit,
        "leak": mosaic.leak,
        "gain_db": mosaic.gain_db,
        "peak_gain_db": mosaic.peak_gain_db,
        "limited_db": mosaic.limited_db,
        "measures": None if measures is None else dict(measures),
        "seconds": dict(seconds),
        "warnings": list(warnings),
    }


def describe_sketch(painted: Painted) -> dict[str, Any]:
    """What was painted; None and nothing where nothing was."""
    picture = painted.picture
    return {
        "picture": None if picture is None else {"path": str(picture.path), "sha256": picture.sha256},
        "strokes": [str(stroke) for stroke in painted.strokes],
    }


def describe_choice(choice: Choice) -> dict[str, Any]:
    """What of the sources was asked for; None where nothing was."""
    asked = {name: value if math.isfinite(value) else None for name, value in _numbers(choice.filters)}
    lists = {name: list(getattr(choice.filters, name)) for name in ("include", "exclude", "tags")}
    return {**lists, **asked, "weights": dict(choice.weights), "limits": dict(choice.limits)}


def _numbers(filters: Filters) -> Iterator[tuple[str, float]]:
    for name in ("shortest_s", "longest_s", "quietest_lufs", "loudest_lufs"):
        yield name, getattr(filters, name)


def describe_corpus(shelf: Shelf, mosaic: Mosaic) -> dict[str, Any]:
    """Which corpus it was, and of which of its files how much sounds, the most first."""
    dictionary = mosaic.dictionary
    gains = np.asarray((mosaic.activations > 0).sum(axis=1)).ravel()
    seconds = dict[str, float]()
    for atom in np.flatnonzero(gains):
        name = dictionary.names[dictionary.segments[atom]]
        seconds[name] = seconds.get(name, 0.0) + float(gains[atom]) * dictionary.hop_s
    about = {str(one.place): one for one in shelf.files}
    return {
        "path": str(shelf.folder),
        "sr": shelf.corpus.sr,
        "files": len(shelf.files),
        "frames": shelf.corpus.n_atoms,
        "index": shelf.corpus.index is not None,
        "used": [
            {
                "path": name,
                "sha256": about[name].sha256,
                "licence": about[name].licence,
                "tags": list(about[name].tags),
                "sounds_s": _rounded(time),
            }
            for name, time in sorted(seconds.items(), key=lambda item: -item[1])
        ],
    }


def provenance(recording: Recording) -> dict[str, Any]:
    """Which recording it was, for reports."""
    return {
        "path": str(recording.path),
        "sha256": recording.sha256,
        "sr": recording.sr,
        "channels": recording.channels,
        "duration_s": recording.duration_s,
    }


def _or_none(level: float) -> float | None:
    """A level, or None for that of silence, which JSON does not know."""
    return level if math.isfinite(level) else None


def report_json(report: Mapping[str, Any]) -> str:
    """The report as text; no NaN, which JSON does not know.

    In ASCII: a terminal or pipe may know no other letters, and a file name may hold bytes that are none.
    """
    return json.dumps(report, indent=2, allow_nan=False) + "\n"
