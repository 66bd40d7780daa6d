"""The layout on the disk: its names, and texts of any kind."""

import os
import sqlite3
from contextlib import closing

from kit_corpora import build, noise, on_posix, put

from smalti.corpora.query import list_files, open_corpus
from smalti.grains.filters import Filters


def test_the_names_on_the_disk_are_those_of_format_2(corpus):
    names = sorted(file.name for file in corpus.iterdir())
    assert names == ["corpus.sqlite", "keys-1.f16", "levels-1.f32", "lock.sqlite", "looks-1.f16", "samples-1.i16"]
    with closing(sqlite3.connect(corpus / "corpus.sqlite")) as tables:
        columns = {
            table: [column[1] for column in tables.execute(f"PRAGMA table_info({table})")]
            for table in ("about", "segments")
        }
    assert columns["about"][:5] == ["sr", "bands", "keys", "generation", "rows"]
    assert columns["segments"][-5:] == ["crc_looks", "crc_keys", "crc_levels", "crc_samples", "check"]


@on_posix
def test_file_names_need_not_be_valid_text(tmp_path, rng):
    names = [b"caf\xe9.wav", "日本.wav".encode(), b"new\nline.wav", b"quote'\".wav", b"%41?#.wav", b" .wav"]
    (tmp_path / "s").mkdir()
    for name in names:
        put(tmp_path / "plain.wav", noise(rng, 0.1)).rename(tmp_path / "s" / os.fsdecode(name))
    corpus = tmp_path / os.fsdecode(b"c\xe9?#%41\n")
    assert build(tmp_path / "s", corpus).analysed == len(names)
    assert {os.fsencode(file.path.rpartition("/")[2]) for file in list_files(corpus)} == set(names)
    assert {os.fsencode(file.place.name) for file in open_corpus(corpus).files} == set(names)
    assert build(tmp_path / "s", corpus).unchanged == len(names)
    assert len(open_corpus(corpus, Filters(include=(os.fsdecode(b"caf\xe9*"),))).files) == 1


@on_posix
def test_faults_tags_and_licences_need_not_be_valid_text(tmp_path, rng):
    folder, strange = tmp_path / "s", os.fsdecode(b"x\xff")
    put(folder / "sub" / "a.wav", noise(rng, 0.1))
    (folder / f"{strange}.wav").write_bytes(b"nothing")
    put(tmp_path / "plain.wav", noise(rng, 0.5))
    (folder / f"cut {strange}.wav").write_bytes((tmp_path / "plain.wav").read_bytes()[:9000])
    # The second licence holds characters that no POSIX file name can have.
    for licence in (strange, "\ud800 \udcff\0é"):
        build(folder, tmp_path / "c", tags=(strange,), licence=licence)
        listed = {file.place.name: file for file in list_files(tmp_path / "c")}
        assert f"cannot read {folder / strange}.wav: it is not audio" in listed[f"{strange}.wav"].fault
        assert listed["a.wav"].tags == ("sub", strange)
        assert listed["a.wav"].licence == licence
        assert "truncated" in listed[f"cut {strange}.wav"].warnings[0]
    assert open_corpus(tmp_path / "c", Filters(tags=(strange,))).corpus.n_atoms
