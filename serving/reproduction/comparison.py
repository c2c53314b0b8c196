"""The comparison of a version with a second fit from its tags."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from evaluation.problems import measures_of
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.params import read_task
from pipelines.paths import REPORTS
from serving.gate_context import model_files
from serving.reproduction import ELSEWHERE
from serving.reproduction.refit import Recipe, Refit, refit
from training.model.logged_model import contract_of, predictor_folder

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")
_CONDITIONS = ("machine", "cpu", "threads", "python")
_RECOVERED = {"data.dvc", "params.yaml"}  # uncommitted changes that the version's tags and model hold
_REQUIREMENT = re.compile(r"^([A-Za-z0-9_.\-]+)==(\S+)")


class Comparison(NamedTuple):
    """One comparison; ``equal`` is None where it is unknown.

    A difference that ``decides`` makes the version differ; others, as of packages, only explain one.
    """

    what: str
    equal: bool | None
    message: str
    decides: bool = True


def reproduce(
    uri: str, origin: Path, *, tolerance: float | None = None, reports: Path = REPORTS
) -> tuple[list[Comparison], Path]:
    """Fit a version again, compare, and write ``<task>/reproduce/<version>.json`` into ``reports``.

    ``uri`` is ``models:/<task>/<number>`` or ``models:/<task>@<alias>``, ``origin`` the root of the repository.
    """
    with recipe_of(uri, MlflowClient()) as recipe:
        found = compare(recipe, refit(recipe, origin), tolerance)
    path = reports / recipe.name / "reproduce" / f"{recipe.version}.json"
    content = {"model": f"models:/{recipe.name}/{recipe.version}", "commit": recipe.tags["git.commit"]}
    write_json(path, {**content, "verdict": verdict(found), "comparisons": [each._asdict() for each in found]})
    return found, path


def verdict(comparisons: list[Comparison]) -> Literal["equal", "differs"]:
    """Return whether anything that decides differs."""
    return "differs" if any(each.decides and each.equal is False for each in comparisons) else "equal"


@contextlib.contextmanager
def recipe_of(uri: str, client: MlflowClient) -> Iterator[Recipe]:
    """Yield the recipe of a version from registry and run, with a copy of its files."""
    named = _URI.fullmatch(uri)
    if named is None:
        raise UserError(f"{uri!r}: name a version: models:/<task>/<number> or models:/<task>@<alias>")
    name = named["name"]
    try:
        if named["alias"]:
            version = client.get_model_version_by_alias(name, named["alias"])
        else:
            version = client.get_model_version(name, named["version"])
        run = client.get_run(version.tags.get("evidence.run_id") or str(version.run_id))
    except MlflowException as error:
        raise UserError(f"{uri!r} cannot be read from {tracking.mlflow.get_tracking_uri()}: {error}") from error
    with model_files(version.source) as files:
        path = files / "requirements.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        matches = [_REQUIREMENT.match(line.strip()) for line in lines]
        yield Recipe(
            name=name,
            version=str(version.version),
            tags={**version.tags, **run.data.tags},
            parameters=dict(run.data.params),
            metrics=dict(run.data.metrics),
            folder=predictor_folder(files),
            requirements={match[1]: match[2] for match in matches if match},
        )


def compare(recipe: Recipe, made: Refit, tolerance: float | None = None) -> list[Comparison]:
    """Compare a version with its second fit.

    ``tolerance`` is the largest absolute difference of outputs and metrics; if None, 0 under the same conditions on a
    CPU, and `ELSEWHERE` otherwise.
    """
    conditions = [_packages(recipe), *_conditions(recipe)]
    same = all(each.equal for each in conditions) and recipe.tags.get("device", "").startswith("cpu")
    allowed = (0.0 if same else ELSEWHERE) if tolerance is None else tolerance
    same_files = tracking.folder_sha256(recipe.folder) == made.hashes["model.sha256"]
    names, first, second = (made.outputs[key] for key in ("sample_id", "first", "second"))
    return [
        _code(recipe),
        *(_hash(recipe, made, name) for name in ("data.sha256", "split.sha256", "params.sha256")),
        _parameters(recipe, made),
        *conditions,
        Comparison("model files", same_files, "byte for byte" if same_files else "other bytes", decides=False),
        _gap("predictions", first, second, list(names), allowed),
        _metrics(recipe, made, allowed),
    ]


def _code(recipe: Recipe) -> Comparison:
    commit = recipe.tag("git.commit")[:12]
    if recipe.tags.get("git.dirty") != "true":
        return Comparison("code", True, f"commit {commit}", decides=False)
    changed = set(recipe.tags.get("git.changed", "").split())
    if changed and changed <= _RECOVERED:
        return Comparison("code", True, f"commit {commit}; {' and '.join(sorted(changed))} from the version", False)
    named = f" in {', '.join(sorted(changed))}" if changed else ""
    return Comparison("code", None, f"not known from the tags: there were uncommitted changes{named}", decides=False)


def _hash(recipe: Recipe, made: Refit, name: str) -> Comparison:
    what = name.partition(".")[0]
    then, now = recipe.tags.get(name), made.hashes.get(name)
    if then is None or now is None:
        return Comparison(what, None, f"{name} is not known of {'the version' if then is None else 'the commit'}")
    if then != now:
        return Comparison(what, False, f"{name} is {now[:12]}, the version has {then[:12]}")
    source = "; from the model, params.yaml of the commit has others" if made.params_from == "model" else ""
    return Comparison(what, True, then[:12] + (source if what == "params" else ""))


def _parameters(recipe: Recipe, made: Refit) -> Comparison:
    differing = [
        f"{key}: {made.parameters.get(key, 'none')}, the version has {recipe.parameters.get(key, 'none')}"
        for key in sorted({*recipe.parameters, *made.parameters})
        if recipe.parameters.get(key) != made.parameters.get(key)
    ]
    message = "; ".join(differing) or f"{len(recipe.parameters)} of the run"
    return Comparison("hyperparameters", not differing, message)


def _packages(recipe: Recipe) -> Comparison:
    if not recipe.requirements:
        return Comparison("packages", None, "the model lists none", decides=False)
    differing = []
    for name, then in recipe.requirements.items():
        try:
            now = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            now = "missing"
        if now != then:
            differing.append(f"{name} {now} (the version: {then})")
    message = "; ".join(differing) or f"{len(recipe.requirements)} as listed"
    return Comparison("packages", not differing, message, decides=False)


def _conditions(recipe: Recipe) -> list[Comparison]:
    now, found = tracking.conditions(), []
    for name in _CONDITIONS:
        then = recipe.tags.get(name)
        if name == "threads" and then is not None:  # the second fit had as many
            found.append(Comparison(name, True, then, decides=False))
        elif then is None:
            found.append(Comparison(name, None, f"{now[name]}; not known of the version", decides=False))
        else:
            message = then if then == now[name] else f"{now[name]}, the version has {then}"
            found.append(Comparison(name, then == now[name], message, decides=False))
    return found


def _gap(what: str, first: np.ndarray, second: np.ndarray, names: Sequence[str], tolerance: float) -> Comparison:
    """Compare row by row; two NaN are equal."""
    if first.shape != second.shape:
        return Comparison(what, False, f"shape {second.shape}, the version has {first.shape}")
    gap = np.abs(first.astype(np.float64) - second.astype(np.float64))
    gap[np.isnan(first) & np.isnan(second)] = 0.0
    rows = gap.reshape(len(gap), -1).max(axis=1, initial=0.0)
    beyond = int((~(rows <= tolerance)).sum())
    largest = float(rows.max(initial=0.0))
    if largest == 0:
        return Comparison(what, True, f"equal in all {len(rows)} test rows")
    message = f"the largest difference in {len(rows)} test rows is {largest:.3g}, {tolerance:g} is allowed"
    if beyond:
        message += f"; {beyond} rows beyond it, the worst is {names[int(np.argmax(rows))]}"
    return Comparison(what, not beyond, message)


def _metrics(recipe: Recipe, made: Refit, tolerance: float) -> Comparison:
    now = {f"test_{name}": value for name, value in test_metrics(recipe.folder, made.outputs).items()}
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


def test_metrics(folder: Path, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the second fit's metrics of the outputs; the contract in the version's artifact folder describes them."""
    contract = contract_of(folder)
    metric = read_task(contract.task_text).evaluate.metric
    return measures_of(contract.problem).metrics(
        outputs["target"],
        outputs["second"],
        baseline=outputs["naive"],
        within=outputs.get("drug_id"),
        margin_metric=metric,
        **contract.scoring,
    )
