"""From activations back to sound."""

from typing import Any

import numpy as np
import scipy.sparse

from smalti._checks import Floats, check_choice, check_count
from smalti.dictionary import Dictionary
from smalti.phase import griffin_lim, with_phase
from smalti.stft import Complexes, istft

PHASES = ("source", "target", "griffin-lim")
AIMS = ("amplitude", "geometric")

# The loudest sample a mosaic may have: -1 dB of full scale, so that lossy coding and the curve between two samples
# stay below it too.
CEILING = 10 ** (-1 / 20)


def synthesize(
    activations: Any,
    dictionary: Dictionary,
    *,
    length: int,
    phase: str = "source",
    target: Complexes | None = None,
    n_iter: int = 30,
    momentum: float = 0.99,
    aim: str = "amplitude",
) -> Floats:
    """The sound of `activations`: sample i of it belongs to sample i of the target.

    Parameters
    ----------
    activations : (K, N) array or scipy.sparse matrix: the gain of source frame k in target frame n.
    dictionary : the source frames.
    length : samples wanted, those of the target.
    phase : where the phase comes from.
        "source": source frames are added up as recorded, each windowed grain at its gain.
        "target": the magnitudes ``W @ H`` take the phase of `target` (the teaching notebook's way; much of the target
        leaks through).
        "griffin-lim": the magnitudes ``W @ H``, with a phase refined from that of "source".
    target : (F, N) complex STFT of the target; only for phase "target".
    n_iter, momentum : see `smalti.phase.griffin_lim`.
    aim : for "griffin-lim", the magnitudes to reach. "amplitude": ``W @ H``, as if all grains met in phase.
        "geometric": the geometric mean of that and of ``sqrt(W**2 @ H**2)``, what grains of unrelated phase come to;
        the amplitude sum alone overfills the noise between partials.

    Returns
    -------
    (length,) float array; may exceed 1: see `peak_safe`.

    Raises
    ------
    ValueError : if shapes disagree, if activations are not finite, or if phase "target" comes without one.
    """
    check_choice("phase", phase, PHASES)
    check_choice("aim", aim, AIMS)
    check_count("length", length, least=1)
    H = scipy.sparse.csc_array(activations)
    params, needed = dictionary.params, dictionary.params.n_frames(length)
    if H.shape != (dictionary.n_atoms, needed):
        raise ValueError(
            f"activations have shape {H.shape}; {dictionary.n_atoms} atoms and {length} samples at hop {params.hop} "
            f"need {(dictionary.n_atoms, needed)}"
        )
    if not np.isfinite(H.data).all():
        raise ValueError("activations hold values that are NaN or infinite; pass finite gains")
    if phase == "target":
        if target is None:
            raise ValueError("phase 'target' needs the target's STFT: pass target=stft(samples, params)")
        if target.shape != (params.n_bins, needed):
            raise ValueError(f"target has shape {target.shape}; these activations need {(params.n_bins, needed)}")
        return istft(with_phase(mix(dictionary.magnitudes, H), target), params, length=length)
    grains = mix(dictionary.spectra, H)
    if phase == "source":
        return istft(grains, params, length=length)
    magnitudes = mix(dictionary.magnitudes, H)
    if aim == "geometric":
        magnitudes = np.sqrt(magnitudes * power_sum(dictionary, H))
    return griffin_lim(magnitudes, grains, params, length=length, n_iter=n_iter, momentum=momentum)


def power_sum(dictionary: Dictionary, activations: Any) -> Floats:
    """``sqrt(W**2 @ H**2)``, (F, N): the magnitudes that grains of unrelated phase add up to."""
    # By way of unit atoms, whose squares neither overflow nor vanish however loud or quiet the source is.
    loudness = scipy.sparse.csc_array(scipy.sparse.csc_array(activations).multiply(dictionary.norms[:, None]))
    total: Floats = np.sqrt(mix(dictionary.unit_magnitudes**2, loudness.power(2)))
    return total


def mix(spectra: Any, activations: Any) -> Any:
    """``spectra @ activations``, (F, K) by a sparse (K, N): cheap when few source frames sound at once."""
    H = scipy.sparse.csc_array(activations)
    if H.nnz > 0.2 * H.shape[0] * H.shape[1]:
        return spectra @ H.toarray()
    # As rows of frames, so that sparse times dense walks along contiguous atoms.
    return (H.T @ np.ascontiguousarray(spectra.T)).T


def peak_safe(samples: Floats, *, ceiling: float = CEILING) -> tuple[Floats, float]:
    """`samples` turned down, if need be, until none exceeds `ceiling` (> 0); and the gain in dB (0 or less)."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak <= ceiling:
        return samples, 0.0
    # Rounding the gain and then the product may lift the peak by one part in 1 / eps; two are taken off.
    gain = ceiling / peak * (1 - 2 * float(np.finfo(samples.dtype).eps))
    return samples * samples.dtype.type(gain), 20 * float(np.log10(gain))
