"""Shifted grains against tones whose every partial is known: pitch, levels, cleanness, attacks."""

import numpy as np
import pytest

from smalti.dsp.bands import harmonic_envelope
from smalti.dsp.pitch_shift import shift_grain, tape_grain

SR, HOP, LENGTH = 22050, 256, 12000
N_GRID = LENGTH // HOP + 2
TONES = [(80, 2.0), (80, 8.0), (80, 0.5), (200, 0.25), (200, 1.06), (330, 3.0), (440, 0.94), (440, 0.5), (440, 1.5),
         (1046, 0.287), (1046, 2.0), (1046, 4.0), (2000, 0.125), (2000, 0.7), (2000, 2.0)]  # fmt: skip


def hill(hz):
    """Amplitudes of a smooth spectral envelope: 6 dB an octave, on an axis that starts at 500 Hz."""
    return 1 / (1 + np.asarray(hz) / 500)


def tone(f0, length=LENGTH, envelope=hill, start=0):
    """A harmonic tone up to 96 % of half the rate, of (scattered) known phases; silent before `start`."""
    numbers = np.arange(1, int(0.48 * SR / f0) + 1)
    t = np.arange(length) / SR
    phases = 2 * np.pi * f0 * numbers[:, None] * t + (1.3 * numbers**2)[:, None]
    return (envelope(numbers * f0)[:, None] * np.cos(phases)).sum(axis=0) * (np.arange(length) >= start)


def shifted(samples, ratios, f0, *, length=LENGTH, begin=0, **options):
    grid = np.broadcast_to(ratios, N_GRID), np.broadcast_to(f0, N_GRID)
    return shift_grain(samples, SR, begin=begin, length=length, ratios=grid[0], f0=grid[1], hop=HOP, **options)


def slow_off_hz(sound, hz):
    """By how many Hz a partial is off, on average over the middle half: from one window's phase to the next one's."""
    n = len(sound) // 3
    window = np.hanning(n) * np.exp(-2j * np.pi * hz * np.arange(n) / SR)
    step = n // 2
    phases = [np.angle(window @ sound[first : first + n]) for first in (n - step // 2, n + step - step // 2)]
    off_cycles = (phases[1] - phases[0]) / (2 * np.pi) - hz * step / SR
    return (off_cycles - np.rint(off_cycles)) * SR / step


def fitted(sound, f0, count):
    """Amplitudes of `count` partials by least squares over the middle half, and what they leave over, in dB."""
    middle = slice(len(sound) // 4, 3 * len(sound) // 4)
    t = np.arange(len(sound))[middle] / SR
    f0 = f0 + slow_off_hz(sound, f0)
    angles = 2 * np.pi * f0 * np.arange(1, count + 1) * t[:, None]
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    window = np.hanning(len(t))
    weights = np.linalg.lstsq(waves * window[:, None], sound[middle] * window, rcond=None)[0]
    rest = (sound[middle] - waves @ weights) * window
    left_db = 10 * np.log10(np.square(rest).sum() / np.square(sound[middle] * window).sum())
    return np.hypot(*weights.reshape(2, count)), left_db


def cents_off(sound, phase, hz):
    """How many cents a partial is off its expected (L,) phase, at each sample but those near the ends."""
    n = 2 * round(max(0.015, 4 / hz.min()) * SR)
    window = np.hanning(n)
    turned = np.convolve(sound * np.exp(-1j * phase), window / window.sum(), mode="valid")
    off_hz = np.diff(np.unwrap(np.angle(turned))) * SR / (2 * np.pi)
    return 1200 * np.log2(1 + off_hz / hz[n // 2 : n // 2 + len(off_hz)])


def phase_of(hz):
    return 2 * np.pi * np.concatenate([[0], np.cumsum((hz[1:] + hz[:-1]) / 2)]) / SR


def audible_partials(f0, ratio):
    """How many partials of the shifted tone lie within its band limits, and well off the fade-out at them."""
    limit = min(0.48 * SR, 0.48 * SR * ratio, 0.48 * SR - 200 * ratio * (ratio > 1))
    return int(limit / (f0 * ratio) + 1e-9)


# --- pitch


@pytest.mark.parametrize("keep_formants", [True, False])
@pytest.mark.parametrize(("f0", "ratio"), TONES)
def test_a_tone_lands_within_two_cents(f0, ratio, keep_formants):
    out = shifted(tone(f0), ratio, f0, keep_formants=keep_formants)
    assert abs(1200 * np.log2(1 + slow_off_hz(out, f0 * ratio) / (f0 * ratio))) < 2


@pytest.mark.parametrize("f0", [200, 440, 1046])
@pytest.mark.parametrize("kind", ["glide", "vibrato", "wide glide"])
def test_a_changing_ratio_is_followed(f0, kind):
    at = np.arange(N_GRID) * HOP / SR
    octaves = {
        "glide": np.linspace(-0.5, 0.5, N_GRID),
        "vibrato": 0.6 + 0.04 * np.sin(2 * np.pi * 5.5 * at),
        "wide glide": np.linspace(-1.5, 1.2, N_GRID),
    }[kind]
    out = shifted(tone(f0), 2**octaves, f0)
    hz = f0 * 2 ** np.interp(np.arange(LENGTH) / HOP, np.arange(N_GRID), octaves)
    assert np.abs(cents_off(out, phase_of(hz), hz)[1000:-1000]).max() < 3


def test_the_pitch_of_a_source_with_vibrato_of_its_own_is_exact_too():
    hz = 440 * 2 ** (0.05 * np.sin(2 * np.pi * 5.5 * np.arange(LENGTH) / SR))
    source = sum(np.cos(number * phase_of(hz)) / number for number in range(1, 12))
    f0 = hz[np.minimum(np.arange(N_GRID) * HOP, LENGTH - 1)]
    out = shifted(source, 660 / f0, f0)
    steady = np.full(LENGTH, 660.0)
    assert np.abs(cents_off(out, phase_of(steady), steady)[1000:-1000]).max() < 3


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.5, 3.0])
def test_a_tracker_that_errs_by_ten_cents_costs_no_cleanness(ratio, rng):
    f0 = 440 * 2 ** (rng.uniform(-10, 10, N_GRID) / 1200)
    out = shifted(tone(440), ratio, f0, keep_formants=False)
    hz = np.full(LENGTH, 440.0 * ratio)
    assert np.median(np.abs(cents_off(out, phase_of(hz), hz))) < 10
    levels, _ = fitted(out, 440 * ratio, audible_partials(440, ratio))
    assert np.abs(20 * np.log10(levels[:4] / hill(440 * np.arange(1, 5))[: len(levels)])).max() < 1


# --- levels


@pytest.mark.parametrize(("f0", "ratio"), TONES)
def test_partials_keep_their_levels_without_formants(f0, ratio):
    count = audible_partials(f0, ratio)
    levels, _ = fitted(shifted(tone(f0), ratio, f0, keep_formants=False), f0 * ratio, count)
    assert np.abs(20 * np.log10(levels / hill(f0 * np.arange(1, count + 1)))).max() < 0.2


@pytest.mark.parametrize(("f0", "ratio"), TONES)
def test_partials_get_the_envelopes_levels_with_formants(f0, ratio):
    count = audible_partials(f0, ratio)
    levels, _ = fitted(shifted(tone(f0), ratio, f0), f0 * ratio, count)
    moved_to = f0 * ratio * np.arange(1, count + 1)
    # The envelope is flat below the source's first partial and above its last.
    moved_to = np.clip(moved_to, f0, f0 * int(0.48 * SR / f0))
    assert np.abs(20 * np.log10(levels / hill(moved_to))).max() < 1


@pytest.mark.parametrize(("f0", "ratio"), TONES)
@pytest.mark.parametrize("keep_formants", [True, False])
def test_nothing_sounds_between_the_partials(f0, ratio, keep_formants):
    out = shifted(tone(f0), ratio, f0, keep_formants=keep_formants)
    _, left_db = fitted(out, f0 * ratio, int(min(0.5, 0.48 * ratio) * SR / (f0 * ratio) + 1e-9))
    assert left_db < -35


@pytest.mark.parametrize(("f0", "ratio"), TONES)
def test_a_steady_tone_stays_steady(f0, ratio):
    out = shifted(tone(f0), ratio, f0)
    n = 2 * round(max(0.010, 2 / (f0 * ratio)) * SR)
    window = np.hanning(n)
    power = np.convolve(np.square(out), window / window.sum(), mode="valid")[1000:-1000]
    assert np.ptp(10 * np.log10(power)) < 1


def test_white_noise_stays_white(rng):
    noise = rng.standard_normal(6 * LENGTH)
    for ratio in (0.5, 0.8, 1.25, 2.0, 3.0):
        grid = np.full(6 * N_GRID, ratio)
        out = shift_grain(noise, SR, begin=0, length=6 * LENGTH, ratios=grid, f0=0 * grid, hop=HOP)
        power = np.square(np.abs(np.fft.rfft(out)))
        hz = np.arange(len(power)) * SR / len(out)
        edges = np.arange(100, min(0.46, 0.46 * ratio) * SR, 200)
        bands = [10 * np.log10(power[(hz >= low) & (hz < low + 200)].mean()) for low in edges[:-1]]
        assert np.ptp(bands) < 5, ratio
        assert abs(10 * np.log10(np.square(out).mean() / (np.square(noise).mean() * min(1, 1 / ratio)))) < 1.5


# --- time


def level_rise(sound, period):
    """The first sample at which the mean power over one period is half of what it is later."""
    n = round(period)
    power = np.convolve(np.square(sound), np.ones(n) / n, mode="valid")
    later = np.median(power[-len(power) // 4 :])
    # The mean over a period rises for a period: half of it is reached half a period after the onset.
    return np.flatnonzero(power > later / 2)[0] + n / 2


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.8, 1.3, 2.0, 4.0])
@pytest.mark.parametrize("f0", [200, 440, 1046])
def test_an_onset_stays_where_it_was(f0, ratio):
    for start in (5000, 6111, 7345):
        out = shifted(tone(f0, start=start), ratio, f0)
        first = np.flatnonzero(np.abs(out) > 0.1 * np.abs(out).max())[0]
        # A sound lower than 1 kHz may take a quarter of its period to rise.
        assert abs(first - start) < max(0.001, 0.25 / (f0 * ratio)) * SR
        assert abs(level_rise(out, 2 * SR / (f0 * ratio)) - start) < max(0.001, 0.5 / (f0 * ratio)) * SR
        before = np.square(out[: start - round(0.001 * SR)]).max()
        assert before < 1e-3 * np.square(out[start:]).max()


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.8, 1.3, 2.0, 4.0])
@pytest.mark.parametrize("f0", [0, 300])
def test_a_struck_tone_is_struck_once(f0, ratio, rng):
    t = np.arange(LENGTH) / SR
    struck = np.zeros(LENGTH)
    strokes = (3000, 7000)
    for stroke in strokes:
        since = t[: LENGTH - stroke]
        body = tone(300, LENGTH - stroke) if f0 else np.sin(2 * np.pi * 700 * since) + np.sin(2 * np.pi * 1130 * since)
        hit = rng.standard_normal(LENGTH - stroke) * np.exp(-since / 0.002)
        struck[stroke:] += body * np.exp(-since / 0.05) / 3 + hit
    out = shifted(struck, ratio, f0)
    slope = np.abs(np.diff(out, prepend=0))
    assert np.square(out[: 3000 - round(0.001 * SR)]).max(initial=0) < 1e-3 * np.square(out).max()
    loudest = [slope[stroke - 22 : stroke + 220].max() for stroke in strokes]
    for stroke, most in zip(strokes, loudest, strict=True):
        assert slope[stroke - 1500 : stroke - 22].max() < 0.3 * most
        assert slope[stroke + 300 : stroke + 2500].max() < 0.6 * most


# --- public functions


def test_at_a_ratio_of_one_the_grain_comes_back():
    samples = tone(300).astype(np.float32)
    np.testing.assert_array_equal(shifted(samples, 1.0, 300, begin=100, length=5000), samples[100:5100])
    near = shifted(samples.astype(np.float64), 1 + 1e-9, 300, keep_formants=False)
    assert np.abs(near - samples)[50:-50].max() < 1e-3 * np.abs(samples).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("f0", [0, 300])
@pytest.mark.parametrize("length", [0, 1, 2, 20, 441, 3000])
def test_short_silent_and_outlying_grains_are_finite(dtype, f0, length):
    samples = tone(300, 4000).astype(dtype)
    for ratio in (1 / 16, 0.7, 3.0, 16.0):
        for begin in (-2000, -200, 1000, 3900, 9000):
            out = shifted(samples, ratio, f0, begin=begin, length=length)
            assert out.shape == (length,)
            assert out.dtype == dtype
            assert np.isfinite(out).all()
            assert np.abs(out).max(initial=0) < 16 * np.abs(samples).max()
        assert not shifted(np.zeros(1, dtype), ratio, f0, length=length).any()
        assert np.isfinite(shifted(np.ones(1, dtype), ratio, f0, length=length)).all()


def test_channels_are_read_alike(rng):
    samples = tone(300) + 0.1 * rng.standard_normal(LENGTH)
    f0 = np.where(np.arange(N_GRID) < N_GRID // 2, 300, 0)
    out = shifted(np.stack([samples, samples, -0.5 * samples]), 1.7, f0)
    np.testing.assert_array_equal(out[0], out[1])
    np.testing.assert_allclose(out[2], -0.5 * out[0], rtol=1e-12, atol=1e-12)
    alone = shifted(samples, 1.7, f0)
    np.testing.assert_allclose(out[0], alone, atol=1e-9)


@pytest.mark.parametrize("f0", [0, 300])
def test_louder_in_louder_out(f0, rng):
    samples = (tone(300) + 0.1 * rng.standard_normal(LENGTH)).astype(np.float32)
    out = shifted(samples, 1.7, f0)
    np.testing.assert_allclose(shifted(1e-4 * samples, 1.7, f0) * 1e4, out, atol=1e-4 * np.abs(out).max())


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.5, 4.0])
def test_a_tape_moves_pitch_and_time_together(ratio):
    source = tone(440, 5 * LENGTH, start=2000)
    out = tape_grain(source, SR, begin=0, length=LENGTH, ratios=[ratio], hop=HOP)
    assert abs(level_rise(out, SR / (440 * ratio)) - 2000 / ratio) < 0.001 * SR
    levels, left_db = fitted(out[4000:], 440 * ratio, int(min(0.5, 0.48 * ratio) * SR / (440 * ratio)))
    count = audible_partials(440, ratio)
    assert np.abs(20 * np.log10(levels[:count] / hill(440 * np.arange(1, count + 1)))).max() < 0.1
    assert left_db < -60


def test_a_tape_is_silent_beyond_the_recording():
    out = tape_grain(np.ones((2, 1000)), SR, begin=-100, length=3000, ratios=[2.0, 2.0], hop=HOP)
    assert out.shape == (2, 3000)
    assert np.abs(out[:, 600:]).max() < 1e-3
    np.testing.assert_array_equal(
        tape_grain(np.arange(5.0), SR, begin=-1, length=7, ratios=[1], hop=1), [0, 0, 1, 2, 3, 4, 0]
    )


def test_the_envelope_passes_through_the_partials():
    n_fft = 1024
    bins = np.arange(n_fft // 2 + 1) * SR / n_fft
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    for f0 in (110, 300, 1046, 3000):
        magnitudes = np.abs(np.fft.rfft(window * tone(f0, n_fft)))[:, None]
        envelope = harmonic_envelope(magnitudes, [f0], SR)[:, 0]
        inside = (bins >= f0) & (bins <= f0 * int(0.48 * SR / f0))
        off_db = 20 * np.log10(envelope[inside] / hill(bins[inside]))
        assert np.abs(off_db - np.median(off_db)).max() < (1.5 if f0 < 2000 else 3)
        assert np.ptp(envelope[bins < f0]) == 0
    flat = harmonic_envelope(np.ones((n_fft // 2 + 1, 2)), [0, 0], SR)
    np.testing.assert_allclose(flat[10:-10], np.sqrt(3), rtol=1e-6)
    assert not harmonic_envelope(np.zeros((513, 2)), [0, 200], SR).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratios": [17.0]}, "1/16 to 16"),
        ({"ratios": [np.nan]}, "1/16 to 16"),
        ({"f0": [-1.0]}, "f0 goes"),
        ({"f0": [1.0, 2.0]}, "as many of each"),
        ({"hop": 0}, "hop is 0"),
        ({"length": -1}, "length is -1"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = {"begin": 0, "length": 10, "ratios": [1.5], "f0": [100.0], "hop": 10} | change
    with pytest.raises(ValueError, match=message):
        shift_grain(np.ones(10), SR, **arguments)
    with pytest.raises(TypeError, match="float32 or float64"):
        tape_grain(np.ones(10, np.int16), SR, begin=0, length=1, ratios=[1.0], hop=1)
    with pytest.raises(ValueError, match="one per frame"):
        harmonic_envelope(np.ones((5, 2)), [1.0], SR)
