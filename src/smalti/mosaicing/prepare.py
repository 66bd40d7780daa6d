"""From a target, a source and settings to a job: everything is checked and analysed here."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from smalti._checks import Floats, ParameterError, check_rate, check_sound
from smalti.dsp.channels import as_channels, to_mono
from smalti.dsp.stft import StftParams, stft
from smalti.grains.corpus import Corpus, corpus_of, hop_at
from smalti.grains.dictionary import Dictionary, as_recordings, build_dictionary
from smalti.grains.filters import Limit
from smalti.grains.sound import cleaned
from smalti.mosaicing.job import Job
from smalti.mosaicing.sketch import Sketch, Stroke, sketch_of_array, sketch_of_strokes
from smalti.mosaicing.transpose import transposition_of
from smalti.settings import Settings

# What `sketched` makes a sketch of.
Sketched = Sketch | Sequence[Stroke] | ArrayLike


def prepare(
    target: ArrayLike,
    source: ArrayLike | Sequence[ArrayLike] | Dictionary,
    sr: int,
    settings: Settings,
    *,
    params: StftParams | None = None,
    names: Sequence[str] | None = None,
    target_name: str = "target",
    target_f0: ArrayLike | None = None,
    source_f0: ArrayLike | Sequence[ArrayLike] | None = None,
    weights: Floats | None = None,
    limits: Sequence[Limit] = (),
    sketch: Sketched | None = None,
) -> Job:
    """Check and analyse both recordings; arguments as for `mosaic`, `names` as for `build_dictionary`.

    `target_name` is what warnings call the target. `weights` and `limits` are those of `Job`; the source is searched
    then, however short it is.
    """
    recording, sr = check_sound("target", target), check_rate("sr", sr)
    if isinstance(source, Corpus):
        source = on_grid(source, settings, params)
        params = None
    if isinstance(source, Dictionary):
        dictionary = source
        if dictionary.sr != sr:
            raise ValueError(f"the dictionary is at {dictionary.sr} Hz but the target at {sr} Hz; resample one of them")
        if params not in (None, dictionary.params):
            raise ValueError(
                f"params is {params} but the dictionary was built with {dictionary.params}; leave params out"
            )
    else:
        params = params or StftParams.from_seconds(settings.window_s, settings.hop_s, sr)
        recordings = as_recordings(source)
        dtype = np.result_type(recording, *recordings)
        recordings = [of.astype(dtype, copy=False) for of in recordings]
        recordings = cleaned(recordings, sr, settings)
        dictionary = build_dictionary(recordings, sr, params=params, names=names)
        if looked_up(dictionary.n_atoms, settings, params, sr, asked=weights is not None or bool(limits)):
            dictionary = corpus_of(dictionary.recordings, sr, params=params, names=dictionary.names)
        _warn_of_short({name: of.shape[-1] for name, of in zip(dictionary.names, recordings, strict=True)}, params)
    _check_told_apart(dictionary, settings, weights, limits)
    if settings.channels == "mono":
        dictionary = dictionary.to_mono()
    # A ready dictionary may be float64 where the target is not; the mosaic is float32 only if both are.
    recording = recording.astype(np.result_type(recording, dictionary.norms), copy=False)
    samples = to_mono(recording)
    if not dictionary.norms.any():
        raise ValueError("source is silent: there is no sound to build a mosaic from; pass a source that sounds")
    _warn_of_short({target_name: len(samples)}, dictionary.params)
    if not samples.any():
        warnings.warn(f"{target_name} is silent, and so is its mosaic", stacklevel=3)
    spectrum = stft(samples, dictionary.params)
    if settings.transpose == "off" and (target_f0 is not None or source_f0 is not None):
        raise ValueError("a pitch is given but transpose is 'off'; pass transpose='follow', or leave the pitch out")
    job = Job(samples, spectrum, dictionary, settings, recording, weights=weights, limits=tuple(limits))
    if sketch is not None:
        job = sketched(job, sketch)
    if settings.transpose == "off" or not samples.any():
        return job
    return replace(job, transposition=transposition_of(job, target_f0=target_f0, source_f0=source_f0))


def sketched(job: Job, sketch: Sketched) -> Job:
    """The job with a sketch; where it has one already, under that.

    Raises
    ------
    ValueError, TypeError : for a sketch that is not of its source and target frames or forbids everything, and where
        pursuit is to solve it.
    """
    n_atoms, n_frames = job.dictionary.n_atoms, job.spectrum.shape[1]
    if job.settings.method == "pursuit":
        raise ValueError("a sketch is given but pursuit takes none; take a preset other than sparse")
    if not isinstance(sketch, Sketch):
        if isinstance(sketch, list | tuple) and all(isinstance(one, Stroke) for one in sketch):
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


# Where there are more source frames, which of them to consider is looked up rather than found by considering all.
SEARCHED_ABOVE = 5_000


def looked_up(n_atoms: int, settings: Settings, params: StftParams, sr: int, *, asked: bool = False) -> bool:
    """Whether a source of so many frames is searched on this grid, rather than every frame considered.

    `asked` is whether it is a corpus, or recordings are weighed or limited, so that it is searched however short it is.
    """
    wanted = settings.search == "always" or asked or n_atoms > SEARCHED_ABOVE
    return wanted and settings.searchable and params.hop == hop_at(sr)


def _check_told_apart(
    dictionary: Dictionary, settings: Settings, weights: Floats | None, limits: Sequence[Limit]
) -> None:
    """Refuse weights and limits that would not be listened to, or are none."""
    if weights is None and not limits:
        return
    if not isinstance(dictionary, Corpus):
        raise ValueError(
            "sources can be weighed and limited only where they are searched, and here all is considered, as "
            f"{unsearched(settings, dictionary.params, dictionary.sr)}; take the preset balanced or source-like"
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


def unsearched(settings: Settings, params: StftParams, sr: int) -> str:
    """Why a corpus is not searched, such as "beta is 2"."""
    if settings.unsearchable:
        return settings.unsearchable
    if params.hop != hop_at(sr):
        return f"the hop is {params.hop} and not {hop_at(sr)}"
    return "the source is a ready dictionary"


def on_grid(corpus: Corpus, settings: Settings, params: StftParams | None) -> Dictionary:
    """The corpus on the grid of a job; where that cannot search in it, the dictionary of all its recordings."""
    params = params or StftParams.from_seconds(settings.window_s, settings.hop_s, corpus.sr)
    if looked_up(corpus.n_atoms, settings, params, corpus.sr, asked=True):
        return replace(corpus, params=params)
    recordings, names = corpus.whole_recordings()
    return build_dictionary(recordings, corpus.sr, params=params, names=names)


def output_channels(settings: Settings, target: int, sources: Sequence[int]) -> int:
    """How many channels a mosaic will have, by those of the target and of each source recording."""
    return {"source": max(sources), "apart": target, "mono": 1}[settings.channels]


def channel_jobs(job: Job) -> Iterator[Job]:
    """The jobs to solve: `job` itself, or with channels "apart" one for each channel of the target.

    There, channel i of the target is made of channel i of every source recording that has as many channels as the
    target, and of the mono mix of every other, as if neither had another channel. All start from one seed, so that
    channels that are alike are made alike. They are made one by one, as each has its own frames.
    """
    if job.settings.channels != "apart":
        yield job
        return
    for channel, samples in enumerate(as_channels(job.recording)):
        dictionary = job.dictionary.one_channel(channel, job.n_solves)
        spectrum = stft(samples, dictionary.params)
        yield Job(samples, spectrum, dictionary, job.settings, samples, job.transposition, sketch=job.sketch)


def _warn_of_short(lengths: Mapping[str, int], params: StftParams) -> None:
    short = {name: length for name, length in lengths.items() if length < params.n_fft}
    padded = f"fewer than one window of {params.n_fft}"
    if len(short) > 3:
        warnings.warn(f"{len(short)} recordings have {padded} samples; they are padded with silence", stacklevel=4)
        return
    for name, length in short.items():
        count = "1 sample" if length == 1 else f"{length} samples"
        warnings.warn(f"{name} has {count}, {padded}; it is padded with silence", stacklevel=4)
