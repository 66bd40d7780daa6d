"""`make_steps` yields events, and leaves nothing behind when it is stopped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from smalti._checks import ParameterError
from smalti.mosaicing.sketch import Stroke
from smalti.presets import PRESETS
from smalti.workflows import make
from smalti.workflows.inputs import Provenance, read_inputs
from smalti.workflows.make import MakeRequest, make_steps
from smalti.workflows.outputs import Outputs
from smalti.workflows.steps import Progress, Remark, Stage, Warned
from sounds import notes

SR = 8000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A target and a source of about a second, in 32-bit floats so that files are lossless."""
    monkeypatch.chdir(tmp_path)
    for seed, (name, seconds) in enumerate({"target.wav": 1.0, "source.wav": 1.5}.items()):
        sound = notes(np.random.default_rng(seed), seconds, SR, octaves=3)
        soundfile.write(name, sound, SR, subtype="FLOAT")
    return tmp_path


def request_of(**changes):
    outputs = Outputs(Path("out.wav"), subtype="FLOAT", overwrite=True)
    return MakeRequest("target.wav", ("source.wav",), outputs, **changes)


def test_stages_come_in_order_and_every_step_is_reported(folder):
    events = list(make_steps(request_of(measured=True)))
    stages = [event.name for event in events if isinstance(event, Stage)]
    assert stages == ["read", "analyse", "solve", "synthesise", "write", "measure"]
    steps = [event for event in events if isinstance(event, Progress)]
    assert [step.done for step in steps] == list(range(steps[-1].total + 1))
    assert [step.divergence for step in steps[1:]] == events[-1].result["divergence"]
    assert set(events[-1].result["seconds"]) == {"read", "analyse", "solve", "synthesise", "write", "measure", "total"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"seed": -1}, "^seed is -1; pass a whole number"), ({"sources": ()}, "^sources is empty; name at least one")],
)
def test_impossible_requests_are_refused_before_anything_is_read(folder, changes, sentence):
    (folder / "target.wav").unlink()
    with pytest.raises(ParameterError, match=sentence):
        list(make_steps(replace(request_of(), **changes)))


def test_warnings_are_in_the_report_too(folder):
    soundfile.write("target.wav", np.zeros(4000, np.float32), SR)
    events = list(make_steps(request_of()))
    warned = [event.sentence for event in events if isinstance(event, Warned)]
    assert any("target.wav is silent" in sentence for sentence in warned)
    assert events[-1].result["warnings"] == warned


def test_the_way_of_transposing_is_a_remark(folder):
    settings = replace(PRESETS["balanced"], transpose=(-2.0, 2.0), iterations=2)
    (remark,) = [event for event in make_steps(request_of(settings=settings)) if isinstance(event, Remark)]
    assert remark.sentence == "shifts every grain by what fits, -2 to +2 semitones: as asked"


class SourceList:
    """Several sources as one: no other code knows of this class."""

    def __init__(self, *sources):
        self.sources = sources
        self.samples = [sound for source in sources for sound in source.samples]
        self.material = [sound for source in sources for sound in source.material]
        self.channels = [n for source in sources for n in source.channels]
        self.provenance = Provenance(tuple(file for source in sources for file in source.provenance.files))

    def n_frames(self, params):
        return sum(source.n_frames(params) for source in self.sources)


@pytest.mark.parametrize("search", ["never", "always"])
def test_a_new_kind_of_source_is_a_new_class(folder, monkeypatch, search):
    soundfile.write("other.wav", notes(np.random.default_rng(2), 1.0, SR, octaves=3), SR, subtype="FLOAT")
    settings = replace(PRESETS["balanced"], search=search, iterations=2)
    request = replace(
        request_of(settings=settings, measured=True, strokes=(Stroke((0.0, 0.3), None, "other", 0.0),)),
        sources=("source.wav", "other.wav"),
    )
    *_, wanted = make_steps(request)
    sound = Path("out.wav").read_bytes()

    def read_apart(target, sources, **options):
        parts = [read_inputs(target, [source], **options) for source in sources]
        return replace(parts[0], source=SourceList(*(part.source for part in parts)))

    monkeypatch.setattr(make, "read_inputs", read_apart)
    *_, done = make_steps(request)
    assert Path("out.wav").read_bytes() == sound
    assert done.result | {"seconds": None} == wanted.result | {"seconds": None}


@pytest.mark.parametrize("after", ["read", "analyse", "solve", "write"])
def test_a_stop_at_any_stage_leaves_nothing_behind(folder, after):
    before = sorted(folder.iterdir())
    steps = make_steps(request_of())
    for event in steps:
        if isinstance(event, Stage) and event.name == after:
            break
    steps.close()
    assert sorted(folder.iterdir()) == before
