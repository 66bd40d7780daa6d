"""The presets: settings with a name."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from smalti._checks import check_choice
from smalti.curves import as_varying
from smalti.settings import VARYING, Settings

_HOP_S = Settings().hop_s

# What the presets beyond the papers share: sources without clicks or hiss, a fit by several windows, whole grains with
# refined and smooth gains, Griffin-Lim, and levels drawn towards the target's.
_BEYOND: dict[str, Any] = {
    "fade_s": 0.003,
    "quietest_db": 50.0,
    "start_spread": 0.5,
    "iterations": 30,
    "rank": "contribution",
    "compare": "views",
    "choose": "grains",
    "candidates": 4,
    "masking_db": 6.0,
    "refine": 3,
    "smooth_gains_s": _HOP_S,
    "phase": "griffin-lim",
    "phase_iterations": 30,
    "colour": 25.0,
    "attacks": 90.0,
}

# Where `melodic` has nothing to bring in tune it is to sound as `balanced`, so the one is made of the other.
_BALANCED = Settings(
    summary="both at once: two layers of whole grains that follow the target's melody, loudness and attacks",
    **_BEYOND,
    window_s=3072 / 22050,
    layers=2,
    no_repeat_s=6 * _HOP_S,
    grain_length_s=11 * _HOP_S,
)


PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "classic": Settings(
            summary="Let it Bee as published: ten layers, grains of consecutive source frames, the source's own sound",
            remove_offset=False,
            loudness="as-is",
            layers=10,
            no_repeat_s=3 * _HOP_S,
            grain_length_s=7 * _HOP_S,
        ),
        "balanced": _BALANCED,
        "melodic": replace(
            _BALANCED,
            summary="in tune: grains of a steadily pitched source are shifted to the target's melody or chords",
            transpose="auto",
            purity=50.0,
        ),
        "faithful": Settings(
            summary="nearest to the target: up to ten layers, frame by frame",
            **(
                _BEYOND
                | {
                    "choose": "frames",
                    "smooth_gains_s": 0.0,
                    "refine": 20,
                    "phase_iterations": 20,
                    "colour": 30.0,
                    "attacks": 100.0,
                }
            ),
            layers=10,
            no_repeat_s=7 * _HOP_S,
            grain_length_s=3 * _HOP_S,
            restrict_every=5,
            aim="geometric",
        ),
        "source-like": Settings(
            summary="nearest to the source: long whole grains in a longer window, their colour hardly touched",
            **(_BEYOND | {"colour": 10.0, "attacks": 70.0}),
            window_s=4096 / 22050,
            layers=2,
            no_repeat_s=7 * _HOP_S,
            grain_length_s=13 * _HOP_S,
            shortest_grain_s=8 * _HOP_S,
        ),
        "percussive": Settings(
            summary="for drums: a short window that keeps attacks sharp",
            **(_BEYOND | {"attacks": 100.0}),
            window_s=1024 / 22050,
            hop_s=256 / 22050,
            layers=4,
            no_repeat_s=7 * _HOP_S,
            grain_length_s=13 * _HOP_S / 2,
        ),
        "notebook": Settings(
            summary="the teaching notebook: Euclidean updates without rules, the target's phase, at 22 050 Hz",
            sr=22050,
            iterations=100,
            beta=2.0,
            eps=0.01,
            remove_offset=False,
            unit_norm=True,
            phase="target",
            loudness="as-is",
        ),
        "sparse": Settings(
            summary="sparse coding: the one best source frame at each moment, the target's phase",
            method="pursuit",
            remove_offset=False,
            unit_norm=True,
            layers=1,
            phase="target",
            loudness="as-is",
        ),
    }
)


DEFAULT_PRESET = "balanced"

# What only the multiplicative updates listen to.
_UPDATES_ONLY = (
    "iterations", "beta", "eps", "start_spread", "no_repeat_s", "grain_length_s", "restrict_every", "rank", "choose",
    "candidates", "drift", "shortest_grain_s", "masking_db", "smooth_gains_s", "refine", "transpose",
    "keep_formants", "tape", "tune_cents", "purity", "voices",
)  # fmt: skip


def configure(preset: str | Settings = DEFAULT_PRESET, **knobs: Any) -> Settings:
    """A preset with some knobs turned; a knob that is None stays as the preset has it.

    What may be a curve may be given in any form that `smalti.curves.as_varying` knows.

    Raises
    ------
    ValueError : for an unknown preset, a value out of range, or a knob that the preset's method does not have.
    TypeError : for an unknown knob, or a preset that is neither name nor `Settings`.
    """
    if isinstance(preset, str):
        check_choice("preset", preset, tuple(PRESETS))
        settings, name = PRESETS[preset], preset
    elif not isinstance(preset, Settings):
        raise TypeError(f"preset is {preset!r}; pass Settings or one of {', '.join(PRESETS)}")
    else:
        settings, name = preset, "given"
    turned = {knob: value for knob, value in knobs.items() if value is not None}
    if settings.method == "pursuit":
        for knob in _UPDATES_ONLY:
            if knob in turned:
                raise ValueError(
                    f"{knob} means nothing to the preset {name}: it has only layers and phase; leave it out"
                )
    return replace(settings, **{knob: _varied(knob, value) for knob, value in turned.items()})


def _varied(knob: str, value: Any) -> Any:
    """A value with what may be a curve read as one; the ways of transposing are words."""
    if knob not in VARYING or (knob == "transpose" and isinstance(value, str) and ":" not in value):
        return value
    return as_varying(knob, value)
