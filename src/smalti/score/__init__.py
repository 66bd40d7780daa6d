"""A mosaic as a list of grains: its model, its edits, its sound."""

from smalti.score.score import Grain, Score, Source, Target

__all__ = ["Grain", "Score", "Source", "Target"]
