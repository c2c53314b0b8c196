"""Evidence that satisfies the schema, to be spoiled by tests."""

from __future__ import annotations

import copy
from typing import Any

from evaluation.evidence.evidence_file import seal

_SHA = {key: letter * 64 for key, letter in (("data", "1"), ("split", "2"), ("params", "3"), ("model", "4"))}


def made_evidence(classes: tuple[str, ...] = ("all", "hem"), **changed: Any) -> dict[str, Any]:
    """Return sealed evidence of a classifier of cells; ``changed`` replaces its sections."""
    interval = {"value": 0.8, "low": 0.7, "high": 0.9}
    made = {
        "schema": 3,
        "task": "leukemia_cell",
        "modality": "images",
        "problem": "classification",
        "architecture": "resnet50",
        "baseline": "majority_class",
        "simulated": True,
        "run_id": "r1",
        "model_uri": "models:/m-1",
        "budget": "quick",
        "seconds": 3.0,
        "validation": {"metric": "roc_auc", "value": 0.8},
        "test": {
            "samples": 40,
            "groups": 12,
            "mode": "subject_blind",
            "confidence": 0.95,
            "metrics": {name: dict(interval) for name in ("roc_auc", "accuracy", "ece", "margin")},
        },
        "worst": {
            "unit": "class",
            "metric": "recall",
            "rows": [{"name": label, "n": 20, **interval} for label in classes],
        },
        "coverage": {"declared": 0.9, "observed": 0.93, "low": 0.85, "high": 0.98},
        "calibration": {"temperature": 1.3, "ece_before": 0.2, "mean_set_size": 1.2},
        "explanation": {
            "method": "grad_cam",
            "checks": [{"name": "random_weights", "value": 0.1, "low": None, "high": None}],
        },
        "cost": {"cost_latency_ms_batch_1": 5.0, "cost_latency_ms_batch_32": 50.0, "cost_model_megabytes": 14.0},
        "data": {
            "samples": {"train": 100, "validation": 20, "test": 40},
            "groups": {"train": 30, "validation": 6, "test": 12},
            "dropped": {},
            "validation": {"passed": True, "warnings": []},
            "audit": {
                "findings": [{"name": "few_groups", "message": "few subjects", "severity": "warning", "score": None}],
                "shortcuts": [],
                "groups": {},
                "duplicates": {"pairs": 0},
            },
        },
        "hashes": {
            "git.commit": "a" * 40,
            "git.dirty": "false",
            "predictions.sha256": "5" * 64,
            **{f"{key}.sha256": value for key, value in _SHA.items()},
        },
    }
    return seal({**copy.deepcopy(made), **changed})
