"""Federated learning on one machine: each folder is a site, which trains on its own rows."""

import importlib.util
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from pipelines.command import architecture_parser, run_command
from pipelines.errors import UserError
from pipelines.params import read_params


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m training.federate --task T --architecture A --sites DIR ... [--strategy fedprox] ...``."""
    options = architecture_parser(__doc__ or "")
    options.add_argument("--sites", nargs="+", type=Path, required=True, help="raw folders, one a site")
    options.add_argument("--strategy", default="fedavg", help="fedavg or fedprox")
    options.add_argument(
        "--proximal", type=float, default=0.01, help="of fedprox: penalty on leaving the common weights"
    )
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--epochs", type=int, default=2, help="of each site in a round")
    options.add_argument("--noise", type=float, default=0.0, help="of gradients, in units of --clip; 0: no privacy")
    options.add_argument("--clip", type=float, default=1.0, help="largest norm of the gradient of a group")
    options.add_argument("--share", type=float, default=0.1, help="of the groups that are drawn for a private step")
    options.add_argument("--delta", type=float, default=1e-4, help="at which the privacy spent is told")
    options.add_argument("--secure", action="store_true", help="the coordinator sees sums over the sites alone")
    given = options.parse_args(argv)
    read_params().task(given.task)
    if len({folder.resolve() for folder in given.sites}) < max(2, len(given.sites)):
        raise UserError("--sites: name two folders or more, each once")
    if lacking := [folder for folder in given.sites if not folder.is_dir()]:
        raise UserError(f"--sites: {lacking[0]} is no folder")
    if len({folder.name for folder in given.sites}) < len(given.sites):
        raise UserError("--sites: the last parts of the folders are the sites' names; give each its own")
    if importlib.util.find_spec("flwr") is None:
        raise UserError("federated learning needs Flower, in no image: pip install -r requirements.lock")
    from training.federated.coordinator import run
    from training.federated.local_grid import LocalGrid
    from training.federated.plan import Plan
    from training.federated.site import app

    asked = {each.name: getattr(given, each.name) for each in fields(Plan) if hasattr(given, each.name)}
    fitted = run(LocalGrid(app, given.sites), asked | {"sites": len(given.sites)})
    found = fitted.federated
    spent = f", epsilon {found['privacy']['epsilon']:.2f} at delta {given.delta:g}" if found["privacy"] else ""
    print(
        f"{given.task} {fitted.architecture}: {fitted.metric} {fitted.validation:.4f} on held-out rows, best of round "
        f"{found['best_round']}{spent}, {fitted.seconds:.1f} s (run {fitted.run_id})"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
