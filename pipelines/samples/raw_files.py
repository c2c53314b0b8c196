"""Names of files in raw folders, for who lists them and loads no tables."""

from __future__ import annotations

RESPONSE_FILE = "response.parquet"
CELL_LINES_FILE = "cell_lines.csv"
DRUGS_FILE = "drugs.csv"

_OF_SYSTEMS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information")


def is_of_system(name: str) -> bool:
    """Return whether a file is hidden, or one that an operating system writes beside what a person put there."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS
