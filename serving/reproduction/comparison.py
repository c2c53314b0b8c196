"""The comparison of a version with a second fit from its tags."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from evaluation.problems import measures_of
from pipelines import tracking
from pipelines.files import write_json
from pipelines.params import read_task
from pipelines.paths import REPORTS
from serving.reproduction.refit import Recipe, Refit, recipe_of, refit
from training.model.logged_model import contract_of

ELSEWHERE = 1e-3  # largest absolute difference of predictions and metrics on another machine or with other packages
_CONDITIONS = ("machine", "cpu", "threads", "python")
_HASHED = ("data", "split", "params")
_RECOVERED = {"data.dvc", "params.yaml"}  # uncommitted changes that the version's tags and model hold


class Comparison(NamedTuple):
    """One comparison, None if unknown; what does not ``decide`` whether the version differs only explains it."""

    what: str
    equal: bool | None
    message: str
    decides: bool = True


def reproduce(uri: str, origin: Path, reports: Path = REPORTS) -> tuple[list[Comparison], Path]:
    """Fit the version ``uri`` of the repository ``origin`` again, compare, and write the comparisons."""
    with recipe_of(uri) as recipe:
        found = compare(recipe, refit(recipe, origin))
    path = reports / recipe.name / "reproduce" / f"{recipe.version}.json"
    content = {"model": f"models:/{recipe.name}/{recipe.version}", "commit": recipe.tags["git.commit"]}
    write_json(path, {**content, "verdict": verdict(found), "comparisons": [each._asdict() for each in found]})
    return found, path


def verdict(comparisons: list[Comparison]) -> Literal["equal", "differs"]:
    """Return whether anything that decides differs."""
    return "differs" if any(each.decides and each.equal is False for each in comparisons) else "equal"


def compare(recipe: Recipe, made: Refit) -> list[Comparison]:
    """Compare a version with its second fit: exactly under the same conditions on a CPU, else up to `ELSEWHERE`."""
    conditions = _conditions(recipe)
    same = bool(conditions.equal and recipe.requirements) and recipe.tags.get("device", "").startswith("cpu")
    allowed = 0.0 if same else ELSEWHERE
    same_files = tracking.folder_sha256(recipe.folder) == made.hashes["model.sha256"]
    differing = _differing(recipe.parameters, made.parameters)
    return [
        _code(recipe),
        *(_same(name, recipe.tags.get(key := f"{name}.sha256"), made.hashes.get(key)) for name in _HASHED),
        Comparison("hyperparameters", not differing, differing or f"{len(recipe.parameters)} of the run"),
        conditions,
        Comparison("model files", same_files, "byte for byte" if same_files else "other bytes", decides=False),
        _predictions(recipe, made, allowed),
        _metrics(recipe, made, allowed),
    ]


def _same(what: str, then: str | None, now: str | None) -> Comparison:
    if then is None or now is None:
        return Comparison(what, None, f"not known of the {'version' if then is None else 'second fit'}")
    return Comparison(what, then == now, then if then == now else f"{now}, the version has {then}")


def _differing(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    return "; ".join(
        f"{key}: {now.get(key, 'none')}, the version has {then.get(key, 'none')}"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    )


def _code(recipe: Recipe) -> Comparison:
    commit = f"commit {recipe.tag('git.commit')[:12]}"
    if recipe.tags.get("git.dirty") != "true":
        return Comparison("code", True, commit, decides=False)
    changed = set(recipe.tags.get("git.changed", "").split())
    named = ", ".join(sorted(changed)) or "unknown files"
    if changed and changed <= _RECOVERED:
        return Comparison("code", True, f"{commit}; {named} from the version", decides=False)
    return Comparison(
        "code", None, f"not known from the tags: there were uncommitted changes in {named}", decides=False
    )


def _conditions(recipe: Recipe) -> Comparison:
    """Compare machine and packages; the second fit had as many threads as the version's."""
    then = {name: recipe.tags.get(name, "not known") for name in _CONDITIONS} | recipe.requirements
    now = tracking.conditions() | ({"threads": then["threads"]} if "threads" in recipe.tags else {})
    now = {name: now[name] for name in _CONDITIONS}
    for package in recipe.requirements:
        try:
            now[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            now[package] = "missing"
    differing = _differing(then, now)
    return Comparison("conditions", not differing, differing or f"{len(then)} of machine and packages", decides=False)


def _predictions(recipe: Recipe, made: Refit, tolerance: float) -> Comparison:
    """Compare the predictions of the test rows row by row; two NaN are equal."""
    measures, frames = measures_of(contract_of(recipe.folder).problem), (recipe.predictions, made.predictions)
    first, second = (np.asarray(measures.columns(frame).outputs, dtype=np.float64) for frame in frames)
    ids = [frame["sample_id"].tolist() for frame in frames]
    if first.shape != second.shape or ids[0] != ids[1] or [*frames[0]] != [*frames[1]]:
        return Comparison("predictions", False, f"of other test rows or classes: {second.shape}, not {first.shape}")
    gap = np.where(np.isnan(first) & np.isnan(second), 0.0, np.abs(first - second))
    rows = gap.reshape(len(gap), -1).max(axis=1, initial=0.0)
    beyond, largest = int((~(rows <= tolerance)).sum()), float(rows.max(initial=0.0))
    if largest == 0:
        return Comparison("predictions", True, f"equal in all {len(rows)} test rows")
    message = f"the largest difference in {len(rows)} test rows is {largest:.3g}, {tolerance:g} is allowed"
    if beyond:
        message += f"; {beyond} rows beyond it, the worst is {ids[0][int(np.argmax(rows))]}"
    return Comparison("predictions", not beyond, message)


def _metrics(recipe: Recipe, made: Refit, tolerance: float) -> Comparison:
    now = {f"test_{name}": value for name, value in metrics_of(recipe.folder, made.predictions).items()}
    now |= {key: value for key, value in made.metrics.items() if key.startswith("validation_")}
    shared = {key: value for key, value in now.items() if key in recipe.metrics and math.isfinite(value)}
    if not shared:
        return Comparison("metrics", None, "the version's run has none")
    least = max(tolerance, 1e-9)  # the order of a sum changes its last digit
    differing = [
        f"{key} {value:.6g} (the version: {recipe.metrics[key]:.6g})"
        for key, value in sorted(shared.items())
        if not abs(value - recipe.metrics[key]) <= least
    ]
    return Comparison("metrics", not differing, "; ".join(differing) or f"{len(shared)} of test and validation rows")


def metrics_of(folder: Path, predictions: pd.DataFrame) -> dict[str, float]:
    """Return the metrics of predictions of the test rows; the contract in the artifact ``folder`` describes them."""
    contract = contract_of(folder)
    measures = measures_of(contract.problem)
    target, outputs, baseline, _ = measures.columns(predictions)
    metric, within = read_task(contract.task_text).evaluate.metric, predictions.get("drug_id")
    return measures.metrics(target, outputs, baseline=baseline, within=within, margin_metric=metric, **contract.scoring)
