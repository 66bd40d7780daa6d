"""``smalti corpus``: build, inspect and check corpora, which keep hours of source analysed."""

import math
import signal
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import TextColumn

from smalti._checks import LEAST_RATE, MOST_RATE
from smalti.cli.options import Exclude, Include, Json, Longest, Loudest, Quiet, Quietest, Shortest, Tags, filters_from
from smalti.cli.terminal import Stopped, Terminated, bar, line, once, show, table, warn
from smalti.corpora.build import Built, build_corpus, remove_files
from smalti.corpora.query import CorpusFile, CorpusInfo, corpus_info, list_files, verify_corpus
from smalti.corpora.tables import corpus_path
from smalti.errors import CorpusError
from smalti.io.stderr import quiet_stderr
from smalti.workflows.report import report_json

app = typer.Typer(
    help="Keep hours of source, analysed once, to make mosaics of.\n\n"
    "Start with:  smalti corpus build FOLDER -o sounds\n\n"
    "docs/corpora.md says what it costs.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

# Messages name at most this many files.
MOST_NAMED = 10

CorpusName = Annotated[Path, typer.Argument(metavar="NAME", help="The corpus: a folder NAME.corpus.")]


@app.command()
def build(
    folder: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="Folders of recordings, and recordings.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="NAME", help="The corpus to make or to update.")],
    sr: Annotated[
        int | None,
        typer.Option(min=LEAST_RATE, max=MOST_RATE, metavar="HZ", help="Its sample rate; 44100 if left out."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Tag all these files, as the names of their folders do; may be given again."),
    ] = None,
    licence: Annotated[
        str,
        typer.Option("--licence", "--license", metavar="TEXT", help="Licence of all these files, if they name none."),
    ] = "",
    quiet: Quiet = False,
) -> None:
    """Analyse the recordings in FOLDERs into NAME.corpus, or bring it up to date.

    Only new and changed files are analysed. A build that was stopped continues
    with the same command.

    [bold]Examples[/bold]

    smalti corpus build field_recordings/ -o field

    smalti corpus build rain/ wind/ -o weather --tag 2026 --licence CC0
    """
    name = corpus_path(output)
    built, waited = Built(), False
    try:
        with (
            quiet_stderr(),
            bar(quiet, TextColumn("{task.fields[sound]}")) as shown,
            closing(build_corpus(folder, name, sr=sr, tags=tag or (), licence=licence)) as steps,
        ):
            task = None
            for step in steps:
                if step.stage == "waiting" and not waited:
                    waited = True
                    print(line(f"smalti: another build is writing {name}; waiting"), file=sys.stderr)
                if step.stage in ("analysing", "compacting", "indexing"):
                    if task is None:
                        # The files that were there already took no time, so the estimate must not count them.
                        task = shown.add_task("analysing", total=step.total_bytes, completed=step.done_bytes, sound="")
                    shown.update(task, description=step.stage, completed=step.done_bytes, sound=_duration(step.done_s))
                built = step.built
    except (KeyboardInterrupt, Terminated) as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else 128 + signal.SIGTERM
        raise Stopped("stopped; what was analysed is kept, and the same command goes on", code) from None
    for sentence in built.warnings:
        warn(sentence)
    for reason in list(built.unreadable.values())[:MOST_NAMED]:
        warn(f"skipped: {reason}")
    if len(built.unreadable) > MOST_NAMED:
        more = len(built.unreadable) - MOST_NAMED
        warn(f"{more} more files were skipped; see 'smalti corpus list {name} --unreadable'")
    if not quiet:
        print(line(_sentence(name, built)))


def _sentence(name: Path, built: Built) -> str:
    info = corpus_info(name)
    done = [f"{built.analysed} analysed"]
    done += [
        f"{n} {state}"
        for n, state in (
            (built.unchanged, "unchanged"),
            (built.moved, "moved"),
            (built.removed, "gone"),
            (len(built.unreadable), "skipped"),
        )
        if n
    ]
    files = f"{info.n_files} file{'s' * (info.n_files != 1)}"
    return (
        f"{name}: {files}, {_duration(info.duration_s)} at {info.sr / 1000:g} kHz, {info.n_bytes / 1e6:.0f} MB; "
        + ", ".join(done)
    )


def _duration(seconds: float) -> str:
    """A duration for people: 9.5 s, 12:05 min, 3:12:05 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


@app.command()
def info(name: CorpusName, json: Json = False) -> None:
    """Show what a corpus holds: files, hours, tags, licences, and its size on disk."""
    about = corpus_info(name)
    if json:
        print(report_json(asdict(about)), end="")
        return
    plain = table("what", "value")
    for fact, value in _facts(about):
        plain.add_row(fact, line(value))
    show(plain)


def _facts(about: CorpusInfo) -> list[tuple[str, str]]:
    out = [
        ("corpus", about.path),
        ("files", f"{about.n_files}" + (f", and {about.n_unreadable} unreadable" if about.n_unreadable else "")),
        ("sound", f"{_duration(about.duration_s)} at {about.sr / 1000:g} kHz"),
        ("frames", f"{about.n_frames} in {about.n_segments} segments"),
        ("on disk", f"{about.n_bytes / 1e6:.1f} MB" + (f", {about.holes:.0%} unused" if about.holes >= 0.005 else "")),
    ]
    if about.quietest_lufs is not None and about.loudest_lufs is not None:
        out.append(("loudness", f"{about.quietest_lufs:.1f} to {about.loudest_lufs:.1f} LUFS"))
    for fact, counts in (("tags", about.tags), ("licences", about.licences)):
        most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        words = [f"{text or 'not said'} ({n})" for text, n in most_first]
        if words:
            out.append((fact, ", ".join(words[:20]) + (f", {len(words) - 20} more" if len(words) > 20 else "")))
    return out


@app.command(name="list")
def list_(
    name: CorpusName,
    include: Include = None,
    exclude: Exclude = None,
    tag: Tags = None,
    shortest: Shortest = None,
    longest: Longest = None,
    quietest: Quietest = None,
    loudest: Loudest = None,
    unreadable: Annotated[
        bool, typer.Option("--unreadable", help="List the files that could not be used instead, and why.")
    ] = False,
    json: Json = False,
) -> None:
    """List the files of a corpus, or those that pass the filters."""
    filters = filters_from(include, exclude, tag, shortest, longest, quietest, loudest)
    listed = [
        file for file in list_files(name) if bool(file.fault) == unreadable and (unreadable or filters.passes(file))
    ]
    if json:
        print(report_json({"files": list(map(_as_json, listed))}), end="")
        return
    plain = table("file", "why") if unreadable else table("file", "length", "LUFS", "channels", "tags", "licence")
    for file in listed:
        if unreadable:
            plain.add_row(line(file.path), line(file.fault))
            continue
        level = f"{file.loudness_lufs:.1f}" if math.isfinite(file.loudness_lufs) else "silent"
        plain.add_row(
            line(file.path),
            _duration(file.duration_s),
            level,
            str(file.channels),
            line(", ".join(file.tags)),
            line(file.licence),
        )
    show(plain)


def _as_json(file: CorpusFile) -> dict[str, Any]:
    out = {**asdict(file), "place": str(file.place)}
    del out["id"]
    if not math.isfinite(file.loudness_lufs):
        out["loudness_lufs"] = None
    return out


@app.command()
def remove(
    name: CorpusName,
    pattern: Annotated[
        list[str], typer.Argument(metavar="PATTERN", help="Files: a path, a folder's name, '*.mp3', tag:NAME.")
    ],
    quiet: Quiet = False,
) -> None:
    """Take files out of a corpus; the files themselves stay where they are.

    A build of their folder adds them again. To leave files out of one mosaic,
    use the option --exclude of smalti make.
    """
    waiting = once(f"another build is writing {corpus_path(name)}; waiting")
    removed = remove_files(name, pattern, waiting=waiting)
    if not quiet:
        for path in removed[:MOST_NAMED]:
            print(line(f"removed {path}"))
        if len(removed) > MOST_NAMED:
            print(f"removed {len(removed) - MOST_NAMED} more")


@app.command()
def verify(name: CorpusName, json: Json = False) -> None:
    """Compare a corpus with its checksums, and its files with what they were when it was built."""
    verdict = verify_corpus(name)
    if json:
        print(report_json(asdict(verdict)), end="")
    for places, state in ((verdict.missing, "no longer where it was"), (verdict.changed, "no longer as it was")):
        for place in places[:MOST_NAMED] if not json else ():
            warn(f"{place} is {state}")
        if len(places) > MOST_NAMED and not json:
            warn(f"so are {len(places) - MOST_NAMED} more")
    if verdict.damaged:
        more = f" (and {len(verdict.damaged) - 1} more such places)" if len(verdict.damaged) > 1 else ""
        raise CorpusError(verdict.damaged[0] + more)
    if not json:
        print(line(f"{verdict.path} is whole: {verdict.n_bytes / 1e6:.1f} MB are as they were written"))
