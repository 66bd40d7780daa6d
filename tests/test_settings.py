"""The list of settings agrees with its defaults, with the keywords of `mosaic` and with the presets."""

import dataclasses
import typing

import pytest

import smalti
from smalti._checks import ParameterError, ParameterTypeError
from smalti.knobs import METHODS, Kind
from smalti.presets import FileKnobs, Knobs, configure, settings_from
from smalti.settings import KNOBS, Settings


def test_every_setting_but_summary_and_sr_is_a_knob_of_mosaic_with_its_type():
    own, given = typing.get_type_hints(Settings), typing.get_type_hints(Knobs)
    assert set(own) - set(given) == {"summary", "sr"}
    assert set(typing.get_type_hints(FileKnobs)) == set(own) - {"summary"}
    for name, kind in given.items():
        # A knob takes every type that its setting takes, and None.
        assert set(typing.get_args(own[name]) or [own[name]]) <= set(typing.get_args(kind)), name


def test_the_facts_about_a_setting_agree_with_its_default():
    defaults = Settings()
    assert list(KNOBS) == [field.name for field in dataclasses.fields(Settings)]
    for name, knob in KNOBS.items():
        assert knob.kind in typing.get_args(Kind)
        assert set(knob.methods) <= set(METHODS)
        assert knob.help.endswith("."), name
        assert name in Settings.__doc__
        knob.check(name, getattr(defaults, name))


@pytest.mark.parametrize("name", [name for name, knob in KNOBS.items() if knob.kind in ("real", "count")])
def test_a_number_is_refused_beyond_its_range_and_named(name):
    knob = KNOBS[name]
    for value in (knob.least - 1, knob.most + 1):
        if abs(value) < float("inf"):
            with pytest.raises(ParameterError) as caught:
                knob.check(name, type(getattr(Settings(), name) or 0)(value))
            assert caught.value.name == name


@pytest.mark.parametrize("name", [name for name, knob in KNOBS.items() if "pursuit" not in knob.methods])
def test_settings_that_pursuit_does_not_use_are_refused(name):
    value = getattr(smalti.PRESETS["balanced"], name)
    with pytest.raises(ParameterError, match=f"{name} means nothing to the preset sparse"):
        configure("sparse", **{name: 1 if value is None else value})


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(TypeError, match=r"'layer' is no setting; pass names among .*layers"):
        smalti.mosaic([0.0], [0.0], 8000, layer=3)


NEEDING = {"keep_formants": False, "tape": True, "tune_cents": 5.0, "purity": 20.0, "voices": 3}


def test_every_setting_that_needs_another_is_tried():
    assert NEEDING.keys() == {name for name, knob in KNOBS.items() if knob.needs}


@pytest.mark.parametrize(("name", "value"), NEEDING.items())
def test_a_setting_is_refused_while_the_one_that_it_needs_is_off(name, value):
    with pytest.raises(ParameterError, match=f"^{name} means nothing while transpose is off; add transpose auto"):
        configure("balanced", **{name: value})
    assert getattr(configure("balanced", transpose="auto", **{name: value}), name) == value
    # A caller may name all settings, as long as they are as they were.
    assert configure("balanced", **{name: getattr(smalti.PRESETS["balanced"], name)}) == smalti.PRESETS["balanced"]


@pytest.mark.parametrize(
    ("points", "fault"),
    [
        ({"times_s": [], "values": []}, "a curve has no point"),
        ({"times_s": ["x"], "values": [1]}, "times_s holds 'x'"),
    ],
)
def test_a_curve_of_a_report_that_is_none_is_refused_by_the_name_of_its_setting(points, fault):
    with pytest.raises((ParameterError, ParameterTypeError), match=fault) as caught:
        settings_from({"layers": points})
    assert caught.value.name == "layers"
