"""Judge mosaics of files: `judge_steps` carries out a `JudgeRequest` and yields events.

`read_judged` reads and checks the files, `judge_each` yields the numbers of one mosaic after the other, and
`describe_judged` makes the report. `measure_made` measures a mosaic that has just been made. `read_mosaics` also serves
blind comparisons.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np

from smalti._checks import Floats, check_real
from smalti.dsp.bands import audible
from smalti.dsp.channels import as_channels, to_mono
from smalti.dsp.conditioning import QUIETEST
from smalti.dsp.phase import with_phase
from smalti.dsp.pitch import track_pitch
from smalti.dsp.stft import frame_powers, stft
from smalti.errors import AudioFileError
from smalti.grains.synthesis import aimed_at
from smalti.io.files import same_file
from smalti.io.sound_read import Recording, read_audio, resample
from smalti.metrics import Blueprint, measure, reference
from smalti.metrics.artefacts import clipped_share
from smalti.metrics.features import GRID, RATE
from smalti.mosaicing.mosaic import Mosaic
from smalti.mosaicing.search_plan import grid_of
from smalti.presets import DEFAULT_PRESET, PRESETS
from smalti.workflows.inputs import (
    WHOLE,
    Excerpt,
    FileSource,
    Inputs,
    SourceInput,
    TargetInput,
    is_corpus,
    named_file,
    read_files,
)
from smalti.workflows.report import describe_recording
from smalti.workflows.steps import Clock, Done, Events, Progress, Request, Warned

# Sounds shorter than an analysis window have no spectrum to judge. In those shorter than a second, one or two events
# decide everything.
SHORTEST_JUDGED_S, SHORT_JUDGED_S = GRID.n_fft / RATE, 1.0
# Other tools round up to whole windows. Mosaics that differ by more were made of another target or excerpt.
FAR_OFF_S = 0.5
# Mosaics of a source that is not in memory are compared with at most so many seconds of it, those that sound most.
MOST_COMPARED_S = 600.0
# Only the target itself has at least this FID and this leak.
SURELY_THE_TARGET = 0.99


@dataclass(frozen=True, eq=False)
class MosaicInputs:
    """Mosaics from any tool, and their target and source.

    Attributes
    ----------
    target, source : at `sr`, the target's rate in Hz.
    mosaics : as read from their files, at their own rates.
    warnings : sentences for the user.
    """

    target: TargetInput
    source: FileSource
    sr: int
    mosaics: tuple[Recording, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Judged:
    """One mosaic's numbers.

    Attributes
    ----------
    recording : the mosaic. hop_s : the hop in seconds that `hopbuzz` was measured for.
    measures : see `smalti.metrics.MEASURES`; without those that need activations or pitch tracks.
    warnings : sentences for the user.
    """

    recording: Recording
    hop_s: float
    measures: Mapping[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class MosaicsRequest(Request):
    """All that it takes to read mosaics of files.

    Attributes
    ----------
    target : a sound file, or example:NAME.
    sources : sound files, folders, or example:NAME.
    mosaics : sound files, from any tool.
    excerpt : the part of the target that they re-create, in seconds.
    """

    target: str
    sources: tuple[str, ...]
    mosaics: tuple[str, ...]
    excerpt: Excerpt = WHOLE

    @property
    def named(self) -> tuple[str, ...]:
        """Every name in it."""
        return (self.target, *self.sources, *self.mosaics)

    def fetched(self) -> Self:
        """The request with every example:NAME fetched, and named by its file; errors as for `named_file`."""
        target, sources, mosaics = (
            tuple(str(named_file(name)) for name in names) for names in ((self.target,), self.sources, self.mosaics)
        )
        return replace(self, target=target[0], sources=sources, mosaics=mosaics)


@dataclass(frozen=True)
class JudgeRequest(MosaicsRequest):
    """All that it takes to judge mosaics of files.

    Attributes
    ----------
    target, sources, mosaics, excerpt : see `MosaicsRequest`. hop_s : see `judge_each`.
    """

    hop_s: float | None = None


def judge_steps(request: JudgeRequest) -> Events:
    """Read and measure mosaics.

    Yields
    ------
    Stage : "read", then "measure".
    Progress : one as "measure" begins, and one after each mosaic.
    Warned : as soon as there is something to warn of.
    Done : the last event; `result` is the report, of plain types.

    Raises
    ------
    SmaltiError, ValueError, TypeError : as for `read_judged`.
    """
    clock = Clock()
    yield clock.begin("read")
    if request.hop_s is not None:
        check_real("hop_s", request.hop_s, least=0.002, most=1)
    inputs = read_judged(request)
    yield from map(Warned, inputs.warnings)
    yield clock.begin("measure")
    yield Progress(0, len(inputs.mosaics))
    judged = list[Judged]()
    for mosaic in judge_each(inputs, hop_s=request.hop_s):
        judged.append(mosaic)
        yield from map(Warned, mosaic.warnings)
        yield Progress(len(judged), len(inputs.mosaics))
    yield Done(describe_judged(inputs, judged))


# What `read_mosaics` says of mosaics that are longer or shorter than their target.
_BEYOND = {
    "judge": "what one has beyond the other is left out or counts as silence",
    "compare": "it is cut, or padded with silence",
}


def read_mosaics(request: MosaicsRequest, *, purpose: str) -> MosaicInputs:
    """Read the target (or the excerpt of it that the mosaics were made of), every source, and the mosaics.

    `purpose` is the verb in error messages: "judge" or "compare".

    Raises
    ------
    AudioFileError : if the target, a mosaic, or every source cannot be used, or is silent.
    ExampleError : if an example is unknown, or cannot be fetched.
    ValueError : if a source is a corpus, or the excerpt is no stretch of time.
    """
    request = request.fetched()
    for name in request.sources:
        if is_corpus(name):
            raise ValueError(f"{name} is a corpus; name the recordings or folders that it was built from")
    target, source, warnings = read_files(Path(request.target), list(map(Path, request.sources)), request.excerpt, None)
    mosaics = tuple(map(read_audio, request.mosaics))
    for recording in (target.recording, *mosaics):
        if not np.abs(recording.samples).max() > QUIETEST:
            raise AudioFileError(
                f"cannot {purpose} {recording.path}: it is silent; choose a recording or an excerpt with sound"
            )
    lasts_s = target.recording.duration_s
    for mosaic in mosaics:
        warnings += [f"{mosaic.path}: {sentence}" for sentence in mosaic.warnings]
        if abs(mosaic.duration_s - lasts_s) > FAR_OFF_S:
            warnings.append(
                f"{mosaic.path} lasts {mosaic.duration_s:.1f} s and the target {lasts_s:.1f} s: {_BEYOND[purpose]}; "
                "check the excerpt (--start, --end) and the files"
            )
    return MosaicInputs(target, source, target.recording.sr, mosaics, tuple(warnings))


def read_judged(request: MosaicsRequest) -> MosaicInputs:
    """Read the files to judge.

    Raises
    ------
    AudioFileError, ExampleError, ValueError : as for `read_mosaics`; also if the target, the source or a mosaic is
        shorter than one window (93 ms).
    """
    read = read_mosaics(request, purpose="judge")
    for recording in (read.target.recording, *read.mosaics):
        if recording.duration_s < SHORTEST_JUDGED_S:
            raise AudioFileError(
                f"cannot judge {recording.path}: it lasts {_short(recording.duration_s)}; choose a longer one"
            )
    if (lasts_s := sum(source.duration_s for source in read.source.recordings)) < SHORTEST_JUDGED_S:
        raise AudioFileError(f"the source lasts {_short(lasts_s)}; choose a longer one")
    warnings = list(read.warnings)
    if (lasts_s := read.target.recording.duration_s) < SHORT_JUDGED_S:
        warnings.append(f"{read.target.path} lasts {lasts_s:.2f} s only: the measures of so short a sound say little")
    for mosaic in read.mosaics:
        if same_file(mosaic.path, read.target.path):
            warnings.append(f"{mosaic.path} is the target itself: it follows perfectly and is no mosaic")
        if any(same_file(mosaic.path, source.path) for source in read.source.recordings):
            warnings.append(f"{mosaic.path} is a source itself: it has the timbre in full and is no mosaic")
    return replace(read, warnings=tuple(warnings))


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms, less than one window of {1000 * SHORTEST_JUDGED_S:.0f} ms"


def judge_each(inputs: MosaicInputs, *, hop_s: float | None = None) -> Iterator[Judged]:
    """Yield the numbers of one mosaic after the other.

    Parameters
    ----------
    inputs : see `read_judged`.
    hop_s : the hop of the mosaics in seconds, 0.002 to 1, that `hopbuzz` is measured for; None for that of the default
        preset at each mosaic's rate, about 23.2 ms.
    """
    against = reference(inputs.target.samples, inputs.source.samples, inputs.sr)
    for mosaic in inputs.mosaics:
        hop = preset_hop_s(mosaic.sr) if hop_s is None else hop_s
        samples = mosaic.samples
        numbers = measure(resample(samples, mosaic.sr, inputs.sr), against, hop_s=hop)
        # Clipping is measured at the mosaic's own rate, since resampling rounds off flat tops.
        numbers["clipping"] = max(map(clipped_share, as_channels(samples)))
        is_copy = min(numbers["FID"], numbers["leak"]) > SURELY_THE_TARGET
        warning = f"{mosaic.path} is the target in all but name: it follows perfectly and is no mosaic"
        # `read_judged` warns of the target's own file.
        is_new = is_copy and not same_file(mosaic.path, inputs.target.path)
        yield Judged(mosaic, hop, numbers, (warning,) if is_new else ())


def preset_hop_s(sr: int) -> float:
    """The hop of the default preset in seconds, on the grid of a sample rate in Hz."""
    settings = PRESETS[DEFAULT_PRESET]
    return grid_of(settings, sr).hop / sr


def describe_judged(inputs: MosaicInputs, judged: Sequence[Judged]) -> dict[str, Any]:
    """The report: all files and every number, in plain types, ready for JSON."""
    return {
        "smalti": version("smalti"),
        "target": describe_recording(inputs.target.recording),
        "sources": list(map(describe_recording, inputs.source.recordings)),
        "skipped": dict(inputs.source.skipped),
        "excerpt": {"start_s": inputs.target.excerpt.begin_s, "end_s": inputs.target.excerpt.end_s},
        "mosaics": [
            describe_recording(mosaic.recording) | {"hop_s": mosaic.hop_s, "measures": dict(mosaic.measures)}
            for mosaic in judged
        ],
        "warnings": [*inputs.warnings, *(sentence for mosaic in judged for sentence in mosaic.warnings)],
    }


def measure_made(inputs: Inputs, mosaic: Mosaic) -> tuple[dict[str, float] | None, tuple[str, ...]]:
    """Every measure of a mosaic just made, including those of its activations.

    Returns
    -------
    The numbers by name, or None for a silent target, which nothing can be compared with; and sentences for the user.
    """
    if not np.abs(inputs.target.samples).max() > QUIETEST:
        return None, (f"no measures: {inputs.target.path} is silent, and nothing can be compared with silence",)
    against = reference(inputs.target.samples, compared_with(inputs.source, mosaic), inputs.sr)
    f0 = _melodies(inputs.target.samples, mosaic)
    return measure(mosaic.audio, against, blueprint=blueprint_of(mosaic), f0=f0), ()


def compared_with(source: SourceInput, mosaic: Mosaic) -> list[Floats]:
    """The recordings that the measures compare a mosaic with.

    These are all recordings in memory, and the shifted grains, which alone give a transposed mosaic its timbre. If
    there are neither, they are the recordings that sound most, up to `MOST_COMPARED_S`.
    """
    grains = [] if mosaic.transposition is None or not mosaic.transposition.n_voices else _shifted_grains(mosaic)
    return [*source.samples, *grains] or _most_heard(mosaic)


def _shifted_grains(mosaic: Mosaic) -> list[Floats]:
    return [part.grains.dictionary.recordings[0] for part in mosaic.parts if part.grains is not None]


def _most_heard(mosaic: Mosaic) -> list[Floats]:
    dictionary = mosaic.dictionary
    sounding = np.asarray((mosaic.activations > 0).sum(axis=1)).ravel()
    share = np.bincount(dictionary.recording_ids, weights=sounding, minlength=len(dictionary.recordings))
    out, left = list[Floats](), round(MOST_COMPARED_S * mosaic.sr)
    for number in np.argsort(-share, kind="stable"):
        if left > 0:
            out.append(dictionary.recordings[number][..., :left])
            left -= out[-1].shape[-1]
    return out


def _melodies(target: Floats, mosaic: Mosaic) -> tuple[Floats, Floats] | None:
    """Pitch tracks of target and mosaic in Hz, (N,) each, the target's 0 if inaudible; None without a melody."""
    plan, params = mosaic.transposition, mosaic.dictionary.params
    if plan is None or plan.way != "follow":
        return None
    heard = audible(frame_powers(to_mono(target), params))
    own = track_pitch(to_mono(mosaic.audio), mosaic.sr, hop=params.hop)
    # With a hop longer than a quarter window, one may have a frame more.
    n_frames = min(len(own), len(heard))
    return (plan.melodies[0] * (plan.target_f0 > 0) * heard)[:n_frames], own[:n_frames]


def blueprint_of(mosaic: Mosaic) -> Blueprint:
    """How a mosaic was made, for the measures of grains and of the cost of their overlap.

    ``model_err`` and ``incons`` are measured on the sound of the activations alone, before colour, attacks and level.
    Channels driven apart have several sets of activations, so their blueprint holds only the grid.
    """
    if len(mosaic.parts) > 1:
        return Blueprint(mosaic.dictionary.params, mosaic.sr)
    part = mosaic.parts[0]
    made = Blueprint.of(part.activations, part.dictionary)
    if part.grains is not None:
        # All grains lie in one recording, but no diagonal runs from one into the next.
        made = replace(made, segments=part.grains.runs)
    sound = to_mono(part.unshaped)
    if mosaic.settings.phase == "source":
        return replace(made, sound=sound)
    # The inverted spectrum has the magnitudes aimed at, with the phase that was found for them.
    aimed = aimed_at(part.dictionary.magnitudes, part.activations, mosaic.settings.aim)
    return replace(made, sound=sound, spectrum=with_phase(aimed, stft(sound, part.dictionary.params)))
