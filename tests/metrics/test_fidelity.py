"""The measures of fidelity, against their sums, and against mir_eval where it computes the same."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit_metrics import noise

from smalti.dsp.stft import istft, stft
from smalti.metrics import measure
from smalti.metrics.features import GRID, RATE
from smalti.metrics.fidelity import (
    chroma_agreement,
    correlation,
    in_phase,
    kl_divergence,
    leak,
    log_mel_distance,
    matching_gain,
    onset_f_measure,
    raw_chroma_accuracy,
    raw_pitch_accuracy,
    spectral_convergence,
)
from strategies import seeds

magnitudes = st.builds(
    lambda seed, f, n: np.random.default_rng(seed).gamma(0.5, size=(f, n)), seeds, st.integers(1, 6), st.integers(1, 6)
)


@given(magnitudes, seeds)
def test_kl_and_convergence_are_their_sums(V, seed):
    Y = np.random.default_rng(seed).gamma(0.5, size=V.shape)
    g = V.sum() / Y.sum()
    floor = 1e-5 * V.max()
    kl = sum(
        (v + floor) * math.log((v + floor) / (g * y + floor)) - v + g * y for v, y in zip(V.flat, Y.flat, strict=True)
    )
    assert kl_divergence(V, Y) == pytest.approx(max(kl, 0) / V.sum(), abs=1e-9)
    assert spectral_convergence(V, Y) == pytest.approx(math.sqrt(((V - g * Y) ** 2).sum() / (V**2).sum()))
    for distance in (kl_divergence, spectral_convergence):
        assert distance(V, V) == pytest.approx(0, abs=1e-9)
        assert distance(V, 7 * Y) == pytest.approx(distance(V, Y))
        assert distance(V, Y) >= 0


def test_the_floor_of_kl_is_next_to_nothing_where_all_sounds(rng):
    V, Y = rng.uniform(0.5, 1.5, (2, 9, 9))
    g = V.sum() / Y.sum()
    assert kl_divergence(V, Y) == pytest.approx((V * np.log(V / (g * Y)) - V + g * Y).sum() / V.sum(), rel=1e-4)


def test_silence_is_finitely_far_away():
    V = np.abs(noise(0, 5, 4))
    assert matching_gain(V, np.zeros_like(V)) == 0
    assert spectral_convergence(V, np.zeros_like(V)) == 1
    assert 5 < kl_divergence(V, np.zeros_like(V)) < math.log(1e5)


def test_log_mel_distance_is_in_decibels_and_deaf_below_its_floor():
    mel = np.array([[1.0, 1e-3], [1e-9, 1e-8]])
    louder = mel * 10**0.3
    assert log_mel_distance(mel, mel) == 0
    # Two of four entries are heard, and differ by 3 dB.
    assert log_mel_distance(mel, louder) == pytest.approx(1.5)
    assert log_mel_distance(mel, np.zeros_like(mel)) == pytest.approx((70 + 40) / 4)


@given(seeds, st.integers(2, 9))
def test_chroma_agreement_is_above_the_mean_of_all_circular_shifts(seed, n):
    C, D = np.random.default_rng(seed).gamma(0.5, size=(2, 12, n)) + 0.01

    def mean_cosine(D):
        return np.mean([c @ d / np.linalg.norm(c) / np.linalg.norm(d) for c, d in zip(C.T, D.T, strict=True)])

    chance = np.mean([mean_cosine(np.roll(D, shift, axis=1)) for shift in range(n)])
    assert chroma_agreement(C, D) == pytest.approx((mean_cosine(D) - chance) / (1 - chance), abs=1e-9)
    assert chroma_agreement(C, C) == pytest.approx(1)
    assert chroma_agreement(C, D * np.arange(1, n + 1)) == pytest.approx(chroma_agreement(C, D))


def test_chroma_of_noise_is_no_better_than_chance(target, pair):
    numbers = [measure(noise(seed, len(target)), pair)["chroma_z"] for seed in range(3)]
    assert np.abs(numbers).max() < 0.05


def test_chroma_of_silence_and_of_one_chord():
    chord = np.tile(np.eye(12)[:, :1] + 0.1, 5)
    assert chroma_agreement(chord, np.zeros((12, 5))) == 0
    assert chroma_agreement(np.zeros((12, 5)), chord) == 0
    assert chroma_agreement(chord, chord) == pytest.approx(1)
    assert chroma_agreement(chord, np.roll(chord, 1, axis=0)) == pytest.approx(0, abs=1e-6)


@given(seeds, st.integers(2, 40))
def test_correlation_is_pearsons(seed, n):
    a, b = np.random.default_rng(seed).standard_normal((2, n))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)
    assert correlation(a, 3 * a + 2) == pytest.approx(1)


def test_a_still_envelope_correlates_only_with_an_equal_one():
    still, moving = np.full(10, -20.0), np.arange(10.0)
    assert correlation(still, still + 1e-5) == 1
    assert correlation(still, still + 1) == 0
    assert correlation(still, moving) == correlation(moving, still) == 0
    assert correlation(np.zeros(1), np.zeros(1)) == 1


times = st.lists(st.floats(0, 2), max_size=12).map(sorted)


@given(times, times, st.sampled_from([0.05, 0.2]))
def test_onset_f_measure_is_mir_evals(reference_s, estimated_s, window_s):
    import mir_eval

    reference_s, estimated_s = np.array(reference_s), np.array(estimated_s)
    if not reference_s.size or not estimated_s.size:
        # mir_eval warns, and gives 0 even where both agree that there is none.
        assert onset_f_measure(reference_s, estimated_s) == float(reference_s.size == estimated_s.size)
        return
    expected = mir_eval.onset.f_measure(reference_s, estimated_s, window=window_s)[0]
    assert onset_f_measure(reference_s, estimated_s, window_s=window_s) == pytest.approx(expected)


def test_an_onset_meets_one_other_at_most():
    assert onset_f_measure([1.0], [0.98, 1.02]) == pytest.approx(2 / 3)
    # Taking the nearest first would lose one.
    assert onset_f_measure([1.0, 1.04], [0.96, 1.01]) == 1


tracks = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.sampled_from([0.0, 110.0, 111.0, 114.0, 220.0, 226.0, 443.0]), min_size=n, max_size=n)] * 2
    )
)


@given(tracks)
def test_pitch_accuracies_are_mir_evals(pair_of_tracks):
    import mir_eval

    wanted, got = (np.array(track) for track in pair_of_tracks)
    if not wanted.any():
        assert raw_pitch_accuracy(wanted, got) == raw_chroma_accuracy(wanted, got) == 0
        return
    voicings = (wanted > 0).astype(float), (got > 0).astype(float)
    cents = [mir_eval.melody.hz2cents(track) for track in (wanted, got)]
    arguments = voicings[0], cents[0], voicings[1], cents[1]
    if not voicings[1].any():
        # mir_eval warns of this.
        assert raw_pitch_accuracy(wanted, got) == raw_chroma_accuracy(wanted, got) == 0
        return
    assert raw_pitch_accuracy(wanted, got) == pytest.approx(mir_eval.melody.raw_pitch_accuracy(*arguments))
    assert raw_chroma_accuracy(wanted, got) == pytest.approx(mir_eval.melody.raw_chroma_accuracy(*arguments))
    assert raw_chroma_accuracy(wanted, got) >= raw_pitch_accuracy(wanted, got)


def test_pitch_tracks_must_match():
    with pytest.raises(ValueError, match=r"target_f0 has shape \(3,\) and f0 \(2,\); pass two tracks"):
        raw_pitch_accuracy([1, 2, 3], [1, 2])
    for bad in (-1.0, np.nan):
        with pytest.raises(ValueError, match=r"f0 holds negative or non-finite values; pass Hz"):
            raw_chroma_accuracy([100.0, 100], [bad, 100])


def test_leak_is_the_weighted_coherence_above_chance(rng):
    T, Y = (rng.standard_normal((2, 6, 50)) + 1j * rng.standard_normal((2, 6, 50))) * np.arange(1, 7)[:, None]
    Y[3] = T[3] * 0.5
    top = bottom = 0.0
    for f in range(6):
        t2, y2 = sum(abs(T[f]) ** 2), sum(abs(Y[f]) ** 2)
        coherence = abs(sum(T[f] * Y[f].conj())) ** 2 / (t2 * y2)
        chance = 1.92 * sum(abs(T[f]) ** 2 * abs(Y[f]) ** 2) / (t2 * y2)
        top += t2 * (coherence - chance)
        bottom += t2 * (1 - chance)
    assert leak(T, Y) == pytest.approx(top / bottom, abs=2e-3)


def test_leak_of_independent_sounds_is_nothing_and_of_mixes_their_share():
    wanted, other = noise(0, 10 * RATE), noise(1, 10 * RATE)
    spectrum = stft(wanted, GRID)
    assert leak(spectrum, stft(other, GRID)) < 0.005
    for gain in (0.3, 1.0, 3.0):
        share = gain**2 / (1 + gain**2)
        assert leak(spectrum, stft(gain * wanted + other, GRID)) == pytest.approx(share, abs=0.02)
    # The target still counts if it is filtered, inverted and late.
    late = np.concatenate([np.zeros(40), -0.1 * np.diff(wanted)])[: len(wanted)]
    assert leak(spectrum, stft(late, GRID)) > 0.9


def test_in_phase_counts_the_target_s_waveform_and_no_likeness_of_it(target, mosaics):
    level = np.linalg.norm(target)
    of_grains = [mosaics[name].audio for name in ("classic", "plain")]
    # The target's spectral envelope on noise follows the target in time and frequency, but has no phase of it.
    shaped = istft(stft(noise(1, len(target)), GRID) * np.abs(stft(target, GRID)), GRID, length=len(target))
    for likeness in (*of_grains, shaped):
        likeness = likeness * level / np.linalg.norm(likeness)
        shares = [in_phase(target, (1 - share) * likeness + share * target) for share in (0, 0.1, 0.2, 0.5, 1)]
        assert shares[0] < 0.01 < 0.03 < shares[2]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1, abs=1e-6)
    # Neither level, nor sign, nor a delay of a millisecond matters.
    for copy in (1e-3 * target, -target):
        assert in_phase(target, copy) == pytest.approx(1, abs=1e-6)
    assert in_phase(target, np.roll(target, 20)) > 0.9
    assert in_phase(target, np.roll(target, 200)) < 0.1
    assert in_phase(target, mosaics["notebook"].audio) > 0.3


def test_in_phase_of_silence_is_nothing():
    y = noise(0, 3000)
    assert in_phase(y, np.zeros(3000)) == in_phase(np.zeros(3000), y) == 0


def test_leak_of_short_and_silent_sounds_is_nothing():
    y = noise(0, 3000)
    assert leak(stft(y[:1000], GRID)[:, :1], stft(noise(1, 1000), GRID)[:, :1]) == 0
    assert leak(stft(y, GRID), stft(np.zeros(3000), GRID)) == 0
    assert leak(stft(y, GRID), stft(noise(1, 3000), GRID)) < 0.3
