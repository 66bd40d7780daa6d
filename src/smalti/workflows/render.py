"""Make the sound of a score: `render_steps` carries out a `RenderRequest` and yields events."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smalti._checks import check_choice
from smalti.dsp.dynamics import Levelled
from smalti.grains.sound import needs_target
from smalti.io.files import check_writable, same_file, write_atomic
from smalti.io.score_file import read_score
from smalti.io.sound_write import check_format, encode_audio
from smalti.io.stem_files import STEMS_BY, check_stems, write_stems
from smalti.score import Score
from smalti.score.render import dry_score, recordings_of, render_levelled
from smalti.workflows.locate import LocatedScore, check_score_memory, find_recordings
from smalti.workflows.steps import Clock, Done, Events, Request, Warned


@dataclass(frozen=True)
class RenderRequest(Request):
    """All that it takes to make the sound of a score.

    Attributes
    ----------
    score : a file that ``--score`` has written.
    output : the sound; its ending is the format.
    places : more files, folders and corpora in which to look for recordings.
    target : the target's file, or None to look for it.
    dry : whether the grains are only added up as recorded.
    stems : a folder for stems, or None.
    stems_by : "file" or "folder", the kind of source that has a stem.
    changed : whether recordings are accepted that have changed since the score was made.
    subtype : the sample format, or None for the default of the ending.
    overwrite : whether existing files are replaced.
    """

    score: Path
    output: Path
    places: tuple[Path, ...] = ()
    target: Path | None = None
    dry: bool = False
    stems: Path | None = None
    stems_by: str = "file"
    changed: bool = False
    subtype: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, eq=False)
class Rendered:
    """The score as rendered, its sound and level, and the files of its stems."""

    score: Score
    level: Levelled
    stems: tuple[Path, ...]


def render_steps(request: RenderRequest) -> Events:
    """Find the recordings of a score, render it, and write its sound.

    Yields
    ------
    Stage : "read", "synthesise", then "write".
    Warned : as soon as there is something to warn of.
    Done : the last event; `result` is a `Rendered`.

    Raises
    ------
    SmaltiError : for what is wrong with files, memory or the disk.
    ValueError, TypeError : for what is wrong with the request.
    """
    clock, output, overwrite = Clock(), request.output, request.overwrite
    yield clock.begin("read")
    check_choice("stems_by", request.stems_by, STEMS_BY)
    refuse_inputs(output, [request.score])
    check_writable(output, overwrite=overwrite)
    if request.stems is not None:
        check_stems(request.stems, overwrite=overwrite)
    found = found_recordings(
        request.score, request.places, target=request.target, dry=request.dry, changed=request.changed
    )
    yield from map(Warned, found.warnings)
    check_format(output.suffix, found.score.sr, subtype=request.subtype, channels=found.score.channels)
    refuse_inputs(output, [*(Path(source.name) for source in found.score.sources), Path(found.score.target.name)])
    yield clock.begin("synthesise")
    score, recordings = dry_score(found.score) if request.dry else found.score, list(found.recordings)
    level = render_levelled(score, recordings_of(score, recordings), found.target)
    yield clock.begin("write")
    sound = encode_audio(level.samples, score.sr, ending=output.suffix, subtype=request.subtype)
    write_atomic(output, sound, overwrite=overwrite)
    stems = list[Path]()
    if request.stems is not None:
        stems = write_stems(
            request.stems, score, recordings, mosaic=level.samples, by=request.stems_by, overwrite=overwrite
        )
    yield Done(Rendered(score, level, tuple(stems)))


def refuse_inputs(output: Path, inputs: Sequence[Path]) -> None:
    """Raise ValueError if `output` would replace one of `inputs`."""
    for file in inputs:
        if same_file(output, file):
            raise ValueError(f"{output} is what this is made of and would be overwritten; choose another name")


def found_recordings(
    file: Path, places: Sequence[Path], *, target: Path | None = None, dry: bool = False, changed: bool = False
) -> LocatedScore:
    """Read a score and its recordings, after checking that they fit into memory.

    Raises
    ------
    SmaltiError : as for `read_score`, `check_score_memory` and `find_recordings`.
    """
    score = read_score(file)
    check_score_memory(score)
    with_target = not dry and needs_target(score.settings)
    return find_recordings(score, file, places=places, target=target, with_target=with_target, changed=changed)
