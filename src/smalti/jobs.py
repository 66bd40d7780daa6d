"""A mosaic to be made: its target and source, and what a solver compares of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.bands import a_weights, band_edges, pool
from smalti.channels import n_channels
from smalti.choosing import Limit
from smalti.constraints import PerFrame
from smalti.dictionary import Dictionary
from smalti.grains import Allowed, Runs, choose_runs, drifting
from smalti.settings import MOST_DRIFT_S, Settings, on_frames
from smalti.sketching import Sketch
from smalti.sparse_coding import unit_columns
from smalti.stft import Complexes
from smalti.transposing import Transposition
from smalti.views import stacked, views


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
            V = V * hearing(dictionary, V)
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
    return W * hearing(dictionary, W) if settings.ear_weighting else W


def hearing(dictionary: Dictionary, like: Floats) -> Floats:
    """(F, 1): the amplitude gain of the A curve at every bin, in the dtype of `like`."""
    hz = np.arange(dictionary.params.n_bins) * (dictionary.sr / dictionary.params.n_fft)
    return np.sqrt(a_weights(hz)).astype(like.dtype)[:, None]


def may_sound(dictionary: Dictionary, settings: Settings) -> NDArray[np.bool_]:
    """(K,) bools: which source frames are neither silent nor, by `quietest_db`, too quiet."""
    return dictionary.sounding(settings.quietest_db) if settings.quietest_db else dictionary.norms > 0


def chosen_among(
    runs: Runs, segments: NDArray[np.intp], job: Job, *, layers: PerFrame | None = None, allowed: Allowed | None = None
) -> Runs:
    """The stretches to sound, as the settings choose them: `layers` of these at once unless others are given.

    Parameters
    ----------
    runs : of atoms that have `segments`, (rows of H,) ints. allowed : as for `smalti.grains.find_runs`.
    """
    settings, hop_s, n_frames = job.settings, job.dictionary.hop_s, job.spectrum.shape[1]
    reach = np.round(on_frames(settings.drift, n_frames, hop_s) / 100 * MOST_DRIFT_S / hop_s).astype(np.intp)
    tails = None
    if reach.any():
        runs, tails = drifting(runs, segments, reach, allowed)
    shortest = max(1, round(settings.shortest_grain_s / hop_s))
    return choose_runs(runs, layers=layers or settings.layers_in(n_frames, hop_s) or 1, shortest=shortest, tails=tails)
