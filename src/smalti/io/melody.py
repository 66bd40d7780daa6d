"""Read melodies from text files with lines of seconds and hertz."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smalti._checks import Floats
from smalti.dsp.pitch import HIGHEST_HZ, LOWEST_HZ
from smalti.errors import PitchFileError
from smalti.io.files import reason_of


@dataclass(frozen=True, eq=False)
class Melody:
    """A melody read from a file.

    Attributes
    ----------
    path, sha256 : its file, and the hex digest of that.
    times_s : (P,) float64, never falling: the seconds at which pitches begin.
    hz : (P,) float64: the pitches, 0 for none.
    """

    path: Path
    sha256: str
    times_s: Floats
    hz: Floats

    def on_grid(self, n_frames: int, hop_s: float, *, start_s: float = 0.0) -> Floats:
        """The pitch of each frame, which is the one that began last.

        Parameters
        ----------
        n_frames, hop_s : number of frames, and seconds from one to the next. start_s : time of the first.

        Returns
        -------
        (n_frames,) float64 array in Hz, 0 for no pitch and before the first one.
        """
        # The microsecond is for pitches that begin on a frame: rounding must not move them to the next.
        at = start_s + np.arange(n_frames) * hop_s + 1e-6
        began = np.searchsorted(self.times_s, at, side="right")
        return np.concatenate([[0.0], self.hz])[began]


def read_melody(file: Path) -> Melody:
    """Read a melody from a text file with a line for each pitch: seconds and hertz, as pitch trackers write them.

    A comma, a semicolon, a tab or a space separates the two, and further fields are ignored. A pitch of 0 or less, NaN
    or an empty field stands for no pitch. Text after # is a comment, and the first line may be a heading. With
    semicolons or tabs, numbers may have decimal commas.

    Raises
    ------
    PitchFileError : if the file cannot be read or holds no pitch, or if a line is no such pair, out of order or out of
        range; the message names the line.
    """
    try:
        if file.exists() and not file.is_file():
            raise PitchFileError(f"cannot read {file}: it is no file; name a text file of seconds and hertz")
        data = file.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise PitchFileError(f"cannot read {file}: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise PitchFileError(f"cannot read {file}: it is no text; save it as CSV, in UTF-8") from error
    times, pitches, headed = list[float](), list[float](), False
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0]
        if not entry.strip():
            continue
        fields = _fields(entry)
        if not times and not headed and _number(fields[0]) is None:
            headed = True
            continue
        try:
            if (pair := _pair(fields)) is None:
                got = entry.strip() if len(entry) <= 40 else entry.strip()[:40] + "..."
                raise ValueError(f"{got!r} is no pair of seconds and hertz; write them as '0.5, 440'")
            time_s, hz = pair
            if times and time_s < times[-1]:
                raise ValueError(f"{time_s:g} s comes after {times[-1]:g} s; sort the lines by time")
        except ValueError as error:
            raise PitchFileError(f"cannot read {file}: line {number}: {error}") from error
        times.append(time_s)
        pitches.append(hz)
    if not any(pitches):
        raise PitchFileError(f"cannot read {file}: it holds no pitch; write lines of seconds and hertz, as '0.5, 440'")
    return Melody(file, hashlib.sha256(data).hexdigest(), np.array(times), np.array(pitches))


def _fields(line: str) -> list[str]:
    mark = next((mark for mark in ";\t," if mark in line), None)
    fields = [field.strip().strip('"').strip() for field in line.split(mark)]
    return fields if mark == "," else [field.replace(",", ".") for field in fields]


def _number(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


def _pair(fields: list[str]) -> tuple[float, float] | None:
    """Seconds and hertz of a line, 0 Hz for no pitch; None if the fields are no such pair."""
    time_s, hz = _number(fields[0]), None
    if len(fields) > 1:
        hz = _number(fields[1]) if fields[1] else 0.0
    if time_s is None or hz is None:
        return None
    if not (math.isfinite(time_s) and time_s >= 0):
        raise ValueError(f"{time_s:g} is no time; write seconds from the beginning of the target")
    if math.isnan(hz) or hz <= 0:
        return time_s, 0.0
    if not LOWEST_HZ <= hz <= HIGHEST_HZ:
        raise ValueError(f"{hz:g} Hz is out of range; write {LOWEST_HZ:g} to {HIGHEST_HZ:g} Hz, or 0 for no pitch")
    return time_s, hz
