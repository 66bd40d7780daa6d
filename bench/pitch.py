"""How well a mosaic is in tune, what that costs, and what it leaves alone: figures for each pair, beside their bars.

python bench/pitch.py                        the demo's recordings, for which the bars are not meant
python bench/pitch.py --audio DIR --audio DIR2
python bench/pitch.py --audio DIR --json numbers.json --save mosaics

Needs pyworld (in smalti[test]) for the second opinion on pitch, a tracker that has no part in making the mosaics.
"""

import argparse
import json
import os
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pyworld
from rich.console import Console
from rich.table import Table

import smalti
from smalti.dsp.bands import audible
from smalti.dsp.channels import to_mono
from smalti.dsp.pitch import (
    FINENESS,
    clear,
    fill_gaps,
    harmonicity,
    note_frequencies,
    note_numbers,
    pitch_at,
    ratios_to,
    refine_f0,
    track_pitch,
)
from smalti.dsp.pitch_shift import shift_grain
from smalti.dsp.stft import StftParams, frame_powers
from smalti.io.sound_read import AUDIO_ENDINGS, resample
from smalti.metrics import measure, reference
from smalti.metrics.fidelity import raw_chroma_accuracy, raw_pitch_accuracy
from smalti.workflows.demo import demo_source, demo_target
from smalti.workflows.judge import blueprint_of

SR, HOP = 22050, 512
GRID = StftParams(2048, HOP)
# So much of each target; sources are used up to a minute.
TARGET_S, SOURCE_S = 8.0, 60.0
# Harvest searches this range. In a wider one it finds the octave below more often than the note.
HARVEST_HZ = (60.0, 1600.0)
# The gains of the control follow the target's level in windows of 46 ms.
LEVEL = StftParams(1024, 256)

SONG, SWARM = "demo song", "demo swarm"
MELODIES = ("sir_duke_trumpet_slow.mp3", "sir_duke_piano_slow.mp3", SONG)
CHORDS = ("hungarian_dance.ogg",)
ALONE = ("funk_groove.mp3", "speech.ogg")
NOTE = "oboe_c6.wav"
# Least share of frames in tune by the guide and by Harvest, for one clean note and for animals.
CLEAN, ROUGH = (0.97, 0.88), (0.93, 0.85)
SOURCES = {
    NOTE: CLEAN,
    "bee.ogg": ROUGH,
    "hornet.ogg": ROUGH,
    "mosquito.ogg": ROUGH,
    "humpback.ogg": ROUGH,
    "robin.ogg": ROUGH,
    SWARM: ROUGH,
}


@dataclass(frozen=True)
class Line:
    """One figure, and its bar: what it must be at least, or at most if `most`. None for a figure that is only shown."""

    pair: str
    what: str
    value: float
    bar: float | None = None
    most: bool = False

    @property
    def kept(self) -> bool:
        return self.bar is None or bool(self.value <= self.bar if self.most else self.value >= self.bar)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, action="append", help="folder of recordings; may be given again")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting changed")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only sources or targets whose name holds one of these"
    )
    parser.add_argument("--seeds", type=int, default=3, help="random starts of each mosaic; figures are their means")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number down")
    parser.add_argument("--save", type=Path, metavar="DIR", help="keep the mosaics and their spectrograms")
    options = parser.parse_args()
    changes = {name: float(value) for name, _, value in (text.partition("=") for text in options.set)}
    files = found(options.audio)
    if not files:
        sys.exit("none of the recordings that the bars are for is in the folders given")
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
    lines: list[Line] = []
    for part in (melodies(files, changes, options), chords(files, changes, options), alone(files, changes, options)):
        for of_pair in part:
            lines += of_pair
            show(of_pair)
    missed, barred = [line for line in lines if not line.kept], [line for line in lines if line.bar is not None]
    print(
        f"{len(barred) - len(missed)} of {len(barred)} bars kept"
        + "".join(f"\n  missed: {line.pair}: {line.what}" for line in missed)
    )
    if options.json:
        options.json.write_text(json.dumps([vars(line) | {"kept": line.kept} for line in lines], indent=1) + "\n")


def found(folders: Sequence[Path] | None) -> dict[str, np.ndarray]:
    """Recordings by name, (L,) at 22 050 Hz."""
    if not folders:
        return {SONG: demo_target(SR), SWARM: demo_source(SR)}
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in AUDIO_ENDINGS]
    wanted = {*MELODIES, *CHORDS, *ALONE, *SOURCES}
    return {path.name: mono(path) for path in reversed(paths) if path.name in wanted}


def mono(path: Path) -> np.ndarray:
    recording = smalti.read_audio(path, end_s=SOURCE_S)
    return resample(to_mono(recording.samples), recording.sr, SR)


def pairs(
    files: dict[str, np.ndarray], targets: Sequence[str], sources: Sequence[str], options: Any
) -> Iterator[tuple]:
    for target in targets:
        for source in sources:
            wanted = not options.only or any(word in target + source for word in options.only)
            if wanted and target in files and source in files and target != source:
                yield f"{stem(source)} on {stem(target)}", files[target][: round(TARGET_S * SR)], files[source]


def stem(name: str) -> str:
    return Path(name).stem


# --- melodies


def melodies(files: dict[str, np.ndarray], changes: dict[str, float], options: Any) -> Iterator[list[Line]]:
    for name, target, source in pairs(files, MELODIES, list(SOURCES), options):
        bars = SOURCES[next(file for file in SOURCES if stem(file) == name.split(" on ")[0])]
        settings = replace(smalti.PRESETS["melodic"], transpose="follow", **changes)
        balanced = smalti.PRESETS["balanced"]
        wanted = track_pitch(target, SR, hop=HOP) * audible(frame_powers(target, GRID))
        control, copies = looped(target, source)
        against = reference(target, [source, *copies], SR)
        of_control = measure(control, against)
        seconds, plain_seconds = timed(target, source, settings), timed(target, source, balanced)
        made = [smalti.mosaic(target, source, SR, preset=settings, rng=seed) for seed in range(options.seeds)]
        plain = [smalti.mosaic(target, source, SR, rng=seed) for seed in range(options.seeds)]
        scores = mean([measure(mosaic.audio, against, blueprint=blueprint_of(mosaic)) for mosaic in made])
        of_plain = mean([measure(mosaic.audio, against) for mosaic in plain])
        in_tune = mean([in_tune_with(wanted, mosaic.audio) for mosaic in made])
        if options.save:
            keep(options.save / name, made[0].audio)
            keep(options.save / f"{name}, looped control", control)
        most_memory = memory(target, source, settings) / memory(target, source, balanced)
        yield [
            Line(name, "in tune, by the guide", in_tune["guide"], bars[0]),
            Line(name, "in tune, by Harvest", in_tune["Harvest"], bars[1]),
            *([Line(name, "octaves forgiven, guide", in_tune["folded"], 0.99)] if bars is CLEAN else []),
            Line(name, "onset_r, less that of balanced", scores["onset_r"] - of_plain["onset_r"], -0.05),
            Line(name, "TIM, less that of the looped control", scores["TIM"] - of_control["TIM"], -0.05),
            Line(name, "incons", scores["incons"], 0.2, most=True),
            Line(name, "hopbuzz, dB", scores["hopbuzz"], 1.0, most=True),
            Line(name, "seconds over those of balanced", seconds / plain_seconds, 2.5, most=True),
            Line(name, "memory over that of balanced", most_memory, 1.5, most=True),
            # Any sound in tune with the target is coherent with it, so leak is compared with that of the control.
            Line(name, "leak", scores["leak"]),
            Line(name, "leak of the looped control", of_control["leak"]),
            Line(name, "the control in tune, by the guide", in_tune_with(wanted, control)["guide"]),
            Line(name, "FID", scores["FID"]),
            Line(name, "FID of balanced", of_plain["FID"]),
        ]


def in_tune_with(wanted: np.ndarray, samples: np.ndarray) -> dict[str, float]:
    """The share of the frames with a pitch in `wanted` that have it in `samples`, too, by two trackers."""
    guide = track_pitch(samples, SR, hop=HOP)
    return {
        "guide": raw_pitch_accuracy(wanted, guide),
        "Harvest": raw_pitch_accuracy(wanted, heard_by_harvest(samples)),
        "folded": raw_chroma_accuracy(wanted, guide),
    }


def mean(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([numbers[key] for numbers in scores])) for key in scores[0]}


def timed(target: np.ndarray, source: np.ndarray, settings: smalti.Settings) -> float:
    """Seconds, the shortest of three times, since other processes can only add to it."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        smalti.mosaic(target, source, SR, preset=settings)
        times.append(time.perf_counter() - begin)
    return min(times)


def memory(target: np.ndarray, source: np.ndarray, settings: smalti.Settings = smalti.PRESETS["balanced"]) -> float:
    """The most bytes that are allocated at once while a mosaic is made."""
    tracemalloc.start()
    smalti.mosaic(target, source, SR, preset=settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def heard_by_harvest(samples: np.ndarray) -> np.ndarray:
    low, high = HARVEST_HZ
    f0, _ = pyworld.harvest(samples.astype(np.float64), SR, f0_floor=low, f0_ceil=high, frame_period=1000 * HOP / SR)
    return f0[: 1 + len(samples) // HOP]


def looped(target: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The pitched source in a loop, at the target's pitch and level throughout; and the source at each of its notes.

    Any sampler would play this. No sound that follows the target can be more like the source.
    """
    own = fill_gaps(track_pitch(source, SR, hop=HOP), longest=round(0.25 * SR / HOP))
    fine = refine_f0(source, own, SR, hop=HOP, per_hop=FINENESS)
    wanted = fill_gaps(track_pitch(target, SR, hop=HOP), longest=len(target))
    heard = (own > 0) & audible(frame_powers(source, GRID))
    pitched = np.flatnonzero(heard & clear(harmonicity(np.abs(smalti.stft(source, GRID)), own, SR), heard))
    # Clear frames one after the other, repeated to the length of the target.
    frames = np.resize(pitched, len(wanted))
    sound = np.concatenate([source[k * HOP : (k + 1) * HOP] for k in frames])
    sound = np.pad(sound, (0, max(0, len(target) - len(sound))))[: len(target)]
    steps = np.arange(len(wanted) * FINENESS) / FINENESS
    pitch = fine[(frames[:, None] * FINENESS + np.arange(FINENESS)).ravel()]
    ratios = ratios_to(pitch_at(wanted, steps), pitch)
    tuned = shift_grain(
        sound,
        SR,
        begin=0,
        length=len(sound),
        ratios=np.where(ratios > 0, ratios, 1),
        f0=pitch,
        hop=HOP // FINENESS,
    )
    numbers = note_numbers(wanted[wanted > 0])
    copies = [
        shift_grain(
            source,
            SR,
            begin=0,
            length=len(source),
            ratios=np.where(ratio > 0, ratio, 1),
            f0=own,
            hop=HOP,
        )
        for note in np.unique(np.round(numbers))
        for ratio in [ratios_to(np.full(len(own), note_frequencies(np.array([note]))[0]), own)]
    ]
    return levelled(tuned, target), copies


def levelled(sound: np.ndarray, target: np.ndarray) -> np.ndarray:
    wanted, present = (np.sqrt(frame_powers(samples, LEVEL)) for samples in (target, sound))
    gains = wanted / np.maximum(present, 1e-4 * present.max())
    return (sound * np.interp(np.arange(len(sound)), np.arange(len(gains)) * LEVEL.hop, gains)).astype(np.float32)


# --- chords, and what is left alone


def chords(files: dict[str, np.ndarray], changes: dict[str, float], options: Any) -> Iterator[list[Line]]:
    for name, target, source in pairs(files, CHORDS, [NOTE], options):
        settings, balanced = replace(smalti.PRESETS["melodic"], **changes), smalti.PRESETS["balanced"]
        seconds, plain_seconds = timed(target, source, settings), timed(target, source, balanced)
        made = [smalti.mosaic(target, source, SR, preset=settings, rng=seed) for seed in range(options.seeds)]
        plain = [smalti.mosaic(target, source, SR, rng=seed) for seed in range(options.seeds)]
        against = reference(target, source, SR)
        scores, of_plain = (
            mean([measure(mosaic.audio, against, blueprint=blueprint_of(mosaic)) for mosaic in group])
            for group in (made, plain)
        )
        if options.save:
            keep(options.save / name, made[0].audio)
        yield [
            Line(name, "auto plays chords", float(made[0].transposition.way == "chords"), 1.0),
            Line(name, "chroma_z", scores["chroma_z"], 0.85),
            Line(name, "onset_r, less that of balanced", scores["onset_r"] - of_plain["onset_r"], -0.05),
            Line(name, "incons", scores["incons"], 0.2, most=True),
            Line(name, "hopbuzz, dB", scores["hopbuzz"], 1.0, most=True),
            Line(name, "seconds over those of balanced", seconds / plain_seconds, 2.5, most=True),
            Line(name, "chroma_z of balanced", of_plain["chroma_z"]),
            Line(name, "FID", scores["FID"]),
            Line(name, "FID of balanced", of_plain["FID"]),
        ]


def alone(files: dict[str, np.ndarray], changes: dict[str, float], options: Any) -> Iterator[list[Line]]:
    """Drums, noise and speech, as target and as source: the preset must do what balanced does."""
    files = files | {"noise.wav": np.random.default_rng(0).standard_normal(6 * SR).astype(np.float32) / 10}
    names = [*ALONE, "noise.wav"]
    both_ways = [
        *pairs(files, names, [NOTE], options),
        *pairs(files, [MELODIES[0]], names, options),
        *pairs(files, [ALONE[0]], [ALONE[1]], options),
        *pairs(files, [ALONE[1]], [ALONE[0]], options),
    ]
    for name, target, source in both_ways:
        made = smalti.mosaic(target, source, SR, preset=replace(smalti.PRESETS["melodic"], **changes))
        plain = smalti.mosaic(target, source, SR)
        against = reference(target, source, SR)
        scores, of_plain = measure(made.audio, against), measure(plain.audio, against)
        yield [
            Line(
                name,
                f"{key} of auto ({made.transposition.way}), less that of balanced",
                scores[key] - of_plain[key],
                -0.01,
            )
            for key in ("FID", "TIM")
        ]


# --- printing and saving


def show(lines: Sequence[Line]) -> None:
    table = Table("what", title=lines[0].pair, title_justify="left")
    for column in ("value", "bar", ""):
        table.add_column(column, justify="right")
    for line in lines:
        bar = "" if line.bar is None else f"{'<=' if line.most else '>='} {line.bar:g}"
        table.add_row(line.what, f"{line.value:.3f}", bar, "" if line.kept else "missed")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def keep(path: Path, samples: np.ndarray) -> None:
    from smalti.plots._drawing import figure_png
    from smalti.plots.spectrogram import plot_spectrogram

    smalti.write_audio(f"{path}.wav", samples / max(1, np.abs(samples).max()), SR, overwrite=True)
    axes = plot_spectrogram(samples, SR)
    axes.set_title(path.name)
    Path(f"{path}.png").write_bytes(figure_png(axes.figure))


if __name__ == "__main__":
    main()
