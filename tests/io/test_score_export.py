"""Exported scores, read back by independent readers."""

import csv
import io
import struct
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
import rpp
import scipy.sparse
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

import smalti
from scores import GRID, LENGTH, SR, mosaics, score_of
from smalti import build_dictionary
from smalti.dsp.pitch import FINENESS
from smalti.grains.source import Source
from smalti.io.score_export import EXPORTS, csv_text, exported, label_text, midi_bytes, rpp_text
from smalti.score.daw_items import added_items, items_of, reduction
from smalti.score.edit import Selection, louder, moved
from smalti.score.render import added_up, recordings_of
from smalti.score.score import Target
from smalti.score.table import RECORD_FIELDS, records, score_from_records
from smalti.workflows.demo import demo_source, demo_target

RATE = 22050


@pytest.fixture(scope="module")
def made():
    """The scores of a plain mosaic and of one with transposed grains, and the source of both."""
    target, source = demo_target(RATE)[: 2 * RATE], demo_source(RATE)[: 3 * RATE]
    plain = smalti.mosaic(target, source, RATE, iterations=8)
    shifted = smalti.mosaic(target, source, RATE, preset="melodic", transpose="follow", iterations=8)
    return plain.score, shifted.score, source


def chunks(project, name):
    return [child for child in project if isinstance(child, rpp.Element) and child.tag == name]


def parsed(text):
    """A project as lists of words, by REAPER's own rule: the mark that a word begins with quotes it."""
    open_ = [rpp.Element("", ())]
    for line in text.split("\n"):
        words, rest = [], line.strip(" ")
        while rest:
            mark = rest[0] if rest[0] in "\"'`" else " "
            word, _, rest = rest.removeprefix(mark).partition(mark)
            words.append(word)
            rest = rest.lstrip(" ")
        if words == [">"]:
            open_.pop()
        elif words and words[0].startswith("<"):
            chunk = rpp.Element(words[0][1:], words[1:])
            open_[-1].append(chunk)
            open_.append(chunk)
        elif words:
            open_[-1].append(words)
    (project,) = open_[0]
    return project


def value(chunk, name):
    """The words after a name in a chunk."""
    (found,) = [child[1:] for child in chunk if isinstance(child, list) and child[0] == name]
    return found


# Items


@given_settings(max_examples=40)
@given(mosaics())
def test_items_sound_as_the_grains_do(case):
    dictionary, H = case
    score = score_of(scipy.sparse.csc_array(H), dictionary)
    reduced = reduction(items_of(score), score, recordings_of(score, list(dictionary.recordings)))
    # The lines are within a hundredth of the envelope, which is sampled every quarter of a hop.
    assert reduced.error_db is None or reduced.error_db < -36


def test_a_grain_keeps_its_gains_at_the_beginning_and_end_of_the_mosaic():
    # Fewer windows overlap there, and their sum is divided by only those.
    dictionary = build_dictionary(np.ones(2 * LENGTH), SR, params=GRID)
    n = GRID.n_frames(LENGTH)
    H = scipy.sparse.csc_array((np.full(n, 0.5), (np.arange(9, 9 + n), np.arange(n))), shape=(dictionary.n_atoms, n))
    (item,) = items_of(score_of(H, dictionary))
    assert (item.start, item.length, item.offset) == (0, LENGTH, 9 * GRID.hop)
    np.testing.assert_allclose(item.envelope, 0.5, rtol=1e-9)


def test_large_gains_on_a_silent_moment_of_the_source_leave_the_rest_accurate(rng):
    source = rng.standard_normal(2 * LENGTH)
    source[280:420] *= 1e-3
    dictionary = build_dictionary(source, SR, params=GRID)
    gains = rng.uniform(0.5, 1.0, GRID.n_frames(LENGTH))
    gains[9:12] *= 1e3
    H = scipy.sparse.csc_array((gains, (np.arange(12, 12 + len(gains)), np.arange(len(gains)))))
    H.resize((dictionary.n_atoms, len(gains)))
    score = score_of(H, dictionary)
    assert reduction(items_of(score), score, recordings_of(score, source)).error_db < -36


def test_the_reduction_is_as_good_as_it_says(made):
    score, _, source = made
    recordings = recordings_of(score, source)
    complete = reduction(items_of(score), score, recordings)
    assert complete.n_items == complete.n_grains == len(score)
    assert complete.error_db < -30
    few = reduction(items_of(score, most=5), score, recordings)
    assert few.n_items == 5
    assert few.error_db > complete.error_db
    # The same by hand.
    wanted, got = added_up(score, recordings), added_items(items_of(score, most=5), score, recordings)
    assert few.error_db == pytest.approx(10 * np.log10(np.sum((wanted - got) ** 2.0) / np.sum(wanted**2.0)), abs=0.01)


def test_the_grains_with_least_energy_are_left_out_first(made):
    score, _, _ = made
    energies = score.levels + 10 * np.log10(score.lengths)
    kept = {item.grain for item in items_of(score, most=3)}
    assert kept == set(score.ids[np.argsort(-energies)[:3]].tolist())
    with pytest.raises(ValueError, match="most is 0"):
        items_of(score, most=0)


def test_an_item_begins_neither_before_the_mosaic_nor_before_its_source():
    dictionary = build_dictionary(np.ones(400), SR, params=GRID)
    H = scipy.sparse.csc_array(([1.0, 1.0], ([5, 0], [0, 9])), shape=(dictionary.n_atoms, GRID.n_frames(LENGTH)))
    first, second = items_of(score_of(H, dictionary))
    assert (first.start, first.offset, first.length) == (0, 80, 32)
    assert (second.start, second.offset, second.length) == (144, 0, 32)
    # An uncut grain has half a window on either side.
    H = scipy.sparse.csc_array(([1.0], ([9], [9])), shape=(dictionary.n_atoms, GRID.n_frames(LENGTH)))
    (uncut,) = items_of(score_of(H, dictionary))
    assert (uncut.start, uncut.offset, uncut.length) == (112, 112, 64)
    assert uncut.envelope[32] == pytest.approx(uncut.gain)
    assert uncut.envelope[0] == 0
    # An item does not go on after the end of its source either.
    (short,) = items_of(score_of(H, dictionary, sources=(Source("a", duration_s=150 / SR),)))
    assert short.length == 150 - 112


# REAPER


def test_a_reaper_project_is_read_as_it_was_written(made, tmp_path):
    score, _, _ = made
    named = replace(
        score, sources=(Source(str(tmp_path / "b\"e'e .wav")),), target=Target("so\nng.mp3", start_s=1.5), gain_db=-6.0
    )
    items = items_of(named)
    project = rpp.loads(rpp_text(items, named))
    assert project.tag == "REAPER_PROJECT"
    assert repr(parsed(rpp_text(items, named))) == repr(project)
    assert float(value(project, "MASTER_VOLUME")[0]) == pytest.approx(10 ** (-6 / 20))
    assert value(project, "SAMPLERATE")[0] == str(RATE)
    target, track = chunks(project, "TRACK")
    assert value(target, "MUTESOLO")[0] == "1"
    assert value(target, "NAME") == ["target: so ng.mp3"]
    (song,) = chunks(target, "ITEM")
    assert float(value(song, "SOFFS")[0]) == 1.5
    assert value(track, "NAME") == ["b\"e'e .wav"]
    for item, chunk in zip(items, chunks(track, "ITEM"), strict=True):
        assert float(value(chunk, "POSITION")[0]) == pytest.approx(item.start / RATE)
        assert float(value(chunk, "LENGTH")[0]) == pytest.approx(item.length / RATE)
        assert float(value(chunk, "SOFFS")[0]) == pytest.approx(item.offset / RATE)
        assert float(value(chunk, "VOLPAN")[2]) == pytest.approx(item.gain)
        assert float(value(chunk, "FADEIN")[1]) == pytest.approx(item.fade_in / RATE)
        assert value(chunk, "PLAYRATE")[:3] == ["1", "1", "0"]
        (source,) = chunks(chunk, "SOURCE")
        assert list(source.attrib) == ["WAVE"]
        assert value(source, "FILE") == [str(tmp_path / "b\"e'e .wav")]
        (envelope,) = chunks(chunk, "VOLENV")
        points = [(float(line[1]), float(line[2])) for line in envelope if line[0] == "PT"]
        np.testing.assert_allclose(points, np.column_stack([item.times / RATE, item.gains]), atol=1e-9)


def test_transposed_items_have_a_pitch_or_the_speed_of_a_tape(made):
    _, score, _ = made
    items = items_of(score)
    track = chunks(rpp.loads(rpp_text(items, score)), "TRACK")[1]
    for item, chunk in zip(items, chunks(track, "ITEM"), strict=True):
        rate, keeps, pitch = value(chunk, "PLAYRATE")[:3]
        assert (rate, keeps) == ("1", "1")
        assert float(pitch) == pytest.approx(item.semitones)
    assert any(item.semitones for item in items)
    tape = replace(score, settings=replace(score.settings, tape=True))
    items = items_of(tape)
    chunk = chunks(chunks(rpp.loads(rpp_text(items, tape)), "TRACK")[1], "ITEM")[0]
    rate, keeps, pitch = value(chunk, "PLAYRATE")[:3]
    assert (keeps, pitch) == ("0", "0")
    assert 12 * np.log2(float(rate)) == pytest.approx(items[0].semitones)
    # Points of a take's envelope are times of its source, which is played at that rate.
    (envelope,) = chunks(chunk, "VOLENV")
    at = [float(line[1]) for line in envelope if line[0] == "PT"]
    np.testing.assert_allclose(at, items[0].times / RATE * float(rate), atol=1e-9)


@pytest.mark.parametrize("shifts", ["follow", (-5.0, 5.0)])
def test_a_tape_item_plays_the_same_sample_in_the_middle_of_its_grain(made, shifts):
    target, source = demo_target(RATE)[: 2 * RATE], made[2]
    score = smalti.mosaic(target, source, RATE, preset="melodic", transpose=shifts, tape=True, iterations=8).score
    items = items_of(score)
    assert len({item.rate for item in items}) > 1
    step = max(1, score.params.hop // FINENESS)
    for item in items:
        i = score.ids.tolist().index(item.grain)
        shift = score.shifts[i]
        # The places that the tape reads are the sums of its speeds.
        n = (2 * shift.before + shift.length) * score.params.hop
        speeds = np.exp(np.interp(np.arange(n) / step, np.arange(len(shift.ratios)), np.log(shift.ratios)))
        read = shift.begin + np.cumsum(speeds) - speeds
        middle = (2 * shift.before + shift.length - 1) * score.params.hop // 2
        at = middle - shift.before * score.params.hop + int(score.frames[i]) * score.params.hop
        assert item.offset + item.rate * (at - item.start) == pytest.approx(read[middle], abs=4)


def test_items_that_overlap_all_sound(made):
    project = rpp.loads(rpp_text(items_of(made[0]), made[0]))
    assert value(project, "ITEMMIX") == ["1"]
    assert value(project, "PANLAW") == ["1"]


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1).filter(
    lambda name: not set("\"'`") <= set(name)
)


@given(NAMES)
def test_any_name_is_quoted_so_that_reaper_reads_it(name):
    score = replace(score_of_one(), sources=(Source("/" + name),))
    (source,) = chunks(chunks(chunks(parsed(rpp_text(items_of(score), score)), "TRACK")[1], "ITEM")[0], "SOURCE")
    assert value(source, "FILE") == [str(Path("/" + name))]


def test_undecodable_bytes_of_a_path_are_written_as_they_are():
    score = replace(score_of_one(), sources=(Source("/caf\udce9.wav"),))
    assert b'FILE "/caf\xe9.wav"' in exported(score, ".rpp")
    stray = replace(score, sources=(Source("/stray\ud800.wav"),))
    assert b'FILE "/stray .wav"' in exported(stray, ".rpp")


def test_channels_driven_apart_have_tracks_of_their_own():
    target, source = demo_target(RATE)[:RATE], demo_source(RATE)[: 2 * RATE]
    m = smalti.mosaic(np.stack([target, target[::-1]]), source, RATE, channels="apart", iterations=4)
    tracks = chunks(rpp.loads(rpp_text(items_of(m.score), m.score)), "TRACK")[1:]
    assert [value(track, "NAME")[0] for track in tracks] == ["source 1 (channel 1)", "source 1 (channel 2)"]
    assert [value(track, "VOLPAN")[1] for track in tracks] == ["-1", "1"]
    reduced = reduction(items_of(m.score), m.score, recordings_of(m.score, source))
    assert reduced.error_db < -25


@pytest.mark.parametrize(("channels", "modes"), [("source", {"0"}), ("mono", {"2"}), ("apart", {"3", "4"})])
def test_stereo_items_play_the_channels_that_the_mosaic_is_made_of(channels, modes):
    target, source = demo_target(RATE)[:RATE], demo_source(RATE)[: 2 * RATE]
    target, source = np.stack([target, target[::-1]]), np.stack([source, np.roll(source, 99)])
    score = smalti.mosaic(target, source, RATE, channels=channels, iterations=4).score
    score = replace(score, sources=(replace(score.sources[0], channels=2),))
    tracks = chunks(parsed(rpp_text(items_of(score), score)), "TRACK")[1:]
    assert {value(item, "CHANMODE")[0] for track in tracks for item in chunks(track, "ITEM")} == modes
    assert reduction(items_of(score), score, recordings_of(score, source)).error_db < -36


# Tables, labels, notes


def test_a_table_has_a_line_for_each_grain(made):
    score = replace(made[0], sources=(Source('rain, "heavy"\n.wav'),))
    rows = list(csv.DictReader(io.StringIO(csv_text(score), newline="")))
    assert [int(row["id"]) for row in rows] == score.ids.tolist()
    np.testing.assert_allclose([float(row["start_s"]) for row in rows], score.frames * score.hop_s, atol=1e-6)
    assert {row["source"] for row in rows} == {'rain, "heavy"\n.wav'}
    assert csv_text(score[:0]).startswith("id,start_s,")


def test_labels_are_spans_and_names(made):
    score = replace(made[0], sources=(Source("bees/a\tb\n.wav"),))
    lines = label_text(score).splitlines()
    assert len(lines) == len(score)
    for line, grain in zip(lines, score, strict=True):
        begin, end, label = line.split("\t")
        assert (float(begin), float(end)) == pytest.approx((grain.start_s, grain.start_s + grain.duration_s), abs=1e-6)
        assert label == f"{grain.id} a b .wav"


def notes_of(data):
    """Notes of a standard MIDI file, (track, begin tick, end tick, number), read by the specification alone."""
    assert data[:4] == b"MThd"
    _, _, n_tracks, division = struct.unpack(">IHHH", data[4:14])
    at, notes = 14, []
    for track in range(n_tracks):
        assert data[at : at + 4] == b"MTrk"
        (size,) = struct.unpack(">I", data[at + 4 : at + 8])
        at, end, now, status, open_ = at + 8, at + 8 + size, 0, 0, {}
        while at < end:
            delta = 0
            while True:
                byte = data[at]
                at, delta = at + 1, delta << 7 | byte & 0x7F
                if byte < 0x80:
                    break
            now += delta
            if data[at] >= 0x80:
                status, at = data[at], at + 1
            if status == 0xFF:
                at += 2 + data[at + 1]
                continue
            number, velocity = data[at], data[at + 1]
            at += 2
            if status >> 4 == 9 and velocity:
                open_.setdefault(number, []).append(now)
            else:
                notes.append((track, open_[number].pop(0), now, number))
        assert not any(open_.values())
    return division, sorted(notes, key=lambda note: (note[1], note[3]))


def test_transposed_grains_are_notes(made):
    _, score, _ = made
    data = midi_bytes(score)
    division, notes = notes_of(data)
    assert len(notes) == len(score)
    begins = sorted(np.round(1000 * score.frames * score.hop_s).astype(int).tolist())
    assert [note[1] for note in notes] == begins
    assert division == 1000
    # The pitches that sound, whatever those of the source are.
    heard = [np.median((shift.hz * shift.ratios)[shift.sounding]) for shift in score.shifts]
    assert sorted(note[3] for note in notes) == sorted(
        np.round(69 + 12 * np.log2(np.array(heard) / 440)).astype(int).tolist()
    )
    # A beat is a second.
    assert mido.MidiFile(file=io.BytesIO(data)).length == pytest.approx(max(note[2] for note in notes) / 1000)


def test_a_track_of_pitches_makes_notes_of_grains_as_recorded(made):
    score = made[0]
    f0 = np.zeros(score.n_frames)
    f0[score.frames[1] : score.frames[1] + score.lengths[1]] = 220.0
    _, notes = notes_of(midi_bytes(score.only(np.array([1])), f0))
    assert [note[3] for note in notes] == [57]
    with pytest.raises(ValueError, match=r"f0 has shape \(3,\); pass a pitch for each of the"):
        midi_bytes(score, [220.0] * 3)


def test_each_source_has_a_channel_of_its_own_but_not_that_of_the_drums(made):
    score = made[1]
    n = 17
    many = replace(
        score.only(np.zeros(n, int)), sources=tuple(Source(f"{i}.wav") for i in range(n)), origins=np.arange(n)
    )
    file = mido.MidiFile(file=io.BytesIO(midi_bytes(many)))
    channels = [{message.channel for message in track if message.type == "note_on"} for track in file.tracks[1:]]
    assert channels == [{i} for i in (*range(9), *range(10, 16), 0, 1)]


def test_without_a_pitch_there_are_no_notes(made):
    with pytest.raises(ValueError, match=r"no grain is transposed to a pitch, .* --preset melodic"):
        midi_bytes(made[0])


def test_a_score_without_grains_can_be_exported(made):
    nothing = made[0][:0]
    # Only the target is left in a project, and only the heading in a table.
    project = rpp.loads(exported(nothing, ".rpp", items_of(nothing)).decode())
    assert [len(chunks(track, "ITEM")) for track in chunks(project, "TRACK")] == [1]
    assert list(csv.reader(io.StringIO(exported(nothing, ".csv").decode()))) == [list(RECORD_FIELDS)]
    assert exported(nothing, ".txt") == b""
    assert reduction(items_of(nothing), nothing, recordings_of(nothing, made[2])).error_db is None


def test_a_project_has_all_items_unless_a_selection_is_given(made):
    score = made[0]
    assert exported(score, ".rpp") == exported(score, ".rpp", items_of(score))
    assert exported(score, ".rpp", []).count(b"<ITEM") == 1


def test_every_ending_is_known(made):
    assert set(EXPORTS) == {".rpp", ".csv", ".txt", ".mid"}
    with pytest.raises(ValueError, match=r"ending is '\.als'; pass one of"):
        exported(made[0], ".als")


# Records


def test_unchanged_records_make_the_same_score(made):
    for score in made[:2]:
        same = score_from_records(records(score), score)
        np.testing.assert_array_equal(same.gains, score.gains)
        np.testing.assert_array_equal(same.centres, score.centres)
        assert same.shifts == score.shifts


def test_edited_records_edit_the_score(made):
    score = made[0]
    edited = [record for record in records(score) if record["id"] != score.ids[1]]
    edited[0]["gain_db"] = -6.0
    edited[2]["start_s"] += 0.1
    out = score_from_records(edited, score)
    assert score.ids[1] not in out.ids
    first = out.only(out.ids == edited[0]["id"])
    np.testing.assert_allclose(first.gains, score[:1].gains * 10 ** (-6 / 20), rtol=1e-6)
    moved = out.only(out.ids == edited[2]["id"])[0]
    before = score.only(score.ids == edited[2]["id"])[0]
    shift = (moved.start - moved.source_start) - (before.start - before.source_start)
    assert shift == round(0.1 * RATE)


def test_every_record_may_be_edited_differently(made, rng):
    score = made[0]
    edited = [
        record | {"start_s": record["start_s"] + float(later), "gain_db": float(gain)}
        for record, later, gain in zip(
            records(score), rng.uniform(0, 0.05, len(score)), rng.uniform(-6, 0, len(score)), strict=True
        )
    ]
    out = score_from_records(edited, score)
    one_by_one = score
    for record, before in zip(edited, records(score), strict=True):
        mine = Selection(ids=(record["id"],))
        one_by_one = louder(one_by_one, record["gain_db"], mine)
        one_by_one = moved(one_by_one, record["start_s"] - before["start_s"], mine)
    for name in ("ids", "frames", "lengths", "centres"):
        np.testing.assert_array_equal(getattr(out, name), getattr(one_by_one, name))
    np.testing.assert_allclose(out.gains, one_by_one.gains, rtol=1e-6)
    assert out.gains.dtype == score.gains.dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 10**6}, "a record has id 1000000, which no grain of the score has"),
        ({"gain_db": float("nan")}, "gain_db of grain 1 is nan"),
        ({"start_s": float("inf")}, "start_s of grain 1 is inf"),
        ({"gain_db": ...}, "a record has no 'gain_db'"),
        ({"id": 2}, "a record has id 2, which no grain .* or an earlier record had"),
    ],
)
def test_impossible_records_are_named(made, change, message):
    first, second = records(made[0])[:2]
    edited = [second, {name: value for name, value in (first | change).items() if value is not ...}]
    with pytest.raises(ValueError, match=message):
        score_from_records(edited, made[0])


def test_a_project_holds_full_file_names():
    assert Path(__file__).name in rpp_text([], replace(score_of_one(), target=Target(__file__)))


def score_of_one():
    dictionary = build_dictionary(np.ones(400), SR, params=GRID)
    H = scipy.sparse.csc_array(([1.0], ([5], [5])), shape=(dictionary.n_atoms, GRID.n_frames(LENGTH)))
    return score_of(H, dictionary)
