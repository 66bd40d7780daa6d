"""Recordings to build corpora of, and what a corpus gives."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from smalti.corpora.build import Built, build_corpus
from smalti.corpora.query import open_corpus
from smalti.grains.corpus import hop_at

SR = 22050

HOP = hop_at(SR)


on_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


def put(path, samples, sr=SR, **kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, sr, **kind)
    os.utime(path, ns=(10**18, 10**18))
    return path


def noise(rng, seconds=0.5, channels=1, sr=SR, level=0.1):
    return (level * rng.standard_normal((round(seconds * sr), channels))).squeeze().astype(np.float32)


def build(folders, name, **options) -> Built:
    options.setdefault("sr", SR)
    folders = [folders] if isinstance(folders, Path) else folders
    *_, last = build_corpus(folders, name, **options)
    assert last.stage == "done"
    return last.built


def content(name, filters=None):
    """All facts and sounds that a corpus gives, wherever they lie in its arrays."""
    opened = open_corpus(name, filters)
    corpus = opened.corpus
    facts = [(file.path, file.sha256, file.tags, file.duration_s, file.loudness_lufs) for file in opened.files]
    arrays = (
        corpus.features[corpus.rows],
        corpus.descriptors,
        corpus.scales,
        corpus.levels,
        corpus.recording_ids,
        corpus.centres,
    )
    return facts, [array.tobytes() for array in arrays], [recording.tobytes() for recording in corpus.recordings]


def same(a, b):
    assert a[0] == b[0]
    assert a[1:] == b[1:]
