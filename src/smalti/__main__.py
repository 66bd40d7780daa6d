"""``python -m smalti``: the same as the command ``smalti``."""

from smalti.cli import main

main()
