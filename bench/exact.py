"""The exact solver against multiplicative updates of the same data, in the same run.

python bench/exact.py                                             the demo's pair, repeated to length
python bench/exact.py --target song.mp3 --source whale.ogg        66 s of source, 20 s of target, each cut or repeated
python bench/exact.py --beta 2 --tolerance 1e-4 --updates 20 100
"""

import argparse
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from smalti import ExactStep, StftParams, activation_steps, exact_steps, stft
from smalti.dsp.channels import to_mono
from smalti.io.sound_read import read_audio, resample
from smalti.workflows.demo import demo_source, demo_target

SR = 22050


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, help="a sound file; the demo's if left out")
    parser.add_argument("--source", type=Path, help="likewise")
    parser.add_argument("--target-s", type=float, default=20.0)
    parser.add_argument("--source-s", type=float, default=66.0)
    parser.add_argument("--beta", type=float, default=1.0, choices=(1.0, 2.0))
    parser.add_argument("--tolerance", type=float, default=1e-3, help="relative gap, 1e-3 is 0.1 %%")
    parser.add_argument("--updates", type=int, nargs="+", default=[20, 100, 400], help="the first are timed")
    parser.add_argument("--repeats", type=int, default=5, help="least time of so many, taken in turn")
    options = parser.parse_args()
    V = spectrum(options.target, demo_target, options.target_s)
    W = spectrum(options.source, demo_source, options.source_s)
    # Kernels are compiled, or read from their cache, at first use.
    steps = list(exact_steps(V, W, beta=options.beta, tolerance=options.tolerance))
    first = options.updates[0]
    exact_s, updates_s = [], []
    for _ in range(options.repeats):
        exact_s.append(seconds(lambda: list(exact_steps(V, W, beta=options.beta, tolerance=options.tolerance))))
        updates_s.append(seconds(lambda: divergences(V, W, options.beta, [first])))
    console = Console(width=110)
    console.print(
        f"{W.shape[0]} bins x {W.shape[1]} atoms x {V.shape[1]} frames, beta {options.beta:g}", highlight=False
    )
    console.print(rounds(steps))
    least = steps[-1].divergence - steps[-1].gap
    table = Table("solver", "seconds", "above the optimum, at most", title="least times", title_justify="left")
    table.add_row(f"exact, {len(steps)} rounds", f"{min(exact_s):.3f}", f"{steps[-1].relative_gap:.2e}")
    for n, divergence in divergences(V, W, options.beta, options.updates).items():
        table.add_row(f"{n} updates", f"{min(updates_s):.3f}" if n == first else "", f"{divergence / least - 1:.2e}")
    console.print(table)
    console.print(f"exact takes {min(exact_s) / min(updates_s):.2f} of {first} updates", highlight=False)


def spectrum(file: Path | None, demo: Callable[[int], NDArray[Any]], length_s: float) -> NDArray[Any]:
    """Magnitudes of `length_s` seconds; the recording is cut or repeated."""
    if file is None:
        samples = demo(SR)
    else:
        recording = read_audio(file)
        samples = to_mono(resample(recording.samples, recording.sr, SR))
    return np.abs(stft(np.resize(samples, round(length_s * SR)), StftParams()))


def divergences(V: NDArray[Any], W: NDArray[Any], beta: float, counts: list[int]) -> dict[int, float]:
    """The divergences after each of the `counts` of updates, from one run."""
    steps = activation_steps(V, W, n_iter=max(counts), beta=beta)
    return {step.iteration: step.divergence for step in islice(steps, max(counts)) if step.iteration in counts}


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def rounds(steps: list[ExactStep]) -> Table:
    table = Table("round", "divergence", "above the optimum, at most", "non-zeros a frame")
    for step in steps:
        n_frames = step.H.shape[1]
        table.add_row(
            str(step.iteration), f"{step.divergence:.6g}", f"{step.relative_gap:.2e}", f"{step.H.nnz / n_frames:.1f}"
        )
    return table


if __name__ == "__main__":
    main()
