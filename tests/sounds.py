"""Recordings that tests make mosaics of."""

import numpy as np


def notes(rng, seconds, sr, *, octaves):
    """(seconds * sr,) float32: a short note every 0.2 s, at random up to so many octaves above 100 Hz, over a hush."""
    t = np.arange(round(seconds * sr)) / sr
    out = 1e-3 * rng.standard_normal(len(t))
    for start in np.arange(0, seconds, 0.2):
        span = (t >= start) & (t < start + 0.2)
        out[span] += 0.2 * np.sin(2 * np.pi * 100 * 2 ** rng.uniform(0, octaves) * t[span])
    return out.astype(np.float32)
