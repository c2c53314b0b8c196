"""Metrics of every step of a fit, sent to MLflow by a thread; neither an outage nor a kill loses any."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

from pipelines.retry import retry
from pipelines.tracking import SERVER, is_outage, refusal

_FLUSH_SECONDS = 2.0
_BATCH = 1000  # metrics: the most that MLflow takes at once


class StepMetrics:
    """A buffer of step metrics of one run, sent in batches by its own thread.

    Each is written to the file ``spool`` before it is sent, and sent again by a fit that resumes: MLflow keeps it once.
    A step that was logged before is left out. The caller deletes ``spool`` after the run.
    """

    def __init__(self, run_id: str, spool: Path | None = None) -> None:
        self._run_id, self._spool = run_id, spool
        self._client = MlflowClient()
        self._waiting: list[Metric] = _read(spool) if spool is not None else []
        self._known = {(metric.key, metric.step) for metric in self._waiting}
        self._guard = threading.Lock()
        self._ending = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._send, name="step metrics", daemon=True)
        self._thread.start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue the metrics of ``step``; raises `Unreachable` after an outage of `pipelines.retry.outage_seconds`."""
        if self._fault is not None:
            raise self._fault
        now = int(time.time() * 1000)
        with self._guard:
            new = [Metric(key, float(x), now, step) for key, x in metrics.items() if (key, step) not in self._known]
            if self._spool is not None and new:
                self._spool.parent.mkdir(parents=True, exist_ok=True)
                lines = (json.dumps([metric.key, metric.value, metric.timestamp, metric.step]) for metric in new)
                with self._spool.open("a", encoding="utf-8") as file:
                    file.write("".join(f"{line}\n" for line in lines))
            self._known.update((metric.key, metric.step) for metric in new)
            self._waiting += new

    def close(self) -> None:
        """Send what is left, retrying in an outage; after an `Unreachable` the spool keeps what was not sent."""
        self._ending.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault

    def abandon(self) -> None:
        """End the thread after one more attempt; the spool is kept for a resumed run."""
        self._fault = self._fault or InterruptedError("the fit has ended")
        self._ending.set()
        self._thread.join()

    def _send(self) -> None:
        while True:
            ended = self._ending.wait(_FLUSH_SECONDS)
            with self._guard:
                batch = self._waiting[:_BATCH]
            try:
                if batch:
                    retry(
                        lambda batch=batch: self._client.log_batch(self._run_id, metrics=batch),  # type: ignore[misc]
                        lambda error: self._fault is None and is_outage(error),
                        SERVER,
                        sleep=self._pause,
                    )
            except Exception as error:
                self._fault = self._fault or refusal(error) or error
                return
            with self._guard:
                del self._waiting[: len(batch)]
                left = bool(self._waiting)
            if ended and (not left or self._fault is not None):
                return

    def _pause(self, seconds: float) -> None:
        """Wait, at most until the fit is abandoned."""
        if self._ending.wait(seconds) and self._fault is None:
            time.sleep(seconds)


@contextlib.contextmanager
def sending(run_id: str, spool: Path | None = None) -> Iterator[StepMetrics]:
    """Yield a buffer that is sent at the end of the block, or abandoned if the block raises."""
    steps = StepMetrics(run_id, spool)
    try:
        yield steps
    except BaseException:
        steps.abandon()
        raise
    steps.close()


def _read(spool: Path) -> list[Metric]:
    """Return the metrics in ``spool``; a last line that a kill cut short is removed from the file."""
    if not spool.is_file():
        return []
    text = spool.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        spool.write_text(whole, encoding="utf-8")
    return [Metric(key, value, timestamp, step) for key, value, timestamp, step in map(json.loads, whole.splitlines())]
