"""``policy`` of ``params.yaml``: thresholds of gate, endpoint, monitor and dashboard. None of them re-runs a stage."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from pipelines.typed_yaml import Checks

# The checks of `evaluation.promotion.gate`, in its order.
CHECKS = (
    *("margin", "simple_models", "production", "floor", "worst_stratum", "calibration", "coverage", "latency", "size"),
    *("explanation", "stress", "validation", "audit", "identity", "data", "new_test_split", "simulated", "pretraining"),
)
UNWAIVABLE = ("identity",)  # evidence of another version is no evidence
NAMED = ("floor", "worst_stratum")  # their waivers name what may fail


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
    stress_drop: float  # how far the accuracy under the worst stress test may lie below that of the same rows at home
    looks: int = 500  # at the same test rows, by `make train` and retraining, at most
    stratum_drop: float = 0.15  # how far the task's metric of a stratum may lie below that of all test rows


@dataclass(frozen=True)
class Serve:
    """Limits of one request to the endpoint."""

    rows: int  # rows of a request, at most
    request_megabytes: float  # of a request's body, at most
    image_pixels: int  # of one image, at most; a larger one is refused before it is decoded
    explained_rows: int = 32  # rows of a request, at most, with an explanation
    follow_seconds: float = 15.0  # between two looks at the alias; 0: a server stays with its first version


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
    # For `floor` classes, drugs or genes that may lie below it, for `worst_stratum` strata (`tissue=lung`); as named by
    # the gate.
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskPolicy:
    """Policy of one task."""

    floor: float = -math.inf  # no class, drug or gene may have a lower value, in the metric `worst` of the evidence
    promote: Literal["staging", "production"] = "staging"  # how far `serving.retrain` moves a model that passes
    answers: tuple[Answer, ...] = ()
    waivers: tuple[Waiver, ...] = ()

    def check(self, checks: Checks) -> None:
        """Refuse answers and waivers that lack a field or can never count."""
        require = checks.require
        require(self.floor < math.inf, "floor", f"is {self.floor}; it must be a number")
        answered = [(answer.finding, answer.simulated) for answer in self.answers]
        for place, answer in enumerate(self.answers):
            here = f"answers[{place}]"
            for word in ("finding", "answer", "by"):
                require(bool(getattr(answer, word).strip()), f"{here}.{word}", "is empty")
            require(not math.isnan(answer.up_to), f"{here}.up_to", "is not a number")
            again = answered[place] in answered[:place]
            require(not again, f"{here}.finding", f"is {answer.finding!r}, which is answered twice")
        names = [name for name in CHECKS if name not in UNWAIVABLE]
        for place, waiver in enumerate(self.waivers):
            here = f"waivers[{place}]"
            for word in ("reason", "by"):
                require(bool(getattr(waiver, word).strip()), f"{here}.{word}", "is empty")
            given = f"is {waiver.check!r}"
            require(waiver.check in names, f"{here}.check", f"{given}; it must be one of {', '.join(names)}")
            named = (waiver.check in NAMED) == bool(waiver.of)
            message = f"{given}; a floor needs `of`, which names what may lie below it, and so does worst_stratum; "
            message += "other checks have none"
            require(named, f"{here}.check", message)
            try:
                date.fromisoformat(waiver.until)
            except ValueError:
                require(False, f"{here}.until", f"is {waiver.until!r}; it must be a date such as 2027-01-31")


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

    def check(self, checks: Checks, tasks: Collection[str]) -> None:
        """Refuse thresholds out of range, and policies of no task."""
        checks.require(math.isfinite(self.gate.margin), "gate.margin", f"is {self.gate.margin}; it must be a number")
        checks.at_least(0, "gate.non_inferiority", "gate.stratum_drop", "monitor.performance_drop")
        checks.share("gate.ece", "gate.coverage_shortfall", "gate.completeness", "gate.stress_drop", ends=True)
        checks.share("gate.random_weights_correlation", "monitor.out_of_distribution_share", ends=True)
        checks.share("monitor.significance")
        checks.above(0, "gate.latency_ms_batch_1", "gate.latency_ms_batch_32", "gate.megabytes", "dashboard.seconds")
        checks.above(0, "serve.rows", "serve.request_megabytes", "serve.image_pixels", "serve.explained_rows")
        checks.above(0, "monitor.minimum_rows", "monitor.population_stability")
        for name, url in self.dashboard.endpoints.items():
            whole = re.fullmatch(r"https?://[^\s/]+(/\S*)?", url) is not None
            checks.require(whole, f"dashboard.endpoints.{name}", f"is {url!r}; write it as http://127.0.0.1:5001")
        for name, task in self.tasks.items():
            checks.require(name in tasks, f"tasks.{name}", f"is of no task; the tasks are {', '.join(sorted(tasks))}")
            task.check(replace(checks, where=f"policy.tasks.{name}"))
