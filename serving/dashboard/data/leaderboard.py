"""The architectures of a task side by side: scores with intervals, costs, and what their explanations name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.errors import UserError
from pipelines.files import read_json
from pipelines.samples.gene_names import symbol_of
from serving.dashboard.data.collection import drug_labels
from serving.dashboard.data.words import named, number, with_interval

COSTS = {  # of the evidence: what people read, and digits; the first three stand in the leaderboard
    "cost_latency_ms_batch_1": ("Time to answer one row (ms)", 2),
    "cost_fit_seconds": ("Time to fit (s)", 1),
    "cost_model_megabytes": ("Size of the model (MB)", 1),
    "cost_peak_memory_megabytes": ("Memory to fit (MB)", 0),
    "cost_parameters": ("Parameters", 0),
}
STANDINGS = {
    "best": "best",
    "indistinguishable": "not told from the best",
    "worse": "worse than the best",
    "undefined": "undefined",
}
TOP = 15
_OVERALL = {"top_genes.csv": "mean_abs", "top_predictors.csv": "mean_abs"}


@dataclass(frozen=True)
class Standings:
    """A leaderboard.

    Attributes
    ----------
    rows
        As `evaluation.leaderboard` wrote them, the best first.
    notes
        What `make compare` found, where it has run on these very models.
    pairs
        What it compared, pair by pair; empty where it has not.
    """

    task: str
    metric: str
    rows: list[dict[str, Any]]
    notes: list[str]
    pairs: list[dict[str, Any]]

    @property
    def simulated(self) -> bool:
        """Whether any of it was measured on simulated data."""
        return any(row["simulated"] for row in self.rows)

    @property
    def names(self) -> list[str]:
        """Return the architectures, the best first."""
        return [str(row["architecture"]) for row in self.rows]


def standings(task: str, reports: Path) -> Standings:
    """Read the leaderboard of a task.

    Raises
    ------
    UserError
        There is none yet, or it cannot be read.
    """
    path = reports / task / "leaderboard.json"
    rows = _json(path, f"no model of {task} is evaluated yet; run `make train TASK={task}`")
    try:
        rows = [row for row in rows if isinstance(row["architecture"], str)]
        metric = str(rows[0]["metric"])
        comparison = _comparison(reports / task / "comparison" / "comparison.json", rows)
    except (TypeError, KeyError, IndexError) as error:
        raise UserError(f"{path}: is no leaderboard; run `make train TASK={task}`") from error
    standing = {row["architecture"]: row.get("standing") for row in comparison.get("rows", [])}
    rows = [{**row, "standing": standing.get(row["architecture"])} for row in rows]
    notes = [_with_names(note, rows) for note in comparison.get("notes", []) if not note.startswith("SIMULATED")]
    return Standings(task, metric, rows, notes, list(comparison.get("pairs", [])))


def board(found: Standings) -> pd.DataFrame:
    """Return the leaderboard for people: every score with its interval."""
    rows = []
    for row in found.rows:
        margin = {"value": row["margin"], "low": row["margin_low"], "high": row["margin_high"]}
        rows.append(
            {
                "Architecture": named(row["architecture"]) + (" (baseline)" if row["baseline"] else ""),
                "Score": with_interval(row),
                "Margin": "–" if row["baseline"] else with_interval(margin, sign="+"),
                "Standing": STANDINGS.get(str(row["standing"]), "not compared yet"),
                **{head: number(row["cost"].get(key), digits) for key, (head, digits) in list(COSTS.items())[:3]},
            }
        )
    return pd.DataFrame(rows)


def as_table(found: Standings) -> pd.DataFrame:
    """Return the leaderboard for programs; a score or margin without an interval is left empty.

    Returns
    -------
    pandas.DataFrame
        ``architecture, baseline, metric, value, low, high, margin, margin_low, margin_high, standing, simulated``, and
        each cost that is known of any.
    """
    rows = []
    for row in found.rows:
        kept = {name: row[name] for name in ("architecture", "baseline", "metric")}
        for names in (("value", "low", "high"), ("margin", "margin_low", "margin_high")):
            ends = [row[name] for name in names]
            kept |= dict(zip(names, [None] * 3 if None in ends else ends, strict=True))
        costs = {key: row["cost"].get(key) for key in known_costs(found)}
        rows.append({**kept, "standing": row["standing"], "simulated": row["simulated"], **costs})
    return pd.DataFrame(rows)


def scores(found: Standings) -> pd.DataFrame:
    """Return ``architecture, value, low, high, baseline, score`` for charts; without those that have no interval."""
    rows = [
        {
            "architecture": named(row["architecture"]),
            **{end: row[end] for end in ("value", "low", "high")},
            "kind": "baseline" if row["baseline"] else "model",
            "score": with_interval(row),
        }
        for row in found.rows
        if all(row[end] is not None for end in ("value", "low", "high"))
    ]
    return pd.DataFrame(rows, columns=["architecture", "value", "low", "high", "kind", "score"])


def against_cost(found: Standings, cost: str) -> pd.DataFrame:
    """Return `scores` with a column ``cost``, of those whose cost is known and above zero."""
    costs = {named(row["architecture"]): row["cost"].get(cost) for row in found.rows}
    table = scores(found)
    table["cost"] = pd.to_numeric(table["architecture"].map(costs), errors="coerce")
    return table[table["cost"] > 0].reset_index(drop=True)


def known_costs(found: Standings) -> list[str]:
    """Return the costs that at least one architecture has."""
    return [key for key in COSTS if any(row["cost"].get(key) for row in found.rows)]


def agreement(found: Standings, one: str, other: str) -> float | None:
    """Return the share of top genes that both name; None where one of them names none."""
    value = (score_of(found, one).get("agreement") or {}).get(other)
    return None if value is None else float(value)


@dataclass(frozen=True)
class Explained:
    """What the explanations of an architecture name.

    Attributes
    ----------
    of
        What parts there are, such as "Drug"; None where there is one table of all.
    table
        ``part, feature, value, mean``: mean size and mean of contributions; the largest first within a part.
    image
        A figure in its place, for networks on images.
    """

    of: str | None
    table: pd.DataFrame
    image: Path | None = None

    @property
    def parts(self) -> list[str]:
        """Return what can be chosen, in order."""
        return sorted(self.table["part"].unique())

    def top(self, part: str | None = None, count: int = TOP) -> pd.DataFrame:
        """Return the largest of a part."""
        table = self.table if part is None else self.table[self.table["part"] == part]
        return table.head(count).reset_index(drop=True)


def explained(
    folder: Path, pictures: Sequence[str], tables: Sequence[tuple[str, str, str]], *, overall: bool = True
) -> Explained | None:
    """Read what an architecture's explanations name; None where it has none.

    Parameters
    ----------
    folder
        Of its reports.
    pictures, tables
        Of the task's modality and problem, see `serving.problems.Problem`.
    overall
        Whether the table over all parts is wanted, where there is one.
    """
    for image in pictures:
        if (folder / image).is_file():
            return Explained(None, pd.DataFrame(columns=["part", "feature", "value", "mean"]), folder / image)
    if overall:
        for file, column in _OVERALL.items():
            if (folder / file).is_file():
                table = pd.read_csv(folder / file)
                return _shown(Explained(None, _features(table, pd.Series("", index=table.index), column)))
    for file, column, word in tables:
        if (folder / file).is_file():
            table = pd.read_csv(folder / file)
            if column == "drug":  # one name may be that of several drugs
                part = table["drug_id"].map(drug_labels(table["drug_id"].astype(str), table["drug"].astype(str)))
            else:
                part = table[column].astype(str).map(symbol_of)
            return _shown(Explained(word, _features(table, part, "mean_abs")))
    return None


def _shown(found: Explained) -> Explained | None:
    """Leave out what looks at no feature, such as a mean."""
    return found if (found.table["value"] > 0).any() else None


def _features(table: pd.DataFrame, part: pd.Series, column: str) -> pd.DataFrame:
    kind = table["omics"].astype(str).str.replace("_", " ") if "omics" in table else pd.Series("", index=table.index)
    gene = table["gene"].astype(str).map(symbol_of)
    gene = gene.where(kind != "tissue", gene.str.replace("_", " "))
    feature = [f"{name} ({of})" if of and of != "expression" else name for name, of in zip(gene, kind, strict=True)]
    mean = table["mean"] if "mean" in table else table[column]
    made = pd.DataFrame({"part": part, "feature": feature, "value": table[column], "mean": mean})
    return made.sort_values(["part", "value"], ascending=[True, False], kind="stable").reset_index(drop=True)


def _with_names(note: str, rows: list[dict[str, Any]]) -> str:
    """Return a sentence in which architectures are called by their names."""
    for row in rows:
        note = re.sub(rf"\b{re.escape(row['architecture'])}\b", named(row["architecture"]), note)
    return note.replace(" r2 ", " R² ")


def _comparison(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the comparison of these very fits; one of earlier fits says nothing of them."""
    if not path.is_file():
        return {}
    found: dict[str, Any] = _json(path, "")
    same = {row["run_id"] for row in found["rows"]} == {row["run_id"] for row in rows}
    return found if same else {}


def _json(path: Path, missing: str) -> Any:
    if not path.is_file():
        raise UserError(missing)
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def same_parts(one: Explained, other: Explained) -> list[str]:
    """Return what both explanations have a part for."""
    return [part for part in one.parts if part in set(other.parts)]


def shared_features(one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """Return the features that both tables name, in the order of the first."""
    there = set(other["feature"])
    return [feature for feature in one["feature"] if feature in there]


def score_of(found: Standings, architecture: str) -> Mapping[str, Any]:
    """Return the row of an architecture."""
    return next(row for row in found.rows if row["architecture"] == architecture)
