"""Bulk prediction of pairs: seconds and memory of the command, beside the same pairs in requests."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from pipelines.datasets import prepare
from pipelines.simulate.response import Size, simulate_drug_response
from serving.bulk import parts_of
from tests.bench.measured import Record, in_a_process
from tests.empty_store import working_in
from tests.serving.served import register, save_fitted
from tests.training.tiny import NAME, ROOT, response_task, tiny_params
from training.model.predictor import Predictor

PAIRS, SECONDS, MEGABYTES = 1_000_000, 600.0, 2_000.0
REQUEST, REQUESTS = 512, 5
MODEL = "xgboost"


def command(data: Path) -> tuple[int, float, float]:
    """Return the answers, seconds and peak memory, in MB, of the command in a new process."""
    out = f"{data}-answers"
    found = in_a_process("-m", "serving.predict", "--task", NAME, "--data", str(data), "--out", out)
    return sum(
        pyarrow.parquet.read_metadata(part).num_rows for part in Path(out, "answers").glob("part-*.parquet")
    ), *found


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
    with tempfile.TemporaryDirectory() as name, working_in(Path(name), ONCOLINEAGE_LOG_SALT="salt") as folder:
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
        (_, _, least), (count, seconds, memory) = command(few), command(data)
    what, ours, other = (
        f"bulk prediction, {MODEL}, {count:,} pairs of {lines:,} cell lines",
        PAIRS / count * seconds,
        PAIRS / each,
    )
    asks: dict[str, Any] = {"higher_is_better": False, "bound_on": "ours"}
    times, peak = ("s", None if small else SECONDS), ("MB", None if small else MEGABYTES)
    return [
        Record(
            f"{what}, a million", ours, other, ours / other, *times, sides=("the command", "requests of 512"), **asks
        ),
        Record(f"{what}, peak", memory, least, memory / least, *peak, sides=("all", "a tenth of the lines"), **asks),
    ]
