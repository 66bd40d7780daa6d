"""The dictionary: every frame of the source recordings, and where each came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_rate, check_signal
from smalti.constraints import segment_slices
from smalti.sparse_coding import unit_columns
from smalti.stft import Complexes, StftParams, stft


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Atoms with provenance: one column a source frame, in time order, recording after recording.

    Attributes
    ----------
    spectra : (F, K) complex array, the frames' transforms, as loud as they are recorded.
    segments : (K,) int array, the recording each atom comes from: an index into `names`.
    centres : (K,) int array, the sample of that recording on which the atom is centred.
    names : one name a recording.
    params, sr : the grid, and the sample rate in Hz.
    """

    spectra: Complexes
    segments: NDArray[np.intp]
    centres: NDArray[np.intp]
    names: tuple[str, ...]
    params: StftParams
    sr: int

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

    @cached_property
    def unit_magnitudes(self) -> Floats:
        """(F, K): the magnitudes with columns of unit norm; those of silent atoms stay 0."""
        return unit_columns(self.magnitudes, self.norms)

    @property
    def n_atoms(self) -> int:
        """K, the frames of all recordings."""
        return int(self.spectra.shape[1])

    @property
    def hop_s(self) -> float:
        """Seconds from one atom to the next."""
        return self.params.hop / self.sr

    @property
    def borders(self) -> tuple[int, ...]:
        """The first atom of every recording but the first."""
        return tuple(rows.start for rows in segment_slices(self.n_atoms, self.segments)[1:])


def build_dictionary(
    sources: ArrayLike | Sequence[ArrayLike],
    sr: int,
    *,
    params: StftParams | None = None,
    names: Sequence[str] | None = None,
) -> Dictionary:
    """Every frame of `sources` as an atom.

    Parameters
    ----------
    sources : one mono recording, (L,) float32 or float64, or a sequence of them; any length >= 1 (one shorter than a
        window is padded with silence).
    sr : sample rate of all, in Hz.
    params : the grid; by default `StftParams()`, which suits 22 050 Hz.
    names : one a recording; by default "source 1", "source 2", ...

    Returns
    -------
    Dictionary : K = the sum of ``params.n_frames(L)`` over the recordings.

    Raises
    ------
    ValueError, TypeError : for no recordings, empty, integer or non-finite ones, or another number of names.
    """
    recordings = as_recordings(sources)
    sr = check_rate("sr", sr)
    params = params or StftParams()
    names = tuple(names) if names is not None else tuple(f"source {i + 1}" for i in range(len(recordings)))
    if len(names) != len(recordings):
        raise ValueError(f"names has {len(names)} entries for {len(recordings)} recordings; pass one for each")
    dtype = np.result_type(*recordings)
    frames = [stft(recording.astype(dtype, copy=False), params) for recording in recordings]
    counts = [spectrum.shape[1] for spectrum in frames]
    # Stacked with frames as rows, as they lie in memory, so that an atom stays contiguous.
    spectra = np.concatenate([spectrum.T for spectrum in frames]).T if len(frames) > 1 else frames[0]
    return Dictionary(
        spectra=spectra,
        segments=np.repeat(np.arange(len(counts)), counts),
        centres=np.concatenate([np.arange(count) * params.hop for count in counts]),
        names=names,
        params=params,
        sr=sr,
    )


def as_recordings(sources: ArrayLike | Sequence[ArrayLike]) -> list[Floats]:
    """`sources` as a list of checked mono recordings, whether one was given or several."""
    if isinstance(sources, np.ndarray):
        return [check_signal("source", sources)]
    if not isinstance(sources, list | tuple):
        raise TypeError(
            f"source is a {type(sources).__name__}; pass an array of samples, a list of them, or a Dictionary"
        )
    if not sources:
        raise ValueError("source is empty; pass at least one recording")
    if np.isscalar(sources[0]):
        return [check_signal("source", sources)]
    return [check_signal(f"source {i + 1}", recording) for i, recording in enumerate(sources)]
