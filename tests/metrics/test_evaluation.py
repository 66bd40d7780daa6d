"""All measures of a mosaic together: what each must show and must not notice, their table, and what is refused."""

import functools
import inspect
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit_metrics import HOP_S, SECONDS, noise, sine

from smalti.dsp.stft import StftParams, istft, stft
from smalti.metrics import (
    MEASURES,
    Blueprint,
    artefacts,
    composite_fidelity,
    composite_timbre,
    evaluate,
    evaluation,
    fidelity,
    grains,
    measure,
    reference,
)
from smalti.metrics.features import GRID, RATE
from smalti.metrics.fidelity import correlation
from smalti.metrics.timbre import Scale
from smalti.workflows.demo import demo_source, demo_target


def at_rms_1(y):
    return y / np.sqrt(np.mean(np.square(y, dtype=np.float64)))


@pytest.fixture(scope="module")
def numbers(mosaics, pair):
    return {
        name: measure(made.audio, pair, blueprint=Blueprint.of(made.activations, made.dictionary))
        for name, made in mosaics.items()
    }


def test_the_target_itself_follows_perfectly_and_has_none_of_the_sources_timbre(target, pair):
    numbers = measure(target, pair, blueprint=Blueprint(GRID, RATE))
    assert numbers["FID"] == pytest.approx(1, abs=1e-6)
    assert numbers["TIM"] == pytest.approx(0, abs=1e-6)
    assert numbers["leak"] == pytest.approx(1, abs=1e-6)
    for name in ("kl", "sc", "lmd", "tim_nn", "tex_nn", "fine_nn", "pre_x", "clicks", "clipping"):
        assert numbers[name] == pytest.approx(0, abs=1e-6), name
    for name in ("chroma_z", "onset_r", "onset_F", "loud_r", "fd", "mod"):
        assert numbers[name] == pytest.approx(1, abs=1e-6), name
    assert abs(numbers["hopbuzz"]) < 1


def test_the_source_itself_has_its_timbre_and_does_not_follow(excerpt, pair):
    numbers = measure(excerpt, pair)
    assert numbers["TIM"] > 0.8
    assert numbers["FID"] < 0.1
    assert numbers["leak"] < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_white_noise_loses_on_both_read_together(seed, target, pair, numbers):
    hiss = measure(noise(seed, len(target)), pair)
    assert hiss["FID"] < 0.15
    assert hiss["TIM"] < 0.6
    for name, mosaic in numbers.items():
        assert hiss["FID"] < mosaic["FID"], name
        assert hiss["FID"] + hiss["TIM"] < mosaic["FID"] + mosaic["TIM"] - 0.3, name


def test_leak_betrays_a_plain_mix_and_the_targets_phase(target, excerpt, pair, numbers):
    mix = measure(at_rms_1(target) + at_rms_1(excerpt), pair)
    # A plain mix scores well on both FID and TIM.
    assert mix["FID"] > 0.4
    assert mix["TIM"] > 0.6
    assert mix["leak"] > 0.6
    assert numbers["notebook"]["leak"] > 0.5
    assert numbers["classic"]["leak"] < MEASURES["leak"].limit
    assert numbers["plain"]["leak"] < MEASURES["leak"].limit


def test_whole_grains_have_more_of_the_source_than_single_frames(numbers):
    whole, single = numbers["classic"], numbers["plain"]
    assert whole["TIM"] > single["TIM"] + 0.02
    assert whole["fine_nn"] > single["fine_nn"] + 0.3
    assert whole["run_ms"] > 5 * single["run_ms"]
    assert whole["long"] > 0.9 > 0.5 > single["long"]
    assert whole["rep"] < single["rep"]
    assert whole["incons"] < single["incons"]
    assert whole["model_err"] < single["model_err"]
    assert whole["hopbuzz"] < single["hopbuzz"]
    assert whole["poly"] <= 10.5


@pytest.mark.parametrize("hop", [256, 512, 700])
def test_hopbuzz_betrays_a_target_gated_at_the_hop_rate(hop, target, pair):
    gated = target * (np.arange(len(target)) % hop < hop // 2)
    blueprint = Blueprint(StftParams(4 * hop, hop), RATE)
    assert measure(gated, pair, blueprint=blueprint)["hopbuzz"] > 6
    # It may be below 0, where the music beats at the rates around.
    assert measure(target, pair, blueprint=blueprint)["hopbuzz"] < MEASURES["hopbuzz"].limit
    # Gated at another rate, the sound has no seams between these frames.
    other = Blueprint(StftParams(4 * hop, round(hop / 1.4)), RATE)
    assert measure(gated, pair, blueprint=other)["hopbuzz"] < 3


def test_pre_x_betrays_a_smeared_target(target, pair, rng):
    grid = StftParams(8192, 1024)
    spectrum = stft(target, grid)
    turned = np.abs(spectrum) * np.exp(2j * np.pi * rng.random(spectrum.shape))
    smeared = measure(istft(turned, grid, length=len(target)), pair)
    assert smeared["pre_x"] > 5
    # Most other measures hardly change: only the attacks betray it.
    assert smeared["kl"] < 0.5


def test_clicks_betray_a_clicked_target(target, pair):
    clicked = target.copy()
    clicked[3000::6000] += 0.3
    count = len(clicked[3000::6000])
    found = measure(clicked, pair)["clicks"] * SECONDS
    assert 0.7 * count <= found <= count
    assert measure(target, pair)["clicks"] == 0


@pytest.mark.parametrize("gain", [1e-30, -0.01, 3.0, 1e6])
def test_gain_changes_nothing(gain, mosaics, pair, numbers):
    made = mosaics["classic"]
    blueprint = Blueprint.of(made.activations, made.dictionary)
    turned = measure(gain * made.audio.astype(np.float64), pair, blueprint=blueprint)
    # Float32 analysis: relative errors of 1e-7 a sample, seen through logarithms and threshold decisions.
    assert turned == pytest.approx(numbers["classic"], rel=1e-4, abs=1e-4)


def test_gains_of_target_and_source_change_nothing(target, source, mosaics, pair):
    audio = mosaics["classic"].audio
    turned = evaluate(audio, 1e-3 * target.astype(np.float64), 50 * source.astype(np.float64), RATE)
    assert turned == pytest.approx(measure(audio, pair), rel=1e-4, abs=1e-4)


def test_dc_and_rumble_change_no_measure_but_dc(pair, mosaics):
    audio = mosaics["classic"].audio.astype(np.float64)
    # It is faded in and out, since its edges would be heard.
    lift = np.sin(np.pi * np.arange(len(audio)) / len(audio)) ** 2 * (0.5 + 0.2 * sine(3, SECONDS))
    lifted, plain = measure(audio + lift, pair), measure(audio, pair)
    assert lifted.pop("dc") > 0.7 > 0.01 > plain.pop("dc")
    # The tolerance is what the corner at 20 Hz lets through.
    assert lifted == pytest.approx(plain, rel=0.01, abs=0.01)


@functools.cache
def numbers_at(sr):
    """The measures of a shifted target mixed with the source, all made at one sample rate."""
    target, source = demo_target(sr)[: 4 * sr], demo_source(sr, seconds=10.0)
    mixed = np.roll(target, sr // 4) + 0.5 * source[: len(target)]
    grid = StftParams.from_seconds(GRID.n_fft / RATE, HOP_S, sr)
    return evaluate(mixed, target, source, sr, blueprint=Blueprint(grid, sr))


@pytest.mark.parametrize("sr", [44100, 48000])
def test_measures_agree_at_other_rates(sr):
    for name, number in numbers_at(sr).items():
        # What lies between 10 kHz, where the demo fades out, and 11 kHz; and hops that are not quite as long.
        allowed = {"hopbuzz": 0.5, "pre_x": 0.1, "lmd": 0.1, "kl": 0.01, "mod": 0.02}.get(name, 0.005)
        assert number == pytest.approx(numbers_at(RATE)[name], abs=allowed), name


def test_the_same_inputs_give_the_same_numbers(mosaics, target, source, pair):
    audio = mosaics["classic"].audio
    assert measure(audio, pair) == measure(audio, pair) == evaluate(audio, target, source, RATE)


def test_nothing_is_written_to(target, source):
    y = target.copy()
    inputs = [y, target, source]
    before = [array.copy() for array in inputs]
    evaluate(*inputs, RATE)
    for array, old in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_every_measure_is_there_in_the_order_of_the_table(mosaics, pair):
    made = mosaics["classic"]
    f0 = np.array([0.0, 220, 330]), np.array([110.0, 440, 330])
    everything = measure(made.audio, pair, blueprint=Blueprint.of(made.activations, made.dictionary), f0=f0)
    assert list(everything) == list(MEASURES)
    assert all(type(number) is float and math.isfinite(number) for number in everything.values())
    assert (everything["rpa"], everything["rca"]) == (0.5, 1.0)
    assert list(measure(made.audio, pair)) == [
        name
        for name, described in MEASURES.items()
        if name not in ("rpa", "rca", "incons", "model_err", "hopbuzz") and described.group != "grains"
    ]


def test_a_hop_is_enough_to_listen_for_buzz(target, pair):
    gated = target * (np.arange(len(target)) % 512 < 256)
    buzz = measure(gated, pair, blueprint=Blueprint(GRID, RATE))["hopbuzz"]
    assert measure(gated, pair, hop_s=HOP_S)["hopbuzz"] == buzz
    # An explicit hop takes precedence over that of the blueprint.
    assert measure(gated, pair, blueprint=Blueprint(StftParams(2048, 365), RATE), hop_s=HOP_S)["hopbuzz"] == buzz
    assert evaluate(gated, target, target, RATE, hop_s=0.0)["hopbuzz"] == 0
    with pytest.raises(ValueError, match="hop_s is -1; pass a number of at least 0"):
        measure(gated, pair, hop_s=-1)


def test_a_blueprint_without_activations_gives_buzz_and_what_else_is_known(mosaics, pair):
    made = mosaics["classic"]
    whole = Blueprint.of(made.activations, made.dictionary)
    bare = measure(made.audio, pair, blueprint=Blueprint(GRID, RATE))
    assert "hopbuzz" in bare
    assert not {"run_ms", "incons", "model_err"} & bare.keys()
    assert "model_err" in measure(made.audio, pair, blueprint=Blueprint(GRID, RATE, model=whole.model))


def test_the_table_says_what_every_number_means():
    for name, described in MEASURES.items():
        assert described.group in ("composite", "cheating", "fidelity", "timbre", "grains", "artefacts")
        assert described.better in ("higher", "lower", ""), name
        assert 0 < len(described.summary) <= 39
        assert described.unit in ("", "dB", "ms", "1/s")
        assert described.limit is None or described.better == "lower"


def documented():
    """The docstrings of the functions that define the measures, by the names of the measures."""
    places = [vars(module) for module in (artefacts, evaluation, fidelity, grains)] + [vars(Scale)]
    functions = [thing for place in places for thing in place.values() if inspect.isfunction(thing) and thing.__doc__]
    return {
        name: inspect.getdoc(function)
        for function in functions
        for name in re.findall(r"``(\w+)``", function.__doc__.partition("\n\n")[0].partition(":")[0])
    } | {name: inspect.getdoc(correlation) for name in ("onset_r", "loud_r")}


def test_every_measure_is_a_documented_function_with_its_source():
    docstrings = documented()
    assert docstrings.keys() >= MEASURES.keys()
    for name in MEASURES:
        assert f"``{name}``" in docstrings[name]
        assert "References\n----------\n" in docstrings[name], name
        # Its range, or the value of a perfect mosaic.
        assert re.search(r"\b[01]\b", docstrings[name].partition("References")[0]), name


def test_the_page_explains_every_measure_with_the_limit_that_holds():
    page = (Path(__file__).parents[2] / "docs" / "measures.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### `(\w+)`.*?\n(.*?)(?=^##)", page + "\n## end", re.M | re.S))
    assert list(sections) == list(MEASURES)
    for name, about in MEASURES.items():
        points = re.findall(r"^- \*(.+?)\*: (.+)", sections[name], re.M)
        assert [point for point, _ in points] == ["definition", "range", "good", "fooled by"], name
        if about.limit is not None:
            assert f"{about.limit:g}{' ' * (about.unit == 'dB')}{about.unit * (about.unit == 'dB')}" in points[2][1], (
                name
            )


@given(st.lists(st.floats(-2, 30), min_size=11, max_size=11))
def test_composites_are_means_of_clipped_terms(values):
    names = ("sc", "kl", "chroma_z", "onset_r", "loud_r", "lmd", "tim_nn", "tex_nn", "fine_nn", "fd", "mod")
    n = dict(zip(names, values, strict=True))

    def clipped(x):
        return min(max(x, 0.0), 1.0)

    fid = clipped(1 - n["sc"]) + clipped(1 - n["kl"] / 1.5) + clipped(n["chroma_z"])
    fid += clipped(n["onset_r"]) + clipped(n["loud_r"]) + clipped(1 - n["lmd"] / 20)
    tim = clipped(n["tim_nn"]) + clipped(n["tex_nn"]) + clipped(n["fine_nn"]) + clipped(1 - n["fd"])
    tim += clipped(1 - n["mod"])
    assert composite_fidelity(n) == pytest.approx(fid / 6)
    assert composite_timbre(n) == pytest.approx(tim / 5)


def test_several_source_recordings_are_one_source(target, source, mosaics, pair):
    audio = mosaics["classic"].audio
    half = len(source) // GRID.hop // 2 * GRID.hop
    split = evaluate(audio, target, [source[:half], source[half:]], RATE)
    whole = measure(audio, pair)
    for name in ("tim_nn", "tex_nn", "fine_nn", "fd", "mod"):
        # The cut's own frames, and each half's own loudness as floor.
        assert split[name] == pytest.approx(whole[name], abs=0.05), name
    assert {name: split[name] for name in ("kl", "leak", "pre_x")} == {
        name: whole[name] for name in ("kl", "leak", "pre_x")
    }
    with_silence = evaluate(audio, target, [source, np.zeros(5000, np.float32)], RATE)
    assert with_silence == whole


@pytest.mark.parametrize("extra", [700, -700])
def test_a_mosaic_of_another_length_is_cut_or_padded(extra, target, pair):
    fitted = target[:extra] if extra < 0 else np.concatenate([target, noise(0, extra).astype(np.float32)])
    padded = np.concatenate([target, np.zeros(abs(extra), np.float32)])
    padded[extra + len(target) if extra < 0 else len(target) :] = 0
    assert measure(fitted, pair)["FID"] == pytest.approx(measure(padded[: len(target)], pair)["FID"])


def test_a_silent_mosaic_has_defined_numbers(target, pair):
    numbers = measure(np.zeros_like(target), pair, blueprint=Blueprint(GRID, RATE))
    assert all(math.isfinite(number) for number in numbers.values())
    assert numbers["FID"] < 0.1
    assert numbers["TIM"] == 0
    assert numbers["sc"] == 1
    for name in ("leak", "in_phase", "chroma_z", "onset_r", "loud_r", "hopbuzz", "pre_x", "clicks", "dc", "clipping"):
        assert numbers[name] == 0, name


@pytest.mark.parametrize("which", ["target", "source"])
def test_a_silent_target_or_source_is_refused(which, target, source):
    signals = {"target": target, "source": source} | {which: np.zeros(1000, np.float32)}
    with pytest.raises(ValueError, match=rf"{which} is silent: .*; pass a {which} that sounds"):
        reference(signals["target"], signals["source"], RATE)


@pytest.mark.parametrize("source_length", [1, 600, 5000])
@pytest.mark.parametrize("length", [1, 2, 511, 2047, 9000])
def test_short_signals_have_defined_numbers(length, source_length, target, source):
    short, sources = target[20_000:][:length].astype(np.float64), source[60_000:][:source_length]
    pair = reference(short, sources, RATE)
    for y in (short, np.zeros(length), np.ones(length), noise(0, length), noise(1, 2 * length + 3)):
        numbers = measure(y, pair, blueprint=Blueprint(GRID, RATE))
        assert all(math.isfinite(number) for number in numbers.values())
        assert 0 <= numbers["FID"] <= 1
        assert 0 <= numbers["TIM"] <= 1
    assert measure(short, pair)["FID"] == pytest.approx(1, abs=1e-6)
    # A source of one sample is a click, and so is a target of one or two.
    if source_length > 1:
        assert measure(short, pair)["TIM"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "y",
    [np.ones(1000), sine(440), np.eye(1, 30_000, 7000)[0], np.sign(sine(100))],
    ids=["dc", "sine", "click", "square"],
)
def test_odd_signals_have_defined_numbers_in_every_part(y, source):
    other = source[60_000:70_000].astype(np.float64)
    for mosaic, target, corpus in [(y, y, other), (other, y, y), (y, other, y), (y, y, y)]:
        numbers = evaluate(mosaic, target, corpus, RATE, blueprint=Blueprint(GRID, RATE))
        assert all(math.isfinite(number) for number in numbers.values())


def test_several_channels_are_judged_by_their_mix(target, source, pair, mosaics):
    y = mosaics["classic"].audio
    sides = [np.stack([1.4 * sound, 0.6 * sound]) for sound in (y, target, source)]
    # Float32 analysis of mixes that differ by rounding.
    assert evaluate(*sides, RATE) == pytest.approx(measure(y, pair), rel=1e-3, abs=1e-3)
    flat = np.stack([y, np.clip(y, -0.2 * np.abs(y).max(), 0.2 * np.abs(y).max())])
    assert measure(flat, pair)["clipping"] == measure(flat[1], pair)["clipping"] > 0


def test_bad_arguments_are_refused(target, source, pair, mosaics):
    made = mosaics["classic"]
    blueprint = Blueprint.of(made.activations, made.dictionary)
    with pytest.raises(TypeError, match=r"y holds int16 samples"):
        measure(np.zeros(100, np.int16), pair)
    with pytest.raises(ValueError, match=r"y holds 1 values that are NaN"):
        measure(np.array([0.0, np.nan]), pair)
    with pytest.raises(ValueError, match=r"target has shape \(50, 2, 1\); pass shape \(samples,\) or"):
        evaluate(target, np.zeros((50, 2, 1)), source, RATE)
    with pytest.raises(ValueError, match=r"sr is 100 Hz"):
        evaluate(target, target, source, 100)
    with pytest.raises(ValueError, match=r"blueprint is at 44100 Hz but y at 22050 Hz"):
        measure(made.audio, pair, blueprint=replace(blueprint, sr=44100))
    with pytest.raises(ValueError, match=r"blueprint\.activations has \d+ frames but y of 1000 samples 2 at hop 512"):
        measure(made.audio[:1000], pair, blueprint=blueprint)
    with pytest.raises(ValueError, match=r"norms is None but activations are given"):
        Blueprint(GRID, RATE, activations=made.activations)
