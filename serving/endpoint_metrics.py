"""Metrics of an endpoint for Prometheus, served at ``/metrics``. Imports nothing of the platform, as `serving.app`.

All labels come from closed sets: a task, a version, a status, a word of `serving.request_record`. Several workers
share a folder that `serving.following` makes (``PROMETHEUS_MULTIPROC_DIR``), and each answers for all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import perf_counter
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.request_record import RequestRecord
from serving.serving_state import alias_state

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
_PREFIX = "oncolineage_"
_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_WIDTHS = (0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 30, 100, 1000)  # in the target's unit, which the task decides
_SIZES = (0, 1, 2, 3, 4, 5, 8, 16, 32)


class Metrics:
    """The metrics of one served version."""

    def __init__(self, task: str, version: str) -> None:
        self._registry, self._task = CollectorRegistry(), task
        self._folder = os.environ.get(FOLDER)
        if not self._folder:
            ProcessCollector(registry=self._registry)

        def made(kind: Any, name: str, text: str, **more: Any) -> Any:
            return kind(_PREFIX + name, text, registry=self._registry, **more)

        info = made(Gauge, "model_info", "the version that is served", labelnames=("task", "version"), **_mode("max"))
        info.labels(task, version).set(1)
        self.in_progress = made(Gauge, "requests_in_progress", "requests that wait or are computed", **_mode("livesum"))
        self._requests = made(Counter, "requests", "requests to the model, by status", labelnames=("status",))
        self._refusals = made(Counter, "refusals", "requests without an answer, by reason", labelnames=("reason",))
        beside = "requests to the version beside, by outcome"
        self._beside = made(Counter, "requests_beside", beside, labelnames=("outcome",))
        self._seconds = made(Histogram, "request_seconds", "from arrival to answer", buckets=_SECONDS)
        self._queue = made(Histogram, "queue_seconds", "from arrival until its turn came", buckets=_SECONDS)
        self._rows = made(Histogram, "request_rows", "rows of an answered request", buckets=_ROWS)
        self._judged = made(Counter, "judged_rows", "answered rows whose novelty is known")
        self._flagged = made(Counter, "out_of_distribution_rows", "of these, rows unlike the training data")
        self._widths = made(Histogram, "interval_width", "of a row's interval, in the target's unit", buckets=_WIDTHS)
        self._registry.register(_Alias(task))
        self._sizes = made(Histogram, "prediction_set_size", "labels in a row's prediction set", buckets=_SIZES)

    def count_beside(self, outcome: str) -> None:
        """Count a request to the version that is tried, see `serving.beside`."""
        self._beside.labels(outcome).inc()

    def count(self, record: RequestRecord) -> None:
        """Count a request to the model that was answered or refused."""
        self._requests.labels(str(record.status)).inc()
        self._seconds.observe(perf_counter() - record.arrived)
        if record.turn is not None:
            self._queue.observe(record.turn - record.arrived)
        if record.reason is not None:
            self._refusals.labels(record.reason).inc()
            return
        self._rows.observe(record.rows)
        self._judged.inc(record.judged)
        self._flagged.inc(record.flagged)
        for width in record.widths:
            self._widths.observe(width)
        for size in record.sizes:
            self._sizes.observe(size)

    def text(self) -> bytes:
        """Return the page that Prometheus reads."""
        registry = self._registry
        if self._folder:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, self._folder)
            registry.register(_Alias(self._task))
        return generate_latest(registry)


class _Alias(Collector):
    """What the process that follows the alias knows: the version that should be served, and what failed."""

    def __init__(self, task: str) -> None:
        self._task = task

    def collect(self) -> Iterator[Metric]:
        if (found := alias_state()) is not None:
            named = GaugeMetricFamily(_PREFIX + "alias_version", "the version that the alias names", labels=["task"])
            named.add_metric([self._task], found[0])
            failed = CounterMetricFamily(
                _PREFIX + "takeover_failures", "times that a version could not take over", labels=["task"]
            )
            failed.add_metric([self._task], found[1])
            yield named
            yield failed


def _mode(name: str) -> dict[str, str]:
    return {"multiprocess_mode": name}
