"""Solvers: target magnitudes V and source magnitudes W in, activations H out."""
