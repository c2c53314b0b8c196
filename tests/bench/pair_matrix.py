"""Pairs of a line and a drug kept apart as long as may be, against rows in which both stand: time and memory."""

from __future__ import annotations

import dataclasses
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pipelines.datasets import Prepared, prepare
from pipelines.params import read_params
from pipelines.simulate.response import Size, simulate_drug_response
from tests.bench.measured import Record, paired
from training.architectures import get_architecture
from training.estimator import FitContext
from training.networks.loop import TrainingChoices, train_network

SIZE = Size(lines=600, molecules=120, genes=500, programs=8)


def peak_megabytes(job: Callable[[], object]) -> float:
    """Return the peak of what Python and NumPy allocate during ``job``."""
    tracemalloc.start()
    try:
        job()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def first_layer(prepared: Prepared) -> Record:
    """Time a training epoch whose first layer is computed once a line and once a drug, against concatenated rows."""
    train = prepared.side("train")
    model = get_architecture("mlp", "pairs", "regression").build(
        {"components": 0, "omics": "all", "units": 256}, epochs=1, device="cpu"
    )
    model.fit(train)
    inputs = model._inputs(train)
    (cells,), (drugs,), cell, drug = inputs.cells, inputs.drugs, inputs.cell, inputs.drug
    target = torch.as_tensor(train.target - inputs.matrix.offset, dtype=torch.float32)
    settings = TrainingChoices(epochs=1, patience=1, batch_size=2048, learning_rate=1e-3, weight_decay=0.0)

    def epoch(forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        network = model.network_
        train_network(
            network,
            lambda rows: nn.functional.mse_loss(forward(rows), target[rows]),
            len(train),
            None,
            settings=settings,
            context=FitContext(),
        )

    ours, other, ratio = paired(
        lambda: epoch(lambda rows: model.network_.gathered((cells,), (drugs,), cell[rows], drug[rows])),
        lambda: epoch(lambda rows: model.network_((cells[cell[rows]],), (drugs[drug[rows]],))),
    )
    return Record(*(f"MLP epoch of {len(train)} pairs", ours, other, ratio, "s"), sides=("gathered", "concatenated"))


def memory(prepared: Prepared) -> Record:
    """Compare the memory of XGBoost's training matrix, fed batch by batch, with the whole pair matrix."""
    train = prepared.side("train")
    model = get_architecture("xgboost", "pairs", "regression").build({"components": 0, "omics": "all"}, rounds=1)
    matrix = model._features(train).fit(train).transform(train)
    ours = peak_megabytes(lambda: model._quantized(matrix, train.target))
    whole = peak_megabytes(lambda: matrix.gather())
    name = f"XGBoost's pair matrix of {len(train)} x {matrix.gather(slice(0, 1)).shape[1]}, memory"
    return Record(name, ours, whole, whole / ours, "MB", sides=("fed in batches", "whole"))


def gathered(small: bool = False) -> list[Record]:
    """Compute a network's first layer once a line and once a drug, and feed XGBoost its pairs in batches."""
    task = read_params().task("drug_response")
    with tempfile.TemporaryDirectory() as folder:
        simulate_drug_response(Path(folder), SIZE)
        relaxed = dataclasses.replace(task, validate=dataclasses.replace(task.validate, minimum_rows=1))
        prepared = prepare(relaxed.read(folder), relaxed, seed=1)
    records = [first_layer(prepared), memory(prepared)]
    for record in records:
        print(record.line(), flush=True)
    return records
