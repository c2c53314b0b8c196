"""Series matrices of GEO (https://www.ncbi.nlm.nih.gov/geo/info/soft.html): ``*_series_matrix.txt``, often gzipped."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.faults import DataError, Finding, UserError
from pipelines.sources.expression_folder import (
    BLOCK_BYTES,
    UNKNOWN,
    Expression,
    gene_table,
    opened,
    read_annotation,
    read_header,
    read_rows,
    without_missing,
)
from pipelines.sources.raw_folder import listed

BEGIN, END = b"!series_matrix_table_begin", b"!series_matrix_table_end"
ACCESSION = "!Sample_geo_accession"
CHARACTERISTICS = "!Sample_characteristics_ch1"
PLAIN = {"!Sample_title": "title", "!Sample_platform_id": "platform"}
SEVERAL = "///"  # what Affymetrix tables write between the genes of a probe


def read(
    matrix: Path, *, label: str, patient: str | None = None, probes: Path | None = None, block: int = BLOCK_BYTES
) -> Expression:
    """Read a series matrix; label and patient are characteristics of the samples.

    Values stay as they are, on whatever scale the submitter gave them. Samples without the label, and rows without a
    value in any sample, are dropped and listed.

    Parameters
    ----------
    matrix
        The file, also gzipped.
    label
        Key of the characteristics (``key: value``) whose value is the class.
    patient
        Key whose value is the patient. Without it each sample stands for its patient, and so do samples that lack it:
        name it where a patient gave several samples, which a split must not part.
    probes
        csv table ``probe,gene``. A gene gets the mean of its probes; probes that it does not list, or lists with
        several genes (``A /// B``), are dropped and listed. Without it the probes are the genes, and there is no gene
        table.
    block
        Bytes of text that are parsed at once.

    Returns
    -------
    Expression
        Values of shape (samples, genes); the sample table has ``title`` and ``platform`` where the file has them.

    Raises
    ------
    UserError
        The file is not of the layout, is cut short, holds no table, or has no such key.
    """
    mapping = read_annotation(probes, lambda _: ("probe", "gene")) if probes else None
    with opened(matrix) as stream:
        facts = _sample_facts(stream, matrix.name)
        accessions = facts.pop("sample_id")
        labels = _values_of(label, facts, matrix.name)
        patients = _values_of(patient, facts, matrix.name) if patient else [""] * len(accessions)
        table = _table(stream, matrix.name)
        columns = read_header(table, matrix.name, "ID_REF")
        if columns != accessions:
            differing = set(columns) ^ set(accessions)
            what = f"{listed(differing)} stands in one alone" if differing else "they stand in another order"
            message = f"the table's columns are not the samples of {ACCESSION}: {what}; download the file again"
            raise DataError([Finding("file_layout", matrix.name, message)])
        keep = np.array([found != "" for found in labels])
        if not keep.any():
            raise UserError(f"{matrix.name}: no sample has a value of {label}")
        names, values = read_rows(table, columns, matrix.name, keep=keep, block=block, unit="probe")
    names, values, missing = without_missing(names, values)
    unmapped: list[str] = []
    if mapping is not None:
        names, values, unmapped = _means(names, values, {probe: gene for probe, (gene,) in mapping.items()})
        if not names:
            raise UserError(f"{probes}: maps no probe of {matrix.name}; is it of the same platform?")
    samples = pd.DataFrame(
        {
            "sample_id": accessions,
            "patient_id": [found or name for found, name in zip(patients, accessions, strict=True)],
            "label": labels,
            **{name: facts[key] for key, name in PLAIN.items() if key in facts},
        }
    )[keep]
    dropped = {
        f"samples without {label}": [name for name, found in zip(accessions, labels, strict=True) if not found],
        "probes without a value in any sample": missing,
        "probes without one gene": unmapped,
    }
    return Expression(
        values.T,
        names,
        samples,
        None if mapping is None else gene_table(names),
        {why: left for why, left in dropped.items() if left},
    )


def _sample_facts(lines: Iterator[bytes], file: str) -> dict[str, list[str]]:
    """Return ``sample_id``, the plain facts, and each key of the characteristics in small letters, a value a sample."""
    facts: dict[str, list[str]] = {}
    characteristics = []
    for line in lines:
        if line.startswith(BEGIN):
            break
        if not line.startswith(b"!Sample_"):
            continue
        name, *cells = next(csv.reader([line.decode("utf-8", "replace").rstrip("\r\n")], delimiter="\t"))
        if name == CHARACTERISTICS:
            characteristics.append(cells)
        elif name == ACCESSION:
            facts["sample_id"] = cells
        elif name in PLAIN:
            facts[name] = cells
    else:
        message = f"has no {BEGIN.decode()}; it must be a series matrix, or is cut short"
        raise DataError([Finding("file_layout", file, message)])
    if "sample_id" not in facts:
        raise DataError([Finding("file_layout", file, f"has no line {ACCESSION}; is it a series matrix?")])
    count = len(facts["sample_id"])
    for cells in (*facts.values(), *characteristics):
        if len(cells) != count:
            message = f"a !Sample_ line has {len(cells)} values for {count} samples; download the file again"
            raise DataError([Finding("row_width", file, message)])
    # Cells of a line may have different keys: where a sample lacks one, GEO moves the next up.
    for cells in characteristics:
        for place, cell in enumerate(cells):
            key, colon, value = (part.strip() for part in cell.partition(":"))
            if colon and value not in UNKNOWN:
                known = facts.setdefault(f"{key.casefold()}:", [""] * count)
                if known[place] not in ("", value):
                    message = f"{facts['sample_id'][place]} has two values of {key}: {known[place]} and {value}"
                    raise DataError([Finding("key_unique", file, message)])
                known[place] = value
    return facts


def _values_of(key: str, facts: dict[str, list[str]], file: str) -> list[str]:
    if (values := facts.get(f"{key.strip().casefold()}:")) is None:
        held = listed([name[:-1] for name in facts if name.endswith(":")]) or "none"
        raise UserError(f"{file}: its samples have no characteristic {key}; they have {held}")
    return values


def _table(lines: Iterator[bytes], file: str) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        if line.startswith(END):
            if number < 2:
                message = "the table has no values; RNA-seq series carry theirs in a supplementary file"
                raise DataError([Finding("file_layout", file, message)])
            return
        yield line
    raise DataError([Finding("file_layout", file, f"has no {END.decode()}; it is cut short, download it again")])


def _means(names: list[str], values: np.ndarray, genes: dict[str, str]) -> tuple[list[str], np.ndarray, list[str]]:
    """Return genes, their means over probes that have a value, and the probes without one gene."""
    rows: dict[str, list[int]] = {}
    unmapped = []
    for row, probe in enumerate(names):
        gene = genes.get(probe, "")
        if gene and SEVERAL not in gene:
            rows.setdefault(gene, []).append(row)
        else:
            unmapped.append(probe)
    means = np.empty((len(rows), values.shape[1]), np.float32)
    for number, of in enumerate(rows.values()):
        known = ~np.isnan(values[of])
        counts = known.sum(axis=0)
        total = np.where(known, values[of], 0).sum(axis=0, dtype=np.float64)
        means[number] = np.divide(total, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return list(rows), means, unmapped
