"""Turn activations into sound: synthesis, then phase, colour, attacks and level contour."""

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

# Grains that follow a melody begin with its notes, so their attacks are sharpened only by this share of the setting. A
# larger share follows the target's attacks slightly closer, but changes the source's own sound three times as much.
IN_TUNE_ATTACKS = 0.55


def cleaned(recordings: Sequence[Floats], sr: int, settings: Settings) -> list[Floats]:
    """Source recordings, (L,) or (C, L) each, with offsets removed and edges faded where `settings` ask for that."""
    if settings.remove_offset:
        recordings = [remove_dc(recording, sr) for recording in recordings]
    if settings.fade_s:
        recordings = [fade_edges(recording, round(settings.fade_s * sr)) for recording in recordings]
    return list(recordings)


@dataclass(frozen=True, eq=False)
class Aim:
    """The target that the sound of grains is drawn towards, and how far.

    Attributes
    ----------
    target : (L,), the mono mix or the channel that the grains were chosen for.
    settings : how far the sound is drawn towards it.
    melodies : (M, N) Hz, the melodies that grains follow; M may be 0.
    """

    target: Floats
    settings: Settings
    melodies: Floats


def sounded(activations: scipy.sparse.csc_array, dictionary: Dictionary, aim: Aim) -> tuple[Floats, Floats]:
    """The sound of activations (K, N), after and before its levels are shaped: two arrays, each (L,) or (C, L)."""
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
        # All channels are turned alike, by the turn of their mix, so that the phases between them stay.
        turn = turn_toward(stft(to_mono(audio), params), wanted, settings.target_phase / 100)
        turned = [spectrum * turn for spectrum in own]
        if len(own) == 1:
            audio = istft(turned[0], params, length=length)
        else:
            audio = stack_channels(restore_image(turned, own, params, length=length))
    return shaped(audio, dictionary, aim), audio


def shaped(audio: Floats, dictionary: Dictionary, aim: Aim) -> Floats:
    """Apply the gains of `purity`, `harmony`, `colour`, `attacks` and `edges` to `audio`, in that order.

    Parameters
    ----------
    audio : (L,) or (C, L) float array, as long as the target; not modified. The gains are found from its mono mix, and
        all channels get the same.
    dictionary : the source frames; their grid and sample rate are used.
    aim : the target, the settings and the melodies.

    Returns
    -------
    Array of the same shape and dtype; `audio` itself if the settings use none of them.
    """
    settings, sr, unshaped = aim.settings, dictionary.sr, audio
    followed = len(aim.melodies) > 0
    pure = settings.purity > 0 and followed
    if not (pure or settings.harmony or settings.colour or settings.attacks or settings.edges):
        return audio
    # Imported here, because they load a part of scipy that nothing else needs.
    from smalti.dsp.onsets import onset_times
    from smalti.dsp.shaping import attack_shape, colour, edge_gains, fine_colour, purity

    if pure:
        hop = dictionary.params.hop
        audio = purity(to_mono(audio), aim.melodies, sr, hop=hop, share=settings.purity / 100).apply(audio)
    if settings.harmony:
        audio = fine_colour(to_mono(audio), aim.target, sr, share=settings.harmony / 100).apply(audio)
    if settings.colour:
        share, most_db = settings.colour / 100, settings.colour_most_db
        audio = colour(to_mono(audio), aim.target, sr, share=share, most_db=most_db).apply(audio)
    onsets_s = onset_times(aim.target, sr) if settings.attacks or settings.edges else np.zeros(0)
    if settings.attacks:
        share = settings.attacks / 100 * (IN_TUNE_ATTACKS if followed else 1)
        audio = attack_shape(to_mono(audio), aim.target, sr, onsets_s, share=share).apply(audio)
    if settings.edges:
        audio = audio * edge_gains(to_mono(audio), aim.target, sr, onsets_s, share=settings.edges / 100)
    if audio.ndim == 2:
        # The gains change how much each moment counts for the coherence between channels, so it is matched again.
        audio = match_coherence(audio, unshaped, dictionary.params)
    return audio


def follow_target_contour(audio: Floats, recording: Floats, sr: int, settings: Settings) -> Floats:
    """Draw the loudness contour of `audio` towards that of the target `recording`, with one gain for all channels."""
    return follow_contour(audio, recording, sr, settings.level_follow / 100) if settings.level_follow else audio


def apply_gain_curve(audio: Floats, sr: int, settings: Settings) -> Floats:
    """Apply the gain curve `level_db` to `audio`, on top of all other level changes."""
    if settings.level_db == 0:
        return audio
    return amplified(audio, on_times(settings.level_db, np.arange(audio.shape[-1]) / sr))


def needs_target(settings: Settings) -> bool:
    """True if these settings draw the sound towards its target, which is then required."""
    return settings.leaks or any(
        (settings.harmony, settings.colour, settings.attacks, settings.edges, settings.level_follow)
    )
