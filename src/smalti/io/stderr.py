"""Keep output that libraries write to file descriptor 2 off the terminal."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Silence libraries that write to file descriptor 2, as libmpg123 does about odd MP3s.

    `sys.stderr` still prints. The descriptor belongs to the whole process, so use this once around all threads that
    decode, not in each.
    """
    try:
        kept = os.dup(2)
    except OSError:  # it is closed: nothing can be printed
        yield
        return
    ours = sys.stderr
    try:
        ours.flush()
        if ours.fileno() == 2:
            sys.stderr = os.fdopen(kept, "w", buffering=1, errors="backslashreplace", closefd=False)
    except (OSError, ValueError, AttributeError):  # `sys.stderr` already goes elsewhere
        pass
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        sys.stderr = ours


@contextmanager
def quiet_decoder() -> Iterator[None]:
    """Apply `quiet_stderr` while one file is decoded, but not beside other threads: their output would be lost too."""
    if threading.active_count() > 1:
        yield
        return
    with quiet_stderr():
        yield
