"""MLflow runs: one experiment a task, and the tags that trace a run to data, split and code."""

import contextlib
import functools
import logging
import os
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from filelock import FileLock

from pipelines import store_errors
from pipelines.file_hashes import combined, file_hashes
from pipelines.files import cores
from pipelines.paths import RESULTS, home
from pipelines.redaction import redacted
from pipelines.retry import retry
from pipelines.store_errors import StoreError, may_pass

# Overrides the environment, here and in child processes: nothing is loaded through pickle.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
# Set before MLflow is imported.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Files come and go through the server: its store's own address may be one that only the server reaches.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_TRACKING_URI": f"sqlite:///{home() / 'mlflow.db'}",
}.items():
    os.environ.setdefault(_name, _value)

# `mlflow run` passes on a run of the default experiment; our runs belong to the experiment of their task.
_PROJECT_RUN = os.environ.pop("MLFLOW_RUN_ID", None)
os.environ.pop("MLFLOW_EXPERIMENT_ID", None)

import mlflow  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

DATA = Path("data")
DATA_DVC = Path("data.dvc")
ROOMS = ("pipelines", "training", "evaluation", "serving")
ROTATION_SHA256 = "rotation.sha256"  # tag of a fit: the hash of the outer models that its evidence is of
SERVER = "the tracking server (MLFLOW_TRACKING_URI)"
_CHANGES_NAMED = 500  # characters

for _noisy in ("alembic", "mlflow.store.db.utils", "mlflow.system_metrics"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module="mlflow")

Result = TypeVar("Result")


def store() -> str:
    """Return the address of the tracking store and its variable, for messages."""
    return f"the tracking store {redacted(mlflow.get_tracking_uri())} (MLFLOW_TRACKING_URI)"


def refusal(error: BaseException) -> StoreError | None:
    """Return why the tracking store fails for good, see `pipelines.store_errors.refusal`."""
    return store_errors.refusal(error, store())


def absent(error: MlflowException) -> bool:
    """Whether MLflow answers that nothing has the name; not an outage."""
    return error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def is_outage(error: Exception) -> bool:
    """Whether MLflow failed because its server or its database is unreachable or busy."""
    if isinstance(error, ConnectionError):
        return True
    if not isinstance(error, MlflowException) or refusal(error) is not None or not may_pass(error):
        return False
    if error.error_code == "TEMPORARILY_UNAVAILABLE":
        return True
    said = str(error)
    if "API request to" in said:  # 4xx: the request is at fault
        return "failed with error code 4" not in said
    return any(words in said for words in ("OperationalError", "server closed the connection", "connection failed"))


def patiently(call: Callable[[], Result]) -> Result:
    """Return what a call of MLflow returns, retried in an outage; `StoreError` if it fails for good or for too long."""
    uri = mlflow.get_tracking_uri()
    _check_database(uri)
    try:
        retry(lambda: _make_tables(uri), is_outage, SERVER)
        return retry(call, is_outage, SERVER)
    except Exception as error:
        if (told := refusal(error)) is None or told is error:
            raise
        raise told from error


@functools.cache
def _check_database(uri: str) -> None:
    """Raise `StoreError` for a database that fails for good; MLflow would retry for minutes."""
    if not uri.startswith(("sqlite:", "postgresql")):
        return
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").parent.is_dir():
        return  # MLflow makes it
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    try:
        engine.connect().close()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        if (told := refusal(error)) is not None:
            raise told from error


@functools.cache
def _make_tables(uri: str) -> None:
    """Make the tables of a new SQLite file; MLflow fails where two processes do so at once."""
    database = uri.removeprefix("sqlite:///")
    if database != uri and os.access(Path(database).parent, os.W_OK):
        with (
            contextlib.suppress(PermissionError),
            FileLock(f"{database}.lock"),
        ):  # an account that only reads makes none
            mlflow.MlflowClient(uri)


def experiment(task: str) -> str:
    """Return the id of the experiment of ``task``, made if it is missing; `StoreError` if it is deleted."""
    _check_database(mlflow.get_tracking_uri())
    _make_tables(mlflow.get_tracking_uri())
    found = mlflow.get_experiment_by_name(task)
    if found is None:
        try:
            return mlflow.create_experiment(task, None if home() == Path() else str(home() / "mlruns" / task))
        except MlflowException:  # another process made it in the meantime
            found = mlflow.get_experiment_by_name(task)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise StoreError(
            f"{store()} holds the experiment {task!r} as deleted; with that address in MLFLOW_TRACKING_URI, "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}` restores it"
        )
    return found.experiment_id


def retag(task: str, tags: Mapping[str, Any]) -> None:
    """Give the open run, which another process began, the lineage of this process and these tags."""
    clean = {"git.dirty": "", "git.changed": ""}  # tags of the other process that this one may lack
    now = {key: str(value) for key, value in {**clean, **lineage(task), **conditions(), **tags}.items()}
    patiently(lambda: mlflow.set_tags(now))


@contextlib.contextmanager
def run(
    task: str,
    stage: str,
    name: str,
    *,
    tags: Mapping[str, Any] | None = None,
    run_id: str | None = None,
    parent: str | None = None,
) -> Iterator[mlflow.ActiveRun]:
    """Open a run of the experiment ``task`` with the lineage tags set, or reopen ``run_id``, whose tags are kept.

    The parameters of a run that is resumed are immutable and must not be logged with other values. ``parent`` is the id
    of the parent run, also of one that is reopened: a fit that is repeated finds the studies of its parts ended.
    """
    above = {"mlflow.parentRunId": parent, "project_run_id": _PROJECT_RUN}
    every: dict[str, Any] = {"task": task, "stage": stage, **lineage(task), **conditions(), **(tags or {})}
    every = {key: str(value) for key, value in {**every, **above}.items() if key not in above or value is not None}
    active = patiently(
        lambda: mlflow.start_run(
            run_id=run_id,
            experiment_id=None if run_id else experiment(task),
            run_name=None if run_id else name,
            nested=parent is not None,
            tags=({"mlflow.parentRunId": parent} if parent else None) if run_id else every,
        )
    )
    try:
        yield active
    except BaseException:
        with contextlib.suppress(MlflowException, ConnectionError):  # report the error that ended the run
            mlflow.end_run("FAILED")
        raise
    patiently(lambda: mlflow.MlflowClient().set_terminated(active.info.run_id, "FINISHED"))
    with contextlib.suppress(MlflowException, ConnectionError):  # closes this process's side
        mlflow.end_run("FINISHED")


def lineage(task: str) -> dict[str, str]:
    """Return the tags that trace a run to its code, to DVC's hash of ``data/``, and to what is in ``data/<task>``."""
    tags = {"git.commit": git("rev-parse", "HEAD") or "none"}
    if tags["git.commit"] != "none":
        tags["git.dirty"] = str(bool(changes())).lower()
    if DATA_DVC.is_file():
        outs = (yaml.safe_load(DATA_DVC.read_text()) or {}).get("outs") or [{}]
        tags["dvc.data_md5"] = outs[0].get("md5", "none")
    if (folder := DATA / task).is_dir():
        tags["data.sha256"] = folder_sha256(folder)
    return tags


def conditions() -> dict[str, str]:
    """Return the tags of machine and working tree, which may change a result at the same commit and data."""
    tags = {
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "threads": os.environ.get("OMP_NUM_THREADS") or str(cores()),
        "python": platform.python_version(),
    }
    if changed := changes():
        tags["git.changed"] = " ".join(changed)[:_CHANGES_NAMED]
    return tags


def changes() -> list[str]:
    """Return files that differ from the commit, and untracked code; not what stages themselves rewrite."""
    tracked = git("diff", "--name-only", "HEAD", "--", ".", ":(exclude)dvc.lock", f":(exclude){RESULTS}") or ""
    unknown = git("ls-files", "--others", "--exclude-standard", "--", *(f"{room}/*.py" for room in ROOMS)) or ""
    return sorted({*tracked.splitlines(), *unknown.splitlines()})


def _cpu() -> str:
    """Return the processor's model, as Linux names it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def git(*arguments: str) -> str | None:
    """Return what a git command prints, or None where it fails (no git, no repository, no commit yet)."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def folder_sha256(folder: Path) -> str:
    """Return a hash over the names and bytes of all files below ``folder``."""
    return combined(file_hashes(folder))
