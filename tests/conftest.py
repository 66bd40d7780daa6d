"""Shared fixtures: one seeded generator, so that every test's noise is the same on every run."""

import os
from dataclasses import dataclass

# Two test processes with two BLAS threads each on two cores wait for one another more than they work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20150)


@dataclass
class Result:
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    """Run a command in this process, as the entry point does, but for SIGTERM, which stays the test runner's."""
    from smalti.cli import main

    def call(*arguments):
        code = main.run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return call
