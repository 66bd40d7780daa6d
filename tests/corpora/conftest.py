"""A folder of recordings, and the corpus of it."""

import pytest
from kit_corpora import build, noise, put

from smalti.corpora import build as corpora_build
from smalti.corpora import segments


@pytest.fixture
def folder(tmp_path, rng):
    """Four files in three folders."""
    put(tmp_path / "sounds" / "rain" / "a.wav", noise(rng, 0.7))
    put(tmp_path / "sounds" / "rain" / "light" / "b.flac", noise(rng, 0.4, channels=2))
    put(tmp_path / "sounds" / "wind" / "c.wav", noise(rng, 1.1, sr=44100, level=0.02), 44100)
    put(tmp_path / "sounds" / "d.ogg", noise(rng, 2.0, level=0.3))
    return tmp_path / "sounds"


@pytest.fixture
def corpus(folder, tmp_path):
    build(folder, tmp_path / "c")
    return tmp_path / "c.corpus"


@pytest.fixture
def idle(monkeypatch):
    """After this fixture, any analysis fails the test."""

    def refuse(*_):
        raise AssertionError("this was analysed before")

    monkeypatch.setattr(segments, "analyse", refuse)


@pytest.fixture
def small_commits(monkeypatch):
    monkeypatch.setattr(corpora_build, "COMMIT_FILES", 1)
