"""Save what no run can make again into a folder: ``python -m serving.backup --to DIR``.

Registry, history, runs, accounts and studies (databases) and every artifact. The databases are read first, each as of
one moment and while others write: what they name was written before them, so it is among the artifacts. Code,
parameters and `dvc.lock` are git's to keep, data is DVC's remote's. `serving.restore` brings it back.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipelines.command import run_command
from pipelines.errors import UserError

MANIFEST = "manifest.json"
FORMAT = 1


def backup(to: Path, *, progress: bool = True) -> dict[str, Any]:
    """Write databases, artifacts and a manifest of their hashes into the new folder ``to``; return the manifest.

    The folder appears once it is whole. It holds the hashes of accounts' passwords: its owner alone may read it.

    Raises
    ------
    UserError
        ``to`` holds something, there is nothing to save, or a database or an artifact cannot be read.
    """
    import mlflow

    from pipelines.file_hashes import file_hashes
    from pipelines.files import write_json
    from serving.stores import HISTORY, SQLITE, TRACKING, artifact_locations, databases

    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} is there already; nothing is written over it: name a new folder")
    present = [each for each in databases() if not each.is_empty()]
    if TRACKING not in [each.name for each in present]:
        raise UserError("there is no tracking database to save; look at MLFLOW_TRACKING_URI")
    to.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}."))
    try:
        (made / "databases").mkdir()
        saved = {}
        moves = _moves(present)
        for database in present:
            file = made / "databases" / f"{database.name}.{'db' if database.kind == SQLITE else 'dump'}"
            _save_database(database, file)
            saved[database.name] = {"kind": database.kind, "file": file.relative_to(made).as_posix()}
        if HISTORY in saved and _moves(present) != moves:  # two databases are not of one moment
            raise UserError("a version was moved meanwhile, nothing was saved; run it again")
        # The locations of what was saved, not of what was added since.
        tracking = next(each for each in present if each.name == TRACKING)
        places: list[dict[str, str]] = []
        for location in tqdm(artifact_locations(tracking), desc="artifacts", disable=not progress):
            folder = made / "artifacts" / str(len(places))
            if _save_artifacts(location, folder):
                places.append({"location": location, "folder": folder.relative_to(made).as_posix()})
        manifest = {
            "format": FORMAT,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "mlflow": mlflow.__version__,
            "databases": saved,
            "artifacts": places,
            "files": file_hashes(made),
        }
        write_json(made / MANIFEST, manifest)
        made.replace(to)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return manifest


def _moves(present: list[Any]) -> set[str]:
    """Return what tells that a version was moved, or is being moved."""
    from serving.audit_log import INTENTS, TABLE

    return {
        value for each in present for column in (f"{TABLE}.hash", f"{INTENTS}.entry") for value in each.values(column)
    }


def _save_database(database: Any, file: Path) -> None:
    """Write a database as it is at one moment."""
    from serving.stores import SQLITE

    if database.kind == SQLITE:
        # SQLite's own online backup: a copy of the file would tear what is being written.
        try:
            with closing(sqlite3.connect(database.path)) as source, closing(sqlite3.connect(file)) as target:
                source.backup(target)
        except sqlite3.Error as error:
            raise UserError(f"the {database} cannot be read: {error}") from error
    else:
        database.call("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={file}")


def _save_artifacts(location: str, folder: Path) -> bool:
    """Copy what lies at a location into ``folder``; returns whether there was anything."""
    from mlflow.exceptions import MlflowException

    from serving.stores import opened

    repository = opened(location)
    try:
        if not repository.list_artifacts():
            return False
        folder.mkdir(parents=True)
        repository.download_artifacts("", dst_path=str(folder))
    except (MlflowException, OSError) as error:
        raise UserError(f"artifacts at {location} cannot be read: {error}") from error
    except Exception as error:  # what the store's own library raises, which need not be installed here
        raise UserError(f"artifacts at {location} cannot be read: {type(error).__name__}: {error}") from error
    return True


def main() -> int:
    """Print what was saved, and the hash by which a backup is known again."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--to", required=True, type=Path, help="a new folder")
    to = arguments.parse_args().to
    manifest = backup(to)
    import hashlib

    sha256 = hashlib.sha256((to / MANIFEST).read_bytes()).hexdigest()
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    names = ", ".join(f"{name} ({each['kind']})" for name, each in manifest["databases"].items())
    if not manifest["artifacts"]:
        print("it holds no runs and artifacts: make another with the tracking server's database as MLFLOW_TRACKING_URI")
    print(f"saved {names} and {len(manifest['files'])} files, {size / 1e6:.1f} MB, to {to}")
    print(f"its manifest's SHA-256, to be kept elsewhere: {sha256}")
    return 0


if __name__ == "__main__":
    run_command(main)
