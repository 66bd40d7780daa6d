"""From files to files: what `smalti make` does, in parts, so that whoever calls can show progress between them.

`read_inputs` reads and resamples, `check_outputs` refuses early what could not be written at the end, `write_outputs`
writes sound, pictures and report, each whole or not at all.
"""

import importlib
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from smalti._checks import Floats
from smalti.audio import (
    Recording,
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
from smalti.errors import AudioFileError, SmaltiError
from smalti.jobs import Job
from smalti.levels import integrated_loudness
from smalti.mosaicing import Mosaic, output_channels
from smalti.settings import Settings
from smalti.stft import StftParams

FIGURES = ("spectrograms", "activations", "similarity", "divergence")

# Peaks of recordings, full scale being 1. Beyond the loudest, the sums of a long window are too large for single
# precision; below the quietest, the squares of a spectrum vanish in it.
LOUDEST = 1e7
QUIETEST = 1e-15


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
    """

    target: Recording
    sources: tuple[Recording, ...]
    target_samples: Floats
    source_samples: tuple[Floats, ...]
    sr: int
    skipped: Mapping[str, str]
    warnings: tuple[str, ...]

    def channels_of(self, settings: Settings) -> int:
        """How many channels a mosaic of them has."""
        return output_channels(settings, n_channels(self.target_samples), list(map(n_channels, self.source_samples)))

    @property
    def files(self) -> list[Path]:
        """Every file that was named or found, used or not."""
        return [self.target.path, *(source.path for source in self.sources), *map(Path, self.skipped)]


def read_inputs(
    target: Path,
    sources: Sequence[Path],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    sr: int | None = None,
) -> Inputs:
    """Read the target (or its excerpt) and every sound file among `sources`, at `sr` or the target's own rate.

    Raises
    ------
    AudioFileError : if the target, or every source, cannot be used; if all sources are silent.
    ValueError : if the excerpt is no stretch of time.
    """
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
    return Inputs(
        target=recording,
        sources=readable,
        target_samples=target_samples,
        source_samples=source_samples,
        sr=rate,
        skipped=skipped,
        warnings=tuple(warnings),
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


@dataclass(frozen=True)
class Outputs:
    """Where the results go. `figures` is a folder, made if it is not there; None leaves that result out."""

    audio: Path
    subtype: str | None = None
    figures: Path | None = None
    report: Path | None = None
    overwrite: bool = False

    def figure(self, name: str) -> Path:
        """The file of one figure."""
        assert self.figures is not None
        return self.figures / f"{name}.png"

    def files(self) -> list[Path]:
        """Every file that will be written."""
        figures = [self.figure(name) for name in FIGURES] if self.figures else []
        return [self.audio, *figures, *([self.report] if self.report else [])]


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
            figures = [outputs.figure(name) for name in FIGURES]
            files = [outputs.figures, *(file for file in files if file not in figures)]
        elif not outputs.figures.is_dir():
            raise AudioFileError(f"cannot write figures into {outputs.figures}: it is not a folder; name another")
        # Asked for now, so that a missing matplotlib is found before the work and not after it.
        importlib.import_module("smalti.plots")
    for file in files:
        check_writable(file, overwrite=outputs.overwrite)


# Rows of the stacked views at most, and how many copies of them there are while they are stacked.
N_VIEW_BANDS, VIEW_COPIES = 620, 5


def memory_needed(
    n_atoms: int, n_frames: int, settings: Settings, params: StftParams, *, channels: int = 1, sr: int = 22050
) -> int:
    """Bytes that a job takes where it takes most, estimated from above.

    Parameters
    ----------
    n_atoms, n_frames : source and target frames.
    settings, params : of the job.
    channels, sr : of the mosaic.
    """
    # How many float32 arrays of each shape are alive at once where a job needs most, as measured. Activations that no
    # rule thins out need most at the end, in becoming a sparse matrix that is not sparse.
    frames = 18 if settings.phase == "griffin-lim" else 12
    # The meter works in double precision, and on twice the samples where these are slower than 16 kHz.
    frames = max(frames, 16 if sr < 16000 else 11)
    if settings.leaks:
        # Measured at 22 050 Hz whatever the rate.
        frames = max(frames, 4 + math.ceil(14 * 22050 / sr))
    numbers = params.n_bins * (5 * n_atoms + frames * n_frames)
    if channels > 1:
        # The samples of all channels, their frames, of which those of one stay, and the sums of grains of all.
        numbers += params.n_bins * ((6 + 2 * channels) * n_atoms + (8 + 4 * channels) * n_frames)
    if settings.compare == "views":
        # Views have their own windows, and so as many bands whatever the grid is.
        numbers += VIEW_COPIES * N_VIEW_BANDS * (n_atoms + n_frames)
    if settings.transpose != "off":
        # Pitch is tracked at up to 48 kHz, by way of spectra.
        numbers += 8 * max(1, 48000 // sr) * params.hop * (min(n_atoms, 30 * sr // params.hop) + n_frames)
        # The source at every note, and its activations in every voice. What "auto" will decide is not known yet; most
        # often one melody is followed.
        voices, notes = {"chords": (settings.voices, 36)}.get(str(settings.transpose), (1, 24))
        if isinstance(settings.transpose, tuple):
            voices = notes = int(settings.transpose[1] - settings.transpose[0]) + 1
        numbers += notes * N_VIEW_BANDS * n_atoms
        n_atoms *= voices
    if settings.choose:
        # The start as it was drawn, in double precision, and the contributions that grains are read from.
        numbers += 4 * n_atoms * n_frames
    if settings.method == "pursuit":
        # Blocks of 256 frames are solved together, each with atoms of its own, in double precision.
        numbers += 5 * params.n_bins * min(256, n_frames) * min(settings.layers or n_atoms, n_atoms)
        numbers += 5 * n_atoms * n_frames
    else:
        numbers += (7 if settings.layers else 12) * n_atoms * n_frames
    return 4 * numbers


def check_memory(inputs: Inputs, settings: Settings, params: StftParams) -> None:
    """Refuse a job that cannot fit, rather than bring the machine to its knees.

    Raises
    ------
    SmaltiError : if it would need more memory than the machine has.
    """
    n_frames = params.n_frames(inputs.target_samples.shape[-1])
    n_atoms = sum(params.n_frames(samples.shape[-1]) for samples in inputs.source_samples)
    channels = inputs.channels_of(settings)
    needed = memory_needed(n_atoms, n_frames, settings, params, channels=channels, sr=inputs.sr)
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return
    if needed > 0.9 * available:
        raise SmaltiError(
            f"{n_atoms} source frames by {n_frames} target frames need about {needed / 1e9:.0f} GB of memory and this "
            f"machine has {available / 1e9:.0f}; take a shorter target (--start, --end), less source, or a longer --hop"
        )


def write_outputs(outputs: Outputs, inputs: Inputs, job: Job, mosaic: Mosaic) -> None:
    """Write the sound, then the figures."""
    sound = encode_audio(mosaic.audio, mosaic.sr, ending=outputs.audio.suffix, subtype=outputs.subtype)
    write_atomic(outputs.audio, sound, overwrite=outputs.overwrite)
    if outputs.figures is not None:
        make_folder(outputs.figures)
        from smalti import plots

        figures = plots.mosaic_figures(
            source=np.concatenate(list(map(mixed_down, inputs.source_samples))),
            target=job.target,
            mosaic=mixed_down(mosaic.audio),
            sr=mosaic.sr,
            H=mosaic.contributions,
            hop_s=mosaic.dictionary.hop_s,
            divergences=mosaic.divergences,
            boundaries=mosaic.dictionary.borders,
        )
        for name, figure in figures.items():
            write_atomic(outputs.figure(name), plots.figure_png(figure), overwrite=outputs.overwrite)


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
) -> dict[str, Any]:
    """The report: all it takes to know what was made of what, how, and how well; plain types, ready for JSON."""
    params: StftParams = mosaic.dictionary.params
    target = inputs.target
    return {
        "smalti": version("smalti"),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("numpy", "scipy", "soundfile", "soxr", "pyloudnorm")},
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
