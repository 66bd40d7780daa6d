"""A score as tables: a row for each grain, and how much comes from which file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smalti._checks import check_real
from smalti.score.edit import LONGEST_S, at_gains, moved_by
from smalti.score.score import Score

RECORD_FIELDS = (
    "id", "start_s", "duration_s", "source", "source_start_s", "level_db", "gain_db", "semitones", "channel", "at_once",
)  # fmt: skip
# The fields of a record that are read back as edits; the others are for reading only.
EDITABLE = ("start_s", "gain_db")


def records(score: Score) -> list[dict[str, Any]]:
    """One dictionary of plain values for each grain, in the score's order.

    ``gain_db`` is a gain to be added to the grain's own, 0 at first. The rest is as in `smalti.score.score.Grain`, but
    that the level includes the gain of the score.
    """
    return [
        {
            "id": grain.id,
            "start_s": grain.start_s,
            "duration_s": grain.duration_s,
            "source": grain.source.name,
            "source_start_s": grain.source_start_s,
            "level_db": grain.level_db + score.gain_db,
            "gain_db": 0.0,
            "semitones": grain.semitones,
            "channel": grain.channel,
            "at_once": 1 + others,
        }
        for grain, others in zip(score, score.n_partners.tolist(), strict=True)
    ]


def score_from_records(rows: Sequence[Mapping[str, Any]], score: Score) -> Score:
    """Edit a score as its records were edited: rows left out, moved by ``start_s``, turned up by ``gain_db``.

    Parameters
    ----------
    rows : records of that score, such as ``frame.to_dict("records")``; in any order, but each id once.
    score : the score that they were made from.

    Raises
    ------
    ValueError, TypeError : for ids that the score does not have or has twice, and times or gains that are no numbers.
    """
    places = {number: i for i, number in enumerate(score.ids.tolist())}
    kept, gains, starts = [], [], []
    for record in rows:
        for name in ("id", *EDITABLE):
            if name not in record:
                raise ValueError(f"a record has no {name!r}; leave the columns id, start_s and gain_db in the table")
        number = record["id"]
        if number not in places:
            raise ValueError(f"a record has id {number}, which no grain of the score has, or an earlier record had")
        kept.append(places.pop(number))
        gains.append(check_real(f"gain_db of grain {number}", float(record["gain_db"]), least=-200, most=60))
        start_s = float(record["start_s"])
        starts.append(check_real(f"start_s of grain {number}", start_s, least=-LONGEST_S, most=LONGEST_S))
    out = score.only(np.array(kept, np.intp))
    factors = 10 ** (np.array(gains) / 20)
    out = at_gains(out, (out.gains * factors[out.owners]).astype(out.gains.dtype))
    # Rounded to samples: a time that was written as text and read again is not exactly what it was.
    later = np.round((np.array(starts) - out.frames * out.hop_s) * out.sr).astype(np.intp)
    return moved_by(out, later) if later.any() else out


@dataclass(frozen=True)
class Usage:
    """How much of a score comes from one file.

    Attributes
    ----------
    name : the name of the file.
    time_share : 0 to 1, of the time that all grains sound. power_share : 0 to 1, of their power.
    n_grains : how many are cut from it. longest_s : how long the longest of them is.
    first_s, last_s : when the first of them begins and when the last one ends, in seconds of the mosaic.
    """

    name: str
    time_share: float
    power_share: float
    n_grains: int
    longest_s: float
    first_s: float
    last_s: float


def summary(score: Score) -> list[Usage]:
    """How much of a score comes from each file that sounds, the one that sounds longest first.

    Sources that are parts of one file count together.
    """
    named = [(source.name, source.corpus) for source in score.sources]
    files = sorted(set(named))
    numbers = {file: i for i, file in enumerate(files)}
    file_of = np.array([numbers[file] for file in named])
    grain_files, powers = file_of[score.origins], 10 ** (score.levels / 10) * score.lengths
    ends = score.frames + score.lengths
    usages = []
    for file in np.unique(grain_files).tolist():
        mine = grain_files == file
        usages.append(
            Usage(
                name=files[file][0],
                time_share=float(score.lengths[mine].sum() / score.lengths.sum()),
                power_share=float(powers[mine].sum() / powers.sum()),
                n_grains=int(np.count_nonzero(mine)),
                longest_s=float(score.lengths[mine].max() * score.hop_s),
                first_s=float(score.frames[mine].min() * score.hop_s),
                last_s=float(ends[mine].max() * score.hop_s),
            )
        )
    return sorted(usages, key=lambda usage: (-usage.time_share, -usage.power_share, usage.name))
