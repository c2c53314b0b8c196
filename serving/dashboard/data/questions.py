"""Requests to an endpoint: rows as it takes them (see `training.contract`), of measurements of the task's raw data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset  # pandas imports it with the first filter: see `loading`

from pipelines.errors import UserError
from pipelines.samples.gene_names import match_genes, respelled
from pipelines.samples.raw_files import RESPONSE_FILE
from serving.dashboard.data.words import counted, listed

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """Rows for the endpoint, their names, ``about`` (``sample``, of pairs also ``drug, drug_id``), and notes."""

    rows: list[Row]
    names: list[str]
    about: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def only(self, row: int) -> Question:
        """Return the question of one row."""
        about = self.about.iloc[[row]].reset_index(drop=True)
        return Question([self.rows[row]], [self.names[row]], about, self.notes)


def of_samples(rows: list[Row], names: list[str], notes: Sequence[str] = ()) -> Question:
    """Return the question about samples, a row each."""
    return Question(rows, names, pd.DataFrame({"sample": names}), list(notes))


def of_pairs(rows: list[Row], pairs: list[tuple[str, str, str | None]], notes: Sequence[str] = ()) -> Question:
    """Return the question about pairs, each a sample, the label of a drug, and the drug's id."""
    fields = list(dict.fromkeys(name for row in rows for name in row))
    # MLflow makes a table of the rows, and reads a missing field as NaN: every row gets every field.
    uniform = [{name: row.get(name) for name in fields} for row in rows]
    names = [f"{sample} with {drug}" for sample, drug, _ in pairs]
    return Question(uniform, names, pd.DataFrame(pairs, columns=["sample", "drug", "drug_id"]), list(notes))


def measured(table: pd.DataFrame, wanted: Sequence[str] | None) -> tuple[dict[str, Row], list[str]]:
    """Return the measurements of each sample, a row of ``table`` (NaN becomes None), and notes on what was left out.

    ``wanted`` are the features of the model, whose names are taken; None if they are not known, and all are sent.
    """
    notes = []
    if wanted is not None:
        names = [str(column) for column in table.columns]
        back = {given: gene for gene, given in match_genes(names, wanted).found.items()}
        back |= {given[0]: gene for gene, given in respelled(names, wanted).items() if len(given) == 1}
        table = table[[column for column in table.columns if str(column) in back]]
        table = table.set_axis([back[str(column)] for column in table.columns], axis=1)
        if unknown := [each for each in names if each not in back]:
            count = counted(len(unknown), "column")
            notes.append(f"The model does not know {count}, left out: {listed(unknown, 4)}.")
    features, values = [str(column) for column in table.columns], table.to_numpy(np.float64).tolist()
    rows = [[None if math.isnan(value) else value for value in row] for row in values]
    return {
        str(name): dict(zip(features, row, strict=True)) for name, row in zip(table.index, rows, strict=True)
    }, notes


def profiles(path: Path, key: str, ids: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a wide table with these ids, as far as it has them; UserError if it cannot be read."""
    try:
        return pd.read_parquet(path, filters=[(key, "in", list(ids))]).set_index(key)
    except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read; bring the data back with `dvc pull data.dvc`") from error


def usual_responses(folder: Path, target: str) -> dict[str, float]:
    """Return the median measured response by ``drug_id``; empty if the table cannot be read."""
    try:
        table = pd.read_parquet(folder / RESPONSE_FILE, columns=["drug_id", target])
    except (OSError, ValueError, pyarrow.ArrowException):
        return {}
    return {str(drug): float(value) for drug, value in table.groupby("drug_id")[target].median().items()}
