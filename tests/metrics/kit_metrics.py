"""Signals that the tests of measures share."""

import numpy as np

from smalti.metrics.features import GRID, RATE

SECONDS = 6

HOP_S = GRID.hop / RATE


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def sine(hz, seconds=1.0, sr=RATE):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * sr)) / sr)
