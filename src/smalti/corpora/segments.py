"""Split a file's sound into segments, code them in 16 bits, and analyse them.

The analysis is of the decoded 16-bit sound, so that a mosaic sounds exactly what it was chosen by.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats
from smalti.corpora.tables import SegmentRow, crc_of
from smalti.dsp.channels import stack_channels
from smalti.dsp.conditioning import LOUDEST_PEAK, fade_edges, remove_dc
from smalti.dsp.loudness import step_powers
from smalti.dsp.stft import StftParams
from smalti.grains.corpus import analyse, hop_at
from smalti.grains.descriptors import LONG_WINDOW_S
from smalti.io.sound_read import AudioStream
from smalti.presets import EDGE_FADE_S

# Longer files are analysed in segments of this length, so that memory does not grow with the length of a file. About a
# dozen segments are held at once.
SEGMENT_S = 120.0


class Piece(NamedTuple):
    """A segment of a file's sound with its margins, to be analysed.

    Attributes
    ----------
    part : the number of the segment, from 0.
    samples : (C, L) float32, at the corpus's rate. begin : the sample of the file at which they begin.
    before : how many samples at the start are margin, needed only by windows that reach across the border.
    own : how many frames belong to the segment; None for all frames up to the end of the file.
    """

    part: int
    samples: Floats
    begin: int
    before: int
    own: int | None


class Analysed(NamedTuple):
    """The analysis of a piece: its sound and its features.

    Attributes
    ----------
    segment : its row; `file`, `row` and `first` are still 0. arrays : the values for each kind of array.
    powers : what its loudness is measured from; see `smalti.dsp.loudness.step_powers`.
    """

    segment: SegmentRow
    arrays: Mapping[str, NDArray[Any]]
    powers: Floats


def pieces(stream: AudioStream) -> Iterator[Piece]:
    """Yield a file in segments, each with the margins that windows at its borders reach into."""
    hop = hop_at(stream.sr)
    long = StftParams.from_seconds(LONG_WINDOW_S, LONG_WINDOW_S / 4, stream.sr)
    # A whole number of hops, so that frames of all segments are on one grid.
    margin = -(-long.n_fft // 2 // hop) * hop
    n_frames = max(round(SEGMENT_S * stream.sr / hop), 2 * margin // hop)
    blocks = stream.stretches(n_frames * hop)
    before, begin, part = list[Floats](), 0, 0
    current, following = next(blocks), next(blocks, None)
    while True:
        if following is not None and following.shape[1] < margin:
            # Only the last block can be shorter than the margin.
            current, following = np.concatenate([current, following], axis=1), None
        after = [] if following is None else [following[:, :margin]]
        n_before = margin if before else 0
        samples = np.concatenate([*before, current, *after], axis=1) if before or after else current
        yield Piece(part, samples, begin - n_before, n_before, None if following is None else n_frames)
        if following is None:
            return
        before, begin, part = [current[:, -margin:]], begin + current.shape[1], part + 1
        current, following = following, next(blocks, None)


def analysed(piece: Piece, sr: int) -> Analysed:
    """Code a piece in 16 bits and analyse the decoded sound; `sr` in Hz.

    Raises
    ------
    ValueError : if it is too loud to have a spectrum; the message gives its peak.
    """
    if not (peak := float(np.abs(piece.samples).max())) <= LOUDEST_PEAK:
        raise ValueError(f"it peaks at {peak:.3g} where 1 is full scale; export it again")
    codes, step = coded(_without_faults(piece, sr))
    heard = decoded(codes, step)
    analysis, first = analyse(heard, sr), piece.before // hop_at(sr)
    own = slice(first, None if piece.own is None else first + piece.own)
    arrays: dict[str, NDArray[Any]] = {
        "features": analysis.features[own],
        "descriptors": analysis.descriptors[own],
        "levels": np.stack([analysis.scales[own], analysis.norms[own]], axis=1).astype(np.float32),
        "samples": codes.reshape(-1),
    }
    segment = SegmentRow(
        file=0,
        part=piece.part,
        row=0,
        n_rows=len(arrays["levels"]),
        centre=piece.before,
        first=0,
        length=codes.shape[1],
        channels=len(codes),
        begin=piece.begin,
        step=step,
        crc_features=crc_of(arrays["features"]),
        crc_descriptors=crc_of(arrays["descriptors"]),
        crc_levels=crc_of(arrays["levels"]),
        crc_samples=crc_of(arrays["samples"]),
    )
    sounding = heard[..., piece.before : None if piece.own is None else piece.before + piece.own * hop_at(sr)]
    return Analysed(segment, arrays, step_powers(sounding, sr))


def _without_faults(piece: Piece, sr: int) -> Floats:
    """The samples of a piece without offset, faded only where the file itself begins or ends.

    See `smalti.grains.sound.cleaned`.
    """
    samples = remove_dc(stack_channels(list(piece.samples)), sr)
    if piece.before and piece.own is not None:
        return samples
    length = round(EDGE_FADE_S * sr)
    out = fade_edges(samples, length)
    if piece.before:
        out[..., :length] = samples[..., :length]
    if piece.own is not None:
        out[..., -length:] = samples[..., -length:]
    return out


def coded(samples: Floats) -> tuple[NDArray[np.int16], float]:
    """Code (L,) or (C, L) float `samples` in 16 bits, at the largest gain that does not clip.

    Returns
    -------
    codes : (C, L) int16. step : the amplitude that a code of 1 stands for; 0 for silence.
    """
    sound = np.atleast_2d(samples)
    step = np.float32(np.abs(sound).max() / 32767)
    if not step >= np.finfo(np.float32).tiny:
        return np.zeros(sound.shape, np.int16), 0.0
    return np.rint(sound / step).clip(-32767, 32767).astype(np.int16), float(step)


def decoded(codes: NDArray[np.int16], step: float) -> Floats:
    """The sound, (L,) or (C, L) float32, of `codes` (C, L); a code of 1 stands for the amplitude `step`."""
    return stack_channels(list(codes.astype(np.float32) * np.float32(step)))
