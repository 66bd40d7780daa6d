"""``smalti render`` and ``smalti score``: a mosaic as a list of grains. Parses, calls, reports, for `smalti.cli`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from smalti import terminal
from smalti._checks import check_choice
from smalti.audio import check_format, check_writable, encode_audio, same_file, write_atomic
from smalti.finding import Found, find_recordings
from smalti.levels import Levelled
from smalti.making import check_score_memory
from smalti.rendering import dried, levelled, needs_target, recordings_of
from smalti.score import Score
from smalti.scorefile import read_score
from smalti.stemfiles import STEMS_BY, check_stems, write_stems

app = typer.Typer(
    help="Look at a score, edit it, and take it into other tools.\n\n"
    "Start with:  smalti make TARGET SOURCE -o mosaic.wav --score score.json\n\n"
    "Then:  smalti score show score.json\n\n"
    "docs/score.md walks through it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

ScoreFile = Annotated[Path, typer.Argument(metavar="SCORE.json", help="The score: a file that --score has written.")]
Places = Annotated[
    list[Path] | None,
    typer.Option("--sources", metavar="PLACE", help="Look for its recordings in this folder, file or corpus, too."),
]
Changed = Annotated[
    bool, typer.Option("--changed", help="Take recordings that hold something else than when it was made.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


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
        typer.Option("--dry", help="Nothing but the grains, added up as recorded; the target is not needed then."),
    ] = False,
    stems: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a sound for each source there; together they are OUT.")
    ] = None,
    stems_by: Annotated[
        str, typer.Option(metavar="|".join(STEMS_BY), help="A stem for each source file, or for each folder of them.")
    ] = "file",
    changed: Changed = False,
    subtype: Annotated[
        str | None, typer.Option(metavar="PCM_16|PCM_24|FLOAT", help="Sample format of WAV and FLAC.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but warnings and errors.")] = False,
) -> None:
    """Make the sound of a score: of one as it was written, the mosaic again, sample for sample.

    Its recordings are found by what they hold, where they were or beside the
    score; of an edited score everything is made anew.

    [bold]Examples[/bold]

    smalti render score.json -o again.wav

    smalti render edited.json -o edited.wav --sources field_recordings/ --stems stems
    """
    check_choice("stems-by", stems_by, STEMS_BY)
    _check_output(output, [score])
    check_writable(output, overwrite=overwrite)
    if stems is not None:
        check_stems(stems, overwrite=overwrite)
    found = _found(score, sources, target=target, dry=dry, changed=changed)
    check_format(output.suffix, found.score.sr, subtype=subtype, channels=found.score.channels)
    _check_output(output, [*(Path(of.name) for of in found.score.sources), Path(found.score.target.name)])
    of = dried(found.score) if dry else found.score
    level = levelled(of, recordings_of(of, list(found.recordings)), found.target)
    sound = encode_audio(level.samples, of.sr, ending=output.suffix, subtype=subtype)
    write_atomic(output, sound, overwrite=overwrite)
    written = []
    if stems is not None:
        recordings = list(found.recordings)
        written = write_stems(stems, of, recordings, target=found.target, by=stems_by, overwrite=overwrite)
    if not quiet:
        print(terminal.line(_rendered(output, of, level, written)))


def _rendered(output: Path, score: Score, level: Levelled, stems: Sequence[Path]) -> str:
    grains = f"{len(score)} grain{'s' * (len(score) != 1)}"
    loud = "silent" if level.loudness == -float("inf") else f"{level.loudness:.1f} LUFS"
    apart = f", {len(stems)} stem{'s' * (len(stems) != 1)} in {stems[0].parent}" if stems else ""
    return f"{output}: {score.length / score.sr:.1f} s of {grains}, {loud}{apart}"


def _check_output(output: Path, inputs: Sequence[Path]) -> None:
    for file in inputs:
        if same_file(output, file):
            raise ValueError(f"{output} is what this is made of and would be overwritten; choose another name")


def _found(
    file: Path, places: Sequence[Path] | None, *, target: Path | None = None, dry: bool = False, changed: bool = False
) -> Found:
    """A score and its recordings, after saying what is not as it was."""
    score = read_score(file)
    check_score_memory(score)
    found = find_recordings(
        score,
        file,
        places=places or (),
        target=target,
        with_target=not dry and needs_target(score.settings),
        changed=changed,
    )
    for sentence in found.warnings:
        terminal.warn(sentence)
    return found
