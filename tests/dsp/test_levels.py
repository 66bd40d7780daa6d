"""Loudness and peaks against published numbers and other ways to them; what gains do and leave alone."""

import math

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from helpers import limit_peaks
from smalti.dsp.dynamics import (
    CEILING_DB,
    LOOK_AHEAD_S,
    MARGIN_DB,
    MOST_FOLLOWED_DB,
    MOST_LIMITED_DB,
    contour_gains,
    follow_contour,
    limiter_gains,
    match_loudness,
)
from smalti.dsp.loudness import excess_db, gated_loudness, integrated_loudness, loudness_contour, step_powers, true_peak
from smalti.metrics.artefacts import click_times
from strategies import dtypes, seeds

SR = 16000


def tone(seconds, level_db=0.0, hz=1000.0, sr=SR):
    return 10 ** (level_db / 20) * np.sin(2 * np.pi * hz * np.arange(round(seconds * sr)) / sr)


def steps(*stretches):
    """A tone of several levels: (seconds, dB of full scale) each."""
    return np.concatenate([tone(seconds, level_db) for seconds, level_db in stretches])


def db(ratio):
    return 20 * np.log10(ratio)


# Loudness


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
    one = steps(*stretches)
    assert integrated_loudness(np.stack([one, one]), SR) == pytest.approx(expected, abs=0.1)


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


def test_a_second_channel_of_the_same_adds_three():
    one = tone(2, -20)
    apart = integrated_loudness(np.stack([one, one]), SR) - integrated_loudness(one, SR)
    assert apart == pytest.approx(10 * np.log10(2), abs=1e-9)
    assert integrated_loudness(one[None], SR) == integrated_loudness(one, SR)


@given(st.floats(-110, 40), st.sampled_from([0.001, 0.05, 0.39, 0.4, 1.0]), dtypes, seeds)
def test_a_gain_is_as_many_units_of_loudness(gain_db, seconds, dtype, seed):
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
def test_what_is_no_sound_is_refused(measure):
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


# Gains


@settings(max_examples=50)
@given(st.floats(-60, 0), st.floats(-90, 30), st.integers(1, 3), dtypes, seeds)
def test_a_loudness_is_met_unless_peaks_forbid_it(wanted, level_db, channels, dtype, seed):
    rng = np.random.default_rng(seed)
    samples = (10 ** (level_db / 20) * rng.standard_normal((channels, SR))).astype(dtype)
    samples = samples[0] if channels == 1 else samples
    level = match_loudness(samples, SR, wanted)
    assert level.samples.dtype == dtype
    peak_db = db(true_peak(level.samples, SR))
    assert peak_db < CEILING_DB
    assert level.true_peak_db == pytest.approx(peak_db, abs=1e-3)
    assert level.loudness == pytest.approx(integrated_loudness(level.samples, SR), abs=1e-6)
    assert -MOST_LIMITED_DB - 0.01 < level.limited_db <= 0 >= level.peak_gain_db
    # Within half a unit where the limiter suffices, and what it does not is said.
    assert level.loudness == pytest.approx(wanted + level.peak_gain_db, abs=0.5 if level.limited_db else 0.05)
    if level.limited_db == 0:
        gained = 10 ** (level.gain_db / 20) * samples.astype(np.float64)
        np.testing.assert_allclose(level.samples, gained, rtol=8 * np.finfo(dtype).eps, atol=1e-37)
    else:
        assert peak_db > CEILING_DB - 0.2
    if level.peak_gain_db:
        assert level.limited_db == pytest.approx(-MOST_LIMITED_DB, abs=0.05)


def test_quiet_stretches_that_a_gain_lifts_over_the_gate_are_allowed_for():
    """At the gate of -70 LUFS most of it does not count; 40 dB louder it does, and the loudness is another."""
    samples = np.concatenate([tone(3, -62), tone(20, -69)])
    level = match_loudness(samples, SR, -23)
    assert integrated_loudness(level.samples, SR) == pytest.approx(-23, abs=0.1)


def test_as_is_nothing_is_done_to_what_is_safe(rng):
    samples = 0.05 * rng.standard_normal(SR)
    level = match_loudness(samples, SR, None)
    assert level.samples is samples
    assert (level.gain_db, level.peak_gain_db) == (0, 0)
    loud = match_loudness(1000 * samples, SR, None)
    assert loud.gain_db == loud.peak_gain_db < 0 == loud.limited_db
    assert CEILING_DB - 0.06 < db(true_peak(loud.samples, SR)) < CEILING_DB


@pytest.mark.parametrize("wanted", [-20, -math.inf, None])
@pytest.mark.parametrize("length", [1, 20000])
def test_silence_stays_silence(wanted, length):
    level = match_loudness(np.zeros((2, length)), SR, wanted)
    assert not level.samples.any()
    assert level[1:] == (0, 0, 0, -math.inf, -math.inf)


def test_a_silent_target_asks_for_nothing(rng):
    samples = 0.05 * rng.standard_normal(SR)
    assert match_loudness(samples, SR, -math.inf).samples is samples


@pytest.mark.parametrize("size", [1e-42, 1e-20, 1e9])
def test_the_quietest_and_the_loudest_stay_finite(rng, size):
    samples = (size * rng.standard_normal(SR).clip(-1, 1)).astype(np.float32)
    level = match_loudness(samples, SR, -20)
    assert np.isfinite(level.samples).all()
    assert level.loudness == pytest.approx(-20, abs=0.1)


# Peaks limited


def hits(sr, channels=2, *, seconds=3, peak=1.0):
    """Drum-like: bursts of noise with steep attacks, each of its own level, over a quiet bass tone."""
    rng, length = np.random.default_rng(5), round(seconds * sr)
    t = np.arange(length) / sr
    noise = np.exp(-(t % 0.25) / 0.03) * rng.uniform(0.3, 1, 99)[(t // 0.25).astype(int)] * rng.standard_normal(length)
    return peak * np.stack([0.2 / (1 + c) * noise + 0.1 * np.sin(2 * np.pi * 60 * t) for c in range(channels)])


excesses = st.lists(st.just(-3.0) | st.sampled_from(np.arange(-3, 6, 0.125)), min_size=1, max_size=200).map(np.array)


@given(excesses, st.sampled_from([1000, 4000, 4200]))
def test_the_limiter_takes_off_what_exceeds_and_no_more_than_that(excess, sr):
    gains = limiter_gains(excess, sr)
    assert (gains <= -np.maximum(excess, 0)).all()
    assert gains.min() >= -max(0.0, excess.max()) - 1e-9
    reach = round(LOOK_AHEAD_S * sr)
    inside = slice(reach, len(excess) - reach)
    np.testing.assert_allclose(gains[inside], oracles.limiter_gains(excess, sr)[inside], rtol=0, atol=1e-9)


def test_one_peak_shows_the_limiter_at_a_glance():
    sr, excess = 1000, np.full(300, -1.0)
    excess[100] = 3.0
    gains = limiter_gains(excess, sr)
    # 5 ms ahead, and as many of smoothing; 3 dB at 75 dB a second are 40 ms after them.
    assert not gains[:90].any()
    assert (np.diff(gains[90:101]) <= 1e-12).all()
    assert gains[100] == pytest.approx(-3, abs=0.1)
    assert (np.diff(gains[106:]) >= -1e-12).all()
    assert gains[120] < -0.5
    assert not gains[155:].any()


@pytest.mark.parametrize("sr", [8000, 44100, 192_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limited_peaks_reach_the_ceiling_and_what_needs_nothing_is_left(sr, dtype):
    samples = hits(sr, seconds=1).astype(dtype)
    ceiling_db = db(true_peak(samples, sr)) - 5
    limited, gains_db = limit_peaks(samples, sr, ceiling_db=ceiling_db)
    assert limited.dtype == dtype
    assert ceiling_db - 0.2 < db(true_peak(limited, sr)) < ceiling_db + MARGIN_DB
    # One gain for all channels, 1 where nothing is near a peak; a few milliseconds is all it takes to fall.
    assert (gains_db <= 0).all()
    np.testing.assert_allclose(limited, samples * 10 ** (gains_db / 20), rtol=4 * np.finfo(dtype).eps)
    free = gains_db == 0
    assert free.mean() > 0.3
    np.testing.assert_array_equal(limited[:, free], samples[:, free])
    assert np.abs(np.diff(gains_db)).max() * sr < 2 * 5 / LOOK_AHEAD_S
    again, _ = limit_peaks(samples, sr, ceiling_db=ceiling_db)
    np.testing.assert_array_equal(again, limited)


def test_what_is_under_the_ceiling_is_returned_as_it_is(rng):
    samples = 0.1 * rng.standard_normal((2, SR))
    limited, gains_db = limit_peaks(samples, SR)
    assert limited is samples
    assert gains_db.shape == (SR,)
    assert not gains_db.any()


@given(st.floats(0.001, 0.4), st.sampled_from([8000, 44100]), st.floats(0, 7))
def test_excess_counts_the_curve_between_samples(frequency, sr, phase):
    wave = swelling(frequency, phase)
    excess = excess_db(np.stack([0.1 * wave, wave]), sr, ceiling_db=-6)
    assert (excess >= db(np.maximum(np.abs(wave), 1e-200)) + 6 - 1e-9).all()
    # But for the parabola through the highest points.
    assert excess.max() == pytest.approx(db(true_peak(wave, sr)) + 6, abs=0.1)


@pytest.mark.parametrize("sr", [22050, 44100])
def test_limiting_drums_makes_no_click(sr):
    samples = hits(sr)
    limited, gains_db = limit_peaks(samples, sr, ceiling_db=db(true_peak(samples, sr)) - 6)
    assert gains_db.min() == pytest.approx(-6, abs=0.1)
    assert len(click_times(samples[0], sr)) == len(click_times(limited[0], sr)) == 0


@pytest.mark.parametrize("short_db", [0.5, 2, 4, 5.5])
def test_loudness_is_reached_by_limiting_where_turning_down_would_not(short_db):
    samples = hits(22050)
    # So loud that peaks would exceed the ceiling by so much.
    wanted = integrated_loudness(samples, 22050) + CEILING_DB - db(true_peak(samples, 22050)) + short_db
    level = match_loudness(samples, 22050, wanted)
    assert -MOST_LIMITED_DB - 0.01 < level.limited_db < -short_db + 0.1
    assert level.loudness == pytest.approx(wanted, abs=0.5)
    assert level.true_peak_db < CEILING_DB


def test_what_six_decibels_of_limiting_do_not_reach_is_turned_down_and_said():
    samples = hits(22050)
    wanted = integrated_loudness(samples, 22050) + CEILING_DB - db(true_peak(samples, 22050)) + 10
    level = match_loudness(samples, 22050, wanted)
    assert level.limited_db == pytest.approx(-MOST_LIMITED_DB, abs=0.05)
    assert level.peak_gain_db < -3
    assert level.loudness == pytest.approx(wanted + level.peak_gain_db, abs=1e-6)
    assert level.true_peak_db < CEILING_DB


@pytest.mark.parametrize("length", [1, 2, 7, 300])
def test_the_shortest_are_limited_too(rng, length):
    samples = rng.choice([-1.0, 1.0], length)
    level = match_loudness(samples, SR, 0)
    assert level.true_peak_db < CEILING_DB
    assert np.isfinite(level.samples).all()


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


contours = st.lists(st.tuples(*[st.one_of(st.just(-math.inf), st.floats(-90, 0))] * 2), min_size=1, max_size=40).map(
    lambda pairs: tuple(np.array(pairs, dtype=float).T)
)


@given(contours, st.sampled_from([0.0, 0.3, 1.0]))
def test_the_gains_are_the_sum_of_the_docstring(pair, share):
    gains = contour_gains(*pair, share)
    np.testing.assert_allclose(gains, oracles.contour_gains(*pair, share), rtol=0, atol=1e-9)
    assert np.abs(gains).max() <= share * MOST_FOLLOWED_DB + 1e-9


@given(contours)
def test_silence_is_never_lifted(pair):
    own = pair[1]
    silent = ~(own > own.max() - 60)
    assert (contour_gains(*pair, 1.0)[silent] <= 0).all()


def test_a_contour_of_the_same_shape_is_left_alone(rng):
    own = rng.uniform(-40, -20, 50)
    np.testing.assert_allclose(contour_gains(own + 17, own, 1.0), 0, atol=1e-12)


def bursts(levels_db, seed):
    """A burst of noise every half second, of the levels given: onsets and a slow contour."""
    rng = np.random.default_rng(seed)
    shape = np.exp(-np.arange(SR // 2) / (0.05 * SR))
    return np.concatenate([10 ** (level / 20) * shape * rng.standard_normal(SR // 2) for level in levels_db])


def test_following_brings_the_contours_nearer_and_leaves_onsets_where_they_are():
    swell = -30 + 8 * np.sin(2 * np.pi * np.arange(24) / 12)
    target, own = bursts(swell, seed=1), bursts(np.full(24, -30.0), seed=2)
    wanted = loudness_contour(target, SR)

    def apart(samples):
        difference = loudness_contour(samples, SR) - wanted
        return np.std(difference[5:-5])

    half, full = (follow_contour(own, target, SR, share) for share in (0.5, 1.0))
    assert apart(full) < 0.3 * apart(own)
    assert apart(full) < apart(half) < apart(own)
    np.testing.assert_array_equal(follow_contour(own, target, SR, 0.0), own)

    def onsets(samples):
        """Where the envelope rises fastest in each half second."""
        envelope = np.convolve(np.abs(samples), np.ones(80) / 80, mode="same")
        rises = np.diff(np.log(envelope + 1e-9), prepend=0).reshape(24, -1)[1:]
        return rises.argmax(axis=1)

    assert np.abs(onsets(full) - onsets(own)).max() <= 8
    # A smooth gain, slower than 40 dB a second.
    gain_db = db(np.divide(full, own, out=np.ones_like(own), where=own != 0))
    assert np.abs(np.diff(gain_db)).max() * SR < 40


def test_following_has_one_gain_for_all_channels_and_lifts_no_silence(rng):
    target = bursts(np.linspace(-50, -10, 12), seed=1)
    own = np.stack([bursts(np.full(12, -30.0), seed=2), bursts(np.full(12, -20.0), seed=3)])
    own[:, 3 * SR : 5 * SR] *= 1e-5
    followed = follow_contour(own, np.stack([target, target]), SR, 1.0)
    np.testing.assert_allclose(followed[0] * own[1], followed[1] * own[0], rtol=0, atol=1e-12)
    quiet = slice(round(3.6 * SR), round(4.4 * SR))
    assert np.abs(followed[:, quiet]).max() <= np.abs(own[:, quiet]).max()
    assert followed.dtype == own.dtype


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
