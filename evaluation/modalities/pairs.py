"""How pairs of a cell line and a drug are read for scoring, and scored in every split mode."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.metrics import Interval, over_groups
from evaluation.modalities import Modality
from evaluation.modalities._doubts import Doubts
from pipelines.errors import DataError, Finding
from pipelines.groups.pairs import cell_line_groups, drug_groups
from pipelines.modalities.pairs import PairsTask
from pipelines.params import Split
from pipelines.samples.formats import ResponseTables, read_response_tables
from pipelines.samples.response import UNKNOWN, Kept, ResponseSamples, keep_samples
from pipelines.samples.sensitivity import Thresholds, call
from pipelines.split import CROSS_STUDY
from pipelines.text_values import quoted
from pipelines.units import DOUBTS, response_doubt
from training.features.units import LIMITS
from training.modalities.pairs import Pairs as Contract

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation

OF_LINES = "r2_over_drug_mean"  # in which `pipelines.probes.probe_response` measures its probes
TARGET_UNITS = {"ln_ic50": "ln IC50 (µM)", "auc": "area under the dose-response curve"}
_UNITS = {"drug_blind": "drug", "drug_pilot": "drug", "tissue_blind": "tissue"}  # resampled; elsewhere cell lines


class Pairs(Modality):
    """Cell lines and drugs, measured in studies."""

    in_every_mode = True

    def read_cohort(self, folder: Path, task: Any, contract: Any) -> tuple[Kept, list[str]]:
        """See `Modality.read_cohort`; where calls are predicted, by the thresholds that the model was trained on."""
        optional = [name for name in task.data.omics if getattr(task.data.missing, name) != "drop"]
        tables = read_response_tables(folder, task, optional=optional)
        for findings in (_feature_findings(tables, contract), _value_findings(tables, task)):
            if findings:
                raise DataError(findings)
        tables, notes = _translated(tables, contract)
        kept = keep_samples(tables, task)
        if contract.thresholds:
            kept = Kept(call(kept.samples, Thresholds(**contract.thresholds)), kept.counts)
        return kept, [*map(str, tables.notes), *notes]

    def unit_warnings(self, task: Any, contract: Any, samples: ResponseSamples) -> list[str]:
        """See `Modality.unit_warnings`."""
        found = Doubts()
        lines = np.unique(samples.cell)
        for name in contract.features:
            file, scale = f"{name}.parquet", contract.scale_of(name)
            table = samples.omics[name][contract.features[name]].iloc[lines].dropna(how="all")
            values = table.to_numpy(np.float64)
            before = len(found.findings)
            if scale in LIMITS and name in DOUBTS:
                found.doubt(file, DOUBTS[name](values))
            if scale in LIMITS and len(found.findings) == before:
                found.limit(file, scale, table)
            if name in contract.units and len(values):
                found.compare(file, name, values, contract.features[name], contract.units[name])
        if task.data.target == "ln_ic50" and not contract.thresholds:
            used = samples.pairs["drug_id"].nunique()
            found.doubt("response.parquet", response_doubt(samples.target, used), task.data.target)
        if strangers := int(contract.unseen(samples).sum()):
            message = f"{strangers} of {len(samples)} samples are of drugs that the model does not know"
            found.warnings.append(f"drugs.csv: {message}")
        return found.judged()

    def simulated(self, samples: ResponseSamples) -> bool:
        """Return whether the cell lines of some pairs are simulated."""
        return bool(samples.cell_lines.get("simulated", pd.Series([False])).any())

    def described(self, samples: ResponseSamples) -> pd.DataFrame:
        """Return the columns of pairs, and those of cell lines and drugs that have no name of these."""
        tables = samples.pairs, samples.cell_lines.iloc[samples.cell], samples.drugs.iloc[samples.drug]
        found = pd.concat([each.reset_index(drop=True) for each in tables], axis=1)
        return found.loc[:, ~found.columns.duplicated()]

    def part_names(self, run: Evaluation) -> dict[str, str]:
        """Return the names of the drugs that have one, by id."""
        drugs = run.test.drugs
        named = drugs["name"].dropna() if "name" in drugs else pd.Series(dtype=object)
        return {str(drug): str(name) for drug, name in named.items()}

    def target_unit(self, task: Any) -> str:
        """Return the unit of the response."""
        return TARGET_UNITS.get(task.data.target, task.data.target)

    def probed(self, run: Evaluation) -> dict[str, Interval]:
        """Return the share of the variance between lines that is explained; nothing for classes."""
        if run.contract.thresholds:
            return {}
        return {OF_LINES: line_score(run.predictions, run.prepared.side("train"), **run.bootstrap)}

    def units(self, samples: ResponseSamples, split: Split, groups: np.ndarray | None = None) -> tuple[str, np.ndarray]:
        """Return the groups of the split, but in ``random``, where they are pairs, the cell lines that pairs share."""
        if split.mode == "random":
            groups = cell_line_groups(samples, split.near_identical).to_numpy(str)[samples.cell]
        return _UNITS.get(split.mode, "cell line"), super().units(samples, split, groups)[1]

    def of_known_parts(self, predictions: pd.DataFrame, samples: ResponseSamples, split: Any) -> np.ndarray | None:
        """Return across studies which rows are of a drug that the training study has too, perhaps by another id."""
        if split.mode != CROSS_STUDY:
            return None
        groups = drug_groups(samples.drugs)
        trained = samples.pairs.loc[samples.pairs["study"] == split.train_study, "drug_id"].unique()
        return np.asarray(predictions["drug_id"].map(groups).isin(set(groups[trained])))


def line_score(predictions: pd.DataFrame, train: ResponseSamples, **bootstrap: Any) -> Interval:
    """Return R2 of a line's mean distance from its drugs' means, each line weighted by its number of measurements.

    It is the audit's measure of its probes. Rows of drugs that were not trained on have no mean and are left out.
    """
    means = pd.Series(train.target.astype(np.float64)).groupby(train.pairs["drug_id"].to_numpy()).mean()
    drug = predictions["drug_id"].map(means)
    apart_from_drug = {name: predictions[name] - drug for name in ("target", "prediction")}
    rows = predictions.assign(group=predictions["group"].astype(str), **apart_from_drug)[drug.notna().to_numpy()]
    lines = rows.groupby(["group", "cell_line_id"]).agg(
        target=("target", "mean"), prediction=("prediction", "mean"), count=("target", "size")
    )
    squares = ((lines["target"] - lines["prediction"]) ** 2, lines["target"] ** 2)
    missed, apart = ((lines["count"] * each).groupby("group").sum().to_numpy() for each in squares)
    if not apart.sum() > 0:
        return Interval(math.nan, math.nan, math.nan)

    def scores(counts: np.ndarray) -> np.ndarray:
        total = counts @ apart
        return np.where(total > 0, 1 - (counts @ missed) / np.where(total > 0, total, 1.0), np.nan)

    return over_groups(float(1 - missed.sum() / apart.sum()), len(apart), scores, **bootstrap)


def _translated(tables: ResponseTables, contract: Contract) -> tuple[ResponseTables, list[str]]:
    """Return ids of drugs and tissues in the model's spelling, as the endpoint reads them, and notes on them."""
    notes = []
    ids = {each: contract.as_known(each, "drug_id") for each in tables.drugs["drug_id"].dropna().unique()}
    if len(set(ids.values())) < len(ids):  # ids that the cohort tells apart stay apart
        ids = {each: each for each in ids}
    tissues = {each: contract.as_known(each, "tissue") for each in tables.cell_lines["tissue"].dropna().unique()}
    for file, what, names in (("drugs.csv", "ids", ids), ("cell_lines.csv", "tissues", tissues)):
        if read := [each for each, name in names.items() if each != name]:
            notes.append(f"{file}: {what} in another case were read as the model's: {quoted(read)}")
    used = tables.cell_lines["cell_line_id"].isin(tables.response["cell_line_id"])
    here = [tissues[each] for each in tables.cell_lines.loc[used, "tissue"].dropna().unique()]
    if contract.tissues and (strange := {*here} - {*contract.tissues, UNKNOWN}):
        notes.append(f"cell_lines.csv: the model does not know the tissues {quoted(sorted(strange))}")
    return replace(
        tables,
        cell_lines=tables.cell_lines.assign(tissue=tables.cell_lines["tissue"].map(tissues)),
        drugs=tables.drugs.assign(drug_id=tables.drugs["drug_id"].map(ids)),
        response=tables.response.assign(drug_id=tables.response["drug_id"].map(lambda each: ids.get(each, each))),
    ), notes


def _feature_findings(tables: ResponseTables, contract: Contract) -> list[Finding]:
    """Return tables that lack features of the model: imputing a gene for a whole cohort would pass unseen."""
    findings = []
    for name, features in contract.features.items():
        table = tables.omics[name]
        if len(table) and (lacking := [feature for feature in features if feature not in table.columns]):
            message = f"lacks {len(lacking)} of the model's {len(features)} features: {', '.join(lacking[:5])}"
            findings.append(Finding("model_features", f"{name}.parquet", message, lacking[0]))
    return findings


def _value_findings(tables: ResponseTables, task: PairsTask) -> list[Finding]:
    """Return values that would make every metric meaningless: infinite ones and duplicates."""
    target = task.data.target
    checked: list[tuple[str, str, str | None, Any]] = [
        ("finite", "response.parquet", target, np.isinf(tables.response[target].to_numpy(np.float64))),
        ("unique", "cell_lines.csv", "cell_line_id", tables.cell_lines["cell_line_id"].duplicated()),
        ("unique", "drugs.csv", "drug_id", tables.drugs["drug_id"].duplicated()),
    ]
    for name, table in tables.omics.items():
        infinite = np.isinf(table.drop(columns="cell_line_id").to_numpy(np.float64)).any(axis=1)
        checked.append(("finite", f"{name}.parquet", None, infinite))
        checked.append(("unique", f"{name}.parquet", "cell_line_id", table["cell_line_id"].duplicated()))
    messages = {
        "finite": "must be finite",
        "unique": "duplicate id; keep one row for each, of measurements the mean",
    }
    return [
        Finding.at_rows(rule, file, column, np.flatnonzero(wrong), messages[rule])
        for rule, file, column, wrong in checked
        if wrong.any()
    ]


MODALITY = Pairs()
