"""Errors that are not the caller's mistake, one class for each kind.

A bad argument is the caller's mistake and raises `ValueError` or `TypeError`. Faults that a caller cannot foresee, such
as a file that does not decode or a server that does not answer, raise one of these errors, with the cause chained.
"""

from importlib.util import find_spec

# For each extra of smalti, the package whose presence shows that the extra is installed.
_EXTRAS = {"plots": "matplotlib", "pitch": "swift_f0", "corpus": "faiss", "midi": "mido"}


class SmaltiError(Exception):
    """Base of all errors that are not the caller's mistake. The text is one sentence, fit for a terminal."""


class AudioFileError(SmaltiError):
    """A recording cannot be read, or a result cannot be written."""


class PitchFileError(SmaltiError):
    """A file with a melody cannot be read."""


class PictureError(SmaltiError):
    """A picture with a sketch cannot be read."""


class ScoreFileError(SmaltiError):
    """A score cannot be read, or the recordings that it names are missing or changed."""


class CorpusError(SmaltiError):
    """A corpus cannot be built, is damaged, was made by another version of smalti, or is no corpus at all."""


class ExampleError(SmaltiError):
    """An example recording cannot be fetched, or its content is wrong."""


class MissingExtraError(SmaltiError):
    """A feature needs an optional dependency that is not installed."""


def has_extra(extra: str) -> bool:
    """True if an extra of smalti is installed, such as "corpus" for ``pip install 'smalti[corpus]'``."""
    return find_spec(_EXTRAS[extra]) is not None


def require_extra(extra: str, purpose: str) -> None:
    """Refuse work that needs an extra of smalti, unless it is installed.

    Parameters
    ----------
    extra : its name, such as "plots".
    purpose : what needs which library, such as "pictures need matplotlib"; the error begins with it.

    Raises
    ------
    MissingExtraError : if it is not installed.
    """
    if not has_extra(extra):
        raise MissingExtraError(f"{purpose}: pip install 'smalti[{extra}]'")
