"""Griffin-Lim: the law of the plain form, what the accelerated form is for, and the ends of its range."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from smalti import StftParams, griffin_lim, istft, stft
from smalti.dsp.phase import turn_toward, with_phase
from strategies import DTYPES, grids, seeds, signals

GRID = StftParams(256, 64)


def inconsistency(x, magnitudes, params):
    return oracles.inconsistency(stft(x, params), magnitudes)


def random_task(seed, params, length):
    rng = np.random.default_rng(seed)
    shape = params.n_bins, params.n_frames(length)
    return rng.random(shape), np.exp(2j * np.pi * rng.random(shape))


def glissandi(length=4000):
    """A harmonic sound whose pitch rises, in bursts."""
    t = np.arange(length) / 4000
    return sum(np.sin(2 * np.pi * 150 * k * t * (1 + t / 4)) / k for k in range(1, 8)) * np.exp(-3 * (4 * t % 1))


@settings(max_examples=30)
@given(st.integers(1, 60), grids(most=16), seeds)
def test_plain_griffin_lim_never_gets_less_consistent(length, params, seed):
    magnitudes, start = random_task(seed, params, length)
    path = [
        inconsistency(griffin_lim(magnitudes, start, params, length=length, n_iter=n, momentum=0), magnitudes, params)
        for n in range(8)
    ]
    assert max(np.diff(path)) <= 1e-12 * np.linalg.norm(magnitudes)


@settings(max_examples=30)
@given(st.integers(1, 40), grids(most=12), seeds, st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_the_iteration_is_the_papers(length, params, seed, momentum):
    magnitudes, start = random_task(seed, params, length)

    def project(c):
        phase = np.where(np.abs(c) > 0, c / np.maximum(np.abs(c), 1e-300), 0)
        x = oracles.istft(magnitudes * phase, params.n_fft, params.hop, params.window, length)
        return oracles.stft(x, params.n_fft, params.hop, params.window, magnitudes.shape[1]), x

    # Perraudin et al. (2013), algorithm 2: t_n = P(c_{n-1}); c_n = t_n + momentum * (t_n - t_{n-1}).
    t, _ = project(start)
    c = t
    for _ in range(2):
        newer, _ = project(c)
        c, t = newer + momentum * (newer - t), newer
    x = griffin_lim(magnitudes, start, params, length=length, n_iter=3, momentum=momentum)
    # The phase of a bin that is nearly 0 turns at the least rounding, and with it that bin's magnitude.
    np.testing.assert_allclose(x, project(c)[1], atol=1e-6)


@pytest.mark.parametrize("momentum", [0, 0.5, 0.99, 1])
@pytest.mark.parametrize("n_iter", [0, 1, 5])
@given(y=signals(most=300), params=grids(most=32))
@settings(max_examples=15)
def test_from_the_true_phase_it_returns_the_signal(n_iter, momentum, y, params):
    X = stft(y, params)
    x = griffin_lim(np.abs(X), X, params, length=len(y), n_iter=n_iter, momentum=momentum)
    assert x.dtype == y.dtype
    np.testing.assert_allclose(x, y, atol=(1 + n_iter) * 50 * np.finfo(y.dtype).eps)


@pytest.mark.parametrize("momentum", [0, 0.99])
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_magnitudes_stay_silent(momentum, dtype, rng):
    X = stft(rng.standard_normal(1000).astype(dtype), GRID)
    silence = np.zeros(X.shape, dtype)
    for start in (X, np.zeros_like(X)):
        x = griffin_lim(silence, start, GRID, length=1000, n_iter=5, momentum=momentum)
        np.testing.assert_array_equal(x, np.zeros(1000, dtype))


def test_a_start_without_phase_gives_silence_not_nan():
    x = griffin_lim(np.ones((129, 10)), np.zeros((129, 10), complex), GRID, length=576, n_iter=3)
    np.testing.assert_array_equal(x, np.zeros(576))


def test_no_iterations_keep_the_phase_of_the_start(rng):
    magnitudes, start = random_task(1, GRID, 1000)
    expected = istft(magnitudes * start, GRID, length=1000)
    np.testing.assert_allclose(griffin_lim(magnitudes, start, GRID, length=1000, n_iter=0), expected, atol=1e-12)


def test_the_magnitudes_of_the_start_do_not_matter(rng):
    magnitudes, start = random_task(2, GRID, 1000)
    louder = start * rng.uniform(0.1, 10, start.shape)
    left, right = (griffin_lim(magnitudes, s, GRID, length=1000, n_iter=5) for s in (start, louder))
    np.testing.assert_allclose(left, right, atol=1e-9)


@pytest.mark.parametrize("gain", [1e-6, 1e6])
def test_scaling_the_magnitudes_scales_the_signal(gain):
    magnitudes, start = random_task(3, GRID, 1000)
    left = griffin_lim(gain * magnitudes, start, GRID, length=1000, n_iter=5)
    np.testing.assert_allclose(left / gain, griffin_lim(magnitudes, start, GRID, length=1000, n_iter=5), atol=1e-9)


@pytest.mark.parametrize("sound", ["glissandi", "mixture of two"])
def test_momentum_gets_further_in_ten_iterations(sound):
    y = glissandi()
    M = np.abs(stft(y, GRID))
    if sound == "mixture of two":
        # Magnitudes of two sounds added as a mosaic adds them; no signal has exactly these.
        M = M + np.abs(stft(y[::-1].copy(), GRID))
    start = np.exp(2j * np.pi * np.random.default_rng(4).random(M.shape))
    begin, plain, fast = (
        inconsistency(griffin_lim(M, start, GRID, length=len(y), n_iter=n, momentum=momentum), M, GRID)
        for n, momentum in ((0, 0), (10, 0), (10, 0.99))
    )
    assert fast < 0.9 * plain < 0.9 * begin


# --- taking the phase of another spectrum


def test_with_phase_takes_size_from_one_and_angle_from_the_other(rng):
    magnitudes = rng.random((5, 4))
    spectrum = rng.standard_normal((5, 4)) + 1j * rng.standard_normal((5, 4))
    turned = with_phase(magnitudes, spectrum)
    np.testing.assert_allclose(np.abs(turned), magnitudes, rtol=1e-14)
    np.testing.assert_allclose(np.angle(turned), np.angle(spectrum), rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_there_is_no_phase_there_is_no_sound(dtype):
    spectrum = np.array([[0, 1j]], np.result_type(dtype, np.complex64))
    np.testing.assert_array_equal(with_phase(np.array([[3, 3]], dtype), spectrum), [[0, 3j]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loudest", [1e-20, 1, 1e12])
def test_spectra_at_the_brink_of_nothing_do_not_overflow(loudest, dtype):
    limits = np.finfo(dtype)
    sizes = np.array([[limits.smallest_subnormal, limits.tiny, 1e3 * limits.tiny, 1]], dtype)
    turned = with_phase(np.full_like(sizes, loudest), sizes + 0j)
    assert np.isfinite(turned).all()
    assert np.abs(turned[0, -1]) == dtype(loudest)
    assert (np.abs(turned) <= 2 * loudest).all()


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n_iter": -1}, ValueError, r"n_iter is -1; pass a whole number of at least 0"),
        ({"n_iter": 1.5}, TypeError, r"n_iter is 1.5"),
        ({"momentum": 1.1}, ValueError, r"momentum is 1.1; pass a number from 0 to 1"),
        ({"momentum": -0.1}, ValueError, r"momentum is -0.1"),
        (
            {"magnitudes": np.ones((129, 11))},
            ValueError,
            r"magnitudes has shape \(129, 11\); 576 samples .* \(129, 10\)",
        ),
        ({"start": np.ones((129, 1), complex)}, ValueError, r"start has shape \(129, 1\)"),
        ({"length": 640}, ValueError, r"magnitudes has shape \(129, 10\); 640 samples on this grid need \(129, 11\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, words):
    good = {"magnitudes": np.ones((129, 10)), "start": np.ones((129, 10), complex), "params": GRID, "length": 576}
    with pytest.raises(error, match=words):
        griffin_lim(**(good | arguments))


@given(st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), seeds)
def test_a_turn_is_the_sum_of_the_docstring(share, seed):
    rng = np.random.default_rng(seed)
    own, other = rng.standard_normal((2, 4, 5)) + 1j * rng.standard_normal((2, 4, 5))
    own[0, 0] = other[1, 1] = 0
    other[2, 2] = -3 * own[2, 2]  # opposite: at one half nothing is left of the sum
    np.testing.assert_allclose(turn_toward(own, other, share), oracles.turn_toward(own, other, share), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_a_turn_keeps_magnitudes_and_goes_from_one_phase_to_the_other(rng, dtype):
    own, other = (rng.standard_normal((2, 20, 30)) + 1j * rng.standard_normal((2, 20, 30))).astype(dtype)
    tolerance = 1e-5 if dtype == np.complex64 else 1e-12

    def apart(spectrum):
        return np.abs(np.angle(spectrum * other.conj()))

    before = apart(own)
    for share in (0.0, 0.3, 0.6, 1.0):
        turn = turn_toward(own, other, share)
        assert turn.dtype == dtype
        np.testing.assert_allclose(np.abs(turn), 1, atol=tolerance)
        after = apart(own * turn)
        assert (after <= before + tolerance).all()
        before = after
    np.testing.assert_allclose(before, 0, atol=tolerance)
    with pytest.raises(ValueError, match="share is 2; pass a number from 0 to 1"):
        turn_toward(own, other, 2)
