"""What is known of a request while it is answered: counts, times and names, and nothing that it holds.

Metrics, the log of requests and traces are made of it. Imports nothing of the platform, as `serving.app`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Iterable
from contextvars import ContextVar
from time import perf_counter
from typing import Any

# The reasons of refusals: a closed set, so that no text of a request becomes the name of a metric.
REASONS = {
    401: "login",
    404: "route",
    405: "route",
    408: "slow_body",
    413: "size",
    415: "content_type",
    429: "rate",
    503: "busy",
    504: "timeout",
}


@dataclasses.dataclass
class RequestRecord:
    """One request; the layers that it passes fill in what they know."""

    id: str = ""
    client: str | None = None  # name of the key, or what the proxy says
    rows: int = 0
    arrived: float = 0.0  # seconds of `perf_counter`
    turn: float | None = None  # when its computation began
    status: int = 500
    answer: Any = None  # a table with the columns of the contract, or these as lists
    unreadable: bool = False  # refused before the model saw it
    judged: int = 0  # rows whose novelty is known
    flagged: int = 0  # of these, out of distribution
    widths: list[float] = dataclasses.field(default_factory=list)  # of intervals; of many targets their mean
    sizes: list[int] = dataclasses.field(default_factory=list)  # of prediction sets

    @property
    def reason(self) -> str | None:
        """Return why it was refused, one of a few words; None for an answer."""
        if self.status < 400:
            return None
        if self.status == 400:
            return "format" if self.unreadable else "input"
        return REASONS.get(self.status, "model" if self.status >= 500 else "other")

    def begin(self) -> None:
        """Note that its turn has come."""
        self.turn = perf_counter()

    def read(self) -> None:
        """Note what the metrics need of the answer, and let go of it; done once it is sent, so that nobody waits."""
        if (answer := self.answer) is None:
            return
        self.answer = None
        columns = {name: list(answer[name]) for name in ("note", *_KEPT) if name in answer}
        self.rows = len(columns["note"])  # a column of every answer
        scores, thresholds = (columns.get(name, ()) for name in _KEPT[:2])
        pairs = [pair for pair in zip(scores, thresholds, strict=True) if None not in pair]
        self.judged, self.flagged = len(pairs), sum(score > most for score, most in pairs)
        self.widths = list(_widths(columns.get("low", ()), columns.get("high", ())))
        self.sizes = [len(labels) for labels in columns.get("labels", ()) if labels is not None]


_KEPT = ("out_of_distribution", "out_of_distribution_threshold", "low", "high", "labels")


def _widths(lows: Iterable[Any], highs: Iterable[Any]) -> Iterable[float]:
    for low, high in zip(lows, highs, strict=True):
        if isinstance(low, dict) and isinstance(high, dict) and low:
            yield (sum(high.values()) - sum(low.values())) / len(low)
        elif isinstance(low, float) and isinstance(high, float) and low == low and high == high:  # NaN is withdrawn
            yield high - low


CURRENT: ContextVar[RequestRecord] = ContextVar("CURRENT")  # of the request that this thread computes


class _Identified(deque[Any]):
    """What waits for the prediction log, each with the id of its request in the place of one that is made up."""

    def append(self, asked: Any) -> None:
        super().append(dataclasses.replace(asked, request_id=CURRENT.get().id))


def watch(model: Any) -> None:
    """Let a loaded model fill in `CURRENT`, and its prediction log name requests by their ids.

    It is done from here, since versions run the code that they were logged with.
    """
    predictor = model.unwrap_python_model()
    predict = predictor.predict

    @functools.wraps(predict)
    def watched(*given: Any, **named: Any) -> Any:
        answer = predict(*given, **named)
        CURRENT.get().answer = answer
        return answer

    predictor.predict = watched
    if (log := getattr(predictor, "log", None)) is not None:
        log._waiting = _Identified()
