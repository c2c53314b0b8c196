"""What would make a comparison lie: rows that do not match, other resamples for each model, rows drawn for groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, r2_score, roc_auc_score

from evaluation.comparison.paired import holm, matched, paired_difference
from evaluation.metrics import group_counts
from evaluation.problems import measures_of
from pipelines.errors import UserError
from pipelines.params import read_params

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")
FAMILIES = ("drug_response", "blood_cell", "tumor_type", "gene_expression")
METRIC = {"drug_response": "r2", "blood_cell": "accuracy", "tumor_type": "macro_f1", "gene_expression": "r2"}
CLASSES = ("a", "b", "c")


def predicted(name: str, error: float, seed: int, groups: int = 12, size: int = 4) -> pd.DataFrame:
    """Predictions of a model whose errors are ``error`` large; what is measured is the same for every model."""
    fixed, own = np.random.default_rng(7), np.random.default_rng(seed)
    rows = groups * size
    names = [(f"s{row:03}", f"g{row // size:02}", f"d{row % size}") for row in range(rows)]
    table = pd.DataFrame(names, columns=["sample_id", "group", "drug_id"])
    if name == "drug_response":
        measured = fixed.normal(0, 2, rows)
        return table.assign(target=measured, prediction=measured + error * own.normal(0, 1, rows), baseline=0.0)
    if name == "gene_expression":
        for gene in ("x", "y"):
            measured = fixed.normal(5, 1, rows)
            table[f"target_{gene}"] = measured
            table[f"prediction_{gene}"] = measured + error * own.normal(0, 1, rows)
            table[f"baseline_{gene}"] = 5.0
        return table
    code = fixed.integers(0, len(CLASSES), rows)
    scores = np.eye(len(CLASSES))[code] + error * own.normal(0, 1, (rows, len(CLASSES)))
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    table = table.assign(target=code)
    for kind, values in (("probability", shares), ("baseline", np.tile([0.5, 0.3, 0.2], (rows, 1)))):
        table = table.assign(**{f"{kind}_{label}": values[:, place] for place, label in enumerate(CLASSES)})
    return table


@pytest.mark.parametrize(
    ("name", "metric"), [("drug_response", "rmse"), ("gene_expression", "mae"), ("blood_cell", "log_loss")]
)
def test_positive_means_better_where_less_is_better(name: str, metric: str) -> None:
    good, poor = predicted(name, 0.1, seed=1), predicted(name, 3.0, seed=2)
    assert paired_difference(PARAMS.task(name), good, poor, metric, resamples=100).low > 0
    assert paired_difference(PARAMS.task(name), poor, good, metric, resamples=100).high < 0


def drawn_rows(frame: pd.DataFrame, resamples: int, seed: int) -> list[pd.DataFrame]:
    labels = np.unique(frame["group"])
    parts = {label: frame[frame["group"] == label] for label in labels}
    return [
        pd.concat([parts[label] for label, times in zip(labels, counts, strict=True) for _ in range(times)])
        for counts in group_counts(len(labels), resamples, seed)
    ]


def naive_metric(name: str, metric: str, frame: pd.DataFrame) -> float:
    if name == "gene_expression":
        scores = [r2_score(frame[f"target_{gene}"], frame[f"prediction_{gene}"]) for gene in ("x", "y")]
        return float(np.mean(scores))
    if metric == "within_drug_spearman":
        inside = [spearmanr(part["target"], part["prediction"])[0] for _, part in frame.groupby("drug_id")]
        return float(np.mean(inside))
    if name == "drug_response":
        return float(r2_score(frame["target"], frame["prediction"]))
    shares = frame[[f"probability_{label}" for label in CLASSES]].to_numpy()
    if metric == "roc_auc":
        return float(roc_auc_score(frame["target"], shares, multi_class="ovr"))
    return float(f1_score(frame["target"], shares.argmax(axis=1), average="macro"))


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("drug_response", "r2"),
        ("drug_response", "within_drug_spearman"),
        ("blood_cell", "roc_auc"),
        ("tumor_type", "macro_f1"),
        ("gene_expression", "r2"),
    ],
)
def test_it_is_what_measuring_both_models_on_each_resample_gives(name: str, metric: str) -> None:
    ours, theirs = predicted(name, 0.8, seed=1), predicted(name, 1.2, seed=2)
    found = paired_difference(PARAMS.task(name), ours[::-1], theirs, metric, resamples=40, confidence=0.8, seed=5)
    pairs = zip(drawn_rows(ours, 40, 5), drawn_rows(theirs, 40, 5), strict=True)
    differences = [naive_metric(name, metric, one) - naive_metric(name, metric, other) for one, other in pairs]
    assert found.difference == pytest.approx(naive_metric(name, metric, ours) - naive_metric(name, metric, theirs))
    assert [found.low, found.high] == pytest.approx(np.quantile(differences, [0.1, 0.9]))
    rarer = min(np.sum(np.array(differences) <= 0), np.sum(np.array(differences) >= 0))
    assert found.p == pytest.approx(min(1, 2 * (rarer + 1) / 41))


@given(st.sampled_from(FAMILIES), st.integers(0, 50), st.floats(0.1, 2), st.floats(0.1, 2))
@settings(max_examples=25, deadline=None)
def test_turned_around_it_is_the_negative(name: str, seed: int, error: float, other: float) -> None:
    task = PARAMS.task(name)
    ours, theirs = predicted(name, error, seed, groups=6), predicted(name, other, seed + 1, groups=6)
    there = paired_difference(task, ours, theirs, METRIC[name], resamples=50, seed=seed)
    back = paired_difference(task, theirs, ours, METRIC[name], resamples=50, seed=seed)
    assert [-back.difference, -back.high, -back.low] == pytest.approx([there.difference, there.low, there.high])
    assert back.p == there.p


@pytest.mark.parametrize("name", ["blood_cell", "gene_expression"])
def test_the_naive_baseline_beside_the_model_can_be_compared_with(name: str) -> None:
    task, frame = PARAMS.task(name), predicted(name, 0.1, seed=1)
    found = paired_difference(task, frame, measures_of(task.problem).naive(frame), METRIC[name], resamples=100)
    assert found.low > 0
    margin = paired_difference(task, frame, measures_of(task.problem).naive(frame), "margin", resamples=100)
    assert margin.difference == pytest.approx(found.difference)  # the baseline's own margin is 0


def test_genes_in_another_order_are_matched_by_name() -> None:
    task, frame = PARAMS.task("gene_expression"), predicted("gene_expression", 0.5, seed=1)
    turned = frame[[*frame.columns[:3], *frame.columns[:2:-1]]]
    found = paired_difference(task, frame, turned, "rmse_sd", resamples=20, scale=pd.Series({"x": 1.0, "y": 9.0}))
    assert (found.difference, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda frame: frame.iloc[1:], "s000 of the first"),
        (lambda frame: pd.concat([frame, frame.iloc[[0]].assign(sample_id="new")]), "new of the second"),
        (lambda frame: pd.concat([frame, frame.iloc[[4]]]), "'s004' is a duplicate"),
        (lambda frame: frame.assign(target=frame["target"].where(frame.index != 5, 9.5)), r"target of 1 test.*s005"),
        (lambda frame: frame.assign(group=frame["group"].where(frame.index != 6, "g99")), r"group of 1 test.*s006"),
        (lambda frame: frame.drop(columns="sample_id"), "second model's predictions lack the column sample_id"),
    ],
)
def test_rows_that_are_not_the_same_are_refused(spoilt, said: str) -> None:
    ours, theirs = predicted("drug_response", 0.5, seed=1), predicted("drug_response", 0.7, seed=2)
    with pytest.raises(UserError, match=said):
        paired_difference(PARAMS.task("drug_response"), ours, spoilt(theirs), "r2", resamples=10)


def test_classes_in_another_order_are_refused() -> None:
    ours = predicted("blood_cell", 0.5, seed=1)
    theirs = ours[[*ours.columns[:4], "probability_b", "probability_a", "probability_c", *ours.columns[7:]]]
    with pytest.raises(UserError, match="other classes"):
        matched(PARAMS.task("blood_cell"), ours, theirs)


def test_one_group_and_unknown_metrics_are_refused() -> None:
    frame = predicted("drug_response", 0.5, seed=1)
    with pytest.raises(UserError, match="1 group"):
        paired_difference(PARAMS.task("drug_response"), *(frame.assign(group="g"),) * 2, "r2")
    with pytest.raises(UserError, match=r"accuracy' cannot be measured.*r2"):
        paired_difference(PARAMS.task("drug_response"), frame, frame, "accuracy", resamples=10)
    genes = predicted("gene_expression", 0.5, seed=1)
    with pytest.raises(UserError, match="rmse_sd"):
        paired_difference(PARAMS.task("gene_expression"), genes, genes, "rmse_sd", resamples=10)


def test_holm_is_what_its_author_computes() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04, times 4, 3, 2, 1, never falling.
    assert holm([0.04, 0.01, np.nan, 0.03, 0.02]) == pytest.approx([0.06, 0.04, np.nan, 0.06, 0.06], nan_ok=True)
