"""One thread a core over blocks of target frames: how the costly kernels use the whole machine.

A thread pool inside BLAS beside one of ours would fight over the cores, so BLAS keeps to one thread while blocks are
worked on. What is given must let go of the interpreter: matrix products, numpy on large arrays, compiled kernels.
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
    """What `work` returns for each block of `size` of the `n` frames, in order.

    Blocks do not depend on how many cores there are, and so neither does any sum that is rounded within one.

    Parameters
    ----------
    work : called with the slice of a block, in threads of its own; it may write to the block's place in shared arrays.
    n : int >= 0. size : int >= 1; the last block may have less.
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
        # The caller works, too: to start a thread costs more than many a block.
        threads = [Thread(target=run) for _ in range(min(n_cores(), len(blocks)) - 1)]
        for thread in threads:
            thread.start()
        run()
        try:
            for thread in threads:
                thread.join()
        except BaseException as stopped:
            # Ctrl-C: the others end with the block that they are at.
            faults.append(stopped)
            for thread in threads:
                thread.join()
    if faults:
        raise faults[0]
    return [done[i] for i in range(len(blocks))]


_lock = Lock()
_inside: list[Any] = []


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """BLAS keeps to one thread while anyone is inside: its limit is the whole process's, whichever threads call."""
    with _lock:
        limiter = _inside[0] if _inside else _controller().limit(limits=1, user_api="blas")
        _inside.append(limiter)
    try:
        yield
    finally:
        with _lock:
            _inside.pop()
            if not _inside:
                limiter.restore_original_limits()


def n_cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not every system tells
        return os.cpu_count() or 1


@functools.cache
def _controller() -> ThreadpoolController:
    """Knows the BLAS libraries that are loaded; looking for them takes milliseconds."""
    return ThreadpoolController()
