"""A corpus on a disk: stored, built, asked."""
