"""``python -m rcsd``."""

from rcsd.cli import main

main()
