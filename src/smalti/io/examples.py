"""Named recordings to try things on, fetched once from librosa's public example data.

The recordings are not part of the package: a table holds their names, provenance and hashes, and pooch keeps
a checked copy of each in the cache folder. On the command line ``example:trumpet`` stands for such a file.

The environment variable ``SMALTI_EXAMPLES_URL`` names a mirror of the recordings, and ``SMALTI_EXAMPLES_DIR`` another
cache folder.
"""

import difflib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol
from urllib.parse import quote, urlsplit

from smalti.errors import AudioFileError, ExampleError
from smalti.io.files import file_sha256

__all__ = ["EXAMPLES", "DownloadProgress", "Example", "example_name", "fetch_example", "is_cached"]

PREFIX = "example:"
BASE_URL = "https://librosa.org/data/audio/"
URL_VARIABLE = "SMALTI_EXAMPLES_URL"
DIR_VARIABLE = "SMALTI_EXAMPLES_DIR"

# Seconds allowed for connecting, and between two pieces of the file: slow lines get their time, dead ones are given up.
TIMEOUT_S = (10.0, 30.0)
# Bytes between two steps of the progress bar.
PIECE = 16384


@dataclass(frozen=True)
class Example:
    """One recording: what it is, whose it is, and how to know that it arrived whole.

    Attributes
    ----------
    name : str. Lower case; it follows ``example:``.
    file : str. Its name on the server and in the cache folder.
    title : str. A few words on the sound.
    author : str. The person or body to credit.
    licence : str. The terms of use.
    seconds : float, > 0. Duration, to a hundredth of a second.
    channels : int, 1 or 2.
    size : int, > 0. Length of the file in bytes.
    sha256 : str. 64 lower-case hexadecimal digits.
    """

    name: str
    file: str
    title: str
    author: str
    licence: str
    seconds: float
    channels: int
    size: int
    sha256: str


class DownloadProgress(Protocol):
    """A progress bar for `fetch_example`, in bytes. Progress bars made for pooch fit."""

    total: int

    def update(self, n: int, /) -> object: ...
    def close(self) -> object: ...


_TABLE = (
    Example(
        name="trumpet",
        file="sorohanro_-_solo-trumpet-06.hq.ogg",
        title="solo trumpet",
        author="Mihai Sorohan",
        licence="CC BY 3.0",
        seconds=5.33,
        channels=2,
        size=66963,
        sha256="beb954ae2c9c16919b5ca6973d6d5196cdcb196b46a3c2a201dd8861e7e324de",
    ),
    Example(
        name="humpback",
        file="glacier-bay-humpback.hq.ogg",
        title="song of a humpback whale",
        author="US National Park Service",
        licence="public domain",
        seconds=64.81,
        channels=1,
        size=434362,
        sha256="c3250ff526898aa5528aeb6b81a49aff58f63400ec2ddb8bcb86caf611d33144",
    ),
    Example(
        name="robin",
        file="456440__inspectorj__bird-whistling-robin-single-13.hq.ogg",
        title="one call of a robin",
        author="InspectorJ",
        licence="CC BY 3.0",
        seconds=2.70,
        channels=2,
        size=40887,
        sha256="a3b3ecf749befde43bdf35f839fdcb8d399a4deb5666de6f399c35ce12936baa",
    ),
    Example(
        name="vibe-ace",
        file="Kevin_MacLeod_-_Vibe_Ace.hq.ogg",
        title="Vibe Ace, a jazz combo",
        author="Kevin MacLeod",
        licence="CC BY 3.0",
        seconds=61.46,
        channels=2,
        size=1452719,
        sha256="73d6443ef90a7c022f164e5aa90e56c2291585930b39b1656d0765abbc1f1779",
    ),
    Example(
        name="hungarian-dance",
        file="Hungarian_Dance_number_5_-_Allegro_in_F_sharp_minor_(string_orchestra).hq.ogg",
        title="Hungarian Dance number 5, string orchestra",
        author="US Army Strings",
        licence="public domain",
        seconds=45.84,
        channels=2,
        size=595654,
        sha256="8e93ff0182a93168b15346c497b164cb49d2a97bf1e987a1149ea579e914532e",
    ),
    Example(
        name="speech",
        file="5703-47212-0000.hq.ogg",
        title="a voice reading, at 16 kHz",
        author="LibriSpeech",
        licence="CC BY 4.0",
        seconds=14.84,
        channels=1,
        size=74634,
        sha256="f09254a0daf4b14b292868d46dc2e3c8e158d19fafff739ad4c3931e2ce7b1b0",
    ),
)

EXAMPLES: Mapping[str, Example] = MappingProxyType({example.name: example for example in _TABLE})
"""The recordings by name, in the order in which they are listed."""


def example_name(text: str) -> str | None:
    """Return the name of the example in `text`: ``"trumpet"`` for ``"example:trumpet"``, None for any other text.

    The name is not looked up here; `fetch_example` refuses an unknown one. A file that is really called
    ``example:trumpet`` is still reached as ``./example:trumpet``.
    """
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


def is_cached(name: str) -> bool:
    """Say whether `fetch_example` would return this recording without the network.

    A file in the cache folder that does not have the recording's hash does not count.

    Raises
    ------
    ValueError : if there is no example of that name.
    """
    example = _find_example(name)
    return _is_whole(_cache_folder() / example.file, example)


def fetch_example(name: str, *, progress: DownloadProgress | None = None) -> Path:
    """Return the path of an example recording, fetching it first if the cache folder lacks it.

    The file is fetched beside its place and moved there once its hash is right; a transfer that fails or is
    interrupted leaves nothing behind. A damaged copy is fetched again.

    Parameters
    ----------
    name : str. One of the keys of `EXAMPLES`.
    progress : object with ``total``, ``update(n)`` and ``close()``, or None for silence. ``total`` is set to
        the bytes of the recording, ``update`` is called with the length of every piece received, and
        ``close`` at the end, however the transfer ends. Nothing is called when nothing is fetched.

    Returns
    -------
    Absolute path of the recording in the cache folder.

    Raises
    ------
    ValueError : if there is no example of that name.
    ExampleError : if the recording cannot be fetched, is not the right one, or cannot be kept; or if
        ``SMALTI_EXAMPLES_URL`` is not the address of a folder on the web.
    """
    example = _find_example(name)
    path = _cache_folder() / example.file
    if not _is_whole(path, example):
        _download(_base_url() + quote(example.file), path, example, progress)
    return path


def _find_example(name: str) -> Example:
    if name in EXAMPLES:
        return EXAMPLES[name]
    close = difflib.get_close_matches(name.lower(), EXAMPLES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"there is no example {name!r}, only {', '.join(EXAMPLES)}{hint}")


def _cache_folder() -> Path:
    folder = os.environ.get(DIR_VARIABLE)
    if not folder:
        import pooch

        folder = pooch.os_cache("smalti")
    return Path(folder).expanduser().absolute()


def _base_url() -> str:
    url = os.environ.get(URL_VARIABLE, "").strip() or BASE_URL
    try:
        parts = urlsplit(url)
        # Reading the port is what makes urlsplit check it.
        is_folder = bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment)
    except ValueError:
        is_folder = False
    if not is_folder or parts.scheme not in ("http", "https"):
        raise ExampleError(
            f"{URL_VARIABLE} is {url!r}, which is not the http:// or https:// address of a folder; "
            f"give one like {BASE_URL} or unset it"
        )
    return url.rstrip("/") + "/"


def _is_whole(path: Path, example: Example) -> bool:
    try:
        return file_sha256(path) == example.sha256
    except AudioFileError:
        return False


def _download(url: str, path: Path, example: Example, progress: DownloadProgress | None) -> None:
    # Imported here because listing the examples and using cached ones need neither package.
    import pooch
    import requests

    def transfer_and_check(url: str, file: str, _: object) -> None:
        _transfer(url, Path(file), example.size, progress)
        # pooch checks too, but its message names neither the address nor a remedy.
        sha256 = file_sha256(file)
        if sha256 != example.sha256:
            raise ExampleError(
                f"what {url} sent is not the recording (sha256 {sha256}, expected {example.sha256}); "
                f"nothing was kept, try again or set {URL_VARIABLE} to a mirror"
            )
        # pooch's temporary files are private to their owner, but a cache folder may serve a whole class.
        Path(file).chmod(0o644)

    try:
        with _quiet_pooch():
            pooch.retrieve(url, example.sha256, path.name, path.parent, downloader=transfer_and_check)
    # requests' exceptions are OSErrors too, so they come first. requests refuses some addresses with a ValueError.
    except (requests.RequestException, ValueError) as error:
        raise ExampleError(
            f"cannot fetch {PREFIX}{example.name} from {url}: {_reason(error)}; "
            f"check the network, or set {URL_VARIABLE} to a mirror"
        ) from error
    except (OSError, AudioFileError) as error:
        raise ExampleError(
            f"cannot keep {PREFIX}{example.name} in {path.parent}: {_reason(error)}; "
            f"set {DIR_VARIABLE} to a folder that can be written"
        ) from error


def _transfer(url: str, file: Path, size: int, progress: DownloadProgress | None) -> None:
    """Write what `url` sends into `file`.

    pooch's own downloader leaves the connection open when the server refuses, counts the last piece as a full
    one, and does not close the bar of a transfer that fails.
    """
    import requests

    if progress is not None:
        progress.total = size
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_S) as answer, file.open("wb") as received:
            answer.raise_for_status()
            for piece in answer.iter_content(PIECE):
                received.write(piece)
                if progress is not None:
                    progress.update(len(piece))
    finally:
        if progress is not None:
            progress.close()


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Keep pooch from logging its downloads on stderr.

    A filter is safer than the logger's level: two fetches at a time would restore each other's level.
    """
    import pooch

    def is_serious(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO

    logger = pooch.get_logger()
    logger.addFilter(is_serious)
    try:
        yield
    finally:
        logger.removeFilter(is_serious)


def _reason(error: BaseException) -> str:
    """Describe an error in a few words; requests' own texts nest three errors and memory addresses."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason or ''}".rstrip()
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke before the whole file had come"
    # `__context__` would lead to an unrelated error that the caller was handling.
    inner = error.__cause__ or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    if inner is not None:
        return _reason(inner)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
