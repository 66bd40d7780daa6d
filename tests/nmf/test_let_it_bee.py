"""The three restrictions of Let it Bee: impulses, literal loops, and laws."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracles
from smalti import LetItBee
from smalti.nmf.let_it_bee import RANKS, enhance_continuity, limit_polyphony, limit_repetition, segment_slices
from strategies import DTYPES, activations, positive, segments_of, strengths

reach = st.integers(1, 12)


def impulse(n_atoms, n_frames, k, t, value=1.0):
    H = np.zeros((n_atoms, n_frames))
    H[k, t] = value
    return H


# --- repetition


@pytest.mark.parametrize("t", [0, 1, 2, 5, 9, 10])
@pytest.mark.parametrize("r", [1, 2, 3, 20])
def test_a_loud_activation_silences_its_row_for_r_frames_before_and_after(r, t):
    H = np.full((3, 11), 0.5)
    H[1, t] = 1
    expected = H.copy()
    expected[1, [s for s in range(11) if 0 < abs(s - t) <= r]] = 0
    np.testing.assert_array_equal(limit_repetition(H, repetition=r, strength=1.0), expected)


@given(activations(), reach, strengths)
def test_repetition_is_the_papers_maximum(H, r, strength):
    out = limit_repetition(H, repetition=r, strength=strength)
    np.testing.assert_array_equal(out, oracles.limit_repetition(H, r, strength))
    assert out.dtype == H.dtype


@given(activations(entries=positive), reach)
def test_at_full_strength_no_two_different_values_of_a_row_stay_within_r(H, r):
    out = limit_repetition(H, repetition=r, strength=1.0)
    for row in out:
        for t in np.flatnonzero(row):
            near = row[max(0, t - r) : t + r + 1]
            assert set(near[near > 0]) == {row[t]}


@given(activations(entries=positive), reach)
def test_repetition_at_full_strength_is_idempotent(H, r):
    once = limit_repetition(H, repetition=r, strength=1.0)
    np.testing.assert_array_equal(limit_repetition(once, repetition=r, strength=1.0), once)


def test_equal_largest_values_all_stay():
    H = np.array([[1.0, 2, 1, 2, 1]])
    np.testing.assert_array_equal(limit_repetition(H, repetition=2, strength=1.0), [[0, 2, 0, 2, 0]])


# --- polyphony


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_p_strongest_of_a_frame_stay(p, dtype):
    H = np.array([[3, 1], [2, 4], [1, 2], [4, 3]], dtype)
    out = limit_polyphony(H, polyphony=p, strength=0.75)
    assert out.dtype == dtype
    order = [[3, 0, 1, 2], [1, 3, 2, 0]]
    expected = H.copy()
    for t in (0, 1):
        expected[order[t][p:], t] *= 0.25
    np.testing.assert_array_equal(out, expected)


@given(activations(entries=positive | st.just(1.0)), st.integers(1, 9))
def test_exactly_p_survive_despite_ties(H, p):
    out = limit_polyphony(H, polyphony=p, strength=1.0)
    for before, after in zip(H.T, out.T, strict=True):
        kept, lost = after[after > 0], before[after == 0]
        assert len(kept) == min(p, len(H))
        np.testing.assert_array_equal(after[after > 0], before[after > 0])
        assert lost.size == 0 or kept.min() >= lost.max()


@given(activations(), st.integers(1, 9), strengths)
def test_polyphony_is_the_papers_except_for_ties(H, p, strength):
    out = limit_polyphony(H, polyphony=p, strength=strength)
    np.testing.assert_array_equal(np.sort(out, axis=0), np.sort(oracles.limit_polyphony(H, p, strength), axis=0))


@given(activations(entries=positive), st.integers(1, 9), strengths, st.data())
def test_weights_change_which_activations_stay_but_not_their_values(H, p, strength, data):
    # Weights are powers of two, so that weighting does not round. The test above covers ties.
    weights = 2.0 ** data.draw(st.lists(st.integers(-3, 3), min_size=len(H), max_size=len(H)).map(np.array))
    scores = weights[:, None] * H
    if any(len(set(column)) < len(column) for column in scores.T.tolist()):
        return
    out = limit_polyphony(H, polyphony=p, strength=strength, weights=weights[:, None].astype(H.dtype))
    np.testing.assert_array_equal(out, oracles.limit_polyphony(H, p, strength, weights))


def test_a_polyphony_of_all_atoms_returns_a_copy():
    H = np.arange(6.0).reshape(3, 2)
    out = limit_polyphony(H, polyphony=3, strength=1.0)
    np.testing.assert_array_equal(out, H)
    assert not np.shares_memory(out, H)


# --- continuity


@pytest.mark.parametrize("c", [1, 2, 3])
def test_an_impulse_shows_the_taps_of_the_diagonal(c):
    out = enhance_continuity(impulse(9, 9, 4, 4), continuity=c)
    taps = sum(impulse(9, 9, 4 + i, 4 + i) for i in range(-c, c + 1))
    np.testing.assert_array_equal(out, taps)


def test_the_diagonal_goes_forward_in_source_and_target_together():
    H = impulse(4, 4, 1, 1) + impulse(4, 4, 2, 2)
    against = impulse(4, 4, 2, 1) + impulse(4, 4, 1, 2)
    assert enhance_continuity(H, continuity=1)[1, 1] == 2
    assert enhance_continuity(against, continuity=1)[1, 2] == 1


@pytest.mark.parametrize(("k", "t"), [(0, 0), (0, 4), (2, 0), (2, 4), (0, 2)])
def test_the_diagonal_ends_at_the_edges(k, t):
    H = impulse(3, 5, k, t)
    for c in (1, 2, 7):
        np.testing.assert_array_equal(enhance_continuity(H, continuity=c), oracles.enhance_continuity(H, c))


@pytest.mark.parametrize("c", [1, 2, 5])
def test_the_diagonal_does_not_run_from_one_recording_into_the_next(c):
    segments = np.array([0, 0, 0, 1, 1, 1])
    for k in (2, 3):
        out = enhance_continuity(impulse(6, 6, k, k), continuity=c, segments=segments)
        own = [i for i in range(6) if segments[i] == segments[k] and abs(i - k) <= c]
        np.testing.assert_array_equal(out, sum(impulse(6, 6, i, i) for i in own))


@given(activations(), reach, st.data())
def test_continuity_is_the_papers_sum(H, c, data):
    segments = data.draw(st.none() | segments_of(len(H)))
    out = enhance_continuity(H, continuity=c, segments=segments)
    # The values have few binary digits, so sums are exact in any order.
    np.testing.assert_array_equal(out, oracles.enhance_continuity(H, c, segments))
    assert out.dtype == H.dtype


@given(activations(), reach, st.data())
def test_each_recording_is_enhanced_like_a_single_one(H, c, data):
    segments = data.draw(segments_of(len(H)))
    alone = [enhance_continuity(H[segments == s], continuity=c) for s in np.unique(segments)]
    np.testing.assert_array_equal(enhance_continuity(H, continuity=c, segments=segments), np.concatenate(alone))


@pytest.mark.parametrize(
    ("segments", "borders"),
    [(None, [(0, 4)]), ([7, 7, 7, 7], [(0, 4)]), ([0, 1, 1, 0], [(0, 1), (1, 3), (3, 4)]), ([3, 2, 1, 0], None)],
)
def test_segments_are_runs_of_equal_numbers(segments, borders):
    slices = segment_slices(4, None if segments is None else np.array(segments))
    assert slices == [slice(*pair) for pair in borders or [(i, i + 1) for i in range(4)]]


def test_segment_numbers_of_any_integer_type_have_borders():
    assert segment_slices(3, np.array([1, 0, 0], np.uint8)) == [slice(0, 1), slice(1, 3)]


# --- all three


@given(activations(), strengths, reach, st.integers(1, 9))
def test_no_restriction_changes_its_argument(H, strength, r, p):
    before = H.copy()
    limit_repetition(H, repetition=r, strength=strength)
    limit_polyphony(H, polyphony=p, strength=strength)
    enhance_continuity(H, continuity=r)
    np.testing.assert_array_equal(H, before)


def test_the_order_is_repetition_polyphony_continuity(rng):
    H = rng.random((8, 10))
    rules = LetItBee(repetition=2, polyphony=3, continuity=1)
    expected = oracles.limit_repetition(H, 2, 0.5)
    expected = oracles.limit_polyphony(expected, 3, 0.5)
    expected = oracles.enhance_continuity(expected, 1)
    out = rules.apply(H, strength=0.5, segments=None, weights=None)
    np.testing.assert_allclose(out, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("only", "oracle"),
    [
        ("repetition", oracles.limit_repetition),
        ("polyphony", oracles.limit_polyphony),
        ("continuity", lambda H, c, strength: oracles.enhance_continuity(H, c)),
    ],
)
def test_none_switches_a_restriction_off(rng, only, oracle):
    H = rng.random((8, 10))
    rules = LetItBee(**{name: 2 if name == only else None for name in ("repetition", "polyphony", "continuity")})
    out = rules.apply(H, strength=0.5, segments=None, weights=None)
    np.testing.assert_allclose(out, oracle(H, 2, 0.5), rtol=1e-14)


def test_ranks_weigh_by_no_one_and_two_powers_of_the_atoms_norm():
    W = np.array([[3.0, 0, 0], [4, 2, 0]])
    assert LetItBee(rank="h").weights(W) is None
    np.testing.assert_array_equal(LetItBee(rank="contribution").weights(W), [[5], [2], [0]])
    np.testing.assert_array_equal(LetItBee(rank="energy").weights(W), [[25], [4], [0]])
    assert RANKS == ("h", "contribution", "energy")


def test_the_defaults_are_the_papers():
    assert LetItBee() == LetItBee(repetition=3, polyphony=10, continuity=3, every=1, rank="h")


@pytest.mark.parametrize("name", ["repetition", "polyphony", "continuity", "every"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_rules_that_reach_nowhere_are_refused(name, value, error):
    with pytest.raises(error, match=f"{name} is {value!r}; pass a whole number of at least 1"):
        LetItBee(**{name: value})


def test_an_unknown_rank_is_refused():
    with pytest.raises(ValueError, match=r"rank is 'loudness'; pass one of h, contribution, energy"):
        LetItBee(rank="loudness")


# --- rules that change from frame to frame


@given(st.data(), activations(entries=positive), strengths)
def test_every_frame_may_have_a_polyphony_of_its_own(data, H, strength):
    # There must be no ties, since these may be broken either way.
    H = np.unique(H).searchsorted(H) + np.arange(H.size).reshape(H.shape) / (2.0 * H.size)
    p = data.draw(st.lists(st.integers(1, 8), min_size=H.shape[1], max_size=H.shape[1]))
    out = limit_polyphony(H, polyphony=tuple(p), strength=strength)
    np.testing.assert_array_equal(out, oracles.limit_polyphony(H, p, strength))
    assert out.dtype == H.dtype


@given(st.data(), activations(), st.integers(1, 8), strengths)
def test_the_same_number_for_every_frame_is_that_number(data, H, number, strength):
    """They agree to the last bit, ties included, so that a constant curve sounds like its number."""
    numbers, segments = (number,) * H.shape[1], data.draw(segments_of(len(H)))
    weights = np.linspace(0, 1, len(H), dtype=H.dtype)[:, None]
    np.testing.assert_array_equal(
        limit_polyphony(H, polyphony=numbers, strength=strength, weights=weights),
        limit_polyphony(H, polyphony=number, strength=strength, weights=weights),
    )
    np.testing.assert_array_equal(
        enhance_continuity(H, continuity=numbers, segments=segments),
        enhance_continuity(H, continuity=number, segments=segments),
    )


@given(st.data(), activations())
def test_every_frame_may_have_a_continuity_of_its_own(data, H):
    c = data.draw(st.lists(st.integers(0, 5), min_size=H.shape[1], max_size=H.shape[1]))
    segments = data.draw(segments_of(len(H)))
    out = enhance_continuity(H, continuity=tuple(c), segments=segments)
    np.testing.assert_allclose(out, oracles.enhance_continuity(H, c, segments), rtol=1e-6)


def test_weights_of_single_places_count_in_ranking():
    H, weights = np.ones((3, 2)), np.array([[3.0, 0], [1, 2], [2, 1]])
    out = limit_polyphony(H, polyphony=1, strength=1.0, weights=weights)
    np.testing.assert_array_equal(out, [[1, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ({"polyphony": (3, 0)}, "polyphony is 0; pass a whole number of at least 1"),
        ({"continuity": (3, -1)}, "continuity is -1; pass a whole number of at least 0"),
        ({"repetition": (3, 3)}, "repetition is (3, 3); pass a whole number"),
    ],
)
def test_numbers_of_frames_are_checked(rules, sentence):
    with pytest.raises((ValueError, TypeError), match=re.escape(sentence)):
        LetItBee(**rules)
    assert LetItBee(continuity=(0, 3)).varies
    assert not LetItBee().varies
