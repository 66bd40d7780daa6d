"""Make a mosaic of files: `make_steps` carries out a `MakeRequest` and yields events.

The command line and other callers differ only in what they do with the events.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smalti._checks import ParameterError, check_count
from smalti.dsp.channels import n_channels
from smalti.dsp.loudness import integrated_loudness
from smalti.dsp.pitch import check_tracker
from smalti.dsp.stft import StftParams
from smalti.grains.transposition import Transposition
from smalti.io.image import Picture, read_picture
from smalti.io.melody import read_melody
from smalti.io.sound_write import check_format
from smalti.mosaicing.job import Job
from smalti.mosaicing.memory import memory_needed, memory_searched
from smalti.mosaicing.mosaic import Mosaic, Part, Solving, assemble, parts_of
from smalti.mosaicing.prepare import prepare, sketched
from smalti.mosaicing.search_plan import SearchPlan
from smalti.mosaicing.sketch import Stroke, sketch_of_image, sketch_of_strokes
from smalti.mosaicing.transpose import check_melody_wanted
from smalti.presets import DEFAULT_PRESET, PRESETS
from smalti.settings import Settings
from smalti.workflows.inputs import (
    NO_CHOICE,
    WHOLE,
    Excerpt,
    Inputs,
    Provenance,
    SourceSelection,
    named_file,
    read_inputs,
)
from smalti.workflows.judge import measure_made
from smalti.workflows.outputs import Outputs, check_outputs, figures_of, write_outputs
from smalti.workflows.report import (
    describe_choice,
    describe_recording,
    describe_sketch,
    describe_software,
    describe_source,
    describe_transposition,
    finite_or_none,
    write_report,
)
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
    outputs : where the results go.
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
    inputs = _read(request)
    yield from map(Warned, inputs.warnings)
    yield clock.begin("analyse")
    job = yield from _prepared(request, inputs)
    if job.transposition is not None:
        yield Remark(way_of(job.transposition, request.settings))
    parts = yield from _solved(job, request.seed, clock)
    mosaic = assemble(job, parts)
    yield clock.begin("write")
    yield from map(Warned, _short_of_loudness(mosaic))
    write_outputs(request.outputs, inputs.source, mosaic)
    measures = None
    if request.measured:
        yield clock.begin("measure")
        measures, sentences = measure_made(inputs, mosaic)
        yield from map(Warned, sentences)
    clock.end()
    report = describe_made(request, inputs, mosaic, measures=measures, seconds=clock.seconds, warnings=warned)
    write_report(request.outputs, report)
    yield Done(report)


def _read(request: MakeRequest) -> Inputs:
    """Read melody, picture and recordings, after checking that the outputs can be written."""
    check_count("seed", request.seed, least=0)
    if not request.sources:
        raise ParameterError("sources", "is empty", "name at least one file, folder or corpus")
    target, sources = named_file(request.target), list(map(named_file, request.sources))
    settings, outputs, drawn = request.settings, request.outputs, figures_of(request.settings)
    extras = [file for file in (request.melody, request.sketch) if file is not None]
    check_outputs(outputs, [target, *sources, *extras], drawn=drawn)
    if request.melody is not None:
        check_melody_wanted(settings)
    melody = None if request.melody is None else read_melody(request.melody)
    picture = None if request.sketch is None else read_picture(request.sketch)
    if settings.transpose != "off":
        check_tracker()
    inputs = read_inputs(target, sources, excerpt=request.excerpt, sr=settings.sr, choice=request.selection)
    channels = inputs.channels_of(settings)
    check_outputs(outputs, [*inputs.files, *extras], drawn=drawn, sr=inputs.sr, channels=channels)
    return replace(inputs, melody=melody, picture=picture)


def _prepared(request: MakeRequest, inputs: Inputs) -> Generator[Event, None, Job]:
    """Prepare the job, after checking that it fits into memory."""
    settings, target, source = request.settings, inputs.target, inputs.source
    provenance, melody, picture = source.provenance, inputs.melody, inputs.picture
    if picture is not None:
        _check_picture(picture, provenance)
    plan = inputs.plan(settings, request.grid)
    needed = check_memory(inputs, settings, plan, painted=picture is not None or bool(request.strokes))
    # `prepare` refuses weights and limits where all is considered, for the same reason.
    if not plan.searched and not inputs.is_weighed:
        for corpus in provenance.corpora:
            takes = f"which takes {needed / 1e9:.1f} GB"
            yield Warned(f"all of {corpus.folder} is considered, {takes}, as {plan.reason}")
    n_frames, hop_s = plan.params.n_frames(target.samples.shape[-1]), plan.params.hop / inputs.sr
    with recorded_warnings() as sentences:
        job = prepare(
            target.samples,
            source.material,
            inputs.sr,
            settings,
            plan=plan,
            names=provenance.files,
            weights=inputs.weights,
            limits=inputs.limits,
            about_target=target.provenance,
            target_f0=None if melody is None else melody.on_grid(n_frames, hop_s, start_s=target.excerpt.begin_s),
        )
    yield from map(Warned, sentences)
    if picture is not None:
        job = sketched(job, sketch_of_image(picture.pixels, job.dictionary.n_atoms, n_frames))
    if request.strokes:
        infos = provenance.infos(job.dictionary)
        job = sketched(job, sketch_of_strokes(request.strokes, job.dictionary, n_frames, infos=infos))
    return job


def _check_picture(picture: Picture, provenance: Provenance) -> None:
    """Refuse a picture over a corpus. Files follow each other in the order in which they were named."""
    if provenance.corpora:
        corpus = provenance.corpora[0].folder
        raise ParameterError(
            "sketch",
            f"is {picture.path} but {corpus} is a corpus, whose files have no order for a picture to lie over",
            "take --paint, with their names",
        )


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
        needed = memory_searched(n_atoms, n_frames, params, channels=channels, sr=sr, held=bool(source.samples))
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
    parts = list[Part]()
    for made in parts_of(job, rng=seed):
        if isinstance(made, Part):
            parts.append(made)
        elif isinstance(made, Solving):
            if made.step is None:
                yield clock.begin("solve")
            yield Progress(made.done, made.total, None if made.step is None else made.step.divergence)
        else:
            yield clock.begin("synthesise")
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


def describe_made(
    request: MakeRequest,
    inputs: Inputs,
    mosaic: Mosaic,
    *,
    measures: Mapping[str, float] | None,
    seconds: Mapping[str, float],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The report of a mosaic: its inputs, settings, results and measures, in plain types, ready for JSON.

    Parameters
    ----------
    inputs : as read for the request. measures : of the mosaic, or None.
    seconds : the time that each stage took. warnings : all sentences that the user was warned with.
    """
    params, target, audio = mosaic.dictionary.params, inputs.target, request.outputs.audio
    return {
        **describe_software(),
        "preset": request.preset,
        "settings": asdict(mosaic.settings),
        "seed": request.seed,
        "sr": mosaic.sr,
        "grid": asdict(params),
        "target": describe_recording(target.recording)
        | {
            "start_s": target.excerpt.begin_s,
            "end_s": target.excerpt.end_s,
            "loudness_lufs": finite_or_none(integrated_loudness(target.samples, inputs.sr)),
        },
        **describe_source(inputs.source.provenance, mosaic),
        "choice": describe_choice(inputs.choice),
        "sketch": describe_sketch(inputs.picture, request.strokes),
        "skipped": dict(inputs.source.provenance.skipped),
        "output": {
            "path": str(audio),
            "subtype": check_format(audio.suffix, mosaic.sr, subtype=request.outputs.subtype),
            "channels": n_channels(mosaic.audio),
            "samples": mosaic.audio.shape[-1],
            "duration_s": mosaic.audio.shape[-1] / mosaic.sr,
            "loudness_lufs": finite_or_none(mosaic.loudness),
            "true_peak_db": finite_or_none(mosaic.true_peak_db),
        },
        "bins": params.n_bins,
        "atoms": mosaic.dictionary.n_atoms,
        "frames": int(mosaic.activations.shape[1]),
        "transposition": describe_transposition(mosaic, inputs.melody),
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
