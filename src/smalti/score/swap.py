"""Replace grains by the stretches of another source that are most like them, and as loud."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, Indices, check_sound
from smalti.dsp.channels import as_channels, n_channels, to_mono
from smalti.dsp.stft import spectra_at
from smalti.grains.descriptors import descriptors_of, views
from smalti.grains.dictionary import OFF_GRID_AT_ONCE
from smalti.grains.shifted import sound_of_shifts
from smalti.grains.sound import cleaned
from smalti.grains.source import Source
from smalti.score.edit import Selection, chosen, cut, rise_db
from smalti.score.render import Sources, heard_of, recordings_of
from smalti.score.score import Score

# The most that a frame may be turned up or down to be as loud as the one that it replaces.
MOST_GAIN = 10 ** (24 / 20)


@dataclass(frozen=True, eq=False)
class _Frames:
    """Frames of a sound, as they are compared.

    Attributes
    ----------
    descriptors : (N, D), what they are compared by; see `smalti.grains.descriptors.descriptors_of`. Silent frames
        have 0, and are like nothing.
    norms : (N,) Euclidean lengths of their spectra; for several channels, the root of the mean square of these.
    """

    descriptors: NDArray[np.float32]
    norms: Floats

    @classmethod
    def of(cls, samples: Floats, centres: Indices, score: Score) -> "_Frames":
        """The frames of (L,) or (C, L) samples around `centres` (N,)."""
        mono, params = to_mono(samples), score.params
        seen = [view.T for view in views(mono, centres, params.hop, score.sr)]
        sizes = [view.shape[1] for view in seen]
        descriptors = descriptors_of(np.concatenate(seen, axis=1), sizes).astype(np.float32)
        powers = np.zeros(len(centres))
        for channel in as_channels(samples):
            for i in range(0, len(centres), OFF_GRID_AT_ONCE):
                spectra = spectra_at(channel, centres[i : i + OFF_GRID_AT_ONCE], params.n_fft, window=params.window)
                powers[i : i + OFF_GRID_AT_ONCE] += np.square(np.abs(spectra), dtype=np.float64).sum(axis=0)
        return cls(descriptors, np.sqrt(powers / n_channels(samples)))


def swapped(
    score: Score,
    selection: Selection,
    source: Source,
    recordings: Sources,
    recording: ArrayLike,
) -> Score:
    """The score with whole grains cut from another source.

    Each grain is replaced by the stretch that is most like it, frame by frame, in pitch, timbre and attacks. Gains of
    up to 24 dB make each frame as loud as it was. A shifted grain is compared as it was heard, and replaced by one that
    is not shifted. A grain longer than the recording ends with the recording.

    Parameters
    ----------
    selection : which grains.
    source : what they are to be cut from. A source that the score lacks is put after those it has.
    recordings : of ``score.sources``, as for `smalti.score.render.render`.
    recording : of `source`, (L,) or (C, L) likewise.

    Raises
    ------
    ValueError, TypeError : as `smalti.score.render.render`, and for a recording that is no sound or is silent.
    """
    grains = np.flatnonzero(chosen(score, selection))
    old = recordings_of(score, recordings)
    new = check_sound("recording", recording).astype(score.dtype, copy=False)
    if not source.corpus:
        (new,) = cleaned([new], score.sr, score.settings)
    if not to_mono(new).any():
        raise ValueError(f"{source.name} is silent; swap grains for those of a recording that sounds")
    n_new = score.params.n_frames(new.shape[-1])
    kept = np.isin(score.owners, grains, invert=True) | (score.steps < n_new)
    out = cut(score, kept)
    origins, centres, gains, levels = out.origins.copy(), out.centres.copy(), out.gains.copy(), out.levels.copy()
    sources = score.sources if source in score.sources else (*score.sources, source)
    origins[grains] = sources.index(source)
    for i, replaced, candidates in _pairs(score, grains, old, new):
        entries = slice(out.offsets[i], out.offsets[i] + out.lengths[i])
        replaced = _Frames(replaced.descriptors[: out.lengths[i]], replaced.norms[: out.lengths[i]])
        loudness = out.gains[entries] * replaced.norms
        first = _most_alike(replaced, loudness, candidates)
        norms = candidates.norms[first : first + len(loudness)]
        ratios = np.divide(replaced.norms, norms, out=np.full_like(norms, MOST_GAIN), where=norms > 0)
        gains[entries] *= np.clip(ratios, 1 / MOST_GAIN, MOST_GAIN)
        centres[i] = first * score.params.hop
        before, after = (np.square(values).mean(keepdims=True) for values in (loudness, gains[entries] * norms))
        levels[i] += rise_db(before, after)[0]
    shifts = list(out.shifts)
    for i in grains.tolist():
        shifts[i] = None
    return replace(
        out, sources=sources, origins=origins, centres=centres, gains=gains, levels=levels, shifts=tuple(shifts)
    )


def _pairs(score: Score, grains: Indices, old: Sequence[Floats], new: Floats) -> Iterator[tuple[int, _Frames, _Frames]]:
    """The place of every grain, its frames as they are heard, and all frames that it might be cut from."""
    for part in np.unique(score.parts[grains]).tolist():
        candidates = _worth_hearing(heard_of(score, new, part), score)
        for i in grains[score.parts[grains] == part].tolist():
            samples, centres = _heard(score, i, heard_of(score, old[score.origins[i]], part))
            yield i, _Frames.of(samples, centres, score), candidates


def _worth_hearing(samples: Floats, score: Score) -> _Frames:
    """All frames of a recording, a hop apart. Frames that are too quiet ever to sound are like nothing."""
    frames = _Frames.of(samples, np.arange(score.params.n_frames(samples.shape[-1])) * score.params.hop, score)
    if score.settings.quietest_db:
        least = frames.norms.max() * 10 ** (-score.settings.quietest_db / 20)
        frames.descriptors[frames.norms < least] = 0
    return frames


def _heard(score: Score, i: int, recording: Floats) -> tuple[Floats, Indices]:
    """The sound of a grain at a gain of 1, and the samples (n,) of it on which its frames are centred."""
    shift = score.shifts[i]
    if shift is None:
        centres: Indices = score.centres[i] + np.arange(score.lengths[i]) * score.params.hop
        return recording, centres
    shifted = sound_of_shifts(
        [replace(shift, recording=0)],
        [recording],
        score.params,
        score.sr,
        n_channels=n_channels(recording),
        keep_formants=score.settings.keep_formants,
        tape=score.settings.tape,
    )
    return shifted.recordings[0], shifted.centres


def _most_alike(replaced: _Frames, loudness: Floats, candidates: _Frames) -> int:
    """The first frame of the stretch that is most like `replaced`, whose (n,) frames count by their loudness.

    A frame that cannot be made as loud as the one it replaces counts for less. The first of equal stretches is taken.
    """
    n_starts = len(candidates.norms) - len(replaced.norms) + 1
    likeness = np.zeros(n_starts)
    for step, (descriptor, norm, weight) in enumerate(zip(replaced.descriptors, replaced.norms, loudness, strict=True)):
        stretch = slice(step, step + n_starts)
        reached = np.minimum(1, candidates.norms[stretch] * MOST_GAIN / max(norm, 1e-30))
        likeness += weight * (candidates.descriptors[stretch] @ descriptor) * reached
    return int(np.argmax(likeness))
