"""Activations by multiplicative updates: the heart of the teaching notebook and of Let it Bee.

`activation_steps` returns an iterator: its caller can show progress or keep to a time budget, and stops by leaving the
loop.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, Integers, check_count, check_magnitudes, check_real, check_same_bins
from smalti.nmf.base import Fit, MatrixStep, Step
from smalti.nmf.blockwise import engine_steps, worthwhile
from smalti.nmf.divergence import GramFit, SpectralFit
from smalti.nmf.let_it_bee import LetItBee

Seed = int | np.random.Generator | None


def activation_steps(
    V: ArrayLike,
    W: ArrayLike,
    *,
    n_iter: int,
    beta: float = 1.0,
    eps: float = 0.0,
    constraints: LetItBee | None = None,
    segments: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    init: ArrayLike | None = None,
    rng: Seed = 0,
) -> Iterator[Step]:
    """Yield the activations after every iteration of multiplicative updates; `W` stays as it is.

    Parameters
    ----------
    V : (F, N) float array, >= 0. Target magnitudes.
    W : (F, K) float array, >= 0. Dictionary, one column per source frame in time order.
    n_iter : int >= 1. The number of iterations, each of which yields a step; the restrictions anneal over all of them.
    beta : 0 to 2. Euclidean (2), Kullback-Leibler (1, default), Itakura-Saito (0) or between.
    eps : >= 0. Added to numerator and denominator of each update; the teaching notebook has 0.01.
    constraints : restrictions that act before the updates, or None.
    segments : (K,) integers or None. Source recording of each atom; diagonals end where it changes.
    weights : (K, N) float array, >= 0, or None for 1. The factors of the activations where `constraints` rank them; an
        activation of weight 0 is always 0.
    init : (K, N) float array, >= 0, or None for random in [0, 1).
    rng : seed or generator of the random start.

    Yields
    ------
    Step : with `H` (K, N), float32 if `V` and `W` are both float32, else float64.

    Raises
    ------
    ValueError, TypeError : at the call, before the first step, if shapes disagree or values are out of range.

    References
    ----------
    Lee & Seung (2001), NIPS 13; Driedger, Prätzlich & Müller (2015), ISMIR, algorithm of section 3.
    """
    V, W = check_magnitudes("V", V), check_magnitudes("W", W)
    check_same_bins(V, W)
    dtype = np.result_type(V, W)
    V, W = V.astype(dtype, copy=False), W.astype(dtype, copy=False)
    n_iter = check_count("n_iter", n_iter, least=1)
    beta = check_real("beta", beta, least=0, most=2)
    eps = check_real("eps", eps, least=0)
    shape = (W.shape[1], V.shape[1])
    labels = None if segments is None else np.asarray(segments)
    if labels is not None and labels.shape != shape[:1]:
        raise ValueError(f"segments has shape {labels.shape}; pass one number for each of the {shape[0]} atoms of W")
    if labels is not None and labels.dtype.kind not in "iu":
        raise TypeError(f"segments has dtype {labels.dtype}; pass integers, one for each atom of W")
    if init is None:
        H = np.random.default_rng(rng).random(shape).astype(dtype, copy=False)
        # The largest doubles below 1 round up to 1 in single precision.
        np.minimum(H, np.nextafter(dtype.type(1), dtype.type(0)), out=H)
    else:
        H = check_magnitudes("init", init, most=np.inf).astype(dtype, copy=False)
        if H.shape != shape:
            raise ValueError(f"init has shape {H.shape}; {shape[0]} atoms and {shape[1]} frames need {shape}")
    ranked, allowed = constraints.weights(W) if constraints else None, None
    if weights is not None:
        counted = check_magnitudes("weights", weights, most=np.inf).astype(dtype, copy=False)
        if counted.shape != shape:
            raise ValueError(f"weights has shape {counted.shape}; {shape[0]} atoms and {shape[1]} frames need {shape}")
        allowed = counted > 0
        ranked, H = counted if ranked is None else ranked * counted, H * allowed
    # The compiled kernels take neither rules that vary from frame to frame nor weights of single places.
    varies = weights is not None or (constraints is not None and constraints.varies)
    if beta == 1 and not varies and worthwhile(V, W, n_iter=n_iter):
        return engine_steps(V, W, H, n_iter=n_iter, eps=eps, constraints=constraints, segments=labels)
    fit = choose_fit(V, W, n_iter=n_iter, beta=beta, eps=eps)
    # This is no generator function, since that would put the checks above off to the first step.
    return steps_of(MatrixStep(0, H, fit), n_iter, constraints, labels, ranked, allowed)


def solve_activations(
    V: ArrayLike,
    W: ArrayLike,
    *,
    n_iter: int,
    beta: float = 1.0,
    eps: float = 0.0,
    constraints: LetItBee | None = None,
    segments: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    init: ArrayLike | None = None,
    rng: Seed = 0,
) -> Step:
    """The last step of `activation_steps`; same arguments."""
    steps = activation_steps(
        V,
        W,
        n_iter=n_iter,
        beta=beta,
        eps=eps,
        constraints=constraints,
        segments=segments,
        weights=weights,
        init=init,
        rng=rng,
    )
    return deque(steps, maxlen=1).pop()


def choose_fit(V: Floats, W: Floats, *, n_iter: int, beta: float, eps: float) -> Fit[Any]:
    """The fit, in the form that takes fewer multiplications in all."""
    n_bins, n_atoms = W.shape
    n_frames = V.shape[1]
    gram = n_bins * n_atoms * (n_atoms + n_frames) + n_iter * n_atoms * n_atoms * n_frames
    spectral = (1 + 2 * n_iter) * n_bins * n_atoms * n_frames
    if beta == 2 and gram < spectral:
        return GramFit.of(V, W, eps=eps)
    return SpectralFit.of(V, W, beta=beta, eps=eps)


def steps_of(
    step: MatrixStep,
    n_iter: int,
    constraints: LetItBee | None = None,
    segments: Integers | None = None,
    weights: Floats | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> Iterator[MatrixStep]:
    """Yield the `n_iter` steps that follow `step`, with any `Fit`. Nothing is checked.

    Parameters
    ----------
    constraints, segments : as for `activation_steps`. weights : as for `LetItBee.apply`.
    allowed : (K, N) bools, or None for all. Continuity cannot bring back activations that are not allowed. `step` must
        have them at 0.
    """
    done = step.iteration
    for iteration in range(n_iter):
        if constraints is not None and iteration % constraints.every == 0:
            H = constraints.apply(step.H, strength=(iteration + 1) / n_iter, segments=segments, weights=weights)
            step = MatrixStep(done + iteration, H if allowed is None else H * allowed, step.fit)
        step = MatrixStep(done + iteration + 1, step.fit.update(step.H, step.product), step.fit)
        yield step
