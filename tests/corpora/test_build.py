"""Corpora on a disk: what was analysed comes back, only what changed is done again, no fault makes one that lies."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile

from smalti.corpora import build as corpora_build
from smalti.corpora import segments, store, workers, writer
from smalti.corpora import tables as corpora_tables
from smalti.corpora.build import Built, build_corpus, remove_files
from smalti.corpora.query import corpus_info, list_files, open_corpus, verify_corpus
from smalti.corpora.segments import coded, decoded
from smalti.dsp.loudness import integrated_loudness
from smalti.dsp.stft import StftParams
from smalti.errors import AudioFileError, CorpusError
from smalti.grains import nearest
from smalti.grains.corpus import analyse, cleaned, corpus_of, hop_at
from smalti.grains.descriptors import MIDDLE_WINDOW_S
from smalti.grains.filters import Filters
from smalti.io.sound_read import AudioStream, read_audio, resample

SR = 22050
HOP = hop_at(SR)

on_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
as_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not stop the superuser"
)


def put(path, samples, sr=SR, **kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, sr, **kind)
    os.utime(path, ns=(10**18, 10**18))
    return path


def noise(rng, seconds=0.5, channels=1, sr=SR, level=0.1):
    return (level * rng.standard_normal((round(seconds * sr), channels))).squeeze().astype(np.float32)


@pytest.fixture
def folder(tmp_path, rng):
    """Four files in three folders."""
    put(tmp_path / "sounds" / "rain" / "a.wav", noise(rng, 0.7))
    put(tmp_path / "sounds" / "rain" / "light" / "b.flac", noise(rng, 0.4, channels=2))
    put(tmp_path / "sounds" / "wind" / "c.wav", noise(rng, 1.1, sr=44100, level=0.02), 44100)
    put(tmp_path / "sounds" / "d.ogg", noise(rng, 2.0, level=0.3))
    return tmp_path / "sounds"


def build(folders, name, **options) -> Built:
    options.setdefault("sr", SR)
    folders = [folders] if isinstance(folders, Path) else folders
    *_, last = build_corpus(folders, name, **options)
    assert last.stage == "done"
    return last.built


@pytest.fixture
def corpus(folder, tmp_path):
    build(folder, tmp_path / "c")
    return tmp_path / "c.corpus"


def content(name, filters=None):
    """All that a corpus says, wherever it lies in its arrays."""
    shelf = open_corpus(name, filters)
    corpus = shelf.corpus
    told = [(one.path, one.sha256, one.tags, one.duration_s, one.loudness_lufs) for one in shelf.files]
    arrays = (
        corpus.features[corpus.rows],
        corpus.descriptors,
        corpus.scales,
        corpus.levels,
        corpus.recording_ids,
        corpus.centres,
    )
    return told, [array.tobytes() for array in arrays], [recording.tobytes() for recording in corpus.recordings]


def same(a, b):
    assert a[0] == b[0]
    assert a[1:] == b[1:]


@pytest.fixture
def idle(monkeypatch):
    """From here on nothing may be analysed."""

    def refuse(*_):
        raise AssertionError("this was analysed before")

    monkeypatch.setattr(segments, "analyse", refuse)


# What is stored


def test_what_is_in_a_corpus_is_the_analysis_of_its_sound(folder, corpus):
    shelf = open_corpus(corpus)
    files = sorted(folder.rglob("*.*"))
    assert [one.place for one in shelf.files] == files
    assert shelf.warnings == ()
    wanted = []
    for path, recording, one in zip(files, shelf.corpus.recordings, shelf.files, strict=True):
        read = read_audio(path)
        clean = cleaned(resample(read.samples, read.sr, SR), SR)
        assert recording.shape == clean.shape
        # Half a code of 16 bits, of which the loudest has the largest.
        np.testing.assert_allclose(recording, clean, atol=0.51 * np.abs(clean).max() / 32767)
        assert one.sha256 == read.sha256
        assert (one.sr, one.channels) == (read.sr, read.channels)
        assert one.duration_s == pytest.approx(read.duration_s, abs=1e-4)
        assert one.loudness_lufs == pytest.approx(integrated_loudness(clean, SR), abs=0.01)
        wanted.append(recording)
    params = StftParams.from_seconds(MIDDLE_WINDOW_S, 512 / 22050, SR)
    memory = corpus_of(wanted, SR, params=params, names=[str(path) for path in files])
    for name in ("recording_ids", "centres", "cancelled", "scales", "levels", "descriptors", "files"):
        np.testing.assert_array_equal(getattr(shelf.corpus, name), getattr(memory, name))
    np.testing.assert_array_equal(shelf.corpus.features[shelf.corpus.rows], memory.features)
    assert (shelf.corpus.params, shelf.corpus.channels) == (memory.params, 2)
    assert shelf.corpus.names == memory.names


def test_codes_of_16_bits_reach_as_far_as_the_loudest_sample(rng):
    samples = (rng.standard_normal((2, 999)) * 1e-7).astype(np.float32)
    codes, step = coded(samples)
    assert np.abs(codes).max() == 32767
    np.testing.assert_allclose(decoded(codes, step), samples, atol=0.51 * step)
    for silent in (np.zeros(5, np.float32), np.full(5, 1e-44, np.float32)):
        assert not decoded(*coded(silent)).any()


@pytest.mark.parametrize("extra", [0, 1, HOP - 1, HOP, 3 * HOP + 5, 9 * HOP, 20 * HOP])
def test_a_long_file_is_segments_that_see_beyond_their_borders(tmp_path, rng, monkeypatch, extra):
    hops = 40
    monkeypatch.setattr(segments, "SEGMENT_S", hops * HOP / SR)
    samples = noise(rng, channels=2, seconds=(2 * hops * HOP + extra) / SR)
    put(tmp_path / "s" / "long.wav", samples, subtype="FLOAT")
    build(tmp_path / "s", tmp_path / "c")
    shelf = open_corpus(tmp_path / "c")
    corpus = shelf.corpus
    whole = analyse(cleaned(np.ascontiguousarray(samples.T), SR), SR)
    assert len(corpus.recordings) > 1
    assert set(corpus.files) == {0}
    assert corpus.n_atoms == len(whole.norms)
    # But for the rounding to codes, a frame beside a border looks as it does without one.
    np.testing.assert_allclose(corpus.levels, whole.norms, rtol=1e-3)
    got, wanted = (looks.astype(np.float32) for looks in (corpus.features[corpus.rows], whole.features))
    np.testing.assert_allclose(got, wanted, atol=3e-3)
    # And sounds so: a window around each lies in its recording.
    half, reach = corpus.params.n_fft // 2, 0
    for n, recording in enumerate(corpus.recordings):
        centres = corpus.centres[corpus.recording_ids == n]
        if n:
            assert centres[0] >= half
        if n < len(corpus.recordings) - 1:
            assert recording.shape[1] - centres[-1] >= half
        at = reach if n == 0 else reach - (centres[0] - 0)
        own = slice(max(0, at), None)
        part = samples.T[:, own][:, : recording.shape[1]]
        inside = slice(200, part.shape[1] - 200)
        np.testing.assert_allclose(recording[:, inside], part[:, inside], atol=1e-4)
        reach += len(centres) * HOP
    assert shelf.files[0].duration_s == pytest.approx(len(samples) / SR)


def test_a_stream_gives_the_samples_that_reading_gives(tmp_path, rng):
    for ending, sr, to, channels in (("flac", 44100, 22050, 2), ("ogg", 8000, 44100, 1), ("wav", 22050, 22050, 3)):
        path = put(tmp_path / f"a.{ending}", noise(rng, 1.3, channels, sr), sr)
        read = read_audio(path)
        wanted = np.atleast_2d(resample(read.samples, sr, to))
        for length in (1000, 7919, 10**6):
            stretches = list(AudioStream(path, sr=to).stretches(length))
            assert {part.shape[1] for part in stretches[:-1]} <= {length}
            np.testing.assert_array_equal(np.concatenate(stretches, axis=1), wanted)


# Only what changed


def test_a_build_run_again_analyses_nothing(folder, corpus, idle):
    before = content(corpus)
    built = build(folder, corpus)
    assert (built.analysed, built.unchanged, built.removed) == (0, 4, 0)
    same(content(corpus), before)


def test_a_file_whose_time_alone_has_changed_is_not_analysed(folder, corpus, idle):
    os.utime(folder / "d.ogg", ns=(5, 5))
    assert [path.name for path in open_corpus(corpus).changed] == ["d.ogg"]
    built = build(folder, corpus)
    assert (built.analysed, built.unchanged) == (0, 4)
    assert open_corpus(corpus).changed == ()


def test_a_file_that_has_moved_is_recognised(folder, corpus, idle):
    (folder / "rain" / "light" / "b.flac").rename(folder / "wind" / "e.flac")
    shelf = open_corpus(corpus)
    assert shelf.missing == (folder / "rain" / "light" / "b.flac",)
    assert shelf.warnings == (f"{shelf.missing[0]} is no longer where it was; its sound is kept in {corpus}",)
    built = build(folder, corpus)
    assert (built.analysed, built.moved, built.removed) == (0, 1, 0)
    (one,) = (one for one in list_files(corpus) if one.path.endswith("e.flac"))
    assert one.tags == ("wind",)
    assert open_corpus(corpus).missing == ()


def test_a_file_that_took_the_name_of_another(folder, corpus, idle):
    (folder / "rain" / "a.wav").rename(folder / "d.ogg")
    built = build(folder, corpus)
    assert (built.analysed, built.moved, built.removed, len(list_files(corpus))) == (0, 1, 0, 3)
    assert verify_corpus(corpus).damaged == ()


def test_changed_new_and_removed_files(folder, corpus, tmp_path, rng, monkeypatch):
    put(folder / "d.ogg", noise(rng, 1.0))
    os.utime(folder / "d.ogg", ns=(7, 7))
    put(folder / "new.wav", noise(rng, 0.3))
    (folder / "rain" / "a.wav").unlink()
    seen = []
    monkeypatch.setattr(segments, "analyse", lambda samples, sr: seen.append(1) or analyse(samples, sr))
    built = build(folder, corpus)
    assert (built.analysed, built.unchanged, built.removed, len(seen)) == (2, 2, 1, 2)
    build(folder, tmp_path / "afresh")
    same(content(corpus), content(tmp_path / "afresh"))
    assert verify_corpus(corpus).damaged == ()


def test_only_folders_that_are_built_lose_files(folder, corpus):
    (folder / "rain" / "a.wav").unlink()
    assert build(folder / "wind", corpus).removed == 0
    assert len(list_files(corpus)) == 4
    assert build([folder / "wind", folder / "rain"], corpus).removed == 1


def test_an_empty_folder_does_not_empty_the_corpus(folder, corpus):
    shutil.rmtree(folder / "wind")
    (folder / "wind").mkdir()
    with pytest.raises(AudioFileError, match="no sound file in"):
        build(folder / "wind", corpus)
    assert len(list_files(corpus)) == 4


# Stopped


@pytest.fixture
def small_commits(monkeypatch):
    monkeypatch.setattr(corpora_build, "COMMIT_FILES", 1)


def test_a_build_that_was_stopped_goes_on_and_comes_to_the_same(folder, tmp_path, small_commits):
    build(folder, tmp_path / "whole")
    for n in range(1, 10):
        with closing(build_corpus([folder], tmp_path / "c", sr=SR)) as steps:
            for _ in zip(range(n), steps, strict=False):
                pass
        if n > 1:
            assert verify_corpus(tmp_path / "c").damaged == ()
    built = build(folder, tmp_path / "c")
    assert built.unchanged > 0
    same(content(tmp_path / "c"), content(tmp_path / "whole"))


def test_segments_of_a_file_that_never_came_to_its_end_leave_no_hole(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_S", 0.5)
    monkeypatch.setattr(corpora_build, "COMMIT_BYTES", 1)
    put(tmp_path / "s" / "long.wav", noise(rng, 4.0))
    with closing(build_corpus([tmp_path / "s"], tmp_path / "c", sr=SR)) as steps:
        for step in steps:
            if step.done_s > 1:
                break
    assert (corpus_info(tmp_path / "c").n_frames, corpus_info(tmp_path / "c").holes) == (0, 0)
    build(tmp_path / "s", tmp_path / "c")
    info = corpus_info(tmp_path / "c")
    assert (info.n_files, info.holes) == (1, 0)
    assert verify_corpus(tmp_path / "c").damaged == ()


# Forks itself, which a test with threads had better not, and each child kills itself at one of the calls that its
# writing thread makes. What is left is then opened, and built to its end.
KILLED = """
import os, random, shutil, signal, sys
from pathlib import Path
# The build loads these when it first needs them; loaded here, they need not be loaded again in every fork.
import pyloudnorm, scipy.signal
from smalti.corpora import build as builds
from smalti.corpora import store, writer
from smalti.corpora.build import build_corpus
from smalti.corpora.query import open_corpus, verify_corpus
from smalti.errors import CorpusError

folders, times = [Path(sys.argv[1]), Path(sys.argv[2])], int(sys.argv[3])
name, whole, older = (folders[0].parent / f"{name}.corpus" for name in ("c", "whole", "older"))
builds.COMMIT_FILES = 2

def content(name):
    corpus = (shelf := open_corpus(name)).corpus
    return {
        one.path: (corpus.features[corpus.rows[corpus.recording_ids == n]].tobytes(), corpus.recordings[n].tobytes())
        for n, one in enumerate(shelf.files)
    }

def build(name, kill_at=None):
    calls = 0
    def count(frame, event, argument):
        nonlocal calls
        if frame.f_code.co_filename in (store.__file__, writer.__file__) and event in ("c_call", "c_return"):
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(count)
    for _ in build_corpus(folders, name, sr=22050):
        pass
    sys.setprofile(None)
    return calls

def forked(work):
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitpid(pid, 0)[1]

def counted(name):
    reading, writing = os.pipe()
    assert forked(lambda: os.write(writing, str(build(name)).encode())) == 0
    return int(os.read(reading, 99))

# Half of the builds begin with a corpus that has sounds which are gone, so that they end by compacting it.
assert forked(lambda: build(older)) == 0
for file in sorted(folders[1].iterdir())[1:]:
    file.unlink()
shutil.copytree(older, name)
total = [counted(whole), counted(name)]
wanted = content(whole)
rng = random.Random(0)
killed = refused = opened = 0
for n in range(times):
    shutil.rmtree(name, ignore_errors=True)
    if n % 2:
        shutil.copytree(older, name)
    kill_at = rng.randrange(1, total[n % 2])
    killed += forked(lambda: build(name, kill_at)) == signal.SIGKILL
    try:
        got = content(name)
        assert all(got[path] == wanted[path] for path in got if path in wanted), "not what was analysed"
        assert n % 2 or not set(got) - set(wanted)
        assert verify_corpus(name).damaged == ()
        opened += 1
    except CorpusError as error:
        said = ("holds nothing yet", "holds no recording", "is no corpus", "there is no corpus")
        assert not n % 2 and any(words in str(error) for words in said), error
        refused += 1
    assert forked(lambda: build(name)) == 0
    assert content(name) == wanted
    assert verify_corpus(name).damaged == ()
print(killed, refused, opened)
"""


@on_posix
def test_killed_at_any_moment_a_build_leaves_what_is_true(tmp_path, rng):
    for n in range(5):
        put(tmp_path / "sounds" / f"{n}.wav", noise(rng, 0.1, sr=SR))
        put(tmp_path / "more" / f"more {n}.wav", noise(rng, 0.3, sr=SR))
    times = int(os.environ.get("SMALTI_KILLS", "8"))
    run = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "sounds", tmp_path / "more", str(times)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    killed, refused, opened = map(int, run.stdout.split())
    assert killed >= times // 2
    assert opened >= times // 2
    assert refused + opened == times


def test_tables_that_a_kill_left_half_written_are_read_as_they_were(folder, corpus):
    before, size = content(corpus), (corpus / "corpus.sqlite").stat().st_size
    # What a kill leaves within a commit: pages in the file, and the old ones in a journal beside it.
    with closing(sqlite3.connect(corpus / "corpus.sqlite", isolation_level=None)) as tables:
        tables.execute("PRAGMA cache_size = 1")
        tables.execute("BEGIN IMMEDIATE")
        for n in range(3000):
            tables.execute("INSERT INTO files (id, path) VALUES (?, ?)", (n + 1000, b"%d" % n * 30))
        tables.execute("UPDATE segments SET n_rows = 1")
        state = {file.name: file.read_bytes() for file in corpus.glob("corpus.sqlite*")}
        tables.execute("ROLLBACK")
    assert len(state) == 2
    assert len(state["corpus.sqlite"]) > size
    for name, data in state.items():
        (corpus / name).write_bytes(data)
    same(content(corpus), before)
    # Nothing was mended by looking at it; a build does that.
    assert {file.name: file.read_bytes() for file in corpus.glob("corpus.sqlite*")} == state
    assert build(folder, corpus).unchanged == 4
    assert [file.name for file in corpus.glob("corpus.sqlite*")] == ["corpus.sqlite"]
    same(content(corpus), before)


def test_ctrl_c_keeps_what_is_complete(folder, tmp_path, monkeypatch):
    take = corpora_build._Build._take
    seen = []

    def taken(self, made):
        take(self, made)
        seen.append(made)
        if self._built.analysed == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(corpora_build._Build, "_take", taken)
    with pytest.raises(KeyboardInterrupt):
        build(folder, tmp_path / "c")
    monkeypatch.undo()
    assert len(open_corpus(tmp_path / "c").files) == 2
    assert build(folder, tmp_path / "c").unchanged == 2


# Faults of the world


def test_what_cannot_be_read_is_listed_and_the_rest_is_used(folder, tmp_path, rng):
    (folder / "no sound.wav").write_text("nothing of the kind")
    put(folder / "loud.wav", np.full(5000, 1e8, np.float32), subtype="FLOAT")
    put(folder / "nan.wav", np.full(5000, np.nan, np.float32), subtype="FLOAT")
    (folder / "cut.wav").write_bytes((folder / "rain" / "a.wav").read_bytes()[:9000])
    put(folder / "silent.wav", np.zeros(5000))
    built = build(folder, tmp_path / "c")
    assert built.analysed == 6
    assert {Path(path).name for path in built.unreadable} == {"no sound.wav", "loud.wav", "nan.wav"}
    assert "not audio of a known format" in built.unreadable[str(folder / "no sound.wav")]
    assert "it peaks at 1e+08" in built.unreadable[str(folder / "loud.wav")]
    assert "NaN" in built.unreadable[str(folder / "nan.wav")]
    assert [said for said in built.warnings if "cut.wav: truncated: the header promises" in said]
    assert {one.path.rpartition("/")[2] for one in list_files(tmp_path / "c") if one.fault} == {
        "no sound.wav",
        "loud.wav",
        "nan.wav",
    }
    assert len(open_corpus(tmp_path / "c").files) == 6
    info = corpus_info(tmp_path / "c")
    assert (info.n_files, info.n_unreadable) == (6, 3)
    # Mended, it is used.
    put(folder / "nan.wav", noise(rng))
    assert build(folder, tmp_path / "c").analysed == 1


def test_a_file_that_cannot_be_read_any_more_loses_its_old_sound(folder, corpus):
    (folder / "d.ogg").write_bytes(b"broken")
    assert len(build(folder, corpus).unreadable) == 1
    assert len(open_corpus(corpus).files) == 3
    assert verify_corpus(corpus).damaged == ()


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_changes_while_it_is_read(folder, tmp_path, rng, monkeypatch, times):
    monkeypatch.setattr(segments, "SEGMENT_S", 1.0)
    pieces, changed = workers.pieces, []
    after = noise(rng, 2.5)

    def changing(stream):
        for piece in pieces(stream):
            yield piece
            if stream.path.name == "d.ogg" and piece.part == 0 and len(changed) < times:
                changed.append(1)
                put(folder / "d.ogg", after, format="WAV", subtype="FLOAT")
                os.utime(folder / "d.ogg", ns=(9, 9 + len(changed)))

    monkeypatch.setattr(workers, "pieces", changing)
    built = build(folder, tmp_path / "c")
    if times == 2:
        assert "it changes while it is read" in built.unreadable[str(folder / "d.ogg")]
        assert built.analysed == 3
    else:
        assert built.analysed == 4
        (one,) = (one for one in list_files(tmp_path / "c") if one.path.endswith("d.ogg"))
        assert one.duration_s == pytest.approx(2.5)
    assert verify_corpus(tmp_path / "c").damaged == ()


@pytest.mark.parametrize("half", ["loud", "no audio", "loud at its end"])
def test_a_file_that_cannot_be_used_half_written_is_read_when_it_is_whole(folder, tmp_path, rng, monkeypatch, half):
    monkeypatch.setattr(segments, "SEGMENT_S", 0.5)
    pieces, after = workers.pieces, noise(rng, 1.5)
    before = np.full(SR * 2, 1e8 if half == "loud" else 0.1, np.float32)
    before[-5:] = 1e8
    put(folder / "d.ogg", before, format="WAV", subtype="FLOAT")
    written = []

    def finished():
        written.append(1)
        put(folder / "d.ogg", after, format="WAV", subtype="FLOAT")
        os.utime(folder / "d.ogg", ns=(9, 9))

    def changing(stream):
        first = stream.path.name == "d.ogg" and not written
        if first and half == "no audio":
            finished()
            raise AudioFileError("cannot read d.ogg: it is not audio")
        yield from pieces(stream)
        if first:
            # What came of it is analysed by now.
            time.sleep(0.3)
            finished()

    monkeypatch.setattr(workers, "pieces", changing)
    built = build(folder, tmp_path / "c")
    assert (built.analysed, built.unreadable) == (4, {})
    (one,) = (one for one in list_files(tmp_path / "c") if one.path.endswith("d.ogg"))
    assert (one.fault, one.duration_s) == ("", pytest.approx(1.5))
    assert verify_corpus(tmp_path / "c").damaged == ()


def test_a_file_one_of_whose_segments_cannot_be_used_is_unreadable(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_S", 0.5)
    samples = np.full(SR * 3, 0.1, np.float32)
    samples[SR : SR + 5] = 1e8
    put(folder / "loud.wav", samples, subtype="FLOAT")
    *_, last = build_corpus([folder], tmp_path / "c", sr=SR)
    assert list(last.built.unreadable) == [str(folder / "loud.wav")]
    assert (last.done_files, last.built.analysed) == (5, 4)
    assert len(open_corpus(tmp_path / "c").files) == 4
    assert verify_corpus(tmp_path / "c").damaged == ()


@on_posix
def test_names_need_not_be_text(tmp_path, rng, capsys):
    names = [b"caf\xe9.wav", "日本.wav".encode(), b"new\nline.wav", b"quote'\".wav", b"%41?#.wav", b" .wav"]
    (tmp_path / "s").mkdir()
    for name in names:
        put(tmp_path / "plain.wav", noise(rng, 0.1)).rename(tmp_path / "s" / os.fsdecode(name))
    corpus = tmp_path / os.fsdecode(b"c\xe9?#%41\n")
    assert build(tmp_path / "s", corpus).analysed == len(names)
    assert {os.fsencode(one.path.rpartition("/")[2]) for one in list_files(corpus)} == set(names)
    assert {os.fsencode(one.place.name) for one in open_corpus(corpus).files} == set(names)
    assert build(tmp_path / "s", corpus).unchanged == len(names)
    assert len(open_corpus(corpus, Filters(include=(os.fsdecode(b"caf\xe9*"),))).files) == 1


@on_posix
def test_faults_tags_and_licences_need_not_be_text(tmp_path, rng):
    folder, strange = tmp_path / "s", os.fsdecode(b"x\xff")
    put(folder / "sub" / "a.wav", noise(rng, 0.1))
    (folder / f"{strange}.wav").write_bytes(b"nothing")
    put(tmp_path / "plain.wav", noise(rng, 0.5))
    (folder / f"cut {strange}.wav").write_bytes((tmp_path / "plain.wav").read_bytes()[:9000])
    # One that no name of a file on POSIX has, too.
    for licence in (strange, "\ud800 \udcff\0é"):
        build(folder, tmp_path / "c", tags=(strange,), licence=licence)
        told = {one.place.name: one for one in list_files(tmp_path / "c")}
        assert f"cannot read {folder / strange}.wav: it is not audio" in told[f"{strange}.wav"].fault
        assert told["a.wav"].tags == ("sub", strange)
        assert told["a.wav"].licence == licence
        assert "truncated" in told[f"cut {strange}.wav"].warnings[0]
    assert open_corpus(tmp_path / "c", Filters(tags=(strange,))).corpus.n_atoms


def test_corpus_and_sounds_move_together(folder, corpus, tmp_path, idle):
    before = content(corpus)
    (tmp_path / "elsewhere").mkdir()
    folder.rename(tmp_path / "elsewhere" / folder.name)
    corpus.rename(tmp_path / "elsewhere" / corpus.name)
    shelf = open_corpus(tmp_path / "elsewhere" / corpus.name)
    assert shelf.missing == ()
    same(content(tmp_path / "elsewhere" / corpus.name), before)
    assert build(tmp_path / "elsewhere" / folder.name, tmp_path / "elsewhere" / corpus.name).unchanged == 4


def test_a_corpus_without_its_sounds_still_sounds(folder, corpus):
    before = content(corpus)
    shutil.rmtree(folder)
    shelf = open_corpus(corpus)
    assert len(shelf.missing) == 4
    (said,) = shelf.warnings
    assert said.startswith(f"4 files of {corpus} are no longer where they were, the first ")
    same(content(corpus), before)


@pytest.mark.parametrize("at", [0, 1, 5, 9])
def test_a_full_disk_keeps_what_was_done(folder, tmp_path, monkeypatch, small_commits, at):
    appended, calls = writer.Writer.append, []

    def full(self, kind, array):
        calls.append(kind)
        if len(calls) > at:
            raise store.full(self.folder) from OSError(errno.ENOSPC, "No space left on device")
        return appended(self, kind, array)

    monkeypatch.setattr(writer.Writer, "append", full)
    with pytest.raises(CorpusError, match=r"no space left on its disk.*run the same command again"):
        build(folder, tmp_path / "c")
    monkeypatch.undo()
    if at < 4:
        with pytest.raises(CorpusError, match="holds no recording"):
            open_corpus(tmp_path / "c")
    else:
        assert len(open_corpus(tmp_path / "c").files) == at // 4
    assert verify_corpus(tmp_path / "c").damaged == ()
    built = build(folder, tmp_path / "c")
    assert (built.analysed, built.unchanged) == (4 - at // 4, at // 4)
    build(folder, tmp_path / "afresh")
    same(content(tmp_path / "c"), content(tmp_path / "afresh"))


FULL = """
import resource, sys
from smalti.corpora.build import build_corpus
from smalti.errors import CorpusError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    for _ in build_corpus([sys.argv[1]], sys.argv[2], sr=22050):
        pass
except CorpusError as error:
    print(error)
"""


@on_posix
def test_a_disk_that_takes_no_more(folder, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", FULL, folder, tmp_path / "c"], capture_output=True, text=True, check=True
    )
    assert "no space left on its disk" in run.stdout
    assert verify_corpus(tmp_path / "c").damaged == ()
    assert build(folder, tmp_path / "c").analysed > 0
    assert len(open_corpus(tmp_path / "c").files) == 4


def test_of_two_builds_one_waits(folder, tmp_path):
    first = build_corpus([folder], tmp_path / "c", sr=SR)
    assert [next(first).stage, next(first).stage] == ["looking", "analysing"]
    second = build_corpus([folder], tmp_path / "c", sr=SR)
    assert [next(second).stage for _ in range(3)] == ["looking", "waiting", "waiting"]
    *_, last = first
    assert last.built.analysed == 4
    *_, last = second
    assert (last.built.analysed, last.built.unchanged) == (0, 4)


def test_a_reader_is_not_in_the_way_of_a_build_nor_the_other_way_round(folder, corpus, rng, monkeypatch):
    monkeypatch.setattr(corpora_build, "MOST_HOLES", 0.01)
    shelf = open_corpus(corpus)
    before = content(corpus)[2]
    put(folder / "z.wav", noise(rng))
    (folder / "d.ogg").unlink()
    steps = build_corpus([folder], corpus)
    for step in steps:
        if step.stage != "done":
            content(corpus)
    assert (corpus / "looks-2.f16").exists()
    assert not (corpus / "looks-1.f16").exists()
    # What was opened before is still what it was.
    assert [recording.tobytes() for recording in shelf.corpus.recordings] == before


@pytest.mark.parametrize("at", ["tables", "sizes", *corpora_tables.ARRAYS])
@pytest.mark.parametrize("look", [content, verify_corpus, list_files, corpus_info])
def test_a_corpus_that_is_compacted_between_two_looks_at_it_is_sound(corpus, monkeypatch, at, look):
    def then(name, owner):
        """After the first call, somebody else compacts the corpus."""
        function = getattr(owner, name)

        def called(*arguments):
            if (mapping := function is mapped) and arguments[1] != at:
                return function(*arguments)
            out = None if mapping else function(*arguments)
            monkeypatch.setattr(owner, name, function)
            remove_files(corpus, ["d.ogg"])
            return function(*arguments) if mapping else out

        monkeypatch.setattr(owner, name, called)

    mapped = store.CorpusTables.mapped
    if at == "tables":
        then("_snapshot", store)
    elif at == "sizes":
        then("_check_sizes", store)
    else:
        then("mapped", store.CorpusTables)
    look(corpus)
    assert (corpus / "looks-2.f16").exists()
    assert not (corpus / "looks-1.f16").exists()


def test_holes_are_closed(folder, corpus, monkeypatch):
    before = content(corpus, Filters(exclude=("d.ogg",)))
    size = (corpus / "looks-1.f16").stat().st_size
    assert [Path(path).name for path in remove_files(corpus, ["d.ogg"])] == ["d.ogg"]
    same(content(corpus), before)
    names = sorted(file.name for file in corpus.iterdir())
    assert names == ["corpus.sqlite", "keys-2.f16", "levels-2.f32", "lock.sqlite", "looks-2.f16", "samples-2.i16"]
    assert (corpus / "looks-2.f16").stat().st_size < size
    assert corpus_info(corpus).holes == 0
    assert verify_corpus(corpus).damaged == ()
    with pytest.raises(CorpusError, match=r"no file of .* meets 'd.ogg'"):
        remove_files(corpus, ["d.ogg"])


def test_a_full_disk_leaves_holes(folder, corpus, monkeypatch):
    def full(self):
        raise store.full(self.folder)
        yield

    monkeypatch.setattr(writer.Writer, "compact", full)
    remove_files(corpus, ["d.ogg"])
    assert corpus_info(corpus).holes > 0.4
    assert verify_corpus(corpus).damaged == ()
    assert len(open_corpus(corpus).files) == 3


# Damage


@pytest.mark.parametrize("kind", corpora_tables.ARRAYS)
def test_an_array_that_is_cut_short_or_missing_is_refused(corpus, kind):
    (file,) = corpus.glob(f"{kind}-1.*")
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - 1)
    for refused in (open_corpus, verify_corpus, list_files, corpus_info):
        with pytest.raises(CorpusError, match=rf"{file.name} is damaged \(it has \d+ bytes of \d+\); restore"):
            refused(corpus)
    file.unlink()
    with pytest.raises(CorpusError, match=rf"{file.name} is damaged \(it is not there\)"):
        open_corpus(corpus)


@pytest.mark.parametrize("kind", corpora_tables.ARRAYS)
def test_a_flipped_bit_is_found(folder, corpus, kind, rng):
    (file,) = corpus.glob(f"{kind}-1.*")
    data = bytearray(file.read_bytes())
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    file.write_bytes(data)
    (said,) = verify_corpus(corpus).damaged
    assert f"{file.name} is damaged where it holds " in said
    if kind in ("keys", "levels"):
        with pytest.raises(CorpusError, match=f"{file.name} is damaged where it holds"):
            open_corpus(corpus)


def test_flipped_bits_in_the_tables_are_never_believed(folder, corpus, rng):
    file = corpus / "corpus.sqlite"
    data, before = file.read_bytes(), content(corpus)
    # The rest is space that holds nothing.
    used, refused = np.flatnonzero(np.frombuffer(data, np.uint8)), 0
    for _ in range(100):
        flipped = bytearray(data)
        flipped[int(rng.choice(used))] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        try:
            same(content(corpus), before)
        except CorpusError as error:
            refused += str(corpus) in str(error)
    assert refused > 80


@pytest.mark.parametrize("n", [0, 1, 100, 4096, 5000, 20000])
def test_tables_that_are_cut_short_are_refused(corpus, n):
    data = (corpus / "corpus.sqlite").read_bytes()
    (corpus / "corpus.sqlite").write_bytes(data[:n])
    with pytest.raises(CorpusError, match=r"c\.corpus"):
        open_corpus(corpus)


def test_what_is_no_corpus_is_refused(tmp_path, folder, corpus):
    (tmp_path / "file.corpus").write_bytes(b"")
    (tmp_path / "empty.corpus").mkdir()
    shutil.copytree(corpus, tmp_path / "garbage.corpus")
    (tmp_path / "garbage.corpus" / "corpus.sqlite").write_bytes(b"garbage" * 999)
    shutil.copytree(corpus, tmp_path / "tables.corpus")
    (tmp_path / "tables.corpus" / "corpus.sqlite").unlink()
    (tmp_path / "other.corpus").mkdir()
    with closing(sqlite3.connect(tmp_path / "other.corpus" / "corpus.sqlite")) as tables:
        tables.execute("CREATE TABLE about (x)")
    for name, match in [
        ("none", r"there is no corpus .*none\.corpus; build it with"),
        ("file", r"file\.corpus is no corpus, but a file"),
        ("empty", r"empty\.corpus is no corpus: it has no corpus\.sqlite"),
        ("garbage", r"garbage\.corpus/corpus\.sqlite is damaged \(file is not a database\)"),
        ("tables", r"tables\.corpus/corpus\.sqlite is damaged \(it is not there\)"),
        ("other", r"corpus\.sqlite is damaged \(it is no table of smalti's\)"),
    ]:
        for refused in (open_corpus, verify_corpus, list_files, corpus_info):
            with pytest.raises(CorpusError, match=match):
                refused(tmp_path / name)
    for name in ("file", "garbage", "tables", "other"):
        with pytest.raises(CorpusError):
            build(folder, tmp_path / name)
    assert build(folder, tmp_path / "empty").analysed == 4
    (tmp_path / "full.corpus").mkdir()
    (tmp_path / "full.corpus" / "diary.txt").write_text("mine")
    with pytest.raises(CorpusError, match=r"is no corpus and not empty: it holds diary\.txt"):
        build(folder, tmp_path / "full")


@pytest.mark.parametrize(
    ("version", "match"),
    [(99, "made by a newer smalti .format 99, this one reads 2.; update smalti"), (1, "old format")],
)
def test_another_format_is_refused(folder, corpus, version, match):
    with closing(sqlite3.connect(corpus / "corpus.sqlite")) as tables:
        tables.execute(f"PRAGMA user_version = {version}")
    for refused in (open_corpus, verify_corpus, list_files, corpus_info, lambda name: build(folder, name)):
        with pytest.raises(CorpusError, match=match):
            refused(corpus)


def test_another_rate_is_refused(folder, corpus):
    with pytest.raises(CorpusError, match="is at 22050 Hz; leave --sr out, or build another corpus at 44100 Hz"):
        build(folder, corpus, sr=44100)
    assert build(folder, corpus, sr=None).unchanged == 4


def test_looking_changes_nothing(corpus):
    def state():
        return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in corpus.iterdir()}

    before = state()
    (corpus / "lock.sqlite").unlink()
    del before["lock.sqlite"]
    for look in (content, verify_corpus, list_files, corpus_info):
        look(corpus)
    assert state() == before


@as_user
def test_read_only(folder, corpus):
    before = content(corpus)
    for file in corpus.iterdir():
        file.chmod(0o444)
    corpus.chmod(0o555)
    same(content(corpus), before)
    assert verify_corpus(corpus).damaged == ()
    with pytest.raises(CorpusError, match="permissions"):
        build(folder, corpus)
    corpus.chmod(0o755)


# Many


def test_many_tiny_files(tmp_path, rng):
    for n in range(300):
        put(tmp_path / "s" / f"{n % 7}" / f"{n}.wav", noise(rng, 0.01))
    assert build(tmp_path / "s", tmp_path / "c").analysed == 300
    shelf = open_corpus(tmp_path / "c", Filters(include=("3",)))
    assert len(shelf.files) == len(range(3, 300, 7))
    assert verify_corpus(tmp_path / "c").damaged == ()


# At use


def test_filters_weights_and_limits(folder, corpus):
    def names(**filters):
        return [Path(one.path).name for one in open_corpus(corpus, Filters(**filters)).files]

    assert names() == ["d.ogg", "a.wav", "b.flac", "c.wav"]
    assert names(include=("rain",)) == ["a.wav", "b.flac"]
    assert names(include=("RAIN/light", "*.ogg")) == ["d.ogg", "b.flac"]
    assert names(exclude=("tag:rain",)) == ["d.ogg", "c.wav"]
    assert names(tags=("light", "Rain")) == ["b.flac"]
    assert names(shortest_s=0.5, longest_s=1.5) == ["a.wav", "c.wav"]
    assert names(quietest_lufs=-12) == ["d.ogg"]
    with pytest.raises(CorpusError, match=r"passes --include snow: its 4 files last 0\.4 to 2\.0 s.*light, rain"):
        names(include=("snow",))
    shelf = open_corpus(corpus, weights={"rain": 2, "light": 0.25, "tag:wind": 3}, limits={"rain": 0.2})
    np.testing.assert_array_equal(shelf.weights, [1, 2, 0.5, 3])
    (limit,) = shelf.limits
    assert (limit.pattern, limit.share, list(limit.recordings)) == ("rain", 0.2, [False, True, True, False])
    with pytest.raises(ValueError, match="weights has 'snow', which no recording in use meets"):
        open_corpus(corpus, weights={"snow": 1})
    # A corpus of some files only has atoms of these, as they were.
    part, whole = open_corpus(corpus, Filters(include=("rain",))).corpus, shelf.corpus
    own = np.isin(whole.recording_ids, [1, 2])
    np.testing.assert_array_equal(part.rows, whole.rows[own])
    np.testing.assert_array_equal(part.descriptors, whole.descriptors[own])
    np.testing.assert_array_equal(part.recordings[1], whole.recordings[2])


def test_tags_and_licences(folder, tmp_path):
    put(folder / "said.flac", np.zeros(999))
    with soundfile.SoundFile(folder / "said.flac", "w", SR, 1) as file:
        file.copyright, file.genre = "me, 2026", "Ambient"
        file.write(np.full(999, 0.1))
    build(folder, tmp_path / "c", tags=("field",))
    told = {Path(one.path).name: one for one in list_files(tmp_path / "c")}
    assert told["said.flac"].tags == ("Ambient", "field")
    assert told["said.flac"].licence == "me, 2026"
    assert told["b.flac"].tags == ("rain", "light", "field")
    build(folder, tmp_path / "c", tags=("wet",), licence="CC0")
    told = {Path(one.path).name: one for one in list_files(tmp_path / "c")}
    assert told["b.flac"].tags == ("rain", "light", "field", "wet")
    info = corpus_info(tmp_path / "c")
    assert info.licences == {"CC0": 4, "me, 2026": 1}
    assert info.tags["rain"] == 2


def test_the_genre_of_a_file_stays_its_tag_wherever_it_is_built_from(folder, tmp_path):
    def tags():
        return next(one.tags for one in list_files(tmp_path / "c") if one.path.endswith("said.flac"))

    with soundfile.SoundFile(folder / "rain" / "light" / "said.flac", "w", SR, 1) as file:
        file.genre = "Ambient"
        file.write(np.full(999, 0.1))
    build(folder / "rain", tmp_path / "c")
    assert tags() == ("light", "Ambient")
    # From a wider folder, a narrower one, after a touch, and elsewhere.
    build(folder, tmp_path / "c", tags=("wet",))
    assert tags() == ("rain", "light", "Ambient", "wet")
    build(folder / "rain" / "light", tmp_path / "c")
    assert tags() == ("rain", "light", "Ambient", "wet")
    os.utime(folder / "rain" / "light" / "said.flac", ns=(5, 5))
    build(folder, tmp_path / "c")
    assert tags() == ("rain", "light", "Ambient", "wet")
    (folder / "rain" / "light" / "said.flac").rename(folder / "wind" / "said.flac")
    build(folder, tmp_path / "c")
    assert tags() == ("wind", "Ambient", "wet")


def index_of(keys):
    """What tests search with: something that says what it was made of."""
    return b"index of %d" % len(keys)


def test_an_index_is_used_only_if_it_is_whole(folder, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(corpora_build, "EXACT_BELOW", 10)
    name = tmp_path / "c.corpus"
    build(folder, name, index=index_of)
    assert open_corpus(name).index.read() == b"index of %d" % len(open_corpus(name).corpus.rows)
    put(folder / "new.wav", noise(rng))
    build(folder, name)
    assert open_corpus(name).index is None
    build(folder, name, index=index_of)
    index = open_corpus(name).index
    assert index.read() == b"index of %d" % len(open_corpus(name).corpus.rows)
    (name / "index-1.bin").write_bytes(b"index of something")
    assert index.read() is None
    (name / "index-1.bin").unlink()
    assert open_corpus(name).index.read() is None
    build(folder, name, index=index_of)
    assert open_corpus(name).index.read() is not None


def test_an_index_is_made_again_of_what_is_left(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(corpora_build, "EXACT_BELOW", 10)
    name = tmp_path / "c.corpus"
    build(folder, name, index=index_of)
    before = (name / "index-1.bin").read_bytes()
    remove_files(name, ["d.ogg"], index=index_of)
    shelf = open_corpus(name)
    assert shelf.index.path == name / "index-2.bin"
    assert shelf.index.read() == b"index of %d" % shelf.corpus.n_atoms != before
    # What leaves few holes leaves the index, too.
    remove_files(name, ["b.flac"], index=None)
    assert open_corpus(name).index == shelf.index


def test_a_corpus_has_an_index_where_it_is_searched_with_one(folder, tmp_path, monkeypatch):
    assert corpora_build.EXACT_BELOW == nearest.EXACT_BELOW
    build(folder, tmp_path / "c")
    n_frames = corpus_info(tmp_path / "c").n_frames
    for below, stages in ((n_frames, []), (n_frames - 1, ["indexing"])):
        monkeypatch.setattr(corpora_build, "EXACT_BELOW", below)
        steps = list(build_corpus([folder], tmp_path / "c", sr=SR, index=index_of))
        assert [step.stage for step in steps if step.stage not in ("looking", "analysing", "done")] == stages
        assert (open_corpus(tmp_path / "c").index is None) == (not stages)


def test_progress_goes_on_within_a_file_and_ends_at_all(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_S", 0.25)
    steps = list(build_corpus([folder], tmp_path / "c", sr=SR))
    total = sum(path.stat().st_size for path in folder.rglob("*.*"))
    done = [step.done_bytes for step in steps]
    assert done == sorted(done)
    assert len(set(done)) > 8
    assert (steps[-1].done_bytes, steps[-1].total_bytes, steps[-1].done_files) == (total, total, 4)
    assert steps[-1].done_s == pytest.approx(4.2, abs=0.1)
    assert steps[-2].total_s == pytest.approx(steps[-1].done_s)
