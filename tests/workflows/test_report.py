"""Reports are whole, finite and ASCII, and describe every transposed grain."""

import json
import os

import numpy as np
import pytest
from kit_workflows import SR, tone

from helpers import finish, prepared
from smalti.dsp.stft import StftParams
from smalti.mosaicing.mosaic import Part, assemble, parts_of
from smalti.mosaicing.solve import solver_of
from smalti.presets import configure
from smalti.workflows.outputs import Outputs, grain_notes
from smalti.workflows.report import describe_transposition, report_json, write_report

# Transposition


def transposed(n_channels=1, **knobs):
    """A mosaic of two recordings of a tone, first an octave down, then at its own pitch; and the melody."""
    settings = configure("melodic", iterations=2, **knobs)
    shape = (2, 8000) if n_channels == 2 else (8000,)
    sound = np.broadcast_to(tone(8000, hz=440), shape).copy()
    hop = StftParams.from_seconds(settings.window_s, settings.hop_s, SR).hop
    n_frames = 1 + 8000 // hop
    melody = np.where(np.arange(n_frames) < n_frames // 2, 220.0, 440.0)
    job = prepared(
        sound,
        [sound, sound[..., :6000]],
        SR,
        settings,
        names=["a.wav", "b.wav"],
        target_f0=None if isinstance(settings.transpose, tuple) else melody,
        source_f0=[np.full(1 + n // hop, 440.0) for n in (8000, 6000)],
    )
    return assemble(job, [made for made in parts_of(job) if isinstance(made, Part)]), melody


def test_the_report_has_every_grain_and_both_pitches():
    mosaic, melody = transposed()
    described = describe_transposition(mosaic)
    assert json.loads(report_json(described)) == described
    assert (described["way"], described["reason"], described["melody"]) == ("follow", "its notes are given", None)
    assert (described["tune_cents"], described["n_voices"]) == (0, 1)
    assert described["hop_s"] == mosaic.dictionary.hop_s
    assert described["target_f0_hz"] == melody.tolist()
    assert [set(track) for track in described["source_f0_hz"]] == [{440.0}, {440.0}]
    assert sum(map(len, described["source_f0_hz"])) == mosaic.dictionary.n_atoms
    turn_s = len(melody) // 2 * described["hop_s"]
    for grain in described["grains"]:
        assert grain["source"] in ("a.wav", "b.wav")
        assert grain["channel"] is None
        assert 0 <= grain["source_start_s"] <= 1
        assert 0 < grain["duration_s"] <= 1.1
        if grain["start_s"] + grain["duration_s"] < turn_s:
            assert grain["shift_semitones"] == -12
        elif grain["start_s"] >= turn_s:
            assert grain["shift_semitones"] == 0
        else:
            assert -12 <= grain["shift_semitones"] <= 0
    # The grains cover the sound from its beginning.
    starts = [grain["start_s"] for grain in described["grains"]]
    assert starts == sorted(starts)
    assert starts[0] < 0.2


def test_the_notes_of_grains_are_the_pitches_that_they_play():
    mosaic, melody = transposed()
    notes = grain_notes(mosaic)
    assert notes.shape[1] == 4
    assert set(notes[:, 2].round(2)) == {220, 440}
    begin, end, hz, shift = notes.T
    assert (begin >= 0).all()
    assert (end > begin).all()
    np.testing.assert_allclose(440 * 2 ** (shift / 12), hz)
    # No note goes on into the next one's time.
    turn_s = (len(melody) // 2 - 0.5) * mosaic.dictionary.hop_s
    assert end[hz < 300].max() <= turn_s + 1e-9
    assert begin[hz > 300].min() >= turn_s - 1e-9


def test_grains_of_channels_driven_apart_name_their_channel():
    mosaic, _ = transposed(2, channels="apart")
    assert {grain["channel"] for grain in describe_transposition(mosaic)["grains"]} == {0, 1}
    assert len(grain_notes(mosaic)) % 2 == 0


def test_fixed_shifts_are_described_and_no_shift_has_no_description():
    mosaic, _ = transposed(transpose=(-12.0, -12.0))
    described = describe_transposition(mosaic)
    assert (described["way"], described["n_voices"]) == ("shifts", 1)
    assert {grain["shift_semitones"] for grain in described["grains"]} == {-12}
    job = prepared(tone(8000), tone(8000), SR, configure(iterations=1))
    steps = list(solver_of(job).steps())
    mosaic = finish(job, steps[-1], [0.0])
    assert describe_transposition(mosaic) is None
    assert grain_notes(mosaic).shape == (0, 4)


# Report


def test_a_report_is_ascii_and_keeps_every_name():
    name = os.fsdecode("grüße 🎻 \x1b".encode() + b"\xff")
    text = report_json({"path": name, "divergence": [1.5, 2.0]})
    assert text.isascii()
    assert json.loads(text) == {"path": name, "divergence": [1.5, 2.0]}


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_report_never_holds_nan_or_infinity(number):
    # The json module words the sentence.
    with pytest.raises(ValueError, match=r"\S"):
        report_json({"fit": number})


def test_a_report_is_written_if_one_is_wanted(tmp_path):
    write_report(Outputs(tmp_path / "a.wav"), {"fit": 0.5})
    assert list(tmp_path.iterdir()) == []
    write_report(Outputs(tmp_path / "a.wav", report=tmp_path / "r.json"), {"fit": 0.5})
    assert json.loads((tmp_path / "r.json").read_text()) == {"fit": 0.5}
