"""The papers' formulas in plain float64 numpy: smalti's solvers are raced against them and checked by them.

Nothing is rearranged, reused or kept from one iteration to the next; loops over frames are where the papers have them.
V (F, N) is the target, W (F, K) the dictionary, H (K, N) the activations. The first three yield H after each iteration.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# Keeps a bin of silence from dividing 0 by 0.
TINY = np.finfo(np.float64).eps


def notebook(V: Matrix, W: Matrix, H: Matrix, *, eps: float) -> Iterator[Matrix]:
    """The teaching notebook's Euclidean update."""
    H = H.copy()
    while True:
        H *= (W.T @ V + eps) / (W.T @ W @ H + eps)
        yield H


def notebook_by_model(V: Matrix, W: Matrix, H: Matrix, *, eps: float) -> Iterator[Matrix]:
    """The same update with its denominator computed as W'(W H), through the model, as NMF is mostly written."""
    while True:
        H = H * ((W.T @ V + eps) / (W.T @ (W @ H) + eps))
        yield H


def notebook_with_error(V: Matrix, W: Matrix, H: Matrix, *, eps: float) -> Iterator[Matrix]:
    """The same, with the error that the update lowers, as one would plot it."""
    for updated in notebook(V, W, H, eps=eps):
        0.5 * np.sum((V - W @ updated) ** 2)
        yield updated


def kullback_leibler(V: Matrix, W: Matrix, H: Matrix) -> Iterator[Matrix]:
    """Lee & Seung (2001), theorem 2, and the divergence itself."""
    while True:
        H = H * (W.T @ (V / (W @ H + TINY))) / (W.sum(axis=0)[:, None] + TINY)
        Y = W @ H + TINY
        np.sum(V * np.log(V / Y + TINY) - V + Y)
        yield H


def let_it_bee(
    V: Matrix, W: Matrix, H: Matrix, *, n_iter: int, repetition: int, polyphony: int, continuity: int
) -> Iterator[Matrix]:
    """Driedger, Prätzlich & Müller (2015), section 3: three restrictions, then the Kullback-Leibler update."""
    n_atoms, n_frames = H.shape
    for iteration in range(n_iter):
        fading = 1 - (iteration + 1) / n_iter

        R = H.copy()
        for t in range(n_frames):
            loudest = H[:, max(0, t - repetition) : t + repetition + 1].max(axis=1)
            R[:, t] = np.where(H[:, t] == loudest, H[:, t], fading * H[:, t])

        P = fading * R
        for t in range(n_frames):
            strongest = np.argsort(R[:, t])[-polyphony:]
            P[strongest, t] = R[strongest, t]

        C = np.zeros_like(P)
        padded = np.pad(P, continuity)
        for i in range(2 * continuity + 1):
            C += padded[i : i + n_atoms, i : i + n_frames]

        H = next(kullback_leibler(V, W, C))
        yield H


def matching_pursuit(V: Matrix, W: Matrix, *, n_atoms: int) -> Matrix:
    """Orthogonal matching pursuit, signed, one frame at a time, atoms compared at unit length."""
    H = np.zeros((W.shape[1], V.shape[1]))
    norms = np.linalg.norm(W, axis=0)
    unit = W / np.where(norms > 0, norms, 1)
    for t in range(V.shape[1]):
        support: list[int] = []
        residual = V[:, t]
        for _ in range(n_atoms):
            support.append(int(np.argmax(np.abs(unit.T @ residual))))
            gains = np.linalg.lstsq(unit[:, support], V[:, t])[0]
            residual = V[:, t] - unit[:, support] @ gains
        H[support, t] = gains / norms[support]
    return H
