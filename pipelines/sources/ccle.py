"""Matrices of the CCLE, the Cancer Cell Line Encyclopedia, with a feature a row (Ghandi et al., Nature 2019).

Columns are cell lines such as ``MCF7_BREAST``, after what describes a feature. The files are among all downloads of
https://depmap.org/portal/data_page (doi 10.1038/s41586-019-1186-3). Later releases of the CCLE, such as
``CCLE_expression.csv``, have a model a row and are read by `depmap`.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.errors import DataError, Finding
from pipelines.sources.archives import first_line, opened, text_lines
from pipelines.sources.depmap import to_relative
from pipelines.sources.matrices import Matrix, Row
from pipelines.sources.omics_table import GeneList, Omics, Wanted, none_wanted, refuse_unless
from pipelines.sources.tables import plain
from pipelines.text_values import quoted
from pipelines.units import HIGHEST_LOG_TPM, CopyNumberScale, methylation_doubt


class FeatureLayout(NamedTuple):
    """The `plain` names of the columns before the cell lines: the first is an id; ``feature`` names the feature."""

    kind: str
    lead: tuple[str, ...]
    feature: int = 0


LAYOUTS = (
    FeatureLayout("expression", ("name", "description"), 1),  # CCLE_RNAseq_genes_rpkm_20180929.gct.gz
    FeatureLayout("expression", ("gene_id", "transcript_ids")),  # CCLE_RNAseq_rsem_genes_tpm_20180929.txt.gz
    FeatureLayout("methylation", ("locus_id", "cpg_sites_hg19", "avg_coverage")),  # CCLE_RRBS_TSS1kb_20181022.txt.gz
    # CCLE_copynumber_byGene_2013-12-03.txt
    FeatureLayout("copy_number", ("egid", "symbol", "chr", "chrloc", "chrlocend"), 1),
)
_GCT = b"#1."
_TRANSCRIPTOME = 10_000  # genes whose expression is nearly all that a line has
_MILLION = (9e5, 1.02e6)  # what TPM of a transcriptome add up to, which may lack its rarer kinds of genes


def is_by_feature(path: Path) -> bool:
    """Return whether a file has a feature a row: GCT, or one of `LAYOUTS`."""
    first = first_line(path)
    name = plain(first.decode(errors="replace").split("\t", 1)[0])
    return first.startswith(_GCT) or any(name == each.lead[0] for each in LAYOUTS)


def read(path: Path, kind: str, wanted: Wanted, genes: GeneList, scale: CopyNumberScale | None = None) -> Omics:
    """Read a matrix of the CCLE: ``expression``, ``methylation`` or ``copy_number``.

    Expression becomes log2(TPM + 1). RPKM are scaled to a million a line over all genes of the file, which makes TPM of
    them (Li and Dewey 2011, doi 10.1186/1471-2105-12-323) if these are a transcriptome; TPM stay, also those of some
    genes. Copy numbers, log2(relative), become relative. Methylation stays the share of methylated reads near the start
    of transcription; a site is of the gene that its name begins with (``TP53_17_7589868_7590868``).
    """
    file = path.name
    names: list[str] = []
    with opened(path) as stream:
        rest = text_lines(stream, path)
        first, size = _without_preamble(rest, file)
        matrix = Matrix(chain([first], rest), file)
        layout = _layout(matrix.header, kind, file)
        matrix.lead = len(layout.lead)
        lines = matrix.columns
        keep = np.array([wanted(line) for line in lines], bool)
        if not keep.any():
            raise none_wanted(file, lines)

        def rows() -> Iterator[Row]:
            for row, lead, values in matrix.rows():
                if any(lead) or values.replace(b"NaN", b"").replace(b"NA", b"").strip(matrix.separator):
                    names.append(lead[layout.feature])
                    yield row, lead[0], values  # not a last row without name and values, as the file of methylation has

        found, values = matrix.read(rows(), keep=keep, unit="feature")
    if size not in (None, len(found)):
        message = f"says that it has {size} rows and has {len(found)}; it is cut short, download it again"
        raise DataError([Finding("file_layout", file, message)])
    kept = [line for line, keeps in zip(lines, keep, strict=True) if keeps]
    scale = scale or "log2_ratio"
    note = f"relative copy numbers; the file's scale is {scale}"
    if kind == "expression":
        by_name = {unit for unit in ("tpm", "rpkm", "fpkm") if unit in file.casefold()}
        is_tpm = "tpm" in by_name if by_name else layout.lead[0] == "gene_id"
        note = _to_log_tpm(values, kept, is_tpm, file)
    elif kind == "methylation":
        note = "shares of methylated reads, as in the file"
    table = Omics.of(file, kept, list(map(genes.symbol, names)), values.T, note)
    if kind == "methylation":
        table = table.checked(methylation_doubt, "give shares of methylated reads, from 0 to 1")
    if kind == "copy_number":
        table = to_relative(table, scale)
    return table.listed(genes)


def _without_preamble(lines: Iterator[bytes], file: str) -> tuple[bytes, int | None]:
    """Return the line of the header, and how many rows the two lines say that a GCT begins with."""
    first = next(lines)
    if not first.startswith(_GCT):
        return first, None
    size = next(lines, b"").split()
    if len(size) < 2 or not size[0].isdigit():
        raise DataError([Finding("file_layout", file, "line 2 of a GCT must give its size; download it again")])
    return next(lines, b""), int(size[0])


def _layout(header: list[str], kind: str, file: str) -> FeatureLayout:
    names = tuple(map(plain, header))
    layout = next((each for each in LAYOUTS if names[: len(each.lead)] == each.lead), None)
    if layout is None:
        known = "; ".join(", ".join(each.lead) for each in LAYOUTS if each.kind == kind)
        message = f"begins with the columns {', '.join(header[:5])}; a {kind} file of the CCLE begins with {known}"
        raise DataError([Finding("file_layout", file, message)])
    if layout.kind != kind:
        raise DataError([Finding("file_layout", file, f"holds {layout.kind} of the CCLE, and is given as {kind}")])
    return layout


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
    transcriptome = len(values) >= _TRANSCRIPTOME
    low = highest_of <= HIGHEST_LOG_TPM
    wrong = totals == 0
    if is_tpm:
        wrong |= (totals > _MILLION[1]) | (transcriptome & (low | (totals < 0.1 * np.median(totals))))
    else:
        many = f"holds RPKM of {len(values):,} genes; they make TPM only with all genes: give the whole file, or TPM"
        refuse_unless(transcriptome, file, many)
        wrong |= low
    names = [line for line, at_fault in zip(lines, wrong, strict=True) if at_fault]
    sums = f"{totals[wrong].min():,.0f} to {totals[wrong].max():,.0f}" if names else ""
    message = f"{unit} add up to about a million a line and exceed {HIGHEST_LOG_TPM:g} in some genes; those of "
    message += f"{len(names)} of {len(lines)} lines ({quoted(names)}) do not, they add up to {sums}: give TPM or RPKM"
    refuse_unless(not names, file, message)
    note = f"log2(TPM + 1), from the {unit} of the file"
    if not is_tpm:
        values *= (1e6 / totals).astype(np.float32)
        note += ", scaled to a million a line"
    elif not transcriptome or totals.min() < _MILLION[0]:
        note += f", which add up to {totals.min():,.0f} to {totals.max():,.0f} a line and are not scaled to a million"
    np.log1p(values, out=values)
    values /= np.float32(np.log(2))
    return note
