"""Example recordings are fetched once, whole or not at all, and every failure is one sentence.

A server in a thread replaces the real one, and made files replace the recordings; nothing uses the network.
"""

import hashlib
import logging
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pooch
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from smalti.errors import ExampleError
from smalti.io import examples
from smalti.io.examples import Example, example_name, fetch_example, is_cached

# Several pieces of a transfer, the last one short.
TONE = bytes(range(256)) * 200 + b"the end"
BELL = b"a small bell"


def _example(name: str, file: str, content: bytes) -> Example:
    sha256 = hashlib.sha256(content).hexdigest()
    return Example(name, file, "a made file", "nobody", "CC0", 1.0, 1, len(content), sha256)


MADE = {
    "tone": _example("tone", "tone.ogg", TONE),
    "bell": _example("bell", "50% of a bell #2 (take 1).ogg", BELL),
}


@dataclass
class Answer:
    body: bytes
    status: int = 200
    announced: int | None = None
    """Content-Length, if it differs from the length of the body."""


@dataclass
class Server:
    url: str
    answers: dict[str, Answer]
    requested: list[str] = field(default_factory=list)
    """Paths of the requests so far, as in the request line."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made table, and an empty cache folder that does not exist yet."""
    folder = tmp_path / "deep" / "cache"
    monkeypatch.setattr(examples, "EXAMPLES", MADE)
    monkeypatch.setenv("SMALTI_EXAMPLES_DIR", str(folder))
    # A proxy set for the machine must not see the requests to this one.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requested.append(self.path)
            answer = state.answers.get(self.path, Answer(b"no such file", 404))
            self.send_response(answer.status)
            self.send_header("Content-Length", str(answer.announced or len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        # The closing slash is missing, since users leave it out.
        state = Server(
            url=f"http://127.0.0.1:{httpd.server_port}/data/audio",
            answers={
                "/data/audio/tone.ogg": Answer(TONE),
                f"/data/audio/{quote(MADE['bell'].file)}": Answer(BELL),
            },
        )
        monkeypatch.setenv("SMALTI_EXAMPLES_URL", state.url)
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A local port that nobody listens on, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def offline(deaf_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"http://127.0.0.1:{deaf_port}/"
    monkeypatch.setenv("SMALTI_EXAMPLES_URL", url)
    return url


class Bar:
    """A progress bar that records its calls."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.steps: list[int] = []
        self.closed = 0

    def update(self, n: int) -> None:
        assert not self.closed
        self.steps.append(n)

    def close(self) -> None:
        self.closed += 1


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _assert_one_sentence(error: ExampleError) -> None:
    text = str(error)
    assert "\n" not in text
    assert " at 0x" not in text
    assert not text.endswith(".")


# The table


def test_the_table_is_well_formed():
    assert list(examples.EXAMPLES) == [
        "trumpet",
        "humpback",
        "robin",
        "vibe-ace",
        "hungarian-dance",
        "speech",
    ]
    for name, example in examples.EXAMPLES.items():
        assert example.name == name
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert re.fullmatch(r"[0-9a-f]{64}", example.sha256)
        assert re.fullmatch(r"[^/\\]+\.hq\.ogg", example.file)
        assert re.fullmatch(r"CC BY [34]\.0|public domain", example.licence)
        assert example.title
        assert example.author
        assert example.channels in (1, 2)
        # Vorbis takes 30 to 250 kbit/s for these recordings; a slip in either column is outside that range.
        assert 30e3 < 8 * example.size / example.seconds < 250e3
    for column in ("file", "sha256", "title", "size"):
        assert len({getattr(example, column) for example in examples.EXAMPLES.values()}) == 6


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        examples.EXAMPLES["mine"] = MADE["tone"]  # type: ignore[index]


def test_listing_loads_neither_pooch_nor_requests():
    code = (
        "import sys; from smalti.io.examples import EXAMPLES, example_name; list(EXAMPLES); "
        "assert example_name('example:robin') == 'robin'; "
        "loaded = {'pooch', 'requests'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Names


@given(st.text())
def test_only_the_prefix_makes_an_example(text: str):
    assert example_name("example:" + text) == text
    assert example_name("./example:" + text) is None
    assert example_name(text) is None or text.startswith("example:")


@pytest.mark.parametrize("look_up", [fetch_example, is_cached])
@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("trumpt", "did you mean 'trumpet'"),
        ("VIBE ACE", "did you mean 'vibe-ace'"),
        ("", None),
        ("xylophone", None),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(look_up, wrong: str, hint: str | None):
    with pytest.raises(ValueError, match=f"no example {wrong!r}") as caught:
        look_up(wrong)
    for name in examples.EXAMPLES:
        assert name in str(caught.value)
    if hint is None:
        assert "did you mean" not in str(caught.value)
    else:
        assert hint in str(caught.value)


# Fetching


def test_an_example_is_fetched_once_and_kept(
    server: Server, cache: Path, deaf_port: int, monkeypatch: pytest.MonkeyPatch
):
    assert not is_cached("tone")
    path = fetch_example("tone")
    assert path == cache / "tone.ogg"
    assert path.read_bytes() == TONE
    assert is_cached("tone")
    assert not is_cached("bell")
    assert fetch_example("tone") == path
    assert server.requested == ["/data/audio/tone.ogg"]
    assert _files(cache) == ["tone.ogg"]

    monkeypatch.setenv("SMALTI_EXAMPLES_URL", f"http://127.0.0.1:{deaf_port}")
    assert fetch_example("tone") == path
    monkeypatch.setenv("SMALTI_EXAMPLES_URL", "not an address, but not needed either")
    assert fetch_example("tone") == path


def test_a_file_name_with_blanks_and_brackets_is_quoted(server: Server, cache: Path):
    path = fetch_example("bell")
    assert path.read_bytes() == BELL
    assert _files(cache) == ["50% of a bell #2 (take 1).ogg"]
    (requested,) = server.requested
    assert re.fullmatch(r"[A-Za-z0-9/._%~-]+", requested)


def test_the_folder_may_end_in_a_slash(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SMALTI_EXAMPLES_URL", server.url + "/")
    fetch_example("tone")
    assert server.requested == ["/data/audio/tone.ogg"]


def test_without_a_mirror_the_request_goes_to_librosa(cache: Path, monkeypatch: pytest.MonkeyPatch):
    urls = []

    def get(url: str, **options: object) -> None:
        urls.append(url)
        raise requests.ConnectionError("not in a test")

    monkeypatch.setattr(requests, "get", get)
    monkeypatch.delenv("SMALTI_EXAMPLES_URL", raising=False)
    with pytest.raises(ExampleError, match="not in a test"):
        fetch_example("tone")
    monkeypatch.setenv("SMALTI_EXAMPLES_URL", "")
    with pytest.raises(ExampleError, match="not in a test"):
        fetch_example("tone")
    assert urls == ["https://librosa.org/data/audio/tone.ogg"] * 2


def test_the_default_cache_folder_is_that_of_the_system(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "system" / project)
    monkeypatch.setenv("SMALTI_EXAMPLES_DIR", "")
    assert fetch_example("tone") == tmp_path / "system" / "smalti" / "tone.ogg"


def test_a_relative_folder_gives_an_absolute_path(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMALTI_EXAMPLES_DIR", "here")
    assert fetch_example("tone") == tmp_path / "here" / "tone.ogg"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no permission bits")
def test_everybody_may_read_a_fetched_recording(server: Server):
    assert fetch_example("tone").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("damage", [b"", TONE[:-1], TONE + b"\0", b"\0" * len(TONE)])
def test_a_damaged_copy_is_fetched_again(server: Server, cache: Path, damage: bytes):
    fetch_example("tone").write_bytes(damage)
    assert not is_cached("tone")
    assert fetch_example("tone").read_bytes() == TONE
    assert is_cached("tone")
    assert len(server.requested) == 2
    assert _files(cache) == ["tone.ogg"]


def test_progress_is_reported(server: Server):
    bar = Bar()
    fetch_example("tone", progress=bar)
    assert bar.total == len(TONE)
    assert sum(bar.steps) == len(TONE)
    assert len(bar.steps) > 1
    assert bar.closed == 1

    untouched = Bar()
    fetch_example("tone", progress=untouched)
    assert (untouched.total, untouched.steps, untouched.closed) == (None, [], 0)


def test_the_progress_bar_of_a_failed_transfer_is_closed(server: Server):
    server.answers["/data/audio/tone.ogg"] = Answer(TONE[:20000], announced=len(TONE))
    bar = Bar()
    with pytest.raises(ExampleError):
        fetch_example("tone", progress=bar)
    assert sum(bar.steps) <= 20000
    assert bar.closed == 1


def test_pooch_is_quiet_and_its_logger_left_as_it_was(server: Server, capfd: pytest.CaptureFixture[str]):
    messages = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = pooch.get_logger()
    before = (logger.level, logger.filters[:], logging.getLogger().level)
    listener = Listener()
    logger.addHandler(listener)
    try:
        fetch_example("tone")
        assert messages == []
        assert capfd.readouterr() == ("", "")
        logger.info("of somebody else")
    finally:
        logger.removeHandler(listener)
    assert messages == ["of somebody else"]
    assert (logger.level, logger.filters[:], logging.getLogger().level) == before


# What can go wrong


def test_an_unreachable_server_is_named(cache: Path, offline: str):
    with pytest.raises(ExampleError, match="cannot fetch example:tone from ") as caught:
        fetch_example("tone")
    assert f"from {offline}tone.ogg: " in str(caught.value)
    assert "; check the network, or set SMALTI_EXAMPLES_URL to a mirror" in str(caught.value)
    _assert_one_sentence(caught.value)
    assert isinstance(caught.value.__cause__, requests.ConnectionError)
    assert _files(cache) == []


def test_the_reason_is_not_an_error_that_the_caller_was_handling(cache: Path, offline: str):
    try:
        raise RuntimeError("older trouble")
    except RuntimeError:
        with pytest.raises(ExampleError, match=r"^(?!.*older trouble)cannot fetch example:tone"):
            fetch_example("tone")


def test_an_impossible_host_name_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch):
    # urllib3 refuses it before the network is asked, with a ValueError that requests lets through.
    monkeypatch.setenv("SMALTI_EXAMPLES_URL", "http://mirror..invalid/")
    with pytest.raises(
        ExampleError, match=r"cannot fetch example:tone from http://mirror\.\.invalid/tone\.ogg"
    ) as caught:
        fetch_example("tone")
    _assert_one_sentence(caught.value)


def test_a_server_that_never_answers_is_given_up(cache: Path, deaf_port: int, monkeypatch: pytest.MonkeyPatch):
    # The system accepts the connection for it, and nothing is ever sent.
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("SMALTI_EXAMPLES_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setattr(examples, "TIMEOUT_S", (10.0, 0.05))
        with pytest.raises(ExampleError, match="did not answer in time; check the network") as caught:
            fetch_example("tone")
    _assert_one_sentence(caught.value)
    assert _files(cache) == []


@pytest.mark.parametrize(("status", "words"), [(404, "Not Found"), (500, "Internal Server Error")])
def test_the_refusal_of_a_server_is_reported(server: Server, cache: Path, status: int, words: str):
    server.answers["/data/audio/tone.ogg"] = Answer(b"<html>sorry</html>", status)
    with pytest.raises(ExampleError, match=f"{server.url}/tone.ogg: the server answered {status} {words};") as caught:
        fetch_example("tone")
    assert isinstance(caught.value.__cause__, requests.HTTPError)
    _assert_one_sentence(caught.value)
    assert _files(cache) == []
    assert server.requested == ["/data/audio/tone.ogg"]


@pytest.mark.parametrize("sent", [BELL, b"", TONE[:-1], TONE[:-1] + b"D"])
def test_a_wrong_file_is_refused(server: Server, cache: Path, sent: bytes):
    server.answers["/data/audio/tone.ogg"] = Answer(sent)
    with pytest.raises(ExampleError, match="nothing was kept") as caught:
        fetch_example("tone")
    assert f"what {server.url}/tone.ogg sent is not the recording" in str(caught.value)
    assert f"sha256 {hashlib.sha256(sent).hexdigest()}, expected {MADE['tone'].sha256}" in str(caught.value)
    _assert_one_sentence(caught.value)
    assert _files(cache) == []
    assert not is_cached("tone")


@pytest.mark.parametrize("n_sent", [0, 100, 20000, len(TONE) - 1])
def test_a_broken_connection_is_reported_and_can_be_retried(server: Server, cache: Path, n_sent: int):
    server.answers["/data/audio/tone.ogg"] = Answer(TONE[:n_sent], announced=len(TONE))
    # Older versions of requests do not notice that data are missing; then the hash is wrong.
    with pytest.raises(ExampleError, match=r"the connection broke|is not the recording") as caught:
        fetch_example("tone")
    _assert_one_sentence(caught.value)
    assert _files(cache) == []
    server.answers["/data/audio/tone.ogg"] = Answer(TONE)
    assert fetch_example("tone").read_bytes() == TONE


def test_a_failed_repair_leaves_no_second_file(server: Server, cache: Path):
    fetch_example("tone").write_bytes(b"damaged")
    server.answers["/data/audio/tone.ogg"] = Answer(TONE[:100], announced=len(TONE))
    with pytest.raises(ExampleError):
        fetch_example("tone")
    assert _files(cache) == ["tone.ogg"]
    assert not is_cached("tone")


def test_an_interrupted_transfer_leaves_nothing(server: Server, cache: Path):
    class Interrupted(Bar):
        def update(self, n: int) -> None:
            super().update(n)
            assert len(_files(cache)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_example("tone", progress=Interrupted())
    assert _files(cache) == []


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_an_unwritable_cache_is_named(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str):
    # Even the superuser cannot make a folder below a file.
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / below
    monkeypatch.setenv("SMALTI_EXAMPLES_DIR", str(folder))
    assert not is_cached("tone")
    with pytest.raises(ExampleError, match="cannot keep example:tone in") as caught:
        fetch_example("tone")
    assert f"in {folder}: " in str(caught.value)
    assert "set SMALTI_EXAMPLES_DIR to a folder that can be written" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    _assert_one_sentence(caught.value)
    assert server.requested == []


def test_a_folder_in_place_of_the_file_is_reported(server: Server, cache: Path):
    (cache / "tone.ogg").mkdir(parents=True)
    with pytest.raises(ExampleError, match="cannot keep example:tone"):
        fetch_example("tone")


@pytest.mark.parametrize(
    "url",
    [
        "librosa.org/data/audio/",
        "ftp://librosa.org/data/audio/",
        "file:///data/audio/",
        "/data/audio",
        "http://",
        "https:///data",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "http://[127/",
        "http://127.0.0.1/data?file=",
        "http://127.0.0.1/data#audio",
    ],
)
def test_a_mirror_that_is_no_address_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("SMALTI_EXAMPLES_URL", url)
    with pytest.raises(ExampleError, match=re.escape(f"SMALTI_EXAMPLES_URL is {url!r}")) as caught:
        fetch_example("tone")
    assert "https://librosa.org/data/audio/" in str(caught.value)
    _assert_one_sentence(caught.value)
    assert not cache.exists()
