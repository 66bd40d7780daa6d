"""Scores as files: nothing is lost in them, and other files are refused."""

import json
from dataclasses import fields, replace
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import smalti
from scores import GRID, SR, mosaics, score_of
from smalti import ScoreFileError
from smalti.curves import Curve
from smalti.dsp.pitch import FINENESS
from smalti.grains.shifted import Shift
from smalti.grains.source import Source
from smalti.io import score_file
from smalti.io.score_file import MOST_GRAINS, read_score, schema, score_json
from smalti.score.score import Target
from smalti.settings import Settings
from smalti.workflows.demo import demo_source, demo_target

SCHEMA = Path(__file__).parents[2] / "docs" / "score.schema.json"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("scores") / "score.json"


@pytest.fixture
def score(rng):
    """Two grains of one source, the second transposed."""
    dictionary = smalti.build_dictionary(rng.standard_normal(400), SR, params=GRID)
    H = scipy.sparse.csc_array(([1.0, 0.5, 0.25], ([3, 4, 9], [4, 5, 5])), shape=(26, 26))
    moments = (2 * 2 + 1) * FINENESS
    shift = Shift(0, 112, 1, 2, 1 + 0.01 * np.arange(moments), np.full(moments, 220.0))
    sources = (Source("bees.wav", 64 * "a", 44100, 2, 3.5, ("loud",)),)
    made = score_of(H, dictionary, sources=sources, target=Target("song.wav", 64 * "b", SR, 1, 9.0, 1.5, 4.0))
    return replace(made, shifts=(None, shift), melodies=np.full((1, 26), 220.0))


def assert_same(score, other):
    """Check that two scores have the same fields."""
    for field in fields(score):
        a, b = getattr(score, field.name), getattr(other, field.name)
        if field.name == "shifts":
            assert [shift is None for shift in a] == [shift is None for shift in b]
            for left, right in zip(a, b, strict=True):
                if left is not None:
                    assert (left.begin, left.length, left.before) == (right.begin, right.length, right.before)
                    np.testing.assert_array_equal(left.ratios, right.ratios)
                    np.testing.assert_array_equal(left.hz, right.hz)
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            # Levels are written to the hundredth of a decibel.
            np.testing.assert_allclose(a, b, rtol=0, atol=0.006 if field.name == "levels" else 0, err_msg=field.name)
        else:
            assert a == b, field.name


@given(mosaics(), st.floats(-100, 100), st.booleans())
def test_a_written_score_is_read_again(path, case, gain_db, varying):
    dictionary, H = case
    settings = Settings(loudness=-14.5, remove_offset=False, level_db=Curve((0.0, 0.0, 1.0), (0.0, -6.0, 0.1)))
    score = score_of(scipy.sparse.csc_array(H), dictionary, gain_db=gain_db)
    score = replace(score, settings=settings) if varying else score
    path.write_bytes(score_json(score))
    assert_same(score, read_score(path))


def test_a_score_of_transposed_grains_is_read_again(path, score):
    path.write_bytes(score_json(score))
    assert_same(score, read_score(path))


def test_a_mosaic_is_rendered_from_its_file_sample_for_sample(path):
    target, source = demo_target(22050)[:30000], demo_source(22050)[:60000]
    m = smalti.mosaic(target, source, 22050, preset="melodic", transpose="follow", iterations=8)
    path.write_bytes(score_json(m.score))
    assert any(shift is not None for shift in m.score.shifts)
    np.testing.assert_array_equal(smalti.render(read_score(path), source, target=target), m.audio)


def meaning(node, schema_):
    """A schema without explaining texts, with its references followed and its lists of names sorted."""
    if isinstance(node, list):
        return sorted((meaning(item, schema_) for item in node), key=json.dumps)
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return meaning(schema_["$defs"][node["$ref"].rpartition("/")[2]], schema_)
    explains = {"title", "description", "examples", "$defs", "$schema"}
    return {
        # The keys below "properties" are names of the file's fields, which may be called like an explaining text.
        name: {field: meaning(part, schema_) for field, part in value.items()}
        if name == "properties"
        else meaning(value, schema_)
        for name, value in node.items()
        if name not in explains
    }


def test_the_schema_is_as_documented_and_holds_for_written_scores(score):
    documented = json.loads(SCHEMA.read_text())
    assert meaning(documented, documented) == meaning(schema(), schema())
    for checked in (documented, schema()):
        jsonschema.Draft202012Validator.check_schema(checked)
        jsonschema.validate(json.loads(score_json(score)), checked)


@pytest.mark.parametrize("field", ["duration_s", "title", "description"])
def test_schemas_of_other_meaning_differ(field):
    documented = json.loads(SCHEMA.read_text())
    other = json.loads(SCHEMA.read_text())
    for part in other["$defs"].values():
        part["properties"][field] = {"type": "boolean"}
    assert meaning(documented, documented) != meaning(other, other)


def test_schemas_of_other_words_do_not_differ():
    documented = json.loads(SCHEMA.read_text())
    other = json.loads(SCHEMA.read_text())
    for part in other["$defs"].values():
        part |= {"title": "Another title", "description": "Other words."}
    assert meaning(documented, documented) == meaning(other, other)


def test_a_grain_may_be_given_in_seconds_alone(path, score):
    data = json.loads(score_json(score))
    for grain in data["grains"]:
        for name in ("start", "source_start", "duration", "duration_s", "level_db", "together_with"):
            grain.pop(name)
    # A move by 5 samples is no whole hop: the grain begins on the grid, 5 samples earlier in its source.
    data["grains"][0]["start_s"] += 5 / SR
    data["grains"][1]["start_s"] -= 3 / SR
    path.write_text(json.dumps(data))
    read = read_score(path)
    np.testing.assert_array_equal(read.frames, score.frames)
    np.testing.assert_array_equal(read.centres, score.centres - [5, -3])
    assert read.shifts[1].begin == score.shifts[1].begin + 3


def edited(score, **changes):
    return json.loads(score_json(score)) | changes


def with_grain(score, **changes):
    data = json.loads(score_json(score))
    data["grains"][0] |= changes
    data["grains"][0] = {name: value for name, value in data["grains"][0].items() if value is not ...}
    return data


# The decoder words the faults that it finds itself, so only the place that it names is checked.
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something"}, "it is no score; name a file that --score has written"),
        ({"version": 2}, "it is a score of version 2, and this smalti reads version 1"),
        ({"colour": 3}, "colour"),
        ({"sr": 0}, r"\bsr\b"),
        ({"sr": "fast"}, r"\bsr\b"),
        ({"length": 2**60}, "length"),
        ({"length": 100}, "starts at 0.008 s|pass 0 to|must have"),
        ({"settings": {"colours": 3}}, "'colours' is no setting"),
        ({"settings": {"layers": -1}}, "layers is -1"),
        ({"grid": {"n_fft": 64, "hop": 60, "window": "hann"}}, "hop is 60 samples, more than half the window"),
        ({"grid": {"n_fft": 64, "hop": 16, "window": "square"}}, "grid.window is 'square'; it must be one of hann"),
        ({"parts": 2}, "parts is 2; it must be 1, or one for each of 1 channels"),
        ({"settings": {"phase_iterations": 10**9}}, "phase_iterations is 1000000000; it must be 10000 at most"),
        ({"melodies_hz": [[1.0]] * 65}, "melodies_hz"),
        ({"sources": [{"path": "a", "begin": 5}]}, "the source a has begin or whole, which are for parts of a corpus"),
        ({"sources": []}, "sources"),
        ({"sources": [{"path": "a", "sha256": "x"}]}, r"sources\[0\]\.sha256"),
        ({"melodies_hz": [[1.0, 2.0]]}, "voice 1 of melodies_hz has 2 values; it must have 26, one a frame"),
        ({"melodies_hz": [[1.0] * 26, [1.0]]}, "voice 2 of melodies_hz has 1 values; it must have 26, one a frame"),
        ({"gain_db": None}, "gain_db"),
        ({"dtype": "int16"}, "dtype"),
    ],
)
def test_faults_of_a_score_are_named(path, score, changes, message):
    path.write_text(json.dumps(edited(score, **changes)))
    with pytest.raises(ScoreFileError, match=rf"^cannot read .*score\.json: .*({message})"):
        read_score(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gains": [-1.0, 0.5]}, r"grains\[0\]\.gains\[0\]"),
        ({"gains": []}, r"grains\[0\]\.gains"),
        ({"gains": [0.1] * 30, "duration": ..., "duration_s": ...}, "lengths holds 30|last of frames holds"),
        ({"gains": [0.1]}, "grain 1 has 1 gains, which are 16 samples or 0.002000 s, but says otherwise"),
        ({"duration_s": 1e6}, "a grain is as long as its gains"),
        ({"start": -16, "start_s": ...}, "grain 1 starts at -0.002 s; the mosaic goes from 0 to 0.050 s"),
        ({"start": 16000, "start_s": ...}, "grain 1 starts at 2.000 s; the mosaic goes from 0 to"),
        ({"start_s": 0.04}, "grain 1 has start 64, which is 0.008000 s, but start_s 0.04; change both"),
        ({"start": ..., "start_s": ...}, "grain 1 has neither start nor start_s"),
        ({"source": 7}, "grain 1 has source 7; there are 1, counted from 0"),
        ({"channel": 1}, "grain 1 has channel 1; there are 1"),
        ({"id": 2}, "two grains have the same id"),
        ({"id": "one"}, r"grains\[0\]\.id"),
        ({"pitch": 3}, "pitch"),
        ({"semitones": 3.0}, "grain 1 has semitones but no shift"),
        ({"source_start": 2**62}, r"grains\[0\]\.source_start"),
        ({"shift": {"begin": 0, "before": 2, "ratios": [1.0], "hz": [0.0]}}, "1 ratios and 1 hz; 2 gains and 2 frames"),
        ({"shift": {"begin": 0, "before": 2, "ratios": [99.0], "hz": [0.0]}}, r"grains\[0\]\.shift\.ratios\[0\]"),
    ],
)
def test_faults_of_a_grain_are_named(path, score, changes, message):
    path.write_text(json.dumps(with_grain(score, **changes)))
    with pytest.raises(ScoreFileError, match=rf"^cannot read .*score\.json: .*({message})"):
        read_score(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut short or no JSON"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "cut short or no JSON"),
        (b"[1, 2]", ""),
        (b"null", ""),
        (b'{"format": "smalti score", "version": 1}', "smalti"),
        (b'{"a":' * 100_000, ""),
        (b'{"format": "smalti score", "version": 1, "gain_db": NaN}', "cut short or no JSON"),
        (b'{"format": "smalti score", "version": 1, "smalti": "x", "gain_db": 1e999}', "gain_db"),
        ('{"format": "smalti score", "version": "\ud800"}'.encode("utf-8", "surrogatepass"), ""),
    ],
    ids=["empty", "picture", "list", "null", "bare", "deep", "nan", "huge", "bytes"],
)
def test_other_files_are_refused(path, data, message):
    path.write_bytes(data)
    with pytest.raises(ScoreFileError, match=rf"^cannot read .*score\.json: .*({message})"):
        read_score(path)


@pytest.mark.parametrize("words", ["", "§ 3", "¡: 1 - 2!"])
def test_new_words_of_the_decoder_are_handed_on(path, score, monkeypatch, words):
    def refuse(*_, **__):
        raise msgspec.ValidationError(words)

    path.write_bytes(score_json(score))
    monkeypatch.setattr(msgspec.json, "decode", refuse)
    with pytest.raises(ScoreFileError) as caught:
        read_score(path)
    assert str(caught.value) == f"cannot read {path}: {words}"


@given(st.data())
def test_a_score_cut_short_anywhere_is_refused(path, data):
    complete = score_json(
        score_of(scipy.sparse.csc_array(np.eye(26)), smalti.build_dictionary(np.ones(400), SR, params=GRID))
    )
    path.write_bytes(complete[: data.draw(st.integers(0, len(complete) - 3))])
    with pytest.raises(ScoreFileError, match="cannot read"):
        read_score(path)


def test_too_large_scores_are_neither_read_nor_written(path, score, monkeypatch):
    path.write_bytes(score_json(score))
    monkeypatch.setattr(score_file, "MOST_BYTES", 500)
    with pytest.raises(ScoreFileError, match=r"it has 0 MB, and a score at most 0"):
        read_score(path)
    with pytest.raises(ScoreFileError, match="take a shorter target"):
        score_json(score)


def test_a_million_grains_and_one_are_refused_while_decoding(path, score):
    data = json.loads(score_json(score))
    grain = json.dumps({"id": 1, "source": 0, "gains": [1]})
    head = json.dumps(data | {"grains": []}).removesuffix("]}")
    path.write_text(head + ",".join([grain] * (MOST_GRAINS + 1)) + "]}")
    with pytest.raises(ScoreFileError, match="at grains"):
        read_score(path)
    path.unlink()


def test_a_folder_and_a_pipe_are_no_scores(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.json")
    for name in ("", "pipe.json"):
        with pytest.raises(ScoreFileError, match="it is no file; name one that --score has written"):
            read_score(tmp_path / name)
    with pytest.raises(ScoreFileError, match="no such file"):
        read_score(tmp_path / "none.json")


def test_undecodable_names_can_be_written(path, score):
    named = replace(score, sources=(Source("b\udcff\n'\"`.wav"),))
    path.write_bytes(score_json(named))
    assert read_score(path).sources[0].name == "b\\udcff\n'\"`.wav"
