"""Transposition: at which pitch each source frame sounds in each target frame.

No transposed copy of the source's sound is kept. The solver sees the bands of each source frame as they would be at the
pitch of the moment, once for each note (`Transposition.blocks`). Each grain that it chooses is then shifted once, at
the exact and varying ratio (`smalti.grains.shifted.shifted_grains`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, Indices
from smalti.curves import Curve
from smalti.dsp.pitch import note_numbers, pitch_at, ratios_to
from smalti.nmf.divergence import Block

# The most notes that melodies and chords have as a rule: two octaves, and three. Each note has a dictionary of its own
# (see `Transposition.parts`), so memory is estimated by them.
MELODY_NOTES, CHORD_NOTES = 24, 36


@dataclass(frozen=True, eq=False)
class Transposition:
    """The pitch at which every source frame sounds in every target frame.

    A voice is a melody to be followed or a shift. H has K rows for each voice, one voice below the other.

    Attributes
    ----------
    way : "follow" (one melody), "chords" (several), "shifts", "glide" (one shift that changes over time), or "off".
    reason : why this way was chosen, as a clause.
    target_f0 : (N,) float array, Hz, 0 for none: the target's pitch, tracked or given.
    source_f0 : (K,) float array, Hz, 0 for none: the source's pitch, tracked or given.
    origins : (K,) float array, Hz: the pitch each source frame is shifted from: `source_f0` with short gaps bridged.
    glides : (K * FINENESS,) float array, Hz: `origins` with finer steps, since a bird's chirp glides within one frame.
    usable : (K,) bool array, True for source frames that are clear enough to be shifted to a note; all for shifts.
    melodies : (M, N) float array, Hz: what each voice plays in each target frame, 0 where it rests. M is 0 for shifts.
    shifts : (S,) float array, semitones; empty for other ways.
    glide : semitones over target frames, not over seconds; None for other ways.
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
        """The number of rows that each source frame has in H; 0 if nothing is transposed."""
        return 1 if self.glide else max(len(self.melodies), len(self.shifts))

    def parts(self) -> Iterator[tuple[Indices, Indices, Floats]]:
        """Yield groups of places in which each source frame has a single ratio.

        A group is the voices and the target frames of its places, (P,) each, and the ratios (K,) of the source frames.
        """
        n_atoms, n_frames = len(self.origins), len(self.target_f0)
        for voice, shift in enumerate(self.shifts):
            yield np.full(n_frames, voice), np.arange(n_frames), np.full(n_atoms, 2 ** (shift / 12))
        if self.glide:
            # As with notes, frames near the same semitone share one dictionary, at the median of their shifts.
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
            # Notes of the same name share one dictionary, at the median of their pitches.
            ratios = ratios_to(np.full(n_atoms, np.median(self.melodies[voices, frames])), self.origins)
            # Voices in unison get a group each, because a block may hold a frame only once.
            for selected in np.unique(voices) if len(np.unique(frames)) < len(frames) else [slice(None)]:
                which = selected if isinstance(selected, slice) else voices == selected
                yield voices[which], frames[which], ratios

    def blocks(self, shifted: Callable[[Floats], Floats], atoms: Indices) -> list[Block]:
        """The dictionary of every voice and note, for `smalti.nmf.divergence.BlockFit`.

        Parameters
        ----------
        shifted : returns the (Q, B, U) magnitudes of the source frames `atoms` at (Q, U) ratios; a ratio of 0 gives
            silence.
        atoms : (U,) int array, the source frames to use.
        """
        parts = list(self.parts())
        ratios, which = np.unique(
            np.stack([part_ratios[atoms] for _, _, part_ratios in parts]), axis=0, return_inverse=True
        )
        magnitudes = shifted(ratios)
        return [
            Block(voices, frames, magnitudes[i]) for (voices, frames, _), i in zip(parts, which.ravel(), strict=True)
        ]

    def ratios(self, voice: int, frames: Floats, own: Floats) -> Floats:
        """(P,) exact ratios that bring the pitches `own` (P,), Hz, to those of fractional target frames (P,).

        0 where the voice rests or the source has no pitch; shifts and glides apply everywhere.
        """
        if self.glide:
            return 2 ** (self.glide.at(frames) / 12)
        if len(self.shifts):
            return np.full(len(frames), 2 ** (self.shifts[voice] / 12))
        return ratios_to(pitch_at(self.melodies[voice], frames), own)
