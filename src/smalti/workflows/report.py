"""The parts of reports, in plain types, ready for JSON: recordings, sources, transpositions, selections, sketches."""

import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from smalti.corpora.query import OpenCorpus
from smalti.grains.filters import Filters
from smalti.grains.shifted import heard_stretches
from smalti.grains.source import Source
from smalti.io.files import write_atomic
from smalti.io.image import Picture
from smalti.io.melody import Melody
from smalti.io.sound_read import Recording
from smalti.mosaicing.mosaic import Mosaic
from smalti.mosaicing.sketch import Stroke
from smalti.nmf.let_it_bee import segment_slices
from smalti.workflows.inputs import Provenance, SourceSelection
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


def describe_software() -> dict[str, Any]:
    """The entries of the report about the versions of smalti and of all that its numbers depend on."""
    packages = ("numba", "numpy", "scipy", "soundfile", "soxr", "pyloudnorm")
    return {
        "smalti": version("smalti"),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
    }


def describe_recording(recording: Recording | Source) -> dict[str, Any]:
    """The provenance of a recording."""
    return {
        "path": str(recording.path),
        "sha256": recording.sha256,
        "sr": recording.sr,
        "channels": recording.channels,
        "duration_s": recording.duration_s,
    }


def describe_source(provenance: Provenance, mosaic: Mosaic) -> dict[str, Any]:
    """The entries of the report about the source of a mosaic: its files and its corpus."""
    corpora = [_describe_corpus(opened, mosaic) for opened in provenance.corpora]
    return {"sources": list(map(describe_recording, provenance.files)), "corpus": corpora[0] if corpora else None}


def _describe_corpus(opened: OpenCorpus, mosaic: Mosaic) -> dict[str, Any]:
    """A corpus, and for how many seconds each of its files sounds, the most first."""
    dictionary, files = mosaic.dictionary, {str(file.place): file for file in opened.files}
    n_sounding = np.asarray((mosaic.activations > 0).sum(axis=1)).ravel()
    seconds = dict[str, float]()
    for atom in np.flatnonzero(n_sounding):
        if (name := dictionary.names[dictionary.recording_ids[atom]]) in files:
            seconds[name] = seconds.get(name, 0.0) + float(n_sounding[atom]) * dictionary.hop_s
    used = [
        {
            "path": name,
            "sha256": files[name].sha256,
            "licence": files[name].licence,
            "tags": list(files[name].tags),
            "sounds_s": _rounded(time),
        }
        for name, time in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    return {
        "path": str(opened.folder),
        "sr": opened.corpus.sr,
        "files": len(opened.files),
        "frames": opened.corpus.n_atoms,
        "index": opened.corpus.index is not None,
        "used": used,
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


def finite_or_none(level: float) -> float | None:
    """A level in dB, or None for that of silence, since JSON knows no infinity."""
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
