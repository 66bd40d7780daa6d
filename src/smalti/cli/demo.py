"""``smalti demo``: make a mosaic of sounds that smalti synthesises itself."""

from pathlib import Path
from typing import Annotated

import typer

from smalti.cli import terminal
from smalti.cli.make import build, sentence_of
from smalti.cli.options import Preset, Quiet
from smalti.errors import has_extra
from smalti.presets import DEFAULT_PRESET
from smalti.workflows.demo import prepare_demo


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder to write to.")] = Path(
        "smalti-demo"
    ),
    preset: Preset = DEFAULT_PRESET,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the random start.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
    quiet: Quiet = False,
    plots: Annotated[
        bool | None,
        typer.Option("--plots/--no-plots", help="Draw the figures; if left out, only if matplotlib is installed."),
    ] = None,
) -> None:
    """Hear a mosaic without sounds of your own: a swarm of bees plays a plucked tune.

    Writes target.wav, source.wav, mosaic.wav, report.json and the folder figures.
    """
    if plots is None:
        plots = has_extra("plots")
    request = prepare_demo(output, preset=preset, seed=seed, overwrite=overwrite, figures=plots)
    made = build(request, quiet=quiet)
    if not quiet:
        print(terminal.line(sentence_of(made)))
        print(terminal.line(f"listen to target.wav, source.wav and {request.outputs.audio.name} in {output}"))
