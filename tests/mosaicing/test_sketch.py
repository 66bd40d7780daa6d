"""Sketches: their weights, sketches from strokes and pictures, and that nothing forbidden sounds in any solver."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers import prepared
from smalti import PRESETS, LetItBee, activation_steps, build_dictionary, mosaic, multiplicative_update
from smalti.dsp.stft import StftParams
from smalti.grains.corpus import corpus_of
from smalti.mosaicing.prepare import sketched
from smalti.mosaicing.sketch import Sketch, Stroke, sketch_of_array, sketch_of_image, sketch_of_strokes
from smalti.mosaicing.solve import solver_of
from smalti.nmf.let_it_bee import enhance_continuity, limit_polyphony, limit_repetition
from smalti.presets import configure
from sounds import cleaned, notes
from strategies import problems, seeds

SR = 11025
GRID = StftParams.from_seconds(PRESETS["balanced"].window_s, PRESETS["balanced"].hop_s, SR)
HOP_S = GRID.hop / SR


@st.composite
def sketches(draw, n_atoms=5, n_frames=6):
    """Sketches of few rows and columns."""
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    cells = draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.5, 1.0, 4.0])))
    rows = draw(arrays(np.intp, n_atoms, elements=st.integers(0, shape[0] - 1)))
    return Sketch(cells, rows, draw(arrays(np.intp, n_frames, elements=st.integers(0, shape[1] - 1))))


# --- weights


@given(sketches(), sketches())
def test_two_sketches_multiply_their_weights(first, second):
    product = first.times(second)
    assert product.shape == first.shape == (5, 6)
    np.testing.assert_array_equal(product.whole(), first.whole() * second.whole())
    atoms, frames = np.array([0, 4, 2]), np.array([5, 0, 0])
    np.testing.assert_array_equal(product.at(atoms, frames), product.whole()[atoms, frames])
    np.testing.assert_array_equal(product.allowed(atoms, frames), product.whole()[atoms, frames] > 0)


@given(sketches(), st.integers(1, 4))
def test_groups_of_frames_allow_what_any_of_their_frames_does(sketch, most):
    may_sound, grouped = sketch.whole() > 0, []
    exact = len({tuple(column) for column in may_sound.T}) <= most
    for frames, allowed in sketch.by_what_may_sound(most):
        grouped += frames.tolist()
        np.testing.assert_array_equal(allowed, may_sound[:, frames].any(axis=1))
        # If there are few enough kinds of frames, all frames of a group allow the same.
        assert not exact or (may_sound[:, frames] == allowed[:, None]).all()
    assert sorted(grouped) == list(range(6))


@given(arrays(np.float32, (4, 3), elements=st.floats(0, 1000, width=32)))
def test_a_sketch_of_an_array_has_its_weights(weights):
    np.testing.assert_array_equal(sketch_of_array(weights, 4, 3).whole(), weights)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (
            np.ones((3, 4)),
            "sketch has shape (3, 4); pass (4, 3): a row for each of the 4 source frames and a column for",
        ),
        (np.ones(4), "sketch has shape (4,); pass (4, 3)"),
        (np.full((4, 3), -1.0), "sketch holds negative values"),
        (np.full((4, 3), np.nan), "sketch holds 12 values that are NaN"),
        (np.full((4, 3), 1e4), "sketch holds values as large as 1e+04; scale it to at most 1000"),
        (np.full((4, 3), "x"), "sketch has dtype <U1"),
    ],
)
def test_a_wrong_array_of_weights_is_refused(weights, sentence):
    with pytest.raises((ValueError, TypeError), match=re.escape(sentence)):
        sketch_of_array(weights, 4, 3)


# --- pictures


def test_a_picture_lies_over_the_activations():
    pixels = np.array([[255, 0], [0, 51]], np.uint8)
    # The top of the picture is the end of the source.
    np.testing.assert_array_equal(
        sketch_of_image(pixels, 4, 6).whole(),
        np.float32([[0, 0, 0, 0.2, 0.2, 0.2], [0, 0, 0, 0.2, 0.2, 0.2], [1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0]]),
    )


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 9), st.integers(1, 9), seeds)
def test_a_frame_has_the_pixel_that_its_middle_is_in(height, width, n_atoms, n_frames, seed):
    pixels = np.random.default_rng(seed).random((height, width))
    got = sketch_of_image(pixels, n_atoms, n_frames).whole()
    for k in range(n_atoms):
        for n in range(n_frames):
            row, column = int((k + 0.5) / n_atoms * height), int((n + 0.5) / n_frames * width)
            assert got[k, n] == np.float32(pixels[height - 1 - row, column])


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        (np.ones((2, 2, 3)), "pixels have shape (2, 2, 3); pass one number a pixel"),
        (np.ones((0, 2)), "pixels have shape (0, 2)"),
        (np.ones((2, 2), int), "pixels have dtype int64; pass uint8, or floats from 0 to 1"),
        (np.full((2, 2), 2.0), "pixels holds values as large as 2; scale it to at most 1"),
        (np.full((2, 2), -0.5), "pixels holds negative values"),
    ],
)
def test_a_wrong_picture_is_refused(pixels, sentence):
    with pytest.raises((ValueError, TypeError), match=re.escape(sentence)):
        sketch_of_image(pixels, 4, 4)


# --- strokes


@pytest.mark.parametrize(
    ("text", "stroke"),
    [
        ("2..4 10..20=0", Stroke((2, 4), (10, 20), None, 0)),
        ("0..3 rain*=0", Stroke((0, 3), None, "rain*", 0)),
        ("0..3 bees.wav 10..20=4", Stroke((0, 3), (10, 20), "bees.wav", 4)),
        ("0.5.. my bees.wav ..20=0.25", Stroke((0.5, np.inf), (0, 20), "my bees.wav", 0.25)),
        ("..4=0", Stroke((0, 4), None, None, 0)),
        ("1..2 a=b.wav=1", Stroke((1, 2), None, "a=b.wav", 1)),
    ],
)
def test_strokes_are_read_and_written(text, stroke):
    assert Stroke.parse(text) == stroke
    assert Stroke.parse(str(stroke)) == stroke


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("2..4 10..20", "it has no weight; end it with one, such as =0, which forbids: '2..4 10..20=0'"),
        ("2..4 10..20=", "'' is no weight; end it with a number"),
        ("2..4=none", "'none' is no weight"),
        ("rain*=0", "'rain*' are no seconds of the target; begin with some, such as 0..3"),
        ("2...4=0", "'2...4' are no seconds of the target"),
        ("2-4 rain=0", "'2-4' are no seconds of the target"),
        ("4..2=0", "target_s goes from 4 to 2 s; pass an end after its begin"),
        ("2..4 5..5=0", "source_s goes from 5 to 5 s"),
        ("-1..4=0", "the begin of target_s is -1; pass a number of at least 0"),
        ("nan..4=0", "the begin of target_s is nan"),
        ("2..4=-1", "weight is -1; pass a number from 0 to 1000"),
        ("2..4=inf", "weight is inf"),
        ("2..4 /=0", "source holds '/', which nothing meets"),
    ],
)
def test_a_wrong_text_of_a_stroke_is_refused(text, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Stroke.parse(text)


def test_a_span_is_a_pair():
    with pytest.raises(TypeError, match="source_s is 3; pass seconds from and to"):
        Stroke((0, 1), 3)


def dictionary_of(*names, frames=10):
    sound = np.random.default_rng(0).standard_normal((frames - 1) * GRID.hop).astype(np.float32)
    return build_dictionary([sound] * len(names), SR, params=GRID, names=names)


def test_the_last_stroke_counts_where_strokes_overlap():
    strokes = [
        Stroke((2 * HOP_S, 6 * HOP_S), None, None, 0),
        Stroke((0, 4 * HOP_S), (3 * HOP_S, 5 * HOP_S), "rain", 2),
        Stroke((3 * HOP_S, np.inf), (9 * HOP_S, np.inf), "bees.wav", 0.5),
    ]
    got = sketch_of_strokes(strokes, dictionary_of("s/rain/a.wav", "s/bees.wav"), 8).whole()
    wanted = np.ones((20, 8))
    wanted[:, 2:6] = 0
    wanted[3:5, :4] = 2
    wanted[19:, 3:] = 0.5
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(sketch_of_strokes([], dictionary_of("a"), 8).whole(), np.ones((10, 8)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("9..=0", "the stroke 9..=0 begins after the target, which lasts 0.186 s"),
        ("0.. rayn=0", "the stroke 0.. rayn=0 has 'rayn', which no recording in use meets; check the name"),
        ("0.. a 9..10=0", "the stroke 0.. a 9..10=0 begins after its recordings, which last 0.209 s at most"),
    ],
)
def test_a_stroke_that_covers_nothing_is_refused(text, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        sketch_of_strokes([Stroke.parse(text)], dictionary_of("a", "b"), 8)


def test_the_parts_of_a_long_file_count_seconds_from_its_start():
    parts = dictionary_of("long.wav", "long.wav", "other.wav")
    corpus = corpus_of([cleaned(samples, SR) for samples in parts.recordings], SR, params=GRID, names=parts.names)
    corpus = replace(corpus, files=np.array([0, 0, 1]))
    atoms = sketch_of_strokes([Stroke((0, 1), (8 * HOP_S, 12 * HOP_S), None, 0)], corpus, 3).whole()[:, 0] == 0
    assert np.flatnonzero(atoms).tolist() == [8, 9, 10, 11, 28, 29]

    @dataclass
    class Tagged:
        tags: tuple[str, ...]
        path: str = "x"
        duration_s: float = 1.0
        loudness_lufs: float = -20.0

    infos = [Tagged(()), Tagged(()), Tagged(("night",))]
    atoms = sketch_of_strokes([Stroke((0, 1), None, "tag:night", 0)], corpus, 3, infos=infos).whole()[:, 0] == 0
    assert np.flatnonzero(atoms).tolist() == list(range(20, 30))


# --- in solvers


@pytest.fixture
def sounds(rng):
    return notes(rng, 1.2, SR, octaves=4), [notes(rng, 1.5, SR, octaves=4), notes(rng, 1.0, SR, octaves=4)]


def steps_of(target, source, settings, sketch, **how):
    job = prepared(target, source, SR, settings, sketch=sketch, **how)
    return job, list(solver_of(job).steps())


def blobs(rng, shape):
    """Weights of 0, 1 and 3 in patches, as somebody would paint them."""
    small = rng.choice([0.0, 0.0, 1.0, 3.0], size=(-(-shape[0] // 9), -(-shape[1] // 7)))
    return np.kron(small, np.ones((9, 7)))[: shape[0], : shape[1]]


EVERY_WAY = {
    "searched": configure("balanced"),
    "searched frames": configure("faithful"),
    "classic": configure("classic", iterations=8),
    "balanced": replace(configure("balanced"), search="never"),
    "drifting": replace(configure("balanced", drift=100), search="never"),
    "searched drifting": configure("balanced", drift=100),
    "faithful": replace(configure("faithful"), search="never"),
    "notebook": configure("notebook", iterations=8, layers=3),
    "shifted": configure("melodic", transpose=(-2, 2)),
    "gliding": configure("melodic", transpose="0:0, 1:5", drift=50),
}


@pytest.mark.parametrize("way", EVERY_WAY)
def test_what_is_forbidden_is_exactly_silent(rng, sounds, way):
    settings = EVERY_WAY[way]
    if way.startswith("searched"):
        settings = replace(settings, search="always")
    target, source = sounds
    free = prepared(target, source, SR, settings, source_f0=tracks(settings, source))
    shape = free.dictionary.n_atoms, free.spectrum.shape[1]
    weights = blobs(rng, shape)
    job, steps = steps_of(target, source, settings, weights, source_f0=tracks(settings, source))
    for step in steps if settings.transpose == "off" else []:
        H = step.H if isinstance(step.H, np.ndarray) else step.H.toarray()
        assert not H[weights == 0].any()
        assert (H > 0).any()
    made = mosaic(target, source, SR, preset=settings, sketch=weights, source_f0=tracks(settings, source))
    sounding = np.nonzero(made.contributions.toarray() > 0)
    atoms = atoms_of(made, job)[sounding[0]]
    assert len(atoms)
    assert (weights[atoms, sounding[1]] > 0).all()


def tracks(settings, source):
    """A given pitch for each recording, since tracking would take longest and is not tested here."""
    return None if settings.transpose == "off" else [np.full(GRID.n_frames(len(y)), 200.0) for y in source]


def atoms_of(made, job):
    """The source frame of each row of a mosaic's activations; a search leaves only rows that sound."""
    names = list(job.dictionary.names)
    firsts = np.searchsorted(job.dictionary.recording_ids, np.arange(len(names)))
    starts = np.array([firsts[names.index(name)] for name in made.dictionary.names])[made.dictionary.recording_ids]
    return starts + made.dictionary.centres // GRID.hop


@pytest.mark.parametrize("search", ["never", "always"])
@pytest.mark.parametrize("choose", ["grains", "frames"])
def test_a_white_sketch_changes_nothing(sounds, search, choose):
    target, source = sounds
    settings = replace(configure("balanced" if choose == "grains" else "faithful"), search=search)
    job = prepared(target, source, SR, settings)
    white = np.ones((job.dictionary.n_atoms, job.spectrum.shape[1]))
    made = [mosaic(target, source, SR, preset=settings, sketch=sketch).audio for sketch in (None, white)]
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("search", ["never", "always"])
def test_a_recording_of_more_weight_sounds_more(sounds, search):
    target, source = sounds
    settings, shares = replace(configure("balanced"), search=search), []
    for weight in (0.1, 1, 10):
        made = mosaic(target, source, SR, preset=settings, sketch=[Stroke((0, np.inf), None, "source 2", weight)])
        loud = np.asarray(made.contributions.power(2).sum(axis=1)).ravel()
        second = np.array(made.dictionary.names)[made.dictionary.recording_ids] == "source 2"
        shares.append(loud[second].sum() / loud.sum())
    assert shares[0] < shares[1] < shares[2]


def test_a_stroke_over_a_recording_acts_like_its_weight(sounds):
    target, source = sounds
    weighed = mosaic(target, source, SR, weights=[0.25, 1])
    painted = mosaic(
        target, source, SR, preset=replace(PRESETS["balanced"], search="always"),
        sketch=[Stroke((0, np.inf), None, "source 1", 0.25)],
    )  # fmt: skip
    np.testing.assert_array_equal(weighed.audio, painted.audio)


def test_a_search_looks_only_for_allowed_frames(sounds):
    """If only a few source frames may sound, they are found, although others are nearer."""
    target, source = sounds
    strokes = [Stroke((0, np.inf), None, None, 0), Stroke((0, np.inf), (0.5, 0.7), "source 2", 1)]
    made = mosaic(target, source, SR, preset=replace(PRESETS["balanced"], search="always"), sketch=strokes)
    heard = made.activations.sum(axis=0) > 0
    assert heard[2:-2].mean() > 0.9
    assert ((made.dictionary.centres >= 0.45 * SR) & (made.dictionary.centres < 0.7 * SR)).all()


def test_sketches_are_checked_when_they_are_given(sounds):
    target, source = sounds
    job = prepared(target, source, SR, configure("balanced"))
    n_atoms, n_frames = job.dictionary.n_atoms, job.spectrum.shape[1]
    with pytest.raises(ValueError, match=rf"sketch has shape \(2, 3\); pass \({n_atoms}, {n_frames}\)"):
        mosaic(target, source, SR, sketch=np.ones((2, 3)))
    with pytest.raises(ValueError, match=f"sketch is of 2 source and 3 target frames; make it for {n_atoms} and"):
        sketched(job, sketch_of_array(np.ones((2, 3)), 2, 3))
    with pytest.raises(ValueError, match="the sketch forbids everything; leave something"):
        mosaic(target, source, SR, sketch=np.zeros((n_atoms, n_frames)))
    with pytest.raises(ValueError, match="a sketch is given but pursuit takes none"):
        mosaic(target, source, SR, preset="sparse", sketch=np.ones((n_atoms, n_frames)))
    # The recording that is left is silent, so nothing can be found.
    hushed = [np.zeros_like(source[0]), source[1]]
    with pytest.raises(ValueError, match="the sketch forbids everything that sounds"):
        mosaic(
            target, hushed, SR, preset=replace(PRESETS["balanced"], search="always"),
            sketch=[Stroke((0, np.inf), None, "source 2", 0)],
        )  # fmt: skip


def test_weights_of_steps_are_checked(rng):
    V, W = rng.random((4, 3)), rng.random((4, 5))
    with pytest.raises(ValueError, match=r"weights has shape \(3, 5\); 5 atoms and 3 frames need \(5, 3\)"):
        activation_steps(V, W, n_iter=1, weights=np.ones((3, 5)))


def test_channels_driven_apart_share_a_sketch(rng, sounds):
    target, source = sounds
    stereo = np.stack([target, target[::-1]])
    made = mosaic(
        stereo, source, SR, preset="balanced", channels="apart", sketch=[Stroke((0, np.inf), None, "source 1", 0)]
    )
    assert len(made.parts) == 2
    for part in made.parts:
        rows = np.flatnonzero(np.asarray(part.activations.sum(axis=1)).ravel())
        assert (made.dictionary.recording_ids[rows] == 1).all()


@given(problems(dtype=np.float64), st.data())
def test_weights_count_in_ranking_and_forbidden_places_stay_silent(problem, data):
    """Let it Bee step by step; after each step, forbidden places are set to 0."""
    V, W, H = problem
    weights = data.draw(arrays(np.float64, H.shape, elements=st.sampled_from([0.0, 0.5, 1.0, 3.0])))
    rules = LetItBee(repetition=1, polyphony=2, continuity=1, rank="contribution")
    got = [step.H for step in activation_steps(V, W, n_iter=4, constraints=rules, weights=weights, init=H)]
    norms, H = np.linalg.norm(W, axis=0)[:, None], H * (weights > 0)
    for i, step in enumerate(got):
        strength = (i + 1) / 4
        H = limit_repetition(H, repetition=1, strength=strength)
        H = limit_polyphony(H, polyphony=2, strength=strength, weights=norms * weights)
        H = enhance_continuity(H, continuity=1) * (weights > 0)
        H = multiplicative_update(H, V, W)
        np.testing.assert_allclose(step, H, rtol=1e-9)
