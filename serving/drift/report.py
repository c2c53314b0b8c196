"""The comparison of a task's prediction log with its version's reference: the report as JSON and as a page, logged."""

import hashlib
import hmac
import io
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from evaluation.figures.plots import BLUE, GRAY, styled
from evaluation.promotion.registered_files import FILES_TAG, check_files
from pipelines import report as reports
from pipelines import tracking
from pipelines.environment import LOG_SALT
from pipelines.errors import UserError
from pipelines.files import jsonable, read_json, write_json, written_whole
from pipelines.formatting import finite, number, p_value
from pipelines.params import Params
from pipelines.paths import REPORTS
from pipelines.policy import Monitor
from pipelines.report import Block, as_html, figure, section, table, text
from serving.drift.distribution import Drift
from serving.drift.estimate import Estimate, as_dict, estimate, told
from serving.drift.watch import (
    Logged,
    Performance,
    Reference,
    Watched,
    measure,
    predictions_of,
    read_labels,
    read_log,
    watch,
)
from serving.gate_context import evidence_of, model_files
from serving.problems import Tell, get_problem
from training.model.predictor import REFERENCE
from training.model.track import INPUTS, PREDICTIONS, contract_of, predictor_folder

_DRAWN = 8  # columns drawn one by one
_CATEGORIES = 12
_BINS = 24


def page(report: dict[str, Any], figures: Mapping[str, Figure]) -> str:
    """Return ``report``, the content of ``monitor.json``, as HTML with ``figures`` by their titles."""
    log, policy = report["log"], report["policy"]
    columns = [{"side": side, **one} for side in ("input", "prediction") for one in report[f"{side}s"]]
    columns.sort(key=lambda one: -one["population_stability"])
    head = ["column", "compared as", "stability index", "distance", "p", "corrected p", "rows, reference", "rows, log"]
    rows = [
        [
            *(f"{one['side']} {one['column']}", one["kind"], number(one["population_stability"])),
            *(number(one["statistic"]), p_value(one["p"]), p_value(one["adjusted"])),
            *(number(one[f"{side}_rows"], ".0f") for side in ("reference", "logged")),
        ]
        for one in columns
    ]
    others = ", ".join(f"{rows} rows of version {name}" for name, rows in log["rows_of_other_versions"].items())
    rule = (
        f"A column has drifted where its corrected p lies below {policy['significance']} and its population stability "
        f"index above {policy['population_stability']}. Rows are effective numbers of independent rows."
    )
    skipped: list[Block] = [table(["file", "why"], list(log["skipped_files"].items()))] if log["skipped_files"] else []
    sections = [
        section(
            f"Decision: {report['decision']}",
            *(map(text, report["findings"] or ["Nothing calls for retraining."])),
            *map(text, report["notes"]),
            *([text(f"Left out: {others}.")] if others else []),
            mark="good" if report["decision"] == "fine" else "bad",
        ),
        section("Files that could not be read", *skipped),
        *(section(title, figure(f"{title}.png", title)) for title in figures),
        section("Every column", text(rule), table(head, rows, ["bad" if one["drifted"] else "" for one in columns])),
    ]
    lead = f"{report['architecture']}; {log['rows']} rows logged from {log['first']} to {log['last']}, "
    lead += f"{log['files']} files read.{' The model was trained on simulated data.' if report['simulated'] else ''}"
    made = reports.report(f"{report['task']} version {report['version']}: monitor", sections, lead=lead)
    return as_html(made, {f"{title}.png": _png(drawing) for title, drawing in figures.items()})


def figures_of(reference: Reference, logged: Logged, watched: Watched) -> dict[str, Figure]:
    """Return the columns of inputs and predictions that moved most, by title."""
    columns = reference.inputs.columns
    sides = (
        ("Inputs", watched.inputs, reference.inputs, logged.inputs(columns)),
        ("Predictions", watched.predictions, reference.predictions, predictions_of(reference.contract, logged.rows)),
    )
    made = {}
    for title, drifts, old, new in sides:
        most = sorted(drifts, key=lambda each: -each.population_stability)
        names = list(dict.fromkeys(each.column for each in most))[:_DRAWN]
        if names:
            made[f"{title} that moved most"] = side_by_side(old[names], new[names])
    return made


@styled
def side_by_side(reference: pd.DataFrame, logged: pd.DataFrame) -> Figure:
    """Return each column's shares in the reference (gray) and in the log (blue)."""
    across = min(4, reference.shape[1])
    down = -(-reference.shape[1] // across)
    figure, grid = plt.subplots(down, across, figsize=(2.6 * across, 2.1 * down), squeeze=False)
    for axes in grid.flat[reference.shape[1] :]:
        axes.set_visible(False)
    for axes, column in zip(grid.flat, reference.columns, strict=False):
        _shares(axes, reference[column].dropna(), logged[column].dropna())
        axes.set_title(str(column)[:34], fontsize=7)
    grid.flat[0].legend(["reference", "log"], frameon=False, fontsize=6)
    return figure


def _shares(axes: Axes, old: pd.Series, new: pd.Series) -> None:
    if pd.api.types.is_numeric_dtype(old) and len(old) and len(new):
        edges = np.histogram_bin_edges(np.concatenate([old.to_numpy(np.float64), new.to_numpy(np.float64)]), _BINS)
        for values, color in ((old, GRAY), (new, BLUE)):
            axes.hist(values, bins=list(edges), weights=np.full(len(values), 1 / len(values)), color=color, alpha=0.6)
        return
    counts = {"old": old.astype(str).value_counts(normalize=True), "new": new.astype(str).value_counts(normalize=True)}
    shares = pd.DataFrame(counts).fillna(0)
    shares = shares.loc[shares.sum(axis=1).nlargest(_CATEGORIES).index]
    places = np.arange(len(shares))
    axes.bar(places - 0.2, shares["old"], 0.4, color=GRAY)
    axes.bar(places + 0.2, shares["new"], 0.4, color=BLUE)
    axes.set_xticks(places, [str(name)[:14] for name in shares.index], rotation=60, ha="right", fontsize=6)


def _png(drawing: Figure) -> bytes:
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return buffer.getvalue()


def monitor(
    name: str,
    params: Params,
    log: Path,
    *,
    labels: Path | None = None,
    version: str = "",
    since: datetime | None = None,
    reports: Path = REPORTS,
) -> tuple[dict[str, Any], Path]:
    """Compare the log of a version (else that in production or staging) with its reference; return report, folder."""
    policy = params.policy.monitor
    chosen = _watched_version(name, version)
    logged = read_log(log, name, str(chosen.version), least=policy.minimum_rows, since=since)
    with model_files(chosen.source) as files:
        if FILES_TAG in chosen.tags:
            check_files(chosen, files)
        reference = _read_reference(chosen, predictor_folder(files))
    performance, notes = None, list[str]()
    if labels is not None:
        performance = _performance(params, chosen, reference, logged, labels=labels, tell=notes.append)
    watched = watch(reference, logged, policy, performance)
    guessed = _estimate(params, reference, logged)
    if guessed is not None:
        notes.append(told(guessed, watched, policy.out_of_distribution_share))
    watched = replace(watched, notes=[*watched.notes, *notes])
    report = _report(chosen, reference, logged, watched, policy) | {"estimate": as_dict(guessed)}
    folder = reports / name / "monitor" / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%fZ")
    write_json(folder / "monitor.json", report)
    with written_whole(folder / "monitor.html") as temporary:
        temporary.write_text(page(report, figures_of(reference, logged, watched)), encoding="utf-8")
    tags = {"model_version": report["version"], "architecture": report["architecture"], "decision": report["decision"]}
    with tracking.run(name, "monitor", f"monitor version {report['version']}", tags=tags):
        tracking.mlflow.log_metrics(_metrics(report))
        for file in ("monitor.json", "monitor.html"):
            tracking.mlflow.log_artifact(str(folder / file), "monitor")
    return report, folder


def _watched_version(task: str, version: str) -> ModelVersion:
    client = MlflowClient()
    try:
        if version:
            return client.get_model_version(task, version)
        aliases = client.get_registered_model(task).aliases
    except MlflowException as error:
        if not tracking.absent(error):
            raise
        what = f"no version {version!r} of {task}" if version else f"no registered model {task}"
        raise UserError(f"there is {what}; run `make register TASK={task}`") from error
    for alias in ("production", "staging"):
        if alias in aliases:
            return client.get_model_version(task, str(aliases[alias]))
    raise UserError(f"no version of {task} is in production or staging; name one with --version")


def _read_reference(version: ModelVersion, folder: Path) -> Reference:
    place = folder / REFERENCE
    try:
        inputs = pd.read_parquet(place / INPUTS)
        predictions = pd.read_parquet(place / PREDICTIONS)
        threshold = float(read_json(place / "novelty.json")["threshold"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{version.name} version {version.version} keeps no reference to compare with ({error}); fit it again"
        ) from error
    contract = contract_of(folder)
    answers = predictions_of(contract, predictions)
    return Reference(version.name, str(version.version), contract, inputs, answers, threshold, predictions)


def _performance(
    params: Params, version: ModelVersion, reference: Reference, logged: Logged, *, labels: Path, tell: Tell
) -> Performance:
    salt = os.environ.get(LOG_SALT, "").encode()
    if not salt:
        raise UserError(f"{LOG_SALT} is not set; labels are joined by the salt that the endpoint hashed ids with")
    measured = read_labels(
        labels,
        reference.contract,
        lambda sample_id: hmac.digest(salt, sample_id.encode(), hashlib.sha256).hex(),
        logged=set(logged.rows["sample_sha256"].dropna()),
        tell=tell,
    )
    answers = pd.concat([logged.rows[["sample_sha256"]], predictions_of(reference.contract, logged.rows)], axis=1)
    task, policy = params.task(version.name), params.policy.monitor
    return measure(
        reference.contract,
        answers,
        measured,
        evidence_of(version.name, str(version.run_id), version.tags.get("evidence.sha256")),
        metric=task.evaluate.metric,
        least=policy.minimum_rows,
        drop=policy.performance_drop,
        resamples=task.evaluate.resamples,
        seed=params.seed,
    )


def _estimate(params: Params, reference: Reference, logged: Logged) -> Estimate | None:
    worth, held_out = get_problem(reference.contract.problem).worth(), reference.held_out
    if worth is None or held_out is None or len(held_out) < params.policy.monitor.minimum_rows:
        return None
    confidence = params.task(reference.task).evaluate.confidence
    return estimate(worth, held_out, logged.rows, confidence=confidence, seed=params.seed)


def _report(
    version: ModelVersion, reference: Reference, logged: Logged, watched: Watched, policy: Monitor
) -> dict[str, Any]:
    limits = (policy.significance, policy.population_stability)

    def rows(drifts: list[Drift]) -> list[dict[str, Any]]:
        return [{**asdict(each), "drifted": each.drifted(*limits)} for each in drifts]

    report = {
        "task": reference.task,
        "version": reference.version,
        "architecture": reference.contract.architecture,
        "simulated": version.tags.get("simulated") == "true",
        "decision": watched.decision,
        "findings": watched.findings,
        "notes": watched.notes,
        "log": logged.as_dict(),
        "policy": {
            name: getattr(policy, name)
            for name in ("significance", "population_stability", "out_of_distribution_share", "performance_drop")
        },
        "inputs": rows(watched.inputs),
        "predictions": rows(watched.predictions),
        "out_of_distribution": {
            **watched.novelty.as_dict(),
            "threshold": reference.threshold,
            "limit": policy.out_of_distribution_share,
            "exceeded": watched.novelty.low > policy.out_of_distribution_share,
        },
        "performance": asdict(watched.performance) if watched.performance else None,
    }
    return dict(jsonable(report))


def _metrics(report: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {
        "drift/rows": report["log"]["rows"],
        "drift/columns": sum(each["drifted"] for side in ("inputs", "predictions") for each in report[side]),
        "drift/out_of_distribution_share": report["out_of_distribution"]["value"],
    }
    performance = report["performance"]
    if performance and performance["now"]:
        found |= {f"labelled/{performance['metric']}_{end}": value for end, value in performance["now"].items()}
    if guessed := report["estimate"]:
        found |= {f"estimated/{guessed['metric']}_{end}": value for end, value in guessed["now"].items()}
    return {key: float(value) for key, value in found.items() if finite(value)}
