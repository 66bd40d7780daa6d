"""Prepare a job, compare target and source, solve for the activations, and make the mosaic."""
