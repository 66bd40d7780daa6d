"""Inputs and outputs of workflows, refusals before any work, and reports."""

import json
import os
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from threadpoolctl import threadpool_limits

import smalti
from helpers import finish
from smalti.dsp.conditioning import LOUDEST_PEAK, QUIETEST
from smalti.dsp.stft import StftParams
from smalti.errors import AudioFileError, MissingExtraError, PitchFileError, SmaltiError
from smalti.grains.shifted import Shift
from smalti.io.files import make_folder
from smalti.io.melody import read_melody
from smalti.io.sound_read import read_audio
from smalti.mosaicing.memory import memory_needed
from smalti.mosaicing.mosaic import assemble, part_of
from smalti.mosaicing.prepare import channel_jobs, prepare
from smalti.mosaicing.solve import solve_steps
from smalti.presets import PRESETS, configure
from smalti.workflows.inputs import Excerpt, FileSource, Inputs, TargetInput, read_inputs
from smalti.workflows.locate import check_score_memory
from smalti.workflows.make import check_memory
from smalti.workflows.outputs import FIGURES, Outputs, check_outputs, figures_of, grain_notes
from smalti.workflows.report import describe_transposition, report_json, write_report

SR = 8000


@pytest.fixture(autouse=True)
def one_thread():
    """Test workers that each ask for every core wait for one another."""
    with threadpool_limits(1):
        yield


def tone(n, sr=SR, hz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(n) / sr)).astype(np.float32)


def put(path, samples, sr=SR, **kind):
    soundfile.write(path, samples, sr, **kind)
    return path


@pytest.fixture
def target(tmp_path):
    return put(tmp_path / "target.wav", tone(4000))


@pytest.fixture
def source(tmp_path):
    return put(tmp_path / "source.wav", tone(4000, hz=300))


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in {"matplotlib", *sys.modules}:
        if name.split(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "smalti.plots", raising=False)


# Inputs


def test_sources_are_resampled_to_the_rate_of_the_target(tmp_path, target):
    fast = put(tmp_path / "fast.wav", tone(24000, sr=24000, hz=1000), sr=24000)
    inputs = read_inputs(target, [fast])
    assert (inputs.sr, len(inputs.target.samples), len(inputs.source.samples[0])) == (SR, 4000, 8000)
    # A second of 1 kHz stays a second of 1 kHz.
    spectrum = np.abs(np.fft.rfft(inputs.source.samples[0]))
    assert spectrum.argmax() == 1000
    assert (inputs.target.recording.sr, inputs.source.recordings[0].sr) == (SR, 24000)
    (warning,) = inputs.warnings
    assert warning == f"at the {SR} Hz of {target}, what {fast} has above {SR // 2} Hz is lost; --sr 24000 keeps it"


def test_losses_by_another_rate_than_the_target_s_are_warned_of(target, source):
    inputs = read_inputs(target, [source], sr=SR // 2)
    assert (inputs.sr, len(inputs.target.samples)) == (SR // 2, len(read_audio(target).samples) // 2)
    assert inputs.warnings == (f"working at {SR // 2} Hz: what {target} has above {SR // 4} Hz is lost",)
    assert read_inputs(target, [source], sr=2 * SR).warnings == ()


def test_only_the_target_is_cut_to_the_excerpt(target, source):
    inputs = read_inputs(target, [source], excerpt=Excerpt(0.1, 0.3))
    assert (len(inputs.target.samples), len(inputs.source.samples[0])) == (1600, 4000)


def test_unusable_files_are_skipped_with_a_warning(tmp_path, target, source):
    folder = tmp_path / "takes"
    folder.mkdir()
    (folder / "text.wav").write_text("no sound")
    put(folder / "loud.wav", tone(100, level=20 * LOUDEST_PEAK), subtype="FLOAT")
    good = put(folder / "good.wav", tone(100))
    inputs = read_inputs(target, [folder, source])
    assert [recording.path for recording in inputs.source.recordings] == [good, source]
    assert [len(samples) for samples in inputs.source.samples] == [100, 4000]
    assert set(inputs.source.skipped) == {str(folder / "text.wav"), str(folder / "loud.wav")}
    assert len(inputs.warnings) == 2
    assert set(inputs.files) == {target, source, good, folder / "text.wav", folder / "loud.wav"}


def test_if_no_file_can_be_used_the_fault_is_named(tmp_path, target):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("no sound")
    with pytest.raises(AudioFileError, match=r"none of the 2 source files can be used; the last: cannot read .*b\.wav"):
        read_inputs(target, [tmp_path / "a.wav", tmp_path / "b.wav"])
    with pytest.raises(AudioFileError, match=r"^cannot read .*a\.wav"):
        read_inputs(target, [tmp_path / "a.wav"])


@pytest.mark.parametrize("level", [0, QUIETEST / 10, 1e-40], ids=["zero", "next to nothing", "denormal"])
def test_a_source_without_sound_is_refused(tmp_path, target, level):
    silent = put(tmp_path / "silent.wav", np.full(100, level, np.float32), subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"source is silent.*silent\.wav"):
        read_inputs(target, [silent])
    assert len(read_inputs(target, [silent, target]).source.recordings) == 2


def test_the_loudest_and_the_quietest_accepted_files_make_finite_mosaics(tmp_path):
    loud = put(tmp_path / "loud.wav", tone(2000, level=LOUDEST_PEAK), subtype="FLOAT")
    quiet = put(tmp_path / "quiet.wav", tone(2000, level=3 * QUIETEST), subtype="FLOAT")
    for target, source in ((loud, quiet), (quiet, loud)):
        inputs = read_inputs(target, [source])
        for name in PRESETS:
            settings = configure(name, iterations=None if name == "sparse" else 3)
            # The longest window that the command line takes.
            for n_fft in (512, 2**17):
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "(target|source).* fewer than one window")
                    job = prepare(
                        inputs.target.samples,
                        list(inputs.source.samples),
                        inputs.sr,
                        settings,
                        params=StftParams(n_fft, n_fft // 4),
                    )
                steps = list(solve_steps(job))
                mosaic = finish(job, steps[-1], [step.divergence for step in steps])
                assert np.isfinite(mosaic.audio).all()
                assert np.isfinite(mosaic.divergences).all()


def test_too_loud_and_too_short_recordings_are_refused(tmp_path, target, source):
    loud = put(tmp_path / "loud.wav", tone(100, level=20 * LOUDEST_PEAK), subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"cannot use .*loud\.wav: it peaks at .* where 1 is full scale"):
        read_inputs(loud, [source])
    # One sample at 96 kHz is a twelfth of one at 8 kHz.
    short = put(tmp_path / "short.wav", tone(1, sr=96000) + 0.5, sr=96000)
    with pytest.raises(AudioFileError, match=r"cannot use .*short\.wav: .* less than one sample at 8000 Hz"):
        read_inputs(target, [short])
    with pytest.raises(AudioFileError, match=r"short\.wav"):
        read_inputs(short, [source], sr=8000)


def test_a_file_as_both_target_and_source_is_warned_of(target):
    assert "target and source at once" in read_inputs(target, [target]).warnings[0]


# Melodies


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


# Transposition


def transposed(n_channels=1, **knobs):
    """A mosaic of two recordings of a tone, first an octave down, then at its own pitch; and the melody."""
    settings = configure("melodic", iterations=2, **knobs)
    shape = (2, 8000) if n_channels == 2 else (8000,)
    sound = np.broadcast_to(tone(8000, hz=440), shape).copy()
    hop = StftParams.from_seconds(settings.window_s, settings.hop_s, SR).hop
    n_frames = 1 + 8000 // hop
    melody = np.where(np.arange(n_frames) < n_frames // 2, 220.0, 440.0)
    job = prepare(
        sound,
        [sound, sound[..., :6000]],
        SR,
        settings,
        names=["a.wav", "b.wav"],
        target_f0=None if isinstance(settings.transpose, tuple) else melody,
        source_f0=[np.full(1 + n // hop, 440.0) for n in (8000, 6000)],
    )
    parts = []
    for channel in channel_jobs(job):
        steps = list(solve_steps(channel))
        parts.append(part_of(channel, steps[-1], [step.divergence for step in steps]))
    return assemble(job, parts), melody


def test_the_report_has_every_grain_and_both_pitches():
    mosaic, melody = transposed()
    described = describe_transposition(mosaic)
    assert json.loads(report_json(described)) == described
    assert (described["way"], described["reason"], described["melody"]) == ("follow", "its notes are given", None)
    assert (described["tune_cents"], described["n_voices"]) == (0, 1)
    assert described["hop_s"] == mosaic.dictionary.hop_s
    assert described["target_f0_hz"] == melody.tolist()
    assert [set(track) for track in described["source_f0_hz"]] == [{440.0}, {440.0}]
    assert sum(map(len, described["source_f0_hz"])) == mosaic.dictionary.n_atoms
    turn_s = len(melody) // 2 * described["hop_s"]
    for grain in described["grains"]:
        assert grain["source"] in ("a.wav", "b.wav")
        assert grain["channel"] is None
        assert 0 <= grain["source_start_s"] <= 1
        assert 0 < grain["duration_s"] <= 1.1
        if grain["start_s"] + grain["duration_s"] < turn_s:
            assert grain["shift_semitones"] == -12
        elif grain["start_s"] >= turn_s:
            assert grain["shift_semitones"] == 0
        else:
            assert -12 <= grain["shift_semitones"] <= 0
    # The grains cover the sound from its beginning.
    starts = [grain["start_s"] for grain in described["grains"]]
    assert starts == sorted(starts)
    assert starts[0] < 0.2


def test_the_notes_of_grains_are_the_pitches_that_they_play():
    mosaic, melody = transposed()
    notes = grain_notes(mosaic)
    assert notes.shape[1] == 4
    assert set(notes[:, 2].round(2)) == {220, 440}
    begin, end, hz, shift = notes.T
    assert (begin >= 0).all()
    assert (end > begin).all()
    np.testing.assert_allclose(440 * 2 ** (shift / 12), hz)
    # No note goes on into the next one's time.
    turn_s = (len(melody) // 2 - 0.5) * mosaic.dictionary.hop_s
    assert end[hz < 300].max() <= turn_s + 1e-9
    assert begin[hz > 300].min() >= turn_s - 1e-9


def test_grains_of_channels_driven_apart_name_their_channel():
    mosaic, _ = transposed(2, channels="apart")
    assert {grain["channel"] for grain in describe_transposition(mosaic)["grains"]} == {0, 1}
    assert len(grain_notes(mosaic)) % 2 == 0


def test_fixed_shifts_are_described_and_no_shift_has_no_description():
    mosaic, _ = transposed(transpose=(-12.0, -12.0))
    described = describe_transposition(mosaic)
    assert (described["way"], described["n_voices"]) == ("shifts", 1)
    assert {grain["shift_semitones"] for grain in described["grains"]} == {-12}
    job = prepare(tone(8000), tone(8000), SR, configure(iterations=1))
    steps = list(solve_steps(job))
    mosaic = finish(job, steps[-1], [0.0])
    assert describe_transposition(mosaic) is None
    assert grain_notes(mosaic).shape == (0, 4)


# Outputs


def test_a_transposed_mosaic_may_have_one_more_figure(tmp_path):
    assert figures_of(configure("balanced")) == FIGURES
    for settings in (configure("melodic"), configure("balanced", transpose=(0.0, 2.0))):
        assert figures_of(settings) == (*FIGURES, "pitch")
    outputs = Outputs(tmp_path / "a.wav", figures=tmp_path, drawn=figures_of(configure("melodic")))
    assert tmp_path / "pitch.png" in outputs.files()
    (tmp_path / "pitch.png").touch()
    with pytest.raises(AudioFileError, match=r"pitch\.png: it already exists"):
        check_outputs(outputs, [])
    # A figure that is not drawn cannot be in the way.
    check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path), [])


def test_all_files_that_will_be_written_are_known(tmp_path):
    outputs = Outputs(tmp_path / "a.wav", figures=tmp_path / "f", report=tmp_path / "r.json")
    drawn = [tmp_path / "f" / f"{name}.png" for name in FIGURES]
    assert outputs.files() == [tmp_path / "a.wav", *drawn, tmp_path / "r.json"]
    assert Outputs(tmp_path / "a.wav").files() == [tmp_path / "a.wav"]


def test_a_check_writes_nothing(tmp_path, target, source):
    before = sorted(tmp_path.rglob("*"))
    outputs = Outputs(tmp_path / "a.wav", figures=tmp_path / "f", report=tmp_path / "r.json")
    check_outputs(outputs, [target, source])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("way", ["name", "dots", "symbolic link", "hard link"])
def test_no_result_replaces_an_input(tmp_path, target, way):
    alias = tmp_path / "alias.wav"
    if way == "name":
        alias = target
    elif way == "dots":
        (tmp_path / "x").mkdir()
        alias = tmp_path / "x" / ".." / target.name
    elif way == "symbolic link":
        alias.symlink_to(target)
    else:
        alias.hardlink_to(target)
    for outputs in (Outputs(alias, overwrite=True), Outputs(tmp_path / "a.wav", report=alias, overwrite=True)):
        with pytest.raises(ValueError, match="is an input of this mosaic"):
            check_outputs(outputs, [target])


def test_a_figure_may_not_replace_an_input_either(tmp_path):
    (tmp_path / "f").mkdir()
    picture = tmp_path / "f" / "similarity.png"
    with pytest.raises(ValueError, match=r"similarity\.png is an input"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "f"), [picture])


def test_two_results_need_two_names(tmp_path):
    with pytest.raises(ValueError, match=r"a\.wav is named for two results"):
        check_outputs(Outputs(tmp_path / "a.wav", report=tmp_path / "." / "a.wav"), [])
    with pytest.raises(ValueError, match=r"divergence\.png is named for two results"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "f", report=tmp_path / "f" / "divergence.png"), [])


def test_a_missing_folder_for_figures_is_no_place_for_the_sound(tmp_path):
    """The folder is made for the figures, which come last: the sound would find no folder."""
    with pytest.raises(AudioFileError, match=r"new.a\.wav: there is no folder"):
        check_outputs(Outputs(tmp_path / "new" / "a.wav", figures=tmp_path / "new"), [])
    with pytest.raises(AudioFileError, match=r"r\.json: there is no folder"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "new", report=tmp_path / "new" / "r.json"), [])


def test_figures_need_a_folder_or_a_place_for_one(tmp_path, target):
    with pytest.raises(AudioFileError, match="it is not a folder"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=target), [])
    with pytest.raises(AudioFileError, match=r"no folder .*no; create it"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "no" / "f"), [])
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "divergence.png").touch()
    with pytest.raises(AudioFileError, match=r"divergence\.png: it already exists"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "f"), [])
    check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "f", overwrite=True), [])


def test_the_format_must_take_the_rate_and_subtype(tmp_path):
    check_outputs(Outputs(tmp_path / "a.mp3"), [])
    with pytest.raises(ValueError, match="MP3 cannot have a sample rate of 96000 Hz"):
        check_outputs(Outputs(tmp_path / "a.mp3"), [], sr=96000)
    with pytest.raises(ValueError, match="FLOAT"):
        check_outputs(Outputs(tmp_path / "a.flac", subtype="FLOAT"), [])


def test_missing_matplotlib_is_found_before_the_work(tmp_path, without_matplotlib):
    with pytest.raises(MissingExtraError, match=r"smalti\[plots\]"):
        check_outputs(Outputs(tmp_path / "a.wav", figures=tmp_path / "f"), [])
    check_outputs(Outputs(tmp_path / "a.wav"), [])


def test_a_folder_is_made_once_and_only_in_an_existing_folder(tmp_path, target):
    make_folder(tmp_path / "f")
    make_folder(tmp_path / "f")
    assert (tmp_path / "f").is_dir()
    with pytest.raises(AudioFileError, match=r"cannot make the folder .*target\.wav: .*exists"):
        make_folder(target)
    with pytest.raises(AudioFileError, match="no such file"):
        make_folder(tmp_path / "a" / "b")


# Memory


def inputs_of(n_target, *n_sources):
    """Inputs as if from files; memory depends only on their lengths."""
    samples = tuple(np.zeros(n, np.float32) for n in n_sources)
    return Inputs(TargetInput(None, np.zeros(n_target, np.float32)), FileSource((), samples), SR)


def test_a_job_beyond_the_machine_is_refused(monkeypatch):
    settings, params = PRESETS["classic"], StftParams(64, 16)
    inputs = inputs_of(16000, 8000, 8000)
    n_frames, n_atoms = params.n_frames(16000), 2 * params.n_frames(8000)
    needed = memory_needed(n_atoms, n_frames, settings, params, sr=SR)

    def machine_of(n_bytes):
        monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": n_bytes}.__getitem__, raising=False)

    machine_of(2 * needed)
    check_memory(inputs, settings, inputs.plan(settings, params))
    machine_of(needed)
    with pytest.raises(SmaltiError, match=f"{n_atoms} source frames by {n_frames} target frames .* shorter target"):
        check_memory(inputs, settings, inputs.plan(settings, params))


def test_transposed_grains_count_in_the_memory_of_a_score():
    dictionary = smalti.build_dictionary(np.ones(4000, np.float32), SR)
    score = smalti.mosaic(np.ones(4000, np.float32), dictionary, SR, preset="sparse").score[:1]
    check_score_memory(score)
    huge = Shift(0, 0, int(score.lengths[0]), 10**8, np.ones(9), np.ones(9))
    with pytest.raises(SmaltiError, match=r"need about .* GB of memory"):
        check_score_memory(replace(score, shifts=(huge,)))


def test_a_machine_that_does_not_report_its_memory_is_trusted(monkeypatch):
    def sysconf(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", sysconf, raising=False)
    inputs, settings = inputs_of(10**6, 10**6), PRESETS["classic"]
    check_memory(inputs, settings, inputs.plan(settings, StftParams(4, 1)))


# Report


def test_a_report_is_ascii_and_keeps_every_name():
    name = os.fsdecode("grüße 🎻 \x1b".encode() + b"\xff")
    text = report_json({"path": name, "divergence": [1.5, 2.0]})
    assert text.isascii()
    assert json.loads(text) == {"path": name, "divergence": [1.5, 2.0]}


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_report_never_holds_nan_or_infinity(number):
    with pytest.raises(ValueError, match="JSON"):
        report_json({"fit": number})


def test_a_report_is_written_if_one_is_wanted(tmp_path):
    write_report(Outputs(tmp_path / "a.wav"), {"fit": 0.5})
    assert list(tmp_path.iterdir()) == []
    write_report(Outputs(tmp_path / "a.wav", report=tmp_path / "r.json"), {"fit": 0.5})
    assert json.loads((tmp_path / "r.json").read_text()) == {"fit": 0.5}
