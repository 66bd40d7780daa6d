"""Scores for other tools: a REAPER project, a table, labels for Audacity, MIDI. All as text or bytes."""

import csv
import io
import itertools
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from smalti._checks import Floats, check_choice
from smalti.errors import require_extra
from smalti.score.daw_items import Item, items_of
from smalti.score.score import Score
from smalti.score.table import RECORD_FIELDS, records

# The endings of files, and what these hold.
EXPORTS: Mapping[str, str] = MappingProxyType(
    {
        ".rpp": "a REAPER project",
        ".csv": "a table of the grains",
        ".txt": "labels for Audacity",
        ".mid": "the notes of transposed grains, as MIDI",
    }
)

# REAPER's names for formats of source files, by ending. It detects other formats by itself.
_KINDS = {".flac": "FLAC", ".mp3": "MP3", ".ogg": "VORBIS", ".oga": "VORBIS", ".opus": "OPUS"}
# REAPER's channel modes of a take.
_AS_IT_IS, _MIXED, _LEFT, _RIGHT = 0, 2, 3, 4

# A quarter has 1000 ticks and lasts a million microseconds, so a tick is a millisecond.
_TICKS, _QUARTER_US = 1000, 1_000_000
# All 16 channels but the tenth, which plays drums.
_CHANNELS = (*range(9), *range(10, 16))
# Grains this far below the loudest get the lowest velocity.
_SOFTEST_DB = 48.0


def check_export(path: Path) -> str:
    """The ending of `path`, in lower case.

    Raises
    ------
    ValueError : if a score cannot be exported to it; the message lists the endings.
    """
    return check_choice("the ending of the file", path.suffix.lower(), tuple(EXPORTS))


def csv_text(score: Score) -> str:
    """A CSV table with a heading and a line for each grain; see `smalti.score.table.records`."""
    out, rows = io.StringIO(), records(score)
    table = csv.DictWriter(out, RECORD_FIELDS, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()})
    return out.getvalue()


def label_text(score: Score) -> str:
    """A label track for Audacity, a line for each grain: begin and end in seconds, its id and its source's name."""
    out = []
    for grain in score:
        span = f"{grain.start_s:.6f}\t{grain.start_s + grain.duration_s:.6f}"
        out.append(f"{span}\t{grain.id} {_plain(Path(grain.source.name).name)}\n")
    return "".join(out)


def _plain(name: str) -> str:
    """A name without characters that would end a line or a field."""
    # All others stay, also wide blanks, joiners and undecodable bytes, because the name may be the path of a file.
    return "".join(" " if _ends(letter) else letter for letter in name)


def _ends(letter: str) -> bool:
    stray = unicodedata.category(letter) == "Cs" and not "\udc80" <= letter <= "\udcff"
    return stray or unicodedata.category(letter) in ("Cc", "Zl", "Zp")


# --- REAPER


def rpp_text(items: Sequence[Item], score: Score) -> str:
    """A REAPER project: a track for each source file, an item for each of `items`, and the target, muted, above them.

    An item plays its source from an offset on. Its volume is the maximum of its envelope, which is a fade-in, straight
    lines and a fade-out. A transposed item keeps its duration and is shifted by the mean of its shift, or it is played
    at another speed like a tape. The master has the gain of the score. Channels driven apart have tracks of their own,
    panned to the left and the right if there are two.
    """
    sr, lasts_s = score.sr, score.length / score.sr
    lines = [
        # The version of REAPER that this format is from.
        '<REAPER_PROJECT 0.1 "6.0/smalti" 0',
        # Sounds panned to the middle keep their level.
        "  PANLAW 1",
        # Overlapping items all sound; by REAPER's default, an item within another would replace it.
        "  ITEMMIX 1",
        "  TEMPO 120 4 4",
        f"  SAMPLERATE {sr} 1 0",
        f"  MASTER_VOLUME {_number(10 ** (score.gain_db / 20))} 0 -1 -1 1",
        *_track(f"target: {Path(score.target.name).name}", muted=True),
        *_source_item(score.target.name, start_s=0, length_s=lasts_s, offset_s=score.target.start_s),
        "  >",
    ]
    tracks: dict[tuple[str, int], list[Item]] = {}
    for item in items:
        tracks.setdefault((score.sources[item.origin].name, item.part), []).append(item)
    heard = list(dict.fromkeys(name for name, _ in tracks))
    for (name, part), own in sorted(tracks.items(), key=lambda track: (heard.index(track[0][0]), track[0][1])):
        channel = f" (channel {part + 1})" if score.n_parts > 1 else ""
        lines += _track(Path(name).name + channel, pan=(-1, 1)[part] if score.n_parts == 2 else 0)
        for item in own:
            lines += _item(item, score)
        lines.append("  >")
    return "\n".join([*lines, ">"]) + "\n"


def _track(name: str, *, muted: bool = False, pan: int = 0) -> list[str]:
    return ["  <TRACK", f"    NAME {_quoted(name)}", f"    VOLPAN 1 {pan} -1 -1 1", f"    MUTESOLO {int(muted)} 0 0"]


def _source_item(path: str, *, start_s: float, length_s: float, offset_s: float) -> list[str]:
    return [
        "    <ITEM",
        f"      POSITION {_number(start_s)}",
        f"      LENGTH {_number(length_s)}",
        "      LOOP 0",
        f"      NAME {_quoted(Path(path).name)}",
        f"      SOFFS {_number(offset_s)}",
        *_file(path),
        "    >",
    ]


def _item(item: Item, score: Score) -> list[str]:
    source, sr = score.sources[item.origin], score.sr
    keeps_time = item.rate == 1
    pitch = item.semitones if keeps_time else 0
    return [
        "    <ITEM",
        f"      POSITION {_number(item.start / sr)}",
        f"      LENGTH {_number(item.length / sr)}",
        "      LOOP 0",
        # The first number is the shape; 0 is a straight line.
        f"      FADEIN 0 {_number(item.fade_in / sr)} 0 0 0 0 0",
        f"      FADEOUT 0 {_number(item.fade_out / sr)} 0 0 0 0 0",
        f"      NAME {_quoted(f'{item.grain} {Path(source.name).name}')}",
        f"      VOLPAN 1 0 {_number(item.gain)} -1",
        f"      SOFFS {_number((source.begin + item.offset) / sr)}",
        f"      PLAYRATE {_number(item.rate)} {int(keeps_time)} {_number(pitch)} -1 0 0.0025",
        f"      CHANMODE {_channel_mode(item, score)}",
        *_file(source.name),
        "      <VOLENV",
        "        ACT 1 -1",
        "        VIS 0 1 1",
        # Shape 0 is a straight line to the next point. Times are those of the source, which runs at the item's rate.
        *(
            f"        PT {_number(at * item.rate / sr)} {_number(gain)} 0"
            for at, gain in zip(item.times.tolist(), item.gains.tolist(), strict=True)
        ),
        "      >",
        "    >",
    ]


def _channel_mode(item: Item, score: Score) -> int:
    if score.settings.channels == "mono":
        return _MIXED
    if score.n_parts == 1:
        return _AS_IT_IS
    own = score.n_parts == 2 == score.sources[item.origin].channels
    return (_LEFT, _RIGHT)[item.part] if own else _MIXED


def _file(path: str) -> list[str]:
    kind = _KINDS.get(Path(path).suffix.lower(), "WAVE")
    return [f"      <SOURCE {kind}", f"        FILE {_quoted(str(Path(path).absolute()))}", "      >"]


def _number(value: float) -> str:
    """A number to 12 decimals, without the exponents that a project does not know."""
    return f"{value:.12f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    """A text between marks that it does not contain. If it contains all three kinds, its backticks are replaced."""
    line = _plain(text)
    mark = next((mark for mark in "\"'`" if mark not in line), "`")
    return f"{mark}{line.replace('`', chr(39)) if mark == '`' else line}{mark}"


# --- MIDI


def midi_bytes(score: Score, f0: ArrayLike | None = None) -> bytes:
    """A MIDI file of the grains that are transposed: a track and a channel for each source, a note for each grain.

    A note has the pitch nearest to its grain's, and a velocity that follows the grain's level. A beat is a second.
    Grains that are not transposed have no known pitch, and are left out unless `f0` gives one.

    Parameters
    ----------
    f0 : (N,) array, the pitch of the mosaic or its target in Hz in each frame, 0 for none; see
        `smalti.dsp.pitch.track_pitch`.

    Raises
    ------
    ValueError : if no grain has a pitch, or `f0` has another number of frames.
    MissingExtraError : if ``smalti[midi]`` is not installed.
    """
    heard = np.zeros(score.n_frames) if f0 is None else np.asarray(f0, dtype=np.float64)
    if heard.shape != (score.n_frames,):
        raise ValueError(f"f0 has shape {heard.shape}; pass a pitch for each of the {score.n_frames} frames")
    notes = [(i, note) for i in range(len(score)) if (note := _note(score, i, heard)) is not None]
    if not notes:
        raise ValueError("no grain is transposed to a pitch, and so there is no note; make it with --preset melodic")
    require_extra("midi", "MIDI needs mido")
    import mido

    loudest = max(float(score.levels[i]) for i, _ in notes)
    file = mido.MidiFile(ticks_per_beat=_TICKS)
    file.add_track().append(mido.MetaMessage("set_tempo", tempo=_QUARTER_US))
    names = dict.fromkeys(score.sources[score.origins[i]].name for i, _ in notes)
    for name, channel in zip(names, itertools.cycle(_CHANNELS)):
        track = file.add_track()
        track.append(mido.MetaMessage("track_name", name=_latin(Path(name).name)))
        events: list[tuple[int, int, int, int]] = []
        for i, note in notes:
            if score.sources[score.origins[i]].name == name:
                begin = round(_TICKS * int(score.frames[i]) * score.hop_s)
                end = max(begin + 1, round(_TICKS * int(score.frames[i] + score.lengths[i]) * score.hop_s))
                soft = (loudest - float(score.levels[i])) / _SOFTEST_DB
                velocity = max(1, round(127 * (1 - soft)))
                events += [(begin, 1, note, velocity), (end, 0, note, 0)]
        now = 0
        # At the same tick, notes end before others begin.
        for at, on, note, velocity in sorted(events):
            kind = "note_on" if on else "note_off"
            track.append(mido.Message(kind, channel=channel, note=note, velocity=velocity, time=at - now))
            now = at
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


def _latin(name: str) -> str:
    """A name in Latin-1, which MIDI files are written in."""
    return _plain(name).encode("latin-1", "replace").decode("latin-1")


def _note(score: Score, i: int, f0: Floats) -> int | None:
    """The MIDI number of a grain's pitch; None if that is unknown or outside 0 to 127. `f0` as for `midi_bytes`."""
    heard: Floats = f0[score.frames[i] : score.frames[i] + score.lengths[i]]
    if (shift := score.shifts[i]) is not None:
        heard = (shift.hz * shift.ratios)[shift.sounding]
    heard = heard[heard > 0]
    if not len(heard):
        return None
    number = round(69 + 12 * math.log2(float(np.median(heard)) / 440))
    return number if 0 <= number <= 127 else None


def exported(score: Score, ending: str, items: Sequence[Item] | None = None) -> bytes:
    """The content of a file for another tool, which `ending` chooses.

    Parameters
    ----------
    ending : one of `EXPORTS`.
    items : for a REAPER project; None for those of `smalti.score.daw_items.items_of`.

    Raises
    ------
    ValueError : for another ending.
    ValueError, MissingExtraError : as for `midi_bytes`.
    """
    written: dict[str, Any] = {
        # Undecodable bytes of a path are written as they are on the disk.
        ".rpp": lambda: rpp_text(items_of(score) if items is None else items, score).encode("utf-8", "surrogateescape"),
        ".csv": lambda: csv_text(score).encode("utf-8", "backslashreplace"),
        ".txt": lambda: label_text(score).encode("utf-8", "backslashreplace"),
        ".mid": lambda: midi_bytes(score),
    }
    data: bytes = written[check_choice("ending", ending, tuple(EXPORTS))]()
    return data
