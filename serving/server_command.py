"""The version that an alias names, and the environment of a server of it."""

import os
from pathlib import Path

from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException

from evaluation.promotion.registered_files import check_files
from pipelines import tracking
from pipelines.environment import IMAGE_PIXELS, MODEL_VERSION
from pipelines.errors import UserError
from pipelines.files import cores
from pipelines.policy import Serve
from serving import tracing
from serving.app import Limits
from serving.endpoint_metrics import FOLDER
from serving.login import Login
from serving.mlflow_private import scoring_environment
from serving.serving_state import OWN

SECONDS = 60  # an answer may take
_ROOT = Path(__file__).parent.parent


def served_version(name: str, alias: str) -> str:
    """Return the version of the registered model ``name`` with ``alias``; `UserError` where there is none."""
    where = tracking.mlflow.get_tracking_uri()
    try:
        return str(MlflowClient().get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if not tracking.absent(error):
            raise
        first = f"`make register TASK={name}`, then `make promote TASK={name} TO={alias}`"
        raise UserError(f"no version of {name!r} has the alias {alias!r} in {where}; run {first}") from error


def check_access(host: str) -> None:
    """Refuse, by `UserError`, an address where others could ask without a login, and traces without an exporter."""
    try:
        Login.from_environment().check_address(host)
    except ValueError as error:
        raise UserError(str(error)) from error
    if (variable := tracing.configured()) is not None and not tracing.installed():
        missing = "opentelemetry-exporter-otlp-proto-http is not installed: pip install -e .[traces]"
        raise UserError(f"{variable} asks for traces, and {missing}; or unset it")


def environment_of(name: str, version: str, serve: Serve, own: Path, workers: int) -> dict[str, str]:
    """Return the environment of a server of a version, whose files of state are in the folder ``own``.

    `UserError` where the version's files cannot be read, or are not those registered.
    """
    try:
        folder = artifacts.download_artifacts(f"models:/{name}/{version}")
        registered = MlflowClient().get_model_version(name, version)
    except (MlflowException, OSError) as error:
        message = f"{name} version {version}: its files cannot be read: {error}"
        raise tracking.refusal(error) or UserError(message) from error
    check_files(registered, Path(folder))
    size = int(serve.request_megabytes * 1_000_000)
    limits = Limits(serve.rows, serve.explained_rows, size, SECONDS, max(1, cores() // 2))
    environment = scoring_environment(folder, limits.seconds)
    if workers > 1:  # each adds to files of all, so that any of them can answer for all
        (own / "metrics").mkdir()
        environment[FOLDER] = str(own / "metrics")
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle OpenMP threads sleep
    return (
        environment
        | limits.environment()
        | {
            OWN: str(own),
            MODEL_VERSION: version,
            IMAGE_PIXELS: str(serve.image_pixels),
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]),
        }
    )
