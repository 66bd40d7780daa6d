"""Corpora on disk: building, storing, opening and inspecting them."""
