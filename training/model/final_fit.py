"""The stage ``fit``: the final fit of a tuned architecture, logged as a model with its test predictions."""

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Run

from pipelines import tracking
from pipelines.code_closure import closure
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import read_json, written_whole
from pipelines.params import Budget, Params, Task
from pipelines.problems import Problem, get_problem
from pipelines.step_metrics import sending
from training.architectures import STACK, Architecture
from training.device import torch_device
from training.estimator import FitContext
from training.model.calibrated import Calibrated, fit_calibrated, validation_score
from training.model.cost import measured_cost, metrics_of_cost
from training.model.cross_fit import FinalFit, fit_final
from training.model.predictor import Predictor
from training.model.rotation import ROTATION, Rotated, is_rotated, rotate
from training.model.track import (
    Reference,
    log_datasets,
    log_model,
    make_reference,
    model_id,
    save_model,
)
from training.studies.trials import CHECKPOINTS, fit_settings, run_tags, runs_of, step_metrics

LARGEST_MODEL = 150  # megabytes
FIT_ORIGIN = "fit.origin"  # tag of the run; the fit writes its value into a file before it opens the run


@dataclass(frozen=True)
class Fitted:
    """The receipt of the stage, for `evaluation` and `serving`."""

    task: str
    architecture: str
    budget: Budget
    run_id: str
    model_uri: str
    hyperparameters: dict[str, Any]
    metric: str
    validation: float  # the metric on held-out rows, by which architectures are chosen; never on the test split
    split_sha256: str
    seconds: float
    cost: dict[str, float]
    cross_validation: dict[str, float] = field(default_factory=dict)  # mean and sd over the folds; empty for one model
    federated: dict[str, Any] = field(default_factory=dict)  # `training.federated.server.Federated.about`


def fit(
    name: str,
    architecture: Architecture,
    hyperparameters: dict[str, Any],
    *,
    prepared: Prepared,
    params: Params,
    folder: Path,
    study: str = "none",
    tune: Callable[..., Any] | None = None,
    elsewhere: Callable[..., FinalFit] | None = None,
    called: str = "",
) -> Fitted:
    """Fit, log and save a model and its test predictions in ``folder``; UserError if it diverged or is too large.

    ``elsewhere`` stands in the place of `fit_final`. A model that is ``called`` otherwise than its architecture has
    one member.
    """
    task = params.task(name)
    metric, rotated = task.tune.metric, is_rotated(architecture.name, task, prepared)
    asked = _asked(architecture, hyperparameters, params, task)
    if elsewhere is not None and rotated:
        raise UserError(f"{name}: a rotation over all groups cannot be fitted elsewhere; set split.fewest_groups: 0")
    if called:
        asked["members"] = 1
    called = called or architecture.name
    members = asked["members"]
    files = Unfinished.of(study, task, architecture=architecture.name, **asked)
    tags = run_tags(architecture, params, split=prepared.sha256, study=study) | files.tags() | {"architecture": called}
    tags |= {"device": torch_device(params.device), "tune.metric": metric}
    tags |= architecture.origin(hyperparameters, asked["settings"])
    begun = next((run.info.run_id for run in files.runs(name)), None)
    with tracking.run(name, "fit", called, tags=tags, run_id=begun) as run:
        if begun is not None:  # perhaps at another commit; the model will be this one's
            tracking.retag(name, tags)
        tracking.patiently(lambda: log_datasets(name, prepared))
        tracking.patiently(lambda: mlflow.log_params({**hyperparameters, "members": members}))
        with sending(run.info.run_id, files.file("metrics.jsonl")) as steps:
            context = FitContext(lambda step, of: steps.log(step_metrics(of), step), files.file("pt"), progress=True)
            own: dict[str, Any] = {"asked": asked, "context": context, "how": elsewhere or fit_final}
            fitted = fit_calibrated(name, architecture, task, prepared, **own)
        final, contract = fitted.final, fitted.contract
        validation = validation_score(final, prepared, task, metric, params.seed)
        samples = prepared.samples.take(prepared.tested)
        model_uri, cost = _log(fitted, samples, make_reference(contract, prepared, final), folder)
        _refuse_large(cost, architecture.name, max(LARGEST_MODEL, params.policy.gate.megabytes))
        if rotated:
            how: dict[str, Any] = {"asked": asked, "files": files, "folder": folder, "run_id": run.info.run_id}
            predictions = _rotated(name, architecture, fitted, prepared, params, tune=tune, **how)
        else:
            predictions = tested(fitted, prepared)
            shutil.rmtree(folder / ROTATION, ignore_errors=True)  # of the task before it had groups enough
        folds = cross_validated(final, prepared, get_problem(task.problem)) if members > 1 else {}
        found = {f"validation/{metric}": validation, **contract.logged(), **metrics_of_cost(cost)}
        found |= {key.replace("cv_", "cross_validation/"): value for key, value in folds.items()}
        tracking.patiently(lambda: mlflow.log_metrics(found, model_id=model_id(model_uri)))
    with written_whole(folder / "predictions.parquet") as path:
        predictions.to_parquet(path, index=False)
    files.settle(name, run.info.run_id)
    return Fitted(
        task=name,
        architecture=called,
        budget=params.budget,
        run_id=run.info.run_id,
        model_uri=model_uri,
        hyperparameters=hyperparameters,
        metric=metric,
        validation=validation,
        split_sha256=prepared.sha256,
        seconds=fitted.seconds,
        cost=cost,
        cross_validation=folds,
    )


@dataclass(frozen=True)
class Unfinished:
    """Files of a fit in ``checkpoints/fit/``, by question and code; a fit without a ``study`` has none."""

    study: str
    stem: str

    @classmethod
    def of(cls, study: str, task: Task, *, architecture: str, **asked: Any) -> Self:
        """Return the files of a fit, the same in all processes; ``asked`` is all that it depends on besides code."""
        code = closure("training.model.final_fit", task=task, architectures=(architecture, task.evaluate.baseline))
        decided = json.dumps([asked, task.evaluate.interval_coverage, code], sort_keys=True, default=str)
        return cls(study, f"{study}.{hashlib.sha256(decided.encode()).hexdigest()[:12]}")

    def file(self, kind: str) -> Path | None:
        """Return a file: ``pt`` for the network, ``metrics.jsonl`` for its steps, or ``origin``, see `tags`."""
        return None if self.study == "none" else CHECKPOINTS / "fit" / f"{self.stem}.{kind}"

    def tags(self) -> dict[str, str]:
        """Return the tag by which the run is found again; it is on disk before the run exists."""
        path = self.file("origin")
        if path is None:
            return {}
        if not path.is_file():
            with written_whole(path) as temporary:
                temporary.write_text(uuid.uuid4().hex, encoding="utf-8")
        return {FIT_ORIGIN: path.read_text(encoding="utf-8")}

    def settle(self, task: str, run_id: str) -> None:
        """Delete further runs of this fit, and then the files."""
        for run in self.runs(task):
            if run.info.run_id != run_id:
                tracking.patiently(lambda run=run: mlflow.MlflowClient().delete_run(run.info.run_id))  # type: ignore[misc]
        for path in (CHECKPOINTS / "fit").glob(f"{self.study}.*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def runs(self, task: str) -> list[Run]:
        """Return the runs that this fit has begun: more than one where an answer was lost."""
        tags = self.tags()
        return runs_of(task, f"tags.`{FIT_ORIGIN}` = '{tags[FIT_ORIGIN]}'", "ASC") if tags else []


def _asked(architecture: Architecture, hyperparameters: dict[str, Any], params: Params, task: Task) -> dict[str, Any]:
    """Return what is fitted: the same in all processes that take part in a fit."""
    members = task.split.folds if architecture.name == STACK else task.fit.members.of(params.budget)
    members = affordable(architecture, members)
    return {"hyperparameters": hyperparameters, "members": members, "settings": fit_settings(params, task)}


def _log(fitted: Calibrated, samples: Any, reference: Reference, folder: Path) -> tuple[str, dict[str, float]]:
    """Log the model to the active run, save it in ``folder``; return its URI and its cost, measured on ``samples``."""
    estimator = fitted.final.estimator
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as temporary:
        saved = Path(temporary)
        save_model(estimator, fitted.baseline, fitted.contract, saved, reference)
        cost = measured_cost(saved, estimator, samples, fitted.seconds)
        example = samples.take(np.arange(min(2, len(samples))))
        model_uri = tracking.patiently(lambda: log_model(saved, fitted.contract, example))
        shutil.rmtree(folder / "model", ignore_errors=True)
        shutil.copytree(saved, folder / "model")
    return model_uri, cost


def tested(fitted: Calibrated, prepared: Prepared) -> pd.DataFrame:
    """Return what a model and its baseline predict of the test rows."""
    samples = prepared.samples.take(prepared.tested)
    outputs = fitted.final.estimator.outputs(samples), fitted.baseline.outputs(samples)
    return fitted.contract.predicted(prepared.table.iloc[prepared.tested], samples, *outputs)


def _rotated(
    name: str,
    architecture: Architecture,
    fitted: Calibrated,
    prepared: Prepared,
    params: Params,
    *,
    asked: dict[str, Any],
    files: Unfinished,
    folder: Path,
    run_id: str,
    tune: Callable[..., Any] | None,
) -> pd.DataFrame:
    """Rotate over all groups, keep the outer models in ``folder``; return what they predict of their test rows."""
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as temporary:
        place = files.file(ROTATION) or Path(temporary)
        how: dict[str, Any] = {"asked": asked, "folder": place, "checkpoint": files.file, "parent": run_id}
        receipts = rotate(name, architecture, prepared, params, tune=tune, **how)
        shutil.rmtree(folder / ROTATION, ignore_errors=True)
        shutil.copytree(place, folder / ROTATION, ignore=shutil.ignore_patterns(".*"))  # of a process that was killed
    metric = f"rotation/validation_{params.task(name).tune.metric}"
    for receipt in receipts:
        value, part = receipt["validation"], receipt["part"]
        tracking.patiently(lambda value=value, part=part: mlflow.log_metric(metric, value, step=part))  # type: ignore[misc]
    tracking.patiently(lambda: mlflow.set_tag(tracking.ROTATION_SHA256, tracking.folder_sha256(folder / ROTATION)))
    return Rotated.of(fitted.contract, fitted.baseline, folder / ROTATION, prepared).predictions(prepared)


def follow(architecture: Architecture, tuned: dict[str, Any], prepared: Prepared, params: Params, task: Task) -> None:
    """Take part in a fit that another process leads: the same steps, and nothing is written."""
    asked = _asked(architecture, tuned["hyperparameters"], params, task)
    files = Unfinished.of(tuned["study"], task, architecture=architecture.name, **asked)
    fit_final(architecture, prepared=prepared, context=FitContext(checkpoint=files.file("pt")), **asked)


def affordable(architecture: Architecture, members: int) -> int:
    """Return ``members``, or 1 where models of so many folds are too large to be served as one."""
    expected = architecture.expected_megabytes() if members > 1 else 0.0
    if members * expected <= LARGEST_MODEL:
        return members
    print(f"{architecture.name}: {members} members of {expected:.0f} MB exceed {LARGEST_MODEL} MB; one model is fitted")
    return 1


def cross_validated(final: FinalFit, prepared: Prepared, problem: Problem) -> dict[str, float]:
    """Return mean and standard deviation of each metric over the folds, each predicted by a model without it."""
    fold = prepared.table["fold"].to_numpy()[final.held_out_rows]
    measured = prepared.samples.target[final.held_out_rows]
    found: dict[str, float] = {}
    for metric in problem.tunable:
        scores = [problem.score(metric, measured[fold == one], final.held_out[fold == one]) for one in np.unique(fold)]
        found |= {f"cv_{metric}_mean": float(np.mean(scores)), f"cv_{metric}_sd": float(np.std(scores, ddof=1))}
    return found


def _refuse_large(cost: dict[str, float], architecture: str, most: float = LARGEST_MODEL) -> None:
    if cost["cost_model_megabytes"] > most:
        raise UserError(
            f"{architecture}: the model has {cost['cost_model_megabytes']:.0f} MB, at most {most:g} are served; "
            "lower fit.members in params.yaml"
        )


def read_fitted(folder: Path) -> tuple[Fitted, Predictor, pd.DataFrame]:
    """Return receipt, model and predictions of the test rows, which `fit` and its entry point left in ``folder``."""
    if not (folder / "fitted.json").is_file():
        raise UserError(
            f"{folder / 'fitted.json'} is not there; run `dvc repro fit@{folder.parent.name}-{folder.name}`"
        )
    fitted = Fitted(**read_json(folder / "fitted.json"))
    return fitted, Predictor().read(folder / "model"), pd.read_parquet(folder / "predictions.parquet")
