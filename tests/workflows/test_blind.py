"""Blind comparisons: only the sound may distinguish mosaics, and the page works as described.

The page is tested in a real browser, Debian's chromium, if that and playwright are installed.
"""

import json
import math
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from threadpoolctl import threadpool_limits

from helpers import revealed
from smalti.dsp.loudness import integrated_loudness, true_peak
from smalti.errors import AudioFileError
from smalti.metrics.blind_test import LETTERS, draw_rounds
from smalti.workflows.blind import (
    BlindRequest,
    check_folder,
    hidden,
    key_of,
    page_of,
    read_blind_test,
    sounds_of,
    write_listening,
)
from smalti.workflows.inputs import Excerpt

SR = 8000
SECONDS = 6
N = SECONDS * SR
MOSAICS = ("crisp.wav", "gentle.wav", "hoarse.wav")


@pytest.fixture(autouse=True)
def one_thread():
    """Test workers that each ask for every core wait for one another."""
    with threadpool_limits(1):
        yield


def tone(hz, seconds=SECONDS, sr=SR):
    """A tone that comes and goes."""
    t = np.arange(round(seconds * sr)) / sr
    return (0.4 * np.sin(2 * np.pi * hz * t) * (1.2 + np.sin(2 * np.pi * t / 1.7))).astype(np.float32)


def put(path, samples, sr=SR, subtype="FLOAT"):
    soundfile.write(path, samples.T, sr, subtype=subtype)
    return path


@pytest.fixture
def files(tmp_path, monkeypatch, rng):
    """A target, a source, and three mosaics that differ in everything that files can give away."""
    monkeypatch.chdir(tmp_path)
    put("target.wav", tone(440))
    put("source.wav", 0.1 * rng.standard_normal(2 * N))
    put("crisp.wav", 0.01 * tone(445), subtype="PCM_16")
    put("gentle.wav", np.stack([tone(330, 5.7, 11025), 0.3 * tone(331, 5.7, 11025)]), 11025)
    put("hoarse.wav", np.sign(tone(220, 6.2)) * 0.9)
    return tmp_path


def inputs_of(*mosaics, **excerpt):
    names = mosaics or MOSAICS
    return read_blind_test(
        BlindRequest("target.wav", ("source.wav",), names, Excerpt(**excerpt), folder=Path("compare"))
    )


def drawn_of(inputs, **options):
    sounds, sr = sounds_of(inputs)
    return draw_rounds(sounds, sr, **options)


def write(folder="compare", *mosaics, rounds=4, length_s=2.0, seed=0, overwrite=False):
    inputs = inputs_of(*mosaics)
    drawn = drawn_of(inputs, rounds=rounds, length_s=length_s, rng=seed)
    write_listening(Path(folder), drawn, SR, key_of(inputs, drawn, seed=seed), overwrite=overwrite)
    return Path(folder)


# What is heard


def test_all_sounds_are_equally_loud_long_and_alike(files):
    sounds = sorted((write() / "sounds").iterdir())
    assert [sound.name for sound in sounds] == [
        f"{number:02d}-{name}.wav" for number in range(1, 5) for name in ("a", "b", "c", "source", "target")
    ]
    assert len({sound.stat().st_size for sound in sounds}) == 1
    kinds = {(info.frames, info.samplerate, info.channels, info.subtype) for info in map(soundfile.info, sounds)}
    assert kinds == {(2 * SR, SR, 2, "PCM_16")}
    levels = [integrated_loudness(soundfile.read(sound)[0].T, SR) for sound in sounds]
    assert max(levels) - min(levels) < 0.5
    # -1 dB of full scale, to a code of 16 bits.
    assert all(true_peak(soundfile.read(sound)[0].T, SR) < 10 ** (-1 / 20) for sound in sounds)


def test_each_letter_plays_the_stretch_of_the_mosaic_that_the_key_names(files):
    inputs = inputs_of()
    drawn = drawn_of(inputs, rounds=5, length_s=1.0, rng=3)
    pitches = {0: 445, 1: 330, 2: 220}
    for round_ in drawn:
        start = round(round_.start_s * SR)
        # Without the fades.
        clip = round_.sounds["target"][0][80:-80]
        stretch = tone(440)[start + 80 : start + SR - 80]
        assert np.dot(clip, stretch) > 0.999 * np.linalg.norm(clip) * np.linalg.norm(stretch)
        for letter, mosaic in zip("abc", round_.order, strict=True):
            spectrum = np.abs(np.fft.rfft(round_.sounds[letter][0]))
            assert np.argmax(spectrum) == pytest.approx(pitches[mosaic], abs=2)


def test_an_excerpt_of_the_target_is_compared_with_mosaics_of_that_excerpt(files):
    put("short.wav", tone(450, 1.5))
    inputs = inputs_of("short.wav", "crisp.wav", start_s=1, end_s=2.5)
    drawn = drawn_of(inputs)
    assert len(drawn) == 8
    assert {(round_.start_s, round_.end_s) for round_ in drawn} == {(0.0, 1.5)}
    # The other mosaic is of the whole target.
    (warning,) = inputs.warnings
    assert warning.startswith("crisp.wav lasts 6.0 s and the target 1.5 s")


# The key


def test_the_page_holds_the_key_and_does_not_show_it(files):
    inputs = inputs_of()
    drawn = drawn_of(inputs, rounds=4, rng=9)
    key = key_of(inputs, drawn, seed=9)
    page = page_of(key)
    for name in ("crisp", "gentle", "hoarse", *(mosaic.sha256 for mosaic in inputs.mosaics)):
        assert name not in page
    (text,) = re.findall(r'<script type="text/plain" id="key">([\w+/=]+)</script>', page)
    assert revealed(text) == key
    assert [mosaic["path"] for mosaic in key["mosaics"]] == list(MOSAICS)
    assert [entry["order"] for entry in key["rounds"]] == [list(round_.order) for round_ in drawn]


def test_any_name_can_be_hidden():
    for name in ("Bärenlied </script>", "\udcff", "ア"):
        assert revealed(hidden({"path": name})) == {"path": name}
        assert re.fullmatch(r"[\w+/=]+", hidden({"path": name}), re.ASCII)


# Refusals


@pytest.mark.parametrize(
    ("mosaics", "fault", "sentence"),
    [
        (["crisp.wav"], ValueError, "one mosaic cannot be compared by ear; name 2 to 8"),
        (["crisp.wav"] * 9, ValueError, "9 mosaics cannot be compared by ear; name 2 to 8"),
        (["crisp.wav", "./crisp.wav"], ValueError, "crisp.wav is named twice"),
        (["crisp.wav", "nope.wav"], AudioFileError, "cannot read nope.wav: there is no such file"),
        (["crisp.wav", "silent.wav"], AudioFileError, "cannot compare silent.wav: it is silent"),
    ],
)
def test_mosaics_that_cannot_be_compared_are_refused(files, mosaics, fault, sentence):
    put("silent.wav", np.zeros(N))
    with pytest.raises(fault, match=re.escape(sentence)):
        inputs_of(*mosaics)


def test_a_mosaic_that_begins_after_the_target_s_end_is_refused(files):
    put("late.wav", np.concatenate([np.zeros(N), tone(300)]))
    with pytest.raises(AudioFileError, match=r"cannot compare late\.wav: it is silent for as long as"):
        sounds_of(inputs_of("late.wav", "crisp.wav"))


def test_equal_mosaics_are_warned_of(files):
    shutil.copy("crisp.wav", "copy.wav")
    assert inputs_of("crisp.wav", "copy.wav").warnings == (
        "crisp.wav and copy.wav are the same sound: there is no difference to hear",
    )


# The folder


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def write_short(folder="compare", *, rounds=2, **options):
    """Write a comparison as short as possible, for tests of its folder."""
    return write(folder, rounds=rounds, length_s=0.5, **options)


def test_nothing_is_overwritten_unasked_and_the_same_seed_writes_the_same(files):
    write_short()
    before = contents(files)
    with pytest.raises(AudioFileError, match="cannot write compare: it already exists; add --overwrite"):
        write_short(seed=1)
    assert contents(files) == before
    write_short(overwrite=True)
    assert contents(files) == before
    write_short(overwrite=True, seed=1, rounds=1)
    assert len(list((files / "compare" / "sounds").iterdir())) == 5
    assert not list(files.glob(".*"))


def test_a_folder_of_other_things_is_never_replaced(files):
    folder = write_short()
    put(folder / "sounds" / "take.flac", tone(300), subtype="PCM_16")
    (files / "notes").mkdir()
    (files / "notes" / "listen.html").touch()
    before = contents(files)
    for name in ("compare", "notes", "target.wav"):
        with pytest.raises(AudioFileError, match="holds something else than a blind comparison"):
            check_folder(Path(name), [], overwrite=True)
    assert contents(files) == before


def test_an_input_is_never_replaced(files):
    folder = write_short()
    with pytest.raises(ValueError, match="lies in compare, which would be overwritten"):
        check_folder(Path("compare"), [folder / "sounds" / "01-a.wav"], overwrite=True)


def test_a_folder_in_a_missing_folder_is_refused(files):
    with pytest.raises(AudioFileError, match="there is no folder"):
        check_folder(Path("nowhere/compare"), [], overwrite=False)


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_half_written_and_keeps_the_old_folder(files, monkeypatch, stop):
    write_short()
    before = contents(files)

    def fail(*_):
        raise stop

    monkeypatch.setattr("smalti.workflows.blind.page_of", fail)
    for folder in ("compare", "new"):
        with pytest.raises((AudioFileError, KeyboardInterrupt)) as failed:
            write_short(folder, overwrite=True)
        if isinstance(stop, OSError):
            assert str(failed.value) == f"cannot write {folder}: no space left on device; choose another folder"
    assert contents(files) == before


def test_a_failing_rename_brings_the_old_folder_back(files, monkeypatch):
    write_short()
    before, replace = contents(files), Path.replace

    def fail(path, target):
        if Path(target).name == "compare" and path.name == "new":
            raise OSError(5, "Input/output error")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(AudioFileError, match="cannot write compare: input/output error; choose another folder"):
        write_short(overwrite=True, seed=1)
    assert contents(files) == before


# The page, in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
MISSING = [name for name, there in (("chromium", CHROMIUM), ("playwright", find_spec("playwright"))) if not there]
in_a_browser = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}, which is not installed")
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One browser for all tests of the page, with a profile of its own."""
    from playwright.sync_api import sync_playwright

    profile = tmp_path_factory.mktemp("profile")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=SWITCHES, accept_downloads=True
        )
        yield browser
        browser.close()


@pytest.fixture
def page(files, browser):
    """The page of a comparison of two mosaics. It must load nothing beyond its folder and log no message."""
    folder = write("compare", "crisp.wav", "hoarse.wav", rounds=4, length_s=6.0)
    page = browser.new_page()
    urls, messages = [], []
    page.on("request", lambda request: urls.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto((files / folder / "listen.html").as_uri())
    yield page
    page.close()
    assert messages == []
    assert len(urls) > 1
    assert {url.partition(":")[0] for url in urls} <= {"file", "blob"}


def begin(page):
    page.get_by_role("button", name="Begin").click()
    page.wait_for_function("[...sounds.values()].every((sound) => sound.readyState === 4)")


def heard(page):
    """The audible sound, its place, and whether it runs; all others must be hushed."""
    return page.evaluate(
        """() => {
            const open = [...sounds].filter(([, sound]) => !sound.muted && sound.volume > 1e-4);
            if (open.length !== 1) throw new Error(`${open.length} sounds are heard`);
            const [voice, sound] = open[0];
            return [voice, sound.currentTime, !sound.paused];
        }"""
    )


@in_a_browser
def test_switching_continues_at_the_same_place(page):
    begin(page)
    assert heard(page) == ["target", 0, False]
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("place() > 0.3")
    player = page.get_by_role("group", name="Player")
    for name in ("A", "B", "Source", "Target", "B"):
        # One call reads the place before and after, so that only the switch lies between.
        before, after, wall = player.get_by_role("button", name=name, exact=True).evaluate(
            """(button) => {
                const [from, begun] = [place(), performance.now()];
                button.click();
                return [from, place(), (performance.now() - begun) / 1000];
            }"""
        )
        assert before > 0.3
        # Sounds within 30 ms of each other are not moved.
        assert abs(after - before) < 0.05 + wall
        voice, _, running = heard(page)
        assert (voice, running) == (name.lower(), True)
        assert player.get_by_role("button", name=name, exact=True).get_attribute("aria-pressed") == "true"
    page.wait_for_function("place() > 0.5")
    apart = page.evaluate(
        "(() => { const t = [...sounds.values()].map((s) => s.currentTime); "
        "return Math.max(...t) - Math.min(...t); })()"
    )
    assert apart < 0.3
    # A sound chosen during a pause begins at the place of the pause.
    page.get_by_role("button", name="Pause").click()
    paused_at = heard(page)[1]
    assert paused_at > 0
    page.evaluate("hear('a')")
    assert heard(page)[0] == "a"
    assert heard(page)[1] >= paused_at - 0.05


@in_a_browser
def test_everything_can_be_done_by_keyboard(page):
    begin(page)
    page.keyboard.press("b")
    assert heard(page)[0::2] == ["b", True]
    page.keyboard.press("Space")
    assert heard(page)[0::2] == ["b", False]
    for key, voice in (("t", "target"), ("S", "source"), ("a", "a")):
        page.keyboard.press(key)
        assert heard(page)[0::2] == [voice, True]
    page.keyboard.press("Space")
    page.evaluate("seek(2)")
    page.keyboard.press("ArrowRight")
    assert heard(page)[1] == pytest.approx(3, abs=0.01)
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    assert heard(page)[1] == 0
    # A click leaves the space bar to the player; the Tab key hands it to the focused control.
    page.locator("#keep").get_by_role("button", name="B").click()
    page.keyboard.press("Space")
    assert heard(page)[2]
    page.keyboard.press("Space")
    assert page.evaluate("answers[0]") == {"keep": "b"}
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.evaluate("answers[0]") == {"keep": "none"}
    assert not heard(page)[2]
    page.locator("#follows button").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("answers[0]") == {"keep": "none", "follows": "a"}


@in_a_browser
def test_a_complete_comparison_reveals_what_was_chosen(page):
    key = revealed(page.locator("#key").text_content())
    begin(page)
    # The answers: hoarse.wav follows better in all rounds but one, neither sounds more like the source, and A is kept.
    for i, entry in enumerate(key["rounds"]):
        letter = LETTERS[entry["order"].index(1 if i != 2 else 0)]
        assert page.get_by_role("heading", level=1).inner_text() == f"Round {i + 1} of 4"
        assert "hoarse" not in page.inner_text("body")
        page.locator("#follows").get_by_role("button", name=letter, exact=True).click()
        page.locator("#sounds").get_by_role("button", name="No difference").click()
        if i == 0:
            # The page asks for a missing answer.
            page.locator("#next").click()
            assert page.locator("#missing").inner_text() == "Still open: Which would you keep?"
        page.locator("#keep").get_by_role("button", name="A", exact=True).click()
        if i == 1:
            page.get_by_role("button", name="Back").click()
            assert page.locator("#sounds [aria-pressed=true]").inner_text() == "No difference"
            page.locator("#next").click()
            assert page.locator("#keep [aria-pressed=true]").inner_text() == "A"
        page.locator("#next").click()
    verdict = page.locator("[data-verdict=follows]").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    # Chance is 2 * (4 + 1) / 16. Even four of four rounds would have 2 / 16, which is too much.
    assert verdict == (
        "hoarse.wav: 3 of 4 rounds: chance alone does as well in 63 % of such tests. "
        "So few can tell nothing for certain: even 4 of 4 would be chance in 13 %."
    )
    assert page.locator("[data-verdict=sounds]").inner_text() == "No difference in any round."
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the answers").click()
    report = json.loads(Path(download.value.path()).read_text())
    assert download.value.suggested_filename == "answers.json"
    assert report["tally"]["follows"] == {
        "mosaics": [{"path": "crisp.wav", "rounds": 1}, {"path": "hoarse.wav", "rounds": 3}],
        "no_difference": 0,
        "chance": pytest.approx(0.625),
    }
    assert report["tally"]["sounds"]["no_difference"] == 4
    kept = [MOSAICS[0::2][entry["order"][0]] for entry in key["rounds"]]
    assert [entry["answers"]["keep"] for entry in report["rounds"]] == kept
    assert [entry["order"] for entry in report["rounds"]] == [entry["order"] for entry in key["rounds"]]
    for n in (1, 8, 10, 25):
        for k in range(math.ceil(n / 2), n + 1):
            assert page.evaluate(f"chance({k}, {n}, 2)") == pytest.approx(sign_test(k, n), abs=1e-12)
    # Three mosaics and three rounds have 27 outcomes: all answers agree in 3, and all differ in 6.
    assert page.evaluate("[3, 2, 1].map((k) => chance(k, 3, 3))") == pytest.approx([3 / 27, 21 / 27, 1])
    assert page.evaluate("percent(chance(8, 10, 2))") == "11\N{NO-BREAK SPACE}%"


def sign_test(k, n):
    """The two-sided sign test: the probability of at least k of n for either side."""
    return min(1.0, sum(2 * math.comb(n, i) for i in range(k, n + 1)) / 2**n)


@in_a_browser
def test_the_page_fits_a_telephone_and_every_control_has_a_name(page):
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    begin(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    names = page.evaluate(
        "[...document.querySelectorAll('button, input')].map((node) => "
        "node.ariaLabel || node.labels?.[0]?.textContent || node.textContent)"
    )
    assert all(name.strip() for name in names)


@in_a_browser
def test_a_sound_that_cannot_be_played_is_named(page):
    begin(page)
    assert page.get_by_role("alert").count() == 0
    page.evaluate("sounds.get('b').dispatchEvent(new Event('error'))")
    assert page.get_by_role("alert").inner_text().startswith("Cannot play sounds/01-b.wav: ")
