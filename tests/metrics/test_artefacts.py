"""Artefacts are found where they were put, and nowhere else."""

import math

import numpy as np
import pytest
from kit_metrics import HOP_S, noise, sine

from smalti.dsp.stft import StftParams, istft, stft
from smalti.metrics.artefacts import (
    click_rate,
    click_times,
    clipped_share,
    dc_share,
    hop_buzz_db,
    inconsistency,
    model_error,
    pre_echo_excess_db,
    prediction_error,
)
from smalti.metrics.features import RATE


def test_the_transform_of_a_signal_is_consistent_and_noise_is_not(rng):
    grid, y = StftParams(64, 16), rng.standard_normal(2000)
    spectrum = stft(y, grid)
    assert inconsistency(spectrum, grid, length=2000) < 1e-12
    assert inconsistency(np.zeros_like(spectrum), grid, length=2000) == 0
    turned = np.abs(spectrum) * np.exp(2j * np.pi * rng.random(spectrum.shape))
    back = stft(istft(turned, grid, length=2000), grid)
    expected = math.sqrt((np.abs(back - turned) ** 2).sum() / (np.abs(turned) ** 2).sum())
    assert inconsistency(turned, grid, length=2000) == pytest.approx(expected)
    assert 0.5 < expected < 1
    assert inconsistency(-3 * turned, grid, length=2000) == pytest.approx(expected)


def test_the_model_error_is_what_remains_at_the_best_gain(rng):
    grid, y = StftParams(64, 16), rng.standard_normal(2000)
    model = np.abs(stft(y, grid))
    assert model_error(5 * y, model, grid) == pytest.approx(0, abs=1e-9)
    other = np.abs(stft(rng.standard_normal(2000), grid))
    error = model_error(y, other, grid)
    best = min(np.linalg.norm(g * model - other) for g in np.linspace(0, 2, 2001)) / np.linalg.norm(other)
    assert error == pytest.approx(best, abs=1e-5)
    assert model_error(y, np.zeros_like(model), grid) == model_error(np.zeros(2000), model, grid) == 1
    assert model_error(np.zeros(2000), np.zeros_like(model), grid) == 0
    with pytest.raises(ValueError, match=r"model has shape \(33, 3\) but the mosaic's STFT \(33, 126\)"):
        model_error(y, model[:, :3], grid)


@pytest.mark.parametrize("sr", [16000, 22050, 44100])
@pytest.mark.parametrize("hop_s", [0.0058, 0.0232, 0.05])
def test_buzz_is_heard_at_the_hop_rate_only(sr, hop_s):
    # Stretches of 64 hops: with few of them, the spectrum of noise is uneven.
    y = noise(0, 10 * sr)
    buzzing = y * (1 + 0.3 * sine(1 / hop_s, 10, sr))
    assert abs(hop_buzz_db(y, sr, hop_s)) < 2
    assert hop_buzz_db(buzzing, sr, hop_s) > 5
    assert hop_buzz_db(buzzing, sr, 1.5 * hop_s) < 3
    deeper = y * (1 + 0.6 * sine(1 / hop_s, 10, sr))
    assert hop_buzz_db(deeper, sr, hop_s) > hop_buzz_db(buzzing, sr, hop_s) + 3


def test_there_is_no_buzz_in_what_is_short_or_silent_or_finer_than_2_ms():
    assert hop_buzz_db(noise(0, 20_000), RATE, HOP_S) == 0
    assert hop_buzz_db(np.zeros(100_000), RATE, HOP_S) == 0
    assert hop_buzz_db(noise(0, 100_000), RATE, 0.0005) == 0
    assert hop_buzz_db(noise(0, 1), RATE, 0.01) == 0


def test_pre_echo_is_measured_in_decibels(drums):
    y, times = drums
    bed = y + 0.001 * noise(9, len(y))
    echo = bed.copy()
    for start in np.round(times * RATE).astype(int):
        echo[start - 1200 : start] += 0.1 * noise(start, 1200)
    own = pre_echo_excess_db(bed, bed, RATE, times)
    assert own == 0
    # A-weighted powers: white noise at 0.1 before, at 0.55 in the mean of 40 ms after; the target's is under the floor.
    assert pre_echo_excess_db(echo, bed, RATE, times) == pytest.approx(30 + 20 * np.log10(0.1 / 0.73), abs=1.5)
    assert pre_echo_excess_db(3 * echo, bed, RATE, times) == pytest.approx(pre_echo_excess_db(echo, bed, RATE, times))
    assert pre_echo_excess_db(bed, echo, RATE, times) == pytest.approx(-pre_echo_excess_db(echo, bed, RATE, times))
    late = np.concatenate([np.zeros(200), bed])[: len(y)]
    assert pre_echo_excess_db(late, bed, RATE, times) < 1


def test_pre_echo_without_attacks_or_sound_is_none(drums):
    y, times = drums
    assert pre_echo_excess_db(y, y, RATE, []) == 0
    assert pre_echo_excess_db(np.zeros_like(y), y, RATE, times) == 0
    assert math.isfinite(pre_echo_excess_db(y, y, RATE, [0.0, len(y) / RATE]))


@pytest.mark.parametrize("sr", [RATE, 44100])
@pytest.mark.parametrize("bed", ["tone", "noise", "silence"])
def test_clicks_are_found_where_they_are(bed, sr):
    n = 2 * sr
    y = {"tone": 0.3 * sine(330, 2, sr), "noise": 0.02 * noise(0, n), "silence": np.zeros(n)}[bed]
    assert click_times(y, sr).size == 0
    at = np.arange(1, 10) * (n // 10)
    clicked = y.copy()
    clicked[at] += 0.4
    np.testing.assert_allclose(click_times(clicked, sr), at / sr, atol=0.001)
    assert click_rate(clicked, [], sr) == pytest.approx(4.5)
    # Clicks that the target has, too, do not count.
    assert click_rate(clicked, at[:5] / sr + 0.003, sr) == pytest.approx(2)


def test_a_tone_that_jumps_clicks():
    y = sine(330, 2)
    y[RATE:] *= -1
    assert len(click_times(y, RATE)) == 1
    assert click_times(y, RATE) == pytest.approx(1.0, abs=0.001)


def test_drums_voices_and_fades_do_not_click(drums):
    assert click_times(drums[0], RATE).size == 0
    # A voice's pulses: one every 8 ms, each ringing.
    pulses = np.zeros(2 * RATE)
    pulses[1000::176] = 1
    ringing = np.exp(-np.arange(200) / 30) * np.sin(np.arange(200) * 0.2)
    voice = np.convolve(pulses, ringing)[: 2 * RATE] + 1e-4 * noise(0, 2 * RATE)
    assert click_times(voice, RATE).size <= 2
    assert click_times(np.hanning(RATE) * sine(500), RATE).size == 0


@pytest.mark.parametrize("y", [np.zeros(1000), np.ones(1), np.zeros(1), np.ones(5000)])
def test_clicks_of_next_to_nothing(y):
    assert len(click_times(y, RATE)) <= 1


def test_prediction_errors_are_those_of_the_best_predictor():
    # Autoregressive noise is predicted up to the noise that drives it.
    drive = noise(0, 8000)
    y = np.zeros(8000)
    for i in range(2, 8000):
        y[i] = 1.6 * y[i - 1] - 0.8 * y[i - 2] + drive[i]
    error = prediction_error(y, 1000, order=4)
    assert error.shape == y.shape
    assert np.std(error[1000:-1000]) == pytest.approx(1, abs=0.05)
    assert np.corrcoef(error[1000:-1000], drive[1000:-1000])[0, 1] > 0.98
    assert np.abs(prediction_error(sine(440), 1000)[2000:-2000]).max() < 0.02


def test_dc_is_the_mean_over_the_rms():
    assert dc_share(np.array([1.0, 1, 1])) == 1
    assert dc_share(np.array([1.0, -1])) == 0
    assert dc_share(np.array([3.0, 1])) == pytest.approx(2 / math.sqrt(5))
    assert dc_share(np.zeros(4)) == 0


def test_clipping_is_the_share_of_flat_tops():
    y = sine(100)
    assert clipped_share(y) == 0
    clipped = np.clip(y, -0.8, 0.8)
    expected = (np.abs(y) >= 0.8).mean()
    assert clipped_share(clipped) == pytest.approx(expected)
    assert clipped_share((0.1 * clipped).astype(np.float32)) == pytest.approx(expected)
    assert clipped_share(np.array([0.0, 1, 1, 0, -1, -1, -1, 0, 0.5, 0.5, 0.5])) == pytest.approx(3 / 11)
    assert clipped_share(np.zeros(10)) == 0
