"""Encoded and written sounds come back, and sounds that no file can hold are refused."""

import io
import signal

import numpy as np
import pytest
import soundfile
from kit_io import SR, files_in, tone

from smalti.io import sound_write
from smalti.io.sound_read import read_audio
from smalti.io.sound_write import check_format, encode_audio, write_audio


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
