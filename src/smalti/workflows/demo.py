"""Synthesised demo recordings: a swarm of bees (source) and a plucked melody with chords (target).

Both are synthesised once, at `DEMO_RATE`, and then carried to the wanted sampling rate by trimming or padding
their Fourier series. A rate therefore changes only the bandwidth: every random decision, every note and every
length is the same at all rates, and nothing can alias.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.fft

from smalti.io.files import check_writable, make_folder
from smalti.io.sound_write import write_audio
from smalti.presets import DEFAULT_PRESET, configure
from smalti.workflows.make import MakeRequest
from smalti.workflows.outputs import Outputs, check_outputs, figures_of

Doubles = npt.NDArray[np.float64]
Number = TypeVar("Number", float, Doubles)

# Bees and strings have next to nothing above 16 kHz.
DEMO_RATE = 32_000
PEAK = 0.7

# The swarm's fundamentals and the melody share two octaves: A2 (110 Hz) to A4 (440 Hz), as MIDI numbers.
LOWEST, HIGHEST = 45, 69


def demo_source(
    sr: int = 22050, *, seconds: float = 20.0, rng: int | np.random.Generator = 0
) -> npt.NDArray[np.float32]:
    """A swarm of bees: single bees passing by, then many, then few, then many, then a last one.

    Bumblebees (wing beats from about 110 Hz), honey bees (230 to 250 Hz) and the smallest solitary bees (to
    440 Hz) fly past. Their pitches glide; together their fundamentals cover the two octaves without a gap.

    Parameters
    ----------
    sr : int, 8000 to 192000. Sampling rate in Hz.
    seconds : float, 10 to 120. Length; longer swarms have more bees.
    rng : int or numpy Generator. The same seed gives the same swarm at every `sr`.

    Returns
    -------
    (round(seconds * sr),) float32 array in [-1, 1], peak about 0.7, silent at both ends.

    Raises
    ------
    TypeError : if `sr` is not an integer.
    ValueError : if `sr` or `seconds` is out of range.

    References
    ----------
    Sueur, Tuck & Robert (2005), "Sound radiation around a flying fly", JASA 118: the wing beat's fundamental
    dominates ahead, its octave at the sides.
    """
    _check_rate(sr)
    if not 10 <= seconds <= 120:
        raise ValueError(f"seconds is {seconds}; choose 10 to 120, room enough to fly through two octaves")
    rng = np.random.default_rng(rng)
    swarm = np.zeros(round(seconds * DEMO_RATE))
    for flight in _plan_flights(seconds, rng):
        _mix_into(swarm, _fly(flight, rng), flight.start_s)
    return _at_rate(swarm, sr, seconds)


def demo_target(sr: int = 22050, *, rng: int | np.random.Generator = 0) -> npt.NDArray[np.float32]:
    """The "Ode to Joy" plucked on nylon strings: melody, chords and bass, from A2 to A4.

    The tune is Beethoven's (1824, in the public domain), the setting and the sound are made here.

    Parameters
    ----------
    sr : int, 8000 to 192000. Sampling rate in Hz.
    rng : int or numpy Generator. Sways timing and force of the notes; the same seed plays the same way at
        every `sr`. The tuning is always equal temperament, A4 = 440 Hz.

    Returns
    -------
    (round(TARGET_SECONDS * sr),) float32 array in [-1, 1], peak about 0.7, silent at both ends.

    Raises
    ------
    TypeError : if `sr` is not an integer.
    ValueError : if `sr` is out of range.
    """
    _check_rate(sr)
    rng = np.random.default_rng(rng)
    music = np.zeros(round(TARGET_SECONDS * DEMO_RATE))
    for voice, line in SCORE.items():
        for note in read_voice(line):
            # A player leans on the downbeat and is some milliseconds early or late.
            stress = 1 + 0.12 * np.cos(np.pi / 2 * note.beat)
            start_s = FIRST_BEAT_S + note.beat * SECONDS_PER_BEAT + rng.uniform(-0.012, 0.012)
            for midi in note.midi:
                force = FORCE[voice] * stress * rng.uniform(0.88, 1.12)
                _mix_into(music, _pluck(_hz(midi), force, note.beats * SECONDS_PER_BEAT, rng), start_s)
                # A thumb and three fingers never pluck a chord's strings all at once.
                start_s += rng.uniform(0.004, 0.014)
    return _at_rate(music, sr, TARGET_SECONDS)


# --- the swarm

# Points of one wing beat: so many that reading without interpolation errs 80 dB below the tone.
TABLE = 2**16


@dataclass(frozen=True)
class _Flight:
    """One bee's passage: where its pitch goes, how near it comes, how fast it flies."""

    start_s: float
    length_s: float
    midi: float
    glide: float
    nearest_m: float
    speed: float


def _plan_flights(seconds: float, rng: np.random.Generator) -> list[_Flight]:
    """Spread flights over time (two gatherings, lone bees around them) and over the two octaves (no gap)."""
    n = max(16, round(0.8 * seconds))
    # One flight per equal share of the crowd, placed anywhere within its share: random, but never a hole.
    time = np.linspace(0, 1, 1001)
    crowd = np.cumsum(0.3 + np.sin(2 * np.pi * time) ** 2)
    when = np.interp(np.arange(n) + rng.uniform(0.2, 0.8, n), n * crowd / crowd[-1], time)
    when = (when - when[0]) / (when[-1] - when[0])
    # The golden ratio's multiples, ranked: a permutation that keeps neighbours in time apart in pitch.
    rank = np.argsort(np.argsort((np.arange(n) * (np.sqrt(5) - 1) / 2 + rng.uniform()) % 1))
    # The pitches go a semitone beyond the top, where harmonics of deeper bees hide a fundamental most easily.
    share = (HIGHEST + 1 - LOWEST) / (n - 1)
    midi = LOWEST + share * rank
    flights = []
    for u, pitch in zip(when, midi, strict=True):
        length_s = rng.uniform(2.5, 4.5)
        flights.append(
            _Flight(
                start_s=u * (seconds - length_s),
                length_s=length_s,
                midi=pitch,
                glide=rng.choice([-1, 1]) * max(rng.uniform(2.5, 5), 3 * share),
                nearest_m=0.3 * 2.5 ** rng.uniform(0, 1),
                speed=0.5 * 5 ** rng.uniform(0, 1),
            )
        )
    return flights


def _fly(flight: _Flight, rng: np.random.Generator) -> Doubles:
    """The sound of one passage at the listener's ear."""
    n = round(flight.length_s * DEMO_RATE)
    t = (np.arange(n) - n / 2) / DEMO_RATE

    # The bee flies straight past the listener, at an irregular speed.
    along = flight.speed * t + 0.25 * _noise(n, _below(0.6), rng)
    distance = np.hypot(along, flight.nearest_m)
    doppler = 1 / (1 + np.gradient(distance) * DEMO_RATE / 343)
    broadside = (flight.nearest_m / distance) ** 2

    semitones = flight.midi + flight.glide * t / flight.length_s + 0.25 * _noise(n, _below(1.5), rng)
    jitter = 1 + 0.005 * _noise(n, _below(25), rng)
    phase = np.cumsum(_hz(semitones) * jitter * doppler) / DEMO_RATE

    odd, even = _wing_strokes(_hz(flight.midi), rng)[:, (phase * TABLE).astype(int) % TABLE]
    tone = (1 - 0.5 * broadside) * odd + (0.4 + 0.6 * broadside) * even
    # Two strokes a beat, one of them stronger, each with its gust.
    gusts = 1 + 0.6 * np.cos(2 * np.pi * (2 * phase + rng.uniform())) + 0.4 * np.cos(2 * np.pi * phase)
    air = 0.05 * gusts * _noise(n, _around(1500), rng)

    flutter = np.exp(0.2 * _noise(n, _below(9), rng) + 0.06 * _noise(n, _below(40), rng))
    fade = np.minimum(1, (1 - np.abs(t) * 2 / flight.length_s) / 0.3)
    heard: Doubles = np.sin(np.pi / 2 * fade) ** 2 * flutter * (tone + air) / distance
    return heard


def _wing_strokes(hz: float, rng: np.random.Generator) -> Doubles:
    """One wing beat as two wave tables (rows), its odd and its even harmonics.

    Two equal strokes would repeat every half beat, with even harmonics only; their difference makes the odd.
    """
    # Five semitones above `hz` are more than glide, wander and Doppler ever add: nothing aliases.
    k = np.arange(1, int(DEMO_RATE / 2 / (hz * 2 ** (5 / 12))))
    f = k * hz
    amplitude = k**-1.0 / (1 + (f / 2500) ** 2)
    # Thorax and wings resonate; larger, deeper bees lower.
    size = (hz / 230) ** 0.4
    for centre, width, gain in ((750 * size, 0.35, 1.5), (2300 * size, 0.3, 2.5)):
        amplitude *= 1 + gain * np.exp(-((np.log(f / centre) / width) ** 2))
    amplitude *= np.exp(0.25 * rng.standard_normal(len(k)))
    spectrum = np.zeros((2, TABLE // 2 + 1), complex)
    spectrum[1 - k % 2, k] = TABLE / 2 * amplitude * np.exp(1j * rng.uniform(-np.pi, np.pi, len(k)))
    tables: Doubles = scipy.fft.irfft(spectrum)
    return tables


# --- the melody

# One line a voice: pitches (those of a chord joined by +), :beats unless one; - is a rest, | ends a bar.
SCORE = {
    "melody": "F#4 F#4 G4 A4   | A4 G4 F#4 E4    | D4 D4 E4 F#4         | E4:1.5 D4:0.5 D4:4.5",
    "chords": "- F#3+A3 - A3+D4 | - G3+B3 - G3+C#4 | - F#3+B3 A3 F#3+A3 | - G3+C#4 F#3+A3:4.5",
    "bass": "D3:2 A2:2        | D3:2 A2:2         | B2:2 C#3 D3        | A2:2 D3:4.5",
}
NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# The player's balance: the melody sings, the bass carries, the chords keep back.
FORCE = {"melody": 1.0, "chords": 0.4, "bass": 0.6}
FIRST_BEAT_S = 0.1
SECONDS_PER_BEAT = 0.55
TARGET_SECONDS = 11.0
# How long a finger takes to still a string.
DAMPING_S = 0.3


class PluckedNote(NamedTuple):
    """One note, or a chord's notes together: start and length in beats, pitches as MIDI numbers."""

    beat: float
    beats: float
    midi: tuple[int, ...]


def read_voice(line: str) -> tuple[PluckedNote, ...]:
    """Read one voice of `SCORE`: ``"D3:2 - F#3+A3"`` is a half note, a rest and a chord."""
    notes = []
    beat = 0.0
    for word in line.replace("|", " ").split():
        pitches, _, length = word.partition(":")
        beats = float(length or 1)
        if pitches != "-":
            notes.append(PluckedNote(beat, beats, tuple(_midi(name) for name in pitches.split("+"))))
        beat += beats
    return tuple(notes)


def _midi(name: str) -> int:
    """``"A4"`` is 69, ``"C#4"`` 61."""
    return NOTE_NAMES.index(name[:-1]) + 12 * (int(name[-1]) + 1)


def _pluck(hz: float, force: float, seconds: float, rng: np.random.Generator) -> Doubles:
    """A nylon string plucked a fifth of the way along it, damped after `seconds`."""
    n = round((seconds + DAMPING_S) * DEMO_RATE)
    t = np.arange(n) / DEMO_RATE

    # Stiffness stretches the partials; the first one is the tempered pitch itself.
    stiffness = 4e-5
    k = np.arange(1, int(0.45 * DEMO_RATE / hz))
    f = hz * k * np.sqrt((1 + stiffness * k**2) / (1 + stiffness))
    f = f[f < 0.48 * DEMO_RATE]
    k = k[: len(f)]
    # A harder pluck is brighter, not only louder.
    amplitude = force * np.sin(np.pi * k / 5.2) / k / (1 + (f / (900 + 2200 * force)) ** 2)
    decay = 1.2 * np.sqrt(hz / 220) + 1.5 * (f / 1000) ** 2
    string = _damped_sines(amplitude, f, decay, n)

    finger = 0.03 * force * np.exp(-t / 0.005) * _noise(n, _around(1200), rng)
    attack = np.minimum(1, t / 0.002)
    damping = np.clip((n / DEMO_RATE - t) / DAMPING_S, 0, 1)
    heard: Doubles = np.sin(np.pi / 2 * attack) ** 2 * np.sin(np.pi / 2 * damping) ** 2 * (string + finger)
    return heard


def _damped_sines(amplitude: Doubles, f: Doubles, decay: Doubles, n: int) -> Doubles:
    """Sum of ``amplitude[k] * exp(-decay[k] * t) * sin(2 * pi * f[k] * t)`` over k, `n` samples at `DEMO_RATE`.

    Each sine is the imaginary part of z**i, and with i = block * q + r, z**i = z**(block * q) * z**r: all
    sines together are one small matrix product.
    """
    block = 256
    log_z = (2j * np.pi * f - decay) / DEMO_RATE
    coarse = np.exp(np.outer(block * np.arange(n // block + 1), log_z))
    fine = np.exp(np.outer(log_z, np.arange(block)))
    waves: Doubles = (coarse * amplitude @ fine).imag.ravel()[:n]
    return waves


# --- shared


def _hz(midi: Number) -> Number:
    return 440 * 2 ** ((midi - 69) / 12)


def _below(hz: float) -> Callable[[Doubles], Doubles]:
    """A smooth low-pass shape for `_noise`."""
    return lambda f: np.exp(-((f / hz) ** 2))


def _around(hz: float) -> Callable[[Doubles], Doubles]:
    """A wide band-pass shape for `_noise`, 12 dB an octave to both sides."""
    return lambda f: (f / hz) ** 2 / (1 + (f / hz) ** 4)


def _noise(n: int, shape: Callable[[Doubles], Doubles], rng: np.random.Generator) -> Doubles:
    """`n` samples of Gaussian noise of RMS 1 whose magnitude spectrum follows ``shape(f_hz)``."""
    size = scipy.fft.next_fast_len(n, real=True)
    gain = shape(np.arange(1, size // 2) * (DEMO_RATE / size))
    # Bins without gain would cost random draws and add nothing.
    gain = gain[: np.flatnonzero(gain > 1e-6 * gain.max())[-1] + 1]
    spectrum = np.zeros(size // 2 + 1, complex)
    spectrum[1 : len(gain) + 1] = gain * rng.standard_normal(2 * len(gain)).view(complex)
    noise: Doubles = scipy.fft.irfft(spectrum, size)[:n]
    noise /= np.sqrt(np.mean(noise**2))
    return noise


def _mix_into(mix: Doubles, sound: Doubles, start_s: float) -> None:
    """Add `sound` to `mix` in place from `start_s` on; what reaches beyond the end is cut."""
    start = round(start_s * DEMO_RATE)
    room = mix[start : start + len(sound)]
    room += sound[: len(room)]


def _at_rate(y: Doubles, sr: int, seconds: float) -> npt.NDArray[np.float32]:
    """Carry `y` from `DEMO_RATE` to `sr` and its peak to `PEAK`."""
    # Whole seconds have a whole number of samples at every rate, so the Fourier series is the same at all.
    n_seconds = int(np.ceil(seconds))
    spectrum = scipy.fft.rfft(PEAK * y / np.abs(y).max(), n_seconds * DEMO_RATE)
    spectrum = spectrum[: n_seconds * min(sr, DEMO_RATE) // 2 + 1]
    # A soft edge keeps low rates from ringing before every attack.
    edge = np.linspace(0, np.pi, len(spectrum) // 20)
    spectrum[-len(edge) :] *= 0.5 + 0.5 * np.cos(edge)
    out: Doubles = scipy.fft.irfft(spectrum, n_seconds * sr) * (sr / DEMO_RATE)
    return out[: round(seconds * sr)].astype(np.float32)


def _check_rate(sr: int) -> None:
    if not isinstance(sr, (int, np.integer)):
        raise TypeError(f"sr is {sr!r}; it must be a whole number of Hz, such as 22050")
    if not 8000 <= sr <= 192_000:
        raise ValueError(f"sr is {sr} Hz; choose 8000 to 192000, such as 22050")


def prepare_demo(
    folder: Path, *, preset: str = DEFAULT_PRESET, seed: int = 0, overwrite: bool = False, figures: bool = True
) -> MakeRequest:
    """Write the demo's target and source into a folder, made if it does not exist; return the request for their mosaic.

    Raises
    ------
    AudioFileError : if a file exists and may not be replaced, or the folder cannot be written to.
    """
    settings = configure(preset)
    target, source = folder / "target.wav", folder / "source.wav"
    outputs = Outputs(
        audio=folder / "mosaic.wav",
        figures=folder / "figures" if figures else None,
        report=folder / "report.json",
        overwrite=overwrite,
    )
    make_folder(folder)
    check_outputs(outputs, [target, source], drawn=figures_of(settings))
    for file in (target, source):
        check_writable(file, overwrite=overwrite)
    sr = 22050
    write_audio(target, demo_target(sr), sr, overwrite=overwrite)
    write_audio(source, demo_source(sr), sr, overwrite=overwrite)
    return MakeRequest(str(target), (str(source),), outputs, settings, preset, seed=seed, measured=True)
