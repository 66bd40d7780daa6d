"""Blend two mosaics of one target by their scores: some grains of each sound, as loud as they were."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, Indices, check_real
from smalti.curves import Curve, as_varying, on_times
from smalti.score.edit import Bools, mean_squares
from smalti.score.score import COLUMNS, Score

# The share of the grains that sound is as requested in the mean over so long.
REACH_S = 1.5
# What two scores must have in common, and which settings they must share if both have shifted grains.
_IN_COMMON, _OF_SHIFTS = ("sr", "length", "channels", "n_parts", "n_frames"), ("tape", "keep_formants")
# Moments within so much of a mosaic's loudest are heard. None of these may be left with less than this share of sound.
HEARD_DB, LEAST_SOUNDING = 40.0, 0.25


@dataclass(frozen=True, eq=False)
class _Fractions:
    """Each grain's share of the power in each frame of each channel.

    Attributes
    ----------
    cells : (E,) the frame of each entry of the gains; frames are counted channel after channel, 0 to P * N - 1.
    owners : (E,) its grain. fractions : (E,) 0 to 1, its share of the power there.
    powers : (P * N,) the power of all grains together.
    """

    cells: Indices
    owners: Indices
    fractions: NDArray[np.float64]
    powers: NDArray[np.float64]

    @classmethod
    def of(cls, score: Score) -> "_Fractions":
        own = mean_squares(score.gains, score.lengths)
        # This takes the source to be equally loud all along a grain.
        per_gain = np.divide(10 ** (score.levels / 10), own, out=np.zeros(len(score)), where=own > 0)
        powers = per_gain[score.owners] * np.square(score.gains, dtype=np.float64)
        cells = score.parts[score.owners] * score.n_frames + score.at
        total = _sums(cells, powers, score.n_parts * score.n_frames)
        fractions = np.divide(powers, total[cells], out=np.zeros_like(powers), where=total[cells] > 0)
        return cls(cells, score.owners, fractions, total)

    @property
    def heard(self) -> Bools:
        """(P * N,) bools: frames that are heard."""
        heard: Bools = self.powers > self.powers.max(initial=0) * 10 ** (-HEARD_DB / 10)
        return heard

    def taken(self, grains: Bools) -> NDArray[np.float64]:
        """(P * N,) the share of the power that `grains`, (G,) bools, have."""
        return _sums(self.cells, self.fractions * grains[self.owners], len(self.powers))

    def per_grain(self, values: Floats, n_grains: int) -> NDArray[np.float64]:
        """(G,) sums of (E,) values."""
        return _sums(self.owners, values, n_grains)


def _sums(places: Indices, values: Floats, n: int) -> NDArray[np.float64]:
    """(n,) sums of the values at each place."""
    return np.bincount(places, values, n).astype(np.float64, copy=False)


def blended(a: Score, b: Score, share: float | Curve | Sequence[Sequence[float]] | str) -> Score:
    """One mosaic out of two of the same target, with some of the grains of each.

    A grain sounds as loud as it was, or not at all. Grains of `b` are taken so that their share of its power comes to
    `share`, and what is too much or too little is carried on to the next grain. Grains of `a` fill what these leave. So
    nothing sounds twice, or not at all, for longer than grains overlap, and where `share` is 0 or 1 the result is `a`
    or `b` alone.

    Parameters
    ----------
    a, b : scores of one length, rate, hop and number of channels. The settings, the gain and the melodies are those of
        `a`. Equal sources become one.
    share : how much is from `b`, 0 to 1: a number, or a curve over time, as (seconds, share) breakpoints or in another
        form of a `smalti.curves.Curve`.

    Returns
    -------
    Score : its sources are those of `a`, then those of `b` that `a` lacks. Grains of `a` keep their ids; those of `b`
        are numbered on from the largest of these.

    Raises
    ------
    ValueError, TypeError : for a share out of range, and scores that cannot be blended.
    """
    curve = as_varying("share", share)
    for value in (curve.least, curve.most) if isinstance(curve, Curve) else (curve,):
        check_real("share", value, least=0, most=1)
    _check_common(a, b)
    b = _at_gain_of(a, b)
    wanted = np.tile(on_times(curve, np.arange(a.n_frames) * a.hop_s), a.n_parts)
    shares_a, shares_b = _Fractions.of(a), _Fractions.of(b)
    from_b = _diffused(b, shares_b, wanted)
    taken_b = shares_b.taken(from_b)
    # Rounded, since shares that add up to 1 miss it in their last bits.
    from_a = _filling(a, shares_a, np.round(np.where(shares_b.powers > 0, 1 - taken_b, 1 - wanted), 9))
    # Only `a` fills holes: more of `b` would be more than was requested.
    from_a = _without_holes(shares_a, from_a, taken_b, shares_a.heard & shares_b.heard)
    return _joined(a, b, from_a, from_b)


def _check_common(a: Score, b: Score) -> None:
    shifted = a.shifted.any() and b.shifted.any()
    pairs = [
        *((name, getattr(a, name), getattr(b, name)) for name in _IN_COMMON),
        ("hop", a.params.hop, b.params.hop),
        *((name, getattr(a.settings, name), getattr(b.settings, name)) for name in _OF_SHIFTS if shifted),
    ]
    for name, first, second in pairs:
        if first != second:
            raise ValueError(f"{name} is {first} in one score and {second} in the other; blend two mosaics made alike")


def _at_gain_of(a: Score, b: Score) -> Score:
    """`b` as loud as it is, at the gain of `a`."""
    more_db = b.gain_db - a.gain_db
    gains = (b.gains * 10 ** (more_db / 20)).astype(a.gains.dtype)
    return replace(b, gains=gains, levels=b.levels + more_db, gain_db=a.gain_db)


def _diffused(score: Score, shares: _Fractions, wanted: Floats) -> Bools:
    """(G,) grains whose share of the power follows `wanted` (P * N,), 0 to 1, in the mean over `REACH_S`.

    This is error diffusion, for grains that are long and overlap. In order of time, each grain is taken if the error is
    less with it than without; the error that is left at a moment is carried on to the later grains that sound near it.
    """
    reach = max(1, round(REACH_S / score.hop_s))
    # The mean's weights convolved with themselves: once for the error, and once more for its square.
    weights = np.correlate(np.ones(reach), np.ones(reach), "full") / reach**2
    margin, n_frames = reach - 1, score.n_frames
    errors = np.zeros((score.n_parts, n_frames + 2 * margin))
    taken = np.zeros(len(score), bool)
    for i in np.lexsort((score.ids, score.frames)).tolist():
        entries = slice(score.offsets[i], score.offsets[i] + score.lengths[i])
        own, requested = shares.fractions[entries], wanted[shares.cells[entries]]
        if requested.min() == requested.max() and requested[0] in (0, 1):
            taken[i] = requested[0] == 1
            continue
        frame = score.frames[i]
        around = errors[score.parts[i], frame : frame + len(own) + 2 * margin]
        inside = slice(margin, margin + len(own))
        around[inside] += own * requested
        reaching = np.convolve(own, weights)
        if own @ reaching[inside] < 2 * around @ reaching:
            taken[i] = True
            around[inside] -= own
    return taken


def _filling(score: Score, shares: _Fractions, wanted: Floats) -> Bools:
    """(G,) grains whose share of the power is nearest to `wanted` (P * N,) in every frame, by least squares.

    Grains are taken or left, whichever helps most, until none of them alone would help any further.
    """
    taken: Bools = shares.per_grain(wanted[shares.cells], len(score)) >= score.lengths / 2
    errors = shares.taken(taken) - wanted
    for _ in range(4 * len(score)):
        signs = np.where(taken, -1, 1)
        rise = shares.fractions * (shares.fractions + 2 * signs[shares.owners] * errors[shares.cells])
        change = shares.per_grain(rise, len(score))
        best = int(np.argmin(change))
        if change[best] > -1e-9:
            break
        taken[best] = not taken[best]
        errors = shares.taken(taken) - wanted
    return taken


def _without_holes(shares: _Fractions, taken: Bools, beside: Floats, heard: Bools) -> Bools:
    """`taken` (G,), and as many more grains as it takes for something to sound wherever `heard`, (P * N,) bools.

    Parameters
    ----------
    beside : (P * N,) the share that the other mosaic's grains have.
    """
    taken = taken.copy()
    while True:
        holes = heard & (shares.taken(taken) + beside < LEAST_SOUNDING)
        helps = shares.per_grain(shares.fractions * holes[shares.cells], len(taken)) * ~taken
        if not helps.any():
            return taken
        taken[np.argmax(helps)] = True


def _joined(a: Score, b: Score, from_a: Bools, from_b: Bools) -> Score:
    """One score of some grains of each."""
    sources = (*a.sources, *(source for source in b.sources if source not in a.sources))
    places = np.array([sources.index(source) for source in b.sources], np.intp)
    # Ids are counted from 0 or 1; either way those of `b` follow the largest of `a`.
    ids = b.ids + (a.ids.max(initial=0) + 1 - b.ids.min(initial=1))
    b = replace(b, sources=sources, origins=places[b.origins], ids=ids)
    kept_a, kept_b, settings = a.only(from_a), b.only(from_b), a.settings
    if kept_b.shifted.any():
        settings = replace(settings, **{name: getattr(b.settings, name) for name in _OF_SHIFTS})
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(kept_a, name), getattr(kept_b, name)]) for name in (*COLUMNS, "gains")
    }
    return replace(a, **columns, sources=sources, settings=settings, shifts=kept_a.shifts + kept_b.shifts).sorted()
