"""How far models carry: every architecture in every split mode, scored on rows of groups never met.

Hyperparameters are those of the task's study where it has run, else the defaults. The study saw validation rows of the
task's own mode; some are test rows in another mode.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from evaluation.comparison.paired import paired_difference
from evaluation.generalization.apart import Outcome, fit_apart
from evaluation.generalization.new_drugs import new_drugs
from evaluation.metrics import Interval, as_metrics, best_first
from evaluation.modalities import modality_of
from evaluation.problems import measures_of
from pipelines import tracking
from pipelines.code_closure import closure
from pipelines.datasets import Prepared, prepare
from pipelines.errors import UserError
from pipelines.files import jsonable, read_json, write_json, written_whole
from pipelines.params import DRUG_PILOT, PILOT, Params, Task
from pipelines.paths import MODELS
from pipelines.problems import get_problem
from pipelines.samples import Kept
from pipelines.split import CROSS_STUDY
from training.architectures import get_architecture
from training.studies.trials import fit_settings

FOLDER = "generalization"

_SCHEMA = 2
# What fits and scores; what draws and writes the table makes no fit anew.
_CODE = ("evaluation.generalization.apart", "evaluation.metrics")
CHANGED = "+"  # between an architecture and what is changed of it, such as ``logistic_regression+combat=site``

Fit = Callable[..., Outcome]


@dataclass(frozen=True)
class Plan:
    """One fit of the table."""

    mode: str
    name: str  # of the row: the architecture, perhaps with changed hyperparameters after `CHANGED`
    hyperparameters: dict[str, Any]
    origin: str
    fingerprint: str
    folder: Path

    @property
    def result(self) -> Path:
        """Where the scores lie."""
        return self.folder / self.mode / f"{self.name}.json"

    @property
    def predictions(self) -> Path:
        """Where the predictions of the test rows lie."""
        return self.folder / self.mode / f"{self.name}.parquet"

    @property
    def architecture(self) -> str:
        """Return the architecture."""
        return self.name.partition(CHANGED)[0]

    def read(self) -> dict[str, Any] | None:
        """Return the scores, None where there are none or they were made from other data or settings."""
        try:
            found: dict[str, Any] = read_json(self.result)
        except (OSError, ValueError):
            return None
        return found if found.get("fingerprint") == self.fingerprint and self.predictions.is_file() else None


def in_mode(task: Task, mode: str) -> Task:
    """Return the task with another split mode; studies and pilot lines are named only where they count."""
    studies = [key for key in ("train_study", "test_study") if hasattr(task.split, key) and mode != CROSS_STUDY]
    changed: dict[str, Any] = dict.fromkeys(studies, "")
    if hasattr(task.split, "pilot") and mode != DRUG_PILOT:
        changed["pilot"] = type(task.split).pilot
    return replace(task, split=replace(task.split, mode=mode, **changed))


def with_pilot(name: str, params: Params, lines: int) -> Params:
    """Return params with another number of lines that a new drug is measured on; refuse one below 1."""
    if lines < 1:
        raise UserError(f"--pilot {lines}: a drug is measured on 1 line at least")
    task = task_of(name, params)
    split: Any = task.split
    if not hasattr(split, PILOT):
        raise UserError(f"--pilot: {name} has no drugs to measure")
    return replace(params, tasks={**params.tasks, name: replace(task, split=replace(split, pilot=lines))})


def plans(
    name: str, params: Params, *, modes: Sequence[str], architectures: Sequence[str], data_sha256: str, folder: Path
) -> list[Plan]:
    """Return the fits of the table, mode by mode, the baseline first in each."""
    task = task_of(name, params)
    settings = fit_settings(params, task)
    names = list(dict.fromkeys([task.evaluate.baseline, *architectures]))
    of_code = (*_CODE, f"evaluation.problems.{task.problem}")
    code = {
        each: closure(*of_code, task=task, architectures=[each, task.evaluate.baseline])
        for each in {named.partition(CHANGED)[0] for named in names}
    }
    made = []
    for mode in modes:
        for named in names:
            architecture, _, changes = named.partition(CHANGED)
            hyperparameters, origin = hyperparameters_of(MODELS / name / architecture, architecture, task)
            hyperparameters |= changed(architecture, changes, task)
            decided = {
                "schema": _SCHEMA,
                "data": data_sha256,
                "question": asdict(in_mode(task, mode).split),
                "features": asdict(task.data),
                "architecture": architecture,
                "hyperparameters": hyperparameters,
                "settings": get_architecture(architecture, task.modality, task.problem).known(settings),
                "baseline": task.evaluate.baseline,
                "code": code[architecture],
                "bootstrap": [task.evaluate.resamples, task.evaluate.confidence, params.seed],
            }
            sha256 = hashlib.sha256(json.dumps(jsonable(decided), sort_keys=True).encode()).hexdigest()
            made.append(Plan(mode, named, hyperparameters, origin=origin, fingerprint=sha256, folder=folder))
    return made


def hyperparameters_of(folder: Path, architecture: str, task: Task) -> tuple[dict[str, Any], str]:
    """Return the hyperparameters that a study left in ``folder``, else the defaults, and which of the two."""
    known = get_architecture(architecture, task.modality, task.problem)
    path = folder / "tuned.json"
    if not path.is_file():
        return dict(known.defaults), "defaults"
    try:
        return dict(read_json(path)["hyperparameters"]), "tuned"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); run the tune stage again") from error


def changed(architecture: str, changes: str, task: Task) -> dict[str, Any]:
    """Return hyperparameters in ``changes``, such as ``combat=site,c=0.1``; UserError for one that there is not."""
    found = dict(each.partition("=")[::2] for each in changes.split(",") if each)
    known = inspect.signature(get_architecture(architecture, task.modality, task.problem).estimator).parameters
    if unknown := [key for key in found if key not in known]:
        raise UserError(f"{architecture} has no hyperparameter {unknown[0]}; there are {', '.join(known)}")
    return {key: yaml.safe_load(value) for key, value in found.items()}


def task_of(name: str, params: Params) -> Task:
    """Return the task; refuse one whose modality or problem makes no such table."""
    task = params.task(name)
    if not (modality_of(task.modality).in_every_mode and measures_of(task.problem).in_every_mode):
        raise UserError(f"{name} is {task.modality} x {task.problem}, of which no table is made")
    return task


def generalize(name: str, params: Params, every: Sequence[Plan], kept: Kept, *, fit: Fit = fit_apart) -> list[str]:
    """Make what is missing of ``every`` plan, one after another."""
    failed: list[str] = []
    task, settings = task_of(name, params), fit_settings(params, params.task(name))
    missing = [plan for plan in every if plan.read() is None]
    mode, prepared, naive = None, None, None
    for plan in tqdm(missing, desc="fits", disable=None):
        if plan.mode != mode:
            mode, prepared, naive = plan.mode, None, None
            try:
                prepared = prepare(kept, in_mode(task, plan.mode), params.seed)
            except UserError as error:
                failed.append(f"{plan.mode}: {error}")
        if prepared is None:
            continue
        try:
            outcome = fit(plan.architecture, task, plan.hyperparameters, prepared, settings)
            if naive is None:
                naive = _baseline(plan, every, prepared, outcome, task)
            scored = score(name, params, plan, prepared, outcome=outcome, naive=naive)
        except UserError as error:
            failed.append(f"{plan.mode} {plan.name}: {error}")
            continue
        keep(name, plan, *scored)
    return failed


def _baseline(plan: Plan, every: Sequence[Plan], prepared: Prepared, outcome: Outcome, task: Task) -> np.ndarray:
    """Return what the baseline predicts for the test rows: what was just fitted, or what was kept of it."""
    baseline = task.evaluate.baseline
    if plan.name == baseline:
        return outcome.predicted
    own = next(each for each in every if each.mode == plan.mode and each.name == baseline)
    if own.read() is None:
        raise UserError(f"there is no fit of {baseline}, over which every margin is taken")
    table = pd.read_parquet(own.predictions).set_index("sample_id")
    rows = table.loc[prepared.table["sample_id"].to_numpy()[prepared.rows("test")]].reset_index()
    return np.asarray(measures_of(task.problem).columns(rows).outputs)


def score(
    name: str, params: Params, plan: Plan, prepared: Prepared, *, outcome: Outcome, naive: np.ndarray
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the scores of a fit on the test rows with intervals, and its predictions beside the baseline's."""
    task = task_of(name, params)
    table, samples = prepared.table, prepared.samples
    test = prepared.rows("test")
    modality = modality_of(task.modality)
    predictions = table.iloc[test].drop(columns=["split", "fold"])
    unit, predictions = modality.resampled(predictions, prepared, in_mode(task, plan.mode).split)
    predictions = measures_of(task.problem).answers(predictions, samples.take(test), outcome.predicted, naive)
    measured = samples.target[outcome.held_out_rows]
    held_out = get_problem(task.problem).score(task.tune.metric, measured, outcome.held_out)
    result = {
        "task": name,
        "mode": plan.mode,
        "architecture": plan.name,
        "baseline": task.evaluate.baseline,
        "simulated": modality.simulated(samples),
        "fingerprint": plan.fingerprint,
        "split.sha256": prepared.sha256,
        "hyperparameters": plan.hyperparameters,
        "hyperparameters_from": plan.origin,
        "budget": params.budget,
        "rows": {side: len(prepared.rows(side)) for side in table["split"].unique()},
        "unit": unit,
        "units": int(predictions["group"].nunique()),
        "untested_classes": prepared.counts.get("untested_classes", []),
        "confidence": task.evaluate.confidence,
        "validation": {"metric": task.tune.metric, "value": held_out},
        "metrics": {key: value.as_dict() for key, value in measure(predictions, task, params.seed).items()},
        "seconds": outcome.seconds,
        "peak_megabytes": outcome.peak_megabytes,
    }
    return result, predictions


def headline(task: Task) -> str:
    """Return the metric of the table's cells: the task's, where every mode has it."""
    there = measures_of(task.problem).in_every_mode
    return task.evaluate.metric if task.evaluate.metric in there else there[0]


def measure(predictions: pd.DataFrame, task: Task, seed: int) -> dict[str, Interval]:
    """Return the metrics of the table with their intervals; ends are NaN where only one unit was tested."""
    measures = measures_of(task.problem)
    if predictions["group"].nunique() > 1:
        found = measures.intervals(predictions, task, seed)
    else:
        found = {key: Interval(value, np.nan, np.nan) for key, value in measures.alone(predictions, task).items()}
    return {key: each for key, each in found.items() if key in measures.in_every_mode or key.startswith("recall_")}


def keep(name: str, plan: Plan, result: dict[str, Any], predictions: pd.DataFrame) -> None:
    """Write the predictions, log the scores on a run of their own, and write them: last, since they say that all is."""
    with written_whole(plan.predictions) as temporary:
        predictions.to_parquet(temporary, index=False)
    tags = {"architecture": plan.name, "split.mode": plan.mode, "split.sha256": result["split.sha256"]}
    tags |= {"budget": result["budget"], "hyperparameters": plan.origin, "simulated": str(result["simulated"]).lower()}
    logged = {"cost/fit_seconds": result["seconds"], "cost/peak_memory_megabytes": result["peak_megabytes"]}
    for metric, found in result["metrics"].items():
        logged |= as_metrics(f"test/{metric}", found)
    with tracking.run(name, "generalize", f"{plan.mode} {plan.name}", tags=tags) as run:
        mlflow.log_params(plan.hyperparameters)
        mlflow.log_metrics(logged)
        write_json(plan.result, {**result, "run_id": run.info.run_id})
        mlflow.log_artifact(str(plan.result))


def of_known_drugs(name: str, params: Params, plan: Plan, samples: Any) -> dict[str, Any] | None:
    """Return the scores across studies on the test rows whose drug the training study has too, under whatever id."""
    task = task_of(name, params)
    if plan.read() is None:
        return None
    predictions = pd.read_parquet(plan.predictions)
    known = modality_of(task.modality).of_known_parts(predictions, samples, in_mode(task, plan.mode).split)
    if known is None or (part := predictions[known])["target"].nunique() < 2:
        return None
    return {
        "rows": len(part),
        "drugs": int(part["drug_id"].nunique()),
        "units": int(part["group"].nunique()),
        "metrics": {key: value.as_dict() for key, value in measure(part, task, params.seed).items()},
    }


def contests(name: str, params: Params, every: Sequence[Plan]) -> list[dict[str, Any]]:
    """Return, mode by mode, by how much the network that is best on validation rows beats the simple model that is.

    Architectures with changed hyperparameters are compared with themselves as they are.
    """
    task, found = task_of(name, params), list[dict[str, Any]]()
    metric = headline(task)
    settings = task.evaluate
    bootstrap = {"resamples": settings.resamples, "confidence": settings.confidence, "seed": params.seed}
    for mode in dict.fromkeys(plan.mode for plan in every):
        there = {plan.name: plan for plan in every if plan.mode == mode and plan.read() is not None}
        done = {each: plan for each, plan in there.items() if CHANGED not in each}
        roles = {each: get_architecture(each, task.modality, task.problem).role for each in done}
        pairs = [
            (each, plan.architecture) for each, plan in there.items() if CHANGED in each and plan.architecture in done
        ]
        sides = [[done[each].read() or {} for each in done if roles[each] == role] for role in ("model", "simple")]
        if all(sides):
            of_side = (best_first(each, task.tune.metric, "validation", "value")[0]["architecture"] for each in sides)
            pairs.insert(0, (next(of_side), next(of_side)))
        for best, rival in pairs:
            ours, theirs = (pd.read_parquet(there[each].predictions) for each in (best, rival))
            if ours["group"].nunique() > 1:
                between = paired_difference(task, ours, theirs, metric, **bootstrap)
                found.append({"mode": mode, "network": best, "rival": rival, **vars(between)})
    return found


def results(name: str, params: Params, every: Sequence[Plan], failed: Sequence[str], samples: Any) -> dict[str, Any]:
    """Return what ``generalization.json`` holds: a row a finished fit, the contests, and what is missing."""
    rows = [
        {**row, "of_known_drugs": of_known_drugs(name, params, plan, samples)}
        for plan in every
        if (row := plan.read()) is not None
    ]
    task = params.task(name)
    settings = task.evaluate
    bootstrap = {"resamples": settings.resamples, "confidence": settings.confidence, "seed": params.seed}
    done = [plan for plan in every if plan.read() is not None]
    tables = {(plan.mode, plan.name): pd.read_parquet(plan.predictions) for plan in done}
    found = {
        "schema": _SCHEMA,
        "task": name,
        "simulated": any(row["simulated"] for row in rows),
        "baseline": params.task(name).evaluate.baseline,
        "confidence": params.task(name).evaluate.confidence,
        "budget": params.budget,
        "modes": list(dict.fromkeys(plan.mode for plan in every)),
        "metric": headline(params.task(name)),
        "architectures": list(dict.fromkeys(plan.name for plan in every)),
        "rows": rows,
        "contests": contests(name, params, every),
        "new_drugs": new_drugs(task, tables, samples, **bootstrap),
        "missing": [[plan.mode, plan.name] for plan in every if plan.read() is None],
        "failed": list(failed),
    }
    return dict(jsonable(found))
