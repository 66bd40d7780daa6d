"""Scores rendered: the mosaic again sample for sample, and stems that add up to it."""

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings

import smalti
from scores import GRID, LENGTH, SR, mosaics, score_of
from smalti import PRESETS, StftParams, build_dictionary, render, stems
from smalti.grains.sound import needs_target
from smalti.score.render import dry_score
from smalti.workflows.demo import demo_source, demo_target
from strategies import dtypes, seeds

RATE = 22050
SHORT = int(0.8 * RATE)


@cache
def recordings(channels):
    """A tune, and two sources to make it of: (L,) or (C, L) float32."""
    target, source = demo_target(RATE)[:SHORT], demo_source(RATE)
    sources = [source[:SHORT], source[SHORT : int(2.2 * SHORT)]]
    if channels == 1:
        return target, sources
    # The first source is stereo, its channels differ by a delay; the second is mono.
    return np.stack([target, target[::-1]]), [np.stack([sources[0], np.roll(sources[0], 200)]), sources[1]]


@pytest.mark.parametrize("channels", ["source", "apart", "mono", None])
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_score_of_a_mosaic_renders_it_sample_for_sample(preset, channels):
    target, sources = recordings(1 if channels is None else 2)
    how = {} if PRESETS[preset].method == "pursuit" else {"iterations": 4}
    if preset == "melodic":
        how["transpose"] = "follow"
    m = smalti.mosaic(target, sources, RATE, preset=preset, channels=channels, level_follow=50, **how)
    np.testing.assert_array_equal(render(m.score, sources, target=target), m.audio)
    assert len(m.score.parts) == len(m.score)
    for part, made in enumerate(m.parts):
        sounding = m.score.sounding(part)
        gains = (sounding.shifted if sounding.shifts else sounding.H).data
        np.testing.assert_array_equal(np.sort(gains), np.sort(made.activations.data[made.activations.data != 0]))


@pytest.mark.parametrize(
    ("preset", "how"),
    [
        ("balanced", {"search": "always"}),
        ("balanced", {"target_phase": 40.0, "loudness": -14.0}),
        ("melodic", {"transpose": (-5.0, 5.0), "tape": True}),
        ("melodic", {"transpose": "chords"}),
        ("classic", {"loudness": -8.0}),
    ],
)
def test_a_score_renders_its_mosaic_with_any_settings(preset, how):
    target, sources = recordings(2)
    settings = replace(PRESETS[preset], iterations=4, **how)
    m = smalti.mosaic(target, sources, RATE, preset=settings)
    np.testing.assert_array_equal(render(m.score, sources, target=target), m.audio)
    by_name = dict(zip([source.name for source in m.score.sources], sources, strict=True))
    np.testing.assert_array_equal(render(m.score, by_name, target=target), m.audio)
    np.testing.assert_array_equal(render(m.score, m.job.dictionary, target=target), m.audio)


def test_a_long_source_of_which_every_frame_sounds_keeps_its_image(rng):
    # So many frames that the image would be read from every second one, if not all of them sounded.
    common = np.linspace(0, 1, 1100 * 16) * rng.standard_normal(1100 * 16)
    source = np.stack([common + 0.3 * rng.standard_normal(len(common)), common])
    target = rng.standard_normal(500)
    m = smalti.mosaic(target, source, 8000, preset="notebook", params=StftParams(64, 16), iterations=2)
    assert m.activations.nnz == m.activations.shape[0] * m.activations.shape[1]
    np.testing.assert_array_equal(render(m.score, source, target=target), m.audio)


def test_a_mosaic_of_silence_is_rendered_as_silence():
    target, sources = recordings(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m = smalti.mosaic(np.zeros_like(target), sources, RATE)
    assert len(m.score) == 0
    np.testing.assert_array_equal(render(m.score, sources, target=target), m.audio)


@settings(max_examples=30)
@given(mosaics(), seeds)
def test_a_dry_score_is_its_grains_cut_out_enveloped_and_added_up_in_place(case, seed):
    """No spectra: a grain is its source from `source_start` on, under the envelope of its gains and the windows."""
    dictionary, H = case
    score = score_of(scipy.sparse.csc_array(H), dictionary)
    params, half = dictionary.params, dictionary.params.n_fft // 2
    power = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(params.n_fft) / params.n_fft)) ** 2
    total = np.zeros(LENGTH + 2 * params.n_fft)
    for n in range(score.n_frames):
        total[n * params.hop + half : n * params.hop + half + params.n_fft] += power
    out = np.zeros_like(total)
    for grain, origin in zip(score, score.origins.tolist(), strict=True):
        sound = np.pad(dictionary.recordings[origin].astype(np.float64), 2 * params.n_fft + LENGTH)
        shift = grain.source_start + 2 * params.n_fft + LENGTH - grain.start
        for step, gain in enumerate(grain.gains.tolist()):
            at = grain.start + step * params.hop + half
            place = np.arange(at, at + params.n_fft)
            out[place] += gain * power * sound[place - params.n_fft + shift]
    expected = (out[params.n_fft :] / np.where(total > 0, total, 1)[params.n_fft :])[:LENGTH]
    audio = render(score, list(dictionary.recordings), dry=True)
    peak = max(1.0, np.abs(expected).max())
    # The score is as loud as its gains make it, unless its peaks would be too high.
    scale = np.abs(audio).max() / np.abs(expected).max() if np.abs(expected).max() > 0.8 else 1.0
    np.testing.assert_allclose(
        audio, scale * expected, rtol=0, atol=peak * (2e-5 if audio.dtype == np.float32 else 1e-9)
    )


@pytest.mark.parametrize("preset", ["balanced", "classic", "notebook", "melodic"])
@pytest.mark.parametrize("channels", [1, 2])
def test_stems_add_up_to_the_mosaic_and_a_lone_stem_is_the_mosaic(preset, channels):
    target, sources = recordings(channels)
    how = {"transpose": "follow"} if preset == "melodic" else {}
    m = smalti.mosaic(target, sources, RATE, preset=preset, iterations=8, **how)
    made = list(stems(m.score, sources, m.score.origins, target=target))
    assert [stem.shape for stem in made] == [m.audio.shape] * 2
    np.testing.assert_allclose(sum(made), m.audio, rtol=0, atol=1e-6)
    # A stem that has all the grains is the mosaic.
    alone = m.score.only(m.score.origins == m.score.origins[0])
    (only,) = stems(alone, sources, np.zeros(len(alone), int), target=target)
    np.testing.assert_allclose(only, render(alone, sources, target=target), rtol=0, atol=1e-6)


def test_a_stem_without_grains_is_next_to_silent(rng):
    target, sources = recordings(1)
    m = smalti.mosaic(target, sources, RATE, iterations=8)
    groups = 2 * np.ones(len(m.score), int)
    nothing, less, everything = stems(m.score, sources, groups, target=target)
    # All stems share what the later stages put into bins that no grain sounds in.
    assert max(np.abs(nothing).max(), np.abs(less).max()) < 1e-4
    np.testing.assert_allclose(nothing + less + everything, m.audio, rtol=0, atol=1e-6)


def test_grains_that_are_turned_down_sound_quieter():
    target, sources = recordings(1)
    m = smalti.mosaic(target, sources, RATE, preset="classic", loudness=-30.0, iterations=8)
    quieter = replace(m.score, gains=m.score.gains / 2)
    np.testing.assert_allclose(render(quieter, sources), m.audio / 2, rtol=0, atol=1e-7)


@given(dtypes, seeds)
@settings(max_examples=5)
def test_rendering_keeps_the_type_of_the_mosaic(dtype, seed):
    rng = np.random.default_rng(seed)
    source = rng.standard_normal(500).astype(dtype)
    dictionary = build_dictionary(source, SR, params=StftParams(64, 16))
    H = scipy.sparse.csc_array(rng.random((dictionary.n_atoms, GRID.n_frames(LENGTH))).astype(dtype))
    assert render(score_of(H, dictionary), source).dtype == dtype


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ([np.ones(9)], {}, r"sources has 1 recordings; the score is made of 2 \(source 1, source 2\)"),
        ({"source 1": np.ones(9)}, {}, "sources has no 'source 2', which the score is made of"),
        ([np.ones(9)] * 2, {"target": None}, "is drawn towards its target, target; pass target, or dry=True"),
        ([np.ones(9)] * 2, {"target": np.ones(9)}, "target has 9 samples but the score 17640"),
    ],
)
def test_missing_sources_and_targets_are_named(sources, options, message):
    target, own = recordings(1)
    score = smalti.mosaic(target, own, RATE, iterations=4).score
    assert needs_target(score.settings)
    assert not needs_target(dry_score(score).settings)
    with pytest.raises(ValueError, match=message):
        render(score, sources, **({"target": target} | options))
