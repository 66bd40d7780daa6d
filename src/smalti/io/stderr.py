"""Keep off the terminal what libraries write to file descriptor 2."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep off the terminal what libraries write to file descriptor 2, as libmpg123 does about odd MP3s; we still may.

    The descriptor is the whole process's: for while threads decode, which cannot take it from each other.
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
    except (OSError, ValueError, AttributeError):  # it goes somewhere else already
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
    """Keep what libmpg123 prints about odd MP3s off the terminal.

    It writes to file descriptor 2 and cannot be told not to. The descriptor is the whole process's, so this steps
    aside when there is another thread, whose words would be lost with the chatter.
    """
    try:
        stderr = os.dup(2) if threading.active_count() == 1 else None
    except OSError:  # descriptor 2 is closed: nothing can be printed
        stderr = None
    if stderr is None:
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
