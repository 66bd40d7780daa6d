"""Run a costly kernel on blocks of target frames, with one thread for each core.

BLAS is limited to one thread meanwhile, since its threads would compete with ours for the cores. The work on a block
must release the interpreter lock, as matrix products, numpy on large arrays and compiled kernels do.
"""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")


def over_blocks(work: Callable[[slice], T], n: int, *, size: int) -> list[T]:
    """Call `work` on each block of `size` of the `n` frames; return its results in order.

    The blocks do not depend on the number of cores, so sums within a block are rounded alike on every machine.

    Parameters
    ----------
    work : called with the slice of a block, in any thread; it may write to that slice of shared arrays.
    n : int >= 0. size : int >= 1; the last block may be shorter.

    Raises
    ------
    BaseException : the first that `work` raised, once all threads have ended.
    """
    blocks = [slice(first, min(first + size, n)) for first in range(0, n, size)]
    done: dict[int, T] = {}
    faults: list[BaseException] = []
    # A thread that is free takes the next block.
    left = iter(enumerate(blocks))

    def run() -> None:
        try:
            for i, block in left:
                if faults:
                    return
                done[i] = work(block)
        except BaseException as fault:
            faults.append(fault)

    with _one_blas_thread():
        # The calling thread works too: starting a thread costs more than many blocks do.
        threads = [Thread(target=run) for _ in range(min(n_cores(), len(blocks)) - 1)]
        for thread in threads:
            thread.start()
        run()
        try:
            for thread in threads:
                thread.join()
        except BaseException as stopped:
            # Ctrl-C: the other threads stop after their current block.
            faults.append(stopped)
            for thread in threads:
                thread.join()
    if faults:
        raise faults[0]
    return [done[i] for i in range(len(blocks))]


_lock = Lock()
_limits: list[Any] = []


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread until the last caller has left: the limit holds for the whole process."""
    with _lock:
        limiter = _limits[0] if _limits else _controller().limit(limits=1, user_api="blas")
        _limits.append(limiter)
    try:
        yield
    finally:
        with _lock:
            _limits.pop()
            if not _limits:
                limiter.restore_original_limits()


def n_cores() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


@functools.cache
def _controller() -> ThreadpoolController:
    """The controller of the loaded BLAS libraries; finding them takes milliseconds, so it is kept."""
    return ThreadpoolController()
