"""How much of its source's stereo image a mosaic keeps: the largest difference of coherence between left and right.

python bench/image.py --audio DIR      a folder with librosa's example recordings
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import smalti
from smalti.dsp.stft import StftParams, stft
from smalti.io.sound_read import resample

SR = 22050
GRID = StftParams(2048, 512)
BANDS_HZ = (60, 135, 305, 690, 1560, 3530, 8000)
PAIRS = (
    ("vibe_ace.ogg", "hungarian_dance.ogg"),
    ("hungarian_dance.ogg", "vibe_ace.ogg"),
    ("hungarian_dance.ogg", "solo_trumpet.ogg"),
    ("speech.ogg", "robin.ogg"),
    ("speech.ogg", "hungarian_dance.ogg"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, help="folder of the recordings")
    folder = parser.parse_args().audio
    table = Table("target <- source", title="furthest from the source's coherence, six bands; .1 is the bar")
    for preset in smalti.PRESETS:
        table.add_column(preset, justify="right")
    for target, source in PAIRS:
        heard, sounds = load(folder / target, 8), load(folder / source, 30)
        made = [smalti.mosaic(heard, sounds, SR, preset=preset).audio for preset in smalti.PRESETS]
        away = [np.abs(coherences(audio) - coherences(sounds)).max() for audio in made]
        table.add_row(f"{Path(target).stem} <- {Path(source).stem}", *(f"{far:.2f}" for far in away))
    Console(width=160).print(table)


def load(path: Path, seconds: float) -> np.ndarray:
    recording = smalti.read_audio(path, end_s=seconds)
    return resample(recording.samples, recording.sr, SR)


def coherences(sound: np.ndarray) -> np.ndarray:
    """``|<L R*>| / sqrt(<|L|^2> <|R|^2>)`` in each band, over the whole sound."""
    left, right = (stft(channel, GRID) for channel in sound)
    hz = np.arange(GRID.n_bins) * (SR / GRID.n_fft)
    bands = [(hz >= low) & (hz < high) for low, high in pairwise(BANDS_HZ)]
    cross = [abs((left[band] * right[band].conj()).sum()) for band in bands]
    powers = [np.sqrt((np.abs(left[band]) ** 2).sum() * (np.abs(right[band]) ** 2).sum()) for band in bands]
    return np.array(cross) / np.array(powers)


if __name__ == "__main__":
    main()
