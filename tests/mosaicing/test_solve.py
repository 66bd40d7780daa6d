"""What is solved: comparisons with transcriptions by hand, and the input of the solver."""

from dataclasses import replace

import numpy as np
import pytest
from kit_mosaicing import AS_RECORDED, EVERY_TYPE, GRID, PLAIN, SOURCE, SR, TARGET, glide, make

import oracles
from helpers import prepared
from smalti import PRESETS, LetItBee, Settings, StftParams, activation_steps, istft, mosaic, stft
from smalti.grains.descriptors import stacked, views
from smalti.grains.runs import choose_runs, find_runs, keep_runs, smooth_runs
from smalti.mosaicing.compare import compared
from smalti.mosaicing.solve import recorded_gains, solver_of
from smalti.nmf.base import MatrixStep
from smalti.nmf.gains import GainFit
from smalti.nmf.let_it_bee import limit_polyphony
from smalti.nmf.multiplicative import steps_of

CHOOSING = pytest.mark.parametrize(
    "preset", sorted(name for name, own in PRESETS.items() if own.choose and own.transpose == "off")
)


# Presets with multiplicative updates, which alone have a random start, rules and iterations.
UPDATING_AS_RECORDED = pytest.mark.parametrize(
    "preset", sorted(name for name, own in PRESETS.items() if own.method == "updates" and own.transpose == "off")
)


UPDATING = pytest.mark.parametrize("preset", sorted(name for name in PRESETS if PRESETS[name].method == "updates"))


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
def test_classic_has_the_paper_s_numbers_at_rates_that_give_other_hops(sr):
    settings = PRESETS["classic"]
    params = StftParams.from_seconds(settings.window_s, settings.hop_s, sr)
    assert settings.constraints(params.hop / sr) == LetItBee(repetition=3, polyphony=10, continuity=3)
    assert params.n_fft == 4 * params.hop
    assert params.hop / sr == pytest.approx(settings.hop_s, rel=0.05)


def test_sparse_takes_the_most_similar_frame_and_fits_its_gain():
    made = make(preset="sparse")
    V, W = np.abs(stft(TARGET, GRID)), made.dictionary.magnitudes
    activations = made.activations.toarray()
    for n in range(V.shape[1]):
        similarities = [V[:, n] @ w / np.linalg.norm(w) for w in W.T]
        best = int(np.argmax(similarities))
        assert np.flatnonzero(activations[:, n]).tolist() == [best]
        assert activations[best, n] == pytest.approx(V[:, n] @ W[:, best] / (W[:, best] @ W[:, best]))


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_sparse_has_as_many_frames_at_once_as_layers(layers):
    made = make(preset="sparse", layers=layers)
    sounding = (made.activations.toarray() > 0).sum(axis=0)
    assert sounding.max() == layers
    assert len(made.divergences) == layers
    assert (np.diff(made.divergences) < 0).all()


def test_notebook_never_gets_worse():
    made = make(preset="notebook")
    assert made.divergences.shape == (100,)
    assert (np.diff(made.divergences) <= 1e-12 * made.divergences[0]).all()
    assert made.divergences[-1] < 0.9 * made.divergences[0]


@PLAIN
@pytest.mark.parametrize("iterations", [1, 7])
def test_there_is_one_divergence_for_each_iteration(preset, iterations):
    assert make(preset=preset, iterations=iterations).divergences.shape == (iterations,)


@CHOOSING
def test_a_choosing_preset_is_the_composition_of_its_steps(preset):
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
    # Refinements do not change the choice, and never raise the divergence.
    assert not ((made.activations.toarray() > 0) & (H == 0)).any()
    assert made.divergences.shape == (6 + 1 + settings.refine + (settings.smooth_gains_s > 0),)
    refinements = made.divergences[6 : 7 + settings.refine]
    assert (np.diff(refinements) <= 1e-12 * refinements[0]).all()


@UPDATING_AS_RECORDED
@EVERY_TYPE
def test_source_frames_too_quiet_to_sound_have_no_activation(preset, dtype):
    # The second half of the source is like the target, but 60 dB quieter.
    source = np.concatenate([glide(4000, 300, seed=2), 1e-3 * TARGET]).astype(dtype)
    settings = replace(PRESETS[preset], quietest_db=40.0, iterations=3, phase="source")
    job = prepared(TARGET.astype(dtype), source, SR, settings, params=GRID)
    quiet = ~job.dictionary.sounding(40.0)
    assert quiet.sum() > 40
    V, W = compared(job)
    assert (V.dtype, W.dtype) == (dtype, dtype)
    assert not W[:, quiet].any()
    assert W[:, ~quiet].any(axis=0).all()
    *_, step = solver_of(job).steps()
    # With eps > 0 the solver leaves useless activations at their start values, but they do not sound.
    assert job.settings.eps or not step.H[quiet].any()
    gains = recorded_gains(step.H, job).toarray()
    assert not gains[quiet].any()
    assert gains[~quiet].any()
    # Without `quietest_db` they are used.
    job = replace(job, settings=replace(settings, quietest_db=0.0, choose=None))
    *_, step = solver_of(job).steps()
    assert recorded_gains(step.H, job).toarray()[quiet].any()


@pytest.mark.parametrize("compare", ["bins", "bands", "views"])
@pytest.mark.parametrize("quietest_db", [0.0, 50.0])
@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_silent_source_frames_have_no_activation_in_any_comparison(compare, quietest_db, eps):
    settings = Settings(compare=compare, quietest_db=quietest_db, eps=eps, iterations=2)
    source = np.concatenate([SOURCE, np.zeros(2000), SOURCE])
    job = prepared(TARGET, source, SR, settings, params=GRID)
    silent = job.dictionary.norms == 0
    assert silent.sum() > 20
    *_, step = solver_of(job).steps()
    assert eps or not step.H[silent].any()
    assert not recorded_gains(step.H, job).toarray()[silent].any()


@UPDATING_AS_RECORDED
def test_a_start_without_spread_is_the_same_for_every_seed(preset):
    job = prepared(TARGET, SOURCE, SR, replace(PRESETS[preset], start_spread=0.0, iterations=2), params=GRID)
    first, other = (list(solver_of(job).steps(seed))[-1].H for seed in (0, 1))
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
    np.testing.assert_array_equal(next(solver_of(job).steps()).H, expected.H)


@UPDATING
@pytest.mark.parametrize("spread", [0.01, 0.5, 1.0])
def test_a_start_with_a_spread_depends_on_the_seed(preset, spread):
    job = prepared(TARGET, SOURCE, SR, replace(PRESETS[preset], start_spread=spread, iterations=2), params=GRID)
    first, again, other = (next(solver_of(job).steps(seed)).H for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@AS_RECORDED
@pytest.mark.parametrize(
    "changes", [{}, {"refine": 0}, {"smooth_gains_s": 0.0}, {"choose": None}, {"choose": "frames"}]
)
def test_the_number_of_steps_is_known_beforehand(preset, changes):
    settings = replace(PRESETS[preset], **{"layers": PRESETS[preset].layers or 2} | changes)
    # The job is on the settings' own grid, on which a third of a second is enough.
    job = prepared(TARGET, SOURCE, SR, settings)
    steps = list(solver_of(job).steps())
    assert len(steps) == solver_of(job).n_steps
    assert [step.iteration for step in steps] == list(range(1, len(steps) + 1))


def test_pursuit_takes_no_more_steps_than_there_are_source_frames():
    for layers in (3, 100, None):
        settings = replace(PRESETS["sparse"], layers=layers)
        job = prepared(TARGET, SOURCE[:600], SR, settings, params=GRID)
        assert len(list(solver_of(job).steps())) == solver_of(job).n_steps == min(layers or 10, 10)
