"""The world's faults, one class each.

A bad argument is the caller's mistake and raises `ValueError` or `TypeError`. What a caller cannot know beforehand,
a file that does not decode or a server that does not answer, raises one of these; the cause is chained.
"""

from importlib.util import find_spec

# The package that tells whether an optional dependency of smalti is installed.
_EXTRAS = {"plots": "matplotlib", "pitch": "swift_f0", "corpus": "faiss", "midi": "mido"}


class SmaltiError(Exception):
    """Base of everything the world, not the caller, got wrong. Its text is one sentence fit for a terminal."""


class AudioFileError(SmaltiError):
    """A recording cannot be read, or a result cannot be written."""


class PitchFileError(SmaltiError):
    """A melody that was written down cannot be read."""


class PictureError(SmaltiError):
    """A sketch that was painted cannot be read."""


class ScoreFileError(SmaltiError):
    """A score cannot be read, or the recordings that it names are not there as they were."""


class CorpusError(SmaltiError):
    """A corpus cannot be built, or is not what it should be: damaged, made by another version, or no corpus at all."""


class ExampleError(SmaltiError):
    """A named example recording cannot be fetched or is not what it should be."""


class MissingExtraError(SmaltiError):
    """A feature was asked for whose optional dependency is not installed."""


def has_extra(extra: str) -> bool:
    """Whether an extra of smalti is installed, such as "corpus" for ``pip install 'smalti[corpus]'``."""
    return find_spec(_EXTRAS[extra]) is not None
