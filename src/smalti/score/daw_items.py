"""A score as other tools have it: items on tracks, each a stretch of a file under a fade, a gain and straight lines.

Windows make the envelope of a grain; breakpoints make that of an item. `items_of` approximates the one by the other.
`reduction` measures what that changes: it renders the items as a tool would play them, and compares.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, check_count
from smalti.curves import on_times
from smalti.dsp.channels import as_channels, stack_channels
from smalti.grains.dictionary import heard_in
from smalti.score.edit import tape_read
from smalti.score.render import added_up, heard_of
from smalti.score.score import Score

# The most items with which other tools can still be worked.
MOST_ITEMS = 2000
# An envelope is sampled so often a hop. Straight lines stay within this share of its highest value around.
PER_HOP, NEAR = 4, 0.01


@dataclass(frozen=True, eq=False)
class Item:
    """A grain as an item of a track.

    Attributes
    ----------
    grain : its id. origin : the place of its source in ``score.sources``. part : the channel it sounds in.
    start, length : where it lies in the mosaic, and how long it is, in samples; start >= 0.
    offset : the sample of the source at its start, >= 0, counted from where the source begins.
    gain : the highest value of its envelope, on the source as recorded and without the gain of the score.
    fade_in, fade_out : samples, each a straight line from or to silence.
    times, gains : (P,) samples from its start, and shares of `gain` from 0 to 1, straight lines between them.
    semitones : by how much it is transposed.
    rate : samples of the source that it reads in one of its own: 1, unless the grain is transposed as a tape.
    """

    grain: int
    origin: int
    part: int
    start: int
    length: int
    offset: int
    gain: float
    fade_in: int
    fade_out: int
    times: NDArray[np.intp]
    gains: Floats
    semitones: float
    rate: float

    @property
    def envelope(self) -> Floats:
        """(length,) the factor of each of its samples, its gain included."""
        at = np.arange(self.length)
        fades = np.ones(self.length)
        if self.fade_in:
            fades[: self.fade_in] = at[: self.fade_in] / self.fade_in
        if self.fade_out:
            fades[self.length - self.fade_out :] *= np.arange(self.fade_out, 0, -1) / self.fade_out
        shape: Floats = self.gain * fades * np.interp(at, self.times, self.gains)
        return shape


def items_of(score: Score, *, most: int = MOST_ITEMS) -> list[Item]:
    """The grains of a score as items, by time.

    Where there are more grains than `most`, those of the least energy (their level over their duration) are left out.
    Every envelope is drawn by straight lines that stay within a hundredth of its highest value around.

    Parameters
    ----------
    most : int >= 1.
    """
    check_count("most", most, least=1)
    if len(score) > most:
        energies = score.levels + 10 * np.log10(score.lengths)
        score = score.only(np.sort(np.argsort(-energies, kind="stable")[:most]))
    items = (_item(score, i) for i in range(len(score)))
    return [item for item in items if item is not None]


def _item(score: Score, i: int) -> Item | None:
    hop, n_fft, sr = score.params.hop, score.params.n_fft, score.sr
    start = int(score.frames[i]) * hop - n_fft // 2
    offset, rate = _reading(score, i)
    # An item stays within the mosaic and within the source.
    early = max(0, -start, math.ceil(-offset / rate))
    end = min(n_fft + (int(score.lengths[i]) - 1) * hop, score.length - start)
    source = score.sources[score.origins[i]]
    if source.duration_s and not source.begin:
        end = min(end, int((round(source.duration_s * sr) - offset) / rate))
    if end <= early:
        return None
    at = np.unique(np.append(np.arange(early, end, max(1, hop // PER_HOP)), end))
    envelope = _envelope(score, i, at) * 10 ** (on_times(score.settings.level_db, (start + at) / sr) / 20)
    if not envelope.max() > 0:
        return None
    times, gains = _lines(at, envelope)
    times -= early
    fade_in = int(times[1]) if gains[0] == 0 and len(times) > 2 else 0
    fade_out = int(times[-1] - times[-2]) if gains[-1] == 0 and len(times) > 2 else 0
    # A line from or to silence becomes a fade, so the shape under it is level.
    if fade_in:
        gains[0] = gains[1]
    if fade_out:
        gains[-1] = gains[-2]
    shift, peak = score.shifts[i], float(gains.max())
    return Item(
        grain=int(score.ids[i]),
        origin=int(score.origins[i]),
        part=int(score.parts[i]),
        start=start + early,
        length=end - early,
        offset=round(offset + early * rate),
        gain=peak,
        fade_in=fade_in,
        fade_out=fade_out,
        times=times,
        gains=gains / peak,
        semitones=0.0 if shift is None else shift.semitones,
        rate=rate,
    )


def _reading(score: Score, i: int) -> tuple[float, float]:
    """The sample of its source that a grain begins with, half a window before its first frame; and its `Item.rate`."""
    shift, hop, reach = score.shifts[i], score.params.hop, score.params.n_fft // 2
    if shift is None or not score.settings.tape:
        return float(score.centres[i] - reach), 1.0
    # Other tools play it at one speed, the mean. They are where the tape was in the middle of the grain.
    rate, middle = 2 ** (shift.semitones / 12), (2 * shift.before + shift.length - 1) * hop // 2
    return shift.begin + tape_read(shift, middle, score) - rate * (middle - shift.before * hop + reach), rate


def _envelope(score: Score, i: int, at: NDArray[np.intp]) -> Floats:
    """The factor of a grain at samples `at` (T,), counted from half a window before its first frame."""
    hop, n_fft = score.params.hop, score.params.n_fft
    first, length = int(score.frames[i]), int(score.lengths[i])
    gains = score.gains[score.offsets[i] : score.offsets[i] + length].astype(np.float64)
    top, total = np.zeros(len(at)), np.zeros(len(at))
    for back in range(n_fft // hop + 1):
        frames = at // hop - back
        # Overlap-add divides by the windows of all frames of the mosaic.
        there = (frames + first >= 0) & (frames + first < score.n_frames)
        power = there * score.params.window_at(at - frames * hop) ** 2
        total += power
        top += np.where((frames >= 0) & (frames < length), gains[np.clip(frames, 0, length - 1)], 0) * power
    envelope: Floats = np.divide(top, total, out=np.zeros_like(top), where=total > 0)
    return envelope


def _lines(times: NDArray[np.intp], values: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Few points, both ends among them, whose straight lines stay near a curve (Douglas & Peucker, 1973).

    Lines stay within `NEAR` of the highest value within a hop, not of the highest of all: where its source is silent
    for a moment, a grain may be turned up so far that this share of it would drown the rest.
    """
    high = np.lib.stride_tricks.sliding_window_view(np.pad(values, PER_HOP), 2 * PER_HOP + 1).max(axis=1)
    near, kept, open_ = NEAR * high, {0, len(values) - 1}, [(0, len(values) - 1)]
    while open_:
        a, b = open_.pop()
        line = np.interp(times[a : b + 1], times[[a, b]], values[[a, b]])
        too_far = np.abs(values[a : b + 1] - line) - near[a : b + 1]
        worst = int(too_far.argmax())
        if too_far[worst] > 0:
            kept.add(a + worst)
            open_ += [(a, a + worst), (a + worst, b)]
    points = np.array(sorted(kept))
    return times[points], values[points]


def added_items(items: Sequence[Item], score: Score, recordings: Sequence[Floats]) -> Floats:
    """The sound of items as a tool plays them, (L,) or (C, L), at the score's gain and without transposition.

    Parameters
    ----------
    recordings : of ``score.sources``, (L,) or (C, L) each, at the score's rate.
    """
    width = score.channels if score.n_parts == 1 else 1
    out = np.zeros((score.n_parts, width, score.length))
    for item in items:
        recording = heard_of(score, recordings[item.origin], item.part)
        shape, there = item.envelope, max(0, min(item.length, recording.shape[-1] - item.offset))
        for channel in range(width):
            heard = heard_in(recording, channel)[item.offset : item.offset + there]
            out[item.part, channel, item.start : item.start + there] += shape[:there] * heard
    gain = 10 ** (score.gain_db / 20)
    return (gain * stack_channels(list(out.reshape(-1, score.length)))).astype(score.dtype)


@dataclass(frozen=True)
class Reduction:
    """The difference between a score and its items.

    Attributes
    ----------
    n_grains, n_items : how many there are of each. n_points : breakpoints of all items.
    error_db : the power of the difference between the items and the grains added up, relative to that of the grains;
        for grains that are not transposed. -inf if nothing differs; None if there is nothing to compare.
    n_transposed : grains that are transposed, which another tool does in its own way.
    """

    n_grains: int
    n_items: int
    n_points: int
    error_db: float | None
    n_transposed: int


def reduction(items: Sequence[Item], score: Score, recordings: Sequence[Floats]) -> Reduction:
    """Render items and compare them with the grains that they stand for.

    Parameters
    ----------
    recordings : of ``score.sources``, from `smalti.score.render.recordings_of`.
    """
    plain = score.only(~score.shifted)
    ids = set(plain.ids.tolist())
    wanted = as_channels(added_up(plain, recordings)).astype(np.float64)
    got = as_channels(added_items([item for item in items if item.grain in ids], plain, recordings))
    power, lost = float(np.square(wanted).sum()), float(np.square(wanted - got).sum())
    error_db = None if power == 0 else 10 * np.log10(lost / power) if lost else -np.inf
    return Reduction(
        n_grains=len(score),
        n_items=len(items),
        n_points=sum(len(item.times) for item in items),
        error_db=None if error_db is None else float(error_db),
        n_transposed=len(score) - len(plain),
    )
