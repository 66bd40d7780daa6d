"""``smalti render`` and ``smalti score``: a mosaic as a list of grains. Parses, calls, reports, for
`smalti.cli.main`."""

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer

from smalti._checks import check_choice, check_real
from smalti.cli import terminal
from smalti.curves import Curve, as_varying
from smalti.dsp.conditioning import remove_dc
from smalti.dsp.dynamics import Levelled
from smalti.grains.sound import needs_target
from smalti.io import score_file
from smalti.io.files import check_writable, same_file, write_atomic
from smalti.io.score_export import EXPORTS, check_export, exported
from smalti.io.score_file import read_score, score_json
from smalti.io.sound_read import read_audio, resample
from smalti.io.sound_write import check_format, encode_audio
from smalti.io.stem_files import STEMS_BY, check_stems, write_stems
from smalti.score.blend import blended
from smalti.score.daw_items import MOST_ITEMS, Reduction, items_of, reduction
from smalti.score.edit import Selection, louder, moved, muted, selected, soloed, transposed
from smalti.score.render import dry_score, recordings_of, render_levelled
from smalti.score.score import Score, Source
from smalti.score.swap import swapped
from smalti.score.table import records, summary
from smalti.workflows.locate import Found, find_recordings
from smalti.workflows.memory import check_score_memory
from smalti.workflows.report import report_json

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
    typer.Option("--look-in", metavar="PLACE", help="Look for its recordings in this folder, file or corpus, too."),
]
Changed = Annotated[
    bool, typer.Option("--changed", help="Take recordings that hold something else than when it was made.")
]
# Items that differ by more than this from their grains are another sound.
FAR_DB = -15.0
# Grains that are listed unless it is said how many.
SHOWN = 20


def _meaning(*names: str, **kind: Any) -> Any:
    """One of the options that say what an edit means: in the help they stand together."""
    return typer.Option(*names, rich_help_panel="Which grains, and which parts of them", **kind)


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

    smalti render edited.json -o edited.wav --look-in field_recordings/ --stems stems
    """
    check_choice("stems-by", stems_by, STEMS_BY)
    _check_output(output, [score])
    check_writable(output, overwrite=overwrite)
    if stems is not None:
        check_stems(stems, overwrite=overwrite)
    found = _found(score, sources, target=target, dry=dry, changed=changed)
    check_format(output.suffix, found.score.sr, subtype=subtype, channels=found.score.channels)
    _check_output(output, [*(Path(of.name) for of in found.score.sources), Path(found.score.target.name)])
    of = dry_score(found.score) if dry else found.score
    level = render_levelled(of, recordings_of(of, list(found.recordings)), found.target)
    sound = encode_audio(level.samples, of.sr, ending=output.suffix, subtype=subtype)
    write_atomic(output, sound, overwrite=overwrite)
    written = []
    if stems is not None:
        recordings = list(found.recordings)
        written = write_stems(stems, of, recordings, mosaic=level.samples, by=stems_by, overwrite=overwrite)
    if not quiet:
        print(terminal.line(_rendered(output, of, level, written)))


def _rendered(output: Path, score: Score, level: Levelled, stems: Sequence[Path]) -> str:
    loud = "silent" if level.loudness == -math.inf else f"{level.loudness:.1f} LUFS"
    loud += terminal.peaks_held(level.limited_db, level.peak_gain_db)
    apart = f", {_counted(len(stems), 'stem')} in {stems[0].parent}" if stems else ""
    return f"{output}: {score.length / score.sr:.1f} s of {_counted(len(score), 'grain')}, {loud}{apart}"


@app.command()
def show(
    score: ScoreFile,
    grains: Annotated[
        int, typer.Option(min=0, metavar="N", help="List so many grains, the loudest of them; 0 for none.")
    ] = SHOWN,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw it as a piano roll: a lane for each source.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Say which source sounds when, how loud and how long, and how much of the mosaic each is.

    [bold]Examples[/bold]

    smalti score show score.json

    smalti score show score.json --picture roll.png --grains 200
    """
    if picture is not None:
        importlib.import_module("smalti.plots")
        _check_output(picture, [score])
        check_writable(picture, overwrite=overwrite)
    of = read_score(score)
    if json:
        print(report_json({"sources": [asdict(usage) for usage in summary(of)], "grains": records(of)}), end="")
    else:
        _show(score, of, grains)
    if picture is not None:
        from smalti import plots

        ax = plots.plot_score(of, title=f"{score.name}: {_counted(len(of), 'grain')}")
        write_atomic(picture, plots.figure_png(cast(Any, ax.figure)), overwrite=overwrite)


def _show(file: Path, score: Score, most: int) -> None:
    lasts_s = score.length / score.sr
    print(terminal.line(f"{file}: {lasts_s:.1f} s of {score.target.name}, made of {_counted(len(score), 'grain')}"))
    print()
    table = terminal.table("source", "time", "power", "grains", "longest", "from", "to")
    for usage in summary(score):
        table.add_row(
            terminal.line(usage.name), f"{usage.time_share:.0%}", f"{usage.power_share:.0%}", str(usage.n_grains),
            f"{usage.longest_s:.2f} s", f"{usage.first_s:.2f} s", f"{usage.last_s:.2f} s",
        )  # fmt: skip
    terminal.show(table)
    if not most or not len(score):
        return
    loudest = np.sort(np.argsort(-score.levels, kind="stable")[:most])
    print()
    table = terminal.table("grain", "at", "lasts", "level", "pitch", "source", "from")
    for grain in score.only(loudest):
        table.add_row(
            str(grain.id), f"{grain.start_s:.3f} s", f"{grain.duration_s:.3f} s",
            f"{grain.level_db + score.gain_db:.1f} dB", f"{grain.semitones:+.2f}" if grain.semitones else "",
            terminal.line(grain.source.name), f"{grain.source_start_s:.3f} s",
        )  # fmt: skip
    terminal.show(table)
    if len(loudest) < len(score):
        print()
        print(f"the {most} loudest of {len(score)} grains; --grains {len(score)} lists all")


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


@app.command()
def edit(
    score: ScoreFile,
    output: Annotated[Path, typer.Argument(metavar="OUT.json", help="Where to write the edited score.")],
    mute: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Silence these sources; '*' is all. May be repeated.")
    ] = None,
    solo: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Silence all but these sources. May be repeated.")
    ] = None,
    gain: Annotated[
        float | None, typer.Option(min=-200, max=60, metavar="DB", help="Turn up, or down below 0.")
    ] = None,
    shift: Annotated[float | None, typer.Option(metavar="S", help="Move later, or earlier below 0.")] = None,
    transpose: Annotated[
        float | None, typer.Option(metavar="SEMITONES", help="Sound higher, or lower below 0.")
    ] = None,
    swap: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=FILE", help="Cut these sources' grains from FILE, where that is most like them."),
    ] = None,
    source: Annotated[
        list[str] | None, _meaning(metavar="PATTERN", help="--gain, --shift, --transpose: of these sources alone.")
    ] = None,
    between: Annotated[
        tuple[float, float] | None, _meaning(metavar="S S", help="Only what sounds from one time to the other.")
    ] = None,
    louder_than: Annotated[float | None, _meaning(metavar="DB", help="Only grains louder than this.")] = None,
    quieter_than: Annotated[float | None, _meaning(metavar="DB", help="Only grains quieter than this.")] = None,
    longer_than: Annotated[float | None, _meaning(metavar="S", help="Only grains longer than this.")] = None,
    shorter_than: Annotated[float | None, _meaning(metavar="S", help="Only grains shorter than this.")] = None,
    grain: Annotated[
        list[int] | None, _meaning(metavar="N", help="Only the grain of this number. May be repeated.")
    ] = None,
    sources: Places = None,
    overwrite: Overwrite = False,
) -> None:
    """Change a score: silence sources, turn them up or down, move, transpose or swap them.

    What is changed is said by the options of the second list; all of them have
    to hold. Edits are made in this order: swap, mute, solo, transpose, gain,
    shift.

    [bold]Examples[/bold]

    smalti score edit score.json edited.json --mute "rain*" --gain -6 --between 3.0 4.5

    smalti score edit score.json edited.json --swap one.wav=two.wav --shorter-than 0.2

    smalti score edit score.json edited.json --transpose 12 --grain 7 --grain 9
    """
    if all(asked is None for asked in (mute, solo, gain, shift, transpose, swap)):
        raise ValueError("there is nothing to do; add --mute, --solo, --swap, --transpose, --gain or --shift")
    if source and all(asked is None for asked in (gain, shift, transpose)):
        raise ValueError("--source means nothing to --mute, --solo and --swap, which name sources; leave it out")
    if same_file(score, output):
        raise ValueError(f"{output} is the score that is edited; choose another name, so that it is still there")
    check_writable(output, overwrite=overwrite)
    before = of = read_score(score)
    check_score_memory(before)
    selected(before, Selection(ids=tuple(grain or ())))
    meant = Selection(
        sources=tuple(source or ()),
        between=between,
        louder_than_db=-math.inf if louder_than is None else louder_than,
        quieter_than_db=math.inf if quieter_than is None else quieter_than,
        longer_than_s=longer_than or 0.0,
        shorter_than_s=math.inf if shorter_than is None else shorter_than,
        ids=tuple(grain or ()),
    )
    for text in swap or ():
        of = _swapped(of, score, text, meant, sources)
    edits: list[tuple[object, tuple[str, ...], Callable[[Score, Selection], Score]]] = [
        (mute, tuple(mute or ()), muted),
        (solo, tuple(solo or ()), soloed),
        (transpose, meant.sources, lambda of, meant: transposed(of, transpose or 0.0, meant)),
        (gain, meant.sources, lambda of, meant: louder(of, gain or 0.0, meant)),
        (shift, meant.sources, lambda of, meant: moved(of, shift or 0.0, meant)),
    ]
    for asked, patterns, made in edits:
        # What an edit has silenced is not there for the next one.
        ids = tuple(number for number in meant.ids if number in of.ids)
        if asked and (ids or not meant.ids):
            of = made(of, replace(meant, sources=patterns, ids=ids))
    data = score_json(of)
    if data == score_json(before):
        terminal.warn("nothing has changed: no grain is all that was asked")
    write_atomic(output, data, overwrite=overwrite)
    print(terminal.line(f"{output}: {_counted(len(of), 'grain')}, of {len(before)} before"))


def _swapped(of: Score, file: Path, text: str, meant: Selection, places: Sequence[Path] | None) -> Score:
    """The score with what meets the pattern of a text such as rain=bees.wav cut from that file."""
    pattern, equals, name = text.rpartition("=")
    if not equals or not pattern or not name:
        raise ValueError(f"--swap is {text!r}; pass PATTERN=FILE, such as rain=bees.wav")
    found = find_recordings(of, file, places=places or (), with_target=False, compact=False)
    recording = read_audio(Path(name))
    new = Source(name, recording.sha256, recording.sr, recording.channels, recording.duration_s)
    # By their own names, as whatever edits come next mean them.
    named = replace(found.score, sources=of.sources)
    return swapped(
        named,
        replace(meant, sources=(pattern,)),
        new,
        found.recordings,
        resample(recording.samples, recording.sr, of.sr),
    )


@app.command()
def blend(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="The score to begin with.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another of the same target.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.json", help="Where to write the blend.")],
    share: Annotated[
        str, typer.Option(metavar="PERCENT|BREAKPOINTS", help="How much of B sounds: 50, or over time '0:0, 8:100'.")
    ] = "50",
    overwrite: Overwrite = False,
) -> None:
    """Blend two mosaics of one target grain by grain, no fade: each grain is taken whole or left.

    [bold]Examples[/bold]

    smalti score blend bees.json rain.json -o storm.json --share "0:0, 8:100"
    """
    for file in (first, second):
        if same_file(file, output):
            raise ValueError(f"{output} is one of the scores that are blended; choose another name")
    check_writable(output, overwrite=overwrite)
    one, other = read_score(first), read_score(second)
    _check_alike(one, other, first)
    of = blended(one, other, _share(share))
    write_atomic(output, score_json(of), overwrite=overwrite)
    told = ", ".join(f"{usage.time_share:.0%} {Path(usage.name).name}" for usage in summary(of)[:4])
    print(terminal.line(f"{output}: {_counted(len(of), 'grain')}, {told}"))


def _check_alike(one: Score, other: Score, first: Path) -> None:
    """Refuse scores of other targets; say in whose way the blend is made where theirs differ."""
    stretches = [(of.target.sha256, of.target.start_s, of.target.end_s) for of in (one, other)]
    if stretches[0] != stretches[1]:
        raise ValueError(
            f"the scores are of other targets, {one.target.name} and {other.target.name}, or of other stretches of "
            "one; blend two of the same"
        )
    ways = [asdict(of.settings) for of in (one, other)]
    if differing := [name for name in ways[0] if ways[0][name] != ways[1][name] and name != "summary"]:
        terminal.warn(
            f"the scores were made with other settings ({', '.join(differing)}); the blend sounds in the way of "
            f"{first}, and may be louder or softer than the other was"
        )


def _share(text: str) -> float | Curve:
    """Percentages, one or over time, as shares of 1."""
    percent = as_varying("share", text.replace("%", ""))
    for value in percent.values if isinstance(percent, Curve) else [percent]:
        check_real("share", value, least=0, most=100)
    if isinstance(percent, Curve):
        return Curve(percent.times_s, tuple(value / 100 for value in percent.values))
    return float(percent) / 100


@app.command()
def export(
    score: ScoreFile,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT", help="A name ending in .rpp, .csv, .txt or .mid."),
    ],
    most: Annotated[
        int, typer.Option(min=1, metavar="N", help="REAPER: items at most; the least of the grains are left out.")
    ] = MOST_ITEMS,
    sources: Places = None,
    changed: Changed = False,
    overwrite: Overwrite = False,
) -> None:
    """Take a score into other tools.

    .rpp: a REAPER project with a track for each source and an item for each
    grain. .csv: a table. .txt: a label track for Audacity. .mid: the notes of
    transposed grains.

    [bold]Examples[/bold]

    smalti score export score.json -o mosaic.rpp

    smalti score export score.json -o grains.csv
    """
    ending = check_export(output)
    if same_file(score, output):
        raise ValueError(f"{output} is the score itself; choose another name")
    check_writable(output, overwrite=overwrite)
    if ending != ".rpp":
        of = read_score(score)
        write_atomic(output, exported(of, ending), overwrite=overwrite)
        print(terminal.line(f"{output}: {EXPORTS[ending]}, of {_counted(len(of), 'grain')}"))
        return
    found = _found(score, sources, dry=True, changed=changed)
    items = items_of(found.score, most=most)
    write_atomic(output, exported(found.score, ending, items), overwrite=overwrite)
    for source, recording in zip(found.score.sources, found.recordings, strict=True):
        if found.score.settings.remove_offset and remove_dc(recording, found.score.sr) is not recording:
            offset = "has an offset, which smalti takes out and other tools play"
            terminal.warn(f"{source.name} {offset}: filter its track below 20 Hz")
    told = reduction(items, found.score, recordings_of(found.score, list(found.recordings)))
    if told.error_db is not None and told.error_db > FAR_DB:
        terminal.warn("the items are far from the grains, which cancel each other or are too many for straight lines")
    print(terminal.line(f"{output}: {_reduced(told)}"))


def _reduced(told: Reduction) -> str:
    """How many items there are, and what playing them changes."""
    items = f"{_counted(told.n_items, 'item')} of {_counted(told.n_grains, 'grain')}, {told.n_points} breakpoints"
    error = "" if told.error_db is None else f", {told.error_db:.1f} dB from the grains as they are"
    pitched = f"; {_counted(told.n_transposed, 'grain')} transposed by REAPER itself" if told.n_transposed else ""
    return items + error + pitched


@app.command()
def schema() -> None:
    """Print the form of a score file, as JSON Schema."""
    print(report_json(score_file.schema()), end="")


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
