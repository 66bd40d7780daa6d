"""Distances between clouds of frames, against all pairs and against their formula."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
from hypothesis import given
from hypothesis import strategies as st

from smalti.metrics.timbre import Scale, evenly, frechet_distance, nearest_distances, own_distance
from strategies import seeds


@given(seeds, st.integers(1, 400), st.integers(1, 30))
def test_nearest_distances_are_those_of_all_pairs(seed, n, m):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    pairs = scipy.spatial.distance.cdist(A, B)
    np.testing.assert_allclose(nearest_distances(A, B), pairs.min(axis=1), atol=1e-7)
    if n > 1:
        own = scipy.spatial.distance.cdist(A, A)
        np.fill_diagonal(own, np.inf)
        assert own_distance(A) == pytest.approx(own.min(axis=1).mean(), abs=1e-7)
        assert own_distance(A, queries=5) == pytest.approx(own[evenly(n, 5)].min(axis=1).mean(), abs=1e-7)


def test_a_single_frame_has_no_other():
    assert own_distance(np.ones((1, 4))) == 0


@given(st.integers(0, 500), st.integers(1, 50))
def test_samples_are_spread_evenly(n, most):
    kept = evenly(n, most)
    assert len(kept) == min(n, most)
    assert (np.diff(kept) >= 1).all()
    assert np.ptp(np.diff(kept)) <= 1 if len(kept) > 1 else True
    assert not kept.size or (kept[0] == 0 and kept[-1] < n)


def test_the_frechet_distance_is_its_formula(rng):
    A, B = rng.standard_normal((50, 4)) @ rng.standard_normal((4, 4)), 2 + rng.standard_normal((60, 4))
    covariances = [np.cov(cloud.T, bias=True) for cloud in (A, B)]
    shift = ((A.mean(axis=0) - B.mean(axis=0)) ** 2).sum()
    expected = shift + np.trace(sum(covariances) - 2 * scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real)
    assert frechet_distance(A, B) == pytest.approx(expected)
    assert frechet_distance(B, A) == pytest.approx(expected)
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-9)
    # One dimension: the difference of means and that of deviations, squared.
    a, b = A[:, :1], B[:, :1]
    assert frechet_distance(a, b) == pytest.approx((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2)
    assert frechet_distance(A, B, diagonal=True) == pytest.approx(shift + ((A.std(axis=0) - B.std(axis=0)) ** 2).sum())
    assert frechet_distance(a[:1], b[:1]) == pytest.approx((a[0, 0] - b[0, 0]) ** 2)


def test_a_scale_runs_from_the_target_to_the_source(rng):
    T, S = rng.standard_normal((80, 3)) + 6, rng.standard_normal((90, 3)) * [1, 10, 0.1]
    scale = Scale(T, S)
    assert scale.nearness(T) == pytest.approx(0)
    assert scale.frechet_ratio(T) == pytest.approx(1)
    assert scale.nearness(S) == 1
    assert scale.frechet_ratio(S) == pytest.approx(0, abs=1e-9)
    halves = [scale.nearness(share * S[:80] + (1 - share) * T) for share in (0.2, 0.5, 0.8)]
    assert 0 < halves[0] < halves[1] < halves[2] < 1
    assert scale.nearness(T + 100) == -1
    # Standardised: units do not matter. Not standardised: they do.
    units = np.array([1, 100, 0.1])
    Y = 0.5 * S[:80] + 0.5 * T
    assert Scale(T * units, S * units).nearness(Y * units) == pytest.approx(scale.nearness(Y))
    bare = Scale(T, S, standardise=False)
    d_ts, d_ys = (scipy.spatial.distance.cdist(cloud, S).min(axis=1).mean() for cloud in (T, Y))
    assert bare.nearness(Y) == pytest.approx((d_ts - d_ys) / (d_ts - own_distance(S)))


def test_a_scale_of_two_alike_or_of_nothing_is_defined(rng):
    S = rng.standard_normal((50, 3))
    alike = Scale(S, S)
    assert alike.nearness(S) == 1
    assert alike.nearness(S + 50) == -1
    assert alike.frechet_ratio(S) == 0
    assert math.isfinite(alike.frechet_ratio(S + 50))
    point = Scale(np.ones((1, 3)), np.ones((1, 3)))
    assert point.nearness(np.ones((2, 3))) == 1
    assert point.frechet_ratio(np.ones((2, 3))) == 0
    empty = np.zeros((0, 3))
    assert alike.nearness(empty) == -1
    assert alike.frechet_ratio(empty) == 1
