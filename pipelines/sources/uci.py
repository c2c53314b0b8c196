"""The UCI set "gene expression cancer RNA-Seq" (doi 10.24432/C5R88H, CC BY 4.0): ``data.csv`` and ``labels.csv``.

801 samples of five TCGA cohorts and 20,531 genes under made-up names, ``sample_0`` and ``gene_0`` on. The set names no
patients: each sample is taken for its own, so two samples of one person cannot be held together. Its values are on a
logarithmic scale.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.archives import opened, text_lines
from pipelines.sources.expression_folder import Expression
from pipelines.sources.matrices import read_header, read_rows
from pipelines.sources.raw_folder import refuse_no_folder, visible
from pipelines.sources.tables import Layout, read_official
from pipelines.text_values import quoted

CLASSES = ("BRCA", "COAD", "KIRC", "LUAD", "PRAD")
DATA, LABELS = "data.csv", "labels.csv"
SAMPLE = ("sample", "Unnamed: 0", "")
_LABELS = Layout("table of labels", {"sample": SAMPLE, "label": ("Class",)}, needed=("sample", "label"), only=True)


def read(folder: Path) -> Expression:
    """Read ``data.csv`` and the ``labels.csv`` beside it, wherever they are below ``folder``."""
    refuse_no_folder(folder)
    notes: list[str] = []
    found = [(path, table) for path in visible(folder, [f"{DATA}*"]) for table in visible(path.parent, [f"{LABELS}*"])]
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
        lines = text_lines(stream, data)
        genes, separator = read_header(lines, DATA, SAMPLE)
        names, values = read_rows(lines, genes, DATA, separator=separator, unit="sample")
    if differing := sorted(set(names) ^ set(labels.index)):
        raise UserError(f"{quoted(differing)}: is in one of {DATA} and {LABELS} alone; write samples alike in both")
    labels = labels.loc[names]
    unknown = (labels == "").to_numpy()
    samples = pd.DataFrame({"sample_id": names, "patient_id": names, "label": labels.tolist()})
    dropped = {"samples without a label": labels.index[unknown].tolist()} if unknown.any() else {}
    return Expression(values[~unknown], genes, samples[~unknown], dropped=dropped, notes=tuple(notes))
