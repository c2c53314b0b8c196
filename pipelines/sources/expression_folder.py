"""The raw folder ``expression``, and TCGA barcodes."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.samples.expression import EXPRESSION_FILE, GENES_FILE, SAMPLES_FILE
from pipelines.samples.gene_names import spreadsheet_names
from pipelines.sources.matrices import Matrix, Row
from pipelines.sources.raw_folder import write_features, written_folder
from pipelines.text_values import clean, folded, is_unknown, look_alikes, quoted
from pipelines.units import expression_scale

DROPPED_FILE = "dropped.csv"
SAMPLE = "sample_id"
_PATIENT = "TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}"
_BARCODE = re.compile(rf"(?P<patient>{_PATIENT})-(?P<type>[0-9]{{2}})[A-Z]?(?:-[A-Z0-9-]+)?")
_COUNTED_APART = re.compile(r"__[a-zA-Z_]+|N_(?:unmapped|multimapping|noFeature|ambiguous)")  # by HTSeq and STAR


@dataclass(frozen=True)
class Expression:
    """The expression profiles of a source."""

    values: np.ndarray  # float32 of shape (samples, genes), NaN where missing; contiguous columns are not copied
    names: Sequence[str]  # of the columns
    samples: pd.DataFrame  # ``sample_id``, ``patient_id``, ``label`` and others of each row
    genes: bool = False  # whether the names are of genes, which ``genes.csv`` describes
    dropped: dict[str, list[str]] = field(default_factory=dict)  # for each reason the names of what is left out
    notes: tuple[str, ...] = ()  # what else was done to the values

    def report(self) -> list[str]:
        """Return a line for every reason to drop something, note, and group of look-alikes, and the apparent scale."""
        lines = [f"dropped {len(names)} {why}: {quoted(names)}" for why, names in self.dropped.items()] + [*self.notes]
        for name, column in {"label": "label", "patient": "patient_id", "sample": SAMPLE}.items():
            if alike := look_alikes(self.samples[column], _alike):
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


def read_labeled(
    matrix: Matrix,
    samples: pd.DataFrame,
    *,
    hint: str,
    dropped: Mapping[str, list[str]] | None = None,
    unit: str = "gene",
) -> Expression:
    """Read a matrix with a sample a column; ``samples`` has its id, its label (``""`` where unknown) and others.

    ``dropped`` has samples that another reason leaves out, and ``hint`` says what may be wrong if none has a label.
    """
    names = samples[SAMPLE].tolist()
    keep = (samples["label"] != "").to_numpy()
    if not keep.any():
        raise UserError(f"{matrix.file}: no sample has a label (it has {quoted(names, 3)}); {hint}")
    left = {name for of in (dropped or {}).values() for name in of}
    unnamed: list[str] = []

    def rows() -> Iterator[Row]:
        for row, (name,), values in matrix.rows():
            if name and (is_unknown(name) or _COUNTED_APART.fullmatch(name) or name.endswith("_PAR_Y")):
                unnamed.append(name)
            else:
                yield row, name, values

    genes, values = matrix.read(rows(), keep=keep, unit=unit)
    measured = [place for place, row in enumerate(values) if not np.isnan(row).all()]
    missing = sorted(set(range(len(genes))) - set(measured))
    for to, origin in enumerate(measured if missing else ()):  # in place: a matrix may fill half of the memory
        values[to] = values[origin]
    reasons = {
        **(dropped or {}),
        "samples without a label": [
            name for name, kept in zip(names, keep, strict=True) if not kept and name not in left
        ],
        f"rows that are no {unit}s": unnamed,
        f"{unit}s without a value in any sample": [genes[place] for place in missing],
    }
    return Expression(
        values[: len(measured)].T,
        [genes[place] for place in measured],
        samples[keep],
        genes=True,
        dropped={why: of for why, of in reasons.items() if of},
    )


def write_expression(expression: Expression, out: Path) -> None:
    """Write a raw folder of kind ``expression`` as `written_folder` does; refuse names that are not unique."""
    samples, names = expression.samples, list(expression.names)
    if not expression.values.size:
        raise UserError(f"{len(samples)} samples and {len(names)} genes are left; there is nothing to write")
    for what, index in (("sample", pd.Index(samples[SAMPLE])), ("gene", pd.Index([SAMPLE, *names]))):
        if wrong := index[index.duplicated() | (index == "")].unique().tolist():
            raise UserError(f"the {what} {quoted(wrong)} is a duplicate or has no name; give each a name of its own")
    with written_folder(out) as whole:
        write_features(
            whole / EXPRESSION_FILE, SAMPLE, samples[SAMPLE].astype(str).tolist(), names, expression.values.T
        )
        samples.to_csv(whole / SAMPLES_FILE, index=False)
        if expression.genes:
            gene_table(names).to_csv(whole / GENES_FILE, index=False)
        if expression.dropped:
            rows = [(why, name) for why, left in expression.dropped.items() for name in left]
            pd.DataFrame(rows, columns=["reason", "name"]).to_csv(whole / DROPPED_FILE, index=False)


def gene_table(names: Sequence[str]) -> pd.DataFrame:
    """Return ``gene``, ``symbol`` and ``entrez`` of names such as ``TP53|7157``, ``TP53`` or ``7157``, a row each."""
    rows = []
    for name in names:
        symbol, _, entrez = name.rpartition("|") if "|" in name else (name, "", "")
        if name.isdecimal():
            symbol, entrez = "", name
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


def barcodes(what: str, given: Iterable[str], notes: list[str]) -> list[str]:
    """Return names as `barcode` writes them; ``notes`` takes how many that changes."""
    read = [barcode(name) for name in given]
    if changed := [(old, new) for old, new in zip(given, read, strict=True) if old != new]:
        old, new = changed[0]
        notes.append(f"{len(changed)} {what} were written in another way, such as {old!r}, which is read as {new!r}")
    return read


def stand_alone(patients: Iterable[str], samples: Iterable[str], notes: list[str]) -> list[str]:
    """Return the patients, each unknown one (``""``) replaced by its sample; ``notes`` takes their number."""
    found = list(zip(samples, patients, strict=True))
    if unknown := [name for name, patient in found if not patient]:
        notes.append(f"{len(unknown)} samples of unknown patients are taken for a patient each: {quoted(unknown)}")
    return [patient or name for name, patient in found]
