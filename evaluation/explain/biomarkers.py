"""Known biomarkers, looked up in what a model says: found, not found, not looked at; and does the data show them?

A marker is *found* where its feature is among the drug's `PLACES` first, or among the first `SHARE` of all measured
features if that is more, by mean absolute contribution, and its contribution goes the way that is known. One in a
table that the model does not take, as a mutation for a model of expression alone, is *not looked at*: it cannot be
found, and does not count among those that could be (`COULD_SEE`); one that the model's choice of features left out
does. Whether the data shows it is tested without any model: how the measured response changes with the
marker over the rows outside the test split. A marker that the data does not show cannot be held against a model, and
one that it shows can.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from evaluation.explain.sensitizing import FEWEST, values_of
from evaluation.metrics.columns import encode
from evaluation.metrics.resample import Interval, group_counts, percentile_interval
from pipelines.samples.gene_names import parts_of
from pipelines.samples.response import ResponseSamples
from pipelines.typed_yaml import TypedReader

FILE = Path(__file__).with_name("biomarkers.yaml")
PLACES = 10
SHARE = 0.01
RULE = (
    f"among the first {PLACES} measured features of the drug, or the first {SHARE:.0%} if that is more, by mean "
    "absolute contribution, and in the direction that is known"
)
COULD_SEE = ("found", "not found")  # what a model is asked: the others lie outside its eyes, its test rows or the data
LEAST_LINES = 20  # of which the data is asked
LEAST_CARRIERS = 3  # lines with a mutation, and lines without

_COLUMNS = (
    *("drug", "drug_id", "gene", "omics", "makes", "status", "why", "rank", "features", "effect", "rows"),
    *("data", "data_effect", "data_low", "data_high", "data_lines", "data_carriers", "reference"),
)


@dataclass(frozen=True)
class Marker:
    """A gene that is known to go with the response to a drug.

    Attributes
    ----------
    drug, synonyms
        Names of the drug; case and punctuation do not count.
    gene, aliases
        Names of the gene.
    omics
        The table where it shows.
    makes
        What a mutation, a high expression or more copies make of a line.
    reference
        The work that showed it.
    """

    drug: str
    synonyms: tuple[str, ...]
    gene: str
    omics: Literal["expression", "mutation", "copy_number", "methylation"]
    makes: Literal["sensitive", "resistant"]
    reference: str
    aliases: tuple[str, ...] = ()

    @property
    def direction(self) -> int:
        """Return the sign that the effect on the response has: -1 lowers it, which is sensitive."""
        return -1 if self.makes == "sensitive" else 1


@dataclass(frozen=True)
class _Markers:
    markers: tuple[Marker, ...]


def read_markers(path: Path = FILE) -> tuple[Marker, ...]:
    """Return the markers of a file."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    assert node is not None
    found: _Markers = TypedReader(path, {}).read(node, _Markers, "biomarkers")
    return found.markers


def marked_drugs(markers: Sequence[Marker], drugs: pd.DataFrame) -> list[str]:
    """Return the ids of the drugs that a marker is known of, in the order of the markers."""
    return list(dict.fromkeys(drug for marker in markers for drug in ids_of(marker, drugs)))


def ids_of(marker: Marker, drugs: pd.DataFrame) -> list[str]:
    """Return the ids of the drugs (index ``drug_id``) that bear a name of the marker's drug, or are called so."""
    names = {_plain(name) for name in (marker.drug, *marker.synonyms)}
    titles = drugs["name"] if "name" in drugs else pd.Series("", index=drugs.index)
    return [
        str(drug)
        for drug, title in titles.items()
        if (isinstance(title, str) and _plain(title) in names) or _plain(str(drug)) in names
    ]


def feature_of(marker: Marker, samples: ResponseSamples) -> str | None:
    """Return the feature ``<omics>:<column>`` of a marker, None where the data has none."""
    wanted = {marker.gene, *marker.aliases}
    columns = map(str, samples.omics[marker.omics].columns) if marker.omics in samples.omics else ()
    found = next((column for column in columns if wanted & {column, *parts_of(column)}), None)
    return None if found is None else f"{marker.omics}:{found}"


def look_up(
    markers: Sequence[Marker],
    directed: pd.DataFrame,
    samples: ResponseSamples,
    train: ResponseSamples,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Look known markers up in what a model says.

    Parameters
    ----------
    markers
        From `read_markers`.
    directed
        From `evaluation.explain.sensitizing.directed`: every feature of every drug that was explained.
    samples
        Any samples of the data: its drugs and its tables.
    train
        Rows outside the test split, of which the data is asked.
    resamples, confidence, seed
        Of the interval of the data's effect; lines are resampled.

    Returns
    -------
    pandas.DataFrame
        A row a marker and id of its drug: ``status`` is ``found``, ``not found``, ``not looked at`` (the model takes
        nothing of that omics), ``not tested`` (the drug has too few explained rows) or ``not in the data``, and ``why``
        says more. ``rank`` of ``features``, ``effect`` in units of what is predicted. ``data``: ``shown``,
        ``contrary``, ``not shown`` or ``too few lines``, with the effect on the measured response (of a mutation, or of
        one standard deviation) and its interval.
    """
    bootstrap: dict[str, Any] = {"resamples": resamples, "confidence": confidence, "seed": seed}
    ranked = {str(drug): table.set_index(_features(table)) for drug, table in directed.groupby("drug_id", sort=False)}
    rows: list[dict[str, Any]] = []
    for marker in markers:
        known = {"drug": marker.drug, "gene": marker.gene, "omics": marker.omics, "makes": marker.makes}
        known |= {"reference": marker.reference}
        drugs, feature = ids_of(marker, samples.drugs), feature_of(marker, samples)
        if not drugs or feature is None:
            lacking = f"{marker.gene} in {marker.omics.replace('_', ' ')}" if drugs else marker.drug
            rows.append({**known, "status": "not in the data", "why": f"there is no {lacking}"})
            continue
        seen = data_effect(marker, drugs, feature, train, **bootstrap)
        rows += [{**known, "drug_id": drug, **_verdict(marker, feature, ranked.get(drug)), **seen} for drug in drugs]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def data_effect(
    marker: Marker, drugs: Sequence[str], feature: str, train: ResponseSamples, **bootstrap: Any
) -> dict[str, Any]:
    """Return how the measured response changes with a marker, over all ids of its drug, each taken from its mean."""
    ids = train.drugs.index.astype(str).to_numpy()[train.drug]
    rows = np.flatnonzero(np.isin(ids, list(drugs)))
    x = values_of(train, [feature], rows)[:, 0]
    rows, x = rows[~np.isnan(x)], x[~np.isnan(x)]
    measured = train.pairs["response" if "response" in train.pairs else "target"]
    y = measured.to_numpy(np.float64)[rows]
    y = y - pd.Series(y).groupby(ids[rows]).transform("mean").to_numpy()
    line = train.pairs["cell_line_id"].to_numpy(str)[rows]
    lines = len(np.unique(line))
    carriers = len(np.unique(line[x > 0])) if marker.omics == "mutation" else None
    told: dict[str, Any] = {"data_lines": lines, "data_carriers": carriers}
    few = carriers is not None and min(carriers, lines - carriers) < LEAST_CARRIERS
    if lines < LEAST_LINES or few or not x.std() > 0:
        return {"data": "too few lines", **told}
    found = slope(x if marker.omics == "mutation" else x / x.std(), y, line, **bootstrap)
    told |= {"data_effect": found.value, "data_low": found.low, "data_high": found.high}
    if found.low <= 0 <= found.high:
        return {"data": "not shown", **told}
    return {"data": "shown" if np.sign(found.value) == marker.direction else "contrary", **told}


def slope(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, *, resamples: int, confidence: float, seed: int
) -> Interval:
    """Return the least-squares slope of ``y`` on ``x`` with its interval over groups; all of shape ``(n,)``.

    Of an ``x`` of zeros and ones that is the difference of the two means. A resample in which ``x`` does not vary is
    left aside.
    """
    labels, group = encode("groups", groups, len(x))
    columns = np.column_stack([np.ones_like(x), x, y, x * x, x * y])
    sums = np.zeros((len(labels), columns.shape[1]))
    np.add.at(sums, group, columns)
    counts = np.vstack([np.ones((1, len(labels))), group_counts(len(labels), resamples, seed)])
    n, sx, sy, sxx, sxy = (counts @ sums).T
    spread = sxx - sx * sx / n
    slopes = np.divide(sxy - sx * sy / n, spread, out=np.full(len(n), np.nan), where=spread > 1e-9 * sxx)
    return percentile_interval(float(slopes[0]), slopes[1:], confidence)


def _verdict(marker: Marker, feature: str, ranked: pd.DataFrame | None) -> dict[str, Any]:
    """Return what a model says of a marker, from the ranked features of one drug."""
    if ranked is None:
        return {"status": "not tested", "why": f"fewer than {FEWEST} lines of the test split met the drug"}
    told: dict[str, Any] = {"features": len(ranked), "rows": int(ranked["rows"].iloc[0])}
    if feature not in ranked.index:
        table = marker.omics.replace("_", " ")
        if not (ranked["omics"] == marker.omics).any():
            return {**told, "status": "not looked at", "why": f"the model does not look at {table}"}
        return {**told, "status": "not found", "why": f"of {table} the model does not look at {marker.gene}"}
    row: dict[Any, Any] = ranked.loc[feature].to_dict()
    place, direction = int(row["rank"]), int(row["direction"])
    told |= {"rank": place, "effect": float(row["effect"])}
    within = max(PLACES, math.ceil(SHARE * len(ranked)))
    if place > within or row["mean_abs"] == 0:
        why = "it adds nothing" if row["mean_abs"] == 0 else f"its place is {place}, beyond {within}"
        return {**told, "status": "not found", "why": why}
    if direction != marker.direction:
        why = "it varies in none of the explained lines" if direction == 0 else "its direction is the other one"
        return {**told, "status": "not found", "why": why}
    return {**told, "status": "found", "why": f"its place is {place} of {len(ranked)}"}


def _features(table: pd.DataFrame) -> pd.Series:
    return table["omics"].astype(str) + ":" + table["gene"].astype(str)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
