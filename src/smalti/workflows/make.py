"""Make a mosaic of files: `make_steps` carries out a `MakeRequest` and yields events.

The command line and other callers differ only in what they do with the events.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from smalti.dsp.pitch import check_tracker
from smalti.dsp.stft import StftParams
from smalti.grains.transposition import Transposition
from smalti.io.image import Picture, read_picture
from smalti.io.melody import Melody, read_melody
from smalti.mosaicing.job import Job
from smalti.mosaicing.memory import memory_needed, memory_searched
from smalti.mosaicing.mosaic import Mosaic, Part, assemble, part_of
from smalti.mosaicing.prepare import channel_jobs, prepare, sketched
from smalti.mosaicing.search_plan import SearchPlan
from smalti.mosaicing.sketch import Stroke, sketch_of_image, sketch_of_strokes
from smalti.mosaicing.solve import solve_steps, solver_of
from smalti.mosaicing.transpose import check_melody_wanted
from smalti.presets import DEFAULT_PRESET, PRESETS
from smalti.settings import Settings
from smalti.workflows.inputs import (
    NO_CHOICE,
    WHOLE,
    Excerpt,
    Inputs,
    SourceSelection,
    named_file,
    read_inputs,
)
from smalti.workflows.judge import measure_made
from smalti.workflows.outputs import Outputs, check_outputs, figures_of, write_outputs
from smalti.workflows.report import describe, write_report
from smalti.workflows.steps import (
    Clock,
    Done,
    Event,
    Events,
    Progress,
    Remark,
    Request,
    Warned,
    check_fits,
    recorded_warnings,
)


@dataclass(frozen=True)
class MakeRequest(Request):
    """All that it takes to make a mosaic of files.

    Attributes
    ----------
    target : a sound file, or example:NAME.
    sources : sound files, folders, example:NAME, or one corpus.
    outputs : where the results go. Its `drawn` is derived from the settings.
    settings : how the mosaic is made.
    preset : the name of the preset that the settings began with, for the report.
    grid : window and hop in samples; None for those of the settings.
    excerpt : the part of the target to re-create, in seconds.
    melody : a text file with the melody to follow, or None.
    selection : the selection from the sources.
    sketch : a picture over the activations, or None.
    strokes : rectangles over the activations, painted after the picture.
    seed : for the random start.
    measured : whether the mosaic is measured; see `smalti.metrics`.
    """

    target: str
    sources: tuple[str, ...]
    outputs: Outputs
    settings: Settings = PRESETS[DEFAULT_PRESET]
    preset: str = DEFAULT_PRESET
    grid: StftParams | None = None
    excerpt: Excerpt = WHOLE
    melody: Path | None = None
    selection: SourceSelection = NO_CHOICE
    sketch: Path | None = None
    strokes: tuple[Stroke, ...] = ()
    seed: int = 0
    measured: bool = False


def make_steps(request: MakeRequest) -> Events:
    """Read, build and write a mosaic, and measure it if the request says so.

    Impossible requests are refused before any work. If the caller closes the generator, or an error is raised, no
    file is left half-written.

    Yields
    ------
    Stage : as each begins. With several channels driven apart, "solve" and "synthesise" begin once for each.
    Progress : one as "solve" begins, and one after each step of the solver.
    Warned : as soon as there is something to warn of.
    Remark : how the source is brought to the target's pitches, if that was requested.
    Done : the last event; `result` is the report, of plain types.

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
    """As `make_steps`, for a caller that adds the sentences of all warnings to `warned`."""
    clock = Clock()
    yield clock.begin("read")
    outputs = replace(request.outputs, drawn=figures_of(request.settings))
    melody, picture, inputs = _read(request, outputs)
    yield from map(Warned, inputs.warnings)
    yield clock.begin("analyse")
    job = yield from _prepared(request, inputs, melody, picture)
    if job.transposition is not None:
        yield Remark(way_of(job.transposition, request.settings))
    parts = yield from _solved(job, request.seed, clock)
    mosaic = assemble(job, parts)
    yield clock.begin("write")
    yield from map(Warned, _short_of_loudness(mosaic))
    write_outputs(outputs, inputs.source, mosaic)
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
        seconds=clock.seconds,
        warnings=warned,
        measures=measures,
        melody=melody,
        picture=picture,
        strokes=request.strokes,
    )
    write_report(outputs, report)
    yield Done(report)


def _read(request: MakeRequest, outputs: Outputs) -> tuple[Melody | None, Picture | None, Inputs]:
    """Read melody, picture and recordings, after checking that the outputs can be written."""
    target, sources = named_file(request.target), list(map(named_file, request.sources))
    settings = request.settings
    extras = [file for file in (request.melody, request.sketch) if file is not None]
    check_outputs(outputs, [target, *sources, *extras])
    if request.melody is not None:
        check_melody_wanted(settings)
    melody = None if request.melody is None else read_melody(request.melody)
    picture = None if request.sketch is None else read_picture(request.sketch)
    if settings.transpose != "off":
        check_tracker()
    inputs = read_inputs(target, sources, excerpt=request.excerpt, sr=settings.sr, choice=request.selection)
    check_outputs(outputs, [*inputs.files, *extras], sr=inputs.sr, channels=inputs.channels_of(settings))
    return melody, picture, inputs


def _prepared(
    request: MakeRequest, inputs: Inputs, melody: Melody | None, picture: Picture | None
) -> Generator[Event, None, Job]:
    """Prepare the job, after checking that it fits into memory."""
    settings, target, source = request.settings, inputs.target, inputs.source
    if picture is not None:
        source.check_picture(picture)
    plan = inputs.plan(settings, request.grid)
    needed = check_memory(inputs, settings, plan, painted=picture is not None or bool(request.strokes))
    if not plan.searched:
        yield from map(Warned, source.unsearched(plan, needed))
    n_frames, hop_s = plan.params.n_frames(target.samples.shape[-1]), plan.params.hop / inputs.sr
    with recorded_warnings() as sentences:
        job = prepare(
            target.samples,
            source.material,
            inputs.sr,
            settings,
            plan=plan,
            names=source.provenance,
            weights=source.weights,
            limits=source.limits,
            about_target=target.provenance,
            target_f0=None if melody is None else melody.on_grid(n_frames, hop_s, start_s=target.excerpt.begin_s),
        )
    yield from map(Warned, sentences)
    if picture is not None:
        job = sketched(job, sketch_of_image(picture.pixels, job.dictionary.n_atoms, n_frames))
    if request.strokes:
        infos = source.infos(job.dictionary)
        job = sketched(job, sketch_of_strokes(request.strokes, job.dictionary, n_frames, infos=infos))
    return job


def check_memory(inputs: Inputs, settings: Settings, plan: SearchPlan, *, painted: bool = False) -> int:
    """The peak memory of a job in bytes, after refusing a job that would exhaust the machine's memory.

    `painted` is whether it has a sketch.

    Raises
    ------
    SmaltiError : if it would need more memory than the machine has.
    """
    params, source, sr = plan.params, inputs.source, inputs.sr
    n_frames, n_atoms = params.n_frames(inputs.target.samples.shape[-1]), source.n_frames(params)
    channels = inputs.channels_of(settings)
    if plan.searched:
        needed = memory_searched(n_atoms, n_frames, params, channels=channels, sr=sr, held=source.in_memory)
    else:
        needed = memory_needed(n_atoms, n_frames, settings, params, channels=channels, sr=sr, painted=painted)
    check_fits(
        needed,
        f"{n_atoms} source frames by {n_frames} target frames",
        "take a shorter target (--start, --end), less source, or a longer --hop",
    )
    return needed


def _solved(job: Job, seed: int, clock: Clock) -> Generator[Event, None, list[Part]]:
    """Solve and synthesise the parts of the mosaic: one, or one for each channel."""
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
    """A warning if the mosaic is quieter than requested."""
    wanted = mosaic.settings.loudness
    if isinstance(wanted, str) or mosaic.settings.level_db != 0 or not mosaic.loudness < wanted - 1:
        return []
    return [f"{wanted:g} LUFS are more than the peaks allow: it is {mosaic.loudness:.1f} LUFS"]


def way_of(transposition: Transposition, settings: Settings) -> str:
    """A sentence on how the source is brought to the target's pitches, and why."""
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
