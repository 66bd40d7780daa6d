"""`Job`, a mosaic to be made; `Solver`, which solves it; and `Solution`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.curves import on_frames
from smalti.dsp.channels import n_channels
from smalti.dsp.stft import Complexes
from smalti.grains.dictionary import Dictionary
from smalti.grains.filters import Limit
from smalti.grains.runs import Allowed, Runs, choose_runs, drifting
from smalti.grains.shifted import Grains
from smalti.grains.transposition import Transposition
from smalti.mosaicing.search_plan import SearchPlan
from smalti.mosaicing.sketch import Sketch
from smalti.nmf.let_it_bee import PerFrame
from smalti.nmf.multiplicative import Seed
from smalti.score.score import Target
from smalti.settings import MOST_DRIFT_S, Settings

# A target that is known by its samples alone.
PLAIN_TARGET = Target("target")


@dataclass(frozen=True, eq=False)
class Job:
    """A mosaic to be made: target, source and settings, checked and analysed by `prepare`.

    Attributes
    ----------
    target : (L,) float samples, the mono mix. spectrum : (F, N) complex, its STFT.
    dictionary : the source, a `Corpus` if `plan` says that it is searched. settings : how to make the mosaic.
    recording : (L,) or (C, L) float samples, the target with all its channels.
    plan : whether the source is searched, and the grid.
    transposition : how the source is brought to the target's pitches; None if it keeps its own.
    weights : (R,) float32, >= 0, how much each recording of the source counts; None if all count alike.
    limits : the largest shares of the mosaic that some recordings may have.
    sketch : which source frames may sound when, and how much they count; None if all count alike.
    about_target : where the target comes from.
    """

    target: Floats
    spectrum: Complexes
    dictionary: Dictionary
    settings: Settings
    recording: Floats
    plan: SearchPlan
    transposition: Transposition | None = None
    weights: Floats | None = None
    limits: tuple[Limit, ...] = ()
    sketch: Sketch | None = None
    about_target: Target = PLAIN_TARGET

    @property
    def n_solves(self) -> int:
        """The number of sets of activations: one for each of the `channel_jobs`."""
        return n_channels(self.recording) if self.settings.channels == "apart" else 1

    @property
    def smoothing_reach(self) -> int:
        """Frames to either side over which the gains of a grain are smoothed; 0 for not at all."""
        return round(self.settings.smooth_gains_s / self.dictionary.hop_s)

    @property
    def n_updates(self) -> int:
        """The number of steps: updates, then the choice of what sounds, then the refinement and smoothing of gains."""
        settings = self.settings
        if settings.choose is None:
            return settings.iterations
        return settings.iterations + 1 + settings.refine + (settings.choose == "grains" and self.smoothing_reach > 0)


@dataclass(frozen=True, eq=False)
class Solution:
    """The dictionary and the activations that a mosaic's sound is made of.

    Attributes
    ----------
    dictionary : the frames that sound: the source's, or those of `grains`.
    activations : (K, N) scipy.sparse CSC, the gains of these frames as recorded; 0 where the target is silent.
    grains : the grains that were shifted, or None.
    recordings : (R,) ints, the number in the source of each recording of `dictionary`; None if it has them all.
    """

    dictionary: Dictionary
    activations: scipy.sparse.csc_array
    grains: Grains | None = None
    recordings: NDArray[np.intp] | None = None


class SolverStep(Protocol):
    """The activations after one step of a `Solver`.

    Attributes
    ----------
    iteration : 1 for the first.
    H : (rows, N) activations; a scipy.sparse CSC if the source is searched. Only the solver knows what its rows stand
        for, and its `solution` tells.
    divergence : as for `smalti.nmf.base.Step`.
    """

    @property
    def iteration(self) -> int: ...
    @property
    def H(self) -> Floats | scipy.sparse.csc_array: ...
    @property
    def divergence(self) -> float: ...


SomeStep = TypeVar("SomeStep", bound=SolverStep)


class Solver(Protocol[SomeStep]):
    """A solver of a job; `smalti.mosaicing.solve.solver_of` picks it."""

    @property
    def n_steps(self) -> int:
        """The number of steps in all."""

    def steps(self, rng: Seed = 0) -> Iterator[SomeStep]:
        """Yield the activations as they form, one step for each iteration of updates, or for each layer of pursuit.

        `rng` is the seed or the generator of the random start.
        """

    def solution(self, step: SomeStep) -> Solution:
        """The solution that the activations of a step make."""


def chosen_among(
    runs: Runs, segments: NDArray[np.intp], job: Job, *, layers: PerFrame | None = None, allowed: Allowed | None = None
) -> Runs:
    """The stretches that the settings choose to sound.

    Parameters
    ----------
    runs : the stretches to choose from. segments : (rows of H,) ints, the recording of each atom.
    layers : stretches that may sound at once; by default those of the settings.
    allowed : as for `smalti.grains.runs.find_runs`.
    """
    settings, hop_s, n_frames = job.settings, job.dictionary.hop_s, job.spectrum.shape[1]
    reach = np.round(on_frames(settings.drift, n_frames, hop_s) / 100 * MOST_DRIFT_S / hop_s).astype(np.intp)
    tails = None
    if reach.any():
        runs, tails = drifting(runs, segments, reach, allowed)
    shortest = max(1, round(settings.shortest_grain_s / hop_s))
    return choose_runs(runs, layers=layers or settings.layers_in(n_frames, hop_s) or 1, shortest=shortest, tails=tails)
