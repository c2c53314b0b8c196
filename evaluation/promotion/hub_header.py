"""The header in YAML that the Hugging Face hub reads of a model card."""

import re
from typing import Any

from huggingface_hub.repocard_data import EvalResult, ModelCardData

from evaluation.promotion.card_text import use_of
from pipelines.formatting import ends, finite
from pipelines.problems import get_problem


def header(evidence: dict[str, Any]) -> str:
    """Return the front matter of the card: tags, data sets, and the metrics of the test rows that have an interval.

    It names no license: evidence knows none of the model.
    """
    task, problem, simulated = evidence["task"], evidence["problem"], evidence["simulated"]
    use, test, names = use_of(evidence["modality"], problem), evidence["test"], data_names(evidence)
    measured = {
        "task_type": use.pipeline_tag or problem,
        "dataset_type": names[0],
        "dataset_name": task + (" (simulated data)" if simulated else ""),
        "dataset_config": test["mode"],
        "dataset_split": tested_on(evidence),
        "dataset_revision": evidence["hashes"].get("data.sha256"),
        "verified": False,
    }
    results = [
        EvalResult(
            metric_type=name,
            metric_value=found["value"],
            metric_name=f"{name}, {test['confidence']:.0%} interval {ends(found)}",
            **measured,
        )
        for name, found in whole_metrics(evidence).items()
    ]
    made = ModelCardData(
        model_name=f"{task}: {evidence['architecture']}",
        library_name="mlflow",
        pipeline_tag=use.pipeline_tag or None,
        tags=[
            *("oncolineage", evidence["modality"], problem, evidence["architecture"]),
            *(["simulated-data"] if simulated else []),
        ],
        datasets=names,
        eval_results=results or None,
    )
    return f"---\n{made.to_yaml()}\n---\n"


def data_names(evidence: dict[str, Any]) -> list[str]:
    """Return the collections that the data is of, else the task, as names of data sets on the hub are written."""
    named = (evidence.get("pretraining") or {}).get("collections") or [evidence["task"]]
    suffix = "-simulated" if evidence["simulated"] else ""
    return [re.sub(r"[^\w.]+", "-", name).strip("-") + ("" if "simulated" in name else suffix) for name in named]


def tested_on(evidence: dict[str, Any]) -> str:
    """Return the split that the metrics are of."""
    return "all groups in turn" if "rotation" in evidence else "test"


def whole_metrics(evidence: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of all test rows, none of single classes or drugs, that have a value and an interval."""
    metrics = evidence["test"]["metrics"]
    known = [metric.name for metric in get_problem(evidence["problem"]).metrics if metric.name in metrics]
    shown = {name: metrics[name] for name in known}
    return {name: found for name, found in shown.items() if finite(found["value"], found["low"], found["high"])}
