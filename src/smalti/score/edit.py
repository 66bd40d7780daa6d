"""Edit scores: select grains or parts of them, and mute, solo, transpose, move or turn them up.

Every edit takes a score and makes another one, so edits can be combined in any order and rendered at any time. What was
not selected stays the same to the last bit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, Indices, ParameterError, check_count, check_real
from smalti.dsp.pitch import MOST_RATIO
from smalti.grains.filters import check_pattern, meets
from smalti.grains.shifted import Shift, n_ratios, ratio_step
from smalti.grains.source import Source
from smalti.score.score import Score
from smalti.settings import MOST_SEMITONES

Bools = NDArray[np.bool_]

# The furthest that a grain can be moved, in seconds.
LONGEST_S = 24 * 3600.0
# The most sources that an error names.
_NAMED = 8


@dataclass(frozen=True)
class Selection:
    """Which grains, or which parts of them, an edit is for: those that meet every criterion. By default, all.

    Attributes
    ----------
    sources : patterns, as for `smalti.grains.filters.Filters`. The source of a grain must meet one of them.
    between : (begin, end) in seconds of the mosaic, end excluded: the parts of grains that sound then.
    louder_than_db, quieter_than_db : limits of a grain's level in dB of full scale, with the gain of the score.
    longer_than_s, shorter_than_s : limits of a grain's duration in seconds.
    ids : ids of grains.

    Raises
    ------
    TypeError, ValueError : for values that are no numbers or patterns, negative times, and empty spans or ranges.
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
                raise ParameterError(
                    "between", f"goes from {begin_s:g} s to {end_s:g} s", "pass a begin before its end"
                )
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
    """(E,) bools: which entries of ``score.gains`` are selected.

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
    """(G,) bools: which grains have any part that is `selected`. Errors are the same."""
    return _any(score, selected(score, selection))


def _meant(score: Score, selection: Selection) -> Bools:
    """(G,) bools: which grains meet every criterion but `Selection.between`."""
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
    """(S,) bools: which sources meet one of the patterns."""
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
    """(G,) bools: which grains have any of the `entries`, (E,) bools."""
    grains = np.zeros(len(score), bool)
    grains[score.owners[entries]] = True
    return grains


# --- silence and loudness


def muted(score: Score, selection: Selection = ALL) -> Score:
    """The score without what is selected.

    Plain grains are cut. If one falls to pieces, all but the first get new ids. Shifted grains stay whole and are
    silent where they are muted, because a shift is a single reading of the whole grain; those that are silent
    altogether are left out.

    The levels of what is left follow from its gains, as if the source were equally loud all along the grain.
    """
    return _without(score, selected(score, selection))


def soloed(score: Score, selection: Selection = ALL) -> Score:
    """The score of nothing but what is selected; cut as by `muted`."""
    return _without(score, ~selected(score, selection))


def louder(score: Score, gain_db: float, selection: Selection = ALL) -> Score:
    """The score with what is selected louder by `gain_db`, -200 to 60. Parts of grains can be louder, too."""
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
    before, after = (mean_squares(values, score.lengths) for values in (score.gains, gains))
    return replace(score, gains=gains, levels=score.levels + rise_db(before, after))


def mean_squares(gains: Floats, lengths: Indices) -> NDArray[np.float64]:
    """(G,) mean squares of gains (E,), which lie grain after grain."""
    firsts = np.cumsum(lengths) - lengths
    sums = np.add.reduceat(np.square(gains, dtype=np.float64), firsts) if len(firsts) else np.zeros(0)
    return sums / lengths


def rise_db(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G,) by how many dB powers rise; 0 where there was none."""
    # A silent grain does not tell how loud it would be.
    ratios = np.divide(after, before, out=np.ones_like(before), where=before > 0)
    return 10 * np.log10(np.maximum(ratios, 1e-30))


def cut(score: Score, kept: Bools) -> Score:
    """The score of the entries `kept`, (E,) bools. Each run of them is a grain; the first in a grain keeps its id."""
    entries = np.flatnonzero(kept)
    owners = score.owners[entries]
    firsts = np.flatnonzero((np.diff(entries, prepend=-2) != 1) | (np.diff(owners, prepend=-1) != 0))
    lengths = np.diff(np.append(firsts, len(entries)))
    grains, gains = owners[firsts], score.gains[entries]
    skipped, ids = score.steps[entries[firsts]], score.ids[grains]
    further = np.diff(grains, prepend=-1) == 0
    ids[further] = score.ids.max(initial=0) + 1 + np.arange(np.count_nonzero(further))
    rise = rise_db(mean_squares(score.gains, score.lengths)[grains], mean_squares(gains, lengths))
    return replace(
        score,
        ids=ids,
        parts=score.parts[grains],
        origins=score.origins[grains],
        frames=score.frames[grains] + skipped,
        lengths=lengths,
        centres=score.centres[grains] + skipped * score.params.hop,
        gains=gains,
        levels=score.levels[grains] + rise,
        shifts=tuple(
            None if (shift := score.shifts[i]) is None else _shift_cut(shift, first, length, score)
            for i, first, length in zip(grains.tolist(), skipped.tolist(), lengths.tolist(), strict=True)
        ),
    )


# --- time and pitch


def moved(score: Score, seconds: float, selection: Selection = ALL) -> Score:
    """The score with whole grains later by `seconds`, or earlier if negative; what leaves the mosaic is cut off.

    The sound of a grain moves by whole samples. The envelope of its gains has a value each hop, and moves by whole
    hops. The partials of a shifted grain change their phases, unless it moves by whole hops.
    """
    n_samples = round(check_real("seconds", seconds, least=-LONGEST_S, most=LONGEST_S) * score.sr)
    return moved_by(score, n_samples * chosen(score, selection))


def moved_by(score: Score, n_samples: Indices) -> Score:
    """`moved` with a number of samples for each grain, (G,)."""
    hop = score.params.hop
    later = (2 * n_samples + hop) // (2 * hop)
    rest = n_samples - later * hop
    at = score.at + later[score.owners]
    inside = (at >= 0) & (at < score.n_frames)
    # Frames and centres of what is left of a grain are further on if its beginning is cut off.
    left = cut(replace(score, centres=score.centres - rest, shifts=_shifts_later(score, rest)), inside)
    return replace(left, frames=left.frames + later[_any(score, inside)]).sorted()


def transposed(score: Score, semitones: float, selection: Selection = ALL) -> Score:
    """The score with whole grains transposed by `semitones`, -48 to 48, on top of how they are shifted already.

    The pitch of grains that were not shifted is not known, so they are read as sounds without a pitch.

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
    """How a grain is shifted; for a plain one, a shift by 0 semitones."""
    if (shift := score.shifts[i]) is not None:
        return shift
    hop, length = score.params.hop, int(score.lengths[i])
    # The windows of its first and last frames reach so far.
    before = -(-score.params.n_fft // (2 * hop))
    n, begin = n_ratios(before, length, hop), int(score.centres[i]) - before * hop
    return Shift(int(score.origins[i]), begin, length, before, np.ones(n), np.zeros(n))


def _shift_times(shift: Shift, ratio: float, score: Score) -> Shift:
    """The shift with its ratios multiplied by `ratio`."""
    begin = shift.begin
    if score.settings.tape:
        # The tape begins elsewhere, so that the middle of the grain is heard when it was.
        middle = (2 * shift.before + shift.length - 1) * score.params.hop // 2
        begin += round((1 - ratio) * tape_read(shift, middle, score))
    return replace(shift, begin=begin, ratios=shift.ratios * ratio)


def _shift_cut(shift: Shift, skipped: int, length: int, score: Score) -> Shift:
    """The shift of `length` of its frames, after `skipped` ones.

    Skipped frames are read all the same, since the place where reading begins decides the phase of all that follows.
    """
    if length == shift.length:
        return shift
    before = shift.before + skipped
    places = np.minimum(np.arange(n_ratios(before, length, score.params.hop)), len(shift.ratios) - 1)
    return replace(shift, before=before, length=length, ratios=shift.ratios[places], hz=shift.hz[places])


def _shifts_later(score: Score, rest: Indices) -> tuple[Shift | None, ...]:
    """The shifts with their sound and their ratios later by `rest`, (G,) samples of less than a hop."""
    out = []
    for shift, samples in zip(score.shifts, rest.tolist(), strict=True):
        if shift is not None and samples:
            places = np.arange(len(shift.ratios)) - round(samples / ratio_step(score.params.hop))
            places = np.clip(places, 0, len(places) - 1)
            # A tape begins earlier, by what it reads in that time at its first speed.
            back = round(samples * float(shift.ratios[0])) if score.settings.tape else samples
            shift = replace(shift, begin=shift.begin - back, ratios=shift.ratios[places], hz=shift.hz[places])
        out.append(shift)
    return tuple(out)


def tape_read(shift: Shift, n_samples: int, score: Score) -> int:
    """Samples of its recording that a tape has read after `n_samples` of the sound."""
    at = np.arange(n_samples + 1) / ratio_step(score.params.hop)
    speeds = np.exp(np.interp(at, np.arange(len(shift.ratios)), np.log(shift.ratios)))
    return round(float((speeds[1:] + speeds[:-1]).sum() / 2))


# --- several edits


@dataclass(frozen=True)
class Swap:
    """The grains of some sources are cut from another recording; see `smalti.score.swap.swapped`.

    Attributes
    ----------
    pattern : of the sources. recording : the name of what their grains are cut from.
    """

    pattern: str
    recording: str


@dataclass(frozen=True)
class Edits:
    """Several edits of one score, in the order in which `edited` makes them.

    Attributes
    ----------
    swaps : which sources are swapped for what.
    mute, solo : patterns of sources.
    semitones, gain_db, shift_s : how far grains are transposed, turned up and moved; 0 for not at all.
    """

    swaps: tuple[Swap, ...] = ()
    mute: tuple[str, ...] = ()
    solo: tuple[str, ...] = ()
    semitones: float = 0.0
    gain_db: float = 0.0
    shift_s: float = 0.0


def edited(
    score: Score,
    edits: Edits,
    meant: Selection = ALL,
    *,
    swap: Callable[[Score, Selection, str], Score] | None = None,
) -> Score:
    """A score with several edits made, in this order: swap, mute, solo, transpose, turn up, move.

    Parameters
    ----------
    meant : which grains, and which parts of them. Its sources are for transposing, turning up and moving; swaps, `mute`
        and `solo` name their own.
    swap : makes the score whose selected grains are cut from the recording of that name; needed if there are swaps.

    Raises
    ------
    ValueError, TypeError : as the edits do, and for swaps without `swap`.
    """
    if edits.swaps and swap is None:
        raise ValueError("grains are to be swapped but swap is None; pass a function that cuts them from a recording")
    selected(score, Selection(ids=meant.ids))
    for exchange in edits.swaps:
        assert swap is not None
        score = swap(score, replace(meant, sources=(exchange.pattern,)), exchange.recording)
    steps: list[tuple[object, tuple[str, ...], Callable[[Score, Selection], Score]]] = [
        (edits.mute, edits.mute, muted),
        (edits.solo, edits.solo, soloed),
        (edits.semitones, meant.sources, lambda score, which: transposed(score, edits.semitones, which)),
        (edits.gain_db, meant.sources, lambda score, which: louder(score, edits.gain_db, which)),
        (edits.shift_s, meant.sources, lambda score, which: moved(score, edits.shift_s, which)),
    ]
    for requested, sources, edit in steps:
        # An earlier edit may have silenced grains that a later one names.
        ids = tuple(number for number in meant.ids if number in score.ids)
        if requested and (ids or not meant.ids):
            score = edit(score, replace(meant, sources=sources, ids=ids))
    return score
