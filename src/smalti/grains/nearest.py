"""Nearest atoms by their keys: exact while there are few, by an inverted file beyond.

The inner product of two keys says how much two frames look alike; see `smalti.grains.descriptors.keys_of`.
"""

import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti._parallel import over_blocks

# Up to so many atoms, looking at all takes no longer than asking an inverted file.
EXACT_BELOW = 20_000
# Scores held at once by a thread, in numbers.
_ROOM = 2**23
_QUERIES = 128
# Atoms whose keys are held in single precision while all queries are answered.
_WIDE = 2**18
# The share of the cells of the index that is searched for a query, and the least number of them.
PROBED, LEAST_PROBED = 1 / 64, 16


def nearest(
    keys: NDArray[np.float16], queries: Floats, n: int, *, index: Any = None, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The atoms whose keys are nearest to each query.

    Parameters
    ----------
    keys : (K, D) float16. queries : (N, D) float array. n : int >= 1.
    index : of these keys, from `inverted_file`; None to look at all.
    allowed : (K,) bools, the atoms to find any of; None for all.

    Returns
    -------
    atoms : (N, m) int64, m <= n, in no order, -1 where an index finds fewer.
    scores : (N, m) float32, the inner products.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if index is not None:
        return _asked(index, queries, n, allowed)
    among = np.arange(len(keys)) if allowed is None else np.flatnonzero(allowed)
    m = min(n, len(among))
    # Widened once where that takes little room.
    wide = keys[among].astype(np.float32) if len(among) <= _WIDE else None
    atoms = np.empty((len(queries), m), np.int64)
    scores = np.empty((len(queries), m), np.float32)
    size = max(m, _ROOM // _QUERIES)

    def work(block: slice) -> None:
        best = np.empty((block.stop - block.start, 0), np.float32)
        found = np.empty((block.stop - block.start, 0), np.int64)
        for first in range(0, len(among), size):
            part = among[first : first + size]
            looked_at = keys[part].astype(np.float32) if wide is None else wide[first : first + size]
            new = queries[block] @ looked_at.T
            best = np.concatenate([best, new], axis=1)
            found = np.concatenate([found, np.broadcast_to(part, new.shape)], axis=1)
            if best.shape[1] > m:
                top = np.argpartition(best, -m, axis=1)[:, -m:]
                best, found = np.take_along_axis(best, top, axis=1), np.take_along_axis(found, top, axis=1)
        atoms[block], scores[block] = found, best

    over_blocks(work, len(queries), size=_QUERIES)
    return atoms, scores


def _asked(
    index: Any, queries: Floats, n: int, allowed: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    faiss = importlib.import_module("faiss")
    how = {} if allowed is None else {"sel": faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))}
    there = min(n, index.ntotal if allowed is None else int(np.count_nonzero(allowed)))
    atoms, scores = np.full((len(queries), n), -1, np.int64), np.zeros((len(queries), n), np.float32)
    probed, short = min(index.nlist, max(LEAST_PROBED, round(PROBED * index.nlist))), np.arange(len(queries))
    while len(short):
        how["nprobe"] = probed
        scores[short], atoms[short] = index.search(queries[short], n, params=faiss.SearchParametersIVF(**how))
        if probed == index.nlist:
            break
        # The allowed atoms may lie in other cells than those that are like the query.
        short = short[(atoms[short] >= 0).sum(axis=1) < there]
        probed = min(index.nlist, 4 * probed)
    return atoms, scores


def inverted_file(keys: NDArray[np.float16]) -> Any:
    """An index of keys (K, D), for `nearest`: every atom is filed under the nearest of about 4 sqrt(K) centres.

    Raises
    ------
    ImportError : if faiss, which is in the extra `corpus`, is not installed.

    References
    ----------
    Jégou, Douze & Schmid (2011), "Product quantization for nearest neighbor search", IEEE TPAMI 33(1), section 4
    (the inverted file; keys are kept in half precision rather than quantised). Johnson, Douze & Jégou (2019).
    """
    faiss = importlib.import_module("faiss")
    n_atoms, size = keys.shape
    cells = max(1, round(4 * math.sqrt(n_atoms)))
    coarse = faiss.IndexFlatIP(size)
    index = faiss.IndexIVFScalarQuantizer(
        coarse, size, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = False
    # Enough for the centres, evenly over all recordings.
    few = keys[:: max(1, n_atoms // (40 * cells))].astype(np.float32)
    index.cp.niter = 10
    index.train(few)
    for first in range(0, n_atoms, 2**16):
        index.add(keys[first : first + 2**16].astype(np.float32))
    return index


def packed(index: Any) -> NDArray[np.uint8]:
    """An index as bytes, to be kept."""
    faiss = importlib.import_module("faiss")
    data: NDArray[np.uint8] = faiss.serialize_index(index)
    return data


def unpacked(data: NDArray[np.uint8]) -> Any:
    """The index that was `packed`."""
    return importlib.import_module("faiss").deserialize_index(data)
