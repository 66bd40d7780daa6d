"""``smalti render``: make the sound of a score."""

import math
from pathlib import Path
from typing import Annotated

import typer

from smalti.cli import terminal
from smalti.cli.options import Changed, Overwrite, Places, Quiet, ScoreFile, Subtype, one_of
from smalti.cli.terminal import counted
from smalti.io.stem_files import STEMS_BY
from smalti.workflows.render import Rendered, RenderRequest, render_steps


def render(
    score: ScoreFile,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT", help="The sound: a name ending in .wav, .flac, .ogg or .mp3."),
    ],
    sources: Places = None,
    target: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The target, if it is not found where it was.")
    ] = None,
    dry: Annotated[
        bool,
        typer.Option("--dry", help="Only the grains, added up as recorded; the target is not needed then."),
    ] = False,
    stems: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a sound for each source there; they add up to OUT.")
    ] = None,
    stems_by: Annotated[str, one_of(STEMS_BY, "A stem for each source file, or for each folder of them.")] = "file",
    changed: Changed = False,
    subtype: Subtype = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Make the sound of a score.

    A score that was not edited gives its mosaic again, sample for sample. The
    sound of an edited score is made anew. Recordings are found by their
    content, where they were or beside the score.

    [bold]Examples[/bold]

    smalti render score.json -o again.wav

    smalti render edited.json -o edited.wav --look-in field_recordings/ --stems stems
    """
    request = RenderRequest(
        score=score,
        output=output,
        places=tuple(sources or ()),
        target=target,
        dry=dry,
        stems=stems,
        stems_by=stems_by,
        changed=changed,
        subtype=subtype,
        overwrite=overwrite,
    )
    rendered = terminal.watched(render_steps(request), quiet=quiet)
    if not quiet:
        print(terminal.line(_sentence(output, rendered)))


def _sentence(output: Path, rendered: Rendered) -> str:
    score, level, stems = rendered.score, rendered.level, rendered.stems
    loud = "silent" if level.loudness == -math.inf else f"{level.loudness:.1f} LUFS"
    loud += terminal.peaks_held(level.limited_db, level.peak_gain_db)
    apart = f", {counted(len(stems), 'stem')} in {stems[0].parent}" if stems else ""
    return f"{output}: {score.length / score.sr:.1f} s of {counted(len(score), 'grain')}, {loud}{apart}"
