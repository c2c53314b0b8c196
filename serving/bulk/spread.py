"""Parts of bulk prediction on a cluster, by Ray Data."""

import os
import sys
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from training.studies.cluster import connected, handed_on

_BLOCKS = 4  # of parts a core, so that none waits long for the last


class _Worker:
    """Answers parts in a process of the cluster, in a folder that all nodes share."""

    def __init__(self, folder: str, environment: dict[str, str], given: tuple[Any, ...]) -> None:
        os.environ.update(environment)
        os.chdir(folder)
        sys.path.insert(0, folder)
        from serving.bulk.run import Bulk

        self._bulk = Bulk(*given)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        self._bulk.answer(sorted(map(int, batch["number"])))
        return batch


def _work(given: tuple[Any, ...], numbers: list[int]) -> None:
    """Run in the cluster: Ray Data wants its driver there, not behind Ray's client."""
    import ray

    cores = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
    size = max(1, len(numbers) // (_BLOCKS * cores))
    parts = ray.data.from_items([{"number": number} for number in numbers])
    workers = {"concurrency": (1, cores), "num_cpus": 1, "batch_size": size, "fn_constructor_args": given}
    parts.map_batches(_Worker, **workers).materialize()


def answer_on_cluster(address: str, given: tuple[Any, ...], numbers: list[int]) -> None:
    """Answer the parts ``numbers`` of the `Bulk` that is made of ``given`` on the cluster at ``address``."""
    with connected(address) as ray:
        try:
            ray.get(ray.remote(num_cpus=1)(_work).remote((str(Path.cwd()), handed_on(), given), numbers))
        except ray.exceptions.RayError as error:
            raise UserError(
                f"CLUSTER={address}: {str(error).strip().splitlines()[-1]}; run it again to go on"
            ) from error
