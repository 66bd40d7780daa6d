"""Fine colour and edges: what they bring out or take away, by how much, and what they must leave alone."""

import numpy as np
import pytest
import scipy.signal

from smalti.dsp.shaping import (
    EDGE_BACK_S,
    EDGE_REACH_S,
    FINE_MOST_DB,
    colour,
    edge_gains,
    fine_colour,
)
from sounds import noise
from strategies import DTYPES

SR = 22050
N = 3 * SR
# Partials of a pitched sound, all of one level but the third, which the mosaic has 12 dB lower.
PARTIALS_HZ, WEAK_HZ, WEAK_DB = (300.0, 600.0, 1200.0, 1800.0, 2400.0), 900.0, 12.0
MIDDLE = slice(N // 4, 3 * N // 4)


def tones(frequencies, sr=SR, seconds=3.0):
    times = np.arange(round(seconds * sr)) / sr
    return sum(np.sin(2 * np.pi * hz * times + hz) for hz in frequencies)


def level_db(y, hz, sr=SR):
    """The level of a tone in the middle of a sound."""
    middle = y[len(y) // 4 : 3 * len(y) // 4]
    middle = middle * np.hanning(len(middle))
    return 20 * np.log10(np.abs(np.exp(-2j * np.pi * hz * np.arange(len(middle)) / sr) @ middle))


def below(y, reference):
    return 20 * np.log10(np.linalg.norm(y - reference) / np.linalg.norm(reference))


@pytest.mark.parametrize("sr", [8000, SR, 48000])
def test_a_missing_partial_comes_up_and_nothing_else_moves(sr):
    target = tones((*PARTIALS_HZ, WEAK_HZ), sr)
    mosaic = tones(PARTIALS_HZ, sr) + 10 ** (-WEAK_DB / 20) * tones([WEAK_HZ], sr)
    changed = fine_colour(mosaic, target, sr, share=1.0).apply(mosaic)
    rise = level_db(changed, WEAK_HZ, sr) - level_db(mosaic, WEAK_HZ, sr)
    # What is broader than two critical bands stays, and a single partial has a quarter of that, too.
    assert 0.7 * WEAK_DB < rise < WEAK_DB
    for hz in PARTIALS_HZ:
        assert level_db(changed, hz, sr) - level_db(mosaic, hz, sr) == pytest.approx(0, abs=1.0)


def test_half_the_share_is_half_the_gain_in_decibels():
    target = tones((*PARTIALS_HZ, WEAK_HZ))
    mosaic = tones(PARTIALS_HZ) + 10 ** (-WEAK_DB / 20) * tones([WEAK_HZ])
    whole, half = (fine_colour(mosaic, target, SR, share=share).db for share in (1.0, 0.5))
    assert np.abs(whole).max() < FINE_MOST_DB
    np.testing.assert_allclose(half, whole / 2, atol=1e-4)
    assert not fine_colour(mosaic, target, SR, share=0.0).db.any()


def test_a_partial_too_loud_comes_down_by_three_tenths():
    mosaic = tones((*PARTIALS_HZ, WEAK_HZ))
    target = tones(PARTIALS_HZ) + 10 ** (-WEAK_DB / 20) * tones([WEAK_HZ])
    changed = fine_colour(mosaic, target, SR, share=1.0).apply(mosaic)
    fall = level_db(changed, WEAK_HZ) - level_db(mosaic, WEAK_HZ)
    assert -0.3 * WEAK_DB < fall < -0.7 * 0.3 * WEAK_DB


def test_a_broad_tilt_is_left_to_colour():
    mosaic = tones(np.arange(200, 6000, 100))
    # A first-order filter: 6 dB an octave.
    b, a = scipy.signal.butter(1, 1000, fs=SR)
    target = scipy.signal.lfilter(b, a, mosaic)
    gains = [shape(mosaic, target, SR, share=1.0) for shape in (fine_colour, colour)]
    changed, drawn = (shape.apply(mosaic) for shape in gains)
    for hz in range(1500, 4000, 500):
        assert level_db(changed, hz) - level_db(mosaic, hz) == pytest.approx(0, abs=1)
    moved = [level_db(drawn, hz) - level_db(mosaic, hz) for hz in (1500, 3500)]
    assert moved[0] - moved[1] > 5


def test_no_level_is_drawn_further_than_asked():
    target, mosaic = tones([500.0, 2000.0]), tones([500.0]) + 0.01 * tones([2000.0])
    free, capped = (colour(mosaic, target, SR, share=0.5, most_db=most_db).db for most_db in (12.0, 3.0))
    assert np.abs(free).max() > 6
    np.testing.assert_array_equal(capped, np.clip(free, -3, 3))
    with pytest.raises(ValueError, match="most_db is -1"):
        colour(mosaic, target, SR, share=0.5, most_db=-1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gain", [1.0, 1e-4])
def test_identical_sounds_pass_unchanged(dtype, gain):
    mosaic = (tones(PARTIALS_HZ) + noise(3, N)).astype(dtype)
    changed = fine_colour(mosaic, (gain * mosaic).astype(dtype), SR, share=1.0).apply(mosaic)
    assert changed.dtype == dtype
    assert below(changed, mosaic) < -100
    attacks = np.array([0.5, 1.0, 2.0])
    np.testing.assert_array_equal(edge_gains(mosaic, mosaic, SR, attacks), np.ones(N, dtype))


def test_silence_asks_for_nothing():
    y = tones(PARTIALS_HZ)
    for samples, target in ((np.zeros(N), y), (y, np.zeros(N)), (np.zeros(N), np.zeros(N))):
        shape = fine_colour(samples, target, SR, share=1.0)
        assert np.isfinite(shape.db).all()
        np.testing.assert_allclose(shape.apply(samples), samples, atol=1e-9)


def test_noise_is_not_made_a_resonant_filter():
    target = tones((*PARTIALS_HZ, WEAK_HZ))
    # White noise, and noise that falls with frequency as wind does.
    for samples in (noise(5, N), scipy.signal.lfilter([1], [1, -0.97], noise(6, N))):
        shape = fine_colour(samples, target, SR, share=1.0)
        gains = shape.bands.T @ shape.db[:, 20:-20]
        for hz in PARTIALS_HZ:
            assert gains[round(hz * shape.params.n_fft / SR)].mean() < 2


# --- edges

ATTACK_S = 1.0
ATTACK = round(ATTACK_S * SR)


def struck(before_db):
    """A sound struck at 1 s, with noise so far under it in the 60 ms before."""
    y = np.zeros(2 * SR)
    y[ATTACK:] = noise(1, SR) * np.exp(-np.arange(SR) / (0.2 * SR))
    echo = round(0.06 * SR)
    y[ATTACK - echo : ATTACK] = 10 ** (before_db / 20) * noise(2, echo)
    return y


def test_an_edge_takes_the_smear_and_not_the_attack():
    target, mosaic = struck(-50), struck(-10)
    gains = edge_gains(mosaic, target, SR, [ATTACK_S])
    # The last 2 ms do not count, and noise of 25 ms has a level only to some decibels.
    core = slice(ATTACK - round(0.025 * SR), ATTACK - round(0.002 * SR))
    np.testing.assert_allclose(20 * np.log10(gains[core]), -40, atol=2)
    assert (gains[ATTACK:] == 1).all()
    assert (gains[: ATTACK - round(EDGE_REACH_S * SR) - 1] == 1).all()
    # No click: the gain never jumps, and least of all at the attack.
    assert np.abs(np.diff(gains)).max() < 2.5 / (EDGE_BACK_S * SR)
    half = edge_gains(mosaic, target, SR, [ATTACK_S], share=0.5)
    np.testing.assert_allclose(np.log(half[core]), np.log(gains[core]) / 2, atol=1e-9)


def test_a_clean_attack_and_a_roll_are_left_alone():
    target = struck(-20)
    np.testing.assert_array_equal(edge_gains(struck(-50), target, SR, [ATTACK_S]), 1)
    # Within 20 ms of an attack its own sound is there, and must stay.
    roll = [ATTACK_S - 0.024, ATTACK_S]
    gains = edge_gains(struck(0), struck(-50), SR, roll)
    assert (gains[ATTACK - round(0.024 * SR) : ATTACK] == 1).all()


def test_an_attack_at_the_very_beginning_or_end_has_no_room_for_an_edge():
    y = noise(4, SR)
    np.testing.assert_array_equal(edge_gains(y, np.roll(y, 50), SR, [0.0, 0.003, 1.0]), 1)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_out_of_range_are_refused(share):
    for shape in (fine_colour, lambda *sounds, share: edge_gains(*sounds, [0.5], share=share)):
        with pytest.raises(ValueError, match="share is"):
            shape(noise(0, SR), noise(1, SR), SR, share=share)
