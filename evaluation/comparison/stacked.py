"""A stack against the best of its members, on the same resamples of the test groups; only a better one is kept."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import mlflow
import pandas as pd

from evaluation.comparison.paired import matched, resample, subtract
from evaluation.evidence.evidence_file import evidence_path
from evaluation.evidence.looks import record
from evaluation.evidence.summary import NOTE
from evaluation.metrics import as_metrics, best_first, percentile_interval
from evaluation.modalities import modality_of
from evaluation.problems import measures_of
from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import jsonable, read_json, write_json
from pipelines.formatting import interval, listed
from pipelines.params import Params, Task
from pipelines.paths import MODELS, REPORTS, RESULTS
from training.architectures import STACK, Architecture, get_architecture
from training.contract import contract_class, make_contract
from training.model.calibrated import Calibrated, validation_score
from training.model.cross_fit import FinalFit, fit_final
from training.model.final_fit import Fitted, fit, tested
from training.model.rotation import is_rotated
from training.model.stacking import Stacked, fit_members, stack
from training.studies.trials import fit_settings

FILE = "stack.json"
Chosen = dict[str, tuple[Architecture, dict[str, Any]]]


def choose(name: str, params: Params, named: Sequence[str] = ()) -> Chosen:
    """Return the architectures that are ``named``, else all that are tuned and no baselines, with hyperparameters."""
    task, found = params.task(name), Chosen()
    for each in named or params.architectures(name):
        architecture = get_architecture(each, task.modality, task.problem)
        path = MODELS / name / each / "tuned.json"
        if named and not path.is_file():
            raise UserError(f"{path} is not there; run `make train TASK={name} ARCH={each}`")
        if path.is_file() and (named or architecture.role != "baseline"):
            found[each] = architecture, dict(read_json(path)["hyperparameters"])
    if len(found) < 2:
        raise UserError(
            f"{name}: a stack needs two tuned architectures, there is {listed(list(found)) or 'none'}; run "
            f"`make train TASK={name}`, or name more with ARCH"
        )
    return found


def compare(name: str, params: Params, prepared: Prepared, chosen: Chosen) -> tuple[dict[str, Any], Stacked]:
    """Stack the ``chosen`` architectures; return what was found on the test rows, and the stack.

    The best member is that with the best out-of-fold outputs by the metric of the studies.
    """
    task = params.task(name)
    if is_rotated(STACK, task, prepared):
        raise UserError(f"{name}: groups that are tested in turn cannot be stacked; set split.fewest_groups: 0")
    settings, metric, tuned_by = fit_settings(params, task), task.evaluate.metric, task.tune.metric
    stacked = stack(fit_members(chosen, prepared, settings), prepared, task)

    def score(final: FinalFit) -> float:
        return validation_score(final, prepared, task, tuned_by, params.seed)

    rows = [
        {"architecture": each, "weight": stacked.weights[each], "validation": score(final)}
        for each, final in stacked.members.items()
    ]
    best = best_first(rows, tuned_by, "validation")[0]["architecture"]
    frames = _predicted(name, task, prepared, settings, {STACK: stacked.final, best: stacked.members[best]})
    known = measures_of(task.problem).learnt(task, lambda: prepared.side("train"))
    known |= {"resamples": task.evaluate.resamples, "seed": params.seed}
    scores = {each: resample(task, matched(task, frames[STACK], of), metric, **known) for each, of in frames.items()}
    confidence, groups = task.evaluate.confidence, int(frames[STACK]["group"].nunique())
    size = {"rows": len(frames[STACK]), "groups": groups}
    difference = subtract(task, metric, scores[STACK], scores[best], confidence=confidence, **size)
    found = {
        "task": name,
        "split.sha256": prepared.sha256,
        "tuned_by": tuned_by,
        "members": rows,
        "validation": score(stacked.final),
        "best": best,
        "test": {each: percentile_interval(of.value, of.values, confidence).as_dict() for each, of in scores.items()},
        "difference": asdict(difference),
        "better": bool(difference.low > 0),
    }
    return jsonable(found) | {"said": sentence(found)}, stacked


def sentence(found: dict[str, Any]) -> str:
    """Return what was found, in words."""
    difference, best = found["difference"], found["best"]
    kept = [f"{row['architecture']} ({row['weight']:.2f})" for row in found["members"] if row["weight"] > 0]
    return (
        f"The stack of {listed(kept)} is {'' if found['better'] else 'not '}better than its best member, {best}: "
        f"{difference['metric']} {interval(difference, 'difference', sign='+')} on {difference['rows']:,} test rows of "
        f"{difference['groups']:,} groups" + ("" if found["better"] else "; it is not kept")
    )


def log(found: dict[str, Any], prepared: Prepared) -> str:
    """Write ``stack.json``, and log it to a run of its own, which counts as a look at the test rows; return its id."""
    name, path = found["task"], REPORTS / found["task"] / FILE
    write_json(path, found)
    tags = {
        "stack": "better" if found["better"] else "not better",
        "architecture": STACK,
        NOTE: found["said"],
    }
    with tracking.run(name, "stack", STACK, tags=tags | {"split.sha256": prepared.sha256}) as run:
        record(run.info.run_id, prepared)
        metrics = as_metrics("stack/difference", found["difference"], "difference")
        metrics |= {f"weight/{row['architecture']}": row["weight"] for row in found["members"]}
        mlflow.log_metrics(metrics)
        mlflow.log_artifact(str(path))
    return str(run.info.run_id)


def keep(found: dict[str, Any], stacked: Stacked, params: Params, prepared: Prepared) -> Fitted | None:
    """Log a better stack as any final fit, in ``models/<task>/stack``; of another no model and no evidence is left."""
    name, folder = found["task"], MODELS / found["task"] / STACK
    for place in (folder, evidence_path(name, STACK).parent):  # of an earlier stack
        shutil.rmtree(place, ignore_errors=True)
    for path in RESULTS.glob(f"*/{name}/{STACK}.*"):
        path.unlink()
    if not found["better"]:
        return None
    task = params.task(name)
    architecture = get_architecture(STACK, task.modality, task.problem)
    how: dict[str, Any] = {"prepared": prepared, "params": params, "folder": folder}
    fitted = fit(name, architecture, stacked.hyperparameters, elsewhere=lambda *_, **__: stacked.final, **how)
    write_json(folder / "fitted.json", asdict(fitted))
    return fitted


def _predicted(
    name: str, task: Task, prepared: Prepared, settings: dict[str, Any], finals: dict[str, FinalFit]
) -> dict[str, pd.DataFrame]:
    """Return what each final fit predicts of the test rows, as it would be served, and the baseline."""
    kind = contract_class(task.modality, task.problem)
    naive = get_architecture(task.evaluate.baseline, task.modality, task.problem)
    of_naive = fit_final(naive, {}, prepared, members=1, settings=settings)
    baseline, frames = kind.adjusted(prepared, of_naive, naive.role).estimator, {}
    for each, final in finals.items():
        role = get_architecture(each, task.modality, task.problem).role
        served = kind.adjusted(prepared, final, role)
        contract = make_contract(name, each, task, prepared=prepared, final=served)
        predictions = tested(Calibrated(served, baseline, contract, final.seconds), prepared)
        frames[each] = modality_of(task.modality).resampled(predictions, prepared, task.split)[1]
    return frames
