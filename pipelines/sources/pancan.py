"""The PanCanAtlas expression matrix (GDC, https://gdc.cancer.gov/about-data/publications/pancanatlas), and UCI's part.

The matrix is linear and adjusted for batches. Cohorts are in ``TCGA-CDR-SupplementalTableS1`` (Liu et al., Cell 2018,
doi 10.1016/j.cell.2018.02.052), or in ``clinical_PANCAN_patient_with_followup.tsv``. The UCI set "gene expression
cancer RNA-Seq" (doi 10.24432/C5R88H) has 801 samples of five cohorts under made-up names. It names no patients: each
sample is taken for its own, so two samples of one person cannot be held together.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.archives import opened, text_lines
from pipelines.sources.expression_folder import Expression, barcodes, read_labeled, tcga
from pipelines.sources.matrices import Matrix
from pipelines.sources.raw_folder import refuse_no_folder, visible
from pipelines.sources.tables import Layout, read_official, refuse_duplicates
from pipelines.text_values import quoted
from pipelines.units import expression_scale

MATRIX = "EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2*.geneExp.tsv*"  # -v2 in the newer manifest; maybe gzipped
CLINICAL = (
    "TCGA-CDR-SupplementalTableS1*.[ct]sv*",  # a saved sheet before the workbook, whose other sheets may fit too
    "TCGA-CDR-SupplementalTableS1*",
    "clinical_PANCAN_patient_with_followup.tsv*",
)
_CLINICAL = Layout(
    "clinical table of PanCanAtlas",
    {"patient": ("bcr_patient_barcode",), "cohort": ("acronym", "type")},
    needed=("patient", "cohort"),
    only=True,
)
DATA, LABELS = "data.csv", "labels.csv"
CLASSES = ("BRCA", "COAD", "KIRC", "LUAD", "PRAD")
SAMPLE = ("sample", "Unnamed: 0", "")
_LABELS = Layout("table of labels", {"sample": SAMPLE, "label": ("Class",)}, needed=("sample", "label"), only=True)
_NEGATIVE, _FEW = 0.2, 500  # share of values below zero that no adjustment for batches leaves; fewer values may be any


def find(folder: Path) -> tuple[Path, Path]:
    """Return the only matrix and clinical table below ``folder``, by their official names."""
    refuse_no_folder(folder)
    tables = next((found for name in CLINICAL if (found := visible(folder, name))), [])
    matrices = visible(folder, MATRIX)
    for found, name in ((matrices, MATRIX), (tables, " or ".join(CLINICAL))):
        if len(found) != 1:
            raise UserError(
                f"{folder}: must hold one {name}, and holds {quoted(path.name for path in found) or 'none'}"
            )
    return matrices[0], tables[0]


def read(matrix: Path, clinical: Path) -> Expression:
    """Read the matrix (genes such as ``TP53|7157`` in rows) and give every sample its patient's cohort."""
    notes: list[str] = []
    table = read_official(clinical, _CLINICAL, notes)
    table.frame["patient"] = barcodes("patients", table.frame["patient"], notes)
    cohorts = table.keyed("patient")["cohort"]
    with opened(matrix) as stream:
        expression = Matrix(text_lines(stream, matrix), matrix.name, ("gene_id",))
        given = expression.columns
        names = barcodes("barcodes", given, notes)
        expression.header[1:] = names
        refuse_duplicates(names, matrix.name)
        if wrong := [name for name, read in zip(given, names, strict=True) if tcga(read) is None]:
            message = f"{quoted(wrong)} is no TCGA barcode, such as TCGA-OR-A5J1-01A-11R-A29S-07"
            raise DataError([Finding("column_name", matrix.name, message)])
        parts = [tcga(name) or ("", 0) for name in names]
        patients = [patient for patient, _ in parts]
        labels = cohorts.reindex(patients).fillna("").tolist()
        samples = pd.DataFrame({"sample_id": names, "patient_id": patients, "label": labels})
        samples["sample_type"] = [kind for _, kind in parts]
        read = read_labeled(expression, samples, hint=f"is {clinical.name} the right table?")
    below = []  # the adjustment for batches leaves values below zero, which no expression is
    for row in read.values.T:
        below.append(np.count_nonzero(row < 0))
        row[row < 0] = 0
    negative, genes = sum(below), np.count_nonzero(below)
    if negative > _NEGATIVE * read.values.size > _NEGATIVE * _FEW:
        message = f"{negative / read.values.size:.0%} of the values are below 0; the matrix of PanCanAtlas is linear, "
        message += "and these look like log ratios or standardized values: take the official file"
        raise DataError([Finding("values", matrix.name, message)])
    scale, why = expression_scale(read.values)
    if scale != "linear":
        notes.append(f"warning: the matrix of PanCanAtlas is linear, and this may be another: {why}")
    if negative:
        notes.append(f"{negative} values below 0, of {genes} genes, were set to 0")
    return replace(read, notes=tuple(notes))


def read_uci(folder: Path) -> Expression:
    """Read UCI's ``data.csv`` and the ``labels.csv`` beside it, wherever they are below ``folder``."""
    refuse_no_folder(folder)
    notes: list[str] = []
    found = [(path, table) for path in visible(folder, f"{DATA}*") for table in visible(path.parent, f"{LABELS}*")]
    if not found:
        raise UserError(f"{folder}: no folder in it holds {DATA} and {LABELS}; unpack the archive there")
    data, table = found[0]
    labels = read_official(table, _LABELS, notes).keyed("sample")["label"].str.upper()
    if len(wrong := labels[~labels.isin([*CLASSES, ""])]):
        message = (
            f"{quoted(wrong.unique())} is none of {', '.join(CLASSES)}; correct the label of {quoted(wrong.index)}"
        )
        raise DataError([Finding("label_known", LABELS, f"{message}, or leave its cell empty", "Class")])
    with opened(data) as stream:
        expression = Matrix(text_lines(stream, data), DATA, SAMPLE)
        names, values = expression.read(unit="sample")
    if differing := sorted(set(names) ^ set(labels.index)):
        raise UserError(f"{quoted(differing)}: is in one of {DATA} and {LABELS} alone; write samples alike in both")
    labels = labels.loc[names]
    unknown = (labels == "").to_numpy()
    samples = pd.DataFrame({"sample_id": names, "patient_id": names, "label": labels.tolist()})
    dropped = {"samples without a label": labels.index[unknown].tolist()} if unknown.any() else {}
    genes = expression.columns
    return Expression(values[~unknown], genes, samples[~unknown], dropped=dropped, notes=tuple(notes))
