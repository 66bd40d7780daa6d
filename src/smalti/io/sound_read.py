"""Find, read and resample recordings. Soundfile is imported here and in `smalti.io.sound_write` only, soxr only here.

All other modules work on float32 arrays, nominally in [-1, 1]: (L,) for one channel and (C, L) for several. Faults of
a file (cut short, not audio, full of NaN) are reported here, in one sentence that names the file.
"""

import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from smalti._checks import LARGEST_SAMPLE, MOST_CHANNELS, ParameterError, check_rate, check_real, check_sound
from smalti.dsp.channels import as_channels, n_channels, stack_channels
from smalti.errors import AudioFileError
from smalti.io.files import StrPath, file_status, reason_of
from smalti.io.stderr import quiet_decoder

Samples = NDArray[np.float32]

# fmt: off
AUDIO_ENDINGS = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga",
    ".ogg", ".opus", ".rf64", ".snd", ".voc", ".w64", ".wav", ".wave",
})
# fmt: on

# Frames per call into libsndfile. In reading, a damage costs one block at most. In writing, libvorbis puts all samples
# of a call on the stack, and a minute in one call overflows it.
FRAMES_PER_CALL = 4096

# Programs that write into a pipe cannot go back to fill in the size; they leave one of the largest possible.
_SIZE_LEFT_OPEN = 0x7FFFF000
_SIZE_IN_LOG = re.compile(r"^\s*(?:data|SSND|BODY|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.M)
_OGG_WITHOUT_END = re.compile(r"without an End-Of-Stream|lacks an end-of-stream")
_UNKNOWN_FORMAT = {1, 7}  # libsndfile's "format not recognised", and its error when libmpg123 finds no MP3


# Reading


@dataclass(frozen=True, eq=False)
class Recording:
    """One recording, or an excerpt of one, with all its channels.

    Attributes
    ----------
    samples : (L,) float32 array for one channel, (C, L) for several, finite, L >= 1. Nominally in [-1, 1]; a float file
        may go beyond. `smalti.dsp.channels.to_mono` makes one signal of them.
    sr : int. Sample rate in Hz, the file's own.
    path : the file, as it was named.
    channels : int, 1 to 64. C, the channels of the file.
    sha256 : hex digest of the whole file, also when only an excerpt was read.
    warnings : sentences about faults of a file that could be read all the same.
    """

    samples: Samples
    sr: int
    path: Path
    channels: int
    sha256: str
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if check_sound("samples", self.samples).dtype != np.float32:
            raise TypeError(f"samples has dtype {self.samples.dtype}; pass float32")
        if n_channels(self.samples) != self.channels:
            raise ValueError(f"channels is {self.channels} but samples has shape {self.samples.shape}; make them agree")
        check_rate("sr", self.sr)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return int(self.samples.shape[-1]) / self.sr


def read_audio(path: StrPath, *, start_s: float | None = None, end_s: float | None = None) -> Recording:
    """Read a sound file, or an excerpt of it, as float32.

    Every format libsndfile knows is read: WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF, CAF and more. All
    channels are kept. A truncated or damaged file is read as far as it goes, and `Recording.warnings` says so.

    Parameters
    ----------
    path : a regular file (or a link to one); devices, pipes and folders are refused unopened.
    start_s, end_s : excerpt in seconds of the file, ``0 <= start_s < end_s``; None is the file's beginning or end.
        An `end_s` beyond the end is clipped, with a warning.

    Returns
    -------
    Recording

    Raises
    ------
    AudioFileError : if there is no such file, if it cannot be opened or decoded, holds no samples or samples that
        are NaN, infinite or beyond 1e9, has a sample rate outside 1000 to 768000 Hz or more than 64 channels, or if
        the excerpt lies outside it.
    ValueError : if no file could have such an excerpt.

    Notes
    -----
    libsndfile guesses the length of an MP3 of variable bit rate that lacks a length tag (encoders have written one for
    decades). If the guess is too long, the file is reported as truncated; if it is too short, the rest is not read.
    """
    _check_excerpt(start_s, end_s)
    path = Path(path)
    _check_readable(path)
    with quiet_decoder(), _opened(path) as decoder:
        sr, channels = decoder.sr, decoder.channels
        # No file reaches these limits. They keep huge times from becoming infinite in frames.
        first = round(min((start_s or 0) * sr, sys.maxsize // 2))
        stop = sys.maxsize if end_s is None else round(min(end_s * sr, sys.maxsize))
        if stop <= first:
            raise AudioFileError(
                f"cannot read {path} from {start_s or 0:g} to {end_s:g} s: at {sr} Hz that is not one sample; "
                "choose a longer excerpt"
            )
        frames = np.concatenate([np.zeros((0, channels), np.float32), *decoder.blocks(first, stop)])
        sha256 = decoder.sha256()
    if (bad := _no_sound(frames)).size:
        raise _unusable(path, f"{bad.size} of its samples are", (first + bad[0]) / sr)
    end_of_file_s = decoder.end / sr
    if start_s is not None and not len(frames) and decoder.end:
        raise AudioFileError(
            f"cannot read {path} from {start_s:g} s: it ends at {end_of_file_s:.3f} s; choose an earlier start"
        )
    if not len(frames):
        raise decoder.nothing_read()
    warnings = [decoder.cut] if decoder.cut else []
    if end_s is not None and decoder.ended:
        warnings.append(f"the excerpt should end at {end_s:g} s but the file ends at {end_of_file_s:.3f} s; using that")
    samples = stack_channels(list(np.ascontiguousarray(frames.T)))
    return Recording(samples, sr, path, channels, sha256, tuple(warnings))


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile carries no types
    """A sound file that is read from its beginning, without seeking.

    After each read of a seekable file, soundfile seeks to the current position. In an MP3 this empties the bit
    reservoir, and frames that borrow from earlier ones decode to garbage. Without seeking, decoding does not depend on
    the header's frame count either, which may be wrong or missing.
    """

    def seekable(self) -> bool:
        return False


class _Decoder:
    """One pass over a sound file: its frames, block by block, and then what is missing of them.

    Attributes
    ----------
    sr, channels : the file's own sample rate in Hz and channels. metadata : its own texts, by libsndfile's names.
    promised : frames according to the header; 0 if it does not say.
    end : frames decoded so far, those before the excerpt included.
    ended : whether the file ended, or broke off, before the end of the excerpt.
    """

    def __init__(self, path: Path, raw: BufferedReader, file: _Stream) -> None:
        self._path, self._raw, self._file = path, raw, file
        self.sr, self.channels = int(file.samplerate), int(file.channels)
        self.metadata = {name: text for name, text in file.copy_metadata().items() if text}
        # The log is read now, since decoding adds other entries.
        self.promised = _promised_frames(file)
        # An MP3 need not hold its length; libsndfile then guesses it from the size of the file, tags included.
        self._slack = round(0.25 * self.sr + 0.02 * self.promised) if file.format == "MP3" else 0
        self._endless = bool(_OGG_WITHOUT_END.search(file.extra_info))
        self.end, self.ended, self._damaged = 0, False, False

    def blocks(self, first: int = 0, stop: int = sys.maxsize) -> Iterator[Samples]:
        """Yield the frames from `first` to `stop` as (n, C) arrays, as far as the file goes."""
        while self.end < stop:
            try:
                block = self._file.read(min(FRAMES_PER_CALL, stop - self.end), dtype="float32", always_2d=True)
            except soundfile.SoundFileError:
                self.ended = self._damaged = True
                return
            if not len(block):
                self.ended = True
                return
            begin, self.end = self.end, self.end + len(block)
            if self.end > first:
                yield block[max(first - begin, 0) :]

    @property
    def cut(self) -> str:
        """A sentence about what is missing, once all blocks have been read; "" if nothing is missing."""
        if not (self._damaged or (self.ended and (self._endless or self.end < self.promised - self._slack))):
            return ""
        kind = "truncated or damaged" if self._damaged else "truncated"
        promise = f"the header promises {self.promised / self.sr:.3f} s but " if self.promised > self.end else ""
        return f"{kind}: {promise}only {self.end / self.sr:.3f} s can be read; using that"

    def nothing_read(self) -> AudioFileError:
        """The error for a file without a single frame."""
        fault = "it is truncated or damaged and nothing of it can be decoded" if self.cut else "it holds no samples"
        return AudioFileError(f"cannot read {self._path}: {fault}; record, export or download it again")

    def sha256(self) -> str:
        """The hex digest of the whole file."""
        return hashlib.file_digest(self._raw, "sha256").hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[_Decoder]:
    """Open a sound file, after refusing unknown formats and unusable rates or numbers of channels."""
    # The name is absolute because libsndfile takes "-" for standard input, and bytes because it need not be valid text.
    name = str(path.absolute()) if os.name == "nt" else os.fsencode(path.absolute())
    try:
        # Python opens the file first because its errors give the reason.
        with path.open("rb") as raw, _Stream(name) as file:
            try:
                check_rate("its sample rate", file.samplerate)
            except ValueError as error:
                raise AudioFileError(f"cannot use {path}: {error}") from error
            if file.channels > MOST_CHANNELS:
                raise AudioFileError(
                    f"cannot use {path}: it has {file.channels} channels, more than {MOST_CHANNELS}; split it up first"
                )
            yield _Decoder(path, raw, file)
    except soundfile.LibsndfileError as error:
        if error.code in _UNKNOWN_FORMAT:
            fault = "it is not audio of a known format; check the file, or convert it to WAV or FLAC first"
        else:
            fault = f"it is damaged or of an unknown kind ({error.error_string.rstrip('.')}); export it again"
        raise AudioFileError(f"cannot read {path}: {fault}") from error
    except OSError as error:
        raise AudioFileError(f"cannot read {path}: {reason_of(error)}; check its permissions and disk") from error


def _promised_frames(file: _Stream) -> int:
    """The number of frames according to the header; 0 if it does not say."""
    frames: int = file.frames
    if frames == np.iinfo(np.int64).max:
        return 0
    # libsndfile corrects a chunk's size to what is present, and notes it only in its log.
    if match := _SIZE_IN_LOG.search(file.extra_info):
        promised, present = int(match[1]), int(match[2])
        if present < promised < _SIZE_LEFT_OPEN:
            return max(1, round(frames * promised / max(1, present)))
    return frames


class AudioStream:
    """A sound file read in stretches from beginning to end, at any rate. Memory does not depend on its length.

    It is as strict as `read_audio`, and gives the same samples as `read_audio` and `resample`.

    Attributes
    ----------
    path : the file. own_sr, channels : int, its sample rate in Hz and its channels.
    sr : int, the sample rate of the stretches in Hz.
    promised_s : float, seconds according to the header; 0 if it does not say.
    metadata : the file's own texts, by libsndfile's names: "title", "copyright", "license", "genre", ...
    warnings : sentences about faults of the file, complete once all stretches have been read.
    """

    def __init__(self, path: StrPath, *, sr: int | None = None) -> None:
        """Read the header of `path`. `sr` is the rate to read at in Hz, or None for the file's own.

        Raises
        ------
        AudioFileError : as for `read_audio`.
        ValueError, TypeError : if `sr` is no sample rate.
        """
        self.path = Path(path)
        _check_readable(self.path)
        with _opened(self.path) as decoder:
            self.own_sr, self.channels, self.metadata = decoder.sr, decoder.channels, decoder.metadata
            self.promised_s = decoder.promised / decoder.sr
        self.sr = self.own_sr if sr is None else check_rate("sr", sr)
        self.warnings: list[str] = []

    def stretches(self, length: int) -> Iterator[Samples]:
        """Yield all samples as (C, n) float32 arrays, also if C is 1.

        Each array has `length` >= 1 frames, the last one 1 to `length`.

        Raises
        ------
        AudioFileError : as for `read_audio`, once the fault is reached; also if less than one sample remains at `sr`.
        """
        for block in _regrouped(self._at_rate(), length):
            yield np.ascontiguousarray(block.T)

    def _at_rate(self) -> Iterator[Samples]:
        """Blocks (n, C) at `sr`, of about a second."""
        # Equal rates need no resampling; soxr would only copy.
        if self.sr == self.own_sr:
            yield from self._blocks()
            return
        resampler = soxr.ResampleStream(self.own_sr, self.sr, self.channels, dtype="float32", quality="VHQ")
        made, came = 0, 0
        for block in self._blocks():
            came += len(block)
            out = resampler.resample_chunk(block)
            made += len(out)
            yield out
        rest = resampler.resample_chunk(np.zeros((0, self.channels), np.float32), last=True)
        wanted = (2 * came * self.sr + self.own_sr) // (2 * self.own_sr)
        if wanted == 0:
            raise AudioFileError(
                f"cannot use {self.path}: its {came / self.own_sr:.2g} s are less than one sample at {self.sr} Hz; "
                "choose a longer recording or a higher --sr"
            )
        yield rest[: wanted - made]

    def _blocks(self) -> Iterator[Samples]:
        """Blocks (n, C) at the file's own rate, of about a second, after refusing unusable samples."""
        second = -(-self.own_sr // FRAMES_PER_CALL) * FRAMES_PER_CALL
        with _opened(self.path) as decoder:
            at = 0
            for block in _regrouped(decoder.blocks(), second):
                if (bad := _no_sound(block)).size:
                    raise _unusable(self.path, "it holds samples that are", (at + bad[0]) / self.own_sr)
                yield block
                at += len(block)
        if not decoder.end:
            raise decoder.nothing_read()
        if decoder.cut:
            self.warnings.append(decoder.cut)


def _regrouped(blocks: Iterator[Samples], length: int) -> Iterator[Samples]:
    """Yield the frames of blocks (n, C) in arrays of `length` frames; the last may have fewer."""
    parts, held = list[Samples](), 0
    for block in blocks:
        parts.append(block)
        held += len(block)
        while held >= length:
            joined = np.concatenate(parts)
            yield joined[:length]
            parts, held = [joined[length:]], held - length
    if held:
        yield np.concatenate(parts)


def _unusable(path: Path, samples_are: str, at_s: float) -> AudioFileError:
    """The error for samples that are no sound, the first of them at `at_s` seconds; `samples_are` says how many."""
    return AudioFileError(
        f"cannot use {path}: {samples_are} NaN, infinite or beyond {LARGEST_SAMPLE:g}, the first at {at_s:.3f} s; "
        "export it again or cut that part out"
    )


def _no_sound(block: Samples) -> NDArray[np.intp]:
    """Indices of the frames of a block (n, C) that hold NaN, infinity, or values beyond `LARGEST_SAMPLE`."""
    # NaN and infinity show in the minimum or the maximum, so a good block needs no array of booleans.
    if not block.size or max(-float(block.min()), float(block.max())) <= LARGEST_SAMPLE:
        return np.zeros(0, np.intp)
    return np.flatnonzero(~(np.abs(block) <= LARGEST_SAMPLE).all(axis=1))


def _check_excerpt(start_s: float | None, end_s: float | None) -> None:
    start_s = check_real("start_s", start_s or 0, least=0)
    if end_s is not None and check_real("end_s", end_s, least=0) <= start_s:
        raise ParameterError(
            "end_s", f"is {end_s:g}", f"pass seconds greater than {{start_s}}, {start_s:g}", also=("start_s",)
        )


def _check_readable(path: Path) -> None:
    status = file_status(path, "read")
    if status is None:
        raise AudioFileError(f"cannot read {path}: there is no such file; check the name")
    if stat.S_ISDIR(status.st_mode):
        raise AudioFileError(f"cannot read {path}: it is a folder; name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise AudioFileError(f"cannot read {path}: it is a device or a pipe; save the sound to a file first")
    if status.st_size == 0:
        raise AudioFileError(f"cannot read {path}: it is empty (0 bytes); record, export or download it again")


def find_audio(paths: Iterable[StrPath]) -> list[Path]:
    """Find the sound files in `paths`: files are taken as they are, and folders are searched.

    Parameters
    ----------
    paths : files and folders. A file is kept whatever its ending. In a folder and the folders below it, names with
        one of `AUDIO_ENDINGS` (in any case) are taken in sorted order; hidden names (beginning with a dot, so
        ``._take.wav`` too) are skipped, links are followed, a folder reached twice is searched once.

    Returns
    -------
    list of paths in that order, each file once even if it is reached under two names.

    Raises
    ------
    AudioFileError : if a path does not exist, a folder cannot be searched, or a folder holds no sound file.
    TypeError : if `paths` is a single path.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(f"paths must be a list of paths, got the single path {os.fspath(paths)!r}; put it in a list")
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        status = file_status(path, "read")
        if status is None:
            raise AudioFileError(f"cannot read {path}: there is no such file or folder; check the name")
        if stat.S_ISDIR(status.st_mode):
            try:
                files = list(_walk(path, set()))
            except OSError as error:
                raise AudioFileError(f"cannot search {path}: {reason_of(error)}; check its permissions") from error
            if not files:
                raise AudioFileError(
                    f"no sound file in {path}: no name in it ends in {', '.join(sorted(AUDIO_ENDINGS))}; "
                    "choose another folder"
                )
        else:
            files = [path]
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _walk(folder: Path, searched: set[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in searched:  # a link to a folder above or beside
        return
    searched.add(real)
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_dir():
            yield from _walk(child, searched)
        elif child.suffix.lower() in AUDIO_ENDINGS and child.is_file():
            yield child


# Resampling


def resample(samples: Samples, sr: int, target_sr: int) -> Samples:
    """Resample with soxr's very high quality filter.

    Parameters
    ----------
    samples : (L,) or (C, L) float array, finite, L >= 1.
    sr, target_sr : int. Sample rates in Hz.

    Returns
    -------
    (M,) or (C, M) float32 array, ``M = floor(L * target_sr / sr + 1/2)``. Each channel is resampled on its own. With
    equal rates, it is `samples` itself if that is float32.

    Raises
    ------
    ValueError : if `samples` has another shape, is empty or not finite, or a rate is out of range.
    TypeError : if `samples` are not floats or a rate is not an integer.
    """
    samples = check_sound("samples", samples).astype(np.float32, copy=False)
    sr, target_sr = check_rate("sr", sr), check_rate("target_sr", target_sr)
    if sr == target_sr:
        return samples
    return stack_channels([soxr.resample(channel, sr, target_sr, quality="VHQ") for channel in as_channels(samples)])
