"""What the raw data of profiles must satisfy: profiles on one scale, of samples and genes that are described."""

import importlib
import math
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

from pipelines.errors import Finding
from pipelines.expectations import (
    Check,
    Columns,
    Suite,
    alike_ids,
    between,
    filled,
    gene_name_findings,
    keyed_checks,
    known_ids,
    report_names,
    report_rows,
    report_table,
    rows_at_least,
    scale_findings,
    some,
    table_sizes,
)
from pipelines.modalities.profiles import ProfilesTask as Task
from pipelines.samples.expression import (
    EXPRESSION_FILE,
    GENES_FILE,
    LANDMARK,
    SAMPLES_FILE,
    as_truth,
    asked_of_profiles,
    is_landmark,
    is_one_of,
    library_sizes,
    partly_excluded,
)
from pipelines.samples.formats import read_sound_tables
from pipelines.samples.gene_names import symbol_of
from pipelines.text_values import is_unknown, known_column, quoted
from pipelines.units import Doubt

Tables = dict[str, pd.DataFrame]

SAMPLE, PATIENT, LABEL, GENE = "sample_id", "patient_id", "label", "gene"
# A billion reads of one gene: no sequencing run has them, and no table of counts worth learning from stays below.
HIGHEST_LOG2 = 30.0
_MOST = 0.5  # share of the ids that another file may lack where it has them in another spelling
_FEW = 500  # values, which may all be whole by chance
_MANY_GENES, _LOW_LOG2 = 100, 6.0
_LOGGED_BELOW, _OTHERS_ABOVE = {"linear": HIGHEST_LOG2, "log2": 5.0}, {"linear": 1000.0, "log2": 10.0}
_TYPICAL_OF = 500  # samples
_AWAY = 1.5  # log2 units, half of the genes from the logarithm of the typical sample
_ADVICE = {
    "linear": "if so, set data.scale: log2 in params.yaml",
    "log2": "write log2(x + 1), or set data.scale: linear in params.yaml if no logarithm was taken",
    "as_is": "",
}
_NEVER = {"linear": "which linear values never are", "log2": "which log2(x + 1) never is"}


def read(folder: Path, task: Task) -> tuple[Tables, list[Finding]]:
    """Return every sound table of a raw folder by its file name, and findings about all of them."""
    return read_sound_tables(folder, asked_of_profiles(folder, task))


def suites(tables: Tables, task: Task) -> list[Suite | Finding]:
    """Return the suites of the tables that are there, and findings of what no expectation can state."""
    of_files = {EXPRESSION_FILE: _expression_suites, SAMPLES_FILE: _samples_suites, GENES_FILE: _genes_suites}
    return [each for file, of_file in of_files.items() if file in tables for each in of_file(tables, task)]


def counts(tables: Tables, task: Task) -> dict[str, Any]:
    """Count rows, columns and missing values, and the patients and labels of the samples that the rules keep."""
    counted = table_sizes(tables)
    if (expression := tables.get(EXPRESSION_FILE)) is not None:
        counted["missing_values"] = int(expression.drop(columns=SAMPLE).isna().to_numpy().sum())
    if (samples := tables.get(SAMPLES_FILE)) is not None:
        kept = _kept(samples, expression, task)
        counted["kept"] = {"samples": len(kept), "patients": int(kept[PATIENT].nunique())}
        counted["without_patient"] = int(samples[PATIENT].isna().sum())
        if LABEL in kept:
            counted["labels"] = {str(name): int(count) for name, count in kept[LABEL].value_counts().items()}
    if (genes := tables.get(GENES_FILE)) is not None and LANDMARK in genes:
        counted["landmarks"] = int(is_landmark(genes).sum())
    return counted


def _expression_suites(tables: Tables, task: Task) -> list[Suite | Finding]:
    file, table, most, scale = EXPRESSION_FILE, tables[EXPRESSION_FILE], task.validate.missing_share, task.data.scale
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite to a model
        values = table.drop(columns=SAMPLE).to_numpy(np.float32, na_value=np.nan)
    columns, missing = Columns(file, table, SAMPLE, values), np.isnan(values)
    rows, row_checks, scale_faults = _rows(table, values, missing, task)
    of_genes = missing.sum(axis=0) / max(len(values), 1)
    gaps = missing & (rows["missing"].to_numpy() <= most)[:, None] & (of_genes <= most)
    named = some(columns.names[at] for at in np.flatnonzero(gaps.any(axis=0)))
    of_what = f"{gaps.any(axis=1).sum()} samples and {gaps.any(axis=0).sum()} genes"
    imputed = f"{gaps.sum()} values are missing, of {of_what}; they are imputed"
    complete = between("gaps", report_table("values_complete", file, imputed, named), high=0, tolerated=1.0)
    made: list[Suite | Finding] = [
        Suite("expression.table", pd.DataFrame({"gaps": [int(gaps.sum())]}), [complete]),
        Suite("expression", rows, row_checks),
        *scale_faults,
        *scale_findings(file, _scale_doubt(values, scale), _ADVICE[scale]),
        _columns_suite(columns, of_genes, task),
        *gene_name_findings(file, columns.labels),
    ]
    if (fault := _of_target(task, "gene_fault", columns.names)) is not None:
        made.append(Finding("target_gene", file, fault))
    if SAMPLES_FILE in tables:
        known = tables[SAMPLES_FILE][SAMPLE]
        made += _known(table[SAMPLE], known, (file, SAMPLES_FILE), "samples", "they are dropped")
    return made


def _scale_doubt(values: np.ndarray, scale: str) -> Doubt | None:
    """Return what speaks against the scale of the table as a whole; cells and samples are reported by name."""
    known = values[np.isfinite(values)]
    if scale == "as_is" or not len(known) or known.max() <= 0:
        return None
    highest = float(known.max())
    if scale == "linear":
        logged = f"the largest value is {highest:g}: the values look as if they were logged"
        return Doubt(False, logged) if highest < HIGHEST_LOG2 else None
    if len(known) >= _FEW and highest > 1 and (known == np.rint(known)).all():
        return Doubt(True, "all values are whole, as counts are; log2(x + 1) is not")
    if values.shape[1] >= _MANY_GENES and highest < _LOW_LOG2:
        what = "log2(x + 1) of most tables exceeds 10; are these decimal logarithms, or was the logarithm taken twice?"
        return Doubt(False, f"the largest value is {highest:g}: {what}")
    return None


def _rows(
    table: pd.DataFrame, values: np.ndarray, missing: np.ndarray, task: Task
) -> tuple[pd.DataFrame, list[Check], list[Finding]]:
    """Return one row for each sample with its id and statistics, its checks, and samples on another scale."""
    file, rules, scale = EXPRESSION_FILE, task.validate, task.data.scale
    frame = pd.DataFrame({SAMPLE: table[SAMPLE], "missing": missing.sum(axis=1) / max(values.shape[1], 1)})
    known = ~missing.all(axis=1)
    nonzero = ((values != 0) & ~missing).sum(axis=1)
    frame["nonzero"] = np.where(known, nonzero, np.nan)
    few = f"{len(table)} samples, {rules.minimum_samples} are needed; add some"
    gaps = f"more than {rules.missing_share:.0%} of the values are missing{{found}}; leave the sample out"
    zeros = "all values are 0: nothing was measured; leave the sample out, or correct how the table was made"
    lacking = report_rows("sample_measured", file, None, gaps, frame["missing"].map("{:.0%}".format))
    checks = [
        *keyed_checks(file, table, SAMPLE),
        rows_at_least(rules.minimum_samples, report_table("minimum_samples", file, few)),
        between("missing", lacking, high=rules.missing_share),
        between("nonzero", report_rows("sample_expressed", file, None, zeros), low=1),
    ]
    if scale == "as_is" or not len(table):
        return frame, checks, []
    measured = known & (nonzero > 0)
    logged, highest = _logged(values, measured, scale)
    smaller = f"the largest value is{{found}}, of half of the samples {highest.median():g} and more"
    message = f"{smaller}: one more logarithm may have been taken of it; bring it to the scale of the others"
    report = report_rows("sample_scale", file, None, message, highest)
    faults = report(np.flatnonzero(logged).tolist(), "error") if logged.any() else []
    # A value that is refused for its scale would be reported a second time by its total.
    sane = np.where((values < 0) | ((scale == "log2") & (values > HIGHEST_LOG2)), np.nan, values)
    total = pd.Series(library_sizes(sane, scale))
    measured &= ~logged & (total > 0).to_numpy()
    median = float(total[measured].median()) if measured.any() else math.nan
    frame["total"] = (total / median).where(measured)
    factor = rules.library_size_factor
    away = f"the total of the linear values{{found}} is more than {factor:g} times above or below the median {median:g}"
    message = f"{away}; bring the sample to the units of the others, or raise validate.library_size_factor"
    checks.append(between("total", report_rows("library_size", file, None, message, total), 1 / factor, factor))
    return frame, checks, faults


def _logged(values: np.ndarray, measured: np.ndarray, scale: str) -> tuple[np.ndarray, pd.Series]:
    """Return which samples look like the logarithm of the others, and the largest value of each."""
    highest = values.max(axis=1, initial=-np.inf, where=np.isfinite(values))
    usual = np.median(highest)
    logged = measured & (highest < _LOGGED_BELOW[scale]) & (usual >= _OTHERS_ABOVE[scale])
    if logged.any():
        typical = np.nanmedian(values[:: len(values) // _TYPICAL_OF + 1], axis=0)
        away = np.nanmedian(np.abs(values[logged] - np.log2(np.maximum(typical, 0) + 1)), axis=1)
        logged[np.flatnonzero(logged)[away > _AWAY]] = False  # shallow, which its total shows
    return logged, pd.Series(highest)


def _columns_suite(columns: Columns, missing: np.ndarray, task: Task) -> Suite:
    """Return the suite of the genes; ``missing`` are their shares of missing values."""
    file, rules, scale, count = columns.file, task.validate, task.data.scale, len(columns.labels)
    frame = columns.frame.assign(missing=missing, symbol=[symbol_of(gene) for gene in columns.names])
    # A gene with too many gaps is reported for these alone.
    frame["range"] = frame["range"].where((missing <= rules.missing_share) & frame["lowest"].notna())
    few = f"{count} genes, {rules.minimum_genes} are needed; add a number column for each gene"
    gaps = f"more than {rules.missing_share:.0%} of the values are missing; measure the gene, or leave it out"
    checks = [
        rows_at_least(rules.minimum_genes, report_table("minimum_genes", file, few)),
        *columns.sound("gene"),
        between("missing", columns.report("gene_measured", gaps), high=rules.missing_share),
        *columns.varied("models leave it out; correct how it was made if it should vary", rules.constant_gene_share),
    ]
    if scale != "as_is":
        advice = "undo an offset or a log ratio, or set data.scale: as_is if the values are standardized"
        checks.append(columns.at_least(0, f"{_NEVER[scale]}; {advice}"))
    if scale == "log2":
        advice = "the table looks linear; set data.scale: linear, or transform it to log2(x + 1)"
        checks.append(columns.at_most(HIGHEST_LOG2, f"{_NEVER[scale]}: {advice}"))

    def shared(names: list[str]) -> str:
        symbols = some(dict.fromkeys(symbol_of(name) for name in names))
        advice = "a request that names one of them has to add its number, as the column does"
        return f"{len(names)} columns share a symbol with another ({symbols}); {advice}"

    alone = gxe.ExpectColumnValuesToBeUnique(column="symbol", mostly=0.0)
    checks.append(Check(alone, report_names("symbol_alone", file, columns.labels, shared)))
    return Suite("expression.columns", frame, checks)


def _of_target(task: Task, question: str, *given: Any) -> Any:
    """Return the answer of the module ``profiles_<problem>``, None where it has no function of this name.

    ``known(samples, task)``: which rows of ``samples.csv`` have a target, bool. ``sample_suites(samples, task)``,
    ``kept_suites(samples, kept, task)`` and ``landmark_suites(landmarks, others, task)``: suites of these rows, of
    those that the rules of ``data`` keep, and of how many genes are landmarks and how many are not.
    ``gene_fault(genes, task)``: what is wrong with the genes that the task names.
    """
    answer = getattr(importlib.import_module(f"pipelines.expectations.profiles_{task.problem}"), question, None)
    return None if answer is None else answer(*given, task)


def _samples_suites(tables: Tables, task: Task) -> list[Suite | Finding]:
    file, table = SAMPLES_FILE, tables[SAMPLES_FILE]
    expression = tables.get(EXPRESSION_FILE)
    missing = f"the column is missing, and data.exclude in params.yaml names it; the file has {some(table.columns)}"
    alone = "is empty: the sample is a group of its own, which the split may separate from others of its patient"
    checks = [
        *keyed_checks(file, table, SAMPLE),
        filled(PATIENT, report_rows("patient_known", file, PATIENT, alone), warn=True),
    ]
    for column in task.data.exclude:
        there = gxe.ExpectColumnToExist(column=column)
        checks.append(Check(there, report_table("exclude_column", file, missing, column)))
    made: list[Suite | Finding] = [Suite("samples", table, checks), *_exclude_suites(table, task)]
    if expression is not None:
        made += _known(table[SAMPLE], expression[SAMPLE], (file, EXPRESSION_FILE), "samples", "they are not used")
    return [*made, *(_of_target(task, "sample_suites", table) or []), *_kept_suites(table, expression, task)]


def _exclude_suites(table: pd.DataFrame, task: Task) -> list[Suite | Finding]:
    """Check the rules of ``data.exclude``: each finds rows, none of them looks like another, none is undecided."""
    made: list[Suite | Finding] = []
    for number, (column, values) in enumerate(task.data.exclude.items()):
        if column not in table:
            continue
        faults = {value: partly_excluded(table[column], value, values) for value in values if value}
        made += [Finding("exclude_alike", SAMPLES_FILE, fault, column) for fault in faults.values() if fault]
        frame = pd.DataFrame({"value": [value for value, fault in faults.items() if not fault]}, dtype=object)
        frame["rows"] = [int(is_one_of(table[column], [value]).sum()) for value in frame["value"]]

        def unused(found: list[str]) -> str:
            unused_values = f"data.exclude in params.yaml excludes {quoted(found)}, which no row has"
            return f"{unused_values}; check whether the file spells it otherwise"

        report = report_names("exclude_value", SAMPLES_FILE, frame["value"].tolist(), unused, column)
        message = "is empty or unknown, so that data.exclude in params.yaml cannot exclude the sample; it is kept"
        undecided = filled("known", report_rows("exclude_unknown", SAMPLES_FILE, column, message), warn=True)
        known = pd.DataFrame({"known": known_column(table[column])})
        made += [
            Suite(f"samples.exclude{number}", frame, [between("rows", report, low=1, tolerated=1.0)]),
            Suite(f"samples.undecided{number}", known, [undecided]),
        ]
    return made


def _kept_suites(table: pd.DataFrame, expression: pd.DataFrame | None, task: Task) -> list[Suite]:
    """Return the suites of the samples that the rules of ``data`` keep."""
    kept = _kept(table, expression, task)
    named, least = table[SAMPLE].dropna(), task.validate.minimum_samples
    ids = named if expression is None else expression[SAMPLE].dropna()
    common = int(named.isin(ids).sum())
    # A table that is too small before the rules is reported for that alone.
    counted = expression is not None and common > 0 and len(expression) >= least
    frame = pd.DataFrame({"common": [common], "kept": [len(kept) if counted else np.nan]})
    alike = "" if common else alike_ids(named, ids)
    alien = f"not one sample is in {EXPRESSION_FILE} too{alike}; write the ids in both files alike"
    few = f"{len(kept)} of {common} samples are left after the rules of data in params.yaml, {least} are needed"
    checks = [
        between("common", report_table("samples_common", SAMPLES_FILE, alien, SAMPLE), low=1),
        between("kept", report_table("samples_left", SAMPLES_FILE, few), low=least),
    ]
    of_target = _of_target(task, "kept_suites", table, kept) if common else None
    return [Suite("samples.rules", frame, checks), *(of_target or [])]


def _kept(samples: pd.DataFrame, expression: pd.DataFrame | None, task: Task) -> pd.DataFrame:
    """Return the rows of ``samples.csv`` that the rules keep; a patient that is not known is the sample."""
    rows = samples[SAMPLE].notna() & ~samples[SAMPLE].duplicated()
    if expression is not None:
        rows &= samples[SAMPLE].isin(expression[SAMPLE])
    for column, values in task.data.exclude.items():
        if column in samples:
            rows &= ~is_one_of(samples[column], values)
    known = _of_target(task, "known", samples)
    kept = samples[rows if known is None else rows & known]
    return kept.assign(**{PATIENT: kept[PATIENT].fillna(kept[SAMPLE])})


def _genes_suites(tables: Tables, task: Task) -> list[Suite | Finding]:
    file, table = GENES_FILE, tables[GENES_FILE]
    made: list[Suite | Finding] = [
        Suite("genes", table[[GENE]], keyed_checks(file, table, GENE)),
        *gene_name_findings(file, table[GENE].fillna("").tolist(), GENE),
    ]
    if LANDMARK in table:
        written = ~table[LANDMARK].map(is_unknown).astype(bool)
        message = "must be true or false{found}; an empty cell means false"
        read = filled(LANDMARK, report_rows("landmark_says", file, LANDMARK, message, table[LANDMARK]))
        made.append(Suite("genes.landmark", pd.DataFrame({LANDMARK: as_truth(table[LANDMARK])})[written], [read]))
    if (expression := tables.get(EXPRESSION_FILE)) is None:
        return made

    def undescribed(genes: list[str]) -> str:
        return f"{len(genes)} genes of {EXPRESSION_FILE} have no row; nothing is known of them but their values"

    names = pd.Series([str(name) for name in expression.columns if name != SAMPLE], dtype=object, name=GENE)
    present = table[GENE].isin(names)
    message = f"not one gene is a column of {EXPRESSION_FILE}; write the names in both files alike"
    common = [between("common", report_table("genes_common", file, message, GENE), low=1)]
    made += [
        *_known(table[GENE], names, (file, EXPRESSION_FILE), "genes", "the rows are not used"),
        Suite("genes.table", pd.DataFrame({"common": [int(present.sum())]}), common),
    ]
    if present.any():
        columns = pd.DataFrame({GENE: names, "rows": names.map(table[GENE].value_counts()).fillna(0)})
        lacking = report_names("genes_described", file, names.tolist(), undescribed)
        made.append(Suite("genes.columns", columns, [between("rows", lacking, low=1, tolerated=1.0)]))
        if LANDMARK in table:
            landmarks = int((is_landmark(table) & present.to_numpy(bool)).sum())
            made += _of_target(task, "landmark_suites", landmarks, len(names) - landmarks) or []
    return made


def _known(ids: pd.Series, others: pd.Series, files: tuple[str, str], noun: str, effect: str) -> list[Suite]:
    """Return the suite of ids that another file must know; none if it knows not one, which is reported elsewhere."""
    lacking = ids[~ids.isin(others)].dropna().unique()
    if len(lacking) == ids.nunique():
        return []
    tolerated = _MOST if alike_ids(lacking, others) else 1.0
    name = f"{Path(files[0]).stem}.ids"
    return [known_ids(name, ids, others, files=files, noun=noun, advice=effect, tolerated=tolerated)]
