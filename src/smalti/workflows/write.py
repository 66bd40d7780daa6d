"""From a mosaic to files: its sound, score, stems and pictures, each whole or not at all."""

from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import scipy.sparse

from smalti._checks import Floats
from smalti.corpora.query import CorpusFile
from smalti.dsp.channels import to_mono
from smalti.dsp.pitch import track_pitch
from smalti.grains.corpus import Corpus
from smalti.grains.dictionary import Dictionary
from smalti.grains.transposition import Transposition
from smalti.io.files import make_folder, write_atomic
from smalti.io.score_file import score_json
from smalti.io.sound_read import Recording
from smalti.io.sound_write import encode_audio
from smalti.io.stem_files import write_stems
from smalti.mosaicing.job import Job
from smalti.mosaicing.mosaic import Mosaic
from smalti.score.score import Score, Source, Target
from smalti.workflows.inputs import Inputs
from smalti.workflows.outputs import PITCH_FIGURE, Outputs
from smalti.workflows.report import grain_notes


def score_of_files(inputs: Inputs, mosaic: Mosaic, *, start_s: float | None, end_s: float | None) -> Score:
    """The score of a mosaic that was made of files, which its sources and its target then tell of."""
    sources, target = mosaic.score.sources, inputs.target
    if inputs.shelf is None:
        told = [_told(of, source) for of, source in zip(sources, inputs.sources, strict=True)]
    else:
        listed = {str(one.place): one for one in inputs.shelf.files}
        # Parts of a file where the corpus was searched, else all of it.
        whole = not isinstance(mosaic.job.dictionary, Corpus)
        of_corpus: dict[str, Any] = {"corpus": str(inputs.shelf.folder), "whole": whole}
        told = [_told(of, listed[of.name], tags=listed[of.name].tags, **of_corpus) for of in sources]
    about = _told(Target(str(target.path)), target, start_s=start_s or 0.0, end_s=end_s)
    return replace(mosaic.score, sources=tuple(told), target=about)


Named = TypeVar("Named", Source, Target)


def _told(of: Named, about: Recording | CorpusFile, **more: Any) -> Named:
    """A source or target that tells what is known of its file."""
    return replace(of, sha256=about.sha256, sr=about.sr, channels=about.channels, duration_s=about.duration_s, **more)


def write_outputs(
    outputs: Outputs,
    inputs: Inputs,
    job: Job,
    mosaic: Mosaic,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
) -> None:
    """Write the sound, its score and stems, then the figures; `start_s` and `end_s` are those of the target."""
    sound = encode_audio(mosaic.audio, mosaic.sr, ending=outputs.audio.suffix, subtype=outputs.subtype)
    write_atomic(outputs.audio, sound, overwrite=outputs.overwrite)
    if outputs.score is not None or outputs.stems is not None:
        score = score_of_files(inputs, mosaic, start_s=start_s, end_s=end_s)
        if outputs.score is not None:
            write_atomic(outputs.score, score_json(score.compact()), overwrite=outputs.overwrite)
        if outputs.stems is not None:
            write_stems(
                outputs.stems,
                score,
                job.dictionary,
                mosaic=mosaic.audio,
                by=outputs.stems_by,
                overwrite=outputs.overwrite,
            )
    if outputs.figures is not None:
        make_folder(outputs.figures)
        from smalti import plots

        H, borders = _over_source(inputs, mosaic, job)
        figures = plots.mosaic_figures(
            source=_drawn(inputs, mosaic.dictionary),
            target=job.target,
            mosaic=to_mono(mosaic.audio),
            sr=mosaic.sr,
            H=H,
            hop_s=mosaic.dictionary.hop_s,
            divergences=mosaic.divergences,
            boundaries=borders,
            **({} if inputs.shelf is None else {"rows": "What sounds of the source (s)"}),
        )
        plan = mosaic.transposition
        if plan is not None and plan.n_voices:
            mixed, hop = to_mono(mosaic.audio), mosaic.dictionary.params.hop
            ax = plots.plot_pitch(
                _wanted(plan, job),
                grain_notes(mosaic),
                hop_s=mosaic.dictionary.hop_s,
                # Of several notes the tracker would follow this or that.
                mosaic_f0=None if plan.way == "chords" else track_pitch(mixed, mosaic.sr, hop=hop),
                title="Notes of the target, and grains that play them",
            )
            figures[PITCH_FIGURE] = cast(Any, ax.figure)
        for name, figure in figures.items():
            write_atomic(outputs.figure(name), plots.figure_png(figure), overwrite=outputs.overwrite)


def _over_source(inputs: Inputs, mosaic: Mosaic, job: Job) -> tuple[scipy.sparse.csc_array, tuple[int, ...]]:
    """What is drawn of the activations, and where further recordings begin: of a corpus, of what sounds alone."""
    H, some, whole, kept = mosaic.contributions, mosaic.dictionary, job.dictionary, mosaic.parts[0].recordings
    if inputs.shelf is not None or kept is None:
        return H, some.borders
    # Of files that were searched, in their own time, as a sketch lies over it.
    firsts = np.searchsorted(whole.recording_ids, kept[some.recording_ids])
    entries = H.tocoo()
    rows = (firsts + some.centres // some.params.hop)[entries.row]
    shape = (whole.n_atoms, H.shape[1])
    return scipy.sparse.csc_array((entries.data, (rows, entries.col)), shape=shape), whole.borders


def _drawn(inputs: Inputs, dictionary: Dictionary) -> Floats:
    """The source as it is drawn: all of it, or of a corpus what sounds, in the order of its frames."""
    if inputs.shelf is None:
        return np.concatenate(list(map(to_mono, inputs.source_samples)))
    half, parts = dictionary.params.hop // 2, []
    for of, recording in enumerate(map(to_mono, dictionary.recordings)):
        atoms = np.flatnonzero(dictionary.recording_ids == of)
        for stretch in np.split(atoms, np.flatnonzero(np.diff(dictionary.stretches[atoms])) + 1):
            first, last = int(dictionary.centres[stretch[0]]), int(dictionary.centres[stretch[-1]])
            parts.append(recording[max(0, first - half) : last + half])
    return np.concatenate(parts)


def _wanted(plan: Transposition, job: Job) -> Floats:
    """The target's pitch as it was tracked, (N,) Hz, or the notes that were found in it, (M, N)."""
    if plan.way == "chords":
        return plan.melodies / 2 ** (job.settings.tune_cents / 1200)
    # Where grains are shifted whatever the target plays, it has not been listened to yet.
    hop = job.dictionary.params.hop
    return plan.target_f0 if plan.way == "follow" else track_pitch(job.target, job.dictionary.sr, hop=hop)
