"""Two mosaics of one target become one by their scores: which grains sound is what changes, not how loud they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, check_real
from smalti.curves import Curve, as_varying, on_times
from smalti.score.edit import Bools, mean_squares
from smalti.score.score import COLUMNS, Ints, Score

# Over so long the share of the grains that sound is to be what was asked for.
REACH_S = 1.5
# Settings that two mosaics must share, and those that they must share if their grains are shifted.
_IN_COMMON, _OF_SHIFTS = ("sr", "length", "channels", "n_parts", "n_frames"), ("tape", "keep_formants")
# Moments within so much of a mosaic's loudest are heard; of these none may be left with less than this share of both.
HEARD_DB, LEAST_SHARE = 40.0, 0.25


@dataclass(frozen=True, eq=False)
class _Fractions:
    """How much of what sounds in each frame of each channel is of which grain.

    Attributes
    ----------
    cells : (E,) the frame of each entry of the gains; those of one channel after those of the other, P * N.
    owners : (E,) its grain. fractions : (E,) 0 to 1, its share of the power there.
    powers : (P * N,) of all together.
    """

    cells: Ints
    owners: Ints
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
        """(P * N,) where anything is."""
        heard: Bools = self.powers > self.powers.max(initial=0) * 10 ** (-HEARD_DB / 10)
        return heard

    def taken(self, grains: Bools) -> NDArray[np.float64]:
        """(P * N,) the share that some grains have."""
        return _sums(self.cells, self.fractions * grains[self.owners], len(self.powers))

    def per_grain(self, values: Floats, n_grains: int) -> NDArray[np.float64]:
        """(G,) sums of (E,) values."""
        return _sums(self.owners, values, n_grains)


def _sums(places: Ints, values: Floats, n: int) -> NDArray[np.float64]:
    """(n,) sums of the values at each place."""
    return np.bincount(places, values, n).astype(np.float64, copy=False)


def blended(a: Score, b: Score, share: float | Curve | Sequence[Sequence[float]] | str) -> Score:
    """Two mosaics of one target as one, some of the grains of each.

    Grains sound or do not, each as loud as it was: those of `b` whose share of its power comes to what is asked,
    carrying what is too much or too little on to the next, and those of `a` that fill what these leave. So nothing
    sounds twice or not at all for longer than grains overlap, and where `share` is 0 or 1 it is `a` or `b` alone.

    Parameters
    ----------
    a, b : scores of one length, rate, hop and number of channels. What makes sound of grains is that of `a`: its
        settings, its gain, its melodies. Sources that are equal in all that is known of them are one.
    share : how much is of `b`, 0 to 1; a number, or what changes over time: (seconds, share) breakpoints or another
        form of a `smalti.curves.Curve`.

    Returns
    -------
    Score : of the sources of `a`, then those of `b` that `a` has not. Grains of `a` keep their ids; those of `b` are
        counted from the largest of these.

    Raises
    ------
    ValueError, TypeError : for a share out of range, and scores that do not go together.
    """
    curve = as_varying("share", share)
    for value in (curve.least, curve.most) if isinstance(curve, Curve) else (curve,):
        check_real("share", value, least=0, most=1)
    _check_common(a, b)
    b = _at_gain_of(a, b)
    wanted = np.tile(on_times(curve, np.arange(a.n_frames) * a.hop_s), a.n_parts)
    of_a, of_b = _Fractions.of(a), _Fractions.of(b)
    from_b = _diffused(b, of_b, wanted)
    of_these = of_b.taken(from_b)
    # Rounded, as shares that add up to 1 do so but for the last bits.
    from_a = _filling(a, of_a, np.round(np.where(of_b.powers > 0, 1 - of_these, 1 - wanted), 9))
    # To fill a hole with what was left of `b` would be to have more of it than was asked for.
    from_a = _without_holes(of_a, from_a, of_these, of_a.heard & of_b.heard)
    return _joined(a, b, from_a, from_b)


def _check_common(a: Score, b: Score) -> None:
    shifted = a.shifted.any() and b.shifted.any()
    both = [
        *((name, getattr(a, name), getattr(b, name)) for name in _IN_COMMON),
        ("hop", a.params.hop, b.params.hop),
        *((name, getattr(a.settings, name), getattr(b.settings, name)) for name in _OF_SHIFTS if shifted),
    ]
    for name, one, other in both:
        if one != other:
            raise ValueError(f"{name} is {one} in one score and {other} in the other; blend two mosaics made alike")


def _at_gain_of(a: Score, b: Score) -> Score:
    """`b` as loud as it is, at the gain of `a`."""
    more_db = b.gain_db - a.gain_db
    gains = (b.gains * 10 ** (more_db / 20)).astype(a.gains.dtype)
    return replace(b, gains=gains, levels=b.levels + more_db, gain_db=a.gain_db)


def _diffused(score: Score, of: _Fractions, wanted: Floats) -> Bools:
    """(G,) grains whose share of the power follows `wanted` (P * N,), 0 to 1, in the mean over `REACH_S`.

    One after the other is taken if the error is less with it than without, which is carried to those that come after
    wherever it is in time: error diffusion, of grains that are long and overlap.
    """
    reach = max(1, round(REACH_S / score.hop_s))
    # The weights of a mean, once to the error and once more to its square.
    weights = np.correlate(np.ones(reach), np.ones(reach), "full") / reach**2
    margin, n_frames = reach - 1, score.n_frames
    errors = np.zeros((score.n_parts, n_frames + 2 * margin))
    taken = np.zeros(len(score), bool)
    for i in np.lexsort((score.ids, score.frames)).tolist():
        entries = slice(score.offsets[i], score.offsets[i] + score.lengths[i])
        own, asked = of.fractions[entries], wanted[of.cells[entries]]
        if asked.min() == asked.max() and asked[0] in (0, 1):
            taken[i] = asked[0] == 1
            continue
        frame = score.frames[i]
        around = errors[score.parts[i], frame : frame + len(own) + 2 * margin]
        inside = slice(margin, margin + len(own))
        around[inside] += own * asked
        reaching = np.convolve(own, weights)
        if own @ reaching[inside] < 2 * around @ reaching:
            taken[i] = True
            around[inside] -= own
    return taken


def _filling(score: Score, of: _Fractions, wanted: Floats) -> Bools:
    """(G,) grains whose share of the power is nearest to `wanted` (P * N,) in every frame, by least squares.

    Grains are taken or left, whichever helps most, until none of them alone would help any further.
    """
    taken: Bools = of.per_grain(wanted[of.cells], len(score)) >= score.lengths / 2
    errors = of.taken(taken) - wanted
    for _ in range(4 * len(score)):
        signs = np.where(taken, -1, 1)
        change = of.per_grain(of.fractions * (of.fractions + 2 * signs[of.owners] * errors[of.cells]), len(score))
        best = int(np.argmin(change))
        if change[best] > -1e-9:
            break
        taken[best] = not taken[best]
        errors = of.taken(taken) - wanted
    return taken


def _without_holes(of: _Fractions, taken: Bools, beside: Floats, heard: Bools) -> Bools:
    """`taken` (G,), and as many grains more as it takes for something to sound wherever it should, (P * N,) bools.

    Parameters
    ----------
    beside : (P * N,) the share of what else sounds.
    """
    taken = taken.copy()
    while True:
        holes = heard & (of.taken(taken) + beside < LEAST_SHARE)
        helps = of.per_grain(of.fractions * holes[of.cells], len(taken)) * ~taken
        if not helps.any():
            return taken
        taken[np.argmax(helps)] = True


def _joined(a: Score, b: Score, from_a: Bools, from_b: Bools) -> Score:
    """One score of some grains of each."""
    sources = (*a.sources, *(source for source in b.sources if source not in a.sources))
    places = np.array([sources.index(source) for source in b.sources], np.intp)
    # From 1 or from 0 on, as they were.
    ids = b.ids + (a.ids.max(initial=0) + 1 - b.ids.min(initial=1))
    b = replace(b, sources=sources, origins=places[b.origins], ids=ids)
    one, other, settings = a.only(from_a), b.only(from_b), a.settings
    if other.shifted.any():
        settings = replace(settings, **{name: getattr(b.settings, name) for name in _OF_SHIFTS})
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in (*COLUMNS, "gains")
    }
    return replace(a, **columns, sources=sources, settings=settings, shifts=one.shifts + other.shifts).sorted()
