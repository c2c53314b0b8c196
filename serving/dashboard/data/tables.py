"""Answers of endpoints as tables for people: ranked, with intervals, and with what the model knows of such samples."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipelines.samples.gene_names import symbol_of

Row = dict[str, Any]
OTHERS, THE_DRUG = "all others together", "the drug itself"
_REST, _OF_DRUG = "all_others", "drug"
_KINDS = {
    "expression": "expression",
    "mutation": "mutation",
    "copy_number": "copy number",
    "methylation": "methylation",
    "tissue": "tissue",
    "drug": _OF_DRUG,
    "fingerprint": _OF_DRUG,
    **dict.fromkeys(("atom", "bond", "molecule", "token"), _OF_DRUG),  # what networks see of the molecule
}
_UNLIKE = "unlike the training data"  # how the model's note begins where an input is out of distribution


def in_order(table: pd.DataFrame, by: str, *, ascending: bool = True) -> pd.DataFrame:
    """Return answers about drugs in the order of the column ``by`` within each sample, with their ``rank`` there."""
    made = table.sort_values(["sample", by], ascending=[True, ascending], kind="stable").reset_index(drop=True)
    made.insert(0, "rank", made.groupby("sample").cumcount() + 1)
    return made


def probabilities(answer: Row) -> pd.DataFrame:
    """Return ``label, probability, held`` (whether the set of classes holds it), the most probable first."""
    held = set(answer.get("labels") or [])
    rows = [(label, float(value), label in held) for label, value in (answer.get("probabilities") or {}).items()]
    table = pd.DataFrame(rows, columns=["label", "probability", "held"])
    return table.sort_values("probability", ascending=False, kind="stable").reset_index(drop=True)


def contributions(answer: Row, target: str | None = None) -> pd.DataFrame:
    """Return what moved one prediction: ``feature, kind, value``, the largest first; the rest in rows at the end.

    What is of the drug and not of the cells is one row, `THE_DRUG`: it is the same whichever cells are asked about, and
    mostly larger than all that the cells have to say. What the endpoint has added up is `OTHERS`.

    Parameters
    ----------
    answer
        Of an endpoint that was asked to explain; without attributions the table is empty.
    target
        Which of many predicted genes is meant.
    """
    given = [row for row in answer.get("attributions") or [] if target is None or row.get("target") == target]
    rows = []
    for one in given:
        kind, name = _feature(str(one["feature"]))
        rows.append((name, kind, float(one["value"])))
    table = pd.DataFrame(rows, columns=["feature", "kind", "value"])
    drug, rest = table["kind"] == _OF_DRUG, table["feature"] == OTHERS
    first = table[~drug & ~rest].sort_values("value", key=lambda values: -values.abs(), kind="stable")
    of_drug = pd.DataFrame({"feature": [THE_DRUG], "kind": [""], "value": [table.loc[drug, "value"].sum()]})
    parts = [first, of_drug if drug.any() else of_drug[:0], table[rest].assign(kind="")]
    return pd.concat([part for part in parts if len(part)] or [table], ignore_index=True)


def base_of(answer: Row, target: str | None = None) -> float | None:
    """Return what contributions start from."""
    base = answer.get("base")
    if isinstance(base, Mapping):
        base = base.get(target)
    found = to_float(base)
    return found if math.isfinite(found) else None


def coverage_of(answers: Sequence[Row]) -> float | None:
    """Return the share of true values that intervals or sets were made to hold, of the rows that have a promise."""
    found = [to_float(row.get("coverage")) for row in answers]
    return next((each for each in found if math.isfinite(each)), None)


def version_of(answers: Sequence[Row]) -> str | None:
    """Return the version that answered; None where it says none."""
    found = next((row.get("model_version") for row in answers), None)
    return None if found in (None, "unregistered") else str(found)


def notes_of(table: pd.DataFrame) -> list[str]:
    """Return what the model says of rows besides, each sentence once, with how many rows it is said of."""
    said = table.loc[table["note"] != "", "note"].str.split("; ").explode()
    said = said[~said.str.startswith(_UNLIKE)]  # the panel above says so
    return [f"{count:,} of {len(table):,} predictions: {note}." for note, count in said.value_counts().items()]


def csv_of(table: pd.DataFrame) -> bytes:
    """Return a table as CSV in UTF-8, with a mark that tells spreadsheets so; no cell starts a formula."""
    safe = table.copy()
    for column in safe.columns:
        if safe[column].dtype == object or isinstance(safe[column].dtype, pd.StringDtype):
            safe[column] = [_cell(value) for value in safe[column]]
    buffer = io.StringIO()
    safe.to_csv(buffer, index=False)
    return buffer.getvalue().encode("utf-8-sig")


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def novelty(answers: Sequence[Row]) -> dict[str, Any]:
    """Return what is said of how like the training data each row is, as columns.

    Returns
    -------
    dict
        ``distance, threshold, familiar`` (None where the model cannot say), ``version, note``.
    """
    distance = [to_float(row.get("out_of_distribution")) for row in answers]
    threshold = [to_float(row.get("out_of_distribution_threshold")) for row in answers]
    known = [
        None if math.isnan(limit) else bool(score <= limit) for score, limit in zip(distance, threshold, strict=True)
    ]
    return {
        "distance": distance,
        "threshold": threshold,
        "familiar": pd.Series(known, dtype=object),
        "version": [str(row.get("model_version", "")) for row in answers],
        "note": [str(row.get("note") or "") for row in answers],
    }


def _feature(name: str) -> tuple[str, str]:
    """Return kind and name of ``expression:TP53``; genes of profiles have no kind."""
    kind, colon, rest = name.partition(":")
    if name == _REST:
        return "", OTHERS
    if not colon or kind not in _KINDS:
        return "", symbol_of(name)
    return _KINDS[kind], rest.replace("_", " ") if kind == "tissue" else symbol_of(rest)


def to_float(value: Any) -> float:
    """Return a number of an answer, NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
