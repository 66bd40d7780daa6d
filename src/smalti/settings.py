"""Everything that shapes a mosaic, and the presets: settings with a name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from smalti._checks import Floats, check_choice, check_count, check_rate, check_real
from smalti.curves import Curve, on_frames
from smalti.dsp.phase import AIMS, PHASES
from smalti.dsp.pitch import MOST_RATIO
from smalti.nmf.let_it_bee import RANKS, LetItBee, PerFrame

METHODS = ("updates", "pursuit")


CHOICES = ("grains", "frames")


COMPARISONS = ("bins", "bands", "views")


WAYS = ("auto", "off", "follow", "chords")
# Semitones.
MOST_SHIFT = 12 * math.log2(MOST_RATIO)


CHANNELS = ("source", "apart", "mono")


LOUDNESSES = ("target", "as-is")


SEARCHES = ("auto", "always", "never")
# What may be a curve, and the least and most it may be. A voice 24 dB up is turned down again to keep peaks safe.
VARYING: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "layers": (1, math.inf),
        "grain_length_s": (0, math.inf),
        "drift": (0, 100),
        "level_db": (-100, 24),
        "transpose": (-MOST_SHIFT, MOST_SHIFT),
    }
)
# A grain with all the drift there is goes on for so long.
MOST_DRIFT_S = 2.0


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a mosaic, in musicians' words and seconds, so that it means the same at any sample rate.

    `layers`, `grain_length_s`, `drift`, `level_db` and `transpose` may each be a `Curve` over the target's time.

    Attributes
    ----------
    summary : one sentence for lists.
    method : "updates" (multiplicative) or "pursuit" (orthogonal matching pursuit).
    window_s, hop_s : the grid.
    sr : working sample rate in Hz, or None for the target's own. Files are resampled to it; arrays never are.
    iterations : of the updates; pursuit has none.
    beta : 2 Euclidean, 1 Kullback-Leibler, 0 Itakura-Saito, or between.
    eps : constant in numerator and denominator of each update.
    remove_offset : take a source's offset (a fault of the recording), and with it all below 20 Hz, out first, where it
        is a twentieth of its deviation or more: no ear hears it, but as a grain it thumps.
    fade_s : fade each source recording in and out over so long, so that a grain from its edge does not click.
    quietest_db : source frames so far under the loudest of their recording never sound; 0 for no such rule. Of what is
        next to silence a fit makes a loud hiss, since it takes any gain that helps.
    start_spread : 0 to 1. Updates start from random activations between 1 - start_spread and 1: 1 is the paper, less
        begins with more of the source in play, and 0 with all of it alike, whatever the seed.
    unit_norm : compare source frames at equal loudness rather than as recorded (pursuit always does).
    layers : source frames kept at each moment, or None for no limit. Grains that reach in from the moments around it
        (`grain_length_s`) come on top. A curve counts to the nearest whole number.
    no_repeat_s : a source frame stands out at most once within so many seconds before and after; 0 for no such rule.
    grain_length_s : length of the runs of consecutive source frames that are favoured; 0 for no such rule.
    drift : 0 to 100 per cent, with "grains" only. At 0 a grain gives way as soon as another fits better; the more there
        is, the longer it goes on as its own recording does, up to 2 s.
    restrict_every : apply the three rules in every n-th iteration only.
    rank : what `layers` compares; see `LetItBee`.
    compare : what target and source are compared in. "bins" of the grid (the paper), auditory "bands" (see
        `smalti.dsp.bands`), or "views": bands of a long, a middle and short windows at once (see
        `smalti.grains.descriptors`).
    choose : None leaves the activations as the updates end. "grains" keeps whole stretches of source, `layers` of them
        at once, and "frames" the `layers` strongest source frames of each moment; then the gains alone are refined.
    candidates : with "grains", how many source frames compete at each moment while the stretches form.
    search : "always" looks up which source frames to consider at each moment, "never" considers all, and "auto" looks
        them up where there are more than 5000. Only what compares "views" with beta 1 can be looked up.
    shortlist : where that is looked up, how many stretches of source are considered at each moment for what the target
        is, and as many for what is missing then.
    shortest_grain_s : with "grains", shorter stretches sound only where nothing else would.
    masking_db : with "grains", a source frame so far under the loudest of its moment is part of no stretch.
    smooth_gains_s : with "grains", gains are averaged along each stretch over so long to either side, so that
        overlapping windows agree on them.
    refine : iterations of that last refinement. With "grains", beta 1 or 2 and no eps, each is a step of Newton's
        method, and three are as good as any number; otherwise they are updates, and 20 a good number.
    nonnegative : pursuit with gains >= 0.
    phase : "source", "target" or "griffin-lim"; see `synthesize`.
    phase_iterations, momentum : of Griffin-Lim.
    aim : the magnitudes it aims at, "amplitude" or "geometric"; see `synthesize`.
    target_phase : 0 to 100 per cent, how far the mosaic's phase is turned towards the target's; the target itself leaks
        with it. Phase "target" is all the way there already.
    channels : "source" has the channels of the widest source recording, all at the same gains; "apart" has the
        target's, each solved for itself; "mono" has one. See `channel_jobs`.
    colour : 0 to 100 per cent, how far the mosaic's tone colour is drawn towards the target's; see
        `smalti.dsp.shaping.colour`.
    attacks : 0 to 100 per cent, how far its attacks are made as sharp as the target's; see
        `smalti.dsp.shaping.attack_shape`. Where a melody or chords are followed, 55 % of that.
    ear_weighting : compare spectra as loud as the ear hears them (A-weighting), in the solver only.
    loudness : "target" gives the mosaic the target's integrated loudness, a number is one in LUFS, and "as-is" leaves
        the level that the gains come to. Peaks have the last word: see `smalti.dsp.dynamics.match_loudness`.
    level_db : dB on top of that level, -100 to 24, before peaks have the last word.
    level_follow : 0 to 100 per cent, how far the mosaic's slow loudness contour is drawn towards the target's; see
        `smalti.dsp.dynamics.follow_contour`.
    transpose : how the source comes to the target's pitches, with "grains" only. "off": not at all; "follow": every
        grain is shifted to the target's melody, with its glides and vibrato; "chords": to the notes that sound in the
        target; (low, high): every semitone from low to high may be chosen; a curve: every grain is shifted by so many
        semitones, and glides with it; "auto": what suits the material, see `smalti.mosaicing.transpose.decide`.
    keep_formants : shift the partials under the source's own spectral envelope, rather than envelope and all.
    tape : shift as a tape does, faster and higher or slower and lower: the cleanest sound, but the timing inside a
        grain changes.
    tune_cents : how far above the target's pitch the mosaic is tuned.
    purity : 0 to 100 per cent, how far the noise between a followed melody's partials is turned down, and the partials
        up by as much; see `smalti.dsp.shaping.purity`.
    voices : how many notes sound at once where chords are played, one layer of grains each.
    """

    summary: str = ""
    method: str = "updates"
    window_s: float = 2048 / 22050
    hop_s: float = 512 / 22050
    sr: int | None = None
    iterations: int = 50
    beta: float = 1.0
    eps: float = 0.0
    remove_offset: bool = True
    fade_s: float = 0.0
    quietest_db: float = 0.0
    start_spread: float = 1.0
    unit_norm: bool = False
    layers: int | Curve | None = None
    no_repeat_s: float = 0.0
    grain_length_s: float | Curve = 0.0
    drift: float | Curve = 0.0
    restrict_every: int = 1
    rank: str = "h"
    compare: str = "bins"
    choose: str | None = None
    candidates: int = 10
    search: str = "auto"
    shortlist: int = 8
    shortest_grain_s: float = 0.0
    masking_db: float = 30.0
    smooth_gains_s: float = 0.0
    refine: int = 0
    nonnegative: bool = True
    phase: str = "source"
    phase_iterations: int = 30
    momentum: float = 0.99
    aim: str = "amplitude"
    target_phase: float = 0.0
    colour: float = 0.0
    attacks: float = 0.0
    channels: str = "source"
    ear_weighting: bool = False
    loudness: str | float = "target"
    level_db: float | Curve = 0.0
    level_follow: float = 0.0
    transpose: str | tuple[float, float] | Curve = "off"
    keep_formants: bool = True
    tape: bool = False
    tune_cents: float = 0.0
    purity: float = 0.0
    voices: int = 8

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("rank", self.rank, RANKS)
        check_choice("phase", self.phase, PHASES)
        check_choice("aim", self.aim, AIMS)
        check_choice("compare", self.compare, COMPARISONS)
        check_choice("channels", self.channels, CHANNELS)
        check_choice("search", self.search, SEARCHES)
        if not isinstance(self.summary, str):
            raise TypeError(f"summary is {self.summary!r}; pass a sentence")
        for name in ("remove_offset", "unit_norm", "nonnegative", "ear_weighting", "keep_formants", "tape"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}; pass True or False")
        if not isinstance(self.loudness, str):
            check_real("loudness", self.loudness, least=-70, most=0)
        elif self.loudness not in LOUDNESSES:
            raise ValueError(
                f"loudness is {self.loudness!r}; pass one of {', '.join(LOUDNESSES)} or a number of LUFS from -70 to 0"
            )
        for name in ("target_phase", "level_follow", "colour", "attacks", "purity"):
            check_real(name, getattr(self, name), least=0, most=100)
        if self.choose is not None:
            check_choice("choose", self.choose, CHOICES)
            if self.layers is None:
                raise ValueError(f"choose is {self.choose!r} but layers is None; pass how many layers to choose")
        self._check_varying()
        self._check_transposition()
        check_count("candidates", self.candidates, least=1)
        check_count("shortlist", self.shortlist, least=1)
        check_count("refine", self.refine, least=0)
        for name in ("iterations", "restrict_every"):
            check_count(name, getattr(self, name), least=1)
        if self.sr is not None:
            check_rate("sr", self.sr)
        check_count("phase_iterations", self.phase_iterations, least=0)
        check_real("window_s", self.window_s, least=0.001, most=2)
        check_real("hop_s", self.hop_s, least=0.0001, most=1)
        if self.hop_s > self.window_s / 2:
            raise ValueError(
                f"hop_s is {self.hop_s:g}, more than half of window_s, {self.window_s:g}; it cannot be inverted: "
                f"pass at most {self.window_s / 2:g}"
            )
        check_real("beta", self.beta, least=0, most=2)
        check_real("momentum", self.momentum, least=0, most=1)
        check_real("start_spread", self.start_spread, least=0, most=1)
        check_real("masking_db", self.masking_db, least=0)
        for name in (
            "eps",
            "no_repeat_s",
            "shortest_grain_s",
            "smooth_gains_s",
            "fade_s",
            "quietest_db",
        ):
            check_real(name, getattr(self, name), least=0)

    def _check_varying(self) -> None:
        for name, (least, most) in VARYING.items():
            value = getattr(self, name)
            if isinstance(value, Curve):
                for end in (value.least, value.most):
                    check_real(
                        f"{name} at its {'least' if end == value.least else 'most'}", end, least=least, most=most
                    )
            elif name == "layers" and value is not None:
                check_count(name, value, least=1)
            elif name not in ("layers", "transpose"):
                check_real(name, value, least=least, most=most)
        if self.method == "pursuit" and isinstance(self.layers, Curve):
            raise ValueError(f"layers is the curve {self.layers} but pursuit takes one number all along; pass a number")
        if self.drift != 0 and self.choose != "grains":
            raise ValueError(
                f"drift is {self.drift} but only whole grains can go on, and choose is {self.choose!r}; pass 0, or "
                "take the preset balanced or source-like"
            )

    def _check_transposition(self) -> None:
        check_real("tune_cents", self.tune_cents, least=-1200, most=1200)
        check_count("voices", self.voices, least=1)
        allowed = f"one of {', '.join(WAYS)}, or a range of semitones, (low, high), or a Curve of them"
        if isinstance(self.transpose, str):
            if self.transpose not in WAYS:
                raise ValueError(f"transpose is {self.transpose!r}; pass {allowed}")
        else:
            if isinstance(self.transpose, Curve):
                low, high = self.transpose.least, self.transpose.most
            elif not isinstance(self.transpose, tuple) or len(self.transpose) != 2:
                raise TypeError(f"transpose is {self.transpose!r}; pass {allowed}")
            else:
                low, high = (
                    check_real(f"the {end} end of transpose", value, least=-MOST_SHIFT, most=MOST_SHIFT)
                    for end, value in zip(("lower", "upper"), self.transpose, strict=True)
                )
            tuned = self.tune_cents / 100
            if low + tuned < -MOST_SHIFT or high + tuned > MOST_SHIFT:
                raise ValueError(
                    f"transpose goes from {low:g} to {high:g} semitones and tune_cents is {self.tune_cents:g}, "
                    f"together beyond {MOST_SHIFT:g} semitones; pass less of one of them"
                )
            if low > high:
                raise ValueError(f"transpose goes from {low:g} to {high:g} semitones; pass the lower end first")
        if self.transpose != "off" and (self.choose != "grains" or self.beta != 1 or self.unit_norm):
            given = self.transpose if isinstance(self.transpose, Curve) else repr(self.transpose)
            raise ValueError(
                f"transpose is {given} but only whole grains can be shifted: it needs choose 'grains', "
                "beta 1 and unit_norm False; take the preset melodic"
            )

    @property
    def searchable(self) -> bool:
        """Whether what a solver so set compares is what a corpus has of its frames."""
        return not self.unsearchable

    @property
    def unsearchable(self) -> str:
        """The first setting by which a corpus cannot be searched, such as "beta is 2"; "" if it can be."""
        wanted = {
            "search": ("auto", "always"),
            "method": ("updates",),
            "compare": ("views",),
            "beta": (1,),
            "eps": (0,),
            "unit_norm": (False,),
            "ear_weighting": (False,),
            "channels": ("source", "mono"),
            "transpose": ("off",),
        }
        for name, values in wanted.items():
            if getattr(self, name) not in values:
                return f"{name} is {getattr(self, name)}"
        return ""

    @property
    def leaks(self) -> bool:
        """Whether the target's phase is asked for, and with it a measure of how much of the target comes along."""
        return self.phase == "target" or self.target_phase > 0

    def constraints(self, hop_s: float, n_frames: int = 1) -> LetItBee | None:
        """The paper's restrictions on a grid of `hop_s` seconds; None where no rule is on.

        `n_frames` are those of the target, which only curves ask for.
        """
        layers = self.layers_in(n_frames, hop_s)
        if self.choose == "grains" and layers:
            # Whole grains are thinned out to `layers` when all stand; until then more may compete.
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
        """`layers` where it is one number all along, as pursuit wants it."""
        return None if isinstance(self.layers, Curve) else self.layers

    def layers_in(self, n_frames: int, hop_s: float) -> PerFrame | None:
        """`layers` in the frames of a target."""
        return self.layers if self.layers is None else _per_frame(np.round(on_frames(self.layers, n_frames, hop_s)))


def _per_frame(values: Floats) -> PerFrame:
    """Whole numbers (N,) as a tuple, or as one number if they are all the same, as without a curve."""
    # As many as any machine has frames.
    whole = tuple(np.minimum(values, 2**31 - 1).astype(np.int64).ravel().tolist())
    return whole[0] if len(set(whole)) == 1 else whole


def settings_from(told: Mapping[str, Any]) -> Settings:
    """The settings of which `dataclasses.asdict` made this, if need be by way of JSON, as they stand in a report.

    Settings that are left out have their defaults.

    Raises
    ------
    ValueError, TypeError : for names that are no settings, and for values out of range or of a wrong kind.
    """
    known = [field.name for field in fields(Settings)]
    if strangers := [name for name in told if name not in known]:
        raise ValueError(f"{', '.join(map(repr, strangers))} is no setting; pass names among {', '.join(known)}")
    return Settings(**{name: _revived(name, value) for name, value in told.items()})


def _revived(name: str, value: Any) -> Any:
    """A value as it was before JSON, which knows neither tuples nor curves."""
    if name in VARYING and isinstance(value, Mapping):
        if sorted(value) != ["times_s", "values"]:
            raise ValueError(f"{name} has {', '.join(map(repr, value))}; a curve has 'times_s' and 'values'")
        return Curve(**value)
    return tuple(value) if isinstance(value, list) else value
