"""Sounds that differ only by rounding have mosaics that differ only by rounding."""

import numpy as np
import pytest
from test_channels import make, sound

pytestmark = pytest.mark.samples

# The largest change allowed, as a share of the loudest sample. A change of 1e-11 in the source changes the mosaic 30 to
# 300 times as much. It changed it by 1e-5 to 7e-4 when rounding could tip the line search of `smalti.nmf._newton`.
STILL = 1e-7


@pytest.mark.parametrize("phase", ["source", "griffin-lim"])
@pytest.mark.parametrize("preset", ["balanced", "percussive"])
def test_a_source_that_differs_by_rounding_makes_a_mosaic_that_differs_by_rounding(preset, phase):
    worst = 0.0
    for seed in range(3):
        target, source = sound(1, 2000, seed=seed), sound(1, 2500, seed=seed + 10)
        audio = make(target, source, preset=preset, phase=phase).audio
        for relative in (1e-15, 1e-13, 1e-11):
            noise = np.random.default_rng(seed).standard_normal(len(source))
            other = make(target, source * (1 + relative * noise), preset=preset, phase=phase).audio
            worst = max(worst, float(np.abs(other - audio).max() / np.abs(audio).max()))
    assert 0 < worst < STILL


def test_a_larger_change_of_the_source_exceeds_the_limit_for_rounding():
    target, source = sound(1, 2000, seed=0), sound(1, 2500, seed=10)
    audio = make(target, source, preset="balanced").audio
    noise = np.random.default_rng(0).standard_normal(len(source))
    other = make(target, source * (1 + 1e-4 * noise), preset="balanced").audio
    assert np.abs(other - audio).max() > 100 * STILL * np.abs(audio).max()
