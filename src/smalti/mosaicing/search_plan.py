"""The decision whether a source is searched, made once for each job, on its grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from numpy.typing import ArrayLike

from smalti._checks import check_rate
from smalti.dsp.stft import StftParams
from smalti.grains.corpus import Corpus, hop_at
from smalti.grains.dictionary import Dictionary, as_recordings
from smalti.settings import Settings

# A source with more frames is searched: considering all of them takes longer than looking up candidates.
SEARCHED_ABOVE = 5_000
# The values that settings must have for a source to be searched, since a corpus keeps the features of these alone.
SEARCHABLE: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "search": ("auto", "always"),
        "method": ("updates",),
        "compare": ("views",),
        "beta": (1,),
        "eps": (0,),
        "unit_norm": (False,),
        "ear_weighting": (False,),
        "channels": ("source", "mono"),
        "transpose": ("off",),
    }
)


@dataclass(frozen=True)
class SearchPlan:
    """The decision whether candidates are looked up for each target frame; if not, it considers every source frame.

    Attributes
    ----------
    params : the grid of the job.
    reason : why the source is not searched, such as "beta is 2"; "" if it is searched.
    """

    params: StftParams
    reason: str

    @property
    def searched(self) -> bool:
        """Whether candidates are looked up."""
        return not self.reason

    @classmethod
    def of(cls, n_atoms: int, settings: Settings, params: StftParams, sr: int, *, forced: bool = False) -> "SearchPlan":
        """The plan for recordings or a corpus.

        Parameters
        ----------
        n_atoms : the number of source frames. settings, params, sr : those of the job.
        forced : whether even a short source is to be searched: a corpus, or recordings with weights or limits.
        """
        unfit = [name for name, values in SEARCHABLE.items() if getattr(settings, name) not in values]
        if unfit:
            reason = f"{unfit[0]} is {getattr(settings, unfit[0])}"
        elif params.hop != hop_at(sr):
            reason = f"the hop is {params.hop} and not {hop_at(sr)}"
        elif not (forced or settings.search == "always" or n_atoms > SEARCHED_ABOVE):
            reason = f"the source has no more than {SEARCHED_ABOVE} frames"
        else:
            reason = ""
        return cls(params, reason)

    @classmethod
    def of_ready(cls, params: StftParams) -> "SearchPlan":
        """The plan for a ready dictionary, which cannot be searched."""
        return cls(params, "the source is a ready dictionary")


def plan_of(
    source: ArrayLike | Sequence[ArrayLike] | Dictionary,
    sr: int,
    settings: Settings,
    *,
    params: StftParams | None = None,
    weighed: bool = False,
) -> SearchPlan:
    """The plan for a source, and the grid with it.

    Parameters
    ----------
    source, sr, settings : as for `smalti.mosaicing.prepare.prepare`.
    params : the grid; by default that of a ready dictionary, or of the settings.
    weighed : whether recordings are weighed or limited. Even a short source is then searched, as a corpus always is.

    Raises
    ------
    ValueError, TypeError : if `source` or `sr` cannot be used.
    """
    sr = check_rate("sr", sr)
    if isinstance(source, Corpus):
        return SearchPlan.of(source.n_atoms, settings, params or grid_of(settings, sr), sr, forced=True)
    if isinstance(source, Dictionary):
        return SearchPlan.of_ready(params or source.params)
    params = params or grid_of(settings, sr)
    n_atoms = sum(params.n_frames(samples.shape[-1]) for samples in as_recordings(source))
    return SearchPlan.of(n_atoms, settings, params, sr, forced=weighed)


def grid_of(settings: Settings, sr: int) -> StftParams:
    """The grid of settings at a sample rate."""
    return StftParams.from_seconds(settings.window_s, settings.hop_s, sr)
