"""Matrices of the CCLE, the Cancer Cell Line Encyclopedia, with a feature a row (Ghandi et al., Nature 2019).

Columns are cell lines such as ``MCF7_BREAST``, after what describes a feature. The files are among all downloads of
https://depmap.org/portal/data_page (doi 10.1038/s41586-019-1186-3). Later releases of the CCLE, such as
``CCLE_expression.csv``, have a model a row and are read by `depmap`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pipelines.errors import DataError, Finding
from pipelines.sources.archives import first_line, opened, text_lines
from pipelines.sources.depmap import to_relative
from pipelines.sources.matrices import BLOCK_BYTES, Row, header_of, none_wanted, read_values, split_rows
from pipelines.sources.omics_table import GeneList, Omics, Wanted, gene_of, none_listed, refuse_unless
from pipelines.sources.tables import plain
from pipelines.text_values import quoted
from pipelines.units import HIGHEST_LOG_TPM, CopyNumberScale, methylation_doubt

Kind = Literal["expression", "methylation", "copy_number"]


class FeatureLayout(NamedTuple):
    """The `plain` names of the columns before the cell lines: the first is an id; ``feature`` names the feature."""

    kind: Kind
    lead: tuple[str, ...]
    feature: int = 0


LAYOUTS = (
    FeatureLayout("expression", ("name", "description"), 1),  # CCLE_RNAseq_genes_rpkm_20180929.gct.gz
    FeatureLayout("expression", ("gene_id", "transcript_ids")),  # CCLE_RNAseq_rsem_genes_tpm_20180929.txt.gz
    FeatureLayout("methylation", ("locus_id", "cpg_sites_hg19", "avg_coverage")),  # CCLE_RRBS_TSS1kb_20181022.txt.gz
    FeatureLayout(
        "copy_number", ("egid", "symbol", "chr", "chrloc", "chrlocend"), 1
    ),  # CCLE_copynumber_byGene_2013-12-03.txt
)
_GCT = b"#1."
_TRANSCRIPTOME = 10_000  # genes whose expression is nearly all that a line has
_MILLION = (9e5, 1.02e6)  # what TPM of a transcriptome add up to, which may lack its rarer kinds of genes


def is_by_feature(path: Path) -> bool:
    """Return whether a file has a feature a row: GCT, or one of `LAYOUTS`; raises as `archives.opened`."""
    first = first_line(path)
    name = plain(first.decode(errors="replace").split("\t", 1)[0])
    return first.startswith(_GCT) or any(name == each.lead[0] for each in LAYOUTS)


def read(
    path: Path,
    kind: Kind,
    wanted: Wanted,
    genes: GeneList | None = None,
    scale: CopyNumberScale | None = None,
    *,
    block: int = BLOCK_BYTES,
) -> Omics:
    """Read a matrix of the CCLE.

    Expression becomes log2(TPM + 1). RPKM are scaled to a million a line over all genes of the file, which makes TPM of
    them (Li and Dewey 2011, doi 10.1186/1471-2105-12-323) if these are a transcriptome; TPM stay, also those of some
    genes. Copy numbers, log2(relative), become relative. Methylation stays the share of methylated reads near the start
    of transcription; a site is of the gene that its name begins with (``TP53_17_7589868_7590868``).

    Raises
    ------
    UserError
        The file is not of a layout, of another kind, cut short, or its values are not of the scale.
    """
    file = path.name
    names: list[str] = []
    with opened(path) as stream:
        rest = text_lines(stream, path)
        first, rows_told = _without_preamble(rest, file)
        header, separator = header_of(first, file)
        layout = _layout(header, kind, file)
        lines = header[len(layout.lead) :]
        keep = np.array([wanted(line) for line in lines], bool)
        if not keep.any():
            raise none_wanted(file, lines)
        rows = _named(rest, separator, layout, columns=lines, names=names, file=file)
        found, values = read_values(rows, lines, file, separator=separator, keep=keep, block=block, unit="feature")
    if rows_told is not None and rows_told != len(found):
        message = f"says that it has {rows_told} rows and has {len(found)}; it is cut short, download it again"
        raise DataError([Finding("file_layout", file, message)])
    kept = [line for line, keeps in zip(lines, keep, strict=True) if keeps]
    scale = scale or "log2_ratio"
    note = "shares of methylated reads, as in the file"
    if kind == "copy_number":
        note = f"relative copy numbers; the file's scale is {scale}"
    elif kind == "expression":
        note = _to_log_tpm(values, kept, _is_tpm(layout, file), file)
    features = [gene_of(name, genes) for name in names]
    table = Omics.of(file, kept, features, values.T, note)
    if kind == "methylation":
        table = table.checked(methylation_doubt, "give shares of methylated reads, from 0 to 1")
    if kind == "copy_number":
        table = to_relative(table, scale)
    if genes is not None:
        of = {name: name.rsplit("_", 3)[0] if kind == "methylation" else name for name in table.features}
        table = table.only([name for name, gene in of.items() if gene in genes.genes])
        if not table.features:
            raise none_listed(file, features)
    return table


def _is_tpm(layout: FeatureLayout, file: str) -> bool:
    """Whether a matrix holds TPM: by its name, or else its layout."""
    name = file.casefold()
    return "tpm" in name or ("rpkm" not in name and "fpkm" not in name and layout.lead[0] == "gene_id")


def _without_preamble(lines: Iterator[bytes], file: str) -> tuple[bytes, int | None]:
    """Return the line of the header, and how many rows the two lines say that a GCT begins with."""
    first = next(lines)
    if not first.startswith(_GCT):
        return first, None
    size = next(lines, b"").split()
    if len(size) < 2 or not size[0].isdigit():
        raise DataError([Finding("file_layout", file, "line 2 of a GCT must give its size; download it again")])
    return next(lines, b""), int(size[0])


def _layout(header: list[str], kind: Kind, file: str) -> FeatureLayout:
    names = tuple(map(plain, header))
    layout = next((each for each in LAYOUTS if names[: len(each.lead)] == each.lead), None)
    if layout is None:
        known = "; ".join(", ".join(each.lead) for each in LAYOUTS if each.kind == kind)
        message = f"begins with the columns {', '.join(header[:5])}; a {kind} file of the CCLE begins with {known}"
        raise DataError([Finding("file_layout", file, message)])
    if layout.kind != kind:
        raise DataError([Finding("file_layout", file, f"holds {layout.kind} of the CCLE, and is given as {kind}")])
    return layout


def _named(
    lines: Iterator[bytes], separator: bytes, layout: FeatureLayout, *, columns: list[str], names: list[str], file: str
) -> Iterator[Row]:
    """Yield the rows under their ids; add the name of each one's feature to ``names``."""
    for row, lead, values in split_rows(lines, separator, columns, file, len(layout.lead)):
        if not any(lead) and not values.replace(b"NaN", b"").replace(b"NA", b"").strip(separator):
            continue  # a last row without a name or a value, as the file of methylation has
        names.append(lead[layout.feature])
        yield row, lead[0], values


def _to_log_tpm(values: np.ndarray, lines: list[str], is_tpm: bool, file: str) -> str:
    """Turn expression of shape (genes, lines) into log2(TPM + 1), in place; return what was done."""
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    whole = all(bool((row == np.rint(row)).all()) for row in values)
    what = f"its values lie within {lowest:g} and {highest:g}"
    unit = "TPM" if is_tpm else "RPKM"
    refuse_unless(lowest >= 0, file, f"{what}; RPKM and TPM are not below 0")
    refuse_unless(highest > HIGHEST_LOG_TPM, file, f"{what}; they seem to be logarithms, give the file of RPKM or TPM")
    refuse_unless(not whole, file, "all values are whole, so it holds counts; give the file of RPKM or TPM")
    totals, highest_of = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for row in values:  # not at once: a copy of the whole without gaps is as large again
        totals += np.nan_to_num(row)
        np.maximum(highest_of, np.nan_to_num(row), out=highest_of)
    refuse_unless(bool((totals > 0).all()), file, "a cell line has no expression at all; download the file again")
    transcriptome = len(values) >= _TRANSCRIPTOME
    note = f"log2(TPM + 1), from the {unit} of the file"
    if is_tpm:
        _refuse_lines(totals > _MILLION[1], lines, file, "TPM add up to a million a line at most", totals)
        if transcriptome:
            _refuse_lines(
                (totals < 0.1 * np.median(totals)) | (highest_of <= HIGHEST_LOG_TPM),
                *(lines, file, "TPM add up to about a million a line", totals),
            )
        if not transcriptome or totals.min() < _MILLION[0]:
            note += (
                f", which add up to {totals.min():,.0f} to {totals.max():,.0f} a line and are not scaled to a million"
            )
    else:
        refuse_unless(
            transcriptome,
            file,
            f"holds RPKM of {len(values):,} genes; they make TPM only with all genes: give the whole file, or TPM",
        )
        _refuse_lines(highest_of <= HIGHEST_LOG_TPM, lines, file, "RPKM of some genes exceed 25 in each line", totals)
        values *= (1e6 / totals).astype(np.float32)
        note += ", scaled to a million a line"
    np.log1p(values, out=values)
    values /= np.float32(np.log(2))
    return note


def _refuse_lines(wrong: np.ndarray, lines: list[str], file: str, what: str, totals: np.ndarray) -> None:
    names = [line for line, at_fault in zip(lines, wrong, strict=True) if at_fault]
    shown = f"{totals[wrong].min():,.0f} to {totals[wrong].max():,.0f}" if names else ""
    message = (
        f"{what}; those of {len(names)} of {len(lines)} lines ({quoted(names)}) add up to {shown}: give TPM or RPKM"
    )
    refuse_unless(not names, file, message)
