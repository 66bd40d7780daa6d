"""Sounds that tests measure, or make mosaics of."""

import numpy as np

from smalti.grains import sound
from smalti.presets import PRESETS


def cleaned(samples, sr):
    """(L,) or (C, L) `samples` as the presets that search clean a recording of the source."""
    return sound.cleaned([samples], sr, PRESETS["balanced"])[0]


def notes(rng, seconds, sr, *, octaves):
    """(seconds * sr,) float32: a short note every 0.2 s, at random up to so many octaves above 100 Hz, over a hush."""
    t = np.arange(round(seconds * sr)) / sr
    out = 1e-3 * rng.standard_normal(len(t))
    for start in np.arange(0, seconds, 0.2):
        span = (t >= start) & (t < start + 0.2)
        out[span] += 0.2 * np.sin(2 * np.pi * 100 * 2 ** rng.uniform(0, octaves) * t[span])
    return out.astype(np.float32)


def tone(seconds, level_db=0.0, hz=1000.0, sr=16000):
    """(seconds * sr,) float64: a sine whose peaks reach `level_db` dB of full scale."""
    return 10 ** (level_db / 20) * np.sin(2 * np.pi * hz * np.arange(round(seconds * sr)) / sr)


def db(ratio):
    return 20 * np.log10(ratio)


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)
