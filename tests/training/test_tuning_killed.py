"""Servers that fail during a study: nothing is lost, or it ends with a clear message and goes on later."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import mlflow
import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from pipelines import retry, tracking
from pipelines.errors import UserError
from pipelines.retry import Unreachable
from pipelines.step_metrics import StepMetrics, sending
from pipelines.store_errors import StoreError
from tests.servers import free_port, listening
from tests.training.forked import in_threads, join, until
from tests.training.postgres import Postgres
from training.studies import trial_queue
from training.studies.storage import PatientStorage, open_storage, study_lock
from training.studies.trial_queue import work

# PostgreSQL


def test_a_study_goes_on_after_its_database_was_stopped_and_started(server: Postgres, shared: str) -> None:
    optuna.create_study(study_name="one", storage=open_storage(wait=False))
    ran: list[int] = []
    faults: list[BaseException] = []

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(4):
            time.sleep(0.05)
            trial.report(x, step)
        ran.append(trial.number)
        return x

    def one() -> None:
        try:
            study = optuna.load_study(study_name="one", storage=open_storage(wait=True))
            work(study, objective, 10, study_lock("one"))
        except BaseException as error:
            faults.append(error)

    threads = in_threads(one, 4)
    until(lambda: len(ran) >= 3)
    server.stop()
    time.sleep(0.4)
    server.start()
    join(threads)
    assert not faults
    trials = optuna.load_study(study_name="one", storage=open_storage(wait=True)).trials
    ended = [trial for trial in trials if trial.state != TrialState.FAIL]
    assert len(ended) == len({trial.user_attrs["origin"] for trial in ended}) == 10
    assert {trial.state for trial in ended} == {TrialState.COMPLETE}
    assert all(set(trial.intermediate_values) == {0, 1, 2, 3} for trial in ended)
    # A claim that the stop has broken off may leave a trial that nobody ran, and no other.
    assert all("worker" not in trial.user_attrs for trial in trials if trial.state == TrialState.FAIL)
    assert sorted(ran) == sorted(trial.number for trial in ended)


def test_a_database_that_stays_away_ends_the_worker_and_the_trial_is_run_again(
    server: Postgres, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTAGE_SECONDS", "1")
    study = optuna.create_study(study_name="one", storage=open_storage(wait=False))

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        server.stop()
        trial.report(x, 0)
        return x

    with pytest.raises(Unreachable, match=r"OPTUNA_STORAGE\) could not be reached for 1 s .*run the same command"):
        work(study, objective, 2, study_lock("one"))
    server.start()
    again = optuna.load_study(study_name="one", storage=open_storage(wait=True))
    monkeypatch.setattr(trial_queue, "_is_alive", lambda who: who == "next")  # the worker's process has ended
    monkeypatch.setattr(trial_queue, "worker", lambda: "next")
    work(again, lambda trial: trial.suggest_float("x", 0, 1), 2, study_lock("one"))
    first, other, _ = again.trials
    assert [trial.state for trial in again.trials] == [TrialState.FAIL] + [TrialState.COMPLETE] * 2
    assert (other.params, other.user_attrs["origin"]) == (first.params, first.number)


def test_what_the_database_has_done_before_its_answer_was_lost_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study()
    trial, set_state, lost = study.ask(), study._storage.set_trial_state_values, list[Any]()

    def lossy(*arguments: Any) -> bool:
        done = bool(set_state(*arguments))
        if not lost:
            lost.append(arguments)
            raise OperationalError("update", {}, Exception("server closed the connection"))
        return done

    monkeypatch.setattr(study._storage, "set_trial_state_values", lossy)
    storage = PatientStorage(study._storage)
    assert storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1.0]) and study.trials[0].value == 1.0
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1.0])


# The tracking server


def test_no_metric_is_lost_when_the_tracking_server_is_restarted_in_training(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    command = f"{sys.executable} -m mlflow server --port={port} --workers=1 --backend-store-uri={store}".split()
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes that nobody needs
    serve = partial(listening, command, f"http://127.0.0.1:{port}/health", tmp_path / "server.log", env)
    mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
    with contextlib.ExitStack() as servers:
        servers.enter_context(serve())
        with (
            tracking.run("drug_response", "tune", "a trial") as run,
            sending(run.info.run_id, tmp_path / "spool.jsonl") as steps,
        ):
            for step in range(300):
                if step == 100:
                    servers.close()
                steps.log({"loss": step / 7, "error": 1.0}, step)
                if step == 200:
                    servers.enter_context(serve())
                time.sleep(0.002)
        client = mlflow.MlflowClient()
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [(metric.step, metric.value) for metric in history] == [(step, step / 7) for step in range(300)]
        assert len(client.get_metric_history(run.info.run_id, "error")) == 300
        assert client.get_run(run.info.run_id).info.status == "FINISHED"


def test_metrics_of_a_fit_that_was_killed_are_sent_by_who_goes_on(store: str, tmp_path: Path) -> None:
    spool = tmp_path / "checkpoints" / "3.metrics.jsonl"
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    killed = StepMetrics(run_id, spool)
    killed._guard.acquire()  # the thread sends nothing from here on, as after a kill
    killed._guard.release()
    killed._ending.set()
    killed._thread.join()
    for step in range(5):
        killed.log({"loss": float(step)}, step)
    with spool.open("a") as file:
        file.write('["loss", 5.0, 17')  # the kill came in the midst of a line
    assert not client.get_metric_history(run_id, "loss")
    with sending(run_id, spool) as steps:
        steps.log({"loss": 40.0}, 4)  # an epoch that is trained again
        steps.log({"loss": float("nan")}, 5)
        steps.log({"loss": 6.0}, 6)
    with sending(run_id, spool):  # and once more
        pass
    history = [(metric.step, metric.value) for metric in client.get_metric_history(run_id, "loss")]
    assert [step for step, _ in history] == list(range(7)) and history[:5] == [(step, step) for step in range(5)]


def test_a_tracking_server_that_stays_away_ends_the_fit_with_a_clear_message(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("OUTAGE_SECONDS", "0.5")
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    spool = tmp_path / "spool.jsonl"
    with (
        pytest.raises(Unreachable, match=r"MLFLOW_TRACKING_URI\) could not be reached for 0.5 s"),
        sending("0" * 32, spool) as steps,
    ):
        steps.log({"loss": 1.0}, 0)
    assert spool.read_text().count("\n") == 1, "kept for who goes on"
    with pytest.raises(Unreachable, match="MLFLOW_TRACKING_URI"):
        tracking.patiently(lambda: mlflow.log_metric("loss", 1.0, run_id="0" * 32))


# Waiting


def test_pauses_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: high)
    following = retry.pauses()
    given = [following() for _ in range(12)]
    assert given[:4] == [0.2, 0.4, 0.8, 1.6] and given == sorted(given) and max(given) == 15
    monkeypatch.setenv("OUTAGE_SECONDS", "0.3")
    away = Mock(side_effect=ConnectionError)
    with pytest.raises(Unreachable):
        retry.retry(away, lambda error: isinstance(error, ConnectionError), "it")
    assert away.call_count == 2
    for text in ("ten", "0", "-1", "nan"):
        monkeypatch.setenv("OUTAGE_SECONDS", text)
        with pytest.raises(UserError, match="OUTAGE_SECONDS"):
            retry.outage_seconds()


# A database that says no


def test_postgresql_that_refuses_is_reported_at_once(
    server: Postgres, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTAGE_SECONDS", "300")
    database = make_url(shared).database
    study = optuna.create_study(study_name="one", storage=open_storage(wait=True))
    server.execute(f'alter database "{database}" set default_transaction_read_only = on')
    read_only = optuna.load_study(study_name=study.study_name, storage=open_storage(wait=True))
    with pytest.raises(StoreError, match=r"OPTUNA_STORAGE\) is read-only"):
        read_only.ask()
    monkeypatch.setenv("OPTUNA_STORAGE", shared.replace(f"/{database}?", "/nowhere?"))
    with pytest.raises(StoreError, match="is not there; create the database"):
        open_storage(wait=True)
