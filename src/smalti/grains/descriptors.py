"""One sound through three windows at the same moments: a long one for pitch, one for timbre, short ones for attacks.

No single window shows both which note sounds and when it began. A solver that chooses source frames by both compares
them in all three windows, as if these were one long spectrum.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.dsp.bands import a_weights, band_edges, erb_edges, pool
from smalti.dsp.stft import Complexes, StftParams, spectra_at

LONG_WINDOW_S, MIDDLE_WINDOW_S, SHORT_WINDOW_S = 4096 / 22050, 2048 / 22050, 512 / 22050
# The short windows are centred on the four quarters of a hop. Their bands are as wide as they can resolve.
QUARTERS = (-3 / 8, -1 / 8, 1 / 8, 3 / 8)
SHORT_WIDTH_ERB = 1.8
# Keeping the formants changes a shifted frame by at most 24 dB, here as a natural logarithm.
MOST_FORMANT_GAIN = 24 / 20 * np.log(10)
# The gain may rise by at most 6 dB from the lower edge of a band to its middle. Beyond a spectrum's last partial the
# envelope falls steeply. A band that reaches there still holds that partial, which must not get the gain of that slope.
MOST_GAIN_WITHIN = 6 / 20 * np.log(10)
# Frames transformed at once, which bounds the memory.
_VIEWED_AT_ONCE = 128


def views(
    samples: Floats, centres: NDArray[np.intp], hop: int, sr: int, *, ear_weighting: bool = False
) -> list[Floats]:
    """Band magnitudes of a sound around given moments, in three windows.

    Parameters
    ----------
    samples : (L,) float32 or float64, zero outside.
    centres : (N,) int array, samples on which frames are centred; they may lie outside the signal.
    hop : samples from one moment to the next; the short windows are centred on its quarters.
    sr : sample rate in Hz.
    ear_weighting : weigh bins with the A curve before they are pooled.

    Returns
    -------
    Three (B, N) arrays >= 0 of the dtype of `samples`, each with its own B. Two hold sums of bins, pooled as in
        `smalti.dsp.bands.band_edges`, in windows of 186 and of 93 ms. The third holds bands of 1.8 ERB in windows of
        23 ms, centred on each quarter of the hop around a moment; the bands of each quarter follow those of the one
        before.

    Raises
    ------
    ValueError, TypeError : if `sr` is no sample rate.

    References
    ----------
    Ours. The bands of the short windows are those of Glasberg & Moore (1990).
    """
    out = []
    for windows in _windows(hop, sr):
        view = []
        for params, edges, offset in windows:
            weights = _weights(params, sr, ear_weighting).astype(samples.dtype)[:, None]
            bands = np.empty((len(centres), len(edges) - 1), samples.dtype)
            for rows, block in _blocks(samples, centres + offset, params):
                magnitudes = np.abs(block)
                bands[rows] = pool(weights * magnitudes if ear_weighting else magnitudes, edges).T
            view.append(bands)
        out.append(np.concatenate(view, axis=1).T)
    return out


def shifted_views(
    samples: Floats,
    centres: NDArray[np.intp],
    hop: int,
    sr: int,
    ratios: Floats,
    f0: Floats,
    gains: Sequence[float],
    *,
    keep_formants: bool = True,
    ear_weighting: bool = False,
    out: Floats | None = None,
) -> Floats:
    """Stacked `views` of frames as they would be at other pitches, estimated without making their sound.

    Each spectrum is stretched along frequency, and each band takes the magnitude that comes to lie in it. This is an
    estimate, because the lobes are stretched too; `smalti.dsp.pitch_shift.shift_grain` makes the real sound.

    Parameters
    ----------
    samples, centres, hop, sr, ear_weighting : as for `views`.
    ratios : (Q, N) float array, >= 0: the frequency ratio of each of Q versions of every frame; 0 makes it silent.
    f0 : (N,) Hz, the pitch of each frame as recorded, 0 for none.
    gains : the gain of each view, from `view_gains`.
    keep_formants : True if the spectral envelope stays where it is.
    out : (Q, N, B) array of zeros to write to, or None.

    Returns
    -------
    (Q, B, N) array of the dtype of `samples`: for each version, its views stacked by `stack`.
    """
    n_versions, n_frames = ratios.shape
    if out is None:
        out = np.zeros((n_versions, n_frames, n_bands(hop, sr)), samples.dtype)
    first = 0
    for windows, gain in zip(_windows(hop, sr), gains, strict=True):
        for params, edges, offset in windows:
            bands = slice(first, first + len(edges) - 1)
            weights = _weights(params, sr, ear_weighting) * gain
            for rows, block in _blocks(samples, centres + offset, params):
                shifts = StretchedBands.of(np.abs(block), f0[rows], sr, edges, weights, keep_formants=keep_formants)
                for version, frame_ratios in enumerate(ratios[:, rows]):
                    out[version, rows, bands] = shifts.at(frame_ratios).T
            first = bands.stop
    return out.swapaxes(1, 2)


def n_bands(hop: int, sr: int) -> int:
    """B, the number of rows of the stacked views, at a hop in samples and a rate in Hz."""
    return sum(len(edges) - 1 for windows in _windows(hop, sr) for _, edges, _ in windows)


@dataclass(frozen=True, eq=False)
class StretchedBands:
    """Magnitudes (F, N), prepared to be stretched along frequency and pooled into bands.

    Attributes
    ----------
    sums : (F + 1, N), their cumulative sums over bins.
    envelope : (F, N), the natural logarithm of the spectral envelope; None if formants are not kept.
    edges : (B + 1,) int array, the bins at which bands begin and end. weights : (F,), a weight for each bin.
    """

    sums: Floats
    envelope: Floats | None
    edges: NDArray[np.intp]
    weights: Floats

    @classmethod
    def of(
        cls,
        magnitudes: Floats,
        f0: Floats,
        sr: int,
        edges: NDArray[np.intp],
        weights: Floats,
        *,
        keep_formants: bool,
    ) -> "StretchedBands":
        """Prepare `magnitudes`; `edges` as from `smalti.dsp.bands.band_edges`, the rest as for `shifted_views`."""
        # Imported here, because it loads a part of scipy that nothing else needs.
        from smalti.dsp.bands import harmonic_envelope

        zero = np.zeros((1, magnitudes.shape[1]))
        sums = np.concatenate([zero, np.cumsum(magnitudes, axis=0, dtype=np.float64)])
        envelope = np.log(np.maximum(harmonic_envelope(magnitudes, f0, sr), 1e-30)) if keep_formants else None
        return cls(sums, envelope, edges, weights)

    def at(self, ratios: Floats) -> Floats:
        """(B, N) bands of every frame at its ratio; `ratios` is (N,), and a ratio of 0 gives a silent frame."""
        inverse = np.divide(1.0, ratios, out=np.zeros(len(ratios)), where=ratios > 0)
        # A band at the new pitch gets the magnitude between its edges divided by the ratio. So no magnitude is lost or
        # counted twice, however a lobe is stretched.
        below = _between_rows(self.sums, (self.edges[:, None] - 0.5).clip(0) * inverse + 0.5 * (inverse > 0))
        bands = np.diff(below, axis=0)
        centres = (self.edges[:-1] + self.edges[1:] - 1)[:, None] / 2
        if self.envelope is not None:
            low = (self.edges[:-1, None] - 0.5).clip(0)
            at_middle, at_low = (_formant_gain(self.envelope, at, inverse) for at in (centres, low))
            gain = np.minimum(at_middle, at_low + MOST_GAIN_WITHIN)
            bands *= np.exp(np.clip(gain, -MOST_FORMANT_GAIN, MOST_FORMANT_GAIN))
        return bands * (self.weights[np.round(centres[:, 0]).astype(np.intp)][:, None] * (ratios > 0))


def _formant_gain(envelope: Floats, at: Floats, inverse: Floats) -> Floats:
    """(B, N) log gains from the envelope (F, N), in logarithms, at bins `at` / ratio to that at bins `at` (B, 1)."""
    return _between_rows(envelope, at + 0 * inverse) - _between_rows(envelope, at * inverse)


def _between_rows(values: Floats, at: Floats) -> Floats:
    """`values` (R, N) at fractional rows `at` (B, N) of each column: linear between rows, constant beyond the ends."""
    at = np.clip(at, 0, len(values) - 1)
    low = np.minimum(at.astype(np.intp), len(values) - 2)
    share = at - low
    columns = np.arange(values.shape[1])
    under, over = values[low, columns], values[low + 1, columns]
    between: Floats = under + share * (over - under)
    return between


@functools.lru_cache(maxsize=16)
def _windows(hop: int, sr: int) -> list[list[tuple[StftParams, NDArray[np.intp], int]]]:
    """The windows of each view: their parameters, the edges of their bands, and their offset in samples."""
    long, middle, short = (
        StftParams.from_seconds(window_s, window_s / 4, sr)
        for window_s in (LONG_WINDOW_S, MIDDLE_WINDOW_S, SHORT_WINDOW_S)
    )
    edges = erb_edges(short.n_fft, sr, width=SHORT_WIDTH_ERB)
    wide = [[(params, band_edges(params, sr), 0)] for params in (long, middle)]
    return [*wide, [(short, edges, round(hop * quarter)) for quarter in QUARTERS]]


def _weights(params: StftParams, sr: int, ear_weighting: bool) -> Floats:
    hz = np.arange(params.n_bins) * (sr / params.n_fft)
    return np.sqrt(a_weights(hz)) if ear_weighting else np.ones(params.n_bins)


def _blocks(samples: Floats, centres: NDArray[np.intp], params: StftParams) -> Iterator[tuple[slice, Complexes]]:
    """Yield the transforms of frames centred on any samples, a block of frames at a time."""
    for start in range(0, len(centres), _VIEWED_AT_ONCE):
        rows = slice(start, min(start + _VIEWED_AT_ONCE, len(centres)))
        yield rows, spectra_at(samples, centres[rows], params.n_fft)


def stacked(target: Sequence[Floats], source: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The V and W of a solver that compares all views at once.

    Parameters
    ----------
    target, source : views (B, N) and (B, K) of each, >= 0, in the same order.

    Returns
    -------
    (sum of B, N) and (sum of B, K) arrays of their dtype: the views one below the other. Each view has a gain that
        gives the target's the same mass (sum) as its first view, so that the Kullback-Leibler divergence weighs all
        views alike. A view that is silent in the target is silent in both arrays.
    """
    gains = view_gains(target)
    return stack(target, gains), stack(source, gains)


def view_gains(target: Sequence[Floats]) -> list[float]:
    """The gain that `stacked` gives each view of a target (B, N); 0 for a silent view."""
    masses = [float(view.sum(dtype=np.float64)) for view in target]
    return [masses[0] / mass if mass > 0 else 0.0 for mass in masses]


def stack(parts: Sequence[Floats], gains: Sequence[float]) -> Floats:
    """The views (..., B, N) one below the other, each at its gain: (..., sum of B, N)."""
    scaled = [view * view.dtype.type(gain) for view, gain in zip(parts, gains, strict=True)]
    # Frames are rows here, because that is how they lie in memory.
    return np.concatenate([view.swapaxes(-1, -2) for view in scaled], axis=-1).swapaxes(-1, -2)


Halves = NDArray[np.float16]
# The values that each view has in a descriptor. The long window shows pitch, the middle one timbre, the short attacks.
DESCRIPTOR_SIZES = (64, 32, 24)


def descriptors_of(features: Floats, sizes: Sequence[int]) -> Halves:
    """Descriptors, the short vectors that frames are searched by.

    The bands of every view are put into groups; a descriptor holds the root of each group's share of the view. The
    inner product of two descriptors is the mean over the views of their Bhattacharyya coefficients: 1 for frames with
    the same shares, whatever their levels, and 0 for frames with no group in common. A silent view gives zeros.

    Parameters
    ----------
    features : (N, B) float array, >= 0, at any level: the views of each frame side by side.
    sizes : how many of the B bands each view has.

    Returns
    -------
    (N, D) float16, where D is the sum of `DESCRIPTOR_SIZES`. The Euclidean norm is 1, or less where a view is silent.
    """
    first, out = 0, []
    for size, n_groups in zip(sizes, DESCRIPTOR_SIZES, strict=True):
        groups = np.round(np.linspace(0, size, min(n_groups, size) + 1)).astype(np.intp)[:-1]
        sums = np.add.reduceat(features[:, first : first + size], groups, axis=1)
        mass = sums.sum(axis=1, keepdims=True)
        shares = np.divide(sums, mass, out=np.zeros_like(sums), where=mass > 0)
        # Padding gives every view the same number of values at any sample rate.
        out.append(np.pad(np.sqrt(shares / len(DESCRIPTOR_SIZES)), ((0, 0), (0, n_groups - len(groups)))))
        first += size
    return np.concatenate(out, axis=1).astype(np.float16)
