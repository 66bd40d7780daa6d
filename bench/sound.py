"""How good every preset sounds, by measure: presets x pairs x seeds, beside Let it Bee made in the same run.

python bench/sound.py                        the demo's pair
python bench/sound.py --audio DIR            pairs of pairs.toml in it, and every NAME.target.* with NAME.source.*
python bench/sound.py --audio DIR --audio DIR2 --seeds 3
python bench/sound.py --audio DIR --presets balanced --json numbers.json --save mosaics
python bench/sound.py --audio DIR --presets balanced --variant balanced:colour=0 --variant balanced:attacks=0,layers=3
"""

import argparse
import ast
import glob
import json
import os
import sys
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# One process per core and one thread per process, since two pools of threads would wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

import smalti
from smalti.dsp.channels import to_mono
from smalti.io.sound_read import AUDIO_ENDINGS, resample
from smalti.metrics import MEASURES, measure, reference
from smalti.workflows.demo import demo_source, demo_target
from smalti.workflows.judge import blueprint_of

SR = 22050
BASE = "classic"
# The measures together must tell these from a mosaic. The first fools FID alone, the second TIM alone.
CONTROLS = ("plain mix", "white noise")
SHOWN = (
    "FID", "TIM", "leak", "in_phase", "kl", "sc", "lmd", "chroma_z", "onset_r", "loud_r",
    "tim_nn", "tex_nn", "fine_nn", "fd", "mod", "run_ms", "poly", "rep", "model_err", "incons", "hopbuzz",
    "pre_x", "clicks",
)  # fmt: skip

Scores = dict[str, float]


@dataclass(frozen=True)
class Pair:
    """Two recordings to be measured. `sources` are joined in order to one recording; to_s None is the target's end."""

    name: str
    split: str
    target: Path | None
    sources: tuple[Path, ...]
    from_s: float = 0.0
    to_s: float | None = None

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Target and source, mono at 22 050 Hz; without files those of the demo."""
        if self.target is None:
            return demo_target(SR), demo_source(SR)
        target = mono(self.target)[round(self.from_s * SR) : None if self.to_s is None else round(self.to_s * SR)]
        return target, np.concatenate([mono(source) for source in self.sources])


@dataclass(frozen=True)
class Row:
    """The measures of one method on one pair from one seed."""

    method: str
    pair: Pair
    seed: int
    scores: Scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, action="append", help="folder of recordings; may be given again")
    parser.add_argument("--split", choices=("tuned", "held out", "yours"), help="only these pairs")
    parser.add_argument("--seeds", type=int, default=1, help="random starts of each mosaic")
    parser.add_argument("--presets", nargs="+", default=list(smalti.PRESETS), help="which; classic always")
    parser.add_argument("--variant", action="append", default=[], help="PRESET:SETTING=VALUE,...: a preset changed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number down")
    parser.add_argument(
        "--save", type=Path, metavar="DIR", help="keep the mosaics of the first seed, and their pictures"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    options = parser.parse_args()
    presets = [BASE, *(name for name in options.presets if name != BASE), *options.variant]
    try:
        for method in presets:
            settings_of(method)
    except (ValueError, TypeError, KeyError) as error:
        parser.error(f"cannot use {method!r}: {error}")
    pairs = [pair for pair in find_pairs(options.audio) if options.split in (None, pair.split)]
    if not pairs:
        sys.exit("no pair of bench/pairs.toml, and no NAME.target.* with NAME.source.*, in the folders given")
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.jobs) as workers:
        jobs = [workers.submit(measured, pair, presets, options.seeds, options.save) for pair in pairs]
        rows = [row for job in jobs for row in job.result()]
    console = Console(width=None if sys.stdout.isatty() else 250)
    for split in dict.fromkeys(pair.split for pair in pairs):
        of_split = [row for row in rows if row.pair.split == split]
        console.print(means(split, [*presets, *CONTROLS], of_split))
        console.print(by_pair(split, presets, of_split))
        for preset in presets[1:]:
            console.print(verdict(preset, of_split))
        console.print()
    if options.json:
        options.json.write_text(json.dumps([as_dict(row) for row in rows], indent=1) + "\n")


def find_pairs(folders: Sequence[Path] | None) -> Iterator[Pair]:
    """The demo's pair, or what `folders` hold: pairs of pairs.toml, then those named for each other."""
    if not folders:
        yield Pair("demo", "demo", None, ())
        return
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in AUDIO_ENDINGS]
    named = {path.name: path for path in reversed(files)}
    for entry in tomllib.loads(Path(__file__).with_name("pairs.toml").read_text())["pair"]:
        sources = [found for pattern in entry["source"] for found in matching(pattern, named)]
        complete = entry["target"] in named and all(matching(pattern, named) for pattern in entry["source"])
        if complete:
            span = {key: entry[key] for key in ("from_s", "to_s") if key in entry}
            yield Pair(entry["name"], entry["split"], named[entry["target"]], tuple(sources), **span)
    for path in files:
        if ".target." in path.name:
            name = path.name.split(".target.")[0]
            beside = sorted(path.parent.glob(f"{glob.escape(name)}.source.*"))
            sources = tuple(file for file in beside if file.suffix.lower() in AUDIO_ENDINGS)
            if not sources:
                sys.exit(f"{path} has no {name}.source.* beside it")
            yield Pair(name, "yours", path, sources)


def matching(pattern: str, named: dict[str, Path]) -> list[Path]:
    """The file of that name; for a pattern that begins with "*", the files that match the rest of it."""
    if not pattern.startswith("*"):
        return [named[pattern]] if pattern in named else []
    return [named[name] for name in sorted(named) if named[name].match(pattern[1:])]


def mono(path: Path) -> np.ndarray:
    recording = smalti.read_audio(path)
    return resample(to_mono(recording.samples), recording.sr, SR)


def measured(pair: Pair, presets: Sequence[str], seeds: int, save: Path | None) -> list[Row]:
    """Every preset and control on one pair, from every seed."""
    target, source = pair.load()
    against = reference(target, source, SR)
    rows = []
    for preset in presets:
        for seed in range(seeds):
            made = smalti.mosaic(target, source, SR, preset=settings_of(preset), rng=seed)
            rows.append(Row(preset, pair, seed, measure(made.audio, against, blueprint=blueprint_of(made))))
            if save and seed == 0:
                keep(save / f"{pair.name}.{preset}", made.audio)
    rows += [
        Row(name, pair, 0, measure(y, against)) for name, y in zip(CONTROLS, controls(target, source), strict=True)
    ]
    if save:
        keep(save / f"{pair.name}.a target", target)
        keep(save / f"{pair.name}.b source", source)
    return rows


def settings_of(method: str) -> smalti.Settings:
    """A preset by its name, or with some settings changed: ``balanced:colour=0,layers=3``."""
    preset, _, changes = method.partition(":")
    values = dict(change.split("=") for change in changes.split(",") if change)
    return replace(smalti.PRESETS[preset], **{name: literal(value) for name, value in values.items()})


def literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.capitalize() if text in ("none", "true", "false") else text)
    except ValueError:
        return text


def controls(target: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A plain mix of both recordings at one loudness, and noise."""
    looped = np.resize(source, len(target))
    # Offsets are removed first, since they are power that nobody hears.
    level = [(sound - sound.mean()) / sound.std() for sound in (target, looped)]
    mix = level[0] + level[1]
    return mix, np.random.default_rng(0).standard_normal(len(target)).astype(np.float32)


def keep(path: Path, samples: np.ndarray) -> None:
    from smalti.plots._drawing import figure_png
    from smalti.plots.spectrogram import plot_spectrogram

    smalti.write_audio(f"{path}.wav", samples / max(1, np.abs(samples).max()), SR, overwrite=True)
    axes = plot_spectrogram(samples[: 8 * SR], SR)
    axes.set_title(path.name)
    Path(f"{path}.png").write_bytes(figure_png(axes.figure))


def score(method: str, rows: Sequence[Row], key: str, pair: Pair | None = None) -> float:
    """The mean over seeds, then over pairs (or that of one pair)."""
    scored = [row for row in rows if row.method == method and pair in (None, row.pair) and key in row.scores]
    pairs = dict.fromkeys(row.pair for row in scored)
    by_pair = [[row.scores[key] for row in scored if row.pair == own] for own in pairs]
    return float(np.mean([np.mean(values) for values in by_pair])) if scored else np.nan


def means(split: str, methods: Sequence[str], rows: Sequence[Row]) -> Table:
    n = len({row.pair for row in rows})
    table = Table("measure", "better", title=f"means over {n} pairs, {split}", title_justify="left")
    for method in methods:
        table.add_column(method, justify="right")
    for key in SHOWN:
        values = [score(method, rows, key) for method in methods]
        better = MEASURES[key].better
        table.add_row(key, better, *("" if np.isnan(value) else f"{value:.3f}" for value in values))
    return table


def by_pair(split: str, presets: Sequence[str], rows: Sequence[Row]) -> Table:
    table = Table("pair", f"{BASE} FID TIM", title=f"FID and TIM over those of {BASE}, {split}", title_justify="left")
    for preset in presets[1:]:
        table.add_column(preset, justify="right")
    for pair in dict.fromkeys(row.pair for row in rows):
        cells = []
        for preset in presets[1:]:
            gains = [score(preset, rows, key, pair) - score(BASE, rows, key, pair) for key in ("FID", "TIM")]
            cells.append(f"{gains[0]:+.3f} {gains[1]:+.3f}" + (" " if min(gains) > 0 else "*"))
        table.add_row(pair.name, " ".join(f"{score(BASE, rows, key, pair):.3f}" for key in ("FID", "TIM")), *cells)
    table.caption = "* not better on both"
    return table


def verdict(preset: str, rows: Sequence[Row]) -> str:
    """How far a preset is above the base, and on how many pairs it is above it in both FID and TIM."""
    pairs = list(dict.fromkeys(row.pair for row in rows))
    gains = {key: score(preset, rows, key) - score(BASE, rows, key) for key in ("FID", "TIM")}
    wins = sum(all(score(preset, rows, key, pair) > score(BASE, rows, key, pair) for key in gains) for pair in pairs)
    return f"{preset}: FID {gains['FID']:+.3f}, TIM {gains['TIM']:+.3f}, better on both in {wins} of {len(pairs)} pairs"


def as_dict(row: Row) -> dict[str, Any]:
    return {"method": row.method, "pair": row.pair.name, "split": row.pair.split, "seed": row.seed, **row.scores}


if __name__ == "__main__":
    main()
