"""``policy`` of ``params.yaml``: thresholds of gate, endpoint, monitor and dashboard. None of them re-runs a stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

# The checks of `evaluation.promotion.gate`, in its order.
CHECKS = (
    *("margin", "simple_models", "production", "floor", "calibration", "coverage", "latency", "size", "explanation"),
    *("validation", "audit", "identity", "data", "simulated"),
)
UNWAIVABLE = ("identity",)  # evidence of another version is no evidence


@dataclass(frozen=True)
class Gate:
    """What a candidate must satisfy, see `evaluation.promotion.gate`."""

    margin: float  # the interval of the margin over the naive baseline lies above this
    # How much worse the task's metric may be than a simple model's, by the difference itself, and than that of the
    # version in production, by the low end of the paired interval.
    non_inferiority: float
    ece: float  # expected calibration error of a classifier, at most
    # How far the share of test rows that prediction sets or intervals cover may lie below the declared one.
    coverage_shortfall: float
    latency_ms_batch_1: float  # milliseconds of a request of 1 row, at most
    latency_ms_batch_32: float  # milliseconds of a request of 32 rows, at most
    megabytes: float  # of the model's files, at most
    completeness: float  # relative difference between the sum of attributions and the prediction, at most
    random_weights_correlation: float  # of attributions with those of the same network with random weights, at most


@dataclass(frozen=True)
class Serve:
    """Limits of one request to the endpoint."""

    rows: int  # rows of a request, at most
    request_megabytes: float  # of a request's body, at most
    image_pixels: int  # of one image, at most; a larger one is refused before it is decoded
    explained_rows: int = 32  # rows of a request, at most, with an explanation


@dataclass(frozen=True)
class Monitor:
    """When logged predictions call for retraining, see `serving.monitor`."""

    minimum_rows: int  # fewer logged rows allow no statement
    significance: float  # of all drift tests of a report together
    population_stability: float  # population stability index above which a significant drift matters
    out_of_distribution_share: float  # share of rows beyond the version's threshold that counts as drift of the inputs
    performance_drop: float  # how far the metric of labeled predictions may lie below the evidence's interval


@dataclass(frozen=True)
class Dashboard:
    """Servers that the dashboard uses."""

    # `<task>` or `<task>@<alias>` to the address that `make serve` serves it at; production without an alias. The
    # variable `ONCOLINEAGE_ENDPOINTS` overrides it, see `serving.dashboard.data.endpoints`.
    endpoints: dict[str, str]
    seconds: float = 60.0  # timeout of an answer
    mlflow_ui: str = "http://127.0.0.1:5000"  # address of the MLflow UI, for links


@dataclass(frozen=True)
class Answer:
    """A person's answer to a finding of the audit, which blocks promotion until it is answered."""

    finding: str  # name of the finding
    answer: str  # why the model may be used all the same
    by: str  # who says so
    up_to: float = 1.0  # the probe's score up to which the answer counts: a worse finding needs a new one
    simulated: bool = False  # whether it counts for simulated data alone


@dataclass(frozen=True)
class Waiver:
    """A check of the gate that a person waives, with a reason."""

    check: str  # one of `CHECKS`, and none of `UNWAIVABLE`
    reason: str
    by: str
    until: str  # ISO date of the last day that it counts
    of: tuple[str, ...] = ()  # for `floor`: classes, drugs or genes that may lie below it, as named by the gate


@dataclass(frozen=True)
class TaskPolicy:
    """Policy of one task."""

    floor: float = -math.inf  # no class, drug or gene may have a lower value, in the metric `worst` of the evidence
    promote: Literal["staging", "production"] = "staging"  # how far `serving.retrain` moves a model that passes
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
        """Return the policy of a task; one that is not named has no floor, answer or waiver."""
        return self.tasks.get(name, TaskPolicy())
