"""Overhead of storage and tracking a trial: ``python -m tests.bench_tuning`` prints it for 1 and for 64 workers.

Workers are threads with a storage, a lock and an MLflow client of their own, spread over processes; a trial sleeps, so
that what it takes beyond its sleep is the overhead. Everything shares one PostgreSQL on this machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
import time
from statistics import median

import optuna

from tests.training.postgres import postgres
from training.claims import work
from training.study_storage import open_storage, study_lock

_THREADS = 16  # in a process


def _worker(study: str, budget: int, seconds: float, experiment: str, out: list[float]) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient()
    tracked = 0.0

    def objective(trial: optuna.Trial) -> float:
        nonlocal tracked
        x = trial.suggest_float("x", 0, 1)
        time.sleep(seconds)
        began = time.perf_counter()
        run = client.create_run(experiment, tags={"trial.origin": str(trial.number)}).info.run_id
        trial.set_user_attr("mlflow_run_id", run)
        metrics = [Metric("step_validation_rmse", x, int(time.time() * 1000), step) for step in range(10)]
        client.log_batch(run, metrics=metrics, params=[Param("x", str(x))])
        client.set_terminated(run)
        tracked = time.perf_counter() - began
        trial.set_user_attr("tracked", tracked)
        return x

    found = optuna.load_study(study_name=study, storage=open_storage(wait=True))
    found.sampler = optuna.samplers.RandomSampler()
    last = time.perf_counter()

    def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        nonlocal last
        now = time.perf_counter()
        out.append(now - last - seconds)
        out.append(tracked)
        last = now

    work(found, objective, budget, study_lock(study), callbacks=[after])


def _process(study: str, threads: int, budget: int, seconds: float, experiment: str, queue: object) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    outs: list[list[float]] = [[] for _ in range(threads)]
    each = [threading.Thread(target=_worker, args=(study, budget, seconds, experiment, out)) for out in outs]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
    queue.put(outs)  # type: ignore[attr-defined]


def measure(workers: int, trials: int, seconds: float, experiment: str) -> dict[str, float]:
    """Return seconds a trial beyond its sleep, and the trials a second of all workers together."""
    name = f"bench-{workers}"
    optuna.create_study(study_name=name, storage=open_storage(wait=True))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    share = [min(_THREADS, workers - start) for start in range(0, workers, _THREADS)]
    processes = [
        context.Process(target=_process, args=(name, threads, workers * trials, seconds, experiment, queue))
        for threads in share
    ]
    for process in processes:
        process.start()
    outs = [out for _ in processes for out in queue.get()]
    for process in processes:
        process.join()
    done = optuna.load_study(study_name=name, storage=open_storage(wait=True)).get_trials(deepcopy=False)
    assert len(done) == workers * trials, "the budget is exact"
    # The first of each worker pays for connections and caches.
    overhead = [value for out in outs for value in out[2::2]]
    tracking = [value for out in outs for value in out[3::2]]
    times = [(trial.datetime_start, trial.datetime_complete) for trial in done]
    wall = (max(end for _, end in times if end) - min(start for start, _ in times if start)).total_seconds()
    return {
        "workers": workers,
        "trials": len(done),
        "overhead_s": median(overhead),
        "tracking_s": median(tracking),
        "storage_s": median(overhead) - median(tracking),
        "trials_per_second": len(done) / wall,
    }


def main() -> None:
    """Measure one worker and many, side by side, and print one line of JSON each and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--trials", type=int, default=5, help="of each worker")
    parser.add_argument("--seconds", type=float, default=5.0, help="that a trial sleeps")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with postgres(connections=400) as server:
        os.environ["OPTUNA_STORAGE"] = server.database("studies")
        os.environ["MLFLOW_TRACKING_URI"] = server.database("tracking")
        os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "QueuePool"
        from mlflow import MlflowClient

        experiment = MlflowClient().create_experiment("bench")
        one, many = (
            measure(count, arguments.trials, arguments.seconds, experiment) for count in (1, arguments.workers)
        )
        for each in (one, many):
            print(json.dumps({key: round(value, 4) for key, value in each.items()}), flush=True)
        print(json.dumps({"ratio_of_overhead": round(many["overhead_s"] / one["overhead_s"], 2)}))


if __name__ == "__main__":
    main()
