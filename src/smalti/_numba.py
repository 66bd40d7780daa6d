"""Kernels that numba compiles, and who is told when it does: that takes seconds, once for each machine and release.

What was compiled is kept beside the code or in the user's cache, and loaded from then on. numba itself takes half a
second to load, so it is loaded with the first module that has kernels, and these when they are first needed.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_told: list[Callable[[], None]] = []


def kernel(function: Function) -> Function:
    """Compile on first call. Sums may be reordered, which SIMD needs; values are never NaN."""
    return _compiled(function, {"reassoc", "contract", "nsz", "nnan"})


def careful_kernel(function: Callable[..., Any]) -> Any:
    """As `kernel`, but NaN and infinity keep their meaning."""
    return _compiled(function, {"reassoc", "contract", "nsz"})


@contextmanager
def told_of_compiling(callback: Callable[[], None]) -> Iterator[None]:
    """Call `callback` whenever a kernel has to be compiled while this is open."""
    _told.append(callback)
    try:
        yield
    finally:
        _told.remove(callback)


def _compiled(function: Function, fastmath: set[str]) -> Function:
    import numba

    _listen()
    how: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        compile_ = numba.njit(cache=True, **how)(function)
    except RuntimeError:
        # Neither beside the code nor in the user's cache may anything be kept: every process compiles for itself.
        compile_ = numba.njit(**how)(function)
    return cast(Function, compile_)


@functools.cache
def _listen() -> None:
    """Have numba say when it compiles; kernels that it loads are no matter."""
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            for callback in tuple(_told):
                callback()

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Listener())  # type: ignore[no-untyped-call]  # numba carries few types
