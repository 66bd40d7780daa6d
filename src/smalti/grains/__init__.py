"""Grains: the frames of the source, how they are described, found, shifted and added up."""
