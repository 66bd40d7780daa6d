"""The exact solver meets the conditions of an optimum, and nothing is below its bound."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from helpers import SupportFit
from smalti import ExactStep, _parallel, activation_steps, exact_steps, solve_exact
from smalti.nmf.base import MatrixStep
from smalti.nmf.divergence import SpectralFit, beta_divergence, noise_floor
from smalti.nmf.gains import GainFit
from smalti.nmf.multiplicative import steps_of
from strategies import dtypes, level, problems, seeds

pytestmark = pytest.mark.samples


def modelled(V, W, H, beta):
    """``W @ H + floor`` in double precision; the floor is that of V's dtype."""
    floor = 0.0 if beta == 2 else float(V.dtype.type(noise_floor(V)))
    return W.astype(float) @ H.astype(float) + floor


def divergence(V, W, H, beta):
    return beta_divergence(V.astype(float), modelled(V, W, H, beta), beta=beta)


def sounds(seed, n_bins=24, n_atoms=40, n_frames=6, dtype=np.float64, *, peaky=4.0):
    """Random spectra V (F, N) and W (F, K) with valleys, like those of sounds."""
    rng = np.random.default_rng(seed)
    V, W = rng.random((n_bins, n_frames)) ** peaky, rng.random((n_bins, n_atoms)) ** peaky
    return V.astype(dtype), W.astype(dtype)


def slack_of(V, W, H, beta):
    """Two numbers that are 0 at the optimum: the steepest descent, relative to atoms' sums, and sum |gain * slope|."""
    Y = modelled(V, W, H, beta)
    V, W = V.astype(float), W.astype(float)
    sums = np.where(W.sum(axis=0) > 0, W.sum(axis=0), 1)[:, None]
    slopes = W.T @ (Y - V if beta == 2 else 1 - V / Y) / sums
    return -min(slopes.min(), 0), np.abs(H * sums * slopes).sum()


# --- the optimum


@pytest.mark.parametrize("beta", [1, 2])
@given(seed=seeds)
def test_the_optimality_conditions_hold(beta, seed):
    V, W = sounds(seed)
    step = solve_exact(V, W, beta=beta, tolerance=1e-9)
    H = step.H.toarray()
    assert (step.H.data > 0).all()
    assert step.relative_gap <= 1e-9
    steepest, wasted = slack_of(V, W, H, beta)
    # A slope d at the atom w costs d² over its curvature, so slopes are bounded by the square root of the gap.
    assert steepest <= 1e-3
    assert wasted <= 1e-6 * V.sum()


@given(seed=seeds)
def test_the_euclidean_optimum_is_scipy_s(seed):
    V, W = sounds(seed)
    step = solve_exact(V, W, beta=2, tolerance=1e-10)
    best = sum(0.5 * nnls(W, v)[1] ** 2 for v in V.T)
    assert best <= step.divergence * (1 + 1e-12)
    assert step.divergence - step.gap <= best * (1 + 1e-12)
    assert step.divergence == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("beta", [1, 2])
def test_a_long_run_of_updates_comes_near_and_never_below_the_bound(beta):
    V, W = sounds(3, n_atoms=30)
    step = solve_exact(V, W, beta=beta, tolerance=1e-8)
    *_, last = activation_steps(V, W, n_iter=20_000, beta=beta, init=np.ones((30, 6)))
    assert step.divergence - step.gap <= last.divergence
    assert step.divergence <= last.divergence * (1 + 1e-8)
    assert last.divergence <= step.divergence * (1 + 1e-3)


@pytest.mark.parametrize("beta", [1, 2])
@given(problem=problems(entries=level))
def test_nothing_is_below_the_bound_in_any_round(beta, problem):
    V, W, H = problem
    n_frames = V.shape[1]
    bests = [divergence(V, W, H, beta)]
    for scale in np.geomspace(1e-3, 10, 20):
        bests.append(divergence(V, W, scale * H, beta))
    bests.append(divergence(V, W, solve_exact(V, W, beta=beta, tolerance=1e-12).H.toarray(), beta))
    for step in exact_steps(V, W, beta=beta, tolerance=1e-6):
        assert step.gap == pytest.approx(step.frame_gaps.sum())
        assert step.frame_gaps.shape == (n_frames,)
        assert (step.frame_gaps >= 0).all()
        assert step.divergence == pytest.approx(divergence(V, W, step.H.toarray(), beta), rel=1e-9, abs=1e-9)
        # The numbers are added up in another order.
        rounding = 1e-12 * (V.sum(dtype=float) + (V.astype(float) ** 2).sum())
        assert step.divergence - step.gap <= min(bests) + rounding


@given(problem=problems(entries=level, dtype=np.float64))
def test_the_euclidean_optimum_of_odd_problems_is_scipy_s(problem):
    V, W, _ = problem
    step = solve_exact(V, W, beta=2, tolerance=1e-8)
    best = sum(0.5 * nnls(W, v)[1] ** 2 for v in V.T)
    assert step.divergence == pytest.approx(best, rel=1e-7, abs=1e-10 * (V**2).sum())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [1, 2])
def test_planted_activations_are_found(beta, dtype):
    rng = np.random.default_rng(0)
    W = (rng.random((60, 50)) ** 4).astype(dtype)
    H = np.zeros((50, 8), dtype)
    for n in range(8):
        H[rng.choice(50, 4, replace=False), n] = rng.random(4) + 0.5
    step = solve_exact((W @ H).astype(dtype), W, beta=beta, tolerance=1e-6)
    np.testing.assert_allclose(step.H.toarray(), H, atol=1e-3 if dtype == np.float32 else 1e-6)
    assert step.gap <= (1e-4 if dtype == np.float32 else 1e-10) * (W @ H).sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize("tolerance", [0.1, 1e-2, 1e-3])
def test_the_tolerance_is_honoured(beta, dtype, tolerance):
    V, W = sounds(7, n_bins=200, n_atoms=300, n_frames=150, dtype=dtype)
    steps = list(exact_steps(V, W, beta=beta, tolerance=tolerance))
    assert steps[-1].relative_gap <= tolerance
    assert all(step.relative_gap > tolerance for step in steps[:-1])
    assert [step.iteration for step in steps] == list(range(1, len(steps) + 1))
    best = solve_exact(V.astype(float), W.astype(float), beta=beta, tolerance=1e-7)
    # The floor in double precision differs, by far less than any tolerance here.
    assert steps[-1].divergence <= best.divergence * (1 + tolerance)
    assert steps[-1].H.dtype == dtype


# --- degenerate problems


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [1, 2])
def test_silence_has_no_activations_and_no_gap(beta, dtype):
    V, W = sounds(1, dtype=dtype)
    V[:, 2] = 0
    W[:, [0, 5]] = 0
    step = solve_exact(V, W, beta=beta)
    H = step.H.toarray()
    assert not H[:, 2].any()
    assert not H[[0, 5]].any()
    assert step.frame_gaps[2] == 0
    assert step.relative_gap <= 1e-3
    silent = solve_exact(np.zeros_like(V), W, beta=beta)
    assert silent.H.nnz == 0
    assert silent.gap == silent.relative_gap == 0


@pytest.mark.parametrize("beta", [1, 2])
def test_a_silent_source_is_at_its_optimum_without_activations(beta):
    V, _ = sounds(1)
    step = solve_exact(V, np.zeros((24, 3)), beta=beta)
    assert step.H.nnz == 0
    assert step.divergence == pytest.approx(divergence(V, np.zeros((24, 3)), np.zeros((3, 6)), beta))
    assert step.relative_gap <= 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda V, W: (V, np.concatenate([W, W, W], axis=1)), id="duplicates"),
        pytest.param(lambda V, W: (V, W[:, :1]), id="one atom"),
        pytest.param(lambda V, W: (V[:, :1], W), id="one frame"),
        pytest.param(lambda V, W: (V[:, :1], W[:, :1]), id="one of each"),
        pytest.param(lambda V, W: (V, np.repeat(W[:, :1], 50, axis=1)), id="all alike"),
        pytest.param(lambda V, W: (V[:1], W[:1]), id="one bin"),
        pytest.param(lambda V, W: (V, W * (np.arange(24) < 6)[:, None]), id="bins that no atom has"),
        pytest.param(lambda V, W: (V * (np.arange(24) < 6)[:, None], W), id="bins that the target has not"),
        pytest.param(lambda V, W: (V * (np.arange(24) < 6)[:, None], W * (np.arange(24) > 8)[:, None]), id="disjoint"),
        pytest.param(lambda V, W: (V * np.geomspace(1e-12, 1e6, 6), W), id="frames at all levels"),
        pytest.param(lambda V, W: (V, W * np.geomspace(1e-12, 1e6, 40)), id="atoms at all levels"),
        pytest.param(lambda V, W: (V * 1e-12, W * 1e6), id="tiny from huge"),
        pytest.param(lambda V, W: (V * 1e6, W * 1e-12), id="huge from tiny"),
    ],
)  # fmt: skip
def test_degenerate_problems_are_solved(beta, dtype, change):
    V, W = (x.astype(dtype) for x in change(*sounds(5)))
    step = solve_exact(V, W, beta=beta, tolerance=1e-4)
    assert np.isfinite(step.H.data).all()
    assert (step.H.data > 0).all()
    heard = float((V.astype(float) ** beta).sum())
    assert step.gap <= max(1e-4 * (step.divergence - step.gap), 2e-5 * heard)
    if beta == 2:
        best = sum(0.5 * nnls(W.astype(float), v, maxiter=10_000)[1] ** 2 for v in V.T.astype(float))
        assert step.divergence - step.gap <= best + 1e-12 * heard
        assert best <= step.divergence + 1e-12 * heard
        return
    *_, last = activation_steps(V.astype(float), W.astype(float), n_iter=3000, init=np.ones(step.H.shape))
    found = divergence(V, W, last.H, beta)
    assert step.divergence - step.gap <= found + 1e-12 * heard
    assert step.divergence <= found + max(1e-4 * found, 2e-5 * heard)


def test_an_atom_whose_gain_would_overflow_counts_as_silent():
    V, W = np.full((2, 1), 1e6, np.float32), np.array([[1e-38, 0], [0, 1]], np.float32)
    step = solve_exact(V, W)
    assert np.isfinite(step.H.toarray()).all()
    np.testing.assert_allclose(step.H.toarray()[1], 1e6, rtol=1e-5)


# --- the generator


def test_stopping_early_gives_the_same_first_steps():
    V, W = sounds(2, n_bins=80, n_atoms=200, n_frames=100)
    whole = list(exact_steps(V, W, tolerance=1e-8))
    stopped = list(islice(exact_steps(V, W, tolerance=1e-8), 2))
    assert len(whole) > 2
    for a, b in zip(stopped, whole, strict=False):
        assert isinstance(a, ExactStep)
        assert a.gap == b.gap
        np.testing.assert_array_equal(a.H.toarray(), b.H.toarray())
    assert len(list(exact_steps(V, W, tolerance=1e-12, n_iter=3))) == 3
    bounds = [step.divergence - step.gap for step in whole]
    assert (np.diff(bounds) >= -1e-12 * bounds[-1]).all()


@pytest.mark.parametrize("beta", [1, 2])
def test_the_number_of_cores_changes_nothing(monkeypatch, beta):
    V, W = sounds(2, n_bins=80, n_atoms=200, n_frames=200, dtype=np.float32)
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(_parallel, "n_cores", lambda cores=cores: cores)
        found.append(solve_exact(V, W, beta=beta))
    assert found[0].gap == found[1].gap == found[2].gap
    np.testing.assert_array_equal(found[0].H.toarray(), found[1].H.toarray())
    np.testing.assert_array_equal(found[0].H.toarray(), found[2].H.toarray())


def test_arguments_are_not_changed():
    V, W = sounds(4)
    before = V.copy(), W.copy()
    solve_exact(V, W)
    np.testing.assert_array_equal(V, before[0])
    np.testing.assert_array_equal(W, before[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 1.5}, "only 1 .* and 2 .* have an exact solution"),
        ({"beta": 0}, "beta"),
        ({"tolerance": 0}, "tolerance is 0"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"n_iter": 0}, "n_iter"),
        ({"V": np.ones((3, 2))}, "frequency bins"),
        ({"W": -np.ones((4, 2))}, "negative"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(arguments, message):
    with pytest.raises(ValueError, match=message):
        exact_steps(**({"V": np.ones((4, 2)), "W": np.ones((4, 3))} | arguments))


# --- gains of chosen activations


@pytest.mark.parametrize("beta", [1, 2])
@given(problem=problems(), seed=seeds)
def test_gain_steps_never_raise_the_divergence_and_keep_zeros(beta, problem, seed):
    V, W, H = problem
    H = H * (np.random.default_rng(seed).random(H.shape) < 0.5).astype(H.dtype)
    copy = H.copy()
    fit = GainFit.of(V, W, H, beta=beta)
    plain = SpectralFit.of(V, W, beta=beta, eps=0)
    eps = 500 * np.finfo(V.dtype).eps
    np.testing.assert_allclose(fit.product(H).T, plain.product(H), rtol=eps)
    last = divergence(V, W, H, beta)
    for step in steps_of(MatrixStep(0, H, fit), 4):
        assert step.H.dtype == V.dtype
        assert not step.H[H == 0].any()
        now = divergence(V, W, step.H, beta)
        size = (V.astype(float) ** beta).sum() + (modelled(V, W, step.H, beta) ** beta).sum()
        assert now <= last + eps * size
        last = now
    np.testing.assert_array_equal(H, copy)


@pytest.mark.parametrize("beta", [1, 2])
def test_eight_gain_steps_reach_the_optimum(beta):
    V, W = sounds(9, n_atoms=12)
    H = np.ones((12, 6))
    *_, last = steps_of(MatrixStep(0, H, GainFit.of(V, W, H, beta=beta)), 8)
    assert last.divergence == pytest.approx(solve_exact(V, W, beta=beta, tolerance=1e-8).divergence, rel=1e-5)


@given(dtype=dtypes)
def test_five_gain_steps_come_as_near_as_a_hundred_updates(dtype):
    V, W = sounds(9, n_bins=100, n_atoms=60, dtype=dtype)
    H = np.zeros((60, 6), dtype)
    H[np.random.default_rng(0).permuted(np.tile(np.arange(60), (6, 1)), axis=1)[:, :8].T, np.arange(6)] = 1
    *_, few = steps_of(MatrixStep(0, H, GainFit.of(V, W, H)), 5)
    *_, many = steps_of(MatrixStep(0, H, SupportFit.of(V, W, H)), 100)
    assert few.divergence <= many.divergence * (1 + 1e-6)


@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gain_fit_may_have_no_activations(beta, dtype):
    V, W, H = np.ones((3, 2), dtype), np.ones((3, 4), dtype), np.zeros((4, 2), dtype)
    fit = GainFit.of(V, W, H, beta=beta)
    assert not fit.update(H, fit.product(H)).any()


@given(seeds, st.integers(1, 40), st.sampled_from([np.float32, np.float64]))
def test_the_line_search_ends_where_the_divergence_is_least(seed, n_bins, dtype):
    from smalti.nmf import _newton

    rng = np.random.default_rng(seed)
    target, model = rng.random(n_bins).astype(dtype), (rng.random(n_bins) + 0.01).astype(dtype)
    way = (rng.random(n_bins) - 0.5).astype(dtype) * np.minimum(model, 1)

    def slope(part):
        return float((way * (1 - target / (model + part * way)).astype(np.float64)).sum())

    part = _newton._along(target, model, way)
    assert 0 <= part <= 1
    if slope(0.0) >= 0:
        assert part < 0.01
    elif slope(1.0) <= 0:
        assert part == 1
    else:
        # Newton's method squares the error, so the slope changes its sign within a thousandth of the result.
        assert slope(part * (1 - 1e-3)) < 0 < slope(min(1.0, part * (1 + 1e-3)))
