"""Prepare a source for being cut into grains: remove offsets that would thump, fade edges that would click."""

import numpy as np
import scipy.fft

from smalti._checks import Floats
from smalti.dsp.channels import as_channels, stack_channels

# Peaks of recordings, full scale being 1. Beyond the loudest, the sums of a long window are too large for single
# precision; below the quietest, the squares of a spectrum vanish in it.
LOUDEST_PEAK = 1e7
QUIETEST = 1e-15


def remove_dc(samples: Floats, sr: int) -> Floats:
    """(L,) or (C, L) `samples` without their offset, where it is a twentieth of their deviation or more.

    That is a fault of the recording: no ear hears it, but as a grain it thumps. Channels are looked at one by one;
    `samples` themselves are returned where none has one.
    """
    return stack_channels([_centred(channel, sr) for channel in as_channels(samples)])


def _centred(samples: Floats, sr: int) -> Floats:
    mean = samples.mean(dtype=np.float64)
    deviation = samples.std(dtype=np.float64)
    # A recording of nothing but an offset is left for what it is.
    if deviation == 0 or abs(mean) < 0.05 * deviation:
        return samples
    # An offset seldom stands still: what wanders with it would thump, too, where grains begin and end.
    return highpass(samples - samples.dtype.type(mean), sr)


def highpass(samples: Floats, sr: int, *, corner_hz: float = 20.0) -> Floats:
    """Keep of (L,) `samples` what lies above `corner_hz`, in time with them: -6 dB there, and 24 dB less an octave.

    Nobody hears DC and what swings more slowly than a tone, but it can hold more power than all that is heard.
    """
    size = scipy.fft.next_fast_len(len(samples) + sr // 10, real=True)
    spectrum = scipy.fft.rfft(samples, size)
    ratio = (np.arange(len(spectrum)) * (sr / size / corner_hz)) ** 4
    heard: Floats = scipy.fft.irfft(spectrum * (ratio / (1 + ratio)), size)[: len(samples)]
    return heard.astype(samples.dtype, copy=False)


def fade_edges(samples: Floats, length: int) -> Floats:
    """`samples` fading in and out.

    What is cut off in the middle of a sound would click wherever a grain begins or ends there.

    Parameters
    ----------
    samples : (L,) or (C, L) float32 or float64; not modified.
    length : int >= 0, samples of each fade, the square of a sine; where there are fewer than two fades take, each has
        half of them.

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
