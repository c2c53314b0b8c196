"""Tables of DepMap (https://depmap.org/portal/data_page): models, matrices with a model a row, and mutation calls.

Until 24Q4 a matrix begins with an unnamed column of model ids. Later ones begin with ``SequencingID``, ``ModelID`` and
flags, and may hold a model several times: rows that are not ``IsDefaultEntryForModel`` are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.faults import DataError, Finding
from pipelines.sources.cell_line_names import CellLine, ids_of, stripped
from pipelines.sources.choices import Scale, Variants
from pipelines.sources.expression_folder import BLOCK_BYTES, Row, read_values
from pipelines.sources.matrix_text import check_width, header_of, kept_rows, lead_of, none_wanted, split_lead
from pipelines.sources.official_table import Alternatives, official_text, plain, read_blocks, read_official, whole
from pipelines.sources.omics_table import HIGHEST_LOG, GeneList, Omics, Wanted, none_listed, refuse_unless

MODELS = "DepMap table of models (Model.csv, in older releases sample_info.csv)"
MUTATIONS = "DepMap table of mutations (OmicsSomaticMutations.csv, in older releases CCLE_mutations.csv)"

_MODELS: Alternatives = {
    "depmap_id": ("modelid", "depmap_id", "depmapid"),
    "cell_line_name": ("celllinename", "cell_line_name", "name"),
    "stripped_name": ("strippedcelllinename", "stripped_cell_line_name"),
    "ccle_name": ("cclename", "ccle_name", "ccle_id"),
    "cosmic_id": ("cosmicid", "cosmic_id"),
    "sanger_model_id": ("sangermodelid", "sanger_model_id", "sanger_id"),
    "alias": ("alias", "aliases"),
    "id_alias": ("modelidalias",),
    "tissue": ("oncotreelineage", "lineage", "site_primary"),
    "histology": ("oncotreeprimarydisease", "primary_disease", "disease", "histology"),
}
_MUTATIONS: Alternatives = {
    "gene": ("hugosymbol", "hugo_symbol"),
    "line": ("modelid", "depmap_id", "broad_id", "tumor_sample_barcode"),
    "default": ("isdefaultentryformodel",),
    "hotspot": ("hotspot", "istcgahotspot"),
    "other_hotspot": ("iscosmichotspot",),
    "damaging": ("likelylof", "ccledeleterious", "isdeleterious"),
    "consequence": ("variantinfo", "variant_classification"),
}
_MODEL, _DEFAULT = ("modelid", "depmap_id"), ("isdefaultentryformodel", "is_default_entry")
_LEAD = {  # what may stand before the genes
    *("", "unnamed_0", "sequencingid", *_MODEL, *_DEFAULT, "modelconditionid", "isdefaultentryformc", "profileid"),
    *("cell_line_name", "stripped_cell_line_name", "ccle_name", "cell_line_display_name"),
    *(f"lineage_{number}" for number in range(1, 7)),
}
_GENE = re.compile(r"(?P<symbol>\S+) \((?:[0-9]+|ENSG[0-9.]+|nan|Unknown)\)")
HIGHEST_COPIES = 1000.0  # relative ones; amplifications above 100 are not known
_YES = ("yes", "true", "1", "y", "t")


def read_models(path: Path) -> list[CellLine]:
    """Read the models with all their names and identifiers; the lineage is the tissue.

    Raises
    ------
    UserError
        The file is not of the layout, or a model has no id or stands twice.
    """
    table = read_official(path, MODELS, ["depmap_id"], _MODELS, only=True)
    table.require("depmap_id")
    table.unique("depmap_id")
    columns = {name: table.column(name).tolist() for name in _MODELS}
    lines = []
    for cells in zip(*columns.values(), strict=True):
        row = dict(zip(columns, cells, strict=True))
        written = [row["cell_line_name"], *re.split(r"[,;]", row["alias"])]
        if stripped(row["cell_line_name"]) != stripped(row["stripped_name"]):  # else one line would bear another's name
            written.insert(1, row["stripped_name"])
        ids = {kind: whole(row[kind]) for kind in ("ccle_name", "cosmic_id", "sanger_model_id")}
        models = [row["depmap_id"], *re.split(r"[,;]\s*", row["id_alias"])]
        names = tuple(dict.fromkeys(name.strip() for name in written if name.strip()))
        lines.append(
            CellLine(row["depmap_id"], names, ids_of({**ids, "depmap_id": models}), row["tissue"], row["histology"])
        )
    return lines


def read_expression(path: Path, wanted: Wanted, genes: GeneList | None = None) -> Omics:
    """Read a matrix of log2(TPM + 1), of which the values stay.

    Raises
    ------
    UserError
        The file is not of the layout, or the values are not of this scale.
    """
    table = read_matrix(path, wanted, genes, note="log2(TPM + 1), as in the file")
    lowest, highest = table.range()
    refuse_unless(
        lowest >= 0 and highest <= HIGHEST_LOG and not table.is_whole(),
        path.name,
        f"its values lie within {lowest:g} and {highest:g}; log2(TPM + 1) is 0 or more, below {HIGHEST_LOG:g} and not "
        "whole throughout; is it the file of expression (...TPMLogp1...csv)?",
    )
    return table


def read_copy_number(path: Path, wanted: Wanted, genes: GeneList | None = None, scale: Scale | None = None) -> Omics:
    """Read a matrix of copy numbers and turn them into relative ones, of which 1 is the genome's mean.

    Without ``scale``, matrices that begin with an unnamed column, as until 24Q4, are log2(relative + 1), and so are
    those with Log2 in their name; later ones are relative.

    Raises
    ------
    UserError
        The file is not of the layout, or the values are not of this scale.
    """
    if scale is None:
        with official_text(path) as stream:
            lead = lead_of(header_of(stream, b",", path.name), _LEAD)
        scale = "log2_plus_1" if len(lead) == 1 or "log2" in path.name.casefold() else "relative"
    return to_relative(
        read_matrix(path, wanted, genes, note=f"relative copy numbers; the file's scale is {scale}"), scale
    )


def to_relative(table: Omics, scale: Scale) -> Omics:
    """Turn copy numbers into relative ones, in place.

    Raises
    ------
    UserError
        The values are not of ``scale``.
    """
    lowest, highest = table.range()
    what = f"its values lie within {lowest:g} and {highest:g}, which is not the scale {scale}"
    todo = "name another with --copy-number-scale, or give the file of relative copy numbers"
    copies = highest if scale == "relative" else 2.0 ** min(highest, 64.0)
    refuse_unless((lowest >= 0 or scale == "log2_ratio") and copies <= HIGHEST_COPIES, table.file, f"{what}; {todo}")
    if scale != "relative":
        np.exp2(table.values, out=table.values)
    if scale == "log2_plus_1":
        np.subtract(table.values, 1, out=table.values)
    refuse_unless(not table.is_whole(), table.file, f"all values are whole, which relative copies are not; {todo}")
    return table


def read_mutation(path: Path, wanted: Wanted, genes: GeneList | None = None, variants: Variants = "hotspot") -> Omics:
    """Read mutations: a matrix (``OmicsSomaticMutationsMatrixHotspot.csv``), or the table of calls.

    Parameters
    ----------
    path, wanted, genes
        The file, the cell lines to keep, the genes to keep.
    variants
        What of a table of calls counts; a matrix says it itself. A line of the table without such a call is 0 in all
        genes; one that is not in the table was not sequenced.

    Returns
    -------
    Omics
        1 where a gene is mutated, 0 where not; int8, or float32 with NaN where the matrix has gaps.

    Raises
    ------
    UserError
        The file is not of the layout.
    """
    with official_text(path) as stream:
        first = next(stream, b"")
        separator = max(b"\t", b",", key=first.count)
        names = {plain(name) for name in header_of(iter([first]), separator, path.name)}
    if names & set(_MUTATIONS["gene"]):
        return _called(path, wanted, genes, variants)
    table = read_matrix(path, wanted, genes, note="1 where the file's value is 1 or more")
    lowest, highest = table.range()
    refuse_unless(
        lowest >= 0 and highest <= 2 and table.is_whole(),
        path.name,
        f"its values lie within {lowest:g} and {highest:g}; a mutation matrix holds 0, 1 and 2; is it the right file?",
    )
    np.minimum(table.values, 1, out=table.values)
    if np.isnan(table.values).any():
        return table
    return replace(table, values=table.values.astype(np.int8))


def read_matrix(
    path: Path, wanted: Wanted, genes: GeneList | None = None, *, note: str = "", block: int = BLOCK_BYTES
) -> Omics:
    """Read a matrix with a model a row and a gene a column (``TP53 (7157)``); columns are called by the symbol.

    Parameters
    ----------
    path
        csv, also gzipped.
    wanted
        Which models to keep.
    genes
        Which genes to keep; all without it.
    note
        What is said of the values.
    block
        Bytes of text that are parsed at once.

    Raises
    ------
    UserError
        The file is not of the layout, cut short, or holds a model twice.
    """
    with official_text(path) as stream:
        header = header_of(stream, b",", path.name)
        lead, columns = _split_header(header, path.name)
        model = next((lead.index(name) for name in _MODEL if name in lead), 0)
        default = next((lead.index(name) for name in _DEFAULT if name in lead), None)
        symbols = [found["symbol"] if (found := _GENE.fullmatch(name)) else name for name in columns]
        keep = np.array([genes is None or symbol in genes.genes for symbol in symbols], bool)
        if not keep.any():
            raise none_listed(path.name, symbols)
        rows = _default_rows(stream, len(lead), model, default, len(columns), path.name)
        lines, values = read_values(
            kept_rows(rows, wanted, b",", len(columns), path.name),
            columns,
            path.name,
            b",",
            keep,
            block,
            "model",
        )
    features = [symbol for symbol, kept in zip(symbols, keep, strict=True) if kept]
    return Omics.of(path.name, lines, features, values, note)


def _split_header(header: list[str], file: str) -> tuple[list[str], list[str]]:
    """Return the `plain` names of the columns that describe the model, and the names of the genes."""
    lead = lead_of(header, _LEAD)
    genes = header[len(lead) :]
    by_model = len(lead) == 1 or any(name in lead for name in _MODEL)
    of_genes = (
        any(map(_GENE.fullmatch, genes)) or "cell_line_display_name" in lead
    )  # downloads of the portal's own tool
    if not by_model or not of_genes:
        message = "must have a column ModelID, or an unnamed first one, and then genes such as TP53 (7157); it has "
        message += f"{', '.join(header[:6])}; is it DepMap's matrix by model?"
        raise DataError([Finding("file_layout", file, message)])
    return lead, genes


def _default_rows(
    lines: Iterator[bytes], count: int, model: int, default: int | None, width: int, file: str
) -> Iterator[Row]:
    for row, lead, values in split_lead(lines, b",", count, file):
        if default is None or lead[default].casefold() in _YES:
            yield row, lead[model], values
        else:
            check_width(row, lead[model], values, b",", width, file)


def _called(path: Path, wanted: Wanted, genes: GeneList | None, variants: Variants) -> Omics:
    """Read the table of calls: from a row a variant to a row a line and a column a gene."""
    needed = {"hotspot": "hotspot", "damaging": "damaging", "any": "consequence"}[variants]
    sequenced: dict[str, bool] = {}
    found: set[tuple[str, str]] = set()
    for table in read_blocks(path, MUTATIONS, ["gene", "line", needed], _MUTATIONS, only=True):
        table.require("line")
        flags = {
            name: table.column(name).str.casefold() for name in ("default", "hotspot", "other_hotspot", "damaging")
        }
        if variants == "any":
            counts = ~table.column("consequence").str.casefold().str.contains("silent|synonymous")
        else:
            columns = ("hotspot", "other_hotspot") if variants == "hotspot" else ("damaging",)
            counts = pd.concat([flags[name].isin(_YES) for name in columns], axis=1).any(axis=1)
        default = flags["default"].isin(["", *_YES])
        for line in table.column("line")[default].unique():
            if line not in sequenced:
                sequenced[line] = wanted(line)
        calls = table.frame[default & counts & (table.column("gene") != "")]
        found.update(zip(calls["line"], calls["gene"], strict=True))
    lines = {line: place for place, line in enumerate(line for line, keep in sequenced.items() if keep)}
    if not lines:
        raise none_wanted(path.name, sequenced)
    features = sorted({gene for _, gene in found if genes is None or gene in genes.genes})
    if not features:
        raise none_listed(path.name, {gene for _, gene in found})
    places = {gene: place for place, gene in enumerate(features)}
    values = np.zeros((len(lines), len(features)), np.int8)
    for line, gene in found:
        if line in lines and gene in places:
            values[lines[line], places[gene]] = 1
    return Omics.of(path.name, list(lines), features, values, f"1 where a gene has a mutation of the kind: {variants}")
