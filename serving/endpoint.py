"""Serve a registered model over HTTP: ``python -m serving.endpoint --task T [--stage production] [--workers n]``.

It runs the command of ``mlflow models serve -m models:/T@production`` with two differences. The alias is resolved once:
all workers serve the version that is printed, even if the alias moves while they start. And uvicorn runs `serving.app`
in place of MLflow's application: it bounds the size of requests, asks for a login, counts, logs and traces.
"""

import os

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.params import read_params


def main() -> int:
    """Replace this process with the server."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--stage", default="production", help="alias in the registry")
    arguments.add_argument("--workers", type=int, default=1, help="processes")
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=5001)
    given = arguments.parse_args()
    if given.workers < 1:
        raise UserError(f"--workers is {given.workers}; at least one process is needed")
    from serving.server_command import check_access, command, served_version

    check_access(given.host)
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
