"""Pitch: tones of known frequency are found, silence and noise have none; tracks, by oracles and laws."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smalti import StftParams, stft
from smalti.dsp.pitch import (
    check_f0,
    clear,
    fill_gaps,
    harmonicity,
    note_frequencies,
    note_numbers,
    refine_f0,
    steadiness,
    track_pitch,
)

SR, HOP = 22050, 441

# The network is 5 to 10 cents off. Peaks of the spectrum correct that where harmonics stand apart.
CLOSE_CENTS = 10


def tone(hz, *, partials=(1.0, 0.5, 0.33, 0.25, 0.2, 0.17), sr=SR, seconds=0.6):
    """Partials below 0.45 of the rate of a note whose frequency is one number, or one a sample."""
    hz = np.broadcast_to(hz, round(seconds * sr)).astype(float)
    phase = 2 * np.pi * np.cumsum(hz) / sr
    parts = [level * np.sin(k * phase) * (k * hz < 0.45 * sr) for k, level in enumerate(partials, 1)]
    return np.sum(parts, axis=0)


def cents(f0, hz):
    return 1200 * np.log2(f0 / hz)


def inner(f0, hop=HOP, sr=SR):
    """Without the frames within 50 ms of either end."""
    edge = math.ceil(0.05 * sr / hop)
    return f0[edge:-edge]


def assert_follows(f0, hz, *, hop=HOP, sr=SR, within=CLOSE_CENTS):
    hz = np.broadcast_to(hz, f0.shape)
    f0, hz = inner(f0, hop, sr), inner(hz, hop, sr)
    assert (f0 > 0).all()
    # Now and then a value strays a little further.
    assert np.quantile(np.abs(cents(f0, hz)), 0.95) < within
    assert np.abs(cents(f0, hz)).max() < 60


# Tracking


@pytest.mark.parametrize("hz", [50, 60, 110, 220, 440, 880, 1320, 1760, 2500, 3520, 4500])
def test_notes_are_found_from_the_lowest_to_the_highest(hz):
    assert_follows(track_pitch(tone(hz), SR, hop=HOP), hz)


@pytest.mark.parametrize("hz", [110, 220, 440, 880, 1320, 1760, 2500, 3520, 4500])
def test_a_single_partial_is_a_note(hz):
    assert_follows(track_pitch(tone(hz, partials=[1]), SR, hop=HOP), hz)


@pytest.mark.parametrize("hz", [36, 43, 65, 82])
def test_a_bass_may_be_hardly_more_than_a_single_partial(hz):
    # Drum machines have such a bass. The network needs 0.15 s for it, and its bands are 70 cents wide.
    f0 = track_pitch(tone(hz, partials=[1, 0, 0.1], seconds=1), SR, hop=HOP)[8:-8]
    assert (f0 > 0).all()
    assert np.abs(cents(f0, hz)).max() < 35


@pytest.mark.parametrize("hz", [110, 220, 440, 880, 1200])
@pytest.mark.parametrize("partials", [[0, 1, 0.6, 0.5, 0.4, 0.3], [1, 0, 0.5, 0, 0.3], [0.1, 1, 0.3, 0.1]])
def test_no_octave_is_missed_whatever_the_partials(hz, partials):
    # No fundamental; no even harmonics, as of a clarinet; hardly any but the second.
    assert_follows(track_pitch(tone(hz, partials=partials), SR, hop=HOP), hz)


@pytest.mark.parametrize("hz", [150, 440, 1800])
def test_vibrato_is_followed(hz):
    depth = 2 ** (0.5 / 12 * np.sin(2 * np.pi * 5.5 * np.arange(round(0.8 * SR)) / SR))
    f0 = track_pitch(tone(hz * depth, seconds=0.8), SR, hop=HOP)
    assert_follows(f0, np.append(hz * depth, hz)[::HOP], within=30)


@pytest.mark.parametrize(("first", "last"), [(70, 280), (900, 225), (800, 3200)])
def test_glides_are_followed(first, last):
    hz = first * (last / first) ** (np.arange(round(1.2 * SR)) / (1.2 * SR))
    f0 = track_pitch(tone(hz, seconds=1.2), SR, hop=HOP)
    assert_follows(f0, np.append(hz, last)[::HOP], within=30)


def test_fast_whistles_are_followed():
    # Two octaves a second.
    hz = 2000 * 4 ** (np.arange(round(0.5 * 44100)) / 44100)
    f0 = inner(track_pitch(tone(hz, partials=[1], sr=44100, seconds=0.5), 44100, hop=441), 441, 44100)
    assert (f0 > 0).mean() > 0.9
    truth = inner(np.append(hz, hz[-1])[::441], 441, 44100)
    assert np.abs(cents(f0, truth)[f0 > 0]).max() < 60


def test_tracked_notes_begin_and_end_on_time():
    gap = np.zeros(round(0.3 * SR))
    f0 = track_pitch(np.concatenate([gap, tone(330, seconds=0.3), gap, tone(495, seconds=0.3), gap]), SR, hop=HOP)
    at = np.arange(len(f0)) * HOP / SR
    for hz, start in ((330, 0.3), (495, 0.9)):
        during = (at > start + 0.03) & (at < start + 0.27)
        assert np.abs(cents(f0[during], hz)).max() < 60
    silent = (at < 0.25) | (np.abs(at - 0.75) < 0.1) | (at > 1.25)
    assert (f0[silent] == 0).all()


def test_a_note_is_found_in_noise(rng):
    y = tone(440) + 0.1 * rng.standard_normal(round(0.6 * SR))
    assert_follows(track_pitch(y, SR, hop=HOP), 440)


@pytest.mark.parametrize("sr", [8000, 22050, 44100])
@pytest.mark.parametrize("slope", [0, 1, 2])
def test_noise_has_hardly_any_pitch(slope, sr, rng):
    spectrum = np.fft.rfft(rng.standard_normal(2 * sr))
    y = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** (slope / 2))
    assert (track_pitch(y, sr, hop=sr // 50) > 0).mean() < 0.05


@pytest.mark.parametrize("y", [np.zeros(SR), np.zeros(1), np.ones(SR), np.eye(1, SR)[0], np.zeros(1, np.float32)])
def test_silence_and_clicks_have_no_pitch(y):
    assert (track_pitch(y, SR, hop=HOP) == 0).all()


def test_rustling_70_db_below_a_note_has_no_pitch(rng):
    y = np.concatenate([tone(440), np.zeros(round(0.6 * SR))])
    y += 10 ** (-70 / 20) * rng.standard_normal(len(y))
    f0 = track_pitch(y, SR, hop=HOP)
    assert (f0[round(0.7 * SR / HOP) :] == 0).all()


@pytest.mark.parametrize("gain", [1e-6, 0.25, 1.0, 3e4])
def test_the_level_does_not_matter(gain):
    y = np.concatenate([tone(440), tone(1760, seconds=0.3)])
    expected = track_pitch(y, SR, hop=HOP)
    # The network computes in single precision.
    np.testing.assert_allclose(track_pitch(gain * y, SR, hop=HOP), expected, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sr", [8000, 16000, 44100, 48000, 96000])
def test_the_sample_rate_does_not_matter(sr, dtype):
    hop = sr // 50
    f0 = track_pitch(tone(440, sr=sr).astype(dtype), sr, hop=hop)
    assert f0.dtype == np.float64
    assert_follows(f0, 440, hop=hop, sr=sr)


@pytest.mark.parametrize("sr", [1000, 8000, 22050, 22051, 192000])
@pytest.mark.parametrize("seconds", [0, 0.001, 0.02, 0.1, 1])
def test_any_length_and_rate_gives_pitches_below_half_the_rate(sr, seconds, rng):
    y = rng.standard_normal(max(1, round(seconds * sr)))
    for hop in (97, 4096):
        f0 = track_pitch(y, sr, hop=hop)
        assert f0.shape == (1 + len(y) // hop,)
        assert ((f0 == 0) | ((f0 > 20) & (f0 < sr / 2))).all()


@pytest.mark.parametrize("seconds", [0.05, 0.08, 0.1])
def test_short_recordings_have_pitches(seconds):
    f0 = track_pitch(tone(440, seconds=seconds), SR, hop=110)
    middle = f0[len(f0) // 3 : -len(f0) // 3]
    assert (middle > 0).all()
    assert np.abs(cents(middle, 440)).max() < 20


@pytest.mark.parametrize("hop", [64, 441, 1000, 1024])
def test_frames_are_those_of_the_transform(hop):
    hz = 300 * 2 ** (np.arange(SR) / SR)
    y = tone(hz, seconds=1)
    f0 = track_pitch(y, SR, hop=hop)
    assert len(f0) == stft(y, StftParams(4096, hop)).shape[1]
    assert_follows(f0, np.append(hz, 600)[::hop], hop=hop, within=30)


def test_blocks_of_long_recordings_join():
    # The second begins at 30 s, and its surroundings do at 28 s.
    sr, hop = 8000, 80
    hz = 330 * 2 ** (0.5 * np.sin(np.arange(33 * sr) / sr))
    f0 = track_pitch(tone(hz, sr=sr, seconds=33, partials=[1, 0.5, 0.3]), sr, hop=hop)
    assert_follows(f0, np.append(hz, hz[-1])[::hop], hop=hop, sr=sr, within=30)
    assert np.abs(np.diff(np.log2(f0[2950:3050]))).max() < 0.01


def test_the_same_recording_has_the_same_track(rng):
    y = tone(440) + 0.3 * rng.standard_normal(round(0.6 * SR))
    before = y.copy()
    assert (track_pitch(y, SR, hop=HOP) == track_pitch(y, SR, hop=HOP)).all()
    assert (y == before).all()


def test_wrong_recordings_are_refused():
    with pytest.raises(ValueError, match="mix it down first"):
        track_pitch(np.zeros((2, 100)), SR, hop=HOP)
    with pytest.raises(ValueError, match="NaN"):
        track_pitch(np.full(100, np.nan), SR, hop=HOP)
    with pytest.raises(TypeError, match="float"):
        track_pitch(np.zeros(100, np.int16), SR, hop=HOP)
    with pytest.raises(ValueError, match="hop is 0"):
        track_pitch(np.zeros(100), SR, hop=0)


def run(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_without_swift_f0_the_extra_is_named():
    result = run(
        "import sys; sys.modules['swift_f0'] = None\n"
        "import numpy, smalti.dsp.pitch\n"
        "smalti.dsp.pitch.track_pitch(numpy.zeros(9), 8000, hop=9)"
    )
    assert result.stderr.strip().splitlines()[-1] == (
        "smalti.errors.MissingExtraError: following pitch needs swift-f0: pip install 'smalti[pitch]'"
    )


def test_the_network_is_loaded_when_needed_and_says_nothing():
    result = run(
        "import sys, numpy, smalti.dsp.pitch\n"
        "assert not {'swift_f0', 'onnxruntime'} & sys.modules.keys()\n"
        "smalti.dsp.pitch.track_pitch(numpy.sin(numpy.arange(8000) / 3), 8000, hop=9)\n"
        "assert 'matplotlib' not in sys.modules"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# Tracks

# Unpitched frames, and few notes, close and far apart, so that every case occurs.
pitches = st.sampled_from([0.0, 0.0, 220.0, 222.0, 224.0, 440.0, 466.0])
tracks = st.lists(pitches, max_size=24).map(np.array).map(lambda f0: f0.astype(float))


def steadiness_oracle(f0, heard):
    steady = 0
    for n in range(len(f0)):
        if not heard[n] or f0[n] == 0:
            continue
        first = last = n
        while first > 0 and f0[first - 1] > 0 and abs(cents(f0[first], f0[first - 1])) < 50:
            first -= 1
        while last + 1 < len(f0) and f0[last + 1] > 0 and abs(cents(f0[last], f0[last + 1])) < 50:
            last += 1
        steady += last - first + 1 >= 4
    return steady / sum(heard) if any(heard) else 0


@given(tracks, st.data())
def test_steadiness_is_the_share_counted_frame_by_frame(f0, data):
    heard = np.array(data.draw(st.lists(st.booleans(), min_size=len(f0), max_size=len(f0))), dtype=bool)
    assert steadiness(f0, heard) == pytest.approx(steadiness_oracle(f0, heard))


def test_steadiness_by_hand():
    notes = np.array([220, 222, 224, 222, 440, 440, 440, 0, 0, 330, 330, 330, 330, 0.0])
    assert steadiness(notes, np.ones(14, bool)) == 8 / 14
    assert steadiness(notes, notes > 0) == 8 / 11
    assert steadiness(notes, np.zeros(14, bool)) == 0
    assert steadiness(np.zeros(14), np.ones(14, bool)) == 0


def bridged_oracle(f0, longest):
    out = list(f0)
    for n in range(len(f0)):
        before = next((m for m in range(n, -1, -1) if f0[m] > 0), None)
        after = next((m for m in range(n, len(f0)) if f0[m] > 0), None)
        if before is None and after is not None:
            out[n] = f0[after] if after - n <= longest else 0
        elif after is None and before is not None:
            out[n] = f0[before] if n - before <= longest else 0
        elif before is not None and before < n and after - before - 1 <= longest:
            third = math.ceil((after - before - 1) / 3)
            out[n] = f0[before] if n - before <= third else f0[after]
    return out


@given(tracks, st.integers(0, 9), st.sampled_from([np.float32, np.float64]))
def test_gaps_are_filled_frame_by_frame(f0, longest, dtype):
    before = f0.astype(dtype)
    out = fill_gaps(before, longest=longest)
    assert out.dtype == dtype
    assert (before == f0).all()
    np.testing.assert_array_equal(out, bridged_oracle(f0, longest))
    np.testing.assert_array_equal(out[f0 > 0], f0[f0 > 0])


def test_filled_gaps_by_hand():
    notes = np.array([0, 0, 0, 220, 0, 0, 0, 440, 0, 330, 0, 0, 0, 0, 262, 0, 0, 0, 0.0])
    expected = [0, 0, 220, 220, 0, 0, 0, 440, 440, 330, 0, 0, 0, 0, 262, 262, 0, 0, 0]
    assert fill_gaps(notes, longest=1).tolist() == expected
    expected = [220, 220, 220, 220, 220, 440, 440, 440, 440, 330, 0, 0, 0, 0, 262, 262, 262, 262, 0]
    assert fill_gaps(notes, longest=3).tolist() == expected
    assert fill_gaps(np.zeros(3), longest=9).tolist() == [0, 0, 0]


def test_notes_have_their_numbers():
    np.testing.assert_allclose(note_numbers(np.array([440, 880, 27.5, 261.6255653])), [69, 81, 21, 60], atol=1e-8)
    np.testing.assert_array_equal(np.isnan(note_numbers(np.array([0, 440.0]))), [True, False])


@given(st.lists(st.just(0.0) | st.floats(20, 20000), max_size=9).map(np.array))
def test_notes_and_frequencies_are_inverse(f0):
    # A rounding of a note number of 136 is 2e-14 of an octave.
    np.testing.assert_allclose(note_frequencies(note_numbers(f0)), f0, rtol=1e-12)


def test_valid_tracks_pass():
    for track in ([0, 220, 440], np.array([0, 20, 20000], np.float32), np.array([0.0, 27.5, 4186]), (0, 0, 0)):
        checked = check_f0("f0", track, 3)
        assert checked.dtype == np.float64
        np.testing.assert_array_equal(checked, track)


@pytest.mark.parametrize(
    ("track", "error", "match"),
    [
        ([0, 220], ValueError, r"f0 has 2 values; pass 3, one for each frame"),
        ([[0, 220, 440]], ValueError, r"f0 has shape \(1, 3\); pass one frequency for each frame, shape \(3,\)"),
        (220.0, ValueError, r"f0 has shape \(\); pass one"),
        (
            [0, np.nan, np.inf],
            ValueError,
            r"f0 holds 2 values that are NaN or infinite; pass 0 where there is no pitch",
        ),
        ([0, -220, 440], ValueError, r"f0 holds -220 Hz; pass frequencies from 20 to 20000 Hz, and pass 0 where"),
        ([0, 19.9, 440], ValueError, r"f0 holds 19.9 Hz"),
        ([0, 220, 20001], ValueError, r"f0 holds 20001 Hz"),
        (["a", "b", "c"], TypeError, r"f0 has dtype <U1; pass frequencies in Hz, and 0 where there is no pitch"),
        ([True, False, True], TypeError, r"f0 has dtype bool"),
        ([1j, 0, 0], TypeError, r"f0 has dtype complex128"),
        (None, TypeError, r"f0 has dtype object"),
    ],
)
def test_invalid_tracks_are_refused(track, error, match):
    with pytest.raises(error, match=match):
        check_f0("f0", track, 3)


# Clarity


def seen(sound, sr=SR, n_fft=2048):
    return np.abs(stft(sound, StftParams(n_fft, n_fft // 4)))[:, 4:-4]


def clarity_at(sound, hz, **options):
    magnitudes = seen(sound, **options)
    return harmonicity(magnitudes, np.full(magnitudes.shape[1], float(hz)), SR)


def clarity_oracle(magnitudes, f0, sr):
    """The share, bin by bin."""
    power, out = magnitudes.astype(np.float64) ** 2, np.zeros(len(f0))
    n_bins = len(power)
    bin_hz = sr / 2 / (n_bins - 1)
    lowest = int(50 / bin_hz)
    for k, pitch in enumerate(f0):
        of_harmonic = np.zeros(n_bins, bool)
        number = 1
        while pitch > 0 and number * pitch < sr / 2:
            centre = number * pitch / bin_hz
            reach = max(2.2, 0.006 * centre)
            of_harmonic[max(0, int(np.rint(centre - reach))) : int(np.rint(centre + reach)) + 1] = True
            number += 1
        of_harmonic[:lowest] = False
        total, chance = power[lowest:, k].sum(), of_harmonic.sum() / (n_bins - lowest)
        if pitch > 0 and total > 0:
            out[k] = (power[of_harmonic, k].sum() / total - chance) / (1 - chance)
    return out


def test_clarity_is_the_share_counted_bin_by_bin():
    rng = np.random.default_rng(0)
    magnitudes = rng.random((1025, 40)).astype(np.float32)
    f0 = np.where(np.arange(40) % 5 == 0, 0, rng.uniform(60, 9000, 40))
    np.testing.assert_allclose(harmonicity(magnitudes, f0, SR), clarity_oracle(magnitudes, f0, SR), atol=1e-9)


@pytest.mark.parametrize("hz", [110, 220, 446.7, 1000, 2500])
@pytest.mark.parametrize("partials", [(1.0,), (1.0, 0.5, 0.33, 0.25, 0.2)])
def test_a_tone_is_clear_at_its_pitch(hz, partials):
    out = clarity_at(tone(hz, partials=partials), hz)
    assert out.dtype == np.float64
    assert (out > 0.98).all()
    assert (out <= 1).all()


def test_a_tone_with_vibrato_is_clear_in_its_high_partials_too():
    t = np.arange(SR) / SR
    hz = 440 * 2 ** (9 / 1200 * np.sin(2 * np.pi * 5 * t))
    magnitudes = seen(tone(hz, partials=[0.0] * 12 + [1.0] * 8, seconds=1.0))
    assert harmonicity(magnitudes, np.full(magnitudes.shape[1], 440.0), SR).mean() > 0.9


def test_noise_is_as_clear_as_chance_at_any_pitch(rng):
    for hz in (120, 440, 1500):
        assert abs(clarity_at(rng.standard_normal(8 * SR), hz).mean()) < 0.02


def test_half_the_power_in_noise_is_half_as_clear(rng):
    sound = tone(440, seconds=4.0)
    sound /= sound.std()
    assert clarity_at(sound + rng.standard_normal(len(sound)), 440).mean() == pytest.approx(0.5, abs=0.05)


def test_clarity_is_negative_where_the_partials_hold_less_than_noise_would():
    # None of the partials of 300 Hz is one of 440 Hz' first four.
    out = clarity_at(tone(440, partials=(1.0, 0.5)), 300)
    assert (out < -0.05).all()


def test_a_note_is_less_clear_in_a_chord_than_alone():
    both = clarity_at(tone(440, partials=(1, 0.5)) + tone(523.25, partials=(1, 0.5)), 440)
    assert 0.3 < both.mean() < 0.7


def test_silence_and_frames_without_a_pitch_are_not_clear():
    magnitudes = seen(tone(440))
    f0 = np.full(magnitudes.shape[1], 440.0)
    f0[::2] = 0
    out = harmonicity(magnitudes, f0, SR)
    np.testing.assert_array_equal(out > 0, f0 > 0)
    assert (out[f0 == 0] == 0).all()
    assert not harmonicity(np.zeros_like(magnitudes), f0, SR).any()
    assert harmonicity(magnitudes[:, :0], f0[:0], SR).shape == (0,)
    # Power below every note does not count.
    assert not harmonicity(np.eye(1025, 4) * 1.0, np.full(4, 440.0), SR).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clarity_does_not_depend_on_the_level(dtype):
    magnitudes = seen(tone(300) + 0.1 * tone(777)).astype(dtype)
    f0 = np.full(magnitudes.shape[1], 300.0)
    quiet, loud = (harmonicity(dtype(gain) * magnitudes, f0, SR) for gain in (2.0**-15, 2.0**15))
    np.testing.assert_allclose(quiet, loud, rtol=1e-12)


# Which frames are clear enough


@pytest.mark.parametrize("off", [0, -0.5, -2])
def test_a_tenth_is_always_clear_enough(off, rng):
    # Clarities are negative where the pitch has no partial.
    values, heard = off + rng.uniform(0, 1, 200), np.arange(200) % 2 == 0
    kept = clear(values, heard)
    assert kept.dtype == np.bool_
    assert kept[heard].mean() >= 0.1
    # No frame that is kept is less clear than one that is not.
    assert values[kept].min() > values[~kept].max()
    assert not kept[values < off + 0.3].any()
    np.testing.assert_array_equal(kept[heard], clear(values[heard], np.ones(100, bool)))


def test_the_clearest_heard_frames_decide_what_is_clear():
    values = np.array([0.9] * 10 + [0.37, 0.35] + [0.1] * 8)
    everything = np.ones(20, bool)
    np.testing.assert_array_equal(clear(values, everything), values > 0.36)
    # The clearest tenth of the other frames have a clarity of 0.1. Frames that are not heard may be clear.
    np.testing.assert_array_equal(clear(values, values < 0.2), everything)
    assert clear(values, ~everything).all()
    for same in (0.3, 0.0, -0.3):
        assert clear(np.full(10, same), everything[:10]).all()
    assert clear(np.zeros(0), np.zeros(0, bool)).shape == (0,)


# Glides


@pytest.mark.parametrize(("hop", "per_hop"), [(512, 8), (441, 8), (441, 5), (500, 7)])
def test_a_chirp_is_followed_between_the_frames_of_its_track(hop, per_hop):
    t = np.arange(SR) / SR
    # An octave and a half in a second, up and down four times: 12 octaves a second.
    hz = 2500 * 2 ** (1.5 * np.abs((4 * t) % 2 - 1))
    samples = np.sin(2 * np.pi * np.cumsum(hz) / SR)
    coarse = hz[::hop]
    fine = refine_f0(samples, coarse, SR, hop=hop, per_hop=per_hop)
    assert (fine.shape, fine.dtype) == ((per_hop * len(coarse),), np.float64)
    at = np.rint(np.arange(len(fine)) * hop / per_hop).astype(int)
    off = np.abs(cents(fine, hz[np.minimum(at, SR - 1)]))[per_hop : -2 * per_hop]
    assert np.median(off) < 15
    assert np.quantile(off, 0.9) < 40


def test_low_pitches_and_rests_between_frames_are_those_of_the_track():
    samples = np.random.default_rng(0).standard_normal(SR).astype(np.float32)
    coarse = np.full(44, 300.0)
    coarse[20:] = 0
    fine = refine_f0(samples, coarse, SR, hop=512, per_hop=4)
    np.testing.assert_allclose(fine[:76], 300.0)
    assert not fine[84:].any()
    np.testing.assert_array_equal(refine_f0(samples, 0 * coarse, SR, hop=512, per_hop=4), 0)


def test_glides_are_those_of_the_track_where_nothing_sounds():
    fine = refine_f0(np.zeros(SR), np.full(44, 3000.0), SR, hop=512, per_hop=4)
    np.testing.assert_allclose(fine, 3000.0)


def test_a_track_without_frames_has_nothing_between_them():
    assert refine_f0(np.zeros(9), np.zeros(0), SR, hop=512, per_hop=4).shape == (0,)
    np.testing.assert_allclose(refine_f0(np.zeros(9), np.array([3000.0]), SR, hop=512, per_hop=4), 3000)


@pytest.mark.parametrize("name", ["hop", "per_hop"])
def test_glides_at_no_hop_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name} is 0"):
        refine_f0(np.zeros(SR), np.full(44, 3000.0), SR, **{"hop": 512, "per_hop": 4} | {name: 0})
