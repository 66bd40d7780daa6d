"""Players for notebooks: a sound as an element of a page, which needs nothing but the page."""

import base64
import html
from collections.abc import Mapping

from smalti._checks import Floats
from smalti.io.sound_write import encode_audio


class Player:
    """Players for some sounds, each with its name, as a notebook shows them where a cell ends with this."""

    def __init__(self, sounds: Mapping[str, Floats], sr: int) -> None:
        self._names = tuple(sounds)
        self._players = "".join(_row(name, samples, sr) for name, samples in sounds.items())

    def __repr__(self) -> str:
        return f"Player({', '.join(self._names)})"

    def _repr_html_(self) -> str:
        return f"<table>{self._players}</table>"


def player(sounds: Mapping[str, Floats] | Floats, sr: int) -> Player:
    """Players of some sounds by their names, or of one sound.

    Parameters
    ----------
    sounds : (L,) or (C, L) float arrays within [-1, 1].
    sr : Hz.

    Returns
    -------
    Player : what a notebook shows where a cell ends with it.

    Raises
    ------
    AudioFileError : for a sound that is louder.
    """
    return Player(sounds if isinstance(sounds, Mapping) else {"": sounds}, sr)


def _row(name: str, samples: Floats, sr: int) -> str:
    data = base64.b64encode(encode_audio(samples, sr, ending=".wav", subtype="PCM_16")).decode()
    return (
        f'<tr><td>{html.escape(name)}</td><td><audio controls preload="none" src="data:audio/wav;base64,{data}">'
        "</audio></td></tr>"
    )
