"""Hashes of the files of a model, written beside them and compared before any of them is loaded."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from pipelines.errors import UserError

HASHES_FILE = "hashes.json"
_NAMED = 10  # files that a message names at most


def file_hashes(folder: Path, leave_out: Collection[str] = ()) -> dict[str, str]:
    """Return the SHA-256 of each file below ``folder`` by relative path, without files and folders in ``leave_out``.

    ``folder`` may be one file.
    """
    found = {}
    for path in sorted(path for path in (folder, *folder.rglob("*")) if path.is_file()):
        place = path.relative_to(folder)
        if not set(place.parts) & set(leave_out):
            with path.open("rb") as file:
                found[place.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def combined(hashes: Mapping[str, str]) -> str:
    """Return one hash of paths and hashes."""
    digest = hashlib.sha256()
    for place in sorted(hashes, key=lambda each: each.split("/")):
        digest.update(place.encode(errors="surrogateescape") + b"\0")  # a name may be no UTF-8
        digest.update(bytes.fromhex(hashes[place]))
    return digest.hexdigest()


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return the files that are not as expected, a few words each."""
    return [
        *(f"{place} was changed" for place in expected if place in found and found[place] != expected[place]),
        *(f"{place} is missing" for place in expected if place not in found),
        *(f"{place} was added" for place in found if place not in expected),
    ]


def named(differences: list[str]) -> str:
    """Join differences for a message."""
    more = len(differences) - _NAMED
    return "; ".join(differences[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def write_hashes(folder: Path) -> None:
    """Write `HASHES_FILE` into ``folder``."""
    found = file_hashes(folder, leave_out=(HASHES_FILE,))
    (folder / HASHES_FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def check_hashes(folder: Path) -> None:
    """Raise `UserError` naming files that were changed, are missing or were added since `write_hashes`.

    It finds damage; tampering with files and hashes is found by `evaluation.promotion.registered_files`.
    """
    try:
        expected = json.loads((folder / HASHES_FILE).read_text(encoding="utf-8"))
        if not isinstance(expected, dict):
            raise ValueError("it is no map of file to hash")
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {HASHES_FILE} to check its files by; fit it again") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / HASHES_FILE} cannot be read ({error}); copy the model again") from error
    if unlike := differences(file_hashes(folder, leave_out=(HASHES_FILE, "__pycache__")), expected):
        raise UserError(f"the model in {folder} is not as it was saved: {named(unlike)}; copy it again or fit it again")
