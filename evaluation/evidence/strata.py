"""Strata: parts of the test rows that the values of a column name, each measured beside the rest of the rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from evaluation.comparison.paired import holm
from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.metrics import Floats, as_metrics, defined, gain, group_counts, mean_of_rows, percentile_interval
from evaluation.modalities import modality_of
from evaluation.problems import Measures
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import PARAMS_FILE, Task
from pipelines.problems import get_problem
from pipelines.text_values import known_column

LEAST_GROUPS = 10  # of a stratum that is judged
MISSING = "missing"  # the stratum of rows without a value
_CATEGORIES = 10  # a column of numbers with more values is cut into bands
_QUARTILES = (0.25, 0.5, 0.75)
_SPREAD = 201  # the rows themselves, and as many resamples of them as tell the spread of a difference
_NO_STRATA = ("sample_id", "target", "digest", "group", "split", "fold", "outer")


def strata_of(prepared: Prepared, task: Task, name: str) -> dict[str, np.ndarray]:
    """Return by declared column the stratum of each tested sample of the task ``name``, text, ``(n,)``.

    `UserError` for a column that the data does not have, and for bands of a column that holds no numbers.
    """
    table, settings = prepared.table.reset_index(drop=True), task.evaluate
    described = modality_of(task.modality).described(prepared.samples)
    table = table.join(described.drop(columns=table.columns, errors="ignore"))
    table = table.drop(columns=[*_NO_STRATA], errors="ignore")
    train, found = prepared.rows("train"), {}
    for asked in settings.strata:
        column = asked.removesuffix("?")
        if column in table:
            key = f"{PARAMS_FILE}: tasks.{name}.evaluate.bands.{column}"
            found[column] = stratify(table[column], train, settings.bands.get(column, ()), key)[prepared.tested]
        elif column == asked:
            there = ", ".join(map(str, table.columns))
            raise UserError(
                f"{PARAMS_FILE}: tasks.{name}.evaluate.strata names {column!r}, which is no column of the data; there "
                f"are {there}. Write '{column}?' for one that only some data has"
            )
    return found


def stratify(column: pd.Series, train: np.ndarray, edges: Sequence[float], key: str) -> np.ndarray:
    """Return the stratum of each row, text, ``(n,)``: its value, or the band of a number between ``edges``.

    Without edges numbers of many values are cut at the quartiles of the rows ``train`` (positions). ``key`` names the
    edges in the `UserError` of a column that holds no numbers.
    """
    text = known_column(column)
    known = text.notna().to_numpy()
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    numeric = bool(known.any() and not np.isnan(numbers[known]).any())
    if edges and not numeric:
        raise UserError(f"{key} has edges, and the column holds what is no number")
    if not edges and (not numeric or len(np.unique(numbers[known])) <= _CATEGORIES):
        return text.fillna(MISSING).to_numpy(str)
    if not edges:
        trained = numbers[train][known[train]]
        edges = np.unique(np.quantile(trained if len(trained) else numbers[known], _QUARTILES)).tolist()
    inner = [f"{low:g} to {high:g}" for low, high in zip(edges, edges[1:], strict=False)]
    names = np.array([f"up to {edges[0]:g}", *inner, f"above {edges[-1]:g}", MISSING])
    return names[np.where(known, np.searchsorted(edges, numbers, side="left"), len(names) - 1)]


def evidence(run: Evaluation, measures: Measures, inside: np.ndarray) -> Evidence:
    """Return the section ``strata``; ``inside`` is the argument of `Evaluation.coverage`.

    A stratum with `LEAST_GROUPS` groups and a defined score is judged: its ``drop`` is how far it scores below all
    rows, and it is compared with the ``rest`` of the rows, on the same resamples of the groups. The p-value is that of
    a normal distribution with the spread of the resampled differences (no resampled share could be small enough for so
    many strata), corrected for their number (Holm).
    """
    metric, settings = run.task.evaluate.metric, run.task.evaluate
    by_column = strata_of(run.prepared, run.task, run.fitted.task)
    scored, rows = _Scored(run, measures), list[dict[str, Any]]()
    every = scored.of(np.ones(len(run.predictions), dtype=bool)) if by_column else np.array([np.nan])
    for column, strata in by_column.items():
        for name in np.unique(strata):
            part = strata == name
            own, found = scored.metrics(part)
            row: dict[str, Any] = {"column": column, "name": str(name), "rows": int(part.sum())}
            row["groups"] = found.pop("groups")
            row["judged"] = bool(row["groups"] >= LEAST_GROUPS and np.isfinite(own[0]) and not part.all())
            covered = mean_of_rows(inside[part], run.groups[part], **run.bootstrap)
            row |= {"metrics": found, "coverage": {"observed": covered.value, "low": covered.low, "high": covered.high}}
            if row["judged"]:
                rest, share = scored.of(~part, _SPREAD), len(np.unique(run.groups[~part])) / row["groups"]
                row |= {"drop": _lost(run, every, own), "rest": _against_rest(run, rest, own[:_SPREAD], share)}
            rows.append(row)
    judged = [row for row in rows if row["judged"]]
    for row, corrected in zip(judged, holm([row["rest"]["p"] for row in judged]), strict=True):
        row["rest"] |= {"p_corrected": corrected, "significant": bool(corrected < 1 - settings.confidence)}
    judged.sort(key=lambda row: -np.nan_to_num(row["drop"]["value"]))
    worst = judged[0] if judged else None
    section: dict[str, Any] = {"metric": metric, "least_groups": LEAST_GROUPS, "columns": list(by_column), "rows": rows}
    section["worst"] = None
    logged: dict[str, float] = {}
    for row in judged:
        logged |= as_metrics(f"{_logged_name(row)}/{metric}", row["metrics"][metric])
    if worst is not None:
        section["worst"] = {key: worst[key] for key in ("column", "name", "rows", "groups", "drop")}
        section["worst"] |= {key: worst["metrics"][metric][key] for key in ("value", "low", "high")}
        logged |= as_metrics(f"test/worst_stratum_{metric}", worst["metrics"][metric])
        logged |= as_metrics(f"test/worst_stratum_{metric}_drop", worst["drop"])
    table = pd.DataFrame([_flat(row) for row in rows]) if rows else None
    tables = {} if table is None else {"strata": table}
    return Evidence(sections={"strata": section}, tables=tables, logged=logged)


class _Scored:
    """The task's metric of parts of the test rows, by itself and on the same resamples of all groups."""

    def __init__(self, run: Evaluation, measures: Measures) -> None:
        self.run, self.measures = run, measures
        self.metric = run.task.evaluate.metric
        self.learnt = measures.learnt(run.task, lambda: run.prepared.side("train"))
        self.labels, self.code = np.unique(run.groups.astype(str), return_inverse=True)
        some = len(self.labels) > 1
        self.counts = group_counts(len(self.labels), run.task.evaluate.resamples, run.seed) if some else None

    def of(self, part: np.ndarray, first: int | None = None) -> Floats:
        """Return the metric of the rows ``part`` (bool), and of each resample, NaN where it has no row.

        ``first`` is how many of these numbers are returned, None for all.
        """
        known: dict[str, Any] = {"margin_metric": self.metric, **self.learnt}
        weights = self._weights(part)[:first]
        rows, drawn = self.run.predictions[part], weights.any(axis=1)
        found = np.full(len(weights), np.nan)
        found[drawn] = self.measures.weighted(rows, self.metric, weights[drawn], **known)[self.metric]
        return found

    def metrics(self, part: np.ndarray) -> tuple[Floats, dict[str, Any]]:
        """Return the result of `of`, and every registered metric with its interval and the number of ``groups``."""
        task, weights = self.run.task, self._weights(part)
        drawn, groups = weights.any(axis=1), weights.shape[1]
        found = self.measures.resampled(self.run.predictions[part], task, weights[drawn])
        every = np.full((len(found), len(weights)), np.nan)  # a resample without a row leaves all undefined
        every[:, drawn] = list(found.values())
        values_of = dict(zip(found, every, strict=True))
        if self.metric not in found:
            values_of[self.metric] = self.of(part)
        named = {each.name for each in get_problem(task.problem).metrics}
        made: dict[str, Any] = {"groups": groups}
        for name, values in values_of.items():
            resampled = values[1:] if groups > 1 else values[:0]  # every resample of one group is the group itself
            if name in named:
                made[name] = percentile_interval(float(values[0]), resampled, task.evaluate.confidence).as_dict()
        return values_of[self.metric], made

    def _weights(self, part: np.ndarray) -> np.ndarray:
        """Return how often each group of the rows is drawn: once, and in each resample of all groups."""
        own = np.unique(self.code[part])
        once = np.ones((1, len(own)), np.int64)
        return once if self.counts is None else np.vstack([once, self.counts[:, own]])


def _lost(run: Evaluation, every: Floats, own: Floats) -> dict[str, float]:
    lost = gain(run.task.evaluate.metric, every, own)
    return percentile_interval(float(lost[0]), lost[1:], run.task.evaluate.confidence).as_dict()


def _against_rest(run: Evaluation, rest: Floats, own: Floats, share: float) -> dict[str, float]:
    """Return by how much the rows score above the rest, with the interval and p-value (two-sided) of a normal error.

    ``share`` is how many times as many groups the rest has.
    """
    better = gain(run.task.evaluate.metric, own, rest)
    value, (known, _) = float(better[0]), defined(better[1:])
    spread = float(known.std(ddof=1)) if len(known) > 1 else np.nan
    # Of few rows without an error no resample has one: they are taken to vary as so few groups of the rest do.
    spread = max(spread, float(np.nanstd(rest[1:])) * np.sqrt(share)) if len(known) > 1 else spread
    reach = float(ndtri((1 + run.task.evaluate.confidence) / 2)) * spread
    p = 2 * float(ndtr(-abs(value) / spread)) if spread > 0 else np.nan
    return {"difference": value, "low": value - reach, "high": value + reach, "p": p}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table ``strata.csv``."""
    flat = {key: row[key] for key in ("column", "name", "rows", "groups", "judged")}
    for name, found in {**row["metrics"], "coverage": row["coverage"], "drop": row.get("drop", {})}.items():
        flat[name] = found.get("value", found.get("observed"))
        flat |= {f"{name}_{end}": found.get(end) for end in ("low", "high")}
    return flat | {"p_corrected": row.get("rest", {}).get("p_corrected")}


def _logged_name(row: dict[str, Any]) -> str:
    """Return the group of a stratum's metrics, with its name as MLflow takes it."""
    return f"by_{row['column']}/" + re.sub(r"[^\w\-. :]", "_", row["name"])
