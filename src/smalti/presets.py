"""The presets: settings with a name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypedDict, Unpack

from smalti._checks import ParameterError, ParameterTypeError, check_choice
from smalti.curves import Curve, as_varying
from smalti.settings import HOP_S, KNOBS, Settings

# The fade at the edges of recordings, in seconds.
EDGE_FADE_S = 0.003

# The presets that go beyond the papers share these: sources without clicks or hiss, a fit by several windows, whole
# grains with refined and smooth gains, Griffin-Lim, and tone colour and attacks drawn towards the target's.
_BEYOND: dict[str, Any] = {
    "fade_s": EDGE_FADE_S,
    "quietest_db": 50.0,
    "start_spread": 0.5,
    "iterations": 30,
    "rank": "contribution",
    "compare": "views",
    "choose": "grains",
    "candidates": 4,
    "masking_db": 6.0,
    "refine": 3,
    "smooth_gains_s": HOP_S,
    "phase": "griffin-lim",
    "phase_iterations": 30,
    "colour": 25.0,
    "attacks": 90.0,
}

# `melodic` derives from this preset, so that both sound alike where nothing can be brought in tune.
_BALANCED = Settings(
    summary="both at once: two layers of whole grains that follow the target's melody, loudness and attacks",
    **_BEYOND,
    window_s=3072 / 22050,
    layers=2,
    no_repeat_s=6 * HOP_S,
    grain_length_s=11 * HOP_S,
)
PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "classic": Settings(
            summary="Let it Bee as published: ten layers, grains of consecutive source frames, the source's own sound",
            remove_offset=False,
            loudness="as-is",
            layers=10,
            no_repeat_s=3 * HOP_S,
            grain_length_s=7 * HOP_S,
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
            no_repeat_s=7 * HOP_S,
            grain_length_s=3 * HOP_S,
            restrict_every=5,
            aim="geometric",
        ),
        "source-like": Settings(
            summary="nearest to the source: long whole grains in a longer window, their colour hardly touched",
            **(_BEYOND | {"colour": 10.0, "attacks": 70.0}),
            window_s=4096 / 22050,
            layers=2,
            no_repeat_s=7 * HOP_S,
            grain_length_s=13 * HOP_S,
            shortest_grain_s=8 * HOP_S,
        ),
        "percussive": Settings(
            summary="for drums: a short window that keeps attacks sharp",
            **(_BEYOND | {"attacks": 100.0}),
            window_s=1024 / 22050,
            hop_s=256 / 22050,
            layers=4,
            no_repeat_s=7 * HOP_S,
            grain_length_s=13 * HOP_S / 2,
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
# The forms of a curve; `smalti.curves.as_varying` reads them.
Varying = Curve | str | Sequence[tuple[float, float]]


class Knobs(TypedDict, total=False):
    """The settings that `smalti.mosaic` takes by name; None keeps the preset's value. See `Settings`."""

    method: str | None
    window_s: float | None
    hop_s: float | None
    iterations: int | None
    beta: float | None
    eps: float | None
    remove_offset: bool | None
    fade_s: float | None
    quietest_db: float | None
    start_spread: float | None
    unit_norm: bool | None
    layers: int | Varying | None
    no_repeat_s: float | None
    grain_length_s: float | Varying | None
    drift: float | Varying | None
    restrict_every: int | None
    rank: str | None
    compare: str | None
    choose: str | None
    candidates: int | None
    search: str | None
    shortlist: int | None
    shortest_grain_s: float | None
    masking_db: float | None
    smooth_gains_s: float | None
    refine: int | None
    nonnegative: bool | None
    phase: str | None
    phase_iterations: int | None
    momentum: float | None
    aim: str | None
    target_phase: float | None
    colour: float | None
    colour_most_db: float | None
    harmony: float | None
    attacks: float | None
    edges: float | None
    channels: str | None
    ear_weighting: bool | None
    loudness: str | float | None
    level_db: float | Varying | None
    level_follow: float | None
    transpose: str | tuple[float, float] | Varying | None
    keep_formants: bool | None
    tape: bool | None
    tune_cents: float | None
    purity: float | None
    voices: int | None


class FileKnobs(Knobs, total=False):
    """`Knobs`, and the sample rate in Hz that files are resampled to; arrays are never resampled."""

    sr: int | None


def configure(preset: str | Settings = DEFAULT_PRESET, **knobs: Unpack[FileKnobs]) -> Settings:
    """A preset with some settings changed; a knob that is None keeps the preset's value.

    A setting that may be a curve takes any form that `smalti.curves.as_varying` reads.

    Raises
    ------
    ValueError : for an unknown preset, a value out of range, or a setting without effect: the preset's method does
        not use it, or the setting that it needs is off.
    TypeError : for an unknown setting, a value of a wrong type, or a preset that is neither a name nor `Settings`.
    """
    if isinstance(preset, str):
        check_choice("preset", preset, tuple(PRESETS))
        settings, name = PRESETS[preset], preset
    elif not isinstance(preset, Settings):
        raise ParameterTypeError("preset", f"is {preset!r}", f"pass Settings or one of {', '.join(PRESETS)}")
    else:
        settings, name = preset, "given"
    if unknown := [knob for knob in knobs if knob not in KNOBS]:
        raise TypeError(f"{', '.join(map(repr, unknown))} is no setting; pass names among {', '.join(KNOBS)}")
    changed = {knob: value for knob, value in knobs.items() if value is not None}
    for knob in changed:
        if settings.method not in KNOBS[knob].methods:
            fault = f"means nothing to the preset {name}, whose method, {settings.method}, does not use it"
            raise ParameterError(knob, fault, "leave it out")
    configured = replace(settings, **{knob: _with_curve(knob, value) for knob, value in changed.items()})
    for knob in changed:
        needed, is_changed = KNOBS[knob].needs, getattr(configured, knob) != getattr(settings, knob)
        if is_changed and needed and getattr(configured, needed) == "off":
            fault, remedy = f"means nothing while {{{needed}}} is off", f"add {{{needed}}} auto, or another way"
            raise ParameterError(knob, fault, remedy, also=(needed,))
    return configured


def _with_curve(knob: str, value: Any) -> Any:
    """The value, read by `as_varying` if the setting may be a curve, except for the words that transpose takes."""
    if not KNOBS[knob].varies or (knob == "transpose" and isinstance(value, str) and ":" not in value):
        return value
    return as_varying(knob, value)


def settings_from(values: Mapping[str, Any]) -> Settings:
    """The settings that `dataclasses.asdict` made into `values`, also after a round trip through JSON, as in a report.

    Settings that are left out have their defaults.

    Raises
    ------
    ValueError, TypeError : for names that are no settings, and for values out of range or of a wrong type.
    """
    if strangers := [name for name in values if name not in KNOBS]:
        raise ValueError(f"{', '.join(map(repr, strangers))} is no setting; pass names among {', '.join(KNOBS)}")
    return Settings(**{name: _revived(name, value) for name, value in values.items()})


def _revived(name: str, value: Any) -> Any:
    """Turn lists back into tuples, and the mappings of curves into curves: JSON knows neither."""
    if KNOBS[name].varies and isinstance(value, Mapping):
        if sorted(value) != ["times_s", "values"]:
            raise ParameterError(name, f"has {', '.join(map(repr, value))}", "a curve has 'times_s' and 'values'")
        return as_varying(name, value)
    return tuple(value) if isinstance(value, list) else value
