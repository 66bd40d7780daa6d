"""The two sides that a solver compares: the target, and the source as the settings hear it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, Integers
from smalti.dsp.bands import a_weights, band_edges, pool
from smalti.grains.corpus import Corpus
from smalti.grains.descriptors import StretchedBands, keys_of, stack, stacked, view_gains, views
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


T = TypeVar("T")
# A missing part of the target counts at most so many times its own level.
MOST_MISSING = 8.0
# Entries that come to less than this share of their frame's largest are dropped.
LEAST_SHARE = 1e-4


@dataclass(frozen=True, eq=False)
class Entries:
    """Lists of what may sound, and what is known of each entry.

    Attributes
    ----------
    lists : E entries; see `smalti.nmf._kernels`.
    rows, scales : (E,) their rows of the corpus's looks, and what these are to be multiplied by.
    sums, norms : (E,) float32 of the looks, weighed by the gains of the bands, before they are scaled.
    weights : (E,) float32, how much their recordings count, and they themselves by a sketch.
    """

    lists: Lists
    rows: Integers
    scales: Floats
    sums: Floats
    norms: Floats
    weights: Floats

    def loudness(self, rank: str) -> Floats:
        """(E,) what activations are ranked by: as `smalti.nmf.let_it_bee.LetItBee` says, times the weights."""
        norms: Floats = self.scales * self.norms
        return self.weights * {"h": np.ones_like(norms), "contribution": norms, "energy": norms**2}[rank]

    def with_values(self, values: Floats) -> "Entries":
        return replace(self, lists=self.lists._replace(values=values))

    def only(self, kept: NDArray[np.bool_]) -> "Entries":
        """Those of (E,) bools."""
        indptr, atoms, values = self.lists
        lists = Lists(indptr_of(kept, indptr), atoms[kept], values[kept])
        return Entries(lists, self.rows[kept], self.scales[kept], self.sums[kept], self.norms[kept], self.weights[kept])

    @property
    def frames(self) -> Integers:
        """(E,) the target frame of each entry."""
        return entry_frames(self.lists.indptr)

    @property
    def contributions(self) -> Floats:
        """(E,) how much each entry counts: its activation times the norm of its atom, and its weight."""
        return self.lists.values * self.loudness("contribution")


@dataclass(frozen=True, eq=False)
class Comparison:
    """A target and a corpus as they are compared, and the fit of lists to the one.

    Attributes
    ----------
    corpus : the source.
    seen : the target's views. V : (N, B) float32, the same side by side, at their gains.
    gains : (B,) float32, of the bands.
    weights : (R,) float32, how much each recording counts.
    sketch : what may sound when, and how much it counts; None for everything alike.
    """

    corpus: Corpus
    seen: list[Floats]
    V: Floats
    gains: Floats
    weights: Floats
    sketch: Sketch | None = None

    @classmethod
    def of(cls, job: Job, corpus: Corpus) -> "Comparison":
        hop, sr = corpus.params.hop, corpus.sr
        seen = views(job.target, np.arange(job.spectrum.shape[1]) * hop, hop, sr)
        weights = view_gains(seen)
        gains = np.repeat(weights, [len(view) for view in seen]).astype(np.float32)
        V = np.ascontiguousarray(stack(seen, weights).T, np.float32)
        even = np.ones(len(corpus.recordings)) if job.weights is None else job.weights
        return cls(corpus, seen, V, gains, np.asarray(even, np.float32), job.sketch)

    @cached_property
    def atoms(self) -> HalfAtoms:
        """The corpus's looks, for the kernels. The floor of a model is added before the gains."""
        floor = noise_floor(self.V) / max(float(self.gains.max()), float(np.finfo(np.float32).tiny))
        return HalfAtoms(self.corpus.features.view(np.uint16), self.gains, floor)

    @cached_property
    def segments(self) -> Integers:
        return self.corpus.recording_ids.astype(np.int32)

    def segments_at(self, atoms: Integers) -> Integers:
        """The recording of each atom, whatever for those that are -1."""
        return self.corpus.recording_ids[np.maximum(atoms, 0)]

    def weights_at(self, atoms: Integers, frames: Integers) -> Floats:
        """The weights of places, by their atoms and frames, of one shape; atoms that are -1 have a meaningless
        weight."""
        weights: Floats = self.weights[self.segments_at(atoms)]
        return weights if self.sketch is None else weights * self.sketch.at(atoms, frames)

    def queries(self, of: Floats) -> Floats:
        """(N, D) keys of magnitudes (N, B) as `V` has them."""
        looks = np.divide(of, self.gains, out=np.zeros_like(of), where=self.gains > 0)
        keys: Floats = keys_of(looks, [len(view) for view in self.seen]).astype(np.float32)
        return keys

    def entries(self, indptr: Integers, atoms: Integers, values: Floats) -> Entries:
        """The entries of lists, with all that is known of each."""
        rows = self.corpus.rows[atoms]
        sums, norms = self.atoms.statistics(rows)
        weights = self.weights_at(atoms, entry_frames(indptr))
        return Entries(Lists(indptr, atoms, values), rows, self.corpus.scales[atoms], sums, norms, weights)

    def update(self, entries: Entries, least: float = LEAST_SHARE) -> Floats:
        """(E,) what one multiplicative update makes of the activations."""
        return self.atoms.update(self.V, entries.lists, entries.rows, entries.scales, entries.sums, least=least)

    def gains_fit(self, entries: Entries) -> GainFit:
        """The fit that refines the gains of the few entries that were chosen."""
        indptr, atoms, _ = entries.lists
        _, first, places = np.unique(atoms, return_index=True, return_inverse=True)
        columns = self.corpus.features[entries.rows[first]].astype(np.float32)
        columns *= entries.scales[first, None] * self.gains
        return GainFit.over(self.V, columns, indptr.astype(np.int64), atoms.astype(np.intp), places)

    def over_models(self, entries: Entries, work: Callable[[slice, Floats], T]) -> list[T]:
        """What `work` makes of each block of frames and its models, (n, B)."""
        return self.atoms.over_models(self.V, entries.lists, entries.rows, entries.scales, work)

    def divergence(self, entries: Entries) -> float:
        return sum(self.over_models(entries, lambda n, Y: beta_divergence(self.V[n], Y)))

    def missing(self, entries: Entries) -> Floats:
        """(N, B): the target, weighed by how many times it is what the model has of it."""
        out = np.empty_like(self.V)

        def work(n: slice, Y: Floats) -> None:
            ratio = np.divide(self.V[n], Y, out=np.zeros_like(Y), where=Y > 0)
            out[n] = self.V[n] * np.minimum(ratio, MOST_MISSING)

        self.over_models(entries, work)
        return out


@dataclass(frozen=True, eq=False)
class ShiftedComparison:
    """The comparison of a target with a source that is brought to other pitches.

    Attributes
    ----------
    V : (B, N) of the target, as `smalti.mosaicing.compare.compared` has it.
    job : whose source is compared. source_f0 : (K,) Hz, 0 for none.
    gains : of the views, if these are compared.
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
        at = np.arange(job.spectrum.shape[1]) * dictionary.params.hop
        seen = views(job.target, at, dictionary.params.hop, dictionary.sr, ear_weighting=settings.ear_weighting)
        gains = view_gains(seen)
        return cls(stack(seen, gains), job, source_f0, gains)

    def at(self, ratios: Floats) -> Floats:
        """(Q, B, K) of the source frames at ratios (Q, K); silent where one is 0, and where a frame may not sound."""
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
        return np.stack([bands.at(of).T.astype(self.V.dtype) for of in ratios]).swapaxes(1, 2)

    def of_grains(self, dictionary: Dictionary) -> Floats:
        """(B, K') of the frames of shifted grains, as they are; see `Grains`."""
        settings = self.job.settings
        if settings.compare == "views":
            return stack(dictionary.views(ear_weighting=settings.ear_weighting), self.gains)
        # On the job's own grid, whatever windows they are added up in.
        here = frames_of(dictionary.recordings[0], dictionary.centres, self.job.dictionary.params, dictionary.sr)
        return compared(replace(self.job, dictionary=here, settings=replace(settings, quietest_db=0.0)))[1]
