"""A target, a source, and the mosaic that comes of them.

`mosaic` does all of it. Its parts stand alone for those who want to watch or steer: `prepare` analyses, `channel_jobs`
gives a job for each channel that is solved for itself (one, unless channels are driven apart), `solve_steps` yields its
activations as they form, `part_of` makes their sound, and `assemble` the mosaic of all parts.
"""

from collections.abc import Sequence
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
from smalti.mosaicing.job import Job
from smalti.mosaicing.prepare import Sketched, channel_jobs, prepare
from smalti.mosaicing.solve import solve_steps, solver_of
from smalti.nmf.base import Step
from smalti.nmf.multiplicative import Seed
from smalti.presets import DEFAULT_PRESET, Knobs, configure
from smalti.score.score import Columns, Score, joined, read_grains, read_shifted
from smalti.settings import Settings


@dataclass(frozen=True, eq=False)
class Part:
    """The sound and the activations of one of the `channel_jobs`.

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
    """A mosaic: its sound, its activations, and facts about both.

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
    overlap : 0 to 1, how much the magnitude spectrograms of target and `audio` overlap (Bhattacharyya coefficient);
        level does not matter. Taken from the sound itself, since ``W @ H`` hides what overlapping grains cancel.
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
    overlap: float
    leak: float | None
    settings: Settings
    transposition: Transposition | None
    parts: tuple[Part, ...]
    job: Job

    @cached_property
    def score(self) -> Score:
        """The score: every grain, to be read, edited and rendered again; see `smalti.score.render.render`."""
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
    target_f0 : the melody to follow, (N,) in Hz and 0 where there is no pitch: from a score, MIDI or another tracker;
        or (M, N), one row a voice, for chords. N is ``params.n_frames(L)``, frame n being about sample n * hop (512 at
        22 050 Hz); None to track the target's.
    source_f0 : (K,) Hz for each frame of the source likewise, or a list, one for each recording; None to track them.
        Both only where `transpose` is not "off", and no `target_f0` where it is a range of semitones.
    weights, limits : how much each recording of the source counts, (R,) >= 0, and how much of the mosaic some of them
        may be; see `smalti.grains.filters`. The source is searched then, however short it is.
    sketch : which moments of the source may sound when: (K, N) weights, 0 to 1000, for its K frames and the target's N,
        or a list of `Stroke`, or any `Sketch`; see `smalti.mosaicing.sketch`. 0 forbids, other numbers multiply what
        source frames are ranked and chosen by.
    params : the grid in samples; by default the preset's in seconds.
    init : (K, N) activations to start from, those of atoms at unit norm if the settings have it so, or None for random
        ones. Pursuit starts from silence and takes none.
    rng : seed or generator of that random start. The same inputs, settings and seed give the same samples.
    knobs : settings that override the preset, by name: layers, grain_length_s, drift, no_repeat_s, colour, attacks,
        phase, channels, loudness, transpose and all others of `Settings`. Five of them may change over the target's
        time: ``layers=[(0, 2), (4, 8)]``, or ``"0:2, 4:8"``, or a `Curve`; so may grain_length_s, drift, level_db and
        transpose.

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
    settings = configure(preset, **knobs)
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


def part_of(job: Job, step: Step, divergences: Sequence[float]) -> Part:
    """The sound of a job's activations, of one of the steps of its solver, at the level they come to."""
    solution = solver_of(job).solution(step)
    dictionary, activations = solution.dictionary, solution.activations
    audio, unshaped = sounded(activations, dictionary, Aim(job.target, job.settings, melodies_of(job)))
    return Part(
        audio, activations, np.asarray(divergences, np.float64), unshaped, dictionary, solution.grains,
        solution.recordings,
    )  # fmt: skip


def melodies_of(job: Job) -> Floats:
    """(M, N) Hz, what the grains of a job follow; M may be 0."""
    return job.transposition.melodies if job.transposition else np.zeros((0, 0))


def assemble(job: Job, parts: Sequence[Part]) -> Mosaic:
    """The mosaic of the parts that `part_of` made, one for each of the `channel_jobs`, at a safe level."""
    settings, sr = job.settings, job.dictionary.sr
    if len(parts) != job.n_solves:
        raise ValueError(f"parts has {len(parts)} entries; this job has {job.n_solves}, one for each of channel_jobs")
    audio = follow_target_contour(stack_channels([part.audio for part in parts]), job.recording, sr, settings)
    level = match_loudness(audio, sr, _wanted_loudness(job))
    if settings.level_db != 0:
        # On top of the gain that it would have had.
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
    """The grains of a part, their origins counting the recordings of the source."""
    if part.grains is not None:
        return read_shifted(part.activations, part.grains, source)
    grains = read_grains(part.activations, part.dictionary)
    return grains if part.recordings is None else grains._replace(origins=part.recordings[grains.origins])


def in_source_frames(part: Part, dictionary: Dictionary) -> scipy.sparse.csc_array:
    """A part's activations as gains of source frames, (K, N), whatever pitch these sound at."""
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
    # When first needed, as the measures load parts of scipy that nothing else does.
    from smalti.metrics.evaluation import target_leak

    return target_leak(to_mono(audio), job.target, job.dictionary.sr)


def spectral_overlap(audio: Floats, job: Job) -> float:
    """How much the spectrograms V of the target and Y of `audio` overlap: the sum of sqrt(V Y), each of sum 1.

    Both are of the mono mixes.

    The Bhattacharyya coefficient; unlike a squared error it hears more than the loudest bass notes.
    """
    V, Y = np.abs(job.spectrum), np.abs(stft(to_mono(audio), job.dictionary.params))
    wanted, got = float(V.sum(dtype=np.float64)), float(Y.sum(dtype=np.float64))
    if wanted == 0:
        return 1.0
    shared = float(np.sqrt(V * Y).sum(dtype=np.float64))
    # By Cauchy and Schwarz at most 1, but for rounding.
    return min(shared / float(np.sqrt(wanted * got)), 1.0) if got else 0.0
