"""``smalti make`` with settings that change over time and with sketches: results, refusals and reports."""

import json
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from smalti.presets import configure, settings_from
from smalti.settings import Settings
from sounds import notes

SR = 11025


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """The working folder, with a target, recordings in two folders, and a sketch whose upper half is black."""
    for name, seconds in (("target", 1.5), ("s/rain/a", 1.5), ("s/rain/b", 1.0), ("s/bees", 1.5)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / f"{name}.wav", notes(rng, seconds, SR, octaves=4), SR)
    pixels = np.full((4, 6), 255, np.uint8)
    pixels[:2] = 0
    Image.fromarray(pixels).save(tmp_path / "sketch.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make(run, folder):
    def call(*options, source=("s",), output="out.wav"):
        return run("make", "target.wav", *source, "-o", output, "--overwrite", *options)

    return call


def report_of(result):
    assert result.code == 0, result.err
    return json.loads(result.out)


def refused(result, code, sentence):
    assert (result.code, result.out) == (code, "")
    (line,) = [line for line in result.err.splitlines() if "warning" not in line]
    assert line.startswith("smalti: ")
    assert re.search(sentence, line), line


def loudness(begin_s, end_s, file="out.wav"):
    samples, sr = soundfile.read(file)
    return float(np.sqrt(np.square(samples[round(begin_s * sr) : round(end_s * sr)]).mean()))


def test_settings_that_change_are_taken_and_reported(make):
    options = ("--layers", "0:1, 1:4", "--grain-length", "0:100, 1:400", "--drift", "0:0,1:50", "--level", "0:0, 1:-20")
    report = report_of(make(*options, "--json"))
    wanted = configure(layers="0:1, 1:4", grain_length_s="0:0.1, 1:0.4", drift="0:0, 1:50", level_db="0:0, 1:-20")
    assert settings_from(report["settings"]) == wanted
    assert report["settings"]["layers"] == {"times_s": [0, 1], "values": [1, 4]}
    assert report["sketch"] == {"picture": None, "strokes": []}


def test_plain_numbers_and_set_are_taken_too(make):
    report = report_of(make("--layers", "3", "--grain-length", "250", "--drift", "20", "--level", "-3", "--json"))
    settings = report["settings"]
    assert (settings["layers"], settings["grain_length_s"]) == (3, 0.25)
    assert (settings["drift"], settings["level_db"]) == (20, -3)
    report = report_of(
        make("--set", "layers=0:2, 1:4", "--set", "drift=0:5,2:60", "--set", "grain_length_s=0.2", "--json")
    )
    assert settings_from(report["settings"]) == configure(layers="0:2, 1:4", drift="0:5, 2:60", grain_length_s=0.2)


def test_seconds_are_those_of_the_excerpt(make):
    make("--start", "0.5", "--paint", "0..0.4=0", "--level", "0:0, 0.7:0, 0.7:-60", "--set", "attacks=0", "--quiet")
    assert loudness(0, 0.3) < 1e-3 < loudness(0.5, 0.6)
    assert loudness(0.8, 0.95) < 1e-3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--layers", "4:2, 0:3"),
            "^smalti: --layers is '4:2, 0:3': 0 s comes after 4 s; pass breakpoints in the order",
        ),
        (
            ("--layers", "0:2, 4"),
            "--layers is '0:2, 4': '4' is no breakpoint; pass seconds and values such as '0:2, 4:8'",
        ),
        (("--layers", "some"), "--layers is 'some'; pass a number, or seconds and values such as '0:2, 4:8'"),
        (("--layers", "0:0.4"), "--layers at its least is 0.4; pass a number of at least 1"),
        (("--grain-length", "0:100, 2:-1"), "--grain-length is -1; pass a number of at least 0"),
        (("--grain-length", "0:100, 2:nan"), "'2:nan' is no breakpoint"),
        (("--drift", "101"), "--drift is 101; pass a number from 0 to 100"),
        (("--drift", "0:0, 2:101"), "--drift at its most is 101; pass a number from 0 to 100"),
        (("--drift", "20", "--preset", "faithful"), "--drift is 20 but only whole grains can go on"),
        (("--drift", "20", "--preset", "sparse"), "--drift means nothing to the preset sparse"),
        (("--level", "30"), "--level is 30; pass a number from -100 to 24"),
        (("--layers", "0:2, 4:8", "--preset", "sparse"), "--layers is the curve 0:2, 4:8 but pursuit takes one number"),
        (
            ("--transpose", "0:0, 4:60", "--preset", "melodic"),
            "--transpose at its most is 60; pass a number from -48 to 48",
        ),
        (("--set", "layers=0:2, 1"), "--layers is '0:2, 1': '1' is no breakpoint"),
        (("--paint", "2..4"), "--paint is '2..4': it has no weight; end it with one, such as =0, which forbids"),
        (("--paint", "rain=0"), "--paint is 'rain=0': 'rain' are no seconds of the target; begin with some"),
        (("--paint", "1..0=0"), "--paint is '1..0=0': target_s goes from 1 to 0 s; pass an end after its begin"),
        (("--paint", "0..1=-2"), "--paint is '0..1=-2': weight is -2; pass a number from 0 to 1000"),
        (("--paint", "5..9=0"), "the stroke 5..9=0 begins after the target, which lasts 1.5"),
        (("--paint", "0..1 rayn=0"), "the stroke 0..1 rayn=0 has 'rayn', which no recording in use meets"),
        (("--paint", "0..1 bees 7..9=0"), "the stroke 0..1 bees 7..9=0 begins after its recordings, which last 1.49 s"),
        (("--paint", "0..=0"), "^smalti: the sketch forbids everything; leave something of the source to some moment"),
        (("--sketch", "sketch.png", "--preset", "sparse"), "^smalti: a sketch is given but pursuit takes none"),
    ],
)
def test_bad_curves_and_sketches_are_refused(make, folder, options, sentence):
    refused(make(*options), 2, sentence)
    assert not (folder / "out.wav").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("target.wav", "cannot read target.wav: it is no PNG"),
        ("none.png", "cannot read none.png: no such file"),
        ("s", "no file"),
    ],
)
def test_files_that_are_no_sketch_are_named(make, name, sentence):
    refused(make("--sketch", name), 1, sentence)


def test_a_sketch_is_not_overwritten(make, folder):
    before = (folder / "sketch.png").read_bytes()
    refused(make("--sketch", "sketch.png", "--report", "sketch.png"), 2, "sketch.png is an input of this mosaic")
    assert (folder / "sketch.png").read_bytes() == before


@pytest.mark.parametrize("search", ["never", "always"])
def test_a_sketch_lies_over_the_source_from_bottom_to_top(make, monkeypatch, search):
    from smalti.plots import figures

    drawn = {}
    monkeypatch.setattr(figures, "plot_activations", keeping(figures.plot_activations, drawn))
    result = make(
        "--sketch", "sketch.png", "--figures", "f", "--json", "--set", f"search={search}", source=("s/bees.wav",)
    )
    report = report_of(result)
    assert report["sketch"]["picture"]["path"] == "sketch.png"
    assert len(report["sketch"]["picture"]["sha256"]) == 64
    # The black upper half silences the second half of the source, which is also where it is drawn.
    heard = np.asarray(drawn["H"].sum(axis=1)).ravel() > 0
    assert len(heard) == report["atoms"] if search == "never" else len(heard) > report["atoms"]
    assert heard[: len(heard) // 2].any()
    assert not heard[len(heard) // 2 + 1 :].any()


def keeping(plot, drawn):
    def call(H, **options):
        drawn["H"] = H
        return plot(H, **options)

    return call


def test_strokes_lie_over_each_other_and_over_the_picture(make):
    strokes = ("0.. rain=0", "0.. rain/b.wav 0..0.5=2", "0..0.5=0")
    report = report_of(
        make("--sketch", "sketch.png", *(part for stroke in strokes for part in ("--paint", stroke)), "--json")
    )
    assert report["sketch"]["strokes"] == ["0.. rain=0", "0.. rain/b.wav 0..0.5=2", "0..0.5=0"]
    assert loudness(0, 0.4) < 1e-3 < loudness(0.7, 1.2)


def test_a_corpus_is_painted_by_names_and_tags_and_not_by_pictures(make, run):
    assert run("corpus", "build", "s/bees.wav", "-o", "c", "--sr", SR, "--tag", "hum").code == 0
    assert run("corpus", "build", "s/rain", "-o", "c", "--sr", SR).code == 0
    report = report_of(make("--paint", "0.. tag:hum=0", "--json", source=("c.corpus",)))
    assert {used["path"].rpartition("/")[2] for used in report["corpus"]["used"]} <= {"a.wav", "b.wav"}
    report = report_of(make("--paint", "0..=0", "--paint", "0.. bees 0..1=1", "--json", source=("c.corpus",)))
    assert [used["path"].rpartition("/")[2] for used in report["corpus"]["used"]] == ["bees.wav"]
    refused(
        make("--sketch", "sketch.png", source=("c.corpus",)),
        2,
        "--sketch is sketch.png but c.corpus is a corpus, whose",
    )


def test_every_setting_comes_back_from_a_report(make):
    report = report_of(make("--json"))
    assert isinstance(settings_from(report["settings"]), Settings)
