"""What would make the final model look better than it is: members that saw what they predict, a leaking test split."""

import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

import training.model.cross_fit
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.problems import Problem, get_problem
from pipelines.samples.response import ResponseSamples
from tests.training.image_samples import in_memory
from tests.training.tiny import build, changed
from training.architectures import Architecture, get_architecture
from training.architectures.mean_effects import MeanEffects
from training.estimator import Attribution, Estimator, FitContext
from training.model.cross_fit import CrossFitted, FinalFit, fewest, fit_final
from training.model.final_fit import LARGEST_MODEL, _refuse_large, affordable, cross_validated

SETTINGS = {"rounds": 25, "epochs": 4, "seed": 3, "device": "cpu"}


class Spy(Estimator):
    """Predicts its own number and records what it was fitted on."""

    calls: list[Any]
    fitted = ("member",)

    def __init__(self, level: float = 0.5, seed: int = 0) -> None:
        self.level, self.seed = level, seed

    def fit(self, train: Any, validation: Any = None, context: FitContext | None = None) -> Self:
        self.member_ = len(self.calls)
        ids = [set() if samples is None else set(samples.pairs["sample_id"]) for samples in (train, validation)]
        self.calls.append(SimpleNamespace(train=ids[0], validation=ids[1], context=context))
        if context is not None and context.on_step is not None:
            context.on_step(0, {"validation_rmse": 1.0})
        return self

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        return np.full(len(samples), float(self.member_)) + samples.cell / 1000

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        # Members drop other features, so that their names differ.
        prediction, names = self.predict(samples), ["shared", f"own_{self.member_}"]
        values = np.column_stack([prediction * 0.25, prediction * 0.5])
        return Attribution(names, values, prediction * 0.25, prediction, "spied")

    def cost(self) -> dict[str, float]:
        return {"parameters": 2.0}


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Architecture:
    Spy.calls = []
    space: Any = lambda trial, settings: {"level": trial.suggest_float("level", 0, 1)}  # noqa: E731
    architecture = Architecture("spy", "pairs", "regression", Spy, space)
    monkeypatch.setattr(training.model.cross_fit, "get_architecture", lambda name, modality, problem: architecture)
    return architecture


def _ids(prepared: Prepared, *sides: str) -> set[str]:
    return set(prepared.table["sample_id"].to_numpy()[prepared.rows(*sides)])


def _groups(prepared: Prepared, ids: set[str]) -> set[str]:
    return set(prepared.table.loc[prepared.table["sample_id"].isin(list(ids)), "group"])


def _crossed(name: str, samples: Any, folds: Any, context: FitContext | None = None, **hyperparameters: Any) -> Any:
    whole = CrossFitted(of=name, hyperparameters=hyperparameters, modality="pairs", problem="regression")
    return whole.fit(samples, None, context, folds=folds)


# Members and folds


def test_each_row_is_predicted_by_a_member_that_did_not_see_its_group(spied: Architecture, prepared: Prepared) -> None:
    rows = prepared.rows("train", "validation")
    samples, folds = prepared.samples.take(rows), prepared.table["fold"].to_numpy()[rows]
    model = _crossed("spy", samples, folds, level=0.2)
    assert len(model.members_) == len(Spy.calls) == 5
    ids = samples.pairs["sample_id"].to_numpy()
    for call, fold in zip(Spy.calls, np.unique(folds), strict=True):
        held_out = set(ids[folds == fold])
        assert call.train == set(ids) - held_out
        assert call.validation == held_out
        assert not _groups(prepared, call.train) & _groups(prepared, held_out)
    np.testing.assert_allclose(model.out_of_fold_, np.searchsorted(np.unique(folds), folds) + samples.cell / 1000)
    assert all(member.get_params() == {"level": 0.2, "seed": 0} for member in model.members_)
    for wrong in (None, np.array([0, 1])):
        with pytest.raises(ValueError, match="fold of each"):
            _crossed("spy", samples, wrong)


@pytest.mark.parametrize("members", [1, 5])
def test_a_model_that_watches_nothing_is_fitted_on_all_rows_but_those_of_the_test_side(
    members: int, spied: Architecture, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spy, "watches", False)
    final = fit_final(spied, {"level": 0.2}, prepared, members=members, settings={})
    whole, *others = Spy.calls
    assert (whole.train, whole.validation) == (_ids(prepared, "train", "validation"), set())
    final_one: Any = final.estimator
    assert isinstance(final_one, Spy) and final_one.member_ == 0 and len(others) == members
    held_out = prepared.table["sample_id"].to_numpy()[final.held_out_rows]
    for sample, output in zip(held_out, final.held_out, strict=True):  # it is calibrated by models without these rows
        assert sample not in others[int(output) - 1].train
    assert not whole.train & _ids(prepared, "test")


def test_members_with_other_features_predict_and_explain_together(spied: Architecture, prepared: Prepared) -> None:
    samples = prepared.side("train")
    model = _crossed("spy", samples, samples.cell % 3)
    np.testing.assert_allclose(model.predict(samples), 1.0 + samples.cell / 1000)
    assert model.cost() == {"parameters": 6.0}
    attribution = model.attribute(samples)
    assert sorted(attribution.names) == ["own_0", "own_1", "own_2", "shared"]
    assert attribution.values.shape == (len(samples), 4) and attribution.relative_error < 1e-9
    np.testing.assert_allclose(attribution.prediction, model.predict(samples))


def test_members_report_and_checkpoint_separately(spied: Architecture, prepared: Prepared, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    context = FitContext(lambda step, metrics: seen.append(metrics), tmp_path / "study-1.5.pt", {"kept": 1})
    samples = prepared.side("train")
    _crossed("spy", samples, samples.cell % 3, context)
    assert seen == [{f"validation_rmse_member_{number}": 1.0} for number in range(3)]
    contexts = [call.context for call in Spy.calls]
    checkpoints = {context.checkpoint for context in contexts}
    assert len(checkpoints) == 3 and {path.parent for path in checkpoints} == {tmp_path}
    assert all(path.name.startswith("study-1.5.") for path in checkpoints), "fit() cleans by name"
    # A memory keyed by id() must not be shared by members, whose samples are made and freed one after the other.
    assert len({id(context.memory) for context in contexts}) == 3


def test_an_interrupted_cross_fit_goes_on_to_the_same_model(prepared: Prepared, tmp_path: Path) -> None:
    every = build("mlp", epochs=4).get_params(deep=False)
    samples, steps = prepared.side("train"), list[tuple[str, int]]()

    def crossed(context: FitContext | None) -> Any:
        return _crossed("mlp", samples, samples.cell % 3, context, **every)

    def note(step: int, metrics: dict[str, float]) -> None:
        steps.append((next(name for name in metrics if name.startswith("validation"))[-1], step))
        if len(steps) == 7:  # the third epoch of the second member
            raise InterruptedError

    whole = crossed(None)
    with pytest.raises(InterruptedError):
        crossed(FitContext(note, tmp_path / "study.pt"))
    resumed = crossed(FitContext(note, tmp_path / "study.pt"))
    # The epoch in whose report it was killed was not saved: it is trained, and told, again.
    assert steps[6:] == [("1", 2), ("1", 2), ("1", 3), ("2", 0), ("2", 1), ("2", 2), ("2", 3)]
    np.testing.assert_array_equal(resumed.out_of_fold_, whole.out_of_fold_)
    np.testing.assert_array_equal(resumed.predict(prepared.samples), whole.predict(prepared.samples))


# The final fit


@pytest.mark.parametrize("name", ["mean_effects", "xgboost"])
def test_test_rows_change_nothing_of_the_final_model(prepared: Prepared, name: str) -> None:
    other = replace(prepared, samples=changed(prepared.samples, prepared.rows("test")))
    architecture, found = get_architecture(name, "pairs", "regression"), []
    for each in (prepared, other):
        final = fit_final(architecture, architecture.defaults, each, members=5, settings=SETTINGS)
        predicted = final.estimator.predict(each.side("train", "validation"))
        found.append([predicted, final.held_out, final.interval_half_widths(each, 0.9)])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    assert found[0][2] > 0


def test_one_member_watches_validation_and_one_a_fold_predicts_all(spied: Architecture, prepared: Prepared) -> None:
    final = fit_final(spied, {"level": 0.3}, prepared, members=1, settings=SETTINGS)
    (call,) = Spy.calls
    assert (call.train, call.validation) == (_ids(prepared, "train"), _ids(prepared, "validation"))
    assert final.estimator.get_params() == {"level": 0.3, "seed": 3}
    assert final.held_out_rows.tolist() == prepared.rows("validation").tolist()
    np.testing.assert_allclose(final.held_out, final.estimator.predict(prepared.side("validation")))
    Spy.calls.clear()
    final = fit_final(spied, {"level": 0.3}, prepared, members=5, settings=SETTINGS)
    assert isinstance(final.estimator, CrossFitted) and len(Spy.calls) == 5
    assert all(member.get_params() == {"level": 0.3, "seed": 3} for member in final.estimator.members_)
    assert final.held_out_rows.tolist() == prepared.rows("train", "validation").tolist()
    folds = prepared.table["fold"].to_numpy()[final.held_out_rows]
    np.testing.assert_allclose(final.held_out, folds + prepared.samples.cell[final.held_out_rows] / 1000)


@pytest.mark.parametrize(("members", "sides"), [(1, ["validation"]), (5, ["train", "validation"])])
def test_a_baseline_fits_all_rows_and_is_judged_on_others(prepared: Prepared, members: int, sides: list[str]) -> None:
    architecture, rows = get_architecture("mean_effects", "pairs", "regression"), prepared.rows(*sides)
    final = fit_final(architecture, {}, prepared, members=members, settings=SETTINGS)
    whole = MeanEffects().fit(prepared.side("train", "validation"))
    np.testing.assert_array_equal(final.estimator.predict(prepared.samples), whole.predict(prepared.samples))
    assert final.held_out_rows.tolist() == rows.tolist()
    folds = prepared.table["fold"].to_numpy()[rows]
    for fold in range(members) if members > 1 else ():
        fitted_on, judged = (prepared.samples.take(rows[choice]) for choice in (folds != fold, folds == fold))
        np.testing.assert_allclose(final.held_out[folds == fold], MeanEffects().fit(fitted_on).predict(judged))


# The prediction interval


def _simulated(rng: np.random.Generator, n_groups: int, shared: float) -> tuple[np.ndarray, np.ndarray]:
    """Return errors of 8 rows a group, exchangeable over groups, with the share ``shared`` common to a group."""
    common = np.repeat(rng.normal(0, np.sqrt(shared), n_groups), 8)
    return np.repeat(np.arange(n_groups), 8), common + rng.normal(0, np.sqrt(1 - shared), 8 * n_groups)


def _width(groups: np.ndarray, errors: np.ndarray, coverage: float) -> float:
    """Return the half width from rows that stand behind 10 others, whose errors must not count."""
    target = np.concatenate([np.full(10, 1e6), np.arange(len(errors)) + errors])
    table = pd.DataFrame({"group": [f"group {number}" for number in np.concatenate([np.full(10, 999), groups])]})
    prepared = cast(Prepared, SimpleNamespace(samples=SimpleNamespace(target=target), table=table))
    final = FinalFit(Spy(), np.arange(10, len(target)), np.arange(len(errors), dtype=float))
    return float(final.interval_half_widths(prepared, coverage))


@pytest.mark.parametrize(("coverage", "shared"), [(0.8, 0.5), (0.9, 0.0), (0.9, 0.5)])
def test_the_interval_covers_new_rows_as_often_as_it_says(coverage: float, shared: float) -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        half = _width(*_simulated(rng, 40, shared), coverage)
        covered.append(np.mean(np.abs(_simulated(rng, 40, shared)[1]) <= half))
    assert coverage - 0.01 < np.mean(covered) < coverage + 0.04


def test_the_interval_widens_where_groups_are_few() -> None:
    for few in (5, 12):  # of 12 groups, 11 are too few to say what 9 in 10 of new ones do
        groups, errors = _simulated(np.random.default_rng(1), few, 0.5)
        assert _width(groups, errors, 0.9) == pytest.approx(np.abs(errors).max())
    groups, errors = _simulated(np.random.default_rng(1), 500, 0.5)
    assert _width(groups, errors, 0.9) == pytest.approx(np.quantile(np.abs(errors), 0.9), rel=0.02)
    assert np.isnan(_width(groups[:0], errors[:0], 0.9)), "no rows"


# Cross-validation


def test_cross_validation_is_the_mean_and_spread_of_the_scores_of_the_folds() -> None:
    rng = np.random.default_rng(4)
    fold = np.repeat([3, 1, 2, 0], [20, 30, 25, 15])[rng.permutation(90)]
    measured = rng.normal(5, 2, 90)
    predicted = measured + rng.normal(0, 0.5, 90) * (1 + fold)  # the last fold is predicted worst
    outside = np.sort(rng.choice(120, 90, replace=False))  # positions among all rows; the others are the test side
    target, table = np.full(120, np.nan), pd.DataFrame({"fold": np.full(120, -1)})
    target[outside], table.loc[outside, "fold"] = measured, fold
    prepared = cast(Prepared, SimpleNamespace(samples=SimpleNamespace(target=target), table=table))
    problem = Problem("some", tuple(map(get_problem("regression").metric, ("r2", "mae"))), ())
    found = cross_validated(FinalFit(cast(Estimator, None), outside, predicted), prepared, problem)
    assert len(found) == 4
    for name, score in (("r2", r2_score), ("mae", mean_absolute_error)):
        scores = [score(measured[fold == one], predicted[fold == one]) for one in range(4)]
        assert found[f"cv_{name}_mean"] == pytest.approx(np.mean(scores)), name
        assert found[f"cv_{name}_sd"] == pytest.approx(statistics.stdev(scores)), name
    assert found["cv_r2_mean"] != pytest.approx(r2_score(measured, predicted), rel=1e-3)


# A model that is too large to be served


@pytest.mark.parametrize(("name", "members"), [("resnet50", 1), ("efficientnet_lite0", 5), ("random_forest", 5)])
def test_fitted_members_can_be_served(name: str, members: int, capsys: pytest.CaptureFixture[str]) -> None:
    architecture = get_architecture(name, "images", "classification")  # of 94, 14 and no MB each
    assert affordable(architecture, 5) == members
    said = capsys.readouterr().out
    assert (f"{name}: 5 members of" in said and "one model is fitted" in said) is (members == 1)
    assert affordable(architecture, 1) == 1


@pytest.mark.parametrize("name", ["efficientnet_lite0", "densenet121"])
def test_the_size_that_is_reckoned_with_is_that_of_the_saved_weights(name: str) -> None:
    estimator = get_architecture(name, "images", "classification").estimator
    stages = estimator.backbone.build(name, "none")
    saved = sum(tensor.numel() * tensor.element_size() for stage in stages for tensor in stage.state_dict().values())
    assert estimator.expected_megabytes() == pytest.approx(saved / 1e6, rel=1e-3)


def test_a_model_that_grew_too_large_is_refused_with_what_to_do() -> None:
    _refuse_large({"cost_model_megabytes": float(LARGEST_MODEL)}, "resnet50")
    with pytest.raises(UserError, match=r"resnet50: the model has 151 MB, at most 150 .*lower fit\.members in params"):
        _refuse_large({"cost_model_megabytes": 150.6}, "resnet50")


# Views of images: chosen where nothing was fitted, and never on test rows


def test_no_more_views_are_averaged_than_pay_for_themselves() -> None:
    rng, truth = np.random.default_rng(0), np.arange(4000) % 2
    noisy = np.clip(0.5 + 0.2 * (2 * truth - 1) + rng.normal(0, 0.35, (4, 4000)), 0.02, 0.98)
    helped, same = (np.stack([1 - each, each], axis=2) for each in (noisy, np.repeat(noisy[:1], 4, axis=0)))
    means = helped.cumsum(axis=0) / np.arange(1, 5)[:, None, None]
    views, found = fewest(means, truth)
    assert views == 4 and found["log_loss"][0] > found["log_loss"][3]
    assert found["accuracy"] == [(each.argmax(axis=1) == truth).mean() for each in means]
    assert [fewest(each, truth)[0] for each in (same, means[::-1], means * np.nan, means[[0, 3, 3, 3]])] == [1, 1, 4, 2]
    for few in (0, 49):  # rows, which show nothing
        assert fewest(means[[0, 0]][:, :few], truth[:few]) == (2, {})


@pytest.mark.parametrize("members", [1, 3])
def test_views_are_chosen_on_held_out_rows_alone(members: int, monkeypatch: Any, tmp_path: Path) -> None:
    choose = Mock(return_value=(2, {}))
    monkeypatch.setattr(training.model.cross_fit, "fewest", choose)
    table = pd.DataFrame({"fold": np.arange(24) % 3, "split": np.repeat(["train", "validation", "test"], [12, 7, 5])})
    prepared = Prepared(in_memory(24, 32), table.assign(sample_id=table.index.astype(str)), "", {})
    architecture = get_architecture("efficientnet_lite0", "images", "classification")
    few: dict[str, Any] = {"epochs": 1, "views": 1, "test_views": 3, "seed": 1, "device": "cpu"}
    final = fit_final(architecture, architecture.defaults, prepared, members=members, settings=few)
    ((outputs, target), _) = choose.call_args
    assert sorted(target) == sorted(prepared.samples.target[final.held_out_rows])
    assert not set(final.held_out_rows) & set(prepared.rows("test")) and len(outputs) == 3
    np.testing.assert_array_equal(np.sort(final.held_out, axis=None), np.sort(outputs[1], axis=None))
    test = prepared.side("test")
    final.estimator.save(tmp_path / "model")
    loaded = type(final.estimator).load(tmp_path / "model")
    for model in (final.estimator, loaded):
        each: list[Any] = getattr(model, "members_", [model])
        assert {one.test_views_ for one in each} == {2}
        views = [np.mean([one._softmax(test, one._held(test, 2))[-1] for one in each], axis=0)]
        np.testing.assert_array_equal(model.outputs(test), views[0])
