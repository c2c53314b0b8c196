"""Predictions kept for monitoring: what was asked in summaries and hashes, never as it was sent.

``ONCOLINEAGE_PREDICTION_LOG=DIR`` (see `pipelines.environment`) switches it on. A thread of its own writes Parquet
files, and whatever happens to them (a full disk, a folder that may not be written) costs lines of the log, not answers.
"""

from __future__ import annotations

import atexit
import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.environment import LOG_SALT, PREDICTION_LOG

INPUT = "input_"
_ROWS = 20_000  # that wait to be written, at most, or one request's more
_SECONDS = 5.0
_JSON_OF_MANY = ("prediction", "low", "high")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """A request and its answer, as they wait to be written.

    Attributes
    ----------
    identities, names
        Hashes of each row's features and of its ``sample_id``, None where it has none.
    answer, described
        Rows of the answer and of `Contract.describe`.
    """

    moment: datetime
    request_id: str
    identities: list[str]
    names: list[str | None]
    answer: pd.DataFrame
    described: pd.DataFrame


def prediction_columns(answer: pd.DataFrame) -> pd.DataFrame:
    """Return what is kept of an answer: label and probability, or number and interval; of many numbers JSON text."""
    kept = answer[[name for name in ("label", "probability", *_JSON_OF_MANY) if name in answer]].copy()
    for name in _JSON_OF_MANY:
        # An interval that nothing is promised of is null.
        if name in kept and any(isinstance(each, dict) for each in kept[name]):
            kept[name] = pd.Series([json.dumps(row) for row in kept[name]], index=kept.index, dtype=object)
    return kept


class PredictionLog:
    """Writes answers of one task to a folder.

    Parameters
    ----------
    folder
        Takes ``<task>/<date>/<uuid>.parquet``.
    task
        Its name.
    salt
        Key of the hashes. Without it nobody can find out by trying which patient's id a hash is of; with the same one
        the laboratory can join its labels.
    seconds
        How long a row waits at most.
    """

    def __init__(self, folder: Path, task: str, salt: bytes, seconds: float = _SECONDS) -> None:
        self.folder = folder.absolute() / task
        self.salt = salt
        self.seconds = seconds
        self.dropped = 0
        self._lock = threading.Lock()
        self._warned = False
        self._waiting: deque[Asked] = deque()
        self._rows = 0
        self._due, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="prediction log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @classmethod
    def from_environment(cls, task: str) -> PredictionLog | None:
        """Return the log that the environment asks for, or None."""
        folder = os.environ.get(PREDICTION_LOG, "").strip()
        if not folder:
            return None
        salt = os.environ.get(LOG_SALT, "").encode()
        if not salt:
            _logger.warning(
                "%s is not set: hashes of this process cannot be joined with labels or other logs", LOG_SALT
            )
            salt = secrets.token_bytes(32)
        return cls(Path(folder), task, salt)

    def write(
        self, identities: Sequence[bytes], names: Sequence[Any] | None, answer: pd.DataFrame, described: pd.DataFrame
    ) -> None:
        """Hand a request over; at once, and without an error whatever becomes of it.

        Parameters
        ----------
        identities
            Bytes of each row, see `Contract.identities`; hashed here, so that no patient's features wait in memory.
        names
            ``sample_id`` of each row, or None; hashed too.
        answer, described
            Rows of the answer and of `Contract.describe`.
        """
        if self._rows >= _ROWS:
            self._lost(len(answer), "answers are faster than they can be written")
            return
        hashed = [self._hash(each) for each in identities]
        called = [
            self._hash(name.encode()) if isinstance(name, str) else None for name in names or [None] * len(answer)
        ]
        self._waiting.append(Asked(datetime.now(UTC), uuid.uuid4().hex, hashed, called, answer, described))
        self._count(len(answer))
        if self._rows > _ROWS // 4:  # wakes nobody before: a thread that runs after every request costs it a twentieth
            self._due.set()

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._closing.set()
        self._due.set()
        self._thread.join(timeout=30)
        atexit.unregister(self.close)

    def _work(self) -> None:
        while not self._closing.is_set():
            self._due.wait(self.seconds)
            self._due.clear()
            self._flush()
        self._flush()

    def _flush(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not taken:
            return
        rows = sum(len(asked.answer) for asked in taken)
        try:
            self._write(taken)
        except Exception as error:  # whatever it is, answers go on
            self._lost(rows, f"{type(error).__name__}: {error}")
        finally:
            self._count(-rows)

    def _count(self, rows: int) -> None:
        with self._lock:
            self._rows += rows

    def _write(self, waiting: Sequence[Asked]) -> None:
        table = self._table(waiting)
        dates = table["time"].dt.date.to_numpy()
        for date in np.unique(dates):
            part = table[dates == date]
            folder = self.folder / str(date)
            folder.mkdir(parents=True, exist_ok=True)
            name = uuid.uuid4().hex
            temporary = folder / f".{name}.tmp"
            try:
                part.to_parquet(temporary, index=False)
                temporary.replace(folder / f"{name}.parquet")
            finally:
                temporary.unlink(missing_ok=True)

    def _table(self, waiting: Sequence[Asked]) -> pd.DataFrame:
        """Return the rows of all that waits; pandas is asked once for all of them, not once a request."""
        answer = pd.concat([asked.answer for asked in waiting], ignore_index=True)
        described = pd.concat([asked.described for asked in waiting], ignore_index=True)
        counts = [len(asked.answer) for asked in waiting]
        moments = pd.to_datetime([asked.moment for asked in waiting], utc=True)
        about = pd.DataFrame(
            {
                "time": moments.repeat(counts),
                "request_id": np.repeat(np.array([asked.request_id for asked in waiting], dtype=object), counts),
                "row": [row for count in counts for row in range(count)],
                "row_sha256": [each for asked in waiting for each in asked.identities],
                "sample_sha256": pd.Series([each for asked in waiting for each in asked.names], dtype="string"),
                "model_version": answer["model_version"].astype("string"),
            }
        )
        novelty = answer[["out_of_distribution", "out_of_distribution_threshold"]]
        return pd.concat([about, prediction_columns(answer), novelty, described.add_prefix(INPUT)], axis=1)

    def _hash(self, content: bytes) -> str:
        return hmac.digest(self.salt, content, hashlib.sha256).hex()

    def _lost(self, rows: int, why: str) -> None:
        with self._lock:
            self.dropped += rows
            warned, self._warned = self._warned, True
        if not warned:
            _logger.warning("predictions are answered and not logged below %s: %s", self.folder, why)
