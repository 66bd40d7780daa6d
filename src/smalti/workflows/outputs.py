"""Write results. A result that could not or must not be written is refused before any work."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.sparse

from smalti._checks import Floats, check_choice
from smalti.dsp.channels import to_mono
from smalti.dsp.pitch import track_pitch
from smalti.errors import AudioFileError, require_extra
from smalti.grains.dictionary import Dictionary
from smalti.grains.shifted import heard_stretches
from smalti.grains.transposition import Transposition
from smalti.io.files import check_writable, make_folder, same_file, write_atomic
from smalti.io.score_file import score_json
from smalti.io.sound_write import check_format, encode_audio
from smalti.io.stem_files import STEMS_BY, check_stems, write_stems
from smalti.mosaicing.job import Job
from smalti.mosaicing.mosaic import Mosaic
from smalti.settings import Settings
from smalti.workflows.inputs import SourceInput

FIGURES = ("spectrograms", "activations", "similarity", "divergence")
# One more if the source is brought to the target's pitches.
PITCH_FIGURE = "pitch"


def figures_of(settings: Settings) -> tuple[str, ...]:
    """The names of the figures that a mosaic with these settings may have.

    The last one is not certain before the work: with transpose "auto", the source may be left as it is.
    """
    return FIGURES if settings.transpose == "off" else (*FIGURES, PITCH_FIGURE)


@dataclass(frozen=True)
class Outputs:
    """The places of the results, or None for those that are left out.

    `figures` is a folder, made if it does not exist. `stems` is a folder too, and `stems_by` is the kind of source that
    has a stem; see `smalti.io.stem_files`.
    """

    audio: Path
    subtype: str | None = None
    figures: Path | None = None
    report: Path | None = None
    overwrite: bool = False
    score: Path | None = None
    stems: Path | None = None
    stems_by: str = "file"

    def figure(self, name: str) -> Path:
        """The file of one figure."""
        assert self.figures is not None
        return self.figures / f"{name}.png"

    def files(self, drawn: Sequence[str] = FIGURES) -> list[Path]:
        """Every file that will, or may, be written; `drawn` names the figures that may be drawn, see `figures_of`."""
        figures = [self.figure(name) for name in drawn] if self.figures else []
        return [self.audio, *figures, *(file for file in (self.report, self.score) if file is not None)]


def check_outputs(
    outputs: Outputs, inputs: Iterable[Path], *, drawn: Sequence[str] = FIGURES, sr: int = 44100, channels: int = 1
) -> None:
    """Refuse, before any work, results that could not or must not be written.

    Parameters
    ----------
    outputs : where the results are to go.
    inputs : files that they must not replace.
    drawn : the figures that may be drawn, see `figures_of`.
    sr, channels : sample rate of the sound in Hz, and its channels; until they are known, 44.1 kHz and one, which suit
        every format.

    Raises
    ------
    ValueError : if a result would replace one of `inputs` or another result, or the sound's name has no known ending,
        or its format no such subtype, sample rate or number of channels.
    AudioFileError : if a file exists and may not be overwritten, or its folder is missing or not writable.
    MissingExtraError : if figures are wanted and matplotlib is not installed.
    """
    files = outputs.files(drawn)
    check_format(outputs.audio.suffix, sr, subtype=outputs.subtype, channels=channels)
    check_choice("stems_by", outputs.stems_by, STEMS_BY)
    inputs = list(inputs)
    for i, file in enumerate(files):
        for source in inputs:
            if same_file(file, source):
                raise ValueError(f"{file} is an input of this mosaic and would be overwritten; choose another name")
        if any(same_file(file, other) for other in files[:i]):
            raise ValueError(f"{file} is named for two results; choose another name for one of them")
    if outputs.figures is not None:
        if not outputs.figures.exists():
            # The folder is made for the figures, which come last. Other results cannot count on it.
            figures = [outputs.figure(name) for name in drawn]
            files = [outputs.figures, *(file for file in files if file not in figures)]
        elif not outputs.figures.is_dir():
            raise AudioFileError(f"cannot write figures into {outputs.figures}: it is not a folder; name another")
        # A missing matplotlib is refused before the work rather than after it.
        require_extra("plots", "pictures need matplotlib")
    if outputs.stems is not None:
        check_stems(outputs.stems, overwrite=outputs.overwrite)
    for file in files:
        check_writable(file, overwrite=outputs.overwrite)


# --- writing


def write_outputs(outputs: Outputs, source: SourceInput, mosaic: Mosaic) -> None:
    """Write the sound of a mosaic, its score and stems, then the figures of mosaic, target and source."""
    sound = encode_audio(mosaic.audio, mosaic.sr, ending=outputs.audio.suffix, subtype=outputs.subtype)
    write_atomic(outputs.audio, sound, overwrite=outputs.overwrite)
    if outputs.score is not None:
        write_atomic(outputs.score, score_json(mosaic.score.compact()), overwrite=outputs.overwrite)
    if outputs.stems is not None:
        write_stems(
            outputs.stems,
            mosaic.score,
            mosaic.job.dictionary,
            mosaic=mosaic.audio,
            by=outputs.stems_by,
            overwrite=outputs.overwrite,
        )
    if outputs.figures is not None:
        make_folder(outputs.figures)
        from smalti import plots

        picture = picture_of(source, mosaic)
        figures = plots.mosaic_figures(
            source=picture.samples,
            target=mosaic.job.target,
            mosaic=to_mono(mosaic.audio),
            sr=mosaic.sr,
            H=picture.H,
            hop_s=mosaic.dictionary.hop_s,
            divergences=mosaic.divergences,
            boundaries=picture.boundaries,
            rows=picture.rows,
        )
        plan = mosaic.transposition
        if plan is not None and plan.n_voices:
            mixed, hop = to_mono(mosaic.audio), mosaic.dictionary.params.hop
            ax = plots.plot_pitch(
                _wanted(plan, mosaic.job),
                grain_notes(mosaic),
                hop_s=mosaic.dictionary.hop_s,
                # The tracker follows one voice, and chords have several.
                mosaic_f0=None if plan.way == "chords" else track_pitch(mixed, mosaic.sr, hop=hop),
                title="Notes of the target, and grains that play them",
            )
            figures[PITCH_FIGURE] = cast(Any, ax.figure)
        for name, figure in figures.items():
            write_atomic(outputs.figure(name), plots.figure_png(figure), overwrite=outputs.overwrite)


class SourcePicture(NamedTuple):
    """The data of a source that figures show.

    Attributes
    ----------
    samples : (L,) float array. H : (K, N) scipy.sparse CSC, how loud each source frame sounds in each target frame.
    boundaries : the first frame of every recording but the first. rows : the label of the axis of source frames.
    """

    samples: Floats
    H: scipy.sparse.csc_array
    boundaries: tuple[int, ...]
    rows: str


def picture_of(source: SourceInput, mosaic: Mosaic) -> SourcePicture:
    """The data of the source of a mosaic that figures show.

    A source in memory is shown in its own time, since sketches lie over that time too. Of a source that is not, the
    parts that sound are shown, in the order of its frames.
    """
    H, subset = mosaic.contributions, mosaic.dictionary
    if not source.samples:
        return SourcePicture(_what_sounds(subset), H, subset.borders, "What sounds of the source (s)")
    samples, rows = np.concatenate(list(map(to_mono, source.samples))), "Source time (s)"
    dictionary, kept = mosaic.job.dictionary, mosaic.parts[0].recordings
    if kept is None:
        return SourcePicture(samples, H, subset.borders, rows)
    # The source was searched, and `subset` has only the frames that sound.
    firsts = np.searchsorted(dictionary.recording_ids, kept[subset.recording_ids])
    entries = H.tocoo()
    at = (firsts + subset.centres // subset.params.hop)[entries.row]
    in_time = scipy.sparse.csc_array((entries.data, (at, entries.col)), shape=(dictionary.n_atoms, H.shape[1]))
    return SourcePicture(samples, in_time, dictionary.borders, rows)


def _what_sounds(dictionary: Dictionary) -> Floats:
    """The samples around the frames of a dictionary, (L,), stretch by stretch."""
    half, parts = dictionary.params.hop // 2, []
    for number, recording in enumerate(map(to_mono, dictionary.recordings)):
        atoms = np.flatnonzero(dictionary.recording_ids == number)
        for stretch in np.split(atoms, np.flatnonzero(np.diff(dictionary.stretches[atoms])) + 1):
            first, last = int(dictionary.centres[stretch[0]]), int(dictionary.centres[stretch[-1]])
            parts.append(recording[max(0, first - half) : last + half])
    return np.concatenate(parts)


def _wanted(plan: Transposition, job: Job) -> Floats:
    """The tracked pitch of the target in Hz, (N,), or the notes that were found in it, (M, N)."""
    if plan.way == "chords":
        return plan.melodies / 2 ** (job.settings.tune_cents / 1200)
    # A plan of fixed shifts does not look at the target's pitch, so it is tracked here.
    hop = job.dictionary.params.hop
    return plan.target_f0 if plan.way == "follow" else track_pitch(job.target, job.dictionary.sr, hop=hop)


def grain_notes(mosaic: Mosaic) -> Floats:
    """The notes that the grains of a transposed mosaic play, for `smalti.plots.notes.plot_pitch`.

    Returns
    -------
    (G, 4) float64: begin and end in seconds, pitch in Hz, and the shift to it in semitones. A grain that passes through
    several notes has a row for each, and one without pitch has none.
    """
    notes: list[tuple[float, float, float, float]] = []
    hop_s, plan = mosaic.dictionary.hop_s, mosaic.transposition
    for part in mosaic.parts:
        if part.grains is None or plan is None:
            continue
        grains = part.grains
        for stretch in heard_stretches(grains, part.activations):
            atoms, frames, ratios = grains.atoms[stretch], grains.frames[stretch], grains.ratios[stretch]
            hz = plan.origins[atoms] * ratios
            names = np.round(12 * np.log2(np.where(hz > 0, hz, 1)))
            for piece in np.split(np.arange(len(hz)), np.flatnonzero(np.diff(names)) + 1):
                if hz[piece[0]] > 0:
                    begin, end = frames[piece[0]] - 0.5, frames[piece[-1]] + 0.5
                    shift = 12 * np.log2(ratios[piece]).mean()
                    notes.append((max(0.0, begin * hop_s), end * hop_s, float(np.median(hz[piece])), float(shift)))
    return np.array(notes).reshape(-1, 4)
