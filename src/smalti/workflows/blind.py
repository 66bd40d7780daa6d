"""Compare mosaics by ear without knowing which is which: `blind_steps` carries out a `BlindRequest`.

`read_blind_test` reads and checks the files, `sounds_of` brings their sounds to one rate and form,
`smalti.metrics.blind_test` draws the rounds, and `write_listening` makes the folder with ``listen.html`` and the sounds
that it plays. The ``listen.html`` beside this module is the page's template, with a placeholder for the key.
"""

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from smalti.dsp.conditioning import QUIETEST
from smalti.errors import AudioFileError
from smalti.io.files import check_writable, folder_beside, hidden_beside, reason_of, replace_whole, same_file
from smalti.io.sound_read import resample
from smalti.io.sound_write import encode_audio
from smalti.metrics.blind_test import (
    DEFAULT_LENGTH_S,
    DEFAULT_ROUNDS,
    LETTERS,
    FittedSounds,
    Round,
    draw_rounds,
    fit_all,
)
from smalti.workflows.judge import MosaicInputs, MosaicsRequest, read_mosaics
from smalti.workflows.report import describe_recording
from smalti.workflows.steps import Clock, Done, Events, Warned

PAGE, SOUNDS = "listen.html", "sounds"
# The placeholder of the key in the page's template.
_GAP = "{{key}}"
# Rates that every browser plays.
SLOWEST_HZ, FASTEST_HZ = 8000, 48000


@dataclass(frozen=True)
class BlindRequest(MosaicsRequest):
    """All that it takes to make a blind comparison of files.

    Attributes
    ----------
    target, sources, excerpt : see `MosaicsRequest`. mosaics : 2 to 8 sound files, from any tool.
    folder : where the page and its sounds go.
    rounds, length_s : see `smalti.metrics.blind_test.draw_rounds`.
    seed : for the order behind the letters.
    overwrite : whether an earlier comparison is replaced.
    """

    folder: Path = field(kw_only=True)
    rounds: int = DEFAULT_ROUNDS
    length_s: float = DEFAULT_LENGTH_S
    seed: int = 0
    overwrite: bool = False


def blind_steps(request: BlindRequest) -> Events:
    """Read, level and write a blind comparison.

    Yields
    ------
    Stage : "read", "synthesise", then "write".
    Warned : as soon as there is something to warn of.
    Done : the last event; `result` is the list of rounds.

    Raises
    ------
    SmaltiError, ValueError : as for `check_folder`, `read_blind_test`, `sounds_of` and
        `smalti.metrics.blind_test.draw_rounds`.
    """
    clock, folder, overwrite = Clock(), request.folder, request.overwrite
    yield clock.begin("read")
    request = request.fetched()
    check_folder(folder, map(Path, request.named), overwrite=overwrite)
    inputs = read_blind_test(request)
    yield from map(Warned, inputs.warnings)
    yield clock.begin("synthesise")
    sounds, sr = sounds_of(inputs)
    rounds = draw_rounds(sounds, sr, rounds=request.rounds, length_s=request.length_s, rng=request.seed)
    yield clock.begin("write")
    write_listening(folder, rounds, sr, key_of(inputs, rounds, seed=request.seed), overwrite=overwrite)
    yield Done(rounds)


def read_blind_test(request: MosaicsRequest) -> MosaicInputs:
    """Read the files of a blind comparison.

    Raises
    ------
    SmaltiError, ValueError : as for `smalti.workflows.judge.read_mosaics`; also if there are fewer than two mosaics or
        more than eight, or one is named twice.
    """
    mosaics = request.mosaics
    if not 2 <= len(mosaics) <= len(LETTERS):
        got = "one mosaic" if len(mosaics) == 1 else f"{len(mosaics)} mosaics"
        raise ValueError(f"{got} cannot be compared by ear; name 2 to {len(LETTERS)}")
    for i, mosaic in enumerate(mosaics):
        if any(same_file(mosaic, other) for other in mosaics[:i]):
            raise ValueError(f"{mosaic} is named twice; name two that differ")
    read = read_mosaics(request, purpose="compare")
    equal = [
        f"{other.path} and {recording.path} are the same sound: there is no difference to hear"
        for i, recording in enumerate(read.mosaics)
        for other in read.mosaics[:i]
        if recording.sha256 == other.sha256
    ]
    return replace(read, warnings=(*read.warnings, *equal))


def sounds_of(inputs: MosaicInputs) -> tuple[FittedSounds, int]:
    """The sounds of a blind comparison in one form, at a rate that browsers play, and that rate in Hz.

    Raises
    ------
    AudioFileError : if a mosaic is silent for as long as the target lasts.
    """
    sr = min(max(inputs.sr, SLOWEST_HZ), FASTEST_HZ)
    sounds = fit_all(
        resample(inputs.target.samples, inputs.sr, sr),
        [resample(samples, inputs.sr, sr) for samples in inputs.source.samples],
        [resample(mosaic.samples, mosaic.sr, sr) for mosaic in inputs.mosaics],
    )
    for recording, mosaic in zip(inputs.mosaics, sounds.mosaics, strict=True):
        if not np.abs(mosaic).max() > QUIETEST:
            raise AudioFileError(
                f"cannot compare {recording.path}: it is silent for as long as the target lasts; "
                "check the excerpt (--start, --end) and the file"
            )
    return sounds, sr


def key_of(inputs: MosaicInputs, rounds: Sequence[Round], *, seed: int) -> dict[str, Any]:
    """The mosaic behind each letter, which the page reveals at its end, in plain types, ready for JSON."""
    return {
        "smalti": version("smalti"),
        "seed": seed,
        "target": describe_recording(inputs.target.recording),
        "sources": list(map(describe_recording, inputs.source.recordings)),
        "mosaics": list(map(describe_recording, inputs.mosaics)),
        "rounds": [
            {"start_s": round_.start_s, "end_s": round_.end_s, "order": list(round_.order)} for round_ in rounds
        ],
    }


def hidden(key: Mapping[str, Any]) -> str:
    """A key as text that nobody reads by accident. It is no secret: the page can read it, and so can anyone."""
    text = json.dumps(key, allow_nan=False).encode()
    # listen.html reverses this with the same numbers.
    masked = bytes(byte ^ (7 * i + 91) % 256 for i, byte in enumerate(text))
    return base64.b64encode(masked).decode()


def page_of(key: Mapping[str, Any]) -> str:
    """The page as HTML, with its style, script and key. It loads nothing but the sounds beside it."""
    template = files("smalti.workflows").joinpath(PAGE).read_text(encoding="utf-8")
    return template.replace(_GAP, hidden(key))


def check_folder(folder: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse, before any work, a folder that cannot or must not be written.

    Raises
    ------
    ValueError : if it would replace one of `inputs`.
    AudioFileError : if it exists and may not be overwritten, or is no earlier comparison; if its parent folder is
        missing or not writable.
    """
    place = Path(os.path.realpath(folder))
    for source in inputs:
        if Path(os.path.realpath(source)).is_relative_to(place):
            raise ValueError(f"{source} lies in {folder}, which would be overwritten; choose another folder")
    if os.path.lexists(place):
        if not overwrite:
            raise AudioFileError(f"cannot write {folder}: it already exists; add --overwrite or choose another name")
        if not _is_comparison(place):
            # A mistyped name must not cost a folder of recordings.
            raise AudioFileError(
                f"cannot overwrite {folder}: it holds something else than a blind comparison; choose another name"
            )
    # A folder can be made wherever this file could be written.
    check_writable(hidden_beside(place), overwrite=False)


def _is_comparison(folder: Path) -> bool:
    if not folder.is_dir() or {entry.name for entry in folder.iterdir()} != {PAGE, SOUNDS}:
        return False
    return all(sound.suffix == ".wav" for sound in (folder / SOUNDS).iterdir())


def write_listening(
    folder: Path, rounds: Sequence[Round], sr: int, key: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write the page and its sounds, whole or not at all.

    Everything is written into a hidden folder beside `folder`, and then takes its place. If anything fails before that,
    Ctrl-C included, nothing is left of it and an earlier comparison stays unchanged.

    Raises
    ------
    AudioFileError : see `check_folder`; also if the disk is full or fails.
    """
    place = Path(os.path.realpath(folder))
    with folder_beside(place) as room:
        new, old = room / "new", room / "old"
        try:
            (new / SOUNDS).mkdir(parents=True)
            for number, round_ in enumerate(rounds, start=1):
                for name, samples in round_.sounds.items():
                    # 16 bits without compression: all files have the same size, which must not tell sounds apart.
                    sound = encode_audio(samples.astype(np.float32), sr, ending=".wav", subtype="PCM_16")
                    replace_whole(new / SOUNDS / f"{number:02d}-{name}.wav", sound)
            replace_whole(new / PAGE, page_of(key).encode())
            check_folder(folder, [], overwrite=overwrite)
            try:
                if place.exists():
                    place.replace(old)
                new.replace(place)
            finally:
                if old.exists() and not place.exists():
                    old.replace(place)
        except OSError as error:
            raise AudioFileError(f"cannot write {folder}: {reason_of(error)}; choose another folder") from error
