"""What of a task's raw data a page offers to choose from: cell lines, drugs, profiles and images, by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet

from pipelines.faults import UserError
from pipelines.formats import CELL_LINES_FILE, DRUGS_FILE, RESPONSE_FILE
from serving.board.words import named

EXPRESSION_FILE, SAMPLES_FILE, IMAGES_FOLDER = "expression.parquet", "samples.csv", "images"
EXAMPLES_A_CLASS = 6


@dataclass(frozen=True)
class Drug:
    """A drug that a model can be asked about.

    Attributes
    ----------
    drug_id
        Of the data; None for one that somebody brings.
    label
        What people read: the name, with the study where two studies have the same.
    about
        Target or pathway, where the data knows it.
    """

    drug_id: str | None
    label: str
    smiles: str | None
    about: str = ""


def cell_lines(folder: Path) -> pd.DataFrame:
    """Return ``name, tissue, label`` of the lines that have an expression profile, by ``cell_line_id``.

    Raises
    ------
    UserError
        There is no data, or it cannot be read.
    """
    table = _csv(folder / CELL_LINES_FILE, "cell_line_id")
    measured = _ids(folder / EXPRESSION_FILE, "cell_line_id")
    table = table[table.index.isin(measured)]
    name = table["name"] if "name" in table else pd.Series(table.index, index=table.index)
    name = name.where(name.notna(), pd.Series(table.index, index=table.index)).astype(str)
    tissue = table["tissue"] if "tissue" in table else pd.Series(None, index=table.index, dtype=object)
    tissue = tissue.astype(object).where(tissue.notna(), None)
    shown = [f"{one} – {named(of).lower()}" if of else one for one, of in zip(name, tissue, strict=True)]
    twice = pd.Series(shown).duplicated(keep=False)
    label = [f"{text} ({line})" if again else text for line, text, again in zip(table.index, shown, twice, strict=True)]
    return pd.DataFrame({"name": name, "tissue": tissue, "label": label}).sort_values("label")


def drugs(folder: Path) -> list[Drug]:
    """Return the drugs of the data, by their labels.

    Raises
    ------
    UserError
        There is no data, or it cannot be read.
    """
    table = _csv(folder / DRUGS_FILE, "drug_id")
    ids = [str(one) for one in table.index]
    names = [
        str(one) if isinstance(one, str) else drug
        for one, drug in zip(table.get("name", pd.Series(ids)), ids, strict=True)
    ]
    labels, found = drug_labels(ids, names), []
    for place, drug in enumerate(ids):
        row = table.iloc[place]
        about = next((str(row[c]) for c in ("target", "pathway") if c in table and isinstance(row[c], str)), "")
        smiles = row["smiles"] if isinstance(row.get("smiles"), str) else None
        found.append(Drug(drug, labels[drug], smiles, about))
    return sorted(found, key=lambda drug: drug.label.lower())


def drug_labels(ids: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Return what each drug is called: its name, with the study before the colon of its id where names repeat."""
    called = dict(zip(ids, names, strict=True))
    times = Counter(called.values())
    studies = {drug: f"{name} ({drug.split(':', 1)[0]})" for drug, name in called.items()}
    alone = Counter(studies.values())
    return {
        drug: name if times[name] == 1 else studies[drug] if alone[studies[drug]] == 1 else f"{name} ({drug})"
        for drug, name in called.items()
    }


def usual_responses(folder: Path, target: str) -> pd.Series:
    """Return the median of what was measured for each drug, by ``drug_id``; empty where it cannot be told."""
    try:
        table = pd.read_parquet(folder / RESPONSE_FILE, columns=["drug_id", target])
    except (OSError, ValueError, pyarrow.ArrowException):
        return pd.Series(dtype=float)
    return table.groupby("drug_id")[target].median()


def profiles(path: Path, key: str, ids: Sequence[str]) -> pd.DataFrame:
    """Return rows of a wide table by their ids; ids that it lacks are left out.

    Raises
    ------
    UserError
        It cannot be read.
    """
    try:
        found = pd.read_parquet(path, filters=[(key, "in", list(ids))])
    except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read; bring the data back with `dvc pull data.dvc`") from error
    return found.set_index(key)


def features(path: Path, key: str) -> list[str]:
    """Return the names of a wide table's features, from its head alone; none where it cannot be read."""
    try:
        return [name for name in pyarrow.parquet.read_schema(path).names if name != key]
    except (OSError, pyarrow.ArrowException):
        return []


def samples(folder: Path) -> pd.DataFrame:
    """Return ``label`` and ``shown`` of the profiles of an expression task, by ``sample_id``.

    Raises
    ------
    UserError
        There is no data, or it cannot be read.
    """
    table = _csv(folder / SAMPLES_FILE, "sample_id")
    table = table[table.index.isin(_ids(folder / EXPRESSION_FILE, "sample_id"))]
    label = table["label"] if "label" in table else pd.Series(None, index=table.index, dtype=object)
    label = label.astype(object).where(label.notna(), None)
    shown = [f"{sample} – {of}" if of else str(sample) for sample, of in zip(table.index, label, strict=True)]
    return pd.DataFrame({"label": label, "shown": shown}, index=table.index)


def example_images(folder: Path) -> dict[str, Path]:
    """Return the first images of each class, by what they are called; none where there is no data."""
    found = {}
    for label in sorted(path for path in (folder / IMAGES_FOLDER).glob("*") if path.is_dir()):
        for place, path in enumerate(sorted(label.iterdir())[:EXAMPLES_A_CLASS], start=1):
            found[f"{named(label.name)} {place}"] = path
    return found


def _csv(path: Path, key: str) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{path} is not there; `dvc pull data.dvc` brings the data, `make data FROM=...` other data")
    try:
        return pd.read_csv(path, dtype={key: str}).set_index(key)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as a table with the column {key}") from error


def first_ids(path: Path, key: str, count: int) -> list[str]:
    """Return the first ids of a wide table.

    Raises
    ------
    UserError
        It cannot be read.
    """
    return _ids(path, key)[:count]


def _ids(path: Path, key: str) -> list[str]:
    try:
        return [str(one) for one in pyarrow.parquet.read_table(path, columns=[key])[key].to_pylist()]
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read; `dvc pull data.dvc` brings the data") from error
