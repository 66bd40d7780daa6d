"""Three windows on one sound: literal sums, what each window tells, and that a solver weighs all alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracles
from smalti.activations import activation_steps
from smalti.views import stacked, views
from strategies import DTYPES, dtypes, seeds

SR, HOP = 22050, 512
# What the windows of 186, 93 and 23 ms are at 22 050 Hz.
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
    # Inside, at both edges, and so far outside that only the long window still hears it.
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
def test_the_type_stays_and_single_is_near_double(dtype, length, seed):
    y, at = noise(seed, length), np.arange(4) * 50
    fine, given_ = views(y, at, 50, 1000), views(y.astype(dtype), at, 50, 1000)
    for exact, view in zip(fine, given_, strict=True):
        assert view.dtype == dtype
        # Magnitudes are sums of at most 192 samples, bands of at most a hundred magnitudes.
        np.testing.assert_allclose(view, exact, atol=1000 * np.finfo(dtype).eps * (1 + exact.max()))


def test_the_sound_is_left_alone():
    y = noise(3, 3000)
    before = y.copy()
    views(y, np.arange(5) * HOP, HOP, SR, ear_weighting=True)
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_more_frames_than_are_transformed_at_once_are_those_of_the_parts(dtype):
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
    # The longer a window, the less it tells of the moment: of the height in its middle there is left
    for view, bins, n_fft in ((long, LONG // 2 + 1, LONG), (middle, MIDDLE // 2 + 1, MIDDLE)):
        np.testing.assert_allclose(view.sum(), bins * np.cos(np.pi * offset / n_fft) ** 2, rtol=1e-10)


def test_an_impulse_that_moves_within_a_quarter_is_unheard_in_what_is_half_a_window_away():
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
    # In the mean of many moments, as beats make and unmake peaks.
    long, middle, short = (view.mean(axis=1) for view in views(y, np.arange(5000, 15000, 37), HOP, SR))
    assert peaks(long).tolist() == [80, 83]
    assert len(peaks(middle)) <= 1
    assert all(len(peaks(quarter)) == 1 for quarter in short.reshape(4, -1))


@pytest.mark.parametrize("hz", [200, 1000, 4000])
def test_the_ear_s_weight_of_a_tone_is_the_a_curve_at_its_frequency(hz):
    y = np.sin(2 * np.pi * hz * np.arange(SR) / SR)
    at = np.array([SR // 2])
    plain, weighed = views(y, at, HOP, SR), views(y, at, HOP, SR, ear_weighting=True)
    # A band of the short window is too wide for one weight where the curve is steep.
    for view, heard in list(zip(plain, weighed, strict=True))[: 2 if hz < 500 else 3]:
        band = view.argmax()
        got = 20 * np.log10(heard[band, 0] / view[band, 0])
        # The nearest bin of the middle window may lie 5 Hz off the tone.
        np.testing.assert_allclose(got, oracles.a_weighting_db(hz), atol=0.4)


def test_a_doubled_sample_rate_sees_the_same():
    def sound(sr):
        t = np.arange(2 * sr) / sr
        decays = [(hz, np.exp(-(((t - at) / 0.05) ** 2))) for hz, at in ((220, 0.5), (700, 0.7), (3100, 0.9))]
        return sum(envelope * np.sin(2 * np.pi * hz * t) for hz, envelope in decays)

    coarse = views(sound(SR), np.arange(0, 2 * SR, HOP), HOP, SR)
    fine = views(sound(2 * SR), np.arange(0, 4 * SR, 2 * HOP), 2 * HOP, 2 * SR)
    as_they_are, four = [*coarse[:2], *quarters(coarse[2])], [*fine[:2], *quarters(fine[2])]
    for low, high in zip(as_they_are, four, strict=True):
        # Twice the samples, twice the sum. The last band of the lower rate ends where its spectrum does.
        common = len(low) - 1
        difference = high[:common] - 2 * low[:common]
        assert np.linalg.norm(difference) < 1e-3 * np.linalg.norm(2 * low)
        assert np.linalg.norm(high[common:]) < 1e-3 * np.linalg.norm(high)


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


def test_kullback_leibler_weighs_all_views_alike():
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
