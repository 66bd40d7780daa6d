"""The cost of building a corpus: time, disk and memory for an hour of sound, and an estimate for a day of it.

    python bench/building.py FOLDER... [--sr 44100] [--hours 24] [--repeats 2]

All folders together are built into one corpus with its search index, as `smalti corpus build` does, and thrown away.
Seconds of the wall clock depend on what else the machine did; those of the processor are what the work took. Memory is
measured for a fourth of the files and for all of them, each in a process of its own, to show how it grows.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from smalti._parallel import n_cores
from smalti.corpora.build import build_corpus
from smalti.corpora.query import corpus_info, open_corpus, verify_corpus
from smalti.corpora.tables import ARRAYS
from smalti.io.sound_read import find_audio

try:
    import resource
except ImportError:  # not on this system
    resource = None


class Cost(NamedTuple):
    """The cost of a build: seconds of sound, of the wall clock, of the processor, and of the wall clock for the index.

    `analysing_mb` is the peak of memory before the index is made, `peak_mb` that of the whole build.
    """

    sound_s: float
    wall_s: float
    cpu_s: float
    index_s: float
    analysing_mb: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="+", type=Path, help="recordings, and folders of them")
    parser.add_argument("--sr", type=int, default=None, help="of the corpus, in Hz; 44100 if left out")
    parser.add_argument("--hours", type=float, default=24.0, help="to plan for")
    parser.add_argument("--repeats", type=int, default=1, help="builds, of which the fastest counts")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        (few,) = _apart(find_audio(options.folder)[::4], [Path(folder) / "few.corpus"], options.sr)
        names = [Path(folder) / f"{n}.corpus" for n in range(max(1, options.repeats))]
        costs, name = _apart(options.folder, names, options.sr), names[0]
        again = _took(lambda: list(build_corpus(options.folder, name)))
        opened = _took(lambda: open_corpus(name))
        verified = _took(lambda: verify_corpus(name))
        info, hours = corpus_info(name), costs[0].sound_s / 3600
        stems = [*((kind, array.stem) for kind, array in ARRAYS.items()), ("index", "index")]
        kinds = {kind: sum(f.stat().st_size for f in name.glob(f"{stem}-*")) for kind, stem in stems}
        tables = (name / "corpus.sqlite").stat().st_size

    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{info.n_files} files, {hours * 60:.1f} minutes at {info.sr} Hz; {n_cores()} cores{load}")
    print(f"{'':24}{'measured':>12}{'an hour':>12}{f'{options.hours:g} hours':>12}")
    best = min(costs, key=lambda cost: cost.wall_s)
    rows = [
        ("build, s (wall)", best.wall_s),
        ("build, s (processor)", min(cost.cpu_s for cost in costs)),
        ("index of that, s (wall)", best.index_s),
        ("build again, s", again),
        ("open, s", opened),
        ("verify, s", verified),
        *((f"{kind}, MB", size / 1e6) for kind, size in kinds.items()),
        ("tables, MB", tables / 1e6),
        ("on disk, MB", info.n_bytes / 1e6),
    ]
    for label, value in rows:
        print(f"{label:24}{value:12.2f}{value / hours:12.2f}{value / hours * options.hours:12.1f}")
    print(f"{'peak memory, MB':24}{'analysing':>12}{'all':>12}")
    for cost in (few, costs[0]):
        print(f"{f'of {cost.sound_s / 60:.1f} minutes':24}{cost.analysing_mb:12.0f}{cost.peak_mb:12.0f}")
    print(f"real time / wall clock: {best.sound_s / best.wall_s:.0f}")
    print(f"real time / processor time, on {n_cores()} cores: {n_cores() * best.sound_s / rows[1][1]:.0f}")


def _apart(folders: list[Path], names: list[Path], sr: int | None) -> list[Cost]:
    """The costs of builds, one after the other in a new process; only the first has a peak of memory of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [pool.submit(_cost, folders, name, sr).result() for name in names]


def _cost(folders: list[Path], name: Path, sr: int | None) -> Cost:
    begin, spent = time.perf_counter(), time.process_time()
    indexing, analysing_mb = None, None
    for step in build_corpus(folders, name, sr=sr):
        if step.stage == "indexing":
            indexing, analysing_mb = time.perf_counter(), _peak_mb()
    end, peak_mb = time.perf_counter(), _peak_mb()
    return Cost(
        sound_s=step.built.seconds,
        wall_s=end - begin,
        cpu_s=time.process_time() - spent,
        index_s=end - indexing if indexing else 0.0,
        analysing_mb=analysing_mb or peak_mb,
        peak_mb=peak_mb,
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 if resource else float("nan")


def _took(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
