"""A corpus keeps the facts that a dictionary has about frames in less memory, and computes the rest when needed."""

from dataclasses import replace

import numpy as np
import pytest

from smalti.dsp.conditioning import fade_edges, remove_dc
from smalti.dsp.stft import StftParams
from smalti.grains.corpus import Analysis, analyse, corpus_of, hop_at
from smalti.grains.descriptors import DESCRIPTOR_SIZES, MIDDLE_WINDOW_S, descriptors_of
from smalti.grains.dictionary import build_dictionary
from smalti.presets import PRESETS
from smalti.settings import HOP_S
from sounds import cleaned

SR = 22050
PARAMS = StftParams.from_seconds(MIDDLE_WINDOW_S, HOP_S, SR)


@pytest.fixture
def recordings(rng):
    """Two channels; one; two that cancel; one that is silent in its middle; and one of 7 samples."""
    noise = [(level * rng.standard_normal(n)).astype(np.float32) for n, level in ((9000, 0.1), (20000, 0.01), (7, 0.3))]
    gap = np.concatenate([noise[1][:8000], np.zeros(12000, np.float32), noise[0]])
    return [np.stack([noise[0], 0.5 * noise[0][::-1]]), noise[1], np.stack([noise[1], -noise[1]]), gap, noise[2]]


@pytest.fixture
def names(recordings):
    return [str(n) for n in range(len(recordings))]


@pytest.fixture
def corpus(recordings, names):
    return corpus_of(recordings, SR, params=PARAMS, names=names)


@pytest.fixture
def dictionary(recordings, names):
    return build_dictionary(recordings, SR, params=PARAMS, names=names)


def test_the_grid_is_that_of_the_presets_that_choose_whole_grains():
    balanced = PRESETS["balanced"]
    for sr in (8000, 22050, 44100, 48000, 96000):
        params = StftParams.from_seconds(balanced.window_s, balanced.hop_s, sr)
        assert params.hop == hop_at(sr) == StftParams.from_seconds(MIDDLE_WINDOW_S, HOP_S, sr).hop


def test_features_are_the_views_in_half_precision(corpus, dictionary):
    views = np.concatenate([view.T for view in dictionary.views()], axis=1)
    features = corpus.features[corpus.rows].astype(np.float32) * corpus.scales[:, None]
    silent = corpus.levels == 0
    assert silent.any()
    assert not corpus.features[silent].any()
    assert not corpus.scales[silent].any()
    assert corpus.features.max() <= 1
    # Half precision has 11 bits; values far below the largest of their frame have fewer.
    np.testing.assert_allclose(
        features[~silent], views[~silent], rtol=2**-11, atol=2**-24 * corpus.scales.max(initial=1)
    )


def test_levels_are_the_norms_of_the_spectra(corpus, dictionary):
    # The two end bins count half as much as they hold, which for noise is a sixtieth of a decibel.
    heard = ~dictionary.cancelled
    np.testing.assert_allclose(corpus.levels[heard], dictionary.norms[heard], rtol=0.02, atol=1e-6)
    assert not corpus.levels[dictionary.cancelled].any()


def test_channels_that_cancel_are_silent(rng):
    mono = rng.standard_normal(9000).astype(np.float32)
    turned = np.stack([mono, np.concatenate([mono[:5000], -mono[5000:]])])
    levels = analyse(turned, SR).norms
    assert (levels[:8] > 0).all()
    assert not levels[-5:].any()


@pytest.mark.parametrize("sr", [8000, 44100])
def test_descriptors_have_norm_1_and_the_same_length_at_any_rate(rng, sr):
    analysis = analyse((0.1 * rng.standard_normal(sr // 2)).astype(np.float32), sr)
    assert analysis.descriptors.shape == (len(analysis.norms), sum(DESCRIPTOR_SIZES))
    np.testing.assert_allclose(np.linalg.norm(analysis.descriptors.astype(float), axis=1), 1, atol=2e-3)


def test_descriptors_measure_similarity_at_any_level():
    features = np.zeros((4, 30), np.float32)
    features[0, [3, 12, 25]] = 1
    features[1] = 100 * features[0]
    features[2, [4, 13, 26]] = 1
    features[3, 3] = 1
    descriptors = descriptors_of(features, [10, 10, 10]).astype(float)
    similarity = descriptors @ descriptors.T
    np.testing.assert_allclose(similarity[0], [1, 1, 0, 1 / 3], atol=1e-3)
    assert descriptors.shape == (4, sum(DESCRIPTOR_SIZES))


def test_silence_and_single_samples():
    for samples in (np.zeros(5000, np.float32), np.zeros((2, 1), np.float32), np.ones(1, np.float32)):
        analysis = analyse(samples, SR)
        assert isinstance(analysis, Analysis)
        assert len(analysis.features) == len(analysis.norms) == len(analysis.descriptors) == len(analysis.scales)
        assert np.isfinite(analysis.features).all()
        assert np.isfinite(analysis.descriptors).all()


def test_presets_that_search_remove_offsets_and_fade_edges(rng):
    samples = (0.1 * rng.standard_normal((2, 9000)) + 0.2).astype(np.float32)
    np.testing.assert_array_equal(cleaned(samples, SR), fade_edges(remove_dc(samples, SR), round(0.003 * SR)))


def test_a_corpus_is_a_dictionary(corpus, dictionary):
    for name in ("recording_ids", "centres", "cancelled"):
        own, other = getattr(corpus, name), getattr(dictionary, name)
        if name == "cancelled":
            # A corpus counts all silent frames as cancelled, which changes no sound.
            assert (own >= other).all()
        else:
            np.testing.assert_array_equal(own, other)
    assert (corpus.n_atoms, corpus.n_channels, corpus.names) == (dictionary.n_atoms, 2, dictionary.names)
    heard = corpus.levels > 0
    np.testing.assert_array_equal(corpus.spectra[:, heard], dictionary.spectra[:, heard])
    assert corpus.borders == dictionary.borders
    for quietest_db in (10.0, 40.0):
        np.testing.assert_array_equal(corpus.sounding(quietest_db), dictionary.sounding(quietest_db))


def test_the_parts_of_a_file_share_its_loudest_frame(corpus, recordings):
    # As a file of its own a quiet recording has frames that sound; as part of a louder file it has none.
    assert corpus.sounding(15.0)[corpus.recording_ids == 1].any()
    together = replace(corpus, files=np.zeros(len(recordings), int))
    assert not together.sounding(15.0)[corpus.recording_ids == 1].any()


def test_only_some_atoms_are_a_plain_dictionary_of_these(corpus, dictionary):
    atoms = np.array([1, 2, corpus.n_atoms - 1])
    part, other = corpus.only(atoms), dictionary.only(atoms)
    np.testing.assert_array_equal(part.spectra, other.spectra)
    assert part.names == other.names
    assert type(part) is type(dictionary)


def test_a_corpus_can_be_reduced_to_one_channel(corpus, recordings):
    mono = corpus.to_mono()
    assert mono.n_channels == 1
    assert all(recording.ndim == 1 for recording in mono.recordings)
    second = corpus.one_channel(1, 2)
    np.testing.assert_array_equal(second.recordings[0], recordings[0][1])
    np.testing.assert_array_equal(second.recordings[1], recordings[1])
    assert len(second.recordings) == len(recordings)
    assert second.features is corpus.features
