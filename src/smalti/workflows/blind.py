"""Compare mosaics by ear without knowing which is which: `blind_steps` carries out a `BlindRequest`.

`read_blind_test` reads and checks the files, `draw_rounds` cuts the sounds, levels them and draws their order, and
`write_listening` makes the folder with ``listen.html`` and the sounds that it plays. The ``listen.html`` beside this
module is the page's template, with a placeholder for the key.
"""

import base64
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smalti._checks import Floats, check_count, check_real
from smalti.dsp.channels import as_channels, n_channels, stack_channels, to_mono
from smalti.dsp.conditioning import QUIETEST
from smalti.dsp.dynamics import CEILING_DB, MARGIN_DB, amplified, match_loudness
from smalti.dsp.loudness import integrated_loudness, true_peak
from smalti.errors import AudioFileError
from smalti.io.files import check_writable, hidden_beside, reason_of, same_file
from smalti.io.sound_read import Recording, resample
from smalti.io.sound_write import encode_audio
from smalti.workflows.inputs import WHOLE, Excerpt, describe_recording, named_file
from smalti.workflows.judge import FAR_OFF_S, MosaicInputs, read_mosaics
from smalti.workflows.steps import Clock, Done, Events, Request, Warned

PAGE, SOUNDS = "listen.html", "sounds"
# The placeholder of the key in the page's template.
_GAP = "{{key}}"
# One letter for each mosaic of a round. Nobody keeps more than these apart, and S and T are other keys of the page.
LETTERS = "ABCDEFGH"
MOST_QUESTIONS = 100
# Chance gives eight equal answers about two mosaics in one test of 128, and seven or more in one of fourteen.
DEFAULT_ROUNDS, DEFAULT_LENGTH_S = 8, 8.0
SHORTEST_ROUND_S = 0.5
# Rates that every browser plays.
SLOWEST_HZ, FASTEST_HZ = 8000, 48000
# The loudness of all sounds in LUFS, and the least to which high peaks may lower it. Below that, peaks are limited.
LOUDNESS, LEAST_LOUDNESS = -20.0, -36.0
# An excerpt this much quieter than its recording counts as silent: made as loud as the others, it would only hiss.
SILENT_EXCERPT_DB = 50.0
# Cuts inside a recording are faded over this time so that they do not click.
CUT_FADE_S = 0.01
# The number of places tried for the beginning of an excerpt, in each part of the target.
_PLACES = 64


@dataclass(frozen=True, eq=False)
class Round:
    """One round: a stretch of the target, and the sounds to compare with it.

    Attributes
    ----------
    start_s, end_s : the stretch, in seconds of the target's excerpt.
    order : for each letter, from A on, the index of its mosaic.
    sounds : (L,) or (C, L) float32 arrays of one shape, by name: target, source, a, b, ...
    """

    start_s: float
    end_s: float
    order: tuple[int, ...]
    sounds: Mapping[str, Floats]


@dataclass(frozen=True)
class BlindRequest(Request):
    """All that it takes to make a blind comparison of files.

    Attributes
    ----------
    target : a sound file, or example:NAME.
    sources : sound files, folders, or example:NAME.
    mosaics : sound files, from any tool: 2 to 8.
    folder : where the page and its sounds go.
    rounds, length_s : see `draw_rounds`.
    excerpt : the part of the target that the mosaics re-create, in seconds.
    seed : for the order behind the letters.
    overwrite : whether an earlier comparison is replaced.
    """

    target: str
    sources: tuple[str, ...]
    mosaics: tuple[str, ...]
    folder: Path
    rounds: int = DEFAULT_ROUNDS
    length_s: float = DEFAULT_LENGTH_S
    excerpt: Excerpt = WHOLE
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
    AudioFileError, ValueError : as for `check_folder`, `read_blind_test` and `draw_rounds`.
    """
    clock, folder, overwrite = Clock(), request.folder, request.overwrite
    yield clock.begin("read")
    target, sources, mosaics = (
        list(map(named_file, names)) for names in ([request.target], request.sources, request.mosaics)
    )
    check_folder(folder, [*target, *sources, *mosaics], overwrite=overwrite)
    inputs = read_blind_test(target[0], sources, mosaics, excerpt=request.excerpt)
    yield from map(Warned, inputs.warnings)
    yield clock.begin("synthesise")
    rounds, sr = draw_rounds(inputs, rounds=request.rounds, length_s=request.length_s, rng=request.seed)
    yield clock.begin("write")
    write_listening(folder, rounds, sr, key_of(inputs, rounds, seed=request.seed), overwrite=overwrite)
    yield Done(rounds)


def read_blind_test(
    target: Path, sources: Sequence[Path], mosaics: Sequence[Path], *, excerpt: Excerpt = WHOLE
) -> MosaicInputs:
    """Read the files of a blind comparison.

    Raises
    ------
    AudioFileError, ValueError : as for `smalti.workflows.judge.read_mosaics`; also if there are fewer than two mosaics
        or more than eight, or one is named twice.
    """
    if not 2 <= len(mosaics) <= len(LETTERS):
        got = "one mosaic" if len(mosaics) == 1 else f"{len(mosaics)} mosaics"
        raise ValueError(f"{got} cannot be compared by ear; name 2 to {len(LETTERS)}")
    for i, mosaic in enumerate(mosaics):
        if any(same_file(mosaic, other) for other in mosaics[:i]):
            raise ValueError(f"{mosaic} is named twice; name two that differ")
    read = read_mosaics(target, sources, mosaics, excerpt=excerpt, purpose="compare")
    warnings = list(read.warnings)
    for i, recording in enumerate(read.mosaics):
        warnings += [f"{recording.path}: {sentence}" for sentence in recording.warnings]
        warnings += _suspicions(recording, read.mosaics[:i], read.target.recording)
    return replace(read, warnings=tuple(warnings))


def _suspicions(mosaic: Recording, others: Sequence[Recording], target: Recording) -> Iterator[str]:
    for other in others:
        if mosaic.sha256 == other.sha256:
            yield f"{other.path} and {mosaic.path} are the same sound: there is no difference to hear"
    if abs(mosaic.duration_s - target.duration_s) > FAR_OFF_S:
        yield (
            f"{mosaic.path} lasts {mosaic.duration_s:.1f} s and the target {target.duration_s:.1f} s: it is cut, or "
            "padded with silence; check the excerpt (--start, --end) and the files"
        )


def draw_rounds(
    inputs: MosaicInputs,
    *,
    rounds: int = DEFAULT_ROUNDS,
    length_s: float = DEFAULT_LENGTH_S,
    rng: int | np.random.Generator = 0,
) -> tuple[list[Round], int]:
    """Cut, level and shuffle the sounds of all rounds.

    Parameters
    ----------
    inputs : see `read_blind_test`.
    rounds : how many, 1 to 100.
    length_s : seconds of each round's stretch, at least 0.5; a shorter target is heard in full each time.
    rng : the seed of the order, or a Generator.

    Returns
    -------
    The rounds, and their sample rate in Hz. All sounds have the same length and number of channels, and the same
    loudness except where a mosaic is silent.

    Raises
    ------
    AudioFileError : if a mosaic is silent for as long as the target lasts.
    ValueError : if `rounds` or `length_s` is out of range.
    """
    check_count("rounds", rounds, least=1)
    if rounds > MOST_QUESTIONS:
        raise ValueError(f"rounds is {rounds}; pass at most {MOST_QUESTIONS}")
    check_real("length_s", length_s, least=SHORTEST_ROUND_S)
    sr = min(max(inputs.sr, SLOWEST_HZ), FASTEST_HZ)
    target = resample(inputs.target.samples, inputs.sr, sr)
    sources = [resample(samples, inputs.sr, sr) for samples in inputs.source.samples]
    mosaics = [resample(mosaic.samples, mosaic.sr, sr) for mosaic in inputs.mosaics]
    # All sounds have equally many channels, since a single mono sound would be recognised.
    channels = min(2, max(map(n_channels, (target, *sources, *mosaics))))
    target, *mosaics = (fitted(sound, target.shape[-1], channels) for sound in (target, *mosaics))
    for recording, mosaic in zip(inputs.mosaics, mosaics, strict=True):
        if not np.abs(mosaic).max() > QUIETEST:
            raise AudioFileError(
                f"cannot compare {recording.path}: it is silent for as long as the target lasts; "
                "check the excerpt (--start, --end) and the file"
            )
    source = np.concatenate([fitted(sound, sound.shape[-1], channels) for sound in sources], axis=-1)

    wholes = [amplified(sound, LOUDNESS - integrated_loudness(sound, sr)) for sound in (target, source, *mosaics)]
    target, source, *mosaics = wholes

    length = min(target.shape[-1], round(length_s * sr))
    source = fitted(source, max(length, source.shape[-1]), channels)
    orders = draw_orders(len(mosaics), rounds, rng=rng)
    starts, source_starts = stretches([target, *mosaics], length, rounds), stretches([source], length, rounds)
    clips = [
        {
            "target": _excerpt(target, start, length, sr),
            "source": _excerpt(source, source_start, length, sr),
            **{LETTERS[i].lower(): _excerpt(mosaics[mosaic], start, length, sr) for i, mosaic in enumerate(order)},
        }
        for start, source_start, order in zip(starts, source_starts, orders, strict=True)
    ]
    return [
        Round(start / sr, (start + length) / sr, order, sounds)
        for start, order, sounds in zip(starts, orders, levelled(clips, sr), strict=True)
    ], sr


def fitted(sound: Floats, length: int, channels: int) -> Floats:
    """`sound` cut or padded with silence to `length` samples, in one channel or two.

    One channel is heard from both loudspeakers. More than two are mixed down to one first.
    """
    if n_channels(sound) > 2 or channels == 1:
        sound = to_mono(sound)
    sound = as_channels(sound)[:, :length]
    sound = np.pad(sound, ((0, 0), (0, length - sound.shape[1])))
    return stack_channels([sound[min(channel, len(sound) - 1)] for channel in range(channels)])


def draw_orders(n_mosaics: int, rounds: int, *, rng: int | np.random.Generator = 0) -> list[tuple[int, ...]]:
    """For each round, the index of the mosaic behind each letter.

    Over all rounds, every mosaic has every letter equally often, or once more. The rounds are shuffled, so one round's
    order tells nothing certain about the next.
    """
    rng = np.random.default_rng(rng)
    orders = list[tuple[int, ...]]()
    while len(orders) < rounds:
        # A Latin square: each mosaic once under each letter.
        first = rng.permutation(n_mosaics)
        square = [tuple(int(mosaic) for mosaic in np.roll(first, shift)) for shift in range(n_mosaics)]
        orders += [square[row] for row in rng.permutation(n_mosaics)]
    orders = orders[:rounds]
    return [orders[i] for i in rng.permutation(rounds)]


def stretches(sounds: Sequence[Floats], length: int, n: int) -> list[int]:
    """The first samples of `n` stretches of `length` samples, spread over sounds of equal length.

    The possible beginnings are divided into `n` equal parts. In the middle half of each part, the stretch is
    taken that maximises the smallest share of a sound's energy in it, since stretches with a silent sound say little.
    """
    last = sounds[0].shape[-1] - length
    energies = [np.cumsum(np.square(as_channels(sound), dtype=np.float64).sum(axis=0)) for sound in sounds]
    starts = []
    for part in range(n):
        places = np.linspace(part + 0.25, part + 0.75, _PLACES) * last / n
        at = np.unique(np.rint(places).astype(np.int64))
        shares = [(energy[at + length - 1] - energy[at]) / (energy[-1] or 1.0) for energy in energies]
        starts.append(int(at[np.argmax(np.min(shares, axis=0))]))
    return starts


def _excerpt(sound: Floats, start: int, length: int, sr: int) -> Floats:
    """A stretch of a sound, faded where it is cut inside the sound."""
    clip: Floats = sound[..., start : start + length].copy()
    n = min(round(CUT_FADE_S * sr), length)
    rise = np.linspace(0, 1, n, endpoint=False, dtype=np.float32)
    if start > 0:
        clip[..., :n] *= rise
    if start + length < sound.shape[-1]:
        clip[..., length - n :] *= rise[::-1]
    return clip


def levelled(clips: Sequence[Mapping[str, Floats]], sr: int) -> list[dict[str, Floats]]:
    """Bring all clips of all rounds to one loudness, so that louder sounds have no advantage.

    It is low enough for gains alone to keep all true peaks below -1 dB of full scale. If it would fall below
    `LEAST_LOUDNESS`, peaks are limited instead. The clips come from recordings at `LOUDNESS`; nearly silent clips
    are not changed.
    """
    heights = [{name: _height(clip, sr) for name, clip in round_.items()} for round_ in clips]
    sounding = [
        height for round_ in heights for height in round_.values() if height.loudness > LOUDNESS - SILENT_EXCERPT_DB
    ]
    loudness = max(min([LOUDNESS, *(height.highest for height in sounding)]), LEAST_LOUDNESS)
    return [
        {name: _brought(clip, sr, round_heights[name], loudness) for name, clip in round_.items()}
        for round_, round_heights in zip(clips, heights, strict=True)
    ]


class _Height(NamedTuple):
    loudness: float
    highest: float  # the loudness to which a gain can bring it with all peaks below the ceiling


def _height(clip: Floats, sr: int) -> _Height:
    loudness, peak = integrated_loudness(clip, sr), true_peak(clip, sr)
    peak_db = 20 * math.log10(peak) if peak > 0 else -math.inf
    return _Height(loudness, loudness - peak_db + CEILING_DB - MARGIN_DB if peak > 0 else math.inf)


def _brought(clip: Floats, sr: int, height: _Height, loudness: float) -> Floats:
    if height.loudness <= LOUDNESS - SILENT_EXCERPT_DB:
        return clip
    if height.highest < loudness:
        return match_loudness(clip, sr, loudness).samples
    return amplified(clip, loudness - height.loudness)


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

    Everything is written into a hidden folder beside `folder`, which is then renamed. If anything fails before that,
    Ctrl-C included, the hidden folder is removed and an earlier comparison stays unchanged.

    Raises
    ------
    AudioFileError : see `check_folder`; also if the disk is full or fails.
    """
    place = Path(os.path.realpath(folder))
    part, old = hidden_beside(place), hidden_beside(place)
    try:
        try:
            (part / SOUNDS).mkdir(parents=True)
            for number, round_ in enumerate(rounds, start=1):
                for name, samples in round_.sounds.items():
                    # 16 bits without compression: all files have the same size, which must not tell sounds apart.
                    sound = encode_audio(samples.astype(np.float32), sr, ending=".wav", subtype="PCM_16")
                    (part / SOUNDS / f"{number:02d}-{name}.wav").write_bytes(sound)
            (part / PAGE).write_text(page_of(key), encoding="utf-8")
            check_folder(folder, [], overwrite=overwrite)
            if place.exists():
                place.replace(old)
            part.replace(place)
        finally:
            if old.exists() and not place.exists():
                old.replace(place)
            for folder_ in (part, old):
                shutil.rmtree(folder_, ignore_errors=True)
    except OSError as error:
        raise AudioFileError(
            f"cannot write {folder}: {reason_of(error)}; choose another folder"
        ) from error
