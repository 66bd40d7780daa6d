"""Sound files of other programs are read, resampled and found, and broken ones are named."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from kit_io import SR, as_user, assert_one_sentence, files_in, put, tone

from smalti.errors import AudioFileError
from smalti.io import sound_read
from smalti.io.files import write_atomic
from smalti.io.sound_read import AUDIO_ENDINGS, AudioStream, Recording, find_audio, read_audio, resample
from smalti.io.sound_write import encode_audio, write_audio


@pytest.fixture
def noisy(rng):
    """Two seconds with noise, which no codec shrinks to nothing: half of the file is about half of the sound."""
    return tone(2 * SR, SR) + (0.05 * rng.standard_normal(2 * SR)).astype(np.float32)


def test_8_bit_silence_is_silent(tmp_path):
    path = put(tmp_path / "a.wav", np.zeros(100), subtype="PCM_U8")
    assert not read_audio(path).samples.any()


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-24)]
)
def test_integer_files_are_scaled_to_full_scale(tmp_path, subtype, step):
    values = np.array([-1.0, -0.5, 0.0, 0.25, 0.75])
    path = put(tmp_path / "a.wav", values, subtype=subtype)
    np.testing.assert_allclose(read_audio(path).samples, values, atol=step)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_files_are_not_clipped(tmp_path, subtype):
    path = put(tmp_path / "a.wav", np.array([2.5, -7.0, 0.5]), subtype=subtype)
    assert read_audio(path).samples.tolist() == [2.5, -7.0, 0.5]


def test_more_than_64_channels_are_refused(tmp_path, rng):
    path = put(tmp_path / "a.wav", rng.uniform(-1, 1, (10, 65)))
    with pytest.raises(AudioFileError, match=r"it has 65 channels, more than 64; split it up first"):
        read_audio(path)


@pytest.mark.parametrize("sr", [8000, 44100, 192_000])
def test_the_rate_is_that_of_the_file(tmp_path, sr):
    assert read_audio(put(tmp_path / "a.wav", tone(100, sr), sr)).sr == sr


FORMAT_OF = {
    ".aif": "AIFF", ".aifc": "AIFF", ".aiff": "AIFF", ".au": "AU", ".caf": "CAF", ".flac": "FLAC", ".mp3": "MP3",
    ".oga": "OGG", ".ogg": "OGG", ".opus": "OGG", ".rf64": "RF64", ".snd": "AU", ".voc": "VOC", ".w64": "W64",
    ".wav": "WAV", ".wave": "WAVEX",
}  # fmt: skip


@pytest.mark.parametrize("ending", sorted(AUDIO_ENDINGS))
def test_every_ending_we_look_for_can_be_read(tmp_path, ending):
    subtype = "OPUS" if ending == ".opus" else None
    path = put(tmp_path / f"a{ending}", tone(24000, 24000), 24000, format=FORMAT_OF[ending], subtype=subtype)
    recording = read_audio(path)
    assert len(recording.samples) == 24000
    assert recording.warnings == ()
    assert np.sqrt(np.mean(recording.samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)  # Opus is lossy


@pytest.mark.parametrize("name", ["with space.wav", "drücken 🎹.wav", "-o.wav", "-", "a'b\"c$d.wav"])
def test_odd_names_have_no_special_meaning(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_atomic(name, encode_audio(tone(500, SR), SR, ending=".wav"))
    assert files_in(tmp_path) == [name]
    assert len(read_audio(name).samples) == 500


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_that_is_not_text_is_taken(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    write_audio(path, tone(500, SR), SR)
    assert len(read_audio(path).samples) == 500
    assert find_audio([tmp_path]) == [path]


def test_a_link_is_read_and_the_hash_is_that_of_the_file(tmp_path):
    real = put(tmp_path / "real.wav", tone(500, SR))
    link = tmp_path / "link.wav"
    link.symlink_to(real)
    recording = read_audio(str(link), start_s=0.001)
    assert recording.path == link
    sum_ = subprocess.run(["sha256sum", real], capture_output=True, text=True, check=True).stdout.split()[0]
    assert recording.sha256 == sum_


def test_a_recording_checks_itself():
    good = {"sr": SR, "path": Path("a.wav"), "channels": 1, "sha256": ""}
    with pytest.raises(TypeError, match="float32"):
        Recording(np.zeros(3), **good)
    with pytest.raises(ValueError, match=r"channels is 1 but samples has shape \(3, 2\); make them agree"):
        Recording(np.zeros((3, 2), np.float32), **good)
    with pytest.raises(ValueError, match=r"shape \(99, 2\), that is 99 channels"):
        Recording(np.zeros((99, 2), np.float32), **good)
    with pytest.raises(ValueError, match="sr is 0"):
        Recording(np.zeros(3, np.float32), **(good | {"sr": 0}))


# Excerpts


@pytest.mark.parametrize(
    ("ending", "subtype"), [(".wav", None), (".flac", None), (".ogg", None), (".mp3", None), (".wav", "GSM610")]
)
def test_an_excerpt_is_a_slice_of_the_whole(tmp_path, noisy, ending, subtype):
    path = put(tmp_path / f"a{ending}", noisy, subtype=subtype)
    whole = read_audio(path).samples
    for start_s, end_s in [(None, 0.3), (0.5, 1.25), (1.7, None), (0.9, 0.9001)]:
        part = read_audio(path, start_s=start_s, end_s=end_s)
        expected = whole[round((start_s or 0) * SR) : None if end_s is None else round(end_s * SR)]
        assert np.array_equal(part.samples, expected)
        assert part.warnings == ()


def test_an_mp3_is_decoded_as_if_in_one_go(tmp_path, noisy):
    # soundfile seeks after each block that it reads, which makes errors as large as the tone.
    path = put(tmp_path / "a.mp3", noisy)
    at_once, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(read_audio(path).samples, at_once, atol=1e-6)


def test_an_end_beyond_the_end_is_clipped(tmp_path):
    path = put(tmp_path / "a.wav", tone(SR, SR))
    recording = read_audio(path, start_s=0.5, end_s=3)
    assert recording.duration_s == 0.5
    assert recording.warnings == ("the excerpt should end at 3 s but the file ends at 1.000 s; using that",)


@pytest.mark.parametrize("start_s", [1.0, 1.5, 1e308])
def test_a_start_beyond_the_end_is_refused(tmp_path, start_s):
    path = put(tmp_path / "a.wav", tone(SR, SR))
    with pytest.raises(AudioFileError, match=r"a\.wav from .* ends at 1\.000 s; choose an earlier start"):
        read_audio(path, start_s=start_s)
    with pytest.raises(AudioFileError, match=r"ends at 1\.000 s"):
        read_audio(path, start_s=start_s, end_s=start_s * 1.5)


def test_an_excerpt_of_no_sample_is_refused(tmp_path):
    path = put(tmp_path / "a.wav", tone(SR, SR))
    with pytest.raises(AudioFileError, match="not one sample"):
        read_audio(path, start_s=0.5, end_s=0.500001)


@pytest.mark.parametrize(
    ("excerpt", "match"),
    [
        ({"start_s": -0.1}, "start_s"),
        ({"start_s": np.nan}, "start_s"),
        ({"end_s": np.inf}, "end_s"),
        ({"end_s": 0}, "end_s is 0; pass seconds greater than start_s"),
        ({"start_s": 2, "end_s": 1}, "end_s is 1; pass seconds greater than start_s, 2"),
    ],
)
def test_impossible_excerpts_are_the_callers_mistake(tmp_path, excerpt, match):
    with pytest.raises(ValueError, match=match):
        read_audio(tmp_path / "does not matter.wav", **excerpt)


# Broken files


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("empty.wav", b"", "empty"),
        ("text.wav", b"hello, this is a shopping list\n" * 50, "not audio"),
        ("text.flac", b"hello, this is a shopping list\n" * 50, "not audio"),
        ("zeros.mp3", bytes(5000), "not audio"),
        ("video.mp4", b"\0\0\0\x20ftypisom" + bytes(500), "convert it"),
        ("header.wav", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0", "damaged"),
    ],
)
def test_what_is_not_audio_is_named(tmp_path, name, content, match):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AudioFileError, match=match) as error:
        read_audio(path)
    assert_one_sentence(error, path)


def test_missing_files_and_folders_are_named(tmp_path):
    for path, match in [
        (tmp_path / "no.wav", "no such file"),
        (tmp_path, "is a folder"),
        (put(tmp_path / "a.wav", tone(9, SR)) / "b.wav", "no such file"),
        (tmp_path / ("x" * 300), "name too long"),
    ]:
        with pytest.raises(AudioFileError, match=match) as error:
            read_audio(path)
        assert_one_sentence(error, path)


def test_devices_and_pipes_are_not_opened(tmp_path):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)  # opened for reading, it would hang
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(AudioFileError, match="device or a pipe") as error:
            read_audio(path)
        assert_one_sentence(error, path)


@as_user
def test_a_file_without_read_permission_is_named(tmp_path):
    path = put(tmp_path / "a.wav", tone(9, SR))
    path.chmod(0)
    with pytest.raises(AudioFileError, match="permission denied") as error:
        read_audio(path)
    assert_one_sentence(error, path)


def test_a_failing_disk_is_reported(tmp_path, monkeypatch):
    path = put(tmp_path / "a.wav", tone(9, SR))

    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sound_read.hashlib, "file_digest", fail)
    with pytest.raises(AudioFileError, match="input/output error") as error:
        read_audio(path)
    assert_one_sentence(error, path)


def test_a_file_without_samples_is_refused(tmp_path):
    path = put(tmp_path / "a.wav", np.zeros(0))
    with pytest.raises(AudioFileError, match="holds no samples") as error:
        read_audio(path)
    assert_one_sentence(error, path)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("channels", [1, 2])
def test_impossible_samples_are_counted_and_located(tmp_path, poison, channels):
    samples = np.zeros((SR, channels), np.float32)
    samples[[11025, 11026, 20000], 0] = poison
    path = put(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"3 of its samples are NaN.*first at 0\.500 s") as error:
        read_audio(path)
    assert_one_sentence(error, path)
    with pytest.raises(AudioFileError, match=r"1 of its samples .*first at 0\.907 s"):
        read_audio(path, start_s=0.6)
    assert not read_audio(path, end_s=0.5).samples.any()


def test_infinities_that_cancel_are_found(tmp_path):
    path = put(tmp_path / "a.wav", np.array([[0, 0], [np.inf, -np.inf]], np.float32), subtype="FLOAT")
    with pytest.raises(AudioFileError, match="1 of its samples"):
        read_audio(path)


def test_a_rate_too_low_for_sound_is_refused(tmp_path):
    path = put(tmp_path / "seismic.wav", np.zeros(50), 100)
    with pytest.raises(AudioFileError, match="sample rate is 100 Hz") as error:
        read_audio(path)
    assert_one_sentence(error, path)


@pytest.mark.parametrize("ending", [".wav", ".aiff", ".au", ".w64", ".rf64", ".flac", ".mp3"])
def test_a_file_cut_in_half_is_read_up_to_the_cut(tmp_path, noisy, ending):
    path = put(tmp_path / f"a{ending}", noisy, format=FORMAT_OF[ending])
    whole = read_audio(path).samples
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    recording = read_audio(path)
    n = len(recording.samples)
    assert 0.8 * SR < n < 1.1 * SR  # a FLAC or MP3 of noise is not quite even
    np.testing.assert_allclose(recording.samples, whole[:n], atol=1e-6)
    # Some of the promised sizes include headers, so they are slightly off.
    (warning,) = recording.warnings
    lengths = re.fullmatch(
        r"truncated(?: or damaged)?: the header promises (\S+) s but only (\S+) s can be read; using that", warning
    )
    assert lengths, warning
    assert float(lengths[1]) == pytest.approx(2, abs=0.005)
    assert float(lengths[2]) == pytest.approx(n / SR, abs=0.0005)


def test_an_excerpt_before_the_cut_has_no_warning(tmp_path, noisy):
    path = put(tmp_path / "a.wav", noisy)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert read_audio(path, end_s=0.5).warnings == ()
    first, second = read_audio(path, end_s=1.5).warnings
    assert first.startswith("truncated")
    assert second.startswith("the excerpt should end at 1.5 s but the file ends at 1.000 s")


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_a_stream_says_what_reading_says_of_a_cut_file(tmp_path, noisy, ending, share):
    path = put(tmp_path / f"a{ending}", noisy)
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    try:
        recording = read_audio(path)
    except AudioFileError as error:
        with pytest.raises(AudioFileError, match=f"^{re.escape(str(error))}$"):
            list(AudioStream(path).stretches(5000))
        return
    stream = AudioStream(path)
    samples = np.concatenate(list(stream.stretches(5000)), axis=1)
    np.testing.assert_array_equal(samples, recording.samples[None])
    assert tuple(stream.warnings) == recording.warnings


@pytest.mark.parametrize(
    ("ending", "header", "match"),
    [
        (".wav", 44, "truncated or damaged and nothing"),
        (".aiff", 54, "truncated or damaged and nothing"),
        (".flac", 200, "damaged"),
        (".ogg", 200, "damaged"),
        (".mp3", 200, "not audio"),
    ],
)
def test_a_file_cut_after_its_header_is_refused(tmp_path, noisy, ending, header, match):
    path = put(tmp_path / f"a{ending}", noisy)
    path.write_bytes(path.read_bytes()[:header])
    with pytest.raises(AudioFileError, match=match) as error:
        read_audio(path)
    assert_one_sentence(error, path)


def test_a_cut_ogg_is_read_page_by_page_or_refused(tmp_path, rng):
    noise = rng.uniform(-0.5, 0.5, 10 * SR).astype(np.float32)
    path = tmp_path / "a.ogg"
    write_audio(path, noise, SR)
    whole, data = read_audio(path).samples, path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    recording = read_audio(path)
    n = len(recording.samples)
    assert 2 * SR < n < 8 * SR
    assert np.array_equal(recording.samples, whole[:n])
    assert recording.warnings == (f"truncated: only {n / SR:.3f} s can be read; using that",)
    path.write_bytes(data[:5000])  # within the first page of sound
    with pytest.raises(AudioFileError, match="truncated or damaged and nothing of it can be decoded") as error:
        read_audio(path)
    assert_one_sentence(error, path)


def test_a_size_left_open_is_not_a_promise(tmp_path, noisy):
    # Programs that write into a pipe leave such sizes.
    data = bytearray(encode_audio(noisy, SR, ending=".wav"))
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000):
        data[40:44] = size.to_bytes(4, "little")
        path = tmp_path / "a.wav"
        path.write_bytes(data)
        recording = read_audio(path)
        assert (recording.duration_s, recording.warnings) == (2, ())


@pytest.mark.parametrize(("length", "warns"), [(0, False), (2**36 - 1, True)])
def test_the_length_a_flac_claims_is_not_believed(tmp_path, noisy, length, warns):
    data = bytearray(encode_audio(noisy, SR, ending=".flac"))
    # STREAMINFO follows "fLaC" and a block header of 4 bytes. The last 36 bits of its first 18 bytes are the length,
    # where 0 stands for unknown.
    bits = int.from_bytes(data[8:26], "big") >> 36 << 36 | length
    data[8:26] = bits.to_bytes(18, "big")
    path = tmp_path / "a.flac"
    path.write_bytes(data)
    recording = read_audio(path)
    assert recording.duration_s == 2
    assert bool(recording.warnings) == warns


CHATTER = """
import sys, threading
from smalti.io.sound_read import read_audio
from smalti.errors import AudioFileError

def read_all():
    for path in sys.argv[1:]:
        try:
            read_audio(path)
        except AudioFileError as error:
            print(error, file=sys.stderr)

read_all()
print("now with a thread", file=sys.stderr)
stop = threading.Event()
threading.Thread(target=stop.wait).start()
read_all()
stop.set()
"""


def test_the_mp3_decoder_is_silenced_only_without_other_threads(tmp_path, noisy):
    half = put(tmp_path / "half.mp3", noisy)
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    text = tmp_path / "text.mp3"
    text.write_text("not a sound\n" * 100)
    run = subprocess.run([sys.executable, "-c", CHATTER, half, text], capture_output=True, text=True, check=True)
    alone, threaded = run.stderr.split("now with a thread\n")
    assert alone.startswith(f"cannot read {text}")
    assert alone.count("\n") == 1
    assert threaded.endswith(alone)
    assert threaded != alone, "the redirection would have swallowed another thread's output too"


# Resampling


@pytest.mark.parametrize(("sr", "target_sr"), [(44100, 22050), (22050, 44100), (48000, 44100), (8000, 192_000)])
def test_a_sine_keeps_its_pitch_level_and_place(sr, target_sr):
    out = resample(tone(sr, sr), sr, target_sr)
    assert out.dtype == np.float32
    assert len(out) == target_sr
    # At the ends the filter sees silence; in the middle, only the rounding of float32 remains.
    middle = slice(target_sr // 4, -target_sr // 4)
    np.testing.assert_allclose(out[middle], tone(target_sr, target_sr)[middle], atol=2e-6)


def test_frequencies_above_half_the_lower_rate_are_removed():
    out = resample(tone(44100, 44100, hz=9000, level=1), 44100, 16000)
    assert np.abs(out[4000:-4000]).max() < 1e-5  # an alias would be at 7000 Hz; "very high quality" is below -100 dB


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 3000), st.integers(1000, 200_000), st.integers(1000, 200_000))
def test_the_resampled_length_is_rounded_to_the_nearest(n, sr, target_sr):
    assert len(resample(np.zeros(n, np.float32), sr, target_sr)) == (2 * n * target_sr + sr) // (2 * sr)


def test_the_same_rate_changes_nothing():
    samples = tone(100, SR)
    assert resample(samples, SR, SR) is samples


def test_resample_refuses_impossible_arguments():
    with pytest.raises(ValueError, match="target_sr is 0"):
        resample(tone(9, SR), SR, 0)
    with pytest.raises(TypeError, match=r"sr is 22050\.5"):
        resample(tone(9, SR), SR + 0.5, SR)
    with pytest.raises(ValueError, match="99 channels"):
        resample(np.zeros((99, 2), np.float32), SR, 8000)


def test_each_channel_is_resampled_as_if_alone(rng):
    samples = rng.uniform(-1, 1, (3, 5000)).astype(np.float32)
    together = resample(samples, SR, 16000)
    for channel, alone in zip(together, samples, strict=True):
        np.testing.assert_array_equal(channel, resample(alone, SR, 16000))


# Finding


@pytest.fixture
def tree(tmp_path):
    for name in (
        "b.wav", "a.FLAC", "c/d.Mp3", "c/e/f.ogg", "c-2.wav", "notes.txt", "cover.png", "noending",
        ".hidden.wav", "._b.wav", ".git/g.wav", "c/._d.mp3", "docs/readme.md",
    ):  # fmt: skip
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "tree"


def names(found, tree):
    return [path.relative_to(tree).as_posix() for path in found]


def test_a_folder_is_searched_in_order_without_hidden_names(tree):
    assert names(find_audio([tree]), tree) == ["a.FLAC", "b.wav", "c/d.Mp3", "c/e/f.ogg", "c-2.wav"]


def test_named_files_are_kept_and_count_once(tree, monkeypatch):
    (tree / "link.wav").symlink_to(tree / "b.wav")
    found = find_audio([tree / "notes.txt", str(tree / "c" / "e"), tree / "link.wav", tree])
    assert names(found, tree) == ["notes.txt", "c/e/f.ogg", "link.wav", "a.FLAC", "c/d.Mp3", "c-2.wav"]
    assert find_audio([tree, tree]) == find_audio([tree])
    monkeypatch.chdir(tree)
    assert find_audio(["b.wav", tree / "b.wav", ".hidden.wav"]) == [Path("b.wav"), Path(".hidden.wav")]


def test_links_that_lead_nowhere_or_in_circles_are_skipped(tree):
    (tree / "c" / "up").symlink_to(tree)
    (tree / "c" / "self.wav").symlink_to(tree / "c" / "self.wav")
    (tree / "gone.wav").symlink_to(tree / "was here.wav")
    assert names(find_audio([tree]), tree) == ["a.FLAC", "b.wav", "c/d.Mp3", "c/e/f.ogg", "c-2.wav"]


def test_a_linked_folder_is_searched(tree, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "z.wav").write_bytes(b"x")
    (tree / "link").symlink_to(elsewhere)
    assert names(find_audio([tree]), tree)[-1] == "link/z.wav"


def test_places_without_sound_files_are_refused(tree):
    with pytest.raises(AudioFileError, match=r"no sound file in .*docs.*\.wav") as error:
        find_audio([tree, tree / "docs"])
    assert_one_sentence(error, tree / "docs")
    with pytest.raises(AudioFileError, match="no such file or folder") as error:
        find_audio([tree / "no"])
    assert_one_sentence(error, tree / "no")
    with pytest.raises(TypeError, match="put it in a list"):
        find_audio(str(tree))


@as_user
def test_a_folder_without_permission_is_named(tree):
    (tree / "c").chmod(0)
    with pytest.raises(AudioFileError, match="permission denied") as error:
        find_audio([tree])
    (tree / "c").chmod(0o755)
    assert_one_sentence(error, tree)


def test_an_mp3_without_its_length_is_not_called_truncated(tmp_path: Path, rng: np.random.Generator) -> None:
    # At constant bit rate without a Xing header, libsndfile guesses the length from the bytes, which include a tag.
    path = tmp_path / "tagged.mp3"
    with soundfile.SoundFile(
        path, "w", SR, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=0.9
    ) as file:
        file.write(rng.uniform(-0.3, 0.3, 5 * SR))
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    recording = read_audio(path)
    assert recording.warnings == ()
    assert recording.duration_s == pytest.approx(5, abs=0.1)
