"""Serve a registered model over HTTP: ``python -m serving.endpoint --task T [--stage production] [--workers n]``.

As ``mlflow models serve -m models:/T@production``, with two differences. All workers serve the version that is printed;
where the alias moves, they make way for those of the new version, see `serving.following`. And uvicorn runs
`serving.app` in place of MLflow's application: it bounds the size of requests, asks for a login, counts, logs, traces.
"""

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.params import read_params


def main() -> int:
    """Serve until a signal ends it."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--stage", default="production", help="alias in the registry")
    arguments.add_argument("--workers", type=int, default=1, help="processes")
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=5001)
    arguments.add_argument("--shadow", default="", help="alias whose version is asked too; its answers are only logged")
    share = "share of clients, 0 to 1, that the version in staging answers"
    arguments.add_argument("--canary", type=float, default=0.0, help=share)
    given = arguments.parse_args()
    if given.workers < 1:
        raise UserError(f"--workers is {given.workers}; at least one process is needed")
    if not 0 <= given.canary <= 1 or (given.canary and given.shadow):
        raise UserError("--canary is a share of clients, 0 to 1, and goes without --shadow")
    from serving.following import Trial, serve
    from serving.server_command import check_access

    check_access(given.host)
    params = read_params()
    params.task(given.task)
    trial = Trial(given.shadow or "staging", given.canary) if given.shadow or given.canary else None
    if trial is not None and trial.alias == given.stage:
        raise UserError(f"the version in {given.stage} would be tried beside itself; serve --stage production")
    how = {"host": given.host, "port": given.port, "workers": given.workers}
    return serve(given.task, given.stage, params.policy.serve, **how, trial=trial)


if __name__ == "__main__":
    run_command(main)
