"""Players for notebooks hold the sound itself."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile

from smalti.io.player import player


def heard(shown):
    return [
        soundfile.read(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:audio/wav;base64,([^"]+)"', shown._repr_html_())
    ]


def test_a_player_holds_the_sound(rng):
    sound = (0.3 * rng.standard_normal((2, 500))).clip(-1, 1).astype(np.float32)
    ((samples, sr),) = heard(player(sound, 22050))
    assert sr == 22050
    np.testing.assert_allclose(samples.T, sound, atol=2**-15)


def test_several_sounds_have_their_names(rng):
    shown = player({"before <b>": np.zeros(10, np.float32), "after": np.ones(20, np.float32)}, 8000)
    assert [len(samples) for samples, _ in heard(shown)] == [10, 20]
    assert "before &lt;b&gt;" in shown._repr_html_()
    assert repr(shown) == "Player(before <b>, after)"


def test_a_sound_with_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        player(np.full(10, np.nan, np.float32), 8000)
