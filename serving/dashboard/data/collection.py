"""What of a task's raw data a page offers to choose from: cell lines, drugs, samples and images, by their names.

The first page is made of these lists, and pandas alone would take longer to load than all the rest of it: tables of
names are read without.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError
from pipelines.samples.raw_files import CELL_LINES_FILE, DRUGS_FILE
from pipelines.text_values import is_unknown
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import named

EXPRESSION_FILE, SAMPLES_FILE, IMAGES_FOLDER = "expression.parquet", "samples.csv", "images"
EXAMPLES_A_CLASS = 6

Named = dict[str, str]


@dataclass(frozen=True)
class Line:
    """A cell line of the data that was measured.

    Attributes
    ----------
    name, tissue
        As the data has them; the name is the id where it has no other.
    label
        What people read: name and tissue, with the id where two lines are called the same.
    """

    name: str
    tissue: str | None
    label: str


@dataclass(frozen=True)
class Drug:
    """A drug that a model can be asked about.

    Attributes
    ----------
    drug_id
        Of the data; None for one that somebody brings.
    label
        What people read: the name, with the study where two studies have the same.
    """

    drug_id: str | None
    label: str
    smiles: str | None


def cell_lines(
    folder: Path, tables: Sequence[str] = ("expression",), required: Sequence[str] = ("expression",)
) -> dict[str, Line]:
    """Return the lines that a model can be asked about, by ``cell_line_id``, in the order of their labels.

    Parameters
    ----------
    tables
        Of measurements, that the task knows.
    required
        Those of them that a line must be in; where there is none, it must be in any.

    Raises
    ------
    UserError
        There is no data, or it cannot be read.
    """
    key = "cell_line_id"
    rows = _csv(folder / CELL_LINES_FILE, key)
    paths = [folder / f"{table}.parquet" for table in required or tables]
    measured = [set(ids_of(path, key)) for path in paths if required or path.is_file()]
    kept = set.intersection(*measured) if required else set().union(*measured)
    rows = {line: row for line, row in rows.items() if line in kept}
    shown = {line: _with(row.get("name", line), named(row.get("tissue", "")).lower()) for line, row in rows.items()}
    times = Counter(shown.values())
    found = {
        line: Line(
            row.get("name", line),
            row.get("tissue"),
            shown[line] if times[shown[line]] == 1 else f"{shown[line]} ({line})",
        )
        for line, row in rows.items()
    }
    return dict(sorted(found.items(), key=lambda item: item[1].label))


def drugs(folder: Path) -> list[Drug]:
    """Return the drugs of the data, by their labels.

    Raises
    ------
    UserError
        There is no data, or it cannot be read.
    """
    rows = _csv(folder / DRUGS_FILE, "drug_id")
    labels = drug_labels(rows, [row.get("name", drug) for drug, row in rows.items()])
    found = [Drug(drug, labels[drug], row.get("smiles")) for drug, row in rows.items()]
    return sorted(found, key=lambda drug: drug.label.lower())


def drug_labels(ids: Iterable[str], names: Iterable[str]) -> Named:
    """Return what each drug is called: its name, with the study before the colon of its id where names repeat."""
    called = dict(zip(ids, names, strict=True))
    times = Counter(called.values())
    studies = {drug: f"{name} ({drug.split(':', 1)[0]})" for drug, name in called.items()}
    alone = Counter(studies.values())
    return {
        drug: name if times[name] == 1 else studies[drug] if alone[studies[drug]] == 1 else f"{name} ({drug})"
        for drug, name in called.items()
    }


def features(path: Path, key: str) -> list[str]:
    """Return the names of a wide table's features, from its head alone; none where it cannot be read."""
    pyarrow, parquet = load("pyarrow"), load("pyarrow.parquet")
    try:
        return [name for name in parquet.read_schema(path).names if name != key]
    except (OSError, pyarrow.ArrowException):
        return []


def samples(folder: Path) -> Named:
    """Return what people read of the profiles of an expression task, id and label, by ``sample_id``.

    Raises
    ------
    UserError
        There is no data, or it cannot be read.
    """
    rows, measured = _csv(folder / SAMPLES_FILE, "sample_id"), set(ids_of(folder / EXPRESSION_FILE, "sample_id"))
    return {sample: _with(sample, row.get("label", "")) for sample, row in rows.items() if sample in measured}


def example_images(folder: Path) -> dict[str, Path]:
    """Return the first images of each class, by what they are called; none where there is no data."""
    found = {}
    for label in sorted(path for path in (folder / IMAGES_FOLDER).glob("*") if path.is_dir()):
        for place, path in enumerate(sorted(label.iterdir())[:EXAMPLES_A_CLASS], start=1):
            found[f"{named(label.name)} {place}"] = path
    return found


def _with(name: str, of: str) -> str:
    return f"{name} – {of}" if of else name


def _csv(path: Path, key: str) -> dict[str, Named]:
    """Return what a table says of each id, by column, without what is empty."""
    if not path.is_file():
        raise UserError(f"{path} is not there; `dvc pull data.dvc` brings the data, `make data FROM=...` other data")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return {
                row.pop(key): {name: value for name, value in row.items() if value.strip() and not is_unknown(value)}
                for row in csv.DictReader(file, restval="", strict=True)
            }
    except (OSError, ValueError, KeyError, AttributeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table with the column {key}") from error


def ids_of(path: Path, key: str) -> list[str]:
    """Return the ids of a wide table.

    Raises
    ------
    UserError
        It cannot be read.
    """
    pyarrow, parquet = load("pyarrow"), load("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:  # `read_table` loads pandas
            return [str(one) for one in file.read(columns=[key])[key].to_pylist()]
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read; `dvc pull data.dvc` brings the data") from error
