"""What the raw data of profiles must satisfy: profiles on one scale, of samples and genes that are described."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

from pipelines.errors import ROWS_SHOWN, DataError, Finding
from pipelines.expectations import Check, Suite, Tell, some, tell_columns, tell_rows, tell_table
from pipelines.expectations.checks import alike_ids, all_true, at_least, doubt_suite, keyed_checks
from pipelines.expectations.genes import gene_checks, gene_names
from pipelines.expectations.profile_targets import ProfileTargets
from pipelines.modalities.profiles import ProfilesTask as Task
from pipelines.samples.expression import (
    EXPRESSION_FILE,
    GENES_FILE,
    LANDMARK,
    SAMPLES_FILE,
    as_truth,
    is_landmark,
    is_one_of,
    library_sizes,
    partly_excluded,
    read_expression_tables,
    sample_columns,
    unruled,
)
from pipelines.samples.formats import read_table
from pipelines.samples.gene_names import symbol_of
from pipelines.text_values import is_unknown, quoted
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
_TODO = {
    "linear": "if so, set data.scale: log2 in params.yaml",
    "log2": "write log2(x + 1), or set data.scale: linear in params.yaml if no logarithm was taken",
    "as_is": "",
}
_NEVER = {"linear": "linear values never are", "log2": "log2(x + 1) never is"}


def read(folder: Path, task: Task) -> tuple[Tables, list[Finding]]:
    """Read what can be read of a raw folder.

    Parameters
    ----------
    folder
        The raw folder.
    task
        Says whether samples have labels and whether genes must be described.

    Returns
    -------
    tables
        Every sound table by its file name.
    findings
        Why the others are not there.
    """
    try:
        tables = read_expression_tables(folder, task)
    except DataError as error:
        text = {EXPRESSION_FILE: (SAMPLE,), SAMPLES_FILE: sample_columns(task), GENES_FILE: (GENE,)}
        faulty = {finding.file for finding in error.findings}
        sound = [file for file in text if file not in faulty and (folder / file).exists()]
        notes: list[Finding] = []
        read_again = {
            file: read_table(folder / file, text=text[file], all_other_numbers=file == EXPRESSION_FILE, notes=notes)
            for file in sound
        }
        return read_again, [*error.findings, *notes]
    found = {EXPRESSION_FILE: tables.expression, SAMPLES_FILE: tables.samples}
    return found | ({} if tables.genes is None else {GENES_FILE: tables.genes}), list(tables.notes)


def suites(tables: Tables, task: Task) -> list[Suite]:
    """Return the suites of ``tables``; what needs a table that is not there is left out."""
    made: list[Suite] = []
    if EXPRESSION_FILE in tables:
        made += _expression_suites(tables, task)
    if SAMPLES_FILE in tables:
        made += _samples_suites(tables, task)
    if GENES_FILE in tables:
        made += _genes_suites(tables, task)
    return made


def counts(tables: Tables, task: Task) -> dict[str, Any]:
    """Count rows, columns and missing values, and the patients and labels of the samples that the rules keep."""
    counted: dict[str, Any] = {
        "rows": {file: len(table) for file, table in tables.items()},
        "columns": {file: table.shape[1] for file, table in tables.items()},
    }
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


# expression.parquet.


def _expression_suites(tables: Tables, task: Task) -> list[Suite]:
    file, table, rules, scale = EXPRESSION_FILE, tables[EXPRESSION_FILE], task.validate, task.data.scale
    features = table.drop(columns=SAMPLE)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite to a model
        values = features.to_numpy(np.float32, na_value=np.nan)
    missing = np.isnan(values)
    rows, row_checks = _rows(table, values, missing, task)
    if SAMPLES_FILE in tables:
        row_checks += _described(rows, SAMPLE, tables[SAMPLES_FILE][SAMPLE], file, SAMPLES_FILE, "they are dropped")
    columns = _columns(features, values, missing, rules.missing_share)
    within = missing & (rows["missing"].to_numpy() <= rules.missing_share)[:, None]
    within &= (columns["missing"].to_numpy() <= rules.missing_share)[None, :]
    fault = _of_target(task).gene_fault(list(columns["gene"]), task)
    whole = pd.DataFrame(
        {
            "samples": [len(table)],
            "genes": [features.shape[1]],
            "complete": [not within.any()],
            "target": [fault is None],
        }
    )
    few_samples = f"{len(table)} samples, {rules.minimum_samples} are needed; add some"
    few_genes = f"{features.shape[1]} genes, {rules.minimum_genes} are needed; add a number column for each gene"
    gaps = (
        f"{within.sum()} values are missing, of {within.any(axis=1).sum()} samples and {within.any(axis=0).sum()} genes"
        "; they are imputed"
    )
    whole_checks = (
        at_least("samples", rules.minimum_samples, tell_table("minimum_samples", file, few_samples)),
        at_least("genes", rules.minimum_genes, tell_table("minimum_genes", file, few_genes)),
        all_true("complete", tell_table("values_complete", file, gaps, _named(features, within)), tolerated=1.0),
        all_true("target", tell_table("target_gene", file, str(fault))),
    )
    made = [Suite("expression.table", whole, whole_checks), Suite("expression", rows, tuple(row_checks))]
    made += doubt_suite("expression.scale", file, _scale_doubt(values, scale), _TODO[scale])
    if len(columns):
        made.append(Suite("expression.columns", columns, tuple(_columns_checks(features, values, task))))
    return made


def _scale_doubt(values: np.ndarray, scale: str) -> Doubt | None:
    """Return what speaks against the scale of the table as a whole; single cells and samples are told by name."""
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


def _rows(table: pd.DataFrame, values: np.ndarray, missing: np.ndarray, task: Task) -> tuple[pd.DataFrame, list[Check]]:
    """Return one row for each sample: its key, what is missing, whether all is zero, and its total."""
    file, rules, scale = EXPRESSION_FILE, task.validate, task.data.scale
    frame = pd.DataFrame({SAMPLE: table[SAMPLE]})
    genes = max(values.shape[1], 1)
    frame["missing"] = missing.sum(axis=1) / genes
    known = ~missing.all(axis=1)
    zero = known & ((values == 0) | missing).all(axis=1)
    frame["expressed"] = ~zero
    checks = list(keyed_checks(file, table, SAMPLE))
    most = f"more than {rules.missing_share:.0%} of the values are missing"
    message = f"{most}{{found}}; measure them, or leave the sample out"
    lacking = frame["missing"].map("{:.0%}".format)
    tell = tell_rows("sample_measured", file, None, message, lacking)
    checks.append(Check(gxe.ExpectColumnValuesToBeBetween(column="missing", max_value=rules.missing_share), tell))
    message = "all values are 0: nothing was measured; leave the sample out, or mend how the table was made"
    checks.append(all_true("expressed", tell_rows("sample_expressed", file, None, message)))
    if scale != "as_is" and len(table):
        logged, highest = _logged(values, known & ~zero, scale)
        frame["scaled_alike"] = ~logged
        message = (
            f"the largest value is{{found}}, of half of the samples {highest.median():g} and more: it looks as if a "
            "logarithm more was taken of this sample; bring it to the scale of the others"
        )
        checks.append(all_true("scaled_alike", tell_rows("sample_scale", file, None, message, highest)))
        # What is refused for its scale would only be told a second time by its total.
        sane = np.where((values < 0) | ((scale == "log2") & (values > HIGHEST_LOG2)), np.nan, values)
        total = pd.Series(library_sizes(sane, scale))
        measured = known & ~zero & ~logged & (total > 0)
        median = float(total[measured].median()) if measured.any() else math.nan
        factor = rules.library_size_factor
        frame["total"] = (total / median).where(measured)
        message = (
            f"the total of the linear values{{found}} is more than {factor:g} times above or below the median one "
            f"({median:g}); bring the sample to the units of the others, or raise "
            "validate.library_size_factor"
        )
        tell = tell_rows("library_size", file, None, message, total)
        between = gxe.ExpectColumnValuesToBeBetween(column="total", min_value=1 / factor, max_value=factor)
        checks.append(Check(between, tell))
    return frame, checks


def _logged(values: np.ndarray, measured: np.ndarray, scale: str) -> tuple[np.ndarray, pd.Series]:
    """Return which samples look like the logarithm of the others, and the largest value of each."""
    highest = np.where(np.isfinite(values), values, -np.inf).max(axis=1, initial=-np.inf)
    usual = np.median(highest)
    logged = measured & (highest < _LOGGED_BELOW[scale]) & (usual >= _OTHERS_ABOVE[scale])
    if logged.any():
        typical = np.nanmedian(values[:: len(values) // _TYPICAL_OF + 1], axis=0)
        away = np.nanmedian(np.abs(values[logged] - np.log2(np.maximum(typical, 0) + 1)), axis=1)
        logged[np.flatnonzero(logged)[away > _AWAY]] = False  # shallow, which its total tells
    return logged, pd.Series(highest)


def _columns(features: pd.DataFrame, values: np.ndarray, missing: np.ndarray, missing_share: float) -> pd.DataFrame:
    """Return one row for each gene: its name, range and faults."""
    finite = np.isfinite(values)
    lowest = np.where(finite, values, np.inf).min(axis=0, initial=np.inf)
    highest = np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf)
    measured = finite.any(axis=0)
    names = [str(name) for name in features.columns]
    symbols = pd.Series([symbol_of(name) for name in names], dtype=object)
    gaps = missing.sum(axis=0) / max(len(values), 1)
    varies = pd.Series(lowest < highest, dtype=object)
    return pd.DataFrame(
        {
            "gene": pd.Series(names, dtype=object),
            "named": [not is_unknown(name) and not name.startswith("Unnamed: ") for name in names],
            "infinite": np.isinf(values).sum(axis=0),
            "lowest": np.where(measured, lowest, np.nan).astype(float),
            "highest": np.where(measured, highest, np.nan).astype(float),
            "missing": gaps,
            "varies": varies.where(measured & (gaps <= missing_share), None),  # a gap is told once
            "symbol_alone": ~symbols.duplicated(keep=False),
            **gene_names(names),
        }
    )


def _columns_checks(features: pd.DataFrame, values: np.ndarray, task: Task) -> Iterator[Check]:
    file, rules, scale = EXPRESSION_FILE, task.validate, task.data.scale
    names = [str(name) if str(name).strip() else f"number {at}" for at, name in enumerate(features.columns, start=2)]

    def tell(name: str, message: str, fault: Callable[[np.ndarray], np.ndarray] | None = None) -> Tell:
        return tell_columns(name, file, names, message, values, fault)

    def within(column: str, tell: Tell, low: float | None = None, high: float | None = None) -> Check:
        return Check(gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high), tell)

    message = "the column has no name, or a word that means unknown; name it after its gene"
    yield all_true("named", tell("column_named", message))
    message = "must be finite; leave unknown values empty"
    yield within("infinite", tell("values_finite", message, np.isinf), high=0)
    if scale != "as_is":
        message = (
            f"below 0{{found}}, which {_NEVER[scale]}; undo an offset or a log ratio, or set data.scale: as_is if the "
            "values are standardized"
        )
        yield within("lowest", tell("values_not_negative", message, lambda cells: cells < 0), low=0)
    if scale == "log2":
        message = (
            f"above {HIGHEST_LOG2:g}{{found}}, which {_NEVER[scale]}: the table looks linear; set data.scale: linear, "
            "or transform it to log2(x + 1)"
        )

        def above(cells: np.ndarray) -> np.ndarray:
            return np.isfinite(cells) & (cells > HIGHEST_LOG2)

        yield within("highest", tell("values_not_above", message, above), high=HIGHEST_LOG2)
    message = f"more than {rules.missing_share:.0%} of the values are missing; measure the gene, or leave it out"
    yield within("missing", tell("gene_measured", message), high=rules.missing_share)
    if len(values) > 1:
        message = "has one value in all samples; models leave it out; mend how it was made if it should vary"
        yield all_true("varies", tell("gene_varies", message), tolerated=rules.constant_gene_share)
    yield all_true("symbol_alone", _tell_symbols(names), tolerated=1.0)
    yield from gene_checks(file, names)


def _tell_symbols(names: Sequence[str]) -> Tell:
    def tell(positions: Sequence[int], severity: str) -> list[Finding]:
        bearers = [names[position] for position in positions]
        symbols = list(dict.fromkeys(symbol_of(name) for name in bearers))
        message = (
            f"{len(bearers)} columns bear a symbol that another bears too ({some(symbols)}); whoever means one of them "
            "has to name it by its number too, as the column does"
        )
        values = tuple(symbols[:ROWS_SHOWN])
        return [Finding("symbol_alone", EXPRESSION_FILE, message, some(bearers), severity=severity, values=values)]

    return tell


def _of_target(task: Task) -> ProfileTargets:
    """Return what must hold for the sake of the task's problem."""
    rules: ProfileTargets = importlib.import_module(f"pipelines.expectations.profiles_{task.problem}").RULES
    return rules


# samples.csv.


def _samples_suites(tables: Tables, task: Task) -> list[Suite]:
    file, table = SAMPLES_FILE, tables[SAMPLES_FILE]
    expression = tables.get(EXPRESSION_FILE)
    frame = pd.DataFrame({SAMPLE: table[SAMPLE]})
    frame["patient"] = table[PATIENT].notna()
    checks = list(keyed_checks(file, table, SAMPLE))
    if expression is not None:
        checks += _described(frame, SAMPLE, expression[SAMPLE], file, EXPRESSION_FILE, "they are not used")
    message = "is empty: the sample stands alone, and may stand on another side of the split than the patient's others"
    checks.append(all_true("patient", tell_rows("patient_known", file, PATIENT, message), tolerated=1.0))
    checks += _of_target(task).sample_checks(frame, table, task)
    made = [Suite("samples", frame, tuple(checks))]
    if task.data.exclude:
        made.append(_exclude_suite(table, task))
    return made + _rules_suites(table, expression, task)


def _exclude_suite(table: pd.DataFrame, task: Task) -> Suite:
    rules = [(column, value) for column, values in task.data.exclude.items() for value in values or ("",)]
    frame = pd.DataFrame(rules, columns=["column", "value"]).astype(object)
    frame["exists"] = frame["column"].isin(table.columns)
    frame["occurs"] = pd.Series(
        [
            None if column not in table else bool(not value or is_one_of(table[column], [value]).any())
            for column, value in rules
        ],
        dtype=object,
    )

    faults = [
        partly_excluded(table[column], value, task.data.exclude[column]) if column in table and value else None
        for column, value in rules
    ]
    frame["whole"] = [fault is None for fault in faults]
    frame["occurs"] = frame["occurs"].where(frame["whole"], None)  # what looks alike is told once
    frame["said"] = [column not in table or not unruled(table[column]).any() for column, _ in rules]

    def missing(positions: Sequence[int], severity: str) -> list[Finding]:
        columns = dict.fromkeys(rules[position][0] for position in positions)
        message = f"the column is missing, and data.exclude in params.yaml names it; the file has {some(table.columns)}"
        return [Finding("exclude_column", SAMPLES_FILE, message, column, severity=severity) for column in columns]

    def unused(positions: Sequence[int], severity: str) -> list[Finding]:
        message = "data.exclude in params.yaml rules out {}, which occurs nowhere; look whether it is written so"
        return [
            Finding("exclude_value", SAMPLES_FILE, message.format(repr(value)), column, severity=severity)
            for column, value in (rules[position] for position in positions)
        ]

    def partly(positions: Sequence[int], severity: str) -> list[Finding]:
        told = [(rules[position][0], str(faults[position])) for position in positions]
        return [Finding("exclude_alike", SAMPLES_FILE, fault, column, severity=severity) for column, fault in told]

    def unsaid(positions: Sequence[int], severity: str) -> list[Finding]:
        message = "is empty or unknown, so that data.exclude in params.yaml cannot rule the sample out; it is kept"
        told = []
        for column in dict.fromkeys(rules[position][0] for position in positions):
            rows = np.flatnonzero(unruled(table[column]))
            told.append(Finding.at_rows("exclude_unknown", SAMPLES_FILE, column, rows, message, severity=severity))
        return told

    checks = (
        all_true("exists", missing),
        all_true("whole", partly),
        all_true("occurs", unused, tolerated=1.0),
        all_true("said", unsaid, tolerated=1.0),
    )
    return Suite("samples.exclude", frame, checks)


def _rules_suites(table: pd.DataFrame, expression: pd.DataFrame | None, task: Task) -> list[Suite]:
    """Return what must hold of the samples that are left after the rules of ``data``."""
    kept = _kept(table, expression, task)
    named, least = table[SAMPLE].dropna(), task.validate.minimum_samples
    common = len(named) if expression is None else int(named.isin(expression[SAMPLE].dropna()).sum())
    enough = expression is None or len(kept) >= least or common == 0 or len(expression) < least  # told elsewhere
    frame = pd.DataFrame({"common": [common], "enough": [enough]})
    alike = "" if expression is None or common else alike_ids(named, expression[SAMPLE])
    alien = f"not one sample is in {EXPRESSION_FILE} too{alike}; write the ids in both files alike"
    few = f"{len(kept)} of {common} samples are left after the rules of data in params.yaml, {least} are needed"
    checks = [
        at_least("common", 1, tell_table("samples_common", SAMPLES_FILE, alien, SAMPLE)),
        all_true("enough", tell_table("samples_left", SAMPLES_FILE, few)),
    ]
    made: list[Suite] = []
    if common:
        of_target, suites_of_target = _of_target(task).kept_checks(frame, table, kept, task)
        checks += of_target
        made += suites_of_target
    return [Suite("samples.rules", frame, tuple(checks)), *made]


def _kept(samples: pd.DataFrame, expression: pd.DataFrame | None, task: Task) -> pd.DataFrame:
    """Return the rows of ``samples.csv`` that the rules keep; a patient that is not known is the sample."""
    rows = samples[SAMPLE].notna() & ~samples[SAMPLE].duplicated()
    if expression is not None:
        rows &= samples[SAMPLE].isin(expression[SAMPLE])
    for column, values in task.data.exclude.items():
        if column in samples:
            rows &= ~is_one_of(samples[column], values)
    rows &= _of_target(task).known(samples, task)
    kept = samples[rows]
    return kept.assign(**{PATIENT: kept[PATIENT].fillna(kept[SAMPLE])})


# genes.csv.


def _genes_suites(tables: Tables, task: Task) -> list[Suite]:
    file, table = GENES_FILE, tables[GENES_FILE]
    frame = pd.DataFrame({GENE: table[GENE]})
    checks = list(keyed_checks(file, table, GENE))
    described = table[GENE].fillna("").tolist()
    frame = frame.assign(**gene_names(described))
    checks += gene_checks(file, described, GENE)
    if LANDMARK in table:
        says = as_truth(table[LANDMARK]).notna() | table[LANDMARK].map(is_unknown)
        frame["says"] = says.to_numpy(bool)
        message = "must be true or false{found}; an empty cell means false"
        checks.append(all_true("says", tell_rows("landmark_says", file, LANDMARK, message, table[LANDMARK])))
    if (expression := tables.get(EXPRESSION_FILE)) is None:
        return [Suite("genes", frame, tuple(checks))]
    names = pd.Series([str(name) for name in expression.columns if name != SAMPLE], dtype=object)
    present = table[GENE].isin(names)
    checks += _described(frame, GENE, names, file, EXPRESSION_FILE, "the rows are not used")
    columns = pd.DataFrame({GENE: names, "described": names.isin(table[GENE]) | (not present.any())})

    def undescribed(positions: Sequence[int], severity: str) -> list[Finding]:
        lacking = names.iloc[list(positions)]
        message = f"{len(lacking)} genes of {EXPRESSION_FILE} have no row; nothing is known of them but their values"
        values = tuple(lacking.iloc[:ROWS_SHOWN])
        return [Finding("genes_described", file, message, some(lacking), severity=severity, values=values)]

    made = [Suite("genes", frame, tuple(checks))]
    if len(columns):
        made.append(Suite("genes.columns", columns, (all_true("described", undescribed, tolerated=1.0),)))
    whole = pd.DataFrame({"common": [int(present.sum())]})
    message = f"not one gene is a column of {EXPRESSION_FILE}; write the names in both files alike"
    whole_checks = [at_least("common", 1, tell_table("genes_common", file, message, GENE))]
    if LANDMARK in table and present.any():
        landmarks = int((is_landmark(table) & present.to_numpy(bool)).sum())
        whole_checks += _of_target(task).landmark_checks(whole, landmarks, len(names) - landmarks, task)
    return [*made, Suite("genes.table", whole, tuple(whole_checks))]


# What several files have in common.


def _described(frame: pd.DataFrame, key: str, known: Iterable[Any], file: str, other: str, what: str) -> list[Check]:
    """Add to ``frame`` which keys ``other`` knows, and return the check; if it knows none, that is told elsewhere."""
    known = set(known)
    found = frame[key].isin(known)
    frame["described"] = (found | (not found.any())).astype(object).where(frame[key].notna(), None)
    lacking_ids = frame[key][frame["described"].eq(False)]
    alike = alike_ids(lacking_ids, known)

    def tell(positions: Sequence[int], severity: str) -> list[Finding]:
        lacking = frame[key].iloc[list(positions)]
        noun = f"{key.removesuffix('_id')}s"
        which = f"({quoted(lacking, ROWS_SHOWN)}){alike}"
        message = f"{len(lacking)} of {len(frame)} {noun} are not in {other} {which}; {what}"
        name = f"{noun}_known"
        return [Finding.at_rows(name, file, key, positions, message, lacking, severity)]

    return [all_true("described", tell, tolerated=_MOST if alike else 1.0)]


def _named(features: pd.DataFrame, cells: np.ndarray) -> str:
    return some(str(features.columns[at]) for at in np.flatnonzero(cells.any(axis=0)).tolist())
