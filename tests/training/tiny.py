"""What the tests of the room share: a simulated task small enough to fit every architecture in a second."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.datasets import Prepared, prepare
from pipelines.modalities.pairs import PairsTask
from pipelines.params import Params, PerBudget, Task, read_params, task_text
from pipelines.samples.response import ResponseSamples, make_samples, required_fields
from pipelines.simulate.response import Size, simulate_drug_response
from pipelines.tasks.pairs_classification import PairsClassification, SensitivityData, Threshold
from training.architectures import Architecture, get_architecture
from training.contract import contract_class
from training.estimator import Estimator

ROOT = Path(__file__).parents[2]
NAME = "drug_response"
SIZE = Size(lines=36, molecules=8, genes=30, programs=2)

FittedModel = Callable[[str], Estimator]

# What makes a fit small, by the name of the constructor's argument; whatever an architecture lacks is left out.
SMALL: dict[str, Any] = {"batch_size": 64, "units": 32, "trees": 20}


def tiny_params(*, trials: int = 3, epochs: int = 10, rounds: int = 40, **tuning: Any) -> Params:
    """Return the repository's parameters with small budgets."""
    params = read_params(ROOT / "params.yaml")
    small = {"trials": trials, "epochs": epochs, "rounds": rounds}
    tuning |= {name: PerBudget(value, value) for name, value in small.items()}
    task = params.task(NAME)
    return with_task(replace(params, budget="quick", device="cpu"), replace(task, tune=replace(task.tune, **tuning)))


def response_task(params: Params) -> PairsTask:
    task = params.task(NAME)
    assert isinstance(task, PairsTask)
    return task


def with_task(params: Params, task: Task) -> Params:
    """Return ``params`` with another task of the same name."""
    return replace(params, tasks={**params.tasks, NAME: task})


def tiny_prepared(folder: Path, mode: str = "cell_blind") -> Prepared:
    """Simulate a raw folder and split it; the same every time."""
    params = tiny_params()
    task = params.task(NAME)
    task = replace(task, split=replace(task.split, mode=mode))
    simulate_drug_response(folder, SIZE)
    return prepare(task.read(folder), task, params.seed)


def build(architecture: Architecture | str, point: Mapping[str, Any] | None = None, **settings: Any) -> Estimator:
    """Return a small unfitted estimator with an architecture's hyperparameters, its defaults but for ``point``.

    A name alone is that of a regressor of responses.
    """
    if isinstance(architecture, str):
        architecture = get_architecture(architecture, "pairs", "regression")
    chosen = {**architecture.defaults, **(point or {})}
    chosen.update({key: value for key, value in SMALL.items() if key in chosen})
    others = {"rounds": 40, "epochs": 10, "seed": 3, "device": "cpu", **SMALL, **settings}
    return architecture.build(chosen, **{key: value for key, value in others.items() if key not in chosen})


def changed(samples: ResponseSamples, rows: np.ndarray) -> ResponseSamples:
    """Return ``samples`` with other targets at ``rows``, and other features of the lines and drugs found only there."""
    rng = np.random.default_rng(5)
    others = np.setdiff1d(np.arange(len(samples)), rows)
    lines = np.setdiff1d(samples.cell[rows], samples.cell[others])
    drugs = np.setdiff1d(samples.drug[rows], samples.drug[others])
    pairs = samples.pairs.copy()
    pairs.loc[pairs.index[rows], "target"] = rng.normal(50, 20, len(rows)).astype(np.float32)
    omics = {}
    for name, table in samples.omics.items():
        values = table.to_numpy(copy=True)
        values[lines] = rng.uniform(20, 90, (len(lines), values.shape[1]))
        omics[name] = pd.DataFrame(values, index=table.index, columns=table.columns)
    cell_lines, drug_table = samples.cell_lines.copy(), samples.drugs.copy()
    cell_lines.loc[cell_lines.index[lines], "tissue"] = "a tissue of the test rows"
    drug_table.loc[drug_table.index[drugs], "smiles"] = "CCCCCCCCCCCC"
    return replace(samples, pairs=pairs, cell_lines=cell_lines, drugs=drug_table, omics=omics)


def question(samples: ResponseSamples, *, line: str, drug: str, smiles: str | None) -> ResponseSamples:
    """Return one unlabeled sample: line 0's profile under the id ``line``, and a drug."""
    omics = {
        name: pd.DataFrame(table.to_numpy()[:1], index=pd.Index([line]), columns=table.columns)
        for name, table in samples.omics.items()
    }
    return make_samples(
        pd.DataFrame({"cell_line_id": [line], "drug_id": [drug]}),
        pd.DataFrame({"tissue": samples.cell_lines["tissue"].to_numpy()[:1]}, index=pd.Index([line])),
        pd.DataFrame({"smiles": pd.Series([smiles], index=[drug], dtype=object)}),
        omics,
    )


def response_contract(architecture: str, prepared: Prepared) -> Any:
    """Return a contract as the fit stage writes it."""
    task, of = response_task(tiny_params()), get_architecture(architecture, "pairs", "regression").estimator
    required = required_fields(task.data.missing, task.data.omics)
    own: dict[str, Any] = {"task": NAME, "architecture": architecture, "baseline": task.evaluate.baseline}
    own |= {"task_text": task_text(task), "target": task.data.target, "half_width": 1.0, "coverage": 0.9}
    own["features"] = {omics: list(map(str, table)) for omics, table in prepared.samples.omics.items()}
    own["required"] = [each for each in required if not (of.masks_omics and each in task.data.omics)]
    return contract_class("pairs", "regression")(**own)


def rmse(prediction: np.ndarray, target: np.ndarray) -> float:
    return float(np.sqrt(np.mean((prediction - target) ** 2)))


def sensitivity_task(task: PairsTask, threshold: Threshold) -> PairsClassification:
    """Return ``task`` as a classification by thresholds that ``threshold`` says how to learn."""
    own = {field.name: getattr(task, field.name) for field in fields(task)} | {"problem": "classification"}
    own["data"] = SensitivityData(**vars(task.data), threshold=threshold)
    own["tune"] = replace(task.tune, metric="log_loss")
    own["evaluate"] = replace(task.evaluate, metric="roc_auc")
    return PairsClassification(**own)
