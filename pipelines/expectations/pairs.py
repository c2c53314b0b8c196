"""What raw data of kind ``response`` must satisfy: keys that meet, values in range, molecules that parse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

from pipelines.errors import ROWS_SHOWN, DataError, Finding
from pipelines.expectations import Check, Suite, Tell, some, tell_columns, tell_rows, tell_table
from pipelines.expectations.checks import alike_ids, all_true, doubt_suite, filled, keyed_checks
from pipelines.expectations.genes import gene_checks, gene_names
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
from pipelines.text_values import is_unknown, quoted
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
_TODO = {
    "expression": "write log2(TPM + 1), or set validate.expression_scale: any in params.yaml",
    "copy_number": "write copies relative to the genome's mean, where 1 is the usual",
    "methylation": "write shares from 0 to 1",
}
_UNIT = {LN_IC50: "the natural logarithm of the IC50 in micromolar", "auc": "shares of the doses' range"}


def read(folder: Path, task: Task) -> tuple[Tables, list[Finding]]:
    """Read what can be read of a raw folder.

    Parameters
    ----------
    folder
        The raw folder.
    task
        Says which omics and which target column are read.

    Returns
    -------
    tables
        Every sound table by its file name.
    findings
        Why the others are not there.
    """
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


def suites(tables: Tables, task: Task) -> list[Suite]:
    """Return the suites of ``tables``; what needs a table that is not there is left out."""
    made = []
    if RESPONSE_FILE in tables:
        made += [*_response_suites(tables[RESPONSE_FILE], task), *_names_suites(tables, task)]
    if CELL_LINES_FILE in tables:
        made.append(_cell_lines_suite(tables[CELL_LINES_FILE]))
    if DRUGS_FILE in tables:
        made.append(_drugs_suite(tables[DRUGS_FILE]))
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


def _response_suites(table: pd.DataFrame, task: Task) -> list[Suite]:
    target = task.data.target
    values = _numbers(table[[target]])[:, 0]
    finite, missing = np.isfinite(values), np.isnan(values)
    frame = pd.DataFrame(
        {
            **{key: table[key] for key in KEYS},
            target: np.where(finite, values, np.nan),
            "present": ~missing,
            "finite": finite | missing,
            "measured": finite.astype(int),
        }
    )
    doubts = _response_doubts(table[finite], values[finite], task)
    told = any(doubt.certain for doubt in doubts.values())  # each value that is far off would only tell it again
    made = [Suite("response", frame, tuple(_response_checks(table, values[finite], task, with_range=not told)))]
    for number, (study, doubt) in enumerate(doubts.items()):
        todo = f"of {quoted([study])}: bring {target} to one unit in all studies, {_UNIT[target]}"
        made += doubt_suite(f"response.scale{number}", RESPONSE_FILE, doubt, todo, target)
    return made


def _response_doubts(table: pd.DataFrame, values: np.ndarray, task: Task) -> dict[str, Doubt]:
    """Return by study what speaks against the unit of the target; one study may have another than the others."""
    doubts = {}
    for study, rows in table.assign(_=np.arange(len(table))).groupby("study", sort=False)["_"]:
        part = values[rows]
        if task.data.target == LN_IC50:
            doubt = response_doubt(part, table[DRUG].iloc[rows].nunique())
        else:
            doubt = _area_doubt(part)
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


def _response_checks(table: pd.DataFrame, measured: np.ndarray, task: Task, *, with_range: bool) -> Iterator[Check]:
    file, target, rules = RESPONSE_FILE, task.data.target, task.validate
    for key in KEYS:
        yield filled(file, key)
    message = (
        "study, cell line and drug stand together more than once; average replicates, or give different experiments "
        "different studies"
    )
    yield Check(
        gxe.ExpectCompoundColumnsToBeUnique(column_list=list(KEYS), ignore_row_if="any_value_is_missing"),
        tell_rows("measurement_unique", file, ", ".join(KEYS), message),
    )
    message = "must be finite; leave unknown values empty"
    yield all_true("finite", tell_rows("target_finite", file, target, message))
    low, high = rules.target_range
    if with_range:
        message = f"must lie within {low:g} and {high:g}{{found}}; correct the values, or set validate.target_range"
        yield Check(
            gxe.ExpectColumnValuesToBeBetween(column=target, min_value=low, max_value=high),
            tell_rows("target_in_range", file, target, message, table[target]),
        )
    if len(table) and not len(measured):
        message = f"not one of {len(table)} rows has a finite {target}; fill the column"
        yield Check(
            gxe.ExpectColumnSumToBeBetween(column="measured", min_value=1),
            tell_table("target_measured", file, message, target),
        )
        return
    message = f"{len(measured)} rows have a {target}, {rules.minimum_rows} are needed; add measurements"
    yield Check(
        gxe.ExpectColumnSumToBeBetween(column="measured", min_value=rules.minimum_rows),
        tell_table("minimum_rows", file, message),
    )
    message = "has no value; the rows are not used"
    yield all_true("present", tell_rows("target_present", file, target, message), tolerated=1.0)
    if len(measured) > 1:
        message = f"is {measured[0]:g} in every row; there is nothing to learn, mend how the table was made"
        yield Check(
            gxe.ExpectColumnUniqueValueCountToBeBetween(column=target, min_value=2),
            tell_table("target_varies", file, message, target),
        )


def _names_suites(tables: Tables, task: Task) -> list[Suite]:
    """Compare the cell lines and drugs of the response table with those that their own tables describe."""
    made = []
    for key, file, share, noun in (
        (CELL, CELL_LINES_FILE, task.validate.unknown_cell_line_share, "cell lines"),
        (DRUG, DRUGS_FILE, task.validate.unknown_drug_share, "drugs"),
    ):
        if file in tables:
            named = tables[RESPONSE_FILE][key]
            frame = pd.DataFrame({key: named.dropna().unique()})
            frame["known"] = frame[key].isin(tables[file][key].dropna())
            tell = _tell_unknown(named, frame[key], tables[file][key], file, noun, share)
            check = all_true("known", tell, tolerated=share)
            made.append(Suite(f"response.{key}s", frame, (check,)))
    return made


def _tell_unknown(named: pd.Series, names: pd.Series, others: pd.Series, file: str, noun: str, share: float) -> Tell:
    def tell(positions: Sequence[int], severity: str) -> list[Finding]:
        unknown = names.iloc[list(positions)]
        rows = np.flatnonzero(named.isin(unknown))
        todo = (
            f"their rows are dropped, as up to {share:.2%} of the {noun} may be"
            if severity == "warning"
            else f"add them to {file} or correct the ids; at most {share:.2%} of the {noun} may be unknown"
        )
        alike = alike_ids(unknown, others)
        message = (
            f"{len(unknown)} of {len(names)} {noun} are not in {file} ({quoted(unknown, ROWS_SHOWN)}){alike}; {todo}"
        )
        name = f"{noun.replace(' ', '_')}_known"
        return [Finding.at_rows(name, RESPONSE_FILE, str(named.name), rows, message, unknown, severity)]

    return tell


def _cell_lines_suite(table: pd.DataFrame) -> Suite:
    return Suite("cell_lines", _keyed(table, CELL), tuple(keyed_checks(CELL_LINES_FILE, table, CELL)))


def _drugs_suite(table: pd.DataFrame) -> Suite:
    frame = _keyed(table, DRUG)
    smiles = table["smiles"]
    frame["smiles_parses"] = smiles.map(lambda text: parse(text) is not None, na_action="ignore")
    message = "RDKit cannot parse the SMILES{found}; correct it, or leave the cell empty if it is not known"
    parses = all_true("smiles_parses", tell_rows("smiles_parses", DRUGS_FILE, "smiles", message, smiles))
    return Suite("drugs", frame, (*keyed_checks(DRUGS_FILE, table, DRUG), parses))


def _omics_suites(omics: str, tables: Tables, task: Task) -> list[Suite]:
    file = _omics_file(omics)
    table = tables[file]
    features = table.drop(columns=CELL)
    values = _numbers(features)
    rows = _keyed(table, CELL)
    rows["measured"] = ~np.isnan(values).all(axis=1)
    checks = [*keyed_checks(file, table, CELL)]
    if CELL_LINES_FILE in tables:
        known = rows[CELL].isin(tables[CELL_LINES_FILE][CELL].dropna())
        rows["known"] = known.astype(object).where(rows[CELL].notna(), None)
        message = f"is not in {CELL_LINES_FILE}{{found}}; add the cell line there"
        checks.append(all_true("known", tell_rows("cell_lines_known", file, CELL, message, table[CELL])))
    if features.shape[1]:
        message = "no value in the whole row; it counts as not measured"
        checks.append(all_true("measured", tell_rows("row_measured", file, None, message), tolerated=1.0))
    columns = _columns_frame(features, values)
    limits = LIMITS.get(omics)
    if omics == "expression" and task.validate.expression_scale == "any":
        limits = None
    doubt = None
    if limits is not None:
        beyond = np.isfinite(values) & ((values < limits[0]) | (values > limits[1]))
        share = beyond.sum() / max(np.isfinite(values).sum(), 1)
        if not beyond.any() or share > _SCALE_OFF:
            doubt = DOUBTS[omics](values)
        limits = None if doubt is not None and doubt.certain else limits  # what is told of the table is not told again
    if omics == "copy_number" and doubt is None and values.shape[1] >= _MANY_GENES:
        median = pd.DataFrame(values).median(axis=1)
        rows["usual"] = median.between(*_USUAL_COPIES).astype(object).where(median.notna(), None)
        message = "the median of the line is{found}, and near 1 of relative copies; bring it to the scale of the others"
        checks.append(all_true("usual", tell_rows("line_scale", file, None, message, median), tolerated=1.0))
    return [
        Suite(omics, rows, tuple(checks)),
        Suite(f"{omics}.columns", columns, tuple(_columns_checks(omics, table, values, task, limits))),
        *doubt_suite(f"{omics}.scale", file, doubt, _TODO.get(omics, "")),
    ]


def _columns_frame(features: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    """Return one row for each column of ``features``: its name, range and faults."""
    finite = np.isfinite(values)
    lowest = np.where(finite, values, np.inf).min(axis=0, initial=np.inf)
    highest = np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf)
    names = features.columns.astype(str)
    return pd.DataFrame(
        {
            "column": names,
            "named": [not is_unknown(name) and not name.startswith("Unnamed: ") for name in names],
            "infinite": np.isinf(values).sum(axis=0),
            "not_binary": _not_binary(values).sum(axis=0),
            "lowest": np.where(np.isfinite(lowest), lowest, np.nan),
            "highest": np.where(np.isfinite(highest), highest, np.nan),
            "varies": lowest < highest,
            **gene_names(list(names)),
        }
    )


def _columns_checks(
    omics: str, table: pd.DataFrame, values: np.ndarray, task: Task, limits: tuple[float, float, str] | None
) -> Iterator[Check]:
    file, rules = _omics_file(omics), task.validate
    names = [
        str(column) if str(column).strip() else f"number {number}"
        for number, column in enumerate(table.columns, start=1)
        if column != CELL
    ]

    def tell(name: str, message: str, fault: Callable[[np.ndarray], np.ndarray] | None = None) -> Tell:
        return tell_columns(name, file, names, message, values, fault)

    def within(column: str, tell: Tell, low: float | None = None, high: float | None = None) -> Check:
        return Check(gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high), tell)

    yield Check(
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        tell_table("has_features", file, f"no column but {CELL}; add a number column for each feature"),
    )
    message = "the column has no name, or a word that means unknown; name it after its feature"
    yield all_true("named", tell("column_named", message))
    message = "must be finite; leave unknown values empty"
    yield within("infinite", tell("values_finite", message, np.isinf), high=0)
    yield from gene_checks(file, names)
    if omics == "mutation":
        message = "must be 0 or 1{found}; write 1 for a mutated gene and 0 for any other"
        yield within("not_binary", tell("values_binary", message, _not_binary), high=0)
        return
    if limits is not None:
        low, high, unit = limits
        message = f"below {low:g}{{found}}, which {unit} never are; correct the cells, or leave them empty"
        below = tell("values_not_below", message, lambda cells: np.isfinite(cells) & (cells < low))
        yield within("lowest", below, low=low)
        message = f"above {high:g}{{found}}, which {unit} never are; correct the cells, or leave them empty"
        above = tell("values_not_above", message, lambda cells: np.isfinite(cells) & (cells > high))
        yield within("highest", above, high=high)
    if len(table) > 1:
        message = (
            "has one value in all rows, or none; mend how it was made, leave the column out, or raise "
            "validate.constant_column_share"
        )
        yield all_true("varies", tell("column_varies", message), tolerated=rules.constant_column_share)


def _genes_suites(tables: Tables) -> list[Suite]:
    """Compare the genes of expression and copy number; the other omics have gene spaces of their own."""
    pair = [_omics_file("expression"), _omics_file("copy_number")]
    if not all(file in tables for file in pair):
        return []
    first, second = (set(tables[file].columns.astype(str)) - {CELL} for file in pair)
    if 2 * len(first & second) <= min(len(first), len(second)):
        return []
    genes = pd.DataFrame({"gene": sorted(first | second)})
    checks = []
    for file, other, has in zip(pair, reversed(pair), (first, second), strict=True):
        column = f"in_{Path(file).stem}"
        genes[column] = genes["gene"].isin(has)
        checks.append(all_true(column, _tell_genes(genes["gene"], file, other)))
    return [Suite("genes", genes, tuple(checks))]


def _tell_genes(genes: pd.Series, file: str, other: str) -> Tell:
    def tell(positions: Sequence[int], severity: str) -> list[Finding]:
        lacking = genes.iloc[list(positions)]
        message = f"{len(lacking)} of the genes in {other} are missing here; give both files the same genes"
        values = tuple(lacking.iloc[:ROWS_SHOWN])
        return [Finding("genes_agree", file, message, some(lacking), severity=severity, values=values)]

    return tell


def _keyed(table: pd.DataFrame, key: str) -> pd.DataFrame:
    return pd.DataFrame({key: table[key]})


def _numbers(frame: pd.DataFrame) -> np.ndarray:
    return frame.to_numpy(dtype=np.float64, na_value=np.nan)


def _not_binary(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) & (values != 0) & (values != 1)
