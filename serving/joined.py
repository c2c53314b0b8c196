"""One forward pass for the samples of several requests. Imports nothing of the platform, as `serving.app`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore
from typing import Any

ROWS = 8  # of a request that is joined, at most; a larger one is a pass by itself
PASS = 16  # rows of a pass, at most: more are not faster on a CPU, and take more memory
WAITING = 64  # requests that have given up their turn, at most


class Joined:
    """An estimator that computes the samples of the requests that wait at a time together, on one thread.

    While a pass runs, samples gather for the next one, so that a request on its own waits for nobody. A request gives
    up its turn (a semaphore of those that read and write requests) until its pass has run.
    """

    def __init__(self, estimator: Any, join: Callable[[Sequence[Any]], Any], turns: Semaphore) -> None:
        self._estimator, self._join, self._turns = estimator, join, turns
        self._waiting: deque[tuple[Any, Future[Any]]] = deque()
        self._thread = ThreadPoolExecutor(1, "forward pass")

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the estimator; a method runs between passes: an explanation hooks into the network."""
        found = getattr(self._estimator, name)
        return (lambda *given: self._thread.submit(found, *given).result()) if callable(found) else found

    def outputs_embedded(self, samples: Any) -> tuple[Any, Any]:
        """Return the estimator's outputs of ``samples`` and their embedding, if it has any, a row each."""
        if len(samples) > ROWS:
            return self._thread.submit(self._estimator.outputs_embedded, samples).result()
        own: Future[Any] = Future()
        self._turns.release()
        self._waiting.append((samples, own))
        try:
            self._thread.submit(self._pass)
            return own.result()
        finally:
            self._turns.acquire()

    def _pass(self) -> None:
        """Compute the samples that wait, if the pass before has left any."""
        taken: list[tuple[Any, Future[Any]]] = []
        rows = [0]
        while self._waiting and rows[-1] + len(self._waiting[0][0]) <= PASS:
            taken.append(self._waiting.popleft())
            rows.append(rows[-1] + len(taken[-1][0]))
        if not taken:
            return
        try:
            both = self._estimator.outputs_embedded(self._join([samples for samples, _ in taken]))
            for (_, own), first, last in zip(taken, rows[:-1], rows[1:], strict=True):
                own.set_result(tuple(None if each is None else each[first:last] for each in both))
        except Exception:  # one at a time, so that a request fails for its own samples alone
            for samples, own in taken:
                try:
                    own.set_result(self._estimator.outputs_embedded(samples))
                except Exception as error:
                    own.set_exception(error)


def join_passes(model: Any, turns: Semaphore) -> None:
    """Let the estimator of a loaded model join requests, where its contract says how their samples are joined."""
    predictor = model.unwrap_python_model()
    if join := getattr(getattr(predictor, "contract", None), "join", None):
        predictor.estimator = Joined(predictor.estimator, join, turns)
