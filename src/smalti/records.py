"""A score as plain records, a dictionary a grain, for tables: ``pandas.DataFrame(records(score))``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smalti._checks import check_real
from smalti.editing import LONGEST_S, at_gains, moved_by
from smalti.score import Score

COLUMNS = (
    "id", "start_s", "duration_s", "source", "source_start_s", "level_db", "gain_db", "semitones", "channel", "at_once",
)  # fmt: skip
# What of a record an edit is read from; all else is there to be looked at.
EDITABLE = ("start_s", "gain_db")


def records(score: Score) -> list[dict[str, Any]]:
    """One dictionary of plain values for each grain, in the score's order.

    ``gain_db`` is what is to be added to the grain's own gains, 0 as it stands; the rest is as in `smalti.score.Grain`,
    with the level as loud as it is heard.
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


def score_from_records(told: Sequence[Mapping[str, Any]], score: Score) -> Score:
    """The score with what its records were edited to: rows left out, moved by ``start_s``, turned up by ``gain_db``.

    Parameters
    ----------
    told : records of that score, such as ``frame.to_dict("records")``; in any order, but each id once.
    score : that they were made of.

    Raises
    ------
    ValueError, TypeError : for ids that the score does not have or has twice, and times or gains that are no numbers.
    """
    places = {number: i for i, number in enumerate(score.ids.tolist())}
    kept, gains, starts = [], [], []
    for record in told:
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
    # To the sample: written as text and read again, a time is not exactly what it was.
    later = np.round((np.array(starts) - out.frames * out.hop_s) * out.sr).astype(np.intp)
    return moved_by(out, later) if later.any() else out
