"""``smalti blind``: compare mosaics by ear, without knowing which is which."""

from pathlib import Path
from typing import Annotated

import typer

from smalti.cli import terminal
from smalti.cli.options import EndOfMosaics, StartOfMosaics
from smalti.cli.terminal import located
from smalti.metrics.blind_test import DEFAULT_LENGTH_S, DEFAULT_ROUNDS, MOST_QUESTIONS, SHORTEST_ROUND_S
from smalti.workflows.blind import PAGE, BlindRequest, blind_steps
from smalti.workflows.inputs import Excerpt


def blind(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The recording that they re-create: a sound file, or example:NAME.")
    ],
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Their material: a sound file, a folder, or example:NAME."),
    ],
    mosaic: Annotated[list[str], typer.Argument(metavar="MOSAIC MOSAIC", help="The mosaics: 2 to 8, from any tool.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder to make.")],
    rounds: Annotated[
        int, typer.Option(min=1, max=MOST_QUESTIONS, metavar="N", help="How often to ask. More: surer answers.")
    ] = DEFAULT_ROUNDS,
    length: Annotated[
        float,
        typer.Option(min=SHORTEST_ROUND_S, metavar="S", help="Each round plays another stretch, at most this long."),
    ] = DEFAULT_LENGTH_S,
    start: StartOfMosaics = None,
    end: EndOfMosaics = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the order behind the letters.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison.")] = False,
) -> None:
    """Compare mosaics by ear, without knowing which is which.

    Makes a folder with a page, listen.html, to open in a browser. Each round
    plays the target, the source and, under letters in a new order, the mosaics,
    all equally loud, and asks: which follows the target better, which sounds
    more like the source, which would you keep? At the end it tells the names,
    counts the answers, and says how much so few answers can show.

    [bold]Examples[/bold]

    smalti blind song.wav bees.wav one_try.wav another_try.wav -o compare

    smalti blind speech.wav rain/ storm_1.wav storm_2.wav storm_3.wav -o compare --rounds 12
    """
    request = BlindRequest(
        target=str(located(target)),
        sources=(str(located(source)),),
        mosaics=tuple(str(located(name)) for name in mosaic),
        folder=output,
        rounds=rounds,
        length_s=length,
        excerpt=Excerpt(start, end),
        seed=seed,
        overwrite=overwrite,
    )
    drawn = terminal.watched(blind_steps(request))
    lasts_s = drawn[0].end_s - drawn[0].start_s
    played = f"{rounds} round{'s' * (rounds > 1)} of {lasts_s:.1f} s"
    print(terminal.line(f"{output / PAGE}: {played}, {len(mosaic)} mosaics; open it in a browser"))
