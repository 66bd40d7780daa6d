"""Make a mosaic of a target and a source.

`mosaic` does all of it. Its steps can be called one by one, to watch or steer them: `plan_of` decides whether the
source is searched, `prepare` analyses, `parts_of` yields the activations as they form and then their sound, and
`assemble` makes the mosaic of all parts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Unpack

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats
from smalti.dsp.channels import n_channels, stack_channels, to_mono
from smalti.dsp.dynamics import at_gain, match_loudness
from smalti.dsp.loudness import integrated_loudness
from smalti.dsp.stft import StftParams, stft
from smalti.grains.dictionary import Dictionary
from smalti.grains.filters import Limit
from smalti.grains.shifted import Grains
from smalti.grains.sound import Aim, apply_gain_curve, follow_target_contour, sounded
from smalti.grains.transposition import Transposition
from smalti.mosaicing.job import Job, Solution, SolverStep
from smalti.mosaicing.prepare import Sketched, channel_jobs, prepare
from smalti.mosaicing.search_plan import plan_of
from smalti.mosaicing.solve import solver_of
from smalti.nmf.multiplicative import Seed
from smalti.presets import DEFAULT_PRESET, Knobs, configure
from smalti.score.score import Columns, Score, joined, read_grains, read_shifted
from smalti.settings import Settings


@dataclass(frozen=True, eq=False)
class Solving:
    """How far the solving of all `channel_jobs` has come.

    Attributes
    ----------
    done, total : steps of all channels.
    step : the last step of this channel; None before its first.
    """

    done: int
    total: int
    step: SolverStep | None


@dataclass(frozen=True, eq=False)
class Part:
    """The sound and the activations of one of the `channel_jobs`.

    Attributes
    ----------
    audio : (L,) or (C, L) float samples, at the level that the gains give.
    activations : (K, N) scipy.sparse CSC, of the frames of `dictionary`.
    divergences : (iterations,) float64, as in `Mosaic`.
    unshaped : `audio` before `purity`, `harmony`, `colour`, `attacks` and `edges`: the sound of the activations alone.
    dictionary : the frames that the activations belong to: the source's, or those of `grains`.
    grains : the grains that were shifted, or None.
    recordings : (R,) ints, the number in the source of each recording of `dictionary`; None if it has them all.
    """

    audio: Floats
    activations: scipy.sparse.csc_array
    divergences: Floats
    unshaped: Floats
    dictionary: Dictionary
    grains: Grains | None = None
    recordings: NDArray[np.intp] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Mosaic:
    """A mosaic: its sound, its activations, and facts about both.

    Attributes
    ----------
    audio : (L,) float array in [-1, 1], or (C, L) if it has several channels. It is exactly as long as the target and
        aligned with it.
    sr : sample rate in Hz.
    activations : (K, N) scipy.sparse CSC, the gain of each source frame, as recorded, in each target frame. If channels
        are driven apart it is their mean, and `parts` has those of each.
    dictionary : the source frames, with their provenance; only those that sound if the source was searched.
    divergences : (iterations,) float64, how far ``W @ H`` was from the target's magnitudes after each iteration, summed
        over channels driven apart.
    gain_db : the whole gain that was applied to the sound of the activations.
    peak_gain_db : the part of it that keeps the true peak below -1 dB of full scale and costs loudness; 0 or less.
    limited_db : how far the limiter lowered the highest peak beyond that, for milliseconds; 0 or less.
    loudness : integrated loudness of `audio` in LUFS; ``-inf`` for silence.
    true_peak_db : true peak of `audio` in dB of full scale.
    overlap : 0 to 1, how much the magnitude spectrograms of target and `audio` overlap (Bhattacharyya coefficient);
        level does not matter. It is measured on the sound, since ``W @ H`` hides what overlapping grains cancel.
    leak : 0 to 1, how much of the target itself is in the mosaic (`smalti.metrics.fidelity.leak`); None unless the
        settings use the target's phase.
    settings : the settings that made it.
    transposition : how the source was brought to the target's pitches, with both pitch tracks; None if it kept its own.
        With a transposition, the activations are gains of source frames that sound at other pitches; `parts` has those
        of the shifted grains.
    parts : sound, activations and divergences of each channel driven apart; one part otherwise.
    job : target, source and settings that it was made of.
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
    overlap: float
    leak: float | None
    settings: Settings
    transposition: Transposition | None
    parts: tuple[Part, ...]
    job: Job

    def __repr__(self) -> str:
        # The arrays would fill screens.
        n_atoms, n_frames = self.activations.shape
        return (
            f"<Mosaic of {self.audio.shape[-1] / self.sr:.2f} s at {self.sr} Hz, channels: {n_channels(self.audio)}, "
            f"activations: {n_atoms} x {n_frames}, overlap: {self.overlap:.0%}>"
        )

    @cached_property
    def score(self) -> Score:
        """The list of all grains, to be read, edited and rendered again; see `smalti.score.render.render`."""
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
            target=self.job.about_target,
            sources=source.sources,
            melodies=melodies_of(self.job),
            **joined([_grains_of(part, source) for part in self.parts]),
        )

    @property
    def contributions(self) -> scipy.sparse.csc_array:
        """(K, N) scipy.sparse CSC: how loud each source frame sounds in each target frame, its gain times its norm.

        Plot these rather than `activations`: near-silent source frames can have enormous gains and still not be heard.
        """
        return scipy.sparse.csc_array(self.activations.multiply(self.dictionary.norms[:, None]))


def mosaic(
    target: ArrayLike,
    source: ArrayLike | Sequence[ArrayLike] | Dictionary,
    sr: int,
    *,
    preset: str | Settings = DEFAULT_PRESET,
    target_f0: ArrayLike | None = None,
    source_f0: ArrayLike | Sequence[ArrayLike] | None = None,
    weights: ArrayLike | None = None,
    limits: Sequence[Limit] = (),
    sketch: Sketched | None = None,
    params: StftParams | None = None,
    init: ArrayLike | None = None,
    rng: Seed = 0,
    **knobs: Unpack[Knobs],
) -> Mosaic:
    """Re-create `target` out of the sounds of `source`.

    Parameters
    ----------
    target : (L,) or (C, L) float32 or float64 in [-1, 1]: one channel or several.
    source : one recording, (L,) or (C, L), a list of them, or a ready `Dictionary` or `Corpus`.
    sr : sample rate of all of them in Hz; nothing is resampled here.
    preset : a name in `PRESETS`, or `Settings` of your own.
    target_f0 : (N,) the melody to follow in Hz, 0 where there is no pitch, from a score, MIDI or another tracker;
        (M, N) for chords, a row for each voice; None to track the target's. N is ``params.n_frames(L)``, and frame n is
        centred on sample n * hop (hop is 512 at 22 050 Hz).
    source_f0 : (K,) the source's pitch in Hz, 0 where there is none, or a list with an array for each recording; None
        to track it. Neither `target_f0` nor `source_f0` is taken if `transpose` is "off", and no `target_f0` if
        `transpose` is a range or a curve of semitones.
    weights, limits : how much each recording of the source counts, (R,) >= 0, and the largest shares of the mosaic that
        some of them may have; see `smalti.grains.filters`. With either, even a short source is searched.
    sketch : which moments of the source may sound when: (K, N) weights, 0 to 1000, for its K frames and the target's N,
        or a list of `Stroke`, or any `Sketch`; see `smalti.mosaicing.sketch`. 0 forbids; other weights multiply the
        values that source frames are ranked and chosen by.
    params : the grid in samples; by default the preset's in seconds.
    init : (K, N) activations to start from, or None for random ones. They are those of atoms at unit norm if
        `unit_norm` is set. Pursuit starts from silence and takes none.
    rng : seed or generator of the random start. The same inputs, settings and seed give the same samples.
    knobs : settings that override the preset, by name: layers, grain_length_s, drift, no_repeat_s, colour, attacks,
        phase, channels, loudness, transpose and all others of `Settings`. Five of them may change over the target's
        time: layers, grain_length_s, drift, level_db and transpose. They take pairs of seconds and value,
        ``layers=[(0, 2), (4, 8)]``, or a text, ``"0:2, 4:8"``, or a `Curve`.

    Returns
    -------
    Mosaic

    Raises
    ------
    ValueError, TypeError : for signals that are empty, integer or not finite; for a silent source; for values out of
        range; if a melody or chords are to be followed and target or source has no pitch.
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
    settings = configure(preset, **knobs)
    plan = plan_of(source, sr, settings, params=params, weighed=weights is not None or bool(limits))
    job = prepare(
        target, source, sr, settings, plan=plan, target_f0=target_f0, source_f0=source_f0,
        weights=None if weights is None else np.asarray(weights, np.float32), limits=limits, sketch=sketch,
    )  # fmt: skip
    return assemble(job, [made for made in parts_of(job, init=init, rng=rng) if isinstance(made, Part)])


def parts_of(job: Job, *, init: ArrayLike | None = None, rng: Seed = 0) -> Iterator[Solving | Solution | Part]:
    """Solve a job and make its sound, for one of the `channel_jobs` after the other.

    Parameters
    ----------
    job : from `prepare`. init, rng : as for `mosaic`.

    Yields
    ------
    Solving : before the first step of each channel, and after each step.
    Solution : as soon as a channel is solved.
    Part : as soon as its sound is made; `assemble` takes the parts of all channels.

    Raises
    ------
    ValueError : as for `smalti.mosaicing.solve.solver_of`.
    """
    done = 0
    for channel in channel_jobs(job):
        solver, divergences = solver_of(channel, init=init), list[float]()
        total = solver.n_steps * job.n_solves
        yield Solving(done, total, None)
        for step in solver.steps(rng):
            done += 1
            divergences.append(step.divergence)
            yield Solving(done, total, step)
        solution = solver.solution(step)
        yield solution
        yield part_of(channel, solution, divergences)


def part_of(job: Job, solution: Solution, divergences: Sequence[float]) -> Part:
    """The sound of the solution of a job, one of the `channel_jobs`, at the level that the gains give.

    `divergences` are those of the steps that led to the solution.
    """
    dictionary, activations = solution.dictionary, solution.activations
    audio, unshaped = sounded(activations, dictionary, Aim(job.target, job.settings, melodies_of(job)))
    return Part(
        audio, activations, np.asarray(divergences, np.float64), unshaped, dictionary, solution.grains,
        solution.recordings,
    )  # fmt: skip


def melodies_of(job: Job) -> Floats:
    """(M, N) Hz, the melodies that the grains of a job follow; M may be 0."""
    return job.transposition.melodies if job.transposition else np.zeros((0, 0))


def assemble(job: Job, parts: Sequence[Part]) -> Mosaic:
    """The mosaic of the parts that `part_of` made, one for each of the `channel_jobs`, at a safe level.

    Raises
    ------
    ValueError : if there are more or fewer parts than jobs.
    """
    settings, sr = job.settings, job.dictionary.sr
    if len(parts) != job.n_solves:
        raise ValueError(f"parts has {len(parts)} entries; this job has {job.n_solves}, one for each of channel_jobs")
    audio = follow_target_contour(stack_channels([part.audio for part in parts]), job.recording, sr, settings)
    level = match_loudness(audio, sr, _wanted_loudness(job))
    if settings.level_db != 0:
        # `level_db` comes on top of the gain that matched the loudness.
        level = at_gain(apply_gain_curve(audio, sr, settings), sr, level.gain_db, limited=settings.loudness != "as-is")
    return Mosaic(
        audio=level.samples,
        sr=sr,
        activations=_mean([in_source_frames(part, job.dictionary) for part in parts]),
        dictionary=job.dictionary if parts[0].recordings is None else parts[0].dictionary,
        divergences=np.sum([part.divergences for part in parts], axis=0),
        gain_db=level.gain_db,
        peak_gain_db=level.peak_gain_db,
        limited_db=level.limited_db,
        loudness=level.loudness,
        true_peak_db=level.true_peak_db,
        overlap=spectral_overlap(level.samples, job),
        leak=_leak(level.samples, job) if settings.leaks else None,
        settings=settings,
        transposition=job.transposition,
        parts=tuple(parts),
        job=job,
    )


def _grains_of(part: Part, source: Dictionary) -> Columns:
    """The grains of a part; their origins number the recordings of the source."""
    if part.grains is not None:
        return read_shifted(part.activations, part.grains, source)
    grains = read_grains(part.activations, part.dictionary)
    return grains if part.recordings is None else grains._replace(origins=part.recordings[grains.origins])


def in_source_frames(part: Part, dictionary: Dictionary) -> scipy.sparse.csc_array:
    """(K, N) scipy.sparse CSC, a part's activations as gains of source frames, at whichever pitch these sound."""
    return part.activations if part.grains is None else part.grains.in_source(part.activations, dictionary.n_atoms)


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
    # Imported when needed: the measures load parts of scipy that nothing else does.
    from smalti.metrics.evaluation import target_leak

    return target_leak(to_mono(audio), job.target, job.dictionary.sr)


def spectral_overlap(audio: Floats, job: Job) -> float:
    """0 to 1, how much the magnitude spectrograms of target and `audio`, both mixed to mono, overlap.

    This is the Bhattacharyya coefficient, the sum of sqrt(V Y) with V and Y scaled to sum 1. A squared error would hear
    little but the loudest bass notes. A silent target gives 1, and otherwise a silent `audio` gives 0.
    """
    V, Y = np.abs(job.spectrum), np.abs(stft(to_mono(audio), job.dictionary.params))
    wanted, got = float(V.sum(dtype=np.float64)), float(Y.sum(dtype=np.float64))
    if wanted == 0:
        return 1.0
    shared = float(np.sqrt(V * Y).sum(dtype=np.float64))
    # It is at most 1 by Cauchy and Schwarz, apart from rounding.
    return min(shared / float(np.sqrt(wanted * got)), 1.0) if got else 0.0
