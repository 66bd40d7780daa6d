"""Mosaics at the target's pitch, end to end: spectra show that the written or tracked notes sound."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kit_transpose import (
    CHORD,
    FOLLOW,
    GRID,
    LENGTH,
    MELODY,
    SOURCE,
    SOURCE_F0,
    SOURCE_HZ,
    SR,
    TARGET,
    assert_plays,
    level_db,
    made,
    peak_cents,
    steps_of,
    sung,
    tone,
    written,
)

from helpers import prepared
from smalti import PRESETS, StftParams, build_dictionary
from smalti.dsp.pitch import FINENESS, clear, harmonicity
from smalti.grains.shifted import frames_of, grain_params
from smalti.mosaicing.compare import ShiftedComparison, compared
from smalti.mosaicing.solve import solver_of
from smalti.mosaicing.transpose import fine_track, without_rests

# Settings without shaping of the finished sound.
BARE = replace(FOLLOW, colour=0, attacks=0)


@pytest.mark.parametrize("tape", [False, True])
@pytest.mark.parametrize("keep_formants", [False, True])
def test_given_notes_sound(tape, keep_formants):
    m = sung(tape=tape, keep_formants=keep_formants)
    assert m.transposition.way == "follow"
    assert_plays(m.audio, 330, 262, 392)


def test_tracked_notes_sound():
    m = made(source_f0=None)
    assert m.transposition.way == "follow"
    assert_plays(m.audio, 330, 262, 392)


def test_a_melody_may_differ_from_the_target_s():
    m = made(target_f0=written(steps_of(294, 349, 294)))
    assert m.transposition.reason == "its notes are given"
    # The target's spectra have other notes, so short grains with different phases alternate.
    assert_plays(m.audio, 294, 349, 294, within=25)


def test_a_glide_is_followed():
    hz = np.geomspace(260, 390, LENGTH)
    audio, half = sung(hz).audio, round(0.045 * SR)
    off = [peak_cents(audio[at - half : at + half], hz[at]) for at in range(2 * half, LENGTH - 2 * half, half)]
    # In a window of 90 ms the glide moves by half a semitone.
    assert np.median(np.abs(off)) < 10
    assert np.max(np.abs(off)) < 40


def test_vibrato_is_followed():
    t = np.arange(LENGTH) / SR
    hz = 330 * 2 ** (40 / 1200 * np.sin(2 * np.pi * 4.5 * t))
    audio, half = sung(hz).audio, round(0.03 * SR)
    at = np.arange(2 * half, LENGTH - 2 * half, half // 4)
    got = np.array([peak_cents(audio[n - half : n + half], 330) for n in at])
    wanted = 1200 * np.log2(hz[at] / 330)
    assert np.corrcoef(got, wanted)[0, 1] > 0.9
    # Windows of 60 ms, a quarter of its period, flatten the vibrato.
    assert 0.6 < np.polyfit(wanted, got, 1)[0] < 1.1


@pytest.mark.parametrize("cents", [-35.0, 50.0])
def test_a_mosaic_may_be_tuned(cents):
    assert_plays(sung(tune_cents=cents).audio, 330, 262, 392, off=cents)


@pytest.mark.parametrize("tape", [False, True])
def test_a_tape_changes_the_time_inside_a_grain_and_the_shifter_does_not(tape):
    # A tape at twice the speed turns the source's tremolo of 8 Hz into one of 16 Hz.
    t = np.arange(2 * SR) / SR
    source = tone(220, seconds=2.0) * (1 + 0.8 * np.sin(2 * np.pi * 8 * t))
    hz = np.full(LENGTH, 440.0)
    m = made(tone(hz, (1, 0.3)), source, target_f0=written(hz), source_f0=written(220, len(source)), tape=tape)
    (grains,) = {part.grains for part in m.parts}
    sound = grains.dictionary.recordings[0]
    in_longest = grains.runs == np.bincount(grains.runs).argmax()
    centres = grains.dictionary.centres[in_longest]
    power = np.abs(np.fft.rfft(np.square(sound[centres[0] : centres[-1]]), 8 * SR))
    at_8, at_16 = (power[8 * hz - 8 : 8 * hz + 9].max() for hz in (8, 16))
    assert (at_16 > at_8) == tape


@pytest.mark.parametrize("phase", ["source", "target", "griffin-lim"])
def test_a_melody_is_followed_with_every_phase(phase):
    # With the source's own phase, overlapping grains may cancel.
    assert_plays(sung(phase=phase).audio, 330, 262, 392, within=25 if phase == "source" else 10)


def test_keep_formants_keeps_the_envelope_and_otherwise_partials_keep_their_levels():
    # The partials of 220 Hz fall by 20 dB above 880 Hz, the second partial of 440 Hz.
    partials = (1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)
    source, hz = tone(220, partials, seconds=1.0), np.full(LENGTH, 440.0)
    kept, moved = (sung(hz, source=source, preset=BARE, keep_formants=keep).audio[2000:-2000] for keep in (True, False))
    for number, at_220 in ((1, 1.0), (2, 1.0), (3, 0.1), (4, 0.1)):
        assert level_db(kept, 440 * number) == pytest.approx(20 * np.log10(at_220), abs=3)
        assert level_db(moved, 440 * number) == pytest.approx(0, abs=3)


def energies(part):
    """The energy of each frame of the grains, summed over time."""
    norms = part.dictionary.norms[:, None]
    return np.asarray(part.activations.multiply(norms).power(2).sum(axis=1)).ravel()


def test_a_stretch_of_the_target_without_pitch_sounds_at_the_nearest_note(rng):
    third = LENGTH // 3
    noise = 0.1 * rng.standard_normal(third)
    target = np.concatenate([tone(330, (1, 0.3))[:third], noise, tone(262, (1, 0.3))[2 * third - LENGTH :]])
    source = np.concatenate([SOURCE, 0.1 * rng.standard_normal(SR)])
    source_f0 = written(np.repeat([SOURCE_HZ, 0.0], [len(SOURCE), SR]), len(source))
    f0 = written(np.repeat([330.0, 0.0, 262.0], [third, third, LENGTH - 2 * third]))
    m = made(target, source, target_f0=f0, source_f0=source_f0)
    (part,) = m.parts
    loud, at = energies(part), part.grains.frames
    # The first third of the gap belongs to the note before, and the rest to the next note.
    turn = np.flatnonzero(f0 == 0)[0] + np.ceil(np.count_nonzero(f0 == 0) / 3)
    np.testing.assert_array_equal(m.transposition.melodies, [np.where(np.arange(len(f0)) < turn, 330.0, 262.0)])
    np.testing.assert_array_equal(m.transposition.target_f0, f0)
    for when, hz in ((at < turn - 1, 330), (at >= turn, 262)):
        assert loud[when].sum() > 0
        assert loud[when & (np.abs(part.grains.ratios * SOURCE_HZ / hz - 1) < 1e-9)].sum() > 0.999 * loud[when].sum()
    # The gap sounds, too, but only with notes of the source, since its noise has no pitch to start from.
    assert loud[np.abs(at - (1.5 * third) / GRID.hop) < 0.3 * third / GRID.hop].sum() > 0
    assert part.grains.atoms[loud > 0].max() * GRID.hop < len(SOURCE) + SR // 4 + GRID.hop


def test_if_all_voices_rest_the_first_holds_the_nearest_note():
    def rests(*melodies):
        return without_rests(np.array(melodies, float)).tolist()

    # A third of a gap of any length, rounded up, belongs to the note before.
    assert rests([0, 0, 440, 0, 0, 0, 0, 330, 0]) == [[440, 440, 440, 440, 440, 330, 330, 330, 330]]
    assert rests([440, *[0] * 300]) == [[440.0] * 301]
    # A voice rests while another plays. The first voice then holds the last note of any voice.
    assert rests([440, 0, 0, 0], [0, 330, 0, 0]) == [[440, 0, 330, 330], [0, 330, 0, 0]]
    # If several voices end or begin at once, the note is that of the first of them.
    assert rests([0, 0, 0], [220, 0, 0], [110, 0, 0]) == [[0, 220, 220], [220, 0, 0], [110, 0, 0]]
    assert rests([0, 0, 262], [0, 330, 0]) == [[330, 0, 262], [0, 330, 0]]
    assert rests([0, 0], [0, 0]) == [[0, 0], [0, 0]]


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 9)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 0, 0, 220, 330, 440]))
    )
)
def test_without_rests_a_note_sounds_at_any_time_and_given_notes_stay(melodies):
    before = melodies.copy()
    out = without_rests(melodies)
    np.testing.assert_array_equal(melodies, before)
    playing = (melodies > 0).any(axis=0)
    np.testing.assert_array_equal(out[:, playing], melodies[:, playing])
    np.testing.assert_array_equal(out[1:], melodies[1:])
    assert (out > 0).any(axis=0).all() == playing.any()
    for frame in np.flatnonzero(~playing):
        # The note is one next to the gap.
        sides = [np.flatnonzero(playing[:frame])[-1:], frame + 1 + np.flatnonzero(playing[frame + 1 :])[:1]]
        near = [melodies[melodies[:, n] > 0, n][0] for side in sides for n in side]
        assert out[0, frame] in (near or [0])


def test_a_given_pitch_is_interpolated_within_each_recording():
    dictionary = build_dictionary([SOURCE[: GRID.hop], SOURCE[: 2 * GRID.hop]], SR, params=GRID)
    assert dictionary.n_atoms == 5
    fine = fine_track(dictionary, np.array([440.0, 450, 220, 0, 330]), given=True)
    up = 440 * (450 / 440) ** (np.arange(FINENESS) / FINENESS)
    half = [FINENESS // 2, FINENESS - FINENESS // 2]
    rest = np.repeat([220.0, 0, 0, 330], [*half, *half])
    np.testing.assert_allclose(fine, [*up, *[450] * FINENESS, *rest, *[330] * FINENESS], rtol=1e-12)


def test_a_tracked_pitch_follows_glides_between_frames_in_each_recording():
    # The first recording rises by an octave in a fifth of a second, and the second falls.
    t = np.arange(SR // 5) / SR
    up, params = 1200 * 2 ** (5 * t), StftParams(1024, 256)
    chirps = [np.sin(2 * np.pi * np.cumsum(hz) / SR) for hz in (up, up[::-1])]
    dictionary = build_dictionary(chirps, SR, params=params)
    at = np.minimum(np.arange(params.n_frames(len(t)) * FINENESS) * params.hop // FINENESS, len(t) - 1)
    coarse = np.concatenate([hz[at[::FINENESS]] for hz in (up, up[::-1])])
    fine = fine_track(dictionary, coarse, given=False).reshape(2, -1)
    for track, hz in zip(fine, (up, up[::-1]), strict=True):
        off = 1200 * np.abs(np.log2(track / hz[at]))[FINENESS : -2 * FINENESS]
        assert np.median(off) < 15
    # Low notes are interpolated from the track.
    low = np.linspace(300, 330, dictionary.n_atoms)
    straight = fine_track(dictionary, low, given=True)
    np.testing.assert_allclose(fine_track(dictionary, low, given=False), straight, rtol=1e-9)


def test_only_frames_of_clear_pitch_are_shifted_and_no_grain_runs_over_others(rng):
    # A breath of a fifth of a second interrupts a note, and the given pitch goes on through it.
    source = SOURCE.copy()
    breath = slice(round(0.4 * SR), round(0.6 * SR))
    source[breath] = 0.1 * rng.standard_normal(breath.stop - breath.start)
    settings = replace(FOLLOW, iterations=6, quietest_db=0.0)
    job = prepared(TARGET, source, SR, settings, target_f0=written(MELODY), source_f0=SOURCE_F0)
    usable, origins = job.transposition.usable, job.transposition.origins
    np.testing.assert_array_equal(usable, clear(harmonicity(job.dictionary.magnitudes, origins, SR), origins > 0))
    centres = job.dictionary.centres
    assert not usable[(centres > breath.start + SR // 20) & (centres < breath.stop - SR // 20)].any()
    assert usable[(centres > SR // 20) & (centres < breath.start - SR // 20)].all()
    steps = list(solver_of(job).steps())
    # Until grains are chosen, only frames that can be shifted have rows. Grains then have rows of their own.
    assert [len(step.H) for step in steps[: settings.iterations]] == [np.count_nonzero(usable)] * settings.iterations
    atoms, runs = steps[-1].grains.atoms, steps[-1].grains.runs
    assert usable[atoms].all()
    for run in np.unique(runs):
        assert (np.diff(atoms[runs == run]) == 1).all()


def test_a_range_shifts_all_frames_that_sound_with_and_without_pitch(rng):
    source = np.concatenate([SOURCE[: SR // 2], np.zeros(SR), 0.1 * rng.standard_normal(SR // 2)])
    track = written(np.repeat([SOURCE_HZ, 0.0], [SR // 2, 3 * SR // 2]), len(source))
    job = prepared(TARGET, source, SR, replace(FOLLOW, transpose=(0, 2)), source_f0=track)
    np.testing.assert_array_equal(job.transposition.usable, job.dictionary.sounding(FOLLOW.quietest_db))
    assert not job.transposition.usable.all()
    assert not len(job.transposition.melodies)


@pytest.mark.parametrize("compare", ["views", "bins", "bands"])
def test_the_comparison_is_with_the_source_at_each_ratio_and_with_grains_on_the_job_s_grid(compare):
    # The windows are longer than those that shifted grains are added up in.
    params = StftParams(4096, 512)
    settings = replace(FOLLOW, compare=compare)
    f0 = np.full(params.n_frames(len(SOURCE)), SOURCE_HZ)
    job = prepared(TARGET, SOURCE, SR, settings, params=params, target_f0=np.full(params.n_frames(LENGTH), 330.0),
                  source_f0=f0)  # fmt: skip
    comparison = ShiftedComparison.of(job, f0)
    ratios = np.stack([np.ones(len(f0)), np.full(len(f0), 1.5), np.zeros(len(f0))])
    ratios[1, 0] = 0
    same, up, none = comparison.at(ratios)
    assert same.shape == (len(comparison.V), len(f0))
    assert comparison.V.shape[1] == params.n_frames(LENGTH)
    assert not none.any()
    assert not up[:, 0].any()
    assert up[:, 1:].any(axis=0).all()
    V, W = compared(job)
    if compare == "views":
        # Views have the gains of the target's views.
        np.testing.assert_allclose(comparison.V, V, rtol=1e-9)
    middle = slice(6, -6)
    assert np.linalg.norm(same[:, middle] - W[:, middle]) < 0.01 * np.linalg.norm(W[:, middle])
    # The same frames, as grains at their own pitch, compare like the source.
    short = grain_params(params, SR)
    assert short.n_fft < params.n_fft
    grains = frames_of(job.dictionary.recordings[0], job.dictionary.centres, short, SR)
    np.testing.assert_allclose(comparison.of_grains(grains), W, rtol=1e-6, atol=1e-6 * W.max())


# --- chords


def test_each_given_note_of_a_chord_sounds():
    target = sum(tone(hz, (1, 0.3)) for hz in CHORD)
    m = made(target, target_f0=np.stack([written(hz) for hz in CHORD]))
    assert m.transposition.way == "chords"
    middle = m.audio[SR // 5 : -SR // 5]
    for hz in CHORD:
        assert abs(peak_cents(middle, hz, within=90)) < 10
        assert level_db(middle, hz, 10) > -12
    # Nothing sounds between the notes.
    for hz in (294, 360):
        assert level_db(middle, hz, 5) < -25


def test_chords_are_given_as_voices_and_a_voice_may_rest():
    target = np.concatenate([tone(262) + tone(330), tone(392)])
    rest = written(np.repeat([330.0, 0], LENGTH), 2 * LENGTH)
    m = made(target, target_f0=np.stack([written(np.repeat([262.0, 392], LENGTH), 2 * LENGTH), rest]))
    first, second = m.audio[SR // 5 : LENGTH - SR // 5], m.audio[LENGTH + SR // 5 : -SR // 5]
    for part, hz in ((first, 262), (first, 330), (second, 392)):
        assert abs(peak_cents(part, hz, within=90)) < 10
        assert level_db(part, hz, 10) > -12
    assert level_db(second, 330, 10) < -25


@pytest.mark.parametrize("transpose", ["auto", "chords"])
def test_chords_of_the_target_are_transcribed_and_played(transpose):
    # A minor chord and an inverted major one: notes at 4, 5 and 6 times a frequency would have that as their pitch.
    chords = (220.0, 261.6, 329.6), (196.0, 246.9, 293.7)
    target = np.concatenate([sum(tone(hz, (1, 0.5, 0.3)) for hz in chord) for chord in chords])
    m = made(target, preset="melodic", transpose=transpose)
    assert m.transposition.way == "chords"
    assert len(m.transposition.melodies) == PRESETS["melodic"].voices
    for part, chord in zip((m.audio[:LENGTH], m.audio[LENGTH:]), chords, strict=True):
        middle = part[SR // 5 : -SR // 5]
        for hz in chord:
            assert abs(peak_cents(middle, hz, within=90)) < 25
            assert level_db(middle, hz, 15) > -15
    # The target's own track stays a single melody.
    assert m.transposition.target_f0.shape == (GRID.n_frames(len(target)),)


# --- shifts


def energies_by_ratio(m):
    (part,) = m.parts
    loud = energies(part)
    steps = np.round(12 * np.log2(part.grains.ratios), 6)
    return {float(step): loud[steps == step].sum() / loud.sum() for step in np.unique(steps)}


@pytest.mark.parametrize("tape", [False, True])
def test_the_shift_of_a_range_is_the_one_that_makes_the_source_like_the_target(tape):
    # Other shifts share partials with the target, but none fits as well.
    m = made(tone(SOURCE_HZ * 2 ** (5 / 12)), transpose=(0, 7), tape=tape)
    assert m.transposition.way == "shifts"
    assert energies_by_ratio(m).get(5.0, 0) > 0.95
    assert_plays(m.audio, SOURCE_HZ * 2 ** (5 / 12))


def test_a_single_shift_moves_everything_and_needs_no_pitch():
    m = made(transpose=(7, 7), source_f0=0 * SOURCE_F0)
    assert list(energies_by_ratio(m)) == [7.0]
    assert_plays(m.audio, SOURCE_HZ * 2 ** (7 / 12))


def test_a_range_goes_up_in_semitones_from_its_lower_end_and_can_be_tuned():
    def shifts(low, high, cents=0.0):
        settings = replace(FOLLOW, transpose=(low, high), tune_cents=cents)
        return prepared(TARGET, SOURCE, SR, settings, source_f0=SOURCE_F0).transposition.shifts

    np.testing.assert_allclose(shifts(0.5, 2.5), [0.5, 1.5, 2.5])
    np.testing.assert_allclose(shifts(-1.2, 1), [-1.2, -0.2, 0.8])
    np.testing.assert_allclose(shifts(-2, 0, 25.0), [-1.75, -0.75, 0.25])
    # Rounding of tenths does not lose the upper end.
    np.testing.assert_allclose(shifts(0.1, 3.1), [0.1, 1.1, 2.1, 3.1])
