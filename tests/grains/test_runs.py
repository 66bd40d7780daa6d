"""Whole grains: diagonals are found, the strongest are kept where there is room, and kept entries do not change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import oracles
from smalti.grains.runs import (
    MOST_GAP,
    UNDER_ALL_DB,
    Runs,
    choose_runs,
    close_gaps,
    drifting,
    find_runs,
    keep_runs,
    places,
    smooth_runs,
)


def planted(K: int, N: int, *stretches: tuple[int, int, int, float]) -> NDArray[np.float64]:
    """A (K, N) matrix with diagonals given as (atom, frame, length, height)."""
    C = np.zeros((K, N))
    for atom, frame, length, height in stretches:
        steps = np.arange(length)
        C[atom + steps, frame + steps] = height
    return C


LEVELS = st.sampled_from([0.0, 1e-4, 0.03, 0.2, 0.5, 1.0])


@given(
    arrays(np.float64, (7, 11), elements=LEVELS),
    st.lists(st.integers(0, 1), min_size=6, max_size=6),
    st.sampled_from([6.0, 30.0]),
)
def test_stretches_are_the_ones_found_cell_by_cell(
    C: NDArray[np.float64], steps: list[int], under_frame_db: float
) -> None:
    segments = np.concatenate([[0], np.cumsum(steps)])
    found = find_runs(C, segments, under_frame_db=under_frame_db)
    wanted = oracles.runs(C, segments, under_frame_db, UNDER_ALL_DB, MOST_GAP)
    got = zip(found.atoms.tolist(), found.frames.tolist(), found.lengths.tolist(), found.energies.tolist(), strict=True)
    for stretch, expected in zip(sorted(got), sorted(wanted), strict=True):
        assert stretch == pytest.approx(expected, rel=1e-12)


GAINS = st.floats(0.05, 1) | st.just(0.0)


@given(arrays(np.float64, (9, 14), elements=GAINS), st.integers(1, 4), st.sampled_from([1, 2, 4]))
def test_stretches_are_chosen_as_by_the_loop(C: NDArray[np.float64], layers: int, shortest: int) -> None:
    found = find_runs(C)
    columns = (found.atoms, found.frames, found.lengths, found.energies)
    stretches = list(zip(*(column.tolist() for column in columns), strict=True))
    chosen = choose_runs(found, layers=layers, shortest=shortest)
    wanted = [stretches[i] for i in oracles.chosen_runs(stretches, layers, shortest)]
    got = zip(
        *(column.tolist() for column in (chosen.atoms, chosen.frames, chosen.lengths, chosen.energies)), strict=True
    )
    assert list(got) == wanted


@given(arrays(np.float64, (8, 12), elements=LEVELS), st.integers(1, 3))
def test_every_cell_of_a_stretch_is_kept_and_no_other(H: NDArray[np.float64], layers: int) -> None:
    found = find_runs(H)
    kept = choose_runs(found, layers=layers)
    wanted = np.zeros_like(H)
    for atom, frame, length in as_tuples(kept):
        for step in range(length):
            k, n = atom + step, frame + step
            wanted[k, n] = max(H[k, n], 1e-3 * H[:, n].max())
    np.testing.assert_array_equal(keep_runs(H, kept), wanted)


def as_tuples(runs: Runs) -> list[tuple[int, int, int]]:
    return sorted(zip(runs.atoms.tolist(), runs.frames.tolist(), runs.lengths.tolist(), strict=True))


def test_planted_diagonals_are_found_with_their_energy() -> None:
    runs = find_runs(planted(20, 20, (3, 1, 5, 1.0), (10, 9, 4, 2.0)))
    assert as_tuples(runs) == [(3, 1, 5), (10, 9, 4)]
    np.testing.assert_allclose(runs.energies[np.argsort(runs.atoms)], [5.0, 16.0])


def test_short_pauses_are_closed_and_long_ones_are_not() -> None:
    steps = np.arange(3)
    C = np.zeros((30, 30))
    C[steps, steps] = 1
    C[steps + 3 + MOST_GAP, steps + 3 + MOST_GAP] = 1
    assert as_tuples(find_runs(C)) == [(0, 0, 6 + MOST_GAP)]
    C = np.zeros((30, 30))
    C[steps, steps] = 1
    C[steps + 4 + MOST_GAP, steps + 4 + MOST_GAP] = 1
    assert as_tuples(find_runs(C)) == [(0, 0, 3), (4 + MOST_GAP, 4 + MOST_GAP, 3)]


def test_a_stretch_ends_with_its_recording() -> None:
    segments = np.repeat([0, 1], 5)
    assert as_tuples(find_runs(planted(10, 10, (2, 2, 6, 1.0)), segments)) == [(2, 2, 3), (5, 5, 3)]


def test_entries_30_db_under_their_frame_or_60_db_under_all_do_not_sound() -> None:
    C = planted(9, 4, (0, 0, 4, 1.0), (5, 0, 4, 10 ** (-31 / 20)))
    assert as_tuples(find_runs(C)) == [(0, 0, 4)]
    C = planted(9, 9, (0, 0, 4, 1.0), (0, 5, 4, 10 ** (-61 / 20)))
    assert as_tuples(find_runs(C)) == [(0, 0, 4)]


def test_silence_has_no_stretches() -> None:
    runs = find_runs(np.zeros((4, 5)))
    chosen = choose_runs(runs, layers=2)
    assert len(chosen.atoms) == 0
    np.testing.assert_array_equal(keep_runs(np.zeros((4, 5)), chosen), np.zeros((4, 5)))


def test_the_strongest_come_first_and_full_frames_take_no_more() -> None:
    runs = Runs(
        atoms=np.array([0, 10, 20, 30]),
        frames=np.array([0, 0, 2, 4]),
        lengths=np.array([4, 4, 4, 4]),
        energies=np.array([4.0, 3.0, 2.0, 1.0]),
    )
    # All frames of the second are taken. Half of those of the third are free, which is enough, and so with the last.
    assert choose_runs(runs, layers=1).atoms.tolist() == [0, 20, 30]
    assert choose_runs(runs, layers=2).atoms.tolist() == [0, 10, 20, 30]
    # All are shorter than `shortest`, so each may only fill silence.
    assert choose_runs(runs, layers=2, shortest=5).atoms.tolist() == [0, 20, 30]


@pytest.mark.parametrize("knob", ["layers", "shortest"])
def test_layers_and_shortest_must_be_at_least_1(knob: str) -> None:
    with pytest.raises(ValueError, match=f"{knob} is 0; pass a whole number of at least 1"):
        choose_runs(find_runs(np.eye(3)), **({"layers": 1} | {knob: 0}))


@given(arrays(np.float64, (8, 12), elements=st.sampled_from([0.0, 0.01, 0.5, 1.0])), st.integers(1, 4))
def test_kept_entries_do_not_change_and_the_strongest_stretch_is_kept(H: NDArray[np.float64], layers: int) -> None:
    runs = find_runs(H)
    chosen = choose_runs(runs, layers=layers)
    out = keep_runs(H, chosen)
    kept = out > 0
    assert ((out == H) | (1e-3 * H.max(axis=0) > H))[kept].all()
    if len(chosen.atoms):
        assert chosen.energies[0] == runs.energies.max()


def test_entries_too_far_under_the_loudest_of_their_frame_are_no_stretch() -> None:
    C = planted(9, 4, (0, 0, 4, 1.0), (5, 0, 4, 10 ** (-7 / 20)))
    assert as_tuples(find_runs(C, under_frame_db=8)) == [(0, 0, 4), (5, 0, 4)]
    assert as_tuples(find_runs(C, under_frame_db=6)) == [(0, 0, 4)]


def test_gains_are_smoothed_along_each_stretch_and_nowhere_else() -> None:
    H = np.zeros((12, 9))
    steps = np.arange(5)
    H[steps, steps] = [1, 0, 0, 4, 4]
    H[steps + 6, steps + 2] = 3.0
    H[11, 0] = 5.0
    out = smooth_runs(H, find_runs(H), reach=1)
    # The weights are 1 2 1, at the ends only those inside. The pause is part of the stretch.
    np.testing.assert_allclose(np.diagonal(out)[:5], [2 / 3, 1 / 4, 1, 3, 4])
    np.testing.assert_allclose(out[steps + 6, steps + 2], 3.0)
    assert out[11, 0] == 5.0
    np.testing.assert_array_equal(smooth_runs(H, find_runs(H), reach=0), H)


@given(arrays(np.float64, (8, 12), elements=st.sampled_from([0.0, 0.3, 1.0])), st.integers(0, 3))
def test_smoothing_stays_inside_the_stretches_and_below_their_largest_gain(H: NDArray[np.float64], reach: int) -> None:
    runs = find_runs(H)
    out = smooth_runs(keep_runs(H, runs), runs, reach=reach)
    assert (out >= 0).all()
    assert out.max(initial=0) <= H.max(initial=0) * (1 + 1e-12)
    of_a_run = keep_runs(np.ones_like(H), runs) > 0
    assert not out[~of_a_run].any()
    assert (out[keep_runs(H, runs) > 0] > 0).all()


def gaps_of(stretches, wanted, segments):
    """`close_gaps` of (atom, frame, length) triples, as triples."""
    atoms, frames, lengths = (np.array(column, np.intp) for column in zip(*stretches, strict=True))
    closed = close_gaps(Runs(atoms, frames, lengths, np.ones(len(atoms))), np.array(segments), np.array(wanted, bool))
    return list(zip(closed.atoms.tolist(), closed.frames.tolist(), closed.lengths.tolist(), strict=True))


ONE_RECORDING = [0] * 12


@pytest.mark.parametrize(
    ("stretches", "wanted", "segments", "closed"),
    [
        # The stretch after the gap begins earlier and fills all of it.
        ([(5, 4, 3)], [0, 0, 1, 1, 1, 1, 1], ONE_RECORDING, [(3, 2, 5)]),
        # Its recording does not go back far enough, so the stretch before the gap fills the rest.
        ([(7, 0, 2), (1, 6, 2)], [1] * 8, ONE_RECORDING, [(7, 0, 5), (0, 5, 3)]),
        # Neither may cross the border of a recording.
        ([(2, 0, 2), (4, 6, 2)], [1] * 8, [0] * 4 + [1] * 8, [(2, 0, 2), (4, 6, 2)]),
        # A gap stays where nothing should sound, and where no stretch is next to it.
        ([(2, 0, 2), (6, 4, 2)], [1, 1, 0, 0, 1, 1, 0, 1], ONE_RECORDING, [(2, 0, 2), (6, 4, 2)]),
        # At the end of the target the last stretch goes on as far as its recording.
        ([(9, 0, 2)], [1] * 6, ONE_RECORDING, [(9, 0, 3)]),
        # There is no gap.
        ([(0, 0, 4), (6, 2, 2)], [1] * 4, ONE_RECORDING, [(0, 0, 4), (6, 2, 2)]),
    ],
)
def test_gaps_are_closed_by_the_stretches_next_to_them(stretches, wanted, segments, closed):
    assert gaps_of(stretches, wanted, segments) == closed


# --- curves and sketches


@given(arrays(np.float64, (9, 14), elements=GAINS), st.lists(st.integers(1, 4), min_size=14, max_size=14))
def test_every_frame_may_have_layers_of_its_own(C: NDArray[np.float64], layers: list[int]) -> None:
    found = find_runs(C)
    columns = (found.atoms, found.frames, found.lengths, found.energies)
    stretches = list(zip(*(column.tolist() for column in columns), strict=True))
    wanted = [stretches[i][:3] for i in oracles.chosen_runs(stretches, layers, 1)]
    assert as_tuples(choose_runs(found, layers=tuple(layers))) == sorted(wanted)
    same = choose_runs(found, layers=(3,) * 14)
    for got, expected in zip(vars(same).values(), vars(choose_runs(found, layers=3)).values(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_frames_with_more_layers_have_more_room() -> None:
    C = planted(20, 8, (0, 0, 4, 2.0), (10, 0, 4, 1.0), (0, 4, 4, 2.0), (10, 4, 4, 1.0))
    assert as_tuples(choose_runs(find_runs(C), layers=(1,) * 4 + (2,) * 4)) == [(0, 0, 4), (0, 4, 4), (10, 4, 4)]


@given(
    arrays(np.float64, (9, 14), elements=GAINS),
    arrays(np.bool_, (9, 14)),
    arrays(np.bool_, (8,)),
    st.integers(0, 6),
    st.integers(1, 3),
)
def test_no_stretch_passes_a_forbidden_place_or_another_stretch(
    C: NDArray[np.float64], may: NDArray[np.bool_], steps: NDArray[np.bool_], reach: int, layers: int
) -> None:
    def allowed(atoms: NDArray[np.intp], frames: NDArray[np.intp]) -> NDArray[np.bool_]:
        return may[atoms, frames]

    segments = np.concatenate([[0], np.cumsum(steps)])
    runs = find_runs(C * may, segments, allowed=allowed)
    grown, tails = drifting(runs, segments, np.full(14, reach), allowed)
    chosen = choose_runs(grown, layers=layers, tails=tails)
    wanted = np.ones(14, bool)
    for kept in (runs, grown, chosen, close_gaps(choose_runs(runs, layers=layers), segments, wanted, allowed)):
        atoms, frames = places(kept)
        assert may[atoms, frames].all()
    for kept in (grown, chosen):
        atoms, frames = places(kept)
        assert len(set(zip(atoms.tolist(), frames.tolist(), strict=True))) == len(atoms)
        owners = np.repeat(np.arange(len(kept.lengths)), kept.lengths)
        assert all(len(set(segments[atoms[owners == i]])) == 1 for i in range(len(kept.lengths)))
    assert grown.energies.sum() == pytest.approx(runs.energies.sum())


def test_a_grain_goes_on_until_a_stronger_one_begins_or_its_recording_ends() -> None:
    C = planted(30, 20, (0, 0, 3, 2.0), (20, 5, 2, 1.0), (10, 12, 3, 3.0))
    segments = np.repeat([0, 1, 2], 10)
    runs, tails = drifting(find_runs(C, segments), segments, np.full(20, 6))
    # The weakest has no room, and the strongest goes on for as long as it may.
    assert as_tuples(choose_runs(runs, layers=1, tails=tails)) == [(0, 0, 9), (10, 12, 8)]
    assert as_tuples(choose_runs(runs, layers=2, tails=tails)) == [(0, 0, 9), (10, 12, 8), (20, 5, 8)]
    # A stretch goes on only until a stronger one begins.
    C[20:22, 5:7] *= 3
    runs, tails = drifting(find_runs(C, segments), segments, np.full(20, 6))
    assert as_tuples(choose_runs(runs, layers=1, tails=tails)) == [(0, 0, 5), (10, 12, 8), (20, 5, 7)]
    # The reach at the first frame of a stretch counts.
    reach = np.where(np.arange(20) < 5, 6, 0)
    runs, tails = drifting(find_runs(C, segments), segments, reach)
    assert as_tuples(choose_runs(runs, layers=2, tails=tails)) == [(0, 0, 9), (10, 12, 3), (20, 5, 2)]


def test_a_stretch_is_joined_with_one_that_it_runs_into() -> None:
    C = planted(30, 30, (0, 0, 3, 2.0), (8, 8, 3, 1.0))
    runs, tails = drifting(find_runs(C), np.zeros(30, int), np.full(30, 6))
    assert as_tuples(runs) == [(0, 0, 11)]
    assert tails.tolist() == [6]
    assert runs.energies.tolist() == [15]
    # Stretches of two recordings on the same diagonal stay apart.
    runs, _ = drifting(find_runs(C), np.repeat([0, 1], [8, 22]), np.full(30, 6))
    assert as_tuples(runs) == [(0, 0, 3), (8, 8, 3)]


def test_an_empty_matrix_has_no_drifting_stretches() -> None:
    runs, tails = drifting(find_runs(np.zeros((4, 5))), np.zeros(4, int), np.full(5, 3))
    assert len(choose_runs(runs, layers=2, tails=tails).atoms) == 0
