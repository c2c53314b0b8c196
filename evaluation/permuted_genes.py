"""The effect of the order of genes: the tuned network fitted again on genes in random order."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from evaluation.comparison.paired import Resampled, resample, subtract
from evaluation.metrics import as_metrics
from evaluation.modalities import modality_of
from evaluation.problems import measures_of
from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.formatting import interval, number
from pipelines.params import Params, Task
from pipelines.paths import REPORTS
from training.architectures import Architecture, get_architecture
from training.estimator import FitContext
from training.model.cross_fit import CrossFitted, fit_final
from training.model.final_fit import Fitted, affordable
from training.model.predictor import Predictor
from training.studies.trials import fit_settings

_HYPERPARAMETER = "permutation"


def ablate(
    fitted: Fitted, model: Predictor, predictions: pd.DataFrame, *, prepared: Prepared, params: Params, orders: int
) -> dict[str, Any]:
    """Fit the tuned hyperparameters with the genes in random order and compare on the test rows."""
    name, task = fitted.task, params.task(fitted.task)
    architecture = permutable(fitted.architecture, task)
    if orders < 1:
        raise UserError(f"--permutations is {orders}; at least 1 is needed")
    members = affordable(architecture, task.fit.members.of(fitted.budget))
    again = f"run `dvc repro fit@{name}-{fitted.architecture}`"
    if fitted.split_sha256 != prepared.sha256:
        raise UserError(f"{name} {fitted.architecture} was fitted on another split; {again}")
    its_own = len(model.estimator.members_) if isinstance(model.estimator, CrossFitted) else 1
    if its_own != members:
        raise UserError(f"{name} {fitted.architecture} has {its_own} members, fit.members asks for {members}; {again}")
    test = prepared.side("test")
    if test.table["sample_id"].tolist() != predictions["sample_id"].tolist():
        raise UserError(f"the predictions of {name} {fitted.architecture} are not of the test rows; {again}")
    _, predictions = modality_of(task.modality).resampled(predictions, prepared, task.split)
    known: dict[str, Any] = {"members": members, "settings": fit_settings(replace(params, budget=fitted.budget), task)}
    permuted = []
    for permutation in range(1, orders + 1):
        hyperparameters = {**fitted.hyperparameters, _HYPERPARAMETER: permutation}
        final = fit_final(architecture, hyperparameters, prepared, context=FitContext(progress=True), **known)
        answers = dict(zip(test.targets, final.estimator.outputs(test).T, strict=True))
        permuted.append(predictions.assign(**{f"prediction_{target}": said for target, said in answers.items()}))
    # The interval is over patients; how the gain varies with the random numbers of a fit shows between permutations.
    metric, confidence = task.evaluate.metric, task.evaluate.confidence
    known = {"resamples": task.evaluate.resamples, "seed": params.seed}
    known |= measures_of(task.problem).learnt(task, lambda: prepared.side("train"))
    reference, *others = (resample(task, frame, metric, **known) for frame in (predictions, *permuted))
    values = [other.value for other in others]
    mean = Resampled(float(np.mean(values)), np.mean([other.values for other in others], axis=0))
    size: dict[str, Any] = {"rows": len(predictions), "groups": int(predictions["group"].nunique())}
    size["confidence"] = confidence
    gain, *each = (vars(subtract(task, metric, reference, other, **size)) for other in (mean, *others))
    found: dict[str, Any] = {"task": name, "architecture": fitted.architecture, "ablation": "gene_order"}
    found |= {"run_id": fitted.run_id, "order": fitted.hyperparameters.get("order"), "members": members}
    found |= {"budget": fitted.budget, "confidence": confidence, "split.sha256": prepared.sha256}
    return {**found, "as_it_is": reference.value, "permuted": values, "gain": gain, "of_each": each}


def permutable(name: str, task: Task) -> Architecture:
    """Return the architecture ``name``, whose genes can be read in another order."""
    architecture = get_architecture(name, task.modality, task.problem)
    known = architecture.build({}).get_params(deep=False)
    if _HYPERPARAMETER not in known or "order" not in architecture.defaults:
        raise UserError(
            f"the architecture {name!r} does not look at the order of genes, so there is nothing to permute; "
            "name a recurrent network, such as lstm"
        )
    return architecture


def ablation_path(name: str, architecture: str) -> Path:
    """Return where the ablation lies; DVC would remove it from ``models/<architecture>``, an output of ``evaluate``."""
    return REPORTS / name / "ablations" / architecture / "ablation_gene_order.json"


def write_ablation(found: dict[str, Any], path: Path) -> str:
    """Write ``found``, log it to the run of the fit, with its gain as metrics, and return the outcome in a line."""
    write_json(path, found)
    gain = found["gain"]
    with tracking.run(found["task"], "evaluate", found["architecture"], run_id=found["run_id"]):
        mlflow.log_metrics(as_metrics(f"ablation/gene_order_{gain['metric']}", gain, "difference"))
        mlflow.log_artifact(str(path))
    order = f"order {found['order']!r}" if found["order"] else "the order of genes"
    alone = ", ".join(number(one["difference"], ".4f", sign="+") for one in found["of_each"])
    gained = f"test {gain['metric']} gains {interval(gain, 'difference', '.4f', sign='+')}"
    return f"{found['task']} {found['architecture']}: {gained} by {order} over random ones ({alone})"
