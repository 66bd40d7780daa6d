"""How good a mosaic is, in numbers: fidelity to the target, the source's timbre, grains, artefacts, cheating.

`evaluate` takes a mosaic, its target and its source and returns every measure by name; `MEASURES` says what each means
and which way is better. To measure many mosaics of one pair, build the `reference` once and `measure` each against it.
The single measures are functions on arrays, in `features` (what they look at), `fidelity`, `timbre`, `grains` and
`artefacts`.

No measure replaces ears; `blind_test` draws the rounds of a comparison by ear. Two of the measures can be fooled: a
plain mix of target and source follows the target well, which ``leak`` gives away, and noise resembles many sources,
which ``FID`` gives away.
"""

from smalti.metrics.evaluation import (
    MEASURES,
    Blueprint,
    Measure,
    Reference,
    composite_fidelity,
    composite_timbre,
    evaluate,
    measure,
    reference,
)

__all__ = [
    "MEASURES",
    "Blueprint",
    "Measure",
    "Reference",
    "composite_fidelity",
    "composite_timbre",
    "evaluate",
    "measure",
    "reference",
]
