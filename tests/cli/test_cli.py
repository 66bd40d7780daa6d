"""The command line as its users and their enemies meet it: exit codes, sentences, files, signals.

Most calls happen inside this process; what needs a process of its own (signals, terminals, closed pipes, full disks)
gets one.
"""

import errno
import hashlib
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import asdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import soundfile
from threadpoolctl import threadpool_limits

from smalti import __version__
from smalti.cli import main, terminal
from smalti.dsp import pitch
from smalti.dsp.loudness import integrated_loudness, true_peak
from smalti.dsp.phase import PHASES
from smalti.io import examples
from smalti.io.examples import Example
from smalti.metrics import MEASURES
from smalti.presets import PRESETS, configure
from smalti.settings import Settings
from smalti.workflows import demo
from smalti.workflows.outputs import FIGURES

SR = 8000
N = 3000

on_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
as_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not stop the superuser"
)


@pytest.fixture(autouse=True)
def one_thread():
    """Test workers that each ask for every core wait for one another."""
    with threadpool_limits(1):
        yield


@pytest.fixture(autouse=True)
def signals():
    """The command line takes over SIGTERM, which is the test runner's."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def tone(n=N, sr=SR, hz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(n) / sr)).astype(np.float32)


def put(path, samples, sr=SR, **kind):
    soundfile.write(path, samples, sr, **kind)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """Where the commands run: a target and a source that sounds at every frequency."""
    put(tmp_path / "target.wav", tone())
    put(tmp_path / "source.wav", (0.1 * rng.standard_normal(N)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make(run, folder):
    """Run ``smalti make`` with two iterations, out of the files in `folder`."""

    def call(*options, target="target.wav", source="source.wav", output="out.wav"):
        steps = () if {"--iterations", "sparse"} & set(options) else ("--iterations", "2")
        sources = [source] if isinstance(source, str | os.PathLike) else source
        return run("make", "-o", output, *steps, *options, "--", target, *sources)

    return call


def contents(folder):
    """Everything in a folder, to see that nothing was added or changed."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(result, code, sentence):
    """One sentence on stderr, nothing on stdout."""
    assert result.code == code
    assert result.out == ""
    lines = result.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("smalti: ")
    assert re.search(sentence, lines[0]), lines[0]
    return True


# What is made


def test_make_says_in_one_line_what_it_made(folder, make):
    result = make()
    assert result.code == 0
    assert result.err == ""
    assert re.fullmatch(
        r"out\.wav: 0\.4 s of target\.wav made of source\.wav \(balanced\) in \d+\.\d s, mono at 8 kHz, "
        r"spectral overlap \d+%, "
        r"-\d+\.\d LUFS, peaks limited by up to \d\.\d dB(, turned down \d+\.\d dB to keep peaks safe)?\n",
        result.out,
    )
    samples, sr = soundfile.read("out.wav")
    assert (len(samples), sr) == (N, SR)
    assert np.abs(samples).max() > 0.01
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("output", "subtype", "format_"),
    [
        ("out.wav", None, ("WAV", "PCM_16")),
        ("out.WAV", "PCM_24", ("WAV", "PCM_24")),
        ("out.wav", "FLOAT", ("WAV", "FLOAT")),
        ("out.flac", None, ("FLAC", "PCM_16")),
        ("out.flac", "PCM_24", ("FLAC", "PCM_24")),
        ("out.ogg", None, ("OGG", "VORBIS")),
        ("out.mp3", None, ("MP3", "MPEG_LAYER_III")),
    ],
)
def test_the_ending_of_the_name_chooses_the_format(make, output, subtype, format_):
    assert make(*(() if subtype is None else ("--subtype", subtype)), output=output).code == 0
    made = soundfile.info(output)
    assert (made.format, made.subtype) == format_
    assert (made.frames, made.samplerate, made.channels) == (N, SR, 1)


@pytest.mark.parametrize("name", ["in.flac", "in.ogg", "in.mp3", "in.aiff"])
def test_every_common_format_is_read(folder, make, name):
    put(folder / name, tone())
    assert make(target=name).code == 0
    assert make("--overwrite", source=name).code == 0


def test_depths_levels_and_channels_of_files_do_not_matter(folder, make):
    put(folder / "8.wav", tone(), subtype="PCM_U8")
    put(folder / "24.wav", tone(), subtype="PCM_24")
    put(folder / "loud.wav", tone(level=20), subtype="FLOAT")
    put(folder / "six.wav", np.stack([tone(hz=100 * i) for i in range(1, 7)], axis=1))
    put(folder / "many.wav", np.stack([tone(hz=70 * i) for i in range(1, 7)], axis=1))
    for name in ("8.wav", "24.wav"):
        result = make("--overwrite", target=name)
        assert (result.code, result.err) == (0, "")
    result = make("--overwrite", target="loud.wav", source="target.wav")
    assert re.search(
        r", -?\d+\.\d LUFS, peaks limited by up to \d\.\d dB(, turned down \d+\.\d dB to keep peaks safe)?\n",
        result.out,
    )
    # -1 dB of full scale and a margin of 0.05, to a code of 16 bits.
    assert true_peak(soundfile.read("out.wav")[0], SR) == pytest.approx(10 ** (-1.05 / 20), abs=2**-8)
    result = make("--overwrite", target="six.wav", source=["many.wav", "source.wav"])
    assert (result.code, result.err) == (0, "")
    assert soundfile.info("out.wav").channels == 6


def test_the_target_s_rate_is_kept_unless_asked_otherwise(folder, make):
    put(folder / "fast.wav", tone(19200, sr=96000), sr=96000)
    assert make(target="fast.wav").err == ""
    assert soundfile.info("out.wav").samplerate == 96000
    lost = f"what fast.wav has above {SR // 2} Hz is lost"
    said = f"smalti: warning: at the {SR} Hz of target.wav, {lost}; --sr 96000 keeps it\n"
    assert make("--overwrite", source="fast.wav").err == said
    assert soundfile.info("out.wav").samplerate == SR
    lower = make("--overwrite", "--sr", "4000")
    assert lower.err == "smalti: warning: working at 4000 Hz: what target.wav has above 2000 Hz is lost\n"
    # Nothing is lost, and what was asked for need not be said again.
    assert make("--overwrite", "--sr", "12000", source="fast.wav").err == ""
    assert soundfile.info("out.wav").samplerate == 12000
    assert soundfile.info("out.wav").frames == N * 12000 // SR


def test_the_notebook_s_rate_is_said_and_can_be_overridden(make):
    result = make("--preset", "notebook")
    assert result.err == ""
    assert "mono at 22.05 kHz" in result.out
    assert soundfile.info("out.wav").samplerate == 22050
    result = make("--preset", "notebook", "--sr", SR, "--overwrite")
    assert result.err == ""
    assert soundfile.info("out.wav").samplerate == SR


def test_an_excerpt_is_a_mosaic_of_just_that(folder, make):
    put(folder / "excerpt.wav", soundfile.read("target.wav", dtype="float32")[0][800:2000])
    assert make("--start", "0.1", "--end", "0.25").code == 0
    assert make(target="excerpt.wav", output="same.wav").code == 0
    assert (folder / "out.wav").read_bytes() == (folder / "same.wav").read_bytes()
    result = make("--start", "0.1", "--end", "9", "--overwrite")
    assert "should end at 9 s but the file ends at 0.375 s" in result.err
    assert soundfile.info("out.wav").frames == N - 800


@pytest.mark.parametrize("output", ["out.wav", "out.flac", "out.mp3"])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(folder, make, output):
    # The report has times in it; of the rest it says the same.
    path = folder / output
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        make("--seed", seed, "--report", f"{name}.json", output=output)
        path.rename(folder / f"{name}.sound")
    a, b, c = ((folder / f"{name}.sound").read_bytes() for name in "abc")
    assert a == b != c
    reports = [json.loads((folder / f"{name}.json").read_text()) for name in "ab"]
    for report in reports:
        del report["seconds"]
    assert reports[0] == reports[1]


def test_knobs_reach_the_mosaic(make):
    report = json.loads(
        make(
            *("--layers", "3", "--grain-length", "120", "--no-repeat", "250", "--iterations", "4", "--beta", "0.5"),
            *("--phase", "griffin-lim", "--n-fft", "256", "--hop", "32", "--seed", "5", "--json"),
        ).out
    )
    settings = report["settings"]
    assert (settings["layers"], settings["grain_length_s"], settings["no_repeat_s"]) == (3, 0.12, 0.25)
    assert (settings["iterations"], settings["beta"], settings["phase"]) == (4, 0.5, "griffin-lim")
    assert (report["grid"]["n_fft"], report["grid"]["hop"], report["seed"]) == (256, 32, 5)


def test_one_of_window_and_hop_brings_the_other(make):
    grids = [
        json.loads(make(*option, "--json", "--overwrite").out)["grid"] for option in (("--n-fft", 256), ("--hop", 64))
    ]
    assert [(grid["n_fft"], grid["hop"]) for grid in grids] == [(256, 64), (256, 64)]


def test_figures_and_report_come_with_the_sound(folder, make):
    result = make("--figures", "figures", "--report", "report.json", "--iterations", "5")
    assert (result.code, result.err) == (0, "")
    assert {path.name for path in (folder / "figures").iterdir()} == {f"{name}.png" for name in FIGURES}
    for path in (folder / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "report.json").read_text())["frames"] > 1


def test_the_report_tells_what_was_made_of_what_and_how(folder, make):
    put(folder / "long.wav", np.tile(tone(hz=300), 2))
    result = make(
        *("--report", "report.json", "--json", "--seed", "3", "--start", "0.1", "--iterations", "6"),
        source=["source.wav", "long.wav"],
    )
    report = json.loads(result.out)
    assert json.loads((folder / "report.json").read_text()) == report
    assert report["smalti"] == __version__
    assert {"python", "numpy", "scipy", "soundfile", "soxr"} <= set(report["versions"])
    assert (report["preset"], report["seed"], report["sr"]) == ("balanced", 3, SR)
    assert (report["target"]["start_s"], report["target"]["end_s"]) == (0.1, None)
    assert report["target"]["duration_s"] == (N - 800) / SR
    assert [source["path"] for source in report["sources"]] == ["source.wav", "long.wav"]
    assert [source["duration_s"] for source in report["sources"]] == [N / SR, 2 * N / SR]
    for recording in (report["target"], *report["sources"]):
        assert recording["sha256"] == hashlib.sha256((folder / recording["path"]).read_bytes()).hexdigest()
    assert report["output"] == {
        "path": "out.wav",
        "subtype": "PCM_16",
        "channels": 1,
        "samples": N - 800,
        "duration_s": (N - 800) / SR,
        # To a code of 16 bits.
        "loudness_lufs": pytest.approx(integrated_loudness(soundfile.read("out.wav")[0], SR), abs=0.01),
        "true_peak_db": pytest.approx(20 * np.log10(true_peak(soundfile.read("out.wav")[0], SR)), abs=0.01),
    }
    # As loud as the target, less what peaks forbid; the limiter comes within half a unit.
    wanted = report["target"]["loudness_lufs"] + report["peak_gain_db"]
    assert report["output"]["loudness_lufs"] == pytest.approx(wanted, abs=0.5)
    assert report["leak"] is None
    assert report["settings"].keys() >= {"layers", "grain_length_s", "no_repeat_s", "beta", "iterations", "phase"}
    assert len(report["divergence"]) == 6 + 1 + configure().refine + 1
    assert 0 < report["fit"] <= 1
    assert list(report["measures"]) == [name for name in MEASURES if name not in ("rpa", "rca")]
    assert report["peak_gain_db"] <= 0 > report["limited_db"]
    assert report["gain_db"] != 0
    stages = dict(report["seconds"])
    assert stages.keys() == {"read", "analyse", "solve", "synthesise", "write", "measure", "total"}
    # Each is rounded to a tenth of a millisecond.
    assert stages.pop("total") == pytest.approx(sum(stages.values()), abs=1e-3)


def test_nothing_is_measured_unless_it_is_reported(folder, make, monkeypatch):
    def fail(*_):
        raise AssertionError("measured")

    monkeypatch.setattr(main, "measure_made", fail)
    assert make().code == 0
    assert make("--overwrite", "--json").code == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_odd_recordings_are_reported_too(folder, make, preset):
    for name, samples in ODD.items():
        put(folder / f"{name}.wav", samples, sr=22050, subtype="FLOAT")
        for names in ({"target": f"{name}.wav"}, {"source": f"{name}.wav"}):
            if name == "denormal" and "source" in names:  # too quiet to be a source
                continue
            result = make("--preset", preset, "--json", "--overwrite", **names)
            assert result.code == 0, name
            measures = json.loads(result.out)["measures"]
            assert (measures is None) == (name == "denormal")


def test_a_silent_target_is_reported_without_measures(folder, make):
    put(folder / "silent.wav", np.zeros(N))
    result = make("--report", "report.json", target="silent.wav")
    assert result.code == 0
    sentence = "no measures: silent.wav is silent, and nothing can be compared with silence"
    assert f"smalti: warning: {sentence}\n" in result.err
    report = json.loads((folder / "report.json").read_text())
    assert report["measures"] is None
    assert sentence in report["warnings"]


def test_without_restrictions_the_divergence_falls(make):
    report = json.loads(make("--preset", "notebook", "--sr", SR, "--iterations", "20", "--json").out)
    assert len(report["divergence"]) == 20
    assert (np.diff(report["divergence"]) < 0).all()


def test_quiet_says_nothing_and_json_nothing_else(make):
    result = make("--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    result = make("-q", "--json", "--overwrite")
    assert json.loads(result.out)["output"]["path"] == "out.wav"
    assert result.err == ""


# Sources


def test_folders_are_searched_and_what_is_unreadable_is_named_and_skipped(folder, make):
    (folder / "takes" / "deep er").mkdir(parents=True)
    for name in ("a.wav", "deep er/b.flac", "._a.wav", ".hidden.wav"):
        put(folder / "takes" / name, tone(hz=300), format=name[-4:].strip(".").upper())
    (folder / "takes" / "notes.txt").write_text("take a")
    (folder / "takes" / "broken.wav").write_text("no sound")
    (folder / "takes" / "empty.wav").touch()
    result = make("--report", "report.json", source=["takes", "source.wav"])
    assert result.code == 0
    assert "made of 3 recordings" in result.out
    assert len(result.err.splitlines()) == 2
    assert re.search(r"^smalti: warning: skipped: cannot read takes.broken\.wav", result.err, re.M)
    assert re.search(r"^smalti: warning: skipped: cannot read takes.empty\.wav", result.err, re.M)
    report = json.loads((folder / "report.json").read_text())
    assert [source["path"] for source in report["sources"]] == [
        str(Path("takes/a.wav")),
        str(Path("takes/deep er/b.flac")),
        "source.wav",
    ]
    assert len(report["skipped"]) == 2
    assert len(report["warnings"]) == 2


def test_a_skipped_source_is_not_overwritten(folder, make):
    (folder / "broken.wav").write_text("no sound")
    before = contents(folder)
    result = make("--overwrite", source=[".", "source.wav"], output="./broken.wav")
    assert refused(result, 2, r"broken\.wav is an input of this mosaic")
    assert contents(folder) == before


def test_target_and_source_in_one_are_allowed_and_said(make):
    result = make(source="target.wav")
    assert result.code == 0
    assert "target.wav is target and source at once" in result.err


# Odd recordings


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("preset", PRESETS)
def test_one_sample_of_one_sample(folder, make, preset, phase):
    put(folder / "one.wav", np.array([0.5]), sr=22050)
    result = make("--preset", preset, "--phase", phase, target="one.wav", source="one.wav")
    assert result.code == 0
    assert "one.wav has 1 sample, fewer than one window" in result.err
    samples, _ = soundfile.read("out.wav")
    assert len(samples) == 1
    # A single source frame can be nothing but the target; eps slows the notebook down.
    assert samples[0] == pytest.approx(0.5, rel=0.6)


def test_what_is_shorter_than_a_window_is_padded_and_said(folder, make):
    put(folder / "short.wav", tone(50))
    result = make(target="short.wav")
    assert (result.code, soundfile.info("out.wav").frames) == (0, 50)
    assert "smalti: warning: short.wav has 50 samples" in result.err
    result = make("--overwrite", source="short.wav")
    assert (result.code, soundfile.info("out.wav").frames) == (0, N)
    assert "smalti: warning: short.wav has 50 samples, fewer than one window" in result.err


@pytest.mark.parametrize("preset", PRESETS)
def test_a_silent_target_gives_silence_and_a_warning(folder, make, preset):
    put(folder / "silent.wav", np.zeros(N), sr=22050)
    result = make("--preset", preset, target="silent.wav")
    assert result.code == 0
    assert "is silent, and so is its mosaic" in result.err
    samples, _ = soundfile.read("out.wav")
    assert len(samples) == N
    assert not samples.any()


def test_a_truncated_recording_is_used_as_far_as_it_goes(folder, make):
    whole = (folder / "target.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: 44 + 2 * 1000])
    result = make(target="cut.wav")
    assert (result.code, soundfile.info("out.wav").frames) == (0, 1000)
    assert re.search(r"cut\.wav: truncated: the header promises 0\.375 s", result.err)


ODD = {
    "constant": np.full(N, 0.7),
    "denormal": np.full(N, 1e-40),
    "at the Nyquist frequency": 0.5 * (-1.0) ** np.arange(N),
    "an impulse": np.eye(1, N, N // 2)[0],
    "from far too loud to far too quiet": np.concatenate([tone(level=5e6), tone(level=1e-12)]),
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ODD)
def test_odd_samples_never_become_nan(folder, make, name, preset):
    put(folder / "odd.wav", ODD[name], subtype="FLOAT")
    for target, source in (("odd.wav", "source.wav"), ("target.wav", "odd.wav"), ("odd.wav", "odd.wav")):
        result = make("--overwrite", "--json", "--preset", preset, "--sr", SR, target=target, source=source)
        if (name, source) == ("denormal", "odd.wav"):
            assert result.code == 1
            assert re.search(r"source is silent: there is no sound in odd\.wav", result.err)
            continue
        assert result.code == 0
        report = json.loads(result.out)
        assert np.isfinite(report["divergence"]).all()
        samples, _ = soundfile.read("out.wav")
        assert len(samples) == soundfile.info(target).frames
        assert np.isfinite(samples).all()


# Bad files


def spoil(folder):
    """Recordings that cannot be used, by name."""
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no sound\n" * 100)
    (folder / "header.wav").write_bytes((folder / "target.wav").read_bytes()[:30])
    put(folder / "nothing.wav", np.zeros(0))
    for name, value in (("nan", np.nan), ("inf", np.inf), ("1e30", 1e30), ("1e9", 1e9)):
        samples = tone()
        samples[80] = value
        put(folder / f"{name}.wav", samples, subtype="FLOAT")


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


@pytest.mark.parametrize("role", ["target", "source"])
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_recordings_are_named(folder, make, name, role):
    spoil(folder)
    before = contents(folder)
    assert refused(make(**{role: name}), 1, f"{re.escape(name)}: .*{BAD_FILES[name]}")
    assert contents(folder) == before


def test_more_recordings_that_are_none(folder, make):
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").touch()
    put(folder / "silent.wav", np.zeros(N))
    put(folder / "short.wav", np.array([0.5]), sr=96000)
    before = contents(folder)
    assert refused(make(target="texts"), 1, "texts: it is a folder")
    assert refused(make(source="texts"), 1, "no sound file in texts")
    assert refused(make(source="nowhere"), 1, "nowhere: there is no such file or folder")
    assert refused(make(source="silent.wav"), 1, r"source is silent: there is no sound in silent\.wav")
    assert refused(make(source="short.wav"), 1, r"short\.wav: .* less than one sample at 8000 Hz")
    assert refused(make("--start", "9"), 1, r"target\.wav from 9 s: it ends at 0\.375 s")
    assert refused(make("--start", "0.1", "--end", "0.10001"), 1, "not one sample")
    assert contents(folder) == before


@on_posix
def test_devices_and_pipes_are_refused_unopened(folder, make):
    os.mkfifo(folder / "pipe.wav")
    for name in ("pipe.wav", "/dev/zero"):
        assert refused(make(target=name), 1, f"{name}: it is a device or a pipe")
        assert refused(make(source=name), 1, f"{name}: it is a device or a pipe")
    assert refused(make("--overwrite", output="pipe.wav"), 1, r"pipe\.wav: it is a device or a pipe")
    assert refused(make("--overwrite", "--report", "/dev/null"), 1, "/dev/null: it is a device or a pipe")
    assert not (folder / "out.wav").exists()


@as_user
def test_locked_files_and_folders_are_named(folder, make):
    put(folder / "locked.wav", tone()).chmod(0)
    (folder / "read-only").mkdir(mode=0o555)
    assert refused(make(target="locked.wav"), 1, r"locked\.wav: permission denied")
    assert refused(make(output="read-only/out.wav"), 1, "read-only is write-protected")
    assert refused(make("--figures", "read-only/figures"), 1, "read-only is write-protected")
    assert not (folder / "out.wav").exists()


# Bad results


@pytest.mark.parametrize(
    ("options", "output", "code", "sentence"),
    [
        ((), "no/out.wav", 1, "no.out.wav: there is no folder .*no; create it first"),
        ((), "target.wav/out.wav", 1, "not a folder"),
        ((), "taken.wav", 1, r"taken\.wav: it already exists; add --overwrite"),
        (("--overwrite",), "full", 2, "must end in .*got none"),
        (("--overwrite",), "full.wav", 1, r"full\.wav: it is a folder"),
        ((), "out.doc", 2, r"must end in .*'\.doc'"),
        ((), "", 2, "must end in"),
        ((), "target.wav", 2, r"target\.wav is an input"),
        (("--overwrite",), "source.wav", 2, r"source\.wav is an input"),
        (("--overwrite",), "link.wav", 2, r"link\.wav is an input"),
        (("--overwrite",), "twin.wav", 2, r"twin\.wav is an input"),
        (("--report", "out.wav"), "out.wav", 2, r"out\.wav is named for two results"),
        (("--report", "target.wav", "--overwrite"), "out.wav", 2, r"target\.wav is an input"),
        (("--report", "no/r.json"), "out.wav", 1, "no folder .*no; create it first"),
        (("--report", "full.wav"), "out.wav", 1, r"full\.wav: it is a folder"),
        (("--figures", "taken.wav"), "out.wav", 1, r"into taken\.wav: it is not a folder"),
        (("--figures", "no/figures"), "out.wav", 1, "no folder .*no; create it first"),
        (("--figures", "new"), "new/out.wav", 1, "new.out.wav: there is no folder"),
        (("--subtype", "FLOAT"), "out.flac", 2, r"\.flac is written as PCM_16 or PCM_24, got subtype 'FLOAT'"),
        (("--subtype", "PCM_8"), "out.wav", 2, "PCM_8"),
        (("--sr", "96000"), "out.mp3", 2, "MP3 cannot have a sample rate of 96000 Hz"),
    ],
)
def test_bad_names_for_results_are_refused_before_the_work(folder, make, monkeypatch, options, output, code, sentence):
    def work(*_, **__):
        raise AssertionError("worked before it checked")

    monkeypatch.setattr(main, "prepare", work)
    (folder / "taken.wav").write_text("precious")
    (folder / "full.wav").mkdir()
    (folder / "link.wav").symlink_to("target.wav")
    (folder / "twin.wav").hardlink_to(folder / "target.wav")
    before = contents(folder)
    assert refused(make(*options, output=output), code, sentence)
    assert contents(folder) == before


def test_overwriting_is_done_when_asked_for(folder, make):
    (folder / "out.wav").write_text("an earlier take")
    assert make("--overwrite").code == 0
    assert soundfile.info("out.wav").frames == N


def test_a_link_stays_a_link(folder, make):
    (folder / "elsewhere").mkdir()
    (folder / "out.wav").symlink_to(folder / "elsewhere" / "real.wav")
    assert make().code == 0
    assert (folder / "out.wav").is_symlink()
    assert soundfile.info("elsewhere/real.wav").frames == N


def test_results_may_go_elsewhere_and_folders_hold_the_last_results(folder, make, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("else where")
    assert make("--report", elsewhere / "r.json", output=elsewhere / "out.wav").code == 0
    assert {path.name for path in elsewhere.iterdir()} == {"out.wav", "r.json"}


# Bad arguments


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--preset", "nope"),
            "--preset is 'nope'; pass one of classic, balanced, melodic, faithful",
        ),
        (("--phase", "nope"), "--phase is 'nope'; pass one of"),
        (("--layers", "0"), "--layers is 0; pass a whole number of at least 1"),
        (("--layers", "-3"), "--layers is -3; pass"),
        (("--layers", "1e3"), "--layers is 1000.0; pass a whole number"),
        (("--layers", "9" * 5000), "--layers is inf; pass a whole number"),
        (("--iterations", "0"), "'--iterations'"),
        (("--beta", "nan"), "--beta"),
        (("--beta", "3"), "'--beta'"),
        (("--beta", "-1"), "'--beta'"),
        (("--grain-length", "nan"), "--grain-length"),
        (("--grain-length", "inf"), "--grain-length is inf; pass a number of at least 0"),
        (("--grain-length", "-5"), "--grain-length is -5; pass a number of at least 0"),
        (("--no-repeat", "inf"), "--no-repeat is inf"),
        (("--n-fft", "5"), "--n-fft is 5; pass an even number"),
        (("--n-fft", "3"), "'--n-fft'"),
        (("--n-fft", "100000000"), "'--n-fft'"),
        (("--hop", "0"), "'--hop'"),
        (("--hop", "100000000"), "'--hop'"),
        (("--hop", "4096", "--n-fft", "2048"), "--hop is 4096 samples, more than half the window of 2048"),
        (("--sr", "1"), "'--sr'"),
        (("--sr", "999999999999"), "'--sr'"),
        (("--sr", "nan"), "'--sr'"),
        (("--start", "2", "--end", "1"), "--end is 1; pass seconds greater than --start, 2"),
        (("--start", "0.1", "--end", "0.1"), "--end is 0.1"),
        (("--start", "-1"), "'--start'"),
        (("--start", "nan"), "--start"),
        (("--start", "inf"), "--start is inf"),
        (("--end", "nan"), "--end"),
        (("--end", "inf"), "--end is inf"),
        (("--seed", "-1"), "'--seed'"),
        (("--seed", "x"), "'--seed'"),
        (("--preset", "sparse", "--beta", "1"), "--beta means nothing to the preset sparse"),
        (("--preset", "sparse", "--grain-length", "9"), "--grain-length means nothing to the preset sparse"),
        (("--nope",), "--nope"),
    ],
)
def test_bad_options_are_named_as_they_were_typed(folder, make, options, sentence):
    before = contents(folder)
    result = make(*options)
    assert refused(result, 2, sentence)
    # Neither twice dashed nor by the library's name.
    assert not re.search(r"----|_s\b|n_fft", result.err)
    assert contents(folder) == before


def test_bad_commands_are_refused_with_a_way_out(run, folder):
    assert refused(run("nope"), 2, ".*nope.*; try 'smalti --help'$")
    assert refused(run("make"), 2, ".*TARGET.*; try 'smalti make --help'$")
    assert refused(run("make", "target.wav"), 2, "'SOURCE")
    assert refused(run("make", "target.wav", "source.wav"), 2, "'--output'")
    assert refused(run("--nope"), 2, "--nope")
    assert refused(run("demo", "--preset", "nope"), 2, "--preset is 'nope'")
    assert not (folder / "smalti-demo").exists()


def test_an_empty_name_is_not_the_current_folder(make):
    """As it would be if a script's variable were unset."""
    assert refused(make(source=""), 2, "name of a recording is empty")
    assert refused(make(target=""), 2, "name of a recording is empty")


@pytest.mark.parametrize(
    "options",
    [
        ("--layers", "999999999999"),
        ("--grain-length", "1e300"),
        ("--no-repeat", "1e300"),
        ("--no-repeat", "1e-320"),
        ("--beta", "1e-300"),
        ("--seed", "99999999999999999999999"),
        ("--end", "1e300"),
        ("--preset", "sparse", "--layers", "999999999999", "--end", "0.05"),
        ("--n-fft", "4", "--end", "0.02"),
        ("--n-fft", "131072"),
    ],
)
def test_absurd_numbers_that_mean_something_are_taken(make, options):
    result = make(*options)
    assert result.code == 0
    assert np.isfinite(soundfile.read("out.wav")[0]).all()


def test_a_knob_s_name_in_a_file_s_name_is_left_alone(make):
    assert refused(make(target="beta.wav"), 1, r"cannot read beta\.wav: ")
    assert refused(make(target="start_s, iterations"), 1, "cannot read start_s, iterations: ")


def test_a_job_beyond_the_machine_is_refused_before_it_starts(folder, make):
    put(folder / "long.wav", np.zeros(2_000_000) + 0.1)
    result = make("--n-fft", "4", target="long.wav", source="long.wav")
    assert result.code == 1
    assert re.search(r"smalti: 2000001 source frames by 2000001 .* need about \d{6} GB", result.err)
    assert not (folder / "out.wav").exists()


# Names


@pytest.mark.parametrize(
    "name", ["a b.wav", "grüße 🎻👩‍🎤.wav", "-a.wav", "--layers.wav", "a%s{x}[bold].wav", "'\"$x`.wav"]
)
def test_any_name_will_do(folder, make, name):
    put(folder / name, tone())
    result = make("--report", f"{name}.json", target=name, source=f"./{name}", output=f"out {name}")
    assert result.code == 0
    assert f"out {name}: 0.4 s of {name} made of {name} " in result.out
    assert json.loads((folder / f"{name}.json").read_text())["target"]["path"] == name
    assert refused(make(target=f"no {name}"), 1, re.escape(f"no {name}"))


@pytest.mark.skipif(sys.platform != "linux", reason="only here are names any bytes")
def test_names_need_not_be_text(folder, make):
    name = os.fsdecode(b"caf\xe9.wav")
    put(folder / "target.wav", tone())
    (folder / "target.wav").rename(folder / name)
    result = make("--report", "r.json", target=name, output=os.fsdecode(b"\xff.wav"))
    assert result.code == 0
    assert r"\udcff.wav: 0.4 s of caf\udce9.wav made" in result.out
    assert json.loads((folder / "r.json").read_text())["target"]["path"] == name
    assert json.loads(make("--json", target=name).out)["target"]["path"] == name


def test_names_cannot_write_on_the_terminal(make):
    result = make(target="a\nb\x1b[31m\x9b.wav")
    assert refused(result, 1, re.escape(r"cannot read a\nb\x1b[31m\x9b.wav: "))


def test_json_suits_a_terminal_of_ascii(folder, make, monkeypatch):
    put(folder / "é🎻.wav", tone())
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    assert make("--json", target="é🎻.wav").code == 0
    assert json.loads(ascii_only.buffer.getvalue())["target"]["path"] == "é🎻.wav"


# Examples


@pytest.fixture
def example(tmp_path_factory, monkeypatch):
    """A made example on a server of this machine."""
    served = tmp_path_factory.mktemp("served")
    put(served / "bell.wav", tone(hz=300))
    content = (served / "bell.wav").read_bytes()
    bell = Example(
        "bell", "bell.wav", "a bell", "nobody", "CC0", 0.4, 1, len(content), hashlib.sha256(content).hexdigest()
    )
    for module in (examples, main):
        monkeypatch.setattr(module, "EXAMPLES", {"bell": bell})
    monkeypatch.setenv("SMALTI_EXAMPLES_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=served)) as server:
        monkeypatch.setenv("SMALTI_EXAMPLES_URL", f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served / "bell.wav"
        server.shutdown()
        thread.join()


def test_an_example_stands_for_a_file(example, make):
    result = make(target="example:bell", source=["source.wav", "example:bell"])
    assert result.code == 0
    # Whose it is has to be said, each time it is used.
    assert result.err.splitlines()[:2] == ["example:bell: a bell by nobody, CC0"] * 2
    assert soundfile.info("out.wav").frames == N
    result = make("-q", "--overwrite", source="example:bell")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_an_example_that_cannot_be_fetched_is_the_world_s_fault(example, make, monkeypatch, tmp_path):
    assert refused(make(target="example:nope"), 2, "there is no example 'nope', only bell")
    example.unlink()
    assert refused(make(target="example:bell"), 1, "cannot fetch example:bell from http.*404")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SMALTI_EXAMPLES_DIR", str(tmp_path / "file" / "cache"))
    assert make(target="example:bell").code == 1


def test_lists_name_everything_on_lines_of_their_own(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    listed = run("examples")
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == [
        f"example:{name}" for name in examples.EXAMPLES
    ]
    listed = run("presets")
    for line, (name, settings) in zip(listed.out.splitlines()[1:], PRESETS.items(), strict=True):
        assert line.startswith(name)
        assert settings.summary in line
    assert listed.code == 0


def settings_of(result):
    assert result.code == 0, result.err
    return json.loads(result.out)["settings"]


@pytest.mark.parametrize("option", ["--colour", "--color"])
def test_colour_and_attacks_reach_the_mosaic_in_either_spelling(make, option):
    settings = settings_of(make(option, "12.5", "--attacks", "40", "--json"))
    assert (settings["colour"], settings["attacks"]) == (12.5, 40)
    settings = settings_of(make(option, "0", "--attacks", "0", "--json", "--overwrite"))
    assert (settings["colour"], settings["attacks"]) == (0, 0)


@pytest.mark.parametrize("option", ["--colour", "--color", "--attacks"])
@pytest.mark.parametrize("value", ["-1", "100.1", "blue", "nan"])
def test_colour_and_attacks_are_per_cents(folder, make, option, value):
    before = contents(folder)
    refused(make(f"{option}={value}"), 2, f".*{option}.*; try 'smalti make --help'")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("candidates=8", 8),
        ("masking_db=4.5", 4.5),
        ("quietest_db=60", 60),
        ("fade_s=1e-3", 0.001),
        ("remove_offset=false", False),
        ("unit_norm=true", True),
        ("compare=bands", "bands"),
        ("choose=frames", "frames"),
        ("choose=none", None),
        ("sr=none", None),
        ("loudness=-20", -20),
        ("loudness=as-is", "as-is"),
        ("aim=geometric", "geometric"),
    ],
)
def test_any_setting_can_be_set(make, text, value):
    name = text.partition("=")[0]
    assert settings_of(make("--set", text, "--json"))[name] == value


def test_settings_are_set_one_after_another_and_after_the_options(make):
    settings = settings_of(
        make(
            *("--layers", "3", "--set", "refine=1", "--set", "layers=5", "--set", "choose=none"),
            *("--set", "refine=2", "--set", "layers=none", "--json"),
        )
    )
    assert (settings["refine"], settings["layers"], settings["choose"]) == (2, None, None)
    unset = settings_of(make("--json", "--overwrite"))
    assert {name for name in settings if settings[name] != unset[name]} == {"refine", "layers", "choose"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("candidates", "--set is 'candidates'; pass NAME=VALUE, where NAME is one of method, window_s, .*candidates"),
        ("", "--set is ''; pass NAME=VALUE"),
        ("=3", "--set is '=3'; pass NAME=VALUE"),
        ("candidate=3", "--set is 'candidate=3'; pass NAME=VALUE"),
        ("summary=mine", "--set is 'summary=mine'; pass NAME=VALUE"),
        (" candidates=3", "--set is ' candidates=3'; pass NAME=VALUE"),
        ("candidates=", "candidates is ''; pass a whole number of at least 1"),
        ("candidates=2.5", "candidates is 2.5; pass a whole number of at least 1"),
        ("candidates=0", "candidates is 0; pass a whole number of at least 1"),
        ("candidates=none", "candidates is None; pass a whole number of at least 1"),
        ("masking_db=loud", "masking_db is 'loud'; pass a number of at least 0"),
        ("masking_db=nan", "masking_db is nan; pass a number of at least 0"),
        ("masking_db=true", "masking_db is 'true'; pass a number of at least 0"),
        ("quietest_db=-1", "quietest_db is -1; pass a number of at least 0"),
        ("start_spread=2", "start_spread is 2; pass a number from 0 to 1"),
        ("remove_offset=yes", "--set is 'remove_offset=yes'; pass remove_offset=true or remove_offset=false"),
        ("unit_norm=1", "--set is 'unit_norm=1'; pass unit_norm=true or unit_norm=false"),
        ("remove_offset=none", "remove_offset is None; pass True or False"),
        ("compare=pixels", "compare is 'pixels'; pass one of bins, bands, views"),
        ("compare=3", "compare is 3; pass one of bins, bands, views"),
        ("choose=grains=frames", "choose is 'grains=frames'; pass one of grains, frames"),
        ("layers=none", "choose is 'grains' but layers is None; pass how many layers"),
        ("hop_s=0.9", "hop_s is 0.9, more than half of window_s"),
        ("colour=101", "--colour is 101; pass a number from 0 to 100"),
    ],
)
def test_what_cannot_be_set_is_refused(folder, make, text, sentence):
    before = contents(folder)
    refused(make("--set", text), 2, sentence)
    assert contents(folder) == before


def test_what_a_preset_does_not_have_cannot_be_set(make):
    refused(make("--preset", "sparse", "--set", "iterations=5"), 2, "iterations means nothing to the preset")
    assert settings_of(make("--preset", "sparse", "--set", "layers=2", "--json"))["layers"] == 2


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_shows_all_its_settings_as_they_can_be_set(run, name):
    shown = run("presets", name)
    assert (shown.code, shown.err) == (0, "")
    title, _, *lines = shown.out.splitlines()
    assert title == f"{name}: {PRESETS[name].summary}"
    rows = {setting: (text, meaning) for setting, text, meaning in (line.split(maxsplit=2) for line in lines)}
    # Every value is one that --set takes, and comes to the same but for figures beyond the fourth.
    assert ["summary", *rows] == list(asdict(PRESETS[name]))
    for setting, (text, meaning) in rows.items():
        assert len(meaning.split()) > 1
        value = getattr(PRESETS[name], setting)
        if isinstance(value, float):
            value = pytest.approx(value, rel=1e-3)
        assert main._setting(f"{setting}={text.strip()}") == (setting, value)


def test_presets_in_json_are_the_settings_themselves(run):
    shown = run("presets", "--json")
    assert (shown.code, shown.err) == (0, "")
    assert {name: Settings(**values) for name, values in json.loads(shown.out).items()} == dict(PRESETS)
    one = json.loads(run("presets", "percussive", "--json").out)
    assert {name: Settings(**values) for name, values in one.items()} == {"percussive": PRESETS["percussive"]}


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_preset_that_there_is_not_is_refused(run, options):
    refused(run("presets", "clasic", *options), 2, "'clasic'; pass one of classic, balanced")


# Judging


@pytest.fixture
def judge(run, folder, rng):
    """Run ``smalti judge`` on the files in `folder`, to which three mosaics are added."""
    for name in ("a_first_mosaic", "a_second", "third"):
        put(folder / f"{name}.wav", (tone(hz=440 * rng.uniform(0.9, 1.1)) + 0.1 * rng.standard_normal(N)) / 4)
    put(folder / "clipped.wav", np.clip(5 * tone(), -0.5, 0.5))

    def call(*arguments, target="target.wav", source="source.wav"):
        return run("judge", target, source, *(arguments or ("a_first_mosaic.wav", "a_second.wav", "third.wav")))

    return call


SHORT = "smalti: warning: target.wav lasts 0.38 s only: the measures of so short a sound say little\n"
JUDGED = [
    name for name in MEASURES if name not in ("rpa", "rca", "run_ms", "long", "rep", "poly", "incons", "model_err")
]


def test_judge_prints_a_column_a_mosaic_and_a_row_a_measure(judge):
    result = judge()
    assert (result.code, result.err) == (0, SHORT)
    target, source, _, header, *rows, _, legend, guide = result.out.splitlines()
    assert target == "target: target.wav (0.4 s)"
    assert source == "source: source.wav"
    assert header.split() == ["better", "limit", "a_first_mosaic", "a_second", "third", "what", "it", "hears"]
    assert [row.split()[0] for row in rows if row.startswith("  ")] == JUDGED
    groups = [row.strip() for row in rows if not row.startswith("  ")]
    assert groups == ["composite", "cheating", "fidelity", "timbre", "artefacts"]
    assert "* best of its row" in legend
    assert "! beyond its limit" in legend
    assert re.fullmatch(r"Read FID only with leak .*, TIM only with FID .*\.", guide)
    for row in rows:
        name, *words = row.split()
        if name in MEASURES:
            unit = words.pop(0) if MEASURES[name].unit else ""
            assert unit == (f"({MEASURES[name].unit})" if unit else "")
            assert words[0] == MEASURES[name].better
            assert row.rstrip().endswith(MEASURES[name].summary)
            if MEASURES[name].limit is not None:
                assert float(words[1]) == MEASURES[name].limit


def rows_of(result):
    return {row.split()[0]: row for row in result.out.splitlines() if re.match("  [a-zA-Z]", row)}


def test_the_best_and_what_breaks_its_limit_are_marked(judge):
    rows = rows_of(judge("target.wav", "clipped.wav"))
    assert re.search(r" \* 1\.000 +0\.\d{3} ", rows["FID"])
    assert re.search(r" 0\.05 +! 1\.000 +! 1\.000 ", rows["leak"])
    assert re.search(r" 0 +\* 0\.000 +! 0\.\d{3} ", rows["clipping"])
    # Of equals none is best, nor is there one of a single mosaic.
    for result in (judge("clipped.wav", "clipped.wav"), judge("clipped.wav")):
        assert "*" not in "".join(rows_of(result).values())
    assert "*" not in result.out


def test_next_to_nothing_is_not_nothing_where_the_limit_is_0(folder, judge):
    clipped = np.tile(tone(), 4)
    clipped[99:102] = 0.6
    put(folder / "once.wav", clipped)
    put(folder / "target.wav", tone(4 * N))
    assert re.search(r" 0 +! <0\.001 +0\.000 ", rows_of(judge("once.wav", "target.wav"))["clipping"])


def test_judge_s_json_has_what_the_table_has(judge):
    result = judge("a_first_mosaic.wav", "third.wav", "--json", "--hop", "10", "--end", "0.3")
    report = json.loads(result.out)
    assert report.keys() >= {"target", "sources", "excerpt", "mosaics", "warnings"}
    assert report["excerpt"] == {"start_s": 0.0, "end_s": 0.3}
    assert [one["path"] for one in report["mosaics"]] == ["a_first_mosaic.wav", "third.wav"]
    assert [source["path"] for source in report["sources"]] == ["source.wav"]
    for one in report["mosaics"]:
        assert list(one["measures"]) == JUDGED
        assert one["hop_s"] == 0.01
    assert [f"smalti: warning: {said}" for said in report["warnings"]] == result.err.splitlines()


def test_judge_and_make_agree_on_what_both_measure(make, judge):
    made = json.loads(make("--json", "--subtype", "FLOAT").out)["measures"]
    (one,) = json.loads(judge("out.wav", "--json").out)["mosaics"]
    assert one["measures"] == {name: made[name] for name in JUDGED}


def test_more_sources_are_named_with_also(folder, judge):
    (folder / "takes").mkdir()
    put(folder / "takes" / "b.wav", tone(hz=300))
    put(folder / "c.wav", tone(hz=200))
    result = judge("third.wav", "--also", "takes", "--json", "--also", "c.wav")
    sources = [source["path"] for source in json.loads(result.out)["sources"]]
    assert sources == ["source.wav", str(Path("takes/b.wav")), "c.wav"]
    assert "source: 3 recordings\n" in judge("third.wav", "--also", "takes", "--also", "c.wav").out


def test_files_of_one_name_are_told_apart(folder, judge):
    for name in ("one", "two"):
        (folder / name).mkdir()
        put(folder / name / "take.wav", tone(hz=300))
    put(folder / "take.flac", tone(hz=300))
    header = judge("one/take.wav", "two/take.wav").out.splitlines()[3].split()
    assert header[2:4] == ["one/take.wav", "two/take.wav"]
    assert judge("one/take.wav", "take.flac").out.splitlines()[3].split()[2:4] == ["take.wav", "take.flac"]


@on_posix
@pytest.mark.parametrize(("width", "tables"), [(80, 1), (60, 1), (50, 2), (40, 3)])
def test_three_mosaics_fit_on_a_terminal(judge, monkeypatch, width, tables):
    monkeypatch.setitem(ENVIRONMENT, "COLUMNS", str(width))
    judge()
    names = ("a_first_mosaic.wav", "a_second.wav", "third.wav")
    code, text = on_terminal([*SMALTI, "judge", "target.wav", "source.wav", *names])
    assert code == 0
    # After the bar has gone; without colours.
    printed = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", text.rpartition(b"\x1b[2K")[2]).decode()
    lines = printed.replace("\r", "").splitlines()
    assert sum(line.strip() == "composite" for line in lines) == tables
    numbers = [line for line in lines if re.match("  [a-zA-Z_]+ ", line)]
    assert len(numbers) == tables * len(JUDGED)
    assert max(map(len, numbers)) <= width
    for name in JUDGED:
        cells = " ".join(line[22:] for line in numbers if line.split()[0] == name)
        limit = [] if MEASURES[name].limit is None else [f"{MEASURES[name].limit:g}"] * tables
        assert len(re.findall(r"-?\d[\d.]*", cells)) == 3 + len(limit), cells


@pytest.mark.parametrize("name", ["a [bold]name", "-dash", "ünï 🎻", "line\nbreak", "x" * 200])
def test_mosaics_may_have_any_name(folder, judge, name):
    if os.name != "posix" and "\n" in name:
        pytest.skip("no name here")
    put(folder / f"{name}.wav", tone(hz=300))
    result = judge("third.wav", "--", f"{name}.wav")
    assert result.code == 0
    assert name.replace("\n", "\\n") in result.out


# How loud a mosaic is, however absurdly, changes nothing.
@pytest.mark.parametrize("name", [name for name in BAD_FILES if name != "1e9.wav"])
def test_mosaics_that_are_none_are_named(folder, judge, name):
    spoil(folder)
    assert refused(judge("third.wav", name), 1, BAD_FILES[name])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--hop", "nan"), "--hop is nan; pass a number from 2 to 1000"),
        (("--hop", "1"), "--hop is 1; pass a number from 2 to 1000"),
        (("--hop", "x"), "'--hop'"),
        (("--start", "2", "--end", "1"), "--end is 1; pass seconds greater than --start, 2"),
        (("--start", "-1"), "'--start'"),
        (("--also", ""), "name of a recording is empty"),
        (("--nope",), "--nope"),
    ],
)
def test_bad_options_of_judge_are_named_as_they_were_typed(judge, options, sentence):
    assert refused(judge("third.wav", *options), 2, sentence)


def test_judge_without_all_it_needs_is_refused_with_a_way_out(run, folder):
    assert refused(run("judge"), 2, ".*TARGET.*; try 'smalti judge --help'$")
    assert refused(run("judge", "target.wav"), 2, "'SOURCE'")
    assert refused(run("judge", "target.wav", "source.wav"), 2, "'MOSAIC'")


# Blind comparisons


@pytest.fixture
def blind(run, folder):
    """Run ``smalti blind`` on the files in `folder`, to which two mosaics are added."""
    put(folder / "one.wav", tone(hz=450))
    put(folder / "two.wav", tone(hz=300, level=0.1))

    def call(*options, mosaics=("one.wav", "two.wav"), output="compare"):
        return run("blind", "target.wav", "source.wav", *mosaics, "-o", output, *options)

    return call


def test_blind_says_in_one_line_what_to_open(folder, blind):
    page = Path("compare") / "listen.html"
    result = blind()
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{page}: 8 rounds of 0.4 s, 2 mosaics; open it in a browser\n"
    result = blind("--rounds", 3, "--start", 0.1, "--end", 0.3, "--seed", 4, "--overwrite")
    assert result.out == f"{page}: 3 rounds of 0.2 s, 2 mosaics; open it in a browser\n"
    assert result.err == ""
    assert len(list((folder / "compare" / "sounds").iterdir())) == 12
    assert not list(folder.glob(".*"))


def test_blind_warns_of_mosaics_of_something_else(folder, blind):
    put(folder / "long.wav", tone(n=3 * N))
    result = blind(mosaics=("one.wav", "long.wav"))
    assert result.code == 0
    assert re.fullmatch(r"smalti: warning: long\.wav lasts 1\.1 s and the target 0\.4 s: .*\n", result.err)


@pytest.mark.parametrize(
    ("call", "code", "sentence"),
    [
        ({"mosaics": ["one.wav"]}, 2, "one mosaic cannot be compared by ear; name 2 to 8$"),
        ({"mosaics": ["one.wav", "nope.wav"]}, 1, r"cannot read nope\.wav"),
        ({"mosaics": ["one.wav", ""]}, 2, "name of a recording is empty"),
        ({"output": "here"}, 1, "cannot write here: it already exists; add --overwrite or choose another name$"),
        ({"output": "no/where"}, 1, "there is no folder"),
        ({"output": "."}, 2, r"target\.wav lies in \., which would be overwritten; choose another folder$"),
    ],
)
def test_blind_refuses_early_and_leaves_nothing(folder, blind, call, code, sentence):
    (folder / "here").mkdir()
    before = contents(folder)
    assert refused(blind(**call), code, sentence)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--rounds", "0"), "'--rounds'"),
        (("--length", "0.1"), "'--length'"),
        (("--length", "inf"), "--length is inf; pass a number of at least 0.5"),
        (("--start", "2", "--end", "1"), "--end is 1; pass seconds greater than --start, 2"),
    ],
)
def test_bad_options_of_blind_are_named_as_they_were_typed(blind, options, sentence):
    assert refused(blind(*options), 2, sentence)


def test_blind_without_all_it_needs_is_refused_with_a_way_out(run, folder):
    assert refused(run("blind"), 2, ".*TARGET.*; try 'smalti blind --help'$")
    assert refused(run("blind", "target.wav", "source.wav", "one.wav", "two.wav"), 2, "'--output'")


# Demo


@pytest.fixture
def short_demo(monkeypatch, rng):
    """The demo with sounds that last but a moment."""
    monkeypatch.setattr(demo, "demo_target", lambda sr: tone(4000, sr=sr))
    noise = (0.1 * rng.standard_normal(4000)).astype(np.float32)
    monkeypatch.setattr(demo, "demo_source", lambda sr: noise)


def test_the_demo_writes_all_it_speaks_of_and_nothing_twice(run, folder, short_demo):
    result = run("demo", "-o", "demo", "--plots")
    assert result.code == 0
    assert result.out.endswith("listen to target.wav, source.wav and mosaic.wav in demo\n")
    names = {"target.wav", "source.wav", "mosaic.wav", "report.json", "figures"}
    assert {path.name for path in (folder / "demo").iterdir()} == names
    before = contents(folder)
    assert refused(run("demo", "-o", "demo"), 1, r"demo.mosaic\.wav: it already exists; add --overwrite")
    assert contents(folder) == before
    result = run("demo", "-o", "demo", "--overwrite", "--no-plots", "--preset", "classic", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert json.loads((folder / "demo" / "report.json").read_text())["measures"]["FID"] > 0
    assert contents(folder)[folder / "demo" / "mosaic.wav"] != before[folder / "demo" / "mosaic.wav"]


def test_the_demo_goes_where_there_is_room(run, folder):
    assert refused(run("demo", "-o", "target.wav"), 1, r"cannot make the folder target\.wav")
    assert refused(run("demo", "-o", "a/b"), 1, r"cannot make the folder a.b")


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in {"matplotlib", *sys.modules}:
        if name.split(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "smalti.plots", raising=False)


def test_without_matplotlib_figures_are_refused_but_the_demo_plays(run, make, folder, short_demo, without_matplotlib):
    before = contents(folder)
    assert refused(make("--figures", "figures"), 1, r"need matplotlib: pip install 'smalti\[plots\]'")
    assert contents(folder) == before
    assert run("demo", "--plots").code == 1
    assert run("demo", "--overwrite").code == 0
    assert not (folder / "smalti-demo" / "figures").exists()


# Help


def test_help_and_version(run):
    version = run("--version")
    assert (version.code, version.out) == (0, f"smalti {__version__}\n")
    for command in ((), ("make",), ("judge",), ("blind",), ("demo",), ("examples",), ("presets",)):
        for flag in ("--help", "-h"):
            result = run(*command, flag)
            assert (result.code, result.err) == (0, "")
            assert "smalti" in result.out
    # No command at all is a question, but no success.
    result = run()
    assert (result.code, result.err) == (2, "")
    assert "make" in result.out


def test_both_ways_to_start_are_one():
    (script,) = entry_points(group="console_scripts", name="smalti")
    assert script.load() is main.main
    started = subprocess.run([sys.executable, "-m", "smalti", "--version"], capture_output=True, text=True, check=True)
    assert started.stdout == f"smalti {__version__}\n"


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        ("smalti make --preset ", list(PRESETS)),
        ("smalti make --preset sp", ["sparse"]),
        ("smalti demo --preset c", ["classic"]),
        ("smalti make --phase g", ["griffin-lim"]),
        ("smalti make --transpose ", ["auto", "off", "follow", "chords"]),
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


# Interruptions


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "moment", ["prepare", "solve_steps", "part_of", "assemble", "write_outputs", "measure_made", "write_report"]
)
def test_ctrl_c_stops_at_any_moment_without_a_trace(folder, make, monkeypatch, moment):
    before = contents(folder)
    monkeypatch.setattr(main, moment, interrupted)
    assert refused(make("--report", "report.json"), 130, "^smalti: stopped$")
    left = contents(folder)
    # Interrupted at the report, the sound is whole already.
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
        (OSError(errno.EIO, "Input/output error", "disk.wav"), 1, "disk.wav: Input/output error"),
        (RuntimeError("odd"), 1, "RuntimeError: odd; this is a fault of smalti's, please report it"),
    ],
)
def test_whatever_happens_is_told_in_a_sentence(folder, make, monkeypatch, fault, code, sentence):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(main, "prepare", fail)
    assert refused(make(), code, sentence)
    assert not (folder / "out.wav").exists()


def test_streams_that_are_closed_fall_on_no_other(folder, make, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        result = make("--json", source="target.wav")
        assert (result.code, json.loads(result.out)["sr"]) == (0, SR)
        assert (make().code, make().out) == (1, "")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert make("--overwrite").code == 0


# Processes


ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100"}
# What is printed is to stay in the buffer until the end, as it does for most users.
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)
SMALTI = (sys.executable, "-m", "smalti")
MAKE = (*SMALTI, "make", "target.wav", "source.wav", "-o", "out.wav")


def start(arguments, **kind):
    return subprocess.Popen(arguments, env=ENVIRONMENT, **kind)


def on_terminal(arguments, until=b"", then=None):
    """Run on a terminal 100 wide; when `until` has appeared, send the signal `then`. Returns exit code and text."""
    ours, theirs = os.openpty()
    process = start(arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    text = b""
    try:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux: nobody is left to write
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


FALLING = rb"divergence (\d[\d.e+]*)"


@on_posix
def test_on_a_terminal_a_bar_shows_the_divergence_fall_and_is_gone_in_the_end(folder):
    options = ("--preset", "notebook", "--sr", "8000", "--iterations", "300", "--report", "report.json")
    code, text = on_terminal([*MAKE, *options])
    assert code == 0
    divergences = json.loads((folder / "report.json").read_text())["divergence"]
    # How often it is drawn depends on the clock, but in the end always.
    shown = [number.decode() for number in re.findall(FALLING, text)]
    assert shown[-1] == f"{divergences[-1]:.4g}"
    assert set(shown) <= {f"{divergence:.4g}" for divergence in divergences}
    assert [float(number) for number in shown] == sorted(map(float, shown), reverse=True)
    # The last line is erased, and the cursor back.
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
def test_what_cannot_be_printed_is_no_success(folder):
    with Path("/dev/full").open("wb") as full:
        process = start(MAKE, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(rb"smalti: .*no space left on device\n", err)


@on_posix
def test_a_full_disk_leaves_nothing_behind(folder):
    """A limit on the size of files stands in for it."""
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
def test_no_home_is_no_hindrance(folder):
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


# Channels and levels


@pytest.fixture
def stereo(folder, rng):
    """Stereo beside the mono files: a target, and a source whose channels have nothing in common."""
    put(folder / "wide.wav", np.stack([tone(hz=300), tone(hz=500)], axis=1))
    put(folder / "rain.wav", (0.1 * rng.standard_normal((N, 2))).astype(np.float32))
    return folder


@pytest.mark.parametrize(
    ("target", "source", "options", "channels"),
    [
        ("target.wav", "rain.wav", (), 2),
        ("wide.wav", "source.wav", (), 1),
        ("wide.wav", "rain.wav", (), 2),
        ("wide.wav", "source.wav", ("--channels", "apart"), 2),
        ("target.wav", "rain.wav", ("--channels", "apart"), 1),
        ("wide.wav", "rain.wav", ("--channels", "mono"), 1),
    ],
)
def test_channels_are_kept_unless_asked_otherwise(stereo, make, target, source, options, channels):
    result = make(*options, "--json", "--figures", "figures", target=target, source=source)
    assert (result.code, result.err) == (0, "")
    assert soundfile.info("out.wav").channels == channels
    report = json.loads(result.out)
    assert report["output"]["channels"] == channels
    assert report["target"]["channels"] == soundfile.info(target).channels
    assert len(report["divergence"]) == 2 + 1 + configure().refine + 1


def test_a_format_too_narrow_is_refused_before_the_work(stereo, make, monkeypatch):
    put(stereo / "six.wav", np.stack([tone(hz=100 * i) for i in range(1, 7)], axis=1))
    monkeypatch.setattr(main, "prepare", None)
    result = make(source="six.wav", output="out.mp3")
    refused(result, 2, r"MP3 holds at most 2 channels and there are 6; choose another ending .*--channels mono")
    monkeypatch.undo()
    monkeypatch.chdir(stereo)
    assert make("--channels", "mono", source="six.wav", output="out.mp3").code == 0


@pytest.mark.parametrize("loudness", ["-30", "-23.5"])
def test_a_number_is_a_loudness(make, loudness):
    report = json.loads(make("--loudness", loudness, "--json").out)
    assert report["settings"]["loudness"] == float(loudness)
    assert report["output"]["loudness_lufs"] == pytest.approx(float(loudness), abs=0.05)
    # To a code of 16 bits.
    assert integrated_loudness(soundfile.read("out.wav")[0], SR) == pytest.approx(float(loudness), abs=0.1)


def test_as_is_the_level_is_that_of_the_gains(make):
    report = json.loads(make("--loudness", "as-is", "--json").out)
    assert report["gain_db"] == report["peak_gain_db"]


def test_silence_has_no_loudness_in_the_report(folder, make):
    put(folder / "silence.wav", np.zeros(N, np.float32))
    result = make("--report", "report.json", target="silence.wav")
    assert result.out.endswith(", silent\n")
    report = json.loads((folder / "report.json").read_text())
    assert report["output"]["loudness_lufs"] is report["output"]["true_peak_db"] is None


def test_the_target_s_phase_is_asked_for_by_the_per_cent_and_its_leak_is_said(make):
    result = make("--target-phase", "70", "--report", "report.json")
    said = re.search(r", (\d+)% of the target itself leaks through\n$", result.out)
    assert said
    report = json.loads(Path("report.json").read_text())
    assert report["settings"]["target_phase"] == 70
    assert 0 <= report["leak"] <= 1
    assert int(said[1]) == pytest.approx(100 * report["leak"], abs=0.51)
    assert "leaks" in make("--phase", "target", "--overwrite").out


def test_following_and_hearing_reach_the_mosaic(make):
    settings = json.loads(make("--level-follow", "40", "--ear-weighting", "--json").out)["settings"]
    assert (settings["level_follow"], settings["ear_weighting"]) == (40, True)
    settings = json.loads(make("--no-ear-weighting", "--json", "--overwrite").out)["settings"]
    assert (settings["level_follow"], settings["ear_weighting"]) == (0, False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--channels", "left"), "--channels is 'left'; pass one of source, apart, mono"),
        (("--loudness", "loud"), "--loudness is 'loud'; pass one of target, as-is or a number of LUFS from -70 to 0"),
        (("--loudness", "3"), "--loudness is 3; pass a number from -70 to 0"),
        (("--loudness", "nan"), "--loudness is nan; pass a number from -70 to 0"),
        (("--level-follow", "120"), "--level-follow.*less than or equal to 100"),
        (("--target-phase", "-1"), "--target-phase.*greater than or equal to 0"),
    ],
)
def test_levels_and_channels_out_of_range_are_refused(make, options, sentence):
    refused(make(*options), 2, sentence)


# Pitch


def voice(*hz, n=2 * N):
    """As steady a voice as there is, with partials; or several at once."""
    return sum(tone(n, hz=k * f, level=0.2 / k) for f in hz for k in range(1, 5) if k * f < SR / 2)


@pytest.fixture
def pitched(folder):
    """A target and a source that hold one note each, a chord, noise, and a written melody."""
    put(folder / "target.wav", voice(330))
    put(folder / "noise.wav", soundfile.read("source.wav", dtype="float32")[0])
    put(folder / "source.wav", voice(262))
    put(folder / "chord.wav", voice(262, 330, 392))
    (folder / "melody.csv").write_text("time,hz\n0,330\n0.3,392\n0.6,0\n")
    return folder


@pytest.fixture
def without_tracker(monkeypatch):
    monkeypatch.setitem(sys.modules, "swift_f0", None)
    pitch._network.cache_clear()
    yield
    pitch._network.cache_clear()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--preset", "melodic"), r"follows the melody: the target is one steady voice \(\d+% of what sounds\)"),
        (("--transpose", "auto"), r"follows the melody: the target is one steady voice \(\d+% of what sounds\)"),
        (("--transpose", "follow"), "follows the melody: as asked"),
        (("--transpose=follow", "--tune", "-5.5"), r"follows the melody, tuned by -5\.5 cents: as asked"),
        (("--transpose", "follow", "--target-f0", "melody.csv"), "follows the melody: its notes are given"),
        (("--transpose", "chords", "--voices", "3"), r"plays chords \(\d voices?\): as asked"),
        (("--transpose", "-2..2"), r"shifts every grain by what fits, -2 to \+2 semitones: as asked"),
        (("--transpose=-2..2",), r"shifts every grain by what fits, -2 to \+2 semitones: as asked"),
        (("--transpose", "0.5..2"), r"shifts every grain by what fits, \+0\.5 to \+1\.5 semitones: as asked"),
        (("--transpose", "+3..3"), r"shifts every grain by \+3 semitones: as asked"),
        (("--transpose", "-3.5"), r"shifts every grain by -3\.5 semitones: as asked"),
        (("--transpose=4", "--tune=10"), r"shifts every grain by \+4 semitones, tuned by \+10 cents: as asked"),
        (("--set", "transpose=-2..2"), r"shifts every grain by what fits, -2 to \+2 semitones: as asked"),
    ],
)
def test_what_was_decided_is_said_in_one_line(pitched, make, options, said):
    result = make(*options)
    assert result.code == 0
    assert re.fullmatch(f"smalti: {said}\n", result.err), result.err
    assert soundfile.info("out.wav").frames == 2 * N


def test_what_has_no_pitch_is_left_and_the_reason_said(pitched, make):
    result = make("--preset", "melodic", source="noise.wav")
    assert result.code == 0
    source = r"the source has no steady pitch to start from \(\d+% of what sounds\)"
    assert re.fullmatch(f"smalti: left at its own pitches: {source}\n", result.err)
    report = json.loads(make("--preset", "melodic", "--json", "--overwrite", source="noise.wav").out)
    assert (report["transposition"]["way"], report["transposition"]["grains"]) == ("off", [])
    assert report["transposition"]["n_voices"] == 0


def test_the_decision_is_for_people_only(pitched, make):
    for option in ("--quiet", "--json"):
        assert make("--preset", "melodic", "--overwrite", option).err == ""
    # And nothing is decided where nothing was asked.
    assert make("--overwrite").err == ""


def test_a_mosaic_follows_the_melody(pitched, make):
    assert make("--transpose", "follow", "--iterations", "5").code == 0
    samples, sr = soundfile.read("out.wav")
    middle = np.abs(np.fft.rfft(samples[N // 2 : 3 * N // 2] * np.hanning(N)))
    assert middle.argmax() * sr / N == pytest.approx(330, abs=sr / N)


def test_knobs_of_pitch_reach_the_mosaic(pitched, make):
    settings = settings_of(
        make("--transpose", "chords", "--no-keep-formants", "--tape", "--tune", "12.5", "--voices", "3", "--json")
    )
    assert (settings["transpose"], settings["keep_formants"], settings["tape"]) == ("chords", False, True)
    assert (settings["tune_cents"], settings["voices"]) == (12.5, 3)
    settings = settings_of(make("--transpose", "-2..2.5", "--keep-formants", "--no-tape", "--json", "--overwrite"))
    assert (settings["transpose"], settings["keep_formants"], settings["tape"]) == ([-2, 2.5], True, False)


def test_the_report_tells_how_the_source_came_to_the_pitches(pitched, make):
    result = make("--transpose", "follow", "--target-f0", "melody.csv", "--report", "report.json", "--start", "0.1")
    assert result.code == 0
    report = json.loads((pitched / "report.json").read_text())
    told = report["transposition"]
    assert (told["way"], told["reason"]) == ("follow", "its notes are given")
    sha = hashlib.sha256((pitched / "melody.csv").read_bytes()).hexdigest()
    assert told["melody"] == {"path": "melody.csv", "sha256": sha}
    assert len(told["target_f0_hz"]) == report["frames"]
    assert [len(track) for track in told["source_f0_hz"]] == [report["atoms"]]
    # The melody's times are those of the recording, of which the first .1 s were left out.
    expected = [
        330 if 0.1 + n * told["hop_s"] < 0.3 else 392 if 0.1 + n * told["hop_s"] < 0.6 else 0 for n in range(28)
    ]
    assert told["target_f0_hz"] == expected[: report["frames"]]
    assert {grain["source"] for grain in told["grains"]} == {"source.wav"}
    # From C4 to E4, G4, or both within a grain; and as it is where the melody rests.
    shifts = [grain["shift_semitones"] for grain in told["grains"]]
    assert all(3.9 < shift < 7.1 or shift == 0 for shift in shifts)
    assert min(shifts[:3]) < 4.5
    assert max(shifts) > 6.9
    assert json.loads(make("--json", "--overwrite").out)["transposition"] is None


@pytest.mark.parametrize("options", [("--transpose", "follow"), ("--transpose", "chords"), ("--transpose", "1..2")])
def test_what_was_transposed_has_a_picture_of_its_pitch(pitched, make, options):
    assert make(*options, "--figures", "figures", "-q").code == 0
    assert {path.stem for path in (pitched / "figures").iterdir()} == {*FIGURES, "pitch"}
    assert (pitched / "figures" / "pitch.png").read_bytes().startswith(b"\x89PNG")
    # It is known beforehand that it may be drawn.
    (pitched / "more").mkdir()
    (pitched / "more" / "pitch.png").touch()
    before = contents(pitched)
    assert refused(make(*options, "--figures", "more", output="b.wav"), 1, r"more.pitch\.png: it already exists")
    assert contents(pitched) == before


def test_what_was_left_has_no_picture_of_its_pitch(pitched, make):
    assert make("--preset", "melodic", "--figures", "figures", "-q", source="noise.wav").code == 0
    assert {path.stem for path in (pitched / "figures").iterdir()} == set(FIGURES)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"source": "noise.wav"},
            "--transpose is 'follow' but the source has no pitch to start from; take semitones, which need none, such "
            r"as --transpose=-12\.\.12, or --transpose off",
        ),
        (
            {"target": "noise.wav"},
            "--transpose is 'follow' but the target has no pitch to follow; take --transpose off, or write the melody "
            "down for --target-f0",
        ),
    ],
)
def test_where_there_is_no_pitch_to_follow_there_is_a_way_out(pitched, make, files, sentence):
    before = contents(pitched)
    assert refused(make("--transpose", "follow", **files), 2, f"^smalti: {sentence}$")
    assert contents(pitched) == before


@pytest.mark.parametrize("option", ["--transpose=", "--set=transpose="])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        *((value, r"pass one of auto, off, follow, chords, or semitones: a number, a range such as -12\.\.12, or")
          for value in ("up", "3..", "..3", "..", "1..2..3", "-12...12", "-12..x", "", "none", "1,2", "Follow")),
        ("1:2, x", "--transpose is '1:2, x': 'x' is no breakpoint; pass seconds and values"),
        ("5..-5", "--transpose goes from 5 to -5 semitones; pass the lower end first"),
        ("60", "--transpose is 60; pass a number from -48 to 48"),
        ("-60..0", "the lower end of --transpose is -60; pass a number from -48 to 48"),
        ("0..48.5", r"the upper end of --transpose is 48\.5; pass a number from -48 to 48"),
        ("nan", "--transpose is nan; pass a number from -48 to 48"),
        ("0..inf", "the upper end of --transpose is inf"),
    ],
)  # fmt: skip
def test_bad_semitones_are_refused(pitched, make, option, value, sentence):
    before = contents(pitched)
    assert refused(make(option + value), 2, sentence)
    assert contents(pitched) == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--tape",), "^smalti: --tape means nothing while --transpose is off; add --transpose auto, or another way$"),
        (("--no-keep-formants", "--tune", "3"), "--keep-formants and --tune mean nothing while --transpose is off"),
        (("--voices", "3"), "--voices means nothing while"),
        (("--target-f0", "melody.csv"), "--target-f0 means nothing while --transpose is off"),
        (("--preset", "melodic", "--transpose", "off", "--target-f0", "melody.csv"), "--target-f0 means nothing while"),
        (
            ("--transpose", "-2..2", "--target-f0", "melody.csv"),
            r"--target-f0 means nothing where --transpose is -2\.\.2; add --transpose follow",
        ),
        (("--preset", "melodic", "--tune", "1300"), "'--tune'"),
        (("--preset", "melodic", "--tune", "nan"), "--tune"),
        (("--preset", "melodic", "--set", "tune_cents=1300"), "--tune is 1300; pass a number from -1200 to 1200"),
        (("--preset", "melodic", "--voices", "0"), "'--voices'"),
        (("--preset", "melodic", "--set", "voices=0"), "--voices is 0; pass a whole number of at least 1"),
        (("--preset", "melodic", "--set", "tape=1"), "--set is 'tape=1'; pass tape=true or tape=false"),
        (("--preset", "melodic", "--set", "keep_formants=none"), "--keep-formants is None; pass True or False"),
        (("--preset", "melodic", "--beta", "2"), "--transpose is 'auto' but only whole grains can be shifted"),
        (("--preset", "classic", "--transpose", "-2..2.5"), r"--transpose is -2\.\.2\.5 but only whole grains"),
        (("--preset", "sparse", "--transpose", "follow"), "--transpose means nothing to the preset sparse"),
    ],
)
def test_options_of_pitch_that_mean_nothing_are_refused(pitched, make, options, sentence):
    before = contents(pitched)
    assert refused(make(*options), 2, sentence)
    assert contents(pitched) == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "no such file"),
        ("no numbers\nat all\n", r"line 2: 'at all' is no pair of seconds and hertz"),
        ("0,440\n-1,440\n", "line 2: -1 is no time"),
        ("0,440\n1,220\n0.5,440\n", r"line 3: 0\.5 s comes after 1 s; sort the lines by time"),
        ("0,0\n", "it holds no pitch"),
    ],
)
def test_melodies_that_are_none_are_the_world_s_fault(pitched, make, monkeypatch, text, sentence):
    if text is not None:
        (pitched / "bad.csv").write_text(text)
    before = contents(pitched)
    # Before anything else is read.
    monkeypatch.setattr(main, "read_inputs", interrupted)
    result = make("--transpose", "follow", "--target-f0", "bad.csv")
    assert refused(result, 1, rf"^smalti: cannot read bad\.csv: {sentence}")
    assert contents(pitched) == before


def test_a_melody_is_an_input_that_no_result_replaces(pitched, make):
    before = contents(pitched)
    result = make("--transpose", "follow", "--target-f0", "melody.csv", "--report", "melody.csv", "--overwrite")
    assert refused(result, 2, r"melody\.csv is an input of this mosaic")
    assert contents(pitched) == before


def test_a_melody_that_rests_throughout_the_excerpt_is_told(pitched, make):
    result = make("--transpose", "follow", "--target-f0", "melody.csv", "--start", "0.65")
    assert refused(result, 2, "the target has no pitch to follow; take --transpose off")


def test_without_the_tracker_the_extra_is_named_before_the_work(pitched, make, monkeypatch, without_tracker):
    before = contents(pitched)
    monkeypatch.setattr(main, "read_inputs", interrupted)
    for option in ("--transpose=auto", "--transpose=follow", "--preset=melodic", "--transpose=-1..1"):
        assert refused(make(option), 1, r"needs swift-f0: pip install 'smalti\[pitch\]'$")
    assert contents(pitched) == before
    monkeypatch.undo()


def test_the_bar_is_as_long_as_the_work(pitched, make, monkeypatch):
    turned = []

    class Bar(main.Progress):
        def add_task(self, *arguments, total, **kind):
            turned.append(total)
            return super().add_task(*arguments, total=total, **kind)

    monkeypatch.setattr(terminal, "Progress", Bar)
    for way in ("follow", "chords", "-1..1"):
        report = json.loads(make("--transpose", way, "--json", "--overwrite", "--iterations", "3").out)
        assert turned.pop() == len(report["divergence"])


def test_a_silent_target_has_nothing_to_follow_and_is_still_made(pitched, make):
    put(pitched / "silence.wav", np.zeros(N, np.float32))
    result = make("--preset", "melodic", "--report", "report.json", "--figures", "figures", target="silence.wav")
    assert result.code == 0
    assert "follows" not in result.err
    assert json.loads((pitched / "report.json").read_text())["transposition"] is None


def test_a_range_is_shown_as_it_can_be_set(run, monkeypatch):
    assert main._plainly((-12.0, 7.5)) == "-12..7.5"
    assert main._setting("transpose=-12..7.5") == ("transpose", (-12, 7.5))
