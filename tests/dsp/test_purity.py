"""The gains of `smalti.dsp.shaping.purity`: noise beside partials goes down, and all else is left alone."""

import numpy as np
import pytest

from smalti.dsp.bands import erb_filters
from smalti.dsp.shaping import (
    PURITY_MOST_DB,
    PURITY_OVER_DB,
    purity,
)
from smalti.dsp.stft import StftParams, stft
from sounds import noise

SR = 22050


F0, MELODY_HOP, LONG = 300.0, 512, StftParams(4096, 512)


def partials_of(f0=F0, seconds=2.0, partials=3, dtype=np.float64):
    t = np.arange(int(seconds * SR)) / SR
    return sum(0.1 * np.cos(2 * np.pi * n * f0 * t + n) for n in range(1, partials + 1)).astype(dtype)


def melody(length, *pitches):
    return np.tile(np.array(pitches, dtype=np.float64)[:, None], 1 + length // MELODY_HOP)


def standing_db(samples, f0=F0, partials=3):
    """Power of the first partials over that of what lies beside them, 30 to 50 Hz off, per bin, in dB."""
    power = np.square(np.abs(stft(samples, LONG)))[:, 20:-20].mean(axis=1)
    hz = np.arange(len(power)) * SR / LONG.n_fft
    number = np.rint(hz / f0)
    away = np.abs(hz - number * f0)
    near = (number >= 1) & (number <= partials)
    return 10 * np.log10(power[near & (away < 9)].mean() / power[near & (away > 30) & (away < 50)].mean())


def band_powers(samples, below_hz):
    """(B,) mean powers of bands 3 ERB wide, 3 ERB apart, from 100 Hz to a frequency."""
    bands = erb_filters(2048, SR, step=3.0)
    centres = (10 ** (3 * np.arange(len(bands)) / 21.4) - 1) / 0.00437
    power = np.square(np.abs(stft(samples, StftParams(2048, 512))))[:, 6:-6].mean(axis=1)
    return (bands @ power)[(centres > 100) & (centres < below_hz)]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_noise_beside_partials_goes_down_by_the_share_of_what_they_lack(share):
    noisy = 0.1 * noise(0, 4 * SR)
    # In white noise a partial's window holds the square of this trapezium. The rest of its band, a triangle as wide as
    # the ear's filter at 300 Hz to either side, holds the square of its complement.
    away = np.abs(np.linspace(-57, 57, 1001))
    kept, weight = np.clip(2 - away / (1.6 * SR / 2048), 0, 1), 1 - away / 57
    lacking = PURITY_OVER_DB - 10 * np.log10(np.sum(weight * kept**2) / np.sum(weight * (1 - kept) ** 2))
    out = purity(noisy, melody(len(noisy), F0), SR, hop=MELODY_HOP, share=share).apply(noisy)
    gained = standing_db(out, partials=1) - standing_db(noisy, partials=1)
    assert gained == pytest.approx(share * lacking, abs=2.0)


def test_a_larger_share_is_purer():
    mixed = partials_of() + 0.5 * noise(0, 2 * SR)
    shapes = [purity(mixed, melody(len(mixed), F0), SR, hop=MELODY_HOP, share=share) for share in (0.0, 0.25, 0.5, 1.0)]
    stands = [standing_db(shape.apply(mixed)) for shape in shapes]
    assert np.all(np.diff(stands) > 0.3)
    assert stands[2] - stands[0] > 2


def test_purity_turns_nothing_down_by_more_than_12_db_or_up_by_more():
    loud = 0.3 * noise(0, 2 * SR)
    shape = purity(loud, melody(len(loud), F0), SR, hop=MELODY_HOP, share=1.0)
    assert np.abs(shape.db).max() <= PURITY_MOST_DB + 1e-6
    assert shape.db.min() < -3


@pytest.mark.parametrize("level", [0.05, 0.3])
def test_bands_keep_their_power(level):
    mixed = partials_of(partials=10) + level * noise(0, 2 * SR)
    out = purity(mixed, melody(len(mixed), F0), SR, hop=MELODY_HOP, share=0.5).apply(mixed)
    # Gains of one band reach into the next, so single bands keep their power roughly, and broad ones well.
    assert np.abs(10 * np.log10(band_powers(out, 3000) / band_powers(mixed, 3000))).max() < 0.5
    assert abs(10 * np.log10(np.mean(out**2) / np.mean(mixed**2))) < 0.1


def test_partials_stay_where_they_are():
    mixed = partials_of() + 0.02 * noise(0, 2 * SR)
    out = purity(mixed, melody(len(mixed), F0), SR, hop=MELODY_HOP, share=1.0).apply(mixed)
    turned = np.exp(-2j * np.pi * F0 * np.arange(SR) / SR)
    phases = [np.angle(np.vdot(np.hanning(SR), samples[SR // 2 :][:SR] * turned)) for samples in (mixed, out)]
    # Gains are real, so phases move only because noise is removed.
    assert abs(phases[1] - phases[0]) < 0.02


def test_pure_sounds_are_left_alone():
    clean = partials_of(partials=12)
    out = purity(clean, melody(len(clean), F0), SR, hop=MELODY_HOP, share=1.0).apply(clean)
    np.testing.assert_allclose(out[2048:-2048], clean[2048:-2048], atol=1e-3)


@pytest.mark.parametrize("pitches", [(0.0,), (0.0, 0.0), (30.0,)])
def test_nothing_happens_without_a_pitch_or_where_partials_are_too_close_to_tell(pitches):
    mixed = 0.1 * noise(0, SR)
    shape = purity(mixed, melody(len(mixed), *pitches), SR, hop=MELODY_HOP, share=1.0)
    np.testing.assert_allclose(shape.db, 0, atol=1e-6)


def test_moments_at_which_a_voice_rests_are_left_alone():
    mixed = partials_of() + 0.1 * noise(0, 2 * SR)
    voice = melody(len(mixed), F0)
    voice[:, 43:] = 0
    shape = purity(mixed, voice, SR, hop=MELODY_HOP, share=1.0)
    assert np.abs(shape.db[:, :43]).max() > 3
    np.testing.assert_allclose(shape.db[:, 43:], 0, atol=1e-6)


def test_the_partials_of_every_voice_are_kept():
    # The voices are so near that both lie in one band.
    mixed = partials_of(300.0) + partials_of(350.0) + 0.02 * noise(0, 2 * SR)
    two_voices = purity(mixed, melody(len(mixed), 300.0, 350.0), SR, hop=MELODY_HOP, share=1.0).db.mean(axis=1)
    one_voice = purity(mixed, melody(len(mixed), 300.0, 0.0), SR, hop=MELODY_HOP, share=1.0).db.mean(axis=1)
    second = round(350 * 2048 / SR)
    assert two_voices[second] > -0.5
    assert one_voice[second] < -3


def test_purity_is_the_same_at_any_gain():
    mixed = partials_of() + 0.05 * noise(0, 2 * SR)
    gains = [
        purity(factor * mixed, melody(len(mixed), F0), SR, hop=MELODY_HOP, share=0.5).db for factor in (1.0, 1e-6, 1e4)
    ]
    np.testing.assert_allclose(gains[1], gains[0], atol=1e-6)
    np.testing.assert_allclose(gains[2], gains[0], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_silence_stays_silent_though_a_melody_is_followed(dtype):
    silent = np.zeros(SR, dtype)
    out = purity(silent, melody(SR, F0), SR, hop=MELODY_HOP, share=1.0).apply(silent)
    assert out.dtype == dtype
    assert not out.any()
    half = partials_of(seconds=1.0, dtype=dtype)
    half[SR // 2 :] = 0
    out = purity(half, melody(SR, F0), SR, hop=MELODY_HOP, share=1.0).apply(half)
    assert np.isfinite(out).all()
    assert np.abs(out[SR // 2 + 3072 :]).max() < 1e-6


def test_channels_are_made_as_pure_as_one_another():
    mixed = partials_of() + 0.05 * noise(0, 2 * SR)
    shape = purity(mixed, melody(len(mixed), F0), SR, hop=MELODY_HOP, share=0.5)
    out = shape.apply(np.stack([mixed, 0.25 * mixed]))
    np.testing.assert_allclose(out[1], 0.25 * out[0], atol=1e-12)


def test_a_short_melody_holds_its_last_pitch():
    mixed = partials_of() + 0.05 * noise(0, 2 * SR)
    whole = purity(mixed, melody(len(mixed), F0), SR, hop=MELODY_HOP, share=0.5).db
    np.testing.assert_array_equal(purity(mixed, np.array([[F0]]), SR, hop=MELODY_HOP, share=0.5).db, whole)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"share": 1.5}, ValueError, "share"),
        ({"hop": 0}, ValueError, "hop"),
        ({"melodies": np.full(3, F0)}, ValueError, "melodies has shape"),
        ({"melodies": np.zeros((1, 0))}, ValueError, "melodies has shape"),
    ],
)
def test_bad_arguments_of_purity_are_named(changed, error, message):
    arguments = {"melodies": np.full((1, 3), F0), "hop": MELODY_HOP, "share": 0.5} | changed
    with pytest.raises(error, match=message):
        purity(np.zeros(100), arguments["melodies"], SR, hop=arguments["hop"], share=arguments["share"])
