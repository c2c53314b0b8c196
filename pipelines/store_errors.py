"""Why a store refuses for good: read-only, full, damaged, of another release, deleted. Waiting mends none of it."""

from __future__ import annotations

import errno
import os
import re

from pipelines.errors import UserError

_AGAIN = "then run the same command: what is done already is kept"
_BACKUP = "move it aside, do not delete it, and put a backup back (`make restore FROM=DIR`)"
_RESTORE = "with that address in MLFLOW_TRACKING_URI, `mlflow {}` restores it"
_REASONS: tuple[tuple[str, str, str], ...] = (
    # What SQLite, PostgreSQL, MLflow, Optuna or the system says; what it means; what to do.
    (
        r"attempt to write a readonly database|in a read-only transaction|read-only file system",
        "is read-only",
        f"let this account write to it (with SQLite also to the folder of its file), or name another store; {_AGAIN}",
    ),
    (
        r"database or disk is full|no space left on device|disk quota exceeded|could not extend file",
        "is full",
        f"free or add space on its disk; {_AGAIN}",
    ),
    (
        r"unable to open database file",
        "cannot be opened",
        "look whether its folder is there and may be written to",
    ),
    (
        r"file is not a database",
        "is no SQLite database",
        f"look at the path; if it was one, {_BACKUP}",
    ),
    (r"disk image is malformed|malformed database schema", "is damaged", _BACKUP),
    (r"disk I/O error", "cannot be read or written (disk I/O error)", f"look at its disk or network folder; {_AGAIN}"),
    (
        r"out-of-date database schema|can't locate revision",
        "was written by another release of MLflow",
        "make a backup (`make backup TO=DIR`), then run `mlflow db upgrade URI` with the store's address; a store of a "
        "newer release needs that release of MLflow, an upgrade does not go back",
    ),
    (
        r"no longer compatible with the table schema",
        "was written by another release of Optuna",
        "make a backup (`make backup TO=DIR`), then run `optuna storage upgrade --storage URL` with the store's "
        "address; a store of a newer release needs that release of Optuna",
    ),
    (
        r"no such (?:table|column):|(?:relation|column) .* does not exist",
        "has other tables than this release makes",
        "look whether it is the right database, and whether another program keeps its tables in it",
    ),
    (
        r"(?:password|peer|ident|gss|ldap) authentication failed|no password supplied|no pg_hba\.conf entry|"
        r"role .* (?:does not exist|is not permitted to log in)",
        "does not let this account in",
        "look at user and password in its address",
    ),
    (
        r"database .* does not exist",
        "is not there",
        "create the database (createdb), or look at its name in the address",
    ),
    (
        r"(?P<denied>permission denied for [\w ]+|must be owner of [\w ]+)",
        "does not let this account do this ({denied})",
        "ask its owner for the right",
    ),
    (
        r"(?:the experiment|experiment with id) '?(?P<experiment>[\w-]+)'? must be in the 'active' state",
        "holds the experiment {experiment} as deleted",
        _RESTORE.format("experiments restore --experiment-id {experiment}"),
    ),
    (
        r"the run (?P<run>\w+) must be in the 'active' state|"
        r"cannot start run with id (?P<begun>\w+) because it is in the deleted state",
        "holds the run {run} as deleted",
        _RESTORE.format("runs restore --run-id {run}"),
    ),
)
_KNOWN = [(re.compile(said, re.IGNORECASE), what, todo) for said, what, todo in _REASONS]
_OF_FILES = {
    **dict.fromkeys((errno.EROFS,), "is on a read-only file system; name another folder, or mount it to be written"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "cannot be written: its disk is full; free space there"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "may not be written or read by this account; change its permissions"),
}


class StoreError(UserError):
    """A database or a folder that does its work only once somebody has mended it."""


def refusal(error: BaseException, store: str) -> StoreError | None:
    """Return what a store's error means and what to do, None for an outage and for what is no fault of a store.

    Parameters
    ----------
    error
        Of a database, MLflow or Optuna; known by its text, since importing either would make every command slow.
    store
        What the message calls the store, and where it is named.
    """
    if isinstance(error, UserError):
        return error if isinstance(error, StoreError) else None
    if isinstance(error, OSError) and (told := of_file(error)) is not None:
        return StoreError(told)
    said = _said(error)
    for pattern, what, todo in _KNOWN:
        if (found := pattern.search(said)) is not None:
            names = {name: value for name, value in found.groupdict().items() if value}
            names["run"] = names.get("run") or names.get("begun", "")
            return StoreError(f"{store} {what.format(**names)}; {todo.format(**names)}")
    return None


def of_file(error: OSError, path: object = "") -> str | None:
    """Return why a file cannot be written and what to do; None where the error is another.

    Parameters
    ----------
    path
        Of the file, where the error itself does not name it.
    """
    told = _OF_FILES.get(error.errno or 0)
    if told is None and error.errno is None and "requested and" in str(error):  # NumPy's words for a disk that is full
        told = _OF_FILES[errno.ENOSPC]
    name = path or error.filename or "a file"
    return None if told is None else f"{os.fspath(name) if isinstance(name, os.PathLike) else name}: {told}; {_AGAIN}"


def may_pass(error: BaseException) -> bool:
    """Whether an error of SQLite's is of a moment: another process writes. All others of its errors stay."""
    said = _said(error)
    return "sqlite3." not in said or re.search(r"is locked|is busy", said) is not None


def _said(error: BaseException | None) -> str:
    """Return the texts of an error and of what it came of, without the statements and values that they repeat."""
    texts = []
    while error is not None:
        texts.append(str(error).split("[SQL:")[0])
        error = error.__cause__
    return "\n".join(texts)
