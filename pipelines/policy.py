"""What may be served, and when to look again: thresholds that decide where a model goes, never what it is.

They stand apart from the tasks in ``params.yaml``: a stricter gate changes no model's hash and re-runs no stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Gate:
    """What a candidate must hold, see `evaluation.gate`.

    Attributes
    ----------
    margin
        The interval of the margin over the naive baseline lies above this.
    non_inferiority
        How much worse than a simple model or the version in production the task's metric may be: the paired interval
        lies above minus this.
    simple_models
        Architectures that a candidate is compared with where they are trained.
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
    simple_models: tuple[str, ...]
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
    """

    rows: int
    request_megabytes: float
    image_pixels: int


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
    """

    finding: str
    answer: str
    by: str
    up_to: float = 1.0


@dataclass(frozen=True)
class Waiver:
    """A check of the gate that a person lets pass, by name and with a reason; ``until`` is an ISO date."""

    check: str
    reason: str
    by: str
    until: str


@dataclass(frozen=True)
class TaskPolicy:
    """What holds for one task.

    Attributes
    ----------
    floor
        No class's recall, and no gene's or drug's share of explained variance, may have an interval below this.
    promote
        How far `serving.retrain` moves a model that passes.
    answers, waivers
        See there.
    """

    floor: float = 0.0
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

    def task(self, name: str) -> TaskPolicy:
        """Return what holds for the task ``name``; a task that is not named has no floor, answer or waiver."""
        return self.tasks.get(name, TaskPolicy())
