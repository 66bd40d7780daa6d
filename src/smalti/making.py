"""From files to files: what `smalti make` does, in parts, so that whoever calls can show progress between them.

`read_inputs` reads and resamples, `check_outputs` refuses early what could not be written at the end, `write_outputs`
writes sound, pictures and report, each whole or not at all.
"""

import importlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
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
from smalti.errors import AudioFileError, SmaltiError
from smalti.mosaicing import Job, Mosaic
from smalti.stft import StftParams

FIGURES = ("spectrograms", "activations", "similarity", "divergence")


@dataclass(frozen=True, eq=False)
class Inputs:
    """The recordings of a job, all at one rate.

    Attributes
    ----------
    target : as read from its file. sources : those that could be read.
    target_samples, source_samples : (L,) float32, at `sr`.
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
    files = find_audio(sources)
    readable, skipped = _read_all(files)
    if not any(source.samples.any() for source in readable):
        names = ", ".join(str(source.path) for source in readable[:3]) + (", ..." if len(readable) > 3 else "")
        raise AudioFileError(f"the source is silent: there is no sound in {names}; choose a source that sounds")
    warnings = [f"{read.path}: {said}" for read in (recording, *readable) for said in read.warnings]
    warnings += [f"skipped: {reason}" for reason in skipped.values()]
    if any(same_file(target, source.path) for source in readable):
        warnings.append(f"{target} is target and source at once: the mosaic will be little else than the target")
    return Inputs(
        target=recording,
        sources=readable,
        target_samples=resample(recording.samples, recording.sr, rate),
        source_samples=tuple(resample(source.samples, source.sr, rate) for source in readable),
        sr=rate,
        skipped=skipped,
        warnings=tuple(warnings),
    )


def _read_all(files: Iterable[Path]) -> tuple[tuple[Recording, ...], dict[str, str]]:
    readable, skipped = [], {}
    fault: AudioFileError | None = None
    for file in files:
        try:
            readable.append(read_audio(file))
        except AudioFileError as error:
            fault, skipped[str(file)] = error, str(error)
    if fault and not readable:
        if len(skipped) == 1:
            raise fault
        raise AudioFileError(f"none of the {len(skipped)} source files can be used; the last: {fault}") from fault
    return tuple(readable), skipped


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


def check_outputs(outputs: Outputs, inputs: Iterable[Path]) -> None:
    """Refuse, before any work, what could not or must not be written.

    Raises
    ------
    ValueError : if a result would replace one of `inputs` or another result, or the sound's name has no known ending.
    AudioFileError : if a file exists and may not be overwritten, or its folder is missing or not writable.
    MissingExtraError : if figures are wanted and matplotlib is not installed.
    """
    files = outputs.files()
    # 44.1 kHz suits every format; whether the working rate does is known once the target is read.
    check_format(outputs.audio.suffix, 44100, subtype=outputs.subtype)
    inputs = list(inputs)
    for i, file in enumerate(files):
        for source in inputs:
            if same_file(file, source):
                raise ValueError(f"{file} is an input of this mosaic and would be overwritten; choose another name")
        if any(same_file(file, other) for other in files[:i]):
            raise ValueError(f"{file} is named for two results; choose another name for one of them")
    if outputs.figures is not None:
        if not outputs.figures.exists():
            if not outputs.figures.parent.is_dir():
                raise AudioFileError(
                    f"cannot make the folder {outputs.figures}: there is no folder {outputs.figures.parent}; create it"
                )
            files = [file for file in files if file.parent != outputs.figures]
        elif not outputs.figures.is_dir():
            raise AudioFileError(f"cannot write figures into {outputs.figures}: it is not a folder; name another")
        # Asked for now, so that a missing matplotlib is found before the work and not after it.
        importlib.import_module("smalti.plots")
    for file in files:
        check_writable(file, overwrite=outputs.overwrite)


def check_memory(job: Job) -> None:
    """Refuse a job whose activations cannot fit, rather than bring the machine to its knees.

    Raises
    ------
    SmaltiError : if the solver would need more than the machine has.
    """
    n_bins, n_frames = job.spectrum.shape
    n_atoms = job.dictionary.n_atoms
    # The activations before and after an update and what passes between; the spectrograms and their ratio.
    needed = job.target.itemsize * (4 * n_atoms * n_frames + 3 * n_bins * (n_atoms + n_frames))
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
            source=np.concatenate(inputs.source_samples),
            target=job.target,
            mosaic=mosaic.audio,
            sr=mosaic.sr,
            H=mosaic.activations,
            hop_s=mosaic.dictionary.hop_s,
            divergences=mosaic.divergences,
            boundaries=mosaic.dictionary.borders,
        )
        for name, figure in figures.items():
            write_atomic(outputs.figure(name), plots.figure_png(figure), overwrite=outputs.overwrite)


def write_report(outputs: Outputs, report: Mapping[str, Any]) -> None:
    """Write the report, if one is wanted."""
    if outputs.report is not None:
        # A file name that is no text (stray bytes) becomes an escape, which JSON can read back.
        text = report_json(report).encode("utf-8", "backslashreplace")
        write_atomic(outputs.report, text, overwrite=outputs.overwrite)


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise AudioFileError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error


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
) -> dict[str, Any]:
    """The report: all it takes to know what was made of what, how, and how well; plain types, ready for JSON."""
    params: StftParams = mosaic.dictionary.params
    target = inputs.target
    return {
        "smalti": version("smalti"),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("numpy", "scipy", "soundfile", "soxr")},
        },
        "preset": preset,
        "settings": asdict(mosaic.settings),
        "seed": seed,
        "sr": mosaic.sr,
        "grid": asdict(params),
        "target": _provenance(target) | {"start_s": start_s or 0.0, "end_s": end_s},
        "sources": [_provenance(source) for source in inputs.sources],
        "skipped": dict(inputs.skipped),
        "output": {
            "path": str(outputs.audio),
            "subtype": check_format(outputs.audio.suffix, mosaic.sr, subtype=outputs.subtype),
            "samples": len(mosaic.audio),
            "duration_s": len(mosaic.audio) / mosaic.sr,
        },
        "bins": params.n_bins,
        "atoms": mosaic.dictionary.n_atoms,
        "frames": int(mosaic.activations.shape[1]),
        "divergence": mosaic.divergences.tolist(),
        "fit": mosaic.fit,
        "peak_gain_db": mosaic.gain_db,
        "seconds": dict(seconds),
        "warnings": list(warnings),
    }


def _provenance(recording: Recording) -> dict[str, Any]:
    return {
        "path": str(recording.path),
        "sha256": recording.sha256,
        "sr": recording.sr,
        "channels": recording.channels,
        "duration_s": recording.duration_s,
    }


def report_json(report: Mapping[str, Any]) -> str:
    """The report as text; no NaN, which JSON does not know."""
    return json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
