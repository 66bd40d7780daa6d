"""Sound files to test with, and a check of what errors say."""

import os

import numpy as np
import pytest
import soundfile

SR = 22050


as_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not stop the superuser"
)


def tone(n, sr, hz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(n) / sr)).astype(np.float32)


def put(path, samples, sr=SR, **kind):
    soundfile.write(path, samples, sr, **kind)
    return path


def files_in(folder):
    return sorted(p.name for p in folder.iterdir())


def assert_one_sentence(error, path):
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    assert "; " in text, "what to do comes after a semicolon"
    assert not text.endswith(".")
