"""Estimate the memory that a job takes."""

import math

from smalti.curves import Curve
from smalti.dsp.loudness import SLOWEST_HZ
from smalti.dsp.pitch import HIGHEST_RATE, TRACKED_S
from smalti.dsp.stft import StftParams
from smalti.grains.descriptors import DESCRIPTOR_SIZES, n_bands
from smalti.grains.transposition import CHORD_NOTES, MELODY_NOTES
from smalti.metrics.features import RATE
from smalti.mosaicing.candidates import HIT_BYTES, HITS, LISTED_BYTES
from smalti.nmf.pursuit import SOLVED_TOGETHER
from smalti.score.score import Score
from smalti.settings import Settings

# The number of copies of the stacked views while they are stacked.
_VIEW_COPIES = 6
# Bytes that a source frame takes in a search beside its descriptor: its level, its place, and its recording.
_PLACE_BYTES = 60


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
    """Peak memory of a job in bytes, estimated from above.

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
        numbers += _VIEW_COPIES * n_bands(params.hop, sr) * (n_atoms + n_frames)
    if notes:
        numbers += _in_pitch_tracks(n_atoms, n_frames, params, sr) + notes * n_bands(params.hop, sr) * n_atoms
    if settings.choose:
        # The random start, in double precision, and the contributions that grains are read from.
        numbers += 4 * n_rows * n_frames
    numbers += _in_solver(n_rows, n_frames, settings, params, painted)
    return 4 * numbers


# The functions below count float32 numbers: the size of an array times the number of such arrays that are alive at once
# when a job needs most memory, as measured.


def _voices_and_notes(settings: Settings) -> tuple[int, int]:
    """Numbers of voices with activations and of notes at which the source is compared; 1 and 0 without transposition.

    The choice of "auto" is not known yet. It most often follows one melody, so that is counted.
    """
    transpose = settings.transpose
    if isinstance(transpose, Curve):
        return 1, int(transpose.most - transpose.least) + 2
    if isinstance(transpose, tuple):
        shifts = int(transpose[1] - transpose[0]) + 1
        return shifts, shifts
    return {"off": (1, 0), "chords": (settings.voices, CHORD_NOTES)}.get(transpose, (1, MELODY_NOTES))


def _in_spectra(n_atoms: int, n_frames: int, settings: Settings, params: StftParams, sr: int) -> int:
    """Spectra of source and target, and arrays of synthesis and measurement."""
    per_frame = 18 if settings.phase == "griffin-lim" else 12
    # The loudness meter works in double precision, and raises rates that are too slow for it.
    per_frame = max(per_frame, 16 if sr < SLOWEST_HZ else 11)
    if settings.leaks:
        # The leak is measured at the rate of the measures, whatever that of the mosaic.
        per_frame = max(per_frame, 4 + math.ceil(14 * RATE / sr))
    return params.n_bins * (6 * n_atoms + per_frame * n_frames)


def _in_channels(n_atoms: int, n_frames: int, params: StftParams, channels: int) -> int:
    """Samples and frames of several channels, and the sums of their grains, on top of those of one channel."""
    if channels == 1:
        return 0
    return params.n_bins * ((3 + 2 * channels) * n_atoms + (8 + 4 * channels) * n_frames)


def _in_pitch_tracks(n_atoms: int, n_frames: int, params: StftParams, sr: int) -> int:
    """Spectra for pitch tracking, of the whole target and of one block of the source at a time."""
    tracked = min(n_atoms, TRACKED_S * sr // params.hop) + n_frames
    return 8 * max(1, HIGHEST_RATE // sr) * params.hop * tracked


def _in_solver(n_rows: int, n_frames: int, settings: Settings, params: StftParams, painted: bool) -> int:
    """Activations and their updates. If no layers thin them out, converting them to a sparse matrix needs most."""
    if settings.method == "pursuit":
        # Frames that are solved together have atoms of their own each, in double precision.
        block = min(SOLVED_TOGETHER, n_frames) * min(settings.constant_layers or n_rows, n_rows)
        return 5 * params.n_bins * block + 5 * n_rows * n_frames
    # A sketch takes three arrays: itself, its product with the norms of atoms, and the forbidden places.
    return ((7 if settings.layers else 12) + 3 * painted) * n_rows * n_frames


def memory_searched(
    n_atoms: int, n_frames: int, params: StftParams, *, channels: int = 1, sr: int = 22050, held: bool = True
) -> int:
    """Peak memory in bytes of a job whose source is searched, estimated from above.

    Parameters
    ----------
    n_atoms, n_frames : source and target frames. params : of the job. channels, sr : of the mosaic.
    held : whether the source's features and sound lie in memory rather than being mapped from a disk.
    """
    bands = n_bands(params.hop, sr)
    # Descriptors and features are in half precision, the sound is not.
    of_source = 2 * sum(DESCRIPTOR_SIZES) + _PLACE_BYTES + (2 * bands + 8 * channels * params.hop if held else 0)
    # The target's features and their residuals, hits and lists; then the spectra of target, grains and mosaic.
    of_target = 6 * 4 * bands + HITS * HIT_BYTES + LISTED_BYTES + 4 * params.n_bins * (18 + 8 * channels)
    return n_atoms * of_source + n_frames * of_target


def memory_of_score(score: Score) -> int:
    """Peak memory in bytes of rendering a score, estimated from above."""
    needed = memory_searched(len(score.gains), score.n_frames, score.params, channels=score.channels, sr=score.sr)
    # Transposed grains are made first, with their surroundings. A tape reads more by the factor of its ratio.
    for shift in score.shifts:
        if shift is not None:
            span = (2 * shift.before + shift.length) * score.params.hop
            needed += int(24 * score.channels * span * (1 + float(shift.ratios.max(initial=1))))
    return needed
