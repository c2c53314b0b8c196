"""Stage ``evaluate``: a fitted model becomes evidence, on the test split that nothing was chosen by."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from evaluation.evidence import Evidence
from evaluation.gene_evidence import gene_evidence
from evaluation.image_evidence import image_evidence
from evaluation.label_evidence import label_evidence
from evaluation.response_evidence import response_evidence
from pipelines import tracking
from pipelines.audit import read_audit
from pipelines.command import architecture_parser, run_command
from pipelines.faults import UserError
from pipelines.files import jsonable, read_json, write_json
from pipelines.params import GeneTask, ImageTask, LabelTask, Params, ResponseTask, read_params
from pipelines.prepare import REPORTS, Prepared, read_prepared
from training.fit import Fitted, read_fitted
from training.predictor import Predictor
from training.tune import MODELS

SCHEMA = 1


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
    audit = read_audit(REPORTS / name)
    found: Evidence
    if isinstance(task, ResponseTask):
        found = response_evidence(task, fitted, model, predictions, prepared, seed=params.seed)
    elif isinstance(task, ImageTask):
        found = image_evidence(task, fitted, model, predictions, prepared, seed=params.seed, audit=audit)
    elif isinstance(task, LabelTask):
        found = label_evidence(task, fitted, model, predictions, prepared, params, audit=audit)
    else:
        assert isinstance(task, GeneTask)
        found = gene_evidence(task, fitted, model, predictions, prepared, seed=params.seed, audit=audit)
    evidence = {
        "schema": SCHEMA,
        "task": name,
        "architecture": fitted.architecture,
        "baseline": task.evaluate.baseline,
        "simulated": found.simulated,
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
            "metrics": {key: value.as_dict() for key, value in found.metrics.items()},
            **found.test,
        },
        **found.sections,
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
        mlflow.log_metrics(found.to_log())
        _write(found, folder)
        mlflow.log_artifact(str(folder / "evidence.json"))
        mlflow.set_tags({"stage": "evaluate", "evidence.sha256": evidence["sha256"]})
        assert run.info.run_id == fitted.run_id
    for warning in found.warnings:
        print(f"warning: {name} {fitted.architecture}: {warning}", file=sys.stderr)
    return evidence


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


def _write(found: Evidence, folder: Path) -> None:
    """Write tables and figures into ``folder`` and log them to the active run."""
    for key, table in found.tables.items():
        table.to_csv(folder / f"{key}.csv", index=False)
        mlflow.log_artifact(str(folder / f"{key}.csv"), "tables")
    for key, figure in found.figures.items():
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
    print(
        f"{name} {fitted.architecture}: test {metric} {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}], "
        f"margin over {evidence['baseline']} {margin['value']:+.3f} [{margin['low']:+.3f}, {margin['high']:+.3f}]"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
