"""The steps of a solver: the activations as they form."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from smalti._checks import Floats
from smalti.grains.corpus import Corpus
from smalti.grains.runs import find_runs, keep_runs, smooth_runs
from smalti.mosaicing.compare import compared
from smalti.mosaicing.job import Job, chosen_among
from smalti.mosaicing.solve_searched import searched_steps
from smalti.mosaicing.solve_transposed import transposed_steps
from smalti.nmf.base import Fit, Step
from smalti.nmf.gains import GainFit
from smalti.nmf.let_it_bee import limit_polyphony
from smalti.nmf.multiplicative import Seed, activation_steps, choose_fit, steps_of
from smalti.nmf.pursuit import pursuit_steps
from smalti.settings import Settings


def solve_steps(job: Job, *, init: ArrayLike | None = None, rng: Seed = 0) -> Iterator[Step]:
    """Yield the activations of a job as they form; the last is what `part_of` makes the sound of.

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
        segments=dictionary.recording_ids,
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
        heard, segments = step.H * loudness, dictionary.recording_ids
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
