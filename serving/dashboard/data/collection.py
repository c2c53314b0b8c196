"""The samples, drugs and images that a page offers, read without pandas, whose import would hold up the first page."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import UserError
from pipelines.samples.raw_files import CELL_LINES_FILE, DRUGS_FILE
from pipelines.text_values import is_unknown
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import named

EXPRESSION_FILE = "expression.parquet"
_LINE = "cell_line_id"
_EXAMPLES_A_CLASS = 6


class Line(NamedTuple):
    """A measured cell line; ``label`` is name and tissue, with the id where two lines have the same."""

    name: str
    tissue: str | None
    label: str


class Drug(NamedTuple):
    """A drug with its label for people; one that somebody brings has no id."""

    drug_id: str | None
    label: str
    smiles: str | None


def cell_lines(
    folder: Path, tables: Sequence[str] = ("expression",), required: Sequence[str] = ("expression",)
) -> dict[str, Line]:
    """Return lines in each table of ``required``, else in any of ``tables``, by their ids, in order of their labels."""
    rows = _csv(folder / CELL_LINES_FILE, _LINE)
    paths = [folder / f"{table}.parquet" for table in required or tables]
    measured = [set(ids_of(path, _LINE)) for path in paths if required or path.is_file()]
    kept = set.intersection(*measured) if required else set().union(*measured)
    rows = {line: row for line, row in rows.items() if line in kept}
    shown = {line: _with(row.get("name", line), named(row.get("tissue", "")).lower()) for line, row in rows.items()}
    times = Counter(shown.values())
    found = {
        line: Line(row.get("name", line), row.get("tissue"), label if times[label] == 1 else f"{label} ({line})")
        for (line, row), label in zip(rows.items(), shown.values(), strict=True)
    }
    return dict(sorted(found.items(), key=lambda item: item[1].label))


def drugs(folder: Path) -> list[Drug]:
    """Return the drugs of the data in the order of their labels; data that cannot be read is a UserError."""
    rows = _csv(folder / DRUGS_FILE, "drug_id")
    labels = drug_labels(rows, [row.get("name", drug) for drug, row in rows.items()])
    found = [Drug(drug, labels[drug], row.get("smiles")) for drug, row in rows.items()]
    return sorted(found, key=lambda drug: drug.label.lower())


def drug_labels(ids: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Return the label of each drug: its name, with its id where names repeat."""
    called = dict(zip(ids, names, strict=True))
    times = Counter(called.values())
    return {drug: name if times[name] == 1 else f"{name} ({drug})" for drug, name in called.items()}


def samples(folder: Path) -> dict[str, str]:
    """Return id and label of the profiles of a task, by ``sample_id``; data that cannot be read is a UserError."""
    rows, measured = _csv(folder / "samples.csv", "sample_id"), set(ids_of(folder / EXPRESSION_FILE, "sample_id"))
    return {sample: _with(sample, row.get("label", "")) for sample, row in rows.items() if sample in measured}


def example_images(folder: Path) -> dict[str, Path]:
    """Return the first images of each class by their labels; none if there is no data."""
    return {
        f"{named(label.name)} {place}": path
        for label in sorted(path for path in (folder / "images").glob("*") if path.is_dir())
        for place, path in enumerate(sorted(label.iterdir())[:_EXAMPLES_A_CLASS], start=1)
    }


def features(path: Path, key: str) -> list[str]:
    """Return the features of a wide table, from its schema alone; none if it cannot be read."""
    pyarrow, parquet = load("pyarrow"), load("pyarrow.parquet")
    try:
        return [name for name in parquet.read_schema(path).names if name != key]
    except (OSError, pyarrow.ArrowException):
        return []


def ids_of(path: Path, key: str) -> list[str]:
    """Return the ids of a wide table; a table that cannot be read is a UserError."""
    pyarrow, parquet = load("pyarrow"), load("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:  # `read_table` imports pandas
            return [str(one) for one in file.read(columns=[key])[key].to_pylist()]
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read; `dvc pull data.dvc` brings the data") from error


def _with(name: str, of: str) -> str:
    return f"{name} – {of}" if of else name


def _csv(path: Path, key: str) -> dict[str, dict[str, str]]:
    """Return the cells of each id by column, without those that are empty."""
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
