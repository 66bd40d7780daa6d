"""The demo recordings are in tune, cover the same range, are the same at every rate, and have no clicks."""

from functools import cache

import numpy as np
import pytest
from scipy import fft

from smalti.workflows import demo
from smalti.workflows.demo import demo_source, demo_target

SR = 22050
SOUNDS = [demo_source, demo_target]
ODE_TO_JOY = [66, 66, 67, 69, 69, 67, 66, 64, 62, 62, 64, 66, 64, 62, 62]


@cache
def recording(sound, sr):
    """One synthesis for all tests that do not change it."""
    y = sound(sr)
    y.flags.writeable = False
    return y


@pytest.fixture
def swarm():
    return recording(demo_source, SR)


def hz(midi):
    return 440 * 2 ** ((np.asarray(midi) - 69) / 12)


def level_db(y):
    return 10 * np.log10(np.mean(np.square(y, dtype=float)) + 1e-20)


def peak_near(y, sr, f_hz):
    """The strongest frequency within a quarter tone of `f_hz`, by a parabola through the log spectrum."""
    n = 2**17
    log_spectrum = np.log(np.abs(fft.rfft(y * np.blackman(len(y)), n)))
    low, high = (round(f_hz * n / sr * 2 ** (step / 24)) for step in (-1, 1))
    i = low + np.argmax(log_spectrum[low:high])
    a, b, c = log_spectrum[i - 1 : i + 2]
    return (i + (a - c) / 2 / (a - 2 * b + c)) * sr / n


def fundamentals(y, sr):
    """For every frame, the MIDI pitches of spectral peaks that are no overtones.

    Such a peak is within 25 dB of the frame's loudest, and 12 dB above the levels at a half, a third and a quarter of
    its frequency.
    """
    n = 8192
    frames = np.lib.stride_tricks.sliding_window_view(y, n)[::1024]
    spectra = 20 * np.log10(np.abs(fft.rfft(frames * np.blackman(n), 2 * n)) + 1e-12)
    f = np.arange(spectra.shape[1]) * sr / (2 * n)
    found = []
    for spectrum in spectra:
        is_peak = (spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] > spectrum[2:])
        candidates = np.flatnonzero(is_peak & (f[1:-1] > 100) & (f[1:-1] < 470)) + 1
        pitches = []
        for i in candidates[spectrum[candidates] > spectrum.max() - 25]:
            below = (spectrum[np.abs(f * q / f[i] - 1) < 0.03].max() for q in (2, 3, 4))
            if max(below) < spectrum[i] - 12:
                pitches.append(69 + 12 * np.log2(f[i] / 440))
        found.append(pitches)
    return found


def periodicity(y, sr):
    """For every frame the highest normalised autocorrelation at a lag of 2 to 10 ms."""
    n = 2048
    window = np.hanning(n)
    frames = np.lib.stride_tricks.sliding_window_view(y, n)[::n] * window
    # With the window's own autocorrelation divided out, a periodic frame scores 1 at any period.
    frame_correlation, window_correlation = (fft.irfft(np.abs(fft.rfft(x, 2 * n)) ** 2) for x in (frames, window))
    lags = slice(round(0.002 * sr), round(0.01 * sr))
    window_share = window_correlation[lags] / window_correlation[0]
    return (frame_correlation[:, lags] / frame_correlation[:, :1] / window_share).max(axis=1)


def roughest_sample(y):
    """The largest second difference relative to those around it, where a click stands out from any noise."""
    bend = np.diff(y.astype(float), 2) ** 2
    around = np.convolve(bend, np.full(2001, 1 / 2001), "same")
    return np.sqrt(np.max(bend / (around + 1e-12)))


def test_the_melody_is_the_ode_to_joy():
    melody = demo.read_voice(demo.SCORE["melody"])
    assert [note.midi for note in melody] == [(midi,) for midi in ODE_TO_JOY]


def test_a_voice_is_read_as_written():
    assert demo.read_voice("A4 - | C#3+E3:1.5 C4:0.5") == (
        demo.PluckedNote(0, 1, (69,)),
        demo.PluckedNote(2, 1.5, (49, 52)),
        demo.PluckedNote(3.5, 0.5, (60,)),
    )


@pytest.mark.parametrize("bar", [1, 2, 3])
def test_all_voices_have_four_beats_a_bar(bar):
    for line in demo.SCORE.values():
        ends_with_a_mark = " ".join([*line.split("|")[:bar], "A4"])
        assert demo.read_voice(ends_with_a_mark)[-1].beat == 4 * bar


@pytest.mark.parametrize("seed", [0, 1])
def test_every_note_is_in_equal_temperament(seed):
    y = demo_target(SR, rng=seed)
    for line in demo.SCORE.values():
        for note in demo.read_voice(line):
            # From the end of the attack to just before the next note.
            start_s = demo.FIRST_BEAT_S + note.beat * demo.SECONDS_PER_BEAT + 0.06
            end_s = start_s + note.beats * demo.SECONDS_PER_BEAT - 0.08
            sounding = y[round(start_s * SR) : round(end_s * SR)]
            for midi in note.midi:
                # Neighbouring notes of a chord and strings that still ring may shift it by a cent or two.
                assert 1200 * np.log2(peak_near(sounding, SR, hz(midi)) / hz(midi)) == pytest.approx(0, abs=3)


@pytest.mark.parametrize("seed", [0, 1])
def test_fundamentals_of_the_swarm_cover_the_two_octaves_of_the_score(seed):
    found = np.round(np.concatenate(fundamentals(demo_source(rng=seed), SR)))
    frames_per_semitone = {midi: int(np.sum(found == midi)) for midi in range(demo.LOWEST, demo.HIGHEST + 1)}
    assert min(frames_per_semitone.values()) >= 5, frames_per_semitone
    needed = {midi for line in demo.SCORE.values() for note in demo.read_voice(line) for midi in note.midi}
    assert needed <= set(frames_per_semitone)


def test_the_swarm_is_at_times_one_bee_and_at_times_many(swarm):
    # One bee is periodic with its wing beat; the sum of several bees is not.
    periodic = periodicity(swarm[SR // 2 : -SR // 2], SR)
    assert np.mean(periodic > 0.9) > 0.1
    assert np.mean(periodic < 0.6) > 0.2
    levels = [level_db(second) for second in swarm.reshape(-1, SR)[1:-1]]
    assert max(levels) - min(levels) > 9


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("sr", [8000, 11025, 48000])
def test_a_rate_changes_the_bandwidth_and_nothing_else(sound, sr):
    ours, reference = (fft.rfft(recording(sound, rate).astype(float), norm="forward") for rate in (sr, SR))
    # Both last whole seconds, so bin k is the same frequency in both. The filter changes the top tenth.
    n_bins = round(0.9 * min(len(ours), len(reference)))
    error = np.linalg.norm(ours[:n_bins] - reference[:n_bins]) / np.linalg.norm(reference[:n_bins])
    # Rounding to float32 leaves an error of -150 dB.
    assert 20 * np.log10(error) < -140
    above = round(len(ours) * 2 * 16_000 / sr)
    assert np.linalg.norm(ours[above:]) < 1e-6 * np.linalg.norm(ours)


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("sr", [8000, 22050, 48000])
def test_level_is_safe_and_ends_are_silent(sound, sr):
    y = recording(sound, sr)
    assert y.dtype == np.float32
    assert 0.5 < np.abs(y).max() < 0.9
    assert abs(y.mean(dtype=float)) < 1e-4
    end = round(0.01 * sr)
    assert level_db(y[:end]) < -80
    assert level_db(y[-end:]) < -80


@pytest.mark.parametrize("sr", [8000, 11025, 48000])
def test_lengths_do_not_depend_on_the_rate(sr):
    assert recording(demo_target, sr).shape == (11 * sr,)
    assert recording(demo_source, sr).shape == (20 * sr,)


def test_a_length_need_not_be_whole_seconds():
    assert demo_source(11025, seconds=10.33).shape == (round(10.33 * 11025),)


def test_the_last_chord_dies_away():
    y = demo_target(SR)
    blocks = y[round(8.2 * SR) : round(10.6 * SR)].reshape(8, -1)
    assert (np.diff([level_db(block) for block in blocks]) < 0).all()


def test_the_swarm_has_no_clicks(swarm):
    clicked = swarm.copy()
    clicked[SR * 9] += 0.1
    assert roughest_sample(swarm) < 7 < roughest_sample(clicked)


@pytest.mark.parametrize("sound", SOUNDS)
def test_the_seed_decides_and_nothing_else(sound):
    y = recording(sound, 8000)
    np.testing.assert_array_equal(sound(8000, rng=np.random.default_rng(0)), y)
    assert not np.array_equal(sound(8000, rng=1), y)


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("sr", [0, -22050, 7999, 192_001])
def test_a_rate_out_of_range_is_refused(sound, sr):
    with pytest.raises(ValueError, match=f"sr is {sr} Hz; choose 8000 to 192000"):
        sound(sr)


@pytest.mark.parametrize("sound", SOUNDS)
def test_a_fractional_rate_is_refused(sound):
    with pytest.raises(TypeError, match=r"sr is 22050\.5"):
        sound(22050.5)


@pytest.mark.parametrize("seconds", [0, 9.9, 121, np.nan, np.inf])
def test_a_length_out_of_range_is_refused(seconds):
    with pytest.raises(ValueError, match=f"seconds is {seconds}; choose 10 to 120"):
        demo_source(seconds=seconds)
