"""``smalti make`` refuses bad files, results, arguments and names, each in one sentence."""

import io
import json
import os
import re
import sys

import numpy as np
import pytest
import soundfile
from kit import BAD_FILES, N, as_user, contents, on_posix, put, refused, spoil, tone

from smalti.workflows import make as make_workflow


@pytest.mark.parametrize("role", ["target", "source"])
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_recordings_are_named(folder, make, name, role):
    spoil(folder)
    before = contents(folder)
    assert refused(make(**{role: name}), 1, f"{re.escape(name)}: .*{BAD_FILES[name]}")
    assert contents(folder) == before


def test_more_unusable_recordings_are_named(folder, make):
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

    monkeypatch.setattr(make_workflow, "prepare", work)
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
        (("--iterations", "0"), "--iterations"),
        (("--beta", "nan"), "--beta"),
        (("--beta", "3"), "--beta"),
        (("--beta", "-1"), "--beta"),
        (("--grain-length", "nan"), "--grain-length"),
        (("--grain-length", "inf"), "--grain-length is inf; pass a number of at least 0"),
        (("--grain-length", "-5"), "--grain-length is -5; pass a number of at least 0"),
        (("--no-repeat", "inf"), "--no-repeat is inf"),
        (("--n-fft", "5"), "--n-fft is 5; pass an even number"),
        (("--n-fft", "3"), "--n-fft"),
        (("--n-fft", "100000000"), "--n-fft"),
        (("--hop", "0"), "--hop"),
        (("--hop", "100000000"), "--hop"),
        (("--hop", "4096", "--n-fft", "2048"), "--hop is 4096 samples, more than half the window of 2048"),
        (("--sr", "1"), ".*--sr"),
        (("--sr", "999999999999"), ".*--sr"),
        (("--sr", "nan"), "--sr"),
        (("--start", "2", "--end", "1"), "--end is 1; pass seconds greater than --start, 2"),
        (("--start", "0.1", "--end", "0.1"), "--end is 0.1"),
        (("--start", "-1"), "--start"),
        (("--start", "nan"), "--start"),
        (("--start", "inf"), "--start is inf"),
        (("--end", "nan"), "--end"),
        (("--end", "inf"), "--end is inf"),
        (("--seed", "-1"), "--seed"),
        (("--seed", "x"), "--seed"),
        (("--preset", "sparse", "--beta", "1"), "--beta means nothing to the preset sparse"),
        (("--preset", "sparse", "--grain-length", "9"), "--grain-length means nothing to the preset sparse"),
        (("--nope",), "--nope"),
    ],
)
def test_bad_options_are_named_as_they_were_typed(folder, make, options, sentence):
    before = contents(folder)
    result = make(*options)
    assert refused(result, 2, sentence)
    # The option has no doubled dashes, and the library's own name is absent.
    assert not re.search(r"----|_s\b|n_fft", result.err)
    assert contents(folder) == before


def test_bad_commands_are_refused_with_a_way_out(run, folder):
    assert refused(run("nope"), 2, ".*nope.*; try 'smalti --help'$")
    assert refused(run("make"), 2, ".*TARGET.*; try 'smalti make --help'$")
    assert refused(run("make", "target.wav"), 2, "SOURCE")
    assert refused(run("make", "target.wav", "source.wav"), 2, "--output")
    assert refused(run("--nope"), 2, "--nope")
    assert refused(run("demo", "--preset", "nope"), 2, "--preset is 'nope'")
    assert not (folder / "smalti-demo").exists()


def test_an_empty_name_is_not_the_current_folder(make):
    """A script passes an empty name if a variable is unset."""
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
def test_absurd_but_valid_numbers_are_accepted(make, options):
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows any bytes in names")
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
