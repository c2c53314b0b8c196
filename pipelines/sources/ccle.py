"""Matrices of the CCLE, the Cancer Cell Line Encyclopedia, with a feature a row (Ghandi et al., Nature 2019).

Columns are cell lines such as ``MCF7_BREAST``; what describes a feature stands before them. The files are among all
downloads of https://depmap.org/portal/data_page (doi 10.1038/s41586-019-1186-3). Later releases of the CCLE, such as
``CCLE_expression.csv``, have a model a row and are read as DepMap's.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipelines.faults import DataError, Finding
from pipelines.sources.depmap import to_relative
from pipelines.sources.expression_folder import BLOCK_BYTES, Row, read_values
from pipelines.sources.matrix_text import header_of, none_wanted, split_lead
from pipelines.sources.official_table import official_text, plain
from pipelines.sources.omics_table import HIGHEST_LOG, GeneList, Omics, Wanted, none_listed, refuse_unless

Kind = Literal["expression", "methylation", "copy_number"]


@dataclass(frozen=True)
class Layout:
    """What stands before the cell lines.

    Attributes
    ----------
    kind
        Of the values.
    lead
        `plain` names of the first columns; the first bears an id.
    feature
        Position of the one that names the feature.
    """

    kind: Kind
    lead: tuple[str, ...]
    feature: int = 0


LAYOUTS = (
    Layout("expression", ("name", "description"), 1),  # CCLE_RNAseq_genes_rpkm_20180929.gct.gz
    Layout("expression", ("gene_id", "transcript_ids")),  # CCLE_RNAseq_rsem_genes_tpm_20180929.txt.gz
    Layout("methylation", ("locus_id", "cpg_sites_hg19", "avg_coverage")),  # CCLE_RRBS_TSS1kb_20181022.txt.gz
    Layout("copy_number", ("egid", "symbol", "chr", "chrloc", "chrlocend"), 1),  # CCLE_copynumber_byGene_2013-12-03.txt
)
_GCT = b"#1."
_ENSEMBL = re.compile(r"(?P<id>ENSG[0-9]+)(?:\.[0-9]+)?")


def is_by_feature(path: Path) -> bool:
    """Return whether a file has a feature a row: GCT, or separated by tabs.

    Raises
    ------
    UserError
        It cannot be read.
    """
    with official_text(path) as stream:
        first = next(stream, b"")
    return first.startswith(_GCT) or b"\t" in first


def read(path: Path, kind: Kind, wanted: Wanted, genes: GeneList | None = None, *, block: int = BLOCK_BYTES) -> Omics:
    """Read a matrix of the CCLE.

    Expression, RPKM or TPM, is scaled to a million a line over all genes of the file, which makes TPM of RPKM (Li and
    Dewey 2011, doi 10.1186/1471-2105-12-323), and becomes log2(TPM + 1). Copy numbers, log2(relative), become relative.
    Methylation stays the share of methylated reads near the start of transcription.

    Parameters
    ----------
    path
        tsv or GCT, also gzipped.
    kind
        What it should hold.
    wanted
        Which cell lines to keep.
    genes
        Which genes to keep; all without it. Ensembl ids become symbols where the list tells them; a site of methylation
        is of the gene that its name begins with (``TP53_17_7589868_7590868``).
    block
        Bytes of text that are parsed at once.

    Raises
    ------
    UserError
        The file is not of a layout, of another kind, cut short, or its values are not of the scale.
    """
    file = path.name
    names: list[str] = []
    with official_text(path) as stream:
        rows_told = _skip_preamble(stream, file)
        header = header_of(stream, b"\t", file)
        layout = _layout(header, kind, file)
        lines = header[len(layout.lead) :]
        keep = np.array([wanted(line) for line in lines], bool)
        if not keep.any():
            raise none_wanted(file, lines)
        found, values = read_values(_named(stream, layout, names, file), lines, file, b"\t", keep, block, "feature")
    if rows_told is not None and rows_told != len(found):
        message = f"says that it has {rows_told} rows and has {len(found)}; it is cut short, download it again"
        raise DataError([Finding("file_layout", file, message)])
    note = _to_log_tpm(values, file) if kind == "expression" else ""
    if kind == "methylation":
        note = "shares of methylated reads, as in the file"
        lowest, highest = float(np.nanmin(values, initial=0)), float(np.nanmax(values, initial=0))
        refuse_unless(
            lowest >= 0 and highest <= 1, file, f"its values lie within {lowest:g} and {highest:g}, no shares"
        )
    symbols = genes.symbols if genes else {}
    features = [symbols.get(name, name) for name in map(_without_version, names)]
    kept = [line for line, keeps in zip(lines, keep, strict=True) if keeps]
    table = Omics.of(file, kept, features, values.T, note or "relative copy numbers; the file's scale is log2_ratio")
    if genes is not None:
        of = {name: name.rsplit("_", 3)[0] if kind == "methylation" else name for name in table.features}
        table = table.only([name for name, gene in of.items() if gene in genes.genes])
        if not table.features:
            raise none_listed(file, features)
    return to_relative(table, "log2_ratio") if kind == "copy_number" else table


def _skip_preamble(stream: io.BufferedReader, file: str) -> int | None:
    """Take the two lines off that a GCT begins with; return how many rows it says that it has."""
    if not stream.peek(len(_GCT)).startswith(_GCT):
        return None
    next(stream)
    size = next(stream, b"").split()
    if len(size) < 2 or not size[0].isdigit():
        raise DataError([Finding("file_layout", file, "line 2 of a GCT must tell its size; download it again")])
    return int(size[0])


def _layout(header: list[str], kind: Kind, file: str) -> Layout:
    names = tuple(map(plain, header))
    layout = next((each for each in LAYOUTS if names[: len(each.lead)] == each.lead), None)
    if layout is None:
        known = "; ".join(", ".join(each.lead) for each in LAYOUTS if each.kind == kind)
        message = f"begins with the columns {', '.join(header[:5])}; a {kind} file of the CCLE begins with {known}"
        raise DataError([Finding("file_layout", file, message)])
    if layout.kind != kind:
        raise DataError([Finding("file_layout", file, f"holds {layout.kind} of the CCLE, and is given as {kind}")])
    return layout


def _named(stream: Iterator[bytes], layout: Layout, names: list[str], file: str) -> Iterator[Row]:
    """Yield the rows under their ids; add the name of each one's feature to ``names``."""
    for row, lead, values in split_lead(stream, b"\t", len(layout.lead), file):
        if not any(lead) and values is not None and not values.replace(b"NaN", b"").replace(b"NA", b"").strip(b"\t"):
            continue  # a last row without a name or a value, as the file of methylation has
        names.append(lead[layout.feature])
        yield row, lead[0], values


def _to_log_tpm(values: np.ndarray, file: str) -> str:
    """Turn expression of shape (genes, lines) into log2(TPM + 1), in place; return what was done."""
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    whole = all(bool((row == np.rint(row)).all()) for row in values)
    what = f"its values lie within {lowest:g} and {highest:g}"
    refuse_unless(lowest >= 0, file, f"{what}; RPKM and TPM are not below 0")
    refuse_unless(highest > HIGHEST_LOG, file, f"{what}; they seem to be logarithms, give the file of RPKM or TPM")
    refuse_unless(not whole, file, "all values are whole, so it holds counts; give the file of RPKM or TPM")
    totals = np.zeros(values.shape[1])
    for row in values:  # not at once: a copy of the whole without gaps is as large again
        totals += np.nan_to_num(row)
    refuse_unless(bool((totals > 0).all()), file, "a cell line has no expression at all; download the file again")
    values *= (1e6 / totals).astype(np.float32)
    np.log1p(values, out=values)
    values /= np.float32(np.log(2))
    return "log2(TPM + 1), from the linear values of the file, scaled to a million a line"


def _without_version(name: str) -> str:
    found = _ENSEMBL.fullmatch(name)
    return found["id"] if found else name
