"""Reports of mosaics: inputs, settings, results and measures, in plain types, ready for JSON."""

import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from smalti.dsp.channels import n_channels
from smalti.dsp.loudness import integrated_loudness
from smalti.dsp.stft import StftParams
from smalti.grains.filters import Filters
from smalti.grains.shifted import heard_stretches
from smalti.io.files import write_atomic
from smalti.io.image import Picture
from smalti.io.melody import Melody
from smalti.io.sound_write import check_format
from smalti.mosaicing.mosaic import Mosaic
from smalti.mosaicing.sketch import Stroke
from smalti.nmf.let_it_bee import segment_slices
from smalti.workflows.inputs import Inputs, SourceSelection, describe_recording
from smalti.workflows.outputs import Outputs

# Advice for reading the measures of transposed mosaics.
LEAK_IN_TUNE = (
    "a mosaic in tune with its target has some leak for that reason alone: compare it with the source in a loop at the "
    "same pitches, see docs/measures.md"
)


def describe_transposition(mosaic: Mosaic, melody: Melody | None = None) -> dict[str, Any] | None:
    """How the source was brought to the target's pitches, for the report; None if that was not requested.

    Parameters
    ----------
    mosaic : its dictionary names recordings by their files. melody : the melody that was given, or None.
    """
    plan, dictionary, settings = mosaic.transposition, mosaic.dictionary, mosaic.settings
    if plan is None:
        return None
    grains = []
    for i, part in enumerate(mosaic.parts):
        if part.grains is None:
            continue
        for stretch in heard_stretches(part.grains, part.activations):
            atom, frame = int(part.grains.atoms[stretch.start]), int(part.grains.frames[stretch.start])
            grains.append(
                {
                    "start_s": _rounded(frame * dictionary.hop_s),
                    "source": dictionary.names[dictionary.recording_ids[atom]],
                    "source_start_s": _rounded(dictionary.centres[atom] / dictionary.sr),
                    "duration_s": _rounded((stretch.stop - stretch.start) * dictionary.hop_s),
                    "shift_semitones": round(float(12 * np.log2(part.grains.ratios[stretch]).mean()), 2),
                    "channel": i if len(mosaic.parts) > 1 else None,
                }
            )
    recordings = segment_slices(dictionary.n_atoms, dictionary.recording_ids)
    return {
        "way": plan.way,
        "reason": plan.reason,
        "melody": None if melody is None else {"path": str(melody.path), "sha256": melody.sha256},
        "tune_cents": settings.tune_cents,
        "n_voices": plan.n_voices,
        "hop_s": dictionary.hop_s,
        "target_f0_hz": plan.target_f0.round(2).tolist(),
        "source_f0_hz": [plan.source_f0[atoms].round(2).tolist() for atoms in recordings],
        "melodies_hz": plan.melodies.round(2).tolist(),
        "about_leak": LEAK_IN_TUNE if plan.n_voices else None,
        "grains": sorted(grains, key=lambda grain: (grain["start_s"], grain["source_start_s"])),
    }


def _rounded(seconds: float) -> float:
    return round(float(seconds), 4)


def describe(
    inputs: Inputs,
    outputs: Outputs,
    mosaic: Mosaic,
    *,
    preset: str,
    seed: int,
    seconds: Mapping[str, float],
    warnings: Sequence[str],
    measures: Mapping[str, float] | None = None,
    melody: Melody | None = None,
    picture: Picture | None = None,
    strokes: Sequence[Stroke] = (),
) -> dict[str, Any]:
    """The report of a mosaic: its inputs, settings, results and measures, in plain types, ready for JSON."""
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
        "target": describe_recording(target.recording)
        | {
            "start_s": target.excerpt.begin_s,
            "end_s": target.excerpt.end_s,
            "loudness_lufs": _or_none(integrated_loudness(target.samples, inputs.sr)),
        },
        **inputs.source.describe(mosaic),
        "choice": describe_choice(inputs.choice),
        "sketch": describe_sketch(picture, strokes),
        "skipped": dict(inputs.source.skipped),
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
        "fit": mosaic.overlap,
        "leak": mosaic.leak,
        "gain_db": mosaic.gain_db,
        "peak_gain_db": mosaic.peak_gain_db,
        "limited_db": mosaic.limited_db,
        "measures": None if measures is None else dict(measures),
        "seconds": dict(seconds),
        "warnings": list(warnings),
    }


def describe_sketch(picture: Picture | None, strokes: Sequence[Stroke]) -> dict[str, Any]:
    """The picture and the strokes that were painted; None and an empty list if there were none."""
    return {
        "picture": None if picture is None else {"path": str(picture.path), "sha256": picture.sha256},
        "strokes": [str(stroke) for stroke in strokes],
    }


def describe_choice(choice: SourceSelection) -> dict[str, Any]:
    """The selection from the sources; None stands for a bound that excludes nothing."""
    bounds = {name: value if math.isfinite(value) else None for name, value in _numbers(choice.filters)}
    lists = {name: list(getattr(choice.filters, name)) for name in ("include", "exclude", "tags")}
    return {**lists, **bounds, "weights": dict(choice.weights), "limits": dict(choice.limits)}


def _numbers(filters: Filters) -> Iterator[tuple[str, float]]:
    for name in ("shortest_s", "longest_s", "quietest_lufs", "loudest_lufs"):
        yield name, getattr(filters, name)


def _or_none(level: float) -> float | None:
    """A level, or None for that of silence, since JSON knows no infinity."""
    return level if math.isfinite(level) else None


def report_json(report: Mapping[str, Any]) -> str:
    """The report as JSON text, after refusing NaN and infinity, which JSON does not know.

    The text is ASCII because a terminal or pipe may know nothing else, and file names may hold undecodable bytes.
    """
    return json.dumps(report, indent=2, allow_nan=False) + "\n"


def write_report(outputs: Outputs, report: Mapping[str, Any]) -> None:
    """Write the report, if one is wanted."""
    if outputs.report is not None:
        write_atomic(outputs.report, report_json(report).encode(), overwrite=outputs.overwrite)
