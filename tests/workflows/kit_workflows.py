"""Sounds for workflows to read."""

import numpy as np
import soundfile

SR = 8000


def tone(n, sr=SR, hz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(n) / sr)).astype(np.float32)


def put(path, samples, sr=SR, **kind):
    soundfile.write(path, samples, sr, **kind)
    return path
