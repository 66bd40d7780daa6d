"""The decision whether a source is searched is made once, with a reason, and the job follows it."""

from dataclasses import replace

import numpy as np
import pytest

from smalti import build_dictionary
from smalti.dsp.stft import StftParams
from smalti.grains.corpus import Corpus, corpus_of
from smalti.grains.filters import Limit
from smalti.mosaicing.prepare import prepare
from smalti.mosaicing.search_plan import SEARCHED_ABOVE, SearchPlan, grid_of
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


def test_weights_and_limits_without_a_search_are_refused_with_the_reason(sound):
    weights = np.ones(1, np.float32)
    for source, settings, reason in (
        ([sound], configure("classic"), "compare is bins"),
        (build_dictionary(sound, SR, params=GRID), BALANCED, "the source is a ready dictionary"),
    ):
        with pytest.raises(ValueError, match=f"all is considered, as {reason}; take the preset balanced"):
            prepare(sound, source, SR, settings, weights=weights)
    limit = Limit("a", 0.5, np.ones(1, bool))
    with pytest.raises(ValueError, match="all is considered, as the hop is 400 and not 512"):
        prepare(sound, [sound], SR, BALANCED, params=StftParams(1600, 400), limits=[limit])
