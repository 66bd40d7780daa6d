"""Shared fixtures: one seeded generator, so that every test's noise is the same on every run."""

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20150)
