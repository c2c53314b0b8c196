"""A logged or registered model scored on a labelled folder of the raw format, such as an outside cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from training.contracts.sensitivity import SensitivityContract

from evaluation.candidates.registered_files import FILES_TAG, check_files, version_behind
from evaluation.metrics.classification import bootstrap_classification
from evaluation.metrics.resample import bootstrap_regression
from evaluation.metrics.targets import bootstrap_targets
from pipelines import tracking
from pipelines.faults import DataError, Finding, UserError
from pipelines.groups import group_samples
from pipelines.modalities.images import ImagesTask
from pipelines.modalities.pairs import PairsTask
from pipelines.modalities.profiles import ProfilesTask
from pipelines.params import Task, read_task
from pipelines.samples import Kept
from pipelines.samples.expression import (
    EXPRESSION_FILE,
    SAMPLES_FILE,
    ExpressionTables,
    keep_profiles,
    read_expression_tables,
    unruled,
)
from pipelines.samples.formats import ResponseTables, read_response_tables
from pipelines.samples.gene_names import match_genes, respelled
from pipelines.samples.images import read_images
from pipelines.samples.response import UNKNOWN, keep_samples
from pipelines.samples.sensitivity import Thresholds, call
from pipelines.tasks.pairs_classification import PairsClassification
from pipelines.text_values import folded, quoted
from pipelines.units import DOUBTS, Doubt, response_doubt
from training.contract import Contract
from training.features.units import LIMITS, outside
from training.modalities.pairs import ResponseContract
from training.modalities.profiles import GeneContract, LabelContract
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
        ``n``, ``groups``, ``dropped``, ``warnings`` and ``metrics: {name: {value, low, high}}``. Groups are those of
        the split mode that the model was trained under: what it has not seen. Warnings say of how many samples the
        model does not know the drug or the tissue, and what looks as if it were in another unit.

    Raises
    ------
    UserError
        The folder is not of the format, lacks features that the model needs, is in other units than the training
        data was, or has nothing to score.
    """
    task = read_task(model.contract.task_text)
    kept, notes = _read(folder, task, model)
    samples = kept.samples
    if len(samples) == 0:
        raise UserError(f"{folder}: no sample is left to score: {kept.counts['rows']['dropped']}")
    warnings = notes + _said_of_units(task, model.contract, samples)
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
    if isinstance(task, PairsTask) and not isinstance(task, PairsClassification):
        metrics = bootstrap_regression(samples.target, outputs, groups, within=samples.pairs["drug_id"], **settings)
    elif isinstance(model.contract, GeneContract):
        settings |= {"margin_metric": task.evaluate.metric, "scale": model.contract.spreads}
        metrics = bootstrap_targets(samples.target, outputs, groups, **settings)
    else:
        settings |= {"classes": samples.classes, "margin_metric": task.evaluate.metric}
        settings |= {"within": samples.pairs["drug_id"]} if isinstance(task, PairsClassification) else {}
        metrics = bootstrap_classification(samples.target, outputs, groups, **settings)
    return {
        "n": len(samples),
        "groups": int(groups.nunique()),
        "dropped": {rule: count for rule, count in kept.counts["rows"]["dropped"].items() if count},
        "warnings": warnings,
        "metrics": {name: interval.as_dict() for name, interval in metrics.items()},
    }


def _read(folder: Path, task: Task, model: Predictor) -> tuple[Kept, list[str]]:
    """Return the samples, and what was read otherwise than the files have it."""
    if isinstance(task, ImagesTask):
        return read_images(folder, task, every_class=False), []  # a cohort may lack a class
    if isinstance(task, ProfilesTask):
        return _read_profiles(folder, task, model)
    assert isinstance(task, PairsTask)
    optional = [name for name in task.data.omics if getattr(task.data.missing, name) != "drop"]
    tables = read_response_tables(folder, task, optional=optional)
    _require_features(tables, model)
    _require_sound(tables, task)
    assert isinstance(model.contract, ResponseContract)
    tables, said = _as_the_model_writes(tables, model.contract)
    kept = keep_samples(tables, task)
    if isinstance(model.contract, SensitivityContract):  # by the thresholds that the model was trained on
        kept = Kept(call(kept.samples, Thresholds(**model.contract.thresholds)), kept.counts)
    return kept, [*map(str, tables.notes), *said]


def _read_profiles(folder: Path, task: ProfilesTask, model: Predictor) -> tuple[Kept, list[str]]:
    """Read a cohort of profiles and name its genes as the model does; genes that it lacks are imputed, if few."""
    contract = model.contract
    assert isinstance(contract, (LabelContract, GeneContract))
    tables = read_expression_tables(folder, task, described=False)
    classes = contract.classes if isinstance(contract, LabelContract) else None
    notes = [str(note) for note in tables.notes]
    if classes is not None:
        tables, said = _with_classes(tables, classes)
        notes += said
    kept = keep_profiles(tables, task, classes=classes)
    for ruled in task.data.exclude:
        if unsaid := int(unruled(tables.samples[ruled]).sum()):
            notes.append(
                f"{SAMPLES_FILE}: {ruled} of {unsaid} samples is empty or unknown, so that data.exclude of "
                "params.yaml cannot rule them out; they are kept"
            )
    targets = contract.targets if isinstance(contract, GeneContract) else []
    wanted = list(dict.fromkeys([*contract.genes, *targets]))
    match = match_genes(kept.samples.genes, wanted)
    spelled = {gene: given[0] for gene, given in respelled(kept.samples.genes, wanted).items() if len(given) == 1}
    if spelled:
        notes.append(f"{EXPRESSION_FILE}: genes were matched but for case or blanks: {quoted(spelled.values())}")
    found, missing = {**match.found, **spelled}, [gene for gene in match.missing if gene not in spelled]
    lacking = [gene for gene in missing if gene not in targets]
    if len(lacking) > task.data.missing_genes * len(contract.genes):
        message = f"lacks {len(lacking)} of the model's {len(contract.genes)} genes: {', '.join(lacking[:20])}"
        raise DataError([Finding("model_features", EXPRESSION_FILE, message, lacking[0])])
    if lost := [gene for gene in missing if gene in targets]:
        message = f"lacks {len(lost)} of the {len(targets)} genes that the model predicts: {', '.join(lost[:20])}"
        raise DataError([Finding("model_targets", EXPRESSION_FILE, message, lost[0])])
    column = {gene: place for place, gene in enumerate(kept.samples.genes)}
    values = np.full((len(kept.samples.values), len(wanted)), np.nan, dtype=np.float32)
    for place, gene in enumerate(wanted):
        if gene in found:
            values[:, place] = kept.samples.values[:, column[found[gene]]]
    about = pd.DataFrame(index=pd.Index(wanted))
    samples = replace(kept.samples, values=values, genes=tuple(wanted), about_genes=about)
    if targets:
        samples = samples.aimed(targets, contract.genes)
    return Kept(samples, {**kept.counts, "imputed_genes": lacking}), notes


def _with_classes(tables: ExpressionTables, classes: Sequence[str]) -> tuple[ExpressionTables, list[str]]:
    """Return labels as the model writes its classes, with what was read so and what it does not know."""
    by_folded = {folded(name): name for name in classes}
    labels = tables.samples["label"]
    known = labels.map(lambda label: by_folded.get(folded(label), label), na_action="ignore")
    said = []
    if len(read := labels[(known != labels) & labels.notna()].unique()):
        said.append(f"{SAMPLES_FILE}: labels in another case were read as the model's classes: {quoted(sorted(read))}")
    if len(strange := known[known.notna() & ~known.isin(list(classes))].unique()):
        said.append(f"{SAMPLES_FILE}: the model does not know the labels {quoted(sorted(strange))}; they are dropped")
    return replace(tables, samples=tables.samples.assign(label=known)), said


def _as_the_model_writes(tables: ResponseTables, contract: ResponseContract) -> tuple[ResponseTables, list[str]]:
    """Return ids of drugs and tissues as the model writes them, as the endpoint reads them, and what was read so."""
    said = []
    ids = {each: contract.drug_id_as_known(each) for each in tables.drugs["drug_id"].dropna().unique()}
    if len(set(ids.values())) < len(ids):  # ids that the cohort tells apart stay apart
        ids = {each: each for each in ids}
    tissues = {each: contract.tissue_as_known(each) for each in tables.cell_lines["tissue"].dropna().unique()}
    for file, what, names in (("drugs.csv", "ids", ids), ("cell_lines.csv", "tissues", tissues)):
        if read := [each for each, name in names.items() if each != name]:
            said.append(f"{file}: {what} in another case were read as the model's: {quoted(read)}")
    used = tables.cell_lines["cell_line_id"].isin(tables.response["cell_line_id"])
    here = [tissues[each] for each in tables.cell_lines.loc[used, "tissue"].dropna().unique()]
    if contract.tissues and (strange := {*here} - {*contract.tissues, UNKNOWN}):
        said.append(f"cell_lines.csv: the model does not know the tissues {quoted(sorted(strange))}")
    return replace(
        tables,
        cell_lines=tables.cell_lines.assign(tissue=tables.cell_lines["tissue"].map(tissues)),
        drugs=tables.drugs.assign(drug_id=tables.drugs["drug_id"].map(ids)),
        response=tables.response.assign(drug_id=tables.response["drug_id"].map(lambda each: ids.get(each, each))),
    ), said


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


def _require_sound(tables: ResponseTables, task: PairsTask) -> None:
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
            message = "the cell line stands twice; give each line one row, measurements of it a mean"
            findings.append(Finding.at_rows("unique", f"{name}.parquet", "cell_line_id", rows, message))
    for file, frame, key in (
        ("cell_lines.csv", tables.cell_lines, "cell_line_id"),
        ("drugs.csv", tables.drugs, "drug_id"),
    ):
        if len(rows := np.flatnonzero(frame[key].duplicated())):
            findings.append(Finding.at_rows("unique", file, key, rows, "the id stands twice; write one row an id"))
    if findings:
        raise DataError(findings)


def _said_of_units(task: Task, contract: Contract, samples: Any) -> list[str]:
    """Return warnings about units, and about what the model does not know.

    Raises
    ------
    DataError
        A table is in another unit for certain, or most of its profiles lie outside what the training profiles were.
    """
    warnings: list[str] = []
    findings: list[Finding] = []

    def doubted(file: str, doubt: Doubt | None, column: str | None = None) -> None:
        if doubt is not None and doubt.certain:
            findings.append(Finding("units", file, f"{doubt.message}; bring the values to the model's unit", column))
        elif doubt is not None:
            warnings.append(f"{file}: {doubt.message}")

    def compared(file: str, table: str, values: np.ndarray, features: list[str], unit: dict[str, Any]) -> None:
        strange = [said for said in outside(values, features, unit, table) if said]
        if 2 * len(strange) > len(values):
            message = f"{len(strange)} of {len(values)} profiles are not as those that the model was trained on: "
            findings.append(Finding("units", file, f"{message}{strange[0]}; bring them to its unit"))
        elif strange:
            warnings.append(f"{file}: {len(strange)} of {len(values)} profiles: {strange[0]}")

    def beyond(file: str, scale: str, table: pd.DataFrame) -> None:
        lowest, highest, what = LIMITS[scale]
        values = table.to_numpy(np.float64)
        wrong = (
            (values < lowest) | (values > highest) | ((scale == "mutation") & np.isfinite(values) & (values % 1 != 0))
        )
        if wrong.any():
            row, column = (int(each[0]) for each in np.nonzero(wrong))
            message = f"{str(table.index[row])!r} has {values[row, column]:g}, one of {wrong.sum()} such values; {what}"
            findings.append(Finding("units", file, message, str(table.columns[column])))

    if isinstance(contract, ResponseContract):
        lines = np.unique(samples.cell)
        for name in contract.features:
            file, scale = f"{name}.parquet", contract.scale_of(name)
            table = samples.omics[name][contract.features[name]].iloc[lines].dropna(how="all")
            values = table.to_numpy(np.float64)
            before = len(findings)
            if scale in LIMITS and name in DOUBTS:
                doubted(file, DOUBTS[name](values))
            if scale in LIMITS and len(findings) == before:
                beyond(file, scale, table)
            if name in contract.units and len(values):
                compared(file, name, values, contract.features[name], contract.units[name])
        if task.data.target == "ln_ic50" and not isinstance(task, PairsClassification):
            used = samples.pairs["drug_id"].nunique()
            doubted("response.parquet", response_doubt(samples.target, used), task.data.target)
        if strangers := int((~contract.known_drugs(samples)).sum()):
            warnings.append(
                f"drugs.csv: {strangers} of {len(samples)} samples are of drugs that the model does not know"
            )
    elif isinstance(contract, (LabelContract, GeneContract)):
        values = samples.raw(contract.genes)
        if contract.unit is not None:
            compared(EXPRESSION_FILE, "expression", values, contract.genes, contract.unit)
        rows = np.flatnonzero((values < 0).any(axis=1))
        if len(rows) and samples.scale != "as_is":
            message = f"holds values below 0, which {samples.scale} expression never is; bring them to the model's unit"
            findings.append(Finding.at_rows("units", EXPRESSION_FILE, None, rows, message))
    if findings:
        raise DataError(findings)
    return warnings


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
