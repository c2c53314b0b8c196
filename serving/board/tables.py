"""Answers of endpoints as tables for people: ranked, with intervals, and with what the model knows of such samples."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
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
_SETS = {
    frozenset({"sensitive"}): "sensitive alone",
    frozenset({"sensitive", "resistant"}): "either is possible",
    frozenset({"resistant"}): "resistant alone",
    frozenset(): "neither fits",
}


def ranked(answers: Sequence[Row], about: pd.DataFrame, usual: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Return predicted responses, the most sensitive of each sample first.

    Parameters
    ----------
    answers
        Of a regression: ``prediction, low, high, coverage`` and what is said of novelty.
    about
        Of the rows, as `serving.board.questions.Question` has it.
    usual
        Median measured response by ``drug_id``.

    Returns
    -------
    pandas.DataFrame
        ``rank`` within the sample, ``sample, drug, drug_id, prediction, low, high, usual, against_usual, distance,
        threshold, familiar`` (None where the model cannot say), ``version, note``.
    """
    table = pd.concat([about.reset_index(drop=True), pd.DataFrame(list(answers)).reset_index(drop=True)], axis=1)
    made = table[["sample", "drug", "drug_id"]].copy()
    for name in ("prediction", "low", "high"):
        made[name] = pd.to_numeric(table[name], errors="coerce") if name in table else np.nan
    made["usual"] = [float((usual or {}).get(str(drug), math.nan)) for drug in table["drug_id"]]
    made["against_usual"] = made["prediction"] - made["usual"]
    made = made.assign(**_novelty(answers))
    made = made.sort_values(["sample", "prediction"], kind="stable").reset_index(drop=True)
    made.insert(0, "rank", made.groupby("sample").cumcount() + 1)
    return made


def ranked_labels(answers: Sequence[Row], about: pd.DataFrame) -> pd.DataFrame:
    """Return predicted classes of response, the most probably sensitive of each sample first.

    Returns
    -------
    pandas.DataFrame
        ``rank, sample, drug, drug_id, label, sensitive`` (its probability), ``labels`` (the set, as text), ``holds``
        (what the set says, in words), ``called_below`` (the drug's threshold: a line whose response lies below it is
        called sensitive), and novelty as in `ranked`.
    """
    made = about.reset_index(drop=True).copy()
    made["label"] = [row.get("label") for row in answers]
    made["sensitive"] = [float((row.get("probabilities") or {}).get("sensitive", math.nan)) for row in answers]
    made["labels"] = [", ".join(row.get("labels") or []) for row in answers]
    made["holds"] = ["not known" if row.get("labels") is None else _SETS[frozenset(row["labels"])] for row in answers]
    made["called_below"] = [_float(row.get("threshold")) for row in answers]
    made = made.assign(**_novelty(answers))
    made = made.sort_values(["sample", "sensitive"], ascending=[True, False], kind="stable").reset_index(drop=True)
    made.insert(0, "rank", made.groupby("sample").cumcount() + 1)
    return made


def classes(answers: Sequence[Row], names: Sequence[str]) -> pd.DataFrame:
    """Return a row a sample.

    Returns
    -------
    pandas.DataFrame
        ``sample, label, probability, labels`` (the set, as text), novelty as in `ranked`, and ``probability_<class>``
        of each class.
    """
    of = [row.get("probabilities") or {} for row in answers]
    every = dict.fromkeys(str(label) for found in of for label in found)
    each = {f"probability_{label}": [_float(found.get(label)) for found in of] for label in every}
    made = pd.DataFrame(
        {
            "sample": list(names),
            "label": [row.get("label") for row in answers],
            "probability": [_float(row.get("probability")) for row in answers],
            "labels": [", ".join(map(str, row.get("labels") or [])) for row in answers],
        }
    )
    return made.assign(**_novelty(answers), **each)


def probabilities(answer: Row, most: int = 10) -> pd.DataFrame:
    """Return ``label, probability, held`` (whether the set of classes holds it), the most probable first."""
    held = set(answer.get("labels") or [])
    rows = [(label, float(value), label in held) for label, value in (answer.get("probabilities") or {}).items()]
    table = pd.DataFrame(rows, columns=["label", "probability", "held"])
    return table.sort_values("probability", ascending=False, kind="stable").head(most).reset_index(drop=True)


def targets(answers: Sequence[Row], names: Sequence[str]) -> pd.DataFrame:
    """Return predicted genes, a row a sample and gene: ``sample, gene, prediction, low, high``, and novelty."""
    parts = []
    for name, answer, novelty in zip(names, answers, _rows(_novelty(answers)), strict=True):
        predicted = answer.get("prediction") or {}
        low, high = answer.get("low") or {}, answer.get("high") or {}
        part = pd.DataFrame(
            {
                "sample": name,
                "target": list(predicted),
                "gene": [symbol_of(gene) for gene in predicted],
                "prediction": [_float(value) for value in predicted.values()],
                "low": [_float(low.get(gene)) for gene in predicted],
                "high": [_float(high.get(gene)) for gene in predicted],
            }
        )
        parts.append(part.assign(**novelty))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


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
    found = _float(base)
    return found if math.isfinite(found) else None


def coverage_of(answers: Sequence[Row]) -> float | None:
    """Return the share of true values that intervals or sets were made to hold, of the rows that have a promise."""
    found = [_float(row.get("coverage")) for row in answers]
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


def unfamiliar(table: pd.DataFrame) -> int:
    """Return how many rows are unlike what the model was trained on."""
    return int((table["familiar"] == False).sum())  # noqa: E712  # None is no answer


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


def _novelty(answers: Sequence[Row]) -> dict[str, Any]:
    distance = [_float(row.get("out_of_distribution")) for row in answers]
    threshold = [_float(row.get("out_of_distribution_threshold")) for row in answers]
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


def _rows(columns: dict[str, Any]) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in pd.DataFrame(columns).to_dict("records")]


def _feature(name: str) -> tuple[str, str]:
    """Return kind and name of ``expression:TP53``; genes of profiles have no kind."""
    kind, colon, rest = name.partition(":")
    if name == _REST:
        return "", OTHERS
    if not colon or kind not in _KINDS:
        return "", symbol_of(name)
    return _KINDS[kind], rest.replace("_", " ") if kind == "tissue" else symbol_of(rest)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
