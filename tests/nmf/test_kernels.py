"""The kernels on lists agree with the readable functions on arrays."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smalti
from smalti.nmf import _kernels
from smalti.nmf.divergence import SpectralFit
from smalti.nmf.let_it_bee import enhance_continuity, limit_polyphony, limit_repetition
from strategies import DTYPES, activations, problems, segments_of, strengths

pytestmark = pytest.mark.samples

reaches = st.integers(1, 12)
# Frames of a block, from one to all of them.
sizes = st.sampled_from([1, 2, 3, 100])


def lists_of(H):
    """Every entry of `H` (K, N) that is not 0, as lists."""
    frames, atoms = np.nonzero(H.T)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(frames, minlength=H.shape[1])))).astype(np.int64)
    return indptr, atoms.astype(np.int32), H.T[frames, atoms]


def array_of(lists, n_atoms):
    H = np.empty((len(lists[0]) - 1, n_atoms), lists[2].dtype)
    _kernels.dense_of(*lists, 0, len(H), H)
    return H.T


def blocks(n, size):
    return [(first, min(first + size, n)) for first in range(0, n, size)]


def joined(parts):
    indptr = np.concatenate([[0], *(part[0][1:] - part[0][:-1] for part in parts)]).cumsum()
    return indptr, np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])


@given(activations())
def test_lists_hold_the_entries_of_the_array(H):
    indptr, atoms, values = lists_of(H)
    np.testing.assert_array_equal(array_of((indptr, atoms, values), len(H)), H)
    ones = np.ones(len(H), H.dtype)
    for ours, expected in zip(_kernels.listed(H.T.copy(), ones, 0.0), (indptr, atoms, values), strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected)


@given(activations(), reaches, strengths, sizes)
def test_repetition_on_lists(H, reach, strength, size):
    indptr, atoms, values = lists_of(H)
    out = np.full_like(values, np.nan)
    for first, last in blocks(H.shape[1], size):
        _kernels.list_repetition(indptr, atoms, values, first, last, reach, 1 - strength, out)
    expected = limit_repetition(H, repetition=reach, strength=strength)
    np.testing.assert_array_equal(array_of((indptr, atoms, out), len(H)), expected)


@given(activations(), st.integers(1, 8), strengths, sizes, st.booleans())
def test_polyphony_on_lists(H, polyphony, strength, size, ranked):
    # There must be no ties, since these may be broken either way.
    H = H + (H > 0) * np.linspace(0, 0.01, H.size, dtype=H.dtype).reshape(H.shape)
    weights = np.geomspace(1, 7, len(H), dtype=H.dtype) if ranked else np.empty(0, H.dtype)
    indptr, atoms, values = lists_of(H)
    out = np.full_like(values, np.nan)
    for first, last in blocks(H.shape[1], size):
        _kernels.list_polyphony(indptr, atoms, values, weights, first, last, polyphony, 1 - strength, out)
    expected = limit_polyphony(H, polyphony=polyphony, strength=strength, weights=weights[:, None] if ranked else None)
    np.testing.assert_array_equal(array_of((indptr, atoms, out), len(H)), expected)


@given(activations(), st.integers(1, 8))
def test_exactly_polyphony_survive_on_lists_despite_ties(H, polyphony):
    indptr, atoms, values = lists_of(H)
    none = np.empty(0, H.dtype)
    out = values.copy()
    _kernels.list_polyphony(indptr, atoms, out, none, 0, H.shape[1], polyphony, 0.0, out)
    after = array_of((indptr, atoms, out), len(H))
    np.testing.assert_array_equal(np.count_nonzero(after, axis=0), np.minimum(np.count_nonzero(H, axis=0), polyphony))
    for before, left in zip(H.T, after.T, strict=True):
        assert max(before[left == 0], default=0) <= min(left[left > 0], default=np.inf)


@given(activations(), reaches, sizes, st.data())
def test_continuity_on_lists(H, reach, size, data):
    segments = data.draw(segments_of(len(H))).astype(np.int32)
    indptr, atoms, values = lists_of(H)
    expected = enhance_continuity(H, continuity=reach, segments=segments)
    weights = np.ones(len(H), H.dtype)
    cut = blocks(H.shape[1], size)
    widened = joined(
        [_kernels.list_widened(indptr, atoms, values, segments, weights, *block, reach, 0.0) for block in cut]
    )
    np.testing.assert_array_equal(array_of(widened, len(H)), expected)
    assert (widened[2] > 0).all()
    out = np.full_like(values, np.nan)
    for block in cut:
        _kernels.list_continuity(indptr, atoms, values, segments, *block, reach, out)
    np.testing.assert_array_equal(array_of((indptr, atoms, out), len(H)), np.where(H > 0, expected, 0))


def test_dropped_entries_are_small_with_and_without_weights():
    H = np.array([[1.0, 1e-4, 1e-7, 0.0, 1e-7]])
    weights = np.array([1e-3, 1.0, 1.0, 1.0, 1e5])
    segments = np.zeros(5, np.int32)
    for least, kept in ((1e-5, [0, 1, 4]), (1e-9, [0, 1, 2, 4]), (0.0, [0, 1, 2, 4])):
        lists = _kernels.listed(H, weights, least)
        assert lists[1].tolist() == kept
        every = _kernels.listed(H, weights, 0.0)
        assert _kernels.list_widened(*every, segments, weights, 0, 1, 0, least)[1].tolist() == kept


@settings(max_examples=60)
@given(problems(), st.sampled_from([0.0, 0.01]), sizes, st.booleans(), st.data())
def test_the_update_on_lists(problem, eps, size, gathered, data):
    V, W, H = problem
    H = H * data.draw(activations(dtype=H.dtype).map(lambda A: np.resize(A > 0.4, H.shape)))
    fit = SpectralFit.of(V, W, beta=1, eps=eps)
    indptr, atoms, values = lists_of(H)
    out = np.full_like(values, np.nan)
    frames, rows = V.T.copy(), W.T.copy()
    for first, last in blocks(V.shape[1], size):
        positions, picked = atoms, rows
        if gathered:
            used, places = np.unique(atoms[indptr[first] : indptr[last]], return_inverse=True)
            positions, picked = np.zeros_like(atoms), rows[used]
            positions[indptr[first] : indptr[last]] = places
        part = indptr[first : last + 1]
        _kernels.list_update(
            frames[first:last], picked, picked.sum(axis=1), part, positions, values, fit.floor, eps, out
        )
        Y = np.empty_like(frames[first:last])
        _kernels.list_model(picked, part, positions, values, fit.floor, Y)
        np.testing.assert_allclose(Y.T, fit.product(H)[:, first:last], rtol=50 * np.finfo(V.dtype).eps)
    expected = fit.update(H, fit.product(H))
    np.testing.assert_allclose(array_of((indptr, atoms, out), len(H)), expected, rtol=200 * np.finfo(V.dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_entries_that_fade_end_as_0_and_not_as_denormals(dtype):
    tiny = np.finfo(dtype).tiny
    V, W = np.array([[1, 0]], dtype), np.eye(2, dtype=dtype)
    indptr, atoms = np.array([0, 2]), np.array([0, 1], np.int32)
    values, out = np.array([1, tiny], dtype), np.empty(2, dtype)
    _kernels.list_update(V, W, W.sum(axis=1), indptr, atoms, values, 1e-8, 0.5, out)
    assert out[0] == pytest.approx(1)
    assert out[1] == 0


# --- folders that are not writable


@pytest.mark.parametrize("kept", [True, False])
def test_kernels_of_a_read_only_package_are_cached_for_the_user_or_not_at_all(tmp_path, kept):
    package = tmp_path / "smalti"
    shutil.copytree(Path(smalti.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    # A file takes the place of the cache folder, so that not even the superuser can write into it.
    (package / "nmf" / "__pycache__").touch()
    (package / "__pycache__").touch()
    cache = tmp_path / "cache" if kept else package / "nmf" / "__pycache__" / "cache"
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | {
        "PYTHONPATH": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(cache),
    }
    code = (
        "import numpy as np; from smalti.nmf import _kernels as c;"
        "x = np.zeros(2); c._copy(x + 1, x); print(c.__file__, x)"
    )
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == f"{package / 'nmf' / '_kernels.py'} [1. 1.]\n"
    assert bool(list(tmp_path.rglob("*.nbi"))) is kept
