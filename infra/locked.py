"""Packages and versions of the lock files."""

from __future__ import annotations

import re
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements.lock"
RUNTIME_LOCK = LOCK.with_name("requirements.runtime.lock")  # its part that the image holds
_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^ ;\\]+)", re.MULTILINE)


def locked(lock: Path = LOCK) -> list[tuple[str, str]]:
    """Return name and version of each package, in order; a name is repeated where platforms differ."""
    found = {(each["name"].lower(), each["version"]) for each in _PINNED.finditer(lock.read_text(encoding="utf-8"))}
    if not found:
        raise ValueError(f"{lock} pins no package")
    return sorted(found)
