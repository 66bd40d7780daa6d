"""A corpus is read whole or refused: damage, other formats, and builds that go on meanwhile."""

import os
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from kit_corpora import SR, build, content, same

from smalti.corpora import store
from smalti.corpora.build import remove_files
from smalti.corpora.query import corpus_info, list_files, open_corpus, verify_corpus
from smalti.corpora.tables import ARRAYS, About
from smalti.errors import CorpusError

as_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not stop the superuser"
)


def test_half_written_tables_are_read_as_they_were_before(folder, corpus):
    before, size = content(corpus), (corpus / "corpus.sqlite").stat().st_size
    # A kill within a commit leaves new pages in the file, and the old ones in a journal beside it.
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
    # Reading repaired nothing; only a build does that.
    assert {file.name: file.read_bytes() for file in corpus.glob("corpus.sqlite*")} == state
    assert build(folder, corpus).unchanged == 4
    assert [file.name for file in corpus.glob("corpus.sqlite*")] == ["corpus.sqlite"]
    same(content(corpus), before)


@pytest.mark.parametrize("at", ["tables", "sizes", *ARRAYS])
@pytest.mark.parametrize("look", [content, verify_corpus, list_files, corpus_info])
def test_a_corpus_may_be_compacted_while_it_is_read(corpus, monkeypatch, at, look):
    def then(name, owner):
        """Compact the corpus after the first call of a function, as another process might."""
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


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_that_is_cut_short_or_missing_is_refused(corpus, kind):
    file = corpus / About.at(SR).name(kind)
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - 1)
    for refused in (open_corpus, verify_corpus, list_files, corpus_info):
        with pytest.raises(CorpusError, match=rf"{file.name} is damaged \(it has \d+ bytes of \d+\); restore"):
            refused(corpus)
    file.unlink()
    with pytest.raises(CorpusError, match=rf"{file.name} is damaged \(it is not there\)"):
        open_corpus(corpus)


@pytest.mark.parametrize("kind", ARRAYS)
def test_a_flipped_bit_is_found(corpus, kind, rng):
    file = corpus / About.at(SR).name(kind)
    data = bytearray(file.read_bytes())
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    file.write_bytes(data)
    (message,) = verify_corpus(corpus).damaged
    assert f"{file.name} is damaged where it holds " in message
    if kind in ("descriptors", "levels"):
        with pytest.raises(CorpusError, match=f"{file.name} is damaged where it holds"):
            open_corpus(corpus)


def test_flipped_bits_in_the_tables_never_change_the_content(corpus, rng):
    file = corpus / "corpus.sqlite"
    data, before = file.read_bytes(), content(corpus)
    # Zero bytes are mostly unused space, where a flipped bit would change nothing.
    used, messages = np.flatnonzero(np.frombuffer(data, np.uint8)), []
    for _ in range(100):
        flipped = bytearray(data)
        flipped[int(rng.choice(used))] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        try:
            got = content(corpus)
        except CorpusError as error:
            messages.append(str(error))
        else:
            same(got, before)
    assert all(str(corpus) in message for message in messages)


def test_a_changed_value_in_the_tables_is_refused(corpus):
    file = corpus / "corpus.sqlite"
    data = file.read_bytes()
    for listed in list_files(corpus):
        digest = listed.sha256.encode()
        assert digest in data
        file.write_bytes(data.replace(digest, bytes([digest[0] ^ 1]) + digest[1:]))
        with pytest.raises(CorpusError, match=r"corpus\.sqlite is damaged \(a row of files is not what was written\)"):
            list_files(corpus)


@pytest.mark.parametrize("n", [0, 1, 100, 4096, 5000, 20000])
def test_tables_that_are_cut_short_are_refused(corpus, n):
    data = (corpus / "corpus.sqlite").read_bytes()
    (corpus / "corpus.sqlite").write_bytes(data[:n])
    with pytest.raises(CorpusError, match=r"c\.corpus"):
        open_corpus(corpus)


def test_a_path_that_is_no_corpus_is_refused(tmp_path, folder, corpus):
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
        ("other", r"corpus\.sqlite is damaged \(it is not a database that smalti made\)"),
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


def test_reading_changes_nothing(corpus):
    def state():
        return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in corpus.iterdir()}

    before = state()
    (corpus / "lock.sqlite").unlink()
    del before["lock.sqlite"]
    for look in (content, verify_corpus, list_files, corpus_info):
        look(corpus)
    assert state() == before


@as_user
def test_a_read_only_corpus_can_be_read_but_not_built(folder, corpus):
    before = content(corpus)
    for file in corpus.iterdir():
        file.chmod(0o444)
    corpus.chmod(0o555)
    same(content(corpus), before)
    assert verify_corpus(corpus).damaged == ()
    with pytest.raises(CorpusError, match="permissions"):
        build(folder, corpus)
    corpus.chmod(0o755)
