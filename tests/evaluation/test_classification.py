"""What would make a classification metric or its interval lie: another definition, a lost class, chance, drugs."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from evaluation.comparison.paired import paired_difference
from evaluation.metrics import group_counts
from evaluation.problems import measures_of
from evaluation.problems.classification import WITHIN, metric_names, reliability
from pipelines.problems import get_problem
from pipelines.samples.sensitivity import CLASSES
from pipelines.tasks.pairs_classification import Threshold
from tests.evaluation.test_metrics import classification
from tests.training.tiny import response_task, sensitivity_task, tiny_params

CLASSIFICATION, LIST = measures_of("classification"), list(CLASSES)


def _by_scikit_learn(
    target: np.ndarray, probabilities: np.ndarray, classes: list[str], weight: np.ndarray
) -> dict[str, float]:
    """The metrics of rows of all classes, by scikit-learn; the calibration error has no equal there."""
    n_classes, labels, predicted = len(classes), list(range(len(classes))), probabilities.argmax(axis=1)
    given: dict[str, Any] = {"sample_weight": weight}
    named: dict[str, Any] = {"labels": labels, "target_names": classes, "output_dict": True, "zero_division": np.nan}
    report: Any = sk.classification_report(target, predicted, **named, **given)
    truth = np.eye(n_classes)[target]
    roc = [sk.roc_auc_score(truth[:, k], probabilities[:, k], **given) for k in labels]
    pr = [sk.average_precision_score(truth[:, k], probabilities[:, k], **given) for k in labels]
    confidence = probabilities.max(axis=1)
    edges = np.linspace(0, 1, 16)
    inside = [(confidence > low) & (confidence <= high) for low, high in zip(edges[:-1], edges[1:], strict=True)]
    gaps = [abs(weight[rows] @ ((predicted == target)[rows] - confidence[rows])) for rows in inside]
    found = {
        "accuracy": report["accuracy"],
        "balanced_accuracy": report["macro avg"]["recall"],
        "macro_f1": report["macro avg"]["f1-score"],
        "weighted_f1": report["weighted avg"]["f1-score"],
        "roc_auc": roc[1] if n_classes == 2 else np.mean(roc),
        "pr_auc": pr[1] if n_classes == 2 else np.mean(pr),
        "ece": sum(gaps) / weight.sum(),
        "log_loss": sk.log_loss(target, probabilities, labels=labels, **given),
        "brier": sk.brier_score_loss(target, probabilities, labels=labels, **given),
    }
    for k, name in enumerate(classes):
        found |= {f"{key}_{name}": report[name][key] for key in ("precision", "recall")}
        found |= {f"f1_{name}": report[name]["f1-score"], f"roc_auc_{name}": roc[k], f"pr_auc_{name}": pr[k]}
    return found


@settings(max_examples=40, deadline=None)
@given(
    **{"seed": st.integers(0, 10**6), "n_classes": st.integers(2, 4), "n_rows": st.integers(8, 40)},
    weights=st.lists(st.integers(0, 3), min_size=40, max_size=40),
    whole=st.booleans(),
)
def test_any_weighting_gives_what_scikit_learn_gives_under_sample_weights(seed, n_classes, n_rows, weights, whole):
    sample = classification(np.random.default_rng(seed), n_rows, n_classes)
    weight = np.array(weights[:n_rows], dtype=float) * (1.0 if whole else 0.3)
    if len(np.unique(sample["target"][weight > 0])) < n_classes:
        return
    del sample["baseline"]
    found = CLASSIFICATION.weigh(**sample, groups=np.arange(n_rows), counts=[weight, np.ones(n_rows)])
    plain = CLASSIFICATION.metrics(**sample)
    assert list(plain) == metric_names(sample["classes"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = _by_scikit_learn(sample["target"], sample["outputs"], sample["classes"], weight)
    first, second = ({name: values[place] for name, values in found.items()} for place in (0, 1))
    assert first == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    assert second == pytest.approx(plain, rel=1e-12, nan_ok=True)


def test_certain_and_wrong_costs_no_infinity_and_only_two_classes_have_metrics_within_drugs():
    target = np.arange(12) % 2
    found = CLASSIFICATION.metrics(target, np.eye(2)[1 - target], classes="ab")
    assert found["accuracy"] == found["roc_auc"] == found["f1_a"] == 0
    assert found["ece"] == found["brier"] == 1
    assert found["log_loss"] == pytest.approx(36.04, abs=0.01)
    with pytest.raises(ValueError, match="within is given with 3 classes"):
        CLASSIFICATION.metrics([0, 1, 2], np.eye(3), classes=["a", "b", "c"], within=["D", "D", "D"])
    with pytest.raises(ValueError, match="margin_metric is 'within_drug_roc_auc', not one of"):
        CLASSIFICATION.metrics([0, 1], np.eye(2), classes=LIST, margin_metric="within_drug_roc_auc")


def test_a_class_without_rows_is_nan_and_leaves_the_means_over_the_others_alone():
    sample = classification(np.random.default_rng(5), 90, 4)
    kept = sample["target"] != 2
    target, probabilities = sample["target"][kept], sample["outputs"][kept]
    assert (probabilities.argmax(axis=1) == 2).any()  # predicted, though it has no rows
    found = CLASSIFICATION.metrics(target, probabilities, classes="abcd")
    assert {name for name, value in found.items() if np.isnan(value)} == {name for name in found if name.endswith("_c")}
    present, predicted = [0, 1, 3], probabilities.argmax(axis=1)
    of_present: dict[str, Any] = {"labels": present, "average": "macro"}
    expected = {
        "balanced_accuracy": sk.recall_score(target, predicted, **of_present),
        "macro_f1": sk.f1_score(target, predicted, **of_present),
        "weighted_f1": sk.f1_score(target, predicted, average="weighted"),
        "roc_auc": np.mean([sk.roc_auc_score(target == k, probabilities[:, k]) for k in present]),
        "pr_auc": np.mean([sk.average_precision_score(target == k, probabilities[:, k]) for k in present]),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_resamples_without_a_class_stay_out_of_what_needs_it():
    # Four subjects of one class each: an eighth of the resamples draws one class alone.
    subject = np.repeat(np.arange(4), 10)
    target = subject // 2
    probabilities = np.where(target[:, None] == [0, 1], 0.7, 0.3)
    probabilities[::5] = probabilities[::5, ::-1]  # each subject is right four times in five
    counts = group_counts(4, 400, 0)
    lost = (counts[:, :2].sum(axis=1) == 0) | (counts[:, 2:].sum(axis=1) == 0)
    assert 20 < lost.sum() < 100
    resampled = CLASSIFICATION.weigh(target, probabilities, subject, counts, classes=["all", "hem"])
    for name in ("balanced_accuracy", "macro_f1", "roc_auc", "pr_auc", "roc_auc_all", "pr_auc_hem"):
        np.testing.assert_array_equal(np.isnan(resampled[name]), lost, err_msg=name)
    for name in ("accuracy", "weighted_f1", "ece", "log_loss", "brier"):
        assert np.isfinite(resampled[name]).all()
    np.testing.assert_array_equal(np.isnan(resampled["recall_all"]), counts[:, :2].sum(axis=1) == 0)
    found = CLASSIFICATION.bootstrap(target, probabilities, subject, classes=["all", "hem"], resamples=400)
    assert (found["balanced_accuracy"].low, found["balanced_accuracy"].high) == pytest.approx((0.8, 0.8))


def test_the_bins_add_up_to_the_calibration_error_and_close_above():
    sample = classification(np.random.default_rng(11), 200, 3)
    share, confidence, accuracy = reliability(sample["target"], sample["outputs"])
    assert share.sum() == pytest.approx(1)
    found = CLASSIFICATION.metrics(sample["target"], sample["outputs"], classes="abc")
    assert np.nansum(share * np.abs(accuracy - confidence)) == pytest.approx(found["ece"], rel=1e-12)
    share, _, _ = reliability([0, 0, 0], [[0.6, 0.4], [0.6 + 1e-9, 0.4 - 1e-9], [1.0, 0.0]])
    assert np.flatnonzero(share).tolist() == [8, 9, 14]


def of_drugs(seed: int, rows: int = 150, drugs: int = 6, groups: int = 12) -> dict[str, Any]:
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


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=8, max_size=8), st.booleans())
def test_metrics_within_drugs_are_those_of_scikit_learn_under_sample_weights(
    seed: int, drawn: list[int], drug_blind: bool
) -> None:
    made = of_drugs(seed, rows=70, drugs=4, groups=8)
    groups = made.pop("groups")
    labels, group = np.unique(made["within"] if drug_blind else groups, return_inverse=True)
    counts = np.array(drawn[: len(labels)])
    if not counts.any():
        return
    known: dict[str, Any] = {"classes": LIST, "within": made["within"]}
    found = CLASSIFICATION.weigh(made["target"], made["outputs"], group, counts[None, :], **known)
    # A drug of one group, as in a drug-blind split, counts as often as it is drawn.
    draws = dict(zip(labels, counts.astype(float), strict=True)) if drug_blind else None
    expected = by_scikit_learn(made, counts[group].astype(float), draws)
    np.testing.assert_allclose([found[name][0] for name in WITHIN], expected, rtol=1e-9, atol=1e-12)
    assert found["prevalence"][0] == pytest.approx(np.average(made["target"], weights=counts[group]))


def predictions(seed: int) -> pd.DataFrame:
    made = of_drugs(seed, rows=300, groups=30)
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
