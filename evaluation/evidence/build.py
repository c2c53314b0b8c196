"""The evidence of a fitted model on the test split: measured, explained, sealed and logged."""

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from evaluation.evidence.evidence_file import SCHEMA, SCHEMA_FILE, seal
from evaluation.evidence.looks import TEST_SHA256, record, sha256_of_tested
from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.evidence.summary import NOTE, summary
from evaluation.figures import plots
from evaluation.metrics import Interval
from evaluation.modalities import modality_of
from evaluation.problems import measures_of
from evaluation.results import learned
from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import read_json, write_json, written_whole
from pipelines.formatting import interval
from pipelines.params import Params
from pipelines.paths import AUDIT_FILE, REPORTS, VALIDATION_FILE
from pipelines.problems import get_problem
from pipelines.tune_metric import with_metric
from training.model.final_fit import Fitted
from training.model.predictor import Predictor
from training.model.rotation import Rotated, is_rotated
from training.model.track import dataset, model_id

PREDICTIONS = "predictions.parquet"
SPLIT = "split.parquet"


def evaluate(
    fitted: Fitted, model: Predictor, predictions: pd.DataFrame, *, prepared: Prepared, params: Params, folder: Path
) -> dict[str, Any]:
    """Write ``evidence.json`` with tables and figures into ``folder``, and log all of it to the run of the fit."""
    name, task = fitted.task, params.task(fitted.task)
    if fitted.split_sha256 != prepared.sha256:
        raise UserError(f"{name} {fitted.architecture} was fitted on another split; run `dvc repro fit@{name}-...`")
    if is_rotated(fitted.architecture, task, prepared) != isinstance(model, Rotated):
        raise UserError(f"{name} {fitted.architecture}: evidence over all groups needs the models of the rotation")
    audit, modality = _report(name, AUDIT_FILE), modality_of(task.modality)
    unit, predictions = modality.resampled(predictions, prepared, task.split)
    run = Evaluation(task, fitted, model, predictions, prepared, params.seed)
    found = evidence_of(run, audit) | learning(run)
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(kept := folder / PREDICTIONS) as temporary:  # others are compared on these very rows
        predictions.to_parquet(temporary, index=False)
    evidence = {
        "schema": SCHEMA,
        "task": name,
        "modality": task.modality,
        "problem": task.problem,
        "architecture": fitted.architecture,
        "baseline": task.evaluate.baseline,
        "simulated": modality.simulated(run.test),
        **{key: getattr(fitted, key) for key in ("run_id", "model_uri", "budget", "seconds")},
        "validation": {"metric": fitted.metric, "value": fitted.validation},
        "test": {
            "samples": len(predictions),
            "groups": int(predictions["group"].nunique()),
            "unit": unit,
            "mode": task.split.mode,
            "confidence": task.evaluate.confidence,
            "metrics": {key: value.as_dict() for key, value in found.metrics.items()},
            **found.test,
        },
        **found.sections,
        **({"rotation": rotation_section(model)} if isinstance(model, Rotated) else {}),
        "pretraining": pretraining(run),
        **({"federated": fitted.federated} if fitted.federated else {}),
        "cost": fitted.cost,
        "data": data_section(prepared, _report(name, VALIDATION_FILE), audit),
        "hashes": _hashes(run, params, kept),
    }
    evidence = seal(evidence)
    write_json(folder / "evidence.json", evidence)
    with tracking.run(name, "evaluate", fitted.architecture, run_id=fitted.run_id) as logged:
        record(fitted.run_id, prepared)
        named = {metric.name for metric in get_problem(task.problem).metrics}
        rows = dataset(name, prepared, "test", prepared.tested)  # the page of models compares them on it
        mlflow.log_metrics(found.to_log(named), model_id=model_id(fitted.model_uri), dataset=rows)
        _write(found, folder)
        with tempfile.TemporaryDirectory(prefix="oncolineage-") as place:  # later: what was this version fitted on?
            prepared.table[["sample_id", "group", "split"]].to_parquet(Path(place) / SPLIT, index=False)
            mlflow.log_artifact(str(Path(place) / SPLIT))
        for path in (folder / "evidence.json", kept, SCHEMA_FILE):
            mlflow.log_artifact(str(path))
        sealed = {"evidence.sha256": evidence["sha256"], "simulated": str(evidence["simulated"]).lower()}
        said = summary(evidence, task.evaluate.metric, logged.info.experiment_id)
        title = f"{fitted.architecture}: {interval(found.metrics[task.evaluate.metric].as_dict())}"
        mlflow.set_tags({"stage": "evaluate", NOTE: said, **sealed})
        MlflowClient().update_run(fitted.run_id, name=title)  # the columns of MLflow's table have to be chosen first
        assert logged.info.run_id == fitted.run_id
    for warning in found.warnings:
        print(f"warning: {name} {fitted.architecture}: {warning}", file=sys.stderr)
    return evidence


def pretraining(run: Evaluation) -> dict[str, Any]:
    """Return what the weights that the fit started from were trained on, and the collections that the data is of."""
    found = {"encoder": None, "license": "", **run.model.estimator.pretraining()}
    if found["encoder"] is None and found["pretrained_on"] is None:  # a file of weights
        found["pretrained_on"] = list(getattr(run.task.tune, "pretrained_on", ())) or None
    return found | {"collections": list(getattr(run.task.data, "collections", ()))}


def evidence_of(run: Evaluation, audit: dict[str, Any] | None) -> Evidence:
    """Return metrics and explanations of a model, beside what the audit of the data found."""
    measures, modality = measures_of(run.task.problem), modality_of(run.task.modality)
    found = modality.evidence(run, measures) | measures.evidence(run, modality)
    shortcuts = beside_model(audit, {**found.metrics, **modality.probed(run)}, run.task.evaluate.metric)
    section = None if audit is None else {"findings": audit.get("findings", []), "shortcuts": shortcuts}
    return found | Evidence(sections={"audit": section}, warnings=[each["sentence"] for each in shortcuts])


def learning(run: Evaluation) -> Evidence:
    """Return the metrics of every step of the fit; a model that learns in no steps has no figure of them."""
    history = run.history()
    drawn = {"learning_curves": plots.learning_curves(history, run.title)} if history else {}
    return Evidence(tables={"learning_curves": learned(history)}, figures=drawn)


def beside_model(audit: dict[str, Any] | None, metrics: Mapping[str, Interval], otherwise: str) -> list[dict[str, Any]]:
    """Return the audit's shortcuts, each with the model's score, in ``otherwise`` where it has none in their metric."""
    found = []
    for probe in (audit or {}).get("shortcuts", []):
        if not probe.get("finding"):
            continue
        metric = probe["metric"] if probe["metric"] in metrics else otherwise
        model = metrics[metric]
        other = "" if metric == probe["metric"] else f", in another measure, {metric}"
        alone, ours = interval(probe | {"value": probe["score"]}, alone="{}"), interval(model.as_dict(), alone="{}")
        said = f"{probe['probe']} alone reaches {probe['metric']} {alone} (chance {probe['chance']:.3f})"
        sentence = f"{said}; the model reaches{other} {ours}"
        score = {"model": model.value, "model_low": model.low, "model_high": model.high}
        found.append({**probe, "model_metric": metric, **score, "sentence": sentence})
    return found


def _hashes(run: Evaluation, params: Params, predictions: Path) -> dict[str, str]:
    """Return the hashes of all that evidence was made of."""
    name = run.fitted.task
    return {
        **tracking.lineage(name),
        **({"dvc.task_md5": dvc_md5(raw)} if (raw := tracking.DATA / name).is_dir() else {}),
        "split.sha256": run.prepared.sha256,
        TEST_SHA256: sha256_of_tested(run.prepared),
        # Of `auto` what it stood for, as the model's own task has it, from which it is fitted again.
        "params.sha256": params_sha256(with_metric(params, name, run.fitted.metric), name),
        "model.sha256": logged_model_sha256(run.fitted.model_uri),
        "predictions.sha256": file_sha256(predictions),
        **({tracking.ROTATION_SHA256: rotation} if (rotation := rotation_sha256(run.fitted.run_id)) else {}),
    }


def params_sha256(params: Params, name: str) -> str:
    """Return the hash of all parameters that decide the task's models."""
    decided = {"seed": params.seed, "budget": params.budget, "task": asdict(params.task(name))}
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()


def data_section(prepared: Prepared, validation: dict[str, Any] | None, audit: dict[str, Any] | None) -> dict[str, Any]:
    """Return the section ``data``, without names of samples; its parts are None where their stage has not run."""
    table, audited = prepared.table, None
    if audit is not None:
        audited = {key: audit.get(key, []) for key in ("findings", "shortcuts")}
        audited |= {"groups": audit.get("groups", {}), "duplicates": audit.get("duplicates", {}).get("counts", {})}
    decided = prepared.counts.get("label_decisions")
    checked = {"passed": None, "warnings": []} if validation is None else validation
    return {
        "samples": table["split"].value_counts().to_dict(),
        "groups": table.groupby("split")["group"].nunique().to_dict(),
        "dropped": {rule: count for rule, count in prepared.counts["rows"]["dropped"].items() if count},
        **({"label_decisions": decided} if decided else {}),
        "validation": {key: checked[key] for key in ("passed", "warnings", "counts") if key in checked},
        "audit": audited,
    }


def rotation_section(model: Rotated) -> dict[str, Any]:
    """Return the section ``rotation``: how many groups and parts, and what the outer fit of each part found."""
    keys = ("part", "groups", "samples", "hyperparameters", "validation", "seconds")
    parts = [{key: receipt[key] for key in keys} for receipt in model.receipts]
    return {"groups": sum(each["groups"] for each in parts), "parts": parts}


def rotation_sha256(run_id: str) -> str | None:
    """Return the hash of the outer models of a fit, None of a fit without."""
    return MlflowClient().get_run(run_id).data.tags.get(tracking.ROTATION_SHA256)


def _report(name: str, file: str) -> dict[str, Any] | None:
    """Return what the stage ``validate`` or ``audit`` wrote, None where it has not run."""
    path = REPORTS / name / file
    return read_json(path) if path.is_file() else None


def logged_model_sha256(uri: str) -> str:
    """Return the hash of the artifact folder of a logged model, ``models:/m-...``: of what is served, not of a copy."""
    try:
        location = mlflow.get_logged_model(model_id(uri)).artifact_location
        with tempfile.TemporaryDirectory(prefix="oncolineage-") as folder:
            about = mlflow.artifacts.download_artifacts(artifact_uri=f"{location}/MLmodel", dst_path=folder)
            place = yaml.safe_load(Path(about).read_text())["flavors"]["python_function"]["artifacts"]["model"]["path"]
            model = mlflow.artifacts.download_artifacts(artifact_uri=f"{location}/{place}", dst_path=folder)
            return tracking.folder_sha256(Path(model))
    except (MlflowException, OSError, KeyError) as error:
        message = f"the logged model {uri} cannot be read ({error}); run the fit stage again"
        raise tracking.refusal(error) or UserError(message) from error


def file_sha256(path: Path, method: str = "sha256") -> str:
    """Return the hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, method).hexdigest()


def dvc_md5(folder: Path) -> str:
    """Return the hash by which DVC knows a folder, as ``dvc.lock`` has it: of its files' names and hashes."""
    listed = []
    for path in folder.rglob("*"):
        place = path.relative_to(folder)
        if path.is_file() and "__pycache__" not in place.parts and path.suffix != ".pyc":  # see .dvcignore
            listed.append({"md5": file_sha256(path, "md5"), "relpath": place.as_posix()})
    listed.sort(key=lambda each: each["relpath"])
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _write(found: Evidence, folder: Path) -> None:
    """Write tables and figures into ``folder`` and log them to the active run."""
    for key, table in found.tables.items():
        table.to_csv(folder / f"{key}.csv", index=False)
        mlflow.log_artifact(str(folder / f"{key}.csv"), "tables")
    for key, figure in found.figures.items():
        figure.savefig(folder / f"{key}.png")
        mlflow.log_artifact(str(folder / f"{key}.png"), "figures")
    for key, drawing in found.drawings.items():
        (folder / f"{key}.svg").write_text(drawing, encoding="utf-8")
        mlflow.log_artifact(str(folder / f"{key}.svg"), "figures")
