"""Files in, files out: what the command line calls, and whatever else makes mosaics of files."""
