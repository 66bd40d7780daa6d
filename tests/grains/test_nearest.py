"""Nearest atoms: all that are nearer than any other, or by an inverted file nearly all."""

import numpy as np
import pytest

from smalti.grains import nearest as grains_nearest
from smalti.grains.nearest import inverted_file, nearest, packed, unpacked


def keys_of(rng, n, size=16):
    keys = np.abs(rng.standard_normal((n, size)))
    return (keys / np.linalg.norm(keys, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("room", [1, 2**23])
@pytest.mark.parametrize("share", [None, 0.2])
def test_nearest_are_those_that_sorting_all_finds(rng, monkeypatch, room, share):
    # With little room, atoms are looked at in parts.
    monkeypatch.setattr(grains_nearest, "_ROOM", room)
    keys, queries = keys_of(rng, 300), keys_of(rng, 7).astype(np.float32)
    allowed = None if share is None else rng.random(300) < share
    atoms, scores = nearest(keys, queries, 10, allowed=allowed)
    products = queries.astype(np.float64) @ keys.astype(np.float64).T
    if allowed is not None:
        assert allowed[atoms].all()
        products[:, ~allowed] = -1
    order = np.argsort(-products, axis=1)[:, :10]
    np.testing.assert_array_equal(np.sort(atoms, axis=1), np.sort(order, axis=1))
    np.testing.assert_allclose(scores, np.take_along_axis(products, atoms, axis=1), rtol=1e-3)


def test_fewer_are_found_where_there_are_fewer(rng):
    keys = keys_of(rng, 5)
    atoms, scores = nearest(keys, keys.astype(np.float32), 10)
    assert atoms.shape == scores.shape == (5, 5)
    assert (np.sort(atoms, axis=1) == np.arange(5)).all()


def test_an_inverted_file_searched_whole_finds_what_looking_at_all_does(rng, monkeypatch):
    monkeypatch.setattr(grains_nearest, "PROBED", 1.0)
    keys, queries = keys_of(rng, 3000), keys_of(rng, 20).astype(np.float32)
    index = inverted_file(keys)
    allowed = rng.random(3000) < 0.5
    for among in (None, allowed):
        atoms, scores = nearest(keys, queries, 10, index=index, allowed=among)
        expected, best = nearest(keys, queries, 10, allowed=among)
        np.testing.assert_array_equal(np.sort(atoms, axis=1), np.sort(expected, axis=1))
        np.testing.assert_allclose(np.sort(scores, axis=1), np.sort(best, axis=1), rtol=1e-3)


def test_an_inverted_file_finds_nearly_all_that_there_is_and_what_is_there_first(rng):
    keys = keys_of(rng, 4000)
    index = inverted_file(keys)
    chosen = rng.integers(4000, size=200)
    atoms, scores = nearest(keys, keys[chosen].astype(np.float32), 10, index=index)
    assert (np.take_along_axis(atoms, scores.argmax(axis=1)[:, None], axis=1)[:, 0] == chosen).mean() > 0.99
    expected, _ = nearest(keys, keys[chosen].astype(np.float32), 10)
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(atoms, expected, strict=True)]) > 0.6


def test_an_index_that_was_kept_answers_as_before(rng):
    keys = keys_of(rng, 500)
    index = inverted_file(keys)
    queries = keys[:9].astype(np.float32)
    for got, expected in zip(
        nearest(keys, queries, 5, index=unpacked(packed(index))), nearest(keys, queries, 5, index=index), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_the_same_keys_make_the_same_index(rng):
    keys = keys_of(rng, 2000)
    np.testing.assert_array_equal(packed(inverted_file(keys)), packed(inverted_file(keys)))


def test_what_is_allowed_is_found_wherever_it_lies(rng):
    # Two families that share nothing: the cells nearest to a query of one hold none of the other.
    one, other = keys_of(rng, 4000, 8), keys_of(rng, 500, 8)
    keys = np.concatenate([np.pad(one, ((0, 0), (0, 8))), np.pad(other, ((0, 0), (8, 0)))])
    index, allowed = inverted_file(keys), np.arange(4500) >= 4000
    queries = keys[:20].astype(np.float32)
    atoms, _ = nearest(keys, queries, 30, index=index, allowed=allowed)
    assert allowed[atoms].all()
    few, _ = nearest(keys, queries, 30, index=index, allowed=np.arange(4500) >= 4490)
    assert [np.sort(row[row >= 0]).tolist() for row in few] == [list(range(4490, 4500))] * 20
