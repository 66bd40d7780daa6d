"""A mosaic to be made: its target and source, and what a solver compares of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.curves import on_frames
from smalti.dsp.channels import n_channels
from smalti.dsp.stft import Complexes
from smalti.grains.dictionary import Dictionary
from smalti.grains.filters import Limit
from smalti.grains.runs import Allowed, Runs, choose_runs, drifting
from smalti.grains.transposition import Transposition
from smalti.mosaicing.sketch import Sketch
from smalti.nmf.let_it_bee import PerFrame
from smalti.settings import MOST_DRIFT_S, Settings


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

    @property
    def n_solves(self) -> int:
        """How many sets of activations the mosaic has: as many as `channel_jobs` gives jobs."""
        return n_channels(self.recording) if self.settings.channels == "apart" else 1


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
