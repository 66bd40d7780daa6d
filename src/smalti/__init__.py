"""smalti: audio mosaics, a target recording re-created out of the sounds of a source."""

from smalti.activations import activation_steps, solve_activations
from smalti.audio import Recording, read_audio, write_audio
from smalti.constraints import LetItBee
from smalti.dictionary import Dictionary, build_dictionary
from smalti.divergence import beta_divergence, multiplicative_update
from smalti.errors import AudioFileError, CorpusError, ExampleError, MissingExtraError, ScoreFileError, SmaltiError
from smalti.exact import ExactStep, exact_steps, solve_exact
from smalti.mosaicing import Mosaic, mosaic
from smalti.phase import griffin_lim
from smalti.rendering import render, stems
from smalti.score import Grain, Score
from smalti.settings import PRESETS, Settings
from smalti.sparse_coding import pursuit_steps, sparse_code
from smalti.steps import Step
from smalti.stft import StftParams, istft, stft
from smalti.synthesis import synthesize

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "AudioFileError",
    "CorpusError",
    "Dictionary",
    "ExactStep",
    "ExampleError",
    "Grain",
    "LetItBee",
    "MissingExtraError",
    "Mosaic",
    "Recording",
    "Score",
    "ScoreFileError",
    "Settings",
    "SmaltiError",
    "Step",
    "StftParams",
    "activation_steps",
    "beta_divergence",
    "build_dictionary",
    "exact_steps",
    "griffin_lim",
    "istft",
    "mosaic",
    "multiplicative_update",
    "pursuit_steps",
    "read_audio",
    "render",
    "solve_activations",
    "solve_exact",
    "sparse_code",
    "stems",
    "stft",
    "synthesize",
    "write_audio",
]
