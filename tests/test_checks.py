"""Every check accepts its bounds, refuses values beyond them, and says what it got and what to pass."""

import pickle

import numpy as np
import pytest

from smalti._checks import (
    ParameterError,
    ParameterTypeError,
    check_choice,
    check_count,
    check_magnitudes,
    check_rate,
    check_real,
    check_same_bins,
    check_signal,
)
from smalti.io.score_file import schema
from smalti.settings import KNOBS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_good_signal_is_returned_as_it_is(dtype):
    y = np.array([0, -1, 0.5], dtype)
    assert check_signal("y", y) is y


def test_a_list_of_floats_is_a_signal():
    np.testing.assert_array_equal(check_signal("y", [0.5, -0.5]), [0.5, -0.5])


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        (np.zeros(4, np.int16), TypeError, r"y holds int16 samples; .*divide by 32768"),
        (np.zeros(4, np.int32), TypeError, r"divide by 2147483648"),
        (np.zeros(4, complex), TypeError, r"y has dtype complex128; pass float32 or float64"),
        (np.zeros(4, bool), TypeError, r"y has dtype bool"),
        (np.zeros(4, np.float16), TypeError, r"y has dtype float16"),
        (["a"], TypeError, r"y has dtype"),
        (np.zeros((4, 2)), ValueError, r"y has shape \(4, 2\); pass one channel"),
        (np.float64(1), ValueError, r"y has shape \(\)"),
        (np.zeros(0), ValueError, r"y has 0 samples; pass at least one"),
        (np.array([0, np.nan, np.inf]), ValueError, r"y holds 2 values that are NaN or infinite"),
        (np.array([0, -np.inf]), ValueError, r"y holds 1 values that are NaN or infinite"),
        (np.array([0, -1e13]), ValueError, r"y holds values as large as 1e\+13; scale it to at most 1e\+09"),
    ],
)
def test_a_bad_signal_is_refused(samples, error, words):
    with pytest.raises(error, match=words):
        check_signal("y", samples)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_good_magnitudes_are_returned_as_they_are(dtype):
    V = np.array([[0, 1e12]], dtype)
    assert check_magnitudes("V", V) is V


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16])
def test_other_real_numbers_become_double_precision(dtype):
    V = check_magnitudes("V", np.ones((1, 2), dtype))
    assert V.dtype == np.float64
    np.testing.assert_array_equal(V, [[1, 1]])


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (np.ones((2, 2), complex), TypeError, r"V has dtype complex128; pass real magnitudes"),
        ([["a"]], TypeError, r"V has dtype"),
        (np.ones(3), ValueError, r"V has shape \(3,\); pass a matrix"),
        (np.ones((3, 0)), ValueError, r"V has shape \(3, 0\); pass at least one row and one column"),
        (np.array([[1, -0.5]]), ValueError, r"V holds negative values \(smallest -0.5\)"),
        (np.array([[1, np.nan]]), ValueError, r"V holds 1 values that are NaN or infinite"),
        (np.array([[np.inf, -np.inf]]), ValueError, r"V holds 2 values that are NaN or infinite"),
        (np.array([[1e16]]), ValueError, r"V holds values as large as 1e\+16; scale it to at most 1e\+15"),
    ],
)
def test_bad_magnitudes_are_refused(values, error, words):
    with pytest.raises(error, match=words):
        check_magnitudes("V", values)


def test_negative_zero_is_no_negative_value():
    check_magnitudes("V", np.array([[-0.0]]))


def test_grids_must_match():
    check_same_bins(np.ones((3, 2)), np.ones((3, 9)))
    with pytest.raises(ValueError, match=r"W has 4 frequency bins but V has 3; .*same StftParams"):
        check_same_bins(np.ones((3, 2)), np.ones((4, 2)))


@pytest.mark.parametrize("value", [2, 7, np.int16(5), np.uint8(2)])
def test_a_count_comes_back_as_int(value):
    count = check_count("n", value, least=2)
    assert type(count) is int
    assert count == value


@pytest.mark.parametrize(
    ("value", "error"), [(1, ValueError), (-3, ValueError), (2.0, TypeError), (True, TypeError), ("3", TypeError)]
)
def test_a_bad_count_is_refused(value, error):
    with pytest.raises(error, match=rf"n is {value!r}; pass a whole number of at least 2"):
        check_count("n", value, least=2)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.25), np.int64(1)])
def test_a_real_number_comes_back_as_float(value):
    number = check_real("x", value, least=0, most=1)
    assert type(number) is float
    assert number == value


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-0.001, ValueError),
        (1.001, ValueError),
        (np.nan, ValueError),
        (np.inf, ValueError),
        (True, TypeError),
        (np.True_, TypeError),
        ("1", TypeError),
        (1j, TypeError),
        (None, TypeError),
    ],
)
def test_a_bad_real_number_is_refused(value, error):
    with pytest.raises(error, match=r"x is .*; pass a number from 0 to 1"):
        check_real("x", value, least=0, most=1)


def test_infinity_is_too_much_even_without_an_upper_bound():
    with pytest.raises(ValueError, match=r"x is inf; pass a number of at least 0"):
        check_real("x", np.inf, least=0)


def test_a_choice_is_one_of_those_allowed():
    assert check_choice("rank", "h", ("h", "energy")) == "h"
    with pytest.raises(ValueError, match=r"rank is 'H'; pass one of h, energy"):
        check_choice("rank", "H", ("h", "energy"))


def test_a_sample_rate_has_bounds():
    assert check_rate("sr", 1000) == 1000
    assert check_rate("sr", np.int64(768_000)) == 768_000
    for rate in (999, 768_001, 0, -1):
        with pytest.raises(ValueError, match=rf"sr is {rate}"):
            check_rate("sr", rate)
    with pytest.raises(TypeError, match=r"sr is 44100.0"):
        check_rate("sr", 44100.0)


def test_settings_and_score_files_have_the_same_limits_of_a_sample_rate():
    rate = schema()["$defs"]["ScorePart"]["properties"]["sr"]
    for least, most in (
        (KNOBS["sr"].least, KNOBS["sr"].most),
        (rate["minimum"], rate["maximum"]),
    ):
        assert (check_rate("sr", least), check_rate("sr", most)) == (least, most)
        for beyond in (least - 1, most + 1):
            with pytest.raises(ValueError, match=rf"pass a sample rate from {least} to {most} Hz"):
                check_rate("sr", beyond)


def test_an_error_knows_its_parameter_and_can_give_it_another_name():
    with pytest.raises(ParameterError, match=r"^layers is 0; pass a whole number of at least 1$") as caught:
        check_count("layers", 0, least=1)
    error = caught.value
    assert (error.name, error.got, error.remedy) == ("layers", "is 0", "pass a whole number of at least 1")
    assert error.worded(lambda name: f"--{name}").startswith("--layers is 0; ")
    about_two = ParameterError("end_s", "is 1", "pass more than {start_s}, 2", also=("start_s",))
    assert about_two.worded(lambda name: "--" + name[:-2]) == "--end is 1; pass more than --start, 2"
    assert str(about_two) == "end_s is 1; pass more than start_s, 2"
    with pytest.raises(ParameterError) as caught:
        check_real("weights", 2, least=0, most=1, after=" of {layers} and weights")
    # Only the parameter is renamed, and nothing of the caller's that looks like one.
    assert caught.value.worded(str.upper) == "WEIGHTS of {layers} and weights is 2; pass a number from 0 to 1"
    back = pickle.loads(pickle.dumps(about_two))
    assert (type(back), str(back), back.also) == (ParameterError, str(about_two), ("start_s",))
    with pytest.raises(ParameterTypeError):
        check_real("beta", "1", least=0)
