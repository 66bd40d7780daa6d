"""Activations: the teaching notebook and Let it Bee agree with plain transcriptions, and updates keep their laws."""

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from smalti import LetItBee, activation_steps, beta_divergence, multiplicative_update, solve_activations
from smalti.nmf.divergence import GramFit, SpectralFit, noise_floor
from smalti.nmf.multiplicative import choose_fit
from strategies import BETAS, DTYPES, betas, positive, problems, segments_of

# Few atoms and many bins make the Gram form cheaper, the opposite the plain one.
SHAPES = {"gram": (40, 12, 15), "spectral": (12, 40, 15)}


def random_problem(rng, n_bins, n_atoms, n_frames, *, dtype=np.float64):
    """A target with sixty decibels of dynamics, atoms at unit norm, and a start in [0, 1)."""
    V = rng.random((n_bins, n_frames)) ** 3
    W = rng.random((n_bins, n_atoms)) ** 3
    W /= np.linalg.norm(W, axis=0)
    return V.astype(dtype), W.astype(dtype), rng.random((n_atoms, n_frames)).astype(dtype)


def rounding(V, W, H, beta):
    """The rounding of the divergence in H's dtype: each Y is a sum over K, and each update sums over F and K."""
    F, K = W.shape
    limits = np.finfo(H.dtype)
    V, Y = V.astype(float), W.astype(float) @ H.astype(float) + noise_floor(V)
    # The terms are as large as these, and a relative error of Y is one of the last two.
    size = np.sum(V**2 + Y**2) if beta == 2 else np.sum(V**beta + Y**beta + V * Y ** (beta - 1))
    return float(limits.eps) * (F + K) * float(size) / (abs(beta * (beta - 1)) or 1)


# --- the teaching notebook


@pytest.mark.parametrize("form", SHAPES)
def test_activations_are_the_notebooks_in_double_precision(rng, form):
    V, W, H = random_problem(rng, *SHAPES[form])
    step = solve_activations(V, W, n_iter=100, beta=2, eps=0.01, init=H)
    np.testing.assert_allclose(step.H, oracles.notebook(V, W, H), rtol=1e-9, atol=0)


@pytest.mark.parametrize("form", SHAPES)
def test_activations_are_the_notebooks_in_single_precision(rng, form):
    V, W, H = random_problem(rng, *SHAPES[form], dtype=np.float32)
    step = solve_activations(V, W, n_iter=100, beta=2, eps=0.01, init=H)
    expected = oracles.notebook(V.astype(float), W.astype(float), H.astype(float))
    assert step.H.dtype == np.float32
    np.testing.assert_allclose(step.H, expected, rtol=1e-4, atol=1e-4 * expected.max() / 1000)
    np.testing.assert_allclose(W @ step.H, W @ expected, rtol=1e-4)


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_both_euclidean_forms_agree_step_by_step(rng, form, eps):
    V, W, H = random_problem(rng, *SHAPES[form])
    G = H
    gram, spectral = GramFit.of(V, W, eps=eps), SpectralFit.of(V, W, beta=2, eps=eps)
    for _ in range(100):
        G, H = gram.update(G, gram.product(G)), spectral.update(H, spectral.product(H))
        np.testing.assert_allclose(G, H, rtol=1e-9, atol=0)
        assert gram.divergence(gram.product(G)) == pytest.approx(spectral.divergence(spectral.product(H)))


def test_the_cheaper_form_is_chosen(rng):
    for form, kind in (("gram", GramFit), ("spectral", SpectralFit)):
        V, W, _ = random_problem(rng, *SHAPES[form])
        assert type(choose_fit(V, W, n_iter=100, beta=2, eps=0.01)) is kind
        for beta in (0, 0.5, 1, 1.5):
            assert type(choose_fit(V, W, n_iter=100, beta=beta, eps=0.01)) is SpectralFit


# --- every beta against the literal update


@settings(max_examples=30)
@given(problems(dtype=np.float64, most=4), betas, st.sampled_from([0.0, 0.01]))
def test_each_iteration_is_the_papers_update(problem, beta, eps):
    V, W, H = problem
    # The tests of a single update cover silence in V, which Itakura-Saito lifts to the floor.
    V = V + 0.5
    for step in activation_steps(V, W, n_iter=4, beta=beta, eps=eps, init=H):
        H = oracles.update(H, V, W, beta, eps)
        np.testing.assert_allclose(step.H, H, rtol=1e-9)


@given(problems(dtype=np.float64), betas)
def test_a_step_is_a_multiplicative_update(problem, beta):
    V, W, H = problem
    step = solve_activations(V, W, n_iter=1, beta=beta, init=H)
    np.testing.assert_allclose(step.H, multiplicative_update(H, V, W, beta=beta), rtol=1e-12)


# --- descent


@given(problems(), betas, st.sampled_from([0.0, 0.01]))
def test_the_divergence_never_rises(problem, beta, eps):
    V, W, H = problem
    steps = list(activation_steps(V, W, n_iter=12, beta=beta, eps=eps, init=H))
    for before, after in pairwise(steps):
        tolerance = 2 * rounding(V, W, before.H, beta) + 2 * rounding(V, W, after.H, beta)
        assert after.divergence <= before.divergence + tolerance


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("eps", [0.0, 0.01])
@pytest.mark.parametrize("beta", BETAS)
def test_the_divergence_falls_strictly_on_spectra_that_do_not_fit(rng, form, beta, eps):
    V, W, H = random_problem(rng, *SHAPES[form])
    path = [step.divergence for step in activation_steps(V + 0.01, W, n_iter=100, beta=beta, eps=eps, init=H)]
    assert max(np.diff(path)) < 0


@pytest.mark.parametrize("beta", [1, 1.5, 2])
def test_the_divergence_falls_in_single_precision_apart_from_rounding(rng, beta):
    V, W, H = random_problem(rng, *SHAPES["gram"], dtype=np.float32)
    steps = list(activation_steps(V, W, n_iter=200, beta=beta, init=H))
    path = [beta_divergence(V.astype(float), W.astype(float) @ step.H.astype(float), beta=beta) for step in steps]
    # This is far less than the rounding of the terms, since the errors of many terms cancel.
    assert max(np.diff(path)) < 1e-6 * path[-1]
    assert path[-1] < 0.9 * path[0]


# --- exact recovery


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", [1, 2])
def test_planted_activations_are_recovered(rng, beta, dtype):
    W = (rng.random((30, 8)) ** 3).astype(dtype)
    planted = (rng.random((8, 10)) * (rng.random((8, 10)) < 0.3)).astype(dtype)
    planted[:, 4] = 0
    V = W @ planted
    H = solve_activations(V, W, n_iter=2000, beta=beta).H
    # Multiplicative updates approach a zero slowly: gains that should be 0 fade as 1 / iterations.
    assert np.linalg.norm(V - W @ H) < 1e-3 * np.linalg.norm(V)
    np.testing.assert_allclose(H, planted, atol=0.01)
    assert not H[:, 4].any()
    # If the start has the zeros already, the other gains become exact.
    from_support = solve_activations(V, W, n_iter=2000, beta=beta, init=(planted > 0).astype(dtype)).H
    np.testing.assert_allclose(from_support, planted, rtol=1e-4, atol=0)


@pytest.mark.parametrize("beta", BETAS)
def test_a_single_atom_gets_the_best_gain(rng, beta):
    w, V = rng.random((6, 1)) + 0.1, rng.random((6, 4)) + 0.1
    gains = np.sum(w ** (beta - 1) * V, axis=0) / np.sum(w**beta)
    np.testing.assert_allclose(solve_activations(V, w, n_iter=60, beta=beta).H[0], gains, rtol=1e-9)


@pytest.mark.parametrize("beta", [1, 1.5, 2])
def test_the_end_meets_the_conditions_of_a_minimum(rng, beta):
    V, W, _ = random_problem(rng, 20, 6, 5)
    H = solve_activations(V, W, n_iter=3000, beta=beta).H
    Y = W @ H
    slope = W.T @ ((Y - V) * Y ** (beta - 2))
    # Karush, Kuhn, Tucker: slopes are 0 where an atom sounds, and nowhere negative.
    assert np.abs(H * slope).max() < 1e-3
    assert slope.min() > -1e-2


# --- silence, zeros and extreme numbers


@given(problems(), betas, st.sampled_from([0.0, 0.01]), st.sampled_from([1e-10, 1.0, 1e8]), st.data())
def test_activations_and_divergences_are_finite_for_all_spectra(problem, beta, eps, scale, data):
    V, W, _ = problem
    if data.draw(st.booleans()):
        V = V * V.dtype.type(scale)
    else:
        W = W * W.dtype.type(scale)
    for step in activation_steps(V, W, n_iter=15, beta=beta, eps=eps):
        assert np.isfinite(step.H).all()
        assert (step.H >= 0).all()
        assert step.divergence >= 0
        # The floor is part of the model, or a bin of V that no atom has would be infinitely far.
        assert np.isfinite(step.divergence)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_all_zero_spectra(beta, eps, dtype):
    zeros, ones = np.zeros((5, 4), dtype), np.ones((5, 4), dtype)
    for V, W in ((zeros, ones), (ones, zeros), (zeros, zeros)):
        for step in activation_steps(V, W, n_iter=300, beta=beta, eps=eps):
            assert np.isfinite(step.H).all()
            assert np.isfinite(step.divergence)
        if not eps and not W.any():
            assert not step.H.any()
        if not V.any():
            assert (W @ step.H).max() < 1e-2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", [0.5, 1, 1.5, 2])
@pytest.mark.parametrize("constraints", [None, LetItBee(2, 3, 1)])
def test_a_silent_frame_stays_silent_and_leaves_the_others_alone(rng, constraints, beta, dtype):
    V, W, H = random_problem(rng, 20, 9, 7, dtype=dtype)
    V[:, 3] = 0
    assert not solve_activations(V, W, n_iter=10, beta=beta, constraints=constraints, init=H).H[:, 3].any()
    if constraints is None:
        alone = solve_activations(np.delete(V, 3, 1), W, n_iter=10, beta=beta, init=np.delete(H, 3, 1)).H
        together = solve_activations(V, W, n_iter=10, beta=beta, init=H).H
        np.testing.assert_allclose(np.delete(together, 3, 1), alone, rtol=1e-4 if dtype == np.float32 else 1e-11)


@given(problems(entries=positive), betas, st.sampled_from([2.0**-33, 2.0**26]))
def test_scaling_target_and_start_scales_the_activations(problem, beta, scale):
    V, W, H = problem
    scale = V.dtype.type(scale)
    plain = solve_activations(V, W, n_iter=5, beta=beta, init=H).H
    scaled = solve_activations(scale * V, W, n_iter=5, beta=beta, init=scale * H).H
    # Powers of two round nothing, and the floor follows the target; powers of Y do round.
    np.testing.assert_allclose(scaled / scale, plain, rtol=200 * np.finfo(V.dtype).eps)


@given(problems(dtype=np.float64, entries=positive), st.sampled_from([1, 1.5, 2]), st.sampled_from([1e-10, 1e8]))
def test_from_beta_1_on_scaling_the_target_alone_scales_the_activations(problem, beta, scale):
    V, W, H = problem
    plain = solve_activations(V, W, n_iter=5, beta=beta, init=H).H
    scaled = solve_activations(scale * V, W, n_iter=5, beta=beta, init=H).H
    # At 1e8 the floor is 1e-12 of the first model.
    np.testing.assert_allclose(scaled / scale, plain, rtol=1e-6)


@given(problems(dtype=np.float64, entries=positive), betas, st.sampled_from([1e-8, 1e8]))
def test_quieter_atoms_get_larger_gains(problem, beta, scale):
    V, W, H = problem
    plain = solve_activations(V, W, n_iter=5, beta=beta, init=H).H
    scaled = solve_activations(V, scale * W, n_iter=5, beta=beta, init=H / scale).H
    np.testing.assert_allclose(scaled * scale, plain, rtol=1e-9)


@given(problems(entries=positive), st.integers(1, 10))
def test_kullback_leibler_keeps_the_mass_of_every_frame(problem, n_iter):
    V, W, H = problem
    for step in activation_steps(V, W, n_iter=n_iter, beta=1, init=H):
        # The model before was W @ H and the floor, and what the floor explained is missing.
        slack = noise_floor(V) / (W @ H).min()
        H = step.H
        np.testing.assert_allclose((W @ H).sum(axis=0), V.sum(axis=0), rtol=50 * np.finfo(V.dtype).eps + slack)


# --- the start


def test_the_start_is_respected_and_not_touched(rng):
    V, W, H = random_problem(rng, 9, 5, 7)
    H[2] = 0
    before = H.copy()
    first = next(activation_steps(V, W, n_iter=3, init=H))
    np.testing.assert_allclose(first.H, oracles.update(H, V, W, 1), rtol=1e-9)
    assert not solve_activations(V, W, n_iter=10, init=H).H[2].any()
    np.testing.assert_array_equal(H, before)


def test_the_same_seed_gives_the_same_activations_and_0_is_the_default(rng):
    V, W, _ = random_problem(rng, 9, 5, 7)
    default, zero, again, other = (
        solve_activations(V, W, n_iter=3, **seed).H for seed in ({}, {"rng": 0}, {"rng": 0}, {"rng": 1})
    )
    np.testing.assert_array_equal(default, zero)
    np.testing.assert_array_equal(zero, again)
    assert not np.allclose(zero, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_random_start_is_the_generators_uniform_numbers(rng, dtype):
    V, W, _ = random_problem(rng, 9, 5, 7, dtype=dtype)
    start = np.random.default_rng(42).random((5, 7))
    given_start = solve_activations(V, W, n_iter=2, init=start).H
    for seed in (42, np.random.default_rng(42)):
        np.testing.assert_array_equal(solve_activations(V, W, n_iter=2, rng=seed).H, given_start)


def test_a_generator_goes_on_from_where_it_is(rng):
    V, W, _ = random_problem(rng, 9, 5, 7)
    first, second = (solve_activations(V, W, n_iter=2, rng=rng).H for _ in range(2))
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [("fff", np.float32), ("ffd", np.float32), ("fdf", np.float64), ("dff", np.float64), ("ddf", np.float64)],
)
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("constraints", [None, LetItBee(rank="energy")])
def test_target_and_dictionary_decide_the_precision(rng, kinds, expected, beta, constraints):
    V, W, H = (x.astype(kind) for x, kind in zip(random_problem(rng, 9, 5, 7), kinds, strict=True))
    steps = activation_steps(V, W, n_iter=2, beta=beta, init=H, constraints=constraints)
    assert {step.H.dtype for step in steps} == {np.dtype(expected)}


def test_magnitudes_may_be_lists_of_whole_numbers():
    np.testing.assert_allclose(solve_activations([[4, 2]], [[2]], n_iter=3).H, [[2, 1]])


# --- the generator


@pytest.mark.parametrize("constraints", [None, LetItBee(every=2)])
def test_steps_are_numbered_from_1(rng, constraints):
    V, W, _ = random_problem(rng, 9, 5, 7)
    steps = list(activation_steps(V, W, n_iter=5, constraints=constraints))
    assert [step.iteration for step in steps] == [1, 2, 3, 4, 5]


def test_stopping_early_gives_the_same_first_steps(rng):
    V, W, _ = random_problem(rng, 9, 5, 7)
    expected = [step.H.copy() for step in activation_steps(V, W, n_iter=10)]
    stopped = list(islice(activation_steps(V, W, n_iter=10), 4))
    for step, H in zip(stopped, expected, strict=False):
        np.testing.assert_array_equal(step.H, H)


def test_reading_the_divergence_changes_nothing(rng):
    V, W, _ = random_problem(rng, 9, 5, 7)
    for constraints in (None, LetItBee(2, 3, 1)):
        activations = [
            (step.divergence, step.H)[1] for step in activation_steps(V, W, n_iter=6, constraints=constraints)
        ]
        np.testing.assert_array_equal(activations[-1], solve_activations(V, W, n_iter=6, constraints=constraints).H)


@settings(max_examples=40)
@given(problems(dtype=np.float64), st.sampled_from([0.5, 1.0, 1.5, 2.0]), st.booleans())
def test_the_divergence_of_a_step_is_that_of_its_model(problem, beta, restricted):
    V, W, H = problem
    constraints = LetItBee(1, 2, 1) if restricted else None
    for step in activation_steps(V, W, n_iter=4, beta=beta, init=H, constraints=constraints):
        # Without the floor, bins that no atom has would be infinitely far.
        model = W @ step.H + (noise_floor(V) if beta < 2 else 0)
        # The Gram form subtracts energies.
        rounded = 1e-13 * np.sum(V * V)
        assert step.divergence == pytest.approx(beta_divergence(V, model, beta=beta), rel=1e-9, abs=rounded)


@pytest.mark.parametrize("beta", BETAS)
def test_the_floor_does_not_show_where_every_bin_is_explained(rng, beta):
    V, W, H = random_problem(rng, 9, 5, 7)
    step = solve_activations(V, W, n_iter=3, beta=beta, init=H)
    assert step.divergence == pytest.approx(beta_divergence(V, W @ step.H, beta=beta), rel=1e-9)


def test_itakura_saitos_floor_lies_under_the_target_too(rng):
    V, W, H = random_problem(rng, 9, 5, 7)
    V[2] = 0
    step = solve_activations(V, W, n_iter=3, beta=0, init=H)
    floor = noise_floor(V)
    assert step.divergence == pytest.approx(beta_divergence(V + floor, W @ step.H + floor, beta=0), rel=1e-9)


# --- Let it Bee


def plain(H):
    """`H` without ties, which a literal loop and a fast selection may break differently.

    Equal steps would not do: along diagonals they add up to equal sums.
    """
    return H + 1e-3 * np.random.default_rng(1).random(H.shape)


@pytest.mark.parametrize("segments", [None, [0, 0, 0, 0, 1, 1, 1, 2]])
@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize(("rank", "power"), [("h", 0), ("contribution", 1), ("energy", 2)])
def test_let_it_bee_is_the_papers_algorithm(rng, rank, power, every, segments):
    V, W, H = random_problem(rng, 10, 8, 12)
    W *= 10 ** rng.uniform(-2, 1, 8)
    H = plain(H)
    rules = LetItBee(repetition=2, polyphony=3, continuity=1, every=every, rank=rank)
    steps = activation_steps(V, W, n_iter=6, constraints=rules, segments=segments, init=H)
    expected = oracles.let_it_bee(V, W, H, 6, 2, 3, 1, every=every, power=power, segments=segments)
    for step, H in zip(steps, expected, strict=True):
        np.testing.assert_allclose(step.H, H, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reaches", [(2, None, None), (None, 3, None), (None, None, 2), (None, 3, 2), (1, 2, None)])
@pytest.mark.parametrize(("beta", "eps"), [(1, 0.0), (2, 0.01), (0.5, 0.0)])
def test_restrictions_may_be_left_out_and_combine_with_every_update(rng, reaches, beta, eps):
    V, W, H = random_problem(rng, 10, 8, 12)
    rules = LetItBee(*reaches)
    steps = activation_steps(V, W, n_iter=4, beta=beta, eps=eps, constraints=rules, init=H)
    expected = oracles.let_it_bee(V, W, H, 4, *reaches, beta=beta, eps=eps)
    for step, H in zip(steps, expected, strict=True):
        np.testing.assert_allclose(step.H, H, rtol=1e-9, atol=1e-12)


@settings(max_examples=30)
@given(problems(dtype=np.float64), st.data())
def test_the_whole_algorithm_on_recordings_of_any_length(problem, data):
    V, W, H = problem
    H, V, W = plain(H), V + 0.25, W + 0.25 * np.random.default_rng(0).random(W.shape)
    segments = data.draw(segments_of(len(H)))
    reaches = tuple(data.draw(st.integers(1, 6)) for _ in range(3))
    # The last iteration's zeros may meet in ties; the ones before have none.
    steps = activation_steps(V, W, n_iter=8, constraints=LetItBee(*reaches), segments=segments, init=H)
    expected = oracles.let_it_bee(V, W, H, 8, *reaches, segments=segments)
    for step, H in zip(islice(steps, 4), expected, strict=False):
        np.testing.assert_allclose(step.H, H, rtol=1e-7, atol=1e-9)


def test_between_restricted_iterations_the_update_runs_alone(rng):
    V, W, H = random_problem(rng, 10, 8, 12)
    steps = list(activation_steps(V, W, n_iter=7, constraints=LetItBee(2, 3, 1, every=3), init=H))
    before = [H, *(step.H for step in steps)]
    for iteration in range(7):
        unrestricted = multiplicative_update(before[iteration], V, W)
        assert np.allclose(before[iteration + 1], unrestricted, rtol=1e-9) == (iteration not in (0, 3, 6))


def test_without_continuity_polyphony_and_repetition_hold_in_the_end(rng):
    V, W, _ = random_problem(rng, 20, 30, 25)
    rules = LetItBee(repetition=2, polyphony=4, continuity=None)
    H = solve_activations(V, W, n_iter=20, constraints=rules).H
    assert (np.count_nonzero(H, axis=0) <= 4).all()
    for row in H:
        assert not any(row[t] and row[t + 1 : t + 3].any() for t in range(25))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_planted_run_of_source_frames_is_found(rng, dtype):
    # Thirty source frames have a bin each and share a background; the target plays frames 10 to 19.
    W = (np.eye(30) + 0.2 * rng.random((30, 30))).astype(dtype)
    V = W[:, 10:20].copy()
    H = solve_activations(V, W, n_iter=50, constraints=LetItBee(repetition=3, polyphony=2, continuity=2)).H
    np.testing.assert_array_equal(H.argmax(axis=0), np.arange(10, 20))


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"V": -np.ones((3, 2))}, ValueError, r"V holds negative values"),
        ({"V": np.full((3, 2), np.nan)}, ValueError, r"V holds 6 values that are NaN or infinite"),
        ({"V": np.ones(3)}, ValueError, r"V has shape \(3,\); pass a matrix"),
        ({"W": np.ones((4, 2))}, ValueError, r"W has 4 frequency bins but V has 3"),
        ({"W": np.ones((3, 0))}, ValueError, r"W has shape \(3, 0\)"),
        ({"n_iter": 0}, ValueError, r"n_iter is 0; pass a whole number of at least 1"),
        ({"n_iter": 2.0}, TypeError, r"n_iter is 2.0"),
        ({"beta": 3}, ValueError, r"beta is 3; pass a number from 0 to 2"),
        ({"beta": "kl"}, TypeError, r"beta is 'kl'"),
        ({"eps": -0.1}, ValueError, r"eps is -0.1"),
        ({"init": np.ones((2, 4))}, ValueError, r"init has shape \(2, 4\); 4 atoms and 2 frames need \(4, 2\)"),
        ({"init": -np.ones((4, 2))}, ValueError, r"init holds negative values"),
        ({"segments": [0, 0, 1]}, ValueError, r"segments has shape \(3,\); pass one number for each of the 4 atoms"),
        ({"segments": list("aabb")}, TypeError, r"segments has dtype .*; pass integers"),
        ({"rng": "seed"}, TypeError, None),
    ],
)
def test_bad_arguments_are_refused_at_the_call(arguments, error, words):
    good = {"V": np.ones((3, 2)), "W": np.ones((3, 4)), "n_iter": 2}
    with pytest.raises(error, match=words):
        activation_steps(**(good | arguments))
    with pytest.raises(error, match=words):
        solve_activations(**(good | arguments))
