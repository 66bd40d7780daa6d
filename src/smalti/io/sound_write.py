"""Encode and write sound files. Only this module and `smalti.io.sound_read` import soundfile."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from smalti._checks import MOST_CHANNELS, check_count, check_rate, check_sound
from smalti.dsp.channels import as_channels, n_channels
from smalti.io.files import StrPath, check_writable, write_atomic
from smalti.io.sound_read import FRAMES_PER_CALL, Samples

# Encoding


class _Format(NamedTuple):
    name: str  # libsndfile's
    subtypes: tuple[str, ...]  # the first is the default
    takes_rate: Callable[[int], bool]
    rates: str
    channels: int  # at most


_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_FORMATS = {
    ".wav": _Format("WAV", ("PCM_16", "PCM_24", "FLOAT"), lambda sr: True, "any", MOST_CHANNELS),
    ".flac": _Format(
        "FLAC",
        ("PCM_16", "PCM_24"),
        lambda sr: sr <= 65535 or (sr <= 655350 and sr % 10 == 0),
        "up to 65535 Hz, and multiples of 10 up to 655350 Hz",
        8,
    ),
    # Beyond this rate libsndfile crashes instead of refusing.
    ".ogg": _Format("OGG", ("VORBIS",), lambda sr: sr <= 200_000, "up to 200000 Hz", MOST_CHANNELS),
    ".mp3": _Format("MP3", ("MPEG_LAYER_III",), _MP3_RATES.__contains__, ", ".join(map(str, _MP3_RATES)) + " Hz", 2),
}
# WAV and FLAC leave a choice, and WAV has all that FLAC has.
SUBTYPES = _FORMATS[".wav"].subtypes
_BITS = {"PCM_16": 16, "PCM_24": 24}


def check_format(ending: str, sr: int, *, subtype: str | None = None, channels: int = 1) -> str:
    """The subtype that `encode_audio` would write. Call this before a long computation to be refused in time.

    Parameters
    ----------
    ending : ``.wav``, ``.flac``, ``.ogg`` or ``.mp3``, in any case.
    sr : int. Sample rate in Hz.
    subtype : ``PCM_16``, ``PCM_24``, ``FLOAT`` (.wav), ``PCM_16``, ``PCM_24`` (.flac), ``VORBIS`` (.ogg),
        ``MPEG_LAYER_III`` (.mp3); None is the first one listed.
    channels : int >= 1. An .mp3 holds 2 at most, a .flac 8, the others 64.

    Raises
    ------
    ValueError : if the ending is not one of these, or its format has no such subtype, rate or number of channels.
    TypeError : if `sr` or `channels` is not an integer.
    """
    try:
        format_ = _FORMATS[ending.lower()]
    except KeyError:
        got = repr(ending) if ending else "none"
        raise ValueError(f"the name of a sound file must end in {', '.join(_FORMATS)}, got {got}") from None
    if subtype is None:
        subtype = format_.subtypes[0]
    if subtype not in format_.subtypes:
        raise ValueError(f"{ending} is written as {' or '.join(format_.subtypes)}, got subtype {subtype!r}")
    if not format_.takes_rate(check_rate("sr", sr)):
        raise ValueError(
            f"{format_.name} cannot have a sample rate of {sr} Hz, only {format_.rates}; "
            "choose one of these (--sr 44100) or another ending"
        )
    if check_count("channels", channels, least=1) > format_.channels:
        wider = [other for other, its in _FORMATS.items() if its.channels >= channels]
        raise ValueError(
            f"{format_.name} holds at most {format_.channels} channels and there are {channels}; "
            f"choose another ending ({', '.join(wider)}) or mix down to one channel (--channels mono)"
        )
    return subtype


def encode_audio(samples: Samples, sr: int, *, ending: str, subtype: str | None = None) -> bytes:
    """The bytes of a sound file.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1. Within [-1, 1], except for subtype ``FLOAT``. Samples
        are never clipped or scaled.
    sr, ending, subtype : see `check_format`.

    Returns
    -------
    bytes, the same for the same samples; only an .ogg carries a random stream number.

    Raises
    ------
    ValueError : if the samples are empty, of another shape, not finite or too loud, or see `check_format`.
    TypeError : if the samples are not floats, or `sr` is not an integer.

    Notes
    -----
    PCM codes are the nearest ones, ``rint(x * 2**(bits - 1))``, so samples read from a file of the same depth get the
    same codes again. Full scale, 1.0, has no code and becomes the largest one. There is no dither.
    """
    check_format(ending, sr, subtype=subtype)
    samples = check_sound("samples", samples).astype(np.float32, copy=False)
    subtype = check_format(ending, sr, subtype=subtype, channels=n_channels(samples))
    peak = float(np.abs(samples).max())
    # A gain that aims at 1 may miss it by a rounding error, which no format can tell from 1.
    if subtype != "FLOAT" and peak > 1 + np.finfo(np.float32).eps:
        raise ValueError(
            f"samples peak at {peak:.6g} but {subtype} holds no more than 1; "
            "lower the gain, or write a .wav with subtype FLOAT"
        )
    if subtype in _BITS:
        data: NDArray[Any] = _pcm(samples, _BITS[subtype])
    else:
        data = samples
    # Files interleave their channels.
    data = np.ascontiguousarray(as_channels(data).T)
    # libsndfile hands its output to a Python callback, and an exception raised there is dropped: a Ctrl-C would be lost
    # and leave a hole in the file. Only the main thread receives a Ctrl-C, so another one does the encoding.
    with ThreadPoolExecutor(max_workers=1) as worker:
        return worker.submit(_encode, data, sr, _FORMATS[ending.lower()].name, subtype).result()


def _pcm(samples: Samples, bits: int) -> NDArray[np.int32]:
    """Codes of `bits` bits in the upper part of int32, where libsndfile looks for them.

    They are rounded here because libsndfile, told to clip as soundfile does, rounds down: an offset of half a code.
    """
    full = 2.0 ** (bits - 1)
    codes = np.rint(samples * np.float64(full)).clip(-full, full - 1)
    return codes.astype(np.int32) << (32 - bits)


def _encode(data: NDArray[Any], sr: int, format_: str, subtype: str) -> bytes:
    memory = io.BytesIO()
    if format_ == "WAV" and data.shape[1] > 2:
        # The header of this format assigns channels to loudspeakers.
        format_ = "WAVEX"
    with soundfile.SoundFile(memory, "w", sr, channels=data.shape[1], format=format_, subtype=subtype) as file:
        for start in range(0, len(data), FRAMES_PER_CALL):
            file.write(data[start : start + FRAMES_PER_CALL])
    if subtype == "FLOAT":
        # The PEAK chunk (name, size, version, time: 4 bytes each) holds the time of writing. It is set to 0, so that
        # the same samples give the same bytes.
        at = memory.getvalue().find(b"PEAK", 0, 128)
        if at >= 0:
            memory.seek(at + 12)
            memory.write(bytes(4))
    return memory.getvalue()


def write_audio(
    path: StrPath, samples: Samples, sr: int, *, subtype: str | None = None, overwrite: bool = False
) -> None:
    """Write a sound file in the format of its ending, whole or not at all.

    Parameters
    ----------
    path : file ending in .wav, .flac, .ogg or .mp3.
    samples, sr, subtype : see `encode_audio`.
    overwrite : replace an existing file.

    Raises
    ------
    ValueError, TypeError : see `encode_audio`.
    AudioFileError : see `write_atomic`.
    """
    check_format(Path(path).suffix, sr, subtype=subtype)
    check_writable(path, overwrite=overwrite)
    write_atomic(path, encode_audio(samples, sr, ending=Path(path).suffix, subtype=subtype), overwrite=overwrite)
