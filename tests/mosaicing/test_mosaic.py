"""Laws of the whole job on short sounds, with every preset and phase."""

from dataclasses import replace

import kit_mosaicing
import numpy as np
import pytest
import scipy.sparse
from kit_mosaicing import (
    AS_RECORDED,
    EVERY_PHASE,
    EVERY_PRESET,
    EVERY_TYPE,
    GRID,
    LENGTH,
    PLAIN,
    SOURCE,
    SR,
    TARGET,
    TYPES,
    UNSHIFTED,
    briefly,
    glide,
    make,
)

from helpers import finish, prepared
from smalti import PRESETS, Settings, StftParams, activation_steps, istft, mosaic, stft
from smalti.dsp.bands import a_weights
from smalti.dsp.channels import match_coherence, to_mono
from smalti.dsp.conditioning import fade_edges, highpass
from smalti.dsp.dynamics import CEILING_DB, at_gain
from smalti.dsp.loudness import integrated_loudness, loudness_contour, true_peak
from smalti.dsp.onsets import onset_times
from smalti.dsp.phase import PHASES
from smalti.dsp.shaping import COLOUR_WINDOW_S, PURITY_WINDOW_S, attack_shape, colour, edge_gains, fine_colour, purity
from smalti.grains.sound import IN_TUNE_ATTACKS, Aim, shaped
from smalti.grains.synthesis import synthesize
from smalti.metrics import evaluate
from smalti.mosaicing.compare import compared
from smalti.mosaicing.mosaic import melodies_of, part_of
from smalti.mosaicing.solve import solver_of
from smalti.nmf.base import MatrixStep
from smalti.presets import configure
from strategies import pairwise


@pytest.mark.parametrize(("preset", "phase", "dtype"), pairwise(sorted(PRESETS), PHASES, TYPES))
def test_a_mosaic_is_finite_and_has_the_length_precision_and_rate_of_its_target(preset, phase, dtype):
    made = make(TARGET.astype(dtype), SOURCE.astype(dtype), preset=preset, phase=phase)
    n_atoms, n_frames = GRID.n_frames(4000), GRID.n_frames(LENGTH)
    assert (made.audio.dtype, made.audio.shape) == (dtype, (LENGTH,))
    assert np.isfinite(made.audio).all()
    assert made.audio.any()
    assert made.sr == SR
    assert isinstance(made.activations, scipy.sparse.csc_array)
    assert (made.activations.dtype, made.activations.shape) == (dtype, (n_atoms, n_frames))
    assert made.activations.min() >= 0
    assert made.divergences.dtype == np.float64
    assert np.isfinite(made.divergences).all()
    assert (made.leak is None) == (phase != "target")
    assert made.loudness == pytest.approx(integrated_loudness(made.audio, SR), abs=1e-9)
    assert 0 < made.overlap <= 1
    assert made.settings == replace(PRESETS[preset], phase=phase)
    assert made.dictionary.params == GRID


@AS_RECORDED
@EVERY_PHASE
def test_single_precision_sounds_like_double(preset, phase):
    fine, coarse = (make(TARGET.astype(t), SOURCE.astype(t), preset=preset, phase=phase) for t in (float, np.float32))
    # A phase found by iteration depends on rounding where the sound is nearly silent.
    tolerance = 1e-2 if phase == "griffin-lim" else 1e-3
    assert np.linalg.norm(coarse.audio - fine.audio) < tolerance * np.linalg.norm(fine.audio)


@EVERY_PRESET
def test_the_same_inputs_and_seed_give_the_same_samples(preset):
    first, again = make(preset=preset), make(preset=preset)
    np.testing.assert_array_equal(first.audio, again.audio)
    np.testing.assert_array_equal(first.divergences, again.divergences)
    seeded = make(preset=preset, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(seeded.audio, first.audio)


@EVERY_PRESET
def test_the_seed_matters_if_the_start_is_random(preset):
    first, other = make(preset=preset), make(preset=preset, rng=1)
    assert np.array_equal(first.audio, other.audio) == (PRESETS[preset].method == "pursuit")


@EVERY_PRESET
def test_inputs_are_left_alone(preset):
    target, source = TARGET.copy(), SOURCE.copy()
    make(target, source, preset=preset)
    np.testing.assert_array_equal(target, TARGET)
    np.testing.assert_array_equal(source, SOURCE)


@EVERY_PRESET
@EVERY_PHASE
def test_a_silent_stretch_of_the_target_is_silent_in_the_mosaic(preset, phase):
    settings = PRESETS[preset]
    # A grain reaches into the silence by one window, and each filter of `smalti.dsp.shaping` by a window of its own.
    reach = GRID.n_fft + sum(
        round(window_s * SR)
        for window_s, acts in ((COLOUR_WINDOW_S, settings.colour), (PURITY_WINDOW_S, settings.purity))
        if acts
    )
    start, stop = 1000, 1000 + 2 * (reach + 2 * GRID.n_fft)
    target = glide(stop + 464, 500)
    target[start:stop] = 0
    audio = make(target, preset=preset, phase=phase).audio
    # Filtering leaves rounding errors.
    assert np.abs(audio[start + reach : stop - reach]).max() < 1e-12 * np.abs(audio).max()
    assert audio[:start].any()
    assert audio[stop:].any()


@pytest.mark.parametrize(("preset", "phase", "dtype"), pairwise(sorted(PRESETS), PHASES, TYPES))
def test_a_target_may_fade_out_to_the_last_denormal(preset, phase, dtype):
    fade = np.geomspace(1, float(np.finfo(dtype).smallest_subnormal), LENGTH).astype(dtype)
    audio = make(TARGET.astype(dtype) * fade, SOURCE.astype(dtype), preset=preset, phase=phase).audio
    assert np.isfinite(audio).all()
    assert audio.any()


@EVERY_PRESET
@EVERY_PHASE
def test_a_silent_target_makes_silence_with_a_warning(preset, phase):
    with pytest.warns(UserWarning, match="target is silent, and so is its mosaic") as caught:
        made = make(np.zeros(LENGTH), preset=preset, phase=phase)
    # The warning points at the caller, which is `make`.
    assert [warning.filename for warning in caught] == [kit_mosaicing.__file__]
    assert made.audio.shape == (LENGTH,)
    assert not made.audio.any()
    assert made.activations.nnz == 0
    assert (made.overlap, made.gain_db) == (1, 0)


@pytest.mark.parametrize(("preset", "phase", "length"), pairwise(sorted(PRESETS), PHASES, [1, 63, 255]))
def test_a_target_shorter_than_a_window_keeps_its_length(preset, phase, length):
    with pytest.warns(UserWarning, match=rf"target has {length} samples?, fewer than one window of 256; it is padded"):
        made = make(TARGET[100 : 100 + length], preset=preset, phase=phase)
    assert made.audio.shape == (length,)
    assert np.isfinite(made.audio).all()


@EVERY_PRESET
def test_sources_shorter_than_a_window_are_padded_and_named(preset):
    with pytest.warns(
        UserWarning, match="source 2 has 200 samples, fewer than one window of 256; it is padded"
    ) as caught:
        made = make(source=[SOURCE, SOURCE[:200]], preset=preset)
    assert [warning.filename for warning in caught] == [kit_mosaicing.__file__]
    assert made.dictionary.n_atoms == GRID.n_frames(4000) + GRID.n_frames(200)
    assert np.isfinite(made.audio).all()


@pytest.mark.parametrize(("preset", "phase", "loudness"), pairwise(UNSHIFTED, PHASES, ["as-is", "target"]))
def test_true_peaks_stay_below_the_ceiling_at_every_level(preset, phase, loudness):
    # Without shaping, the sound is the synthesis at one gain.
    settings = replace(PRESETS[preset], colour=0, attacks=0)
    made = make(30 * TARGET, SOURCE, preset=settings, phase=phase, loudness=loudness)
    assert made.peak_gain_db < 0
    assert CEILING_DB - 0.2 < 20 * np.log10(true_peak(made.audio, SR)) < CEILING_DB
    assert made.true_peak_db == pytest.approx(20 * np.log10(true_peak(made.audio, SR)), abs=1e-9)
    loud = synthesize(
        made.activations,
        made.dictionary,
        length=LENGTH,
        phase=phase,
        target=stft(30 * TARGET, GRID),
        n_iter=made.settings.phase_iterations,
        momentum=made.settings.momentum,
        aim=made.settings.aim,
    )
    gained = 10 ** (made.gain_db / 20) * loud
    if loudness == "as-is":
        assert made.gain_db == made.peak_gain_db < 0 == made.limited_db
        np.testing.assert_allclose(made.audio, gained, rtol=1e-9, atol=1e-12)
    else:
        # A target 30 times as loud is limited as far as the limiter goes, and then turned down.
        assert made.limited_db == pytest.approx(-6, abs=0.05)
        np.testing.assert_allclose(made.audio, at_gain(gained, SR, 0.0).samples, rtol=1e-9, atol=1e-12)


@AS_RECORDED
def test_activations_are_gains_of_the_frames_as_recorded(preset):
    # The level of the source varies a lot, and so do the ratios of gains at unit norm to gains as recorded.
    source = SOURCE * np.geomspace(1e-3, 1, len(SOURCE))
    settings = configure(preset)
    job = prepared(TARGET, source, SR, settings, params=GRID)
    *_, last = solver_of(job).steps()
    made = finish(job, last, [])
    scale = job.dictionary.norms[:, None] if settings.unit_norm else 1
    np.testing.assert_allclose(scale * made.activations.toarray(), last.H, rtol=1e-12)
    _, W = compared(replace(job, settings=replace(settings, compare="bins")))
    heard = W.any(axis=0)
    np.testing.assert_allclose((scale * W.T).T[:, heard], job.dictionary.magnitudes[:, heard], rtol=1e-12)


@EVERY_PRESET
def test_a_silent_stretch_of_the_source_has_no_activations(preset):
    source = np.concatenate([SOURCE[:1500], np.zeros(1000), SOURCE[1500:]])
    made = make(source=source, preset=preset)
    silent = made.dictionary.norms == 0
    assert silent.any()
    assert made.activations[silent].nnz == 0
    assert np.isfinite(made.audio).all()


@pytest.mark.parametrize("gain", [0.1, 0.125, 3.0])
@EVERY_PHASE
@EVERY_TYPE
def test_classic_follows_the_level_of_its_target(gain, phase, dtype):
    target, source = 0.1 * TARGET.astype(dtype), SOURCE.astype(dtype)
    plain, scaled = (make(y.astype(dtype), source, phase=phase, loudness="as-is") for y in (target, gain * target))
    assert plain.gain_db == scaled.gain_db == 0
    tolerance = 1e-4 if dtype is np.float32 else 1e-10
    np.testing.assert_allclose(
        scaled.audio, gain * plain.audio, rtol=0, atol=tolerance * gain * np.abs(plain.audio).max()
    )
    assert scaled.overlap == pytest.approx(plain.overlap, abs=1e-6)


def test_a_target_made_of_the_source_is_found_in_it():
    # The target is 2000 samples of the source from a whole hop on, so the best atoms are those of these samples.
    start = 20 * GRID.hop
    made = make(SOURCE[start : start + 2000], preset="sparse", phase="source")
    best = made.activations.toarray().argmax(axis=0)
    inside = slice(2, -3)
    np.testing.assert_array_equal(best[inside], 20 + np.arange(len(best))[inside])
    np.testing.assert_allclose(made.audio[300:1700], SOURCE[start + 300 : start + 1700], rtol=0, atol=1e-9)


@EVERY_PHASE
@EVERY_TYPE
def test_the_overlap_is_one_for_the_target_itself(phase, dtype):
    target = TARGET.astype(dtype)
    job = prepared(target, target, SR, configure("classic", phase=phase), params=GRID)
    made = finish(job, MatrixStep(1, np.eye(job.dictionary.n_atoms, dtype=dtype), None), [])
    np.testing.assert_allclose(made.audio, target, rtol=0, atol=1e-5 if dtype is np.float32 else 1e-12)
    assert made.overlap == pytest.approx(1, abs=1e-5 if dtype is np.float32 else 1e-12)
    assert made.overlap <= 1
    assert made.divergences.shape == (0,)


def test_the_overlap_is_the_bhattacharyya_coefficient_of_the_spectrograms():
    made = make()
    V, Y = (np.abs(stft(y, GRID)) for y in (TARGET, made.audio))
    expected = np.sum(np.sqrt(V / V.sum()) * np.sqrt(Y / Y.sum()))
    assert made.overlap == pytest.approx(expected, rel=1e-12)


def test_a_mosaic_is_shown_in_a_line():
    m = mosaic(TARGET, np.stack([SOURCE, SOURCE]), SR, params=GRID, iterations=2)
    n_atoms, n_frames = m.activations.shape
    assert repr(m) == (
        f"<Mosaic of {len(TARGET) / SR:.2f} s at {SR} Hz, channels: 2, activations: {n_atoms} x {n_frames}, "
        f"overlap: {m.overlap:.0%}>"
    )


def test_the_overlap_is_low_if_target_and_source_have_no_frequency_in_common():
    t = np.arange(LENGTH) / SR
    low, high = (0.1 * np.hanning(LENGTH) * np.sin(2 * np.pi * hz * t) for hz in (300, 3000))
    assert make(low, high, preset="sparse", phase="source").overlap < 0.1
    assert make(low, low, preset="sparse", phase="source").overlap > 0.99


def test_the_steps_of_the_job_make_its_mosaic():
    job = prepared(TARGET, SOURCE, SR, configure("classic", iterations=5), params=GRID)
    steps = list(solver_of(job).steps(7))
    by_steps = finish(job, steps[-1], [step.divergence for step in steps])
    made = make(iterations=5, rng=7)
    np.testing.assert_array_equal(by_steps.audio, made.audio)
    np.testing.assert_array_equal(by_steps.divergences, made.divergences)
    # An early step gives a mosaic, too.
    np.testing.assert_array_equal(finish(job, steps[1], []).activations.toarray(), steps[1].H)


def test_griffin_lim_takes_its_iterations_and_momentum_from_the_settings():
    job = prepared(
        TARGET, SOURCE, SR, configure("classic", phase="griffin-lim", iterations=3, loudness="as-is"), params=GRID
    )
    *_, step = solver_of(job).steps()
    for n_iter, momentum in [(0, 0.99), (4, 0.99), (4, 0.2)]:
        settings = replace(job.settings, phase_iterations=n_iter, momentum=momentum)
        made = finish(replace(job, settings=settings), step, [])
        options = {"length": LENGTH, "phase": "griffin-lim", "n_iter": n_iter, "momentum": momentum}
        np.testing.assert_array_equal(made.audio, synthesize(step.H, job.dictionary, **options))


def test_signed_pursuit_may_have_negative_gains():
    signed = replace(PRESETS["sparse"], nonnegative=False, layers=4)
    assert make(preset=signed).activations.min() < 0
    assert make(preset="sparse", layers=4).activations.min() >= 0


def test_choosing_grains_needs_layers():
    with pytest.raises(ValueError, match="choose is 'grains' but layers is None; pass how many to choose"):
        Settings(choose="grains")


def test_an_offset_of_the_source_is_removed():
    offset, clean = SOURCE + 0.7, replace(PRESETS["classic"], remove_offset=True)
    made = make(source=offset, preset=clean)
    heard = highpass(offset - offset.mean(), SR)
    np.testing.assert_allclose(make(source=heard, preset=clean).audio, made.audio, atol=1e-9)
    # A wandering offset is removed, too, and a source without an offset stays as it is.
    wave = 0.2 * np.sin(2 * np.pi * 3 * np.arange(len(offset)) / SR)
    (recording,) = make(source=offset + wave, preset=clean).dictionary.recordings
    wandering = np.abs(np.fft.rfft(recording))[: round(6 * len(recording) / SR)]
    assert wandering.max() < 0.01 * (0.2 * len(recording) / 2)
    np.testing.assert_array_equal(make(preset=clean).dictionary.recordings[0], SOURCE)
    # The notebook keeps an offset, as it is taught.
    assert make(source=offset, preset="notebook").dictionary.norms[4] > 10 * make(preset="notebook").dictionary.norms[4]


# Levels


@pytest.mark.parametrize("preset", ["classic", "balanced", "notebook"])
@pytest.mark.parametrize(("target_width", "source_width"), [(1, 1), (1, 2), (2, 1), (2, 2), (6, 2)])
def test_the_mosaic_is_as_loud_as_its_target_with_any_channels(preset, target_width, source_width):
    target = np.stack([0.3 * np.roll(TARGET, 100 * i) for i in range(target_width)])
    source = np.stack([np.roll(SOURCE, 100 * i) for i in range(source_width)])
    for channels in ("source", "apart", "mono"):
        made = make(target, source, preset=preset, iterations=3, loudness="target", channels=channels)
        assert made.peak_gain_db == 0
        wanted = integrated_loudness(target, SR)
        assert integrated_loudness(made.audio, SR) == pytest.approx(wanted, abs=0.1)
        assert made.loudness == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("loudness", [-40, -30.5])
def test_a_mosaic_has_the_loudness_that_is_set(loudness):
    assert integrated_loudness(make(loudness=loudness, iterations=2).audio, SR) == pytest.approx(loudness, abs=0.1)


def test_matching_the_loudness_only_changes_the_gain():
    plain, matched = (make(loudness=loudness) for loudness in ("as-is", "target"))
    assert (plain.gain_db, plain.peak_gain_db) == (0, 0)
    np.testing.assert_allclose(matched.audio, 10 ** (matched.gain_db / 20) * plain.audio, rtol=1e-12)
    assert matched.overlap == pytest.approx(plain.overlap, abs=1e-9)


def test_the_papers_presets_stay_at_the_level_of_their_gains():
    for name, settings in PRESETS.items():
        assert settings.loudness == ("as-is" if name in ("classic", "notebook", "sparse") else "target")


def test_level_follow_brings_the_contour_to_the_target_s():
    t = np.arange(4 * SR) / SR
    target = glide(4 * SR, 500) * 10 ** (8 * np.sin(2 * np.pi * 0.5 * t) / 20)
    # The source has a steady level, and the target a swelling one.
    settings = configure("classic", iterations=1)
    job = prepared(target, glide(4 * SR, 500), SR, settings, params=GRID)
    step = MatrixStep(1, np.eye(job.dictionary.n_atoms), None)

    def contour_spread_db(level_follow):
        made = finish(replace(job, settings=replace(settings, level_follow=level_follow)), step, [])
        return np.std((loudness_contour(made.audio, SR) - loudness_contour(target, SR))[5:-5])

    assert contour_spread_db(100) < 0.5 * contour_spread_db(0)
    assert contour_spread_db(100) < contour_spread_db(50) < contour_spread_db(0)


# The ear, and the target's phase


@PLAIN
def test_ear_weighting_weighs_target_and_source_but_not_the_gains(preset):
    settings = configure(preset, ear_weighting=True, iterations=6)
    job = prepared(TARGET, SOURCE, SR, settings, params=GRID)
    *_, last = solver_of(job).steps()
    made = finish(job, last, [])
    gains = np.sqrt(a_weights(np.arange(GRID.n_bins) * SR / GRID.n_fft))[:, None]
    W = gains * job.dictionary.magnitudes
    norms = np.linalg.norm(W, axis=0) if settings.unit_norm else np.ones(W.shape[1])
    *_, expected = activation_steps(
        gains * np.abs(job.spectrum),
        W / norms,
        n_iter=6,
        beta=settings.beta,
        eps=settings.eps,
        constraints=settings.constraints(job.dictionary.hop_s),
    )
    np.testing.assert_allclose(last.H, expected.H, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(made.activations.toarray(), expected.H / norms[:, None], rtol=1e-9, atol=1e-12)


@EVERY_PRESET
def test_every_preset_can_weigh_by_the_ear(preset):
    made = make(preset=preset, ear_weighting=True, **briefly(preset))
    assert np.isfinite(made.audio).all()
    assert made.audio.any()


def test_ear_weighting_prefers_a_voice_to_a_rumble():
    t = np.arange(LENGTH) / SR
    rumble, voice = np.sin(2 * np.pi * 62.5 * t), 0.2 * np.sin(2 * np.pi * 1000 * t)
    for ear_weighting, chosen in ((False, 0), (True, 1)):
        made = make(0.1 * (rumble + voice), [rumble, voice], preset="sparse", ear_weighting=ear_weighting)
        best = made.activations.toarray().argmax(axis=0)[4:-4]
        assert (made.dictionary.recording_ids[best] == chosen).all()


@pytest.mark.parametrize("phase", ["source", "griffin-lim"])
@pytest.mark.parametrize("channels", [1, 2])
def test_more_of_the_target_s_phase_leaks_more(phase, channels):
    length = 2 * SR
    target = glide(length, 500) * (1 + np.sin(2 * np.pi * 4 * np.arange(length) / SR))
    source = np.stack([glide(length, 300, seed=i) for i in range(channels)])
    shares = (0, 30, 60, 100)
    made = [make(target, source, phase=phase, iterations=5, target_phase=share) for share in shares]
    assert made[0].leak is None
    np.testing.assert_array_equal(made[0].audio, make(target, source, phase=phase, iterations=5).audio)
    leaks = [mixed.leak for mixed in made[1:]]
    assert (np.diff(leaks) > 0).all()
    assert leaks[-1] > 0.15
    expected = evaluate(to_mono(made[2].audio), target, to_mono(source), SR)["leak"]
    assert made[2].leak == pytest.approx(expected, abs=1e-6)


def test_a_target_phase_of_100_gives_the_target_s_phase():
    settings = configure("classic", iterations=3, target_phase=100, loudness="as-is")
    job = prepared(TARGET, SOURCE, SR, settings, params=GRID)
    *_, step = solver_of(job).steps()
    made = finish(job, step, [])
    plain = stft(synthesize(step.H, job.dictionary, length=LENGTH), GRID)
    turned = np.abs(plain) * np.exp(1j * np.angle(job.spectrum))
    np.testing.assert_allclose(made.audio, istft(turned, GRID, length=LENGTH), rtol=0, atol=1e-12)


def test_a_fade_agrees_with_numbers_by_hand():
    # The squared sines of 1, 3, 5 and 7 sixteenths of a half turn: a quarter turn, at the middles of four samples.
    rise = [0.0380602337, 0.3086582838, 0.6913417162, 0.9619397663]
    np.testing.assert_allclose(fade_edges(np.ones(10), 4), [*rise, 1, 1, *rise[::-1]], atol=1e-9)
    np.testing.assert_allclose(fade_edges(-2 * np.ones(8), 4), -2 * np.array([*rise, *rise[::-1]]), atol=1e-8)


@EVERY_TYPE
def test_short_sounds_fade_over_half_of_themselves(dtype):
    half = [0.1464466094, 0.8535533906]
    for length in (2, 3, 100):
        np.testing.assert_allclose(fade_edges(np.ones(5, dtype), length), [*half, 1, *half[::-1]], atol=1e-7)
    np.testing.assert_allclose(fade_edges(np.ones(2, dtype), 9), [0.5, 0.5], atol=1e-7)
    for samples, length in ((np.ones(1, dtype), 5), (np.ones(10, dtype), 0)):
        np.testing.assert_array_equal(fade_edges(samples, length), samples)
    assert fade_edges(np.ones(10, dtype), 4).dtype == dtype


def test_all_channels_fade_alike_and_nothing_else_changes(rng):
    samples = rng.standard_normal((3, 50))
    before = samples.copy()
    out = fade_edges(samples, 10)
    np.testing.assert_array_equal(samples, before)
    np.testing.assert_array_equal(out[:, 10:-10], samples[:, 10:-10])
    for channel, alone in zip(out, samples, strict=True):
        np.testing.assert_array_equal(channel, fade_edges(alone, 10))
        # The fade is symmetric in time.
        np.testing.assert_array_equal(channel[::-1], fade_edges(alone[::-1], 10))


def test_sources_fade_as_long_as_the_settings_say():
    settings = replace(PRESETS["classic"], fade_s=0.01, remove_offset=False)
    job = prepared(TARGET, [SOURCE, np.stack([SOURCE, 2 * SOURCE])], SR, settings, params=GRID)
    first, second = job.dictionary.recordings
    np.testing.assert_array_equal(first, fade_edges(SOURCE, 80))
    np.testing.assert_array_equal(second[1], fade_edges(2 * SOURCE, 80))
    np.testing.assert_array_equal(job.target, TARGET)


# The sound of the activations


@pytest.mark.parametrize(
    "changes",
    [
        {"harmony": 60.0},
        {"colour": 50.0},
        {"attacks": 80.0},
        {"edges": 70.0},
        {"harmony": 100.0, "colour": 100.0, "colour_most_db": 2.5, "attacks": 100.0, "edges": 100.0},
        {},
    ],
)
@pytest.mark.parametrize("width", [1, 2])
def test_harmony_colour_attacks_and_edges_have_their_shares_in_that_order(changes, width):
    target = np.concatenate([0.001 * TARGET, TARGET[::-1]])
    settings = replace(PRESETS["classic"], colour=0.0, attacks=0.0, iterations=2)
    settings = replace(settings, **changes)
    source = SOURCE if width == 1 else np.stack([SOURCE, SOURCE[::-1]])
    job = prepared(target, source, SR, settings, params=GRID)
    *_, step = solver_of(job).steps()
    part = part_of(job, solver_of(job).solution(step), [])
    audio = part.unshaped
    times_s = onset_times(target, SR)
    assert len(times_s)
    if "harmony" in changes:
        audio = fine_colour(to_mono(audio), target, SR, share=settings.harmony / 100).apply(audio)
    if "colour" in changes:
        most_db = changes.get("colour_most_db", 12)
        audio = colour(to_mono(audio), target, SR, share=settings.colour / 100, most_db=most_db).apply(audio)
    if "attacks" in changes:
        audio = attack_shape(to_mono(audio), target, SR, times_s, share=settings.attacks / 100).apply(audio)
    if "edges" in changes:
        audio = audio * edge_gains(to_mono(audio), target, SR, times_s, share=settings.edges / 100)
    if width == 2 and changes:
        audio = match_coherence(audio, part.unshaped, GRID)
    np.testing.assert_array_equal(part.audio, audio)
    np.testing.assert_array_equal(
        shaped(part.unshaped, part.dictionary, Aim(job.target, job.settings, melodies_of(job))), audio
    )
    assert (np.abs(part.audio - part.unshaped).max() > 1e-4) == bool(changes)


@pytest.mark.parametrize("changes", [{}, {"purity": 50.0}, {"purity": 100.0, "colour": 30.0, "attacks": 80.0}])
@pytest.mark.parametrize("width", [1, 2])
def test_with_a_melody_purity_comes_first_and_attacks_have_a_part_of_their_share(changes, width):
    target = np.concatenate([0.001 * TARGET, TARGET[::-1]])
    bare = {"purity": 0.0, "colour": 0.0, "attacks": 0.0, "refine": 0, "iterations": 2}
    settings = replace(PRESETS["melodic"], transpose="follow", **bare | changes)
    source = SOURCE if width == 1 else np.stack([SOURCE, SOURCE[::-1]])
    pitch = np.full(GRID.n_frames(len(target)), 600.0)
    pitch[::3] = 700
    tracks = {"target_f0": pitch, "source_f0": np.full(GRID.n_frames(len(SOURCE)), 450.0)}
    job = prepared(target, source, SR, settings, params=GRID, **tracks)
    *_, step = solver_of(job).steps()
    part = part_of(job, solver_of(job).solution(step), [])
    audio = part.unshaped
    if "purity" in changes:
        share, melodies = settings.purity / 100, job.transposition.melodies
        audio = purity(to_mono(audio), melodies, SR, hop=GRID.hop, share=share).apply(audio)
    if "colour" in changes:
        audio = colour(to_mono(audio), target, SR, share=0.3).apply(audio)
    if "attacks" in changes:
        times_s, share = onset_times(target, SR), 0.8 * IN_TUNE_ATTACKS
        assert len(times_s)
        audio = attack_shape(to_mono(audio), target, SR, times_s, share=share).apply(audio)
    if width == 2 and changes:
        audio = match_coherence(audio, part.unshaped, GRID)
    np.testing.assert_array_equal(part.audio, audio)
    np.testing.assert_array_equal(
        shaped(part.unshaped, part.dictionary, Aim(job.target, job.settings, melodies_of(job))), audio
    )
    assert (np.abs(part.audio - part.unshaped).max() > 1e-4) == bool(changes)


@pytest.mark.parametrize("transpose", ["off", (0, 2)])
def test_without_a_melody_purity_does_nothing_and_attacks_have_their_whole_share(transpose):
    target = np.concatenate([0.001 * TARGET, TARGET[::-1]])
    settings = replace(PRESETS["melodic"], transpose=transpose, purity=100.0, colour=0.0, attacks=80.0, iterations=2)
    tracks = {} if transpose == "off" else {"source_f0": np.zeros(GRID.n_frames(len(SOURCE)))}
    job = prepared(target, SOURCE, SR, settings, params=GRID, **tracks)
    *_, step = solver_of(job).steps()
    part = part_of(job, solver_of(job).solution(step), [])
    sharp = attack_shape(part.unshaped, target, SR, onset_times(target, SR), share=0.8).apply(part.unshaped)
    np.testing.assert_array_equal(part.audio, sharp)


def test_only_the_preset_melodic_has_purity():
    assert Settings().purity == 0
    assert {name: settings.purity for name, settings in PRESETS.items() if settings.purity} == {"melodic": 50}


def test_a_transposed_source_keeps_its_image():
    n = 2 * SR
    t = np.arange(n) / SR
    sound = np.sin(2 * np.pi * 440 * t) + 0.5 * np.sin(2 * np.pi * 880 * t)
    # Both channels have the same sound, three times as loud on the left, and each grain is shifted alike in both.
    source = np.stack([0.6 * sound, 0.2 * sound]).astype(np.float32)
    hop = StftParams.from_seconds(PRESETS["melodic"].window_s, PRESETS["melodic"].hop_s, SR).hop
    pitch = np.full(1 + n // hop, 440.0)
    made = mosaic(source[0], source, SR, preset="melodic", iterations=2, target_f0=pitch / 2, source_f0=pitch)
    left, right = made.audio
    np.testing.assert_allclose(left, 3 * right, atol=1e-3 * np.abs(left).max())
    assert np.abs(left).max() > 0.05


def test_a_range_and_a_tuning_may_not_exceed_four_octaves_together():
    with pytest.raises(
        ValueError, match=r"^transpose goes from 48 to 48 semitones and tune_cents is 100, together beyond"
    ):
        replace(PRESETS["melodic"], transpose=(48.0, 48.0), tune_cents=100.0)
