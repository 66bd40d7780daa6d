"""Channels, levels and phases of what ``smalti make`` makes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from kit import SR, N, put, refused, tone

from smalti.dsp.loudness import integrated_loudness
from smalti.presets import configure
from smalti.workflows import make as make_workflow


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
    # Figures show the mono mix, so it is enough to draw them where target and source both have two channels.
    figures = ("--figures", "figures") if (target, source) == ("wide.wav", "rain.wav") and not options else ()
    result = make(*options, "--json", *figures, target=target, source=source)
    assert (result.code, result.err) == (0, "")
    assert soundfile.info("out.wav").channels == channels
    report = json.loads(result.out)
    assert report["output"]["channels"] == channels
    assert report["target"]["channels"] == soundfile.info(target).channels
    assert len(report["divergence"]) == 2 + 1 + configure().refine + 1


def test_a_format_too_narrow_is_refused_before_the_work(stereo, make, monkeypatch):
    put(stereo / "six.wav", np.stack([tone(hz=100 * i) for i in range(1, 7)], axis=1))
    monkeypatch.setattr(make_workflow, "prepare", None)
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
    # The file is rounded to 16 bits.
    assert integrated_loudness(soundfile.read("out.wav")[0], SR) == pytest.approx(float(loudness), abs=0.1)


def test_the_loudness_as_is_keeps_the_level_of_the_gains(make):
    report = json.loads(make("--loudness", "as-is", "--json").out)
    assert report["gain_db"] == report["peak_gain_db"]


def test_silence_has_no_loudness_in_the_report(folder, make):
    put(folder / "silence.wav", np.zeros(N, np.float32))
    result = make("--report", "report.json", target="silence.wav")
    assert result.out.endswith(", silent\n")
    report = json.loads((folder / "report.json").read_text())
    assert report["output"]["loudness_lufs"] is report["output"]["true_peak_db"] is None


def test_the_target_s_phase_is_given_in_per_cent_and_its_leak_is_reported(make):
    result = make("--target-phase", "70", "--report", "report.json")
    match = re.search(r", (\d+)% of the target itself leaks through\n$", result.out)
    assert match
    report = json.loads(Path("report.json").read_text())
    assert report["settings"]["target_phase"] == 70
    assert 0 <= report["leak"] <= 1
    assert int(match[1]) == pytest.approx(100 * report["leak"], abs=0.51)
    assert "leaks" in make("--phase", "target", "--overwrite").out


def test_level_follow_and_ear_weighting_reach_the_mosaic(make):
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
        (("--level-follow", "120"), "--level-follow"),
        (("--target-phase", "-1"), "--target-phase"),
    ],
)
def test_levels_and_channels_out_of_range_are_refused(make, options, sentence):
    refused(make(*options), 2, sentence)
