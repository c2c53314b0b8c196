"""What raw ``pairs`` must satisfy: ids that other tables know, values in range, molecules that parse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding
from pipelines.expectations import (
    Check,
    Report,
    Suite,
    report_columns,
    report_names,
    report_rows,
    report_table,
)
from pipelines.expectations.checks import (
    between,
    column_labels,
    column_statistics,
    filled,
    filled_key,
    gene_name_findings,
    keyed_checks,
    known_ids,
    rows_at_least,
    scale_findings,
)
from pipelines.modalities.pairs import PairsTask as Task
from pipelines.samples.formats import (
    CELL_LINES_FILE,
    DRUGS_FILE,
    KEYS,
    RESPONSE_FILE,
    read_response_tables,
    read_table,
)
from pipelines.samples.molecules import parse
from pipelines.text_values import quoted
from pipelines.units import DOUBTS, HIGHEST_COPIES, HIGHEST_LOG_TPM, Doubt, response_doubt

Tables = dict[str, pd.DataFrame]

CELL, DRUG, LN_IC50 = "cell_line_id", "drug_id", "ln_ic50"
LIMITS = {  # lowest, highest, of what
    "expression": (0.0, HIGHEST_LOG_TPM, "log2(TPM + 1)"),
    "copy_number": (0.0, HIGHEST_COPIES, "relative copies"),
    "methylation": (0.0, 1.0, "shares (beta values)"),
}
_SCALE_OFF = 0.05  # share of the values beyond the limits, above which it is not they but the scale of the table
_HIGHEST_AREA = 1.5  # fits overshoot 1 a little
_USUAL_COPIES, _MANY_GENES = (0.6, 1.5), 50  # of lines, 0.88 to 1.13 in 446 of DepMap
_MANY = 500  # values, of which most drugs do little
_ADVICE = {
    "expression": "write log2(TPM + 1), or set validate.expression_scale: any in params.yaml",
    "copy_number": "write copies relative to the genome's mean, where 1 is the usual",
    "methylation": "write shares from 0 to 1",
}
_UNIT = {LN_IC50: "the natural logarithm of the IC50 in micromolar", "auc": "shares of the doses' range"}


def read(folder: Path, task: Task) -> tuple[Tables, list[Finding]]:
    """Return every sound table of a raw folder by its file name, and why the others are not there."""
    try:
        tables = read_response_tables(folder, task)
    except DataError as error:
        text = {RESPONSE_FILE: KEYS, CELL_LINES_FILE: (CELL, "tissue"), DRUGS_FILE: (DRUG, "smiles")}
        sound = set(_files(task)) - {finding.file for finding in error.findings}
        notes: list[Finding] = []
        read_again = {
            file: read_table(folder / file, text=text.get(file, (CELL,)), notes=notes) for file in sorted(sound)
        }
        return read_again, [*error.findings, *notes]
    frames = (tables.response, tables.cell_lines, tables.drugs, *(tables.omics[name] for name in task.data.omics))
    return dict(zip(_files(task), frames, strict=True)), list(tables.notes)


def suites(tables: Tables, task: Task) -> list[Suite | Finding]:
    """Return the suites of ``tables``, and findings of what no expectation can state.

    What needs a table that is not there is left out.
    """
    made: list[Suite | Finding] = []
    if RESPONSE_FILE in tables:
        made += [*_response_suites(tables[RESPONSE_FILE], task), *_known_suites(tables, task)]
    if CELL_LINES_FILE in tables:
        table = tables[CELL_LINES_FILE]
        made.append(Suite("cell_lines", table[[CELL]], keyed_checks(CELL_LINES_FILE, table, CELL)))
    if DRUGS_FILE in tables:
        table = tables[DRUGS_FILE]
        made.append(Suite("drugs", table[[DRUG]], keyed_checks(DRUGS_FILE, table, DRUG)))
        made += _molecule_findings(table["smiles"])
    for omics in task.data.omics:
        if _omics_file(omics) in tables:
            made += _omics_suites(omics, tables, task)
    return made + _genes_suites(tables)


def counts(tables: Tables, task: Task) -> dict[str, Any]:
    """Count rows and columns, and the cell lines and drugs of the response table that other tables lack.

    Cell lines without omics and drugs without SMILES are the normal case: counts, not findings.
    """
    counted: dict[str, Any] = {
        "rows": {file: len(table) for file, table in tables.items()},
        "columns": {file: table.shape[1] for file, table in tables.items()},
    }
    if (response := tables.get(RESPONSE_FILE)) is None:
        return counted
    counted["missing_targets"] = int(response[task.data.target].isna().sum())
    cell_lines, drugs = (set(response[key].dropna()) for key in (CELL, DRUG))
    for name, named, key, file in (
        ("cell_lines", cell_lines, CELL, CELL_LINES_FILE),
        ("drugs", drugs, DRUG, DRUGS_FILE),
    ):
        counted[name] = {"in_response": len(named)}
        if file in tables:
            counted[name]["unknown"] = len(named - set(tables[file][key]))
    for omics in task.data.omics:
        if (table := tables.get(_omics_file(omics))) is not None:
            counted["cell_lines"][f"without_{omics}"] = len(cell_lines - set(table[CELL]))
    if DRUGS_FILE in tables:
        with_smiles = tables[DRUGS_FILE].dropna(subset="smiles")[DRUG]
        counted["drugs"]["without_smiles"] = len(drugs - set(with_smiles))
    return counted


def _files(task: Task) -> list[str]:
    return [RESPONSE_FILE, CELL_LINES_FILE, DRUGS_FILE, *map(_omics_file, task.data.omics)]


def _omics_file(omics: str) -> str:
    return f"{omics}.parquet"


# response.parquet.


def _response_suites(table: pd.DataFrame, task: Task) -> list[Suite | Finding]:
    file, target = RESPONSE_FILE, task.data.target
    frame = table[list(KEYS)].assign(**{target: _numbers(table[[target]])[:, 0]})
    twice = (
        "study, cell line and drug occur together more than once; average replicates, or give different experiments "
        "different studies"
    )
    infinite = "must be finite; leave unknown values empty"
    checks = [
        *(filled_key(file, key) for key in KEYS),
        Check(
            gxe.ExpectCompoundColumnsToBeUnique(column_list=list(KEYS), ignore_row_if="any_value_is_missing"),
            report_rows("measurement_unique", file, ", ".join(KEYS), twice),
        ),
        Check(
            gxe.ExpectColumnValuesToNotBeInSet(column=target, value_set=[np.inf, -np.inf]),
            report_rows("target_finite", file, target, infinite),
        ),
    ]
    measured = frame[np.isfinite(frame[target])]
    if len(measured):
        absent = report_rows("target_present", file, target, "has no value; the rows are not used")
        checks.append(filled(target, absent, warn=True))
    doubts = _response_doubts(table.loc[measured.index], measured[target].to_numpy(), task)
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


def _response_doubts(table: pd.DataFrame, values: np.ndarray, task: Task) -> dict[str, Doubt]:
    """Return by study what speaks against the unit of the target; one study may have another than the others."""
    doubts = {}
    for study, rows in table.assign(_=np.arange(len(table))).groupby("study", sort=False)["_"]:
        if task.data.target == LN_IC50:
            doubt = response_doubt(values[rows], table[DRUG].iloc[rows].nunique())
        else:
            doubt = _area_doubt(values[rows])
        if doubt is not None:
            doubts[str(study)] = doubt
    return doubts


def _area_doubt(values: np.ndarray) -> Doubt | None:
    """Return what speaks against values being areas under the dose-response curve, as shares."""
    median = float(np.median(values)) if len(values) else 1.0
    if median > _HIGHEST_AREA:
        return Doubt(True, f"the median is {median:.3g}; areas end near 1, these look like percent")
    if median < 0.5 and len(values) >= _MANY:
        message = f"the median is {median:.3g}; areas are near 1 where a drug does nothing, these look like 1 - area"
        return Doubt(False, message)
    return None


def _known_suites(tables: Tables, task: Task) -> list[Suite]:
    """Compare the cell lines and drugs of the response table with those that their own tables describe."""
    made = []
    for key, file, share, noun in (
        (CELL, CELL_LINES_FILE, task.validate.unknown_cell_line_share, "cell lines"),
        (DRUG, DRUGS_FILE, task.validate.unknown_drug_share, "drugs"),
    ):
        if file in tables:
            advice = {
                "warning": f"their rows are dropped, as up to {share:.2%} of the {noun} may be",
                "error": f"add them to {file} or correct the ids; at most {share:.2%} of the {noun} may be unknown",
            }
            made.append(
                known_ids(
                    f"response.{key}s",
                    tables[RESPONSE_FILE][key],
                    tables[file][key],
                    files=(RESPONSE_FILE, file),
                    noun=noun,
                    advice=advice.__getitem__,
                    tolerated=share,
                )
            )
    return made


def _molecule_findings(smiles: pd.Series) -> list[Finding]:
    faulty = np.flatnonzero([isinstance(text, str) and parse(text) is None for text in smiles])
    message = "RDKit cannot parse the SMILES{found}; correct it, or leave the cell empty if it is not known"
    report = report_rows("smiles_parses", DRUGS_FILE, "smiles", message, smiles)
    return report(faulty.tolist(), "error") if len(faulty) else []


# Omics.


def _omics_suites(omics: str, tables: Tables, task: Task) -> list[Suite | Finding]:
    file = _omics_file(omics)
    table = tables[file]
    values = _numbers(table.drop(columns=CELL))
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
    labels = column_labels(table.columns, CELL)
    columns = column_statistics([str(column) for column in table.columns if column != CELL], values).assign(
        not_binary=_not_binary(values).sum(axis=0)
    )
    made: list[Suite | Finding] = [
        Suite(omics, rows, checks),
        Suite(f"{omics}.columns", columns, _columns_checks(omics, labels, values, task, limits)),
        *scale_findings(file, doubt, _ADVICE.get(omics, "")),
        *gene_name_findings(file, labels),
    ]
    if CELL_LINES_FILE in tables:
        known = tables[CELL_LINES_FILE][CELL]
        files = (file, CELL_LINES_FILE)
        advice = f"add them to {CELL_LINES_FILE} or correct the ids"
        made.append(
            known_ids(f"{omics}.ids", table[CELL], known, files=files, noun="cell lines", advice=lambda _: advice)
        )
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


def _columns_checks(
    omics: str, labels: Sequence[str], values: np.ndarray, task: Task, limits: tuple[float, float, str] | None
) -> list[Check]:
    file = _omics_file(omics)

    def report(name: str, message: str, fault: Callable[[np.ndarray], np.ndarray] | None = None) -> Report:
        return report_columns(name, file, labels, message, values=values, fault=fault)

    none = f"no column but {CELL}; add a number column for each feature"
    unnamed = "the column has no name, or a word that means unknown; name it after its feature"
    infinite = "must be finite; leave unknown values empty"
    checks = [
        rows_at_least(1, report_table("has_features", file, none)),
        filled("name", report("column_named", unnamed)),
        between("infinite", report("values_finite", infinite, np.isinf), high=0),
    ]
    if omics == "mutation":
        message = "must be 0 or 1{found}; write 1 for a mutated gene and 0 for any other"
        return [*checks, between("not_binary", report("values_binary", message, _not_binary), high=0)]
    if limits is not None:
        low, high, unit = limits
        message = f"{{}} {{:g}}{{{{found}}}}, which {unit} never are; correct the cells, or leave them empty"
        below = report(
            "values_not_below", message.format("below", low), lambda cells: np.isfinite(cells) & (cells < low)
        )
        above = report(
            "values_not_above", message.format("above", high), lambda cells: np.isfinite(cells) & (cells > high)
        )
        checks += [between("lowest", below, low=low), between("highest", above, high=high)]
    if len(values) > 1:
        message = (
            "has one value in all rows, or none; correct how it was made, leave the column out, or raise "
            "validate.constant_column_share"
        )
        constant = report("column_varies", message)
        checks.append(between("range", constant, above=0, tolerated=task.validate.constant_column_share))
    return checks


def _genes_suites(tables: Tables) -> list[Suite | Finding]:
    """Compare the genes of expression and copy number; the other omics have gene spaces of their own."""
    pair = [_omics_file("expression"), _omics_file("copy_number")]
    if not all(file in tables for file in pair):
        return []
    first, second = (set(tables[file].columns.astype(str)) - {CELL} for file in pair)
    if 2 * len(first & second) <= min(len(first), len(second)):
        return []
    genes = sorted(first | second)
    frame, checks = pd.DataFrame({"gene": genes}), []
    for file, other, has in zip(pair, reversed(pair), (first, second), strict=True):
        column = f"columns_in_{Path(file).stem}"
        frame[column] = frame["gene"].isin(has).astype(int)

        def message(lacking: list[str], _: str, other: str = other) -> str:
            return f"{len(lacking)} of the genes in {other} are missing here; give both files the same genes"

        checks.append(between(column, report_names("genes_agree", file, genes, message), low=1))
    return [Suite("genes", frame, checks)]


def _numbers(frame: pd.DataFrame) -> np.ndarray:
    return frame.to_numpy(dtype=np.float64, na_value=np.nan)


def _not_binary(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) & (values != 0) & (values != 1)
