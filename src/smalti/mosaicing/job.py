"""A mosaic to be made, what solves it, and what its solution is."""

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
from smalti.mosaicing.sketch import Sketch
from smalti.nmf.base import Step
from smalti.nmf.let_it_bee import PerFrame
from smalti.nmf.multiplicative import Seed
from smalti.score.score import Target
from smalti.settings import MOST_DRIFT_S, Settings

# A target of which nothing is known but its samples.
PLAIN_TARGET = Target("target")


@dataclass(frozen=True, eq=False)
class Job:
    """A mosaic to be made: what `prepare` found.

    Attributes
    ----------
    target : (L,) samples, the mono mix. spectrum : (F, N) its STFT. dictionary : the source. settings : how.
    recording : (L,) or (C, L), the target with all its channels.
    transposition : how the source comes to the target's pitches; None if that was not asked.
    weights : (R,) how much each recording of the source counts, or None for all alike.
    limits : how much of the mosaic some of them may be.
    sketch : what may sound when, and how much it counts; None for everything alike.
    about_target : where the target comes from.
    """

    target: Floats
    spectrum: Complexes
    dictionary: Dictionary
    settings: Settings
    recording: Floats
    transposition: Transposition | None = None
    weights: Floats | None = None
    limits: tuple[Limit, ...] = ()
    sketch: Sketch | None = None
    about_target: Target = PLAIN_TARGET

    @property
    def n_solves(self) -> int:
        """The number of sets of activations, one for each of the `channel_jobs`."""
        return n_channels(self.recording) if self.settings.channels == "apart" else 1

    @property
    def smoothing_reach(self) -> int:
        """Frames to either side over which the gains of a grain are smoothed; 0 for not at all."""
        return round(self.settings.smooth_gains_s / self.dictionary.hop_s)

    @property
    def n_updates(self) -> int:
        """The steps of a solver that updates, chooses what sounds, refines the gains of that and smooths them."""
        settings = self.settings
        if settings.choose is None:
            return settings.iterations
        return settings.iterations + 1 + settings.refine + (settings.choose == "grains" and self.smoothing_reach > 0)


@dataclass(frozen=True, eq=False)
class Solution:
    """The dictionary and the activations that a mosaic's sound is made of.

    Attributes
    ----------
    dictionary : what sounds: the source's frames, or those of `grains`.
    activations : (K, N) scipy.sparse CSC, the gains of its frames as recorded; 0 where the target is silent.
    grains : the grains that were shifted, or None.
    recordings : (R,) ints, which of the source's recordings those of `dictionary` are, where it is not all; else None.
    """

    dictionary: Dictionary
    activations: scipy.sparse.csc_array
    grains: Grains | None = None
    recordings: NDArray[np.intp] | None = None


SomeStep = TypeVar("SomeStep", bound=Step)


class Solver(Protocol[SomeStep]):
    """A way to solve a job; see `smalti.mosaicing.solve.solver_of`."""

    @property
    def n_steps(self) -> int:
        """How many steps there are in all."""

    def steps(self, rng: Seed) -> Iterator[SomeStep]:
        """The activations as they form."""

    def solution(self, step: SomeStep) -> Solution:
        """The solution that a step stands for."""


def chosen_among(
    runs: Runs, segments: NDArray[np.intp], job: Job, *, layers: PerFrame | None = None, allowed: Allowed | None = None
) -> Runs:
    """The stretches to sound, as the settings choose them: `layers` of these at once unless others are given.

    Parameters
    ----------
    runs : of atoms that have `segments`, (rows of H,) ints. allowed : as for `smalti.grains.runs.find_runs`.
    """
    settings, hop_s, n_frames = job.settings, job.dictionary.hop_s, job.spectrum.shape[1]
    reach = np.round(on_frames(settings.drift, n_frames, hop_s) / 100 * MOST_DRIFT_S / hop_s).astype(np.intp)
    tails = None
    if reach.any():
        runs, tails = drifting(runs, segments, reach, allowed)
    shortest = max(1, round(settings.shortest_grain_s / hop_s))
    return choose_runs(runs, layers=layers or settings.layers_in(n_frames, hop_s) or 1, shortest=shortest, tails=tails)
