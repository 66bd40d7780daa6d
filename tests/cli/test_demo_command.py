"""``smalti demo`` as its users meet it."""

import json
import sys

import numpy as np
import pytest
from kit import contents, refused, tone

from smalti.workflows import demo


@pytest.fixture
def short_demo(monkeypatch, rng):
    """The demo with very short sounds."""
    monkeypatch.setattr(demo, "demo_target", lambda sr: tone(4000, sr=sr))
    noise = (0.1 * rng.standard_normal(4000)).astype(np.float32)
    monkeypatch.setattr(demo, "demo_source", lambda sr: noise)


def test_the_demo_writes_the_files_that_it_names_and_replaces_none_unasked(run, folder, short_demo):
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


def test_the_demo_needs_a_folder_that_it_can_make(run, folder):
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
