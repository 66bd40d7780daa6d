"""Estimates of memory: above the peak of a job, but not far."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from helpers import finish, prepared
from smalti.dsp.loudness import integrated_loudness
from smalti.dsp.stft import StftParams
from smalti.grains.descriptors import n_bands
from smalti.metrics.evaluation import target_leak
from smalti.mosaicing.memory import memory_needed, memory_searched
from smalti.mosaicing.solve import solver_of
from smalti.presets import PRESETS, configure

SR = 8000


@pytest.fixture(autouse=True)
def one_thread():
    """Test workers that each ask for every core wait for one another."""
    with threadpool_limits(1):
        yield


def tone(n, sr=SR, hz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(n) / sr)).astype(np.float32)


# Many atoms by many frames; a long target; a long source.
@pytest.mark.parametrize(
    ("n_target", "n_source", "n_fft"), [(16000, 16000, 64), (60000, 4000, 1024), (4000, 60000, 1024)]
)
@pytest.mark.parametrize(
    ("preset", "phase", "layers", "channels"),
    [
        ("classic", "source", None, 1),
        ("classic", "griffin-lim", None, 1),
        ("notebook", "target", None, 1),
        ("notebook", "griffin-lim", None, 1),
        ("sparse", "target", None, 1),
        ("sparse", "source", 20, 1),
        ("classic", "source", None, 2),
        ("classic", "griffin-lim", None, 2),
        ("sparse", "target", None, 6),
        *((preset, None, None, 1) for preset in PRESETS if PRESETS[preset].transpose == "off"),
        ("balanced", None, None, 2),
    ],
)
def test_memory_is_estimated_from_above_but_not_far(rng, preset, phase, layers, channels, n_target, n_source, n_fft):
    settings = configure(preset, phase=phase, layers=layers, iterations=None if preset == "sparse" else 2)
    params = StftParams(n_fft, n_fft // 4)
    target = rng.standard_normal(n_target).astype(np.float32)
    source = rng.standard_normal((channels, n_source)).astype(np.float32)
    # Loading the code of the measures takes memory too, which is not the job's.
    target_leak(target, target, SR)
    # Two recordings, since joining them takes memory as well.
    halves = [source[:, : n_source // 2], source[:, n_source // 2 :]]
    peak, needed = peak_and_need(settings, target, halves, params, channels=channels)
    assert peak < needed < 2.5 * peak


def peak_and_need(settings, target, sources, params, sr=SR, channels=1, **tracks):
    """The peak memory of a job in bytes, and its estimate."""
    # Its code is loaded before, as that is not the job's memory.
    integrated_loudness(target, sr)
    tracemalloc.start()
    try:
        job = prepared(target, sources, sr, settings, params=params, **tracks)
        divergences = []
        for step in solver_of(job).steps():
            # Read as the command line reads it, which keeps a product alive.
            divergences.append(step.divergence)
        finish(job, step, divergences)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    n_atoms, n_frames = job.dictionary.n_atoms, job.spectrum.shape[1]
    return peak, memory_needed(n_atoms, n_frames, settings, params, channels=channels, sr=sr)


def humming(n, sr=SR):
    """A source in which every frame has a pitch clear enough for shifting."""
    return sum(tone(n, sr, 220 * k, 0.3 / k) for k in range(1, 5))


def chromatic(n_frames, first_hz=220.0, notes=24):
    """A melody of every semitone of two octaves."""
    return first_hz * 2 ** (np.arange(n_frames) * notes // n_frames / 12)


def shifted_peak_and_need(rng, source, transpose, n_target, n_fft):
    """Peak memory and its estimate for a target of noise and shifted grains."""
    n_source = len(source)
    settings = configure("melodic", transpose=transpose, iterations=2)
    settings = replace(settings, voices=3)
    params = StftParams(n_fft, n_fft // 4)
    target = rng.standard_normal(n_target).astype(np.float32)
    melody = chromatic(params.n_frames(n_target))
    tracks = {"source_f0": np.full(2 * params.n_frames(n_source // 2), 220.0)}
    if transpose == "follow":
        tracks["target_f0"] = melody
    elif transpose == "chords":
        # A third and a fifth above the melody, most notes are also notes of other voices.
        tracks["target_f0"] = np.stack([melody * 2 ** (step / 12) for step in (0, 4, 7)])
    sources = [source[: n_source // 2], source[n_source // 2 :]]
    return peak_and_need(settings, target, sources, params, **tracks)


@pytest.mark.parametrize(
    ("transpose", "n_target", "n_source", "n_fft"),
    [
        *(
            (transpose, *sizes)
            for transpose in ("follow", "chords")
            for sizes in ((6000, 6000, 64), (20000, 4000, 1024), (4000, 30000, 1024))
        ),
        ((-6, 6), 5000, 5000, 64),
        ((3, 3), 4000, 20000, 1024),
    ],
)
def test_memory_of_shifted_grains_is_estimated_from_above_but_not_far(rng, transpose, n_target, n_source, n_fft):
    peak, needed = shifted_peak_and_need(rng, humming(n_source), transpose, n_target, n_fft)
    assert peak < needed < 2.5 * peak


@pytest.mark.parametrize("transpose", ["follow", "chords"])
def test_a_source_that_can_hardly_be_shifted_needs_less_memory_than_estimated(rng, transpose):
    # The activations have rows only for frames that can be shifted. Their number is not known before the analysis, so
    # the estimate counts all frames. In noise, which is given a made-up pitch here, they are few.
    noise = rng.standard_normal(30000).astype(np.float32)
    peak, needed = shifted_peak_and_need(rng, noise, transpose, 4000, 1024)
    most, same = shifted_peak_and_need(rng, humming(30000), transpose, 4000, 1024)
    assert peak < 0.6 * most < needed == same


# A source of one note, and a long one.
@pytest.mark.parametrize(("target_s", "source_s"), [(4, 1), (3, 20)])
def test_following_a_melody_takes_half_as_much_again_and_the_source_once_for_each_note(rng, target_s, source_s):
    sr, plain = 11025, PRESETS["balanced"]
    params = StftParams.from_seconds(plain.window_s, plain.hop_s, sr)
    target, source = rng.standard_normal(target_s * sr).astype(np.float32), humming(source_s * sr, sr)
    n_atoms = params.n_frames(len(source))
    tracks = {"target_f0": chromatic(params.n_frames(len(target))), "source_f0": np.full(n_atoms, 220.0)}
    untransposed, _ = peak_and_need(replace(plain, iterations=2), target, source, params, sr)
    follow = replace(plain, transpose="follow", iterations=2)
    peak, _ = peak_and_need(follow, target, source, params, sr, **tracks)
    assert peak < 1.5 * untransposed + 1.2 * (4 * 24 * n_bands(params.hop, sr) * n_atoms)


@pytest.mark.parametrize("preset", ["balanced", "source-like"])
def test_memory_of_a_searched_source_is_estimated_from_above(rng, preset):
    sr, settings = 22050, configure(preset, search="always", iterations=2)
    params = StftParams.from_seconds(settings.window_s, settings.hop_s, sr)
    target, source = (rng.standard_normal(seconds * sr).astype(np.float32) for seconds in (3, 20))
    peak, _ = peak_and_need(settings, target, [source], params, sr)
    assert peak < memory_searched(params.n_frames(len(source)), params.n_frames(len(target)), params, sr=sr)


@pytest.mark.parametrize("sr", [8000, 192_000])
def test_features_are_counted_with_the_bands_that_the_rate_has(sr):
    params = StftParams.from_seconds(0.1, 0.025, sr)
    held, mapped = (memory_searched(1000, 10, params, sr=sr, held=held) for held in (True, False))
    assert held - mapped == 1000 * (2 * n_bands(params.hop, sr) + 8 * params.hop)
    views = configure("balanced", compare="views")
    more = memory_needed(2000, 10, views, params, sr=sr) - memory_needed(1000, 10, views, params, sr=sr)
    bins = configure("balanced", compare="bins")
    less = memory_needed(2000, 10, bins, params, sr=sr) - memory_needed(1000, 10, bins, params, sr=sr)
    assert more - less == 4 * 6 * n_bands(params.hop, sr) * 1000
