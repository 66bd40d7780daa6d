"""Many recordings, analysed frame by frame: all it takes to find sounds in hours of source without holding its spectra.

Of every frame a corpus has its looks, what it is compared by, in half precision; its level; and its key, a short
form of the looks to search by. Arrays may lie in memory or be mapped from a disk, and recordings be read when they are
asked for, so that it takes little memory however long they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.dsp.channels import n_channels, to_mono
from smalti.dsp.conditioning import fade_edges, remove_dc
from smalti.dsp.stft import StftParams, frame_powers
from smalti.grains.descriptors import MIDDLE_WINDOW_S, Halves, keys_of, views
from smalti.grains.dictionary import Dictionary, cancelled_frames
from smalti.grains.source import Source, as_sources

# Edges of a recording fade over so long; what the presets that whole grains are chosen with do.
EDGE_FADE_S = 0.003
# Frames from one to the next, in seconds: the grid of these presets.
HOP_S = 512 / 22050


@dataclass(frozen=True, eq=False)
class Analysis:
    """The analysis of a recording, frame n being centred on sample n * hop.

    Attributes
    ----------
    features : (N, B) float16 array, the views of each frame one after the other (see
    `smalti.grains.descriptors.views`), at most 1.
    scales : (N,) float32, what the looks of each frame are to be multiplied by; 0 where it is silent.
    norms : (N,) float32, its level: the Euclidean norm of its spectrum in a window of 93 ms.
    descriptors : (N, D) float16, what it is found by; see `keys_of`.
    """

    features: Halves
    scales: NDArray[np.float32]
    norms: NDArray[np.float32]
    descriptors: Halves


def cleaned(samples: Floats, sr: int) -> Floats:
    """(L,) or (C, L) `samples` as they are to sound: without an offset, and with edges that do not click."""
    return fade_edges(remove_dc(samples, sr), round(EDGE_FADE_S * sr))


def hop_at(sr: int) -> int:
    """Samples from one frame of a corpus to the next: those of the presets that can search in it."""
    return StftParams.from_seconds(4 * HOP_S, HOP_S, sr).hop


def analyse(samples: Floats, sr: int) -> Analysis:
    """Analyse a recording.

    Parameters
    ----------
    samples : (L,) or (C, L) float32, cleaned. The mono mix is analysed; frames whose channels cancel are silent.
    sr : sample rate in Hz. The hop is `hop_at` it.
    """
    params, mono = StftParams.from_seconds(MIDDLE_WINDOW_S, HOP_S, sr), to_mono(samples)
    centres = np.arange(params.n_frames(len(mono))) * params.hop
    # By Parseval, what the norm over the bins up to half the sample rate is, but for the two at its ends.
    powers = frame_powers(mono, params)
    norms = np.sqrt(powers * (params.n_fft / 2)).astype(np.float32)
    norms[cancelled_frames(samples, params, kept=powers)] = 0
    seen = [view.T for view in views(mono, centres, params.hop, sr)]
    looks = np.concatenate(seen, axis=1)
    looks[norms == 0] = 0
    scales = looks.max(axis=1)
    norms[scales == 0] = 0
    np.divide(looks, scales[:, None], out=looks, where=scales[:, None] > 0)
    return Analysis(
        looks.astype(np.float16), scales.astype(np.float32), norms, keys_of(looks, [view.shape[1] for view in seen])
    )


@dataclass(frozen=True, eq=False)
class Corpus(Dictionary):
    """A dictionary that can be searched, and need not be held.

    Whatever a `Dictionary` can do it can do too, its spectra being computed only if they are asked for.

    Attributes
    ----------
    recordings : a sequence whose items, (L,) or (C, L) float32, may be read each time they are asked for.
    features : (R, B) float16 array or memory map, R >= K; see `Analysis`. rows : (K,) int array, the atom's place in
    it.
    scales, levels : (K,) float32, the `Analysis.scales` and `Analysis.norms`. keys : (K, D) float16.
    files : (len(recordings),) int array. Recordings with equal numbers are parts of one file, and are as loud as that.
    channels : to be given, as recordings are not read before they are asked for.
    read_index : reads the search index of the descriptors, see `smalti.grains.nearest`, or returns None if all are to
        be compared. It is called whenever the index is wanted, so it remembers what it has read. None: no index.
    """

    features: Halves
    rows: NDArray[np.intp]
    scales: NDArray[np.float32]
    levels: NDArray[np.float32]
    descriptors: Halves
    files: NDArray[np.intp]
    read_index: Callable[[], Any] | None = None

    @property
    def index(self) -> Any:
        """The search index, read from the disk the first time it is wanted; None if all descriptors are compared."""
        return None if self.read_index is None else self.read_index()

    @property
    def norms(self) -> Floats:
        """(K,): the level of each atom, in a window of its own."""
        return self.levels

    @property
    def file_ids(self) -> NDArray[np.intp]:
        """As for `Dictionary`; long files of a corpus lie in it in parts."""
        return self.files

    def sounding(self, quietest_db: float) -> NDArray[np.bool_]:
        """As for `Dictionary`; a file in several parts is one recording."""
        of = self.files[self.recording_ids]
        loudest = np.zeros(int(self.files.max()) + 1, self.levels.dtype)
        np.maximum.at(loudest, of, self.levels)
        least = np.maximum(loudest * 10 ** (-quietest_db / 20), self.levels.max() * 10 ** (-2 * quietest_db / 20))
        heard: NDArray[np.bool_] = (self.levels > 0) & (self.levels >= least[of])
        return heard

    def _recordings_at(self, places: NDArray[np.intp]) -> Sequence[Floats]:
        return WhenAsked(len(places), lambda i: self.recordings[places[i]])

    def whole_recordings(self) -> tuple[list[Floats], list[Source]]:
        """Every file in one piece, and its source: of parts, what they hold beyond their borders is left out."""
        files = np.unique(self.files).tolist()
        firsts = [self.sources[int(np.argmax(self.files == of))] for of in files]
        sources = [replace(first, begin=0, whole=bool(first.corpus)) for first in firsts]
        return [self.whole_recording(of) for of in files], sources

    def whole_recording(self, of: int) -> Floats:
        """The file of that number in one piece."""
        parts, pieces = np.flatnonzero(self.files == of).tolist(), []
        for part in parts:
            atoms = slice(*np.searchsorted(self.recording_ids, [part, part + 1]))
            first, n_samples = int(self.centres[atoms.start]), (atoms.stop - atoms.start) * self.params.hop
            # The last goes on to the end of the file.
            pieces.append(self.recordings[part][..., first : None if part == parts[-1] else first + n_samples])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-1)

    def to_mono(self) -> "Corpus":
        """The same atoms, sounding in one channel: the mono mixes."""
        return replace(
            self, recordings=WhenAsked(len(self.recordings), lambda i: to_mono(self.recordings[i])), channels=1
        )


@dataclass(frozen=True, eq=False)
class WhenAsked(Sequence[Floats]):
    """So many recordings, each what `read` makes of its number whenever it is asked for."""

    n: int
    read: Callable[[int], Floats]

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, which: int) -> Floats: ...

    @overload
    def __getitem__(self, which: slice) -> tuple[Floats, ...]: ...

    def __getitem__(self, which: int | slice) -> Floats | tuple[Floats, ...]:
        # Indexing a range checks the numbers, and counts negative ones from the end.
        numbers = range(self.n)[which]
        return self.read(numbers) if isinstance(numbers, int) else tuple(map(self.read, numbers))


def corpus_of(recordings: Sequence[Floats], sr: int, *, params: StftParams, names: Sequence[str | Source]) -> Corpus:
    """A corpus in memory.

    Parameters
    ----------
    recordings : (L,) or (C, L) float32 arrays, cleaned; not copied. names : one each, or a `Source`.
    sr : sample rate in Hz. params : the grid, whose hop is `hop_at` it.
    """
    parts = [analyse(recording, sr) for recording in recordings]
    counts = [len(part.norms) for part in parts]
    return Corpus(
        recording_ids=np.repeat(np.arange(len(counts)), counts),
        centres=np.concatenate([np.arange(count) * params.hop for count in counts]),
        # Frames whose channels cancel are silent in the features already.
        cancelled=np.concatenate([part.norms == 0 for part in parts]),
        sources=as_sources(names),
        params=params,
        sr=sr,
        recordings=tuple(recordings),
        features=np.concatenate([part.features for part in parts]),
        rows=np.arange(sum(counts)),
        scales=np.concatenate([part.scales for part in parts]),
        levels=np.concatenate([part.norms for part in parts]),
        descriptors=np.concatenate([part.descriptors for part in parts]),
        files=np.arange(len(counts)),
        channels=max(map(n_channels, recordings)),
    )
