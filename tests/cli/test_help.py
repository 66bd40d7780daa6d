"""Help, version and completion of every command."""

import signal
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from smalti import __version__
from smalti.cli import main, terminal
from smalti.io.sound_write import SUBTYPES
from smalti.presets import PRESETS


def test_help_and_version(run):
    version = run("--version")
    assert (version.code, version.out) == (0, f"smalti {__version__}\n")
    for command in ((), ("make",), ("judge",), ("blind",), ("demo",), ("examples",), ("presets",)):
        for flag in ("--help", "-h"):
            result = run(*command, flag)
            assert (result.code, result.err) == (0, "")
            assert "smalti" in result.out
    # Without a command the help is shown, but the exit code is that of a usage error.
    result = run()
    assert (result.code, result.err) == (2, "")
    assert "make" in result.out


def test_the_script_and_the_module_start_the_same_program():
    (script,) = entry_points(group="console_scripts", name="smalti")
    assert script.load() is main.main
    started = subprocess.run([sys.executable, "-m", "smalti", "--version"], capture_output=True, text=True, check=True)
    assert started.stdout == f"smalti {__version__}\n"


def test_only_the_entry_point_takes_over_sigterm(run, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    assert run("--version").code == 0
    assert signal.getsignal(signal.SIGTERM) is before
    taken = []
    monkeypatch.setattr(signal, "signal", lambda number, _: taken.append(number))
    with pytest.raises(SystemExit, match=r"^0$"):
        main.main(["--version"])
    assert taken == [signal.SIGTERM]


@pytest.mark.parametrize(("interrupt", "code"), [(KeyboardInterrupt, 130), (terminal.Terminated, 143)])
def test_an_interrupt_inside_a_compiled_kernel_is_an_interrupt(run, monkeypatch, interrupt, code):
    # Python reports what a compiled function is stopped by as the cause of an error of its own.
    def interrupted(**_):
        raise SystemError("returned a result with an exception set") from interrupt()

    monkeypatch.setattr(main, "app", interrupted)
    result = run("make", "a", "b")
    assert (result.code, result.err) == (code, "smalti: stopped\n")


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        ("smalti make --preset ", list(PRESETS)),
        ("smalti make --preset sp", ["sparse"]),
        ("smalti demo --preset c", ["classic"]),
        ("smalti make --phase g", ["griffin-lim"]),
        ("smalti make --transpose ", ["auto", "off", "follow", "chords"]),
        ("smalti make --subtype ", list(SUBTYPES)),
        ("smalti pre", ["presets"]),
    ],
)
def test_the_shell_completes(run, monkeypatch, words, offers):
    monkeypatch.setenv("_SMALTI_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    assert run().out.split() == offers


def test_completion_can_be_shown(run, monkeypatch):
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: ("bash", "/bin/bash"))
    shown = run("--show-completion")
    assert shown.code == 0
    assert "_SMALTI_COMPLETE=complete_bash" in shown.out
