"""The command line: registers the commands, runs one, and turns every failure into one sentence and an exit code.

Exit codes: 0 done; 1 a fault of a file, a disk, a network or smalti itself; 2 a usage error; 130 Ctrl-C; 143 SIGTERM.
"""

import io
import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

import smalti
from smalti._checks import ParameterError, ParameterTypeError
from smalti.cli.blind import blind
from smalti.cli.corpus import app as corpus_app
from smalti.cli.demo import demo
from smalti.cli.judge import judge
from smalti.cli.make import make
from smalti.cli.options import option_of
from smalti.cli.presets import examples, presets
from smalti.cli.render import render
from smalti.cli.score import app as score_app
from smalti.cli.terminal import Stopped, Terminated, line
from smalti.errors import SmaltiError
from smalti.io.files import reason_of

app = typer.Typer(
    name="smalti",
    help="Audio mosaics: re-create a TARGET recording out of the sounds of a SOURCE.\n\n"
    "Start with:  smalti demo\n\n"
    "Then:  smalti make TARGET SOURCE -o mosaic.wav",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(corpus_app, name="corpus")
app.add_typer(score_app, name="score")
for _command in (make, render, judge, blind, demo, examples, presets):
    app.command()(_command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Handle SIGTERM, run the command line and exit; for a process that does nothing else."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line on `arguments`, or on the process's own if None; return the exit code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # The caller closed this stream. If it stayed None, text for stderr would be printed on stdout.
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper):
            # A file name may hold bytes that are no text; printing it must not fail after the work is done.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(args=arguments, prog_name="smalti", standalone_mode=False)
        # Typer catches Ctrl-C itself; depending on its version, it returns a code or raises.
        if code == 130:
            raise KeyboardInterrupt
    except SystemExit as stop:  # the shell's completion, once it has printed its suggestions
        code = stop.code
    except SmaltiError as error:
        return _failed(str(error), 1)
    except (ParameterError, ParameterTypeError) as error:
        # The library checks the arguments, so its errors about parameters are usage errors here.
        return _failed(error.worded(option_of), 2)
    except (ValueError, TypeError) as error:
        return _failed(str(error), 2)
    except MemoryError:
        return _failed("not enough memory; take a shorter target (--start, --end) or less source", 1)
    except KeyboardInterrupt:
        return _failed("stopped", 130)
    except Terminated:
        return _failed("stopped", 128 + signal.SIGTERM)
    except Stopped as error:
        return _failed(str(error), error.code)
    except OSError as error:
        return _failed(f"{error.filename or 'the system'}: {reason_of(error)}", 1)
    except Exception as error:
        # Typer's usage errors carry their sentence and code. Their classes have moved between its versions, so they are
        # recognised by their attributes.
        # A compiled kernel that is interrupted ends with an error of Python's own, whose cause is the interrupt.
        if type(error).__name__ == "Abort" or isinstance(error.__cause__, KeyboardInterrupt):
            return _failed("stopped", 130)
        if isinstance(error.__cause__, Terminated):
            return _failed("stopped", 128 + signal.SIGTERM)
        if not hasattr(error, "format_message"):
            return _failed(f"{type(error).__name__}: {error}; this is a fault of smalti's, please report it", 1)
        code = getattr(error, "exit_code", 2)
        # Without arguments Typer has shown the help, and its error has no sentence.
        if not (sentence := error.format_message().rstrip(".")):
            return _flushed(code)
        command = getattr(getattr(error, "ctx", None), "command_path", "smalti")
        return _failed(f"{sentence}; try '{command} --help'", code)
    return _flushed(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _flushed(code: int) -> int:
    """Flush stdout and return the exit code, which a failure to write may still change."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python flushes once more when it exits, which would fail again; the null device takes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # One sentence is enough, and a pipe that was closed on purpose ("| head") is no fault.
        if not code and not isinstance(error, BrokenPipeError):
            print(f"smalti: cannot print: {reason_of(error)}", file=sys.stderr)
        return code or 1
    return code


def _failed(sentence: str, code: int) -> int:
    """Print why the command failed; return the exit code."""
    print(line(f"smalti: {sentence}"), file=sys.stderr)
    return _flushed(code)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"smalti {smalti.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass
