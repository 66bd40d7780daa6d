"""A source without the target's pitches: which pitch its frames are to sound at, and the grains that sound so.

No transposed copy of the source's sound is kept. The solver sees the bands of each source frame as they would be
at the pitch of the moment, once for each note (`Transposition.blocks`). What it chooses is then shifted, each grain
once, at the exact and varying ratio (`shifted_grains`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.curves import Curve
from smalti.dsp.pitch import note_numbers, pitch_at, ratios_to
from smalti.nmf.divergence import Block

Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Transposition:
    """The pitch at which every source frame sounds in every target frame.

    H has K rows a voice, one voice below the other; a voice is a melody to be followed or a shift.

    Attributes
    ----------
    way : "follow" (one melody), "chords" (several), "shifts", "glide" (one shift that changes over time), or "off".
    reason : why, as a clause.
    target_f0 : (N,) float array, Hz, 0 for none: the target's pitch as it was tracked or given.
    source_f0 : (K,) float array, Hz, 0 for none: the source's pitch as it was tracked or given.
    origins : (K,) float array, Hz: what each source frame is shifted from, `source_f0` with short gaps bridged.
    glides : (K * FINENESS,) float array, Hz: the same between frames, as a bird's chirp glides within one.
    usable : (K,) bool array, which source frames are clear enough to be shifted to a note; for shifts, all.
    melodies : (M, N) float array, Hz: what each voice plays in each target frame, 0 where it rests. M is 0 for shifts.
    shifts : (S,) float array, semitones; empty for the others.
    glide : semitones over target frames, instead of seconds; None for the others.
    """

    way: str
    reason: str
    target_f0: Floats
    source_f0: Floats
    origins: Floats
    glides: Floats
    usable: NDArray[np.bool_]
    melodies: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    shifts: Floats = field(default_factory=lambda: np.zeros(0))
    glide: Curve | None = None

    @property
    def n_voices(self) -> int:
        """How many rows of H each source frame has; 0 if nothing is transposed."""
        return 1 if self.glide else max(len(self.melodies), len(self.shifts))

    def parts(self) -> Iterator[tuple[Ints, Ints, Floats]]:
        """Places where each source frame has one ratio: their voices and target frames, (P,), and the ratios, (K,)."""
        n_atoms, n_frames = len(self.origins), len(self.target_f0)
        for voice, shift in enumerate(self.shifts):
            yield np.full(n_frames, voice), np.arange(n_frames), np.full(n_atoms, 2 ** (shift / 12))
        if self.glide:
            # Frames near one semitone share one dictionary, at the median of their shifts, as frames of one note do.
            semitones = self.glide.at(np.arange(n_frames))
            names = np.round(semitones)
            for name in np.unique(names):
                frames = np.flatnonzero(names == name)
                yield np.zeros_like(frames), frames, np.full(n_atoms, 2 ** (np.median(semitones[frames]) / 12))
        if not len(self.melodies):
            return
        names = np.full(self.melodies.shape, -np.inf)
        names[self.melodies > 0] = np.round(note_numbers(self.melodies[self.melodies > 0]))
        for name in np.unique(names[np.isfinite(names)]):
            voices, frames = np.nonzero(names == name)
            # Notes of one name share one dictionary, in the middle of where they lie.
            ratios = ratios_to(np.full(n_atoms, np.median(self.melodies[voices, frames])), self.origins)
            # Voices in unison are told apart, as a frame comes but once in a block.
            for of in np.unique(voices) if len(np.unique(frames)) < len(frames) else [slice(None)]:
                which = of if isinstance(of, slice) else voices == of
                yield voices[which], frames[which], ratios

    def blocks(self, shifted: Callable[[Floats], Floats], atoms: Ints) -> list[Block]:
        """The dictionary of every voice and note, for `smalti.nmf.divergence.BlockFit`.

        Parameters
        ----------
        shifted : gives the (Q, B, U) magnitudes of some source frames at (Q, U) ratios, silent where a ratio is 0.
        atoms : (U,) int array, which source frames.
        """
        parts = list(self.parts())
        ratios, which = np.unique(np.stack([of[atoms] for _, _, of in parts]), axis=0, return_inverse=True)
        magnitudes = shifted(ratios)
        return [
            Block(voices, frames, magnitudes[i]) for (voices, frames, _), i in zip(parts, which.ravel(), strict=True)
        ]

    def ratios(self, voice: int, frames: Floats, own: Floats) -> Floats:
        """The exact ratio at fractional target frames (P,) of what has the pitches `own` (P,), Hz; 0 for none."""
        if self.glide:
            return 2 ** (self.glide.at(frames) / 12)
        if len(self.shifts):
            return np.full(len(frames), 2 ** (self.shifts[voice] / 12))
        return ratios_to(pitch_at(self.melodies[voice], frames), own)
