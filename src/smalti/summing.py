"""What a score is made of, in sum."""

from dataclasses import dataclass

import numpy as np

from smalti.score import Score


@dataclass(frozen=True)
class Usage:
    """How much of a score is of one file.

    Attributes
    ----------
    name : of the file.
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
    """How much of a score is of each file, what sounds longest first; of files that sound.

    Sources that are parts of one file count as that.
    """
    named = [(source.name, source.corpus) for source in score.sources]
    files = sorted(set(named))
    numbers = {file: i for i, file in enumerate(files)}
    file_of = np.array([numbers[file] for file in named])
    of, powers = file_of[score.origins], 10 ** (score.levels / 10) * score.lengths
    ends = score.frames + score.lengths
    usages = []
    for file in np.unique(of).tolist():
        mine = of == file
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
