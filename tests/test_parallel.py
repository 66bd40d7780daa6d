"""Blocks of frames on all cores: results in order, BLAS on one thread meanwhile, faults passed on."""

from threading import Event, Thread

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from smalti import _parallel


@pytest.mark.parametrize("cores", [1, 2, 7])
@pytest.mark.parametrize(("n", "size"), [(0, 3), (1, 3), (3, 3), (10, 3), (10, 1)])
def test_every_frame_is_in_one_block_in_order_on_any_number_of_cores(monkeypatch, n, size, cores):
    monkeypatch.setattr(_parallel, "n_cores", lambda: cores)
    blocks = _parallel.over_blocks(lambda block: list(range(block.start, block.stop)), n, size=size)
    assert [frame for block in blocks for frame in block] == list(range(n))
    assert all(len(block) <= size for block in blocks)


def test_blas_keeps_to_one_thread_while_blocks_are_worked_on_and_has_its_own_again_after():
    def threads(block=None):
        # Only numpy's BLAS counts here: other libraries may load theirs at any time.
        return [
            library["num_threads"]
            for library in threadpool_info()
            if library["user_api"] == "blas" and "numpy" in library["filepath"]
        ]

    np.ones((2, 2)) @ np.ones((2, 2))
    before = threads()
    assert before
    for inside in _parallel.over_blocks(threads, 4, size=1):
        assert set(inside) == {1}
    assert threads() == before


def test_a_fault_in_a_block_reaches_the_caller():
    def fail(block):
        raise ZeroDivisionError(block.start)

    with pytest.raises(ZeroDivisionError):
        _parallel.over_blocks(fail, 9, size=2)


def test_calls_of_two_threads_leave_blas_as_it_was():
    def threads():
        return [
            library["num_threads"]
            for library in threadpool_info()
            if library["user_api"] == "blas" and "numpy" in library["filepath"]
        ]

    before, first_in, second_in = threads(), Event(), Event()

    def first(block):
        first_in.set()
        second_in.wait()

    def second(block):
        first_in.wait()
        second_in.set()
        # The first call ends while this one still runs.
        caller.join()
        assert set(threads()) == {1}

    caller = Thread(target=lambda: _parallel.over_blocks(first, 1, size=1))
    caller.start()
    _parallel.over_blocks(second, 1, size=1)
    assert threads() == before
