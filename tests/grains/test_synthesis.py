"""From activations to sound: the documented sums sample by sample, alignment, length, silence, errors."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import oracles
from smalti import StftParams, build_dictionary, griffin_lim, istft, stft, synthesize
from smalti.dsp.phase import PHASES
from smalti.grains.synthesis import mix
from strategies import dtypes, grids, seeds, signals

GRID = StftParams(64, 16)
SR = 8000
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def add_grains(H, sources, dictionary, length):
    """The sum of grains as loops.

    Each source frame is windowed, multiplied by its gain, windowed again and added at its target frame. The sum is
    divided by the sum of the squared windows.
    """
    params = dictionary.params
    w, half = oracles.window(params.window, params.n_fft), params.n_fft // 2
    top, bottom = np.zeros(length), np.zeros(length)
    for n in range(H.shape[1]):
        for m in range(params.n_fft):
            i = n * params.hop - half + m
            if not 0 <= i < length:
                continue
            bottom[i] += w[m] ** 2
            for k in np.flatnonzero(H[:, n]):
                recording, j = sources[dictionary.recording_ids[k]], dictionary.centres[k] - half + m
                if 0 <= j < len(recording):
                    top[i] += w[m] * H[k, n] * w[m] * recording[j]
    return top / bottom


def gains(rng, dictionary, length, density=0.3):
    """Random activations (K, N), most of them 0."""
    shape = dictionary.n_atoms, dictionary.params.n_frames(length)
    return rng.random(shape) * (rng.random(shape) < density)


@given(st.lists(signals(dtype=np.float64, most=50).filter(len), min_size=1, max_size=2), grids(), seeds)
def test_source_phase_adds_up_the_grains_as_recorded(sources, params, seed):
    rng = np.random.default_rng(seed)
    length = int(rng.integers(1, 80))
    dictionary = build_dictionary(sources, SR, params=params)
    H = gains(rng, dictionary, length)
    audio = synthesize(H, dictionary, length=length)
    expected = add_grains(H, sources, dictionary, length)
    np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))


@given(signals(dtype=np.float64, most=50).filter(len), st.integers(1, 60), grids(), seeds)
def test_target_phase_gives_the_magnitudes_of_the_model_the_angles_of_the_target(source, length, params, seed):
    rng = np.random.default_rng(seed)
    dictionary = build_dictionary(source, SR, params=params)
    H = gains(rng, dictionary, length)
    X = stft(rng.standard_normal(length), params)
    audio = synthesize(H, dictionary, length=length, phase="target", target=X)
    turned = (dictionary.magnitudes @ H) * np.exp(1j * np.angle(X))
    expected = oracles.istft(turned, params.n_fft, params.hop, params.window, length)
    np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))


def test_griffin_lim_without_iterations_has_the_phase_of_the_added_grains(rng):
    dictionary = build_dictionary(rng.standard_normal(400), SR, params=GRID)
    H = gains(rng, dictionary, 300)
    turned = (dictionary.magnitudes @ H) * np.exp(1j * np.angle(dictionary.spectra @ H))
    audio = synthesize(H, dictionary, length=300, phase="griffin-lim", n_iter=0)
    np.testing.assert_allclose(audio, istft(turned, GRID, length=300), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n_iter", "momentum"), [(1, 0.99), (5, 0.0), (5, 0.5), (30, 0.99)])
def test_griffin_lim_refines_the_added_grains(rng, n_iter, momentum):
    dictionary = build_dictionary(rng.standard_normal(400), SR, params=GRID)
    H = gains(rng, dictionary, 300)
    M, start = dictionary.magnitudes @ H, dictionary.spectra @ H
    audio = synthesize(H, dictionary, length=300, phase="griffin-lim", n_iter=n_iter, momentum=momentum)
    expected = griffin_lim(M, start, GRID, length=300, n_iter=n_iter, momentum=momentum)
    np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-10)
    added = synthesize(H, dictionary, length=300)
    before, after = (oracles.inconsistency(stft(y, GRID), M) for y in (added, audio))
    assert after < before


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(length=st.integers(1, 300), params=grids(), seed=seeds)
def test_the_source_frames_in_their_own_order_are_the_source(phase, dtype, length, params, seed):
    source = np.random.default_rng(seed).uniform(-1, 1, length).astype(dtype)
    dictionary = build_dictionary(source, SR, params=params)
    H = np.eye(dictionary.n_atoms, dtype=dtype)
    audio = synthesize(H, dictionary, length=length, phase=phase, target=dictionary.spectra)
    assert audio.dtype == dtype
    # At the last samples the windows may sum to only a few per cent of what they sum to elsewhere.
    np.testing.assert_allclose(audio, source, rtol=0, atol=100 * TOLERANCE[dtype])


@pytest.mark.parametrize("phase", ["source", "griffin-lim"])
@pytest.mark.parametrize("shift", [-9, 0, 1, 7])
def test_an_impulse_lands_on_its_sample(phase, shift):
    at, gain = 401, 0.5
    source = np.zeros(800)
    source[at] = 1
    dictionary = build_dictionary(source, SR, params=GRID)
    # All source frames sound `shift` hops later, so the impulse does, too.
    H = gain * np.eye(dictionary.n_atoms, k=shift)
    audio = synthesize(H, dictionary, length=800, phase=phase)
    expected = np.zeros(800)
    expected[at + shift * GRID.hop] = gain
    np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_iter", [0, 1, 30])
def test_griffin_lim_does_not_change_a_consistent_signal(rng, n_iter):
    # The noise has silence around it, so its frames five hops later are still the transform of a signal.
    noise, room, late = rng.standard_normal(400), np.zeros(160), np.zeros(5 * GRID.hop)
    dictionary = build_dictionary(np.concatenate([room, noise, room]), SR, params=GRID)
    H = np.eye(dictionary.n_atoms, k=5)
    audio = synthesize(H, dictionary, length=720, phase="griffin-lim", n_iter=n_iter)
    expected = np.concatenate([late, room, noise, room])[:720]
    np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("phase", PHASES)
@given(length=st.integers(1, 90), params=grids(), dtype=dtypes, seed=seeds)
def test_the_mosaic_is_exactly_as_long_as_asked_for(phase, length, params, dtype, seed):
    rng = np.random.default_rng(seed)
    dictionary = build_dictionary(rng.uniform(-1, 1, 40).astype(dtype), SR, params=params)
    H = gains(rng, dictionary, length).astype(dtype)
    X = stft(rng.uniform(-1, 1, length).astype(dtype), params)
    audio = synthesize(H, dictionary, length=length, phase=phase, target=X, n_iter=2)
    assert audio.shape == (length,)
    assert audio.dtype == dtype
    assert np.isfinite(audio).all()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("density", [0.0, 0.02, 0.19, 0.21, 1.0])
def test_sparse_and_dense_activations_sound_the_same(rng, phase, density):
    dictionary = build_dictionary(rng.standard_normal(400), SR, params=GRID)
    H = gains(rng, dictionary, 300, density)
    options = {"length": 300, "phase": phase, "target": stft(rng.standard_normal(300), GRID), "n_iter": 3}
    dense = synthesize(H, dictionary, **options)
    for form in (scipy.sparse.csc_array, scipy.sparse.csr_array, scipy.sparse.coo_array, scipy.sparse.csc_matrix):
        np.testing.assert_array_equal(synthesize(form(H), dictionary, **options), dense)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.19, 0.21, 1.0])
def test_mixing_is_the_matrix_product_at_any_density(rng, density):
    spectra = rng.standard_normal((33, 20)) + 1j * rng.standard_normal((33, 20))
    H = rng.random((20, 15)) * (rng.random((20, 15)) < density)
    for W in (spectra, spectra.real, np.asfortranarray(spectra)):
        np.testing.assert_allclose(mix(W, H), W @ H, rtol=0, atol=1e-13)
    single = mix(spectra.astype(np.complex64), H.astype(np.float32))
    assert (single.dtype, single.shape) == (np.complex64, (33, 15))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_sounds_more_than_a_window_away_from_sounding_frames(rng, phase, dtype):
    dictionary = build_dictionary(rng.standard_normal(400).astype(dtype), SR, params=GRID)
    X = stft(rng.standard_normal(1600).astype(dtype), GRID)
    H = np.zeros((dictionary.n_atoms, X.shape[1]), dtype)
    H[:, 40:45] = rng.random((dictionary.n_atoms, 5))
    audio = synthesize(H, dictionary, length=1600, phase=phase, target=X)
    half = GRID.n_fft // 2
    # Frame n reaches from half a window before sample n * hop to half a window after it.
    assert np.flatnonzero(audio).min() >= 40 * GRID.hop - half
    assert np.flatnonzero(audio).max() < 44 * GRID.hop + half
    assert not synthesize(np.zeros_like(H), dictionary, length=1600, phase=phase, target=X).any()


def test_synthesis_is_linear_and_gains_may_be_negative(rng):
    dictionary = build_dictionary(rng.standard_normal(400), SR, params=GRID)
    A, B = gains(rng, dictionary, 300), gains(rng, dictionary, 300)
    a, b, difference = (synthesize(H, dictionary, length=300) for H in (A, B, A - 2 * B))
    np.testing.assert_allclose(difference, a - 2 * b, rtol=0, atol=1e-12)


def silence(n_atoms, n_frames):
    return np.zeros((n_atoms, n_frames))


@pytest.mark.parametrize(
    ("H", "options", "error", "message"),
    [
        (silence(7, 7), {"phase": "random"}, ValueError, "phase is 'random'; pass one of source, target, griffin-lim"),
        (silence(7, 7), {"length": 0}, ValueError, "length is 0; pass a whole number of at least 1"),
        (silence(7, 7), {"length": 100.0}, TypeError, "length is 100.0; pass a whole number"),
        (silence(7, 6), {}, ValueError, r"shape \(7, 6\); 7 atoms and 100 samples at hop 16 need \(7, 7\)"),
        (silence(6, 7), {}, ValueError, r"shape \(6, 7\); 7 atoms and 100 samples at hop 16 need \(7, 7\)"),
        (silence(7, 7), {"length": 160}, ValueError, r"7 atoms and 160 samples at hop 16 need \(7, 11\)"),
        (np.full((7, 7), np.nan), {}, ValueError, "activations hold values that are NaN or infinite"),
        (np.full((7, 7), np.inf), {}, ValueError, "activations hold values that are NaN or infinite"),
        (silence(7, 7), {"phase": "target"}, ValueError, "phase 'target' needs the target's STFT: pass target=stft"),
        (
            silence(7, 7),
            {"phase": "target", "target": np.zeros((33, 6), complex)},
            ValueError,
            r"target has shape \(33, 6\); these activations need \(33, 7\)",
        ),
        (silence(7, 7), {"phase": "griffin-lim", "n_iter": -1}, ValueError, "n_iter is -1"),
        (silence(7, 7), {"phase": "griffin-lim", "momentum": 1.5}, ValueError, "momentum is 1.5; pass a number from 0"),
    ],
)
def test_bad_arguments_are_refused(H, options, error, message):
    dictionary = build_dictionary(np.ones(100), SR, params=GRID)
    with pytest.raises(error, match=message):
        synthesize(H, dictionary, **{"length": 100} | options)
