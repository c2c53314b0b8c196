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
import pandas as pd

from pipelines.datasets import prepare
from pipelines.simulate.response import Size, simulate_drug_response
from serving.bulk import parts_of
from tests.bench.measured import Record
from tests.empty_store import empty_store
from tests.serving.served import register, save_fitted
from tests.training.tiny import NAME, ROOT, response_task, tiny_params
from training.model.predictor import Predictor

REQUEST = 512
PAIRS, SECONDS, MEGABYTES = 1_000_000, 600.0, 2_000.0
MODEL = "xgboost"


def write_screen(folder: Path, raw: Path, lines: int, drugs: int, seed: int = 0) -> None:
    """Write an unlabelled folder: the cell lines of ``raw`` with noise, and chains of its molecules."""
    rng = np.random.default_rng(seed)
    names = [f"line {number}" for number in range(lines)]
    folder.mkdir()
    for omics in ("expression", "mutation", "copy_number", "methylation"):
        table = pd.read_parquet(raw / f"{omics}.parquet").drop(columns="cell_line_id")
        values = table.to_numpy(np.float32)[np.arange(lines) % len(table)]
        if omics != "mutation":
            values = np.clip(values + rng.normal(0, 0.01, values.shape), 0, 1 if omics == "methylation" else 20)
        made = pd.DataFrame(values, columns=table.columns, index=pd.Index(names, name="cell_line_id"))
        made.astype(np.float32).reset_index().to_parquet(folder / f"{omics}.parquet", index=False)
    smiles = pd.read_csv(raw / "drugs.csv")["smiles"].dropna().unique().tolist()
    chains = [f"{'C' * (number // len(smiles))}{smiles[number % len(smiles)]}" for number in range(drugs)]
    pd.DataFrame({"drug_id": [f"drug {number}" for number in range(drugs)], "smiles": chains}).to_csv(
        folder / "drugs.csv", index=False
    )


# In a process of its own: one that is started by this one is said to have had its memory.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def command(folder: Path, data: Path, uri: str) -> tuple[float, float]:
    """Return seconds and peak memory, in MB, of the command in a new process."""
    given = ["-m", "serving.predict", "--task", NAME, "--data", str(data), "--out", f"{data}-answers"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri, "ONCOLINEAGE_LOG_SALT": "salt"}
    began = time.perf_counter()
    measured = [sys.executable, "-c", MEASURED, sys.executable, *given]
    done = subprocess.run(measured, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - began, int(done.stdout) / 1e3


def bulk_prediction(small: bool = False) -> list[Record]:
    """Measure `make predict` of boosted trees on 1,000 cell lines with 1,000 drugs, beside the same pairs in requests.

    The command is a new process that also checks files and writes answers and log. A request has 512 pairs, as many as
    the endpoint takes, is in memory, and is answered in this process; the seconds of a few of them are scaled.
    """
    lines, drugs = (60, 50) if small else (1_000, 1_000)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, raw = Path(name), Path(name) / "raw"
        stack.callback(mlflow.set_tracking_uri, mlflow.get_tracking_uri())
        uri = empty_store(folder)
        mlflow.set_tracking_uri(uri)
        simulate_drug_response(raw, Size())
        task = response_task(tiny_params())
        prepared = prepare(task.read(raw), task, 0)
        contract = save_fitted(NAME, MODEL, task, prepared, folder / "model")
        register(NAME, contract, folder / "model", prepared.samples.take(np.arange(2)))
        (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        write_screen(folder / "tenth", raw, lines, drugs // 10)
        write_screen(folder / "screen", raw, lines, drugs)
        model = Predictor().read(folder / "model")
        part = next(part for _, part in parts_of(folder / "screen", model.contract, lambda number: True))
        frames = [
            part.frame[start : start + REQUEST].reset_index(drop=True) for start in range(0, 5 * REQUEST, REQUEST)
        ]
        model.predict(None, frames[0])
        began = time.perf_counter()
        asked = sum(len(model.predict(None, frame)) for frame in frames if len(frame))
        each = (time.perf_counter() - began) / asked
        _, least = command(folder, folder / "tenth", uri)
        seconds, memory = command(folder, folder / "screen", uri)
    count = lines * drugs
    what = f"bulk prediction, {MODEL}, {lines:,} cell lines with {drugs:,} drugs"
    ours, other = (PAIRS * cost for cost in (seconds / count, each))
    asks: dict[str, Any] = {"higher_is_better": False, "bound_on": "ours"}
    sides = ("make predict", f"requests of {REQUEST}")
    times = Record(f"{what}, for a million pairs", ours, other, ours / other, "s", sides=sides, **asks)
    peak = Record(f"{what}, peak", memory, least, memory / least, "MB", sides=("all", "a tenth of the drugs"), **asks)
    bounds = (None, None) if small else (SECONDS, MEGABYTES)
    return [replace(record, bound=bound) for record, bound in zip((times, peak), bounds, strict=True)]
