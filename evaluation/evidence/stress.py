"""Stress tests: some test rows once more, with what should not matter changed, see `Task.stressed`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.comparison.paired import paired_difference
from evaluation.evidence.novelty import detection
from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.metrics import Interval, as_metrics
from evaluation.problems import Measures
from pipelines.problems import get_problem, higher_is_better

HOME = "home"  # the rows as they are
Draw = Callable[[str, Any, dict[str, Any]], Figure]  # of a title, samples, and the samples under each kind of stress


def evidence(run: Evaluation, measures: Measures, count: int, draw: Draw) -> Evidence:
    """Measure about ``count`` test rows, as many of each class, under each kind of stress, and at home.

    The section ``stress`` has the kind with the largest drop of `Measures.margin_metric` first. A drop is the paired
    difference from the same rows at home.
    """
    every = np.zeros(len(run.predictions), dtype=np.int64)
    rows = measures.explained(run).rows(count, run.seed, every)
    if run.predictions["group"].iloc[rows].nunique() < 2:  # which have no interval
        rows = np.arange(len(run.predictions))
    samples, at_home = run.test.take(rows), run.predictions.iloc[rows].reset_index(drop=True)
    stressed = run.task.stressed(samples, run.test, run.seed)
    if not stressed:
        return Evidence()
    metric = measures.margin_metric
    home = _measured(run, measures, at_home)
    kinds: list[dict[str, Any]] = []
    unlike: dict[str, np.ndarray] = {}
    for kind, changed in stressed.items():
        outputs, unlike[kind] = run.model.outputs_and_novelty(changed)
        asked: Any = _Asked(run.contract, outputs)
        _, answered = measures.answered(asked, changed, at_home)
        drop = paired_difference(run.task, at_home, answered, metric, **run.bootstrap)
        lost = {"value": drop.difference, "low": drop.low, "high": drop.high, "p": drop.p}
        kinds.append({"kind": kind, "drop": lost, "metrics": _measured(run, measures, answered)})
    kinds.sort(key=lambda each: -np.nan_to_num(each["drop"]["value"], nan=np.inf))
    worst = {name: _worst(name, kinds) for name in home if name in _registered(run)}
    section = {
        "samples": len(rows),
        "groups": int(at_home["group"].nunique()),
        "metric": metric,
        "home": _as_dicts(home),
        "kinds": [{**each, "metrics": _as_dicts(each["metrics"])} for each in kinds],
        "worst": {name: {"kind": kind, **found.as_dict()} for name, (kind, found) in worst.items()},
    }
    logged = {
        f"stress/{each['kind']}_{name}": found.value
        for each in kinds
        for name, found in each["metrics"].items()
        if name in worst and np.isfinite(found.value)
    }
    ends = {f"worst_stress_{name}": found.as_dict() for name, (_, found) in worst.items()}
    for name, found in {**ends, f"worst_stress_{metric}_drop": kinds[0]["drop"]}.items():
        logged |= as_metrics(f"test/{name}", found)
    found = Evidence(
        sections={"stress": section},
        tables={"stress": _table(home, kinds, metric)},
        figures={"stress": draw(run.title, samples, stressed)},
        logged=logged,
    )
    return found | detection(run, samples, unlike, at_home["group"].to_numpy())


@dataclass(frozen=True)
class _Asked:
    """What `Measures.answered` needs of a model that has answered already."""

    contract: Any
    answers: np.ndarray

    def outputs(self, samples: Any) -> np.ndarray:
        return self.answers


def _registered(run: Evaluation) -> set[str]:
    return {metric.name for metric in get_problem(run.task.problem).metrics}


def _measured(run: Evaluation, measures: Measures, predictions: pd.DataFrame) -> dict[str, Interval]:
    """Return the problem's metrics and the recall of each class; no margin, which the baseline would share."""
    found = measures.intervals(predictions, run.task, run.seed)
    known = _registered(run) - {"margin"}
    return {name: each for name, each in found.items() if name in known or name.startswith("recall_")}


def _worst(name: str, kinds: list[dict[str, Any]]) -> tuple[str, Interval]:
    sign = 1 if higher_is_better(name) else -1
    worst = min(kinds, key=lambda each: np.nan_to_num(sign * each["metrics"][name].value, nan=-np.inf))
    return worst["kind"], worst["metrics"][name]


def _as_dicts(found: dict[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: each.as_dict() for name, each in found.items()}


def _table(home: dict[str, Interval], kinds: list[dict[str, Any]], metric: str) -> pd.DataFrame:
    """Return a row for each kind and metric, and for the drop of ``metric``."""
    rows = [{"kind": HOME, "metric": name, **found.as_dict()} for name, found in home.items()]
    for each in kinds:
        drop = {end: each["drop"][end] for end in ("value", "low", "high")}
        rows.append({"kind": each["kind"], "metric": f"{metric}_drop", **drop})
        rows += [{"kind": each["kind"], "metric": name, **of.as_dict()} for name, of in each["metrics"].items()]
    return pd.DataFrame(rows)
