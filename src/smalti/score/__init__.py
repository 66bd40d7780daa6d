"""A mosaic as a list of grains: its model, its edits, its sound."""

from smalti.grains.source import Source
from smalti.score.score import Grain, Score, Target

__all__ = ["Grain", "Score", "Source", "Target"]
