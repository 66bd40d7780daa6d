"""Estimate the memory of a job, and refuse one that the machine cannot hold."""

import math
import os

from smalti.curves import Curve
from smalti.dsp.stft import StftParams
from smalti.errors import SmaltiError
from smalti.mosaicing.search_plan import SearchPlan
from smalti.score.score import Score
from smalti.settings import Settings
from smalti.workflows.inputs import Inputs

# Rows of the stacked views at most, and how many copies of them there are while they are stacked.
N_VIEW_BANDS, VIEW_COPIES = 620, 5


def memory_needed(
    n_atoms: int,
    n_frames: int,
    settings: Settings,
    params: StftParams,
    *,
    channels: int = 1,
    sr: int = 22050,
    painted: bool = False,
) -> int:
    """Bytes that a job takes where it takes most, estimated from above.

    Parameters
    ----------
    n_atoms, n_frames : source and target frames.
    settings, params : of the job.
    channels, sr : of the mosaic. painted : whether it has a sketch.
    """
    voices, notes = _voices_and_notes(settings)
    # Every voice has activations of its own.
    n_rows = voices * n_atoms
    numbers = _in_spectra(n_atoms, n_frames, settings, params, sr)
    numbers += _in_channels(n_atoms, n_frames, params, channels)
    if settings.compare == "views":
        # Views have windows of their own, and so as many bands whatever the grid is.
        numbers += VIEW_COPIES * N_VIEW_BANDS * (n_atoms + n_frames)
    if notes:
        numbers += _in_pitch_tracks(n_atoms, n_frames, params, sr) + notes * N_VIEW_BANDS * n_atoms
    if settings.choose:
        # The random start, in double precision, and the contributions that grains are read from.
        numbers += 4 * n_rows * n_frames
    numbers += _in_solver(n_rows, n_frames, settings, params, painted)
    return 4 * numbers


# Each of the functions below counts float32 numbers: how many arrays of one shape are alive at once when a job needs
# most memory, as measured, times the size of one.


def _voices_and_notes(settings: Settings) -> tuple[int, int]:
    """How many voices have activations, and at how many notes the source is compared; 1 and 0 without transposition.

    The way that "auto" will choose is not known yet. Most often it follows one melody, so that is counted.
    """
    transpose = settings.transpose
    if isinstance(transpose, Curve):
        return 1, int(transpose.most - transpose.least) + 2
    if isinstance(transpose, tuple):
        shifts = int(transpose[1] - transpose[0]) + 1
        return shifts, shifts
    return {"off": (1, 0), "chords": (settings.voices, 36)}.get(transpose, (1, 24))


def _in_spectra(n_atoms: int, n_frames: int, settings: Settings, params: StftParams, sr: int) -> int:
    """Spectra of source and target, and what makes the sound of them or measures it."""
    per_frame = 18 if settings.phase == "griffin-lim" else 12
    # The meter works in double precision. It interpolates samples slower than 16 kHz to twice as many.
    per_frame = max(per_frame, 16 if sr < 16000 else 11)
    if settings.leaks:
        # The leak is measured at 22 050 Hz whatever the rate.
        per_frame = max(per_frame, 4 + math.ceil(14 * 22050 / sr))
    return params.n_bins * (6 * n_atoms + per_frame * n_frames)


def _in_channels(n_atoms: int, n_frames: int, params: StftParams, channels: int) -> int:
    """The samples and frames of several channels, and the sums of their grains; the frames of one channel stay."""
    if channels == 1:
        return 0
    return params.n_bins * ((3 + 2 * channels) * n_atoms + (8 + 4 * channels) * n_frames)


def _in_pitch_tracks(n_atoms: int, n_frames: int, params: StftParams, sr: int) -> int:
    """Spectra that pitch is tracked in, at up to 48 kHz, of half a minute of source at a time."""
    return 8 * max(1, 48000 // sr) * params.hop * (min(n_atoms, 30 * sr // params.hop) + n_frames)


def _in_solver(n_rows: int, n_frames: int, settings: Settings, params: StftParams, painted: bool) -> int:
    """Activations and their updates. With nothing to thin them out, most is needed to make them a sparse matrix."""
    if settings.method == "pursuit":
        # Blocks of 256 frames are solved together, each with atoms of its own, in double precision.
        block = min(256, n_frames) * min(settings.constant_layers or n_rows, n_rows)
        return 5 * params.n_bins * block + 5 * n_rows * n_frames
    # A sketch is written out, times the norms of atoms, and as the places that are forbidden.
    return ((7 if settings.layers else 12) + 3 * painted) * n_rows * n_frames


def memory_searched(n_atoms: int, n_frames: int, params: StftParams, *, channels: int = 1, held: bool = True) -> int:
    """Bytes that a job takes where its source is searched, estimated from above.

    Parameters
    ----------
    n_atoms, n_frames : source and target frames. params : of the job. channels : of the mosaic.
    held : whether the source's looks and sound lie in memory, or are mapped from a disk.
    """
    # Keys, levels and what tells which atom is where; the looks, in half precision, and the sound.
    of_source = 300 + (2 * N_VIEW_BANDS + 8 * channels * params.hop if held else 0)
    # The target's looks, what is missing of them, hits and lists; then the spectra of target, grains and mosaic.
    of_target = 6 * 4 * N_VIEW_BANDS + 16 * 256 + 8192 + 4 * params.n_bins * (18 + 8 * channels)
    return n_atoms * of_source + n_frames * of_target


def check_memory(inputs: Inputs, settings: Settings, plan: SearchPlan, *, painted: bool = False) -> int:
    """The bytes that a job takes, after refusing one that cannot fit rather than bring the machine to its knees.

    `painted` is whether it has a sketch.

    Raises
    ------
    SmaltiError : if it would need more memory than the machine has.
    """
    params, source = plan.params, inputs.source
    n_frames, n_atoms = params.n_frames(inputs.target.samples.shape[-1]), source.n_frames(params)
    channels = inputs.channels_of(settings)
    if plan.searched:
        needed = memory_searched(n_atoms, n_frames, params, channels=channels, held=source.in_memory)
    else:
        needed = memory_needed(n_atoms, n_frames, settings, params, channels=channels, sr=inputs.sr, painted=painted)
    _check_fits(
        needed,
        f"{n_atoms} source frames by {n_frames} target frames",
        "take a shorter target (--start, --end), less source, or a longer --hop",
    )
    return needed


def check_score_memory(score: Score) -> None:
    """Refuse a score whose sound would need more memory than the machine has; errors as for `check_memory`."""
    needed = memory_searched(len(score.gains), score.n_frames, score.params, channels=score.channels)
    # Transposed grains are made first, with their surroundings; a tape reads as many times more as its ratio.
    for shift in score.shifts:
        if shift is not None:
            span = (2 * shift.before + shift.length) * score.params.hop
            needed += int(24 * score.channels * span * (1 + float(shift.ratios.max(initial=1))))
    what = f"{len(score)} grains in {score.length / score.sr:.0f} s"
    _check_fits(needed, what, "make it of a shorter target")


def _check_fits(needed: int, what: str, instead: str) -> None:
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return
    if needed > 0.9 * available:
        raise SmaltiError(
            f"{what} need about {needed / 1e9:.0f} GB of memory and this machine has {available / 1e9:.0f}; {instead}"
        )
