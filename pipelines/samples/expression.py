"""Expression profiles: reading a raw folder, applying the rules of the task, choosing target genes."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding
from pipelines.modalities.profiles import ProfilesTask, ProfileTargets
from pipelines.samples import Kept, count_dropped
from pipelines.samples.formats import Asked, read_tables
from pipelines.samples.gene_names import find_gene
from pipelines.samples.rows import Rows
from pipelines.samples.table_text import letters_of
from pipelines.tasks.profiles_classification import ProfilesClassification
from pipelines.tasks.profiles_multi_target import GeneData
from pipelines.text_values import folded, folded_id, known_column, quoted

EXPRESSION_FILE = "expression.parquet"
SAMPLES_FILE = "samples.csv"
GENES_FILE = "genes.csv"
LANDMARK = "is_l1000_landmark"
POSITION = ("chromosome", "start")
_RESERVED = ["target", "digest", "group", "split", "fold"]  # columns that samples and splits add
_BLOCK = 1024


@dataclass(frozen=True)
class ExpressionTables:
    """The tables of a raw folder ``expression``, as in the files, and warnings of the reader."""

    expression: pd.DataFrame  # `sample_id` and one column of numbers a gene
    samples: pd.DataFrame
    genes: pd.DataFrame | None
    notes: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ExpressionSamples(Rows):
    """Expression profiles."""

    modality: ClassVar[str] = "profiles"
    within: ClassVar[None] = None  # no sample is a part of another

    # a row a sample: `sample_id`, `patient_id`, `label` (None where unknown), `digest` (SHA-256 of its values), other
    # columns of `samples.csv`, and the target where it is no gene
    table: pd.DataFrame
    values: np.ndarray  # on the scale of the file, float32, (profiles, genes); NaN where unknown; shared by all subsets
    index: np.ndarray  # for each sample its row in `values`, (n,)
    genes: tuple[str, ...]
    about_genes: pd.DataFrame  # columns of `genes.csv`, a row a gene in the order of `genes`; may have no columns
    scale: str  # see `pipelines.modalities.profiles.ProfilesData`
    classes: tuple[str, ...] = ()  # in the order of probabilities
    targets: tuple[str, ...] = ()  # genes that are predicted
    predictors: tuple[str, ...] = ()  # genes that they are predicted from
    outcome: tuple[str, ...] = ("target",)  # columns of `table` that are predicted, where no genes are
    stratum: str = "label"  # column of `table` by which splits are balanced

    def __len__(self) -> int:
        return len(self.table)

    @property
    def target(self) -> np.ndarray:
        """Return the target genes in log2 units, float64, ``(n, targets)``; else `outcome`, ``(n,)`` of one column."""
        if self.targets:
            return self.logged(self.targets).astype(np.float64)
        outcome = self.table[list(self.outcome)].to_numpy()
        return outcome[:, 0] if len(self.outcome) == 1 else outcome

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the genes that a model may use: the predictors, or all where no genes are predicted."""
        return self.predictors if self.targets else self.genes

    def logged(self, genes: Sequence[str] | None = None) -> np.ndarray:
        """Return log2(x + 1) of linear values, other values as they are; float32, ``(n, genes)``."""
        return to_log2(self.raw(genes), self.scale)

    def raw(self, genes: Sequence[str] | None = None) -> np.ndarray:
        """Return the values of some genes, or of all, on the scale of the file; float32, ``(n, genes)``."""
        values = self.values[self.index]
        if genes is not None and tuple(genes) != self.genes:  # a request has the model's genes in their order
            columns = pd.Index(self.genes).get_indexer(pd.Index(list(genes)))
            if (columns < 0).any():
                raise KeyError(f"no column for gene {genes[int(np.flatnonzero(columns < 0)[0])]!r}")
            values = np.ascontiguousarray(values[:, columns])  # one layout, so that sums round alike however it came
        return values

    def take(self, rows: np.ndarray) -> Self:
        """Return the samples at ``rows`` (positions, or a boolean mask); the values are shared."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(self, table=self.table.iloc[positions].reset_index(drop=True), index=self.index[positions])

    def alone(self) -> Self:
        """Return the samples with only their own values."""
        return replace(self, values=self.values[self.index], index=np.arange(len(self)))

    def aimed(self, targets: Sequence[str], predictors: Sequence[str]) -> Self:
        """Return the same samples with the genes ``targets`` to predict from the genes ``predictors``."""
        return replace(self, targets=tuple(targets), predictors=tuple(predictors))


def to_log2(values: np.ndarray, scale: str) -> np.ndarray:
    """Return ``values`` in log2 units: log2(x + 1) of linear ones; logged or standardized ones as they are."""
    return np.log2(values + 1) if scale == "linear" else values


def read_expression_tables(
    folder: Path | str, task: ProfilesTask, *, labelled: bool = True, described: bool = True
) -> ExpressionTables:
    """Read a raw folder ``expression``; `DataError` lists every file and column that is missing or of a wrong type.

    ``labelled``: samples have the target of the task. ``described``: genes say which are landmarks, where the task
    needs them; false for a model that is scored.
    """
    folder = Path(folder)
    found, notes = read_tables(folder, asked_of_profiles(folder, task, labelled=labelled, described=described))
    return ExpressionTables(found[EXPRESSION_FILE], found[SAMPLES_FILE], found.get(GENES_FILE), notes)


def asked_of_profiles(
    folder: Path, task: ProfilesTask, *, labelled: bool = True, described: bool = True
) -> dict[str, Asked]:
    """Return the files that a raw folder ``expression`` must have, see `read_expression_tables`, and their columns."""
    asked: dict[str, Asked] = {
        EXPRESSION_FILE: {"text": ("sample_id",), "all_other_numbers": True},
        SAMPLES_FILE: {"text": ("sample_id", "patient_id", *(task.needs if labelled else ()))},
    }
    if described and (task.needs_landmarks or (folder / GENES_FILE).exists()):
        asked[GENES_FILE] = {"text": ("gene",), "others": (LANDMARK,) if task.needs_landmarks else ()}
    return asked


def keep_profiles(
    tables: ExpressionTables, task: ProfilesTask, *, labelled: bool = True, classes: Sequence[str] | None = None
) -> Kept:
    """Apply the rules of the task, ``data.exclude`` and ``data.small_classes``, to validated tables.

    ``labelled``: samples have the target of the task. ``classes`` are those of a model that is scored: other labels are
    dropped, and no class is too small. `DataError` for samples without an id of their own, classes that are too small
    and must not be, and rules without their column.
    """
    _check_ids(tables)
    about = tables.samples.set_index("sample_id")
    ids = tables.expression["sample_id"].to_numpy(object)
    table = about.reindex(ids).reset_index()
    table["patient_id"] = known_column(table["patient_id"]).fillna(table["sample_id"])
    table["label"] = known_column(table["label"]) if "label" in table else pd.Series([None] * len(table), dtype=object)
    dropped = np.zeros(len(table), dtype=bool)
    strangers = {"not_in_samples_csv": ~np.isin(ids.astype(str), about.index.to_numpy(str))}
    dropped_rows = count_dropped({**strangers, **_exclusions(about, ids, task)}, dropped)
    found = task.targets(table, ~dropped, classes) if labelled else ProfileTargets()
    dropped_rows |= count_dropped(found.rules, dropped)
    kept = table[~dropped].reset_index(drop=True).drop(columns=_RESERVED, errors="ignore")
    genes = tuple(str(column) for column in tables.expression.columns if column != "sample_id")
    matrix = tables.expression.drop(columns="sample_id").to_numpy(np.float32, na_value=np.nan)[~dropped]
    # Adding 0 makes -0 the same as 0.
    kept["digest"] = [hashlib.sha256(row.tobytes()).hexdigest() for row in matrix + np.float32(0)]
    for column, cells in found.columns.items():
        kept[column] = cells[~dropped]
    counts = {
        "rows": {"raw": len(table), "kept": len(kept), "dropped": dropped_rows},
        "without": {"values": {"rule": "impute", "kept": int(np.isnan(matrix).any(axis=1).sum())}},
        **found.counts,
    }
    described = pd.DataFrame(index=pd.Index(genes))
    if tables.genes is not None:
        described = tables.genes.drop_duplicates("gene").set_index("gene").reindex(genes)
    samples = ExpressionSamples(
        table=kept,
        values=matrix,
        index=np.arange(len(kept)),
        genes=genes,
        about_genes=described,
        scale=task.data.scale,
        classes=found.classes or tuple(classes or ()),
        outcome=tuple(found.columns) or ("target",),
        stratum=found.stratum,
    )
    return Kept(samples, counts)


def _exclusions(about: pd.DataFrame, ids: np.ndarray, task: ProfilesTask) -> dict[str, np.ndarray]:
    """Return for each rule of ``data.exclude`` the samples that it drops, bool, shape ``(n,)``."""
    rules = {}
    for column, values in task.data.exclude.items():
        if column not in about:
            message = "the column is missing, and data.exclude of params.yaml names it; the file has "
            raise DataError([Finding("column_exists", SAMPLES_FILE, message + quoted(about.columns, 8), column)])
        if faults := [fault for value in values if (fault := partly_excluded(about[column], value, values))]:
            raise DataError([Finding("exclude_alike", SAMPLES_FILE, fault, column) for fault in faults])
        excluded = pd.Series(is_one_of(about[column], values), index=about.index)
        rules[f"{column}_{'_'.join(values)}"] = excluded.reindex(ids, fill_value=False).to_numpy(bool)
    return rules


def label_targets(
    table: pd.DataFrame, left: np.ndarray, task: ProfilesClassification, classes: Sequence[str] | None
) -> ProfileTargets:
    """Return the position of each label among the classes; `DataError` where a class is too small and must not be."""
    labels, counts = table.loc[left, "label"], dict[str, Any]()
    rules = {"without_label": table["label"].isna().to_numpy()}
    if classes is None:
        counts["small_classes"] = small = small_classes(table[left], task)
        rules["small_class"] = table["label"].isin(list(small)).to_numpy()
        classes = sorted(set(labels.dropna()) - set(small))
    else:
        rules["unknown_label"] = ~table["label"].isin(list(classes)).to_numpy()
    counts["classes"] = {name: int((labels == name).sum()) for name in classes}
    codes = pd.Index(classes).get_indexer(pd.Index(table["label"])).astype(np.int64)
    return ProfileTargets(rules, {"target": codes}, tuple(classes), counts)


def _check_ids(tables: ExpressionTables) -> None:
    twice = "duplicate id; keep one row, or give different samples different ids"
    findings = [
        Finding.at_rows(name, file, "sample_id", np.flatnonzero(wrong), message, values=ids[wrong])
        for file, ids in (
            (EXPRESSION_FILE, tables.expression["sample_id"]),
            (SAMPLES_FILE, tables.samples["sample_id"]),
        )
        for name, wrong, message in (
            ("key_filled", ids.isna(), "the key is empty; fill it in"),
            ("key_unique", ids.duplicated(keep=False) & ids.notna(), twice),
        )
        if wrong.any()
    ]
    if findings:
        raise DataError(findings)


def small_classes(table: pd.DataFrame, task: ProfilesClassification) -> dict[str, int]:
    """Return the classes with too few patients to split, with their numbers; `DataError` if the rule is to refuse."""
    patients = table.groupby("label")["patient_id"].nunique()
    few = {str(name): int(count) for name, count in patients.items() if count < task.data.minimum_patients}
    if few and task.data.small_classes == "refuse":
        sizes = ", ".join(f"{name} ({count})" for name, count in few.items())
        message = f"classes with fewer than {task.data.minimum_patients} patients: {sizes}"
        advice = "add samples, exclude them, or set data.small_classes in params.yaml to drop"
        raise DataError([Finding("class_large_enough", SAMPLES_FILE, f"{message}; {advice}", "label")])
    return few


def is_one_of(column: pd.Series, values: Sequence[str]) -> np.ndarray:
    """Return where a column has one of the values of a rule, in any case and spelling: pandas reads ``01`` as 1."""
    wanted = {folded_id(value) for value in values}
    known = column.notna()
    written = column.astype(object).map(str)
    found = [text for text in written[known].unique() if folded_id(text) in wanted]
    return (written.isin(found) & known).to_numpy(bool)


def partly_excluded(column: pd.Series, value: str, values: Sequence[str]) -> str | None:
    """Return a message on cells that look like ``value`` (``11A`` like ``11``) and that no value excludes, or None."""
    left = column[~is_one_of(column, values)].dropna().astype(str)
    code, letters = folded_id(value), letters_of(value)
    vial = re.compile(f"{code}[a-z]{{1,2}}" if code.isdigit() else "(?!)")
    alike = [
        text
        for text in left.unique()
        if (letters and letters_of(text) == letters) or vial.fullmatch(folded(text).lstrip("0"))
    ]
    partly = f"data.exclude in params.yaml excludes {value!r}, and {quoted(alike)} would be left in"
    return f"{partly}; name all values to exclude there, or rename the others" if alike else None


def is_landmark(genes: pd.DataFrame) -> np.ndarray:
    """Return which rows of ``genes.csv`` are landmarks, bool, shape ``(genes,)``; not those with an empty cell."""
    return as_truth(genes[LANDMARK]).fillna(value=False).to_numpy(bool)


def as_truth(column: pd.Series) -> pd.Series:
    """Return a column of true and false, or of 1 and 0, as truth values; other cells are missing."""
    text = column.astype("string").str.strip().str.lower()
    meaning = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    return text.map(meaning).astype("boolean")


def library_sizes(values: np.ndarray, scale: str) -> np.ndarray:
    """Return the totals of profiles ``(n, genes)`` in linear units, float64, ``(n,)``; skips what is not finite."""
    totals = np.zeros(len(values))
    for start in range(0, len(values), _BLOCK):
        part = values[start : start + _BLOCK].astype(np.float64)
        part = np.where(np.isfinite(part), part, 0)
        totals[start : start + _BLOCK] = (np.exp2(part) - 1 if scale == "log2" else part).sum(axis=1)
    return totals


def aim(samples: ExpressionSamples, data: GeneData, train: np.ndarray) -> ExpressionSamples:
    """Choose target and predictor genes on the rows ``train`` (positions) alone; `DataError` where none is left."""
    by_mark = data.predictors == "landmarks"
    landmark = is_landmark(samples.about_genes) if by_mark else np.zeros(len(samples.genes), dtype=bool)
    if data.targets == "most_variable":
        variance = _variance(samples.take(train).logged())
        variance[landmark] = 0.0
        order = np.argsort(-variance, kind="stable")[: data.target_count]
        targets = [samples.genes[column] for column in order if variance[column] > 0]
    else:
        targets = [find_gene(data.targets, samples.genes)]
    pool = [gene for gene, is_one in zip(samples.genes, landmark, strict=True) if is_one or not by_mark]
    chosen = set(targets)
    predictors = [gene for gene in pool if gene not in chosen]
    if not targets or not predictors:
        what = "target" if not targets else "predictor"
        message = f"no {what} gene is left; change data.predictors or data.targets in params.yaml"
        raise DataError([Finding("genes_left", EXPRESSION_FILE, message)])
    return samples.aimed(targets, predictors)


def _variance(values: np.ndarray) -> np.ndarray:
    """Return the variance of each column without its NaN; exactly 0 where it has one value or none."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / count
    variance = np.where(known, (values - mean) ** 2, 0).sum(axis=0) / count
    lowest, highest = np.where(known, values, np.inf).min(axis=0), np.where(known, values, -np.inf).max(axis=0)
    return np.where(lowest < highest, variance, 0.0)
