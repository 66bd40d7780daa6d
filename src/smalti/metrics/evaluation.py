"""All measures of a mosaic at once, and the two numbers that sum them up.

`reference` computes once what depends on target and source alone. `measure` then compares any number of mosaics with
it. `evaluate` does both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike

from smalti._checks import Floats, check_rate, check_sound
from smalti.dsp.bands import a_weights, audible, decibels, mel_filters
from smalti.dsp.channels import as_channels, to_mono
from smalti.dsp.conditioning import highpass
from smalti.dsp.onsets import onset_times
from smalti.dsp.stft import Complexes, StftParams, stft
from smalti.grains.dictionary import Dictionary, as_recordings
from smalti.grains.synthesis import mix
from smalti.metrics import artefacts, fidelity, grains
from smalti.metrics.features import (
    FINE_GRID,
    GRID,
    RATE,
    SHORT_GRID,
    cepstra,
    chroma_filters,
    fine_structure,
    modulation_spectra,
    onset_strength,
    patches,
    pick_onsets,
    resampled,
)
from smalti.metrics.timbre import Scale


@dataclass(frozen=True)
class Measure:
    """The meaning of a number of `evaluate`.

    Attributes
    ----------
    group : "composite", "cheating", "fidelity", "timbre", "grains" or "artefacts".
    better : "higher", "lower", or "" where it is a matter of taste.
    limit : what a good mosaic keeps to, or None.
    summary : at most 39 letters for tables.
    unit : "dB", "ms", "1/s", or "" for a bare number.
    """

    group: str
    better: str
    limit: float | None
    summary: str
    unit: str = ""


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "FID": Measure("composite", "higher", None, "follows the target; read with leak"),
        "TIM": Measure("composite", "higher", None, "sounds like the source; read with FID"),
        "leak": Measure("cheating", "lower", 0.05, "the target itself in the mosaic, 0 to 1"),
        "in_phase": Measure("cheating", "lower", 0.03, "the target's own waveform, 0 to 1"),
        "kl": Measure("fidelity", "lower", None, "spectrum missing or in the wrong place"),
        "sc": Measure("fidelity", "lower", None, "the same, of the loudest partials"),
        "lmd": Measure("fidelity", "lower", None, "difference of the mel levels", "dB"),
        "chroma_z": Measure("fidelity", "higher", None, "harmony above chance, up to 1"),
        "onset_r": Measure("fidelity", "higher", None, "correlation of the onset envelopes"),
        "onset_F": Measure("fidelity", "higher", None, "onsets met within 50 ms, F-measure"),
        "loud_r": Measure("fidelity", "higher", None, "correlation of the loudness in dB"),
        "rpa": Measure("fidelity", "higher", None, "melody within 50 cents, share of frames"),
        "rca": Measure("fidelity", "higher", None, "the same, octave errors forgiven"),
        "tim_nn": Measure("timbre", "higher", None, "cepstra: 1 the source's, 0 the target's"),
        "tex_nn": Measure("timbre", "higher", None, "190 ms textures: 1 the source's"),
        "fine_nn": Measure("timbre", "higher", None, "fine spectrum: 1 the source's"),
        "fd": Measure("timbre", "lower", None, "spread of cepstra: 0 the source's"),
        "mod": Measure("timbre", "lower", None, "modulation: 0 the source's"),
        "run_ms": Measure("grains", "", None, "length of the runs of source frames", "ms"),
        "long": Measure("grains", "", None, "share of energy in runs from 150 ms"),
        "rep": Measure("grains", "lower", None, "share of energy that stutters"),
        "poly": Measure("grains", "", None, "source frames sounding at once"),
        "incons": Measure("artefacts", "lower", 0.15, "overlapping grains disagree, 0 to 1"),
        "model_err": Measure("artefacts", "lower", 0.15, "sound against W H, 0 to 1"),
        "hopbuzz": Measure("artefacts", "lower", 1.0, "buzz at the hop rate over other rates", "dB"),
        "pre_x": Measure("artefacts", "lower", 2.0, "pre-echo at attacks, over the target's", "dB"),
        "clicks": Measure("artefacts", "lower", 0.1, "clicks that the target has not", "1/s"),
        "dc": Measure("artefacts", "lower", 0.01, "mean over RMS"),
        "clipping": Measure("artefacts", "lower", 0.0, "share of samples in flat tops"),
    }
)


@dataclass(frozen=True, eq=False)
class Blueprint:
    """Facts on how a mosaic was made; measures that need a fact that is None are left out.

    Attributes
    ----------
    params, sr : the grid it was made on; its hop is where `hop_buzz_db` listens.
    activations : (K, N) array or scipy.sparse matrix, or None.
    norms, segments : (K,) Euclidean lengths of the atoms, and the stretch of a recording that each is from; with
        `activations` only.
    model : (F, N) magnitudes ``W @ H`` that the mosaic was to have, or None.
    spectrum : (F, N) complex frames whose consistency is measured, or None.
    sound : (L,) the sound of the model before its levels were shaped or changed, or None for the mosaic itself.
    """

    params: StftParams
    sr: int
    activations: Any = None
    norms: ArrayLike | None = None
    segments: ArrayLike | None = None
    model: Floats | None = None
    spectrum: Complexes | None = None
    sound: Floats | None = None

    def __post_init__(self) -> None:
        check_rate("sr", self.sr)
        if self.activations is not None and self.norms is None:
            raise ValueError("norms is None but activations are given; pass the Euclidean length of each atom")

    @classmethod
    def of(cls, activations: Any, dictionary: Dictionary) -> "Blueprint":
        """Everything that follows from the activations of a `Mosaic` and its dictionary.

        The `spectrum` is that of the source frames added up, where Griffin-Lim may have started.
        """
        H = scipy.sparse.csc_array(activations)
        return cls(
            params=dictionary.params,
            sr=dictionary.sr,
            activations=H,
            norms=dictionary.norms,
            segments=dictionary.stretches,
            model=mix(dictionary.magnitudes, H),
            spectrum=mix(dictionary.spectra, H),
        )


@dataclass(frozen=True, eq=False)
class SoundAnalysis:
    """One recording and the features that are measured, each computed when first needed.

    Attributes
    ----------
    samples : (L,) float32 at `RATE`, without rumble, RMS 1 (or silent), so that no feature depends on the recording's
        gain, or on DC, which has a measure of its own.
    """

    samples: Floats

    @classmethod
    def of(cls, samples: Floats, sr: int) -> "SoundAnalysis":
        peak = float(np.abs(samples).max())
        if peak == 0:
            return cls(resampled(samples.astype(np.float32), sr))
        # Samples are divided by their peak first, so that no square underflows.
        doubles = highpass(resampled(samples.astype(np.float64) / peak, sr), RATE)
        return cls((doubles / np.sqrt(np.mean(np.square(doubles)))).astype(np.float32))

    @cached_property
    def spectrum(self) -> Complexes:
        return stft(self.samples, GRID)

    @cached_property
    def magnitudes(self) -> Floats:
        magnitudes: Floats = np.abs(self.spectrum)
        return magnitudes

    @cached_property
    def power(self) -> Floats:
        return np.square(self.magnitudes)

    @cached_property
    def mel(self) -> Floats:
        """(64, N) powers"""
        return self._in_mel_bands(64)

    @cached_property
    def levels(self) -> Floats:
        """(128, N) dB over a span of 80 dB, as is usual for onsets and cepstra."""
        return decibels(self._in_mel_bands(128), span_db=80)

    def _in_mel_bands(self, n_mels: int) -> Floats:
        bands: Floats = mel_filters(n_mels, GRID.n_fft, RATE) @ self.power
        return bands

    @cached_property
    def fine(self) -> Floats:
        """(F, N) magnitudes of the long window"""
        magnitudes: Floats = np.abs(stft(self.samples, FINE_GRID))
        return magnitudes

    @cached_property
    def chroma(self) -> Floats:
        chroma: Floats = chroma_filters(FINE_GRID.n_fft, RATE) @ np.square(self.fine)
        return chroma

    @cached_property
    def onset_envelope(self) -> Floats:
        return onset_strength(self.levels, delay=GRID.n_fft // (2 * GRID.hop))

    @cached_property
    def onsets(self) -> Floats:
        return pick_onsets(self.onset_envelope, GRID.hop / RATE)

    @cached_property
    def loudness(self) -> Floats:
        """(N,) A-weighted powers"""
        hz = np.arange(GRID.n_bins) * (RATE / GRID.n_fft)
        loudness: Floats = a_weights(hz).astype(np.float32) @ self.power
        return loudness

    @cached_property
    def clicks(self) -> Floats:
        return artefacts.click_times(self.samples, RATE)

    @cached_property
    def clouds(self) -> Mapping[str, Floats]:
        """Its audible frames as points (n, D), for each timbre measure."""
        energies = self.power.sum(axis=0, dtype=np.float64)
        stretches = np.convolve(energies, np.ones(min(_PATCH, len(energies))), mode="valid")
        long = np.square(self.fine).sum(axis=0, dtype=np.float64)
        levels = decibels(self.mel, span_db=fidelity.LEVEL_SPAN_DB)
        short = mel_filters(20, SHORT_GRID.n_fft, RATE) @ np.square(np.abs(stft(self.samples, SHORT_GRID)))
        return {
            "tim_nn": cepstra(self.levels)[audible(energies)],
            "tex_nn": patches(levels, frames=_PATCH)[audible(stretches)],
            "fine_nn": fine_structure(self.fine, FINE_GRID.n_fft, RATE)[audible(long)],
            "mod": modulation_spectra(short, RATE / SHORT_GRID.hop),
        }


# Frames in a patch: 190 ms.
_PATCH = 8


@dataclass(frozen=True, eq=False)
class Reference:
    """A target and a source, ready to compare mosaics with; made by `reference`.

    Attributes
    ----------
    sr : sample rate in Hz. length : samples of the target.
    target : its analysis. scales : "tim_nn", "tex_nn", "fine_nn" and "mod", each a `smalti.metrics.timbre.Scale`.
    attacks_s : (A,) seconds, the target's attacks.
    """

    sr: int
    length: int
    target: SoundAnalysis
    scales: Mapping[str, Scale]
    attacks_s: Floats


def reference(target: ArrayLike, source: ArrayLike | Sequence[ArrayLike], sr: int) -> Reference:
    """Analyse what all mosaics of one target and source are measured against.

    Parameters
    ----------
    target : (L,) or (C, L) float32 or float64, not silent. Several channels are mixed down, here and in all else.
    source : one recording, (L,) or (C, L), or a list of them, not all silent. For a mosaic of
        transposed grains, pass the transposed recordings too: their timbre is what it can have.
    sr : sample rate of all in Hz; analysed at 22 050 Hz.

    Returns
    -------
    Reference : half a second's work for 10 s of target and 65 s of source; a measurement then takes a tenth.

    Raises
    ------
    ValueError, TypeError : for signals that are empty, integer, not finite, or silent: there is nothing to
        compare with.
    """
    sr = check_rate("sr", sr)
    samples = to_mono(check_sound("target", target))
    recordings = [to_mono(recording) for recording in as_recordings(source) if recording.any()]
    if not samples.any():
        raise ValueError("target is silent: a mosaic cannot be compared with it; pass a target that sounds")
    if not recordings:
        raise ValueError("source is silent: a mosaic cannot be compared with it; pass a source that sounds")
    analysis = SoundAnalysis.of(samples, sr)
    sources = [SoundAnalysis.of(recording, sr).clouds for recording in recordings]
    scales = {
        name: Scale(
            cloud,
            np.concatenate([clouds[name] for clouds in sources]),
            standardise=name in ("tim_nn", "mod"),
            diagonal=name == "mod",
        )
        for name, cloud in analysis.clouds.items()
    }
    return Reference(sr, len(samples), analysis, scales, onset_times(analysis.samples, RATE))


def measure(
    y: ArrayLike,
    against: Reference,
    *,
    blueprint: Blueprint | None = None,
    hop_s: float | None = None,
    f0: tuple[ArrayLike, ArrayLike] | None = None,
) -> dict[str, float]:
    """Measure one mosaic against its target and source; see `evaluate` for the arguments and the result."""
    sound = check_sound("y", y)
    samples = to_mono(sound)
    numbers: dict[str, float] = {}
    ours, target = SoundAnalysis.of(_of_length(samples, against.length), against.sr), against.target
    numbers["kl"] = fidelity.kl_divergence(target.magnitudes, ours.magnitudes)
    numbers["sc"] = fidelity.spectral_convergence(target.magnitudes, ours.magnitudes)
    numbers["lmd"] = fidelity.log_mel_distance(target.mel, ours.mel)
    numbers["chroma_z"] = fidelity.chroma_agreement(target.chroma, ours.chroma)
    numbers["onset_r"] = fidelity.correlation(target.onset_envelope, ours.onset_envelope)
    numbers["onset_F"] = fidelity.onset_f_measure(target.onsets, ours.onsets)
    loudest = float(target.loudness.max())
    numbers["loud_r"] = fidelity.correlation(
        *(decibels(analysis.loudness, span_db=fidelity.LEVEL_SPAN_DB, loudest=loudest) for analysis in (target, ours))
    )
    if f0 is not None:
        numbers["rpa"] = fidelity.raw_pitch_accuracy(*f0)
        numbers["rca"] = fidelity.raw_chroma_accuracy(*f0)
    for name in ("tim_nn", "tex_nn", "fine_nn"):
        numbers[name] = against.scales[name].nearness(ours.clouds[name])
    numbers["fd"] = against.scales["tim_nn"].frechet_ratio(ours.clouds["tim_nn"])
    numbers["mod"] = against.scales["mod"].frechet_ratio(ours.clouds["mod"])
    if blueprint is not None:
        numbers |= _of_blueprint(blueprint, samples, against.sr)
        hop_s = blueprint.params.hop / against.sr if hop_s is None else hop_s
    if hop_s is not None:
        numbers["hopbuzz"] = artefacts.hop_buzz_db(ours.samples, RATE, hop_s)
    numbers["pre_x"] = artefacts.pre_echo_excess_db(ours.samples, target.samples, RATE, against.attacks_s)
    numbers["clicks"] = artefacts.click_rate(ours.samples, target.clicks, RATE)
    numbers["dc"] = artefacts.dc_share(samples)
    numbers["clipping"] = max(map(artefacts.clipped_share, as_channels(sound)))
    leak = fidelity.leak(target.spectrum, ours.spectrum)
    in_phase = fidelity.in_phase(target.samples, ours.samples)
    composites = {"FID": composite_fidelity(numbers), "TIM": composite_timbre(numbers)}
    return composites | {"leak": leak, "in_phase": in_phase} | numbers


def evaluate(
    y: ArrayLike,
    target: ArrayLike,
    source: ArrayLike | Sequence[ArrayLike],
    sr: int,
    *,
    blueprint: Blueprint | None = None,
    hop_s: float | None = None,
    f0: tuple[ArrayLike, ArrayLike] | None = None,
) -> dict[str, float]:
    """Every measure of how good a mosaic is, by name; `MEASURES` says what each means.

    Parameters
    ----------
    y : (L,) or (C, L) float32 or float64: the mosaic, aligned with the target. Cut or padded with silence to the
        target's length, since other tools round up to whole windows. Its gain does not matter.
    target, source, sr : see `reference`.
    blueprint : how it was made, for ``run_ms``, ``long``, ``rep``, ``poly``, ``incons``, ``model_err`` and ``hopbuzz``.
    hop_s : seconds from one frame of the mosaic to the next, for ``hopbuzz`` of a mosaic without a blueprint, 0.002 or
        more; None is the blueprint's.
    f0 : pitch tracks of target and mosaic, in this order, for ``rpa`` and ``rca``: (N,) Hz each, 0 where unvoiced.

    Returns
    -------
    dict of floats, all finite, in the order of `MEASURES`. A silent mosaic has FID under 0.1, TIM 0 and no artefacts.
    Signals of less than a few windows are measured too, but say little: envelopes of one frame correlate with nothing,
    leak and hopbuzz are 0.

    Raises
    ------
    ValueError, TypeError : for signals that are empty, integer or not finite, for a silent target or source,
        and for a blueprint of another rate or length than `y`.

    Examples
    --------
    >>> import numpy as np
    >>> from smalti.metrics import evaluate
    >>> t = np.arange(22050) / 22050
    >>> target, source = np.sin(2 * np.pi * 440 * t * t), np.sin(2 * np.pi * 3000 * t)
    >>> round(evaluate(target, target, source, 22050)["FID"], 3)
    1.0
    """
    return measure(y, reference(target, source, sr), blueprint=blueprint, hop_s=hop_s, f0=f0)


def target_leak(y: Floats, target: Floats, sr: int) -> float:
    """``leak`` alone: how much of `target` itself is in the mosaic `y`, both (L,); see `fidelity.leak`."""
    return fidelity.leak(SoundAnalysis.of(target, sr).spectrum, SoundAnalysis.of(y, sr).spectrum)


def composite_fidelity(numbers: Mapping[str, float]) -> float:
    """``FID``: how well a mosaic follows its target, 0 to 1.

    The mean of 1 - sc, 1 - kl / 1.5, chroma_z, onset_r, loud_r and 1 - lmd / 20, each cut off at 0 and 1. A plain mix
    of target and source has about 0.6: read it with ``leak``. From one random start to another it moves by at most
    0.01.

    References
    ----------
    Ours.
    """
    return _mean_of_clipped(
        1 - numbers["sc"],
        1 - numbers["kl"] / 1.5,
        numbers["chroma_z"],
        numbers["onset_r"],
        numbers["loud_r"],
        1 - numbers["lmd"] / 20,
    )


def composite_timbre(numbers: Mapping[str, float]) -> float:
    """``TIM``: how much a mosaic sounds like its source, 0 to 1.

    The mean of tim_nn, tex_nn, fine_nn, 1 - fd and 1 - mod, each cut off at 0 and 1. White noise can reach 0.65: read
    it with ``FID``.

    References
    ----------
    Ours.
    """
    return _mean_of_clipped(
        numbers["tim_nn"], numbers["tex_nn"], numbers["fine_nn"], 1 - numbers["fd"], 1 - numbers["mod"]
    )


def _mean_of_clipped(*terms: float) -> float:
    return float(np.clip(terms, 0, 1).mean())


def _of_blueprint(blueprint: Blueprint, samples: Floats, sr: int) -> dict[str, float]:
    if blueprint.sr != sr:
        raise ValueError(f"blueprint is at {blueprint.sr} Hz but y at {sr} Hz; measure a mosaic at its own rate")
    params, hop_s = blueprint.params, blueprint.params.hop / sr
    n_frames = params.n_frames(len(samples))
    for name in ("activations", "model", "spectrum"):
        given = getattr(blueprint, name)
        if given is not None and np.shape(given)[-1] != n_frames:
            raise ValueError(
                f"blueprint.{name} has {np.shape(given)[-1]} frames but y of {len(samples)} samples {n_frames} at hop "
                f"{params.hop}; pass the blueprint of this mosaic"
            )
    numbers: dict[str, float] = {}
    if blueprint.activations is not None and blueprint.norms is not None:
        heard = grains.sounding(blueprint.activations, blueprint.norms, blueprint.segments)
        numbers["run_ms"] = grains.run_ms(heard, hop_s)
        numbers["long"] = grains.long_share(heard, hop_s)
        numbers["rep"] = grains.stutter_share(heard, hop_s)
        numbers["poly"] = grains.polyphony(heard)
    if blueprint.spectrum is not None:
        numbers["incons"] = artefacts.inconsistency(blueprint.spectrum, params, length=len(samples))
    if blueprint.model is not None:
        numbers["model_err"] = artefacts.model_error(
            samples if blueprint.sound is None else blueprint.sound, blueprint.model, params
        )
    return numbers


def _of_length(samples: Floats, length: int) -> Floats:
    return samples[:length] if len(samples) >= length else np.pad(samples, (0, length - len(samples)))
