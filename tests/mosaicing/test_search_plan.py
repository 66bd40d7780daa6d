"""The decision whether a source is searched is made once, with a reason, and the job follows it."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import prepared
from smalti import build_dictionary
from smalti.dsp.stft import StftParams
from smalti.grains.corpus import Corpus, corpus_of
from smalti.grains.filters import Limit
from smalti.mosaicing.prepare import prepare
from smalti.mosaicing.search_plan import SEARCHED_ABOVE, SearchPlan, grid_of, plan_of
from smalti.mosaicing.solve import solver_of
from smalti.mosaicing.solve_searched import SearchedSolver
from smalti.presets import PRESETS, configure

SR = 22050
BALANCED = PRESETS["balanced"]
GRID = grid_of(BALANCED, SR)


@pytest.mark.parametrize(
    ("n_atoms", "settings", "params", "forced", "reason"),
    [
        (SEARCHED_ABOVE + 1, BALANCED, GRID, False, ""),
        (SEARCHED_ABOVE, BALANCED, GRID, False, "the source has no more than 5000 frames"),
        (1, BALANCED, GRID, True, ""),
        (1, replace(BALANCED, search="always"), GRID, False, ""),
        (10**6, PRESETS["classic"], grid_of(PRESETS["classic"], SR), True, "compare is bins"),
        (10**6, BALANCED, StftParams(2048, 500), True, "the hop is 500 and not 512"),
    ],
)
def test_a_plan_tells_whether_a_source_is_searched_and_why_not(n_atoms, settings, params, forced, reason):
    plan = SearchPlan.of(n_atoms, settings, params, SR, forced=forced)
    assert (plan.params, plan.searched, plan.reason) == (params, not reason, reason)


@pytest.fixture
def sound(rng):
    return (0.1 * rng.standard_normal(SR // 2)).astype(np.float32)


@pytest.mark.parametrize("source", ["recordings", "corpus"])
@pytest.mark.parametrize("searched", [True, False])
def test_a_job_follows_the_plan_that_it_is_given(sound, source, searched):
    corpus = corpus_of([sound], SR, params=GRID, names=["a"])
    plan = SearchPlan(GRID, "" if searched else "nobody wants it")
    job = prepare(sound, corpus if source == "corpus" else [sound], SR, BALANCED, plan=plan)
    assert isinstance(job.dictionary, Corpus) == searched
    assert job.dictionary.params == GRID
    assert (job.plan, isinstance(solver_of(job), SearchedSolver)) == (plan, searched)


def test_the_plan_and_not_the_kind_of_dictionary_decides_which_solver_works(sound):
    corpus = corpus_of([sound], SR, params=GRID)
    job = prepare(sound, corpus, SR, BALANCED, plan=SearchPlan(GRID, ""))
    assert not isinstance(solver_of(replace(job, plan=SearchPlan(GRID, "nobody wants it"))), SearchedSolver)


def test_a_plan_depends_on_the_form_of_the_source_and_holds_the_grid(sound):
    ready, corpus = build_dictionary(sound, SR, params=StftParams(512, 128)), corpus_of([sound], SR, params=GRID)
    assert plan_of(sound, SR, BALANCED) == SearchPlan(GRID, "the source has no more than 5000 frames")
    assert plan_of([sound], SR, BALANCED, weighed=True) == SearchPlan(GRID, "")
    assert plan_of([sound] * 300, SR, BALANCED) == SearchPlan(GRID, "")
    assert plan_of(corpus, SR, BALANCED) == SearchPlan(GRID, "")
    assert plan_of(corpus, SR, BALANCED, params=StftParams(4096, 512)).params == StftParams(4096, 512)
    assert plan_of(ready, SR, BALANCED, weighed=True) == SearchPlan(ready.params, "the source is a ready dictionary")


def test_a_ready_dictionary_takes_no_plan_but_its_own(sound):
    ready = build_dictionary(sound, SR, params=GRID)
    with pytest.raises(ValueError, match=r"a ready dictionary cannot be searched; pass its recordings or a Corpus"):
        prepare(sound, ready, SR, BALANCED, plan=SearchPlan(GRID, ""))
    with pytest.raises(ValueError, match=r"params is .*n_fft=512.* but the dictionary was built with .*n_fft=3072"):
        prepare(sound, ready, SR, BALANCED, plan=SearchPlan(StftParams(512, 128), "nobody wants it"))


def test_recordings_of_a_job_do_not_change_with_the_caller_s_arrays(sound):
    settings = replace(BALANCED, remove_offset=False, fade_s=0.0)
    for plan in (SearchPlan(GRID, ""), SearchPlan(GRID, "nobody wants it")):
        given = sound.copy()
        job = prepare(sound, [given], SR, settings, plan=plan)
        given[:] = 0
        np.testing.assert_array_equal(job.dictionary.recordings[0], sound)


def test_weights_and_limits_without_a_search_are_refused_with_the_reason(sound):
    weights = np.ones(1, np.float32)
    for source, settings, reason in (
        ([sound], configure("classic"), "compare is bins"),
        (build_dictionary(sound, SR, params=GRID), BALANCED, "the source is a ready dictionary"),
    ):
        with pytest.raises(ValueError, match=f"all is considered, as {reason}; take the preset balanced"):
            prepared(sound, source, SR, settings, weights=weights)
    limit = Limit("a", 0.5, np.ones(1, bool))
    with pytest.raises(ValueError, match="all is considered, as the hop is 400 and not 512"):
        prepared(sound, [sound], SR, BALANCED, params=StftParams(1600, 400), limits=[limit])
