"""The rounds of a blind comparison: equally loud and long stretches of mosaics, in an order that gives nothing away.

`fit_all` brings target, sources and mosaics to one form, and `draw_rounds` cuts, levels and shuffles them. The rate of
all sounds is the same; nothing is resampled here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from smalti._checks import Floats, ParameterError, check_count, check_rate, check_real
from smalti.dsp.channels import as_channels, n_channels, stack_channels, to_mono
from smalti.dsp.dynamics import CEILING_DB, MARGIN_DB, amplified, match_loudness
from smalti.dsp.loudness import integrated_loudness, true_peak

# One letter for each mosaic of a round. Nobody keeps more than these apart, and S and T are other keys of the page.
LETTERS = "ABCDEFGH"
MOST_QUESTIONS = 100
# Chance gives eight equal answers about two mosaics in one test of 128, and seven or more in one of fourteen.
DEFAULT_ROUNDS, DEFAULT_LENGTH_S = 8, 8.0
SHORTEST_ROUND_S = 0.5
# The loudness of all sounds in LUFS, and the least to which high peaks may lower it. Below that, peaks are limited.
LOUDNESS, LEAST_LOUDNESS = -20.0, -36.0
# An excerpt this much quieter than its recording counts as silent: made as loud as the others, it would only hiss.
SILENT_EXCERPT_DB = 50.0
# Cuts inside a recording are faded over this time so that they do not click.
CUT_FADE_S = 0.01
# The number of places tried for the beginning of an excerpt, in each part of the target.
_PLACES = 64


@dataclass(frozen=True, eq=False)
class Round:
    """One round: a stretch of the target, and the sounds to compare with it.

    Attributes
    ----------
    start_s, end_s : the stretch, in seconds of the target.
    order : for each letter, from A on, the index of its mosaic.
    sounds : (L,) or (C, L) float32 arrays of one shape, by name: target, source, a, b, ...
    """

    start_s: float
    end_s: float
    order: tuple[int, ...]
    sounds: Mapping[str, Floats]


class FittedSounds(NamedTuple):
    """Sounds of one number of channels, one or two.

    Attributes
    ----------
    target : (L,) or (2, L). source : (M,) or (2, M), all sources one after the other.
    mosaics : (L,) or (2, L) each.
    """

    target: Floats
    source: Floats
    mosaics: list[Floats]


def fit_all(target: Floats, sources: Sequence[Floats], mosaics: Sequence[Floats]) -> FittedSounds:
    """Give all sounds equally many channels, since a single mono sound would be recognised, and mosaics one length.

    Parameters
    ----------
    target, sources, mosaics : (L,) or (C, L) float32 arrays of any lengths and numbers of channels.
    """
    channels = min(2, max(map(n_channels, (target, *sources, *mosaics))))
    length = target.shape[-1]
    return FittedSounds(
        fitted(target, length, channels),
        np.concatenate([fitted(sound, sound.shape[-1], channels) for sound in sources], axis=-1),
        [fitted(sound, length, channels) for sound in mosaics],
    )


def fitted(sound: Floats, length: int, channels: int) -> Floats:
    """`sound` cut or padded with silence to `length` samples, in one channel or two.

    One channel is heard from both loudspeakers. More than two are mixed down to one first.
    """
    if n_channels(sound) > 2 or channels == 1:
        sound = to_mono(sound)
    sound = as_channels(sound)[:, :length]
    sound = np.pad(sound, ((0, 0), (0, length - sound.shape[1])))
    return stack_channels([sound[min(channel, len(sound) - 1)] for channel in range(channels)])


def draw_rounds(
    sounds: FittedSounds,
    sr: int,
    *,
    rounds: int = DEFAULT_ROUNDS,
    length_s: float = DEFAULT_LENGTH_S,
    rng: int | np.random.Generator = 0,
) -> list[Round]:
    """Cut, level and shuffle the sounds of all rounds.

    Parameters
    ----------
    sounds : see `fit_all`; at most eight mosaics. sr : their sample rate in Hz.
    rounds : how many, 1 to 100.
    length_s : seconds of each round's stretch, at least 0.5; a shorter target is heard in full each time.
    rng : the seed of the order, or a Generator.

    Returns
    -------
    The rounds. All their sounds have the same length and number of channels, and the same loudness except where a
    mosaic is silent.

    Raises
    ------
    ValueError, TypeError : if `rounds`, `length_s` or `sr` is out of range or no number, or a sound is silent.
    """
    sr = check_rate("sr", sr)
    if check_count("rounds", rounds, least=1) > MOST_QUESTIONS:
        raise ParameterError("rounds", f"is {rounds}", f"pass at most {MOST_QUESTIONS}")
    check_real("length_s", length_s, least=SHORTEST_ROUND_S)
    wholes = [sounds.target, sounds.source, *sounds.mosaics]
    levels = [integrated_loudness(sound, sr) for sound in wholes]
    if not all(map(math.isfinite, levels)):
        raise ParameterError("sounds", "hold one that is silent", "pass sounds that all sound while the target lasts")
    target, source, *mosaics = (amplified(sound, LOUDNESS - level) for sound, level in zip(wholes, levels, strict=True))

    length = min(target.shape[-1], round(length_s * sr))
    source = fitted(source, max(length, source.shape[-1]), n_channels(target))
    orders = draw_orders(len(mosaics), rounds, rng=rng)
    starts, source_starts = stretches([target, *mosaics], length, rounds), stretches([source], length, rounds)
    clips = [
        {
            "target": _excerpt(target, start, length, sr),
            "source": _excerpt(source, source_start, length, sr),
            **{LETTERS[i].lower(): _excerpt(mosaics[mosaic], start, length, sr) for i, mosaic in enumerate(order)},
        }
        for start, source_start, order in zip(starts, source_starts, orders, strict=True)
    ]
    return [
        Round(start / sr, (start + length) / sr, order, clip)
        for start, order, clip in zip(starts, orders, levelled(clips, sr), strict=True)
    ]


def draw_orders(n_mosaics: int, rounds: int, *, rng: int | np.random.Generator = 0) -> list[tuple[int, ...]]:
    """For each round, the index of the mosaic behind each letter.

    Over all rounds, every mosaic has every letter equally often, or once more. The rounds are shuffled, so one round's
    order tells nothing certain about the next.
    """
    rng = np.random.default_rng(rng)
    orders = list[tuple[int, ...]]()
    while len(orders) < rounds:
        # A Latin square: each mosaic once under each letter.
        first = rng.permutation(n_mosaics)
        square = [tuple(int(mosaic) for mosaic in np.roll(first, shift)) for shift in range(n_mosaics)]
        orders += [square[row] for row in rng.permutation(n_mosaics)]
    orders = orders[:rounds]
    return [orders[i] for i in rng.permutation(rounds)]


def stretches(sounds: Sequence[Floats], length: int, n: int) -> list[int]:
    """The first samples of `n` stretches of `length` samples, spread over sounds of equal length.

    The possible beginnings are divided into `n` equal parts. In the middle half of each part, the stretch is
    taken that maximises the smallest share of a sound's energy in it, since stretches with a silent sound say little.
    """
    last = sounds[0].shape[-1] - length
    energies = [np.cumsum(np.square(as_channels(sound), dtype=np.float64).sum(axis=0)) for sound in sounds]
    starts = []
    for part in range(n):
        places = np.linspace(part + 0.25, part + 0.75, _PLACES) * last / n
        at = np.unique(np.rint(places).astype(np.int64))
        shares = [(energy[at + length - 1] - energy[at]) / (energy[-1] or 1.0) for energy in energies]
        starts.append(int(at[np.argmax(np.min(shares, axis=0))]))
    return starts


def _excerpt(sound: Floats, start: int, length: int, sr: int) -> Floats:
    """A stretch of a sound, faded where it is cut inside the sound."""
    clip: Floats = sound[..., start : start + length].copy()
    n = min(round(CUT_FADE_S * sr), length)
    rise = np.linspace(0, 1, n, endpoint=False, dtype=np.float32)
    if start > 0:
        clip[..., :n] *= rise
    if start + length < sound.shape[-1]:
        clip[..., length - n :] *= rise[::-1]
    return clip


def levelled(clips: Sequence[Mapping[str, Floats]], sr: int) -> list[dict[str, Floats]]:
    """Bring all clips of all rounds to one loudness, so that louder sounds have no advantage.

    It is low enough for gains alone to keep all true peaks below -1 dB of full scale. If it would fall below
    `LEAST_LOUDNESS`, peaks are limited instead. The clips come from recordings at `LOUDNESS`; nearly silent clips
    are not changed.
    """
    heights = [{name: _height(clip, sr) for name, clip in round_.items()} for round_ in clips]
    sounding = [
        height for round_ in heights for height in round_.values() if height.loudness > LOUDNESS - SILENT_EXCERPT_DB
    ]
    loudness = max(min([LOUDNESS, *(height.highest for height in sounding)]), LEAST_LOUDNESS)
    return [
        {name: _brought(clip, sr, round_heights[name], loudness) for name, clip in round_.items()}
        for round_, round_heights in zip(clips, heights, strict=True)
    ]


class _Height(NamedTuple):
    loudness: float
    highest: float  # the loudness to which a gain can bring it with all peaks below the ceiling


def _height(clip: Floats, sr: int) -> _Height:
    loudness, peak = integrated_loudness(clip, sr), true_peak(clip, sr)
    peak_db = 20 * math.log10(peak) if peak > 0 else -math.inf
    return _Height(loudness, loudness - peak_db + CEILING_DB - MARGIN_DB if peak > 0 else math.inf)


def _brought(clip: Floats, sr: int, height: _Height, loudness: float) -> Floats:
    if height.loudness <= LOUDNESS - SILENT_EXCERPT_DB:
        return clip
    if height.highest < loudness:
        return match_loudness(clip, sr, loudness).samples
    return amplified(clip, loudness - height.loudness)
