"""``python -m smalti``: the same as the command ``smalti``."""

from smalti.cli.main import main

main()
