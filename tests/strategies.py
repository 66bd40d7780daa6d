"""Inputs nobody chose: small spectrograms, dictionaries, activations, signals and grids for hypothesis to vary."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smalti import StftParams

DTYPES = (np.float32, np.float64)
BETAS = (0.0, 0.5, 1.0, 1.5, 2.0)

dtypes = st.sampled_from(DTYPES)
betas = st.sampled_from(BETAS)
seeds = st.integers(0, 2**32 - 1)
strengths = st.sampled_from([0.125, 0.5, 1.0])

# Sixty decibels either way of 1, as spectra have them.
positive = st.floats(2.0**-10, 2.0**10, width=32)
magnitude = st.just(0.0) | positive
# Few values, exact in both types: ties everywhere.
level = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])


@st.composite
def problems(draw, *, dtype=None, entries=magnitude, most=5):
    """V (F, N), W (F, K) and a start H (K, N) > 0, all of one dtype; V and W may hold zeros, rows and columns too."""
    n_bins, n_atoms, n_frames = (draw(st.integers(1, most)) for _ in range(3))
    dtype = draw(dtypes) if dtype is None else dtype
    V = draw(arrays(dtype, (n_bins, n_frames), elements=entries))
    W = draw(arrays(dtype, (n_bins, n_atoms), elements=entries))
    H = draw(arrays(dtype, (n_atoms, n_frames), elements=positive))
    return V, W, H


@st.composite
def activations(draw, *, entries=level, dtype=None):
    """H (K, N), up to 7 x 9, full of ties by default."""
    shape = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    return draw(arrays(draw(dtypes) if dtype is None else dtype, shape, elements=entries))


@st.composite
def segments_of(draw, n_atoms):
    """(n_atoms,) segment numbers in runs."""
    borders = draw(arrays(np.bool_, (n_atoms,)))
    return np.cumsum(borders)


@st.composite
def grids(draw, *, most=24, densest=2):
    """Grids that can be inverted; `densest` is the least number of hops in a window."""
    n_fft = 2 * draw(st.integers(max(2, -(-densest // 2)), most // 2))
    hop = draw(st.integers(1, max(1, n_fft // densest)))
    return StftParams(n_fft, hop, draw(st.sampled_from(["hann", "hamming", "blackman"])))


@st.composite
def signals(draw, *, dtype=None, most=80):
    """Noise in [-1, 1], 0 to `most` samples."""
    noise = np.random.default_rng(draw(seeds)).uniform(-1, 1, draw(st.integers(0, most)))
    return noise.astype(draw(dtypes) if dtype is None else dtype)


def pairwise(first, second, third):
    """Triples in which every two values of different lists meet, for parametrize; as many as `first` x `second`.

    `third` may be no longer than the shorter of the others.
    """
    assert len(third) <= min(len(first), len(second))
    return [(a, b, third[(i + j) % len(third)]) for i, a in enumerate(first) for j, b in enumerate(second)]
