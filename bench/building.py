"""What building a corpus costs: time, disk and memory an hour of sound, and from these the plan for a day of it.

    python bench/building.py FOLDER... [--sr 44100] [--hours 24]

Each folder, or all together, is built into a corpus that is thrown away. Seconds of the wall clock are worth what the
machine had to spare; those of the processor are what the work took.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from smalti.collecting import build_corpus
from smalti.lending import corpus_info, open_corpus, verify_corpus
from smalti.shelves import KINDS
from smalti.workers import n_cores

try:
    import resource
except ImportError:  # not on this system
    resource = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="+", type=Path, help="recordings, and folders of them")
    parser.add_argument("--sr", type=int, default=None, help="of the corpus, in Hz; 44100 if left out")
    parser.add_argument("--hours", type=float, default=24.0, help="to plan for")
    parser.add_argument("--repeats", type=int, default=1, help="builds, of which the fastest counts")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = [], []
        for n in range(options.repeats):
            name = Path(folder) / f"{n}.corpus"
            begin, spent = time.perf_counter(), time.process_time()
            *_, last = build_corpus(options.folder, name, sr=options.sr)
            wall.append(time.perf_counter() - begin)
            cpu.append(time.process_time() - spent)
        # Before anything is opened: pages of maps count as memory that is held, and are not.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 if resource else float("nan")
        again = _took(lambda: list(build_corpus(options.folder, name)))
        opened = _took(lambda: open_corpus(name))
        verified = _took(lambda: verify_corpus(name))
        info, hours = corpus_info(name), last.built.seconds / 3600
        kinds = {kind: sum(f.stat().st_size for f in name.glob(f"{kind}-*")) for kind in KINDS}
        tables = (name / "corpus.sqlite").stat().st_size

    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{info.n_files} files, {hours * 60:.1f} minutes at {info.sr} Hz; {n_cores()} cores{load}")
    print(f"{'':24}{'measured':>12}{'an hour':>12}{f'{options.hours:g} hours':>12}")
    rows = [
        ("build, s (wall)", min(wall)),
        ("build, s (processor)", min(cpu)),
        ("build again, s", again),
        ("open, s", opened),
        ("verify, s", verified),
        *((f"{kind}, MB", size / 1e6) for kind, size in kinds.items()),
        ("tables, MB", tables / 1e6),
        ("on disk, MB", info.n_bytes / 1e6),
    ]
    for what, value in rows:
        print(f"{what:24}{value:12.2f}{value / hours:12.2f}{value / hours * options.hours:12.1f}")
    print(f"{'peak memory, MB':24}{peak:12.0f}{'':>12}{'the same':>12}")
    print(f"real time / wall clock: {last.built.seconds / min(wall):.0f}")
    print(f"real time / processor time, on {n_cores()} cores: {n_cores() * last.built.seconds / min(cpu):.0f}")


def _took(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
