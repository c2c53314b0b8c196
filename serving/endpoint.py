"""Serve a registered model over HTTP: ``python -m serving.endpoint --task T [--stage production] [--workers n]``.

It is what ``mlflow models serve -m models:/T@production`` runs (the same command, environment and scoring server), with
two differences. The alias is resolved once, here: all workers serve the version that is printed, and answer with its
number, even if the alias moves while they start. And uvicorn is given `serving.app` in the place of MLflow's own
application, which takes no middleware, so that the size of requests is bounded; see there.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from evaluation.registered_files import check_files
from pipelines import tracking
from pipelines.command import parser, run_command
from pipelines.environment import IMAGE_PIXELS, MODEL_VERSION
from pipelines.faults import UserError
from pipelines.files import cores
from pipelines.params import read_params
from pipelines.policy import Serve
from serving.limits import Limits

APPLICATION = "serving.app:app"
SECONDS = 60  # an answer may take
_ROOT = Path(__file__).parent.parent


def served_version(name: str, alias: str) -> str:
    """Return the version of the registered model ``name`` that ``alias`` points to.

    Raises
    ------
    UserError
        There is no such model or alias.
    """
    where = tracking.mlflow.get_tracking_uri()
    try:
        return str(MlflowClient().get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        first = f"`make register TASK={name}`, then `make promote TASK={name} TO={alias}`"
        raise UserError(f"no version of {name} has the alias {alias} in {where}; run {first}") from error


def limits_of(serve: Serve) -> Limits:
    """Return the limits that ``policy.serve`` of ``params.yaml`` sets."""
    return Limits(serve.rows, int(serve.request_megabytes * 1_000_000), SECONDS, max(1, cores() // 2))


def command(name: str, version: str, serve: Serve, *, host: str, port: int, workers: int) -> tuple[list[str], dict]:
    """Return the command that serves a version, and its environment.

    Raises
    ------
    UserError
        The files cannot be read, or are not those that were registered.
    """
    try:
        folder = artifacts.download_artifacts(f"models:/{name}/{version}")
        registered = MlflowClient().get_model_version(name, version)
    except (MlflowException, OSError) as error:
        raise UserError(f"{name} version {version}: its files cannot be read: {error}") from error
    check_files(registered, Path(folder))
    limits = limits_of(serve)
    line, environment = scoring_server.get_cmd(folder, port, host, limits.seconds, workers)
    arguments = shlex.split(line)
    own = [sys.executable, "-m", *arguments[:-1], APPLICATION]  # its own uvicorn, whatever PATH says
    environment |= limits.environment() | {
        MODEL_VERSION: version,
        IMAGE_PIXELS: str(serve.image_pixels),
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]),
    }
    return own, environment


def main() -> int:
    """Become the server."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--stage", default="production", help="alias in the registry")
    arguments.add_argument("--workers", type=int, default=1, help="processes")
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=5001)
    given = arguments.parse_args()
    if given.workers < 1:
        raise UserError(f"--workers is {given.workers}; at least one process is needed")
    params = read_params()
    params.task(given.task)
    version = served_version(given.task, given.stage)
    own, environment = command(
        given.task, version, params.policy.serve, host=given.host, port=given.port, workers=given.workers
    )
    print(f"{given.task} version {version} ({given.stage}) at http://{given.host}:{given.port}/invocations", flush=True)
    os.execve(own[0], own, environment)


if __name__ == "__main__":
    run_command(main)
