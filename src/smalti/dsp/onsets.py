"""When a sound's attacks start, to the millisecond."""

import numpy as np
import scipy.ndimage

from smalti._checks import Floats
from smalti.dsp.bands import audible, decibels, mel_filters
from smalti.dsp.stft import StftParams, stft

# 23 ms windows every 2.9 ms: short enough to follow an attack, long enough for bands.
_ONSET_WINDOW_S, _ONSET_HOP_S = 512 / 22050, 64 / 22050


def onset_times(samples: Floats, sr: int) -> Floats:
    """The times at which a signal's attacks start, to the millisecond.

    An attack is a rise of the mel levels over 20 ms, by at least 4 dB in the mean, that is the largest within 50 ms and
    leads to a sound less than 40 dB under the loudest. Its start is the last moment before its peak at which a 2 ms
    envelope of the power has risen by less than 15 % of its rise.

    Parameters
    ----------
    samples : (L,) float32 or float64, any L >= 0; its level does not matter.
    sr : Hz, 1000 to 768000.

    Returns
    -------
    (A,) float64 array of ascending seconds, no two the same; empty where nothing begins. A sound that is there from
    the first sample on may count as an attack there; the end of a sound does not.

    Raises
    ------
    ValueError, TypeError : if `samples` has several channels or another dtype, or `sr` is no sample rate.

    References
    ----------
    Ours; Bello et al. (2005), "A tutorial on onset detection in music signals", IEEE TSAP 13(5): rises of band levels
    as the detection function, and its peaks.
    """
    params = StftParams.from_seconds(_ONSET_WINDOW_S, _ONSET_HOP_S, sr)
    power = np.square(np.abs(stft(samples, params)))
    levels = decibels(mel_filters(24, params.n_fft, sr) @ power, span_db=50)
    lag, reach = round(0.020 * sr / params.hop), round(0.050 * sr / params.hop)
    rise = np.zeros(levels.shape[1], levels.dtype)
    rise[lag:] = np.maximum(0, levels[:, lag:] - levels[:, :-lag]).mean(axis=0)
    # A sound that is cut off splashes over all bands of the windows around its end, where nothing begins.
    rise[np.arange(len(rise)) * params.hop > len(samples) - params.n_fft // 2] = 0
    loud = audible(scipy.ndimage.maximum_filter1d(power.sum(axis=0), 2 * lag + 1), span_db=40)
    peaks = np.flatnonzero(loud & (rise >= 4) & (rise == scipy.ndimage.maximum_filter1d(rise, 2 * reach + 1)))
    envelope = _held(_moving_mean(np.square(samples, dtype=np.float64), round(0.002 * sr)), round(0.010 * sr))
    # The rise shows in windows up to half a window wide around its two frames; a Hann window hears half of that.
    early, late = (peaks - lag) * params.hop - params.n_fft // 4, peaks * params.hop + params.n_fft // 4
    stretches = zip(np.maximum(early, 0).tolist(), np.minimum(late, len(samples)).tolist(), strict=True)
    starts = {_foot(envelope, first, last) for first, last in stretches}
    return np.array(sorted(starts)) / sr


def _foot(envelope: Floats, first: int, last: int) -> int:
    """The last sample of a stretch that lies below 15 % of the rise to the stretch's peak."""
    stretch = envelope[first:last]
    rising = stretch[: int(stretch.argmax()) + 1]
    low = rising.min()
    return first + int(np.flatnonzero(rising <= low + 0.15 * (rising[-1] - low))[-1])


def _moving_mean(values: Floats, size: int) -> Floats:
    mean: Floats = scipy.ndimage.uniform_filter1d(values, max(1, size), mode="constant")
    # A running sum leaves rounding where there should be silence.
    return np.maximum(mean, 0)


def _held(values: Floats, size: int) -> Floats:
    """The largest of each value and the `size` before it: a low tone is not silent between two of its pulses."""
    held: Floats = scipy.ndimage.maximum_filter1d(values, size + 1, mode="constant", origin=size // 2)
    return held
