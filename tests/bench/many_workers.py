"""What storage and tracking cost a trial where 64 workers share one study, and what 1,000 of them would take.

Workers are threads with a storage, a lock and an MLflow client of their own, spread over processes. A trial sleeps
where a real one trains, so that what it takes beyond its sleep is the overhead; all else is what a real trial does:
it claims, reports and asks for pruning after each epoch, has a run with step metrics, and ends.
"""

import contextlib
import functools
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from types import SimpleNamespace
from typing import Any
from unittest import mock

import mlflow
import optuna
import psutil
import psycopg
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Param
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from pipelines.step_metrics import _FLUSH_SECONDS, sending
from tests.bench.measured import Record, Table, number
from tests.training.postgres import Postgres, postgres
from training.studies.storage import open_storage, study_lock
from training.studies.trial_queue import _BEAT_SECONDS, ORIGIN, WORKER, work

_MANY, _CROWD = 64, 1000
_EXPERIMENT = "bench"
_EPOCHS = 10  # of a trial: so many reports
_THREADS = 16  # workers in a process
_PRUNER = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=8)


@dataclass
class _Costs:
    """Seconds of one trial in each of its parts, and what it sent."""

    waited: float = 0.0  # for the lock
    held: float = 0.0  # the lock
    reports: float = 0.0
    tracking: float = 0.0
    ending: float = 0.0
    sent: Counter[str] = field(default_factory=Counter)

    @property
    def storage(self) -> float:
        return self.waited + self.held + self.reports + self.ending


class _Clocked:
    """A study's lock that says how long was waited for it, and how long it was held."""

    def __init__(self, study: str) -> None:
        self._inner, self.costs, self._since = study_lock(study), _Costs(), 0.0

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


_here = threading.local()  # ``sent``: what this thread sent, by database


@contextlib.contextmanager
def _counting() -> Iterator[None]:
    """Count transactions to each database, and calls of the tracking store, each of which a server gets by HTTP."""

    def count(what: str) -> None:
        counts: Counter[str] = _here.__dict__.setdefault("sent", Counter())
        counts[what] += 1

    def ended(connection: sqlalchemy.Connection) -> None:
        count(f"transactions of {connection.engine.url.database}")

    def counted(whole: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        count("calls")
        return whole(*arguments, **named)

    with contextlib.ExitStack() as stack:
        for event in ("commit", "rollback"):
            sqlalchemy.event.listen(sqlalchemy.Engine, event, ended)
            stack.callback(sqlalchemy.event.remove, sqlalchemy.Engine, event, ended)
        for name in ("get_experiment_by_name", "create_run", "log_batch", "update_run_info", "log_metric"):
            call = functools.partialmethod(functools.partial(counted, getattr(SqlAlchemyStore, name)))
            stack.enter_context(mock.patch.object(SqlAlchemyStore, name, call))
        yield


def _worker(study: str, trials: int, budget: int, seconds: float, parent: str) -> list[_Costs]:
    out: list[_Costs] = []
    client, rng = MlflowClient(), random.Random(threading.get_ident())
    lock: Any = _Clocked(study)
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
                    steps.log({"step/validation_rmse": x, "step/train_loss": x}, epoch)
                    trial.report(x, epoch)
                    trial.should_prune()
                    costs.reports += time.perf_counter() - began
                began = time.perf_counter()
            client.log_metric(run, "validation/rmse", x)
            client.set_terminated(run)
            client.set_terminated(run)  # MLflow's side of this process is closed after the server's
            client.log_metric(parent, "best/rmse", x, step=trial.number)
            costs.tracking += time.perf_counter() - began
        told = time.perf_counter()
        return x

    def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        lock.costs.ending = time.perf_counter() - told
        lock.costs.sent = _here.__dict__.pop("sent", Counter())
        out.append(lock.costs)
        lock.costs = _Costs()

    found = optuna.load_study(study_name=study, storage=open_storage(wait=True), pruner=_PRUNER)
    found.sampler = optuna.samplers.RandomSampler()
    # Each ends after its own trials: waiting for others' would be counted as overhead.
    work(found, objective, budget, lock, callbacks=[after], goes_on=lambda: len(out) < trials)
    return out


def _process(threads: int, parent: str, start: Any, **given: Any) -> tuple[float, list[list[_Costs]]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    MlflowClient().get_run(parent)  # one store a process: not made by many threads at once
    start.wait(300)
    began = time.process_time()
    with _counting(), ThreadPoolExecutor(threads) as pool:
        working = [pool.submit(_worker, parent=parent, **given) for _ in range(threads)]
        outs = [each.result() for each in working]
    return time.process_time() - began, outs


def _share(server: Postgres, workers: int, trials: int, seconds: float, parent: str) -> SimpleNamespace:
    """Let ``workers`` run ``trials`` trials each, of about ``seconds``, on one study.

    Return medians and means of one trial, each worker's first left out.
    """
    name, budget = f"bench-{workers}", workers * trials
    optuna.create_study(study_name=name, storage=open_storage(wait=True))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.bench.many_workers"])
    shares = [min(_THREADS, workers - at) for at in range(0, workers, _THREADS)]
    with context.Manager() as manager, ProcessPoolExecutor(len(shares), context) as pool:
        start, most = manager.Barrier(len(shares) + 1), 0
        given: dict[str, Any] = {"study": name, "trials": trials, "budget": budget, "seconds": seconds}
        running = [pool.submit(_process, threads, parent, start, **given) for threads in shares]
        start.wait(300)
        before = _cpu(server)
        while not all(each.done() for each in running):
            most = max(most, _connections(server))
            time.sleep(0.5)
        ended = [each.result() for each in running]
    time.sleep(0.5)  # until the last connections' processes are gone
    after = _cpu(server)
    study = optuna.load_study(study_name=name, storage=open_storage(wait=True))
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) != budget or len(study.get_trials(deepcopy=False)) != budget:
        raise AssertionError(f"{len(done)} trials of {budget}: the budget is not exact")
    # The first of each worker pays for connections and caches.
    costs = [each for _, outs in ended for out in outs for each in out[1:]]
    part = {name: median(getattr(each, name) for each in costs) for name in ("storage", "tracking", "held", "reports")}
    return SimpleNamespace(
        **part,
        what=f"{workers} worker{'s' * (workers > 1)}",
        workers=workers,
        overhead=part["storage"] + part["tracking"],
        report=part["reports"] / _EPOCHS,
        worker_cpu=sum(cpu for cpu, _ in ended) / budget,
        postgres_cpu=(after - before) / budget,
        connections=most,
        transactions=mean(each.sent["transactions of studies"] for each in costs),
        tracking_transactions=mean(each.sent["transactions of tracking"] for each in costs),
        calls=mean(each.sent["calls"] for each in costs),
    )


def _cpu(server: Postgres) -> float:
    """Return the processor seconds of PostgreSQL, of its processes that have ended too."""
    first = psutil.Process(server.server.get_pid())
    total = 0.0
    for process in (first, *first.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _connections(server: Postgres) -> int:
    with psycopg.connect(server.server.get_uri(), autocommit=True) as connection:
        row = connection.execute("select count(*) from pg_stat_activity where datname = 'studies'")
        return int((row.fetchone() or (0,))[0])


def _crowd(running: int, claims: int, parent: str) -> SimpleNamespace:
    """Let one worker claim and report where ``running`` trials of other hosts run; return medians of its trials."""
    name, storage = f"crowd-{running}", open_storage(wait=True)
    first = _run_elsewhere(storage, optuna.create_study(study_name=name, storage=storage)._study_id, running)
    _here.__dict__.pop("sent", None)
    storage.set_trial_user_attr(first, "beat", 1)
    beat = _here.__dict__.pop("sent", Counter())["transactions of studies"]
    costs = _worker(name, claims, running + claims, 0.0, parent)[1:]
    return SimpleNamespace(
        what=f"{running} running trial{'s' * (running > 1)}",
        running=running,
        held=median(each.held for each in costs),
        report=median(each.reports for each in costs) / _EPOCHS,
        beat_transactions=beat,
    )


def _run_elsewhere(storage: BaseStorage, study: int, count: int) -> int:
    """Put ``count`` running trials of another host's worker into the study: one, which is returned, and its copies."""
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
    return first


def many_workers(small: bool = False) -> list[Record | Table]:
    """Tune with 64 workers on one study in one PostgreSQL, with one worker, and with 1,000 running trials.

    Workers, PostgreSQL and the tracking store share this machine, without a tracking server in between. A trial sleeps
    instead of training; its overhead is what it takes beyond that: the claim under the study's lock, ten reports with
    the question whether to prune, and its MLflow run. Workers sample at random, so that what is measured is storage and
    tracking, not the sampler. Workers of one machine share its processor, which 64 of them without pause between
    short trials use up: what they wait for then is the processor, and its time is the figure that travels. The 1,000
    running trials are rows of workers on other hosts; one worker claims and reports among them.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres(connections=400))
        values = {
            "OPTUNA_STORAGE": server.database("studies"),
            "MLFLOW_TRACKING_URI": server.database("tracking"),
            "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "QueuePool",
        }
        stack.enter_context(mock.patch.dict(os.environ, values))
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        stack.callback(optuna.logging.set_verbosity, before)
        stack.callback(mlflow.set_tracking_uri, mlflow.get_tracking_uri())
        mlflow.set_tracking_uri(values["MLFLOW_TRACKING_URI"])
        client = MlflowClient()
        parent = client.create_run(client.create_experiment(_EXPERIMENT)).info.run_id
        count, seconds = (4, 1.0) if small else (_MANY, 30.0)
        one = _share(server, 1, 3 if small else 6, 2.0, parent)
        print(one, flush=True)
        many = _share(server, count, 2, seconds, parent)
        print(many, flush=True)
        stack.enter_context(_counting())
        few, crowded = _crowd(1, 4, parent), _crowd(20 if small else _CROWD, 4, parent)
        print(few, crowded, flush=True)
    return [*_records(one, many, few, crowded), _thousand(many, crowded)]


def _records(one: Any, many: Any, few: Any, crowded: Any) -> list[Record]:
    def record(name: str, part: str, ours: Any = many, other: Any = one, bound: float | None = None) -> Record:
        mine, theirs = 1e3 * getattr(ours, part), 1e3 * getattr(other, part)
        sides = ours.what, other.what
        return Record(name, mine, theirs, mine / theirs, "ms", bound, higher_is_better=False, sides=sides)

    return [
        record("overhead a trial, in all", "overhead"),
        record("overhead a trial, study storage", "storage"),
        record("overhead a trial, tracking", "tracking"),
        record("processor of a trial, its worker", "worker_cpu"),
        record("processor of a trial, PostgreSQL", "postgres_cpu"),
        record("a claim: the study's lock is held", "held"),
        record("a report, and whether to prune", "report"),
        record("a claim: the study's lock is held", "held", crowded, few, bound=1.5),
        record("a report, and whether to prune", "report", crowded, few),
    ]


def _thousand(many: Any, crowded: Any) -> Table:
    """Return what 1,000 workers would take, by the length of their trials: arithmetic from what was measured."""
    lengths = (60.0, 600.0, 3600.0)
    sampled = float(os.environ["MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"])
    transactions, held = many.transactions + many.tracking_transactions, 1e3 * crowded.held
    each = many.connections / many.workers
    # What it is, how much of it one trial takes, how much there is whatever the trials' length, unit, and how reckoned.
    rows: list[tuple[str, float, float, str, str]] = [
        ("trials ended", 1, 0, "/s", f"{_CROWD:,} workers / length of a trial"),
        (
            *("time that the study's lock is held", 100 * crowded.held, 0, " %"),
            f"trials/s x {held:.0f} ms, a claim among {crowded.running:,} running trials; 100 % is reached by trials "
            f"of {_CROWD * crowded.held:.0f} s, and shorter ones wait for one another",
        ),
        (
            *("transactions of PostgreSQL, trials", transactions, 0, "/s"),
            f"trials/s x {transactions:.0f}, of {_EPOCHS} epochs each: {many.transactions:.0f} of the study and "
            f"{many.tracking_transactions:.0f} of the run",
        ),
        (
            *("transactions of PostgreSQL, heartbeats", 0, _CROWD / _BEAT_SECONDS * crowded.beat_transactions, "/s"),
            f"{_CROWD:,} workers / {_BEAT_SECONDS:.0f} s x {crowded.beat_transactions:.0f}",
        ),
        (
            *("processor of PostgreSQL", many.postgres_cpu, 0, " cores"),
            f"trials/s x {1e3 * many.postgres_cpu:.0f} ms, as measured with {many.workers} workers",
        ),
        (
            *("connections to the studies' database", 0, _CROWD * each, ""),
            f"{_CROWD:,} workers x {each:.1f}, the most seen with {many.workers}: the lock's, the storage's and the "
            "heartbeat's",
        ),
        ("calls of the tracking server, trials", many.calls, 0, "/s", f"trials/s x {many.calls:.0f}"),
        (
            *("calls of the tracking server, step metrics", 0, _CROWD / _FLUSH_SECONDS, "/s"),
            f"at most {_CROWD:,} workers / {_FLUSH_SECONDS:.0f} s",
        ),
        (
            *("calls of the tracking server, system metrics", 0, _CROWD / sampled, "/s"),
            f"{_CROWD:,} workers / {sampled:.0f} s (MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL)",
        ),
    ]
    return Table(
        title=f"What {_CROWD:,} workers on one study would take",
        columns=["what", *(f"trials of {length:.0f} s" for length in lengths), "reckoned as"],
        rows=[
            [what, *(f"{number(_CROWD / length * trial + always)}{unit}" for length in lengths), how]
            for what, trial, always, unit, how in rows
        ],
    )
