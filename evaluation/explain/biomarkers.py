"""Known biomarkers, looked up in the explanation of a model by `RULE`, and tested in the data without any model."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from evaluation.explain.genes import FEWEST, drug_names, values_of
from evaluation.metrics import Interval, encode, group_counts, percentile_interval
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
COULD_SEE = ("found", "not found")  # the model takes the table, and the drug was tested
LEAST_LINES = 20  # with which the data is tested
LEAST_CARRIERS = 3  # lines with a mutation, and lines without

COLUMNS = (
    *("drug", "drug_id", "gene", "omics", "makes", "status", "why", "rank", "features", "effect", "rows"),
    *("data", "data_effect", "data_low", "data_high", "data_lines", "data_carriers", "reference"),
)


@dataclass(frozen=True)
class Marker:
    """A gene that is known to go with the response to a drug."""

    drug: str
    gene: str
    omics: Literal["expression", "mutation", "copy_number", "methylation"]  # the table where it shows
    makes: Literal["sensitive", "resistant"]  # what a mutation, a high expression or more copies make of a line
    reference: str  # the work that showed it
    synonyms: tuple[str, ...] = ()  # other names of the drug; case and punctuation do not count
    aliases: tuple[str, ...] = ()  # of the gene

    @property
    def direction(self) -> int:
        """Return the sign of the effect on the response: -1 lowers it, which is sensitive."""
        return -1 if self.makes == "sensitive" else 1


def read_markers() -> tuple[Marker, ...]:
    """Return the markers of `FILE`."""
    node: Any = yaml.compose(FILE.read_text(encoding="utf-8"))
    found: dict[str, tuple[Marker, ...]] = TypedReader(FILE, {}).read(node, dict[str, tuple[Marker, ...]], "biomarkers")
    return found["markers"]


def marked_drugs(markers: Sequence[Marker], samples: ResponseSamples) -> list[str]:
    """Return the ids of the drugs with a marker, in the order of the markers."""
    return list(dict.fromkeys(drug for marker in markers for drug in ids_of(marker, samples)))


def ids_of(marker: Marker, samples: ResponseSamples) -> list[str]:
    """Return the ids of the drugs whose name or id is a name of the marker's drug."""
    names = {_plain(name) for name in (marker.drug, *marker.synonyms)}
    return [
        str(drug)
        for drug, title in drug_names(samples).items()
        if (isinstance(title, str) and _plain(title) in names) or _plain(str(drug)) in names
    ]


def feature_of(marker: Marker, samples: ResponseSamples) -> str | None:
    """Return the feature ``<omics>:<column>`` of a marker, None where the data has none."""
    wanted = {marker.gene, *marker.aliases}
    columns = map(str, samples.omics[marker.omics].columns) if marker.omics in samples.omics else ()
    found = next((column for column in columns if wanted & {column, *parts_of(column)}), None)
    return None if found is None else f"{marker.omics}:{found}"


def look_up(
    markers: Sequence[Marker], found: pd.DataFrame, samples: ResponseSamples, train: ResponseSamples, **bootstrap: Any
) -> pd.DataFrame:
    """Look known markers up in what `genes.directed` ``found``: `COLUMNS`, a row a marker and id of its drug.

    ``status`` is ``found``, ``not found``, ``not looked at`` (the model takes nothing of that omics), ``not tested``
    (the drug has too few explained rows) or ``not in the data``. ``data`` is ``shown``, ``contrary``, ``not shown`` or
    ``too few lines``, with the effect on the measured response of ``train``, the rows outside the test split (of a
    mutation, or of one standard deviation) and its interval, lines resampled.
    """
    of_drug = {str(drug): table for drug, table in found.groupby("drug_id", sort=False)}
    rows: list[dict[str, Any]] = []
    for marker in markers:
        known = {name: getattr(marker, name) for name in ("drug", "gene", "omics", "makes", "reference")}
        drugs, feature = ids_of(marker, samples), feature_of(marker, samples)
        if not drugs or feature is None:
            lacking = f"{marker.gene} in {marker.omics.replace('_', ' ')}" if drugs else marker.drug
            rows.append({**known, "status": "not in the data", "why": f"there is no {lacking}"})
            continue
        seen = data_effect(marker, drugs, feature, train, **bootstrap)
        rows += [{**known, "drug_id": drug, **_verdict(marker, feature, of_drug.get(drug)), **seen} for drug in drugs]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def data_effect(
    marker: Marker, drugs: Sequence[str], feature: str, train: ResponseSamples, **bootstrap: Any
) -> dict[str, Any]:
    """Return how the measured response changes with a marker, over all ids of its drug, each less its mean."""
    ids = train.drugs.index.astype(str).to_numpy()[train.drug]
    rows = np.flatnonzero(np.isin(ids, list(drugs)))
    x = values_of(train, [feature], rows)[:, 0]
    rows, x = rows[~np.isnan(x)], x[~np.isnan(x)]
    y = train.pairs["response" if "response" in train.pairs else "target"].to_numpy(np.float64)[rows]
    y = y - pd.Series(y).groupby(ids[rows]).transform("mean").to_numpy()
    line = train.pairs["cell_line_id"].to_numpy(str)[rows]
    lines, of_mutation = len(np.unique(line)), marker.omics == "mutation"
    carriers = len(np.unique(line[x > 0])) if of_mutation else None
    found: dict[str, Any] = {"data": "too few lines", "data_lines": lines, "data_carriers": carriers}
    few = carriers is not None and min(carriers, lines - carriers) < LEAST_CARRIERS
    if lines < LEAST_LINES or few or not x.std() > 0:
        return found
    effect = slope(x if of_mutation else x / x.std(), y, line, **bootstrap)
    found |= {"data_effect": effect.value, "data_low": effect.low, "data_high": effect.high}
    if not (effect.low > 0 or effect.high < 0):  # nor where there is no interval
        return {**found, "data": "not shown"}
    return {**found, "data": "shown" if np.sign(effect.value) == marker.direction else "contrary"}


def slope(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, *, resamples: int, confidence: float, seed: int
) -> Interval:
    """Return the slope of ``y`` on ``x``, both ``(n,)``, with its interval over groups, but resamples of one ``x``."""
    labels, group = encode("groups", groups, len(x))
    columns = np.column_stack([np.ones_like(x), x, y, x * x, x * y])
    sums = np.zeros((len(labels), columns.shape[1]))
    np.add.at(sums, group, columns)
    counts = np.vstack([np.ones((1, len(labels))), group_counts(len(labels), resamples, seed)])
    n, sx, sy, sxx, sxy = (counts @ sums).T
    spread = sxx - sx * sx / n
    slopes = np.divide(sxy - sx * sy / n, spread, out=np.full(len(n), np.nan), where=spread > 1e-9 * sxx)
    return percentile_interval(float(slopes[0]), slopes[1:], confidence)


def _verdict(marker: Marker, feature: str, of_drug: pd.DataFrame | None) -> dict[str, Any]:
    """Return whether a marker is found among the ranked features of one drug."""
    if of_drug is None:
        return {"status": "not tested", "why": f"fewer than {FEWEST} lines of the test split met the drug"}
    found: dict[str, Any] = {"status": "not found", "features": len(of_drug), "rows": int(of_drug["rows"].iloc[0])}
    here = of_drug["omics"] == marker.omics
    row = of_drug[here & (of_drug["gene"] == feature.partition(":")[2])]
    if row.empty:
        table = marker.omics.replace("_", " ")
        if not here.any():
            return {**found, "status": "not looked at", "why": f"the model does not look at {table}"}
        return {**found, "why": f"of {table} the model does not look at {marker.gene}"}
    place, direction, weight, effect = (row[name].iloc[0] for name in ("rank", "direction", "mean_abs", "effect"))
    found |= {"rank": int(place), "effect": float(effect)}
    within = max(PLACES, math.ceil(SHARE * len(of_drug)))
    if weight == 0:
        return {**found, "why": "it adds nothing"}
    if place > within:
        return {**found, "why": f"its place is {place}, beyond {within}"}
    if direction != marker.direction:
        why = "it varies in none of the explained lines" if direction == 0 else "its direction is the other one"
        return {**found, "why": why}
    return {**found, "status": "found", "why": f"its place is {place} of {len(of_drug)}"}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
