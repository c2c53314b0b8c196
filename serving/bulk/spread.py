"""Parts of bulk prediction on a cluster, by Ray Data."""

import os
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from training.studies.cluster import connected, gpus_per_worker, handed_on

_SHARES = 4  # a core, so that none waits long for the last


def _answer(share: dict[str, Any], *, folder: str, given: tuple[Any, ...], environment: dict[str, str], of: int) -> Any:
    """Answer a share of the parts, in a folder of a file system that all nodes share."""
    os.environ.update(environment)
    os.chdir(folder)
    from serving.bulk.run import Bulk

    Bulk(*given).answer(lambda number: number % of == share["id"])
    return share


def _spread(gpus: float, **given: Any) -> None:
    """Answer all shares; runs in the cluster, since Ray Data wants its driver there."""
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    shares = _SHARES * max(1, int(ray.cluster_resources().get("CPU", 1)))
    told: dict[str, Any] = {"fn_kwargs": {**given, "of": shares}, "num_cpus": 1, "num_gpus": gpus}
    ray.data.range(shares, override_num_blocks=shares).map(_answer, **told).materialize()


def answer_on_cluster(address: str, *given: Any) -> None:
    """Answer all parts of ``Bulk(*given)`` that are missing on the cluster at ``address``."""
    with connected(address) as ray:
        spread, told = ray.remote(num_cpus=0)(_spread), {"folder": str(Path.cwd()), "environment": handed_on()}
        try:
            ray.get(spread.remote(gpus_per_worker() or 0.0, given=given, **told))
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1]
            raise UserError(f"CLUSTER={address}: {last}; run the same command to go on") from error
