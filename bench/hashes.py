"""Hashes of the samples that smalti makes, to compare one version with another.

python bench/hashes.py                                     the demo's pair
python bench/hashes.py --audio DIR --save before.txt       and pairs of a folder with librosa's example recordings
python bench/hashes.py --audio DIR --compare before.txt    names what differs, and exits with 1 if anything does
python bench/hashes.py --audio DIR --samples DIR2          keeps the samples, so that a difference can be measured:
python bench/hashes.py --audio DIR --against DIR2          prints how loud the differences are, in dB under the loudest

It uses nothing but the names of `smalti` itself and the command line, so that it runs on any version. Install the
version to be hashed, or name its folder `src` in PYTHONPATH.

Matrix products run in one thread unless OPENBLAS_NUM_THREADS is set. The number of threads decides the order of their
sums, and so the last bits of the samples: with a thread for each core, the hashes would change with the cores.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# OpenBLAS reads this once, when numpy loads it. The commands that are started inherit it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import soundfile
import soxr

import smalti

SR = 22050
# Target and source, and how many seconds of each.
PAIRS = (
    ("sir_duke_trumpet_slow.mp3", 6, "humpback.ogg", 20),
    ("speech.ogg", 6, "vibe_ace.ogg", 20),
    ("sir_duke_piano_slow.mp3", 6, "oboe_c6.wav", 20),
    ("funk_groove.mp3", 6, "robin.ogg", 20),
)
# Runs of the command line beside the presets, all with a stereo target, a stereo source and a mono source.
COMMANDS = {
    "apart": ["--channels", "apart"],
    "mono": ["--channels", "mono", "--loudness", "-20"],
    "melodic": ["--preset", "melodic"],
    "tape": ["--preset", "melodic", "--tape", "--transpose", "follow"],
    "shifts": ["--transpose=-2..2"],
    "curves": ["--layers", "0:1, 3:4", "--drift", "0:0, 3:60", "--level", "0:0, 3:-12"],
    "searched": ["--set", "search=always", "--preset", "source-like"],
    "weights": ["--weight", "mono=2", "--limit", "stereo=30"],
    "painted": ["--paint", "0..1 mono=0", "--paint", "1..2 stereo 0..1=3"],
    "target phase": ["--target-phase", "30", "--level-follow", "50"],
    "bands": ["--set", "compare=bands", "--ear-weighting"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help="folder of the recordings; without one, only the demo's pair")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the lines here")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="lines to be met")
    parser.add_argument("--samples", type=Path, metavar="DIR", help="keep the samples here")
    parser.add_argument("--against", type=Path, metavar="DIR", help="samples to measure the differences from")
    parser.add_argument("--only", default="", metavar="TEXT", help="only what has this in its name")
    options = parser.parse_args()
    if options.samples:
        options.samples.mkdir(exist_ok=True)
    lines = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, samples in everything(Path(folder), options.audio, options.only):
            lines[name] = hashlib.sha256(samples.tobytes()).hexdigest()[:16]
            print(f"{lines[name]}  {name}{difference(options.against, name, samples)}", flush=True)
            if options.samples:
                np.save(options.samples / f"{name}.npy", samples)
    if options.save:
        options.save.write_text("".join(f"{digest}  {name}\n" for name, digest in lines.items()))
    if options.compare:
        before = dict(reversed(line.split("  ", 1)) for line in options.compare.read_text().splitlines())
        expected = [name for name in before if options.only in name]
        differing = [name for name in expected if name in lines and lines[name] != before[name]]
        problems = {
            "differs": differing,
            "was not made": [name for name in expected if name not in lines],
            "is not in the file": [name for name in lines if name not in before],
        }
        print(f"{len(lines.keys() & before.keys()) - len(differing)} of {len(expected)} are the same to the byte")
        if any(problems.values()):
            sys.exit("\n".join(f"{problem}: {name}" for problem, names in problems.items() for name in names))


def difference(folder: Path | None, name: str, samples: np.ndarray) -> str:
    """How far the samples are from those kept before, as the end of a line."""
    if folder is None:
        return ""
    if not (path := folder / f"{name}.npy").exists():
        return "  no samples to compare with"
    before = np.load(path)
    if before.shape != samples.shape:
        return f"  another shape: {before.shape} before, {samples.shape} now"
    apart = float(np.abs(samples - before).max())
    return f"  {20 * np.log10(apart / np.abs(before).max()):.1f} dB" if apart else "  the same"


def everything(folder: Path, audio: Path | None, only: str) -> Iterator[tuple[str, np.ndarray]]:
    """Names and samples, (L,) or (C, L)."""
    command("demo", "-o", folder / "demo", "--no-plots", "-q")
    pairs = [("demo", read(folder / "demo/target.wav"), read(folder / "demo/source.wav"))]
    for target, target_s, source, source_s in PAIRS if audio else ():
        name = f"{Path(target).stem} of {Path(source).stem}"
        pairs.append((name, read(audio / target, target_s), read(audio / source, source_s)))
    for pair, target, source in pairs:
        for preset in smalti.PRESETS:
            if only in (name := f"{pair}, {preset}"):
                yield name, smalti.mosaic(target, source, SR, preset=preset).audio
    _, target, source = pairs[0]
    for preset in smalti.PRESETS:
        if only in (name := f"demo, {preset}, rendered from its score"):
            made = smalti.mosaic(target, source, SR, preset=preset)
            yield name, smalti.render(made.score, source, target=target)
    for name, samples in of_the_command_line(folder, audio):
        if only in name:
            yield name, samples()


def of_the_command_line(folder: Path, audio: Path | None) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Names, and functions that make the samples."""
    demo_target, demo_source = read(folder / "demo/target.wav")[: 4 * SR], read(folder / "demo/source.wav")[: 8 * SR]
    target, other = demo_target, demo_source[: 4 * SR]
    if audio:
        target, other = read(audio / PAIRS[0][0], 4), read(audio / "hungarian_dance.ogg", 8)
    (folder / "sources").mkdir()
    stereo = np.stack([target, 0.5 * np.roll(target, 200)], axis=1)
    soundfile.write(folder / "target.wav", stereo, SR, subtype="FLOAT")
    soundfile.write(folder / "sources/mono.wav", demo_source, SR, subtype="FLOAT")
    soundfile.write(folder / "sources/stereo.wav", np.stack([other, np.roll(other, 99)], axis=1), SR, subtype="FLOAT")

    def made(*words: object) -> np.ndarray:
        command(
            "make", folder / "target.wav", *words, "-o", folder / "out.wav", "--subtype", "FLOAT", "-q", "--overwrite"
        )
        return soundfile.read(folder / "out.wav", dtype="float32")[0].T

    for name, words in COMMANDS.items():
        yield f"command, {name}", lambda words=words: made(folder / "sources", *words)

    def rendered(*edits: object) -> np.ndarray:
        score = folder / "score.json"
        made(folder / "sources", "--score", score)
        if edits:
            command("score", "edit", score, folder / "edited.json", *edits, "--overwrite")
            score = folder / "edited.json"
        command("render", score, "-o", folder / "out.wav", "--subtype", "FLOAT", "-q", "--overwrite")
        return soundfile.read(folder / "out.wav", dtype="float32")[0].T

    yield "command, a score", rendered
    edits = ["--mute", "stereo", "--gain", "-6", "--between", "1", "2"]
    yield "command, an edited score", lambda: rendered(*edits)

    def of_corpus(*words: object) -> np.ndarray:
        command("corpus", "build", folder / "sources", "-o", folder / "c", "--sr", SR, "-q")
        return made(folder / "c.corpus", *words)

    yield "command, a corpus", of_corpus
    yield "command, all of a corpus", lambda: of_corpus("--preset", "classic")


def read(path: Path, seconds: float | None = None) -> np.ndarray:
    """(L,) float32 at `SR`, the mean of the channels."""
    samples, sr = soundfile.read(path, dtype="float32", always_2d=True)
    samples = samples[: None if seconds is None else round(seconds * sr)].mean(axis=1, dtype=np.float32)
    return soxr.resample(samples, sr, SR, quality="VHQ")


def command(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "smalti", *map(str, words)], check=True, capture_output=True)


if __name__ == "__main__":
    main()
