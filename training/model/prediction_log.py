"""The prediction log for monitoring: summaries and hashes of requests, and their answers, as Parquet files."""

import atexit
import functools
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
from typing import Any, Self

import numpy as np
import pandas as pd

from pipelines.environment import LOG_SALT, PREDICTION_LOG

INPUT = "input_"
Columns = dict[str, Any]  # as in `training.contract`
_ROWS = 20_000  # that wait to be written, at most, or one request's more
_SECONDS = 5.0
_JSON_OF_MANY = ("prediction", "low", "high")
_NOVELTY = ["out_of_distribution", "out_of_distribution_threshold"]
_KEPT = ("label", "probability", *_JSON_OF_MANY, *_NOVELTY, "model_version")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """A request that waits to be written: hashes of features and of ``sample_id``, answer, `Contract.describe`."""

    moment: datetime
    request_id: str
    identities: list[str]
    names: list[str | None]
    answer: Columns
    described: Columns


def prediction_columns(answer: pd.DataFrame) -> pd.DataFrame:
    """Return the logged columns of an answer: label and probability, or number and interval, as JSON text of many."""
    kept = answer[[name for name in ("label", "probability", *_JSON_OF_MANY) if name in answer]].copy()
    for name in _JSON_OF_MANY:
        if name in kept and any(isinstance(each, dict) for each in kept[name]):  # withdrawn intervals are null
            kept[name] = pd.Series([json.dumps(row) for row in kept[name]], index=kept.index, dtype=object)
    return kept


def log_table(waiting: Sequence[Asked]) -> pd.DataFrame:
    """Return the logged rows of several requests, made at once: pandas is slow on small tables."""
    answer, described = (
        pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name in kept})
        for parts, kept in (
            ([asked.answer for asked in waiting], _KEPT),
            ([asked.described for asked in waiting], waiting[0].described),
        )
    )
    counts = [len(asked.identities) for asked in waiting]
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
    return pd.concat([about, prediction_columns(answer), answer[_NOVELTY], described.add_prefix(INPUT)], axis=1)


def salt_from_environment() -> bytes:
    """Return the key of the hashes; one that nobody knows, with a warning, where none is set."""
    salt = os.environ.get(LOG_SALT, "").encode()
    if not salt:
        _logger.warning("%s is not set: hashes of this process match no labels and no other logs", LOG_SALT)
    return salt or secrets.token_bytes(32)


def salted_sha256(salt: bytes, content: bytes) -> str:
    """Return the hash of an input or id in the log."""
    keyed = _keyed(salt).copy()
    keyed.update(content)
    return keyed.hexdigest()


@functools.lru_cache(maxsize=1)  # a copy takes half as long as mixing in the key again
def _keyed(salt: bytes) -> hmac.HMAC:
    return hmac.new(salt, digestmod=hashlib.sha256)


class PredictionLog:
    """Writes answers to ``folder/<task>/<date>/<uuid>.parquet`` in a thread; a full disk costs rows, not answers."""

    def __init__(self, folder: Path, task: str, salt: bytes, seconds: float = _SECONDS) -> None:
        self.folder = folder.absolute() / task
        self.salt = salt  # key of the hashes: without it no patient's id can be found by trying
        self.seconds = seconds  # until answers are written, at most
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
    def from_environment(cls, task: str) -> Self | None:
        """Return the log that environment variables ask for, or None."""
        folder = os.environ.get(PREDICTION_LOG, "").strip()
        if not folder:
            return None
        return cls(Path(folder), task, salt_from_environment())

    def write(
        self, identities: Sequence[bytes], names: Sequence[Any] | None, answer: Columns, described: Columns
    ) -> None:
        """Queue a request; never waits and never raises. Features and ids are hashed at once, and not kept."""
        if self._rows >= _ROWS:
            self._lost(len(identities), "answers are faster than they can be written")
            return
        hashed = [self._hash(each) for each in identities]
        ids = [self._hash(name.encode()) if isinstance(name, str) else None for name in names or [None] * len(hashed)]
        kept = {name: answer[name] for name in _KEPT if name in answer}
        self._waiting.append(Asked(datetime.now(UTC), uuid.uuid4().hex, hashed, ids, kept, described))
        self._count(len(hashed))
        if self._rows > _ROWS // 4:  # not before: a thread that runs after every request costs 5 % of its time
            self._due.set()

    def close(self) -> None:
        """Write the queue, and end the thread."""
        self._closing.set()
        self._due.set()
        self._thread.join(timeout=30)
        atexit.unregister(self.close)

    def _work(self) -> None:
        closing = False
        while not closing:
            self._due.wait(self.seconds)
            self._due.clear()
            closing = self._closing.is_set()
            if taken := [self._waiting.popleft() for _ in range(len(self._waiting))]:
                rows = sum(len(asked.identities) for asked in taken)
                try:
                    self._write(taken)
                except Exception as error:  # answers go on
                    self._lost(rows, f"{type(error).__name__}: {error}")
                self._count(-rows)

    def _count(self, rows: int) -> None:
        with self._lock:
            self._rows += rows

    def _write(self, waiting: Sequence[Asked]) -> None:
        table = log_table(waiting)
        for date, part in table.groupby(table["time"].dt.date):
            path = self.folder / str(date) / f"{uuid.uuid4().hex}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.tmp")
            try:
                part.to_parquet(temporary, index=False)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def _hash(self, content: bytes) -> str:
        return salted_sha256(self.salt, content)

    def _lost(self, rows: int, why: str) -> None:
        with self._lock:
            self.dropped += rows
            warned, self._warned = self._warned, True
        if not warned:
            _logger.warning("predictions are answered and not logged below %s: %s", self.folder, why)
