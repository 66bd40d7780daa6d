"""One sound through three windows at the same moments: a long one for pitch, one for timbre, short ones for attacks.

No window tells both which note sounds and when it began. A solver that is to choose source frames by both compares
them in all three, as if they were one long spectrum.
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
# The short window looks at the four quarters of a hop, in bands that it can tell apart.
QUARTERS = (-3 / 8, -1 / 8, 1 / 8, 3 / 8)
SHORT_WIDTH_ERB = 1.8
# Keeping the formants changes a shifted frame by at most 24 dB, here as a natural logarithm.
MOST_FORMANT_GAIN = 24 / 20 * np.log(10)
# Nor, within half a band, more than 6 dB: behind a spectrum's last partial the envelope falls steeply, and a band that
# reaches there holds that partial, which is not to be lifted as if it were what is behind it.
MOST_GAIN_WITHIN = 6 / 20 * np.log(10)
# Frames transformed at once, which bounds the memory.
_BLOCK = 128


def views(
    samples: Floats, centres: NDArray[np.intp], hop: int, sr: int, *, ear_weighting: bool = False
) -> list[Floats]:
    """Band magnitudes of a sound around given moments, in three windows.

    Parameters
    ----------
    samples : (L,) float32 or float64, zero outside.
    centres : (N,) int array, samples on which frames are centred; they may lie outside the signal.
    hop : samples from one moment to the next, whose quarters the short windows look at.
    sr : sample rate in Hz.
    ear_weighting : weigh bins with the A curve before they are pooled.

    Returns
    -------
    Three (B, N) arrays >= 0 of the dtype of `samples`, each with a B of its own: sums of bins, pooled as in
        `smalti.dsp.bands.band_edges`, in windows of 186 and 93 ms; and in bands of 1.8 ERB in windows of 23 ms centred
        on each quarter of the hop around a moment, the bands of one quarter below those of the one before.

    Raises
    ------
    ValueError, TypeError : if `sr` is no sample rate.

    References
    ----------
    Ours. The bands of the short windows are those of Glasberg & Moore (1990).
    """
    out = []
    for looks in _looks(hop, sr):
        of_look = []
        for params, edges, offset in looks:
            weights = _weights(params, sr, ear_weighting).astype(samples.dtype)[:, None]
            bands = np.empty((len(centres), len(edges) - 1), samples.dtype)
            for rows, block in _blocks(samples, centres + offset, params):
                magnitudes = np.abs(block)
                bands[rows] = pool(weights * magnitudes if ear_weighting else magnitudes, edges).T
            of_look.append(bands)
        out.append(np.concatenate(of_look, axis=1).T)
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
    """Stacked `views` of frames as they would be at other pitches, without making their sound.

    A spectrum is stretched along frequency, each band taking the magnitude of the stretch that comes to lie in it. Its
    lobes are stretched with it; what a shifted sound really looks like, only `smalti.dsp.pitch_shift.shift_grain`
    knows.

    Parameters
    ----------
    samples, centres, hop, sr, ear_weighting : as for `views`.
    ratios : (Q, N) float array, >= 0: Q versions of every frame, each at its ratio; silent where that is 0.
    f0 : (N,) Hz, the pitch of each frame as it is, 0 for none.
    gains : of each view, from `view_gains`.
    keep_formants : whether the envelope stays where it is.
    out : (Q, N, B) array of zeros to write to, or None.

    Returns
    -------
    (Q, B, N) array of the dtype of `samples`: of each version what `stack` makes of its views.
    """
    n_versions, n_frames = ratios.shape
    if out is None:
        out = np.zeros((n_versions, n_frames, n_bands(hop, sr)), samples.dtype)
    first = 0
    for looks, gain in zip(_looks(hop, sr), gains, strict=True):
        for params, edges, offset in looks:
            bands = slice(first, first + len(edges) - 1)
            weights = _weights(params, sr, ear_weighting) * gain
            for rows, block in _blocks(samples, centres + offset, params):
                shifts = StretchedBands.of(np.abs(block), f0[rows], sr, edges, weights, keep_formants=keep_formants)
                for version, of in enumerate(ratios[:, rows]):
                    out[version, rows, bands] = shifts.at(of).T
            first = bands.stop
    return out.swapaxes(1, 2)


def n_bands(hop: int, sr: int) -> int:
    """B, the number of rows of stacked views."""
    return sum(len(edges) - 1 for looks in _looks(hop, sr) for _, edges, _ in looks)


@dataclass(frozen=True, eq=False)
class StretchedBands:
    """Magnitudes (F, N), ready to be stretched along frequency and pooled into bands."""

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
        """See `shifted_views`; `edges` as from `smalti.dsp.bands.band_edges`, `weights` (F,) of the bins."""
        # When first needed, as it loads a part of scipy that nothing else does.
        from smalti.dsp.bands import harmonic_envelope

        zero = np.zeros((1, magnitudes.shape[1]))
        sums = np.concatenate([zero, np.cumsum(magnitudes, axis=0, dtype=np.float64)])
        envelope = np.log(np.maximum(harmonic_envelope(magnitudes, f0, sr), 1e-30)) if keep_formants else None
        return cls(sums, envelope, edges, weights)

    def at(self, ratios: Floats) -> Floats:
        """(B, N) bands of every frame at its ratio, ``ratios`` (N,); 0 where that is 0."""
        inverse = np.divide(1.0, ratios, out=np.zeros(len(ratios)), where=ratios > 0)
        # A band at the new pitch gets what lay between its edges / ratio, so no magnitude is lost or counted twice,
        # however a lobe is stretched.
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
    """What takes the level of logarithms (F, N) at bins `at` / ratio to that at the bins (B, 1) themselves: (B, N)."""
    return _between_rows(envelope, at + 0 * inverse) - _between_rows(envelope, at * inverse)


def _between_rows(values: Floats, at: Floats) -> Floats:
    """`values` (R, N) at fractional rows `at` (B, N) of each column, linear in between, held beyond the end."""
    at = np.clip(at, 0, len(values) - 1)
    low = np.minimum(at.astype(np.intp), len(values) - 2)
    share = at - low
    columns = np.arange(values.shape[1])
    under, over = values[low, columns], values[low + 1, columns]
    between: Floats = under + share * (over - under)
    return between


@functools.lru_cache(maxsize=16)
def _looks(hop: int, sr: int) -> list[list[tuple[StftParams, NDArray[np.intp], int]]]:
    """The windows of each view: their size, their bands, and where they look, in samples from the moment itself."""
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
    """The transforms of frames centred anywhere, a block at a time."""
    for start in range(0, len(centres), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(centres)))
        yield rows, spectra_at(samples, centres[rows], params.n_fft)


def stacked(target: Sequence[Floats], source: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The V and W of a solver that compares all views at once.

    Parameters
    ----------
    target, source : views (B, N) and (B, K) of each, >= 0, in the same order.

    Returns
    -------
    (sum of B, N) and (sum of B, K) arrays of their dtype: the views one below the other, each at the gain that gives
        the target's the mass (sum) of its first. Kullback-Leibler then weighs all alike. A view that is silent in the
        target is silent in both.
    """
    gains = view_gains(target)
    return stack(target, gains), stack(source, gains)


def view_gains(target: Sequence[Floats]) -> list[float]:
    """The gain of each view that `stacked` compares a target's with; 0 for one that is silent."""
    masses = [float(view.sum(dtype=np.float64)) for view in target]
    return [masses[0] / mass if mass > 0 else 0.0 for mass in masses]


def stack(of: Sequence[Floats], gains: Sequence[float]) -> Floats:
    """Views (..., B, N), one below the other at their gains: (..., sum of B, N)."""
    scaled = [view * view.dtype.type(gain) for view, gain in zip(of, gains, strict=True)]
    # Stacked with frames as rows, as they lie in memory.
    return np.concatenate([view.swapaxes(-1, -2) for view in scaled], axis=-1).swapaxes(-1, -2)


Halves = NDArray[np.float16]
# Numbers of a key for each view: pitch is told by the long window, timbre by the middle one, attacks by the short.
KEY_SIZES = (64, 32, 24)


def keys_of(looks: Floats, sizes: Sequence[int]) -> Halves:
    """Short descriptors that frames are searched by: for every view, the roots of the shares of groups of its bands.

    The inner product of two keys is the mean over the views of their Bhattacharyya coefficients: 1 for frames that look
    alike at any level, 0 for frames that have nothing in common. Where a view is silent, so is its part of the key.

    Parameters
    ----------
    looks : (N, B) float array, >= 0, at any level. sizes : how many of the B bands each view has.

    Returns
    -------
    (N, D) float16, D being the sum of `KEY_SIZES`, of Euclidean norm 1 (or less, where a view is silent).
    """
    first, out = 0, []
    for size, n_groups in zip(sizes, KEY_SIZES, strict=True):
        groups = np.round(np.linspace(0, size, min(n_groups, size) + 1)).astype(np.intp)[:-1]
        sums = np.add.reduceat(looks[:, first : first + size], groups, axis=1)
        mass = sums.sum(axis=1, keepdims=True)
        shares = np.divide(sums, mass, out=np.zeros_like(sums), where=mass > 0)
        # Every view has as many numbers at any sample rate.
        out.append(np.pad(np.sqrt(shares / len(KEY_SIZES)), ((0, 0), (0, n_groups - len(groups)))))
        first += size
    return np.concatenate(out, axis=1).astype(np.float16)
