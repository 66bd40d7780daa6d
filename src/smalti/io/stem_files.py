"""Write stems, a mosaic split up by source: all files or none."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, check_choice
from smalti.errors import AudioFileError
from smalti.io.files import check_writable, folder_beside, reason_of, write_atomic
from smalti.io.sound_write import encode_audio
from smalti.score.render import Sources, stems
from smalti.score.score import Score

STEMS_BY = ("file", "folder")
# Each file is as long as the mosaic, and nobody opens more than these.
MOST_STEMS = 200


def stem_groups(score: Score, by: str = "file") -> tuple[list[str], NDArray[np.intp]]:
    """The stems of a score, and the stem of each grain.

    Parameters
    ----------
    by : "file" for a stem of each source file, or "folder" for a stem of each folder that holds some.

    Returns
    -------
    The names of the stems, in the order in which they are first heard, and the index of each grain's stem, (G,) intp.

    Raises
    ------
    AudioFileError : if there would be more than 200 stems.
    ValueError : for another `by`.
    """
    check_choice("stems_by", by, STEMS_BY)
    named = [source.name if by == "file" else str(PurePath(source.name).parent) for source in score.sources]
    names = list(dict.fromkeys(named[origin] for origin in score.origins.tolist()))
    if len(names) > MOST_STEMS:
        raise AudioFileError(
            f"there would be {len(names)} stems, one for each {by}, and {MOST_STEMS} are the most"
            + ("; take one for each folder (--stems-by folder)" if by == "file" else "; sort the sources into fewer")
        )
    numbers = {name: i for i, name in enumerate(names)}
    # Sources that no grain is cut from get -1, which no grain looks up.
    return names, np.array([numbers.get(name, -1) for name in named], np.intp)[score.origins]


def check_stems(folder: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a folder into which stems cannot be written."""
    if folder.exists() and not folder.is_dir():
        raise AudioFileError(f"cannot write stems into {folder}: it is not a folder; name another")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise AudioFileError(
            f"cannot write stems into {folder}: it is not empty; add --overwrite, or choose another folder"
        )
    if not folder.absolute().parent.is_dir():
        raise AudioFileError(f"cannot write stems into {folder}: there is no folder {folder.absolute().parent}")


def write_stems(
    folder: Path,
    score: Score,
    sources: Sources,
    *,
    mosaic: Floats,
    by: str = "file",
    overwrite: bool = False,
) -> list[Path]:
    """Write a WAV of 32-bit floats for each stem; their sum is the mosaic, to 1e-6 of full scale.

    The files move into the folder once all of them are complete. Other files in it stay.

    Parameters
    ----------
    folder : made if it does not exist.
    score, sources : as for `smalti.score.render.render`. mosaic : the sound that it makes of them.
    by : see `stem_groups`. overwrite : replace existing files.

    Returns
    -------
    The files, in the order of `stem_groups`.

    Raises
    ------
    AudioFileError : if a file exists and may not be overwritten, or the disk is full or fails; no hidden file is left.
    AudioFileError, ValueError : as for `stem_groups`.
    """
    names, groups = stem_groups(score, by)
    files = [folder / f"{name}.wav" for name in _file_names(names)]
    for file in files if folder.is_dir() else []:
        check_writable(file, overwrite=overwrite)
    with folder_beside(folder) as room:
        for file, sound in zip(files, stems(score, sources, groups, mosaic=mosaic), strict=True):
            write_atomic(room / file.name, encode_audio(sound, score.sr, ending=".wav", subtype="FLOAT"))
        try:
            folder.mkdir(exist_ok=True)
            for file in files:
                (room / file.name).replace(file)
        except OSError as error:
            raise AudioFileError(
                f"cannot write stems into {folder}: {reason_of(error)}; choose another folder"
            ) from error
    return files


def _file_names(names: Sequence[str]) -> list[str]:
    """File names without endings, numbered in the order of `names`, of characters that any file system takes."""
    width = len(str(len(names)))
    plain = [re.sub(r"[^\w.-]+", "_", PurePath(name).stem)[:60] or "stem" for name in names]
    return [f"{i:0{width}d}_{name}" for i, name in enumerate(plain, 1)]
