"""Rounding does not decide what a mosaic sounds like: sounds that differ by rounding have mosaics that do."""

import numpy as np
import pytest
from test_channels import make, sound

pytestmark = pytest.mark.samples

# Of the loudest sample. What follows a change of 1e-11 is 30 to 300 times as large; before the line search of
# `smalti.nmf._newton` could not be tipped by rounding, it was 1e-5 to 7e-4.
STILL = 1e-7


@pytest.mark.parametrize("phase", ["source", "griffin-lim"])
@pytest.mark.parametrize("preset", ["balanced", "percussive"])
def test_a_source_that_differs_by_rounding_makes_a_mosaic_that_does(preset, phase):
    worst = 0.0
    for seed in range(3):
        target, source = sound(1, 2000, seed=seed), sound(1, 2500, seed=seed + 10)
        audio = make(target, source, preset=preset, phase=phase).audio
        for relative in (1e-15, 1e-13, 1e-11):
            noise = np.random.default_rng(seed).standard_normal(len(source))
            other = make(target, source * (1 + relative * noise), preset=preset, phase=phase).audio
            worst = max(worst, float(np.abs(other - audio).max() / np.abs(audio).max()))
    assert 0 < worst < STILL


def test_a_change_that_is_heard_is_not_taken_for_rounding():
    target, source = sound(1, 2000, seed=0), sound(1, 2500, seed=10)
    audio = make(target, source, preset="balanced").audio
    noise = np.random.default_rng(0).standard_normal(len(source))
    other = make(target, source * (1 + 1e-4 * noise), preset="balanced").audio
    assert np.abs(other - audio).max() > 100 * STILL * np.abs(audio).max()
