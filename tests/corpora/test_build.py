"""A build analyses only what has changed, keeps what it has done, and makes the search index."""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from kit_corpora import SR, build, content, noise, on_posix, put, same

import smalti
from smalti.corpora import build as corpora_build
from smalti.corpora import segments, store, workers, writer
from smalti.corpora.build import build_corpus, remove_files
from smalti.corpora.query import corpus_info, list_files, open_corpus, verify_corpus
from smalti.dsp.loudness import integrated_loudness
from smalti.dsp.stft import StftParams
from smalti.errors import AudioFileError, CorpusError
from smalti.grains.corpus import analyse, corpus_of
from smalti.grains.descriptors import MIDDLE_WINDOW_S
from smalti.grains.filters import Filters
from smalti.grains.nearest import EXACT_BELOW, unpacked
from smalti.io.sound_read import read_audio, resample
from sounds import cleaned


def test_a_corpus_holds_the_analysis_of_its_sound(folder, corpus):
    opened = open_corpus(corpus)
    files = sorted(folder.rglob("*.*"))
    assert [file.place for file in opened.files] == files
    assert opened.warnings == ()
    wanted = []
    for path, recording, file in zip(files, opened.corpus.recordings, opened.files, strict=True):
        read = read_audio(path)
        clean = cleaned(resample(read.samples, read.sr, SR), SR)
        assert recording.shape == clean.shape
        # The error is half a 16-bit code; the loudest sample has the largest code.
        np.testing.assert_allclose(recording, clean, atol=0.51 * np.abs(clean).max() / 32767)
        assert file.sha256 == read.sha256
        assert (file.sr, file.channels) == (read.sr, read.channels)
        assert file.duration_s == pytest.approx(read.duration_s, abs=1e-4)
        assert file.loudness_lufs == pytest.approx(integrated_loudness(clean, SR), abs=0.01)
        wanted.append(recording)
    params = StftParams.from_seconds(MIDDLE_WINDOW_S, 512 / 22050, SR)
    memory = corpus_of(wanted, SR, params=params, names=[str(path) for path in files])
    for name in ("recording_ids", "centres", "cancelled", "scales", "levels", "descriptors", "files"):
        np.testing.assert_array_equal(getattr(opened.corpus, name), getattr(memory, name))
    np.testing.assert_array_equal(opened.corpus.features[opened.corpus.rows], memory.features)
    assert (opened.corpus.params, opened.corpus.channels) == (memory.params, 2)
    assert opened.corpus.names == memory.names


def test_a_second_build_analyses_nothing(folder, corpus, idle):
    before = content(corpus)
    built = build(folder, corpus)
    assert (built.analysed, built.unchanged, built.removed) == (0, 4, 0)
    same(content(corpus), before)


def test_a_file_is_not_analysed_again_if_only_its_time_changed(folder, corpus, idle):
    os.utime(folder / "d.ogg", ns=(5, 5))
    assert [path.name for path in open_corpus(corpus).changed] == ["d.ogg"]
    built = build(folder, corpus)
    assert (built.analysed, built.unchanged) == (0, 4)
    assert open_corpus(corpus).changed == ()


def test_a_file_that_has_moved_is_recognised(folder, corpus, idle):
    (folder / "rain" / "light" / "b.flac").rename(folder / "wind" / "e.flac")
    opened = open_corpus(corpus)
    assert opened.missing == (folder / "rain" / "light" / "b.flac",)
    assert opened.warnings == (f"{opened.missing[0]} is no longer where it was; its sound is kept in {corpus}",)
    built = build(folder, corpus)
    assert (built.analysed, built.moved, built.removed) == (0, 1, 0)
    (file,) = (file for file in list_files(corpus) if file.path.endswith("e.flac"))
    assert file.tags == ("wind",)
    assert open_corpus(corpus).missing == ()


def test_a_file_that_took_the_name_of_another_is_recognised(folder, corpus, idle):
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


def test_a_stopped_build_continues_and_gives_the_same_corpus(folder, tmp_path, small_commits):
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


def test_segments_of_an_unfinished_file_leave_no_hole(tmp_path, rng, monkeypatch):
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


def test_ctrl_c_keeps_complete_files(folder, tmp_path, monkeypatch):
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


@pytest.mark.parametrize("at", [0, 1, 5, 9])
def test_a_build_on_a_full_disk_keeps_finished_files(folder, tmp_path, monkeypatch, small_commits, at):
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
def test_a_build_stopped_by_a_file_size_limit_can_be_continued(folder, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", FULL, folder, tmp_path / "c"], capture_output=True, text=True, check=True
    )
    assert "no space left on its disk" in run.stdout
    assert verify_corpus(tmp_path / "c").damaged == ()
    assert build(folder, tmp_path / "c").analysed > 0
    assert len(open_corpus(tmp_path / "c").files) == 4


def test_many_tiny_files(tmp_path, rng):
    for n in range(300):
        put(tmp_path / "s" / f"{n % 7}" / f"{n}.wav", noise(rng, 0.01))
    assert build(tmp_path / "s", tmp_path / "c").analysed == 300
    opened = open_corpus(tmp_path / "c", Filters(include=("3",)))
    assert len(opened.files) == len(range(3, 300, 7))
    assert verify_corpus(tmp_path / "c").damaged == ()


def test_tags_and_licences(folder, tmp_path):
    put(folder / "said.flac", np.zeros(999))
    with soundfile.SoundFile(folder / "said.flac", "w", SR, 1) as file:
        file.copyright, file.genre = "me, 2026", "Ambient"
        file.write(np.full(999, 0.1))
    build(folder, tmp_path / "c", tags=("field",))
    listed = {Path(file.path).name: file for file in list_files(tmp_path / "c")}
    assert listed["said.flac"].tags == ("Ambient", "field")
    assert listed["said.flac"].licence == "me, 2026"
    assert listed["b.flac"].tags == ("rain", "light", "field")
    build(folder, tmp_path / "c", tags=("wet",), licence="CC0")
    listed = {Path(file.path).name: file for file in list_files(tmp_path / "c")}
    assert listed["b.flac"].tags == ("rain", "light", "field", "wet")
    info = corpus_info(tmp_path / "c")
    assert info.licences == {"CC0": 4, "me, 2026": 1}
    assert info.tags["rain"] == 2


def test_a_file_keeps_its_genre_as_a_tag_from_any_folder(folder, tmp_path):
    def tags():
        return next(file.tags for file in list_files(tmp_path / "c") if file.path.endswith("said.flac"))

    with soundfile.SoundFile(folder / "rain" / "light" / "said.flac", "w", SR, 1) as file:
        file.genre = "Ambient"
        file.write(np.full(999, 0.1))
    build(folder / "rain", tmp_path / "c")
    assert tags() == ("light", "Ambient")
    # The next builds are from a wider folder, from a narrower one, after a touch, and after a move.
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


def n_indexed(opened):
    """How many frames the search index of a corpus covers."""
    return unpacked(np.frombuffer(opened.index.read(), np.uint8)).ntotal


@pytest.fixture
def small_indexes(monkeypatch):
    """Corpora of a few frames get a search index, too."""
    monkeypatch.setattr(corpora_build, "EXACT_BELOW", 10)


def test_python_and_the_command_line_leave_the_same_files(folder, tmp_path, run, monkeypatch, small_indexes):
    # With several threads, files are stored in the order in which they happen to be finished.
    monkeypatch.setattr(workers, "n_cores", lambda: 1)
    options = ("--sr", SR, "--tag", "field", "--licence", "CC0")
    assert run("corpus", "build", folder, "-o", tmp_path / "a", *options).code == 0
    for _ in smalti.build_corpus([folder], tmp_path / "b", sr=SR, tags=("field",), licence="CC0"):
        pass
    by_command, by_python = (
        {file.name: file.read_bytes() for file in (tmp_path / f"{name}.corpus").iterdir()} for name in "ab"
    )
    assert "index-1.bin" in by_command
    assert by_python == by_command


def test_an_index_is_used_only_if_it_is_complete_and_intact(folder, tmp_path, rng, monkeypatch, small_indexes):
    name = tmp_path / "c.corpus"
    build(folder, name)
    assert n_indexed(open_corpus(name)) == open_corpus(name).corpus.n_atoms
    put(folder / "new.wav", noise(rng))
    with monkeypatch.context() as without:
        # Without the extra, a build makes no index, and the one that is there does not cover the new file.
        without.setitem(sys.modules, "faiss", None)
        build(folder, name)
    assert open_corpus(name).index is None
    build(folder, name)
    opened = open_corpus(name)
    assert n_indexed(opened) == opened.corpus.n_atoms
    (name / "index-1.bin").write_bytes(b"index of something")
    assert opened.index.read() is None
    (name / "index-1.bin").unlink()
    assert open_corpus(name).index.read() is None
    build(folder, name)
    assert n_indexed(open_corpus(name)) == opened.corpus.n_atoms


def test_an_index_is_rebuilt_after_files_are_removed(folder, tmp_path, small_indexes):
    name = tmp_path / "c.corpus"
    build(folder, name)
    before = n_indexed(open_corpus(name))
    remove_files(name, ["d.ogg"])
    opened = open_corpus(name)
    assert opened.index.path == name / "index-2.bin"
    assert n_indexed(opened) == opened.corpus.n_atoms < before
    # A removal that leaves only small holes leaves the index as it is.
    remove_files(name, ["b.flac"])
    assert open_corpus(name).index == opened.index


def test_only_a_corpus_large_enough_to_need_an_index_gets_one(folder, tmp_path, monkeypatch):
    assert corpora_build.EXACT_BELOW == EXACT_BELOW
    build(folder, tmp_path / "c")
    n_frames = corpus_info(tmp_path / "c").n_frames
    for below, stages in ((n_frames, []), (n_frames - 1, ["indexing"])):
        monkeypatch.setattr(corpora_build, "EXACT_BELOW", below)
        steps = list(build_corpus([folder], tmp_path / "c", sr=SR))
        assert [step.stage for step in steps if step.stage not in ("looking", "analysing", "done")] == stages
        assert (open_corpus(tmp_path / "c").index is None) == (not stages)


def test_progress_advances_within_a_file_and_ends_at_the_total(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_S", 0.25)
    steps = list(build_corpus([folder], tmp_path / "c", sr=SR))
    total = sum(path.stat().st_size for path in folder.rglob("*.*"))
    done = [step.done_bytes for step in steps]
    assert done == sorted(done)
    assert len(set(done)) > 8
    assert (steps[-1].done_bytes, steps[-1].total_bytes, steps[-1].done_files) == (total, total, 4)
    assert steps[-1].done_s == pytest.approx(4.2, abs=0.1)
    assert steps[-2].total_s == pytest.approx(steps[-1].done_s)
