"""A logged or registered model scored on a labelled folder of the raw format, such as an outside cohort."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.candidates.registered_files import FILES_TAG, check_files, version_behind
from evaluation.metrics.classification import bootstrap_classification
from evaluation.metrics.resample import bootstrap_regression
from evaluation.metrics.targets import bootstrap_targets
from pipelines import tracking
from pipelines.faults import DataError, Finding, UserError
from pipelines.groups import group_samples
from pipelines.params import ExpressionTask, ImageTask, ResponseTask, SensitivityTask, Task, read_task
from pipelines.samples.expression import EXPRESSION_FILE, keep_profiles, read_expression_tables
from pipelines.samples.formats import ResponseTables, read_response_tables
from pipelines.samples.gene_names import match_genes
from pipelines.samples.images import read_images
from pipelines.samples.response import Kept, keep_samples
from pipelines.samples.sensitivity import Thresholds, call
from training.contracts.profiles import GeneContract, LabelContract
from training.contracts.response import ResponseContract
from training.contracts.sensitivity import SensitivityContract
from training.model.logged_model import predictor_folder
from training.model.predictor import Predictor


def score(model: Predictor, folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Return every metric with its interval, of ``model`` on the labelled samples in ``folder``.

    Parameters
    ----------
    model
        The logged predictor.
    folder
        Raw folder; omics that the model imputes may be missing.
    seed
        Of the bootstrap.

    Returns
    -------
    dict
        ``n``, ``groups``, ``dropped`` and ``metrics: {name: {value, low, high}}``. Groups are those of the split mode
        that the model was trained under: what it has not seen.

    Raises
    ------
    UserError
        The folder is not of the format, lacks features that the model needs, or has nothing to score.
    """
    task = read_task(model.contract.task_text)
    kept = _read(folder, task, model)
    samples = kept.samples
    if len(samples) == 0:
        raise UserError(f"{folder}: no sample is left to score: {kept.counts['rows']['dropped']}")
    groups, _ = group_samples(samples, task.split)
    if groups.nunique() < 2:
        raise UserError(f"{folder}: all samples are of one group; an interval needs at least two")
    settings: dict[str, Any] = {
        "baseline": model.baseline.outputs(samples),
        "resamples": task.evaluate.resamples,
        "confidence": task.evaluate.confidence,
        "seed": seed,
    }
    outputs = model.outputs(samples)
    if isinstance(task, ResponseTask) and not isinstance(task, SensitivityTask):
        metrics = bootstrap_regression(samples.target, outputs, groups, within=samples.pairs["drug_id"], **settings)
    elif isinstance(model.contract, GeneContract):
        settings |= {"margin_metric": task.evaluate.metric, "scale": model.contract.spreads}
        metrics = bootstrap_targets(samples.target, outputs, groups, **settings)
    else:
        settings |= {"classes": samples.classes, "margin_metric": task.evaluate.metric}
        settings |= {"within": samples.pairs["drug_id"]} if isinstance(task, SensitivityTask) else {}
        metrics = bootstrap_classification(samples.target, outputs, groups, **settings)
    return {
        "n": len(samples),
        "groups": int(groups.nunique()),
        "dropped": {rule: count for rule, count in kept.counts["rows"]["dropped"].items() if count},
        "metrics": {name: interval.as_dict() for name, interval in metrics.items()},
    }


def _read(folder: Path, task: Task, model: Predictor) -> Kept:
    if isinstance(task, ImageTask):
        return read_images(folder, task, every_class=False)  # a cohort may lack a class
    if isinstance(task, ExpressionTask):
        return _read_profiles(folder, task, model)
    assert isinstance(task, ResponseTask)
    optional = [name for name in task.data.omics if getattr(task.data.missing, name) != "drop"]
    tables = read_response_tables(folder, task, optional=optional)
    _require_features(tables, model)
    _require_sound(tables, task)
    kept = keep_samples(tables, task)
    if isinstance(model.contract, SensitivityContract):  # by the thresholds that the model was trained on
        return Kept(call(kept.samples, Thresholds(**model.contract.thresholds)), kept.counts)
    return kept


def _read_profiles(folder: Path, task: ExpressionTask, model: Predictor) -> Kept:
    """Read a cohort of profiles and name its genes as the model does; genes that it lacks are imputed, if few."""
    contract = model.contract
    assert isinstance(contract, (LabelContract, GeneContract))
    tables = read_expression_tables(folder, task, described=False)
    classes = contract.classes if isinstance(contract, LabelContract) else None
    kept = keep_profiles(tables, task, classes=classes)
    targets = contract.targets if isinstance(contract, GeneContract) else []
    wanted = list(dict.fromkeys([*contract.genes, *targets]))
    match = match_genes(kept.samples.genes, wanted)
    lacking = [gene for gene in match.missing if gene not in targets]
    if len(lacking) > task.data.missing_genes * len(contract.genes):
        message = f"lacks {len(lacking)} of the model's {len(contract.genes)} genes: {', '.join(lacking[:20])}"
        raise DataError([Finding("model_features", EXPRESSION_FILE, message, lacking[0])])
    if lost := [gene for gene in match.missing if gene in targets]:
        message = f"lacks {len(lost)} of the {len(targets)} genes that the model predicts: {', '.join(lost[:20])}"
        raise DataError([Finding("model_targets", EXPRESSION_FILE, message, lost[0])])
    column = {gene: place for place, gene in enumerate(kept.samples.genes)}
    values = np.full((len(kept.samples.values), len(wanted)), np.nan, dtype=np.float32)
    for place, gene in enumerate(wanted):
        if gene in match.found:
            values[:, place] = kept.samples.values[:, column[match.found[gene]]]
    about = pd.DataFrame(index=pd.Index(wanted))
    samples = replace(kept.samples, values=values, genes=tuple(wanted), about_genes=about)
    if targets:
        samples = samples.aimed(targets, contract.genes)
    return Kept(samples, {**kept.counts, "imputed_genes": lacking})


def _require_features(tables: ResponseTables, model: Predictor) -> None:
    """Refuse a table that lacks features of the model: imputing a gene for a whole cohort would pass unseen."""
    findings = []
    assert isinstance(model.contract, ResponseContract)
    for name, features in model.contract.features.items():
        table = tables.omics[name]
        if len(table) and (lacking := [feature for feature in features if feature not in table.columns]):
            message = f"lacks {len(lacking)} of the model's {len(features)} features: {', '.join(lacking[:5])}"
            findings.append(Finding("model_features", f"{name}.parquet", message, lacking[0]))
    if findings:
        raise DataError(findings)


def _require_sound(tables: ResponseTables, task: ResponseTask) -> None:
    """Refuse values that would make every metric meaningless."""
    findings = []
    target = tables.response[task.data.target].to_numpy(np.float64)
    if len(infinite := np.flatnonzero(np.isinf(target))):
        findings.append(Finding.at_rows("finite", "response.parquet", task.data.target, infinite, "must be finite"))
    for name, table in tables.omics.items():
        values = table.drop(columns="cell_line_id").to_numpy(np.float64)
        if len(rows := np.flatnonzero(np.isinf(values).any(axis=1))):
            findings.append(Finding.at_rows("finite", f"{name}.parquet", None, rows, "must be finite"))
        if len(rows := np.flatnonzero(table["cell_line_id"].duplicated())):
            message = "the cell line stands twice; keep one"
            findings.append(Finding.at_rows("unique", f"{name}.parquet", "cell_line_id", rows, message))
    for file, frame, key in (
        ("cell_lines.csv", tables.cell_lines, "cell_line_id"),
        ("drugs.csv", tables.drugs, "drug_id"),
    ):
        if len(rows := np.flatnonzero(frame[key].duplicated())):
            findings.append(Finding.at_rows("unique", file, key, rows, "the id stands twice; keep one"))
    if findings:
        raise DataError(findings)


def load(uri: str) -> Predictor:
    """Read the predictor behind a model URI, with the code of this checkout.

    Estimator and contract are data, so the code that was logged with them is not run: this process has modules of the
    same names already, and would make one program of two releases.

    Raises
    ------
    UserError
        There is no such model, it is not one of this platform's, its files are not those that were registered, or this
        checkout's code does not read them.
    """
    mlflow = tracking.mlflow
    try:
        version = version_behind(uri)
        place = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except (mlflow.exceptions.MlflowException, OSError) as error:
        told = f"model {uri!r} cannot be loaded from {mlflow.get_tracking_uri()}: {error}"
        raise tracking.refusal(error) or UserError(told) from error
    if version is not None and FILES_TAG in version.tags:
        check_files(version, place)
    folder = predictor_folder(place)
    try:
        return Predictor().read(folder)
    except UserError:
        raise
    except Exception as error:  # of another release, which had other classes and fields
        raise UserError(
            f"model {uri} was logged by another release, which this checkout's code cannot read "
            f"({type(error).__name__}: {error}); check out the commit that its run is tagged with (git.commit)"
        ) from error
