"""Stems as files: a mosaic taken apart by source, all of it or none."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from smalti._checks import Floats, check_choice
from smalti.errors import AudioFileError
from smalti.io.files import check_writable, folder_beside, write_atomic
from smalti.io.sound_write import encode_audio
from smalti.score.render import Sources, stems
from smalti.score.score import Score

STEMS_BY = ("file", "folder")
# More files than anybody opens; each would be as long as the mosaic.
MOST_STEMS = 200


def stem_groups(score: Score, by: str = "file") -> tuple[list[str], NDArray[np.intp]]:
    """What stems a score has, and to which each grain belongs.

    Parameters
    ----------
    by : "file", a stem for each source file, or "folder", for each folder that these lie in.

    Returns
    -------
    Names, in the order in which they are first heard, and (G,) ints that count them.
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
    """Refuse, before any work, a folder that stems could not be written into."""
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
    """Write a WAV of 32-bit floats for each stem; together they are the mosaic, to 1e-6 of full scale.

    They come into the folder when all of them are whole. What else lies there stays.

    Parameters
    ----------
    score, sources : as for `smalti.score.render.render`. mosaic : what that makes of them. by : see `stem_groups`.

    Raises
    ------
    AudioFileError : if a file exists and may not be overwritten, or the disk is full or fails; nothing is left behind.
    """
    names, groups = stem_groups(score, by)
    files = [folder / f"{of}.wav" for of in _file_names(names)]
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
                f"cannot write stems into {folder}: {(error.strerror or str(error)).lower()}; choose another folder"
            ) from error
    return files


def _file_names(names: Sequence[str]) -> list[str]:
    """Names for files, numbered as they are heard: of letters that any file system takes."""
    width = len(str(len(names)))
    plain = [re.sub(r"[^\w.-]+", "_", PurePath(name).stem)[:60] or "stem" for name in names]
    return [f"{i:0{width}d}_{name}" for i, name in enumerate(plain, 1)]
