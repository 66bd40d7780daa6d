"""Transcription of a mixture: which notes sound when, and which voice plays them.

A transcription is meant to be played again, so a wrong octave or a partial taken for a note does no harm: playing it
makes the source sound like the target at that moment.
"""

from dataclasses import dataclass

import numpy as np

from smalti._checks import Floats, check_count
from smalti.dsp.bands import AUDIBLE_DB
from smalti.dsp.stft import StftParams, stft

# A note sounds while it is at most so far under the loudest note of its moment.
NOTE_UNDER_FRAME_DB = 26.0
# A note may pause for so many frames. One shorter than this many frames is left out.
NOTE_GAP, SHORTEST = 4, 5

# Tuning is read from the peaks of long windows, at most 40 dB under the loudest, where instruments have fundamentals.
_TUNING_WINDOW_S, _TUNING_DB, _TUNING_HZ = 0.37, 40.0, (100.0, 2500.0)
_TUNING_BLOCK_S = 30


@dataclass(frozen=True)
class Note:
    """A note of a transcription: index of its pitch, first frame, one past its last, and its energy."""

    pitch: int
    start: int
    end: int
    energy: float


def spectral_tuning(samples: Floats, sr: int) -> tuple[float, float]:
    """How far the notes of a mixture lie above the equal temperament of A4 = 440 Hz, and how sure that is.

    Parameters
    ----------
    samples : (L,) float array, one channel. sr : Hz.

    Returns
    -------
    cents in (-50, 50], and the concentration of the peaks around them: 1 if all are a whole number of semitones apart,
        0 if they lie anywhere, as in noise and speech. Both 0 for silence.

    References
    ----------
    Circular mean, as in Mardia & Jupp (2000), "Directional Statistics", section 2.2.
    """
    params = StftParams.from_seconds(_TUNING_WINDOW_S, _TUNING_WINDOW_S / 4, sr)
    total, weight = 0j, 0.0
    # Stretch by stretch, which bounds the memory.
    for start in range(0, len(samples), _TUNING_BLOCK_S * sr):
        hz, magnitudes = _peaks(samples[start : start + _TUNING_BLOCK_S * sr], params, sr)
        total += complex((magnitudes * np.exp(2j * np.pi * 12 * np.log2(hz / 440))).sum())
        weight += float(magnitudes.sum())
    if not weight:
        return 0.0, 0.0
    return float(np.angle(total)) * 50 / np.pi, abs(total) / weight


def _peaks(samples: Floats, params: StftParams, sr: int) -> tuple[Floats, Floats]:
    """Frequencies and magnitudes of the spectral peaks that tuning is read from, (P,) float64 each."""
    magnitudes = np.abs(stft(samples, params))
    loudest = float(magnitudes.max())
    if loudest == 0:
        return np.zeros(0), np.zeros(0)
    levels = np.log(np.maximum(magnitudes, 1e-6 * loudest))
    left, here, right = levels[:-2], levels[1:-1], levels[2:]
    bins, frames = np.nonzero((here > left) & (here >= right) & (here > np.log(loudest) - _TUNING_DB / 20 * np.log(10)))
    # The top of a parabola through three logarithms; a Hann window's main lobe nearly is one.
    under, top, over = (levels[bins + step, frames].astype(np.float64) for step in (0, 1, 2))
    hz = (bins + 1 + 0.5 * (under - over) / (under - 2 * top + over)) * (sr / params.n_fft)
    chosen = (hz > _TUNING_HZ[0]) & (hz < _TUNING_HZ[1])
    return hz[chosen], magnitudes[bins + 1, frames].astype(np.float64)[chosen]


def sounding_notes(loudness: Floats, *, most: int) -> list[Note]:
    """Read the notes from how loud every pitch is in every frame.

    Parameters
    ----------
    loudness : (S, N) float array, >= 0: activations of pitches, times the norms of what they activate.
    most : int >= 1. Only this many pitches sound in a frame, the loudest ones.

    Returns
    -------
    list of Note, the strongest first; equal ones by pitch, then time.
    """
    check_count("most", most, least=1)
    if loudness.size == 0 or not loudness.any():
        return []
    # Frames are averaged with their neighbours, so that a note that is weak for one frame still sounds.
    smooth = _mean_of_three(loudness)
    least = np.sort(smooth, axis=0)[-most] if most < len(smooth) else np.zeros(smooth.shape[1])
    floor = np.maximum(smooth.max(axis=0) * 10 ** (-NOTE_UNDER_FRAME_DB / 20), smooth.max() * 10 ** (-AUDIBLE_DB / 20))
    on = (smooth > 0) & (smooth >= np.maximum(least, floor))
    notes = []
    for pitch in np.flatnonzero(on.any(axis=1)).tolist():
        frames = np.flatnonzero(on[pitch])
        breaks = np.flatnonzero(np.diff(frames) > NOTE_GAP + 1)
        for start, end in zip(frames[np.r_[0, breaks + 1]], frames[np.r_[breaks, -1]] + 1, strict=True):
            if end - start >= SHORTEST:
                energy = float(np.square(smooth[pitch, start:end], dtype=np.float64).sum())
                notes.append(Note(pitch, int(start), int(end), energy))
    return sorted(notes, key=lambda note: (-note.energy, note.pitch, note.start))


def as_melodies(notes: list[Note], pitches_hz: Floats, *, voices: int, n_frames: int) -> Floats:
    """Give every note a free voice, the strongest note first; notes that find none are left out.

    Parameters
    ----------
    notes : from `sounding_notes`. pitches_hz : (S,) Hz of each pitch.
    voices : int >= 1. n_frames : N.

    Returns
    -------
    (voices, N) float64, Hz, 0 where a voice rests.
    """
    check_count("voices", voices, least=1)
    melodies = np.zeros((voices, n_frames))
    for note in notes:
        free = np.flatnonzero(~melodies[:, note.start : note.end].any(axis=1))
        if len(free):
            melodies[free[0], note.start : note.end] = pitches_hz[note.pitch]
    return melodies


def _mean_of_three(values: Floats) -> Floats:
    padded = np.pad(values, ((0, 0), (1, 1)), mode="edge")
    mean: Floats = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    return mean
