"""What would make a classification metric or its interval lie: another definition, a lost class, chance, row order."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from evaluation.metrics.resample import group_counts
from evaluation.problems.classification import metric_names, reliability
from pipelines.problems import higher_is_better
from tests.evaluation.measures import CLASSIFICATION, bootstrap_classification, classification_metrics

LETTERS = "abcdefgh"


def _sample(seed: int, n_rows: int, n_classes: int, decimals: int | None = 1, signal: float = 1.0) -> dict[str, Any]:
    """Rows whose probabilities are rounded coarsely: ties among rows, and among classes of one row."""
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.arange(n_rows) % n_classes)
    logits = rng.normal(size=(2, n_rows, n_classes))
    logits[0, np.arange(n_rows), target] += signal
    tables = np.exp(logits) if decimals is None else np.round(np.exp(logits), decimals) + 0.1
    outputs, baseline = tables / tables.sum(axis=-1, keepdims=True)
    return {"target": target, "outputs": outputs, "baseline": baseline, "classes": list(LETTERS[:n_classes])}


def _by_scikit_learn(
    target: np.ndarray, probabilities: np.ndarray, classes: list[str], weight: np.ndarray | None = None
) -> dict[str, float]:
    """The metrics of rows of all classes, by scikit-learn; the calibration error has no equal there."""
    weight = np.ones(len(target)) if weight is None else weight
    n_classes = len(classes)
    labels = list(range(n_classes))
    predicted = probabilities.argmax(axis=1)
    given: dict[str, Any] = {"sample_weight": weight}
    of_class = {"labels": labels, "zero_division": np.nan, **given}
    truth = np.eye(n_classes)[target]
    roc = [sk.roc_auc_score(truth[:, k], probabilities[:, k], **given) for k in labels]
    pr = [sk.average_precision_score(truth[:, k], probabilities[:, k], **given) for k in labels]
    f1 = sk.f1_score(target, predicted, average=None, **of_class)
    confidence = probabilities.max(axis=1)
    edges = np.linspace(0, 1, 16)
    inside = [(confidence > low) & (confidence <= high) for low, high in zip(edges[:-1], edges[1:], strict=True)]
    gaps = [abs(weight[rows] @ ((predicted == target)[rows] - confidence[rows])) for rows in inside]
    found = {
        "accuracy": sk.accuracy_score(target, predicted, **given),
        "balanced_accuracy": sk.balanced_accuracy_score(target, predicted, **given),
        "macro_f1": np.mean(f1),
        "weighted_f1": sk.f1_score(target, predicted, average="weighted", **given),
        "roc_auc": roc[1] if n_classes == 2 else np.mean(roc),
        "pr_auc": pr[1] if n_classes == 2 else np.mean(pr),
        "ece": sum(gaps) / weight.sum(),
        "log_loss": sk.log_loss(target, probabilities, labels=labels, **given),
        "brier": sk.brier_score_loss(target, probabilities, labels=labels, **given),
    }
    precision = sk.precision_score(target, predicted, average=None, **of_class)
    recall = sk.recall_score(target, predicted, average=None, **of_class)
    for k, name in enumerate(classes):
        found |= {f"precision_{name}": precision[k], f"recall_{name}": recall[k], f"f1_{name}": f1[k]}
        found |= {f"roc_auc_{name}": roc[k], f"pr_auc_{name}": pr[k]}
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_classes=st.integers(2, 4),
    n_rows=st.integers(8, 40),
    weights=st.lists(st.integers(0, 3), min_size=40, max_size=40),
    whole=st.booleans(),
)
def test_any_weighting_gives_what_scikit_learn_gives_under_sample_weights(seed, n_classes, n_rows, weights, whole):
    sample = _sample(seed, n_rows, n_classes)
    weight = np.array(weights[:n_rows], dtype=float) * (1.0 if whole else 0.3)
    if len(np.unique(sample["target"][weight > 0])) < n_classes:
        return
    del sample["baseline"]
    found = CLASSIFICATION.weigh(**sample, groups=np.arange(n_rows), counts=[weight, np.ones(n_rows)])
    plain = classification_metrics(**sample)
    assert list(plain) == metric_names(sample["classes"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = _by_scikit_learn(sample["target"], sample["outputs"], sample["classes"], weight)
    assert {name: values[0] for name, values in found.items()} == pytest.approx(
        expected, rel=1e-9, abs=1e-12, nan_ok=True
    )
    assert {name: values[1] for name, values in found.items()} == pytest.approx(plain, rel=1e-12, nan_ok=True)


def test_a_certain_and_wrong_prediction_costs_much_but_not_infinity():
    target = np.arange(12) % 2
    found = classification_metrics(target, np.eye(2)[1 - target], classes="ab")
    assert found["accuracy"] == found["roc_auc"] == found["f1_a"] == 0
    assert found["ece"] == found["brier"] == 1
    assert found["log_loss"] == pytest.approx(36.04, abs=0.01)


def test_a_class_without_rows_is_nan_and_leaves_the_means_over_the_others_alone():
    sample = _sample(5, 90, 4)
    kept = sample["target"] != 2
    target, probabilities = sample["target"][kept], sample["outputs"][kept]
    assert (probabilities.argmax(axis=1) == 2).any()  # predicted, though it has no rows
    found = classification_metrics(target, probabilities, classes="abcd")
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


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "ece", "recall_b"])
def test_a_margin_is_positive_where_the_model_is_better_whatever_the_metric(metric):
    sample = _sample(2, 300, 3, decimals=None, signal=3.0)
    sample["baseline"] = np.full((300, 3), [0.1, 0.8, 0.1]) if metric != "recall_b" else np.full((300, 3), 1 / 3)
    result = bootstrap_classification(**sample, groups=np.arange(300), margin_metric=metric, resamples=50)
    naive = classification_metrics(sample["target"], sample["baseline"], classes=sample["classes"])
    sign = 1 if higher_is_better(metric) else -1
    assert result["margin"].value == pytest.approx(sign * (result[metric].value - naive[metric]))
    assert 0 < result["margin"].low <= result["margin"].value <= result["margin"].high


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
    result = bootstrap_classification(target, probabilities, subject, classes=["all", "hem"], resamples=400)
    assert result["balanced_accuracy"].low == pytest.approx(0.8)
    assert result["balanced_accuracy"].high == pytest.approx(0.8)
    assert result["roc_auc"].low > 0


def test_a_metric_that_no_resample_defines_keeps_its_value_and_has_no_ends():
    # Two subjects, and the class whose area is asked holds one of them: only drawing both defines it.
    target = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    seed = next(s for s in range(99) if (group_counts(2, 1, s) != 1).all())
    result = bootstrap_classification(target, probabilities, ["x", "x", "y", "y"], classes="ab", resamples=1, seed=seed)
    assert result["roc_auc"].value == 1.0
    assert np.isnan([result["roc_auc"].low, result["roc_auc"].high]).all()


def test_the_bins_add_up_to_the_calibration_error_and_close_above():
    sample = _sample(11, 200, 3)
    share, confidence, accuracy = reliability(sample["target"], sample["outputs"])
    assert share.sum() == pytest.approx(1)
    found = classification_metrics(sample["target"], sample["outputs"], classes="abc")
    assert np.nansum(share * np.abs(accuracy - confidence)) == pytest.approx(found["ece"], rel=1e-12)
    share, _, _ = reliability([0, 0, 0], [[0.6, 0.4], [0.6 + 1e-9, 0.4 - 1e-9], [1.0, 0.0]])
    assert np.flatnonzero(share).tolist() == [8, 9, 14]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": [0, 1, 2]}, "target is 2 at row 2, and there are 2 classes"),
        ({"target": [0, -1, 1]}, "target is -1 at row 1"),
        ({"target": [0.0, 1.0, 1.0]}, "of float64, not the numbers of classes"),
        ({"target": []}, "target has shape"),
        ({"target": [0, 1]}, r"probabilities has shape \(3, 2\), not \(2, 2\)"),
        ({"outputs": [[0.5, 0.5], [np.nan, 0.5], [0.5, 0.5]]}, "probabilities is .* at row 1"),
        ({"outputs": [[0.5, 0.5], [1.0, 0.0], [3.0, 1.0]]}, "at row 2: no probabilities that sum to one"),
        ({"baseline": [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]}, "baseline is .* at row 1"),
        ({"classes": ["a"]}, "classes are a: at least two"),
        ({"classes": ["a", "a"]}, "classes are a, a"),
        ({"margin_metric": "r2"}, "margin_metric is 'r2', not one of accuracy"),
    ],
)
def test_bad_input_is_refused_with_its_column_and_row(change, message):
    good = {
        "target": [0, 1, 1],
        "outputs": [[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]],
        "groups": ["x", "y", "y"],
        "classes": ["a", "b"],
    }
    with pytest.raises(ValueError, match=message):
        bootstrap_classification(**(good | change))
