"""Edit and blend scores: `edit_steps` and `blend_steps` carry out their requests and yield events."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from smalti._checks import ParameterError, check_real
from smalti.curves import Curve
from smalti.grains.source import Source
from smalti.io.files import check_writable, same_file, write_atomic
from smalti.io.score_file import read_score, score_json
from smalti.io.sound_read import read_audio, resample
from smalti.score.blend import blended
from smalti.score.edit import ALL, Edits, Selection, edited
from smalti.score.score import Score
from smalti.score.swap import swapped
from smalti.workflows.locate import check_score_memory, find_recordings
from smalti.workflows.steps import Clock, Done, Events, Request, Warned


@dataclass(frozen=True)
class EditRequest(Request):
    """All that it takes to edit a score.

    Attributes
    ----------
    score : a file that ``--score`` has written.
    output : where the edited score goes; another file.
    edits : what is changed. The recordings of its swaps are sound files.
    selection : which grains, and which parts of them; see `smalti.score.edit.edited`.
    places : more files, folders and corpora in which to look for the recordings that are swapped.
    overwrite : whether an existing file is replaced.
    """

    score: Path
    output: Path
    edits: Edits
    selection: Selection = ALL
    places: tuple[Path, ...] = ()
    overwrite: bool = False


@dataclass(frozen=True, eq=False)
class Edited:
    """A score before and after its edits."""

    before: Score
    after: Score


@dataclass(frozen=True)
class BlendRequest(Request):
    """All that it takes to blend two mosaics of one target.

    Attributes
    ----------
    first, second : files that ``--score`` has written.
    output : where the blend goes; another file.
    percent : how much of the second sounds, 0 to 100; a curve counts seconds.
    overwrite : whether an existing file is replaced.
    """

    first: Path
    second: Path
    output: Path
    percent: float | Curve = 50.0
    overwrite: bool = False


def edit_steps(request: EditRequest) -> Events:
    """Read a score, edit it, and write what it becomes.

    Recordings are read only if grains are swapped.

    Yields
    ------
    Stage : "read", "edit", then "write".
    Warned : if nothing changes.
    Done : the last event; `result` is an `Edited`.

    Raises
    ------
    SmaltiError : for what is wrong with files, memory or the disk.
    ValueError, TypeError : for what is wrong with the request.
    """
    clock = Clock()
    yield clock.begin("read")
    _check_edits(request.edits, request.selection)
    if same_file(request.score, request.output):
        raise ValueError(
            f"{request.output} is the score that is edited; choose another name, so that it is still there"
        )
    check_writable(request.output, overwrite=request.overwrite)
    before = read_score(request.score)
    check_score_memory(before)
    yield clock.begin("edit")
    after = edited(before, request.edits, request.selection, swap=partial(_swapped, request))
    data = score_json(after)
    if data == score_json(before):
        yield Warned("nothing has changed: no grain meets all options")
    yield clock.begin("write")
    write_atomic(request.output, data, overwrite=request.overwrite)
    yield Done(Edited(before, after))


def _check_edits(edits: Edits, selection: Selection) -> None:
    """Refuse edits that would do nothing, and a selection that none of them would hear."""
    if edits == Edits():
        raise ParameterError(
            "edits",
            "hold nothing to do",
            "add {mute}, {solo}, {swaps}, {semitones}, {gain_db} or {shift_s}",
            also=("mute", "solo", "swaps", "semitones", "gain_db", "shift_s"),
        )
    if selection.sources and not (edits.semitones or edits.gain_db or edits.shift_s):
        raise ParameterError(
            "selection",
            "names sources, which means nothing to {mute}, {solo} and {swaps}",
            "leave them out",
            also=("mute", "solo", "swaps"),
        )


def _swapped(request: EditRequest, score: Score, selection: Selection, file: str) -> Score:
    """The score with the selected grains cut from a sound file."""
    found = find_recordings(score, request.score, places=request.places, with_target=False, compact=False)
    recording = read_audio(Path(file))
    new = Source(file, recording.sha256, recording.sr, recording.channels, recording.duration_s)
    # Sources keep the names that they have in the score, by which later edits find them.
    named = replace(found.score, sources=score.sources)
    return swapped(named, selection, new, found.recordings, resample(recording.samples, recording.sr, score.sr))


def blend_steps(request: BlendRequest) -> Events:
    """Read two scores, blend them, and write the blend.

    Yields
    ------
    Stage : "read", "blend", then "write".
    Warned : if the scores were made with different settings.
    Done : the last event; `result` is the blended `smalti.score.Score`.

    Raises
    ------
    SmaltiError : for what is wrong with files or the disk.
    ValueError, TypeError : for what is wrong with the request, and for scores that cannot be blended.
    """
    clock = Clock()
    yield clock.begin("read")
    for file in (request.first, request.second):
        if same_file(file, request.output):
            raise ValueError(f"{request.output} is one of the scores that are blended; choose another name")
    check_writable(request.output, overwrite=request.overwrite)
    share = _share(request.percent)
    first, second = read_score(request.first), read_score(request.second)
    yield from map(Warned, _differences(first, second, request.first))
    yield clock.begin("blend")
    mixture = blended(first, second, share)
    yield clock.begin("write")
    write_atomic(request.output, score_json(mixture), overwrite=request.overwrite)
    yield Done(mixture)


def _share(percent: float | Curve) -> float | Curve:
    """A percentage, or percentages over time, as shares of 1."""
    for value in percent.values if isinstance(percent, Curve) else [percent]:
        check_real("percent", value, least=0, most=100)
    if isinstance(percent, Curve):
        return Curve(percent.times_s, tuple(value / 100 for value in percent.values))
    return float(percent) / 100


def _differences(first: Score, second: Score, file: Path) -> Iterator[str]:
    """A warning of different settings, since a blend has those of the first score, which is read from `file`.

    Raises
    ------
    ValueError : if the scores have different targets.
    """
    stretches = [(score.target.sha256, score.target.start_s, score.target.end_s) for score in (first, second)]
    if stretches[0] != stretches[1]:
        raise ValueError(
            f"the scores have different targets, {first.target.name} and {second.target.name}, or different "
            "stretches of one; blend two of the same"
        )
    settings = [asdict(score.settings) for score in (first, second)]
    if differing := [name for name in settings[0] if settings[0][name] != settings[1][name] and name != "summary"]:
        yield (
            f"the scores were made with different settings ({', '.join(differing)}); the blend is made with those of "
            f"{file}, and may be louder or softer than the other"
        )
