"""Files, formats and devices: reading, writing, examples."""
