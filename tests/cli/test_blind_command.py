"""``smalti blind`` as its users meet it."""

import re
from pathlib import Path

import pytest
from kit import N, contents, put, refused, tone


@pytest.fixture
def blind(run, folder):
    """Run ``smalti blind`` on the files in `folder`, to which two mosaics are added."""
    put(folder / "one.wav", tone(hz=450))
    put(folder / "two.wav", tone(hz=300, level=0.1))

    def call(*options, mosaics=("one.wav", "two.wav"), output="compare"):
        return run("blind", "target.wav", "source.wav", *mosaics, "-o", output, *options)

    return call


def test_blind_says_in_one_line_what_to_open(folder, blind):
    page = Path("compare") / "listen.html"
    result = blind()
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{page}: 8 rounds of 0.4 s, 2 mosaics; open it in a browser\n"
    result = blind("--rounds", 3, "--start", 0.1, "--end", 0.3, "--seed", 4, "--overwrite")
    assert result.out == f"{page}: 3 rounds of 0.2 s, 2 mosaics; open it in a browser\n"
    assert result.err == ""
    assert len(list((folder / "compare" / "sounds").iterdir())) == 12
    assert not list(folder.glob(".*"))


def test_blind_warns_of_mosaics_of_something_else(folder, blind):
    put(folder / "long.wav", tone(n=3 * N))
    result = blind(mosaics=("one.wav", "long.wav"))
    assert result.code == 0
    assert re.fullmatch(r"smalti: warning: long\.wav lasts 1\.1 s and the target 0\.4 s: .*\n", result.err)


@pytest.mark.parametrize(
    ("call", "code", "sentence"),
    [
        ({"mosaics": ["one.wav"]}, 2, "one mosaic cannot be compared by ear; name 2 to 8$"),
        ({"mosaics": ["one.wav", "nope.wav"]}, 1, r"cannot read nope\.wav"),
        ({"mosaics": ["one.wav", ""]}, 2, "name of a recording is empty"),
        ({"output": "here"}, 1, "cannot write here: it already exists; add --overwrite or choose another name$"),
        ({"output": "no/where"}, 1, "there is no folder"),
        ({"output": "."}, 2, r"target\.wav lies in \., which would be overwritten; choose another folder$"),
    ],
)
def test_blind_refuses_early_and_leaves_nothing(folder, blind, call, code, sentence):
    (folder / "here").mkdir()
    before = contents(folder)
    assert refused(blind(**call), code, sentence)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--rounds", "0"), "--rounds"),
        (("--length", "0.1"), "--length"),
        (("--length", "inf"), "--length is inf; pass a number of at least 0.5"),
        (("--start", "2", "--end", "1"), "--end is 1; pass seconds greater than --start, 2"),
    ],
)
def test_bad_options_of_blind_are_named_as_they_were_typed(blind, options, sentence):
    assert refused(blind(*options), 2, sentence)


def test_blind_without_all_it_needs_is_refused_with_a_way_out(run, folder):
    assert refused(run("blind"), 2, ".*TARGET.*; try 'smalti blind --help'$")
    assert refused(run("blind", "target.wav", "source.wav", "one.wav", "two.wav"), 2, "--output")
