"""The PanCanAtlas expression matrix (GDC, https://gdc.cancer.gov/about-data/publications/pancanatlas).

``EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2.geneExp.tsv`` holds 20,531 genes of 11,069 samples on the linear scale,
adjusted for batches. Cohorts are in ``TCGA-CDR-SupplementalTableS1``, saved as csv or tsv (Liu et al., Cell 2018,
doi 10.1016/j.cell.2018.02.052), or in ``clinical_PANCAN_patient_with_followup.tsv``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.archives import opened, text_lines
from pipelines.sources.expression_folder import Expression, barcode, gene_table, read_barcodes, rewritten, tcga
from pipelines.sources.matrices import BLOCK_BYTES, read_header, read_rows, without_missing
from pipelines.sources.raw_folder import visible
from pipelines.sources.tables import column_of, read_annotation
from pipelines.text_values import quoted
from pipelines.units import expression_scale

MATRIX = "EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2*.geneExp.tsv*"  # -v2 in the newer manifest; maybe gzipped
CLINICAL = ("TCGA-CDR-SupplementalTableS1*.[ct]sv*", "clinical_PANCAN_patient_with_followup.tsv*")
PATIENT = "bcr_patient_barcode"
COHORTS = ("acronym", "type")
WORKBOOK = "TCGA-CDR-SupplementalTableS1*.xls*"
_NEGATIVE, _FEW = 0.2, 500  # share of values below zero that no adjustment for batches leaves; fewer values may be any


def find(folder: Path) -> tuple[Path, Path]:
    """Return the only matrix and clinical table below ``folder``, by their official names."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    matrices = visible(folder, [MATRIX])
    tables = next((found for name in CLINICAL if (found := visible(folder, [name]))), [])
    if not tables and (books := visible(folder, [WORKBOOK])):
        raise UserError(f"{books[0]}: is a workbook; save its sheet TCGA-CDR as TCGA-CDR-SupplementalTableS1.csv")
    for found, name in ((matrices, MATRIX), (tables, " or ".join(CLINICAL))):
        if len(found) != 1:
            raise UserError(
                f"{folder}: must hold one {name}, and holds {quoted(path.name for path in found) or 'none'}"
            )
    return matrices[0], tables[0]


def read(matrix: Path, clinical: Path, *, block: int = BLOCK_BYTES) -> Expression:
    """Read the matrix and give every sample its patient's cohort.

    The adjustment for batches leaves values below zero, which no expression is: they are set to 0, and counted. Missing
    values stay NaN. Genes without a value in any sample, and samples whose patient has no cohort, are dropped and
    listed. A sample of normal tissue (``sample_type`` 11) has the cohort of its patient too.

    Parameters
    ----------
    matrix
        Genes such as ``TP53|7157`` in rows, samples by their barcode in columns; linear.
    clinical
        Table with ``bcr_patient_barcode`` and ``acronym`` or ``type``.
    block
        Bytes of text that are parsed at once.

    Raises
    ------
    UserError
        A file is not of the layout, contradicts itself, or the two have no patient in common.
    """
    notes: list[str] = []
    cohorts = _cohorts(clinical, notes)
    with opened(matrix) as stream:
        lines = text_lines(stream, matrix)
        given, separator = read_header(lines, matrix.name, ("gene_id",))
        barcodes = read_barcodes(given, matrix.name, notes)
        known = [tcga(name) for name in barcodes]
        if wrong := [name for name, parts in zip(given, known, strict=True) if parts is None]:
            message = f"{quoted(wrong)} is no TCGA barcode, such as TCGA-OR-A5J1-01A-11R-A29S-07"
            raise DataError([Finding("column_name", matrix.name, message)])
        rows = [
            (name, patient, cohorts.get(patient, ""), kind)
            for name, (patient, kind) in zip(barcodes, filter(None, known), strict=True)
        ]
        keep = np.array([cohort != "" for _, _, cohort, _ in rows])
        if not keep.any():
            raise UserError(f"{clinical.name}: has no cohort for any sample of {matrix.name}; is it the right table?")
        unnamed: list[str] = []
        names, values = read_rows(
            lines, barcodes, matrix.name, separator=separator, keep=keep, block=block, no_genes=unnamed
        )
    negative, genes = _clip(values)
    if negative > _NEGATIVE * values.size > _NEGATIVE * _FEW:
        message = f"{negative / values.size:.0%} of the values are below 0; the matrix of PanCanAtlas is linear, "
        message += "and these look like log ratios or standardized values: take the official file"
        raise DataError([Finding("values", matrix.name, message)])
    scale, why = expression_scale(values)
    if scale != "linear":
        notes.append(f"warning: the matrix of PanCanAtlas is linear, and this may be another: {why}")
    if negative:
        notes.append(f"{negative} values below 0, of {genes} genes, were set to 0")
    names, values, missing = without_missing(names, values)
    dropped = {
        "samples without a cohort in the clinical table": [row[0] for row in rows if not row[2]],
        "rows that are no genes": unnamed,
        "genes without a value in any sample": missing,
    }
    samples = pd.DataFrame([row for row in rows if row[2]], columns=["sample_id", "patient_id", "label", "sample_type"])
    return Expression(
        values.T,
        names,
        samples,
        gene_table(names),
        {why: left for why, left in dropped.items() if left},
        tuple(notes),
    )


def _cohorts(clinical: Path, notes: list[str]) -> dict[str, str]:
    """Return the cohort of each patient that has one."""

    def columns(header: Sequence[str]) -> tuple[str, str]:
        return PATIENT, column_of(header, COHORTS) or COHORTS[-1]

    table = read_annotation(clinical, columns, notes)
    patients = [barcode(patient) for patient in table]
    notes += rewritten("patients", list(table), patients)
    cohorts: dict[str, str] = {}
    for patient, (cohort,) in zip(patients, table.values(), strict=True):
        if cohort and cohorts.setdefault(patient, cohort) != cohort:
            message = f"{patient} is {cohorts[patient]!r} and {cohort!r}; give the patient one cohort"
            raise DataError([Finding("key_unique", clinical.name, message)])
    return cohorts


def _clip(values: np.ndarray) -> tuple[int, int]:
    """Set values below zero to 0 in place; return how many there were, and of how many rows."""
    values_below = genes_below = 0
    for row in values:  # not at once: a mask of the whole is another quarter of its memory
        below = row < 0
        if count := int(np.count_nonzero(below)):
            row[below] = 0
            values_below += count
            genes_below += 1
    return values_below, genes_below
