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
    # How many float32 arrays of each shape are alive at once where a job needs most, as measured. Activations that no
    # rule thins out need most at the end, in becoming a sparse matrix that is not sparse.
    frames = 18 if settings.phase == "griffin-lim" else 12
    # The meter works in double precision, and on twice the samples where these are slower than 16 kHz.
    frames = max(frames, 16 if sr < 16000 else 11)
    if settings.leaks:
        # Measured at 22 050 Hz whatever the rate.
        frames = max(frames, 4 + math.ceil(14 * 22050 / sr))
    numbers = params.n_bins * (6 * n_atoms + frames * n_frames)
    if channels > 1:
        # The samples of all channels, their frames, of which those of one stay, and the sums of grains of all.
        numbers += params.n_bins * ((3 + 2 * channels) * n_atoms + (8 + 4 * channels) * n_frames)
    if settings.compare == "views":
        # Views have their own windows, and so as many bands whatever the grid is.
        numbers += VIEW_COPIES * N_VIEW_BANDS * (n_atoms + n_frames)
    if settings.transpose != "off":
        # Pitch is tracked at up to 48 kHz, by way of spectra.
        numbers += 8 * max(1, 48000 // sr) * params.hop * (min(n_atoms, 30 * sr // params.hop) + n_frames)
        # The source at every note, and its activations in every voice. What "auto" will decide is not known yet; most
        # often one melody is followed.
        voices, notes = {"chords": (settings.voices, 36)}.get(str(settings.transpose), (1, 24))
        if isinstance(settings.transpose, Curve):
            notes = int(settings.transpose.most - settings.transpose.least) + 2
        elif isinstance(settings.transpose, tuple):
            voices = notes = int(settings.transpose[1] - settings.transpose[0]) + 1
        numbers += notes * N_VIEW_BANDS * n_atoms
        n_atoms *= voices
    if settings.choose:
        # The start as it was drawn, in double precision, and the contributions that grains are read from.
        numbers += 4 * n_atoms * n_frames
    if settings.method == "pursuit":
        # Blocks of 256 frames are solved together, each with atoms of its own, in double precision.
        numbers += 5 * params.n_bins * min(256, n_frames) * min(settings.constant_layers or n_atoms, n_atoms)
        numbers += 5 * n_atoms * n_frames
    else:
        # A sketch is written out, times the norms of atoms, and as what is forbidden.
        numbers += ((7 if settings.layers else 12) + 3 * painted) * n_atoms * n_frames
    return 4 * numbers


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
