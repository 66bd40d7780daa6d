"""One writer at a time, and each change is made completely or not at all, whenever it is stopped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kit_corpora import SR, build, content, noise, on_posix, put, same

from smalti.corpora import build as corpora_build
from smalti.corpora import store, writer
from smalti.corpora.build import build_corpus, remove_files
from smalti.corpora.query import corpus_info, open_corpus, verify_corpus
from smalti.corpora.writer import Writer
from smalti.errors import CorpusError
from smalti.grains.filters import Filters
from smalti.io.files import hidden_beside

# This program forks, which the test process must not do because it has threads. Each child kills itself at one of the
# calls that its writing thread makes. The corpus it leaves is then opened, and built to its end.
KILLED = """
import os, random, shutil, signal, sys
from pathlib import Path
# A build imports these when it first needs them. Importing them here saves the time in every fork.
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
    corpus = (opened := open_corpus(name)).corpus
    return {
        file.path: (corpus.features[corpus.rows[corpus.recording_ids == n]].tobytes(), corpus.recordings[n].tobytes())
        for n, file in enumerate(opened.files)
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

# Half of the builds begin with a corpus whose files are partly gone, so that they end by compacting it.
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
        messages = ("holds nothing yet", "holds no recording", "is no corpus", "there is no corpus")
        assert not n % 2 and any(message in str(error) for message in messages), error
        refused += 1
    assert forked(lambda: build(name)) == 0
    assert content(name) == wanted
    assert verify_corpus(name).damaged == ()
print(killed, refused, opened)
"""


@on_posix
def test_a_build_killed_at_any_moment_leaves_a_valid_corpus(tmp_path, rng):
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


def test_a_second_build_waits_for_the_first(folder, tmp_path):
    first = build_corpus([folder], tmp_path / "c", sr=SR)
    assert [next(first).stage, next(first).stage] == ["looking", "analysing"]
    second = build_corpus([folder], tmp_path / "c", sr=SR)
    assert [next(second).stage for _ in range(3)] == ["looking", "waiting", "waiting"]
    *_, last = first
    assert last.built.analysed == 4
    *_, last = second
    assert (last.built.analysed, last.built.unchanged) == (0, 4)


def test_readers_and_builds_do_not_disturb_each_other(folder, corpus, rng, monkeypatch):
    monkeypatch.setattr(corpora_build, "MOST_HOLES", 0.01)
    opened = open_corpus(corpus)
    before = content(corpus)[2]
    put(folder / "z.wav", noise(rng))
    (folder / "d.ogg").unlink()
    steps = build_corpus([folder], corpus)
    for step in steps:
        if step.stage != "done":
            content(corpus)
    assert (corpus / "looks-2.f16").exists()
    assert not (corpus / "looks-1.f16").exists()
    # A corpus that was opened before keeps its content.
    assert [recording.tobytes() for recording in opened.corpus.recordings] == before


def test_removing_files_closes_their_holes(corpus):
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


def test_a_full_disk_leaves_holes(corpus, monkeypatch):
    def full(self):
        raise store.full(self.folder)
        yield

    monkeypatch.setattr(writer.Writer, "compact", full)
    remove_files(corpus, ["d.ogg"])
    assert corpus_info(corpus).holes > 0.4
    assert verify_corpus(corpus).damaged == ()
    assert len(open_corpus(corpus).files) == 3


def test_another_rate_is_refused(folder, corpus):
    with pytest.raises(CorpusError, match="is at 22050 Hz; leave --sr out, or build another corpus at 44100 Hz"):
        build(folder, corpus, sr=44100)
    assert build(folder, corpus, sr=None).unchanged == 4


def test_a_change_that_cannot_be_committed_leaves_the_writer_as_it_was(corpus):
    opened = Writer(corpus, None)
    try:
        before = opened.about
        opened._database.execute("PRAGMA query_only = ON")
        with pytest.raises(CorpusError, match="permissions"):
            opened.write_index(b"an index")
        assert opened.about == before
        with pytest.raises(CorpusError, match="permissions"):
            list(opened.compact())
        assert opened.about == before
        # Both changes can be made afterwards.
        opened._database.execute("PRAGMA query_only = OFF")
        list(opened.compact())
        opened.write_index(b"an index")
        assert opened.current().about == opened.about
        assert (opened.about.generation, opened.about.index_bytes) == (2, 8)
    finally:
        opened.close()
    assert verify_corpus(corpus).damaged == ()


def test_a_build_removes_the_part_of_an_index_that_a_killed_build_left(folder, corpus):
    part = hidden_beside(corpus / "index-1.bin")
    part.write_bytes(b"half of an index")
    # A folder of such a name is nothing of the writer's.
    other = hidden_beside(corpus / "stems")
    other.mkdir()
    build(folder, corpus)
    assert not part.exists()
    assert other.is_dir()
