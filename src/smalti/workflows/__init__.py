"""Workflows from files to files, for the command line and other callers."""
