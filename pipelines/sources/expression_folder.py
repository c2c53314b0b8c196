"""The raw folder ``expression``, and TCGA barcodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from pipelines.errors import DataError, Finding, UserError
from pipelines.samples.expression import EXPRESSION_FILE, GENES_FILE, SAMPLES_FILE
from pipelines.samples.gene_names import spreadsheet_names
from pipelines.sources.raw_folder import written_folder
from pipelines.text_values import clean, folded, is_unknown, look_alikes, quoted
from pipelines.units import expression_scale

DROPPED_FILE = "dropped.csv"
SAMPLE = "sample_id"
ROW_GROUP_SAMPLES = 16_384  # every row group repeats the description of each of the many columns
_PATIENT = "TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}"
_BARCODE = re.compile(rf"(?P<patient>{_PATIENT})-(?P<type>[0-9]{{2}})[A-Z]?(?:-[A-Z0-9-]+)?")


@dataclass(frozen=True)
class Expression:
    """The expression profiles of a source.

    Attributes
    ----------
    values
        float32 of shape (samples, genes), NaN where missing; columns that are contiguous are written without a copy.
    names
        Column name of each gene.
    samples
        ``sample_id``, ``patient_id``, ``label`` and others; a row for each row of ``values``.
    genes
        ``gene``, ``symbol``, ``entrez``; a row a gene. None where the names are of no gene.
    dropped
        For each reason the names of what is left out.
    notes
        What else was done to the values.
    """

    values: np.ndarray
    names: Sequence[str]
    samples: pd.DataFrame
    genes: pd.DataFrame | None = None
    dropped: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def report(self) -> list[str]:
        """Return a line for every reason to drop something, note, and group of look-alikes, and the apparent scale."""
        lines = [f"dropped {len(names)} {why}: {quoted(names)}" for why, names in self.dropped.items()] + [*self.notes]
        for name, column in {"label": "label", "patient": "patient_id", "sample": SAMPLE}.items():
            if column in self.samples and (alike := look_alikes(self.samples[column], _alike)):
                shown = "; ".join(map(quoted, alike[:3])) + (f"; {len(alike) - 3} more" if len(alike) > 3 else "")
                lines.append(f"warning: {name}s that look alike are kept apart: {shown}; write alike what is one")
        if dates := spreadsheet_names(self.names):
            lines.append(
                f"warning: a spreadsheet made dates or numbers of gene names: {quoted(dates)}; take the original"
            )
        if missing := sum(np.count_nonzero(np.isnan(column)) for column in self.values.T):
            lines.append(f"{missing} of {self.values.size} values are missing")
        scale, why = expression_scale(self.values)
        return [*lines, f"{why}: data.scale in params.yaml seems to be {scale}"]


def _alike(name: str) -> str:
    number = re.sub(r"(?<![0-9.,])0+(?=[0-9])", "", folded(name))  # 04 and 4: a table program eats zeros
    return re.sub(r"[\s._-]+", " ", number)


def write_expression(expression: Expression, out: Path) -> None:
    """Write a raw folder of kind ``expression``, whole or not at all.

    ``expression.parquet`` holds ``sample_id`` and a float32 column a gene, ``samples.csv`` the sample table,
    ``genes.csv`` the gene table where there is one, ``dropped.csv`` what was left out where anything was.

    Raises
    ------
    UserError
        ``out`` is there already, a gene or a sample is a duplicate or has no usable name, or the disk refuses.
    """
    samples, names = expression.samples, list(expression.names)
    if expression.values.shape != (len(samples), len(names)):
        raise ValueError(f"{expression.values.shape} values of {len(samples)} samples and {len(names)} genes")
    if not expression.values.size:
        raise UserError(f"{len(samples)} samples and {len(names)} genes are left; there is nothing to write")
    for what, held in (("sample", samples[SAMPLE].tolist()), ("gene", [SAMPLE, *names])):
        if doubled := sorted(str(name) for name, count in Counter(held).items() if count > 1):
            raise UserError(f"duplicate {what} {quoted(doubled)}; name the two apart")
        if "" in held:
            raise UserError(f"a {what} has no name; name it")
    columns = [pa.array(samples[SAMPLE].astype(str).tolist(), pa.string())]
    columns += [pa.array(np.ascontiguousarray(column, np.float32), from_pandas=True) for column in expression.values.T]
    table = pa.table(columns, names=[SAMPLE, *names])
    with written_folder(out) as whole:
        # Dictionaries and statistics cost more than they give where a column holds few and mostly different values.
        pyarrow.parquet.write_table(
            table,
            whole / EXPRESSION_FILE,
            row_group_size=ROW_GROUP_SAMPLES,
            use_dictionary=False,
            write_statistics=False,
        )
        samples.to_csv(whole / SAMPLES_FILE, index=False)
        if expression.genes is not None:
            expression.genes.to_csv(whole / GENES_FILE, index=False)
        if expression.dropped:
            rows = [(why, name) for why, left in expression.dropped.items() for name in left]
            pd.DataFrame(rows, columns=["reason", "name"]).to_csv(whole / DROPPED_FILE, index=False)


def gene_table(names: Sequence[str]) -> pd.DataFrame:
    """Return ``gene``, ``symbol`` and ``entrez`` of names such as ``TP53|7157``, ``TP53`` or ``7157``, a row each."""
    rows = []
    for name in names:
        symbol, _, entrez = (
            name.rpartition("|") if "|" in name else ("", "", name) if name.isdecimal() else (name, "", "")
        )
        is_symbol = not is_unknown(symbol) and not re.fullmatch(r"ENS[A-Z]*G[0-9.]+(_PAR_Y)?", symbol)
        rows.append((name, symbol if is_symbol else "", entrez))
    return pd.DataFrame(rows, columns=["gene", "symbol", "entrez"])


def tcga(barcode: str) -> tuple[str, int] | None:
    """Return the patient and the sample type (1 primary, 6 metastatic, 11 solid normal, ...) of a TCGA barcode."""
    found = _BARCODE.fullmatch(barcode)
    return (found["patient"], int(found["type"])) if found else None


def barcode(name: str) -> str:
    """Return a TCGA barcode as the GDC writes it, also of one in small letters or with dots; any other name `clean`."""
    name = clean(name)
    written = re.sub(r"[._]", "-", name).upper()
    return written if re.fullmatch(_PATIENT, written) or tcga(written) else name


def rewritten(what: str, given: Sequence[str], read: Sequence[str]) -> list[str]:
    """Return a note on names that were not read as they are written, none if all were."""
    changed = {old: new for old, new in zip(given, read, strict=True) if old != new}
    if not changed:
        return []
    (old, new), *_ = changed.items()
    return [f"{len(changed)} {what} were written in another way, such as {old!r}, which is read as {new!r}"]


def read_barcodes(given: Sequence[str], file: str, notes: list[str]) -> list[str]:
    """Return names of samples as `barcode` writes them, of which no two are one; note how many that changes."""
    read = [barcode(name) for name in given]
    if doubled := sorted(name for name, count in Counter(read).items() if count > 1):
        message = "duplicate column, written in two ways; name the two apart"
        raise DataError([Finding("column_unique", file, message, name) for name in doubled])
    notes += rewritten("barcodes", given, read)
    return read


def stand_alone(patients: Sequence[str], samples: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the patients, each unknown one (``""``) replaced by its sample, and a note that counts them."""
    unknown = [name for name, patient in zip(samples, patients, strict=True) if not patient]
    note = f"{len(unknown)} samples of unknown patients are taken for a patient each: {quoted(unknown)}"
    return [patient or name for patient, name in zip(patients, samples, strict=True)], [note] if unknown else []
