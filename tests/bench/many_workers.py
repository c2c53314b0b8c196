"""Overhead of storage and tracking of a trial where 64 workers share one study, and among 1,000 running trials.

Workers are threads with their own storage, lock and MLflow client, spread over processes. A trial sleeps where a real
one trains; otherwise it does what a real one does: claim, report, ask for pruning, log to an MLflow run, end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import optuna
import psycopg
from mlflow import MlflowClient
from mlflow.entities import Param
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from pipelines.step_metrics import sending
from tests.bench.measured import Record
from tests.training.postgres import postgres
from training.studies.storage import StudyLock, open_storage, study_lock
from training.studies.trial_queue import ORIGIN, WORKER, work

_MANY, _CROWD = 64, 1000
_EXPERIMENT = "bench"
_EPOCHS = 10  # of a trial: so many reports
_THREADS = 16  # workers in a process


@dataclass
class _Costs:
    """Seconds of one trial."""

    waited: float = 0.0  # for the lock
    held: float = 0.0  # the lock
    reports: float = 0.0
    tracking: float = 0.0
    ending: float = 0.0

    @property
    def storage(self) -> float:
        return self.waited + self.held + self.reports + self.ending


class _Clocked:
    """A study's lock that measures how long it is waited for and held."""

    def __init__(self, inner: StudyLock, costs: _Costs) -> None:
        self._inner, self.costs, self._since = inner, costs, 0.0

    def acquire(self) -> None:
        began = time.perf_counter()
        self._inner.acquire()
        self._since = time.perf_counter()
        self.costs.waited += self._since - began

    def release(self) -> None:
        if self._since:
            self.costs.held += time.perf_counter() - self._since
            self._since = 0.0
        self._inner.release()

    @property
    def is_locked(self) -> bool:
        return self._inner.is_locked


def _worker(study: str, trials: int, budget: int, seconds: float, parent: str, out: list[_Costs]) -> None:
    client, rng = MlflowClient(), random.Random(threading.get_ident())
    lock = _Clocked(study_lock(study), _Costs())
    told = 0.0

    def objective(trial: optuna.Trial) -> float:
        nonlocal told
        costs, began = lock.costs, time.perf_counter()
        x = trial.suggest_float("x", 0, 1)
        experiment = client.get_experiment_by_name(_EXPERIMENT)
        assert experiment is not None
        run = client.create_run(experiment.experiment_id, tags={"trial.origin": str(trial.number)}).info.run_id
        trial.set_user_attr("mlflow_run_id", run)
        client.log_batch(run, params=[Param("x", str(x))])
        costs.tracking += time.perf_counter() - began
        # Of unequal length, as trials are: workers that began together do not stay in step.
        each = seconds * rng.uniform(0.5, 1.5) / _EPOCHS
        with tempfile.TemporaryDirectory() as folder:
            with sending(run, Path(folder) / "metrics.jsonl") as steps:
                for epoch in range(_EPOCHS):
                    time.sleep(each)
                    began = time.perf_counter()
                    steps.log({"step_validation_rmse": x, "step_train_loss": x}, epoch)
                    trial.report(x, epoch)
                    trial.should_prune()
                    costs.reports += time.perf_counter() - began
                began = time.perf_counter()
            client.log_metric(run, "validation_rmse", x)
            client.set_terminated(run)
            client.set_terminated(run)  # MLflow's side of this process is closed after the server's
            client.log_metric(parent, "best_rmse", x, step=trial.number)
            costs.tracking += time.perf_counter() - began
        told = time.perf_counter()
        return x

    def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        lock.costs.ending = time.perf_counter() - told
        out.append(lock.costs)
        lock.costs = _Costs()

    found = optuna.load_study(study_name=study, storage=open_storage(wait=True), pruner=_pruner())
    found.sampler = optuna.samplers.RandomSampler()
    # Each ends after its own trials: waiting for others' would be counted as overhead.
    work(found, objective, budget, lock, callbacks=[after], goes_on=lambda: len(out) < trials)


def _pruner() -> optuna.pruners.BasePruner:
    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=8)


def _process(
    study: str, threads: int, trials: int, budget: int, seconds: float, parent: str, queue: Any, start: Any
) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    MlflowClient().get_run(parent)  # one store a process: not made by many threads at once
    outs: list[list[_Costs]] = [[] for _ in range(threads)]
    start.wait(300)
    with ThreadPoolExecutor(threads) as pool:
        for out in outs:
            pool.submit(_worker, study, trials, budget, seconds, parent, out)
    queue.put(outs)


def _share(workers: int, trials: int, seconds: float, parent: str) -> list[_Costs]:
    """Let ``workers`` run ``trials`` trials each, of about ``seconds``, on one study; without each worker's first."""
    name, budget = f"bench-{workers}", workers * trials
    optuna.create_study(study_name=name, storage=open_storage(wait=True))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.bench.many_workers"])
    queue, shares = context.Queue(), [min(_THREADS, workers - at) for at in range(0, workers, _THREADS)]
    start = context.Barrier(len(shares) + 1)
    processes = [
        context.Process(target=_process, args=(name, threads, trials, budget, seconds, parent, queue, start))
        for threads in shares
    ]
    for process in processes:
        process.start()
    try:
        start.wait(300)
        ended = [queue.get(timeout=60 + 3 * trials * (seconds + 10)) for _ in processes]
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.kill()
    study = optuna.load_study(study_name=name, storage=open_storage(wait=True))
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) != budget or len(study.get_trials(deepcopy=False)) != budget:
        raise AssertionError(f"{len(done)} trials of {budget}: the budget is not exact")
    return [each for outs in ended for out in outs for each in out[1:]]  # the first pays for connections and caches


def _crowd(running: int, claims: int) -> list[_Costs]:
    """Let one worker claim and report where ``running`` trials are running already, each with its reports."""
    name, storage = f"crowd-{running}", open_storage(wait=True)
    study = optuna.create_study(study_name=name, storage=storage, pruner=_pruner())
    study.sampler = optuna.samplers.RandomSampler()
    _run_elsewhere(storage, study._study_id, running)
    lock, found = _Clocked(study_lock(name), _Costs()), list[_Costs]()

    def objective(trial: optuna.Trial) -> float:
        x, began = trial.suggest_float("x", 0, 1), time.perf_counter()
        for epoch in range(_EPOCHS):
            trial.report(x, epoch)
            trial.should_prune()
        lock.costs.reports = time.perf_counter() - began
        return x

    def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        found.append(lock.costs)
        lock.costs = _Costs()

    work(study, objective, running + claims, lock, callbacks=[after], goes_on=lambda: len(found) < claims)
    return found[1:]


def _run_elsewhere(storage: BaseStorage, study: int, count: int) -> None:
    """Put ``count`` running trials of another host's worker into the study: one, and its copies."""
    template = create_trial(
        state=TrialState.RUNNING,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        user_attrs={WORKER: "another-host|1|1", ORIGIN: 0, "mlflow_run_id": "0" * 32, "hyperparameters": {"x": 0.5}},
        intermediate_values=dict.fromkeys(range(_EPOCHS), 0.5),
    )
    template.datetime_start = datetime.now(UTC).replace(tzinfo=None)
    first = storage.create_new_trial(study, template)
    columns = {
        "trial_params": "param_name, param_value, distribution_json",
        "trial_user_attributes": "key, value_json",
        "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
    }
    url = os.environ["OPTUNA_STORAGE"].replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into trials (number, study_id, state, datetime_start) select number + others, study_id, state, "
            "datetime_start from trials, generate_series(1, %s) others where trial_id = %s",
            (count - 1, first),
        )
        for table, names in columns.items():
            connection.execute(
                f"insert into {table} (trial_id, {names}) select trials.trial_id, {names} from trials, {table} "
                f"where study_id = %s and trials.trial_id <> %s and {table}.trial_id = %s",
                (study, first, first),
            )


def many_workers(small: bool = False) -> list[Record]:
    """Tune with 64 workers on one study in one PostgreSQL, with one worker, and with 1,000 running trials.

    Workers, PostgreSQL and the tracking store share this machine, without a tracking server in between. A trial sleeps
    instead of training; its overhead is what it takes beyond that: the claim under the study's lock, ten reports with
    the question whether to prune, and its MLflow run. Workers sample at random, so that what is measured is storage and
    tracking, not the sampler. Workers of one machine share its processor, which 64 of them without pause between
    short trials use up. The 1,000 running trials are rows of workers on other hosts; one worker claims and reports
    among them.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres(connections=400))
        values = {
            "OPTUNA_STORAGE": server.database("studies"),
            "MLFLOW_TRACKING_URI": server.database("tracking"),
            "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "QueuePool",
        }
        stack.enter_context(mock.patch.dict(os.environ, values))
        stack.callback(optuna.logging.set_verbosity, optuna.logging.get_verbosity())
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        client = MlflowClient(values["MLFLOW_TRACKING_URI"])
        parent = client.create_run(client.create_experiment(_EXPERIMENT)).info.run_id
        count, seconds, crowd = (4, 1.0, 20) if small else (_MANY, 30.0, _CROWD)
        one, many = _share(1, 3 if small else 6, 2.0, parent), _share(count, 2, seconds, parent)
        few, crowded = _crowd(1, 4), _crowd(crowd, 4)

    def record(name: str, of: Callable[[_Costs], float], sides: tuple[str, str]) -> Record:
        two = (many, one) if "worker" in sides[1] else (crowded, few)
        ours, other = (1e3 * median(map(of, each)) for each in two)
        return Record(name, ours, other, ours / other, "ms", higher_is_better=False, sides=sides)

    workers, running = (f"{count} workers", "1 worker"), (f"{crowd} running trials", "1 running trial")
    return [
        record("overhead a trial, in all", lambda each: each.storage + each.tracking, workers),
        record("overhead a trial, study storage", lambda each: each.storage, workers),
        record("overhead a trial, tracking", lambda each: each.tracking, workers),
        *(record("a claim: the study's lock is held", lambda each: each.held, sides) for sides in (workers, running)),
        *(
            record("a report, and whether to prune", lambda each: each.reports / _EPOCHS, sides)
            for sides in (workers, running)
        ),
    ]
