"""Prepare a job: a target, a source and settings, checked and analysed."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from smalti._checks import Floats, ParameterError, check_rate, check_sound
from smalti.dsp.channels import as_channels, to_mono
from smalti.dsp.stft import StftParams, stft
from smalti.grains.corpus import corpus_of
from smalti.grains.dictionary import Dictionary, as_recordings, build_dictionary
from smalti.grains.filters import Limit
from smalti.grains.sound import cleaned
from smalti.grains.source import Source
from smalti.mosaicing.job import PLAIN_TARGET, Job
from smalti.mosaicing.search_plan import SearchPlan
from smalti.mosaicing.sketch import Sketch, Stroke, sketch_of_array, sketch_of_strokes
from smalti.mosaicing.transpose import check_melody_wanted, transposition_of
from smalti.score.score import Target
from smalti.settings import Settings

# The forms of a sketch; `sketched` reads them.
Sketched = Sketch | Sequence[Stroke] | ArrayLike


def prepare(
    target: ArrayLike,
    source: ArrayLike | Sequence[ArrayLike] | Dictionary,
    sr: int,
    settings: Settings,
    *,
    plan: SearchPlan,
    names: Sequence[str | Source] | None = None,
    about_target: Target = PLAIN_TARGET,
    target_f0: ArrayLike | None = None,
    source_f0: ArrayLike | Sequence[ArrayLike] | None = None,
    weights: Floats | None = None,
    limits: Sequence[Limit] = (),
    sketch: Sketched | None = None,
) -> Job:
    """Check and analyse target and source; arguments as for `mosaic`, and these.

    Parameters
    ----------
    plan : whether the source is searched, and the grid; see `smalti.mosaicing.search_plan.plan_of`.
    names : as for `build_dictionary`.
    about_target : where the target comes from; warnings call it by that name.
    weights, limits : as for `Job`. A plan without a search leaves no use for them.

    Raises
    ------
    ValueError, TypeError, MissingExtraError : as for `mosaic`.

    Warns
    -----
    UserWarning : for a silent target, and for recordings shorter than a window.
    """
    recording, sr = check_sound("target", target), check_rate("sr", sr)
    if isinstance(source, Dictionary):
        if source.sr != sr:
            raise ValueError(f"the dictionary is at {source.sr} Hz but the target at {sr} Hz; resample one of them")
        dictionary = source.on_grid(plan.params, searched=plan.searched)
    else:
        recordings = as_recordings(source)
        dtype = np.result_type(recording, *recordings)
        recordings = cleaned([samples.astype(dtype, copy=False) for samples in recordings], sr, settings)
        build = corpus_of if plan.searched else build_dictionary
        dictionary = build(recordings, sr, params=plan.params, names=names)
        lengths = [samples.shape[-1] for samples in recordings]
        _warn_of_short(dict(zip(dictionary.names, lengths, strict=True)), plan.params)
    _check_weights_and_limits(dictionary, plan, settings, weights, limits)
    if settings.channels == "mono":
        dictionary = dictionary.to_mono()
    # A ready dictionary may be float64 where the target is not; the mosaic is float32 only if both are.
    recording = recording.astype(np.result_type(recording, dictionary.norms), copy=False)
    samples = to_mono(recording)
    if not dictionary.norms.any():
        raise ValueError("source is silent: there is no sound to build a mosaic from; pass a source that sounds")
    _warn_of_short({about_target.name: len(samples)}, dictionary.params)
    if not samples.any():
        warnings.warn(f"{about_target.name} is silent, and so is its mosaic", stacklevel=3)
    spectrum = stft(samples, dictionary.params)
    if target_f0 is not None:
        check_melody_wanted(settings)
    if settings.transpose == "off" and source_f0 is not None:
        fault, remedy = "means nothing while {transpose} is off", "add {transpose} auto, or leave it out"
        raise ParameterError("source_f0", fault, remedy, also=("transpose",))
    job = Job(
        samples, spectrum, dictionary, settings, recording, plan, weights=weights, limits=tuple(limits),
        about_target=about_target,
    )  # fmt: skip
    if sketch is not None:
        job = sketched(job, sketch)
    if settings.transpose == "off" or not samples.any():
        return job
    return replace(job, transposition=transposition_of(job, target_f0=target_f0, source_f0=source_f0))


def sketched(job: Job, sketch: Sketched) -> Job:
    """The job with a sketch, whose weights multiply those of a sketch that the job has already.

    Raises
    ------
    ValueError, TypeError : if the sketch has other numbers of source and target frames or forbids everything, or if
        pursuit is to solve the job.
    """
    n_atoms, n_frames = job.dictionary.n_atoms, job.spectrum.shape[1]
    if job.settings.method == "pursuit":
        raise ValueError("a sketch is given but pursuit takes none; take a preset other than sparse")
    if not isinstance(sketch, Sketch):
        if isinstance(sketch, list | tuple) and all(isinstance(stroke, Stroke) for stroke in sketch):
            sketch = sketch_of_strokes(sketch, job.dictionary, n_frames)
        else:
            sketch = sketch_of_array(cast(ArrayLike, sketch), n_atoms, n_frames)
    if sketch.shape != (n_atoms, n_frames):
        raise ParameterError(
            "sketch",
            f"is of {sketch.shape[0]} source and {sketch.shape[1]} target frames",
            f"make it for {n_atoms} and {n_frames}",
        )
    if job.sketch is not None:
        sketch = job.sketch.times(sketch)
    if not sketch.cells[np.unique(sketch.rows)][:, np.unique(sketch.columns)].any():
        raise ValueError("the sketch forbids everything; leave something of the source to some moment")
    return replace(job, sketch=sketch)


def _check_weights_and_limits(
    dictionary: Dictionary, plan: SearchPlan, settings: Settings, weights: Floats | None, limits: Sequence[Limit]
) -> None:
    """Refuse weights and limits that would have no effect, and weights of a wrong shape or range."""
    if weights is None and not limits:
        return
    if not plan.searched:
        raise ValueError(
            "sources can be weighed and limited only where they are searched, and here all is considered, as "
            f"{plan.reason}; take the preset balanced or source-like"
        )
    if limits and settings.choose != "grains":
        raise ValueError(
            f"sources can be limited only where whole grains are chosen, and choose is {settings.choose!r}; take the "
            "preset balanced or source-like, or weights instead"
        )
    n_recordings = len(dictionary.recordings)
    if weights is not None and (
        np.shape(weights) != (n_recordings,) or not (np.isfinite(weights).all() and (weights >= 0).all())
    ):
        raise ParameterError(
            "weights", f"are {weights!r}", f"pass a number of at least 0 for each of {n_recordings} recordings"
        )


def output_channels(settings: Settings, target: int, sources: Sequence[int]) -> int:
    """The number of channels a mosaic will have.

    Parameters
    ----------
    target : channels of the target. sources : channels of each source recording.
    """
    return {"source": max(sources), "apart": target, "mono": 1}[settings.channels]


def channel_jobs(job: Job) -> Iterator[Job]:
    """The jobs to solve: `job` itself, or one for each channel of the target if channels is "apart".

    Channel i of the target is then made of channel i of each source recording that has as many channels as the target,
    and of the mono mix of every other recording. Every job is to be solved with the same seed, so that equal channels
    give equal mosaics. Jobs are yielded one by one, since each holds frames of its own.
    """
    if job.settings.channels != "apart":
        yield job
        return
    for channel, samples in enumerate(as_channels(job.recording)):
        dictionary = job.dictionary.one_channel(channel, job.n_solves)
        spectrum = stft(samples, dictionary.params)
        yield Job(samples, spectrum, dictionary, job.settings, samples, job.plan, job.transposition, sketch=job.sketch)


def _warn_of_short(lengths: Mapping[str, int], params: StftParams) -> None:
    short = {name: length for name, length in lengths.items() if length < params.n_fft}
    padded = f"fewer than one window of {params.n_fft}"
    if len(short) > 3:
        warnings.warn(f"{len(short)} recordings have {padded} samples; they are padded with silence", stacklevel=4)
        return
    for name, length in short.items():
        count = "1 sample" if length == 1 else f"{length} samples"
        warnings.warn(f"{name} has {count}, {padded}; it is padded with silence", stacklevel=4)
