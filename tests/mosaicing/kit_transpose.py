"""A source, a melody, and what their mosaics sound like."""

from dataclasses import replace

import numpy as np

from smalti import PRESETS, StftParams, mosaic

SR = 11025


FOLLOW = replace(PRESETS["melodic"], transpose="follow")


GRID = StftParams.from_seconds(FOLLOW.window_s, FOLLOW.hop_s, SR)


SECONDS = 1.2


LENGTH = round(SECONDS * SR)


def tone(hz, partials=(1, 0.5, 0.33, 0.25, 0.2), *, seconds=SECONDS):
    """A note whose frequency is a number, or an array with one for each sample."""
    hz = np.broadcast_to(np.asarray(hz, float), round(seconds * SR) if np.ndim(hz) == 0 else len(hz))
    phase = 2 * np.pi * np.cumsum(hz) / SR
    return 0.2 * sum(level * np.sin(k * phase) * (k * hz < 0.45 * SR) for k, level in enumerate(partials, 1))


def written(hz, length=LENGTH):
    """The pitch track (N,) of one frequency, or of one for each sample."""
    at = np.minimum(np.arange(GRID.n_frames(length)) * GRID.hop, length - 1)
    return np.broadcast_to(np.asarray(hz, float), length)[at]


def steps_of(*notes):
    """Notes of equal length, as a frequency for each sample."""
    return np.repeat(np.array(notes, float), -(-LENGTH // len(notes)))[:LENGTH]


SOURCE_HZ = 220.0


SOURCE = tone(SOURCE_HZ, seconds=1.0)


SOURCE_F0 = written(SOURCE_HZ, len(SOURCE))


MELODY = steps_of(330, 262, 392)


TARGET = tone(MELODY, (1, 0.3))


def made(target=TARGET, source=SOURCE, *, preset=FOLLOW, target_f0=None, source_f0=SOURCE_F0, **options):
    return mosaic(target, source, SR, preset=preset, target_f0=target_f0, source_f0=source_f0, **options)


def sung(hz=MELODY, **options):
    """The mosaic of a melody, a frequency for each sample, that is given rather than tracked."""
    return made(tone(hz, (1, 0.3)), target_f0=written(hz), **options)


def peak_cents(sound, hz, within=150):
    """The distance in cents from `hz` to the spectrum's highest peak within `within` cents of it."""
    n = len(sound)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(n), 16 * n))
    low, high = (round(hz * 2 ** (side * within / 1200) * 16 * n / SR) for side in (-1, 1))
    return 1200 * np.log2((low + spectrum[low:high].argmax()) * SR / (16 * n) / hz)


def assert_plays(audio, *notes, off=0.0, within=10):
    """Assert that each note sounds in its time, apart from 60 ms around every change."""
    length, edge = len(audio) // len(notes), round(0.06 * SR)
    for i, hz in enumerate(notes):
        assert abs(peak_cents(audio[i * length + edge : (i + 1) * length - edge], hz) - off) < within


def level_db(sound, hz, width_hz=25.0):
    """The highest peak around a frequency, in dB of the spectrum's highest peak."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    at = np.fft.rfftfreq(len(sound), 1 / SR)
    return 20 * np.log10(spectrum[np.abs(at - hz) < width_hz].max() / spectrum.max())


CHORD = (262.0, 330.0, 392.0)
