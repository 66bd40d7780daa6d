"""Gains over time and frequency: literal sums, what they achieve, and what they must leave alone."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracles
from smalti.dsp.bands import erb_filters
from smalti.dsp.onsets import onset_times
from smalti.dsp.shaping import (
    AFTER_S,
    ATTACK_BANDS_HZ,
    ATTACK_SMOOTH_S,
    ATTACK_WINDOW_S,
    COLOUR_MOST_DB,
    FADE_BEFORE_S,
    MOST_DOWN_DB,
    MOST_UP_DB,
    Shape,
    around,
    attack_shape,
    colour,
)
from smalti.dsp.stft import StftParams, stft
from smalti.metrics.artefacts import pre_echo_excess_db
from smalti.metrics.fidelity import leak
from sounds import noise
from strategies import DTYPES, seeds

SR = 22050


GRID = StftParams(1024, 128)


def sine(hz, seconds=1.0, sr=SR):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * sr)) / sr)


def eps(dtype):
    return float(np.finfo(dtype).eps)


@functools.cache
def drums(seconds=2.5):
    """Bursts of noise, one every 0.4 s, each dying away within 0.3 s, on a faint hiss: samples and their times."""
    times = 0.3 + 0.4 * np.arange(5)
    y = 0.001 * noise(9, round(seconds * SR))
    for i, start_s in enumerate(times):
        start, length = round(start_s * SR), round(0.3 * SR)
        y[start : start + length] += noise(i, length) * np.exp(-np.arange(length) / (0.06 * SR))
    y.setflags(write=False)
    return y, times


def smeared(y, before_s=0.06):
    """An attack as a mosaic smears it: the sound begins earlier, as loud as just after the attack."""
    echo, times = y.copy(), drums()[1]
    for start in np.round(times * SR).astype(int):
        length = round(before_s * SR)
        echo[start - length : start] += 0.4 * noise(start, length)
    return echo


# --- Shape


def shape_of(db, params=GRID, sr=SR):
    return Shape(db, erb_filters(params.n_fft, sr, step=0.5), params)


def flat(gain_db, length, params=GRID, sr=SR):
    n_bands = len(erb_filters(params.n_fft, sr, step=0.5))
    return shape_of(np.full((n_bands, params.n_frames(length)), gain_db), params, sr)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 127, 1024, 5000])
@pytest.mark.parametrize("gain_db", [0.0, -20.0, 6.0])
def test_one_gain_everywhere_is_that_gain(gain_db, length, dtype):
    y = noise(0, length).astype(dtype)
    shaped = flat(gain_db, length).apply(y)
    assert (shaped.dtype, shaped.shape) == (dtype, y.shape)
    # The shares of a bin add up to 1 in single precision.
    gain = 10 ** (gain_db / 20)
    np.testing.assert_allclose(shaped, gain * y, atol=gain * (20 * eps(dtype) + 10 * eps(np.float32)) * np.abs(y).max())


def test_nothing_is_turned_where_all_gains_are_0_db():
    y = noise(0, 5000)
    np.testing.assert_allclose(flat(0.0, 5000).apply(y), y, atol=50 * eps(np.float64))


def test_every_channel_gets_the_same_gains():
    y = noise(1, 3, 4000)
    n_bands = len(erb_filters(GRID.n_fft, SR, step=0.5))
    shape = shape_of(10 * noise(2, n_bands, GRID.n_frames(4000)))
    shaped = shape.apply(y)
    assert shaped.shape == y.shape
    for channel, alone in zip(shaped, y, strict=True):
        np.testing.assert_array_equal(channel, shape.apply(alone))
    # A gain is the same for all that sounds: shaping is linear.
    mixed = 0.2 * y[0] - 3 * y[1]
    np.testing.assert_allclose(shape.apply(mixed), 0.2 * shaped[0] - 3 * shaped[1], atol=1e-12 * np.abs(shaped).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_silence_stays_silent(dtype):
    y = np.zeros((2, 4000), dtype)
    shaped = flat(12.0, 4000).apply(y)
    assert shaped.dtype == dtype
    assert not shaped.any()
    late = np.concatenate([np.zeros(3000), noise(3, 3000)])
    assert not flat(12.0, 6000).apply(late)[: 3000 - GRID.n_fft].any()


def test_a_band_and_a_moment_have_gains_of_their_own():
    low, high = sine(200), sine(5000)
    n_frames = GRID.n_frames(SR)
    bands = erb_filters(GRID.n_fft, SR, step=0.5)
    db = np.zeros((len(bands), n_frames))
    border = int(oracles_erb(1000) / 0.5)
    db[border:, n_frames // 2 :] = -40
    shaped = Shape(db, bands, GRID).apply(low + high)
    first, second = slice(2000, SR // 2 - 2000), slice(SR // 2 + 2000, SR - 2000)
    np.testing.assert_allclose(shaped[first], (low + high)[first], atol=1e-6)
    # Only the sides of the other tone's window are left of it, 60 dB down and more.
    np.testing.assert_allclose(shaped[second], (low + 0.01 * high)[second], atol=2e-3)


def oracles_erb(hz):
    return 21.4 * np.log10(1 + 0.00437 * hz)


def test_the_samples_are_left_alone():
    y = noise(0, 5000)
    before = y.copy()
    colour(y, 2 * y[::-1], SR, share=1.0).apply(y)
    attack_shape(y, 2 * y[::-1], SR, [0.1]).apply(y)
    np.testing.assert_array_equal(y, before)


# --- colour


def powers_at_one_level(mosaic, target, params):
    gain = np.sqrt(np.mean(target**2) / np.mean(mosaic**2))
    return np.abs(stft(gain * mosaic, params)) ** 2, np.abs(stft(target, params)) ** 2


@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize("sr", [1000, 2000])
def test_colour_is_the_literal_share_of_the_difference_of_levels(share, sr):
    mosaic, target = noise(4, 900), np.cumsum(noise(5, 900)) * np.linspace(0, 1, 900) ** 3
    shape = colour(mosaic, target, sr, share=share)
    window, hop = shape.params.n_fft, shape.params.hop
    # 46 ms every 6 ms, at lengths that transform fast.
    assert window / sr == pytest.approx(0.0464, rel=0.15)
    assert window == 8 * hop
    hz = [k * sr / window for k in range(window // 2 + 1)]
    literal = oracles.colour_gains(*powers_at_one_level(mosaic, target, shape.params), hz, share)
    # Bands are kept in single precision.
    np.testing.assert_allclose(shape.db, literal, atol=1e-4)
    assert np.ptp(literal) > 3 * share


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_share_changes_nothing(dtype):
    mosaic, target = noise(6, 4000).astype(dtype), sine(300, 4000 / SR).astype(dtype)
    shape = colour(mosaic, target, SR, share=0)
    assert not shape.db.any()
    np.testing.assert_allclose(shape.apply(mosaic), mosaic, atol=100 * eps(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gain", [1.0, 1e-3, 30.0])
def test_the_target_itself_stays_as_it_is_at_whatever_level(gain, dtype):
    target = (drums()[0][:30_000]).astype(dtype)
    mosaic = dtype(gain) * target
    shape = colour(mosaic, target, SR, share=1.0)
    np.testing.assert_allclose(shape.db, 0, atol=0.01 if dtype == np.float32 else 1e-6)
    np.testing.assert_allclose(shape.apply(mosaic), mosaic, atol=gain * (0.01 if dtype == np.float32 else 1e-5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gains", [(1e-3, 1.0), (1.0, 1e-4), (1e3, 1e-3), (1e-25, 1.0), (1.0, 1e-25), (1e-40, 1e-40)])
def test_the_levels_of_both_do_not_matter(gains, dtype):
    mosaic, target = noise(7, 6000).astype(dtype), drums()[0][5000:11_000].astype(dtype)
    ours, theirs = (dtype(gain) * sound for gain, sound in zip(gains, (mosaic, target), strict=True))
    # A sound of 1e-40 keeps only five digits in single precision.
    tolerance = 1e-5 if dtype == np.float64 else 1e-2 if min(gains) > 1e-30 else 0.3
    for shaped in (
        lambda *sounds: colour(*sounds, SR, share=0.7),
        lambda *sounds: attack_shape(*sounds, SR, [0.1], share=0.7),
    ):
        wanted = shaped(mosaic, target).db
        np.testing.assert_allclose(shaped(ours, theirs).db, wanted, atol=tolerance)
        assert np.ptp(wanted) > 2


def test_single_precision_is_near_double():
    mosaic, target = noise(8, 6000), drums()[0][5000:11_000]
    for shape in (colour, functools.partial(attack_shape, attacks_s=[0.1])):
        fine, coarse = (shape(mosaic.astype(t), target.astype(t), SR, share=1.0) for t in (np.float64, np.float32))
        np.testing.assert_allclose(coarse.db, fine.db, atol=0.01)
        assert coarse.apply(mosaic.astype(np.float32)).dtype == np.float32
        assert fine.apply(mosaic).dtype == np.float64
    assert colour(*(sound.astype(np.float32) for sound in (mosaic, target)), SR, share=1.0).db.dtype == np.float32


@given(seeds, st.sampled_from([0.1, 0.5, 1.0]))
def test_no_gain_goes_beyond_12_db_and_none_beyond_its_share(seed, share):
    rng = np.random.default_rng(seed)
    mosaic, target = (rng.standard_normal(600) * 10 ** rng.uniform(-3, 3, 600) for _ in range(2))
    db = colour(mosaic, target, 1000, share=share).db
    assert np.abs(db).max() <= COLOUR_MOST_DB == 12
    whole = colour(mosaic, target, 1000, share=1.0).db
    np.testing.assert_allclose(np.clip(db, -12 * share, 12 * share), share * whole, atol=1e-9)


def test_a_larger_share_moves_every_level_further_the_same_way():
    mosaic, target = noise(10, 6000), drums()[0][5000:11_000]
    last = np.zeros(1)
    for share in (0.1, 0.3, 0.6, 1.0):
        db = colour(mosaic, target, SR, share=share).db
        assert (np.abs(db) >= np.abs(last)).all()
        assert (db * last >= 0).all()
        last = db


def test_sound_under_the_floor_is_left_alone():
    # Both are a loud tone; the mosaic's noise is 75 dB under it and the target's 95 dB.
    tone = sine(440)
    mosaic, target = tone + 10**-3.75 * noise(11, SR), tone + 10**-4.75 * noise(12, SR)
    db = colour(mosaic, target, SR, share=1.0).db
    assert np.abs(db).max() < 0.2
    # If both noises lie above the floor, the same difference is made up.
    mosaic, target = tone + 10**-0.5 * noise(11, SR), tone + 10**-1.0 * noise(12, SR)
    assert -10.5 < np.median(colour(mosaic, target, SR, share=1.0).db) < -6


def band_levels(y, target):
    """Levels in ERB bands over a tenth of a second, both at one overall level, on the floor."""
    powers = powers_at_one_level(y, target, GRID)
    ours, theirs = (power[:, :160].reshape(len(power), 10, 16).mean(axis=2) for power in powers)
    bands = erb_filters(GRID.n_fft, SR, step=1.0)
    floor = (bands @ theirs).max() * 10**-4.0
    return [10 * np.log10(bands @ power + floor) for power in (ours, theirs)]


def test_a_full_share_brings_levels_near_the_targets():
    # A noise whose levels rise and fall by 9 dB, slowly from band to band and moment to moment.
    n_bands, n_frames = flat(0.0, SR).db.shape
    ripple = np.sin(np.arange(n_bands) / 3)[:, None] * np.sin(np.arange(n_frames) / 20)
    mosaic, target = noise(14, SR), shape_of(9 * ripple).apply(noise(13, SR))
    apart = []
    for share in (0.0, 0.3, 1.0):
        ours, theirs = band_levels(colour(mosaic, target, SR, share=share).apply(mosaic), target)
        apart.append(np.abs(ours - theirs).mean())
    assert apart[1] < 0.85 * apart[0]
    assert apart[2] < 0.4 * apart[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("silent", ["mosaic", "target", "both"])
def test_a_silent_mosaic_stays_silent_and_a_silent_target_asks_for_nothing(silent, dtype):
    mosaic, target = noise(15, 4000).astype(dtype), noise(16, 4000).astype(dtype)
    if silent != "target":
        mosaic[:] = 0
    if silent != "mosaic":
        target[:] = 0
    for shape in (colour(mosaic, target, SR, share=1.0), attack_shape(mosaic, target, SR, [0.1])):
        assert np.isfinite(shape.db).all()
        shaped = shape.apply(mosaic)
        assert shaped.dtype == dtype
        if silent == "target":
            assert not shape.db.any()
            np.testing.assert_allclose(shaped, mosaic, atol=100 * eps(dtype))
        else:
            assert not shaped.any()


@pytest.mark.parametrize("length", [1, 2, 100])
def test_splinters_can_be_shaped(length):
    mosaic, target = noise(17, length), noise(18, length)
    for shape in (colour(mosaic, target, SR, share=1.0), attack_shape(mosaic, target, SR, [0.0])):
        shaped = shape.apply(mosaic)
        assert shaped.shape == mosaic.shape
        assert np.isfinite(shaped).all()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_0_to_1(share):
    y = noise(0, 100)
    with pytest.raises(ValueError, match=r"share is .*; pass a number from 0 to 1"):
        colour(y, y, SR, share=share)
    with pytest.raises(ValueError, match=r"share is .*; pass a number from 0 to 1"):
        attack_shape(y, y, SR, [], share=share)


def test_nothing_of_the_target_itself_gets_into_the_mosaic():
    target, mosaic = drums()[0] + 0.3 * sine(440, 2.5), noise(19, round(2.5 * SR))
    params = StftParams()
    V = stft(target, params)
    toned = colour(mosaic, target, SR, share=1.0).apply(mosaic)
    sharp = attack_shape(toned, target, SR, drums()[1]).apply(toned)
    for shaped in (toned, sharp):
        assert leak(V, stft(shaped, params)) < 0.05
    # The measure does see the target itself.
    assert leak(V, stft(toned + target, params)) > 0.2


# --- around an attack


def at(attacks_s, times_s):
    before, after = around(attacks_s, np.asarray(times_s, dtype=np.float64))
    return before, after


def test_before_and_after_one_attack_by_hand():
    times = 1 + np.array([-0.15, -0.121, -0.12, -0.105, -0.09, -0.06, -0.03, -1e-6, 0, 0.01, 0.02, 0.039, 0.04, 0.1])
    before, after = at([1.0], times)
    np.testing.assert_allclose(before, [0, 0, 0, 0.25, 0.5, 1, 1, 1, 0, 0, 0, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(after, [0, 0, 0, 0, 0, 0, 0, 0, 1, 0.75, 0.5, 0.025, 0, 0], atol=1e-9)


def test_between_two_attacks_the_first_fades_into_the_second():
    before, after = at([1.0, 1.03], 1 + np.array([-0.03, 0, 0.01, 0.02, 0.0299, 0.03, 0.05]))
    np.testing.assert_allclose(after, [0, 1, 0.75, 0.5, 0.2525, 1, 0.5])
    np.testing.assert_allclose(before, [1, 0, 0.25, 0.5, 0.7475, 0, 0])


def test_every_stroke_of_a_roll_counts_in_full():
    attacks = 1 + 0.05 * np.arange(6)
    before, after = at(attacks, attacks)
    np.testing.assert_allclose(after, 1)
    np.testing.assert_allclose(before, 0)
    before, after = at(attacks, attacks[1:] - 0.005)
    np.testing.assert_allclose(before, 1)
    np.testing.assert_allclose(after, 0)


def test_no_attacks_no_moments_and_attacks_outside_count_nothing():
    for values in (*at([], [0.0, 1.0]), *at([5.0, -3.0], [0.0, 1.0])):
        assert values.shape == (2,)
        assert not values.any()
    for values in at([1.0], []):
        assert values.shape == (0,)


@given(st.lists(st.floats(-0.5, 2.5), max_size=12), st.integers(1, 300))
def test_before_and_after_are_shares_of_a_whole_and_the_literal_ones(attacks, n):
    times = np.linspace(0, 2, n)
    before, after = around(attacks, times)
    assert (before >= 0).all()
    assert (after >= 0).all()
    assert (before + after <= 1 + 4 * eps(np.float64)).all()
    literal = np.array([oracles.before_and_after(time, attacks) for time in times])
    np.testing.assert_allclose(np.transpose([before, after]), literal, atol=1e-9)
    # Their order does not matter, nor does an attack that comes twice.
    again = around([*attacks[::-1], *attacks], times)
    np.testing.assert_array_equal(again, [before, after])


# --- attacks


def test_gains_around_attacks_are_the_literal_ones():
    sr, length, attacks = 8000, 4000, [0.0, 0.02, 0.3, 0.33, 0.498]
    mosaic, target = noise(20, length), noise(21, length) * np.repeat([2.5, 1, 0.1, 2, 0.3], 800)
    shape = attack_shape(mosaic, target, sr, attacks, share=0.6)
    window, hop = shape.params.n_fft, shape.params.hop
    assert window / sr == pytest.approx(0.0116, rel=0.15)
    assert hop / sr == pytest.approx(0.00145, rel=0.15)
    hz = [k * sr / window for k in range(window // 2 + 1)]
    times = [n * hop / sr for n in range(shape.params.n_frames(length))]
    reach = round(0.006 * sr / hop)
    literal = oracles.attack_gains(*powers_at_one_level(mosaic, target, shape.params), hz, times, attacks, 0.6, reach)
    np.testing.assert_allclose(shape.db, literal, atol=1e-6)
    assert literal.min() < -8
    assert literal.max() > 0.5


def test_a_smeared_attack_is_made_sharp():
    target, times = drums()
    mosaic = smeared(target)
    found = onset_times(target, SR)
    np.testing.assert_allclose(found[found > 0.1], times, atol=0.0015)
    assert pre_echo_excess_db(mosaic, target, SR, times) > 10
    shaped = attack_shape(mosaic, target, SR, found).apply(mosaic)
    assert pre_echo_excess_db(shaped, target, SR, times) <= 2
    # The sound after the attack is as loud as it was.
    for start in np.round((times + 0.01) * SR).astype(int):
        after = slice(start, start + 2000)
        assert 20 * np.log10(np.std(shaped[after]) / np.std(mosaic[after])) == pytest.approx(0, abs=1)


def test_a_soft_attack_is_turned_up():
    target, times = drums()
    mosaic = target.copy()
    for start in np.round(times * SR).astype(int):
        mosaic[start : start + 400] *= 0.4
    shaped = attack_shape(mosaic, target, SR, times).apply(mosaic)
    for start in np.round(times * SR).astype(int):
        early = slice(start, start + 300)
        lifted = 20 * np.log10(np.std(shaped[early]) / np.std(mosaic[early]))
        assert 1.5 < lifted <= MOST_UP_DB + 0.1


@pytest.mark.parametrize("sr", [SR, 44100])
def test_elsewhere_samples_are_unchanged(sr):
    length = 2 * sr
    mosaic, target = noise(22, length), 0.1 * noise(23, length)
    target[length // 2 :] *= 20
    shape = attack_shape(mosaic, target, sr, [1.0])
    shaped = shape.apply(mosaic)
    # A window to either side hears gains that were smoothed to either side.
    margin_s = ATTACK_SMOOTH_S + ATTACK_WINDOW_S / 2 + 2 * shape.params.hop / sr
    first, last = round((1 - FADE_BEFORE_S - margin_s) * sr), round((1 + AFTER_S + margin_s) * sr)
    for stretch in (slice(0, first), slice(last, None)):
        np.testing.assert_allclose(shaped[stretch], mosaic[stretch], atol=1e-5)
    assert np.abs(shaped - mosaic)[first:last].max() > 0.5
    # Gains do change samples near the beginning of that reach.
    assert np.abs(shaped - mosaic)[first : first + round(0.04 * sr)].max() > 0.01


@given(seeds)
def test_only_down_before_and_only_up_after_within_their_limits(seed):
    rng = np.random.default_rng(seed)
    mosaic, target = (rng.standard_normal(3000) * np.repeat(10 ** rng.uniform(-3, 1, 30), 100) for _ in range(2))
    sr, attack = 8000, 0.2
    shape = attack_shape(mosaic, target, sr, [attack])
    times = np.arange(shape.db.shape[1]) * shape.params.hop / sr
    smooth = round(ATTACK_SMOOTH_S * sr / shape.params.hop) * shape.params.hop / sr
    before, after = shape.db[:, times < attack - smooth - 1e-9], shape.db[:, times >= attack + smooth]
    rounding = 1e-9
    assert before.max() <= rounding
    assert after.min() >= -rounding
    assert shape.db.min() >= -MOST_DOWN_DB - rounding
    assert shape.db.max() <= MOST_UP_DB + rounding
    assert len(shape.db) == len(ATTACK_BANDS_HZ)


def test_what_is_up_to_6_db_louder_before_an_attack_is_spared():
    target = np.full(SR, 0.01) * noise(24, SR)
    target[SR // 2 :] *= 100
    mosaic = target.copy()
    quiet, loud = slice(SR // 2 - 2000, SR // 2 - 400), 10 ** (np.array([4, 20]) / 20)
    gains = []
    for gain in loud:
        mosaic[quiet] = gain * target[quiet]
        gains.append(attack_shape(mosaic, target, SR, [0.5]).db[:, 305:325].mean())
    assert gains[0] == pytest.approx(0, abs=0.2)
    assert gains[1] == pytest.approx(-14, abs=0.5)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_the_share_is_one_of_decibels(share):
    target, times = drums()
    mosaic = smeared(target)
    whole = attack_shape(mosaic, target, SR, times).db
    np.testing.assert_allclose(attack_shape(mosaic, target, SR, times, share=share).db, share * whole, atol=1e-9)
    assert np.ptp(whole) > 20


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_attacks_nothing_changes(dtype):
    mosaic, target = noise(25, 5000).astype(dtype), noise(26, 5000).astype(dtype)
    shape = attack_shape(mosaic, target, SR, [])
    assert not shape.db.any()
    np.testing.assert_allclose(shape.apply(mosaic), mosaic, atol=100 * eps(dtype))


def test_a_target_shaped_by_itself_stays_as_it_is():
    target, times = drums()
    shape = attack_shape(3 * target, target, SR, times)
    np.testing.assert_allclose(shape.db, 0, atol=1e-6)
