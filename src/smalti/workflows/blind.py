"""Compare mosaics by ear without knowing which is which: `blind_steps` does all that a `BlindRequest` asks for.

`read_blind_test` reads and refuses, `draw_rounds` cuts the sounds, levels them and draws their order, and
`write_listening` makes the folder: ``listen.html`` and the sounds it plays. ``listen.html`` beside this module is the
page's template, with one gap for the key.
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
from smalti.io.files import check_writable, hidden_beside, same_file
from smalti.io.sound_read import Recording, resample
from smalti.io.sound_write import encode_audio
from smalti.workflows.inputs import WHOLE, Excerpt, describe_recording, named_file
from smalti.workflows.judge import FAR_OFF_S, MosaicInputs, read_mosaics
from smalti.workflows.steps import Clock, Done, Events, Request, Warned

PAGE, SOUNDS = "listen.html", "sounds"
# The place of the key in the page's template.
_GAP = "{{key}}"
# A round has a letter a mosaic. More than these nobody keeps apart, and S and T are keys of their own.
LETTERS = "ABCDEFGH"
MOST_QUESTIONS = 100
# With as many, eight answers of eight are chance once in 128 tests, seven of eight once in fourteen.
DEFAULT_ROUNDS, DEFAULT_LENGTH_S = 8, 8.0
SHORTEST_ROUND_S = 0.5
# Rates that every browser plays.
SLOWEST_HZ, FASTEST_HZ = 8000, 48000
# All sounds are as loud as this, or less where one's peaks ask for it; below the lesser, peaks are limited instead.
LOUDNESS, LEAST_LOUDNESS = -20.0, -36.0
# An excerpt so much quieter than the recording it is from counts as silent: at one loudness it would be mere hiss.
SILENT_EXCERPT_DB = 50.0
# Cuts inside a recording fade over this long, or they would click.
CUT_FADE_S = 0.01
# At so many places of each part of the target an excerpt may begin.
_PLACES = 64


@dataclass(frozen=True, eq=False)
class Round:
    """One round: one stretch of the target, and what is heard beside it.

    Attributes
    ----------
    start_s, end_s : the stretch, in seconds of the target's excerpt.
    order : for each letter, from A on, which mosaic stands behind it.
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
    excerpt : of the target, that the mosaics re-create, in seconds.
    seed : of the order behind the letters.
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
    Done : the last one; `result` is the list of rounds.

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
    """Read what is to be compared.

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
    """Cut, level and shuffle: everything that is heard.

    Parameters
    ----------
    inputs : see `read_blind_test`.
    rounds : how many, 1 to 100.
    length_s : of each round's stretch in seconds, at least 0.5; a shorter target is heard whole each time.
    rng : the seed of the order, or a Generator.

    Returns
    -------
    The rounds, whose sounds all have one length, as many channels and, but for stretches in which a mosaic is silent,
    one loudness; and their sample rate in Hz.

    Raises
    ------
    AudioFileError : if a mosaic is silent for as long as the target lasts.
    ValueError : if there are to be too few rounds or too many, or too short ones.
    """
    check_count("rounds", rounds, least=1)
    if rounds > MOST_QUESTIONS:
        raise ValueError(f"rounds is {rounds}; pass at most {MOST_QUESTIONS}")
    check_real("length_s", length_s, least=SHORTEST_ROUND_S)
    sr = min(max(inputs.sr, SLOWEST_HZ), FASTEST_HZ)
    target = resample(inputs.target.samples, inputs.sr, sr)
    sources = [resample(samples, inputs.sr, sr) for samples in inputs.source.samples]
    mosaics = [resample(mosaic.samples, mosaic.sr, sr) for mosaic in inputs.mosaics]
    # Two loudspeakers or one, for all alike: a sound that alone comes from the middle would be known by it.
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
    """`sound` as long as `length`, cut or padded with silence, in one channel or two.

    One channel is heard from both loudspeakers; of more than two, their mono mix is.
    """
    if n_channels(sound) > 2 or channels == 1:
        sound = to_mono(sound)
    sound = as_channels(sound)[:, :length]
    sound = np.pad(sound, ((0, 0), (0, length - sound.shape[1])))
    return stack_channels([sound[min(channel, len(sound) - 1)] for channel in range(channels)])


def draw_orders(n_mosaics: int, rounds: int, *, rng: int | np.random.Generator = 0) -> list[tuple[int, ...]]:
    """For each round, which mosaic stands behind each letter.

    Over the rounds every mosaic has every letter equally often, or once more. The balance is of the whole: who finds
    out one round's order learns nothing certain of the next.
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
    """The first samples of `n` stretches of `length`, spread over sounds that are equally long.

    The beginnings are divided into `n` equal parts, and in the middle half of each the stretch is taken in which the
    sound that has the least of its energy there has the most: what one of them is silent in says little.
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
    """A stretch, faded where it is cut out of more."""
    clip: Floats = sound[..., start : start + length].copy()
    n = min(round(CUT_FADE_S * sr), length)
    rise = np.linspace(0, 1, n, endpoint=False, dtype=np.float32)
    if start > 0:
        clip[..., :n] *= rise
    if start + length < sound.shape[-1]:
        clip[..., length - n :] *= rise[::-1]
    return clip


def levelled(clips: Sequence[Mapping[str, Floats]], sr: int) -> list[dict[str, Floats]]:
    """All clips of all rounds at one loudness, so that louder does not win.

    It is that at which no true peak reaches -1 dB of full scale, so that gains suffice; only where that would be very
    quiet are peaks limited. The clips are of recordings at `LOUDNESS`; one that is as good as silent stays so.
    """
    heights = [{name: _height(clip, sr) for name, clip in round_.items()} for round_ in clips]
    sounding = [own for round_ in heights for own in round_.values() if own.loudness > LOUDNESS - SILENT_EXCERPT_DB]
    loudness = max(min([LOUDNESS, *(own.highest for own in sounding)]), LEAST_LOUDNESS)
    return [
        {name: _brought(clip, sr, own[name], loudness) for name, clip in round_.items()}
        for round_, own in zip(clips, heights, strict=True)
    ]


class _Height(NamedTuple):
    loudness: float
    highest: float  # the loudness to which a gain can bring it without a peak above the ceiling


def _height(clip: Floats, sr: int) -> _Height:
    loudness, peak = integrated_loudness(clip, sr), true_peak(clip, sr)
    peak_db = 20 * math.log10(peak) if peak > 0 else -math.inf
    return _Height(loudness, loudness - peak_db + CEILING_DB - MARGIN_DB if peak > 0 else math.inf)


def _brought(clip: Floats, sr: int, own: _Height, loudness: float) -> Floats:
    if own.loudness <= LOUDNESS - SILENT_EXCERPT_DB:
        return clip
    if own.highest < loudness:
        return match_loudness(clip, sr, loudness).samples
    return amplified(clip, loudness - own.loudness)


def key_of(inputs: MosaicInputs, rounds: Sequence[Round], *, seed: int) -> dict[str, Any]:
    """Who stands behind which letter: what the page reveals at its end; plain types, ready for JSON."""
    return {
        "smalti": version("smalti"),
        "seed": seed,
        "target": describe_recording(inputs.target.recording),
        "sources": list(map(describe_recording, inputs.source.recordings)),
        "mosaics": list(map(describe_recording, inputs.mosaics)),
        "rounds": [{"start_s": one.start_s, "end_s": one.end_s, "order": list(one.order)} for one in rounds],
    }


def hidden(key: Mapping[str, Any]) -> str:
    """A key as text that nobody reads by chance. It is no secret: the page itself can read it, and so can you."""
    text = json.dumps(key, allow_nan=False).encode()
    # listen.html undoes it with the same numbers.
    masked = bytes(byte ^ (7 * i + 91) % 256 for i, byte in enumerate(text))
    return base64.b64encode(masked).decode()


def page_of(key: Mapping[str, Any]) -> str:
    """The page, which holds its style, its script and its key, and asks for nothing but the sounds beside it."""
    template = files("smalti.workflows").joinpath(PAGE).read_text(encoding="utf-8")
    return template.replace(_GAP, hidden(key))


def check_folder(folder: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse, before any work, a folder that cannot or must not be written.

    Raises
    ------
    ValueError : if it would replace one of `inputs`.
    AudioFileError : if it exists and may not be overwritten, or is no earlier comparison; if the folder that it is to
        stand in is missing or not writable.
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
    # A file of that name could be written wherever a folder can.
    check_writable(hidden_beside(place), overwrite=False)


def _is_comparison(folder: Path) -> bool:
    if not folder.is_dir() or {entry.name for entry in folder.iterdir()} != {PAGE, SOUNDS}:
        return False
    return all(sound.suffix == ".wav" for sound in (folder / SOUNDS).iterdir())


def write_listening(
    folder: Path, rounds: Sequence[Round], sr: int, key: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write the page and its sounds; whole or not at all.

    All is written into a hidden folder beside `folder`, which then takes the name. Whatever happens before, Ctrl-C
    included, the hidden folder is removed and an earlier comparison is as it was.

    Raises
    ------
    AudioFileError : see `check_folder`; also if the disk is full or fails.
    """
    place = Path(os.path.realpath(folder))
    part, old = hidden_beside(place), hidden_beside(place)
    try:
        try:
            (part / SOUNDS).mkdir(parents=True)
            for number, one in enumerate(rounds, start=1):
                for name, samples in one.sounds.items():
                    # 16 bits without compression: files of one size, whatever sounds in them.
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
            f"cannot write {folder}: {(error.strerror or str(error)).lower()}; choose another folder"
        ) from error
