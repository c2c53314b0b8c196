"""The raw folder ``response``: responses, cell lines, drugs and omics, joined by cell line.

What has no certain cell line is left out, and listed in ``unmatched.csv`` with the reason and the rows that it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.samples.formats import CELL_LINES_FILE, DRUGS_FILE, KEYS, RESPONSE_FILE
from pipelines.sources import gdsc
from pipelines.sources.cell_line_names import IDS, CellLineNames
from pipelines.sources.choices import Replicates
from pipelines.sources.omics_table import Omics
from pipelines.sources.raw_folder import write_features, written_folder
from pipelines.sources.screened_lines import CELL, Unmatched
from pipelines.text_values import look_alikes, quoted

UNMATCHED_FILE = "unmatched.csv"
SHARING = ("expression", "copy_number")
"""Omics that must hold the same genes where they hold mostly the same."""


@dataclass(frozen=True)
class ResponseFolder:
    """The tables of a raw folder; the lines of its omics are cell line ids."""

    response: pd.DataFrame
    cell_lines: pd.DataFrame
    drugs: pd.DataFrame
    omics: dict[str, Omics]
    unmatched: Unmatched
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return what is in the folder, in a line."""
        counts = self.response["study"].value_counts(sort=False)
        studies = ", ".join(f"{count} of {study}" for study, count in counts.items())
        shapes = {name: table.values.shape for name, table in self.omics.items()}
        omics = ", ".join(f"{name} {lines} x {features}" for name, (lines, features) in shapes.items()) or "no omics"
        lines = self.response[CELL].nunique()
        return f"{len(self.response)} responses ({studies}), {lines} cell lines, {len(self.drugs)} drugs; {omics}"


def place_once(response: pd.DataFrame, replicates: Replicates, unmatched: Unmatched) -> pd.DataFrame:
    """Return a response table with one measurement of each study, cell line and drug; refuse or list the others."""
    several = response[response.duplicated([*KEYS], keep=False)]
    if several.empty:
        return response
    if replicates == "refuse" or "rmse" not in response:
        first = several.groupby([*KEYS]).head(2)
        file = first[gdsc.FILE].iloc[0]
        rows = first.loc[first[gdsc.FILE] == file, gdsc.ROW] - 1
        pairs = several[[*KEYS]].drop_duplicates()
        message = (
            f"{len(pairs)} pairs of a cell line and a drug have several measurements, such as "
            f"{'|'.join(pairs.iloc[0])}; --replicates best takes the curve with the lowest RMSE and lists the others; "
            "if they are copies, or of other lines or drugs, correct the file"
        )
        raise DataError([Finding.at_rows("measurement_unique", str(file), None, rows, message)])
    best = response.sort_values("rmse", kind="stable").drop_duplicates([*KEYS]).index
    for row in response.drop(best)[[*KEYS, gdsc.FILE]].itertuples(index=False):
        unmatched.add("|".join(row[:3]), "measurement", 1, row[3], "another measurement of the pair has a lower RMSE")
    return response.loc[best.sort_values()].reset_index(drop=True)


def agree(omics: Mapping[str, Omics]) -> dict[str, Omics]:
    """Leave out features without a value, and give expression and copy number the same genes if they share most.

    Models take a gene's expression and its copies side by side, and `make validate` refuses all but the same genes.
    """
    made = dict(omics)
    for name, table in omics.items():
        measured = ~(table.values.isna() | (table.values == 0)).all()
        if name != "mutation" and not measured.all():
            made[name] = table.only(measured.index[measured], "0 in all cell lines, or no value")
    if all(name in made for name in SHARING):
        first, second = (set(made[name].values.columns) for name in SHARING)
        if 2 * len(first & second) > min(len(first), len(second)):
            for name, other in zip(SHARING, reversed(SHARING), strict=True):
                made[name] = made[name].only(first & second, f"not in the table of {other.replace('_', ' ')}")
            if alike := look_alikes(first ^ second):
                shown = "; ".join(map(quoted, alike[:5]))
                note = f"genes that are left out as copy number names them otherwise: {shown}"
                made[SHARING[0]] = made[SHARING[0]].noted(note)
    for name, table in made.items():
        if table.values.columns.empty:
            raise UserError(f"{table.file}: no feature of {name} is left; none had a value but 0")
    return made


def describe_lines(response: pd.DataFrame, names: CellLineNames) -> pd.DataFrame:
    """Return the table of the cell lines of a response table; ``tcga_code`` is its TCGA_DESC."""
    codes = response[response["tcga_desc"] != ""].drop_duplicates(CELL).set_index(CELL)["tcga_desc"]
    rows = []
    for line_id in response[CELL].unique():
        line = names.lines[line_id]
        ids = [";".join(sorted(line.ids.get(kind, ()))) for kind in IDS]
        name = line.names[0] if line.names else line_id
        rows.append((line_id, name, line.tissue, line.histology, codes.get(line_id, ""), *ids))
    return pd.DataFrame(rows, columns=[CELL, "name", "tissue", "histology", "tcga_code", *IDS])


def write_response(folder: ResponseFolder, out: Path) -> None:
    """Write a raw folder of kind ``response`` as `written_folder` does.

    ``response.parquet`` holds study, cell line, drug, ``ln_ic50`` and all other columns of the source.
    """
    columns = [*KEYS, "ln_ic50"]
    others = [name for name in folder.response if name not in (*columns, gdsc.FILE, gdsc.ROW)]
    response = folder.response[columns + others]
    text = [name for name in response.columns if pd.api.types.is_string_dtype(response[name])]
    with written_folder(out) as whole:
        response = response.assign(**{name: response[name].where(response[name] != "", None) for name in text})
        response.to_parquet(whole / RESPONSE_FILE, index=False)
        folder.cell_lines.to_csv(whole / CELL_LINES_FILE, index=False)
        folder.drugs.to_csv(whole / DRUGS_FILE, index=False)
        for name, table in folder.omics.items():
            lines, features = (axis.tolist() for axis in table.values.axes)
            write_features(whole / f"{name}.parquet", CELL, lines, features, table.values.to_numpy().T)
        if folder.unmatched.rows:
            folder.unmatched.table().to_csv(whole / UNMATCHED_FILE, index=False)
