"""Every preset on extreme sources: mostly silence, an offset, an impulse, a sine, clipped noise."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from helpers import finish, prepared
from smalti import PRESETS, mosaic
from smalti.dsp.conditioning import highpass
from smalti.dsp.dynamics import CEILING_DB
from smalti.dsp.loudness import integrated_loudness, true_peak
from smalti.metrics.artefacts import click_rate, click_times, clipped_share, dc_share
from smalti.nmf.base import MatrixStep
from smalti.presets import configure

SR = 11025
# The presets that fade edges and leave out silence. The papers' presets do neither, as published.
PREPARING = sorted(name for name, settings in PRESETS.items() if settings.quietest_db and settings.fade_s)
EVERY_PRESET = pytest.mark.parametrize("preset", sorted(PRESETS))
EVERY_PREPARING = pytest.mark.parametrize("preset", PREPARING)
# Frames further than this below the loudest of their recording count as nearly silent.
QUIET_DB = 50.0


def melody(seconds, *, seed):
    """Plucked notes of four harmonics each, with attacks of 4 ms, that decay to silence."""
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
    """Half a second of notes, of which the last fades out, in noise at -80 dB."""
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
    # Its amplitude is full from the first sample to the last.
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
def test_a_mosaic_is_finite_and_safe_and_as_loud_as_its_target_unless_peaks_forbid_it(preset, corpus):
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
        # Only an impulse has peaks far above those of notes of the same loudness.
        assert m.peak_gain_db == 0


@EVERY_CORPUS
@EVERY_PREPARING
def test_no_gain_is_more_than_fifty_decibels_above_that_of_the_loudest_frame(preset, corpus):
    """The bound is the gain that the source's loudest frame needs for the loudest contribution, and 50 dB more.

    Nearly silent frames do not sound at all.
    """
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
        # Most of this corpus is nearly silent, so the test is a hard one.
        assert quiet(m).mean() > 0.5
        assert m.contributions[quiet(m)].nnz == 0
    without_preparing = mosaic(TARGET, CORPORA["mostly silence"], SR, preset="sparse")
    power = without_preparing.contributions.power(2)
    assert power[quiet(without_preparing)].sum() > 0.01 * power.sum()


@EVERY_PREPARING
def test_an_offset_of_the_source_adds_neither_an_offset_nor_rumble(preset):
    audio = made(preset, "offset").audio
    assert dc_share(audio) < 0.01
    power = np.square(np.abs(np.fft.rfft(audio)))
    hz = np.fft.rfftfreq(len(audio), 1 / SR)
    assert power[hz < 30].sum() < 1e-3 * power.sum()
    # The mosaic is that of the same source without its offset.
    heard = highpass(CORPORA["offset"] - CORPORA["offset"].mean(), SR)
    np.testing.assert_allclose(audio, mosaic(TARGET, heard, SR, preset=preset).audio, rtol=0, atol=1e-6)


# Presets that shift are left out: plucked notes that are shifted keep their sharp attacks, which count as clicks.
@pytest.mark.parametrize("preset", [preset for preset in PREPARING if PRESETS[preset].transpose == "off"])
@pytest.mark.parametrize("corpus", ["mostly silence", "offset", "sine", "clipped noise"])
def test_no_mosaic_clicks(preset, corpus):
    assert click_rate(made(preset, corpus).audio, click_times(TARGET, SR), SR) < 0.1


def at_the_edges(n_atoms, n_frames):
    """A run of all source frames, one that begins inside, one that ends inside, and one that does both."""
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
        # Source frames are played as recorded, even if the preset would shift them.
        job = replace(
            prepared(melody(10, seed=1), CORPORA["sine"], SR, replace(settings, fade_s=fade_s)), transposition=None
        )
        H = at_the_edges(job.dictionary.n_atoms, job.spectrum.shape[1])
        clicks[fade_s] = len(click_times(finish(job, MatrixStep(1, H, None), []).audio, SR))
    assert clicks[settings.fade_s] == 0
    # The measure is sensitive enough: without the fade, runs that reach an edge click.
    assert clicks[0.0] >= 3
