"""Synthesis: turn activations into sound."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from smalti._checks import Floats, check_choice, check_count, check_real
from smalti.dsp.channels import restore_image, stack_channels
from smalti.dsp.phase import AIMS, PHASES, griffin_lim, shared_griffin_lim, with_phase
from smalti.dsp.stft import Complexes, istft
from smalti.grains.dictionary import Dictionary
from smalti.nmf.pursuit import unit_columns


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
    """The sound of `activations`. Its sample i belongs to sample i of the target.

    Parameters
    ----------
    activations : (K, N) array or scipy.sparse matrix: the gain of source frame k in target frame n.
    dictionary : the source frames.
    length : the number of samples, that of the target.
    phase : where the phase comes from.
        "source": source frames are added up as recorded, each windowed grain at its gain.
        "target": the magnitudes ``W @ H`` get the phase of `target`, as in the teaching notebook; much of the target
        leaks through.
        "griffin-lim": the magnitudes ``W @ H`` get a phase refined from that of "source".
    target : (F, N) complex STFT of the target; only for phase "target".
    n_iter, momentum : see `smalti.dsp.phase.griffin_lim`.
    aim : for "griffin-lim", the magnitudes to reach. "amplitude": ``W @ H``, as if all grains met in phase.
        "geometric": the geometric mean of that and of ``sqrt(W**2 @ H**2)``, the sum of grains of unrelated phase. The
        amplitude sum alone makes the noise between partials too loud.

    Returns
    -------
    (length,) float array, or (C, length) if the dictionary has C channels. It may exceed 1; see
    `smalti.dsp.dynamics.match_loudness`.

    Notes
    -----
    Every channel is the sum of its own grains, at gains that are the same in all channels. With phase "source" this sum
    keeps the stereo image of the frames used. The other phases take three steps:

    - The channels of each recording are mixed towards the coherence of the whole recording; see
      `Dictionary.toward_images`.
    - Each bin is corrected by one factor for all channels, so that their relative levels and phases stay; see
      `smalti.dsp.phase.shared_griffin_lim` and `target_correction`.
    - The image is restored as far as it still differs; see `smalti.dsp.channels.restore_image`.

    Raises
    ------
    ValueError, TypeError : if shapes disagree, if activations are not finite, if phase "target" comes without a target,
        or if another argument is out of range.
    """
    check_choice("phase", phase, PHASES)
    check_choice("aim", aim, AIMS)
    check_count("length", length, least=1)
    check_count("n_iter", n_iter, least=0)
    check_real("momentum", momentum, least=0, most=1)
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
    # Only the atoms that sound take part, so that a score, which stores no others, gives exactly the same sound.
    used = _sounding(H)
    if not len(used):
        return stack_channels([np.zeros(length, dictionary.norms.dtype)] * dictionary.n_channels)
    if len(used) < dictionary.n_atoms:
        dictionary, H = dictionary.only(used), scipy.sparse.csc_array(scipy.sparse.csr_array(H)[used])
    if phase == "source":
        sums = [mix(frames, H) for frames in dictionary.channel_frames()]
        return stack_channels([istft(grains, params, length=length) for grains in sums])
    if phase == "target":
        aim = "amplitude"
    if dictionary.n_channels == 1:
        grains, magnitudes = mix(dictionary.spectra, H), aimed_at(dictionary.magnitudes, H, aim)
        if target is not None and phase == "target":
            return istft(with_phase(magnitudes, target), params, length=length)
        return griffin_lim(magnitudes, grains, params, length=length, n_iter=n_iter, momentum=momentum)
    mixing = dictionary.toward_images(np.asarray(H.power(2).sum(axis=1)).ravel())
    channels, power = [], np.zeros((params.n_bins, needed), dictionary.norms.dtype)
    for frames in dictionary.channel_frames(mixing):
        channels.append(mix(frames, H))
        power += np.square(aimed_at(np.abs(frames), H, aim))
    magnitudes = np.sqrt(power)
    if target is not None and phase == "target":
        factor = target_correction(magnitudes, channels, mix(dictionary.spectra, H), target)
    else:
        factor = shared_griffin_lim(magnitudes, channels, params, length=length, n_iter=n_iter, momentum=momentum)
    return stack_channels(restore_image([factor * own for own in channels], channels, params, length=length))


def _sounding(H: scipy.sparse.csc_array) -> NDArray[np.intp]:
    """The indices of the atoms with any activation; most atoms of a long source have none."""
    return np.unique(H.indices[H.data != 0]).astype(np.intp)


def target_correction(
    magnitudes: Floats, channels: Sequence[Complexes], grains: Complexes, target: Complexes
) -> Complexes:
    """A factor for each bin, the same for all channels, that gives their mono mix the phase of the target.

    The magnitude of the factor brings the summed power of the channels to that of `magnitudes`. It is not chosen by the
    magnitude of the mix, because that factor would be almost infinite where the channels cancel, and small where they
    add up. If all channels are one signal at levels of 0 or more, each becomes `magnitudes` with the phase of the
    target, at its own level.

    Parameters
    ----------
    magnitudes : (F, N) float array, >= 0: the root of the summed power that the channels are to have.
    channels : C complex arrays (F, N), the sums of grains of each channel.
    grains : (F, N) complex, the sums of grains of the mono mix.
    target : (F, N) complex.

    Returns
    -------
    (F, N) complex array, 0 where all channels are silent or the target is.
    """
    ones = np.ones_like(magnitudes)
    turn = with_phase(ones, grains).conj()
    # The mix is silent in bins where the channels cancel, yet these channels still sound.
    turn[turn == 0] = 1
    had = np.sqrt(sum((np.square(np.abs(own)) for own in channels), start=np.zeros_like(magnitudes)))
    gain = np.divide(magnitudes, had, out=np.zeros_like(had), where=had > magnitudes * np.finfo(had.dtype).tiny)
    factor: Complexes = gain * turn * with_phase(ones, target)
    return factor


def aimed_at(magnitudes: Floats, activations: Any, aim: str) -> Floats:
    """The magnitudes (F, N) that the sum of grains of `magnitudes` (F, K) should have; see `synthesize` for `aim`."""
    total: Floats = mix(magnitudes, activations)
    return np.sqrt(total * power_sum(magnitudes, activations)) if aim == "geometric" else total


def power_sum(magnitudes: Floats, activations: Any) -> Floats:
    """``sqrt(W**2 @ H**2)``, (F, N): the magnitudes that grains of unrelated phase add up to."""
    # Atoms of unit norm are squared, because their squares neither overflow nor vanish, however loud the source is.
    norms = np.linalg.norm(magnitudes, axis=0)
    loudness = scipy.sparse.csc_array(scipy.sparse.csc_array(activations).multiply(norms[:, None]))
    total: Floats = np.sqrt(mix(unit_columns(magnitudes, norms) ** 2, loudness.power(2)))
    return total


def mix(spectra: Any, activations: Any) -> Any:
    """``spectra @ activations``, (F, K) by a sparse (K, N): cheap when few source frames sound at once."""
    H = scipy.sparse.csc_array(activations)
    if H.nnz > 0.2 * H.shape[0] * H.shape[1]:
        return spectra @ H.toarray()
    # The spectra become rows, so that sparse times dense walks along contiguous atoms.
    return (H.T @ np.ascontiguousarray(spectra.T)).T
