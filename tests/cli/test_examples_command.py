"""``smalti examples`` and example:NAME, and ``smalti presets``."""

import hashlib
import json
import threading
from dataclasses import asdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import soundfile
from kit import N, contents, put, refused, settings_of, tone

from smalti.cli import terminal
from smalti.cli.options import setting_from
from smalti.io import examples
from smalti.io.examples import Example
from smalti.presets import PRESETS
from smalti.settings import Settings


@pytest.fixture
def example(tmp_path_factory, monkeypatch):
    """An example that a local server offers; the path of its file."""
    served = tmp_path_factory.mktemp("served")
    put(served / "bell.wav", tone(hz=300))
    content = (served / "bell.wav").read_bytes()
    bell = Example(
        "bell", "bell.wav", "a bell", "nobody", "CC0", 0.4, 1, len(content), hashlib.sha256(content).hexdigest()
    )
    for module in (examples, terminal):
        monkeypatch.setattr(module, "EXAMPLES", {"bell": bell})
    monkeypatch.setenv("SMALTI_EXAMPLES_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=served)) as server:
        monkeypatch.setenv("SMALTI_EXAMPLES_URL", f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served / "bell.wav"
        server.shutdown()
        thread.join()


def test_an_example_stands_for_a_file(example, make):
    result = make(target="example:bell", source=["source.wav", "example:bell"])
    assert result.code == 0
    # The author has to be named each time an example is used.
    assert result.err.splitlines()[:2] == ["example:bell: a bell by nobody, CC0"] * 2
    assert soundfile.info("out.wav").frames == N
    result = make("-q", "--overwrite", source="example:bell")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_an_example_that_cannot_be_fetched_is_refused(example, make, monkeypatch, tmp_path):
    assert refused(make(target="example:nope"), 2, "there is no example 'nope', only bell")
    example.unlink()
    assert refused(make(target="example:bell"), 1, "cannot fetch example:bell from http.*404")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SMALTI_EXAMPLES_DIR", str(tmp_path / "file" / "cache"))
    assert make(target="example:bell").code == 1


def test_lists_name_everything_on_lines_of_their_own(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    listed = run("examples")
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == [
        f"example:{name}" for name in examples.EXAMPLES
    ]
    listed = run("presets")
    for line, (name, settings) in zip(listed.out.splitlines()[1:], PRESETS.items(), strict=True):
        assert line.startswith(name)
        assert settings.summary in line
    assert listed.code == 0


@pytest.mark.parametrize("option", ["--colour", "--color"])
def test_colour_and_attacks_reach_the_mosaic_in_either_spelling(make, option):
    settings = settings_of(make(option, "12.5", "--attacks", "40", "--json"))
    assert (settings["colour"], settings["attacks"]) == (12.5, 40)
    settings = settings_of(make(option, "0", "--attacks", "0", "--json", "--overwrite"))
    assert (settings["colour"], settings["attacks"]) == (0, 0)


@pytest.mark.parametrize("option", ["--colour", "--color", "--attacks"])
@pytest.mark.parametrize("value", ["-1", "100.1", "blue", "nan"])
def test_colour_and_attacks_are_per_cents(folder, make, option, value):
    before = contents(folder)
    refused(make(f"{option}={value}"), 2, f".*{option}.*; try 'smalti make --help'")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("candidates=8", 8),
        ("masking_db=4.5", 4.5),
        ("quietest_db=60", 60),
        ("fade_s=1e-3", 0.001),
        ("remove_offset=false", False),
        ("unit_norm=true", True),
        ("compare=bands", "bands"),
        ("choose=frames", "frames"),
        ("choose=none", None),
        ("sr=none", None),
        ("loudness=-20", -20),
        ("loudness=as-is", "as-is"),
        ("aim=geometric", "geometric"),
    ],
)
def test_any_setting_can_be_set(make, text, value):
    name = text.partition("=")[0]
    assert settings_of(make("--set", text, "--json"))[name] == value


def test_settings_are_set_one_after_another_and_after_the_options(make):
    settings = settings_of(
        make(
            *("--layers", "3", "--set", "refine=1", "--set", "layers=5", "--set", "choose=none"),
            *("--set", "refine=2", "--set", "layers=none", "--json"),
        )
    )
    assert (settings["refine"], settings["layers"], settings["choose"]) == (2, None, None)
    unset = settings_of(make("--json", "--overwrite"))
    assert {name for name in settings if settings[name] != unset[name]} == {"refine", "layers", "choose"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("candidates", "--set is 'candidates'; pass NAME=VALUE, where NAME is one of method, window_s, .*candidates"),
        ("", "--set is ''; pass NAME=VALUE"),
        ("=3", "--set is '=3'; pass NAME=VALUE"),
        ("candidate=3", "--set is 'candidate=3'; pass NAME=VALUE"),
        ("summary=mine", "--set is 'summary=mine'; pass NAME=VALUE"),
        (" candidates=3", "--set is ' candidates=3'; pass NAME=VALUE"),
        ("candidates=", "candidates is ''; pass a whole number of at least 1"),
        ("candidates=2.5", "candidates is 2.5; pass a whole number of at least 1"),
        ("candidates=0", "candidates is 0; pass a whole number of at least 1"),
        ("candidates=none", "candidates is None; pass a whole number of at least 1"),
        ("masking_db=loud", "masking_db is 'loud'; pass a number of at least 0"),
        ("masking_db=nan", "masking_db is nan; pass a number of at least 0"),
        ("masking_db=true", "masking_db is 'true'; pass a number of at least 0"),
        ("quietest_db=-1", "quietest_db is -1; pass a number of at least 0"),
        ("start_spread=2", "start_spread is 2; pass a number from 0 to 1"),
        ("remove_offset=yes", "--set is 'remove_offset=yes'; pass remove_offset=true or remove_offset=false"),
        ("unit_norm=1", "--set is 'unit_norm=1'; pass unit_norm=true or unit_norm=false"),
        ("remove_offset=none", "remove_offset is None; pass True or False"),
        ("compare=pixels", "compare is 'pixels'; pass one of bins, bands, views"),
        ("compare=3", "compare is 3; pass one of bins, bands, views"),
        ("choose=grains=frames", "choose is 'grains=frames'; pass one of grains, frames"),
        ("layers=none", "choose is 'grains' but --layers is None; pass how many to choose"),
        ("hop_s=0.9", "hop_s is 0.9, more than half of window_s"),
        ("colour=101", "--colour is 101; pass a number from 0 to 100"),
    ],
)
def test_bad_settings_are_refused(folder, make, text, sentence):
    before = contents(folder)
    refused(make("--set", text), 2, sentence)
    assert contents(folder) == before


def test_a_setting_that_a_preset_does_not_use_cannot_be_set(make):
    refused(make("--preset", "sparse", "--set", "iterations=5"), 2, "iterations means nothing to the preset")
    assert settings_of(make("--preset", "sparse", "--set", "layers=2", "--json"))["layers"] == 2


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_shows_all_its_settings_as_they_can_be_set(run, name):
    shown = run("presets", name)
    assert (shown.code, shown.err) == (0, "")
    title, _, *lines = shown.out.splitlines()
    assert title == f"{name}: {PRESETS[name].summary}"
    rows = {setting: (text, meaning) for setting, text, meaning in (line.split(maxsplit=2) for line in lines)}
    # --set takes every shown value, which is the preset's to four digits.
    assert ["summary", *rows] == list(asdict(PRESETS[name]))
    for setting, (text, meaning) in rows.items():
        assert len(meaning.split()) > 1
        value = getattr(PRESETS[name], setting)
        if isinstance(value, float):
            value = pytest.approx(value, rel=1e-3)
        assert setting_from(f"{setting}={text.strip()}") == (setting, value)


def test_presets_in_json_are_the_settings_themselves(run):
    shown = run("presets", "--json")
    assert (shown.code, shown.err) == (0, "")
    assert {name: Settings(**values) for name, values in json.loads(shown.out).items()} == dict(PRESETS)
    percussive = json.loads(run("presets", "percussive", "--json").out)
    assert {name: Settings(**values) for name, values in percussive.items()} == {"percussive": PRESETS["percussive"]}


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_unknown_preset_is_refused(run, options):
    refused(run("presets", "clasic", *options), 2, "'clasic'; pass one of classic, balanced")
