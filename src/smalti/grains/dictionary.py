"""The dictionary: every frame of the source recordings, and where each comes from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_rate, check_sound
from smalti.dsp.channels import CANCELLED, covariances, n_channels, remixed, to_mono, toward_coherence
from smalti.dsp.stft import Complexes, StftParams, frame_powers, spectra_at, stft
from smalti.grains.descriptors import n_bands, shifted_views, views
from smalti.grains.source import Source, sources_of
from smalti.nmf.let_it_bee import segment_slices

# At most this many frames are used to measure the stereo image of a recording.
_MOST_SPREAD = 1024


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Atoms with provenance: one atom for each source frame, in time order, recording after recording.

    Attributes
    ----------
    recording_ids : (K,) int array, the recording each atom comes from: an index into `sources`.
    centres : (K,) int array, the sample of that recording on which the atom is centred.
    cancelled : (K,) bools, atoms whose channels cancel in the mono mix. They are silent in `spectra`; a gain measured
        from an almost silent mix would make their channels far too loud.
    sources : where each recording comes from.
    params, sr : the grid, and the sample rate in Hz.
    recordings : the sound of each recording, (L,) or (C, L). It is transformed only when needed.
    in_part : True if the atoms are only some of the frames of their recordings, and so do not show the stereo image.
    channels : the number of channels of the output; None for that of the widest recording.
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
        """(F, K) complex: the transforms of the frames of the recordings' mono mixes, at their recorded level.

        A target is compared with these.
        """
        parts = [
            _transforms(to_mono(recording), self.centres[rows], self.params) for recording, rows in self._by_recording()
        ]
        # Frames are joined as rows, because that is how they lie in memory; each atom stays contiguous.
        spectra = np.concatenate([part.T for part in parts]).T if len(parts) > 1 else parts[0]
        spectra[:, self.cancelled] = 0
        return spectra

    def _by_recording(self) -> Iterator[tuple[Floats, slice]]:
        """Yield every recording that has atoms, with the slice of its atoms.

        An empty dictionary gives its first recording with an empty slice.
        """
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
        """K, the number of atoms."""
        return len(self.recording_ids)

    @cached_property
    def n_channels(self) -> int:
        """C, the number of channels of the output."""
        return max(map(n_channels, self.recordings)) if self.channels is None else self.channels

    @property
    def file_ids(self) -> NDArray[np.intp]:
        """(len(recordings),) ints: the number of the file that each recording is, or is a part of."""
        return np.arange(len(self.recordings))

    def channel_frames(self, mixing: Sequence[Complexes | None] | None = None) -> list[Complexes]:
        """The frames as they sound in each of the `n_channels` channels.

        A mono recording sounds in all channels. One with more channels, but fewer than `n_channels`, fills the first.

        Parameters
        ----------
        mixing : the matrices from `toward_images`, by which the channels of every recording are mixed; None for no
            mixing.

        Returns
        -------
        C complex arrays (F, K).
        """
        if self.n_channels == 1 or not self.n_atoms:
            return [self.spectra] * self.n_channels
        parts = []
        for index, recording in enumerate(self.recordings):
            centres = self.centres[self.recording_ids == index]
            heard = [
                spectra_at(heard_in(recording, channel), centres, self.params.n_fft, window=self.params.window)
                for channel in range(self.n_channels)
            ]
            matrices = None if mixing is None else mixing[index]
            parts.append(heard if matrices is None else [remixed(heard, row) for row in matrices.swapaxes(0, 1)])
        return [np.concatenate([part.T for part in channel]).T for channel in zip(*parts, strict=True)]

    def toward_images(self, used: Floats) -> list[Complexes | None]:
        """For each recording, matrices that give the frames used the coherence of the whole recording.

        A solver chooses frames by their mono mix. The chosen frames may be narrower or wider than the recording, for
        example if many come from the noise between its sounds.

        Parameters
        ----------
        used : (K,) float array, >= 0: how much each frame counts, the sum of its squared gains.

        Returns
        -------
        One (F, C, C) complex array for each recording, or None if it is mono or unused; see
            `smalti.dsp.channels.toward_coherence`.
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
                # In place, because these are the largest arrays of a long recording.
                frame *= roots
            got = covariances(frames)
            out.append(toward_coherence(got, whole).astype(frames[0].dtype))
        return out

    def _spread(self, recording: Floats) -> NDArray[np.intp]:
        """The centres of at most `_MOST_SPREAD` frames, in samples, spread evenly over a recording."""
        hops = np.arange(self.params.n_frames(recording.shape[-1]))
        return hops[:: -(-len(hops) // _MOST_SPREAD)] * self.params.hop

    def _heard(self, recording: Floats, centres: NDArray[np.intp]) -> list[Complexes]:
        """The frames of one recording in every channel, centred on samples `centres` of it."""
        return [_transforms(heard_in(recording, channel), centres, self.params) for channel in range(self.n_channels)]

    def views(self, *, ear_weighting: bool = False) -> list[Floats]:
        """The atoms in three windows: three (B, K) arrays of the recordings' dtype; see
        `smalti.grains.descriptors.views`.

        There is silence beyond the ends of each recording. A silent atom is silent in every window, although a long
        window may reach sound beside it: the solver must not choose it for a sound that it does not have.
        """
        by_recording = [
            views(to_mono(recording), self.centres[rows], self.params.hop, self.sr, ear_weighting=ear_weighting)
            for recording, rows in zip(self.recordings, segment_slices(self.n_atoms, self.recording_ids), strict=True)
        ]
        # Frames are joined as rows, because that is how they lie in memory.
        joined = [np.concatenate([part.T for part in parts]).T for parts in zip(*by_recording, strict=True)]
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
        ratios : (Q, K) float array, >= 0. f0 : (K,) Hz, 0 for none. gains : the gain of each view.
        keep_formants, ear_weighting : as there.
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
        """(K,) bools: True for atoms that are loud enough to count as sound.

        Such an atom is at most `quietest_db` under the loudest atom of its recording, and at most twice that under the
        loudest of all recordings. The second limit leaves out recordings that hold only noise. A silent atom never
        sounds.

        Parameters
        ----------
        quietest_db : >= 0 dB, between the norms of atoms.
        """
        loudest = np.array([self.norms[rows].max() for rows in segment_slices(self.n_atoms, self.recording_ids)])
        least = np.maximum(loudest * 10 ** (-quietest_db / 20), self.norms.max() * 10 ** (-2 * quietest_db / 20))
        heard: NDArray[np.bool_] = (self.norms > 0) & (self.norms >= least[self.recording_ids])
        return heard

    def only(self, atoms: NDArray[np.intp]) -> "Dictionary":
        """The dictionary of only the given atoms and their recordings.

        It keeps the number of channels, even if those recordings have fewer.

        Parameters
        ----------
        atoms : (U,) int array, ascending and not empty.
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

    def on_grid(self, params: StftParams, *, searched: bool) -> "Dictionary":
        """The dictionary as a job takes it: on its grid, and in a form that is or is not searched.

        Raises
        ------
        ValueError : for another grid than its own, or a search. Only a `Corpus` can have either.
        """
        if searched:
            raise ValueError("a ready dictionary cannot be searched; pass its recordings or a Corpus instead")
        if params != self.params:
            raise ValueError(f"params is {params} but the dictionary was built with {self.params}; leave params out")
        return self

    def to_mono(self) -> "Dictionary":
        """The same atoms with one channel: recordings are mixed to mono."""
        if self.n_channels == 1:
            return self
        return replace(self, recordings=tuple(map(to_mono, self.recordings)), channels=1)

    def one_channel(self, channel: int, width: int) -> "Dictionary":
        """The same atoms with one channel: `channel` of recordings with `width` channels, the mono mix of others."""
        if self.n_channels == 1:
            return self
        alone = np.array([n_channels(recording) == width > 1 for recording in self.recordings])
        chosen = [
            recording[channel] if own else to_mono(recording)
            for recording, own in zip(self.recordings, alone, strict=True)
        ]
        # A single channel cannot cancel.
        cancelled = self.cancelled & ~alone[self.recording_ids]
        return replace(self, recordings=tuple(chosen), cancelled=cancelled, channels=1)

    @property
    def hop_s(self) -> float:
        """Seconds from one atom to the next."""
        return self.params.hop / self.sr

    @cached_property
    def stretches(self) -> NDArray[np.intp]:
        """(K,) ints: the number of the stretch each atom belongs to.

        In a stretch, each atom lies one hop after the one before it, in the same recording.
        """
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
    """Make every frame of `sources` an atom of a dictionary.

    Parameters
    ----------
    sources : one recording, (L,) or (C, L) float32 or float64, or a sequence of them. Any length >= 1 and any number of
        channels will do; recordings shorter than a window are padded with silence.
    sr : the sample rate of all recordings in Hz.
    params : the grid; by default `StftParams()`, which suits 22 050 Hz.
    names : a name or a `Source` for each recording; by default "source 1", "source 2", ...

    Returns
    -------
    Dictionary with K = the sum of ``params.n_frames(L)`` over the recordings.

    Raises
    ------
    ValueError, TypeError : if there are no recordings, if one is empty, not floating-point or not finite, if the number
        of names differs from that of recordings, or if `sr` is no sample rate.
    """
    given = as_recordings(sources)
    sr = check_rate("sr", sr)
    params = params or StftParams()
    provenances = sources_of(names, len(given))
    dtype = np.result_type(*given)
    # Copies, because channels are transformed later, when the caller's arrays may have changed.
    recordings = tuple(recording.astype(dtype) for recording in given)
    counts = [params.n_frames(recording.shape[-1]) for recording in recordings]
    return Dictionary(
        recording_ids=np.repeat(np.arange(len(counts)), counts),
        centres=np.concatenate([np.arange(count) * params.hop for count in counts]),
        cancelled=np.concatenate([cancelled_frames(recording, params) for recording in recordings]),
        sources=provenances,
        params=params,
        sr=sr,
        recordings=recordings,
    )


def cancelled_frames(recording: Floats, params: StftParams, *, kept: Floats | None = None) -> NDArray[np.bool_]:
    """(N,) bools: the frames of (L,) or (C, L) whose mono mix keeps too little of their channels' mean power.

    `kept` is the `frame_powers` of the mono mix, if known.
    """
    if recording.ndim == 1:
        return np.zeros(params.n_frames(len(recording)), bool)
    power = sum(frame_powers(channel, params) for channel in recording) / len(recording)
    kept = frame_powers(to_mono(recording), params) if kept is None else kept
    lost: NDArray[np.bool_] = kept < CANCELLED * power
    return lost


# How many frames off the grid are transformed at once. Each needs a copy of its window, so this bounds the memory.
OFF_GRID_AT_ONCE = 1024


def _transforms(samples: Floats, centres: NDArray[np.intp], params: StftParams) -> Complexes:
    """The transforms (F, N) of frames of (L,) centred on the given samples."""
    # Frames of shifted grains may lie off the grid. On the grid, `stft` need not copy a window for each frame.
    if np.array_equal(centres, np.arange(params.n_frames(len(samples))) * params.hop):
        return stft(samples, params)
    blocks = np.array_split(centres, -(-len(centres) // OFF_GRID_AT_ONCE) or 1)
    return np.concatenate([spectra_at(samples, block, params.n_fft, window=params.window).T for block in blocks]).T


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
