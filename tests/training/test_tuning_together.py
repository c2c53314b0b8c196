"""What many workers on one study would break: the budget, a trial run twice or by nobody, a run's status."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import mlflow
import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from pipelines.errors import UserError
from tests.training import steps_worker
from tests.training.forked import in_threads, join, until
from tests.training.killed_rounds import BUDGET, rounds
from tests.training.postgres import Postgres
from tests.training.steps_worker import count, steps_made
from tests.training.tiny import ROOT
from training.studies import trial_queue, workers
from training.studies.optuna_private import RunningTrial
from training.studies.storage import open_storage, refuse_what_many_workers_cannot_share, study_lock
from training.studies.trial_queue import Beats, locked, requeue_orphans, work


def _study(name: str) -> optuna.Study:
    return optuna.create_study(study_name=name, storage=open_storage(wait=True), load_if_exists=True)


# Processes


def test_workers_share_the_trials_and_one_may_be_killed(
    server: Postgres, shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.database(f"tracking-{tmp_path.name}"))
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    before, killed = mlflow.get_tracking_uri(), list[tuple[str, int, int]]()

    def kill_one() -> None:
        until(lambda: [made for made in steps_made(tmp_path) if made[1] >= 2], 300)
        killed.append(next(made for made in steps_made(tmp_path) if made[1] >= 2))
        os.kill(killed[0][2], signal.SIGKILL)

    killer = in_threads(kill_one)
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    try:
        assert steps_worker.main(["--workers", "2", "--budget", "6", "--seconds", "0.1"]) == 0
        tuned = json.loads((tmp_path / "tuned.json").read_text())
        assert count(tuned["study"], shared, 6, tuned["run_id"]) == {"done": 6}
        assert mlflow.get_run(tuned["run_id"]).info.status == "FINISHED"
    finally:
        mlflow.set_tracking_uri(before)
    join(killer)
    made, trial = steps_made(tmp_path), killed[0][0]
    assert len({process for _, _, process in made}) >= 2, "each worker had its share"
    # One step at most is made again: the one whose checkpoint the kill came before.
    again = [step for origin, step, _ in made if origin == trial]
    assert set(again) == set(range(8)) and len(again) <= 9
    assert len({other for origin, _, other in made if origin == trial}) == 2
    assert not [path for path in (tmp_path / "checkpoints").rglob("*") if path.suffix in {".pt", ".jsonl"}]


@pytest.mark.soak
def test_fifty_rounds_of_random_kills_lose_and_double_nothing() -> None:
    counted = rounds(50)
    print(counted)
    assert counted["kills"] >= 50
    assert counted["run again"] > 0, "no kill hit a trial: the test shows nothing"
    assert [counted[name] for name in ("done", "lost", "doubled", "open")] == [50 * BUDGET, 0, 0, 0]


def test_a_worker_that_fails_ends_the_study_with_its_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "killed.py").write_text("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(UserError, match=r"worker \d ended with exit status 3"):
        workers.run_processes(("broken",), 2, lambda: 0)
    monkeypatch.setattr(workers, "_WATCH_SECONDS", 0.1)
    with pytest.raises(UserError, match=r"killed 6 times \(last by SIGKILL\) and no trial ended"):
        workers.run_processes(("killed",), 1, lambda: 0)


def test_each_worker_has_a_gpu_and_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(workers, "cores", lambda: 8)
    given = [workers.worker_environment(number, 3, workers.gpus()) for number in (1, 2, 3)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in given] == ["2", "GPU-5", "2"]
    assert {each["OMP_NUM_THREADS"] for each in given} == {"2"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert workers.gpus() == []


# The claim


@pytest.mark.parametrize(("number", "budget"), [(6, 2), (8, 12)])
def test_the_budget_is_exact_however_many_share_it(shared: str, number: int, budget: int) -> None:
    _study("shared").enqueue_trial({"x": 0.5})
    ran: list[int] = []
    starting = threading.Barrier(number)

    def objective(trial: optuna.Trial) -> float:
        ran.append(trial.number)
        time.sleep(0.01)
        if trial.number % 3 == 1:
            raise optuna.TrialPruned
        return trial.suggest_float("x", 0, 1)

    def one() -> None:
        study, lock = _study("shared"), study_lock("shared")
        starting.wait()
        work(study, objective, budget, lock)

    join(in_threads(one, number))
    trials = _study("shared").trials
    assert sorted(ran) == [trial.number for trial in trials] == list(range(budget))
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert trials[0].params.get("x") == 0.5


def test_a_worker_that_lost_the_lock_in_its_claim_gives_the_trial_back(shared: str) -> None:
    study, lock, other = _study("lost"), study_lock("lost"), study_lock("lost")
    lock.acquire()
    taken = threading.Event()

    def second() -> None:
        with locked(other):
            taken.set()

    waiting = in_threads(second)
    assert not taken.wait(0.3), "one at a time"
    with sqlalchemy.create_engine(shared).begin() as connection:  # as a restart of the database does
        end = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted"
        connection.exec_driver_sql(end)
    assert taken.wait(10)
    join(waiting)
    assert not lock.is_locked
    study.optimize(lambda trial: 1.0, n_trials=1)  # another worker spends the budget meanwhile
    objective = Mock(return_value=1.0)
    claim = trial_queue._Claim(study=study, objective=objective, budget=1, lock=lock)
    study.optimize(claim, n_trials=1, catch=(trial_queue.LostTrial,))
    assert claim.lost and not objective.called
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]
    requeue_orphans(study)
    assert len(study.trials) == 2, "what was beyond the budget is not queued again"


def test_a_trial_that_takes_every_worker_with_it_is_given_up(shared: str) -> None:
    study = _study("deadly")
    for _ in range(trial_queue.MOST_ATTEMPTS):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        trial.set_user_attr("worker", f"{trial_queue.socket.gethostname()}|{2**22 + 1}|1")
        requeue_orphans(study)
        requeue_orphans(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * trial_queue.MOST_ATTEMPTS
    assert len({trial.params["x"] for trial in study.trials}) == 1


def test_silence_counts_only_while_somebody_listens() -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.set_user_attr("worker", "another-host|1|1")

    def heard(beats: Beats, times: list[float]) -> list[bool]:
        running = [RunningTrial(each.number, each.user_attrs) for each in study.trials]
        return [bool(beats.silent(running, now)) for now in times]

    assert heard(Beats(), [float(second) for second in range(0, 140, 10)]) == [False] * 13 + [True]
    assert not any(heard(Beats(), [0.0, 600.0, 610.0, 1200.0])), "the database was away, not the worker"
    beats = Beats()
    for second in range(0, 300, 10):
        trial.set_user_attr("beat", second)
        assert not heard(beats, [float(second)])[0]


def test_heartbeats_are_written_until_another_worker_takes_the_trial_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_queue, "_BEAT_SECONDS", 0.01)
    study = optuna.create_study()
    with trial_queue._beating(study.ask()) as gone:
        until(lambda: study.trials[0].user_attrs.get("beat", 0) >= 2)
        assert not gone.is_set()
        study.tell(0, state=TrialState.FAIL)
        assert gone.wait(60)


# What cannot be shared


def test_several_workers_on_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files, server, shared = "sqlite:///a.db", "http://127.0.0.1:5000", "postgresql+psycopg://u:p@h/d"
    for storage, number, place, tracking, refusal in (
        (files, 4, "", server, r"WORKERS=4 needs .*OPTUNA_STORAGE=postgresql\+psycopg://"),
        (files, 1, "local", server, "CLUSTER=local needs"),
        (shared, 4, "", files, "MLFLOW_TRACKING_URI=http://HOST:5000"),
        (shared, 4, "", shared, "the same database"),
    ):
        monkeypatch.setenv("OPTUNA_STORAGE", storage)
        with pytest.raises(UserError, match=refusal):
            refuse_what_many_workers_cannot_share(number, place, tracking)
    for tracking in (server, shared.replace("/d", "/another")):
        refuse_what_many_workers_cannot_share(4, "", tracking)
    monkeypatch.setenv("OPTUNA_STORAGE", files)
    refuse_what_many_workers_cannot_share(1, "", files)


@pytest.mark.parametrize("url", ["nonsense", "postgresql+psycopg://u:secret@127.0.0.1:1/d"])
def test_a_storage_that_cannot_be_opened_is_reported_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", url)
    began = time.monotonic()
    with pytest.raises(UserError, match="OPTUNA_STORAGE") as caught:
        open_storage(wait=False)
    assert "secret" not in str(caught.value)
    assert time.monotonic() - began < 20
