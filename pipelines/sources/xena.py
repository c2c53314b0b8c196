"""Matrices of UCSC Xena (https://xenabrowser.net): genes in rows, samples in columns, log2(x + 1), often gzipped."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.faults import UserError
from pipelines.sources.expression_folder import (
    BLOCK_BYTES,
    Expression,
    gene_table,
    opened,
    read_annotation,
    read_header,
    read_rows,
    tcga,
    without_missing,
)

SAMPLE = "sample"
LABELS = ("_primary_disease", "primary_disease", "primary disease", "cancer type abbreviation")
PATIENT = "_PATIENT"


def read(
    matrix: Path, phenotype: Path, *, label: str | None = None, patient: str | None = None, block: int = BLOCK_BYTES
) -> Expression:
    """Read a matrix and give every sample its label and patient from the phenotype table.

    Values stay as they are. Those below zero, which log2(x + 1) has none of, are counted: the matrix may have another
    offset, such as log2(x + 0.001). Samples without a label, and genes without a value in any sample, are dropped and
    listed.

    Parameters
    ----------
    matrix
        First column ``sample``, which bears the genes; tsv, also gzipped.
    phenotype
        Table with the column ``sample``.
    label
        Column of the class; without it the first there is of `LABELS`.
    patient
        Column of the patient. Without it ``_PATIENT`` where the table has that; else, and in its empty cells, the first
        twelve characters of a TCGA barcode; any other sample stands for its patient.
    block
        Bytes of text that are parsed at once.

    Returns
    -------
    Expression
        Values of shape (samples, genes); ``sample_type`` where all samples have TCGA barcodes.

    Raises
    ------
    UserError
        A file is not of the layout, contradicts itself, or the two have no labeled sample in common.
    """

    def columns(header: Collection[str]) -> tuple[str, ...]:
        chosen = label or next((name for name in LABELS if name in header), None)
        if chosen is None:
            raise UserError(f"{phenotype.name}: has no column {' or '.join(LABELS)}; name that of the class")
        of = (patient,) if patient else (PATIENT,) if PATIENT in header else ()
        return SAMPLE, chosen, *of

    known = read_annotation(phenotype, columns)
    with opened(matrix) as stream:
        names = read_header(stream, matrix.name, SAMPLE)
        labels = [known.get(name, ("",))[0] for name in names]
        keep = np.array([found != "" for found in labels])
        if not keep.any():
            raise UserError(f"{phenotype.name}: has no label for any sample of {matrix.name}; is it the right table?")
        genes, values = read_rows(stream, names, matrix.name, keep=keep, block=block)
    genes, values, missing = without_missing(genes, values)
    kept = [name for name, found in zip(names, labels, strict=True) if found]
    barcodes = [tcga(name) for name in kept]
    patients = [
        (known[name][1] if len(known[name]) > 1 else "") or (parts[0] if parts else name)
        for name, parts in zip(kept, barcodes, strict=True)
    ]
    samples = pd.DataFrame({"sample_id": kept, "patient_id": patients, "label": [found for found in labels if found]})
    if all(barcodes):
        samples["sample_type"] = [parts[1] for parts in barcodes if parts]
    dropped = {
        "samples without a label in the phenotype table": [
            name for name, found in zip(names, labels, strict=True) if not found
        ],
        "genes without a value in any sample": missing,
    }
    negative = sum(np.count_nonzero(row < 0) for row in values)
    return Expression(
        values.T,
        genes,
        samples,
        gene_table(genes),
        {why: left for why, left in dropped.items() if left},
        (f"{negative} values are below 0, which log2(x + 1) never is; they stay as they are",) if negative else (),
    )
