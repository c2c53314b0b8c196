"""A fitted model becomes a candidate: its evidence is completed by comparisons and outside cohorts, and logged."""

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient

from evaluation.comparison.paired import paired_difference
from evaluation.evidence.build import PREDICTIONS, file_sha256
from evaluation.evidence.evidence_file import SCHEMA_FILE, evidence_path, read_evidence, seal
from evaluation.evidence.summary import NOTE, summary
from evaluation.metrics import best_first
from evaluation.problems import measures_of
from evaluation.promotion.card import write_card
from evaluation.promotion.production import opponent
from evaluation.promotion.scoring import load, score
from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.params import Params
from pipelines.paths import REPORTS
from training.architectures import get_architecture

FOLDER = "candidate"
EVIDENCE = "evidence.json"


def choose(name: str, params: Params, architectures: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the evidence of what did best on validation rows, among ``architectures``; None: all of the task.

    The best of five on the test split would owe a part of its score to luck.
    """
    baseline = params.task(name).evaluate.baseline
    every = [each for each in params.architectures(name) if each != baseline]
    paths = [evidence_path(name, each) for each in (every if architectures is None else architectures)]
    found = [read_evidence(path) for path in paths if path.is_file() or architectures is not None]
    if not found:
        raise UserError(f"no model of {name} is evaluated yet; run `make train TASK={name}`")
    return best_first(found, found[0]["validation"]["metric"], "validation", "value")[0]


def candidate(
    name: str,
    params: Params,
    prepared: Prepared,
    architecture: str | None = None,
    cohorts: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Complete the evidence of ``architecture``, else of the best on validation rows; write it with its card, log both.

    ``cohorts`` are labelled raw folders by name. `UserError` if the model was evaluated on another split, its
    predictions were edited, or a cohort cannot be scored.
    """
    evidence = choose(name, params, [architecture] if architecture else None)
    if evidence["hashes"]["split.sha256"] != prepared.sha256:
        raise UserError(
            f"{name} {evidence['architecture']} was evaluated on another split; run `make train TASK={name}`"
        )
    own = evidence_path(name, evidence["architecture"]).parent
    compared = comparisons(name, params, evidence, ours=read_predictions(own, evidence), prepared=prepared)
    cohort_scores = scored(name, evidence, cohorts or {}, params.seed)
    evidence = seal({**evidence, "comparisons": compared, "cohorts": cohort_scores})
    folder = REPORTS / name / FOLDER
    with tempfile.TemporaryDirectory(dir=REPORTS / name, prefix=".candidate-") as building:
        built = Path(building) / FOLDER
        (built / "figures").mkdir(parents=True)
        for path in (*own.glob("*.png"), *own.glob("*.svg")):
            shutil.copy(path, built / "figures")
        shutil.copy(own / PREDICTIONS, built)
        shutil.copy(SCHEMA_FILE, built)
        write_card(evidence, built)
        write_json(built / EVIDENCE, evidence)
        log(evidence, built)
        shutil.rmtree(folder, ignore_errors=True)
        built.replace(folder)
    return evidence


def read_predictions(folder: Path, evidence: dict[str, Any]) -> pd.DataFrame:
    """Return the predictions that evidence was measured on; refuse others."""
    path = folder / PREDICTIONS
    if not path.is_file() or file_sha256(path) != evidence["hashes"]["predictions.sha256"]:
        raise UserError(f"{path} is not what the evidence was measured on; run the evaluate stage again")
    return pd.read_parquet(path)


def comparisons(
    name: str, params: Params, evidence: dict[str, Any], *, ours: pd.DataFrame, prepared: Prepared
) -> list[dict[str, Any]]:
    """Return how much better than others the candidate is, on the same rows: see the schema's ``comparisons``."""
    task, own = params.task(name), evidence["architecture"]
    settings, measures, baseline = task.evaluate, measures_of(task.problem), task.evaluate.baseline
    learnt = measures.learnt(task, lambda: prepared.side("train"))
    learnt |= {"resamples": settings.resamples, "confidence": settings.confidence, "seed": params.seed}

    def row(about: dict[str, Any], ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Any]:
        return {"version": None, **about, **vars(paired_difference(task, ours, theirs, settings.metric, **learnt))}

    others = {
        architecture: found
        for architecture in params.architectures(name)
        if architecture != own and (found := _comparable(name, architecture, evidence)) is not None
    }
    run_id = others.pop(baseline)["run_id"] if baseline in others else None
    rows = [row({"with": baseline, "kind": "naive", "run_id": run_id}, ours, measures.naive(ours))]
    for architecture, other in others.items():
        theirs = read_predictions(evidence_path(name, architecture).parent, other)
        role = get_architecture(architecture, task.modality, task.problem).role
        about = {"with": architecture, "kind": "simple" if role == "simple" else "peer", "run_id": other["run_id"]}
        rows.append(row(about, ours, theirs))
    facing = opponent(name, task, evidence, ours, prepared)
    if facing is not None:
        about, frames = facing
        numbers = dict.fromkeys(("difference", "low", "high", "p"))
        nothing = {"metric": settings.metric, **numbers, "rows": 0, "groups": 0}
        try:
            rows.append(row(about, *frames) if frames else {**about, **nothing})
        except UserError as error:  # other rows, classes or one group only: it stays a fact that there is one
            rows.append({**about, "note": f"{about.get('note', '')} {error}".strip(), **nothing})
    return rows


def scored(name: str, evidence: dict[str, Any], cohorts: Mapping[str, Path], seed: int) -> list[dict[str, Any]]:
    """Return the scores of outside cohorts, each with the hash of its data."""
    if not cohorts:
        return []
    model, found = load(evidence["model_uri"]), []
    for cohort, given in cohorts.items():
        folder = given / name if (given / name).is_dir() else given
        if not folder.is_dir():
            raise UserError(f"cohort {cohort!r}: {str(folder)!r}: no such folder")
        found.append({"name": cohort, **score(model, folder, seed=seed), "data.sha256": tracking.folder_sha256(folder)})
    return found


def log(evidence: dict[str, Any], folder: Path) -> None:
    """Log ``folder`` to the fit's run as ``evidence/<sha256>/``; what is there already is left alone."""
    place = f"evidence/{evidence['sha256']}"
    with tracking.run(evidence["task"], "candidate", evidence["architecture"], run_id=evidence["run_id"]) as run:
        there = {file.path for file in MlflowClient().list_artifacts(evidence["run_id"], place)}
        if f"{place}/{EVIDENCE}" not in there:  # it is logged last: where it is, all is
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.name != EVIDENCE:
                    below = path.relative_to(folder).parent.as_posix()
                    tracking.mlflow.log_artifact(str(path), place if below == "." else f"{place}/{below}")
            tracking.mlflow.log_artifact(str(folder / EVIDENCE), place)
        metric = evidence["comparisons"][0]["metric"]  # with the baseline, in the task's metric
        said = summary(evidence, metric, run.info.experiment_id, f"{place}/card.md")
        tracking.mlflow.set_tags({"evidence.sha256": evidence["sha256"], NOTE: said})


def _comparable(name: str, architecture: str, evidence: dict[str, Any]) -> dict[str, Any] | None:
    """Return the evidence of another architecture, None where there is none of the same test rows."""
    path = evidence_path(name, architecture)
    if not path.is_file():
        return None
    try:
        other = read_evidence(path)
        if other["hashes"]["split.sha256"] != evidence["hashes"]["split.sha256"]:
            raise UserError("it was evaluated on another split")
    except UserError as error:
        print(f"warning: {architecture} is not compared: {error}", file=sys.stderr)
        return None
    return other
