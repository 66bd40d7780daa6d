"""Gains that bring a sound to a loudness, limit its peaks, or follow a contour: what they change and leave alone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from smalti.dsp.dynamics import (
    CEILING_DB,
    LOOK_AHEAD_S,
    MARGIN_DB,
    MOST_FOLLOWED_DB,
    MOST_LIMITED_DB,
    amplified,
    at_gain,
    contour_gains,
    follow_contour,
    limiter_gains,
    match_loudness,
)
from smalti.dsp.loudness import excess_db, integrated_loudness, loudness_contour, true_peak
from smalti.metrics.artefacts import click_times
from sounds import db, tone
from strategies import dtypes, seeds

SR = 16000


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
    # Within half a unit where the limiter suffices; `peak_gain_db` reports what is missing elsewhere.
    assert level.loudness == pytest.approx(wanted + level.peak_gain_db, abs=0.5 if level.limited_db else 0.05)
    if level.limited_db == 0:
        gained = 10 ** (level.gain_db / 20) * samples.astype(np.float64)
        np.testing.assert_allclose(level.samples, gained, rtol=8 * np.finfo(dtype).eps, atol=1e-37)
    else:
        assert peak_db > CEILING_DB - 0.2
    if level.peak_gain_db:
        assert level.limited_db == pytest.approx(-MOST_LIMITED_DB, abs=0.05)


def test_quiet_stretches_that_a_gain_lifts_over_the_gate_are_allowed_for():
    """Most of the sound lies below the gate of -70 LUFS, but counts once it is 40 dB louder."""
    samples = np.concatenate([tone(3, -62), tone(20, -69)])
    level = match_loudness(samples, SR, -23)
    assert integrated_loudness(level.samples, SR) == pytest.approx(-23, abs=0.1)


def test_safe_sounds_are_left_as_they_are_without_a_loudness(rng):
    samples = 0.05 * rng.standard_normal(SR)
    level = match_loudness(samples, SR, None)
    assert level.samples is samples
    assert (level.gain_db, level.peak_gain_db) == (0, 0)
    loud = match_loudness(1000 * samples, SR, None)
    assert loud.gain_db == loud.peak_gain_db < 0 == loud.limited_db
    assert CEILING_DB - 0.06 < db(true_peak(loud.samples, SR)) < CEILING_DB


@pytest.mark.parametrize("wanted", [-20, -math.inf, None])
@pytest.mark.parametrize("length", [1, 20000])
def test_silence_stays_silent(wanted, length):
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
    # 5 ms of looking ahead and 5 ms of smoothing; then 3 dB are released at 75 dB a second, in 40 ms.
    assert not gains[:90].any()
    assert (np.diff(gains[90:101]) <= 1e-12).all()
    assert gains[100] == pytest.approx(-3, abs=0.1)
    assert (np.diff(gains[106:]) >= -1e-12).all()
    assert gains[120] < -0.5
    assert not gains[155:].any()


def gain_beyond(samples, sr, excess_db):
    """The gain in dB at which the peaks of `samples` exceed the ceiling by so much."""
    return CEILING_DB - db(true_peak(samples, sr)) + excess_db


@pytest.mark.parametrize("sr", [8000, 44100, 192_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limited_peaks_reach_the_ceiling_and_other_samples_are_left(sr, dtype):
    samples = hits(sr, seconds=1).astype(dtype)
    level = at_gain(samples, sr, gain_beyond(samples, sr, 5))
    limited, gained = level.samples, amplified(samples, level.gain_db)
    assert limited.dtype == dtype
    assert level.peak_gain_db == 0
    assert level.limited_db == pytest.approx(-5, abs=0.2)
    assert CEILING_DB - 0.2 - MARGIN_DB < db(true_peak(limited, sr)) < CEILING_DB
    # All channels get one gain. It is 1 where no peak is near, and falls within a few milliseconds.
    eps = np.finfo(dtype).eps
    gains = np.divide(limited, gained, out=np.ones_like(gained), where=gained != 0)
    assert (gains <= 1 + 4 * eps).all()
    np.testing.assert_allclose(gains[0], gains[1], rtol=8 * eps)
    free = (limited == gained).all(axis=0)
    assert free.mean() > 0.3
    assert np.abs(np.diff(db(gains))).max() * sr < 2 * 5 / LOOK_AHEAD_S
    assert at_gain(limited, sr, 0.0).samples is limited


def test_sounds_under_the_ceiling_are_returned_as_they_are(rng):
    samples = 0.1 * rng.standard_normal((2, SR))
    assert at_gain(samples, SR, 0.0).samples is samples
    assert match_loudness(samples, SR, integrated_loudness(samples, SR)).samples is samples
    assert not limiter_gains(excess_db(samples, SR, CEILING_DB), SR).any()


@pytest.mark.parametrize("sr", [22050, 44100])
def test_limiting_drums_makes_no_click(sr):
    samples = hits(sr)
    level = at_gain(samples, sr, gain_beyond(samples, sr, MOST_LIMITED_DB))
    assert level.limited_db == pytest.approx(-MOST_LIMITED_DB, abs=0.1)
    assert len(click_times(samples[0], sr)) == len(click_times(level.samples[0], sr)) == 0


@pytest.mark.parametrize("short_db", [0.5, 2, 4, 5.5])
def test_loudness_is_reached_by_limiting_where_turning_down_would_not(short_db):
    samples = hits(22050)
    # So loud that peaks would exceed the ceiling by so much.
    wanted = integrated_loudness(samples, 22050) + CEILING_DB - db(true_peak(samples, 22050)) + short_db
    level = match_loudness(samples, 22050, wanted)
    assert -MOST_LIMITED_DB - 0.01 < level.limited_db < -short_db + 0.1
    assert level.loudness == pytest.approx(wanted, abs=0.5)
    assert level.true_peak_db < CEILING_DB


def test_where_six_decibels_of_limiting_fall_short_the_whole_is_turned_down_and_says_so():
    samples = hits(22050)
    wanted = integrated_loudness(samples, 22050) + CEILING_DB - db(true_peak(samples, 22050)) + 10
    level = match_loudness(samples, 22050, wanted)
    assert level.limited_db == pytest.approx(-MOST_LIMITED_DB, abs=0.05)
    assert level.peak_gain_db < -3
    assert level.loudness == pytest.approx(wanted + level.peak_gain_db, abs=1e-6)
    assert level.true_peak_db < CEILING_DB


@pytest.mark.parametrize("length", [1, 2, 7, 300])
def test_the_shortest_sounds_are_limited_too(rng, length):
    samples = rng.choice([-1.0, 1.0], length)
    level = match_loudness(samples, SR, 0)
    assert level.true_peak_db < CEILING_DB
    assert np.isfinite(level.samples).all()


# The slow contour


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
