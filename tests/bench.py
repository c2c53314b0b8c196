"""``make bench``: speed and memory as ratios, each pair measured side by side in this run. Nothing here is a test."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipelines.params import read_params
from pipelines.prepare import Prepared, prepare
from pipelines.reading import read_samples
from pipelines.simulate import Size, simulate
from training.architectures import get_architecture
from training.estimator import FitContext
from training.loop import LoopSettings, train_network

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
    matrix = model.features_.transform(train)
    cells, drugs, cell, drug = model._tensors(matrix, torch.device("cpu"))
    target = torch.as_tensor(train.target - matrix.offset, dtype=torch.float32)
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
        lambda: epoch(lambda rows: model.network_.gathered(cells, drugs, cell[rows], drug[rows])),
        lambda: epoch(lambda rows: model.network_(cells[cell[rows]], drugs[drug[rows]])),
    )
    print(
        f"MLP epoch of {len(train)} pairs: gathered {ours:.2f} s, concatenated {other:.2f} s, {ratio:.1f} times faster"
    )


def gathered_memory(prepared: Prepared) -> None:
    """Compare the memory of XGBoost's training matrix, fed batch by batch, with the whole pair matrix."""
    from training.trees import _quantized

    train = prepared.side("train")
    model = get_architecture("xgboost").build({"components": 0, "omics": "all"}, rounds=1)
    matrix = model._features(train).transform(train)
    ours = peak_megabytes(lambda: _quantized(matrix, train.target))
    whole = peak_megabytes(lambda: matrix.gather())
    print(
        f"pair matrix of {len(train)} x {matrix.gather(slice(0, 1)).shape[1]}: fed in batches {ours:.0f} MB, ", end=""
    )
    print(f"whole {whole:.0f} MB, {whole / ours:.1f} times less memory")


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


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
