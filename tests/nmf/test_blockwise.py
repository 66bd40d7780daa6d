"""The blockwise solver agrees with the readable path, apart from rounding."""

import sys
import threading
from dataclasses import FrozenInstanceError, replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from smalti import LetItBee, _parallel, activation_steps
from smalti.nmf import blockwise
from smalti.nmf.base import MatrixStep
from smalti.nmf.divergence import SpectralFit, beta_divergence, noise_floor
from smalti.nmf.multiplicative import steps_of
from strategies import DTYPES, problems, segments_of

pytestmark = pytest.mark.samples

CLASSIC = LetItBee(repetition=3, polyphony=10, continuity=3)
# Options of the steps: matrices are never replaced by lists, and several blocks make up even a short target.
DENSE = {"lists_below": 0.0}
SMALL_BLOCKS = {"most_block_frames": 7}


def planted(rng, n_bins=60, n_atoms=150, n_frames=300, *, dtype=np.float64, **zeros):
    """A target that plays stretches of a source in noise, the source, and a random start."""
    W = rng.random((n_bins, n_atoms)) ** 4
    V = np.zeros((n_bins, n_frames))
    for first in range(0, n_frames, 12):
        taken = rng.integers(n_atoms - 12) + np.arange(min(12, n_frames - first))
        V[:, first : first + 12] = W[:, taken] + 0.1 * rng.random((n_bins, len(taken)))
    V[:, zeros.get("silent", [])] = 0
    W[:, zeros.get("empty", [])] = 0
    return V.astype(dtype), W.astype(dtype), rng.random((n_atoms, n_frames)).astype(dtype)


def reference_steps(V, W, H, *, n_iter, eps=0.0, constraints=None, segments=None):
    fit = SpectralFit.of(V, W, beta=1, eps=eps)
    weights = constraints.weights(W) if constraints else None
    return steps_of(MatrixStep(0, H, fit), n_iter, constraints, segments, weights)


def assert_agree(V, W, H, *, rtol, n=None, options=DENSE, **how):
    """Assert that both paths agree in the first `n` steps, divergences included."""
    ours, theirs = blockwise.engine_steps(V, W, H, **options, **how), reference_steps(V, W, H, **how)
    for step, expected in islice(zip(ours, theirs, strict=True), n):
        assert step.iteration == expected.iteration
        assert step.H.dtype == expected.H.dtype == V.dtype
        assert step.H.shape == expected.H.shape
        np.testing.assert_allclose(step.H, expected.H, rtol=rtol, atol=rtol * expected.H.max())
        assert step.divergence == pytest.approx(expected.divergence, rel=rtol, abs=1e-12 + 1e-5 * rtol * float(V.sum()))


# --- the matrix


@pytest.mark.parametrize(("constraints", "eps"), [(None, 0.01), (CLASSIC, 0.0), (CLASSIC, 0.01)])
def test_all_iterations_in_double_precision(rng, constraints, eps):
    V, W, H = planted(rng, silent=[5, 130], empty=[0, 77])
    assert_agree(V, W, H, n_iter=50, eps=eps, constraints=constraints, rtol=1e-8)


@pytest.mark.parametrize("constraints", [None, CLASSIC])
def test_single_precision_agrees_until_rounding_decides_which_activation_is_the_largest(rng, constraints):
    V, W, H = planted(rng, dtype=np.float32)
    assert_agree(V, W, H, n_iter=50, constraints=constraints, rtol=1e-5, n=8)
    # From then on other activations of equal merit may be the largest.
    *_, ours = blockwise.engine_steps(V, W, H, n_iter=50, constraints=constraints, **DENSE)
    *_, theirs = reference_steps(V, W, H, n_iter=50, constraints=constraints)
    assert ours.divergence == pytest.approx(theirs.divergence, rel=1e-2)


@pytest.mark.parametrize("reaches", [(2, None, None), (None, 3, None), (None, None, 2), (40, 3, 2), (1, 200, 400)])
@pytest.mark.parametrize("rank", ["h", "contribution", "energy"])
def test_restrictions_may_be_left_out_and_reach_far(rng, reaches, rank):
    V, W, H = planted(rng, n_atoms=70, n_frames=50)
    W *= 10 ** rng.uniform(-2, 1, W.shape[1])
    rules = LetItBee(*reaches, rank=rank)
    assert_agree(V, W, H, n_iter=9, constraints=rules, options=DENSE | SMALL_BLOCKS, rtol=1e-8)


@pytest.mark.parametrize("every", [2, 3])
def test_between_restricted_iterations_the_update_runs_alone(rng, every):
    V, W, H = planted(rng)
    assert_agree(V, W, H, n_iter=12, constraints=replace(CLASSIC, every=every), rtol=1e-8)


@settings(max_examples=60)
@given(problems(dtype=np.float64, most=9), st.sampled_from([0.0, 0.01]), st.data())
def test_small_and_odd_problems(problem, eps, data):
    V, W, H = problem
    # Random numbers avoid ties at the start, in diagonal sums and between atoms, since ties may be broken either way.
    generic = np.random.default_rng(0)
    H = H + 1e-3 * generic.random(H.shape)
    W = W * (1 + 1e-2 * generic.random(W.shape))
    segments = data.draw(segments_of(len(H)))
    reaches = [data.draw(st.none() | st.integers(1, 6)) for _ in range(3)]
    every = data.draw(st.integers(1, 3))
    rules = LetItBee(*reaches, every=every)
    # Later iterations may have ties of zeros.
    how = {"eps": eps, "constraints": rules, "segments": segments}
    assert_agree(V, W, H, n_iter=8, n=3, options=DENSE | SMALL_BLOCKS, rtol=1e-7, **how)


@pytest.mark.parametrize("shape", [(4, 1, 1), (4, 1, 9), (4, 9, 1), (1, 5, 5)])
def test_a_single_atom_frame_or_bin(rng, shape):
    F, K, N = shape
    V, W, H = rng.random((F, N)), rng.random((F, K)), rng.random((K, N))
    for constraints in (None, CLASSIC):
        assert_agree(V, W, H, n_iter=5, constraints=constraints, rtol=1e-8)


def test_diagonals_end_where_a_recording_does(rng):
    V, W, H = planted(rng)
    segments = np.repeat([3, 1, 4, 1], [40, 1, 60, 49])
    assert_agree(V, W, H, n_iter=20, constraints=CLASSIC, segments=segments, rtol=1e-8)


def test_exactly_polyphony_survive_despite_ties():
    from smalti.nmf import _kernels

    for n_atoms in (3, 33, 400):
        out = np.empty((2, n_atoms))
        for H in (np.ones((2, n_atoms)), np.zeros((2, n_atoms)), np.arange(2.0 * n_atoms).reshape(2, -1) // 7):
            borders = np.array([0, n_atoms])
            _kernels.restricted(H, np.empty(0), borders, 0, 2, 0, 10, 0, 0.0, out)
            np.testing.assert_array_equal(np.count_nonzero(out, axis=1) <= 10, True)
            for row, kept in zip(H, out, strict=True):
                np.testing.assert_array_equal(np.sort(kept)[-10:], np.sort(row)[-10:])


def test_repetition_keeps_all_equal_largest_values():
    from smalti.nmf import _kernels

    H, out = np.array([[1.0], [2.0], [2.0], [1.0], [0.5]]), np.empty((5, 1))
    _kernels.restricted(H, np.empty(0), np.array([0, 1]), 0, 5, 1, 0, 0, 0.5, out)
    assert out[:, 0].tolist() == [0.5, 2, 2, 0.5, 0.25]


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_that_fade_end_as_0_and_not_as_denormals(rng, dtype):
    V, W, H = planted(rng, dtype=dtype)
    *_, step = blockwise.engine_steps(V, W, H, n_iter=60, constraints=CLASSIC, **DENSE)
    sounding = step.H[step.H > 0]
    assert sounding.min() >= np.finfo(dtype).tiny


# --- lists


def agreement_db(ours, theirs):
    return -20 * np.log10(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize(("every", "segments"), [(1, np.repeat([0, 1], 75)), (3, None)])
def test_lists_agree_with_the_matrix_to_80_db(rng, every, segments):
    V, W, H = planted(rng, silent=[5, 130], empty=[0, 77])
    how = {"n_iter": 50, "constraints": replace(CLASSIC, every=every), "segments": segments}
    *_, ours = blockwise.engine_steps(V, W, H, **how)
    *_, theirs = reference_steps(V, W, H, **how)
    assert isinstance(ours, blockwise.ListStep)
    model = W @ theirs.H
    assert agreement_db(W @ ours.H, model) > 80
    assert ours.divergence == pytest.approx(theirs.divergence, rel=1e-4)
    assert ours.divergence == pytest.approx(beta_divergence(V, W @ ours.H + noise_floor(V)), rel=1e-9)


def test_without_restrictions_lists_leave_out_only_zeros(rng):
    V, W, H = planted(rng)
    H *= rng.random(H.shape) < 0.05
    steps = list(blockwise.engine_steps(V, W, H, n_iter=30))
    assert all(isinstance(step, blockwise.ListStep) for step in steps)
    assert_agree(V, W, H, n_iter=30, options={}, rtol=1e-8)
    np.testing.assert_array_equal(steps[-1].H > 0, H > 0)


def test_lists_that_grow_become_a_matrix_again(rng):
    V, W, H = planted(rng)
    H *= rng.random(H.shape) < 0.15
    kinds = [isinstance(step, blockwise.ListStep) for step in islice(_classic(V, W, H), 3)]
    assert kinds[0]
    assert not kinds[1]
    *_, ours = _classic(V, W, H)
    *_, theirs = reference_steps(V, W, H, n_iter=50, constraints=CLASSIC)
    assert ours.divergence == pytest.approx(theirs.divergence, rel=1e-4)


def test_a_start_of_zeros_stays_zero(rng):
    V, W, H = planted(rng)
    for step in blockwise.engine_steps(V, W, 0 * H, n_iter=3, constraints=CLASSIC):
        assert not step.H.any()
        assert np.isfinite(step.divergence)


# --- threads


def _classic(V, W, H, **options):
    return blockwise.engine_steps(V, W, H, n_iter=50, constraints=CLASSIC, **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_results_do_not_depend_on_the_number_of_cores(rng, monkeypatch, dtype):
    V, W, H = planted(rng, dtype=dtype)
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(_parallel, "n_cores", lambda cores=cores: cores)
        steps = list(_classic(V, W, H, **SMALL_BLOCKS))
        found.append((steps[-1].H, [step.divergence for step in steps]))
    for H, divergences in found[1:]:
        np.testing.assert_array_equal(H, found[0][0])
        assert divergences == found[0][1]


def test_stopping_early_leaves_no_thread_and_the_limits_of_blas_as_before(rng):
    V, W, H = planted(rng)
    np.ones((2, 2)) @ np.ones((2, 2))

    def limits():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before, threads = limits(), threading.active_count()
    steps = _classic(V, W, H, **SMALL_BLOCKS)
    for _ in range(3):
        _ = next(steps).divergence
        assert limits() == before
        assert threading.active_count() == threads
    steps.close()
    assert threading.active_count() == threads


def test_later_steps_and_reading_divergences_do_not_change_earlier_steps(rng):
    V, W, H = planted(rng)
    start = H.copy()
    for constraints in (None, CLASSIC):
        how = {"n_iter": 40, "constraints": constraints}
        copies = [step.H.copy() for step in blockwise.engine_steps(V, W, H, **how)]
        kept = [(step.divergence, step)[1] for step in blockwise.engine_steps(V, W, H, **how)]
        for step, copied in zip(kept, copies, strict=True):
            np.testing.assert_allclose(step.H, copied, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(H, start)


# --- the choice of path


def test_large_jobs_with_beta_1_are_solved_blockwise_and_others_are_not(rng, monkeypatch):
    V, W, _ = planted(rng)
    monkeypatch.setattr(blockwise, "WORTH_IT", 2 * W.size * V.shape[1] * 3)
    for n_iter, beta, blockwise_taken in ((2, 1, False), (3, 1, True), (3, 1.5, False), (3, 2, False)):
        step = next(activation_steps(V, W, n_iter=n_iter, beta=beta, constraints=CLASSIC))
        assert isinstance(step.fit, blockwise.BlockwiseFit) is blockwise_taken
        assert step.H.flags.c_contiguous is not blockwise_taken


def test_a_small_job_loads_no_compiler():
    import subprocess

    code = "import sys, smalti; smalti.solve_activations([[1.0]], [[1.0]], n_iter=3); print('numba' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_blockwise_fit_agrees_with_the_spectral_fit(rng):
    V, W, H = planted(rng)
    ours, theirs = blockwise.BlockwiseFit.of(V, W, eps=0.01), SpectralFit.of(V, W, beta=1, eps=0.01)
    product = ours.product(H)
    np.testing.assert_allclose(product, theirs.product(H), rtol=1e-12)
    np.testing.assert_allclose(ours.update(H, product), theirs.update(H, product), rtol=1e-10)
    assert ours.divergence(product) == pytest.approx(theirs.divergence(product))


def test_steps_are_numbered_on_from_the_first(rng):
    V, W, H = planted(rng)
    first = MatrixStep(7, H, SpectralFit.of(V, W, beta=1, eps=0))
    assert [step.iteration for step in steps_of(first, 3)] == [8, 9, 10]


def test_lists_convert_to_a_matrix_and_back(rng):
    V, W, H = planted(rng)
    fit = blockwise.BlockwiseFit.of(V, W, eps=0)
    step = blockwise.BlockStep(3, np.ascontiguousarray(H.T).T, fit, H.size)
    lists = step.as_lists(0.0)
    assert step.as_matrix() is step
    assert lists.as_lists(0.0) is lists
    again = lists.as_matrix()
    assert (lists.iteration, again.iteration, again.n_left) == (3, 3, lists.n_left)
    np.testing.assert_array_equal(again.H, H)
    np.testing.assert_allclose(again.divergence, lists.divergence, rtol=1e-10)


@pytest.mark.parametrize("in_lists", [False, True])
def test_a_step_knows_its_product_once_its_divergence_has_been_read(rng, monkeypatch, in_lists):
    V, W, H = planted(rng)
    fit = blockwise.BlockwiseFit.of(V, W, eps=0)
    whole = blockwise.BlockStep(1, np.ascontiguousarray(H.T).T, fit, H.size)
    step = whole.as_lists(0.0) if in_lists else whole
    assert step.known == []
    _ = step.divergence
    np.testing.assert_allclose(step.known[0], W @ H + fit.floor, rtol=1e-12)
    # A known product is that of the next update, even if lists become a matrix again.
    taken = []
    iterate = blockwise.BlockwiseFit.iterate

    def recorded(self, H, rules, strength, product=None):
        taken.append(product)
        return iterate(self, H, rules, strength, product)

    monkeypatch.setattr(blockwise.BlockwiseFit, "iterate", recorded)
    rules = blockwise.Rules.of(CLASSIC, W, None)
    np.testing.assert_allclose(step.as_matrix().advance(None, 0.0).H, fit.update(H, step.known[0]), rtol=1e-12)
    step.as_matrix().advance(rules, 0.5)
    assert taken[0] is step.known[0]
    # The rules change the activations before the update.
    assert taken[-1] is None


def test_steps_with_matrices_and_with_lists_are_frozen(rng):
    V, W, H = planted(rng)
    fit = blockwise.BlockwiseFit.of(V, W, eps=0)
    step = blockwise.BlockStep(1, np.ascontiguousarray(H.T).T, fit, H.size)
    for frozen in (step, step.as_lists(0.0)):
        with pytest.raises(FrozenInstanceError):
            frozen.iteration = 2
