"""Samples of kind ``expression``: profiles of genes, stored once as a matrix of float32."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding
from pipelines.modalities.profiles import ProfilesTask
from pipelines.samples import Kept
from pipelines.samples.formats import read_table
from pipelines.samples.table_text import letters_of
from pipelines.tasks.profiles_classification import ProfilesClassification
from pipelines.tasks.profiles_multi_target import GeneData
from pipelines.text_values import folded, folded_id, is_unknown, known_column, quoted

EXPRESSION_FILE = "expression.parquet"
SAMPLES_FILE = "samples.csv"
GENES_FILE = "genes.csv"
LANDMARK = "is_l1000_landmark"
POSITION = ("chromosome", "start")
_RESERVED = ["target", "digest", "group", "split", "fold"]  # columns that samples and splits add
_BLOCK = 1024


@dataclass(frozen=True)
class ExpressionTables:
    """The tables of a raw folder of kind ``expression``, as they stand in the files.

    Attributes
    ----------
    expression
        ``sample_id`` and one number column a gene.
    samples
        ``sample_id``, ``patient_id``, ``label`` and whatever else is known of a sample.
    genes
        ``gene`` (a column of ``expression``) and what is known of it; None where there is no such file.
    notes
        What reading changed, as warnings.
    """

    expression: pd.DataFrame
    samples: pd.DataFrame
    genes: pd.DataFrame | None
    notes: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ExpressionSamples:
    """Expression profiles.

    Attributes
    ----------
    table
        A row a sample: ``sample_id``, ``patient_id``, ``label`` (None where unknown), ``digest`` (SHA-256 of its
        values), other columns of ``samples.csv``, and ``target`` (position of the label among ``classes``) where
        classes are predicted.
    values
        On the scale of the file, float32, shape ``(profiles, genes)``; NaN where unknown. Shared by all subsets.
    index
        For each sample its row in ``values``; shape ``(n,)``.
    genes
        Names of the columns.
    about_genes
        What ``genes.csv`` says, a row a gene in the order of ``genes``; may have no columns.
    scale
        See `pipelines.modalities.profiles.ProfilesData`.
    classes
        Names of the classes, in the order of probabilities; empty where genes are predicted.
    targets, predictors
        Genes that are predicted, and those that they are predicted from; empty where something else is predicted.
    outcome
        Columns of ``table`` that are predicted, where no genes are.
    stratum
        Column of ``table`` by which splits are balanced.
    """

    modality: ClassVar[str] = "profiles"

    table: pd.DataFrame
    values: np.ndarray
    index: np.ndarray
    genes: tuple[str, ...]
    about_genes: pd.DataFrame
    scale: str
    classes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    predictors: tuple[str, ...] = ()
    outcome: tuple[str, ...] = ("target",)
    stratum: str = "label"

    def __len__(self) -> int:
        return len(self.table)

    @property
    def within(self) -> None:
        """Return nothing: no sample is a part of another."""

    @property
    def target(self) -> np.ndarray:
        """Return the target genes in log2 units, float64, ``(n, targets)``; else `outcome`, ``(n,)`` of one column."""
        if self.targets:
            return self.logged(self.targets).astype(np.float64)
        outcome = self.table[list(self.outcome)].to_numpy()
        return outcome[:, 0] if len(self.outcome) == 1 else outcome

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the genes that a model may look at: the predictors, or all where classes are predicted."""
        return self.predictors if self.targets else self.genes

    @property
    def has_positions(self) -> bool:
        """Whether it is known where on the genome the genes lie."""
        return all(column in self.about_genes for column in POSITION)

    def logged(self, genes: Sequence[str] | None = None) -> np.ndarray:
        """Return log2(x + 1) of linear values, other values as they are; float32, ``(n, genes)``."""
        return to_log2(self.raw(genes), self.scale)

    def raw(self, genes: Sequence[str] | None = None) -> np.ndarray:
        """Return the values of some genes, or of all, on the scale of the file; float32, ``(n, genes)``."""
        values = self.values[self.index]
        if genes is not None and tuple(genes) != self.genes:  # a request holds the model's genes in their order
            columns = pd.Index(self.genes).get_indexer(pd.Index(list(genes)))
            if (columns < 0).any():
                raise KeyError(f"no column for gene {genes[int(np.flatnonzero(columns < 0)[0])]!r}")
            values = np.ascontiguousarray(values[:, columns])  # one layout, so that sums round alike however it came
        return values

    def take(self, rows: np.ndarray) -> ExpressionSamples:
        """Return the samples at ``rows`` (positions, or a boolean mask); the values are shared."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(self, table=self.table.iloc[positions].reset_index(drop=True), index=self.index[positions])

    def alone(self) -> ExpressionSamples:
        """Return the samples with only their own values."""
        return replace(self, values=self.values[self.index], index=np.arange(len(self)))

    def aimed(self, targets: Sequence[str], predictors: Sequence[str]) -> ExpressionSamples:
        """Return the same samples, of which ``targets`` are to be predicted from ``predictors``."""
        return replace(self, targets=tuple(targets), predictors=tuple(predictors))


def to_log2(values: np.ndarray, scale: str) -> np.ndarray:
    """Return ``values`` in log2 units: log2(x + 1) of linear ones; logged or standardized ones as they are."""
    return np.log2(values + 1) if scale == "linear" else values


def read_expression_tables(
    folder: Path | str, task: ProfilesTask, *, labelled: bool = True, described: bool = True
) -> ExpressionTables:
    """Read a raw folder of kind ``expression``.

    Parameters
    ----------
    folder
        Holds ``expression.parquet``, ``samples.csv`` and, where genes are described, ``genes.csv``.
    task
        Its problem says whether samples need a label, its data whether genes must say which are landmarks.
    labelled
        Whether samples must have a label where the task predicts it.
    described
        Whether genes must say which are landmarks, where the task asks for them; a model that is scored knows.

    Raises
    ------
    DataError
        Lists every file that is missing or unreadable and every column that is missing or of a wrong type.
    """
    folder = Path(folder)
    findings: list[Finding] = []
    notes: list[Finding] = []

    def read(name: str, text: tuple[str, ...], wide: bool = False) -> pd.DataFrame:
        try:
            return read_table(folder / name, text=text, all_other_numbers=wide, notes=notes)
        except DataError as error:
            findings.extend(error.findings)
            return pd.DataFrame()

    landmarks = described and task.needs_landmarks
    has_genes = described and ((folder / GENES_FILE).exists() or landmarks)
    tables = ExpressionTables(
        expression=read(EXPRESSION_FILE, ("sample_id",), wide=True),
        samples=read(SAMPLES_FILE, sample_columns(task, labelled=labelled)),
        genes=read(GENES_FILE, ("gene",)) if has_genes else None,
    )
    if findings:
        raise DataError(findings)
    if landmarks and tables.genes is not None and LANDMARK not in tables.genes:
        message = "the column is missing, and data.predictors is landmarks; add it, or set predictors: all"
        raise DataError([Finding("column_exists", GENES_FILE, message, LANDMARK)])
    return replace(tables, notes=tuple(notes))


def sample_columns(task: ProfilesTask, *, labelled: bool = True) -> tuple[str, ...]:
    """Return the columns that ``samples.csv`` must have."""
    return ("sample_id", "patient_id", *(task.needs if labelled else ()))


def keep_profiles(
    tables: ExpressionTables,
    task: ProfilesTask,
    *,
    labelled: bool = True,
    classes: Sequence[str] | None = None,
) -> Kept:
    """Apply the task's rules: which samples are of the question, and which classes are large enough.

    Parameters
    ----------
    tables
        The raw tables; validated.
    task
        Its ``data.exclude`` and ``data.small_classes`` are the rules.
    labelled
        Whether samples must have a label where the task predicts it.
    classes
        Those of a model that is scored: other labels are dropped, and no class is too small.

    Returns
    -------
    Kept
        Samples in the order of ``expression.parquet``; ``counts`` says what each rule dropped, and what classes.

    Raises
    ------
    DataError
        A sample has no id or stands twice; a class is too small and the rule is to refuse it; a column of a rule is not
        there.
    """
    _check_ids(tables)
    about = tables.samples.set_index("sample_id")
    ids = tables.expression["sample_id"].to_numpy(object)
    table = about.reindex(ids).reset_index()
    table["patient_id"] = known_column(table["patient_id"]).fillna(table["sample_id"])
    table["label"] = known_column(table["label"]) if "label" in table else pd.Series([None] * len(table), dtype=object)
    rules = {"not_in_samples_csv": ~np.isin(ids.astype(str), about.index.to_numpy(str))}
    for column, values in task.data.exclude.items():
        if column not in about:
            message = f"the column is missing, and data.exclude of params.yaml names it; the file has {_some(about)}"
            raise DataError([Finding("column_exists", SAMPLES_FILE, message, column)])
        if faults := [fault for value in values if (fault := partly_excluded(about[column], value, values))]:
            raise DataError([Finding("exclude_alike", SAMPLES_FILE, fault, column) for fault in faults])
        ruled_out = pd.Series(is_one_of(about[column], values), index=about.index)
        rules[f"{column}_{'_'.join(values)}"] = ruled_out.reindex(ids, fill_value=False).to_numpy(bool)
    dropped = np.zeros(len(table), dtype=bool)
    dropped_rows: dict[str, int] = {}

    def drop(name: str, at_fault: np.ndarray) -> None:
        dropped_rows[name] = int((at_fault & ~dropped).sum())  # a row counts for the first rule that drops it
        dropped[at_fault] = True

    for name, at_fault in rules.items():
        drop(name, at_fault)
    found = task.targets(table, ~dropped, classes) if labelled else ProfileTargets()
    for name, at_fault in found.rules.items():
        drop(name, at_fault)
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
        kept,
        matrix,
        np.arange(len(kept)),
        genes,
        described,
        task.data.scale,
        found.classes or tuple(classes or ()),
        outcome=tuple(found.columns) or ("target",),
        stratum=found.stratum,
    )
    return Kept(samples, counts)


@dataclass(frozen=True)
class ProfileTargets:
    """What is to be predicted of profiles, of all rows of a table of samples.

    Attributes
    ----------
    rules
        For each rule the samples that it drops, bool, shape ``(n,)``.
    columns
        What is predicted; a value a sample, whatever stands there of those that are dropped.
    classes
        Names of classes, where they are predicted.
    counts
        What is told of them.
    stratum
        Column by which splits are balanced.
    """

    rules: dict[str, np.ndarray] = field(default_factory=dict)
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)
    stratum: str = "label"


def label_targets(
    table: pd.DataFrame, left: np.ndarray, task: ProfilesClassification, classes: Sequence[str] | None
) -> ProfileTargets:
    """Return the position of each label among the classes; see `pipelines.modalities.profiles.ProfilesTask.targets`.

    Raises
    ------
    DataError
        A class is too small, and the rule is to refuse it.
    """
    rules = {"without_label": table["label"].isna().to_numpy()}
    counts: dict[str, Any] = {}
    left = left & ~rules["without_label"]
    if classes is None:
        small = small_classes(table[left], task)
        rules["small_class"] = table["label"].isin(list(small)).to_numpy()
        counts["small_classes"] = small
        left = left & ~rules["small_class"]
        classes = sorted(table.loc[left, "label"].unique())
    else:
        rules["unknown_label"] = ~table["label"].isin(list(classes)).to_numpy()
        left = left & ~rules["unknown_label"]
    counts["classes"] = {name: int((table.loc[left, "label"] == name).sum()) for name in classes}
    codes = pd.Index(classes).get_indexer(pd.Index(table["label"])).astype(np.int64)
    return ProfileTargets(rules, {"target": codes}, tuple(classes), counts)


def _check_ids(tables: ExpressionTables) -> None:
    findings = []
    for file, table in ((EXPRESSION_FILE, tables.expression), (SAMPLES_FILE, tables.samples)):
        ids = table["sample_id"]
        if (empty := ids.isna()).any():
            message = "the key is empty; fill it in"
            findings.append(Finding.at_rows("key_filled", file, "sample_id", np.flatnonzero(empty), message))
        if (twice := ids.duplicated(keep=False) & ids.notna()).any():
            message = "stands more than once; write one row for each, and give different things different ids"
            rows = np.flatnonzero(twice)
            findings.append(Finding.at_rows("key_unique", file, "sample_id", rows, message, ids[twice]))
    if findings:
        raise DataError(findings)


def small_classes(table: pd.DataFrame, task: ProfilesClassification) -> dict[str, int]:
    """Return the classes with fewer patients than a split needs, and how many they have.

    Raises
    ------
    DataError
        There are some, and ``data.small_classes`` is to refuse them.
    """
    patients = table.groupby("label")["patient_id"].nunique()
    few = {str(name): int(count) for name, count in patients.items() if count < task.data.minimum_patients}
    if few and task.data.small_classes == "refuse":
        listed = ", ".join(f"{name} ({count})" for name, count in few.items())
        message = (
            f"classes with fewer than {task.data.minimum_patients} patients: {listed}; add samples, exclude them, or "
            "set data.small_classes in params.yaml to drop"
        )
        raise DataError([Finding("class_large_enough", SAMPLES_FILE, message, "label")])
    return few


def is_one_of(column: pd.Series, values: Sequence[str]) -> np.ndarray:
    """Return where a column holds one of the values of a rule, in any case and with any blanks around it.

    A file may hold 1, 1.0 or 01 where a rule says ``"01"``: pandas reads a column of such codes as numbers, and one
    of ``TRUE`` as truth values.
    """
    wanted = {folded_id(value) for value in values}
    return np.array([bool(pd.notna(cell)) and folded_id(cell) in wanted for cell in column.astype(object)], dtype=bool)


def unruled(column: pd.Series) -> np.ndarray:
    """Return where a column of a rule says nothing, so that the rule can neither drop the sample nor clear it."""
    return np.array([is_unknown(cell) for cell in column.astype(object)], dtype=bool)


def partly_excluded(column: pd.Series, value: str, values: Sequence[str]) -> str | None:
    """Return which cells a rule that excludes ``value`` would leave in that look like it, None if there are none.

    Parameters
    ----------
    column
        Of ``samples.csv``.
    value, values
        One value of the rule, and all of them.

    Notes
    -----
    ``11A`` and ``11B`` are the code ``11`` with the vial of a TCGA barcode; ``solid-tissue normal`` is ``Solid Tissue
    Normal``.
    """
    left = column[~is_one_of(column, values)].dropna().astype(str)
    code = re.compile(re.escape(folded_id(value)) + "[a-z]{1,2}") if folded_id(value).isdigit() else None
    letters = letters_of(value)
    alike = [
        text
        for text in left.unique()
        if (letters and letters_of(text) == letters) or (code and code.fullmatch(folded(text).lstrip("0")))
    ]
    if not alike:
        return None
    return (
        f"data.exclude in params.yaml rules out {value!r}, and {quoted(alike)} would be left in; name there all that "
        "are to be excluded, or write in another way what is not"
    )


def is_landmark(genes: pd.DataFrame) -> np.ndarray:
    """Return which rows of ``genes.csv`` are landmarks, bool, shape ``(genes,)``; an empty cell is none."""
    return as_truth(genes[LANDMARK]).fillna(value=False).to_numpy(bool)


def as_truth(column: pd.Series) -> pd.Series:
    """Return a column of true and false, or of 1 and 0, as truth values; missing where it says neither."""
    text = column.astype("string").str.strip().str.lower()
    meaning = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    return text.map(meaning).astype("boolean")


def library_sizes(values: np.ndarray, scale: str) -> np.ndarray:
    """Return the totals of profiles, in linear units; float64, shape ``(n,)``.

    Parameters
    ----------
    values
        Shape ``(n, genes)``; what is not finite counts as nothing.
    scale
        ``linear`` or ``log2``.
    """
    totals = np.zeros(len(values))
    for start in range(0, len(values), _BLOCK):
        part = values[start : start + _BLOCK].astype(np.float64)
        part = np.where(np.isfinite(part), part, 0)
        totals[start : start + _BLOCK] = (np.exp2(part) - 1 if scale == "log2" else part).sum(axis=1)
    return totals


def aim(samples: ExpressionSamples, data: GeneData, train: np.ndarray) -> ExpressionSamples:
    """Choose target and predictor genes.

    Parameters
    ----------
    samples
        Of a task that predicts genes.
    data
        Says which.
    train
        Positions of the training rows: the most variable genes are chosen on them alone.

    Raises
    ------
    DataError
        There is no such gene, or no predictor is left.
    """
    from pipelines.samples.gene_names import find_gene

    landmark = np.zeros(len(samples.genes), dtype=bool)
    if data.predictors == "landmarks":
        landmark = is_landmark(samples.about_genes)
    if data.targets == "most_variable":
        variance = _variance(samples.take(train).logged())
        variance[landmark] = 0.0
        order = np.argsort(-variance, kind="stable")[: data.target_count]
        targets = [samples.genes[column] for column in order if variance[column] > 0]
    else:
        targets = [find_gene(data.targets, samples.genes)]
    chosen = set(targets)
    pool = [gene for gene, is_one in zip(samples.genes, landmark, strict=True) if is_one or data.predictors == "all"]
    predictors = [gene for gene in pool if gene not in chosen]
    if not targets or not predictors:
        what = "target" if not targets else "predictor"
        message = f"no {what} gene is left; look at data.predictors and data.targets in params.yaml"
        raise DataError([Finding("genes_left", EXPRESSION_FILE, message)])
    return samples.aimed(targets, predictors)


def _variance(values: np.ndarray) -> np.ndarray:
    """Return the variance of each column, of what is known; exactly 0 where it has one value or none."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / count
    variance = np.where(known, (values - mean) ** 2, 0).sum(axis=0) / count
    lowest, highest = np.where(known, values, np.inf).min(axis=0), np.where(known, values, -np.inf).max(axis=0)
    return np.where(lowest < highest, variance, 0.0)


def _some(table: pd.DataFrame) -> str:
    return ", ".join(map(repr, map(str, table.columns[:8])))
