"""The kernels on features in half precision agree with the readable update on arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smalti import beta_divergence, multiplicative_update
from smalti.nmf import _kernels_f16

pytestmark = pytest.mark.samples

# Half precision is coarse below 6e-5 and ends at 6e-8; features are never larger than 1.
HALVES = st.sampled_from([0.0, 6e-8, 1e-6, 6e-5, 1e-3, 0.1, 0.37, 1.0])
FEATURES = arrays(np.float16, (6, 5), elements=HALVES)
GAINS = np.array([1, 1, 0.25, 3, 0], np.float32)


def lists_of(H):
    frames, atoms = np.nonzero(H.T)
    return np.searchsorted(frames, np.arange(H.shape[1] + 1)), atoms, H.T[frames, atoms].astype(np.float32)


@given(FEATURES)
def test_sums_and_norms_are_those_of_the_weighed_features(features):
    rows = np.array([5, 0, 0, 3])
    sums, norms = np.empty(4, np.float32), np.empty(4, np.float32)
    _kernels_f16.feature_statistics(features.view(np.uint16), rows, GAINS, sums, norms)
    weighed = features[rows].astype(np.float64) * GAINS
    np.testing.assert_allclose(sums, weighed.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(norms, np.linalg.norm(weighed, axis=1), rtol=1e-6)


@given(
    FEATURES,
    arrays(np.float32, (6, 4), elements=st.sampled_from([0.0, 0.125, 1.0, 7.0])),
    arrays(np.float32, (5, 4), elements=st.sampled_from([0.0, 0.5, 2.0])),
)
def test_the_update_agrees_with_the_formula(features, H, V):
    scales = np.array([1, 2, 0.5, 40, 1e-3, 1], np.float32)
    indptr, atoms, values = lists_of(H)
    sums, norms, out = np.empty_like(values), np.empty_like(values), np.full_like(values, np.nan)
    _kernels_f16.feature_statistics(features.view(np.uint16), atoms, GAINS, sums, norms)
    floor = 1e-6
    _kernels_f16.feature_update(
        np.ascontiguousarray((V * GAINS[:, None]).T), features.view(np.uint16), GAINS, indptr, atoms, scales[atoms],
        sums, values, floor, 0.0, out,
    )  # fmt: skip
    W, g, h = (scales[:, None] * features.astype(np.float64)).T, GAINS[:, None].astype(np.float64), H.astype(np.float64)
    # Kullback-Leibler weighed by the gains: sum_b g_b w_b v_b / y_b over sum_b g_b w_b.
    sums_of_atoms = (g * W).sum(axis=0)[:, None]
    expected = h * np.divide(
        W.T @ (g * V / (W @ h + floor)), sums_of_atoms, out=np.zeros_like(h), where=sums_of_atoms > 0
    )
    np.testing.assert_allclose(out, expected[atoms, np.repeat(np.arange(4), np.diff(indptr))], rtol=1e-4, atol=1e-30)


def test_with_equal_gains_the_update_agrees_with_the_readable_one(rng):
    features, V = rng.random((12, 30)).astype(np.float16), rng.random((30, 4)).astype(np.float32)
    H = rng.random((12, 4)).astype(np.float32) * (rng.random((12, 4)) < 0.7)
    indptr, atoms, values = lists_of(H)
    gains, ones = np.ones(30, np.float32), np.ones(len(atoms), np.float32)
    sums, norms, out = np.empty_like(values), np.empty_like(values), np.empty_like(values)
    _kernels_f16.feature_statistics(features.view(np.uint16), atoms, gains, sums, norms)
    _kernels_f16.feature_update(
        np.ascontiguousarray(V.T), features.view(np.uint16), gains, indptr, atoms, ones, sums, values, 1e-12, 0.0, out
    )
    expected = multiplicative_update(H, V, features.T.astype(np.float32))
    np.testing.assert_allclose(out, expected[atoms, np.repeat(np.arange(4), np.diff(indptr))], rtol=1e-5)


@given(FEATURES, arrays(np.float32, (6, 3), elements=st.sampled_from([0.0, 0.125, 7.0])))
def test_the_model_is_the_product_and_the_floor_at_the_gains(features, H):
    indptr, atoms, values = lists_of(H)
    scales = np.full(len(atoms), 3, np.float32)
    Y = np.empty((3, 5), np.float32)
    _kernels_f16.feature_model(features.view(np.uint16), GAINS, indptr, atoms, scales, values, 1e-3, Y)
    np.testing.assert_allclose(
        Y.T, GAINS[:, None] * (3 * features.astype(np.float64).T @ H + 1e-3), rtol=1e-5, atol=1e-30
    )


def test_entries_that_hardly_sound_are_dropped():
    features = np.array([[1, 1], [1, 1]], np.float16).view(np.uint16)
    ones = np.ones(2, np.float32)
    values, out = np.array([1, 1e-5], np.float32), np.empty(2, np.float32)
    V, sums = np.array([[2, 2]], np.float32), 2 * ones
    _kernels_f16.feature_update(
        V, features, ones, np.array([0, 2]), np.array([0, 1]), ones, sums, values, 0.0, 1e-4, out
    )
    assert out[1] == 0
    assert out[0] == pytest.approx(2, rel=1e-4)


def test_updates_never_raise_the_divergence(rng):
    features = rng.random((20, 9)).astype(np.float16)
    V, values = rng.random((1, 9)).astype(np.float32), np.ones(20, np.float32)
    ones, gains, at, indptr = np.ones(20, np.float32), np.ones(9, np.float32), np.arange(20), np.array([0, 20])
    sums, norms, Y = np.empty(20, np.float32), np.empty(20, np.float32), np.empty_like(V)
    _kernels_f16.feature_statistics(features.view(np.uint16), at, gains, sums, norms)
    before = np.inf
    for _ in range(30):
        _kernels_f16.feature_model(features.view(np.uint16), gains, indptr, at, ones, values, 1e-9, Y)
        now = beta_divergence(V, Y)
        assert now <= before * (1 + 1e-5)
        before, out = now, np.empty_like(values)
        _kernels_f16.feature_update(V, features.view(np.uint16), gains, indptr, at, ones, sums, values, 1e-9, 0.0, out)
        values = out


@given(
    st.lists(st.integers(0, 40), max_size=12, unique=True),
    st.integers(1, 6),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_only_the_best_of_neighbouring_hits_is_taken(atoms, apart, n, random):
    atoms = np.sort(np.array(atoms, np.int32))
    scores = np.array(random.sample(range(100), len(atoms)), np.float32)
    wanted = []
    for j in np.argsort(-scores):
        if len(wanted) < n and all(abs(int(atoms[j]) - other) > apart for other in wanted):
            wanted.append(int(atoms[j]))
    best = np.empty((1, n), np.int64)
    _kernels_f16.diverse(np.array([0, len(atoms)]), atoms, scores, 0, 1, apart, best)
    assert best[0].tolist() == wanted + [-1] * (n - len(wanted))
