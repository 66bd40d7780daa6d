"""Two mosaics blended by their scores: the ends are the mosaics, and in between their shares are as requested."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import smalti
from scores import GRID, LENGTH, SR, check, mosaics, score_of
from smalti import build_dictionary, render
from smalti.curves import Curve
from smalti.grains.source import Source
from smalti.score.blend import blended
from smalti.score.edit import transposed
from smalti.score.score import COLUMNS
from smalti.workflows.demo import demo_source, demo_target

RATE = 22050
shares = st.one_of(
    st.floats(0, 1),
    st.lists(
        st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=1, max_size=4, unique_by=lambda point: point[0]
    ).map(lambda points: [(step / 100, share) for step, share in sorted(points)]),
)


def score_in(case, name):
    dictionary, H = case
    sources = tuple(Source(f"{name}{i}") for i in range(len(dictionary.names)))
    score = score_of(scipy.sparse.csc_array(H), dictionary, sources=sources)[:40]
    # Two channels, each with grains of its own.
    return replace(score, channels=2, n_parts=2, parts=np.arange(len(score)) % 2)


@settings(max_examples=25)
@given(mosaics(), mosaics(), shares)
def test_a_blend_is_some_whole_grains_of_each(first, second, share):
    a, b = score_in(first, "a"), score_in(second, "b")
    out = check(blended(a, b, share))
    assert out.gains.dtype == a.gains.dtype
    assert out.sources == a.sources + b.sources
    from_b = out.origins >= len(a.sources)
    for own, origin in ((out.only(~from_b), a), (out.only(from_b), replace(b, ids=b.ids + a.ids.max(initial=0)))):
        places = np.flatnonzero(np.isin(origin.ids, own.ids))
        same = origin.only(places)
        for name in ("ids", "parts", "frames", "lengths", "centres", "levels"):
            np.testing.assert_array_equal(getattr(own, name), getattr(same, name))
        np.testing.assert_array_equal(own.gains, same.gains.astype(a.gains.dtype))


@settings(max_examples=25)
@given(mosaics(), mosaics())
def test_a_blend_with_share_0_or_1_is_one_of_the_two_to_the_last_bit(first, second):
    a, b = score_in(first, "a"), score_in(second, "b")
    for share, expected in ((0, a), (1, b), ([(0, 1.0), (9, 1.0)], b), ("0:0, 1:0", a)):
        out = blended(a, b, share)
        for name in COLUMNS:
            if name not in ("ids", "origins"):
                np.testing.assert_array_equal(getattr(out, name), getattr(expected, name))
        np.testing.assert_array_equal(out.gains, expected.gains.astype(a.gains.dtype))
        assert [out.sources[i] for i in out.origins] == [expected.sources[i] for i in expected.origins]


@settings(max_examples=25)
@given(mosaics(), mosaics())
def test_while_the_share_is_0_or_1_the_blend_is_one_mosaic_alone(first, second):
    a, b = score_in(first, "a"), score_in(second, "b")
    out = blended(a, b, Curve((0.0, 0.02, 0.02), (0.0, 0.0, 1.0)))
    # The step is at frame 10. Grains that lie across it may be from either.
    shifted = b.ids + a.ids.max(initial=0)
    earliest = b.frames[np.isin(shifted, out.ids)].min(initial=10)
    assert set(a.ids[a.frames + a.lengths <= earliest]) <= set(out.ids)
    assert set(shifted[b.frames >= 10]) <= set(out.ids)
    assert not set(shifted[b.frames + b.lengths <= 10]) & set(out.ids)


@pytest.fixture(scope="module")
def pair():
    """Two mosaics of one target, and the two recordings they are made of."""
    target, source = demo_target(RATE), demo_source(RATE)
    sources = {"one": source[: len(source) // 2], "other": source[len(source) // 2 :]}
    made = [
        replace(smalti.mosaic(target, [sound], RATE, iterations=8).score, sources=(Source(name),))
        for name, sound in sources.items()
    ]
    return *made, sources


def powers(score, sources):
    sound = render(replace(score, gain_db=score.gain_db - 20), sources, dry=True).astype(np.float64)
    return np.add.reduceat(sound**2, np.arange(0, len(sound), score.params.hop))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, [(0, 0), (8, 1)]])
def test_the_heard_shares_are_as_requested_without_holes_or_piles(pair, share):
    a, b, sources = pair
    out = blended(a, b, share)
    power_a, power_b, power = powers(a, sources), powers(b, sources), powers(out, sources)
    b_alone = powers(out.only(np.array([out.sources[i].name == "other" for i in out.origins])), sources)
    times_s = np.arange(len(power_b)) * a.hop_s
    wanted = np.interp(times_s, *zip(*share, strict=True)) if isinstance(share, list) else np.full(len(power_b), share)
    heard = power_b > power_b.max() * 1e-4
    got = np.clip(b_alone / np.maximum(power_b, 1e-12), 0, 1)
    # Shares hold in the mean over all, and over two seconds as far as whole grains can follow them.
    assert got[heard].mean() == pytest.approx(wanted[heard].mean(), abs=0.1)
    width = round(2 / a.hop_s)
    got, wanted, weights = (np.convolve(x * heard, np.ones(width), "valid") for x in (got, wanted, heard * 1.0))
    assert np.sqrt(np.mean(np.square((got - wanted) / weights))) < 0.15
    # No frame that is loud in both is left silent, and the whole is as loud as they are.
    loud = (power_a > power_a.max() * 1e-2) & (power_b > power_b.max() * 1e-2)
    assert (power[loud] > 0.02 * np.minimum(power_a, power_b)[loud]).all()
    for own_power in (power_a, power_b):
        assert 10 * np.log10(power.sum() / own_power.sum()) == pytest.approx(0, abs=3)


def test_each_stays_as_loud_as_it_was_at_any_gain(pair):
    a, b, _ = pair
    out = blended(a, replace(b, gain_db=b.gain_db + 6), 1)
    np.testing.assert_allclose(out.gains, b.gains * 10 ** ((b.gain_db + 6 - a.gain_db) / 20), rtol=1e-6)
    np.testing.assert_allclose(out.levels + out.gain_db, b.levels + b.gain_db + 6)
    assert (out.gain_db, out.settings) == (a.gain_db, a.settings)


def test_sources_that_both_scores_have_are_listed_once(pair):
    a, _, _ = pair
    halves = blended(a, a, 0.5)
    assert halves.sources == a.sources
    counted_from_0 = replace(a, ids=a.ids - 1)
    for out in (halves, blended(a, counted_from_0, 0.5), blended(counted_from_0, a, 0.5)):
        assert len(np.unique(out.ids)) == len(out)


def test_shifted_grains_keep_how_they_are_shifted(pair):
    a, b, _ = pair
    tape = replace(transposed(b, 5), settings=replace(b.settings, tape=True))
    assert blended(a, tape, 0.5).settings == replace(a.settings, tape=True)
    assert blended(a, tape, 0).settings == a.settings
    with pytest.raises(ValueError, match="tape is False in one score and True in the other; blend two mosaics made"):
        blended(transposed(a, 1), tape, 0.5)


def test_scores_that_do_not_match_are_refused(pair):
    a, b, _ = pair
    with pytest.raises(ValueError, match=rf"length is {a.length} in one score and {a.length - 1} in the other; blend"):
        blended(a, replace(b, length=a.length - 1), 0.5)
    with pytest.raises(ValueError, match="channels is 1 in one score and 2 in the other"):
        blended(a, replace(b, channels=2), 0.5)
    with pytest.raises(ValueError, match="sr is 22050 in one score and 8000 in the other"):
        blended(a, replace(b, sr=SR), 0.5)
    dictionary = build_dictionary(np.ones(200), SR, params=GRID)
    none = score_of(scipy.sparse.csc_array((dictionary.n_atoms, GRID.n_frames(LENGTH))), dictionary)
    assert len(blended(none, none, 0.5)) == 0
    for share, message in (
        (1.5, "share is 1.5; pass a number from 0 to 1"),
        ([(0, -0.5), (1, 1)], "share is -0.5; pass a number from 0 to 1"),
        (np.nan, "share is nan"),
    ):
        with pytest.raises(ValueError, match=message):
            blended(a, b, share)
