"""smalti: audio mosaics, which re-create a target recording out of the sounds of a source."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smalti.dsp.phase import griffin_lim
from smalti.dsp.stft import StftParams, istft, stft
from smalti.errors import AudioFileError, CorpusError, ExampleError, MissingExtraError, ScoreFileError, SmaltiError
from smalti.grains.dictionary import Dictionary, build_dictionary
from smalti.grains.synthesis import synthesize
from smalti.io.sound_read import Recording, read_audio
from smalti.io.sound_write import write_audio
from smalti.mosaicing.mosaic import Mosaic, mosaic
from smalti.nmf.base import Step
from smalti.nmf.divergence import beta_divergence, multiplicative_update
from smalti.nmf.exact import ExactStep, exact_steps, solve_exact
from smalti.nmf.let_it_bee import LetItBee
from smalti.nmf.multiplicative import activation_steps, solve_activations
from smalti.nmf.pursuit import pursuit_steps, sparse_code
from smalti.presets import PRESETS
from smalti.score.render import render, stems
from smalti.score.score import Grain, Score
from smalti.settings import Settings

if TYPE_CHECKING:
    from smalti.corpora.build import build_corpus
    from smalti.corpora.query import open_corpus
    from smalti.curves import Curve
    from smalti.grains.filters import Filters
    from smalti.io.player import player
    from smalti.io.score_file import read_score
    from smalti.mosaicing.sketch import Sketch, Stroke

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "AudioFileError",
    "CorpusError",
    "Curve",
    "Dictionary",
    "ExactStep",
    "ExampleError",
    "Filters",
    "Grain",
    "LetItBee",
    "MissingExtraError",
    "Mosaic",
    "Recording",
    "Score",
    "ScoreFileError",
    "Settings",
    "Sketch",
    "SmaltiError",
    "Step",
    "StftParams",
    "Stroke",
    "activation_steps",
    "beta_divergence",
    "build_corpus",
    "build_dictionary",
    "exact_steps",
    "griffin_lim",
    "istft",
    "mosaic",
    "multiplicative_update",
    "open_corpus",
    "player",
    "pursuit_steps",
    "read_audio",
    "read_score",
    "render",
    "solve_activations",
    "solve_exact",
    "sparse_code",
    "stems",
    "stft",
    "synthesize",
    "write_audio",
]

# Names loaded on first use (PEP 562), and the modules that define them.
_LAZY = {
    "Curve": "smalti.curves",
    "Filters": "smalti.grains.filters",
    "Sketch": "smalti.mosaicing.sketch",
    "Stroke": "smalti.mosaicing.sketch",
    "build_corpus": "smalti.corpora.build",
    "open_corpus": "smalti.corpora.query",
    "player": "smalti.io.player",
    "read_score": "smalti.io.score_file",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'smalti' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
