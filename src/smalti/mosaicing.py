"""The job: a target, a source, and what comes of them.

`mosaic` does all of it. Its parts stand alone for those who want to watch or steer: `prepare` analyses, `solve_steps`
yields the activations as they form, `finish` makes the sound. Where channels are driven apart there is more than one
set of activations: `channel_jobs` gives a job for each, `part_of` makes the sound of one, `assemble` the mosaic of all.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_rate, check_sound
from smalti.activations import Seed, activation_steps, choose_fit, steps_of
from smalti.channels import mixed_down, n_channels, rows, together
from smalti.choosing import Limit
from smalti.constraints import limit_polyphony
from smalti.corpus import Corpus, corpus_of, hop_at
from smalti.curves import Curve
from smalti.dictionary import Dictionary, as_recordings, build_dictionary
from smalti.exact import GainFit
from smalti.following import ShiftedStep, transposed_steps, transposition_of
from smalti.grains import find_runs, keep_runs, smooth_runs
from smalti.jobs import Job, atom_norms, chosen_among, compared, may_sound
from smalti.levels import at_gain, integrated_loudness, match_loudness
from smalti.rendering import Aim, cleaned, contoured, sounded, turned
from smalti.score import Columns, Score, Source, Target, joined, read_grains, read_shifted
from smalti.searching import SearchedStep, searched_steps
from smalti.settings import DEFAULT_PRESET, Settings, configure
from smalti.sketching import Sketch, Stroke, sketch_of_array, sketch_of_strokes
from smalti.sparse_coding import pursuit_steps
from smalti.steps import Fit, Step
from smalti.stft import StftParams, stft
from smalti.transposing import Grains, Transposition

# What `smalti.curves.as_varying` makes a curve of.
Varying = Curve | str | Sequence[tuple[float, float]]
# What `sketched` makes a sketch of.
Sketched = Sketch | Sequence[Stroke] | ArrayLike


@dataclass(frozen=True, eq=False)
class Part:
    """What came of one of the `channel_jobs`.

    Attributes
    ----------
    audio : (L,) or (C, L), at the level the gains come to.
    activations : (K, N) scipy.sparse CSC, of the frames of `dictionary`. divergences : (iterations,), as in `Mosaic`.
    unshaped : `audio` before `purity`, `colour` and `attacks`: what the activations alone sound like.
    dictionary : what the activations are of: the source's frames, or those of `grains`.
    grains : the grains that were shifted, or None.
    recordings : (R,) ints, which of the source's recordings those of `dictionary` are, where it is not all; else None.
    """

    audio: Floats
    activations: scipy.sparse.csc_array
    divergences: Floats
    unshaped: Floats
    dictionary: Dictionary
    grains: Grains | None = None
    recordings: NDArray[np.intp] | None = None


@dataclass(frozen=True, eq=False)
class Mosaic:
    """What came of a job.

    Attributes
    ----------
    audio : (L,) float array in [-1, 1], or (C, L) if it has several channels, exactly as long as the target and aligned
        with it.
    sr : sample rate in Hz.
    activations : (K, N) scipy.sparse CSC, the gain of each source frame, as recorded, in each target frame. Of channels
        driven apart it is the mean, and `parts` has those of each.
    dictionary : the source frames, with their provenance; of a source that was searched, those that sound.
    divergences : (iterations,) float64, how far ``W @ H`` was from the target's magnitudes after each iteration, summed
        over channels driven apart.
    gain_db : gain that was applied to what the activations come to, in all.
    peak_gain_db : what of it keeps the true peak below -1 dB of full scale, at the cost of loudness; 0 or less.
    limited_db : what was taken off the highest peak on top of that, for milliseconds; 0 or less.
    loudness : integrated loudness of `audio` in LUFS; ``-inf`` for silence.
    true_peak_db : of `audio`, in dB of full scale.
    fit : 0 to 1, how much the magnitude spectrograms of target and `audio` overlap (Bhattacharyya coefficient); level
        does not matter. Taken from the sound itself, since ``W @ H`` hides what overlapping grains cancel.
    leak : 0 to 1, how much of the target itself is in the mosaic (`smalti.metrics.fidelity.leak`), where its phase was
        asked for; else None.
    settings : what made it.
    transposition : how the source came to the target's pitches, with both pitch tracks; None if that was not asked. The
        activations are then gains of source frames that sound at other pitches; those of the grains as shifted are in
        `parts`.
    parts : activations and divergences of each channel driven apart; one part otherwise.
    job : what it was made of.
    """

    audio: Floats
    sr: int
    activations: scipy.sparse.csc_array
    dictionary: Dictionary
    divergences: Floats
    gain_db: float
    peak_gain_db: float
    limited_db: float
    loudness: float
    true_peak_db: float
    fit: float
    leak: float | None
    settings: Settings
    transposition: Transposition | None
    parts: tuple[Part, ...]
    job: Job

    @cached_property
    def score(self) -> Score:
        """What sounds when: every grain, to be read, edited and rendered again; see `smalti.rendering.render`."""
        source = self.job.dictionary
        return Score(
            params=self.parts[0].dictionary.params,
            sr=self.sr,
            length=self.audio.shape[-1],
            channels=n_channels(self.audio),
            n_parts=len(self.parts),
            dtype=self.audio.dtype.name,
            settings=self.settings,
            gain_db=self.gain_db,
            target=Target("target"),
            sources=tuple(Source(name, begin=begin) for name, begin in zip(source.names, source.begins, strict=True)),
            melodies=melodies_of(self.job),
            **joined([_grains_of(part, source) for part in self.parts]),
        )

    @property
    def contributions(self) -> scipy.sparse.csc_array:
        """(K, N): how loud each source frame sounds in each target frame, its gain times its own norm.

        What to look at: near-silent source frames can have enormous gains and still not be heard.
        """
        return scipy.sparse.csc_array(self.activations.multiply(self.dictionary.norms[:, None]))


def mosaic(
    target: ArrayLike,
    source: ArrayLike | Sequence[ArrayLike] | Dictionary,
    sr: int,
    *,
    preset: str | Settings = DEFAULT_PRESET,
    layers: int | Varying | None = None,
    grain_length_s: float | Varying | None = None,
    drift: float | Varying | None = None,
    no_repeat_s: float | None = None,
    iterations: int | None = None,
    beta: float | None = None,
    phase: str | None = None,
    colour: float | None = None,
    attacks: float | None = None,
    channels: str | None = None,
    loudness: str | float | None = None,
    level_db: float | Varying | None = None,
    level_follow: float | None = None,
    ear_weighting: bool | None = None,
    target_phase: float | None = None,
    transpose: str | tuple[float, float] | Varying | None = None,
    keep_formants: bool | None = None,
    tape: bool | None = None,
    tune_cents: float | None = None,
    purity: float | None = None,
    target_f0: ArrayLike | None = None,
    source_f0: ArrayLike | Sequence[ArrayLike] | None = None,
    weights: ArrayLike | None = None,
    limits: Sequence[Limit] = (),
    sketch: Sketched | None = None,
    params: StftParams | None = None,
    init: ArrayLike | None = None,
    rng: Seed = 0,
) -> Mosaic:
    """Re-create `target` out of the sounds of `source`.

    Parameters
    ----------
    target : (L,) or (C, L) float32 or float64 in [-1, 1]: one channel or several.
    source : one recording, (L,) or (C, L), a list of them, or a ready `Dictionary` or `Corpus`.
    sr : sample rate of all of them in Hz; nothing is resampled here.
    preset : a name in `PRESETS`, or `Settings` of your own.
    layers, grain_length_s, drift, no_repeat_s, iterations, beta, phase : knobs that override the preset; see
        `Settings`.
    colour, attacks, channels, loudness, level_db, level_follow, ear_weighting, target_phase : likewise.
    transpose, keep_formants, tape, tune_cents, purity : likewise. For any other setting, pass `Settings`:
        ``dataclasses.replace(PRESETS["balanced"], candidates=8)``. Five of them may change over the target's time:
        ``layers=[(0, 2), (4, 8)]``, or ``"0:2, 4:8"``, or a `Curve`; so may grain_length_s, drift, level_db and
        transpose.
    target_f0 : the melody to follow, (N,) in Hz and 0 where there is no pitch: from a score, MIDI or another tracker;
        or (M, N), one row a voice, for chords. N is ``params.n_frames(L)``, frame n being about sample n * hop (512 at
        22 050 Hz); None to track the target's.
    source_f0 : (K,) Hz for each frame of the source likewise, or a list, one for each recording; None to track them.
        Both only where `transpose` is not "off", and no `target_f0` where it is a range of semitones.
    weights, limits : how much each recording of the source counts, (R,) >= 0, and how much of the mosaic some of them
        may be; see `smalti.choosing`. The source is searched then, however short it is.
    sketch : which moments of the source may sound when: (K, N) weights, 0 to 1000, for its K frames and the target's N,
        or a list of `Stroke`, or any `Sketch`; see `smalti.sketching`. 0 forbids, other numbers multiply what source
        frames are ranked and chosen by.
    params : the grid in samples; by default the preset's in seconds.
    init : (K, N) activations to start from, those of atoms at unit norm if the settings have it so, or None for random
        ones. Pursuit starts from silence and takes none.
    rng : seed or generator of that random start. The same inputs, settings and seed give the same samples.

    Returns
    -------
    Mosaic

    Raises
    ------
    ValueError, TypeError : for signals that are empty, integer or not finite; for a silent source; for values out of
        range; where a melody or chords are to be followed and target or source has no pitch.
    MissingExtraError : if pitch is to be tracked and ``smalti[pitch]`` is not installed.

    Warns
    -----
    UserWarning : for a silent target (the mosaic is silent too) and for recordings shorter than a window.

    Examples
    --------
    >>> import numpy as np, smalti
    >>> t = np.arange(22050) / 22050
    >>> source = np.sin(2 * np.pi * 200 * t * (1 + t))
    >>> target = np.sin(2 * np.pi * 330 * t)
    >>> smalti.mosaic(target, source, 22050).audio.shape
    (22050,)
    """
    settings = configure(
        preset,
        layers=layers,
        grain_length_s=grain_length_s,
        drift=drift,
        no_repeat_s=no_repeat_s,
        iterations=iterations,
        beta=beta,
        phase=phase,
        colour=colour,
        attacks=attacks,
        channels=channels,
        loudness=loudness,
        level_db=level_db,
        level_follow=level_follow,
        ear_weighting=ear_weighting,
        target_phase=target_phase,
        transpose=transpose,
        keep_formants=keep_formants,
        tape=tape,
        tune_cents=tune_cents,
        purity=purity,
    )
    job = prepare(
        target, source, sr, settings, params=params, target_f0=target_f0, source_f0=source_f0,
        weights=None if weights is None else np.asarray(weights, np.float32), limits=limits, sketch=sketch,
    )  # fmt: skip
    parts = []
    for part in channel_jobs(job):
        divergences = []
        for step in solve_steps(part, init=init, rng=rng):
            divergences.append(step.divergence)
        parts.append(part_of(part, step, divergences))
    return assemble(job, parts)


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
        dictionary = dictionary.mixed_down()
    # A ready dictionary may be float64 where the target is not; the mosaic is float32 only if both are.
    recording = recording.astype(np.result_type(recording, dictionary.norms), copy=False)
    samples = mixed_down(recording)
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
        raise ValueError(
            f"sketch is of {sketch.shape[0]} source and {sketch.shape[1]} target frames; make it for {n_atoms} and "
            f"{n_frames}"
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
        raise ValueError(f"weights are {weights!r}; pass a number of at least 0 for each of {n_recordings} recordings")


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
    for channel, samples in enumerate(rows(job.recording)):
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


def solve_steps(job: Job, *, init: ArrayLike | None = None, rng: Seed = 0) -> Iterator[Step]:
    """Yield the activations of a job as they form; the last is what `finish` wants.

    Parameters
    ----------
    job : from `prepare`; with channels "apart", from `channel_jobs`.
    init, rng : as for `mosaic`.

    Yields
    ------
    Step : one an iteration (updates) or a layer (pursuit).
    """
    settings, dictionary = job.settings, job.dictionary
    if job.transposition is not None and job.transposition.n_voices:
        if init is not None:
            raise ValueError("init means nothing where grains are transposed; leave it out")
        return transposed_steps(job, job.transposition, rng=rng)
    if isinstance(dictionary, Corpus):
        if init is not None:
            raise ValueError("init means nothing where the source is searched; leave it out")
        return searched_steps(job, dictionary, rng=rng)
    if settings.method == "pursuit":
        if init is not None:
            raise ValueError("init means nothing to pursuit, which starts from silence; leave it out")
        layers = settings.constant_layers or dictionary.n_atoms
        return pursuit_steps(*compared(job), n_atoms=layers, nonnegative=settings.nonnegative)
    V, W = compared(job)
    if init is None and settings.start_spread < 1:
        drawn = np.random.default_rng(rng).random((W.shape[1], V.shape[1]))
        init = (1 - settings.start_spread * drawn).astype(np.result_type(V, W))
    steps = activation_steps(
        V,
        W,
        n_iter=settings.iterations,
        beta=settings.beta,
        eps=settings.eps,
        constraints=settings.constraints(dictionary.hop_s, V.shape[1]),
        segments=dictionary.segments,
        weights=None if job.sketch is None else job.sketch.whole(),
        init=init,
        rng=rng,
    )
    return _refined(steps, V, W, job) if settings.choose else steps


def _refined(steps: Iterator[Step], V: Floats, W: Floats, job: Job) -> Iterator[Step]:
    """`steps`, then those of the gains alone, when what sounds has been chosen from the last of them."""
    settings, dictionary = job.settings, job.dictionary
    for step in steps:
        yield step
    loudness, allowed = np.linalg.norm(W, axis=0)[:, None], None
    if job.sketch is not None:
        loudness, allowed = loudness * job.sketch.whole(), job.sketch.allowed
    runs = None
    if settings.choose == "grains":
        heard, segments = step.H * loudness, dictionary.segments
        runs = find_runs(heard, segments, under_frame_db=settings.masking_db, allowed=allowed)
        runs = chosen_among(runs, segments, job, allowed=allowed)
        H = keep_runs(step.H, runs)
    else:
        layers = settings.layers_in(V.shape[1], dictionary.hop_s) or 1
        H = limit_polyphony(step.H, polyphony=layers, strength=1.0, weights=loudness)
    step = Step(step.iteration + 1, H, step.fit)
    yield step
    if settings.refine:
        # What is not chosen stays 0, so only gains move and the choice stands.
        start = step.iteration
        for gains in steps_of(Step(0, H, _gains_fit(V, W, H, settings)), settings.refine):
            step = gains.numbered(start + gains.iteration)
            yield step
    reach = round(settings.smooth_gains_s / dictionary.hop_s)
    if runs is not None and reach:
        yield Step(step.iteration + 1, smooth_runs(step.H, runs, reach=reach), step.fit)


def _gains_fit(V: Floats, W: Floats, H: Floats, settings: Settings) -> Fit:
    """What the last refinement lowers, over the activations that are not 0 in `H`."""
    if settings.choose == "grains" and settings.beta in (1, 2) and not settings.eps:
        return GainFit.of(V, W, H, beta=settings.beta)
    # Single frames sound better short of the optimum, which takes timbre for fidelity: see docs/sound.md.
    return choose_fit(V, W, n_iter=settings.refine, beta=settings.beta, eps=settings.eps)


def n_steps(settings: Settings, n_atoms: int) -> int:
    """How many steps `solve_steps` yields for a job with so many source frames.

    On a grid other than the settings' own it may be one more or less: gains are smoothed over whole hops or not at all.
    """
    if settings.method == "pursuit":
        return min(settings.constant_layers or n_atoms, n_atoms)
    if settings.choose is None:
        return settings.iterations
    smoothed = settings.choose == "grains" and round(settings.smooth_gains_s / settings.hop_s) > 0
    return settings.iterations + 1 + settings.refine + smoothed


def finish(job: Job, step: Step, divergences: Sequence[float]) -> Mosaic:
    """The mosaic of a job's activations, where one set of them is all (`Job.n_solves` is 1), at a safe level."""
    return assemble(job, [part_of(job, step, divergences)])


def part_of(job: Job, step: Step, divergences: Sequence[float]) -> Part:
    """The sound of a job's activations, at the level they come to."""
    dictionary, recordings, grains = job.dictionary, None, None
    if isinstance(step, SearchedStep):
        # Of hours of source, only what sounds is read.
        dictionary, activations, recordings = what_sounds(step, job)
    elif isinstance(step, ShiftedStep):
        grains = step.grains
        dictionary, activations = grains.dictionary, scipy.sparse.csc_array(step.H * job.spectrum.any(axis=0))
    else:
        activations = recorded_gains(step.H, job)
    audio, unshaped = sounded(activations, dictionary, Aim(job.target, job.settings, melodies_of(job)))
    return Part(audio, activations, np.asarray(divergences, dtype=np.float64), unshaped, dictionary, grains, recordings)


def melodies_of(job: Job) -> Floats:
    """(M, N) Hz, what the grains of a job follow; M may be 0."""
    return job.transposition.melodies if job.transposition else np.zeros((0, 0))


def assemble(job: Job, parts: Sequence[Part]) -> Mosaic:
    """The mosaic of the parts that `part_of` made, one for each of the `channel_jobs`, at a safe level."""
    settings, sr = job.settings, job.dictionary.sr
    if len(parts) != job.n_solves:
        raise ValueError(f"parts has {len(parts)} entries; this job has {job.n_solves}, one for each of channel_jobs")
    audio = contoured(together([part.audio for part in parts]), job.recording, sr, settings)
    level = match_loudness(audio, sr, _wanted_loudness(job))
    if settings.level_db != 0:
        # On top of the gain that it would have had.
        level = at_gain(turned(audio, sr, settings), sr, level.gain_db, limited=settings.loudness != "as-is")
    return Mosaic(
        audio=level.samples,
        sr=sr,
        activations=_mean([in_source_frames(part, job.dictionary) for part in parts]),
        dictionary=parts[0].dictionary if isinstance(job.dictionary, Corpus) else job.dictionary,
        divergences=np.sum([part.divergences for part in parts], axis=0),
        gain_db=level.gain_db,
        peak_gain_db=level.peak_gain_db,
        limited_db=level.limited_db,
        loudness=level.loudness,
        true_peak_db=level.true_peak_db,
        fit=overlap(level.samples, job),
        leak=_leak(level.samples, job) if settings.leaks else None,
        settings=settings,
        transposition=job.transposition,
        parts=tuple(parts),
        job=job,
    )


def _grains_of(part: Part, source: Dictionary) -> Columns:
    """The grains of a part, their origins counting the recordings of the source."""
    if part.grains is not None:
        return read_shifted(part.activations, part.grains, source)
    grains = read_grains(part.activations, part.dictionary)
    return grains if part.recordings is None else grains._replace(origins=part.recordings[grains.origins])


def in_source_frames(part: Part, dictionary: Dictionary) -> scipy.sparse.csc_array:
    """A part's activations as gains of source frames, (K, N), whatever pitch these sound at."""
    return part.activations if part.grains is None else part.grains.in_source(part.activations, dictionary.n_atoms)


def what_sounds(step: SearchedStep, job: Job) -> tuple[Dictionary, scipy.sparse.csc_array, NDArray[np.intp]]:
    """The dictionary of the atoms that sound, (U,), their activations (U, N), and which recordings they are of.

    Activations are 0 where the target is silent. Where none sounds, the first atom is there for all: a mosaic of
    silence is one of something.
    """
    H = scipy.sparse.csr_array(step.H * job.spectrum.any(axis=0))
    H.eliminate_zeros()
    used = np.flatnonzero(np.diff(H.indptr))
    used = used if len(used) else np.zeros(1, np.intp)
    return job.dictionary.only(used), scipy.sparse.csc_array(H[used]), np.unique(job.dictionary.segments[used])


def _wanted_loudness(job: Job) -> float | None:
    wanted = job.settings.loudness
    if isinstance(wanted, str):
        return integrated_loudness(job.recording, job.dictionary.sr) if wanted == "target" else None
    return wanted


def _mean(activations: Sequence[scipy.sparse.csc_array]) -> scipy.sparse.csc_array:
    if len(activations) == 1:
        return activations[0]
    return scipy.sparse.csc_array(sum(activations[1:], start=activations[0]) / len(activations))


def _leak(audio: Floats, job: Job) -> float:
    """How much of the target itself is in `audio`, measured as `smalti.metrics` does."""
    # When first needed, as the measures load parts of scipy that nothing else does.
    from smalti.metrics.evaluation import target_leak

    return target_leak(mixed_down(audio), job.target, job.dictionary.sr)


def recorded_gains(H: Floats, job: Job) -> scipy.sparse.csc_array:
    """Solver activations as gains of the source frames as recorded: (K, N), 0 wherever target or source are silent."""
    if job.settings.unit_norm:
        norms = atom_norms(job.dictionary, job.settings)
        H = np.divide(H, norms[:, None], out=np.zeros_like(H), where=norms[:, None] > 0)
    # Updates with eps > 0 only fade out in a silent frame, and leave the start of a frame that explains nothing as it
    # was; silence stays silence.
    return scipy.sparse.csc_array(H * job.spectrum.any(axis=0) * may_sound(job.dictionary, job.settings)[:, None])


def overlap(audio: Floats, job: Job) -> float:
    """How much the spectrograms V of the target and Y of `audio` overlap: the sum of sqrt(V Y), each of sum 1.

    Both are of the mono mixes.

    The Bhattacharyya coefficient; unlike a squared error it hears more than the loudest bass notes.
    """
    V, Y = np.abs(job.spectrum), np.abs(stft(mixed_down(audio), job.dictionary.params))
    wanted, got = float(V.sum(dtype=np.float64)), float(Y.sum(dtype=np.float64))
    if wanted == 0:
        return 1.0
    shared = float(np.sqrt(V * Y).sum(dtype=np.float64))
    # By Cauchy and Schwarz at most 1, but for rounding.
    return min(shared / float(np.sqrt(wanted * got)), 1.0) if got else 0.0
