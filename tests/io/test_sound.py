"""Sound files: written sounds come back, broken files are named, and files are never replaced unasked."""

import errno
import io
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from smalti.errors import AudioFileError
from smalti.io import sound_read, sound_write
from smalti.io.files import check_writable, same_file, write_atomic
from smalti.io.sound_read import AUDIO_ENDINGS, Recording, find_audio, read_audio, resample
from smalti.io.sound_write import check_format, encode_audio, write_audio

SR = 22050

as_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not stop the superuser"
)


def tone(n, sr, hz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(n) / sr)).astype(np.float32)


@pytest.fixture
def noisy(rng):
    """Two seconds with noise, which no codec shrinks to nothing: half of the file is about half of the sound."""
    return tone(2 * SR, SR) + (0.05 * rng.standard_normal(2 * SR)).astype(np.float32)


def put(path, samples, sr=SR, **kind):
    soundfile.write(path, samples, sr, **kind)
    return path


def files_in(folder):
    return sorted(p.name for p in folder.iterdir())


# Round trips


@pytest.mark.parametrize(
    ("ending", "subtype", "bits"),
    [(".wav", "PCM_16", 16), (".wav", "PCM_24", 24), (".flac", "PCM_16", 16), (".flac", "PCM_24", 24)],
)
def test_pcm_is_off_by_half_a_code_at_most_and_not_to_one_side(tmp_path, rng, ending, subtype, bits):
    samples = rng.uniform(-0.99, 0.99, 20_000).astype(np.float32)
    path = tmp_path / f"a{ending}"
    write_audio(path, samples, SR, subtype=subtype)
    back = read_audio(path)
    assert (back.sr, back.channels, back.warnings) == (SR, 1, ())
    assert back.samples.dtype == np.float32
    error = (back.samples.astype(np.float64) - samples) * 2 ** (bits - 1)
    # float32 has 24 bits, so at 24 bits its own rounding adds no error.
    assert np.abs(error).max() <= 0.5
    # Rounding down would be off by half a code on average; by chance, the mean is off by 0.29 / sqrt(20000).
    assert abs(error.mean()) < 0.02


@pytest.mark.parametrize(
    ("ending", "subtype"), [(".wav", "PCM_16"), (".wav", "PCM_24"), (".flac", "PCM_24"), (".wav", "FLOAT")]
)
def test_samples_that_were_read_are_written_back_unchanged(tmp_path, rng, ending, subtype):
    first, second = tmp_path / f"1{ending}", tmp_path / f"2{ending}"
    write_audio(first, rng.uniform(-1, 1, 5000).astype(np.float32), SR, subtype=subtype)
    read = read_audio(first)
    write_audio(second, read.samples, SR, subtype=subtype)
    assert second.read_bytes() == first.read_bytes()
    assert read_audio(second).sha256 == read.sha256


def test_float_keeps_samples_beyond_full_scale(tmp_path):
    samples = np.array([0.0, -3.5, 1.25, 1e-20], np.float32)
    path = tmp_path / "a.wav"
    write_audio(path, samples, SR, subtype="FLOAT")
    assert np.array_equal(read_audio(path).samples, samples)


@pytest.mark.parametrize("ending", [".wav", ".flac"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_full_scale_does_not_wrap_around(tmp_path, ending, subtype):
    samples = np.array([1.0, -1.0, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    path = tmp_path / f"a{ending}"
    write_audio(path, samples, SR, subtype=subtype)
    # 1 has no code; the largest code is 2**-15 or 2**-23 below it.
    np.testing.assert_allclose(read_audio(path).samples, samples, atol=2**-14)


@pytest.mark.parametrize("ending", [".ogg", ".mp3"])
@pytest.mark.parametrize("sr", [8000, 22050, 44100, 48000])
def test_lossy_formats_keep_length_place_and_sound(tmp_path, ending, sr):
    samples = tone(sr + 17, sr) + tone(sr + 17, sr, hz=1234, level=0.2)
    path = tmp_path / f"a{ending}"
    write_audio(path, samples, sr)
    back = read_audio(path)
    assert (back.sr, len(back.samples), back.warnings) == (sr, len(samples), ())
    error = back.samples - samples
    # Two tones are easy: errors 20 dB below them are ample for coders, and a shift by one sample is worse.
    assert np.square(error).mean() < 0.01 * np.square(samples).mean()


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
@pytest.mark.parametrize("n", [1, 10, 1151, 4096, 4097, 30_011])
def test_every_length_comes_back(tmp_path, ending, n):
    path = tmp_path / f"a{ending}"
    write_audio(path, tone(n, 44100) + np.float32(0.01), 44100)
    assert len(read_audio(path).samples) == n


def test_a_minute_of_ogg_does_not_overflow_the_stack(tmp_path):
    path = tmp_path / "a.ogg"
    write_audio(path, tone(60 * SR, SR), SR)
    assert read_audio(path).duration_s == 60


@pytest.mark.parametrize(
    ("ending", "subtype"),
    [(".wav", None), (".wav", "FLOAT"), (".flac", None), (".mp3", None)],
)
def test_the_same_samples_give_the_same_bytes(ending, subtype):
    samples = tone(5000, SR)
    data = encode_audio(samples, SR, ending=ending, subtype=subtype)
    assert data == encode_audio(samples.astype(np.float64), SR, ending=ending.upper(), subtype=subtype)
    if subtype == "FLOAT":
        at = data.index(b"PEAK")
        assert data[at + 12 : at + 16] == bytes(4), "the time of writing"


@pytest.mark.parametrize("sr", [8000, 11025, 37800, 44101, 65537, 88200, 96000, 192000])
@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg"])
def test_odd_rates_are_kept_or_refused(tmp_path, ending, sr):
    path = tmp_path / f"a{ending}"
    samples = tone(3000, sr)
    if (ending, sr) == (".flac", 65537):
        with pytest.raises(ValueError, match="multiples of 10"):
            write_audio(path, samples, sr)
    else:
        write_audio(path, samples, sr)
        back = read_audio(path)
        assert (back.sr, len(back.samples)) == (sr, 3000)


# Reading files of other programs


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


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(("ending", "subtype"), [(".wav", "FLOAT"), (".wav", "PCM_24"), (".flac", "PCM_24")])
def test_channels_are_kept_and_come_back(tmp_path, rng, channels, ending, subtype):
    samples = rng.uniform(-1, 1, (channels, 5000)).astype(np.float32)
    path = tmp_path / f"a{ending}"
    write_audio(path, samples, SR, subtype=subtype)
    back = read_audio(path)
    assert (back.channels, back.warnings) == (channels, ())
    assert back.duration_s == 5000 / SR
    assert back.samples.shape == ((5000,) if channels == 1 else (channels, 5000))
    assert back.samples.flags.c_contiguous
    np.testing.assert_allclose(back.samples, samples[0] if channels == 1 else samples, rtol=0, atol=2**-23)
    outside = soundfile.read(path, dtype="float32", always_2d=True)[0]
    np.testing.assert_allclose(outside.T, samples, rtol=0, atol=2**-23)
    part = read_audio(path, start_s=0.1, end_s=0.15)
    first, last = round(0.1 * SR), round(0.15 * SR)
    np.testing.assert_array_equal(part.samples, back.samples[..., first:last])


@pytest.mark.parametrize("ending", [".mp3", ".ogg"])
def test_lossy_formats_keep_channels_apart(tmp_path, ending):
    left, right = tone(SR, SR, 300), tone(SR, SR, 1100)
    write_audio(tmp_path / f"a{ending}", np.stack([left, right]), SR)
    back = read_audio(tmp_path / f"a{ending}").samples
    for ours, theirs in ((0, left), (1, right)):
        error = back[ours][1000:-1000] - theirs[1000:-1000]
        assert np.sqrt(np.mean(error**2)) < 0.05


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


def assert_one_sentence(error, path):
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    assert "; " in text, "what to do comes after a semicolon"
    assert not text.endswith(".")


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


# Refusing to encode


@pytest.mark.parametrize(
    ("ending", "sr", "subtype", "match"),
    [
        ("", SR, None, r"must end in \.wav, \.flac, \.ogg, \.mp3, got none"),
        (".m4a", SR, None, r"got '\.m4a'"),
        (".wav", SR, "VORBIS", "PCM_16 or PCM_24 or FLOAT, got subtype 'VORBIS'"),
        (".flac", SR, "FLOAT", "PCM_16 or PCM_24, got"),
        (".mp3", 96000, None, "only 8000, 11025, .* 48000 Hz; .*--sr 44100"),
        (".mp3", 37800, None, "37800 Hz"),
        (".ogg", 384_000, None, "up to 200000 Hz"),
        (".wav", 0, None, "sr is 0"),
    ],
)
def test_formats_that_cannot_be_written_are_refused(tmp_path, ending, sr, subtype, match):
    for refuse in (
        lambda: check_format(ending, sr, subtype=subtype),
        lambda: encode_audio(tone(9, SR), sr, ending=ending, subtype=subtype),
        lambda: write_audio(tmp_path / f"a{ending}", tone(9, SR), sr, subtype=subtype),
    ):
        with pytest.raises(ValueError, match=match):
            refuse()
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(("ending", "most"), [(".mp3", 2), (".flac", 8), (".ogg", 64), (".wav", 64)])
def test_a_format_holds_its_largest_number_of_channels(ending, most):
    check_format(ending, SR, channels=most)
    samples = np.zeros((most, 2000), np.float32)
    assert soundfile.info(io.BytesIO(encode_audio(samples, SR, ending=ending))).channels == most


@pytest.mark.parametrize(("channels", "mask"), [(4, 0x33), (6, 0x3F), (8, 0xFF)])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_surround_wav_assigns_channels_to_loudspeakers(channels, mask, subtype):
    header = encode_audio(np.zeros((channels, 9), np.float32), SR, ending=".wav", subtype=subtype)
    # WAVE_FORMAT_EXTENSIBLE (Microsoft, 2007): the tag at byte 20, the mask of loudspeakers at byte 40.
    assert int.from_bytes(header[20:22], "little") == 0xFFFE
    assert int.from_bytes(header[40:44], "little") == mask
    assert header == encode_audio(np.zeros((channels, 9), np.float32), SR, ending=".wav", subtype=subtype)


def test_more_channels_than_a_format_holds_are_refused_with_a_remedy():
    sentence = r"MP3 holds at most 2 channels and there are 6; choose another ending \(.wav, .flac, .ogg\) or .* mono"
    with pytest.raises(ValueError, match=sentence):
        check_format(".mp3", SR, channels=6)
    with pytest.raises(ValueError, match=sentence):
        encode_audio(np.zeros((6, 9), np.float32), SR, ending=".mp3")
    with pytest.raises(ValueError, match="FLAC holds at most 8 channels and there are 9"):
        check_format(".flac", SR, channels=9)


def test_check_format_returns_the_default_subtype():
    assert [check_format(e, 44100) for e in (".wav", ".flac", ".OGG", ".mp3")] == [
        "PCM_16", "PCM_16", "VORBIS", "MPEG_LAYER_III",
    ]  # fmt: skip


@pytest.mark.parametrize("rate", sound_write._MP3_RATES)
def test_every_listed_rate_of_mp3_can_be_encoded(rate):
    encode_audio(tone(9, rate), rate, ending=".mp3")


@pytest.mark.parametrize(
    ("samples", "error", "match"),
    [
        (np.array([0.5, -1.5], np.float32), ValueError, "peak at 1.5 .*lower the gain.*FLOAT"),
        (np.array([0.5, np.nan], np.float32), ValueError, "1 values that are NaN"),
        (np.array([np.inf, np.nan], np.float32), ValueError, "2 values that are NaN or infinite"),
        (np.zeros(0, np.float32), ValueError, "0 samples"),
        (np.zeros((99, 2), np.float32), ValueError, "99 channels"),
        (np.zeros(5, np.int16), TypeError, "int16"),
    ],
)
@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_samples_that_cannot_be_written_are_refused(tmp_path, ending, samples, error, match):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"as it was")
    with pytest.raises(error, match=match):
        write_audio(path, samples, SR, overwrite=True)
    assert files_in(tmp_path) == [path.name]
    assert path.read_bytes() == b"as it was"


@pytest.fixture
def ctrl_c():
    """Python's own handler of Ctrl-C, even if the test runner was started without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_inside_the_encoder_is_not_lost(tmp_path, monkeypatch, ctrl_c):
    pressed = iter([True])

    class Interrupted(io.BytesIO):
        def write(self, data):
            # Only once: a second Ctrl-C could come after the first was handled, outside the block that expects it.
            if next(pressed, False):
                signal.raise_signal(signal.SIGINT)
            return super().write(data)

    monkeypatch.setattr(sound_write.io, "BytesIO", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_audio(tmp_path / "a.ogg", tone(SR, SR), SR)
    assert files_in(tmp_path) == []


# Writing, whole or not at all


def test_a_new_file_has_the_permissions_of_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a.json", b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert files_in(tmp_path) == ["a.json"]


def test_overwriting_must_be_requested_and_keeps_permissions(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    path.chmod(0o604)
    for refuse in (lambda: check_writable(path, overwrite=False), lambda: write_atomic(path, b"new")):
        with pytest.raises(AudioFileError, match=r"already exists; add --overwrite") as error:
            refuse()
        assert_one_sentence(error, path)
    assert path.read_bytes() == b"old"
    check_writable(path, overwrite=True)
    write_atomic(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert files_in(tmp_path) == ["a.json"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real.json"
    if exists:
        real.write_bytes(b"old")
    link = tmp_path / "link.json"
    link.symlink_to(real)
    write_atomic(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert files_in(real.parent) == ["real.json"]


def test_impossible_destinations_are_refused(tmp_path):
    pipe, circle, dangling = tmp_path / "pipe", tmp_path / "circle", tmp_path / "dangling"
    os.mkfifo(pipe)
    circle.symlink_to(circle)
    dangling.symlink_to(tmp_path / "no" / "a.wav")
    file = put(tmp_path / "a.wav", tone(9, SR))
    before = files_in(tmp_path)
    for path, match in [
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "a.wav", "there is no folder .*no; create it"),
        (dangling, "there is no folder"),
        (file / "b.wav", "a.wav is not a folder"),
        (Path("/dev/null"), "device or a pipe"),
        (pipe, "device or a pipe"),
        (circle, "symbolic links"),
        (tmp_path / ("x" * 300), "name too long"),
    ]:
        for refuse in (check_writable, lambda p, overwrite: write_atomic(p, b"new", overwrite=overwrite)):
            with pytest.raises(AudioFileError, match=match) as error:
                refuse(path, overwrite=True)
            assert_one_sentence(error, path)
    assert files_in(tmp_path) == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


def test_a_write_protected_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sound_read.os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(AudioFileError, match=r"write-protected; choose another folder") as error:
        check_writable(tmp_path / "a.wav", overwrite=False)
    assert_one_sentence(error, tmp_path / "a.wav")


@as_user
def test_real_write_protection_is_respected(tmp_path):
    path = put(tmp_path / "a.wav", tone(9, SR))
    path.chmod(0o444)
    with pytest.raises(AudioFileError, match=r"a\.wav: it is write-protected"):
        check_writable(path, overwrite=True)
    tmp_path.chmod(0o555)
    with pytest.raises(AudioFileError, match="write-protected; choose another folder"):
        write_atomic(tmp_path / "b.wav", b"new")
    tmp_path.chmod(0o755)


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_during_writing_leaves_no_trace(tmp_path, monkeypatch, failure, exists):
    path = tmp_path / "a.json"
    if exists:
        path.write_bytes(b"old")

    def fail(_):
        assert len(files_in(tmp_path)) == 1 + exists, "the hidden file exists by now"
        raise failure

    monkeypatch.setattr(sound_read.os, "fsync", fail)
    expected = AudioFileError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as error:
        write_atomic(path, b"new", overwrite=True)
    if expected is AudioFileError:
        assert "no space left on device; free some space" in str(error.value)
        assert_one_sentence(error, path)
    assert files_in(tmp_path) == ["a.json"] * exists
    assert not exists or path.read_bytes() == b"old"


def test_a_name_taken_in_the_meantime_is_respected(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    monkeypatch.setattr(sound_read.os, "fsync", lambda _: path.write_bytes(b"theirs"))
    with pytest.raises(AudioFileError, match="already exists"):
        write_atomic(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert files_in(tmp_path) == ["a.json"]


TOO_LARGE = """
import resource, sys
import numpy as np
from smalti.io.sound_write import write_audio
from smalti.errors import AudioFileError
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_audio(sys.argv[1], np.zeros(50_000, np.float32), 22050, overwrite=True)
except AudioFileError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = put(tmp_path / "a.wav", tone(9, SR))
    before = path.read_bytes()
    run = subprocess.run([sys.executable, "-c", TOO_LARGE, path], capture_output=True, text=True, check=True)
    assert run.stdout == f"cannot write {path}: file too large; free some space or choose another folder\n"
    assert path.read_bytes() == before
    assert files_in(tmp_path) == ["a.wav"]


def test_same_file_follows_links(tmp_path, monkeypatch):
    a = put(tmp_path / "a.wav", tone(9, SR))
    b = put(tmp_path / "b.wav", tone(9, SR))
    link, hard = tmp_path / "link.wav", tmp_path / "hard.wav"
    link.symlink_to(a)
    hard.hardlink_to(a)
    monkeypatch.chdir(tmp_path)
    assert same_file(a, link)
    assert same_file(a, hard)
    assert same_file("a.wav", a)
    assert same_file("new.wav", tmp_path / "new.wav")
    assert not same_file(a, b)
    assert not same_file(a, tmp_path / "new.wav")


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
