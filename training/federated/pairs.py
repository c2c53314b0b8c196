"""Agreed statistics of networks on a cell line and a drug: as good as fitted on the rows of all sites together."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.samples.response import UNKNOWN, ResponseSamples
from training.features.cell_line import CellLineFeatures, Table, leading, measured
from training.features.pair import DrugFeatures, PairFeatures, residual_matrix, shrunk
from training.federated.statistics import Sums, common, moments
from training.networks.response_network import ResponseNetwork

STEPS = ("means", "spreads", "scales")
# What sums can tell: no quantiles, neighbors, genes chosen by the response, or mechanisms of drugs.
CHOICES = {"selection": "all", "scaling": "standard", "imputation": "mean", "mechanism": False}
_WIDEST = 6000  # genes of a table whose products are added up for components
_CONSTANT = 1e-12


def lists(samples: ResponseSamples) -> dict[str, Any]:
    """Return the genes of each omics table, the drugs with their SMILES, and the tissues."""
    used = np.unique(samples.drug)
    smiles = samples.drugs["smiles"].iloc[used]
    return {
        "genes": {name: list(map(str, table.columns)) for name, table in samples.omics.items()},
        "drugs": {str(drug): text for drug, text in smiles.items()},
        "tissues": sorted(set(samples.cell_lines["tissue"].iloc[np.unique(samples.cell)]) - {UNKNOWN}),
    }


def agree(given: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the lists of all sites as one: genes that all have, drugs and tissues that any has."""
    drugs: dict[str, Any] = {}
    for each in given:
        for drug, smiles in each["drugs"].items():
            if drugs.setdefault(drug, smiles) != smiles:
                raise UserError(f"drugs.csv: the sites have {drug!r} with different SMILES; give both the same")
    tables = common([list(each["genes"]) for each in given], "omics table")
    genes = {name: common([each["genes"][name] for each in given], f"gene of {name}") for name in tables}
    tissues = sorted(set().union(*(each["tissues"] for each in given)))
    return {"genes": genes, "drugs": dict(sorted(drugs.items())), "tissues": tissues}


def sums(step: str, samples: ResponseSamples, agreed: Mapping[str, Any], estimator: ResponseNetwork) -> Sums:
    """Return a site's sums of ``step``, see `training.federated.statistics`."""
    lines = np.unique(samples.cell)
    tables = {name: samples.omics[name].iloc[lines][genes] for name, genes in agreed["genes"].items()}
    drugs = list(agreed["drugs"])
    position = pd.Index(drugs).get_indexer(samples.drugs.index.astype(str))
    drug = position[samples.drug]
    if step == "means":
        found = {
            "lines": np.array([float(len(lines))]),
            "drug.count": np.bincount(drug, minlength=len(drugs)).astype(np.float64),
            "drug.sum": np.bincount(drug, samples.target, minlength=len(drugs)),
        }
        for name, table in tables.items():
            values = table.to_numpy(np.float64)
            found[f"{name}.lines"] = np.array([float(measured(table).sum())])
            found[f"{name}.count"] = (~np.isnan(values)).sum(axis=0).astype(np.float64)
            found[f"{name}.sum"] = np.nansum(values, axis=0)
        return found
    if step == "spreads":
        total, count = agreed["means"]["drug.sum"], agreed["means"]["drug.count"]
        residual = samples.target - shrunk(total, count, float(total.sum() / count.sum()))[drug]
        shown = np.zeros((len(lines), len(drugs)))
        shown[:, position[np.unique(samples.drug)]] = residual_matrix(samples, residual)
        found = {"drug.products": shown.T @ shown}
        for name, table in tables.items():
            values = table.to_numpy(np.float64)[measured(table)]
            apart = np.where(np.isnan(values), 0.0, values - _mean(agreed, name))  # a gap is the mean
            wide = getattr(estimator, "components", 0) > 0
            if wide and apart.shape[1] > _WIDEST:
                raise UserError(f"{name} has {apart.shape[1]} genes, components of at most {_WIDEST}: set components 0")
            found[f"{name}.products"] = apart.T @ apart if wide else (apart**2).sum(axis=0)
        return found
    features = _features(estimator, agreed)
    matrix = features.transform(samples)
    cells, residual = matrix.cells[lines].astype(np.float64), samples.target - matrix.offset
    each = {"cells": cells, "residual": residual[:, None]}
    return {
        f"{name}.{what}": value
        for name, values in each.items()
        for what, value in (
            ("count", np.array([float(len(values))])),
            ("sum", values.sum(axis=0)),
            ("square", (values**2).sum(axis=0)),
        )
    }


def begin(estimator: ResponseNetwork, agreed: Mapping[str, Any]) -> ResponseNetwork:
    """Return the estimator with features by what was agreed, and random weights."""
    features = _features(estimator, agreed)
    smiles = _smiles(agreed)
    _, cell_scale = moments(agreed["scales"], "cells")
    _, scale = moments(agreed["scales"], "residual")
    return estimator.begin(
        features,
        estimator.read_molecules(smiles.tolist()),
        scale=float(scale[0]),
        cell_scale=cell_scale,
        drugs=features.drug.transform(smiles.to_frame("smiles")),
    )


def _mean(agreed: Mapping[str, Any], name: str) -> np.ndarray:
    return agreed["means"][f"{name}.sum"] / np.maximum(agreed["means"][f"{name}.count"], 1)


def _features(estimator: ResponseNetwork, agreed: Mapping[str, Any]) -> PairFeatures:
    """Return the featurizer as `PairFeatures.fit` would on all rows, up to rounding."""
    choices = {name: getattr(estimator, name) for name in CHOICES}
    if choices != CHOICES:
        raise UserError(f"{choices}: sites can agree on {CHOICES} alone; tune the others out of the hyperparameters")
    chosen = ("expression",) if estimator.omics == "expression" and "expression" in agreed["genes"] else None
    components = getattr(estimator, "components", 0)
    line = CellLineFeatures(chosen or tuple(agreed["genes"]), components=components, tissues=agreed["tissues"])
    all_lines = round(agreed["means"]["lines"].item())
    line.tables = {name: _table(agreed, name, components, all_lines) for name in line.omics}
    drug = DrugFeatures(estimator.bits, estimator.identity, estimator.profile_components)
    responses = agreed["means"]["drug.sum"], agreed["means"]["drug.count"]
    drug.fit_sums(_smiles(agreed), *responses, agreed["spreads"]["drug.products"], all_lines)
    return PairFeatures(line, drug, center=True)


def _smiles(agreed: Mapping[str, Any]) -> pd.Series:
    return pd.Series(agreed["drugs"], dtype=object)


def _table(agreed: Mapping[str, Any], name: str, components: int, all_lines: int) -> Table:
    products, lines = agreed["spreads"][f"{name}.products"], max(round(agreed["means"][f"{name}.lines"].item()), 1)
    variance = (np.diag(products) if products.ndim == 2 else products) / lines
    kept, mean = np.flatnonzero(variance > _CONSTANT), _mean(agreed, name)
    scale = np.sqrt(variance[kept])
    made = Table(agreed["genes"][name], kept, mean[kept], mean[kept], scale, flagged=lines < all_lines)
    if components and kept.size:
        made.components = leading(products[np.ix_(kept, kept)] / np.outer(scale, scale), components, lines)[0]
    return made
