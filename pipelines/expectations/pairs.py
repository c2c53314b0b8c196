"""What raw ``pairs`` must satisfy: ids that other tables know, values in range, molecules that parse."""

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
    between,
    filled,
    filled_key,
    gene_name_findings,
    keyed_checks,
    known_ids,
    report_names,
    report_rows,
    report_table,
    rows_at_least,
    scale_findings,
    table_sizes,
)
from pipelines.modalities.pairs import PairsTask as Task
from pipelines.samples.formats import KEYS, asked_of_response, read_sound_tables
from pipelines.samples.molecules import parse
from pipelines.samples.raw_files import CELL_LINES_FILE, DRUGS_FILE, RESPONSE_FILE
from pipelines.text_values import quoted
from pipelines.units import DOUBTS, HIGHEST_COPIES, HIGHEST_LOG_TPM, Doubt, area_doubt, response_doubt

Tables = dict[str, pd.DataFrame]

CELL, DRUG, LN_IC50 = "cell_line_id", "drug_id", "ln_ic50"
LIMITS = {  # lowest, highest, of what
    "expression": (0.0, HIGHEST_LOG_TPM, "log2(TPM + 1)"),
    "copy_number": (0.0, HIGHEST_COPIES, "relative copies"),
    "methylation": (0.0, 1.0, "shares (beta values)"),
}
_SCALE_OFF = 0.05  # share of the values beyond the limits, above which it is not they but the scale of the table
_USUAL_COPIES, _MANY_GENES = (0.6, 1.5), 50  # of lines, 0.88 to 1.13 in 446 of DepMap
_ADVICE = {
    "expression": "write log2(TPM + 1), or set validate.expression_scale: any in params.yaml",
    "copy_number": "write copies relative to the genome's mean, where 1 is the usual",
    "methylation": "write shares from 0 to 1",
}
_UNIT = {LN_IC50: "the natural logarithm of the IC50 in micromolar", "auc": "shares of the doses' range"}


def read(folder: Path, task: Task) -> tuple[Tables, list[Finding]]:
    """Return every sound table of a raw folder by its file name, and findings about all of them."""
    return read_sound_tables(folder, asked_of_response(folder, task))


def suites(tables: Tables, task: Task) -> list[Suite | Finding]:
    """Return the suites of the tables that are there, and findings of what no expectation can state."""
    made: list[Suite | Finding] = []
    if RESPONSE_FILE in tables:
        made += [*_response_suites(tables[RESPONSE_FILE], task), *_known_suites(tables, task)]
    for file, key in ((CELL_LINES_FILE, CELL), (DRUGS_FILE, DRUG)):
        if file in tables:
            table = tables[file]
            made.append(Suite(Path(file).stem, table[[key]], keyed_checks(file, table, key)))
    if DRUGS_FILE in tables:
        smiles = tables[DRUGS_FILE]["smiles"]
        if faulty := [at for at, text in enumerate(smiles) if isinstance(text, str) and parse(text) is None]:
            message = "RDKit cannot parse the SMILES{found}; correct it, or leave the cell empty if it is not known"
            made += report_rows("smiles_parses", DRUGS_FILE, "smiles", message, smiles)(faulty, "error")
    for omics in task.data.omics:
        if f"{omics}.parquet" in tables:
            made += _omics_suites(omics, tables, task)
    return made + _genes_suites(tables)


def counts(tables: Tables, task: Task) -> dict[str, Any]:
    """Count rows and columns, and the cell lines and drugs of the response table that other tables lack."""
    counted = table_sizes(tables)
    if (response := tables.get(RESPONSE_FILE)) is None:
        return counted
    counted["missing_targets"] = int(response[task.data.target].isna().sum())
    omics = {f"without_{name}": f"{name}.parquet" for name in task.data.omics}
    for name, key, files in (
        ("cell_lines", CELL, {"unknown": CELL_LINES_FILE, **omics}),
        ("drugs", DRUG, {"unknown": DRUGS_FILE}),
    ):
        ids = set(response[key].dropna())
        lacking = {what: len(ids - set(tables[file][key])) for what, file in files.items() if file in tables}
        counted[name] = {"in_response": len(ids), **lacking}
    if DRUGS_FILE in tables:
        with_smiles = set(tables[DRUGS_FILE].dropna(subset="smiles")[DRUG])
        counted["drugs"]["without_smiles"] = len(set(response[DRUG].dropna()) - with_smiles)
    return counted


def _response_suites(table: pd.DataFrame, task: Task) -> list[Suite | Finding]:
    file, target = RESPONSE_FILE, task.data.target
    frame = table[list(KEYS)].assign(**{target: _numbers(table[[target]])[:, 0]})
    twice = "study, cell line and drug occur together more than once; average replicates, or name the studies apart"
    checks = [
        *(filled_key(file, key) for key in KEYS),
        Check(
            gxe.ExpectCompoundColumnsToBeUnique(column_list=list(KEYS), ignore_row_if="any_value_is_missing"),
            report_rows("measurement_unique", file, ", ".join(KEYS), twice),
        ),
        Check(
            gxe.ExpectColumnValuesToNotBeInSet(column=target, value_set=[np.inf, -np.inf]),
            report_rows("target_finite", file, target, "must be finite; leave unknown values empty"),
        ),
    ]
    measured = frame[np.isfinite(frame[target])]
    if len(measured):
        absent = report_rows("target_present", file, target, "has no value; the rows are not used")
        checks.append(filled(target, absent, warn=True))
    doubts = _response_doubts(measured, task)
    # If the unit is another, each value out of range would only repeat it.
    known_unit = not any(doubt.certain for doubt in doubts.values())
    made: list[Suite | Finding] = [
        Suite("response", frame, checks),
        Suite("response.measured", measured, _measured_checks(table, measured, task, with_range=known_unit)),
    ]
    for study, doubt in doubts.items():
        advice = f"of {quoted([study])}: bring {target} to one unit in all studies, {_UNIT[target]}"
        made += scale_findings(file, doubt, advice, target)
    return made


def _measured_checks(table: pd.DataFrame, measured: pd.DataFrame, task: Task, *, with_range: bool) -> list[Check]:
    """Return the checks of the rows that have a finite target."""
    file, target, rules, rows = RESPONSE_FILE, task.data.target, task.validate, len(measured)
    if len(table) and not rows:
        none = f"not one of {len(table)} rows has a finite {target}; fill the column"
        return [rows_at_least(1, report_table("target_measured", file, none, target))]
    few = f"{rows} rows have a {target}, {rules.minimum_rows} are needed; add measurements"
    checks = [rows_at_least(rules.minimum_rows, report_table("minimum_rows", file, few))]
    if with_range:
        low, high = rules.target_range
        outside = f"must lie within {low:g} and {high:g}{{found}}; correct the values, or set validate.target_range"
        checks.append(between(target, report_rows("target_in_range", file, target, outside, table[target]), low, high))
    if rows > 1:
        one = f"is {measured[target].iloc[0]:g} in every row; there is nothing to learn, correct how the table was made"
        several = gxe.ExpectColumnUniqueValueCountToBeBetween(column=target, min_value=2)
        checks.append(Check(several, report_table("target_varies", file, one, target)))
    return checks


def _response_doubts(measured: pd.DataFrame, task: Task) -> dict[str, Doubt]:
    """Return by study what speaks against the unit of the target; one study may have another than the others."""
    target, doubts = task.data.target, {}
    for study, rows in measured.groupby("study", sort=False):
        values = rows[target].to_numpy()
        doubt = response_doubt(values, rows[DRUG].nunique()) if target == LN_IC50 else area_doubt(values)
        if doubt is not None:
            doubts[str(study)] = doubt
    return doubts


def _known_suites(tables: Tables, task: Task) -> list[Suite]:
    """Compare the cell lines and drugs of the response table with those that their own tables describe."""
    return [
        known_ids(
            f"response.{key}s",
            tables[RESPONSE_FILE][key],
            tables[file][key],
            files=(RESPONSE_FILE, file),
            noun=noun,
            advice=f"add them to {file} or correct the ids; rows of up to {share:.2%} of the {noun} may be dropped",
            tolerated=share,
        )
        for key, file, share, noun in (
            (CELL, CELL_LINES_FILE, task.validate.unknown_cell_line_share, "cell lines"),
            (DRUG, DRUGS_FILE, task.validate.unknown_drug_share, "drugs"),
        )
        if file in tables
    ]


def _omics_suites(omics: str, tables: Tables, task: Task) -> list[Suite | Finding]:
    file = f"{omics}.parquet"
    table = tables[file]
    values = _numbers(table.drop(columns=CELL))
    columns = Columns(file, table, CELL, values)
    limits, doubt = _scale(omics, values, task)
    rows = pd.DataFrame({CELL: table[CELL], "values": (~np.isnan(values)).sum(axis=1)})
    checks = keyed_checks(file, table, CELL)
    if values.shape[1]:
        message = "no value in the whole row; it counts as not measured"
        checks.append(between("values", report_rows("row_measured", file, None, message), low=1, tolerated=1.0))
    if omics == "copy_number" and doubt is None and values.shape[1] >= _MANY_GENES:
        rows["median"] = median = pd.DataFrame(values).median(axis=1)
        message = "the median of the line is{found}, and near 1 of relative copies; bring it to the scale of the others"
        report = report_rows("line_scale", file, None, message, median)
        checks.append(between("median", report, *_USUAL_COPIES, tolerated=1.0))
    made: list[Suite | Finding] = [
        Suite(omics, rows, checks),
        _columns_suite(omics, columns, task, limits),
        *scale_findings(file, doubt, _ADVICE.get(omics, "")),
        *gene_name_findings(file, columns.labels),
    ]
    if CELL_LINES_FILE in tables:
        known, files = tables[CELL_LINES_FILE][CELL], (file, CELL_LINES_FILE)
        advice = f"add them to {CELL_LINES_FILE} or correct the ids"
        made.append(known_ids(f"{omics}.ids", table[CELL], known, files=files, noun="cell lines", advice=advice))
    return made


def _scale(omics: str, values: np.ndarray, task: Task) -> tuple[tuple[float, float, str] | None, Doubt | None]:
    """Return the limits of single values, and what speaks against the scale of the table: never both for certain."""
    if omics not in LIMITS or (omics == "expression" and task.validate.expression_scale == "any"):
        return None, None
    low, high, _ = LIMITS[omics]
    finite = np.isfinite(values)
    beyond = finite & ((values < low) | (values > high))
    doubt = None
    if not beyond.any() or beyond.sum() / max(finite.sum(), 1) > _SCALE_OFF:
        doubt = DOUBTS[omics](values)
    return None if doubt is not None and doubt.certain else LIMITS[omics], doubt


def _columns_suite(omics: str, columns: Columns, task: Task, limits: tuple[float, float, str] | None) -> Suite:
    none = report_table("has_features", columns.file, f"no column but {CELL}; add a number column for each feature")
    checks, frame = [rows_at_least(1, none), *columns.sound("feature")], columns.frame
    if omics == "mutation":
        frame = frame.assign(not_binary=_not_binary(columns.values).sum(axis=0))
        message = "must be 0 or 1{found}; write 1 for a mutated gene and 0 for any other"
        checks.append(between("not_binary", columns.report("values_binary", message, _not_binary), high=0))
    else:
        if limits is not None:
            low, high, unit = limits
            why = f"which {unit} never are; correct the cells, or leave them empty"
            checks += [columns.at_least(low, why), columns.at_most(high, why)]
        advice = "correct how it was made, leave the column out, or raise validate.constant_column_share"
        checks += columns.varied(advice, task.validate.constant_column_share)
    return Suite(f"{omics}.columns", frame, checks)


def _genes_suites(tables: Tables) -> list[Suite | Finding]:
    """Compare the genes of expression and copy number; the other omics have gene spaces of their own."""
    first, second = "expression.parquet", "copy_number.parquet"
    if first not in tables or second not in tables:
        return []
    genes = {file: set(tables[file].columns.astype(str)) - {CELL} for file in (first, second)}
    if 2 * len(genes[first] & genes[second]) <= min(map(len, genes.values())):
        return []
    every = sorted(genes[first] | genes[second])
    frame = pd.DataFrame({file: pd.Index(every).isin(list(genes[file])).astype(int) for file in genes})
    message = "of the genes in expression and copy number are missing here; give both files the same genes"
    checks = [
        between(file, report_names("genes_agree", file, every, lambda lacking: f"{len(lacking)} {message}"), low=1)
        for file in genes
    ]
    return [Suite("genes", frame, checks)]


def _numbers(frame: pd.DataFrame) -> np.ndarray:
    return frame.to_numpy(dtype=np.float64, na_value=np.nan)


def _not_binary(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) & (values != 0) & (values != 1)
