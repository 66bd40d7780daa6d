"""The kernels that numba compiles. Each works on a block of target frames, without the interpreter lock.

They are loaded when first needed: numba takes half a second to import, and every kernel most of a second to compile,
once for each precision and machine. Compiled code is kept beside this file, or in the user's cache if that folder is
not writable. `smalti.nmf.blockwise` decides when kernels are worth it.

**Lists.** If frames have few activations, these are kept as three arrays, the compressed rows of H transposed:

* `indptr` (N + 1,) int64: frame n has the entries ``indptr[n]`` to ``indptr[n + 1]``;
* `atoms` (E,) int32: the atom of each entry, rising within a frame;
* `values` (E,) float32 or float64, >= 0.

`segments` (K,) int32 numbers the runs of atoms of one recording; atoms with different numbers are no neighbours.
"""

from typing import Any

import numpy as np

from smalti._checks import Floats, Integers
from smalti._numba import kernel

# --- lists: the restrictions


@kernel
def list_repetition(
    indptr: Integers, atoms: Integers, values: Floats, first: int, last: int, reach: int, keep: float, out: Floats
) -> None:
    """Scale each entry of the frames `first` to `last` by `keep` if its atom has a larger one within `reach` frames.

    Parameters
    ----------
    indptr, atoms, values : lists of all frames; not modified.
    reach : int >= 1, Let it Bee's r; the neighbourhood is 2r + 1 frames. Equal largest values all stay.
    keep : 0 to 1.
    out : (E,) array like `values`, of which the entries of the block are written.
    """
    n_frames = len(indptr) - 1
    scale = values.dtype.type(keep)
    for n in range(first, last):
        start, stop = indptr[n], indptr[n + 1]
        for j in range(start, stop):
            out[j] = values[j]
        for m in range(max(0, n - reach), min(n_frames, n + reach + 1)):
            if m == n:
                continue
            i, end = indptr[m], indptr[m + 1]
            for j in range(start, stop):
                while i < end and atoms[i] < atoms[j]:
                    i += 1
                if i == end:
                    break
                # An entry is scaled only once, even if several are larger.
                if atoms[i] == atoms[j] and values[i] > values[j]:
                    out[j] = scale * values[j]


@kernel
def list_polyphony(
    indptr: Integers,
    atoms: Integers,
    values: Floats,
    weights: Floats,
    first: int,
    last: int,
    polyphony: int,
    keep: float,
    out: Floats,
) -> None:
    """Scale all but the `polyphony` strongest entries of each of the frames `first` to `last` by `keep`.

    Parameters
    ----------
    indptr, atoms, values : lists of all frames; not modified unless `out` is `values`.
    weights : (K,) like `values`: the strongest have the largest ``weights[atom] * value``. Empty for 1.
    polyphony : int >= 1. The first of equal entries survive, so exactly this many do.
    keep : 0 to 1.
    out : (E,) array like `values`, of which the entries of the block are written; may be `values` itself.
    """
    scale = values.dtype.type(keep)
    ranked = len(weights) > 0
    best, places = np.empty(polyphony, values.dtype), np.empty(polyphony, np.int64)
    for n in range(first, last):
        start, stop = indptr[n], indptr[n + 1]
        if stop - start <= polyphony:
            for j in range(start, stop):
                out[j] = values[j]
            continue
        for j in range(polyphony):
            best[j] = -1
        for j in range(start, stop):
            score = values[j] * weights[atoms[j]] if ranked else values[j]
            if score > best[0]:
                _insert(best, places, score, j)
        for j in range(polyphony):
            best[j] = values[places[j]]
        for j in range(start, stop):
            out[j] = scale * values[j]
        for j in range(polyphony):
            out[places[j]] = best[j]


@kernel
def _insert(best: Floats, places: Integers, value: Any, place: int) -> None:
    """Replace the first, the smallest, of the rising values `best` by `value`, and keep them in order."""
    j = 1
    while j < len(best) and best[j] < value:
        best[j - 1], places[j - 1] = best[j], places[j]
        j += 1
    best[j - 1], places[j - 1] = value, place


@kernel
def list_continuity(
    indptr: Integers,
    atoms: Integers,
    values: Floats,
    segments: Integers,
    first: int,
    last: int,
    reach: int,
    out: Floats,
) -> None:
    """Sum each entry of the frames `first` to `last` with those of its diagonal neighbours that are in the lists.

    No entries are added; `list_widened` adds the neighbours.

    Parameters
    ----------
    indptr, atoms, values : lists of all frames; not modified.
    segments : (K,) int32; a diagonal ends where the number changes.
    reach : int >= 1, Let it Bee's c; 2c + 1 taps.
    out : (E,) array like `values`, of which the entries of the block are written.
    """
    n_frames = len(indptr) - 1
    for n in range(first, last):
        start, stop = indptr[n], indptr[n + 1]
        for j in range(start, stop):
            out[j] = values[j]
        for offset in range(max(-reach, -n), min(reach, n_frames - 1 - n) + 1):
            if offset == 0:
                continue
            i, end = indptr[n + offset], indptr[n + offset + 1]
            for j in range(start, stop):
                wanted = atoms[j] + offset
                while i < end and atoms[i] < wanted:
                    i += 1
                if i == end:
                    break
                if atoms[i] == wanted and segments[atoms[i]] == segments[atoms[j]]:
                    out[j] += values[i]


@kernel
def list_widened(
    indptr: Integers,
    atoms: Integers,
    values: Floats,
    segments: Integers,
    weights: Floats,
    first: int,
    last: int,
    reach: int,
    least: float,
) -> tuple[Integers, Integers, Floats]:
    """The diagonal sums of the frames `first` to `last`, for every atom that has any summand.

    Parameters
    ----------
    indptr, atoms, values, segments : as for `list_continuity`. reach : int >= 0; 0 only drops.
    weights : (K,) array like `values`, the loudness of an activation of 1.
    least : >= 0. Entries are dropped only if they are at most this share of the largest in their frame both as they are
        and times their weights: the huge gain of a nearly silent atom must neither silence all others nor be lost.

    Returns
    -------
    indptr, atoms, values : those of the block's frames alone, ``indptr[0] = 0``.
    """
    n_frames = len(indptr) - 1
    # There are at most as many sums as taps of all frames.
    room = 0
    for offset in range(-reach, reach + 1):
        room += indptr[min(max(last + offset, 0), n_frames)] - indptr[min(max(first + offset, 0), n_frames)]
    out_indptr = np.zeros(last - first + 1, np.int64)
    out_atoms = np.empty(room, np.int32)
    out_values = np.empty(room, values.dtype)
    taps = 2 * reach + 1
    at = np.empty(taps, np.int64)
    end = np.empty(taps, np.int64)
    offsets = np.empty(taps, np.int64)
    heads = np.empty(taps, np.int64)
    n_atoms = len(segments)
    share = values.dtype.type(least)
    count = 0
    for n in range(first, last):
        # Each tap has a pointer into its sorted list; the smallest atom under any pointer comes next.
        used = 0
        for offset in range(max(-reach, -n), min(reach, n_frames - 1 - n) + 1):
            i, stop = indptr[n + offset], indptr[n + offset + 1]
            i = _next_inside(atoms, segments, i, stop, offset)
            if i < stop:
                at[used], end[used], offsets[used], heads[used] = i, stop, offset, atoms[i] - offset
                used += 1
        start = count
        loudest = values.dtype.type(0)
        strongest = values.dtype.type(0)
        while used > 0:
            atom = n_atoms
            for tap in range(used):
                atom = min(atom, heads[tap])
            total = values.dtype.type(0)
            tap = 0
            while tap < used:
                if heads[tap] == atom:
                    total += values[at[tap]]
                    i = _next_inside(atoms, segments, at[tap] + 1, end[tap], offsets[tap])
                    if i == end[tap]:
                        used -= 1
                        at[tap], end[tap], offsets[tap], heads[tap] = at[used], end[used], offsets[used], heads[used]
                        continue
                    at[tap], heads[tap] = i, atoms[i] - offsets[tap]
                tap += 1
            out_atoms[count] = atom
            out_values[count] = total
            loudest = max(loudest, total * weights[atom])
            strongest = max(strongest, total)
            count += 1
        kept = start
        for j in range(start, count):
            value = out_values[j]
            if value > share * strongest or value * weights[out_atoms[j]] > share * loudest:
                out_atoms[kept] = out_atoms[j]
                out_values[kept] = value
                kept += 1
        count = kept
        out_indptr[n - first + 1] = count
    return out_indptr, out_atoms[:count].copy(), out_values[:count].copy()


@kernel
def _next_inside(atoms: Integers, segments: Integers, i: int, stop: int, offset: int) -> int:
    """The first entry from `i` on whose atom `offset` back is in the same recording; `stop` if there is none."""
    while i < stop:
        atom = atoms[i] - offset
        if 0 <= atom < len(segments) and segments[atom] == segments[atoms[i]]:
            return i
        i += 1
    return stop


# --- lists: the update


@kernel
def list_model(W: Floats, indptr: Integers, positions: Integers, values: Floats, floor: float, Y: Floats) -> None:
    """Write the model ``W @ H + floor`` of a block of frames.

    Parameters
    ----------
    W : (U, F), C order: dictionary rows, all or those that the block needs.
    indptr : (n + 1,) int64, the block's part of the lists' `indptr`: positions in the two arrays below.
    positions : (E,) integers: the row of W of each entry.
    values : (E,) like W.
    floor : added to every bin.
    Y : (n, F) like W, C order; overwritten.
    """
    for n in range(len(indptr) - 1):
        _model(W, positions, values, indptr[n], indptr[n + 1], floor, Y[n])


@kernel
def _model(W: Floats, positions: Integers, values: Floats, start: int, stop: int, floor: float, y: Floats) -> None:
    for f in range(len(y)):
        y[f] = floor
    j = start
    # Four rows at once: the sum is then loaded and stored once for all four.
    while j + 4 <= stop:
        a, b, c, d = W[positions[j]], W[positions[j + 1]], W[positions[j + 2]], W[positions[j + 3]]
        s, t, u, v = values[j], values[j + 1], values[j + 2], values[j + 3]
        for f in range(len(y)):
            y[f] += s * a[f] + t * b[f] + (u * c[f] + v * d[f])
        j += 4
    while j < stop:
        a, s = W[positions[j]], values[j]
        for f in range(len(y)):
            y[f] += s * a[f]
        j += 1


@kernel
def list_update(
    V: Floats,
    W: Floats,
    sums: Floats,
    indptr: Integers,
    positions: Integers,
    values: Floats,
    floor: float,
    eps: float,
    out: Floats,
) -> None:
    """Write one multiplicative update, with beta 1, of the entries of a block of frames.

    Parameters
    ----------
    V : (n, F), C order: the block's target magnitudes.
    W : (U, F), C order, of V's dtype: dictionary rows, all or those that the block needs.
    sums : (U,) like V: each row's sum.
    indptr : (n + 1,) int64, the block's part of the lists' `indptr`: positions in the arrays below.
    positions : (E,) integers: the row of W of each entry.
    values : (E,) like V; not modified.
    floor : > 0, added to the model: `smalti.nmf.divergence.noise_floor` of the whole target.
    eps : >= 0, added to numerator and denominator. With 0, silent atoms get 0.
    out : (E,) like V, of which the block's entries are written.
    """
    F = V.shape[1]
    y = np.empty(F, V.dtype)
    shift = V.dtype.type(eps)
    tiny = np.finfo(V.dtype).tiny
    for n in range(V.shape[0]):
        start, stop = indptr[n], indptr[n + 1]
        if start == stop:
            continue
        _model(W, positions, values, start, stop, floor, y)
        v = V[n]
        for f in range(F):
            y[f] = v[f] / y[f]
        j = start
        largest = V.dtype.type(0)
        while j < stop:
            # Two rows at once, since y is then loaded once for both; a last row is paired with itself.
            k = min(j + 1, stop - 1)
            a, b = W[positions[j]], W[positions[k]]
            p, q = V.dtype.type(0), V.dtype.type(0)
            for f in range(F):
                p += a[f] * y[f]
                q += b[f] * y[f]
            below, beneath = sums[positions[j]] + shift, sums[positions[k]] + shift
            out[j] = values[j] * ((p + shift) / below) if below >= tiny else V.dtype.type(0)
            out[k] = values[k] * ((q + shift) / beneath) if beneath >= tiny else V.dtype.type(0)
            largest = max(largest, out[j], out[k])
            j += 2
        # Values that keep fading would become denormal numbers, which processors multiply ten times more slowly.
        border = V.dtype.type(np.sqrt(tiny) * min(1.0, largest))
        for j in range(start, stop):
            if out[j] < border:
                out[j] = 0


# --- lists: from and to arrays


@kernel
def dense_of(indptr: Integers, atoms: Integers, values: Floats, first: int, last: int, H: Floats) -> None:
    """Write the entries of the frames `first` to `last` into their rows of `H` (N, K), and 0 elsewhere."""
    for n in range(first, last):
        for k in range(H.shape[1]):
            H[n, k] = 0
        for j in range(indptr[n], indptr[n + 1]):
            H[n, atoms[j]] = values[j]


@kernel
def listed(H: Floats, weights: Floats, least: float) -> tuple[Integers, Integers, Floats]:
    """Lists of the entries of `H` (n, K) that `list_widened` would keep; `weights` (K,) and `least` are as there."""
    share = H.dtype.type(least)
    n_frames, n_atoms = H.shape
    indptr = np.zeros(n_frames + 1, np.int64)
    borders = np.empty((n_frames, 2), H.dtype)
    for n in range(n_frames):
        h = H[n]
        strongest, loudest = H.dtype.type(0), H.dtype.type(0)
        for k in range(n_atoms):
            strongest = max(strongest, h[k])
            loudest = max(loudest, h[k] * weights[k])
        borders[n, 0], borders[n, 1] = share * strongest, share * loudest
        count = 0
        for k in range(n_atoms):
            count += (h[k] > borders[n, 0]) | (h[k] * weights[k] > borders[n, 1])
        indptr[n + 1] = indptr[n] + count
    atoms, values = np.empty(indptr[n_frames], np.int32), np.empty(indptr[n_frames], H.dtype)
    j = 0
    for n in range(n_frames):
        h = H[n]
        for k in range(n_atoms):
            if h[k] > borders[n, 0] or h[k] * weights[k] > borders[n, 1]:
                atoms[j] = k
                values[j] = h[k]
                j += 1
    return indptr, atoms, values


# --- arrays, time-major: H is (N, K), W (K, F), V and the model (N, F), all in C order


@kernel
def restricted(
    H: Floats,
    weights: Floats,
    borders: Integers,
    first: int,
    last: int,
    repetition: int,
    polyphony: int,
    continuity: int,
    keep: float,
    out: Floats,
) -> None:
    """Write the frames `first` to `last` of `H` after the three restrictions of Let it Bee, in the paper's order.

    Parameters
    ----------
    H : (N, K), >= 0; not modified. Frames around the block are read as far as the restrictions reach.
    weights : (K,) like H: polyphony ranks ``weights * H``. Empty for 1.
    borders : (S + 1,) integers: where the recordings' runs of atoms begin, and K.
    repetition, polyphony, continuity : as in `smalti.nmf.let_it_bee`; 0 switches one off.
    keep : 0 to 1, the factor of the activations that are not kept.
    out : (last - first, K) like H, overwritten.
    """
    n_frames, n_atoms = H.shape
    # The frames that continuity reads.
    start, stop = max(0, first - continuity), min(n_frames, last + continuity)
    R = np.empty((stop - start, n_atoms), H.dtype)
    if repetition:
        _unrepeated(H, start, stop, repetition, keep, R)
    else:
        for m in range(stop - start):
            _copy(H[start + m], R[m])
    if 0 < polyphony < n_atoms:
        largest = np.empty((n_atoms + CHUNK - 1) // CHUNK, H.dtype)
        scores = np.empty(n_atoms if len(weights) else 0, H.dtype)
        best = np.empty(polyphony, H.dtype)
        places, values = np.empty(polyphony, np.int64), np.empty(polyphony, H.dtype)
        for row in R:
            for k in range(len(scores)):
                scores[k] = weights[k] * row[k]
            _thin(row, scores if len(weights) else row, largest, best, places, values, keep)
    for n in range(first, last):
        summed = out[n - first]
        _copy(R[n - start], summed)
        for s in range(len(borders) - 1):
            low, high = borders[s], borders[s + 1]
            for i in range(max(-continuity, start - n), min(continuity, stop - 1 - n) + 1):
                # For the atoms k from `a` to `b`, atom k + i is in the same recording.
                a, b = max(low, low - i), min(high, high - i)
                if i != 0 and a < b:
                    into, diagonal = summed[a:b], R[n + i - start, a + i : b + i]
                    for k in range(len(into)):
                        into[k] += diagonal[k]


# Atoms of a chunk. Chunks whose largest score is below the p-th largest of all these are not searched.
CHUNK = 32
# Atoms that are worked on at once in all frames of a block: few enough to stay in the fastest cache.
STRIPE = 128


@kernel
def _unrepeated(H: Floats, start: int, stop: int, reach: int, keep: float, R: Floats) -> None:
    n_frames, n_atoms = H.shape
    scale = H.dtype.type(keep)
    taps = 2 * reach + 1
    n = stop - start
    M = np.empty((n + 2 * reach, STRIPE), H.dtype)
    for low in range(0, n_atoms, STRIPE):
        width = min(STRIPE, n_atoms - low)
        for m in range(n + 2 * reach):
            frame, line = start - reach + m, M[m]
            if 0 <= frame < n_frames:
                _copy(H[frame, low : low + width], line)
            else:
                for k in range(STRIPE):
                    line[k] = 0
        # Doubling: two maxima over m frames give one over 2m, so 7 taps cost three passes and 101 cost seven.
        span = 1
        while 2 * span <= taps:
            for m in range(n + 2 * reach - span):
                line, other = M[m], M[m + span]
                for k in range(STRIPE):
                    line[k] = max(line[k], other[k])
            span *= 2
        for m in range(n):
            line, other, h, r = M[m], M[m + taps - span], H[start + m, low : low + width], R[m, low : low + width]
            for k in range(width):
                r[k] = scale * h[k] if max(line[k], other[k]) > h[k] else h[k]


@kernel
def _thin(
    row: Floats, scores: Floats, largest: Floats, best: Floats, places: Integers, values: Floats, keep: float
) -> None:
    """Scale all but the ``len(best)`` best-scored of `row` by `keep`, in place.

    The arrays `largest`, `best`, `places` and `values` are working memory.
    """
    n_atoms, polyphony = len(row), len(best)
    n_full = n_atoms // CHUNK
    for c in range(n_full):
        # The loop below needs a constant length for SIMD.
        chunk = scores[c * CHUNK : (c + 1) * CHUNK]
        most = chunk[0]
        for k in range(CHUNK):
            most = max(most, chunk[k])
        largest[c] = most
    if n_full < len(largest):
        largest[n_full] = scores[n_full * CHUNK]
        for k in range(n_full * CHUNK, n_atoms):
            largest[n_full] = max(largest[n_full], scores[k])
    # At least p scores reach the p-th largest of the chunks' largest scores, so the p best of all do.
    for j in range(polyphony):
        best[j] = -1
    if len(largest) >= polyphony:
        for c in range(len(largest)):
            if largest[c] > best[0]:
                _insert(best, places, largest[c], c)
    border = best[0]
    for j in range(polyphony):
        best[j] = -1
    for c in range(len(largest)):
        if largest[c] >= border and largest[c] > best[0]:
            for k in range(c * CHUNK, min(n_atoms, (c + 1) * CHUNK)):
                if scores[k] > best[0]:
                    _insert(best, places, scores[k], k)
    for j in range(polyphony):
        values[j] = row[places[j]]
    scale = row.dtype.type(keep)
    for k in range(n_atoms):
        row[k] *= scale
    for j in range(polyphony):
        row[places[j]] = values[j]


@kernel
def _copy(values: Floats, out: Floats) -> None:
    # This is a loop because assigning a slice takes a second to compile.
    for k in range(len(values)):
        out[k] = values[k]


@kernel
def quotients(V: Floats, floor: float, Y: Floats) -> None:
    """Replace a block's models `Y` (n, F) by ``V / (Y + floor)``, in place."""
    constant = V.dtype.type(floor)
    for n in range(V.shape[0]):
        v, y = V[n], Y[n]
        for f in range(len(y)):
            y[f] = v[f] / (y[f] + constant)


@kernel
def updated(H: Floats, correlations: Floats, reciprocals: Floats, weights: Floats, eps: float, least: float) -> int:
    """Update a block of frames; return how many of the new activations `list_widened` would keep.

    Parameters
    ----------
    H : (n, K), the activations; not modified.
    correlations : (n, K), ``(V / Y) @ W.T``; overwritten with the new activations.
    reciprocals : (K,), 1 / (the atom's sum + eps), and 0 for silent atoms.
    weights, least : as for `list_widened`.
    """
    n_atoms = H.shape[1]
    shift, share = H.dtype.type(eps), H.dtype.type(least)
    smallest = np.sqrt(np.finfo(H.dtype).tiny)
    count = 0
    for n in range(H.shape[0]):
        h, g = H[n], correlations[n]
        strongest, loudest = H.dtype.type(0), H.dtype.type(0)
        for k in range(n_atoms):
            new = h[k] * ((g[k] + shift) * reciprocals[k])
            g[k] = new
            strongest = max(strongest, new)
            loudest = max(loudest, new * weights[k])
        # Values that keep fading would become denormal numbers, which processors multiply ten times more slowly.
        border = H.dtype.type(smallest * min(1.0, strongest))
        least_h, least_w = share * strongest, share * loudest
        for k in range(n_atoms):
            new = g[k] if g[k] >= border else H.dtype.type(0)
            g[k] = new
            count += (new > least_h) | (new * weights[k] > least_w)
    return count
