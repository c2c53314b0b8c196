"""Tables of DepMap (https://depmap.org/portal/data_page): models, matrices with a model a row, and mutation calls.

Until 24Q4 a matrix begins with an unnamed column of model ids. Later ones begin with ``SequencingID``, ``ModelID`` and
flags, and may hold a model several times. Those of the portal's own tool begin with ``depmap_id``.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources import Variants
from pipelines.sources.archives import first_line, opened, text_lines
from pipelines.sources.cell_line_names import CellLine, identifier, ids_of, stripped
from pipelines.sources.matrices import Matrix, Row, header_of
from pipelines.sources.omics_table import GeneList, Omics, Wanted, none_listed, none_wanted, refuse_unless
from pipelines.sources.tables import Layout, plain, read_blocks, read_official
from pipelines.text_values import known, quoted
from pipelines.units import CopyNumberScale, Doubt, copy_number_doubt, log_tpm_doubt, methylation_doubt

_MODELS = Layout(
    "DepMap table of models (Model.csv, in older releases sample_info.csv)",
    {
        "depmap_id": ("ModelID", "DepMap_ID"),
        "cell_line_name": ("CellLineName", "cell_line_name", "name"),
        "stripped_name": ("StrippedCellLineName", "stripped_cell_line_name"),
        "ccle_name": ("CCLEName", "CCLE_Name", "CCLE_ID"),
        "cosmic_id": ("COSMICID",),
        "sanger_model_id": ("SangerModelID", "Sanger_Model_ID", "Sanger_ID"),
        "alias": ("alias", "aliases"),
        "id_alias": ("ModelIDAlias",),
        "tissue": ("OncotreeLineage", "lineage", "Site_Primary"),
        "histology": ("OncotreePrimaryDisease", "primary_disease", "disease", "histology"),
    },
    needed=["depmap_id"],
    only=True,
    literal=("cell_line_name", "stripped_name"),
)
_MUTATIONS = Layout(
    "DepMap table of mutations (OmicsSomaticMutations.csv, in older releases CCLE_mutations.csv)",
    {
        "gene": ("HugoSymbol", "Hugo_Symbol"),
        "line": ("ModelID", "DepMap_ID", "Broad_ID", "Tumor_Sample_Barcode"),
        "default": ("IsDefaultEntryForModel",),
        "hotspot": ("Hotspot", "isTCGAhotspot"),
        "other_hotspot": ("isCOSMIChotspot",),
        "damaging": ("LikelyLoF", "CCLEDeleterious", "isDeleterious"),
        "consequence": ("VariantInfo", "Variant_Classification"),
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
    """Read the models with all their names and identifiers; the lineage is the tissue."""
    table = read_official(path, _MODELS, notes)
    for kind in ("depmap_id", "sanger_model_id"):
        table.frame[kind] = [identifier(kind, value) for value in table.frame[kind]]
    table.require("depmap_id")
    lines = []
    for row in table.keyed("depmap_id").to_dict("records"):
        names = [row["cell_line_name"], *(known(alias) or "" for alias in re.split(r"[,;]", row["alias"]))]
        if stripped(names[0]) != stripped(row["stripped_name"]):  # else one line would have another's name
            names.insert(1, row["stripped_name"])
        ids = {
            "ccle_name": row["ccle_name"],
            "cosmic_id": [identifier("cosmic_id", each) for each in re.split(r"[;|]|, ", row["cosmic_id"])],
            "sanger_model_id": row["sanger_model_id"],
            "depmap_id": [row["depmap_id"], *(identifier("depmap_id", of) for of in re.split("[,;]", row["id_alias"]))],
        }
        unique = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
        lines.append(CellLine(row["depmap_id"], unique, ids_of(ids), row["tissue"], row["histology"]))
    return lines


def read_omics(
    name: str,
    path: Path,
    wanted: Wanted,
    genes: GeneList,
    *,
    scale: CopyNumberScale | None = None,
    variants: Variants = "hotspot",
) -> Omics:
    """Read one of the omics of a collection from a matrix with a model a row, or mutations from a table of calls.

    Without ``scale`` the layout decides on that of copy numbers, which become relative. Mutations become 1 or 0.
    """
    header, _ = header_of(first_line(path), path.name)
    if name == "expression":
        table = read_matrix(path, wanted, genes, note="log2(TPM + 1), as in the file")
        return table.checked(_log_tpm_doubt, "give the file of log2(TPM + 1) (...TPMLogp1...csv)")
    if name == "methylation":
        table = read_matrix(path, wanted, genes, note="shares of methylated reads, as in the file")
        return table.checked(methylation_doubt, "give shares of methylated reads, from 0 to 1")
    if name == "copy_number":
        scale = scale or _scale_of(header, path)
        note = f"relative copy numbers; the file's scale is {scale}"
        of_file = GeneList() if scale == "absolute" else genes  # the mean of a line is that of all genes
        return to_relative(read_matrix(path, wanted, of_file, note=note), scale).listed(genes)
    if "gene" in _MUTATIONS.places(header):
        return _called(path, wanted, genes, variants)
    table = read_matrix(path, wanted, genes, note=f"1 where the value of {path.name} is 1 or more")
    gaps = table.values.isna()
    message = "a mutation matrix holds 0, 1 and 2, or True and False; is it the right file?"
    refuse_unless(bool((table.values.isin((0, 1, 2)) | gaps).all(axis=None)), path.name, message)
    mutated = table.values.clip(upper=1)
    return replace(table, values=mutated if gaps.any(axis=None) else mutated.astype(np.int8))


def _log_tpm_doubt(values: np.ndarray) -> Doubt | None:
    whole = bool((values[~np.isnan(values)] % 1 == 0).all())
    return log_tpm_doubt(values) or (Doubt(True, "all values are whole, as calls and counts are") if whole else None)


def is_by_model(path: Path) -> bool:
    """Return whether a matrix names its models in a column of their own."""
    return not set(_MODEL).isdisjoint(_lead_of(header_of(first_line(path), path.name)[0]))


def to_relative(table: Omics, scale: CopyNumberScale) -> Omics:
    """Return relative copy numbers; a `DataError` if the values are not of ``scale``."""
    table = table.checked(lambda values: copy_number_doubt(values, scale), f"it is not the scale {scale}; {_SCALE}")
    values = table.values
    if scale == "absolute":
        measured = values.dropna(how="all")
        means = pd.Series(np.nanmean(measured, axis=1, dtype=np.float64), measured.index)
        refuse_unless(bool((means > 0).all()), table.file, f"a cell line has no copies at all; {_SCALE}")
        table = table.noted(f"absolute copies over the line's mean in the {values.shape[1]:,} genes of the file")
        return replace(table, values=values.div(means.astype(np.float32), axis=0))
    if scale in ("log2_plus_1", "log2_ratio"):
        values = values.apply(np.exp2) - np.float32(scale == "log2_plus_1")
    return replace(table, values=values)


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


def read_matrix(path: Path, wanted: Wanted, genes: GeneList, *, note: str = "") -> Omics:
    """Read a matrix with a model a row and a gene a column (``TP53 (7157)``); columns are called by the symbol."""
    file = path.name
    with opened(path) as stream:
        matrix = Matrix(text_lines(stream, path), file)
        lead, columns = _split_header(matrix.header, file)
        matrix.lead = len(lead)
        model = next((lead.index(name) for name in _MODEL if name in lead), 0)
        default = next((lead.index(name) for name in _DEFAULT if name in lead), None)
        symbols = [found["symbol"] if (found := _GENE.fullmatch(name)) else genes.symbol(name) for name in columns]
        keep = np.array([*map(genes.keeps, symbols)], bool)
        if not keep.any():
            raise none_listed(file, symbols)

        def rows() -> Iterator[Row]:
            found: dict[bool, list[str]] = {True: [], False: []}
            for row, cells, values in matrix.rows():
                if default is None or cells[default].casefold() in _YES:
                    name = cells[model]
                    found[is_wanted := not name or wanted(name)].append(name)
                    if is_wanted:
                        yield row, name, values
            if found[False] and not found[True]:
                raise none_wanted(file, found[False])

        lines, values = matrix.read(rows(), keep=keep, unit="model")
    features = [symbol for symbol, kept in zip(symbols, keep, strict=True) if kept]
    return Omics.of(file, lines, features, values, note)


def _lead_of(header: list[str]) -> list[str]:
    """Return the `plain` names of the first columns, as long as they describe the model."""
    names = list(map(plain, header))
    names[0] = "" if names[0] in _UNNAMED else names[0]
    return list(itertools.takewhile(_LEAD.__contains__, names))


def _split_header(header: list[str], file: str) -> tuple[list[str], list[str]]:
    """Return the `plain` names of the columns that describe the model, and the names of the genes."""
    lead = _lead_of(header)
    genes = header[len(lead) :]
    by_model = not set(_MODEL).isdisjoint(lead)
    of_genes = any(map(_GENE.fullmatch, genes)) or (by_model and _OF_MODELS.isdisjoint(map(plain, genes)))
    if not (by_model or lead == [""]) or not of_genes:
        message = "must have a column ModelID, or an unnamed first one, and then genes such as TP53 (7157); it has "
        message += f"{quoted(header)}; is it DepMap's matrix by model?"
        raise DataError([Finding("file_layout", file, message)])
    return lead, genes


def _called(path: Path, wanted: Wanted, genes: GeneList, variants: Variants) -> Omics:
    """Read the table of calls; a line without a call that counts is 0 in all genes, one without any is left out."""
    needed = {"hotspot": "hotspot", "damaging": "damaging", "any": "consequence"}[variants]
    sequenced: dict[str, bool] = {}
    found: set[tuple[str, str]] = set()
    unnamed, notes = 0, list[str]()
    for table in read_blocks(path, replace(_MUTATIONS, needed=["gene", "line", needed]), notes):
        table.require("line")
        flags = {name: table.frame[name].str.casefold() for name in _MUTATIONS.columns}
        counts = {
            "hotspot": flags["hotspot"].isin(_YES) | flags["other_hotspot"].isin(_YES),
            "damaging": flags["damaging"].isin(_YES),
            "any": ~flags["consequence"].str.contains("silent|synonymous"),
        }[variants]
        default = flags["default"].isin(["", *_YES])
        for line in table.frame["line"][default].unique():
            if line not in sequenced:
                sequenced[line] = wanted(line)
        of_gene = table.frame["gene"] != ""
        unnamed += int((default & counts & ~of_gene).sum())
        calls = table.frame[default & counts & of_gene]
        found.update(zip(calls["line"], calls["gene"], strict=True))
    lines = [line for line, keep in sequenced.items() if keep]
    if not lines:
        raise none_wanted(path.name, sequenced)
    features = sorted({gene for _, gene in found if genes.keeps(gene)})
    if not features:
        raise none_listed(path.name, {gene for _, gene in found})
    rows, columns = {line: at for at, line in enumerate(lines)}, {gene: at for at, gene in enumerate(features)}
    mutated = np.zeros((len(lines), len(features)), np.int8)
    for line, gene in found:
        if line in rows and gene in columns:
            mutated[rows[line], columns[gene]] = 1
    note = f"1 where a gene has a mutation of the kind: {variants}"
    if unnamed:
        notes.append(f"{unnamed} calls name no gene and are left out")
    mutations = Omics.of(path.name, lines, features, mutated, note)
    return replace(mutations, notes=(*mutations.notes, *notes))
