"""How pairs of a cell line and a drug are read for scoring, explained, and scored in every split mode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.metrics.resample import Interval
from evaluation.modalities import Modality
from evaluation.modalities._doubts import Doubts
from pipelines.cross_study import CROSS_STUDY
from pipelines.datasets import Prepared
from pipelines.errors import DataError, Finding
from pipelines.groups.pairs import cell_line_groups, drug_groups
from pipelines.modalities.pairs import PairsTask
from pipelines.params import Split
from pipelines.samples.formats import ResponseTables, read_response_tables
from pipelines.samples.response import UNKNOWN, Kept, ResponseSamples, keep_samples
from pipelines.samples.sensitivity import Thresholds, call
from pipelines.text_values import quoted
from pipelines.units import DOUBTS, response_doubt
from training.features.units import LIMITS
from training.modalities.pairs import Pairs as Contract

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence
    from evaluation.problems import Measures

RESISTANT = 0  # its log odds are explained: a positive contribution means what it means where ln IC50 is predicted
TARGET_UNITS = {"ln_ic50": "ln IC50 (µM)", "auc": "area under the dose-response curve"}
_UNITS: dict[str, str] = {"drug_blind": "drug", "tissue_blind": "tissue"}  # resampled; elsewhere cell lines


class Pairs(Modality):
    """Cell lines and drugs, measured in studies."""

    stratum = "study"
    in_every_mode = True

    def read_cohort(self, folder: Path, task: Any, contract: Any) -> tuple[Kept, list[str]]:
        """See `Modality.read_cohort`; where calls are predicted, by the thresholds that the model was trained on."""
        optional = [name for name in task.data.omics if getattr(task.data.missing, name) != "drop"]
        tables = read_response_tables(folder, task, optional=optional)
        _require_features(tables, contract)
        _require_sound(tables, task)
        tables, said = _as_the_model_writes(tables, contract)
        kept = keep_samples(tables, task)
        if contract.thresholds:
            kept = Kept(call(kept.samples, Thresholds(**contract.thresholds)), kept.counts)
        return kept, [*map(str, tables.notes), *said]

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
        if strangers := int((~contract.known_drugs(samples)).sum()):
            said = f"{strangers} of {len(samples)} samples are of drugs that the model does not know"
            found.warnings.append(f"drugs.csv: {said}")
        return found.told()

    def simulated(self, samples: ResponseSamples) -> bool:
        """Return whether the cell lines of some pairs are simulated."""
        return bool(samples.cell_lines.get("simulated", pd.Series([False])).any())

    def strata(self, run: Evaluation) -> dict[str, pd.DataFrame]:
        """Return the predictions of each study."""
        return run.parts("study")

    def part_names(self, run: Evaluation) -> dict[str, str]:
        """Return the names of the drugs that have one, by id."""
        drugs = run.test.drugs
        named = drugs["name"].dropna() if "name" in drugs else pd.Series(dtype=object)
        return {str(drug): str(name) for drug, name in named.items()}

    def target_unit(self, task: Any) -> str:
        """Return the unit of the response."""
        return TARGET_UNITS.get(task.data.target, task.data.target)

    def probed(self, run: Evaluation) -> dict[str, Interval]:
        """Return the share of the variance between lines that is explained; None for classes."""
        from evaluation.evidence.shortcuts import OF_LINES, line_score

        if run.contract.thresholds:  # type: ignore[attr-defined]
            return {}
        return {OF_LINES: line_score(run.predictions, run.prepared.side("train"), **run.bootstrap)}

    def evidence(self, run: Evaluation, measures: Measures) -> Evidence:
        """Explain the response, or the log odds of resistance; tell drug by drug how good the model is."""
        from evaluation.evidence.pairs import explain_pairs
        from evaluation.evidence.parts import Evidence

        task, thresholds = run.task, run.contract.thresholds  # type: ignore[attr-defined]
        table = measures.by_part(run.predictions, self.part_names(run))
        by_drug = Evidence(tables={} if table is None else {"by_drug": table})
        if not thresholds:
            return explain_pairs(run, self.target_unit(task)) | by_drug
        said = {
            "method": task.data.threshold.method,
            "learnt_on": "training rows",
            "overall": thresholds["overall"],
            "drugs": len(thresholds["by_drug"]),
        }
        explained = explain_pairs(run, "log odds of resistance", RESISTANT)
        return explained | by_drug | Evidence(test={"thresholds": said})

    def units(self, prepared: Prepared, split: Split) -> tuple[str, np.ndarray]:
        """Return the groups of the split, but in ``random`` the cell line.

        A group of ``random`` is a pair. Pairs of one line share its biology: an interval over pairs would be too
        narrow.
        """
        name = _UNITS.get(split.mode, "cell line")
        if split.mode != "random":
            return name, prepared.table["group"].to_numpy(str)
        samples: ResponseSamples = prepared.samples
        return name, cell_line_groups(samples, split.near_identical).to_numpy(str)[samples.cell]

    def of_known_parts(self, predictions: pd.DataFrame, samples: ResponseSamples, split: Any) -> np.ndarray | None:
        """Return across studies which rows are of a drug that the training study has too, under whatever id."""
        if split.mode != CROSS_STUDY:
            return None
        groups = drug_groups(samples.drugs)
        trained = samples.pairs.loc[samples.pairs["study"] == split.train_study, "drug_id"].unique()
        known: np.ndarray = predictions["drug_id"].map(groups).isin(set(groups[trained])).to_numpy()
        return known


def _as_the_model_writes(tables: ResponseTables, contract: Contract) -> tuple[ResponseTables, list[str]]:
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


def _require_features(tables: ResponseTables, contract: Contract) -> None:
    """Refuse a table that lacks features of the model: imputing a gene for a whole cohort would pass unseen."""
    findings = []
    for name, features in contract.features.items():
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
            message = "duplicate cell line; write one row for each line, with the mean of its measurements"
            findings.append(Finding.at_rows("unique", f"{name}.parquet", "cell_line_id", rows, message))
    for file, frame, key in (
        ("cell_lines.csv", tables.cell_lines, "cell_line_id"),
        ("drugs.csv", tables.drugs, "drug_id"),
    ):
        if len(rows := np.flatnonzero(frame[key].duplicated())):
            findings.append(Finding.at_rows("unique", file, key, rows, "duplicate id; write one row for each id"))
    if findings:
        raise DataError(findings)


MODALITY = Pairs()
