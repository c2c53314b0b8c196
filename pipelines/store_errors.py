"""Errors of databases and folders that no retry resolves: read-only, full, damaged, of another release, deleted."""

import errno
import os
import re

from pipelines.errors import UserError

_AGAIN = "then run the same command again: finished work is kept"
_BACKUP = "move it aside, do not delete it, and restore a backup (`make restore FROM=DIR`)"
_RESTORE = "with that address in MLFLOW_TRACKING_URI, `mlflow {}` restores it"
_UPGRADE = (
    "make a backup (`make backup TO=DIR`), then run `{}` with the store's address; a store of a newer release needs "
    "that release, an upgrade does not go back"
)
_REASONS: tuple[tuple[str, str, str], ...] = (
    # Pattern of the error of SQLite, PostgreSQL, MLflow, Optuna or the system; meaning; remedy.
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
    (r"unable to open database file", "cannot be opened", "check that its folder exists and is writable"),
    (r"file is not a database", "is no SQLite database", f"check the path; if it was one, {_BACKUP}"),
    (r"disk image is malformed|malformed database schema", "is damaged", _BACKUP),
    (r"disk I/O error", "cannot be read or written (disk I/O error)", f"check its disk or network folder; {_AGAIN}"),
    (
        r"out-of-date database schema|can't locate revision",
        "was written by another release of MLflow",
        _UPGRADE.format("mlflow db upgrade URI"),
    ),
    (
        r"no longer compatible with the table schema",
        "was written by another release of Optuna",
        _UPGRADE.format("optuna storage upgrade --storage URL"),
    ),
    (
        r"no such (?:table|column):|(?:relation|column) .* does not exist",
        "has other tables than this release makes",
        "check that it is the right database, and that no other program uses it",
    ),
    (
        r"(?:password|peer|ident|gss|ldap) authentication failed|no password supplied|no pg_hba\.conf entry|"
        r"role .* (?:does not exist|is not permitted to log in)",
        "does not let this account in",
        "check user and password in its address",
    ),
    (r"database .* does not exist", "is not there", "create the database (createdb), or correct its address"),
    (
        r"(?P<denied>permission denied for [\w ]+|must be owner of [\w ]+)",
        "does not allow this account to do this ({denied})",
        "ask its owner for the right",
    ),
    (
        r"(?:the experiment|experiment with id) '?(?P<experiment>[\w-]+)'? must be in the 'active' state",
        "has the experiment {experiment} as deleted",
        _RESTORE.format("experiments restore --experiment-id {experiment}"),
    ),
    (
        r"the run (?P<run>\w+) must be in the 'active' state|"
        r"cannot start run with id (?P<begun>\w+) because it is in the deleted state",
        "has the run {run} as deleted",
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
    """A database or a folder fails until somebody repairs it."""


def refusal(error: BaseException, store: str) -> StoreError | None:
    """Return the meaning of a store's error and the remedy; None for an outage and for other errors."""
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
    """Return why a file cannot be written, and the remedy; None for other errors. Some errors lack the ``path``."""
    told = _OF_FILES.get(error.errno or 0)
    if told is None and error.errno is None and "requested and" in str(error):  # NumPy, on a full disk
        told = _OF_FILES[errno.ENOSPC]
    name = path or error.filename or "a file"
    return None if told is None else f"{os.fspath(name) if isinstance(name, os.PathLike) else name}: {told}; {_AGAIN}"


def may_pass(error: BaseException) -> bool:
    """Whether an error of SQLite is temporary, because another process writes; true for errors of other stores."""
    said = _said(error)
    return "sqlite3." not in said or re.search(r"is locked|is busy", said) is not None


def _said(error: BaseException | None) -> str:
    """Return the texts of an error and of its causes, without SQL statements and their values."""
    texts = []
    while error is not None:
        texts.append(str(error).split("[SQL:")[0])
        error = error.__cause__
    return "\n".join(texts)
