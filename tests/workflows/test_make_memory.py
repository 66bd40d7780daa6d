"""Jobs and scores that are too large for the machine are refused before the work."""

import os
from dataclasses import replace

import numpy as np
import pytest
from kit_workflows import SR

import smalti
from smalti.dsp.stft import StftParams
from smalti.errors import SmaltiError
from smalti.grains.shifted import Shift
from smalti.mosaicing.memory import memory_needed
from smalti.presets import PRESETS
from smalti.workflows.inputs import FileSource, Inputs, TargetInput
from smalti.workflows.locate import check_score_memory
from smalti.workflows.make import check_memory


def inputs_of(n_target, *n_sources):
    """Inputs as if from files; memory depends only on their lengths."""
    samples = tuple(np.zeros(n, np.float32) for n in n_sources)
    return Inputs(TargetInput(None, np.zeros(n_target, np.float32)), FileSource((), samples), SR)


def test_a_job_beyond_the_machine_is_refused(monkeypatch):
    settings, params = PRESETS["classic"], StftParams(64, 16)
    inputs = inputs_of(16000, 8000, 8000)
    n_frames, n_atoms = params.n_frames(16000), 2 * params.n_frames(8000)
    needed = memory_needed(n_atoms, n_frames, settings, params, sr=SR)

    def machine_of(n_bytes):
        monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": n_bytes}.__getitem__, raising=False)

    machine_of(2 * needed)
    check_memory(inputs, settings, inputs.plan(settings, params))
    machine_of(needed)
    with pytest.raises(SmaltiError, match=f"{n_atoms} source frames by {n_frames} target frames .* shorter target"):
        check_memory(inputs, settings, inputs.plan(settings, params))


def test_transposed_grains_count_in_the_memory_of_a_score():
    dictionary = smalti.build_dictionary(np.ones(4000, np.float32), SR)
    score = smalti.mosaic(np.ones(4000, np.float32), dictionary, SR, preset="sparse").score[:1]
    check_score_memory(score)
    huge = Shift(0, 0, int(score.lengths[0]), 10**8, np.ones(9), np.ones(9))
    with pytest.raises(SmaltiError, match=r"need about .* GB of memory"):
        check_score_memory(replace(score, shifts=(huge,)))


def test_a_machine_that_does_not_report_its_memory_is_trusted(monkeypatch):
    def sysconf(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", sysconf, raising=False)
    inputs, settings = inputs_of(10**6, 10**6), PRESETS["classic"]
    check_memory(inputs, settings, inputs.plan(settings, StftParams(4, 1)))
