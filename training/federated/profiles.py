"""Agreed statistics of networks on genes: as good as fitted on the rows of all sites together."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.samples.expression import ExpressionSamples
from training.features.expression_profile import ProfileFeatures
from training.federated.statistics import Sums, class_counts, common, head_sums, settled

STEPS = ("means", "spreads", "features")
# No ridge, clustering, ranking or quantile of rows that are elsewhere.
CHOICES = {"linear_start": 0.0, "order": "table", "selection": "all", "scaling": "standard", "layout": "given"}
_CONSTANT = 1e-9


def lists(samples: ExpressionSamples) -> dict[str, Any]:
    """Return predictor genes, and target genes or classes."""
    return {"genes": list(samples.inputs), "targets": list(samples.targets), "classes": list(samples.classes)}


def agree(given: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the genes that all sites have; UserError where the targets or classes differ."""
    first = given[0]
    if any(each["targets"] != first["targets"] for each in given):
        raise UserError("the sites predict different target genes: name them in params.yaml (data.targets)")
    if any(each["classes"] != first["classes"] for each in given):
        raise UserError("the sites have other classes; give all the same release and plan")
    return {**first, "genes": common([each["genes"] for each in given], "predictor gene")}


def sums(step: str, samples: ExpressionSamples, agreed: Mapping[str, Any], estimator: Any) -> Sums:
    """Return a site's sums of ``step``, see `training.federated.statistics`."""
    if step == "features":
        return head_sums(_begun(estimator, agreed), samples) if agreed["classes"] else {}
    found: Sums = {}
    values_of = {"genes": samples.logged(agreed["genes"]).astype(np.float64)}
    if agreed["targets"]:
        values_of["targets"] = samples.target.astype(np.float64)
    for name, values in values_of.items():
        known = ~np.isnan(values)
        if step == "means":
            found |= {f"{name}.count": known.sum(axis=0).astype(np.float64), f"{name}.sum": np.nansum(values, axis=0)}
        else:
            found[f"{name}.square"] = (np.where(known, values - _mean(agreed, name), 0.0) ** 2).sum(axis=0)
    if step == "means":
        found["rows"] = np.array([float(len(samples))])
        found |= {"classes": class_counts(samples)} if agreed["classes"] else {}
    return found


def begin(estimator: Any, agreed: Mapping[str, Any]) -> Any:
    """Return the estimator with features by what was agreed, and random weights or those of a package."""
    begun = _begun(estimator, agreed)
    return settled(begun, agreed["features"]) if agreed["classes"] else begun


def _begun(estimator: Any, agreed: Mapping[str, Any]) -> Any:
    variance = agreed["spreads"]["genes.square"] / agreed["means"]["rows"]  # a gap is the mean
    kept, mean = np.flatnonzero(variance > _CONSTANT), _mean(agreed, "genes")
    own = [each.astype(np.float32) for each in (mean[kept], mean[kept], np.sqrt(variance[kept]))]
    features = ProfileFeatures("all", "standard", "none", [agreed["genes"][column] for column in kept], *own)
    if agreed["classes"]:
        return estimator.begin(features, agreed["classes"], agreed["means"]["classes"])
    if not agreed["targets"]:  # a time to an event
        return estimator.begin(features)
    spread = np.sqrt(agreed["spreads"]["targets.square"] / np.maximum(agreed["means"]["targets.count"], 1))
    order = np.arange(len(kept), dtype=np.int64)
    return estimator.begin(features, order, agreed["targets"], mean=_mean(agreed, "targets"), spread=spread)


def _mean(agreed: Mapping[str, Any], name: str) -> np.ndarray:
    return agreed["means"][f"{name}.sum"] / np.maximum(agreed["means"][f"{name}.count"], 1)
