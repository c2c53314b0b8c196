"""How well the site or plate of a profile is told from the features of a model: asked and learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.explain.checks import first_member
from evaluation.metrics import as_metrics, mean_of_rows
from pipelines.samples.barcodes import origin
from pipelines.samples.expression import ExpressionSamples
from training.features.expression_profile import ORIGINS, ProfileFeatures

FEWEST, MOST = 10, 8  # patients of a class in a site that is told, and such sites of a class: the largest
_FOLDS = 5


def evidence(run: Evaluation) -> Evidence:
    """Return the section ``origins`` of a classifier of profiles; nothing where no class has two large sites or plates.

    Its rows have ``origin``, ``features``, ``value, low, high, chance``, ``sites`` and ``samples``. ``asked`` are the
    features of a profile that is predicted, ``learned``, of a model with ComBat, those that it learned from.
    """
    features = getattr(first_member(run.model.estimator), "features_", None)
    train: ExpressionSamples = run.prepared.side("train")
    if features is None or not train.classes:
        return Evidence()
    rows: list[dict[str, Any]] = []
    for name in ORIGINS:
        if (of := origin(train.table, name)) is not None:
            rows += [{"origin": name, **row} for row in _told(features, train, of, run)]
    logged: dict[str, float] = {}
    for row in rows:
        logged |= as_metrics(f"origins/{row['origin']}_{row['features']}", row)
    return Evidence(sections={"origins": {"rows": rows}}, logged=logged) if rows else Evidence()


def _told(features: ProfileFeatures, train: ExpressionSamples, of: pd.Series, run: Evaluation) -> list[dict[str, Any]]:
    fitted = replace(features).fit(train)  # of a member of several, which saw other rows
    asked = fitted.transform(train)
    seen: dict[str, Callable[[np.ndarray], np.ndarray]] = {"asked": lambda rows: asked}
    if fitted.combat != "none":
        seen["learned"] = lambda rows: fitted.learned(train, rows)
    made = ((kind, told(values, of, train, **run.bootstrap)) for kind, values in seen.items())
    return [{"features": kind, **found} for kind, found in made if found is not None]


def told(
    values: Callable[[np.ndarray], np.ndarray], of: pd.Series, samples: ExpressionSamples, **bootstrap: Any
) -> dict[str, Any] | None:
    """Return how well a linear probe tells from features which site ``of`` those of its class a sample is of.

    ``values`` returns the features ``(n, features)`` of all samples, made with nothing but the rows (bool) that a probe
    is fitted on: a batch's mean over rows that are asked would give them away. Each class has a probe of its own, since
    a site may tell the class; folds and the interval are by patients. The score is the mean, over the sites of all
    classes, of the share of their samples that is recognized. None where no class has two sites of `FEWEST` patients.
    """
    patient, site = samples.table["patient_id"].to_numpy(str), of.fillna("").to_numpy(str)
    classes, chance = dict[int, np.ndarray](), list[float]()
    cells = np.full(len(site), -1)
    for code in np.unique(samples.target):
        rows = (samples.target == code) & (site != "")
        large = pd.Series(patient[rows]).groupby(site[rows]).nunique().sort_values(ascending=False, kind="stable")
        names = large[large >= FEWEST].index[:MOST]
        if len(names) > 1:
            classes[code] = np.flatnonzero(rows & np.isin(site, names))
            cells[classes[code]] = len(chance) + names.get_indexer(pd.Index(site[classes[code]]))
            chance += [1 / len(names)] * len(names)
    if not chance:
        return None
    right = np.full((len(site), len(chance)), np.nan)
    code = np.unique(patient, return_inverse=True)[1]
    fold = np.random.default_rng(0).permutation(code.max() + 1)[code] % _FOLDS
    for held_out in range(_FOLDS):
        features = values(fold != held_out)
        for rows in classes.values():
            fitted, asked = rows[fold[rows] != held_out], rows[fold[rows] == held_out]
            if len(asked) and len(np.unique(cells[fitted])) > 1:
                probe = make_pipeline(StandardScaler(), RidgeClassifier(features.shape[1], class_weight="balanced"))
                found = probe.fit(features[fitted], cells[fitted]).predict(features[asked])
                right[asked, cells[asked]] = found == cells[asked]
    used = cells >= 0
    found = mean_of_rows(right[used], patient[used], **bootstrap)
    return found.as_dict() | {"chance": float(np.mean(chance)), "sites": len(chance), "samples": int(used.sum())}
