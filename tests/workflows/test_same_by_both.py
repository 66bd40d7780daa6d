"""Python, the command line and `make_steps` make the same samples out of the same files, to the byte."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import smalti
from smalti import PRESETS, read_audio
from smalti.presets import configure
from smalti.workflows.make import MakeRequest, make_steps
from smalti.workflows.outputs import Outputs
from sounds import notes

SR = 22050
# Few iterations run the same code as many; pursuit has no such setting.
FEW = {name: {} if name == "sparse" else {"iterations": 4} for name in PRESETS}


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A target in mono, and a source of three recordings, one of them in stereo."""
    (tmp_path / "s").mkdir()
    put = {
        "target.wav": notes(rng, 0.6, SR, octaves=3),
        "s/a.wav": notes(rng, 0.8, SR, octaves=4),
        "s/b.wav": np.stack([notes(rng, 0.5, SR, octaves=4) for _ in range(2)]),
        "s/c.wav": notes(rng, 0.4, SR, octaves=4),
    }
    for name, samples in put.items():
        soundfile.write(tmp_path / name, samples.T, SR, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def by_command(folder, run):
    """The samples that ``smalti make`` writes."""

    def call(source, *options):
        done = run("make", "target.wav", source, "-o", "out.wav", "--subtype", "FLOAT", *options)
        assert done.code == 0, done.err
        return read_audio("out.wav").samples

    return call


def equal(written, made):
    """Whether both have the same bytes; they must not be silent."""
    assert np.abs(written).max() > 0.01
    assert (written.dtype, written.shape) == (made.audio.dtype, made.audio.shape)
    return written.tobytes() == made.audio.tobytes()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_the_same_mosaic_of_files(by_command, preset):
    options = [option for knob, value in FEW[preset].items() for option in (f"--{knob}", value)]
    written = by_command("s", "--preset", preset, *options)
    sources = [read_audio(f"s/{name}.wav").samples for name in "abc"]
    made = smalti.mosaic(read_audio("target.wav").samples, sources, SR, preset=preset, **FEW[preset])
    assert equal(written, made)
    settings = configure(preset, **FEW[preset])
    outputs = Outputs(Path("steps.wav"), subtype="FLOAT")
    (*_, done) = make_steps(MakeRequest("target.wav", ("s",), outputs, settings, preset))
    assert equal(read_audio("steps.wav").samples, made)
    assert done.result["preset"] == preset


def test_without_a_rate_of_its_own_a_mosaic_has_that_of_the_target(by_command, rng):
    soundfile.write("target.wav", notes(rng, 0.6, 8000, octaves=3), 8000, subtype="FLOAT")
    soundfile.write("source.wav", notes(rng, 0.8, 8000, octaves=3), 8000, subtype="FLOAT")
    written = by_command("source.wav", "--set", "sr=none", "--iterations", 4)
    target, source = (read_audio(name).samples for name in ("target.wav", "source.wav"))
    made = smalti.mosaic(target, source, 8000, preset="balanced", iterations=4)
    assert read_audio("out.wav").sr == made.sr == 8000
    assert equal(written, made)


def test_knobs_curves_and_the_seed_have_the_same_effect(by_command):
    written = by_command(
        "s", "--iterations", 4, "--layers", "0:1, 0.5:4", "--level", "0:-6, 0.5:0", "--drift", 20, "--colour", 50,
        "--channels", "mono", "--loudness", "-20", "--ear-weighting", "--seed", 7,
    )  # fmt: skip
    made = smalti.mosaic(
        read_audio("target.wav").samples,
        [read_audio(f"s/{name}.wav").samples for name in "abc"],
        SR,
        iterations=4,
        layers=[(0, 1), (0.5, 4)],
        level_db=[(0, -6), (0.5, 0)],
        drift=20,
        colour=50,
        channels="mono",
        loudness=-20.0,
        ear_weighting=True,
        rng=7,
    )
    assert equal(written, made)


@pytest.mark.parametrize("preset", ["balanced", "faithful", "classic"])
def test_a_corpus_gives_the_same_mosaic(folder, run, by_command, preset):
    assert run("corpus", "build", "s", "-o", "c", "--sr", SR).code == 0
    chosen = ("--exclude", "c", "--weight", "a=0.5", "--limit", "b=40") if preset == "balanced" else ()
    written = by_command("c.corpus", "--preset", preset, "--iterations", 4, *chosen)
    selection = {"weights": {"a": 0.5}, "limits": {"b": 0.4}} if chosen else {}
    opened = smalti.open_corpus("c", smalti.Filters(exclude=("c",)) if chosen else None, **selection)
    options = {"weights": opened.weights, "limits": opened.limits} if chosen else {}
    made = smalti.mosaic(read_audio("target.wav").samples, opened.corpus, SR, preset=preset, iterations=4, **options)
    assert equal(written, made)
