"""Files that cannot be read, or change while they are read."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from kit_corpora import SR, build, noise, put

from smalti.corpora import segments, workers
from smalti.corpora.build import build_corpus
from smalti.corpora.query import corpus_info, list_files, open_corpus, verify_corpus
from smalti.errors import AudioFileError


def test_unreadable_files_are_listed_and_the_others_used(folder, tmp_path, rng):
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
    assert [warning for warning in built.warnings if "cut.wav: truncated: the header promises" in warning]
    assert {file.path.rpartition("/")[2] for file in list_files(tmp_path / "c") if file.fault} == {
        "no sound.wav",
        "loud.wav",
        "nan.wav",
    }
    assert len(open_corpus(tmp_path / "c").files) == 6
    info = corpus_info(tmp_path / "c")
    assert (info.n_files, info.n_unreadable) == (6, 3)
    # A repaired file is used.
    put(folder / "nan.wav", noise(rng))
    assert build(folder, tmp_path / "c").analysed == 1


def test_a_file_that_became_unreadable_loses_its_old_sound(folder, corpus):
    (folder / "d.ogg").write_bytes(b"broken")
    assert len(build(folder, corpus).unreadable) == 1
    assert len(open_corpus(corpus).files) == 3
    assert verify_corpus(corpus).damaged == ()


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_changes_while_it_is_read_is_read_once_more(folder, tmp_path, rng, monkeypatch, times):
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
        (file,) = (file for file in list_files(tmp_path / "c") if file.path.endswith("d.ogg"))
        assert file.duration_s == pytest.approx(2.5)
    assert verify_corpus(tmp_path / "c").damaged == ()


@pytest.mark.parametrize("half", ["loud", "no audio", "loud at its end"])
def test_a_half_written_file_is_read_again_when_it_is_finished(folder, tmp_path, rng, monkeypatch, half):
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
            # This gives the analysing threads time for the half-written sound.
            time.sleep(0.3)
            finished()

    monkeypatch.setattr(workers, "pieces", changing)
    built = build(folder, tmp_path / "c")
    assert (built.analysed, built.unreadable) == (4, {})
    (file,) = (file for file in list_files(tmp_path / "c") if file.path.endswith("d.ogg"))
    assert (file.fault, file.duration_s) == ("", pytest.approx(1.5))
    assert verify_corpus(tmp_path / "c").damaged == ()


def test_a_file_with_one_unusable_segment_is_unreadable(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_S", 0.5)
    samples = np.full(SR * 3, 0.1, np.float32)
    samples[SR : SR + 5] = 1e8
    put(folder / "loud.wav", samples, subtype="FLOAT")
    *_, last = build_corpus([folder], tmp_path / "c", sr=SR)
    assert list(last.built.unreadable) == [str(folder / "loud.wav")]
    assert (last.done_files, last.built.analysed) == (5, 4)
    assert len(open_corpus(tmp_path / "c").files) == 4
    assert verify_corpus(tmp_path / "c").damaged == ()
