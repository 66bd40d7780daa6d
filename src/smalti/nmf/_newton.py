"""Compiled kernels of the exact solver: Newton's method on few atoms a frame, prices in double, and atoms that join.

Frames and atoms are rows here, so that both are contiguous. The atoms that sound in a frame stand in flat arrays: frame
i has the atoms ``atoms[firsts[i] : firsts[i] + counts[i]]`` at the gains in the same places of `values`, in any order.
All kernels release the interpreter lock. The compiler may reorder sums, but always in the same way.

Only `smalti.nmf.exact` imports this, when first needed: numba takes half a second to load.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti._numba import careful_kernel

Array = NDArray[Any]

# The most sweeps over the quadratic model of a Newton step, and the relative change below which it counts as solved.
_SWEEPS = 60
_SETTLED = 1e-5
# The most steps of the line search, each as cheap as an entry of the Hessian, and the relative length of the last:
# Newton's method squares the error, so about the square of this length is left.
_ALONG, _NEAR = 30, 1e-3


@careful_kernel
def improve(
    rows: Array,
    targets: Array,
    floors: Array,
    firsts: Array,
    counts: Array,
    atoms: Array,
    values: Array,
    goals: Array,
    euclidean: bool,
    n_updates: int,
    n_newton: int,
) -> None:
    """Lower the divergence of every frame over its own atoms, in place.

    Multiplicative updates come first, as they work well far from the optimum, then Newton steps: coordinate descent
    minimises a quadratic model of the divergence over gains >= 0, and a line search minimises the true divergence on
    the way there.

    Parameters
    ----------
    rows : (K, F) atoms. targets : (n, F). floors : (n,), added to the model; all of one dtype, of order 1.
    firsts, counts, atoms, values : the atoms that sound; `values` is changed.
    goals : (n,) float64. A frame is done once its divergence can fall by no more than this over its own atoms.
    euclidean : True for half the squared distance, False for the Kullback-Leibler divergence.
    n_updates, n_newton : the most multiplicative updates and Newton steps.
    """
    n_bins = rows.shape[1]
    most = 1
    for n in range(len(targets)):
        most = max(most, counts[n])
    weighted = np.empty((most, n_bins), rows.dtype)
    model, missing, weights, way = (
        np.empty(n_bins, rows.dtype),
        np.empty(n_bins, rows.dtype),
        np.empty(n_bins, rows.dtype),
        np.empty(n_bins, rows.dtype),
    )
    hessian = np.empty((most, most), np.float64)
    slopes, gains, start = np.empty(most), np.empty(most), np.empty(most)
    unity, zero = rows.dtype.type(1), rows.dtype.type(0)
    for n in range(len(targets)):
        m, first, target = counts[n], firsts[n], targets[n]
        if m == 0:
            continue
        model[:] = floors[n]
        for j in range(m):
            _add(model, values[first + j], rows[atoms[first + j]])
        if not euclidean:
            for _ in range(n_updates):
                for i in range(n_bins):
                    missing[i] = target[i] / model[i]
                model[:] = floors[n]
                for j in range(m):
                    row = rows[atoms[first + j]]
                    values[first + j] *= _dot(row, missing)
                    _add(model, values[first + j], row)
        for _ in range(n_newton):
            for i in range(n_bins):
                if euclidean:
                    missing[i] = target[i] - model[i]
                else:
                    ratio = target[i] / model[i]
                    missing[i] = ratio - unity
                    weights[i] = np.sqrt(ratio / model[i])
            slack, steepest = 0.0, 0.0
            for j in range(m):
                slopes[j] = -_dot(rows[atoms[first + j]], missing)
                start[j] = values[first + j]
                slack += start[j] * slopes[j]
                steepest = min(steepest, slopes[j])
            if abs(slack) - steepest <= goals[n]:
                break
            for j in range(m):
                row, out = rows[atoms[first + j]], weighted[j]
                for i in range(n_bins):
                    out[i] = row[i] if euclidean else row[i] * weights[i]
                for k in range(j + 1):
                    hessian[j, k] = hessian[k, j] = _dot(out, weighted[k])
            for j in range(m):
                gains[j] = start[j]
            _descend(hessian, slopes, gains, m)
            way[:] = 0
            for j in range(m):
                if gains[j] != start[j]:
                    _add(way, rows.dtype.type(gains[j] - start[j]), rows[atoms[first + j]])
            part = 1.0 if euclidean else _along(target, model, way)
            for j in range(m):
                moved = start[j] + part * (gains[j] - start[j])
                # A gain that ends at 0 is set to exactly 0, since rounding could leave a remainder.
                values[first + j] = zero if gains[j] <= 0 and part == 1 else moved
            _add(model, rows.dtype.type(part), way)
            if part == 0:
                break


@careful_kernel
def _dot(a: Array, b: Array) -> Any:
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@careful_kernel
def _add(out: Array, gain: Any, row: Array) -> None:
    for i in range(len(out)):
        out[i] += gain * row[i]


@careful_kernel
def _descend(hessian: Array, slopes: Array, gains: Array, m: int) -> None:
    """Minimise the quadratic model over `gains` >= 0, in place; `slopes` become those at the minimum."""
    for _ in range(_SWEEPS):
        change, size = 0.0, 0.0
        for j in range(m):
            bend = hessian[j, j]
            if bend <= 0:
                # The target is silent in every bin of this atom, which can only raise the divergence.
                if slopes[j] > 0:
                    gains[j] = 0
                continue
            moved = max(gains[j] - slopes[j] / bend, 0.0) - gains[j]
            if moved != 0:
                gains[j] += moved
                for k in range(m):
                    slopes[k] += moved * hessian[j, k]
                change += moved * moved * bend
            size += gains[j] * gains[j] * bend
        if change <= _SETTLED * _SETTLED * size:
            break


@careful_kernel
def _along(target: Array, model: Array, way: Array) -> float:
    """The part of `way`, 0 to 1, at which ``model + part * way`` has the least Kullback-Leibler divergence.

    Newton's method finds where the slope, which rises along the way, is 0. The slope needs no logarithm, and the
    rounding of the divergence does not matter.
    """
    low, high, part = 0.0, 1.0, 1.0
    for _ in range(_ALONG):
        slope, bend = 0.0, 0.0
        at = target.dtype.type(part)
        for i in range(len(target)):
            here = model[i] + at * way[i]
            ratio = target[i] / here if here > 0 else target[i] / model[i]
            pull = way[i] * (1 - ratio)
            slope += pull
            bend += way[i] * way[i] * (ratio / here if here > 0 else 0)
        if slope <= 0:
            if part == 1:
                return 1.0
            low = part
        else:
            high = part
        inside = part - slope / bend if bend > 0 else 0.0
        # Near the root rounding decides the sign of the slope, so the result must not depend on it: Newton's step is
        # taken to either side. It is too short to make the divergence rise.
        if abs(inside - part) < _NEAR * part:
            return min(inside, 1.0)
        part = inside if low < inside < high else 0.5 * (low + high)
    # The lower end never overshoots; it is 0 if the divergence rises from the start.
    return low


@careful_kernel
def add_up(rows: Array, floors: Array, firsts: Array, counts: Array, atoms: Array, values: Array, out: Array) -> None:
    """Fill `out` (n, F) with the model of every frame; arguments as for `improve`."""
    for n in range(len(out)):
        out[n, :] = floors[n]
        for j in range(firsts[n], firsts[n] + counts[n]):
            _add(out[n], values[j], rows[atoms[j]])


@careful_kernel
def expose(
    W: Array,
    V: Array,
    floor: float,
    firsts: Array,
    counts: Array,
    atoms: Array,
    gains: Array,
    euclidean: bool,
    ratios: Array,
    shown: Array,
    totals: Array,
) -> None:
    """Compute divergences in double precision, and the ratios that the prices of all atoms are computed from.

    Parameters
    ----------
    W : (K, F) atoms as given. V : (n, F) targets as given. floor : of the model.
    firsts, counts, atoms : the atoms that sound. gains : flat like `atoms`, those of `W`'s rows.
    ratios : (n, F) float64, filled with V / Y, or with V - Y if `euclidean`. shown : (n, F), the same in its own dtype.
    totals : (n, 5) float64, filled with the divergence, the sum of the model without its floor, the sum of V (its
        energy if euclidean), the sum of the ratios (their energy if euclidean), and the sum of the absolute values of
        the divergence's terms, which bounds its rounding.
    """
    n_bins = W.shape[1]
    model = np.empty(n_bins, np.float64)
    for n in range(len(V)):
        model[:] = floor
        for j in range(firsts[n], firsts[n] + counts[n]):
            gain, row = np.float64(gains[j]), W[atoms[j]]
            for i in range(n_bins):
                model[i] += gain * row[i]
        divergence, mass, heard, seen, size = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(n_bins):
            v = np.float64(V[n, i])
            if euclidean:
                ratio = v - model[i]
                divergence += 0.5 * ratio * ratio
                heard += v * v
                seen += ratio * ratio
                size += v * v + ratio * ratio
            else:
                ratio = v / model[i] if v > 0 else 0.0
                if v > 0:
                    term = v * np.log(ratio)
                    divergence += term
                    size += abs(term)
                divergence += model[i] - v
                size += model[i] + v
                heard += v
                seen += ratio
            mass += model[i] - floor
            ratios[n, i] = ratio
            shown[n, i] = ratio
        totals[n, 0], totals[n, 1], totals[n, 2], totals[n, 3], totals[n, 4] = divergence, mass, heard, seen, size


@careful_kernel
def worst_price(
    W: Array,
    sums: Array,
    prices: Array,
    scales: Array,
    within: float,
    tiny: float,
    ratios: Array,
    totals: Array,
    euclidean: bool,
    worst: Array,
) -> None:
    """Compute the largest price of any atom in each frame, <ratio, w> / sum(w), in double precision.

    Parameters
    ----------
    W : (K, F). sums : (K,) float64, of its rows; 0 for an atom that cannot sound.
    prices : (n, K), rounded prices of the rows divided by `scales`, (K,) float64.
    within : the largest rounding of a price, relative to the price, or if `euclidean` to the norm of the ratios.
    tiny : the smallest normal number of the prices' dtype. ratios, totals : those of `expose`.
    worst : (n,) float64, filled; not above 0 if no atom can sound.
    """
    n_atoms, n_bins = W.shape
    for n in range(len(ratios)):
        # Underflow comes on top of the relative error.
        allowance = tiny * (totals[n, 3] + n_bins)
        if euclidean:
            allowance = within * np.sqrt(totals[n, 3]) + tiny * n_bins
        most, best = -np.inf, -1
        for k in range(n_atoms):
            if sums[k] > 0:
                price = (prices[n, k] + allowance) * scales[k] / sums[k]
                if price > most:
                    most, best = price, k
        top = _price(W, sums, best, ratios[n]) if best >= 0 else 0.0
        for k in range(n_atoms):
            if sums[k] > 0:
                price = (prices[n, k] + allowance) * scales[k] / sums[k] * (1 if euclidean else 1 + within)
                # Only a price that may exceed the largest so far is computed in double.
                if price > top:
                    top = max(top, _price(W, sums, k, ratios[n]))
        worst[n] = top


@careful_kernel
def _price(W: Array, sums: Array, atom: int, ratios: Array) -> Any:
    total, row = 0.0, W[atom]
    for i in range(len(ratios)):
        total += np.float64(row[i]) * ratios[i]
    return total / sums[atom]


@careful_kernel
def enter(
    prices: Array, least: Array, firsts: Array, counts: Array, atoms: Array, values: Array, given: Array, most: int
) -> None:
    """Add to every frame up to `most` atoms: the highest peaks of its prices along the atoms that exceed its `least`.

    Only peaks join because neighbours in time sound alike; the neighbours can join in the next round. Each atom begins
    at the gain ``given[n] / most``. The arrays `prices` (n, K), `counts`, `atoms` and `values` are changed; the last
    two must have room for `most` more in every frame. `least` and `given` are (n,).
    """
    n_atoms = prices.shape[1]
    found = np.empty(most, np.int64)
    for n in range(len(counts)):
        mine = prices[n]
        for j in range(firsts[n], firsts[n] + counts[n]):
            mine[atoms[j]] = -np.inf
        m = 0
        for k in range(n_atoms):
            price = mine[k]
            if price <= least[n] or (m == most and price <= mine[found[m - 1]]):
                continue
            if (k > 0 and mine[k - 1] >= price) or (k + 1 < n_atoms and mine[k + 1] > price):
                continue
            place = m if m < most else m - 1
            m = min(m + 1, most)
            while place > 0 and mine[found[place - 1]] < price:
                found[place] = found[place - 1]
                place -= 1
            found[place] = k
        end = firsts[n] + counts[n]
        for j in range(m):
            atoms[end + j] = found[j]
            values[end + j] = given[n] / most
        counts[n] += m


@careful_kernel
def leave(firsts: Array, counts: Array, atoms: Array, values: Array) -> None:
    """Remove the atoms of gain 0 from every frame, in place."""
    for n in range(len(counts)):
        first, kept = firsts[n], 0
        for j in range(counts[n]):
            if values[first + j] > 0:
                atoms[first + kept] = atoms[first + j]
                values[first + kept] = values[first + j]
                kept += 1
        counts[n] = kept
