"""Studies of two objectives: the metric, and a cost that is minimized beside it (``tune.cost``).

The front are the trials that no other beats in one of the two and matches in the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlflow
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from pipelines.params import Tune
from training.estimator import Estimator
from training.model.cost import milliseconds, saved_megabytes
from training.studies.trial_queue import RUN_ID

_CALLS = 15  # of which a trial's latency is the median
_BLUE, _RED, _GRAY = "#2b6ca3", "#b5403a", "#6b7280"
_DECADE = 10.0  # costs that differ by more are drawn on a logarithmic axis


@dataclass(frozen=True)
class Cost:
    """A cost of a fitted model, measured on held-out samples."""

    metric: str  # as which runs log it
    label: str
    digits: int  # significant ones: what differs by less costs the same, and the better trial of it is chosen
    measure: Callable[[Estimator, Any], float]

    def mean(self, measured: Sequence[float]) -> float:
        """Return the rounded mean of what was measured of the models of a trial."""
        return float(f"{sum(measured) / len(measured):.{self.digits}g}")


COSTS = {
    "latency": Cost("cost/latency_ms_batch_1", "ms to answer one row", 2, partial(milliseconds, calls=_CALLS)),
    "size": Cost("cost/model_megabytes", "megabytes of the model", 3, lambda estimator, _: saved_megabytes(estimator)),
}


def best_value(study: optuna.Study) -> float:
    """Return the best value of the metric among the trials that are complete, whatever they cost."""
    values = [trial.values[0] for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
    return max(values) if _higher(study) else min(values)


def chosen_trial(study: optuna.Study, tolerance: float) -> FrozenTrial:
    """Return the trial whose hyperparameters are taken: the best one, or of two objectives that of `choose`."""
    if len(study.directions) == 1:
        return study.best_trial
    front = study.best_trials
    return front[choose([(trial.values[0], trial.values[1]) for trial in front], tolerance, higher=_higher(study))]


def choose(points: Sequence[tuple[float, float]], tolerance: float, *, higher: bool) -> int:
    """Return the position of the cheapest of the points that are worse than the best by at most ``tolerance``.

    ``points`` are values of the metric and costs, ``tolerance`` a share of the best value; ``higher`` values are
    better. Of points that cost the same it is the best.
    """
    losses = [-value if higher else value for value, _ in points]
    most = min(losses) + tolerance * abs(min(losses))
    good = [place for place, loss in enumerate(losses) if loss <= most]
    return min(good, key=lambda place: (points[place][1], losses[place]))


def _higher(study: optuna.Study) -> bool:
    return study.directions[0] == optuna.study.StudyDirection.MAXIMIZE


def report(study: optuna.Study, chosen: FrozenTrial, tuning: Tune) -> dict[str, Any]:
    """Return what a study of two objectives found: its complete trials (``points``), the cheapest first.

    The place of a trial is ``chosen``, ``front``, or ``beaten`` by another in both objectives.
    """
    front, cost = {trial.number for trial in study.best_trials}, COSTS[tuning.cost]
    points = [
        {
            "trial": trial.number,
            "value": trial.values[0],
            "cost": trial.values[1],
            "place": "chosen" if trial.number == chosen.number else "front" if trial.number in front else "beaten",
            "run_id": trial.user_attrs[RUN_ID],
            "hyperparameters": trial.user_attrs["hyperparameters"],
        }
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ]
    points.sort(key=lambda point: (point["cost"], point["trial"]))
    return {"cost": cost.metric, "cost_label": cost.label, "tolerance": tuning.tolerance, "points": points}


def log_front(found: Mapping[str, Any], metric: str) -> None:
    """Log the front of a `report` to the active run as a table, and all its trials as a figure."""
    from matplotlib.figure import Figure  # studies of one objective need not wait for it
    from matplotlib.ticker import LogLocator, NullFormatter

    points, names = found["points"], {"value": metric, "cost": found["cost"]}
    front = [point for point in points if point["place"] != "beaten"]
    table = [{**point, **point["hyperparameters"]} for point in front]
    frame = pd.DataFrame(table).drop(columns="hyperparameters").rename(columns=names)
    mlflow.log_text(frame.to_csv(index=False), "tables/front.csv")
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*_across(front), ":", color=_GRAY, linewidth=0.8)
    for place, color, size in (("beaten", _GRAY, 16), ("front", _BLUE, 40), ("chosen", _RED, 70)):
        shown = [point for point in points if point["place"] == place]
        axes.scatter(*_across(shown), s=size, color=color, label=f"{place} ({len(shown)})", zorder=3)
    for point in front:
        where = point["cost"], point["value"]
        axes.annotate(f"{point['trial']}", where, (5, 5), textcoords="offset points", fontsize=8)
    costs, _ = _across(points)
    if min(costs) > 0 and max(costs) > _DECADE * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=found["cost_label"], ylabel=metric)
    axes.set_title("trials by metric and cost", loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    mlflow.log_figure(figure, "figures/front.png")


def _across(points: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    return [point["cost"] for point in points], [point["value"] for point in points]
