"""What a study optimizes under ``worst_stress_<metric>``: the worst value over home and each kind of stress."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipelines.params import Task
from pipelines.problems import WORST_STRESS, Problem, higher_is_better

MOST = 120  # held-out samples under each kind of stress: a pass of the model each

Scored = tuple[np.ndarray, np.ndarray]  # target and outputs of the same samples


def under_stress(task: Task, metric: str, held_out: Any, train: Any, *, seed: int, parts: int = 1) -> dict[str, Any]:
    """Return held-out samples at home and under each kind of stress, by partners of ``train``, if the metric is of it.

    At most `MOST` samples of all ``parts``, drawn so that classes are as even as they can be.
    """
    if not metric.startswith(WORST_STRESS):
        return {}
    order = np.random.default_rng(seed).permutation(len(held_out))
    of_class = pd.Series(held_out.target[order]).groupby(held_out.target[order]).cumcount()
    few = held_out.take(np.sort(order[np.argsort(of_class, kind="stable")[: MOST // parts]]))
    return {"home": few, **task.stressed(few, train, seed)}


def answered(model: Any, stressed: Mapping[str, Any]) -> dict[str, Scored]:
    """Return target and outputs of a model for the result of `under_stress`."""
    return {kind: (samples.target, model.outputs(samples)) for kind, samples in stressed.items()}


def answered_parts(
    task: Task, metric: str, parts: Sequence[tuple[Any, np.ndarray, np.ndarray]], samples: Any, seed: int
) -> list[dict[str, Scored]]:
    """Return `answered` of each part of a final fit, a model with the rows that it was fitted on and held-out ones."""
    if not metric.startswith(WORST_STRESS):
        return []
    how: dict[str, Any] = {"seed": seed, "parts": len(parts)}
    return [
        answered(model, under_stress(task, metric, samples.take(held_out), samples.take(train), **how))
        for model, train, held_out in parts
    ]


def score(problem: Problem, metric: str, home: Scored, stressed: Sequence[Mapping[str, Scored]] = ()) -> float:
    """Return a metric of held-out rows; one of stress is the worst over the kinds, each over all of ``stressed``."""
    if not metric.startswith(WORST_STRESS):
        return problem.score(metric, *home)
    plain, scores = metric.removeprefix(WORST_STRESS), []
    for kind in stressed[0]:
        target, outputs = (np.concatenate(each) for each in zip(*(part[kind] for part in stressed), strict=True))
        scores.append(problem.score(plain, target, outputs))
    return min(scores) if higher_is_better(metric) else max(scores)
