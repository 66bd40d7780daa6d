"""Filters, weights and limits: patterns match as documented, and filters that nothing could pass are refused."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from smalti.grains.filters import Filters, limits_of, meets, weights_of


@dataclass(frozen=True)
class Recording:
    path: str = "../field/Rain/light/roof [2].WAV"
    tags: tuple[str, ...] = ("rain", "night bird")
    duration_s: float = 10.0
    loudness_lufs: float = -30.0


@pytest.mark.parametrize(
    ("pattern", "met"),
    [
        ("rain", True),
        ("rain/", True),
        ("Rain/Light", True),
        ("field/*/roof*", True),
        ("*.wav", True),
        ("roof [[]2].wav", True),
        ("roof", False),
        ("rai", False),
        ("ain/light", False),
        ("tag:night*", True),
        ("tag:night", False),
        ("tag:RAIN", True),
        ("l?ght", True),
    ],
)
def test_a_pattern_matches_whole_parts_of_a_path_and_tags(pattern, met):
    assert meets(Recording(), pattern) is met


@pytest.mark.parametrize(
    ("filters", "error", "match"),
    [
        ({"include": "rain"}, TypeError, "include is the single text 'rain'"),
        ({"exclude": ("",)}, ValueError, "exclude holds '', which nothing meets"),
        ({"tags": (3,)}, TypeError, "tags holds 3"),
        ({"include": ("tag:",)}, ValueError, "nothing meets"),
        ({"shortest_s": -1}, ValueError, "shortest_s is -1"),
        ({"longest_s": math.nan}, ValueError, "longest_s is nan"),
        ({"shortest_s": 2, "longest_s": 1}, ValueError, "longest_s is 1; pass at least shortest_s, 2"),
        ({"quietest_lufs": -10, "loudest_lufs": -20}, ValueError, "loudest_lufs is -20; pass at least"),
    ],
)
def test_filters_that_make_no_sense(filters, error, match):
    with pytest.raises(error, match=match):
        Filters(**filters)


def test_ranges_of_length_and_loudness_include_their_ends():
    assert Filters(shortest_s=10, longest_s=10, quietest_lufs=-30, loudest_lufs=-30).passes(Recording())
    assert not Filters(quietest_lufs=-70).passes(Recording(loudness_lufs=-math.inf))
    assert Filters().passes(Recording(loudness_lufs=-math.inf))
    assert str(Filters(include=("a", "b"), tags=("c",), longest_s=3)) == "--include a --include b --tag c --longest 3"


def test_weights_multiply_and_limits_are_shares():
    recordings = [Recording(), Recording(path="wind/a.wav", tags=())]
    np.testing.assert_array_equal(weights_of(recordings, {"rain": 2, "*.wav": 0.5}), [1, 0.5])
    (limit,) = limits_of(recordings, {"wind": 0.2})
    assert (limit.share, limit.recordings.tolist()) == (0.2, [False, True])
    with pytest.raises(ValueError, match="limits of wind is 2"):
        limits_of(recordings, {"wind": 2})
    with pytest.raises(ValueError, match="weights of wind is -1"):
        weights_of(recordings, {"wind": -1})


def test_patterns_may_leave_out_the_ending_and_hold_brackets():
    recording = Recording("odd [x] 100%/a b.v2.wav", ("odd [x] 100%",))
    for pattern in ("a b.v2", "a b.v2.wav", "odd [x] 100%", "ODD [X] 100%/a b.v2", "tag:odd [x] 100%", "*.wav"):
        assert meets(recording, pattern), pattern
    for pattern in ("a b", "odd x 100%", "v2", "tag:odd x 100%"):
        assert not meets(recording, pattern), pattern
