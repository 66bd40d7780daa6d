"""Several channels: mixing down, the source channels that each channel is made of, and the image of the source."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from helpers import finish, prepared
from smalti import PRESETS, StftParams, build_dictionary, griffin_lim, istft, mosaic, stft, synthesize
from smalti.dsp.channels import (
    as_channels,
    match_coherence,
    n_channels,
    restore_image,
    stack_channels,
    to_mono,
    toward_coherence,
)
from smalti.dsp.conditioning import highpass
from smalti.dsp.phase import PHASES, shared_griffin_lim
from smalti.grains.synthesis import target_correction
from smalti.mosaicing.job import Solution
from smalti.mosaicing.mosaic import Part, Solving, assemble, part_of, parts_of
from smalti.mosaicing.prepare import channel_jobs, output_channels
from smalti.mosaicing.solve import solver_of
from smalti.nmf.base import MatrixStep
from smalti.presets import configure
from smalti.settings import CHANNELS
from strategies import dtypes, pairwise, seeds

pytestmark = pytest.mark.samples

SR = 8000
GRID = StftParams(256, 64)
EVERY_PHASE = pytest.mark.parametrize("phase", PHASES)
WIDTHS = (1, 2, 6)


@pytest.fixture(autouse=True)
def one_thread():
    """Limit BLAS to one thread, since test workers that each use every core slow each other down."""
    with threadpool_limits(1):
        yield


def sound(channels, length, seed):
    """Noise of `channels` channels that rises and falls, each at its own rate; (L,) if there is one."""
    rng = np.random.default_rng(seed)
    t = np.arange(length) / SR
    swells = [0.2 + np.sin(2 * np.pi * (3 + c) * t + c) ** 2 for c in range(channels)]
    noise = [0.05 * swell * rng.standard_normal(length) for swell in swells]
    # An offset would be removed from each channel or from the mix, depending on the settings.
    return stack_channels([channel - channel.mean() for channel in noise])


def make(target, source, *, preset="classic", **options):
    options = {"loudness": "as-is", "iterations": 4} | options
    # The source is not faded, so that sounds can be compared sample by sample.
    return mosaic(target, source, SR, preset=replace(PRESETS[preset], fade_s=0), params=GRID, **options)


# Mixing down


@given(st.integers(1, 6), dtypes, seeds)
def test_a_mix_is_the_mean(channels, dtype, seed):
    samples = np.random.default_rng(seed).uniform(-1, 1, (channels, 40)).astype(dtype)
    mix = to_mono(samples)
    assert mix.dtype == dtype
    np.testing.assert_allclose(mix, np.mean(samples, axis=0), rtol=0, atol=4 * np.finfo(dtype).eps)


def test_one_channel_is_its_own_mix(rng):
    samples = rng.standard_normal(50)
    assert to_mono(samples) is samples
    np.testing.assert_array_equal(to_mono(np.stack([samples] * 2)), samples)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("left_over", [0.0, 0.05])
def test_if_channels_cancel_the_loudest_is_the_mix(rng, channels, left_over):
    samples = np.stack([(-1) ** c * np.ones(50) for c in range(channels)]) * rng.standard_normal(50)
    samples += left_over * np.abs(samples).max() * 0.1
    samples[1] *= 1.01
    np.testing.assert_array_equal(to_mono(samples), samples[1])


def test_channels_that_only_differ_do_not_count_as_cancelling(rng):
    # The most extreme case: one of 64 channels sounds.
    samples = np.zeros((64, 50))
    samples[7] = rng.standard_normal(50)
    np.testing.assert_allclose(to_mono(samples), samples[7] / 64)


def test_silence_is_mixed_to_silence():
    assert not to_mono(np.zeros((2, 9))).any()


def test_shapes():
    assert (n_channels(np.zeros(3)), n_channels(np.zeros((2, 3)))) == (1, 2)
    assert as_channels(np.zeros(3)).shape == (1, 3)
    assert stack_channels([np.zeros(3)]).shape == (3,)
    assert stack_channels([np.zeros(3)] * 2).shape == (2, 3)


# Dictionaries


def test_a_mono_recording_sounds_in_all_channels_and_a_narrow_one_in_the_first_ones(rng):
    mono, stereo, wide = (rng.standard_normal(shape) for shape in (200, (2, 300), (4, 150)))
    dictionary = build_dictionary([mono, stereo, wide], SR, params=GRID)
    assert dictionary.n_channels == 4
    assert [recording.shape for recording in dictionary.recordings] == [(200,), (2, 300), (4, 150)]
    for channel in range(4):
        heard = [mono, stereo[channel] if channel < 2 else np.zeros(300), wide[channel]]
        np.testing.assert_array_equal(
            dictionary.channel_frames()[channel], np.hstack([stft(samples, GRID) for samples in heard])
        )
    mixes = [to_mono(samples) for samples in (mono, stereo, wide)]
    np.testing.assert_array_equal(dictionary.spectra, np.hstack([stft(mix, GRID) for mix in mixes]))


def test_a_part_of_a_dictionary_has_the_frames_of_the_whole(rng):
    mono, stereo, wide = (rng.standard_normal(shape) for shape in (2000, (2, 3000), (4, 1500)))
    dictionary = build_dictionary([mono, stereo, wide], SR, params=StftParams(256, 64, "hamming"))
    mixing = dictionary.toward_images(rng.random(dictionary.n_atoms))
    # No frame of the second recording, but the first and the last frame of all.
    used = np.array([0, 7, 30, dictionary.n_atoms - 5, dictionary.n_atoms - 1])
    smaller = dictionary.only(used)
    kept = [mixing[0], mixing[2]]
    for matrices, kept_matrices in ((None, None), (mixing, kept)):
        channels, smaller_channels = dictionary.channel_frames(matrices), smaller.channel_frames(kept_matrices)
        assert len(channels) == len(smaller_channels) == 4
        for frames, smaller_frames in zip(channels, smaller_channels, strict=True):
            np.testing.assert_allclose(smaller_frames, frames[:, used], rtol=1e-12, atol=1e-12)


def test_a_dictionary_does_not_change_with_the_arrays_it_was_built_from(rng):
    stereo = rng.standard_normal((2, 300))
    dictionary = build_dictionary(stereo, SR, params=GRID)
    before = dictionary.channel_frames()[1]
    stereo[:] = 0
    np.testing.assert_array_equal(dictionary.channel_frames()[1], before)


def test_one_channel_takes_that_of_recordings_as_wide_and_the_mix_of_others(rng):
    mono, stereo, wide = (rng.standard_normal(shape) for shape in (200, (2, 300), (4, 150)))
    dictionary = build_dictionary([mono, stereo, wide], SR, params=GRID)
    right = dictionary.one_channel(1, 2)
    expected = build_dictionary([mono, stereo[1], to_mono(wide)], SR, params=GRID)
    np.testing.assert_array_equal(right.spectra, expected.spectra)
    np.testing.assert_array_equal(right.channel_frames()[0], expected.spectra)
    np.testing.assert_array_equal(dictionary.to_mono().channel_frames()[0], dictionary.spectra)
    assert right.n_channels == dictionary.to_mono().n_channels == 1
    alone = build_dictionary(mono, SR, params=GRID)
    assert alone.to_mono() is alone.one_channel(0, 2) is alone


def test_frames_whose_channels_cancel_are_not_played():
    """Their mix is nearly silent, so a gain that fits the mix would be far too loud for the channels."""
    source = sound(2, 4000, seed=1)
    source[1, 1500:2500] = -source[0, 1500:2500] * (1 + 1e-6)
    made = make(sound(1, 3000, seed=2), source)
    inside = slice(-(-(1500 + 128) // 64), (2500 - 128) // 64)
    assert made.activations[inside].nnz == 0
    assert made.dictionary.norms[inside].max() == 0
    assert made.activations.nnz > 0
    assert np.abs(made.audio).max() < 1


# The table of docs/methods.md, row by row


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("source_width", WIDTHS)
@pytest.mark.parametrize("target_width", WIDTHS)
def test_every_combination_has_the_right_number_of_channels(target_width, source_width, channels):
    target, source = sound(target_width, 2000, seed=1), sound(source_width, 2500, seed=2)
    made = make(target, source, channels=channels, preset="balanced")
    width = {"source": source_width, "apart": target_width, "mono": 1}[channels]
    assert output_channels(made.settings, target_width, [source_width]) == width
    assert made.audio.shape == ((2000,) if width == 1 else (width, 2000))
    assert np.isfinite(made.audio).all()
    assert all(channel.any() for channel in as_channels(made.audio))
    assert 0 < made.overlap <= 1
    assert len(made.parts) == (target_width if channels == "apart" else 1)


@EVERY_PHASE
@pytest.mark.parametrize("source_width", WIDTHS)
@pytest.mark.parametrize("target_width", WIDTHS)
def test_mono_is_the_mosaic_of_the_mixes(target_width, source_width, phase):
    target, source = sound(target_width, 2000, seed=1), sound(source_width, 2500, seed=2)
    made = make(target, source, channels="mono", phase=phase)
    np.testing.assert_array_equal(made.audio, make(to_mono(target), to_mono(source), phase=phase).audio)


@EVERY_PHASE
@pytest.mark.parametrize("source_width", WIDTHS)
@pytest.mark.parametrize("target_width", WIDTHS)
def test_apart_is_a_mosaic_of_each_channel_of_the_target(target_width, source_width, phase):
    target, source = sound(target_width, 2000, seed=1), sound(source_width, 2500, seed=2)
    made = make(target, source, channels="apart", phase=phase, rng=5)
    singles = []
    for channel, samples in enumerate(as_channels(target)):
        own = source[channel] if source_width == target_width > 1 else to_mono(source)
        singles.append(make(samples, own, phase=phase, rng=5))
        np.testing.assert_array_equal(as_channels(made.audio)[channel], singles[-1].audio)
        np.testing.assert_array_equal(made.parts[channel].activations.toarray(), singles[-1].activations.toarray())
    mean = np.mean([single.activations.toarray() for single in singles], axis=0)
    np.testing.assert_allclose(made.activations.toarray(), mean, rtol=1e-12)
    divergences = np.sum([single.divergences for single in singles], axis=0)
    np.testing.assert_allclose(made.divergences, divergences, rtol=1e-12)


@pytest.mark.parametrize("source_width", WIDTHS)
@pytest.mark.parametrize("target_width", WIDTHS)
def test_by_default_one_set_of_gains_plays_every_channel_of_the_source(target_width, source_width):
    target, source = sound(target_width, 2000, seed=1), sound(source_width, 2500, seed=2)
    made = make(target, source)
    mixes = make(to_mono(target), to_mono(source))
    np.testing.assert_array_equal(made.activations.toarray(), mixes.activations.toarray())
    for channel, samples in zip(as_channels(made.audio), as_channels(source), strict=True):
        alone = synthesize(made.activations, build_dictionary(samples, SR, params=GRID), length=2000)
        np.testing.assert_array_equal(channel, alone)


def test_the_widest_recording_decides(rng):
    sources = [sound(width, 1500, seed=width) for width in (1, 2, 3)]
    made = make(sound(1, 2000, seed=9), sources)
    assert made.audio.shape == (3, 2000)
    # Channel 3 has the first recording and the third; the second sounds in channels 1 and 2 only.
    heard = [sources[0], np.zeros(1500), sources[2][2]]
    alone = synthesize(made.activations, build_dictionary(heard, SR, params=GRID), length=2000)
    np.testing.assert_allclose(made.audio[2], alone, rtol=0, atol=1e-12)


def test_an_array_of_one_channel_acts_like_a_plain_signal():
    target, source = sound(1, 2000, seed=1), sound(1, 2500, seed=2)
    np.testing.assert_array_equal(make(target[None], source[None]).audio, make(target, source).audio)


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_ready_dictionary_plays_the_same(channels):
    target, source = sound(2, 2000, seed=1), sound(2, 2500, seed=2)
    ready = build_dictionary(source, SR, params=GRID)
    by_dictionary = mosaic(target, ready, SR, preset="classic", iterations=4, loudness="as-is", channels=channels)
    np.testing.assert_array_equal(by_dictionary.audio, make(target, source, channels=channels).audio)


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("channels", CHANNELS)
def test_every_preset_plays_stereo(preset, channels):
    options = {} if preset == "sparse" else {"iterations": 3}
    target, source = sound(2, 2000, seed=1).astype(np.float32), sound(2, 2500, seed=2).astype(np.float32)
    made = mosaic(target, source, SR, preset=preset, params=GRID, channels=channels, **options)
    assert made.audio.shape == ((2000,) if channels == "mono" else (2, 2000))
    assert made.audio.dtype == np.float32
    assert np.isfinite(made.audio).all()


# The image


@EVERY_PHASE
@pytest.mark.parametrize("target_phase", [0, 60])
def test_a_silent_channel_of_the_source_stays_silent(phase, target_phase):
    source = sound(3, 2500, seed=2)
    source[1] = 0
    audio = make(sound(2, 2000, seed=1), source, phase=phase, target_phase=target_phase).audio
    assert not audio[1].any()
    assert audio[0].any()
    assert audio[2].any()


def test_a_silent_channel_driven_apart_is_silent():
    target, source = sound(2, 2000, seed=1), sound(2, 2500, seed=2)
    for silent_target, silent_source in ((0, None), (None, 1)):
        muted_target, muted_source = target.copy(), source.copy()
        if silent_target is not None:
            muted_target[silent_target] = 0
        if silent_source is not None:
            muted_source[silent_source] = 0
        audio = make(muted_target, muted_source, channels="apart").audio
        assert [channel.any() for channel in audio] == [silent_target != 0, silent_source != 1]


@EVERY_PHASE
@pytest.mark.parametrize("preset", ["classic", "balanced"])
def test_identical_channels_stay_identical_and_are_the_mono_mosaic(preset, phase):
    target, source = sound(1, 2000, seed=1), sound(1, 2500, seed=2)
    audio = make(target, np.stack([source] * 3), preset=preset, phase=phase).audio
    for channel in audio[1:]:
        np.testing.assert_allclose(channel, audio[0], rtol=0, atol=1e-12)
    alone = make(target, source, preset=preset, phase=phase).audio
    # The mean of three equal channels differs from one by rounding.
    np.testing.assert_allclose(audio[0], alone, rtol=0, atol=1e-8 * np.abs(alone).max())


@EVERY_PHASE
@pytest.mark.parametrize("gains", [(1.0, 0.5), (0.0, 1.0), (0.3, -0.1), (1.0, -1.0)])
def test_a_panned_source_stays_where_it_is(phase, gains):
    """The channels keep the source's ratio of levels, and its sign, at every sample."""
    mono = sound(1, 2500, seed=2)
    source = np.stack([gain * mono for gain in gains])
    made = make(sound(2, 2000, seed=1), source, phase=phase, target_phase=30)
    np.testing.assert_allclose(gains[1] * made.audio[0], gains[0] * made.audio[1], rtol=0, atol=1e-12)
    assert made.audio.any()


@EVERY_PHASE
@pytest.mark.parametrize("channels", ["source", "apart"])
def test_swapping_the_source_s_channels_swaps_the_mosaic_s(phase, channels):
    target, source = sound(1, 2000, seed=1), sound(2, 2500, seed=2)
    target = np.stack([target, target])
    start = np.random.default_rng(4).random((GRID.n_frames(2500), GRID.n_frames(2000)))
    audio, swapped = (make(target, s, phase=phase, channels=channels, init=start).audio for s in (source, source[::-1]))
    np.testing.assert_allclose(swapped, audio[::-1], rtol=0, atol=1e-10)


@EVERY_PHASE
@given(channels=st.integers(2, 4), length=st.integers(300, 900), seed=seeds)
def test_the_source_frames_in_their_own_order_are_the_source(phase, channels, length, seed):
    source = np.random.default_rng(seed).uniform(-1, 1, (channels, length))
    dictionary = build_dictionary(source, SR, params=StftParams(64, 16))
    H = np.eye(dictionary.n_atoms)
    audio = synthesize(H, dictionary, length=length, phase=phase, target=dictionary.spectra)
    # Where the mix is nearly 0, the factor is a quotient of two tiny numbers, and rounding shows.
    np.testing.assert_allclose(audio, source, rtol=0, atol=1e-8)


def coherence(samples, params=GRID):
    """|sum X_1 X_2*| over the root of the product of both powers, in four octaves from 250 Hz, over all frames."""
    first, second = (stft(channel, params) for channel in samples)
    hz = np.arange(params.n_bins) * SR / params.n_fft
    out = []
    for low in (250, 500, 1000, 2000):
        band = (hz >= low) & (hz < 2 * low)
        powers = [np.sum(np.abs(X[band]) ** 2) for X in (first, second)]
        out.append(np.abs(np.sum(first[band] * second[band].conj())) / np.sqrt(powers[0] * powers[1]))
    return np.array(out)


@pytest.mark.parametrize(("shared", "phase", "preset"), pairwise([0.0, 0.5, 0.7, 1.0], PHASES, ["classic", "balanced"]))
def test_the_coherence_between_channels_is_the_source_s(preset, phase, shared):
    """The sources range from two unrelated channels to one signal that is panned."""
    length = 4 * SR
    common, left, right = (sound(1, length, seed=seed) for seed in (2, 3, 4))
    source = np.stack([shared * common + (1 - shared) * left, 0.4 * shared * common + (1 - shared) * right])
    audio = make(sound(1, 2 * SR, seed=1), source, preset=preset, phase=phase, iterations=10).audio
    assert np.abs(coherence(audio) - coherence(source)).max() < 0.1


def loud_and_narrow_then_quiet_and_wide():
    """Two seconds of one signal in both channels, then two seconds of unrelated channels, 20 dB quieter."""
    narrow = sound(1, 2 * SR, seed=2)
    return np.hstack([np.stack([narrow, narrow]), 0.1 * sound(2, 2 * SR, seed=3)])


def played(source, first, last, *, gain=1.0):
    """A dictionary, activations that play its frames from sample `first` to `last`, and the length in samples."""
    dictionary = build_dictionary(source, SR, params=GRID)
    rows = np.arange(int(first) // GRID.hop, int(last) // GRID.hop)
    H = np.zeros((dictionary.n_atoms, len(rows)))
    H[rows, rows - rows[0]] = gain
    return dictionary, H, (len(rows) - 1) * GRID.hop


@pytest.mark.parametrize("phase", ["griffin-lim", "target"])
def test_frames_that_are_wider_than_their_recording_are_narrowed_towards_it(rng, phase):
    source = loud_and_narrow_then_quiet_and_wide()
    dictionary, H, length = played(source, 2.2 * SR, 3.8 * SR, gain=10)
    target = stft(rng.standard_normal(length), GRID)
    made, plain = (synthesize(H, dictionary, length=length, phase=name, target=target) for name in (phase, "source"))
    assert coherence(source).min() > 0.95
    # The source's own phase leaves frames as recorded. The others raise the shared part by at most 6 dB and lower the
    # rest by at most 6 dB, which gives a coherence of at most .88.
    assert coherence(plain).max() < 0.2
    assert coherence(made).min() > 0.75


def test_an_instrument_stays_in_place_beside_others(rng):
    """One instrument is on the left, then another on the right, and only the first is played."""
    left, right = (sound(1, 2 * SR, seed=seed) for seed in (2, 3))
    hall = 1e-3 * sound(2, 4 * SR, seed=4)
    source = np.stack([np.concatenate([left, 0.3 * right]), np.concatenate([0.3 * left, right])]) + hall
    dictionary, H, length = played(source, 0.2 * SR, 1.8 * SR)
    audio = synthesize(H, dictionary, length=length, phase="griffin-lim")
    assert np.std(audio[1]) / np.std(audio[0]) == pytest.approx(0.3, abs=0.02)
    # Its own channels are coherent, though those of the whole recording are not.
    assert coherence(source).max() < 0.7
    assert coherence(audio).min() > 0.95


def test_each_recording_is_mixed_toward_its_own_image():
    wide, narrow = sound(2, SR, seed=2), np.stack([sound(1, SR, seed=3)] * 2)
    used = np.random.default_rng(4).random(2 * GRID.n_frames(SR))
    images = build_dictionary([wide, narrow], SR, params=GRID).toward_images(used)
    for recording, weights, matrices in zip((wide, narrow), np.split(used, 2), images, strict=True):
        (alone,) = build_dictionary(recording, SR, params=GRID).toward_images(weights)
        np.testing.assert_array_equal(matrices, alone)
    # Two channels of one signal stay as they are, and so does a recording whose frames are all used alike.
    np.testing.assert_allclose(images[1] @ np.ones(2), 1, rtol=0, atol=1e-9)
    (same,) = build_dictionary(wide, SR, params=GRID).toward_images(np.ones(GRID.n_frames(SR)))
    np.testing.assert_allclose(same, np.broadcast_to(np.eye(2), same.shape), rtol=0, atol=1e-6)
    assert build_dictionary([wide, narrow[0]], SR, params=GRID).toward_images(used)[1] is None
    assert build_dictionary(wide, SR, params=GRID).toward_images(np.zeros(GRID.n_frames(SR))) == [None]


def covariance(rng, n_bins, channels):
    root = noise(rng, n_bins, channels, channels)
    return root @ root.conj().swapaxes(1, 2)


@given(channels=st.integers(2, 4), silent=st.booleans(), seed=seeds)
def test_mixing_toward_a_coherence_changes_levels_by_at_most_six_decibels(channels, silent, seed):
    rng = np.random.default_rng(seed)
    got, wanted = (covariance(rng, 20, channels) for _ in range(2))
    if silent:
        got[:, 0] = got[:, :, 0] = 0
    gains = np.linalg.svd(toward_coherence(got, wanted), compute_uv=False)
    assert gains.max() <= 10 ** (6 / 20) + 1e-9
    assert gains.min() >= 10 ** (-6 / 20) - 1e-9
    if silent:
        matrices = toward_coherence(got, wanted)
        np.testing.assert_array_equal(matrices[:, 0], np.broadcast_to(np.eye(channels)[0], (20, channels)))


def test_the_coherence_is_restored_after_gains_over_time(rng):
    samples = loud_and_narrow_then_quiet_and_wide()
    turned = samples * np.repeat([0.2, 1.0], 2 * SR)
    assert np.abs(coherence(turned) - coherence(samples)).min() > 0.15
    back = match_coherence(turned, samples, GRID)
    assert np.abs(coherence(back) - coherence(samples)).max() < 0.1
    np.testing.assert_allclose(match_coherence(samples, samples, GRID), samples, rtol=0, atol=1e-9)


def noise(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def test_one_factor_gives_the_target_s_phase_at_the_wanted_power(rng):
    channels, target, magnitudes = noise(rng, 2, 33, 20), noise(rng, 33, 20), rng.random((33, 20))
    # These channels cancel in the mix, and still none may exceed the wanted power.
    channels[1, 5] = -channels[0, 5] * (1 + 1e-9)
    mix = channels.mean(axis=0)
    factor = target_correction(magnitudes, list(channels), mix, target)
    np.testing.assert_allclose(np.linalg.norm(factor * channels, axis=0), magnitudes, rtol=1e-12)
    np.testing.assert_allclose(np.exp(1j * np.angle(factor * mix)), np.exp(1j * np.angle(target)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_iter", [0, 1, 7])
def test_one_signal_at_several_levels_is_corrected_like_a_single_channel(rng, n_iter):
    length, levels = 300, np.array([0.2, 0.0, 1.3])
    own, magnitudes = stft(rng.standard_normal(length), GRID), rng.random((GRID.n_bins, GRID.n_frames(300)))
    joint = np.linalg.norm(levels) * magnitudes
    factor = shared_griffin_lim(joint, [level * own for level in levels], GRID, length=length, n_iter=n_iter)
    alone = griffin_lim(magnitudes, own, GRID, length=length, n_iter=n_iter)
    np.testing.assert_allclose(istft(factor * own, GRID, length=length), alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_without_momentum_channels_become_more_consistent_in_every_iteration(rng, channels):
    length = 600
    given = noise(rng, channels, GRID.n_bins, GRID.n_frames(length))
    magnitudes = np.linalg.norm(given, axis=0)
    errors = []
    for n_iter in range(6):
        factor = shared_griffin_lim(magnitudes, list(given), GRID, length=length, n_iter=n_iter, momentum=0)
        np.testing.assert_allclose(np.abs(factor), 1, rtol=1e-10)
        spectra = [factor * own for own in given]
        weights = np.where((np.arange(GRID.n_bins) % (GRID.n_bins - 1)) > 0, 2, 1)[:, None]
        errors.append(
            sum(np.sum(weights * np.abs(X - stft(istft(X, GRID, length=length), GRID)) ** 2) for X in spectra)
        )
    assert (np.diff(errors) < 0).all()


def test_an_image_narrowed_by_phase_turns_is_restored_at_the_same_power(rng):
    length = 8000
    common, side = (stft(rng.standard_normal(length), GRID) for _ in range(2))
    turn = np.exp(1j * np.angle(noise(rng, *common.shape)))
    # The common part stays, and the phase of the difference is turned at random.
    like = [common + side, 0.5 * (common - side)]
    turned = [common + turn * side, 0.5 * (common - turn * side)]
    got = [istft(own, GRID, length=length) for own in turned]
    made = restore_image(turned, like, GRID, length=length)
    for low in range(8, 120, 28):
        bins = slice(low, low + 28)
        spectra = [[stft(y, GRID)[bins] for y in pair] for pair in (got, made)]
        ideal, before, after = (
            np.array([[np.vdot(b, a) for b in pair] for a in pair]) for pair in ([own[bins] for own in like], *spectra)
        )
        images = [matrix / np.trace(matrix).real for matrix in (ideal, before, after)]
        assert np.abs(images[1] - images[0]).max() > 0.1
        assert np.abs(images[2] - images[0]).max() < 0.05
        assert np.trace(after).real == pytest.approx(np.trace(before).real, rel=0.2)


def test_consistent_spectra_are_left_alone(rng):
    samples = rng.standard_normal((3, 1000))
    samples[1] = 0
    spectra = [stft(channel, GRID) for channel in samples]
    made = restore_image(spectra, spectra, GRID, length=1000)
    np.testing.assert_allclose(made, samples, rtol=0, atol=1e-10)
    assert not made[1].any()


# The parts of the job


def test_the_steps_of_a_job_driven_apart_make_its_mosaic():
    target, source = sound(2, 2000, seed=1), sound(2, 2500, seed=2)
    job = prepared(target, source, SR, configure("classic", channels="apart", iterations=3), params=GRID)
    assert job.n_solves == 2
    parts = []
    for i, part in enumerate(channel_jobs(job)):
        np.testing.assert_array_equal(part.target, target[i])
        steps = list(solver_of(part).steps(7))
        parts.append(part_of(part, solver_of(part).solution(steps[-1]), [step.divergence for step in steps]))
    made = mosaic(target, source, SR, preset="classic", channels="apart", iterations=3, params=GRID, rng=7)
    np.testing.assert_array_equal(assemble(job, parts).audio, made.audio)
    with pytest.raises(ValueError, match="parts has 1 entries; this job has 2, one for each of channel_jobs"):
        assemble(job, parts[:1])


def test_the_parts_of_a_job_are_solved_in_steps_that_count_all_channels(monkeypatch):
    target, source = sound(2, 2000, seed=1), sound(2, 2500, seed=2)
    job = prepared(target, source, SR, configure("classic", channels="apart", iterations=3), params=GRID)
    solvers, init = [], np.full((job.dictionary.n_atoms, job.spectrum.shape[1]), 0.5)

    def recorded_solver(channel, **options):
        solvers.append(solver_of(channel, **options))
        return solvers[-1]

    monkeypatch.setattr("smalti.mosaicing.mosaic.solver_of", recorded_solver)
    made = list(parts_of(job, init=init))
    kinds = [type(event) for event in made]
    assert kinds == 2 * [*4 * [Solving], Solution, Part]
    progress = [(event.done, event.total, event.step is None) for event in made if isinstance(event, Solving)]
    assert progress == [(0, 6, True), (1, 6, False), (2, 6, False), (3, 6, False),
                        (3, 6, True), (4, 6, False), (5, 6, False), (6, 6, False)]  # fmt: skip
    # One solver makes the steps and the solution of a channel, from the start that was given.
    assert len(solvers) == 2
    assert all(solver.init is init for solver in solvers)
    expected = mosaic(
        target, source, SR, preset="classic", channels="apart", iterations=3, params=GRID, init=init
    )  # fmt: skip
    np.testing.assert_array_equal(assemble(job, [made[5], made[11]]).audio, expected.audio)


def test_a_job_of_one_solve_is_its_own_channel_job():
    job = prepared(sound(2, 2000, seed=1), sound(2, 2500, seed=2), SR, configure("classic"), params=GRID)
    assert job.n_solves == 1
    assert list(channel_jobs(job)) == [job]
    np.testing.assert_array_equal(job.target, to_mono(job.recording))
    made = finish(job, MatrixStep(1, np.zeros((job.dictionary.n_atoms, job.spectrum.shape[1])), None), [])
    assert made.audio.shape == (2, 2000)


def test_a_generator_draws_other_numbers_for_every_channel():
    target, source = np.stack([sound(1, 2000, seed=1)] * 2), sound(1, 2500, seed=2)
    made = make(target, source, channels="apart", rng=np.random.default_rng(3))
    assert not np.array_equal(made.audio[0], made.audio[1])


def test_an_offset_is_taken_out_of_each_channel(rng):
    source = sound(2, 2500, seed=2)
    shifted = source + np.array([[0.5], [-0.3]])
    target, start = sound(1, 2000, seed=1), rng.random((GRID.n_frames(2500), GRID.n_frames(2000)))
    centred = np.stack([highpass(channel - channel.mean(), SR) for channel in shifted])
    clean = {"preset": replace(PRESETS["classic"], remove_offset=True, loudness="as-is", iterations=4), "params": GRID}
    from_shifted, from_centred = (mosaic(target, source, SR, init=start, **clean) for source in (shifted, centred))
    np.testing.assert_allclose(from_shifted.audio, from_centred.audio, atol=1e-9)


def test_settings_are_kept(rng):
    target, source = sound(2, 2000, seed=1), sound(2, 2500, seed=2)
    made = make(target, source, channels="apart", preset="notebook")
    assert made.settings == replace(PRESETS["notebook"], channels="apart", iterations=4)
