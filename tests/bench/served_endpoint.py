"""The endpoint: HTTP, the call in this process, the model alone and MLflow's own server; batches, log, many clients."""

import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import numpy as np
import psutil
import requests
from PIL import Image

from pipelines.datasets import prepare
from pipelines.files import cores
from pipelines.params import read_params
from pipelines.simulate.__main__ import simulators
from serving.login import A_MINUTE, KEYS, hashed
from serving.mlflow_private import scoring_environment
from tests.bench.measured import Record, compare, medians
from tests.empty_store import working_in
from tests.servers import free_port, listening
from tests.serving import served
from tests.training.image_samples import encoded
from training.model.predictor import Predictor

ONE_ROW = 2.0  # ms in this process, at most
MOST_OBSERVED = 1.03  # 99th percentile of an answer with login, metrics and log of requests, times that without
MOST_LOGGED = 1.05  # an answer that is logged takes at most this times as long as one that is not
MOST_ABOVE = 1.5  # milliseconds over HTTP above MLflow's server around a trivial model
LEAST_TIMES, CLIENTS = 3.0, 64  # the throughput of MLflow's server around the same model, for so many clients
JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def mlflows_server(
    folder: Path, model: Path | str, threads: int = 1, application: str = "mlflow.pyfunc.scoring_server.app:app"
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve a model by MLflow's own server, or by another application; give its URL and process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = scoring_environment(model, 60)
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--no-access-log", application]
    environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(served.ROOT)}
    with listening(command, f"{url}/ping", folder / f"mlflow-{port}.log", environment) as server:
        yield url, server


def crowd(small: bool = False) -> list[Record]:
    """Ask about an image each, 64 clients at once, beside MLflow's own server around the same model.

    EfficientNet-Lite0 on JPEGs of 224 pixels, with as many threads as cores; the two servers are asked in turn. Enough
    images are held out for the fit to choose the number of test-time views.
    """
    clients, seconds, rounds = (8, 2, 1) if small else (CLIENTS, 10, 3)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(working_in(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        task, prepared = served.images_prepared(60 if small else 300, 224)
        contract = served.save_fitted(served.IMAGES, "efficientnet_lite0", task, prepared, folder / "model")
        served.register(served.IMAGES, contract, folder / "model", prepared.samples.take(np.arange(2)))
        served.with_policy(folder)
        views = Predictor().read(folder / "model").estimator.test_views_
        files = [encoded(Image.fromarray(each), "JPEG", quality=90) for each in prepared.samples.pixels[:60]]
        bodies = [json.dumps({"dataframe_records": [{"image": file}]}).encode() for file in files]
        same = mlflow.artifacts.download_artifacts(f"models:/{served.IMAGES}@production")
        servers = {
            "ours": served.serving(folder, served.IMAGES, env={"OMP_NUM_THREADS": str(cores())}),
            "MLflow's own": mlflows_server(folder, same, cores()),
        }
        started = {name: stack.enter_context(server) for name, server in servers.items()}
        rates: dict[str, list[float]] = {name: [] for name in servers}
        took: dict[str, list[float]] = {name: [] for name in servers}
        for url, _ in started.values():  # once untimed: memory is taken, kernels are chosen
            asked_by_many(url, bodies, clients, 2)
        for _ in range(rounds):
            for name, (url, _) in started.items():
                began = time.perf_counter()
                found = asked_by_many(url, bodies, clients, seconds)
                rates[name].append(len(found) / (time.perf_counter() - began))
                took[name] += found
        peak, peak_of_other = (peak_megabytes(process.pid) for _, process in started.values())
    (ours, other, ratio), (own, theirs) = medians(*rates.values()), (float(np.quantile(t, 0.99)) for t in took.values())
    passes = f"{views} view{'s' if views > 1 else ''} of each"
    about, sides = f"endpoint, images of 224 pixels, {passes}, {clients} clients", ("ours", "MLflow's own")
    bound = None if small else LEAST_TIMES
    memory: dict[str, Any] = {"higher_is_better": False, "sides": sides}
    return [
        Record(f"{about}, throughput", ours, other, ratio, "images/s", bound=bound, sides=sides),
        Record(f"{about}, 99th percentile of an answer", own, theirs, theirs / own, "s", sides=sides),
        Record(f"{about}, peak memory", peak, peak_of_other, peak / peak_of_other, "MB", **memory),
    ]


def asked_by_many(url: str, bodies: list[bytes], clients: int, seconds: float) -> list[float]:
    """Return the seconds that each answer took, to clients that each ask for so long, one request after another.

    They share the cores with the server: `http.client` takes a third of a millisecond a request, requests more.
    """
    until, place = time.perf_counter() + seconds, urlsplit(url)

    def client(number: int) -> list[float]:
        took: list[float] = []
        with contextlib.closing(HTTPConnection(str(place.hostname), place.port, timeout=120)) as connection:
            while (began := time.perf_counter()) < until:
                connection.request("POST", "/invocations", bodies[(number + len(took)) % len(bodies)], JSON)
                answer = connection.getresponse()
                text = answer.read()
                assert answer.status == 200, text
                took.append(time.perf_counter() - began)
        return took

    with ThreadPoolExecutor(clients) as pool:
        return [each for took in pool.map(client, range(clients)) for each in took]


def peak_megabytes(process: int) -> float:
    """Return the largest resident memory that a process and those that it started have had."""
    family = [process, *(each.pid for each in psutil.Process(process).children(recursive=True))]
    states = (Path(f"/proc/{each}/status").read_text() for each in family)
    return sum(int(re.findall(r"VmHWM:\s+(\d+)", state)[0]) for state in states) / 1000


def observed(small: bool = False, requests_each: int = 5_000) -> list[Record]:
    """Compare the endpoint with login, metrics and the log of requests with one that has none of them.

    One row of a simulated profile, the servers asked in random order. A busy machine decides the last percentile alone.
    """
    requests_each = 100 if small else requests_each
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(working_in(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        task, prepared = served.profiles_prepared(1_000)
        contract = served.save_fitted(served.PROFILES, "logistic_regression", task, prepared, folder / "model")
        served.register(served.PROFILES, contract, folder / "model", prepared.samples.take(np.arange(2)))
        served.with_policy(folder)
        (folder / "api_keys").write_text("".join(f"{name} {hashed(name)}\n" for name in ("ada", "bob", "a-key")))
        env = {KEYS: str(folder / "api_keys"), A_MINUTE: "1000000"}
        files = mlflow.artifacts.download_artifacts(f"models:/{served.PROFILES}@production")
        bare = mlflows_server(folder, files, application="tests.bench.bare_endpoint:app")
        urls = [stack.enter_context(each)[0] for each in (served.serving(folder, served.PROFILES, env=env), bare)]
        session = stack.enter_context(requests.Session())
        rows = contract.request(prepared.samples.take(np.arange(1))).to_dict("records")
        body = json.dumps({"dataframe_records": rows})
        headers, order = {**JSON, "Authorization": "Bearer a-key"}, np.random.default_rng(0)

        def asked(url: str) -> float:
            began = time.perf_counter()
            session.post(f"{url}/invocations", data=body, headers=headers).raise_for_status()
            return time.perf_counter() - began

        took: list[list[float]] = [[], []]
        for _ in range(requests_each + 20):
            for side in order.permutation(2):
                took[side].append(asked(urls[side]))
    records = []
    for share, name in ((0.5, "median"), (0.99, "99th percentile")):
        ours, other = (1e3 * float(np.quantile(times[20:], share)) for times in took)
        about: dict[str, Any] = {"higher_is_better": False, "sides": ("observed, with login", "neither")}
        about["bound"] = None if small or share < 0.9 else MOST_OBSERVED
        name = f"endpoint, one row, login, metrics and log of requests, {name}"
        records.append(Record(name, ours, other, ours / other, "ms", **about))
    return records


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
        whole, alone = partial(model.predict, None, frame), partial(model.outputs, contract.read(frame))
        about: dict[str, Any] = {"unit": "ms", "value": lambda seconds: 1e3 * seconds, "higher_is_better": False}
        about |= {"bound": None if small else ONE_ROW, "bound_on": "ours", "rounds": 5 if small else 500}
        sides = ("in this process", "the model alone")
        found.append(compare(f"one row, {name}, {architecture}", whole, alone, sides=sides, **about))
    return found


def endpoint(small: bool = False, requests_each: int = 150, batch: int = 64) -> list[Record]:
    """Compare HTTP with the call in this process and MLflow's server, batches with rows, logged answers with others.

    A classifier of simulated profiles; the servers are asked in turn.
    """
    requests_each = 20 if small else requests_each
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(working_in(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        task, prepared = served.profiles_prepared(1_000)
        contract = served.save_fitted(served.PROFILES, "logistic_regression", task, prepared, folder / "model")
        served.register(served.PROFILES, contract, folder / "model", prepared.samples.take(np.arange(2)))
        served.with_policy(folder)
        env = {"ONCOLINEAGE_PREDICTION_LOG": str(folder / "log"), "ONCOLINEAGE_LOG_SALT": "salt"}
        silent, _ = stack.enter_context(served.serving(folder, served.PROFILES))
        logging, _ = stack.enter_context(served.serving(folder, served.PROFILES, env=env))
        model = mlflow.pyfunc.load_model(f"models:/{served.PROFILES}@production")
        (folder / "answer.json").write_text(json.dumps([{"label": "BRCA", "probability": 0.5, "note": None}]))
        mlflow.pyfunc.save_model(
            path=folder / "trivial",
            python_model=str(Path(__file__).with_name("constant_answer.py")),
            artifacts={"answer": str(folder / "answer.json")},
            signature=model.metadata.signature,
            pip_requirements=["mlflow"],
        )
        trivial, _ = stack.enter_context(mlflows_server(folder, folder / "trivial"))
        session = stack.enter_context(requests.Session())
        frames = {count: contract.request(prepared.samples.take(np.arange(count))) for count in (1, batch)}
        bodies = {count: json.dumps({"dataframe_records": f.to_dict("records")}) for count, f in frames.items()}

        def ask(url: str, count: int) -> None:
            session.post(f"{url}/invocations", data=bodies[count], headers=JSON).raise_for_status()

        jobs: dict[str, Callable[[], object]] = {
            "process": lambda: model.predict(frames[1]),
            "plain": lambda: ask(silent, 1),
            "trivial": lambda: ask(trivial, 1),
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
    above = beside | {"bound": None if small else MOST_ABOVE, "bound_on": "ours"}
    above["sides"] = ("above it", "a trivial model on MLflow's own server")
    log = f"{name}, request log"
    return [
        Record(f"{name}, one row", ms["plain"], ms["process"], ms["plain"] / ms["process"], **beside),
        Record(
            f"{name}, one row, above MLflow's server around a trivial model",
            ms["plain"] - ms["trivial"],
            ms["trivial"],
            ms["plain"] / ms["trivial"],
            **above,
        ),
        Record(f"{name}, {batch} rows", rows, each, rows / each, "rows/s", sides=("at a time", "one by one")),
        Record(f"{log}, 1 rows a request", ms["logged"], ms["plain"], slower[1], **logs),
        Record(f"{log}, {batch} rows a request", ms["logged batch"], ms["batch"], slower[batch], **logs),
    ]
