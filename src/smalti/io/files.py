"""Files on a disk: written whole or not at all, compared, hashed."""

import errno
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from smalti.errors import AudioFileError

StrPath = str | os.PathLike[str]

# Hidden names begin with this.
_HIDDEN = ".smalti-"


def file_sha256(path: StrPath) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits.

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
    """Refuse, before a long computation, what `write_atomic` would refuse after it. Nothing is written.

    Raises
    ------
    AudioFileError : if `path` is a folder, a device or a pipe, if it exists and `overwrite` is false or it is
        write-protected, if its folder does not exist or cannot be written to.
    """
    _destination(Path(path), overwrite)


def hidden_beside(path: Path) -> Path:
    """An unused hidden name beside `path`, for a file or folder that is renamed to `path` once it is complete."""
    return path.with_name(f"{_HIDDEN}{uuid.uuid4().hex}.part")


def is_hidden_part(path: Path) -> bool:
    """True for the names of `hidden_beside`; a process that was killed may leave files of such names."""
    return path.name.startswith(_HIDDEN)


def write_atomic(path: StrPath, data: bytes, *, overwrite: bool = False) -> None:
    """Write a result of the user's so that its name never refers to half of the content; see `replace_whole`.

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
    try:
        # The name may have been taken in the meantime.
        replace_whole(target, data, check=lambda: _destination(path, overwrite))
    except OSError as error:
        remedy = (
            "free some space or choose another folder"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            else "choose another folder"
        )
        raise AudioFileError(f"cannot write {path}: {reason_of(error)}; {remedy}") from error


def replace_whole(target: Path, data: bytes | memoryview, *, check: Callable[[], object] = lambda: None) -> None:
    """Write `data` to a hidden file beside `target`, and rename that to `target` once all of it is on the disk.

    If anything fails before that, Ctrl-C included, the hidden file is removed and an existing file stays unchanged.

    Parameters
    ----------
    target : no link. If it exists, its permissions are kept.
    check : called right before the renaming; it may raise to prevent it.

    Raises
    ------
    OSError : if the disk is full or fails.
    """
    # `tempfile` makes private files. This one gets the permissions of any new file.
    part = hidden_beside(target)
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        check()
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def same_file(a: StrPath, b: StrPath) -> bool:
    """Whether two names refer to one file, through links too; the files need not exist."""
    try:
        return Path(a).samefile(b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def _destination(path: Path, overwrite: bool) -> Path:
    """The file that writing to `path` creates or replaces, links followed."""
    target = Path(os.path.realpath(path))
    status = file_status(path, "write")  # not `target`: links like /dev/stdout lead to names that do not exist
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


# Status of files


def file_status(path: Path, verb: str) -> os.stat_result | None:
    """The status of `path`, links followed; None if it does not exist. Errors say that they cannot `verb` it."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AudioFileError(f"cannot {verb} {path}: {reason_of(error)}; choose another name") from error


def reason_of(error: OSError) -> str:
    """Why the system refused something, in lower case, without the name of the file."""
    return (error.strerror or str(error)).lower()


# Folders


@contextmanager
def folder_beside(folder: Path) -> Iterator[Path]:
    """Make a hidden folder beside `folder`, thus on the same disk, and remove it afterwards.

    Raises
    ------
    AudioFileError : if the hidden folder cannot be made; the sentence names `folder`.
    """
    room = hidden_beside(folder.absolute())
    try:
        room.mkdir()
    except OSError as error:
        raise AudioFileError(f"cannot write {folder}: {reason_of(error)}; choose another folder") from error
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder if it does not exist."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise AudioFileError(f"cannot make the folder {folder}: {reason_of(error)}; choose another") from error
