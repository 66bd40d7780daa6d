"""Loudness and true peaks against published numbers and other computations."""

import math

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from smalti.dsp.loudness import excess_db, gated_loudness, integrated_loudness, loudness_contour, step_powers, true_peak
from sounds import db, tone
from strategies import dtypes, seeds

SR = 16000


def steps(*stretches):
    """A tone of several levels: (seconds, dB of full scale) each."""
    return np.concatenate([tone(seconds, level_db) for seconds, level_db in stretches])


@pytest.mark.parametrize("sr", [8000, 16000, 44100, 48000, 96000])
def test_a_full_tone_in_one_channel_is_what_the_standard_says(sr):
    # ITU-R BS.1770-4: 0 dB of full scale at 997 Hz in one channel reads -3.01.
    assert integrated_loudness(tone(2, hz=997, sr=sr), sr) == pytest.approx(-3.01, abs=0.1)


@pytest.mark.parametrize(
    ("stretches", "expected"),
    [
        ([(20, -23)], -23),
        ([(20, -33)], -33),
        ([(10, -36), (60, -23), (10, -36)], -23),
        ([(10, -72), (10, -36), (60, -23), (10, -36), (10, -72)], -23),
        ([(20, -26), (20.1, -20), (20, -26)], -23),
    ],
)
def test_the_gates_are_those_of_the_broadcasters(stretches, expected):
    """EBU Tech 3341 (2016), table 1, cases 1 to 5: a tone in two channels, to 0.1 LU."""
    samples = steps(*stretches)
    assert integrated_loudness(np.stack([samples, samples]), SR) == pytest.approx(expected, abs=0.1)


SURROUND = np.array([-28, -28, -24, -30, -30])


def test_surround_is_weighed_as_the_broadcasters_do():
    """EBU Tech 3341, case 6: left and right, centre, two surrounds."""
    samples = np.stack([tone(20, level) for level in SURROUND])
    assert integrated_loudness(samples, SR) == pytest.approx(-23, abs=0.1)


def test_six_channels_are_those_five_and_a_bass_that_does_not_count(rng):
    five = np.stack([tone(2, level) for level in SURROUND])
    six = np.insert(five, 3, rng.standard_normal(five.shape[1]), axis=0)
    assert integrated_loudness(six, SR) == integrated_loudness(five, SR)
    eight = np.concatenate([six, rng.standard_normal((2, five.shape[1]))])
    assert integrated_loudness(eight, SR) == integrated_loudness(five, SR)


def test_four_channels_are_those_five_without_a_centre(rng):
    four = rng.standard_normal((4, SR))
    five = np.insert(four, 2, 0, axis=0)
    assert integrated_loudness(four, SR) == integrated_loudness(five, SR)


def test_a_second_equal_channel_adds_three_units():
    mono = tone(2, -20)
    apart = integrated_loudness(np.stack([mono, mono]), SR) - integrated_loudness(mono, SR)
    assert apart == pytest.approx(10 * np.log10(2), abs=1e-9)
    assert integrated_loudness(mono[None], SR) == integrated_loudness(mono, SR)


@given(st.floats(-110, 40), st.sampled_from([0.001, 0.05, 0.39, 0.4, 1.0]), dtypes, seeds)
def test_a_gain_in_db_changes_the_loudness_by_as_many_units(gain_db, seconds, dtype, seed):
    # Steady, so that the absolute gate takes all or nothing.
    noise = 0.1 * np.random.default_rng(seed).standard_normal(max(1, round(seconds * SR))).astype(dtype)
    louder = (noise * 10 ** (gain_db / 20)).astype(dtype)
    expected = integrated_loudness(noise, SR) + gain_db
    assert integrated_loudness(louder, SR) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.399])
def test_a_sound_shorter_than_a_block_is_as_loud_as_if_it_went_on(seconds):
    assert integrated_loudness(tone(seconds, -20), SR) == pytest.approx(integrated_loudness(tone(5, -20), SR), abs=0.2)


@pytest.mark.parametrize("sr", [1000, 3000, 6000])
def test_slow_rates_are_as_loud_as_fast_ones(sr):
    slow, fast = (integrated_loudness(tone(2, -20, hz=300, sr=rate), rate) for rate in (sr, 48000))
    assert slow == pytest.approx(fast, abs=0.1)


@pytest.mark.parametrize("length", [1, 100, 20000])
def test_silence_has_no_loudness_and_no_peak(length):
    assert integrated_loudness(np.zeros(length), SR) == -math.inf
    assert true_peak(np.zeros((2, length)), SR) == 0


@pytest.mark.parametrize("measure", [integrated_loudness, true_peak, loudness_contour])
def test_malformed_sounds_are_refused(measure):
    with pytest.raises(ValueError, match="samples holds 1 values that are NaN"):
        measure(np.array([0.0, np.nan]), SR)
    with pytest.raises(TypeError, match="int16"):
        measure(np.zeros(9, np.int16), SR)
    with pytest.raises(ValueError, match="sr is 10 Hz"):
        measure(np.zeros(9), 10)


# True peaks


def swelling(frequency, phase, length=4000):
    """A sine that begins and ends in silence, so that no edge adds a peak; `frequency` in cycles a sample."""
    return np.hanning(length) * np.sin(2 * np.pi * frequency * (np.arange(length) - length // 2) + phase)


@pytest.mark.parametrize("sr", [8000, 44100, 96000])
def test_a_peak_between_the_samples_is_found(sr):
    # A quarter of the rate, an eighth of a period late: no sample is above 0.71.
    wave = swelling(0.25, np.pi / 4)
    assert db(np.abs(wave).max()) < -3
    assert db(true_peak(wave, sr)) == pytest.approx(0, abs=0.01)


@given(st.floats(0.001, 0.4), st.floats(0, 7), st.sampled_from([8000, 22050, 44100, 96000]))
def test_sines_are_met_whatever_their_phase(frequency, phase, sr):
    wave = swelling(frequency, np.pi / 2) * np.cos(phase) + swelling(frequency, 0) * np.sin(phase)
    # The middle of the swell is its crest, but for a fast swell under a slow sine.
    dense = scipy.signal.resample(wave, 64 * len(wave))
    assert db(true_peak(wave, sr)) == pytest.approx(db(np.abs(dense).max()), abs=0.05)


@given(st.integers(1, 200), st.sampled_from([1000, 44100, 192000]), dtypes, seeds)
def test_no_true_peak_is_below_the_largest_sample(length, sr, dtype, seed):
    samples = np.random.default_rng(seed).uniform(-1, 1, (2, length)).astype(dtype)
    assert true_peak(samples, sr) >= np.abs(samples).max()
    assert true_peak(samples, sr) == max(true_peak(channel, sr) for channel in samples)


def test_where_samples_are_dense_they_are_the_curve():
    wave = swelling(0.25, np.pi / 4)
    assert true_peak(wave, 192_000) == np.abs(wave).max()


@pytest.mark.parametrize("at", [8191, 8192, 8190, 20000])
def test_a_peak_is_found_wherever_it_lies(at):
    """Also between two samples that belong to two blocks of the work."""
    wave = np.zeros(30000)
    wave[at - 200 : at + 200] = swelling(0.25, np.pi / 4, length=400)
    assert db(true_peak(wave, 48000)) == pytest.approx(0, abs=0.02)


@given(st.floats(0.001, 0.4), st.sampled_from([8000, 44100]), st.floats(0, 7))
def test_excess_counts_the_curve_between_samples(frequency, sr, phase):
    wave = swelling(frequency, phase)
    excess = excess_db(np.stack([0.1 * wave, wave]), sr, ceiling_db=-6)
    assert (excess >= db(np.maximum(np.abs(wave), 1e-200)) + 6 - 1e-9).all()
    # They differ by the parabola through the highest points.
    assert excess.max() == pytest.approx(db(true_peak(wave, sr)) + 6, abs=0.1)


# The slow contour


def test_the_contour_is_the_loudness_of_each_second():
    samples = np.concatenate([tone(3, -20), np.zeros(3 * SR), tone(3, -40)])
    contour = loudness_contour(samples, SR)
    assert len(contour) == 91
    full = -3.01
    np.testing.assert_allclose(contour[6:25], -20 + full, atol=0.1)
    np.testing.assert_allclose(contour[66:85], -40 + full, atol=0.1)
    # Half of the window lies before the beginning, or in the silence.
    np.testing.assert_allclose(contour[[0, 30]], -20 + full - 3.01, atol=0.3)
    assert (contour[37:54] < -90).all()


# Every rate, and every number of channels that weighs them in another way.
@pytest.mark.parametrize(("sr", "channels"), [(8000, 1), (16000, 5), (22050, 2), (44100, 1), (48000, 6)])
def test_loudness_in_stretches_is_that_of_the_whole(rng, sr, channels):
    for length_s, level in ((0.05, 0.1), (0.39, 0.1), (0.45, 0.1), (7.3, 0.1), (13.0, 1e-5)):
        rise = np.linspace(0.01, 1, round(length_s * sr))
        sound = level * rise * rng.standard_normal((channels, len(rise)))
        whole = integrated_loudness(sound, sr)
        # Below the gate two ways of measuring without one differ a little.
        assert gated_loudness(step_powers(sound, sr)) == pytest.approx(whole, abs=0.05 if level > 1e-4 else 0.5)
    cut = 40 * (sr // 10)
    parts = np.concatenate([step_powers(part, sr) for part in (sound[:, :cut], sound[:, cut:])])
    assert gated_loudness(parts) == pytest.approx(gated_loudness(step_powers(sound, sr)), abs=0.02)
    assert gated_loudness(step_powers(np.zeros((channels, sr)), sr)) == -math.inf
