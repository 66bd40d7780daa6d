"""The kernels that numba compiles for corpora: lists of atoms in half precision, and the choice among hits.

They are loaded when first needed, like `smalti.nmf._kernels`, which describes lists. Features are passed as the bits of
half-precision numbers, (R, B) uint16, since they may be mapped from a disk. Rows are widened to single precision when
they are needed, and not kept.
"""

import numpy as np

from smalti._checks import Floats, Integers
from smalti._numba import kernel

# Exponents have a bias of 15 in half precision and of 127 in single.
_REBIAS = np.float32(2.0**112)


@kernel
def _widen(halves: Integers, bits: Integers, out: Floats) -> None:
    """Convert non-negative finite numbers from half to single precision; `out` is the float32 view of `bits`."""
    for b in range(len(halves)):
        bits[b] = np.uint32(halves[b]) << np.uint32(13)
    for b in range(len(halves)):
        out[b] *= _REBIAS


@kernel
def feature_statistics(features: Integers, rows: Integers, gains: Floats, sums: Floats, norms: Floats) -> None:
    """Write the sums and the Euclidean norms of some rows of the features, weighed by the gains of the bands.

    Parameters
    ----------
    features : (R, B) uint16. rows : (E,) integers. gains : (B,) float32.
    sums, norms : (E,) float32, overwritten.
    """
    bits = np.empty(features.shape[1], np.uint32)
    row = bits.view(np.float32)
    for e in range(len(rows)):
        _widen(features[rows[e]], bits, row)
        total, energy = np.float32(0), np.float32(0)
        for b in range(len(row)):
            weighed = row[b] * gains[b]
            total += weighed
            energy += weighed * weighed
        sums[e], norms[e] = total, np.sqrt(energy)


@kernel
def feature_update(
    V: Floats,
    features: Integers,
    gains: Floats,
    indptr: Integers,
    rows: Integers,
    scales: Floats,
    sums: Floats,
    values: Floats,
    floor: float,
    least: float,
    out: Floats,
) -> None:
    """Write one multiplicative update, with beta 1, of the entries of a block of frames.

    Parameters
    ----------
    V : (n, B) float32, weighed by the gains. features : (R, B) uint16. gains : (B,) float32.
    indptr : (n + 1,) int64, the block's part of the lists' `indptr`: positions in the arrays below.
    rows : (E,) integers, the row of each entry in the features. scales : (E,) float32, the factor of that row.
    sums : (E,) float32, those of the rows from `feature_statistics`. values : (E,) float32, >= 0; not modified.
    floor : > 0, added to the model.
    least : >= 0. Entries whose part in the model is below this share of the largest part become 0.
    out : (E,) float32, of which the block's entries are written.
    """
    n_bands = V.shape[1]
    y = np.empty(n_bands, np.float32)
    most = 0
    for n in range(V.shape[0]):
        most = max(most, indptr[n + 1] - indptr[n])
    bits = np.empty((most, n_bands), np.uint32)
    W = bits.view(np.float32)
    for n in range(V.shape[0]):
        start, stop = indptr[n], indptr[n + 1]
        y[:] = np.float32(floor)
        for e in range(start, stop):
            if values[e] > 0:
                w = W[e - start]
                _widen(features[rows[e]], bits[e - start], w)
                h = values[e] * scales[e]
                for b in range(n_bands):
                    y[b] += h * w[b]
        for b in range(n_bands):
            # V is weighed and y is not, so the gain of the model cancels that of the rows in the sum below.
            y[b] = V[n, b] / y[b] if gains[b] > 0 else np.float32(0)
        strongest = np.float32(0)
        for e in range(start, stop):
            out[e] = 0
            if values[e] > 0 and sums[e] > 0:
                w = W[e - start]
                total = np.float32(0)
                for b in range(n_bands):
                    total += w[b] * y[b]
                out[e] = values[e] * total / sums[e]
                strongest = max(strongest, out[e] * sums[e] * scales[e])
        border = np.float32(least) * strongest
        for e in range(start, stop):
            if out[e] * sums[e] * scales[e] < border:
                out[e] = 0


@kernel
def feature_model(
    features: Integers,
    gains: Floats,
    indptr: Integers,
    rows: Integers,
    scales: Floats,
    values: Floats,
    floor: float,
    Y: Floats,
) -> None:
    """Write the models of a block of frames, with floor and gains, to Y (n, B); arguments as for `feature_update`."""
    bits = np.empty(features.shape[1], np.uint32)
    row = bits.view(np.float32)
    for n in range(len(indptr) - 1):
        y = Y[n]
        y[:] = np.float32(floor)
        for e in range(indptr[n], indptr[n + 1]):
            if values[e] > 0:
                _widen(features[rows[e]], bits, row)
                h = values[e] * scales[e]
                for b in range(len(y)):
                    y[b] += h * row[b]
        for b in range(len(y)):
            y[b] *= gains[b]


@kernel
def diverse(
    indptr: Integers, atoms: Integers, scores: Floats, first: int, last: int, apart: int, best: Integers
) -> None:
    """Write the best hits of the frames `first` to `last`, such that no two hits of a frame are neighbours.

    Parameters
    ----------
    indptr, atoms, scores : lists of hits; a frame's atoms rise.
    apart : int >= 0. If hits are no more than this many atoms apart, only the best of them is taken.
    best : (n, P) integers, overwritten with the atoms of each frame, the best first, and -1 where there are no more.
    """
    for n in range(first, last):
        start, stop = indptr[n], indptr[n + 1]
        order = np.argsort(scores[start:stop])
        found = 0
        chosen = best[n - first]
        chosen[:] = -1
        for j in range(len(order) - 1, -1, -1):
            if found == len(chosen):
                break
            atom = atoms[start + order[j]]
            near = False
            for i in range(found):
                near = near or abs(chosen[i] - atom) <= apart
            if not near:
                chosen[found] = atom
                found += 1
