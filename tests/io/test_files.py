"""Files are written whole or not at all, and never replaced unasked."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from kit_io import SR, as_user, assert_one_sentence, files_in, put, tone

from smalti.errors import AudioFileError
from smalti.io import files
from smalti.io.files import check_writable, folder_beside, same_file, write_atomic


def test_a_new_file_has_the_permissions_of_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a.json", b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert files_in(tmp_path) == ["a.json"]


def test_overwriting_must_be_requested_and_keeps_permissions(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    path.chmod(0o604)
    for refuse in (lambda: check_writable(path, overwrite=False), lambda: write_atomic(path, b"new")):
        with pytest.raises(AudioFileError, match=r"already exists; add --overwrite") as error:
            refuse()
        assert_one_sentence(error, path)
    assert path.read_bytes() == b"old"
    check_writable(path, overwrite=True)
    write_atomic(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert files_in(tmp_path) == ["a.json"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real.json"
    if exists:
        real.write_bytes(b"old")
    link = tmp_path / "link.json"
    link.symlink_to(real)
    write_atomic(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert files_in(real.parent) == ["real.json"]


def test_impossible_destinations_are_refused(tmp_path):
    pipe, circle, dangling = tmp_path / "pipe", tmp_path / "circle", tmp_path / "dangling"
    os.mkfifo(pipe)
    circle.symlink_to(circle)
    dangling.symlink_to(tmp_path / "no" / "a.wav")
    file = put(tmp_path / "a.wav", tone(9, SR))
    before = files_in(tmp_path)
    for path, match in [
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "a.wav", "there is no folder .*no; create it"),
        (dangling, "there is no folder"),
        (file / "b.wav", "a.wav is not a folder"),
        (Path("/dev/null"), "device or a pipe"),
        (pipe, "device or a pipe"),
        (circle, "symbolic links"),
        (tmp_path / ("x" * 300), "name too long"),
    ]:
        for refuse in (check_writable, lambda p, overwrite: write_atomic(p, b"new", overwrite=overwrite)):
            with pytest.raises(AudioFileError, match=match) as error:
                refuse(path, overwrite=True)
            assert_one_sentence(error, path)
    assert files_in(tmp_path) == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


def test_a_write_protected_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(AudioFileError, match=r"write-protected; choose another folder") as error:
        check_writable(tmp_path / "a.wav", overwrite=False)
    assert_one_sentence(error, tmp_path / "a.wav")


@as_user
def test_real_write_protection_is_respected(tmp_path):
    path = put(tmp_path / "a.wav", tone(9, SR))
    path.chmod(0o444)
    with pytest.raises(AudioFileError, match=r"a\.wav: it is write-protected"):
        check_writable(path, overwrite=True)
    tmp_path.chmod(0o555)
    with pytest.raises(AudioFileError, match="write-protected; choose another folder"):
        write_atomic(tmp_path / "b.wav", b"new")
    tmp_path.chmod(0o755)


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_during_writing_leaves_no_trace(tmp_path, monkeypatch, failure, exists):
    path = tmp_path / "a.json"
    if exists:
        path.write_bytes(b"old")

    def fail(_):
        assert len(files_in(tmp_path)) == 1 + exists, "the hidden file exists by now"
        raise failure

    monkeypatch.setattr(files.os, "fsync", fail)
    expected = AudioFileError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as error:
        write_atomic(path, b"new", overwrite=True)
    if expected is AudioFileError:
        assert "no space left on device; free some space" in str(error.value)
        assert_one_sentence(error, path)
    assert files_in(tmp_path) == ["a.json"] * exists
    assert not exists or path.read_bytes() == b"old"


def test_a_name_taken_in_the_meantime_is_respected(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    monkeypatch.setattr(files.os, "fsync", lambda _: path.write_bytes(b"theirs"))
    with pytest.raises(AudioFileError, match="already exists"):
        write_atomic(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert files_in(tmp_path) == ["a.json"]


TOO_LARGE = """
import resource, sys
import numpy as np
from smalti.io.sound_write import write_audio
from smalti.errors import AudioFileError
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_audio(sys.argv[1], np.zeros(50_000, np.float32), 22050, overwrite=True)
except AudioFileError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = put(tmp_path / "a.wav", tone(9, SR))
    before = path.read_bytes()
    run = subprocess.run([sys.executable, "-c", TOO_LARGE, path], capture_output=True, text=True, check=True)
    assert run.stdout == f"cannot write {path}: file too large; free some space or choose another folder\n"
    assert path.read_bytes() == before
    assert files_in(tmp_path) == ["a.wav"]


def test_same_file_follows_links(tmp_path, monkeypatch):
    a = put(tmp_path / "a.wav", tone(9, SR))
    b = put(tmp_path / "b.wav", tone(9, SR))
    link, hard = tmp_path / "link.wav", tmp_path / "hard.wav"
    link.symlink_to(a)
    hard.hardlink_to(a)
    monkeypatch.chdir(tmp_path)
    assert same_file(a, link)
    assert same_file(a, hard)
    assert same_file("a.wav", a)
    assert same_file("new.wav", tmp_path / "new.wav")
    assert not same_file(a, b)
    assert not same_file(a, tmp_path / "new.wav")


def test_a_hidden_folder_is_beside_its_folder_and_goes_again(tmp_path):
    def stop_halfway():
        with folder_beside(tmp_path / "results") as room:
            assert (room.parent, room.name[0]) == (tmp_path, ".")
            (room / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert files_in(tmp_path) == []


def test_a_hidden_folder_that_cannot_be_made_names_its_folder(tmp_path):
    folder = tmp_path / "missing" / "results"
    with pytest.raises(AudioFileError) as error, folder_beside(folder):
        pass
    # Whatever is to be in the folder, and whatever the system calls the reason.
    assert str(error.value).startswith(f"cannot write {folder}: ")
    assert_one_sentence(error, folder)
