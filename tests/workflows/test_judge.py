"""Judging files: the laws of the measures hold for files, and files that cannot be judged are refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from threadpoolctl import threadpool_limits

import smalti
from smalti._checks import ParameterError
from smalti.dsp.conditioning import QUIETEST
from smalti.dsp.stft import StftParams
from smalti.errors import AudioFileError
from smalti.io.sound_read import resample
from smalti.metrics import MEASURES, measure, reference
from smalti.metrics.grains import run_ms, sounding
from smalti.workflows.demo import demo_source, demo_target
from smalti.workflows.inputs import Excerpt, read_inputs
from smalti.workflows.judge import (
    JudgeRequest,
    blueprint_of,
    describe_judged,
    judge_each,
    judge_steps,
    measure_made,
    preset_hop_s,
    read_judged,
)
from smalti.workflows.report import report_json

SR = 22050
SECONDS = 6
N = SECONDS * SR


@pytest.fixture(autouse=True)
def one_thread():
    """Test workers that each ask for every core wait for one another."""
    with threadpool_limits(1):
        yield


def put(path, samples, sr=SR, subtype="FLOAT"):
    soundfile.write(path, samples, sr, subtype=subtype)
    return path


def at_rms_1(y):
    return y / np.sqrt(np.mean(np.square(y, dtype=np.float64)))


@pytest.fixture(scope="module")
def target():
    return demo_target()[:N]


@pytest.fixture(scope="module")
def source():
    return demo_source(seconds=10.0)


@pytest.fixture(scope="module")
def mixed(target, source):
    """A mix that shares a little with both, and is no mosaic."""
    return (0.1 * at_rms_1(np.roll(target, SR // 4)) + 0.1 * at_rms_1(source[:N])).astype(np.float32)


@pytest.fixture
def files(tmp_path, monkeypatch, target, source, mixed):
    """A target, a source and a mosaic of some other tool, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, samples in {"target": target, "source": source, "mixed": mixed}.items():
        put(tmp_path / f"{name}.wav", samples)
    return tmp_path


def judged(*mosaics, target="target.wav", sources=("source.wav",), hop_s=None, **excerpt):
    """The mosaics' numbers and every warning."""
    inputs = read_judged(JudgeRequest(target, tuple(sources), mosaics, Excerpt(**excerpt)))
    results = list(judge_each(inputs, hop_s=hop_s))
    return [dict(result.measures) for result in results], describe_judged(inputs, results)["warnings"]


# --- laws of the measures, for files


def test_files_that_are_no_mosaics_have_telling_numbers(files, target, source):
    rng = np.random.default_rng(0)
    put("excerpt.wav", source[3 * SR :][:N])
    put("noise.wav", 0.1 * rng.standard_normal(N))
    put("mix.wav", 0.1 * at_rms_1(target) + 0.1 * at_rms_1(source[3 * SR :][:N]))
    honest = smalti.mosaic(target, source, SR)
    put("mosaic.wav", honest.audio)
    names = ("target", "excerpt", "noise", "mix", "mosaic")
    numbers = dict(zip(names, judged(*(f"{name}.wav" for name in names))[0], strict=True))
    # The mosaic is measured without its blueprint, and the measures that need none are the same.
    expected = measure(honest.audio, reference(target, source, SR), hop_s=preset_hop_s(SR))
    assert numbers["mosaic"] == expected
    assert numbers["target"]["FID"] == pytest.approx(1, abs=1e-6)
    assert numbers["target"]["TIM"] == pytest.approx(0, abs=1e-6)
    assert numbers["excerpt"]["TIM"] > 0.8
    assert numbers["excerpt"]["FID"] < 0.1
    for name in ("FID", "TIM"):
        assert numbers["noise"][name] < numbers["mosaic"][name]
    assert numbers["mix"]["leak"] > 0.6
    assert numbers["mosaic"]["leak"] < MEASURES["leak"].limit


def test_measures_that_need_activations_or_pitch_are_left_out(files):
    ((numbers,), warnings) = judged("mixed.wav")
    grains = {name for name, about in MEASURES.items() if about.group == "grains"}
    assert set(numbers) == set(MEASURES) - grains - {"incons", "model_err", "rpa", "rca"}
    assert list(numbers) == [name for name in MEASURES if name in numbers]
    assert all(math.isfinite(number) for number in numbers.values())
    assert warnings == []


@pytest.mark.parametrize("hop_s", [0.001, 2.0])
def test_a_hop_out_of_range_is_refused_before_anything_is_read(hop_s):
    with pytest.raises(ParameterError, match=f"^hop_s is {hop_s:g}; pass a number from 0.002 to 1"):
        list(judge_steps(JudgeRequest("none.wav", ("none.wav",), ("none.wav",), hop_s=hop_s)))


@pytest.mark.parametrize("hop_s", [None, 0.0174])
def test_hopbuzz_is_measured_at_the_given_hop(files, target, hop_s):
    hop = round(SR * (hop_s or preset_hop_s(SR)))
    put("gated.wav", target * (np.arange(N) % hop < hop // 2))
    limit = MEASURES["hopbuzz"].limit
    assert judged("gated.wav", hop_s=hop_s)[0][0]["hopbuzz"] > 6
    assert judged("gated.wav", hop_s=1.4 * hop / SR)[0][0]["hopbuzz"] < 3
    assert judged("target.wav", hop_s=hop_s)[0][0]["hopbuzz"] < limit


def test_the_hop_is_that_of_the_presets_at_the_mosaic_s_rate():
    assert preset_hop_s(22050) == 512 / 22050
    assert preset_hop_s(44100) == 1024 / 44100
    settings = smalti.PRESETS["classic"]
    assert preset_hop_s(48000) == StftParams.from_seconds(settings.window_s, settings.hop_s, 48000).hop / 48000


# --- files of every kind


def test_rate_channels_depth_and_gain_of_a_mosaic_do_not_matter(files, mixed):
    put("rate.wav", resample(mixed, SR, 44100), sr=44100)
    put("stereo.wav", np.stack([1.5 * mixed, 0.5 * mixed], axis=1))
    put("quiet.wav", 0.01 * mixed)
    put("24.wav", mixed, subtype="PCM_24")
    (plain, rate, *others), warnings = judged("mixed.wav", "rate.wav", "stereo.wav", "quiet.wav", "24.wav")
    for other in others:
        # Float32 analysis, and 24 bits.
        assert other == pytest.approx(plain, rel=2e-3, abs=2e-3)
    # Resampling there and back loses frequencies near half the rate, which the highest mel bands show.
    assert rate == pytest.approx(plain, rel=0.05, abs=0.02)
    assert warnings == []


def test_clipping_is_measured_before_the_rate_is_changed(files, mixed):
    loud = resample(mixed, SR, 44100)
    clipped = np.clip(loud, -0.1, 0.1)
    put("clipped.wav", clipped, sr=44100)
    # Clipped tops of one or two samples do not count.
    assert 0.5 < judged("clipped.wav")[0][0]["clipping"] / (np.abs(loud) >= 0.1).mean() <= 1


def test_an_excerpt_is_compared_with_its_mosaic(files, target, mixed):
    put("cut.wav", target[SR : 3 * SR])
    put("of_it.wav", mixed[SR : 3 * SR])
    expected, _ = judged("of_it.wav", target="cut.wav")
    assert judged("of_it.wav", start_s=1.0, end_s=3.0) == (expected, [])


def test_several_sources_are_one(files, source):
    folder = files / "takes"
    folder.mkdir()
    half = len(source) // 2
    put(folder / "a.wav", source[:half])
    put("b.wav", source[half:])
    (folder / "notes.wav").write_text("take a")
    expected = measure(
        soundfile.read("mixed.wav", dtype="float32")[0],
        reference(soundfile.read("target.wav", dtype="float32")[0], [source[:half], source[half:]], SR),
        hop_s=preset_hop_s(SR),
    )
    numbers, warnings = judged("mixed.wav", sources=["takes", "b.wav"])
    assert numbers == [expected]
    assert [warning.partition(": ")[0] for warning in warnings] == ["skipped"]


# --- warnings and refusals


def test_files_that_are_hardly_mosaics_are_warned_of(files, target, source, mixed):
    put("copy.wav", 0.3 * target)
    (files / "link.wav").symlink_to("target.wav")
    put("long.wav", np.concatenate([mixed, np.zeros(round(0.6 * SR), np.float32)]))
    put("short.wav", mixed[: -round(0.6 * SR)])
    put("padded.wav", np.concatenate([mixed, np.zeros(round(0.4 * SR), np.float32)]))
    expected = {
        "target.wav": ["target.wav is the target itself: it follows perfectly and is no mosaic"],
        "link.wav": ["link.wav is the target itself: it follows perfectly and is no mosaic"],
        "copy.wav": ["copy.wav is the target in all but name: it follows perfectly and is no mosaic"],
        "long.wav": ["long.wav lasts 6.6 s and the target 6.0 s"],
        "short.wav": ["short.wav lasts 5.4 s and the target 6.0 s"],
        "padded.wav": [],
        "mixed.wav": [],
    }
    for name, beginnings in expected.items():
        warnings = judged(name)[1]
        assert len(warnings) == len(beginnings), name
        assert all(warning.startswith(begin) for warning, begin in zip(warnings, beginnings, strict=True))
    assert any(warning.startswith("source.wav is a source itself") for warning in judged("source.wav")[1])
    warnings = judged("short.wav", target="target.wav", end_s=0.9)[1]
    assert any("measures of so short a sound say little" in warning for warning in warnings)


def spoil(folder):
    put(folder / "silent.wav", np.zeros(N))
    put(folder / "next to silent.wav", np.full(N, QUIETEST / 2))
    put(folder / "one.wav", np.array([0.5]))
    (folder / "text.wav").write_text("no sound")
    (folder / "empty.wav").touch()


BAD_FILES = {
    "silent.wav": "silent",
    "next to silent.wav": "silent",
    "one.wav": r"lasts 0\.0454 ms, less than one window of 93 ms; choose a longer one",
    "text.wav": "it is not audio of a known format",
    "empty.wav": "it is empty",
    "missing.wav": "there is no such file",
}


@pytest.mark.parametrize("role", ["target", "source", "mosaic"])
@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_cannot_be_judged_are_named(files, name, role):
    spoil(files)
    names = {"target": "target.wav", "source": "source.wav", "mosaic": "mixed.wav"} | {role: name}
    with pytest.raises(AudioFileError, match=BAD_FILES[name]) as error:
        read_judged(JudgeRequest(names["target"], (names["source"],), ("mixed.wav", names["mosaic"])))
    if (name, role) != ("one.wav", "source"):  # a single source may be short beside others
        assert name in str(error.value)


@pytest.mark.parametrize("name", ["impulse", "constant", "nyquist", "loud"])
def test_odd_sounds_have_finite_numbers(files, name):
    odd = {
        "impulse": np.eye(1, N, N // 2)[0],
        "constant": np.full(N, 0.7),
        "nyquist": 0.5 * (-1.0) ** np.arange(N),
        "loud": 1e6 * np.sin(np.arange(N)),
    }[name]
    put("odd.wav", odd)
    for arguments in [("odd.wav", {}), ("mixed.wav", {"target": "odd.wav"}), ("mixed.wav", {"sources": ["odd.wav"]})]:
        (numbers,), _ = judged(arguments[0], **arguments[1])
        assert all(math.isfinite(number) for number in numbers.values())


# --- reports


def test_the_report_names_all_files_and_numbers(files):
    inputs = read_judged(JudgeRequest("target.wav", ("source.wav",), ("mixed.wav",), Excerpt(start_s=0.5)))
    report = describe_judged(inputs, list(judge_each(inputs)))
    assert json.loads(report_json(report)) == report
    assert list(report) == ["smalti", "target", "sources", "skipped", "excerpt", "mosaics", "warnings"]
    assert report["excerpt"] == {"start_s": 0.5, "end_s": None}
    assert report["target"]["duration_s"] == SECONDS - 0.5
    (mosaic,) = report["mosaics"]
    for recording in (report["target"], *report["sources"], mosaic):
        assert recording.keys() >= {"path", "sha256", "sr", "channels", "duration_s"}
    assert mosaic["path"] == "mixed.wav"
    assert mosaic["hop_s"] == 512 / SR


@pytest.mark.parametrize("preset", [name for name, settings in smalti.PRESETS.items() if settings.transpose == "off"])
def test_a_mosaic_just_made_has_all_measures(files, target, source, preset):
    inputs = read_inputs("target.wav", ["source.wav"], excerpt=Excerpt(end_s=1.5))
    made = smalti.mosaic(inputs.target.samples, inputs.source.material, inputs.sr, preset=preset, iterations=None)
    numbers, warnings = measure_made(inputs, made)
    assert warnings == ()
    assert list(numbers) == [name for name in MEASURES if name not in ("rpa", "rca")]
    blueprint = blueprint_of(made)
    assert numbers == measure(made.audio, reference(target[: 3 * SR // 2], source, SR), blueprint=blueprint)
    # These two measure the sound before it was shaped, since shaping is no fault of the grains.
    unshaped = replace(made.settings, colour=0, attacks=0)
    plain = smalti.mosaic(inputs.target.samples, inputs.source.material, inputs.sr, preset=unshaped)
    again, _ = measure_made(inputs, plain)
    for name in ("model_err", "incons"):
        assert again[name] == pytest.approx(numbers[name], rel=1e-3, abs=1e-4)


def test_a_transposed_mosaic_is_compared_with_its_shifted_source_and_its_melody(files, target, source):
    inputs = read_inputs("target.wav", ["source.wav"], excerpt=Excerpt(end_s=1.5))
    samples, own = inputs.target.samples, inputs.source.material
    params = smalti.StftParams.from_seconds(
        smalti.PRESETS["melodic"].window_s, smalti.PRESETS["melodic"].hop_s, inputs.sr
    )
    f0 = np.full(params.n_frames(len(samples)), 330.0)
    made = smalti.mosaic(
        samples,
        own,
        inputs.sr,
        preset="melodic",
        transpose="follow",
        target_f0=f0,
        source_f0=[np.full(params.n_frames(len(recording)), 220.0) for recording in own],
    )
    numbers, warnings = measure_made(inputs, made)
    assert warnings == ()
    assert list(numbers) == list(MEASURES)
    assert 0 <= numbers["rpa"] <= numbers["rca"] <= 1
    grains = made.parts[0].grains.dictionary.recordings[0]
    against = reference(samples, [*own, grains], inputs.sr)
    assert numbers["tim_nn"] == measure(made.audio, against)["tim_nn"]


def test_consistency_is_measured_on_the_inverted_spectrogram(files):
    inputs = read_inputs("target.wav", ["source.wav"], excerpt=Excerpt(end_s=1.5))
    made = smalti.mosaic(inputs.target.samples, inputs.source.material, inputs.sr, preset="balanced")
    bare = smalti.mosaic(
        inputs.target.samples,
        inputs.source.material,
        inputs.sr,
        preset=replace(made.settings, phase_iterations=0, colour=0, attacks=0),
    )
    # Griffin-Lim makes the spectrogram more consistent, and the sound nearer to the model's.
    (before, _), (after, _) = measure_made(inputs, bare), measure_made(inputs, made)
    assert after["incons"] < 0.9 * before["incons"]
    assert after["model_err"] < 0.9 * before["model_err"]
    apart = smalti.mosaic(np.stack([inputs.target.samples] * 2), inputs.source.material, inputs.sr, channels="apart")
    assert {"incons", "model_err", "run_ms", "poly"}.isdisjoint(measure_made(inputs, apart)[0])


def test_a_run_of_shifted_grains_never_goes_beyond_one_grain():
    sr = 11025
    t = np.arange(sr) / sr
    source = 0.2 * (np.sin(2 * np.pi * 220 * t) + 0.5 * np.sin(2 * np.pi * 440 * t))
    hz = np.repeat([330.0, 262.0, 392.0], sr // 2)
    follow = replace(smalti.PRESETS["melodic"], transpose="follow")
    params = StftParams.from_seconds(follow.window_s, follow.hop_s, sr)
    n_frames = params.n_frames(len(hz))
    melody = 0.2 * np.sin(2 * np.pi * np.cumsum(hz) / sr)
    made = smalti.mosaic(
        melody,
        source,
        sr,
        preset=follow,
        target_f0=hz[np.minimum(np.arange(n_frames) * params.hop, len(hz) - 1)],
        source_f0=np.full(params.n_frames(sr), 220.0),
    )
    (part,) = made.parts
    grains, blueprint = part.grains, blueprint_of(made)
    assert len(np.unique(grains.runs)) > 2
    np.testing.assert_array_equal(blueprint.segments, grains.runs)
    heard = sounding(blueprint.activations, blueprint.norms, blueprint.segments)
    # Each sounding run lies within one grain.
    for run in np.unique(heard.runs):
        assert len(set(grains.runs[heard.atoms[heard.runs == run]])) == 1
    numbers = measure(made.audio, reference(melody, source, sr), blueprint=blueprint)
    assert numbers["run_ms"] == pytest.approx(run_ms(heard, params.hop / sr))
    longest = np.bincount(grains.runs).max()
    assert params.hop / sr < numbers["run_ms"] / 1000 <= longest * params.hop / sr
    # The last frame of a grain and the first of the next, a frame later, would be one diagonal without the border.
    last = int(np.flatnonzero(np.diff(blueprint.segments))[0])
    H = np.zeros((len(grains.runs), n_frames))
    H[[last, last + 1], [10, 11]] = 1
    separate, joined = (sounding(H, np.ones(len(H)), segments).runs for segments in (blueprint.segments, None))
    assert (len(set(separate)), len(set(joined))) == (2, 1)


def test_a_silent_target_has_no_measures(files):
    put("silent.wav", np.zeros(N))
    inputs = read_inputs("silent.wav", ["source.wav"])
    numbers, (warning,) = measure_made(inputs, None)
    assert numbers is None
    assert warning == "no measures: silent.wav is silent, and nothing can be compared with silence"
