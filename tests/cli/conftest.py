"""Commands run in a folder with a target and a source, and on one thread."""

import os

import numpy as np
import pytest
from kit import N, put, tone
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread():
    """Limit BLAS to one thread: test workers that each use every core wait for one another."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """The working folder, with a target and with a source that sounds at every frequency."""
    put(tmp_path / "target.wav", tone())
    put(tmp_path / "source.wav", (0.1 * rng.standard_normal(N)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make(run, folder):
    """Run ``smalti make`` with two iterations, out of the files in `folder`."""

    def call(*options, target="target.wav", source="source.wav", output="out.wav"):
        steps = () if {"--iterations", "sparse"} & set(options) else ("--iterations", "2")
        sources = [source] if isinstance(source, str | os.PathLike) else source
        return run("make", "-o", output, *steps, *options, "--", target, *sources)

    return call
