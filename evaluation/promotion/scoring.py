"""A logged or registered model scored on a labelled folder of the raw format, such as an outside cohort."""

from pathlib import Path
from typing import Any

import numpy as np

from evaluation.modalities import modality_of
from evaluation.problems import measures_of
from evaluation.promotion.registered_files import FILES_TAG, check_files, version_behind
from evaluation.promotion.signatures import signers
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.file_hashes import combined, file_hashes
from pipelines.params import read_task
from pipelines.special_files import refuse_special
from training.model.predictor import Predictor
from training.model.track import predictor_folder


def score(model: Predictor, folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Return every metric of ``model`` with its interval on the labelled samples in a raw folder.

    The keys are ``n``, ``groups`` (what intervals resample, see `Modality.units`), ``dropped``, ``warnings`` and
    ``metrics: {name: {value, low, high}}``. `UserError` if the folder is not of the format, lacks features that the
    model needs, is in other units than the training data was, or has nothing to score.
    """
    refuse_special([folder, *folder.rglob("*")])
    task, contract = read_task(model.contract.task_text), model.contract
    modality, measures = modality_of(task.modality), measures_of(task.problem)
    kept, notes = modality.read_cohort(folder, task, contract)
    samples = kept.samples
    if len(samples) == 0:
        raise UserError(f"{folder}: no sample is left to score: {kept.counts['rows']['dropped']}")
    warnings = notes + modality.unit_warnings(task, contract, samples)
    unit, groups = modality.units(samples, task.split)
    if (count := len(np.unique(groups))) < 2:
        raise UserError(f"{folder}: all samples are of one {unit}; an interval needs at least two")
    known: dict[str, Any] = {"baseline": model.baseline.outputs(samples), "within": samples.within, "seed": seed}
    known |= {"margin_metric": task.evaluate.metric, **contract.scoring}
    known |= {"resamples": task.evaluate.resamples, "confidence": task.evaluate.confidence}
    metrics = measures.bootstrap(samples.target, model.outputs(samples), groups, **known)
    return {
        "n": len(samples),
        "groups": count,
        "dropped": {rule: count for rule, count in kept.counts["rows"]["dropped"].items() if count},
        "warnings": warnings,
        "metrics": {name: interval.as_dict() for name, interval in metrics.items()},
    }


def load(uri: str, *, served: bool = False) -> Predictor:
    """Read the predictor behind a model URI, with the code of this checkout.

    Estimator and contract are data; the code that was logged with them is not run. `UserError` if there is no such
    model, its files are not those that were registered, or this checkout's code does not read them. With ``served`` a
    version must have been registered with the hash of its files, as for the endpoint, or where releases are signed.
    """
    mlflow = tracking.mlflow
    try:
        version = version_behind(uri)
        place = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except (mlflow.exceptions.MlflowException, OSError) as error:
        told = f"model {uri!r} cannot be loaded from {mlflow.get_tracking_uri()}: {error}"
        raise tracking.refusal(error) or UserError(told) from error
    if version is not None and (served or FILES_TAG in version.tags or signers() is not None):
        check_files(version, place)
    folder = predictor_folder(place)
    try:
        found = Predictor().read(folder)
        found.version = found.version if version is None else str(version.version)
        found.files_sha256 = combined(file_hashes(folder, leave_out=("__pycache__",)))
        return found
    except UserError:
        raise
    except Exception as error:  # of another release, which had other classes and fields
        raise UserError(
            f"model {uri} was logged by another release, which this checkout's code cannot read "
            f"({type(error).__name__}: {error}); check out the commit that its run is tagged with (git.commit)"
        ) from error
