"""Pictures of notes and grains: pitch tracks with what plays them, and scores as piano rolls."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import ArrayLike

from smalti._checks import check_real
from smalti.dsp.pitch import check_f0, note_numbers
from smalti.plots._drawing import axes_or_new, covered, pitch_axis, short
from smalti.score.score import Score
from smalti.score.table import summary

# Dark blue is far down, pale not shifted, dark red far up.
SHIFT_COLOURS = "coolwarm"
# Most lanes of a score, and how far under its loudest grain a line is thinnest and palest.
MOST_LANES, LANE_DB = 12, 40.0
# Okabe and Ito's colours without the palest: colour-blind readers can tell them apart, too.
LANE_COLOURS = (
    np.array([[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]]) / 255
)
# Points: the thickness of a grain's bar, and how much thicker a bar under another is.
BAR, UNDER = 5.0, 4.0


def plot_pitch(
    target_f0: ArrayLike,
    grains: ArrayLike,
    *,
    hop_s: float,
    mosaic_f0: ArrayLike | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the notes of a transposed mosaic: the target's as a line, and each grain as a bar on the note it plays.

    Seconds across, pitch upwards: notes on the left, Hz on the right. The colour of a bar says how far the grain was
    shifted. Where two bars are on one note at once, the earlier one lies under the other and is wider.

    Parameters
    ----------
    target_f0 : (N,) Hz, 0 where there is no pitch; or (M, N), a row for each voice of a chord.
    grains : (G, 4) begin and end in seconds, pitch in Hz, shift in semitones; those of a mosaic are in
        `smalti.workflows.outputs.grain_notes`.
    hop_s : float, at least 1e-6. Seconds from one frame of a track to the next.
    mosaic_f0 : (N,) Hz likewise, drawn as dots: the pitch that was tracked in the mosaic; None leaves it out.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError, TypeError : if an array has another shape, or values that are no such pitches, or `hop_s` is out of
        range.
    """
    tracks = np.atleast_2d(np.asarray(target_f0))
    n_frames = tracks.shape[-1]
    lines = [check_f0("target_f0", track, n_frames) for track in tracks]
    dots = np.zeros(n_frames) if mosaic_f0 is None else check_f0("mosaic_f0", mosaic_f0, n_frames)
    bars = np.asarray(grains, dtype=np.float64).reshape(-1, 4) if np.size(grains) == 0 else np.asarray(grains)
    if bars.ndim != 2 or bars.shape[1] != 4:
        raise ValueError(f"grains has shape {bars.shape}; pass begin, end, pitch and shift of each, shape (grains, 4)")
    if not (np.isfinite(bars).all() and (bars[:, 2] > 0).all()):
        raise ValueError(
            "grains holds values that are NaN or infinite, or pitches that are not above 0; leave them out"
        )
    check_real("hop_s", hop_s, least=1e-6)

    ax = axes_or_new(ax, (10, 5))
    ax.set_yscale("log")
    ax.set(xlim=(0, n_frames * hop_s), xlabel="Time (s)", ylabel="Note")
    pitch_axis(ax, np.concatenate([*lines, dots, bars[:, 2]]))
    reach = max(1.0, float(np.abs(bars[:, 3]).max(initial=0)))
    drawn = LineCollection([], cmap=SHIFT_COLOURS, clim=(-reach, reach), capstyle="butt", zorder=2)
    bars = bars[np.argsort(bars[:, 0], kind="stable")]
    drawn.set_segments([((begin, hz), (end, hz)) for begin, end, hz, _ in bars])
    drawn.set_array(bars[:, 3])
    drawn.set_linewidth((BAR + UNDER * covered(bars)).tolist())
    ax.add_collection(drawn, autolim=False)
    times = np.arange(n_frames) * hop_s
    for i, line in enumerate(lines):
        # A step to another note is no glide.
        leaps = 1 + np.flatnonzero(~(np.abs(np.diff(note_numbers(line))) < 1))
        label = "target" if i == 0 else None
        hz = np.insert(np.where(line > 0, line, np.nan), leaps, np.nan)
        ax.plot(np.insert(times, leaps, times[leaps]), hz, color="black", linewidth=1.2, label=label, zorder=3)
    if dots.any():
        heard = dots > 0
        # White with a rim, to be seen on the line as well as on bars of any colour.
        rim: dict[str, Any] = {"markersize": 4.5, "color": "white", "markeredgecolor": "black", "markeredgewidth": 0.6}
        ax.plot(times[heard], dots[heard], ".", **rim, label="mosaic, as tracked", zorder=4)
    bar = ax.figure.colorbar(drawn, ax=ax, label="Grains, shifted by (semitones)", pad=0.02, aspect=30)
    # Ticks stand in octaves, or in a step that divides one into a few even parts.
    bar.locator = MultipleLocator(next(step for step in (1, 2, 3, 6, 12) if reach <= 4 * step or step == 12))
    bar.formatter = FuncFormatter(lambda shift, _: f"{shift:+g}" if shift else "0")
    bar.update_ticks()
    if ax.lines:
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.1)
    if title is not None:
        ax.set_title(title, loc="left")
    return ax


def plot_score(score: Score, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw a score as a piano roll: seconds across, and a lane for each source, the most heard uppermost.

    A grain is a line in the lane of its source. Its height in the lane is its place in the source, whose beginning is
    at the bottom; the line rises as the source goes on. Louder grains are thicker and darker.

    Parameters
    ----------
    score : if it has more than twelve sources, all but the eleven most heard share a lane.
    ax : axes to draw on; None makes a figure.
    title : text above the picture.

    Returns
    -------
    The axes.
    """
    lanes = _lanes(score)
    ax = axes_or_new(ax, (10, 1.5 + 0.9 * max(2, len(lanes))))
    loudest = float(score.levels.max(initial=-np.inf))
    for lane, (_, origins) in enumerate(lanes):
        grains = np.flatnonzero(np.isin(score.origins, origins))
        if not len(grains):
            continue
        begins = np.array([score.sources[i].begin for i in score.origins[grains]])
        low, spans = (begins + score.centres[grains]) / score.sr, score.lengths[grains] * score.hop_s
        # A lane shows at least two seconds of its source, so that a single grain does not stand upright in it.
        first = float(low.min())
        last = max(float((low + spans).max()), first + 2.0)
        # A little of the lane stays free on either side.
        bottom, rise = (0.06 + 0.88 * (part - first) / (last - first) for part in (low, low + spans))
        start = score.frames[grains] * score.hop_s
        loud = np.clip(1 + (score.levels[grains] - loudest) / LANE_DB, 0.05, 1)
        base = len(lanes) - 1 - lane
        ends = zip(start, base + bottom, start + spans, base + rise, strict=True)
        colours = np.zeros((len(grains), 4))
        colours[:, :3] = LANE_COLOURS[lane % len(LANE_COLOURS)]
        colours[:, 3] = 0.15 + 0.85 * loud
        drawn = [((x0, y0), (x1, y1)) for x0, y0, x1, y1 in ends]
        ax.add_collection(LineCollection(drawn, colors=colours, linewidths=1 + BAR * loud), autolim=False)
        ax.axhline(base, color="0.8", linewidth=0.8, zorder=0)
    ax.set(xlim=(0, score.length / score.sr), ylim=(0, max(1, len(lanes))), xlabel="Time (s)")
    ax.set_yticks(np.arange(len(lanes))[::-1] + 0.5, [label for label, _ in lanes])
    ax.tick_params(axis="y", length=0)
    if title is not None:
        ax.set_title(title, loc="left")
    return ax


def _lanes(score: Score) -> list[tuple[str, list[int]]]:
    """The label of each lane, and the places of the score's sources that lie in it."""
    heard = summary(score)
    own = heard if len(heard) <= MOST_LANES else heard[: MOST_LANES - 1]
    lanes = [
        (
            f"{short(usage.name)}\n{usage.time_share:.0%}",
            [i for i, s in enumerate(score.sources) if s.name == usage.name],
        )
        for usage in own
    ]
    if rest := heard[len(own) :]:
        names = {usage.name for usage in rest}
        label = f"{len(rest)} others\n{sum(usage.time_share for usage in rest):.0%}"
        lanes.append((label, [i for i, source in enumerate(score.sources) if source.name in names]))
    return lanes
