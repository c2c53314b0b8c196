"""Workers on a cluster: Ray places them, gives each its share of a GPU, and replaces those of a lost node."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.errors import UserError

_MOST_RETRIES = 20  # of one worker, for nodes and processes that are lost
_WATCH_SECONDS = 1.0
_SHARES = 4  # a core, so that none waits long for the last
# Environment variables of the workers; secrets among them are sent to the cluster, which must be the user's own.
_HANDED_ON = ("OPTUNA_STORAGE", "MLFLOW_", "AWS_", "OUTAGE_SECONDS", "OMP_", "ONCOLINEAGE_")


def gpus_per_worker() -> float | None:
    """Return ``GPUS_PER_WORKER``, a fraction below 1 or a whole number; None where it is not set."""
    text = os.environ.get("GPUS_PER_WORKER", "")
    if not text:
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not share >= 0 or (share > 1 and not share.is_integer()):
        raise UserError(f"GPUS_PER_WORKER is {text!r}; it must be a fraction like 0.25, or a whole number of GPUs")
    return share


def work_in(folder: str, module: str, arguments: list[str], environment: dict[str, str]) -> int:
    """Run ``module.main(arguments)`` in ``folder``, of a file system that all nodes share."""
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, folder)
    return int(importlib.import_module(module).main(arguments) or 0)


def run_on_cluster(command: Sequence[str], workers: int, address: str, watch: Callable[[], int]) -> None:
    """Run ``workers`` Ray tasks of ``command`` until each finds the budget spent; lost ones are run again elsewhere."""
    share = gpus_per_worker()
    with connected(address) as ray:
        if share is None:
            share = 1.0 if ray.cluster_resources().get("GPU") else 0.0
        task = ray.remote(num_cpus=1, num_gpus=share, max_retries=_MOST_RETRIES)(work_in)
        module, *arguments = command
        begin = partial(task.remote, str(Path.cwd()), module)
        left = [begin([*arguments, "--number", str(number)], handed_on()) for number in range(1, workers + 1)]
        while left:
            ready, left = ray.wait(left, num_returns=1, timeout=_WATCH_SECONDS)
            watch()
            try:
                ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise UserError(str(error.cause)) from error
                raise
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"a worker was lost {_MOST_RETRIES + 1} times: {str(error).splitlines()[0]}; "
                    "run the same command to go on"
                ) from error


def handed_on() -> dict[str, str]:
    """Return the environment variables of workers."""
    return {key: value for key, value in os.environ.items() if key.startswith(_HANDED_ON)}


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yield Ray, connected to the cluster at an address, ``local`` for a new one on this machine."""
    try:
        import ray
    except ImportError as error:
        raise UserError(
            'CLUSTER needs Ray, the extra "ray" of pyproject.toml; install it with '
            'uv pip install "ray[client]>=2.50,<3", or run it without CLUSTER'
        ) from error
    # Workers import the project from the folder that they work in, and arguments alone are sent to them.
    runtime = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}}
    own = {"include_dashboard": False, "object_store_memory": 100 * 1024**2} if address == "local" else {}
    try:
        ray.init(address=address, runtime_env=runtime, logging_level="warning", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"CLUSTER={address}: {error}; give ray://HOST:PORT of a running cluster, or local") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def spread(command: Sequence[str], address: str) -> None:
    """Run shares of ``command``, which gets ``--share N/OF``, on the cluster at an address by Ray Data."""
    with connected(address) as ray:
        given = list(command), str(Path.cwd()), handed_on(), gpus_per_worker() or 0.0
        try:
            ray.get(ray.remote(num_cpus=0)(_spread).remote(*given))
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1]
            raise UserError(f"CLUSTER={address}: {last}; run the same command to go on") from error


def _spread(command: list[str], folder: str, environment: dict[str, str], gpus: float) -> None:
    """Run all shares; in the cluster, since Ray Data wants its driver there."""
    import ray

    module, *arguments = command
    ray.data.DataContext.get_current().enable_progress_bars = False
    shares = _SHARES * max(1, int(ray.cluster_resources().get("CPU", 1)))

    def run(share: dict[str, Any]) -> dict[str, Any]:
        work_in(folder, module, [*arguments, "--share", f"{share['id']}/{shares}"], environment)
        return share

    ray.data.range(shares, override_num_blocks=shares).map(run, num_cpus=1, num_gpus=gpus).materialize()
