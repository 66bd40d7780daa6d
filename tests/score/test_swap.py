"""Grains cut from another source: found where they lie in it, as loud as they were, and never beyond its end."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings

import smalti
from scores import check, score_of, scores, selections
from smalti import StftParams, build_dictionary, render
from smalti.grains.source import Source
from smalti.score.edit import Selection, chosen, transposed
from smalti.score.swap import MOST_GAIN, swapped
from smalti.workflows.demo import demo_source, demo_target

RATE, HOP = 22050, 512
SWAPPED = Source("other.wav")


@pytest.fixture
def noises(rng):
    """A recording, and a score of three grains of it, one of them long."""
    sound = rng.standard_normal(40 * HOP) * np.exp(np.sin(np.arange(40 * HOP) / 900)) * 0.05
    dictionary = build_dictionary(sound, RATE, params=StftParams(4 * HOP, HOP))
    H = np.zeros((dictionary.n_atoms, 61))
    for atom, frame, length in ((4, 3, 5), (20, 10, 3), (8, 20, 24)):
        H[atom + np.arange(length), frame + np.arange(length)] = 0.1 + 0.01 * np.arange(length)
    return score_of(scipy.sparse.csc_array(H), dictionary, 60 * HOP, gain_db=-20.0), sound


def test_the_same_sound_in_the_other_recording_is_found_and_made_as_loud(noises, rng):
    score, sound = noises
    before = rng.standard_normal(13 * HOP) * 0.05
    other = np.concatenate([before, sound, before]) / 4
    out = check(swapped(score, Selection(), SWAPPED, [sound], other))
    assert out.sources == (*score.sources, SWAPPED)
    assert (out.origins == 1).all()
    np.testing.assert_array_equal(out.centres, score.centres + 13 * HOP)
    np.testing.assert_allclose(out.gains, 4 * score.gains)
    np.testing.assert_allclose(out.levels, score.levels, atol=1e-6)
    np.testing.assert_allclose(render(out, [sound, other], dry=True), render(score, [sound], dry=True), atol=1e-12)


def test_what_is_not_selected_stays_to_the_last_bit(noises, rng):
    score, sound = noises
    other = rng.standard_normal(30 * HOP)
    out = swapped(score, Selection(ids=(2,)), SWAPPED, [sound], other)
    assert out.origins.tolist() == [0, 1, 0]
    rest = np.array([0, 2])
    for name in ("ids", "frames", "lengths", "centres", "levels"):
        np.testing.assert_array_equal(getattr(out, name)[rest], getattr(score, name)[rest])
    np.testing.assert_array_equal(out.only(rest).gains, score.only(rest).gains)
    # A source that the score has already is used again.
    again = swapped(out, Selection(ids=(1,)), SWAPPED, [sound, other], other)
    assert again.sources == out.sources
    assert again.origins.tolist() == [1, 1, 0]


def test_a_grain_longer_than_the_other_recording_ends_with_it(noises, rng):
    score, sound = noises
    other = 0.05 * rng.standard_normal(9 * HOP)
    out = check(swapped(score, Selection(), SWAPPED, [sound], other))
    assert out.lengths.tolist() == [5, 3, 10]
    assert (out.centres + (out.lengths - 1) * HOP <= len(other)).all()
    assert out.frames.tolist() == score.frames.tolist()


def test_no_frame_is_turned_up_by_more_than_24_db(noises):
    score, sound = noises
    out = swapped(score, Selection(), SWAPPED, [sound], sound / 1000)
    np.testing.assert_allclose(out.gains, MOST_GAIN * score.gains)
    # If everything is too quiet, the loudest stretch is taken.
    assert ((score.levels - 36.01 < out.levels) & (out.levels < score.levels)).all()


def test_a_shifted_grain_is_replaced_by_sound_like_its_shifted_sound():
    t = np.arange(RATE) / RATE
    low, high = (0.2 * sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 8)) for hz in (220, 330))
    dictionary = build_dictionary(low, RATE, params=StftParams(4 * HOP, HOP))
    H = scipy.sparse.csc_array((np.ones(12), (np.arange(8, 20), np.arange(5, 17))), shape=(dictionary.n_atoms, 44))
    score = transposed(score_of(H, dictionary, len(t)), 12 * np.log2(1.5))
    out = check(swapped(score, Selection(), SWAPPED, [low], np.concatenate([low, high])))
    assert out.shifts == (None,)
    assert out.centres[0] > RATE


@settings(max_examples=15)
@given(scores(), selections)
def test_any_grain_can_be_swapped(case, selection):
    score, recordings = case
    score = score[:8]
    other = np.random.default_rng(1).standard_normal(120).astype(score.dtype)
    out = check(swapped(score, selection, SWAPPED, recordings, other))
    swaps = chosen(score, selection)
    assert out.gains.dtype == score.gains.dtype
    np.testing.assert_array_equal(out.ids, score.ids)
    np.testing.assert_array_equal(out.origins == len(score.sources), swaps)
    assert (out.lengths[swaps] <= score.params.n_frames(120)).all()
    render(out, [*recordings, other], dry=True)
    twice = swapped(score, selection, SWAPPED, recordings, other)
    np.testing.assert_array_equal(twice.centres, out.centres)
    np.testing.assert_array_equal(twice.gains, out.gains)


@pytest.mark.parametrize("channels", ["source", "apart"])
def test_a_mosaic_of_another_source_is_as_loud(channels):
    target, source = demo_target(RATE)[:RATE], demo_source(RATE)
    first, second = source[:RATE], np.stack([source[RATE : 2 * RATE], source[RATE : 2 * RATE][::-1]])
    target, first = np.stack([target, target[::-1]]), np.stack([first, first])
    score = smalti.mosaic(target, [first], RATE, channels=channels, iterations=8).score
    out = check(swapped(score, Selection(), SWAPPED, [first], second))
    assert np.abs(out.levels - score.levels).max() < 3
    levels = [
        10 * np.log10(np.mean(np.square(render(rendered, sources, dry=True))))
        for rendered, sources in ((score, [first]), (out, [first, second]))
    ]
    assert levels[1] == pytest.approx(levels[0], abs=2)


def test_impossible_swaps_are_refused(noises):
    score, sound = noises
    with pytest.raises(ValueError, match=r"other.wav is silent; swap grains for those of a recording that sounds"):
        swapped(score, Selection(), SWAPPED, [sound], np.zeros(9000))
    with pytest.raises(ValueError, match="sources has 2 recordings; the score is made of 1"):
        swapped(score, Selection(), SWAPPED, [sound, sound], sound)
    with pytest.raises(ValueError, match="no source of the score meets"):
        swapped(score, Selection(sources=("rain",)), SWAPPED, [sound], sound)


def test_no_grain_is_swapped_for_near_silence(noises):
    score, sound = noises
    score = replace(score, settings=replace(score.settings, quietest_db=50.0))
    # The very same sound, but far quieter than the rest of the recording.
    other = np.concatenate([sound / 1e4, np.random.default_rng(3).standard_normal(40 * HOP) * 0.2])
    out = swapped(score, Selection(), SWAPPED, [sound], other)
    assert (out.centres >= 38 * HOP).all()
