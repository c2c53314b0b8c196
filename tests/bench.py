"""``make bench``: speed and memory as ratios, each pair measured side by side in this run. Nothing here is a test."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import requests
import torch
from torch import nn

from pipelines.images import ImageSamples, read_images
from pipelines.params import ImageTask, read_params
from pipelines.prepare import Prepared, prepare
from pipelines.reading import read_samples
from pipelines.simulate import Size, simulate
from pipelines.simulate.cells import simulate_blood_cells
from tests.serving import served
from training.architectures import get_architecture
from training.architectures.efficientnet_lite0 import EfficientNetLite0
from training.estimator import FitContext
from training.networks.cell_network import viewed
from training.networks.loop import LoopSettings, train_network
from training.track import alone

SIZE = Size(lines=600, molecules=120, genes=500, programs=8)
ROUNDS = 5


def paired(ours: Callable[[], object], other: Callable[[], object]) -> tuple[float, float, float]:
    """Return the median seconds of both, measured in turn, and the median ratio other / ours."""
    ours(), other()
    times = []
    for _ in range(ROUNDS):
        pair = []
        for job in (ours, other):
            began = time.perf_counter()
            job()
            pair.append(time.perf_counter() - began)
        times.append(pair)
    a, b = zip(*times, strict=True)
    return statistics.median(a), statistics.median(b), statistics.median(y / x for x, y in times)


def peak_megabytes(job: Callable[[], object]) -> float:
    """Return the peak of what Python and NumPy allocate during ``job``."""
    tracemalloc.start()
    try:
        job()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def gathered_first_layer(prepared: Prepared) -> None:
    """Time a training epoch whose first layer is computed once a line and once a drug, against concatenated rows."""
    train = prepared.side("train")
    model = get_architecture("mlp").build({"components": 0, "omics": "all", "units": 256}, epochs=1, device="cpu")
    model.fit(train)
    inputs = model._inputs(train)
    (cells,), (drugs,), cell, drug = inputs.cells, inputs.drugs, inputs.cell, inputs.drug
    target = torch.as_tensor(train.target - inputs.matrix.offset, dtype=torch.float32)
    settings = LoopSettings(1, 1, 2048, 1e-3, 0.0, 0)

    def epoch(forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        network = model.network_
        train_network(
            network,
            lambda rows: nn.functional.mse_loss(forward(rows), target[rows]),
            len(train),
            None,
            settings,
            FitContext(),
        )

    ours, other, ratio = paired(
        lambda: epoch(lambda rows: model.network_.gathered((cells,), (drugs,), cell[rows], drug[rows])),
        lambda: epoch(lambda rows: model.network_((cells[cell[rows]],), (drugs[drug[rows]],))),
    )
    print(
        f"MLP epoch of {len(train)} pairs: gathered {ours:.2f} s, concatenated {other:.2f} s, {ratio:.1f} times faster"
    )


def gathered_memory(prepared: Prepared) -> None:
    """Compare the memory of XGBoost's training matrix, fed batch by batch, with the whole pair matrix."""
    from training.trees.responses import _quantized

    train = prepared.side("train")
    model = get_architecture("xgboost").build({"components": 0, "omics": "all"}, rounds=1)
    matrix = model._features(train).transform(train)
    ours = peak_megabytes(lambda: _quantized(matrix, train.target))
    whole = peak_megabytes(lambda: matrix.gather())
    print(
        f"pair matrix of {len(train)} x {matrix.gather(slice(0, 1)).shape[1]}: fed in batches {ours:.0f} MB, ", end=""
    )
    print(f"whole {whole:.0f} MB, {whole / ours:.1f} times less memory")


class EveryEpoch(EfficientNetLite0):
    """The same network without a cache: its frozen stages run over the same views anew in every epoch."""

    def _training_logits(self, train: ImageSamples, context: FitContext) -> Callable[[torch.Tensor], torch.Tensor]:
        def logits(rows: torch.Tensor) -> torch.Tensor:
            images = self._float(train.pixels[train.index[rows.numpy()]])
            views = torch.randint(self.views, (len(rows),))
            for view in views.unique():
                images[views == view] = viewed(images[views == view], int(view), self.strength)
            with torch.no_grad():
                maps, seen = self.module_.before(self._normalized(images))
            return self.module_.after(maps, seen)

        return logits

    def _frozen(self, samples: ImageSamples, view: int, strength: float, progress: bool = False) -> np.ndarray:
        return super()._frozen(alone(samples, len(samples)), view, strength)  # pixels in memory are not cached


def frozen_head_trials(trials: int = 20, epochs: int = 12) -> None:
    """Time the trials of a study in ``head`` mode, with cached features and with the backbone in every epoch."""
    task = read_params().task("blood_cell")
    assert isinstance(task, ImageTask)
    task = dataclasses.replace(task, data=dataclasses.replace(task.data, size=96))
    rng = np.random.default_rng(0)
    points: list[dict[str, Any]] = [
        {
            "learning_rate": float(10 ** rng.uniform(-3.5, -1.5)),
            "dropout": float(rng.uniform(0, 0.5)),
            "weight_decay": float(10 ** rng.uniform(-4, -0.5)),
        }
        for _ in range(trials)
    ]
    seconds, heads = [0.0, 0.0], [torch.empty(0), torch.empty(0)]
    accuracies: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # where the cache starts empty
        simulate_blood_cells(Path("raw"), per_class=40)
        samples = read_images(Path("raw"), task, cache=Path("cache")).samples
        held_out = np.arange(len(samples)) % 5 == 0
        train, validation = samples.take(~held_out), samples.take(held_out)
        settings: dict[str, Any] = {"mode": "head", "epochs": epochs, "patience": epochs, "seed": 1, "device": "cpu"}
        networks = (EfficientNetLite0, EveryEpoch)
        contexts = [FitContext() for _ in networks]
        for point in points:
            for number, network in enumerate(networks):
                began = time.perf_counter()
                fitted = network(**point, **settings).fit(train, validation, contexts[number])
                seconds[number] += time.perf_counter() - began
                accuracies[number].append(fitted.trained_.history[-1]["validation_accuracy"])
                heads[number] = fitted.module_.head.state_dict()["2.weight"]
    ours, other = (float(np.mean(each)) for each in accuracies)
    apart = sum(one != another for one, another in zip(*accuracies, strict=True))
    print(
        f"head mode, {trials} trials of {epochs} epochs, {len(train)} + {len(validation)} images of 96 px, all timed: ",
        end="",
    )
    print(f"features cached {seconds[0]:.1f} s, backbone in every epoch {seconds[1]:.1f} s, ", end="")
    print(f"{seconds[1] / seconds[0]:.1f} times faster; mean validation accuracy {ours:.4f} and {other:.4f}, ", end="")
    print(f"{apart} trials differ, weights of the last head by {(heads[0] - heads[1]).norm() / heads[1].norm():.1e}")


READER = """
from pathlib import Path
from pipelines.sources import pancan
from pipelines.sources.expression_folder import write_expression
write_expression(pancan.read(Path("matrix.tsv"), Path("clinical.csv")), Path("ours"))
"""
WHOLE_TABLE = """
import pandas as pd
table = pd.read_csv("matrix.tsv", sep="\\t", index_col="gene_id").T.astype("float32")
table.rename_axis("sample_id").reset_index().to_parquet("other.parquet", index=False)
"""
MEASURED = """
import json, resource, sys, time
began = time.perf_counter()
{job}
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([seconds, peak / 1e6]))
"""
# A new process inherits the peak of the one that starts it, and this one has loaded PyTorch: a small one starts it.
STARTED = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode)"


def write_pancan(folder: Path, genes: int, samples: int, blocks: int = 50) -> None:
    """Write a matrix and a clinical table laid out as PanCanAtlas; its rows are drawn from ``blocks`` times 2 rows."""
    rng = np.random.default_rng(0)
    patients = [f"TCGA-{number // 10_000:02d}-{number % 10_000:04d}" for number in range(samples)]
    with (folder / "clinical.csv").open("w") as file:
        file.write("bcr_patient_barcode,type\n")
        file.writelines(f"{patient},{('BRCA', 'LUAD', 'COAD')[n % 3]}\n" for n, patient in enumerate(patients))
    rows = []
    for _ in range(2 * min(blocks, genes)):
        values = rng.lognormal(5, 2, samples) - 5
        cells = [f"{value:.4f}" for value in values]
        for missing in rng.integers(samples, size=samples // 100 + 1):
            cells[missing] = "NA"
        rows.append("\t".join(cells) + "\n")
    with (folder / "matrix.tsv").open("w") as file:
        file.write("\t".join(["gene_id", *(f"{patient}-01A-11R-A000-07" for patient in patients)]) + "\n")
        for number in range(genes):
            file.write(f"G{number}|{number}\t")
            file.write(rows[number % len(rows)])


def alone_in_a_process(job: str, folder: Path) -> tuple[float, float]:
    """Return seconds and peak megabytes of a process that runs ``job`` in ``folder``; its start is not timed."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", STARTED, MEASURED.format(job=job)]
    done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def pancan_reader(genes: int = 20_531, samples: int = 11_069) -> None:
    """Compare the streaming reader of PanCanAtlas with pandas' reading, transposing and writing; once each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pancan(folder, genes, samples)
        megabytes = (folder / "matrix.tsv").stat().st_size / 1e6
        ours, memory = alone_in_a_process(READER, folder)
        other, other_memory = alone_in_a_process(WHOLE_TABLE, folder)
    print(
        f"PanCanAtlas matrix of {genes} x {samples}, {megabytes:.0f} MB: streamed {ours:.1f} s and {memory:.0f} MB, ",
        end="",
    )
    print(f"pandas {other:.1f} s and {other_memory:.0f} MB, {other / ours:.1f} times faster, ", end="")
    print(f"{other_memory / memory:.1f} times less memory")


def endpoint(requests_each: int = 150, batch: int = 64) -> None:
    """Compare HTTP with the call in this process, batches with rows, and a logged endpoint with one that logs nothing.

    A classifier of simulated profiles; the two servers are asked in turn.
    """
    before = os.environ.get("MLFLOW_TRACKING_URI"), mlflow.get_tracking_uri()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), contextlib.ExitStack() as stack:
        folder = Path(name)
        os.environ["MLFLOW_TRACKING_URI"] = uri = f"sqlite:///{folder / 'mlflow.db'}"
        mlflow.set_tracking_uri(uri)
        task, prepared = served.profiles_prepared(1_000)
        contract = served.save_fitted(served.PROFILES, "logistic_regression", task, prepared, folder / "model")
        served.register(served.PROFILES, contract, folder / "model", prepared.samples.take(np.arange(2)))
        served.with_policy(folder)
        env = {"ONCOLINEAGE_PREDICTION_LOG": str(folder / "log"), "ONCOLINEAGE_LOG_SALT": "salt"}
        plain, _ = stack.enter_context(served.serving(folder, served.PROFILES))
        logged, _ = stack.enter_context(served.serving(folder, served.PROFILES, env=env))
        model = mlflow.pyfunc.load_model(f"models:/{served.PROFILES}@production")
        session = stack.enter_context(requests.Session())
        frames = {count: contract.request(prepared.samples.take(np.arange(count))) for count in (1, batch)}
        bodies = {count: json.dumps({"dataframe_records": f.to_dict("records")}) for count, f in frames.items()}

        def ask(url: str, count: int) -> None:
            headers = {"Content-Type": "application/json"}
            session.post(f"{url}/invocations", data=bodies[count], headers=headers).raise_for_status()

        jobs: dict[str, Callable[[], object]] = {
            "process": lambda: model.predict(frames[1]),
            "plain": lambda: ask(plain, 1),
            "logged": lambda: ask(logged, 1),
            "batch": lambda: ask(plain, batch),
            "logged batch": lambda: ask(logged, batch),
        }
        times: dict[str, list[float]] = {job: [] for job in jobs}
        for number in range(requests_each + 10):
            order = list(jobs) if number % 2 else list(reversed(jobs))
            for job in order:
                began = time.perf_counter()
                jobs[job]()
                times[job].append(time.perf_counter() - began)
        took = {job: statistics.median(each[10:]) for job, each in times.items()}
        genes = len(frames[1]["expression"].iloc[0])
        # What one request's luck gives to one server it does not take from the other: ratios pair by pair.
        slower = {
            count: statistics.median(b / a for a, b in zip(times[one][10:], times[other][10:], strict=True))
            for count, one, other in ((1, "plain", "logged"), (batch, "batch", "logged batch"))
        }
    if before[0] is None:
        del os.environ["MLFLOW_TRACKING_URI"]
    else:
        os.environ["MLFLOW_TRACKING_URI"] = before[0]
    mlflow.set_tracking_uri(before[1])
    print(f"endpoint, profiles of {genes} genes: one row over HTTP {1e3 * took['plain']:.1f} ms, ", end="")
    print(f"in this process {1e3 * took['process']:.1f} ms, {took['plain'] / took['process']:.2f} times; ", end="")
    print(
        f"{batch} rows at a time {batch / took['batch']:.0f} rows/s, one by one {1 / took['plain']:.0f} rows/s, ",
        end="",
    )
    print(f"{batch * took['plain'] / took['batch']:.1f} times; logged over unlogged latency ", end="")
    print(f"{slower[1]:.3f} (1 row), {slower[batch]:.3f} ({batch} rows)")


def main() -> None:
    """Run all benchmarks on simulated data."""
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, medians of {ROUNDS} paired runs\n")
    task = read_params().task("drug_response")
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), SIZE)
        relaxed = dataclasses.replace(task, validate=dataclasses.replace(task.validate, minimum_rows=1))
        prepared = prepare(read_samples(folder, relaxed), relaxed, seed=1)
    gathered_first_layer(prepared)
    gathered_memory(prepared)
    frozen_head_trials()
    pancan_reader()
    endpoint()


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
