"""An epoch of a recurrent network on 5,000 genes against one on 900: windows keep it at most about linear."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pandas as pd

from pipelines.samples.expression import ExpressionSamples
from tests.bench.measured import Record
from training.architectures import get_architecture
from training.estimator import FitContext

FEW, MANY = 900, 5000
MOST = 7.0  # times as long; 5,000 / 900 is 5.6
TARGETS = 50


def profiles(rows: int, genes: int) -> ExpressionSamples:
    """Return profiles of ``genes`` predictors and `TARGETS` targets that follow a few of them."""
    rng = np.random.default_rng(0)
    values = rng.normal(6, 1, (rows, genes + TARGETS)).astype(np.float32)
    values[:, genes:] += values[:, :TARGETS]
    names = tuple(f"G{number}" for number in range(genes + TARGETS))
    ids = [f"S{row}" for row in range(rows)]
    table = pd.DataFrame({"sample_id": ids, "patient_id": ids})
    about = pd.DataFrame(index=pd.Index(names))
    samples = ExpressionSamples(table, values, np.arange(rows), names, about, "log2")
    return samples.aimed(names[genes:], names[:genes])


def epochs_of(name: str, samples: ExpressionSamples, epochs: int) -> list[float]:
    """Return the seconds of each epoch but the first, which waits for what comes before; no ridge solution is made."""
    architecture = get_architecture(name, "profiles", "multi_target")
    network = architecture.build({**architecture.defaults, "linear_start": 0.0}, epochs=epochs, seed=0, device="cpu")
    ends: list[float] = []
    network.fit(samples, None, FitContext(on_step=lambda step, metrics: ends.append(time.perf_counter())))
    return np.diff(ends).tolist()


def gene_windows(small: bool = False) -> list[Record]:
    """Time epochs of ``lstm``, its defaults, on the same number of profiles of few and of many genes, in turn."""
    rows, rounds, epochs = (192, 2, 3) if small else (1536, 3, 4)
    few, many = profiles(rows, FEW), profiles(rows, MANY)
    times: dict[int, list[float]] = {FEW: [], MANY: []}
    for turn in range(rounds):
        for samples in (few, many) if turn % 2 == 0 else (many, few):
            times[len(samples.inputs)] += epochs_of("lstm", samples, epochs)
    ours, other = statistics.median(times[MANY]), statistics.median(times[FEW])
    record = Record(
        *(f"an epoch of lstm, {rows} profiles", ours, other, ours / other, "s"),
        bound=MOST,
        higher_is_better=False,
        sides=(f"{MANY} genes", f"{FEW} genes"),
    )
    return [record]
