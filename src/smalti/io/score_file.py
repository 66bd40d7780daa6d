"""Scores as files: JSON of a documented format, checked in full when it is read.

`SCORE_FORMAT` and `VERSION` name the format, and `schema` gives it as JSON Schema. Only the score's file is opened
here; `smalti.workflows.locate` finds the recordings that it names.
"""

import json
import stat
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from smalti._checks import LEAST_RATE, MOST_CHANNELS, MOST_RATE, Floats
from smalti.dsp.pitch import MOST_RATIO
from smalti.dsp.stft import WINDOWS, StftParams
from smalti.errors import ScoreFileError
from smalti.grains.shifted import Shift, n_ratios
from smalti.grains.source import Source
from smalti.io.files import StrPath, reason_of
from smalti.presets import settings_from
from smalti.score.score import Score, Target

SCORE_FORMAT, VERSION = "smalti score", 1

# Larger files are refused: they would not fit into a laptop's memory, and no mosaic of some minutes needs one.
MOST_BYTES, MOST_GRAINS = 256_000_000, 1_000_000
# Larger values would keep a machine busy for hours.
MOST_VOICES, MOST_ITERATIONS = 64, 10_000

Count = Annotated[int, Meta(ge=0, le=2**40)]
Place = Annotated[int, Meta(ge=-(2**40), le=2**40)]
Seconds = Annotated[float, Meta(ge=0, le=1e7)]
Gain = Annotated[float, Meta(ge=0, le=1e15)]
Name = Annotated[str, Meta(max_length=10_000)]
Sha = Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]


class _Part(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A part of the file. Unknown fields are refused."""


class GridPart(_Part):
    """The grid on which grains are added up, in samples."""

    n_fft: Annotated[int, Meta(ge=4, le=2**17)]
    hop: Annotated[int, Meta(ge=1, le=2**16)]
    window: str


class TargetPart(_Part):
    """The sound that the mosaic re-creates: a file, or its stretch from start_s to end_s (null: to the file's end)."""

    path: Name
    sha256: Sha = ""
    sr: Count = 0
    channels: Count = 0
    duration_s: Seconds = 0.0
    start_s: Seconds = 0.0
    end_s: Seconds | None = None


class SourcePart(_Part):
    """A recording that grains are cut from: a file, or the part of a file in a corpus from sample `begin` on."""

    path: Name
    sha256: Sha = ""
    sr: Count = 0
    channels: Count = 0
    duration_s: Seconds = 0.0
    tags: Annotated[list[Name], Meta(max_length=1000)] = []
    corpus: Name = ""
    begin: Count = 0
    whole: bool = False


class ShiftPart(_Part):
    """The transposition of a grain over time.

    Reading starts at sample `begin` of the source. `ratios` and `hz` have eight values a frame, from `before` frames
    ahead of the grain's first to as many after its last: the ratio by which the pitch of the source is changed, and
    that pitch (0: none).
    """

    begin: Place
    before: Annotated[int, Meta(ge=0, le=10_000)]
    ratios: list[Annotated[float, Meta(ge=1 / MOST_RATIO, le=MOST_RATIO)]]
    hz: list[Annotated[float, Meta(ge=0, le=1e6)]]


class GrainPart(_Part):
    """A stretch of a source that sounds in the mosaic. Times in seconds may be left out where samples are given.

    `start` is the place of the middle of its first window in the mosaic, and `source_start` the same place in the
    source's file, both in samples at the score's rate. `gains` has a value for each hop. `together_with` and `level_db`
    are for reading only.
    """

    id: Annotated[int, Meta(ge=1, le=2**40)]
    source: Count
    gains: Annotated[list[Gain], Meta(min_length=1)]
    start: Place | None = None
    start_s: Annotated[float, Meta(ge=-1e7, le=1e7)] | None = None
    duration: Count | None = None
    duration_s: Seconds | None = None
    source_start: Place | None = None
    source_start_s: Annotated[float, Meta(ge=-1e7, le=1e7)] | None = None
    level_db: Annotated[float, Meta(ge=-1000, le=1000)] = -300.0
    semitones: float = 0.0
    channel: Annotated[int, Meta(ge=0, lt=MOST_CHANNELS)] = 0
    together_with: list[int] = []
    shift: ShiftPart | None = None


class ScorePart(_Part, omit_defaults=False):
    """A score: a mosaic as a list of grains, and all that is needed to make its sound again."""

    format: Literal["smalti score"]
    version: int
    smalti: str
    sr: Annotated[int, Meta(ge=LEAST_RATE, le=MOST_RATE)]
    length: Annotated[int, Meta(ge=1, le=2**40)]
    duration_s: Seconds
    channels: Annotated[int, Meta(ge=1, le=MOST_CHANNELS)]
    parts: Annotated[int, Meta(ge=1, le=MOST_CHANNELS)]
    dtype: Literal["float32", "float64"]
    grid: GridPart
    gain_db: Annotated[float, Meta(ge=-1000, le=1000)]
    settings: dict[str, Any]
    target: TargetPart
    sources: Annotated[list[SourcePart], Meta(min_length=1, max_length=MOST_GRAINS)]
    melodies_hz: Annotated[list[list[Annotated[float, Meta(ge=0, le=1e6)]]], Meta(max_length=MOST_VOICES)]
    grains: Annotated[list[GrainPart], Meta(max_length=MOST_GRAINS)]


class _Kind(Struct):
    """The fields that every version of the file has."""

    format: str = ""
    version: int = 0


def schema() -> dict[str, Any]:
    """The format of the file as JSON Schema (2020-12)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(ScorePart)}


# Longer lists of partners are not written: if all grains sound together, they say nothing.
_MOST_PARTNERS = 100


def score_json(score: Score) -> bytes:
    """The content of a score's file: JSON in ASCII, with a line for each grain.

    Raises
    ------
    ScoreFileError : if it would be too large for `read_score`.
    """
    if len(score) > MOST_GRAINS:
        raise _too_large(f"{len(score)} grains")
    about = {
        "format": SCORE_FORMAT,
        "version": VERSION,
        "smalti": version("smalti"),
        "sr": score.sr,
        "length": score.length,
        "duration_s": score.length / score.sr,
        "channels": score.channels,
        "parts": score.n_parts,
        "dtype": score.dtype,
        "grid": asdict(score.params),
        "gain_db": score.gain_db,
        "settings": asdict(score.settings),
        "target": _with_path(asdict(score.target)),
        "sources": [_with_path(asdict(source)) for source in score.sources],
        "melodies_hz": score.melodies.tolist(),
    }
    head = json.dumps(about, indent=1, allow_nan=False).removesuffix("\n}")
    lines = ",\n  ".join(json.dumps(grain, allow_nan=False) for grain in _grains(score))
    text = f'{head},\n "grains": [\n  {lines}\n ]\n}}\n'.encode("ascii")
    if len(text) > MOST_BYTES:
        raise _too_large(f"{len(text) / 1e6:.0f} MB")
    return text


def _too_large(size: str) -> ScoreFileError:
    return ScoreFileError(
        f"the score has {size}; no more than {MOST_GRAINS} grains and {MOST_BYTES / 1e6:.0f} MB are read again: take a "
        "shorter target, or a preset with fewer layers"
    )


def _with_path(named: dict[str, Any]) -> dict[str, Any]:
    # Undecodable bytes of a file name could not be read again, so they are escaped; such a file is found by its hash.
    name = named.pop("name").encode("utf-8", "backslashreplace").decode()
    return {"path": name, **named}


def _shortest(values: Floats) -> list[float]:
    """Numbers with as few digits as tell them apart in their own precision."""
    if values.dtype == np.float32:
        return [float(text) for text in values.astype(str)]
    numbers: list[float] = values.tolist()
    return numbers


def _grains(score: Score) -> Any:
    gains, sr = _shortest(score.gains), score.sr
    for i, first in enumerate(score.offsets.tolist()):
        frame, length, shift = int(score.frames[i]), int(score.lengths[i]), score.shifts[i]
        start, source_start = frame * score.params.hop, score.sources[score.origins[i]].begin + int(score.centres[i])
        grain: dict[str, Any] = {
            "id": int(score.ids[i]),
            "start_s": round(start / sr, 6),
            "duration_s": round(length * score.params.hop / sr, 6),
            "source": int(score.origins[i]),
            "source_start_s": round(source_start / sr, 6),
            "level_db": round(float(score.levels[i]) + score.gain_db, 2),
            "start": start,
            "duration": length * score.params.hop,
            "source_start": source_start,
        }
        if score.n_parts > 1:
            grain["channel"] = int(score.parts[i])
        if score.n_partners[i] <= _MOST_PARTNERS:
            grain["together_with"] = score.ids[score.partners(i)].tolist()
        grain["gains"] = gains[first : first + length]
        if shift is not None:
            grain["semitones"] = round(shift.semitones, 3)
            grain["shift"] = {
                "begin": shift.begin,
                "before": shift.before,
                "ratios": shift.ratios.tolist(),
                "hz": shift.hz.tolist(),
            }
        yield grain


def read_score(path: StrPath) -> Score:
    """Read the score in a file.

    Parameters
    ----------
    path : a JSON file that ``smalti make --score`` or `score_json` has written.

    Returns
    -------
    Score

    Raises
    ------
    ScoreFileError : if the file is missing, unreadable, too large, cut short, of another format or version, or wrong in
        any part; the message names the fault.
    """
    file = Path(path)
    data = _read(file)
    try:
        kind = msgspec.json.decode(data, type=_Kind)
        if kind.format != SCORE_FORMAT:
            raise ScoreFileError(f"cannot read {file}: it is no score; name a file that --score has written")
        if kind.version != VERSION:
            raise ScoreFileError(
                f"cannot read {file}: it is a score of version {kind.version}, and this smalti reads version "
                f"{VERSION}; make it again, or take the smalti that wrote it"
            )
        return _score(msgspec.json.decode(data, type=ScorePart))
    except msgspec.ValidationError as error:
        raise ScoreFileError(f"cannot read {file}: {_message(error)}") from error
    except msgspec.DecodeError as error:
        raise ScoreFileError(f"cannot read {file}: it is cut short or no JSON ({error})") from error
    except (RecursionError, ValueError, TypeError) as error:
        raise ScoreFileError(f"cannot read {file}: {error}") from error


def _read(file: Path) -> bytes:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ScoreFileError(f"cannot read {file}: it is no file; name one that --score has written")
        if status.st_size > MOST_BYTES:
            raise ScoreFileError(
                f"cannot read {file}: it has {status.st_size / 1e6:.0f} MB, and a score at most {MOST_BYTES / 1e6:.0f}"
            )
        return file.read_bytes()
    except OSError as error:
        raise ScoreFileError(f"cannot read {file}: {reason_of(error)}") from error


def _message(error: msgspec.ValidationError) -> str:
    """The decoder's words, with the place of the fault as the file has it: `grains[0].gains[0]`."""
    text = str(error).replace("`", "").replace(" - at $", ", at ").replace(", at .", ", at ")
    return text[:1].lower() + text[1:]


def _score(part: ScorePart) -> Score:
    grid = part.grid
    if grid.window not in WINDOWS:
        raise ValueError(f"grid.window is {grid.window!r}; it must be one of {', '.join(WINDOWS)}")
    params = StftParams(grid.n_fft, grid.hop, grid.window)
    sources = tuple(_source(source) for source in part.sources)
    if part.parts not in (1, part.channels):
        raise ValueError(f"parts is {part.parts}; it must be 1, or one for each of {part.channels} channels")
    settings = settings_from(part.settings)
    if settings.phase_iterations > MOST_ITERATIONS:
        raise ValueError(f"phase_iterations is {settings.phase_iterations}; it must be {MOST_ITERATIONS} at most")
    if len({grain.id for grain in part.grains}) < len(part.grains):
        raise ValueError("two grains have the same id; give each its own")
    starts = [_grain_start(grain, part) for grain in part.grains]
    source_starts = [_samples(grain, "source_start", part.sr) for grain in part.grains]
    frames = [round(start / grid.hop) for start in starts]
    for grain in part.grains:
        _check_duration(grain, part)
        if grain.source >= len(sources):
            raise ValueError(f"grain {grain.id} has source {grain.source}; there are {len(sources)}, counted from 0")
    begins = np.array([source.begin for source in sources], np.intp)
    origins = np.array([grain.source for grain in part.grains], np.intp)
    # A grain that begins off the grid is put on it, and begins earlier in its source by the difference.
    off_grid = np.array(starts, np.intp) - np.array(frames, np.intp) * grid.hop
    gain_db, n_frames = part.gain_db, params.n_frames(part.length)
    for voice, hz in enumerate(part.melodies_hz, start=1):
        if len(hz) != n_frames:
            raise ValueError(f"voice {voice} of melodies_hz has {len(hz)} values; it must have {n_frames}, one a frame")
    return Score(
        params=params,
        sr=part.sr,
        length=part.length,
        channels=part.channels,
        n_parts=part.parts,
        dtype=part.dtype,
        settings=settings,
        gain_db=gain_db,
        target=Target(**_named(part.target)),
        sources=sources,
        ids=np.array([grain.id for grain in part.grains], np.intp),
        parts=np.array([grain.channel for grain in part.grains], np.intp),
        origins=origins,
        frames=np.array(frames, np.intp),
        lengths=np.array([len(grain.gains) for grain in part.grains], np.intp),
        centres=np.array(source_starts, np.intp) - begins[origins] - off_grid,
        gains=np.array([gain for grain in part.grains for gain in grain.gains], part.dtype),
        levels=np.array([grain.level_db - gain_db for grain in part.grains], np.float64),
        shifts=tuple(
            _shift(grain, params.hop, moved) for grain, moved in zip(part.grains, off_grid.tolist(), strict=True)
        ),
        melodies=np.array(part.melodies_hz) if part.melodies_hz else np.zeros((0, 0)),
    )


def _source(part: SourcePart) -> Source:
    if (part.begin or part.whole) and not part.corpus:
        raise ValueError(f"the source {part.path} has begin or whole, which are for parts of a corpus; leave them out")
    return Source(**_named(part) | {"tags": tuple(part.tags)})


def _named(part: SourcePart | TargetPart) -> dict[str, Any]:
    """The fields of a part under the names that `Source` and `Target` give them."""
    fields = msgspec.structs.asdict(part)
    return {"name": fields.pop("path"), **fields}


def _samples(grain: GrainPart, name: str, sr: int) -> int:
    """A time in samples, which a grain gives in samples, in seconds, or in both if they agree."""
    samples: int | None = getattr(grain, name)
    seconds: float | None = getattr(grain, f"{name}_s")
    if samples is None:
        if seconds is None:
            raise ValueError(f"grain {grain.id} has neither {name} nor {name}_s; give one of them")
        return round(seconds * sr)
    if seconds is not None and abs(samples / sr - seconds) > 1e-5:
        raise ValueError(
            f"grain {grain.id} has {name} {samples}, which is {samples / sr:.6f} s, but {name}_s {seconds:g}; change "
            "both, or leave one out"
        )
    return samples


def _grain_start(grain: GrainPart, part: ScorePart) -> int:
    start = _samples(grain, "start", part.sr)
    if not 0 <= start <= part.length:
        raise ValueError(
            f"grain {grain.id} starts at {start / part.sr:.3f} s; the mosaic goes from 0 to "
            f"{part.length / part.sr:.3f} s"
        )
    return start


def _check_duration(grain: GrainPart, part: ScorePart) -> None:
    own = len(grain.gains) * part.grid.hop
    given = own if grain.duration is None else grain.duration
    seconds = own / part.sr if grain.duration_s is None else grain.duration_s
    if given != own or abs(seconds - own / part.sr) > 1e-5:
        raise ValueError(
            f"grain {grain.id} has {len(grain.gains)} gains, which are {own} samples or {own / part.sr:.6f} s, but "
            "says otherwise; a grain is as long as its gains"
        )
    if grain.channel >= part.parts:
        raise ValueError(f"grain {grain.id} has channel {grain.channel}; there are {part.parts}, counted from 0")


def _shift(grain: GrainPart, hop: int, off_grid: int) -> Shift | None:
    shift, n_frames = grain.shift, len(grain.gains)
    if shift is None:
        if grain.semitones:
            raise ValueError(f"grain {grain.id} has semitones but no shift; transpose it with 'smalti score edit'")
        return None
    needed = n_ratios(shift.before, n_frames, hop)
    if not len(shift.ratios) == len(shift.hz) == needed:
        raise ValueError(
            f"the shift of grain {grain.id} has {len(shift.ratios)} ratios and {len(shift.hz)} hz; "
            f"{n_frames} gains and {shift.before} frames before need {needed}"
        )
    return Shift(0, shift.begin - off_grid, n_frames, shift.before, np.array(shift.ratios), np.array(shift.hz))
