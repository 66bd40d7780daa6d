"""Render scores: from grains to sound.

`render` gives the samples of the mosaic again, or those of an edited score. `stems` takes them apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_sound
from smalti.dsp.channels import as_channels, n_channels, stack_channels, to_mono
from smalti.dsp.dynamics import Levelled, at_gain
from smalti.dsp.stft import istft, stft
from smalti.grains.dictionary import Dictionary, as_recordings
from smalti.grains.shifted import sound_of_shifts
from smalti.grains.sound import Aim, apply_gain_curve, cleaned, follow_target_contour, needs_target, sounded
from smalti.grains.source import as_sources
from smalti.score.score import Score

# The recordings that a score is made of; see `render`.
Sources = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike] | Dictionary

# Every stem counts at least this share of the loudest power, so that shares of silent bins are defined.
_SILENT_SHARE = 1e-12


def dry_score(score: Score) -> Score:
    """The score with its grains alone: added up as recorded, at its gain, and not drawn towards the target."""
    dry = replace(
        score.settings,
        phase="source",
        target_phase=0.0,
        harmony=0.0,
        colour=0.0,
        attacks=0.0,
        edges=0.0,
        purity=0.0,
        level_follow=0.0,
    )
    return replace(score, settings=dry)


def render(
    score: Score,
    sources: Sources,
    *,
    target: ArrayLike | None = None,
    dry: bool = False,
) -> Floats:
    """The sound of a score; if it was not edited, sample for sample that of its mosaic.

    For an edited score everything is made anew: grains are added up, phases refined, and the levels drawn towards the
    target's by as much as `Score.settings` say. The gain of the whole is the score's, so grains that were turned down
    sound quieter.

    Parameters
    ----------
    score : from `Mosaic.score` or `smalti.io.score_file.read_score`.
    sources : the recordings of ``score.sources``, in that order or by their names; or the dictionary that the mosaic
        was made of. (L,) or (C, L) each, at the score's rate and as the mosaic was given them.
    target : the target likewise; not needed where `needs_target` is false.
    dry : True leaves out all but the grains, added up as recorded, and that gain; see `dry_score`.

    Returns
    -------
    (L,) or (C, L) array of ``score.dtype``, peaks held as in `smalti.dsp.dynamics.at_gain`.

    Raises
    ------
    ValueError, TypeError : if sources are missing or of another kind, or a target that is needed is missing or is not
        as long as the mosaic.
    """
    return render_levelled(dry_score(score) if dry else score, recordings_of(score, sources), target).samples


def render_levelled(score: Score, recordings: Sequence[Floats], target: ArrayLike | None) -> Levelled:
    """`render` for recordings from `recordings_of`, with all that is known of the level."""
    heard = _target_of(score, target)
    audio = stack_channels([_part(score, recordings, part, heard) for part in range(score.n_parts)])
    if heard is not None:
        audio = follow_target_contour(audio, heard, score.sr, score.settings)
    audio = apply_gain_curve(audio, score.sr, score.settings)
    return at_gain(audio, score.sr, score.gain_db, limited=score.settings.loudness != "as-is")


def recordings_of(score: Score, sources: Sources) -> Sequence[Floats]:
    """The recordings of ``score.sources``, as grains are cut from them; arguments and errors as for `render`."""
    if isinstance(sources, Dictionary):
        if sources.sr != score.sr:
            raise ValueError(f"the dictionary is at {sources.sr} Hz but the score at {score.sr} Hz; take its own")
        _check_count(len(sources.recordings), score)
        return sources.recordings
    if isinstance(sources, Mapping):
        if missing := [source.name for source in score.sources if source.name not in sources]:
            raise ValueError(f"sources has no {missing[0]!r}, which the score is made of; pass it too")
        sources = [sources[source.name] for source in score.sources]
    given = [recording.astype(score.dtype, copy=False) for recording in as_recordings(sources)]
    _check_count(len(given), score)
    # Recordings of a corpus were cleaned when it was built.
    return [
        recording if source.corpus else cleaned([recording], score.sr, score.settings)[0]
        for recording, source in zip(given, score.sources, strict=True)
    ]


def _check_count(n_given: int, score: Score) -> None:
    if n_given != len(score.sources):
        named = ", ".join(source.name for source in score.sources[:3]) + (", ..." if len(score.sources) > 3 else "")
        raise ValueError(
            f"sources has {n_given} recordings; the score is made of {len(score.sources)} ({named}): pass these, in "
            "that order or by name"
        )


def _target_of(score: Score, target: ArrayLike | None) -> Floats | None:
    """The target, (L,) or (C, L), if the mosaic is drawn towards it."""
    if not needs_target(score.settings):
        return None
    if target is None:
        raise ValueError(
            f"the sound of this score is drawn towards its target, {score.target.name}; pass target, or dry=True"
        )
    heard = check_sound("target", target).astype(score.dtype, copy=False)
    if heard.shape[-1] != score.length:
        raise ValueError(f"target has {heard.shape[-1]} samples but the score {score.length}; pass its own excerpt")
    if score.n_parts > 1 and n_channels(heard) != score.n_parts:
        raise ValueError(f"target has {n_channels(heard)} channels but the score {score.n_parts}; pass its own")
    return heard


def _part(score: Score, recordings: Sequence[Floats], part: int, heard: Floats | None) -> Floats:
    """The sound of the grains of one channel, at the level they come to."""
    activations, dictionary = atoms_of(score, recordings, part)
    if heard is None:
        samples = np.zeros(score.length, score.dtype)
    else:
        samples = as_channels(heard)[part] if score.n_parts > 1 else to_mono(heard)
    return sounded(activations, dictionary, Aim(samples, score.settings, score.melodies))[0]


def atoms_of(score: Score, recordings: Sequence[Floats], part: int = 0) -> tuple[scipy.sparse.csc_array, Dictionary]:
    """The grains of one channel as activations (U, N) of a dictionary of what sounds, plain atoms before shifted ones.

    Parameters
    ----------
    recordings : of ``score.sources``, from `recordings_of`.
    """
    sounding, settings = score.sounding(part), score.settings
    width = score.channels if score.n_parts == 1 else 1
    kept, segments = np.unique(sounding.sources, return_inverse=True)
    _check_within(score, recordings)
    cut = [heard_of(score, recordings[i], part) for i in kept]
    centres, H = sounding.centres, sounding.H
    if sounding.shifts:
        needed = sorted({shift.recording for shift in sounding.shifts})
        by_place = {i: heard_of(score, recordings[i], part) for i in needed}
        shifted = sound_of_shifts(
            [replace(shift, recording=needed.index(shift.recording)) for shift in sounding.shifts],
            [by_place[i] for i in needed],
            score.params,
            score.sr,
            n_channels=width,
            keep_formants=settings.keep_formants,
            tape=settings.tape,
        )
        cut.append(shifted.recordings[0])
        segments = np.concatenate([segments, np.full(shifted.n_atoms, len(kept))])
        centres = np.concatenate([centres, shifted.centres])
        H = scipy.sparse.csc_array(scipy.sparse.vstack([H, sounding.shifted]))
    # The mosaic takes the image from its atoms if every one of them sounds, and otherwise from whole recordings.
    if sounding.shifts:
        in_part = len(kept) > 0
    else:
        n_frames = sum(score.params.n_frames(recording.shape[-1]) for recording in cut)
        in_part = len(kept) < len(recordings) or len(centres) < n_frames
    if not cut:
        # A score without grains is silent, but a dictionary needs a recording.
        cut = [np.zeros(1, score.dtype)]
    dictionary = Dictionary(
        recording_ids=segments.astype(np.intp),
        centres=centres.astype(np.intp),
        cancelled=np.zeros(len(segments), bool),
        sources=as_sources([str(i) for i in range(len(cut))]),
        params=score.params,
        sr=score.sr,
        recordings=cut,
        in_part=in_part,
        channels=width,
    )
    return H, dictionary


def heard_of(score: Score, recording: Floats, part: int) -> Floats:
    """The channels of a source's recording that grains of one channel are cut from: (L,) or (C, L)."""
    if score.settings.channels == "mono":
        return to_mono(recording)
    # The same rule as in `Dictionary.one_channel`.
    if score.n_parts > 1 and recording.ndim == 2:
        return recording[part] if len(recording) == score.n_parts else to_mono(recording)
    return recording


def _check_within(score: Score, recordings: Sequence[Floats]) -> None:
    """Refuse grains that lie altogether beyond their sources: they were cut from something else."""
    reach = score.params.n_fft // 2
    used, places = np.unique(score.origins, return_inverse=True)
    lengths = np.array([recordings[i].shape[-1] for i in used], np.intp)[places]
    ends = score.centres + score.lengths * score.params.hop
    beyond = (score.centres - reach > lengths) | (ends + reach < 0)
    if beyond.any():
        first = int(np.argmax(beyond))
        grain, lasts_s = score[first], lengths[first] / score.sr
        raise ValueError(
            f"grain {grain.id} is cut from {grain.source_start_s:.3f} s of {grain.source.name}, which lasts "
            f"{lasts_s:.3f} s there; take the recording that the score was made of"
        )


def added_up(score: Score, recordings: Sequence[Floats]) -> Floats:
    """The grains as recorded, added up at the gain of the score with no limit for peaks: (L,) or (C, L).

    Parameters
    ----------
    recordings : of ``score.sources``, from `recordings_of`.
    """
    dry = dry_score(score)
    sound = stack_channels([_part(dry, recordings, part, None) for part in range(score.n_parts)])
    return (10 ** (score.gain_db / 20) * apply_gain_curve(sound, score.sr, score.settings)).astype(score.dtype)


def stems(
    score: Score,
    sources: Sources,
    groups: NDArray[np.intp],
    *,
    target: ArrayLike | None = None,
    mosaic: Floats | None = None,
) -> Iterator[Floats]:
    """The mosaic taken apart: one sound for each group of grains, which add up to `render` of the score.

    A stem is the sum of its own grains as recorded, and a share of what the later stages add to the sum of all grains.
    In every bin of every frame that is the stem's share of the power of all stems.

    Parameters
    ----------
    score, sources, target : as for `render`.
    groups : (G,) ints >= 0, which stem each grain belongs to.
    mosaic : the sound that `render` gives, if it is known already; no target is needed then.

    Yields
    ------
    (L,) or (C, L) arrays like the mosaic, one for each group from 0 to the largest number in `groups`.

    References
    ----------
    Gunawan & Sen (2010), "Iterative phase estimation for the synthesis of separated sources from single-channel
    mixtures", IEEE SPL 17(5): what the estimates lack of their mixture is shared out among them, there in equal parts.
    """
    recordings = recordings_of(score, sources)
    if mosaic is None:
        mosaic = render_levelled(score, recordings, target).samples
    n_groups = int(groups.max(initial=-1)) + 1

    # Double precision, so that the stems add up to the mosaic however loud each of them is.
    total = np.zeros(mosaic.shape)
    powers = [np.zeros((score.params.n_bins, score.n_frames)) for _ in as_channels(mosaic)]
    for group in range(n_groups):
        sound = added_up(score.only(groups == group), recordings)
        total += sound
        for power, channel in zip(powers, as_channels(sound), strict=True):
            power += np.square(np.abs(stft(channel, score.params)), dtype=np.float64)
    rest = [stft(channel, score.params) for channel in as_channels(mosaic - total)]
    for group in range(n_groups):
        sound = added_up(score.only(groups == group), recordings)
        out = []
        for channel, power, left in zip(as_channels(sound), powers, rest, strict=True):
            # Later stages may fill a bin that is silent in all stems; all have the same share of it.
            least = _SILENT_SHARE * power.max(initial=0) + np.finfo(np.float64).tiny
            own_power = np.square(np.abs(stft(channel, score.params)), dtype=np.float64)
            share = (own_power + least) / (power + n_groups * least)
            out.append((channel + istft(share * left, score.params, length=score.length)).astype(score.dtype))
        yield stack_channels(out)
