"""The storage of studies, SQLite for one worker and PostgreSQL for many, and the lock of a study."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import BaseFileLock, FileLock
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from pipelines.errors import UserError
from pipelines.paths import home
from pipelines.redaction import redacted
from pipelines.retry import Unreachable, retry
from pipelines.store_errors import StoreError, may_pass, refusal
from training.studies.optuna_private import cached_storage

SERVER = "the studies' database (OPTUNA_STORAGE)"


def storage_url() -> str:
    """Return the URL of the study storage: ``OPTUNA_STORAGE``, or an SQLite file in the working directory."""
    return os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{home() / 'optuna.db'}"


def refuse_what_many_workers_cannot_share(workers: int, cluster: str, tracking_uri: str) -> None:
    """Refuse several workers, or workers on a ``cluster``, on stores that one process alone can write to."""
    if workers == 1 and not cluster:
        return
    who = f"CLUSTER={cluster} needs" if cluster else f"WORKERS={workers} needs"
    if not _parsed(storage_url()).drivername.startswith("postgresql"):
        raise UserError(
            f"{who} a study storage that many processes can write to, and OPTUNA_STORAGE names none;"
            " set OPTUNA_STORAGE=postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, or run one worker"
        )
    if tracking_uri == storage_url():
        raise UserError(
            "OPTUNA_STORAGE and MLFLOW_TRACKING_URI name the same database, and each keeps the version of its tables "
            "under the same name; give each a database of its own"
        )
    if not tracking_uri.startswith(("http://", "https://", "postgresql")):
        raise UserError(
            f"{who} a tracking store that many processes can write to, and MLFLOW_TRACKING_URI names "
            "a file; set MLFLOW_TRACKING_URI=http://HOST:5000 (a tracking server) or "
            "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, or run one worker"
        )


def _parsed(url: str) -> sqlalchemy.engine.URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise UserError(
            "OPTUNA_STORAGE is no URL of a database; "
            "give one like postgresql+psycopg://USER:PASSWORD@HOST/DATABASE or sqlite:///optuna.db"
        ) from error


def _refusal(error: BaseException) -> StoreError | None:
    return refusal(error, f"the studies' database {redacted(storage_url())} (OPTUNA_STORAGE)")


def _is_outage(error: Exception) -> bool:
    """Whether the database is away or busy, rather than refuses."""
    if _refusal(error) is not None or not may_pass(error):
        return False
    if isinstance(error, StorageInternalError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, (OperationalError, InterfaceError, PendingRollbackError))


class PatientStorage:
    """The methods of an Optuna storage, which wait for a database that is away."""

    def __init__(self, inner: BaseStorage) -> None:
        self.inner = inner
        self._given_up: Unreachable | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "inner" or name.startswith("__"):  # of a copy that has no storage yet
            raise AttributeError(name)
        method = getattr(self.inner, name)
        if not callable(method):
            return method
        # They may be repeated: `create_new_trial` may leave a trial that the next claim finds.
        return lambda *arguments, **named: self._wait_out(lambda: method(*arguments, **named))

    def _wait_out(self, call: Callable[[], Any]) -> Any:
        """Return the result of ``call``; after an outage that was too long further calls do not wait."""
        try:
            if self._given_up is None:
                return retry(call, _is_outage, SERVER)
            answer = call()
        except Unreachable as error:
            self._given_up = error
            raise
        except Exception as error:
            if self._given_up is not None and _is_outage(error):
                raise self._given_up from error
            if (refused := _refusal(error)) is not None:
                raise refused from error
            raise
        self._given_up = None
        return answer

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state; it counts as set where an earlier call set it and its answer was lost."""
        asked_before = False

        def call() -> bool:
            nonlocal asked_before
            again, asked_before = asked_before, True
            try:
                return self.inner.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if again and self.inner.get_trial(trial_id).state == state:
                    return True
                raise

        return bool(self._wait_out(call))

    def remove_session(self) -> None:
        """Give the database session of this thread back; this asks no database."""
        self.inner.remove_session()


def open_storage(*, wait: bool) -> PatientStorage:
    """Open the study storage, with ``wait`` also one that is away for a while."""
    url = _parsed(storage_url())

    def opened() -> BaseStorage:
        with contextlib.ExitStack() as stack:  # Optuna fails where two processes make the tables of a new file at once
            if url.drivername.startswith("sqlite") and url.database and Path(url.database).parent.is_dir():
                with contextlib.suppress(OSError):  # an account that only reads makes none
                    (lock := study_lock("")).acquire()
                    stack.callback(lock.release)
            return cached_storage(storage_url())

    try:
        return PatientStorage(retry(opened, _is_outage, SERVER) if wait else opened())
    except Exception as error:
        if (refused := _refusal(error)) is not None:
            raise refused from error
        if not isinstance(error, (ImportError, OperationalError, StorageInternalError)):
            raise
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"{SERVER} cannot be opened: {reason}; look at the address and whether it runs") from error


class _PostgresStudyLock:
    """An advisory lock of PostgreSQL, on a connection of its own: the server frees it when the connection ends."""

    # The server's probes of a host that has vanished without closing its connections; seconds and times.
    _KEEPALIVE = "set tcp_keepalives_idle = 20; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3"

    def __init__(self, url: str, study: str) -> None:
        self._engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.pool.NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 10}
        )
        self._key = int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], signed=True)
        self._connection: sqlalchemy.Connection | None = None

    def acquire(self) -> None:
        """Wait for the lock, and for a database that is away."""
        retry(self._acquire, _is_outage, SERVER)

    def _acquire(self) -> None:
        self.release()  # else another connection of this worker would hold what this one waits for
        try:
            self._connection = self._engine.connect()
            self._connection.exec_driver_sql(self._KEEPALIVE)
            self._connection.execute(sqlalchemy.text("select pg_advisory_lock(:key)"), {"key": self._key})
        except Exception:
            self.release()
            raise

    def release(self) -> None:
        """End the connection, and with it the lock; no error if it is not held."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.invalidate()
                self._connection.close()
            self._connection = None

    @property
    def is_locked(self) -> bool:
        """Whether the lock is still held: a restart of the database releases it."""
        if self._connection is not None:
            try:
                self._connection.exec_driver_sql("select 1")
            except DBAPIError:
                self.release()
        return self._connection is not None


StudyLock = BaseFileLock | _PostgresStudyLock  # for the claim of a trial; it is released when its holder dies


def study_lock(study: str) -> StudyLock:
    """Return a lock of the study in the storage of `storage_url`; each worker needs its own."""
    url = _parsed(storage_url())
    if url.drivername.startswith("postgresql"):
        return _PostgresStudyLock(storage_url(), study)
    own_file = url.drivername.startswith("sqlite") and url.database and url.database != ":memory:"
    # Any other database has one worker.
    place = url.database if own_file else f"{tempfile.gettempdir()}/oncolineage-{os.getpid()}"
    return FileLock(f"{place}.lock")
