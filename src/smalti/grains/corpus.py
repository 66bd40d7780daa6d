"""Corpora: many recordings, analysed frame by frame, so that hours of source can be searched without their spectra.

A corpus holds three things for every frame: its features, which frames are compared by, in half precision; its level;
and its descriptor, a short form of the features to search by. Arrays may lie in memory or be mapped from a disk, and
recordings may be read when they are needed. A corpus therefore takes little memory, however long its recordings are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.dsp.channels import n_channels, to_mono
from smalti.dsp.stft import StftParams, frame_powers
from smalti.grains.descriptors import MIDDLE_WINDOW_S, Halves, descriptors_of, views
from smalti.grains.dictionary import Dictionary, build_dictionary, cancelled_frames
from smalti.grains.source import Source, sources_of
from smalti.settings import HOP_S


@dataclass(frozen=True, eq=False)
class Analysis:
    """The analysis of a recording; frame n is centred on sample n * hop.

    Attributes
    ----------
    features : (N, B) float16, 0 to 1, the views of each frame side by side; see `smalti.grains.descriptors.views`.
    scales : (N,) float32, the factor that turns the features of each frame into magnitudes; 0 if it is silent.
    norms : (N,) float32, the level of each frame: the Euclidean norm of its spectrum in a window of 93 ms.
    descriptors : (N, D) float16, what frames are searched by; see `smalti.grains.descriptors.descriptors_of`.
    """

    features: Halves
    scales: NDArray[np.float32]
    norms: NDArray[np.float32]
    descriptors: Halves


def hop_at(sr: int) -> int:
    """The hop of a corpus at `sr` Hz, in samples: that of the presets that can search it."""
    return StftParams.from_seconds(4 * HOP_S, HOP_S, sr).hop


def analyse(samples: Floats, sr: int) -> Analysis:
    """Analyse a recording.

    Parameters
    ----------
    samples : (L,) or (C, L) float32, cleaned as by `smalti.grains.sound.cleaned`. The mono mix is analysed; frames
        whose channels cancel are silent.
    sr : sample rate in Hz. The hop is ``hop_at(sr)``.
    """
    params, mono = StftParams.from_seconds(MIDDLE_WINDOW_S, HOP_S, sr), to_mono(samples)
    centres = np.arange(params.n_frames(len(mono))) * params.hop
    # By Parseval's theorem this is the norm over the bins from 0 to half the sample rate, except for the two end bins.
    powers = frame_powers(mono, params)
    norms = np.sqrt(powers * (params.n_fft / 2)).astype(np.float32)
    norms[cancelled_frames(samples, params, kept=powers)] = 0
    seen = [view.T for view in views(mono, centres, params.hop, sr)]
    features = np.concatenate(seen, axis=1)
    features[norms == 0] = 0
    scales = features.max(axis=1)
    norms[scales == 0] = 0
    np.divide(features, scales[:, None], out=features, where=scales[:, None] > 0)
    return Analysis(
        features=features.astype(np.float16),
        scales=scales.astype(np.float32),
        norms=norms,
        descriptors=descriptors_of(features, [view.shape[1] for view in seen]),
    )


@dataclass(frozen=True, eq=False)
class Corpus(Dictionary):
    """A dictionary that can be searched, and need not be in memory.

    It can do all that a `Dictionary` can; its spectra are computed only when they are needed.

    Attributes
    ----------
    recordings : a sequence whose items, (L,) or (C, L) float32, may be read anew on each access.
    features : (R, B) float16 array or memory map, R >= K; see `Analysis`.
    rows : (K,) int array, the row of each atom in `features`.
    scales, levels : (K,) float32, the `Analysis.scales` and `Analysis.norms`.
    descriptors : (K, D) float16; see `Analysis`.
    files : (len(recordings),) int array. Recordings with equal numbers are parts of one file; its loudest part tells
        how loud it is.
    channels : required here, because counting the channels would read the recordings.
    read_index : a function that reads the search index of the descriptors, see `smalti.grains.nearest`. It returns None
        if all descriptors are to be compared. It is called for every access to `index`, so it must remember what it has
        read. None: there is no index.
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
        """The search index, read when it is first needed; None if all descriptors are to be compared."""
        return None if self.read_index is None else self.read_index()

    @property
    def norms(self) -> Floats:
        """(K,): the level of each atom, measured in a window of 93 ms whatever the grid is."""
        return self.levels

    @property
    def file_ids(self) -> NDArray[np.intp]:
        """As for `Dictionary`; long files of a corpus are stored in parts."""
        return self.files

    def sounding(self, quietest_db: float) -> NDArray[np.bool_]:
        """As for `Dictionary`; a file in several parts is one recording."""
        file_ids = self.files[self.recording_ids]
        loudest = np.zeros(int(self.files.max()) + 1, self.levels.dtype)
        np.maximum.at(loudest, file_ids, self.levels)
        least = np.maximum(loudest * 10 ** (-quietest_db / 20), self.levels.max() * 10 ** (-2 * quietest_db / 20))
        heard: NDArray[np.bool_] = (self.levels > 0) & (self.levels >= least[file_ids])
        return heard

    def _recordings_at(self, places: NDArray[np.intp]) -> Sequence[Floats]:
        return WhenAsked(len(places), lambda i: self.recordings[places[i]])

    def on_grid(self, params: StftParams, *, searched: bool) -> Dictionary:
        """The corpus on a grid of the same hop; or, if it is not to be searched, the dictionary of its recordings."""
        if searched:
            return replace(self, params=params)
        recordings, sources = self.whole_recordings()
        return build_dictionary(recordings, self.sr, params=params, names=sources)

    def whole_recordings(self) -> tuple[list[Floats], list[Source]]:
        """Every file in one piece, and its source. Parts are joined without the margins beyond their borders."""
        files = np.unique(self.files).tolist()
        firsts = [self.sources[int(np.argmax(self.files == file_id))] for file_id in files]
        sources = [replace(first, begin=0, whole=bool(first.corpus)) for first in firsts]
        return [self.whole_recording(file_id) for file_id in files], sources

    def whole_recording(self, file_id: int) -> Floats:
        """The file with this number in `files`, in one piece: (L,) or (C, L)."""
        parts, pieces = np.flatnonzero(self.files == file_id).tolist(), []
        for part in parts:
            atoms = slice(*np.searchsorted(self.recording_ids, [part, part + 1]))
            first, n_samples = int(self.centres[atoms.start]), (atoms.stop - atoms.start) * self.params.hop
            # The last part goes on to the end of the file.
            pieces.append(self.recordings[part][..., first : None if part == parts[-1] else first + n_samples])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-1)

    def to_mono(self) -> "Corpus":
        """The same atoms with one channel: recordings are mixed to mono."""
        return replace(
            self, recordings=WhenAsked(len(self.recordings), lambda i: to_mono(self.recordings[i])), channels=1
        )


@dataclass(frozen=True, eq=False)
class WhenAsked(Sequence[Floats]):
    """A sequence of `n` recordings; each access calls `read` with the number of the recording."""

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


def corpus_of(
    recordings: Sequence[Floats], sr: int, *, params: StftParams, names: Sequence[str | Source] | None = None
) -> Corpus:
    """Analyse recordings into a corpus in memory.

    Parameters
    ----------
    recordings : (L,) or (C, L) float32 arrays, cleaned as for `analyse`; copied.
    sr : sample rate in Hz. params : the grid; its hop must be ``hop_at(sr)``.
    names : as for `smalti.grains.dictionary.build_dictionary`.
    """
    sources = sources_of(names, len(recordings))
    parts = [analyse(recording, sr) for recording in recordings]
    counts = [len(part.norms) for part in parts]
    return Corpus(
        recording_ids=np.repeat(np.arange(len(counts)), counts),
        centres=np.concatenate([np.arange(count) * params.hop for count in counts]),
        # Frames whose channels cancel are silent in the features already, so a norm of 0 marks them.
        cancelled=np.concatenate([part.norms == 0 for part in parts]),
        sources=sources,
        params=params,
        sr=sr,
        # Copies, because they are read again later, when the caller's arrays may have changed.
        recordings=tuple(recording.copy() for recording in recordings),
        features=np.concatenate([part.features for part in parts]),
        rows=np.arange(sum(counts)),
        scales=np.concatenate([part.scales for part in parts]),
        levels=np.concatenate([part.norms for part in parts]),
        descriptors=np.concatenate([part.descriptors for part in parts]),
        files=np.arange(len(counts)),
        channels=max(map(n_channels, recordings)),
    )
