"""Where results go: named, and refused before any work where they could not or must not be written."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from smalti.errors import AudioFileError
from smalti.io.files import check_writable, same_file
from smalti.io.sound_write import check_format
from smalti.io.stem_files import check_stems
from smalti.settings import Settings

FIGURES = ("spectrograms", "activations", "similarity", "divergence")
# One more where the source is brought to the target's pitches.
PITCH_FIGURE = "pitch"


def figures_of(settings: Settings) -> tuple[str, ...]:
    """The names of the pictures that a mosaic so made may have.

    Whether it has the last one is not known before the work: with transpose "auto" the source may be left as it is.
    """
    return FIGURES if settings.transpose == "off" else (*FIGURES, PITCH_FIGURE)


@dataclass(frozen=True)
class Outputs:
    """Where the results go. `figures` is a folder, made if it is not there; None leaves that result out.

    `drawn` names the pictures that may be drawn, see `figures_of`. `stems` is a folder, too, and `stems_by` says what
    has one; see `smalti.io.stem_files`.
    """

    audio: Path
    subtype: str | None = None
    figures: Path | None = None
    report: Path | None = None
    overwrite: bool = False
    drawn: tuple[str, ...] = FIGURES
    score: Path | None = None
    stems: Path | None = None
    stems_by: str = "file"

    def figure(self, name: str) -> Path:
        """The file of one figure."""
        assert self.figures is not None
        return self.figures / f"{name}.png"

    def files(self) -> list[Path]:
        """Every file that will, or may, be written."""
        figures = [self.figure(name) for name in self.drawn] if self.figures else []
        return [self.audio, *figures, *(file for file in (self.report, self.score) if file is not None)]


def check_outputs(outputs: Outputs, inputs: Iterable[Path], *, sr: int = 44100, channels: int = 1) -> None:
    """Refuse, before any work, what could not or must not be written.

    Parameters
    ----------
    outputs : where the results are to go.
    inputs : files that they must not replace.
    sr, channels : sample rate of the sound in Hz, and its channels; until they are known, 44.1 kHz and one, which suit
        every format.

    Raises
    ------
    ValueError : if a result would replace one of `inputs` or another result, or the sound's name has no known ending,
        or its format no such subtype, sample rate or number of channels.
    AudioFileError : if a file exists and may not be overwritten, or its folder is missing or not writable.
    MissingExtraError : if figures are wanted and matplotlib is not installed.
    """
    files = outputs.files()
    check_format(outputs.audio.suffix, sr, subtype=outputs.subtype, channels=channels)
    inputs = list(inputs)
    for i, file in enumerate(files):
        for source in inputs:
            if same_file(file, source):
                raise ValueError(f"{file} is an input of this mosaic and would be overwritten; choose another name")
        if any(same_file(file, other) for other in files[:i]):
            raise ValueError(f"{file} is named for two results; choose another name for one of them")
    if outputs.figures is not None:
        if not outputs.figures.exists():
            # It will be made; nothing but the figures may count on that, as they come last.
            figures = [outputs.figure(name) for name in outputs.drawn]
            files = [outputs.figures, *(file for file in files if file not in figures)]
        elif not outputs.figures.is_dir():
            raise AudioFileError(f"cannot write figures into {outputs.figures}: it is not a folder; name another")
        # Asked for now, so that a missing matplotlib is found before the work and not after it.
        importlib.import_module("smalti.plots")
    if outputs.stems is not None:
        check_stems(outputs.stems, overwrite=outputs.overwrite)
    for file in files:
        check_writable(file, overwrite=outputs.overwrite)
