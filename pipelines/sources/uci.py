"""The UCI set "gene expression cancer RNA-Seq" (doi 10.24432/C5R88H, CC BY 4.0): ``data.csv`` and ``labels.csv``.

801 samples of five TCGA cohorts and 20,531 genes under made-up names, ``sample_0`` and ``gene_0`` on. The set names no
patients: each sample is taken for its own, so two samples of one person cannot be held together. Its values are on a
logarithmic scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.archives import opened, text_lines
from pipelines.sources.expression_folder import Expression, rewritten
from pipelines.sources.matrices import BLOCK_BYTES, read_header, read_rows
from pipelines.sources.raw_folder import refuse_no_folder, visible
from pipelines.sources.tables import column_of, read_annotation
from pipelines.text_values import look_alikes, quoted

CLASSES = ("BRCA", "COAD", "KIRC", "LUAD", "PRAD")
DATA, LABELS = "data.csv", "labels.csv"
SAMPLE = ("", "Unnamed: 0", "sample")


def read(folder: Path, *, block: int = BLOCK_BYTES) -> Expression:
    """Read ``data.csv`` and the ``labels.csv`` beside it, wherever they are below ``folder``.

    Raises
    ------
    UserError
        The files are missing, not of the layout, or do not name the same samples.
    """
    refuse_no_folder(folder)
    notes: list[str] = []
    found = [(path, table) for path in visible(folder, [f"{DATA}*"]) for table in visible(path.parent, [f"{LABELS}*"])]
    if not found:
        raise UserError(f"{folder}: no folder in it holds {DATA} and {LABELS}; unpack the archive there")
    data, table = found[0]

    def columns(header: Sequence[str]) -> tuple[str, str]:
        sample = "" if "" in header else column_of(header, SAMPLE)
        if sample is None:
            message = f"has no column of samples, which is the first and has no name: it has {quoted(header)}"
            raise DataError([Finding("column_exists", LABELS, f"{message}; nothing says whose label is whose")])
        return sample, "Class"

    given = read_annotation(table, columns, notes)
    labels = {name: label.upper() for name, (label,) in given.items()}
    notes += rewritten("labels", [label for (label,) in given.values()], list(labels.values()))
    if wrong := sorted(set(labels.values()) - {*CLASSES, ""}):
        of = quoted(name for name, label in labels.items() if label in wrong)
        message = f"{quoted(wrong)} is none of {', '.join(CLASSES)}; correct the label of {of}, or leave its cell empty"
        raise DataError([Finding("label_known", LABELS, message, "Class")])
    with opened(data) as stream:
        lines = text_lines(stream, data)
        genes, separator = read_header(lines, DATA, SAMPLE)
        names, values = read_rows(lines, genes, DATA, separator=separator, block=block, unit="sample")
    if differing := sorted(set(names) ^ set(labels)):
        alike = look_alikes(differing)
        todo = f"write {' and '.join(map(repr, alike[0]))} alike, and all others" if alike else "unpack both again"
        raise UserError(f"{quoted(differing)}: is in one of {DATA} and {LABELS} alone; {todo}")
    keep = np.array([labels[name] != "" for name in names])
    kept = [name for name in names if labels[name]]
    dropped = {"samples without a known label": [name for name in names if not labels[name]]}
    samples = pd.DataFrame({"sample_id": kept, "patient_id": kept, "label": [labels[name] for name in kept]})
    if keep.all():
        return Expression(values, genes, samples, notes=tuple(notes))
    return Expression(values[keep], genes, samples, dropped=dropped, notes=tuple(notes))
