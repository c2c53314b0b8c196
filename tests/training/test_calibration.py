"""What would make probabilities wrong: a useless temperature, a changed prediction, sets without the truth."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from pipelines.params import read_params
from pipelines.samples.expression import ExpressionSamples
from tests.serving.served import PROFILES, save_fitted, split
from tests.training.profile_samples import CLASSES, gene_samples, labels_samples, with_values
from tests.training.tiny import ROOT
from training.model import calibration
from training.model.calibration import (
    apply_temperature,
    fit_temperature,
    prediction_sets,
    quantile_of_groups,
    true_scores,
)
from training.model.predictor import Predictor


def _sample(rng: np.random.Generator, n_rows: int, signal: float, overconfidence: float = 1.0, n_classes: int = 4):
    """Return probabilities, the true ones where the overconfidence is 1, and labels."""
    target = rng.integers(0, n_classes, n_rows)
    evidence = rng.normal(size=(n_rows, n_classes))
    evidence[np.arange(n_rows), target] += signal
    return softmax(evidence * signal * overconfidence, axis=1), target


def _loss(probabilities: np.ndarray, target: np.ndarray) -> float:
    return float(-np.log(np.clip(probabilities[np.arange(len(target)), target], 2.3e-16, 1)).mean())


@pytest.mark.parametrize("overconfidence", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_what_made_the_model_too_sure(overconfidence):
    probabilities, target = _sample(np.random.default_rng(0), 20_000, 1.5, overconfidence)
    temperature = fit_temperature(probabilities, target)
    assert temperature == pytest.approx(overconfidence, rel=0.05)
    trials = {t: _loss(apply_temperature(probabilities, t), target) for t in np.geomspace(0.1, 10, 200)}
    assert temperature == pytest.approx(min(trials, key=trials.__getitem__), rel=0.03)


@st.composite
def _tables(draw):
    shape = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    element = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.5 + 1e-16, 1.0, 1e-300]))
    table = draw(arrays(np.float64, shape, elements=element).filter(lambda rows: (rows.sum(axis=1) > 1e-3).all()))
    target = draw(arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    return table / table.sum(axis=1, keepdims=True), target


@settings(max_examples=100, deadline=None)
@given(table=_tables(), other=st.one_of(st.floats(0.05, 20), st.sampled_from([1e-3, 1.0, 1e6])))
def test_a_temperature_helps_its_own_rows_and_changes_no_prediction_and_no_order_within_a_row(table, other):
    probabilities, target = table
    temperature = fit_temperature(probabilities, target)
    assert calibration.TEMPERATURES[0] <= temperature <= calibration.TEMPERATURES[1]
    assert _loss(apply_temperature(probabilities, temperature), target) <= _loss(probabilities, target) + 1e-9
    scaled = apply_temperature(probabilities, other)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(scaled.sum(axis=1), 1, rtol=1e-12)
    assert scaled.min() >= 0
    for before, after in zip(probabilities, scaled, strict=True):
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= -1e-15).all()


@pytest.mark.parametrize("n_rows", [5, 20])
def test_a_small_split_of_a_sound_model_does_little_harm_to_new_rows(n_rows):
    rng = np.random.default_rng(2)
    new, truth = _sample(rng, 5000, 3.0)
    temperatures = [fit_temperature(*_sample(rng, n_rows, 3.0)) for _ in range(40)]
    harm = np.mean([_loss(apply_temperature(new, each), truth) for each in temperatures]) - _loss(new, truth)
    assert harm < 0.03  # by likelihood alone 0.3 for 5 rows, 0.4 for 20


def _threshold(probabilities: Any, target: Any, groups: Any, coverage: float) -> float:
    """Return the score up to which a class belongs to the set."""
    return min(quantile_of_groups(true_scores(probabilities, target), groups, coverage), 1.0)


@pytest.mark.parametrize(("n_rows", "coverage"), [(8, 0.9), (9, 0.8), (9, 0.9), (100, 0.8)])
def test_groups_of_one_row_give_the_ordinary_split_conformal_quantile(n_rows, coverage):
    probabilities, target = _sample(np.random.default_rng(n_rows), n_rows, 1.0)
    scores = np.sort(1 - probabilities[np.arange(n_rows), target])
    rank = int(np.ceil((n_rows + 1) * coverage - 1e-9))
    expected = scores[rank - 1] if rank <= n_rows else 1.0
    assert _threshold(probabilities, target, np.arange(n_rows), coverage) == expected


def _study(rng: np.random.Generator, n_groups: int, largest: int = 12) -> tuple[Any, Any, np.ndarray]:
    """Subjects of unequal size whose cells are hard or easy together; large ones are the easy ones."""
    sizes = rng.integers(1, largest, n_groups)
    groups = np.repeat(np.arange(n_groups), sizes)
    signal = np.where(sizes > largest // 2, 3.0, rng.uniform(0, 1.5, n_groups))[groups]
    target = rng.integers(0, 4, groups.size)
    evidence = rng.normal(size=(groups.size, 4))
    evidence[np.arange(groups.size), target] += signal
    return softmax(2 * evidence, axis=1), target, groups


@pytest.mark.parametrize(("n_groups", "coverage"), [(9, 0.9), (25, 0.7), (60, 0.95)])
def test_sets_have_the_truth_of_new_subjects_as_often_as_promised(n_groups, coverage):
    # Exchangeable subjects: one more of the same study is the new one.
    hits = []
    for seed in range(400):
        probabilities, target, groups = _study(np.random.default_rng(seed), n_groups + 1)
        old, new = groups < n_groups, groups == n_groups
        threshold = _threshold(probabilities[old], target[old], groups[old], coverage)
        hits.append(prediction_sets(probabilities[new], threshold)[np.arange(new.sum()), target[new]].mean())
    error = np.std(hits) / np.sqrt(len(hits))
    assert np.mean(hits) > coverage - 3 * error
    assert n_groups < 10 or np.mean(hits) < coverage + 1.5 / n_groups + 3 * error + 0.03


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.floats(0, 1))
def test_no_set_is_empty_and_a_higher_threshold_only_adds(seed, threshold):
    probabilities, _ = _sample(np.random.default_rng(seed), 30, 0.5)
    sets = prediction_sets(probabilities, threshold)
    assert sets[np.arange(30), probabilities.argmax(axis=1)].all() and prediction_sets(probabilities, 1.0).all()
    assert (prediction_sets(probabilities, min(1.0, threshold + 0.1)) >= sets).all()


@pytest.mark.parametrize(
    "change",
    [
        *({"target": each} for each in ([0, 2], [0.0, 1.0], [0])),
        *({"probabilities": each} for each in ([0.5, 0.5], [[0.5, 0.5], [np.nan, 1]], [[0.5, 0.5], [-0.1, 1.1]])),
        {"probabilities": np.empty((0, 2)), "target": np.empty(0, int)},
        {"groups": ["a"]},
    ],
    ids=str,
)
def test_bad_input_is_refused(change):
    good: dict[str, Any] = {"probabilities": [[0.5, 0.5], [0.2, 0.8]], "target": [0, 1]}
    with pytest.raises(ValueError, match=next(iter(change))):
        _threshold(**{**good, "groups": ["a", "b"], "coverage": 0.9, **change})
    if {*change} & {*good}:
        with pytest.raises(ValueError, match=next(iter(change))):
            fit_temperature(**{**good, **change})
    for temperature in (-1.0, np.inf):
        with pytest.raises(ValueError, match="temperature"):
            apply_temperature(good["probabilities"], temperature)


# The coverage that is declared, on rows that neither fit nor calibration has seen


def _blurred(count: int, seed: int) -> ExpressionSamples:
    """Return profiles with so much noise that a third are taken for another class."""
    samples = labels_samples(count, seed=seed)
    noise = 2 ** np.random.default_rng([seed, 1]).normal(0, 3.5, samples.values.shape)
    return with_values(samples, samples.values * noise)


def _fitted(folder: Path, name: str, architecture: str, samples: Any, declared: float, **chosen: str) -> Predictor:
    task = read_params(ROOT / "params.yaml").task(name)
    task = replace(task, evaluate=replace(task.evaluate, interval_coverage=declared))
    save_fitted(name, architecture, task, split(samples), folder, **chosen)
    return Predictor().read(folder)


@pytest.mark.parametrize("declared", [0.8, 0.9])
def test_sets_of_classes_have_the_declared_coverage(declared: float, tmp_path: Path) -> None:
    unseen = _blurred(1_500, 7)
    predictor = _fitted(tmp_path, PROFILES, "logistic_regression", _blurred(1_500, 0), declared, selection="top_30")
    answer = predictor.answer(unseen)
    true = np.array(CLASSES)[unseen.target]
    held = np.mean([label in labels for label, labels in zip(true, answer["labels"], strict=True)])
    assert set(answer["coverage"].dropna()) == {declared} and answer["coverage"].notna().mean() > 0.9
    assert np.mean(answer["label"] == true) < declared - 0.05, "the label alone holds as much: nothing is tested"
    # 300 calibration rows: the threshold's own spread is 0.02; a wrong one is off by far more
    assert abs(held - declared) < 0.06, held


@pytest.mark.parametrize("declared", [0.8, 0.9])
def test_intervals_have_the_declared_coverage(declared: float, tmp_path: Path) -> None:
    unseen, chosen = gene_samples(1_500, seed=7), {"selection": "all", "kernel": "linear"}
    answer = _fitted(tmp_path, "gene_expression", "ridge", gene_samples(1_500), declared, **chosen).answer(unseen)
    promised = answer["coverage"].notna().to_numpy()
    assert promised.mean() > 0.9  # nothing is promised of the few that are called unlike the training data
    answer, unseen = answer[promised], unseen.take(promised)
    targets = list(unseen.targets)
    low, high = (np.array([[row[gene] for gene in targets] for row in answer[name]]) for name in ("low", "high"))
    held = ((unseen.target >= low) & (unseen.target <= high)).mean(axis=0)
    assert set(answer["coverage"]) == {declared}
    assert (np.abs(held - declared) < 0.06).all(), held
