"""Backup and restore of the databases and artifacts that the environment names; code is in git, data in DVC's remote.

The tracking database holds runs, registry and accounts; studies, and the registry's history if it has its own, lie in
others. The artifacts of a tracking server (``mlflow-artifacts:/...``) are read and written in the place behind it,
``ONCOLINEAGE_ARTIFACTS_URI``, without a running server.
"""

import hashlib
import itertools
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import sqlalchemy as sa
from tqdm import tqdm

from evaluation.promotion.registered_files import FILES_TAG, served_hashes
from evaluation.promotion.signatures import HEAD, HISTORY_TAG, signers
from pipelines.errors import UserError
from pipelines.file_hashes import combined, differences, file_hashes, named
from pipelines.files import read_json, write_json, written_whole
from pipelines.redaction import redacted
from serving import audit_log, signing
from serving.alias_moves import HISTORY_URI, Found, history_uri
from serving.audit_log import INTENTS, TABLE
from serving.mlflow_private import ARTIFACT_LOCATIONS, Registered, artifact_repository, registered_models
from training.studies.storage import storage_url

ARTIFACTS_URI = "ONCOLINEAGE_ARTIFACTS_URI"
TRACKING, STUDIES, HISTORY = "tracking", "studies", "history"
SQLITE, POSTGRESQL = "sqlite", "postgresql"
MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Database:
    """A database, ``tracking``, ``studies`` or ``history``; its URI may hold a password, which ``str`` hides."""

    name: str
    uri: str

    def __str__(self) -> str:
        return f"{self.name} database {self._url.render_as_string(hide_password=True)}"

    @property
    def kind(self) -> str:
        """Return ``sqlite`` or ``postgresql``."""
        return self._url.get_backend_name()

    @property
    def path(self) -> Path:
        """Return the file of an SQLite database."""
        return Path(str(self._url.database))

    def is_empty(self) -> bool:
        """Whether a restore would overwrite nothing: there is no file, or no table."""
        if self.kind == SQLITE:
            return not any(Path(f"{self.path}{end}").exists() for end in ("", "-wal", "-journal"))
        with self.connected() as connection:
            return not sa.inspect(connection).get_table_names()

    def values(self, column: str) -> set[str]:
        """Return the values of ``table.column``, none where there is no such table."""
        table, _, name = column.partition(".")
        with self.connected() as connection:
            there = sa.inspect(connection).has_table(table)
            rows = list(connection.exec_driver_sql(f"SELECT DISTINCT {name} FROM {table}")) if there else []
        return {value for (value,) in rows if value}

    @contextmanager
    def connected(self) -> Iterator[sa.Connection]:
        """Give a connection; what the database says against it is a `UserError`."""
        engine = sa.create_engine(self._url, poolclass=sa.pool.NullPool)
        try:
            with engine.connect() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise UserError(f"the {self} cannot be used: {error.orig}") from error
        finally:
            engine.dispose()

    def save(self, file: Path) -> None:
        """Write the database as it is at one moment, while others write to it."""
        if self.kind == POSTGRESQL:
            self._call("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={file}")
            return
        try:  # SQLite's online backup: a copy of the file could be torn
            with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(file)) as target:
                source.backup(target)
        except sqlite3.Error as error:
            raise UserError(f"the {self} cannot be read: {error}") from error

    def load(self, file: Path) -> None:
        """Fill the empty database from a file that `save` wrote."""
        if self.kind == POSTGRESQL:
            options = ("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
            self._call("pg_restore", *options, str(file))
        else:
            _copy(file, self.path)

    def _call(self, tool: str, *arguments: str) -> None:
        """Run a tool of PostgreSQL on the database, with the password in its environment and not in its arguments."""
        if (found := shutil.which(tool)) is None:
            raise UserError(
                f"{tool} is not installed; install PostgreSQL's client tools (Debian: postgresql-client), of the "
                "server's version or a newer one"
            )
        url = self._url.set(drivername="postgresql")
        shown = url._replace(password=None).render_as_string(hide_password=False)
        secret = {} if not url.password else {"PGPASSWORD": str(url.password)}
        done = subprocess.run(
            [found, *arguments, f"--dbname={shown}"],
            env={**os.environ, **secret},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise UserError(f"{tool} failed on the {self}: {redacted(done.stderr.strip()) or done.returncode}")

    @property
    def _url(self) -> sa.URL:
        return sa.make_url(self.uri)


def databases() -> list[Database]:
    """Return the databases that the environment names: tracking, studies, and the history's where it is another."""
    uri, history = str(mlflow.get_tracking_uri()), history_uri()
    if uri != str(mlflow.get_registry_uri()):
        raise UserError("tracking store and registry are two databases; a backup takes one that holds both")
    if uri.startswith(("http://", "https://")):
        uri = history  # is taken for the server's own; if it is not, the server's operator saves that
    found = [Database(TRACKING, uri), Database(STUDIES, storage_url())]
    if history != uri:
        found.append(Database(HISTORY, history))
    for each in found:
        if each.kind not in (SQLITE, POSTGRESQL) or (each.kind == SQLITE and str(each.path) in ("None", ":memory:")):
            raise UserError(f"the {each} is neither PostgreSQL nor an SQLite file, and is not backed up")
    return found


def artifact_locations(database: Database) -> list[str]:
    """Return the artifact locations in the tracking database, without those below another."""
    every = {str(location) for column in ARTIFACT_LOCATIONS for location in database.values(column)}
    kept: list[str] = []
    for location in sorted(every):
        if not any(location.startswith(f"{above.rstrip('/')}/") for above in kept):
            kept.append(location)
    return kept


def behind_server(location: str) -> str:
    """Return a location as this machine reaches it."""
    place = re.fullmatch(r"mlflow-artifacts:(?://[^/]*)?/+(.*)", location)
    if place is None:
        return location
    destination = os.environ.get(ARTIFACTS_URI, "").strip()
    if not destination:
        raise UserError(
            f"artifacts lie at {location}, behind the tracking server; set {ARTIFACTS_URI} to the server's "
            "--artifacts-destination"
        )
    return f"{destination.rstrip('/')}/{place[1]}"


def _folder(location: str) -> Path | None:
    """Return the local folder of a location, None where it is none."""
    parts = urllib.parse.urlparse(behind_server(location))
    return Path(urllib.parse.unquote(parts.path)) if parts.scheme in ("", "file") else None


def backup(to: Path) -> dict[str, Any]:
    """Write databases, artifacts and a manifest of their hashes into the new folder ``to``; return the manifest.

    The databases are read first: the artifacts that they name were written before them. The folder appears once it is
    complete; it holds hashes of passwords, so only its owner may read it. What cannot be read is a `UserError`.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} exists already and is not overwritten: name a new folder")
    present = [each for each in databases() if not each.is_empty()]
    if TRACKING not in [each.name for each in present]:
        raise UserError("there is no tracking database to save; check MLFLOW_TRACKING_URI")
    to.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}."))
    try:
        (made / "databases").mkdir()
        saved = {}
        moves = _moves(present)
        for database in present:
            file = made / "databases" / f"{database.name}.{'db' if database.kind == SQLITE else 'dump'}"
            database.save(file)
            saved[database.name] = {"kind": database.kind, "file": file.relative_to(made).as_posix()}
        if HISTORY in saved and _moves(present) != moves:  # the two databases are of different moments
            raise UserError("a version was moved meanwhile, nothing was saved; run it again")
        tracking = next(each for each in present if each.name == TRACKING)
        places: list[dict[str, str]] = []
        for location in tqdm(artifact_locations(tracking), desc="artifacts", disable=None):
            folder = made / "artifacts" / str(len(places))
            folder.mkdir(parents=True)
            if _download(location, folder):
                places.append({"location": location, "folder": folder.relative_to(made).as_posix()})
            else:
                folder.rmdir()
        manifest = {"format": FORMAT, "time": datetime.now(UTC).isoformat(timespec="seconds"), "databases": saved}
        manifest |= {"mlflow": mlflow.__version__, "artifacts": places, "files": file_hashes(made)}
        write_json(made / MANIFEST, manifest)
        made.replace(to)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return manifest


def _moves(present: list[Database]) -> set[str]:
    """Return values that change when a version is moved."""
    columns = (f"{TABLE}.hash", f"{INTENTS}.entry")
    return {value for each in present for column in columns for value in each.values(column)}


def _download(location: str, folder: Path) -> bool:
    """Copy the artifacts at a location into ``folder``; return whether there are any."""
    try:
        repository = artifact_repository(behind_server(location))
        if not repository.list_artifacts():
            return False
        repository.download_artifacts("", dst_path=str(folder))
    except UserError:
        raise
    except Exception as error:  # of the store's own library, which need not be installed here
        raise UserError(f"artifacts at {location} cannot be read: {type(error).__name__}: {error}") from error
    return True


def restore(folder: Path, *, sha256: str = "", artifacts_only: bool = False) -> dict[str, Any]:
    """Write databases and artifacts of a backup where the environment and the backup say; return its manifest.

    Every file is compared with its hash, and every target is checked, before anything is written. Databases must be
    empty, and artifacts that exist must be those of the backup, so that an interrupted restore can be run again.
    ``sha256``, if any, is that of the manifest. What is damaged or cannot be written is a `UserError`, and what is not
    signed where moves are: known of SQLite's files before anything is written, of PostgreSQL's dumps after it.
    """
    manifest = _checked(folder, sha256)
    targets = {each.name: each for each in databases()}
    wanted = {} if artifacts_only else manifest["databases"]
    for name, database in wanted.items():
        target = targets.get(name)
        if target is None:
            raise UserError(f"the backup holds a {name} database and the environment names none; set {HISTORY_URI}")
        if target.kind != database["kind"]:
            raise UserError(f"the backup's {name} database is {database['kind']}, and this is the {target}")
        if not target.is_empty():
            raise UserError(f"the {target} is not empty; nothing was restored: move it away, or name another")
    saved = {name: replace(targets[name], uri=_as_it_is(folder / each["file"])) for name, each in wanted.items()}
    on_files = all(each["kind"] == SQLITE for each in wanted.values())
    if on_files:
        _refuse_unsigned(saved, folder, manifest["artifacts"], "nothing was restored: take another backup")
    missing = [(place, _missing(place["location"], folder / place["folder"])) for place in manifest["artifacts"]]
    # Artifacts before the databases that name them.
    for place, files in tqdm(missing, desc="artifacts", disable=None):
        location, copies, here = place["location"], folder / place["folder"], _folder(place["location"])
        for file in files:
            try:
                if here is None:
                    above = None if file.parent == Path() else file.parent.as_posix()
                    artifact_repository(behind_server(location)).log_artifact(str(copies / file), above)
                else:
                    _copy(copies / file, here / file)
            except Exception as error:
                raise UserError(f"{file} cannot be written to {location}: {error}; run it again to go on") from error
    for name, database in wanted.items():
        targets[name].load(folder / database["file"])
    if not on_files:
        then = "it was restored and must not be served: empty the databases, and take another backup"
        _refuse_unsigned(targets, folder, manifest["artifacts"], then)
    return manifest


def _as_it_is(file: Path) -> str:
    return f"sqlite:///file:{urllib.parse.quote(str(file.resolve()))}?immutable=1&uri=true"  # nothing is left beside it


def _refuse_unsigned(found: dict[str, Database], backup: Path, artifacts: list[dict[str, str]], then: str) -> None:
    """Refuse registries, and their versions' files in a backup, that are not as somebody who may signed them."""
    if signers() is None or TRACKING not in found:
        return
    told: list[str] = []
    with found[TRACKING].connected() as registry, found.get(HISTORY, found[TRACKING]).connected() as history:
        for name, registered in registered_models(registry).items():
            rows, tags = audit_log.read(history.engine, name), registered.tags
            head, signature = tags.get(HEAD), tags.get(HISTORY_TAG)
            if rows.entries or head or signature:  # else it is a model of others
                stages: dict[int, str | None] = dict.fromkeys(registered.versions)
                model = Found(
                    rows.entries, head, registered.aliases, stages, (), rows.intent, signature, registered.versions
                )
                problems = [*model.broken(), *model.moved(), *signing.problems(name, model)]
                told += [f"{name}: {each}" for each in (*problems, *_of_other_files(registered, backup, artifacts))]
    if told:
        raise UserError("\n".join([*told, then]))


def _of_other_files(model: Registered, backup: Path, artifacts: list[dict[str, str]]) -> Iterator[str]:
    """Yield which versions have other files in a backup than their tags say."""
    for (number, location), place in itertools.product(model.locations.items(), artifacts):
        above, tag = f"{place['location'].rstrip('/')}/", model.versions[number].get(FILES_TAG)
        if tag is not None and location.startswith(above):
            folder = backup / place["folder"] / location.removeprefix(above)
            if combined(served_hashes(folder)) != tag:
                yield f"version {number}: its files in the backup are not those that were registered"


def _checked(folder: Path, sha256: str) -> dict[str, Any]:
    """Return the manifest of a backup whose files are all as they were saved."""
    try:
        found = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        manifest: dict[str, Any] = read_json(folder / MANIFEST)
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
    """Return the saved files that are not at ``location``, relative; refuse a location with other files."""
    with tempfile.TemporaryDirectory() as temporary:
        here = _folder(location)
        if here is None:
            here = Path(temporary)
            _download(location, here)
        there = file_hashes(here) if here.is_dir() else {}
    wanted = file_hashes(saved)
    foreign = [each for each in differences(there, wanted) if not each.endswith("is missing")]
    if foreign:
        raise UserError(
            f"at {location} lie other artifacts than the backup's, nothing was restored: {named(foreign)}; "
            "move them away"
        )
    return [Path(place) for place in wanted if place not in there]


def _copy(source: Path, to: Path) -> None:
    with written_whole(to) as temporary:
        shutil.copyfile(source, temporary)
