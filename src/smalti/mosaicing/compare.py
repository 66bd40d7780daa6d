"""The magnitudes that a solver compares: V of the target and W of the source, weighed as the settings say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, Integers
from smalti.dsp.bands import a_weights, band_edges, pool
from smalti.grains.corpus import Corpus
from smalti.grains.descriptors import StretchedBands, descriptors_of, stack, stacked, view_gains, views
from smalti.grains.dictionary import Dictionary
from smalti.grains.shifted import frames_of
from smalti.mosaicing.job import Job
from smalti.mosaicing.sketch import Sketch
from smalti.nmf.divergence import beta_divergence, noise_floor
from smalti.nmf.gains import GainFit
from smalti.nmf.lists import HalfAtoms, Lists, entry_frames, indptr_of
from smalti.nmf.pursuit import unit_columns
from smalti.settings import Settings


def compared(job: Job) -> tuple[Floats, Floats]:
    """The V (B, N) and W (B, K) of the solver: magnitudes of target and source, as the settings compare them.

    B is F if `compare` is "bins"; see `Settings`. Source frames that are silent, or too quiet to sound, are 0 in W and
    so get no activation.
    """
    settings, dictionary = job.settings, job.dictionary
    if settings.compare == "views":
        centres = np.arange(job.spectrum.shape[1]) * dictionary.params.hop
        target_views = views(
            job.target, centres, dictionary.params.hop, dictionary.sr, ear_weighting=settings.ear_weighting
        )
        V, W = stacked(target_views, dictionary.views(ear_weighting=settings.ear_weighting))
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
    """(K,) the norm of each source frame, A-weighted if the settings are."""
    return np.linalg.norm(_weighed(dictionary, settings), axis=0) if settings.ear_weighting else dictionary.norms


def _weighed(dictionary: Dictionary, settings: Settings) -> Floats:
    W = dictionary.magnitudes
    return W * hearing(dictionary, W) if settings.ear_weighting else W


def hearing(dictionary: Dictionary, like: Floats) -> Floats:
    """(F, 1) the amplitude gain of the A curve at every bin, in the dtype of `like`."""
    hz = np.arange(dictionary.params.n_bins) * (dictionary.sr / dictionary.params.n_fft)
    return np.sqrt(a_weights(hz)).astype(like.dtype)[:, None]


def may_sound(dictionary: Dictionary, settings: Settings) -> NDArray[np.bool_]:
    """(K,) bools, the source frames that are neither silent nor too quiet by `quietest_db`."""
    return dictionary.sounding(settings.quietest_db) if settings.quietest_db else dictionary.norms > 0


T = TypeVar("T")
# `Comparison.missing` raises no part of the target to more than this many times its level.
MOST_MISSING = 8.0
# Entries below this share of the largest in their frame are dropped.
DROPPED_BELOW = 1e-4


@dataclass(frozen=True, eq=False)
class Entries:
    """Lists of the atoms that may sound in each frame, and facts about each entry.

    Attributes
    ----------
    lists : E entries; see `smalti.nmf._kernels`.
    rows, scales : (E,) the row of the corpus's features that each entry has, and the factor of that row.
    sums, norms : (E,) float32 of these rows, weighed by the gains of the bands, before they are scaled.
    weights : (E,) float32, how much each entry counts: the weight of its recording, times that of the sketch.
    """

    lists: Lists
    rows: Integers
    scales: Floats
    sums: Floats
    norms: Floats
    weights: Floats

    def loudness(self, rank: str) -> Floats:
        """(E,) the factors by which activations are ranked: those of `rank` in `LetItBee`, times the weights."""
        norms: Floats = self.scales * self.norms
        return self.weights * {"h": np.ones_like(norms), "contribution": norms, "energy": norms**2}[rank]

    def with_values(self, values: Floats) -> "Entries":
        return replace(self, lists=self.lists._replace(values=values))

    def only(self, kept: NDArray[np.bool_]) -> "Entries":
        """The entries that are `kept`, (E,) bools."""
        indptr, atoms, values = self.lists
        lists = Lists(indptr_of(kept, indptr), atoms[kept], values[kept])
        return Entries(lists, self.rows[kept], self.scales[kept], self.sums[kept], self.norms[kept], self.weights[kept])

    @property
    def frames(self) -> Integers:
        """(E,) the target frame of each entry."""
        return entry_frames(self.lists.indptr)

    @property
    def contributions(self) -> Floats:
        """(E,) each entry's activation times the norm of its atom and its weight."""
        return self.lists.values * self.loudness("contribution")


@dataclass(frozen=True, eq=False)
class Comparison:
    """A target and a corpus as they are compared, and the fit of lists of atoms to the target.

    Attributes
    ----------
    corpus : the source.
    target_views : the target's views, (bands, N) each. Vt : (N, B) float32, the views side by side, times `gains`.
    gains : (B,) float32, of the bands.
    weights : (R,) float32, how much each recording counts.
    sketch : which source frames may sound when, and how much they count; None if all count alike.
    """

    corpus: Corpus
    target_views: list[Floats]
    Vt: Floats
    gains: Floats
    weights: Floats
    sketch: Sketch | None = None

    @classmethod
    def of(cls, job: Job, corpus: Corpus) -> "Comparison":
        hop, sr = corpus.params.hop, corpus.sr
        target_views = views(job.target, np.arange(job.spectrum.shape[1]) * hop, hop, sr)
        weights = view_gains(target_views)
        gains = np.repeat(weights, [len(view) for view in target_views]).astype(np.float32)
        Vt = np.ascontiguousarray(stack(target_views, weights).T, np.float32)
        even = np.ones(len(corpus.recordings)) if job.weights is None else job.weights
        return cls(corpus, target_views, Vt, gains, np.asarray(even, np.float32), job.sketch)

    @cached_property
    def atoms(self) -> HalfAtoms:
        """The corpus's features, for the kernels. The floor of a model is added before the gains."""
        floor = noise_floor(self.Vt) / max(float(self.gains.max()), float(np.finfo(np.float32).tiny))
        return HalfAtoms(self.corpus.features.view(np.uint16), self.gains, floor)

    @cached_property
    def segments(self) -> Integers:
        return self.corpus.recording_ids.astype(np.int32)

    def segments_at(self, atoms: Integers) -> Integers:
        """The recording of each atom; any recording for an atom of -1."""
        return self.corpus.recording_ids[np.maximum(atoms, 0)]

    def weights_at(self, atoms: Integers, frames: Integers) -> Floats:
        """The weights of places by their atoms and frames, which broadcast. An atom of -1 gets any weight."""
        weights: Floats = self.weights[self.segments_at(atoms)]
        return weights if self.sketch is None else weights * self.sketch.at(atoms, frames)

    def queries(self, magnitudes: Floats) -> Floats:
        """(N, D) float32, the descriptors of magnitudes (N, B) like `Vt`."""
        features = np.divide(magnitudes, self.gains, out=np.zeros_like(magnitudes), where=self.gains > 0)
        descriptors: Floats = descriptors_of(features, [len(view) for view in self.target_views]).astype(np.float32)
        return descriptors

    def entries(self, indptr: Integers, atoms: Integers, values: Floats) -> Entries:
        """The entries of lists, with the facts about each."""
        rows = self.corpus.rows[atoms]
        sums, norms = self.atoms.statistics(rows)
        weights = self.weights_at(atoms, entry_frames(indptr))
        return Entries(Lists(indptr, atoms, values), rows, self.corpus.scales[atoms], sums, norms, weights)

    def update(self, entries: Entries, least: float = DROPPED_BELOW) -> Floats:
        """(E,) the activations after one multiplicative update."""
        return self.atoms.update(self.Vt, entries.lists, entries.rows, entries.scales, entries.sums, least=least)

    def gains_fit(self, entries: Entries) -> GainFit:
        """The fit that refines the gains of entries that were chosen."""
        indptr, atoms, _ = entries.lists
        _, first, places = np.unique(atoms, return_index=True, return_inverse=True)
        columns = self.corpus.features[entries.rows[first]].astype(np.float32)
        columns *= entries.scales[first, None] * self.gains
        return GainFit.over(self.Vt, columns, indptr.astype(np.int64), atoms.astype(np.intp), places)

    def over_models(self, entries: Entries, work: Callable[[slice, Floats], T]) -> list[T]:
        """Call `work` on each block of frames and its models, (n, B); return its results in order."""
        return self.atoms.over_models(self.Vt, entries.lists, entries.rows, entries.scales, work)

    def divergence(self, entries: Entries) -> float:
        return sum(self.over_models(entries, lambda n, Y: beta_divergence(self.Vt[n], Y)))

    def missing(self, entries: Entries) -> Floats:
        """(N, B) float32: the target times its ratio to the model, which is at most `MOST_MISSING`.

        Parts that the model lacks are raised, and parts that it has too much of are lowered.
        """
        out = np.empty_like(self.Vt)

        def work(n: slice, Y: Floats) -> None:
            ratio = np.divide(self.Vt[n], Y, out=np.zeros_like(Y), where=Y > 0)
            out[n] = self.Vt[n] * np.minimum(ratio, MOST_MISSING)

        self.over_models(entries, work)
        return out


@dataclass(frozen=True, eq=False)
class ShiftedComparison:
    """The comparison of a target with a source that is brought to other pitches.

    Attributes
    ----------
    V : (B, N) magnitudes of the target, as those of `compared`.
    job : the job of target and source. source_f0 : (K,) the source's pitch in Hz, 0 for none.
    gains : of the views; empty if the settings compare bins or bands.
    """

    V: Floats
    job: Job
    source_f0: Floats
    gains: Sequence[float]

    @classmethod
    def of(cls, job: Job, source_f0: Floats) -> "ShiftedComparison":
        settings, dictionary = job.settings, job.dictionary
        if settings.compare != "views":
            return cls(compared(job)[0], job, source_f0, ())
        centres = np.arange(job.spectrum.shape[1]) * dictionary.params.hop
        target_views = views(
            job.target, centres, dictionary.params.hop, dictionary.sr, ear_weighting=settings.ear_weighting
        )
        gains = view_gains(target_views)
        return cls(stack(target_views, gains), job, source_f0, gains)

    def at(self, ratios: Floats) -> Floats:
        """(Q, B, K) magnitudes of the source frames, shifted by the frequency ratios (Q, K).

        They are 0 where a ratio is 0 and where a frame may not sound.
        """
        settings, dictionary = self.job.settings, self.job.dictionary
        ratios = np.where(may_sound(dictionary, settings), ratios, 0)
        formants = settings.keep_formants and not settings.tape
        if settings.compare == "views":
            return dictionary.shifted_views(
                ratios, self.source_f0, self.gains, keep_formants=formants, ear_weighting=settings.ear_weighting
            )
        params, sr = dictionary.params, dictionary.sr
        edges = band_edges(params, sr) if settings.compare == "bands" else np.arange(params.n_bins + 1)
        weights = hearing(dictionary, self.V)[:, 0] if settings.ear_weighting else np.ones(params.n_bins)
        bands = StretchedBands.of(dictionary.magnitudes, self.source_f0, sr, edges, weights, keep_formants=formants)
        return np.stack([bands.at(row).T.astype(self.V.dtype) for row in ratios]).swapaxes(1, 2)

    def of_grains(self, dictionary: Dictionary) -> Floats:
        """(B, K') magnitudes of the frames of grains that are shifted already; see `Grains`."""
        settings = self.job.settings
        if settings.compare == "views":
            return stack(dictionary.views(ear_weighting=settings.ear_weighting), self.gains)
        # Compared on the job's own grid, though the grains may be added up in longer windows.
        here = frames_of(dictionary.recordings[0], dictionary.centres, self.job.dictionary.params, dictionary.sr)
        return compared(replace(self.job, dictionary=here, settings=replace(settings, quietest_db=0.0)))[1]
