"""Scores: activations read along their diagonals and back, with nothing lost."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given

from scores import GRID, LENGTH, SR, back, mosaics, score_of
from smalti import build_dictionary
from smalti.dsp.stft import stft
from smalti.grains.source import Source


@given(mosaics())
def test_activations_to_score_to_activations_loses_nothing(case):
    dictionary, H = case
    score = score_of(scipy.sparse.csc_array(H), dictionary)
    np.testing.assert_array_equal(back(score, dictionary), H)
    assert back(score, dictionary).dtype == H.dtype
    # Neither does reordering or halving the grains.
    sorted_again = score.only(np.arange(len(score))[::-1]).sorted()
    np.testing.assert_array_equal(sorted_again.ids, score.sorted().ids)
    first, rest = score[: len(score) // 2], score[len(score) // 2 :]
    np.testing.assert_array_equal(back(first, dictionary) + back(rest, dictionary), H)


@given(mosaics())
def test_grains_are_as_long_as_they_can_be_and_stay_in_their_recordings(case):
    dictionary, H = case
    score = score_of(scipy.sparse.csc_array(H), dictionary)
    atoms = {place: k for k, place in enumerate(zip(dictionary.recording_ids, dictionary.centres, strict=True))}
    for grain, recording in zip(score, score.origins.tolist(), strict=True):
        first, n, length = atoms[recording, grain.source_start], grain.start // GRID.hop, len(grain.gains)
        assert (grain.gains > 0).all()
        assert dictionary.recording_ids[first + length - 1] == recording
        before, after = (first - 1, n - 1), (first + length, n + length)
        for k, t in (before, after):
            inside = 0 <= k < dictionary.n_atoms and 0 <= t < H.shape[1]
            assert not inside or H[k, t] == 0 or dictionary.recording_ids[k] != recording


@given(mosaics())
def test_a_score_is_shown_in_a_line(case):
    dictionary, H = case
    score = score_of(scipy.sparse.csc_array(H), dictionary)
    n_sources = len(score.sources)
    seconds = f"{LENGTH / SR:.2f}"
    assert repr(score) == f"<Score of {seconds} s at {SR} Hz, grains: {len(score)}, sources: {n_sources}>"


def test_a_grain_says_where_it_is_from_and_what_sounds_with_it():
    rng = np.random.default_rng(0)
    dictionary = build_dictionary([rng.standard_normal(200), rng.standard_normal(100)], SR, params=GRID)
    second = int(np.searchsorted(dictionary.recording_ids, 1))
    H = np.zeros((dictionary.n_atoms, GRID.n_frames(LENGTH)))
    for step, gain in enumerate((0.5, 1.0, 2.0)):
        H[3 + step, 4 + step] = gain
    H[second, 6] = 1.5
    H[second + 4, 20] = 1.0
    score = score_of(scipy.sparse.csc_array(H), dictionary, sources=(Source("a.wav", begin=1000), Source("b.wav")))
    assert [grain.id for grain in score] == [1, 2, 3]
    early, overlapping, late = score
    assert (early.start, early.start_s, early.duration, early.duration_s) == (64, 0.008, 48, 0.006)
    # Its source is a part of a file, and `source_start` counts from the beginning of the file.
    assert (early.source.name, early.source_start, early.source_start_s) == ("a.wav", 1048, 0.131)
    np.testing.assert_array_equal(early.gains, [0.5, 1, 2])
    assert (early.semitones, early.channel) == (0, None)
    assert (early.partners, overlapping.partners, late.partners) == ((2,), (1,), ())
    assert (overlapping.source.name, overlapping.source_start) == ("b.wav", 0)


@given(mosaics())
def test_partners_are_all_grains_that_sound_at_any_moment_of_a_grain(case):
    dictionary, H = case
    score = score_of(scipy.sparse.csc_array(H), dictionary)
    moments = [set(range(frame, frame + length)) for frame, length in zip(score.frames, score.lengths, strict=True)]
    for i in range(len(score)):
        expected = [j for j in range(len(score)) if j != i and moments[i] & moments[j]]
        assert score.partners(i).tolist() == expected
        assert score.n_partners[i] == len(expected)


def test_the_level_of_a_grain_is_that_of_its_sound():
    # A sine of RMS level -9.03 dB, at a gain of 2: 6.02 dB more.
    t = np.arange(2000) / SR
    dictionary = build_dictionary(0.5 * np.sin(2 * np.pi * 1000 * t), SR, params=GRID)
    H = scipy.sparse.csc_array(([2.0, 2.0], ([40, 41], [3, 4])), shape=(dictionary.n_atoms, GRID.n_frames(LENGTH)))
    assert score_of(H, dictionary)[0].level_db == pytest.approx(-9.03 + 6.02, abs=0.05)


def test_gains_of_grains_that_lie_on_one_another_add_up():
    rng = np.random.default_rng(0)
    dictionary = build_dictionary(rng.standard_normal(200), SR, params=GRID)
    H = np.zeros((dictionary.n_atoms, GRID.n_frames(LENGTH)))
    H[3, 4] = H[4, 5] = 0.25
    score = score_of(scipy.sparse.csc_array(H), dictionary)
    twice = score.only(np.array([0, 0]))
    np.testing.assert_array_equal(back(twice, dictionary), 2 * H)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gains": np.array([np.nan])}, "gains holds values that are negative, NaN or infinite"),
        ({"gains": np.array([-1.0])}, "gains holds values that are negative"),
        ({"gains": np.ones(2)}, "gains has 2 entries; the grains have 1 frames"),
        ({"frames": np.array([-1])}, "frames holds -1; pass 0 to 25"),
        ({"frames": np.array([26])}, "frames holds 26"),
        ({"lengths": np.array([23]), "gains": np.ones(23)}, "the last of frames holds 26"),
        ({"lengths": np.array([0]), "gains": np.ones(0)}, "lengths holds 0; pass 1 to 26"),
        ({"origins": np.array([1])}, "origins holds 1; pass 0 to 0"),
        ({"parts": np.array([1])}, "parts holds 1; pass 0 to 0"),
        ({"ids": np.array([1, 2])}, "parts has 1 entries for 2 grains"),
    ],
)
def test_inconsistent_scores_are_refused(changes, message):
    dictionary = build_dictionary(np.ones(200), SR, params=GRID)
    H = scipy.sparse.csc_array(([1.0], ([3], [4])), shape=(dictionary.n_atoms, GRID.n_frames(LENGTH)))
    with pytest.raises(ValueError, match=message):
        replace(score_of(H, dictionary), **changes)


def test_the_window_power_is_the_sum_of_its_squares():
    impulse = np.zeros(64)
    heard = 0.0
    for place in range(64):
        impulse[:] = 0
        impulse[place] = 1
        # The frame centred on sample 32 sees all of it; an impulse has the window's square in every bin.
        heard += abs(stft(impulse, GRID)[0, 2]) ** 2
    assert GRID.window_power == pytest.approx(heard)
