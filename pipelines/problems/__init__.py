"""Problems, a module each, found by its name; their metrics are the one registry that all rooms read."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

WORST_STRESS = "worst_stress_"  # before a metric: its worst value at home and under each stress, see `Task.stressed`
Score = Callable[["np.ndarray", "np.ndarray"], float]


@dataclass(frozen=True)
class Metric:
    """One metric of a problem."""

    name: str  # in reports, runs and `params.yaml`
    meaning: str  # for people; `{baseline}` is replaced by the name of the naive baseline
    higher_is_better: bool = True
    # A number from measured values `(n, ...)` and a model's outputs, which a study may optimize; None if only reported.
    score: Score | None = None
    reported: bool = True  # whether a leaderboard may be ordered by it
    within: bool = False  # whether it is a mean over parts of the samples (drugs), which not every modality has
    label: str = ""  # its name for people, if that is not `name` with a capital


@dataclass(frozen=True)
class Problem:
    """What is predicted, and how it is measured."""

    name: str
    metrics: tuple[Metric, ...]  # in the order of reports
    losses: tuple[str, ...]  # step metrics that a trial is pruned by: the first that is reported, low is good

    def metric(self, name: str) -> Metric:
        """Return the metric ``name``; `KeyError` if the problem has none of that name."""
        return {metric.name: metric for metric in self.metrics}[name]

    @property
    def tunable(self) -> tuple[str, ...]:
        """Return the metrics that a study can optimize."""
        return tuple(metric.name for metric in self.metrics if metric.score is not None)

    def reported(self, *, within: bool) -> tuple[str, ...]:
        """Return the metrics of a leaderboard; ``within``: also those within parts of the samples."""
        return tuple(metric.name for metric in self.metrics if metric.reported and (within or not metric.within))

    def score(self, name: str, target: np.ndarray, outputs: np.ndarray) -> float:
        """Return the metric ``name`` of a model's outputs."""
        score = self.metric(name).score
        assert score is not None, name
        return score(target, outputs)


def of_sklearn(function: str, *, labels: bool = False, **settings: Any) -> Score:
    """Return a score of scikit-learn's, with ``labels`` of the most probable classes, of several targets its mean."""

    def score(target: np.ndarray, outputs: np.ndarray) -> float:
        from sklearn import metrics  # imported where it is used: reading params.yaml must be fast

        return float(getattr(metrics, function)(target, outputs.argmax(axis=1) if labels else outputs, **settings))

    return score


def low(name: str, meaning: str, score: Score | None = None, label: str = "") -> Metric:
    """Return a metric that is better if it is lower."""
    return Metric(name, f"{meaning}; low is good", higher_is_better=False, score=score, label=label)


MARGIN = Metric("margin", "what it is better by than {baseline}, in the task's metric")


def problem_names() -> list[str]:
    """Return the names of all problems: the modules of this package."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


@cache
def get_problem(name: str) -> Problem:
    """Return the problem ``name``, importing its module."""
    found: Problem = importlib.import_module(f"{__name__}.{name}").PROBLEM
    return found


@cache
def metrics() -> dict[str, Metric]:
    """Return every metric of every problem by its name; problems that share a name share the metric."""
    return {metric.name: metric for name in problem_names() for metric in get_problem(name).metrics}


def higher_is_better(metric: str) -> bool:
    """Return the direction of a metric; those of single classes and drugs (``recall_<class>``) are better if higher."""
    known = metrics().get(metric.removeprefix(WORST_STRESS))
    return known is None or known.higher_is_better
