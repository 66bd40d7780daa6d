"""Scores edited: what is meant by a selection, and what may be done with it.

Every edit takes a score and makes another one, so that edits can be put in any order and rendered whenever they are
to be heard. What was not selected stays as it is, to the last bit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, check_count, check_real
from smalti.dsp.pitch import MOST_RATIO
from smalti.grains.filters import check_pattern, meets
from smalti.grains.shifted import Shift, n_ratios, ratio_step
from smalti.grains.source import Source
from smalti.score.score import Ints, Score

Bools = NDArray[np.bool_]

# Semitones of four octaves.
MOST_SEMITONES = 12 * math.log2(MOST_RATIO)
# By no more is a grain moved, in seconds.
LONGEST_S = 24 * 3600.0
# Sources that an error names.
_NAMED = 8


@dataclass(frozen=True)
class Selection:
    """Which grains are meant, or which parts of them: what all that is asked holds of. At their defaults, all.

    Attributes
    ----------
    sources : patterns as `smalti.grains.filters.Filters` has them, of which a grain's source meets one.
    between : (begin, end) in seconds of the mosaic, end excluded: the parts of grains that sound then.
    louder_than_db, quieter_than_db : dB of full scale, of a grain's level, with the gain of the score.
    longer_than_s, shorter_than_s : seconds, of a grain's duration.
    ids : of which a grain has one.

    Raises
    ------
    TypeError, ValueError : for what is no number or pattern, negative times, or spans and ranges that nothing is in.
    """

    sources: tuple[str, ...] = ()
    between: tuple[float, float] | None = None
    louder_than_db: float = -math.inf
    quieter_than_db: float = math.inf
    longer_than_s: float = 0.0
    shorter_than_s: float = math.inf
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.sources, str):
            raise TypeError(f"sources is the single text {self.sources!r}; pass a tuple of them")
        object.__setattr__(self, "sources", tuple(check_pattern("sources", pattern) for pattern in self.sources))
        object.__setattr__(self, "ids", tuple(check_count("an id", number, least=0) for number in self.ids))
        if self.between is not None:
            begin_s, end_s = (check_real("between", moment, least=0) for moment in self.between)
            if end_s <= begin_s:
                raise ValueError(f"between goes from {begin_s:g} s to {end_s:g} s; pass a begin before its end")
        for name, least, limit in (
            ("louder_than_db", -400, -math.inf),
            ("quieter_than_db", -400, math.inf),
            ("longer_than_s", 0, 0),
            ("shorter_than_s", 0, math.inf),
        ):
            value = getattr(self, name)
            if value != limit:
                check_real(name, value, least=least)
        for below, above in (("louder_than_db", "quieter_than_db"), ("longer_than_s", "shorter_than_s")):
            if getattr(self, above) <= getattr(self, below):
                raise ValueError(
                    f"nothing is both {_words(below)} {getattr(self, below):g} and {_words(above)} "
                    f"{getattr(self, above):g}; pass {above} above {below}"
                )


def _words(name: str) -> str:
    return name.rpartition("_")[0].replace("_", " ")


ALL = Selection()


def selected(score: Score, selection: Selection) -> Bools:
    """(E,) which entries of ``score.gains`` are meant.

    Raises
    ------
    ValueError : if no source meets one of the patterns, or no grain has one of the ids.
    """
    entries = _meant(score, selection)[score.owners]
    if selection.between is not None:
        begin_s, end_s = selection.between
        at_s = score.at * score.params.hop / score.sr
        entries &= (begin_s <= at_s) & (at_s < end_s)
    return entries


def chosen(score: Score, selection: Selection) -> Bools:
    """(G,) which grains are meant, whole ones: those of which any part is `selected`. Errors likewise."""
    return _any(score, selected(score, selection))


def _meant(score: Score, selection: Selection) -> Bools:
    """(G,) which grains all but `Selection.between` is true of."""
    duration_s, level_db = score.lengths * score.hop_s, score.levels + score.gain_db
    meant = (selection.louder_than_db < level_db) & (level_db < selection.quieter_than_db)
    meant &= (selection.longer_than_s < duration_s) & (duration_s < selection.shorter_than_s)
    if selection.sources:
        meant &= _meeting(score.sources, selection.sources)[score.origins]
    if selection.ids:
        unknown = np.setdiff1d(selection.ids, score.ids)
        if len(unknown):
            ids = f"has ids {score.ids.min()} to {score.ids.max()}" if len(score) else "has no grains"
            raise ValueError(f"ids has {unknown[0]}, which no grain has; the score {ids}")
        meant &= np.isin(score.ids, selection.ids)
    return meant


def _meeting(sources: tuple[Source, ...], patterns: tuple[str, ...]) -> Bools:
    """(S,) which sources meet one of the patterns."""
    out = np.zeros(len(sources), bool)
    for pattern in patterns:
        met = np.array([meets(source, pattern) for source in sources], bool)
        if not met.any():
            # A misspelt name that selects nothing would be found by ear, if at all.
            names = sorted({source.name for source in sources})
            named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
            raise ValueError(f"no source of the score meets {pattern!r}; there are {named}")
        out |= met
    return out


def _any(score: Score, entries: Bools) -> Bools:
    """(G,) which grains have any of some entries."""
    grains = np.zeros(len(score), bool)
    grains[score.owners[entries]] = True
    return grains


# --- silence and loudness


def muted(score: Score, selection: Selection = ALL) -> Score:
    """The score without what is selected.

    Plain grains are cut, and those that fall in pieces have new ids for all but the first. Grains that are shifted
    stay whole, silent where they are muted, as their shift is one reading of all of them; those that are silent
    altogether are left out.

    The levels of what is left follow from its gains, as if the source were equally loud all along the grain.
    """
    return _without(score, selected(score, selection))


def soloed(score: Score, selection: Selection = ALL) -> Score:
    """The score of nothing but what is selected; cut as by `muted`."""
    return _without(score, ~selected(score, selection))


def louder(score: Score, gain_db: float, selection: Selection = ALL) -> Score:
    """The score with what is selected louder by `gain_db`, -200 to 60; parts of grains, too."""
    gain = 10 ** (check_real("gain_db", gain_db, least=-200, most=60) / 20)
    gains = score.gains.copy()
    gains[selected(score, selection)] *= gain
    return at_gains(score, gains)


def _without(score: Score, silent: Bools) -> Score:
    left = at_gains(score, np.where(silent, 0, score.gains))
    sounding = left.gains > 0
    # Grains that are not touched are not trimmed either.
    whole = (score.shifted & _any(score, sounding)) | ~_any(score, silent)
    return cut(left, sounding | whole[score.owners]).sorted()


def at_gains(score: Score, gains: Floats) -> Score:
    """The score with other gains (E,), and levels that follow them."""
    before, after = (mean_squares(of, score.lengths) for of in (score.gains, gains))
    return replace(score, gains=gains, levels=score.levels + rise_db(before, after))


def mean_squares(gains: Floats, lengths: Ints) -> NDArray[np.float64]:
    """(G,) of gains (E,), grain after grain."""
    firsts = np.cumsum(lengths) - lengths
    sums = np.add.reduceat(np.square(gains, dtype=np.float64), firsts) if len(firsts) else np.zeros(0)
    return sums / lengths


def rise_db(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G,) by how much powers rise; where there was none, by nothing."""
    # A silent grain does not tell how loud it would be.
    ratios = np.divide(after, before, out=np.ones_like(before), where=before > 0)
    return 10 * np.log10(np.maximum(ratios, 1e-30))


def cut(score: Score, kept: Bools) -> Score:
    """The score of some of its entries, (E,) bools: each run of them a grain, of which the first keeps the id."""
    entries = np.flatnonzero(kept)
    owners = score.owners[entries]
    firsts = np.flatnonzero((np.diff(entries, prepend=-2) != 1) | (np.diff(owners, prepend=-1) != 0))
    lengths = np.diff(np.append(firsts, len(entries)))
    of, gains = owners[firsts], score.gains[entries]
    skipped, ids = score.steps[entries[firsts]], score.ids[of]
    further = np.diff(of, prepend=-1) == 0
    ids[further] = score.ids.max(initial=0) + 1 + np.arange(np.count_nonzero(further))
    rise = rise_db(mean_squares(score.gains, score.lengths)[of], mean_squares(gains, lengths))
    return replace(
        score,
        ids=ids,
        parts=score.parts[of],
        origins=score.origins[of],
        frames=score.frames[of] + skipped,
        lengths=lengths,
        centres=score.centres[of] + skipped * score.params.hop,
        gains=gains,
        levels=score.levels[of] + rise,
        shifts=tuple(
            None if (shift := score.shifts[i]) is None else _shift_cut(shift, first, length, score)
            for i, first, length in zip(of.tolist(), skipped.tolist(), lengths.tolist(), strict=True)
        ),
    )


# --- time and pitch


def moved(score: Score, seconds: float, selection: Selection = ALL) -> Score:
    """The score with whole grains later by `seconds`, or earlier; what would lie outside the mosaic is cut off.

    Their sound moves by whole samples. The envelopes of their gains, which have a value each hop, move by whole hops.
    The partials of what is shifted have other phases afterwards, unless it moves by whole hops.
    """
    n_samples = round(check_real("seconds", seconds, least=-LONGEST_S, most=LONGEST_S) * score.sr)
    return moved_by(score, n_samples * chosen(score, selection))


def moved_by(score: Score, n_samples: Ints) -> Score:
    """As `moved`, each grain by its own number of samples (G,)."""
    hop = score.params.hop
    later = (2 * n_samples + hop) // (2 * hop)
    rest = n_samples - later * hop
    at = score.at + later[score.owners]
    inside = (at >= 0) & (at < score.n_frames)
    # Frames and centres of what is left of a grain are further on if its beginning is cut off.
    left = cut(replace(score, centres=score.centres - rest, shifts=_shifts_later(score, rest)), inside)
    return replace(left, frames=left.frames + later[_any(score, inside)]).sorted()


def transposed(score: Score, semitones: float, selection: Selection = ALL) -> Score:
    """The score with whole grains higher by `semitones`, -48 to 48, or lower; on top of what they are shifted by.

    Of grains that were not shifted no pitch is known: they are read as sounds that have none.

    Raises
    ------
    ValueError : if a grain would be shifted by more than four octaves.
    """
    ratio = 2 ** (check_real("semitones", semitones, least=-MOST_SEMITONES, most=MOST_SEMITONES) / 12)
    grains = chosen(score, selection)
    if ratio == 1:
        return score
    shifts = tuple(
        _shift_times(_shift_of(score, i), ratio, score) if grains[i] else shift for i, shift in enumerate(score.shifts)
    )
    for number, shift in zip(score.ids.tolist(), shifts, strict=True):
        if shift is not None and not 1 / MOST_RATIO <= shift.ratios.min() <= shift.ratios.max() <= MOST_RATIO:
            raise ValueError(
                f"grain {number} would be shifted by more than four octaves; it is by "
                f"{shift.semitones - semitones:.1f} semitones already: pass less than {semitones:g}"
            )
    return replace(score, shifts=shifts)


def _shift_of(score: Score, i: int) -> Shift:
    """How a grain is shifted; for a plain one, by nothing."""
    if (shift := score.shifts[i]) is not None:
        return shift
    hop, length = score.params.hop, int(score.lengths[i])
    # The windows of its first and last frames reach so far.
    before = -(-score.params.n_fft // (2 * hop))
    n, begin = n_ratios(before, length, hop), int(score.centres[i]) - before * hop
    return Shift(int(score.origins[i]), begin, length, before, np.ones(n), np.zeros(n))


def _shift_times(shift: Shift, ratio: float, score: Score) -> Shift:
    """The shift, further by a ratio."""
    begin = shift.begin
    if score.settings.tape:
        # The middle of the grain is heard when it was.
        middle = (2 * shift.before + shift.length - 1) * score.params.hop // 2
        begin += round((1 - ratio) * tape_read(shift, middle, score))
    return replace(shift, begin=begin, ratios=shift.ratios * ratio)


def _shift_cut(shift: Shift, skipped: int, length: int, score: Score) -> Shift:
    """The shift of `length` of its frames, the first so many skipped.

    What is skipped is read all the same: where reading begins decides the phase of all that follows.
    """
    if length == shift.length:
        return shift
    before = shift.before + skipped
    places = np.minimum(np.arange(n_ratios(before, length, score.params.hop)), len(shift.ratios) - 1)
    return replace(shift, before=before, length=length, ratios=shift.ratios[places], hz=shift.hz[places])


def _shifts_later(score: Score, rest: Ints) -> tuple[Shift | None, ...]:
    """The shifts with their sound later by (G,) samples of less than a hop, and so their ratios."""
    out = []
    for shift, samples in zip(score.shifts, rest.tolist(), strict=True):
        if shift is not None and samples:
            places = np.arange(len(shift.ratios)) - round(samples / ratio_step(score.params.hop))
            places = np.clip(places, 0, len(places) - 1)
            # A tape is read from earlier on at the speed that it begins with.
            back = round(samples * float(shift.ratios[0])) if score.settings.tape else samples
            shift = replace(shift, begin=shift.begin - back, ratios=shift.ratios[places], hz=shift.hz[places])
        out.append(shift)
    return tuple(out)


def tape_read(shift: Shift, n_samples: int, score: Score) -> int:
    """Samples of its recording that a tape has read after so many of the sound."""
    at = np.arange(n_samples + 1) / ratio_step(score.params.hop)
    speeds = np.exp(np.interp(at, np.arange(len(shift.ratios)), np.log(shift.ratios)))
    return round(float((speeds[1:] + speeds[:-1]).sum() / 2))


# --- several edits


@dataclass(frozen=True)
class Edits:
    """Several edits of one score, in the order in which `edited` makes them.

    Attributes
    ----------
    swaps : for each, the pattern of the sources that are swapped, and what swaps those that a selection names.
    mute, solo : patterns of sources.
    semitones, gain_db, shift_s : how far what is meant is transposed, turned up and moved; 0 for not at all.
    """

    swaps: tuple[tuple[str, Callable[[Score, Selection], Score]], ...] = ()
    mute: tuple[str, ...] = ()
    solo: tuple[str, ...] = ()
    semitones: float = 0.0
    gain_db: float = 0.0
    shift_s: float = 0.0


def edited(score: Score, edits: Edits, meant: Selection = ALL) -> Score:
    """A score with several edits made: swaps first, then what is muted, soloed, transposed, turned up, and moved.

    Parameters
    ----------
    meant : which grains, and which parts of them. Its sources are those of transposing, gain and moving; swaps, `mute`
        and `solo` name their own.
    """
    selected(score, Selection(ids=meant.ids))
    for pattern, swap in edits.swaps:
        score = swap(score, replace(meant, sources=(pattern,)))
    steps: list[tuple[object, tuple[str, ...], Callable[[Score, Selection], Score]]] = [
        (edits.mute, edits.mute, muted),
        (edits.solo, edits.solo, soloed),
        (edits.semitones, meant.sources, lambda of, which: transposed(of, edits.semitones, which)),
        (edits.gain_db, meant.sources, lambda of, which: louder(of, edits.gain_db, which)),
        (edits.shift_s, meant.sources, lambda of, which: moved(of, edits.shift_s, which)),
    ]
    for asked, sources, edit in steps:
        # An earlier edit may have silenced grains that a later one names.
        ids = tuple(number for number in meant.ids if number in score.ids)
        if asked and (ids or not meant.ids):
            score = edit(score, replace(meant, sources=sources, ids=ids))
    return score
