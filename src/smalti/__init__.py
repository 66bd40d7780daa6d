"""smalti: audio mosaics, a target recording re-created out of the sounds of a source."""

__version__ = "0.1.0"
