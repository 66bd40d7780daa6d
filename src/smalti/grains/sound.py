"""The sound of activations: added up, with its phase, colour, attacks and level contour."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from smalti._checks import Floats
from smalti.curves import on_times
from smalti.dsp.channels import as_channels, match_coherence, restore_image, stack_channels, to_mono
from smalti.dsp.conditioning import fade_edges, remove_dc
from smalti.dsp.dynamics import amplified, follow_contour
from smalti.dsp.phase import turn_toward
from smalti.dsp.stft import istft, stft
from smalti.grains.dictionary import Dictionary
from smalti.grains.synthesis import synthesize
from smalti.settings import Settings

# Grains that follow a melody begin with its notes. Their attacks need to be sharpened only by so much of what is asked:
# more follows the target's attacks a little closer, and takes three times as much from the source's own sound.
IN_TUNE_ATTACKS = 0.55


def cleaned(recordings: Sequence[Floats], sr: int, settings: Settings) -> list[Floats]:
    """Source recordings, (L,) or (C, L) each, without offsets and with fades, as far as the settings have that."""
    if settings.remove_offset:
        recordings = [remove_dc(of, sr) for of in recordings]
    if settings.fade_s:
        recordings = [fade_edges(of, round(settings.fade_s * sr)) for of in recordings]
    return list(recordings)


@dataclass(frozen=True, eq=False)
class Aim:
    """The target that the sound of grains is drawn towards, and how far.

    Attributes
    ----------
    target : (L,), the mono mix or the channel that the grains were chosen for. settings : how far.
    melodies : (M, N) Hz, what grains follow; M may be 0.
    """

    target: Floats
    settings: Settings
    melodies: Floats


def sounded(activations: scipy.sparse.csc_array, dictionary: Dictionary, aim: Aim) -> tuple[Floats, Floats]:
    """The sound of activations (K, N), and what it was before its levels were shaped: (L,) or (C, L) each."""
    settings, params, length = aim.settings, dictionary.params, len(aim.target)
    wanted = stft(aim.target, params) if settings.leaks else None
    audio = synthesize(
        activations,
        dictionary,
        length=length,
        phase=settings.phase,
        target=wanted if settings.phase == "target" else None,
        n_iter=settings.phase_iterations,
        momentum=settings.momentum,
        aim=settings.aim,
    )
    if wanted is not None and settings.phase != "target":
        own = [stft(channel, params) for channel in as_channels(audio)]
        # One turn for all channels, that of their mix, so that what lies between them stays.
        turn = turn_toward(stft(to_mono(audio), params), wanted, settings.target_phase / 100)
        turned = [spectrum * turn for spectrum in own]
        if len(own) == 1:
            audio = istft(turned[0], params, length=length)
        else:
            audio = stack_channels(restore_image(turned, own, params, length=length))
    return shaped(audio, dictionary, aim), audio


def shaped(audio: Floats, dictionary: Dictionary, aim: Aim) -> Floats:
    """`audio` with the levels that `purity`, `colour` and `attacks` give it, in that order.

    Parameters
    ----------
    audio : (L,) or (C, L) float array, as long as the target; not modified. All channels get the gains that are found
        from its mono mix.
    dictionary : on whose grid it was made.

    Returns
    -------
    Array of that shape and dtype; `audio` itself if the settings have none of them.
    """
    settings, sr, unshaped = aim.settings, dictionary.sr, audio
    followed = len(aim.melodies) > 0
    pure = settings.purity > 0 and followed
    if not (settings.colour or settings.attacks or pure):
        return audio
    # When first needed, as they load a part of scipy that nothing else does.
    from smalti.dsp.onsets import onset_times
    from smalti.dsp.shaping import attack_shape, colour, purity

    if pure:
        hop = dictionary.params.hop
        audio = purity(to_mono(audio), aim.melodies, sr, hop=hop, share=settings.purity / 100).apply(audio)
    if settings.colour:
        audio = colour(to_mono(audio), aim.target, sr, share=settings.colour / 100).apply(audio)
    if settings.attacks:
        share = settings.attacks / 100 * (IN_TUNE_ATTACKS if followed else 1)
        audio = attack_shape(to_mono(audio), aim.target, sr, onset_times(aim.target, sr), share=share).apply(audio)
    if audio.ndim == 2:
        # Gains change how much each moment counts in the coherence between channels, so it is matched again.
        audio = match_coherence(audio, unshaped, dictionary.params)
    return audio


def follow_target_contour(audio: Floats, recording: Floats, sr: int, settings: Settings) -> Floats:
    """Draw the loudness contour of all channels together towards the target's (C, L)."""
    return follow_contour(audio, recording, sr, settings.level_follow / 100) if settings.level_follow else audio


def apply_gain_curve(audio: Floats, sr: int, settings: Settings) -> Floats:
    """`audio` louder and softer by `level_db`: on top of whatever level it is to have."""
    if settings.level_db == 0:
        return audio
    return amplified(audio, on_times(settings.level_db, np.arange(audio.shape[-1]) / sr))


# --- scores


def needs_target(settings: Settings) -> bool:
    """True if these settings draw the sound towards its target, which must be there then."""
    return settings.leaks or any((settings.colour, settings.attacks, settings.level_follow))
