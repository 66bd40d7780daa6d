"""How fast smalti's solvers are, against a plain float64 numpy transcription of the same loop; see README.md."""

import argparse
import gc
import os
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import transcriptions
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from smalti import LetItBee, Step, StftParams, activation_steps, beta_divergence, pursuit_steps, stft
from smalti.dsp.channels import to_mono
from smalti.io.sound_read import read_audio, resample
from smalti.workflows.demo import demo_source, demo_target

Matrix = NDArray[Any]
Solver = Callable[[Matrix, Matrix, Matrix], Iterator[Matrix]]

SR = 22050
NOTEBOOK_ATOMS, NOTEBOOK_FRAMES = 47, 772

LEAST_GRAM_GAIN = 20
MOST_TIMES_PRODUCTS = 1.5


# --- problems


@dataclass(frozen=True, eq=False)
class Problem:
    """Target V (F, N) and dictionary W (F, K), float32, laid out in memory as smalti's own analysis leaves them."""

    name: str
    V: Matrix
    W: Matrix

    @property
    def size(self) -> str:
        return f"{self.W.shape[0]} x {self.W.shape[1]} x {self.V.shape[1]}"

    def start(self) -> Matrix:
        return np.random.default_rng(0).random((self.W.shape[1], self.V.shape[1]), np.float32)

    def unit_norm(self) -> "Problem":
        """The problem with atoms of length 1, as in the notebook."""
        norms = np.linalg.norm(self.W, axis=0)
        return Problem(self.name, self.V, self.W / np.where(norms > 0, norms, 1))


def magnitudes(samples: Matrix) -> Matrix:
    return np.abs(stft(samples, StftParams()))


def load(path: Path) -> Matrix:
    recording = read_audio(path)
    return magnitudes(to_mono(resample(recording.samples, recording.sr, SR)))


def demo() -> Problem:
    return Problem("demo", magnitudes(demo_target(SR)), magnitudes(demo_source(SR)))


def small(demo: Problem, folder: Path | None) -> Problem:
    """The teaching notebook's recordings, or demo sounds cut to their size."""
    if folder:
        return Problem("oboe", load(folder / "funk_groove.mp3"), load(folder / "oboe_c6.wav"))
    frames = np.arange(NOTEBOOK_FRAMES) % demo.V.shape[1]
    return Problem("demo, cut", demo.V.T[frames].T, demo.W[:, 100 : 100 + NOTEBOOK_ATOMS])


# --- solvers


def watched(steps: Iterator[Step]) -> Iterator[Matrix]:
    """The activations of every step, whose divergence is read too, as `mosaic` does."""
    for step in steps:
        _ = step.divergence
        yield step.H


@dataclass(frozen=True, eq=False)
class Race:
    """One row: a transcription and ours on one problem.

    Only `timed` of the `iterations` are run; the rest are taken to last as long.
    """

    what: str
    problem: Problem
    transcription: Solver
    ours: Solver
    iterations: int
    timed: int
    dtype: type[np.floating[Any]] = np.float32
    products: bool = False

    def arrays(self, dtype: type[np.floating[Any]]) -> tuple[Matrix, Matrix, Matrix]:
        problem = self.problem
        return problem.V.astype(dtype), problem.W.astype(dtype), problem.start().astype(dtype)


def notebook_race(what: str, problem: Problem, **how: Any) -> Race:
    problem = problem.unit_norm()
    transcription = how.pop("transcription", transcriptions.notebook)

    def ours(V: Matrix, W: Matrix, H: Matrix) -> Iterator[Matrix]:
        return watched(activation_steps(V, W, n_iter=100, beta=2, eps=0.01, init=H))

    return Race(what, problem, partial(transcription, eps=0.01), ours, iterations=100, **how)


def kl_race(problem: Problem, **how: Any) -> Race:
    def ours(V: Matrix, W: Matrix, H: Matrix) -> Iterator[Matrix]:
        return watched(activation_steps(V, W, n_iter=50, init=H))

    transcription = transcriptions.kullback_leibler
    return Race("Kullback-Leibler", problem, transcription, ours, iterations=50, products=True, **how)


def let_it_bee_race(problem: Problem, **how: Any) -> Race:
    def ours(V: Matrix, W: Matrix, H: Matrix) -> Iterator[Matrix]:
        rules = LetItBee(repetition=3, polyphony=10, continuity=3)
        return watched(activation_steps(V, W, n_iter=50, constraints=rules, init=H))

    transcription = partial(transcriptions.let_it_bee, n_iter=50, repetition=3, polyphony=10, continuity=3)
    return Race("Let it Bee", problem, transcription, ours, iterations=50, products=True, **how)


def pursuit_race(problem: Problem, **how: Any) -> Race:
    def transcription(V: Matrix, W: Matrix, H: Matrix) -> Iterator[Matrix]:
        yield transcriptions.matching_pursuit(V, W, n_atoms=1)

    def ours(V: Matrix, W: Matrix, H: Matrix) -> Iterator[Matrix]:
        return watched(pursuit_steps(V, W, n_atoms=1, nonnegative=False))

    return Race("sparse coding, 1 atom", problem, transcription, ours, iterations=1, timed=1, **how)


def races(folder: Path | None, quick: bool) -> list[Race]:
    ours = demo()
    oboe = small(ours, folder)
    some = 5 if quick else 25
    error = transcriptions.notebook_with_error
    found = [
        notebook_race("notebook", oboe, timed=100),
        notebook_race("notebook, ours float64", oboe, timed=100, dtype=np.float64),
        notebook_race("notebook, W'(W H)", oboe, timed=100, transcription=transcriptions.notebook_by_model),
        notebook_race("notebook, with error", oboe, timed=10, transcription=error),
        notebook_race("notebook", ours, timed=some),
        kl_race(ours, timed=some),
        let_it_bee_race(ours, timed=some),
        pursuit_race(oboe),
        pursuit_race(ours),
    ]
    if folder and not quick:
        whale = Problem("humpback", load(folder / "funk_groove.mp3"), load(folder / "humpback.ogg"))
        found += [
            notebook_race("notebook", whale, timed=4),
            kl_race(whale, timed=10),
            let_it_bee_race(whale, timed=5),
            pursuit_race(whale),
        ]
    return found


# --- measuring


@dataclass(frozen=True)
class Result:
    """The figures of a row. `products` is our time for an iteration over that of its two products: least, median."""

    race: Race
    seconds: tuple[float, float]
    megabytes: tuple[float, float]
    activations_differ: float
    divergence_differs: float
    products: tuple[float, float] | None

    @property
    def gain(self) -> float:
        return self.seconds[0] / self.seconds[1]


def measure(race: Race, patience_s: float) -> Result:
    sides = (race.transcription, race.arrays(np.float64)), (race.ours, race.arrays(race.dtype))
    times: list[list[float]] = []
    until = time.perf_counter() + patience_s
    # In turns, so that a busy moment of the machine meets both. The least counts, since other processes only add.
    while len(times) < 3 or time.perf_counter() < until:
        times.append([seconds(solver, arrays, race) for solver, arrays in sides])
    slow, fast = np.min(times, axis=0)
    plain, ours = (last(solver(*arrays), race.timed) for solver, arrays in sides)
    V, W, _ = race.arrays(np.float64)
    beta = 1 if race.products else 2
    far, near = (beta_divergence(V, W @ H + transcriptions.TINY, beta=beta) for H in (plain, ours))
    return Result(
        race,
        seconds=(float(slow), float(fast)),
        megabytes=(peak_megabytes(*sides[0], race), peak_megabytes(*sides[1], race)),
        activations_differ=float(np.abs(plain - ours).max() / np.abs(plain).max()),
        divergence_differs=abs(near / far - 1),
        products=times_products(race) if race.products else None,
    )


def last(iterations: Iterator[Matrix], n: int) -> Matrix:
    return deque(islice(iterations, n), maxlen=1).pop()


def seconds(solver: Solver, arrays: tuple[Matrix, ...], race: Race) -> float:
    """Seconds of all iterations, and of the work before the first."""
    start = time.perf_counter()
    iterations = solver(*arrays)
    ready = time.perf_counter()
    last(iterations, race.timed)
    return ready - start + (time.perf_counter() - ready) * race.iterations / race.timed


def peak_megabytes(solver: Solver, arrays: tuple[Matrix, ...], race: Race) -> float:
    """The input, and the most that is allocated at once while solving it.

    Two iterations are enough: the third takes again the memory that they have freed.
    """
    gc.collect()
    tracemalloc.start()
    last(solver(*arrays), min(2, race.timed))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (sum(array.nbytes for array in arrays) + peak) / 1e6


def times_products(race: Race) -> tuple[float, float]:
    V, W, H = race.arrays(race.dtype)
    R = np.ascontiguousarray(V / (W @ H + np.finfo(V.dtype).eps))
    steps = race.ours(V, W, H)
    next(steps)
    products, ours = [], []
    # Only early iterations are timed: Let it Bee goes over to lists later, which have no such products.
    for taken in range(14):
        if taken % 7 == 0:
            for _ in range(7):
                start = time.perf_counter()
                W @ H
                W.T @ R
                products.append(time.perf_counter() - start)
            # The threads of a BLAS that has just used all cores go on spinning for a while.
            time.sleep(0.1)
        start = time.perf_counter()
        next(steps)
        ours.append(time.perf_counter() - start)
    return min(ours) / min(products), float(np.median(ours) / np.median(products))


# --- results


def table(results: list[Result]) -> Table:
    out = Table(title="smalti against plain float64 numpy")
    out.add_column("what")
    out.add_column("sounds")
    for heading in (
        "F x K x N",
        "iterations\n(timed)",
        "plain\ns",
        "smalti\ns",
        "times\nfaster",
        "plain\nMB",
        "smalti\nMB",
        "H\ndiffers",
        "divergence\ndiffers",
        "times its\nproducts",
    ):
        out.add_column(heading, justify="right")
    for result in results:
        race = result.race
        out.add_row(
            race.what,
            race.problem.name,
            race.problem.size,
            str(race.iterations) + (f" ({race.timed})" if race.timed < race.iterations else ""),
            *(f"{value:.3g}" for value in result.seconds),
            f"{result.gain:.1f}",
            *(f"{value:.1f}" for value in result.megabytes),
            f"{result.activations_differ:.0e}",
            f"{result.divergence_differs:.0e}",
            f"{result.products[0]:.2f}" if result.products else "",
        )
    return out


def verdicts(results: list[Result]) -> Iterator[str]:
    """Whether the two promises hold: for the Gram form at the notebook's size, for Kullback-Leibler at the others."""
    for what, loop in (
        ("notebook", "its denominator as (W'W) H"),
        ("notebook, W'(W H)", "its denominator as W'(W H)"),
        ("notebook, with error", "(W'W) H, and it too computes the error of every iteration"),
    ):
        result = next(result for result in results if result.race.what == what)
        yield (
            f"{judge(result.gain >= LEAST_GRAM_GAIN)}: Euclidean updates, {result.race.problem.size}, divergences "
            f"read, are {result.gain:.1f} times faster than the notebook's loop with {loop}; "
            f"at least {LEAST_GRAM_GAIN} wanted"
        )
    for result in results:
        if result.products and result.race.what == "Kullback-Leibler":
            least, median = result.products
            yield (
                f"{judge(least <= MOST_TIMES_PRODUCTS)}: Kullback-Leibler, {result.race.problem.size}, divergences "
                f"read, takes {least:.2f} times its two products alone (by medians {median:.2f}); "
                f"at most {MOST_TIMES_PRODUCTS} wanted"
            )


def judge(held: bool) -> str:
    return "met" if held else "missed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small problems only, fewer repeats")
    parser.add_argument(
        "--audio",
        type=Path,
        help="folder with funk_groove.mp3, oboe_c6.wav and humpback.ogg; without one, only the demo's sounds",
    )
    options = parser.parse_args()
    busy = Console(stderr=True)
    patience_s = 1 if options.quick else 6
    entered = races(options.audio, options.quick)
    results = [measure(race, patience_s) for race in track(entered, console=busy, transient=True)]
    console = Console() if Console().is_terminal else Console(width=150)
    console.print(table(results))
    for line in verdicts(results):
        console.print(line, highlight=False)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    console.print(f"numpy {np.__version__}, {os.cpu_count()} cores{load}", highlight=False)


if __name__ == "__main__":
    main()
