"""Every preset on sources nobody would choose: mostly silence, an offset, an impulse, a sine, clipped noise."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from helpers import finish
from smalti import PRESETS, mosaic
from smalti.dsp.conditioning import highpass
from smalti.dsp.dynamics import CEILING_DB
from smalti.dsp.loudness import integrated_loudness, true_peak
from smalti.metrics.artefacts import click_rate, click_times, clipped_share, dc_share
from smalti.mosaicing.prepare import prepare
from smalti.nmf.base import MatrixStep
from smalti.presets import configure

SR = 11025
# The papers' presets are as published: no edge is faded, no silence passed over.
PREPARING = sorted(name for name, settings in PRESETS.items() if settings.quietest_db and settings.fade_s)
EVERY_PRESET = pytest.mark.parametrize("preset", sorted(PRESETS))
EVERY_PREPARING = pytest.mark.parametrize("preset", PREPARING)
# Frames further than this under a recording's loudest are next to silence.
QUIET_DB = 50.0


def melody(seconds, *, seed):
    """Plucked notes, four harmonics each, attacks of 4 ms, decaying to silence."""
    rng, out = np.random.default_rng(seed), np.zeros(round(seconds * SR))
    for start in range(SR // 20, len(out), round(0.3 * SR)):
        t = np.arange(len(out) - start) / SR
        hz = 220 * 2 ** (rng.integers(0, 13) / 12)
        tones = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 5))
        out[start:] += 0.12 * np.minimum(t / 0.004, 1) * np.exp(-t / 0.12) * tones
    return out


LENGTH = 2 * SR
TIMES = np.arange(LENGTH) / SR


def mostly_silence():
    """Half a second of notes, the last of them fading, in noise at -80 dB."""
    out = 1e-4 * np.random.default_rng(1).standard_normal(LENGTH)
    notes, fade = melody(0.5, seed=3), np.cos(np.linspace(0, np.pi / 2, SR // 10)) ** 2
    notes[-len(fade) :] *= fade
    out[SR : SR + len(notes)] += notes
    return out


def impulse():
    out = np.zeros(LENGTH)
    out[LENGTH // 2] = 1
    return out


CORPORA = {
    "mostly silence": mostly_silence(),
    "offset": melody(2, seed=4) + 0.5,
    "impulse": impulse(),
    # At full amplitude from its first sample to its last.
    "sine": 0.5 * np.cos(2 * np.pi * 440 * TIMES),
    "clipped noise": np.clip(3 * np.random.default_rng(2).standard_normal(LENGTH), -1, 1),
}
EVERY_CORPUS = pytest.mark.parametrize("corpus", CORPORA)
TARGET = melody(1.8, seed=1)


@cache
def made(preset, corpus):
    return mosaic(TARGET, CORPORA[corpus], SR, preset=preset)


@EVERY_CORPUS
@EVERY_PRESET
def test_what_comes_out_is_finite_and_safe_and_as_loud_as_the_target_or_says_why_not(preset, corpus):
    m = made(preset, corpus)
    assert np.isfinite(m.audio).all()
    assert m.audio.any()
    assert np.isfinite(m.activations.data).all()
    assert 20 * np.log10(true_peak(m.audio, SR)) < CEILING_DB
    assert clipped_share(m.audio) == 0
    if m.settings.loudness == "target":
        wanted = integrated_loudness(TARGET, SR) + m.peak_gain_db
        assert integrated_loudness(m.audio, SR) == pytest.approx(wanted, abs=0.5)
    if corpus != "impulse":
        # An impulse as loud as notes would tower above them; nothing else has such peaks.
        assert m.peak_gain_db == 0


@EVERY_CORPUS
@EVERY_PREPARING
def test_no_frame_is_lifted_beyond_what_fifty_decibels_allow(preset, corpus):
    """The loudest contribution, had the source's loudest frame made it, and 50 dB more; next to silence nothing."""
    m = made(preset, corpus)
    norms, contributions = m.dictionary.norms, m.contributions
    most = contributions.max() / norms.max() * 10 ** (QUIET_DB / 20)
    assert m.activations.max() <= most * (1 + 1e-6)
    assert contributions[norms < norms.max() * 10 ** (-QUIET_DB / 20)].nnz == 0


def test_the_noise_around_the_notes_never_sounds():
    def quiet(m):
        return m.dictionary.norms < m.dictionary.norms.max() * 10 ** (-QUIET_DB / 20)

    for preset in PREPARING:
        m = made(preset, "mostly silence")
        # Most of this corpus is of that kind, so that the presets are put to the test.
        assert quiet(m).mean() > 0.5
        assert m.contributions[quiet(m)].nnz == 0
    unruly = mosaic(TARGET, CORPORA["mostly silence"], SR, preset="sparse")
    assert unruly.contributions[quiet(unruly)].power(2).sum() > 0.01 * unruly.contributions.power(2).sum()


@EVERY_PREPARING
def test_an_offset_is_neither_heard_nor_thumps(preset):
    audio = made(preset, "offset").audio
    assert dc_share(audio) < 0.01
    power = np.square(np.abs(np.fft.rfft(audio)))
    hz = np.fft.rfftfreq(len(audio), 1 / SR)
    assert power[hz < 30].sum() < 1e-3 * power.sum()
    # It takes the offset out, and not the sound: as good as the same source without.
    heard = highpass(CORPORA["offset"] - CORPORA["offset"].mean(), SR)
    np.testing.assert_allclose(audio, mosaic(TARGET, heard, SR, preset=preset).audio, rtol=0, atol=1e-6)


# Plucked notes that are shifted begin as sharply as they were plucked, which counts as a click.
@pytest.mark.parametrize("preset", [preset for preset in PREPARING if PRESETS[preset].transpose == "off"])
@pytest.mark.parametrize("corpus", ["mostly silence", "offset", "sine", "clipped noise"])
def test_nothing_clicks(preset, corpus):
    assert click_rate(made(preset, corpus).audio, click_times(TARGET, SR), SR) < 0.1


def at_the_edges(n_atoms, n_frames):
    """One run of all source frames from the first to the last, two more that begin or end inside."""
    H = np.zeros((n_atoms, n_frames))
    for first, last, at in (
        (0, n_atoms, 5),
        (0, n_atoms // 2, n_atoms + 15),
        (n_atoms // 3, n_atoms, 2 * n_atoms + 20),
        (n_atoms // 4, n_atoms // 2, 3 * n_atoms + 30),
    ):
        rows = np.arange(first, last)
        H[rows, rows - first + at] = 1
    return H


@EVERY_PREPARING
@pytest.mark.parametrize("phase", ["source", "griffin-lim"])
def test_runs_from_a_file_s_first_frame_to_its_last_do_not_click(preset, phase):
    settings = replace(configure(preset, phase=phase), colour=0, attacks=0)
    clicks = {}
    for fade_s in (0.0, settings.fade_s):
        # Source frames as recorded, also where the preset would shift them.
        job = replace(
            prepare(melody(10, seed=1), CORPORA["sine"], SR, replace(settings, fade_s=fade_s)), transposition=None
        )
        H = at_the_edges(job.dictionary.n_atoms, job.spectrum.shape[1])
        clicks[fade_s] = len(click_times(finish(job, MatrixStep(1, H, None), []).audio, SR))
    assert clicks[settings.fade_s] == 0
    # The measure hears the edges: unfaded, those of the runs that reach them click.
    assert clicks[0.0] >= 3
