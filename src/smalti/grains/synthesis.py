"""Synthesis: from activations back to sound."""

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
    n_iter, momentum : see `smalti.dsp.phase.griffin_lim`.
    aim : for "griffin-lim", the magnitudes to reach. "amplitude": ``W @ H``, as if all grains met in phase.
        "geometric": the geometric mean of that and of ``sqrt(W**2 @ H**2)``, what grains of unrelated phase come to;
        the amplitude sum alone overfills the noise between partials.

    Returns
    -------
    (length,) float array, or (C, length) where the dictionary has C channels; may exceed 1: see
    `smalti.dsp.dynamics.match_loudness`.

    Notes
    -----
    Every channel is the sum of its own grains at the same gains. Added up as recorded (phase "source") they keep the
    image of the frames used. For the other phases the channels of each recording are first mixed towards the coherence
    of all of it, see `Dictionary.toward_images`; then bins are corrected by one factor for all channels, so that level
    and phase between them stay: for "griffin-lim" see `smalti.dsp.phase.shared_griffin_lim`, for "target"
    `target_correction`, and for what is left to do `smalti.dsp.channels.restore_image`.

    Raises
    ------
    ValueError : if shapes disagree, if activations are not finite, or if phase "target" comes without one.
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
    # The sound depends on the atoms that sound and on nothing else, so a score can make it again from these.
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
    """The atoms that have any activation: of a long source most never sound."""
    return np.unique(H.indices[H.data != 0]).astype(np.intp)


def target_correction(
    magnitudes: Floats, channels: Sequence[Complexes], grains: Complexes, target: Complexes
) -> Complexes:
    """One factor for the sums of grains of all channels, at which their mono mix has the phase of the target.

    Its magnitude brings the power of all channels together to that of `magnitudes`. (What would bring the mix to its
    own magnitude is next to infinite where the channels cancel in it and small where they add up.) Where all channels
    are one signal at levels of 0 or more, each becomes `magnitudes` with the phase of the target, at its level.

    Parameters
    ----------
    magnitudes : (F, N) float array, >= 0: the root of the power that the channels are to have together.
    channels : C complex arrays (F, N), their sums of grains. grains : (F, N), that of the mono mix.
    target : (F, N) complex.

    Returns
    -------
    (F, N) complex array, 0 where all channels or the target are.
    """
    one = np.ones_like(magnitudes)
    turn = with_phase(one, grains).conj()
    # The mix may be silent in a bin in which channels that cancel in it still sound.
    turn[turn == 0] = 1
    had = np.sqrt(sum((np.square(np.abs(own)) for own in channels), start=np.zeros_like(magnitudes)))
    gain = np.divide(magnitudes, had, out=np.zeros_like(had), where=had > magnitudes * np.finfo(had.dtype).tiny)
    factor: Complexes = gain * turn * with_phase(one, target)
    return factor


def aimed_at(magnitudes: Floats, activations: Any, aim: str) -> Floats:
    """The magnitudes (F, N) that grains of `magnitudes` (F, K) are to reach; see `synthesize` for `aim`."""
    total: Floats = mix(magnitudes, activations)
    return np.sqrt(total * power_sum(magnitudes, activations)) if aim == "geometric" else total


def power_sum(magnitudes: Floats, activations: Any) -> Floats:
    """``sqrt(W**2 @ H**2)``, (F, N): the magnitudes that grains of unrelated phase add up to."""
    # By way of unit atoms, whose squares neither overflow nor vanish however loud or quiet the source is.
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
