"""Edits of scores: which grains are left, how they sound, and the laws that edits obey."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from scores import GRID, HOP, LENGTH, SOFT_DB, SR, back, check, mosaics, score_of, scores, selections, spans
from smalti import StftParams, build_dictionary, render
from smalti.grains.shifted import Shift
from smalti.grains.source import Source
from smalti.score.edit import (
    Edits,
    Selection,
    Swap,
    chosen,
    edited,
    louder,
    moved,
    muted,
    selected,
    soloed,
    transposed,
)
from smalti.score.score import COLUMNS
from smalti.score.table import summary


def heard(score, recordings):
    return render(score, recordings, dry=True)


def same(a, b):
    """Check that two scores are equal to the last bit."""
    for name in (*COLUMNS, "gains"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.shifts == b.shifts
    assert a.sources == b.sources


@settings(max_examples=20)
@given(scores(), selections)
def test_a_muted_and_a_soloed_score_add_up_to_the_score(case, selection):
    score, recordings = case
    without, alone = check(muted(score, selection)), check(soloed(score, selection))
    for part in (without, alone):
        plain = np.array([shift is None for shift in part.shifts], bool)
        assert (part.gains[plain[part.owners]] > 0).all()
    sound = heard(score, recordings)
    np.testing.assert_allclose(
        heard(without, recordings) + heard(alone, recordings), sound, rtol=0, atol=1e-5 * max(np.abs(sound).max(), 1e-9)
    )


@settings(max_examples=20)
@given(scores(), spans, spans)
def test_nothing_sounds_where_it_was_muted_and_the_order_does_not_matter(case, first, second):
    score, recordings = case
    in_first, in_second = Selection(between=first), Selection(between=second)
    left = muted(muted(score, in_first), in_second)
    assert not (left.gains[selected(left, in_first) | selected(left, in_second)] > 0).any()
    turned = muted(muted(score, in_second), in_first)
    np.testing.assert_array_equal(heard(left, recordings), heard(turned, recordings))
    np.testing.assert_allclose(np.sort(left.levels), np.sort(turned.levels), rtol=1e-9)
    softer = louder(muted(score, in_first), -6, in_second)
    same_again = muted(louder(score, -6, in_second), in_first)
    np.testing.assert_array_equal(heard(softer, recordings), heard(same_again, recordings))
    np.testing.assert_allclose(np.sort(softer.levels), np.sort(same_again.levels), rtol=1e-9)


@settings(max_examples=30)
@given(scores(), st.floats(-60, 60), selections)
def test_louder_and_then_as_much_softer_restores_the_score(case, gain_db, selection):
    score, _ = case
    selection = replace(selection, louder_than_db=-np.inf)
    up = check(louder(score, gain_db, selection))
    again = louder(up, -gain_db, selection)
    np.testing.assert_allclose(again.gains, score.gains, rtol=1e-5)
    np.testing.assert_allclose(again.levels, score.levels, atol=1e-4)
    entries = selected(score, selection)
    whole_grains = np.bincount(score.owners, entries, len(score)) == score.lengths
    np.testing.assert_allclose(up.levels[whole_grains], score.levels[whole_grains] + gain_db, atol=1e-4)


@settings(max_examples=30)
@given(scores(), selections)
def test_edits_that_do_nothing_leave_everything_to_the_last_bit(case, selection):
    score, _ = case
    nothing = replace(selection, between=(1e6, 2e6))
    for unchanged in (
        muted(score, nothing),
        soloed(score),
        louder(score, 12, nothing),
        louder(score, 0, selection),
        moved(score, 0.02, nothing),
        moved(score, 0, selection),
        transposed(score, 5, nothing),
        transposed(score, 0, selection),
    ):
        same(unchanged, score)
    assert len(muted(score)) == 0


@settings(max_examples=20)
@given(mosaics(), st.integers(-6, 6))
def test_a_score_moved_by_whole_hops_sounds_the_same_but_later(case, n_hops):
    dictionary, H = case
    # Far from both ends of the mosaic, where fewer windows overlap.
    H[:, :10] = H[:, 16:] = 0
    score = score_of(scipy.sparse.csc_array(H), dictionary, gain_db=SOFT_DB)[:30]
    recordings = list(dictionary.recordings)
    later = check(moved(score, n_hops * HOP / SR))
    expected = np.roll(heard(score, recordings), n_hops * HOP)
    np.testing.assert_allclose(heard(later, recordings), expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(moved(later, -n_hops * HOP / SR).centres, score.centres)


@settings(max_examples=30)
@given(scores(), st.floats(-0.1, 0.1), selections)
def test_moving_shifts_whole_grains_by_samples_and_cuts_off_what_lies_outside(case, seconds, selection):
    score, _ = case
    later, moves = check(moved(score, seconds, selection)), chosen(score, selection)
    n_samples = round(seconds * SR)

    def entries(edited, samples):
        """Source, lag of the mosaic behind it, gain, and sample of the mosaic of every frame of every grain."""
        centres = edited.centres[edited.owners] + edited.steps * HOP
        at = edited.at * HOP
        # The lag alone tells how much later a sample of the source is heard.
        return edited.origins[edited.owners], at - centres + samples, edited.gains, at

    origins, lags, gains, at = entries(score, np.where(moves, n_samples, 0)[score.owners])
    hops = np.where(moves, (2 * n_samples + HOP) // (2 * HOP), 0)[score.owners]
    at = at + hops * HOP
    inside = (at >= 0) & (at <= (score.n_frames - 1) * HOP)
    expected = np.stack([column[inside] for column in (origins, lags, at)])
    got = np.stack([column for column in np.delete(np.array(entries(later, 0), dtype=object), 2, axis=0)]).astype(int)
    np.testing.assert_array_equal(got[:, np.lexsort(got)], expected[:, np.lexsort(expected)])
    np.testing.assert_array_equal(np.sort(later.gains), np.sort(gains[inside]))


def test_moving_by_samples_moves_the_sound_by_exactly_as_many():
    rng = np.random.default_rng(0)
    dictionary = build_dictionary(rng.standard_normal(400), SR, params=GRID)
    H = np.zeros((dictionary.n_atoms, GRID.n_frames(LENGTH)))
    H[np.arange(4, 18), np.arange(4, 18)] = 0.5
    score = score_of(scipy.sparse.csc_array(H), dictionary, gain_db=SOFT_DB)
    for n_samples in (-21, -7, 1, 5, 8, 13):
        later = moved(score, n_samples / SR)
        # The edges of the envelope are left out, since they lie on the grid.
        inside = slice(160, 220)
        expected = np.roll(heard(score, list(dictionary.recordings)), n_samples)
        np.testing.assert_allclose(heard(later, list(dictionary.recordings))[inside], expected[inside], atol=1e-12)


@pytest.fixture
def tones():
    """A recording of a second, and a score of half of it as one grain."""
    t = np.arange(22050) / 22050
    sound = 0.3 * sum(np.sin(2 * np.pi * 220 * k * t) / k for k in range(1, 6)) * (1 + 0.3 * np.sin(2 * np.pi * 3 * t))
    dictionary = build_dictionary(sound, 22050, params=StftParams(2048, 512))
    H = scipy.sparse.csc_array(
        (np.full(20, 0.5), (np.arange(8, 28), np.arange(10, 30))), shape=(dictionary.n_atoms, 60)
    )
    length = 59 * 512
    return score_of(H, dictionary, length, gain_db=-20.0), [sound]


def pitch_of(sound, sr=22050):
    """The frequency of the strongest partial in Hz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8 * len(sound)))
    return np.argmax(spectrum) * sr / (8 * len(sound))


@pytest.mark.parametrize("tape", [False, True])
@pytest.mark.parametrize("semitones", [-12.0, 7.0])
def test_a_transposed_grain_sounds_higher_at_the_same_time(tones, semitones, tape):
    score, sources = tones
    score = replace(score, settings=replace(score.settings, tape=tape, keep_formants=False))
    higher = check(transposed(score, semitones))
    assert higher[0].semitones == pytest.approx(semitones)
    sound, own = heard(higher, sources), heard(score, sources)
    middle = slice(14 * 512, 26 * 512)
    assert pitch_of(sound[middle]) == pytest.approx(pitch_of(own[middle]) * 2 ** (semitones / 12), rel=0.01)
    assert np.sqrt(np.mean(sound[middle] ** 2)) == pytest.approx(np.sqrt(np.mean(own[middle] ** 2)), rel=0.35)
    assert not sound[: 8 * 512].any()
    assert not sound[31 * 512 :].any()
    # Two steps give the same as one.
    twice = transposed(transposed(score, semitones / 2), semitones / 2)
    np.testing.assert_allclose(twice.shifts[0].ratios, higher.shifts[0].ratios)
    assert abs(twice.shifts[0].begin - higher.shifts[0].begin) <= 2


def test_a_grain_transposed_there_and_back_sounds_as_recorded(tones):
    score, sources = tones
    there_and_back = transposed(transposed(score, 5.0), -5.0)
    there_and_back = replace(
        there_and_back,
        shifts=tuple(replace(shift, ratios=np.round(shift.ratios, 12)) for shift in there_and_back.shifts),
    )
    np.testing.assert_allclose(heard(there_and_back, sources), heard(score, sources), atol=1e-9)


@pytest.mark.parametrize("tape", [False, True])
@pytest.mark.parametrize(
    ("n_samples", "length"),
    [(-10 * 512, 20), (-700, 20), (333, 20), (-15 * 512, 15), (-18 * 512 + 50, 12), (25 * 512, 20), (40 * 512, 10)],
)
def test_shifted_grains_are_moved_and_cut_off_with_their_sound(tones, n_samples, length, tape):
    score, sources = tones
    glide = 2 ** (np.linspace(2, 6, 26 * 8) / 12)
    shift = Shift(0, 5 * 512, 20, 3, glide, np.full(26 * 8, 220.0))
    score = replace(score, shifts=(shift,), settings=replace(score.settings, tape=tape))
    later = check(moved(score, n_samples / 22050))
    assert later.lengths.tolist() == [length]
    # Compared within the envelope, where as many windows overlap as before.
    first, last = max(12 * 512 + n_samples, 3 * 512), min(27 * 512 + n_samples, score.length - 3 * 512)
    expected, got = heard(score, sources)[first - n_samples : last - n_samples], heard(later, sources)[first:last]
    if n_samples % 512 == 0:
        # A grain that is cut off is read for a shorter time, so its segments meet elsewhere.
        np.testing.assert_allclose(got, expected, atol=(0.05 if length < 20 else 1e-9) * np.abs(expected).max())
    # Moved by a fraction of a hop, partials have other phases, so magnitudes are compared.
    alike = [np.abs(np.fft.rfft(sound * np.hanning(last - first))) for sound in (expected, got)]
    assert alike[0] @ alike[1] / np.sqrt((alike[0] @ alike[0]) * (alike[1] @ alike[1])) > 0.999
    assert np.sum(got**2) == pytest.approx(np.sum(expected**2), rel=0.01)


def test_nothing_is_left_of_grains_moved_wholly_outside(tones):
    score, _ = tones
    assert len(moved(score, 5.0)) == len(moved(transposed(score, 4.0), -5.0)) == 0


def test_a_selection_takes_the_grains_that_meet_its_criteria():
    rng = np.random.default_rng(0)
    dictionary = build_dictionary([rng.standard_normal(300)] * 2, SR, params=GRID)
    H = np.zeros((dictionary.n_atoms, GRID.n_frames(LENGTH)))
    second = int(np.searchsorted(dictionary.recording_ids, 1))
    for step in range(4):
        H[5 + step, 2 + step] = 1.0
        H[second + 5 + step, 10 + step] = 0.1
    H[second + 2, 3] = 1.0
    sources = Source("birds/robin.wav", tags=("forest",)), Source("rain.wav")
    score = score_of(scipy.sparse.csc_array(H), dictionary, sources=sources, gain_db=-6.0)
    assert [grain.id for grain in score] == [1, 2, 3]

    def ids(**criteria):
        return score.ids[chosen(score, Selection(**criteria))].tolist()

    assert ids() == [1, 2, 3]
    assert ids(sources=("birds",)) == ids(sources=("tag:forest",)) == [1]
    assert ids(sources=("RAIN", "robin")) == [1, 2, 3]
    # Frame n is at n * hop / sr, the end excluded.
    assert ids(between=(5 * HOP / SR, 10 * HOP / SR)) == [1]
    assert ids(between=(5 * HOP / SR, 11 * HOP / SR)) == [1, 3]
    np.testing.assert_array_equal(
        selected(score, Selection(between=(3 * HOP / SR, 5 * HOP / SR))), [0, 1, 1, 0, 1, 0, 0, 0, 0]
    )
    level = score[0].level_db - 6
    assert ids(quieter_than_db=level - 10) == [3]
    assert 3 not in ids(louder_than_db=level - 10)
    assert ids(longer_than_s=3.5 * HOP / SR) == [1, 3]
    assert ids(shorter_than_s=4 * HOP / SR) == [2]
    assert ids(ids=(3, 1), sources=("rain.wav",)) == [3]


def test_a_grain_muted_in_the_middle_falls_in_two():
    rng = np.random.default_rng(0)
    dictionary = build_dictionary(rng.standard_normal(300), SR, params=GRID)
    H = np.zeros((dictionary.n_atoms, GRID.n_frames(LENGTH)))
    for step in range(6):
        H[5 + step, 2 + step] = 1.0 + step
    score = score_of(scipy.sparse.csc_array(H), dictionary)
    left = check(muted(score, Selection(between=(4 * HOP / SR, 6 * HOP / SR))))
    assert left.ids.tolist() == [1, 2]
    assert (left.frames.tolist(), left.lengths.tolist()) == ([2, 6], [2, 2])
    assert left.centres.tolist() == [5 * HOP, 9 * HOP]
    np.testing.assert_array_equal(left.gains, [1, 2, 5, 6])
    H[7:9] = 0
    np.testing.assert_array_equal(back(left, dictionary), H)
    # As if the source were equally loud all along.
    rise = 10 * np.log10(np.mean(np.square([5.0, 6])) / np.mean(np.square(np.arange(1.0, 7))))
    assert left.levels[1] == pytest.approx(score.levels[0] + rise)


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({"between": (2.0, 2.0)}, r"between goes from 2 s to 2 s; pass a begin before its end"),
        ({"between": (-1.0, 2.0)}, "between is -1; pass a number of at least 0"),
        ({"between": (np.nan, 2.0)}, "between is nan"),
        ({"longer_than_s": -1.0}, "longer_than_s is -1; pass a number of at least 0"),
        ({"louder_than_db": np.nan}, "louder_than_db is nan"),
        ({"louder_than_db": -20, "quieter_than_db": -30}, "nothing is both louder than -20 and quieter than -30; pass"),
        ({"longer_than_s": 2, "shorter_than_s": 1}, "nothing is both longer than 2 and shorter than 1"),
        ({"ids": (-1,)}, "an id is -1"),
        ({"sources": ("",)}, "sources holds '', which nothing meets"),
    ],
)
def test_selections_of_nothing_are_refused(criteria, message):
    with pytest.raises(ValueError, match=message):
        Selection(**criteria)


def test_unknown_names_and_values_out_of_range_are_named(tones):
    score, _ = tones
    with pytest.raises(ValueError, match=r"no source of the score meets 'raim'; there are source 1$"):
        muted(score, Selection(sources=("raim",)))
    with pytest.raises(ValueError, match="ids has 7, which no grain has; the score has ids 1 to 1"):
        muted(score, Selection(ids=(7,)))
    with pytest.raises(TypeError, match="sources is the single text"):
        Selection(sources="rain")
    with pytest.raises(ValueError, match="gain_db is 61; pass a number from -200 to 60"):
        louder(score, 61)
    with pytest.raises(ValueError, match="seconds is inf"):
        moved(score, np.inf)
    with pytest.raises(ValueError, match="semitones is 49; pass a number from -48 to 48"):
        transposed(score, 49)
    with pytest.raises(
        ValueError, match=r"grain 1 would be shifted by more than four octaves; it is by 40.0 semitones"
    ):
        transposed(transposed(score, 40), 9)


def test_a_summary_says_how_much_comes_from_which_file():
    rng = np.random.default_rng(0)
    dictionary = build_dictionary([rng.standard_normal(300)] * 3, SR, params=GRID)
    H = np.zeros((dictionary.n_atoms, GRID.n_frames(LENGTH)))
    starts = np.searchsorted(dictionary.recording_ids, [0, 1, 2])
    H[starts[0] + 5, 4] = 1.0
    H[starts[1] + 5, 6] = H[starts[1] + 6, 7] = 1.0
    H[starts[2] + 5, 20] = 1.0
    score = score_of(scipy.sparse.csc_array(H), dictionary, sources=(Source("a"), Source("b"), Source("a", begin=300)))
    b, a = sorted(summary(score), key=lambda usage: usage.name, reverse=True)
    assert [usage.name for usage in summary(score)] in (["a", "b"], ["b", "a"])
    assert (a.n_grains, a.longest_s, a.first_s, a.last_s) == (2, HOP / SR, 4 * HOP / SR, 21 * HOP / SR)
    assert (b.n_grains, b.longest_s, b.first_s, b.last_s) == (1, 2 * HOP / SR, 6 * HOP / SR, 8 * HOP / SR)
    assert a.time_share == b.time_share == 0.5
    assert a.power_share + b.power_share == pytest.approx(1)
    assert summary(muted(score)) == []


def test_swaps_are_made_first_each_of_the_score_that_the_one_before_has_left(tones):
    score, _ = tones
    calls = []

    def swap(before, selection, recording):
        calls.append((len(before), selection, recording))
        return muted(before, Selection(between=(0.3, 0.35)))

    edits = Edits((Swap("a*", "one.wav"), Swap("b", "two.wav")), gain_db=6.0)
    late = Selection(between=(0.2, 9.0), sources=("*",))
    same(
        edited(score, edits, late, swap=swap),
        louder(muted(score, Selection(between=(0.3, 0.35))), 6.0, late),
    )
    # The first swap cuts the grain in two.
    assert calls == [
        (1, replace(late, sources=("a*",)), "one.wav"),
        (2, replace(late, sources=("b",)), "two.wav"),
    ]
    with pytest.raises(ValueError, match="grains are to be swapped but swap is None; pass a function"):
        edited(score, edits, late)
