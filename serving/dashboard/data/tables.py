"""Requests to an endpoint, rows as it takes them (see `training.contract`), and its answers as tables."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset  # pandas imports it with the first filter: see `loading`

from pipelines.errors import UserError
from pipelines.samples.gene_names import match_genes, respelled, symbol_of
from pipelines.samples.raw_files import RESPONSE_FILE
from serving.dashboard.data.words import counted, listed

Row = dict[str, Any]
OTHERS, THE_DRUG = "all others together", "the drug itself"
_REST, _OF_DRUG = "all_others", "drug"
_KINDS = {
    **{kind: kind.replace("_", " ") for kind in ("expression", "mutation", "copy_number", "methylation", "tissue")},
    **dict.fromkeys(("drug", "fingerprint", "atom", "bond", "molecule", "token"), _OF_DRUG),
}
_UNLIKE = "unlike the training data"  # how the model's note begins where an input is out of distribution


def to_float(value: Any) -> float:
    """Return a number of an answer, NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def numbers(answers: Sequence[Row], fields: Iterable[str]) -> dict[str, list[float]]:
    """Return the numbers of these fields as columns."""
    return {field: [to_float(answer.get(field)) for answer in answers] for field in fields}


def of_samples(
    about: pd.DataFrame, answers: Sequence[Row], columns: Mapping[str, Any], keyed: tuple[str, str]
) -> pd.DataFrame:
    """Return a row an answer: ``sample``, these columns, `novelty`, and ``<prefix>_<key>`` of the maps in a field."""
    name, prefix = keyed
    maps = [{str(key): value for key, value in (answer.get(name) or {}).items()} for answer in answers]
    keys = dict.fromkeys(key for found in maps for key in found)
    of_keys = {f"{prefix}_{key}": [to_float(found.get(key)) for found in maps] for key in keys}
    return about[["sample"]].reset_index(drop=True).assign(**columns, **novelty(answers), **of_keys)


def in_order(table: pd.DataFrame, by: str, *, ascending: bool = True) -> pd.DataFrame:
    """Return answers about drugs in the order of the column ``by`` within each sample, with their ``rank`` there."""
    made = table.sort_values(["sample", by], ascending=[True, ascending], kind="stable").reset_index(drop=True)
    made.insert(0, "rank", made.groupby("sample").cumcount() + 1)
    return made


def probabilities(answer: Row) -> pd.DataFrame:
    """Return ``label, probability, held`` (whether the class is in the prediction set), the most probable first."""
    held = set(answer.get("labels") or [])
    rows = [(label, float(value), label in held) for label, value in (answer.get("probabilities") or {}).items()]
    table = pd.DataFrame(rows, columns=["label", "probability", "held"])
    return table.sort_values("probability", ascending=False, kind="stable").reset_index(drop=True)


def survival_curve(answer: Mapping[str, Any]) -> pd.DataFrame:
    """Return ``time, survival``, from time 0 on, at which nobody has had the event."""
    points = {0.0: 1.0} | {float(at): float(value) for at, value in (answer.get("survival") or {}).items()}
    return pd.DataFrame(sorted(points.items()), columns=["time", "survival"])


def contributions(answer: Row, target: str | None = None) -> pd.DataFrame:
    """Return what features add to a prediction: ``feature, kind, value``, the cells' by size, `THE_DRUG`, `OTHERS`."""
    given = [row for row in answer.get("attributions") or [] if target is None or row.get("target") == target]
    rows = [(*_feature(str(one["feature"])), float(one["value"])) for one in given]
    table = pd.DataFrame(rows, columns=["feature", "kind", "value"])
    drug, rest = table["kind"] == _OF_DRUG, table["feature"] == OTHERS
    first = table[~drug & ~rest].sort_values("value", key=lambda values: -values.abs(), kind="stable")
    of_drug = pd.DataFrame({"feature": [THE_DRUG], "kind": [""], "value": [table.loc[drug, "value"].sum()]})
    parts = [first, of_drug if drug.any() else of_drug[:0], table[rest]]
    return pd.concat([part for part in parts if len(part)] or [table], ignore_index=True)


def _feature(name: str) -> tuple[str, str]:
    """Return name and kind of ``expression:TP53``; genes of profiles have no kind."""
    kind, colon, rest = name.partition(":")
    if name == _REST:
        return OTHERS, ""
    if not colon or kind not in _KINDS:
        return symbol_of(name), ""
    return rest.replace("_", " ") if kind == "tissue" else symbol_of(rest), _KINDS[kind]


def base_of(answer: Row, target: str | None = None) -> float | None:
    """Return the value that contributions are added to."""
    base = answer.get("base")
    found = to_float(base.get(target) if isinstance(base, Mapping) else base)
    return found if math.isfinite(found) else None


def coverage_of(answers: Sequence[Row]) -> float | None:
    """Return the coverage that intervals or prediction sets are made for, of the rows that have one."""
    return next((found for found in numbers(answers, ["coverage"])["coverage"] if math.isfinite(found)), None)


def version_of(answers: Sequence[Row]) -> str | None:
    """Return the version that answered, None if it is not registered."""
    found = next((row.get("model_version") for row in answers), None)
    return None if found in (None, "unregistered") else str(found)


def notes_of(table: pd.DataFrame) -> list[str]:
    """Return the other notes of the model, each once, with the number of rows that have it."""
    said = table.loc[table["note"] != "", "note"].str.split("; ").explode()
    said = said[~said.str.startswith(_UNLIKE)]  # the panel above says so
    return [f"{count:,} of {len(table):,} predictions: {note}." for note, count in said.value_counts().items()]


def novelty(answers: Sequence[Row]) -> dict[str, Any]:
    """Return columns ``distance, threshold, familiar, version, note``; ``familiar`` is None if the model cannot say."""
    found = numbers(answers, ["out_of_distribution", "out_of_distribution_threshold"])
    distance, threshold = found.values()
    known = [None if math.isnan(limit) else score <= limit for score, limit in zip(distance, threshold, strict=True)]
    return {
        "distance": distance,
        "threshold": threshold,
        "familiar": pd.Series(known, dtype=object),
        "version": [str(row.get("model_version", "")) for row in answers],
        "note": [str(row.get("note") or "") for row in answers],
    }


def csv_of(table: pd.DataFrame) -> bytes:
    """Return a table as CSV in UTF-8 with a byte order mark, for spreadsheets; no cell starts a formula."""
    buffer = io.StringIO()
    table.apply(lambda column: column.map(_cell) if column.dtype.kind in "OTU" else column).to_csv(buffer, index=False)
    return buffer.getvalue().encode("utf-8-sig")


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


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


def asked_samples(rows: list[Row], names: list[str], notes: Sequence[str] = ()) -> Question:
    """Return the question about samples, a row each."""
    return Question(rows, names, pd.DataFrame({"sample": names}), list(notes))


def asked_pairs(rows: list[Row], pairs: list[tuple[str, str, str | None]], notes: Sequence[str] = ()) -> Question:
    """Return the question about pairs, each a sample, the label of a drug, and the drug's id."""
    fields = list(dict.fromkeys(name for row in rows for name in row))
    # MLflow makes a table of the rows, and reads a missing field as NaN: every row gets every field.
    uniform = [{name: row.get(name) for name in fields} for row in rows]
    names = [f"{sample} with {drug}" for sample, drug, _ in pairs]
    return Question(uniform, names, pd.DataFrame(pairs, columns=["sample", "drug", "drug_id"]), list(notes))


def measured(table: pd.DataFrame, wanted: Sequence[str] | None) -> tuple[dict[str, Row], list[str]]:
    """Return the values of each row of ``table`` by feature, of ``wanted`` (all if None), and what was left out."""
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
    return dict(zip(map(str, table.index), maps_of(table), strict=True)), notes


def maps_of(table: pd.DataFrame) -> list[Row]:
    """Return each row as a map of columns, None for missing; cells that are no numbers stay as they are."""
    features, rows = [str(column) for column in table.columns], table.astype(np.float64, errors="ignore").to_numpy()
    known = ([None if value != value else value for value in row] for row in rows.tolist())
    return [dict(zip(features, row, strict=True)) for row in known]


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
