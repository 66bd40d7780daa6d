"""Opening a corpus: filters, weights and limits, and files that are no longer where they were."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from kit_corpora import build, content, same

from smalti.corpora.query import open_corpus
from smalti.errors import CorpusError
from smalti.grains.filters import Filters


def test_corpus_and_sounds_move_together(folder, corpus, tmp_path, idle):
    before = content(corpus)
    (tmp_path / "elsewhere").mkdir()
    folder.rename(tmp_path / "elsewhere" / folder.name)
    corpus.rename(tmp_path / "elsewhere" / corpus.name)
    opened = open_corpus(tmp_path / "elsewhere" / corpus.name)
    assert opened.missing == ()
    same(content(tmp_path / "elsewhere" / corpus.name), before)
    assert build(tmp_path / "elsewhere" / folder.name, tmp_path / "elsewhere" / corpus.name).unchanged == 4


def test_a_corpus_keeps_its_sound_when_the_files_are_gone(folder, corpus):
    before = content(corpus)
    shutil.rmtree(folder)
    opened = open_corpus(corpus)
    assert len(opened.missing) == 4
    (warning,) = opened.warnings
    assert warning.startswith(f"4 files of {corpus} are no longer where they were, the first ")
    same(content(corpus), before)


def test_filters_weights_and_limits(corpus):
    def names(**filters):
        return [Path(file.path).name for file in open_corpus(corpus, Filters(**filters)).files]

    assert names() == ["d.ogg", "a.wav", "b.flac", "c.wav"]
    assert names(include=("rain",)) == ["a.wav", "b.flac"]
    assert names(include=("RAIN/light", "*.ogg")) == ["d.ogg", "b.flac"]
    assert names(exclude=("tag:rain",)) == ["d.ogg", "c.wav"]
    assert names(tags=("light", "Rain")) == ["b.flac"]
    assert names(shortest_s=0.5, longest_s=1.5) == ["a.wav", "c.wav"]
    assert names(quietest_lufs=-12) == ["d.ogg"]
    with pytest.raises(CorpusError, match=r"passes --include snow: its 4 files last 0\.4 to 2\.0 s.*light, rain"):
        names(include=("snow",))
    opened = open_corpus(corpus, weights={"rain": 2, "light": 0.25, "tag:wind": 3}, limits={"rain": 0.2})
    np.testing.assert_array_equal(opened.weights, [1, 2, 0.5, 3])
    (limit,) = opened.limits
    assert (limit.pattern, limit.share, list(limit.recordings)) == ("rain", 0.2, [False, True, True, False])
    with pytest.raises(ValueError, match="weights has 'snow', which no recording in use meets"):
        open_corpus(corpus, weights={"snow": 1})
    # A filtered corpus holds only the atoms of the files that pass, unchanged.
    part, whole = open_corpus(corpus, Filters(include=("rain",))).corpus, opened.corpus
    own = np.isin(whole.recording_ids, [1, 2])
    np.testing.assert_array_equal(part.rows, whole.rows[own])
    np.testing.assert_array_equal(part.descriptors, whole.descriptors[own])
    np.testing.assert_array_equal(part.recordings[1], whole.recordings[2])
