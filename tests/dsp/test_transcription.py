"""From mixtures to melodies: tuning of chords detuned by known cents, notes by hand, voices by their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smalti.dsp.transcription import (
    NOTE_GAP,
    NOTE_UNDER_FRAME_DB,
    SHORTEST,
    Note,
    as_melodies,
    sounding_notes,
    spectral_tuning,
)
from strategies import DTYPES, level

SR = 16000
# The amplitude that is just masked.
MASKED = 10 ** (-NOTE_UNDER_FRAME_DB / 20)


def chord(notes, cents=0.0, *, a_hz=440.0, partials=(1, 2, 4), seconds=2.0, sr=SR):
    """Notes in semitones from A. Their partials are octaves of one another, so all lie in equal temperament."""
    t = np.arange(round(seconds * sr)) / sr
    hz = [k * a_hz * 2 ** ((note + cents / 100) / 12) for note in notes for k in partials]
    return sum(np.sin(2 * np.pi * partial * t + partial) for partial in hz) / len(hz)


# --- tuning


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cents", [0, 7, -12, 31, -44, 49])
@pytest.mark.parametrize("notes", [(0,), (-9, -5, -2), (-12, -7, -3, 0, 4)])
def test_the_tuning_of_a_chord_is_found_to_two_cents(notes, cents, dtype):
    found, concentration = spectral_tuning(chord(notes, cents).astype(dtype), SR)
    assert found == pytest.approx(cents, abs=2)
    assert 0.98 < concentration <= 1


def test_fifty_one_cents_above_a_note_are_forty_nine_below_the_next():
    assert spectral_tuning(chord((-9, -5, -2), 51), SR)[0] == pytest.approx(-49, abs=2)


def test_all_partials_of_a_harmonic_tone_are_nearly_in_tune():
    found, concentration = spectral_tuning(chord((-9, -5), 20, partials=(1, 2, 3, 4, 6)), SR)
    # A third partial lies 2 cents above the temperament.
    assert found == pytest.approx(21, abs=2)
    assert concentration > 0.95


def test_noise_and_speech_have_no_tuning_and_silence_has_none(rng):
    assert spectral_tuning(rng.standard_normal(4 * SR), SR)[1] < 0.05
    glide = np.sin(2 * np.pi * np.cumsum(np.geomspace(200, 800, 2 * SR)) / SR)
    assert spectral_tuning(glide, SR)[1] < 0.15
    assert spectral_tuning(np.zeros(SR), SR) == (0, 0)
    assert spectral_tuning(np.zeros(1), SR) == (0, 0)


def test_notes_that_lie_a_quarter_tone_apart_have_no_tuning():
    both = chord((0,), 25, partials=(1,)) + chord((5,), -25, partials=(1,))
    # They point to opposite sides of the circle.
    assert spectral_tuning(both, SR)[1] < 0.1


@pytest.mark.parametrize("gain", [1e-6, 1.0, 1e3])
def test_the_tuning_does_not_depend_on_the_level(gain):
    sound = chord((-9, -5, -2), 13)
    assert spectral_tuning(gain * sound, SR) == pytest.approx(spectral_tuning(sound, SR), rel=1e-6)


def test_a_long_recording_is_read_in_stretches_that_all_count(monkeypatch):
    monkeypatch.setattr("smalti.dsp.transcription._TUNING_BLOCK_S", 1)
    sound = np.concatenate([chord((0,), 10, seconds=1.0), chord((0,), 30, seconds=2.0), np.zeros(SR // 3)])
    found, concentration = spectral_tuning(sound, SR)
    # A second at 10 cents, two at 30.
    assert found == pytest.approx(70 / 3, abs=1.5)
    assert concentration == pytest.approx(1, abs=0.2)


# --- notes


def loudness(n_pitches, n_frames, **stretches):
    """(S, N) of 1 in the stretches given as pitch=(start, end)."""
    out = np.zeros((n_pitches, n_frames))
    for pitch, (start, end) in stretches.items():
        out[int(pitch[1:]), start:end] = 1
    return out


def spans(notes):
    return [(note.pitch, note.start, note.end) for note in notes]


def test_a_note_lasts_while_it_is_loud_and_a_frame_more_to_either_side():
    (note,) = sounding_notes(loudness(3, 20, p1=(5, 9)), most=3)
    assert (note.pitch, note.start, note.end) == (1, 4, 10)
    # A mean of three: a third, two, three, three, two, a third.
    assert note.energy == pytest.approx((1 + 4 + 9 + 9 + 4 + 1) / 9)


def test_at_the_ends_of_the_sound_a_note_ends():
    assert spans(sounding_notes(loudness(1, 6, p0=(0, 6)), most=1)) == [(0, 0, 6)]


@pytest.mark.parametrize(("pause", "is_one"), [(1, True), (NOTE_GAP + 2, True), (NOTE_GAP + 3, False)])
def test_short_pauses_belong_to_the_note(pause, is_one):
    both = np.zeros((1, 30))
    both[0, 5:10] = both[0, 10 + pause : 15 + pause] = 1
    # The mean bridges the frame at either end of a pause, and the rule the others.
    notes = sounding_notes(both, most=1)
    assert spans(notes) == ([(0, 4, 16 + pause)] if is_one else [(0, 4, 11), (0, 9 + pause, 16 + pause)])


def test_notes_that_are_too_short_are_left_out():
    both = loudness(2, SHORTEST + 9, p0=(0, SHORTEST + 9))
    # In the mean of three the frame at either end has two thirds, which is heard, and the frame beyond it a third.
    both[1, 4 : 3 + SHORTEST] = 2.5 * MASKED
    assert spans(sounding_notes(both, most=2)) == [(0, 0, SHORTEST + 9)]
    both[1, 4 : 4 + SHORTEST] = 2.5 * MASKED
    assert spans(sounding_notes(both, most=2)) == [(0, 0, SHORTEST + 9), (1, 4, 4 + SHORTEST)]


def test_notes_far_under_the_loudest_of_their_moment_are_masked():
    steady = np.ones((3, 10)) * np.array([[1.0], [1.1 * MASKED], [0.9 * MASKED]])
    assert spans(sounding_notes(steady, most=3)) == [(0, 0, 10), (1, 0, 10)]
    # Where nothing louder sounds it is a note.
    steady[:2, 5:] = 0
    assert (2, 4, 10) in spans(sounding_notes(steady, most=3))


def test_notes_fifty_decibels_under_the_loudest_of_all_are_not_heard():
    steady = np.zeros((2, 20))
    steady[0, :8], steady[1, 12:] = 1, 10 ** (-48 / 20)
    # A third and two thirds of that are too quiet.
    assert spans(sounding_notes(steady, most=2)) == [(0, 0, 9), (1, 13, 20)]
    steady[1, 12:] = 10 ** (-52 / 20)
    assert spans(sounding_notes(steady, most=2)) == [(0, 0, 9)]


@given(arrays(np.float64, (6, 12), elements=level | st.floats(0.1, 1)), st.integers(1, 6))
def test_no_more_than_the_most_sound_at_once_unless_they_are_equally_loud(loud, most):
    notes = sounding_notes(loud, most=most)
    padded = np.pad(loud, ((0, 0), (1, 1)), mode="edge")
    smooth = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    for frame in range(12):
        sounding = [note.pitch for note in notes if note.start <= frame < note.end]
        # A pause is bridged whatever else sounds in it.
        louder = [p for p in sounding if (smooth[:, frame] > smooth[p, frame] * (1 + 1e-12)).sum() < most]
        bridged = [p for p in sounding if p not in louder]
        for pitch in bridged:
            near = smooth[:, max(0, frame - NOTE_GAP) : frame + NOTE_GAP + 1]
            assert ((near > near[pitch] * (1 + 1e-12)).sum(axis=0) < most).any()
    assert [note.energy for note in notes] == sorted((note.energy for note in notes), reverse=True)
    assert all(note.end - note.start >= SHORTEST for note in notes)


@given(arrays(np.float64, (4, 9), elements=level), st.sampled_from([2.0**-20, 2.0**20]))
def test_notes_do_not_depend_on_the_level(loud, gain):
    assert spans(sounding_notes(gain * loud, most=2)) == spans(sounding_notes(loud, most=2))


def test_silence_has_no_notes():
    assert sounding_notes(np.zeros((3, 5)), most=2) == []
    assert sounding_notes(np.zeros((3, 0)), most=2) == []
    assert sounding_notes(np.zeros((0, 5)), most=2) == []


@pytest.mark.parametrize("most", [0, 1.5])
def test_fewer_than_one_note_at_once_is_refused(most):
    with pytest.raises((ValueError, TypeError), match="most is"):
        sounding_notes(np.ones((2, 5)), most=most)


# --- voices

notes = st.lists(
    st.builds(
        lambda pitch, start, length, energy: Note(pitch, start, min(start + length, 12), energy),
        st.integers(0, 4),
        st.integers(0, 11),
        st.integers(1, 8),
        st.floats(0, 10),
    ),
    max_size=8,
)
PITCHES = np.array([100.0, 200, 300, 400, 500])


@given(notes, st.integers(1, 4))
def test_every_note_sounds_whole_in_one_voice_or_not_at_all_and_none_over_another(chosen, voices):
    melodies = as_melodies(chosen, PITCHES, voices=voices, n_frames=12)
    assert (melodies.shape, melodies.dtype) == ((voices, 12), np.float64)
    free = np.ones((voices, 12), bool)
    for note in chosen:
        # It gets the first voice that no stronger note has taken.
        room = [v for v in range(voices) if free[v, note.start : note.end].all()]
        if room:
            assert (melodies[room[0], note.start : note.end] == PITCHES[note.pitch]).all()
            free[room[0], note.start : note.end] = False
    assert (melodies[free] == 0).all()


def test_the_strongest_notes_come_first_and_those_without_a_voice_are_left_out():
    strongest = [Note(0, 0, 6, 9.0), Note(1, 3, 8, 5.0), Note(2, 4, 6, 1.0), Note(3, 6, 9, 0.5)]
    melodies = as_melodies(strongest, PITCHES, voices=2, n_frames=10)
    np.testing.assert_array_equal(melodies[0], [100] * 6 + [400] * 3 + [0])
    np.testing.assert_array_equal(melodies[1], [0] * 3 + [200] * 5 + [0] * 2)
    assert not as_melodies([], PITCHES, voices=2, n_frames=3).any()
    with pytest.raises(ValueError, match="voices is 0"):
        as_melodies([], PITCHES, voices=0, n_frames=3)
