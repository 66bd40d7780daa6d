"""Decorators for kernels that numba compiles, and a way to be notified when it does.

Compiling takes seconds, once for each machine and release. Compiled kernels are kept beside the code or in the user's
cache, and loaded from then on. numba itself takes half a second to load, so it is loaded with the first module that has
kernels, and those modules only when they are first needed.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_callbacks: list[Callable[[], None]] = []


def kernel(function: Function) -> Function:
    """Compile `function` on its first call. Sums may be reordered, which SIMD needs; values must never be NaN."""
    return _compiled(function, {"reassoc", "contract", "nsz", "nnan"})


def careful_kernel(function: Callable[..., Any]) -> Any:
    """Like `kernel`, but values may be NaN or infinite."""
    return _compiled(function, {"reassoc", "contract", "nsz"})


@contextmanager
def on_compiling(callback: Callable[[], None]) -> Iterator[None]:
    """Call `callback` whenever a kernel has to be compiled inside this context."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def _compiled(function: Function, fastmath: set[str]) -> Function:
    import numba

    _listen()
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        compile_ = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Neither the code's folder nor the user's cache is writable: every process compiles for itself.
        compile_ = numba.njit(**options)(function)
    return cast(Function, compile_)


@functools.cache
def _listen() -> None:
    """Have numba report each compilation; loading a compiled kernel is not reported."""
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            for callback in tuple(_callbacks):
                callback()

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Listener())  # type: ignore[no-untyped-call]  # numba carries few types
