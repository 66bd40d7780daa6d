"""Solvers: the target's V and the source's W in, activations H out."""
