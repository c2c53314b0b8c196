"""The endpoint: HTTP, the call in this process and the model alone; batches and rows; logged and not logged."""

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import mlflow
import numpy as np
import requests

from pipelines.datasets import prepare
from pipelines.params import read_params
from pipelines.simulate.__main__ import simulators
from tests.bench.measured import Record, in_turn, medians
from tests.serving import served
from training.model.predictor import Predictor

ONE_ROW = 2.0  # ms in this process, at most
MOST_LOGGED = 1.05  # an answer that is logged takes at most this times as long as one that is not


def one_row(small: bool = False) -> list[Record]:
    """Compare the answer to one row in this process with the model alone, on simulated profiles and pairs."""
    found = []
    for name, architecture in (("tumor_type", "logistic_regression"), ("drug_response", "elastic_net")):
        with tempfile.TemporaryDirectory() as folder:
            simulators()[name](Path(folder) / "raw")
            task = read_params(served.ROOT / "params.yaml").task(name)
            prepared = prepare(task.read(Path(folder) / "raw"), task, 0)
            contract = served.save_fitted(name, architecture, task, prepared, Path(folder) / "model")
            model = Predictor().read(Path(folder) / "model")
        frame = contract.request(prepared.side("test").take(np.arange(1)))
        jobs = (partial(model.predict, None, frame), partial(model.outputs, contract.read(frame)))
        whole, alone, ratio = medians(*in_turn(jobs, 5 if small else 500))
        about: dict[str, Any] = {"higher_is_better": False, "sides": ("in this process", "the model alone")}
        about |= {"bound": None if small else ONE_ROW, "bound_on": "ours"}
        found.append(Record(f"one row, {name}, {architecture}", 1e3 * whole, 1e3 * alone, ratio, "ms", **about))
    return found


def endpoint(small: bool = False, requests_each: int = 150, batch: int = 64) -> list[Record]:
    """Compare HTTP with the call in this process, batches with rows, and a logged endpoint with one that logs nothing.

    A classifier of simulated profiles; the two servers are asked in turn.
    """
    requests_each = 20 if small else requests_each
    before = mlflow.get_tracking_uri()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), contextlib.ExitStack() as stack:
        folder = Path(name)
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        stack.enter_context(mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": uri}))
        stack.callback(mlflow.set_tracking_uri, before)
        mlflow.set_tracking_uri(uri)
        task, prepared = served.profiles_prepared(1_000)
        contract = served.save_fitted(served.PROFILES, "logistic_regression", task, prepared, folder / "model")
        served.register(served.PROFILES, contract, folder / "model", prepared.samples.take(np.arange(2)))
        served.with_policy(folder)
        env = {"ONCOLINEAGE_PREDICTION_LOG": str(folder / "log"), "ONCOLINEAGE_LOG_SALT": "salt"}
        silent, _ = stack.enter_context(served.serving(folder, served.PROFILES))
        logging, _ = stack.enter_context(served.serving(folder, served.PROFILES, env=env))
        model = mlflow.pyfunc.load_model(f"models:/{served.PROFILES}@production")
        session = stack.enter_context(requests.Session())
        frames = {count: contract.request(prepared.samples.take(np.arange(count))) for count in (1, batch)}
        bodies = {count: json.dumps({"dataframe_records": f.to_dict("records")}) for count, f in frames.items()}

        def ask(url: str, count: int) -> None:
            headers = {"Content-Type": "application/json"}
            session.post(f"{url}/invocations", data=bodies[count], headers=headers).raise_for_status()

        jobs: dict[str, Callable[[], object]] = {
            "process": lambda: model.predict(frames[1]),
            "plain": lambda: ask(silent, 1),
            "logged": lambda: ask(logging, 1),
            "batch": lambda: ask(silent, batch),
            "logged batch": lambda: ask(logging, batch),
        }
        times: dict[str, list[float]] = {job: [] for job in jobs}
        order = np.random.default_rng(0)
        for _ in range(requests_each + 10):
            # At random: what a request finds in the processor's caches is what the one before it left there. Forwards
            # and backwards in turn, one of two servers of which neither logged was 4 % slower.
            for job in order.permutation(list(jobs)):
                began = time.perf_counter()
                jobs[job]()
                times[job].append(time.perf_counter() - began)
        took = {job: statistics.median(each[10:]) for job, each in times.items()}
        genes = len(frames[1]["expression"].iloc[0])
        # What one request's luck gives to one server it does not take from the other: ratios pair by pair.
        logged = {1: ("logged", "plain"), batch: ("logged batch", "batch")}
        slower = {count: medians(*(times[job][10:] for job in jobs))[2] for count, jobs in logged.items()}
    ms = {job: 1e3 * seconds for job, seconds in took.items()}
    rows, each = batch / took["batch"], 1 / took["plain"]
    name = f"endpoint, profiles of {genes} genes"
    beside: dict[str, Any] = {"unit": "ms", "higher_is_better": False, "sides": ("over HTTP", "in this process")}
    logs = beside | {"bound": None if small else MOST_LOGGED, "sides": ("logged", "not logged")}
    log = f"{name}, request log"
    return [
        Record(f"{name}, one row", ms["plain"], ms["process"], ms["plain"] / ms["process"], **beside),
        Record(f"{name}, {batch} rows", rows, each, rows / each, "rows/s", sides=("at a time", "one by one")),
        Record(f"{log}, 1 rows a request", ms["logged"], ms["plain"], slower[1], **logs),
        Record(f"{log}, {batch} rows a request", ms["logged batch"], ms["batch"], slower[batch], **logs),
    ]
