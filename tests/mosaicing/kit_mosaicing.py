"""Short sounds, a coarse grid, and lists of presets and phases to make mosaics with."""

import numpy as np
import pytest

from smalti import PRESETS, StftParams, mosaic
from smalti.dsp.phase import PHASES

SR = 8000


GRID = StftParams(256, 64)


LENGTH = 3000


EVERY_PRESET = pytest.mark.parametrize("preset", sorted(PRESETS))


# Presets whose source frames sound at their own pitch.
UNSHIFTED = sorted(name for name, settings in PRESETS.items() if settings.transpose == "off")


AS_RECORDED = pytest.mark.parametrize("preset", UNSHIFTED)


EVERY_PHASE = pytest.mark.parametrize("phase", PHASES)


TYPES = [np.float32, np.float64]


EVERY_TYPE = pytest.mark.parametrize("dtype", TYPES)


# Presets that end with the updates and choose nothing.
PLAIN = pytest.mark.parametrize(
    "preset", sorted(name for name, own in PRESETS.items() if own.method == "updates" and own.choose is None)
)


def glide(length, hz, sr=SR, seed=1):
    """A quiet rising tone in a little noise: no two frames are alike, and none is silent."""
    t = np.arange(length) / sr
    return 0.1 * np.sin(2 * np.pi * hz * t * (1 + t)) + 0.01 * np.random.default_rng(seed).standard_normal(length)


TARGET, SOURCE = glide(LENGTH, 500, seed=1), glide(4000, 300, seed=2)


def make(target=TARGET, source=SOURCE, sr=SR, *, preset="classic", params=GRID, **options):
    return mosaic(target, source, sr, preset=preset, params=params, **options)


def briefly(preset):
    return {"iterations": 2} if PRESETS[preset].method == "updates" else {}
