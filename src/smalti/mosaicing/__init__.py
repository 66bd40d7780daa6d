"""The job: what is compared, how it is solved, and the mosaic that comes of it."""
