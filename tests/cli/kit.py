"""Helpers of the tests of commands: sounds, files, and checks of what commands print."""

import functools
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

SR = 8000


N = 3000


on_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


as_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not stop the superuser"
)


def tone(n=N, sr=SR, hz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(n) / sr)).astype(np.float32)


def put(path, samples, sr=SR, **kind):
    soundfile.write(path, samples, sr, **kind)
    return path


def contents(folder):
    """The files and folders in a folder with their bytes, to see that nothing was added or changed."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(result, code, sentence):
    """Check for one sentence on stderr in which the pattern `sentence` is found, and for nothing on stdout.

    Patterns hold words of ours and names of options: the parser of options words and quotes as its version likes.
    """
    assert (result.code, result.out) == (code, "")
    (line,) = result.err.splitlines()
    assert re.search(sentence, line), line
    assert line.startswith("smalti: "), line
    return True


ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100"}


def on_terminal(arguments, until=b"", then=None):
    """Run on a terminal 100 wide, and send the signal `then` once `until` has appeared; return exit code and text."""
    ours, theirs = os.openpty()
    process = start(arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    text = b""
    try:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux raises this once no process is left to write
                piece = b""
            if not piece:
                break
            text += piece
            if then is not None and re.search(until, text):
                process.send_signal(then)
                then = None
        return process.wait(timeout=60), text
    finally:
        os.close(ours)
        process.kill()
        process.wait()


SMALTI = (sys.executable, "-m", "smalti")


BAD_FILES = {
    "missing.wav": "there is no such file",
    "empty.wav": "it is empty",
    "text.wav": "not audio of a known format",
    "header.wav": "damaged",
    "nothing.wav": "no samples",
    "nan.wav": r"1 of its samples are NaN.* the first at 0\.010 s",
    "inf.wav": "1 of its samples are NaN, infinite",
    "1e30.wav": "beyond",
    "1e9.wav": "peaks at 1e\\+09 where 1 is full scale",
}


def spoil(folder):
    """Write the recordings of `BAD_FILES`, none of which can be used; the missing one is not written."""
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no sound\n" * 100)
    (folder / "header.wav").write_bytes((folder / "target.wav").read_bytes()[:30])
    put(folder / "nothing.wav", np.zeros(0))
    for name, value in (("nan", np.nan), ("inf", np.inf), ("1e30", 1e30), ("1e9", 1e9)):
        samples = tone()
        samples[80] = value
        put(folder / f"{name}.wav", samples, subtype="FLOAT")


def settings_of(result):
    assert result.code == 0, result.err
    return json.loads(result.out)["settings"]


def interrupted(*_, **__):
    raise KeyboardInterrupt


def start(arguments, **kind):
    # A shell has its background jobs ignore SIGINT, and so would all that they start.
    interruptible = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(arguments, env=ENVIRONMENT, preexec_fn=interruptible, **kind)
