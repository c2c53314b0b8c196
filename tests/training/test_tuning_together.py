"""What many workers on one study would break, servers that fail included: the budget, a trial, a run, a metric."""

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import mlflow
import optuna
import psutil
import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from werkzeug.serving import make_server

from pipelines import retry, tracking
from pipelines.errors import UserError
from pipelines.retry import Unreachable
from pipelines.step_metrics import StepMetrics, sending
from pipelines.store_errors import StoreError
from tests.empty_store import working_in
from tests.servers import free_port, listening
from tests.training import steps_worker
from tests.training.forked import begin, in_threads, join, until
from tests.training.steps_worker import count, steps_made
from training.studies import cluster, trial_queue, workers
from training.studies.optuna_private import UnfinishedTrial, unfinished_trials
from training.studies.storage import PatientStorage, open_storage, refuse_what_many_workers_cannot_share, study_lock
from training.studies.trial_queue import Beats, locked, requeue_orphans, work

STATES = [None, *((state,) for state in TrialState), (TrialState.COMPLETE, TrialState.PRUNED)]


def _study(name: str) -> optuna.Study:
    return optuna.create_study(study_name=name, storage=open_storage(wait=True), load_if_exists=True)


# Processes


def test_tables_of_a_new_file_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    together = threading.Barrier(4)

    def opened(_: int) -> list[Any]:
        together.wait()
        return open_storage(wait=True).get_all_studies()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opened, range(4))) == [[]] * 4


class Forked:
    """A worker that `run_processes` starts, without the seconds in which a new Python imports the platform."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        assert command[:3] == [sys.executable, "-m", steps_worker.MODULE]
        self._process = begin(steps_worker.main, command[3:], environment=env)

    def poll(self) -> int | None:
        return self._process.exitcode


def test_one_of_two_workers_dies(server: Any, shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.psutil, "Popen", Forked)
    killed = list[tuple[str, int, int]]()

    def kill_one() -> None:
        until(lambda: [made for made in steps_made(tmp_path) if made[1] >= 2], 300)
        killed.append(next(made for made in steps_made(tmp_path) if made[1] >= 2))
        os.kill(killed[0][2], signal.SIGKILL)

    killer = in_threads(kill_one)
    with working_in(tmp_path, server.database(f"tracking-{tmp_path.name}")):
        assert steps_worker.main(["--workers", "2", "--budget", "6", "--seconds", "0.1"]) == 0
        tuned = json.loads((tmp_path / "tuned.json").read_text())
        assert count(tuned["study"], shared, 6, tuned["run_id"]) == {"done": 6}
        assert mlflow.get_run(tuned["run_id"]).info.status == "FINISHED"
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
    from tests.training.killed_rounds import BUDGET, rounds  # which skips a test where there is no PostgreSQL

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


@pytest.mark.parametrize(("number", "budget"), [(5, 2), (5, 10)])
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


def test_of_trials_that_others_run_a_claim_reads_the_names_of_their_workers_alone(shared: str) -> None:
    study = _study("read")
    for number in range(3):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        trial.set_user_attr("worker", f"another-host|{number}|1")
        trial.set_user_attr("note", "not asked for")
    study.tell(1, 0.25)
    study.enqueue_trial({"x": 0.5}, user_attrs={"retry_of": 7})
    found = unfinished_trials(study, "worker", "retry_of")
    expected = [trial for trial in study.trials if not trial.state.is_finished()]
    assert [(each.number, each.state) for each in found] == [(each.number, each.state) for each in expected]
    assert [each.user_attrs for each in found] == [
        *({"worker": f"another-host|{number}|1"} for number in (0, 2)),
        {"retry_of": 7},
    ]
    states = requeue_orphans(study)
    assert sorted(states, key=int) == sorted((trial.state for trial in study.trials), key=int)


def test_silence_counts_only_while_somebody_listens() -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.set_user_attr("worker", "another-host|1|1")

    def heard(beats: Beats, times: list[float]) -> list[bool]:
        running = [UnfinishedTrial(each.number, each.state, each.user_attrs) for each in study.trials]
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
    for storage, number, place, uri, refusal in (
        (files, 4, "", server, r"WORKERS=4 needs .*OPTUNA_STORAGE=postgresql\+psycopg://"),
        (files, 1, "local", server, "CLUSTER=local needs"),
        (shared, 4, "", files, "MLFLOW_TRACKING_URI=http://HOST:5000"),
        (shared, 4, "", shared, "the same database"),
    ):
        monkeypatch.setenv("OPTUNA_STORAGE", storage)
        with pytest.raises(UserError, match=refusal):
            refuse_what_many_workers_cannot_share(number, place, uri)
    for uri in (server, shared.replace("/d", "/another")):
        refuse_what_many_workers_cannot_share(4, "", uri)
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


# What is read of the trials


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    monkeypatch.setenv("OPTUNA_STORAGE", url)
    return url


def test_whatever_others_do_the_trials_read_are_those_of_optuna_s_own_storage(url: str) -> None:
    def true(states: Any) -> list[Any]:  # read anew each time
        return optuna.load_study(study_name="one", storage=plain).get_trials(states=states)

    rng, studies, running = random.Random(0), [_study("one") for _ in range(3)], list[int]()
    plain = RDBStorage(url)
    for _ in range(30):
        study, act = rng.choice(studies), rng.random()
        if act < 0.15:
            study.enqueue_trial({"x": rng.random()})
        elif act < 0.5 or not running:
            trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
            trial.report(rng.random(), 0)
            running.append(trial.number)
        elif act < 0.9:
            number = running.pop(rng.randrange(len(running)))
            state = rng.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
            study.tell(number, rng.random() if state == TrialState.COMPLETE else None, state=state)
        asks, states = rng.choice(studies), rng.choice(STATES)
        found = asks.get_trials(states=states)
        assert found == asks.get_trials(deepcopy=False, states=states) == true(states)
        for trial in found:
            trial.user_attrs["mine"] = "of a copy"
    for states in STATES:
        assert [study.get_trials(states=states) for study in studies] == [true(states)] * 3


# PostgreSQL


def test_a_study_goes_on_after_its_database_was_stopped_and_started(server: Any, shared: str) -> None:
    _study("one")
    ran, faults = list[int](), list[BaseException]()

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(4):
            time.sleep(0.05)
            trial.report(x, step)
        ran.append(trial.number)
        return x

    def one() -> None:
        try:
            work(_study("one"), objective, 10, study_lock("one"))
        except BaseException as error:
            faults.append(error)

    threads = in_threads(one, 4)
    until(lambda: len(ran) >= 3)
    server.stop()
    time.sleep(0.4)
    server.start()
    join(threads)
    assert not faults
    trials = _study("one").trials
    ended = [trial for trial in trials if trial.state != TrialState.FAIL]
    assert len(ended) == len({trial.user_attrs["origin"] for trial in ended}) == 10
    assert {trial.state for trial in ended} == {TrialState.COMPLETE}
    assert all(set(trial.intermediate_values) == {0, 1, 2, 3} for trial in ended)
    # A claim that the stop has broken off may leave a trial that nobody ran, and no other.
    assert all("worker" not in trial.user_attrs for trial in trials if trial.state == TrialState.FAIL)
    assert sorted(ran) == sorted(trial.number for trial in ended)


def test_a_database_away_ends_a_worker_not_its_trial(server: Any, shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTAGE_SECONDS", "1")
    study = _study("one")

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        server.stop()
        trial.report(x, 0)
        return x

    with pytest.raises(Unreachable, match=r"OPTUNA_STORAGE\) could not be reached for 1 s .*run the same command"):
        work(study, objective, 2, study_lock("one"))
    server.start()
    again = _study("one")
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


def test_postgresql_that_refuses_is_reported_at_once(server: Any, shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTAGE_SECONDS", "300")
    _study("one")
    server.execute(f'alter database "{make_url(shared).database}" set default_transaction_read_only = on')
    read_only = optuna.load_study(study_name="one", storage=open_storage(wait=True))
    with pytest.raises(StoreError, match=r"OPTUNA_STORAGE\) is read-only"):
        read_only.ask()
    monkeypatch.setenv("OPTUNA_STORAGE", str(make_url(shared).set(database="nowhere")))
    with pytest.raises(StoreError, match="is not there; create the database"):
        open_storage(wait=True)


# The tracking server


@contextlib.contextmanager
def _in_a_process(store: str, port: int) -> Iterator[None]:
    """Run MLflow's server as its users do."""
    command = f"{sys.executable} -m mlflow server --port={port} --workers=1 --backend-store-uri={store}".split()
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes that nobody needs
    with listening(command, f"http://127.0.0.1:{port}/health", Path.cwd() / "server.log", env):
        yield


@contextlib.contextmanager
def _in_a_thread(store: str, port: int) -> Iterator[None]:
    """Run MLflow's server here, where it has started in a moment."""
    from mlflow.server import BACKEND_STORE_URI_ENV_VAR, app, handlers

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BACKEND_STORE_URI_ENV_VAR, store)
        patch.setattr(handlers, "_tracking_store", None)
        server = make_server("127.0.0.1", port, app, threaded=True)
        (thread,) = in_threads(server.serve_forever)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            join([thread])


@pytest.mark.parametrize("running", [_in_a_thread, pytest.param(_in_a_process, marks=pytest.mark.soak)])
def test_no_metric_is_lost_when_a_server_restarts(
    running: Any, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    serve = partial(running, store, port)
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


def test_a_tracking_server_away_ends_a_fit_clearly(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# Placed by Ray

# What a task runs: a study whose trials are a sleep, without the weight of the real worker's imports.
WORKER = """
import json, os, sys, time
from pathlib import Path
import optuna
from pipelines.errors import UserError
from training.studies.trial_queue import work
from training.studies.storage import open_storage, study_lock

together = 1  # so many workers begin before any goes on

def objective(trial):
    with Path("began.jsonl").open("a") as file:
        print(json.dumps([trial.user_attrs["origin"], os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")]), file=file)
    until = time.monotonic() + 60
    while len({json.loads(line)[1] for line in open("began.jsonl")}) < together and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3 * together)
    return trial.suggest_float("x", 0, 1)

def main(arguments):
    global together
    if "broken" in arguments:
        raise UserError("the worker says why")
    if "three" in arguments:
        together = 3
    work(optuna.load_study(study_name="one", storage=open_storage(wait=True)), objective, 10, study_lock("one"))
    return 0
"""


def test_ray_places_workers_and_replaces_the_lost(tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason='the extra "ray" is not installed')
    (tmp_path / "cluster_worker.py").write_text(WORKER)
    monkeypatch.setattr(ray, "init", partial(ray.init, num_gpus=1))  # Ray takes it on trust
    monkeypatch.setenv("GPUS_PER_WORKER", "0.5")
    lost: list[int] = []

    def lose_one() -> None:
        until(lambda: _began(tmp_path), 120)
        lost.append(_began(tmp_path)[-1][1])
        os.kill(lost[0], signal.SIGKILL)

    study, seen = _study("one"), list[int]()
    killer = in_threads(lose_one)

    def watch() -> int:
        seen.append(len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))))
        return seen[-1]

    cluster.run_on_cluster(("cluster_worker",), 2, "local", watch)
    join(killer)
    assert lost
    done = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(done) == len({trial.user_attrs["origin"] for trial in done}) == seen[-1] == 10
    began = _began(tmp_path)
    assert len({process for _, process, _ in began}) >= 3, "two workers, and one in the place of the lost"
    assert {gpu for _, _, gpu in began} == {"0"}, "half a GPU each, of the one that there is"


@pytest.mark.soak  # a minute and a half, most of it until two nodes, the client's server and the workers have started
def test_over_rays_client_a_study_outlives_a_node(tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason='the extra "ray" is not installed')
    from ray.cluster_utils import Cluster

    (tmp_path / "cluster_worker.py").write_text(WORKER)
    # Left open, a head asks for a token where the home folder has one of an earlier ``ray.init``.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    port, lost = free_port(), list[int]()
    small = {"num_gpus": 0, "object_store_memory": 80 * 1024**2}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "ray_client_server_port": port, **small})
    other = nodes.add_node(num_cpus=1, **small)
    raylet = other.all_processes["raylet"][0].process.pid

    def lose_the_other_node() -> None:
        # Three workers fill both nodes; the one on the other node goes with it, during a trial.
        def alive() -> set[int]:
            return {process for _, process, _ in _began(tmp_path) if psutil.pid_exists(process)}

        until(lambda: len(alive()) == 3, 120)
        lost.extend(process for process in alive() if psutil.Process(process).ppid() == raylet)
        nodes.remove_node(other, allow_graceful=False)

    study = _study("one")
    killer = in_threads(lose_the_other_node)
    address = f"ray://127.0.0.1:{port}"
    try:
        cluster.run_on_cluster(("cluster_worker", "three"), 3, address, lambda: 0)
        join(killer)
        assert len(lost) == 1
        done = {trial.user_attrs["origin"] for trial in study.get_trials(states=(TrialState.COMPLETE,))}
        assert len(done) == len(study.get_trials(states=(TrialState.COMPLETE,))) == 10
        last = [origin for origin, process, _ in _began(tmp_path) if process == lost[0]][-1]
        assert [process for origin, process, _ in _began(tmp_path) if origin == last][-1] != lost[0], "run again"
        assert {trial.user_attrs["origin"] for trial in study.trials if "origin" in trial.user_attrs} == done
        with pytest.raises(UserError, match="the worker says why"):
            cluster.run_on_cluster(("cluster_worker", "broken"), 1, address, lambda: 0)
    finally:
        nodes.shutdown()


def _began(folder: Path) -> list[tuple[int, int, str | None]]:
    """Return origin, process and GPUs of every trial that was begun, in their order."""
    path = folder / "began.jsonl"
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.is_file() else []


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'CLUSTER needs Ray, the extra "ray".*uv pip install'):
        cluster.run_on_cluster(("any",), 1, "local", lambda: 0)


def test_a_worker_s_share_of_a_gpu_is_a_fraction_or_a_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, share in {"": None, "0": 0.0, "0.25": 0.25, "1": 1.0, "2": 2.0}.items():
        monkeypatch.setenv("GPUS_PER_WORKER", text)
        assert cluster.gpus_per_worker() == share
    for text in ("half", "-1", "1.5", "nan"):
        monkeypatch.setenv("GPUS_PER_WORKER", text)
        with pytest.raises(UserError, match="GPUS_PER_WORKER"):
            cluster.gpus_per_worker()
