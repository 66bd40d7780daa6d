"""Mosaics whose settings change over time: they follow their curves, and a constant curve acts like its number."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import prepared
from smalti import PRESETS, StftParams, mosaic
from smalti.curves import Curve, on_frames
from smalti.dsp.loudness import true_peak
from smalti.grains.runs import find_runs
from smalti.mosaicing.sketch import Stroke
from smalti.mosaicing.solve import solver_of
from smalti.presets import configure
from smalti.score.render import render, stems

SR = 11025
GRID = StftParams.from_seconds(PRESETS["balanced"].window_s, PRESETS["balanced"].hop_s, SR)
HOP_S = GRID.hop / SR
EVERY_SEARCH = pytest.mark.parametrize("search", ["never", "always"])


def notes(rng, seconds):
    """Short random notes over quiet noise."""
    t = np.arange(round(seconds * SR)) / SR
    out = 1e-3 * rng.standard_normal(len(t))
    for start in np.arange(0, seconds, 0.15):
        span = (t >= start) & (t < start + 0.25)
        for hz in 100 * 2 ** rng.uniform(0, 4, 2):
            out[span] += 0.1 * np.sin(2 * np.pi * hz * t[span])
    return out.astype(np.float32)


@pytest.fixture
def sounds(rng):
    return notes(rng, 2.0), [notes(rng, 1.5), notes(rng, 1.0)]


def last_of(target, source, settings):
    job = prepared(target, source, SR, settings)
    *_, step = solver_of(job).steps()
    return job, step.H if isinstance(step.H, np.ndarray) else step.H.toarray()


@EVERY_SEARCH
@pytest.mark.parametrize("preset", ["balanced", "faithful"])
def test_a_constant_curve_sounds_like_its_number(sounds, search, preset):
    target, source = sounds
    settings = replace(PRESETS[preset], search=search)
    constants = {
        "layers": 3,
        "grain_length_s": 0.2,
        "level_db": -6.0,
        **({"drift": 40.0} if preset == "balanced" else {}),
    }
    curves = {name: [(0.5, value), (1, value), (1, value), (9, value)] for name, value in constants.items()}
    by_number, by_curve = (mosaic(target, source, SR, preset=settings, **knobs) for knobs in (constants, curves))
    np.testing.assert_array_equal(by_number.audio, by_curve.audio)


def test_a_constant_glide_sounds_like_its_shift(sounds):
    target, source = sounds
    f0 = [np.full(GRID.n_frames(len(samples)), 200.0) for samples in source]
    shift, glide = (
        mosaic(target, source, SR, preset="melodic", transpose=transpose, source_f0=f0)
        for transpose in ((3.0, 3.0), "0:3, 1:3")
    )
    np.testing.assert_array_equal(shift.audio, glide.audio)
    assert glide.transposition.way == "glide"
    assert glide.transposition.n_voices == 1


@EVERY_SEARCH
def test_each_target_frame_has_as_many_source_frames_as_its_layers(sounds, search):
    target, source = sounds
    settings = replace(configure("faithful", layers="0:1, 1:1, 1:6, 2:9"), search=search)
    job, H = last_of(target, source, settings)
    wanted = np.array(settings.layers_in(H.shape[1], HOP_S))
    assert set(wanted[: round(1 / HOP_S) - 1]) == {1}
    assert wanted[-1] == 9
    sounding = (H > 0).sum(axis=0)
    assert (sounding <= wanted).all()
    assert (sounding == wanted)[job.spectrum.any(axis=0)].mean() > 0.9


@EVERY_SEARCH
def test_grains_get_denser_with_their_layers(sounds, search):
    target, source = sounds
    _, H = last_of(target, source, replace(configure("balanced", layers="0:1, 1:1, 1:5"), search=search, masking_db=40))
    half = round(1 / HOP_S)
    early, late = (H[:, : half - 3] > 0).sum(axis=0), (H[:, half + 3 :] > 0).sum(axis=0)
    # Up to half of a grain may lie where there is no room.
    assert early.mean() < 2
    assert late.mean() > early.mean() + 1


@EVERY_SEARCH
def test_grains_of_let_it_bee_get_longer_with_grain_length(rng, sounds, search):
    target, source = sounds
    settings = replace(configure("balanced", grain_length_s="0:0.02, 1:0.02, 1:0.6"), search=search, choose=None)
    rules = settings.constraints(HOP_S, GRID.n_frames(len(target)))
    assert set(rules.continuity) == {0, 12}
    job, H = last_of(target, source, settings)
    runs = find_runs(H * np.maximum(job.dictionary.norms, 1e-9)[:, None], job.dictionary.recording_ids)
    early = runs.frames + runs.lengths <= round(1 / HOP_S)
    assert np.average(runs.lengths[~early], weights=runs.lengths[~early]) > 1.5 * np.average(
        runs.lengths[early], weights=runs.lengths[early]
    )


@EVERY_SEARCH
def test_grains_that_may_drift_are_longer(sounds, search):
    target, source = sounds
    mean = {}
    for drift in (0, 30, 100):
        settings = replace(configure("balanced", drift=drift), search=search)
        job, H = last_of(target, source, settings)
        runs = find_runs((H > 0).astype(float), job.dictionary.recording_ids)
        mean[drift] = np.average(runs.lengths, weights=runs.lengths)
    assert mean[0] < mean[30] <= mean[100]


def test_the_drift_of_a_grain_is_that_of_its_start(sounds):
    target, source = sounds
    still, late = (last_of(target, source, configure("balanced", drift=drift))[1] for drift in (0, "0:0, 1:0, 1:100"))
    # Grains that begin in the first second stay the same, although later ones change.
    half = round(0.7 / HOP_S)
    np.testing.assert_array_equal(still[:, :half] > 0, late[:, :half] > 0)
    assert ((still > 0) != (late > 0)).any()


def test_each_grain_glides_with_the_curve():
    tone = (0.2 * np.sin(2 * np.pi * 300 * np.arange(round(1.5 * SR)) / SR)).astype(np.float32)
    curve = Curve((0.0, 1.0, 1.0), (0.0, 12.0, -5.0))
    f0 = np.full(GRID.n_frames(len(tone)), 300.0)
    made = mosaic(
        tone, tone, SR, preset=configure("melodic", colour=0, attacks=0), transpose=curve, source_f0=f0, tune_cents=50
    )
    for at in (0.2, 0.45, 0.7, 1.2):
        piece = made.audio[round((at - 0.04) * SR) : round((at + 0.04) * SR)]
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 2**16))
        hz = spectrum.argmax() * SR / 2**16
        wanted = 300 * 2 ** ((curve.at(at) + 0.5) / 12)
        # So short a window resolves a quarter of a semitone.
        assert abs(12 * np.log2(hz / wanted)) < 0.25
    (part,) = made.parts
    glide = curve.at(part.grains.frames * HOP_S) + 0.5
    # Frames next to the jump are left out: they take the pitch at the next eighth of a frame.
    away = np.abs(part.grains.frames * HOP_S - 1) > HOP_S
    np.testing.assert_allclose(12 * np.log2(part.grains.ratios)[away], glide[away], atol=0.1)


def test_a_glide_follows_no_melody():
    tone = np.sin(np.arange(SR) / 5)
    with pytest.raises(ValueError, match=r"^target_f0 means nothing while transpose is 0:0, 4:12; add"):
        mosaic(tone, tone, SR, preset="melodic", transpose="0:0, 4:12", target_f0=np.full(GRID.n_frames(SR), 200.0))


def test_a_curve_has_the_values_of_frames_at_their_times():
    curve = Curve((0.0, 1.0), (0.0, 10.0))
    np.testing.assert_allclose(on_frames(curve, 5, 0.25), [0, 2.5, 5, 7.5, 10])


# --- level


def test_the_level_is_a_gain_on_top_of_the_others(sounds):
    target, source = 0.05 * sounds[0], sounds[1]
    plain = mosaic(target, source, SR)
    assert plain.limited_db == 0
    curve = Curve((0.0, 1.0, 1.0, 2.0), (0.0, -12.0, 3.0, 3.0))
    made = mosaic(target, source, SR, level_db=curve)
    gains = 10 ** (curve.at(np.arange(len(target)) / SR) / 20)
    np.testing.assert_allclose(made.audio, plain.audio * gains, rtol=1e-5, atol=1e-7)
    assert made.gain_db == plain.gain_db
    softer = mosaic(target, source, SR, level_db=-6)
    np.testing.assert_allclose(softer.audio, plain.audio * 10 ** (-6 / 20), rtol=1e-5, atol=1e-7)
    assert softer.loudness == pytest.approx(plain.loudness - 6, abs=0.2)


@pytest.mark.parametrize("loudness", ["target", "as-is", -20.0])
def test_peaks_are_limited_at_every_level(sounds, loudness):
    target, source = sounds
    made = mosaic(target, source, SR, loudness=loudness, level_db="0:-20, 1:-20, 1:24")
    assert made.true_peak_db < -1
    assert true_peak(made.audio, SR) < 10 ** (-1 / 20)
    assert (made.limited_db < 0) == (loudness != "as-is")


def test_the_level_applies_to_every_channel(sounds):
    target, source = sounds
    stereo = [np.stack([samples, 0.5 * samples[::-1]]) for samples in source]
    plain, made = (mosaic(0.05 * target, stereo, SR, level_db=level) for level in (0.0, "0:-40, 1:-40, 1:0"))
    half = SR - 10
    np.testing.assert_allclose(made.audio[:, :half], 0.01 * plain.audio[:, :half], rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(made.audio[:, SR + 10 :] == 0, plain.audio[:, SR + 10 :] == 0)


@pytest.mark.parametrize(
    "knobs",
    [
        {"layers": "0:1, 2:4", "drift": "0:0, 1:80", "level_db": "0:0, 2:-20"},
        {"level_db": "0:24", "loudness": -16.0},
        {"level_db": "0:-20, 1:24", "loudness": "as-is"},
        {"preset": "melodic", "transpose": "0:0, 1:7, 1:-5", "level_db": 3},
    ],
)
def test_a_score_with_curves_sounds_like_its_mosaic(sounds, knobs):
    target, source = sounds
    pitched = {"source_f0": [np.full(GRID.n_frames(len(y)), 200.0) for y in source]} if "preset" in knobs else {}
    strokes = [Stroke((0.5, 1.0), None, "source 1", 0.0)]
    made = mosaic(target, source, SR, **knobs, sketch=strokes, **pitched)
    np.testing.assert_array_equal(render(made.score, source, target=target), made.audio)
    parts = list(stems(made.score, source, made.score.origins, target=target))
    np.testing.assert_allclose(sum(parts), made.audio, atol=1e-5)
