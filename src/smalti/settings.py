"""All settings of a mosaic in one list, each with its help, unit, range and option.

The checks of `Settings`, its documentation, the keywords of `smalti.mosaic`, the options of the command line and the
table of ``smalti presets`` all come from this list.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from smalti._checks import (
    LEAST_RATE,
    MOST_RATE,
    Floats,
    ParameterError,
    ParameterTypeError,
    check_real,
)
from smalti.curves import Curve, on_frames
from smalti.dsp.phase import AIMS, PHASES
from smalti.dsp.pitch import MOST_RATIO
from smalti.knobs import METHODS, Knob, Option, documented, knob_field, knob_of
from smalti.nmf.let_it_bee import RANKS, LetItBee, PerFrame

CHOICES = ("grains", "frames")
COMPARISONS = ("bins", "bands", "views")
WAYS = ("auto", "off", "follow", "chords")
# Nothing is transposed by more.
MOST_SEMITONES = 12 * math.log2(MOST_RATIO)
CHANNELS = ("source", "apart", "mono")
LOUDNESSES = ("target", "as-is")
SEARCHES = ("auto", "always", "never")
# The hop of the grid unless it is set, and that of every corpus.
HOP_S = 512 / 22050
# A grain goes on for this long at a drift of 100 %.
MOST_DRIFT_S = 2.0

# Headings of the options in the help.
GROUPS = GRAINS, SOUND, LEVEL, PITCH, SOLVER = "The grains", "The sound", "The level", "The pitch", "The solver"
# Facts of settings that only the multiplicative updates use.
_UPDATES: dict[str, Any] = {"methods": ("updates",)}
_TRANSPOSED: dict[str, Any] = {**_UPDATES, "needs": "transpose"}
_PERCENT: dict[str, Any] = {"kind": "real", "unit": "%", "least": 0, "most": 100}


@dataclass(frozen=True)
class Settings:
    """All settings of a mosaic, in musicians' words and in seconds, so that they mean the same at any sample rate."""

    summary: str = knob_field("", "one sentence, for lists of presets.", "own")
    method: str = knob_field(
        "updates", '"updates" (multiplicative) or "pursuit" (orthogonal matching pursuit).', "choice", choices=METHODS
    )
    window_s: float = knob_field(2048 / 22050, "the window of the grid.", "real", unit="s", least=0.001, most=2)
    hop_s: float = knob_field(HOP_S, "the hop of the grid.", "real", unit="s", least=0.0001, most=1)
    sr: int | None = knob_field(
        None,
        "working sample rate, or None for the target's own. Files are resampled to it; arrays never are.",
        "rate",
        unit="Hz",
        least=LEAST_RATE,
        most=MOST_RATE,
        optional=True,
        option=Option("sr", "Working sample rate; the target's own if left out.", "HZ", SOLVER),
    )
    iterations: int = knob_field(
        50,
        "rounds of the updates; pursuit has none.",
        "count",
        least=1,
        **_UPDATES,
        option=Option("iterations", "Rounds of refinement.", "N", SOLVER),
    )
    beta: float = knob_field(
        1.0,
        "the divergence that is lowered: 2 Euclidean, 1 Kullback-Leibler, 0 Itakura-Saito, or between.",
        "real",
        least=0,
        most=2,
        **_UPDATES,
        option=Option(
            "beta", "What counts as near: 2 favours the loud, 1 balances, 0 hears the quiet too.", "X", SOLVER
        ),
    )
    eps: float = knob_field(0.0, "constant in numerator and denominator of each update.", "real", least=0, **_UPDATES)
    remove_offset: bool = knob_field(
        True,
        "first remove a source's offset (a fault of the recording), and everything below 20 Hz with it, if the offset "
        "is at least a twentieth of the standard deviation: it is inaudible, but as a grain it thumps.",
        "flag",
    )
    fade_s: float = knob_field(
        0.0,
        "length of the fades at both ends of each source recording, so that a grain from its edge does not click.",
        "real",
        unit="s",
        least=0,
    )
    quietest_db: float = knob_field(
        0.0,
        "source frames this far below the loudest of their recording never sound; 0 for no such rule. Without it the "
        "fit may raise near-silence to a loud hiss.",
        "real",
        unit="dB",
        least=0,
    )
    start_spread: float = knob_field(
        1.0,
        "updates start from random activations between 1 - start_spread and 1. 1 is the paper's start, less keeps more "
        "of the source in play at first, and 0 starts all activations alike, whatever the seed.",
        "real",
        least=0,
        most=1,
        **_UPDATES,
    )
    unit_norm: bool = knob_field(
        False, "compare source frames at equal loudness rather than as recorded (pursuit always does).", "flag"
    )
    layers: int | Curve | None = knob_field(
        None,
        "source frames kept at each moment, or None for no limit. Grains that reach in from the moments around it "
        "(`grain_length_s`) come on top. A curve is rounded to whole numbers.",
        "count",
        least=1,
        varies=True,
        optional=True,
        option=Option(
            "layers",
            "Source moments sounding at once. Fewer: purer; more: closer. Options that take a CURVE may change over "
            "time: '0:2, 4:8' goes from 2 to 8 in the first 4 seconds.",
            "N|CURVE",
            GRAINS,
        ),
    )
    no_repeat_s: float = knob_field(
        0.0,
        "a source frame stands out at most once within this time before and after; 0 for no such rule.",
        "real",
        unit="s",
        least=0,
        **_UPDATES,
        option=Option(
            "no-repeat", "A source moment stays silent this long before it returns.", "MS", GRAINS, scale=0.001
        ),
    )
    grain_length_s: float | Curve = knob_field(
        0.0,
        "length of the runs of consecutive source frames that are favoured; 0 for no such rule.",
        "real",
        unit="s",
        least=0,
        varies=True,
        **_UPDATES,
        option=Option(
            "grain-length",
            "Length of source stretches kept whole. Longer: more of the source.",
            "MS|CURVE",
            GRAINS,
            scale=0.001,
        ),
    )
    drift: float | Curve = knob_field(
        0.0,
        'with "grains" only. At 0 a grain gives way as soon as another fits better; with more drift it goes on longer '
        "as its own recording does, up to 2 s.",
        **_PERCENT,
        varies=True,
        **_UPDATES,
        option=Option(
            "drift",
            "Let grains go on as their recordings do, up to 2 s, rather than give way to what fits better.",
            "PERCENT|CURVE",
            GRAINS,
        ),
    )
    restrict_every: int = knob_field(
        1, "apply the three rules of Let it Bee in every n-th iteration only.", "count", least=1, **_UPDATES
    )
    rank: str = knob_field("h", "what `layers` compares; see `LetItBee`.", "choice", choices=RANKS, **_UPDATES)
    compare: str = knob_field(
        "bins",
        'the form in which target and source are compared: "bins" of the grid (the paper), auditory "bands" '
        '(`smalti.dsp.bands`), or "views": bands of a long, a middle and short windows at once '
        "(`smalti.grains.descriptors`).",
        "choice",
        choices=COMPARISONS,
    )
    choose: str | None = knob_field(
        None,
        'None keeps the activations of the last update. "grains" keeps whole stretches of source, `layers` of them at '
        'once, and "frames" keeps the `layers` strongest source frames of each moment. Then the gains alone are '
        "refined.",
        "choice",
        choices=CHOICES,
        optional=True,
        **_UPDATES,
    )
    candidates: int = knob_field(
        10,
        'with "grains", how many source frames compete at each moment while the stretches form.',
        "count",
        least=1,
        **_UPDATES,
    )
    search: str = knob_field(
        "auto",
        '"always" looks up which source frames to consider at each moment, "never" considers all, and "auto" looks '
        'them up where there are more than 5000. Looking up needs compare "views" and beta 1.',
        "choice",
        choices=SEARCHES,
    )
    shortlist: int = knob_field(
        8,
        "with `search`, how many stretches of source are considered at each moment for the target itself, and as many "
        "again for what a first fit leaves missing.",
        "count",
        least=1,
    )
    shortest_grain_s: float = knob_field(
        0.0,
        'with "grains", shorter stretches sound only where nothing else would.',
        "real",
        unit="s",
        least=0,
        **_UPDATES,
    )
    masking_db: float = knob_field(
        30.0,
        'with "grains", a source frame this far below the loudest of its moment is part of no stretch.',
        "real",
        unit="dB",
        least=0,
        **_UPDATES,
    )
    smooth_gains_s: float = knob_field(
        0.0,
        'with "grains", gains are averaged along each stretch over this time to either side, so that overlapping '
        "windows agree on them.",
        "real",
        unit="s",
        least=0,
        **_UPDATES,
    )
    refine: int = knob_field(
        0,
        'iterations that refine the gains after `choose`. With "grains", beta 1 or 2 and no eps, each is a step of '
        "Newton's method, and more than three gain nothing; otherwise each is an update, and 20 is a good number.",
        "count",
        least=0,
        **_UPDATES,
    )
    nonnegative: bool = knob_field(True, "pursuit allows no gains below 0.", "flag")
    phase: str = knob_field(
        "source",
        '"source", "target" or "griffin-lim"; see `synthesize`.',
        "choice",
        choices=PHASES,
        option=Option(
            "phase",
            "source: grains as recorded. griffin-lim: smoother. target: blends the target in.",
            group=SOUND,
            offers=PHASES,
        ),
    )
    phase_iterations: int = knob_field(30, "iterations of Griffin-Lim.", "count", least=0)
    momentum: float = knob_field(0.99, "momentum of Griffin-Lim; see `synthesize`.", "real", least=0, most=1)
    aim: str = knob_field(
        "amplitude",
        'the magnitudes that Griffin-Lim aims at, "amplitude" or "geometric"; see `synthesize`.',
        "choice",
        choices=AIMS,
    )
    target_phase: float = knob_field(
        0.0,
        "how far the mosaic's phase is turned towards the target's, which lets the target itself leak through. Phase "
        '"target" is turned all the way already.',
        **_PERCENT,
        option=Option(
            "target-phase",
            "Turn phases towards the target's. More: smoother and closer, and more of the target itself leaks.",
            "PERCENT",
            SOUND,
        ),
    )
    colour: float = knob_field(
        0.0,
        "how far the mosaic's tone colour is drawn towards the target's; see `smalti.dsp.shaping.colour`.",
        **_PERCENT,
        option=Option(
            "colour",
            "Draw the tone colour towards the target's. More: clearer melody and words; 0: grains as they are.",
            "PERCENT",
            SOUND,
            aliases=("color",),
        ),
    )
    colour_most_db: float = knob_field(
        12.0,
        "no level is drawn further by `colour`. A small number spares sources that are far from the target.",
        "real",
        unit="dB",
        least=0,
        most=40,
    )
    harmony: float = knob_field(
        0.0,
        "how far the target's partials are brought out of the mosaic, where it has something there; see "
        "`smalti.dsp.shaping.fine_colour`.",
        **_PERCENT,
        option=Option(
            "harmony",
            "Bring the target's notes out of the grains. More: clearer melody and chords; 0: the source's own.",
            "PERCENT",
            SOUND,
        ),
    )
    attacks: float = knob_field(
        0.0,
        "how far the mosaic's attacks are made as sharp as the target's; see `smalti.dsp.shaping.attack_shape`. Where "
        "a melody or chords are followed, 55 % of this value applies.",
        **_PERCENT,
        option=Option("attacks", "Make attacks as sharp as the target's. 0: soft.", "PERCENT", SOUND),
    )
    edges: float = knob_field(
        0.0,
        "how far what sounds just before the target's attacks is taken away, to the millisecond; see "
        "`smalti.dsp.shaping.edge_gains`.",
        **_PERCENT,
    )
    channels: str = knob_field(
        "source",
        '"source" has the channels of the widest source recording, all at the same gains; "apart" has the target\'s, '
        'each solved on its own; "mono" has one. See `channel_jobs`.',
        "choice",
        choices=CHANNELS,
        option=Option(
            "channels",
            "source: the source's, its image kept. apart: the target's, each solved alone. mono: one.",
            group=SOUND,
            offers=CHANNELS,
        ),
    )
    ear_weighting: bool = knob_field(
        False,
        "compare spectra as loud as the ear hears them (A-weighting), in the solver only.",
        "flag",
        option=Option("ear-weighting", "Compare sounds as loud as the ear hears them.", group=SOLVER),
    )
    loudness: str | float = knob_field(
        "target",
        '"target" gives the mosaic the target\'s integrated loudness, a number sets it in LUFS, and "as-is" keeps the '
        "level that the gains come to. Peaks are then kept safe: see `smalti.dsp.dynamics.match_loudness`.",
        "own",
        unit="LUFS",
        option=Option(
            "loudness",
            "Level of the mosaic: the target's loudness, as it comes, or a number such as -16. Peaks stay safe.",
            "target|as-is|LUFS",
            LEVEL,
            offers=LOUDNESSES,
        ),
    )
    level_db: float | Curve = knob_field(
        0.0,
        "decibels on top of `loudness`, before peaks are kept safe.",
        "real",
        unit="dB",
        least=-100,
        # A voice 24 dB up is turned down again to keep peaks safe.
        most=24,
        varies=True,
        option=Option(
            "level", "Decibels on top of --loudness: '0:0, 8:-12' fades. Peaks stay safe.", "DB|CURVE", LEVEL
        ),
    )
    level_follow: float = knob_field(
        0.0,
        "how far the mosaic's slow loudness contour is drawn towards the target's; see "
        "`smalti.dsp.dynamics.follow_contour`.",
        **_PERCENT,
        option=Option(
            "level-follow", "Draw the slow rise and fall of loudness towards the target's.", "PERCENT", LEVEL
        ),
    )
    transpose: str | tuple[float, float] | Curve = knob_field(
        "off",
        'how the source is brought to the target\'s pitches, with "grains" only. "off": not at all; "follow": every '
        'grain is shifted to the target\'s melody, with its glides and vibrato; "chords": to the notes that sound in '
        "the target; (low, high): every semitone from low to high may be chosen; a curve: every grain is shifted by "
        'its semitones, and glides with it; "auto": by what suits the material, see '
        "`smalti.mosaicing.transpose.decide`.",
        "own",
        unit="semitones",
        least=-MOST_SEMITONES,
        most=MOST_SEMITONES,
        varies=True,
        **_UPDATES,
        option=Option(
            "transpose",
            "Bring the source to the target's pitches: its melody, its chords, or what suits. Or shift by semitones "
            "from LOW to HIGH, as fits; a lone number is that one shift, and '0:0, 4:12' glides.",
            "|".join((*WAYS, "LOW..HIGH", "CURVE")),
            PITCH,
            offers=WAYS,
        ),
    )
    keep_formants: bool = knob_field(
        True,
        "shift only the partials and keep the source's own spectral envelope, rather than shift both.",
        "flag",
        **_TRANSPOSED,
        option=Option(
            "keep-formants", "Shift partials only and keep the source's own colour, or shift both.", group=PITCH
        ),
    )
    tape: bool = knob_field(
        False,
        "shift as a tape does, faster and higher or slower and lower: the cleanest sound, but the timing inside a "
        "grain changes.",
        "flag",
        **_TRANSPOSED,
        option=Option("tape", "Shift as a tape does: higher is faster. Cleanest, but not in time.", group=PITCH),
    )
    tune_cents: float = knob_field(
        0.0,
        "how far above the target's pitch the mosaic is tuned.",
        "real",
        unit="cents",
        least=-1200,
        most=1200,
        **_TRANSPOSED,
        option=Option("tune", "Tune the mosaic this far above the target's pitch.", "CENTS", PITCH),
    )
    purity: float = knob_field(
        0.0,
        "how far the noise between a followed melody's partials is turned down, and the partials up by as much; see "
        "`smalti.dsp.shaping.purity`.",
        **_PERCENT,
        **_TRANSPOSED,
        option=Option(
            "purity",
            "Turn noise between a melody's partials down, and these up. More: clearer notes; 0: all its breath.",
            "PERCENT",
            PITCH,
        ),
    )
    voices: int = knob_field(
        8,
        "how many notes sound at once where chords are played, one layer of grains each.",
        "count",
        least=1,
        **_TRANSPOSED,
        option=Option("voices", "Notes that may sound at once where chords are played.", "N", PITCH),
    )

    def __post_init__(self) -> None:
        for name, knob in KNOBS.items():
            knob.check(name, getattr(self, name))
        if not isinstance(self.summary, str):
            raise ParameterTypeError("summary", f"is {self.summary!r}", "pass a sentence")
        self._check_loudness()
        self._check_grid()
        self._check_choice()
        self._check_transposition()

    def _check_loudness(self) -> None:
        if not isinstance(self.loudness, str):
            check_real("loudness", self.loudness, least=-70, most=0)
        elif self.loudness not in LOUDNESSES:
            allowed = f"pass one of {', '.join(LOUDNESSES)} or a number of LUFS from -70 to 0"
            raise ParameterError("loudness", f"is {self.loudness!r}", allowed)

    def _check_grid(self) -> None:
        if self.hop_s > self.window_s / 2:
            raise ParameterError(
                "hop_s",
                f"is {self.hop_s:g}, more than half of window_s, {self.window_s:g}, and cannot be inverted",
                f"pass at most {self.window_s / 2:g}",
            )

    def _check_choice(self) -> None:
        if self.choose is not None and self.layers is None:
            raise ParameterError(
                "choose", f"is {self.choose!r} but {{layers}} is None", "pass how many to choose", also=("layers",)
            )
        if self.method == "pursuit" and isinstance(self.layers, Curve):
            raise ParameterError(
                "layers", f"is the curve {self.layers} but pursuit takes one number all along", "pass a number"
            )
        if self.drift != 0 and self.choose != "grains":
            raise ParameterError(
                "drift",
                f"is {self.drift} but only whole grains can go on, and choose is {self.choose!r}",
                "pass 0, or take the preset balanced or source-like",
            )

    def _check_transposition(self) -> None:
        if isinstance(self.transpose, str):
            if self.transpose not in WAYS:
                raise ParameterError("transpose", f"is {self.transpose!r}", f"pass {_TRANSPOSITIONS}")
        else:
            self._check_semitones()
        if self.transpose == "off":
            return
        if self.eps:
            raise ParameterError(
                "eps", f"is {self.eps:g} but grains are transposed, whose gains are fitted without it", "pass eps 0"
            )
        if self.choose != "grains" or self.beta != 1 or self.unit_norm:
            raise ParameterError(
                "transpose",
                f"is {shown(self.transpose)} but only whole grains can be shifted: it needs choose 'grains', beta 1 "
                "and unit_norm False",
                "take the preset melodic",
            )

    def _check_semitones(self) -> None:
        """Check a range or a curve of semitones, on its own and together with `tune_cents`."""
        if isinstance(self.transpose, Curve):
            low, high = self.transpose.least, self.transpose.most
        elif not isinstance(self.transpose, tuple) or len(self.transpose) != 2:
            raise ParameterTypeError("transpose", f"is {self.transpose!r}", f"pass {_TRANSPOSITIONS}")
        else:
            low, high = (
                check_real("transpose", value, least=-MOST_SEMITONES, most=MOST_SEMITONES, before=f"the {end} end of ")
                for end, value in zip(("lower", "upper"), self.transpose, strict=True)
            )
        tuned = self.tune_cents / 100
        if low + tuned < -MOST_SEMITONES or high + tuned > MOST_SEMITONES:
            raise ParameterError(
                "transpose",
                f"goes from {low:g} to {high:g} semitones and {{tune_cents}} is {self.tune_cents:g}, together beyond "
                f"{MOST_SEMITONES:g} semitones",
                "pass less of one of them",
                also=("tune_cents",),
            )
        if low > high:
            raise ParameterError("transpose", f"goes from {low:g} to {high:g} semitones", "pass the lower end first")

    @property
    def leaks(self) -> bool:
        """True if the mosaic takes over phases of the target, so that its leak has to be measured."""
        return self.phase == "target" or self.target_phase > 0

    def constraints(self, hop_s: float, n_frames: int = 1) -> LetItBee | None:
        """The paper's restrictions on a grid of `hop_s` seconds; None if no rule is on.

        Only curves depend on `n_frames`, the number of frames of the target.
        """
        layers = self.layers_in(n_frames, hop_s)
        if self.choose == "grains" and layers:
            # Whole grains are thinned out to `layers` once all have formed; until then more may compete.
            layers = _per_frame(np.maximum(self.candidates, layers))
        # 2c + 1 diagonal neighbours span as many hops.
        reach = np.maximum(0, np.round((on_frames(self.grain_length_s, n_frames, hop_s) / hop_s - 1) / 2))
        rules = LetItBee(
            repetition=round(self.no_repeat_s / hop_s) or None,
            polyphony=layers,
            continuity=_per_frame(reach) or None,
            every=self.restrict_every,
            rank=self.rank,
        )
        return None if (rules.repetition, rules.polyphony, rules.continuity) == (None, None, None) else rules

    @property
    def constant_layers(self) -> int | None:
        """`layers`, which pursuit needs as one number; None if it is a curve or unlimited."""
        return None if isinstance(self.layers, Curve) else self.layers

    def layers_in(self, n_frames: int, hop_s: float) -> PerFrame | None:
        """`layers` for each of a target's `n_frames` frames, or one number if it never changes; None if unlimited."""
        return self.layers if self.layers is None else _per_frame(np.round(on_frames(self.layers, n_frames, hop_s)))


_TRANSPOSITIONS = f"one of {', '.join(WAYS)}, or a range of semitones, (low, high), or a Curve of them"
# The knob of every setting, by its name.
KNOBS: Mapping[str, Knob] = MappingProxyType({setting.name: knob_of(setting) for setting in fields(Settings)})
Settings.__doc__ = documented(Settings.__doc__ or "", KNOBS)


def shown(value: Any) -> str:
    """The text of a value in a message: curves and ranges as users write them, anything else as its repr."""
    if isinstance(value, tuple):
        return "..".join(f"{end:g}" for end in value)
    return str(value) if isinstance(value, Curve) else repr(value)


def _per_frame(values: Floats) -> PerFrame:
    """Turn whole numbers (N,) into a tuple, or into one number if all are equal, as without a curve."""
    # No machine holds more frames than this bound, and it fits every integer type.
    counts = tuple(np.minimum(values, 2**31 - 1).astype(np.int64).ravel().tolist())
    return counts[0] if len(set(counts)) == 1 else counts
