"""Tables of DepMap (https://depmap.org/portal/data_page): models, matrices with a model a row, and mutation calls.

Until 24Q4 a matrix begins with an unnamed column of model ids. Later ones begin with ``SequencingID``, ``ModelID`` and
flags, and may hold a model several times: rows that are not ``IsDefaultEntryForModel`` are left out. What the portal's
own tool for downloads writes (``Copy_Number_Public_24Q4_subsetted.csv``) begins with ``depmap_id``,
``cell_line_display_name`` and lineages, and names genes by their bare symbols.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.archives import first_line, opened, text_lines
from pipelines.sources.cell_line_names import CellLine, identifier, ids_of, stripped
from pipelines.sources.choices import Variants
from pipelines.sources.matrices import BLOCK_BYTES, Row, header_of, kept_rows, none_wanted, read_values, split_rows
from pipelines.sources.omics_table import GeneList, Omics, Wanted, gene_of, none_listed, refuse_unless
from pipelines.sources.tables import Layout, plain, read_blocks, read_official
from pipelines.text_values import known, quoted
from pipelines.units import CopyNumberScale, Doubt, copy_number_doubt, log_tpm_doubt, methylation_doubt

_MODELS = Layout(
    "DepMap table of models (Model.csv, in older releases sample_info.csv)",
    {
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
    },
    needed=["depmap_id"],
    only=True,
    literal=("cell_line_name", "stripped_name"),
)
_MUTATIONS = Layout(
    "DepMap table of mutations (OmicsSomaticMutations.csv, in older releases CCLE_mutations.csv)",
    {
        "gene": ("hugosymbol", "hugo_symbol"),
        "line": ("modelid", "depmap_id", "broad_id", "tumor_sample_barcode"),
        "default": ("isdefaultentryformodel",),
        "hotspot": ("hotspot", "istcgahotspot"),
        "other_hotspot": ("iscosmichotspot",),
        "damaging": ("likelylof", "ccledeleterious", "isdeleterious"),
        "consequence": ("variantinfo", "variant_classification"),
    },
    needed=["gene", "line"],
    only=True,
)
_MODEL, _DEFAULT = ("modelid", "depmap_id"), ("isdefaultentryformodel", "is_default_entry")
_UNNAMED = ("", "unnamed_0", "x", "1", "index", "rowname", "rownames", "row_names")  # as pandas and R write it again
_LEAD = {  # what may precede the genes
    *("", "unnamed_0", "sequencingid", *_MODEL, *_DEFAULT, "modelconditionid", "isdefaultentryformc", "profileid"),
    *("cell_line_name", "stripped_cell_line_name", "ccle_name", "cell_line_display_name"),
    *(f"lineage_{number}" for number in range(1, 7)),
}
_PORTAL = "cell_line_display_name"  # in downloads of the portal's own tool
_RUNS = {"sequencingid", "modelconditionid", "isdefaultentryformodel"}  # in releases from 25Q2
_OF_MODELS = {"celllinename", "strippedcelllinename", "oncotreelineage", "cosmicid", "sangermodelid", "drug_id"}
_GENE = re.compile(  # R writes TP53..7157. of TP53 (7157)
    r"(?P<symbol>\S+?)(?: ?\((?:[0-9]+(?:\.0)?|ENSG[0-9.]+|nan|Unknown)\)|\.\.(?:[0-9]+|ENSG[0-9.]+)\.)"
)
_YES = ("yes", "true", "1", "1.0", "y", "t")
_SCALE = "name the file's scale with --copy-number-scale, or give the file of relative copy numbers"


def read_models(path: Path, notes: list[str] | None = None) -> list[CellLine]:
    """Read the models with all their names and identifiers; the lineage is the tissue.

    Raises
    ------
    UserError
        The file is not of the layout, or a model has no id or a duplicate one.
    """
    table = read_official(path, _MODELS)
    for kind in ("depmap_id", "sanger_model_id"):
        if kind in table.frame:
            table.frame[kind] = [identifier(kind, value) for value in table.frame[kind]]
    table.require("depmap_id")
    table = replace(table, frame=table.frame.drop_duplicates())
    table.unique("depmap_id")
    if notes is not None:
        notes += table.notes
    columns = {name: table.column(name).tolist() for name in _MODELS.columns}
    lines = []
    for cells in zip(*columns.values(), strict=True):
        row = dict(zip(columns, cells, strict=True))
        written = [row["cell_line_name"], *(known(alias) or "" for alias in re.split(r"[,;]", row["alias"]))]
        if stripped(row["cell_line_name"]) != stripped(row["stripped_name"]):  # else one line would have another's name
            written.insert(1, row["stripped_name"])
        cosmic = [identifier("cosmic_id", each) for each in re.split(r"[;|]|, ", row["cosmic_id"])]
        models = [row["depmap_id"], *(identifier("depmap_id", each) for each in re.split(r"[,;]", row["id_alias"]))]
        names = tuple(dict.fromkeys(name.strip() for name in written if name.strip()))
        ids = {"ccle_name": row["ccle_name"], "cosmic_id": cosmic, "sanger_model_id": row["sanger_model_id"]}
        all_ids = ids_of({**ids, "depmap_id": models})
        lines.append(CellLine(row["depmap_id"], names, all_ids, row["tissue"], row["histology"]))
    return lines


def read_omics(
    name: str,
    path: Path,
    wanted: Wanted,
    genes: GeneList | None = None,
    *,
    scale: CopyNumberScale | None = None,
    variants: Variants = "hotspot",
) -> Omics:
    """Read one of the omics of a collection from a matrix with a model a row, or mutations from a table of calls.

    Parameters
    ----------
    name
        ``expression``, whose log2(TPM + 1) stay; ``methylation``, whose shares of methylated reads stay, with a site or
        a gene a column; ``copy_number``, which becomes relative to the genome's mean; or ``mutation``, which becomes 1
        where a gene is mutated and 0 where not, as int8, or as float32 with NaN where a matrix has gaps.
    path
        csv, also compressed.
    wanted, genes
        Which models and genes to keep.
    scale
        Of copy numbers. Without it the layout decides: log2(relative + 1) for downloads of the portal's tool, for
        matrices with Log2 in their name, and for those that begin with an unnamed column and name genes
        ``TP53 (7157)``, as until 24Q4; absolute for those with Absolute in their name; relative for later ones.
    variants
        What of a table of calls counts. A line without such a call is 0 in all genes; one without any call was not
        sequenced.

    Raises
    ------
    UserError
        The file is not of the layout, its values are not of the unit, or nothing says of which scale they are.
    """
    header, _ = header_of(first_line(path), path.name)
    if name == "expression":
        table = read_matrix(path, wanted, genes, note="log2(TPM + 1), as in the file")
        return table.checked(_log_tpm_doubt, "give the file of log2(TPM + 1) (...TPMLogp1...csv)")
    if name == "methylation":
        sites = _split_header(header, path.name)[1]
        chosen = genes and GeneList(frozenset(site for site in sites if site.rsplit("_", 3)[0] in genes.genes), {})
        table = read_matrix(path, wanted, chosen, note="shares of methylated reads, as in the file")
        return table.checked(methylation_doubt, "give shares of methylated reads, from 0 to 1")
    if name == "copy_number":
        scale = scale or _scale_of(header, path)
        note = f"relative copy numbers; the file's scale is {scale}"
        if scale != "absolute":
            return to_relative(read_matrix(path, wanted, genes, note=note), scale)
        table = to_relative(read_matrix(path, wanted, note=note), scale)
        return table.listed(genes)
    if {plain(each) for each in header} & set(_MUTATIONS.columns["gene"]):
        return _called(path, wanted, genes, variants)
    table = read_matrix(path, wanted, genes, note=f"1 where the value of {path.name} is 1 or more")
    found = table.values[~np.isnan(table.values)]
    message = "a mutation matrix holds 0, 1 and 2, or True and False; is it the right file?"
    refuse_unless(bool(np.isin(found, (0, 1, 2)).all()), path.name, message)
    np.minimum(table.values, 1, out=table.values)
    return table if np.isnan(table.values).any() else replace(table, values=table.values.astype(np.int8))


def _log_tpm_doubt(values: np.ndarray) -> Doubt | None:
    whole = bool((values[~np.isnan(values)] % 1 == 0).all())
    return log_tpm_doubt(values) or (Doubt(True, "all values are whole, as calls and counts are") if whole else None)


def is_by_model(path: Path) -> bool:
    """Return whether a matrix names its models in a column of their own; raises as `archives.opened`."""
    lead = _lead_of(header_of(first_line(path), path.name)[0])
    return any(name in lead for name in _MODEL)


def to_relative(table: Omics, scale: CopyNumberScale) -> Omics:
    """Turn copy numbers into relative ones, in place.

    Raises
    ------
    UserError
        The values are not of ``scale``.
    """
    todo = f"it is not the scale {scale}; {_SCALE}"
    table = table.checked(lambda values: copy_number_doubt(values, scale), todo)
    if scale in ("log2_plus_1", "log2_ratio"):
        np.exp2(table.values, out=table.values)
    if scale == "log2_plus_1":
        np.subtract(table.values, 1, out=table.values)
    if scale == "absolute":
        measured = ~np.isnan(table.values).all(axis=1)
        means = np.full(len(table.values), np.nan, np.float32)
        means[measured] = np.nanmean(table.values[measured], axis=1, dtype=np.float64)
        refuse_unless(bool((means[measured] > 0).all()), table.file, "a cell line has no copies at all; " + _SCALE)
        np.divide(table.values, means[:, None], out=table.values)
        return table.noted(f"absolute copies over the line's mean in the {table.values.shape[1]:,} genes of the file")
    return table


def _scale_of(header: list[str], path: Path) -> CopyNumberScale:
    lead, genes = _split_header(header, path.name)
    name = path.name.casefold()
    if "absolute" in name:
        return "absolute"
    if "log2" in name or name.startswith("copy_number_public") or _PORTAL in lead:
        return "log2_plus_1"
    if _RUNS & set(lead):
        return "relative"
    if any(map(_GENE.fullmatch, genes)) and (lead == [""] or "modelid" in lead):
        return "log2_plus_1" if lead == [""] else "relative"
    raise UserError(
        f"{path}: begins with {quoted(header[: len(lead) + 2])}, which does not show whether its copy numbers are "
        f"relative, logarithms or absolute; {_SCALE}"
    )


def read_matrix(
    path: Path, wanted: Wanted, genes: GeneList | None = None, *, note: str = "", block: int = BLOCK_BYTES
) -> Omics:
    """Read a matrix with a model a row and a gene a column (``TP53 (7157)``); columns are called by the symbol.

    Raises
    ------
    UserError
        The file is not of the layout, cut short, or holds a model twice.
    """
    file = path.name
    with opened(path) as stream:
        rest = text_lines(stream, path)
        header, separator = header_of(next(rest), file)
        lead, columns = _split_header(header, file)
        model = next((lead.index(name) for name in _MODEL if name in lead), 0)
        default = next((lead.index(name) for name in _DEFAULT if name in lead), None)
        symbols = [found["symbol"] if (found := _GENE.fullmatch(name)) else gene_of(name, genes) for name in columns]
        keep = np.array([genes is None or symbol in genes.genes for symbol in symbols], bool)
        if not keep.any():
            raise none_listed(file, symbols)
        rows: Iterator[Row] = (
            (row, cells[model], values)
            for row, cells, values in split_rows(rest, separator, columns, file, len(lead))
            if default is None or cells[default].casefold() in _YES
        )
        rows = kept_rows(rows, wanted, file)
        lines, values = read_values(rows, columns, file, separator=separator, keep=keep, block=block, unit="model")
    features = [symbol for symbol, kept in zip(symbols, keep, strict=True) if kept]
    table = Omics.of(file, lines, features, values, note)
    return table.noted(f"{file}: decimal commas are read as points") if separator == b";" else table


def _lead_of(header: list[str]) -> list[str]:
    """Return the `plain` names of the first columns, as long as they describe the model."""
    names = [plain(name) for name in header]
    unnamed = names[:1] if names and names[0] in _UNNAMED else []
    length = next((place for place, name in enumerate(names) if name not in _LEAD and place >= len(unnamed)), None)
    return [*("" for _ in unnamed), *names[len(unnamed) : length]]


def _split_header(header: list[str], file: str) -> tuple[list[str], list[str]]:
    """Return the `plain` names of the columns that describe the model, and the names of the genes."""
    lead = _lead_of(header)
    genes = header[len(lead) :]
    by_model = lead == [""] or any(name in lead for name in _MODEL)
    of_genes = any(map(_GENE.fullmatch, genes)) or (
        any(name in lead for name in _MODEL) and not _OF_MODELS & set(map(plain, genes))
    )
    if not by_model or not of_genes:
        message = "must have a column ModelID, or an unnamed first one, and then genes such as TP53 (7157); it has "
        message += f"{quoted(header)}; is it DepMap's matrix by model?"
        raise DataError([Finding("file_layout", file, message)])
    return lead, genes


def _called(path: Path, wanted: Wanted, genes: GeneList | None, variants: Variants) -> Omics:
    """Read the table of calls: from a row a variant to a row a line and a column a gene."""
    needed = {"hotspot": "hotspot", "damaging": "damaging", "any": "consequence"}[variants]
    sequenced: dict[str, bool] = {}
    found: set[tuple[str, str]] = set()
    unnamed = 0
    for table in read_blocks(path, replace(_MUTATIONS, needed=["gene", "line", needed])):
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
        of_gene = table.column("gene") != ""
        unnamed += int((default & counts & ~of_gene).sum())
        calls = table.frame[default & counts & of_gene]
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
    note = f"1 where a gene has a mutation of the kind: {variants}"
    mutations = Omics.of(path.name, list(lines), features, values, note)
    return mutations.noted(f"{unnamed} calls name no gene and are left out") if unnamed else mutations
