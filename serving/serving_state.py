"""What a server and the process that follows its alias tell one another, by files. Imports nothing of the platform."""

import json
import os
from pathlib import Path

STATE = "ONCOLINEAGE_SERVE_STATE"  # the folder of ``alias.json``
OWN = "ONCOLINEAGE_SERVE_OWN"  # the folder in which the workers of one server say how they are
READY, FAILED = "ready-", "failed-"  # beginnings of files there, of a worker each


def tell(what: str, text: str = "") -> None:
    """Say that this worker is ready, or has failed; nothing where nobody listens."""
    if folder := os.environ.get(OWN):
        path = Path(folder, f".{what}{os.getpid()}")
        path.write_text(text, encoding="utf-8")
        path.rename(path.with_name(path.name[1:]))


def alias_state() -> tuple[int, int] | None:
    """Return the version that the alias names, and how many times one could not take over; None if unknown."""
    try:
        found = json.loads(Path(os.environ[STATE], "alias.json").read_text(encoding="utf-8"))
        return int(found["version"]), int(found["failures"])
    except (KeyError, OSError, ValueError):
        return None
