"""Files on a disk: written whole or not at all, compared, hashed."""

import errno
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smalti.errors import AudioFileError

StrPath = str | os.PathLike[str]


def file_sha256(path: StrPath) -> str:
    """Hex digest of a whole file.

    Raises
    ------
    AudioFileError : if it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AudioFileError(f"cannot read {path}: {reason_of(error)}; check its permissions and disk") from error


# Writing


def check_writable(path: StrPath, *, overwrite: bool) -> None:
    """Ask before a long computation whether `write_atomic` would refuse `path`; nothing is written.

    Raises
    ------
    AudioFileError : if `path` is a folder, a device or a pipe, if it exists and `overwrite` is false or it is
        write-protected, if its folder does not exist or cannot be written to.
    """
    _destination(Path(path), overwrite)


def hidden_beside(path: Path) -> Path:
    """A hidden name beside `path` that nothing has yet, for what takes the name of `path` once it is whole."""
    return path.with_name(f".smalti-{uuid.uuid4().hex}.part")


def write_atomic(path: StrPath, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file so that its name never stands for half of it.

    The bytes go to a hidden file in the same folder, which takes the name in one step when all of them are on the
    disk. Whatever happens before, Ctrl-C included, the hidden file is removed and an existing file is as it was.

    Parameters
    ----------
    path : where to write. A link is followed: its target is written and the link stays.
    data : the whole content.
    overwrite : replace an existing file; its permissions are kept.

    Raises
    ------
    AudioFileError : see `check_writable`; also if the disk is full or fails, or if another file has taken the name
        in the meantime.
    """
    path = Path(path)
    target = _destination(path, overwrite)
    # Not by `tempfile`, whose files are private: this one gets the permissions of any new file.
    part = hidden_beside(target)
    try:
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            replaced = file_status(target, "write")
            if replaced is not None:
                part.chmod(stat.S_IMODE(replaced.st_mode))
            _destination(path, overwrite)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        remedy = (
            "free some space or choose another folder"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            else "choose another folder"
        )
        raise AudioFileError(f"cannot write {path}: {reason_of(error)}; {remedy}") from error


def same_file(a: StrPath, b: StrPath) -> bool:
    """Whether two names stand for one file, by links or otherwise; the files need not exist."""
    try:
        return Path(a).samefile(b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def _destination(path: Path, overwrite: bool) -> Path:
    """The file that writing to `path` creates or replaces, links followed."""
    target = Path(os.path.realpath(path))
    status = file_status(path, "write")  # not of `target`: links like /dev/stdout lead to names that do not exist
    folder = file_status(target.parent, "write")
    if folder is None:
        raise AudioFileError(f"cannot write {path}: there is no folder {target.parent}; create it first")
    if not stat.S_ISDIR(folder.st_mode):
        raise AudioFileError(f"cannot write {path}: {target.parent} is not a folder; choose another name")
    if status is not None:
        if stat.S_ISDIR(status.st_mode):
            raise AudioFileError(f"cannot write {path}: it is a folder; name a file in it")
        if not stat.S_ISREG(status.st_mode):
            raise AudioFileError(f"cannot write {path}: it is a device or a pipe; choose another name")
        if not overwrite:
            raise AudioFileError(
                f"cannot write {path}: it already exists; add --overwrite (overwrite=True) or choose another name"
            )
        if not os.access(target, os.W_OK):
            raise AudioFileError(f"cannot write {path}: it is write-protected; choose another name")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise AudioFileError(f"cannot write {path}: {target.parent} is write-protected; choose another folder")
    return target


# Checks used above


def file_status(path: Path, verb: str) -> os.stat_result | None:
    """What the file system says of `path`, links followed; None if there is nothing of that name."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AudioFileError(f"cannot {verb} {path}: {reason_of(error)}; choose another name") from error


def reason_of(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


@contextmanager
def folder_beside(folder: Path) -> Iterator[Path]:
    """A hidden folder on the same disk, which is gone afterwards."""
    room = hidden_beside(folder.absolute())
    try:
        room.mkdir()
    except OSError as error:
        raise AudioFileError(
            f"cannot write stems into {folder}: {(error.strerror or str(error)).lower()}; choose another folder"
        ) from error
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise AudioFileError(
            f"cannot make the folder {folder}: {(error.strerror or str(error)).lower()}; choose another"
        ) from error
