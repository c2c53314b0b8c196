"""Matrices of UCSC Xena (https://xenabrowser.net): genes in rows, samples in columns, log2(x + 1), often gzipped."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.sources.archives import opened, text_lines
from pipelines.sources.expression_folder import Expression, barcode, barcodes, read_labeled, stand_alone, tcga
from pipelines.sources.matrices import Matrix
from pipelines.sources.tables import Layout, read_official, refuse_duplicates
from pipelines.text_values import folded, quoted

GENE = ("sample", "Ensembl_ID", "gene", "id", "sampleID", "gene_id", "gene_name", "symbol", "Gene Symbol", "xena_id",
        "miRNA_ID", "probe", "")  # fmt: skip
"""What the first column of a matrix may be called; in those of the GDC hub it is ``Ensembl_ID``."""
SAMPLE = ("sample", "sampleID", "submitter_id.samples", "sample_submitter_id", "sample_id", "sample.submitter_id", "id",
          "submitter_id", "case_submitter_id", "cases.submitter_id", "bcr_patient_barcode", "_PATIENT")  # fmt: skip
"""What a table of samples calls them; and a table of patients, which has none of the first seven columns."""
LABELS = ("_primary_disease", "primary_disease", "cancer type abbreviation", "project_id", "project_id.project",
          "disease_type", "disease_type.project", "primary_site")  # fmt: skip


def read(matrix: Path, phenotype: Path, *, label: str | None = None, patient: str | None = None) -> Expression:
    """Read a matrix and give every sample its label and patient from the phenotype table; values stay as they are.

    ``label`` names the column of the class, by default the first there is of `LABELS`; ``patient`` that of the patient,
    by default ``_PATIENT``. Where it is empty, the patient is that of a TCGA barcode, or the sample.
    """
    notes: list[str] = []
    layout = Layout(
        "phenotype table, with the class in the column of --label",
        {"sample": SAMPLE, "label": (label,) if label else LABELS, "patient": (patient or "_PATIENT",)},
        needed=["sample", "label", *(["patient"] if patient else [])],
        only=True,
    )
    table = read_official(phenotype, layout, notes)
    if not label:
        notes.append(f"the label is column {table.written['label']!r} of {phenotype.name}; --label names another")
    keyed = table.keyed("sample")[["label", "patient"]]
    described = dict(zip(keyed.index, keyed.itertuples(index=False, name=None), strict=True))
    with opened(matrix) as stream:
        expression = Matrix(text_lines(stream, matrix), matrix.name, GENE)
        names = barcodes("barcodes", expression.columns, notes)
        expression.header[1:] = names
        refuse_duplicates(names, matrix.name)
        rows = [{described[key] for key in keys} for keys in _same_samples(names, described, notes)]
        labels, patients = zip(*(next(iter(of)) if len(of) == 1 else ("", "") for of in rows), strict=True)
        differing = [name for name, of in zip(names, rows, strict=True) if len(of) > 1]
        samples = pd.DataFrame({"sample_id": names, "patient_id": patients, "label": labels})
        read = read_labeled(
            expression,
            samples,
            hint=f"{phenotype.name} describes {quoted(described, 3)}: is it the right table? "
            "Where samples are the rows of the matrix, transpose it",
            dropped={"samples that the phenotype table describes in several ways": differing},
        )
    samples = read.samples
    parts = [tcga(name) for name in samples["sample_id"]]
    known = barcodes("patients", samples["patient_id"], notes)
    known = [of or (part[0] if part else "") for of, part in zip(known, parts, strict=True)]
    if negative := sum(np.count_nonzero(row < 0) for row in read.values.T):  # of another offset, such as 0.001
        notes.append(f"{negative} values are below 0, which log2(x + 1) never is; they stay as they are")
    samples = samples.assign(patient_id=stand_alone(known, samples["sample_id"], notes))
    if all(parts):
        samples["sample_type"] = [part[1] for part in parts if part]
    return replace(read, samples=samples, notes=tuple(notes))


def _same_samples(names: Sequence[str], keys: Iterable[str], notes: list[str]) -> list[list[str]]:
    """Return for each sample the keys of the phenotype table that are that sample, by the surest of four ways."""
    ways: tuple[Callable[[str], str], ...] = (
        str,
        lambda name: folded(name).replace(".", "-").replace("_", "-"),
        lambda name: name[:15] if tcga(name) else name,  # without vial and aliquot
        lambda name: name[:12] if tcga(name) else name,  # the patient
    )
    indices: list[dict[str, list[str]]] = [defaultdict(list) for _ in ways]
    for key in keys:
        for index, way in zip(indices, ways, strict=True):
            index[way(barcode(key))].append(key)
    rows: list[list[str]] = []
    for name in names:
        exact, *loose = (index.get(way(name), []) for index, way in zip(indices, ways, strict=True))
        may_be = ([key for key in of if _may_be_one(name, barcode(key))] for of in loose)
        rows.append(exact or next(filter(None, may_be), []))
    if others := [(name, of[0]) for name, of in zip(names, rows, strict=True) if of and barcode(of[0]) != name]:
        name, key = others[0]
        notes.append(f"{len(others)} samples have another name in the table, such as {name!r} in the row {key!r}")
    return rows


def _may_be_one(name: str, key: str) -> bool:
    """Return whether neither of two barcodes of a sample contradicts the other, such as ``-01A`` and ``-01B``."""
    short, long = sorted((name, key), key=len)
    return not (tcga(name) and tcga(key)) or long.startswith(short) or name[:16] == key[:16]
