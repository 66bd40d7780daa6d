"""Export scores to other tools: `export_steps` carries out an `ExportRequest` and yields events."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smalti.dsp.conditioning import remove_dc
from smalti.io.files import check_writable, same_file, write_atomic
from smalti.io.score_export import check_export, exported
from smalti.io.score_file import read_score
from smalti.score.daw_items import MOST_ITEMS, Reduction, items_of, reduction
from smalti.score.render import recordings_of
from smalti.workflows.locate import LocatedScore
from smalti.workflows.render import found_recordings
from smalti.workflows.steps import Clock, Done, Events, Request, Warned

# With a larger error than this, the items no longer sound like the grains.
FAR_DB = -15.0


@dataclass(frozen=True)
class ExportRequest(Request):
    """All that it takes to export a score.

    Attributes
    ----------
    score : a file that ``--score`` has written.
    output : the file to write; its ending chooses the tool, see `smalti.io.score_export.EXPORTS`.
    most : the largest number of items in a REAPER project.
    places : more files, folders and corpora in which to look for recordings.
    changed : whether recordings are accepted that have changed since the score was made.
    overwrite : whether an existing file is replaced.
    """

    score: Path
    output: Path
    most: int = MOST_ITEMS
    places: tuple[Path, ...] = ()
    changed: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes
    ----------
    ending : of the file.
    n_grains : of the score.
    reduction : how far the items of a REAPER project are from the grains; None for other endings.
    """

    ending: str
    n_grains: int
    reduction: Reduction | None


def export_steps(request: ExportRequest) -> Events:
    """Read a score, convert it for another tool, and write it.

    Yields
    ------
    Stage : "read", then "write".
    Warned : as soon as there is something to warn of.
    Done : the last event; `result` is an `Exported`.

    Raises
    ------
    SmaltiError, ValueError, TypeError : as for `smalti.workflows.render.render_steps`.
    """
    clock = Clock()
    yield clock.begin("read")
    ending = check_export(request.output)
    if same_file(request.score, request.output):
        raise ValueError(f"{request.output} is the score itself; choose another name")
    check_writable(request.output, overwrite=request.overwrite)
    if ending != ".rpp":
        score = read_score(request.score)
        yield clock.begin("write")
        write_atomic(request.output, exported(score, ending), overwrite=request.overwrite)
        yield Done(Exported(ending, len(score), None))
        return
    found = found_recordings(request.score, request.places, dry=True, changed=request.changed)
    yield from map(Warned, found.warnings)
    items = items_of(found.score, most=request.most)
    yield clock.begin("write")
    write_atomic(request.output, exported(found.score, ending, items), overwrite=request.overwrite)
    yield from map(Warned, _offsets(found))
    reduced = reduction(items, found.score, recordings_of(found.score, list(found.recordings)))
    if reduced.error_db is not None and reduced.error_db > FAR_DB:
        yield Warned("the items are far from the grains, which cancel each other or are too many for straight lines")
    yield Done(Exported(ending, len(found.score), reduced))


def _offsets(found: LocatedScore) -> Iterator[str]:
    """A warning for each recording with an offset, which smalti removes and other tools play."""
    for source, recording in zip(found.score.sources, found.recordings, strict=True):
        if found.score.settings.remove_offset and remove_dc(recording, found.score.sr) is not recording:
            offset = "has an offset, which smalti takes out and other tools play"
            yield f"{source.name} {offset}: filter its track below 20 Hz"
