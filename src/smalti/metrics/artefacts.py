"""Artefacts, which neither target nor source has: cancelling grains, buzz, pre-echo, clicks, DC, clipping.

None of these changes with the mosaic's gain.
"""

import math

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_real
from smalti.dsp.bands import a_weights, mel_filters
from smalti.dsp.stft import Complexes, StftParams, istft, stft
from smalti.metrics.features import euclidean_norm

# 23 ms windows every 2.9 ms: short enough to follow a hop, long enough for bands.
_BUZZ_WINDOW_S, _BUZZ_HOP_S = 512 / 22050, 64 / 22050

# --- grains that cancel


def inconsistency(spectrum: Complexes, params: StftParams, *, length: int) -> float:
    """``incons``: ``||STFT(iSTFT(Y)) - Y|| / ||Y||``, how much of a spectrogram no signal has.

    0: Y is the transform of a signal; below 0.15 is good; 1: nothing of it survives. For the sum of complex source
    frames it tells how much overlapping grains disagree.

    Parameters
    ----------
    spectrum : (F, N) complex; a silent one has 0. params : its grid. length : samples of the signal.

    References
    ----------
    Le Roux, Kameoka, Ono & Sagayama (2010), "Fast signal reconstruction from magnitude STFT spectrogram based on
    spectrogram consistency", DAFx.
    """
    size = euclidean_norm(spectrum)
    return euclidean_norm(stft(istft(spectrum, params, length=length), params) - spectrum) / size if size > 0 else 0.0


def model_error(samples: Floats, model: Floats, params: StftParams) -> float:
    """``model_err``: ``|| g|STFT(y)| - M || / ||M||``, how far what is heard is from the W H that was solved for.

    0: the sound is what the activations say; below 0.15 is good; 1: silence. g is the gain that minimises it.

    Parameters
    ----------
    samples : (L,) the mosaic. model : (F, N) magnitudes, ``W @ H``. params : the grid.

    Returns
    -------
    float, 0 to 1; 0 if both are silent, 1 if one is.

    Raises
    ------
    ValueError : if `model` has another shape than the mosaic's STFT.

    References
    ----------
    Ours: the spectral convergence of Sturmel & Daudet (2011), DAFx, with the model as target and a free gain.
    """
    magnitudes = np.abs(stft(samples, params))
    if magnitudes.shape != model.shape:
        raise ValueError(
            f"model has shape {model.shape} but the mosaic's STFT {magnitudes.shape}; "
            "pass W @ H of this mosaic, and its grid"
        )
    size, power = euclidean_norm(model), euclidean_norm(magnitudes) ** 2
    if size == 0 or power == 0:
        return float(size > 0 or power > 0)
    gain = float((magnitudes * model).sum(dtype=np.float64)) / power
    return euclidean_norm(magnitudes.dtype.type(gain) * magnitudes - model) / size


# --- buzz


def hop_buzz_db(samples: Floats, sr: int, hop_s: float, *, bands: int = 12) -> float:
    """``hopbuzz``: by how many dB the envelope moves more at the hop rate than at the rates around it.

    About 0: no seam between frames is heard; below 1 is good; 10 buzzes. A steady beat or bass note at exactly the hop
    rate (43 Hz at 512 samples of 22 050 Hz) reads as buzz too.

    Each mel band's envelope, relative to its mean of the last and next 125 ms, is cut into stretches of 64 hops; the
    power spectra of the stretches are added up over time and bands, and the hop rate is compared with the mean of the
    20 frequencies 4 to 13 sixty-fourths of it to either side.

    Parameters
    ----------
    samples : (L,). sr : Hz. hop_s : seconds from one frame of the mosaic to the next.

    Returns
    -------
    float; 0 for a mosaic shorter than 64 hops, or silent: there is nothing to compare with. 0 for hops under 2 ms,
        whose seams make a tone, not a buzz.

    References
    ----------
    Dau, Kollmeier & Kohlrausch (1997), JASA 102(5): the ear's modulation filters, one of which is compared
    with its neighbours here.
    """
    if check_real("hop_s", hop_s, least=0) < 0.002:
        return 0.0
    # Eight envelope values a hop, whatever the hop; the window stays shorter than the hop is long.
    params = StftParams.from_seconds(min(_BUZZ_WINDOW_S, hop_s), min(_BUZZ_HOP_S, hop_s / 8), sr)
    power = np.square(np.abs(stft(samples, params)))
    envelopes = np.sqrt(mel_filters(bands, params.n_fft, sr) @ power)
    rate_hz = sr / params.hop
    length = round(64 * hop_s * rate_hz)
    if envelopes.shape[1] < length:
        return 0.0
    slow = scipy.ndimage.uniform_filter1d(envelopes, max(1, round(0.25 * rate_hz)), axis=1)
    moving = np.divide(envelopes, slow, out=np.ones_like(slow), where=slow > slow.max() * 10 ** (-50 / 20)) - 1
    stretches = np.lib.stride_tricks.sliding_window_view(moving, length, axis=1)[:, :: length // 4]
    hz = (1 + np.arange(-13, 14) / 64) / hop_s
    # The hop need not be a whole number of envelope values, so its rate need not be a bin: no FFT.
    waves = np.exp(-2j * np.pi * np.outer(np.arange(length) / rate_hz, hz)) * _midpoint_hann(length)[:, None]
    spectrum = np.square(np.abs(stretches @ waves)).sum(axis=(0, 1))
    around = float(np.concatenate([spectrum[:10], spectrum[-10:]]).mean())
    return 10 * math.log10(float(spectrum[13]) / around) if around > 0 and spectrum[13] > 0 else 0.0


# --- attacks


def pre_echo_excess_db(samples: Floats, target: Floats, sr: int, attacks_s: ArrayLike) -> float:
    """``pre_x``: pre-echo at the target's attacks, in dB over the target's own, in the mean.

    0: attacks as clean as the target's; at most 2 is good; 10 is what white noise has; below 0: cleaner than the
    target. Pre-echo is the A-weighted power of 60 to 4 ms before an attack, relative to that of the 40 ms after it,
    cut off at 10 dB and at -30 dB, below which the attack masks what precedes it.

    Parameters
    ----------
    samples, target : (L,) each. sr : Hz. attacks_s : (A,) seconds, `onset_times` of the target.

    Returns
    -------
    float, between -40 and 40; 0 for a target without attacks. An attack after which the mosaic is silent has no
    pre-echo, and counts 0.

    References
    ----------
    Ours; Painter & Spanias (2000), "Perceptual coding of digital audio", Proc. IEEE 88(4), on pre-echo.
    """
    at = np.round(np.asarray(attacks_s, dtype=np.float64) * sr).astype(np.intp)
    if not at.size:
        return 0.0
    (ours, sounds), (theirs, _) = (_pre_echo_db(signal, sr, at) for signal in (samples, target))
    return float(np.where(sounds, ours - theirs, 0).mean())


def _pre_echo_db(samples: Floats, sr: int, at: NDArray[np.intp]) -> tuple[Floats, NDArray[np.bool_]]:
    """The level before each attack relative to the attack, (A,) dB, and whether there is one."""
    spectrum = scipy.fft.rfft(samples.astype(np.float64))
    hz = np.arange(len(spectrum)) * (sr / len(samples))
    power = np.square(scipy.fft.irfft(spectrum * np.sqrt(a_weights(hz)), len(samples)))
    # Filtering rounds, so what lies 100 dB under the loudest is no sound.
    sums = np.concatenate([[0], np.cumsum(np.where(power > 1e-10 * power.max(), power, 0))])
    before, after = _mean_between(sums, at, sr, -0.060, -0.004), _mean_between(sums, at, sr, 0.0, 0.040)
    sounds = after > 0
    ratio = np.divide(before, after, out=np.zeros_like(before), where=sounds)
    return 10 * np.log10(np.clip(ratio, 1e-3, 10)), sounds


def _mean_between(sums: Floats, at: NDArray[np.intp], sr: int, start_s: float, stop_s: float) -> Floats:
    start, stop = (np.clip(at + round(seconds * sr), 0, len(sums) - 1) for seconds in (start_s, stop_s))
    means: Floats = (sums[stop] - sums[start]) / np.maximum(stop - start, 1)
    return means


# --- clicks


def click_times(samples: Floats, sr: int, *, factor: float = 4.0) -> Floats:
    """Moments at which a signal breaks: ascending seconds.

    A click is a sample whose linear prediction from the 20 before it fails `factor` times worse than anywhere else
    within 25 ms, before *and* after (its own millisecond excepted). The attack of a note or drum does not count, since
    it goes on; nor do the pulses of a voice or a trumpet, since they recur; nor do the first and last millisecond.

    Parameters
    ----------
    samples : (L,). sr : Hz.

    References
    ----------
    Godsill & Rayner (1998), "Digital audio restoration", 5.3.1: clicks as outliers of an autoregressive model.
    """
    error = np.abs(prediction_error(samples, round(0.046 * sr)))
    near, far = round(0.001 * sr), round(0.025 * sr)
    peak = scipy.ndimage.maximum_filter1d(error, 2 * near + 1, mode="constant")
    # The largest of the far - near samples that end (or start) `near` away: a filter centred on the middle of them.
    width, shift = far - near, near + (far - near) // 2 + 1
    padded = np.pad(scipy.ndimage.maximum_filter1d(np.pad(error, width), width, mode="constant"), shift)
    first = shift + width
    before = padded[first - shift : first - shift + len(error)]
    after = padded[first + shift : first + shift + len(error)]
    # Below -80 dB, breaks are rounding.
    floor = 1e-4 * float(np.abs(samples).max(initial=0.0))
    broken = np.flatnonzero((error == peak) & (error > factor * np.maximum(before, after)) & (error > floor))
    return broken[(broken >= near) & (broken < len(error) - near)] / sr


def click_rate(samples: Floats, target_clicks_s: ArrayLike, sr: int) -> float:
    """``clicks``: clicks a second that the target does not have within 5 ms, 0 or more; below 0.1 is good.

    Clicks that the source brings along (an old record's) count: they are heard.

    Parameters
    ----------
    samples : (L,) the mosaic. target_clicks_s : (C,) ascending seconds, `click_times` of the target. sr : Hz.

    References
    ----------
    Godsill & Rayner (1998), see `click_times`.
    """
    clicks, excused = click_times(samples, sr), np.asarray(target_clicks_s, dtype=np.float64)
    own = np.abs(clicks[:, None] - excused).min(axis=1, initial=np.inf) > 0.005
    return int(own.sum()) * sr / len(samples)


def prediction_error(samples: Floats, block: int, *, order: int = 20) -> Floats:
    """What a linear predictor of `order` samples, fitted anew to every `block`, gets wrong: (L,) float64."""
    n_blocks = -(-len(samples) // block)
    padded = np.zeros((n_blocks + 2) * block + order)
    padded[block + order : block + order + len(samples)] = samples
    # Each block is fitted under a window of two, so that its model knows what comes and goes.
    fitted = np.lib.stride_tricks.sliding_window_view(padded[order:], 2 * block)[block // 2 :: block][:n_blocks]
    spectra = scipy.fft.rfft(
        fitted * _midpoint_hann(2 * block), scipy.fft.next_fast_len(2 * block + order, real=True), axis=1
    )
    correlations = scipy.fft.irfft(np.square(np.abs(spectra)), axis=1)[:, : order + 1]
    correlations[correlations[:, 0] <= 0, 0] = 1
    lags = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    # White noise 60 dB under the signal keeps the equations of a pure tone solvable.
    matrices = correlations[:, lags] + 1e-6 * correlations[:, :1, None] * np.eye(order)
    coefficients = np.linalg.solve(matrices, correlations[:, 1:, None])[:, :, 0]
    start = block + order
    error = padded[start : start + n_blocks * block].reshape(n_blocks, block).copy()
    for lag in range(1, order + 1):
        past = padded[start - lag : start - lag + n_blocks * block].reshape(n_blocks, block)
        error -= coefficients[:, lag - 1 : lag] * past
    return error.reshape(-1)[: len(samples)]


# --- levels


def dc_share(samples: Floats) -> float:
    """``dc``: the mean over the RMS, 0 to 1; below 0.01 is good, 0 for silence.

    References
    ----------
    Ours.
    """
    values = samples.astype(np.float64)
    size = math.sqrt(float(np.square(values).mean()))
    # Rounding can carry the ratio of a constant a hair above 1.
    return min(abs(float(values.mean())) / size, 1.0) if size > 0 else 0.0


def clipped_share(samples: Floats, *, run: int = 3) -> float:
    """``clipping``: share of the samples in flat tops, 0 to 1; 0 is good.

    A flat top is `run` samples or more within 1e-5 of the signal's own largest or smallest value, so that it does not
    matter at which level it was clipped, or turned down since. 0 for silence.

    Parameters
    ----------
    samples : (L,), at their own rate: resampling rounds flat tops off.

    References
    ----------
    Ours.
    """
    top = float(np.abs(samples).max(initial=0.0))
    if top == 0:
        return 0.0
    values = samples.astype(np.float64)
    count = 0
    for flat in (values >= (1 - 1e-5) * top, values <= -(1 - 1e-5) * top):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(np.int8)))
        lengths = edges[1::2] - edges[::2]
        count += int(lengths[lengths >= run].sum())
    return count / len(samples)


# --- shared


def _midpoint_hann(length: int) -> Floats:
    """A Hann window sampled between its points: nowhere 0, so that even one sample is heard."""
    window: Floats = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    return window
