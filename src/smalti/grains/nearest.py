"""Find the nearest atoms by their descriptors: exactly among few atoms, with an inverted file among many.

The inner product of two descriptors says how similar two frames are; see `smalti.grains.descriptors.descriptors_of`.
"""

import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti._parallel import over_blocks

# Up to this many atoms, comparing all of them takes no longer than searching an inverted file.
EXACT_BELOW = 20_000
# The most scores that a thread holds at once.
MOST_SCORES = 2**23
_QUERIES = 128
# Up to this many atoms, all descriptors are converted to single precision once, for all queries.
_WIDE = 2**18
# The share of the cells of the index that is searched for each query, and the least number of cells.
PROBED, LEAST_PROBED = 1 / 64, 16


def nearest(
    descriptors: NDArray[np.float16],
    queries: Floats,
    n: int,
    *,
    index: Any = None,
    allowed: NDArray[np.bool_] | None = None,
    probed: float = PROBED,
    most_scores: int = MOST_SCORES,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The atoms whose descriptors are nearest to each query.

    Parameters
    ----------
    descriptors : (K, D) float16. queries : (N, D) float array. n : int >= 1, how many atoms to find for each.
    index : the index of these descriptors, from `inverted_file`; None to compare all of them.
    allowed : (K,) bools, the atoms that may be found; None for all.
    probed : > 0 to 1, the share of the index's cells that is searched first for each query; at least 16 cells are.
    most_scores : how many inner products a thread holds at once, which bounds the memory and changes no result.

    Returns
    -------
    atoms : (N, m) int64, m <= n, in no order; -1 where the index finds fewer.
    scores : (N, m) float32, the inner products.

    Raises
    ------
    ImportError : if an index is given and faiss is not installed.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if index is not None:
        return _search_index(index, queries, n, allowed, probed)
    among = np.arange(len(descriptors)) if allowed is None else np.flatnonzero(allowed)
    m = min(n, len(among))
    wide = descriptors[among].astype(np.float32) if len(among) <= _WIDE else None
    atoms = np.empty((len(queries), m), np.int64)
    scores = np.empty((len(queries), m), np.float32)
    size = max(m, most_scores // _QUERIES)

    def work(block: slice) -> None:
        best = np.empty((block.stop - block.start, 0), np.float32)
        found = np.empty((block.stop - block.start, 0), np.int64)
        for first in range(0, len(among), size):
            part = among[first : first + size]
            compared = descriptors[part].astype(np.float32) if wide is None else wide[first : first + size]
            new = queries[block] @ compared.T
            best = np.concatenate([best, new], axis=1)
            found = np.concatenate([found, np.broadcast_to(part, new.shape)], axis=1)
            if best.shape[1] > m:
                top = np.argpartition(best, -m, axis=1)[:, -m:]
                best, found = np.take_along_axis(best, top, axis=1), np.take_along_axis(found, top, axis=1)
        atoms[block], scores[block] = found, best

    over_blocks(work, len(queries), size=_QUERIES)
    return atoms, scores


def _search_index(
    index: Any, queries: Floats, n: int, allowed: NDArray[np.bool_] | None, share: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    faiss = importlib.import_module("faiss")
    options = {} if allowed is None else {"sel": faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))}
    findable = min(n, index.ntotal if allowed is None else int(np.count_nonzero(allowed)))
    atoms, scores = np.full((len(queries), n), -1, np.int64), np.zeros((len(queries), n), np.float32)
    probed, short = min(index.nlist, max(LEAST_PROBED, round(share * index.nlist))), np.arange(len(queries))
    while len(short):
        options["nprobe"] = probed
        scores[short], atoms[short] = index.search(queries[short], n, params=faiss.SearchParametersIVF(**options))
        if probed == index.nlist:
            break
        # The allowed atoms may lie in other cells than those nearest to the query, so more cells are searched.
        short = short[(atoms[short] >= 0).sum(axis=1) < findable]
        probed = min(index.nlist, 4 * probed)
    return atoms, scores


def inverted_file(descriptors: NDArray[np.float16]) -> Any:
    """An index of descriptors (K, D) for `nearest`: every atom is filed under the nearest of about 4 sqrt(K) centres.

    Raises
    ------
    ImportError : if faiss, which is in the extra `corpus`, is not installed.

    References
    ----------
    Jégou, Douze & Schmid (2011), "Product quantization for nearest neighbor search", IEEE TPAMI 33(1), section 4
    (the inverted file; descriptors are kept in half precision rather than quantised). Johnson, Douze & Jégou (2019).
    """
    faiss = importlib.import_module("faiss")
    n_atoms, size = descriptors.shape
    cells = max(1, round(4 * math.sqrt(n_atoms)))
    coarse = faiss.IndexFlatIP(size)
    index = faiss.IndexIVFScalarQuantizer(
        coarse, size, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = False
    # The centres are trained on about 40 atoms for each cell, spread evenly over all recordings.
    few = descriptors[:: max(1, n_atoms // (40 * cells))].astype(np.float32)
    index.cp.niter = 10
    index.train(few)
    for first in range(0, n_atoms, 2**16):
        index.add(descriptors[first : first + 2**16].astype(np.float32))
    return index


def packed(index: Any) -> NDArray[np.uint8]:
    """An index as bytes, to be stored."""
    faiss = importlib.import_module("faiss")
    data: NDArray[np.uint8] = faiss.serialize_index(index)
    return data


def unpacked(data: NDArray[np.uint8]) -> Any:
    """The index that `packed` turned into bytes."""
    return importlib.import_module("faiss").deserialize_index(data)
