"""Melodies of other programs are read, and other files are refused by name and line."""

import pytest
from kit_io import SR, put, tone

from smalti.errors import PitchFileError
from smalti.io.melody import read_melody


@pytest.fixture
def target(tmp_path):
    return put(tmp_path / "target.wav", tone(4000, SR))


def written(tmp_path, text, **kind):
    file = tmp_path / "melody.csv"
    file.write_text(text, **kind)
    return file


@pytest.mark.parametrize(
    "text",
    [
        "0,440\n0.5,0\n1,523.25\n",
        "time,hz\n0,440\n0.5,0\n1,523.25\n",
        '"time","frequency"\n"0.0","440.0"\n"0.5",""\n"1.0","523.25"\n',
        "0.0, 440, New Point\r\n0.5, -110, \r\n1, 523.25, 1\r\n",
        "# from a tracker\n0\t440\t0.99 # sure\n\n0.5\t\n1\t523.25\n",
        "0 440\n 0.5  -1e9\n1 5.2325e2",
        "Zeit;Hz\n0,0;440,0\n0,5;0,0\n1,0;523,25\n",
        "\ufeff0,440\n0.5,0\n1,523.25",
    ],
    ids=["comma", "heading", "quoted", "labels", "tabs", "spaces", "decimal commas", "byte order mark"],
)
def test_melodies_of_trackers_and_spreadsheets_are_read(tmp_path, text):
    melody = read_melody(written(tmp_path, text, encoding="utf-8"))
    assert melody.times_s.tolist() == [0, 0.5, 1]
    assert melody.hz.tolist() == [440, 0, 523.25]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it holds no pitch; write lines of seconds and hertz"),
        ("time,hz\n", "it holds no pitch"),
        ("0,0\n1,-1\n", "it holds no pitch"),
        ("one\ntwo\n0,440\n", r"line 2: 'two' is no pair of seconds and hertz; write them as '0\.5, 440'"),
        ("0,440\n0.5\n", r"line 2: '0\.5' is no pair"),
        ("0,440\n\n# rest\n0.5,A4\n", r"line 4: '0\.5,A4' is no pair"),
        ("0,440\n0.5,261,x\nhertz\n", "line 3: 'hertz' is no pair"),
        ("-0.1,440\n", r"line 1: -0\.1 is no time; write seconds from the beginning"),
        ("0,440\nnan,440\n", "line 2: nan is no time"),
        ("0,440\ninf,440\n", "line 2: inf is no time"),
        ("h\n0,440\n1,220\n0.5,440\n", r"line 4: 0\.5 s comes after 1 s; sort the lines by time"),
        ("0,440\n1,5\n", "line 2: 5 Hz is out of range; write 20 to 20000 Hz, or 0 for no pitch"),
        ("0,inf\n", "line 1: inf Hz is out of range"),
        ("0," + "x" * 10**5, r"line 1: '0,x{38}\.\.\.' is no pair"),
    ],
)
def test_faults_of_a_melody_are_named_by_file_and_line(tmp_path, text, sentence):
    with pytest.raises(PitchFileError, match=rf"^cannot read .*melody\.csv: {sentence}"):
        read_melody(written(tmp_path, text))


def test_melodies_that_are_no_text_files_are_refused(tmp_path, target):
    with pytest.raises(PitchFileError, match=r"none\.csv: no such file"):
        read_melody(tmp_path / "none.csv")
    with pytest.raises(PitchFileError, match="it is no file"):
        read_melody(tmp_path)
    with pytest.raises(PitchFileError, match=r"target\.wav: it is no text; save it as CSV"):
        read_melody(target)
    with pytest.raises(PitchFileError, match="it is no text"):
        read_melody(written(tmp_path, "0,440\n", encoding="utf-16"))


def test_a_pitch_holds_until_the_next_begins(tmp_path):
    melody = read_melody(written(tmp_path, "0.1,440\n0.3,0\n0.3,220\n0.35,330\n0.36,0\n"))
    assert melody.on_grid(5, 0.1).tolist() == [0, 440, 440, 220, 0]
    # Times are those of the recording, whose excerpt begins at 0.2 s here.
    assert melody.on_grid(3, 0.1, start_s=0.2).tolist() == [440, 220, 0]
    # A hop is seldom a round number, but a pitch on a frame must begin with that frame.
    hop_s = 512 / 22050
    on_frames = read_melody(written(tmp_path, "".join(f"{n * hop_s:.6f},{100 + n}\n" for n in range(200))))
    assert on_frames.on_grid(200, hop_s).tolist() == list(range(100, 300))
