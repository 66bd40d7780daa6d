"""Prepare a source for being cut into grains: remove offsets, which would thump, and fade edges, which would click."""

import numpy as np
import scipy.fft

from smalti._checks import Floats
from smalti.dsp.channels import as_channels, stack_channels

# Peaks of recordings, full scale being 1. Beyond the loudest, the sums of a long window are too large for single
# precision; below the quietest, the squares of a spectrum underflow.
LOUDEST_PEAK = 1e7
QUIETEST = 1e-15


def remove_dc(samples: Floats, sr: int) -> Floats:
    """Remove the offset of (L,) or (C, L) `samples` where it is at least a twentieth of their standard deviation.

    An offset is a fault of the recording. It cannot be heard there, but thumps where a grain begins and ends. Each
    channel is checked alone, and keeps its samples if it has no such offset.
    """
    return stack_channels([_centred(channel, sr) for channel in as_channels(samples)])


def _centred(samples: Floats, sr: int) -> Floats:
    mean = samples.mean(dtype=np.float64)
    deviation = samples.std(dtype=np.float64)
    # A constant signal is left as it is.
    if deviation == 0 or abs(mean) < 0.05 * deviation:
        return samples
    # An offset seldom stands still, and its slow drift would thump, too, where grains begin and end.
    return highpass(samples - samples.dtype.type(mean), sr)


def highpass(samples: Floats, sr: int, *, corner_hz: float = 20.0) -> Floats:
    """High-pass (L,) `samples` without delay: -6 dB at `corner_hz`, falling by 24 dB an octave below it.

    DC and swings slower than a tone cannot be heard, but can hold more power than all that is heard.
    """
    size = scipy.fft.next_fast_len(len(samples) + sr // 10, real=True)
    spectrum = scipy.fft.rfft(samples, size)
    ratio = (np.arange(len(spectrum)) * (sr / size / corner_hz)) ** 4
    heard: Floats = scipy.fft.irfft(spectrum * (ratio / (1 + ratio)), size)[: len(samples)]
    return heard.astype(samples.dtype, copy=False)


def fade_edges(samples: Floats, length: int) -> Floats:
    """Fade `samples` in and out.

    A recording that is cut off in the middle of a sound would click where a grain begins or ends at the cut.

    Parameters
    ----------
    samples : (L,) or (C, L) float32 or float64; not modified.
    length : int >= 0, samples of each fade, whose shape is the square of a sine. Two fades that do not fit share the
        sound by halves.

    Returns
    -------
    Array of that shape and dtype.
    """
    length = min(length, samples.shape[-1] // 2)
    rise = np.sin(np.pi / 2 * (np.arange(length) + 0.5) / max(1, length)).astype(samples.dtype) ** 2
    out = samples.copy()
    out[..., :length] *= rise
    out[..., samples.shape[-1] - length :] *= rise[::-1]
    return out
