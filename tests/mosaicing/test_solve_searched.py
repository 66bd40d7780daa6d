"""Mosaics of a source that is searched: the candidates, weights and limits, and the mosaic as a whole."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import finish, prepared
from smalti import PRESETS, _parallel, beta_divergence, build_dictionary, mosaic, synthesize
from smalti.dsp.stft import StftParams
from smalti.grains.corpus import Corpus, corpus_of
from smalti.grains.filters import Limit
from smalti.grains.runs import Runs
from smalti.grains.source import Source, as_sources
from smalti.mosaicing.candidates import along_diagonals, found
from smalti.mosaicing.compare import Comparison, compared, may_sound
from smalti.mosaicing.solve import solver_of
from smalti.mosaicing.solve_searched import SearchedStep, beyond_limits, listed_steps, restricted
from smalti.presets import configure
from sounds import cleaned

pytestmark = pytest.mark.samples

SR = 11025
BALANCED = replace(PRESETS["balanced"], search="always")
GRID = StftParams.from_seconds(BALANCED.window_s, BALANCED.hop_s, SR)


def noises(rng, *, seconds=2.0, bursts=12):
    """Some seconds of short chords, each of which sounds unlike all others."""
    length = round(seconds * SR)
    t = np.arange(length) / SR
    out = np.zeros(length, np.float32)
    for start in np.linspace(0, length, bursts, endpoint=False).astype(int):
        span = slice(start, start + length // bursts)
        for hz in 80 * 2 ** rng.uniform(0, 5, 3):
            out[span] += np.sin(2 * np.pi * hz * t[span]).astype(np.float32) * rng.uniform(0.05, 0.2)
    return out + rng.standard_normal(length).astype(np.float32) * 1e-3


@pytest.fixture
def sources(rng):
    return [noises(rng) for _ in range(3)]


@pytest.fixture
def corpus(sources):
    return corpus_of([cleaned(samples, SR) for samples in sources], SR, params=GRID, names=["a", "b", "c"])


def solved(target, source, settings=BALANCED, **how):
    job = prepared(target, source, SR, settings, **how)
    steps = list(solver_of(job).steps())
    return job, steps


def test_a_target_cut_out_of_the_source_is_found_there(rng, sources, corpus):
    # The cuts are at whole hops, so that frames of the target are frames of the source.
    pieces = [(1, 5, 20), (0, 30, 22), (2, 12, 18)]
    target = np.concatenate([cleaned(sources[i], SR)[a * GRID.hop : (a + n) * GRID.hop] for i, a, n in pieces])
    _, steps = solved(target, corpus)
    H = steps[-1].H.toarray() * corpus.levels[:, None]
    at, first = 0, [0, *np.cumsum(np.bincount(corpus.recording_ids))]
    for i, a, n in pieces:
        # Frames near the cuts hold two pieces and are left out.
        inner = np.arange(3, n - 3)
        own = H[first[i] + a + inner, at + inner].sum()
        assert own > 0.8 * H[:, at + inner].sum()
        at += n


def test_candidates_are_allowed_and_lie_apart(rng, sources, corpus):
    job = prepared(noises(rng, seconds=1), corpus, SR, BALANCED)
    comparison, allowed = Comparison.of(job, corpus), rng.random(corpus.n_atoms) < 0.5
    anchors = found(comparison, comparison.Vt, allowed, n=6, reach=4)
    assert anchors.shape == (comparison.Vt.shape[0], 6)
    for row in anchors:
        taken = row[row >= 0]
        assert allowed[taken].all()
        assert (np.abs(np.diff(np.sort(taken))) > 4).all()


def test_a_long_match_is_found_before_a_short_one(rng):
    # The first recording has one moment of the target alone; the second has it with its surroundings.
    target = noises(rng, seconds=2)
    moment = slice(40 * GRID.hop, 44 * GRID.hop)
    alone = 1e-4 * rng.standard_normal(SR).astype(np.float32)
    alone[: moment.stop - moment.start] = target[moment]
    corpus = corpus_of([alone, target], SR, params=GRID, names=["moment", "all"])
    job = prepared(target, corpus, SR, BALANCED)
    comparison = Comparison.of(job, corpus)
    anchors = found(comparison, comparison.Vt, may_sound(corpus, BALANCED), n=1, reach=5)
    assert corpus.recording_ids[anchors[38:46, 0]].tolist() == [1] * 8


def test_lists_hold_all_places_of_stretches_through_anchors(rng):
    segments, allowed = np.repeat([0, 1, 2], [5, 3, 6]), rng.random(14) < 0.8
    anchors = rng.integers(-1, 14, size=(9, 2))
    wanted = set()
    for frame, row in enumerate(anchors.tolist()):
        for atom in row:
            for step in range(-2, 3):
                at, k = frame + step, atom + step
                if atom >= 0 and 0 <= at < 9 and 0 <= k < 14 and segments[k] == segments[atom] and allowed[k]:
                    wanted.add((at, k))
    indptr, atoms = along_diagonals(anchors, segments, allowed, 2)
    frames = np.repeat(np.arange(9), np.diff(indptr))
    assert list(zip(frames.tolist(), atoms.tolist(), strict=True)) == sorted(wanted)


@pytest.mark.parametrize("rank", ["h", "contribution", "energy"])
def test_rules_on_full_lists_agree_with_rules_on_arrays(rng, sources, corpus, rank):
    settings = replace(BALANCED, rank=rank)
    job = prepared(noises(rng, seconds=0.6), corpus, SR, settings)
    comparison, (V, W) = Comparison.of(job, corpus), compared(replace(job, settings=replace(settings, quietest_db=0)))
    shape = W.shape[1], V.shape[1]
    H = rng.random(shape).astype(np.float32)
    everything = np.tile(np.arange(shape[0], dtype=np.int32), shape[1])
    entries = comparison.entries(np.arange(shape[1] + 1) * shape[0], everything, H.T.ravel())
    got = restricted(entries, job, comparison, layers=None, strength=0.7).reshape(H.T.shape).T
    rules = settings.constraints(corpus.hop_s)
    expected = rules.apply(H, strength=0.7, segments=corpus.recording_ids, weights=rules.weights(W))
    # Half precision may rank two nearly equal atoms the other way round, so either may survive.
    assert np.isclose(got, expected, rtol=1e-4).mean() > 0.995


def test_a_search_that_considers_all_frames_agrees_with_the_solver_without_search(rng, sources, corpus):
    settings = replace(BALANCED, start_spread=0.0)
    target = noises(rng, seconds=0.6)
    job = prepared(target, corpus, SR, settings)
    unsearched = replace(settings, search="never", fade_s=0.0)
    dense = list(solver_of(prepared(target, [cleaned(y, SR) for y in sources], SR, unsearched)).steps())
    comparison, allowed = Comparison.of(job, corpus), may_sound(corpus, settings)
    anchors = np.tile(np.arange(corpus.n_atoms), (job.spectrum.shape[1], 1))
    everything = along_diagonals(anchors, corpus.recording_ids, allowed, 1)
    steps = list(listed_steps(job, comparison, everything, rng=np.random.default_rng(0)))
    assert len(steps) == len(dense)
    for ours, theirs in zip(steps, dense, strict=True):
        # Features are exact to a thousandth, so nearly all choices are the same.
        assert ours.divergence == pytest.approx(theirs.divergence, rel=0.05)
    assert steps[settings.iterations - 1].divergence == pytest.approx(
        dense[settings.iterations - 1].divergence, rel=0.005
    )


def test_the_divergence_is_that_of_the_views(rng, sources, corpus):
    target = noises(rng, seconds=0.6)
    job, steps = solved(target, corpus)
    V, W = compared(replace(job, dictionary=build_dictionary([cleaned(y, SR) for y in sources], SR, params=GRID)))
    for step in (steps[0], steps[-1]):
        assert isinstance(step, SearchedStep)
        expected = beta_divergence(V, W @ step.H.toarray() + np.float32(1e-9 * V.max()))
        assert step.divergence == pytest.approx(expected, rel=0.01)


def test_a_mosaic_reads_only_recordings_that_sound_and_sounds_like_the_whole_dictionary(rng, sources, corpus):
    read = []

    class Counted(tuple):
        def __getitem__(self, i):
            read.append(i)
            return tuple.__getitem__(self, i)

    target = sources[1][: SR // 2]
    job, steps = solved(target, replace(corpus, recordings=Counted(corpus.recordings)))
    made = finish(job, steps[-1], [0.0])
    assert set(read) == {("a", "b", "c").index(name) for name in made.dictionary.names}
    assert len(set(read)) < 3
    assert made.activations.shape == (made.dictionary.n_atoms, job.spectrum.shape[1])
    assert (np.diff(made.activations.tocsr().indptr) > 0).all()
    dictionary = build_dictionary([cleaned(samples, SR) for samples in sources], SR, params=GRID)
    part = made.parts[0]
    expected = synthesize(
        steps[-1].H * job.spectrum.any(axis=0), dictionary, length=len(target), phase="griffin-lim",
        n_iter=BALANCED.phase_iterations,
    )  # fmt: skip
    np.testing.assert_allclose(part.unshaped, expected, atol=1e-4 * np.abs(expected).max())


def test_the_same_seed_gives_the_same_samples_on_any_number_of_cores(rng, sources, monkeypatch):
    target = noises(rng, seconds=0.8)
    first = mosaic(target, sources, SR, preset=BALANCED, rng=3)
    monkeypatch.setattr(_parallel, "n_cores", lambda: 5)
    again = mosaic(target, sources, SR, preset=BALANCED, rng=3)
    np.testing.assert_array_equal(first.audio, again.audio)
    other = mosaic(target, sources, SR, preset=BALANCED, rng=4)
    assert not np.array_equal(first.audio, other.audio)


@pytest.mark.parametrize("preset", ["balanced", "faithful", "source-like"])
def test_the_number_of_steps_is_known_beforehand(rng, corpus, preset):
    settings = replace(PRESETS[preset], iterations=4)
    job, steps = solved(noises(rng, seconds=0.5), corpus, settings)
    assert [step.iteration for step in steps] == list(range(1, solver_of(job).n_steps + 1))


def test_double_precision_is_searched_too(rng, sources):
    target = noises(rng, seconds=0.5)
    single = mosaic(target, sources, SR, preset=BALANCED)
    double = mosaic(target.astype(np.float64), [samples.astype(np.float64) for samples in sources], SR, preset=BALANCED)
    assert double.audio.dtype == np.float64
    assert np.sqrt(np.mean((single.audio - double.audio) ** 2)) < 0.1 * np.sqrt(np.mean(double.audio**2))


def test_a_silent_target_has_a_silent_mosaic(corpus):
    with pytest.warns(UserWarning, match="silent"):
        made = mosaic(np.zeros(SR, np.float32), corpus, SR, preset=BALANCED)
    assert not made.audio.any()
    assert made.activations.nnz == 0


def test_frames_that_are_too_quiet_never_sound(rng):
    loud, quiet = noises(rng), noises(rng, seconds=1)
    source = np.concatenate([loud, 1e-4 * quiet])
    corpus = corpus_of([source], SR, params=GRID, names=["both"])
    _, steps = solved(quiet, corpus)
    used = np.flatnonzero(steps[-1].H.toarray().any(axis=1))
    assert corpus.centres[used].max() <= len(loud) + GRID.n_fft


def test_a_recording_of_several_channels_is_found_by_its_mix_and_heard_in_all_channels(rng):
    left = noises(rng)
    corpus = corpus_of([np.stack([left, 0.5 * left])], SR, params=GRID, names=["wide"])
    made = mosaic(left[: SR // 2], corpus, SR, preset=replace(BALANCED, colour=0, attacks=0))
    assert made.audio.shape == (2, SR // 2)
    np.testing.assert_allclose(made.audio[1], 0.5 * made.audio[0], atol=0.02 * np.abs(made.audio).max())
    mono = mosaic(left[: SR // 2], corpus, SR, preset=replace(BALANCED, channels="mono"))
    assert mono.audio.shape == (SR // 2,)


def share_of(made, name):
    counts = np.asarray((made.activations > 0).sum(axis=1)).ravel()
    own = np.array([made.dictionary.names[i] == name for i in made.dictionary.recording_ids])
    return counts[own].sum() / counts.sum()


def built(target, corpus, **how):
    job, steps = solved(target, corpus, **how)
    return finish(job, steps[-1], [0.0])


def test_more_weight_sounds_more_and_no_weight_never_sounds(rng, corpus):
    target = noises(rng)
    shares = [
        share_of(built(target, corpus, weights=np.array([weight, 1, 1], np.float32)), "a") for weight in (0, 1, 4)
    ]
    assert shares[0] == 0 < shares[1] < shares[2]


@pytest.mark.parametrize("most", [0.0, 0.1, 0.3])
def test_no_source_sounds_more_than_its_limit(sources, corpus, most):
    # Without a limit, the mosaic is made of hardly anything else.
    target = sources[0]
    assert share_of(built(target, corpus), "a") > 0.9
    limit = Limit("a", most, np.array([True, False, False]))
    made = built(target, corpus, limits=[limit])
    assert share_of(made, "a") <= most
    # Other recordings fill its places nearly everywhere.
    assert (np.diff(made.activations.indptr) > 0).mean() > 0.9


def test_the_weakest_stretches_of_a_limited_source_are_dropped():
    runs = Runs(
        atoms=np.array([0, 10, 20, 30]),
        frames=np.zeros(4, int),
        lengths=np.array([4, 4, 4, 8]),
        energies=np.array([1.0, 3.0, 2.0, 0.5]),
    )
    limit = Limit("few", 1 / 3, np.array([True, False]))
    assert beyond_limits(runs, np.repeat([0, 1], [30, 10]), [limit]).tolist() == [True, False, True, False]
    half = Limit("half", 0.5, np.array([True, False]))
    assert beyond_limits(runs, np.repeat([0, 1], [30, 10]), [half]).tolist() == [True, False, False, False]
    assert beyond_limits(runs, np.repeat([0, 1], [30, 10]), []).tolist() == [False] * 4


def test_without_a_search_a_corpus_acts_like_its_recordings(rng, sources, corpus):
    target = noises(rng, seconds=0.5)
    settings = configure("classic", iterations=5)
    from_corpus = mosaic(target, corpus, SR, preset=settings)
    plain = mosaic(target, [cleaned(samples, SR) for samples in sources], SR, preset=settings)
    np.testing.assert_array_equal(from_corpus.audio, plain.audio)
    assert not isinstance(from_corpus.dictionary, Corpus)


@pytest.mark.parametrize(
    "options", [{"weights": np.ones(3, np.float32)}, {"limits": [Limit("a", 0.5, np.arange(3) < 1)]}]
)
@pytest.mark.parametrize(
    ("preset", "params"),
    [("classic", None), ("percussive", None), ("balanced", StftParams(1024, 128)), ("sparse", None)],
)
@pytest.mark.parametrize("form", ["recordings", "corpus", "dictionary"])
def test_weights_and_limits_without_a_search_are_refused(sources, corpus, preset, params, options, form):
    settings = configure(preset)
    source = {"recordings": sources, "corpus": corpus, "dictionary": build_dictionary(sources, SR, params=GRID)}[form]
    if form == "dictionary":
        params = None
    with pytest.raises(ValueError, match="only where they are searched"):
        prepared(sources[0], source, SR, settings, params=params, **options)


def test_limits_need_whole_grains_and_weights_need_a_number_for_each_recording(sources, corpus):
    faithful = replace(PRESETS["faithful"], search="always")
    limit = Limit("a", 0.5, np.arange(3) < 1)
    with pytest.raises(ValueError, match="only where whole grains are chosen, and choose is 'frames'"):
        prepared(sources[0], corpus, SR, faithful, limits=[limit])
    prepared(sources[0], corpus, SR, faithful, weights=np.ones(3, np.float32))
    for bad in ([1.0, 1.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0]):
        with pytest.raises(ValueError, match="pass a number of at least 0 for each of 3 recordings"):
            prepared(sources[0], corpus, SR, BALANCED, weights=np.array(bad))


def test_limits_of_all_recordings_are_refused_unless_they_fill_the_mosaic(rng, sources, corpus):
    first, rest = np.array([True, False, False]), np.array([False, True, True])
    with pytest.raises(ValueError, match="every recording is limited, a to 30%, others to 40%, together 70%"):
        built(sources[0], corpus, limits=[Limit("a", 0.3, first), Limit("others", 0.4, rest)])
    target = noises(rng)
    left_alone = built(target, corpus)
    made = built(target, corpus, limits=[Limit("a", 0.5, first), Limit("others", 0.5, rest)])
    # Shares are exact to the length of a grain.
    assert share_of(made, "a") == pytest.approx(0.5, abs=0.15)
    # Hardly less sounds than without limits.
    assert made.activations.nnz > 0.7 * left_alone.activations.nnz


def test_a_start_and_weights_of_0_alone_are_refused(sources, corpus):
    with pytest.raises(ValueError, match="init means nothing where the source is searched"):
        solver_of(prepared(sources[0], corpus, SR, BALANCED), init=np.ones((1, 1)))
    job = prepared(sources[0], corpus, SR, BALANCED, weights=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="every recording that sounds has weight 0"):
        next(solver_of(job).steps())


def test_files_in_parts_become_whole_recordings_again(sources, corpus):
    # The second recording becomes two parts that overlap beyond their own frames, as in corpora on disk.
    hop, recording = GRID.hop, corpus.recordings[1]
    at = corpus.n_atoms // 6
    first, second = recording[: (at + 4) * hop], recording[(at - 4) * hop :]
    own = corpus.recording_ids == 1
    centres = corpus.centres.copy()
    centres[own] = [n * hop if n < at else (n - at + 4) * hop for n in range(own.sum())]
    segments = corpus.recording_ids + (corpus.recording_ids > 1)
    segments[np.flatnonzero(own)[at:]] = 2
    parted = replace(
        corpus,
        recordings=(corpus.recordings[0], first, second, corpus.recordings[2]),
        sources=as_sources(["a", "b", "b", "c"]),
        files=np.array([0, 1, 1, 2]),
        recording_ids=segments,
        centres=centres,
    )
    recordings, whole_sources = parted.whole_recordings()
    assert whole_sources == [Source("a"), Source("b"), Source("c")]
    for got, expected in zip(recordings, corpus.recordings, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_few_frames_are_mixed_toward_the_image_of_the_whole_recording(rng):
    left, right = noises(rng), noises(rng)
    wide = np.stack([left + 0.5 * right, right - 0.2 * left])
    corpus = corpus_of([wide, left], SR, params=GRID, names=["wide", "one"])
    atoms = np.array([5, 9, 40, 41, 100])
    used = np.zeros(corpus.n_atoms, np.float32)
    used[atoms] = [1, 2, 0.5, 3, 1]
    whole = build_dictionary([wide, left], SR, params=GRID).toward_images(used)
    some = corpus.only(atoms).toward_images(used[atoms])
    assert [matrices is None for matrices in some] == [False, True]
    np.testing.assert_allclose(some[0], whole[0], atol=1e-5 * np.abs(whole[0]).max())
