"""Grains cut from another source: the stretches of it that are most like what they replace, and as loud."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smalti._checks import Floats, check_sound
from smalti.dsp.channels import as_channels, n_channels, to_mono
from smalti.dsp.stft import spectra_at
from smalti.grains.descriptors import keys_of, views
from smalti.grains.shifted import sound_of_shifts
from smalti.grains.sound import cleaned
from smalti.grains.source import Source
from smalti.score.edit import Selection, chosen, cut, rise_db
from smalti.score.render import Sources, heard_of, recordings_of
from smalti.score.score import Ints, Score

# The most that a frame may be turned up or down to be as loud as the one that it replaces.
MOST_GAIN = 10 ** (24 / 20)
# Frames transformed at once, which bounds the memory.
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class _Frames:
    """Frames of a sound: keys (N, D) that they are compared by, as from `smalti.grains.descriptors.keys_of`, and norms
    (N,).

    Norms are the Euclidean lengths of their spectra, of several channels the root of the mean square of these.

    Where nothing is heard, so is nothing alike: the keys are 0.
    """

    keys: NDArray[np.float32]
    norms: Floats

    @classmethod
    def of(cls, samples: Floats, centres: Ints, score: Score) -> "_Frames":
        """Of (L,) or (C, L) samples, around `centres` (N,)."""
        mono, params = to_mono(samples), score.params
        seen = [view.T for view in views(mono, centres, params.hop, score.sr)]
        keys = keys_of(np.concatenate(seen, axis=1), [view.shape[1] for view in seen]).astype(np.float32)
        powers = np.zeros(len(centres))
        for channel in as_channels(samples):
            for i in range(0, len(centres), _BLOCK):
                spectra = spectra_at(channel, centres[i : i + _BLOCK], params.n_fft, window=params.window)
                powers[i : i + _BLOCK] += np.square(np.abs(spectra), dtype=np.float64).sum(axis=0)
        return cls(keys, np.sqrt(powers / n_channels(samples)))


def swapped(
    score: Score,
    selection: Selection,
    source: Source,
    recordings: Sources,
    recording: ArrayLike,
) -> Score:
    """The score with whole grains cut from another source.

    Each is replaced by the stretch of it that is most like it, frame by frame, in pitch, timbre and attacks, and at
    gains that make each frame as loud as it was, by up to 24 dB. What was shifted is compared as it was heard, and
    replaced by what is not shifted. A grain longer than the recording ends with that.

    Parameters
    ----------
    selection : which grains.
    source : what they are to be cut from; one that the score has is taken again, another is put after those it has.
    recordings : of ``score.sources``, as for `smalti.score.render.render`.
    recording : of `source`, (L,) or (C, L) likewise.

    Raises
    ------
    ValueError, TypeError : as `render`, and for a recording that is no sound or is silent.
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
    for i, was, there in _pairs(score, grains, old, new):
        entries = slice(out.offsets[i], out.offsets[i] + out.lengths[i])
        was = _Frames(was.keys[: out.lengths[i]], was.norms[: out.lengths[i]])
        loudness = out.gains[entries] * was.norms
        first = _most_alike(was, loudness, there)
        norms = there.norms[first : first + len(loudness)]
        ratios = np.divide(was.norms, norms, out=np.full_like(norms, MOST_GAIN), where=norms > 0)
        gains[entries] *= np.clip(ratios, 1 / MOST_GAIN, MOST_GAIN)
        centres[i] = first * score.params.hop
        before, after = (np.square(of).mean(keepdims=True) for of in (loudness, gains[entries] * norms))
        levels[i] += rise_db(before, after)[0]
    shifts = list(out.shifts)
    for i in grains.tolist():
        shifts[i] = None
    return replace(
        out, sources=sources, origins=origins, centres=centres, gains=gains, levels=levels, shifts=tuple(shifts)
    )


def _pairs(score: Score, grains: Ints, old: Sequence[Floats], new: Floats) -> Iterator[tuple[int, _Frames, _Frames]]:
    """Every grain, by its place, with its frames as they are heard and all those that it might be cut from."""
    for part in np.unique(score.parts[grains]).tolist():
        there = _worth_hearing(heard_of(score, new, part), score)
        for i in grains[score.parts[grains] == part].tolist():
            samples, centres = _heard(score, i, heard_of(score, old[score.origins[i]], part))
            yield i, _Frames.of(samples, centres, score), there


def _worth_hearing(samples: Floats, score: Score) -> _Frames:
    """All frames of a recording, a hop apart, those so quiet that they never sound being like nothing."""
    frames = _Frames.of(samples, np.arange(score.params.n_frames(samples.shape[-1])) * score.params.hop, score)
    if score.settings.quietest_db:
        least = frames.norms.max() * 10 ** (-score.settings.quietest_db / 20)
        frames.keys[frames.norms < least] = 0
    return frames


def _heard(score: Score, i: int, recording: Floats) -> tuple[Floats, Ints]:
    """What a grain is heard as, at a gain of 1: a sound, and the samples (n,) of it that its frames are centred on."""
    shift = score.shifts[i]
    if shift is None:
        centres: Ints = score.centres[i] + np.arange(score.lengths[i]) * score.params.hop
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


def _most_alike(was: _Frames, loudness: Floats, there: _Frames) -> int:
    """Where the stretch begins that is most like `was`, whose (n,) frames count by their loudness.

    A frame is like another one by as much of it as is heard: less if it cannot be made as loud. Of equal ones it is the
    first.
    """
    n_starts = len(there.norms) - len(was.norms) + 1
    likeness = np.zeros(n_starts)
    for step, (key, norm, weight) in enumerate(zip(was.keys, was.norms, loudness, strict=True)):
        stretch = slice(step, step + n_starts)
        likeness += (
            weight * (there.keys[stretch] @ key) * np.minimum(1, there.norms[stretch] * MOST_GAIN / max(norm, 1e-30))
        )
    return int(np.argmax(likeness))
