"""Pick the solver of a job; and the two that consider every source frame: by updates, and by pursuit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike

from smalti._checks import Floats
from smalti.grains.corpus import Corpus
from smalti.grains.runs import find_runs, keep_runs, smooth_runs
from smalti.mosaicing.compare import atom_norms, compared, may_sound
from smalti.mosaicing.job import Job, Solution, Solver, chosen_among
from smalti.mosaicing.solve_searched import SearchedSolver
from smalti.mosaicing.solve_transposed import TransposedSolver
from smalti.nmf.base import Fit, MatrixStep, Step
from smalti.nmf.gains import GainFit
from smalti.nmf.let_it_bee import limit_polyphony
from smalti.nmf.multiplicative import Seed, activation_steps, choose_fit, steps_of
from smalti.nmf.pursuit import pursuit_steps
from smalti.settings import Settings


def solver_of(job: Job, *, init: ArrayLike | None = None) -> Solver[Any]:
    """The solver of a job: one of four, by its source and settings.

    Parameters
    ----------
    job : from `prepare`; with channels "apart", from `channel_jobs`.
    init : as for `mosaic`.

    Raises
    ------
    ValueError : if there is an `init` and the solver has no use for it.
    """
    if job.transposition is not None and job.transposition.n_voices:
        _check_no_init(init, "where grains are transposed")
        return TransposedSolver(job, job.transposition)
    if job.plan.searched:
        _check_no_init(init, "where the source is searched")
        return SearchedSolver(job, cast(Corpus, job.dictionary))
    if job.settings.method == "pursuit":
        _check_no_init(init, "to pursuit, which starts from silence")
        return PursuitSolver(job)
    return UpdateSolver(job, init)


def _check_no_init(init: ArrayLike | None, where: str) -> None:
    if init is not None:
        raise ValueError(f"init means nothing {where}; leave it out")


@dataclass(frozen=True, eq=False)
class PursuitSolver:
    """The `Solver` by orthogonal matching pursuit: a step is a layer."""

    job: Job

    @property
    def n_steps(self) -> int:
        n_atoms = self.job.dictionary.n_atoms
        return min(self.job.settings.constant_layers or n_atoms, n_atoms)

    def steps(self, rng: Seed = 0) -> Iterator[Step]:
        return pursuit_steps(*compared(self.job), n_atoms=self.n_steps, nonnegative=self.job.settings.nonnegative)

    def solution(self, step: Step) -> Solution:
        return Solution(self.job.dictionary, recorded_gains(step.H, self.job))


@dataclass(frozen=True, eq=False)
class UpdateSolver:
    """The `Solver` by multiplicative updates of all source frames, from `init` or at random."""

    job: Job
    init: ArrayLike | None = None

    @property
    def n_steps(self) -> int:
        return self.job.n_updates

    def steps(self, rng: Seed = 0) -> Iterator[Step]:
        job, settings, init = self.job, self.job.settings, self.init
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
            constraints=settings.constraints(job.dictionary.hop_s, V.shape[1]),
            segments=job.dictionary.recording_ids,
            weights=None if job.sketch is None else job.sketch.whole(),
            init=init,
            rng=rng,
        )
        return _refined(steps, V, W, job) if settings.choose else steps

    def solution(self, step: Step) -> Solution:
        return Solution(self.job.dictionary, recorded_gains(step.H, self.job))


def recorded_gains(H: Floats, job: Job) -> scipy.sparse.csc_array:
    """(K, N) scipy.sparse CSC, a solver's activations as gains of the source frames as recorded.

    They are 0 wherever target or source is silent.
    """
    if job.settings.unit_norm:
        norms = atom_norms(job.dictionary, job.settings)
        H = np.divide(H, norms[:, None], out=np.zeros_like(H), where=norms[:, None] > 0)
    # Updates with eps > 0 only fade out in a silent target frame, and leave a silent source frame at its start value.
    # Both must be silent in the mosaic.
    return scipy.sparse.csc_array(H * job.spectrum.any(axis=0) * may_sound(job.dictionary, job.settings)[:, None])


def _refined(steps: Iterator[Step], V: Floats, W: Floats, job: Job) -> Iterator[Step]:
    """Yield `steps`, then choose what sounds from the last of them, and yield steps that only refine its gains."""
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
    last = chosen = MatrixStep(step.iteration + 1, H, _gains_fit(V, W, H, settings))
    yield chosen
    # Activations that are not chosen stay 0, so only gains move and the choice stands.
    for last in steps_of(chosen, settings.refine):
        yield last
    if runs is not None and job.smoothing_reach:
        yield MatrixStep(last.iteration + 1, smooth_runs(last.H, runs, reach=job.smoothing_reach), last.fit)


def _gains_fit(V: Floats, W: Floats, H: Floats, settings: Settings) -> Fit[Any]:
    """The fit of the last refinement, over the activations that are not 0 in `H`."""
    if settings.choose == "grains" and settings.beta in (1, 2) and not settings.eps:
        return GainFit.of(V, W, H, beta=settings.beta)
    # Single frames sound better short of the optimum, which gains fidelity but loses timbre: see docs/sound.md.
    return choose_fit(V, W, n_iter=settings.refine, beta=settings.beta, eps=settings.eps)
