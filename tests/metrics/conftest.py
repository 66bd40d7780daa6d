"""The demo's target and source as a pair to measure mosaics of, three mosaics of them, and a burst of drums."""

from dataclasses import replace

import numpy as np
import pytest
from kit_metrics import SECONDS, noise

import smalti
from smalti.metrics import reference
from smalti.metrics.features import RATE
from smalti.workflows.demo import demo_source, demo_target


@pytest.fixture(scope="module")
def target():
    return demo_target()[: SECONDS * RATE]


@pytest.fixture(scope="module")
def source():
    return demo_source(seconds=10.0)


@pytest.fixture(scope="module")
def excerpt(source):
    """The source itself, as long as the target."""
    return source[3 * RATE : (3 + SECONDS) * RATE]


@pytest.fixture(scope="module")
def pair(target, source):
    return reference(target, source, RATE)


@pytest.fixture(scope="module")
def drums():
    """Eight bursts of noise, one every 0.4 s, each dying away within 0.3 s: samples and their times."""
    times = 0.2 + 0.4 * np.arange(8)
    y = np.zeros(round(3.5 * RATE))
    for i, start_s in enumerate(times):
        start, length = round(start_s * RATE), round(0.3 * RATE)
        y[start : start + length] += noise(i, length) * np.exp(-np.arange(length) / (0.06 * RATE))
    return y, times


@pytest.fixture(scope="module")
def mosaics(target, source):
    """One by source frames, one with the target's phase, one of plain updates without any rule."""
    classic = replace(smalti.PRESETS["classic"], iterations=25)
    made = {
        "classic": classic,
        "notebook": replace(smalti.PRESETS["notebook"], iterations=50),
        "plain": replace(classic, layers=None, no_repeat_s=0.0, grain_length_s=0.0),
    }
    return {name: smalti.mosaic(target, source, RATE, preset=settings) for name, settings in made.items()}
