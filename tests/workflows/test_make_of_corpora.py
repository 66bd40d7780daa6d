"""``smalti make`` with a corpus or a selection of files: what is used, refused, reported and drawn."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

import smalti
from smalti.corpora import build, query, store
from smalti.grains import nearest
from smalti.io.files import file_sha256
from smalti.mosaicing import candidates
from smalti.workflows.outputs import FIGURES
from sounds import notes

SR = 22050


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """The folder where the commands run: a target, and recordings in two folders."""
    for name, seconds in (("rain/a.wav", 2.0), ("rain/b.wav", 1.0), ("wind/c.flac", 2.0)):
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "s" / name, notes(rng, seconds, SR, octaves=5), SR)
    soundfile.write(tmp_path / "target.wav", notes(rng, 1.0, SR, octaves=5), SR)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def corpus(folder, run):
    assert run("corpus", "build", "s", "-o", "c", "--sr", SR).code == 0
    return folder / "c.corpus"


@pytest.fixture
def make(run, folder):
    def call(*options, target="target.wav", source=("c.corpus",), output="out.wav"):
        return run("make", target, *source, "-o", output, "--overwrite", *options)

    return call


def report_of(result):
    assert result.code == 0, result.err
    return json.loads(result.out)


def refused(result, code, sentence):
    assert result.code == code
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert re.search(rf"^smalti: (.*[ :])?{sentence}", line), line


def test_the_output_says_how_many_of_the_recordings_sound(corpus, make):
    result = make()
    assert result.code == 0
    assert re.search(
        r"^out.wav: 1.0 s of target.wav made of [123] of the 3 recordings in c.corpus \(balanced\)", result.out
    )
    assert soundfile.info("out.wav").frames == SR


def test_a_corpus_gives_the_same_mosaic_as_searching_its_files(corpus, make, folder):
    assert make(output="corpus.wav").code == 0
    assert make("--set", "search=always", source=("s",), output="plain.wav").code == 0
    ours, plain = (soundfile.read(name)[0] for name in ("corpus.wav", "plain.wav"))
    # The corpus keeps 16 bits of each sound, and the search finds the same.
    assert np.sqrt(np.mean((ours - plain) ** 2)) < 0.01 * np.sqrt(np.mean(plain**2))


def test_the_report_lists_sounding_files_with_their_licences(folder, run, make):
    assert run("corpus", "build", "s", "-o", "c", "--sr", SR, "--licence", "CC0", "--tag", "2026").code == 0
    report = report_of(make("--json"))
    assert report["sources"] == []
    about = report["corpus"]
    assert (about["path"], about["files"], about["index"]) == ("c.corpus", 3, False)
    assert {file["licence"] for file in about["used"]} == {"CC0"}
    assert all("2026" in file["tags"] for file in about["used"])
    sounds = [file["sounds_s"] for file in about["used"]]
    assert sounds == sorted(sounds, reverse=True)
    assert report["atoms"] < about["frames"]
    # About two layers of grains sound at any time.
    assert 0.7 < sum(sounds) < 2.6
    assert report["measures"]["FID"] > 0


def test_filters_weights_and_limits_reach_the_mosaic(corpus, make):
    def share(*options):
        used = report_of(make("--json", *options))["corpus"]["used"]
        wind = sum(file["sounds_s"] for file in used if "wind" in file["tags"])
        return wind / sum(file["sounds_s"] for file in used)

    assert share("--exclude", "wind") == 0
    assert share("--include", "wind") == 1
    assert share("--tag", "wind") == 1
    assert share("--weight", "wind=0") == 0
    left_alone = share()
    assert 0 < left_alone < 1
    assert share("--weight", "wind=8") > left_alone
    assert share("--limit", "tag:wind=10%") <= 0.1


def test_files_are_selected_and_weighted_like_a_corpus(folder, make):
    def used(*options):
        return {file["path"] for file in report_of(make("--json", *options, source=("s",)))["sources"]}

    assert used() == {"s/rain/a.wav", "s/rain/b.wav", "s/wind/c.flac"}
    assert used("--exclude", "wind") == {"s/rain/a.wav", "s/rain/b.wav"}
    assert used("--shortest", "1.5") == {"s/rain/a.wav", "s/wind/c.flac"}
    assert used("--loudest", "0", "--include", "*.flac") == {"s/wind/c.flac"}
    assert used("--tag", "rain") == {"s/rain/a.wav", "s/rain/b.wav"}
    # A weight of 0 is as good as exclusion. All activations start alike, since a random start would differ.
    sounds = []
    alike = ("--set", "start_spread=0", "--set", "search=always")
    for options in (("--exclude", "rain"), ("--weight", "rain=0"), ("--weight", "rain=4")):
        assert make(*options, *alike, source=("s",)).code == 0
        sounds.append(soundfile.read("out.wav")[0])
    np.testing.assert_array_equal(sounds[0], sounds[1])
    assert np.abs(sounds[2] - sounds[0]).max() > 0.01
    assert make("--limit", "wind=20", source=("s",)).code == 0
    # The named folder itself is no tag of its files.
    refused(make("--tag", "s", source=("s",)), 1, "none of the 3 source files passes --tag s")
    refused(make("--exclude", "s", source=("s",)), 1, "none of the 3 source files passes --exclude s")
    refused(make("--weight", "snow=2", source=("s",)), 2, "--weight has 'snow', which no recording in use meets")


NOT_SEARCHED = "sources can be weighed and limited only where they are searched"


@pytest.mark.parametrize(
    ("options", "source", "code", "sentence"),
    [
        (("--sr", "44100"), ("c.corpus",), 2, "--sr is 44100 but c.corpus was built at 22050 Hz"),
        ((), ("c.corpus", "s"), 2, "c.corpus is a corpus, and can be the only source"),
        ((), ("none.corpus",), 1, "none.corpus"),
        (("--include", "snow"), ("c.corpus",), 1, "nothing in c.corpus passes --include snow"),
        (("--limit", "rain=120"), ("c.corpus",), 2, "--limit rain is 120; pass a number from 0 to 100"),
        (("--limit", "rain"), ("c.corpus",), 2, "--limit is 'rain'; pass a pattern and a number"),
        (
            ("--preset", "classic", "--limit", "rain=10"),
            ("c.corpus",),
            2,
            NOT_SEARCHED,
        ),
        (
            ("--preset", "percussive", "--weight", "rain=2"),
            ("c.corpus",),
            2,
            NOT_SEARCHED,
        ),
        (
            ("--preset", "faithful", "--limit", "rain=2"),
            ("c.corpus",),
            2,
            "only where whole grains are chosen",
        ),
        (("--limit", "*=20"), ("c.corpus",), 2, "every recording is limited, \\* to 20%, together 20%"),
        (
            ("--channels", "apart", "--weight", "rain=2"),
            ("c.corpus",),
            2,
            NOT_SEARCHED,
        ),
    ],
)
def test_impossible_options_are_refused_in_a_sentence(corpus, make, options, source, code, sentence):
    refused(make(*options, source=source), code, sentence)
    assert not (corpus.parent / "out.wav").exists()


@pytest.mark.parametrize("preset", ["classic", "faithful", "source-like", "percussive", "sparse"])
def test_every_preset_takes_a_corpus(corpus, make, preset):
    result = make("--preset", preset, "--set", "layers=2")
    assert result.code == 0, result.err


def test_a_warning_says_why_a_corpus_is_not_searched(corpus, make):
    assert "considered" not in make().err
    for options, reason in (
        (("--beta", "0.5"), "as beta is 0.5"),
        (("--preset", "classic"), "as compare is bins"),
        (("--preset", "percussive"), "as the hop is"),
        (("--channels", "apart"), "as channels is apart"),
    ):
        result = make("--iterations", "2", *options)
        assert result.code == 0
        assert re.search(rf"warning: all of c.corpus is considered, which takes [0-9.]+ GB, {reason}", result.err)


def test_the_ending_of_a_corpus_may_be_left_out(corpus, make):
    assert "recordings in c.corpus" in make(source=("c",)).out


def test_patterns_that_nothing_meets_are_warned_of(corpus, make):
    for source in (("c.corpus",), ("s",)):
        result = make("-q", "--exclude", "strom", "--include", "rain", "--include", "wnid", source=source)
        assert result.code == 0
        assert "warning: no recording meets 'strom', which is to be excluded" in result.err
        assert "warning: no recording meets 'wnid', which is to be included" in result.err


def test_the_report_has_the_selection_from_the_sources(corpus, make):
    report = report_of(make("--json", "--exclude", "a.wav", "--longest", "9", "--weight", "b=2", "--limit", "wind=50"))
    choice = report["choice"]
    assert (choice["include"], choice["exclude"], choice["tags"]) == ([], ["a.wav"], [])
    assert (choice["shortest_s"], choice["longest_s"], choice["loudest_lufs"]) == (0, 9, None)
    assert (choice["weights"], choice["limits"]) == ({"b": 2}, {"wind": 0.5})


def test_missing_and_changed_files_are_warned_of_and_still_sound(corpus, make, folder):
    (folder / "s/wind/c.flac").unlink()
    soundfile.write(folder / "s/rain/b.wav", np.zeros(10), SR)
    result = make("-q")
    assert result.code == 0
    assert re.search(r"warning: .*c\.flac is no longer where it was; its sound is kept in c\.corpus", result.err)
    assert re.search(r"warning: .*b\.wav is no longer as it was", result.err)


def test_a_silent_corpus_is_refused(folder, run, make):
    (folder / "hush").mkdir()
    soundfile.write(folder / "hush/a.wav", np.zeros(SR), SR)
    assert run("corpus", "build", "hush", "-o", "hush", "--sr", SR).code == 0
    refused(make(source=("hush.corpus",)), 1, "the source is silent: no recording of hush.corpus")


def test_a_target_that_is_in_the_corpus_is_warned_of(corpus, make):
    result = make("-q", target="s/rain/b.wav")
    assert "s/rain/b.wav is in c.corpus, too: the mosaic will be little else than the target" in result.err


def test_originals_of_a_corpus_are_never_overwritten(corpus, make, folder):
    before = (folder / "s/rain/a.wav").read_bytes()
    refused(make(output="s/rain/a.wav"), 2, "s/rain/a.wav is an input of this mosaic and would be overwritten")
    assert (folder / "s/rain/a.wav").read_bytes() == before


def test_all_figures_are_drawn(corpus, make, folder):
    assert make("--figures", "pictures").code == 0
    names = {path.name for path in (folder / "pictures").iterdir()}
    assert names == {f"{name}.png" for name in FIGURES}


def test_judge_and_blind_refuse_a_corpus(corpus, run, make):
    assert make().code == 0
    refused(run("judge", "target.wav", "c.corpus", "out.wav"), 2, "c.corpus is a corpus; name the recordings")
    refused(run("blind", "target.wav", "c.corpus", "out.wav", "target.wav", "-o", "x"), 2, "c.corpus is a corpus")


def test_the_index_is_used_with_exclusions_and_after_removals(folder, run, make, monkeypatch):
    # These values make a corpus of some hundred frames a large one.
    for module in (query, candidates, nearest, build):
        monkeypatch.setattr(module, "EXACT_BELOW", 10)
    assert run("corpus", "build", "s", "-o", "c", "--sr", SR).code == 0
    with_index = report_of(make("--json"))
    assert with_index["corpus"]["index"] is True
    assert report_of(make("--json", "--exclude", "rain/b.wav"))["corpus"]["index"] is True
    (next((folder / "c.corpus").glob("index-*"))).unlink()
    without = report_of(make("--json"))
    assert without["corpus"]["index"] is False
    assert without["fit"] == pytest.approx(with_index["fit"], abs=0.05)
    # After a removal, the remaining recordings have an index of their own.
    assert run("corpus", "build", "s", "-o", "c").code == 0
    assert report_of(make("--json"))["corpus"]["index"] is True
    assert run("corpus", "remove", "c", "rain/a.wav").code == 0
    assert len(list((folder / "c.corpus").glob("index-2*"))) == 1
    assert report_of(make("--json"))["corpus"]["index"] is True


def test_a_corpus_opened_in_python_has_its_index_and_makes_the_same_mosaic(folder, run, make, monkeypatch):
    for module in (query, candidates, nearest, build):
        monkeypatch.setattr(module, "EXACT_BELOW", 10)
    assert run("corpus", "build", "s", "-o", "c", "--sr", SR).code == 0
    corpus = smalti.open_corpus("c").corpus
    assert corpus.index is not None
    # The index is read once and shared by all copies of the corpus.
    assert corpus.to_mono().index is corpus.index
    assert report_of(make("--json", "--subtype", "FLOAT"))["corpus"]["index"] is True
    made = smalti.mosaic(smalti.read_audio("target.wav").samples, corpus, SR)
    np.testing.assert_array_equal(made.audio, smalti.read_audio("out.wav").samples)


@pytest.mark.parametrize("preset", ["balanced", "classic"])
def test_scores_from_python_and_the_command_have_the_same_provenance_of_sources(corpus, make, preset):
    assert make("--preset", preset, "--iterations", "2", "--score", "score.json").code == 0
    written = smalti.read_score("score.json")
    made = smalti.mosaic(
        smalti.read_audio("target.wav").samples,
        smalti.open_corpus("c").corpus,
        SR,
        preset=preset,
        iterations=2,
    )
    assert made.score.compact().sources == written.sources
    for source in written.sources:
        assert source.sha256 == file_sha256(source.name)
        assert (source.corpus, source.whole) == ("c.corpus", preset == "classic")
        assert Path(source.name).parent.name in source.tags
    assert written.target.sha256 == file_sha256("target.wav")


def test_strokes_match_tags_of_a_corpus_that_is_not_searched(corpus, make):
    (used,) = report_of(make("--preset", "classic", "--paint", "0.. tag:rain=0", "--json"))["corpus"]["used"]
    assert used["path"].endswith("c.flac")


@pytest.mark.parametrize("preset", ["balanced", "classic"])
def test_strokes_match_paths_in_the_corpus_whether_it_is_searched_or_not(corpus, make, folder, preset):
    # The folders above the corpus are no part of these paths, as for --exclude.
    result = make("--preset", preset, "--paint", f"0.. {folder.name}=0", source=(corpus.absolute(),))
    assert result.code == 2
    assert f"has '{folder.name}', which no recording in use meets" in result.err


def test_an_index_is_read_only_for_searching(folder, run, make, monkeypatch):
    monkeypatch.setattr(build, "EXACT_BELOW", 10)
    assert run("corpus", "build", "s", "-o", "c", "--sr", SR).code == 0
    assert list((folder / "c.corpus").glob("index-*"))

    def refuse(_):
        raise AssertionError("the index is read without need")

    monkeypatch.setattr(store.StoredIndex, "read", refuse)
    # So few frames are searched exactly.
    assert report_of(make("--json"))["corpus"]["index"] is False
    monkeypatch.setattr(query, "EXACT_BELOW", 10)
    monkeypatch.setattr(query, "has_extra", lambda _: False)
    assert report_of(make("--json"))["corpus"]["index"] is False
