"""Curves: their values between and beyond their points, how they are written, and how settings use them."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smalti import PRESETS, Settings
from smalti.curves import Curve, as_varying, on_frames
from smalti.presets import configure, settings_from
from smalti.settings import KNOBS

numbers = st.floats(-1e6, 1e6)


@st.composite
def curves(draw, values=numbers):
    times = sorted(draw(st.lists(numbers, min_size=1, max_size=6, unique=True)))
    return Curve(tuple(times), tuple(draw(values) for _ in times))


def test_a_curve_is_linear_between_its_points_and_constant_beyond():
    curve = Curve.parse("1:2, 3:8")
    np.testing.assert_array_equal(curve.at([-5, 0, 1, 1.5, 2, 3, 9]), [2, 2, 2, 3.5, 5, 8, 8])
    np.testing.assert_array_equal(Curve.parse("4:7").at([[0, 4], [5, 6]]), np.full((2, 2), 7))


def test_two_points_at_one_time_are_a_jump_where_the_second_holds():
    curve = Curve.parse("0:1, 2:1, 2:5, 4:5")
    np.testing.assert_array_equal(curve.at([1.999, 2, 2.001]), [1, 5, 5])
    # A jump at an end has a value on its outer side, too.
    np.testing.assert_array_equal(Curve.parse("0:1, 0:2").at([-1, 0, 1]), [1, 2, 2])


@given(curves(), st.lists(numbers, max_size=8))
def test_a_curve_is_numpys_interpolation(curve, times):
    np.testing.assert_allclose(curve.at(times), np.interp(times, curve.times_s, curve.values), rtol=1e-9, atol=1e-6)


@given(curves())
def test_a_curve_written_and_read_again_is_the_same(curve):
    assert Curve.parse(str(curve)) == curve
    assert Curve.through(list(zip(curve.times_s, curve.values, strict=True))) == curve
    assert curve.least <= curve.at(0.0) <= curve.most


@given(curves(st.just(0.1)), st.lists(numbers, max_size=8))
def test_a_curve_of_equal_values_has_exactly_that_value_everywhere(curve, times):
    np.testing.assert_array_equal(curve.at(times), np.full(len(times), 0.1))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("4:2, 0:3", "0 s comes after 4 s; pass breakpoints in the order of their times"),
        ("0:1, 0:2, 0:3", "three points stand at 0 s; pass two for a jump"),
        ("", "'' is no breakpoint; pass seconds and values such as '0:2, 4:8'"),
        ("0:1,", "'' is no breakpoint"),
        ("0:1, 4", "'4' is no breakpoint"),
        ("0:x", "'0:x' is no breakpoint"),
        ("0:nan", "'0:nan' is no breakpoint"),
        ("inf:1", "'inf:1' is no breakpoint"),
        ("0:1:2", "'0:1:2' is no breakpoint"),
    ],
)
def test_malformed_curves_are_refused(text, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Curve.parse(text)


@pytest.mark.parametrize(
    ("times", "values", "kind", "sentence"),
    [
        ((), (), ValueError, "a curve has no point; pass at least one"),
        ((0,), (1, 2), ValueError, "1 times have 2 values"),
        ((0,), (float("nan"),), ValueError, "values holds nan; pass finite numbers"),
        ((float("inf"),), (0,), ValueError, "times_s holds inf"),
        (("0",), (0,), TypeError, "times_s holds '0'; pass numbers"),
        ((0,), (True,), TypeError, "values holds True"),
        (0, (1,), TypeError, "times_s is 0; pass a tuple of numbers"),
    ],
)
def test_points_are_checked(times, values, kind, sentence):
    with pytest.raises(kind, match=re.escape(sentence)):
        Curve(times, values)


def test_a_setting_takes_a_curve_in_every_form():
    curve = Curve((0.0, 4.0), (2.0, 8.0))
    for form in (curve, "0:2, 4:8", [(0, 2), (4, 8)], ((0, 2), (4, 8)), np.array([[0, 2], [4, 8]])):
        assert as_varying("layers", form) == curve
        assert configure(layers=form).layers == curve
    assert configure(layers="3").layers == 3
    assert configure(grain_length_s="0.5").grain_length_s == 0.5
    # A pair of numbers is a range of semitones, not a curve.
    assert configure("melodic", transpose=(0, 12)).transpose == (0, 12)
    assert configure("melodic", transpose="follow").transpose == "follow"
    assert configure("melodic", transpose=[(0, 0), (4, 12)]).transpose == Curve((0.0, 4.0), (0.0, 12.0))


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"layers": "0:2, x"}, "layers is '0:2, x': 'x' is no breakpoint"),
        ({"layers": "many"}, "layers is 'many'; pass a number, or seconds and values such as '0:2, 4:8'"),
        ({"layers": [0, 4]}, "layers is [0, 4]: 0 is no breakpoint; pass pairs of seconds and values"),
        ({"layers": "0:2, 4:0"}, "layers at its least is 0; pass a number of at least 1"),
        ({"drift": "0:0, 4:101"}, "drift at its most is 101; pass a number from 0 to 100"),
        ({"grain_length_s": "0:-1"}, "grain_length_s at its least is -1"),
        ({"level_db": "0:0, 4:30"}, "level_db at its most is 30; pass a number from -100 to 24"),
        ({"preset": "melodic", "transpose": "0:0, 4:50"}, "transpose at its most is 50; pass a number from -48 to 48"),
        ({"preset": "melodic", "transpose": "0:48", "tune_cents": 100}, "together beyond 48 semitones"),
        ({"preset": "classic", "transpose": "0:1"}, "transpose is 0:1 but only whole grains can be shifted"),
        ({"preset": "sparse", "layers": "0:1, 4:3"}, "layers is the curve 0:1, 4:3 but pursuit takes one number"),
        ({"preset": "faithful", "drift": 20}, "drift is 20 but only whole grains can go on, and choose is 'frames'"),
        ({"preset": "classic", "drift": "0:0, 9:50"}, "drift is 0:0, 9:50 but only whole grains can go on"),
        ({"preset": "sparse", "drift": 20}, "drift means nothing to the preset sparse"),
    ],
)
def test_curves_of_settings_are_checked(knobs, sentence):
    with pytest.raises((ValueError, TypeError), match=re.escape(sentence)):
        configure(**knobs)


def test_settings_on_a_grid():
    settings = configure("balanced", layers="0:1, 1:3", grain_length_s="0:0.1, 0:0.5")
    assert settings.layers_in(5, 0.25) == (1, 2, 2, 2, 3)
    rules = settings.constraints(0.1, 3)
    # Up to four candidates compete for one to three layers; reaches of 0.5 s are two hops to either side.
    assert (rules.polyphony, rules.continuity, rules.varies) == (4, 2, False)
    assert replace(settings, candidates=2).constraints(0.25, 5).polyphony == (2, 2, 2, 2, 3)
    np.testing.assert_array_equal(on_frames(Curve.parse("0:0, 1:1"), 3, 0.5), [0, 0.5, 1])
    np.testing.assert_array_equal(on_frames(7, 3, 0.5), [7, 7, 7])


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_settings_come_back_from_a_report(name):
    assert settings_from(json.loads(json.dumps(asdict(PRESETS[name])))) == PRESETS[name]


def test_curves_and_ranges_come_back_from_a_report():
    knobs = {name: Curve.parse("0:2, 4:8") for name, knob in KNOBS.items() if knob.varies}
    for settings in (configure("melodic", **knobs), configure("melodic", transpose=(-12, 12.0), layers=3)):
        assert settings_from(json.loads(json.dumps(asdict(settings)))) == settings
    assert settings_from({"layers": 3}) == Settings(layers=3)


@pytest.mark.parametrize(
    ("saved", "sentence"),
    [
        ({"layer": 3, "hop": 1}, "'layer', 'hop' is no setting; pass names among summary, method"),
        ({"layers": {"times": [0], "values": [1]}}, "layers has 'times', 'values'; a curve has 'times_s' and 'values'"),
        ({"layers": {"times_s": [1, 0], "values": [1, 1]}}, "0 s comes after 1 s"),
        ({"beta": 3}, "beta is 3; pass a number from 0 to 2"),
    ],
)
def test_malformed_saved_settings_are_refused(saved, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        settings_from(saved)
