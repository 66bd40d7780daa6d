"""Signals, terminals, closed pipes and full disks, most of them in a process of their own."""

import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from kit import ENVIRONMENT, SMALTI, SR, N, contents, interrupted, on_posix, on_terminal, refused, start

from smalti.mosaicing import mosaic as mosaicing
from smalti.workflows import make as make_workflow


@pytest.mark.parametrize(
    "moment", ["prepare", "solver_of", "part_of", "assemble", "write_outputs", "measure_made", "write_report"]
)
def test_ctrl_c_stops_at_any_moment_without_a_trace(folder, make, monkeypatch, moment):
    before = contents(folder)
    called_in = mosaicing if moment in ("solver_of", "part_of") else make_workflow
    monkeypatch.setattr(called_in, moment, interrupted)
    assert refused(make("--report", "report.json"), 130, "^smalti: stopped$")
    left = contents(folder)
    # The sound is complete before it is measured and reported.
    if moment in ("measure_made", "write_report"):
        assert soundfile.info("out.wav").frames == N
        del left[folder / "out.wav"]
    assert left == before


def test_ctrl_c_while_writing_keeps_the_earlier_file(folder, make, monkeypatch):
    (folder / "out.wav").write_text("an earlier take")
    before = contents(folder)
    monkeypatch.setattr(os, "fsync", interrupted)
    assert refused(make("--overwrite"), 130, "stopped")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("fault", "code", "sentence"),
    [
        (MemoryError(), 1, "not enough memory; take a shorter target"),
        (OSError(errno.EIO, "Input/output error", "disk.wav"), 1, "disk.wav: input/output error"),
        (RuntimeError("odd"), 1, "RuntimeError: odd; this is a fault of smalti's, please report it"),
    ],
)
def test_every_failure_is_told_in_one_sentence(folder, make, monkeypatch, fault, code, sentence):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(make_workflow, "prepare", fail)
    assert refused(make(), code, sentence)
    assert not (folder / "out.wav").exists()


def test_text_for_a_closed_stream_goes_to_no_other(folder, make, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        result = make("--json", source="target.wav")
        assert (result.code, json.loads(result.out)["sr"]) == (0, SR)
        assert (make().code, make().out) == (1, "")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert make("--overwrite").code == 0


# Output must stay in the buffer until the end, as it does for most users.
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)


MAKE = (*SMALTI, "make", "target.wav", "source.wav", "-o", "out.wav")


FALLING = rb"divergence (\d[\d.e+]*)"


@on_posix
def test_on_a_terminal_a_bar_shows_the_divergence_fall_and_is_gone_in_the_end(folder):
    options = ("--preset", "notebook", "--sr", "8000", "--iterations", "300", "--report", "report.json")
    code, text = on_terminal([*MAKE, *options])
    assert code == 0
    divergences = json.loads((folder / "report.json").read_text())["divergence"]
    # How often the bar is drawn depends on the clock, but it is always drawn at the end.
    shown = [number.decode() for number in re.findall(FALLING, text)]
    assert shown[-1] == f"{divergences[-1]:.4g}"
    assert set(shown) <= {f"{divergence:.4g}" for divergence in divergences}
    assert [float(number) for number in shown] == sorted(map(float, shown), reverse=True)
    # The last line is erased, and the cursor is shown again.
    assert b"\x1b[2K" in text.rpartition(b"divergence")[2]
    assert text.rindex(b"\x1b[?25h") > text.rindex(b"\x1b[?25l")
    assert re.search(rb"out\.wav: 0\.4 s of target\.wav made of source\.wav", text)


@on_posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_the_work_and_leave_nothing_behind(folder, number, code):
    before = contents(folder)
    got, text = on_terminal([*MAKE, "--iterations", str(10**9)], until=FALLING, then=number)
    assert got == code
    assert text.endswith(b"smalti: stopped\r\n")
    assert b"Traceback" not in text
    assert text.rindex(b"\x1b[?25h") > text.rindex(b"\x1b[?25l")
    assert contents(folder) == before


def test_in_a_pipe_there_is_no_bar_even_if_colours_are_forced(folder, make, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = make()
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out


@on_posix
@pytest.mark.parametrize("arguments", [(*SMALTI, "presets"), (*MAKE, "--json")], ids=["presets", "make"])
def test_a_pipe_that_nobody_reads_is_no_success_and_no_traceback(folder, arguments):
    theirs, ours = os.pipe()
    os.close(theirs)
    process = start(arguments, stdout=ours, stderr=subprocess.PIPE)
    os.close(ours)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_failure_to_print_is_no_success(folder):
    with Path("/dev/full").open("wb") as full:
        process = start(MAKE, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(rb"smalti: .*no space left on device\n", err)


@on_posix
def test_a_full_disk_leaves_nothing_behind(folder):
    """A limit on the size of files stands in for a full disk."""
    before = contents(folder)
    limited = (
        "import resource, sys; from smalti.cli.main import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); main(sys.argv[1:])"
    )
    process = start([sys.executable, "-c", limited, *MAKE[3:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, b"")
    assert re.fullmatch(rb"smalti: cannot write out\.wav: .*free some space or choose another folder\n", err)
    assert contents(folder) == before


@on_posix
def test_make_runs_without_a_home_folder(folder):
    process = subprocess.run(
        MAKE, env={"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (process.returncode, process.stderr) == (0, "")


def test_new_files_have_the_permissions_of_any_new_file(folder, make):
    make("--report", "report.json")
    (folder / "other").touch()
    wanted = stat.S_IMODE((folder / "other").stat().st_mode)
    for name in ("out.wav", "report.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == wanted
