"""Matrices of UCSC Xena (https://xenabrowser.net): genes in rows, samples in columns, log2(x + 1), often gzipped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.sources.archives import opened, text_lines
from pipelines.sources.expression_folder import (
    Expression,
    barcode,
    gene_table,
    read_barcodes,
    rewritten,
    stand_alone,
    tcga,
)
from pipelines.sources.matrices import BLOCK_BYTES, read_header, read_rows, without_missing
from pipelines.sources.tables import column_of, read_annotation
from pipelines.text_values import folded, quoted

GENE = ("sample", "Ensembl_ID", "gene", "id", "sampleID", "gene_id", "gene_name", "symbol", "Gene Symbol", "xena_id",
        "miRNA_ID", "probe", "")  # fmt: skip
"""What the first column of a matrix may be called; in those of the GDC hub it is ``Ensembl_ID``."""
SAMPLE = ("sample", "sampleID", "submitter_id.samples", "sample_submitter_id", "sample_id", "sample.submitter_id", "id")
LABELS = ("_primary_disease", "primary_disease", "cancer type abbreviation", "project_id", "project_id.project",
          "disease_type", "disease_type.project", "primary_site")  # fmt: skip
PATIENT = "_PATIENT"
PATIENTS = ("submitter_id", "case_submitter_id", "cases.submitter_id", "bcr_patient_barcode", PATIENT)
"""What a table of patients, which has no column of `SAMPLE`, may call them."""


def read(
    matrix: Path, phenotype: Path, *, label: str | None = None, patient: str | None = None, block: int = BLOCK_BYTES
) -> Expression:
    """Read a matrix and give every sample its label and patient from the phenotype table.

    Values stay as they are. Those below zero, which log2(x + 1) has none of, are counted: the matrix may have another
    offset, such as log2(x + 0.001). Samples without a label, genes without a value in any sample, and rows that are no
    genes are dropped and listed. Samples of the two files are one where their names differ in case or punctuation, or
    one barcode has the vial (``-01A``) that the other leaves out; such are counted.

    Parameters
    ----------
    matrix
        Its first column, as in `GENE`, holds the genes.
    phenotype
        Table with a column as in `SAMPLE`, such as ``sample`` or ``submitter_id.samples``; else as in `PATIENTS`.
    label
        Column of the class; without it the first there is of `LABELS`.
    patient
        Column of the patient. Without it ``_PATIENT`` where the table has that; else, and in its empty cells, the first
        twelve characters of a TCGA barcode; any other sample is taken for its own patient.
    block
        Bytes of text that are parsed at once.

    Raises
    ------
    UserError
        A file is not of the layout, contradicts itself, or the two have no labeled sample in common.
    """

    notes: list[str] = []

    def columns(header: Sequence[str]) -> tuple[str, ...]:
        chosen = label or column_of(header, LABELS)
        if chosen is None:
            message = f"has no column {' or '.join(LABELS)}; name that of the class with --label"
            raise UserError(f"{phenotype.name}: {message}: it has {quoted(header, 20)}")
        of = patient or column_of(header, [PATIENT])
        if not label:
            notes.append(f"the label is column {chosen!r} of {phenotype.name}; --label names another")
        return column_of(header, (*SAMPLE, *PATIENTS)) or SAMPLE[0], chosen, *((of,) if of else ())

    table = read_annotation(phenotype, columns, notes)
    with opened(matrix) as stream:
        lines = text_lines(stream, matrix)
        given, separator = read_header(lines, matrix.name, GENE)
        names = read_barcodes(given, matrix.name, notes)
        rows, differing = _joined(names, table, notes)
        labels = [row[0] for row in rows]
        keep = np.array([found != "" for found in labels])
        if not keep.any():
            message = f"has no label for any sample of {matrix.name}; is it the right table? It has {quoted(table, 3)}"
            todo = "where samples are its rows, transpose it"
            raise UserError("; ".join([f"{phenotype.name}: {message}, the matrix {quoted(names, 3)}", todo, *notes]))
        unnamed: list[str] = []
        genes, values = read_rows(
            lines, names, matrix.name, separator=separator, keep=keep, block=block, no_genes=unnamed
        )
    genes, values, missing = without_missing(genes, values)
    kept = [name for name, found in zip(names, labels, strict=True) if found]
    barcodes = [tcga(name) for name in kept]
    given = [row[1] if len(row) > 1 else "" for row in rows if row[0]]
    read = [barcode(name) for name in given]
    notes += rewritten("patients", given, read)
    patients = [of or (parts[0] if parts else "") for of, parts in zip(read, barcodes, strict=True)]
    patients, alone = stand_alone(patients, kept)
    samples = pd.DataFrame({"sample_id": kept, "patient_id": patients, "label": [found for found in labels if found]})
    if all(barcodes):
        samples["sample_type"] = [parts[1] for parts in barcodes if parts]
    dropped = {
        "samples that the phenotype table describes in several ways": differing,
        "samples without a label in the phenotype table": [
            name for name, found in zip(names, labels, strict=True) if not found and name not in {*differing}
        ],
        "rows that are no genes": unnamed,
        "genes without a value in any sample": missing,
    }
    if negative := sum(np.count_nonzero(row < 0) for row in values):
        notes.append(f"{negative} values are below 0, which log2(x + 1) never is; they stay as they are")
    return Expression(
        values.T,
        genes,
        samples,
        gene_table(genes),
        {why: left for why, left in dropped.items() if left},
        (*notes, *alone),
    )


Row = tuple[str, ...]


def _joined(names: Sequence[str], table: Mapping[str, Row], notes: list[str]) -> tuple[list[Row], list[str]]:
    """Return each sample's row of the table, ``("",)`` where there is none, and the samples with several."""
    ways: dict[str, Callable[[str], str]] = {
        "": str,
        "whose names differ in case or punctuation": _alike,
        "whose barcodes differ in the vial or the aliquot": _sample_of,
        "by their patient": _patient_of,
    }
    indices: list[dict[str, set[str]]] = []
    for way in ways.values():
        index: dict[str, set[str]] = defaultdict(set)
        for key in table:
            index[way(barcode(key))].add(key)
        indices.append(index)
    rows, several = [], []
    by_way: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in names:
        row: Row = ("",)
        for (why, way), index in zip(ways.items(), indices, strict=True):
            keys = {key for key in index.get(way(name), ()) if not why or _may_be_one(name, barcode(key))}
            if keys:
                found = {table[key] for key in keys}
                if len(found) == 1:
                    (row,) = found
                    by_way[why].append((name, min(keys)))
                else:
                    several.append(name)
                break
        rows.append(row)
    for why, pairs in by_way.items():
        if why:
            name, key = pairs[0]
            notes.append(f"{len(pairs)} samples are found {why}, such as {name!r} in the row {key!r}")
    return rows, several


def _alike(name: str) -> str:
    return folded(name).replace(".", "-").replace("_", "-")


def _sample_of(name: str) -> str:
    return name[:15] if tcga(name) else name


def _patient_of(name: str) -> str:
    return name[:12] if tcga(name) else name


def _may_be_one(name: str, key: str) -> bool:
    """Return whether neither of two barcodes of a sample contradicts the other, such as ``-01A`` and ``-01B``."""
    short, long = sorted((name, key), key=len)
    return not (tcga(name) and tcga(key)) or long.startswith(short) or name[:16] == key[:16]
