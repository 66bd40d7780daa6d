"""Every atom is the windowed transform of its recording at its centre: nothing lost, moved or mislabelled."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import window
from smalti import StftParams, build_dictionary
from smalti.dsp.channels import to_mono
from smalti.grains.corpus import corpus_of
from smalti.grains.descriptors import stack, view_gains, views
from smalti.grains.source import Source
from strategies import dtypes, grids, signals

GRID = StftParams(64, 16)
SR = 8000

recordings = signals(dtype=np.float64).filter(len)


def transform_at(recording, centre, params):
    """The transform of the windowed samples around `centre`, gathered one by one; zeros outside the recording."""
    w = window(params.window, params.n_fft)
    frame = np.zeros(params.n_fft)
    for m in range(params.n_fft):
        i = centre - params.n_fft // 2 + m
        if 0 <= i < len(recording):
            frame[m] = w[m] * recording[i]
    return np.fft.rfft(frame)


@given(st.lists(recordings, min_size=1, max_size=3), grids())
def test_each_atom_is_the_windowed_transform_of_its_recording_at_its_centre(sources, params):
    dictionary = build_dictionary(sources, SR, params=params)
    assert dictionary.spectra.shape == (params.n_bins, dictionary.n_atoms)
    for k in range(dictionary.n_atoms):
        expected = transform_at(sources[dictionary.recording_ids[k]], dictionary.centres[k], params)
        np.testing.assert_allclose(dictionary.spectra[:, k], expected, rtol=0, atol=1e-13 * params.n_fft)


@given(st.lists(recordings, min_size=1, max_size=3), grids())
def test_atoms_stand_in_time_order_recording_after_recording_a_hop_apart(sources, params):
    dictionary = build_dictionary(sources, SR, params=params)
    labels = [(i, n * params.hop) for i, y in enumerate(sources) for n in range(params.n_frames(len(y)))]
    assert list(zip(dictionary.recording_ids.tolist(), dictionary.centres.tolist(), strict=True)) == labels
    assert dictionary.n_atoms == len(labels)
    assert dictionary.borders == tuple(k for k in range(1, len(labels)) if labels[k][0] != labels[k - 1][0])


@given(st.lists(recordings, min_size=1, max_size=3), grids())
def test_every_sample_of_a_recording_sounds_in_some_atom(sources, params):
    dictionary = build_dictionary(sources, SR, params=params)
    half = params.n_fft // 2
    for i, recording in enumerate(sources):
        centres = dictionary.centres[dictionary.recording_ids == i]
        # The window is 0 at its first sample only.
        assert all(np.abs(centres - sample).min() < half for sample in range(len(recording)))


def test_recordings_keep_their_provenance(rng):
    sources = Source("a.wav", 64 * "a", 44100, 2, 1.5, ("rain",), "c.corpus", 300), Source("b.wav")
    recordings = [rng.standard_normal((2, 300)), rng.standard_normal(200)]
    dictionary = build_dictionary(recordings, SR, params=GRID, names=[sources[0], "b.wav"])
    assert dictionary.sources == sources
    for same in (dictionary.to_mono(), dictionary.one_channel(0, 2)):
        assert same.sources == sources
    last = dictionary.only(np.array([dictionary.n_atoms - 1]))
    assert last.sources == sources[1:]
    corpus = corpus_of([r.astype(np.float32) for r in recordings], 22050, params=StftParams(2048, 512), names=sources)
    assert corpus.to_mono().sources == sources
    _, wholes = corpus.whole_recordings()
    assert wholes == [replace(sources[0], begin=0, whole=True), sources[1]]


def test_several_recordings_are_the_single_ones_side_by_side(rng):
    sources = [rng.standard_normal(n) for n in (100, 1, 333)]
    together = build_dictionary(sources, SR, params=GRID)
    alone = [build_dictionary(source, SR, params=GRID) for source in sources]
    np.testing.assert_array_equal(together.spectra, np.hstack([single.spectra for single in alone]))
    np.testing.assert_array_equal(together.recording_ids, np.repeat([0, 1, 2], [single.n_atoms for single in alone]))
    np.testing.assert_array_equal(together.centres, np.hstack([single.centres for single in alone]))
    assert together.borders == (alone[0].n_atoms, alone[0].n_atoms + alone[1].n_atoms)
    assert alone[0].borders == ()


def test_names_tell_recordings_apart(rng):
    sources = [rng.standard_normal(100), rng.standard_normal(50)]
    assert build_dictionary(sources, SR, params=GRID).names == ("source 1", "source 2")
    assert build_dictionary(sources[0], SR, params=GRID).names == ("source 1",)
    named = build_dictionary(sources, SR, params=GRID, names=["bees", "whale"])
    assert named.names == ("bees", "whale")
    assert {named.names[i] for i in named.recording_ids[: named.borders[0]]} == {"bees"}
    assert {named.names[i] for i in named.recording_ids[named.borders[0] :]} == {"whale"}


@given(dtypes, dtypes)
def test_the_dtype_is_that_of_the_most_precise_recording(first, second):
    sources = [np.ones(100, first), np.ones(50, second)]
    dictionary = build_dictionary(sources, SR, params=GRID)
    wanted = np.result_type(first, second)
    assert dictionary.spectra.dtype == np.result_type(wanted, np.complex64)
    assert dictionary.magnitudes.dtype == dictionary.norms.dtype == wanted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_single_sample_is_padded_with_silence(dtype):
    dictionary = build_dictionary(np.array([0.5], dtype), SR, params=GRID)
    assert dictionary.n_atoms == 1
    # The sample is an impulse in the middle of the window, which is 1 there, so all bins have the same magnitude.
    np.testing.assert_allclose(dictionary.magnitudes, 0.5, rtol=4 * np.finfo(dtype).eps)


def test_magnitudes_and_norms_are_those_of_the_frames_as_recorded(rng):
    recording = rng.standard_normal(200)
    quiet, loud = (build_dictionary(gain * recording, SR, params=GRID) for gain in (0.25, 1.0))
    np.testing.assert_array_equal(loud.magnitudes, np.abs(loud.spectra))
    np.testing.assert_allclose(loud.norms**2, (np.abs(loud.spectra) ** 2).sum(axis=0), rtol=1e-13)
    np.testing.assert_array_equal(quiet.magnitudes, 0.25 * loud.magnitudes)
    np.testing.assert_array_equal(quiet.norms, 0.25 * loud.norms)


def test_the_grid_and_its_time_step_are_kept():
    dictionary = build_dictionary(np.ones(100), SR, params=GRID)
    assert (dictionary.params, dictionary.sr) == (GRID, SR)
    assert dictionary.hop_s == 16 / 8000
    assert build_dictionary(np.ones(100), SR).params == StftParams(2048, 512)


@pytest.mark.parametrize("sources", [1, 2])
def test_atoms_are_contiguous_in_memory(sources):
    spectra = build_dictionary([np.ones(100)] * sources, SR, params=GRID).spectra
    assert spectra.T.flags.c_contiguous


def test_lists_and_tuples_of_numbers_and_of_recordings_are_understood(rng):
    recording = rng.standard_normal(100)
    expected = build_dictionary(recording, SR, params=GRID).spectra
    for given_as in (recording.tolist(), tuple(recording.tolist()), [recording], (recording,), [recording.tolist()]):
        np.testing.assert_array_equal(build_dictionary(given_as, SR, params=GRID).spectra, expected)


def test_a_dictionary_neither_changes_nor_follows_its_recordings(rng):
    recording = rng.standard_normal(100)
    kept = recording.copy()
    dictionary = build_dictionary(recording, SR, params=GRID)
    before = dictionary.spectra.copy()
    np.testing.assert_array_equal(recording, kept)
    recording[:] = 0
    np.testing.assert_array_equal(dictionary.spectra, before)
    with pytest.raises(FrozenInstanceError):
        dictionary.sr = 1


GOOD = np.ones(100)


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        ([], ValueError, "source is empty; pass at least one recording"),
        (np.zeros(0), ValueError, "source has 0 samples"),
        ([GOOD, np.zeros(0)], ValueError, "source 2 has 0 samples"),
        (np.ones(9, np.int16), TypeError, "source holds int16 samples; pass floats.*divide by 32768"),
        ([0, 1, 2], TypeError, "source holds int64 samples; pass floats"),
        ([GOOD, np.ones(9, np.int32)], TypeError, "source 2 holds int32 samples"),
        (np.ones(9, complex), TypeError, "source has dtype complex128; pass float32 or float64"),
        (
            np.ones((2, 9, 1)),
            ValueError,
            r"source has shape \(2, 9, 1\); pass shape \(samples,\) or \(channels, samples",
        ),
        ([GOOD, np.ones((99, 2))], ValueError, r"source 2 has shape \(99, 2\), that is 99 channels; .*time last"),
        (np.array([0.0, np.nan, np.inf]), ValueError, "source holds 2 values that are NaN or infinite"),
        ([np.array([np.nan]), GOOD], ValueError, "source 1 holds 1 values that are NaN or infinite"),
        ("bees.wav", TypeError, "source is a str; pass an array of samples"),
        (["bees.wav"], TypeError, "source has dtype <U8; pass float32 or float64"),
        ({"bees": GOOD}, TypeError, "source is a dict; pass an array of samples"),
        (None, TypeError, "source is a NoneType"),
        (0.5, TypeError, "source is a float"),
    ],
)
def test_invalid_recordings_are_refused_by_name(sources, error, message):
    with pytest.raises(error, match=message):
        build_dictionary(sources, SR, params=GRID)


@pytest.mark.parametrize("names", [[], ["one"], ["one", "two", "three"]])
def test_names_must_be_as_many_as_recordings(names):
    with pytest.raises(ValueError, match=f"names has {len(names)} entries for 2 recordings; pass one for each"):
        build_dictionary([GOOD, GOOD], SR, params=GRID, names=names)


@pytest.mark.parametrize(
    ("sr", "error"), [(0, ValueError), (999, ValueError), (22050.0, TypeError), ("8000", TypeError)]
)
def test_an_invalid_sample_rate_is_refused(sr, error):
    with pytest.raises(error, match="sr is"):
        build_dictionary(GOOD, sr, params=GRID)


# Through three windows


@given(st.lists(recordings, min_size=1, max_size=3), grids(most=40), st.booleans())
def test_the_views_of_recordings_stand_side_by_side_and_none_hears_the_next(sources, params, ear_weighting):
    dictionary = build_dictionary(sources, SR, params=params)
    joined = dictionary.views(ear_weighting=ear_weighting)
    assert len(joined) == 3
    first = 0
    for recording in sources:
        centres = np.arange(params.n_frames(len(recording))) * params.hop
        columns = slice(first, first + len(centres))
        alone = views(recording, centres, params.hop, SR, ear_weighting=ear_weighting)
        sounds = dictionary.norms[columns] > 0
        for view, expected in zip(joined, alone, strict=True):
            np.testing.assert_array_equal(view[:, columns], expected * sounds)
        first += len(centres)
    assert first == dictionary.n_atoms


def test_a_loud_recording_is_not_heard_across_its_border(rng):
    quiet, loud = 1e-3 * rng.standard_normal(2000), rng.standard_normal(2000)
    together, alone = build_dictionary([quiet, loud], SR, params=GRID), build_dictionary(quiet, SR, params=GRID)
    # The windows of the views reach over the border by hundreds of samples.
    for joined, single in zip(together.views(), alone.views(), strict=True):
        np.testing.assert_array_equal(joined[:, : alone.n_atoms], single)
        assert joined.T.flags.c_contiguous


def test_views_are_those_of_the_mono_mix_in_its_type(rng):
    channels = rng.standard_normal((2, 2000)).astype(np.float32)
    dictionary = build_dictionary(channels, SR, params=GRID)
    expected = views(to_mono(channels), dictionary.centres, GRID.hop, SR)
    for view, alone in zip(dictionary.views(), expected, strict=True):
        assert view.dtype == np.float32
        np.testing.assert_array_equal(view, alone)


def test_a_silent_atom_is_silent_in_every_window(rng):
    # The long window reaches noise 90 ms away, the window of the atom itself only 4 ms.
    recording = np.concatenate([rng.standard_normal(1000), np.zeros(3000)])
    dictionary = build_dictionary(recording, SR, params=GRID)
    silent = dictionary.norms == 0
    assert 150 < silent.sum() < 200
    for view in dictionary.views():
        assert not view[:, silent].any()
        assert view[:, ~silent].any(axis=0).mean() > 0.9


@given(
    st.lists(recordings, min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_a_selection_of_atoms_keeps_these_atoms_and_their_recordings(sources, which):
    dictionary = build_dictionary(sources, SR, params=GRID)
    atoms = np.flatnonzero(np.resize(which, dictionary.n_atoms))
    if not len(atoms):
        atoms = np.array([dictionary.n_atoms - 1])
    some = dictionary.only(atoms)
    assert some.n_atoms == len(atoms)
    np.testing.assert_array_equal(some.spectra, dictionary.spectra[:, atoms])
    np.testing.assert_array_equal(some.centres, dictionary.centres[atoms])
    for k, atom in enumerate(atoms):
        # Recordings without atoms are dropped, and the others are renumbered.
        assert some.recordings[some.recording_ids[k]] is dictionary.recordings[dictionary.recording_ids[atom]]
        assert some.names[some.recording_ids[k]] == dictionary.names[dictionary.recording_ids[atom]]
    assert sorted(set(some.recording_ids)) == list(range(len(some.recordings))) == list(range(len(some.names)))
    for view, whole in zip(some.views(), dictionary.views(), strict=True):
        np.testing.assert_allclose(view, whole[:, atoms], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shifted_views_are_those_of_each_recording_stacked_at_their_gains(rng, dtype):
    sources = [rng.standard_normal(n).astype(dtype) for n in (1500, 700)]
    dictionary = build_dictionary(sources, SR, params=GRID)
    f0 = rng.choice([0.0, 200, 310], dictionary.n_atoms)
    ratios = rng.choice([0, 0.6, 1, 1.5], (3, dictionary.n_atoms))
    gains = view_gains(dictionary.views())
    out = dictionary.shifted_views(ratios, f0, gains, keep_formants=True)
    assert (out.shape, out.dtype) == ((3, len(stack(dictionary.views(), gains)), dictionary.n_atoms), dtype)
    np.testing.assert_array_equal(out.any(axis=1), ratios > 0)
    for i, source in enumerate(sources):
        rows = dictionary.recording_ids == i
        alone = build_dictionary(source, SR, params=GRID)
        of_one = alone.shifted_views(ratios[:, rows], f0[rows], gains, keep_formants=True)
        np.testing.assert_array_equal(out[:, :, rows], of_one)
    # Leaving out some frames does not change the others.
    atoms = np.flatnonzero(rng.random(dictionary.n_atoms) < 0.4)
    some = dictionary.only(atoms).shifted_views(ratios[:, atoms], f0[atoms], gains, keep_formants=True)
    np.testing.assert_allclose(some, out[:, :, atoms], rtol=1e-4 if dtype == np.float32 else 1e-10, atol=1e-3)


def test_a_silent_atom_is_silent_at_every_pitch(rng):
    recording = np.concatenate([rng.standard_normal(1000), np.zeros(1000)])
    dictionary = build_dictionary(recording, SR, params=GRID)
    ratios, f0 = np.full((1, dictionary.n_atoms), 1.3), np.full(dictionary.n_atoms, 200.0)
    (out,) = dictionary.shifted_views(ratios, f0, (1, 1, 1), keep_formants=False)
    np.testing.assert_array_equal(out.any(axis=0), dictionary.norms > 0)


# What sounds


def stretches(*levels_db):
    """A recording of steady tones, each at a level in dB; None is silence."""
    gains = [0.0 if level is None else 10 ** (level / 20) for level in levels_db]
    return np.repeat(gains, 20 * GRID.n_fft) * np.sin(2 * np.pi * np.arange(20 * GRID.n_fft * len(gains)) / 8)


def heard(dictionary, quietest_db):
    """For each recording, a list that tells for each stretch if its middle sounds."""
    sounding = dictionary.sounding(quietest_db)
    middle = dictionary.centres % (20 * GRID.n_fft) == 10 * GRID.n_fft
    return [sounding[middle & (dictionary.recording_ids == i)].tolist() for i in range(len(dictionary.names))]


def test_atoms_far_under_the_loudest_of_their_recording_do_not_sound():
    dictionary = build_dictionary(stretches(0, -30, -49, -51, None), SR, params=GRID)
    assert heard(dictionary, 50) == [[True, True, True, False, False]]
    assert heard(dictionary, 40) == [[True, True, False, False, False]]
    assert heard(dictionary, 60) == [[True, True, True, True, False]]


def test_a_quiet_recording_beside_a_loud_one_has_its_own_loudest():
    dictionary = build_dictionary([stretches(0, -51), stretches(-60, -105, -99)], SR, params=GRID)
    assert heard(dictionary, 50) == [[True, False], [True, False, True]]


def test_a_recording_of_only_noise_or_silence_does_not_sound():
    sources = [stretches(0), stretches(-101, -120), stretches(None)]
    assert heard(build_dictionary(sources, SR, params=GRID), 50) == [[True], [False, False], [False]]
    assert heard(build_dictionary(sources, SR, params=GRID), 51) == [[True], [True, False], [False]]


def test_equal_atoms_all_sound_and_silent_ones_do_not():
    dictionary = build_dictionary([stretches(-20), stretches(-20)], SR, params=GRID)
    assert heard(dictionary, 1) == [[True], [True]]
    # The loudest atom is 0 dB under itself.
    assert dictionary.sounding(0)[dictionary.norms.argmax()]
    assert not build_dictionary([stretches(None), stretches(None)], SR, params=GRID).sounding(50).any()


@given(st.lists(recordings, min_size=1, max_size=3), st.floats(0, 80), st.sampled_from([2.0**-10, 1.0, 2.0**7]))
def test_sounding_atoms_follow_the_literal_rule_at_every_level(sources, quietest_db, gain):
    dictionary = build_dictionary([gain * source for source in sources], SR, params=GRID)
    loudest = [max(dictionary.norms[dictionary.recording_ids == i]) for i in range(len(sources))]
    for k, sounds in enumerate(dictionary.sounding(quietest_db)):
        norm, own = dictionary.norms[k], loudest[dictionary.recording_ids[k]]
        under_own, under_all = (
            20 * np.log10(reference / norm) if norm else np.inf for reference in (own, max(loudest))
        )
        expected = under_own <= quietest_db and under_all <= 2 * quietest_db
        # Exactly at a limit, rounding decides.
        assert sounds == expected or min(abs(under_own - quietest_db), abs(under_all - 2 * quietest_db)) < 1e-9
