"""Tables of GDSC, Genomics of Drug Sensitivity in Cancer (https://www.cancerrxgene.org/downloads/bulk_download).

``GDSC1_fitted_dose_response_27Oct23.xlsx`` and the like hold a fitted curve a row (Iorio et al., Cell 2016,
doi 10.1016/j.cell.2016.06.017).
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.sources.cell_line_names import NAME, CellLine, identifier, ids_of, stripped
from pipelines.sources.tables import Layout, Table, read_official, read_sheets, whole
from pipelines.text_values import folded, is_unknown, look_alikes, quoted
from pipelines.units import HIGHEST_LN_IC50, response_doubt

GIVEN = {"sanger_model_id": "sanger_model_id", "cosmic_id": "cosmic_id", NAME: "cell_line_name"}
"""Identifiers of a cell line to the columns of the response table that hold them."""
FILE, ROW = "_file", "_row"  # no column of a file has such a name, since `plain` strips underscores

_NAMES = (*GIVEN.values(), "tcga_desc", "drug_name", "putative_target", "pathway_name")
_NUMBERS = ("ln_ic50", "auc", "rmse", "z_score", "min_conc", "max_conc")
_RESPONSE = Layout(
    "GDSC fitted dose response, with the natural logarithm of the IC50 in micromolar in LN_IC50",
    {"study": ("dataset",), "gdsc_drug_id": ("drug_id",)} | {name: (name,) for name in (*_NAMES, *_NUMBERS)},
    needed=("study", "cell_line_name", "gdsc_drug_id", "drug_name", "ln_ic50"),
    literal=("cell_line_name",),
)
_COMPOUNDS = Layout(
    "GDSC screened compounds",
    {
        "gdsc_drug_id": ("drug_id",),
        "name": ("drug_name", "name"),
        "synonyms": ("synonyms",),
        "target": ("target", "targets", "putative_target"),
        "pathway": ("target_pathway", "pathway_name", "pathway"),
        "pubchem_id": ("pubchem_id", "pubchem", "pubchem_cid"),
    },
    needed=("gdsc_drug_id", "name"),
    only=True,
)
_DETAILS = Layout(
    "GDSC cell line details",
    {
        "name": ("sample_name",),
        "cosmic_id": ("cosmic_identifier", "cosmic_id"),
        "tissue": ("gdsc_tissue_descriptor_1",),
        "histology": ("gdsc_tissue_descriptor_2",),
    },
    needed=("name", "cosmic_id"),
    only=True,
    literal=("name",),
)
_FEW = 30  # responses
_HIGHEST_AUC = 1.2  # fits overshoot 1 a little
_UNCLASSIFIED = "UNCLASSIFIED"  # TCGA_DESC of a line that is of no TCGA type


def read_response(paths: Iterable[Path], notes: list[str] | None = None) -> pd.DataFrame:
    """Read the curves of one or several studies; of a workbook all sheets that hold curves.

    ``drug_id`` (``GDSC1:1003``) is DATASET and DRUG_ID; text is ``""`` where not known. `FILE` and `ROW`, counted from
    1, are the origin of a row.
    """
    frames: list[pd.DataFrame] = []
    held: dict[str, tuple[str, str]] = {}
    notes = [] if notes is None else notes
    for table in (table for path in paths for table in read_sheets(path, _RESPONSE, notes)):
        table.require("study", "gdsc_drug_id", "drug_name")
        given = table.numbers(name for name in _NUMBERS if name in table.written)
        frame = table.frame[["study", "gdsc_drug_id", *_NAMES]].assign(**given)
        for column in ("cosmic_id", "sanger_model_id"):
            frame[column] = _identifiers(table, column)
        for study in frame["study"].value_counts().index:  # the usual spelling first
            known, file = held.setdefault(folded(study), (study, table.file))
            if file != table.file:
                raise UserError(f"{known} is in {file} and in {table.file}; give each study once")
            frame["study"] = frame["study"].replace(study, known)
        frame["gdsc_drug_id"] = frame["gdsc_drug_id"].map(whole)
        frame["drug_name"] = _one_name_a_drug(table, frame)
        for study, rows in frame.groupby("study", sort=False):
            _check_unit(rows, str(study), table)
        frame[FILE], frame[ROW] = table.file, np.arange(1, len(frame) + 1)
        frames.append(frame)
    response = pd.concat(frames, ignore_index=True)
    for column in ("study", *_NAMES):
        response[column] = response[column].map(whole)
    response.insert(0, "drug_id", response["study"] + ":" + response["gdsc_drug_id"])
    return response


def lines_of(response: pd.DataFrame) -> list[CellLine]:
    """Return the cell lines of a response table, for where no table describes them; their tissue is TCGA_DESC.

    Rows are of one line if they share a Sanger id; a COSMIC id, where it has not several Sanger ids; or the name but
    for case and blanks, where no identifier contradicts.
    """
    keys = response[[*GIVEN.values(), "tcga_desc"]].drop_duplicates()
    keys.columns = pd.Index(["sanger", "cosmic", "name", "code"])
    keys["plain"] = keys["name"].map(folded)
    sanger, cosmic = (keys[kind].where(keys[kind] != "") for kind in ("sanger", "cosmic"))
    group = sanger.fillna(cosmic.map(_only(cosmic, sanger))).fillna("COSMIC-" + cosmic)
    named = keys["plain"].where(~keys["name"].map(is_unknown))
    group = group.fillna(named.map(_only(named, group.where(group != "")))).fillna("name:" + named).fillna("")
    keys["line"] = group
    keys = keys[group != ""].sort_values("line", key=lambda of: of.str.startswith("name:"), kind="stable")
    bare = Counter(map(stripped, keys.drop_duplicates(["line", "plain"])["plain"]))
    lines = []
    for line_id, of in keys.groupby("line", sort=False):
        names = [name for name in of["name"].unique() if not is_unknown(name)]
        if str(line_id).startswith("name:"):
            line_id = stripped(names[0]) if bare[stripped(names[0])] == 1 else names[0]
        ids = ids_of({"sanger_model_id": of["sanger"].tolist(), "cosmic_id": of["cosmic"].tolist()})
        codes = [code for code in of["code"] if code not in ("", _UNCLASSIFIED)]
        lines.append(CellLine(str(line_id), tuple(names), ids, tissue=next(iter(codes), "")))
    return lines


def _only(keys: pd.Series, values: pd.Series) -> pd.Series:
    """Return for each key its one value, ``""`` where it has several."""
    pairs = pd.DataFrame({"key": keys, "value": values}).dropna().drop_duplicates()
    return pairs.groupby("key")["value"].agg(lambda of: of.iloc[0] if len(of) == 1 else "")


def doubtful_lines(response: pd.DataFrame, lines: Iterable[CellLine]) -> list[str]:
    """Return notes on names and identifiers of cell lines that may be of other lines; ``lines`` are of `lines_of`."""
    keys = response[[*GIVEN.values()]].drop_duplicates()
    notes = []
    kinds: dict[str, set[str]] = {}
    for line in lines:
        for name in line.names if len(line.ids) == 1 else ():
            kinds.setdefault(folded(name), set()).update(line.ids)
    if parted := [name for name, of in kinds.items() if len(of) > 1]:
        what = "have rows with a Sanger id alone and rows with a COSMIC id alone"
        notes.append(f"cell lines: {quoted(parted)} {what}, which are taken for two lines; give --models")
    unidentified = keys[(keys["sanger_model_id"] == "") & (keys["cosmic_id"] == "")]["cell_line_name"]
    alike = [group for group in look_alikes(keys["cell_line_name"], stripped) if set(group) & set(unidentified)]
    apart = [group for group in alike if len(set(map(folded, group))) > 1 and not any(map(is_unknown, group))]
    if apart:
        shown = "; ".join(map(quoted, apart[:5])) + (f"; {len(apart) - 5} more" if len(apart) > 5 else "")
        notes.append(f"cell lines: names that differ in punctuation alone are taken for different lines: {shown}")
    for kind, other in (("sanger_model_id", "cosmic_id"), ("cosmic_id", "sanger_model_id")):
        both = keys[(keys[kind] != "") & (keys[other] != "")]
        counts = both.groupby(kind)[other].nunique()
        if len(several := counts.index[counts > 1]):
            notes.append(f"cell lines: {kind} {quoted(several)} has several {other}; correct the one that is wrong")
    return notes


def read_details(path: Path, notes: list[str]) -> list[CellLine]:
    """Read the cell line details: name, COSMIC id, which must be unique, and tissue descriptors."""
    table = read_official(path, _DETAILS, notes)
    table.frame["cosmic_id"] = _identifiers(table, "cosmic_id")
    rows = table.keyed("cosmic_id")[[*_DETAILS.columns]].itertuples(index=False, name=None)
    return [
        CellLine(f"COSMIC-{cosmic}", (name,), ids_of({"cosmic_id": cosmic}), tissue, histology)
        for name, cosmic, tissue, histology in rows
        if name
    ]


def read_compounds(path: Path, notes: list[str]) -> pd.DataFrame:
    """Return ``name``, ``synonyms``, ``target``, ``pathway`` and ``pubchem_id`` by ``gdsc_drug_id``, all text."""
    table = read_official(path, _COMPOUNDS, notes)
    table.require("gdsc_drug_id", "name")
    for column in _COMPOUNDS.columns:
        table.frame[column] = table.frame[column].map(whole)
    return table.keyed("gdsc_drug_id")


def _identifiers(table: Table, column: str) -> pd.Series:
    """Return a column of identifiers in the style of their place; what is no longer as it was written is noted."""
    text = table.frame[column]
    mended = text.map({value: identifier(column, value) for value in text.unique()})
    changed = mended != text.map(whole)
    where = f"{table.file}: {table.written.get(column, column)}"
    if lost := sorted(set(text[changed & (mended == "")])):
        table.notes.append(f"{where} {quoted(lost)} is no identifier, its digits are lost; it is left out")
    if other := dict.fromkeys(zip(text[changed & (mended != "")], mended[changed & (mended != "")], strict=True)):
        (first, read), *_ = other
        table.notes.append(f"{where}: {len(other)} are written otherwise; {first!r} is read as {read!r}")
    return mended


def _one_name_a_drug(table: Table, frame: pd.DataFrame) -> pd.Series:
    """Return the names of the drugs, the first where they differ in case and blanks alone."""
    drug = ["study", "gdsc_drug_id"]
    names = frame[[*drug, "drug_name"]].drop_duplicates()
    folded_names = names.assign(drug_name=names["drug_name"].map(folded)).drop_duplicates()
    if len(rows := folded_names.index[folded_names.duplicated(drug, keep=False)]):
        several = quoted(names.loc[rows, "drug_name"].unique())
        what = f"has several names ({several}); write one if they are one drug, else give each drug an id of its own"
        raise table.fault("key_unique", "gdsc_drug_id", rows, what)
    if len(several := names.loc[names.duplicated(drug, keep=False), "drug_name"].unique()):
        note = f"names of one drug differ in case or blanks, the first is taken: {quoted(several)}"
        table.notes.append(f"{table.file}: {note}")
    return frame.groupby(drug)["drug_name"].transform("first")


def _check_unit(rows: pd.DataFrame, study: str, table: Table) -> None:
    """Refuse responses that cannot be ln IC50 in micromolar; note those that are unlikely to be."""
    auc = rows["auc"].dropna() if "auc" in rows else pd.Series(dtype=np.float64)
    if len(auc) and (auc.median() > _HIGHEST_AUC or auc.min() < 0):
        table.notes.append(
            f"{table.file}, column AUC, {study}: the values lie within {auc.min():g} and {auc.max():g}, shares of the "
            "area within 0 and about 1: divide percent by 100, or do not take auc as the target"
        )
    values = rows["ln_ic50"].dropna()
    if values.empty:
        return
    doubt = response_doubt(values, rows["gdsc_drug_id"].nunique())
    lowest, highest = values.min(), values.max()
    what = f"the values of {study} lie within {lowest:g} and {highest:g}"
    todo = "give the natural logarithm of the IC50 in micromolar"
    if (doubt and doubt.certain) or (lowest > 0 and highest > HIGHEST_LN_IC50):
        message = doubt.message if doubt else f"{what}: they look like IC50 in micromolar or nanomolar"
        raise table.fault("values", "ln_ic50", [], f"{message}; {todo}")
    if len(outside := values.index[values.abs() > HIGHEST_LN_IC50]):
        what = f"is no logarithm of an IC50, which lies within {-HIGHEST_LN_IC50:g} and {HIGHEST_LN_IC50:g}; {todo}"
        raise table.fault("values", "ln_ic50", outside, f"{what}, and leave the cell empty where it is not known")
    if doubt:
        table.notes.append(f"{table.file}, column LN_IC50, {study}: {doubt.message}; if so, {todo}")
    elif lowest > 0 and len(values) >= _FEW and "min_conc" in rows and rows["min_conc"].median() < 1:
        table.notes.append(
            f"{table.file}, column LN_IC50: {what}; none is below 0, as of concentrations below 1 micromolar many are; "
            f"if they are no logarithms, {todo}"
        )
