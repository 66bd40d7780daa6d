"""Painted pictures: every kind of PNG is read, and other files are refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from smalti.errors import PictureError
from smalti.io.image import MOST_PIXELS, read_picture

GREYS = np.array([[0, 255, 51], [102, 204, 255]], np.uint8)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "sketch.png"


def saved(file, image, **options):
    image.save(file, **options)
    return read_picture(file).pixels


def test_greys_are_kept_in_every_mode(file):
    grey = Image.fromarray(GREYS)
    for image in (grey, grey.convert("RGB"), grey.convert("RGBA"), grey.convert("LA"), grey.convert("P")):
        np.testing.assert_allclose(saved(file, image), GREYS / 255, atol=1e-6)
    picture = read_picture(file)
    assert picture.path == file
    assert len(picture.sha256) == 64
    assert picture.pixels.dtype == np.float32


def test_black_and_white_and_16_bits(file):
    np.testing.assert_array_equal(saved(file, Image.fromarray(GREYS > 100)), GREYS > 100)
    deep = GREYS.astype(np.uint16) * 257
    np.testing.assert_allclose(saved(file, Image.fromarray(deep)), GREYS / 255, atol=1e-4)


def test_colours_count_by_how_light_they_are(file):
    colours = np.zeros((1, 3, 3), np.uint8)
    colours[0, range(3), range(3)] = 255
    red, green, blue = saved(file, Image.fromarray(colours))[0]
    assert blue < red < green


def test_transparent_parts_are_white(file):
    layers = np.zeros((1, 3, 4), np.uint8)
    layers[0, :, 3] = [0, 128, 255]
    np.testing.assert_allclose(saved(file, Image.fromarray(layers)), [[1, 127 / 255, 0]], atol=1 / 255)
    np.testing.assert_allclose(saved(file, Image.fromarray(GREYS), transparency=0), np.where(GREYS, GREYS, 255) / 255)


def header(width, height):
    """A PNG that holds only its size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "it is no PNG; save the sketch as one"),
        (b"no picture at all", "it is no PNG"),
        (b"\x89PNG\r\n\x1a\n", "it is no PNG"),
        (header(9, 9), "it is damaged, or not all of it is there; save it again"),
        (header(MOST_PIXELS, 2), "it has more than 50 million pixels; save it smaller"),
        (header(10_000, 9_000), "it has more than 50 million pixels"),
        (header(2**30, 2**30), "it has more than 50 million pixels"),
        (header(0, 5), "it is (no PNG|damaged)"),
    ],
)
def test_files_that_are_no_pictures_are_refused_by_name(file, data, sentence):
    file.write_bytes(data)
    with pytest.raises(PictureError, match=rf"cannot read .*sketch\.png: {sentence}"):
        read_picture(file)


def test_a_cut_or_a_flipped_byte_gives_a_picture_or_an_error_that_names_the_file(file, rng):
    noise = rng.integers(0, 256, (20, 30), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    intact = file.read_bytes()
    damaged = [intact[:end] for end in range(0, len(intact), 23)]
    for at in range(0, len(intact), 11):
        damaged.append(intact[:at] + bytes([intact[at] ^ 0x55]) + intact[at + 1 :])
    for data in damaged:
        file.write_bytes(data)
        message, pixels = "", np.zeros(1)
        try:
            pixels = read_picture(file).pixels
        except PictureError as error:
            message = str(error)
        assert message == "" or message.startswith(f"cannot read {file}: ")
        assert pixels.min() >= 0
        assert pixels.max() <= 1


def test_other_pictures_and_folders_are_refused(tmp_path, file):
    Image.fromarray(GREYS).save(tmp_path / "sketch.jpg")
    with pytest.raises(PictureError, match="it is no PNG"):
        read_picture(tmp_path / "sketch.jpg")
    with pytest.raises(PictureError, match="it is no file; name a PNG"):
        read_picture(tmp_path)
    with pytest.raises(PictureError, match="no such file"):
        read_picture(file)
