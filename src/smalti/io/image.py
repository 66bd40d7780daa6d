"""Read painted pictures. Needs the extra ``smalti[plots]``; Pillow is loaded when first needed."""

import hashlib
import importlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.errors import PictureError, require_extra
from smalti.io.files import reason_of

# Pixels of the largest picture: a small file may decompress into more than fits into memory.
MOST_PIXELS = 50_000_000


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in shades of grey.

    Attributes
    ----------
    path, sha256 : its file, and the hex digest of that.
    pixels : (h, w) float32 from 0, black, to 1, white; the top row comes first.
    """

    path: Path
    sha256: str
    pixels: NDArray[np.float32]


def read_picture(file: Path) -> Picture:
    """Read a PNG as shades of grey. A colour counts by its lightness, and transparent parts are white.

    Raises
    ------
    PictureError : if the file does not exist, is no PNG, is damaged, or has more than 50 million pixels.
    MissingExtraError : if Pillow is not installed.
    """
    require_extra("plots", "reading a sketch needs Pillow")
    image_of = importlib.import_module("PIL.Image")
    if file.exists() and not file.is_file():
        raise PictureError(f"cannot read {file}: it is no file; name a PNG")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PictureError(f"cannot read {file}: {reason_of(error)}") from error
    with warnings.catch_warnings():
        # Pillow warns at a bound of its own.
        warnings.simplefilter("ignore", image_of.DecompressionBombWarning)
        try:
            image = image_of.open(io.BytesIO(data), formats=("PNG",))
        except image_of.DecompressionBombError as error:
            raise PictureError(_too_large(file)) from error
        except (OSError, SyntaxError, ValueError) as error:
            raise PictureError(f"cannot read {file}: it is no PNG; save the sketch as one") from error
        if image.width * image.height > MOST_PIXELS:
            raise PictureError(_too_large(file))
        try:
            image.load()
        # Pillow raises different errors, depending on where a file is damaged.
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise PictureError(
                f"cannot read {file}: it is damaged, or not all of it is there; save it again"
            ) from error
    return Picture(file, hashlib.sha256(data).hexdigest(), _grey(image, image_of))


def _too_large(file: Path) -> str:
    return f"cannot read {file}: it has more than {MOST_PIXELS // 1_000_000} million pixels; save it smaller"


def _grey(image: Any, image_of: Any) -> NDArray[np.float32]:
    """The pixels of a Pillow image, (h, w) float32 from 0 to 1."""
    if image.mode.startswith("I"):
        # These modes have 16 bits and no alpha channel.
        return np.asarray(image).astype(np.float32) / np.float32(65535)
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = image_of.new("RGBA", image.size, "white")
        image = image_of.alpha_composite(paper, image)
    return np.asarray(image.convert("L")).astype(np.float32) / np.float32(255)
