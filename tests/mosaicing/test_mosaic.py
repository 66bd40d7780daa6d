"""The whole job on short sounds: against transcriptions by hand, and the laws every preset and phase obeys."""

import warnings
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
import scipy.sparse

import oracles
from helpers import finish, limit_peaks
from smalti import PRESETS, LetItBee, Settings, StftParams, activation_steps, build_dictionary, istft, mosaic, stft
from smalti.dsp.bands import a_weights
from smalti.dsp.channels import match_coherence, to_mono
from smalti.dsp.conditioning import fade_edges, highpass
from smalti.dsp.dynamics import CEILING_DB
from smalti.dsp.loudness import integrated_loudness, loudness_contour, true_peak
from smalti.dsp.onsets import onset_times
from smalti.dsp.phase import PHASES
from smalti.dsp.shaping import COLOUR_WINDOW_S, PURITY_WINDOW_S, attack_shape, colour, purity
from smalti.grains.descriptors import stacked, views
from smalti.grains.runs import choose_runs, find_runs, keep_runs, smooth_runs
from smalti.grains.sound import IN_TUNE_ATTACKS, Aim, shaped
from smalti.grains.synthesis import synthesize
from smalti.metrics import evaluate
from smalti.mosaicing.compare import compared
from smalti.mosaicing.mosaic import melodies_of, part_of
from smalti.mosaicing.prepare import prepare
from smalti.mosaicing.solve import recorded_gains, solve_steps, solver_of
from smalti.nmf.base import MatrixStep
from smalti.nmf.gains import GainFit
from smalti.nmf.let_it_bee import limit_polyphony
from smalti.nmf.multiplicative import steps_of
from smalti.presets import configure
from strategies import pairwise

SR = 8000
GRID = StftParams(256, 64)
LENGTH = 3000
EVERY_PRESET = pytest.mark.parametrize("preset", sorted(PRESETS))
# Those whose activations are gains of source frames that sound at the pitch they have.
UNSHIFTED = sorted(name for name, of in PRESETS.items() if of.transpose == "off")
AS_RECORDED = pytest.mark.parametrize("preset", UNSHIFTED)
EVERY_PHASE = pytest.mark.parametrize("phase", PHASES)
TYPES = [np.float32, np.float64]
EVERY_TYPE = pytest.mark.parametrize("dtype", TYPES)
# What only multiplicative updates have: a random start, rules, iterations.
# Those that end as the updates end, without choosing grains.
PLAIN = pytest.mark.parametrize(
    "preset", sorted(name for name, of in PRESETS.items() if of.method == "updates" and of.choose is None)
)
CHOOSING = pytest.mark.parametrize(
    "preset", sorted(name for name, of in PRESETS.items() if of.choose and of.transpose == "off")
)
UPDATING_AS_RECORDED = pytest.mark.parametrize(
    "preset", sorted(name for name, of in PRESETS.items() if of.method == "updates" and of.transpose == "off")
)
UPDATING = pytest.mark.parametrize("preset", sorted(name for name in PRESETS if PRESETS[name].method == "updates"))


def glide(length, hz, sr=SR, seed=1):
    """A quiet rising tone in a little noise: every frame of it differs from every other, and none is silent."""
    t = np.arange(length) / sr
    return 0.1 * np.sin(2 * np.pi * hz * t * (1 + t)) + 0.01 * np.random.default_rng(seed).standard_normal(length)


TARGET, SOURCE = glide(LENGTH, 500, seed=1), glide(4000, 300, seed=2)


def make(target=TARGET, source=SOURCE, sr=SR, *, preset="classic", params=GRID, **options):
    return mosaic(target, source, sr, preset=preset, params=params, **options)


# Every preset and phase


@pytest.mark.parametrize(("preset", "phase", "dtype"), pairwise(sorted(PRESETS), PHASES, TYPES))
def test_a_mosaic_is_finite_and_as_long_as_fine_and_as_fast_as_its_target(preset, phase, dtype):
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
    # A phase found by iteration depends on its rounding where next to nothing sounds.
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
def test_the_seed_matters_where_the_start_is_random(preset):
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
    # A grain reaches one window in, and the windows of `smalti.dsp.shaping` as far as they are long: one after the
    # other.
    reach = GRID.n_fft + sum(
        round(window_s * SR)
        for window_s, acts in ((COLOUR_WINDOW_S, settings.colour), (PURITY_WINDOW_S, settings.purity))
        if acts
    )
    start, stop = 1000, 1000 + 2 * (reach + 2 * GRID.n_fft)
    target = glide(stop + 464, 500)
    target[start:stop] = 0
    audio = make(target, preset=preset, phase=phase).audio
    # Filtering rounds.
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
def test_a_silent_target_makes_silence_and_says_so(preset, phase):
    with pytest.warns(UserWarning, match="target is silent, and so is its mosaic") as caught:
        made = make(np.zeros(LENGTH), preset=preset, phase=phase)
    assert [warning.filename for warning in caught] == [__file__]
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
    assert [warning.filename for warning in caught] == [__file__]
    assert made.dictionary.n_atoms == GRID.n_frames(4000) + GRID.n_frames(200)
    assert np.isfinite(made.audio).all()


@pytest.mark.parametrize(("preset", "phase", "loudness"), pairwise(UNSHIFTED, PHASES, ["as-is", "target"]))
def test_true_peaks_stay_below_the_ceiling_whatever_the_level(preset, phase, loudness):
    # Unshaped, so that the sound is the synthesis at one gain.
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
        # 30 times as loud as it was: limited as far as that goes, and the rest turned down.
        assert made.limited_db == pytest.approx(-6, abs=0.05)
        np.testing.assert_allclose(made.audio, limit_peaks(gained, SR)[0], rtol=1e-9, atol=1e-12)


@AS_RECORDED
def test_activations_are_gains_of_the_frames_as_recorded(preset):
    # A source of very uneven level: gains of frames at unit norm and as recorded differ by as much.
    source = SOURCE * np.geomspace(1e-3, 1, len(SOURCE))
    settings = configure(preset)
    job = prepare(TARGET, source, SR, settings, params=GRID)
    *_, last = solve_steps(job)
    made = finish(job, last, [])
    scale = job.dictionary.norms[:, None] if settings.unit_norm else 1
    np.testing.assert_allclose(scale * made.activations.toarray(), last.H, rtol=1e-12)
    _, W = compared(replace(job, settings=replace(settings, compare="bins")))
    heard = W.any(axis=0)
    np.testing.assert_allclose((scale * W.T).T[:, heard], job.dictionary.magnitudes[:, heard], rtol=1e-12)


@EVERY_PRESET
def test_a_source_with_a_silent_stretch_is_no_trouble(preset):
    source = np.concatenate([SOURCE[:1500], np.zeros(1000), SOURCE[1500:]])
    made = make(source=source, preset=preset)
    silent = made.dictionary.norms == 0
    assert silent.any()
    assert made.activations[silent].nnz == 0
    assert np.isfinite(made.audio).all()


# Against transcriptions by hand


def test_notebook_is_the_teaching_notebook():
    sr, n_fft, hop, eps = 22050, 2048, 512, 0.01
    target, source = glide(11000, 500, sr, seed=1), glide(16000, 300, sr, seed=2)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)

    def frames(y):
        padded = np.pad(y, n_fft // 2)
        starts = range(0, len(padded) - n_fft + 1, hop)
        return np.array([np.fft.rfft(hann * padded[i : i + n_fft]) for i in starts]).T

    def sound(Y, length):
        total, weight = np.zeros(length + 2 * n_fft), np.zeros(length + 2 * n_fft)
        for n, frame in enumerate(Y.T):
            total[n * hop : n * hop + n_fft] += hann * np.fft.irfft(frame)
            weight[n * hop : n * hop + n_fft] += hann**2
        inside = slice(n_fft // 2, n_fft // 2 + length)
        return total[inside] / weight[inside]

    X1, X2 = frames(source), frames(target)
    W, V = np.abs(X1), np.abs(X2)
    W = W / np.sqrt((W**2).sum(axis=0))
    start = H = np.random.default_rng(3).random((W.shape[1], V.shape[1]))
    losses = []
    for _ in range(100):
        H = H * (W.T @ V + eps) / (W.T @ W @ H + eps)
        losses.append(0.5 * np.sum((V - W @ H) ** 2))
    expected = sound((W @ H) * np.exp(1j * np.angle(X2)), len(target))

    made = mosaic(target, source, sr, preset="notebook", init=start)
    assert made.gain_db == 0
    np.testing.assert_allclose(made.audio, expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(made.activations.toarray() * made.dictionary.norms[:, None], H, rtol=0, atol=1e-8)
    np.testing.assert_allclose(made.divergences, losses, rtol=1e-8)


def test_classic_is_let_it_bee_as_published():
    sr = 22050
    target, source = glide(11000, 500, sr, seed=1), glide(16000, 300, sr, seed=2)
    grid = StftParams(2048, 512)
    V, S = np.abs(stft(target, grid)), stft(source, grid)
    rules = LetItBee(repetition=3, polyphony=10, continuity=3)
    *_, last = activation_steps(V, np.abs(S), n_iter=50, beta=1, constraints=rules)
    made = mosaic(target, source, sr, preset="classic", loudness="as-is")
    assert made.gain_db == 0
    np.testing.assert_allclose(made.audio, istft(S @ last.H, grid, length=len(target)), rtol=0, atol=1e-12)
    assert made.divergences[-1] == pytest.approx(last.divergence)


def test_classic_is_let_it_bee_loop_by_loop():
    settings = Settings(
        layers=2, no_repeat_s=3 * GRID.hop / SR, grain_length_s=5 * GRID.hop / SR, iterations=4, loudness="as-is"
    )
    target, source = TARGET[:600], [SOURCE[:700], SOURCE[2000:2400]]
    V, parts = np.abs(stft(target, GRID)), [stft(y, GRID) for y in source]
    S = np.hstack(parts)
    segments = np.repeat([0, 1], [part.shape[1] for part in parts])
    start = np.random.default_rng(5).random((S.shape[1], V.shape[1]))
    H = oracles.let_it_bee(V, np.abs(S), start, 4, 3, 2, 2, segments=segments)[-1]
    made = make(target, source, preset=settings, init=start)
    np.testing.assert_allclose(made.audio, istft(S @ H, GRID, length=600), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("sr", "grid"), [(22050, (2048, 512)), (44100, (4096, 1024)), (11025, (1024, 256)), (88200, (8192, 2048))]
)
def test_classic_means_the_same_at_every_sample_rate(sr, grid):
    length = 3 * grid[0]
    made = mosaic(glide(length, 500, sr), glide(length, 300, sr, seed=2), sr, preset="classic", iterations=1)
    assert made.dictionary.params == StftParams(*grid)
    assert made.settings.constraints(made.dictionary.hop_s) == LetItBee(repetition=3, polyphony=10, continuity=3)


@pytest.mark.parametrize("sr", [8000, 16000, 32000, 48000, 96000])
def test_classic_has_its_three_threes_at_rates_that_do_not_divide_either(sr):
    settings = PRESETS["classic"]
    params = StftParams.from_seconds(settings.window_s, settings.hop_s, sr)
    assert settings.constraints(params.hop / sr) == LetItBee(repetition=3, polyphony=10, continuity=3)
    assert params.n_fft == 4 * params.hop
    assert params.hop / sr == pytest.approx(settings.hop_s, rel=0.05)


def test_sparse_takes_the_frame_most_alike_and_fits_its_gain():
    made = make(preset="sparse")
    V, W = np.abs(stft(TARGET, GRID)), made.dictionary.magnitudes
    activations = made.activations.toarray()
    for n in range(V.shape[1]):
        alike = [V[:, n] @ w / np.linalg.norm(w) for w in W.T]
        best = int(np.argmax(alike))
        assert np.flatnonzero(activations[:, n]).tolist() == [best]
        assert activations[best, n] == pytest.approx(V[:, n] @ W[:, best] / (W[:, best] @ W[:, best]))


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_sparse_sounds_at_most_so_many_frames_at_once(layers):
    made = make(preset="sparse", layers=layers)
    sounding = (made.activations.toarray() > 0).sum(axis=0)
    assert sounding.max() == layers
    assert len(made.divergences) == layers
    assert (np.diff(made.divergences) < 0).all()


# Laws


def test_notebook_never_gets_worse():
    made = make(preset="notebook")
    assert made.divergences.shape == (100,)
    assert (np.diff(made.divergences) <= 1e-12 * made.divergences[0]).all()
    assert made.divergences[-1] < 0.9 * made.divergences[0]


@PLAIN
@pytest.mark.parametrize("iterations", [1, 7])
def test_there_is_one_divergence_an_iteration(preset, iterations):
    assert make(preset=preset, iterations=iterations).divergences.shape == (iterations,)


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
    # 2000 samples of the source, from a whole number of hops on: the run of atoms they are is the best answer.
    start = 20 * GRID.hop
    made = make(SOURCE[start : start + 2000], preset="sparse", phase="source")
    best = made.activations.toarray().argmax(axis=0)
    inside = slice(2, -3)
    np.testing.assert_array_equal(best[inside], 20 + np.arange(len(best))[inside])
    np.testing.assert_allclose(made.audio[300:1700], SOURCE[start + 300 : start + 1700], rtol=0, atol=1e-9)


@EVERY_PHASE
@EVERY_TYPE
def test_fit_is_one_for_the_target_itself(phase, dtype):
    target = TARGET.astype(dtype)
    job = prepare(target, target, SR, configure("classic", phase=phase), params=GRID)
    made = finish(job, MatrixStep(1, np.eye(job.dictionary.n_atoms, dtype=dtype), None), [])
    np.testing.assert_allclose(made.audio, target, rtol=0, atol=1e-5 if dtype is np.float32 else 1e-12)
    assert made.overlap == pytest.approx(1, abs=1e-5 if dtype is np.float32 else 1e-12)
    assert made.overlap <= 1
    assert made.divergences.shape == (0,)


def test_fit_is_the_overlap_of_the_two_spectrograms():
    made = make()
    V, Y = (np.abs(stft(y, GRID)) for y in (TARGET, made.audio))
    expected = np.sum(np.sqrt(V / V.sum()) * np.sqrt(Y / Y.sum()))
    assert made.overlap == pytest.approx(expected, rel=1e-12)


def test_fit_is_low_where_target_and_source_have_no_frequency_in_common():
    t = np.arange(LENGTH) / SR
    low, high = (0.1 * np.hanning(LENGTH) * np.sin(2 * np.pi * hz * t) for hz in (300, 3000))
    assert make(low, high, preset="sparse", phase="source").overlap < 0.1
    assert make(low, low, preset="sparse", phase="source").overlap > 0.99


# Knobs


@EVERY_PRESET
def test_a_knob_overrides_the_preset_and_none_leaves_it(preset):
    assert configure(preset) == PRESETS[preset]
    assert configure(preset, layers=None, phase=None, beta=None, iterations=None) == PRESETS[preset]
    assert configure(preset, layers=7, phase="griffin-lim") == replace(PRESETS[preset], layers=7, phase="griffin-lim")
    assert make(preset=preset, layers=2).settings == replace(PRESETS[preset], layers=2)


@PLAIN
def test_every_knob_of_the_updates_reaches_the_solver(preset):
    knobs = {"layers": 4, "grain_length_s": 0.05, "no_repeat_s": 0.03, "iterations": 9, "beta": 1.5}
    made = make(preset=preset, phase="source", **knobs)
    assert made.settings == replace(PRESETS[preset], phase="source", **knobs)
    V, W = compared(prepare(TARGET, SOURCE, SR, made.settings, params=GRID))
    # At 8 ms a hop, 0.03 s are four hops to the nearest; 0.05 s are six, of which 2c + 1 come nearest with c = 3.
    rules = LetItBee(repetition=4, polyphony=4, continuity=3)
    *_, last = activation_steps(V, W, n_iter=9, beta=1.5, eps=made.settings.eps, constraints=rules)
    scale = made.dictionary.norms[:, None] if made.settings.unit_norm else 1
    np.testing.assert_allclose(made.activations.toarray() * scale, last.H, rtol=1e-12)


def test_a_knob_at_zero_switches_its_rule_off():
    assert configure("classic", no_repeat_s=0, grain_length_s=0).constraints(GRID.hop / SR) == LetItBee(None, 10, None)
    assert configure("notebook").constraints(GRID.hop / SR) is None


def test_settings_become_rules():
    rules = Settings(layers=3, no_repeat_s=0.02, restrict_every=5, rank="energy").constraints(0.01)
    assert rules == LetItBee(repetition=2, polyphony=3, continuity=None, every=5, rank="energy")


def test_without_grains_layers_and_repetition_are_strict():
    made = make(layers=3, no_repeat_s=0.05, grain_length_s=0)
    sounding = made.activations.toarray() > 0
    assert sounding.any(axis=0).all()
    assert sounding.sum(axis=0).max() <= 3
    for row in sounding:
        # 0.05 s are six hops of 8 ms, to the nearest: the next time is the seventh hop at the earliest.
        assert (np.diff(np.flatnonzero(row)) > 6).all()


def test_grains_are_runs_of_consecutive_source_frames():
    def runs(made):
        """The share of activations, by gain, that continue from the source frame before."""
        H = made.activations.toarray()
        return np.minimum(H[1:, 1:], H[:-1, :-1]).sum() / H.sum()

    long, short = make(grain_length_s=0.15, layers=3), make(grain_length_s=0, layers=3)
    assert runs(long) > 0.5 > 2 * runs(short)


def test_settings_of_your_own_take_the_place_of_a_preset():
    own = replace(PRESETS["notebook"], iterations=3, beta=0.5, phase="source")
    made, knobs = make(preset=own), make(preset="notebook", iterations=3, beta=0.5, phase="source")
    np.testing.assert_array_equal(made.audio, knobs.audio)
    assert make(preset=own, iterations=4).settings == replace(own, iterations=4)


def test_the_parts_of_the_job_are_the_job():
    job = prepare(TARGET, SOURCE, SR, configure("classic", iterations=5), params=GRID)
    steps = list(solve_steps(job, rng=7))
    by_parts = finish(job, steps[-1], [step.divergence for step in steps])
    whole = make(iterations=5, rng=7)
    np.testing.assert_array_equal(by_parts.audio, whole.audio)
    np.testing.assert_array_equal(by_parts.divergences, whole.divergences)
    # Who stops early has a mosaic, too.
    np.testing.assert_array_equal(finish(job, steps[1], []).activations.toarray(), steps[1].H)


def test_griffin_lim_goes_as_far_as_the_settings_say():
    job = prepare(
        TARGET, SOURCE, SR, configure("classic", phase="griffin-lim", iterations=3, loudness="as-is"), params=GRID
    )
    *_, step = solve_steps(job)
    for n_iter, momentum in [(0, 0.99), (4, 0.99), (4, 0.2)]:
        settings = replace(job.settings, phase_iterations=n_iter, momentum=momentum)
        made = finish(replace(job, settings=settings), step, [])
        options = {"length": LENGTH, "phase": "griffin-lim", "n_iter": n_iter, "momentum": momentum}
        np.testing.assert_array_equal(made.audio, synthesize(step.H, job.dictionary, **options))


def test_signed_pursuit_may_take_away():
    signed = replace(PRESETS["sparse"], nonnegative=False, layers=4)
    assert make(preset=signed).activations.min() < 0
    assert make(preset="sparse", layers=4).activations.min() >= 0


# Sources


def test_one_recording_a_list_of_it_and_its_dictionary_are_the_same_source():
    alone = make()
    for source in ([SOURCE], (SOURCE,), SOURCE.tolist(), build_dictionary(SOURCE, SR, params=GRID)):
        np.testing.assert_array_equal(make(source=source).audio, alone.audio)
    ready = build_dictionary([SOURCE, TARGET], SR, params=GRID, names=["a", "b"])
    by_dictionary, by_list = (make(source=of, params=None if of is ready else GRID) for of in (ready, [SOURCE, TARGET]))
    np.testing.assert_array_equal(by_dictionary.audio, by_list.audio)
    assert by_dictionary.dictionary is ready
    assert by_list.dictionary.names == ("source 1", "source 2")
    job = prepare(TARGET, [SOURCE, TARGET], SR, configure(), params=GRID, names=["a", "b"])
    assert job.dictionary.names == ("a", "b")


# Either recording may be the finer, for each solver and each form that a source is given in.
@pytest.mark.parametrize(
    ("preset", "form", "fine"),
    [
        ("classic", "recording", "target"),
        ("balanced", "list", "target"),
        ("sparse", "dictionary", "target"),
        ("balanced", "recording", "source"),
        ("sparse", "list", "source"),
        ("classic", "dictionary", "source"),
    ],
)
def test_of_two_precisions_the_finer_wins(preset, form, fine):
    target, source = TARGET, SOURCE.astype(np.float32)
    if fine == "source":
        target, source = TARGET.astype(np.float32), SOURCE
    forms = {"recording": source, "list": [source], "dictionary": build_dictionary(source, SR, params=GRID)}
    made = make(target, forms[form], preset=preset, **_briefly(preset))
    assert made.audio.dtype == made.activations.dtype == np.float64


def _briefly(preset):
    return {"iterations": 2} if PRESETS[preset].method == "updates" else {}


def test_a_grain_does_not_run_out_of_one_recording_into_the_next():
    """From one sounding cell, the last frame of the first recording, continuity reaches back into that one only."""
    first, second = SOURCE[:2000], SOURCE[2000:]
    border = GRID.n_frames(2000)
    options = {"iterations": 1, "no_repeat_s": 0, "grain_length_s": 7 * GRID.hop / SR}

    def reached(source, n_atoms):
        start = np.zeros((n_atoms, GRID.n_frames(LENGTH)))
        start[border - 1, 20] = 1
        return np.argwhere(make(source=source, init=start, **options).activations.toarray() > 0).tolist()

    apart = reached([first, second], border + GRID.n_frames(2000))
    assert apart == [[border - 1 + i, 20 + i] for i in range(-3, 1)]
    joined = reached(np.concatenate([first, second]), GRID.n_frames(4000))
    assert joined == [[border - 1 + i, 20 + i] for i in range(-3, 4)]


def test_two_recordings_are_solved_with_their_border():
    pieces = [SOURCE[:1200], SOURCE[2500:]]
    V, parts = np.abs(stft(TARGET, GRID)), [stft(y, GRID) for y in pieces]
    S = np.hstack(parts)
    segments = np.repeat([0, 1], [part.shape[1] for part in parts])
    rules = PRESETS["classic"].constraints(GRID.hop / SR)
    *_, with_border = activation_steps(V, np.abs(S), n_iter=50, constraints=rules, segments=segments)
    *_, without = activation_steps(V, np.abs(S), n_iter=50, constraints=rules)
    made = make(source=pieces).activations.toarray()
    np.testing.assert_allclose(made, with_border.H, rtol=0, atol=1e-12)
    assert np.abs(made - without.H).max() > 0.01


# Mistakes


@pytest.mark.parametrize(
    ("target", "source", "error", "message"),
    [
        (np.ones(LENGTH, np.int16), SOURCE, TypeError, "target holds int16 samples; pass floats.*divide by 32768"),
        (TARGET, np.ones(LENGTH, np.int16), TypeError, "source holds int16 samples"),
        ([0, 1], SOURCE, TypeError, "target holds int64 samples"),
        (TARGET.astype(np.float16), SOURCE, TypeError, "target has dtype float16; pass float32 or float64"),
        (TARGET[:, None], SOURCE, ValueError, r"target has shape \(3000, 1\), that is 3000 channels; .*time last"),
        (TARGET[None, None], SOURCE, ValueError, r"target has shape \(1, 1, 3000\); pass shape \(samples,\) or"),
        (TARGET, np.stack([SOURCE, SOURCE]).T, ValueError, r"source has shape \(4000, 2\), that is 4000 channels"),
        (TARGET, [SOURCE, SOURCE[:, None]], ValueError, r"source 2 has shape \(4000, 1\), that is 4000 channels"),
        (
            np.where(TARGET > 0.1, np.nan, TARGET),
            SOURCE,
            ValueError,
            r"target holds \d+ values that are NaN or infinite",
        ),
        (TARGET, np.full(9, np.inf), ValueError, "source holds 9 values that are NaN or infinite"),
        (TARGET, 1e13 * SOURCE, ValueError, "source holds values as large as .*; scale it to at most 1e"),
        (np.zeros(0), SOURCE, ValueError, "target has 0 samples; pass at least one"),
        (TARGET, np.zeros(0), ValueError, "source has 0 samples; pass at least one"),
        (TARGET, [], ValueError, "source is empty; pass at least one recording"),
        (TARGET, np.zeros(4000), ValueError, "source is silent: .*pass a source that sounds"),
        (TARGET, [np.zeros(4000), np.zeros(500)], ValueError, "source is silent"),
        (TARGET, build_dictionary(np.zeros(4000), SR, params=GRID), ValueError, "source is silent"),
        (TARGET, "bees.wav", TypeError, "source is a str; pass an array of samples, a list of them, or a Dictionary"),
        (
            TARGET,
            build_dictionary(SOURCE, 44100, params=GRID),
            ValueError,
            "dictionary is at 44100 Hz but the target at 8000 Hz; resample one of them",
        ),
        (
            TARGET,
            build_dictionary(SOURCE, SR, params=StftParams(512, 64)),
            ValueError,
            "params is .*n_fft=256.* but the dictionary was built with .*n_fft=512.*; leave params out",
        ),
    ],
)
def test_signals_that_cannot_be_used_are_refused_by_name(target, source, error, message):
    with pytest.raises(error, match=message):
        make(target, source)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"preset": "clasic"},
            ValueError,
            "preset is 'clasic'; pass one of classic, balanced, melodic, faithful",
        ),
        ({"preset": None}, TypeError, "preset is None; pass Settings or one of classic, balanced, "),
        ({"preset": ["classic"]}, TypeError, "preset is .'classic'.; pass Settings or one of"),
        ({"phase": "random"}, ValueError, "phase is 'random'; pass one of source, target, griffin-lim"),
        ({"layers": 0}, ValueError, "layers is 0; pass a whole number of at least 1"),
        ({"layers": 2.5}, TypeError, "layers is 2.5; pass a whole number"),
        ({"iterations": 0}, ValueError, "iterations is 0; pass a whole number of at least 1"),
        ({"beta": 2.1}, ValueError, "beta is 2.1; pass a number from 0 to 2"),
        ({"beta": -1}, ValueError, "beta is -1; pass a number from 0 to 2"),
        ({"beta": "KL"}, TypeError, "beta is 'KL'; pass a number from 0 to 2"),
        ({"grain_length_s": -0.1}, ValueError, "grain_length_s is -0.1; pass a number of at least 0"),
        ({"no_repeat_s": float("nan")}, ValueError, "no_repeat_s is nan; pass a number of at least 0"),
        ({"sr": 0}, ValueError, "sr is 0"),
        ({"sr": 22050.0}, TypeError, "sr is 22050.0; pass a whole number"),
        ({"init": np.ones((3, 4))}, ValueError, r"init has shape \(3, 4\); 63 atoms and 47 frames need \(63, 47\)"),
        ({"init": -np.ones((63, 47))}, ValueError, "init holds negative values"),
        ({"preset": "sparse", "init": np.ones((63, 47))}, ValueError, "init means nothing to pursuit"),
        ({"preset": "sparse", "iterations": 5}, ValueError, "iterations means nothing to the preset sparse"),
        ({"preset": "sparse", "beta": 1.0}, ValueError, "beta means nothing to the preset sparse: it has only layers"),
        ({"preset": "sparse", "no_repeat_s": 0.1}, ValueError, "no_repeat_s means nothing to the preset sparse"),
        ({"preset": "sparse", "grain_length_s": 0.1}, ValueError, "grain_length_s means nothing to the preset sparse"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"method": "magic"}, ValueError, "method is 'magic'; pass one of updates, pursuit"),
        ({"rank": "size"}, ValueError, "rank is 'size'; pass one of h, contribution, energy"),
        ({"window_s": 0}, ValueError, "window_s is 0; pass a number from 0.001 to 2"),
        ({"hop_s": 2}, ValueError, "hop_s is 2; pass a number from 0.0001 to 1"),
        ({"sr": 500}, ValueError, "sr is 500 Hz; pass a sample rate"),
        ({"eps": -1}, ValueError, "eps is -1; pass a number of at least 0"),
        ({"restrict_every": 0}, ValueError, "restrict_every is 0"),
        ({"phase_iterations": -1}, ValueError, "phase_iterations is -1"),
        ({"momentum": 2}, ValueError, "momentum is 2; pass a number from 0 to 1"),
        ({"colour": "blue"}, TypeError, "colour"),
        ({"channels": "left"}, ValueError, "channels is 'left'; pass one of source, apart, mono"),
        (
            {"loudness": "loud"},
            ValueError,
            "loudness is 'loud'; pass one of target, as-is or a number of LUFS from -70",
        ),
        ({"loudness": 3}, ValueError, "loudness is 3; pass a number from -70 to 0"),
        ({"loudness": None}, TypeError, "loudness is None; pass a number from -70 to 0"),
        ({"level_follow": 101}, ValueError, "level_follow is 101; pass a number from 0 to 100"),
        ({"target_phase": -1}, ValueError, "target_phase is -1; pass a number from 0 to 100"),
        ({"ear_weighting": 1}, TypeError, "ear_weighting is 1; pass True or False"),
    ],
)
def test_settings_check_themselves(settings, error, message):
    with pytest.raises(error, match=message):
        Settings(**settings)
    if None not in settings.values():  # to `configure`, None is to leave it
        with pytest.raises(error, match=message):
            configure("classic", **settings)


def test_nothing_is_changed_behind_anyones_back():
    job = prepare(TARGET, SOURCE, SR, configure("classic", iterations=1), params=GRID)
    (step,) = solve_steps(job)
    made = finish(job, step, [])
    for thing, name in [(job, "target"), (made, "audio"), (made.settings, "layers"), (step, "H")]:
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, None)
    with pytest.raises(TypeError):
        PRESETS["classic"] = Settings()


def test_useful_sounds_pass_without_a_word():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(iterations=2)
    assert caught == []


@CHOOSING
def test_a_choosing_preset_is_its_steps_composed(preset):
    made = make(preset=preset, iterations=6, phase="source")
    settings, dictionary = made.settings, made.dictionary
    assert settings.compare == "views"
    at = np.arange(made.activations.shape[1]) * GRID.hop
    (recording,) = dictionary.recordings
    V, W = stacked(views(TARGET, at, GRID.hop, SR), views(recording, dictionary.centres, GRID.hop, SR))
    heard = dictionary.norms >= dictionary.norms.max() * 10 ** (-settings.quietest_db / 20)
    W = W * heard
    start = 1 - settings.start_spread * np.random.default_rng(0).random((W.shape[1], V.shape[1]))
    rules = settings.constraints(dictionary.hop_s)
    *_, last = activation_steps(V, W, n_iter=6, constraints=rules, segments=dictionary.recording_ids, init=start)
    norms = np.linalg.norm(W, axis=0)[:, None]
    if settings.choose == "grains":
        runs = find_runs(last.H * norms, dictionary.recording_ids, under_frame_db=settings.masking_db)
        shortest = max(1, round(settings.shortest_grain_s / dictionary.hop_s))
        runs = choose_runs(runs, layers=settings.layers, shortest=shortest)
        H = keep_runs(last.H, runs)
    else:
        H = limit_polyphony(last.H, polyphony=settings.layers, strength=1, weights=norms)
        assert ((H > 0).sum(axis=0) <= settings.layers).all()
    assert (H > 0).sum() < (last.H > 0).sum()
    if settings.choose == "grains":
        *_, refined = steps_of(MatrixStep(0, H, GainFit.of(V, W, H)), settings.refine)
    else:
        *_, refined = activation_steps(V, W, n_iter=settings.refine, init=H)
    wanted = refined.H
    if settings.smooth_gains_s:
        wanted = smooth_runs(wanted, runs, reach=round(settings.smooth_gains_s / dictionary.hop_s))
    np.testing.assert_allclose(made.activations.toarray(), wanted, rtol=1e-12)
    # The choice stands, and every refinement brings the mosaic nearer.
    assert not ((made.activations.toarray() > 0) & (H == 0)).any()
    assert made.divergences.shape == (6 + 1 + settings.refine + (settings.smooth_gains_s > 0),)
    refinements = made.divergences[6 : 7 + settings.refine]
    assert (np.diff(refinements) <= 1e-12 * refinements[0]).all()


def test_choosing_needs_to_know_how_many():
    with pytest.raises(ValueError, match="choose is 'grains' but layers is None; pass how many to choose"):
        Settings(choose="grains")


def test_an_offset_of_the_source_is_no_sound():
    offset, clean = SOURCE + 0.7, replace(PRESETS["classic"], remove_offset=True)
    made = make(source=offset, preset=clean)
    heard = highpass(offset - offset.mean(), SR)
    np.testing.assert_allclose(make(source=heard, preset=clean).audio, made.audio, atol=1e-9)
    # Nor is one that wanders; and where there is none, a source is left as it is.
    wave = 0.2 * np.sin(2 * np.pi * 3 * np.arange(len(offset)) / SR)
    (recording,) = make(source=offset + wave, preset=clean).dictionary.recordings
    wandering = np.abs(np.fft.rfft(recording))[: round(6 * len(recording) / SR)]
    assert wandering.max() < 0.01 * (0.2 * len(recording) / 2)
    np.testing.assert_array_equal(make(preset=clean).dictionary.recordings[0], SOURCE)
    # The notebook is left as it is taught.
    assert make(source=offset, preset="notebook").dictionary.norms[4] > 10 * make(preset="notebook").dictionary.norms[4]


# Levels


@pytest.mark.parametrize("preset", ["classic", "balanced", "notebook"])
@pytest.mark.parametrize(("target_width", "source_width"), [(1, 1), (1, 2), (2, 1), (2, 2), (6, 2)])
def test_the_mosaic_is_as_loud_as_its_target_whatever_their_channels(preset, target_width, source_width):
    target = np.stack([0.3 * np.roll(TARGET, 100 * i) for i in range(target_width)])
    source = np.stack([np.roll(SOURCE, 100 * i) for i in range(source_width)])
    for channels in ("source", "apart", "mono"):
        made = make(target, source, preset=preset, iterations=3, loudness="target", channels=channels)
        assert made.peak_gain_db == 0
        wanted = integrated_loudness(target, SR)
        assert integrated_loudness(made.audio, SR) == pytest.approx(wanted, abs=0.1)
        assert made.loudness == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("loudness", [-40, -30.5])
def test_a_loudness_of_ones_own(loudness):
    assert integrated_loudness(make(loudness=loudness, iterations=2).audio, SR) == pytest.approx(loudness, abs=0.1)


def test_as_is_and_matched_differ_by_the_gain_alone():
    plain, matched = (make(loudness=loudness) for loudness in ("as-is", "target"))
    assert (plain.gain_db, plain.peak_gain_db) == (0, 0)
    np.testing.assert_allclose(matched.audio, 10 ** (matched.gain_db / 20) * plain.audio, rtol=1e-12)
    assert matched.overlap == pytest.approx(plain.overlap, abs=1e-9)


def test_the_papers_presets_stay_at_the_level_of_their_gains():
    for name, settings in PRESETS.items():
        assert settings.loudness == ("as-is" if name in ("classic", "notebook", "sparse") else "target")


def test_the_contour_follows_the_target_s_if_asked():
    t = np.arange(4 * SR) / SR
    target = glide(4 * SR, 500) * 10 ** (8 * np.sin(2 * np.pi * 0.5 * t) / 20)
    # A source that is loud where it is used last.
    settings = configure("classic", iterations=1)
    job = prepare(target, glide(4 * SR, 500), SR, settings, params=GRID)
    step = MatrixStep(1, np.eye(job.dictionary.n_atoms), None)

    def apart(level_follow):
        made = finish(replace(job, settings=replace(settings, level_follow=level_follow)), step, [])
        return np.std((loudness_contour(made.audio, SR) - loudness_contour(target, SR))[5:-5])

    assert apart(100) < 0.5 * apart(0)
    assert apart(100) < apart(50) < apart(0)


# The ear, and the target's phase


@PLAIN
def test_the_ear_s_weights_are_on_both_sides_and_gains_stay_those_of_the_source(preset):
    settings = configure(preset, ear_weighting=True, iterations=6)
    job = prepare(TARGET, SOURCE, SR, settings, params=GRID)
    *_, last = solve_steps(job)
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
def test_every_preset_can_hear(preset):
    made = make(preset=preset, ear_weighting=True, **_briefly(preset))
    assert np.isfinite(made.audio).all()
    assert made.audio.any()


def test_the_ear_hears_a_voice_above_a_rumble():
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
    leaks = [one.leak for one in made[1:]]
    assert (np.diff(leaks) > 0).all()
    assert leaks[-1] > 0.15
    expected = evaluate(to_mono(made[2].audio), target, to_mono(source), SR)["leak"]
    assert made[2].leak == pytest.approx(expected, abs=1e-6)


def test_all_of_the_target_s_phase_is_the_target_s_phase():
    settings = configure("classic", iterations=3, target_phase=100, loudness="as-is")
    job = prepare(TARGET, SOURCE, SR, settings, params=GRID)
    *_, step = solve_steps(job)
    made = finish(job, step, [])
    plain = stft(synthesize(step.H, job.dictionary, length=LENGTH), GRID)
    turned = np.abs(plain) * np.exp(1j * np.angle(job.spectrum))
    np.testing.assert_allclose(made.audio, istft(turned, GRID, length=LENGTH), rtol=0, atol=1e-12)


# What goes into the solver


def test_a_fade_by_hand():
    # Squares of sines at the middles of four samples: 1, 3, 5 and 7 sixteenths of a half turn.
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
        # Turned over it fades as well.
        np.testing.assert_array_equal(channel[::-1], fade_edges(alone[::-1], 10))


def test_sources_fade_as_long_as_the_settings_say():
    settings = replace(PRESETS["classic"], fade_s=0.01, remove_offset=False)
    job = prepare(TARGET, [SOURCE, np.stack([SOURCE, 2 * SOURCE])], SR, settings, params=GRID)
    first, second = job.dictionary.recordings
    np.testing.assert_array_equal(first, fade_edges(SOURCE, 80))
    np.testing.assert_array_equal(second[1], fade_edges(2 * SOURCE, 80))
    np.testing.assert_array_equal(job.target, TARGET)


@UPDATING_AS_RECORDED
@EVERY_TYPE
def test_source_frames_too_quiet_to_sound_have_no_activation(preset, dtype):
    # The second half of the source is 60 dB down, and near to the target.
    source = np.concatenate([glide(4000, 300, seed=2), 1e-3 * TARGET]).astype(dtype)
    settings = replace(PRESETS[preset], quietest_db=40.0, iterations=3, phase="source")
    job = prepare(TARGET.astype(dtype), source, SR, settings, params=GRID)
    quiet = ~job.dictionary.sounding(40.0)
    assert quiet.sum() > 40
    V, W = compared(job)
    assert (V.dtype, W.dtype) == (dtype, dtype)
    assert not W[:, quiet].any()
    assert W[:, ~quiet].any(axis=0).all()
    *_, step = solve_steps(job)
    # With eps > 0 the solver leaves what explains nothing as it started; it sounds no more for that.
    assert job.settings.eps or not step.H[quiet].any()
    gains = recorded_gains(step.H, job).toarray()
    assert not gains[quiet].any()
    assert gains[~quiet].any()
    # Without the rule they would be used.
    job = replace(job, settings=replace(settings, quietest_db=0.0, choose=None))
    *_, step = solve_steps(job)
    assert recorded_gains(step.H, job).toarray()[quiet].any()


@pytest.mark.parametrize("compare", ["bins", "bands", "views"])
@pytest.mark.parametrize("quietest_db", [0.0, 50.0])
@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_silent_source_frames_have_no_activation_whatever_is_compared(compare, quietest_db, eps):
    settings = Settings(compare=compare, quietest_db=quietest_db, eps=eps, iterations=2)
    source = np.concatenate([SOURCE, np.zeros(2000), SOURCE])
    job = prepare(TARGET, source, SR, settings, params=GRID)
    silent = job.dictionary.norms == 0
    assert silent.sum() > 20
    *_, step = solve_steps(job)
    assert eps or not step.H[silent].any()
    assert not recorded_gains(step.H, job).toarray()[silent].any()


@UPDATING_AS_RECORDED
def test_a_start_without_spread_is_the_same_for_every_seed(preset):
    job = prepare(TARGET, SOURCE, SR, replace(PRESETS[preset], start_spread=0.0, iterations=2), params=GRID)
    first, other = (list(solve_steps(job, rng=seed))[-1].H for seed in (0, 1))
    np.testing.assert_array_equal(first, other)
    V, W = compared(job)
    rules = job.settings.constraints(GRID.hop / SR)
    expected = next(
        activation_steps(
            V,
            W,
            n_iter=2,
            beta=job.settings.beta,
            eps=job.settings.eps,
            constraints=rules,
            init=np.ones((W.shape[1], V.shape[1])),
        )
    )
    np.testing.assert_array_equal(next(solve_steps(job)).H, expected.H)


@UPDATING
@pytest.mark.parametrize("spread", [0.01, 0.5, 1.0])
def test_a_start_with_a_spread_depends_on_the_seed(preset, spread):
    job = prepare(TARGET, SOURCE, SR, replace(PRESETS[preset], start_spread=spread, iterations=2), params=GRID)
    first, again, other = (next(solve_steps(job, rng=seed)).H for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@AS_RECORDED
@pytest.mark.parametrize(
    "changes", [{}, {"refine": 0}, {"smooth_gains_s": 0.0}, {"choose": None}, {"choose": "frames"}]
)
def test_there_are_as_many_steps_as_announced(preset, changes):
    settings = replace(PRESETS[preset], **{"layers": PRESETS[preset].layers or 2} | changes)
    # On the grid of the settings themselves, a third of a second of which is enough.
    job = prepare(TARGET, SOURCE, SR, settings)
    steps = list(solve_steps(job))
    assert len(steps) == solver_of(job).n_steps
    assert [step.iteration for step in steps] == list(range(1, len(steps) + 1))


def test_pursuit_takes_no_more_steps_than_there_are_source_frames():
    for layers in (3, 100, None):
        settings = replace(PRESETS["sparse"], layers=layers)
        job = prepare(TARGET, SOURCE[:600], SR, settings, params=GRID)
        assert len(list(solve_steps(job))) == solver_of(job).n_steps == min(layers or 10, 10)


# What comes out of it


@pytest.mark.parametrize("changes", [{"colour": 50.0}, {"attacks": 80.0}, {"colour": 100.0, "attacks": 100.0}, {}])
@pytest.mark.parametrize("width", [1, 2])
def test_sound_is_coloured_and_then_sharpened_as_far_as_the_settings_say(changes, width):
    target = np.concatenate([0.001 * TARGET, TARGET[::-1]])
    settings = replace(PRESETS["classic"], colour=0.0, attacks=0.0, iterations=2)
    settings = replace(settings, **changes)
    source = SOURCE if width == 1 else np.stack([SOURCE, SOURCE[::-1]])
    job = prepare(target, source, SR, settings, params=GRID)
    *_, step = solve_steps(job)
    part = part_of(job, step, [])
    audio = part.unshaped
    if "colour" in changes:
        audio = colour(to_mono(audio), target, SR, share=settings.colour / 100).apply(audio)
    if "attacks" in changes:
        times_s = onset_times(target, SR)
        assert len(times_s)
        audio = attack_shape(to_mono(audio), target, SR, times_s, share=settings.attacks / 100).apply(audio)
    if width == 2 and changes:
        audio = match_coherence(audio, part.unshaped, GRID)
    np.testing.assert_array_equal(part.audio, audio)
    np.testing.assert_array_equal(
        shaped(part.unshaped, part.dictionary, Aim(job.target, job.settings, melodies_of(job))), audio
    )
    assert (np.abs(part.audio - part.unshaped).max() > 1e-4) == bool(changes)


@pytest.mark.parametrize("changes", [{}, {"purity": 50.0}, {"purity": 100.0, "colour": 30.0, "attacks": 80.0}])
@pytest.mark.parametrize("width", [1, 2])
def test_in_tune_purity_comes_first_and_attacks_are_sharpened_by_a_part_of_their_share(changes, width):
    target = np.concatenate([0.001 * TARGET, TARGET[::-1]])
    bare = {"purity": 0.0, "colour": 0.0, "attacks": 0.0, "refine": 0, "iterations": 2}
    settings = replace(PRESETS["melodic"], transpose="follow", **bare | changes)
    source = SOURCE if width == 1 else np.stack([SOURCE, SOURCE[::-1]])
    pitch = np.full(GRID.n_frames(len(target)), 600.0)
    pitch[::3] = 700
    tracks = {"target_f0": pitch, "source_f0": np.full(GRID.n_frames(len(SOURCE)), 450.0)}
    job = prepare(target, source, SR, settings, params=GRID, **tracks)
    *_, step = solve_steps(job)
    part = part_of(job, step, [])
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
def test_without_a_melody_there_is_nothing_to_make_pure_and_attacks_have_all_of_their_share(transpose):
    target = np.concatenate([0.001 * TARGET, TARGET[::-1]])
    settings = replace(PRESETS["melodic"], transpose=transpose, purity=100.0, colour=0.0, attacks=80.0, iterations=2)
    tracks = {} if transpose == "off" else {"source_f0": np.zeros(GRID.n_frames(len(SOURCE)))}
    job = prepare(target, SOURCE, SR, settings, params=GRID, **tracks)
    *_, step = solve_steps(job)
    part = part_of(job, step, [])
    sharp = attack_shape(part.unshaped, target, SR, onset_times(target, SR), share=0.8).apply(part.unshaped)
    np.testing.assert_array_equal(part.audio, sharp)


def test_only_the_preset_that_follows_melodies_makes_them_pure():
    assert Settings().purity == 0
    assert {name: of.purity for name, of in PRESETS.items() if of.purity} == {"melodic": 50}


# A value that no setting can have, and what is said of it.
BAD = {
    "summary": (3, "pass a sentence"),
    "method": ("magic", "pass one of updates, pursuit"),
    "window_s": (0.0, "pass a number from 0.001 to 2"),
    "hop_s": (-1.0, "pass a number from 0.0001 to 1"),
    "sr": (10, "pass a sample rate"),
    "iterations": (0, "pass a whole number of at least 1"),
    "beta": (3.0, "pass a number from 0 to 2"),
    "eps": (-1e-9, "pass a number of at least 0"),
    "remove_offset": (1, "pass True or False"),
    "fade_s": (-0.001, "pass a number of at least 0"),
    "quietest_db": (-50.0, "pass a number of at least 0"),
    "start_spread": (1.5, "pass a number from 0 to 1"),
    "unit_norm": (None, "pass True or False"),
    "layers": (0, "pass a whole number of at least 1"),
    "no_repeat_s": (float("inf"), "pass a number of at least 0"),
    "grain_length_s": (float("nan"), "pass a number of at least 0"),
    "drift": (101.0, "pass a number from 0 to 100"),
    "restrict_every": (0, "pass a whole number of at least 1"),
    "rank": ("size", "pass one of h, contribution, energy"),
    "compare": ("pixels", "pass one of bins, bands, views"),
    "choose": ("all", "pass one of grains, frames"),
    "candidates": (2.5, "pass a whole number of at least 1"),
    "search": ("maybe", "pass one of auto, always, never"),
    "shortlist": (0, "pass a whole number of at least 1"),
    "shortest_grain_s": (-1.0, "pass a number of at least 0"),
    "masking_db": (-6.0, "pass a number of at least 0"),
    "smooth_gains_s": ("long", "pass a number of at least 0"),
    "refine": (-1, "pass a whole number of at least 0"),
    "nonnegative": ("yes", "pass True or False"),
    "phase": ("random", "pass one of source, target, griffin-lim"),
    "phase_iterations": (-1, "pass a whole number of at least 0"),
    "momentum": (1.5, "pass a number from 0 to 1"),
    "aim": ("high", "pass one of amplitude, geometric"),
    "target_phase": (101.0, "pass a number from 0 to 100"),
    "colour": (100.5, "pass a number from 0 to 100"),
    "attacks": (-1, "pass a number from 0 to 100"),
    "channels": ("left", "pass one of source, apart, mono"),
    "ear_weighting": (0, "pass True or False"),
    "loudness": (1.0, "pass a number from -70 to 0"),
    "level_db": (25.0, "pass a number from -100 to 24"),
    "level_follow": (-1, "pass a number from 0 to 100"),
    "transpose": ("up", "pass one of auto, off, follow, chords, or a range of semitones"),
    "keep_formants": (1, "pass True or False"),
    "tape": (0, "pass True or False"),
    "tune_cents": (1201.0, "pass a number from -1200 to 1200"),
    "purity": (101, "pass a number from 0 to 100"),
    "voices": (0, "pass a whole number of at least 1"),
}


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_every_setting_is_checked_by_name(name):
    value, allowed = BAD[name]
    with pytest.raises((ValueError, TypeError), match=f"^{name} is .*; {allowed}"):
        replace(PRESETS["balanced"], **{name: value})
    # Neither numbers nor words may be lists, and none but numbers without a limit may be left open.
    with pytest.raises((ValueError, TypeError), match=f"^{name} is "):
        replace(PRESETS["balanced"], **{name: []})
    if name not in ("layers", "sr", "choose"):
        with pytest.raises((ValueError, TypeError), match=f"^{name} is None; pass "):
            replace(PRESETS["balanced"], **{name: None})


def test_a_transposed_source_keeps_its_image():
    n = 2 * SR
    t = np.arange(n) / SR
    sound = np.sin(2 * np.pi * 440 * t) + 0.5 * np.sin(2 * np.pi * 880 * t)
    # The same on both sides, three times as loud on the left; each grain is shifted alike in both.
    source = np.stack([0.6 * sound, 0.2 * sound]).astype(np.float32)
    hop = StftParams.from_seconds(PRESETS["melodic"].window_s, PRESETS["melodic"].hop_s, SR).hop
    pitch = np.full(1 + n // hop, 440.0)
    made = mosaic(source[0], source, SR, preset="melodic", iterations=2, target_f0=pitch / 2, source_f0=pitch)
    left, right = made.audio
    np.testing.assert_allclose(left, 3 * right, atol=1e-3 * np.abs(left).max())
    assert np.abs(left).max() > 0.05


def test_a_range_and_a_tuning_are_at_most_four_octaves_together():
    with pytest.raises(
        ValueError, match=r"^transpose goes from 48 to 48 semitones and tune_cents is 100, together beyond"
    ):
        replace(PRESETS["melodic"], transpose=(48.0, 48.0), tune_cents=100.0)
