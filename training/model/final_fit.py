"""The final fit of a tuned architecture: logged as a model, and what it leaves for `evaluation` and `serving`."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import read_json, written_whole
from pipelines.params import Budget, Params, Task
from pipelines.problems import Problem, get_problem
from pipelines.step_metrics import sending
from training.architectures import Architecture, get_architecture
from training.contract import make_contract
from training.device import torch_device
from training.estimator import Estimator, FitContext
from training.model.cross_fit import FinalFit, fit_final
from training.model.predictor import Predictor
from training.model.reference import make_reference
from training.model.resume import Unfinished
from training.model.track import log_dataset, log_model, measured_cost, save_model
from training.studies.trials import fit_settings, step_metrics

LARGEST_MODEL = 150  # megabytes


@dataclass(frozen=True)
class Fitted:
    """What the stage leaves behind for `evaluation` and `serving`.

    Attributes
    ----------
    run_id, model_uri
        MLflow run and logged model.
    validation
        The study's metric on rows held out of the fit; what architectures are chosen by, never the test split.
    cross_validation
        ``cv_<metric>_mean`` and ``cv_<metric>_sd`` over the folds; empty where one model was fitted.
    """

    task: str
    architecture: str
    budget: Budget
    run_id: str
    model_uri: str
    hyperparameters: dict[str, Any]
    metric: str
    validation: float
    split_sha256: str
    seconds: float
    cost: dict[str, float]
    cross_validation: dict[str, float] = field(default_factory=dict)


def fit(
    name: str,
    architecture: Architecture,
    hyperparameters: dict[str, Any],
    prepared: Prepared,
    params: Params,
    folder: Path,
    *,
    study: str = "none",
) -> Fitted:
    """Fit, log and save a model.

    Parameters
    ----------
    name, architecture, hyperparameters, prepared, params
        What is fitted on what.
    folder
        Takes ``model/`` (estimator and contract) and ``predictions.parquet`` (of the test rows).
    study
        Name of the study that found the hyperparameters. A fit that was killed goes on from its checkpoint, in its run;
        one that belongs to no study begins anew.

    Raises
    ------
    UserError
        The fit diverged, or the model is larger than is served.
    Unreachable
        The tracking server stayed away for longer than `pipelines.retry.outage_seconds`; the same call goes on.
    """
    task = params.task(name)
    tags = {
        "architecture": architecture.name,
        "budget": params.budget,
        "seed": params.seed,
        "split.sha256": prepared.sha256,
        "study": study,
        "device": torch_device(params.device),
    }
    members = affordable(architecture, task.fit.members.of(params.budget))
    settings = fit_settings(params, task)
    tags |= architecture.estimator.origin(hyperparameters, settings)
    unfinished = Unfinished.of(study, task, architecture.name, hyperparameters, members, settings)
    tags |= unfinished.tags()
    begun = unfinished.run_id(name)
    with tracking.run(name, "fit", architecture.name, tags=tags, run_id=begun) as run:
        if begun is not None:  # perhaps at another commit; the model will be this one's
            tracking.retag(name, tags)
        tracking.patiently(lambda: log_dataset(name, prepared))
        tracking.patiently(lambda: mlflow.log_params({**hyperparameters, "members": members}))
        tracking.patiently(lambda: mlflow.log_metrics(_counts(prepared)))
        with sending(run.info.run_id, unfinished.spool) as steps:

            def on_step(step: int, metrics: dict[str, float]) -> None:
                steps.log(step_metrics(metrics), step)

            context = FitContext(on_step, unfinished.checkpoint, progress=True)
            began = time.perf_counter()
            final = fit_final(
                architecture, hyperparameters, prepared, members=members, settings=settings, context=context
            )
            seconds = time.perf_counter() - began
        if not np.isfinite(final.held_out).all():
            raise UserError(f"{name} {architecture.name}: the fit diverged; tune again with a narrower search space")
        naive = get_architecture(task.evaluate.baseline, task.modality, task.problem)
        baseline = fit_final(naive, {}, prepared, members=1, settings=settings).estimator
        measured = prepared.samples.target[final.held_out_rows]

        def refit(train: Any, validation: Any) -> Estimator:
            return architecture.build(hyperparameters, **settings).fit(train, validation)

        contract = make_contract(name, architecture.name, task, prepared, final, refit)
        problem = get_problem(task.problem)
        validation = problem.score(task.tune.metric, measured, final.held_out)
        reference = make_reference(contract, prepared, final)
        test = prepared.rows("test")
        with tempfile.TemporaryDirectory(prefix="oncolineage-") as temporary:
            saved = Path(temporary)
            save_model(final.estimator, baseline, contract, saved, reference)
            test_samples = prepared.samples.take(test)
            predicted, naively = final.estimator.outputs(test_samples), baseline.outputs(test_samples)
            cost = measured_cost(saved, final.estimator, test_samples, seconds)
            example = prepared.samples.take(test[:2])
            model_uri = tracking.patiently(lambda: log_model(saved, contract, example))
            shutil.rmtree(folder / "model", ignore_errors=True)
            shutil.copytree(saved, folder / "model")
        folds = cross_validated(final, prepared, problem) if members > 1 else {}
        found = {f"validation_{task.tune.metric}": validation, **contract.logged(), **cost, **folds}
        tracking.patiently(lambda: mlflow.log_metrics(found))
        _refuse_large(cost, architecture.name)
    predictions = contract.predicted(prepared.table.iloc[test], test_samples, predicted, naively)
    with written_whole(folder / "predictions.parquet") as path:
        predictions.to_parquet(path, index=False)
    unfinished.settle(name, run.info.run_id)
    return Fitted(
        name,
        architecture.name,
        params.budget,
        run.info.run_id,
        model_uri,
        hyperparameters,
        task.tune.metric,
        validation,
        prepared.sha256,
        seconds,
        cost,
        folds,
    )


def affordable(architecture: Architecture, members: int) -> int:
    """Return ``members``, or 1 where the models of so many folds would be too large to be served as one."""
    expected = architecture.estimator.expected_megabytes() if members > 1 else 0.0
    if members * expected <= LARGEST_MODEL:
        return members
    print(f"{architecture.name}: {members} members of {expected:.0f} MB exceed {LARGEST_MODEL} MB; one model is fitted")
    return 1


def follow(
    architecture: Architecture,
    hyperparameters: dict[str, Any],
    prepared: Prepared,
    params: Params,
    task: Task,
    study: str,
) -> int:
    """Take part in a fit that another process leads: the same steps, and nothing written."""
    members = affordable(architecture, task.fit.members.of(params.budget))
    settings = fit_settings(params, task)
    unfinished = Unfinished.of(study, task, architecture.name, hyperparameters, members, settings)
    context = FitContext(checkpoint=unfinished.checkpoint)
    fit_final(architecture, hyperparameters, prepared, members=members, settings=settings, context=context)
    return 0


def cross_validated(final: FinalFit, prepared: Prepared, problem: Problem) -> dict[str, float]:
    """Return the mean and the standard deviation over the folds of each metric, each fold predicted unseen."""
    fold = prepared.table["fold"].to_numpy()[final.held_out_rows]
    measured = prepared.samples.target[final.held_out_rows]
    found: dict[str, float] = {}
    for metric in problem.tunable:
        scores = [problem.score(metric, measured[fold == one], final.held_out[fold == one]) for one in np.unique(fold)]
        found |= {f"cv_{metric}_mean": float(np.mean(scores)), f"cv_{metric}_sd": float(np.std(scores, ddof=1))}
    return found


def _refuse_large(cost: dict[str, float], architecture: str) -> None:
    if cost["cost_model_megabytes"] > LARGEST_MODEL:
        raise UserError(
            f"{architecture}: the model has {cost['cost_model_megabytes']:.0f} MB, at most {LARGEST_MODEL} are served; "
            "lower fit.members in params.yaml"
        )


def read_fitted(folder: Path) -> tuple[Fitted, Predictor, pd.DataFrame]:
    """Return what `fit` and its entry point left in ``folder``: receipt, model, predictions of the test rows."""
    if not (folder / "fitted.json").is_file():
        raise UserError(
            f"{folder / 'fitted.json'} is not there; run `dvc repro fit@{folder.parent.name}-{folder.name}`"
        )
    fitted = Fitted(**read_json(folder / "fitted.json"))
    return fitted, Predictor().read(folder / "model"), pd.read_parquet(folder / "predictions.parquet")


def _counts(prepared: Prepared) -> dict[str, float]:
    """Return what was dropped, kept and imputed, as metrics of the run."""
    counts = {f"data_rows_{side}": float(n) for side, n in prepared.table["split"].value_counts().items()}
    counts |= {f"data_dropped_{rule}": float(n) for rule, n in prepared.counts["rows"]["dropped"].items()}
    counts |= {
        f"data_{each['rule']}_{field}": float(each["kept"]) for field, each in prepared.counts["without"].items()
    }
    return counts
