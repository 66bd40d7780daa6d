"""Editing and blending score files: as the functions of `smalti.score` do it, in order, with warnings and refusals."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from smalti.curves import Curve
from smalti.errors import ScoreFileError
from smalti.grains.source import Source
from smalti.io.score_file import read_score, score_json
from smalti.io.sound_read import read_audio
from smalti.presets import PRESETS
from smalti.score.blend import blended
from smalti.score.edit import Edits, Selection, Swap, louder, moved, muted, soloed, transposed
from smalti.score.swap import swapped
from smalti.workflows.edit import BlendRequest, EditRequest, blend_steps, edit_steps
from smalti.workflows.make import MakeRequest, make_steps
from smalti.workflows.outputs import Outputs
from smalti.workflows.steps import Warned
from sounds import notes

SR = 8000
OUT = Path("out.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the scores a.json, b.json, and c.json, which is of another target, and their recordings."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        names = {"target.wav": 1.2, "long.wav": 1.3, "bees.wav": 1.5, "rain.wav": 1.0, "hail.wav": 0.9}
        for seed, (name, seconds) in enumerate(names.items()):
            soundfile.write(name, notes(np.random.default_rng(seed), seconds, SR, octaves=3), SR, subtype="FLOAT")
        settings = replace(PRESETS["balanced"], iterations=3)
        for name, target, sources, drift in (
            ("a", "target.wav", ("bees.wav", "rain.wav"), settings.drift),
            ("b", "target.wav", ("hail.wav",), 30.0),
            ("c", "long.wav", ("hail.wav",), settings.drift),
        ):
            outputs = Outputs(Path(f"{name}.wav"), score=Path(f"{name}.json"))
            list(make_steps(MakeRequest(target, sources, outputs, replace(settings, drift=drift))))
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of that folder, as the working folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(edits, selection=None, **options):
    """The warnings of an edit of a.json, and its result."""
    (*events, done) = edit_steps(EditRequest(Path("a.json"), OUT, edits, selection or Selection(), **options))
    assert OUT.read_bytes() == score_json(done.result.after)
    assert score_json(done.result.before) == Path("a.json").read_bytes()
    return [event.sentence for event in events if isinstance(event, Warned)], done.result.after


def blend(percent, second="b.json"):
    """The warnings of a blend with a.json, and its result."""
    (*events, done) = blend_steps(BlendRequest(Path("a.json"), Path(second), OUT, percent))
    assert OUT.read_bytes() == score_json(done.result)
    return [event.sentence for event in events if isinstance(event, Warned)], done.result


def test_edits_are_those_of_the_library_in_their_order(folder):
    score, span = read_score("a.json"), Selection(between=(0.2, 0.9))
    warnings, after = edit(
        Edits(mute=("rain.wav",), solo=("*",), semitones=2.0, gain_db=-6.0, shift_s=0.03),
        replace(span, sources=("bees.wav",)),
    )
    bees = replace(span, sources=("bees.wav",))
    expected = soloed(muted(score, replace(span, sources=("rain.wav",))), replace(span, sources=("*",)))
    expected = moved(louder(transposed(expected, 2.0, bees), -6.0, bees), 0.03, bees)
    assert warnings == []
    assert score_json(after) == score_json(expected)


def test_grains_are_swapped_before_all_other_edits(folder):
    score = read_score("a.json")
    recordings = {name: read_audio(name) for name in ("bees.wav", "rain.wav", "hail.wav")}
    own = [recordings[source.name].samples for source in score.sources]
    warnings, after = edit(
        Edits(swaps=(Swap("rain.wav", "hail.wav"), Swap("hail.wav", "bees.wav")), mute=("bees.wav",)),
        Selection(between=(0.0, 0.6)),
    )
    hail, bees = recordings["hail.wav"], recordings["bees.wav"]
    sources = [Source(str(read.path), read.sha256, read.sr, read.channels, read.duration_s) for read in (hail, bees)]
    early = Selection(between=(0.0, 0.6))
    once = swapped(score, replace(early, sources=("rain.wav",)), sources[0], own, hail.samples)
    twice = swapped(once, replace(early, sources=("hail.wav",)), sources[1], [*own, hail.samples], bees.samples)
    # What was rain is bees by now, so it is muted, too.
    assert warnings == []
    assert score_json(after) == score_json(muted(twice, replace(early, sources=("bees.wav",))))
    assert not after.gains[after.at * after.hop_s < 0.6].any()


def test_recordings_of_swaps_are_looked_for_in_the_places_given(folder):
    (folder / "away").mkdir()
    (folder / "rain.wav").rename(folder / "away" / "drops.wav")
    request = EditRequest(Path("a.json"), OUT, Edits(swaps=(Swap("rain.wav", "hail.wav"),)))
    with pytest.raises(ScoreFileError, match=r"cannot find rain\.wav"):
        list(edit_steps(request))
    assert not OUT.exists()
    _, after = edit(request.edits, places=(Path("away"),))
    assert [source.name for source in after.compact().sources] == ["bees.wav", "hail.wav"]


@pytest.mark.parametrize("edits", [Edits(mute=("*",)), Edits(gain_db=3.0)])
def test_an_edit_that_changes_nothing_is_warned_of(folder, edits):
    warnings, after = edit(edits, Selection(longer_than_s=60.0))
    assert warnings == ["nothing has changed: no grain meets all options"]
    assert OUT.read_bytes() == Path("a.json").read_bytes()
    assert len(after) == len(read_score("a.json"))


@pytest.mark.parametrize("percent", [30.0, 0, 100, Curve((0.0, 1.2), (0.0, 100.0))])
def test_percentages_of_a_blend_are_shares_of_1(folder, percent):
    a, b = read_score("a.json"), read_score("b.json")
    share = Curve((0.0, 1.2), (0.0, 1.0)) if isinstance(percent, Curve) else percent / 100
    _, mixture = blend(percent)
    assert score_json(mixture) == score_json(blended(a, b, share))


def test_a_blend_of_different_settings_is_warned_of(folder):
    (warning,), _ = blend(50.0)
    assert warning == (
        "the scores were made with different settings (drift); the blend is made with those of a.json, and may be "
        "louder or softer than the other"
    )
    OUT.unlink()
    assert blend(50.0, "a.json")[0] == []


@pytest.mark.parametrize(
    ("steps", "request_", "sentence"),
    [
        (blend_steps, BlendRequest(Path("a.json"), Path("c.json"), OUT), r"different targets, target\.wav and long\."),
        (blend_steps, BlendRequest(Path("a.json"), Path("b.json"), OUT, 101.0), "percent is 101"),
        (
            blend_steps,
            BlendRequest(Path("a.json"), Path("b.json"), OUT, Curve((0.0, 1.0), (0.0, -1.0))),
            "percent is -1",
        ),
        (
            blend_steps,
            BlendRequest(Path("a.json"), Path("b.json"), Path("b.json"), overwrite=True),
            r"b\.json is one of the scores that are blended",
        ),
        (
            edit_steps,
            EditRequest(Path("a.json"), Path("a.json"), Edits(mute=("*",)), overwrite=True),
            r"a\.json is the score that is edited",
        ),
        (edit_steps, EditRequest(Path("a.json"), OUT, Edits(mute=("snow",))), "no source of the score meets 'snow'"),
        (edit_steps, EditRequest(Path("a.json"), OUT, Edits(gain_db=99.0)), "gain_db is 99"),
        (edit_steps, EditRequest(Path("a.json"), OUT, Edits()), "edits hold nothing to do; add mute, solo, swaps"),
        (
            edit_steps,
            EditRequest(Path("a.json"), OUT, Edits(mute=("rain",)), Selection(sources=("bees",))),
            "selection names sources, which means nothing to mute, solo and swaps",
        ),
    ],
)
def test_impossible_requests_write_nothing(folder, steps, request_, sentence):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=sentence):
        list(steps(request_))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
