"""Large corpora out of few recordings: each file a mix of several, transposed and filtered, the same for the same seed.

    python bench/corpora.py FOLDER... -o OUT --minutes 60

The cost of hours of source can only be measured with hours of source, and these are made in minutes. They are no field
recordings: they hold the sounds of the recordings they are made from, at other pitches and in other colours.
"""

import argparse
from pathlib import Path

import numpy as np
import scipy.signal

from smalti.dsp.channels import as_channels
from smalti.io.sound_read import find_audio, read_audio, resample
from smalti.io.sound_write import write_audio

SHORTEST_S, LONGEST_S = 30.0, 120.0
# The most semitones that a recording is moved by, and the most recordings in one file.
MOST_SHIFT, MOST_MIXED = 12.0, 3
PEAK = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="+", type=Path, help="recordings, and folders of them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to make")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--sr", type=int, default=44100)
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--format", choices=("wav", "flac", "ogg"), default="flac")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rng = np.random.default_rng(options.seed)
    sources = [read_audio(path) for path in find_audio(options.folder)]
    written_s, number = 0.0, 0
    while written_s < 60 * options.minutes:
        length_s = min(float(rng.uniform(SHORTEST_S, LONGEST_S)), max(1.0, 60 * options.minutes - written_s))
        picked = rng.choice(len(sources), size=min(len(sources), int(rng.integers(1, MOST_MIXED + 1))), replace=False)
        parts = [_varied(sources[n], round(length_s * options.sr), options, rng) for n in picked]
        mixed = np.sum(
            [level * part for level, part in zip(10 ** rng.uniform(-0.6, 0, len(parts)), parts, strict=True)], axis=0
        )
        mixed *= PEAK / max(float(np.abs(mixed).max()), 1e-9)
        # Folders are tags: each file lies in that of its first recording.
        folder = options.output / sources[picked[0]].path.stem
        folder.mkdir(parents=True, exist_ok=True)
        samples = mixed.astype(np.float32) if options.channels > 1 else mixed[0].astype(np.float32)
        write_audio(folder / f"{number:05}.{options.format}", samples, options.sr, overwrite=True)
        written_s, number = written_s + length_s, number + 1
    print(f"{options.output}: {number} files, {written_s / 60:.1f} minutes")


def _varied(recording, length, options, rng):
    """(C, length): a recording at another pitch and speed, from anywhere in it, repeated as needed, and filtered."""
    ratio = 2 ** (rng.uniform(-MOST_SHIFT, MOST_SHIFT) / 12)
    sound = as_channels(resample(recording.samples, round(recording.sr * ratio), options.sr))
    sound = np.roll(sound, int(rng.integers(sound.shape[1])), axis=1)
    sound = np.tile(sound, (1, -(-length // sound.shape[1])))[:, :length]
    chosen = [sound[n % len(sound)] for n in range(options.channels)]
    low, high = 40 * 2 ** rng.uniform(0, 3), options.sr / 2 * 2 ** rng.uniform(-2.5, -0.1)
    band = scipy.signal.butter(2, (low, high), "bandpass", fs=options.sr, output="sos")
    out = scipy.signal.sosfilt(band, np.stack(chosen), axis=1)
    return out / max(float(np.abs(out).max()), 1e-9)


if __name__ == "__main__":
    main()
