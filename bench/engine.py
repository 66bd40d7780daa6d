"""The promises of smalti's engine, measured in one run: `python bench/engine.py --audio DIR`.

Let it Bee as the preset `classic` has it: 20 s of funk_groove.mp3 (repeated to fill them) made of humpback.ogg, at
22.05 kHz, window 2048, hop 512, 50 iterations, float32.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import transcriptions
from speed import SR, Matrix, Problem, judge, magnitudes

from smalti import LetItBee, beta_divergence, read_audio, write_audio
from smalti.dsp.channels import to_mono
from smalti.io.sound_read import resample
from smalti.nmf import blockwise

TARGET_S = 20
RULES = LetItBee(repetition=3, polyphony=10, continuity=3)
MOST_TIMES_PRODUCTS, LEAST_GAIN, MOST_KL, MOST_OF_LOOP, MOST_DEMO_S = 1.15, 8, 1e-4, 1 / 3, 20

# A program that uses the engine for the first time waits for numba and for every kernel that Let it Bee needs.
FIRST_USE = """
import time
start = time.perf_counter()
import numpy as np
from smalti import LetItBee
from smalti.nmf import blockwise
rng = np.random.default_rng(0)
V, W, H = (rng.random(shape, np.float32) for shape in ((40, 300), (40, 400), (400, 300)))
loaded = time.perf_counter()
for step in blockwise.engine_steps(V, W, H, n_iter=30, constraints=LetItBee()):
    step.divergence
step.H
print(loaded - start, time.perf_counter() - loaded)
"""


def recordings(folder: Path, scratch: Path) -> tuple[Problem, Path, Path]:
    """The problem, and the files from which the command makes the same mosaic."""
    target, source = (read_audio(folder / name) for name in ("funk_groove.mp3", "humpback.ogg"))
    once, other = (to_mono(resample(recording.samples, recording.sr, SR)) for recording in (target, source))
    samples = np.tile(once, -(-TARGET_S * SR // len(once)))[: TARGET_S * SR]
    write_audio(scratch / "target.wav", samples, SR)
    return Problem("humpback", magnitudes(samples), magnitudes(other)), scratch / "target.wav", folder / "humpback.ogg"


def engine_laps(problem: Problem, n: int) -> list[float]:
    """Seconds of each of the first `n` iterations that follow the first."""
    steps = blockwise.engine_steps(problem.V, problem.W, problem.start(), n_iter=50, constraints=RULES)
    next(steps)
    return [lap(lambda: next(steps)) for _ in range(n)]


def product_laps(problem: Problem, n: int) -> list[float]:
    H = problem.start()
    ratio = np.ascontiguousarray(problem.V / (problem.W @ H + np.finfo(np.float32).eps))
    return [lap(lambda: (problem.W @ H, problem.W.T @ ratio)) for _ in range(n)]


def lap(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(problem: Problem, rounds: int) -> tuple[list[float], list[float]]:
    """Laps of both, with a pause between, since a BLAS that has just used all cores keeps them busy for a while."""
    products, iterations = [], []
    for _ in range(rounds):
        products += product_laps(problem, 6)
        time.sleep(0.2)
        iterations += engine_laps(problem, 8)
    return products, iterations


def solved(problem: Problem) -> tuple[float, float, Matrix]:
    """Seconds of all iterations, without and with their divergences read, and the activations."""

    def run(read: bool) -> Matrix:
        for step in blockwise.engine_steps(problem.V, problem.W, problem.start(), n_iter=50, constraints=RULES):
            if read:
                _ = step.divergence
        return step.H

    return min(lap(lambda: run(False)) for _ in range(3)), min(lap(lambda: run(True)) for _ in range(3)), run(False)


def lists_apart(problem: Problem, ours: Matrix) -> tuple[float, float]:
    """How far lists differ from matrices: in dB of the activations, and as a share of the divergence."""
    V, W, H = problem.V, problem.W, problem.start()
    *_, step = blockwise.engine_steps(V, W, H, n_iter=50, constraints=RULES, lists_below=0.0)
    difference = np.linalg.norm(ours - step.H) / np.linalg.norm(step.H)
    return 20 * float(np.log10(difference)), step.fit.divergence(step.fit.product(ours)) / step.divergence - 1


def transcribed(problem: Problem) -> tuple[float, Matrix]:
    V, W, H = (array.astype(np.float64) for array in (problem.V, problem.W, problem.start()))
    loop = transcriptions.let_it_bee(V, W, H, n_iter=50, repetition=3, polyphony=10, continuity=3)
    start = time.perf_counter()
    for _ in range(50):
        H = next(loop)
    return time.perf_counter() - start, H


def command(*arguments: str | Path, cache: Path | None = None) -> str:
    environment = os.environ | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {})
    run = [sys.executable, *map(str, arguments)]
    return subprocess.run(run, env=environment, check=True, capture_output=True, text=True).stdout


def report(folder: Path, scratch: Path) -> Iterator[str]:
    problem, target, source = recordings(folder, scratch)
    yield f"F x K x N = {problem.size}"

    engine_laps(problem, 1)
    products, iterations = in_turns(problem, 5)
    least = min(iterations) / min(products)
    yield (
        f"{judge(least <= MOST_TIMES_PRODUCTS)}: an iteration takes {1e3 * min(iterations):.0f} ms, {least:.2f} times "
        f"its two products alone ({1e3 * min(products):.0f} ms; by medians "
        f"{np.median(iterations) / np.median(products):.2f}); at most {MOST_TIMES_PRODUCTS} wanted"
    )

    blind_s, read_s, ours = solved(problem)
    loop_s, theirs = transcribed(problem)
    yield (
        f"{judge(loop_s >= LEAST_GAIN * blind_s)}: 50 iterations take {blind_s:.2f} s, {read_s:.2f} s with every "
        f"divergence read; the float64 transcription takes {loop_s:.1f} s: {loop_s / blind_s:.1f} and "
        f"{loop_s / read_s:.1f} times faster; at least {LEAST_GAIN} wanted"
    )
    V, W = problem.V.astype(np.float64), problem.W.astype(np.float64)
    far, near = (beta_divergence(V, W @ H.astype(np.float64) + transcriptions.TINY) for H in (theirs, ours))
    apart = near / far - 1
    held = judge(abs(apart) <= MOST_KL)
    yield f"{held}: divergences differ by {apart:.1e} of {far:.6g}; at most {MOST_KL:.0e} wanted"

    apart_db, apart = lists_apart(problem, ours)
    yield f"lists differ from matrices to the end by {apart_db:.0f} dB in activations and {apart:.1e} in divergence"

    def make(out: str) -> float:
        how = ("--preset", "classic", "--sr", str(SR), "-o", scratch / out)
        return lap(lambda: command("-m", "smalti", "make", target, source, *how))

    make("warm.wav")
    make_s = min(make(f"{i}.wav") for i in range(3))
    yield (
        f"{judge(make_s <= MOST_OF_LOOP * loop_s)}: `smalti make --preset classic` takes {make_s:.2f} s, caches warm, "
        f"{make_s / loop_s:.2f} of the transcription's loop alone; at most {MOST_OF_LOOP:.2f} wanted"
    )

    import_s = min(float(command("-c", IMPORT)) for _ in range(5))
    yield f"`import smalti` takes {import_s:.2f} s"
    cache = scratch / "cache"
    fresh, warm = (command("-c", FIRST_USE, cache=cache).split()[1] for _ in range(2))
    yield f"first use of the engine: {float(fresh):.1f} s with nothing compiled, {float(warm):.1f} s ever after"
    empty = scratch / "empty"

    def demo(out: str) -> float:
        return lap(lambda: command("-m", "smalti", "demo", "-o", scratch / out, cache=empty))

    first_s, second_s = demo("first"), demo("second")
    compiled = "compiles kernels" if list(empty.rglob("*.nbi")) else "compiles nothing"
    yield (
        f"{judge(first_s < MOST_DEMO_S)}: `smalti demo` takes {first_s:.1f} s the first time, {second_s:.1f} s the "
        f"second, and {compiled}; less than {MOST_DEMO_S} s wanted"
    )


IMPORT = "import time; start = time.perf_counter(); import smalti; print(time.perf_counter() - start)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, help="folder with funk_groove.mp3 and humpback.ogg")
    with tempfile.TemporaryDirectory() as scratch:
        for line in report(parser.parse_args().audio, Path(scratch)):
            print(line, flush=True)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"numpy {np.__version__}, {os.cpu_count()} cores{load}")


if __name__ == "__main__":
    main()
