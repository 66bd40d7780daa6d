"""Shared fixtures: one seeded generator, so that every test's noise is the same on every run."""

import os
from dataclasses import dataclass

# Two test processes on two cores, each with two BLAS threads, would mostly wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

# The same examples on every run, and no clock.
settings.register_profile("smalti", derandomize=True, deadline=None, database=None, max_examples=60)
settings.load_profile("smalti")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20150)


@dataclass
class Result:
    """The exit code of a command, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    """Run a command in this process, as the entry point does, but for SIGTERM, which stays the test runner's."""
    from smalti.cli import main

    def call(*arguments):
        code = main.run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    return call
