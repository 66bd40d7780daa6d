"""The grid: librosa's convention frame by frame, and an inverse that loses nothing."""

import tracemalloc

import numpy as np
import pytest
import scipy.fft
from hypothesis import given
from hypothesis import strategies as st

import oracles
from smalti import StftParams, istft, stft
from smalti.dsp.stft import WINDOWS, overlap_add, spectra_at
from strategies import DTYPES, grids, seeds, signals

WINDOW_S, HOP_S = 2048 / 22050, 512 / 22050


def noise(seed, *shape):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def complex_noise(seed, *shape):
    return noise(seed, *shape) + 1j * noise(seed + 1, *shape)


def eps(dtype):
    return float(np.finfo(dtype).eps)


# --- the transform


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("where", [0, 1, 5, 8, 11, 20, 23])
def test_an_impulse_shows_window_and_centre_of_every_frame(name, where):
    params = StftParams(8, 3, name)
    y = np.zeros(24)
    y[where] = 1
    X = stft(y, params)
    window = oracles.window(name, 8)
    for n in range(X.shape[1]):
        m = where - (3 * n - 4)
        inside = 0 <= m < 8
        expected = window[m] * np.exp(-2j * np.pi * np.arange(5) * m / 8) if inside else np.zeros(5)
        np.testing.assert_allclose(X[:, n], expected, atol=20 * eps(np.float64))


@given(signals(most=40), grids(most=16))
def test_every_frame_is_the_transform_of_the_samples_around_its_centre(y, params):
    X = stft(y, params)
    expected = oracles.stft(y, params.n_fft, params.hop, params.window, params.n_frames(len(y)))
    # Rounding of a transform grows with its length; samples and window are at most 1.
    np.testing.assert_allclose(X, expected, atol=2 * params.n_fft * eps(y.dtype))
    assert X.shape == (params.n_bins, params.n_frames(len(y)))
    assert X.dtype == (np.complex64 if y.dtype == np.float32 else np.complex128)


@given(st.integers(0, 5000), grids(most=256, densest=4))
def test_the_number_of_frames_is_librosas_while_the_hop_is_at_most_a_quarter_window(length, params):
    assert params.n_frames(length) == 1 + length // params.hop


@given(st.integers(0, 5000), grids(most=256))
def test_longer_hops_take_at_most_one_frame_more(length, params):
    assert 0 <= params.n_frames(length) - (1 + length // params.hop) <= 1


@given(st.integers(1, 5000), grids(most=256))
def test_the_last_sample_lies_within_a_quarter_window_of_a_later_or_last_centre(length, params):
    last_centre = (params.n_frames(length) - 1) * params.hop
    assert length - 1 - last_centre < max(params.n_fft / 4, 1)


@pytest.mark.parametrize("name", WINDOWS)
def test_a_cosine_on_a_bin_has_half_the_windows_sum_there(name):
    params = StftParams(64, 16, name)
    y = np.cos(2 * np.pi * 7 * np.arange(640) / 64)
    inner = np.abs(stft(y, params))[:, 2:-2]
    np.testing.assert_allclose(inner[7], oracles.window(name, 64).sum() / 2, rtol=1e-12)
    assert (inner.argmax(axis=0) == 7).all()


@given(signals(dtype=np.float64), grids(), st.floats(-100, 100))
def test_the_transform_is_linear(y, params, gain):
    z = noise(1, len(y))
    np.testing.assert_allclose(
        stft(y + gain * z, params), stft(y, params) + gain * stft(z, params), atol=1e-11 * params.n_fft
    )


def test_the_samples_are_not_touched(rng):
    y = rng.standard_normal(100)
    before = y.copy()
    stft(y, StftParams(16, 4))
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("dtype", [np.int16, bool, complex, np.float16])
def test_samples_of_another_kind_are_refused(dtype):
    with pytest.raises(TypeError, match=r"samples has dtype .*; pass float32 or float64"):
        stft(np.zeros(100, dtype), StftParams(16, 4))


def test_several_channels_are_refused():
    with pytest.raises(ValueError, match=r"samples has shape \(100, 2\); pass one channel"):
        stft(np.zeros((100, 2)), StftParams(16, 4))


# --- off the grid


@given(signals(most=60), grids(most=24, densest=4))
def test_frames_centred_anywhere_are_those_of_the_grid_on_it(y, params):
    params = StftParams(params.n_fft, params.hop)
    centres = np.arange(params.n_frames(len(y))) * params.hop
    X = spectra_at(y, centres, params.n_fft)
    np.testing.assert_array_equal(X, stft(y, params))
    assert X.dtype == stft(y, params).dtype
    assert X.T.flags.c_contiguous


@given(signals(most=40), st.lists(st.integers(-60, 90), max_size=5), st.sampled_from([4, 6, 16, 22]))
def test_frames_centred_anywhere_are_the_transform_of_the_samples_around(y, centres, n_fft):
    X = spectra_at(y, np.array(centres, np.intp), n_fft)
    assert X.shape == (n_fft // 2 + 1, len(centres))
    for n, centre in enumerate(centres):
        # Rounding grows with the length; samples and window are at most 1.
        np.testing.assert_allclose(X[:, n], oracles.spectrum_at(y, centre, n_fft), atol=2 * n_fft * eps(y.dtype))


def test_frames_cost_what_lies_around_them_and_not_the_whole_recording():
    y = np.zeros(4_000_000, np.float32)
    tracemalloc.start()
    try:
        spectra_at(y, np.arange(2_000_000, 2_010_000, 1000), 512)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < y.nbytes / 10


# --- the inverse


def assert_round_trip(y, params):
    back = istft(stft(y, params), params, length=len(y))
    assert back.dtype == y.dtype
    assert back.shape == y.shape
    # Errors are divided by the sum of squared windows, which is at least 0.1 (blackman, a hop of half a window).
    np.testing.assert_allclose(back, y, atol=50 * eps(y.dtype))


@given(signals(most=200), grids(most=64))
def test_the_inverse_returns_every_signal(y, params):
    assert_round_trip(y, params)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("hop", [1, 2, 3, 4, 5, 7, 8])
def test_the_inverse_returns_signals_of_every_length(hop, name, dtype):
    for length in range(50):
        assert_round_trip(noise(length, length).astype(dtype), StftParams(16, hop, name))


@pytest.mark.parametrize(("n_fft", "hop"), [(2048, 512), (2048, 441), (4096, 1024)])
def test_the_inverse_returns_signals_on_grids_in_use(n_fft, hop):
    for length in (1, n_fft - 1, n_fft, n_fft + 1, 22051):
        assert_round_trip(noise(0, length), StftParams(n_fft, hop))


@given(st.integers(1, 40), grids(most=16), seeds)
def test_the_inverse_is_griffin_and_lims_sum(length, params, seed):
    X = complex_noise(seed, params.n_bins, params.n_frames(length))
    expected = oracles.istft(X, params.n_fft, params.hop, params.window, length)
    np.testing.assert_allclose(istft(X, params, length=length), expected, atol=1e-12)


@given(st.integers(1, 40), grids(most=16), seeds)
def test_no_signal_has_a_nearer_spectrum(length, params, seed):
    X = complex_noise(seed, params.n_bins, params.n_frames(length))
    # A transform of real samples has real first and last bins.
    X[[0, -1]] = X[[0, -1]].real
    x = istft(X, params, length=length)
    mirrored = np.full((params.n_bins, 1), 2.0)
    mirrored[[0, -1]] = 1
    # At the least-squares solution the error is orthogonal to the transform of every signal.
    slope = np.vdot(mirrored * stft(noise(seed + 2, length), params), X - stft(x, params)).real
    assert abs(slope) < 1e-11 * X.size * params.n_fft


@given(st.integers(0, 60), grids(), seeds, st.floats(-100, 100))
def test_the_inverse_is_linear(length, params, seed, gain):
    shape = params.n_bins, params.n_frames(length)
    X, Z = complex_noise(seed, *shape), complex_noise(seed + 9, *shape)
    left = istft(X + gain * Z, params, length=length)
    right = istft(X, params, length=length) + gain * istft(Z, params, length=length)
    np.testing.assert_allclose(left, right, atol=1e-10)


@given(signals(dtype=np.float64), grids())
def test_a_shorter_length_cuts_the_end_off(y, params):
    X = stft(y, params)
    np.testing.assert_allclose(istft(X, params, length=len(y) // 2), y[: len(y) // 2], atol=50 * eps(np.float64))


def test_the_spectrum_is_not_touched(rng):
    params = StftParams(16, 4)
    X = stft(rng.standard_normal(100), params)
    before = X.copy()
    istft(X, params, length=100)
    np.testing.assert_array_equal(X, before)


def test_a_spectrum_of_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"spectrum has 10 bins but a window of 16 has 9"):
        istft(np.zeros((10, 5), complex), StftParams(16, 4), length=16)


def test_too_few_frames_are_refused():
    params = StftParams(16, 4)
    istft(np.zeros((9, 5), complex), params, length=19)
    with pytest.raises(ValueError, match=r"20 samples need 6 frames at hop 4, but spectrum has 5"):
        istft(np.zeros((9, 5), complex), params, length=20)


def test_a_negative_length_is_refused():
    with pytest.raises(ValueError, match=r"length is -1; pass a whole number of at least 0"):
        istft(np.zeros((9, 5), complex), StftParams(16, 4), length=-1)


# --- overlap-add


@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 15), seeds)
def test_overlap_add_is_a_sum_of_shifted_frames(n_frames, n, hop, seed):
    frames = noise(seed, n_frames, n)
    if hop > n:
        # Hops longer than a frame leave gaps, but the last frame keeps its length.
        assert len(overlap_add(frames, hop)) == (n_frames - 1) * hop + n
    np.testing.assert_allclose(overlap_add(frames, hop), oracles.overlap_add(frames, hop), atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_overlap_add_keeps_the_dtype(dtype):
    assert overlap_add(np.ones((2, 4), dtype), 2).dtype == dtype


# --- the grid itself


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n_fft": 2}, ValueError, r"n_fft is 2; pass a whole number of at least 4"),
        ({"n_fft": 17}, ValueError, r"n_fft is 17; pass an even number"),
        ({"n_fft": 2048.0}, TypeError, r"n_fft is 2048.0"),
        ({"hop": 0}, ValueError, r"hop is 0; pass a whole number of at least 1"),
        ({"hop": True}, TypeError, r"hop is True"),
        ({"hop": 1025}, ValueError, r"hop is 1025 samples, more than half .* pass a hop of at most 1024"),
        ({"window": "kaiser"}, ValueError, r"window is 'kaiser'; pass one of hann, hamming, blackman"),
    ],
)
def test_a_bad_grid_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        StftParams(**arguments)


def test_the_longest_hop_is_half_a_window():
    assert StftParams(2048, 1024).n_bins == 1025


@pytest.mark.parametrize(
    ("sr", "n_fft", "hop"), [(11025, 1024, 256), (22050, 2048, 512), (44100, 4096, 1024), (88200, 8192, 2048)]
)
def test_the_same_seconds_are_the_notebooks_grid_at_every_doubling_of_the_rate(sr, n_fft, hop):
    assert StftParams.from_seconds(WINDOW_S, HOP_S, sr) == StftParams(n_fft, hop)


@given(st.integers(1000, 192_000) | st.sampled_from([8000, 16000, 32000, 48000, 96000, 192_000]))
def test_seconds_make_a_valid_grid_at_any_rate(sr):
    params = StftParams.from_seconds(WINDOW_S, HOP_S, sr)
    assert params.n_fft == 4 * params.hop
    # Lengths that transform fast are at most an eighth apart at these sizes.
    assert HOP_S * sr - 0.5 <= params.hop <= HOP_S * sr * 1.125 + 1


@given(st.integers(1000, 192_000), st.floats(0.005, 0.5), st.integers(2, 12), st.floats(-0.4, 0.4))
def test_a_window_is_a_whole_number_of_hops_and_transforms_fast(sr, hop_s, hops, fraction):
    params = StftParams.from_seconds(max(2, hops + fraction) * hop_s, hop_s, sr)
    assert params.n_fft == hops * params.hop
    assert scipy.fft.next_fast_len(params.hop, real=True) == params.hop


def test_a_hop_longer_than_half_the_window_gets_a_window_of_two_hops():
    assert StftParams.from_seconds(0.01, 0.01, 16000) == StftParams(320, 160)


@pytest.mark.parametrize("sr", [1000, 8000])
def test_the_shortest_seconds_still_make_a_grid(sr):
    assert StftParams.from_seconds(0.001, 0.0001, sr).n_fft >= 4
    assert StftParams.from_seconds(0.001, 0.001, sr).n_fft >= 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.1, 0.0, 22050), r"hop_s is 0; pass a number of at least"),
        ((-0.1, 0.02, 22050), r"window_s is -0.1"),
        ((0.1, np.nan, 22050), r"hop_s is nan"),
        ((0.1, 0.02, 0), r"sr is 0"),
    ],
)
def test_bad_seconds_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        StftParams.from_seconds(*arguments)
