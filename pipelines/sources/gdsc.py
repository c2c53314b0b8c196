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

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.cell_line_names import NAME, CellLine, identifier, ids_of, stripped
from pipelines.sources.tables import Layout, Table, read_official, read_sheets, whole
from pipelines.text_values import folded, is_unknown, look_alikes, quoted
from pipelines.units import HIGHEST_LN_IC50, response_doubt

GIVEN = {"sanger_model_id": "sanger_model_id", "cosmic_id": "cosmic_id", NAME: "cell_line_name"}
"""Identifiers of a cell line to the columns of the response table that hold them."""
FILE, ROW = "_file", "_row"  # no column of a file has such a name, since `plain` strips underscores

_RESPONSE = Layout(
    "GDSC fitted dose response",
    {
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
    },
    needed=("study", "cell_line_name", "gdsc_drug_id", "drug_name"),
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
_NUMBERS = ("ln_ic50", "auc", "rmse", "z_score", "min_conc", "max_conc")
_UNCLASSIFIED = "UNCLASSIFIED"  # TCGA_DESC of a line that is of no TCGA type


def read_response(paths: Iterable[Path], notes: list[str] | None = None) -> pd.DataFrame:
    """Read the curves of one or several studies, with all their columns; of a workbook all sheets that hold curves.

    Parameters
    ----------
    paths
        The files.
    notes
        Takes what was read otherwise than it is written, and what is doubtful.

    Returns
    -------
    pandas.DataFrame
        ``study`` (DATASET), ``drug_id`` (``GDSC1:1003``: a number is one compound within its study), ``ln_ic50``
        (natural log of µM) and every other column under its name in small letters; DRUG_ID is ``gdsc_drug_id``.
        Identifiers and names are text, ``""`` where not known; any other column is numbers if all its cells are.
        `FILE` and `ROW`, counted from 1, are the origin of a row.

    Raises
    ------
    UserError
        A file is not of the layout, LN_IC50 or another number is none, its values are of another unit, or two files
        hold one study.
    """
    frames: list[pd.DataFrame] = []
    held: dict[str, tuple[str, str]] = {}
    for table in (table for path in paths for table in read_sheets(path, _RESPONSE)):
        _require_ln_ic50(table)
        table.require("study", "gdsc_drug_id", "drug_name")
        frame = table.frame.copy()
        for column, values in table.numbers(_NUMBERS).items():
            frame[column] = values
        for column in ("cosmic_id", "sanger_model_id"):
            if column in frame:
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
        if notes is not None:
            notes += [note for note in table.notes if note not in notes]
    response = pd.concat(frames, ignore_index=True)
    for column in dict.fromkeys([*response.columns, *_RESPONSE.columns]):
        if column in (*_NUMBERS, FILE, ROW):
            continue
        text = response[column].fillna("") if column in response else pd.Series("", response.index, dtype="str")
        response[column] = text.map(whole) if column in _RESPONSE.columns else _numbers_if_all(text)
    response.insert(0, "drug_id", response["study"] + ":" + response["gdsc_drug_id"])
    return response


def lines_of(response: pd.DataFrame) -> list[CellLine]:
    """Return the cell lines of a response table, for where no table describes them; their tissue is TCGA_DESC.

    Rows are of one line if they share a Sanger id; a COSMIC id, where it has not several Sanger ids; or
    the name but for case and blanks, where no identifier contradicts. A line is called by its Sanger id,
    ``COSMIC-<id>`` where it has none, or else its name: what is left of it without punctuation, unless another line has
    the same.
    """
    keys = list(dict.fromkeys(zip(*(response[column] for column in GIVEN.values()), strict=True)))
    sangers: dict[str, set[str]] = {}  # of each COSMIC id
    for sanger, cosmic, _ in keys:
        sangers.setdefault(cosmic, set()).update([sanger] if sanger else [])
    group_of: dict[tuple[str, str, str], str] = {}
    members: dict[str, list[tuple[str, str, str]]] = {}

    def put(key: tuple[str, str, str], group: str) -> None:
        group_of[key] = group
        members.setdefault(group, []).append(key)

    for key in keys:
        sanger, cosmic, _ = key
        if sanger:
            put(key, sanger)
        elif cosmic and len(sangers[cosmic]) < 2:
            put(key, next(iter(sangers[cosmic]), f"COSMIC-{cosmic}"))
    named: dict[str, set[str]] = {}
    for key, group in group_of.items():
        named.setdefault(folded(key[2]), set()).add(group)
    for key in keys:
        name = folded(key[2])
        if key not in group_of and not any(key[:2]) and not is_unknown(key[2]) and len(named.get(name, ())) < 2:
            put(key, next(iter(named.get(name, ())), f"name:{name}"))
    without_sanger = {group for group, of in members.items() if not any(key[0] for key in of)}
    without_cosmic = {group for group, of in members.items() if not any(key[1] for key in of)}
    partners: dict[str, set[str]] = {}
    for groups in named.values():  # one study has the Sanger id alone, and another the COSMIC id
        left, right = groups & without_sanger, groups & without_cosmic
        if len(groups) == 2 and len(left) == len(right) == 1 and left != right:
            (group,), (partner,) = left, right
            if not is_unknown(members[group][0][2]):
                partners.setdefault(group, set()).add(partner)
                partners.setdefault(partner, set()).add(group)
    for group, found in partners.items():
        other = next(iter(found))
        certain = len(found) == len(partners[other]) == 1  # else its names say several things
        if certain and group in without_sanger:
            for key in members.pop(group):
                put(key, other)
    bare = [stripped(name) for of in members.values() for name in {folded(key[2]) for key in of}]
    codes = response.drop_duplicates([*GIVEN.values(), "tcga_desc"])
    tissue_of: dict[str, str] = {}
    for sanger, cosmic, name, code in codes[[*GIVEN.values(), "tcga_desc"]].itertuples(index=False, name=None):
        if code not in ("", _UNCLASSIFIED) and (sanger, cosmic, name) in group_of:
            tissue_of.setdefault(group_of[sanger, cosmic, name], code)
    lines = []
    for group, of in members.items():
        name = of[0][2]
        alone = bare.count(stripped(name)) == 1 and stripped(name)
        line_id = (stripped(name) if alone else name) if group.startswith("name:") else group
        ids = ids_of({"sanger_model_id": [key[0] for key in of], "cosmic_id": [key[1] for key in of]})
        names = tuple(dict.fromkeys(key[2] for key in of if not is_unknown(key[2])))
        lines.append(CellLine(line_id, names, ids, tissue=tissue_of.get(group, "")))
    return lines


def doubtful_lines(response: pd.DataFrame) -> list[str]:
    """Return notes on names and identifiers of cell lines that may be of other lines."""
    keys = response[[*GIVEN.values()]].drop_duplicates()
    notes = []
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
    table = read_official(path, _DETAILS)
    table.frame["cosmic_id"] = _identifiers(table, "cosmic_id")
    table.unique("cosmic_id")
    notes += table.notes
    return [
        CellLine(f"COSMIC-{cosmic}", (name,), ids_of({"cosmic_id": cosmic}), tissue, histology)
        for name, cosmic, tissue, histology in zip(*(table.column(column) for column in _DETAILS.columns), strict=True)
        if name and cosmic  # the last row has the totals
    ]


def read_compounds(path: Path, notes: list[str]) -> pd.DataFrame:
    """Return ``name``, ``synonyms``, ``target``, ``pathway`` and ``pubchem_id`` by ``gdsc_drug_id``, all text.

    Raises
    ------
    UserError
        The file is not of the layout, or two rows of a DRUG_ID differ.
    """
    table = read_official(path, _COMPOUNDS)
    table.require("gdsc_drug_id", "name")
    frame = pd.DataFrame({column: table.column(column).map(whole) for column in _COMPOUNDS.columns})
    notes += table.notes
    frame = frame.drop_duplicates()  # a compound of both studies may have a row for each
    if len(rows := frame.index[frame["gdsc_drug_id"].duplicated(keep=False)]):
        what = "has several rows, which differ; correct or remove the row that is wrong"
        raise table.fault("key_unique", "gdsc_drug_id", rows, what)
    return frame.set_index("gdsc_drug_id")


def _require_ln_ic50(table: Table) -> None:
    if "ln_ic50" in table.frame:
        return
    others = [written for name, written in table.written.items() if "ic50" in name]
    message = f"the column is missing; the file has {quoted(table.written.values(), 8)}; is it the {_RESPONSE.what}?"
    if others:
        message = (
            f"the column is missing; the file has {quoted(others)}: write the natural logarithm of the "
            "IC50 in micromolar into a column LN_IC50 (log10 times 2.3026; of nanomolar, less 6.9078)"
        )
    raise DataError([Finding("column_exists", table.file, message, "ln_ic50")])


def _identifiers(table: Table, column: str) -> pd.Series:
    """Return a column of identifiers in the style of their place; what is no longer as it was written is noted."""
    text = table.column(column)
    mended = text.map({value: identifier(column, value) for value in text.unique()})
    changed = mended != text.map(whole)
    name = table.written.get(column, column)
    if lost := sorted(set(text[changed & (mended == "")])):
        table.notes.append(f"{table.file}: {name} {quoted(lost)} is no identifier, its digits are lost; it is left out")
    if other := dict.fromkeys(zip(text[changed & (mended != "")], mended[changed & (mended != "")], strict=True)):
        (first, read), *_ = other
        table.notes.append(f"{table.file}: {len(other)} {name} are written otherwise; {first!r} is read as {read!r}")
    return mended


def _one_name_a_drug(table: Table, frame: pd.DataFrame) -> pd.Series:
    """Return the names of the drugs, the first where they differ in case and blanks alone."""
    drugs = frame[["study", "gdsc_drug_id", "drug_name"]].drop_duplicates()
    keys = pd.MultiIndex.from_frame(drugs[["study", "gdsc_drug_id"]])
    several = keys.duplicated(keep=False)
    if not several.any():
        return frame["drug_name"]
    same = drugs.assign(drug_name=drugs["drug_name"].map(folded)).drop_duplicates()
    if len(rows := same.index[same.duplicated(["study", "gdsc_drug_id"], keep=False)]):
        names = quoted(drugs.loc[rows, "drug_name"].unique())
        what = f"has several names ({names}); write one if they are one drug, else give each drug an id of its own"
        raise table.fault("key_unique", "gdsc_drug_id", rows, what)
    names = quoted(drugs.loc[several, "drug_name"].unique())
    table.notes.append(f"{table.file}: names of one drug differ in case or blanks, the first is taken: {names}")
    return frame.groupby(["study", "gdsc_drug_id"])["drug_name"].transform("first")


def _check_unit(rows: pd.DataFrame, study: str, table: Table) -> None:
    """Refuse responses that cannot be ln IC50 in micromolar; note those that are unlikely to be."""
    auc = rows["auc"].dropna() if "auc" in rows else pd.Series(dtype=np.float64)
    if len(auc) and (auc.median() > _HIGHEST_AUC or auc.min() < 0):
        table.notes.append(
            f"{table.file}, column AUC, {study}: the values lie within {auc.min():g} and {auc.max():g}, shares of the "
            "area within 0 and about 1: divide percent by 100, or do not take auc as the target"
        )
    values = rows["ln_ic50"].dropna()
    doubt = response_doubt(values, rows["gdsc_drug_id"].nunique())
    if values.empty:
        return
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


def _numbers_if_all(text: pd.Series) -> pd.Series:
    """Return numbers where every filled cell is one, whole ones as integers; else the text."""
    numbers = pd.to_numeric(text.where(text != "", None), errors="coerce")
    coded = text.str.match(r"0[0-9]").any()  # leading zeros belong to ids
    if coded or (text == "").all() or (numbers.isna() & (text != "")).any() or np.isinf(numbers).any():
        return text
    return numbers.astype("Int64") if (numbers.dropna() % 1 == 0).all() else numbers.astype(np.float64)
