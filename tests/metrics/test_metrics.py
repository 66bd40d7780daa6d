"""The measures: against loops, librosa and mir_eval where those compute the same, and what must hold of them."""

import functools
import inspect
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.spatial.distance
from hypothesis import given
from hypothesis import strategies as st

import smalti
from smalti.dsp.bands import a_weights, audible, decibels, mel_filters
from smalti.dsp.conditioning import highpass
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
from smalti.metrics.artefacts import (
    click_rate,
    click_times,
    clipped_share,
    dc_share,
    hop_buzz_db,
    inconsistency,
    model_error,
    pre_echo_excess_db,
    prediction_error,
)
from smalti.metrics.features import (
    FINE_GRID,
    GRID,
    RATE,
    cepstra,
    chroma_filters,
    fine_structure,
    modulation_spectra,
    onset_strength,
    patches,
    pick_onsets,
    resampled,
)
from smalti.metrics.fidelity import (
    chroma_agreement,
    correlation,
    kl_divergence,
    leak,
    log_mel_distance,
    matching_gain,
    onset_f_measure,
    raw_chroma_accuracy,
    raw_pitch_accuracy,
    spectral_convergence,
)
from smalti.metrics.grains import long_share, polyphony, run_lengths, run_ms, sounding, stutter_share
from smalti.metrics.timbre import Scale, evenly, frechet_distance, nearest_distances, own_distance
from smalti.workflows.demo import demo_source, demo_target
from strategies import seeds

SECONDS = 6
HOP_S = GRID.hop / RATE


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def sine(hz, seconds=1.0, sr=RATE):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * sr)) / sr)


def at_rms_1(y):
    return y / np.sqrt(np.mean(np.square(y, dtype=np.float64)))


@pytest.fixture(scope="module")
def target():
    return demo_target()[: SECONDS * RATE]


@pytest.fixture(scope="module")
def source():
    return demo_source(seconds=10.0)


@pytest.fixture(scope="module")
def excerpt(source):
    """The source itself, as long as the target."""
    return source[3 * RATE : (3 + SECONDS) * RATE]


@pytest.fixture(scope="module")
def pair(target, source):
    return reference(target, source, RATE)


@pytest.fixture(scope="module")
def mosaics(target, source):
    """One by source frames, one with the target's phase, one of plain updates without any rule."""
    classic = replace(smalti.PRESETS["classic"], iterations=25)
    made = {
        "classic": classic,
        "notebook": replace(smalti.PRESETS["notebook"], iterations=50),
        "plain": replace(classic, layers=None, no_repeat_s=0.0, grain_length_s=0.0),
    }
    return {name: smalti.mosaic(target, source, RATE, preset=settings) for name, settings in made.items()}


@pytest.fixture(scope="module")
def numbers(mosaics, pair):
    return {
        name: measure(made.audio, pair, blueprint=Blueprint.of(made.activations, made.dictionary))
        for name, made in mosaics.items()
    }


@pytest.fixture(scope="module")
def drums():
    """Eight bursts of noise, one every 0.4 s, each dying away within 0.3 s: samples and their times."""
    times = 0.2 + 0.4 * np.arange(8)
    y = np.zeros(round(3.5 * RATE))
    for i, start_s in enumerate(times):
        start, length = round(start_s * RATE), round(0.3 * RATE)
        y[start : start + length] += noise(i, length) * np.exp(-np.arange(length) / (0.06 * RATE))
    return y, times


# --- what must hold


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
    # It looks good on both.
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
    # Below 0 where music beats at the rates around it.
    assert measure(target, pair, blueprint=blueprint)["hopbuzz"] < MEASURES["hopbuzz"].limit
    # Gated at another rate, it is no seam between these frames.
    other = Blueprint(StftParams(4 * hop, round(hop / 1.4)), RATE)
    assert measure(gated, pair, blueprint=other)["hopbuzz"] < 3


def test_pre_x_betrays_a_smeared_target(target, pair, rng):
    grid = StftParams(8192, 1024)
    spectrum = stft(target, grid)
    turned = np.abs(spectrum) * np.exp(2j * np.pi * rng.random(spectrum.shape))
    smeared = measure(istft(turned, grid, length=len(target)), pair)
    assert smeared["pre_x"] > 5
    # Most else is as it was: nothing but the attacks betrays it.
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


def test_dc_and_rumble_are_not_heard_but_dc_is_told(target, pair, mosaics):
    audio = mosaics["classic"].audio.astype(np.float64)
    # Faded in and out: its edges would be heard.
    lift = np.sin(np.pi * np.arange(len(audio)) / len(audio)) ** 2 * (0.5 + 0.2 * sine(3, SECONDS))
    lifted, plain = measure(audio + lift, pair), measure(audio, pair)
    assert lifted.pop("dc") > 0.7 > 0.01 > plain.pop("dc")
    # What the corner at 20 Hz leaves of it.
    assert lifted == pytest.approx(plain, rel=0.01, abs=0.01)


@functools.cache
def numbers_at(sr):
    """Of a shifted target mixed with the source, all made at one sample rate."""
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


# --- evaluate


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
    # What is said aloud counts more than the grid.
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
    """What the functions that define the measures say, by the names of the measures."""
    places = [vars(module) for module in (artefacts, evaluation, fidelity, grains)] + [vars(Scale)]
    functions = [thing for place in places for thing in place.values() if inspect.isfunction(thing) and thing.__doc__]
    return {
        name: inspect.getdoc(function)
        for function in functions
        for name in re.findall(r"``(\w+)``", function.__doc__.partition("\n\n")[0].partition(":")[0])
    } | {name: inspect.getdoc(correlation) for name in ("onset_r", "loud_r")}


def test_every_measure_is_a_documented_function_with_its_source():
    said = documented()
    assert said.keys() >= MEASURES.keys()
    for name in MEASURES:
        assert f"``{name}``" in said[name]
        assert "References\n----------\n" in said[name], name
        # Its range, or its value where all is well.
        assert re.search(r"\b[01]\b", said[name].partition("References")[0]), name


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
def test_a_mosaic_of_another_length_is_cut_or_padded(extra, target, source, pair):
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
    for name in ("leak", "chroma_z", "onset_r", "loud_r", "hopbuzz", "pre_x", "clicks", "dc", "clipping"):
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


def test_mistakes_are_told(target, source, pair, mosaics):
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


# --- features


@pytest.mark.parametrize(
    ("n_mels", "n_fft", "sr"), [(64, 2048, 22050), (128, 2048, 22050), (20, 512, 22050), (40, 1024, 8000)]
)
def test_mel_filters_are_librosas(n_mels, n_fft, sr):
    import librosa

    expected = librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=n_mels)
    np.testing.assert_allclose(mel_filters(n_mels, n_fft, sr), expected, atol=1e-6 * expected.max())


@pytest.mark.parametrize(("n_fft", "sr"), [(4096, 22050), (2048, 22050), (2048, 16000)])
def test_chroma_filters_are_librosas(n_fft, sr):
    import librosa

    expected = librosa.filters.chroma(sr=sr, n_fft=n_fft, tuning=0.0)
    np.testing.assert_allclose(chroma_filters(n_fft, sr), expected, atol=1e-5)


@pytest.mark.parametrize(("midi", "pitch_class"), [(57, 9), (60, 0), (69, 9), (76, 4)])
def test_a_notes_chroma_is_its_pitch_class(midi, pitch_class):
    magnitudes = np.abs(stft(sine(440 * 2 ** ((midi - 69) / 12)), FINE_GRID))
    chroma = chroma_filters(FINE_GRID.n_fft, RATE) @ np.square(magnitudes)
    assert (chroma[:, 5:-5].argmax(axis=0) == pitch_class).all()


def test_levels_cepstra_and_onsets_are_librosas(target):
    import librosa

    # Zeros before and after as in ours; loud enough that librosa's absolute floor is never met.
    y = 10 * target
    levels = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=RATE), top_db=80)
    ours = decibels(mel_filters(128, 2048, RATE) @ np.square(np.abs(stft(y, GRID))), span_db=80)
    np.testing.assert_allclose(ours, levels, atol=1e-2)
    np.testing.assert_allclose(cepstra(ours), librosa.feature.mfcc(S=levels, n_mfcc=14)[1:].T, atol=2e-2)
    envelope = librosa.onset.onset_strength(y=y, sr=RATE)
    np.testing.assert_allclose(onset_strength(ours, delay=2), envelope, atol=1e-3)
    expected = librosa.onset.onset_detect(onset_envelope=envelope, sr=RATE, units="time")
    np.testing.assert_allclose(pick_onsets(envelope, HOP_S), expected)
    assert len(expected) > 5


@given(seeds)
def test_onsets_of_any_envelope_are_librosas(seed):
    import librosa

    envelope = np.random.default_rng(seed).gamma(0.5, size=80).astype(np.float32)
    expected = librosa.onset.onset_detect(onset_envelope=envelope, sr=RATE, units="time")
    np.testing.assert_allclose(pick_onsets(envelope, HOP_S), expected)


@pytest.mark.parametrize("envelope", [np.zeros(0), np.zeros(10), np.ones(10), np.ones(1)])
def test_an_envelope_that_never_moves_has_no_onsets(envelope):
    assert pick_onsets(envelope, HOP_S).size == 0


def test_a_weights_are_those_of_the_standard_and_librosas():
    import librosa

    # IEC 61672-1:2013, table 3, by tenths of decades; rounded there to 0.1 dB.
    standard = {15: -39.4, 20: -19.1, 24: -8.6, 30: 0.0, 34: 1.3, 39: -1.1, 40: -2.5}
    hz = 10 ** (np.array(list(standard)) / 10)
    np.testing.assert_allclose(10 * np.log10(a_weights(hz)), list(standard.values()), atol=0.1)
    np.testing.assert_allclose(10 * np.log10(a_weights(hz)), librosa.A_weighting(hz), atol=0.01)
    assert a_weights(np.zeros(1))[0] == 0


@pytest.mark.parametrize("sr", [8000, 16000, 44100, 48000, 96000])
def test_resampling_keeps_what_both_rates_hold(sr):
    seconds = 0.8
    fade = np.minimum(1, 20 * np.minimum(np.arange(round(seconds * sr)), np.arange(round(seconds * sr))[::-1]) / sr)
    there = resampled(fade * sine(1234.5, seconds, sr), sr)
    t = np.arange(len(there)) / RATE
    expected = np.minimum(1, 20 * np.minimum(t, seconds - t)) * np.sin(2 * np.pi * 1234.5 * t)
    assert len(there) == round(seconds * RATE)
    # The fades' corners are no band-limited signal.
    np.testing.assert_allclose(there, expected, atol=2e-2)
    np.testing.assert_allclose(there[2000:-2000], expected[2000:-2000], atol=1e-3)


def test_resampling_aliases_nothing_and_keeps_lengths():
    fade = np.hanning(44100)
    assert np.abs(resampled(fade * sine(15_000, 1, 44100), 44100)).max() < 1e-3
    assert [len(resampled(np.ones(n), 44100)) for n in (1, 2, 3, 1000)] == [1, 1, 2, 500]
    assert resampled(np.ones(7, np.float32), 48000).dtype == np.float32
    y = np.ones(5)
    assert resampled(y, RATE) is y


def test_rumble_goes_and_sound_stays_in_place():
    y = sine(200, 2)
    heard = highpass(y + 3 + sine(2, 2), RATE)
    middle = slice(RATE // 2, -RATE // 2)
    np.testing.assert_allclose(heard[middle], y[middle], atol=0.01)
    # -6 dB at the corner.
    assert np.abs(highpass(sine(20, 4), RATE)[RATE:-RATE]).max() == pytest.approx(0.5, abs=0.01)


def test_decibels_are_cut_off_below_the_loudest():
    power = np.array([1e-30, 1e-3, 10.0])
    np.testing.assert_allclose(decibels(power, span_db=50), [-40, -30, 10])
    np.testing.assert_allclose(decibels(power, span_db=50, loudest=1000), [-20, -20, 10])
    np.testing.assert_array_equal(decibels(np.zeros(3), span_db=50), 0)
    np.testing.assert_allclose(decibels(np.float32([1e-40, 1e-38]), span_db=100), -379.3, atol=1)


def test_what_is_audible():
    np.testing.assert_array_equal(audible(np.array([1, 1e-6, 0.02, 0]), span_db=50), [True, False, True, False])
    assert not audible(np.zeros(3)).any()
    assert audible(np.zeros(0)).shape == (0,)


def test_patches_are_stretches_without_their_level():
    levels = np.arange(20.0).reshape(2, 10)
    points = patches(levels, frames=3)
    assert points.shape == (8, 6)
    np.testing.assert_allclose(points[4] + levels[:, 4:7].mean(), levels[:, 4:7].T.ravel())
    np.testing.assert_allclose(patches(levels + 7, frames=3), points)
    # Too short a one is continued with its last frame.
    short = patches(levels[:, :2], frames=3)
    np.testing.assert_allclose(short + levels[:, [0, 1, 1]].mean(), levels[:, [0, 1, 1]].T.ravel()[None])


def test_the_fine_structure_shows_partials_and_no_envelope(rng):
    partials = sum(sine(hz) for hz in range(200, 4000, 200)) + 0.1 * rng.standard_normal(RATE)
    magnitudes = np.abs(stft(partials, FINE_GRID))
    fine = fine_structure(magnitudes, FINE_GRID.n_fft, RATE)
    assert fine.shape == (magnitudes.shape[1], 741)
    hz = np.arange(20, 761) * RATE / FINE_GRID.n_fft
    on = (np.abs((hz + 100) % 200 - 100) < 3) & (hz < 3900)
    between = (np.abs(hz % 200 - 100) < 20) & (hz < 3900)
    assert fine[5, on].min() > fine[5, between].max() + 10
    tilt = np.exp(-np.arange(len(magnitudes)) / 1000)[:, None]
    # Between them, the noise's deepest gaps reach the floor sooner or later.
    tilted = fine_structure(3 * magnitudes * tilt, FINE_GRID.n_fft, RATE)
    np.testing.assert_allclose(tilted[:, on], fine[:, on], atol=2)
    np.testing.assert_allclose(fine_structure(3 * magnitudes, FINE_GRID.n_fft, RATE), fine, atol=1e-4)


@pytest.mark.parametrize(("rate_hz", "octave"), [(2, 0), (4, 1), (9, 2), (18, 3), (35, 4), (70, 5)])
def test_modulation_is_found_in_its_octave(rate_hz, octave):
    frame_rate_hz = 172.0
    t = np.arange(600) / frame_rate_hz
    envelope = 1 + 0.5 * np.sin(2 * np.pi * rate_hz * t)
    depth = modulation_spectra(np.square(envelope)[None], frame_rate_hz)
    assert depth.shape[1] == 6
    assert (depth.argmax(axis=1) == octave).all()
    # Of one sine, through a Hann window: as deep at every rate.
    assert depth.max(axis=1) == pytest.approx(10 * np.log10(0.125 * 0.75 * len(t[:172]) / 172), abs=3)
    np.testing.assert_allclose(modulation_spectra(9 * np.square(envelope)[None], frame_rate_hz), depth, atol=1e-6)


# --- fidelity


magnitudes = st.builds(
    lambda seed, f, n: np.random.default_rng(seed).gamma(0.5, size=(f, n)), seeds, st.integers(1, 6), st.integers(1, 6)
)


@given(magnitudes, seeds)
def test_kl_and_convergence_are_their_sums(V, seed):
    Y = np.random.default_rng(seed).gamma(0.5, size=V.shape)
    g = V.sum() / Y.sum()
    floor = 1e-5 * V.max()
    kl = sum(
        (v + floor) * math.log((v + floor) / (g * y + floor)) - v + g * y for v, y in zip(V.flat, Y.flat, strict=True)
    )
    assert kl_divergence(V, Y) == pytest.approx(max(kl, 0) / V.sum(), abs=1e-9)
    assert spectral_convergence(V, Y) == pytest.approx(math.sqrt(((V - g * Y) ** 2).sum() / (V**2).sum()))
    for distance in (kl_divergence, spectral_convergence):
        assert distance(V, V) == pytest.approx(0, abs=1e-9)
        assert distance(V, 7 * Y) == pytest.approx(distance(V, Y))
        assert distance(V, Y) >= 0


def test_the_floor_of_kl_is_next_to_nothing_where_all_sounds(rng):
    V, Y = rng.uniform(0.5, 1.5, (2, 9, 9))
    g = V.sum() / Y.sum()
    assert kl_divergence(V, Y) == pytest.approx((V * np.log(V / (g * Y)) - V + g * Y).sum() / V.sum(), rel=1e-4)


def test_silence_is_finitely_far_away():
    V = np.abs(noise(0, 5, 4))
    assert matching_gain(V, np.zeros_like(V)) == 0
    assert spectral_convergence(V, np.zeros_like(V)) == 1
    assert 5 < kl_divergence(V, np.zeros_like(V)) < math.log(1e5)


def test_log_mel_distance_is_in_decibels_and_deaf_below_its_floor():
    mel = np.array([[1.0, 1e-3], [1e-9, 1e-8]])
    louder = mel * 10**0.3
    assert log_mel_distance(mel, mel) == 0
    # Two of four entries are heard, and differ by 3 dB.
    assert log_mel_distance(mel, louder) == pytest.approx(1.5)
    assert log_mel_distance(mel, np.zeros_like(mel)) == pytest.approx((70 + 40) / 4)


@given(seeds, st.integers(2, 9))
def test_chroma_agreement_is_above_the_mean_of_all_circular_shifts(seed, n):
    C, D = np.random.default_rng(seed).gamma(0.5, size=(2, 12, n)) + 0.01

    def mean_cosine(D):
        return np.mean([c @ d / np.linalg.norm(c) / np.linalg.norm(d) for c, d in zip(C.T, D.T, strict=True)])

    chance = np.mean([mean_cosine(np.roll(D, shift, axis=1)) for shift in range(n)])
    assert chroma_agreement(C, D) == pytest.approx((mean_cosine(D) - chance) / (1 - chance), abs=1e-9)
    assert chroma_agreement(C, C) == pytest.approx(1)
    assert chroma_agreement(C, D * np.arange(1, n + 1)) == pytest.approx(chroma_agreement(C, D))


def test_chroma_of_noise_is_no_better_than_chance(target, pair):
    numbers = [measure(noise(seed, len(target)), pair)["chroma_z"] for seed in range(3)]
    assert np.abs(numbers).max() < 0.05


def test_chroma_of_silence_and_of_one_chord():
    chord = np.tile(np.eye(12)[:, :1] + 0.1, 5)
    assert chroma_agreement(chord, np.zeros((12, 5))) == 0
    assert chroma_agreement(np.zeros((12, 5)), chord) == 0
    assert chroma_agreement(chord, chord) == pytest.approx(1)
    assert chroma_agreement(chord, np.roll(chord, 1, axis=0)) == pytest.approx(0, abs=1e-6)


@given(seeds, st.integers(2, 40))
def test_correlation_is_pearsons(seed, n):
    a, b = np.random.default_rng(seed).standard_normal((2, n))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)
    assert correlation(a, 3 * a + 2) == pytest.approx(1)


def test_an_envelope_that_stands_still_correlates_with_its_like_only():
    still, moving = np.full(10, -20.0), np.arange(10.0)
    assert correlation(still, still + 1e-5) == 1
    assert correlation(still, still + 1) == 0
    assert correlation(still, moving) == correlation(moving, still) == 0
    assert correlation(np.zeros(1), np.zeros(1)) == 1


times = st.lists(st.floats(0, 2), max_size=12).map(sorted)


@given(times, times, st.sampled_from([0.05, 0.2]))
def test_onset_f_measure_is_mir_evals(reference_s, estimated_s, window_s):
    import mir_eval

    reference_s, estimated_s = np.array(reference_s), np.array(estimated_s)
    if not reference_s.size or not estimated_s.size:
        # mir_eval warns, and gives 0 even where both agree that there is none.
        assert onset_f_measure(reference_s, estimated_s) == float(reference_s.size == estimated_s.size)
        return
    expected = mir_eval.onset.f_measure(reference_s, estimated_s, window=window_s)[0]
    assert onset_f_measure(reference_s, estimated_s, window_s=window_s) == pytest.approx(expected)


def test_an_onset_meets_one_other_at_most():
    assert onset_f_measure([1.0], [0.98, 1.02]) == pytest.approx(2 / 3)
    # Taking the nearest first would lose one.
    assert onset_f_measure([1.0, 1.04], [0.96, 1.01]) == 1


tracks = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.sampled_from([0.0, 110.0, 111.0, 114.0, 220.0, 226.0, 443.0]), min_size=n, max_size=n)] * 2
    )
)


@given(tracks)
def test_pitch_accuracies_are_mir_evals(pair_of_tracks):
    import mir_eval

    wanted, got = (np.array(track) for track in pair_of_tracks)
    if not wanted.any():
        assert raw_pitch_accuracy(wanted, got) == raw_chroma_accuracy(wanted, got) == 0
        return
    voicings = (wanted > 0).astype(float), (got > 0).astype(float)
    cents = [mir_eval.melody.hz2cents(track) for track in (wanted, got)]
    arguments = voicings[0], cents[0], voicings[1], cents[1]
    if not voicings[1].any():
        # mir_eval warns of this.
        assert raw_pitch_accuracy(wanted, got) == raw_chroma_accuracy(wanted, got) == 0
        return
    assert raw_pitch_accuracy(wanted, got) == pytest.approx(mir_eval.melody.raw_pitch_accuracy(*arguments))
    assert raw_chroma_accuracy(wanted, got) == pytest.approx(mir_eval.melody.raw_chroma_accuracy(*arguments))
    assert raw_chroma_accuracy(wanted, got) >= raw_pitch_accuracy(wanted, got)


def test_pitch_tracks_must_match():
    with pytest.raises(ValueError, match=r"target_f0 has shape \(3,\) and f0 \(2,\); pass two tracks"):
        raw_pitch_accuracy([1, 2, 3], [1, 2])
    for bad in (-1.0, np.nan):
        with pytest.raises(ValueError, match=r"f0 holds negative or non-finite values; pass Hz"):
            raw_chroma_accuracy([100.0, 100], [bad, 100])


def test_leak_is_the_weighted_coherence_above_chance(rng):
    T, Y = (rng.standard_normal((2, 6, 50)) + 1j * rng.standard_normal((2, 6, 50))) * np.arange(1, 7)[:, None]
    Y[3] = T[3] * 0.5
    top = bottom = 0.0
    for f in range(6):
        t2, y2 = sum(abs(T[f]) ** 2), sum(abs(Y[f]) ** 2)
        coherence = abs(sum(T[f] * Y[f].conj())) ** 2 / (t2 * y2)
        chance = 1.92 * sum(abs(T[f]) ** 2 * abs(Y[f]) ** 2) / (t2 * y2)
        top += t2 * (coherence - chance)
        bottom += t2 * (1 - chance)
    assert leak(T, Y) == pytest.approx(top / bottom, abs=2e-3)


def test_leak_of_independent_sounds_is_nothing_and_of_mixes_their_share():
    wanted, other = noise(0, 10 * RATE), noise(1, 10 * RATE)
    spectrum = stft(wanted, GRID)
    assert leak(spectrum, stft(other, GRID)) < 0.005
    for gain in (0.3, 1.0, 3.0):
        share = gain**2 / (1 + gain**2)
        assert leak(spectrum, stft(gain * wanted + other, GRID)) == pytest.approx(share, abs=0.02)
    # Filtered, turned and late, it is still the target.
    late = np.concatenate([np.zeros(40), -0.1 * np.diff(wanted)])[: len(wanted)]
    assert leak(spectrum, stft(late, GRID)) > 0.9


def test_leak_of_short_and_silent_sounds_is_nothing():
    y = noise(0, 3000)
    assert leak(stft(y[:1000], GRID)[:, :1], stft(noise(1, 1000), GRID)[:, :1]) == 0
    assert leak(stft(y, GRID), stft(np.zeros(3000), GRID)) == 0
    assert leak(stft(y, GRID), stft(noise(1, 3000), GRID)) < 0.3


# --- timbre


@given(seeds, st.integers(1, 400), st.integers(1, 30))
def test_nearest_distances_are_those_of_all_pairs(seed, n, m):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    pairs = scipy.spatial.distance.cdist(A, B)
    np.testing.assert_allclose(nearest_distances(A, B), pairs.min(axis=1), atol=1e-7)
    if n > 1:
        own = scipy.spatial.distance.cdist(A, A)
        np.fill_diagonal(own, np.inf)
        assert own_distance(A) == pytest.approx(own.min(axis=1).mean(), abs=1e-7)
        assert own_distance(A, queries=5) == pytest.approx(own[evenly(n, 5)].min(axis=1).mean(), abs=1e-7)


def test_a_single_frame_has_no_other():
    assert own_distance(np.ones((1, 4))) == 0


@given(st.integers(0, 500), st.integers(1, 50))
def test_samples_are_spread_evenly(n, most):
    kept = evenly(n, most)
    assert len(kept) == min(n, most)
    assert (np.diff(kept) >= 1).all()
    assert np.ptp(np.diff(kept)) <= 1 if len(kept) > 1 else True
    assert not kept.size or (kept[0] == 0 and kept[-1] < n)


def test_the_frechet_distance_is_its_formula(rng):
    A, B = rng.standard_normal((50, 4)) @ rng.standard_normal((4, 4)), 2 + rng.standard_normal((60, 4))
    covariances = [np.cov(cloud.T, bias=True) for cloud in (A, B)]
    shift = ((A.mean(axis=0) - B.mean(axis=0)) ** 2).sum()
    expected = shift + np.trace(sum(covariances) - 2 * scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real)
    assert frechet_distance(A, B) == pytest.approx(expected)
    assert frechet_distance(B, A) == pytest.approx(expected)
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-9)
    # One dimension: the difference of means and that of deviations, squared.
    a, b = A[:, :1], B[:, :1]
    assert frechet_distance(a, b) == pytest.approx((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2)
    assert frechet_distance(A, B, diagonal=True) == pytest.approx(shift + ((A.std(axis=0) - B.std(axis=0)) ** 2).sum())
    assert frechet_distance(a[:1], b[:1]) == pytest.approx((a[0, 0] - b[0, 0]) ** 2)


def test_a_scale_runs_from_the_target_to_the_source(rng):
    T, S = rng.standard_normal((80, 3)) + 6, rng.standard_normal((90, 3)) * [1, 10, 0.1]
    scale = Scale(T, S)
    assert scale.nearness(T) == pytest.approx(0)
    assert scale.frechet_ratio(T) == pytest.approx(1)
    assert scale.nearness(S) == 1
    assert scale.frechet_ratio(S) == pytest.approx(0, abs=1e-9)
    halves = [scale.nearness(share * S[:80] + (1 - share) * T) for share in (0.2, 0.5, 0.8)]
    assert 0 < halves[0] < halves[1] < halves[2] < 1
    assert scale.nearness(T + 100) == -1
    # Standardised: units do not matter. Not standardised: they do.
    units = np.array([1, 100, 0.1])
    Y = 0.5 * S[:80] + 0.5 * T
    assert Scale(T * units, S * units).nearness(Y * units) == pytest.approx(scale.nearness(Y))
    bare = Scale(T, S, standardise=False)
    d_ts, d_ys = (scipy.spatial.distance.cdist(cloud, S).min(axis=1).mean() for cloud in (T, Y))
    assert bare.nearness(Y) == pytest.approx((d_ts - d_ys) / (d_ts - own_distance(S)))


def test_a_scale_of_two_alike_or_of_nothing_is_defined(rng):
    S = rng.standard_normal((50, 3))
    alike = Scale(S, S)
    assert alike.nearness(S) == 1
    assert alike.nearness(S + 50) == -1
    assert alike.frechet_ratio(S) == 0
    assert math.isfinite(alike.frechet_ratio(S + 50))
    point = Scale(np.ones((1, 3)), np.ones((1, 3)))
    assert point.nearness(np.ones((2, 3))) == 1
    assert point.frechet_ratio(np.ones((2, 3))) == 0
    empty = np.zeros((0, 3))
    assert alike.nearness(empty) == -1
    assert alike.frechet_ratio(empty) == 1


# --- grains


def grains_of(H, norms=None, segments=None):
    return sounding(np.asarray(H, dtype=float), np.ones(len(H)) if norms is None else norms, segments)


def test_a_diagonal_is_one_run():
    heard = grains_of(np.eye(6))
    assert run_ms(heard, 0.1) == pytest.approx(600)
    assert long_share(heard, 0.1) == 1
    assert stutter_share(heard, 0.02) == 0
    assert polyphony(heard) == 1


def test_a_run_ends_where_its_recording_does():
    heard = grains_of(np.eye(6), segments=[0, 0, 1, 1, 1, 1])
    # Two of six entries in a run of two, four in one of four.
    assert run_ms(heard, 0.001) == pytest.approx((2 * 2 + 4 * 4) / 6)
    assert long_share(heard, 0.04) == pytest.approx(4 / 6)


def test_a_run_ends_where_time_or_source_halts():
    frozen = np.zeros((3, 6))
    frozen[1] = 1
    heard = grains_of(frozen)
    assert run_ms(heard, 0.02) == pytest.approx(20)
    assert stutter_share(heard, 0.02) == pytest.approx(5 / 6)
    # The same frame again after 160 ms does not stutter.
    assert stutter_share(heard, 0.16) == 0
    gap = np.eye(7)
    gap[3, 3] = 0
    assert run_lengths(grains_of(gap)).tolist() == [3] * 6


def test_runs_weigh_by_energy_and_layers_count():
    H = np.eye(4)
    H[3, 0] = 0.5
    heard = grains_of(H, norms=[2, 2, 2, 2])
    assert run_ms(heard, 1e-3) == pytest.approx((4 * 4 + 0.25) / 4.25)
    assert polyphony(heard) == pytest.approx(5 / 4)


def test_what_is_30_db_under_its_moment_or_60_under_the_loudest_does_not_sound():
    H = np.diag([1.0, 0.0011, 0.0009, 1])
    assert grains_of(H).atoms.tolist() == [0, 1, 3]
    H = np.array([[1.0, 1.0], [0.04, 0.03]])
    assert polyphony(grains_of(H)) == pytest.approx(1.5)
    # A large gain of an atom that is next to silent.
    assert polyphony(grains_of([[1.0], [50.0]], norms=[1, 1e-4])) == 1


def test_silence_has_no_grains():
    heard = grains_of(np.zeros((3, 4)))
    assert run_ms(heard, 0.02) == long_share(heard, 0.02) == stutter_share(heard, 0.02) == polyphony(heard) == 0


@given(seeds, st.integers(1, 8), st.integers(1, 9))
def test_grains_of_any_activations_are_those_of_loops(seed, n_atoms, n_frames):
    rng = np.random.default_rng(seed)
    H = rng.integers(-2, 3, (n_atoms, n_frames)) * (rng.random((n_atoms, n_frames)) < 0.6)
    norms, segments = rng.integers(1, 3, n_atoms), np.cumsum(rng.random(n_atoms) < 0.2)
    energies = (H * norms[:, None]) ** 2.0
    total = energies.sum()
    length = stutters = 0.0
    for k, n in zip(*np.nonzero(H), strict=True):
        first = last = 0
        while (
            k + first > 0
            and n + first > 0
            and H[k + first - 1, n + first - 1]
            and segments[k + first - 1] == segments[k]
        ):
            first -= 1
        while (
            k + last + 1 < n_atoms
            and n + last + 1 < n_frames
            and H[k + last + 1, n + last + 1]
            and segments[k + last + 1] == segments[k]
        ):
            last += 1
        length += energies[k, n] * (last - first + 1)
        stutters += energies[k, n] * H[k, max(0, n - 3) : n].any()
    heard = sounding(scipy.sparse.csr_array(H), norms, segments)
    assert run_ms(heard, 0.001) == pytest.approx(length / total if total else 0)
    assert stutter_share(heard, 0.05) == pytest.approx(stutters / total if total else 0)
    columns = (H != 0).sum(axis=0)
    assert polyphony(heard) == pytest.approx(columns[columns > 0].mean() if columns.any() else 0)


def test_numbers_of_atoms_must_agree():
    with pytest.raises(ValueError, match=r"norms has shape \(3,\); pass one number for each of the 2 atoms"):
        sounding(np.eye(2), np.ones(3))
    with pytest.raises(ValueError, match=r"segments has shape \(1,\); pass one number for each of the 2 atoms"):
        sounding(np.eye(2), np.ones(2), [0])


# --- artefacts


def test_the_transform_of_a_signal_is_consistent_and_noise_is_not(rng):
    grid, y = StftParams(64, 16), rng.standard_normal(2000)
    spectrum = stft(y, grid)
    assert inconsistency(spectrum, grid, length=2000) < 1e-12
    assert inconsistency(np.zeros_like(spectrum), grid, length=2000) == 0
    turned = np.abs(spectrum) * np.exp(2j * np.pi * rng.random(spectrum.shape))
    back = stft(istft(turned, grid, length=2000), grid)
    expected = math.sqrt((np.abs(back - turned) ** 2).sum() / (np.abs(turned) ** 2).sum())
    assert inconsistency(turned, grid, length=2000) == pytest.approx(expected)
    assert 0.5 < expected < 1
    assert inconsistency(-3 * turned, grid, length=2000) == pytest.approx(expected)


def test_the_model_error_is_what_no_gain_mends(rng):
    grid, y = StftParams(64, 16), rng.standard_normal(2000)
    model = np.abs(stft(y, grid))
    assert model_error(5 * y, model, grid) == pytest.approx(0, abs=1e-9)
    other = np.abs(stft(rng.standard_normal(2000), grid))
    error = model_error(y, other, grid)
    best = min(np.linalg.norm(g * model - other) for g in np.linspace(0, 2, 2001)) / np.linalg.norm(other)
    assert error == pytest.approx(best, abs=1e-5)
    assert model_error(y, np.zeros_like(model), grid) == model_error(np.zeros(2000), model, grid) == 1
    assert model_error(np.zeros(2000), np.zeros_like(model), grid) == 0
    with pytest.raises(ValueError, match=r"model has shape \(33, 3\) but the mosaic's STFT \(33, 126\)"):
        model_error(y, model[:, :3], grid)


@pytest.mark.parametrize("sr", [16000, 22050, 44100])
@pytest.mark.parametrize("hop_s", [0.0058, 0.0232, 0.05])
def test_buzz_is_heard_at_the_hop_rate_only(sr, hop_s):
    # Stretches of 64 hops: with few of them, the spectrum of noise is uneven.
    y = noise(0, 10 * sr)
    buzzing = y * (1 + 0.3 * sine(1 / hop_s, 10, sr))
    assert abs(hop_buzz_db(y, sr, hop_s)) < 2
    assert hop_buzz_db(buzzing, sr, hop_s) > 5
    assert hop_buzz_db(buzzing, sr, 1.5 * hop_s) < 3
    deeper = y * (1 + 0.6 * sine(1 / hop_s, 10, sr))
    assert hop_buzz_db(deeper, sr, hop_s) > hop_buzz_db(buzzing, sr, hop_s) + 3


def test_there_is_no_buzz_in_what_is_short_or_silent_or_finer_than_2_ms():
    assert hop_buzz_db(noise(0, 20_000), RATE, HOP_S) == 0
    assert hop_buzz_db(np.zeros(100_000), RATE, HOP_S) == 0
    assert hop_buzz_db(noise(0, 100_000), RATE, 0.0005) == 0
    assert hop_buzz_db(noise(0, 1), RATE, 0.01) == 0


def test_pre_echo_is_measured_in_decibels(drums):
    y, times = drums
    bed = y + 0.001 * noise(9, len(y))
    echo = bed.copy()
    for start in np.round(times * RATE).astype(int):
        echo[start - 1200 : start] += 0.1 * noise(start, 1200)
    own = pre_echo_excess_db(bed, bed, RATE, times)
    assert own == 0
    # A-weighted powers: white noise at 0.1 before, at 0.55 in the mean of 40 ms after; the target's is under the floor.
    assert pre_echo_excess_db(echo, bed, RATE, times) == pytest.approx(30 + 20 * np.log10(0.1 / 0.73), abs=1.5)
    assert pre_echo_excess_db(3 * echo, bed, RATE, times) == pytest.approx(pre_echo_excess_db(echo, bed, RATE, times))
    assert pre_echo_excess_db(bed, echo, RATE, times) == pytest.approx(-pre_echo_excess_db(echo, bed, RATE, times))
    late = np.concatenate([np.zeros(200), bed])[: len(y)]
    assert pre_echo_excess_db(late, bed, RATE, times) < 1


def test_pre_echo_without_attacks_or_sound_is_none(drums):
    y, times = drums
    assert pre_echo_excess_db(y, y, RATE, []) == 0
    assert pre_echo_excess_db(np.zeros_like(y), y, RATE, times) == 0
    assert math.isfinite(pre_echo_excess_db(y, y, RATE, [0.0, len(y) / RATE]))


@pytest.mark.parametrize("sr", [RATE, 44100])
@pytest.mark.parametrize("bed", ["tone", "noise", "silence"])
def test_clicks_are_found_where_they_are(bed, sr):
    n = 2 * sr
    y = {"tone": 0.3 * sine(330, 2, sr), "noise": 0.02 * noise(0, n), "silence": np.zeros(n)}[bed]
    assert click_times(y, sr).size == 0
    at = np.arange(1, 10) * (n // 10)
    clicked = y.copy()
    clicked[at] += 0.4
    np.testing.assert_allclose(click_times(clicked, sr), at / sr, atol=0.001)
    assert click_rate(clicked, [], sr) == pytest.approx(4.5)
    # What the target has too is not the mosaic's fault.
    assert click_rate(clicked, at[:5] / sr + 0.003, sr) == pytest.approx(2)


def test_a_tone_that_jumps_clicks():
    y = sine(330, 2)
    y[RATE:] *= -1
    assert len(click_times(y, RATE)) == 1
    assert click_times(y, RATE) == pytest.approx(1.0, abs=0.001)


def test_drums_voices_and_fades_do_not_click(drums):
    assert click_times(drums[0], RATE).size == 0
    # A voice's pulses: one every 8 ms, each ringing.
    pulses = np.zeros(2 * RATE)
    pulses[1000::176] = 1
    ringing = np.exp(-np.arange(200) / 30) * np.sin(np.arange(200) * 0.2)
    voice = np.convolve(pulses, ringing)[: 2 * RATE] + 1e-4 * noise(0, 2 * RATE)
    assert click_times(voice, RATE).size <= 2
    assert click_times(np.hanning(RATE) * sine(500), RATE).size == 0


@pytest.mark.parametrize("y", [np.zeros(1000), np.ones(1), np.zeros(1), np.ones(5000)])
def test_clicks_of_next_to_nothing(y):
    assert len(click_times(y, RATE)) <= 1


def test_prediction_errors_are_those_of_the_best_predictor():
    # An autoregressive noise is predicted down to what drives it.
    drive = noise(0, 8000)
    y = np.zeros(8000)
    for i in range(2, 8000):
        y[i] = 1.6 * y[i - 1] - 0.8 * y[i - 2] + drive[i]
    error = prediction_error(y, 1000, order=4)
    assert error.shape == y.shape
    assert np.std(error[1000:-1000]) == pytest.approx(1, abs=0.05)
    assert np.corrcoef(error[1000:-1000], drive[1000:-1000])[0, 1] > 0.98
    assert np.abs(prediction_error(sine(440), 1000)[2000:-2000]).max() < 0.02


def test_dc_is_the_mean_over_the_rms():
    assert dc_share(np.array([1.0, 1, 1])) == 1
    assert dc_share(np.array([1.0, -1])) == 0
    assert dc_share(np.array([3.0, 1])) == pytest.approx(2 / math.sqrt(5))
    assert dc_share(np.zeros(4)) == 0


def test_clipping_is_the_share_of_flat_tops():
    y = sine(100)
    assert clipped_share(y) == 0
    clipped = np.clip(y, -0.8, 0.8)
    expected = (np.abs(y) >= 0.8).mean()
    assert clipped_share(clipped) == pytest.approx(expected)
    assert clipped_share((0.1 * clipped).astype(np.float32)) == pytest.approx(expected)
    assert clipped_share(np.array([0.0, 1, 1, 0, -1, -1, -1, 0, 0.5, 0.5, 0.5])) == pytest.approx(3 / 11)
    assert clipped_share(np.zeros(10)) == 0
