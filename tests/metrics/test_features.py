"""What the measures are computed from, against librosa where it computes the same, and against published values."""

import numpy as np
import pytest
from hypothesis import given
from kit_metrics import HOP_S, sine

from smalti.dsp.bands import a_weights, audible, decibels, mel_filters
from smalti.dsp.conditioning import highpass
from smalti.dsp.stft import stft
from smalti.metrics.features import (
    FINE_GRID,
    GRID,
    RATE,
    cepstra,
    chroma_filters,
    fine_structure,
    modulation_spectra,
    onset_strength,
    patches,
    pick_onsets,
    resampled,
)
from strategies import seeds


@pytest.mark.parametrize(
    ("n_mels", "n_fft", "sr"), [(64, 2048, 22050), (128, 2048, 22050), (20, 512, 22050), (40, 1024, 8000)]
)
def test_mel_filters_are_librosas(n_mels, n_fft, sr):
    import librosa

    expected = librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=n_mels)
    np.testing.assert_allclose(mel_filters(n_mels, n_fft, sr), expected, atol=1e-6 * expected.max())


@pytest.mark.parametrize(("n_fft", "sr"), [(4096, 22050), (2048, 22050), (2048, 16000)])
def test_chroma_filters_are_librosas(n_fft, sr):
    import librosa

    expected = librosa.filters.chroma(sr=sr, n_fft=n_fft, tuning=0.0)
    np.testing.assert_allclose(chroma_filters(n_fft, sr), expected, atol=1e-5)


@pytest.mark.parametrize(("midi", "pitch_class"), [(57, 9), (60, 0), (69, 9), (76, 4)])
def test_a_notes_chroma_is_its_pitch_class(midi, pitch_class):
    magnitudes = np.abs(stft(sine(440 * 2 ** ((midi - 69) / 12)), FINE_GRID))
    chroma = chroma_filters(FINE_GRID.n_fft, RATE) @ np.square(magnitudes)
    assert (chroma[:, 5:-5].argmax(axis=0) == pitch_class).all()


def test_levels_cepstra_and_onsets_are_librosas(target):
    import librosa

    # Zeros before and after as in ours; loud enough that librosa's absolute floor is never met.
    y = 10 * target
    levels = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=RATE), top_db=80)
    ours = decibels(mel_filters(128, 2048, RATE) @ np.square(np.abs(stft(y, GRID))), span_db=80)
    np.testing.assert_allclose(ours, levels, atol=1e-2)
    np.testing.assert_allclose(cepstra(ours), librosa.feature.mfcc(S=levels, n_mfcc=14)[1:].T, atol=2e-2)
    envelope = librosa.onset.onset_strength(y=y, sr=RATE)
    np.testing.assert_allclose(onset_strength(ours, delay=2), envelope, atol=1e-3)
    expected = librosa.onset.onset_detect(onset_envelope=envelope, sr=RATE, units="time")
    np.testing.assert_allclose(pick_onsets(envelope, HOP_S), expected)
    assert len(expected) > 5


@given(seeds)
def test_onsets_of_any_envelope_are_librosas(seed):
    import librosa

    envelope = np.random.default_rng(seed).gamma(0.5, size=80).astype(np.float32)
    expected = librosa.onset.onset_detect(onset_envelope=envelope, sr=RATE, units="time")
    np.testing.assert_allclose(pick_onsets(envelope, HOP_S), expected)


@pytest.mark.parametrize("envelope", [np.zeros(0), np.zeros(10), np.ones(10), np.ones(1)])
def test_an_envelope_that_never_moves_has_no_onsets(envelope):
    assert pick_onsets(envelope, HOP_S).size == 0


def test_a_weights_are_those_of_the_standard_and_librosas():
    import librosa

    # IEC 61672-1:2013, table 3, by tenths of decades; rounded there to 0.1 dB.
    standard = {15: -39.4, 20: -19.1, 24: -8.6, 30: 0.0, 34: 1.3, 39: -1.1, 40: -2.5}
    hz = 10 ** (np.array(list(standard)) / 10)
    np.testing.assert_allclose(10 * np.log10(a_weights(hz)), list(standard.values()), atol=0.1)
    np.testing.assert_allclose(10 * np.log10(a_weights(hz)), librosa.A_weighting(hz), atol=0.01)
    assert a_weights(np.zeros(1))[0] == 0


@pytest.mark.parametrize("sr", [8000, 16000, 44100, 48000, 96000])
def test_resampling_keeps_what_both_rates_hold(sr):
    seconds = 0.8
    fade = np.minimum(1, 20 * np.minimum(np.arange(round(seconds * sr)), np.arange(round(seconds * sr))[::-1]) / sr)
    there = resampled(fade * sine(1234.5, seconds, sr), sr)
    t = np.arange(len(there)) / RATE
    expected = np.minimum(1, 20 * np.minimum(t, seconds - t)) * np.sin(2 * np.pi * 1234.5 * t)
    assert len(there) == round(seconds * RATE)
    # The corners of the fades are not band-limited.
    np.testing.assert_allclose(there, expected, atol=2e-2)
    np.testing.assert_allclose(there[2000:-2000], expected[2000:-2000], atol=1e-3)


def test_resampling_aliases_nothing_and_keeps_lengths():
    fade = np.hanning(44100)
    assert np.abs(resampled(fade * sine(15_000, 1, 44100), 44100)).max() < 1e-3
    assert [len(resampled(np.ones(n), 44100)) for n in (1, 2, 3, 1000)] == [1, 1, 2, 500]
    assert resampled(np.ones(7, np.float32), 48000).dtype == np.float32
    y = np.ones(5)
    assert resampled(y, RATE) is y


def test_rumble_goes_and_sound_stays_in_place():
    y = sine(200, 2)
    heard = highpass(y + 3 + sine(2, 2), RATE)
    middle = slice(RATE // 2, -RATE // 2)
    np.testing.assert_allclose(heard[middle], y[middle], atol=0.01)
    # -6 dB at the corner.
    assert np.abs(highpass(sine(20, 4), RATE)[RATE:-RATE]).max() == pytest.approx(0.5, abs=0.01)


def test_decibels_are_cut_off_below_the_loudest():
    power = np.array([1e-30, 1e-3, 10.0])
    np.testing.assert_allclose(decibels(power, span_db=50), [-40, -30, 10])
    np.testing.assert_allclose(decibels(power, span_db=50, loudest=1000), [-20, -20, 10])
    np.testing.assert_array_equal(decibels(np.zeros(3), span_db=50), 0)
    np.testing.assert_allclose(decibels(np.float32([1e-40, 1e-38]), span_db=100), -379.3, atol=1)


def test_frames_within_the_span_of_the_loudest_are_audible():
    np.testing.assert_array_equal(audible(np.array([1, 1e-6, 0.02, 0]), span_db=50), [True, False, True, False])
    assert not audible(np.zeros(3)).any()
    assert audible(np.zeros(0)).shape == (0,)


def test_patches_are_stretches_without_their_level():
    levels = np.arange(20.0).reshape(2, 10)
    points = patches(levels, frames=3)
    assert points.shape == (8, 6)
    np.testing.assert_allclose(points[4] + levels[:, 4:7].mean(), levels[:, 4:7].T.ravel())
    np.testing.assert_allclose(patches(levels + 7, frames=3), points)
    # A spectrogram that is too short is continued with its last frame.
    short = patches(levels[:, :2], frames=3)
    np.testing.assert_allclose(short + levels[:, [0, 1, 1]].mean(), levels[:, [0, 1, 1]].T.ravel()[None])


def test_the_fine_structure_shows_partials_and_no_envelope(rng):
    partials = sum(sine(hz) for hz in range(200, 4000, 200)) + 0.1 * rng.standard_normal(RATE)
    magnitudes = np.abs(stft(partials, FINE_GRID))
    fine = fine_structure(magnitudes, FINE_GRID.n_fft, RATE)
    assert fine.shape == (magnitudes.shape[1], 741)
    hz = np.arange(20, 761) * RATE / FINE_GRID.n_fft
    on = (np.abs((hz + 100) % 200 - 100) < 3) & (hz < 3900)
    between = (np.abs(hz % 200 - 100) < 20) & (hz < 3900)
    assert fine[5, on].min() > fine[5, between].max() + 10
    tilt = np.exp(-np.arange(len(magnitudes)) / 1000)[:, None]
    # Between them, the noise's deepest gaps reach the floor sooner or later.
    tilted = fine_structure(3 * magnitudes * tilt, FINE_GRID.n_fft, RATE)
    np.testing.assert_allclose(tilted[:, on], fine[:, on], atol=2)
    np.testing.assert_allclose(fine_structure(3 * magnitudes, FINE_GRID.n_fft, RATE), fine, atol=1e-4)


@pytest.mark.parametrize(("rate_hz", "octave"), [(2, 0), (4, 1), (9, 2), (18, 3), (35, 4), (70, 5)])
def test_modulation_is_found_in_its_octave(rate_hz, octave):
    frame_rate_hz = 172.0
    t = np.arange(600) / frame_rate_hz
    envelope = 1 + 0.5 * np.sin(2 * np.pi * rate_hz * t)
    depth = modulation_spectra(np.square(envelope)[None], frame_rate_hz)
    assert depth.shape[1] == 6
    assert (depth.argmax(axis=1) == octave).all()
    # The depth of one sine under a Hann window is the same at every rate.
    assert depth.max(axis=1) == pytest.approx(10 * np.log10(0.125 * 0.75 * len(t[:172]) / 172), abs=3)
    np.testing.assert_allclose(modulation_spectra(9 * np.square(envelope)[None], frame_rate_hz), depth, atol=1e-6)
