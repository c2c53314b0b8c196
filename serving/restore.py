"""Bring back what `serving.backup` saved: ``python -m serving.restore --from DIR [--sha256 HASH]``.

Every file is compared with its hash, and every target is looked at, before anything is written. Nothing is written
over: databases must be empty (SQLite: no file), and where artifacts lie already they must be the backup's own, so that
a restore that was broken off goes on. Stop the tracking server first: it makes tables as it starts.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipelines.command import run_command
from pipelines.errors import UserError
from serving.backup import FORMAT, MANIFEST


def restore(folder: Path, *, sha256: str = "", artifacts_only: bool = False, progress: bool = True) -> dict[str, Any]:
    """Write databases and artifacts to where the environment and the backup say; return the backup's manifest.

    Parameters
    ----------
    folder
        As `serving.backup.backup` wrote it.
    sha256
        Of the manifest, as it was printed when the backup was made; not compared where it is empty.
    artifacts_only
        Whether databases are left alone: where the store was lost, and they were not.

    Raises
    ------
    UserError
        The backup is damaged (names the files) or of another kind than the databases, a target is not empty, or a
        database or an artifact store cannot be written.
    """
    from serving.alias_moves import HISTORY_URI
    from serving.stores import databases

    manifest = checked(folder, sha256)
    targets = {each.name: each for each in databases()}
    saved_databases = {} if artifacts_only else manifest["databases"]
    for name, saved in saved_databases.items():
        target = targets.get(name)
        if target is None:
            raise UserError(f"the backup holds a {name} database and the environment names none; set {HISTORY_URI}")
        if target.kind != saved["kind"]:
            raise UserError(f"the backup's {name} database is {saved['kind']}, and this is the {target}")
        if not target.is_empty():
            raise UserError(f"the {target} is not empty; nothing was restored: move it away, or name another")
    missing = [(place, _missing(place["location"], folder / place["folder"])) for place in manifest["artifacts"]]
    # Artifacts before the databases that name them: until the end there is nothing that points to what is not there.
    for place, files in tqdm(missing, desc="artifacts", disable=not progress):
        _restore_artifacts(place["location"], folder / place["folder"], files)
    for name, saved in saved_databases.items():
        _restore_database(targets[name], folder / saved["file"])
    return manifest


def checked(folder: Path, sha256: str = "") -> dict[str, Any]:
    """Return the manifest of a backup whose files are all as they were saved.

    Raises
    ------
    UserError
        Names the files that are not.
    """
    from pipelines.file_hashes import differences, file_hashes, named
    from pipelines.files import read_json

    try:
        found = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        manifest = read_json(folder / MANIFEST)
        expected = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no backup, its {MANIFEST} cannot be read: {error}") from error
    if manifest.get("format") != FORMAT:
        raise UserError(f"{folder} is a backup of format {manifest.get('format')}, this code reads {FORMAT}")
    if sha256 and found != sha256:
        raise UserError(f"{folder / MANIFEST} has SHA-256 {found}, not {sha256}: it is another backup, or was changed")
    there = {place: each for place, each in file_hashes(folder).items() if place != MANIFEST}
    if unlike := differences(there, expected):
        raise UserError(f"the backup {folder} is damaged, nothing was restored: {named(unlike)}; take another")
    return manifest


def _missing(location: str, saved: Path) -> list[Path]:
    """Return which saved files are not at ``location`` yet, relative; what is there must be the backup's own."""
    from pipelines.file_hashes import differences, file_hashes, named
    from serving.stores import local_folder, opened

    here = local_folder(location)
    with tempfile.TemporaryDirectory() as temporary:
        if here is None:
            repository, here = opened(location), Path(temporary)
            try:
                if repository.list_artifacts():
                    repository.download_artifacts("", dst_path=temporary)
            except Exception as error:
                raise UserError(f"artifacts at {location} cannot be read: {error}") from error
        there = file_hashes(here) if here.is_dir() else {}
        wanted = file_hashes(saved)
    foreign = [each for each in differences(there, wanted) if not each.endswith("is missing")]
    if foreign:
        raise UserError(
            f"at {location} lie other artifacts than the backup's, nothing was restored: {named(foreign)}; "
            "move them away"
        )
    return [Path(place) for place in wanted if place not in there]


def _restore_artifacts(location: str, saved: Path, files: list[Path]) -> None:
    from pipelines.files import written_whole
    from serving.stores import local_folder, opened

    here = local_folder(location)
    repository = opened(location)
    for file in files:
        try:
            if here is not None:  # whole or not at all
                with written_whole(here / file) as temporary:
                    shutil.copyfile(saved / file, temporary)
            else:
                above = None if file.parent == Path() else file.parent.as_posix()
                repository.log_artifact(str(saved / file), above)
        except Exception as error:
            raise UserError(f"{file} cannot be written to {location}: {error}; run it again to go on") from error


def _restore_database(target: Any, file: Path) -> None:
    from pipelines.files import written_whole
    from serving.stores import SQLITE

    if target.kind == SQLITE:
        with written_whole(target.path) as temporary:
            shutil.copyfile(file, temporary)
    else:
        target.call("pg_restore", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error", str(file))


def main() -> int:
    """Print what was restored and what to look at next."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--from", dest="folder", required=True, type=Path, help="folder of the backup")
    arguments.add_argument("--sha256", default="", help="of the manifest, as printed when the backup was made")
    arguments.add_argument("--artifacts-only", action="store_true", help="leave the databases as they are")
    given = arguments.parse_args()
    manifest = restore(given.folder, sha256=given.sha256, artifacts_only=given.artifacts_only)
    what = "the artifacts" if given.artifacts_only else f"artifacts, {' and '.join(manifest['databases'])}"
    print(f"restored {what} of {manifest['time']}; now `make verify TASK=...`")
    return 0


if __name__ == "__main__":
    run_command(main)
