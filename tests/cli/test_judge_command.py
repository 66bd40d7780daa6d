"""``smalti judge`` as its users meet it."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from kit import BAD_FILES, ENVIRONMENT, SMALTI, N, on_posix, on_terminal, put, refused, spoil, tone

from smalti.metrics import MEASURES


@pytest.fixture
def judge(run, folder, rng):
    """Run ``smalti judge`` on the files in `folder`, to which three mosaics are added."""
    for name in ("a_first_mosaic", "a_second", "third"):
        put(folder / f"{name}.wav", (tone(hz=440 * rng.uniform(0.9, 1.1)) + 0.1 * rng.standard_normal(N)) / 4)
    put(folder / "clipped.wav", np.clip(5 * tone(), -0.5, 0.5))

    def call(*arguments, target="target.wav", source="source.wav"):
        return run("judge", target, source, *(arguments or ("a_first_mosaic.wav", "a_second.wav", "third.wav")))

    return call


SHORT = "smalti: warning: target.wav lasts 0.38 s only: the measures of so short a sound say little\n"


JUDGED = [
    name for name in MEASURES if name not in ("rpa", "rca", "run_ms", "long", "rep", "poly", "incons", "model_err")
]


def test_judge_prints_a_column_a_mosaic_and_a_row_a_measure(judge):
    result = judge()
    assert (result.code, result.err) == (0, SHORT)
    target, source, _, header, *rows, _, legend, guide = result.out.splitlines()
    assert target == "target: target.wav (0.4 s)"
    assert source == "source: source.wav"
    assert header.split() == ["better", "limit", "a_first_mosaic", "a_second", "third", "what", "it", "hears"]
    assert [row.split()[0] for row in rows if row.startswith("  ")] == JUDGED
    groups = [row.strip() for row in rows if not row.startswith("  ")]
    assert groups == ["composite", "cheating", "fidelity", "timbre", "artefacts"]
    assert "* best of its row" in legend
    assert "! beyond its limit" in legend
    assert re.fullmatch(r"Read FID only with leak .*, TIM only with FID .*\.", guide)
    for row in rows:
        name, *words = row.split()
        if name in MEASURES:
            unit = words.pop(0) if MEASURES[name].unit else ""
            assert unit == (f"({MEASURES[name].unit})" if unit else "")
            assert words[0] == MEASURES[name].better
            assert row.rstrip().endswith(MEASURES[name].summary)
            if MEASURES[name].limit is not None:
                assert float(words[1]) == MEASURES[name].limit


def rows_of(result):
    return {row.split()[0]: row for row in result.out.splitlines() if re.match("  [a-zA-Z]", row)}


def test_the_best_and_what_breaks_its_limit_are_marked(judge):
    rows = rows_of(judge("target.wav", "clipped.wav"))
    assert re.search(r" \* 1\.000 +0\.\d{3} ", rows["FID"])
    assert re.search(r" 0\.05 +! 1\.000 +! 1\.000 ", rows["leak"])
    assert re.search(r" 0 +\* 0\.000 +! 0\.\d{3} ", rows["clipping"])
    # Equal mosaics have no best, and neither has a single mosaic.
    for result in (judge("clipped.wav", "clipped.wav"), judge("clipped.wav")):
        assert "*" not in "".join(rows_of(result).values())
    assert "*" not in result.out


def test_a_value_just_above_a_limit_of_0_is_not_shown_as_0(folder, judge):
    clipped = np.tile(tone(), 4)
    clipped[99:102] = 0.6
    put(folder / "once.wav", clipped)
    put(folder / "target.wav", tone(4 * N))
    assert re.search(r" 0 +! <0\.001 +0\.000 ", rows_of(judge("once.wav", "target.wav"))["clipping"])


def test_judge_s_json_has_what_the_table_has(judge):
    result = judge("a_first_mosaic.wav", "third.wav", "--json", "--hop", "10", "--end", "0.3")
    report = json.loads(result.out)
    assert report.keys() >= {"target", "sources", "excerpt", "mosaics", "warnings"}
    assert report["excerpt"] == {"start_s": 0.0, "end_s": 0.3}
    assert [mosaic["path"] for mosaic in report["mosaics"]] == ["a_first_mosaic.wav", "third.wav"]
    assert [source["path"] for source in report["sources"]] == ["source.wav"]
    for mosaic in report["mosaics"]:
        assert list(mosaic["measures"]) == JUDGED
        assert mosaic["hop_s"] == 0.01
    assert [f"smalti: warning: {sentence}" for sentence in report["warnings"]] == result.err.splitlines()


def test_judge_and_make_agree_on_what_both_measure(make, judge):
    made = json.loads(make("--json", "--subtype", "FLOAT").out)["measures"]
    (judged,) = json.loads(judge("out.wav", "--json").out)["mosaics"]
    assert judged["measures"] == {name: made[name] for name in JUDGED}


def test_more_sources_are_named_with_also(folder, judge):
    (folder / "takes").mkdir()
    put(folder / "takes" / "b.wav", tone(hz=300))
    put(folder / "c.wav", tone(hz=200))
    result = judge("third.wav", "--also", "takes", "--json", "--also", "c.wav")
    sources = [source["path"] for source in json.loads(result.out)["sources"]]
    assert sources == ["source.wav", str(Path("takes/b.wav")), "c.wav"]
    assert "source: 3 recordings\n" in judge("third.wav", "--also", "takes", "--also", "c.wav").out


def test_files_of_the_same_name_get_different_column_names(folder, judge):
    for name in ("one", "two"):
        (folder / name).mkdir()
        put(folder / name / "take.wav", tone(hz=300))
    put(folder / "take.flac", tone(hz=300))
    header = judge("one/take.wav", "two/take.wav").out.splitlines()[3].split()
    assert header[2:4] == ["one/take.wav", "two/take.wav"]
    assert judge("one/take.wav", "take.flac").out.splitlines()[3].split()[2:4] == ["take.wav", "take.flac"]


@on_posix
@pytest.mark.parametrize(("width", "tables"), [(60, 1), (50, 2), (40, 3)])
def test_three_mosaics_fit_on_a_terminal(judge, monkeypatch, width, tables):
    monkeypatch.setitem(ENVIRONMENT, "COLUMNS", str(width))
    judge()
    names = ("a_first_mosaic.wav", "a_second.wav", "third.wav")
    code, text = on_terminal([*SMALTI, "judge", "target.wav", "source.wav", *names])
    assert code == 0
    # The output after the bar has gone, without colours.
    printed = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", text.rpartition(b"\x1b[2K")[2]).decode()
    lines = printed.replace("\r", "").splitlines()
    assert sum(line.strip() == "composite" for line in lines) == tables
    numbers = [line for line in lines if re.match("  [a-zA-Z_]+ ", line)]
    assert len(numbers) == tables * len(JUDGED)
    assert max(map(len, numbers)) <= width
    for name in JUDGED:
        cells = " ".join(line[22:] for line in numbers if line.split()[0] == name)
        limit = [] if MEASURES[name].limit is None else [f"{MEASURES[name].limit:g}"] * tables
        assert len(re.findall(r"-?\d[\d.]*", cells)) == 3 + len(limit), cells


@pytest.mark.parametrize("name", ["a [bold]name", "-dash", "ünï 🎻", "line\nbreak", "x" * 200])
def test_mosaics_may_have_any_name(folder, judge, name):
    if os.name != "posix" and "\n" in name:
        pytest.skip("no name here")
    put(folder / f"{name}.wav", tone(hz=300))
    result = judge("third.wav", "--", f"{name}.wav")
    assert result.code == 0
    assert name.replace("\n", "\\n") in result.out


# 1e9.wav is no bad mosaic: the level of a mosaic changes nothing.
@pytest.mark.parametrize("name", [name for name in BAD_FILES if name != "1e9.wav"])
def test_unusable_mosaics_are_named(folder, judge, name):
    spoil(folder)
    assert refused(judge("third.wav", name), 1, BAD_FILES[name])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--hop", "nan"), "--hop is nan; pass a number from 2 to 1000"),
        (("--hop", "1"), "--hop is 1; pass a number from 2 to 1000"),
        (("--hop", "x"), "--hop"),
        (("--start", "2", "--end", "1"), "--end is 1; pass seconds greater than --start, 2"),
        (("--start", "-1"), "--start"),
        (("--also", ""), "name of a recording is empty"),
        (("--nope",), "--nope"),
    ],
)
def test_bad_options_of_judge_are_named_as_they_were_typed(judge, options, sentence):
    assert refused(judge("third.wav", *options), 2, sentence)


def test_judge_without_all_it_needs_is_refused_with_a_way_out(run, folder):
    assert refused(run("judge"), 2, ".*TARGET.*; try 'smalti judge --help'$")
    assert refused(run("judge", "target.wav"), 2, "SOURCE")
    assert refused(run("judge", "target.wav", "source.wav"), 2, "MOSAIC")
