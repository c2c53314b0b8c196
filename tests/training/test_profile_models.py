"""What would make a model on profiles wrong: genes taken by position, leaks, explanations that do not add up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from sklearn.base import clone

from pipelines.samples.expression import ExpressionSamples
from tests.training.profile_samples import CLASSES, GENES, TARGETS, gene_samples, labels_samples, reordered, with_values
from training.architectures import get_architecture, names
from training.estimator import Classifier, Estimator, FitContext
from training.model.final import CrossFitted

BASELINES = {"profiles classification": "majority_class", "profiles multi_target": "mean_expression"}
OWN = {
    "profiles classification": ("logistic_regression", "majority_class", "random_forest", "xgboost"),
    "profiles multi_target": ("mean_expression", "random_forest", "ridge", "xgboost"),
}
ALL = [(name, kind) for kind, own in OWN.items() for name in names(*kind.split()) if name in own]
MODELS = [(name, kind) for name, kind in ALL if name != BASELINES[kind]]
LABELS = [(name, kind) for name, kind in ALL if kind == "profiles classification"]
ROUNDING = 1e-4

Fitted = Callable[[str, str], Estimator]


def _build(name: str, kind: str, **others: Any) -> Estimator:
    architecture = get_architecture(name, *kind.split())
    chosen = {**architecture.defaults, **others}
    return architecture.build(chosen, rounds=60, trees=30, seed=3, device="cpu")


def _samples(kind: str, side: str) -> ExpressionSamples:
    make = labels_samples if kind == "profiles classification" else gene_samples
    return make(
        {"train": 120, "validation": 60, "unseen": 60}[side], seed=("train", "validation", "unseen").index(side)
    )


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    """Return a function that gives a fitted model, fitted once."""
    models: dict[tuple[str, str], Estimator] = {}

    def get(name: str, kind: str) -> Estimator:
        if (name, kind) not in models:
            models[name, kind] = _build(name, kind).fit(_samples(kind, "train"), _samples(kind, "validation"))
        return models[name, kind]

    return get


def _error(model: Estimator, samples: ExpressionSamples) -> float:
    if isinstance(model, Classifier):
        return float((model.predict(samples) != samples.target).mean())
    return float(np.mean((model.predict(samples) - samples.target) ** 2))


def test_every_architecture_of_this_suite_is_registered() -> None:
    assert sorted(ALL) == sorted((name, kind) for kind, own in OWN.items() for name in own)


# Predicting


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_the_answer_has_its_shape_and_is_finite(name: str, kind: str, fitted: Fitted) -> None:
    samples, model = _samples(kind, "unseen"), fitted(name, kind)
    width = len(CLASSES) if kind == "profiles classification" else len(TARGETS)
    for count in (len(samples), 1, 0):
        answer = model.outputs(samples.take(np.arange(count)))
        assert answer.shape == (count, width)
        assert answer.dtype == np.float64
        assert np.isfinite(answer).all()
    assert model.predict(samples).shape == ((60,) if kind == "profiles classification" else (60, width))


@pytest.mark.parametrize(("name", "kind"), LABELS)
def test_probabilities_sum_to_one(name: str, kind: str, fitted: Fitted) -> None:
    answer = fitted(name, kind).outputs(_samples(kind, "unseen"))
    assert (answer >= 0).all()
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "kind"), MODELS)
def test_a_model_beats_the_baseline_on_unseen_samples(name: str, kind: str, fitted: Fitted) -> None:
    samples = _samples(kind, "unseen")
    assert _error(fitted(name, kind), samples) < 0.35 * _error(fitted(BASELINES[kind], kind), samples)


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_the_order_of_the_genes_does_not_matter(name: str, kind: str, fitted: Fitted) -> None:
    samples, model = _samples(kind, "unseen"), fitted(name, kind)
    other = reordered(samples)
    assert other.genes != samples.genes
    np.testing.assert_array_equal(model.outputs(other), model.outputs(samples))


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_a_prediction_does_not_depend_on_the_other_rows(name: str, kind: str, fitted: Fitted) -> None:
    samples, model = _samples(kind, "unseen"), fitted(name, kind)
    rows = np.random.default_rng(0).permutation(len(samples))[:7]
    np.testing.assert_allclose(model.outputs(samples.take(rows)), model.outputs(samples)[rows], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_unknown_values_are_imputed_by_the_training_mean(name: str, kind: str, fitted: Fitted) -> None:
    train, samples, model = _samples(kind, "train"), _samples(kind, "unseen"), fitted(name, kind)
    holes, filled = samples.values.copy(), samples.values.copy()
    mean = train.logged().astype(np.float64).mean(axis=0)
    holes[:, 10:14] = np.nan
    filled[:, 10:14] = (2**mean - 1 if samples.scale == "linear" else mean)[10:14]
    answers = [model.outputs(with_values(samples, values)) for values in (holes, filled)]
    np.testing.assert_allclose(answers[0], answers[1], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_a_fit_takes_unknown_values_of_inputs_and_targets(name: str, kind: str) -> None:
    train, unseen = _samples(kind, "train"), _samples(kind, "unseen")
    values = train.values.copy()
    values[np.random.default_rng(0).random(values.shape) < 0.05] = np.nan
    model = _build(name, kind).fit(with_values(train, values), with_values(train, values).take(np.arange(30)))
    assert np.isfinite(model.outputs(unseen)).all()
    if name != BASELINES[kind]:
        naive = _build(BASELINES[kind], kind).fit(train)
        assert _error(model, unseen) < 0.5 * _error(naive, unseen)


# Fitting


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_the_same_seed_gives_the_same_model(name: str, kind: str, fitted: Fitted) -> None:
    samples, model = _samples(kind, "unseen"), fitted(name, kind)
    again = clone(model).fit(_samples(kind, "train"), _samples(kind, "validation"))
    np.testing.assert_array_equal(again.outputs(samples), model.outputs(samples))


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_validation_rows_change_no_feature(name: str, kind: str, fitted: Fitted) -> None:
    train, validation, model = _samples(kind, "train"), _samples(kind, "validation"), fitted(name, kind)
    odd = with_values(validation, validation.values * 3 + 7)
    other = _build(name, kind).fit(train, odd)
    assert hasattr(other, "features_") == hasattr(model, "features_") == (name != BASELINES[kind])
    if name != BASELINES[kind]:
        for key, value in model.state()["features"].items():
            np.testing.assert_array_equal(other.state()["features"][key], value)
    if name != "xgboost":  # which stops early on them
        np.testing.assert_array_equal(other.outputs(validation), model.outputs(validation))


@pytest.mark.parametrize("kind", BASELINES)
def test_boosting_stops_where_the_validation_loss_no_longer_falls(kind: str) -> None:
    train, validation = _samples(kind, "train"), _samples(kind, "validation")
    noise = with_values(validation, np.random.default_rng(0).permutation(validation.values))
    seen: list[dict[str, float]] = []
    context = FitContext(on_step=lambda step, metrics: seen.append(metrics))
    stopped = _build("xgboost", kind, learning_rate=0.3).fit(train, noise, context)
    outputs = len(CLASSES) if kind == "profiles classification" else len(TARGETS)
    assert stopped.cost()["trees"] < 30 * outputs
    assert seen and all(np.isfinite(list(metrics.values())).all() for metrics in seen)


@pytest.mark.parametrize("two", [(0, 1), (1, 2)], ids=["last class unseen", "first class unseen"])
@pytest.mark.parametrize(("name", "kind"), LABELS)
def test_a_class_without_a_training_sample_keeps_its_column(name: str, kind: str, two: tuple[int, int]) -> None:
    train, unseen = _samples(kind, "train"), _samples(kind, "unseen")
    model = _build(name, kind).fit(train.take(np.isin(train.target, two)))
    answer = model.outputs(unseen)
    assert answer.shape == (len(unseen), len(CLASSES))
    missing = next(iter({0, 1, 2} - set(two)))
    assert answer[:, missing].max() < 0.4
    if name != "majority_class":
        known = unseen.take(np.isin(unseen.target, two))
        assert (model.predict(known) == known.target).mean() > 0.8


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "kind"), MODELS)
def test_every_point_of_the_search_space_can_be_fitted(name: str, kind: str, seed: int) -> None:
    architecture = get_architecture(name, *kind.split())
    assert architecture.space is not None
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    point = architecture.space(study.ask(), {})
    assert set(point) == set(architecture.defaults)
    model = architecture.build(point, rounds=5, trees=5, device="cpu")
    model.fit(_samples(kind, "train"), _samples(kind, "validation"))
    assert np.isfinite(model.outputs(_samples(kind, "unseen"))).all()


@pytest.mark.parametrize(("name", "kind"), MODELS)
def test_the_defaults_lie_in_the_search_space(name: str, kind: str) -> None:
    architecture = get_architecture(name, *kind.split())
    assert architecture.space is not None
    assert architecture.space(optuna.trial.FixedTrial(dict(architecture.defaults)), {}) == architecture.defaults


@pytest.mark.parametrize(("kernel", "scaling"), [("linear", "none"), ("linear", "standard"), ("rbf", "min_max")])
def test_ridge_predicts_with_either_kernel_and_fewer_samples_than_genes(kernel: str, scaling: str) -> None:
    few, unseen = gene_samples(25), _samples("profiles multi_target", "unseen")
    model = _build("ridge", "profiles multi_target", kernel=kernel, scaling=scaling).fit(few)
    naive = _build("mean_expression", "profiles multi_target").fit(few)
    assert _error(model, unseen) < 0.4 * _error(naive, unseen)
    explained = model.attribute(unseen, np.zeros(len(unseen), dtype=np.int64))
    assert explained is not None
    assert explained.relative_error < 1e-6
    assert explained.method == ("exact" if kernel == "linear" else "integrated_gradients")


# Explaining


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(("name", "kind"), MODELS)
def test_attributions_add_up_to_the_chosen_output(name: str, kind: str, default: bool, fitted: Fitted) -> None:
    samples, model = _samples(kind, "unseen"), fitted(name, kind)
    width = len(CLASSES) if kind == "profiles classification" else len(TARGETS)
    output = np.arange(len(samples)) % width
    if default and kind == "profiles multi_target":
        with pytest.raises(ValueError, match="target gene"):
            model.attribute(samples)
        return
    explained = model.attribute(samples, None if default else output)
    assert explained is not None
    assert set(explained.names) <= set(samples.inputs)
    assert explained.values.shape == (len(samples), len(explained.names))
    assert explained.relative_error < 0.01
    if kind == "profiles multi_target":
        wanted = model.predict(samples)[np.arange(len(samples)), output]
        np.testing.assert_allclose(explained.prediction, wanted, rtol=0, atol=ROUNDING)
    elif default:  # of two samples the surer has the larger margin, or nearly so
        sure = model.outputs(samples).max(axis=1)
        assert np.corrcoef(np.log(sure / (1 - sure + 1e-6)), explained.prediction)[0, 1] > 0.3


@pytest.mark.parametrize("name", [name for name, _ in LABELS if name != "majority_class"])
def test_a_class_is_explained_by_the_genes_that_make_it(name: str, fitted: Fitted) -> None:
    samples = _samples("profiles classification", "unseen")
    explained = fitted(name, "profiles classification").attribute(samples, samples.target)
    assert explained is not None
    number = np.array([int(gene.removeprefix("GENE")) for gene in explained.names])
    for code in range(len(CLASSES)):
        mean = explained.values[samples.target == code].mean(axis=0)
        blocks = [mean[number // 8 == block].sum() for block in range(len(GENES) // 8)]
        assert np.argmax(blocks) == code


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_explaining_changes_no_prediction(name: str, kind: str, fitted: Fitted) -> None:
    samples, model = _samples(kind, "unseen"), fitted(name, kind)
    before = model.outputs(samples)
    explained = model.attribute(samples, np.zeros(len(samples), dtype=np.int64))
    assert (explained is None) == (name == BASELINES[kind])
    np.testing.assert_array_equal(model.outputs(samples), before)


# Saving


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_a_loaded_model_answers_and_explains_the_same(name: str, kind: str, fitted: Fitted, tmp_path: Path) -> None:
    samples, model = _samples(kind, "unseen"), fitted(name, kind)
    model.save(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"state.json", "state.safetensors"}
    loaded = type(model).load(tmp_path / "model")
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.outputs(samples), model.outputs(samples))
    assert loaded.cost() == model.cost()
    assert model.cost()["parameters"] > 0
    output = np.ones(len(samples), dtype=np.int64)
    before, after = model.attribute(samples, output), loaded.attribute(samples, output)
    if before is not None and after is not None:
        np.testing.assert_allclose(after.values, before.values, rtol=0, atol=1e-6)
        assert after.names == before.names


@pytest.mark.parametrize(("name", "kind"), MODELS)
def test_cross_fitted_members_predict_every_row_unseen(name: str, kind: str) -> None:
    train = _samples(kind, "train")
    every = _build(name, kind).get_params(deep=False)
    modality, problem = kind.split()
    whole = CrossFitted(name, every, modality=modality, problem=problem)
    whole.fit(train, folds=np.arange(len(train)) % 2)
    assert whole.out_of_fold_.shape == whole.outputs(train).shape
    assert np.isfinite(whole.out_of_fold_).all()
