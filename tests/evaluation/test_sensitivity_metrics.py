"""Metrics within drugs that are not scikit-learn's, that differences between drugs earn, or that lack their chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from evaluation.comparison.paired import paired_difference
from evaluation.metrics.resample import group_counts
from evaluation.problems.classification import WITHIN
from pipelines.problems import get_problem
from pipelines.samples.sensitivity import CLASSES
from pipelines.tasks.pairs_classification import Threshold
from tests.evaluation.measures import CLASSIFICATION, classification_metrics
from tests.training.tiny import response_task, sensitivity_task, tiny_params

LIST = list(CLASSES)


def sample(seed: int, rows: int = 150, drugs: int = 6, groups: int = 12) -> dict[str, Any]:
    """Return rows whose scores have ties; the first drug is all resistant."""
    rng = np.random.default_rng(seed)
    drug = rng.integers(0, drugs, rows)
    target = ((rng.random(rows) < 0.4) & (drug > 0)).astype(int)
    score = np.clip(np.round(0.25 * target + rng.random(rows) * 0.6 + 0.02 * drug, 2), 0.01, 0.99)
    share = np.round(rng.random(drugs) * 0.5 + 0.1, 2)[drug]
    return {
        "target": target,
        "outputs": np.column_stack([1 - score, score]),
        "baseline": np.column_stack([1 - share, share]),
        "groups": rng.integers(0, groups, rows),
        "within": np.array([f"D{each}" for each in drug]),
    }


def by_scikit_learn(made: dict[str, Any], weight: np.ndarray, draws: dict[str, float] | None = None) -> list[float]:
    """Return the means over drugs of ROC-AUC, average precision and share of sensitive rows."""
    found, times = [], []
    for drug in np.unique(made["within"]):
        rows = (made["within"] == drug) & (weight > 0)
        target, score, own = made["target"][rows], made["outputs"][rows, 1], weight[rows]
        if len(np.unique(target)) < 2:
            continue
        roc = sk.roc_auc_score(target, score, sample_weight=own)
        area = sk.average_precision_score(target, score, sample_weight=own)
        found.append([roc, area, np.average(target, weights=own)])
        times.append((draws or {}).get(drug, 1.0))
    return list(np.average(found, axis=0, weights=times)) if found else [np.nan] * 3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=8, max_size=8).filter(any))
def test_a_weighting_gives_what_scikit_learn_gives_under_sample_weights(seed: int, drawn: list[int]) -> None:
    made = sample(seed, rows=70, drugs=4, groups=8)
    labels, group = np.unique(made.pop("groups"), return_inverse=True)
    counts = np.array(drawn[: len(labels)])
    if not counts.any():
        return
    found = CLASSIFICATION.weigh(
        made["target"], made["outputs"], group, counts[None, :], classes=LIST, within=made["within"]
    )
    expected = by_scikit_learn(made, counts[group].astype(float))
    np.testing.assert_allclose([found[name][0] for name in WITHIN], expected, rtol=1e-9, atol=1e-12)
    share = np.average(made["target"], weights=counts[group])
    assert found["prevalence"][0] == pytest.approx(share)


def test_a_drug_of_one_group_counts_as_often_as_it_is_drawn() -> None:
    """As in a drug-blind split, where drugs are what is resampled."""
    made = sample(3)
    made["groups"] = made["within"]
    names = np.unique(made["within"])
    counts = group_counts(len(names), 20, seed=1)
    arguments = {key: made[key] for key in ("target", "outputs", "groups", "within")}
    found = CLASSIFICATION.weigh(**arguments, counts=counts, classes=LIST)
    for place, row in enumerate(counts):
        draws = dict(zip(names, row.astype(float), strict=True))
        expected = by_scikit_learn(made, np.array([draws[each] for each in made["within"]]), draws)
        np.testing.assert_allclose([found[name][place] for name in WITHIN], expected, rtol=1e-9)


def test_more_than_two_classes_have_no_metric_within_drugs() -> None:
    with pytest.raises(ValueError, match="within is given with 3 classes"):
        classification_metrics([0, 1, 2], np.eye(3), classes=["a", "b", "c"], within=["D", "D", "D"])
    with pytest.raises(ValueError, match="margin_metric is 'within_drug_roc_auc', not one of"):
        classification_metrics([0, 1], np.eye(2), classes=LIST, margin_metric="within_drug_roc_auc")


def predictions(seed: int) -> pd.DataFrame:
    made = sample(seed, rows=300, groups=30)
    columns = {"probability": made["outputs"], "raw": made["outputs"], "baseline": made["baseline"]}
    table = {f"{kind}_{label}": values[:, code] for kind, values in columns.items() for code, label in enumerate(LIST)}
    about = {"sample_id": [f"s{row}" for row in range(300)], "drug_id": made["within"], "group": made["groups"]}
    return pd.DataFrame({**about, "target": made["target"], "threshold": 1.5, **table}).astype({"group": str})


@pytest.mark.parametrize("metric", sorted(set(get_problem("classification").reported(within=True)) - {"margin"}))
def test_every_reported_metric_is_measured_alike_alone_and_in_pairs(metric: str) -> None:
    task, ours = sensitivity_task(response_task(tiny_params()), Threshold("waterfall", 5.0)), predictions(13)
    task = replace(task, evaluate=replace(task.evaluate, metric=metric, resamples=100))
    margin = CLASSIFICATION.intervals(ours, task, 0)["margin"]
    difference = paired_difference(task, ours, CLASSIFICATION.naive(ours), metric, resamples=100)
    assert (difference.difference, difference.low, difference.high) == pytest.approx(
        (margin.value, margin.low, margin.high)
    )
    own = paired_difference(task, ours, ours, "margin", resamples=100)
    assert (own.difference, own.low, own.high) == (0, 0, 0)


def test_the_table_of_drugs_is_scikit_learn_s() -> None:
    frame = predictions(17)
    found = CLASSIFICATION.by_part(frame, {"D1": "a name"})
    assert found is not None
    table = found.set_index("drug_id")
    assert np.isnan(table.loc["D0", ["roc_auc", "pr_auc"]].astype(float)).all() and table.index[-1] == "D0"
    assert table.loc["D1", "name"] == "a name" and table.loc["D2", "name"] == ""
    for drug, row in table.drop("D0").iterrows():
        part = frame[frame["drug_id"] == drug]
        assert row["samples"] == len(part) and row["sensitive"] == part["target"].mean()
        assert row["roc_auc"] == sk.roc_auc_score(part["target"], part["probability_sensitive"])
    assert table["roc_auc"].dropna().is_monotonic_decreasing
