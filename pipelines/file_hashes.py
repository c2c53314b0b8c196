"""The hash of every file of a folder: written beside the files of a model, compared before any of them is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from pipelines.errors import UserError

HASHES_FILE = "hashes.json"
_NAMED = 10  # files that a message names at most


def file_hashes(folder: Path, leave_out: Collection[str] = ()) -> dict[str, str]:
    """Return the SHA-256 of each file below ``folder`` by its place, those under a name of ``leave_out`` left out."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = path.relative_to(folder)
        if not set(place.parts) & set(leave_out):
            with path.open("rb") as file:
                found[place.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def combined(hashes: Mapping[str, str]) -> str:
    """Return one hash over places and hashes, as `pipelines.tracking.folder_sha256` makes it of the folder itself."""
    digest = hashlib.sha256()
    for place in sorted(hashes, key=lambda each: each.split("/")):
        digest.update(place.encode() + b"\0")
        digest.update(bytes.fromhex(hashes[place]))
    return digest.hexdigest()


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return which files are not as expected, a few words each."""
    return [
        *(f"{place} was changed" for place in expected if place in found and found[place] != expected[place]),
        *(f"{place} is missing" for place in expected if place not in found),
        *(f"{place} was added" for place in found if place not in expected),
    ]


def named(differences: list[str]) -> str:
    """Return differences as one line of a message."""
    more = len(differences) - _NAMED
    return "; ".join(differences[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def write_hashes(folder: Path) -> None:
    """Write `HASHES_FILE`: the hash of every file that ``folder`` holds now."""
    found = file_hashes(folder, leave_out=(HASHES_FILE,))
    (folder / HASHES_FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def check_hashes(folder: Path) -> None:
    """Refuse a folder whose files are not those that `write_hashes` saw.

    It finds what broke or was changed by itself; who rewrites a file and its hash is found by the registry, see
    `evaluation.promotion.registered_files`.

    Raises
    ------
    UserError
        Names the files that were changed, are missing or were added, or says that there are no hashes.
    """
    try:
        expected = json.loads((folder / HASHES_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {HASHES_FILE}, nothing vouches for its files; fit it again") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / HASHES_FILE} cannot be read ({error}); copy the model again") from error
    if not isinstance(expected, dict):
        raise UserError(f"{folder / HASHES_FILE} is no map of file to hash; copy the model again")
    if unlike := differences(file_hashes(folder, leave_out=(HASHES_FILE, "__pycache__")), expected):
        raise UserError(f"the model in {folder} is not as it was saved: {named(unlike)}; copy it again or fit it again")
