"""``smalti make`` as its users meet it: its results, sources and messages."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from kit import SR, N, contents, put, refused, tone

from smalti import __version__
from smalti.dsp.loudness import integrated_loudness, true_peak
from smalti.dsp.phase import PHASES
from smalti.metrics import MEASURES
from smalti.presets import PRESETS, configure
from smalti.workflows import make as make_workflow
from smalti.workflows.outputs import FIGURES
from strategies import pairwise


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
    # -1 dB of full scale and a margin of 0.05 dB; samples are rounded to 16 bits.
    assert true_peak(soundfile.read("out.wav")[0], SR) == pytest.approx(10 ** (-1.05 / 20), abs=2**-8)
    result = make("--overwrite", target="six.wav", source=["many.wav", "source.wav"])
    assert (result.code, result.err) == (0, "")
    assert soundfile.info("out.wav").channels == 6


def test_the_target_s_rate_is_kept_unless_asked_otherwise(folder, make):
    put(folder / "fast.wav", tone(19200, sr=96000), sr=96000)
    assert make(target="fast.wav").err == ""
    assert soundfile.info("out.wav").samplerate == 96000
    lost = f"what fast.wav has above {SR // 2} Hz is lost"
    message = f"smalti: warning: at the {SR} Hz of target.wav, {lost}; --sr 96000 keeps it\n"
    assert make("--overwrite", source="fast.wav").err == message
    assert soundfile.info("out.wav").samplerate == SR
    lower = make("--overwrite", "--sr", "4000")
    assert lower.err == "smalti: warning: working at 4000 Hz: what target.wav has above 2000 Hz is lost\n"
    # Nothing is lost, and a rate that the user chose needs no message.
    assert make("--overwrite", "--sr", "12000", source="fast.wav").err == ""
    assert soundfile.info("out.wav").samplerate == 12000
    assert soundfile.info("out.wav").frames == N * 12000 // SR


def test_the_notebook_s_rate_is_reported_and_can_be_overridden(make):
    result = make("--preset", "notebook")
    assert result.err == ""
    assert "mono at 22.05 kHz" in result.out
    assert soundfile.info("out.wav").samplerate == 22050
    result = make("--preset", "notebook", "--sr", SR, "--overwrite")
    assert result.err == ""
    assert soundfile.info("out.wav").samplerate == SR


def test_an_excerpt_gives_the_mosaic_of_a_file_with_just_the_excerpt(folder, make):
    put(folder / "excerpt.wav", soundfile.read("target.wav", dtype="float32")[0][800:2000])
    assert make("--start", "0.1", "--end", "0.25").code == 0
    assert make(target="excerpt.wav", output="same.wav").code == 0
    assert (folder / "out.wav").read_bytes() == (folder / "same.wav").read_bytes()
    result = make("--start", "0.1", "--end", "9", "--overwrite")
    assert "should end at 9 s but the file ends at 0.375 s" in result.err
    assert soundfile.info("out.wav").frames == N - 800


@pytest.mark.parametrize("output", ["out.wav", "out.flac", "out.mp3"])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(folder, make, output):
    # Reports with the same seed differ only in their times.
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
        # The file is rounded to 16 bits.
        "loudness_lufs": pytest.approx(integrated_loudness(soundfile.read("out.wav")[0], SR), abs=0.01),
        "true_peak_db": pytest.approx(20 * np.log10(true_peak(soundfile.read("out.wav")[0], SR)), abs=0.01),
    }
    # The mosaic is as loud as the target, less what keeps peaks safe; the limiter comes within half a unit.
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
    # Each time is rounded to a tenth of a millisecond.
    assert stages.pop("total") == pytest.approx(sum(stages.values()), abs=1e-3)


def test_nothing_is_measured_unless_it_is_reported(folder, make, monkeypatch):
    def fail(*_):
        raise AssertionError("measured")

    monkeypatch.setattr(make_workflow, "measure_made", fail)
    assert make().code == 0
    assert make("--overwrite", "--json").code == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_odd_recordings_are_reported_too(folder, make, preset):
    for i, (name, samples) in enumerate(ODD.items()):
        put(folder / f"{name}.wav", samples, sr=22050, subtype="FLOAT")
        # Each sound is a target in some presets and a source in others, except one that is too quiet for a source.
        which = "target" if name == "denormal" or (i + list(PRESETS).index(preset)) % 2 else "source"
        result = make("--preset", preset, "--json", "--overwrite", **{which: f"{name}.wav"})
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


def test_quiet_prints_nothing_and_json_prints_only_the_report(make):
    result = make("--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    result = make("-q", "--json", "--overwrite")
    assert json.loads(result.out)["output"]["path"] == "out.wav"
    assert result.err == ""


def test_folders_are_searched_and_unreadable_files_are_named_and_skipped(folder, make):
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


def test_one_file_may_be_target_and_source_with_a_warning(make):
    result = make(source="target.wav")
    assert result.code == 0
    assert "target.wav is target and source at once" in result.err


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("preset", PRESETS)
def test_one_sample_of_one_sample(folder, make, preset, phase):
    put(folder / "one.wav", np.array([0.5]), sr=22050)
    result = make("--preset", preset, "--phase", phase, target="one.wav", source="one.wav")
    assert result.code == 0
    assert "one.wav has 1 sample, fewer than one window" in result.err
    samples, _ = soundfile.read("out.wav")
    assert len(samples) == 1
    # A single source frame can only become the target; eps slows the preset notebook down.
    assert samples[0] == pytest.approx(0.5, rel=0.6)


def test_recordings_shorter_than_a_window_are_padded_with_a_warning(folder, make):
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


@pytest.mark.parametrize(("preset", "name", "odd"), pairwise(list(PRESETS), list(ODD), ["target", "source", "both"]))
def test_odd_samples_never_become_nan(folder, make, name, preset, odd):
    put(folder / "odd.wav", ODD[name], subtype="FLOAT")
    target = "target.wav" if odd == "source" else "odd.wav"
    source = "source.wav" if odd == "target" else "odd.wav"
    result = make("--json", "--preset", preset, "--sr", SR, target=target, source=source)
    if (name, source) == ("denormal", "odd.wav"):
        assert result.code == 1
        assert re.search(r"source is silent: there is no sound in odd\.wav", result.err)
        return
    assert result.code == 0
    report = json.loads(result.out)
    assert np.isfinite(report["divergence"]).all()
    samples, _ = soundfile.read("out.wav")
    assert len(samples) == soundfile.info(target).frames
    assert np.isfinite(samples).all()
