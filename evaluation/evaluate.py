"""Stage ``evaluate``: a fitted model becomes evidence, on the test split that nothing was chosen by."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from evaluation import figures
from evaluation.explain.genes import Explanation, explain, explained_rows
from evaluation.resample import Interval, bootstrap_regression
from pipelines import tracking
from pipelines.command import architecture_parser, run_command
from pipelines.faults import UserError
from pipelines.files import jsonable, read_json, write_json
from pipelines.params import Params, Task, read_params
from pipelines.prepare import REPORTS, Prepared, read_prepared
from training.fit import Fitted, read_fitted
from training.predictor import Predictor
from training.tune import MODELS

SCHEMA = 1
ADDITIVE_WITHIN = 0.05  # relative gap up to which attributions are said to add up to the prediction
UNIT = "ln IC50 (µM)"


def evaluate(
    name: str,
    fitted: Fitted,
    model: Predictor,
    predictions: pd.DataFrame,
    prepared: Prepared,
    params: Params,
    folder: Path,
) -> dict[str, Any]:
    """Measure, explain and write ``evidence.json`` with tables and figures into ``folder``; log all to the fit's run.

    Parameters
    ----------
    name, fitted, model, predictions
        From the fit stage.
    prepared, params
        Samples and decisions.
    folder
        ``reports/<task>/models/<architecture>``.

    Returns
    -------
    dict
        The evidence.
    """
    task = params.task(name)
    if fitted.split_sha256 != prepared.sha256:
        raise UserError(f"{name} {fitted.architecture} was fitted on another split; run `dvc repro fit@{name}-...`")
    folder.mkdir(parents=True, exist_ok=True)
    metrics = measure(predictions, task, params.seed)
    strata = {
        str(study): measure(part, task, params.seed)
        for study, part in predictions.groupby("study")
        if part["group"].nunique() > 1
    }
    per_drug = by_drug(predictions)
    per_drug.to_csv(folder / "by_drug.csv", index=False)
    test = prepared.side("test")
    rows = explained_rows(test, task.evaluate.explained_samples.of(params.budget), params.seed)
    explanation = explain(model.estimator, test.take(rows))
    evidence = {
        "schema": SCHEMA,
        "task": name,
        "architecture": fitted.architecture,
        "baseline": task.evaluate.baseline,
        "simulated": bool(test.cell_lines.get("simulated", pd.Series([False])).any()),
        "run_id": fitted.run_id,
        "model_uri": fitted.model_uri,
        "budget": fitted.budget,
        "seconds": fitted.seconds,
        "validation": {"metric": fitted.metric, "value": fitted.validation},
        "test": {
            "samples": len(predictions),
            "groups": int(predictions["group"].nunique()),
            "mode": task.split.mode,
            "confidence": task.evaluate.confidence,
            "metrics": {key: value.as_dict() for key, value in metrics.items()},
            "by_study": {study: {k: v.as_dict() for k, v in found.items()} for study, found in strata.items()},
        },
        "interval": _interval_check(predictions, fitted, task),
        "explanation": _explanation_summary(explanation),
        "cost": fitted.cost,
        "hashes": {
            **tracking.lineage(name),
            "split.sha256": prepared.sha256,
            "params.sha256": params_sha256(params, name),
        },
    }
    evidence = jsonable(evidence)
    evidence["sha256"] = evidence_sha256(evidence)
    write_json(folder / "evidence.json", evidence)
    with tracking.run(name, "evaluate", fitted.architecture, run_id=fitted.run_id) as run:
        logged = _metrics_to_log(metrics, strata, evidence)
        mlflow.log_metrics(logged)
        _log_tables_and_figures(fitted, predictions, explanation, per_drug, task, folder)
        mlflow.log_artifact(str(folder / "evidence.json"))
        mlflow.set_tags({"stage": "evaluate", "evidence.sha256": evidence["sha256"]})
        assert run.info.run_id == fitted.run_id
    return evidence


def measure(predictions: pd.DataFrame, task: Task, seed: int) -> dict[str, Interval]:
    """Return every metric of a table of ``target, prediction, baseline, group, drug_id`` with its interval."""
    return bootstrap_regression(
        predictions["target"],
        predictions["prediction"],
        predictions["group"],
        within=predictions["drug_id"],
        baseline=predictions["baseline"],
        resamples=task.evaluate.resamples,
        confidence=task.evaluate.confidence,
        seed=seed,
    )


def by_drug(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return for each drug: samples, RMSE, RMSE of the baseline, and Pearson's correlation (0 if constant)."""

    def summary(part: pd.DataFrame) -> pd.Series:
        constant = part["prediction"].std() < 1e-9 or part["target"].std() < 1e-9
        return pd.Series(
            {
                "samples": len(part),
                "rmse": np.sqrt(np.mean((part["target"] - part["prediction"]) ** 2)),
                "baseline_rmse": np.sqrt(np.mean((part["target"] - part["baseline"]) ** 2)),
                "pearson": 0.0 if len(part) < 3 or constant else part["target"].corr(part["prediction"]),
            }
        )

    columns = ["target", "prediction", "baseline"]
    return predictions.groupby("drug_id")[columns].apply(summary).reset_index().sort_values("pearson", ascending=False)


def params_sha256(params: Params, name: str) -> str:
    """Return the hash of all parameters that decide the task's models."""
    decided = {"seed": params.seed, "budget": params.budget, "task": asdict(params.task(name))}
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()


def evidence_sha256(evidence: dict[str, Any]) -> str:
    """Return the hash of the evidence without its own hash."""
    content = {key: value for key, value in evidence.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def evidence_path(name: str, architecture: str, reports: Path = REPORTS) -> Path:
    """Return where the evidence of an architecture lies."""
    return reports / name / "models" / architecture / "evidence.json"


def read_evidence(path: Path) -> dict[str, Any]:
    """Read evidence and refuse it if it was edited."""
    if not path.is_file():
        raise UserError(f"{path} is not there; run `dvc repro evaluate@...`")
    evidence = read_json(path)
    if evidence.get("sha256") != evidence_sha256(evidence):
        raise UserError(f"{path}: its content does not match its hash: it was edited; run the evaluate stage again")
    return evidence


def _interval_check(predictions: pd.DataFrame, fitted: Fitted, task: Task) -> dict[str, Any]:
    error = (predictions["target"] - predictions["prediction"]).abs()
    return {
        "coverage": task.evaluate.interval_coverage,
        "half_width": fitted.half_width,
        "covered_on_test": float((error <= fitted.half_width).mean()),
    }


def _explanation_summary(explanation: Explanation | None) -> dict[str, Any] | None:
    if explanation is None:
        return None
    return {
        "method": explanation.method,
        "rows": explanation.rows,
        "additivity_relative_error": explanation.relative_error,
        "additive": explanation.relative_error < ADDITIVE_WITHIN,
        "by_table": explanation.groups,
        "top": explanation.genes.head(10).to_dict("records"),
    }


def _metrics_to_log(
    metrics: dict[str, Interval], strata: dict[str, dict[str, Interval]], evidence: dict[str, Any]
) -> dict[str, float]:
    named = {f"test_{key}": value for key, value in metrics.items()}
    named |= {f"test_{key}_{study}": value for study, found in strata.items() for key, value in found.items()}
    logged = {}
    for key, interval in named.items():
        for suffix, number in (("", interval.value), ("_low", interval.low), ("_high", interval.high)):
            if np.isfinite(number):
                logged[key + suffix] = number
    logged["test_interval_coverage"] = evidence["interval"]["covered_on_test"]
    if evidence["explanation"]:
        logged["explanation_additivity_error"] = evidence["explanation"]["additivity_relative_error"]
    return logged


def _log_tables_and_figures(
    fitted: Fitted,
    predictions: pd.DataFrame,
    explanation: Explanation | None,
    per_drug: pd.DataFrame,
    task: Task,
    folder: Path,
) -> None:
    title = f"{fitted.architecture}, {task.split.mode}"
    drawn = {
        "measured_against_predicted": figures.measured_against_predicted(
            predictions["target"].to_numpy(), predictions["prediction"].to_numpy(), title, UNIT
        )
    }
    if explanation is not None and len(explanation.genes):
        explanation.genes.to_csv(folder / "top_genes.csv", index=False)
        explanation.by_drug.to_csv(folder / "top_genes_by_drug.csv", index=False)
        for table in ("top_genes.csv", "top_genes_by_drug.csv"):
            mlflow.log_artifact(str(folder / table), "explanation")
        drawn["top_genes"] = figures.largest_contributions(explanation.genes, title, UNIT)
        drawn["top_genes_by_drug"] = figures.contributions_by_drug(explanation.by_drug, title)
    mlflow.log_artifact(str(folder / "by_drug.csv"))
    for key, figure in drawn.items():
        figure.savefig(folder / f"{key}.png")
        mlflow.log_artifact(str(folder / f"{key}.png"), "figures")


def main() -> int:
    """``python -m evaluation.evaluate --task T --architecture A``."""
    arguments = architecture_parser(__doc__ or "").parse_args()
    params = read_params()
    name = arguments.task
    fitted, model, predictions = read_fitted(MODELS / name / arguments.architecture)
    prepared = read_prepared(name, params.task(name))
    folder = evidence_path(name, arguments.architecture).parent
    evidence = evaluate(name, fitted, model, predictions, prepared, params, folder)
    metric = params.task(name).evaluate.metric
    found, margin = (evidence["test"]["metrics"][key] for key in (metric, "margin"))
    if evidence["explanation"] and not evidence["explanation"]["additive"]:
        gap = evidence["explanation"]["additivity_relative_error"]
        print(f"warning: {name} {fitted.architecture}: attributions miss the prediction by {gap:.1%}", file=sys.stderr)
    print(
        f"{name} {fitted.architecture}: test {metric} {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}], "
        f"margin over {evidence['baseline']} {margin['value']:+.3f} [{margin['low']:+.3f}, {margin['high']:+.3f}]"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
