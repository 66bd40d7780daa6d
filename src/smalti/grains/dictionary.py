"""The dictionary: every frame of the source recordings, and where each came from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_rate, check_sound
from smalti.dsp.channels import CANCELLED, covariances, n_channels, remixed, to_mono, toward_coherence
from smalti.dsp.stft import Complexes, StftParams, frame_powers, spectra_at, stft
from smalti.grains.descriptors import n_bands, shifted_views, views
from smalti.grains.source import Source, as_sources
from smalti.nmf.let_it_bee import segment_slices

# Frames by which the image of a long recording is told.
_MOST_SPREAD = 1024


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Atoms with provenance: one column a source frame, in time order, recording after recording.

    Attributes
    ----------
    recording_ids : (K,) int array, the recording each atom comes from: an index into `sources`.
    centres : (K,) int array, the sample of that recording on which the atom is centred.
    cancelled : (K,) bools, atoms whose channels cancel in the mono mix. They are silent in `spectra`: no gain measured
        by next to nothing may be put on what the channels hold.
    sources : where each recording comes from.
    params, sr : the grid, and the sample rate in Hz.
    recordings : one array a recording, (L,) or (C, L): what sounds. Transformed when that is asked for.
    in_part : whether the atoms are only some of the frames of their recordings, whose image they do not tell.
    channels : in how many it sounds; None for those of the widest recording.
    """

    recording_ids: NDArray[np.intp]
    centres: NDArray[np.intp]
    cancelled: NDArray[np.bool_]
    sources: tuple[Source, ...]
    params: StftParams
    sr: int
    recordings: Sequence[Floats]
    in_part: bool = field(default=False, kw_only=True)
    channels: int | None = field(default=None, kw_only=True)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each recording."""
        return tuple(source.name for source in self.sources)

    @cached_property
    def spectra(self) -> Complexes:
        """(F, K) complex: the transforms of the frames of the recordings' mono mixes, as loud as they are recorded.

        What a target is compared with.
        """
        parts = [
            _transforms(to_mono(recording), self.centres[rows], self.params) for recording, rows in self._by_recording()
        ]
        # Joined with frames as rows, as they lie in memory, so that an atom stays contiguous.
        spectra = np.concatenate([part.T for part in parts]).T if len(parts) > 1 else parts[0]
        spectra[:, self.cancelled] = 0
        return spectra

    def _by_recording(self) -> Iterator[tuple[Floats, slice]]:
        """Every recording that has atoms, and which these are; of a dictionary of none, the first."""
        if not self.n_atoms:
            yield self.recordings[0], slice(0, 0)
        for rows in segment_slices(self.n_atoms, self.recording_ids) if self.n_atoms else ():
            yield self.recordings[self.recording_ids[rows.start]], rows

    @cached_property
    def magnitudes(self) -> Floats:
        """(F, K): the W of the papers."""
        magnitudes: Floats = np.abs(self.spectra)
        return magnitudes

    @cached_property
    def norms(self) -> Floats:
        """(K,): the Euclidean length of each atom's magnitudes."""
        norms: Floats = np.linalg.norm(self.magnitudes, axis=0)
        return norms

    @property
    def n_atoms(self) -> int:
        """K, the frames of all recordings."""
        return len(self.recording_ids)

    @cached_property
    def n_channels(self) -> int:
        """C, in how many it sounds."""
        return max(map(n_channels, self.recordings)) if self.channels is None else self.channels

    @property
    def file_ids(self) -> NDArray[np.intp]:
        """(len(recordings),) ints: the file that each recording is, or is a part of."""
        return np.arange(len(self.recordings))

    def channel_frames(self, mixing: Sequence[Complexes | None] | None = None) -> list[Complexes]:
        """The frames as they sound in each of the `n_channels` channels.

        A recording of one channel sounds in all of them; one of fewer than `n_channels` fills the first.

        Parameters
        ----------
        mixing : from `toward_images`: the channels of every recording are mixed first.

        Returns
        -------
        C complex arrays (F, K).
        """
        if self.n_channels == 1 or not self.n_atoms:
            return [self.spectra] * self.n_channels
        parts = []
        for of, recording in enumerate(self.recordings):
            centres = self.centres[self.recording_ids == of]
            heard = [
                spectra_at(heard_in(recording, channel), centres, self.params.n_fft, window=self.params.window)
                for channel in range(self.n_channels)
            ]
            matrices = None if mixing is None else mixing[of]
            parts.append(heard if matrices is None else [remixed(heard, row) for row in matrices.swapaxes(0, 1)])
        return [np.concatenate([part.T for part in channel]).T for channel in zip(*parts, strict=True)]

    def toward_images(self, used: Floats) -> list[Complexes | None]:
        """For each recording the matrices (F, C, C) that give the frames used the coherence of the whole recording.

        A solver takes the frames whose mix fits, and these need not be those that make a recording narrow or wide: of
        its noise between sounds it may use much. None where there is nothing to mix; see
        `smalti.dsp.channels.toward_coherence`.

        Parameters
        ----------
        used : (K,) float array, >= 0: how much each frame counts, its squared gains.
        """
        out: list[Complexes | None] = []
        for recording, rows in zip(self.recordings, segment_slices(self.n_atoms, self.recording_ids), strict=True):
            weights = used[rows]
            if n_channels(recording) == 1 or not weights.any():
                out.append(None)
                continue
            frames = self._heard(recording, self.centres[rows])
            roots = np.sqrt(weights / weights.max()).astype(recording.dtype)
            whole = covariances(self._heard(recording, self._spread(recording)) if self.in_part else frames)
            for frame in frames:
                # Multiplied in place, since these are the largest arrays there are for long recordings.
                frame *= roots
            got = covariances(frames)
            out.append(toward_coherence(got, whole).astype(frames[0].dtype))
        return out

    def _spread(self, recording: Floats) -> NDArray[np.intp]:
        """Samples of frames all over a recording, as many as tell what lies between its channels."""
        hops = np.arange(self.params.n_frames(recording.shape[-1]))
        return hops[:: -(-len(hops) // _MOST_SPREAD)] * self.params.hop

    def _heard(self, recording: Floats, centres: NDArray[np.intp]) -> list[Complexes]:
        """The frames of one recording in every channel, centred on samples `centres` of it."""
        return [_transforms(heard_in(recording, channel), centres, self.params) for channel in range(self.n_channels)]

    def views(self, *, ear_weighting: bool = False) -> list[Floats]:
        """The atoms as three windows see them: three (B, K) arrays of the recordings' dtype; see
        `smalti.grains.descriptors.views`.

        Beyond the ends of its recording an atom is silent, whatever other recordings hold there. So are, in every
        window, atoms that are silent themselves, lest they stand for a sound that they do not have.
        """
        of_each = [
            views(to_mono(recording), self.centres[rows], self.params.hop, self.sr, ear_weighting=ear_weighting)
            for recording, rows in zip(self.recordings, segment_slices(self.n_atoms, self.recording_ids), strict=True)
        ]
        # Joined with frames as rows, as they lie in memory.
        joined = [np.concatenate([view.T for view in view_of_each]).T for view_of_each in zip(*of_each, strict=True)]
        for view in joined:
            view[:, self.norms == 0] = 0
        return joined

    def shifted_views(
        self,
        ratios: Floats,
        f0: Floats,
        gains: Sequence[float],
        *,
        keep_formants: bool,
        ear_weighting: bool = False,
    ) -> Floats:
        """Stacked `views` of the atoms at other pitches, (Q, B, K); see `smalti.grains.descriptors.shifted_views`.

        Parameters
        ----------
        ratios : (Q, K) float array, >= 0. f0 : (K,) Hz, 0 for none. gains : of the views.
        """
        hop, sr = self.params.hop, self.sr
        out = np.zeros((len(ratios), self.n_atoms, n_bands(hop, sr)), self.norms.dtype)
        for recording, rows in zip(self.recordings, segment_slices(self.n_atoms, self.recording_ids), strict=True):
            shifted_views(
                to_mono(recording),
                self.centres[rows],
                hop,
                sr,
                np.where(self.norms[rows] > 0, ratios[:, rows], 0),
                f0[rows],
                gains,
                keep_formants=keep_formants,
                ear_weighting=ear_weighting,
                out=out[:, rows],
            )
        return out.swapaxes(1, 2)

    def sounding(self, quietest_db: float) -> NDArray[np.bool_]:
        """(K,) bools: whether each atom is at most `quietest_db` under the loudest of its recording.

        And at most twice as far under the loudest of all: a recording of nothing but its own noise has no sound. A
        silent atom never sounds.

        Parameters
        ----------
        quietest_db : >= 0, of the norms of the atoms.
        """
        loudest = np.array([self.norms[rows].max() for rows in segment_slices(self.n_atoms, self.recording_ids)])
        least = np.maximum(loudest * 10 ** (-quietest_db / 20), self.norms.max() * 10 ** (-2 * quietest_db / 20))
        heard: NDArray[np.bool_] = (self.norms > 0) & (self.norms >= least[self.recording_ids])
        return heard

    def only(self, atoms: NDArray[np.intp]) -> "Dictionary":
        """The dictionary of some atoms alone, (U,) int array, ascending and not empty, and of their recordings.

        It has as many channels, however narrow those recordings are.
        """
        kept, segments = np.unique(self.recording_ids[atoms], return_inverse=True)
        return Dictionary(
            recording_ids=segments,
            centres=self.centres[atoms],
            cancelled=self.cancelled[atoms],
            sources=tuple(self.sources[i] for i in kept),
            params=self.params,
            sr=self.sr,
            recordings=self._recordings_at(kept),
            in_part=True,
            channels=self.n_channels,
        )

    def _recordings_at(self, places: NDArray[np.intp]) -> Sequence[Floats]:
        return tuple(self.recordings[i] for i in places)

    def to_mono(self) -> "Dictionary":
        """The same atoms, sounding in one channel: the mono mixes."""
        if self.n_channels == 1:
            return self
        return replace(self, recordings=tuple(map(to_mono, self.recordings)), channels=1)

    def one_channel(self, channel: int, of: int) -> "Dictionary":
        """The dictionary of a single channel: of recordings with `of` channels the one asked for, else the mono mix."""
        if self.n_channels == 1:
            return self
        alone = np.array([n_channels(recording) == of > 1 for recording in self.recordings])
        chosen = [
            recording[channel] if own else to_mono(recording)
            for recording, own in zip(self.recordings, alone, strict=True)
        ]
        # A channel by itself cancels with nothing.
        cancelled = self.cancelled & ~alone[self.recording_ids]
        return replace(self, recordings=tuple(chosen), cancelled=cancelled, channels=1)

    @property
    def hop_s(self) -> float:
        """Seconds from one atom to the next."""
        return self.params.hop / self.sr

    @cached_property
    def stretches(self) -> NDArray[np.intp]:
        """(K,) which run of atoms, each a hop after the one before it in its recording, each belongs to."""
        goes_on = (np.diff(self.recording_ids) == 0) & (np.diff(self.centres) == self.params.hop)
        return np.concatenate([np.zeros(1, np.intp), np.cumsum(~goes_on)])[: self.n_atoms]

    @property
    def borders(self) -> tuple[int, ...]:
        """The first atom of every recording but the first."""
        return tuple(rows.start for rows in segment_slices(self.n_atoms, self.recording_ids)[1:])


def build_dictionary(
    sources: ArrayLike | Sequence[ArrayLike],
    sr: int,
    *,
    params: StftParams | None = None,
    names: Sequence[str | Source] | None = None,
) -> Dictionary:
    """Every frame of `sources` as an atom.

    Parameters
    ----------
    sources : one recording, (L,) or (C, L) float32 or float64, or a sequence of them; any length >= 1 (one shorter
        than a window is padded with silence) and any number of channels.
    sr : sample rate of all, in Hz.
    params : the grid; by default `StftParams()`, which suits 22 050 Hz.
    names : one a recording, or a `Source` that says where it comes from; by default "source 1", "source 2", ...

    Returns
    -------
    Dictionary : K = the sum of ``params.n_frames(L)`` over the recordings.

    Raises
    ------
    ValueError, TypeError : for no recordings, empty, integer or non-finite ones, or another number of names.
    """
    given = as_recordings(sources)
    sr = check_rate("sr", sr)
    params = params or StftParams()
    names = tuple(names) if names is not None else tuple(f"source {i + 1}" for i in range(len(given)))
    if len(names) != len(given):
        raise ValueError(f"names has {len(names)} entries for {len(given)} recordings; pass one for each")
    dtype = np.result_type(*given)
    # Copies, since channels are transformed later, when the caller's arrays may hold something else.
    recordings = tuple(recording.astype(dtype) for recording in given)
    counts = [params.n_frames(recording.shape[-1]) for recording in recordings]
    return Dictionary(
        recording_ids=np.repeat(np.arange(len(counts)), counts),
        centres=np.concatenate([np.arange(count) * params.hop for count in counts]),
        cancelled=np.concatenate([cancelled_frames(recording, params) for recording in recordings]),
        sources=as_sources(names),
        params=params,
        sr=sr,
        recordings=recordings,
    )


def cancelled_frames(recording: Floats, params: StftParams, *, kept: Floats | None = None) -> NDArray[np.bool_]:
    """(N,) bools: which frames of (L,) or (C, L) keep too little of their channels' mean power when mixed down.

    `kept` are the `frame_powers` of the mono mix, if they are known.
    """
    if recording.ndim == 1:
        return np.zeros(params.n_frames(len(recording)), bool)
    power = sum(frame_powers(channel, params) for channel in recording) / len(recording)
    kept = frame_powers(to_mono(recording), params) if kept is None else kept
    lost: NDArray[np.bool_] = kept < CANCELLED * power
    return lost


# Frames off the grid transformed at once: each needs a window of samples.
_BLOCK = 1024


def _transforms(samples: Floats, centres: NDArray[np.intp], params: StftParams) -> Complexes:
    """The frames (F, N) of (L,) centred on given samples."""
    # Those of shifted grains lie anywhere; on the grid, a whole window need not be copied for each.
    if np.array_equal(centres, np.arange(params.n_frames(len(samples))) * params.hop):
        return stft(samples, params)
    blocks = np.array_split(centres, -(-len(centres) // _BLOCK) or 1)
    return np.concatenate([spectra_at(samples, of, params.n_fft, window=params.window).T for of in blocks]).T


def heard_in(recording: Floats, channel: int) -> Floats:
    """One channel, (L,), of a sound (L,) or (C, L): a mono sound is heard in every channel."""
    if recording.ndim == 1:
        return recording
    return recording[channel] if channel < len(recording) else np.zeros_like(recording[0])


def as_recordings(sources: ArrayLike | Sequence[ArrayLike]) -> list[Floats]:
    """`sources` as a list of checked recordings, (L,) or (C, L), whether one was given or several."""
    if isinstance(sources, np.ndarray):
        return [check_sound("source", sources)]
    if not isinstance(sources, list | tuple):
        raise TypeError(
            f"source is a {type(sources).__name__}; pass an array of samples, a list of them, or a Dictionary"
        )
    if not sources:
        raise ValueError("source is empty; pass at least one recording")
    if np.isscalar(sources[0]):
        return [check_sound("source", sources)]
    return [check_sound(f"source {i + 1}", recording) for i, recording in enumerate(sources)]
