"""Nearest atoms: exactly the nearest without an index, and nearly all of them with an inverted file."""

import numpy as np
import pytest

from smalti.grains.nearest import inverted_file, nearest, packed, unpacked


def random_descriptors(rng, n, size=16):
    descriptors = np.abs(rng.standard_normal((n, size)))
    return (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("most_scores", [1, 2**23])
@pytest.mark.parametrize("share", [None, 0.2])
def test_the_nearest_are_the_ones_that_sorting_all_finds(rng, most_scores, share):
    # If a thread may hold few scores, atoms are compared in parts.
    descriptors, queries = random_descriptors(rng, 300), random_descriptors(rng, 7).astype(np.float32)
    allowed = None if share is None else rng.random(300) < share
    atoms, scores = nearest(descriptors, queries, 10, allowed=allowed, most_scores=most_scores)
    products = queries.astype(np.float64) @ descriptors.astype(np.float64).T
    if allowed is not None:
        assert allowed[atoms].all()
        products[:, ~allowed] = -1
    order = np.argsort(-products, axis=1)[:, :10]
    np.testing.assert_array_equal(np.sort(atoms, axis=1), np.sort(order, axis=1))
    np.testing.assert_allclose(scores, np.take_along_axis(products, atoms, axis=1), rtol=1e-3)


def test_fewer_atoms_than_asked_for_are_all_found(rng):
    descriptors = random_descriptors(rng, 5)
    atoms, scores = nearest(descriptors, descriptors.astype(np.float32), 10)
    assert atoms.shape == scores.shape == (5, 5)
    assert (np.sort(atoms, axis=1) == np.arange(5)).all()


def test_searching_every_cell_finds_the_same_as_comparing_all(rng):
    descriptors, queries = random_descriptors(rng, 3000), random_descriptors(rng, 20).astype(np.float32)
    index = inverted_file(descriptors)
    allowed = rng.random(3000) < 0.5
    for among in (None, allowed):
        atoms, scores = nearest(descriptors, queries, 10, index=index, allowed=among, probed=1.0)
        expected, best = nearest(descriptors, queries, 10, allowed=among)
        np.testing.assert_array_equal(np.sort(atoms, axis=1), np.sort(expected, axis=1))
        np.testing.assert_allclose(np.sort(scores, axis=1), np.sort(best, axis=1), rtol=1e-3)


def test_an_inverted_file_finds_the_query_itself_and_most_of_the_nearest(rng):
    descriptors = random_descriptors(rng, 4000)
    index = inverted_file(descriptors)
    chosen = rng.integers(4000, size=200)
    atoms, scores = nearest(descriptors, descriptors[chosen].astype(np.float32), 10, index=index)
    assert (np.take_along_axis(atoms, scores.argmax(axis=1)[:, None], axis=1)[:, 0] == chosen).mean() > 0.99
    expected, _ = nearest(descriptors, descriptors[chosen].astype(np.float32), 10)
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(atoms, expected, strict=True)]) > 0.6


def test_a_stored_index_gives_the_same_answers(rng):
    descriptors = random_descriptors(rng, 500)
    index = inverted_file(descriptors)
    queries = descriptors[:9].astype(np.float32)
    for got, expected in zip(
        nearest(descriptors, queries, 5, index=unpacked(packed(index))),
        nearest(descriptors, queries, 5, index=index),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected)


def test_the_same_descriptors_make_the_same_index(rng):
    descriptors = random_descriptors(rng, 2000)
    np.testing.assert_array_equal(packed(inverted_file(descriptors)), packed(inverted_file(descriptors)))


def test_allowed_atoms_are_found_in_whichever_cells_they_lie(rng):
    # Two families share no dimension: the cells nearest to a query of the first hold no atoms of the second.
    first, second = random_descriptors(rng, 4000, 8), random_descriptors(rng, 500, 8)
    descriptors = np.concatenate([np.pad(first, ((0, 0), (0, 8))), np.pad(second, ((0, 0), (8, 0)))])
    index, allowed = inverted_file(descriptors), np.arange(4500) >= 4000
    queries = descriptors[:20].astype(np.float32)
    atoms, _ = nearest(descriptors, queries, 30, index=index, allowed=allowed)
    assert allowed[atoms].all()
    few, _ = nearest(descriptors, queries, 30, index=index, allowed=np.arange(4500) >= 4490)
    assert [np.sort(row[row >= 0]).tolist() for row in few] == [list(range(4490, 4500))] * 20
