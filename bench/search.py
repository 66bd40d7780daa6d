"""The cost and the results of searching a corpus, beside considering all of it, and as many random candidates.

    python bench/search.py NAME.corpus TARGET... --sizes 3000 10000 100000 1000000 --dense 3000 10000 --seeds 3
    python bench/search.py NAME.corpus TARGET --sizes 155000 --dense 155000 --command --long 240

A size is that many first frames of the corpus; `bench/corpora.py` makes large ones out of few recordings. All rows of
a table are made in one run with the preset balanced. Divergences compare the same features: two layers of whole grains
with refined gains, before these are smoothed. "random" considers as many entries as "search", on diagonals drawn at
random instead of looked up. Chance decides between grains that are all but equal, so figures are means over targets and
seeds (one seed for "all").
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from smalti import PRESETS, read_audio, write_audio
from smalti.dsp.channels import to_mono
from smalti.grains.corpus import Corpus
from smalti.grains.nearest import EXACT_BELOW, inverted_file
from smalti.grains.runs import runs_in
from smalti.io.sound_read import resample
from smalti.mosaicing.candidates import along_diagonals
from smalti.mosaicing.compare import Comparison, Entries, may_sound
from smalti.mosaicing.job import Job, SolverStep
from smalti.mosaicing.prepare import prepare
from smalti.mosaicing.search_plan import plan_of
from smalti.mosaicing.solve import solver_of
from smalti.mosaicing.solve_searched import SearchedStep, listed_steps, reach_of
from smalti.workflows.inputs import read_inputs

SETTINGS = replace(PRESETS["balanced"], smooth_gains_s=0.0)
WAYS = ("search", "random", "all")
# Least gains of search over random candidates, by size; most growth of the cost of a frame; see the issue of each.
OVER_RANDOM = {3_000: 0.03, 100_000: 0.10, 1_000_000: 0.20}
MOST_GROWTH, LEAST_GAIN, MOST_BYTES, MOST_LONG_BYTES = 1.5, 100, 1.5e9, 2e9


@dataclass(frozen=True)
class Row:
    """One way of choosing what to consider. `kl` is the divergence over the target's mass."""

    size: int
    way: str
    kl: float
    candidates: float
    run_frames: float
    sounding: float
    frame_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("target", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the target, repeated if it is shorter")
    parser.add_argument("--sizes", type=int, nargs="+", default=[3_000, 10_000, 100_000], help="frames of the corpus")
    parser.add_argument("--dense", type=int, nargs="*", default=[3_000], help="sizes to consider all of, too")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--command", action="store_true", help="measure smalti make, time and memory, in a process")
    parser.add_argument("--long", type=float, metavar="S", help="and with a target of so many seconds")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    targets = []
    for target in options.target:
        inputs = read_inputs(target, [options.corpus])
        targets.append(repeated(to_mono(inputs.target.samples), round(options.seconds * inputs.sr)))
    rows = list[Row]()
    for size in options.sizes:
        corpus = first(inputs.source.material, size)
        of_size = [compared(samples, corpus, options.seeds, dense=size in options.dense) for samples in targets]
        rows += [
            mean([row for of_target in of_size for row in of_target if row.way == way])
            for way in WAYS
            if any(row.way == way for row in of_size[0])
        ]
        console.print(table([row for row in rows if row.size == rows[-1].size]))
    for sentence in verdicts(rows):
        console.print(sentence, highlight=False)
    if options.command:
        for seconds in (options.seconds, *([options.long] if options.long else [])):
            console.print(command(options.corpus, options.target[0], inputs.sr, seconds), highlight=False)
    console.print(f"numpy {np.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", highlight=False)


def mean(rows: list[Row]) -> Row:
    numbers = (np.mean([getattr(row, field.name) for row in rows]) for field in fields(Row)[2:])
    return Row(rows[0].size, rows[0].way, *map(float, numbers))


def repeated(samples: np.ndarray, length: int) -> np.ndarray:
    return np.tile(samples, -(-length // len(samples)))[:length]


def first(corpus: Corpus, size: int) -> Corpus:
    """A corpus of the first frames alone, with an index where smalti would have one."""
    kept = slice(0, size)
    descriptors = np.ascontiguousarray(corpus.descriptors[kept])
    index = inverted_file(descriptors) if len(descriptors) > EXACT_BELOW else None
    return replace(
        corpus,
        recording_ids=corpus.recording_ids[kept],
        centres=corpus.centres[kept],
        cancelled=corpus.cancelled[kept],
        rows=np.arange(min(size, corpus.n_atoms)),
        features=corpus.features[corpus.rows[kept]],
        scales=corpus.scales[kept],
        levels=corpus.levels[kept],
        descriptors=descriptors,
        read_index=lambda: index,
    )


# --- ways to choose what to consider


def compared(samples: np.ndarray, corpus: Corpus, seeds: int, *, dense: bool) -> list[Row]:
    job = prepare(samples, corpus, corpus.sr, SETTINGS, plan=plan_of(corpus, corpus.sr, SETTINGS))
    # A first run, so that kernels are compiled and mapped files read before the clock starts.
    n_entries = len(next(solver_of(job).steps()).entries.lists.atoms)
    last(solver_of(job).steps())
    rows = []
    for seed in range(seeds):
        rows.append(row("search", job, *timed(partial(solver_of(job).steps, seed)), n_entries))
        rows.append(row("random", job, *timed(partial(at_random, job, corpus, n_entries, seed)), n_entries))
    if dense:
        everything = corpus.only(np.arange(corpus.n_atoms))
        unsearched = replace(SETTINGS, search="never")
        plan = plan_of(everything, corpus.sr, unsearched)
        all_of_it = prepare(samples, everything, corpus.sr, unsearched, plan=plan)
        step, seconds = timed(solver_of(all_of_it).steps, views=all_of_it)
        rows.append(row("all", job, step, seconds, corpus.n_atoms * len(job.spectrum.T)))
    return rows


def at_random(job: Job, corpus: Corpus, n_entries: int, seed: int) -> Iterator[SolverStep]:
    """The steps of a solver that considers random stretches, of as many entries in all."""
    comparison, allowed = Comparison.of(job, corpus), may_sound(corpus, SETTINGS)
    rng = np.random.default_rng(seed)
    n_frames = len(comparison.Vt)
    reach = reach_of(job)
    per_frame = n_entries / n_frames / (2 * reach + 1)
    anchors = rng.choice(np.flatnonzero(allowed), size=(n_frames, int(np.ceil(per_frame))))
    # A random part is dropped, so that there are neither more nor fewer entries.
    anchors[rng.random(anchors.shape) > per_frame / anchors.shape[1]] = -1
    return listed_steps(job, comparison, along_diagonals(anchors, corpus.recording_ids, allowed, reach), rng=rng)


def timed(steps, views: Job | None = None) -> tuple[SolverStep, float]:
    """The last step, and the seconds of all steps without a dictionary's features, which a corpus has stored."""
    if views is not None:
        views.dictionary.views()
        start = time.perf_counter()
        views.dictionary.views()
        features_s = time.perf_counter() - start
    start = time.perf_counter()
    step = last(steps())
    return step, time.perf_counter() - start - (features_s if views is not None else 0)


def last(steps: Iterator[SolverStep]) -> SolverStep:
    return deque(steps, maxlen=1).pop()


def row(way: str, job: Job, step: SolverStep, seconds: float, n_entries: int) -> Row:
    n_frames = job.spectrum.shape[1]
    if isinstance(step, SearchedStep):
        entries: Entries = step.entries
        atoms, frames, heard = entries.lists.atoms.astype(int), entries.frames, entries.contributions
        mass = float(step.comparison.Vt.sum())
    else:
        atoms, frames = np.nonzero(step.H)
        heard, mass = step.H[atoms, frames], float(step.fit.Vt.sum())
    runs = runs_in(atoms, frames, heard, job.dictionary.recording_ids, n_frames, under_frame_db=np.inf)
    n_atoms = job.dictionary.n_atoms
    return Row(
        n_atoms, way, step.divergence / mass, n_entries / n_frames, float(runs.lengths.mean()), len(atoms) / n_frames,
        1000 * seconds / n_frames,
    )  # fmt: skip


# --- the command


def command(corpus: Path, target: Path, sr: int, seconds: float) -> str:
    """Wall seconds and the most memory of `smalti make`, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        recording = read_audio(target)
        samples = to_mono(resample(recording.samples, recording.sr, sr))
        write_audio(Path(scratch) / "target.wav", repeated(samples, round(seconds * sr)), sr)
        arguments = ["make", "target.wav", str(corpus.resolve()), "-o", "out.wav", "--report", "report.json", "-q"]
        measured = (
            "import re, sys, time; start = time.perf_counter(); from smalti.cli.main import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit as left: assert not left.code, left.code\n"
            # Not ru_maxrss, which begins with the parent's value.
            "print(time.perf_counter() - start, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
        )
        # The report is left out: its measures take longer than making the mosaic.
        plain = [argument for argument in arguments if argument not in ("--report", "report.json")]
        finished = subprocess.run(
            [sys.executable, "-c", measured, *plain], cwd=scratch, check=True, capture_output=True, text=True
        )
    wall, kilobytes = map(float, finished.stdout.split()[-2:])
    limit = MOST_BYTES if seconds <= 60 else MOST_LONG_BYTES
    met = 1024 * kilobytes < limit and wall < seconds
    return (
        f"{judge(met)}: smalti make, {seconds:g} s of target, {corpus.name}: {wall:.1f} s, "
        f"{seconds / wall:.1f} times real time, {kilobytes / 1024**2 * 1.0737:.2f} GB"
    )


# --- results


def table(rows: list[Row]) -> Table:
    out = Table()
    for heading in ("frames", "considered", "a frame", "KL", "mean run", "sounding", "ms a frame"):
        out.add_column(heading, justify="left" if heading == "considered" else "right")
    for result in rows:
        out.add_row(
            f"{result.size}", result.way, f"{result.candidates:.0f}", f"{result.kl:.4f}", f"{result.run_frames:.1f}",
            f"{result.sounding:.2f}", f"{result.frame_ms:.2f}",
        )  # fmt: skip
    return out


def verdicts(rows: list[Row]) -> Iterator[str]:
    results = {(result.size, result.way): result for result in rows}
    sizes = sorted({result.size for result in rows})
    for size in sizes:
        search, random = results[size, "search"], results[size, "random"]
        wanted = max((gain for least, gain in OVER_RANDOM.items() if least <= 1.01 * size), default=0.03)
        gain = 1 - search.kl / random.kl
        yield f"{judge(gain >= wanted)}: {size} frames, KL {gain:.0%} below that of random; {wanted:.0%} wanted"
        if everything := results.get((size, "all")):
            gain, faster = 1 - search.kl / everything.kl, everything.frame_ms / search.frame_ms
            yield f"{judge(gain >= 0)}: {size} frames, KL {gain:.0%} below that of considering all; 0% wanted"
            verdict = f"{judge(faster >= LEAST_GAIN)}: " if size >= 100_000 else ""
            wants = f"; {LEAST_GAIN} wanted" if verdict else ""
            yield f"{verdict}{size} frames, {faster:.1f} times faster than considering all{wants}"
    if len(sizes) > 1:
        small = min((size for size in sizes if size >= 9_000), default=sizes[0])
        growth = results[sizes[-1], "search"].frame_ms / results[small, "search"].frame_ms
        yield (
            f"{judge(growth <= MOST_GROWTH)}: a frame costs {growth:.2f} times as much in {sizes[-1]} frames as in "
            f"{small}; at most {MOST_GROWTH} wanted"
        )


def judge(held: bool) -> str:
    return "met" if held else "missed"


if __name__ == "__main__":
    main()
