"""How well a mosaic follows its target, and whether it cheats.

V (F, N) are the target's magnitudes, Y (F, N) the mosaic's; every measure compares two arrays of one shape. The
target itself scores the best value of each.
"""

import numpy as np
from numpy.typing import ArrayLike

from smalti._checks import Floats, check_real
from smalti.dsp.bands import audible, decibels
from smalti.dsp.stft import Complexes, StftParams, stft
from smalti.metrics.features import euclidean_norm

# Levels further than this below the target's loudest do not count as heard.
LEVEL_SPAN_DB = 70.0

# --- spectra


def matching_gain(V: Floats, Y: Floats) -> float:
    """The gain at which `Y` has as much magnitude as `V` in all: sum V / sum Y; 0 if `Y` is silent."""
    total = float(Y.sum(dtype=np.float64))
    return float(V.sum(dtype=np.float64)) / total if total > 0 else 0.0


def kl_divergence(V: Floats, Y: Floats) -> float:
    """``kl``: how much of the target's spectrum is missing or in the wrong place.

    ``sum(V log(V / gY) - V + gY) / sum V`` with g of `matching_gain`. 0 is perfect, 1.5 poor. A constant 100 dB below
    the target's loudest bin is added to both, so that silence is far away (at most about 11) but not infinitely far.

    Parameters
    ----------
    V, Y : (F, N) magnitudes; V not silent.

    References
    ----------
    Lee & Seung (2001), NIPS 13; what Let it Bee minimises (Driedger, Prätzlich & Müller 2015), per unit of magnitude.
    """
    floor = V.dtype.type(1e-5 * float(V.max()))
    wanted, got = V + floor, Y * V.dtype.type(matching_gain(V, Y)) + floor
    terms = np.log(wanted / got) * wanted
    terms += got - wanted
    # Rounding can leave a perfect fit a hair below zero.
    return max(float(terms.sum(dtype=np.float64)) / float(V.sum(dtype=np.float64)), 0.0)


def spectral_convergence(V: Floats, Y: Floats) -> float:
    """``sc``: ``||V - gY|| / ||V||`` with g of `matching_gain`.

    0 is perfect; silence has 1, and loud sound in the wrong place more. The loudest partials decide it.

    Parameters
    ----------
    V, Y : (F, N) magnitudes; V not silent.

    References
    ----------
    Sturmel & Daudet (2011), "Signal reconstruction from STFT magnitude: a state of the art", DAFx, with a free gain.
    """
    error = V - V.dtype.type(matching_gain(V, Y)) * Y
    return euclidean_norm(error) / euclidean_norm(V)


def log_mel_distance(target_mel: Floats, mel: Floats, *, span_db: float = LEVEL_SPAN_DB) -> float:
    """``lmd``: mean absolute difference of the mel levels, in dB, both cut off `span_db` below the target's loudest.

    0 is perfect; 5 is close, 20 is another sound. Between 0 and about `span_db`.

    Parameters
    ----------
    target_mel, mel : (bands, N) powers, at one loudness (see `smalti.metrics.evaluate`); the target not silent.

    References
    ----------
    Gray & Markel (1976), "Distance measures for speech processing", IEEE TASSP 24(5): the log spectral distance, here
    of mel bands and with absolute differences.
    """
    loudest = float(target_mel.max())
    wanted, got = (decibels(power, span_db=span_db, loudest=loudest) for power in (target_mel, mel))
    return float(np.abs(wanted - got).mean(dtype=np.float64))


def chroma_agreement(target_chroma: Floats, chroma: Floats) -> float:
    """``chroma_z``: how well the harmony follows, 1 in full, 0 no better than chance; below 0 worse than that.

    ``(cos - chance) / (1 - chance)``: cos is the mean cosine between the frames' chroma vectors, over those frames
    that the target is heard in; chance is the mean of the same over all circular shifts of the mosaic in time. (The
    cosine alone gives white noise 0.65.) Where the target's harmony never changes, chance is nearly as good as
    anything, so every mosaic scores nearly 0 or below; only the target itself keeps 1.

    Parameters
    ----------
    target_chroma, chroma : (12, N), >= 0.

    References
    ----------
    Müller (2015), "Fundamentals of Music Processing", 3.1.2 and 4.2 (chroma, cosine similarity); the correction for
    chance is Cohen's (1960) kappa.
    """
    heard = audible(target_chroma.sum(axis=0))
    if not heard.any():
        return 0.0
    # The mosaic's silence has no harmony, least of all that of its rounding errors.
    wanted, got = _unit_columns(target_chroma)[:, heard], _unit_columns(chroma * audible(chroma.sum(axis=0)))
    agreement = float((wanted * got[:, heard]).sum()) / wanted.shape[1]
    # The mean of a product over all circular shifts is the product of the means.
    chance = float(wanted.mean(axis=1) @ got.mean(axis=1))
    return float(1 - (1 - agreement) / max(1 - chance, 1e-6))


def _unit_columns(vectors: Floats) -> Floats:
    doubles = vectors.astype(np.float64)
    lengths = np.linalg.norm(doubles, axis=0)
    units: Floats = np.divide(doubles, lengths, out=np.zeros_like(doubles), where=lengths > 0)
    return units


# --- envelopes and events


def correlation(a: Floats, b: Floats, *, still: float = 1e-3) -> float:
    """``onset_r`` of two onset-strength envelopes, ``loud_r`` of two loudness envelopes in dB: Pearson's r, -1 to 1.

    Parameters
    ----------
    a, b : (N,).
    still : an envelope that nowhere leaves its mean by this much does not move, and correlates with nothing: the
        result is then 0, or 1 if the other is the same within `still`.

    References
    ----------
    For the envelopes: Böck & Widmer (2013), see `smalti.metrics.features.onset_strength`; IEC 61672-1:2013, annex E,
    see `smalti.dsp.bands.a_weights`.
    """
    first, second = a.astype(np.float64), b.astype(np.float64)
    centred = [envelope - envelope.mean() for envelope in (first, second)]
    if any(np.abs(envelope).max() < still for envelope in centred):
        return float(np.abs(first - second).max() < still)
    return float(centred[0] @ centred[1]) / (euclidean_norm(centred[0]) * euclidean_norm(centred[1]))


def onset_f_measure(target_onsets: ArrayLike, onsets: ArrayLike, *, window_s: float = 0.05) -> float:
    """``onset_F``: harmonic mean of the shares of the target's onsets that are met and of the onsets that meet one.

    1 is perfect, 0 none. An onset meets at most one of the target's, at most `window_s` away, in the assignment that
    meets the most. As in mir_eval, but for two signals without any onset, which agree (mir_eval gives them 0).

    Parameters
    ----------
    target_onsets, onsets : ascending seconds.

    References
    ----------
    Raffel et al. (2014), "mir_eval: a transparent implementation of common MIR metrics", ISMIR.
    """
    wanted, got = (np.asarray(times, dtype=np.float64).tolist() for times in (target_onsets, onsets))
    if not wanted and not got:
        return 1.0
    met = i = j = 0
    # On a line the earliest pair that fits can always be kept: no later partner would leave more for the rest.
    while i < len(wanted) and j < len(got):
        if abs(wanted[i] - got[j]) <= window_s:
            met, i, j = met + 1, i + 1, j + 1
        elif wanted[i] < got[j]:
            i += 1
        else:
            j += 1
    return 2 * met / (len(wanted) + len(got))


# --- melody


def raw_pitch_accuracy(target_f0: ArrayLike, f0: ArrayLike, *, tolerance_cents: float = 50.0) -> float:
    """``rpa``: share of the target's voiced frames in which the mosaic has the same pitch, 0 to 1.

    Only for targets with one melody. Pitch trackers invent voicing in near-silence: set the target's track to 0 where
    it is not heard.

    Parameters
    ----------
    target_f0, f0 : (N,) Hz on the same frames; 0 where unvoiced. An unvoiced frame of `f0` is a wrong one.
    tolerance_cents : the difference must be smaller.

    Returns
    -------
    float; 0 if the target has no voiced frame.

    Raises
    ------
    ValueError : if lengths differ or a frequency is negative or not finite.

    References
    ----------
    Poliner et al. (2007), "Melody transcription from music audio", IEEE TASLP 15(4); as in mir_eval.
    """
    return _share_in_tune(*_cents_apart(target_f0, f0), tolerance_cents)


def raw_chroma_accuracy(target_f0: ArrayLike, f0: ArrayLike, *, tolerance_cents: float = 50.0) -> float:
    """``rca``: `raw_pitch_accuracy` with octave errors forgiven, 0 to 1; never less than it.

    References
    ----------
    Poliner et al. (2007), "Melody transcription from music audio", IEEE TASLP 15(4); as in mir_eval.
    """
    cents, voiced = _cents_apart(target_f0, f0)
    return _share_in_tune(cents - 1200 * np.floor(cents / 1200 + 0.5), voiced, tolerance_cents)


def _cents_apart(target_f0: ArrayLike, f0: ArrayLike) -> tuple[Floats, int]:
    """Differences in cents where both are voiced, and how many frames of the target are."""
    wanted, got = (np.asarray(track, dtype=np.float64) for track in (target_f0, f0))
    if wanted.shape != got.shape or wanted.ndim != 1:
        raise ValueError(
            f"target_f0 has shape {wanted.shape} and f0 {got.shape}; pass two tracks (N,) on the same frames"
        )
    for name, track in (("target_f0", wanted), ("f0", got)):
        if not (np.isfinite(track).all() and (track >= 0).all()):
            raise ValueError(f"{name} holds negative or non-finite values; pass Hz, and 0 where unvoiced")
    both_voiced = (wanted > 0) & (got > 0)
    return 1200 * np.log2(got[both_voiced] / wanted[both_voiced]), int(np.count_nonzero(wanted))


def _share_in_tune(cents: Floats, voiced: int, tolerance_cents: float) -> float:
    check_real("tolerance_cents", tolerance_cents, least=0)
    return int(np.count_nonzero(np.abs(cents) < tolerance_cents)) / voiced if voiced else 0.0


# --- cheating

# The grid and the delays, in samples at 22 050 Hz, of `in_phase`.
_PHASE_GRID, _MOST_DELAY = StftParams(1024, 512), 22
# Frames a quarter of a Hann window apart share this much, so this many count as one independent frame.
_FRAMES_PER_INDEPENDENT = 1 + 2 * (0.6592**2 + 0.1667**2)


def leak(target: Complexes, spectrum: Complexes) -> float:
    """``leak``: how much of the target itself, not its likeness, is in the mosaic: 0 none, 1 nothing else.

    The magnitude-squared coherence of the two in each frequency bin, weighted by the target's power there, less what
    chance would give (two sounds with these envelopes and random phases), as a share of what is left above chance.
    About .01 for grains of a source, .6 with the target's phase, .9 for a plain mix of the two recordings. A sound
    in tune with the target to a fraction of a hertz keeps its phase for long and is coherent, too, without any leak:
    judge an in-tune mosaic against a looped note.

    Parameters
    ----------
    target, spectrum : (F, N) STFTs on one grid with a hop of a quarter of a Hann window. In less than a few windows
        (N below about 10) nothing can be told from chance: the result is then 0.

    References
    ----------
    Carter, Knapp & Nuttall (1973), "Estimation of the magnitude-squared coherence function via overlapped fast
    Fourier transform processing", IEEE Trans. Audio Electroacoustics 21(4).
    """
    ours, theirs = (np.square(np.abs(X)).astype(np.float64) for X in (spectrum, target))
    powers = theirs.sum(axis=1)
    products = powers * ours.sum(axis=1)
    heard = products > 0
    if not heard.any():
        return 0.0
    cross = np.abs((target[heard] * spectrum[heard].conj()).sum(axis=1, dtype=np.complex128)) ** 2
    coherence = cross / products[heard]
    # With random phases the expected square of a sum is the sum of squares.
    chance = _FRAMES_PER_INDEPENDENT * (theirs[heard] * ours[heard]).sum(axis=1) / products[heard]
    chance = np.minimum(chance, 1)
    weights = powers[heard]
    room = float((weights * (1 - chance)).sum())
    if room <= 1e-9 * float(weights.sum()):
        return 0.0
    return min(max(float((weights * (coherence - chance)).sum()) / room, 0.0), 1.0)


def in_phase(target: Floats, samples: Floats) -> float:
    """``in_phase``: how much of the target's own waveform is in the mosaic: 0 none, 1 nothing else.

    In each frequency bin, the mean of the mosaic's spectrum times the target's conjugate one, as a share of both their
    lengths; then the real part of the sum over bins, weighted by the target's magnitudes, at the delay within 1 ms
    where it is largest; squared. Unlike `leak`, it asks for the target's phase at all frequencies at once. So filters
    that are in tune with the target do not count: mosaics of grains read up to .01, with a tenth of the target mixed
    in .02 to .07, with a fifth .07 to .2, with the target's phase .4 to .8.

    Parameters
    ----------
    target, samples : (L,) each, at 22 050 Hz; their levels and signs do not matter. A copy that comes more than 1 ms
        early or late does not count.

    References
    ----------
    Ours; the sum over frequencies is the cross-correlation of Knapp & Carter (1976), "The generalized correlation
    method for estimation of time delay", IEEE Trans. ASSP 24(4), each bin weighted by the target's magnitude.
    """
    theirs, ours = (stft(sound, _PHASE_GRID).astype(np.complex128) for sound in (target, samples))
    powers, lengths = (np.square(np.abs(X)).sum(axis=1) for X in (theirs, ours))
    products = np.sqrt(powers * lengths)
    heard = products > 0
    if not heard.any():
        return 0.0
    weights = np.sqrt(powers[heard])
    agreement = weights / weights.sum() * (ours[heard] * theirs[heard].conj()).sum(axis=1) / products[heard]
    radians = 2 * np.pi / _PHASE_GRID.n_fft * np.flatnonzero(heard)[:, None]
    delays = np.arange(-_MOST_DELAY, _MOST_DELAY + 1)
    # A copy turned upside down sounds as the copy does.
    most = float(np.abs((agreement[:, None] * np.exp(1j * radians * delays)).sum(axis=0).real).max())
    return min(most, 1.0) ** 2
