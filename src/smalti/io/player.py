"""Players for notebooks, which embed their sounds in the page."""

import base64
import html
from collections.abc import Mapping

from smalti._checks import Floats
from smalti.io.sound_write import encode_audio


class Player:
    """Players for named sounds. A notebook shows them if a cell ends with this object."""

    def __init__(self, sounds: Mapping[str, Floats], sr: int) -> None:
        self._names = tuple(sounds)
        self._players = "".join(_row(name, samples, sr) for name, samples in sounds.items())

    def __repr__(self) -> str:
        return f"Player({', '.join(self._names)})"

    def _repr_html_(self) -> str:
        return f"<table>{self._players}</table>"


def player(sounds: Mapping[str, Floats] | Floats, sr: int) -> Player:
    """Make players for one sound, or for several by name.

    Parameters
    ----------
    sounds : (L,) or (C, L) float array within [-1, 1], or a mapping from names to such arrays.
    sr : sample rate in Hz.

    Returns
    -------
    Player : a notebook shows it if a cell ends with it.

    Raises
    ------
    ValueError, TypeError : for a sound beyond [-1, 1], and as for `smalti.io.sound_write.encode_audio`.
    """
    return Player(sounds if isinstance(sounds, Mapping) else {"": sounds}, sr)


def _row(name: str, samples: Floats, sr: int) -> str:
    data = base64.b64encode(encode_audio(samples, sr, ending=".wav", subtype="PCM_16")).decode()
    return (
        f'<tr><td>{html.escape(name)}</td><td><audio controls preload="none" src="data:audio/wav;base64,{data}">'
        "</audio></td></tr>"
    )
