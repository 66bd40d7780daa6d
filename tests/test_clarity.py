"""How clear frames are, and tracks that follow glides, against sounds whose pitch is known."""

import numpy as np
import pytest

from smalti.pitch import clarity, clear, glides
from smalti.stft import StftParams, stft

SR, PARAMS = 22050, StftParams(3072, 512)


def spectra(samples):
    return np.abs(stft(samples, PARAMS))[:, 8:-8]


def harmonic(f0, seconds=2.0):
    t = np.arange(int(seconds * SR)) / SR
    return sum(np.cos(2 * np.pi * n * f0 * t + n) / n for n in range(1, int(SR / 2 / f0)))


def literal(magnitudes, f0, sr):
    """The share, bin by bin."""
    power, out = magnitudes.astype(np.float64) ** 2, np.zeros(len(f0))
    n_bins = len(power)
    bin_hz = sr / 2 / (n_bins - 1)
    lowest = int(50 / bin_hz)
    for k, pitch in enumerate(f0):
        of_harmonic = np.zeros(n_bins, bool)
        number = 1
        while pitch > 0 and number * pitch < sr / 2:
            centre = number * pitch / bin_hz
            reach = max(2.2, 0.006 * centre)
            of_harmonic[max(0, int(np.rint(centre - reach))) : int(np.rint(centre + reach)) + 1] = True
            number += 1
        of_harmonic[:lowest] = False
        total, chance = power[lowest:, k].sum(), of_harmonic.sum() / (n_bins - lowest)
        if pitch > 0 and total > 0:
            out[k] = (power[of_harmonic, k].sum() / total - chance) / (1 - chance)
    return out


def test_it_is_the_share_counted_bin_by_bin():
    rng = np.random.default_rng(0)
    magnitudes = rng.random((1025, 40)).astype(np.float32)
    f0 = np.where(np.arange(40) % 5 == 0, 0, rng.uniform(60, 9000, 40))
    np.testing.assert_allclose(clarity(magnitudes, f0, SR), literal(magnitudes, f0, SR), atol=1e-9)


def test_a_harmonic_sound_is_clear_and_noise_is_not():
    magnitudes = spectra(harmonic(300.0))
    assert clarity(magnitudes, np.full(magnitudes.shape[1], 300.0), SR).min() > 0.95
    noise = spectra(np.random.default_rng(0).standard_normal(2 * SR))
    assert abs(clarity(noise, np.full(noise.shape[1], 300.0), SR).mean()) < 0.05


def test_at_equal_power_half_is_clear():
    tone, noise = harmonic(300.0), np.random.default_rng(0).standard_normal(2 * SR)
    mixed = spectra(tone / np.sqrt(np.mean(tone**2)) + noise)
    assert clarity(mixed, np.full(mixed.shape[1], 300.0), SR).mean() == pytest.approx(0.5, abs=0.05)


def test_levels_do_not_matter_and_silence_has_none():
    magnitudes = spectra(harmonic(300.0))
    f0 = np.full(magnitudes.shape[1], 300.0)
    np.testing.assert_allclose(clarity(1e-6 * magnitudes, f0, SR), clarity(magnitudes, f0, SR), atol=1e-9)
    np.testing.assert_array_equal(clarity(0 * magnitudes, f0, SR), 0)
    np.testing.assert_array_equal(clarity(magnitudes, 0 * f0, SR), 0)
    assert clarity(magnitudes[:, :0], f0[:0], SR).shape == (0,)


def test_a_tenth_is_always_clear_enough():
    values = np.random.default_rng(0).uniform(0, 1, 200)
    heard = np.arange(200) % 2 == 0
    kept = clear(values, heard)
    assert kept[heard].mean() >= 0.1
    assert not kept[values < 0.3].any()
    assert clear(values, np.zeros(200, bool)).all()
    assert clear(np.full(10, 0.3), np.ones(10, bool)).all()


def test_a_chirp_is_followed_between_the_frames_of_its_track():
    t = np.arange(SR) / SR
    # An octave and a half in a second, up and down four times: 12 octaves a second.
    octaves = 1.5 * np.abs((4 * t) % 2 - 1)
    hz = 2500 * 2**octaves
    samples = np.sin(2 * np.pi * np.cumsum(hz) / SR)
    coarse = hz[::512]
    fine = glides(samples, coarse, SR, hop=512, per_hop=8)
    assert fine.shape == (8 * len(coarse),)
    wanted = hz[np.minimum(np.arange(len(fine)) * 64, SR - 1)]
    cents = 1200 * np.abs(np.log2(fine / wanted))[8:-16]
    assert np.median(cents) < 15
    assert np.quantile(cents, 0.9) < 40


def test_low_pitches_and_none_are_the_track_s_own():
    samples = np.random.default_rng(0).standard_normal(SR).astype(np.float32)
    coarse = np.full(44, 300.0)
    coarse[20:] = 0
    fine = glides(samples, coarse, SR, hop=512, per_hop=4)
    np.testing.assert_allclose(fine[:76], 300.0)
    assert not fine[84:].any()
    np.testing.assert_array_equal(glides(samples, 0 * coarse, SR, hop=512, per_hop=4), 0)


def test_silence_keeps_the_track():
    fine = glides(np.zeros(SR), np.full(44, 3000.0), SR, hop=512, per_hop=4)
    np.testing.assert_allclose(fine, 3000.0)


def test_a_hop_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="divide"):
        glides(np.zeros(SR), np.full(44, 3000.0), SR, hop=512, per_hop=5)
