"""What may be served, and when to look again: thresholds that decide where a model goes, never what it is.

They stand apart from the tasks in ``params.yaml``: a stricter gate changes no model's hash and re-runs no stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

# What `evaluation.promotion.gate` checks, in its order.
CHECKS = (
    *("margin", "simple_models", "production", "floor", "calibration", "coverage", "latency", "size", "explanation"),
    *("validation", "audit", "identity", "data", "simulated"),
)
# Evidence of another version is no evidence, whoever says otherwise.
UNWAIVABLE = ("identity",)


@dataclass(frozen=True)
class Gate:
    """What a candidate must hold, see `evaluation.promotion.gate`.

    Attributes
    ----------
    margin
        The interval of the margin over the naive baseline lies above this.
    non_inferiority
        How much worse the task's metric may be than a simple model's, by the difference itself, and than that of the
        version in production, by the low end of the paired interval.
    ece
        Expected calibration error of a classifier, at most.
    coverage_shortfall
        How far the share of test rows that prediction sets or intervals cover may lie below the declared one.
    latency_ms_batch_1, latency_ms_batch_32
        Milliseconds of a request of 1 and of 32 rows, at most.
    megabytes
        Of the model's files, at most.
    completeness
        How far attributions may miss what they explain, relative.
    random_weights_correlation
        Of attributions with those of the same network with random weights, at most.
    """

    margin: float
    non_inferiority: float
    ece: float
    coverage_shortfall: float
    latency_ms_batch_1: float
    latency_ms_batch_32: float
    megabytes: float
    completeness: float
    random_weights_correlation: float


@dataclass(frozen=True)
class Serve:
    """What one request to the endpoint may ask for.

    Attributes
    ----------
    rows
        Rows a request, at most.
    request_megabytes
        Of a request's body, at most.
    image_pixels
        Of one image, at most; a larger one is refused before it is decoded.
    explained_rows
        Rows a request, at most, where the answer is to be explained: that takes a model many times as long.
    """

    rows: int
    request_megabytes: float
    image_pixels: int
    explained_rows: int = 32


@dataclass(frozen=True)
class Monitor:
    """When logged predictions call for retraining, see `serving.monitor`.

    Attributes
    ----------
    minimum_rows
        Fewer logged rows allow no statement.
    significance
        Of all drift tests of a report together.
    population_stability
        Population stability index above which a significant drift is large enough to matter.
    out_of_distribution_share
        Share of rows beyond the version's threshold, above which inputs are other inputs.
    performance_drop
        By how much the task's metric may lie below the evidence's interval when labels arrive.
    """

    minimum_rows: int
    significance: float
    population_stability: float
    out_of_distribution_share: float
    performance_drop: float


@dataclass(frozen=True)
class Dashboard:
    """Whom the dashboard asks.

    Attributes
    ----------
    endpoints
        ``<task>`` or ``<task>@<alias>`` to the address that ``make serve`` serves it at; production without an alias.
        ``ONCOLINEAGE_ENDPOINTS`` goes before it, see `serving.dashboard.data.endpoints`.
    seconds
        That an answer may take.
    mlflow_ui
        Address of the MLflow UI, for links.
    """

    endpoints: dict[str, str]
    seconds: float = 60.0
    mlflow_ui: str = "http://127.0.0.1:5000"


@dataclass(frozen=True)
class Answer:
    """What a person says to a finding of the audit; without it nobody promotes what the finding may have flattered.

    Attributes
    ----------
    finding
        Name of the finding.
    answer
        Why the model may be used all the same.
    by
        Who says so.
    up_to
        A probe's score up to which the answer holds: a worse finding has to be answered anew.
    simulated
        Whether it speaks of simulated data and holds for no other: who brings real data answers for it.
    """

    finding: str
    answer: str
    by: str
    up_to: float = 1.0
    simulated: bool = False


@dataclass(frozen=True)
class Waiver:
    """A check of the gate that a person lets pass, by name and with a reason.

    Attributes
    ----------
    check
        One of `CHECKS`, and none of `UNWAIVABLE`.
    until
        ISO date of the last day that it counts.
    of
        For ``floor``: the classes, drugs or genes that may lie below it, as the gate's verdict names them.
    """

    check: str
    reason: str
    by: str
    until: str
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskPolicy:
    """What holds for one task.

    Attributes
    ----------
    floor
        No class, drug or gene may have a value below this, in the metric that the evidence's ``worst`` names.
    promote
        How far `serving.retrain` moves a model that passes.
    answers, waivers
        See there.
    """

    floor: float = -math.inf
    promote: Literal["staging", "production"] = "staging"
    answers: tuple[Answer, ...] = ()
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True)
class Policy:
    """All of ``policy`` in ``params.yaml``."""

    gate: Gate
    serve: Serve
    monitor: Monitor
    tasks: dict[str, TaskPolicy]
    dashboard: Dashboard = Dashboard({})

    def task(self, name: str) -> TaskPolicy:
        """Return what holds for the task ``name``; a task that is not named has no floor, answer or waiver."""
        return self.tasks.get(name, TaskPolicy())
