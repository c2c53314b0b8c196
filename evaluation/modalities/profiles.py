"""How expression profiles are read for scoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.modalities import Modality
from evaluation.modalities._doubts import Doubts
from evaluation.problems import measures_of
from pipelines.errors import DataError, Finding
from pipelines.groups import group_samples
from pipelines.samples.barcodes import barcode_parts
from pipelines.samples.expression import (
    EXPRESSION_FILE,
    SAMPLES_FILE,
    ExpressionSamples,
    ExpressionTables,
    keep_profiles,
    read_expression_tables,
)
from pipelines.samples.gene_names import match_genes, respelled
from pipelines.samples.response import Kept
from pipelines.text_values import folded, known_column, quoted

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence
    from evaluation.problems import Measures
    from pipelines.params import Split

LABEL = "label"


class Profiles(Modality):
    """Profiles of genes, of cohorts where the label is not what is predicted."""

    in_every_mode = True

    def read_cohort(self, folder: Path, task: Any, contract: Any) -> tuple[Kept, list[str]]:
        """See `Modality.read_cohort`; genes are named as the model names them, and imputed where few are lacking."""
        measures = measures_of(task.problem)
        tables = read_expression_tables(folder, task, described=False)
        classes, targets = measures.classes(contract), measures.targets(contract)
        notes = [str(note) for note in tables.notes]
        if classes is not None:
            tables, of_labels = _with_classes(tables, classes)
            notes += of_labels
        kept = keep_profiles(tables, task, classes=classes)
        for ruled in task.data.exclude:
            if unknown := int(known_column(tables.samples[ruled]).isna().sum()):
                notes.append(
                    f"{SAMPLES_FILE}: {ruled} of {unknown} samples is empty or unknown, so that data.exclude of "
                    "params.yaml cannot rule them out; they are kept"
                )
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
        table = pd.DataFrame(kept.samples.values, columns=list(kept.samples.genes))
        values = table.reindex(columns=[found.get(gene) for gene in wanted]).to_numpy(np.float32)
        about = pd.DataFrame(index=pd.Index(wanted))
        samples = replace(kept.samples, values=values, genes=tuple(wanted), about_genes=about)
        if targets:
            samples = samples.aimed(targets, contract.genes)
        return Kept(samples, {**kept.counts, "imputed_genes": lacking}), notes

    def unit_warnings(self, task: Any, contract: Any, samples: ExpressionSamples) -> list[str]:
        """See `Modality.unit_warnings`."""
        found, values = Doubts(), samples.raw(contract.genes)
        if contract.unit is not None:
            found.compare(EXPRESSION_FILE, "expression", values, contract.genes, contract.unit)
        rows = np.flatnonzero((values < 0).any(axis=1))
        if len(rows) and samples.scale != "as_is":
            message = f"holds values below 0, which {samples.scale} expression never is; bring them to the model's unit"
            found.findings.append(Finding.at_rows("units", EXPRESSION_FILE, None, rows, message))
        return found.judged()

    def described(self, samples: ExpressionSamples) -> pd.DataFrame:
        """Return the columns of ``samples.csv``, and of barcodes of TCGA also ``plate``, ``site`` and ``center``."""
        parts = barcode_parts(samples.table["sample_id"])
        return samples.table.join(parts.drop(columns=samples.table.columns, errors="ignore"))

    def evidence(self, run: Evaluation, measures: Measures) -> Evidence:
        """See `Modality.evidence`; also the section ``origins``."""
        from evaluation.evidence import origins  # loads what draws

        return super().evidence(run, measures) | origins.evidence(run)

    def units(
        self, samples: ExpressionSamples, split: Split, groups: np.ndarray | None = None
    ) -> tuple[str, np.ndarray]:
        """Return the patients, copies as one: a resample of few sites or plates would leave classes without a row."""
        if split.mode != "patient_blind" or groups is None:
            groups = group_samples(samples, replace(split, mode="patient_blind"))[0].to_numpy(str)
        return "patient", groups

    def of_known_parts(self, predictions: pd.DataFrame, samples: ExpressionSamples, split: Split) -> None:
        """Return None: no mode tests parts of the training rows."""

    def cohorts(self, run: Evaluation) -> dict[str, pd.DataFrame]:
        """Return the predictions of each cohort, which the label names unless it is predicted."""
        task: Any = run.task
        return {} if LABEL in task.needs or LABEL not in run.predictions else run.parts(LABEL)


def _with_classes(tables: ExpressionTables, classes: Sequence[str]) -> tuple[ExpressionTables, list[str]]:
    """Return labels in the spelling of the model's classes, and notes on those that differ or are unknown."""
    by_folded = {folded(name): name for name in classes}
    labels = tables.samples["label"]
    known = labels.map(lambda label: by_folded.get(folded(label), label), na_action="ignore")
    notes = []
    if len(read := labels[(known != labels) & labels.notna()].unique()):
        notes.append(f"{SAMPLES_FILE}: labels in another case were read as the model's classes: {quoted(sorted(read))}")
    if len(strange := known[known.notna() & ~known.isin(list(classes))].unique()):
        notes.append(f"{SAMPLES_FILE}: the model does not know the labels {quoted(sorted(strange))}; they are dropped")
    return replace(tables, samples=tables.samples.assign(label=known)), notes


MODALITY = Profiles()
