"""Signals and spectra: arrays in, arrays out."""
