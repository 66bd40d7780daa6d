"""Settings reach the solver, and bad ones are refused by name."""

from dataclasses import fields, replace

import numpy as np
import pytest
from kit_mosaicing import EVERY_PRESET, GRID, PLAIN, SOURCE, SR, TARGET, make

from helpers import prepared
from smalti import PRESETS, LetItBee, Settings, activation_steps
from smalti.mosaicing.compare import compared
from smalti.presets import configure


@EVERY_PRESET
def test_a_knob_overrides_the_preset_and_none_keeps_it(preset):
    assert configure(preset) == PRESETS[preset]
    assert configure(preset, layers=None, phase=None, beta=None, iterations=None) == PRESETS[preset]
    assert configure(preset, layers=7, phase="griffin-lim") == replace(PRESETS[preset], layers=7, phase="griffin-lim")
    assert make(preset=preset, layers=2).settings == replace(PRESETS[preset], layers=2)


@PLAIN
def test_every_knob_of_the_updates_reaches_the_solver(preset):
    knobs = {"layers": 4, "grain_length_s": 0.05, "no_repeat_s": 0.03, "iterations": 9, "beta": 1.5}
    made = make(preset=preset, phase="source", **knobs)
    assert made.settings == replace(PRESETS[preset], phase="source", **knobs)
    V, W = compared(prepared(TARGET, SOURCE, SR, made.settings, params=GRID))
    # With hops of 8 ms, 0.03 s is about four hops. 0.05 s is about six, and 2c + 1 is nearest to that for c = 3.
    rules = LetItBee(repetition=4, polyphony=4, continuity=3)
    *_, last = activation_steps(V, W, n_iter=9, beta=1.5, eps=made.settings.eps, constraints=rules)
    scale = made.dictionary.norms[:, None] if made.settings.unit_norm else 1
    np.testing.assert_allclose(made.activations.toarray() * scale, last.H, rtol=1e-12)


def test_a_knob_at_zero_switches_its_rule_off():
    assert configure("classic", no_repeat_s=0, grain_length_s=0).constraints(GRID.hop / SR) == LetItBee(None, 10, None)
    assert configure("notebook").constraints(GRID.hop / SR) is None


def test_settings_become_rules():
    rules = Settings(layers=3, no_repeat_s=0.02, restrict_every=5, rank="energy").constraints(0.01)
    assert rules == LetItBee(repetition=2, polyphony=3, continuity=None, every=5, rank="energy")


def test_without_grains_layers_and_repetition_are_strict():
    made = make(layers=3, no_repeat_s=0.05, grain_length_s=0)
    sounding = made.activations.toarray() > 0
    assert sounding.any(axis=0).all()
    assert sounding.sum(axis=0).max() <= 3
    for row in sounding:
        # 0.05 s is about six hops of 8 ms, so a frame may sound again after seven hops at the earliest.
        assert (np.diff(np.flatnonzero(row)) > 6).all()


def test_grains_are_runs_of_consecutive_source_frames():
    def continued(made):
        """The share of all gains that continue from the source frame before."""
        H = made.activations.toarray()
        return np.minimum(H[1:, 1:], H[:-1, :-1]).sum() / H.sum()

    long, short = make(grain_length_s=0.15, layers=3), make(grain_length_s=0, layers=3)
    assert continued(long) > 0.5 > 2 * continued(short)


def test_settings_of_your_own_replace_a_preset():
    own = replace(PRESETS["notebook"], iterations=3, beta=0.5, phase="source")
    made, knobs = make(preset=own), make(preset="notebook", iterations=3, beta=0.5, phase="source")
    np.testing.assert_array_equal(made.audio, knobs.audio)
    assert make(preset=own, iterations=4).settings == replace(own, iterations=4)


# A value that each setting refuses, and the end of the message.
BAD = {
    "summary": (3, "pass a sentence"),
    "method": ("magic", "pass one of updates, pursuit"),
    "window_s": (0.0, "pass a number from 0.001 to 2"),
    "hop_s": (-1.0, "pass a number from 0.0001 to 1"),
    "sr": (10, "pass a sample rate"),
    "iterations": (0, "pass a whole number of at least 1"),
    "beta": (3.0, "pass a number from 0 to 2"),
    "eps": (-1e-9, "pass a number of at least 0"),
    "remove_offset": (1, "pass True or False"),
    "fade_s": (-0.001, "pass a number of at least 0"),
    "quietest_db": (-50.0, "pass a number of at least 0"),
    "start_spread": (1.5, "pass a number from 0 to 1"),
    "unit_norm": (None, "pass True or False"),
    "layers": (0, "pass a whole number of at least 1"),
    "no_repeat_s": (float("inf"), "pass a number of at least 0"),
    "grain_length_s": (float("nan"), "pass a number of at least 0"),
    "drift": (101.0, "pass a number from 0 to 100"),
    "restrict_every": (0, "pass a whole number of at least 1"),
    "rank": ("size", "pass one of h, contribution, energy"),
    "compare": ("pixels", "pass one of bins, bands, views"),
    "choose": ("all", "pass one of grains, frames"),
    "candidates": (2.5, "pass a whole number of at least 1"),
    "search": ("maybe", "pass one of auto, always, never"),
    "shortlist": (0, "pass a whole number of at least 1"),
    "shortest_grain_s": (-1.0, "pass a number of at least 0"),
    "masking_db": (-6.0, "pass a number of at least 0"),
    "smooth_gains_s": ("long", "pass a number of at least 0"),
    "refine": (-1, "pass a whole number of at least 0"),
    "nonnegative": ("yes", "pass True or False"),
    "phase": ("random", "pass one of source, target, griffin-lim"),
    "phase_iterations": (-1, "pass a whole number of at least 0"),
    "momentum": (1.5, "pass a number from 0 to 1"),
    "aim": ("high", "pass one of amplitude, geometric"),
    "target_phase": (101.0, "pass a number from 0 to 100"),
    "colour": (100.5, "pass a number from 0 to 100"),
    "colour_most_db": (-1.0, "pass a number from 0 to 40"),
    "harmony": (101.0, "pass a number from 0 to 100"),
    "attacks": (-1, "pass a number from 0 to 100"),
    "edges": (-0.5, "pass a number from 0 to 100"),
    "channels": ("left", "pass one of source, apart, mono"),
    "ear_weighting": (0, "pass True or False"),
    "loudness": (1.0, "pass a number from -70 to 0"),
    "level_db": (25.0, "pass a number from -100 to 24"),
    "level_follow": (-1, "pass a number from 0 to 100"),
    "transpose": ("up", "pass one of auto, off, follow, chords, or a range of semitones"),
    "keep_formants": (1, "pass True or False"),
    "tape": (0, "pass True or False"),
    "tune_cents": (1201.0, "pass a number from -1200 to 1200"),
    "purity": (101, "pass a number from 0 to 100"),
    "voices": (0, "pass a whole number of at least 1"),
}


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_every_setting_is_checked_by_name(name):
    value, allowed = BAD[name]
    with pytest.raises((ValueError, TypeError), match=f"^{name} is .*; {allowed}"):
        replace(PRESETS["balanced"], **{name: value})
    # No setting may be a list, and only a few may be None.
    with pytest.raises((ValueError, TypeError), match=f"^{name} is "):
        replace(PRESETS["balanced"], **{name: []})
    if name not in ("layers", "sr", "choose"):
        with pytest.raises((ValueError, TypeError), match=f"^{name} is None; pass "):
            replace(PRESETS["balanced"], **{name: None})
