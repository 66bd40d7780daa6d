"""Shared fixtures: one seeded generator, so that every test's noise is the same on every run."""

import os
import signal
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
    """Run a command in this process, which takes over SIGTERM; the test runner has its own again afterwards."""
    from smalti.cli import main

    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Result(stopped.value.code, said.out, said.err)

    before = signal.getsignal(signal.SIGTERM)
    yield call
    signal.signal(signal.SIGTERM, before)
