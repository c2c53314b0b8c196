"""What the order of genes is good for: the tuned network fitted again on genes in random order.

A recurrent network reads windows of genes one after another, so the order that it was tuned to may help it or may not.
The same hyperparameters are fitted with the order permuted, on the same rows, and score the same test rows. The fitted
model itself is the reference. Its interval says how the difference varies with the patients of the test split; how it
varies with the random numbers of a fit shows in how far the permutations are apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from evaluation.metrics.columns import Floats, encode
from evaluation.metrics.resample import Interval, group_counts, percentile_interval
from evaluation.metrics.targets import mean_over_targets, weighted_target_metrics
from evaluation.problems import columns_of
from evaluation.problems.multi_target import target_spreads
from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import jsonable, write_json
from pipelines.params import Params, Task
from pipelines.paths import REPORTS
from pipelines.problems import higher_is_better
from training.architectures import Architecture, get_architecture
from training.estimator import FitContext
from training.model.cross_fit import CrossFitted, fit_final
from training.model.final_fit import Fitted, affordable
from training.model.predictor import Predictor
from training.studies.trials import fit_settings

_HYPERPARAMETER = "permutation"


def ablate(
    name: str,
    fitted: Fitted,
    model: Predictor,
    predictions: pd.DataFrame,
    *,
    prepared: Prepared,
    params: Params,
    permutations: int,
) -> dict[str, Any]:
    """Fit the tuned hyperparameters with the genes in random order and compare on the test rows."""
    task = params.task(name)
    architecture = permutable(fitted.architecture, task)
    if permutations < 1:
        raise UserError(f"--permutations is {permutations}; at least 1 is needed")
    members = affordable(architecture, task.fit.members.of(fitted.budget))
    again = f"run `dvc repro fit@{name}-{fitted.architecture}`"
    if fitted.split_sha256 != prepared.sha256:
        raise UserError(f"{name} {fitted.architecture} was fitted on another split; {again}")
    estimator = model.estimator
    its_own = len(estimator.members_) if isinstance(estimator, CrossFitted) else 1
    if its_own != members:
        raise UserError(f"{name} {fitted.architecture} has {its_own} members, fit.members asks for {members}; {again}")
    test = prepared.side("test")
    if test.table["sample_id"].tolist() != predictions["sample_id"].tolist():
        raise UserError(f"the predictions of {name} {fitted.architecture} are not of the test rows; {again}")

    settings = fit_settings(replace(params, budget=fitted.budget), task)
    answers = [columns_of(predictions, "prediction", test.targets)]
    for permutation in range(1, permutations + 1):
        hyperparameters = {**fitted.hyperparameters, _HYPERPARAMETER: permutation}
        context = FitContext(progress=True)
        final = fit_final(architecture, hyperparameters, prepared, members=members, settings=settings, context=context)
        answers.append(final.estimator.outputs(test))
    measured = columns_of(predictions, "target", test.targets)
    scale = target_spreads(prepared.side("train").target)
    compared = compare(
        measured,
        answers[0],
        answers[1:],
        predictions["group"].to_numpy(),
        scale=scale,
        resamples=task.evaluate.resamples,
        confidence=task.evaluate.confidence,
        seed=params.seed,
    )
    return {
        "task": name,
        "architecture": fitted.architecture,
        "ablation": "gene_order",
        "run_id": fitted.run_id,
        "order": fitted.hyperparameters.get("order"),
        "permutations": permutations,
        "members": members,
        "budget": fitted.budget,
        "confidence": task.evaluate.confidence,
        "samples": len(predictions),
        "groups": int(predictions["group"].nunique()),
        "split.sha256": prepared.sha256,
        **compared,
    }


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


def compare(
    measured: np.ndarray,
    as_it_is: np.ndarray,
    permuted: Sequence[np.ndarray],
    groups: np.ndarray,
    *,
    scale: np.ndarray | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare predictions of the same rows, paired on the same resamples of groups."""
    n_groups = encode("groups", groups, len(measured))[0].size
    counts = np.vstack([np.ones((1, n_groups)), group_counts(n_groups, resamples, seed)])

    def scored(prediction: np.ndarray) -> dict[str, Floats]:
        found = weighted_target_metrics(measured, prediction, groups, counts, scale=scale)
        return {metric: mean_over_targets(values) for metric, values in found.items()}

    def interval(values: Floats) -> dict[str, float]:
        told: Interval = percentile_interval(float(values[0]), values[1:], confidence)
        return told.as_dict()

    reference, others = scored(as_it_is), [scored(prediction) for prediction in permuted]
    gains = {
        metric: (1.0 if higher_is_better(metric) else -1.0) * (values - np.stack([other[metric] for other in others]))
        for metric, values in reference.items()
    }
    return {
        "gain": {metric: interval(values.mean(axis=0)) for metric, values in gains.items()},
        "of_each": [
            {"permutation": number + 1, **{metric: interval(values[number]) for metric, values in gains.items()}}
            for number in range(len(others))
        ],
        "as_it_is": {metric: interval(values) for metric, values in reference.items()},
        "permuted": [{metric: interval(values) for metric, values in other.items()} for other in others],
    }


def ablation_path(name: str, architecture: str, reports: Path = REPORTS) -> Path:
    """Return where the ablation of an architecture lies.

    Not in ``models/<architecture>``, which is an output of the stage ``evaluate``: DVC would find it changed, run the
    stage again and remove what is not the stage's own.
    """
    return reports / name / "ablations" / architecture / "ablation_gene_order.json"


def write_ablation(found: dict[str, Any], path: Path) -> None:
    """Write ``found`` to ``path`` and log it to the run of the fit, with its gains as metrics."""
    write_json(path, found)
    metrics = {
        f"ablation_gene_order_{metric}{suffix}": interval[key]
        for metric, interval in found["gain"].items()
        for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high"))
        if np.isfinite(interval[key])
    }
    with tracking.run(found["task"], "evaluate", found["architecture"], run_id=found["run_id"]):
        mlflow.log_metrics(metrics)
        mlflow.log_artifact(str(path))


def as_text(found: dict[str, Any], metric: str) -> str:
    """Return the outcome in a line."""
    gain, each = found["gain"][metric], [one[metric]["value"] for one in found["of_each"]]
    order = f"order {found['order']!r}" if found["order"] else "the order of genes"
    alone = ", ".join("-" if value is None else f"{value:+.4f}" for value in jsonable(each))
    return (
        f"{found['task']} {found['architecture']}: test {metric} gains {gain['value']:+.4f} [{gain['low']:+.4f}, "
        f"{gain['high']:+.4f}] by {order} over random ones ({alone}); positive is better"
    )
