"""Divergences agree with literal sums and other libraries, and the update agrees with the papers and keeps its laws."""

import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.decomposition import _nmf

import oracles
from helpers import SupportFit
from smalti import beta_divergence, multiplicative_update
from smalti.nmf.divergence import Block, BlockFit, GramFit, SpectralFit, noise_floor, scale_by_ratio
from strategies import BETAS, DTYPES, betas, dtypes, magnitude, positive, problems

any_beta = betas | st.floats(0, 2)


def pairs(elements, dtype=np.float64):
    shapes = st.tuples(st.integers(1, 4), st.integers(1, 4))
    return shapes.flatmap(lambda shape: st.tuples(*[arrays(dtype, shape, elements=elements)] * 2))


def scale_of(V, Y, beta):
    """The sum of the magnitudes in a divergence's terms, to which its rounding is proportional."""
    V, Y = V.astype(np.float64), Y.astype(np.float64)
    if beta == 0:
        return float(np.sum(V / Y + Y / Y)) + V.size * 10
    parts = V**beta + Y**beta + V * Y ** (beta - 1)
    # Near beta 0 and 1 the terms are differences of large numbers, divided by beta * (beta - 1).
    return float(np.sum(parts * 10)) / (abs(beta * (beta - 1)) or 1)


# --- the divergence


@given(pairs(positive), any_beta)
def test_the_divergence_is_the_papers_sum(pair, beta):
    V, Y = pair
    expected = oracles.divergence(V, Y, beta)
    tolerance = 1e-15 * scale_of(V, Y, beta)
    assert beta_divergence(V, Y, beta=beta) == pytest.approx(expected, rel=1e-12, abs=tolerance)


@given(pairs(magnitude), betas)
def test_zeros_have_the_papers_limits(pair, beta):
    V, Y = pair
    expected = oracles.divergence(V, Y, beta)
    assert beta_divergence(V, Y, beta=beta) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("beta", "sound_from_silence", "silence_from_sound"),
    [
        (0, math.inf, math.inf),
        (0.5, math.inf, 2 * math.sqrt(3)),
        (1, math.inf, 3),
        (1.5, 4 * 3**0.5, 2 * 3**0.5),
        (2, 4.5, 4.5),
    ],
)
def test_the_divergence_of_a_silent_entry(beta, sound_from_silence, silence_from_sound, dtype):
    three, zero = np.full((1, 1), 3, dtype), np.zeros((1, 1), dtype)
    assert beta_divergence(three, zero, beta=beta) == pytest.approx(sound_from_silence, rel=1e-6)
    assert beta_divergence(zero, three, beta=beta) == pytest.approx(silence_from_sound, rel=1e-6)
    assert beta_divergence(zero, zero, beta=beta) == 0


@given(pairs(magnitude))
def test_beta_1_is_scipys_kullback_leibler(pair):
    V, Y = pair
    assert beta_divergence(V, Y, beta=1) == pytest.approx(scipy.special.kl_div(V, Y).sum(), rel=1e-9, abs=1e-9)


@given(pairs(positive), betas)
def test_the_divergence_is_scikit_learns(pair, beta):
    V, Y = pair
    expected = _nmf._beta_divergence(V, Y, np.eye(Y.shape[1]), beta)
    assert beta_divergence(V, Y, beta=beta) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(pairs(positive), st.sampled_from([0, 1]))
def test_beta_goes_smoothly_through_0_and_1(pair, beta):
    V, Y = pair
    near = beta_divergence(V, Y, beta=beta + 1e-6)
    # The slope in beta is the divergence times a few logarithms of the entries, which span six decades.
    assert near == pytest.approx(beta_divergence(V, Y, beta=beta), rel=1e-4, abs=1e-9 * scale_of(V, Y, 1e-6))


@given(pairs(positive), any_beta)
def test_the_divergence_is_at_least_0_and_that_from_itself_is_0(pair, beta):
    V, Y = pair
    assert beta_divergence(V, Y, beta=beta) >= 0
    assert beta_divergence(V, V, beta=beta) <= 1e-15 * scale_of(V, V, beta)


@given(pairs(positive), betas, st.floats(1e-3, 1e3))
def test_scaling_both_scales_the_divergence_by_that_to_the_beta(pair, beta, gain):
    V, Y = pair
    expected = gain**beta * beta_divergence(V, Y, beta=beta)
    tolerance = 1e-14 * gain**beta * scale_of(V, Y, beta)
    assert beta_divergence(gain * V, gain * Y, beta=beta) == pytest.approx(expected, rel=1e-9, abs=tolerance)


@given(pairs(magnitude, np.float32), betas)
def test_single_precision_agrees_with_double(pair, beta):
    V, Y = pair
    single, double = beta_divergence(V, Y, beta=beta), beta_divergence(*(x.astype(float) for x in pair), beta=beta)
    if math.isinf(double):
        assert single == double
    else:
        # Each term is rounded a few times before the sum, which is in double precision.
        tolerance = 4 * float(np.finfo(np.float32).eps) * scale_of(V, np.maximum(Y, 1e-3), beta)
        assert single == pytest.approx(double, abs=tolerance)


@pytest.mark.parametrize("beta", BETAS)
def test_the_divergence_of_nan_is_nan(beta):
    assert math.isnan(beta_divergence(np.array([[np.nan]]), np.array([[1.0]]), beta=beta))


@pytest.mark.parametrize(("beta", "loud", "terms"), [(2, 2**12, (2.0**23, 0.5)), (1, 2**24, (2.0**24, 1))])
def test_small_terms_are_not_lost_beside_large_ones(beta, loud, terms):
    Y = np.ones((1, 1001), np.float32)
    Y[0, 0] = loud
    # All terms are exact in single precision, but their sum is not.
    assert beta_divergence(np.zeros_like(Y), Y, beta=beta) == terms[0] + 1000 * terms[1]


# --- the update


@given(problems(dtype=np.float64), any_beta, st.sampled_from([0.0, 0.01, 1.0]))
def test_the_update_is_the_papers(problem, beta, eps):
    V, W, H = problem
    new = multiplicative_update(H, V, W, beta=beta, eps=eps)
    # Itakura-Saito replaces zeros of V by the floor, 1e-20 here, and takes the square root of its ratio to the model.
    np.testing.assert_allclose(new, oracles.update(H, V, W, beta, eps), rtol=1e-9, atol=1e-7 if beta == 0 else 1e-15)


@given(problems(dtype=np.float32, entries=positive), betas)
def test_the_update_in_single_precision_agrees_with_double(problem, beta):
    V, W, H = problem
    new = multiplicative_update(H, V, W, beta=beta)
    assert new.dtype == np.float32
    expected = multiplicative_update(H.astype(float), V.astype(float), W.astype(float), beta=beta)
    # The tolerance covers sums of five, a power and a quotient, and the floor, which is larger in single precision.
    slack = 2 * noise_floor(V) / min(V.min(), (W @ H).min())
    np.testing.assert_allclose(new, expected, rtol=100 * np.finfo(np.float32).eps + slack)


@given(problems(dtype=np.float64), any_beta, st.sampled_from([0.0, 0.01]))
def test_no_update_makes_the_fit_worse(problem, beta, eps):
    V, W, H = problem
    fit = SpectralFit.of(V, W, beta=beta, eps=eps)
    before, after = fit.product(H), fit.product(fit.update(H, fit.product(H)))
    # Where V and the model are 0, Itakura-Saito divides by the floor.
    tolerance = 1e-13 * sum(scale_of(fit.V, np.maximum(Y, 1e-9), beta) for Y in (before, after))
    assert fit.divergence(after) <= fit.divergence(before) + tolerance


@given(problems(dtype=np.float64, entries=positive), betas)
def test_a_perfect_fit_stays(problem, beta):
    _, W, H = problem
    np.testing.assert_allclose(multiplicative_update(H, W @ H, W, beta=beta), H, rtol=1e-12)


@given(problems(entries=positive))
def test_kullback_leibler_keeps_the_mass_of_every_frame(problem):
    V, W, H = problem
    new = multiplicative_update(H, V, W, beta=1)
    # The floor is at most 1e-10 of V's largest entry, 1e3; the model is at least 1e-6.
    slack = noise_floor(V) / (W @ H).min()
    np.testing.assert_allclose((W @ new).sum(axis=0), V.sum(axis=0), rtol=50 * np.finfo(V.dtype).eps + slack)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", BETAS)
def test_a_silent_atom_gets_no_activation(beta, dtype):
    W = np.array([[1, 0], [2, 0]], dtype)
    V, H = np.ones((2, 3), dtype), np.ones((2, 3), dtype)
    assert (multiplicative_update(H, V, W, beta=beta)[1] == 0).all()


@pytest.mark.parametrize("beta", BETAS)
def test_with_eps_silent_atoms_keep_their_activations_and_others_change_less(beta):
    W = np.array([[1.0, 0], [2, 0]])
    V, H = np.full((2, 3), 5.0), np.ones((2, 3))
    quick, slow = (multiplicative_update(H, V, W, beta=beta, eps=eps) for eps in (0, 1))
    np.testing.assert_array_equal(slow[1], 1)
    assert (slow[0] > 1).all()
    assert (slow[0] < quick[0]).all()


@given(problems(), betas, st.data())
def test_zeros_stay_zero_and_nothing_turns_negative(problem, beta, data):
    V, W, H = problem
    silent = data.draw(arrays(np.bool_, H.shape))
    H[silent] = 0
    new = multiplicative_update(H, V, W, beta=beta)
    assert (new[silent] == 0).all()
    assert (new >= 0).all()
    assert np.isfinite(new).all()


@given(problems(), betas)
def test_the_update_leaves_its_arguments_alone(problem, beta):
    copies = [x.copy() for x in problem]
    V, W, H = problem
    multiplicative_update(H, V, W, beta=beta)
    for x, copy in zip(problem, copies, strict=True):
        np.testing.assert_array_equal(x, copy)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((3, 2), (4, 5), (5, 2)), r"W has 4 frequency bins but V has 3"),
        (((3, 2), (3, 5), (5, 3)), r"H has shape \(5, 3\); 5 atoms and 2 frames"),
        (((3, 2), (3, 5), (2, 5)), r"H has shape \(2, 5\)"),
    ],
)
def test_shapes_that_disagree_are_refused(shapes, words):
    V, W, H = (np.ones(shape) for shape in shapes)
    with pytest.raises(ValueError, match=words):
        multiplicative_update(H, V, W)


@pytest.mark.parametrize("name", ["V", "W", "H"])
def test_negative_values_are_refused(name):
    arguments = {key: np.ones((2, 2)) for key in "VWH"}
    arguments[name][0, 0] = -1
    with pytest.raises(ValueError, match=f"{name} holds negative values"):
        multiplicative_update(**arguments)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"beta": 2.1}, r"beta is 2.1; pass a number from 0 to 2"),
        ({"beta": -0.1}, r"beta is -0.1"),
        ({"eps": -1}, r"eps is -1; pass a number of at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(argument, words):
    with pytest.raises(ValueError, match=words):
        multiplicative_update(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2)), **argument)


# --- both forms of the Euclidean fit


@given(problems(dtype=np.float64), st.sampled_from([0.0, 0.01]))
def test_the_gram_form_is_the_same_fit(problem, eps):
    V, W, H = problem
    gram, spectral = GramFit.of(V, W, eps=eps), SpectralFit.of(V, W, beta=2, eps=eps)
    P, Y = gram.product(H), spectral.product(H)
    np.testing.assert_allclose(gram.update(H, P), spectral.update(H, Y), rtol=1e-12)
    # The Gram form subtracts energies from each other.
    energies = float(np.sum(V * V) + np.sum(Y * Y))
    assert gram.divergence(P) == pytest.approx(spectral.divergence(Y), abs=1e-14 * energies)


# --- a dictionary that differs from place to place


@st.composite
def block_problems(draw, *, dtype=None, entries=magnitude):
    """V (F, N), blocks, H (M K, N) > 0, and the block of each place (M, N), -1 for none, of M = 1 to 3 voices."""
    n_bins, n_atoms, n_frames, n_voices = (draw(st.integers(1, most)) for most in (4, 3, 5, 3))
    dtype = draw(dtypes) if dtype is None else dtype
    V = draw(arrays(dtype, (n_bins, n_frames), elements=entries))
    names = draw(arrays(np.int8, (n_voices, n_frames), elements=st.integers(-1, 2)))
    blocks = []
    for name in range(3):
        voices, frames = np.nonzero(names == name)
        W = draw(arrays(dtype, (n_bins, n_atoms), elements=entries))
        # No frame of a block may occur twice, so voices in unison get blocks of their own.
        distinct = len(np.unique(frames)) == len(frames)
        for places in [np.ones(len(voices), bool)] if distinct else [voices == voice for voice in range(n_voices)]:
            blocks.append(Block(voices[places], frames[places], W))
    H = draw(arrays(dtype, (n_voices * n_atoms, n_frames), elements=positive))
    return V, tuple(blocks), H, names


def as_tuples(blocks):
    return [(block.voices, block.frames, block.W.astype(float)) for block in blocks]


def updated(fit, H, times):
    for _ in range(times):
        H = fit.update(H, fit.product(H))
    return H


@given(problems(), st.sampled_from([0.0, 0.01]))
def test_one_voice_in_one_block_of_all_frames_is_the_spectral_fit(problem, eps):
    V, W, H = problem
    n_frames = V.shape[1]
    block = Block(np.zeros(n_frames, np.intp), np.arange(n_frames), W)
    fit, plain = BlockFit.of(V, [block], eps=eps), SpectralFit.of(V, W, beta=1, eps=eps)
    # Each round has two products, whose sums of at most five entries are added up in another order.
    tolerance = 50 * np.finfo(V.dtype).eps
    np.testing.assert_allclose(fit.product(H).T, plain.product(H), rtol=tolerance)
    cost = float(scale_of(V, plain.product(H), 1))
    expected = plain.divergence(plain.product(H))
    assert fit.divergence(fit.product(H)) == pytest.approx(expected, abs=float(tolerance * cost))
    np.testing.assert_allclose(updated(fit, H, 1), updated(plain, H, 1), rtol=tolerance)
    assert fit.update(H, fit.product(H)).dtype == fit.product(H).dtype == V.dtype


@given(block_problems(dtype=np.float64))
def test_several_voices_and_blocks_agree_with_the_literal_sums(problem):
    V, blocks, H, _ = problem
    fit = BlockFit.of(V, blocks)
    Y, expected = fit.product(H), oracles.block_product(H, as_tuples(blocks), len(V))
    # The floor is at most 1e-20 here, and any sound at least 1e-6.
    np.testing.assert_allclose(Y.T, expected, rtol=1e-12, atol=1e-19)
    floored = oracles.divergence(V, expected + fit.floor, 1)
    assert fit.divergence(Y) == pytest.approx(floored, rel=1e-12, abs=1e-13 * scale_of(V, Y.T, 1))
    np.testing.assert_allclose(fit.update(H, Y), oracles.block_update(H, V, as_tuples(blocks)), rtol=1e-11)


@given(block_problems(dtype=np.float32, entries=positive))
def test_blocks_in_single_precision_agree_with_double(problem):
    V, blocks, H, _ = problem
    fine = [Block(block.voices, block.frames, block.W.astype(float)) for block in blocks]
    single = updated(BlockFit.of(V, blocks), H, 1)
    double = updated(BlockFit.of(V.astype(float), fine), H.astype(float), 1)
    assert single.dtype == np.float32
    # The tolerance covers sums of at most nine, two quotients, and the floor, which is larger in single precision; the
    # model is at least 1e-6 where there is one.
    slack = 2 * noise_floor(V) / 2.0**-20
    np.testing.assert_allclose(single, double, rtol=100 * np.finfo(np.float32).eps + slack)


@given(block_problems(dtype=np.float64), st.sampled_from([0.0, 0.01]))
def test_no_update_of_blocks_makes_the_fit_worse(problem, eps):
    V, blocks, H, _ = problem
    fit = BlockFit.of(V, blocks, eps=eps)
    for _ in range(4):
        new = updated(fit, H, 1)
        before, after = fit.product(H), fit.product(new)
        tolerance = 1e-13 * (scale_of(V, before.T, 1) + scale_of(V, after.T, 1))
        assert fit.divergence(after) <= fit.divergence(before) + tolerance
        H = new


@given(block_problems())
def test_activations_outside_all_blocks_become_0_and_none_turns_negative(problem):
    V, blocks, H, names = problem
    new = updated(BlockFit.of(V, blocks), H, 1)
    n_atoms = len(H) // len(names)
    assert (new[np.repeat(names < 0, n_atoms, axis=0)] == 0).all()
    assert (new >= 0).all()
    assert np.isfinite(new).all()


@given(block_problems(entries=positive))
def test_blocks_keep_the_mass_of_every_frame_that_has_a_place(problem):
    V, blocks, H, names = problem
    fit = BlockFit.of(V, blocks)
    sums = fit.product(updated(fit, H, 1)).sum(axis=1)
    played = (names >= 0).any(axis=0)
    slack = noise_floor(V) / 2.0**-20
    np.testing.assert_allclose(sums[played], V.sum(axis=0)[played], rtol=50 * np.finfo(V.dtype).eps + slack)
    np.testing.assert_allclose(sums[~played], len(V) * fit.floor, rtol=1e-5)


# --- few activations


@given(problems(), st.data(), st.sampled_from([0.0, 0.01]))
def test_the_fit_over_a_few_activations_agrees_with_the_fit_over_all(problem, data, eps):
    V, W, H = problem
    H[data.draw(arrays(np.bool_, H.shape))] = 0
    few, all_ = SupportFit.of(V, W, H, eps=eps), SpectralFit.of(V, W, beta=1, eps=eps)
    # Five rounds add up in another order, and each may enlarge the rounding of the one before.
    tolerance = 500 * np.finfo(V.dtype).eps
    got, expected = updated(few, H, 5), updated(all_, H, 5)
    assert got.dtype == V.dtype
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=1e-15)
    np.testing.assert_allclose(few.product(H).T, all_.product(H), rtol=tolerance)
    cost = float(scale_of(V, all_.product(H), 1))
    expected = all_.divergence(all_.product(H))
    assert few.divergence(few.product(H)) == pytest.approx(expected, abs=float(tolerance * cost))
    assert (got[H == 0] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fit_may_have_no_activations(dtype):
    V, W, H = np.ones((3, 2), dtype), np.ones((3, 4), dtype), np.zeros((4, 2), dtype)
    fit = SupportFit.of(V, W, H)
    assert (fit.product(H) == dtype(noise_floor(V))).all()
    assert not fit.update(H, fit.product(H)).any()
    plain = SpectralFit.of(V, W, beta=1, eps=0)
    assert fit.divergence(fit.product(H)) == pytest.approx(plain.divergence(plain.product(H)), rel=1e-6)


# --- extreme numbers


@given(st.sampled_from(DTYPES), st.sampled_from([0, 1e-38, 1e-20, 1e-10, 1, 1e8, 1e12]))
def test_the_floor_may_divide_twice_and_is_inaudible(dtype, loudest):
    V = np.full((2, 2), loudest, dtype)
    floor = dtype(noise_floor(V))
    assert floor > 0
    # The factor stands for many bins and loud atoms.
    assert np.isfinite(V / floor / floor * dtype(1e6)).all()
    assert floor <= 1e-10 * loudest or loudest < 1e-15


def test_a_nearly_silent_atoms_huge_gain_does_not_silence_the_others():
    V, W = np.ones((2, 1), np.float32), np.array([[1, 0], [0, 1e-25]], np.float32)
    fit, H = SpectralFit.of(V, W, beta=1, eps=0), np.ones((2, 1), np.float32)
    for _ in range(10):
        H = fit.update(H, fit.product(H))
    np.testing.assert_allclose(W @ H, V, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_that_fade_out_become_zero_and_not_denormal(dtype):
    H = np.array([[1], [np.finfo(dtype).tiny]], dtype)
    half = np.full_like(H, 0.5)
    np.testing.assert_array_equal(scale_by_ratio(H, half, np.ones_like(H), 0.0), [[0.5], [0]])


def test_activations_that_are_all_tiny_stay():
    H = np.array([[1e-25], [1e-30]], np.float32)
    np.testing.assert_array_equal(scale_by_ratio(H, np.ones_like(H), np.ones_like(H), 0.0), H)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_eps_that_rounds_to_zero_acts_like_zero(dtype):
    H = scale_by_ratio(np.ones((1, 1), dtype), np.zeros((1, 1), dtype), np.zeros((1, 1), dtype), 1e-320)
    assert np.isfinite(H).all()
