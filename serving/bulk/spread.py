"""Parts of bulk prediction on a cluster, by Ray Data."""

import os
import sys
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from training.studies.cluster import connected, gpus_per_worker, handed_on

_SHARES = 4  # a core, so that none waits long for the last


class _Worker:
    """Answers shares of the parts in a process of the cluster, in a folder of a file system that all nodes share."""

    def __init__(self, folder: str, environment: dict[str, str], given: tuple[Any, ...], shares: int) -> None:
        os.environ.update(environment)
        os.chdir(folder)
        sys.path.insert(0, folder)
        from serving.bulk.run import Bulk

        self._bulk, self._shares = Bulk(*given), shares

    def __call__(self, share: dict[str, Any]) -> dict[str, Any]:
        self._bulk.answer(lambda number: number % self._shares == share["id"])
        return share


def _work(folder: str, environment: dict[str, str], given: tuple[Any, ...]) -> None:
    """Spread the parts; runs in the cluster, since Ray Data wants its driver there."""
    import ray

    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    shares = _SHARES * cores
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(shares, override_num_blocks=shares).map(
        _Worker,
        fn_constructor_args=(folder, environment, given, shares),
        compute=ray.data.ActorPoolStrategy(size=cores),
        num_cpus=1,
        num_gpus=gpus_per_worker() or 0,
    ).materialize()


def answer_on_cluster(address: str, *given: Any) -> None:
    """Answer all parts of ``Bulk(*given)`` that are missing on the cluster at ``address``."""
    with connected(address) as ray:
        try:
            ray.get(ray.remote(num_cpus=0)(_work).remote(str(Path.cwd()), handed_on(), given))
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1]
            raise UserError(f"CLUSTER={address}: {last}; run the same command to go on") from error
