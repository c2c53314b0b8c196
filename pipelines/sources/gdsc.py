"""Tables of GDSC, Genomics of Drug Sensitivity in Cancer (https://www.cancerrxgene.org/downloads/bulk_download).

``GDSC1_fitted_dose_response_27Oct23.xlsx`` and the like hold a fitted curve a row (Iorio et al., Cell 2016,
doi 10.1016/j.cell.2016.06.017); ``screened_compounds_rel_8.5.csv`` the compounds; ``Cell_Lines_Details.xlsx`` the cell
lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.faults import UserError
from pipelines.sources.cell_line_names import NAME, CellLine, ids_of, stripped
from pipelines.sources.official_table import Alternatives, OfficialTable, read_official, whole
from pipelines.sources.raw_folder import listed

RESPONSE = "GDSC fitted dose response"
COMPOUNDS = "GDSC screened compounds"
DETAILS = "GDSC cell line details"
GIVEN = {"sanger_model_id": "sanger_model_id", "cosmic_id": "cosmic_id", NAME: "cell_line_name"}
"""Identifiers of a cell line to the columns of the response table that hold them."""
FILE, ROW = "_file", "_row"  # no column of a file has such a name, `plain` as it is made

_RESPONSE: Alternatives = {
    "study": ("dataset",),
    "cosmic_id": ("cosmic_id",),
    "cell_line_name": ("cell_line_name",),
    "sanger_model_id": ("sanger_model_id",),
    "tcga_desc": ("tcga_desc",),
    "gdsc_drug_id": ("drug_id",),
    "drug_name": ("drug_name",),
    "putative_target": ("putative_target",),
    "pathway_name": ("pathway_name",),
    "ln_ic50": ("ln_ic50",),
}
_FILLED = ("study", "cell_line_name", "gdsc_drug_id", "drug_name")
_NUMBERS = ("ln_ic50", "auc", "rmse", "z_score", "min_conc", "max_conc")
_COMPOUNDS: Alternatives = {
    "gdsc_drug_id": ("drug_id",),
    "name": ("drug_name", "name"),
    "synonyms": ("synonyms",),
    "target": ("target", "targets", "putative_target"),
    "pathway": ("target_pathway", "pathway_name", "pathway"),
    "pubchem_id": ("pubchem_id", "pubchem", "pubchem_cid"),
}
_DETAILS: Alternatives = {
    "name": ("sample_name",),
    "cosmic_id": ("cosmic_identifier", "cosmic_id"),
    "tissue": ("gdsc_tissue_descriptor_1",),
    "histology": ("gdsc_tissue_descriptor_2",),
}
_UNCLASSIFIED = "UNCLASSIFIED"  # what TCGA_DESC says of a line that is of no TCGA type


def read_response(paths: Iterable[Path]) -> pd.DataFrame:
    """Read the curves of one or several studies, with all their columns.

    Returns
    -------
    pandas.DataFrame
        ``study`` (DATASET), ``drug_id`` (``GDSC1:1003``: a number is one compound within its study), ``ln_ic50``
        (natural log of µM) and every other column under its name in small letters; DRUG_ID is ``gdsc_drug_id``.
        Identifiers and names are text, ``""`` where not known; any other column is numbers if all its cells are.
        `FILE` and `ROW`, counted from 1, say where a row stems from.

    Raises
    ------
    UserError
        A file is not of the layout, LN_IC50 or another number is none, or two files hold one study.
    """
    frames: list[pd.DataFrame] = []
    held: dict[str, str] = {}
    for path in paths:
        table = read_official(path, RESPONSE, [*_FILLED, "ln_ic50"], _RESPONSE)
        table.require(*_FILLED)
        _one_name_a_drug(table)
        frame = table.frame.copy()
        for study in frame["study"].unique():
            if study in held:
                raise UserError(f"{study} stands in {held[study]} and in {path.name}; give each study once")
            held[study] = path.name
        for column in _NUMBERS:
            if column in frame:
                frame[column] = table.numbers(column)
        frame[FILE], frame[ROW] = path.name, np.arange(1, len(frame) + 1)
        frames.append(frame)
    response = pd.concat(frames, ignore_index=True)
    for column in {*response.columns, *_RESPONSE} - {*_NUMBERS, FILE, ROW}:
        text = response[column].fillna("") if column in response else pd.Series("", response.index, dtype="str")
        response[column] = text.map(whole) if column in _RESPONSE else _numbers_if_all(text)
    response.insert(0, "drug_id", response["study"] + ":" + response["gdsc_drug_id"])
    return response


def lines_of(response: pd.DataFrame) -> list[CellLine]:
    """Return the cell lines of a response table, for where no table describes them; their tissue is TCGA_DESC.

    A line is called by its Sanger id, ``COSMIC-<id>`` where it has none, or else its name.
    """
    who = response["sanger_model_id"].where(
        response["sanger_model_id"] != "",
        ("COSMIC-" + response["cosmic_id"]).where(
            response["cosmic_id"] != "", response["cell_line_name"].map(stripped)
        ),
    )
    lines = []
    for line_id, rows in response.groupby(who, sort=False):
        tissues = rows["tcga_desc"][~rows["tcga_desc"].isin(["", _UNCLASSIFIED])]
        lines.append(
            CellLine(
                str(line_id),
                tuple(rows["cell_line_name"].unique()),
                ids_of({kind: rows[kind].unique() for kind in ("sanger_model_id", "cosmic_id")}),
                tissue=next(iter(tissues), ""),
            )
        )
    return lines


def read_details(path: Path) -> list[CellLine]:
    """Read the cell line details: name, COSMIC id, and both tissue descriptors as tissue and histology.

    Raises
    ------
    UserError
        The file is not of the layout, or a COSMIC id stands twice.
    """
    table = read_official(path, DETAILS, ["name", "cosmic_id"], _DETAILS, only=True)
    table.frame["cosmic_id"] = table.frame["cosmic_id"].map(whole)
    table.unique("cosmic_id")
    return [
        CellLine(f"COSMIC-{cosmic}", (name,), ids_of({"cosmic_id": cosmic}), tissue, histology)
        for name, cosmic, tissue, histology in zip(
            *(table.column(column) for column in ("name", "cosmic_id", "tissue", "histology")), strict=True
        )
        if name and cosmic  # the last row bears the totals
    ]


def read_compounds(path: Path) -> pd.DataFrame:
    """Read the screened compounds.

    Returns
    -------
    pandas.DataFrame
        Index ``gdsc_drug_id``; ``name``, ``synonyms``, ``target``, ``pathway``, ``pubchem_id``; text.

    Raises
    ------
    UserError
        The file is not of the layout, or says two things of one DRUG_ID.
    """
    table = read_official(path, COMPOUNDS, ["gdsc_drug_id", "name"], _COMPOUNDS, only=True)
    table.require("gdsc_drug_id", "name")
    frame = pd.DataFrame({column: table.column(column).map(whole) for column in _COMPOUNDS})
    frame = frame.drop_duplicates()  # a compound of both studies may have a row for each
    if len(rows := frame.index[frame["gdsc_drug_id"].duplicated(keep=False)]):
        raise table.fault("key_unique", "gdsc_drug_id", rows, "stands twice, and differently; keep one row of each")
    return frame.set_index("gdsc_drug_id")


def _one_name_a_drug(table: OfficialTable) -> None:
    drugs = table.frame[["study", "gdsc_drug_id", "drug_name"]].drop_duplicates()
    if len(rows := drugs.index[drugs.duplicated(["study", "gdsc_drug_id"], keep=False)]):
        names = listed(drugs.loc[rows, "drug_name"].unique().tolist())
        raise table.fault("key_unique", "gdsc_drug_id", rows, f"has several names ({names}); keep one")


def _numbers_if_all(text: pd.Series) -> pd.Series:
    """Return numbers where every filled cell is one, whole ones as integers; else the text."""
    numbers = pd.to_numeric(text.where(text != "", None), errors="coerce")
    if (text == "").all() or (numbers.isna() & (text != "")).any() or np.isinf(numbers).any():
        return text
    return numbers.astype("Int64") if (numbers.dropna() % 1 == 0).all() else numbers.astype(np.float64)
