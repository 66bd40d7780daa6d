"""The job: a target, a source, and what comes of them.

`mosaic` does all of it. Its three parts stand alone for those who want to watch or steer: `prepare` analyses,
`solve_steps` yields the activations as they form, `finish` makes the sound.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike

from smalti._checks import Floats, check_choice, check_count, check_rate, check_real, check_signal
from smalti.activations import Seed, Step, activation_steps
from smalti.bands import band_edges, pool
from smalti.constraints import RANKS, LetItBee, limit_polyphony
from smalti.dictionary import Dictionary, as_recordings, build_dictionary
from smalti.grains import choose_runs, find_runs, keep_runs
from smalti.sparse_coding import pursuit_steps
from smalti.stft import Complexes, StftParams, stft
from smalti.synthesis import AIMS, PHASES, peak_safe, synthesize

METHODS = ("updates", "pursuit")
CHOICES = ("grains", "frames")


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a mosaic, in musicians' words and seconds, so that it means the same at any sample rate.

    Attributes
    ----------
    summary : one sentence for lists.
    method : "updates" (multiplicative) or "pursuit" (orthogonal matching pursuit).
    window_s, hop_s : the grid.
    sr : working sample rate in Hz, or None for the target's own. Files are resampled to it; arrays never are.
    iterations : of the updates; pursuit has none.
    beta : 2 Euclidean, 1 Kullback-Leibler, 0 Itakura-Saito, or between.
    eps : constant in numerator and denominator of each update.
    remove_offset : take a source's constant offset (a fault of the recording) out first, where it is a twentieth of its
        deviation or more: no ear hears it, but as a grain it thumps.
    unit_norm : compare source frames at equal loudness rather than as recorded (pursuit always does).
    layers : source frames kept at each moment, or None for no limit. Grains that reach in from the moments around it
        (`grain_length_s`) come on top.
    no_repeat_s : a source frame stands out at most once within so many seconds before and after; 0 for no such rule.
    grain_length_s : length of the runs of consecutive source frames that are favoured; 0 for no such rule.
    restrict_every : apply the three rules in every n-th iteration only.
    rank : what `layers` compares; see `LetItBee`.
    pooled : solve on auditory bands instead of bins; see `smalti.bands`.
    choose : None leaves the activations as the updates end. "grains" keeps whole stretches of source, `layers` of them
        at once, and "frames" the `layers` strongest source frames of each moment; then the gains alone are refined.
    candidates : with "grains", how many source frames compete at each moment while the stretches form.
    shortest_grain_s : with "grains", shorter stretches sound only where nothing else would.
    refine : iterations of that last refinement.
    nonnegative : pursuit with gains >= 0.
    phase : "source", "target" or "griffin-lim"; see `synthesize`.
    phase_iterations, momentum : of Griffin-Lim.
    aim : the magnitudes it aims at, "amplitude" or "geometric"; see `synthesize`.
    """

    summary: str = ""
    method: str = "updates"
    window_s: float = 2048 / 22050
    hop_s: float = 512 / 22050
    sr: int | None = None
    iterations: int = 50
    beta: float = 1.0
    eps: float = 0.0
    remove_offset: bool = True
    unit_norm: bool = False
    layers: int | None = None
    no_repeat_s: float = 0.0
    grain_length_s: float = 0.0
    restrict_every: int = 1
    rank: str = "h"
    pooled: bool = False
    choose: str | None = None
    candidates: int = 10
    shortest_grain_s: float = 0.0
    refine: int = 0
    nonnegative: bool = True
    phase: str = "source"
    phase_iterations: int = 30
    momentum: float = 0.99
    aim: str = "amplitude"

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("rank", self.rank, RANKS)
        check_choice("phase", self.phase, PHASES)
        check_choice("aim", self.aim, AIMS)
        if self.choose is not None:
            check_choice("choose", self.choose, CHOICES)
            if self.layers is None:
                raise ValueError(f"choose is {self.choose!r} but layers is None; pass how many layers to choose")
        check_count("candidates", self.candidates, least=1)
        check_count("refine", self.refine, least=0)
        for name in ("iterations", "restrict_every"):
            check_count(name, getattr(self, name), least=1)
        if self.layers is not None:
            check_count("layers", self.layers, least=1)
        if self.sr is not None:
            check_rate("sr", self.sr)
        check_count("phase_iterations", self.phase_iterations, least=0)
        check_real("window_s", self.window_s, least=0.001, most=2)
        check_real("hop_s", self.hop_s, least=0.0001, most=1)
        if self.hop_s > self.window_s / 2:
            raise ValueError(
                f"hop_s is {self.hop_s:g}, more than half of window_s, {self.window_s:g}; it cannot be inverted: "
                f"pass at most {self.window_s / 2:g}"
            )
        check_real("beta", self.beta, least=0, most=2)
        check_real("momentum", self.momentum, least=0, most=1)
        for name in ("eps", "no_repeat_s", "grain_length_s", "shortest_grain_s"):
            check_real(name, getattr(self, name), least=0)

    def constraints(self, hop_s: float) -> LetItBee | None:
        """The paper's restrictions on a grid of `hop_s` seconds; None where no rule is on."""
        rules = LetItBee(
            repetition=round(self.no_repeat_s / hop_s) or None,
            # Whole grains are thinned out to `layers` when all stand; until then more may compete.
            polyphony=max(self.candidates, self.layers) if self.choose == "grains" and self.layers else self.layers,
            # 2c + 1 diagonal neighbours span as many hops.
            continuity=max(0, round((self.grain_length_s / hop_s - 1) / 2)) or None,
            every=self.restrict_every,
            rank=self.rank,
        )
        return None if (rules.repetition, rules.polyphony, rules.continuity) == (None, None, None) else rules


_HOP_S = Settings().hop_s

# What the presets beyond the papers share: bands, contribution, whole grains, refined gains, ten rounds of Griffin-Lim.
_WHOLE_GRAINS: dict[str, Any] = {
    "rank": "contribution",
    "pooled": True,
    "choose": "grains",
    "refine": 30,
    "phase": "griffin-lim",
    "phase_iterations": 10,
    "aim": "geometric",
}

PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "classic": Settings(
            summary="Let it Bee as published: ten layers, grains of consecutive source frames, the source's own sound",
            layers=10,
            no_repeat_s=3 * _HOP_S,
            grain_length_s=7 * _HOP_S,
        ),
        "balanced": Settings(
            summary="Let it Bee, then whole grains: four layers of unbroken source, smooth, close to the target",
            iterations=30,
            layers=4,
            no_repeat_s=7 * _HOP_S,
            grain_length_s=7 * _HOP_S,
            **_WHOLE_GRAINS,
        ),
        "faithful": Settings(
            summary="nearest to the target: ten layers of short grains",
            iterations=30,
            layers=10,
            no_repeat_s=7 * _HOP_S,
            grain_length_s=3 * _HOP_S,
            restrict_every=5,
            **(_WHOLE_GRAINS | {"choose": "frames"}),
        ),
        "source-like": Settings(
            summary="nearest to the source: three layers of long grains, in a longer window",
            iterations=30,
            window_s=4096 / 22050,
            layers=3,
            no_repeat_s=7 * _HOP_S,
            grain_length_s=7 * _HOP_S,
            shortest_grain_s=8 * _HOP_S,
            **_WHOLE_GRAINS,
        ),
        "percussive": Settings(
            summary="for drums: a short window that keeps attacks sharp",
            iterations=30,
            window_s=1024 / 22050,
            hop_s=256 / 22050,
            layers=4,
            no_repeat_s=7 * _HOP_S,
            grain_length_s=13 * _HOP_S / 2,
            **_WHOLE_GRAINS,
        ),
        "notebook": Settings(
            summary="the teaching notebook: Euclidean updates without rules, the target's phase, at 22 050 Hz",
            sr=22050,
            iterations=100,
            beta=2.0,
            eps=0.01,
            remove_offset=False,
            unit_norm=True,
            phase="target",
        ),
        "sparse": Settings(
            summary="sparse coding: the one best source frame at each moment, the target's phase",
            method="pursuit",
            remove_offset=False,
            unit_norm=True,
            layers=1,
            phase="target",
        ),
    }
)
DEFAULT_PRESET = "classic"

# What only the multiplicative updates listen to.
_UPDATES_ONLY = ("iterations", "beta", "no_repeat_s", "grain_length_s")


def configure(preset: str | Settings = DEFAULT_PRESET, **knobs: Any) -> Settings:
    """A preset with some knobs turned; a knob that is None stays as the preset has it.

    Raises
    ------
    ValueError : for an unknown preset, a value out of range, or a knob that the preset's method does not have.
    TypeError : for an unknown knob, or a preset that is neither name nor `Settings`.
    """
    if isinstance(preset, str):
        check_choice("preset", preset, tuple(PRESETS))
        settings, name = PRESETS[preset], preset
    elif not isinstance(preset, Settings):
        raise TypeError(f"preset is {preset!r}; pass Settings or one of {', '.join(PRESETS)}")
    else:
        settings, name = preset, "given"
    turned = {knob: value for knob, value in knobs.items() if value is not None}
    if settings.method == "pursuit":
        for knob in _UPDATES_ONLY:
            if knob in turned:
                raise ValueError(
                    f"{knob} means nothing to the preset {name}: it has only layers and phase; leave it out"
                )
    return replace(settings, **turned)


@dataclass(frozen=True, eq=False)
class Job:
    """A mosaic to be made: what `prepare` found.

    Attributes
    ----------
    target : (L,) samples. spectrum : (F, N) their STFT. dictionary : the source. settings : how.
    """

    target: Floats
    spectrum: Complexes
    dictionary: Dictionary
    settings: Settings


@dataclass(frozen=True, eq=False)
class Mosaic:
    """What came of a job.

    Attributes
    ----------
    audio : (L,) float array in [-1, 1], exactly as long as the target and aligned with it.
    sr : sample rate in Hz.
    activations : (K, N) scipy.sparse CSC, the gain of each source frame, as recorded, in each target frame.
    dictionary : the source frames, with their provenance.
    divergences : (iterations,) float64, how far ``W @ H`` was from the target's magnitudes after each iteration.
    gain_db : gain that was applied to keep peaks below -1 dB of full scale; 0 or less.
    fit : 0 to 1, how much the magnitude spectrograms of target and `audio` overlap (Bhattacharyya coefficient); level
        does not matter. Taken from the sound itself, since ``W @ H`` hides what overlapping grains cancel.
    settings : what made it.
    """

    audio: Floats
    sr: int
    activations: scipy.sparse.csc_array
    dictionary: Dictionary
    divergences: Floats
    gain_db: float
    fit: float
    settings: Settings

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
    layers: int | None = None,
    grain_length_s: float | None = None,
    no_repeat_s: float | None = None,
    iterations: int | None = None,
    beta: float | None = None,
    phase: str | None = None,
    params: StftParams | None = None,
    init: ArrayLike | None = None,
    rng: Seed = 0,
) -> Mosaic:
    """Re-create `target` out of the sounds of `source`.

    Parameters
    ----------
    target : (L,) float32 or float64 in [-1, 1], mono.
    source : one mono recording, a list of them, or a ready `Dictionary`.
    sr : sample rate of all of them in Hz; nothing is resampled here.
    preset : a name in `PRESETS`, or `Settings` of your own.
    layers, grain_length_s, no_repeat_s, iterations, beta, phase : knobs that override the preset; see `Settings`.
    params : the grid in samples; by default the preset's in seconds.
    init : (K, N) activations to start from, those of atoms at unit norm if the settings have it so, or None for random
        ones. Pursuit starts from silence and takes none.
    rng : seed or generator of that random start. The same inputs, settings and seed give the same samples.

    Returns
    -------
    Mosaic

    Raises
    ------
    ValueError, TypeError : for signals that are empty, integer, not finite or not mono; for a silent source; for values
        out of range.

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
        no_repeat_s=no_repeat_s,
        iterations=iterations,
        beta=beta,
        phase=phase,
    )
    job = prepare(target, source, sr, settings, params=params)
    divergences = []
    for step in solve_steps(job, init=init, rng=rng):
        divergences.append(step.divergence)
    return finish(job, step, divergences)


def prepare(
    target: ArrayLike,
    source: ArrayLike | Sequence[ArrayLike] | Dictionary,
    sr: int,
    settings: Settings,
    *,
    params: StftParams | None = None,
    names: Sequence[str] | None = None,
    target_name: str = "target",
) -> Job:
    """Check and analyse both recordings; arguments as for `mosaic`, `names` as for `build_dictionary`.

    `target_name` is what warnings call the target.
    """
    samples, sr = check_signal("target", target), check_rate("sr", sr)
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
        dtype = np.result_type(samples, *recordings)
        recordings = [recording.astype(dtype, copy=False) for recording in recordings]
        if settings.remove_offset:
            recordings = [_without_offset(recording) for recording in recordings]
        dictionary = build_dictionary(recordings, sr, params=params, names=names)
        for name, recording in zip(dictionary.names, recordings, strict=True):
            _warn_if_short(name, recording, params)
    # A ready dictionary may be float64 where the target is not; the mosaic is float32 only if both are.
    samples = samples.astype(np.result_type(samples, dictionary.norms), copy=False)
    if not dictionary.norms.any():
        raise ValueError("source is silent: there is no sound to build a mosaic from; pass a source that sounds")
    _warn_if_short(target_name, samples, dictionary.params)
    if not samples.any():
        warnings.warn(f"{target_name} is silent, and so is its mosaic", stacklevel=3)
    return Job(samples, stft(samples, dictionary.params), dictionary, settings)


def _without_offset(samples: Floats) -> Floats:
    mean = samples.mean(dtype=np.float64)
    deviation = samples.std(dtype=np.float64)
    # A recording of nothing but an offset is left for what it is.
    if deviation == 0 or abs(mean) < 0.05 * deviation:
        return samples
    return samples - samples.dtype.type(mean)


def _warn_if_short(name: str, samples: Floats, params: StftParams) -> None:
    if len(samples) < params.n_fft:
        count = "1 sample" if len(samples) == 1 else f"{len(samples)} samples"
        warnings.warn(
            f"{name} has {count}, fewer than one window of {params.n_fft}; it is padded with silence",
            stacklevel=4,
        )


def solve_steps(job: Job, *, init: ArrayLike | None = None, rng: Seed = 0) -> Iterator[Step]:
    """Yield the activations of a job as they form; the last is what `finish` wants.

    Parameters
    ----------
    job : from `prepare`.
    init, rng : as for `mosaic`.

    Yields
    ------
    Step : one an iteration (updates) or a layer (pursuit).
    """
    settings, dictionary = job.settings, job.dictionary
    V, W = np.abs(job.spectrum), solver_atoms(dictionary, settings)
    if settings.method == "pursuit":
        if init is not None:
            raise ValueError("init means nothing to pursuit, which starts from silence; leave it out")
        layers = dictionary.n_atoms if settings.layers is None else settings.layers
        return pursuit_steps(V, W, n_atoms=layers, nonnegative=settings.nonnegative)
    if settings.pooled:
        edges = band_edges(dictionary.params, dictionary.sr)
        V, W = pool(V, edges), pool(W, edges)
    steps = activation_steps(
        V,
        W,
        n_iter=settings.iterations,
        beta=settings.beta,
        eps=settings.eps,
        constraints=settings.constraints(dictionary.hop_s),
        segments=dictionary.segments,
        init=init,
        rng=rng,
    )
    return _refined(steps, V, W, job) if settings.choose else steps


def _refined(steps: Iterator[Step], V: Floats, W: Floats, job: Job) -> Iterator[Step]:
    """`steps`, then those of the gains alone, when what sounds has been chosen from the last of them."""
    settings, dictionary = job.settings, job.dictionary
    for step in steps:
        yield step
    norms = np.linalg.norm(W, axis=0)[:, None]
    layers = settings.layers or 1
    if settings.choose == "grains":
        runs = find_runs(step.H * norms, dictionary.segments)
        shortest = max(1, round(settings.shortest_grain_s / dictionary.hop_s))
        H = keep_runs(step.H, runs, choose_runs(runs, layers=layers, shortest=shortest))
    else:
        H = limit_polyphony(step.H, polyphony=layers, strength=1.0, weights=norms)
    step = Step(step.iteration + 1, H, step.fit)
    yield step
    if settings.refine:
        # What is 0 stays 0 under the updates, so only gains move and the choice stands.
        for gains in activation_steps(V, W, n_iter=settings.refine, beta=settings.beta, eps=settings.eps, init=H):
            yield replace(gains, iteration=step.iteration + gains.iteration)


def solver_atoms(dictionary: Dictionary, settings: Settings) -> Floats:
    """The W of the solver: the source's magnitudes, (F, K), at unit norm if the settings ask for it."""
    return dictionary.unit_magnitudes if settings.unit_norm else dictionary.magnitudes


def finish(job: Job, step: Step, divergences: Sequence[float]) -> Mosaic:
    """The sound of a job's activations, at a safe level."""
    settings, dictionary = job.settings, job.dictionary
    activations = recorded_gains(step.H, job)
    audio = synthesize(
        activations,
        dictionary,
        length=len(job.target),
        phase=settings.phase,
        target=job.spectrum,
        n_iter=settings.phase_iterations,
        momentum=settings.momentum,
        aim=settings.aim,
    )
    safe, gain_db = peak_safe(audio)
    return Mosaic(
        audio=safe,
        sr=dictionary.sr,
        activations=activations,
        dictionary=dictionary,
        divergences=np.asarray(divergences, dtype=np.float64),
        gain_db=gain_db,
        fit=overlap(audio, job),
        settings=settings,
    )


def recorded_gains(H: Floats, job: Job) -> scipy.sparse.csc_array:
    """Solver activations as gains of the source frames as recorded, silent wherever the target is."""
    norms = job.dictionary.norms
    if job.settings.unit_norm:
        H = np.divide(H, norms[:, None], out=np.zeros_like(H), where=norms[:, None] > 0)
    # Updates with eps > 0 only fade out in a silent frame; silence stays silence.
    return scipy.sparse.csc_array(H * job.spectrum.any(axis=0))


def overlap(audio: Floats, job: Job) -> float:
    """How much the spectrograms V of the target and Y of `audio` overlap: the sum of sqrt(V Y), each of sum 1.

    The Bhattacharyya coefficient; unlike a squared error it hears more than the loudest bass notes.
    """
    V, Y = np.abs(job.spectrum), np.abs(stft(audio, job.dictionary.params))
    wanted, got = float(V.sum(dtype=np.float64)), float(Y.sum(dtype=np.float64))
    if wanted == 0:
        return 1.0
    shared = float(np.sqrt(V * Y).sum(dtype=np.float64))
    # By Cauchy and Schwarz at most 1, but for rounding.
    return min(shared / float(np.sqrt(wanted * got)), 1.0) if got else 0.0
