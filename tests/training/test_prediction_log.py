"""The prediction log must show no patient's data, log what was answered, and never keep an answer back."""

import hashlib
import hmac
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from pipelines.environment import LOG_SALT, PREDICTION_LOG
from tests.serving.served import PROFILES, profiles_prepared, save_fitted
from tests.training.forked import until
from tests.training.tiny import ROOT
from training.contract import Contract
from training.model.prediction_log import PredictionLog
from training.model.predictor import Predictor

SALT = b"a salt of the laboratory"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    task, prepared = profiles_prepared()
    folder = tmp_path_factory.mktemp("model")
    save_fitted(PROFILES, "logistic_regression", task, prepared, folder, selection="top_30")
    return folder


@pytest.fixture(scope="module")
def request_frame(model: Path) -> pd.DataFrame:
    contract: Contract = Predictor().read(model).contract
    _, prepared = profiles_prepared()
    frame = contract.request(prepared.side("test").take(np.arange(4)))
    return frame.assign(sample_id=pd.Series(["PATIENT-7", "PATIENT-8", None, "PATIENT-7"], dtype=object))


@pytest.fixture
def predictor(model: Path, tmp_path: Path) -> Any:
    """Return the model as it is served, with a log."""
    made = Predictor().read(model)
    made.version, made.log = "12", PredictionLog(tmp_path, PROFILES, SALT, 0.01)
    return made


def _written(folder: Path, log: PredictionLog | None = None) -> pd.DataFrame:
    if log is not None:
        log.close()
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.rglob("*.parquet"))], ignore_index=True)


def test_what_is_answered_is_logged_row_by_row(predictor: Any, request_frame: pd.DataFrame, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    bad = request_frame.assign(expression=pd.Series([{"NOPE": 1.0}] * len(request_frame), dtype=object))
    answers = [predictor.predict(None, request_frame)]
    with pytest.raises(MlflowException):  # what is not answered is not logged
        predictor.predict(None, bad)
    answers.append(predictor.predict(None, request_frame))
    rows = _written(tmp_path, predictor.log)
    assert rows["request_id"].nunique() == 2 and rows["row"].tolist() == [0, 1, 2, 3] * 2
    assert rows["time"].between(before, datetime.now(UTC)).all() and str(rows["time"].dtype).endswith("UTC]")
    assert set(rows["model_version"]) == {"12"}
    for name in ("label", "probability", "out_of_distribution", "out_of_distribution_threshold"):
        assert rows[name].tolist() == [value for answer in answers for value in answer[name]], name
    described = predictor.contract.describe(predictor.contract.read(request_frame.drop(columns="sample_id")))
    assert [name for name in map(str, rows) if name.startswith("input_")] == [f"input_{name}" for name in described]
    np.testing.assert_array_equal(rows["input_level"][:4], described["level"])
    folder = tmp_path / PROFILES / before.date().isoformat()
    assert all(path.parent == folder for path in tmp_path.rglob("*") if path.is_file())


def test_the_log_has_hashes_and_no_id_or_value(predictor: Any, request_frame: pd.DataFrame, tmp_path: Path) -> None:
    backwards = [dict(reversed(profile.items())) for profile in request_frame["expression"]]
    predictor.predict(None, request_frame)
    predictor.predict(None, request_frame.assign(expression=pd.Series(backwards)))
    rows = _written(tmp_path, predictor.log)
    assert rows["row_sha256"].nunique() == 4
    assert rows["row_sha256"][:4].tolist() == rows["row_sha256"][4:].tolist()
    assert rows["sample_sha256"][0] == rows["sample_sha256"][3] == hmac.digest(SALT, b"PATIENT-7", hashlib.sha256).hex()
    assert rows["sample_sha256"].isna().tolist() == [False, False, True, False] * 2
    assert "PATIENT" not in rows.to_json()
    assert not set(request_frame["expression"][0]) & {str(value) for column in rows for value in rows[column]}
    sent = {value for profile in request_frame["expression"] for value in profile.values()}
    assert not sent & {value for column in rows.select_dtypes("number") for value in rows[column]}
    unsalted = {hashlib.sha256(name.encode()).hexdigest() for name in ("PATIENT-7", "PATIENT-8")}
    assert not unsalted & set(rows["sample_sha256"].dropna())


def test_another_salt_gives_other_hashes_and_none_gives_secret_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(PREDICTION_LOG, raising=False)
    assert PredictionLog.from_environment(PROFILES) is None
    monkeypatch.setenv(PREDICTION_LOG, str(tmp_path))
    found = []
    for salt in ("one", "two", "", ""):
        monkeypatch.setenv(LOG_SALT, salt)
        log = PredictionLog.from_environment(PROFILES)
        assert log is not None
        found.append(log._hash(b"PATIENT-7"))
        log.close()
    assert len(set(found)) == 4
    assert LOG_SALT in caplog.text


# A log that cannot be written


def test_a_log_that_cannot_be_written_costs_no_answer(
    predictor: Any, model: Path, request_frame: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full, log = Mock(side_effect=OSError(28, "No space left on device")), predictor.log
    good = Predictor().read(model).predict(None, request_frame)
    with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as disk:
        disk.setattr(pd.DataFrame, "to_parquet", full)
        for count in range(4, 24, 4):
            answer = predictor.predict(None, request_frame)
            pd.testing.assert_frame_equal(answer.drop(columns="model_version"), good.drop(columns="model_version"))
            until(partial(lambda dropped: log.dropped == dropped, count))
    assert caplog.text.count("not logged") == 1
    assert not list(tmp_path.rglob("*.parquet")) and not list(tmp_path.rglob(".*"))
    predictor.predict(None, request_frame)  # a disk that has room again is written to
    assert len(_written(tmp_path, log)) == 4 and log.dropped == 20


def test_a_slow_disk_holds_nobody_up_and_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    taken: list[int] = []

    def slow(self: PredictionLog, waiting: Sequence[Any]) -> None:
        taken.append(len(waiting))
        free.wait(30)

    monkeypatch.setattr(PredictionLog, "_write", slow)
    monkeypatch.setattr("training.model.prediction_log._ROWS", 50)
    log = PredictionLog(tmp_path, PROFILES, SALT, seconds=0.01)
    names = ("prediction", "out_of_distribution", "out_of_distribution_threshold", "model_version")
    write = partial(log.write, [b"row"], None, {name: [1.0] for name in names}, {"level": [1.0]})
    began = time.monotonic()
    while not log.dropped:
        write()
        assert time.monotonic() - began < 20
    for _ in range(100):
        write()
    assert log.dropped == 101
    assert log._rows == sum(len(asked.identities) for asked in log._waiting) + sum(taken[:1]) == 50
    free.set()
    log.close()


ENDING = """
from pathlib import Path
from training.model.prediction_log import PredictionLog
log = PredictionLog(Path.cwd(), "tumor_type", b"salt", 60.0)
novelty = {"out_of_distribution": [0.5], "out_of_distribution_threshold": [1.0]}
for value in range(5):
    log.write([b"row"], None, {"prediction": [value], **novelty, "model_version": ["1"]}, {"level": [value]})
"""


def test_a_process_that_ends_has_written_all_rows(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", ENDING], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120)
    assert sorted(_written(tmp_path)["prediction"]) == [0, 1, 2, 3, 4]
