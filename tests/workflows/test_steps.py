"""Laws of all workflows: requests survive JSON and pickling, stages come in order, and a stop leaves nothing behind."""

import json
import math
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from smalti.curves import Curve
from smalti.dsp.stft import StftParams
from smalti.grains.filters import Filters
from smalti.mosaicing.sketch import Stroke
from smalti.presets import PRESETS
from smalti.score.edit import Edits, Selection, Swap
from smalti.workflows.blind import BlindRequest, blind_steps
from smalti.workflows.edit import BlendRequest, EditRequest, blend_steps, edit_steps
from smalti.workflows.export import ExportRequest, export_steps
from smalti.workflows.inputs import Excerpt, SourceSelection
from smalti.workflows.judge import JudgeRequest, judge_steps
from smalti.workflows.make import MakeRequest, make_steps
from smalti.workflows.outputs import Outputs
from smalti.workflows.render import RenderRequest, render_steps
from smalti.workflows.steps import Done, Stage
from sounds import notes

SR = 8000

# --- requests

MAKE = MakeRequest(
    "example:trumpet",
    ("a b.wav", "inf", "folder"),
    Outputs(Path("o.flac"), "PCM_24", Path("f"), Path("r.json"), True, Path("s.json"), Path("st"), "folder"),
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
# Each request once with every field set, and once with those alone that have no default.
REQUESTS = {
    "make": MAKE,
    "make, plain": MakeRequest("t.wav", ("s.wav",), Outputs(Path("o.wav"))),
    "render": RenderRequest(
        Path("s.json"), Path("o.wav"), (Path("a"), Path("b")), Path("t.wav"), True, Path("st"), "folder", True, "FLOAT",
        True,
    ),
    "render, plain": RenderRequest(Path("s.json"), Path("o.wav")),
    "export": ExportRequest(Path("s.json"), Path("o.rpp"), 50, (Path("a"),), True, True),
    "export, plain": ExportRequest(Path("s.json"), Path("o.rpp")),
    "judge": JudgeRequest("t.wav", ("a.wav", "b"), ("m.wav",), Excerpt(0.5, None), 0.0174),
    "judge, plain": JudgeRequest("t.wav", ("a.wav",), ("m.wav",)),
    "blind": BlindRequest("t.wav", ("a.wav",), ("m.wav",), Excerpt(0.5, 3.0), 4, 2.5, 3, True, folder=Path("f")),
    "blind, plain": BlindRequest("t.wav", ("a.wav",), ("m.wav", "n.wav"), folder=Path("f")),
    "edit": EditRequest(
        Path("s.json"),
        Path("o.json"),
        Edits((Swap("rain*", "bees.wav"), Swap("inf", "a=b.wav")), ("a",), ("b", "c"), -3.5, 6.0, 0.25),
        Selection(("a*",), (0.5, 2.0), -60.0, -3.0, 0.1, 2.0, (3, 7)),
        (Path("a"),),
        True,
    ),
    "edit, plain": EditRequest(Path("s.json"), Path("o.json"), Edits()),
    "blend": BlendRequest(Path("a.json"), Path("b.json"), Path("o.json"), Curve((0.0, 8.0), (0.0, 100.0)), True),
    "blend, plain": BlendRequest(Path("a.json"), Path("b.json"), Path("o.json")),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_survives_json_and_pickling(name):
    request = REQUESTS[name]
    assert type(request).from_json(request.to_json()) == request
    assert pickle.loads(pickle.dumps(request)) == request


@pytest.mark.parametrize(
    ("name", "needed"),
    {
        "make": ["target", "sources", "outputs"],
        "render": ["score", "output"],
        "export": ["score", "output"],
        "judge": ["target", "sources", "mosaics"],
        "blind": ["target", "sources", "mosaics", "folder"],
        "edit": ["score", "output", "edits"],
        "blend": ["first", "second", "output"],
    }.items(),
)
def test_a_request_without_what_it_needs_is_refused(name, needed):
    kind, everything = type(REQUESTS[name]), json.loads(REQUESTS[name].to_json())
    for left_out in (needed, needed[-1:]):
        rest = {field: value for field, value in everything.items() if field not in left_out}
        with pytest.raises(ValueError, match=f"^the {kind.__name__} lacks {', '.join(map(repr, left_out))}; add"):
            kind.from_json(json.dumps(rest))
    plain = {field: everything[field] for field in needed}
    assert isinstance(kind.from_json(json.dumps(plain)), kind)


@pytest.mark.parametrize(
    ("name", "changes", "kind", "sentence"),
    [
        ("make", {"outputs": {"subtype": None}}, ValueError, "outputs lacks 'audio'; add"),
        (
            "make",
            {"targets": "t.wav"},
            ValueError,
            "the MakeRequest has no 'targets'; pass names among target",
        ),
        ("make", {"sources": "s.wav"}, TypeError, "sources is 's.wav'; pass a list"),
        ("make", {"seed": True}, TypeError, "seed is True; pass a value of type int"),
        ("make", {"grid": 512}, TypeError, "grid is 512; pass an object"),
        ("edit", {"edits": {"swaps": [{"pattern": "a"}]}}, ValueError, "swaps lacks 'recording'"),
        ("edit", {"selection": {"between": [1.0]}}, ValueError, "between has 1 values; pass 2"),
        ("edit", {"score": None}, TypeError, "score is None; pass a value of type Path"),
        ("blend", {"percent": "half"}, TypeError, "percent is 'half'; pass a value of type float"),
        ("blend", {"percent": {"times_s": [0.0]}}, ValueError, "percent lacks 'values'"),
        ("blend", {"percent": None}, TypeError, "percent is None"),
    ],
)
def test_other_json_is_refused_as_a_request(name, changes, kind, sentence):
    request = REQUESTS[name]
    with pytest.raises(kind, match=f"^{sentence}"):
        type(request).from_json(json.dumps(json.loads(request.to_json()) | changes))


def test_an_unknown_setting_is_refused_in_a_request():
    with pytest.raises(ValueError, match="'drifting' is no setting"):
        MakeRequest.from_json(MAKE.to_json().replace('"drift"', '"drifting"'))


# --- workflows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a target, sources, and two mosaics with their scores."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, (name, seconds) in enumerate({"target.wav": 1.2, "source.wav": 1.5, "other.wav": 1.0}.items()):
            soundfile.write(name, notes(np.random.default_rng(seed), seconds, SR, octaves=3), SR, subtype="FLOAT")
        settings = replace(PRESETS["balanced"], iterations=3)
        for name, source in {"m": "source.wav", "n": "other.wav"}.items():
            outputs = Outputs(Path(f"{name}.wav"), score=Path(f"{name}.json"))
            list(make_steps(MakeRequest("target.wav", (source,), outputs, settings)))
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of that folder, as the working folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SCORE = Path("m.json")
# For each workflow, its generator, its stages, and the files that it writes.
WORKFLOWS = {
    "render": (
        render_steps,
        RenderRequest(SCORE, Path("out.wav"), stems=Path("stems"), subtype="FLOAT"),
        ["read", "synthesise", "write"],
        {"out.wav", "stems", "stems/1_source.wav"},
    ),
    "export to REAPER": (export_steps, ExportRequest(SCORE, Path("out.rpp")), ["read", "write"], {"out.rpp"}),
    "export as a table": (export_steps, ExportRequest(SCORE, Path("out.csv")), ["read", "write"], {"out.csv"}),
    "judge": (judge_steps, JudgeRequest("target.wav", ("source.wav",), ("m.wav", "n.wav")), ["read", "measure"], set()),
    "blind": (
        blind_steps,
        BlindRequest("target.wav", ("source.wav",), ("m.wav", "n.wav"), folder=Path("out"), rounds=1, length_s=0.5),
        ["read", "synthesise", "write"],
        {"out", "out/listen.html", "out/sounds", "out/sounds/01-a.wav", "out/sounds/01-b.wav",
         "out/sounds/01-source.wav", "out/sounds/01-target.wav"},
    ),
    "edit": (
        edit_steps,
        EditRequest(SCORE, Path("out.json"), Edits(swaps=(Swap("source.wav", "other.wav"),), gain_db=-3.0)),
        ["read", "edit", "write"],
        {"out.json"},
    ),
    "blend": (
        blend_steps, BlendRequest(SCORE, Path("n.json"), Path("out.json")), ["read", "blend", "write"], {"out.json"}
    ),
}  # fmt: skip


def contents(folder):
    """Every file and folder in a folder, with the bytes of files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_stages_come_in_order_and_the_result_comes_last(folder, name):
    steps, request, stages, files = WORKFLOWS[name]
    before = contents(folder)
    events = list(steps(request))
    begun = [event for event in events if isinstance(event, Stage)]
    assert [event.name for event in begun] == stages
    assert [event for event in events if isinstance(event, Done)] == events[-1:]
    after = contents(folder)
    assert after.keys() - before.keys() == files
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize(("name", "stage"), [(name, stage) for name in WORKFLOWS for stage in WORKFLOWS[name][2]])
def test_a_stop_at_any_stage_leaves_nothing_behind(folder, name, stage):
    steps, request, _, _ = WORKFLOWS[name]
    before, events = contents(folder), steps(request)
    for event in events:
        if isinstance(event, Stage) and event.name == stage:
            break
    events.close()
    assert contents(folder) == before
    # Nothing that was left in the way keeps the same request from being carried out later.
    assert isinstance([*steps(request)][-1], Done)
