"""Matrices of the CCLE with a feature a row and columns such as ``MCF7_BREAST`` (Ghandi et al., Nature 2019).

Later releases, such as ``CCLE_expression.csv``, have a model a row and are read by `depmap`.
"""

from collections.abc import Iterator
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
    FeatureLayout("expression", ("gene_id", "transcript_ids")),  # CCLE_RNAseq_rsem_genes_tpm_20180929.txt.gz
    FeatureLayout("methylation", ("locus_id", "cpg_sites_hg19", "avg_coverage")),  # CCLE_RRBS_TSS1kb_20181022.txt.gz
    # CCLE_copynumber_byGene_2013-12-03.txt
    FeatureLayout("copy_number", ("egid", "symbol", "chr", "chrloc", "chrlocend"), 1),
)
_TRANSCRIPTOME = 10_000  # genes whose expression is nearly all that a line has
_MILLION = (9e5, 1.02e6)  # what TPM of a transcriptome add up to, which may lack its rarer kinds of genes


def is_by_feature(path: Path) -> bool:
    """Return whether a file is of one of `LAYOUTS`, or of their older kind, which `read` refuses."""
    if _is_rpkm(path.name):
        return True
    name = plain(first_line(path).decode(errors="replace").split("\t", 1)[0])
    return any(name == each.lead[0] for each in LAYOUTS)


def _is_rpkm(file: str) -> bool:
    name = file.casefold()
    return ".gct" in name or ("pkm" in name and "tpm" not in name)


def read(path: Path, kind: str, wanted: Wanted, genes: GeneList, scale: CopyNumberScale | None = None) -> Omics:
    """Read ``expression``, which becomes log2(TPM + 1), ``methylation``, or ``copy_number``, which becomes relative."""
    file = path.name
    refuse_unless(not _is_rpkm(file), file, "holds RPKM by its name; give the TPM, CCLE_RNAseq_rsem_genes_tpm_*.txt.gz")
    names: list[str] = []
    with opened(path) as stream:
        matrix = Matrix(text_lines(stream, path), file)
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

        _, values = matrix.read(rows(), keep=keep, unit="feature")
    kept = [line for line, keeps in zip(lines, keep, strict=True) if keeps]
    scale = scale or "log2_ratio"
    note = f"relative copy numbers; the file's scale is {scale}"
    if kind == "expression":
        note = _to_log_tpm(values, kept, file)
    elif kind == "methylation":
        note = "shares of methylated reads, as in the file"
    table = Omics.of(file, kept, list(map(genes.symbol, names)), values.T, note)
    if kind == "methylation":
        table = table.checked(methylation_doubt, "give shares of methylated reads, from 0 to 1")
    if kind == "copy_number":
        table = to_relative(table, scale)
    return table.listed(genes)


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


def _to_log_tpm(values: np.ndarray, lines: list[str], file: str) -> str:
    """Turn TPM of shape (genes, lines) into log2(TPM + 1), in place; return what was done."""
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    whole = all(bool((row == np.rint(row)).all()) for row in values)
    what = f"its values lie within {lowest:g} and {highest:g}"
    refuse_unless(lowest >= 0, file, f"{what}; TPM are not below 0")
    refuse_unless(highest > HIGHEST_LOG_TPM, file, f"{what}; they seem to be logarithms, give the file of TPM")
    refuse_unless(not whole, file, "all values are whole, so it holds counts; give the file of TPM")
    totals, highest_of = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for row in values:  # not at once: a copy of the whole without gaps is as large again
        totals += np.nan_to_num(row)
        np.maximum(highest_of, np.nan_to_num(row), out=highest_of)
    transcriptome = len(values) >= _TRANSCRIPTOME
    low = (highest_of <= HIGHEST_LOG_TPM) | (totals < 0.1 * np.median(totals))
    wrong = (totals == 0) | (totals > _MILLION[1]) | (transcriptome & low)
    names = [line for line, at_fault in zip(lines, wrong, strict=True) if at_fault]
    sums = f"{totals[wrong].min():,.0f} to {totals[wrong].max():,.0f}" if names else ""
    message = f"TPM add up to about a million a line and exceed {HIGHEST_LOG_TPM:g} in some genes; those of "
    message += f"{len(names)} of {len(lines)} lines ({quoted(names)}) do not, they add up to {sums}: give TPM"
    refuse_unless(not names, file, message)
    np.log1p(values, out=values)
    values /= np.float32(np.log(2))
    note = "log2(TPM + 1), from the TPM of the file"
    if transcriptome and totals.min() >= _MILLION[0]:
        return note
    return f"{note}, which add up to {totals.min():,.0f} to {totals.max():,.0f} a line and are not scaled to a million"
