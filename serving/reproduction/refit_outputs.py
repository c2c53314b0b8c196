"""Write the outputs of two models for a worktree's test rows; a script that runs with the worktree's own code.

``python -P refit_outputs.py TASK MODEL OTHER OUT``: artifact folders of two models, and an ``.npz`` to write. It must
run with the code of every commit of the platform.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.params import read_params

try:  # the module of the commit
    from pipelines.datasets import read_prepared
except ImportError:
    try:
        from pipelines.prepared import read_prepared  # type: ignore[import-untyped, no-redef]
    except ImportError:
        from pipelines.prepare import read_prepared  # type: ignore[attr-defined, no-redef]


def _predictor() -> Any:
    """Return a predictor of the commit's code."""
    try:
        module = importlib.import_module("training.model.predictor")
    except ModuleNotFoundError:
        module = importlib.import_module("training.predictor")
    return module.Predictor()


def main(task: str, folder: str, other: str, out: str) -> None:
    """Write ``first`` and ``second``, the calibrated outputs, and ``naive``, those of the second's baseline."""
    prepared = read_prepared(task, read_params().task(task))
    rows = prepared.rows("test")
    samples = prepared.samples.take(rows)
    table = prepared.table.iloc[rows]
    second = _predictor().read(Path(other))
    arrays = {
        "first": _predictor().read(Path(folder)).outputs(samples),
        "second": second.outputs(samples),
        "naive": second.baseline.outputs(samples),
        "target": np.asarray(samples.target),
        "sample_id": table["sample_id"].to_numpy(str),
    }
    if "drug_id" in table:
        arrays["drug_id"] = table["drug_id"].to_numpy(str)
    arrays["params_sha256"] = np.array(_params_sha256(task))
    np.savez(out, allow_pickle=False, **arrays)


def _params_sha256(task: str) -> str:
    """Return the hash of the task's parameters by the commit's code; empty where no known module computes it."""
    for module in (
        "evaluation.evidence.build",
        "evaluation.evidence.measuring",
        "evaluation.measuring",
        "evaluation.evaluate",
    ):
        with contextlib.suppress(ImportError, AttributeError):
            return str(importlib.import_module(module).params_sha256(read_params(), task))
    return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
