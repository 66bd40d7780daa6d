"""The measures of grains, by hand and against loops."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from smalti.metrics.grains import long_share, polyphony, run_lengths, run_ms, sounding, stutter_share
from strategies import seeds


def grains_of(H, norms=None, segments=None):
    return sounding(np.asarray(H, dtype=float), np.ones(len(H)) if norms is None else norms, segments)


def test_a_diagonal_is_one_run():
    heard = grains_of(np.eye(6))
    assert run_ms(heard, 0.1) == pytest.approx(600)
    assert long_share(heard, 0.1) == 1
    assert stutter_share(heard, 0.02) == 0
    assert polyphony(heard) == 1


def test_a_run_ends_where_its_recording_does():
    heard = grains_of(np.eye(6), segments=[0, 0, 1, 1, 1, 1])
    # Two of six entries in a run of two, four in one of four.
    assert run_ms(heard, 0.001) == pytest.approx((2 * 2 + 4 * 4) / 6)
    assert long_share(heard, 0.04) == pytest.approx(4 / 6)


def test_a_run_ends_where_time_or_source_halts():
    frozen = np.zeros((3, 6))
    frozen[1] = 1
    heard = grains_of(frozen)
    assert run_ms(heard, 0.02) == pytest.approx(20)
    assert stutter_share(heard, 0.02) == pytest.approx(5 / 6)
    # The same frame again after 160 ms does not stutter.
    assert stutter_share(heard, 0.16) == 0
    gap = np.eye(7)
    gap[3, 3] = 0
    assert run_lengths(grains_of(gap)).tolist() == [3] * 6


def test_runs_weigh_by_energy_and_layers_count():
    H = np.eye(4)
    H[3, 0] = 0.5
    heard = grains_of(H, norms=[2, 2, 2, 2])
    assert run_ms(heard, 1e-3) == pytest.approx((4 * 4 + 0.25) / 4.25)
    assert polyphony(heard) == pytest.approx(5 / 4)


def test_grains_30_db_under_their_moment_or_60_under_the_loudest_do_not_sound():
    H = np.diag([1.0, 0.0011, 0.0009, 1])
    assert grains_of(H).atoms.tolist() == [0, 1, 3]
    H = np.array([[1.0, 1.0], [0.04, 0.03]])
    assert polyphony(grains_of(H)) == pytest.approx(1.5)
    # The last has a large gain, but its atom is next to silent.
    assert polyphony(grains_of([[1.0], [50.0]], norms=[1, 1e-4])) == 1


def test_silence_has_no_grains():
    heard = grains_of(np.zeros((3, 4)))
    assert run_ms(heard, 0.02) == long_share(heard, 0.02) == stutter_share(heard, 0.02) == polyphony(heard) == 0


@given(seeds, st.integers(1, 8), st.integers(1, 9))
def test_grains_of_any_activations_are_those_of_loops(seed, n_atoms, n_frames):
    rng = np.random.default_rng(seed)
    H = rng.integers(-2, 3, (n_atoms, n_frames)) * (rng.random((n_atoms, n_frames)) < 0.6)
    norms, segments = rng.integers(1, 3, n_atoms), np.cumsum(rng.random(n_atoms) < 0.2)
    energies = (H * norms[:, None]) ** 2.0
    total = energies.sum()
    length = stutters = 0.0
    for k, n in zip(*np.nonzero(H), strict=True):
        first = last = 0
        while (
            k + first > 0
            and n + first > 0
            and H[k + first - 1, n + first - 1]
            and segments[k + first - 1] == segments[k]
        ):
            first -= 1
        while (
            k + last + 1 < n_atoms
            and n + last + 1 < n_frames
            and H[k + last + 1, n + last + 1]
            and segments[k + last + 1] == segments[k]
        ):
            last += 1
        length += energies[k, n] * (last - first + 1)
        stutters += energies[k, n] * H[k, max(0, n - 3) : n].any()
    heard = sounding(scipy.sparse.csr_array(H), norms, segments)
    assert run_ms(heard, 0.001) == pytest.approx(length / total if total else 0)
    assert stutter_share(heard, 0.05) == pytest.approx(stutters / total if total else 0)
    columns = (H != 0).sum(axis=0)
    assert polyphony(heard) == pytest.approx(columns[columns > 0].mean() if columns.any() else 0)


def test_numbers_of_atoms_must_agree():
    with pytest.raises(ValueError, match=r"norms has shape \(3,\); pass one number for each of the 2 atoms"):
        sounding(np.eye(2), np.ones(3))
    with pytest.raises(ValueError, match=r"segments has shape \(1,\); pass one number for each of the 2 atoms"):
        sounding(np.eye(2), np.ones(2), [0])
