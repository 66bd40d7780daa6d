"""Results are checked before the work: names, folders, formats, extras."""

import sys

import pytest

from smalti.errors import AudioFileError, MissingExtraError
from smalti.io.files import make_folder
from smalti.presets import configure
from smalti.workflows.outputs import FIGURES, Outputs, check_outputs, figures_of


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in {"matplotlib", *sys.modules}:
        if name.split(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "smalti.plots", raising=False)


def test_a_transposed_mosaic_may_have_one_more_figure(tmp_path):
    assert figures_of(configure("balanced")) == FIGURES
    for settings in (configure("melodic"), configure("balanced", transpose=(0.0, 2.0))):
        assert figures_of(settings) == (*FIGURES, "pitch")
    outputs, drawn = Outputs(tmp_path / "a.wav", figures=tmp_path), figures_of(configure("melodic"))
    assert tmp_path / "pitch.png" in outputs.files(drawn)
    (tmp_path / "pitch.png").touch()
    with pytest.raises(AudioFileError, match=r"pitch\.png: it already exists"):
        check_outputs(outputs, [], drawn=drawn)
    # A figure that is not drawn cannot be in the way.
    check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path), [])


def test_all_files_that_will_be_written_are_known(tmp_path):
    outputs = Outputs(tmp_path / "a.wav", figures=tmp_path / "f", report=tmp_path / "r.json")
    drawn = [tmp_path / "f" / f"{name}.png" for name in FIGURES]
    assert outputs.files() == [tmp_path / "a.wav", *drawn, tmp_path / "r.json"]
    assert Outputs(tmp_path / "a.wav").files() == [tmp_path / "a.wav"]


def test_a_check_writes_nothing(tmp_path, target, source):
    before = sorted(tmp_path.rglob("*"))
    outputs = Outputs(tmp_path / "a.wav", figures=tmp_path / "f", report=tmp_path / "r.json")
    check_outputs(outputs, [target, source])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("way", ["name", "dots", "symbolic link", "hard link"])
def test_no_result_replaces_an_input(tmp_path, target, way):
    alias = tmp_path / "alias.wav"
    if way == "name":
        alias = target
    elif way == "dots":
        (tmp_path / "x").mkdir()
        alias = tmp_path / "x" / ".." / target.name
    elif way == "symbolic link":
        alias.symlink_to(target)
    else:
        alias.hardlink_to(target)
    for outputs in (Outputs(alias, overwrite=True), Outputs(tmp_path / "a.wav", report=alias, overwrite=True)):
        with pytest.raises(ValueError, match="is an input of this mosaic"):
            check_outputs(outputs, [target])


def test_a_figure_may_not_replace_an_input_either(tmp_path):
    (tmp_path / "f").mkdir()
    picture = tmp_path / "f" / "similarity.png"
    with pytest.raises(ValueError, match=r"similarity\.png is an input"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "f"), [picture])


def test_two_results_need_two_names(tmp_path):
    with pytest.raises(ValueError, match=r"a\.wav is named for two results"):
        check_outputs(Outputs(tmp_path / "a.wav", report=tmp_path / "." / "a.wav"), [])
    with pytest.raises(ValueError, match=r"divergence\.png is named for two results"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "f", report=tmp_path / "f" / "divergence.png"), [])


def test_a_missing_folder_for_figures_is_no_place_for_the_sound(tmp_path):
    """The folder is made for the figures, which come last: the sound would find no folder."""
    with pytest.raises(AudioFileError, match=r"new.a\.wav: there is no folder"):
        check_outputs(Outputs(tmp_path / "new" / "a.wav", figures=tmp_path / "new"), [])
    with pytest.raises(AudioFileError, match=r"r\.json: there is no folder"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "new", report=tmp_path / "new" / "r.json"), [])


def test_figures_need_a_folder_or_a_place_for_one(tmp_path, target):
    with pytest.raises(AudioFileError, match="it is not a folder"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=target), [])
    with pytest.raises(AudioFileError, match=r"no folder .*no; create it"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "no" / "f"), [])
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "divergence.png").touch()
    with pytest.raises(AudioFileError, match=r"divergence\.png: it already exists"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "f"), [])
    check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "f", overwrite=True), [])


def test_the_format_must_take_the_rate_and_subtype(tmp_path):
    check_outputs(Outputs(tmp_path / "a.mp3"), [])
    with pytest.raises(ValueError, match="MP3 cannot have a sample rate of 96000 Hz"):
        check_outputs(Outputs(tmp_path / "a.mp3"), [], sr=96000)
    with pytest.raises(ValueError, match="FLOAT"):
        check_outputs(Outputs(tmp_path / "a.flac", subtype="FLOAT"), [])


def test_missing_matplotlib_is_found_before_the_work(tmp_path, without_matplotlib):
    with pytest.raises(MissingExtraError, match=r"smalti\[plots\]"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "f"), [])
    check_outputs(Outputs(tmp_path / "a.wav"), [])


def test_a_folder_is_made_once_and_only_in_an_existing_folder(tmp_path, target):
    make_folder(tmp_path / "f")
    make_folder(tmp_path / "f")
    assert (tmp_path / "f").is_dir()
    with pytest.raises(AudioFileError, match=r"cannot make the folder .*target\.wav: .*exists"):
        make_folder(target)
    with pytest.raises(AudioFileError, match="no such file"):
        make_folder(tmp_path / "a" / "b")
