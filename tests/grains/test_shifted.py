"""The pitch each source frame sounds at, and the shifted grains: by hand, by laws, by measured pitch."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smalti import StftParams, build_dictionary
from smalti.dsp.pitch import FINENESS, pitch_at, ratios_to
from smalti.grains.runs import Runs
from smalti.grains.shifted import LONGEST_WINDOW_S, grain_params, shifted_grains
from smalti.grains.transposition import Transposition
from smalti.mosaicing.transpose import (
    IN_TUNE,
    ONE_VOICE,
    STEADY_CHORDS,
    STEADY_MELODY,
    STEADY_SOURCE,
    PitchProfile,
    decide,
    fine_track,
)

SR, GRID = 16000, StftParams(1024, 256)


def transposition(origins, *, melodies=None, shifts=None, n_frames=8):
    origins = np.asarray(origins, float)
    melodies = np.zeros((0, 0)) if melodies is None else np.asarray(melodies, float)
    shifts = np.zeros(0) if shifts is None else np.asarray(shifts, float)
    n_frames = melodies.shape[1] if melodies.size else n_frames
    # The pitch of each frame is held until the next.
    glides, usable = np.repeat(origins, FINENESS), np.ones(len(origins), bool)
    tracks = np.zeros(n_frames), origins, origins, glides, usable
    return Transposition("chords", "as asked", *tracks, melodies=melodies, shifts=shifts)


def semitones(ratio):
    return 12 * np.log2(ratio)


# --- ratios


def test_a_ratio_turns_one_pitch_into_another():
    own, wanted = np.array([220.0, 440, 330, 100]), np.array([440.0, 220, 330, 150])
    np.testing.assert_allclose(ratios_to(wanted, own), [2, 0.5, 1, 1.5])


def test_there_is_no_ratio_without_a_pitch_or_beyond_four_octaves():
    np.testing.assert_array_equal(ratios_to(np.array([0.0, 440, 0]), np.array([440.0, 0, 0])), 0)
    np.testing.assert_array_equal(ratios_to(np.array([1600.0, 100, 1601, 99.9]), np.array([100.0, 1600, 100, 1600])),
                                  [16, 1 / 16, 0, 0])  # fmt: skip


# --- pitch between frames


def test_within_a_note_pitch_moves_evenly_in_the_logarithm_and_holds_beyond_the_ends():
    f0 = np.array([440.0, 450.0, 440.0])
    between = pitch_at(f0, np.array([0, 0.25, 0.5, 1, 1.75, 2]))
    expected = [440, 440**0.75 * 450**0.25, np.sqrt(440 * 450), 450, 440**0.75 * 450**0.25, 440]
    np.testing.assert_allclose(between, expected, rtol=1e-12)
    np.testing.assert_allclose(pitch_at(f0[:2], np.array([-9.0, -0.5, 1.5, 100])), [440, 440, 450, 450], rtol=1e-12)
    np.testing.assert_allclose(pitch_at(f0[:1], np.array([-1.0, 0, 0.7, 3])), 440, rtol=1e-12)
    assert pitch_at(f0, np.zeros(0)).shape == (0,)


def test_between_two_notes_and_between_a_note_and_a_rest_it_steps_in_the_middle():
    at = np.array([0.49, 0.5, 0.51])
    np.testing.assert_allclose(pitch_at(np.array([440.0, 220]), at), [440, 220, 220])
    np.testing.assert_allclose(pitch_at(np.array([440.0, 0]), at), [440, 0, 0])
    np.testing.assert_allclose(pitch_at(np.array([0.0, 440]), at), [0, 440, 440])
    np.testing.assert_array_equal(pitch_at(np.zeros(2), at), 0)


@pytest.mark.parametrize("f0", [np.array([300.0]), np.array([300.0, 0]), np.array([0.0, 300, 0])])
def test_a_rest_at_the_end_holds_as_a_note_does(f0):
    np.testing.assert_allclose(pitch_at(f0, np.array([-3.0, len(f0) + 2])), f0[[0, -1]], rtol=1e-12)


@pytest.mark.parametrize(("cents", "slides"), [(99, True), (-99, True), (101, False), (-101, False)])
def test_pitches_within_a_semitone_are_one_note(cents, slides):
    f0 = 440 * np.array([1, 2 ** (cents / 1200)])
    (quarter,) = pitch_at(f0, np.array([0.25]))
    assert 1200 * np.log2(quarter / 440) == pytest.approx(cents / 4 if slides else 0, abs=1e-9)


# --- places

pitches = st.sampled_from([0.0, 110, 220, 221, 233.08, 440, 446, 880])
all_melodies = st.tuples(st.integers(1, 4), st.integers(1, 7)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=pitches)
)
all_origins = arrays(np.float64, st.integers(1, 4), elements=st.sampled_from([0.0, 20, 110, 330.5, 4000]))


def times_named(plan):
    counts = np.zeros((plan.n_voices, len(plan.target_f0)), int)
    for voices, frames, ratios in plan.parts():
        assert len(voices) == len(frames) > 0
        # A block may hold a frame only once.
        assert len(np.unique(frames)) == len(frames)
        assert ratios.shape == plan.origins.shape
        np.add.at(counts, (voices, frames), 1)
    return counts


@given(all_melodies, all_origins)
def test_every_voice_that_plays_has_one_place_and_one_that_rests_has_none(melodies, origins):
    np.testing.assert_array_equal(times_named(transposition(origins, melodies=melodies)), melodies > 0)


@given(all_melodies, all_origins)
def test_the_ratios_of_a_place_lead_to_its_note(melodies, origins):
    plan = transposition(origins, melodies=melodies)
    for voices, frames, ratios in plan.parts():
        wanted = melodies[voices, frames]
        for own, ratio in zip(origins, ratios, strict=True):
            if own == 0 or not 1 / 16 < np.median(wanted) / own < 16:
                assert ratio == 0
            else:
                # Pitches of one note lie within a semitone; voices in unison may share a median that neither has.
                assert np.abs(semitones(ratio * own / wanted)).max() <= 1
                assert len(np.unique(melodies[melodies > 0])) > 1 or abs(semitones(ratio * own / wanted[0])) < 1e-9
        # The ratios of the grains themselves are exact.
        for voice, frame in zip(voices, frames, strict=True):
            exact = plan.ratios(voice, np.full(len(origins), frame), origins)
            np.testing.assert_allclose(
                exact, ratios_to(np.full(len(origins), melodies[voice, frame]), origins), rtol=1e-12
            )


def test_voices_in_unison_have_places_of_their_own():
    plan = transposition([220.0], melodies=[[440, 440, 0], [440, 0, 0], [0, 330, 0]])
    places = sorted((tuple(v), tuple(f), float(r[0])) for v, f, r in plan.parts())
    assert places == [((0, 0), (0, 1), 2.0), ((1,), (0,), 2.0), ((2,), (1,), 1.5)]


def test_voices_that_take_turns_at_a_note_share_its_place():
    plan = transposition([220.0], melodies=[[440, 440, 0, 0], [0, 0, 440, 440]])
    ((voices, frames, ratios),) = plan.parts()
    assert (voices.tolist(), frames.tolist(), ratios.tolist()) == ([0, 0, 1, 1], [0, 1, 2, 3], [2.0])


def test_every_shift_is_a_voice_that_plays_in_all_frames_whatever_the_pitch():
    plan = transposition([220.0, 0.0], shifts=[-12, 0, 7.5], n_frames=5)
    assert plan.n_voices == 3
    np.testing.assert_array_equal(times_named(plan), 1)
    for (voices, _, ratios), shift in zip(plan.parts(), [-12, 0, 7.5], strict=True):
        np.testing.assert_allclose(semitones(ratios), shift, atol=1e-12)
        np.testing.assert_allclose(semitones(plan.ratios(voices[0], np.arange(3), np.zeros(3))), shift, atol=1e-12)


def test_grains_that_reach_beyond_the_target_go_on_with_the_nearest_note():
    plan = transposition([220.0], melodies=[[440, 0, 330]])
    np.testing.assert_allclose(plan.ratios(0, np.arange(-2, 5), np.full(7, 220.0)), [2, 2, 2, 0, 1.5, 1.5, 1.5])
    # Within the target, a note gives way to a rest, and a rest to a note, half a frame from each.
    at = np.array([0.4, 0.6, 1.4, 1.6])
    np.testing.assert_allclose(plan.ratios(0, at, np.full(4, 220.0)), [2, 0, 0, 1.5])


def test_without_melodies_and_shifts_there_is_nothing_to_play():
    plan = transposition([220.0])
    assert plan.n_voices == 0
    assert list(plan.parts()) == []


@given(all_melodies.filter(np.any), all_origins)
def test_blocks_are_the_places_with_the_dictionary_at_their_ratios(melodies, origins):
    requested = []

    def shifted(ratios):
        requested.append(ratios)
        # Any (Q, B, K) values that differ between ratios will do.
        return np.stack([ratios, ratios**2, ratios + 1], axis=1)

    plan = transposition(origins, melodies=melodies)
    atoms = np.flatnonzero(np.arange(len(origins)) != 1)
    blocks = plan.blocks(shifted, atoms)
    # All ratios are requested at once, and none twice.
    (ratios,) = requested
    assert len(np.unique(ratios, axis=0)) == len(ratios)
    for block, (voices, frames, own) in zip(blocks, plan.parts(), strict=True):
        np.testing.assert_array_equal(block.voices, voices)
        np.testing.assert_array_equal(block.frames, frames)
        np.testing.assert_array_equal(block.W, np.stack([own, own**2, own + 1])[:, atoms])


# --- which way

STEADY = PitchProfile(steady=0.9, one_voice=0.9, in_tune=0.9)


@pytest.mark.parametrize(
    ("target", "source", "way", "why"),
    [
        (STEADY, STEADY, "follow", "the target is one steady voice (90% of what sounds)"),
        (STEADY, replace(STEADY, steady=STEADY_SOURCE - 0.01), "off", "the source has no steady pitch to start from ("),
        (STEADY, replace(STEADY, one_voice=-0.01), "off", "the source sounds several notes at once"),
        # A bell or a detuned voice is no chord.
        (STEADY, replace(STEADY, one_voice=-0.01, in_tune=IN_TUNE - 0.01), "follow", "the target is one steady voice"),
        (replace(STEADY, in_tune=0.0), STEADY, "follow", "the target is one steady voice"),
        (replace(STEADY, one_voice=ONE_VOICE - 0.01), STEADY, "chords", "several notes of the target sound at once"),
        (replace(STEADY, steady=STEADY_MELODY - 0.01), STEADY, "chords", "several notes of the target sound at once"),
        (
            PitchProfile(STEADY_CHORDS, 0.1, IN_TUNE),
            PitchProfile(STEADY_SOURCE, 0, 0),
            "chords",
            "several notes of the target",
        ),
        (
            replace(STEADY, one_voice=ONE_VOICE - 0.01, in_tune=IN_TUNE - 0.01),
            STEADY,
            "off",
            "the target has no steady pitch to follow (90%",
        ),
        (replace(STEADY, steady=STEADY_CHORDS - 0.01), STEADY, "off", "the target has no steady pitch to follow ("),
    ],
)
def test_the_way_depends_on_target_and_source(target, source, way, why):
    got, reason = decide(target, source)
    assert got == way
    assert reason.startswith(why)


def test_the_pitch_profile_of_a_recording_is_weighed_by_power():
    bins, frames = 513, 12
    magnitudes = np.zeros((bins, frames))
    # Half of the frames hold a partial at bin 20, 312.5 Hz; the others, between partials, half that amplitude.
    magnitudes[20, :6], magnitudes[30, 6:] = 2, 1
    f0 = np.full(frames, 20 * SR / 1024)
    voicing = PitchProfile.of(f0, magnitudes, SR, np.ones(frames, bool), in_tune=0.7)
    alone = [
        PitchProfile.of(f0[half], magnitudes[:, half], SR, np.ones(6, bool), 0.7) for half in (slice(6), slice(6, 12))
    ]
    assert alone[0].one_voice == pytest.approx(1)
    assert alone[1].one_voice < 0
    assert voicing.one_voice == pytest.approx((4 * alone[0].one_voice + alone[1].one_voice) / 5)
    assert (voicing.steady, voicing.in_tune) == (1, 0.7)
    assert PitchProfile.of(f0, np.zeros((bins, frames)), SR, np.zeros(frames, bool), 0.0) == PitchProfile(0, 0, 0)


# --- the grains


def tone(hz, seconds=1.0, sr=SR):
    phase = 2 * np.pi * hz * np.arange(round(seconds * sr)) / sr
    return 0.3 * (np.sin(phase) + np.sin(2 * phase) / 2 + np.sin(3 * phase) / 3)


def runs_of(*stretches):
    """`Runs` from triples of row of H, frame and length."""
    rows, frames, lengths = np.array(stretches, np.intp).reshape(-1, 3).T
    return Runs(rows, frames, lengths, np.ones(len(rows)))


def grains_of(runs, plan, dictionary, *, keep_formants=True, tape=False):
    return shifted_grains(runs, plan, dictionary, pad=GRID.n_fft // 2, keep_formants=keep_formants, tape=tape)


def following(dictionary, own_hz, note_hz, n_frames=60):
    own = np.broadcast_to(np.asarray(own_hz, float), dictionary.n_atoms)
    notes = np.broadcast_to(np.asarray(note_hz, float), n_frames)
    fine = fine_track(dictionary, own, given=True)
    return Transposition("follow", "as asked", notes, own, own, fine, own > 0, melodies=notes[None])


def pitch_of(sound, near):
    """The frequency of the spectrum's highest peak within a semitone and a half of `near` Hz."""
    n = len(sound)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(n), 16 * n))
    low, high = (round(near * 2 ** (side / 8) * 16 * n / SR) for side in (-1, 1))
    return (low + spectrum[low:high].argmax()) * SR / (16 * n)


def sounds_of(grains):
    """The sound of each grain between the middles of its first frame and its last."""
    out = []
    for run in np.unique(grains.runs):
        centres = grains.dictionary.centres[grains.runs == run]
        out.append(grains.dictionary.recordings[0][..., centres[0] : centres[-1] + 1])
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_grains_at_their_own_pitch_are_the_source_frames(rng, dtype):
    sources = [rng.standard_normal(9000).astype(dtype), rng.standard_normal(7000).astype(dtype)]
    dictionary = build_dictionary(sources, SR, params=GRID)
    # The grains begin a recording, end one, and lie within one.
    n_first = GRID.n_frames(9000)
    runs = runs_of((0, 3, 8), (n_first - 5, 10, 5), (n_first, 20, 6), (n_first + 4, 30, 1))
    for tape in (False, True):
        grains = grains_of(runs, following(dictionary, 220, 220), dictionary, tape=tape)
        np.testing.assert_array_equal(grains.ratios, 1)
        wanted = [*range(8), *range(n_first - 5, n_first), *range(n_first, n_first + 6), n_first + 4]
        np.testing.assert_array_equal(grains.atoms, wanted)
        np.testing.assert_array_equal(grains.frames, [*range(3, 11), *range(10, 15), *range(20, 26), 30])
        np.testing.assert_array_equal(grains.runs, np.repeat([0, 1, 2, 3], [8, 5, 6, 1]))
        # The same samples in the same windows.
        scale = np.abs(dictionary.spectra).max()
        tolerance = 50 * np.finfo(dtype).eps * scale
        np.testing.assert_allclose(grains.dictionary.spectra, dictionary.spectra[:, grains.atoms], atol=tolerance)
        assert grains.dictionary.spectra.dtype == dictionary.spectra.dtype
        assert grains.dictionary.recordings[0].dtype == dtype


@pytest.mark.parametrize("tape", [False, True])
@pytest.mark.parametrize("note_hz", [110.0, 165.3, 233.1, 415.3, 660.0])
def test_a_grain_has_the_pitch_of_its_note(note_hz, tape):
    dictionary = build_dictionary(tone(220, 2.0), SR, params=GRID)
    grains = grains_of(runs_of((40, 10, 24)), following(dictionary, 220, note_hz), dictionary, tape=tape)
    (sound,) = sounds_of(grains)
    assert abs(1200 * np.log2(pitch_of(sound, note_hz) / note_hz)) < 3
    np.testing.assert_allclose(grains.ratios, note_hz / 220)


def test_a_gliding_grain_is_held_at_its_note():
    # The whistle goes up and down by an octave and a half within four frames, too fast for one pitch a frame.
    t = np.arange(2 * SR) / SR
    hz = 1500 * 2 ** (0.75 * np.sin(2 * np.pi * SR / (4 * GRID.hop) * t))
    source = 0.3 * np.sin(2 * np.pi * np.cumsum(hz) / SR)
    dictionary = build_dictionary(source, SR, params=GRID)
    plan = following(dictionary, 1500, 2000)
    coarse, fine = hz[:: GRID.hop], hz[:: GRID.hop // FINENESS]

    def strays(glides):
        tracked = replace(plan, source_f0=coarse, origins=coarse, glides=glides)
        (sound,) = sounds_of(grains_of(runs_of((20, 10, 24)), tracked, dictionary))
        power = np.square(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))))
        at = np.fft.rfftfreq(len(sound), 1 / SR)
        return 1 - power[np.abs(1200 * np.log2(np.maximum(at, 1) / 2000)) < 100].sum() / power.sum()

    n = dictionary.n_atoms * FINENESS
    held = strays(np.pad(fine, (0, n - len(fine)), mode="edge"))
    assert held < 0.05
    assert strays(pitch_at(coarse, np.arange(n) / FINENESS)) > 4 * held


def test_a_grain_follows_the_notes_of_its_own_frames():
    dictionary = build_dictionary(tone(220, 2.0), SR, params=GRID)
    notes = np.where(np.arange(60) < 25, 330.0, 262.0)
    grains = grains_of(runs_of((10, 10, 30)), following(dictionary, 220, notes), dictionary)
    (sound,) = sounds_of(grains)
    for part, hz in ((sound[: 13 * 256], 330), (sound[17 * 256 :], 262)):
        assert abs(1200 * np.log2(pitch_of(part, hz) / hz)) < 5


def test_each_voice_has_its_own_melody():
    dictionary = build_dictionary(tone(220, 1.0), SR, params=GRID)
    own = np.full(dictionary.n_atoms, 220.0)
    melodies = np.array([[262.0], [330.0], [392.0]]).repeat(40, axis=1)
    plan = transposition(own, melodies=melodies)
    grains = grains_of(runs_of(*((v * dictionary.n_atoms + 10, 5, 20) for v in range(3))), plan, dictionary)
    for sound, hz in zip(sounds_of(grains), melodies[:, 0], strict=True):
        assert abs(1200 * np.log2(pitch_of(sound, hz) / hz)) < 3
    np.testing.assert_array_equal(grains.atoms, np.tile(np.arange(10, 30), 3))


def test_a_grain_is_never_read_by_the_pitch_of_another_recording(monkeypatch):
    dictionary = build_dictionary([tone(220, 0.5), tone(110, 0.5)], SR, params=GRID)
    n_first = GRID.n_frames(SR // 2)
    own = np.where(dictionary.recording_ids == 0, 220.0, 110.0)
    seen = []

    def spy(samples, sr, *, begin, length, ratios, f0, hop, keep_formants):
        seen.append((f0, ratios, samples is dictionary.recordings[0], begin))
        return np.zeros(length)

    monkeypatch.setattr("smalti.dsp.pitch_shift.shift_grain", spy)
    grains_of(runs_of((n_first - 3, 5, 3), (n_first, 20, 3)), following(dictionary, own, 330), dictionary)
    (before, after) = seen
    np.testing.assert_allclose(before[0], 220)
    np.testing.assert_allclose(after[0], 110)
    np.testing.assert_allclose(before[1], 1.5)
    np.testing.assert_allclose(after[1], 3)
    assert (before[2], after[2]) == (True, False)
    # Reading begins half a window before the middle of the first frame, in the second recording before its start.
    assert (before[3], after[3]) == ((n_first - 3) * 256 - 512, -512)


@pytest.mark.parametrize("tape", [False, True])
def test_shifting_keeps_the_channels_of_each_recording(tape):
    left = tone(220, 1.0)
    stereo, mono, three = np.stack([left, 0.25 * left]), tone(330, 1.0), np.stack([left, 0 * left, -0.5 * left])
    dictionary = build_dictionary([stereo, mono, three], SR, params=GRID)
    n = GRID.n_frames(SR)
    plan = following(dictionary, np.where(dictionary.recording_ids == 1, 330.0, 220.0), 262)
    grains = grains_of(runs_of((10, 5, 10), (n + 10, 5, 10), (2 * n + 10, 5, 10)), plan, dictionary, tape=tape)
    assert grains.dictionary.n_channels == 3
    of_stereo, of_mono, of_three = sounds_of(grains)
    tolerance = 1e-9
    assert np.abs(of_stereo[0]).max() > 0.1
    np.testing.assert_allclose(
        of_stereo, np.stack([of_stereo[0], 0.25 * of_stereo[0], 0 * of_stereo[0]]), atol=tolerance
    )
    np.testing.assert_array_equal(of_mono[1:], of_mono[:2])
    np.testing.assert_allclose(of_three, np.stack([of_three[0], 0 * of_three[0], -0.5 * of_three[0]]), atol=tolerance)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.6])
def test_a_tape_changes_speed_around_the_middle_of_the_grain(ratio):
    source = np.zeros(SR)
    middle = 30 * 256
    # The outer clicks move apart or together.
    source[[middle - 800, middle, middle + 800]] = 1
    dictionary = build_dictionary(source, SR, params=GRID)
    plan = following(dictionary, 220, 220 * ratio)
    grains = grains_of(runs_of((20, 5, 21)), plan, dictionary, tape=True)
    (sound,) = sounds_of(grains)
    loud = np.flatnonzero(np.abs(sound) > 0.3 * np.abs(sound).max())
    # Clicks are a few samples wide.
    groups = [group.mean() for group in np.split(loud, np.flatnonzero(np.diff(loud) > 50) + 1)]
    np.testing.assert_allclose(np.array(groups) - 10 * 256, np.array([-800, 0, 800]) / ratio, atol=3)


def test_a_grain_mostly_without_pitch_or_note_sounds_as_recorded(rng):
    dictionary = build_dictionary(rng.standard_normal(SR), SR, params=GRID)
    own = np.zeros(dictionary.n_atoms)
    own[20:24] = 220
    # Only four of the nine frames have a pitch, or a note.
    for plan in (following(dictionary, own, 330), following(dictionary, 220, np.where(np.arange(60) < 9, 330.0, 0))):
        grains = grains_of(runs_of((18, 5, 9)), plan, dictionary)
        np.testing.assert_array_equal(grains.ratios, 1)
        np.testing.assert_allclose(grains.dictionary.spectra, dictionary.spectra[:, 18:27], atol=1e-10)


def test_a_consonant_takes_the_shift_of_the_vowels_around_it():
    dictionary = build_dictionary(tone(220), SR, params=GRID)
    own = np.full(dictionary.n_atoms, 220.0)
    own[22:25] = 0
    notes = np.where(np.arange(60) < 9, 330.0, 440.0)
    grains = grains_of(runs_of((18, 5, 10)), following(dictionary, own, notes), dictionary)
    # Atoms 18 to 21 sound in frames 5 to 8 at 330 Hz. Three atoms without pitch follow, then those at 440 Hz. The ratio
    # changes in the middle of the gap.
    np.testing.assert_allclose(grains.ratios, [1.5] * 5 + [2] * 5)


@pytest.mark.parametrize(
    ("n_fft", "hop", "expected"),
    [
        (4096, 512, 2560),
        (1024, 256, 1024),
        (2560, 512, 2560),
        (2**14, 512, 2560),
        (2**14, 4096, 2**14),
        (4096, 900, 3600),
    ],
)
def test_windows_of_shifted_grains_are_short_but_overlap_enough(n_fft, hop, expected):
    params = grain_params(StftParams(n_fft, hop, "hamming"), 22050)
    assert params == StftParams(expected, hop, "hamming")
    assert round(LONGEST_WINDOW_S * 22050) == 2560


def test_grains_are_added_up_in_short_windows_on_the_grid_of_their_source():
    long = StftParams(4096, 256)
    dictionary = build_dictionary(tone(220, 1.0), SR, params=long)
    grains = shifted_grains(
        runs_of((20, 5, 9)), following(dictionary, 220, 220), dictionary, pad=2048, keep_formants=True, tape=False
    )
    short = grains.dictionary.params
    assert (short.hop, short.n_fft) == (256, 2 * round(LONGEST_WINDOW_S * SR / 2))
    # The spectra are those of a dictionary built with the short windows.
    wanted = build_dictionary(tone(220, 1.0), SR, params=short).spectra[:, 20:29]
    np.testing.assert_allclose(grains.dictionary.spectra, wanted, atol=1e-10)


def test_no_grains_give_silence():
    dictionary = build_dictionary(np.stack([tone(220), tone(330)]), SR, params=GRID)
    grains = grains_of(runs_of(), following(dictionary, 220, 330), dictionary)
    assert grains.dictionary.n_atoms == len(grains.atoms) == len(grains.frames) == len(grains.ratios) == 0
    assert grains.dictionary.spectra.shape == (GRID.n_bins, 0)
    assert grains.dictionary.n_channels == 2
    assert not grains.dictionary.recordings[0].any()
    empty = scipy.sparse.csc_array((0, 5))
    assert grains.in_source(empty, 7).shape == (7, 5)


def test_a_grain_does_not_depend_on_the_others():
    dictionary = build_dictionary(tone(220, 1.0), SR, params=GRID)
    plan = following(dictionary, 220, 330)
    alone = [grains_of(runs_of(run), plan, dictionary) for run in ((3, 5, 8), (30, 9, 12))]
    both = grains_of(runs_of((3, 5, 8), (30, 9, 12)), plan, dictionary)
    wanted = np.concatenate([grains.dictionary.spectra for grains in alone], axis=1)
    np.testing.assert_allclose(both.dictionary.spectra, wanted, atol=1e-10)


def test_gains_of_grains_become_gains_of_their_source_frames():
    dictionary = build_dictionary(tone(220, 1.0), SR, params=GRID)
    # Two grains share source frames 6 and 7, once in the same target frame.
    plan = transposition(np.full(dictionary.n_atoms, 220.0), melodies=np.array([[262.0], [330.0]]).repeat(9, axis=1))
    grains = grains_of(runs_of((4, 1, 4), (dictionary.n_atoms + 6, 3, 3)), plan, dictionary)
    gains = np.zeros((7, 9), np.float32)
    gains[np.arange(7), grains.frames] = [1, 2, 3, 4, 10, 20, 30]
    out = grains.in_source(scipy.sparse.csc_array(gains), dictionary.n_atoms)
    assert (out.shape, out.dtype) == ((dictionary.n_atoms, 9), np.float32)
    expected = np.zeros(out.shape)
    for atom, frame, gain in [(4, 1, 1), (5, 2, 2), (6, 3, 3), (7, 4, 4), (6, 3, 10), (7, 4, 20), (8, 5, 30)]:
        expected[atom, frame] += gain
    np.testing.assert_array_equal(out.toarray(), expected)
