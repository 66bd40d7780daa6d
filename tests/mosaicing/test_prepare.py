"""Sources of every form, and the refusal of sounds and options that cannot be used."""

import warnings
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from kit_mosaicing import (
    GRID,
    LENGTH,
    SOURCE,
    SR,
    TARGET,
    briefly,
    make,
)

from helpers import finish, prepared
from smalti import PRESETS, Settings, StftParams, activation_steps, build_dictionary, stft
from smalti.mosaicing.solve import solver_of
from smalti.presets import configure


def test_one_recording_a_list_of_it_and_its_dictionary_are_the_same_source():
    alone = make()
    for source in ([SOURCE], (SOURCE,), SOURCE.tolist(), build_dictionary(SOURCE, SR, params=GRID)):
        np.testing.assert_array_equal(make(source=source).audio, alone.audio)
    ready = build_dictionary([SOURCE, TARGET], SR, params=GRID, names=["a", "b"])
    by_dictionary, by_list = (make(source=s, params=None if s is ready else GRID) for s in (ready, [SOURCE, TARGET]))
    np.testing.assert_array_equal(by_dictionary.audio, by_list.audio)
    assert by_dictionary.dictionary is ready
    assert by_list.dictionary.names == ("source 1", "source 2")
    job = prepared(TARGET, [SOURCE, TARGET], SR, configure(), params=GRID, names=["a", "b"])
    assert job.dictionary.names == ("a", "b")


# Target or source may have the higher precision, with each solver and each form of source.
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
def test_a_mosaic_has_the_higher_of_two_precisions(preset, form, fine):
    target, source = TARGET, SOURCE.astype(np.float32)
    if fine == "source":
        target, source = TARGET.astype(np.float32), SOURCE
    forms = {"recording": source, "list": [source], "dictionary": build_dictionary(source, SR, params=GRID)}
    made = make(target, forms[form], preset=preset, **briefly(preset))
    assert made.audio.dtype == made.activations.dtype == np.float64


def test_a_grain_does_not_run_from_one_recording_into_the_next():
    """From one activation, at the last frame of the first recording, continuity only reaches back."""
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


def test_diagonals_end_at_the_border_of_two_recordings():
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
        (
            {"preset": "sparse", "beta": 1.0},
            ValueError,
            "beta means nothing to the preset sparse, whose method, pursuit,",
        ),
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
    if None not in settings.values():  # `configure` takes None as no change
        with pytest.raises(error, match=message):
            configure("classic", **settings)


def test_jobs_mosaics_settings_and_presets_are_frozen():
    job = prepared(TARGET, SOURCE, SR, configure("classic", iterations=1), params=GRID)
    (step,) = solver_of(job).steps()
    made = finish(job, step, [])
    for record, name in [(job, "target"), (made, "audio"), (made.settings, "layers"), (step, "H")]:
        with pytest.raises(FrozenInstanceError):
            setattr(record, name, None)
    with pytest.raises(TypeError):
        PRESETS["classic"] = Settings()


def test_usable_sounds_raise_no_warnings():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(iterations=2)
    assert caught == []
