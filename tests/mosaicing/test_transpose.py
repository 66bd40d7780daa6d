"""How a source is transposed: the decision, the refusals, and sounds of every kind."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from kit_transpose import (
    CHORD,
    FOLLOW,
    GRID,
    LENGTH,
    MELODY,
    SECONDS,
    SOURCE,
    SOURCE_F0,
    SOURCE_HZ,
    SR,
    TARGET,
    assert_plays,
    made,
    steps_of,
    sung,
    tone,
    written,
)

from helpers import prepared
from smalti import PRESETS, mosaic
from smalti.dsp.loudness import integrated_loudness
from smalti.dsp.pitch import track_pitch
from smalti.mosaicing.mosaic import part_of
from smalti.mosaicing.solve import solver_of
from smalti.mosaicing.transpose import has_fundamental
from smalti.presets import configure


def clatter(rng, seconds=SECONDS):
    """Bursts of noise."""
    t = np.arange(round(seconds * SR)) / SR
    return 0.3 * rng.standard_normal(len(t)) * np.exp(-(t % 0.2) / 0.03)


@pytest.mark.parametrize("noisy", ["target", "source"])
def test_without_a_pitch_the_preset_melodic_is_balanced_bit_for_bit(noisy, rng):
    target, source = (clatter(rng), SOURCE) if noisy == "target" else (TARGET, clatter(rng, 1.0))
    tracked, plain = (mosaic(target, source, SR, preset=preset) for preset in ("melodic", "balanced"))
    assert tracked.transposition.way == "off"
    assert noisy in tracked.transposition.reason
    np.testing.assert_array_equal(tracked.audio, plain.audio)
    np.testing.assert_array_equal(tracked.activations.toarray(), plain.activations.toarray())


def test_following_a_pitch_that_is_not_there_is_refused(rng):
    noise, without = clatter(rng), 0 * SOURCE_F0
    for way in ("follow", "chords"):
        with pytest.raises(ValueError, match=f"transpose is '{way}' but the source has no pitch to start from"):
            made(transpose=way, source_f0=without)
    with pytest.raises(ValueError, match="transpose is 'follow' but the target has no pitch to follow; pass 'off'"):
        made(noise)
    for f0 in (0 * written(1.0), np.zeros((3, GRID.n_frames(LENGTH)))):
        with pytest.raises(ValueError, match="the target has no pitch to follow"):
            made(target_f0=f0)


@pytest.mark.parametrize("way", ["follow", "chords"])
def test_a_source_with_pitch_only_where_it_is_too_quiet_is_refused(way, rng):
    # The note is 70 dB below the noise that follows it.
    source = np.concatenate([3e-4 * SOURCE, 0.3 * rng.standard_normal(2 * SR)])
    f0 = written(np.repeat([SOURCE_HZ, 0.0], [len(SOURCE), 2 * SR]), len(source))
    # The pitch is also bridged over short gaps, which must not count.
    f0[-(-(len(SOURCE) - SR // 2) // GRID.hop) :] = 0
    for tracks in ({}, {"target_f0": written(MELODY)}):
        with pytest.raises(ValueError, match=f"^transpose is '{way}' but the source has no pitch to start from; pass "):
            made(source=source, source_f0=f0, transpose=way, **tracks)


@pytest.mark.parametrize("transpose", [(0, 2), (-1.5, 3)])
def test_a_range_follows_no_melody(transpose):
    with pytest.raises(ValueError, match=r"^target_f0 means nothing while transpose is .*\.\..*; add transpose follow"):
        made(target_f0=written(MELODY), transpose=transpose)
    assert made(transpose=transpose).transposition.way == "shifts"


def test_chords_without_notes_leave_the_source_at_its_own_pitch(monkeypatch):
    target = sum(tone(hz, (1, 0.3)) for hz in CHORD)

    def no_notes(job, source_f0):
        return np.zeros((job.settings.voices, job.spectrum.shape[1]))

    monkeypatch.setattr("smalti.mosaicing.transpose.chord_melodies", no_notes)
    monkeypatch.setattr(
        "smalti.mosaicing.transpose.decide", lambda target, source: ("chords", "several notes sound at once")
    )
    m = made(target, transpose="auto")
    assert (m.transposition.way, m.transposition.n_voices) == ("off", 0)
    assert m.transposition.reason == "no notes are found in the target"
    plain = mosaic(target, SOURCE, SR, preset=replace(FOLLOW, transpose="off"))
    np.testing.assert_array_equal(m.audio, plain.audio)
    # If chords are required, this is an error.
    with pytest.raises(ValueError, match="transpose is 'chords' but the target has no pitch to follow"):
        made(target, transpose="chords")


N, K = GRID.n_frames(LENGTH), GRID.n_frames(len(SOURCE))


@pytest.mark.parametrize(
    ("tracks", "error", "message"),
    [
        ({"target_f0": np.full(N - 1, 330.0)}, ValueError, f"target_f0 has {N - 1} values; pass {N}"),
        ({"target_f0": np.full((2, N + 1), 330.0)}, ValueError, rf"target_f0\[0\] has {N + 1} values; pass {N}"),
        ({"target_f0": np.full((1, 2, N), 330.0)}, ValueError, r"target_f0 has shape \(1, 2"),
        ({"target_f0": np.full(N, np.nan)}, ValueError, f"target_f0 holds {N} values that are NaN"),
        ({"target_f0": np.full(N, -330.0)}, ValueError, "target_f0 holds -330 Hz"),
        ({"target_f0": np.stack([np.full(N, 330.0), np.full(N, 5.0)])}, ValueError, r"target_f0\[1\] holds 5 Hz"),
        ({"target_f0": ["a4"] * N}, TypeError, "target_f0 has dtype"),
        ({"source_f0": np.full(K + 1, 220.0)}, ValueError, f"source_f0 has {K + 1} values; pass {K}"),
        ({"source_f0": np.full(K, np.inf)}, ValueError, f"source_f0 holds {K} values that are NaN"),
        ({"source_f0": [np.full(K, 220.0)] * 2}, ValueError, "source_f0 has 2 tracks for 1 recordings; pass one for"),
        ({"source_f0": [np.full(K - 2, 220.0)]}, ValueError, rf"source_f0\[0\] has {K - 2} values; pass {K}"),
        ({"source_f0": np.full((2, K), 220.0)}, ValueError, r"source_f0 has shape \(2, "),
    ],
)
def test_tracks_that_do_not_fit_are_refused_by_name(tracks, error, message):
    given = {"target_f0": np.full(N, 330.0), "source_f0": SOURCE_F0} | tracks
    with pytest.raises(error, match=f"^{message}"):
        made(**given)


def test_a_pitch_or_a_start_without_effect_is_refused():
    for name in ("target_f0", "source_f0"):
        with pytest.raises(ValueError, match=f"^{name} means nothing while transpose is off; add transpose"):
            mosaic(TARGET, SOURCE, SR, preset="balanced", **{name: np.full(N, 330.0)})
    with pytest.raises(ValueError, match="init means nothing where grains are transposed; leave it out"):
        sung(init=np.ones((K, N)))


@pytest.mark.parametrize("changes", [{"choose": None}, {"choose": "frames"}, {"beta": 2.0}, {"unit_norm": True}])
@pytest.mark.parametrize("way", ["auto", "follow", "chords", (0, 2)])
def test_only_whole_grains_of_a_plain_kullback_leibler_fit_can_be_shifted(way, changes):
    with pytest.raises(ValueError, match="only whole grains can be shifted: it needs choose 'grains', beta 1"):
        replace(PRESETS["balanced"], transpose=way, **changes)
    replace(PRESETS["balanced"], transpose="off", **changes)


@pytest.mark.parametrize(
    ("transpose", "message"),
    [
        ((3, 1), "transpose goes from 3 to 1 semitones; pass the lower end first"),
        ((-49, 0), "the lower end of transpose is -49; pass a number from -48 to 48"),
        ((0, 49), "the upper end of transpose is 49"),
        ((0, float("nan")), "the upper end of transpose is nan"),
    ],
)
def test_wrong_ranges_are_refused(transpose, message):
    with pytest.raises(ValueError, match=message):
        configure("melodic", transpose=transpose)


# --- the mosaic


def test_the_same_seed_gives_the_same_samples_and_another_seed_others():
    first, again, other = (sung(rng=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.audio, again.audio)
    assert not np.array_equal(first.audio, other.audio)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays_and_arguments_are_not_changed(dtype):
    target, source = TARGET.astype(dtype), SOURCE.astype(dtype)
    tracks = written(MELODY), SOURCE_F0.copy()
    copies = [x.copy() for x in (target, source, *tracks)]
    m = made(target, source, target_f0=tracks[0], source_f0=tracks[1])
    assert m.audio.dtype == m.activations.dtype == m.parts[0].activations.dtype == dtype
    for x, copy in zip((target, source, *tracks), copies, strict=True):
        np.testing.assert_array_equal(x, copy)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {}),
        ({"refine": 0}, {}),
        ({"smooth_gains_s": 0.0}, {}),
        ({"transpose": (0, 2)}, {}),
        ({"transpose": "chords"}, {"target_f0": np.stack([written(330), written(262)])}),
    ],
)
def test_the_number_of_steps_is_known_beforehand_and_only_gains_change_in_the_end(changes, options):
    settings = replace(FOLLOW, iterations=4, **{"refine": 3} | changes)
    given = {} if isinstance(settings.transpose, tuple) else {"target_f0": written(MELODY)} | options
    job = prepared(TARGET, SOURCE, SR, settings, source_f0=SOURCE_F0, **given)
    steps = list(solver_of(job).steps())
    assert len(steps) == solver_of(job).n_steps
    assert [step.iteration for step in steps] == list(range(1, len(steps) + 1))
    assert all(np.isfinite(step.divergence) for step in steps)
    chosen, last = steps[4], steps[-1]
    assert chosen.grains is last.grains
    assert not last.H[chosen.H == 0].any()
    refined = steps[4 : 5 + settings.refine]
    falls = np.array([step.divergence for step in refined])
    assert (falls[1:] <= falls[:-1] * (1 + 1e-9)).all()
    with pytest.raises(ValueError, match="step 4 has no sound yet, as its grains are not shifted; take one after step"):
        part_of(job, solver_of(job).solution(steps[3]), [])


@pytest.mark.parametrize("way", ["follow", "chords", "shifts"])
def test_activations_are_those_of_source_frames_and_lie_where_grains_sound(way):
    options = {
        "follow": {"target_f0": written(MELODY)},
        "chords": {"target_f0": np.stack([written(330), written(262)])},
        "shifts": {"transpose": (0, 3)},
    }[way]
    m = made(**options)
    assert isinstance(m.activations, scipy.sparse.csc_array)
    assert m.activations.shape == (K, N)
    (part,) = m.parts
    grains = part.grains
    assert part.activations.shape == (len(grains.atoms), N)
    # Each frame of a grain sounds in one target frame, its own.
    rows, frames = part.activations.nonzero()
    np.testing.assert_array_equal(grains.frames[rows], frames)
    expected = np.zeros((K, N))
    np.add.at(expected, (grains.atoms[rows], frames), part.activations[rows, frames])
    np.testing.assert_allclose(m.activations.toarray(), expected, rtol=1e-12)
    # The layers are those of the settings, or one for each voice.
    voices = {"follow": FOLLOW.layers, "chords": 2, "shifts": FOLLOW.layers}[way]
    assert np.bincount(grains.frames, minlength=N).max() <= 2 * voices
    for run in np.unique(grains.runs):
        rows = grains.runs == run
        assert (np.diff(grains.atoms[rows]) == 1).all()
        assert (np.diff(grains.frames[rows]) == 1).all()


def test_the_steps_of_the_job_make_its_part():
    settings = replace(FOLLOW, iterations=5)
    job = prepared(TARGET, SOURCE, SR, settings, target_f0=written(MELODY), source_f0=SOURCE_F0)
    *_, step = solver_of(job).steps()
    part = part_of(job, solver_of(job).solution(step), [])
    np.testing.assert_array_equal(part.audio, sung(preset=settings).parts[0].audio)
    assert part.dictionary is part.grains.dictionary


def test_several_recordings_have_a_track_each():
    # The second recording is bright, like the second note.
    second = tone(294, (0.1, 0.4, 1, 0.8, 0.5), seconds=0.7)
    hz = steps_of(330, 392)
    target = np.concatenate([tone(hz, (1, 0.3))[: LENGTH // 2], tone(hz, (0.1, 0.5, 1, 0.5))[LENGTH // 2 :]])
    tracks = [SOURCE_F0, written(294, len(second))]
    listed = made(target, [SOURCE, second], target_f0=written(hz), source_f0=tracks)
    joined = made(target, [SOURCE, second], target_f0=written(hz), source_f0=np.concatenate(tracks))
    np.testing.assert_array_equal(listed.audio, joined.audio)
    assert_plays(listed.audio, 330, 392)
    grains = listed.parts[0].grains
    recordings = listed.dictionary.recording_ids[grains.atoms]
    assert set(recordings) == {0, 1}
    # Each grain has the ratio from its own recording's pitch.
    np.testing.assert_allclose(
        grains.ratios * np.where(recordings == 0, 220, 294), written(hz)[grains.frames], rtol=1e-9
    )


# --- channels


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("channels", ["source", "mono", "apart"])
def test_a_mosaic_has_the_channels_of_the_settings(channels, width):
    source = SOURCE if width == 1 else np.stack([SOURCE, 0.3 * SOURCE])
    target = np.stack([TARGET, 0.5 * TARGET])
    m = made(target, source, target_f0=written(MELODY), channels=channels)
    expected = {"source": width, "mono": 1, "apart": 2}[channels]
    assert m.audio.shape == ((LENGTH,) if expected == 1 else (expected, LENGTH))
    for channel in np.atleast_2d(m.audio):
        assert_plays(channel, 330, 262, 392)
    assert len(m.parts) == (2 if channels == "apart" else 1)
    if channels == "source" and width == 2:
        left, right = m.audio
        np.testing.assert_allclose(right, 0.3 * left, atol=0.02 * np.abs(left).max())


# --- extreme sounds

ODD_SOURCES = {
    "of 20 ms": tone(220, seconds=0.02),
    "noise": 0.1 * np.random.default_rng(3).standard_normal(SR),
    "a chord": sum(tone(hz, seconds=1.0) for hz in CHORD),
    "one sample": np.array([0.5]),
    "mostly silence": np.concatenate([np.zeros(SR), tone(220, seconds=0.2), np.zeros(SR)]),
}


@pytest.mark.parametrize("transpose", ["auto", (-2, 2)])
@pytest.mark.parametrize("name", ODD_SOURCES)
def test_every_source_makes_a_finite_sound(name, transpose):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m = made(source=ODD_SOURCES[name], source_f0=None, preset="melodic", transpose=transpose)
    assert m.audio.shape == (LENGTH,)
    assert np.isfinite(m.audio).all()
    assert m.audio.any()


@pytest.mark.parametrize("name", ODD_SOURCES)
def test_every_source_takes_a_given_pitch(name):
    source = ODD_SOURCES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for f0 in (written(MELODY), np.stack([written(330), written(262)])):
            m = made(source=source, target_f0=f0, source_f0=written(220, len(source)))
            assert np.isfinite(m.audio).all()
            assert m.audio.any()


def test_a_target_of_two_voices_at_once_makes_a_finite_sound():
    target = tone(MELODY) + tone(np.geomspace(300, 500, LENGTH))
    m = made(target, preset="melodic")
    assert m.transposition.way in ("off", "follow", "chords")
    assert np.isfinite(m.audio).all()
    assert m.audio.any()


@pytest.mark.parametrize("options", [{}, {"target_f0": written(MELODY)}, {"transpose": (0, 2)}])
def test_a_silent_target_has_no_transposition(options):
    with pytest.warns(UserWarning, match="target is silent, and so is its mosaic"):
        m = made(np.zeros(LENGTH), **options)
    assert not m.audio.any()
    assert m.activations.nnz == 0
    assert m.activations.shape == (K, N)
    assert m.transposition is None


def test_notes_beyond_four_octaves_are_refused_by_name():
    with pytest.raises(ValueError, match=r"^transpose is 'follow' but the source is more than four octaves .* 4000 Hz"):
        made(target_f0=written(4000), source_f0=np.full(K, 220.0))


def test_a_source_pitch_that_its_rate_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"^source_f0 holds 19000 Hz, more than a sample rate"):
        made(target_f0=written(440), source_f0=np.full(K, 19000.0))


def test_a_bass_note_needs_a_fundamental_in_the_target():
    """The target has partials 2 to 6 of 110 Hz, so 220 Hz may be played and 110 Hz may not."""
    t = np.arange(SR) / SR
    target = sum(np.sin(2 * np.pi * 110 * k * t) / k for k in range(2, 7)) * 0.1
    job = prepared(target, target, SR, replace(PRESETS["melodic"], transpose="off"))
    there = has_fundamental(job, np.array([110.0, 220.0]))[:, 5:-5]
    assert not there[0].any()
    assert there[1].all()


def test_a_tape_is_in_tune_although_its_source_is_not_steady():
    """The tape's speed follows the pitch at the place it has reached, so the source's vibrato of 80 cents is gone."""
    t = np.arange(2 * SR) / SR
    hz = 262 * 2 ** (80 / 1200 * np.sin(2 * np.pi * 5 * t))
    source = sum(np.sin(2 * np.pi * k * np.cumsum(hz) / SR) / k for k in range(1, 6)) * 0.1
    target = sum(np.sin(2 * np.pi * 440 * k * t) / k for k in range(1, 6)) * 0.1
    m = mosaic(target, source, SR, preset="melodic", transpose="follow", tape=True)
    f0 = track_pitch(m.audio, SR, hop=256)[5:-5]
    assert np.mean(np.abs(1200 * np.log2(np.maximum(f0, 1) / 440)) < 30) > 0.9


def test_a_mosaic_is_as_loud_as_its_target():
    assert sung().loudness == pytest.approx(integrated_loudness(TARGET, SR), abs=0.1)


@pytest.mark.parametrize("compare", ["bins", "bands"])
def test_a_melody_is_followed_in_every_comparison(compare):
    assert_plays(sung(preset=replace(FOLLOW, compare=compare)).audio, 330, 262, 392)


def test_without_a_spread_the_start_is_the_same_for_every_seed():
    settings = replace(FOLLOW, start_spread=0.0, iterations=2)
    job = prepared(TARGET, SOURCE, SR, settings, target_f0=written(MELODY), source_f0=SOURCE_F0)
    first, other = (list(solver_of(job).steps(seed))[-1].H for seed in (0, 1))
    np.testing.assert_array_equal(first, other)
