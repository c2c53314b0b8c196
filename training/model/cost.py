"""What a fitted model costs: seconds of the fit, memory, size, and the time of an answer."""

import resource
import statistics
import sys
import tempfile
import timeit
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from training.estimator import Estimator

_SECONDS = 2.0


def measured_cost(folder: Path, estimator: Estimator, samples: Any, seconds: float) -> dict[str, float]:
    """Return seconds of the fit, peak memory of this process, size on disk, and latency of 1 and of 32 predictions."""
    cost = {f"cost_{name}": float(value) for name, value in estimator.cost().items()}
    cost["cost_fit_seconds"] = seconds
    cost["cost_peak_memory_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    torch = sys.modules.get("torch")  # a model without torch used no memory of a GPU
    if torch is not None and torch.cuda.is_available():
        cost["cost_peak_gpu_megabytes"] = torch.cuda.max_memory_allocated() / 1e6
    cost["cost_model_megabytes"] = megabytes(folder)
    for batch in (1, 32):
        cost[f"cost_latency_ms_batch_{batch}"] = milliseconds(estimator, samples, batch)
    return cost


def metrics_of_cost(cost: dict[str, float]) -> dict[str, float]:
    """Return what `measured_cost` returned as metrics of a run."""
    return {key.replace("cost_", "cost/", 1): value for key, value in cost.items()}


def milliseconds(estimator: Estimator, samples: Any, count: int = 1, calls: int = 5) -> float:
    """Return the median time of an answer to the first ``count`` samples, of ``calls`` after one that warms up.

    Of answers that take long there are fewer, as many as fit in `_SECONDS`, but two.
    """
    asked = partial(estimator.outputs, alone(samples, count))
    asked()
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) < calls and sum(taken) < _SECONDS):
        taken.append(timeit.timeit(asked, number=1))
    return statistics.median(taken) * 1000


def saved_megabytes(estimator: Estimator) -> float:
    """Return the size of what a fitted model saves."""
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as folder:
        estimator.save(Path(folder))
        return megabytes(Path(folder))


def megabytes(folder: Path) -> float:
    """Return the size of all files below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def alone(samples: Any, count: int) -> Any:
    """Return the first ``count`` samples with only their own drugs, pixels or profiles."""
    return samples.take(np.arange(min(count, len(samples)))).alone()
