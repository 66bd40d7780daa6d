"""``smalti corpus`` as its users meet it: sentences, tables, exit codes, signals."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import soundfile
from kit import refused

from smalti.cli import corpus as cli_corpus
from smalti.cli.options import filters_from, limits_from, weights_from
from smalti.corpora import build
from smalti.grains.filters import Filters

SR = 22050


@pytest.fixture
def run(run):
    """Run ``smalti corpus``."""
    return lambda *arguments: run("corpus", *arguments)


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """The working folder, with three recordings in two folders."""
    for name, level in (("rain/a.wav", 0.1), ("rain/light/b.wav", 0.01), ("wind/c.flac", 0.3)):
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "s" / name, level * rng.standard_normal(SR), SR)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def corpus(folder, run):
    assert run("build", "s", "-o", "c", "--sr", SR).code == 0
    return folder / "c.corpus"


def test_build_says_in_one_line_what_it_did(folder, run):
    first = run("build", "s", "-o", "c")
    assert (first.code, first.err) == (0, "")
    assert re.fullmatch(r"c\.corpus: 3 files, 3\.0 s at 44\.1 kHz, \d+ MB; 3 analysed\n", first.out)
    (folder / "s" / "wind" / "d.wav").write_bytes(b"nothing")
    (folder / "s" / "rain" / "a.wav").unlink()
    again = run("build", "s", "-o", "c.corpus")
    assert re.search(r"2 files, .* 0 analysed, 2 unchanged, 1 gone, 1 skipped\n", again.out)
    assert re.fullmatch(r"smalti: warning: skipped: cannot read .*d\.wav: it is not audio .*\n", again.err)
    quiet = run("build", "s", "-o", "c", "--quiet")
    assert quiet.out == ""


class Shown:
    """Stands in for a progress bar and keeps its descriptions."""

    def __init__(self):
        self.descriptions = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def add_task(self, description, **_):
        self.descriptions.append(description)

    def update(self, _, *, description, **__):
        self.descriptions.append(description)


def test_the_bar_says_that_an_index_is_made(folder, run, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(build, "EXACT_BELOW", 10)
    shown = Shown()
    monkeypatch.setattr(cli_corpus, "bar", lambda *_: shown)
    assert run("build", "s", "-o", "c", "--sr", SR).code == 0
    assert list(dict.fromkeys(shown.descriptions)) == ["analysing", "indexing"]


def test_many_files_that_cannot_be_used_are_counted(folder, run, monkeypatch):
    monkeypatch.setattr(cli_corpus, "MOST_NAMED", 2)
    for n in range(5):
        (folder / "s" / f"{n}.wav").write_bytes(b"nothing")
    result = run("build", "s", "-o", "c")
    assert len(result.err.splitlines()) == 3
    assert "3 more files were skipped; see 'smalti corpus list c.corpus --unreadable'" in result.err
    listed = run("list", "c", "--unreadable")
    assert len(listed.out.splitlines()) == 6
    assert "not audio" in listed.out


def test_info(corpus, run):
    plain = run("info", "c")
    assert plain.code == 0
    for words in ("files", "3.0 s at 22.05 kHz", "rain (2), light (1), wind (1)", "not said (3)"):
        assert words in plain.out
    info = json.loads(run("info", "c", "--json").out)
    assert (info["n_files"], info["sr"], info["tags"]) == (3, SR, {"light": 1, "rain": 2, "wind": 1})


def test_list(corpus, run):
    plain = run("list", "c")
    first = [line.split()[0] for line in plain.out.splitlines()]
    assert first == ["file", "../s/rain/a.wav", "../s/rain/light/b.wav", "../s/wind/c.flac"]
    (file,) = json.loads(run("list", "c", "--tag", "rain", "--quietest", "-30", "--json").out)["files"]
    assert (file["path"], file["tags"], file["channels"]) == ("../s/rain/a.wav", ["rain"], 1)


def test_remove_and_verify(corpus, run):
    result = run("remove", "c", "wind")
    assert (result.code, result.out) == (0, "removed ../s/wind/c.flac\n")
    assert refused(run("remove", "c", "wind"), 1, "^smalti: no file of c.corpus meets 'wind'")
    whole = run("verify", "c")
    assert (whole.code, whole.err) == (0, "")
    assert re.fullmatch(r"c\.corpus is whole: \d+\.\d MB are as they were written\n", whole.out)
    (samples,) = corpus.glob("samples*")
    data = bytearray(samples.read_bytes())
    data[99] ^= 1
    samples.write_bytes(data)
    assert refused(
        run("verify", "c"), 1, r"^smalti: c\.corpus/samples-\d\.i16 is damaged where it holds \.\./s/rain/a\.wav"
    )
    broken = run("verify", "c", "--json")
    assert broken.code == 1
    assert len(json.loads(broken.out)["damaged"]) == 1


def test_files_that_are_gone_are_no_damage(folder, corpus, run):
    (folder / "s" / "wind" / "c.flac").unlink()
    result = run("verify", "c")
    assert result.code == 0
    assert re.search(r"c\.flac is no longer where it was", result.err)


def test_refusals(folder, corpus, run):
    assert refused(run("info", "none"), 1, r"^smalti: there is no corpus none\.corpus; build it with")
    assert refused(run("build", "none", "-o", "d"), 1, "^smalti: cannot read none: there is no such file or folder")
    assert not (folder / "d.corpus").exists()
    assert refused(run("build", "s", "-o", "c", "--sr", 8000), 1, r"^smalti: c\.corpus is at 22050 Hz; leave --sr out")
    assert refused(
        run("list", "c", "--shortest", 3, "--longest", 2), 2, "^smalti: --longest is 2; pass at least --shortest, 3"
    )
    assert refused(run("build", "s"), 2, "--output")


def test_ctrl_c_says_that_the_same_command_goes_on(folder, run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(cli_corpus, "build_corpus", interrupted)
    assert refused(
        run("build", "s", "-o", "c"), 130, "^smalti: stopped; what was analysed is kept, and the same command goes on"
    )


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
def test_a_signal_while_another_build_is_waited_for(folder):
    from smalti.corpora.writer import WriteLock

    lock = WriteLock(folder / "c.corpus")
    assert lock.acquired()
    with subprocess.Popen(
        [sys.executable, "-m", "smalti", "corpus", "build", "s", "-o", "c"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline() == "smalti: another build is writing c.corpus; waiting\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr.read().startswith("smalti: stopped; what was analysed is kept")
        assert process.wait() == 143
    lock.release()


def test_options_become_filters_weights_and_limits():
    assert filters_from() == Filters()
    assert filters_from(["a"], ["b"], ["c"], 1, 2, -40, -10) == Filters(("a",), ("b",), ("c",), 1, 2, -40, -10)
    assert weights_from(["rain=0.5", "a=b=2"]) == {"rain": 0.5, "a=b": 2}
    assert limits_from(["rain=20", "wind=5%"]) == {"rain": 0.2, "wind": 0.05}
    for text in ("rain", "=3", "rain=", "rain=nan", "rain=x"):
        with pytest.raises(ValueError, match=rf"--weight is '{text}'; pass a pattern and a number, such as rain=0\.5"):
            weights_from([text])


def test_durations_are_written_for_people():
    texts = [cli_corpus._duration(seconds) for seconds in (9.54, 60, 725, 86399.6)]
    assert texts == ["9.5 s", "1:00 min", "12:05 min", "24:00:00 h"]


CHATTER = """
import os, sys
from smalti.io.stderr import quiet_stderr
with quiet_stderr():
    os.write(2, b"a library's")
    print("ours", file=sys.stderr)
print("after", file=sys.stderr)
"""


def test_output_of_libraries_is_kept_off_the_terminal():
    run = subprocess.run([sys.executable, "-c", CHATTER], capture_output=True, text=True, check=True)
    assert run.stderr == "ours\nafter\n"
