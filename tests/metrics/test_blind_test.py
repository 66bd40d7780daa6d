"""Rounds of blind comparisons: stretches that all sound, equally loud, in orders that give nothing away."""

import re
from collections import Counter

import numpy as np
import pytest

from smalti.dsp.loudness import integrated_loudness, true_peak
from smalti.metrics.blind_test import FittedSounds, draw_orders, draw_rounds, fit_all, fitted, levelled, stretches

SR = 8000


def tone(hz, level=0.3, seconds=3.0):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * SR)) / SR)).astype(np.float32)


def test_sounds_of_all_rounds_have_one_form_and_loudness(rng):
    noise = (0.05 * rng.standard_normal((2, 4 * SR))).astype(np.float32)
    sounds = fit_all(tone(440), [tone(200), noise], [tone(330, 0.01), np.stack([tone(220, 0.9, 2.0)] * 3)])
    assert sounds.source.shape == (2, 7 * SR)
    drawn = draw_rounds(sounds, SR, rounds=3, length_s=1.0, rng=4)
    assert [round_.end_s - round_.start_s for round_ in drawn] == pytest.approx([1.0] * 3)
    assert {sound.shape for round_ in drawn for sound in round_.sounds.values()} == {(2, SR)}
    levels = [integrated_loudness(sound, SR) for round_ in drawn[:2] for sound in round_.sounds.values()]
    assert max(levels) - min(levels) < 0.1
    for round_ in drawn:
        for letter, mosaic in zip("ab", round_.order, strict=True):
            spectrum = np.abs(np.fft.rfft(round_.sounds[letter][0]))
            assert np.argmax(spectrum) == pytest.approx((330, 220)[mosaic], abs=2)


def test_peaks_are_limited_to_equal_loudness_if_gains_do_not_suffice():
    rng = np.random.default_rng(0)
    click = np.zeros(2 * SR, np.float32)
    click[::4000] = 10
    clips = [{"a": (0.1 * rng.standard_normal(2 * SR)).astype(np.float32), "b": click}]
    (out,) = levelled(clips, SR)
    assert all(true_peak(sound, SR) < 10 ** (-1 / 20) for sound in out.values())
    assert integrated_loudness(out["a"], SR) == pytest.approx(integrated_loudness(out["b"], SR), abs=0.5)


def test_silence_is_not_made_to_hiss():
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(2 * SR)).astype(np.float32)
    (out,) = levelled([{"a": noise, "b": noise * np.float32(1e-6), "c": noise * 0}], SR)
    assert np.abs(out["b"]).max() < 1e-5
    assert not out["c"].any()


def test_a_mosaic_is_cut_or_padded_to_the_target():
    mono, stereo = np.ones(3, np.float32), np.stack([np.ones(3), -2 * np.ones(3)]).astype(np.float32)
    assert fitted(mono, 5, 2).tolist() == [[1, 1, 1, 0, 0]] * 2
    assert fitted(stereo, 2, 2).tolist() == [[1, 1], [-2, -2]]
    assert fitted(stereo, 4, 1).tolist() == [-0.5, -0.5, -0.5, 0]
    assert fitted(np.stack([mono, mono, 4 * mono]), 3, 2).tolist() == [[2, 2, 2]] * 2


def test_rounds_are_spread_over_the_target_and_prefer_stretches_in_which_all_sound():
    sound = np.ones(1000)
    starts = stretches([sound], 100, 4)
    assert all(part * 225 <= start <= (part + 1) * 225 for part, start in enumerate(starts))
    early, late = sound * (np.arange(1000) // 100 < 6), sound * (np.arange(1000) // 100 >= 4)
    assert 400 <= stretches([early, late], 100, 1)[0] <= 500
    assert stretches([sound], 1000, 3) == [0, 0, 0]


@pytest.mark.parametrize("n_mosaics", range(2, 9))
@pytest.mark.parametrize("rounds", [1, 3, 8, 24])
def test_every_mosaic_has_every_letter_equally_often(n_mosaics, rounds):
    orders = draw_orders(n_mosaics, rounds, rng=1)
    assert len(orders) == rounds
    assert all(sorted(order) == list(range(n_mosaics)) for order in orders)
    for letter in range(n_mosaics):
        times = Counter(order[letter] for order in orders)
        counts = [times[mosaic] for mosaic in range(n_mosaics)]
        assert max(counts) - min(counts) <= 1


def test_the_seed_draws_the_order():
    assert draw_orders(3, 12, rng=5) == draw_orders(3, 12, rng=5)
    assert len({tuple(draw_orders(2, 8, rng=seed)) for seed in range(20)}) > 10
    # One round's order must not give away the next one's.
    pairs = [orders[0] == orders[1] for orders in (draw_orders(2, 8, rng=seed) for seed in range(40))]
    assert any(pairs)
    assert not all(pairs)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"rounds": 101}, "rounds is 101; pass at most 100"),
        ({"length_s": 0.1}, "length_s is 0.1; pass a number of at least 0.5"),
    ],
)
def test_numbers_out_of_range_are_refused(options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        draw_rounds(fit_all(tone(440), [tone(200)], [tone(330), tone(220)]), SR, **options)


def test_silence_is_refused():
    sounds = FittedSounds(tone(440), tone(200), [tone(330), 0 * tone(220)])
    with pytest.raises(ValueError, match="sounds hold one that is silent"):
        draw_rounds(sounds, SR)
