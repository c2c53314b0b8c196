"""A candidate against the version that is in production, on test rows that neither was fitted on.

Where both were fitted on one split, their predictions of its test rows are compared. Where data or split have changed,
the version in production answers today's test rows anew; those that it was fitted on flatter it and are left out.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from evaluation.evidence.build import PREDICTIONS, SPLIT, file_sha256
from evaluation.problems import measures_of
from evaluation.promotion.scoring import load
from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.params import Task, read_task
from pipelines.paths import DATA
from training.model.predictor import Predictor

ALIAS = "production"
FEWEST_GROUPS = 10  # that production has not seen, for an interval that says something

Opponent = tuple[dict[str, Any], tuple[pd.DataFrame, pd.DataFrame] | None]


def production_version(name: str) -> ModelVersion | None:
    """Return the version of the registered model ``name`` that is in production, None where there is none."""
    client = MlflowClient()
    try:
        version = client.get_registered_model(name).aliases.get(ALIAS)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return None if version is None else client.get_model_version(name, str(version))


def opponent(
    name: str, task: Task, evidence: dict[str, Any], ours: pd.DataFrame, prepared: Prepared
) -> Opponent | None:
    """Return the version in production as in the schema's ``comparisons``, None where there is none, and predictions.

    They are the candidate's and its own of the test rows; None where it cannot answer.
    """
    version = production_version(name)
    if version is None:
        return None
    about: dict[str, Any] = {"with": version.tags.get("architecture", "unknown"), "kind": "production"}
    about |= {"version": str(version.version), "run_id": version.run_id}
    if version.source == evidence["model_uri"] or version.run_id == evidence["run_id"]:
        return {**about, "seen": 0, "note": "the candidate is the version in production"}, (ours, ours)
    if version.tags.get("split.sha256") == evidence["hashes"]["split.sha256"]:
        kept = kept_predictions(version)
        if kept is not None:
            return {**about, "seen": 0}, (ours, kept)
    try:
        model = load(f"models:/{name}/{version.version}")
        mine, theirs = answered(model, name, task, ours=ours, prepared=prepared)
    except Exception as error:  # an older version may fail in any way, and the candidate is evidence all the same
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return {**about, "note": f"version {version.version} cannot answer today's test rows: {said}"}, None
    return _unseen(about, mine, theirs, split=kept_table(version.run_id, SPLIT), today=prepared.table)


def kept_predictions(version: ModelVersion) -> pd.DataFrame | None:
    """Return the predictions that were logged with a version's evidence, None where they are not there or changed."""
    wanted = version.tags.get("predictions.sha256")
    for place in (f"evidence/{version.tags.get('evidence.sha256')}/{PREDICTIONS}", PREDICTIONS):
        if (found := kept_table(version.run_id, place, wanted)) is not None:
            return found
    return None


def kept_table(run_id: str | None, place: str, sha256: str | None = None) -> pd.DataFrame | None:
    """Return a Parquet table among the artifacts of a run, None where there is none or it has another hash."""
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as folder:
        try:
            found = tracking.mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=place, dst_path=folder)
        except (MlflowException, OSError):
            return None
        return pd.read_parquet(found) if sha256 in (None, file_sha256(Path(found))) else None


def answered(
    model: Predictor, name: str, task: Task, *, ours: pd.DataFrame, prepared: Prepared
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of ``ours`` that another version can answer, and what it answers."""
    its_task = read_task(model.contract.task_text)
    # Read by the rules that the version was made under: its images may be smaller, its values on another scale.
    samples = prepared.samples if its_task.data == task.data else its_task.read(DATA / name).samples
    place = pd.Index(samples.table["sample_id"]).get_indexer(pd.Index(ours["sample_id"]))
    mine = ours[place >= 0].reset_index(drop=True)
    return measures_of(task.problem).answered(model, samples.take(place[place >= 0]), mine)


def _unseen(
    about: dict[str, Any], ours: pd.DataFrame, theirs: pd.DataFrame, *, split: pd.DataFrame | None, today: pd.DataFrame
) -> Opponent:
    """Leave out rows of the groups of today's that production was fitted on, by its split, where enough is left."""
    if split is None:
        note = "which rows this version was fitted on is not recorded: it may have seen some of these, which favors it"
        return {**about, "note": note}, (ours, theirs)
    known = set(split.loc[split["split"] != "test", "sample_id"])
    group = today.set_index("sample_id")["group"]  # of the split: intervals may resample others
    seen = np.asarray(ours["sample_id"].map(group).isin(set(group[group.index.isin(known)])))
    count, rows = int(seen.sum()), len(seen)
    note = "answered anew: its own split was another"
    if count and ours.loc[~seen, "group"].nunique() < FEWEST_GROUPS:
        note = f"this version was fitted on {count} of these {rows} rows or on others of their groups, which favors it"
    elif count:
        note = f"{count} of {rows} test rows are left out: this version was fitted on them or on others of their groups"
        ours, theirs = (frame[~seen].reset_index(drop=True) for frame in (ours, theirs))
    return {**about, "seen": count, "note": note}, (ours, theirs)
