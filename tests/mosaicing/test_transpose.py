"""Mosaics at the target's pitch, end to end: what is written or tracked is what sounds, measured by spectra."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smalti import PRESETS, StftParams, build_dictionary, mosaic
from smalti.dsp.loudness import integrated_loudness
from smalti.dsp.pitch import FINENESS, clear, harmonicity, track_pitch
from smalti.grains.shifted import frames_of, grain_params
from smalti.mosaicing.compare import ShiftedComparison, compared
from smalti.mosaicing.mosaic import part_of
from smalti.mosaicing.prepare import prepare
from smalti.mosaicing.solve import solve_steps, solver_of
from smalti.mosaicing.transpose import fine_track, has_fundamental, without_rests
from smalti.presets import configure

SR = 11025
FOLLOW = replace(PRESETS["melodic"], transpose="follow")
GRID = StftParams.from_seconds(FOLLOW.window_s, FOLLOW.hop_s, SR)
SECONDS = 1.2
LENGTH = round(SECONDS * SR)
# Without what is done to the sound after the grains have been put together.
BARE = replace(FOLLOW, colour=0, attacks=0)


def tone(hz, partials=(1, 0.5, 0.33, 0.25, 0.2), *, seconds=SECONDS):
    """A note whose frequency is one number, or one a sample."""
    hz = np.broadcast_to(np.asarray(hz, float), round(seconds * SR) if np.ndim(hz) == 0 else len(hz))
    phase = 2 * np.pi * np.cumsum(hz) / SR
    return 0.2 * sum(level * np.sin(k * phase) * (k * hz < 0.45 * SR) for k, level in enumerate(partials, 1))


def written(hz, length=LENGTH):
    """The track, (N,), of one frequency or of one a sample."""
    at = np.minimum(np.arange(GRID.n_frames(length)) * GRID.hop, length - 1)
    return np.broadcast_to(np.asarray(hz, float), length)[at]


def steps_of(*notes):
    """Notes of equal length, one frequency a sample."""
    return np.repeat(np.array(notes, float), -(-LENGTH // len(notes)))[:LENGTH]


SOURCE_HZ = 220.0
SOURCE = tone(SOURCE_HZ, seconds=1.0)
SOURCE_F0 = written(SOURCE_HZ, len(SOURCE))
MELODY = steps_of(330, 262, 392)
TARGET = tone(MELODY, (1, 0.3))


def made(target=TARGET, source=SOURCE, *, preset=FOLLOW, target_f0=None, source_f0=SOURCE_F0, **options):
    return mosaic(target, source, SR, preset=preset, target_f0=target_f0, source_f0=source_f0, **options)


def sung(hz=MELODY, **options):
    """The mosaic of a melody, one frequency a sample, that is written rather than tracked."""
    return made(tone(hz, (1, 0.3)), target_f0=written(hz), **options)


def peak_cents(sound, hz, within=150):
    """How far the spectrum's highest peak within so many cents of `hz` is off it."""
    n = len(sound)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(n), 16 * n))
    low, high = (round(hz * 2 ** (side * within / 1200) * 16 * n / SR) for side in (-1, 1))
    return 1200 * np.log2((low + spectrum[low:high].argmax()) * SR / (16 * n) / hz)


def assert_plays(audio, *notes, off=0.0, within=10):
    """Each of the notes in its time, but for 60 ms around every change."""
    each, edge = len(audio) // len(notes), round(0.06 * SR)
    for i, hz in enumerate(notes):
        assert abs(peak_cents(audio[i * each + edge : (i + 1) * each - edge], hz) - off) < within


def level_db(sound, hz, width_hz=25.0):
    """Of what lies about a frequency, in dB of the spectrum's highest peak."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    at = np.fft.rfftfreq(len(sound), 1 / SR)
    return 20 * np.log10(spectrum[np.abs(at - hz) < width_hz].max() / spectrum.max())


# --- one melody


@pytest.mark.parametrize("tape", [False, True])
@pytest.mark.parametrize("keep_formants", [False, True])
def test_the_notes_that_are_written_are_those_that_sound(tape, keep_formants):
    m = sung(tape=tape, keep_formants=keep_formants)
    assert m.transposition.way == "follow"
    assert_plays(m.audio, 330, 262, 392)


def test_what_is_tracked_is_followed_as_what_is_written_is():
    m = made(source_f0=None)
    assert m.transposition.way == "follow"
    assert_plays(m.audio, 330, 262, 392)


def test_a_melody_may_be_another_than_the_target_s():
    m = made(target_f0=written(steps_of(294, 349, 294)))
    assert m.transposition.reason == "its notes are given"
    # The target's spectra ask for other notes, so that short grains of unlike phases take turns.
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
    # Windows of 60 ms, over a quarter of its period, see less of it.
    assert 0.6 < np.polyfit(wanted, got, 1)[0] < 1.1


@pytest.mark.parametrize("cents", [-35.0, 50.0])
def test_the_whole_may_be_tuned(cents):
    assert_plays(sung(tune_cents=cents).audio, 330, 262, 392, off=cents)


@pytest.mark.parametrize("tape", [False, True])
def test_a_tape_keeps_no_time_inside_a_grain_and_the_shifter_does(tape):
    # The source's own tremolo at 8 Hz is heard at 16 on a tape at twice the speed.
    t = np.arange(2 * SR) / SR
    source = tone(220, seconds=2.0) * (1 + 0.8 * np.sin(2 * np.pi * 8 * t))
    hz = np.full(LENGTH, 440.0)
    m = made(tone(hz, (1, 0.3)), source, target_f0=written(hz), source_f0=written(220, len(source)), tape=tape)
    (grains,) = {part.grains for part in m.parts}
    sound = grains.dictionary.recordings[0]
    of_longest = grains.runs == np.bincount(grains.runs).argmax()
    centres = grains.dictionary.centres[of_longest]
    power = np.abs(np.fft.rfft(np.square(sound[centres[0] : centres[-1]]), 8 * SR))
    at_8, at_16 = (power[8 * hz - 8 : 8 * hz + 9].max() for hz in (8, 16))
    assert (at_16 > at_8) == tape


@pytest.mark.parametrize("phase", ["source", "target", "griffin-lim"])
def test_a_melody_is_followed_whatever_the_phase(phase):
    # With the source's own phase, grains that overlap may cancel.
    assert_plays(sung(phase=phase).audio, 330, 262, 392, within=25 if phase == "source" else 10)


def test_formants_are_kept_unless_the_partials_are_to_keep_their_levels():
    # Partials of 220 Hz fall by 3 dB an octave and more above a hill at 880 Hz; an octave higher they skip every other.
    partials = (1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)
    source, hz = tone(220, partials, seconds=1.0), np.full(LENGTH, 440.0)
    kept, moved = (sung(hz, source=source, preset=BARE, keep_formants=keep).audio[2000:-2000] for keep in (True, False))
    for number, at_220 in ((1, 1.0), (2, 1.0), (3, 0.1), (4, 0.1)):
        assert level_db(kept, 440 * number) == pytest.approx(20 * np.log10(at_220), abs=3)
        assert level_db(moved, 440 * number) == pytest.approx(0, abs=3)


def energies(part):
    """How loud each frame of the grains sounds in all."""
    norms = part.dictionary.norms[:, None]
    return np.asarray(part.activations.multiply(norms).power(2).sum(axis=1)).ravel()


def test_what_has_no_pitch_in_the_target_sounds_at_the_nearest_note(rng):
    third = LENGTH // 3
    noise = 0.1 * rng.standard_normal(third)
    target = np.concatenate([tone(330, (1, 0.3))[:third], noise, tone(262, (1, 0.3))[2 * third - LENGTH :]])
    source = np.concatenate([SOURCE, 0.1 * rng.standard_normal(SR)])
    source_f0 = written(np.repeat([SOURCE_HZ, 0.0], [len(SOURCE), SR]), len(source))
    f0 = written(np.repeat([330.0, 0.0, 262.0], [third, third, LENGTH - 2 * third]))
    m = made(target, source, target_f0=f0, source_f0=source_f0)
    (part,) = m.parts
    loud, at = energies(part), part.grains.frames
    # The first third of what is between belongs to the note before, and what follows to the next one.
    turn = np.flatnonzero(f0 == 0)[0] + np.ceil(np.count_nonzero(f0 == 0) / 3)
    np.testing.assert_array_equal(m.transposition.melodies, [np.where(np.arange(len(f0)) < turn, 330.0, 262.0)])
    np.testing.assert_array_equal(m.transposition.target_f0, f0)
    for when, hz in ((at < turn - 1, 330), (at >= turn, 262)):
        assert loud[when].sum() > 0
        assert loud[when & (np.abs(part.grains.ratios * SOURCE_HZ / hz - 1) < 1e-9)].sum() > 0.999 * loud[when].sum()
    # And it sounds there, if of the notes of the source alone: its noise has none to start from.
    assert loud[np.abs(at - (1.5 * third) / GRID.hop) < 0.3 * third / GRID.hop].sum() > 0
    assert part.grains.atoms[loud > 0].max() * GRID.hop < len(SOURCE) + SR // 4 + GRID.hop


def test_where_all_voices_rest_the_first_goes_on_with_the_nearest_note():
    def rests(*melodies):
        return without_rests(np.array(melodies, float)).tolist()

    # However long the gap; a third of it, rounded up, belongs to the note before.
    assert rests([0, 0, 440, 0, 0, 0, 0, 330, 0]) == [[440, 440, 440, 440, 440, 330, 330, 330, 330]]
    assert rests([440, *[0] * 300]) == [[440.0] * 301]
    # A voice rests while another plays, and what the first goes on with is the note that sounded last, of any voice.
    assert rests([440, 0, 0, 0], [0, 330, 0, 0]) == [[440, 0, 330, 330], [0, 330, 0, 0]]
    # Where several end at once, or begin, that of the first of them.
    assert rests([0, 0, 0], [220, 0, 0], [110, 0, 0]) == [[0, 220, 220], [220, 0, 0], [110, 0, 0]]
    assert rests([0, 0, 262], [0, 330, 0]) == [[330, 0, 262], [0, 330, 0]]
    assert rests([0, 0], [0, 0]) == [[0, 0], [0, 0]]


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 9)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 0, 0, 220, 330, 440]))
    )
)
def test_without_rests_there_is_always_something_to_play_and_what_played_goes_on_playing(melodies):
    before = melodies.copy()
    out = without_rests(melodies)
    np.testing.assert_array_equal(melodies, before)
    playing = (melodies > 0).any(axis=0)
    np.testing.assert_array_equal(out[:, playing], melodies[:, playing])
    np.testing.assert_array_equal(out[1:], melodies[1:])
    assert (out > 0).any(axis=0).all() == playing.any()
    for frame in np.flatnonzero(~playing):
        # No note that did not sound next to the gap.
        sides = [np.flatnonzero(playing[:frame])[-1:], frame + 1 + np.flatnonzero(playing[frame + 1 :])[:1]]
        near = [melodies[melodies[:, n] > 0, n][0] for side in sides for n in side]
        assert out[0, frame] in (near or [0])


def test_a_given_pitch_is_straight_between_the_frames_of_a_recording_and_ends_with_it():
    dictionary = build_dictionary([SOURCE[: GRID.hop], SOURCE[: 2 * GRID.hop]], SR, params=GRID)
    assert dictionary.n_atoms == 5
    fine = fine_track(dictionary, np.array([440.0, 450, 220, 0, 330]), given=True)
    up = 440 * (450 / 440) ** (np.arange(FINENESS) / FINENESS)
    half = [FINENESS // 2, FINENESS - FINENESS // 2]
    rest = np.repeat([220.0, 0, 0, 330], [*half, *half])
    np.testing.assert_allclose(fine, [*up, *[450] * FINENESS, *rest, *[330] * FINENESS], rtol=1e-12)


def test_a_tracked_pitch_is_as_fine_as_it_glides_in_each_recording():
    # A chirp of an octave in a fifth of a second, up and then down.
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
    # Low notes are the track's own.
    low = np.linspace(300, 330, dictionary.n_atoms)
    straight = fine_track(dictionary, low, given=True)
    np.testing.assert_allclose(fine_track(dictionary, low, given=False), straight, rtol=1e-9)


def test_only_frames_that_are_clear_are_shifted_and_no_grain_leads_over_others(rng):
    # A breath of a fifth of a second in the midst of a note, whose pitch is known all the same.
    source = SOURCE.copy()
    breath = slice(round(0.4 * SR), round(0.6 * SR))
    source[breath] = 0.1 * rng.standard_normal(breath.stop - breath.start)
    settings = replace(FOLLOW, iterations=6, quietest_db=0.0)
    job = prepare(TARGET, source, SR, settings, target_f0=written(MELODY), source_f0=SOURCE_F0)
    usable, origins = job.transposition.usable, job.transposition.origins
    np.testing.assert_array_equal(usable, clear(harmonicity(job.dictionary.magnitudes, origins, SR), origins > 0))
    centres = job.dictionary.centres
    assert not usable[(centres > breath.start + SR // 20) & (centres < breath.stop - SR // 20)].any()
    assert usable[(centres > SR // 20) & (centres < breath.start - SR // 20)].all()
    steps = list(solve_steps(job))
    # What cannot be shifted has no row until the grains are chosen, which have rows of their own.
    assert [len(step.H) for step in steps[: settings.iterations]] == [np.count_nonzero(usable)] * settings.iterations
    atoms, runs = steps[-1].grains.atoms, steps[-1].grains.runs
    assert usable[atoms].all()
    for run in np.unique(runs):
        assert (np.diff(atoms[runs == run]) == 1).all()


def test_of_a_range_all_frames_that_sound_are_shifted_whatever_their_pitch(rng):
    source = np.concatenate([SOURCE[: SR // 2], np.zeros(SR), 0.1 * rng.standard_normal(SR // 2)])
    track = written(np.repeat([SOURCE_HZ, 0.0], [SR // 2, 3 * SR // 2]), len(source))
    job = prepare(TARGET, source, SR, replace(FOLLOW, transpose=(0, 2)), source_f0=track)
    np.testing.assert_array_equal(job.transposition.usable, job.dictionary.sounding(FOLLOW.quietest_db))
    assert not job.transposition.usable.all()
    assert not len(job.transposition.melodies)


@pytest.mark.parametrize("compare", ["views", "bins", "bands"])
def test_what_is_compared_is_the_source_at_each_ratio_and_grains_on_the_grid_of_the_job(compare):
    # Windows twice as long as those that shifted grains are added up in.
    params = StftParams(4096, 512)
    settings = replace(FOLLOW, compare=compare)
    f0 = np.full(params.n_frames(len(SOURCE)), SOURCE_HZ)
    job = prepare(TARGET, SOURCE, SR, settings, params=params, target_f0=np.full(params.n_frames(LENGTH), 330.0),
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
        # Each view comes at the gain that the target's has.
        np.testing.assert_allclose(comparison.V, V, rtol=1e-9)
    middle = slice(6, -6)
    assert np.linalg.norm(same[:, middle] - W[:, middle]) < 0.01 * np.linalg.norm(W[:, middle])
    # The same frames as grains at the pitch they have: here they are at home, too.
    short = grain_params(params, SR)
    assert short.n_fft < params.n_fft
    grains = frames_of(job.dictionary.recordings[0], job.dictionary.centres, short, SR)
    np.testing.assert_allclose(comparison.of_grains(grains), W, rtol=1e-6, atol=1e-6 * W.max())


# --- chords

CHORD = (262.0, 330.0, 392.0)


def test_each_written_note_of_a_chord_sounds():
    target = sum(tone(hz, (1, 0.3)) for hz in CHORD)
    m = made(target, target_f0=np.stack([written(hz) for hz in CHORD]))
    assert m.transposition.way == "chords"
    middle = m.audio[SR // 5 : -SR // 5]
    for hz in CHORD:
        assert abs(peak_cents(middle, hz, within=90)) < 10
        assert level_db(middle, hz, 10) > -12
    # Between them there is nothing.
    for hz in (294, 360):
        assert level_db(middle, hz, 5) < -25


def test_chords_are_given_by_their_voices_and_a_voice_may_rest():
    target = np.concatenate([tone(262) + tone(330), tone(392)])
    rest = written(np.repeat([330.0, 0], LENGTH), 2 * LENGTH)
    m = made(target, target_f0=np.stack([written(np.repeat([262.0, 392], LENGTH), 2 * LENGTH), rest]))
    first, second = m.audio[SR // 5 : LENGTH - SR // 5], m.audio[LENGTH + SR // 5 : -SR // 5]
    for part, hz in ((first, 262), (first, 330), (second, 392)):
        assert abs(peak_cents(part, hz, within=90)) < 10
        assert level_db(part, hz, 10) > -12
    assert level_db(second, 330, 10) < -25


@pytest.mark.parametrize("transpose", ["auto", "chords"])
def test_chords_of_the_target_are_heard_and_played(transpose):
    # A minor chord and a major one in another position: of 4, 5 and 6 times a frequency, that would be the pitch.
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
    # What is written as a track stays what it was tracked as.
    assert m.transposition.target_f0.shape == (GRID.n_frames(len(target)),)


# --- shifts


def energies_by_ratio(m):
    (part,) = m.parts
    loud = energies(part)
    steps = np.round(12 * np.log2(part.grains.ratios), 6)
    return {float(step): loud[steps == step].sum() / loud.sum() for step in np.unique(steps)}


@pytest.mark.parametrize("tape", [False, True])
def test_of_a_range_the_shift_is_chosen_that_makes_the_source_the_target(tape):
    # By an octave, which shares partials, and by other steps it would sound as well, but not as like.
    m = made(tone(SOURCE_HZ * 2 ** (5 / 12)), transpose=(0, 7), tape=tape)
    assert m.transposition.way == "shifts"
    assert energies_by_ratio(m).get(5.0, 0) > 0.95
    assert_plays(m.audio, SOURCE_HZ * 2 ** (5 / 12))


def test_a_single_shift_moves_everything_and_needs_no_pitch():
    m = made(transpose=(7, 7), source_f0=0 * SOURCE_F0)
    assert list(energies_by_ratio(m)) == [7.0]
    assert_plays(m.audio, SOURCE_HZ * 2 ** (7 / 12))


def test_a_range_goes_up_by_semitones_from_its_lower_end_and_is_tuned_too():
    def shifts(low, high, cents=0.0):
        settings = replace(FOLLOW, transpose=(low, high), tune_cents=cents)
        return prepare(TARGET, SOURCE, SR, settings, source_f0=SOURCE_F0).transposition.shifts

    np.testing.assert_allclose(shifts(0.5, 2.5), [0.5, 1.5, 2.5])
    np.testing.assert_allclose(shifts(-1.2, 1), [-1.2, -0.2, 0.8])
    np.testing.assert_allclose(shifts(-2, 0, 25.0), [-1.75, -0.75, 0.25])
    # Sums of tenths round.
    np.testing.assert_allclose(shifts(0.1, 3.1), [0.1, 1.1, 2.1, 3.1])


# --- which way it goes


def clatter(rng, seconds=SECONDS):
    """Bursts of noise."""
    t = np.arange(round(seconds * SR)) / SR
    return 0.3 * rng.standard_normal(len(t)) * np.exp(-(t % 0.2) / 0.03)


@pytest.mark.parametrize("which", ["target", "source"])
def test_without_a_pitch_the_preset_melodic_is_balanced_bit_for_bit(which, rng):
    target, source = (clatter(rng), SOURCE) if which == "target" else (TARGET, clatter(rng, 1.0))
    tracked, plain = (mosaic(target, source, SR, preset=preset) for preset in ("melodic", "balanced"))
    assert tracked.transposition.way == "off"
    assert which in tracked.transposition.reason
    np.testing.assert_array_equal(tracked.audio, plain.audio)
    np.testing.assert_array_equal(tracked.activations.toarray(), plain.activations.toarray())


def test_what_is_asked_for_but_impossible_is_refused(rng):
    noise, without = clatter(rng), 0 * SOURCE_F0
    for way in ("follow", "chords"):
        with pytest.raises(ValueError, match=f"transpose is '{way}' but the source has no pitch to start from"):
            made(transpose=way, source_f0=without)
    with pytest.raises(ValueError, match="transpose is 'follow' but the target has no pitch to follow; pass 'off'"):
        made(noise)
    for f0 in (0 * written(1.0), np.zeros((3, GRID.n_frames(LENGTH)))):
        with pytest.raises(ValueError, match="the target has no pitch to follow"):
            made(target_f0=f0)


@pytest.mark.parametrize("way", ["follow", "chords"])
def test_a_source_with_pitch_where_it_does_not_sound_alone_is_to_blame(way, rng):
    # A note 70 dB under the noise that follows it.
    source = np.concatenate([3e-4 * SOURCE, 0.3 * rng.standard_normal(2 * SR)])
    f0 = written(np.repeat([SOURCE_HZ, 0.0], [len(SOURCE), 2 * SR]), len(source))
    # Nor does a gap count that is short enough to be bridged.
    f0[-(-(len(SOURCE) - SR // 2) // GRID.hop) :] = 0
    for tracks in ({}, {"target_f0": written(MELODY)}):
        with pytest.raises(ValueError, match=f"^transpose is '{way}' but the source has no pitch to start from; pass "):
            made(source=source, source_f0=f0, transpose=way, **tracks)


@pytest.mark.parametrize("transpose", [(0, 2), (-1.5, 3)])
def test_a_range_follows_no_melody(transpose):
    with pytest.raises(ValueError, match=r"^target_f0 means nothing while transpose is .*\.\..*; add transpose follow"):
        made(target_f0=written(MELODY), transpose=transpose)
    assert made(transpose=transpose).transposition.way == "shifts"


def test_chords_in_which_no_notes_are_found_leave_the_source_as_it_is(monkeypatch):
    target = sum(tone(hz, (1, 0.3)) for hz in CHORD)

    def no_notes(job, source_f0):
        return np.zeros((job.settings.voices, job.spectrum.shape[1]))

    monkeypatch.setattr("smalti.mosaicing.transpose.chord_melodies", no_notes)
    monkeypatch.setattr(
        "smalti.mosaicing.transpose.decide", lambda target, source: ("chords", "several notes sound at once")
    )
    m = made(target, transpose="auto")
    assert (m.transposition.way, m.transposition.n_voices) == ("off", 0)
    assert m.transposition.reason == "no notes are found in the target"
    plain = mosaic(target, SOURCE, SR, preset=replace(FOLLOW, transpose="off"))
    np.testing.assert_array_equal(m.audio, plain.audio)
    # Asked for, they are missed.
    with pytest.raises(ValueError, match="transpose is 'chords' but the target has no pitch to follow"):
        made(target, transpose="chords")


N, K = GRID.n_frames(LENGTH), GRID.n_frames(len(SOURCE))


@pytest.mark.parametrize(
    ("tracks", "error", "message"),
    [
        ({"target_f0": np.full(N - 1, 330.0)}, ValueError, f"target_f0 has {N - 1} values; pass {N}"),
        ({"target_f0": np.full((2, N + 1), 330.0)}, ValueError, rf"target_f0\[0\] has {N + 1} values; pass {N}"),
        ({"target_f0": np.full((1, 2, N), 330.0)}, ValueError, r"target_f0 has shape \(1, 2"),
        ({"target_f0": np.full(N, np.nan)}, ValueError, f"target_f0 holds {N} values that are NaN"),
        ({"target_f0": np.full(N, -330.0)}, ValueError, "target_f0 holds -330 Hz"),
        ({"target_f0": np.stack([np.full(N, 330.0), np.full(N, 5.0)])}, ValueError, r"target_f0\[1\] holds 5 Hz"),
        ({"target_f0": ["a4"] * N}, TypeError, "target_f0 has dtype"),
        ({"source_f0": np.full(K + 1, 220.0)}, ValueError, f"source_f0 has {K + 1} values; pass {K}"),
        ({"source_f0": np.full(K, np.inf)}, ValueError, f"source_f0 holds {K} values that are NaN"),
        ({"source_f0": [np.full(K, 220.0)] * 2}, ValueError, "source_f0 has 2 tracks for 1 recordings; pass one for"),
        ({"source_f0": [np.full(K - 2, 220.0)]}, ValueError, rf"source_f0\[0\] has {K - 2} values; pass {K}"),
        ({"source_f0": np.full((2, K), 220.0)}, ValueError, r"source_f0 has shape \(2, "),
    ],
)
def test_tracks_that_do_not_fit_are_refused_by_name(tracks, error, message):
    given = {"target_f0": np.full(N, 330.0), "source_f0": SOURCE_F0} | tracks
    with pytest.raises(error, match=f"^{message}"):
        made(**given)


def test_a_pitch_or_a_start_that_would_mean_nothing_is_refused():
    for name in ("target_f0", "source_f0"):
        with pytest.raises(ValueError, match=f"^{name} means nothing while transpose is off; add transpose"):
            mosaic(TARGET, SOURCE, SR, preset="balanced", **{name: np.full(N, 330.0)})
    with pytest.raises(ValueError, match="init means nothing where grains are transposed; leave it out"):
        sung(init=np.ones((K, N)))


@pytest.mark.parametrize("changes", [{"choose": None}, {"choose": "frames"}, {"beta": 2.0}, {"unit_norm": True}])
@pytest.mark.parametrize("way", ["auto", "follow", "chords", (0, 2)])
def test_only_whole_grains_of_a_plain_kullback_leibler_fit_can_be_shifted(way, changes):
    with pytest.raises(ValueError, match="only whole grains can be shifted: it needs choose 'grains', beta 1"):
        replace(PRESETS["balanced"], transpose=way, **changes)
    replace(PRESETS["balanced"], transpose="off", **changes)


@pytest.mark.parametrize(
    ("transpose", "message"),
    [
        ((3, 1), "transpose goes from 3 to 1 semitones; pass the lower end first"),
        ((-49, 0), "the lower end of transpose is -49; pass a number from -48 to 48"),
        ((0, 49), "the upper end of transpose is 49"),
        ((0, float("nan")), "the upper end of transpose is nan"),
    ],
)
def test_ranges_that_are_none_are_refused(transpose, message):
    with pytest.raises(ValueError, match=message):
        configure("melodic", transpose=transpose)


# --- what comes of it


def test_the_same_seed_gives_the_same_samples_and_another_one_others():
    first, again, other = (sung(rng=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.audio, again.audio)
    assert not np.array_equal(first.audio, other.audio)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_type_stays_and_nothing_given_is_changed(dtype):
    target, source = TARGET.astype(dtype), SOURCE.astype(dtype)
    tracks = written(MELODY), SOURCE_F0.copy()
    copies = [x.copy() for x in (target, source, *tracks)]
    m = made(target, source, target_f0=tracks[0], source_f0=tracks[1])
    assert m.audio.dtype == m.activations.dtype == m.parts[0].activations.dtype == dtype
    for x, copy in zip((target, source, *tracks), copies, strict=True):
        np.testing.assert_array_equal(x, copy)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {}),
        ({"refine": 0}, {}),
        ({"smooth_gains_s": 0.0}, {}),
        ({"transpose": (0, 2)}, {}),
        ({"transpose": "chords"}, {"target_f0": np.stack([written(330), written(262)])}),
    ],
)
def test_there_are_as_many_steps_as_announced_and_only_gains_change_in_the_end(changes, options):
    settings = replace(FOLLOW, iterations=4, **{"refine": 3} | changes)
    given = {} if isinstance(settings.transpose, tuple) else {"target_f0": written(MELODY)} | options
    job = prepare(TARGET, SOURCE, SR, settings, source_f0=SOURCE_F0, **given)
    steps = list(solve_steps(job))
    assert len(steps) == solver_of(job).n_steps
    assert [step.iteration for step in steps] == list(range(1, len(steps) + 1))
    assert all(np.isfinite(step.divergence) for step in steps)
    chosen, last = steps[4], steps[-1]
    assert chosen.grains is last.grains
    assert not last.H[chosen.H == 0].any()
    refined = steps[4 : 5 + settings.refine]
    falls = np.array([step.divergence for step in refined])
    assert (falls[1:] <= falls[:-1] * (1 + 1e-9)).all()
    with pytest.raises(ValueError, match="step 4 has no sound yet, as its grains are not shifted; take one after step"):
        part_of(job, steps[3], [])


@pytest.mark.parametrize("way", ["follow", "chords", "shifts"])
def test_activations_are_of_source_frames_and_lie_where_grains_sound(way):
    options = {
        "follow": {"target_f0": written(MELODY)},
        "chords": {"target_f0": np.stack([written(330), written(262)])},
        "shifts": {"transpose": (0, 3)},
    }[way]
    m = made(**options)
    assert isinstance(m.activations, scipy.sparse.csc_array)
    assert m.activations.shape == (K, N)
    (part,) = m.parts
    grains = part.grains
    assert part.activations.shape == (len(grains.atoms), N)
    # Each frame of a grain sounds in one target frame, its own.
    rows, frames = part.activations.nonzero()
    np.testing.assert_array_equal(grains.frames[rows], frames)
    expected = np.zeros((K, N))
    np.add.at(expected, (grains.atoms[rows], frames), part.activations[rows, frames])
    np.testing.assert_allclose(m.activations.toarray(), expected, rtol=1e-12)
    # As many layers as the settings have, or one a voice.
    voices = {"follow": FOLLOW.layers, "chords": 2, "shifts": FOLLOW.layers}[way]
    assert np.bincount(grains.frames, minlength=N).max() <= 2 * voices
    for run in np.unique(grains.runs):
        of = grains.runs == run
        assert (np.diff(grains.atoms[of]) == 1).all()
        assert (np.diff(grains.frames[of]) == 1).all()


def test_the_parts_of_the_job_are_the_job():
    settings = replace(FOLLOW, iterations=5)
    job = prepare(TARGET, SOURCE, SR, settings, target_f0=written(MELODY), source_f0=SOURCE_F0)
    *_, step = solve_steps(job)
    part = part_of(job, step, [])
    np.testing.assert_array_equal(part.audio, sung(preset=settings).parts[0].audio)
    assert part.dictionary is part.grains.dictionary


def test_several_recordings_have_a_track_each():
    # A bright one, as the second note is.
    second = tone(294, (0.1, 0.4, 1, 0.8, 0.5), seconds=0.7)
    hz = steps_of(330, 392)
    target = np.concatenate([tone(hz, (1, 0.3))[: LENGTH // 2], tone(hz, (0.1, 0.5, 1, 0.5))[LENGTH // 2 :]])
    tracks = [SOURCE_F0, written(294, len(second))]
    listed = made(target, [SOURCE, second], target_f0=written(hz), source_f0=tracks)
    joined = made(target, [SOURCE, second], target_f0=written(hz), source_f0=np.concatenate(tracks))
    np.testing.assert_array_equal(listed.audio, joined.audio)
    assert_plays(listed.audio, 330, 392)
    grains = listed.parts[0].grains
    of = listed.dictionary.recording_ids[grains.atoms]
    assert set(of) == {0, 1}
    # Each grain at the ratio of its own recording.
    np.testing.assert_allclose(grains.ratios * np.where(of == 0, 220, 294), written(hz)[grains.frames], rtol=1e-9)


# --- channels


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("channels", ["source", "mono", "apart"])
def test_channels_are_what_the_settings_say(channels, width):
    source = SOURCE if width == 1 else np.stack([SOURCE, 0.3 * SOURCE])
    target = np.stack([TARGET, 0.5 * TARGET])
    m = made(target, source, target_f0=written(MELODY), channels=channels)
    expected = {"source": width, "mono": 1, "apart": 2}[channels]
    assert m.audio.shape == ((LENGTH,) if expected == 1 else (expected, LENGTH))
    for channel in np.atleast_2d(m.audio):
        assert_plays(channel, 330, 262, 392)
    assert len(m.parts) == (2 if channels == "apart" else 1)
    if channels == "source" and width == 2:
        left, right = m.audio
        np.testing.assert_allclose(right, 0.3 * left, atol=0.02 * np.abs(left).max())


# --- what nobody would choose

ODD_SOURCES = {
    "of 20 ms": tone(220, seconds=0.02),
    "noise": 0.1 * np.random.default_rng(3).standard_normal(SR),
    "a chord": sum(tone(hz, seconds=1.0) for hz in CHORD),
    "one sample": np.array([0.5]),
    "mostly silence": np.concatenate([np.zeros(SR), tone(220, seconds=0.2), np.zeros(SR)]),
}


@pytest.mark.parametrize("transpose", ["auto", (-2, 2)])
@pytest.mark.parametrize("name", ODD_SOURCES)
def test_every_source_makes_a_finite_sound(name, transpose):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m = made(source=ODD_SOURCES[name], source_f0=None, preset="melodic", transpose=transpose)
    assert m.audio.shape == (LENGTH,)
    assert np.isfinite(m.audio).all()
    assert m.audio.any()


@pytest.mark.parametrize("name", ODD_SOURCES)
def test_every_source_can_be_told_its_pitch(name):
    source = ODD_SOURCES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for f0 in (written(MELODY), np.stack([written(330), written(262)])):
            m = made(source=source, target_f0=f0, source_f0=written(220, len(source)))
            assert np.isfinite(m.audio).all()
            assert m.audio.any()


def test_a_target_of_two_voices_at_once_makes_a_finite_sound():
    two = tone(MELODY) + tone(np.geomspace(300, 500, LENGTH))
    m = made(two, preset="melodic")
    assert m.transposition.way in ("off", "follow", "chords")
    assert np.isfinite(m.audio).all()
    assert m.audio.any()


@pytest.mark.parametrize("options", [{}, {"target_f0": written(MELODY)}, {"transpose": (0, 2)}])
def test_of_a_silent_target_there_is_nothing_to_follow(options):
    with pytest.warns(UserWarning, match="target is silent, and so is its mosaic"):
        m = made(np.zeros(LENGTH), **options)
    assert not m.audio.any()
    assert m.activations.nnz == 0
    assert m.activations.shape == (K, N)
    assert m.transposition is None


def test_notes_beyond_four_octaves_are_refused_by_name():
    with pytest.raises(ValueError, match=r"^transpose is 'follow' but the source is more than four octaves .* 4000 Hz"):
        made(target_f0=written(4000), source_f0=np.full(K, 220.0))


def test_a_source_pitch_that_its_rate_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"^source_f0 holds 19000 Hz, more than a sample rate"):
        made(target_f0=written(440), source_f0=np.full(K, 19000.0))


def test_a_bass_note_needs_a_fundamental_in_the_target():
    """Partials 2 to 6 of 110 Hz without the first: 110 Hz is no note to be played, 220 Hz is."""
    t = np.arange(SR) / SR
    target = sum(np.sin(2 * np.pi * 110 * k * t) / k for k in range(2, 7)) * 0.1
    job = prepare(target, target, SR, replace(PRESETS["melodic"], transpose="off"))
    there = has_fundamental(job, np.array([110.0, 220.0]))[:, 5:-5]
    assert not there[0].any()
    assert there[1].all()


def test_a_tape_is_in_tune_though_its_source_is_not_steady():
    """It is read where it has come to: the source's vibrato of 80 cents goes, as without a tape."""
    t = np.arange(2 * SR) / SR
    own = 262 * 2 ** (80 / 1200 * np.sin(2 * np.pi * 5 * t))
    source = sum(np.sin(2 * np.pi * k * np.cumsum(own) / SR) / k for k in range(1, 6)) * 0.1
    target = sum(np.sin(2 * np.pi * 440 * k * t) / k for k in range(1, 6)) * 0.1
    m = mosaic(target, source, SR, preset="melodic", transpose="follow", tape=True)
    f0 = track_pitch(m.audio, SR, hop=256)[5:-5]
    assert np.mean(np.abs(1200 * np.log2(np.maximum(f0, 1) / 440)) < 30) > 0.9


def test_a_mosaic_is_as_loud_as_its_target():
    assert sung().loudness == pytest.approx(integrated_loudness(TARGET, SR), abs=0.1)


@pytest.mark.parametrize("compare", ["bins", "bands"])
def test_a_melody_is_followed_whatever_is_compared(compare):
    assert_plays(sung(preset=replace(FOLLOW, compare=compare)).audio, 330, 262, 392)


def test_the_solver_starts_as_the_settings_say():
    settings = replace(FOLLOW, start_spread=0.0, iterations=2)
    job = prepare(TARGET, SOURCE, SR, settings, target_f0=written(MELODY), source_f0=SOURCE_F0)
    first, other = (list(solve_steps(job, rng=seed))[-1].H for seed in (0, 1))
    np.testing.assert_array_equal(first, other)
