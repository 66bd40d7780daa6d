"""Segments of a file: their 16 bits, and the margins beyond their borders."""

import numpy as np
import pytest
from kit_corpora import HOP, SR, build, noise, put

from smalti.corpora import segments
from smalti.corpora.query import open_corpus
from smalti.corpora.segments import coded, decoded
from smalti.grains.corpus import analyse
from smalti.io.sound_read import AudioStream, read_audio, resample
from sounds import cleaned


def test_the_loudest_sample_gets_the_largest_16_bit_code(rng):
    samples = (rng.standard_normal((2, 999)) * 1e-7).astype(np.float32)
    codes, step = coded(samples)
    assert np.abs(codes).max() == 32767
    np.testing.assert_allclose(decoded(codes, step), samples, atol=0.51 * step)
    for silent in (np.zeros(5, np.float32), np.full(5, 1e-44, np.float32)):
        assert not decoded(*coded(silent)).any()


@pytest.mark.parametrize("extra", [0, 1, HOP - 1, HOP, 3 * HOP + 5, 9 * HOP, 20 * HOP])
def test_segments_of_a_long_file_have_margins_beyond_their_borders(tmp_path, rng, monkeypatch, extra):
    hops = 40
    monkeypatch.setattr(segments, "SEGMENT_S", hops * HOP / SR)
    samples = noise(rng, channels=2, seconds=(2 * hops * HOP + extra) / SR)
    put(tmp_path / "s" / "long.wav", samples, subtype="FLOAT")
    build(tmp_path / "s", tmp_path / "c")
    opened = open_corpus(tmp_path / "c")
    corpus = opened.corpus
    whole = analyse(cleaned(np.ascontiguousarray(samples.T), SR), SR)
    assert len(corpus.recordings) > 1
    assert set(corpus.files) == {0}
    assert corpus.n_atoms == len(whole.norms)
    # Except for the rounding to 16 bits, frames near a border are the same as without one.
    np.testing.assert_allclose(corpus.levels, whole.norms, rtol=1e-3)
    got, wanted = (features.astype(np.float32) for features in (corpus.features[corpus.rows], whole.features))
    np.testing.assert_allclose(got, wanted, atol=3e-3)
    # They also sound the same: the window around each frame lies inside its recording.
    half, reach = corpus.params.n_fft // 2, 0
    for n, recording in enumerate(corpus.recordings):
        centres = corpus.centres[corpus.recording_ids == n]
        if n:
            assert centres[0] >= half
        if n < len(corpus.recordings) - 1:
            assert recording.shape[1] - centres[-1] >= half
        at = reach if n == 0 else reach - centres[0]
        own = slice(max(0, at), None)
        part = samples.T[:, own][:, : recording.shape[1]]
        inside = slice(200, part.shape[1] - 200)
        np.testing.assert_allclose(recording[:, inside], part[:, inside], atol=1e-4)
        reach += len(centres) * HOP
    assert opened.files[0].duration_s == pytest.approx(len(samples) / SR)


def test_a_stream_gives_the_same_samples_as_reading_the_file(tmp_path, rng):
    for ending, sr, to, channels in (("flac", 44100, 22050, 2), ("ogg", 8000, 44100, 1), ("wav", 22050, 22050, 3)):
        path = put(tmp_path / f"a.{ending}", noise(rng, 1.3, channels, sr), sr)
        read = read_audio(path)
        wanted = np.atleast_2d(resample(read.samples, sr, to))
        for length in (1000, 7919, 10**6):
            stretches = list(AudioStream(path, sr=to).stretches(length))
            assert {part.shape[1] for part in stretches[:-1]} <= {length}
            np.testing.assert_array_equal(np.concatenate(stretches, axis=1), wanted)
