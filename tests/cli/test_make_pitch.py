"""Transposing on the command line."""

import hashlib
import json
import re
import sys

import numpy as np
import pytest
import soundfile
from kit import SR, N, contents, interrupted, put, refused, settings_of, tone

from smalti.cli import terminal
from smalti.cli.options import setting_from
from smalti.cli.presets import plain_value
from smalti.dsp import pitch
from smalti.workflows import make as make_workflow
from smalti.workflows.outputs import FIGURES


def voice(*hz, n=2 * N):
    """A perfectly steady voice of up to four partials, or several voices at once."""
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
    ("options", "message"),
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
def test_the_decision_is_told_in_one_line(pitched, make, options, message):
    result = make(*options)
    assert result.code == 0
    assert re.fullmatch(f"smalti: {message}\n", result.err), result.err
    assert soundfile.info("out.wav").frames == 2 * N


def test_a_source_without_pitch_is_left_as_it_is_and_the_reason_is_told(pitched, make):
    result = make("--preset", "melodic", source="noise.wav")
    assert result.code == 0
    source = r"the source has no steady pitch to start from \(\d+% of what sounds\)"
    assert re.fullmatch(f"smalti: left at its own pitches: {source}\n", result.err)
    report = json.loads(make("--preset", "melodic", "--json", "--overwrite", source="noise.wav").out)
    assert (report["transposition"]["way"], report["transposition"]["grains"]) == ("off", [])
    assert report["transposition"]["n_voices"] == 0


def test_the_decision_is_not_told_with_quiet_or_json(pitched, make):
    for option in ("--quiet", "--json"):
        assert make("--preset", "melodic", "--overwrite", option).err == ""
    # Without --transpose nothing is decided.
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
    transposition = report["transposition"]
    assert (transposition["way"], transposition["reason"]) == ("follow", "its notes are given")
    sha = hashlib.sha256((pitched / "melody.csv").read_bytes()).hexdigest()
    assert transposition["melody"] == {"path": "melody.csv", "sha256": sha}
    assert len(transposition["target_f0_hz"]) == report["frames"]
    assert [len(track) for track in transposition["source_f0_hz"]] == [report["atoms"]]
    # The melody's times count from the start of the recording, whose first 0.1 s is left out.
    times_s = 0.1 + transposition["hop_s"] * np.arange(28)
    expected = [330 if time_s < 0.3 else 392 if time_s < 0.6 else 0 for time_s in times_s]
    assert transposition["target_f0_hz"] == expected[: report["frames"]]
    assert {grain["source"] for grain in transposition["grains"]} == {"source.wav"}
    # Grains go from C4 to E4 or G4, or to both in turn, and are not shifted where the melody rests.
    shifts = [grain["shift_semitones"] for grain in transposition["grains"]]
    assert all(3.9 < shift < 7.1 or shift == 0 for shift in shifts)
    assert min(shifts[:3]) < 4.5
    assert max(shifts) > 6.9
    assert json.loads(make("--json", "--overwrite").out)["transposition"] is None


@pytest.mark.parametrize("options", [("--transpose", "follow"), ("--transpose", "chords"), ("--transpose", "1..2")])
def test_a_transposed_mosaic_has_a_picture_of_its_pitch(pitched, make, options):
    assert make(*options, "--figures", "figures", "-q").code == 0
    assert {path.stem for path in (pitched / "figures").iterdir()} == {*FIGURES, "pitch"}
    assert (pitched / "figures" / "pitch.png").read_bytes().startswith(b"\x89PNG")
    # A picture that may be drawn is checked beforehand.
    (pitched / "more").mkdir()
    (pitched / "more" / "pitch.png").touch()
    before = contents(pitched)
    assert refused(make(*options, "--figures", "more", output="b.wav"), 1, r"more.pitch\.png: it already exists")
    assert contents(pitched) == before


def test_a_mosaic_at_its_own_pitches_has_no_picture_of_its_pitch(pitched, make):
    assert make("--preset", "melodic", "--figures", "figures", "-q", source="noise.wav").code == 0
    assert {path.stem for path in (pitched / "figures").iterdir()} == set(FIGURES)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"source": "noise.wav"},
            "--transpose is 'follow' but the source has no pitch to start from; pass a range of semitones, which needs "
            "none, or 'off'",
        ),
        (
            {"target": "noise.wav"},
            "--transpose is 'follow' but the target has no pitch to follow; pass 'off', or a melody as --target-f0",
        ),
    ],
)
def test_the_refusal_names_a_way_out_if_there_is_no_pitch_to_follow(pitched, make, files, sentence):
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
        (("--no-keep-formants", "--tune", "3"), "--keep-formants means nothing while --transpose is off"),
        (("--voices", "3"), "--voices means nothing while"),
        (("--target-f0", "melody.csv"), "--target-f0 means nothing while --transpose is off"),
        (("--preset", "melodic", "--transpose", "off", "--target-f0", "melody.csv"), "--target-f0 means nothing while"),
        (
            ("--transpose", "-2..2", "--target-f0", "melody.csv"),
            r"--target-f0 means nothing while --transpose is -2\.\.2; add --transpose follow",
        ),
        (("--preset", "melodic", "--tune", "1300"), "--tune"),
        (("--preset", "melodic", "--tune", "nan"), "--tune"),
        (("--preset", "melodic", "--set", "tune_cents=1300"), "--tune is 1300; pass a number from -1200 to 1200"),
        (("--preset", "melodic", "--voices", "0"), "--voices"),
        (("--preset", "melodic", "--set", "voices=0"), "--voices is 0; pass a whole number of at least 1"),
        (("--preset", "melodic", "--set", "tape=1"), "--set is 'tape=1'; pass tape=true or tape=false"),
        (("--preset", "melodic", "--set", "keep_formants=none"), "--keep-formants is None; pass True or False"),
        (("--preset", "melodic", "--beta", "2"), "--transpose is 'auto' but only whole grains can be shifted"),
        (("--preset", "classic", "--transpose", "-2..2.5"), r"--transpose is -2\.\.2\.5 but only whole grains"),
        (("--preset", "sparse", "--transpose", "follow"), "--transpose means nothing to the preset sparse"),
    ],
)
def test_options_of_pitch_without_effect_are_refused(pitched, make, options, sentence):
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
def test_bad_melody_files_are_refused(pitched, make, monkeypatch, text, sentence):
    if text is not None:
        (pitched / "bad.csv").write_text(text)
    before = contents(pitched)
    # The melody is read before anything else.
    monkeypatch.setattr(make_workflow, "read_inputs", interrupted)
    result = make("--transpose", "follow", "--target-f0", "bad.csv")
    assert refused(result, 1, rf"^smalti: cannot read bad\.csv: {sentence}")
    assert contents(pitched) == before


def test_a_melody_is_an_input_that_no_result_replaces(pitched, make):
    before = contents(pitched)
    result = make("--transpose", "follow", "--target-f0", "melody.csv", "--report", "melody.csv", "--overwrite")
    assert refused(result, 2, r"melody\.csv is an input of this mosaic")
    assert contents(pitched) == before


def test_a_melody_that_rests_throughout_the_excerpt_is_refused(pitched, make):
    result = make("--transpose", "follow", "--target-f0", "melody.csv", "--start", "0.65")
    assert refused(result, 2, "the target has no pitch to follow; pass 'off', or a melody as --target-f0")


def test_without_the_tracker_the_extra_is_named_before_the_work(pitched, make, monkeypatch, without_tracker):
    before = contents(pitched)
    monkeypatch.setattr(make_workflow, "read_inputs", interrupted)
    for option in ("--transpose=auto", "--transpose=follow", "--preset=melodic", "--transpose=-1..1"):
        assert refused(make(option), 1, r"needs swift-f0: pip install 'smalti\[pitch\]'$")
    assert contents(pitched) == before
    monkeypatch.undo()


def test_the_bar_is_as_long_as_the_work(pitched, make, monkeypatch):
    totals = []

    class Bar(terminal.Progress):
        def add_task(self, *arguments, total, **kind):
            totals.append(total)
            return super().add_task(*arguments, total=total, **kind)

    monkeypatch.setattr(terminal, "Progress", Bar)
    for way in ("follow", "chords", "-1..1"):
        report = json.loads(make("--transpose", way, "--json", "--overwrite", "--iterations", "3").out)
        assert totals.pop() == len(report["divergence"])


def test_a_silent_target_has_nothing_to_follow_and_is_still_made(pitched, make):
    put(pitched / "silence.wav", np.zeros(N, np.float32))
    result = make("--preset", "melodic", "--report", "report.json", "--figures", "figures", target="silence.wav")
    assert result.code == 0
    assert "follows" not in result.err
    assert json.loads((pitched / "report.json").read_text())["transposition"] is None


def test_a_range_is_shown_as_it_can_be_set(run, monkeypatch):
    assert plain_value((-12.0, 7.5)) == "-12..7.5"
    assert setting_from("transpose=-12..7.5") == ("transpose", (-12, 7.5))
