"""Sparse coding agrees with scikit-learn and the textbook's loop, and meets the conditions of a best fit."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import SparseCoder

import oracles
from smalti import StftParams, beta_divergence, pursuit_steps, sparse_code, stft
from smalti.workflows.demo import demo_source, demo_target
from strategies import DTYPES, dtypes, positive, problems, seeds


def unit(W):
    return W / np.linalg.norm(W, axis=0)


def random_problem(seed, n_bins=12, n_atoms=20, n_frames=6):
    rng = np.random.default_rng(seed)
    return rng.random((n_bins, n_frames)) ** 2, rng.random((n_bins, n_atoms)) ** 2


def residuals(V, W, H):
    """The norm of each frame's residual relative to the frame, in double precision; 0 for a silent frame."""
    V = V.astype(float)
    size = np.linalg.norm(V, axis=0)
    rest = np.linalg.norm(V - W.astype(float) @ H.astype(float), axis=0)
    return np.divide(rest, size, out=np.zeros_like(rest), where=size > 0)


@given(seeds, st.integers(1, 6))
def test_signed_pursuit_is_scikit_learns(seed, n_atoms):
    V, W = random_problem(seed)
    W = unit(W)
    coder = SparseCoder(W.T, transform_algorithm="omp", transform_n_nonzero_coefs=n_atoms)
    expected = coder.transform(V.T).T
    np.testing.assert_allclose(sparse_code(V, W, n_atoms=n_atoms, nonnegative=False).H, expected, rtol=1e-8, atol=1e-10)


@given(seeds, st.integers(1, 12), st.booleans())
def test_pursuit_is_the_textbooks_loop(seed, n_atoms, nonnegative):
    V, W = random_problem(seed)
    H = sparse_code(V, W, n_atoms=n_atoms, nonnegative=nonnegative).H
    for v, h in zip(V.T, H.T, strict=True):
        np.testing.assert_allclose(h, oracles.pursuit(v, W, n_atoms, nonnegative), rtol=1e-7, atol=1e-8)


@given(seeds, st.integers(1, 20))
def test_gains_meet_the_conditions_of_a_best_nonnegative_fit(seed, n_atoms):
    V, W = random_problem(seed)
    H = sparse_code(V, W, n_atoms=n_atoms).H
    assert (H >= 0).all()
    assert ((H > 0).sum(axis=0) <= n_atoms).all()
    # Karush, Kuhn, Tucker: the residual is orthogonal to every atom that sounds.
    slope = unit(W).T @ (V - W @ H)
    assert np.abs(slope[H > 0]).max() < 1e-12


@pytest.mark.parametrize("coarse", [False, True])
def test_with_all_atoms_it_is_nonnegative_least_squares(coarse):
    for seed in range(60):
        V, W = random_problem(seed, n_bins=5, n_atoms=9, n_frames=3)
        if coarse:
            # Atoms of small integers depend on each other in many ways.
            W = np.floor(3 * W)
        H = sparse_code(V, W, n_atoms=9).H
        best = [scipy.optimize.nnls(W, v)[1] / np.linalg.norm(v) for v in V.T]
        np.testing.assert_allclose(residuals(V, W, H), best, atol=1e-9)


def test_signed_with_as_many_atoms_as_bins_explains_everything():
    V, W = random_problem(3)
    assert residuals(V, W, sparse_code(V, W, n_atoms=12, nonnegative=False).H).max() < 1e-10


@given(problems(), st.booleans())
def test_more_atoms_never_explain_less(problem, nonnegative):
    V, W, _ = problem
    rests = [residuals(V, W, step.H) for step in pursuit_steps(V, W, n_atoms=9, nonnegative=nonnegative)]
    # Activations are rounded to W's dtype. In signed pursuit, nearly dependent atoms magnify gains and their rounding
    # up to a millionfold; non-negative gains cannot cancel, and are not magnified.
    tolerance = 10 * float(np.finfo(V.dtype).eps) * (1 if nonnegative else largest_gain(V, W))
    assert all((after <= before + tolerance).all() for before, after in pairwise(rests))
    assert all((rest <= 1 + tolerance).all() for rest in rests)


def largest_gain(V, W):
    """The largest sum of absolute gains of unit atoms, relative to the frame, of any frame and step."""
    norms, sizes = np.linalg.norm(W, axis=0), np.linalg.norm(V, axis=0)
    largest = 1.0
    for step in pursuit_steps(V, W, n_atoms=9, nonnegative=False):
        loudness = (norms[:, None] * np.abs(step.H)).sum(axis=0)
        largest = max(largest, float(np.max(loudness / np.where(sizes > 0, sizes, 1))))
    return largest


@given(seeds, st.integers(1, 8), st.booleans())
def test_the_loudness_of_atoms_does_not_matter(seed, n_atoms, nonnegative):
    V, W = random_problem(seed)
    gains = 10 ** np.random.default_rng(seed + 1).uniform(-6, 6, W.shape[1])
    quiet = sparse_code(V, W * gains, n_atoms=n_atoms, nonnegative=nonnegative).H
    plain = sparse_code(V, unit(W), n_atoms=n_atoms, nonnegative=nonnegative).H
    norms = np.linalg.norm(W * gains, axis=0)[:, None]
    np.testing.assert_allclose(quiet * norms, plain, rtol=1e-8, atol=1e-10)


@given(seeds, st.sampled_from([1e-10, 1e8]), dtypes, st.booleans())
def test_scaling_the_target_scales_the_activations(seed, gain, dtype, nonnegative):
    V, W = (x.astype(dtype) for x in random_problem(seed))
    scaled = sparse_code(V * dtype(gain), W, n_atoms=3, nonnegative=nonnegative).H
    plain = sparse_code(V, W, n_atoms=3, nonnegative=nonnegative).H
    # Three random atoms' gains magnify the rounding of V up to a hundredfold.
    np.testing.assert_allclose(scaled / gain, plain, rtol=1000 * np.finfo(dtype).eps, atol=1000 * np.finfo(dtype).eps)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_single_precision_agrees_with_double(nonnegative):
    V, W = (x.astype(np.float32) for x in random_problem(5))
    single = sparse_code(V, W, n_atoms=4, nonnegative=nonnegative).H
    double = sparse_code(V.astype(float), W.astype(float), n_atoms=4, nonnegative=nonnegative).H
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)


@given(seeds, st.integers(1, 4), dtypes, st.booleans())
def test_a_planted_mixture_of_orthogonal_atoms_is_found(seed, n_sounding, dtype, nonnegative):
    rng = np.random.default_rng(seed)
    # Atoms that share no bin.
    W = np.kron(np.eye(6), rng.uniform(0.5, 1, (3, 1))).astype(dtype)
    H = np.zeros((6, 5), dtype)
    for t in range(5):
        H[rng.choice(6, n_sounding, replace=False), t] = rng.uniform(0.5, 2, n_sounding)
    found = sparse_code(W @ H, W, n_atoms=n_sounding, nonnegative=nonnegative).H
    np.testing.assert_allclose(found, H, rtol=50 * np.finfo(dtype).eps, atol=0)


# --- silence and dependence


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nonnegative", [False, True])
def test_silent_frames_and_silent_atoms_get_no_activations(nonnegative, dtype):
    V, W = (x.astype(dtype) for x in random_problem(7))
    V[:, 2] = 0
    W[:, [0, 5, 19]] = 0
    H = sparse_code(V, W, n_atoms=20, nonnegative=nonnegative).H
    assert np.isfinite(H).all()
    assert not H[:, 2].any()
    assert not H[[0, 5, 19]].any()
    kept = np.delete(np.arange(20), [0, 5, 19])
    alone = sparse_code(V[:, [0, 1, 3, 4, 5]], W[:, kept], n_atoms=20, nonnegative=nonnegative).H
    np.testing.assert_allclose(
        np.delete(H[kept], 2, axis=1), alone, rtol=1e-3 if dtype == np.float32 else 1e-9, atol=1e-6
    )


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_silent_target_or_source_gets_no_activations(nonnegative, dtype):
    zeros, ones = np.zeros((3, 4), dtype), np.ones((3, 4), dtype)
    for V, W in ((zeros, ones), (ones, zeros), (zeros, zeros)):
        H = sparse_code(V, W, n_atoms=3, nonnegative=nonnegative).H
        assert H.shape == (4, 4)
        assert not H.any()


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gain", [1, 3, 1e-3])
def test_only_one_of_two_collinear_atoms_sounds(gain, nonnegative, dtype):
    V, W = (x.astype(dtype) for x in random_problem(11, n_atoms=5))
    doubled = np.concatenate([W, W * dtype(gain)], axis=1)
    H = sparse_code(V, doubled, n_atoms=10, nonnegative=nonnegative).H
    assert np.isfinite(H).all()
    assert not ((H[:5] != 0) & (H[5:] != 0)).any()
    single = sparse_code(V, W, n_atoms=5, nonnegative=nonnegative).H
    # Where float32 rounds a multiple, either of two collinear atoms may be taken; both fit as well.
    np.testing.assert_allclose(residuals(V, doubled, H), residuals(V, W, single), atol=100 * np.finfo(dtype).eps)


@given(problems(), st.integers(1, 9), st.booleans())
def test_gains_are_finite_for_all_spectra(problem, n_atoms, nonnegative):
    V, W, _ = problem
    H = sparse_code(V, W, n_atoms=n_atoms, nonnegative=nonnegative).H
    assert np.isfinite(H).all()
    # There cannot be more independent atoms than bins.
    assert ((H != 0).sum(axis=0) <= min(n_atoms, len(V))).all()
    assert not nonnegative or (H >= 0).all()


@given(problems(entries=positive), st.integers(0, 3), st.booleans())
def test_asking_for_more_atoms_than_there_are_is_asking_for_all(problem, more, nonnegative):
    V, W, _ = problem
    n_atoms = W.shape[1]
    steps = list(pursuit_steps(V, W, n_atoms=n_atoms + more, nonnegative=nonnegative))
    assert [step.iteration for step in steps] == list(range(1, n_atoms + 1))
    np.testing.assert_array_equal(steps[-1].H, sparse_code(V, W, n_atoms=n_atoms, nonnegative=nonnegative).H)


def test_frames_stop_when_they_are_explained():
    W = np.eye(4)
    V = np.array([[2.0, 1], [0, 1], [0, 1], [0, 0]])
    counts = [(step.H > 0).sum(axis=0).tolist() for step in pursuit_steps(V, W, n_atoms=4)]
    assert counts == [[1, 1], [1, 2], [1, 3], [1, 3]]


@given(seeds, dtypes, st.booleans(), st.integers(2, 9))
def test_source_frames_that_hardly_differ_have_bounded_gains(seed, dtype, nonnegative, digits):
    # A held note: more source frames than bins, which differ only by a little noise.
    V, W = random_problem(seed, n_bins=5, n_atoms=12)
    V, W = V.astype(dtype), (W[:, :1] + 10.0**-digits * W).astype(dtype)
    H = sparse_code(V, W, n_atoms=12, nonnegative=nonnegative).H
    assert ((H != 0).sum(axis=0) <= 5).all()
    # At least a millionth of an atom is independent of the others. This bounds its gain to a million for a frame of
    # norm 1, times the few atoms that may cancel each other.
    loudness = np.linalg.norm(W, axis=0)[:, None] * np.abs(H)
    assert (loudness <= 1e7 * np.linalg.norm(V, axis=0)).all()


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_residuals_of_rounding_get_no_atoms(nonnegative, dtype):
    _, W = random_problem(23, n_bins=40, n_atoms=30)
    W = W.astype(dtype)
    H = sparse_code(W * dtype(0.3), W, n_atoms=5, nonnegative=nonnegative).H
    np.testing.assert_allclose(H, 0.3 * np.eye(30), rtol=4 * np.finfo(dtype).eps, atol=0)


# --- the generator


@given(seeds, st.booleans())
def test_every_step_is_the_result_with_fewer_atoms(seed, nonnegative):
    V, W = random_problem(seed)
    for step in pursuit_steps(V, W, n_atoms=4, nonnegative=nonnegative):
        alone = sparse_code(V, W, n_atoms=step.iteration, nonnegative=nonnegative)
        np.testing.assert_array_equal(step.H, alone.H)
        assert step.divergence == pytest.approx(beta_divergence(V, W @ step.H, beta=2), rel=1e-12)


@given(seeds)
def test_frames_do_not_depend_on_each_other(seed):
    V, W = random_problem(seed, n_frames=3)
    at_once = sparse_code(V, W, n_atoms=4).H
    one_by_one = np.concatenate([sparse_code(v[:, None], W, n_atoms=4).H for v in V.T], axis=1)
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-9, atol=1e-12)


def test_long_targets_are_coded_like_short_ones():
    V, W = random_problem(13, n_frames=600)
    H = sparse_code(V, W, n_atoms=3).H
    np.testing.assert_allclose(H[:, 250:350], sparse_code(V[:, 250:350], W, n_atoms=3).H, rtol=1e-9, atol=1e-12)


def test_arguments_are_not_changed():
    V, W = random_problem(17)
    copies = V.copy(), W.copy()
    sparse_code(V, W, n_atoms=5)
    np.testing.assert_array_equal(V, copies[0])
    np.testing.assert_array_equal(W, copies[1])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"V": -np.ones((3, 2))}, ValueError, r"V holds negative values"),
        ({"W": np.ones((4, 2))}, ValueError, r"W has 4 frequency bins but V has 3"),
        ({"W": np.ones((3, 2), complex)}, TypeError, r"W has dtype complex128"),
        ({"n_atoms": 0}, ValueError, r"n_atoms is 0; pass a whole number of at least 1"),
        ({"n_atoms": 1.0}, TypeError, r"n_atoms is 1.0"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(arguments, error, words):
    good = {"V": np.ones((3, 2)), "W": np.ones((3, 4)), "n_atoms": 1}
    with pytest.raises(error, match=words):
        pursuit_steps(**(good | arguments))


def test_unnormalised_atoms_played_at_unit_norm_explain_next_to_nothing():
    # A common mistake: the code is found with atoms as loud as recorded, and played with normalised ones.
    sr, params = 22050, StftParams()
    V = np.abs(stft(demo_target(sr)[: 4 * sr].astype(np.float64), params))
    raw = np.abs(stft(demo_source(sr)[: 6 * sr].astype(np.float64), params))
    raw = raw[:, np.linalg.norm(raw, axis=0) > 0]
    unit = raw / np.linalg.norm(raw, axis=0)

    def explained(model):
        return 1 - np.linalg.norm(V - model) ** 2 / np.linalg.norm(V) ** 2

    loudest = np.argmax(raw.T @ V, axis=0)
    frames = np.arange(V.shape[1])
    gains = (raw[:, loudest] * V).sum(axis=0) / (raw[:, loudest] ** 2).sum(axis=0)
    mistaken = np.zeros((raw.shape[1], V.shape[1]))
    mistaken[loudest, frames] = gains
    assert explained(unit @ mistaken) < 0.02
    assert explained(unit @ sparse_code(V, unit).H) > 0.4
