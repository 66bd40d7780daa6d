"""How good every preset sounds, by measure: presets x pairs x seeds, beside Let it Bee made in the same run.

python bench/sound.py                       the demo's pair
python bench/sound.py --audio DIR           every pair of DIR: NAME.target.wav with NAME.source.wav (any format)
python bench/sound.py --audio DIR --seeds 3 --seconds 8
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import smalti
from smalti.audio import AUDIO_ENDINGS, resample
from smalti.channels import mixed_down
from smalti.demo import demo_source, demo_target
from smalti.metrics import MEASURES, Blueprint, measure, reference

SR = 22050
BASE = "classic"
SHOWN = (
    "FID",
    "TIM",
    "leak",
    "kl",
    "chroma_z",
    "onset_r",
    "fine_nn",
    "tim_nn",
    "run_ms",
    "model_err",
    "hopbuzz",
    "pre_x",
)

Pair = tuple[str, np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help="folder of pairs NAME.target.* and NAME.source.*")
    parser.add_argument("--seeds", type=int, default=1, help="random starts of each mosaic")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each target, from its beginning")
    parser.add_argument("--presets", nargs="+", default=list(smalti.PRESETS), help="which presets; classic always")
    options = parser.parse_args()
    presets = [BASE, *(name for name in options.presets if name != BASE)]
    rows = [
        (preset, name, scores)
        for name, target, source in pairs(options.audio, options.seconds)
        for preset, scores in measured(name, target, source, presets, options.seeds)
    ]
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(means(presets, rows))
    for preset in presets[1:]:
        wins, of = dominance(preset, rows)
        console.print(f"{preset}: better than {BASE} on FID and TIM at once in {wins} of {of} pairs")


def pairs(folder: Path | None, seconds: float) -> Iterator[Pair]:
    """Name, target and source of every pair, mono at 22 050 Hz."""
    if folder is None:
        yield "demo", demo_target(SR)[: round(seconds * SR)], demo_source(SR)
        return
    targets = [path for path in sorted(folder.iterdir()) if ".target." in path.name and path.suffix in AUDIO_ENDINGS]
    if not targets:
        sys.exit(f"no NAME.target.wav with NAME.source.wav in {folder}")
    for path in targets:
        name = path.name.split(".target.")[0]
        (source,) = folder.glob(f"{name}.source.*")
        yield name, load(path, seconds), load(source, None)


def load(path: Path, seconds: float | None) -> np.ndarray:
    recording = smalti.read_audio(path)
    return mixed_down(resample(recording.samples, recording.sr, SR))[: None if seconds is None else round(seconds * SR)]


def measured(
    name: str, target: np.ndarray, source: np.ndarray, presets: list[str], seeds: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """The measures of every preset on one pair, each the mean over the seeds."""
    yardstick = reference(target, source, SR)
    for preset in presets:
        made = [smalti.mosaic(target, source, SR, preset=preset, rng=seed) for seed in range(seeds)]
        scores = [measure(m.audio, yardstick, blueprint=Blueprint.of(m.activations, m.dictionary)) for m in made]
        yield preset, {key: float(np.mean([score[key] for score in scores])) for key in scores[0]}


def means(presets: list[str], rows: list[tuple[str, str, dict[str, float]]]) -> Table:
    names = sorted({name for _, name, _ in rows})
    table = Table("preset", title=f"means over {len(names)} pairs: {', '.join(names)}")
    for key in SHOWN:
        table.add_column(f"{key} ({MEASURES[key].better})", justify="right")
    for preset in presets:
        scores = [score for of, _, score in rows if of == preset]
        table.add_row(preset, *(f"{np.mean([score[key] for score in scores]):.3f}" for key in SHOWN))
    return table


def dominance(preset: str, rows: list[tuple[str, str, dict[str, float]]]) -> tuple[int, int]:
    """Pairs on which a preset beats the base on fidelity and timbre at once, of how many."""
    ours, base = ({name: score for of, name, score in rows if of == which} for which in (preset, BASE))
    wins = sum(all(ours[name][key] > base[name][key] for key in ("FID", "TIM")) for name in ours)
    return wins, len(ours)


if __name__ == "__main__":
    main()
