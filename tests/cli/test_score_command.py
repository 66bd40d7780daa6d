"""``smalti make --score``, ``smalti render`` and ``smalti score`` as their users meet them."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from kit import refused

from smalti.cli import main
from smalti.io import stem_files
from smalti.io.score_file import read_score
from smalti.workflows.demo import demo_source, demo_target

SR = 22050


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """A folder with a tune, and with two folders of sounds to make it of."""
    folder, source = tmp_path_factory.mktemp("sounds"), demo_source(SR)
    sounds = {"bees/one.wav": source[: 2 * SR], "bees/two.flac": source[2 * SR : 4 * SR], "rain/rain.wav": source[SR:]}
    for name, samples in sounds.items():
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, samples, SR)
    soundfile.write(folder / "song.wav", demo_target(SR)[: 2 * SR], SR)
    return folder


@pytest.fixture(scope="module")
def mosaic_of_sounds(sounds, tmp_path_factory):
    """The same folder with a mosaic and its score."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(sounds, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        named = ["song.wav", "bees", "rain", "-o", "m.wav", "--score", "m.json"]
        assert main.run(["make", *named, "--set", "iterations=8", "-q"]) == 0
    return folder


@pytest.fixture
def folder(sounds, tmp_path, monkeypatch):
    """The working folder: a copy of the sounds."""
    shutil.copytree(sounds, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def made(mosaic_of_sounds, tmp_path, monkeypatch):
    """The working folder: a copy of the sounds, the mosaic and its score."""
    shutil.copytree(mosaic_of_sounds, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# Rendering


def test_a_score_renders_its_mosaic_byte_for_byte(made, run):
    result = run("render", "m.json", "-o", "again.wav")
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"again\.wav: 2\.0 s of \d+ grains, -\d+\.\d LUFS\n", result.out)
    assert (made / "again.wav").read_bytes() == (made / "m.wav").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--preset", "classic"],
        ["--start", "0.3", "--end", "1.4", "--sr", "16000"],
        ["--preset", "melodic", "--transpose", "0:0, 1:7"],
        ["--preset", "notebook"],
        ["--harmony", "80", "--set", "edges=90", "--set", "colour_most_db=3"],
        ["--layers", "0:1, 1:3", "--level", "0:0, 1:-9", "--loudness", "-10"],
        ["--preset", "source-like", "--weight", "rain=0.5", "--limit", "two=30"],
    ],
    ids=["classic", "excerpt", "glide", "notebook", "harmony", "curves", "weights"],
)
def test_a_mosaic_with_any_options_renders_again(folder, run, options):
    few = ("--iterations", "4")
    result = run("make", "song.wav", "bees", "rain", "-o", "m.flac", "--score", "m.json", *few, *options)
    assert result.code == 0, result.err
    assert run("render", "m.json", "-o", "again.flac").code == 0
    assert (folder / "again.flac").read_bytes() == (folder / "m.flac").read_bytes()


@pytest.mark.parametrize("options", [[], ["--preset", "classic", "--channels", "mono"]], ids=["searched", "whole"])
def test_a_mosaic_of_a_corpus_renders_from_the_corpus(folder, run, options):
    assert run("corpus", "build", "bees", "rain", "-o", "c", "--sr", SR).code == 0
    assert run("make", "song.wav", "c.corpus", "-o", "m.wav", "--score", "m.json", *options, "-q").code == 0
    assert run("render", "m.json", "-o", "again.wav").code == 0
    assert (folder / "again.wav").read_bytes() == (folder / "m.wav").read_bytes()
    # The corpus may be anywhere that --look-in names.
    (folder / "away").mkdir()
    (folder / "c.corpus").rename(folder / "away" / "c.corpus")
    refused(
        run("render", "m.json", "-o", "b.wav"),
        1,
        "^smalti: cannot find the corpus c.corpus, which m.json is made of; name",
    )
    assert run("render", "m.json", "-o", "b.wav", "--look-in", "away").code == 0
    assert run("render", "m.json", "-o", "b.wav", "--look-in", "away/c.corpus", "--overwrite").code == 0
    assert (folder / "b.wav").read_bytes() == (folder / "m.wav").read_bytes()
    # Files may vanish from the disk, since their sound is in the corpus, but not from the corpus.
    score = read_score(folder / "m.json")
    assert run("corpus", "remove", "away/c.corpus", Path(score.sources[0].name).name).code == 0
    refused(run("render", "m.json", "-o", "d.wav", "--look-in", "away"), 1, ".* no longer in away/c.corpus|.* holds no")


def test_recordings_are_found_by_what_they_hold(made, run):
    (made / "elsewhere" / "deep").mkdir(parents=True)
    (made / "bees" / "one.wav").rename(made / "elsewhere" / "deep" / "renamed.wav")
    (made / "song.wav").rename(made / "elsewhere" / "tune.wav")
    before = files(made)
    refused(
        run("render", "m.json", "-o", "again.wav"),
        1,
        "^smalti: cannot find bees/one.wav, song.wav, which m.json is made of; name the folder .* with --look-in",
    )
    assert files(made) == before
    assert run("render", "m.json", "-o", "again.wav", "--look-in", "elsewhere").code == 0
    assert (made / "again.wav").read_bytes() == (made / "m.wav").read_bytes()
    refused(
        run("render", "m.json", "-o", "b.wav", "--look-in", "nowhere"),
        1,
        "^smalti: cannot look in nowhere: there is no such",
    )


def test_a_score_taken_elsewhere_finds_what_came_with_it(made, run, tmp_path, monkeypatch):
    box = made / "box"
    shutil.copytree(made / "bees", box / "bees")
    for name in ("m.json", "song.wav", "rain/rain.wav"):
        shutil.copy(made / name, box)
    (made / "other").mkdir()
    for name in ("bees", "rain"):
        shutil.rmtree(made / name)
    (made / "song.wav").unlink()
    monkeypatch.chdir(made / "other")
    assert run("render", "../box/m.json", "-o", "again.wav").code == 0
    assert Path("again.wav").read_bytes() == (made / "m.wav").read_bytes()


def test_recordings_of_the_same_name_are_distinguished(made, run, monkeypatch):
    for name in ("bees", "rain"):
        (made / f"of_{name}").mkdir()
        source = next((made / name).glob("*.wav"))
        shutil.copy(source, made / f"of_{name}" / "x.wav")
        monkeypatch.chdir(made / f"of_{name}")
        assert run("make", "../song.wav", "x.wav", "-o", "m.wav", "--score", "m.json", "-q").code == 0
    monkeypatch.chdir(made)
    assert run("score", "blend", "of_bees/m.json", "of_rain/m.json", "-o", "b.json", "--share", "0:0, 1:100").code == 0
    assert (
        run("render", "b.json", "-o", "b.wav", "--look-in", "of_bees", "--look-in", "of_rain", "--look-in", ".").code
        == 0
    )
    (made / "of_rain" / "x.wav").unlink()
    (made / "rain" / "rain.wav").unlink()
    refused(
        run("render", "b.json", "-o", "c.wav", "--look-in", "of_bees", "--look-in", "."),
        1,
        "^smalti: x.wav|.*x.wav changed",
    )


def test_a_source_that_changed_is_refused_without_the_option_changed(made, run):
    soundfile.write(made / "bees" / "one.wav", demo_source(SR)[: 2 * SR][::-1], SR)
    refused(
        run("render", "m.json", "-o", "b.wav"),
        1,
        "^smalti: bees/one.wav changed since m.json was made: .* add --changed",
    )
    rendered = run("render", "m.json", "-o", "b.wav", "--changed")
    assert rendered.code == 0
    assert rendered.err == "smalti: warning: bees/one.wav is not what m.json was made of; the sound will be another\n"
    assert (made / "b.wav").read_bytes() != (made / "m.wav").read_bytes()
    # The source is now so short that grains lie beyond its end.
    soundfile.write(made / "bees" / "one.wav", demo_source(SR)[:400], SR)
    result = run("render", "m.json", "-o", "c.wav", "--changed")
    assert result.code == 2
    assert "of bees/one.wav, which lasts 0.018 s there" in result.err
    assert not (made / "c.wav").exists()


def test_dry_needs_no_target(made, run):
    (made / "song.wav").unlink()
    refused(run("render", "m.json", "-o", "b.wav"), 1, "^smalti: cannot find song.wav")
    assert run("render", "m.json", "-o", "dry.wav", "--dry").code == 0
    dry, wet = (soundfile.read(made / name)[0] for name in ("dry.wav", "m.wav"))
    assert 0.3 < np.corrcoef(dry, wet)[0, 1] < 0.999


def test_another_target_has_to_be_as_long(made, run):
    shutil.copy(made / "song.wav", made / "copy.wav")
    assert run("render", "m.json", "-o", "b.wav", "--target", "copy.wav").code == 0
    refused(
        run("render", "m.json", "-o", "c.wav", "--target", "rain/rain.wav"),
        1,
        "^smalti: rain/rain.wav has .* name its own",
    )


def test_inputs_and_earlier_results_are_not_overwritten(made, run):
    before = files(made)
    for output in ("bees/one.wav", "song.wav"):
        refused(run("render", "m.json", "-o", output, "--overwrite"), 2, f"^smalti: {output} is what this is made of")
    refused(run("render", "m.json", "-o", "m.json", "--overwrite"), 2, "^smalti: m.json is what this is made of")
    refused(run("render", "m.json", "-o", "m.wav"), 1, "^smalti: cannot write m.wav: it already exists")
    refused(
        run("make", "song.wav", "bees", "-o", "n.wav", "--score", "song.wav", "--overwrite"),
        2,
        "^smalti: song.wav is an in",
    )
    refused(
        run("make", "song.wav", "bees", "-o", "n.wav", "--score", "n.wav"), 2, "^smalti: n.wav is named for two results"
    )
    refused(
        run("make", "song.wav", "bees", "-o", "n.wav", "--score", "m.json"),
        1,
        "^smalti: cannot write m.json: it already",
    )
    assert files(made) == before


def test_a_hostile_score_opens_nothing_but_sound_files(made, run):
    os.mkfifo(made / "pipe.wav")
    (made / "secret.txt").write_text("secret")
    score = json.loads((made / "m.json").read_text())
    for path in ("/dev/zero", "/etc/passwd", "secret.txt", "pipe.wav", "..", "", "\0", "bees"):
        score["sources"][0] |= {"path": path, "sha256": ""}
        (made / "evil.json").write_text(json.dumps(score))
        result = run("render", "evil.json", "-o", "evil.wav")
        assert result.code in (1, 2), path
        assert result.err.startswith("smalti: cannot find "), result.err
        assert "secret" not in result.err.replace("secret.txt", "")
    assert not (made / "evil.wav").exists()
    score["length"] = score["grid"]["hop"] * 2**29
    score |= {"duration_s": 1.0, "melodies_hz": []}
    (made / "evil.json").write_text(json.dumps(score))
    refused(
        run("render", "evil.json", "-o", "evil.wav"), 1, r"^smalti: \d+ grains in \d+ s need about \d+ GB of memory"
    )


# Stems


def test_stems_of_files_and_folders_add_up(made, run):
    for how, names in (("file", 3), ("folder", 2)):
        result = run(
            "render", "m.json", "-o", "b.wav", "--subtype", "FLOAT", "--stems", how, "--stems-by", how, "--overwrite"
        )
        assert result.code == 0
        stems = sorted((made / how).iterdir())
        assert len(stems) == names
        assert all(re.fullmatch(r"\d_\w+\.wav", stem.name) for stem in stems)
        total = sum(soundfile.read(stem)[0] for stem in stems)
        np.testing.assert_allclose(total, soundfile.read(made / "b.wav")[0], rtol=0, atol=1e-6)
        assert f", {names} stems in {how}\n" in result.out
    assert not list(made.glob(".smalti*"))


def test_make_writes_the_stems_that_render_does(folder, run):
    arguments = ("make", "song.wav", "bees", "rain", "-o", "m.wav", "--score", "m.json", "--stems", "s", "-q")
    assert run(*arguments).code == 0
    assert run("render", "m.json", "-o", "b.wav", "--stems", "t").code == 0
    for stem in (folder / "s").iterdir():
        assert stem.read_bytes() == (folder / "t" / stem.name).read_bytes()


def test_a_folder_with_something_in_it_takes_no_stems_unasked(made, run):
    (made / "s").mkdir()
    (made / "s" / "mine.txt").write_text("mine")
    refused(
        run("render", "m.json", "-o", "b.wav", "--stems", "s"), 1, "^smalti: cannot write stems into s: it is not empty"
    )
    assert run("render", "m.json", "-o", "b.wav", "--stems", "s", "--overwrite").code == 0
    assert (made / "s" / "mine.txt").read_text() == "mine"
    refused(
        run("render", "m.json", "-o", "c.wav", "--stems", "m.wav"),
        1,
        "^smalti: cannot write stems into m.wav: it is not a f",
    )
    refused(
        run("render", "m.json", "-o", "c.wav", "--stems", "a/b"),
        1,
        "^smalti: cannot write stems into a/b: there is no fold",
    )
    refused(run("render", "m.json", "-o", "c.wav", "--stems-by", "hat"), 2, "^smalti: --stems-by is 'hat'")
    assert not (made / "c.wav").exists()


def test_loud_stems_add_up_too(made, run):
    assert run("score", "edit", "m.json", "e.json", "--swap", "rain=bees/one.wav", "--gain", "40").code == 0
    assert run("render", "e.json", "-o", "b.wav", "--subtype", "FLOAT", "--stems", "s").code == 0
    total = sum(soundfile.read(stem)[0] for stem in (made / "s").iterdir())
    np.testing.assert_allclose(total, soundfile.read(made / "b.wav")[0], rtol=0, atol=1e-6)


def test_all_results_may_lie_in_one_folder(folder, run):
    (folder / "out").mkdir()
    results = ("-o", "out/m.wav", "--score", "out/m.json", "--stems", "out")
    assert run("make", "song.wav", "bees", "rain", *results, "-q").code == 0
    assert len(list((folder / "out").iterdir())) == 5


def test_a_full_disk_leaves_no_stem_behind(made, run, monkeypatch):
    written = []

    def full(path, data, **options):
        if written:
            raise stem_files.AudioFileError(f"cannot write {path}: no space left on device; free some space")
        written.append(path)
        path.write_bytes(data)

    monkeypatch.setattr(stem_files, "write_atomic", full)
    refused(
        run("render", "m.json", "-o", "b.wav", "--stems", "s"), 1, "^smalti: cannot write .*no space left on device"
    )
    assert not (made / "s").exists()
    assert not list(made.glob(".smalti*"))


def test_more_stems_than_anybody_opens_are_refused(made, run, monkeypatch):
    monkeypatch.setattr(stem_files, "MOST_STEMS", 2)
    refused(
        run("render", "m.json", "-o", "b.wav", "--stems", "s"),
        1,
        r"^smalti: there would be 3 stems, one for each file, and 2 are the most; .* each folder \(--stems-by folder",
    )


def test_a_score_names_its_target_and_sources(made):
    score = read_score(made / "m.json")
    assert (score.target.name, score.target.channels, score.target.duration_s) == ("song.wav", 1, 2.0)
    assert {source.name for source in score.sources} <= {"bees/one.wav", "bees/two.flac", "rain/rain.wav"}
    assert all(source.sr == SR and len(source.sha256) == 64 for source in score.sources)


# Looking


def test_show_gives_the_share_of_each_source(made, run):
    result = run("score", "show", "m.json", "--grains", "3")
    assert (result.code, result.err) == (0, "")
    score = read_score(made / "m.json")
    head, _, columns, *rest = result.out.splitlines()
    assert head == f"m.json: 2.0 s of song.wav, made of {len(score)} grains"
    assert columns.split() == ["source", "time", "power", "grains", "longest", "from", "to"]
    shares = {line.split()[0]: line.split()[1:4] for line in rest[: rest.index("")]}
    assert sum(int(count) for _, _, count in shares.values()) == len(score)
    assert abs(sum(int(time[:-1]) for time, _, _ in shares.values()) - 100) <= len(shares)
    listed = [line.split() for line in rest[rest.index("") + 2 : rest.index("") + 5]]
    assert {int(line[0]) for line in listed} == set(score.ids[np.argsort(-score.levels)[:3]].tolist())
    assert result.out.endswith(f"the 3 loudest of {len(score)} grains; --grains {len(score)} lists all\n")


def test_show_prints_all_of_it_as_json(made, run):
    shown = json.loads(run("score", "show", "m.json", "--json").out)
    score = read_score(made / "m.json")
    assert [grain["id"] for grain in shown["grains"]] == score.ids.tolist()
    assert sum(source["time_share"] for source in shown["sources"]) == pytest.approx(1)


def test_show_draws_a_lane_for_each_source(made, run, monkeypatch):
    from smalti import plots

    drawn = []
    monkeypatch.setattr(plots, "figure_png", lambda figure: drawn.append(figure) or b"png")
    assert run("score", "show", "m.json", "--picture", "roll.png").code == 0
    (ax,) = drawn[0].axes
    score = read_score(made / "m.json")
    lines = [line for lane in ax.collections for line in lane.get_segments()]
    assert len(lines) == len(score)
    begins = sorted(line[0, 0] for line in lines)
    np.testing.assert_allclose(begins, np.sort(score.frames * score.hop_s))
    assert len(ax.get_yticklabels()) == len(score.compact().sources)
    refused(
        run("score", "show", "m.json", "--picture", "roll.png"), 1, "^smalti: cannot write roll.png: it already exists"
    )


# Editing


def test_the_edit_of_the_help_does_what_it_says(made, run):
    arguments = ("--mute", "rain*", "--gain", "-6", "--between", "0.5", "1.5")
    result = run("score", "edit", "m.json", "e.json", *arguments)
    assert result.code == 0, result.err
    assert re.fullmatch(r"e\.json: \d+ grains, of \d+ before\n", result.out)
    before, after = read_score(made / "m.json"), read_score(made / "e.json")
    rain = next(i for i, source in enumerate(after.sources) if "rain" in source.name)
    inside = (after.at * after.hop_s >= 0.5) & (after.at * after.hop_s < 1.5)
    assert not after.gains[(after.origins == rain)[after.owners] & inside].any()
    power = {}
    for name, score in (("before", before), ("after", after)):
        bees = (score.origins != rain)[score.owners]
        within = (score.at * score.hop_s >= 0.5) & (score.at * score.hop_s < 1.5)
        power[name] = np.array([np.square(score.gains[bees & where], dtype=float).sum() for where in (within, ~within)])
    np.testing.assert_allclose(power["after"] / power["before"], [10**-0.6, 1], rtol=1e-5)
    # Rendered, the inside is quieter; the outside changes little, by what finishing makes of its surroundings.
    assert run("render", "e.json", "-o", "e.wav").code == 0
    then, now = (soundfile.read(made / name)[0] for name in ("m.wav", "e.wav"))
    quieter = [
        np.sqrt(np.mean(now[part] ** 2) / np.mean(then[part] ** 2))
        for part in (slice(14000, 31000), slice(36000, None))
    ]
    assert quieter[0] < 0.6
    assert 0.9 < quieter[1] < 1.1


def test_every_edit_is_made(made, run):
    score = read_score(made / "m.json")
    loudest, middle = int(score.ids[np.argmax(score.levels)]), np.median(score.lengths) * score.hop_s + 1e-3
    edits = [
        ("--solo", "bees"),
        ("--shift", "0.1", "--source", "bees"),
        ("--transpose", "-3", "--grain", loudest),
        ("--swap", "rain=bees/one.wav"),
        ("--gain", "3", "--louder-than", "-60", "--quieter-than", "0"),
        ("--mute", "*", "--shorter-than", middle),
        ("--mute", "*", "--longer-than", middle),
    ]
    for i, edit in enumerate(edits):
        assert run("score", "edit", "m.json", f"e{i}.json", *edit).code == 0, edit
        assert run("render", f"e{i}.json", "-o", f"e{i}.wav").code == 0, edit
        assert (made / f"e{i}.wav").read_bytes() != (made / "m.wav").read_bytes(), edit
    assert {source.name for source in read_score(made / "e3.json").compact().sources} <= {
        "bees/one.wav",
        "bees/two.flac",
    }
    assert any(shift is not None for shift in read_score(made / "e2.json").shifts)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "edits hold nothing to do; add --mute, --solo, --swap, --transpose, --gain or --shift"),
        (["--mute", "hail"], 2, "no source of the score meets 'hail'; there are "),
        (["--mute", "*", "--between", "1", "0.5"], 2, "--between goes from 1 s to 0.5 s; pass a begin before its end"),
        (["--gain", "3", "--grain", "9999"], 2, "ids has 9999, which no grain has; the score has ids"),
        (
            ["--mute", "*", "--source", "bees"],
            2,
            "selection names sources, which means nothing to --mute",
        ),
        (["--swap", "bees"], 2, "--swap is 'bees'; pass PATTERN=FILE"),
        (["--swap", "bees=none.wav"], 1, "cannot read none.wav: there is no such file"),
        (["--gain", "nan"], 2, ".*gain"),
        (["--shift", "inf"], 2, ".*inf"),
        (["--transpose", "99"], 2, ".*48"),
    ],
)
def test_bad_edits_are_refused(made, run, arguments, code, sentence):
    before = files(made)
    refused(run("score", "edit", "m.json", "e.json", *arguments), code, f"^smalti: {sentence}")
    assert files(made) == before


def test_a_grain_that_is_muted_may_be_selected_for_the_gain_too(made, run):
    score = read_score(made / "m.json")
    first, last = int(score.ids[0]), int(score.ids[-1])
    source = Path(score.sources[score.origins[0]].name).name
    arguments = ("--mute", source, "--gain", "-6", "--grain", first, "--grain", last)
    assert run("score", "edit", "m.json", "e.json", *arguments).code == 0
    assert first not in read_score(made / "e.json").ids


def test_a_picture_is_a_png(made, run):
    refused(
        run("score", "show", "m.json", "--picture", "roll.pdf"), 2, "--picture is roll.pdf; choose a name that ends"
    )
    assert not Path("roll.pdf").exists()


def test_a_picture_does_not_overwrite_its_score(made, run):
    refused(
        run("score", "show", "m.json", "--picture", "m.json", "--overwrite"),
        2,
        "^smalti: m.json is what this is made of",
    )


def test_an_edit_of_nothing_says_so(made, run):
    result = run("score", "edit", "m.json", "e.json", "--mute", "*", "--longer-than", "60")
    assert result.err == "smalti: warning: nothing has changed: no grain meets all options\n"


def test_a_score_is_not_edited_in_place(made, run):
    refused(
        run("score", "edit", "m.json", "m.json", "--mute", "*", "--overwrite"),
        2,
        "^smalti: m.json is the score that is ed",
    )
    refused(
        run("score", "edit", "m.json", "song.wav", "--mute", "*"),
        1,
        "^smalti: cannot write song.wav: it already exists",
    )


# Blending


def test_a_blend_goes_from_one_source_to_the_other(folder, run):
    for name in ("bees", "rain"):
        made = run(
            "make", "song.wav", name, "-o", f"{name}.wav", "--score", f"{name}.json", "--set", "iterations=8", "-q"
        )
        assert made.code == 0
    blend = ("score", "blend", "bees.json", "rain.json", "-o")
    for share, file in (("0", "bees"), ("100", "rain")):
        assert (
            run("score", "blend", "bees.json", "rain.json", "-o", "b.json", "--share", share, "--overwrite").code == 0
        )
        blended, only = read_score(folder / "b.json"), read_score(folder / f"{file}.json")
        np.testing.assert_allclose(
            blended.gains * 10 ** (blended.gain_db / 20), only.gains * 10 ** (only.gain_db / 20), rtol=1e-5
        )
    result = run(*blend, "b.json", "--share", "0:0, 2:100", "--overwrite")
    assert re.match(r"b\.json: \d+ grains, \d+% \w+\.\w+, \d+% ", result.out)
    mixture = read_score(folder / "b.json")
    rain = np.array(["rain" in mixture.sources[i].name for i in mixture.origins])
    middle = (mixture.frames + mixture.lengths / 2) * mixture.hop_s
    assert middle[rain].mean() > 1 > middle[~rain].mean()
    assert run("render", "b.json", "-o", "b.wav").code == 0
    refused(
        run("score", "blend", "bees.json", "rain.json", "-o", "rain.json", "--overwrite"),
        2,
        "^smalti: rain.json is one of",
    )
    refused(
        run("score", "blend", "bees.json", "rain.json", "-o", "c.json", "--share", "2:0, 1:1"),
        2,
        "^smalti: --share is .*order",
    )
    refused(
        run("score", "blend", "bees.json", "rain.json", "-o", "c.json", "--share", "half"),
        2,
        "^smalti: --share is 'half'",
    )


# Other tools


@pytest.mark.parametrize("name", ["m.rpp", "m.csv", "m.txt"])
def test_a_score_goes_into_other_tools(made, run, name):
    result = run("score", "export", "m.json", "-o", name)
    assert result.code == 0, result.err
    n_grains = len(read_score(made / "m.json"))
    assert f"{n_grains} grains" in result.out
    if name == "m.rpp":
        assert re.search(r", -[2-9]\d\.\d dB from the grains as they are\n", result.out)
        text = (made / name).read_text()
        assert text.count("<ITEM") == n_grains + 1
        assert str(made / "bees" / "one.wav") in text or str(made / "bees" / "two.flac") in text
    refused(run("score", "export", "m.json", "-o", name), 1, f"^smalti: cannot write {name}: it already exists")


def test_a_project_names_the_target_where_it_is(made, run, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    result = run("score", "export", made / "m.json", "-o", "m.rpp")
    assert result.code == 0, result.err
    assert f'FILE "{made / "song.wav"}"' in Path("m.rpp").read_text()


def test_exports_that_no_tool_reads_are_refused(made, run):
    refused(
        run("score", "export", "m.json", "-o", "m.als"),
        2,
        r"^smalti: the ending of the file is '\.als'; pass one of \.rpp",
    )
    refused(run("score", "export", "m.json", "-o", "m.mid"), 2, "^smalti: no grain is transposed to a pitch")
    refused(
        run("score", "export", "m.json", "-o", "m.json", "--overwrite"), 2, "^smalti: the ending of the file is '.json'"
    )
    assert not (made / "m.mid").exists()


def test_the_schema_is_printed(run):
    from smalti.io.score_file import schema

    assert json.loads(run("score", "schema").out) == schema()
