"""The kernels that numba compiles for corpora: lists whose dictionary rows are looks in half precision, and hits.

Loaded when first needed, as `smalti.nmf._kernels` is, which says what lists are. Looks are handed over as the bits of
their half-precision numbers, (R, B) uint16, as they may be mapped from a disk; a frame's rows are widened to single
precision as they are needed, and never held.
"""

import numpy as np

from smalti._checks import Floats, Integers
from smalti._numba import kernel

# The exponents' biases are 15 and 127.
_REBIAS = np.float32(2.0**112)


@kernel
def _widen(halves: Integers, bits: Integers, out: Floats) -> None:
    """Half precision to single: non-negative finite numbers only. `out` is `bits`, seen as what these are bits of."""
    for b in range(len(halves)):
        bits[b] = np.uint32(halves[b]) << np.uint32(13)
    for b in range(len(halves)):
        out[b] *= _REBIAS


@kernel
def look_statistics(looks: Integers, rows: Integers, gains: Floats, sums: Floats, norms: Floats) -> None:
    """Write the sum and the Euclidean norm of each of some rows, weighed by the gains of the bands.

    Parameters
    ----------
    looks : (R, B) uint16. rows : (E,) integers. gains : (B,) float32.
    sums, norms : (E,) float32, overwritten.
    """
    bits = np.empty(looks.shape[1], np.uint32)
    look = bits.view(np.float32)
    for e in range(len(rows)):
        _widen(looks[rows[e]], bits, look)
        total, energy = np.float32(0), np.float32(0)
        for b in range(len(look)):
            weighed = look[b] * gains[b]
            total += weighed
            energy += weighed * weighed
        sums[e], norms[e] = total, np.sqrt(energy)


@kernel
def look_update(
    V: Floats,
    looks: Integers,
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
    """One multiplicative update, Kullback-Leibler, of the entries of a block of frames.

    Parameters
    ----------
    V : (n, B) float32, weighed by the gains. looks : (R, B) uint16. gains : (B,) float32.
    indptr : (n + 1,) int64, the block's part of the lists' own: positions in the arrays below.
    rows : (E,) integers, the row of looks of each entry. scales : (E,) float32, what it is to be multiplied by.
    sums : (E,) float32, those of the rows by `look_statistics`. values : (E,) float32, >= 0; not modified.
    floor : > 0, added to the model.
    least : >= 0. Entries whose part in the model comes to less than this share of the largest part end as 0.
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
                _widen(looks[rows[e]], bits[e - start], w)
                h = values[e] * scales[e]
                for b in range(n_bands):
                    y[b] += h * w[b]
        for b in range(n_bands):
            # The ratio of what is weighed, weighed once more as rows would have to be.
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
def look_model(
    looks: Integers,
    gains: Floats,
    indptr: Integers,
    rows: Integers,
    scales: Floats,
    values: Floats,
    floor: float,
    Y: Floats,
) -> None:
    """Write the models, floor and gains and all, of a block of frames to Y (n, B); arguments as for `look_update`."""
    bits = np.empty(looks.shape[1], np.uint32)
    look = bits.view(np.float32)
    for n in range(len(indptr) - 1):
        y = Y[n]
        y[:] = np.float32(floor)
        for e in range(indptr[n], indptr[n + 1]):
            if values[e] > 0:
                _widen(looks[rows[e]], bits, look)
                h = values[e] * scales[e]
                for b in range(len(y)):
                    y[b] += h * look[b]
        for b in range(len(y)):
            y[b] *= gains[b]


@kernel
def diverse(
    indptr: Integers, atoms: Integers, scores: Floats, first: int, last: int, apart: int, best: Integers
) -> None:
    """The best hits of the frames `first` to `last` of which no two are neighbours.

    Parameters
    ----------
    indptr, atoms, scores : lists of hits; a frame's atoms rise.
    apart : int >= 0. Of hits that are no more than so many atoms from each other, only the best is taken.
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
