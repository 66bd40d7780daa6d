"""Three windows on one sound: literal sums, what each window shows, and equal weights for the solver."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracles
from smalti.grains.descriptors import shifted_views, stacked, views
from smalti.nmf.multiplicative import activation_steps
from strategies import DTYPES, dtypes, seeds

SR, HOP = 22050, 512
# The windows of 186, 93 and 23 ms in samples at 22 050 Hz.
LONG, MIDDLE, SHORT = 4096, 2048, 512


def noise(seed, length, dtype=np.float64):
    return np.random.default_rng(seed).uniform(-1, 1, length).astype(dtype)


def quarters(view):
    """The short view (4 B, N) as (4, B, N)."""
    return view.reshape(4, -1, view.shape[1])


# --- against loops


@pytest.mark.parametrize("ear_weighting", [False, True])
def test_each_view_is_the_literal_sum_of_its_bins(ear_weighting):
    y = noise(0, 3000)
    # Moments inside the sound, at both edges, and so far outside that only the long window still reaches the sound.
    centres = np.array([0, 1333, 2999, 4500])
    long, middle, short = views(y, centres, HOP, SR, ear_weighting=ear_weighting)
    wanted = [
        oracles.view(y, centres, LONG, SR, "pitch", ear_weighting),
        oracles.view(y, centres, MIDDLE, SR, "pitch", ear_weighting),
        *(oracles.view(y, centres + at, SHORT, SR, "attack", ear_weighting) for at in (-192, -64, 64, 192)),
    ]
    for got, literal in zip([long, middle, *quarters(short)], wanted, strict=True):
        # Sums of thousands of samples in [-1, 1]: rounding stays far below 1e-9 of 1.
        np.testing.assert_allclose(got, literal, rtol=1e-10, atol=1e-9)
    assert long[:, 3].any()
    assert not middle[:, 3].any()
    assert not short[:, 3].any()


def test_moments_far_outside_the_signal_are_silent():
    for view in views(noise(1, 500), np.array([-10_000, 10_000]), HOP, SR):
        assert not view.any()


@pytest.mark.parametrize("centres", [[], [5]])
def test_there_are_as_many_frames_as_moments(centres):
    for view in views(noise(2, 100), np.array(centres, np.intp), HOP, SR):
        assert view.shape[1] == len(centres)


@given(dtypes, st.integers(1, 600), seeds)
def test_the_dtype_is_kept_and_float32_is_near_float64(dtype, length, seed):
    y, at = noise(seed, length), np.arange(4) * 50
    fine, given_ = views(y, at, 50, 1000), views(y.astype(dtype), at, 50, 1000)
    for exact, view in zip(fine, given_, strict=True):
        assert view.dtype == dtype
        # Magnitudes are sums of at most 192 samples, bands of at most a hundred magnitudes.
        np.testing.assert_allclose(view, exact, atol=1000 * np.finfo(dtype).eps * (1 + exact.max()))


def test_the_samples_are_not_modified():
    y = noise(3, 3000)
    before = y.copy()
    views(y, np.arange(5) * HOP, HOP, SR, ear_weighting=True)
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_frames_are_the_same_as_in_parts(dtype):
    y, at = noise(4, 3000, dtype), np.arange(-100, 4500)
    whole = views(y, at, 40, 1000)
    for cut in (1, 2047, 2048, 2049, 4097):
        parts = zip(views(y, at[:cut], 40, 1000), views(y, at[cut:], 40, 1000), strict=True)
        for view, (first, second) in zip(whole, parts, strict=True):
            np.testing.assert_array_equal(view, np.concatenate([first, second], axis=1))


# --- what each window is for


@pytest.mark.parametrize("offset", range(-250, 256, 17))
def test_an_impulse_is_loudest_in_the_quarter_of_the_hop_it_lies_in(offset):
    y = np.zeros(8000)
    y[4096 + offset] = 1
    long, middle, short = views(y, np.array([4096]), HOP, SR)
    assert quarters(short).sum(axis=(1, 2)).argmax() == (offset + 256) // 128
    # The longer views fall only as the square of their window does. It is a cosine, and the longer it is, the flatter.
    for view, bins, n_fft in ((long, LONG // 2 + 1, LONG), (middle, MIDDLE // 2 + 1, MIDDLE)):
        np.testing.assert_allclose(view.sum(), bins * np.cos(np.pi * offset / n_fft) ** 2, rtol=1e-10)


def test_an_impulse_is_silent_in_a_quarter_more_than_half_a_window_away():
    y = np.zeros(8000)
    y[4096 + 192 - 256 - 192 - 1] = 1
    short = quarters(views(y, np.array([4096]), HOP, SR)[2])
    assert short[0].any()
    assert not short[3].any()


def peaks(levels):
    """Local maxima that stand 10 % above both sides."""
    inner = levels[1:-1]
    return np.flatnonzero((inner > 1.1 * levels[:-2]) & (inner > 1.1 * levels[2:]) & (inner > 0.2 * levels.max())) + 1


def test_two_near_partials_are_apart_in_the_long_window_only():
    t = np.arange(SR) / SR
    hz = np.array([80, 83]) * SR / LONG  # three bins of the long window apart
    y = np.sin(2 * np.pi * hz[0] * t) + np.cos(2 * np.pi * hz[1] * t)
    # The views are averaged over many moments, because beats make peaks come and go.
    long, middle, short = (view.mean(axis=1) for view in views(y, np.arange(5000, 15000, 37), HOP, SR))
    assert peaks(long).tolist() == [80, 83]
    assert len(peaks(middle)) <= 1
    assert all(len(peaks(quarter)) == 1 for quarter in short.reshape(4, -1))


@pytest.mark.parametrize("hz", [200, 1000, 4000])
def test_the_ear_weight_of_a_tone_is_the_a_curve_at_its_frequency(hz):
    y = np.sin(2 * np.pi * hz * np.arange(SR) / SR)
    at = np.array([SR // 2])
    plain, weighed = views(y, at, HOP, SR), views(y, at, HOP, SR, ear_weighting=True)
    # A band of the short window is too wide for one weight where the curve is steep.
    for view, heard in list(zip(plain, weighed, strict=True))[: 2 if hz < 500 else 3]:
        band = view.argmax()
        got = 20 * np.log10(heard[band, 0] / view[band, 0])
        # The nearest bin of the middle window may lie 5 Hz off the tone.
        np.testing.assert_allclose(got, oracles.a_weighting_db(hz), atol=0.4)


def test_views_are_the_same_at_a_doubled_sample_rate():
    def sound(sr):
        t = np.arange(2 * sr) / sr
        decays = [(hz, np.exp(-(((t - at) / 0.05) ** 2))) for hz, at in ((220, 0.5), (700, 0.7), (3100, 0.9))]
        return sum(envelope * np.sin(2 * np.pi * hz * t) for hz, envelope in decays)

    coarse = views(sound(SR), np.arange(0, 2 * SR, HOP), HOP, SR)
    fine = views(sound(2 * SR), np.arange(0, 4 * SR, 2 * HOP), 2 * HOP, 2 * SR)
    as_they_are, four = [*coarse[:2], *quarters(coarse[2])], [*fine[:2], *quarters(fine[2])]
    for low, high in zip(as_they_are, four, strict=True):
        # Twice the samples give twice the sum. The last band of the lower rate is cut off by the end of its spectrum.
        common = len(low) - 1
        difference = high[:common] - 2 * low[:common]
        assert np.linalg.norm(difference) < 1e-3 * np.linalg.norm(2 * low)
        assert np.linalg.norm(high[common:]) < 1e-3 * np.linalg.norm(high)


# --- at another pitch


def hill(hz):
    """Amplitudes of a smooth envelope: 6 dB an octave, on an axis that starts at 500 Hz."""
    return 1 / (1 + np.asarray(hz) / 500)


def vowel(hz):
    """`hill` with two formants."""
    hz = np.asarray(hz, float)
    return hill(hz) * (1 + 4 * np.exp(-(((hz - 700) / 150) ** 2)) + 4 * np.exp(-(((hz - 2200) / 250) ** 2)))


def tone(f0, amplitudes, highest=0.48 * SR, length=8000):
    """Partials up to `highest`, with scattered phases; `amplitudes` of their frequencies."""
    numbers, t = np.arange(1, int(highest / f0) + 1), np.arange(length) / SR
    phases = 2 * np.pi * f0 * numbers[:, None] * t + (1.3 * numbers**2)[:, None]
    return (amplitudes(numbers * f0)[:, None] * np.cos(phases)).sum(axis=0)


def stretched(y, at, hop, sr, ratios, f0, **options):
    """Three views, (Q, B, N) each, as from `views`."""
    sizes = [len(view) for view in views(y, at[:0], hop, sr)]
    whole = shifted_views(y, at, hop, sr, ratios, f0, (1, 1, 1), **options)
    assert whole.shape == (len(ratios), sum(sizes), len(at))
    return np.split(whole, np.cumsum(sizes)[:-1], axis=1)


def shifted(y, ratio, f0, **options):
    at = np.array([4000])
    return [view[0] for view in stretched(y, at, HOP, SR, np.array([[ratio]]), np.array([float(f0)]), **options)]


def likeness(got, wanted):
    return float(got.ravel() @ wanted.ravel()) / np.linalg.norm(got) / np.linalg.norm(wanted)


@pytest.mark.parametrize("keep_formants", [True, False])
def test_views_at_a_ratio_of_1_are_the_plain_views(keep_formants):
    y, at = tone(220, vowel) + 0.1 * noise(9, 8000), np.array([-300, 500, 4000, 7900])
    f0 = np.array([0.0, 220, 220, 0])
    seen = stretched(y, at, HOP, SR, np.ones((1, 4)), f0, keep_formants=keep_formants)
    as_they_are = views(y, at, HOP, SR)
    for got, wanted in zip(
        [*seen[:2], *np.split(seen[2], 4, axis=1)], [*as_they_are[:2], *quarters(as_they_are[2])], strict=True
    ):
        # At a ratio of 1 the borders of bands lie between bins, so nothing is interpolated and only rounding is left.
        np.testing.assert_allclose(got[0, 1:], wanted[1:], rtol=1e-9, atol=1e-10)
        # Half of the lowest bin lies below 0 Hz, which a stretched spectrum does not have, so it may lose that half.
        assert (got[0, 0] <= wanted[0] * (1 + 1e-9)).all()
        assert (got[0, 0] >= 0.5 * wanted[0] * (1 - 1e-9)).all()


def test_the_ear_weight_of_a_stretched_band_is_that_at_its_new_frequency():
    y = tone(220, hill)
    plain, weighed = (shifted(y, 1.5, 220, ear_weighting=ear) for ear in (False, True))
    bin_hz = SR / LONG
    for band in np.flatnonzero(plain[0][:180, 0] > 1):
        gain_db = 20 * np.log10(weighed[0][band, 0] / plain[0][band, 0])
        assert gain_db == pytest.approx(oracles.a_weighting_db(band * bin_hz), abs=1e-3)


# Both sounds end at the same frequency: a shift up loses the partials beyond half the sample rate, and after a shift
# down neither has partials above the shifted end.
@pytest.mark.parametrize("amplitudes", [hill, vowel])
@pytest.mark.parametrize(("f0", "ratio"), [(220, 1.5), (220, 0.75), (220, 0.7), (150, 0.8), (330, 2.0), (300, 1.12)])
@pytest.mark.parametrize("keep_formants", [True, False])
def test_a_stretched_tone_looks_like_the_tone_at_that_pitch_and_not_like_its_neighbours(
    f0, ratio, amplitudes, keep_formants
):
    moved = amplitudes if keep_formants else lambda hz: amplitudes(hz / ratio)
    y, highest = tone(f0, amplitudes), min(0.48, 0.48 * ratio) * SR
    real = views(tone(f0 * ratio, moved, highest), np.array([4000]), HOP, SR)
    long, middle, short = shifted(y, ratio, f0, keep_formants=keep_formants)
    # Lobes are stretched with the spectrum, and partials tell little about a formant that lies between them.
    least = 0.88 if amplitudes is vowel and f0 > 300 else 0.94
    assert likeness(long, real[0]) > least
    assert likeness(middle, real[1]) > least
    # The short window hears formants rather than partials.
    assert likeness(short, real[2]) > least - 0.01
    for wrong in (2 ** (1 / 12), 2 ** (-1 / 12)):
        off = shifted(y, ratio * wrong, f0, keep_formants=keep_formants)
        assert likeness(off[0], real[0]) < 0.6
        assert likeness(off[1], real[1]) < 0.65


@pytest.mark.parametrize(("f0", "ratio"), [(220, 1.5), (220, 0.75), (150, 1.3), (150, 0.8), (110, 2.0)])
@pytest.mark.parametrize("keep_formants", [True, False])
def test_partials_follow_the_envelope_or_keep_their_level(f0, ratio, keep_formants):
    y, at = tone(f0, vowel), ratio * f0
    long = shifted(y, ratio, f0, keep_formants=keep_formants)[0][:, 0]
    plain = views(y, np.array([4000]), HOP, SR)[0][:, 0]
    bin_hz = SR / LONG

    def level_db(view, hz, width_hz):
        low, high = (round((hz + side * width_hz) / bin_hz) for side in (-0.4, 0.4))
        return 20 * np.log10(view[low : high + 1].sum())

    for number in range(1, int(900 / max(f0, at))):
        wanted = vowel(number * at) / vowel(number * f0) if keep_formants else 1.0
        gain_db = level_db(long, number * at, at) - level_db(plain, number * f0, f0)
        # The envelope is linear in dB between partials, so a formant narrower than their distance loses its top.
        assert gain_db == pytest.approx(20 * np.log10(wanted), abs=2.5 if keep_formants else 0.5)


def test_the_steep_slope_beyond_the_last_partial_does_not_lift_it():
    # More than an octave above the last partial is empty.
    y = tone(200, hill, highest=5000)
    for ratio in (0.9, 0.75, 0.6):
        for view, plain in zip(shifted(y, ratio, 200), views(y, np.array([4000]), HOP, SR), strict=True):
            # Lower pitches have a higher envelope, but no band becomes 6 dB louder than the loudest before.
            assert view.max() < 2 * plain.max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_version_is_its_own_and_a_ratio_of_0_is_silent(dtype):
    y, at, f0 = noise(10, 4000, dtype), np.array([500, 1500, 2500]), np.array([200.0, 0, 310])
    ratios = np.array([[1.5, 0, 0.7], [0, 0, 0], [1, 2, 0.5]])
    together = stretched(y, at, HOP, SR, ratios, f0)
    for version, own in enumerate(ratios):
        for view, alone in zip(together, stretched(y, at, HOP, SR, own[None], f0), strict=True):
            assert view.dtype == dtype
            np.testing.assert_array_equal(view[version], alone[0])
            np.testing.assert_array_equal(view[version].any(axis=0), own > 0)
            assert (view >= 0).all()
    for view, of_all in zip(together, views(y, at, HOP, SR), strict=True):
        assert view.shape == (3, *of_all.shape)


def test_stretched_views_scale_with_the_sound():
    y, at, f0, ratios = noise(11, 4000), np.array([1000, 2000]), np.array([200.0, 0]), np.array([[1.3, 0.6]])
    quiet, loud = (stretched(gain * y, at, HOP, SR, ratios, f0) for gain in (1e-3, 1))
    for small, large in zip(quiet, loud, strict=True):
        # Gains are differences of logarithms near 10, so they round by a few times 10 eps.
        np.testing.assert_allclose(1e3 * small, large, rtol=1e-10)


def test_stretched_views_do_not_depend_on_how_many_frames_are_transformed_at_once(monkeypatch):
    y, at = noise(12, 4000), np.arange(0, 4000, 600)
    f0, ratios = np.where(at < 2000, 150.0, 0), np.linspace(0.5, 2, 2 * len(at)).reshape(2, -1)
    whole = stretched(y, at, HOP, SR, ratios, f0)
    for size in (1, 3, len(at) - 1):
        monkeypatch.setattr("smalti.grains.descriptors._VIEWED_AT_ONCE", size)
        for view, parts in zip(whole, stretched(y, at, HOP, SR, ratios, f0), strict=True):
            np.testing.assert_allclose(parts, view, rtol=1e-12, atol=1e-12)


def test_stretching_float32_is_near_float64():
    y, at, f0, ratios = tone(220, vowel), np.array([2000, 4000]), np.full(2, 220.0), np.array([[1.3, 0.6]])
    fine, coarse = (stretched(samples, at, HOP, SR, ratios, f0) for samples in (y, y.astype(np.float32)))
    for exact, view in zip(fine, coarse, strict=True):
        # Between partials there is only the rounding of sums of thousands of samples.
        np.testing.assert_allclose(view, exact, rtol=1e-3, atol=1e-5 * exact.max())


def test_every_stretched_view_has_its_gain():
    y, at, f0, ratios = noise(13, 4000), np.array([1000, 2000]), np.array([200.0, 0]), np.array([[1.3, 0.6]])
    plain = stretched(y, at, HOP, SR, ratios, f0)
    gained = shifted_views(y, at, HOP, SR, ratios, f0, (1, 0.5, 0))
    np.testing.assert_allclose(gained, np.concatenate([plain[0], 0.5 * plain[1], 0 * plain[2]], axis=1), rtol=1e-12)


# --- stacked


def few(seed, n_frames, rows=(3, 5, 2), dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [(10.0**i * rng.random((n, n_frames))).astype(dtype) for i, n in enumerate(rows)]


def cut(stack, rows=(3, 5, 2)):
    return np.split(stack, np.cumsum(rows)[:-1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_stacked_views_have_the_mass_of_the_first_and_target_and_source_one_gain(dtype):
    target, source = few(0, 4, dtype=dtype), few(1, 6, dtype=dtype)
    V, W = stacked(target, source)
    assert (V.dtype, V.shape, W.dtype, W.shape) == (dtype, (10, 4), dtype, (10, 6))
    tolerance = 20 * np.finfo(dtype).eps
    for seen, scaled, other, scaled_other in zip(target, cut(V), source, cut(W), strict=True):
        gain = target[0].sum(dtype=np.float64) / seen.sum(dtype=np.float64)
        np.testing.assert_allclose(scaled, gain * seen, rtol=tolerance)
        np.testing.assert_allclose(scaled_other, gain * other, rtol=tolerance)
        np.testing.assert_allclose(scaled.sum(), target[0].sum(), rtol=10 * tolerance)
    np.testing.assert_array_equal(cut(V)[0], target[0])


def test_kullback_leibler_weighs_all_views_equally():
    V, _ = stacked(few(2, 4), few(3, 6))
    for off in (0.5, 1.2, 3.0):
        costs = [oracles.divergence(part, off * part, beta=1) for part in cut(V)]
        np.testing.assert_allclose(costs, costs[0], rtol=1e-12)
        assert costs[0] > 0


def test_a_planted_source_is_found_whatever_the_scale_of_a_view():
    rng = np.random.default_rng(4)
    source = few(5, 6)
    H = rng.random((6, 4)) * (rng.random((6, 4)) < 0.4)
    target = [view @ H for view in source]
    V, W = stacked(target, source)
    np.testing.assert_allclose(W @ H, V, rtol=1e-12)
    *_, step = activation_steps(V, W, n_iter=3000)
    # Updates converge slowly towards zeros.
    np.testing.assert_allclose(step.H, H, atol=0.01)


def test_a_silent_view_stays_silent_on_both_sides_and_silence_is_silence():
    target, source = few(6, 4), few(7, 6)
    target[1][:] = 0
    V, W = stacked(target, source)
    assert not cut(V)[1].any()
    assert not cut(W)[1].any()
    np.testing.assert_allclose(cut(V)[2].sum(), target[0].sum(), rtol=1e-12)
    for matrix in stacked([np.zeros_like(view) for view in target], source):
        assert not matrix.any()


def test_frames_are_contiguous_in_memory():
    of_sound = views(noise(8, 3000), np.arange(6) * HOP, HOP, SR)
    for matrix in [*of_sound, *stacked(of_sound, of_sound)]:
        assert matrix.T.flags.c_contiguous
