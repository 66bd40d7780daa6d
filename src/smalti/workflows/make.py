"""Make a mosaic of files: `make_steps` does all that a `MakeRequest` asks for, and yields what happens.

The command line, and whatever else makes mosaics of files, differ only in what they do with what is yielded.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from smalti.dsp.pitch import check_tracker
from smalti.dsp.stft import StftParams
from smalti.grains.transposition import Transposition
from smalti.io.melody import Melody, read_melody
from smalti.mosaicing.job import Job
from smalti.mosaicing.mosaic import Mosaic, Part, assemble, part_of
from smalti.mosaicing.prepare import channel_jobs, looked_up, prepare, unsearched
from smalti.mosaicing.sketch import Stroke
from smalti.mosaicing.solve import solve_steps, solver_of
from smalti.presets import DEFAULT_PRESET, PRESETS
from smalti.settings import Settings
from smalti.workflows.inputs import (
    NO_CHOICE,
    NOT_PAINTED,
    Inputs,
    Painted,
    SourceSelection,
    named_file,
    read_inputs,
    read_painted,
)
from smalti.workflows.judge import measure_made
from smalti.workflows.memory import check_memory
from smalti.workflows.outputs import Outputs, check_outputs, figures_of, write_outputs
from smalti.workflows.report import describe, write_report
from smalti.workflows.steps import Clock, Done, Event, Events, Progress, Remark, Request, Warned, recorded_warnings


@dataclass(frozen=True)
class MakeRequest(Request):
    """All that it takes to make a mosaic of files.

    Attributes
    ----------
    target : a sound file, or example:NAME.
    sources : sound files, folders, example:NAME, or one corpus.
    outputs : where the results go. Its `drawn` is set by the settings.
    settings : how the mosaic is made.
    preset : the name of the preset that the settings began with, for the report.
    grid : window and hop in samples; None for those of the settings.
    start_s, end_s : the target's excerpt in seconds, or None.
    melody : a text file with the melody to follow, or None.
    selection : which of the sources, and how much of them.
    sketch : a picture over the activations, or None.
    strokes : rectangles over the activations, painted after the picture.
    seed : of the random start.
    measured : whether the mosaic is measured; see `smalti.metrics`.
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
    selection: SourceSelection = NO_CHOICE
    sketch: Path | None = None
    strokes: tuple[Stroke, ...] = ()
    seed: int = 0
    measured: bool = False


def make_steps(request: MakeRequest) -> Events:
    """Read, build and write a mosaic, and measure it if the request says so.

    What could not be done is refused before any work. If the caller closes the generator, or an error is raised, no
    file is left half-written.

    Yields
    ------
    Stage : as each begins. With several channels driven apart, "solve" and "synthesise" begin once for each.
    Progress : one as "solve" begins, and one after each step of the solver.
    Warned : as soon as there is something to warn of.
    Remark : how the source comes to the target's pitches, if that was asked.
    Done : the last one; `result` is the report, of plain types.

    Raises
    ------
    SmaltiError : for what is wrong with files, memory or the disk.
    ValueError, TypeError : for what is wrong with the request.
    """
    sentences = list[str]()
    for event in _steps(request, sentences):
        if isinstance(event, Warned):
            sentences.append(event.sentence)
        yield event


def _steps(request: MakeRequest, warned: list[str]) -> Events:
    """As `make_steps`, whose caller keeps the sentences that were `warned`."""
    clock = Clock()
    yield clock.begin("read")
    outputs = replace(request.outputs, drawn=figures_of(request.settings))
    melody, painted, inputs = _read(request, outputs)
    yield from map(Warned, inputs.warnings)
    yield clock.begin("analyse")
    job = yield from _prepared(request, inputs, melody, painted)
    if job.transposition is not None:
        yield Remark(way_of(job.transposition, request.settings))
    parts = yield from _solved(job, request.seed, clock)
    mosaic = assemble(job, parts)
    yield clock.begin("write")
    yield from map(Warned, _short_of_loudness(mosaic))
    write_outputs(outputs, inputs, job, mosaic, start_s=request.start_s, end_s=request.end_s)
    measures = None
    if request.measured:
        yield clock.begin("measure")
        measures, sentences = measure_made(inputs, mosaic)
        yield from map(Warned, sentences)
    clock.end()
    report = describe(
        inputs,
        outputs,
        mosaic,
        preset=request.preset,
        seed=request.seed,
        start_s=request.start_s,
        end_s=request.end_s,
        seconds=clock.seconds,
        warnings=warned,
        measures=measures,
        melody=melody,
        painted=painted,
    )
    write_report(outputs, report)
    yield Done(report)


def _read(request: MakeRequest, outputs: Outputs) -> tuple[Melody | None, Painted, Inputs]:
    """Everything that is read, once it is known that the outputs can be written."""
    target, sources = named_file(request.target), list(map(named_file, request.sources))
    settings = request.settings
    written = [file for file in (request.melody, request.sketch) if file is not None]
    check_outputs(outputs, [target, *sources, *written])
    melody = None if request.melody is None else read_melody(request.melody)
    painted = read_painted(request.sketch, request.strokes)
    if settings.transpose != "off":
        check_tracker()
    excerpt = {"start_s": request.start_s, "end_s": request.end_s}
    inputs = read_inputs(target, sources, **excerpt, sr=settings.sr, choice=request.selection)
    check_outputs(outputs, [*inputs.files, *written], sr=inputs.sr, channels=inputs.channels_of(settings))
    return melody, painted, inputs


def _prepared(
    request: MakeRequest, inputs: Inputs, melody: Melody | None, painted: Painted
) -> Generator[Event, None, Job]:
    """The job, once it is known to fit into memory."""
    settings = request.settings
    params = request.grid or StftParams.from_seconds(settings.window_s, settings.hop_s, inputs.sr)
    needed = check_memory(inputs, settings, params, painted=painted != NOT_PAINTED)
    yield from map(Warned, _all_considered(inputs, settings, params, needed))
    n_frames, hop_s = params.n_frames(inputs.target_samples.shape[-1]), params.hop / inputs.sr
    with recorded_warnings() as sentences:
        job = prepare(
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
    yield from map(Warned, sentences)
    return painted.onto(job, inputs)


def _all_considered(inputs: Inputs, settings: Settings, params: StftParams, needed: int) -> list[str]:
    """The warning that a corpus is not searched, which needs so many bytes of memory."""
    told_apart = inputs.weights is not None or bool(inputs.limits)
    searched = looked_up(0, settings, params, inputs.sr, asked=True)
    # Where weights and limits need it to be searched, `prepare` refuses it for the same reason.
    if inputs.shelf is None or searched or told_apart:
        return []
    reason = unsearched(settings, params, inputs.sr)
    return [f"all of {inputs.shelf.folder} is considered, which takes {needed / 1e9:.1f} GB, as {reason}"]


def _solved(job: Job, seed: int, clock: Clock) -> Generator[Event, None, list[Part]]:
    """The parts of the mosaic, solved and synthesised: one, or one a channel."""
    total, done, parts = solver_of(job).n_steps * job.n_solves, 0, list[Part]()
    for channel in channel_jobs(job):
        yield clock.begin("solve")
        yield Progress(done, total)
        divergences = list[float]()
        for step in solve_steps(channel, rng=seed):
            done += 1
            divergences.append(step.divergence)
            yield Progress(done, total, step.divergence)
        yield clock.begin("synthesise")
        parts.append(part_of(channel, step, divergences))
    return parts


def _short_of_loudness(mosaic: Mosaic) -> list[str]:
    """The warning that the mosaic is not as loud as was asked."""
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
