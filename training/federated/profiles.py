"""Agreed statistics of networks from genes to genes: as good as fitted on the rows of all sites together."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.samples.expression import ExpressionSamples
from training.features.expression_profile import ProfileFeatures
from training.federated.statistics import Sums, common
from training.networks.gene_network import GeneNetwork

STEPS = ("means", "spreads")
CHOICES = {"linear_start": 0.0, "order": "table"}  # no ridge and no clustering of rows that are elsewhere
_CONSTANT = 1e-9


def lists(samples: ExpressionSamples) -> dict[str, Any]:
    """Return predictor genes and target genes."""
    return {"genes": list(samples.inputs), "targets": list(samples.targets)}


def agree(given: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the genes that all sites have; UserError where the targets differ."""
    targets = given[0]["targets"]
    if any(each["targets"] != targets for each in given):
        raise UserError("the sites predict different target genes: name them in params.yaml (data.targets)")
    return {"genes": common([each["genes"] for each in given], "predictor gene"), "targets": targets}


def sums(step: str, samples: ExpressionSamples, agreed: Mapping[str, Any], estimator: GeneNetwork) -> Sums:
    """Return a site's sums of ``step``, see `training.federated.statistics`."""
    found: Sums = {}
    for name, values in {
        "genes": samples.logged(agreed["genes"]).astype(np.float64),
        "targets": samples.target.astype(np.float64),
    }.items():
        known = ~np.isnan(values)
        if step == "means":
            found |= {f"{name}.count": known.sum(axis=0).astype(np.float64), f"{name}.sum": np.nansum(values, axis=0)}
        else:
            found[f"{name}.square"] = (np.where(known, values - _mean(agreed, name), 0.0) ** 2).sum(axis=0)
    return found | ({"rows": np.array([float(len(samples))])} if step == "means" else {})


def begin(estimator: GeneNetwork, agreed: Mapping[str, Any]) -> GeneNetwork:
    """Return the estimator with features by what was agreed, and random weights."""
    choices = {name: getattr(estimator, name) for name in CHOICES}
    if choices != CHOICES:
        raise UserError(f"{choices}: sites can agree on {CHOICES} alone; change the hyperparameters")
    variance = agreed["spreads"]["genes.square"] / agreed["means"]["rows"]  # a gap is the mean
    kept, mean = np.flatnonzero(variance > _CONSTANT), _mean(agreed, "genes")
    own = [each.astype(np.float32) for each in (mean[kept], mean[kept], np.sqrt(variance[kept]))]
    features = ProfileFeatures("all", "standard", "none", [agreed["genes"][column] for column in kept], *own)
    spread = np.sqrt(agreed["spreads"]["targets.square"] / np.maximum(agreed["means"]["targets.count"], 1))
    order = np.arange(len(kept), dtype=np.int64)
    return estimator.begin(features, order, agreed["targets"], mean=_mean(agreed, "targets"), spread=spread)


def _mean(agreed: Mapping[str, Any], name: str) -> np.ndarray:
    return agreed["means"][f"{name}.sum"] / np.maximum(agreed["means"][f"{name}.count"], 1)
