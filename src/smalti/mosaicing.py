"""The job: a target, a source, and what comes of them.

`mosaic` does all of it. Its parts stand alone for those who want to watch or steer: `prepare` analyses, `solve_steps`
yields the activations as they form, `finish` makes the sound. Where channels are driven apart there is more than one
set of activations: `channel_jobs` gives a job for each, `render` makes the sound of one, `assemble` the mosaic of all.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_choice, check_count, check_rate, check_real, check_sound
from smalti.activations import Seed, Step, activation_steps
from smalti.bands import a_weights, band_edges, pool
from smalti.channels import coherent_as, imaged, mixed_down, n_channels, rows, together
from smalti.constraints import RANKS, LetItBee, limit_polyphony
from smalti.dictionary import Dictionary, as_recordings, build_dictionary
from smalti.grains import choose_runs, find_runs, keep_runs, smooth_runs
from smalti.levels import follow_contour, integrated_loudness, match_loudness
from smalti.phase import turn_toward
from smalti.sparse_coding import pursuit_steps, unit_columns
from smalti.stft import Complexes, StftParams, istft, stft
from smalti.synthesis import AIMS, PHASES, synthesize
from smalti.views import stacked, views

METHODS = ("updates", "pursuit")
CHOICES = ("grains", "frames")
COMPARISONS = ("bins", "bands", "views")
CHANNELS = ("source", "apart", "mono")
LOUDNESSES = ("target", "as-is")


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
    remove_offset : take a source's offset (a fault of the recording), and with it all below 20 Hz, out first, where it
        is a twentieth of its deviation or more: no ear hears it, but as a grain it thumps.
    fade_s : fade each source recording in and out over so long, so that a grain from its edge does not click.
    quietest_db : source frames so far under the loudest of their recording never sound; 0 for no such rule. Of what is
        next to silence a fit makes a loud hiss, since it takes any gain that helps.
    start_spread : 0 to 1. Updates start from random activations between 1 - start_spread and 1: 1 is the paper, less
        begins with more of the source in play, and 0 with all of it alike, whatever the seed.
    unit_norm : compare source frames at equal loudness rather than as recorded (pursuit always does).
    layers : source frames kept at each moment, or None for no limit. Grains that reach in from the moments around it
        (`grain_length_s`) come on top.
    no_repeat_s : a source frame stands out at most once within so many seconds before and after; 0 for no such rule.
    grain_length_s : length of the runs of consecutive source frames that are favoured; 0 for no such rule.
    restrict_every : apply the three rules in every n-th iteration only.
    rank : what `layers` compares; see `LetItBee`.
    compare : what target and source are compared in. "bins" of the grid (the paper), auditory "bands" (see
        `smalti.bands`), or "views": bands of a long, a middle and short windows at once (see `smalti.views`).
    choose : None leaves the activations as the updates end. "grains" keeps whole stretches of source, `layers` of them
        at once, and "frames" the `layers` strongest source frames of each moment; then the gains alone are refined.
    candidates : with "grains", how many source frames compete at each moment while the stretches form.
    shortest_grain_s : with "grains", shorter stretches sound only where nothing else would.
    masking_db : with "grains", a source frame so far under the loudest of its moment is part of no stretch.
    smooth_gains_s : with "grains", gains are averaged along each stretch over so long to either side, so that
        overlapping windows agree on them.
    refine : iterations of that last refinement.
    nonnegative : pursuit with gains >= 0.
    phase : "source", "target" or "griffin-lim"; see `synthesize`.
    phase_iterations, momentum : of Griffin-Lim.
    aim : the magnitudes it aims at, "amplitude" or "geometric"; see `synthesize`.
    target_phase : 0 to 100 per cent, how far the mosaic's phase is turned towards the target's; the target itself leaks
        with it. Phase "target" is all the way there already.
    channels : "source" has the channels of the widest source recording, all at the same gains; "apart" has the
        target's, each solved for itself; "mono" has one. See `channel_jobs`.
    colour : 0 to 100 per cent, how far the mosaic's tone colour is drawn towards the target's; see
        `smalti.shaping.colour`.
    attacks : 0 to 100 per cent, how far its attacks are made as sharp as the target's; see
        `smalti.shaping.attack_shape`.
    ear_weighting : compare spectra as loud as the ear hears them (A-weighting), in the solver only.
    loudness : "target" gives the mosaic the target's integrated loudness, a number is one in LUFS, and "as-is" leaves
        the level that the gains come to. Peaks have the last word: see `smalti.levels.match_loudness`.
    level_follow : 0 to 100 per cent, how far the mosaic's slow loudness contour is drawn towards the target's; see
        `smalti.levels.follow_contour`.
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
    fade_s: float = 0.0
    quietest_db: float = 0.0
    start_spread: float = 1.0
    unit_norm: bool = False
    layers: int | None = None
    no_repeat_s: float = 0.0
    grain_length_s: float = 0.0
    restrict_every: int = 1
    rank: str = "h"
    compare: str = "bins"
    choose: str | None = None
    candidates: int = 10
    shortest_grain_s: float = 0.0
    masking_db: float = 30.0
    smooth_gains_s: float = 0.0
    refine: int = 0
    nonnegative: bool = True
    phase: str = "source"
    phase_iterations: int = 30
    momentum: float = 0.99
    aim: str = "amplitude"
    target_phase: float = 0.0
    colour: float = 0.0
    attacks: float = 0.0
    channels: str = "source"
    ear_weighting: bool = False
    loudness: str | float = "target"
    level_follow: float = 0.0

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("rank", self.rank, RANKS)
        check_choice("phase", self.phase, PHASES)
        check_choice("aim", self.aim, AIMS)
        check_choice("compare", self.compare, COMPARISONS)
        check_choice("channels", self.channels, CHANNELS)
        if not isinstance(self.summary, str):
            raise TypeError(f"summary is {self.summary!r}; pass a sentence")
        for name in ("remove_offset", "unit_norm", "nonnegative", "ear_weighting"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}; pass True or False")
        if not isinstance(self.loudness, str):
            check_real("loudness", self.loudness, least=-70, most=0)
        elif self.loudness not in LOUDNESSES:
            raise ValueError(
                f"loudness is {self.loudness!r}; pass one of {', '.join(LOUDNESSES)} or a number of LUFS from -70 to 0"
            )
        for name in ("target_phase", "level_follow", "colour", "attacks"):
            check_real(name, getattr(self, name), least=0, most=100)
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
        check_real("start_spread", self.start_spread, least=0, most=1)
        check_real("masking_db", self.masking_db, least=0)
        for name in (
            "eps",
            "no_repeat_s",
            "grain_length_s",
            "shortest_grain_s",
            "smooth_gains_s",
            "fade_s",
            "quietest_db",
        ):
            check_real(name, getattr(self, name), least=0)

    @property
    def leaks(self) -> bool:
        """Whether the target's phase is asked for, and with it a measure of how much of the target comes along."""
        return self.phase == "target" or self.target_phase > 0

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

# What the presets beyond the papers share: sources without clicks or hiss, a fit by several windows, whole grains with
# refined and smooth gains, Griffin-Lim, and levels drawn towards the target's.
_BEYOND: dict[str, Any] = {
    "fade_s": 0.003,
    "quietest_db": 50.0,
    "start_spread": 0.5,
    "iterations": 30,
    "rank": "contribution",
    "compare": "views",
    "choose": "grains",
    "candidates": 4,
    "masking_db": 6.0,
    "refine": 20,
    "smooth_gains_s": _HOP_S,
    "phase": "griffin-lim",
    "phase_iterations": 30,
    "colour": 25.0,
    "attacks": 90.0,
}

PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "classic": Settings(
            summary="Let it Bee as published: ten layers, grains of consecutive source frames, the source's own sound",
            remove_offset=False,
            loudness="as-is",
            layers=10,
            no_repeat_s=3 * _HOP_S,
            grain_length_s=7 * _HOP_S,
        ),
        "balanced": Settings(
            summary="both at once: two layers of whole grains that follow the target's melody, loudness and attacks",
            **_BEYOND,
            window_s=3072 / 22050,
            layers=2,
            no_repeat_s=6 * _HOP_S,
            grain_length_s=11 * _HOP_S,
        ),
        "faithful": Settings(
            summary="nearest to the target: up to ten layers, frame by frame",
            **(
                _BEYOND
                | {
                    "choose": "frames",
                    "smooth_gains_s": 0.0,
                    "phase_iterations": 20,
                    "colour": 30.0,
                    "attacks": 100.0,
                }
            ),
            layers=10,
            no_repeat_s=7 * _HOP_S,
            grain_length_s=3 * _HOP_S,
            restrict_every=5,
            aim="geometric",
        ),
        "source-like": Settings(
            summary="nearest to the source: long whole grains in a longer window, their colour hardly touched",
            **(_BEYOND | {"colour": 10.0, "attacks": 70.0}),
            window_s=4096 / 22050,
            layers=2,
            no_repeat_s=7 * _HOP_S,
            grain_length_s=13 * _HOP_S,
            shortest_grain_s=8 * _HOP_S,
        ),
        "percussive": Settings(
            summary="for drums: a short window that keeps attacks sharp",
            **(_BEYOND | {"attacks": 100.0}),
            window_s=1024 / 22050,
            hop_s=256 / 22050,
            layers=4,
            no_repeat_s=7 * _HOP_S,
            grain_length_s=13 * _HOP_S / 2,
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
            loudness="as-is",
        ),
        "sparse": Settings(
            summary="sparse coding: the one best source frame at each moment, the target's phase",
            method="pursuit",
            remove_offset=False,
            unit_norm=True,
            layers=1,
            phase="target",
            loudness="as-is",
        ),
    }
)
DEFAULT_PRESET = "balanced"

# What only the multiplicative updates listen to.
_UPDATES_ONLY = (
    "iterations", "beta", "eps", "start_spread", "no_repeat_s", "grain_length_s", "restrict_every", "rank", "choose",
    "candidates", "shortest_grain_s", "masking_db", "smooth_gains_s", "refine",
)  # fmt: skip


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
    target : (L,) samples, the mono mix. spectrum : (F, N) its STFT. dictionary : the source. settings : how.
    recording : (L,) or (C, L), the target with all its channels.
    """

    target: Floats
    spectrum: Complexes
    dictionary: Dictionary
    settings: Settings
    recording: Floats

    @property
    def n_solves(self) -> int:
        """How many sets of activations the mosaic has: as many as `channel_jobs` gives jobs."""
        return n_channels(self.recording) if self.settings.channels == "apart" else 1


@dataclass(frozen=True, eq=False)
class Part:
    """What came of one of the `channel_jobs`.

    Attributes
    ----------
    audio : (L,) or (C, L), at the level the gains come to.
    activations : (K, N) scipy.sparse CSC. divergences : (iterations,); both as in `Mosaic`.
    unshaped : `audio` before `colour` and `attacks`: what the activations alone sound like.
    """

    audio: Floats
    activations: scipy.sparse.csc_array
    divergences: Floats
    unshaped: Floats


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
    dictionary : the source frames, with their provenance.
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
    parts : activations and divergences of each channel driven apart; one part otherwise.
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
    parts: tuple[Part, ...]

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
    colour: float | None = None,
    attacks: float | None = None,
    channels: str | None = None,
    loudness: str | float | None = None,
    level_follow: float | None = None,
    ear_weighting: bool | None = None,
    target_phase: float | None = None,
    params: StftParams | None = None,
    init: ArrayLike | None = None,
    rng: Seed = 0,
) -> Mosaic:
    """Re-create `target` out of the sounds of `source`.

    Parameters
    ----------
    target : (L,) or (C, L) float32 or float64 in [-1, 1]: one channel or several.
    source : one recording, (L,) or (C, L), a list of them, or a ready `Dictionary`.
    sr : sample rate of all of them in Hz; nothing is resampled here.
    preset : a name in `PRESETS`, or `Settings` of your own.
    layers, grain_length_s, no_repeat_s, iterations, beta, phase : knobs that override the preset; see `Settings`.
    colour, attacks, channels, loudness, level_follow, ear_weighting, target_phase : likewise. For any other setting,
        pass `Settings`: ``dataclasses.replace(PRESETS["balanced"], candidates=8)``.
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
        range.

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
        colour=colour,
        attacks=attacks,
        channels=channels,
        loudness=loudness,
        level_follow=level_follow,
        ear_weighting=ear_weighting,
        target_phase=target_phase,
    )
    job = prepare(target, source, sr, settings, params=params)
    parts = []
    for part in channel_jobs(job):
        divergences = []
        for step in solve_steps(part, init=init, rng=rng):
            divergences.append(step.divergence)
        parts.append(render(part, step, divergences))
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
) -> Job:
    """Check and analyse both recordings; arguments as for `mosaic`, `names` as for `build_dictionary`.

    `target_name` is what warnings call the target.
    """
    recording, sr = check_sound("target", target), check_rate("sr", sr)
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
        if settings.remove_offset:
            recordings = [together([_without_offset(channel, sr) for channel in rows(of)]) for of in recordings]
        if settings.fade_s:
            recordings = [faded(of, round(settings.fade_s * sr)) for of in recordings]
        dictionary = build_dictionary(recordings, sr, params=params, names=names)
        _warn_of_short({name: of.shape[-1] for name, of in zip(dictionary.names, recordings, strict=True)}, params)
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
    return Job(samples, stft(samples, dictionary.params), dictionary, settings, recording)


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
        yield Job(samples, stft(samples, dictionary.params), dictionary, job.settings, samples)


def _without_offset(samples: Floats, sr: int) -> Floats:
    mean = samples.mean(dtype=np.float64)
    deviation = samples.std(dtype=np.float64)
    # A recording of nothing but an offset is left for what it is.
    if deviation == 0 or abs(mean) < 0.05 * deviation:
        return samples
    # When first needed, as the measures load parts of scipy that nothing else does.
    from smalti.metrics.features import without_rumble

    # An offset seldom stands still: what wanders with it would thump, too, where grains begin and end.
    return without_rumble(samples - samples.dtype.type(mean), sr)


def faded(samples: Floats, length: int) -> Floats:
    """`samples` fading in and out.

    What is cut off in the middle of a sound would click wherever a grain begins or ends there.

    Parameters
    ----------
    samples : (L,) or (C, L) float32 or float64; not modified.
    length : int >= 0, samples of each fade, the square of a sine; where there are fewer than two fades take, each has
        half of them.

    Returns
    -------
    Array of that shape and dtype.
    """
    length = min(length, samples.shape[-1] // 2)
    rise = np.sin(np.pi / 2 * (np.arange(length) + 0.5) / max(1, length)).astype(samples.dtype) ** 2
    out = samples.copy()
    out[..., :length] *= rise
    out[..., samples.shape[-1] - length :] *= rise[::-1]
    return out


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
    if settings.method == "pursuit":
        if init is not None:
            raise ValueError("init means nothing to pursuit, which starts from silence; leave it out")
        layers = dictionary.n_atoms if settings.layers is None else settings.layers
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
    runs = None
    if settings.choose == "grains":
        runs = find_runs(step.H * norms, dictionary.segments, under_frame_db=settings.masking_db)
        shortest = max(1, round(settings.shortest_grain_s / dictionary.hop_s))
        runs = runs.only(choose_runs(runs, layers=layers, shortest=shortest))
        H = keep_runs(step.H, runs)
    else:
        H = limit_polyphony(step.H, polyphony=layers, strength=1.0, weights=norms)
    step = Step(step.iteration + 1, H, step.fit)
    yield step
    if settings.refine:
        # What is 0 stays 0 under the updates, so only gains move and the choice stands.
        start = step.iteration
        for gains in activation_steps(V, W, n_iter=settings.refine, beta=settings.beta, eps=settings.eps, init=H):
            step = replace(gains, iteration=start + gains.iteration)
            yield step
    reach = round(settings.smooth_gains_s / dictionary.hop_s)
    if runs is not None and reach:
        yield Step(step.iteration + 1, smooth_runs(step.H, runs, reach=reach), step.fit)


def n_steps(settings: Settings, n_atoms: int) -> int:
    """How many steps `solve_steps` yields for a job with so many source frames.

    On a grid other than the settings' own it may be one more or less: gains are smoothed over whole hops or not at all.
    """
    if settings.method == "pursuit":
        return min(settings.layers or n_atoms, n_atoms)
    if settings.choose is None:
        return settings.iterations
    smoothed = settings.choose == "grains" and round(settings.smooth_gains_s / settings.hop_s) > 0
    return settings.iterations + 1 + settings.refine + smoothed


def compared(job: Job) -> tuple[Floats, Floats]:
    """The V and W of the solver: (B, N) and (B, K) magnitudes of target and source, as the settings compare them.

    B is F for "bins"; see `Settings`. Source frames that are silent, or too quiet to sound, are 0 in W, and so get no
    activation.
    """
    settings, dictionary = job.settings, job.dictionary
    if settings.compare == "views":
        at = np.arange(job.spectrum.shape[1]) * dictionary.params.hop
        seen = views(job.target, at, dictionary.params.hop, dictionary.sr, ear_weighting=settings.ear_weighting)
        V, W = stacked(seen, dictionary.views(ear_weighting=settings.ear_weighting))
    else:
        V, W = np.abs(job.spectrum), _weighed(dictionary, settings)
        if settings.ear_weighting:
            V = V * _hearing(dictionary, V)
        if settings.compare == "bands":
            edges = band_edges(dictionary.params, dictionary.sr)
            V, W = pool(V, edges), pool(W, edges)
    if settings.unit_norm:
        W = unit_columns(W, atom_norms(dictionary, settings))
    if settings.quietest_db and not (heard := may_sound(dictionary, settings)).all():
        W = np.where(heard, W, 0)
    return V, W


def atom_norms(dictionary: Dictionary, settings: Settings) -> Floats:
    """(K,): the loudness of each source frame as the settings compare it."""
    return np.linalg.norm(_weighed(dictionary, settings), axis=0) if settings.ear_weighting else dictionary.norms


def _weighed(dictionary: Dictionary, settings: Settings) -> Floats:
    W = dictionary.magnitudes
    return W * _hearing(dictionary, W) if settings.ear_weighting else W


def _hearing(dictionary: Dictionary, like: Floats) -> Floats:
    """(F, 1): the amplitude gain of the A curve at every bin, in the dtype of `like`."""
    hz = np.arange(dictionary.params.n_bins) * (dictionary.sr / dictionary.params.n_fft)
    return np.sqrt(a_weights(hz)).astype(like.dtype)[:, None]


def finish(job: Job, step: Step, divergences: Sequence[float]) -> Mosaic:
    """The mosaic of a job's activations, where one set of them is all (`Job.n_solves` is 1), at a safe level."""
    return assemble(job, [render(job, step, divergences)])


def render(job: Job, step: Step, divergences: Sequence[float]) -> Part:
    """The sound of a job's activations, at the level they come to."""
    settings, params, length = job.settings, job.dictionary.params, len(job.target)
    activations = recorded_gains(step.H, job)
    audio = synthesize(
        activations,
        job.dictionary,
        length=length,
        phase=settings.phase,
        target=job.spectrum,
        n_iter=settings.phase_iterations,
        momentum=settings.momentum,
        aim=settings.aim,
    )
    if settings.target_phase and settings.phase != "target":
        own = [stft(channel, params) for channel in rows(audio)]
        # One turn for all channels, that of their mix, so that what lies between them stays.
        turn = turn_toward(stft(mixed_down(audio), params), job.spectrum, settings.target_phase / 100)
        turned = [spectrum * turn for spectrum in own]
        if len(own) == 1:
            audio = istft(turned[0], params, length=length)
        else:
            audio = together(imaged(turned, own, params, length=length))
    return Part(shaped(audio, job), activations, np.asarray(divergences, dtype=np.float64), audio)


def shaped(audio: Floats, job: Job) -> Floats:
    """`audio` with the levels that `colour` and `attacks` give it, in that order.

    Parameters
    ----------
    audio : (L,) or (C, L) float array, as long as the job's target; not modified. All channels get the gains that are
        found from its mono mix.

    Returns
    -------
    Array of that shape and dtype; `audio` itself if the settings have neither.
    """
    settings, sr, unshaped = job.settings, job.dictionary.sr, audio
    if not (settings.colour or settings.attacks):
        return audio
    # When first needed, as they load a part of scipy that nothing else does.
    from smalti.attacks import attack_times
    from smalti.shaping import attack_shape, colour

    if settings.colour:
        audio = colour(mixed_down(audio), job.target, sr, share=settings.colour / 100).apply(audio)
    if settings.attacks:
        times_s = attack_times(job.target, sr)
        audio = attack_shape(mixed_down(audio), job.target, sr, times_s, share=settings.attacks / 100).apply(audio)
    if audio.ndim == 2:
        # What is turned up and down counts more and less in the coherence of the whole.
        audio = coherent_as(audio, unshaped, job.dictionary.params)
    return audio


def assemble(job: Job, parts: Sequence[Part]) -> Mosaic:
    """The mosaic of the parts that `render` made, one for each of the `channel_jobs`, at a safe level."""
    settings, sr = job.settings, job.dictionary.sr
    if len(parts) != job.n_solves:
        raise ValueError(f"parts has {len(parts)} entries; this job has {job.n_solves}, one for each of channel_jobs")
    audio = together([part.audio for part in parts])
    # What shapes the whole sound comes here, before its level.
    if settings.level_follow:
        audio = follow_contour(audio, job.recording, sr, settings.level_follow / 100)
    level = match_loudness(audio, sr, _wanted_loudness(job))
    return Mosaic(
        audio=level.samples,
        sr=sr,
        activations=_mean([part.activations for part in parts]),
        dictionary=job.dictionary,
        divergences=np.sum([part.divergences for part in parts], axis=0),
        gain_db=level.gain_db,
        peak_gain_db=level.peak_gain_db,
        limited_db=level.limited_db,
        loudness=level.loudness,
        true_peak_db=level.true_peak_db,
        fit=overlap(level.samples, job),
        leak=_leak(level.samples, job) if settings.leaks else None,
        settings=settings,
        parts=tuple(parts),
    )


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


def may_sound(dictionary: Dictionary, settings: Settings) -> NDArray[np.bool_]:
    """(K,) bools: which source frames are neither silent nor, by `quietest_db`, too quiet."""
    return dictionary.sounding(settings.quietest_db) if settings.quietest_db else dictionary.norms > 0


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
