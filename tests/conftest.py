"""Shared fixtures: one seeded generator, so that every test's noise is the same on every run."""

import os

# Two test processes with two BLAS threads each on two cores wait for one another more than they work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20150)
