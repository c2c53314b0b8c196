"""Stage ``fit``: the tuned architecture is fitted for good, logged as a model, and predicts the test rows."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from pipelines import tracking
from pipelines.command import architecture_parser, run_command
from pipelines.faults import UserError
from pipelines.files import read_json, write_json, written_whole
from pipelines.params import Params, read_params
from pipelines.prepare import Prepared, read_prepared
from training.architectures import Architecture, get_architecture
from training.device import torch_device
from training.estimator import FitContext
from training.final import fit_final
from training.predictor import Predictor
from training.scores import SCORES
from training.track import contract_of, log_dataset, log_model, measured_cost, save_model
from training.tune import CHECKPOINTS, MODELS, fit_settings, step_metrics


@dataclass(frozen=True)
class Fitted:
    """What the stage leaves behind for `evaluation` and `serving`.

    Attributes
    ----------
    run_id, model_uri
        MLflow run and logged model.
    validation
        The study's metric on rows held out of the fit; what architectures are chosen by, never the test split.
    half_width
        Of the prediction interval.
    """

    task: str
    architecture: str
    budget: str
    run_id: str
    model_uri: str
    hyperparameters: dict[str, Any]
    metric: str
    validation: float
    half_width: float
    split_sha256: str
    seconds: float
    cost: dict[str, float]


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
        Name of the study that found the hyperparameters.
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
    members = task.fit.members.of(params.budget)
    settings = fit_settings(params, task)
    with tracking.run(name, "fit", architecture.name, tags=tags) as run:
        log_dataset(name, prepared)
        mlflow.log_params({**hyperparameters, "members": members})
        mlflow.log_metrics(_counts(prepared))

        def on_step(step: int, metrics: dict[str, float]) -> None:
            mlflow.log_metrics(step_metrics(metrics), step=step)

        checkpoint = CHECKPOINTS / "fit" / f"{study}.pt"
        context = FitContext(on_step, checkpoint if study != "none" else None, progress=True)
        began = time.perf_counter()
        final = fit_final(architecture, hyperparameters, prepared, members=members, settings=settings, context=context)
        seconds = time.perf_counter() - began
        if not np.isfinite(final.held_out).all():
            raise UserError(f"{name} {architecture.name}: the fit diverged; tune again with a narrower search space")
        for left in checkpoint.parent.glob(f"{study}*.pt"):
            left.unlink()
        naive = get_architecture(task.evaluate.baseline)
        baseline = fit_final(naive, {}, prepared, members=1, settings=settings).estimator
        half_width = final.interval_half_width(prepared, task.evaluate.interval_coverage)
        contract = contract_of(name, architecture.name, task, prepared, half_width, task.evaluate.interval_coverage)
        measured = prepared.samples.target[final.held_out_rows]
        validation = SCORES[task.tune.metric](measured, final.held_out)
        test = prepared.rows("test")
        with tempfile.TemporaryDirectory(prefix="oncolineage-") as temporary:
            saved = Path(temporary)
            save_model(final.estimator, baseline, contract, saved)
            test_samples = prepared.samples.take(test)
            predicted, naively = final.estimator.predict(test_samples), baseline.predict(test_samples)
            cost = measured_cost(saved, final.estimator, test_samples, seconds)
            model_uri = log_model(saved, contract, prepared.samples.take(test[:2]))
            shutil.rmtree(folder / "model", ignore_errors=True)
            shutil.copytree(saved, folder / "model")
        mlflow.log_metrics({f"validation_{task.tune.metric}": validation, "interval_half_width": half_width, **cost})
    predictions = prepared.table.iloc[test].assign(prediction=predicted, baseline=naively)
    with written_whole(folder / "predictions.parquet") as path:
        predictions.to_parquet(path, index=False)
    return Fitted(
        name,
        architecture.name,
        params.budget,
        run.info.run_id,
        model_uri,
        hyperparameters,
        task.tune.metric,
        validation,
        half_width,
        prepared.sha256,
        seconds,
        cost,
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


def main() -> int:
    """``python -m training.fit --task T --architecture A``."""
    arguments = architecture_parser(__doc__ or "").parse_args()
    params = read_params()
    architecture = get_architecture(arguments.architecture)
    prepared = read_prepared(arguments.task, params.task(arguments.task))
    folder = MODELS / arguments.task / architecture.name
    if not (folder / "tuned.json").is_file():
        raise UserError(
            f"{folder / 'tuned.json'} is not there; run `dvc repro tune@{arguments.task}-{architecture.name}`"
        )
    tuned = read_json(folder / "tuned.json")
    fitted = fit(arguments.task, architecture, tuned["hyperparameters"], prepared, params, folder, study=tuned["study"])
    write_json(folder / "fitted.json", asdict(fitted))
    print(
        f"{arguments.task} {architecture.name}: {fitted.metric} {fitted.validation:.4f} on held-out rows, "
        f"{fitted.seconds:.1f} s (run {fitted.run_id})"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
