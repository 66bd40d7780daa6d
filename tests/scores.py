"""Scores to test with, and a check that every edited score must pass."""

import numpy as np
import scipy.sparse
from hypothesis import strategies as st

from smalti import StftParams, build_dictionary
from smalti.grains.source import Source
from smalti.score.edit import Selection, transposed
from smalti.score.score import Score, Target, joined, read_grains
from smalti.settings import Settings
from strategies import seeds

GRID = StftParams(64, 16)


SR = 8000


LENGTH = 400


def score_of(activations, dictionary, length=LENGTH, **changes):
    """The one-channel score that a mosaic with these activations has."""
    columns = joined([read_grains(activations, dictionary)])
    return Score(
        **{
            "params": dictionary.params,
            "sr": dictionary.sr,
            "length": length,
            "channels": dictionary.n_channels,
            "n_parts": 1,
            "dtype": dictionary.norms.dtype.name,
            "settings": Settings(loudness="as-is", remove_offset=False),
            "gain_db": 0.0,
            "target": Target("target"),
            "sources": tuple(map(Source, dictionary.names)),
        }
        | columns
        | changes
    )


def back(score, dictionary):
    """A score's grains turned back into activations (K, N) of a dictionary's atoms."""
    sounding = score.sounding()
    atoms = [
        np.flatnonzero((dictionary.recording_ids == source) & (dictionary.centres == centre)).item()
        for source, centre in zip(sounding.sources, sounding.centres, strict=True)
    ]
    H = np.zeros((dictionary.n_atoms, score.n_frames), sounding.H.dtype)
    H[atoms] = sounding.H.toarray()
    return H


@st.composite
def mosaics(draw):
    """A dictionary of one to three recordings, and activations of it: empty, sparse or dense."""
    rng = np.random.default_rng(draw(seeds))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    lengths = draw(st.lists(st.integers(1, 200), min_size=1, max_size=3))
    dictionary = build_dictionary([rng.standard_normal(n).astype(dtype) for n in lengths], SR, params=GRID)
    shape = dictionary.n_atoms, GRID.n_frames(LENGTH)
    density = draw(st.sampled_from([0.0, 0.1, 0.7, 1.0]))
    return dictionary, (rng.random(shape) * (rng.random(shape) < density)).astype(dtype)


HOP = GRID.hop


# So soft that no peaks are limited, and sounds add up.
SOFT_DB = -60.0


def scores():
    """A score, some of whose grains may be shifted, and its recordings."""
    return st.tuples(mosaics(), st.booleans()).map(lambda case: _score(*case))


def _score(case, shifts):
    dictionary, H = case
    score = score_of(scipy.sparse.csc_array(H), dictionary, gain_db=SOFT_DB)
    score = score[:40]
    if shifts and len(score):
        score = transposed(score, 3.0, Selection(ids=tuple(score.ids[::3].tolist())))
    return score, list(dictionary.recordings)


spans = st.tuples(st.floats(0, 0.04), st.floats(0.001, 0.05)).map(lambda pair: (pair[0], pair[0] + pair[1]))


selections = st.one_of(
    st.just(Selection()),
    spans.map(lambda between: Selection(between=between)),
    st.just(Selection(sources=("source 1",))),
    st.just(Selection(longer_than_s=0.003)),
    st.just(Selection(louder_than_db=SOFT_DB)),
    spans.map(lambda between: Selection(sources=("source 1",), between=between, shorter_than_s=0.02)),
)


def check(score):
    """Check what must hold for every edited score, and return it."""
    assert len(np.unique(score.ids)) == len(score)
    assert (np.diff(score.frames) >= 0).all()
    assert np.isfinite(score.levels).all()
    for shift, length in zip(score.shifts, score.lengths.tolist(), strict=True):
        assert shift is None or shift.length == length
        if shift is not None:
            step = max(1, HOP // 8)
            assert len(shift.ratios) == len(shift.hz) == -(-(2 * shift.before + length) * HOP // step)
    return score
