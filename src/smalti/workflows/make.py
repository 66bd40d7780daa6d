"""Make a mosaic of files: `make_steps` of a `MakeRequest` does all of it, and yields what happens.

The command line, and whatever else makes mosaics of files, differ only in what they do with what is yielded.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smalti.dsp.pitch import check_tracker
from smalti.dsp.stft import StftParams
from smalti.grains.filters import Filters
from smalti.grains.transposition import Transposition
from smalti.io.examples import example_name, fetch_example
from smalti.io.melody import Melody, read_melody
from smalti.mosaicing.job import Job
from smalti.mosaicing.mosaic import Mosaic, Part, assemble, part_of
from smalti.mosaicing.prepare import channel_jobs, looked_up, prepare, unsearched
from smalti.mosaicing.sketch import Stroke
from smalti.mosaicing.solve import n_steps, solve_steps
from smalti.presets import DEFAULT_PRESET, PRESETS, settings_from
from smalti.settings import Settings
from smalti.workflows.events import Done, Event, Progress, Remark, Stage, Warned, recorded
from smalti.workflows.inputs import (
    NO_CHOICE,
    NOT_PAINTED,
    Inputs,
    Painted,
    SourceSelection,
    read_inputs,
    read_painted,
)
from smalti.workflows.judge import measure_made
from smalti.workflows.memory import check_memory
from smalti.workflows.outputs import Outputs, check_outputs, write_outputs
from smalti.workflows.report import describe, write_report


@dataclass(frozen=True)
class MakeRequest:
    """All that a mosaic of files is made by. It can be pickled, and written as JSON.

    Attributes
    ----------
    target : a sound file, or example:NAME. sources : sound files, folders, example:NAME, or one corpus.
    outputs : where the results go.
    settings : how. preset : the name of what they were before anything was changed, for the report.
    grid : in samples; None for that of the settings.
    start_s, end_s : the target's excerpt, or None.
    melody : a text file to follow, or None.
    selection : which of the sources, and how much of them.
    sketch : a picture over the activations, or None. strokes : rectangles over it.
    seed : of the random start. measured : whether the result is measured; see `smalti.metrics`.
    """

    target: str
    sources: tuple[str, ...]
    outputs: Outputs
    settings: Settings = PRESETS[DEFAULT_PRESET]
    preset: str = DEFAULT_PRESET
    grid: StftParams | None = None
    start_s: float | None = None
    end_s: float | None = None
    melody: Path | None = None
    selection: SourceSelection = field(default=NO_CHOICE)
    sketch: Path | None = None
    strokes: tuple[Stroke, ...] = ()
    seed: int = 0
    measured: bool = False

    def to_json(self) -> str:
        """As text that `from_json` reads; infinity is written as "inf", as JSON does not know it."""
        return json.dumps(_plain(asdict(self)), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "MakeRequest":
        """The request in a text of `to_json`'s; `ValueError`, `TypeError` or `KeyError` for any other."""
        given: dict[str, Any] = json.loads(text)
        selection = given["selection"]
        filters = {name: _revived(name, value) for name, value in selection["filters"].items()}
        read: dict[str, Any] = {
            "sources": tuple(given["sources"]),
            "outputs": Outputs(**_with_paths(given["outputs"], "audio", "figures", "report", "score", "stems")),
            "settings": settings_from(given["settings"]),
            "grid": None if given["grid"] is None else StftParams(**given["grid"]),
            "selection": SourceSelection(Filters(**filters), selection["weights"], selection["limits"]),
            "strokes": tuple(
                Stroke(**{name: _revived(name, value) for name, value in stroke.items()}) for stroke in given["strokes"]
            ),
        }
        return cls(**_with_paths(given | read, "melody", "sketch"))


def _plain(value: Any) -> Any:
    """Plain types, ready for JSON."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, Path) or (isinstance(value, float) and math.isinf(value)):
        return str(value)
    return value


def _revived(name: str, value: Any) -> Any:
    """A field of filters or strokes as it was: tuples, and infinity where the name says that it is a number."""
    if isinstance(value, list):
        return tuple(_revived(name, part) for part in value)
    return float(value) if name.endswith(("_s", "_lufs")) and value in ("inf", "-inf") else value


def _with_paths(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What `_plain` made of fields, those of some names being paths."""
    paths = {name: Path(given[name]) for name in names if given[name] is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()} | paths


class _Clock:
    """Seconds spent in each stage, however often it comes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 4)
        self.seconds["total"] = round(now - self._begin, 4)
        self._last = now


def named_file(name: str) -> Path:
    """The file or folder that a name stands for, after fetching it if it is example:NAME.

    Raises
    ------
    ValueError : for an empty name. ExampleError : if an example is unknown, or cannot be fetched.
    """
    if not name:
        # As a path it would be the current folder, and all that is in it.
        raise ValueError("the name of a recording is empty; name a file, a folder or example:NAME")
    example = example_name(name)
    return Path(name) if example is None else fetch_example(example)


def make_steps(request: MakeRequest) -> Iterator[Event]:
    """Read, build, write, and measure if that is asked for.

    What could not be done is refused before any work. Where the caller stops, or an error is raised, nothing
    half-written is left behind.

    Yields
    ------
    Stage, Progress (one a step of the solver), Warned, Remark; at the end Done with the report, plain types.

    Raises
    ------
    SmaltiError : for what is wrong with files, memory or the disk.
    ValueError, TypeError : for what is wrong with the request.
    """
    clock, said = _Clock(), list[str]()
    for event in _made(request, clock, said):
        if isinstance(event, Warned):
            said.append(event.sentence)
        yield event


def _made(request: MakeRequest, clock: _Clock, said: list[str]) -> Iterator[Event]:
    yield Stage("read")
    target, sources = named_file(request.target), list(map(named_file, request.sources))
    settings, outputs = request.settings, request.outputs
    written = [file for file in (request.melody, request.sketch) if file is not None]
    check_outputs(outputs, [target, *sources, *written])
    melody = None if request.melody is None else read_melody(request.melody)
    painted = read_painted(request.sketch, request.strokes)
    if settings.transpose != "off":
        check_tracker()
    inputs = read_inputs(
        target,
        sources,
        start_s=request.start_s,
        end_s=request.end_s,
        sr=settings.sr,
        choice=request.selection,
    )
    check_outputs(outputs, [*inputs.files, *written], sr=inputs.sr, channels=inputs.channels_of(settings))
    yield from map(Warned, inputs.warnings)
    clock.lap("read")

    yield Stage("analyse")
    job, sentences = _prepared(request, inputs, melody, painted)
    yield from map(Warned, sentences)
    if job.transposition is not None:
        yield Remark(way_of(job.transposition, settings))
    clock.lap("analyse")

    parts = list[Part]()
    yield from _solved(job, request.seed, parts, clock)
    mosaic = assemble(job, parts)
    yield from map(Warned, _short_of_loudness(mosaic))
    clock.lap("synthesise")

    yield Stage("write")
    write_outputs(outputs, inputs, job, mosaic, start_s=request.start_s, end_s=request.end_s)
    clock.lap("write")
    measures = None
    if request.measured:
        yield Stage("measure")
        measures, spoken = measure_made(inputs, mosaic)
        yield from map(Warned, spoken)
        clock.lap("measure")
    report = describe(
        inputs,
        outputs,
        mosaic,
        preset=request.preset,
        seed=request.seed,
        start_s=request.start_s,
        end_s=request.end_s,
        seconds=clock.seconds,
        warnings=said,
        measures=measures,
        melody=melody,
        painted=painted,
    )
    write_report(outputs, report)
    yield Done(report)


def _prepared(request: MakeRequest, inputs: Inputs, melody: Melody | None, painted: Painted) -> tuple[Job, list[str]]:
    """The job, once it is known to fit into memory, and sentences for the user."""
    settings = request.settings
    params = request.grid or StftParams.from_seconds(settings.window_s, settings.hop_s, inputs.sr)
    needed = check_memory(inputs, settings, params, painted=painted != NOT_PAINTED)
    said = _all_considered(inputs, settings, params, needed)
    n_frames, hop_s = params.n_frames(inputs.target_samples.shape[-1]), params.hop / inputs.sr
    job, warned = recorded(
        lambda: prepare(
            inputs.target_samples,
            inputs.source,
            inputs.sr,
            settings,
            params=params,
            names=[str(source.path) for source in inputs.sources],
            weights=inputs.weights,
            limits=inputs.limits,
            target_name=str(inputs.target.path),
            target_f0=None if melody is None else melody.on_grid(n_frames, hop_s, start_s=request.start_s or 0.0),
        )
    )
    return painted.onto(job, inputs), said + warned


def _all_considered(inputs: Inputs, settings: Settings, params: StftParams, needed: int) -> list[str]:
    """What is to be said where a corpus is not searched."""
    told_apart = inputs.weights is not None or bool(inputs.limits)
    searched = looked_up(0, settings, params, inputs.sr, asked=True)
    # Where weights and limits need it to be searched, `prepare` refuses it for the same reason.
    if inputs.shelf is None or searched or told_apart:
        return []
    reason = unsearched(settings, params, inputs.sr)
    return [f"all of {inputs.shelf.folder} is considered, which takes {needed / 1e9:.1f} GB, as {reason}"]


def _solved(job: Job, seed: int, parts: list[Part], clock: _Clock) -> Iterator[Event]:
    """Solve and synthesise each of the job's parts, which are appended to `parts`."""
    total, done = n_steps(job.settings, job.dictionary.n_atoms) * job.n_solves, 0
    yield Stage("solve")
    yield Progress(0, total)
    for channel in channel_jobs(job):
        divergences = list[float]()
        for step in solve_steps(channel, rng=seed):
            done += 1
            divergences.append(step.divergence)
            yield Progress(done, total, step.divergence)
        clock.lap("solve")
        yield Stage("synthesise")
        parts.append(part_of(channel, step, divergences))
        clock.lap("synthesise")


def _short_of_loudness(mosaic: Mosaic) -> list[str]:
    wanted = mosaic.settings.loudness
    if isinstance(wanted, str) or mosaic.settings.level_db != 0 or not mosaic.loudness < wanted - 1:
        return []
    return [f"{wanted:g} LUFS are more than the peaks allow: it is {mosaic.loudness:.1f} LUFS"]


def way_of(transposition: Transposition, settings: Settings) -> str:
    """How the source comes to the target's pitches, and why, as a sentence."""
    if transposition.way == "off":
        does = "left at its own pitches"
    elif transposition.way == "follow":
        does = "follows the melody"
    elif transposition.way == "chords":
        voices = int(transposition.melodies.any(axis=1).sum())
        does = f"plays chords ({voices} voice{'s' * (voices != 1)})"
    elif transposition.way == "glide":
        does = f"shifts every grain along {settings.transpose} semitones"
    else:
        low, high = (f"{end - settings.tune_cents / 100:+.4g}" for end in transposition.shifts[[0, -1]])
        does = f"shifts every grain by {low if low == high else f'what fits, {low} to {high}'} semitones"
    tuned = f", tuned by {settings.tune_cents:+g} cents" if settings.tune_cents and transposition.n_voices else ""
    return f"{does}{tuned}: {transposition.reason}"
