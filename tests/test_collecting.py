"""Corpora on a disk: what was analysed comes back, only what changed is done again, no fault makes one that lies."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from smalti import segmenting
from smalti.audio import AudioStream, read_audio, resample
from smalti.collecting import Built, build_corpus
from smalti.corpus import analyse, cleaned, corpus_of, hop_at
from smalti.errors import AudioFileError
from smalti.lending import list_files, open_corpus, verify_corpus
from smalti.levels import integrated_loudness
from smalti.segmenting import coded, decoded
from smalti.stft import StftParams
from smalti.views import MIDDLE_S

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
    arrays = (corpus.looks[corpus.rows], corpus.keys, corpus.scales, corpus.levels, corpus.segments, corpus.centres)
    return told, [array.tobytes() for array in arrays], [recording.tobytes() for recording in corpus.recordings]


def same(a, b):
    assert a[0] == b[0]
    assert a[1:] == b[1:]


@pytest.fixture
def idle(monkeypatch):
    """From here on nothing may be analysed."""

    def refuse(*_):
        raise AssertionError("this was analysed before")

    monkeypatch.setattr(segmenting, "analyse", refuse)


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
    params = StftParams.from_seconds(MIDDLE_S, 512 / 22050, SR)
    memory = corpus_of(wanted, SR, params=params, names=[str(path) for path in files])
    for name in ("segments", "centres", "cancelled", "scales", "levels", "keys", "files"):
        np.testing.assert_array_equal(getattr(shelf.corpus, name), getattr(memory, name))
    np.testing.assert_array_equal(shelf.corpus.looks[shelf.corpus.rows], memory.looks)
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
    monkeypatch.setattr(segmenting, "SEGMENT_S", hops * HOP / SR)
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
    got, wanted = (looks.astype(np.float32) for looks in (corpus.looks[corpus.rows], whole.looks))
    np.testing.assert_allclose(got, wanted, atol=3e-3)
    # And sounds so: a window around each lies in its recording.
    half, reach = corpus.params.n_fft // 2, 0
    for n, recording in enumerate(corpus.recordings):
        centres = corpus.centres[corpus.segments == n]
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
    monkeypatch.setattr(segmenting, "analyse", lambda samples, sr: seen.append(1) or analyse(samples, sr))
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
