"""`make_steps` does what the command line does, yields what happens, and leaves nothing behind when it is stopped."""

import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import smalti
from smalti.curves import Curve
from smalti.dsp.stft import StftParams
from smalti.grains.filters import Filters
from smalti.mosaicing.sketch import Stroke
from smalti.presets import PRESETS
from smalti.workflows.inputs import Excerpt, SourceSelection
from smalti.workflows.make import MakeRequest, make_steps
from smalti.workflows.outputs import Outputs
from smalti.workflows.steps import Done, Progress, Remark, Stage, Warned
from sounds import notes

SR = 8000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A target and a source of a second, of 32-bit floats, so that nothing is lost on the disk."""
    monkeypatch.chdir(tmp_path)
    for seed, (name, seconds) in enumerate({"target.wav": 1.0, "source.wav": 1.5}.items()):
        sound = notes(np.random.default_rng(seed), seconds, SR, octaves=3)
        soundfile.write(name, sound, SR, subtype="FLOAT")
    return tmp_path


def request_of(**changes):
    outputs = Outputs(Path("out.wav"), subtype="FLOAT", overwrite=True)
    return MakeRequest("target.wav", ("source.wav",), outputs, **changes)


EVERYTHING = MakeRequest(
    "example:trumpet",
    ("a b.wav", "inf", "folder"),
    Outputs(
        Path("o.flac"), "PCM_24", Path("f"), Path("r.json"), True, ("pitch",), Path("s.json"), Path("st"), "folder"
    ),
    settings=replace(
        PRESETS["melodic"], layers=Curve((0.0, 2.0), (1.0, 4.0)), transpose=(-3.0, 4.5), loudness=-20.0, level_db=-1.5
    ),
    preset="melodic",
    grid=StftParams(n_fft=512, hop=128),
    excerpt=Excerpt(1.0, 2.5),
    melody=Path("m.csv"),
    selection=SourceSelection(Filters(include=("a*",), tags=("wind",), longest_s=4.0), {"a": 2.0}, {"b": 0.25}),
    sketch=Path("p.png"),
    strokes=(Stroke((0.0, math.inf), None, "inf", 0.0), Stroke((1.0, 2.0), (0.5, math.inf), None, 3.0)),
    seed=7,
    measured=True,
)


@pytest.mark.parametrize("request_", [EVERYTHING, request_of()])
def test_a_request_survives_json_and_pickling(request_):
    assert MakeRequest.from_json(request_.to_json()) == request_
    assert pickle.loads(pickle.dumps(request_)) == request_


def test_a_request_of_other_json_is_refused():
    with pytest.raises((ValueError, TypeError, KeyError)):
        MakeRequest.from_json("{}")
    other = EVERYTHING.to_json().replace('"drift"', '"drifting"')
    with pytest.raises(ValueError, match="'drifting' is no setting"):
        MakeRequest.from_json(other)


@pytest.mark.parametrize("preset", PRESETS)
def test_python_the_command_line_and_the_steps_make_the_same_samples(folder, run, preset):
    settings = replace(PRESETS[preset], iterations=3, sr=None)
    (*_, done) = make_steps(request_of(settings=settings, preset=preset))
    stepped = smalti.read_audio("out.wav").samples
    assert isinstance(done, Done)
    assert done.result["preset"] == preset
    said = run("make", "target.wav", "source.wav", "-o", "cli.wav", "--subtype", "FLOAT", "--preset", preset, "--set",
               "sr=none", *([] if preset == "sparse" else ["--iterations", "3"]))  # fmt: skip
    assert said.code == 0, said.err
    np.testing.assert_array_equal(smalti.read_audio("cli.wav").samples, stepped)
    target, source = (smalti.read_audio(name).samples for name in ("target.wav", "source.wav"))
    np.testing.assert_array_equal(smalti.mosaic(target, source, SR, preset=settings).audio, stepped)


def test_stages_come_in_order_and_every_step_is_told(folder):
    events = list(make_steps(request_of(measured=True)))
    stages = [event.name for event in events if isinstance(event, Stage)]
    assert stages == ["read", "analyse", "solve", "synthesise", "write", "measure"]
    steps = [event for event in events if isinstance(event, Progress)]
    assert [step.done for step in steps] == list(range(steps[-1].total + 1))
    assert [step.divergence for step in steps[1:]] == events[-1].result["divergence"]
    assert set(events[-1].result["seconds"]) == {"read", "analyse", "solve", "synthesise", "write", "measure", "total"}


def test_what_is_warned_of_is_in_the_report_too(folder):
    soundfile.write("target.wav", np.zeros(4000, np.float32), SR)
    events = list(make_steps(request_of()))
    warned = [event.sentence for event in events if isinstance(event, Warned)]
    assert any("target.wav is silent" in sentence for sentence in warned)
    assert events[-1].result["warnings"] == warned


def test_the_way_to_the_target_s_pitches_is_a_remark(folder):
    settings = replace(PRESETS["balanced"], transpose=(-2.0, 2.0), iterations=2)
    (remark,) = [event for event in make_steps(request_of(settings=settings)) if isinstance(event, Remark)]
    assert remark.sentence == "shifts every grain by what fits, -2 to +2 semitones: as asked"


@pytest.mark.parametrize("after", ["read", "analyse", "solve", "write"])
def test_stopped_anywhere_it_leaves_nothing_behind(folder, after):
    before = sorted(folder.iterdir())
    steps = make_steps(request_of())
    for event in steps:
        if isinstance(event, Stage) and event.name == after:
            break
    steps.close()
    assert sorted(folder.iterdir()) == before
