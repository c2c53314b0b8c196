"""Evidence of schema 3 that was never measured, and a situation that fits it: what tests change one thing of."""

import copy
from datetime import date
from typing import Any

from evaluation.evidence.evidence_file import evidence_sha256, seal
from evaluation.promotion.situation import Situation
from pipelines.policy import Answer, Gate, Monitor, Policy, Serve, TaskPolicy

TASK = "drug_response"
HASH = {name: f"{digit:x}" * 64 for digit, name in enumerate(("split", "model", "params", "predictions", "test"), 10)}
FILES = "e" * 64
DATA_MD5 = "0123456789abcdef.dir"
TASK_MD5 = "fedcba9876543210.dir"

_EVIDENCE: dict[str, Any] = {
    **{"schema": 3, "task": TASK, "modality": "pairs", "problem": "regression", "architecture": "mlp"},
    **{"baseline": "mean_effects", "simulated": False, "budget": "quick", "seconds": 1.0},
    **{"run_id": "run1", "model_uri": "models:/m-1"},
    "validation": {"metric": "rmse", "value": 1.0},
    "test": {
        **{"samples": 100, "groups": 20, "mode": "cell_blind", "confidence": 0.95},
        "metrics": {
            "r2": {"value": 0.8, "low": 0.75, "high": 0.85},
            "margin": {"value": 0.2, "low": 0.1, "high": 0.3},
            "ece": {"value": 0.05, "low": 0.01, "high": 0.09},
        },
    },
    "worst": {
        **{"unit": "class", "metric": "recall"},
        "rows": [
            {"name": "hem", "n": 20, "value": 0.7, "low": 0.5, "high": 0.9},
            {"name": "all", "n": 80, "value": 0.9, "low": 0.8, "high": 1.0},
        ],
    },
    "strata": {
        **{"metric": "r2", "least_groups": 10, "columns": ["tissue"], "worst": None},
        "rows": [
            {"column": "tissue", "name": "lung", "rows": 60, "groups": 12, "judged": True},
            {"column": "tissue", "name": "skin", "rows": 40, "groups": 8, "judged": False},
        ],
    },
    "coverage": {"declared": 0.9, "observed": 0.91, "low": 0.85, "high": 0.95},
    "explanation": {
        "method": "integrated_gradients",
        "checks": [
            {"name": "completeness", "value": 0.01, "low": None, "high": None},
            {"name": "random_weights", "value": 0.2, "low": None, "high": None},
            {"name": "deletion", "value": 0.5, "low": 0.3, "high": 0.7},
        ],
    },
    "pretraining": {
        **{"weights": "imagenet", "encoder": None, "license": "", "pretrained_on": ["ImageNet-1k"]},
        "collections": ["C-NMC 2019"],
    },
    "cost": {
        **{"cost_latency_ms_batch_1": 5.0, "cost_latency_ms_batch_32": 50.0},
        **{"cost_model_megabytes": 1.0, "cost_multiply_adds": 1000.0},
    },
    "data": {
        "validation": {"passed": True, "warnings": []},
        "audit": {
            "findings": [
                {"name": "few_groups", "message": "few", "severity": "warning", "score": None},
                {"name": "shortcut_border", "message": "border", "severity": "warning", "score": 0.6},
            ],
            "shortcuts": [
                {"probe": "border", "metric": "roc_auc", "score": 0.6, "low": 0.55, "high": 0.65, "finding": True},
                {"probe": "metadata", "metric": "roc_auc", "score": 0.5, "low": 0.45, "high": 0.55, "finding": False},
            ],
            **{"groups": {}, "duplicates": {}},
        },
    },
    "comparisons": [
        {"with": "mean_effects", "kind": "naive", "version": None, "difference": 0.2, "low": 0.1, "high": 0.3},
        {"with": "ridge", "kind": "simple", "version": None, "difference": -0.01, "low": -0.1, "high": 0.08},
        {"with": "xgboost", "kind": "peer", "version": None, "difference": -0.3, "low": -0.4, "high": -0.2},
    ],
    "cohorts": [],
    "hashes": {
        **{"git.commit": "1" * 40, "git.dirty": "false", "data.sha256": "f" * 64},
        **{"dvc.data_md5": DATA_MD5, "dvc.task_md5": TASK_MD5},
        **{f"{name}.sha256": value for name, value in HASH.items()},
    },
}
_SCORE = {"value": 0.72, "low": 0.6, "high": 0.8}
for _each in _EVIDENCE["strata"]["rows"]:
    _each |= {"metrics": {"r2": dict(_SCORE)}, "coverage": {"observed": 0.9, "low": 0.8, "high": 1.0}}
_LUNG = _EVIDENCE["strata"]["rows"][0]
_LUNG["drop"] = {"value": 0.08, "low": 0.01, "high": 0.15}
_LUNG["rest"] = {"difference": -0.2, "low": -0.3, "high": -0.1, "p": 0.01, "p_corrected": 0.01, "significant": True}
_EVIDENCE["strata"]["worst"] = {**{k: _LUNG[k] for k in ("column", "name", "rows", "groups", "drop")}, **_SCORE}
for _each in _EVIDENCE["comparisons"]:
    _each |= {"run_id": None, "metric": "r2", "p": None, "rows": 100, "groups": 20}


def sealed(evidence: dict[str, Any]) -> dict[str, Any]:
    return {**evidence, "sha256": evidence_sha256(evidence)}


def made_evidence(**changes: Any) -> dict[str, Any]:
    """Return evidence that passes every check, with parts at dotted places (``test__metrics__ece``) changed."""
    evidence = copy.deepcopy(_EVIDENCE)
    for place, value in changes.items():
        *path, last = place.split("__")
        part = evidence
        for key in path:
            part = part[int(key)] if isinstance(part, list) else part[key]
        part[int(last) if isinstance(part, list) else last] = value
    return sealed(evidence)


def made_situation(evidence: dict[str, Any], **changes: Any) -> Situation:
    """Return the situation in which this evidence is its version's."""
    fitting = {
        **{"to": "production", "today": date(2026, 11, 20), "version": 2, "production": None},
        **{"run_id": "run1", "model_uri": "models:/m-1", "evidence_sha256": evidence["sha256"]},
        **{"model_sha256": HASH["model"], "files_sha256": FILES, "registered_files_sha256": FILES},
        **{"data_sha256": None, "split_sha256": HASH["split"]},
        **{"dvc_data_md5": DATA_MD5, "dvc_lock_md5": TASK_MD5, "looks": 3},
    }
    return Situation(**{**fitting, **changes})


def made_policy(**task: Any) -> Policy:
    """Return a policy under which `made_evidence` passes."""
    gate = Gate(0.0, 0.02, 0.15, 0.05, 1000.0, 10000.0, 150.0, 0.05, 0.7, 0.05)
    answers = (Answer("few_groups", "known", "A. Person"), Answer("shortcut_border", "cropped", "B. Person", 0.7))
    tasks = {TASK: TaskPolicy(**{"floor": 0.5, "answers": answers, **task})}
    return Policy(gate, Serve(512, 64.0, 50_000_000), Monitor(50, 0.01, 0.2, 0.1, 0.0), tasks)


def made_cell_evidence(classes: tuple[str, ...] = ("all", "hem"), **changed: Any) -> dict[str, Any]:
    """Return sealed evidence of a classifier of cells; ``changed`` replaces its sections."""
    interval = {"value": 0.8, "low": 0.7, "high": 0.9}
    metrics = {name: dict(interval) for name in ("roc_auc", "accuracy", "ece", "margin")}
    finding = {"name": "few_groups", "message": "few subjects", "severity": "warning", "score": None}
    made = made_evidence(
        **{"task": "leukemia_cell", "modality": "images", "problem": "classification", "simulated": True},
        **{"architecture": "resnet50", "baseline": "majority_class", "hashes__split.sha256": "2" * 64},
        validation={"metric": "roc_auc", "value": 0.8},
        test={"samples": 40, "groups": 12, "mode": "subject_blind", "confidence": 0.95, "metrics": metrics},
        worst__rows=[{"name": each, "n": 20, **interval} for each in classes],
        coverage__observed=0.93,
        calibration={"temperature": 1.3, "ece_before": 0.2, "mean_set_size": 1.2},
        explanation__method="grad_cam",
        explanation__checks=[{"name": "random_weights", "value": 0.1, "low": None, "high": None}],
        data__samples={"train": 100, "validation": 20, "test": 40},
        data__groups={"train": 30, "validation": 6, "test": 12},
        data__dropped={},
        data__audit={"findings": [finding], "shortcuts": [], "groups": {}, "duplicates": {"pairs": 0}},
    )
    return seal({key: each for key, each in made.items() if key not in ("comparisons", "cohorts")} | changed)
