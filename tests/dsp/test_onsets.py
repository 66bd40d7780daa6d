"""Attacks: found where they were put, to the millisecond, and nowhere else."""

import numpy as np
import pytest

from smalti.dsp.onsets import onset_times

RATES = pytest.mark.parametrize("sr", [22050, 44100])
TIMES = 0.2 + 0.4 * np.arange(8)


def noise(seed, length):
    return np.random.default_rng(seed).standard_normal(length)


def put(times_s, hit, sr, seconds=3.5):
    """`hit(i, t)` at each of the times, t in seconds since it began."""
    y = np.zeros(round(seconds * sr))
    for i, start_s in enumerate(times_s):
        start = round(start_s * sr)
        length = min(round(0.3 * sr), len(y) - start)
        y[start : start + length] += hit(i, np.arange(length) / sr)
    return y


def burst(i, t):
    """A drum: noise that dies away within 0.3 s."""
    return noise(i, len(t)) * np.exp(-t / 0.06)


def pluck(i, t):
    """A string: partials that start at once and die away."""
    hz = 110 * 2 ** (i / 4)
    return sum(np.sin(2 * np.pi * k * hz * t) * np.exp(-t * (8 + 4 * k)) / k for k in range(1, 8))


def click(i, t):
    return (t < 0.001) * 1.0


@RATES
@pytest.mark.parametrize("hit", [burst, pluck, click])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_attacks_are_found_to_the_millisecond(hit, sr, dtype):
    found = onset_times(put(TIMES, hit, sr).astype(dtype), sr)
    assert found.dtype == np.float64
    assert len(found) == len(TIMES)
    # The envelope is a mean over 2 ms, which sees an attack 1 ms ahead.
    np.testing.assert_allclose(found, TIMES, atol=0.0015)


@RATES
@pytest.mark.parametrize("level", [0.01, 0.1])
def test_attacks_are_found_over_a_steady_sound(sr, level):
    # The beginning of the steady sound may be one more attack.
    y = put(TIMES, burst, sr) + level * noise(99, round(3.5 * sr))
    found = onset_times(y, sr)
    np.testing.assert_allclose(found[found > 0.1], TIMES, atol=0.003)
    assert (found[found <= 0.1] < 0.003).all()


@pytest.mark.parametrize("y", [np.zeros(22050), np.zeros(1), noise(0, 100), np.zeros(0), np.zeros(22050, np.float32)])
def test_silence_and_splinters_have_no_attacks(y):
    assert onset_times(y, 22050).size == 0


@pytest.mark.parametrize("sr", [1000, 8000, 96000])
def test_silence_and_splinters_have_no_attacks_at_any_rate(sr):
    assert onset_times(np.zeros(sr), sr).size == 0
    for length in range(0, 60, 7):
        assert onset_times(noise(length, length), sr).size <= 1


@RATES
def test_steady_and_swelling_sounds_have_no_attacks(sr):
    t = np.arange(3 * sr) / sr
    swell = np.minimum(1, t / 1.5) ** 2
    # All are cut off at the end, and the tone in the middle of a period.
    for y in (noise(1, 3 * sr), swell * noise(2, 3 * sr), np.sin(2 * np.pi * 330.1 * t) * swell):
        assert (onset_times(y, sr) < 0.01).all()


@RATES
@pytest.mark.parametrize(("step_db", "attacks"), [(2.5, 0), (3.5, 0), (5, 1), (12, 1)])
def test_a_rise_of_4_db_and_more_is_an_attack(step_db, attacks, sr):
    t = np.arange(sr) / sr
    phases = 2 * np.pi * np.random.default_rng(0).random(50)
    # A partial in every band, and no beats.
    hum = sum(np.sin(2 * np.pi * 200 * (k + 1) * t + phase) for k, phase in enumerate(phases))
    found = onset_times(hum * np.where(t < 0.5, 1, 10 ** (step_db / 20)), sr)
    # The beginning of the sound counts as no attack, or as one at 0 s.
    found = found[found > 0.05]
    assert len(found) == attacks
    # The envelope of a hum is never still.
    np.testing.assert_allclose(found, 0.5, atol=0.005)


@RATES
@pytest.mark.parametrize("gain", [2.0**-20, 1e-3, 0.3, 2.0**8, 1e4])
def test_the_gain_does_not_matter(gain, sr):
    y = put(TIMES, burst, sr) + 0.01 * noise(99, round(3.5 * sr))
    np.testing.assert_allclose(onset_times(gain * y, sr), onset_times(y, sr), atol=1.5 / sr)


@RATES
@pytest.mark.parametrize("apart_s", [0.06, 0.08, 0.12])
def test_every_hit_of_a_roll_is_an_attack(apart_s, sr):
    times = 0.5 + apart_s * np.arange(10)
    y = put(times, lambda i, t: noise(i, len(t)) * np.exp(-t / 0.015), sr, seconds=2.5)
    found = onset_times(y, sr)
    assert len(found) == len(times)
    np.testing.assert_allclose(found, times, atol=0.002)


@RATES
def test_attacks_nearer_than_50_ms_are_one(sr):
    times = np.array([0.5, 0.53, 1.5, 1.7])
    y = put(times, lambda i, t: noise(i, len(t)) * np.exp(-t / 0.008), sr, seconds=2.5)
    found = onset_times(y, sr)
    assert len(found) == 3
    np.testing.assert_allclose(found[1:], [1.5, 1.7], atol=0.002)


@RATES
@pytest.mark.parametrize(("level_db", "attacks"), [(-34, 8), (-38, 8), (-42, 7), (-46, 7)])
def test_a_rise_to_a_sound_40_db_under_the_loudest_is_no_attack(level_db, attacks, sr):
    # Whistles, and one hum, in bands so much narrower that even so far below it rises by 10 dB in half of them.
    def whistle(t):
        return np.sqrt(2) * np.sin(2 * np.pi * 9000 * t)

    def hum(t):
        phases = 2 * np.pi * np.random.default_rng(0).random(20)
        return sum(np.sin(2 * np.pi * 100 * (k + 1) * t + phase) for k, phase in enumerate(phases)) / np.sqrt(10)

    found = onset_times(put(TIMES, lambda i, t: 10 ** (level_db / 20) * hum(t) if i == 2 else whistle(t), sr), sr)
    assert (np.abs(found - TIMES[2]) < 0.1).sum() == attacks - 7
    for other in np.delete(TIMES, 2):
        assert np.abs(found - other).min() < 0.0015


@RATES
@pytest.mark.parametrize("hz", [100, 140, 220])
def test_a_low_voice_starts_at_its_first_pulse(hz, sr):
    # A pulse every 4 to 10 ms with next to nothing between, growing louder for 20 ms.
    def loud(t):
        return np.minimum(1, 0.6 + t / 0.05) * np.exp(-t / 0.1)

    def voice(i, t):
        return np.exp(-(t % (1 / hz)) / 0.0008) * np.sin(2 * np.pi * 1500 * (t % (1 / hz))) * loud(t)

    found = onset_times(put(TIMES, voice, sr), sr)
    assert len(found) == len(TIMES)
    np.testing.assert_allclose(found, TIMES, atol=0.0015)


@RATES
def test_a_gradual_attack_starts_at_15_per_cent_of_its_rise(sr):
    def level(t):
        return np.minimum(1, t / 0.02) * np.exp(-t / 0.06)

    # Random signs have no power of their own but that of their level.
    y = put(TIMES, lambda i, t: level(t) * np.sign(noise(i, len(t))), sr)
    t = np.arange(sr) / sr
    power = level(t) ** 2
    late = t[np.argmax(power > 0.15 * power.max())]
    assert 0.005 < late < 0.010
    # The envelope sees 1 ms to either side.
    np.testing.assert_allclose(onset_times(y, sr), TIMES + late, atol=0.0015)


@RATES
@pytest.mark.parametrize("shift", [1, 17, 64, 1000])
def test_attacks_move_with_the_sound(shift, sr):
    y = put(TIMES, burst, sr)
    later = np.concatenate([np.zeros(shift), y])
    np.testing.assert_allclose(onset_times(later, sr), onset_times(y, sr) + shift / sr, atol=0.0005)


def test_times_ascend_and_none_comes_twice():
    y = np.sign(np.sin(2 * np.pi * 8 * np.arange(3 * 22050) / 22050)).clip(0) * noise(5, 3 * 22050)
    found = onset_times(y, 22050)
    assert (np.diff(found) > 0.02).all()
    assert len(found) >= 20
    assert (found >= 0).all()
    assert (found < 3).all()


def test_the_sound_is_left_alone():
    y = put(TIMES, burst, 22050)
    before = y.copy()
    onset_times(y, 22050)
    np.testing.assert_array_equal(y, before)
