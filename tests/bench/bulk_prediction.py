"""Bulk prediction of pairs: seconds and memory of the command, beside the same pairs in requests."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow.parquet

from pipelines.datasets import prepare
from pipelines.simulate.response import Size, simulate_drug_response
from serving.bulk import parts_of
from tests.bench.measured import Record
from tests.empty_store import empty_store
from tests.serving.served import register, save_fitted
from tests.training.tiny import NAME, ROOT, response_task, tiny_params
from training.model.predictor import Predictor

PAIRS, SECONDS, MEGABYTES = 1_000_000, 600.0, 2_000.0
REQUEST, REQUESTS = 512, 5
MODEL = "xgboost"
# In a process of its own: one that is started by this one is said to have had its memory.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def command(folder: Path, data: Path, uri: str) -> tuple[int, float, float]:
    """Return the answers, seconds and peak memory, in MB, of the command in a new process."""
    given = ["-m", "serving.predict", "--task", NAME, "--data", str(data), "--out", f"{data}-answers"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri, "ONCOLINEAGE_LOG_SALT": "salt"}
    began = time.perf_counter()
    measured = [sys.executable, "-c", MEASURED, sys.executable, *given]
    done = subprocess.run(measured, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True)
    seconds, parts = time.perf_counter() - began, Path(f"{data}-answers", "answers").glob("part-*.parquet")
    return sum(pyarrow.parquet.read_metadata(part).num_rows for part in parts), seconds, int(done.stdout) / 1e3


def screen(folder: Path, lines: int, molecules: int) -> Path:
    """Simulate every line with half as many drugs again as there are molecules, without labels."""
    simulate_drug_response(folder, Size(lines=lines, molecules=molecules), seed=8)
    (folder / "response.parquet").unlink()
    return folder


def bulk_prediction(small: bool = False) -> list[Record]:
    """Measure `make predict` of boosted trees on a million pairs, beside as many pairs in requests.

    The command is a new process that also checks files and writes answers and log. A request has 512 pairs, as many as
    the endpoint takes, is in memory, and is answered in this process; the seconds of a few of them are scaled.
    """
    lines, molecules = (60, 40) if small else (2_600, 280)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        stack.callback(mlflow.set_tracking_uri, mlflow.get_tracking_uri())
        uri = empty_store(folder)
        mlflow.set_tracking_uri(uri)
        simulate_drug_response(folder / "raw", Size())
        task = response_task(tiny_params())
        prepared = prepare(task.read(folder / "raw"), task, 0)
        contract = save_fitted(NAME, MODEL, task, prepared, folder / "model")
        register(NAME, contract, folder / "model", prepared.samples.take(np.arange(2)))
        (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        few, data = screen(folder / "few", lines // 10, molecules), screen(folder / "all", lines, molecules)
        model = Predictor().read(folder / "model")
        part = next(parts_of(data, model.contract))()
        frames = [part.frame[at : at + REQUEST].reset_index(drop=True) for at in range(0, REQUESTS * REQUEST, REQUEST)]
        began = time.perf_counter()
        each = sum(len(model.predict(None, frame)) for frame in frames) / (time.perf_counter() - began)
        _, _, least = command(folder, few, uri)
        count, seconds, memory = command(folder, data, uri)
    what = f"bulk prediction, {MODEL}, {count:,} pairs of {lines:,} cell lines"
    asks: dict[str, Any] = {"higher_is_better": False, "bound_on": "ours"}
    ours, other = PAIRS / count * seconds, PAIRS / each
    times = Record(
        f"{what}, a million", ours, other, ours / other, "s", sides=("the command", "requests of 512"), **asks
    )
    peak = Record(f"{what}, peak", memory, least, memory / least, "MB", sides=("all", "a tenth of the lines"), **asks)
    bounds = (None, None) if small else (SECONDS, MEGABYTES)
    return [replace(record, bound=bound) for record, bound in zip((times, peak), bounds, strict=True)]
